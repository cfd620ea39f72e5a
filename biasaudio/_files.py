"""Files of our own, written whole or not at all; files of others, bounded before they are read."""

from __future__ import annotations

import csv
import hashlib
import os
import re
import shutil
import socket
import struct
import tokenize
import uuid
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from biasaudio.errors import BiasAudioError, DataError, StoreError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "Npz",
    "check_texts",
    "decoded_limit",
    "fingerprint_file",
    "open_npy",
    "open_npz",
    "read_csv_header",
    "read_parquet",
    "remove_scratch",
    "replacing",
    "replacing_folder",
    "scratch_folder",
    "sync_folder",
    "write_npz",
    "write_text",
]

PARTIAL = ".partial"
_Array = NDArray[Any]

# ------------------------------------------------------------------ whole or not at all


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system can do that for folders."""
    # Windows cannot open a folder.
    with suppress(PermissionError, NotImplementedError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def replacing(path: Path, *, error: type[BiasAudioError] = StoreError) -> Iterator[Path]:
    """Name of a file to be written, which takes the place of ``path`` in one step.

    Parameters
    ----------
    path : Path
    error : type of BiasAudioError
        What is raised where the file cannot be written.

    Yields
    ------
    Path
        ``<name>.partial`` in the same folder, removed if anything goes wrong.

    Raises
    ------
    BiasAudioError
        If the disk is full or the folder read-only; then nothing was changed.
    """
    partial = path.with_name(path.name + PARTIAL)
    try:
        yield partial
        # Without this a power cut may leave the new name with none of the data.
        with partial.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(partial, path)
        sync_folder(path.parent)
    except OSError as failure:
        if isinstance(failure, BiasAudioError):
            raise
        raise error(
            f"{path} cannot be written ({failure.strerror or failure}); nothing was changed, so "
            "check the folder, its permissions and the disk"
        ) from failure
    finally:
        # Where the folder itself is not one, there is nothing to remove either.
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, error: type[BiasAudioError] = StoreError) -> None:
    """Write a text in UTF-8, whole or not at all; see `replacing`."""
    with replacing(path, error=error) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def replacing_folder(path: Path, *, error: type[BiasAudioError] = StoreError) -> Iterator[Path]:
    """Folder to be filled, which takes the place of ``path`` as a whole.

    No system can swap two folders in one step everywhere, so the old one is
    renamed away before the new one is renamed in.  A command that is killed in
    between leaves the old folder under a name of its own, and the next call puts it
    back before it begins: the place has the old folder or the new one, never a mix.

    Parameters
    ----------
    path : Path
        What is there must be a folder that we may replace; the caller checks that.
    error : type of BiasAudioError
        What is raised where it cannot be written.

    Yields
    ------
    Path
        An empty folder beside ``path``.
    """
    path = path.absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        old = path.with_name(f".{path.name}.biasaudio-old")
        if old.is_dir():
            if path.exists():
                shutil.rmtree(old)
            else:
                old.rename(path)
        with scratch_folder(path.parent, f".{path.name}.new-") as scratch:
            yield scratch
            for each in scratch.rglob("*"):
                if each.is_file():
                    with each.open("rb+") as stream:
                        os.fsync(stream.fileno())
            if path.exists():
                path.rename(old)
            try:
                scratch.rename(path)
            except BaseException:
                # Also after Ctrl-C the place is not to be left empty.
                if old.is_dir() and not path.exists():
                    old.rename(path)
                raise
            sync_folder(path.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as failure:
        if isinstance(failure, BiasAudioError):
            raise
        raise error(
            f"{path} cannot be written ({failure.strerror or failure}); check the folder, its "
            "permissions and the disk"
        ) from failure


@contextmanager
def scratch_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Folder for one command, removed at its end, or by the next command if this one is killed.

    Parameters
    ----------
    parent : Path
    prefix : str
        Such as ``.derive-``; the name says beside which process it belongs to.

    Yields
    ------
    Path
    """
    remove_scratch(parent, prefix)
    owner = f"{os.getpid()}-{socket.gethostname()}"
    folder = parent / f"{prefix}{owner}-{uuid.uuid4().hex[:8]}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_scratch(parent: Path, prefix: str) -> list[Path]:
    """Remove the scratch folders of commands of this machine that are no longer running.

    Returns
    -------
    list of Path
        What was removed.
    """
    pattern = re.compile(rf"{re.escape(prefix)}(\d+)-{re.escape(socket.gethostname())}-\w{{8}}")
    removed = []
    for each in parent.iterdir() if parent.is_dir() else ():
        found = pattern.fullmatch(each.name)
        if found and not _is_running(int(found[1])) and each.is_dir() and not each.is_symlink():
            shutil.rmtree(each, ignore_errors=True)
            removed.append(each)
    return removed


def _is_running(pid: int) -> bool:
    if os.name == "nt":  # os.kill would end the process there.
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def fingerprint_file(path: Path) -> dict[str, Any]:
    """Path, size in bytes and sha256 of a file, read in pieces.

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


# ------------------------------------------------------------------ files of others

# What everything in a file may become in memory; Keras has 4 GiB and 1,000 times for the same.
DECODED_LEAST, DECODED_TIMES = 2**26, 100
_KINDS = "biufcmMSU"
# What zipfile, zlib and numpy raise on damaged bytes; some are bugs of theirs, none is ours.
_DAMAGE = (
    *(zipfile.BadZipFile, EOFError, OSError, MemoryError, SyntaxError, RecursionError),
    *(ValueError, LookupError, TypeError, AttributeError, RuntimeError, ArithmeticError),
    *(zlib.error, struct.error, tokenize.TokenError),
)


def decoded_limit(file_bytes: int) -> int:
    """Most bytes that everything in a file of this size may become in memory."""
    return max(DECODED_LEAST, DECODED_TIMES * file_bytes)


class Npz:
    """Arrays of an open npz file, read one by one by `numpy.load`, within one limit for all.

    A few bytes of such a file can stand for terabytes.  So what it says of its sizes
    is compared with what it holds before anything is allocated; no pickle is loaded.

    Attributes
    ----------
    names : list of str
    is_compressed : bool
    """

    def __init__(self, archive: zipfile.ZipFile, limit: int) -> None:
        self._archive, self._left = archive, limit
        members = archive.infolist()
        for member in members:
            name = member.filename
            stem = name.removesuffix(".npy")
            if stem == name or not stem.isprintable() or not 0 < len(stem) < 256 or "/" in stem:
                raise ValueError(f"{name[:80]!r} is not an array")
            if member.flag_bits & 1 or member.compress_type not in (0, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{stem!r} is encrypted, or packed in an unusual way")
        self.names = [member.filename.removesuffix(".npy") for member in members]
        if len(set(self.names)) < len(members):
            raise ValueError("a name occurs twice")
        self.is_compressed = any(member.compress_type for member in members)

    def header(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape and dtype of an array; a ValueError says what is wrong."""
        with _reasons(), self._archive.open(f"{name}.npy") as stream:
            shape, _, dtype = _read_header(stream)
            return shape, dtype

    def read(self, name: str) -> _Array:
        """One array; a ValueError says what is wrong with it."""
        with _reasons(), self._archive.open(f"{name}.npy") as stream:
            shape, start, dtype = _read_header(stream)
            size = self._archive.getinfo(f"{name}.npy").file_size
            self._take(_check_header(shape, dtype, size - start))
            stream.seek(0)
            array = npy.read_array(stream, allow_pickle=False)
            # zipfile compares its checksum where a member ends.
            if stream.read(1):
                raise ValueError("there are bytes behind the array")
            return _check_text(array)

    def read_objects(self, name: str) -> bytes:
        """The pickled stream of an array of objects, which must not be unpickled."""
        with _reasons(), self._archive.open(f"{name}.npy") as stream:
            shape, start, _ = _read_header(stream)
            n_bytes = self._archive.getinfo(f"{name}.npy").file_size - start
            # A string of three bytes is one of 60 in Python, with its place in the memo.
            self._take(32 * max([n_bytes, *shape]))
            return stream.read()

    def _take(self, n_bytes: int) -> None:
        if n_bytes > self._left:
            raise ValueError(
                f"it would take {n_bytes} bytes of memory, and {self._left} are left of "
                f"{DECODED_LEAST}, or {DECODED_TIMES} times the size of the file if that is more"
            )
        self._left -= n_bytes


@contextmanager
def open_npz(path: Path) -> Iterator[Npz]:
    """Open an npz file of anybody; a ValueError says what is wrong with it."""
    with _reasons():
        archive = zipfile.ZipFile(path)
    with archive:
        with _reasons():
            found = Npz(archive, decoded_limit(path.stat().st_size))
        yield found


def open_npy(path: Path) -> _Array:
    """The array of an npy file, numbers mapped; a ValueError says what is wrong."""
    with _reasons(), path.open("rb") as stream:
        size = path.stat().st_size
        shape, start, dtype = _read_header(stream)
        cost = _check_header(shape, dtype, size - start)
        # Empty texts take no byte of the file, and some of memory.
        if cost > decoded_limit(size):
            raise ValueError(f"it would take {cost} bytes of memory; the file has {size}")
        is_mapped = dtype.kind not in "SU" and size > start
        array: _Array = np.load(path, mmap_mode="r" if is_mapped else None, allow_pickle=False)
        return _check_text(array)


def write_npz(stream: BinaryIO, arrays: Mapping[str, _Array], *, compressed: bool = False) -> None:
    """Write the arrays as `numpy.savez`, which has names that no array can have."""
    way = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", way) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, np.asanyarray(array), allow_pickle=False)


@contextmanager
def _reasons() -> Iterator[None]:
    """Turn what is raised on damaged bytes into a ValueError of one line."""
    try:
        yield
    except _DAMAGE as error:
        text = " ".join(str(error).split())[:300]
        raise ValueError(text or type(error).__name__) from error


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], int, np.dtype[Any]]:
    """Shape, length of the header and dtype, as numpy reads them (literals only, and short)."""
    version = npy.read_magic(stream)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"an npy array of version {version}; 1 and 2 are read")
    shape, _, dtype = read(stream)
    return tuple(map(int, shape)), stream.tell(), dtype


def _check_header(shape: tuple[int, ...], dtype: np.dtype[Any], n_bytes: int) -> int:
    """Refuse what is no plain array or has not the bytes that it says; return its cost."""
    if dtype.kind not in _KINDS or min(shape, default=0) < 0:
        raise ValueError(f"an array of {dtype} and shape {shape}; give numbers or texts")
    n = 1
    for length in shape:
        n *= length
    if n * dtype.itemsize != n_bytes:
        raise ValueError(f"{n_bytes} bytes for {dtype} and shape {shape}")
    # As float64, or as Python's strings; an empty axis counts as one of length 1.
    n = int(np.prod([max(length, 1) for length in shape], dtype=object))
    return n * (dtype.itemsize + 64 if dtype.kind in "SU" else max(dtype.itemsize, 8))


def _check_text(array: _Array) -> _Array:
    # numpy makes strings of any four bytes, which Python cannot show or write.
    if array.dtype.kind == "U" and array.size and array.dtype.itemsize:
        points = np.ascontiguousarray(array).view(f"{array.dtype.byteorder}u4")
        if points.max() > 0x10FFFF or ((points >= 0xD800) & (points < 0xE000)).any():
            raise ValueError("its text is not Unicode")
    return array


# ------------------------------------------------------------------ tables of others

MOST_COLUMNS = 10_000
# A csv file has a byte for each of its cells, but for some lines that are too short.
_CELLS_LEAST, _CELLS_TIMES = 2**18, 2


def read_csv_header(path: Path) -> list[str]:
    """Names of the columns of a csv file, once its size has been looked at.

    Raises
    ------
    DataError
        If it has too many columns or one of them twice, or more cells than a
        file of its size can mean.
    OSError, ValueError
        If it cannot be read, or is not text.
    """
    n_lines = 1
    with path.open("rb") as stream:
        while block := stream.read(2**20):
            if b"\0" in block:
                raise ValueError("it has NUL bytes")
            n_lines += max(block.count(b"\n"), block.count(b"\r"))
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            # pandas passes over lines of blanks too.
            rows = (row for row in csv.reader(text) if len(row) > 1 or "".join(row).strip())
            names, first = next(rows, []), next(rows, [])
    except csv.Error as error:
        raise ValueError(str(error)) from error
    # pandas takes them for names of rows, in minutes if there are a million.
    if len(first) > len(names):
        raise ValueError("the rows have more fields than the header")
    _check_columns(path, names)
    size = path.stat().st_size
    if n_lines * len(names) > _CELLS_LEAST + _CELLS_TIMES * size:
        raise DataError(
            f"{path} has {n_lines} lines and {len(names)} columns, which its {size} bytes cannot "
            "fill; write all cells of each line"
        )
    return names


def read_parquet(path: Path) -> pd.DataFrame:
    """A parquet file, once what it says of its sizes has been looked at.

    Raises
    ------
    DataError
        If a column is nested or there twice, or it would take too much memory.
    ValueError
        If it cannot be read.
    ImportError
        If pyarrow is not installed.
    """
    import pandas as pd
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            said, schema = file.metadata, file.schema
            n_bytes = sum(said.row_group(i).total_byte_size for i in range(said.num_row_groups))
            columns = [schema.column(i) for i in range(said.num_columns)]
        nested = [column.path for column in columns if column.max_repetition_level]
        if nested:
            raise DataError(f"{path} has lists in {nested[0]!r}; give one column a feature")
        _check_columns(path, [column.path for column in columns])
        limit = decoded_limit(path.stat().st_size)
        n_bytes = max(n_bytes, 8 * said.num_rows * len(columns))
        if n_bytes > limit:
            raise DataError(
                f"{path} says {said.num_rows} rows and {len(columns)} columns, which take "
                f"{n_bytes} bytes of memory; a file of its size may take {limit}, so write it again"
            )
        frame = pd.read_parquet(path)
        for i, dtype in enumerate(frame.dtypes):
            if dtype.kind not in "biufcmM":
                # Arrow looks for UTF-8 in a text only when it is used.
                frame.iloc[:, i].to_numpy(object)
    except DataError:
        raise
    except (ArrowException, *_DAMAGE) as error:
        raise ValueError(" ".join(str(error).split())[:300]) from error
    return frame


def _check_columns(path: Path, names: list[str]) -> None:
    if len(names) > MOST_COLUMNS:
        raise DataError(
            f"{path} has {len(names)} columns; at most {MOST_COLUMNS} are read of a table, give "
            "the vectors as npz"
        )
    seen: set[str] = set()
    for name in names:
        # Columns without a name get one each.
        if name and name in seen:
            raise DataError(f"{path} has the column {name!r} twice; give each column once")
        seen.add(name)


def check_texts(path: Path, columns: Mapping[str, _Array]) -> None:
    """Refuse columns in which one long text would make all rows as long; with a DataError."""
    limit = decoded_limit(path.stat().st_size)
    for name, column in columns.items():
        if column.dtype.kind in "OT":
            texts = (len(text) for text in column.tolist() if isinstance(text, str))
            longest = max(texts, default=0)
            # As numpy keeps texts, 4 bytes a character.
            if 4 * longest * len(column) > limit:
                raise DataError(
                    f"{path} has a text of {longest} characters in {name!r}; shorten it, or leave "
                    "the column out"
                )
