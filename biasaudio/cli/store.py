"""List a store, import vectors into one, or clear its cache."""

from __future__ import annotations

import argparse
from typing import Any

from biasaudio.cli._common import Parser, add_shared_options, emit, text_table
from biasaudio.errors import DataError, ParameterError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the actions."""
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", required=True, parser_class=Parser
    )
    listing = actions.add_parser("ls", help="list datasets and embeddings")
    listing.add_argument("store", metavar="STORE", help="an .h5 file, or a folder of them")
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
    clearing = actions.add_parser("clear-cache", help="remove pooled vectors kept beside it")
    clearing.add_argument("store", metavar="STORE", help="an .h5 file, or a folder of them")
    for action in (listing, importing, clearing):
        add_shared_options(action, again=True)


def run(args: argparse.Namespace) -> int:
    """Run the action."""
    if args.action == "clear-cache":
        return _clear_cache(args)
    if args.action == "import":
        _import(args)
    rows = _rows(args.store)
    emit(args, text_table(rows), {"store": args.store, "embeddings": rows})
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
    from biasaudio.store import EmbeddingStore

    store = EmbeddingStore(path)
    rows = []
    for dataset in store.datasets():
        clips = store.clips(dataset)
        for embedding in store.embeddings(dataset):
            frames, width = store.shape(dataset, embedding)
            rows.append(
                {
                    "dataset": dataset,
                    "embedding": embedding,
                    "frames": frames,
                    "dims": width,
                    "clips": "" if clips is None else len(clips),
                    "labels": "" if clips is None else len(clips.label_names),
                }
            )
    return rows
