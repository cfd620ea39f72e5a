"""Which clip each frame belongs to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasaudio.errors import StoreError
from biasaudio.store.guard import decode_texts
from biasaudio.store.schema import KEYS

__all__ = ["Keys"]


@dataclass(frozen=True)
class Keys:
    """Hold which clip each frame belongs to.

    Parameters
    ----------
    names : np.ndarray of str [shape=(n_clips,)]
        The clips, in the order of their first frames.
    codes : np.ndarray [shape=(n_frames,), dtype=int32]
        The clip of each frame.
    starts : np.ndarray of int [shape=(n_runs,)]
        Where frames of another clip than before begin.
    """

    names: NDArray[np.object_]
    codes: NDArray[np.int32]
    starts: NDArray[np.intp]

    def n_frames(self) -> NDArray[np.intp]:
        """Return the number of frames of each clip [shape=(n_clips,)]."""
        lengths = np.diff(self.starts, append=len(self.codes))
        return np.bincount(self.codes[self.starts], weights=lengths).astype(np.intp)

    @classmethod
    def from_texts(cls, raw: NDArray[Any], path: Path, where: str) -> Keys:
        """Return the keys from what a file holds.

        Parameters
        ----------
        raw : np.ndarray of bytes [shape=(n_frames,)]
        path : Path
        where : str
            Place inside the file, for messages.

        Returns
        -------
        Keys

        Raises
        ------
        StoreError
            If a key is empty, not UTF-8, or has control characters.
        """
        # Frames of a clip mostly follow each other, and comparing neighbours is
        # far cheaper than hashing each key.
        starts = np.append(0, np.flatnonzero(raw[1:] != raw[:-1]) + 1)
        codes, names = pd.factorize(raw[starts].astype(object))
        lengths = np.diff(starts, append=len(raw))
        texts = decode_texts(names, path, f"{where}/{KEYS}")
        if "" in texts:
            raise StoreError(
                f"{path}:{where} has frames with an empty key; give each frame the id of its clip"
            )
        codes = np.repeat(codes.astype(np.int32), lengths)
        return cls(np.array(texts, dtype=object), codes, starts)
