"""Names and places of the store format; FORMAT.md states the rules in prose.

A store is one HDF5 file, or a folder of such files that are read as one.  The
vectors of a dataset lie in ``/<dataset>/<embedding>/{features, keys}``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from biasaudio._validation import name_some
from biasaudio.errors import ParameterError, StoreError

__all__ = [
    "CLIPS",
    "FEATURES",
    "FORMAT_NAME",
    "FORMAT_VERSION",
    "KEYS",
    "PARTIAL",
    "SUFFIXES",
    "check_name",
    "existing",
    "fingerprint_file",
    "guard_read",
    "index_files",
    "is_file_path",
    "list_files",
    "open_store_file",
    "target_file",
]

FORMAT_NAME = "biasaudio-store"
FORMAT_VERSION = 1
FEATURES = "features"
KEYS = "keys"
CLIPS = "__clips__"
PARTIAL = ".partial"
SUFFIXES = (".h5", ".hdf5")
RESERVED = "__"


def is_file_path(path: Path) -> bool:
    """Say whether a store at ``path`` is one file, else it is a folder."""
    return path.is_file() or (path.suffix.lower() in SUFFIXES and not path.is_dir())


def check_name(name: str, what: str) -> str:
    """Return ``name`` if it may name a dataset or an embedding in a store.

    Parameters
    ----------
    name : str
        The name; it becomes part of an HDF5 path and of a file name.
    what : str
        What the name is of, for the message.

    Returns
    -------
    str

    Raises
    ------
    ParameterError
        If it is empty, starts with a dot or with two underscores, or holds a
        slash, a backslash or a character that cannot be printed.
    """
    is_text = isinstance(name, str) and name.isprintable() and name.strip() == name != ""
    if not is_text or name.startswith((".", RESERVED)) or "/" in name or "\\" in name:
        raise ParameterError(
            f"{what}={name!r} cannot name a part of a store; give printable text without slashes "
            f"that does not start with '.' or {RESERVED!r}"
        )
    return name


def list_files(path: str | os.PathLike[str]) -> list[Path]:
    """Return the HDF5 files of a store, sorted by name.

    Parameters
    ----------
    path : path-like
        An HDF5 file, or a folder with ``.h5`` or ``.hdf5`` files in it.

    Returns
    -------
    list of Path

    Raises
    ------
    StoreError
        If nothing is there, or a folder holds no HDF5 file.
    """
    path = Path(path)
    if not path.exists():
        raise StoreError(
            f"{path} is not there; check the path, or make a store with 'biasaudio store import'"
        )
    if path.is_file():
        return [path]
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
    if not files:
        seen = name_some(sorted(file.name for file in path.iterdir())) or "nothing"
        raise StoreError(
            f"{path} is a folder without .h5 or .hdf5 files; it holds {seen}; "
            "give a store, or make one with 'biasaudio store import'"
        )
    return files


def target_file(path: Path, dataset: str, embedding: str) -> Path:
    """Return the file of a store that new vectors go to."""
    return path if is_file_path(path) else path / f"{dataset}.{embedding}.h5"


@contextmanager
def guard_read(path: Path, what: str) -> Iterator[None]:
    """Turn an error of the HDF5 library into a `StoreError` of one line."""
    try:
        yield
    except StoreError:
        raise
    except (OSError, RuntimeError, KeyError, UnicodeError) as error:
        raise StoreError(
            f"{path}: {what} cannot be read ({_one_line(error)}); "
            "the file is damaged, copy or write it again"
        ) from error


@contextmanager
def open_store_file(path: Path) -> Iterator[h5py.File]:
    """Open an HDF5 file for reading, and say in one line why it cannot be.

    Parameters
    ----------
    path : Path

    Yields
    ------
    h5py.File

    Raises
    ------
    StoreError
        If the file is missing, empty, not HDF5, cut off, or of a newer version
        of the store format.
    """
    try:
        size = path.stat().st_size
        handle = h5py.File(path, "r") if size else None
    except FileNotFoundError:
        raise StoreError(f"{path} is not there; check the path") from None
    except PermissionError:
        raise StoreError(f"{path} may not be read by you; change its permissions") from None
    except (OSError, RuntimeError) as error:
        if h5py.is_hdf5(path):
            message = f"{path} cannot be opened ({_one_line(error)}); it is cut off or in use"
            raise StoreError(f"{message}, so copy or write it again") from error
        raise StoreError(
            f"{path} is not an HDF5 file; give a store, or turn npz, csv or parquet "
            "into one with 'biasaudio store import'"
        ) from None
    if handle is None:
        raise StoreError(f"{path} is empty (0 bytes); delete it and write it again")
    with handle:
        _check_version(handle, path)
        yield handle


def _check_version(handle: h5py.File, path: Path) -> None:
    with guard_read(path, "the format version"):
        version = handle.attrs.get("format_version", FORMAT_VERSION)
    if not isinstance(version, (int, np.integer)) or version > FORMAT_VERSION:
        raise StoreError(
            f"{path} has format version {version!r}, but at most {FORMAT_VERSION} can be read; "
            "upgrade biasaudio"
        )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _pairs(handle: h5py.File, path: Path) -> list[tuple[str, str]]:
    with guard_read(path, "the list of its groups"):
        return [
            (dataset, embedding)
            for dataset, group in _groups(handle)
            for embedding, leaf in _groups(group)
            if FEATURES in leaf or KEYS in leaf
        ]


def _groups(parent: h5py.Group) -> list[tuple[str, Any]]:
    found = ((name, parent.get(name)) for name in parent if not name.startswith(RESERVED))
    return [(name, child) for name, child in found if isinstance(child, h5py.Group)]


def index_files(files: Iterable[Path]) -> dict[tuple[str, str], Path]:
    """Return which file holds which (dataset, embedding).

    Parameters
    ----------
    files : iterable of Path

    Returns
    -------
    dict
        From (dataset, embedding) to the file, sorted.

    Raises
    ------
    StoreError
        If a file does not hold the layout, or two files hold the same
        embedding of the same dataset.
    """
    index: dict[tuple[str, str], Path] = {}
    for file in files:
        with open_store_file(file) as handle:
            pairs = _pairs(handle, file)
            if not pairs:
                seen = name_some(f"/{name}" for name in handle) or "nothing"
                raise StoreError(
                    f"{file} has no /<dataset>/<embedding>/{{features, keys}}; it holds {seen}; "
                    "give a file in this layout, or write one with import_arrays"
                )
        for pair in pairs:
            if pair in index:
                raise StoreError(
                    f"embedding {pair[1]!r} of dataset {pair[0]!r} is in both {index[pair]} and "
                    f"{file}; remove one of them"
                )
            index[pair] = file
    return dict(sorted(index.items()))


def existing(path: Path) -> dict[tuple[str, str], Path]:
    """Return which file of a store holds which (dataset, embedding), if there is a store yet.

    Parameters
    ----------
    path : Path
        A store, or where one is to be made.

    Returns
    -------
    dict
        Empty where there is none.
    """
    if not path.exists():
        return {}
    is_new = path.is_dir() and not any(file.suffix.lower() in SUFFIXES for file in path.iterdir())
    return {} if is_new else index_files(list_files(path))


def fingerprint_file(path: Path) -> dict[str, Any]:
    """Return path, size in bytes and sha256 of a file, read in pieces.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict
        Keys ``path``, ``bytes`` and ``sha256``.

    Raises
    ------
    StoreError
        If the file cannot be read.
    """
    digest = hashlib.sha256()
    with guard_read(path, "the file"), path.open("rb") as stream:
        while piece := stream.read(2**20):
            digest.update(piece)
    return {"path": str(path), "bytes": path.stat().st_size, "sha256": digest.hexdigest()}
