"""Seal files, and go on with none that is not what was sealed."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import h5py

from biasaudio.errors import StoreError
from biasaudio.store.blocks import BlockTable, Digests
from biasaudio.store.extents import find_extents, read_array
from biasaudio.store.frames import open_frames
from biasaudio.store.index import index_files
from biasaudio.store.opening import guard_read, read_attribute
from biasaudio.store.schema import FEATURES, KEYS, MODEL
from biasaudio.store.seal import Head, Seal, hash_structure, read_seal, seal_bytes

__all__ = ["append_seal", "copy_sealed", "is_intact"]

_PIECE = 2**20
BLOCK_VALUES = 2**20


def append_seal(path: Path, vectors: Mapping[str, BlockTable]) -> None:
    """Seal an HDF5 file that has none.

    Parameters
    ----------
    path : Path
        Of the whole file, closed.
    vectors : mapping
        From ``/<dataset>/<embedding>`` to its blocks.
    """
    arrays = find_extents(path)
    with path.open("rb+") as stream:
        size, digest = _hash(stream, None)
        copies = {
            where: read_array(stream, extent)
            for where, extent in arrays.items()
            if extent.dtype and where.rpartition("/")[2] not in (FEATURES, KEYS)
        }
        head = Head(size, digest, hash_structure(stream, arrays, size), arrays)
        stream.seek(size)
        stream.write(seal_bytes(head, vectors, copies, _find_models(path, arrays)))


def _find_models(path: Path, arrays: Iterable[str]) -> dict[str, str]:
    """Return what each embedding says of the model that made it."""
    models = {}
    with h5py.File(path, "r") as handle, guard_read(path, f"the attribute {MODEL}"):
        for where in arrays:
            group, _, name = where.rpartition("/")
            model = read_attribute(handle[group], MODEL) if name == FEATURES else None
            if isinstance(model, bytes):
                models[group] = model.decode("utf-8", "replace")
    return models


def _hash(
    stream: BinaryIO,
    size: int | None,
    out: BinaryIO | None = None,
    advance: Callable[[int], object] = lambda _: None,
) -> tuple[int, str]:
    """Return size and digest of the first bytes of a stream, which are copied to ``out``."""
    digest, n = hashlib.sha256(), 0
    for piece in _pieces(stream, size):
        digest.update(piece)
        n += len(piece)
        advance(len(piece))
        if out is not None:
            out.write(piece)
    return n, digest.hexdigest()


def _pieces(stream: BinaryIO, size: int | None) -> Iterator[bytes]:
    left = size
    while left is None or left > 0:
        piece = stream.read(_PIECE if left is None else min(_PIECE, left))
        if not piece:
            return
        left = None if left is None else left - len(piece)
        yield piece


def is_intact(path: Path, seal: Seal, advance: Callable[[int], object] = lambda _: None) -> bool:
    """Say whether the bytes before the seal are those that were sealed.

    Parameters
    ----------
    path : Path
    seal : Seal
    advance : callable
        Told how many bytes were read.
    """
    if seal.n_before != seal.size:
        return False
    with path.open("rb") as stream:
        return _hash(stream, seal.size, None, advance) == (seal.size, seal.sha256)


def copy_sealed(source: Path, target: Path) -> Mapping[str, BlockTable]:
    """Copy a file without its seal, so that HDF5 can add to it.

    Parameters
    ----------
    source, target : Path

    Returns
    -------
    mapping
        The blocks of each embedding, as the seal lists them, or as they are.

    Raises
    ------
    StoreError
        If the file is not what its seal says, or cannot be read: damage must not be
        sealed again.
    """
    seal = read_seal(source)
    if seal is None:
        shutil.copyfile(source, target)
        return _digest_all(source)
    with source.open("rb") as stream, target.open("wb") as out:
        found = _hash(stream, seal.size, out)
    if found != (seal.size, seal.sha256) or seal.n_before != seal.size:
        raise StoreError(
            f"{source} is damaged: its checksum is another; 'biasaudio store verify' says which "
            "clips are hit, and --repair takes them out"
        )
    return seal.vectors


def _digest_all(path: Path) -> dict[str, BlockTable]:
    """Return the blocks of a file without a seal."""
    tables = {}
    for pair in index_files([path]):
        with open_frames(path, *pair) as frames:
            keys = frames.read_keys()
            digests = Digests(keys.names.tolist())
            for start, X in frames.blocks(max(1, BLOCK_VALUES // frames.shape[1])):
                digests.update(keys.codes[start : start + len(X)], X)
            tables[frames.where] = digests.table()
    return tables
