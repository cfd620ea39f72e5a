"""One HDF5 file, written whole, read back, and only then put in its place."""

from __future__ import annotations

import io
import json
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasaudio._files import replacing
from biasaudio._text import printable
from biasaudio.datasets.table import ClipTable
from biasaudio.errors import DataError, StoreError
from biasaudio.store.file import (
    CLIPS,
    MAX_NAME_BYTES,
    MODEL,
    SOURCE,
    VERSION,
    Frames,
    Keys,
    add_crcs,
    check_finite,
    member,
    name_clips,
    open_file,
    pairs_of,
    reading,
)

__all__ = ["Vectors", "copying", "encode", "write_file"]

# Metadata of this version of HDF5 (2016) have checksums: behind a damaged header older
# ones give other numbers without a word.
LIBVER = ("v110", "v110")
CHUNK_VALUES, BLOCK_VALUES = 2**16, 2**21
Pair = tuple[str, str]
_Array = NDArray[Any]


@dataclass(eq=False)
class Vectors:
    """What goes to ``/<dataset>/<embedding>`` of a file.

    Parameters
    ----------
    dataset, embedding : str
    keys : np.ndarray of bytes [shape=(n_rows,)]
        The clip of each row.
    blocks : iterable of np.ndarray [shape=(<=n_rows, d), dtype=float32]
        The rows, read once.
    model : mapping, optional
        What made the vectors.
    sources : pd.DataFrame, optional
        Columns clip_id, path and sha256 of the audio.
    crcs : mapping of str to int
        CRC-32 of the rows of a clip, where it is known: other rows are not written.
    """

    dataset: str
    embedding: str
    keys: NDArray[np.bytes_]
    blocks: Iterable[_Array]
    model: Mapping[str, Any] | None = None
    sources: pd.DataFrame | None = None
    crcs: Mapping[str, int] = field(default_factory=dict)

    @property
    def pair(self) -> Pair:
        """Dataset and embedding."""
        return self.dataset, self.embedding


def encode(texts: Any) -> NDArray[np.bytes_]:
    """Strings as fixed-length UTF-8 bytes.

    Parameters
    ----------
    texts : array_like of str [shape=(n,)]

    Returns
    -------
    np.ndarray [shape=(n,), dtype=S]

    Raises
    ------
    DataError
        If a string is longer than 4,096 bytes, or holds control characters.
    """
    texts = np.asarray(texts, dtype=object)
    found = texts.tolist()
    # All at once, as most names are plain.
    whole = "".join(found)
    is_short = max(map(len, found), default=0) <= MAX_NAME_BYTES // 4
    if not whole.isprintable() or not is_short:
        for text in found:
            if printable(text) != text or len(text.encode()) > MAX_NAME_BYTES:
                raise DataError(
                    f"the name {text[:200]!r} has {len(text):,} characters; at most "
                    f"{MAX_NAME_BYTES:,} bytes are kept, without NUL and other control characters, "
                    "so shorten it or remove these"
                )
    # At once, which is ten times as fast as numpy; no name has a line feed.
    return np.array("\n".join(found).encode().split(b"\n")[: len(found)], dtype=bytes)


# ------------------------------------------------------------------ what HDF5 must not meet


class _Tolerant(io.FileIO):
    """File that keeps the first thing that goes wrong, for it to be raised at the end.

    HDF5 crashes the process when it is told of a write that failed (h5py #914), and goes
    on with nonsense when an exception passes through it, so it is told of none.
    """

    failure: BaseException | None = None

    def write(self, data: Any) -> int:
        """Write all of the data, or nothing more once anything has failed."""
        try:
            left = memoryview(data).cast("B")
            while len(left) and self.failure is None:
                left = left[super().write(left) :]
        except BaseException as error:
            self.failure = self.failure or error
        return len(data)

    def truncate(self, size: int | None = None) -> int:
        """Set the size, if nothing has failed."""
        try:
            if self.failure is None:
                return super().truncate(size)
        except BaseException as error:
            self.failure = self.failure or error
        return size or 0

    def readinto(self, buffer: Any) -> int:
        """Read, or give zeros once anything has failed."""
        n = 0
        try:
            n = super().readinto(buffer) or 0
        except BaseException as error:
            self.failure = self.failure or error
        if self.failure is not None:
            memoryview(buffer).cast("B")[n:] = bytes(len(buffer) - n)
            return len(buffer)
        return n

    def check(self) -> None:
        """Raise what has failed."""
        if self.failure is not None:
            raise self.failure


@contextmanager
def _deferred_interrupts(stream: _Tolerant) -> Iterator[None]:
    """Let Ctrl-C stop a write between two calls of HDF5, never inside one.

    Python raises KeyboardInterrupt wherever it is, also in a callback of HDF5, which
    swallows it; so the handler only notes it, and `_Tolerant.check` raises it.
    """
    before = signal.getsignal(signal.SIGINT)
    is_ours = threading.current_thread() is threading.main_thread() and callable(before)

    def note(number: int, frame: FrameType | None) -> None:
        stream.failure = stream.failure or KeyboardInterrupt()

    if is_ours:
        signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, before)


# ------------------------------------------------------------------ writing


def write_file(
    path: Path,
    vectors: Iterable[Vectors],
    clips: Mapping[str, ClipTable],
    *,
    copy: Callable[[h5py.File], object] | None = None,
    copied: Mapping[Pair, Mapping[str, int]] | None = None,
    advance: Callable[[int], object] = lambda _: None,
) -> None:
    """Write a file whole or not at all.

    When all is written, the closed file is opened again, the rows of every clip are
    read, and their CRC-32 is compared with that of the rows that were given.

    Parameters
    ----------
    path : Path
    vectors : iterable of Vectors
    clips : mapping of str to ClipTable
        Clip table of each dataset.
    copy : callable, optional
        Puts more into the open file; see `copying`.
    copied : mapping, optional
        From (dataset, embedding) that is copied to the CRC-32 of each clip.
    advance : callable
        Told how many rows were written.

    Raises
    ------
    StoreError
        If the file cannot be written, or is not what was written.
    DataError
        If rows have NaN or Inf, or a name cannot be kept.
    """
    with replacing(path) as partial:
        expected: dict[Pair, Mapping[str, int]] = dict(copied or {})
        with _Tolerant(partial, "w+") as stream, _deferred_interrupts(stream):
            try:
                with h5py.File(stream, "w", libver=LIBVER) as handle:
                    handle.attrs["format"] = np.bytes_("biasaudio-store")
                    handle.attrs["format_version"] = VERSION
                    if copy is not None:
                        copy(handle)
                    stream.check()
                    for each in vectors:
                        expected[each.pair] = _write_vectors(handle, each, stream, advance)
                    for dataset, table in clips.items():
                        _write_clips(handle.require_group(dataset), table)
            finally:
                # What went wrong first, in place of what HDF5 makes of it.
                stream.check()
        _compare(partial, expected)


def _write_vectors(
    handle: h5py.File, given: Vectors, stream: _Tolerant, advance: Callable[[int], object]
) -> dict[str, int]:
    """Write rows as they come, and all that is known of them; return the CRC-32 of each clip."""
    where = f"/{given.dataset}/{given.embedding}"
    group, keys = handle.create_group(where), Keys.of(given.keys, where)
    crcs, at, features = [0] * len(keys.names), 0, None
    for X in _pieces(given.blocks, len(keys.codes)):
        n, d = len(keys.codes), X.shape[1]
        if features is None:
            features = group.create_dataset(
                "features", (n, d), "<f4", chunks=(_chunk_rows(n, d), d), fletcher32=True
            )
        here = keys.codes[at : at + len(X)]
        bad = check_finite(X)
        if bad is not None:
            raise DataError(
                f"{where} has NaN or Inf in {bad.sum()} rows, of "
                f"{name_clips(keys.names[here[bad]])}; leave these "
                "clips out or compute their vectors again"
            )
        features[at : at + len(X)] = X
        add_crcs(crcs, here, X)
        at += len(X)
        stream.check()
        advance(len(X))
    if at != len(keys.codes):
        raise StoreError(f"{where} has {at} rows, but {len(keys.codes)} keys; nothing was changed")
    found = dict(zip(keys.names.tolist(), crcs, strict=True))
    for name, crc in found.items():
        if given.crcs.get(name, crc) != crc:
            raise damaged(name, where)
    _put(group, "keys", given.keys)
    if given.model is not None:
        group.attrs[MODEL] = np.bytes_(json.dumps(dict(given.model), sort_keys=True).encode())
    source = pd.DataFrame({"clip_id": keys.names, "crc32": np.array(crcs, np.uint32)})
    if given.sources is not None:
        source = source.merge(given.sources, on="clip_id", how="left").fillna("")
    folder = group.create_group(SOURCE)
    for name in source:
        _put(folder, str(name), source[name].to_numpy())
    return found


def _chunk_rows(n: int, d: int) -> int:
    """Rows of a chunk of at most 256 kB, such that the last one is filled as far as can be."""
    most = max(1, min(n, CHUNK_VALUES // d))
    return min(range(most, most // 2, -1), key=lambda rows: -n % rows)


def damaged(clip: str, where: str) -> StoreError:
    """The error that vectors are not what was written."""
    return StoreError(
        f"the vectors of clip {clip!r} of {where} are not what was written; run 'biasaudio store "
        "verify', which names all such clips, and --repair"
    )


def _pieces(blocks: Iterable[_Array], n: int) -> Iterator[_Array]:
    """The same rows, at most 8 MB at a time, which stay in the cache of the processor."""
    for block in blocks:
        step = _chunk_rows(n, block.shape[1])
        step *= max(1, BLOCK_VALUES // (step * block.shape[1]))
        for start in range(0, len(block), step):
            yield np.ascontiguousarray(block[start : start + step], dtype="<f4")


def _put(group: h5py.Group, name: str, values: Any) -> None:
    values = np.asarray(values)
    if values.dtype == object:
        values = encode(values)
    group.create_dataset(name, data=values, chunks=True, fletcher32=True)


def _write_clips(group: h5py.Group, table: ClipTable) -> None:
    folder = group.create_group(CLIPS)
    # A clip that is a group of its own says nothing of its group.
    group_of = np.where(table.group == table.clip_id, "", table.group)
    texts = {"clip_id": table.clip_id, "split": table.split, "genre": table.genre}
    for name, column in {**texts, "group": group_of}.items():
        _put(folder, name, column)
    if table.label_names:
        _put(folder, "label_names", np.array(table.label_names, dtype=object))
        for name in ("labels", "mask"):
            _put(folder, name, getattr(table, name).to_numpy(dtype=np.uint8))


def copying(
    old: Path, handle: h5py.File, vectors: Iterable[Pair], tables: Iterable[str]
) -> Callable[[h5py.File], None]:
    """A function that copies a file into another one, chunks as they are, with their checksums.

    Parameters
    ----------
    old : Path
    handle : h5py.File
        The old file.
    vectors : iterable of (dataset, embedding)
        What is not copied.
    tables : iterable of str
        Datasets whose clip table is not copied.
    """
    skipped = {f"{dataset}/{name}" for dataset, name in vectors} | {f"{d}/{CLIPS}" for d in tables}

    def copy(target: h5py.File) -> None:
        with reading(old, "what is copied"):
            for name in handle:
                above = member(handle, name, old)
                if not isinstance(above, h5py.Group) or not any(
                    each.startswith(f"{name}/") for each in skipped
                ):
                    handle.copy(above, target, name)
                    continue
                group = target.create_group(name)
                for inner in above:
                    if f"{name}/{inner}" not in skipped:
                        handle.copy(member(above, inner, old), group, inner)

    return copy


# ------------------------------------------------------------------ reading back


def crcs_of(frames: Frames) -> dict[str, int]:
    """CRC-32 of the rows of each clip, as HDF5 reads them now."""
    crcs = [0] * len(frames.keys.names)
    for start, X in frames.blocks():
        add_crcs(crcs, frames.keys.codes[start : start + len(X)], X)
    return dict(zip(frames.keys.names.tolist(), crcs, strict=True))


def _compare(path: Path, expected: Mapping[Pair, Mapping[str, int]]) -> None:
    """Read all vectors of a closed file, those that were copied too, and compare them."""
    with open_file(path) as handle:
        there = pairs_of(handle, path)
        for pair in dict.fromkeys([*expected, *there]):
            frames = Frames(handle, path, *pair)
            known = expected.get(pair)
            known = frames.crcs() if known is None else known
            found = crcs_of(frames)
            if known is not None and found != known:
                wrong = [name for name in {**known, **found} if known.get(name) != found.get(name)]
                raise damaged(wrong[0], frames.where)
