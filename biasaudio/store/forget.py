"""Take clips out of a store, to be embedded anew."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from biasaudio.datasets.table import ClipTable
from biasaudio.store.change import Change, apply_changes, drop_embedding, settled, writing
from biasaudio.store.clips import read_clips
from biasaudio.store.content import read_origin
from biasaudio.store.gathered import Gathered, sort_clips
from biasaudio.store.index import Index, is_alone
from biasaudio.store.opening import open_store_file
from biasaudio.store.stream import open_parts

__all__ = ["forget_clips"]


def forget_clips(path: Path, pair: tuple[str, str], names: Collection[str] | None) -> None:
    """Take clips of one embedding of a dataset out of a store.

    Their labels stay in files that hold other embeddings too.

    Parameters
    ----------
    path : Path
    pair : tuple of str
        Dataset and embedding; nothing happens where they are not there.
    names : collection of str or None
        None stands for all clips.

    Raises
    ------
    StoreError
        If a file is damaged or cannot be written; a file is changed whole or not
        at all.
    """
    with writing(path):
        index = settled(path)
        for file in index.get(pair, ()):
            _forget(index, pair, file, names)


def _forget(index: Index, pair: tuple[str, str], file: Path, names: Collection[str] | None) -> None:
    with open_parts([file], *pair) as parts:
        left = Gathered(parts, without=names or ())
        if names is not None and left.shape[0] == parts[0].shape[0]:
            return
        if names is not None and left.shape[0]:
            with open_store_file(file) as handle:
                clips = read_clips(handle, file, pair[0])
            origin = read_origin(file, *pair)
            known = ClipTable.from_columns(left.names, pair[0]) if clips is None else clips
            if is_alone(index, pair, file):
                known = known.select(np.isin(known.clip_id.astype(str), left.names.astype(str)))
            kept = origin and origin.select(list(left.names))
            apply_changes(index, [Change(file, left.content(pair, sort_clips(known), kept))])
            return
    drop_embedding(index, pair, file)
