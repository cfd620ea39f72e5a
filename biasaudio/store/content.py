"""What goes into one group of a file: vectors, whose they are, and where they come from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasaudio.datasets.table import ClipTable
from biasaudio.errors import StoreError
from biasaudio.store.blocks import BlockTable, Digests
from biasaudio.store.clips import encode, write_clips
from biasaudio.store.guard import decode_texts, read_array
from biasaudio.store.opening import child, guard_read, open_store_file, read_attribute
from biasaudio.store.output import Output
from biasaudio.store.schema import FEATURES, KEYS, MODEL, SOURCE, SUPERSEDES

__all__ = ["Content", "Origin", "read_origin", "write_content", "write_superseded"]

# Chunks of 256 kB fit the chunk cache of every HDF5 version many times.
CHUNK_VALUES = 2**16
BLOCK_VALUES = 2**21
COLUMNS = ("clip_id", "path", "sha256")


@dataclass(frozen=True, eq=False)
class Origin:
    """Say which model made an embedding, and of which audio.

    Parameters
    ----------
    model : dict
        What decides the numbers; see `AudioModel`.
    sources : pd.DataFrame
        Columns clip_id, path (below the audio folder) and sha256 of the file.
    """

    model: Mapping[str, Any]
    sources: pd.DataFrame

    def select(self, names: Sequence[str]) -> Origin:
        """Return what is said of these clips."""
        return Origin(self.model, self.sources[self.sources["clip_id"].isin(names)])

    @staticmethod
    def concat(parts: Sequence[Origin | None]) -> Origin | None:
        """Return what is said of all clips, or None if nothing is."""
        known = [part for part in parts if part is not None]
        if not known:
            return None
        models = [each.model for each in known]
        if any(model != models[0] for model in models):
            raise StoreError(
                f"files of one embedding were made by different models, {models[0]} and "
                f"{next(model for model in models if model != models[0])}; take one of them out"
            )
        return Origin(models[0], pd.concat([each.sources for each in known]))


@dataclass(frozen=True, eq=False)
class Content:
    """Hold what goes to ``/<dataset>/<embedding>`` of a file, and the clip table beside it.

    Parameters
    ----------
    dataset, embedding : str
    vectors : array_like of float32 [shape=(m, d)]
        Or what has this shape and gives rows by their numbers.
    rows : np.ndarray of int [shape=(n_frames,)]
        Which rows of the vectors, in this order.
    keys : np.ndarray of bytes [shape=(n_frames,)]
        The clip of each of these.
    clips : ClipTable
        Of the dataset, as the file is to hold it.
    origin : Origin, optional
    sha256 : mapping of str to str
        The digest of the rows of a clip, where it is known: other rows are not sealed.
    """

    dataset: str
    embedding: str
    vectors: Any
    rows: NDArray[np.intp]
    keys: NDArray[np.bytes_]
    clips: ClipTable
    origin: Origin | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)

    @property
    def where(self) -> str:
        """Return the place in the file."""
        return f"/{self.dataset}/{self.embedding}"


def write_content(out: Output, content: Content) -> BlockTable:
    """Write vectors a block at a time, and then all that is known of them.

    Parameters
    ----------
    out : Output
    content : Content

    Returns
    -------
    BlockTable
        For the seal.

    Raises
    ------
    OSError
        If the disk is full, or another write failed.
    """
    group = out.handle.require_group(content.dataset)
    if content.embedding in group:
        del group[content.embedding]
    group = group.create_group(content.embedding)
    rows, keys = content.rows, content.keys
    n, d = len(rows), content.vectors.shape[1]
    chunks = (max(1, min(n, CHUNK_VALUES // d)), d)
    features = group.create_dataset(FEATURES, (n, d), "<f4", chunks=chunks, fletcher32=True)
    step = chunks[0] * max(1, BLOCK_VALUES // (chunks[0] * d))
    digests = Digests()
    for start in range(0, n, step):
        here = slice(start, start + step)
        X = np.ascontiguousarray(content.vectors[rows[here]], dtype="<f4")
        features[here] = X
        digests.update(keys[here], X)
        out.flush()
    group.create_dataset(KEYS, data=keys, chunks=True, fletcher32=True)
    if content.origin is not None:
        _write_origin(group, content.origin)
    write_clips(out.handle, content.dataset, content.clips)
    out.flush()
    table = digests.table()
    for clip, sha256 in zip(table.clips, table.sha256):
        if content.sha256.get(clip, sha256) != sha256:
            raise StoreError(
                f"the vectors of clip {clip!r} of {content.where} are not what was written; run "
                "'biasaudio store verify', which names all such clips, and --repair"
            )
    return table


def _write_origin(group: h5py.Group, origin: Origin) -> None:
    group.attrs[MODEL] = np.bytes_(json.dumps(dict(origin.model), sort_keys=True).encode())
    folder = group.create_group(SOURCE)
    for name in COLUMNS:
        texts = encode(origin.sources[name].to_numpy(dtype=object))
        folder.create_dataset(name, data=texts, chunks=True, fletcher32=True)


def read_origin(path: Path, dataset: str, embedding: str) -> Origin | None:
    """Read which model made an embedding, and of which audio.

    Parameters
    ----------
    path : Path
    dataset, embedding : str

    Returns
    -------
    Origin or None
        None where the file does not say, as after an import.

    Raises
    ------
    StoreError
        If the file is damaged.
    """
    where = f"/{dataset}/{embedding}"
    with open_store_file(path) as handle, guard_read(path, f"{where}/{SOURCE}"):
        group = child(child(handle, dataset, path), embedding, path)
        folder, model = child(group, SOURCE, path), read_attribute(group, MODEL)
        if folder is None or not isinstance(model, bytes):
            return None
        columns = {}
        for name in COLUMNS:
            texts = read_array(child(folder, name, path), path)
            columns[name] = decode_texts(texts, path, f"{where}/{SOURCE}/{name}")
        identity = json.loads(model)
    if not isinstance(identity, dict):
        raise StoreError(f"{path}:{where} has a model that is no table; extract it again")
    return Origin(identity, pd.DataFrame(columns, dtype=object))


def write_superseded(out: Output, marks: Mapping[str, str]) -> None:
    """Say which files of the folder this one takes the place of, and the mark of each."""
    if SUPERSEDES in out.handle:
        del out.handle[SUPERSEDES]
    if marks:
        lines = [f"{mark} {name}" for name, mark in sorted(marks.items())]
        texts = encode(np.array(lines, dtype=object))
        out.handle.create_dataset(SUPERSEDES, data=texts, chunks=True, fletcher32=True)
