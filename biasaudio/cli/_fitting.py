"""What ``correct fit`` fits: the method, its columns, and the clips."""

from __future__ import annotations

import argparse
import inspect
import json
from typing import Any

from biasaudio.errors import DataError, ParameterError

__all__ = ["fit_method"]

# What the columns of stores and files are called, where fit calls them otherwise.
NAMES = {"domain": "dataset", "groups": "group"}
NUMBERS = ("nuisance", "sample_weight")


def fit_method(args: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """Return the fitted correction, and what it was fitted on."""
    from biasaudio.cli._sources import open_source
    from biasaudio.transforms.methods import check_methods

    found = check_methods([args.method])
    if not found:
        raise ParameterError("method 'original' changes nothing; choose a correction")
    method = found[0]
    transform = _make(method, args.set, args.seed)
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


def pairs(texts: list[str], option: str, form: str) -> list[tuple[str, str]]:
    """Return what options of the form NAME=VALUE say, and refuse others."""
    pairs = []
    for text in texts:
        name, found, value = text.partition("=")
        if not (name and found and value):
            raise ParameterError(f"{option} {text!r} is not {form}")
        pairs.append((name, value))
    return pairs


def _asked(args: argparse.Namespace) -> list[str]:
    return [name for name, _ in pairs(args.column, "--column", "KEYWORD=COLUMN, as in genre=style")]


def _make(method: Any, texts: list[str], seed: int) -> Any:
    """Return the estimator with the parameters that were set."""
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


def settings(texts: list[str], example: str) -> dict[str, Any]:
    """Return the values of ``--set NAME=VALUE``, numbers and the like as such."""
    found: dict[str, Any] = {}
    for name, text in pairs(texts, "--set", f"NAME=VALUE, as in {example}"):
        try:
            word = {"None": "null", "True": "true", "False": "false"}.get(text, text)
            found[name] = json.loads(word)
        except (ValueError, RecursionError):
            found[name] = text
    return found


def _column_names(args: argparse.Namespace, method: Any, transform: Any) -> dict[str, list[str]]:
    """Return the columns for each keyword of fit."""
    from biasaudio._validation import did_you_mean, name_some

    wanted = (*method.needs, *method.takes)
    names = {name: [NAMES.get(name, name)] for name in wanted} | {"domain": [args.domain]}
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
    """Return the column, or the columns beside one another, that go to a keyword."""
    import numpy as np
    import pandas as pd

    columns = [np.asarray(source.column(name)) for name in names]
    if keyword not in NUMBERS and len(columns) == 1:
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
    """Return the groups, with one of its own for each clip whose group is blank."""
    import numpy as np

    names = groups.astype(str)
    # No name that is there ends like this.
    own = np.char.add("\x1f", np.arange(len(names)).astype(str))
    return np.where(names == "", own, names)


def _rows(args: argparse.Namespace, source: Any) -> tuple[Any, str]:
    """Return the clips to fit on, and which they are in words."""
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
