"""The features and keys of one embedding of one dataset in one file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from biasaudio._validation import name_some
from biasaudio.errors import StoreError
from biasaudio.store.chunks import Rows
from biasaudio.store.guard import check_array, read_texts
from biasaudio.store.keys import Keys
from biasaudio.store.opening import child, guard_read, open_store_file
from biasaudio.store.schema import FEATURES, KEYS

__all__ = ["Frames", "open_frames"]


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
            If a key is empty, not UTF-8 or not to be shown, or the file is damaged.
        """
        return Keys.from_texts(read_texts(self.keys, self.path), self.path, self.where)

    @cached_property
    def descriptor(self) -> int | None:
        """Return the open file of the features, if its bytes can be read as they are.

        None where the file is not a plain one, or is open for writing in this
        process, so that HDF5 holds what is not yet in it.
        """
        handle = self.features.file
        is_plain = handle.driver == "sec2" and handle.mode == "r" and not handle.userblock_size
        # Windows has no preadv, and HDF5 before 1.12.3 no chunk_iter.
        can_read = hasattr(os, "preadv") and hasattr(h5py.h5d.DatasetID, "chunk_iter")
        return handle.id.get_vfd_handle() if is_plain and can_read else None

    @cached_property
    def _rows(self) -> Rows:
        with guard_read(self.path, f"{self.where}/{FEATURES}"):
            return Rows(self.features)

    @cached_property
    def _pieces(self) -> NDArray[np.int64] | None:
        """Return first frame and place in the file of each piece of plain float32 rows.

        None where HDF5 has to decode them.
        """
        features, (n_frames, n_features) = self.features, self.shape
        n_filters = features.id.get_create_plist().get_nfilters()
        if self.descriptor is None or features.dtype != np.float32 or n_filters:
            return None
        if features.chunks is None:
            place = None if features.external or features.is_virtual else features.id.get_offset()
            return None if place is None else np.array([[0, place]])
        rows, width = features.chunks
        if width != n_features:
            return None
        pieces = np.array([*zip(range(0, n_frames, rows), self._rows.offsets or ())])
        is_next = np.diff(pieces[:, 1]) == rows * n_features * features.dtype.itemsize
        return pieces[np.append(True, ~is_next)]

    def spans(self, rows: int, starts: NDArray[np.intp] | None = None) -> list[tuple[int, int]]:
        """Cut the frames into blocks.

        Parameters
        ----------
        rows : int
            Frames a block at most; raised to whole chunks where they are decoded.
        starts : np.ndarray of int, optional
            Where cuts do least harm, ascending from 0; heeded where that is free.

        Returns
        -------
        list of (start, stop)
        """
        n_frames = self.shape[0]
        # A filtered chunk that is larger than the cache is decoded anew by each
        # read that touches it.
        if self._pieces is None:
            rows, starts = rows + -rows % (self.features.chunks or (1,))[0], None
        cuts = [0]
        while cuts[-1] < n_frames:
            stop = min(cuts[-1] + rows, n_frames)
            if starts is not None and stop < n_frames:
                before = int(starts[np.searchsorted(starts, stop, side="right") - 1])
                stop = before if before > cuts[-1] else stop
            cuts.append(stop)
        return list(pairwise(cuts))

    def read(self, start: int, stop: int, buffer: NDArray[np.float32]) -> NDArray[np.float32]:
        """Read frames; may run in several threads.

        Parameters
        ----------
        start, stop : int
        buffer : np.ndarray [shape=(>=stop - start, d), dtype=float32]
            Where they go.

        Returns
        -------
        np.ndarray [shape=(stop - start, d), dtype=float32]
            A view of the buffer.

        Raises
        ------
        StoreError
            If the file is damaged.
        """
        X = buffer[: stop - start]
        with guard_read(self.path, f"{self.where}/{FEATURES}, rows {start} to {stop}"):
            if self._pieces is None or self.descriptor is None:
                self._rows.read(start, X)
            else:
                _read_plain(self.descriptor, self._pieces, start, X)
        return X

    def blocks(self, rows: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Iterate over blocks of frames, in one buffer that is used again.

        Parameters
        ----------
        rows : int
            Frames a block; raised to whole chunks where they are decoded.

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
        spans = self.spans(rows)
        buffer = np.empty((spans[0][1], self.shape[1]), dtype=np.float32)
        for start, stop in spans:
            yield start, self.read(start, stop, buffer)


def _read_plain(
    descriptor: int, pieces: NDArray[np.int64], start: int, X: NDArray[np.float32]
) -> None:
    # HDF5 takes twice the time, as it goes chunk by chunk.
    row_bytes = X.shape[1] * X.itemsize
    at, stop = start, start + len(X)
    while at < stop:
        i = int(np.searchsorted(pieces[:, 0], at, side="right")) - 1
        first, place = pieces[i].tolist()
        end = min(stop, int(pieces[i + 1, 0])) if i + 1 < len(pieces) else stop
        part = X[at - start : end - start].data.cast("B")
        place += (at - first) * row_bytes
        # One call returns at most 2 GiB, and on some disks less than it was asked for.
        while part:
            n = os.preadv(descriptor, [part], place)
            if n == 0:
                raise OSError("the file ends before")
            part, place = part[n:], place + n
        at = end


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
            group = child(child(handle, dataset, path), embedding, path)
            features, keys = (child(group, name, path) for name in (FEATURES, KEYS))
            held = name_some(group)
        for name, found in ((FEATURES, features), (KEYS, keys)):
            if not isinstance(found, h5py.Dataset):
                raise StoreError(
                    f"{path}:{where} has no array {name!r}, only {held}; "
                    f"both {FEATURES!r} and {KEYS!r} are needed, so write it again"
                )
        _check_arrays(features, keys, path, where)
        yield Frames(features, keys, path, where)


def _check_arrays(features: h5py.Dataset, keys: h5py.Dataset, path: Path, where: str) -> None:
    check_array(features, path)
    check_array(keys, path)
    where = f"{path}:{where}"
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
