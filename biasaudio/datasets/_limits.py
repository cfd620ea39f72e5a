"""Open the files and folders of strangers within stated limits."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from biasaudio.errors import DataError

__all__ = ["MAX_TEXT", "check_printable", "read_text", "walk_files"]

# A list of keys, a class map, the labels of one clip.
MAX_TEXT = 2**26


def read_text(path: Path) -> str:
    """Return a UTF-8 text file of at most `MAX_TEXT` bytes.

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
    """Return a name that comes from outside, if it can be shown in one line."""
    if not name.isprintable():
        raise DataError(f"{what} {name!r} has characters that cannot be printed; rename it")
    return name


def walk_files(folder: Path) -> list[Path]:
    """Return the files below a folder, sorted; hidden ones are passed over.

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
