"""Look after a store: merge its parts, export it, check every byte, take out what is damaged."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasaudio._files import PARTIAL, replacing, sync_folder
from biasaudio._text import csv_safe
from biasaudio._validation import name_some
from biasaudio.datasets.table import ClipTable
from biasaudio.errors import ParameterError, StoreError
from biasaudio.store.clips import known_clips, read_clips
from biasaudio.store.file import (
    SUFFIXES,
    Frames,
    add_crcs,
    check_finite,
    is_file_path,
    one_line,
    open_file,
    pairs_of,
    tables_of,
)
from biasaudio.store.output import Vectors, encode, write_file
from biasaudio.store.parts import (
    LIST,
    OURS,
    Pair,
    Parts,
    clean,
    garbage,
    is_free,
    new_part,
    read_parts,
    write_parts,
    writing,
)
from biasaudio.store.reader import (
    EmbeddingStore,
    Snapshot,
    join_origins,
    live,
    look,
    open_parts,
    pooled_files,
    snapshot,
    steadily,
    unusable_pooled,
)
from biasaudio.store.writer import commit, gathered_keys, names_of, publish_part, write_part

__all__ = ["Check", "Fault", "Leftover", "Repair", "export", "merge", "repair", "verify"]

# Larger parts are not merged again: to add a clip must not cost the copy of a whole store.
MOST_BYTES = 2**30
QUARANTINE, TAKEN = "quarantine", "taken_out.csv"
TRIES = 10
_Array = NDArray[Any]
Advance = Callable[[int], object]


def _ignore(_: int) -> None:
    """Tell nobody."""


# ------------------------------------------------------------------ merge and export


def gathered(now: Snapshot, pair: Pair, files: Sequence[Path], stack: ExitStack) -> Vectors:
    """All rows of some files of an embedding that count, as they come."""
    parts = stack.enter_context(open_parts(files, pair))
    kept = live(parts, is_listed=now.parts.is_listed)
    crcs: dict[str, int] = {}
    for frames, keep in zip(parts, kept, strict=True):
        known = frames.crcs() or {}
        crcs |= {name: known[name] for name in frames.keys.names[keep] if name in known}

    def blocks() -> Iterator[_Array]:
        for frames, keep in zip(parts, kept, strict=True):
            for start, X in frames.blocks():
                mask = keep[frames.keys.codes[start : start + len(X)]]
                yield X if mask.all() else X[mask]

    origin = join_origins([each.origin() for each in parts])
    model, sources = (None, None) if origin is None else (origin.model, origin.sources)
    return Vectors(*pair, gathered_keys(parts, kept), blocks(), model, sources, crcs)


def _sorted(clips: ClipTable) -> ClipTable:
    """Clips in the order of their ids, however they came in."""
    return clips.select(np.argsort(clips.clip_id.astype(str), kind="stable"))


def merge(
    path: str | os.PathLike[str], *, embedding: str | None = None, advance: Advance = _ignore
) -> list[Path]:
    """Merge the parts of each embedding of a folder store, as long as they are below 1 GB.

    The clips of the new file are in the order of their ids, however they came in.

    Parameters
    ----------
    path : path-like
        A folder; of a file nothing is to be merged.
    embedding : str, optional
        By default all of them.
    advance : callable
        Told how many frames were written.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    StoreError
        If a file is damaged or cannot be written, or another process writes.
    """
    path = Path(path)
    EmbeddingStore(path)
    if not path.is_dir():
        return []
    written = []
    with writing(path):
        now = look(path)
        # What a killed command has left goes also where nothing is to be merged.
        clean(path, now.parts)
        for pair in now.index:
            if embedding in (None, pair[1]):
                written += _merge_pair(path, pair, advance)
    return written


def _merge_pair(path: Path, pair: Pair, advance: Advance) -> list[Path]:
    """Merge runs of small parts of one embedding; each run is a commit."""
    now, written = look(path), []
    for run in _runs(now.index[pair]):
        now = look(path)
        with ExitStack() as stack:
            vectors = gathered(now, pair, run, stack)
            table = now.clips(pair[0])
            tables = {} if table is None else {pair[0]: _sorted(table)}
            target = write_part(now, [vectors], tables, advance=advance)
        for file in run:
            now.parts.hide(file.name, *pair)
        # Of a clip that is in several files the last one counts, so it keeps their place.
        publish_part(now, target, tables, behind=run[-1].name)
        written.append(target)
    return written


def _runs(files: Sequence[Path]) -> Iterator[list[Path]]:
    """Neighbours whose merged file is no larger than 1 GB, two of them at least."""
    run: list[Path] = []
    size = 0
    for file in files:
        n_bytes = file.stat().st_size
        if run and size + n_bytes > MOST_BYTES:
            if len(run) > 1:
                yield run
            run, size = [], 0
        run, size = [*run, file], size + n_bytes
    if len(run) > 1:
        yield run


def export(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    datasets: Sequence[str] | None = None,
    embeddings: Sequence[str] | None = None,
    overwrite: bool = False,
    advance: Advance = _ignore,
) -> Path:
    """Write a store to one file, in the layout of the published ``embeddings.h5``.

    Parameters
    ----------
    path : path-like
        A file or a folder.
    out : path-like
        Ends in ``.h5`` or ``.hdf5``.
    datasets, embeddings : sequence of str, optional
        By default all.
    overwrite : bool
        Replace the file that is there.
    advance : callable
        Told how many frames were written.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    ParameterError
        If ``out`` is there and ``overwrite`` is False, has another suffix, is part
        of the store, or a name is not in the store.
    StoreError
        If a file is damaged or cannot be written.
    """
    path, out = Path(path), Path(out)
    if out.suffix.lower() not in SUFFIXES or out.is_dir():
        raise ParameterError(f"{out} is not a name of one file; give one that ends in .h5")
    if out.exists() and not overwrite:
        raise ParameterError(
            f"{out} is already there; choose another name, or pass overwrite=True to replace it"
        )
    files = EmbeddingStore(path).files
    is_mine = any(out.resolve() == file.resolve() for file in files)
    if is_mine or (path.is_dir() and out.resolve().parent == path.resolve()):
        raise ParameterError(f"{out} is part of the store itself; give a name outside of {path}")

    def write(now: Snapshot) -> Path:
        chosen = _choose(now, datasets, embeddings)
        with ExitStack() as stack:
            vectors = [gathered(now, pair, now.index[pair], stack) for pair in chosen]
            tables = {}
            for name in dict.fromkeys(dataset for dataset, _ in chosen):
                keys = (each.keys.tolist() for each in vectors if each.dataset == name)
                names = [key.decode() for key in dict.fromkeys(chain.from_iterable(keys))]
                ids = np.array(names, dtype=object)
                tables[name] = _sorted(known_clips(now.clips(name), ids, name))
            write_file(out, vectors, tables, advance=advance)
        return out

    steadily(path, lambda now: _choose(now, datasets, embeddings))
    with writing(out):
        return steadily(path, write)


def _choose(
    now: Snapshot, datasets: Sequence[str] | None, embeddings: Sequence[str] | None
) -> list[Pair]:
    """What of a store was asked for."""
    for k, (names, what) in enumerate([(datasets, "dataset"), (embeddings, "embedding")]):
        there = list(dict.fromkeys(pair[k] for pair in now.index))
        missing = [name for name in names or () if name not in there]
        if missing:
            raise ParameterError(
                f"{what} {name_some(missing)} is not in {now.path}; choose from "
                f"{name_some(there, 20)}"
            )
    chosen = [
        (dataset, embedding)
        for dataset, embedding in now.index
        if (datasets is None or dataset in datasets)
        and (embeddings is None or embedding in embeddings)
    ]
    if not chosen:
        raise ParameterError(f"no dataset of {now.path} has these embeddings; choose others")
    return chosen


# ------------------------------------------------------------------ check


@dataclass(frozen=True)
class Fault:
    """What is wrong with a clip, with an embedding, or with a file as a whole.

    Parameters
    ----------
    file : Path
    what : str
    dataset, embedding, clip : str
        Empty where the fault is not of one of them.
    """

    file: Path
    what: str
    dataset: str = ""
    embedding: str = ""
    clip: str = ""


@dataclass(frozen=True)
class Leftover:
    """What a process that died has left; it does no harm.

    Parameters
    ----------
    path : Path
    what : str
    """

    path: Path
    what: str


@dataclass(frozen=True)
class Check:
    """What a check of a store has found.

    Parameters
    ----------
    path : Path
        Of the store.
    faults : list of Fault
        One per clip, as far as they are faults of clips.
    leftovers : list of Leftover
    n_files : int
    n_clips : int
        Of all datasets, also those with faults.
    """

    path: Path
    faults: list[Fault]
    leftovers: list[Leftover]
    n_files: int
    n_clips: int
    inspected: list[_Inspected] = field(repr=False)


@dataclass
class _Inspected:
    """What is in one file, and what is wrong with it."""

    file: Path
    faults: list[Fault] = field(default_factory=list)
    names: dict[Pair, list[str]] = field(default_factory=dict)
    bad: dict[Pair, set[str]] = field(default_factory=dict)
    tables: dict[str, ClipTable] = field(default_factory=dict)

    def good(self, pair: Pair) -> list[str]:
        """Clips whose vectors are right."""
        return [name for name in self.names[pair] if name not in self.bad[pair]]


def verify(path: str | os.PathLike[str], *, advance: Advance = _ignore) -> Check:
    """Check every byte that counts, and name each clip that is not as it was written.

    Memory is a few blocks of vectors, and what the store says of its clips.

    Parameters
    ----------
    path : path-like
        A file or a folder.
    advance : callable
        Told how many bytes were read.

    Returns
    -------
    Check

    Raises
    ------
    StoreError
        If nothing is there, or another process changes files all the time.

    Notes
    -----
    HDF5 compares its checksums of headers and of each chunk; the rows of each clip are
    compared with the CRC-32 that was written with them.  A file of another program has
    no such sums: there a clip is damaged if a chunk with rows of it is, if chunks have
    checksums at all.  Pooled vectors beside a store that are of other files, such as those
    of a copy, or damaged, are never used and are listed as leftovers.

    Examples
    --------
    >>> import tempfile
    >>> from biasaudio.store import import_arrays
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = import_arrays(folder + "/demo.h5", [[1.0], [2.0]], ["a", "b"], dataset="demo")
    ...     check = verify(path)
    >>> check.faults, check.n_clips
    ([], 2)
    """
    return _verify(Path(path), advance)


def _verify(path: Path, advance: Advance, *, is_locked: bool = False) -> Check:
    done: dict[Path, _Inspected] = {}
    for _ in range(TRIES):
        # A list without parts is whole: every clip of an extraction may have failed.
        has_list = path.is_dir() and os.path.lexists(path / LIST)
        try:
            parts = read_parts(path, may_be_missing=has_list)
        except StoreError as error:
            if not has_list:
                raise
            faults = [Fault(path / LIST, one_line(error))]
            return Check(path, faults, [], 0, 0, [_Inspected(path / LIST, faults)])
        folder = path.parent if path.is_file() else path
        files = [folder / name for name in [*parts.files, *sorted(parts.all() - {*parts.files})]]
        for file in files:
            if file not in done or (done[file].faults and not parts.is_listed):
                done[file] = _inspect(file, advance)
        with suppress(StoreError):
            # Files that were merged meanwhile are no fault.
            if read_parts(path, may_be_missing=has_list) == parts:
                return _checked(path, parts, [done[file] for file in files], is_locked)
        done = {file: each for file, each in done.items() if not each.faults}
    raise StoreError(
        f"{path} cannot be checked: another process has changed its files {TRIES} times meanwhile; "
        "wait until it is done, and try again"
    )


def _checked(path: Path, parts: Parts, inspected: list[_Inspected], is_locked: bool) -> Check:
    if not parts.is_listed:
        _check_twice(inspected)
    leftovers = []
    # What another process writes now is no leftover.
    if is_locked or is_free(path):
        found = garbage(path, parts) if path.is_dir() else []
        partial = path.with_name(path.name + PARTIAL)
        found += [partial] if not path.is_dir() and partial.is_file() else []
        what = "a write that was not finished; harmless, and --repair takes it away"
        leftovers = [Leftover(each, what) for each in found]
    with suppress(StoreError, OSError):
        what = "pooled vectors of other files, or damaged; never used, and --repair takes them away"
        leftovers += [Leftover(each, what) for each in unusable_pooled(snapshot(path, parts))]
    for each in sorted(path.iterdir()) if path.is_dir() and parts.is_listed else ():
        is_other = each.suffix.lower() in SUFFIXES and not OURS.fullmatch(each.name)
        if is_other and each.name not in parts.all():
            what = f"no part of the store, as {LIST} does not list it; import it, or take it away"
            leftovers.append(Leftover(each, what))
    clips: dict[str, set[str]] = {}
    for each in inspected:
        for pair, names in each.names.items():
            clips.setdefault(pair[0], set()).update(names)
    n_clips = sum(map(len, clips.values()))
    faults = [fault for each in inspected for fault in each.faults]
    return Check(path, faults, leftovers, len(inspected), n_clips, inspected)


def _check_twice(inspected: Sequence[_Inspected]) -> None:
    """Note clips that are in two files of a folder without a list, of which none is later."""
    owners: dict[tuple[str, str, str], _Inspected] = {}
    for each in inspected:
        for pair in each.names:
            for name in each.good(pair):
                owner = owners.setdefault((*pair, name), each)
                if owner is not each:
                    _add_clip(each, pair, name, f"it is in {owner.file.name} too")


def _add_clip(found: _Inspected, pair: Pair, name: str, what: str) -> None:
    found.bad[pair].add(name)
    found.faults.append(Fault(found.file, what, *pair, name))


def _inspect(file: Path, advance: Advance) -> _Inspected:
    """Read all that a file holds."""
    found = _Inspected(file)
    try:
        with open_file(file) as handle:
            pairs = pairs_of(handle, file)
            for dataset in tables_of(handle, file):
                with _noting(found, dataset):
                    table = read_clips(handle, file, dataset)
                    if table is not None:
                        found.tables[dataset] = table
            for pair in pairs:
                with _noting(found, *pair):
                    _inspect_rows(found, Frames(handle, file, *pair), pair)
            if not pairs and not found.tables and not found.faults:
                raise StoreError(f"{file} has no vectors and no clip table")
        advance(file.stat().st_size)
    except FileNotFoundError:
        found.faults.append(Fault(file, "it belongs to the store, but is not there"))
    except (StoreError, OSError) as error:
        found.faults.append(Fault(file, one_line(error)))
    return found


@contextmanager
def _noting(found: _Inspected, dataset: str, embedding: str = "") -> Iterator[None]:
    """Note a fault of a dataset or an embedding, and go on with the others."""
    try:
        yield
    except StoreError as error:
        found.faults.append(Fault(found.file, one_line(error), dataset, embedding))


def _inspect_rows(found: _Inspected, frames: Frames, pair: Pair) -> None:
    names, codes = frames.keys.names.tolist(), frames.keys.codes
    known = None
    with _noting(found, *pair):
        known = frames.crcs()
        frames.origin()
    crcs, lost, infinite = [0] * len(names), np.zeros(len(names), bool), np.zeros(len(names), bool)
    for start, X, is_read in _bands(frames):
        here = codes[start : start + len(X)]
        lost[here] |= not is_read
        bad = check_finite(X)
        if bad is not None:
            infinite[here[bad]] = True
        add_crcs(crcs, here, X)
    wrong = lost
    if known is not None:
        wrong = np.zeros(len(names), bool)
        if known != dict(zip(names, crcs, strict=True)):
            wrong[:] = [known.get(name) != crc for name, crc in zip(names, crcs, strict=True)]
        # Where a chunk could only be read past its checksum, rows that are right stay.
    found.names[pair], found.bad[pair] = names, set()
    for mask, what in (
        (wrong, "its vectors are not what was written"),
        (infinite & ~wrong, "its vectors have NaN or Inf"),
    ):
        for code in np.flatnonzero(mask):
            _add_clip(found, pair, names[code], what)


def _bands(frames: Frames) -> Iterator[tuple[int, _Array, bool]]:
    """Iterate over (first row, rows, whether HDF5 reads them), a few chunks at a time."""
    (n, d), chunk = frames.shape, (frames.features.chunks or (max(1, 2**16 // frames.shape[1]),))[0]
    wide = chunk * max(1, 2**20 // (chunk * d))
    buffer = np.empty((min(wide, n), d), np.float32)
    for start in range(0, n, wide):
        stop = min(start + wide, n)
        try:
            yield start, frames.read(start, stop, buffer), True
        except (OSError, RuntimeError):
            for first in range(start, stop, chunk):
                last = min(first + chunk, stop)
                try:
                    yield first, frames.read(first, last, buffer), True
                except (OSError, RuntimeError):
                    yield first, _raw_rows(frames, first, last), False


def _raw_rows(frames: Frames, start: int, stop: int) -> _Array:
    """Rows of a chunk though its checksum does not fit; zeros where it is packed."""
    array = frames.features
    with suppress(OSError, RuntimeError, ValueError, TypeError):
        _, data = array.id.read_direct_chunk((start, 0))
        size = math.prod(array.chunks) * 4
        if (
            array.dtype == np.dtype("<f4")
            and array.chunks[1] == array.shape[1]
            and array.fletcher32
            and array.compression is None
            and not array.shuffle
            and len(data) == size + 4
        ):
            X = np.frombuffer(data, "<f4", size // 4).reshape(array.chunks)
            return X[: stop - start]
    return np.zeros((stop - start, array.shape[1]), np.float32)


# ------------------------------------------------------------------ repair


@dataclass(frozen=True)
class Repair:
    """What was done to a store.

    Parameters
    ----------
    before : Check
    after : Check or None
        None where nothing of the store is left.
    quarantine : Path or None
        The folder with the files as they were and a table of what was taken out;
        None where nothing was.
    rewritten : list of Path
        Files that have the clips that are right.
    removed : list of Path
        Files of which nothing could be kept, and what dead processes had left.
    """

    before: Check
    after: Check | None
    quarantine: Path | None
    rewritten: list[Path]
    removed: list[Path]


def repair(path: str | os.PathLike[str], *, advance: Advance = _ignore) -> Repair:
    """Take what is damaged out of a store; every clip whose bytes are right stays.

    Nothing is lost.  A file with a fault goes as it is into a folder beside the
    store, with a table of the faults, and a new file with all clips that are right
    takes its place.  That is ``quarantine/<n>`` in a store that is a folder, and
    ``<name>.quarantine/<n>`` beside a file; readers never look there.

    Parameters
    ----------
    path : path-like
    advance : callable
        Told how many bytes were read.

    Returns
    -------
    Repair

    Raises
    ------
    StoreError
        If another process writes to the store, or a file cannot be written.

    See Also
    --------
    verify : Says what would be taken out.

    Notes
    -----
    Where the list of parts is damaged, it is made anew of all files in the folder, in
    the order of their times.  Of an embedding that two models have made then, only what
    the later one made counts; the rest stays in its file.
    """
    path = Path(path)
    read_missing(path)
    with writing(path):
        is_new_list = _restore_list(path)
        before = _verify(path, advance, is_locked=True)
        pooled = pooled_files(path)
        leftovers = [
            each.path for each in before.leftovers if _is_garbage(each.path) or each.path in pooled
        ]
        parts = read_parts(path)
        bad = [each for each in before.inspected if each.faults]
        rows = [fault for each in bad for fault in each.faults] + is_new_list
        quarantine = _quarantine(path, [each.file for each in bad], rows) if rows else None
        rewritten, removed = [], []
        for each in bad:
            new = each.file if not parts.is_listed else new_part(path)
            if _rewrite(each, new):
                rewritten.append(new)
                _replace(parts, each.file.name, new.name)
            else:
                removed.append(each.file)
                _replace(parts, each.file.name, None)
        if parts.is_listed and bad:
            write_parts(path, parts)
        for file in removed:
            file.unlink(missing_ok=True)
        for file in leftovers:
            with suppress(OSError):
                file.unlink()
        removed += leftovers
        is_left = bool(rewritten) or len(bad) < len(before.inspected)
        if is_left and bad and path.is_dir() and parts.is_listed:
            _tidy_tables(path)
        after = _verify(path, advance, is_locked=True) if is_left else None
    return Repair(before, after, quarantine, rewritten, removed)


def read_missing(path: Path) -> None:
    """Refuse a store that is not there, before a folder is made for its lock."""
    if not path.exists():
        read_parts(path)


def _is_garbage(path: Path) -> bool:
    return path.name.endswith(PARTIAL) or OURS.fullmatch(path.name) is not None


def _restore_list(path: Path) -> list[Fault]:
    """Make a damaged list anew, and return the fault."""
    try:
        read_parts(path)
    except StoreError as error:
        if not path.is_dir() or not os.path.lexists(path / LIST):
            raise
        files = [each for each in path.iterdir() if each.suffix.lower() in SUFFIXES]
        files = [each for each in files if each.is_file()]
        files.sort(key=lambda each: (each.stat().st_mtime_ns, each.name))
        parts = Parts([each.name for each in files])
        models: dict[Pair, Any] = {}
        for file in files[::-1]:
            with suppress(StoreError), open_file(file) as handle:
                for pair in pairs_of(handle, file):
                    origin = Frames(handle, file, *pair).origin()
                    model = None if origin is None else dict(origin.model)
                    if models.setdefault(pair, model) != model:
                        parts.hide(file.name, *pair)
        kept = _quarantine(path, [path / LIST], [Fault(path / LIST, one_line(error))])
        write_parts(path, parts)
        return [Fault(path / LIST, f"{one_line(error)}; it was made anew, see {kept}")]
    return []


def _quarantine(path: Path, files: Iterable[Path], faults: Sequence[Fault]) -> Path:
    """Copy files as they are into a folder of their own, with a table of what is wrong."""
    above = path.with_name(f"{path.name}.{QUARANTINE}") if is_file_path(path) else path / QUARANTINE
    number = 1
    while (above / str(number)).exists():
        number += 1
    folder = above / str(number)
    try:
        folder.mkdir(parents=True)
        for file in files:
            if file.is_file():
                shutil.copy2(file, folder / file.name)
        columns = ("dataset", "embedding", "clip", "what")
        rows = [[each.file.name, *(getattr(each, name) for name in columns)] for each in faults]
        frame = pd.DataFrame(rows, columns=["file", *columns])
        with replacing(folder / TAKEN) as partial:
            csv_safe(frame).to_csv(partial, index=False)
        sync_folder(folder)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, StoreError):
            raise
        raise StoreError(
            f"{folder} cannot be written ({error.strerror or error}); nothing was changed, so "
            "check the folder, its permissions and the disk"
        ) from error
    return folder


def _replace(parts: Parts, old: str, new: str | None) -> None:
    """Put a new file in the place of an old one, with what is hidden in it."""
    for names in (parts.files, *parts.staged.values()):
        if old in names:
            at = names.index(old)
            names[at : at + 1] = [] if new is None else [new]
    hidden = parts.hidden.pop(old, None)
    if hidden and new is not None:
        parts.hidden[new] = hidden


def _rewrite(found: _Inspected, target: Path) -> bool:
    """Write a file with what is right in another one; False where there is nothing."""
    good = {pair: found.good(pair) for pair in found.names}
    good = {pair: names for pair, names in good.items() if names}
    datasets = {pair[0] for pair in good}
    if not good and not (found.tables and not found.names):
        return False
    tables = {}
    for dataset, table in found.tables.items():
        held = {name for pair, names in good.items() if pair[0] == dataset for name in names}
        lost = {n for pair in found.bad if pair[0] == dataset for n in found.bad[pair]} - held
        if dataset in datasets or not found.names:
            tables[dataset] = table.select(np.flatnonzero(~table.frame.index.isin(list(lost))))
    with open_file(found.file) as handle:
        vectors = [_good_rows(Frames(handle, found.file, *pair), pair, good[pair]) for pair in good]
        write_file(target, vectors, tables)
    return True


def _good_rows(frames: Frames, pair: Pair, names: Sequence[str]) -> Vectors:
    keep = np.isin(frames.keys.names.astype(str), np.array(names, dtype=str))
    mask = keep[frames.keys.codes]

    def blocks() -> Iterator[_Array]:
        for start, X, _ in _bands(frames):
            here = mask[start : start + len(X)]
            if here.any():
                yield X[here]

    origin = None
    with suppress(StoreError):
        origin = frames.origin()
    keys = encode(frames.keys.names)[frames.keys.codes[mask]]
    if origin is None:
        return Vectors(*pair, keys, blocks())
    sources = origin.sources[origin.sources["clip_id"].isin(list(names))]
    return Vectors(*pair, keys, blocks(), origin.model, sources)


def _tidy_tables(path: Path) -> None:
    """Take clips that have no vectors any more out of the clip tables."""
    now, tables = look(path, may_be_missing=True), {}
    for dataset in now.datasets:
        names: dict[str, None] = {}
        for pair in now.index:
            if pair[0] == dataset:
                names |= names_of(now.index[pair], pair)
        table = now.clips(dataset)
        if table is not None and set(names) != set(table.clip_id):
            tables[dataset] = known_clips(table, np.array(list(names), dtype=object), dataset)
    if tables:
        commit(now, [], tables)
