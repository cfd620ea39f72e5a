"""Compare a damaged file with its seal, and read what is right, without HDF5."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasaudio.errors import StoreError
from biasaudio.store.blocks import Digests
from biasaudio.store.clips import clips_from, encode
from biasaudio.store.content import COLUMNS, Origin
from biasaudio.store.extents import read_array, read_bands
from biasaudio.store.frames import Frames, open_frames
from biasaudio.store.index import matching
from biasaudio.store.inspected import NOT_FINITE, Inspected, Pair, Part, digests_by_clip
from biasaudio.store.pooling import rows_not_finite
from biasaudio.store.schema import CLIPS, FEATURES, KEYS, SOURCE, SUPERSEDES
from biasaudio.store.seal import Seal, hash_structure

__all__ = ["frame_bands", "inspect_sealed", "place", "take_parts"]

_Array = NDArray[Any]
NEEDS_HDF5 = "its vectors are packed, and the headers that are needed are damaged"
HEADERS = "the headers of HDF5 are not what was written"
BAND_VALUES = 2**20
DIFFERS = "its vectors are not what was written"


def place(pair: Pair) -> str:
    """Return where an embedding of a dataset lies in a file."""
    return f"/{pair[0]}/{pair[1]}"


def frame_bands(frames: Frames) -> Iterator[tuple[NDArray[np.float32], bool]]:
    """Iterate over the rows in blocks, as HDF5 reads them.

    Parameters
    ----------
    frames : Frames

    Yields
    ------
    X : np.ndarray [shape=(<=rows, d), dtype=float32]
    is_read : bool
        False where HDF5 refuses to read them; then they are zero.
    """
    for start, stop in frames.spans(max(1, BAND_VALUES // frames.shape[1])):
        X = np.empty((stop - start, frames.shape[1]), dtype=np.float32)
        try:
            yield frames.read(start, stop, X), True
        except StoreError:
            step = frames.features.chunks[0] if frames.features.chunks else 1
            for first in range(start, stop, step):
                part = np.zeros((min(step, stop - first), X.shape[1]), dtype=np.float32)
                try:
                    yield frames.read(first, first + len(part), part), True
                except StoreError:
                    yield np.zeros_like(part), False


def take_parts(found: Inspected, seal: Seal) -> None:
    """Take from a seal what is said of the clips.

    Parameters
    ----------
    found : Inspected
        Gets parts and tables.
    seal : Seal
        Of its file.

    Raises
    ------
    StoreError
        If a clip table in the seal is incomplete.
    """
    lines = seal.copies.get(f"/{SUPERSEDES}")
    texts = [] if lines is None else [line.decode() for line in lines.tolist()]
    found.superseded = matching(texts, found.path)
    for where, table in seal.vectors.items():
        _, dataset, embedding = where.split("/")
        names = list(dict.fromkeys(table.clips))
        code = {name: i for i, name in enumerate(names)}
        codes = np.repeat([code[clip] for clip in table.clips], table.rows).astype(np.intp)
        extent = seal.arrays[f"{where}/{FEATURES}"]
        part = Part(names, codes, extent.shape[1], digests_by_clip(table))
        part.origin = _origin(seal, where)
        found.parts[dataset, embedding] = part
    for dataset in dict.fromkeys(dataset for dataset, _ in found.parts):
        columns = _copies_below(seal, f"/{dataset}/{CLIPS}/")
        if columns:
            found.tables[dataset] = clips_from(columns, found.path, dataset)


def _copies_below(seal: Seal, above: str) -> dict[str, _Array]:
    return {k[len(above) :]: array for k, array in seal.copies.items() if k.startswith(above)}


def _origin(seal: Seal, where: str) -> Origin | None:
    columns = _copies_below(seal, f"{where}/{SOURCE}/")
    if where not in seal.models or set(columns) != set(COLUMNS):
        return None
    texts = {name: [text.decode("utf-8") for text in columns[name].tolist()] for name in COLUMNS}
    try:
        return Origin(json.loads(seal.models[where]), pd.DataFrame(texts, dtype=object))
    except (ValueError, RecursionError):
        return None


def inspect_sealed(found: Inspected, seal: Seal, advance: Callable[[int], object]) -> None:
    """Find which bytes are not those that were sealed, without HDF5.

    Parameters
    ----------
    found : Inspected
        Gets parts, tables and faults.
    seal : Seal
        Of its file.
    advance : callable
        Told how many bytes of vectors were read.
    """
    take_parts(found, seal)
    if seal.n_before != seal.size:
        found.add(f"it has {seal.n_before:,} bytes before its seal, but {seal.size:,} were sealed")
    with found.path.open("rb") as stream:
        is_whole = hash_structure(stream, seal.arrays, seal.size) == seal.structure
        if not is_whole:
            n = len({(pair[0], name) for pair, part in found.parts.items() for name in part.names})
            found.add(f"{HEADERS}: its {n} clips cannot be read before a repair")
        for pair, part in found.parts.items():
            if seal.arrays[f"{place(pair)}/{FEATURES}"].dtype:
                bands = read_bands(stream, seal.arrays[f"{place(pair)}/{FEATURES}"])
                bad = _bad_blocks(bands, seal, pair, part, advance)
            elif is_whole and seal.n_before == seal.size:
                with open_frames(found.path, *pair) as frames:
                    bands = (X for X, _ in frame_bands(frames))
                    bad = _bad_blocks(bands, seal, pair, part, advance)
            else:
                bad = dict.fromkeys(part.names, NEEDS_HDF5)
            found.add_clips(pair, bad)
            for clip in _bad_keys(stream, seal, pair):
                found.add("its key is not what was written", *pair, clip)
        for where in seal.copies:
            _compare(found, where, read_array(stream, seal.arrays[where]), seal)
    if not found.faults:
        found.add("bytes that are of no clip are not what was written")


def _bad_blocks(
    bands: Iterator[_Array],
    seal: Seal,
    pair: Pair,
    part: Part,
    advance: Callable[[int], object],
) -> dict[str, str]:
    """Return which clips have rows that are not finite, or not those that were sealed."""
    table, bad, at = seal.vectors[place(pair)], {}, 0
    digests = Digests([""] * len(table.clips))
    block = np.repeat(np.arange(len(table.rows)), table.rows)
    for band in bands:
        # What damage makes of a float64 may be beyond the range of float32.
        with np.errstate(over="ignore"):
            X = band.astype("<f4", copy=False)
        digests.update(block[at : at + len(X)], X)
        for code in np.unique(part.codes[at : at + len(X)][rows_not_finite(X)]).tolist():
            bad[part.names[code]] = NOT_FINITE
        at += len(X)
        advance(X.nbytes)
    for clip, seen, sealed in zip(table.clips, digests.table().sha256, table.sha256):
        if seen != sealed:
            bad[clip] = DIFFERS
    return bad


def _bad_keys(stream: BinaryIO, seal: Seal, pair: Pair) -> list[str]:
    extent, table = seal.arrays[f"{place(pair)}/{KEYS}"], seal.vectors[place(pair)]
    if not extent.dtype:
        return []
    clips = np.array(table.clips, dtype=object)
    expected = np.repeat(encode(clips), table.rows).astype(extent.dtype)
    owner = np.repeat(np.arange(len(clips)), table.rows)
    return list(
        dict.fromkeys(clips[owner[_rows_that_differ(read_array(stream, extent), expected)]])
    )


def _rows_that_differ(a: _Array, b: _Array) -> NDArray[np.intp]:
    # Two bytes strings are the same to numpy where one has more zeros at its end.
    rows = [np.ascontiguousarray(each).view(np.uint8).reshape(len(each), -1) for each in (a, b)]
    return np.flatnonzero((rows[0] != rows[1]).any(axis=1))


def _compare(found: Inspected, where: str, array: _Array, seal: Seal) -> None:
    """Note the rows of a table that are not those of its copy in the seal."""
    group, _, column = where.rpartition("/")
    rows = _rows_that_differ(array, seal.copies[where])
    names = seal.copies.get(f"{group}/clip_id")
    dataset, embedding = [*group.split("/")[1:], "", ""][:2]
    embedding = "" if embedding == CLIPS else embedding
    if names is None or column == "label_names" or len(names) != len(array):
        if len(rows):
            found.add(f"{where} is not what was written", dataset, embedding)
        return
    table = "clip table" if group.endswith(CLIPS) else "table of sources"
    for row in rows.tolist():
        what = f"its {column} in the {table} is not what was written"
        found.add(what, dataset, embedding, names[row].decode())
