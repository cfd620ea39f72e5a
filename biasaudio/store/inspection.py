"""What is wrong with one file of a store, and how the rest of it can be read.

A file that is what its seal says is read by HDF5.  One that is not is read by what
the seal says, for HDF5 would believe damaged headers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio.errors import StoreError
from biasaudio.store.blocks import BlockTable, Digests
from biasaudio.store.clips import encode, read_clips
from biasaudio.store.content import read_origin
from biasaudio.store.extents import read_bands
from biasaudio.store.frames import Frames, open_frames
from biasaudio.store.index import index_files, superseded_by
from biasaudio.store.inspected import NOT_FINITE, Inspected, Pair, Part, digests_by_clip
from biasaudio.store.opening import open_store_file, read_attribute
from biasaudio.store.pooling import rows_not_finite
from biasaudio.store.salvage import frame_bands, inspect_sealed, place, take_parts
from biasaudio.store.schema import FEATURES
from biasaudio.store.seal import Seal, read_seal
from biasaudio.store.sealing import is_intact

__all__ = ["inspect_file", "open_rows"]

_Array = NDArray[Any]
NO_CHECKSUM = "in a chunk whose checksum does not fit"


def inspect_file(path: Path, advance: Callable[[int], object] = lambda _: None) -> Inspected:
    """Find what is wrong with one file of a store.

    Parameters
    ----------
    path : Path
    advance : callable
        Told how many bytes were read; each file is read twice.

    Returns
    -------
    Inspected
    """
    found = Inspected(path)
    seal = None
    # A pipe of this name would wait for ever for somebody to write to it.
    if not path.is_file():
        found.add("it is not a file")
        return found
    try:
        seal = read_seal(path)
        if seal is not None and not is_intact(path, seal, advance):
            inspect_sealed(found, seal, advance)
            found.seal = seal
            return found
    except (StoreError, ValueError) as error:
        found, seal = Inspected(path), None
        found.add(f"its seal cannot be used: {error}")
    except OSError as error:
        found.add(f"it cannot be read ({error.strerror or error})")
        return found
    try:
        _inspect_hdf5(found, seal, advance)
    except StoreError as error:
        found.add(str(error))
        found.parts.clear()
        if seal is not None:
            take_parts(found, seal)
            found.seal = seal
    return found


def _inspect_hdf5(found: Inspected, seal: Seal | None, advance: Callable[[int], object]) -> None:
    path = found.path
    pairs = list(index_files([path]))
    with open_store_file(path) as handle:
        found.superseded = superseded_by(handle, path)
        version = read_attribute(handle, "format_version")
        if seal is None and version not in (None, 1) and not found.faults:
            found.add("it has no seal: it was cut off at its end, or another program wrote to it")
        for dataset in sorted({dataset for dataset, _ in pairs}):
            try:
                table = read_clips(handle, path, dataset)
            except StoreError as error:
                found.add(str(error), dataset)
                continue
            if table is not None:
                found.tables[dataset] = table
    blocks = {} if seal is None else seal.vectors
    for pair in pairs:
        try:
            with open_frames(path, *pair) as frames:
                _inspect_frames(found, pair, frames, blocks.get(place(pair)), advance)
        except StoreError as error:
            found.add(str(error), *pair)
            continue
        try:
            found.parts[pair].origin = read_origin(path, *pair)
        except StoreError as error:
            found.add(str(error), *pair)


def _inspect_frames(
    found: Inspected,
    pair: Pair,
    frames: Frames,
    table: BlockTable | None,
    advance: Callable[[int], object],
) -> None:
    keys = frames.read_keys()
    names = [str(name) for name in keys.names]
    part = found.parts[pair] = Part(names, keys.codes.astype(np.intp), frames.shape[1])
    bad: dict[str, str] = {}
    digests, at = Digests(), 0
    raw = encode(keys.names)
    for X, is_read in frame_bands(frames):
        codes = part.codes[at : at + len(X)]
        digests.update(raw[codes], X)
        if not is_read:
            bad |= {names[code]: NO_CHECKSUM for code in np.unique(codes).tolist()}
        not_finite = np.unique(codes[rows_not_finite(X)]).tolist()
        bad |= {names[code]: NOT_FINITE for code in not_finite if names[code] not in bad}
        at += len(X)
        advance(X.nbytes)
    blocks = digests.table()
    part.digests = digests_by_clip(blocks)
    found.add_clips(pair, bad)
    if table is not None and not bad and blocks != table:
        raise StoreError(f"the seal of {found.path} is not for the rows of {place(pair)}")


@contextmanager
def open_rows(found: Inspected, pair: Pair) -> Iterator[Any]:
    """Give the rows of an embedding of a file that was inspected, by their numbers.

    Parameters
    ----------
    found : Inspected
    pair : tuple of str

    Yields
    ------
    object
        Has a shape, and gives rows by ascending numbers, each once.
    """
    extent = None if found.seal is None else found.seal.arrays[f"{place(pair)}/{FEATURES}"]
    if extent is None or not extent.dtype:
        with open_frames(found.path, *pair) as frames:
            yield _Forward((X for X, _ in frame_bands(frames)), frames.shape)
        return
    with found.path.open("rb") as stream:
        yield _Forward(read_bands(stream, extent), (extent.shape[0], extent.shape[1]))


class _Forward:
    def __init__(self, bands: Iterator[_Array], shape: tuple[int, int]) -> None:
        self.shape = shape
        self._bands, self._start = bands, 0
        self._band: _Array = np.empty((0, shape[1]), dtype=np.float32)

    def __getitem__(self, rows: NDArray[np.intp]) -> _Array:
        parts = []
        while len(rows):
            stop = self._start + len(self._band)
            n = int(np.searchsorted(rows, stop))
            parts.append(self._band[rows[:n] - self._start])
            rows = rows[n:]
            if len(rows):
                self._start, self._band = stop, next(self._bands)
        return np.concatenate(parts).astype(np.float32, copy=False)
