"""The last bytes of a file: what the bytes before must be, and whose they are.

HDF5 reads over what follows its own bytes, so a sealed file opens anywhere.  The
seal says where each array lies, which clips the file holds, and has a copy of all
that is no vector: a file whose headers are damaged can be read without HDF5.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from biasaudio.errors import StoreError
from biasaudio.store.blocks import BlockTable
from biasaudio.store.extents import Extent, gaps
from biasaudio.store.schema import FEATURES, KEYS

__all__ = [
    "MAGIC",
    "Head",
    "Seal",
    "check_structure",
    "digest_of",
    "hash_structure",
    "longest",
    "mark_of",
    "read_seal",
]

MAGIC = b"biasaudio-seal 1\n"
# Digest and length of the head, and of the rest.
_FOOTER = re.compile(rb"([0-9a-f]{64}) (\d{16}) ([0-9a-f]{64}) (\d{16}) " + re.escape(MAGIC))
_FOOTER_BYTES = 2 * (64 + 1 + 16 + 1) + len(MAGIC)
_LONGEST = 2**28
# What is noted of a row takes that much memory at least.
_ROW_BYTES = 8
# What was deleted leaves a hole, which may be as long as the vectors were.
_GAP_BYTES = 2**20
_Array = NDArray[Any]
_DAMAGE = (
    *(ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError),
    *(MemoryError, zlib.error),
)


@dataclass(frozen=True)
class Head:
    """Say what the HDF5 bytes must be, and where arrays lie in them.

    Parameters
    ----------
    size : int
        Of the HDF5 bytes.
    sha256 : str
        Of the HDF5 bytes.
    structure : str
        Sha256 of what lies between the values of the arrays; see `gaps`.
    arrays : dict
        From the place of each array in the HDF5 file.
    """

    size: int
    sha256: str
    structure: str
    arrays: Mapping[str, Extent]


@dataclass(frozen=True)
class Seal(Head):
    """Say what the bytes before it must be, and what they hold.

    Parameters
    ----------
    vectors : dict
        From ``/<dataset>/<embedding>`` to its blocks.
    copies : dict
        From the places of arrays that are neither features nor keys to these arrays.
    models : dict
        From ``/<dataset>/<embedding>`` to its attribute ``model``.
    n_before : int
        How many bytes come before the seal.
    """

    vectors: Mapping[str, BlockTable]
    copies: Mapping[str, _Array]
    models: Mapping[str, str]
    n_before: int


def digest_of(data: bytes) -> bytes:
    """Return the digest of a piece of a seal, as it is written behind it."""
    return hashlib.sha256(data).hexdigest().encode()


def longest(size: int) -> int:
    """Return how many bytes a seal may have behind so many HDF5 bytes."""
    return max(_LONGEST, size)


def hash_structure(stream: BinaryIO, arrays: Mapping[str, Extent], size: int) -> str:
    """Return the digest of what lies between the values of arrays."""
    digest = hashlib.sha256()
    for start, stop in gaps(arrays, size):
        stream.seek(start)
        digest.update(stream.read(min(stop - start, _GAP_BYTES)))
    return digest.hexdigest()


def _split(stream: BinaryIO) -> tuple[int, int, re.Match[bytes]] | None:
    """Return where head and rest of the seal begin, and the footer; None without a seal."""
    end = stream.seek(0, os.SEEK_END) - _FOOTER_BYTES
    stream.seek(max(end, 0))
    footer = _FOOTER.fullmatch(stream.read())
    if footer is None:
        return None
    rest = end - int(footer[4])
    head = rest - int(footer[2])
    if head < 0 or end - head > longest(head):
        raise ValueError("its length")
    return head, rest, footer


def _read_head(stream: BinaryIO, begin: int, stop: int, sha256: bytes) -> Head:
    stream.seek(begin)
    data = stream.read(stop - begin)
    if digest_of(data) != sha256:
        raise ValueError("its checksum")
    held = json.loads(data)
    size = int(held["hdf5_bytes"])
    # Bytes may have been lost since, but not so many that memory is asked for at will.
    if size > longest(2 * begin):
        raise ValueError("the length before it")
    arrays = {
        str(where): Extent.from_document(extent, size) for where, extent in held["arrays"].items()
    }
    runs = sorted((at, at + n * m) for each in arrays.values() for at, n, m in each.places)
    if any(before[1] > after[0] for before, after in pairwise(runs)):
        raise ValueError("places that overlap")
    return Head(size, str(held["hdf5_sha256"]), str(held["structure_sha256"]), arrays)


def check_structure(path: Path) -> None:
    """Refuse a sealed file whose headers are not those that were sealed.

    HDF5 has checksums for values only: with one other bit in a header it gives
    other numbers, or crashes the process.  A file without a seal is let pass, and
    so is one whose seal is damaged.

    Parameters
    ----------
    path : Path

    Raises
    ------
    StoreError
        If the headers are damaged.
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as stream:
        try:
            found = _split(stream)
            if found is None:
                return
            head = _read_head(stream, *found[:2], found[2][1])
        except _DAMAGE:
            return
        is_same = found[0] == head.size
        if not is_same or hash_structure(stream, head.arrays, head.size) != head.structure:
            raise StoreError(
                f"{path} is damaged: its HDF5 headers are not those that were written; run "
                "'biasaudio store verify --repair', which saves the vectors, or copy it again"
            )


def read_seal(path: Path) -> Seal | None:
    """Read the seal of a file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    Seal or None
        None where the file does not end in one.

    Raises
    ------
    StoreError
        If it ends in one that is damaged, or cannot be read.
    """
    try:
        with path.open("rb") as stream:
            found = _split(stream)
            if found is None:
                return None
            begin, middle, footer = found
            head = _read_head(stream, begin, middle, footer[1])
            stream.seek(middle)
            data = stream.read(int(footer[4]))
            if digest_of(data) != footer[3]:
                raise ValueError("its checksum")
            held = json.loads(data)
            vectors = {
                str(where): _blocks(str(where), table, head)
                for where, table in held["vectors"].items()
            }
            copies = {
                str(where): _copied(text, head.arrays[where])
                for where, text in held["copies"].items()
            }
            models = {str(where): str(text) for where, text in held["models"].items()}
            return Seal(**vars(head), vectors=vectors, copies=copies, models=models, n_before=begin)
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror or error}); check it") from error
    except _DAMAGE as error:
        reason = str(error) if type(error) is ValueError else type(error).__name__
        raise StoreError(
            f"{path}: the seal at its end is damaged ({reason}); run 'biasaudio store verify', or "
            "copy the file again"
        ) from error


def _copied(text: str, extent: Extent) -> _Array:
    dtype = np.dtype(extent.dtype)
    n_bytes = math.prod(extent.shape) * dtype.itemsize
    decoder = zlib.decompressobj()
    data = decoder.decompress(base64.b64decode(text), n_bytes or 1)
    return np.frombuffer(data, dtype).reshape(extent.shape)


def _blocks(where: str, table: Any, head: Head) -> BlockTable:
    blocks = BlockTable(**table)
    lists = {type(part) for part in vars(blocks).values()}
    if lists != {list} or len({len(part) for part in vars(blocks).values()}) > 1:
        raise ValueError("no blocks")
    if not all(type(n) is int and n > 0 for n in blocks.rows):
        raise ValueError("no blocks")
    if not all(type(text) is str and text for text in [*blocks.clips, *blocks.sha256]):
        raise ValueError("no blocks")
    _, dataset, embedding = where.split("/")
    shapes = [head.arrays[f"/{dataset}/{embedding}/{name}"].shape for name in (FEATURES, KEYS)]
    n_rows = sum(blocks.rows)
    if len(shapes[0]) != 2 or shapes[1] != [n_rows] or shapes[0][:1] != shapes[1]:
        raise ValueError("no blocks")
    if n_rows * _ROW_BYTES > longest(head.size):
        raise ValueError("its number of rows")
    return blocks


def mark_of(path: Path) -> str:
    """Return what tells a file from any other: a digest of its seal, else of all its bytes.

    Parameters
    ----------
    path : Path

    Returns
    -------
    str
        Empty where there is no such file.
    """
    digest = hashlib.sha256()
    try:
        # To open a pipe would wait for ever.
        if not path.is_file():
            return ""
        with path.open("rb") as stream:
            end = stream.seek(0, os.SEEK_END)
            footer = max(end - _FOOTER_BYTES, 0)
            stream.seek(footer)
            stream.seek(footer if _FOOTER.fullmatch(stream.read()) else 0)
            while piece := stream.read(2**20):
                digest.update(piece)
    except OSError:
        return ""
    return digest.hexdigest()
