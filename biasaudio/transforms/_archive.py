"""One npz file of plain arrays: written whole or not at all, read with distrust."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from biasaudio.errors import DataError

__all__ = ["digest", "read_arrays", "replacing", "write_arrays"]

_Array = NDArray[Any]
_PARTIAL = ".partial"
# What zipfile and numpy raise on damaged bytes; some are bugs of theirs, none is ours.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ValueError,
    KeyError,
    EOFError,
    OSError,
    RuntimeError,
    OverflowError,
    MemoryError,
    SyntaxError,
    TypeError,
)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a stream whose bytes take the place of ``path`` once all are written."""
    partial = path.with_name(path.name + _PARTIAL)
    try:
        with partial.open("wb") as stream:
            yield stream
            stream.flush()
            # Without this a power cut may leave the new name with none of the data.
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror or error}); nothing was changed, check "
            "the folder, its permissions and the disk"
        ) from error
    finally:
        # Where the folder itself is not one, there is nothing to remove either.
        if partial.is_file():
            partial.unlink()


def write_arrays(path: Path, arrays: Mapping[str, _Array]) -> None:
    """Write the arrays, uncompressed, as `numpy.load` reads them."""
    with replacing(path) as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def read_arrays(path: Path) -> dict[str, _Array]:
    """Return the arrays of a file that `write_arrays` wrote.

    Every byte of every member is read, so that its checksum is compared, and
    nothing is allocated that the file does not hold.

    Raises
    ------
    DataError
        If the file is missing, empty, cut off, damaged, or another kind.
    """
    what = f"{path} is not a correction saved by biasaudio"
    if not path.is_file():
        raise DataError(f"{path} is not a file that is there; check the path")
    try:
        with path.open("rb") as stream:
            start = stream.read(8)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check it") from error
    if not start:
        raise DataError(f"{path} is empty (0 bytes); save the correction again")
    if start[:1] == b"\x80":
        raise DataError(
            f"{what} but a pickle, which could run code and is never loaded; refit and save"
        )
    if start[:4] != b"PK\x03\x04":
        raise DataError(f"{what}, it starts with {start!r}; give a file that save wrote")
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_sizes(members, path.stat().st_size)
            return {_name(m.filename): _parse(archive.read(m)) for m in members}
    except _DAMAGE as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{what}, or is cut off or damaged ({text}); copy it or save the correction again"
        ) from error


def _check_sizes(members: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse what would become larger than the file when it is read."""
    names = [member.filename for member in members]
    if len(set(names)) < len(names):
        raise ValueError("a name occurs twice")
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.file_size > size:
            raise ValueError(f"{member.filename!r} is compressed")


def _name(filename: str) -> str:
    if not filename.endswith(".npy"):
        raise ValueError(f"{filename!r} is not an array")
    return filename.removesuffix(".npy")


def _parse(data: bytes) -> _Array:
    """Return the array of npy bytes; `numpy.load` would believe any shape and not use all."""
    stream = io.BytesIO(data)
    version = npy.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"npy version {version}")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, is_fortran, dtype = read(stream)
    body = data[stream.tell() :]
    if dtype.kind not in "biufU" or any(length < 0 for length in shape):
        raise ValueError(f"an array of {dtype} and shape {shape}")
    if len(body) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{len(body)} bytes for {dtype} and shape {shape}")
    array: _Array = np.frombuffer(body, dtype) if body else np.empty(math.prod(shape), dtype)
    return array.reshape(shape, order="F" if is_fortran else "C").copy(order="K")


def digest(header: Mapping[str, Any], arrays: Mapping[str, _Array]) -> str:
    """Return the sha256 of everything in a file but the digest itself."""
    total = hashlib.sha256()
    for name in sorted(set(arrays) - {"header"}):
        array = arrays[name]
        total.update(f"{name}\n{array.dtype.str}\n{array.shape}\n".encode())
        total.update(array.tobytes())
    rest = {name: value for name, value in header.items() if name != "sha256"}
    total.update(json.dumps(rest, sort_keys=True).encode())
    return total.hexdigest()
