"""List, check, merge and export stores, and import vectors into one."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from biasaudio.cli._common import Parser, add_shared_options, emit, note, progress, text_table
from biasaudio.errors import DataError, ParameterError

__all__ = ["add_arguments", "run"]

_STORE = "an .h5 file, or a folder of them"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the actions."""
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", required=True, parser_class=Parser
    )
    listing = actions.add_parser("ls", help="list datasets and embeddings")
    listing.add_argument("store", metavar="STORE", help=_STORE)
    importing = actions.add_parser("import", help="add vectors from a file")
    importing.add_argument("store", metavar="STORE", help="an .h5 file, or a folder; made if new")
    importing.add_argument("files", metavar="FILE", nargs="+", help=".npz, .csv or .parquet")
    importing.add_argument("--dataset", help="default: the file's dataset column, else its name")
    importing.add_argument("--embedding", help="what the vectors are called")
    importing.add_argument("--overwrite", action="store_true", help="replace what is there")
    importing.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="NAME=COLUMN",
        help="read a clip column from another name, as in group=song_id",
    )
    verifying = actions.add_parser(
        "verify",
        help="check every byte, and name each damaged clip",
        description="Check every byte, and name each damaged clip.",
        epilog="Exit codes: 0 no faults, or all taken out by --repair; 1 faults that are left.",
    )
    verifying.add_argument("store", metavar="STORE", help=_STORE)
    verifying.add_argument(
        "--repair",
        action="store_true",
        help="put files with faults into a quarantine folder, and keep the good clips",
    )
    compacting = actions.add_parser("compact", help="merge the files that extract has added")
    compacting.add_argument("store", metavar="STORE", help="a folder")
    compacting.add_argument("--embedding", metavar="NAME", help="default: all")
    exporting = actions.add_parser("export", help="write one file in the published layout")
    exporting.add_argument("store", metavar="STORE", help=_STORE)
    exporting.add_argument("out", metavar="OUT", help="the .h5 file to be written")
    exporting.add_argument("--datasets", nargs="+", metavar="NAME", help="default: all")
    exporting.add_argument("--embeddings", nargs="+", metavar="NAME", help="default: all")
    exporting.add_argument("--overwrite", action="store_true", help="replace the file")
    resuming = actions.add_parser("resume", help="name an extraction that was interrupted")
    resuming.add_argument("store", metavar="STORE", help="a folder")
    resuming.add_argument(
        "--yes", action="store_true", help="run it: only for a store that is your own"
    )
    clearing = actions.add_parser("clear-cache", help="remove pooled vectors kept beside it")
    clearing.add_argument("store", metavar="STORE", help=_STORE)
    for action in (listing, importing, verifying, compacting, exporting, resuming, clearing):
        add_shared_options(action, again=True)


def run(args: argparse.Namespace) -> int:
    """Run the action."""
    from biasaudio.cli._unfinished import resume
    from biasaudio.cli._verifying import verify

    others = {
        "clear-cache": _clear_cache,
        "verify": verify,
        "resume": resume,
        "compact": _compact,
        "export": _export,
    }
    if args.action in others:
        return others[args.action](args)
    if args.action == "import":
        _import(args)
    rows = _rows(args.store)
    is_whole = all(row["files"] == 1 for row in rows)
    shown = [{k: v for k, v in row.items() if k != "files" or not is_whole} for row in rows]
    emit(args, text_table(shown), {"store": args.store, "embeddings": rows})
    return 0


def _compact(args: argparse.Namespace) -> int:
    from biasaudio.store.merge import compact_store

    rows = [row for row in _rows(args.store) if row["files"] > 1]
    if args.embedding is not None:
        rows = [row for row in rows if row["embedding"] == args.embedding]
    with _merging(args, rows) as advance:
        written = compact_store(args.store, embedding=args.embedding, advance=advance)
    return _list_written(args, written)


def _export(args: argparse.Namespace) -> int:
    from biasaudio.store.merge import export_store

    options = {"datasets": args.datasets, "embeddings": args.embeddings}
    rows = [
        row
        for row in _rows(args.store)
        if row["dataset"] in (args.datasets or [row["dataset"]])
        and row["embedding"] in (args.embeddings or [row["embedding"]])
    ]
    with _merging(args, rows) as advance:
        out = export_store(
            args.store, args.out, **options, overwrite=args.overwrite, advance=advance
        )
    return _list_written(args, [out])


@contextmanager
def _merging(
    args: argparse.Namespace, rows: list[dict[str, Any]]
) -> Iterator[Callable[[int], object]]:
    total = sum(row["frames"] for row in rows)
    with progress(args, "merging", " frames", total) as advance:
        yield advance


def _list_written(args: argparse.Namespace, files: list[Path]) -> int:
    rows = [{"path": str(file), "bytes": file.stat().st_size} for file in files]
    lines = [f"{row['path']}  {row['bytes']:,} bytes" for row in rows]
    if not rows:
        note(args, f"{args.store}: each embedding is in one file already; nothing to merge")
    emit(args, "\n".join(lines), {"store": args.store, "written": rows})
    return 0


def _clear_cache(args: argparse.Namespace) -> int:
    from biasaudio.store import EmbeddingStore

    removed = EmbeddingStore(args.store).clear_cache()
    total = sum(each["bytes"] for each in removed)
    lines = [f"{each['path']}  {each['bytes']:,} bytes" for each in removed]
    lines.append(f"removed: {len(removed)} file{'s' * (len(removed) != 1)}, {total:,} bytes")
    emit(args, "\n".join(lines), {"store": args.store, "removed": removed, "bytes": total})
    return 0


def _import(args: argparse.Namespace) -> None:
    from biasaudio._validation import name_some
    from biasaudio.store import import_file

    columns = {}
    for pair in args.column:
        name, found, column = pair.partition("=")
        if not (name and found and column):
            raise ParameterError(f"--column {pair!r} is not NAME=COLUMN, as in group=song_id")
        columns[name] = column
    for i, file in enumerate(args.files):
        try:
            import_file(
                args.store,
                file,
                dataset=args.dataset,
                embedding=args.embedding,
                overwrite=args.overwrite,
                columns=columns or None,
            )
        except (DataError, ParameterError) as error:
            where = "" if file in str(error) else f"{file}: "
            before = f" ({name_some(args.files[:i])} went into the store before)" if i else ""
            raise type(error)(f"{where}{error}{before}") from error


def _rows(path: str) -> list[dict[str, Any]]:
    from biasaudio.store.clips import stored_clips
    from biasaudio.store.frames import open_frames
    from biasaudio.store.index import Index, read_steadily

    def read(index: Index) -> list[dict[str, Any]]:
        clips = {name: stored_clips(index, name) for name in {dataset for dataset, _ in index}}
        rows = []
        for (dataset, embedding), files in index.items():
            shapes = []
            # Hundreds of files are not to be open at once.
            for file in files:
                with open_frames(file, dataset, embedding) as frames:
                    shapes.append(frames.shape)
            known = clips[dataset]
            rows.append(
                {
                    "dataset": dataset,
                    "embedding": embedding,
                    "frames": sum(n for n, _ in shapes),
                    "dims": shapes[0][1],
                    "clips": "" if known is None else len(known),
                    "labels": "" if known is None else len(known.label_names),
                    "files": len(files),
                }
            )
        return rows

    return read_steadily(Path(path), read)
