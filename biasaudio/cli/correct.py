"""Fit a correction, apply a saved one, or say what is in it."""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path
from typing import Any

from biasaudio._text import printable
from biasaudio.cli._common import (
    Parser,
    add_cache_option,
    add_shared_options,
    emit,
    note,
    pairs,
    settings,
    text_table,
)
from biasaudio.cli._sources import open_source
from biasaudio.errors import DataError, ParameterError

__all__ = ["add_arguments", "run"]

# What the columns of stores and files are called, where fit calls them otherwise.
COLUMN_NAMES = {"domain": "dataset", "groups": "group"}
NUMBER_COLUMNS = ("nuisance", "sample_weight")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the three actions."""
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", required=True, parser_class=Parser
    )
    fitting = actions.add_parser("fit", help="fit a correction and save it")
    _add_source(fitting)
    fitting.add_argument(
        "--method", required=True, metavar="NAME", help="such as leace; 'correct info' lists all"
    )
    fitting.add_argument("--out", required=True, metavar="FILE", help="the correction, .npz")
    fitting.add_argument(
        "--split", metavar="NAME", help="fit on these clips only, or 'all' (default train, if any)"
    )
    fitting.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="KEYWORD=COLUMN",
        help="give fit a column, as in genre=style or balance=label; again for several",
    )
    fitting.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set a parameter of the method, as in alpha=0.5; again for several",
    )
    applying = actions.add_parser("apply", help="apply a saved correction")
    applying.add_argument("file", metavar="FILE", help="a correction that fit saved")
    _add_source(applying)
    applying.add_argument(
        "--out", required=True, metavar="OUT", help="a file of the same kind, or a store"
    )
    applying.add_argument("--name", metavar="NAME", help="of the new embedding in a store")
    applying.add_argument(
        "--unseen", metavar="RULE", help="for a new domain: raise, identity or global"
    )
    info = actions.add_parser("info", help="say what a saved correction is, or list the methods")
    info.add_argument(
        "file", nargs="?", metavar="FILE", help="a correction that fit saved (default: all methods)"
    )
    for action in (fitting, applying):
        add_cache_option(action)
        action.add_argument("--overwrite", action="store_true", help="replace what is there")
    for action in (fitting, applying, info):
        add_shared_options(action, again=True)


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="SOURCE", help="a store (.h5 or folder), .npy, .npz, .csv or .parquet"
    )
    parser.add_argument(
        "--domain",
        metavar="COLUMN",
        default="dataset",
        help="what to correct for (default dataset)",
    )
    parser.add_argument(
        "--columns-from",
        metavar="FILE",
        help="one row per row of SOURCE: .csv, .parquet, .npz, or the domains as .npy or .txt",
    )
    parser.add_argument(
        "--features",
        nargs="+",
        metavar="COLUMN",
        help="of a .csv or .parquet (default f0, f1, ..., else all numbers)",
    )
    stores = parser.add_argument_group("of a store")
    stores.add_argument("--embedding", metavar="NAME", help="needed if there are several")
    stores.add_argument("--datasets", nargs="+", metavar="NAME", help="default: all")
    stores.add_argument("--openmic", metavar="DIR", help="folder of OpenMIC-2018")
    stores.add_argument("--irmas", metavar="DIR", help="folder of IRMAS")
    stores.add_argument("--clips", metavar="FILE", help="a manifest, csv or parquet")
    stores.add_argument(
        "--allow-partial", action="store_true", help="go on with the clips that have vectors"
    )


def run(args: argparse.Namespace) -> int:
    """Run the action."""
    {"fit": _fit, "apply": _apply, "info": _info}[args.action](args)
    return 0


def _fit(args: argparse.Namespace) -> None:
    from biasaudio.transforms.persist import check_path, read_header, save

    path = check_path(args.out)
    if path.exists() and not args.overwrite:
        raise ParameterError(
            f"{path} is already there; choose another name, or pass overwrite=True to replace it"
        )
    transform, used = _fit_method(args)
    note(args, f"fitted on {used['rows']}")
    save(transform, path)
    document = _document(path, read_header(path), transform)
    text = f"{path}: {args.method} ({document['class']}), {_size(document)}"
    emit(args, text, document | {"source": args.source, "fitted_on": used})


def _fit_method(args: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """Fitted correction, and what it was fitted on."""
    from biasaudio.transforms.methods import check_methods

    found = check_methods([args.method])
    if not found:
        raise ParameterError("method 'original' changes nothing; choose a correction")
    method = found[0]
    transform = _make_method(method, args.set, args.seed)
    names = _column_names(args, method, transform)
    taken = [name for columns in names.values() for name in columns]
    source = open_source(args, features=args.features, not_features=taken)
    columns = {
        keyword: _column(source, keyword, wanted)
        for keyword, wanted in names.items()
        if keyword in (*method.needs, *_asked(args)) or all(map(source.has, wanted))
    }
    rows, which = _rows(args, source)
    X = source.vectors()
    if not rows.all():
        X, columns = X[rows], {keyword: column[rows] for keyword, column in columns.items()}
    transform.fit(X, **columns)
    used = {"rows": f"{rows.sum()} of {len(rows)} clips ({which})", "n_clips": int(rows.sum())}
    return transform, used | {"columns": {keyword: names[keyword] for keyword in columns}}


def _asked(args: argparse.Namespace) -> list[str]:
    return [name for name, _ in pairs(args.column, "--column", "KEYWORD=COLUMN, as in genre=style")]


def _make_method(method: Any, texts: list[str], seed: int) -> Any:
    """Estimator with the parameters that were set."""
    from biasaudio._validation import did_you_mean, name_some

    transform = method.make()
    known = transform.get_params(deep=False)
    if "random_state" in known:
        transform.set_params(random_state=seed)
    for name, value in settings(texts, "alpha=0.5").items():
        if name not in known:
            raise ParameterError(
                f"--set {name!r} is no parameter of {method.name}; choose from "
                f"{name_some(known, 9)}{did_you_mean(name, known)}"
            )
        transform.set_params(**{name: value})
    return transform


def _column_names(args: argparse.Namespace, method: Any, transform: Any) -> dict[str, list[str]]:
    """Columns for each keyword of fit."""
    from biasaudio._validation import did_you_mean, name_some

    wanted = (*method.needs, *method.takes)
    names = {name: [COLUMN_NAMES.get(name, name)] for name in wanted} | {"domain": [args.domain]}
    allowed = [name for name in inspect.signature(transform.fit).parameters if name not in "Xy"]
    given: dict[str, list[str]] = {}
    for keyword, column in pairs(args.column, "--column", "KEYWORD=COLUMN, as in genre=style"):
        if keyword not in allowed:
            raise ParameterError(
                f"--column {keyword!r} is nothing that {method.name} takes; choose from "
                f"{name_some(allowed, 9)}{did_you_mean(keyword, allowed)}"
            )
        given.setdefault(keyword, []).append(column)
    return names | given


def _column(source: Any, keyword: str, names: list[str]) -> Any:
    """Column, or columns beside one another, that go to a keyword."""
    import numpy as np
    import pandas as pd

    columns = [np.asarray(source.column(name)) for name in names]
    if keyword not in NUMBER_COLUMNS and len(columns) == 1:
        if keyword == "domain":
            source.check_known(columns[0], names[0])
        return _alone(columns[0]) if keyword == "groups" else columns[0]
    numbers = []
    for name, column in zip(names, columns):
        found = pd.to_numeric(pd.Series(column.ravel()), errors="coerce").to_numpy(float)
        if np.isnan(found).any():
            at = int(np.isnan(found).argmax())
            raise DataError(
                f"column {name!r} is to be the {keyword}, which takes numbers, but has "
                f"{str(column.ravel()[at])!r} in row {at}; give another column, or leave such "
                "clips out"
            )
        numbers.append(found.reshape(column.shape))
    return numbers[0] if len(numbers) == 1 else np.column_stack(numbers)


def _alone(groups: Any) -> Any:
    """Groups, with one of its own for each clip whose group is blank."""
    import numpy as np

    names = groups.astype(str)
    # No name that is there ends like this.
    own = np.char.add("\x1f", np.arange(len(names)).astype(str))
    return np.where(names == "", own, names)


def _rows(args: argparse.Namespace, source: Any) -> tuple[Any, str]:
    """Clips to fit on, and which they are in words."""
    import numpy as np

    n = source.n_clips
    if args.split == "all" or (args.split is None and not source.has("split")):
        return np.ones(n, dtype=bool), "all"
    split = np.asarray(source.column("split")).astype(str)
    if args.split is not None:
        rows = split == args.split
        if not rows.any():
            there = ", ".join(map(repr, sorted(set(split.tolist())))) or "none"
            raise DataError(
                f"no clip is of split {args.split!r}; there are {there}, or give --split all"
            )
        return rows, f"split {args.split!r}"
    # A dataset whose split is known gives its training clips, another one all it has.
    dataset = np.asarray(source.column("dataset") if source.has("dataset") else np.full(n, ""))
    has_split = {name: bool((split[dataset == name] != "").any()) for name in np.unique(dataset)}
    is_open = np.array([not has_split[name] for name in dataset])
    rows = is_open | (np.char.lower(split) == "train")
    if not rows.any():
        raise DataError("no clip is of split 'train'; say which to fit on, or give --split all")
    if is_open.all():
        return rows, "all; no split is known"
    open_names = ", ".join(sorted(str(name) for name, known in has_split.items() if not known))
    return rows, "split 'train'" + (f", and all of {open_names}" if open_names else "")


def _apply(args: argparse.Namespace) -> None:
    from biasaudio.transforms.persist import load, read_header

    transform = load(args.file)
    name = read_header(args.file)["class"]
    if args.unseen is not None:
        if not transform.domain_aware:
            raise ParameterError(f"--unseen was given, but {name} treats all domains alike")
        transform.set_params(unseen=args.unseen)
    names = getattr(transform, "feature_names_in_", None)
    source = open_source(
        args,
        features=args.features or (None if names is None else list(names)),
        not_features=[args.domain] if transform.domain_aware else [],
    )
    document = {"file": args.file, "class": name, "source": args.source, "out": args.out}
    document |= source.apply(transform, method=_method_name(transform))
    where = f", embedding {document['embedding']!r}" if "embedding" in document else ""
    emit(args, f"{args.out}: {document['n_vectors']} vectors{where}", document)


def _info(args: argparse.Namespace) -> None:
    from biasaudio.transforms.persist import load, read_header

    if args.file is None:
        _list(args)
        return
    path = Path(args.file)
    document = _document(path, read_header(path), load(path))
    card = document["card"]
    seen = [
        word
        for key, word in (
            ("sees_source_labels", "source labels"),
            ("sees_target_clips", "target clips"),
            ("sees_target_labels", "target labels"),
        )
        if card and card[key]
    ]
    lines = {
        "correction": f"{card['title']} ({card['method']})" if card else "not in the table",
        "class": document["class"],
        "what it does": card["explanation"] if card else "",
        "needs": card["needs"] if card else "",
        "may see": ", ".join(seen),
        "parameters": ", ".join(f"{k}={v!r}" for k, v in document["parameters"].items()),
        "gate": document["gate"] or "",
        "size": _size(document),
        "features": ", ".join(document["feature_names"] or []),
        "saved": f"{document['saved']}, biasaudio {document['biasaudio']}",
        "file": f"{path}, {document['bytes']} bytes, format version {document['format_version']}",
        "sha256": document["sha256"],
    }
    width = max(map(len, lines))
    shown = {key: printable(str(value)) for key, value in lines.items() if value}
    text = "\n".join(f"{key.ljust(width)}  {value}" for key, value in shown.items())
    emit(args, text, document)


def _list(args: argparse.Namespace) -> None:
    """Print the table of methods."""
    from biasaudio.transforms.methods import METHODS

    cards = [dict(method.card()) for method in METHODS.values()]
    keys = ("method", "needs", "explanation")
    emit(args, text_table([{key: card[key] for key in keys} for card in cards]), {"methods": cards})


def _document(path: Any, header: dict[str, Any], transform: Any) -> dict[str, Any]:
    """What is known of a saved correction, for --json."""
    state = vars(transform)
    maps = state.get("affines_") or ({"": state["affine_"]} if "affine_" in state else {})
    fitted = [str(name) for name in getattr(transform, "domains_", [])]
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        **{key: header[key] for key in ("format_version", "biasaudio", "saved", "sha256")},
        "class": header["class"],
        "parameters": {
            key: _plain(value) for key, value in transform.get_params(deep=False).items()
        },
        "n_features": header["n_features"],
        "feature_names": header["feature_names"],
        "domains": fitted,
        "domain_aware": bool(transform.domain_aware),
        "rank": {
            # With gains, every feature may change.
            name: affine.rank if affine.gain is None else len(affine.center)
            for name, affine in maps.items()
        },
        # What self-training decided; "none" leaves vectors as they are.
        "gate": (state.get("gate_") or {}).get("decision"),
        "card": _card(transform),
    }


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)


def _size(document: dict[str, Any]) -> str:
    domains = document["domains"]
    names = ", ".join(domains[:9]) + (" ..." if len(domains) > 9 else "")
    ranks = sorted(set(document["rank"].values()))
    rank = f", rank {' to '.join(map(str, dict.fromkeys((ranks[0], ranks[-1]))))}" if ranks else ""
    return f"{document['n_features']} features, {len(domains)} domains ({names}){rank}"


def _card(transform: Any) -> dict[str, Any] | None:
    """Row of the methods' table that a correction belongs to."""
    from biasaudio.transforms.methods import method_of

    method = method_of(transform)
    return None if method is None else dict(method.card())


def _method_name(transform: Any) -> str:
    card = _card(transform)
    return str(card["method"]) if card else type(transform).__name__.lower()
