"""One writer at a time, and a message that says who it is."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from biasaudio.errors import StoreError

if sys.platform != "win32":
    import fcntl

__all__ = ["LOCK", "holder_of", "is_held", "lock_path", "lock_store"]

LOCK = ".lock"
PAUSE = 0.02
_BUSY = {errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK}
_NETWORK = (
    "file systems of a network (NFS, SMB, Lustre) may lack locks: write to a local disk and copy "
    "the store when it is done"
)


def lock_path(store: Path, *, is_file: bool) -> Path:
    """Return the file whose lock stands for a store."""
    return store.with_name(store.name + LOCK) if is_file else store / LOCK


@contextmanager
def lock_store(store: Path, *, is_file: bool, wait: float = 10.0) -> Iterator[None]:
    """Hold the right to change a store; the system frees it when the process dies.

    Windows does not: there the file itself is the lock, and who finds one that a
    killed process has left is told to remove it by hand.

    Parameters
    ----------
    store : Path
        Its folder must be there.
    is_file : bool
        Whether the store is one file, else a folder.
    wait : float
        Seconds to wait for another writer.

    Raises
    ------
    StoreError
        If another process holds it for longer, or the file system has no locks.
    """
    path = lock_path(store, is_file=is_file)
    if sys.platform == "win32":
        os.close(_create(path, store, wait))
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()
        return
    descriptor = _acquire(path, store, wait)
    try:
        yield
    finally:
        # Removed while it is held: who waited finds another file, and tries again.
        with suppress(OSError):
            if _is_in_place(descriptor, path):
                path.unlink()
        os.close(descriptor)


if sys.platform != "win32":

    def _acquire(path: Path, store: Path, wait: float) -> int:
        """Return the descriptor of a lock that is held."""
        end = time.monotonic() + wait
        while True:
            descriptor = _open(path, store)
            is_held = False
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_held = _is_in_place(descriptor, path)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in _BUSY:
                    raise StoreError(
                        f"{store} cannot be locked ({error.strerror or error}); {_NETWORK}"
                    ) from error
                if time.monotonic() > end:
                    raise _busy(store, path, _NETWORK) from None
                time.sleep(PAUSE)
            finally:
                if not is_held:
                    os.close(descriptor)
            if is_held:
                _sign(descriptor)
                return descriptor


def _is_in_place(descriptor: int, path: Path) -> bool:
    """Say whether the file at a path is the one that is open, and not a later one."""
    return os.path.samestat(os.fstat(descriptor), path.lstat())


def _open(path: Path, store: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise _refusal(error, path, store) from error


def _create(path: Path, store: Path, wait: float) -> int:
    """Return the descriptor of a lock file that was not there before."""
    end = time.monotonic() + wait
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            if time.monotonic() > end:
                left = f"if no process does, remove {path}, which one that was killed has left"
                raise _busy(store, path, left) from None
            time.sleep(PAUSE)
        except OSError as error:
            raise _refusal(error, path, store) from error
        else:
            _sign(descriptor)
            return descriptor


def _busy(store: Path, path: Path, hint: str) -> StoreError:
    return StoreError(
        f"{store} is being written by {_signed(path)}; wait until that is done, stop it, or "
        f"write to another store ({hint})"
    )


def _refusal(error: OSError, path: Path, store: Path) -> StoreError:
    reason = error.strerror or str(error)
    if isinstance(error, PermissionError) and os.path.lexists(path):
        return StoreError(
            f"{store} cannot be locked: {path} is the lock of another user ({reason}); wait until "
            "they have written, and if they do not write, remove that file or let them do so"
        )
    return StoreError(
        f"{store} cannot be written ({reason}); nothing was changed, so check the disk space and "
        "the permissions of its folder"
    )


def _sign(descriptor: int) -> None:
    signature = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "command": " ".join(sys.argv)[:200],
        "since": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    # A lock counts on a full disk too; then nobody can read who holds it.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, json.dumps(signature).encode())


def _signed(path: Path) -> str:
    """Return who holds a lock, in words."""
    try:
        with path.open("rb") as stream:
            found = json.loads(stream.read(2000))
        who = f"process {found['pid']} on {found['host']}, since {found['since']}"
        return " ".join(f"{who} ({found['command']})".split())
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"


def is_held(path: Path) -> bool:
    """Say whether a process holds the lock of this file.

    Parameters
    ----------
    path : Path
        As `lock_path` returns it; not made if it is not there.

    Returns
    -------
    bool
        True too where we may not see that, as with the lock of another user.
    """
    if sys.platform == "win32":
        return path.name.endswith(LOCK) and path.exists()
    try:
        # To open a pipe would wait for ever.
        if not path.is_file():
            return False
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _BUSY
    finally:
        os.close(descriptor)
    return False


def holder_of(path: Path) -> str:
    """Return which process of this machine has locked a file, in words.

    Parameters
    ----------
    path : Path

    Returns
    -------
    str
        "another process" where the system does not say.
    """
    try:
        inode = path.stat().st_ino
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            fields = line.split()
            if fields[5].rpartition(":")[2] == str(inode):
                words = Path("/proc", fields[4], "cmdline").read_bytes().split(b"\0")
                command = " ".join(b" ".join(words).decode(errors="replace").split())[:200]
                return f"process {fields[4]} ({command})"
    except (OSError, ValueError, IndexError):
        pass
    return "another process"
