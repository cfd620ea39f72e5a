"""Remember in the store which extraction was begun, so that ``store resume`` can name it."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from biasaudio.cli._common import emit, note
from biasaudio.errors import DataError, ParameterError

__all__ = ["Unfinished", "read_unfinished", "resume", "unfinished"]

SUFFIX = ".unfinished"
LARGEST = 2**16


class Unfinished(NamedTuple):
    """An extraction that was begun and not ended.

    Attributes
    ----------
    argv : list of str
        What was typed after ``biasaudio``.
    folder : str
        Where it was typed.
    """

    argv: list[str]
    folder: str


@contextmanager
def unfinished(args: argparse.Namespace) -> Iterator[None]:
    """Keep the command in the store until it ends by itself."""
    from biasaudio.store.schema import is_file_path

    text = json.dumps({"argv": list(args.typed), "folder": str(Path.cwd())})
    path = Path(args.out, _name(args) + SUFFIX)
    is_new = not path.parent.exists()
    # Where nothing can be written, the store itself says why.
    with suppress(OSError):
        if not is_file_path(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    try:
        yield
    except (ParameterError, DataError):
        _forget(path, is_new)
        raise
    _forget(path, is_new=False)


def _name(args: argparse.Namespace) -> str:
    """Return a name that the same extraction has again, with whatever other options."""
    places = [str(Path(each).absolute()) for each in (args.audio, args.clips) if each]
    what = [*places, args.model, args.embedding, args.max_seconds, *args.set]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:12]


def _forget(path: Path, is_new: bool) -> None:
    with suppress(OSError):
        path.unlink()
        if is_new:
            path.parent.rmdir()


def read_unfinished(store: Path) -> list[Unfinished]:
    """Return the extractions that were begun in a folder store and not ended.

    What is no such record is passed over: a store may come from anywhere.
    """
    found = []
    for path in sorted(store.glob(f"*{SUFFIX}")) if store.is_dir() else []:
        try:
            held = json.loads(path.read_bytes()[:LARGEST]) if path.is_file() else {}
            argv, folder = held["argv"], held["folder"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
        is_text = isinstance(argv, list) and all(isinstance(each, str) for each in argv)
        if is_text and isinstance(folder, str) and argv[:1] == ["extract"]:
            found.append(Unfinished(argv, folder))
    return found


def resume(args: argparse.Namespace) -> int:
    """Name the extractions that were interrupted, and run them with ``--yes``."""
    from biasaudio.store import EmbeddingStore

    found, code = read_unfinished(Path(args.store)), 0
    if not found:
        # Killed before its first commit it is no store yet; else it must be one.
        EmbeddingStore(args.store)
    lines = []
    for each in found:
        command = shlex.join(["biasaudio", *each.argv])
        lines.append(f"{command}\n  begun in {each.folder}")
    if not found:
        lines.append(f"{args.store}: no extraction is unfinished")
    elif not args.yes:
        lines.append(f"run it there, or: biasaudio store resume {shlex.quote(args.store)} --yes")
    rows = [each._asdict() for each in found]
    if not (args.yes and found):
        emit(args, "\n".join(lines), {"store": args.store, "unfinished": rows})
        return code
    for each, line in zip(found, lines):
        note(args, line)
        code = max(code, _run_again(each))
    return code


def _run_again(command: Unfinished) -> int:
    from biasaudio.cli.main import main

    before = Path.cwd()
    try:
        os.chdir(command.folder)
    except OSError as error:
        raise DataError(
            f"{command.folder} cannot be entered ({error.strerror}); run the command from where "
            "its files are now"
        ) from error
    try:
        return main(command.argv)
    finally:
        os.chdir(before)
