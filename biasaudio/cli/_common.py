"""Options, output and error handling that the commands share."""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    "open_store",
    "partial_rule",
    "progress",
    "read_clips",
    "say",
    "text_table",
    "whole_number",
]

_SHOWN_WARNINGS = 3


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
    """Return what reads an option as a whole number that is large enough."""

    def read(text: str) -> int:
        if not re.fullmatch(r"-?\d+", text) or int(text) < at_least:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not allowed; give a whole number from {at_least} upwards"
            )
        return int(text)

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


def command_line(args: argparse.Namespace) -> str:
    """Return the command as it was typed."""
    import shlex

    return shlex.join(["biasaudio", *args.typed])


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
    """Return the value with null for NaN, which JSON lacks, and numpy numbers as Python's."""
    if isinstance(value, dict):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def text_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows with the same keys as a table, columns wide enough for all."""
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
    """Return the `ClipTable` that the options name, or None.

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
    """Return the `EmbeddingStore` that the options name."""
    from biasaudio.store import EmbeddingStore

    return EmbeddingStore(args.store, cache=not args.no_cache)


def clip_files(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Return path, size and sha256 of the files that `read_clips` reads."""
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


def partial_rule(args: argparse.Namespace) -> str:
    """Return what to do about clips that do not match: "drop" or "raise"."""
    return "drop" if args.allow_partial else "raise"


def expand(names: Sequence[str] | None) -> list[str] | None:
    """Return the names, with None for ``all``."""
    return None if names is None or list(names) == ["all"] else list(names)


@contextmanager
def progress(args: argparse.Namespace, what: str, unit: str, total: int) -> Iterator[Any]:
    """Show a bar on stderr, if somebody is there to see it."""
    from tqdm import tqdm

    hide = True if args.quiet else None
    options: dict[str, Any] = {"unit_scale": True, "leave": False, "disable": hide}
    with tqdm(total=total, desc=what, unit=unit, **options) as bar:
        yield bar.update
