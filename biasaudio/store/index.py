"""Which files of a store hold which embedding of which dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import h5py

from biasaudio._validation import did_you_mean, name_some
from biasaudio.errors import DataError, ParameterError, StoreError
from biasaudio.store.guard import check_contents, decode_texts, read_array
from biasaudio.store.opening import child, guard_read, open_store_file
from biasaudio.store.schema import (
    CLIPS,
    FEATURES,
    KEYS,
    RESERVED,
    SUPERSEDES,
    check_name,
    list_files,
    store_files,
)
from biasaudio.store.seal import mark_of

__all__ = [
    "Index",
    "already_there",
    "datasets_of",
    "existing",
    "files_of",
    "held_of",
    "index_files",
    "index_now",
    "is_alone",
    "matching",
    "read_steadily",
    "stamp",
    "superseded_by",
]

_Result = TypeVar("_Result")
# How often reading begins again because files were merged in the meantime.
TRIES = 10
# From (dataset, embedding) to the files that hold parts of it, sorted.
Index = dict[tuple[str, str], tuple[Path, ...]]


def index_files(files: Iterable[Path]) -> Index:
    """Return which files hold which (dataset, embedding).

    Parameters
    ----------
    files : iterable of Path
        Of one folder, or one file.

    Returns
    -------
    dict
        From (dataset, embedding) to the files, sorted.

    Raises
    ------
    StoreError
        If a file does not hold the layout, or a name is not allowed.
    """
    held: dict[Path, list[tuple[str, str]]] = {}
    by: list[tuple[Path, str]] = []
    for file in files:
        with open_store_file(file) as handle:
            held[file] = _pairs(handle, file)
            by += [(file, name) for name in superseded_by(handle, file)]
            if not held[file]:
                seen = name_some(f"/{name}" for name in handle) or "nothing"
                raise StoreError(
                    f"{file} has no /<dataset>/<embedding>/{{features, keys}}; it holds {seen}; "
                    "give a file in this layout, or write one with import_arrays"
                )
    index: dict[tuple[str, str], list[Path]] = {}
    # A file can only take the place of what it holds too.
    superseded = {
        file.with_name(name)
        for file, name in by
        if set(held.get(file.with_name(name), ())) <= set(held[file])
    }
    for file, pairs in held.items():
        if file not in superseded:
            for pair in pairs:
                index.setdefault(pair, []).append(file)
    return {pair: tuple(sorted(found)) for pair, found in sorted(index.items())}


def _pairs(handle: h5py.File, path: Path) -> list[tuple[str, str]]:
    found = []
    check_contents(handle, path)
    with guard_read(path, "the list of its groups"):
        for dataset in _names(handle):
            group = child(handle, dataset, path)
            if not isinstance(group, h5py.Group):
                continue
            for embedding in _names(group):
                leaf = child(group, embedding, path)
                if isinstance(leaf, h5py.Group) and (FEATURES in leaf or KEYS in leaf):
                    found.append((dataset, embedding))
    try:
        for dataset, embedding in found:
            check_name(dataset, "dataset")
            check_name(embedding, "embedding")
    except ParameterError as error:
        raise StoreError(f"{path}: {error}") from error
    return found


def _names(group: h5py.Group) -> list[str]:
    return [name for name in group if not name.startswith(RESERVED)]


def superseded_by(handle: h5py.File, path: Path) -> dict[str, str]:
    """Return the files beside this one that it has taken the place of, and their marks."""
    with guard_read(path, SUPERSEDES):
        found = child(handle, SUPERSEDES, path)
    texts = None if found is None else read_array(found, path)
    return matching([] if texts is None else decode_texts(texts, path, SUPERSEDES), path)


def matching(lines: Iterable[str], path: Path) -> dict[str, str]:
    """Return those of the files that a file lists which are still the ones it listed."""
    marks = {name: mark for mark, _, name in (text.partition(" ") for text in lines)}
    return {
        name: mark
        for name, mark in marks.items()
        if name and Path(name).name == name != path.name and mark_of(path.with_name(name)) == mark
    }


def existing(path: Path) -> Index:
    """Return which files of a store hold which (dataset, embedding), if there is a store yet.

    Parameters
    ----------
    path : Path
        A store, or where one is to be made.

    Returns
    -------
    dict
        Empty where there is none.
    """
    return index_files([path] if path.is_file() else store_files(path))


def already_there(embedding: str, dataset: str, files: Iterable[Path]) -> ParameterError:
    """Return the error that an embedding is in a store and shall not be replaced."""
    return ParameterError(
        f"embedding {embedding!r} of dataset {dataset!r} is already in "
        f"{name_some(map(str, files))}; choose another name, or pass overwrite=True to replace it"
    )


def is_alone(index: Index, pair: tuple[str, str], file: Path) -> bool:
    """Say whether a file holds nothing but this embedding of this dataset."""
    if [key for key, files in index.items() if file in files] != [pair]:
        return False
    with open_store_file(file) as handle:
        group = child(handle, pair[0], file)
        others = {*handle} - {pair[0], SUPERSEDES}
        return not others and {*group} <= {pair[1], CLIPS}


def index_now(path: Path) -> Index:
    """Return the index of a store, which may be growing."""
    for _ in range(TRIES):
        files = list_files(path)
        try:
            return index_files(files)
        except StoreError:
            if list_files(path) == files:
                raise
    return index_files(list_files(path))


def read_steadily(
    path: Path, read: Callable[[Index], _Result], *, is_checked: bool = False
) -> _Result:
    """Return what ``read`` makes of a store's index, though files are merged meanwhile.

    Parameters
    ----------
    path : Path
        Of the store.
    read : callable
        From the index to a result.
    is_checked : bool
        Whether ``read`` fails by itself for a clip that is in two files.
    """
    for _ in range(TRIES):
        stamps = _stamps(path)
        index = index_now(path)
        try:
            result = read(index)
        except (StoreError, DataError):
            if _is_same(path, stamps):
                raise
        else:
            # What a file was merged into may have been read beside it.
            if is_checked or _is_same(path, stamps):
                return result
    return read(index_now(path))


def _stamps(path: Path) -> dict[Path, tuple[int, ...]]:
    found = {}
    for file in list_files(path):
        with suppress(FileNotFoundError):
            found[file] = stamp(file)
    return found


def _is_same(path: Path, before: Mapping[Path, tuple[int, ...]]) -> bool:
    """Say whether the files of a store are those of before; new ones may have come."""
    now = _stamps(path)
    return all(now.get(file) == each for file, each in before.items())


def stamp(file: Path) -> tuple[int, ...]:
    """Return what tells a file from another one of its name."""
    found = file.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def held_of(index: Index, path: Path, dataset: str) -> list[str]:
    """Return the embeddings of a dataset, or say which datasets there are."""
    held = [embedding for name, embedding in index if name == dataset]
    if not held:
        there = sorted({name for name, _ in index})
        raise StoreError(
            f"dataset {dataset!r} is not in {path}; choose from "
            f"{name_some(there, 20)}{did_you_mean(dataset, there)}"
        )
    return held


def files_of(index: Index, path: Path, dataset: str, embedding: str) -> tuple[Path, ...]:
    """Return the files of an embedding, or say which embeddings there are."""
    held = held_of(index, path, dataset)
    if embedding not in held:
        raise StoreError(
            f"embedding {embedding!r} is not in {path} for dataset {dataset!r}; "
            f"choose from {name_some(held, 20)}{did_you_mean(embedding, held)}"
        )
    return index[dataset, embedding]


def datasets_of(index: Index, path: Path, embedding: str, asked: Sequence[str] | None) -> list[str]:
    """Return the datasets that are asked for, by default all, if they have an embedding."""
    # A dataset is never left out in silence because it lacks the embedding.
    there = sorted({name for name, _ in index})
    names = [asked] if isinstance(asked, str) else list(dict.fromkeys(asked or there))
    if asked is not None and not len(asked):
        raise ParameterError(f"datasets is empty; choose from {name_some(there, 20)}")
    without = [name for name in names if embedding not in held_of(index, path, name)]
    if without and len(without) < len(names):
        raise StoreError(
            f"embedding {embedding!r} is not there for dataset {name_some(without)}; "
            "leave it out with datasets=[...], or choose an embedding that all have"
        )
    return names
