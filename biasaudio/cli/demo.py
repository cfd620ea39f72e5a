"""Synthesise two biased datasets, audit them and write a report (a minute)."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path

from biasaudio.cli._common import command_line, emit, note, note_warnings, whole_number

__all__ = ["add_arguments", "run"]

# With fewer, no instrument has three songs in both parts of both datasets.
FEWEST_SONGS = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--out", metavar="DIR", default="demo-report", help="default: demo-report")
    parser.add_argument(
        "--songs",
        type=whole_number(1),
        default=88,
        metavar="N",
        help="songs per dataset (default 88)",
    )


def run(args: argparse.Namespace) -> int:
    """Synthesise, embed, store, audit, and hold what was found against what was planted."""
    import biasaudio
    from biasaudio._parallel import check_n_jobs
    from biasaudio.datasets.synthesis import DATASETS, PLANTED, synthesize_datasets
    from biasaudio.embed import LibrosaFeatures, embed_clips
    from biasaudio.errors import ParameterError
    from biasaudio.results import check_folder

    out = check_folder(args.out)
    check_n_jobs(args.n_jobs)
    if args.songs < FEWEST_SONGS:
        raise ParameterError(
            f"--songs={args.songs} is too few to compare instruments; give {FEWEST_SONGS} or more"
        )
    store = out / "store.h5"
    _check_store(store, DATASETS)
    note(args, "Synthesising audio: nothing in this demo is recorded music.")
    # A file that is written anew, not into, is the same bytes each time.
    new = embed_clips(
        LibrosaFeatures(),
        synthesize_datasets(n_songs=args.songs, random_state=args.seed),
        out / "store.new.h5",
        overwrite=True,
        progress=not args.quiet,
        total=len(DATASETS) * args.songs * 4,
    )
    new.replace(store)
    about = {
        "title": "biasaudio demo: synthetic audio",
        "command": command_line(args),
        "synthetic": True,
        "planted": PLANTED,
    }
    result = biasaudio.audit(
        store, random_state=args.seed, n_jobs=args.n_jobs, progress=not args.quiet, meta=about
    )
    result.save(out)
    note_warnings(args, result.meta["warnings"])
    report = out / "report.html"
    document = {"report": str(report), "store": str(store), "meta": result.meta}
    emit(args, f"{result.summary()}\n\nReport: {report}", document)
    return 0


def _check_store(path: Path, datasets: Collection[str]) -> None:
    """Refuse to replace a store that the demo did not write."""
    from biasaudio._validation import name_some
    from biasaudio.errors import ParameterError
    from biasaudio.store import EmbeddingStore

    others = set(EmbeddingStore(path).datasets()) - set(datasets) if path.exists() else set()
    if others:
        raise ParameterError(
            f"{path} holds {name_some(sorted(others))}, not the demo; give another --out"
        )
