"""Files and folders of strangers: opened within limits, without running what is in them."""

from __future__ import annotations

import os
import pickletools
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasaudio._files import Npz, open_npz, read_csv_header
from biasaudio._validation import name_some
from biasaudio.errors import DataError

__all__ = [
    "check_printable",
    "object_text",
    "one_line",
    "read_csv",
    "read_npz",
    "read_splits",
    "read_text",
    "walk_files",
]

# Bytes of a list of keys, a class map, the labels of one clip.
MAX_TEXT = 2**26


def one_line(error: BaseException) -> str:
    """Text of an error on one line."""
    return " ".join(str(error).split())


def read_text(path: Path) -> str:
    """Read a UTF-8 text file of at most `MAX_TEXT` bytes.

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is no regular file, too long or no text.
    """
    # A pipe or a device under the name of a text file would never end.
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is no regular file")
    if status.st_size > MAX_TEXT:
        raise ValueError(f"it has {status.st_size} bytes, at most {MAX_TEXT} are read")
    return path.read_text(encoding="utf-8-sig")


def check_printable(name: str, what: str) -> str:
    """Refuse a name from outside that cannot be shown in one line."""
    if not name.isprintable():
        raise DataError(f"{what} {name!r} has characters that cannot be printed; rename it")
    return name


def walk_files(folder: Path) -> list[Path]:
    """List the files below a folder, sorted; hidden ones are passed over.

    Links are followed, and a folder that is there more than once counts once,
    so that a link to a folder above ends.

    Parameters
    ----------
    folder : Path

    Returns
    -------
    list of Path
        All that is not a folder, also links to nothing and pipes.

    Raises
    ------
    DataError
        If a folder cannot be read.
    """
    found: list[Path] = []
    seen: set[tuple[int, int]] = set()
    left = [folder]
    while left:
        here = left.pop()
        try:
            status = os.stat(here)
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(here) as entries:
                for entry in entries:
                    if not entry.name.startswith("."):
                        (left if _is_folder(entry) else found).append(here / entry.name)
        except OSError as error:
            raise DataError(
                f"the folder {str(here)!r} cannot be read ({error.strerror}); "
                "change its permissions, or give a folder without it"
            ) from error
    return sorted(found)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    # A link in a circle is an error here, and no folder.
    try:
        return entry.is_dir()
    except OSError:
        return False


def read_csv(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a csv file as text columns, blanks as ``""``; or some columns."""
    try:
        header = read_csv_header(path)
        absent = [name for name in columns or () if name not in header]
        if absent:
            raise DataError(
                f"{path.name} has no column {name_some(absent)}; it has "
                f"{name_some(header, limit=10)}; give a file with a header line"
            )
        # All cells stay text: "007" is a name, and "NA" may be one.
        frame = pd.read_csv(
            path,
            usecols=None if columns is None else list(columns),
            dtype=str,
            na_filter=False,
            encoding="utf-8-sig",
        )
        # pandas takes a surplus first field for row names.
        if not isinstance(frame.index, pd.RangeIndex):
            raise ValueError("the rows have more fields than the header")
    except (ValueError, OSError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{str(path)!r} is not a csv file that can be read ({one_line(error)}); "
            "give a comma-separated file in UTF-8 with a header line"
        ) from error
    return frame if columns is None else frame[list(columns)]


def read_splits(files: Mapping[str, Path]) -> dict[str, str]:
    """Read the split of each key from files of one key per line."""
    listed: dict[str, str] = {}
    for split, path in files.items():
        try:
            lines = read_text(path).splitlines()
        except (ValueError, OSError) as error:
            raise DataError(
                f"{str(path)!r} cannot be read ({one_line(error)}); give a file of one key per line"
            ) from error
        keys = [line.strip() for line in lines if line.strip()]
        counts = Counter(keys)
        again = [key for key, count in counts.items() if count > 1 or key in listed]
        if again:
            raise DataError(
                f"{len(again)} key(s) of {path.name} are listed more than once: "
                f"{name_some(again)}; give each clip one line in one split"
            )
        listed |= dict.fromkeys(keys, split)
    return listed


# ----------------------------------- npz files whose keys numpy has pickled, as those of OpenMIC

# All that numpy writes around the strings of an object array.
_GLOBALS = {
    "numpy.core.multiarray _reconstruct",
    "numpy._core.multiarray _reconstruct",
    "numpy ndarray",
    "numpy dtype",
    "_codecs encode",
}
_TEXT = {
    "UNICODE",
    "SHORT_BINUNICODE",
    "BINUNICODE",
    "BINUNICODE8",
    "STRING",
    "SHORT_BINSTRING",
    "BINSTRING",
    "SHORT_BINBYTES",
    "BINBYTES",
}
_PUT = {"MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"}
_GET = {"GET", "BINGET", "LONG_BINGET"}
_ITEMS = {"MARK", "APPEND", "APPENDS"}
_AROUND = {
    *{"PROTO", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "STOP", "EMPTY_LIST"},
    *{"MARK", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_TUPLE", "NONE"},
    *{"NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2"},
}


def read_npz(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Read some arrays of an npz file; object arrays must hold only text."""
    try:
        with open_npz(path) as archive:
            absent = [name for name in names if name not in archive.names]
            if absent:
                raise DataError(
                    f"{path.name} has no array {name_some(absent)}; it has "
                    f"{name_some(archive.names, limit=10) or 'none'}; "
                    "give the file as it was published"
                )
            return {name: _array(archive, name) for name in names}
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{str(path)!r} is not an npz file that can be read ({one_line(error)}); "
            "get the file again"
        ) from error


def _array(archive: Npz, name: str) -> NDArray[Any]:
    shape, dtype = archive.header(name)
    if not dtype.hasobject:
        return archive.read(name)
    if len(shape) != 1:
        raise DataError(f"array {name!r} has shape {shape}; a 1-d array of text is allowed")
    return object_text(archive.read_objects(name), name, shape[0])


def object_text(stream: bytes, name: str, n: int) -> NDArray[np.object_]:
    """Read the strings of a pickled 1-d object array, without unpickling.

    The stream is only walked through, so nothing in it is ever called; it is
    refused unless it is what numpy writes for an array of strings.

    Parameters
    ----------
    stream : bytes
        What follows the header of an npy file of dtype object.
    name : str
        What the array is called in the messages.
    n : int
        The number of strings that the header promises.

    Returns
    -------
    np.ndarray [shape=(n,), dtype=object]

    Raises
    ------
    DataError
        If the stream has anything in it but an array of n strings.
    """
    try:
        texts = _walk(stream, n)
    except (ValueError, IndexError, KeyError) as error:
        raise DataError(
            f"the object array {name!r} holds something other than plain text "
            f"({one_line(error)}), which is not opened for safety; save it as text with "
            "array.astype(str) on a machine that trusts the file"
        ) from error
    if len(texts) != n:
        raise DataError(f"array {name!r} promises {n} strings and has {len(texts)}; get it again")
    array = np.empty(n, dtype=object)
    array[:] = texts
    return array


def _walk(stream: bytes, n: int) -> list[str]:
    texts: list[str] = []
    memo: dict[int, str | None] = {}
    recent: list[str] = []
    place, last = "before", None
    for i, (opcode, operand, _) in enumerate(pickletools.genops(stream)):
        code, argument = opcode.name, cast(Any, operand)
        # A string is one opcode, its place in the memo another, and so is a batch of them.
        if i > 4 * n + 1000:
            raise ValueError(f"more than {i} opcodes for {n} strings")
        # A frame only says how far to read ahead, and may begin anywhere.
        if code == "FRAME":
            continue
        if code in _PUT:
            memo[len(memo) if argument is None else int(argument)] = last
            continue
        last = None
        if code in _TEXT or code in _GET:
            last = memo[int(argument)] if code in _GET else _decoded(argument)
            if place == "items":
                if last is None:
                    raise ValueError("an item that is no string")
                texts.append(last)
            elif place == "after":
                raise ValueError("a string behind the array")
            recent = [*recent[-1:], last or ""]
        elif place == "items" and code not in _ITEMS:
            if code != "TUPLE":
                raise ValueError(f"opcode {code} among the strings")
            place = "after"
        elif code in ("GLOBAL", "STACK_GLOBAL"):
            called = argument if code == "GLOBAL" else " ".join(recent)
            if called not in _GLOBALS or place != "before":
                raise ValueError(f"a call of {called!r}")
        elif code == "EMPTY_LIST" and place == "before":
            place = "items"
        elif place == "after" and code not in ("BUILD", "STOP"):
            raise ValueError(f"opcode {code} behind the array")
        elif place == "before" and code not in _AROUND:
            raise ValueError(f"opcode {code}")
    if place != "after":
        raise ValueError("no array of strings")
    return texts


def _decoded(argument: Any) -> str:
    text = argument.decode("utf-8") if isinstance(argument, bytes) else str(argument)
    # Half a pair of surrogates could not be written to any file.
    text.encode("utf-8")
    return text
