"""Replace files whole or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from biasaudio.errors import StoreError
from biasaudio.store.schema import PARTIAL

__all__ = ["make_folder", "replacing"]


@contextmanager
def replacing(targets: Iterable[Path]) -> Iterator[dict[Path, Path]]:
    """Give a new name for each file to write to, and put what is there in place at the end.

    Parameters
    ----------
    targets : iterable of Path

    Yields
    ------
    dict
        From each file to the one to be written, which is not there yet.

    Raises
    ------
    StoreError
        If a file cannot be written; then nothing was changed.
    """
    partials = {target: target.with_name(target.name + PARTIAL) for target in targets}
    is_done = False
    made: list[Path] = []
    try:
        for target, partial in partials.items():
            made += make_folder(target.parent)
            partial.unlink(missing_ok=True)
        yield partials
        # Without this a power cut may leave the new name with none of the data.
        for partial in partials.values():
            with partial.open("rb+") as stream:
                os.fsync(stream.fileno())
        for target, partial in partials.items():
            os.replace(partial, target)
            sync_folder(target.parent)
        is_done = True
    except (OSError, RuntimeError) as error:
        if isinstance(error, StoreError):
            raise
        files, reason = " and ".join(map(str, partials)), " ".join(str(error).split())
        raise StoreError(
            f"{files} cannot be written ({reason}); nothing was changed, so check the disk space "
            "and the permissions"
        ) from error
    finally:
        for partial in partials.values():
            with suppress(OSError):
                partial.unlink(missing_ok=True)
        if not is_done:
            remove_folders(made)


def make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it, and return which were made, the lowest first."""
    made = [each for each in [folder, *folder.parents] if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return made


def remove_folders(folders: Iterable[Path]) -> None:
    """Remove folders that are empty."""
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system can."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some file systems of a network refuse it, and write names at once.
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
