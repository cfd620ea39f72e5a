"""Embed a folder of audio into a store; run again, it goes on where it stopped."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from biasaudio.cli._common import emit, note, pairs, settings
from biasaudio.errors import ParameterError

__all__ = ["add_arguments", "run"]

SHOWN_FAILURES = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "audio", metavar="AUDIO", help="a folder, the tree of IRMAS or OpenMIC, or a manifest"
    )
    parser.add_argument(
        "--model", required=True, metavar="MODEL", help="such as melstats; --models lists all"
    )
    parser.add_argument("--models", action=_ListModels, nargs=0, help="list the models and exit")
    parser.add_argument(
        "--out", required=True, metavar="STORE", help="a folder; several processes may fill it"
    )
    parser.add_argument(
        "--clips", metavar="FILE", help="csv or parquet: a row a file, with its path and labels"
    )
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME=COLUMN",
        help="read a clip column from another name, as in label=instrument",
    )
    parser.add_argument("--embedding", metavar="NAME", help="default: the name of the model")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="set an option of the model, as in hop=8000; again for several",
    )
    parser.add_argument(
        "--max-seconds", type=float, metavar="S", help="only the first S seconds of each file"
    )
    parser.add_argument(
        "--resume", action="store_true", help="only go on: stop if there is nothing yet"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="embed anew what another model made, or whose audio has changed; new labels win",
    )


class _ListModels(argparse.Action):
    """Print what ``--model`` may be; like ``--help`` it needs nothing else."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Print and exit."""
        from biasaudio.cli._common import text_table
        from biasaudio.embed.models import MODELS

        rows = [{"model": m.spec, "what it is": m.what, "needs": m.needs} for m in MODELS.values()]
        print(text_table(rows))
        parser.exit()


def run(args: argparse.Namespace) -> int:
    """Embed the files, and say what became of them."""
    from biasaudio.datasets.audio import find_audio
    from biasaudio.embed.extraction import extract
    from biasaudio.embed.models import load_model

    columns = dict(pairs(args.column, "--column", "NAME=COLUMN, as in label=instrument"))
    model = load_model(args.model, **settings(args.set, "hop=8000"))
    _check_resume(args, args.embedding or model.name)
    files = find_audio(args.audio, args.clips, columns=columns or None)
    if files.unlisted:
        n = len(files.unlisted)
        note(args, f"{n} audio file{'s' * (n != 1)} in {args.audio} belong to no clip: left out")
    result = extract(
        files,
        model,
        args.out,
        embedding=args.embedding,
        max_seconds=args.max_seconds,
        overwrite=args.overwrite,
        n_jobs=args.n_jobs,
        progress=not args.quiet,
    )
    failed = result.failed.to_dict("records")
    document = {
        "store": str(result.path),
        "embedding": result.embedding,
        "datasets": files.clips.datasets,
        "embedded": result.n_embedded,
        "present": result.n_present,
        "seconds_of_audio": result.seconds,
        "failed": failed,
    }
    emit(args, _text(result, files), document)
    if failed:
        n_files = len(files.paths) + len(files.refused)
        note(args, f"biasaudio: {len(failed)} of {n_files} files could not be embedded")
    return 1 if failed else 0


def _check_resume(args: argparse.Namespace, embedding: str) -> None:
    if not args.resume:
        return
    from biasaudio.store import EmbeddingStore, exists, waiting

    # It may have been killed before its first commit, when there is just an empty list of parts.
    has_begun = Path(args.out).is_dir() and any(Path(args.out).glob("parts.txt"))
    if embedding in waiting(args.out) or (has_begun and not exists(args.out)):
        return
    store = EmbeddingStore(args.out)
    held = sorted({name for dataset in store.datasets() for name in store.embeddings(dataset)})
    if embedding not in held:
        raise ParameterError(
            f"--resume: {args.out} has no embedding {embedding!r}, only {', '.join(held)}; check "
            "--out and --embedding, or leave --resume out to begin"
        )


def _text(result: Any, files: Any) -> str:
    """Return what was done, and a table of what was not."""
    from biasaudio.cli._common import text_table

    rows = []
    failed = result.failed
    for dataset in files.clips.datasets:
        n = int((files.clips.dataset == dataset).sum())
        lost = int((failed["dataset"] == dataset).sum())
        rows.append({"dataset": dataset, "embedding": result.embedding, "clips": n - lost})
        rows[-1] |= {"failed": lost}
    minutes = result.seconds / 60
    lines = [
        text_table(rows),
        "",
        f"{result.path}: {result.n_embedded} clip{'s' * (result.n_embedded != 1)} embedded "
        f"({minutes:.1f} min of audio), {result.n_present} there before, {len(failed)} failed",
    ]
    if len(failed):
        shown = failed[["path", "reason"]].head(SHOWN_FAILURES).to_dict("records")
        lines += ["", text_table(shown)]
        if len(failed) > SHOWN_FAILURES:
            lines.append(f"and {len(failed) - SHOWN_FAILURES} more; --json lists all")
    return "\n".join(lines)
