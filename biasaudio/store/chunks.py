"""Read the chunks of arrays of strangers, and decode them here.

HDF5 does not compare what a chunk decodes to with what it should be: from a
harmful file it reads beyond its memory, or takes all that there is.  Where a header
is damaged, it may find no chunk, and gives zeros.
"""

from __future__ import annotations

import math
import zlib
from itertools import pairwise, product
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

__all__ = ["FILTERS", "Rows"]

FILTERS = {
    h5py.h5z.FILTER_DEFLATE: "gzip",
    h5py.h5z.FILTER_SHUFFLE: "shuffle",
    h5py.h5z.FILTER_FLETCHER32: "fletcher32",
}
_SUM_BYTES = 4
# Of anything that gzip makes; one stored as it is may be a single byte.
_LEAST_BYTES = 1
# So many stay in the processor's cache as float64, in which their sums are exact.
_WORDS = 2**13
_WEIGHTS = np.arange(_WORDS, 0, -1.0)


class Rows:
    """Read rows of an array, once it is known that all its chunks are there.

    Parameters
    ----------
    array : h5py.Dataset [shape=(n, ...)]
        Checked by `check_array`.
    dtype : np.dtype
        What is stored, where that is not what h5py makes of it.

    Attributes
    ----------
    offsets : list of int or None
        The place of each chunk in the file, in the order of the rows; None
        where the array has no chunks.

    Raises
    ------
    ValueError
        If values are missing, or chunks have a wrong size, or lie upon each other.
    """

    def __init__(self, array: h5py.Dataset, dtype: np.dtype[Any] | None = None) -> None:
        self._array, self._dtype = array, dtype or array.dtype
        plist = array.id.get_create_plist()
        self._filters = [plist.get_filter(i) for i in range(plist.get_nfilters())]
        self._codes = [code for code, *_ in self._filters]
        self.offsets = None if array.chunks is None else self._check_chunks()
        is_apart = plist.get_layout() == h5py.h5d.CONTIGUOUS
        if is_apart and array.size and array.id.get_offset() is None:
            raise ValueError("its values were never written")

    def _check_chunks(self) -> list[int]:
        array, steps = self._array, self._array.chunks
        grid = [range(0, length, step) for length, step in zip(array.shape, steps)]
        n_chunks, size = math.prod(map(len, grid)), math.prod(steps) * self._dtype.itemsize
        is_packed = h5py.h5z.FILTER_DEFLATE in self._codes
        # HDF5 counts for ever in a small file that says to have so many.
        if n_chunks * (_LEAST_BYTES if is_packed else size) > array.file.id.get_filesize():
            raise ValueError(f"{n_chunks} blocks cannot be in so small a file")
        chunks: list[Any] = []
        if hasattr(array.id, "chunk_iter"):
            array.id.chunk_iter(chunks.append)
        else:
            chunks = [array.id.get_chunk_info(i) for i in range(array.id.get_num_chunks())]
        chunks.sort()
        if len(chunks) != n_chunks or [each.chunk_offset for each in chunks] != [*product(*grid)]:
            raise ValueError(f"{len(chunks)} blocks are there in place of {n_chunks}")
        # What zlib cannot make smaller takes up to this much more.
        least, most = _LEAST_BYTES, size + size // 1000 + 64
        if not is_packed:
            least = most = size + _SUM_BYTES * self._codes.count(h5py.h5z.FILTER_FLETCHER32)
            if any(each.filter_mask for each in chunks):
                raise ValueError("some blocks are without their checksum")
        if not all(least <= each.size <= most for each in chunks):
            raise ValueError(f"some blocks have another size than {least} to {most} bytes")
        spans = sorted((each.byte_offset, each.size) for each in chunks)
        if any(at + n > after for (at, n), (after, _) in pairwise(spans)):
            raise ValueError("some blocks lie upon each other")
        return [each.byte_offset for each in chunks]

    def read(self, start: int, out: NDArray[Any]) -> None:
        """Fill ``out`` with the rows from ``start`` on.

        Parameters
        ----------
        start : int
        out : np.ndarray [shape=(m, ...)]

        Raises
        ------
        ValueError
            If a chunk does not decode to what it should.
        OSError
            If HDF5 cannot read it.
        """
        array, stop = self._array, start + len(out)
        if not out.size:
            return
        if array.chunks is None:
            array.read_direct(out, np.s_[start:stop])
            return
        first, last = (start, *(0 for _ in array.shape[1:])), (stop, *array.shape[1:])
        corners = [
            range(low - low % step, high, step)
            for low, high, step in zip(first, last, array.chunks)
        ]
        for corner in product(*corners):
            chunk = self._decode(corner)
            target, source = [], []
            for at, step, low, high in zip(corner, array.chunks, first, last):
                begin, end = max(at, low), min(at + step, high)
                target.append(slice(begin - low, end - low))
                source.append(slice(begin - at, end - at))
            out[tuple(target)] = chunk[tuple(source)]

    def _decode(self, corner: tuple[int, ...]) -> NDArray[Any]:
        steps, itemsize = self._array.chunks, self._dtype.itemsize
        size = math.prod(steps) * itemsize
        mask, data = self._array.id.read_direct_chunk(corner)
        data = memoryview(data)
        for i, (code, _, values, _) in reversed(list(enumerate(self._filters))):
            if mask >> i & 1:
                continue
            if code == h5py.h5z.FILTER_FLETCHER32:
                data = _checked(data, corner)
            elif code == h5py.h5z.FILTER_DEFLATE:
                data = _inflated(data, size + _SUM_BYTES)
            else:
                data = _unshuffled(data, values, itemsize)
        if len(data) != size:
            raise ValueError(f"the block at {corner} decodes to {len(data)} bytes, not {size}")
        return np.frombuffer(data, self._dtype).reshape(steps)


def _inflated(data: memoryview, most: int) -> memoryview:
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(data, most + 1)
    except zlib.error as error:
        raise ValueError(f"gzip: {error}") from error
    if len(found) > most or not stream.eof:
        raise ValueError("gzip: too long, or cut off")
    return memoryview(found)


def _unshuffled(data: memoryview, values: tuple[int, ...], itemsize: int) -> memoryview:
    if itemsize not in values[:1] or len(data) % itemsize:
        raise ValueError(f"shuffle: {values} for values of {itemsize} bytes")
    return memoryview(np.frombuffer(data, np.uint8).reshape(itemsize, -1).T.tobytes())


def _checked(data: memoryview, corner: tuple[int, ...]) -> memoryview:
    """Return the data without its Fletcher-32 checksum, once it was compared."""
    body, found = data[:-_SUM_BYTES], int.from_bytes(data[-_SUM_BYTES:], "little")
    words = np.frombuffer(bytes(body) + b"\0" if len(body) % 2 else body, "<u2")
    low = high = 0
    for start in range(0, len(words), _WORDS):
        part = words[start : start + _WORDS].astype(np.float64)
        total, weighted = int(part.sum()), int(part @ _WEIGHTS[-len(part) :])
        low, high = low + total, high + low * len(part) + weighted
    # HDF5 adds words of the other byte order, in ones' complement: there that is to
    # multiply by 256, and only nothing at all is 0.
    low, high = (each and (256 * each - 1) % 65535 + 1 for each in (low, high))
    if high << 16 | low != found:
        raise ValueError(f"the checksum of the block at {corner} is another")
    return body
