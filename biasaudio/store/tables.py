"""Vectors in npy, npz, csv and parquet files: brought into a store, or changed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasaudio._files import (
    Npz,
    check_texts,
    open_npy,
    open_npz,
    read_csv_header,
    read_parquet,
    replacing,
    write_npz,
)
from biasaudio._validation import check_choice, did_you_mean, name_some
from biasaudio.datasets.table import ClipTable
from biasaudio.errors import DataError, ParameterError
from biasaudio.store.output import Vectors
from biasaudio.store.pooling import pool_blocks
from biasaudio.store.writer import add_vectors, already_there, vectors_of

__all__ = [
    "VECTOR_SUFFIXES",
    "VectorFile",
    "import_file",
    "import_files",
    "read_columns_file",
    "read_vectors",
]

FIELDS = ("clip", "dataset", "label", "group", "genre", "split")
IMPORTED = (".npz", ".csv", ".parquet")
VECTOR_SUFFIXES = (".npy", *IMPORTED)
# Longer numbers are no numbers of a feature.
NUMBERED = r"f[0-9]{1,9}"
BLANKS = ["", "NA", "NaN", "nan", "null"]
BLOCK_VALUES = 2**22
_Array = NDArray[Any]
# From some vectors and the clip of each to new vectors.
Change = Callable[[_Array, NDArray[np.intp]], _Array]

# ------------------------------------------------------------------ into a store


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
        columns, ``clip`` or ``clip_id``, and one column per feature: ``f0``,
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
    import_arrays : The same from arrays, also with several labels per clip.
    """
    return import_files(
        store,
        [source],
        dataset=dataset,
        embedding=embedding,
        overwrite=overwrite,
        columns=columns,
    )


def import_files(
    store: str | os.PathLike[str],
    sources: Sequence[str | os.PathLike[str]],
    *,
    dataset: str | None = None,
    embedding: str | None = None,
    overwrite: bool = False,
    columns: Mapping[str, str] | None = None,
) -> Path:
    """Add the vectors of several files to a store, all of them or none.

    Parameters
    ----------
    store : path-like
    sources : sequence of path-like
        All are in memory at once.
    dataset, embedding, overwrite, columns
        As in `import_file`.

    Returns
    -------
    Path
        Of the store.

    Raises
    ------
    BiasAudioError
        As `import_file`, with the name of the file; then nothing was added, so
        that the same call can be repeated.
    """
    vectors: dict[tuple[str, str], Vectors] = {}
    clips: dict[str, ClipTable] = {}
    embedding = "embedding" if embedding is None else embedding
    for source in map(Path, sources):
        try:
            table, found = _read_import(source, dataset, embedding, columns)
        except (DataError, ParameterError) as error:
            # What is wrong with an argument is wrong for each of the files.
            if str(source) in str(error) or isinstance(error, ParameterError):
                raise
            raise type(error)(f"{source}: {error}") from error
        for each in found:
            if each.pair in vectors:
                raise already_there(embedding, each.dataset, [source.with_name("a file before")])
            vectors[each.pair] = each
            clips[each.dataset] = table.select(table.dataset == each.dataset)
    return add_vectors(Path(store), list(vectors.values()), clips, overwrite=overwrite)


def _read_import(
    source: Path, dataset: str | None, embedding: str, columns: Mapping[str, str] | None
) -> tuple[ClipTable, list[Vectors]]:
    """Clips and vectors of one file, checked."""
    suffix = source.suffix.lower()
    if suffix not in IMPORTED:
        raise ParameterError(
            f"{source} ends in {suffix!r}; give a file that ends in {', '.join(IMPORTED)}"
        )
    names = {} if columns is None else dict(columns)
    for name in names:
        check_choice(name, "columns", FIELDS)
    _check_there(source)
    arrays = (_import_npz if suffix == ".npz" else _import_table)(source, names)
    if dataset is not None or "dataset" not in arrays:
        arrays["dataset"] = source.stem if dataset is None else dataset
    X, clip, frame_clip = arrays.pop("X"), arrays.pop("clip"), arrays.pop("frame_clip", None)
    if np.ndim(clip) == 1 and "label" in arrays and np.shape(arrays["label"]) != np.shape(clip):
        raise DataError(
            f"label has shape {np.shape(arrays['label'])}, but there are {len(clip)} clip ids; "
            "give one label per clip"
        )
    clips = ClipTable.from_columns(clip, arrays.pop("dataset"), **arrays)
    return clips, vectors_of(X, clips, embedding, frame_clip)


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise DataError(f"{path} is not a file that is there; check the path")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes); write it again")


def _named(source: Path, there: list[str], names: Mapping[str, str]) -> dict[str, str]:
    """Which of the fields is there under which name."""
    for name, column in names.items():
        if column not in there:
            raise ParameterError(
                f"{source} has no column {column!r}, which is to be {name!r}; choose from "
                f"{name_some(there, 10)}{did_you_mean(column, there)}"
            )
    found = {name: name for name in FIELDS if name in there} | dict(names)
    if "clip" not in found and "clip_id" in there:
        found["clip"] = "clip_id"
    if "clip" not in found:
        raise DataError(
            f"{source} has no 'clip' or 'clip_id', only {name_some(there, 10)}; add the id of each "
            "clip, or say which it is with columns={'clip': ...}"
        )
    return found


def _import_npz(source: Path, names: Mapping[str, str]) -> dict[str, Any]:
    with _opened(source) as archive:
        there = archive.names
        found = _named(source, there, names)
        arrays = {name: _member(archive, key, source) for name, key in found.items()}
        has_frames = [name in there for name in ("frames", "frame_clip")]
        if all(has_frames):
            arrays["X"] = _member(archive, "frames", source)
            arrays["frame_clip"] = _member(archive, "frame_clip", source)
        elif any(has_frames):
            raise DataError(
                f"{source} has only one of 'frames' and 'frame_clip'; give both, or none and 'X'"
            )
        elif "X" in there:
            arrays["X"] = _member(archive, "X", source)
        else:
            raise DataError(
                f"{source} has no 'X', only {name_some(there, 10)}; add the vectors as 'X' (n, d)"
            )
    return arrays


def _import_table(source: Path, names: Mapping[str, str]) -> dict[str, Any]:
    texts = {*FIELDS, "clip_id", *names.values()}

    def options(header: list[str]) -> dict[str, Any]:
        # A clip may be called 007 or NA: such a name is text and not blank.
        return {
            "dtype": {name: str for name in header if name in texts},
            "na_values": {name: BLANKS for name in header if name not in texts},
        }

    frame = _read_sheet(source, options)
    if frame.empty:
        raise DataError(f"{source} has no rows; give at least one clip")
    found = _named(source, list(frame.columns), names)
    features = _feature_columns(
        frame,
        source,
        {*found.values(), *FIELDS, "clip_id"},
        "leave these out (labels belong into a manifest), or call the features f0, f1, ...",
    )
    wrong = [name for name in features if not _is_number(frame[name])]
    if wrong or not features:
        what = f"text in {name_some(wrong)}" if wrong else f"only {name_some(frame.columns, 10)}"
        raise DataError(
            f"{source} has no vectors: it has {what}; give one numeric column a feature, best "
            "called f0, f1, ..."
        )
    arrays: dict[str, Any] = {name: frame[key].to_numpy(object) for name, key in found.items()}
    arrays["X"] = frame[features].to_numpy(np.float64, na_value=np.nan)
    check_texts(source, arrays)
    return arrays


# ------------------------------------------------------------------ reading with distrust


@contextmanager
def _opened(source: Path) -> Iterator[Npz]:
    """Open an npz file, or say why it cannot be read."""
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(open_npz(source))
        except ValueError as error:
            raise DataError(
                f"{source} is not an npz file, or is cut off; save it with numpy.savez ({error})"
            ) from error
        yield archive


def _member(archive: Npz, name: str, source: Path) -> _Array:
    """One array of an npz file, or the reason why it cannot be read."""
    try:
        if archive.header(name)[1].hasobject:
            raise DataError(
                f"{source}: {name!r} is an object array, which needs pickled code to be run; "
                f"save {name}.astype(str) or numbers"
            )
        return archive.read(name)
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{source}: {name!r} is damaged ({error}); save it again") from error


def _load(path: Path) -> _Array:
    try:
        return open_npy(path)
    except ValueError as error:
        raise DataError(
            f"{path} is not an array file, or is damaged ({error}); save it again"
        ) from error


def _npz_arrays(path: Path) -> dict[str, _Array]:
    with _opened(path) as archive:
        return {name: _member(archive, name, path) for name in archive.names}


def _read_sheet(source: Path, options: Callable[[list[str]], dict[str, Any]]) -> pd.DataFrame:
    """A parquet or csv file as a table; ``options`` are those of `pandas.read_csv`, by header."""
    try:
        if source.suffix.lower() == ".parquet":
            frame = read_parquet(source)
        else:
            header = read_csv_header(source)
            # In pieces, a column could be of numbers here and of texts there.
            frame = pd.read_csv(source, keep_default_na=False, low_memory=False, **options(header))
            # pandas takes a surplus first field for row names.
            if not isinstance(frame.index, pd.RangeIndex):
                raise ValueError("the rows have more fields than the header")
    except ImportError:
        raise DataError(
            f"{source} needs pyarrow; run 'python -m pip install pyarrow', or save it as csv"
        ) from None
    except (OSError, ValueError, LookupError, MemoryError, OverflowError) as error:
        if isinstance(error, DataError):
            raise
        text = " ".join(str(error).split())
        raise DataError(f"{source} cannot be read ({text}); save it again") from error
    return frame.rename(columns=str)


def _feature_columns(
    frame: pd.DataFrame, source: Path, taken: Collection[str], way: str
) -> list[str]:
    """Columns of features: ``f0``, ``f1``, ... if there are such, else all that are numbers."""
    # An index that pandas wrote along would be a feature that gives the order away.
    others = [n for n in frame.columns if n not in taken and not n.startswith("Unnamed:")]
    numbered = [name for name in others if re.fullmatch(NUMBERED, name)]
    features = sorted(numbered, key=lambda name: int(name[1:])) or [
        name for name in others if _is_number(frame[name])
    ]
    likely = (
        []
        if numbered
        else [name for name in features if set(frame[name].dropna().unique().tolist()) == {0, 1}]
    )
    if likely:
        raise DataError(
            f"{source} has nothing but 0, 1 and blank in {name_some(likely)}, which looks like "
            f"labels and not like features; {way}"
        )
    return features


def _is_number(column: pd.Series[Any]) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column))


# ------------------------------------------------------------------ changed and written again


@dataclass(eq=False)
class VectorFile:
    """Vectors of a file, and what it says of each clip.

    Attributes
    ----------
    path : Path
    vectors : dict of str to np.ndarray [shape=(m, d)]
        ``X``, and ``frames`` where there are such.
    n_clips : int
    columns : dict of str to np.ndarray [shape=(n, ...)]
        What else there is with one row per clip.
    frame_clip : np.ndarray of int [shape=(m,)] or None
        The clip of each of the ``frames``.
    features : list of str or None
        The columns of a table that X was read from.
    is_guessed : bool
        Whether these are all that hold numbers, as no name says which.
    rest : dict of str to np.ndarray, or pd.DataFrame
        All of an npz file but the vectors; all of a table.
    is_compressed : bool
        Whether an npz file is packed.
    """

    path: Path
    vectors: dict[str, _Array]
    n_clips: int
    columns: dict[str, _Array] = field(default_factory=dict)
    frame_clip: NDArray[np.intp] | None = None
    features: list[str] | None = None
    is_guessed: bool = False
    rest: Any = None
    is_compressed: bool = False

    @property
    def n_rows(self) -> int:
        """Number of vectors, frames and clips taken together."""
        return sum(map(len, self.vectors.values()))

    def clip_vectors(self) -> Any:
        """One vector per clip, the mean of its frames where there are frames.

        Returns
        -------
        np.ndarray or pd.DataFrame [shape=(n, d)]
            A frame with the names of the features, if they have names.
        """
        if self.frame_clip is not None:
            frames = np.asarray(self.vectors["frames"], dtype=np.float32)
            X = np.full((self.n_clips, frames.shape[1]), np.nan, np.float32)
            bad = pool_blocks([(0, frames)], self.frame_clip, np.arange(self.n_clips), X, "mean")
            X[bad] = np.nan
            return X
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
        with replacing(path) as partial:
            mapped = partial if suffix == ".npy" else None
            changed = {
                name: _change_blocks(X, self._owner(name), change, advance, mapped)
                for name, X in self.vectors.items()
            }
            if suffix == ".npz":
                with partial.open("wb") as stream:
                    write_npz(stream, self.rest | changed, compressed=self.is_compressed)
            elif mapped is None:
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
        for name, column in zip(names, X.T, strict=True):
            frame[name] = column
        if self.path.suffix.lower() == ".csv":
            frame.to_csv(partial, index=False)
        else:
            frame.to_parquet(partial)


def _change_blocks(
    X: _Array,
    owner: NDArray[np.intp],
    change: Change,
    advance: Callable[[int], object],
    path: Path | None,
) -> _Array:
    """The changed vectors, made a block at a time, in memory or in an npy file."""
    step = max(1, BLOCK_VALUES // X.shape[1])
    result: _Array | None = None
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


def read_vectors(
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
        other arrays.  ``.csv``, ``.parquet``: one row per clip, one column per
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
    if suffix not in VECTOR_SUFFIXES:
        raise ParameterError(
            f"{path} ends in {suffix!r}; give a file that ends in {', '.join(VECTOR_SUFFIXES)}, or "
            "a store"
        )
    _check_there(path)
    if suffix == ".npy":
        X = _matrix(_load(path), "the array", path)
        return VectorFile(path, {"X": X}, len(X))
    return _open_npz(path) if suffix == ".npz" else _open_table(path, features, not_features)


def read_columns_file(source: str | os.PathLike[str]) -> dict[str, _Array]:
    """Read what is known of each clip from a file of its own.

    Parameters
    ----------
    source : path-like
        ``.txt`` (one per line) and ``.npy``: the dataset of each clip.  ``.csv``,
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
    if suffix not in (*VECTOR_SUFFIXES, ".txt"):
        raise ParameterError(
            f"{path} ends in {suffix!r}; give a file that ends in .txt, "
            f"{', '.join(VECTOR_SUFFIXES)}"
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
    frame = _whole_table(path)
    columns = {name: frame[name].to_numpy() for name in frame.columns}
    check_texts(path, columns)
    return columns


def _open_npz(path: Path) -> VectorFile:
    with _opened(path) as archive:
        arrays = {name: _member(archive, name, path) for name in archive.names}
        is_compressed = archive.is_compressed
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
    return VectorFile(path, vectors, n, columns, owner, rest=rest, is_compressed=is_compressed)


def _matrix(array: _Array, name: str, path: Path) -> _Array:
    if array.ndim != 2 or array.dtype.kind not in "fiub" or 0 in array.shape:
        raise DataError(
            f"{path}: {name} has shape {array.shape} and dtype {array.dtype}; give numbers, "
            "shape (n, d), one row a vector"
        )
    return array


def _whole_table(path: Path) -> pd.DataFrame:
    """A table with each column once; a csv as texts."""
    frame = _read_sheet(path, lambda header: {"dtype": str})
    twice = frame.columns[frame.columns.duplicated()]
    if frame.empty or len(twice):
        what = f"the column {twice[0]!r} twice" if len(twice) else "no rows"
        raise DataError(f"{path} has {what}; give one row a clip, and each column once")
    return frame


def _open_table(
    path: Path, features: Sequence[str] | None, not_features: Collection[str]
) -> VectorFile:
    frame = _whole_table(path)
    # A csv is read twice: as text, so that what is not changed is written as it was.
    numbers = frame
    if path.suffix.lower() == ".csv":
        numbers = _read_sheet(path, lambda header: {"na_values": BLANKS})
    is_guessed = features is None
    if features is None:
        taken = {*FIELDS, "clip_id", *not_features}
        features = _feature_columns(numbers, path, taken, "call the features f0, f1, ...")
        if not features:
            raise DataError(
                f"{path} has no vectors, only {name_some(numbers.columns, 10)}; give one numeric "
                "column a feature, best called f0, f1, ..."
            )
    features = list(dict.fromkeys(features))
    missing = [name for name in features if name not in frame.columns]
    wrong = [n for n in features if n not in missing and not _is_number(numbers[n])]
    if missing or wrong:
        what = f"no column {name_some(missing)}" if missing else f"text in {name_some(wrong)}"
        raise DataError(
            f"{path} has {what}, which the correction was fitted on, or is to be; give columns of "
            "numbers that are there"
        )
    columns = {n: frame[n].to_numpy() for n in frame.columns if n not in set(features)}
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
