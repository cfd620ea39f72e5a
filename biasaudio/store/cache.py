"""Keep pooled tables beside the store, and never give one of other data.

FORMAT.md says what such a file holds.  Nothing of it is used before its checksum
fits, and nothing where the fingerprint of the features and keys is another one.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from biasaudio.errors import StoreError
from biasaudio.store.chunks import Rows
from biasaudio.store.frames import Frames
from biasaudio.store.heap import read_places
from biasaudio.store.opening import guard_read
from biasaudio.store.schema import PARTIAL, SUFFIXES

__all__ = ["Pooled", "clear_cache", "data_fingerprint", "load_pooled", "save_pooled"]

FOLDER_SUFFIX = ".pooled"
SUFFIX = ".table"
# The checksum starts with it, so a file of another version counts as damaged.  To be
# raised when the same frames give other numbers, or the file gets another layout.
VERSION = b"biasaudio-pooled 1"
DIGEST_BYTES = hashlib.sha256().digest_size
ALIGNMENT = 64
# Arrays up to this size are read whole for the fingerprint, others at this many rows.
SMALL_BYTES = 2**20
SAMPLED_ROWS = 64


@dataclass(frozen=True)
class Pooled:
    """Hold one vector for each clip of an embedding of a dataset.

    Parameters
    ----------
    names : np.ndarray of str [shape=(n_clips,)]
        The clips, in the order of their first frames.
    X : np.ndarray [shape=(n_clips, d), dtype=float32]
    is_bad : np.ndarray of bool [shape=(n_clips,)]
        Clips with a frame that is NaN or Inf.
    """

    names: NDArray[np.object_]
    X: NDArray[np.float32]
    is_bad: NDArray[np.bool_]


def data_fingerprint(frames: Frames) -> str | None:
    """Return what changes when the features or the keys change.

    Parameters
    ----------
    frames : Frames

    Returns
    -------
    str or None
        None where the data may change unseen: other files, or one that is open
        for writing.
    """
    if frames.descriptor is None:
        return None
    digest = hashlib.sha256()
    for array in (frames.features, frames.keys):
        if array.file.id != frames.features.file.id or array.is_virtual or array.external:
            return None
        with guard_read(frames.path, str(array.name)):
            seen = _block_checksums(array, frames.descriptor)
            if seen is None:
                seen = _stamp(frames.descriptor) + _sampled_bytes(array, frames.path)
        digest.update(f"{array.shape} {array.dtype} {len(seen)} ".encode() + seen)
    return digest.hexdigest()


def _block_checksums(array: h5py.Dataset, descriptor: int) -> bytes | None:
    """Return the stored checksum of each chunk, or None where some have none."""
    # To Fletcher-32 words of 0 and of 65535 are the same: 0 and -1, of integers.
    if array.dtype.kind not in "fS":
        return None
    plist = array.id.get_create_plist()
    last = plist.get_nfilters() - 1
    if last < 0 or plist.get_filter(last)[0] != h5py.h5z.FILTER_FLETCHER32:
        return None
    chunks: list[Any] = []
    array.id.chunk_iter(chunks.append)
    if any(chunk.filter_mask for chunk in chunks):
        return None
    width = 4
    ends = [chunk.byte_offset + chunk.size - width for chunk in sorted(chunks)]
    places = repr([chunk.chunk_offset for chunk in sorted(chunks)]).encode()
    return places + b"".join(os.pread(descriptor, width, end) for end in ends)


def _stamp(descriptor: int) -> bytes:
    # The time of change cannot be set back, as that of modification can.
    stat = os.fstat(descriptor)
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} ".encode()


def _sampled_bytes(array: h5py.Dataset, path: Path) -> bytes:
    if array.dtype == object:
        return read_places(array, path).tobytes()
    n, rows = len(array), Rows(array)
    is_small = array.size * array.dtype.itemsize <= SMALL_BYTES
    step, length = (n, n) if is_small else (-(-n // SAMPLED_ROWS), 1)
    out = np.empty((length, *array.shape[1:]), array.dtype)
    found = []
    for start in range(0, n, step):
        rows.read(start, out)
        found.append(out.tobytes())
    return b"".join(found)


def _path(frames: Frames, pool: str) -> Path:
    name = ".".join([*frames.where.strip("/").split("/"), pool]) + SUFFIX
    return frames.path.with_name(frames.path.name + FOLDER_SUFFIX) / name


def _about(frames: Frames, pool: str, fingerprint: str) -> dict[str, Any]:
    return {"where": frames.where, "pool": pool, "fingerprint": fingerprint}


def _checksum(*parts: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(VERSION)
    for part in parts:
        digest.update(part)
    return digest.digest()


def load_pooled(frames: Frames, pool: str) -> Pooled | None:
    """Return the table that was pooled of just these data, if there is one.

    Parameters
    ----------
    frames : Frames
    pool : str

    Returns
    -------
    Pooled or None
        None also where the file is damaged or cannot be read.
    """
    path = _path(frames, pool)
    try:
        data = path.read_bytes() if path.is_file() else b""
    except OSError:
        return None
    content = memoryview(data)[DIGEST_BYTES:]
    if _checksum(content) != data[:DIGEST_BYTES]:
        return None
    fingerprint = data_fingerprint(frames)
    if fingerprint is None:
        return None
    # A stranger may have made this file too, with a checksum that fits.
    try:
        end = data.index(b"\n", DIGEST_BYTES) + 1
        held = json.loads(data[DIGEST_BYTES:end])
        if held.pop("about") != _about(frames, pool, fingerprint):
            return None
        names = np.array([str(name) for name in held["names"]], dtype=object)
        is_bad = np.zeros(len(names), dtype=bool)
        is_bad[held["bad"]] = True
        width = frames.shape[1] * (2 if pool == "mean+std" else 1)
        X = np.frombuffer(data, dtype="<f4", offset=end).reshape(len(names), width)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return None
    return Pooled(names, X, is_bad)


def save_pooled(frames: Frames, pool: str, pooled: Pooled, fingerprint: str) -> None:
    """Keep a table beside the store; where that cannot be written, do nothing.

    Parameters
    ----------
    frames : Frames
    pool : str
    pooled : Pooled
    fingerprint : str
        What `data_fingerprint` returned before the data were read.
    """
    held = {
        "about": _about(frames, pool, fingerprint),
        "names": pooled.names.tolist(),
        "bad": np.flatnonzero(pooled.is_bad).tolist(),
    }
    line = json.dumps(held).encode()
    line += b" " * (-(DIGEST_BYTES + len(line) + 1) % ALIGNMENT) + b"\n"
    X = np.ascontiguousarray(pooled.X, dtype="<f4")
    path = _path(frames, pool)
    partial = path.with_name(f"{uuid.uuid4().hex}{PARTIAL}")
    with suppress(OSError):
        path.parent.mkdir(exist_ok=True)
        try:
            with partial.open("xb") as stream:
                stream.write(_checksum(line, X.data) + line)
                stream.write(X.data)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def clear_cache(path: Path) -> list[dict[str, Any]]:
    """Remove the tables that are kept beside a store.

    Parameters
    ----------
    path : Path
        The store: a file or a folder.

    Returns
    -------
    list of dict
        Path and bytes of each file that was removed.

    Raises
    ------
    StoreError
        If one cannot be removed.
    """
    beside = path.with_name(path.name + FOLDER_SUFFIX)
    inside = [
        each
        for each in path.glob(f"*{FOLDER_SUFFIX}")
        if Path(each.stem).suffix.lower() in SUFFIXES
    ]
    removed = []
    for folder in sorted(inside) if path.is_dir() else [beside]:
        found = sorted(folder.glob("*")) if folder.is_dir() else []
        for file in found:
            if file.suffix not in (SUFFIX, PARTIAL):
                continue
            try:
                removed.append({"path": str(file), "bytes": file.stat().st_size})
                file.unlink()
            except OSError as error:
                raise StoreError(
                    f"{file} cannot be removed ({error.strerror or error}); "
                    "check the permissions of its folder"
                ) from error
        with suppress(OSError):
            folder.rmdir()
    return removed
