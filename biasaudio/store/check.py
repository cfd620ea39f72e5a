"""Check a store: each file for itself, then what they say of each other."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from biasaudio.datasets.table import ClipTable
from biasaudio.errors import DataError, StoreError
from biasaudio.store.clips import merge_clips
from biasaudio.store.index import TRIES, stamp
from biasaudio.store.inspected import Fault, Inspected
from biasaudio.store.inspection import inspect_file
from biasaudio.store.lock import is_held, lock_path
from biasaudio.store.schema import PARTIAL, SUFFIXES, is_file_path, list_files

__all__ = ["Check", "Fault", "Leftover", "check_store", "find_leftovers", "merge_tables"]

# Another process may be using younger ones.
SCRATCH, SCRATCH_SECONDS = ".derive-", 3600.0


@dataclass(frozen=True)
class Leftover:
    """Say what a process that died has left; it does no harm.

    Parameters
    ----------
    path : Path
    what : str
    """

    path: Path
    what: str


@dataclass(frozen=True)
class Check:
    """Hold what a check of a store has found.

    Parameters
    ----------
    path : Path
        Of the store.
    faults : list of Fault
        One a clip, as far as they are faults of clips.
    leftovers : list of Leftover
    n_files : int
    n_clips : int
        Of all datasets, also those with faults.
    inspected : list of Inspected
    """

    path: Path
    faults: list[Fault]
    leftovers: list[Leftover]
    n_files: int
    n_clips: int
    inspected: list[Inspected] = field(repr=False)


def check_store(
    path: str | os.PathLike[str], *, advance: Callable[[int], object] = lambda _: None
) -> Check:
    """Check every byte of a store, and name each clip that is not as it was written.

    Memory is a few blocks of vectors, and what the store says of its clips.

    Parameters
    ----------
    path : path-like
        A file or a folder.
    advance : callable
        Told how many bytes were read; each file is read twice.

    Returns
    -------
    Check

    Raises
    ------
    StoreError
        If nothing is there, or another process changes files all the time.

    Notes
    -----
    Files of format 2 are compared with their seal: of any other byte it is known
    which clip is hit.  In files of format 1 that is known of the chunks that HDF5
    has checksums of, and a clip shares a chunk with others.  A fault is also: NaN
    or Inf; a clip in two files of one embedding; vectors of a clip that the clip
    table of its dataset does not name; a clip in it without vectors in any embedding;
    sources of other clips than there are vectors of; tables that contradict each
    other.

    Examples
    --------
    >>> import tempfile
    >>> from biasaudio.store import import_arrays
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = import_arrays(folder + "/demo.h5", [[1.0], [2.0]], ["a", "b"], dataset="demo")
    ...     check = check_store(path)
    >>> check.faults, check.n_clips
    ([], 2)
    """
    path = Path(path)
    inspected = _inspect_all(path, advance)
    n_files = len(inspected)
    gone = _superseded(inspected)
    leftovers = find_leftovers(path)
    leftovers += [
        Leftover(each.path, "another file has taken its place")
        for each in inspected
        if each.path in gone
    ]
    inspected = [each for each in inspected if each.path not in gone]
    _check_duplicates(inspected)
    _check_tables(inspected)
    for each in inspected:
        _check_sources(each)
    faults = [fault for each in inspected for fault in each.faults]
    clips = {
        (pair[0], name)
        for each in inspected
        for pair, part in each.parts.items()
        for name in part.names
    }
    return Check(path, faults, leftovers, n_files, len(clips), inspected)


def _inspect_all(path: Path, advance: Callable[[int], object]) -> list[Inspected]:
    """Inspect the files of a store as they are at one time, though others write to it."""
    done: dict[Path, tuple[tuple[int, ...] | None, Inspected]] = {}
    stamps = _stamps(path)
    for _ in range(TRIES):
        for file, seen in stamps.items():
            if file not in done or done[file][0] != seen:
                done[file] = seen, inspect_file(file, advance)
        before, stamps = stamps, _stamps(path)
        if stamps == before:
            return [done[file][1] for file in stamps]
    raise StoreError(
        f"{path} cannot be checked: another process has changed its files {TRIES} times meanwhile; "
        "wait until it is done, and try again"
    )


def _stamps(path: Path) -> dict[Path, tuple[int, ...] | None]:
    found: dict[Path, tuple[int, ...] | None] = dict.fromkeys(list_files(path))
    for file in found:
        # A link that leads nowhere is a fault, which `inspect_file` names.
        with suppress(OSError):
            found[file] = stamp(file)
    return found


def _superseded(inspected: Sequence[Inspected]) -> set[Path]:
    """Return the files that others have taken the place of, as readers see it."""
    held = {each.path: set(each.parts) for each in inspected}
    named = [(each, each.path.with_name(name)) for each in inspected for name in each.superseded]
    return {file for each, file in named if held.get(file, set()) <= set(each.parts)}


def _check_duplicates(inspected: Sequence[Inspected]) -> None:
    owners: dict[tuple[str, str, str], Inspected] = {}
    for each in inspected:
        for pair, part in each.parts.items():
            twice = {}
            for name in part.names:
                if name in part.bad:
                    continue
                owner = owners.setdefault((*pair, name), each)
                if owner is not each:
                    is_same = owner.parts[pair].digests[name] == part.digests[name]
                    vectors = "the same vectors" if is_same else "other vectors"
                    twice[name] = f"it is in {owner.path.name} too, with {vectors}"
            each.add_clips(pair, twice)


def merge_tables(inspected: Sequence[Inspected], *, note: bool = False) -> dict[str, ClipTable]:
    """Return the clip table of each dataset; where files contradict each other the first is right.

    Parameters
    ----------
    inspected : sequence of Inspected
    note : bool
        Add a fault to each file that contradicts those before.

    Returns
    -------
    dict
        From the name of the dataset.
    """
    tables: dict[str, list[tuple[Inspected, ClipTable]]] = {}
    for each in inspected:
        for dataset, table in each.tables.items():
            tables.setdefault(dataset, []).append((each, table))
    merged = {}
    for dataset, found in tables.items():
        ids = np.concatenate([table.clip_id for _, table in found])
        first, total = found[0]
        # Parts of one embedding have clips of their own, which need no comparison.
        if len(pd.unique(ids)) == len(ids) > len(total):
            total, found = ClipTable.concat([table for _, table in found]), []
        for each, table in found[1:]:
            try:
                total = merge_clips(total, table, replace=False, where=first.path.name)
            except DataError as error:
                total = merge_clips(table, total, replace=True, where="")
                if note:
                    each.add(f"its clip table contradicts those before it: {error}", dataset)
        merged[dataset] = total
    return merged


def _check_tables(inspected: Sequence[Inspected]) -> None:
    known = {name: set(table.clip_id) for name, table in merge_tables(inspected, note=True).items()}
    held: dict[str, set[str]] = {}
    for each in inspected:
        for (dataset, embedding), part in each.parts.items():
            held.setdefault(dataset, set()).update(part.names)
            for name in part.names if dataset in known else ():
                if name not in known[dataset]:
                    each.add("the clip table does not name it", dataset, embedding, name)
    for each in inspected:
        for dataset, table in each.tables.items():
            for name in table.clip_id:
                if name not in held.get(dataset, ()):
                    each.add("it is in the clip table, but has no vectors", dataset, "", str(name))


def _check_sources(each: Inspected) -> None:
    for pair, part in each.parts.items():
        if part.origin is not None:
            sources = part.origin.sources["clip_id"]
            for name in sorted(set(sources) - set(part.names)):
                each.add("it is in the table of sources, but has no vectors", *pair, name)
            for name in sorted(set(part.names) - set(sources)):
                each.add("it is not in the table of sources", *pair, name)
            if sources.duplicated().any():
                each.add("the table of sources names a clip twice", *pair)


def find_leftovers(path: Path, *, is_ours: bool = False) -> list[Leftover]:
    """Return what processes that died have left beside a store.

    Parameters
    ----------
    path : Path
    is_ours : bool
        Whether the caller holds the lock of the store.

    Returns
    -------
    list of Leftover
    """
    is_file = is_file_path(path)
    lock = lock_path(path, is_file=is_file)
    folder = path.parent if is_file else path
    if is_held(lock) and not is_ours:
        return []
    partials = [path.with_name(path.name + PARTIAL)] if is_file else []
    for suffix in () if is_file else SUFFIXES:
        partials += [
            each
            for each in sorted(folder.glob(f"*{suffix}{PARTIAL}"))
            # A file of a folder may be written as a store of its own.
            if not is_held(lock_path(each.with_suffix(""), is_file=True))
        ]
    scratch = [
        each
        for each in sorted(folder.glob(f"{SCRATCH}*"))
        if each.is_dir() and time.time() - _changed(each) > SCRATCH_SECONDS
    ]
    found = [(partials, "a write that was not finished"), (scratch, "rows of an unfinished derive")]
    found += [([] if is_ours else [lock], "a lock that nobody holds")]
    return [Leftover(each, what) for each_of, what in found for each in each_of if each.exists()]


def _changed(folder: Path) -> float:
    return max(each.stat().st_mtime for each in [folder, *folder.iterdir()])
