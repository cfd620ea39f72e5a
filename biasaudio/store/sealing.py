"""Seal files, and go on with none that is not what was sealed."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import h5py

from biasaudio.errors import StoreError
from biasaudio.store.blocks import BlockTable, Digests
from biasaudio.store.extents import find_extents, read_array
from biasaudio.store.frames import open_frames
from biasaudio.store.index import index_files
from biasaudio.store.opening import guard_read, read_attribute
from biasaudio.store.schema import FEATURES, KEYS, MODEL
from biasaudio.store.seal import MAGIC, Head, Seal, digest_of, hash_structure, longest, read_seal

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

    Raises
    ------
    StoreError
        If the seal would be longer than a reader lets it be.
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
        stream.write(_seal_bytes(head, vectors, copies, _find_models(path, arrays)))


def _seal_bytes(
    head: Head,
    vectors: Mapping[str, BlockTable],
    copies: Mapping[str, Any],
    models: Mapping[str, str],
) -> bytes:
    """Return what follows HDF5 bytes."""
    document = {
        "hdf5_bytes": head.size,
        "hdf5_sha256": head.sha256,
        "structure_sha256": head.structure,
        "arrays": {where: asdict(extent) for where, extent in head.arrays.items()},
    }
    rest = {
        "vectors": {where: asdict(table) for where, table in sorted(vectors.items())},
        "copies": {
            where: base64.b64encode(zlib.compress(array.tobytes())).decode()
            for where, array in copies.items()
        },
        "models": dict(models),
    }
    parts = [json.dumps(each).encode() for each in (document, rest)]
    n_bytes, most = sum(map(len, parts)), longest(head.size)
    if n_bytes > most:
        raise StoreError(
            f"the seal would have {n_bytes:,} bytes, but may have {most:,}: too many clips for one "
            "file; nothing was changed, so write fewer into each, in a store that is a folder"
        )
    ends = [digest_of(part) + f" {len(part):016d} ".encode() for part in parts]
    return b"".join([*parts, *ends, MAGIC])


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
