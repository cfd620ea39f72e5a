"""Options and output that the commands share."""

from __future__ import annotations

import argparse
import errno
import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile
from typing import Any, NoReturn, TextIO

from biasaudio._text import printable
from biasaudio.errors import ParameterError

__all__ = [
    "Parser",
    "add_cache_option",
    "add_correction_options",
    "add_shared_options",
    "add_store_options",
    "clip_files",
    "command_line",
    "emit",
    "expand",
    "note",
    "note_warnings",
    "only_embedding",
    "open_store",
    "pairs",
    "partial_rule",
    "progress",
    "read_clips",
    "say",
    "settings",
    "steady_streams",
    "text_table",
    "whole_number",
]

_SHOWN_WARNINGS = 3
# What numpy, scikit-learn and the operating system all take as a seed or a count.
_LARGEST = 2**32 - 1


class Parser(argparse.ArgumentParser):
    """Raise on wrong usage, so that ``--json`` can report it like any error."""

    def __init__(self, **options: Any) -> None:
        # Abbreviated, --json would not be seen where parsing itself fails.
        super().__init__(**{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """Raise with the message and the way to the help."""
        raise ParameterError(f"{message}; see '{self.prog} --help'")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Name an unknown option before anything that is missing."""
        own = list(args or ())
        is_outer = self._subparsers is not None
        if is_outer:
            own = list(takewhile(lambda text: text.startswith("-"), own))
        for text in own:
            name = text.split("=")[0]
            if name[:2] == "--" and len(name) > 2 and name not in self._option_string_actions:
                from biasaudio._validation import did_you_mean

                hint = did_you_mean(name, self._option_string_actions)
                way = "; give options after the command" if is_outer else hint
                self.error(f"unknown option {name!r}{way}")
        return super().parse_known_args(args, namespace)


def whole_number(at_least: int) -> Callable[[str], int]:
    """Type of an option that is a whole number, large enough."""

    def read(text: str) -> int:
        # Digits are counted first: Python refuses to convert thousands of them.
        is_whole = re.fullmatch(r"-?\d+", text) is not None
        if is_whole and len(text) <= 20 and at_least <= int(text) <= _LARGEST:
            return int(text)
        shown = text if len(text) <= 20 else f"{text[:20]}..."
        is_large = is_whole and text[0] != "-" and len(text.lstrip("0")) > 9
        bounds = f"to {_LARGEST}" if is_large else "upwards"
        raise argparse.ArgumentTypeError(
            f"{shown!r} is not allowed; give a whole number from {at_least} {bounds}"
        )

    return read


def add_shared_options(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """Add the options of every command.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    again : bool
        Whether a parser above has them too; then what was given there stays.
    """
    group = parser.add_argument_group("every command")

    def add(name: str, default: Any, text: str, **options: Any) -> None:
        default = argparse.SUPPRESS if again else default
        group.add_argument(name, default=default, help=text, **options)

    add("--json", False, "one JSON document on stdout", action="store_true")
    add("--seed", 0, "random seed (default 0)", type=whole_number(0), metavar="N")
    add("--n-jobs", -1, "processes (default all cores)", type=whole_number(-1), metavar="N")
    add("--quiet", False, "nothing on stderr but errors", action="store_true")
    add("--debug", False, "show the traceback of an error", action="store_true")


def pairs(texts: Sequence[str], option: str, form: str) -> list[tuple[str, str]]:
    """Names and values of a repeated option of the form NAME=VALUE."""
    found = []
    for text in texts:
        name, sign, value = text.partition("=")
        if not (name and sign and value):
            raise ParameterError(f"{option} {text!r} is not {form}")
        found.append((name, value))
    return found


def settings(texts: Sequence[str], example: str) -> dict[str, Any]:
    """Values of ``--set NAME=VALUE``, numbers and the like as such."""
    found: dict[str, Any] = {}
    for name, text in pairs(texts, "--set", f"NAME=VALUE, as in {example}"):
        try:
            word = {"None": "null", "True": "true", "False": "false"}.get(text, text)
            found[name] = json.loads(word)
        except (ValueError, RecursionError):
            found[name] = text
    return found


def command_line(args: argparse.Namespace) -> str:
    """Command as it was typed; bytes that are no text are written out."""
    import shlex

    return printable(shlex.join(["biasaudio", *args.typed]))


class _Steady:
    """A stream that takes whatever is written, also when nobody reads it any more.

    A closed terminal, a full disk under a log or ``| head`` must not stop work
    that writes elsewhere.  The first error is kept, and what follows is dropped.

    Parameters
    ----------
    stream : TextIO or None
        None where Python found the descriptor closed.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.lost: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        if self.stream is None:
            raise AttributeError(name)
        return getattr(self.stream, name)

    @property
    def encoding(self) -> str:
        return getattr(self.stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return self.stream is not None and self.stream.isatty()

    def write(self, text: str) -> int:
        if self.stream is not None and self.lost is None:
            with self._losing():
                self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        if self.stream is not None and self.lost is None:
            with self._losing():
                self.stream.flush()

    @contextmanager
    def _losing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.lost = error
            # Python flushes at exit what is still buffered, and would fail again.
            with suppress(OSError, ValueError, AttributeError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self.stream.fileno())  # type: ignore[union-attr]
                os.close(null)


@contextmanager
def steady_streams() -> Iterator[Callable[[], str]]:
    """Streams on which work cannot fail, inside; yields why stdout was lost, if it was."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # Else the next file that is opened gets this number, and messages go into it;
            # processes that work for this one need it as well.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    before = sys.stdout, sys.stderr
    out = _Steady(sys.stdout)
    sys.stdout, sys.stderr = out, _Steady(sys.stderr)

    def reason() -> str:
        # A reader that has enough, such as head, is no failure.
        if out.lost is None or out.lost.errno == errno.EPIPE:
            return ""
        return f"stdout: {out.lost.strerror}"

    try:
        yield reason
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before


def note(args: argparse.Namespace, text: str) -> None:
    """Print a line for the person at the terminal: on stderr, unless quiet."""
    if not args.quiet:
        say(text, sys.stderr)


def say(text: str, stream: TextIO) -> None:
    """Print text; what a name in it could do to the terminal is written out."""
    encoding = stream.encoding or "utf-8"
    shown = printable(text, keep="\n").encode(encoding, "backslashreplace")
    print(shown.decode(encoding), file=stream)


def note_warnings(args: argparse.Namespace, texts: Sequence[str]) -> None:
    """Print the first few warnings on stderr, unless quiet."""
    for text in texts[:_SHOWN_WARNINGS]:
        note(args, f"warning: {text}")
    if len(texts) > _SHOWN_WARNINGS:
        note(args, f"warning: and {len(texts) - _SHOWN_WARNINGS} more of this kind")


def emit(args: argparse.Namespace, text: str, document: dict[str, Any]) -> None:
    """Print the outcome on stdout: the text, or the document with ``--json``."""
    if args.json:
        print(json.dumps(_strict(document), indent=1, allow_nan=False))
    elif text:
        say(text, sys.stdout)


def _strict(value: Any) -> Any:
    """Value with null for NaN, which JSON lacks, and numpy numbers as Python's."""
    if isinstance(value, dict):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def text_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows with the same keys as a table, columns wide enough for all."""
    table = [
        list(map(printable, rows[0])),
        *([printable(str(v)) for v in row.values()] for row in rows),
    ]
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = ("  ".join(cell.ljust(w) for cell, w in zip(line, widths)).rstrip() for line in table)
    return "\n".join(lines)


def add_store_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which vectors and clips to take."""
    parser.add_argument("store", metavar="STORE", help="an .h5 file, or a folder of them")
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="default: all in the store")
    parser.add_argument("--labels", nargs="+", metavar="NAME", help="default: all they share")
    add_cache_option(parser)
    known = parser.add_argument_group("what is known about the clips (default: the store's own)")
    known.add_argument("--openmic", metavar="DIR", help="folder of OpenMIC-2018")
    known.add_argument("--irmas", metavar="DIR", help="folder of IRMAS")
    known.add_argument("--clips", metavar="FILE", help="a manifest, csv or parquet")
    known.add_argument(
        "--allow-partial",
        action="store_true",
        help="go on with the clips that have vectors; default: stop if some have none",
    )


def add_correction_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which corrections to compare, and how."""
    parser.add_argument(
        "--methods", nargs="+", metavar="NAME", help="default: the usual ones that apply"
    )
    parser.add_argument(
        "--modes",
        nargs="+",
        metavar="MODE",
        default=["global"],
        help="fit corrections on all clips (global), per class (classwise), or both",
    )


def add_cache_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that leaves the pooled vectors beside a store alone."""
    parser.add_argument(
        "--no-cache",
        action="store_true",
        help="pool all frames anew; default: keep pooled vectors beside the store",
    )


def read_clips(args: argparse.Namespace) -> Any:
    """`ClipTable` that the options name, or None.

    OpenMIC and IRMAS together have the published labels; one alone keeps its own.
    """
    from biasaudio.datasets import (
        PUBLISHED,
        ClipTable,
        Vocabulary,
        load_irmas,
        load_manifest,
        load_openmic,
    )

    if args.clips and (args.openmic or args.irmas):
        raise ParameterError("--clips excludes --openmic and --irmas; give one or the other")
    if args.clips:
        return load_manifest(args.clips)
    tables = [load_irmas(args.irmas)] if args.irmas else []
    tables += [load_openmic(args.openmic)] if args.openmic else []
    if len(tables) < 2:
        return tables[0] if tables else None
    return Vocabulary(PUBLISHED.labels).apply(ClipTable.concat(tables))


def open_store(args: argparse.Namespace) -> Any:
    """`EmbeddingStore` that the options name."""
    from biasaudio.store import EmbeddingStore

    return EmbeddingStore(args.store, cache=not args.no_cache)


def clip_files(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Path, size and sha256 of the files that `read_clips` reads."""
    from pathlib import Path

    from biasaudio._files import fingerprint_file
    from biasaudio.datasets import irmas, openmic

    paths = [Path(args.clips)] if args.clips else []
    if args.irmas:
        paths += [Path(args.irmas) / name for name in irmas.SPLIT_FILES.values()]
    if args.openmic:
        folder = Path(args.openmic)
        answers = openmic.NPZ if (folder / openmic.NPZ).is_file() else openmic.LABELS
        others = (openmic.METADATA, openmic.CLASSES, *openmic.PARTITIONS.values())
        paths += [folder / name for name in (answers, *others)]
    return [fingerprint_file(path) for path in paths if path.is_file()]


def only_embedding(args: argparse.Namespace, store: str) -> str:
    """Name of the embedding that is asked for, or of the only one there is."""
    from biasaudio.store import EmbeddingStore

    if args.embedding:
        return str(args.embedding)
    opened = EmbeddingStore(store)
    held = [opened.embeddings(name) for name in args.datasets or opened.datasets()]
    there = [name for name in held[0] if all(name in other for other in held)]
    if len(there) != 1:
        raise ParameterError(
            f"--embedding is needed: the datasets share {', '.join(there) or 'none'}"
        )
    return there[0]


def partial_rule(args: argparse.Namespace) -> str:
    """What to do about clips that do not match: "drop" or "raise"."""
    return "drop" if args.allow_partial else "raise"


def expand(names: Sequence[str] | None) -> list[str] | None:
    """Names, with None for ``all``."""
    return None if names is None or list(names) == ["all"] else list(names)


@contextmanager
def progress(args: argparse.Namespace, what: str, unit: str, total: int) -> Iterator[Any]:
    """Show a bar on stderr, if somebody is there to see it."""
    from tqdm import tqdm

    hide = True if args.quiet else None
    options: dict[str, Any] = {"unit_scale": True, "leave": False, "disable": hide}
    with tqdm(total=total, desc=what, unit=unit, **options) as bar:
        yield bar.update
