"""Open files of vectors, and say which of their columns are features."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasaudio._npz import open_npy
from biasaudio._sheets import check_texts
from biasaudio._validation import name_some
from biasaudio.errors import DataError, ParameterError
from biasaudio.store.convert import (
    BLANKS,
    FIELDS,
    NUMBERED,
    is_flag,
    is_number,
    member,
    opened,
    read_sheet,
)
from biasaudio.store.files import VectorFile

__all__ = ["SUFFIXES", "open_vectors", "read_columns_file"]

SUFFIXES = (".npy", ".npz", ".csv", ".parquet")
_Array = NDArray[Any]


def open_vectors(
    source: str | os.PathLike[str],
    *,
    features: Sequence[str] | None = None,
    not_features: Collection[str] = (),
) -> VectorFile:
    """Open a file of vectors.

    Parameters
    ----------
    source : path-like
        ``.npy``: X (n, d).  ``.npz``: X, or ``frames`` and ``frame_clip``, and
        other arrays.  ``.csv``, ``.parquet``: one row a clip, one column a
        feature, and other columns.
    features : sequence of str, optional
        The columns that hold the features of a table; by default ``f0``,
        ``f1``, ... if there are such, else all numeric ones that are not a
        clip column.
    not_features : collection of str
        Columns that are taken for something else.

    Returns
    -------
    VectorFile

    Raises
    ------
    ParameterError
        If the file is of another kind.
    DataError
        If the file is missing, empty, damaged, or without vectors.
    """
    path = Path(source)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ParameterError(
            f"{path} ends in {suffix!r}; give a file that ends in {', '.join(SUFFIXES)}, or a store"
        )
    if not path.is_file():
        raise DataError(f"{path} is not a file that is there; check the path")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes); write it again")
    if suffix == ".npy":
        X = _matrix(_load(path), "the array", path)
        return VectorFile(path, {"X": X}, len(X))
    return _open_npz(path) if suffix == ".npz" else _open_table(path, features, not_features)


def read_columns_file(source: str | os.PathLike[str]) -> dict[str, _Array]:
    """Read what is known of each clip from a file of its own.

    Parameters
    ----------
    source : path-like
        ``.txt`` (one a line) and ``.npy``: the dataset of each clip.  ``.csv``,
        ``.parquet``, ``.npz``: columns with names.

    Returns
    -------
    dict of str to np.ndarray

    Raises
    ------
    ParameterError
        If the file is of another kind.
    DataError
        If the file is missing or cannot be read.
    """
    path = Path(source)
    suffix = path.suffix.lower()
    if suffix not in (*SUFFIXES, ".txt"):
        raise ParameterError(
            f"{path} ends in {suffix!r}; give a file that ends in .txt, {', '.join(SUFFIXES)}"
        )
    if not path.is_file():
        raise DataError(f"{path} is not a file that is there; check the path")
    if suffix == ".txt":
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise DataError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error
        return {"dataset": np.array(lines, dtype=object)}
    if suffix == ".npy":
        return {"dataset": _load(path)}
    if suffix == ".npz":
        return _npz_arrays(path)
    frame = _read_frame(path)
    columns = {name: frame[name].to_numpy() for name in frame.columns}
    check_texts(path, columns)
    return columns


def _load(path: Path) -> _Array:
    try:
        return open_npy(path)
    except ValueError as error:
        raise DataError(
            f"{path} is not an array file, or is damaged ({error}); save it again"
        ) from error


def _npz_arrays(path: Path) -> dict[str, _Array]:
    with opened(path) as archive:
        return {name: member(archive, name, path) for name in archive.names}


def _open_npz(path: Path) -> VectorFile:
    arrays = _npz_arrays(path)
    found: list[str] = [name for name in ("X", "frames") if name in arrays]
    if not found or ("frames" in found) != ("frame_clip" in arrays):
        raise DataError(
            f"{path} has {name_some(arrays, 10)}; give the vectors as 'X' (n, d), or as 'frames' "
            "(m, d) and 'frame_clip' (m,)"
        )
    vectors: dict[str, _Array] = {name: _matrix(arrays[name], name, path) for name in found}
    owner = arrays.get("frame_clip")
    ids = arrays.get("X", arrays.get("clip"))
    n = -1 if ids is None or not ids.ndim else len(ids)
    if owner is not None:
        m = len(vectors["frames"])
        if owner.shape != (m,) or owner.dtype.kind not in "iu" or not m:
            raise DataError(
                f"{path}: frame_clip has shape {owner.shape} and dtype {owner.dtype}; give a whole "
                f"number, the row of its clip, for each of {m} frames"
            )
        n = int(owner.max()) + 1 if n < 0 else n
        if len(np.unique(owner)) != n or owner.min() < 0 or owner.max() >= n:
            raise DataError(
                f"{path}: frame_clip goes from {owner.min()} to {owner.max()}, but there are {n} "
                "clips; give rows of clips, and some frame for each clip"
            )
        owner = owner.astype(np.intp)
    rest = {name: array for name, array in arrays.items() if name not in found}
    columns = {
        name: array
        for name, array in rest.items()
        if name != "frame_clip" and array.ndim and len(array) == n
    }
    return VectorFile(path, vectors, n, columns, owner, rest=rest)


def _matrix(array: _Array, name: str, path: Path) -> _Array:
    if array.ndim != 2 or array.dtype.kind not in "fiub" or 0 in array.shape:
        raise DataError(
            f"{path}: {name} has shape {array.shape} and dtype {array.dtype}; give numbers, "
            "shape (n, d), one row a vector"
        )
    return array


def _open_table(
    path: Path, features: Sequence[str] | None, not_features: Collection[str]
) -> VectorFile:
    frame = _read_frame(path)
    columns: dict[str, _Array] = {}
    # A csv is read twice: as text, so that what is not changed is written as it was.
    numbers = frame
    if path.suffix.lower() == ".csv":
        numbers = read_sheet(path, lambda header: {"na_values": BLANKS})
    is_guessed = features is None
    if features is None:
        features = _feature_columns(numbers, path, {*FIELDS, "clip_id", *not_features})
    features = list(dict.fromkeys(features))
    missing = [name for name in features if name not in frame.columns]
    wrong = [n for n in features if n not in missing and not is_number(numbers[n])]
    if missing or wrong:
        what = f"no column {name_some(missing)}" if missing else f"text in {name_some(wrong)}"
        raise DataError(
            f"{path} has {what}, which the correction was fitted on, or is to be; give columns of "
            "numbers that are there"
        )
    taken = set(features)
    columns = {n: frame[n].to_numpy() for n in frame.columns if n not in taken}
    check_texts(path, columns)
    is_single = all(numbers[name].dtype == np.float32 for name in features)
    X = numbers[features].to_numpy(np.float32 if is_single else np.float64, na_value=np.nan)
    if numbers is not frame:
        # pandas is quick, and wrong in the last digit.
        known = ~np.isnan(X)
        X = np.array(X)
        X[known] = frame[features].to_numpy(object)[known].astype(np.float64)
    # Names other than f0, f1, ... say nothing of what the columns hold.
    is_guessed &= not re.fullmatch(NUMBERED, features[0])
    return VectorFile(
        path, {"X": X}, len(X), columns, features=features, is_guessed=is_guessed, rest=frame
    )


def _read_frame(path: Path) -> pd.DataFrame:
    """Return a table; a csv as texts."""
    frame = read_sheet(path, lambda header: {"dtype": str})
    twice = frame.columns[frame.columns.duplicated()]
    if frame.empty or len(twice):
        what = f"the column {twice[0]!r} twice" if len(twice) else "no rows"
        raise DataError(f"{path} has {what}; give one row a clip, and each column once")
    return frame


def _feature_columns(frame: pd.DataFrame, path: Path, taken: set[str]) -> list[str]:
    # An index that pandas wrote along would be a feature that gives the order away.
    others = [n for n in frame.columns if n not in taken and not n.startswith("Unnamed:")]
    numbered = [name for name in others if re.fullmatch(NUMBERED, name)]
    features = sorted(numbered, key=lambda name: int(name[1:])) or [
        name for name in others if is_number(frame[name])
    ]
    likely = [name for name in features if not numbered and is_flag(frame[name])]
    if likely:
        raise DataError(
            f"{path} has nothing but 0, 1 and blank in {name_some(likely)}, which looks like "
            "labels and not like features; call the features f0, f1, ..."
        )
    if not features:
        raise DataError(
            f"{path} has no vectors, only {name_some(frame.columns, 10)}; give one numeric column "
            "a feature, best called f0, f1, ..."
        )
    return features
