"""Check a store, repair it, and say what was found."""

from __future__ import annotations

import argparse
import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any

from biasaudio.cli._common import emit, progress, text_table

__all__ = ["verify"]

# Faults that are shown at the terminal; --json has all.
_SHOWN_FAULTS = 20


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


def verify(args: argparse.Namespace) -> int:
    """Check each byte, repair if that is asked for, and return the exit code."""
    from biasaudio.store.check import check_store
    from biasaudio.store.repair import repair_store
    from biasaudio.store.schema import list_files

    n_bytes = 0
    for file in list_files(args.store):
        # What others merge meanwhile is not there any more.
        with suppress(OSError):
            n_bytes += file.stat().st_size
    # Each file is read for its checksum, and for its vectors.
    total = 4 * n_bytes if args.repair else 2 * n_bytes
    with progress(args, "checking", "B", total) as advance:
        if args.repair:
            repair = repair_store(args.store, advance=advance)
            check, after = repair.before, repair.after
        else:
            repair, check = None, check_store(args.store, advance=advance)
            after = check
    lines = _fault_lines(check)
    if repair is not None:
        lines += _repair_lines(repair)
    elif check.faults:
        store = shlex.quote(args.store)
        lines.append(f"take them out with: biasaudio store verify {store} --repair")
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
        lines.append(f"{left.path.name}: {left.what}; harmless, and --repair takes it away")
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
