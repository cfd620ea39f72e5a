"""Vectors in npy, npz, csv and parquet files, changed and written again."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasaudio._npz import open_npz, write_npz
from biasaudio.errors import DataError, ParameterError
from biasaudio.store.pooling import Pooler
from biasaudio.store.replace import replacing

__all__ = ["Change", "VectorFile", "change_blocks"]

BLOCK_VALUES = 2**22
_Array = NDArray[Any]
# From some vectors and the clip of each to new vectors.
Change = Callable[[_Array, NDArray[np.intp]], _Array]


@dataclass(eq=False)
class VectorFile:
    """Hold the vectors of a file, and what it says of each clip.

    Attributes
    ----------
    path : Path
    vectors : dict of str to np.ndarray [shape=(m, d)]
        ``X``, and ``frames`` where there are such.
    n_clips : int
    columns : dict of str to np.ndarray [shape=(n, ...)]
        What else there is with one row a clip.
    frame_clip : np.ndarray of int [shape=(m,)] or None
        The clip of each of the ``frames``.
    features : list of str or None
        The columns of a table that X was read from.
    is_guessed : bool
        Whether these are all that hold numbers, as no name says which.
    rest : dict of str to np.ndarray, or pd.DataFrame
        All of an npz file but the vectors; all of a table.
    """

    path: Path
    vectors: dict[str, _Array]
    n_clips: int
    columns: dict[str, _Array] = field(default_factory=dict)
    frame_clip: NDArray[np.intp] | None = None
    features: list[str] | None = None
    is_guessed: bool = False
    rest: Any = None

    @property
    def n_rows(self) -> int:
        """Number of vectors, frames and clips taken together."""
        return sum(map(len, self.vectors.values()))

    def clip_vectors(self) -> Any:
        """Return one vector a clip, the mean of its frames where there are frames.

        Returns
        -------
        np.ndarray or pd.DataFrame [shape=(n, d)]
            A frame with the names of the features, if they have names.
        """
        if self.frame_clip is not None:
            frames = self.vectors["frames"]
            pooler = Pooler("mean", self.n_clips, frames.shape[1])
            pooler.update(self.frame_clip, np.asarray(frames, dtype=np.float32))
            return pooler.result()
        X = self.vectors["X"]
        return X if self.features is None else pd.DataFrame(X, columns=pd.Index(self.features))

    def write(
        self,
        path: str | os.PathLike[str],
        change: Change,
        *,
        overwrite: bool = False,
        advance: Callable[[int], object] = lambda _: None,
    ) -> Path:
        """Write a file of the same kind with other vectors, and all else as it is.

        Parameters
        ----------
        path : path-like
        change : callable
            From vectors (m, d) and their clips (m,) to new vectors (m, d').
        overwrite : bool
            Replace the file that is there.
        advance : callable
            Told how many vectors were done.

        Returns
        -------
        Path

        Raises
        ------
        ParameterError
            If the file is there and ``overwrite`` is False, or of another kind.
        DataError
            If its folder is not there.
        StoreError
            If it cannot be written.

        Notes
        -----
        The texts of a table are the owner's, for programs that look for them,
        and stay as they are, also where a spreadsheet would take one for a
        formula; the tables of an audit are written otherwise.
        """
        path = Path(path)
        suffix = self.path.suffix.lower()
        if path.suffix.lower() != suffix:
            raise ParameterError(
                f"{path} ends in {path.suffix!r}, but {self.path} in {suffix!r}; the same kind of "
                "file is written, so give a name that ends like it"
            )
        if not path.parent.is_dir():
            raise DataError(f"{path} cannot be written: {path.parent} is not a folder; make it")
        if path.exists() and not overwrite:
            raise ParameterError(
                f"{path} is already there; choose another name, or pass overwrite=True to "
                "replace it"
            )
        with replacing([path]) as partials:
            partial = partials[path]
            # What was there is not extended but replaced.
            partial.unlink(missing_ok=True)
            is_npy = suffix == ".npy"
            changed = {
                name: change_blocks(
                    X, self._owner(name), change, advance, partial if is_npy else None
                )
                for name, X in self.vectors.items()
            }
            if suffix == ".npz":
                with open_npz(self.path) as archive:
                    compressed = archive.is_compressed
                with partial.open("wb") as stream:
                    write_npz(stream, self.rest | changed, compressed=compressed)
            elif not is_npy:
                self._write_table(partial, changed["X"])
        return path

    def _owner(self, name: str) -> NDArray[np.intp]:
        if name == "frames" and self.frame_clip is not None:
            return self.frame_clip
        return np.arange(len(self.vectors[name]))

    def _write_table(self, partial: Path, X: _Array) -> None:
        names = self.features or []
        if X.shape[1] != len(names):
            raise ParameterError(
                f"{len(names)} features become {X.shape[1]}, which have no columns in "
                f"{self.path.name}; save the vectors as npy or npz"
            )
        frame = self.rest.copy()
        for name, column in zip(names, X.T):
            frame[name] = column
        if self.path.suffix.lower() == ".csv":
            frame.to_csv(partial, index=False)
        else:
            frame.to_parquet(partial)


def change_blocks(
    X: _Array,
    owner: NDArray[np.intp],
    change: Change,
    advance: Callable[[int], object],
    path: Path | None = None,
) -> _Array:
    """Return the changed vectors, made a block at a time.

    Parameters
    ----------
    X : np.ndarray [shape=(m, d)]
    owner : np.ndarray of int [shape=(m,)]
    change : callable
    advance : callable
    path : Path, optional
        Of an npy file to be written, in place of memory.

    Returns
    -------
    np.ndarray [shape=(m, d')]
    """
    step = max(1, BLOCK_VALUES // X.shape[1])
    result = None
    for start in range(0, len(X), step):
        rows = slice(start, start + step)
        block = change(X[rows], owner[rows])
        if result is None:
            shape = (len(X), block.shape[1])
            result = (
                np.empty(shape, block.dtype)
                if path is None
                else np.lib.format.open_memmap(path, "w+", block.dtype, shape)
            )
        result[rows] = block
        advance(len(block))
    return X if result is None else result
