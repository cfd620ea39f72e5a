"""Read texts of variable length without HDF5, which a damaged heap sends into an endless loop."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
from numpy.typing import NDArray

from biasaudio.store.chunks import Rows

__all__ = ["read_places", "read_variable"]

# What an array holds for each text: its length, and which object of which heap it is.
_TEXT = np.dtype([("length", "<u4"), ("heap", "<u8"), ("object", "<u4")])
_HEAP = struct.Struct("<4sB3xQ")
_OBJECT = struct.Struct("<HH4xQ")
# HDF5 makes them of 4 kB, and of more only for a text that is longer.
_LARGEST_HEAP = 2**20


def read_variable(array: h5py.Dataset, path: Path, longest: int) -> NDArray[np.object_]:
    """Return the texts of an array as bytes.

    Parameters
    ----------
    array : h5py.Dataset [shape=(n,)]
        Checked by `check_array`.
    path : Path
        Of its file.
    longest : int
        Bytes of a text at most.

    Returns
    -------
    np.ndarray of bytes [shape=(n,)]

    Raises
    ------
    ValueError
        If one is longer, or is not where it should be.
    OSError
        If the file cannot be read.
    """
    places = read_places(array, path)
    with path.open("rb") as stream:
        if len(places) and places["length"].max() > longest:
            raise ValueError(f"a text has {places['length'].max()} bytes, not {longest} at most")
        heaps: dict[int, dict[int, bytes]] = {}
        left = path.stat().st_size
        texts = np.empty(len(places), dtype=object)
        base = array.file.userblock_size
        for i, (length, at, number) in enumerate(places.tolist()):
            # HDF5 writes no object for an empty text.
            if not length:
                texts[i] = b""
                continue
            if at not in heaps:
                heaps[at], size = _objects(stream, base + at)
                left -= size
            # Of heaps that lie upon each other there could be millions.
            if left < 0 or len(heaps[at].get(number, b"")) != length:
                raise ValueError(f"text {i} is not where it should be")
            texts[i] = heaps[at][number]
    return texts


def read_places(array: h5py.Dataset, path: Path) -> NDArray[Any]:
    """Return what an array of texts of variable length holds for each of them.

    Parameters
    ----------
    array : h5py.Dataset [shape=(n,)]
    path : Path

    Returns
    -------
    np.ndarray of structs [shape=(n,)]
    """
    places = np.empty(len(array), dtype=_TEXT)
    if array.chunks is not None:
        Rows(array, _TEXT).read(0, places)
        return places
    at = array.id.get_offset()
    if at is None:
        raise ValueError("the texts are in no place of their own, or were never written")
    with path.open("rb") as stream:
        stream.seek(at)
        data = stream.read(places.nbytes)
    if len(data) < places.nbytes:
        raise ValueError("the file ends before")
    return np.frombuffer(data, _TEXT)


def _objects(stream: BinaryIO, at: int) -> tuple[dict[int, bytes], int]:
    """Return the objects of one heap by their numbers, and its size."""
    try:
        stream.seek(at)
        head = stream.read(_HEAP.size)
        magic, version, size = _HEAP.unpack(head)
    except (OverflowError, struct.error) as error:
        raise ValueError(f"no heap of texts at {at}") from error
    if magic != b"GCOL" or version != 1 or not _HEAP.size <= size <= _LARGEST_HEAP:
        raise ValueError(f"no heap of texts at {at}")
    data = stream.read(size - _HEAP.size)
    found: dict[int, bytes] = {}
    place = 0
    while place + _OBJECT.size <= len(data):
        number, _, length = _OBJECT.unpack_from(data, place)
        start = place + _OBJECT.size
        # The object with the number 0 is what is left; HDF5 goes on from where it ends.
        if number == 0 and place + length == len(data):
            break
        if number == 0 or start + length > len(data):
            raise ValueError(f"the heap of texts at {at} is damaged")
        found[number] = data[start : start + length]
        place = start + length + -length % 8
    return found, size
