"""Ask how well a probe reads the dataset, or the genre, off the vectors."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from typing import Any

from biasaudio.cli._common import (
    add_store_options,
    emit,
    note,
    only_embedding,
    open_store,
    partial_rule,
    read_clips,
    whole_number,
)

__all__ = ["add_arguments", "run"]

EXCEEDED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_store_options(parser)
    parser.add_argument("--embedding", metavar="NAME", help="needed if the store has several")
    parser.add_argument("--genre", action="store_true", help="probe the genre, not the dataset")
    parser.add_argument("--method", metavar="NAME", help="after this correction (three-way split)")
    parser.add_argument(
        "--mix", choices=("equal", "raw"), help="class mix (default equal, where it can be made so)"
    )
    parser.add_argument("--kind", default="linear", metavar="KIND", help="linear or scaled")
    parser.add_argument(
        "--splits",
        type=whole_number(2),
        default=5,
        metavar="N",
        help="folds without a correction (default 5); with one there are three parts",
    )
    parser.add_argument(
        "--permutations",
        type=whole_number(0),
        default=200,
        metavar="N",
        help="for p (default 200)",
    )
    parser.add_argument(
        "--fail-above",
        type=float,
        metavar="AUC",
        help="exit with code 3 if the lower end of the interval is above this ROC-AUC",
    )


def run(args: argparse.Namespace) -> int:
    """Run one probe and print what it found."""
    from biasaudio._audit.clips import load_tables, prepare, usable_methods
    from biasaudio._validation import check_choice
    from biasaudio.errors import ParameterError
    from biasaudio.probes.domain import KINDS

    check_choice(args.kind, "kind", KINDS)
    methods = _methods(args)
    if args.fail_above is not None and not 0 <= args.fail_above <= 1:
        raise ParameterError(f"--fail-above={args.fail_above} is not a ROC-AUC; give 0 to 1")
    name = only_embedding(args, args.store)
    rule = partial_rule(args)
    table = load_tables(
        open_store(args),
        read_clips(args),
        embeddings=[name],
        datasets=args.datasets,
        pool="mean",
        missing=rule,
        unknown=rule,
        progress=not args.quiet,
    )[name]
    prepared = prepare(
        table, labels=args.labels, protocol="default", seed=args.seed, need_labels=False
    )
    result = _probe(
        args, prepared, prepared.vectors(table), usable_methods(prepared, methods, asked=True)
    )
    exceeded = args.fail_above is not None and result.low > args.fail_above
    what = "genre" if args.genre else "dataset"
    after = f" after {args.method}" if methods else ""
    lines = [f"{name}{after}, {what} probe: {result}"]
    lines += [f"  {v.value}: ROC-AUC {v.auc:.3f}, n = {v.n}" for v in result.by_value]
    if exceeded:
        lines.append(f"The interval lies above {args.fail_above}: exit code {EXCEEDED}.")
    document = {
        "embedding": name,
        "probe": what,
        "method": args.method or "original",
        "exceeded": exceeded,
        **vars(result),
        "by_value": [vars(value) for value in result.by_value],
    }
    emit(args, "\n".join(lines), document)
    return EXCEEDED if exceeded else 0


def _methods(args: argparse.Namespace) -> Sequence[Any]:
    """Correction that is asked for, or none."""
    from biasaudio.errors import ParameterError
    from biasaudio.transforms.methods import check_methods

    methods = check_methods([args.method] if args.method else [])
    if any(method.is_per_target for method in methods):
        raise ParameterError(
            f"{args.method} is fitted for one target, so there is no number for the datasets "
            "together; audit it, or probe another method"
        )
    return methods


def _probe(args: argparse.Namespace, prepared: Any, X: Any, methods: Sequence[Any]) -> Any:
    """`ProbeResult` of the clips that can be told apart, as an audit has it."""
    from biasaudio._audit.clips import fit_columns
    from biasaudio._parallel import run_all
    from biasaudio.probes import probe_domain, probe_genre

    clips, rows = prepared.clips, _rows(args, prepared)
    domain, genre = clips.dataset.astype(str)[rows], clips.genre.astype(str)[rows]
    options: dict[str, Any] = {
        "groups": clips.group_id[rows],
        "strata": _strata(args, genre if args.genre else domain, prepared.classes[rows]),
        "kind": args.kind,
        "n_splits": args.splits,
        "n_permutations": args.permutations,
        "random_state": args.seed,
    }
    if methods:
        options["correction"] = methods[0].make()
        options["fit_params"] = fit_columns(prepared, methods[0], rows)
    if args.genre:
        run = functools.partial(probe_genre, X[rows], genre, domain=domain, **options)
    else:
        run = functools.partial(probe_domain, X[rows], domain, **options)
    # As in an audit: one thread, so that the same seed gives the same bytes.
    return run_all(lambda call: call(), [run])[0]


def _rows(args: argparse.Namespace, prepared: Any) -> Any:
    """Clips to probe, with a note on what is left out, or why there are none."""
    import numpy as np

    from biasaudio._audit.measure import FEWEST_GENRE_GROUPS, known_genres
    from biasaudio._validation import name_some
    from biasaudio.errors import DataError

    clips = prepared.clips
    if not args.genre:
        if len(clips.datasets) < 2:
            raise DataError(
                f"there is one dataset only, {clips.datasets[0]!r}, and none to tell it from; "
                "import another one, or ask for the genre with --genre"
            )
        return np.arange(len(clips))
    rows, thin = known_genres(prepared, np.ones(len(clips), dtype=bool))
    if not rows.size:
        known = name_some(sorted(set(clips.genre) - {""})) or "none"
        raise DataError(
            f"the genre cannot be probed: it takes two with {FEWEST_GENRE_GROUPS} groups of clips "
            f"at least, and the genres are {known}; give more clips, or genres"
        )
    if thin:
        few = f"fewer than {FEWEST_GENRE_GROUPS} groups of clips"
        note(args, f"note: {name_some(thin)} left out, with {few} each")
    return rows


def _strata(args: argparse.Namespace, values: Any, classes: Any) -> Any:
    """Classes for equal mix; None where it is not wanted, or cannot be had."""
    from biasaudio._validation import name_some
    from biasaudio.errors import DataError

    names = sorted(set(values))
    mixes = [set(classes[values == name]) - {""} for name in names]
    if args.mix == "raw" or set.intersection(*mixes):
        return None if args.mix == "raw" else classes
    why = f"no class has clips enough of each of {name_some(names, 9)}"
    if args.mix == "equal":
        raise DataError(
            f"the class mix cannot be made equal: {why}; rename labels that mean the same, or give "
            "--mix raw"
        )
    note(args, f"note: at raw class mix, as {why}")
    return None
