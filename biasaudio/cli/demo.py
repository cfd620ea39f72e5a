"""Synthesise two biased datasets, audit them and write a report (a minute)."""

from __future__ import annotations

import argparse

from biasaudio.cli._common import command_line, emit, note

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--out", metavar="DIR", default="demo-report", help="default: demo-report")
    parser.add_argument("--songs", type=int, default=88, help="songs a dataset (default 88)")


def run(args: argparse.Namespace) -> int:
    """Synthesise, embed, store, audit, and hold what was found against what was planted."""
    from pathlib import Path

    import biasaudio
    from biasaudio.datasets.synthesis import DATASETS, PLANTED, synthesize_datasets
    from biasaudio.embed import LibrosaFeatures, embed_clips
    from biasaudio.errors import ParameterError

    out = Path(args.out)
    if out.exists() and not out.is_dir():
        raise ParameterError(f"--out {out} is a file; give a folder")
    note(args, "Synthesising audio: nothing in this demo is recorded music.")
    store = embed_clips(
        LibrosaFeatures(),
        synthesize_datasets(n_songs=args.songs, random_state=args.seed),
        out / "store.h5",
        overwrite=True,
        progress=not args.quiet,
        total=len(DATASETS) * args.songs * 4,
    )
    about = {
        "title": "biasaudio demo: synthetic audio",
        "command": command_line(),
        "synthetic": True,
        "planted": PLANTED,
    }
    result = biasaudio.audit(
        store, random_state=args.seed, n_jobs=args.n_jobs, progress=not args.quiet, meta=about
    )
    result.save(out)
    report = out / "report.html"
    document = {"report": str(report), "store": str(store), "meta": result.meta}
    emit(args, f"{result.summary()}\n\nReport: {report}", document)
    return 0
