"""The parts of a store: which files count, in which order, and who may change that.

A folder store lists its parts in ``parts.txt``, which is replaced in one step: that is
the commit.  A part that is not listed is garbage of a command that was killed, and the
next writer removes it.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from biasaudio._files import PARTIAL, replacing
from biasaudio._text import printable
from biasaudio._validation import name_some
from biasaudio.errors import StoreError
from biasaudio.store.file import CLIPS, SUFFIXES, is_file_path, one_line

__all__ = ["LIST", "Parts", "clean", "garbage", "new_part", "read_parts", "write_parts", "writing"]

LIST = "parts.txt"
# Only what has such a name is ever removed, and only from the folder of the store itself.
OURS = re.compile(r"part-[0-9a-f]{12}\.h5(\.partial)?|parts\.txt\.partial")
MOST_BYTES = 2**26
Pair = tuple[str, str]


@dataclass
class Parts:
    """Which files a store has.

    Parameters
    ----------
    files : list of str
        Of a clip that is in several of them, the last one counts.
    hidden : dict of str to list of str
        From a file to ``<dataset>/<embedding>`` and ``<dataset>/__clips__`` in it that
        count no longer.
    staged : dict of str to list of str
        From an embedding to files that wait to take the place of what is there.
    is_listed : bool
        Whether there is a list; in a folder without, a clip may be in one file only.
    """

    files: list[str] = field(default_factory=list)
    hidden: dict[str, list[str]] = field(default_factory=dict)
    staged: dict[str, list[str]] = field(default_factory=dict)
    is_listed: bool = True

    def all(self) -> set[str]:
        """Every file that is not garbage."""
        return {*self.files, *(name for names in self.staged.values() for name in names)}

    def is_hidden(self, file: str, dataset: str, name: str) -> bool:
        """Whether an embedding, or the clip table, of a dataset in a file does not count."""
        return f"{dataset}/{name}" in self.hidden.get(file, ())

    def hide(self, file: str, dataset: str, name: str) -> None:
        """Let an embedding, or the clip table, of a dataset in a file count no longer."""
        if file in self.files and not self.is_hidden(file, dataset, name):
            self.hidden.setdefault(file, []).append(f"{dataset}/{name}")

    def drop_hidden(self, file: str, pairs: list[Pair], tables: list[str]) -> None:
        """Take a file from the list if nothing in it counts any more."""
        held = [*pairs, *((dataset, CLIPS) for dataset in tables)]
        if all(self.is_hidden(file, *each) for each in held):
            self.files.remove(file)
            self.hidden.pop(file, None)


def read_parts(path: Path, *, may_be_missing: bool = False) -> Parts:
    """The parts of a store: one file, a folder with a list, or any folder of files.

    Parameters
    ----------
    path : Path
    may_be_missing : bool
        Whether a store without files is as good, as to a writer.

    Raises
    ------
    StoreError
        If nothing is there, or the list is damaged.
    """
    try:
        if path.is_file():
            return Parts([path.name], is_listed=False)
        if not path.exists() and may_be_missing:
            return Parts(is_listed=False)
        if not path.exists():
            raise StoreError(
                f"{path} is not there; check the path, or make a store with 'biasaudio store "
                "import'"
            )
        if not path.is_dir():
            raise StoreError(f"{path} is neither a file nor a folder, but a device; give a store")
        found = _read_list(path)
        if found is None:
            there = sorted(each.name for each in path.iterdir())
            files = [name for name in there if Path(name).suffix.lower() in SUFFIXES]
            found = Parts(files, is_listed=False)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(
            f"{str(path)[:200]} cannot be read ({error.strerror}); check the path"
        ) from error
    if not found.files and found.is_listed and not may_be_missing:
        raise StoreError(
            f"{path} is a store without vectors as yet; add some with 'biasaudio extract' or "
            "'biasaudio store import'"
        )
    if not found.files and not may_be_missing:
        seen = name_some(sorted(each.name for each in path.iterdir())) or "nothing"
        raise StoreError(
            f"{path} is a folder without .h5 or .hdf5 files; it holds {seen}; "
            "give a store, or make one with 'biasaudio store import'"
        )
    return found


def _read_list(folder: Path) -> Parts | None:
    """What the list says, None if there is none."""
    path = folder / LIST
    try:
        if not path.is_file() or path.stat().st_size > MOST_BYTES:
            if not os.path.lexists(path):
                return None
            raise ValueError("it is no file of ours")
        first, _, text = path.read_text(encoding="utf-8").partition("\n")
        # What is not listed is removed, so a list must be what was written to count.
        if first != _first_line(text):
            raise ValueError("its checksum, or version, is another")
        found = Parts(**json.loads(text))
        names = [*found.files, *found.hidden, *found.all()]
        if any(Path(name).name != name or Path(name).suffix not in SUFFIXES for name in names):
            raise ValueError("a name that leads elsewhere")
        for lists in (*found.hidden.values(), *found.staged.values()):
            if not all(isinstance(each, str) for each in lists):
                raise ValueError("a name that is no text")
        return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(
            f"{path} cannot be read ({one_line(error)}); run 'biasaudio store verify --repair', "
            "which makes it anew"
        ) from error


def _first_line(text: str) -> str:
    return f"biasaudio-store 3 {zlib.crc32(text.encode()):08x}"


def write_parts(folder: Path, parts: Parts) -> None:
    """Commit: from here on the store is what ``parts`` says; the lock must be held."""
    held = {name: value for name, value in asdict(parts).items() if name != "is_listed"}
    text = json.dumps(held, indent=1) + "\n"
    with replacing(folder / LIST) as partial:
        partial.write_text(f"{_first_line(text)}\n{text}", encoding="utf-8")
    parts.is_listed = True
    clean(folder, parts)


def garbage(folder: Path, parts: Parts) -> list[Path]:
    """Parts of ours that no list names, and writes that were not finished."""
    listed = parts.all()
    return sorted(
        each
        for each in folder.iterdir()
        if OURS.fullmatch(each.name)
        and each.name not in listed
        # Without a list that was read, any whole part may be all that is left of a store.
        and (parts.is_listed or each.name.endswith(PARTIAL))
        and each.is_file()
    )


def clean(folder: Path, parts: Parts) -> None:
    """Remove what a command that was killed has left; the lock must be held."""
    for each in garbage(folder, parts):
        # It may be open on Windows: the next writer tries again.
        with suppress(OSError):
            each.unlink()


def new_part(folder: Path) -> Path:
    """A name that no part has had: readers know a file by its name."""
    return folder / f"part-{uuid.uuid4().hex[:12]}.h5"


# ------------------------------------------------------------------ one writer at a time


def lock_path(path: Path) -> Path:
    """The file whose lock stands for a store."""
    return path.with_name(f".{path.name}.lock") if is_file_path(path) else path / ".lock"


@contextmanager
def writing(path: Path, *, wait: float = 10.0) -> Iterator[None]:
    """Hold the right to change a store, whose folder is made if it is not there.

    The system frees the lock when the process ends.

    Parameters
    ----------
    path : Path
        A file or a folder.
    wait : float
        Seconds to wait for another writer.

    Raises
    ------
    StoreError
        If another process holds it, or the folder cannot be made or locked.
    """
    folder, lock_file = (path.parent if is_file_path(path) else path), lock_path(path)
    made: list[Path] = []
    try:
        made = _make(folder)
        lock = _acquire(path, lock_file, wait)
    except OSError as error:
        _unmake(made)
        if isinstance(error, StoreError):
            raise
        raise _refusal(path, lock_file, error) from error
    holder = _holder(lock_file)
    try:
        # A lock counts on a full disk too; then nobody can read who holds it.
        with suppress(OSError):
            holder.write_text(json.dumps(_signature()), encoding="utf-8")
        yield
    except BaseException:
        _remove(holder, lock_file)
        _unmake(made)
        raise
    finally:
        # Removed while it is held: who waited finds another file, and tries again.
        _remove(holder, lock_file)
        lock.release()


def _holder(lock_file: Path) -> Path:
    # Not the lock file itself, which some versions of filelock empty when they open it.
    return lock_file.with_name(f"{lock_file.name}.holder")


def _acquire(path: Path, lock_file: Path, wait: float) -> FileLock:
    end = time.monotonic() + wait
    lock = FileLock(str(lock_file), mode=0o644)
    while True:
        mine = os.open(lock_file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            lock.acquire(timeout=max(0.0, end - time.monotonic()), poll_interval=0.02)
            # Where the file was removed meanwhile, another process may hold that of a new one.
            # While it is open here, no other file can have its number.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(mine), lock_file.stat()):
                    return lock
        except Timeout:
            raise StoreError(
                f"{path} is being written by {_signed(_holder(lock_file))}; wait until that is "
                "done, stop it, or write to another store (file systems of a network may lack "
                "locks: write to a local disk and copy the store when it is done)"
            ) from None
        finally:
            os.close(mine)
        lock.release()
        lock_file.parent.mkdir(parents=True, exist_ok=True)


def _make(folder: Path) -> list[Path]:
    """Make a folder, and return those that were not there, outermost first."""
    missing = [each for each in [folder, *folder.parents] if not each.exists()][::-1]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _remove(*files: Path) -> None:
    for each in files:
        with suppress(OSError):
            each.unlink(missing_ok=True)


def _unmake(made: list[Path]) -> None:
    """Remove folders that were made for nothing."""
    # An empty list is all that a write that failed has left.
    if made and made[-1].is_dir() and {*made[-1].iterdir()} == {made[-1] / LIST}:
        _remove(made[-1] / LIST)
    for each in made[::-1]:
        with suppress(OSError):
            each.rmdir()


def _refusal(path: Path, lock_file: Path, error: OSError) -> StoreError:
    reason = error.strerror or str(error)
    if isinstance(error, PermissionError) and os.path.lexists(lock_file):
        return StoreError(
            f"{path} cannot be locked: {lock_file} is the lock of another user ({reason}); wait "
            "until they have written, and if they do not write, remove that file"
        )
    return StoreError(
        f"{path} cannot be written ({reason}); nothing was changed, so check the disk space and "
        "the permissions of its folder"
    )


def is_free(path: Path) -> bool:
    """Whether nobody writes to a store now; nothing is made to find that out."""
    lock_file = lock_path(path)
    if not lock_file.exists():
        return True
    lock = FileLock(str(lock_file))
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return False
    lock.release()
    return True


def _signature() -> dict[str, object]:
    command = " ".join(sys.argv)[:200]
    return {"pid": os.getpid(), "host": socket.gethostname(), "command": command}


def _signed(holder: Path) -> str:
    """Who holds a lock, in words."""
    try:
        with holder.open("rb") as stream:
            found = json.loads(stream.read(2000))
        who = f"process {found['pid']} on {found['host']} ({found['command']})"
        return printable(" ".join(who.split()))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "another process"
