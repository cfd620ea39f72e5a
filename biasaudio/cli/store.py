"""List, check, merge and export stores, and import vectors into one."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from biasaudio.cli._common import Parser, add_shared_options, emit, note, progress, text_table
from biasaudio.errors import ParameterError

__all__ = ["add_arguments", "run"]

_STORE = "an .h5 file, or a folder of them"
# Faults that are shown at the terminal; --json has all.
_SHOWN_FAULTS = 20


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
    exporting.add_argument(
        "--embedding", dest="embeddings", nargs="+", metavar="NAME", help="default: all"
    )
    exporting.add_argument("--overwrite", action="store_true", help="replace the file")
    clearing = actions.add_parser("clear-cache", help="remove pooled vectors kept beside it")
    clearing.add_argument("store", metavar="STORE", help=_STORE)
    for action in (listing, importing, verifying, compacting, exporting, clearing):
        add_shared_options(action, again=True)


def run(args: argparse.Namespace) -> int:
    """Run the action."""
    others = {
        "clear-cache": _clear_cache,
        "verify": _verify,
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
    from biasaudio.store import merge

    rows = [row for row in _rows(args.store) if row["files"] > 1]
    if args.embedding is not None:
        rows = [row for row in rows if row["embedding"] == args.embedding]
    with _merging(args, rows) as advance:
        written = merge(args.store, embedding=args.embedding, advance=advance)
    return _list_written(args, written)


def _export(args: argparse.Namespace) -> int:
    from biasaudio.store import export

    options = {"datasets": args.datasets, "embeddings": args.embeddings}
    rows = [
        row
        for row in _rows(args.store)
        if row["dataset"] in (args.datasets or [row["dataset"]])
        and row["embedding"] in (args.embeddings or [row["embedding"]])
    ]
    with _merging(args, rows) as advance:
        out = export(args.store, args.out, **options, overwrite=args.overwrite, advance=advance)
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
    from biasaudio.store import import_files

    columns = {}
    for pair in args.column:
        name, found, column = pair.partition("=")
        if not (name and found and column):
            raise ParameterError(f"--column {pair!r} is not NAME=COLUMN, as in group=song_id")
        columns[name] = column
    import_files(
        args.store,
        args.files,
        dataset=args.dataset,
        embedding=args.embedding,
        overwrite=args.overwrite,
        columns=columns or None,
    )


def _rows(path: str) -> list[dict[str, Any]]:
    from biasaudio.store import contents

    return contents(path)


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


def _verify(args: argparse.Namespace) -> int:
    """Check each byte, repair if that is asked for, and return the exit code."""
    from biasaudio import store

    path, n_bytes = Path(args.store), 0
    for file in path.iterdir() if path.is_dir() else [path]:
        # What others merge meanwhile is not there any more.
        with suppress(OSError):
            n_bytes += file.stat().st_size if file.suffix in store.SUFFIXES else 0
    total = 2 * n_bytes if args.repair else n_bytes
    with progress(args, "checking", "B", total) as advance:
        if args.repair:
            repair = store.repair(args.store, advance=advance)
            check, after = repair.before, repair.after
        else:
            repair, check = None, store.verify(args.store, advance=advance)
            after = check
    lines = _fault_lines(check)
    if repair is not None:
        lines += _repair_lines(repair)
    elif check.faults:
        name = shlex.quote(args.store)
        lines.append(f"take them out with: biasaudio store verify {name} --repair")
    rows = [_fault_row(fault) for fault in check.faults]
    document = {
        "store": args.store,
        "files": check.n_files,
        "clips": check.n_clips,
        "faults": rows,
        "leftovers": [{"path": str(one.path), "what": one.what} for one in check.leftovers],
    }
    if repair is not None:
        document["repair"] = {
            "quarantine": None if repair.quarantine is None else str(repair.quarantine),
            "rewritten": [str(file) for file in repair.rewritten],
            "removed": [str(file) for file in repair.removed],
            "clips": 0 if after is None else after.n_clips,
            "faults": [] if after is None else [_fault_row(fault) for fault in after.faults],
        }
    emit(args, "\n".join(lines), document)
    return int(after is None or bool(after.faults))


def _fault_row(fault: Any) -> dict[str, str]:
    return {
        "file": str(fault.file),
        "dataset": fault.dataset,
        "embedding": fault.embedding,
        "clip": fault.clip,
        "what": fault.what,
    }


def _fault_lines(check: Any) -> list[str]:
    lines = []
    if check.faults:
        shown = [_fault_row(fault) for fault in check.faults[:_SHOWN_FAULTS]]
        # All files of a store are in one folder, which would fill the lines.
        rows = [row | {"file": Path(row["file"]).name} for row in shown]
        is_one = check.n_files == 1
        rows = [{k: v or "-" for k, v in row.items() if k != "file" or not is_one} for row in rows]
        lines.append(text_table(rows))
        more = len(check.faults) - len(shown)
        lines += [f"and {more:,} more; --json has all"] * (more > 0)
        lines.append("")
    for left in check.leftovers:
        lines.append(f"{left.path.name}: {left.what}")
    held = f"{_count(check.n_files, 'file')}, {_count(check.n_clips, 'clip')}"
    if not check.faults:
        return [*lines, f"{check.path}: {held}, no faults"]
    files = len({fault.file for fault in check.faults})
    found = f"{_count(len(check.faults), 'fault')} in {_count(files, 'file')}"
    return [*lines, f"{check.path}: {held}, {found}"]


def _repair_lines(repair: Any) -> list[str]:
    lines = [f"rewritten: {file.name}, with the clips that are right" for file in repair.rewritten]
    lines += [f"removed: {file.name}" for file in repair.removed]
    if repair.quarantine is not None:
        lines.append(f"the files as they were, and taken_out.csv: {repair.quarantine}")
    if repair.after is None:
        lines.append("nothing is left of the store")
    elif repair.after.faults:
        lines += ["still wrong:", *_fault_lines(repair.after)]
    elif repair.quarantine is not None:
        kept = f"{_count(repair.after.n_files, 'file')}, {_count(repair.after.n_clips, 'clip')}"
        lines.append(f"now: {kept}, no faults")
    return lines
