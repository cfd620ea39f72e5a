"""Change a store: under its lock, in new files, which take the place of the old ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from biasaudio.errors import StoreError
from biasaudio.store.cache import clear_cache
from biasaudio.store.content import Content, write_content, write_superseded
from biasaudio.store.index import Index, existing, is_alone, superseded_by
from biasaudio.store.lock import lock_store
from biasaudio.store.opening import open_store_file
from biasaudio.store.output import open_output
from biasaudio.store.replace import make_folder, remove_folders, replacing
from biasaudio.store.schema import CLIPS, PARTIAL, is_file_path, is_part, store_files
from biasaudio.store.seal import mark_of
from biasaudio.store.sealing import append_seal, copy_sealed

__all__ = [
    "Change",
    "apply_changes",
    "drop_embedding",
    "remove_files",
    "settled",
    "write_file",
    "writing",
]

TRIES = 10


@dataclass(frozen=True, eq=False)
class Change:
    """Say what is to be written into one file.

    Parameters
    ----------
    target : Path
        The file, which is extended if it exists.
    content : Content
    others : sequence of Path
        Files that hold the same embedding of the dataset now, and shall no longer.
    """

    target: Path
    content: Content
    others: Sequence[Path] = ()


@contextmanager
def writing(path: Path, *, wait: float = 10.0) -> Iterator[None]:
    """Hold the right to change a store, made if it is not there.

    Parameters
    ----------
    path : Path
        A file or a folder.
    wait : float
        Seconds to wait for another writer.

    Raises
    ------
    StoreError
        If another process holds it, or the folder cannot be made.
    """
    is_file = is_file_path(path)
    folder = path.parent if is_file else path
    made: dict[Path, None] = {}
    try:
        with ExitStack() as stack:
            for left in range(TRIES)[::-1]:
                made |= dict.fromkeys(_make(folder, path))
                try:
                    stack.enter_context(lock_store(path, is_file=is_file, wait=wait))
                    break
                except StoreError as error:
                    # Another process had made the folder for nothing, and took it away.
                    if not left or not isinstance(error.__cause__, FileNotFoundError):
                        raise
            # Nobody else writes parts now, so these are left from a process that died.
            for old in [] if is_file else path.glob(f"*{PARTIAL}"):
                if is_part(old.with_suffix("")):
                    old.unlink(missing_ok=True)
            yield
    finally:
        # Those that were made for nothing; others hold the store now.
        remove_folders(made)


def _make(folder: Path, store: Path) -> list[Path]:
    try:
        return make_folder(folder)
    except OSError as error:
        raise StoreError(
            f"{store} cannot be written: {folder} cannot be made "
            f"({error.strerror or error}); check its name and the permissions"
        ) from error


def settled(path: Path) -> Index:
    """Return the index of a store, without files that a process that died has merged.

    Parameters
    ----------
    path : Path
        A store whose lock is held, or where one is to be made.
    """
    index = existing(path)
    used = {file for files in index.values() for file in files}
    _remove_merged(file for file in store_files(path) if file not in used)
    return index


def apply_changes(index: Index, changes: Sequence[Change]) -> None:
    """Write all files anew, put them in place, and remove those that they replace.

    Parameters
    ----------
    index : dict
        The store's, read under its lock.
    changes : sequence of Change

    Raises
    ------
    StoreError
        If a file is damaged, or cannot be written; then nothing was changed.
    """
    targets = dict.fromkeys(change.target for change in changes)
    gone: dict[Path, None] = {}
    # What is taken out of files that stay.
    dropped: dict[Path, list[tuple[str, str]]] = {}
    for change in changes:
        pair = (change.content.dataset, change.content.embedding)
        for other in change.others:
            if other not in targets and is_alone(index, pair, other):
                gone[other] = None
            else:
                dropped.setdefault(other, []).append(pair)
    marks = {other: mark_of(other) for other in gone}
    with replacing(dict.fromkeys([*targets, *dropped])) as partials:
        for file, partial in partials.items():
            here = [change for change in changes if change.target == file]
            pairs = [(each.content.dataset, each.content.embedding) for each in here]
            # What is written anew as a whole leaves no hole of what was there.
            is_new = not file.exists() or any(is_alone(index, pair, file) for pair in pairs)
            merged = {
                other.name: marks[other] for each in here for other in each.others if other in gone
            }
            write_file(
                partial,
                [each.content for each in here],
                begin=None if is_new else file,
                without=dropped.get(file, ()),
                superseded=_merged_before(file) | merged,
            )
    _remove_merged(gone)


def _remove_merged(files: Iterable[Path]) -> None:
    # Readers pass over what cannot be removed, and the next writer tries again.
    with suppress(OSError):
        remove_files(files)


def write_file(
    partial: Path,
    contents: Iterable[Content],
    *,
    begin: Path | None = None,
    without: Iterable[tuple[str, str]] = (),
    superseded: Mapping[str, str] | None = None,
) -> None:
    """Write and seal a file.

    Parameters
    ----------
    partial : Path
        Where it is written.
    contents : iterable of Content
    begin : Path, optional
        The file that it extends.
    without : iterable of (dataset, embedding)
        What is taken out of that.
    superseded : mapping of str to str
        Names of files that it takes the place of, and the mark of each.

    Raises
    ------
    StoreError
        If the file that it extends is damaged.
    OSError
        If a write fails.
    """
    blocks = {} if begin is None else dict(copy_sealed(begin, partial))
    with open_output(partial) as out:
        for dataset, embedding in without:
            blocks.pop(f"/{dataset}/{embedding}", None)
            del out.handle[dataset][embedding]
            if list(out.handle[dataset]) in ([], [CLIPS]):
                del out.handle[dataset]
        for content in contents:
            blocks[content.where] = write_content(out, content)
        write_superseded(out, superseded or {})
    append_seal(partial, blocks)


def drop_embedding(index: Index, pair: tuple[str, str], file: Path) -> None:
    """Take an embedding of a dataset out of a file, or remove a file that holds no other.

    Parameters
    ----------
    index : dict
        The store's, as `settled` returned it.
    pair : tuple of str
        Dataset and embedding.
    file : Path
    """
    if is_alone(index, pair, file):
        remove_files([file])
        return
    with replacing([file]) as partials:
        left = _merged_before(file)
        write_file(partials[file], [], begin=file, without=[pair], superseded=left)


def _merged_before(file: Path) -> dict[str, str]:
    """Return what a file took the place of and could not be removed: it must not come back."""
    if not file.exists():
        return {}
    with open_store_file(file) as handle:
        return superseded_by(handle, file)


def remove_files(files: Iterable[Path]) -> None:
    """Remove files of a store that others have taken the place of, and their caches."""
    for file in files:
        clear_cache(file)
        file.unlink(missing_ok=True)
