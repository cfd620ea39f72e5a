"""Audit the embeddings of a store and write the report."""

from __future__ import annotations

import argparse

from biasaudio.cli._common import (
    add_correction_options,
    add_store_options,
    clip_files,
    command_line,
    emit,
    expand,
    note_warnings,
    open_store,
    partial_rule,
    read_clips,
    whole_number,
)

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_store_options(parser)
    parser.add_argument("--embedding", nargs="+", metavar="NAME", help="default: all they share")
    add_correction_options(parser)
    parser.add_argument("--protocol", default="default", metavar="NAME", help="default or wang2023")
    parser.add_argument(
        "--pool", default="mean", metavar="HOW", help="mean, max, std or mean+std of the frames"
    )
    parser.add_argument(
        "--split",
        default="given",
        metavar="HOW",
        help="given (the datasets' own, if any), or drawn by group for all of them",
    )
    for name, default, least, text in (
        ("--resamples", 1000, 1, "for intervals"),
        ("--permutations", 200, 0, "for p-values"),
    ):
        parser.add_argument(
            name,
            type=whole_number(least),
            default=default,
            metavar="N",
            help=f"{text} (default {default})",
        )
    parser.add_argument("--out", metavar="DIR", required=True, help="where the report goes")


def run(args: argparse.Namespace) -> int:
    """Run the audit, write it to ``--out`` and print the verdict."""
    import biasaudio
    from biasaudio.results import check_folder

    check_folder(args.out)
    result = biasaudio.audit(
        open_store(args),
        clips=read_clips(args),
        embeddings=args.embedding,
        datasets=args.datasets,
        labels=args.labels,
        methods=expand(args.methods),
        protocol=args.protocol,
        modes=args.modes,
        pool=args.pool,
        split=args.split,
        missing=partial_rule(args),
        unknown=partial_rule(args),
        n_permutations=args.permutations,
        n_resamples=args.resamples,
        random_state=args.seed,
        n_jobs=args.n_jobs,
        progress=not args.quiet,
        meta={"command": command_line(args)},
    )
    result.meta["files"] += clip_files(args)
    out = result.save(args.out)
    note_warnings(args, result.meta["warnings"])
    document = {"out": str(out), "report": str(out / "report.html"), "meta": result.meta}
    tables = {
        name: getattr(result, name).to_dict("records")
        for name in ("probes", "drops", "comparisons")
    }
    emit(args, f"{result.summary()}\n\nReport: {out / 'report.html'}", document | tables)
    return 0
