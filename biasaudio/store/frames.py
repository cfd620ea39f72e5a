"""The features and keys of one embedding of one dataset in one file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasaudio._validation import name_some
from biasaudio.errors import StoreError
from biasaudio.store.schema import FEATURES, KEYS, guard_read, open_store_file

__all__ = ["Frames", "Keys", "open_frames"]


@dataclass(frozen=True)
class Keys:
    """Hold which clip each frame belongs to.

    Parameters
    ----------
    names : np.ndarray of str [shape=(n_clips,)]
        The clips, in the order of their first frames.
    codes : np.ndarray [shape=(n_frames,), dtype=int32]
        The clip of each frame.
    """

    names: NDArray[np.object_]
    codes: NDArray[np.int32]


@dataclass(frozen=True)
class Frames:
    """Read the vectors of one embedding while their file is open.

    Parameters
    ----------
    features : h5py.Dataset [shape=(n_frames, d)]
    keys : h5py.Dataset [shape=(n_frames,)]
    path : Path
    where : str
        Place inside the file, for messages.
    """

    features: h5py.Dataset
    keys: h5py.Dataset
    path: Path
    where: str

    @property
    def shape(self) -> tuple[int, int]:
        """Return the number of frames and of features."""
        n_frames, n_features = self.features.shape
        return int(n_frames), int(n_features)

    def read_keys(self) -> Keys:
        """Read the keys once, bytes or str.

        Returns
        -------
        Keys

        Raises
        ------
        StoreError
            If a key is empty or not UTF-8, or the file is damaged.
        """
        with guard_read(self.path, f"{self.where}/{KEYS}"):
            raw = self.keys[()]
        # Frames of a clip mostly follow each other, and comparing neighbours is
        # far cheaper than hashing each key.
        is_first = np.ones(len(raw), dtype=bool)
        is_first[1:] = raw[1:] != raw[:-1]
        codes, names = pd.factorize(raw[is_first].astype(object))
        lengths = np.diff(np.flatnonzero(is_first), append=len(raw))
        try:
            texts = [name.decode("utf-8") for name in names]
        except UnicodeDecodeError as error:
            raise StoreError(
                f"{self.path}:{self.where} has the key {error.object!r}, which is not UTF-8; "
                "write the keys again as UTF-8"
            ) from None
        if "" in texts:
            raise StoreError(
                f"{self.path}:{self.where} has frames with an empty key; give each frame the id "
                "of its clip"
            )
        return Keys(np.array(texts, dtype=object), np.repeat(codes.astype(np.int32), lengths))

    def blocks(
        self, rows: int, *, skip: NDArray[np.bool_] | None = None
    ) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Iterate over blocks of frames, in one buffer that is used again.

        Parameters
        ----------
        rows : int
            Frames a block; raised to whole chunks of the file.
        skip : np.ndarray of bool [shape=(n_frames,)], optional
            Frames that are not needed; a block of nothing else is not read.

        Yields
        ------
        start : int
            The first frame of the block.
        X : np.ndarray [shape=(<=rows, d), dtype=float32]
            Valid until the next block is asked for.

        Raises
        ------
        StoreError
            If the file is damaged.
        """
        n_frames, n_features = self.shape
        # A filtered chunk that is larger than the cache is decoded anew by each
        # read that touches it.
        rows += -rows % (self.features.chunks or (1,))[0]
        buffer = np.empty((min(rows, n_frames), n_features), dtype=np.float32)
        for start in range(0, n_frames, rows):
            stop = min(start + rows, n_frames)
            if skip is None or not skip[start:stop].all():
                X = buffer[: stop - start]
                with guard_read(self.path, f"{self.where}/{FEATURES}, rows {start} to {stop}"):
                    self.features.read_direct(X, np.s_[start:stop])
                yield start, X


@contextmanager
def open_frames(path: Path, dataset: str, embedding: str) -> Iterator[Frames]:
    """Open one embedding of one dataset and check that its arrays fit.

    Parameters
    ----------
    path : Path
    dataset, embedding : str

    Yields
    ------
    Frames

    Raises
    ------
    StoreError
        If features or keys are missing, empty, of another type or shape, or of
        different length.
    """
    where = f"/{dataset}/{embedding}"
    with open_store_file(path) as handle:
        with guard_read(path, where):
            group = handle[where]
            features, keys = group.get(FEATURES), group.get(KEYS)
            held = name_some(group)
        for name, found in ((FEATURES, features), (KEYS, keys)):
            if not isinstance(found, h5py.Dataset):
                raise StoreError(
                    f"{path}:{where} has no array {name!r}, only {held}; "
                    f"both {FEATURES!r} and {KEYS!r} are needed, so write it again"
                )
        _check_arrays(features, keys, f"{path}:{where}")
        yield Frames(features, keys, path, where)


def _check_arrays(features: h5py.Dataset, keys: h5py.Dataset, where: str) -> None:
    if features.ndim != 2 or features.dtype.kind not in "fiu":
        raise StoreError(
            f"{where}/{FEATURES} has shape {features.shape} and dtype {features.dtype}; "
            "write a 2-d float32 array, one row a frame"
        )
    if keys.ndim != 1 or h5py.check_string_dtype(keys.dtype) is None:
        raise StoreError(
            f"{where}/{KEYS} has shape {keys.shape} and dtype {keys.dtype}; "
            "write a 1-d array of bytes or str, one clip id a frame"
        )
    if len(features) != len(keys):
        raise StoreError(
            f"{where} has {len(features)} rows of features, but {len(keys)} keys; "
            "write it again with one key a row"
        )
    if 0 in features.shape:
        raise StoreError(
            f"{where}/{FEATURES} is empty, shape {features.shape}; write at least one frame"
        )
