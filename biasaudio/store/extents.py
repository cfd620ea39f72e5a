"""Where the values of arrays lie in an HDF5 file, so that they can be read without HDF5.

HDF5 believes what its headers say, and where these are damaged it may give other
numbers.  What was noted of them when the file was sealed stays true.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, pairwise, product, repeat
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

__all__ = ["Extent", "find_extents", "gaps", "read_array", "read_bands"]

BAND_BYTES = 2**22
_DTYPE = re.compile(r"[<>|][fiubS]\d{1,9}")
_PLAIN: tuple[list[int], ...] = ([], [h5py.h5z.FILTER_FLETCHER32])


@dataclass(frozen=True)
class Extent:
    """Say where the values of an array lie.

    Parameters
    ----------
    dtype : str
        As numpy writes it; empty where only HDF5 can read the values.
    shape : sequence of int
    chunks : sequence of int
        Empty where the array is one piece.
    places : sequence of (offset, size, n)
        Pieces of the file, in the order of the chunks: n chunks of ``size`` bytes
        each, one after another.
    """

    dtype: str
    shape: list[int]
    chunks: list[int]
    places: list[list[int]]

    @classmethod
    def from_document(cls, document: Mapping[str, Any], size: int) -> Extent:
        """Return an extent that lies in a file of this size; ValueError if it does not."""
        found = cls(**document)
        numbers = [*found.shape, *found.chunks, *chain.from_iterable(found.places)]
        if not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError("no places")
        if any(at + n_bytes * n > size for at, n_bytes, n in found.places):
            raise ValueError("no places")
        if found.dtype and not _DTYPE.fullmatch(found.dtype):
            raise ValueError("no dtype")
        if found.dtype and not found._fits(np.dtype(found.dtype)):
            raise ValueError("no places")
        return found

    def _fits(self, dtype: np.dtype[Any]) -> bool:
        if dtype.kind not in "fiubS" or not self.shape or not dtype.itemsize:
            return False
        if not self.chunks:
            n_bytes = math.prod(self.shape) * dtype.itemsize
            return [each[1:] for each in self.places] == [[n_bytes, 1]]
        n_bytes = math.prod(self.chunks) * dtype.itemsize
        if len(self.chunks) != len(self.shape) or n_bytes == 0:
            return False
        n_chunks = math.prod(-(-n // step) for n, step in zip(self.shape, self.chunks))
        sizes = {each[1] for each in self.places}
        return sum(each[2] for each in self.places) == n_chunks and sizes <= {n_bytes, n_bytes + 4}

    def offsets(self) -> Iterator[int]:
        """Iterate over the places of the chunks."""
        for at, size, n in self.places:
            yield from range(at, at + size * n, size)


def find_extents(path: Path) -> dict[str, Extent]:
    """Return where the values of all arrays of a file lie.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict
        From the place of each array in the file.
    """
    found: dict[str, Extent] = {}

    def note(name: str, member: Any) -> None:
        if isinstance(member, h5py.Dataset) and member.shape and 0 not in member.shape:
            found[f"/{name}"] = _extent(member)

    with h5py.File(path, "r") as handle:
        handle.visititems(note)
    return found


def _extent(array: h5py.Dataset) -> Extent:
    plist = array.id.get_create_plist()
    codes = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    is_plain = codes in _PLAIN and array.dtype.kind in "fiubS"
    is_plain = is_plain and array.id.get_type().equal(h5py.h5t.py_create(array.dtype))
    places: list[list[int]] = []
    if array.chunks is None:
        at = None if array.external or array.is_virtual else array.id.get_offset()
        places = [] if at is None else [[at, array.id.get_storage_size(), 1]]
    else:
        chunks: list[Any] = []
        array.id.chunk_iter(chunks.append)
        for chunk in sorted(chunks):
            last = places[-1] if places else [0, 0, 0]
            if last[1] == chunk.size and last[0] + last[1] * last[2] == chunk.byte_offset:
                last[2] += 1
            else:
                places.append([int(chunk.byte_offset), int(chunk.size), 1])
        is_plain = is_plain and not any(chunk.filter_mask for chunk in chunks)
    shape, steps = list(map(int, array.shape)), list(map(int, array.chunks or ()))
    extent = Extent(array.dtype.str, shape, steps, places)
    return extent if is_plain and extent._fits(array.dtype) else Extent("", shape, steps, places)


def gaps(extents: Mapping[str, Extent], size: int) -> list[tuple[int, int]]:
    """Return the stretches of a file that hold no values, which are those of HDF5 itself.

    Parameters
    ----------
    extents : mapping
    size : int
        Of the file.

    Returns
    -------
    list of (start, stop)
    """
    runs = sorted(
        (at, at + n_bytes * n) for each in extents.values() for at, n_bytes, n in each.places
    )
    ends = [(0, 0), *runs, (size, size)]
    return [(before[1], after[0]) for before, after in pairwise(ends) if before[1] < after[0]]


def read_bands(stream: BinaryIO, extent: Extent) -> Iterator[NDArray[Any]]:
    """Iterate over the rows of an array in blocks, read without HDF5.

    Parameters
    ----------
    stream : file object
    extent : Extent
        With a dtype.

    Yields
    ------
    np.ndarray [shape=(<=rows, ...)]
        Fewer rows than there should be where the file ends before.
    """
    dtype, (n, *others) = np.dtype(extent.dtype), extent.shape
    row_bytes = math.prod(others) * dtype.itemsize
    if not extent.chunks or extent.chunks[1:] == others:
        most = extent.chunks[0] if extent.chunks else n
        offsets = extent.offsets() if extent.chunks else repeat(extent.places[0][0])
        step = min(most, max(1, BAND_BYTES // row_bytes))
        for first in range(0, n, most):
            at = next(iter(offsets))
            for start in range(0, min(most, n - first), step):
                rows = min(step, most - start, n - first - start)
                data = _read(stream, at + start * row_bytes, rows * row_bytes)
                yield np.frombuffer(data, dtype).reshape(rows, *others)
        return
    offsets = extent.offsets()
    corners = [range(0, length, step) for length, step in zip(others, extent.chunks[1:])]
    for first in range(0, n, extent.chunks[0]):
        rows = min(extent.chunks[0], n - first)
        band = np.empty((rows, *others), dtype)
        for corner in product(*corners):
            data = _read(stream, next(offsets), math.prod(extent.chunks) * dtype.itemsize)
            part = np.frombuffer(data, dtype).reshape(extent.chunks)
            across = [slice(at, at + step) for at, step in zip(corner, extent.chunks[1:])]
            target = band[(slice(None), *across)]
            target[...] = part[tuple(map(slice, target.shape))]
        yield band


def _read(stream: BinaryIO, at: int, n: int) -> bytes:
    stream.seek(at)
    data = stream.read(n)
    # What was cut off is read as zeros, which fit no checksum.
    return data + bytes(n - len(data))


def read_array(stream: BinaryIO, extent: Extent) -> NDArray[Any]:
    """Return an array, read without HDF5.

    Parameters
    ----------
    stream : file object
    extent : Extent
        With a dtype.
    """
    return np.concatenate(list(read_bands(stream, extent)))
