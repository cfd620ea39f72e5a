"""One npz file of plain arrays: written whole or not at all, read with distrust."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray

from biasaudio._files import open_npz, write_npz
from biasaudio.errors import DataError

__all__ = ["digest", "read_arrays", "replacing", "write_arrays"]

_Array = NDArray[Any]
_PARTIAL = ".partial"


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
        write_npz(stream, arrays)


def read_arrays(path: Path) -> dict[str, _Array]:
    """Return the arrays of a file that `write_arrays` wrote.

    Every byte of every member is read, so that its checksum is compared.

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
        with open_npz(path) as archive:
            if archive.is_compressed:
                raise ValueError("a member is compressed")
            return {name: _plain(archive.read(name)) for name in archive.names}
    except ValueError as error:
        raise DataError(
            f"{what}, or is cut off or damaged ({error}); copy it or save the correction again"
        ) from error


def _plain(array: _Array) -> _Array:
    if array.dtype.kind not in "biufU":
        raise ValueError(f"an array of {array.dtype} and shape {array.shape}")
    return array


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
