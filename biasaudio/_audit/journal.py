"""What a study has finished, on disk, so that an interrupted one goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from biasaudio.errors import DataError
from biasaudio.results import make_folder
from biasaudio.transfer import Task

__all__ = ["Journal", "digests"]

_Key = dict[str, Any]
_START = b'{"key": '


class Journal:
    """Keep the results of finished pieces of work in a file, a line a piece.

    Parameters
    ----------
    path : Path or None
        Made, with its folder, when the first piece is added.  None keeps
        nothing.

    Raises
    ------
    DataError
        If there is a file that cannot be read, or is none of these.

    Notes
    -----
    A piece is found again by its key, which names everything that its result
    depends on, so pieces of other data or options do no harm.  Numbers are
    written with all their digits: what is read back is what was written.  A
    line that was cut off by an interruption does not count.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._found: dict[str, Any] = {}
        if path is None or not path.exists():
            return
        try:
            whole, newline, cut_off = path.read_bytes().rpartition(b"\n")
            if cut_off[: len(_START)] != _START[: len(cut_off)]:
                raise ValueError("its last line is of something else")
            for line in whole.splitlines():
                entry = json.loads(line)
                self._found[_text(entry["key"])] = entry["result"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path} is not a record of finished work ({error}); remove it, or write to "
                "another folder"
            ) from error
        if cut_off:
            # It would make one line with what is added next.
            os.truncate(path, len(whole + newline))

    def get(self, key: _Key) -> Any:
        """Return the result of a finished piece, or None."""
        return self._found.get(_text(key))

    def add(self, key: _Key, result: Any) -> None:
        """Write down the result of a piece; it is on disk when this returns."""
        self._found[_text(key)] = result
        if self._path is None:
            return
        make_folder(self._path.parent)
        line = json.dumps({"key": key, "result": result}).encode() + b"\n"
        # One write to the end: a second study in the same folder loses nothing.
        with self._path.open("ab", buffering=0) as stream:
            stream.write(line)
            os.fsync(stream.fileno())


def digests(task: Task) -> list[str]:
    """Return a short text for each label, which changes with any number that it depends on."""
    shared = hashlib.sha256()
    genre = [] if task.genre is None else [task.genre.astype(str)]
    for part in (task.X, task.is_train, task.domain.astype(str), *genre):
        shared.update(f"{part.dtype} {part.shape}".encode())
        shared.update(np.ascontiguousarray(part).data)
    found = []
    for j in range(len(task.label_names)):
        one = shared.copy()
        one.update(np.packbits(task.Y[:, j]).tobytes() + np.packbits(task.mask[:, j]).tobytes())
        found.append(one.hexdigest()[:16])
    return found


def _text(key: _Key) -> str:
    return json.dumps(key, sort_keys=True)
