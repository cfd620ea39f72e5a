"""Refuse what would lead out of a file, or grow beyond all bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from biasaudio._npz import decoded_limit
from biasaudio._text import printable
from biasaudio.errors import StoreError
from biasaudio.store.chunks import FILTERS, Rows
from biasaudio.store.heap import read_variable
from biasaudio.store.opening import child, guard_read

__all__ = ["check_array", "check_contents", "decode_texts", "read_array", "read_texts"]

MAX_NAME_BYTES = 4096
MAX_MEMBERS, MAX_LINK_CHARACTERS = 20_000, 1000
# /<dataset>/<embedding>/__source__/<array>; what lies deeper is never read.
DEPTH = 4


def check_contents(handle: h5py.File, path: Path) -> None:
    """Refuse a file with more members or values than can be meant.

    Parameters
    ----------
    handle : h5py.File
    path : Path

    Raises
    ------
    StoreError
        If there are more than 20,000 members, a name has control characters, a
        link leads elsewhere, or all arrays together are larger than `decoded_limit`.
    """
    # Not that of the path, where another file may lie by now.
    size = handle.id.get_filesize()
    limit = decoded_limit(size)
    members, n_bytes = 0, 0
    waiting: list[tuple[h5py.Group, int]] = [(handle, 1)]
    with guard_read(path, "the list of its groups"):
        while waiting:
            group, depth = waiting.pop()
            members += len(group)
            if members > MAX_MEMBERS:
                raise StoreError(
                    f"{path} has more than {MAX_MEMBERS:,} groups and arrays; it is no store, or "
                    "harmful, so give another file"
                )
            for name in group:
                _check_link(name, path)
                member = child(group, name, path)
                if isinstance(member, h5py.Group) and depth < DEPTH:
                    waiting.append((member, depth + 1))
                elif isinstance(member, h5py.Dataset):
                    n_bytes += _cost(member)
    if n_bytes > limit:
        raise StoreError(
            f"{path} would take {n_bytes:,} bytes of memory, but the file has {size:,}; at most "
            f"{limit:,} are taken for such a file, so it is damaged or harmful"
        )


def _check_link(name: str | bytes, path: Path) -> None:
    # h5py gives bytes where they are not UTF-8.
    is_text = isinstance(name, str) and printable(name) == name
    if not is_text or len(name) > MAX_LINK_CHARACTERS:
        raise StoreError(
            f"{path} has the name {name[:80]!r} of {len(name):,} characters; at most "
            f"{MAX_LINK_CHARACTERS:,} in UTF-8 without control characters are read, so rename it"
        )


def _cost(array: h5py.Dataset) -> int:
    """Return how many bytes an array may take, as float64 or as Python's strings."""
    kind, n = array.id.get_type(), array.id.get_space().get_simple_extent_npoints()
    is_text = isinstance(kind, h5py.h5t.TypeStringID)
    return int(n) * (kind.get_size() + 64 if is_text else max(kind.get_size(), 8))


def check_array(array: h5py.Dataset, path: Path) -> None:
    """Refuse an array whose bytes are elsewhere, or whose size is not to be believed.

    Parameters
    ----------
    array : h5py.Dataset
    path : Path

    Raises
    ------
    StoreError
        If it is virtual or external, needs a filter or type that stores do not
        have, or would decode to more than `decoded_limit` of the file's size.
    """
    if not isinstance(array, h5py.Dataset):
        raise StoreError(
            f"{path} has something else where an array should be; the file is damaged, copy or "
            "write it again"
        )
    where = f"{path}:{array.name}"
    with guard_read(path, str(array.name)):
        plist = array.id.get_create_plist()
        if array.is_virtual or array.external:
            raise StoreError(
                f"{where} has its values in other files, which are never opened; copy them into "
                "this one"
            )
        codes = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
        strange = [code for code in codes if code not in FILTERS]
        if strange or len(set(codes)) < len(codes):
            raise StoreError(
                f"{where} needs the HDF5 filters {codes}; stores may use "
                f"{', '.join(FILTERS.values())}, once each, so write it again with these or none"
            )
        text = h5py.check_string_dtype(array.dtype)
        is_plain = array.dtype.kind in "fiubS"
        if array.shape is None or not (is_plain or (text is not None and text.length is None)):
            raise StoreError(
                f"{where} has dtype {array.dtype}; stores hold real numbers, and texts as bytes"
            )
        if is_plain and not _is_standard(array):
            raise StoreError(
                f"{where} has numbers or texts of an unusual layout; the file is damaged or of "
                "another program, so write the array again"
            )
        _check_size(array, codes, path, where)


def _is_standard(array: h5py.Dataset) -> bool:
    # HDF5 would convert any exponent and any order of bits, without a word.
    if array.dtype.kind == "S":
        return True
    return bool(array.id.get_type().equal(h5py.h5t.py_create(array.dtype)))


def _check_size(array: h5py.Dataset, codes: list[int], path: Path, where: str) -> None:
    size = array.file.id.get_filesize()
    # Without gzip, what is in an array is in the file.
    limit = decoded_limit(size) if h5py.h5z.FILTER_DEFLATE in codes else size
    n_bytes = array.size * array.dtype.itemsize
    chunk = 1
    for length in array.chunks or ():
        chunk *= int(length)
    largest = max(n_bytes, chunk * array.dtype.itemsize)
    if largest > limit:
        raise StoreError(
            f"{where} of shape {array.shape} would take {largest:,} bytes, but the file has "
            f"{size:,}; at most {limit:,} are read of such a file, so it is damaged or harmful"
        )


def read_array(array: h5py.Dataset, path: Path) -> NDArray[Any]:
    """Return an array of numbers, or of texts as bytes.

    Parameters
    ----------
    array : h5py.Dataset
    path : Path

    Returns
    -------
    np.ndarray

    Raises
    ------
    StoreError
        If it is none that stores have, or the file is damaged.
    """
    check_array(array, path)
    if array.dtype.kind in "SO":
        return read_texts(array, path)
    with guard_read(path, str(array.name)):
        out = np.empty(array.shape, array.dtype)
        Rows(array).read(0, out)
    return out


def read_texts(array: h5py.Dataset, path: Path) -> NDArray[Any]:
    """Return the texts of a 1-d array as bytes, none of them long.

    Parameters
    ----------
    array : h5py.Dataset [shape=(n,)]
        Checked by `check_array`.
    path : Path

    Returns
    -------
    np.ndarray [shape=(n,)]
        Fixed-length bytes as they are, others as objects.

    Raises
    ------
    StoreError
        If one is longer than 4,096 bytes, or the file is damaged.
    """
    with guard_read(path, str(array.name)):
        if array.ndim != 1 or array.dtype.kind not in "SO":
            raise ValueError(f"shape {array.shape} and dtype {array.dtype}, not a list of texts")
        if array.dtype.kind == "O":
            return read_variable(array, path, MAX_NAME_BYTES)
        if array.dtype.itemsize > MAX_NAME_BYTES:
            raise ValueError(f"texts of {array.dtype.itemsize} bytes, not {MAX_NAME_BYTES} at most")
        texts = np.empty(array.shape, array.dtype)
        Rows(array).read(0, texts)
    return texts


def decode_texts(texts: NDArray[Any], path: Path, where: str) -> list[str]:
    """Return texts that can be shown, from bytes.

    Parameters
    ----------
    texts : np.ndarray of bytes [shape=(n,)]
    path : Path
    where : str
        Of the array, for the message.

    Returns
    -------
    list of str

    Raises
    ------
    StoreError
        If one is not UTF-8, or has control characters.
    """
    try:
        found = [text.decode("utf-8") for text in texts.tolist()]
    except UnicodeDecodeError as error:
        raise StoreError(
            f"{path}:{where} has the text {error.object!r}, which is not UTF-8; "
            "write it again as UTF-8"
        ) from None
    whole = "".join(found)
    if printable(whole) != whole:
        bad = next(text for text in found if printable(text) != text)
        raise StoreError(
            f"{path}:{where} has the text {bad!r} with control characters; write it without them"
        )
    return found
