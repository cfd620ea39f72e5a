"""Open HDF5 files of strangers: only what lies in the file itself, and in bounds."""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from biasaudio.errors import StoreError
from biasaudio.store.lock import holder_of, is_held
from biasaudio.store.schema import FORMAT_VERSION
from biasaudio.store.seal import check_structure

__all__ = ["child", "guard_read", "one_line", "open_store_file", "read_attribute"]

_ADDRESS_BYTES = 8
_ATTRIBUTE_BYTES = 2**16


def one_line(error: BaseException) -> str:
    """Return the text of an error on one line."""
    return " ".join(str(error).split())


@contextmanager
def guard_read(path: Path, what: str) -> Iterator[None]:
    """Turn an error of the HDF5 library into a `StoreError` of one line."""
    try:
        yield
    except StoreError:
        raise
    except (OSError, RuntimeError, KeyError, UnicodeError, ValueError, TypeError) as error:
        raise StoreError(
            f"{path}: {what} cannot be read ({one_line(error)}); "
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
        If the file is missing, empty, not HDF5, cut off, locked, or of a newer
        version of the store format.
    """
    try:
        size = _regular_size(path)
        check_structure(path)
        handle = h5py.File(path, "r") if size else None
    except FileNotFoundError:
        raise StoreError(f"{path} is not there; check the path") from None
    except PermissionError:
        raise StoreError(f"{path} may not be read by you; change its permissions") from None
    except StoreError as error:
        # A file that is open for writing is marked as such in its headers.
        if is_held(path):
            raise StoreError(_is_open(path)) from error
        raise
    except (OSError, RuntimeError, ValueError) as error:
        raise StoreError(_why_not(path, error)) from error
    if handle is None:
        raise StoreError(f"{path} is empty (0 bytes); delete it and write it again")
    with handle:
        _check_version(handle, path)
        yield handle


def _regular_size(path: Path) -> int:
    found = path.stat()
    # To open a pipe would wait for ever.
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{path} is not a file, but a folder or a device; give a store file")
    return found.st_size


def _is_open(path: Path) -> str:
    return f"{path} is open for writing in {holder_of(path)}; close it there and try again"


def _why_not(path: Path, error: BaseException) -> str:
    text = one_line(error)
    if "Too many open files" in text:
        return (
            f"{path} cannot be opened: this process may open no more files; raise 'ulimit -n', or "
            "merge the files of the store with 'biasaudio store compact'"
        )
    if "unable to lock file" in text:
        if f"errno = {errno.EAGAIN}," in text or f"errno = {errno.EACCES}," in text:
            return _is_open(path)
        return (
            f"{path} cannot be locked ({text}); file systems of a network (NFS, SMB, Lustre) may "
            "lack locks: set HDF5_USE_FILE_LOCKING=FALSE in the environment, or copy the file to "
            "a local disk"
        )
    if h5py.is_hdf5(path):
        return (
            f"{path} cannot be opened ({text}); it is cut off or damaged, so copy or write it again"
        )
    return (
        f"{path} is not an HDF5 file; give a store, or turn npz, csv or parquet "
        "into one with 'biasaudio store import'"
    )


def _check_version(handle: h5py.File, path: Path) -> None:
    with guard_read(path, "the format version"):
        sizes = handle.id.get_create_plist().get_sizes()
        version = read_attribute(handle, "format_version")
    if sizes != (_ADDRESS_BYTES, _ADDRESS_BYTES):
        raise StoreError(
            f"{path} has addresses of {min(sizes)} bytes, stores have {_ADDRESS_BYTES}; write it "
            "again with h5py"
        )
    version = 1 if version is None else version
    if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
        raise StoreError(
            f"{path} has format version {version!r:.40}, but at most {FORMAT_VERSION} can be read; "
            "upgrade biasaudio"
        )


def read_attribute(member: h5py.Group, name: str) -> int | bytes | None:
    """Return an attribute that is one whole number or text.

    Parameters
    ----------
    member : h5py.Group
    name : str

    Returns
    -------
    int, bytes or None
        None where there is no such attribute.

    Raises
    ------
    ValueError
        If it is anything else: to read that would take any time and memory.
    """
    if not h5py.h5a.exists(member.id, name.encode()):
        return None
    attribute = h5py.h5a.open(member.id, name.encode())
    kind, n_bytes = attribute.get_type(), attribute.get_storage_size()
    is_text = isinstance(kind, h5py.h5t.TypeStringID) and not kind.is_variable_str()
    is_one = attribute.get_space().get_simple_extent_type() == h5py.h5s.SCALAR
    if not (is_text or isinstance(kind, h5py.h5t.TypeIntegerID)) or not is_one:
        raise ValueError(f"the attribute {name!r} is not a whole number or text")
    if n_bytes > _ATTRIBUTE_BYTES:
        raise ValueError(f"the attribute {name!r} has {n_bytes} bytes")
    value = np.empty((), attribute.dtype)
    attribute.read(value)
    return value.item()


def child(group: h5py.Group, name: str, path: Path) -> Any:
    """Return a member of a group that lies in the file itself, or None.

    Parameters
    ----------
    group : h5py.Group
    name : str
    path : Path
        Of the file, for the message.

    Returns
    -------
    h5py.Group, h5py.Dataset or None

    Raises
    ------
    StoreError
        If it is a link to another place or file, or there is no group.
    """
    if not isinstance(group, h5py.Group):
        raise StoreError(
            f"{path} has something else than a group above {name}; the file is damaged, copy or "
            "write it again"
        )
    key = name.encode("utf-8", "surrogateescape")
    if not group.id.links.exists(key):
        return None
    kind = group.id.links.get_info(key).type
    if kind != h5py.h5l.TYPE_HARD:
        words = {h5py.h5l.TYPE_EXTERNAL: "to another file", h5py.h5l.TYPE_SOFT: "to another place"}
        raise StoreError(
            f"{path}: {group.name.rstrip('/')}/{name} is a link "
            f"{words.get(kind, 'of a kind that is not known')}, which is never followed; copy the "
            "data into the file"
        )
    return group[name]
