"""Replace files whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from biasaudio.errors import StoreError
from biasaudio.store.schema import PARTIAL

__all__ = ["replacing"]


@contextmanager
def replacing(targets: Iterable[Path]) -> Iterator[dict[Path, Path]]:
    """Give a copy of each file to write to, and put the copies in place at the end."""
    partials = {target: target.with_name(target.name + PARTIAL) for target in targets}
    folders = [folder for target in partials for folder in [target.parent, *target.parents]]
    made = [folder for folder in dict.fromkeys(folders) if not folder.exists()]
    is_done = False
    try:
        for target, partial in partials.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            partial.unlink(missing_ok=True)
            if target.exists():
                shutil.copyfile(target, partial)
        yield partials
        # Without this a power cut may leave the new name with none of the data.
        for partial in partials.values():
            with partial.open("rb+") as stream:
                os.fsync(stream.fileno())
        for target, partial in partials.items():
            os.replace(partial, target)
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
            partial.unlink(missing_ok=True)
        if not is_done:
            for folder in made:
                with suppress(OSError):
                    folder.rmdir()
