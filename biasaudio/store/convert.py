"""Bring npz, csv and parquet files into a store."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasaudio._npz import Npz, open_npz
from biasaudio._sheets import check_csv, check_texts, read_parquet
from biasaudio._validation import check_choice, did_you_mean, name_some
from biasaudio.errors import DataError, ParameterError
from biasaudio.store.writer import import_arrays

__all__ = ["import_file", "is_flag", "is_number", "member", "opened", "read_sheet"]

FIELDS = ("clip", "dataset", "label", "group", "genre", "split")
SUFFIXES = (".npz", ".csv", ".parquet")
# Longer numbers are no numbers of a feature.
NUMBERED = r"f[0-9]{1,9}"
BLANKS = ["", "NA", "NaN", "nan", "null"]


def import_file(
    store: str | os.PathLike[str],
    source: str | os.PathLike[str],
    *,
    dataset: str | None = None,
    embedding: str | None = None,
    overwrite: bool = False,
    columns: Mapping[str, str] | None = None,
) -> Path:
    """Add the vectors of an npz, csv or parquet file to a store.

    Parameters
    ----------
    store : path-like
        An HDF5 file or a folder; see `import_arrays`.
    source : path-like
        ``.npz``: arrays ``X`` (n, d) and ``clip`` (n,), and any of ``label``,
        ``dataset``, ``group``, ``genre`` and ``split`` of the same length; where
        there are ``frames`` and ``frame_clip`` (the row of ``clip`` of each
        frame), they take the place of X.  ``.csv``, ``.parquet``: the same
        columns, ``clip`` or ``clip_id``, and one column a feature: ``f0``,
        ``f1``, ... if there are such, else all other numeric columns.
    dataset : str, optional
        Default: the ``dataset`` column, else the name of the file.
    embedding : str, optional
        Default: ``"embedding"``.
    overwrite : bool
        Replace the embedding where it exists.
    columns : mapping of str to str, optional
        Where the file calls something otherwise, such as
        ``{"group": "song_id"}``.

    Returns
    -------
    Path
        Of the store.

    Raises
    ------
    ParameterError
        If the file is of another kind, or ``columns`` is not right.
    DataError
        If the file is missing, empty, damaged, or without what is needed.
    StoreError
        If the store cannot be written.

    See Also
    --------
    import_arrays : The same from arrays, also with several labels a clip.
    """
    source = Path(source)
    suffix = source.suffix.lower()
    if suffix not in SUFFIXES:
        raise ParameterError(
            f"{source} ends in {suffix!r}; give a file that ends in {', '.join(SUFFIXES)}"
        )
    names = _field_names(columns)
    if not source.is_file():
        raise DataError(f"{source} is not a file that is there; check the path")
    if source.stat().st_size == 0:
        raise DataError(f"{source} is empty (0 bytes); write it again")
    read = _read_npz if suffix == ".npz" else _read_table
    arrays = read(source, names)
    if dataset is not None or "dataset" not in arrays:
        arrays["dataset"] = source.stem if dataset is None else dataset
    X, clip = arrays.pop("X"), arrays.pop("clip")
    embedding = "embedding" if embedding is None else embedding
    return import_arrays(store, X, clip, embedding=embedding, overwrite=overwrite, **arrays)


def _field_names(columns: Mapping[str, str] | None) -> dict[str, str]:
    columns = {} if columns is None else dict(columns)
    for field in columns:
        check_choice(field, "columns", FIELDS)
    return columns


def _named(source: Path, there: list[str], names: Mapping[str, str]) -> dict[str, str]:
    """Return which of the fields is there under which name."""
    for field, name in names.items():
        if name not in there:
            raise ParameterError(
                f"columns names {name!r} for {field}, which is not in {source}; "
                f"choose from {name_some(there, 10)}{did_you_mean(name, there)}"
            )
    found = {field: field for field in FIELDS if field in there} | dict(names)
    if "clip" not in found and "clip_id" in there:
        found["clip"] = "clip_id"
    if "clip" not in found:
        raise DataError(
            f"{source} has no 'clip' or 'clip_id', only {name_some(there, 10)}; add the id of each "
            "clip, or say which it is with columns={'clip': ...}"
        )
    return found


def _read_npz(source: Path, names: Mapping[str, str]) -> dict[str, Any]:
    with opened(source) as archive:
        there = archive.names
        found = _named(source, there, names)
        arrays = {field: member(archive, name, source) for field, name in found.items()}
        has_frames = [name in there for name in ("frames", "frame_clip")]
        if all(has_frames):
            arrays["X"] = member(archive, "frames", source)
            arrays["frame_clip"] = member(archive, "frame_clip", source)
        elif any(has_frames):
            raise DataError(
                f"{source} has only one of 'frames' and 'frame_clip'; give both, or none and 'X'"
            )
        elif "X" in there:
            arrays["X"] = member(archive, "X", source)
        else:
            raise DataError(
                f"{source} has no 'X', only {name_some(there, 10)}; add the vectors as 'X' (n, d)"
            )
    return arrays


@contextmanager
def opened(source: Path) -> Iterator[Npz]:
    """Open an npz file, or say why it cannot be read."""
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(open_npz(source))
        except ValueError as error:
            raise DataError(
                f"{source} is not an npz file, or is cut off; save it with numpy.savez ({error})"
            ) from error
        yield archive


def member(archive: Npz, name: str, source: Path) -> NDArray[Any]:
    """Return one array of an npz file, or say why it cannot be read."""
    try:
        if archive.header(name).dtype.hasobject:
            raise DataError(
                f"{source}: {name!r} is an object array, which needs pickled code to be run; "
                f"save {name}.astype(str) or numbers"
            )
        return archive.read(name)
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{source}: {name!r} is damaged ({error}); save it again") from error


def _read_table(source: Path, names: Mapping[str, str]) -> dict[str, Any]:
    frame = _read_frame(source, names)
    found = _named(source, list(frame.columns), names)
    # An index that pandas wrote along would be a feature that gives the order away.
    taken = {*found.values(), *FIELDS, "clip_id"}
    others = [
        name for name in frame.columns if name not in taken and not name.startswith("Unnamed:")
    ]
    numbered = [name for name in others if re.fullmatch(NUMBERED, name)]
    features = sorted(numbered, key=lambda name: int(name[1:])) or [
        name for name in others if is_number(frame[name])
    ]
    likely = [name for name in features if not numbered and is_flag(frame[name])]
    if likely:
        raise DataError(
            f"{source} has nothing but 0, 1 and blank in {name_some(likely)}, which looks like "
            "labels and not like features; leave these out (labels belong into a manifest), or "
            "call the features f0, f1, ..."
        )
    wrong = [name for name in features if not is_number(frame[name])]
    if wrong or not features:
        what = f"text in {name_some(wrong)}" if wrong else f"only {name_some(frame.columns, 10)}"
        raise DataError(
            f"{source} has no vectors: it has {what}; give one numeric column a feature, best "
            "called f0, f1, ..."
        )
    arrays: dict[str, Any] = {field: frame[name].to_numpy(object) for field, name in found.items()}
    arrays["X"] = frame[features].to_numpy(np.float64, na_value=np.nan)
    check_texts(source, arrays)
    return arrays


def is_flag(column: pd.Series[Any]) -> bool:
    """Say whether a column holds both of 0 and 1, perhaps blanks, and nothing else."""
    return set(column.dropna().unique().tolist()) == {0, 1}


def is_number(column: pd.Series[Any]) -> bool:
    """Say whether a column holds numbers."""
    return bool(pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column))


def _read_frame(source: Path, names: Mapping[str, str]) -> pd.DataFrame:
    texts = {*FIELDS, "clip_id", *names.values()}

    def options(header: list[str]) -> dict[str, Any]:
        # A clip may be called 007 or NA: such a name is text and not blank.
        return {
            "dtype": {name: str for name in header if name in texts},
            "na_values": {name: BLANKS for name in header if name not in texts},
        }

    frame = read_sheet(source, options)
    if frame.empty:
        raise DataError(f"{source} has no rows; give at least one clip")
    return frame


def read_sheet(source: Path, options: Callable[[list[str]], dict[str, Any]]) -> pd.DataFrame:
    """Return a parquet or csv file as a table, or say why it cannot be read.

    Parameters
    ----------
    source : Path
    options : callable
        From the columns of a csv file to options of `pandas.read_csv`.

    Returns
    -------
    pd.DataFrame
    """
    try:
        if source.suffix.lower() == ".parquet":
            frame = read_parquet(source)
        else:
            header = check_csv(source)
            # In pieces, a column could be of numbers here and of texts there.
            frame = pd.read_csv(source, keep_default_na=False, low_memory=False, **options(header))
            # pandas takes a surplus first field for row names.
            if not isinstance(frame.index, pd.RangeIndex):
                raise ValueError("the rows have more fields than the header")
    except ImportError:
        raise DataError(
            f"{source} needs pyarrow; run 'python -m pip install pyarrow', or save it as csv"
        ) from None
    except (OSError, ValueError, LookupError, MemoryError) as error:
        if isinstance(error, DataError):
            raise
        text = " ".join(str(error).split())
        raise DataError(f"{source} cannot be read ({text}); save it again") from error
    return frame.rename(columns=str)
