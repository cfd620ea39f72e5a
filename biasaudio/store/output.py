"""Write HDF5 so that a full disk is an error, and not the end of the process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from biasaudio.store.schema import FORMAT_NAME, FORMAT_VERSION

__all__ = ["Output", "open_output"]


class Output:
    """Hold an HDF5 file that is being written.

    Parameters
    ----------
    handle : h5py.File
    stream : object
        What takes its bytes.
    """

    def __init__(self, handle: h5py.File, stream: _Patient) -> None:
        self.handle = handle
        self._stream = stream

    def flush(self) -> None:
        """Hand all bytes to the system, and raise what it says to that.

        Raises
        ------
        OSError
            Of the first write that failed, such as on a full disk.
        """
        self.handle.flush()
        self._stream.check()


class _Patient:
    """Pass bytes on until that fails, then swallow them.

    HDF5 cannot close a file whose writes fail: it crashes the process instead.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._error: OSError | None = None

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def _try(self, what: str, *values: Any) -> Any:
        try:
            return getattr(self._stream, what)(*values)
        except OSError as error:
            self._error = self._error or error
            return None

    def seek(self, *place: int) -> int:
        return self._stream.seek(*place)

    def tell(self) -> int:
        return self._stream.tell()

    def read(self, n: int = -1) -> bytes:
        # Never called: by it h5py tells a stream from a name.
        return self._stream.read(n)

    def readinto(self, buffer: Any) -> int:
        n = self._try("readinto", buffer) or 0
        # What was swallowed is read as zeros.
        if n < len(buffer) and self._error is not None:
            buffer[n:] = bytes(len(buffer) - n)
            return len(buffer)
        return int(n)

    def write(self, data: Any) -> int:
        if self._error is None:
            left = memoryview(data)
            while left and self._error is None:
                left = left[self._try("write", left) or 0 :]
        return len(data)

    def truncate(self, size: int) -> int:
        if self._error is None:
            self._try("truncate", size)
        return size

    def flush(self) -> None:
        if self._error is None:
            self._try("flush")


@contextmanager
def open_output(path: Path) -> Iterator[Output]:
    """Open an HDF5 file for writing; one that is there is added to.

    Parameters
    ----------
    path : Path
        Of a partial file, which no reader opens.

    Yields
    ------
    Output

    Raises
    ------
    OSError
        If a write failed.
    """
    is_new = not path.exists()
    # Without a buffer of its own: a write that fails is known at once.
    with path.open("w+b" if is_new else "r+b", buffering=0) as stream:
        patient = _Patient(stream)
        with h5py.File(patient, "w" if is_new else "r+") as handle:
            handle.attrs["format"] = np.bytes_(FORMAT_NAME)
            handle.attrs["format_version"] = FORMAT_VERSION
            yield Output(handle, patient)
        patient.check()
