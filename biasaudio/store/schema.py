"""Names and places of the store format; FORMAT.md states the rules in prose.

A store is one HDF5 file, or a folder of such files that are read as one.  The
vectors of a dataset lie in ``/<dataset>/<embedding>/{features, keys}``.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from pathlib import Path
from typing import Any

from biasaudio._text import can_be_name
from biasaudio._validation import name_some
from biasaudio.errors import ParameterError, StoreError

__all__ = [
    "CLIPS",
    "FEATURES",
    "FORMAT_NAME",
    "FORMAT_VERSION",
    "KEYS",
    "MODEL",
    "PARTIAL",
    "RESERVED",
    "SOURCE",
    "SUFFIXES",
    "SUPERSEDES",
    "check_name",
    "fingerprint_file",
    "is_file_path",
    "is_part",
    "list_files",
    "part_file",
    "store_files",
    "target_file",
]

FORMAT_NAME = "biasaudio-store"
FORMAT_VERSION = 2
FEATURES = "features"
KEYS = "keys"
CLIPS = "__clips__"
PARTIAL = ".partial"
SUFFIXES = (".h5", ".hdf5")
SOURCE = "__source__"
SUPERSEDES = "__supersedes__"
MODEL = "model"
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
    if not can_be_name(name):
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
    try:
        if path.is_file():
            return [path]
        if not path.exists():
            raise StoreError(
                f"{path} is not there; check the path, or make a store with 'biasaudio store "
                "import'"
            )
        if not path.is_dir():
            raise StoreError(f"{path} is neither a file nor a folder, but a device; give a store")
        files = store_files(path)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(
            f"{str(path)[:200]} cannot be read ({error.strerror}); check the path"
        ) from error
    if not files:
        seen = name_some(sorted(file.name for file in path.iterdir())) or "nothing"
        raise StoreError(
            f"{path} is a folder without .h5 or .hdf5 files; it holds {seen}; "
            "give a store, or make one with 'biasaudio store import'"
        )
    return files


def part_file(folder: Path, dataset: str, embedding: str) -> Path:
    """Return the name of a new part of a growing embedding, which no file has had."""
    return folder / f"{dataset}.{embedding}.{uuid.uuid4().hex[:12]}.h5"


def is_part(file: Path) -> bool:
    """Say whether a file has the name of a part, and waits to be merged."""
    return re.fullmatch(r".+\.[0-9a-f]{12}\.h5", file.name) is not None


def store_files(folder: Path) -> list[Path]:
    """Return the HDF5 files of a folder, sorted by name; none where there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)


def target_file(path: Path, dataset: str, embedding: str) -> Path:
    """Return the file of a store that new vectors go to."""
    return path if is_file_path(path) else path / f"{dataset}.{embedding}.h5"


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
    try:
        with path.open("rb") as stream:
            while piece := stream.read(2**20):
                digest.update(piece)
        size = path.stat().st_size
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}); check it") from error
    return {"path": str(path), "bytes": size, "sha256": digest.hexdigest()}
