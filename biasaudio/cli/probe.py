"""Ask how well a probe reads the dataset, or the genre, off the vectors."""

from __future__ import annotations

import argparse

from biasaudio.cli._common import add_store_options, emit, partial_rule, read_clips

__all__ = ["add_arguments", "run"]

EXCEEDED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_store_options(parser)
    parser.add_argument("--embedding", metavar="NAME", help="needed if the store has several")
    parser.add_argument("--genre", action="store_true", help="probe the genre, not the dataset")
    parser.add_argument("--method", metavar="NAME", help="after this correction (three-way split)")
    parser.add_argument("--mix", choices=("equal", "raw"), default="equal", help="class mix")
    parser.add_argument("--kind", default="linear", help="linear or scaled")
    parser.add_argument("--permutations", type=int, default=200, help="for p (default 200)")
    parser.add_argument(
        "--fail-above",
        type=float,
        metavar="AUC",
        help="exit with code 3 if the lower end of the interval is above this ROC-AUC",
    )


def run(args: argparse.Namespace) -> int:
    """Run one probe and print what it found."""
    from biasaudio._audit.prepare import prepare
    from biasaudio.errors import ParameterError
    from biasaudio.probes import probe_domain, probe_genre
    from biasaudio.store import EmbeddingStore
    from biasaudio.transforms.methods import check_methods

    store = EmbeddingStore(args.store)
    there = store.embeddings()
    name = args.embedding or (there[0] if len(there) == 1 else None)
    if name is None:
        raise ParameterError(f"--embedding is needed: the store has {', '.join(there) or 'none'}")
    if args.fail_above is not None and not 0 <= args.fail_above <= 1:
        raise ParameterError(f"--fail-above={args.fail_above} is not a ROC-AUC; give 0 to 1")
    rule = partial_rule(args)
    table = store.table(name, read_clips(args), args.datasets, missing=rule, unknown=rule)
    prepared = prepare(table, labels=args.labels, protocol="default", seed=args.seed)
    methods = prepared.usable(check_methods([args.method] if args.method else []), asked=True)
    X, clips = prepared.vectors(table), prepared.clips
    options = {
        "groups": clips.group_id,
        "strata": prepared.classes if args.mix == "equal" and prepared.has_classes else None,
        "kind": args.kind,
        "n_permutations": args.permutations,
        "random_state": args.seed,
    }
    if methods:
        options["correction"] = methods[0].make()
        if "genre" in methods[0].needs:
            options["fit_params"] = {"genre": clips.genre.astype(str)}
    domain = clips.dataset.astype(str)
    if args.genre:
        known = clips.genre != ""
        for key in ("groups", "strata"):
            options[key] = options[key][known] if options[key] is not None else None
        genre = clips.genre.astype(str)[known]
        result = probe_genre(X[known], genre, domain=domain[known], **options)
    else:
        result = probe_domain(X, domain, **options)
    exceeded = args.fail_above is not None and result.low > args.fail_above
    what = "genre" if args.genre else "dataset"
    lines = [f"{name}: {what} readable with {result}"]
    lines += [f"  {v.value}: ROC-AUC {v.auc:.3f}, n = {v.n}" for v in result.by_value]
    if exceeded:
        lines.append(f"The interval lies above {args.fail_above}: exit code {EXCEEDED}.")
    document = vars(result) | {"by_value": [vars(v) for v in result.by_value]}
    emit(args, "\n".join(lines), {"embedding": name, "exceeded": exceeded, **document})
    return EXCEEDED if exceeded else 0
