"""Options, output and error handling that the commands share."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from biasaudio.errors import ParameterError

__all__ = ["Parser", "add_correction_options", "add_store_options", "command_line", "emit", "note"]


class Parser(argparse.ArgumentParser):
    """Raise on wrong usage, so that ``--json`` can report it like any error."""

    def error(self, message: str) -> NoReturn:
        """Raise with the message and the way to the help."""
        raise ParameterError(f"{message}; see '{self.prog} --help'")


def command_line() -> str:
    """Return the command as it was typed."""
    import shlex

    return shlex.join(["biasaudio", *sys.argv[1:]])


def note(args: argparse.Namespace, text: str) -> None:
    """Print a line for the person at the terminal: on stderr, unless quiet."""
    if not args.quiet:
        print(text, file=sys.stderr)


def emit(args: argparse.Namespace, text: str, document: dict[str, Any]) -> None:
    """Print the outcome on stdout: the text, or the document with ``--json``."""
    if args.json:
        print(json.dumps(_strict(document), indent=1))
    elif text:
        print(text)


def _strict(value: Any) -> Any:
    """Return the value with NaN as null, which JSON lacks, and numpy numbers as Python's."""
    if isinstance(value, dict):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and value != value else value


def text_table(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows with the same keys as a table, columns wide enough for all."""
    table = [list(map(str, rows[0])), *([str(v) for v in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table)]
    lines = ("  ".join(cell.ljust(w) for cell, w in zip(line, widths)).rstrip() for line in table)
    return "\n".join(lines)


def add_store_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which vectors and clips to take."""
    parser.add_argument("store", metavar="STORE", help="an .h5 file, or a folder of them")
    parser.add_argument("--datasets", nargs="+", metavar="NAME", help="default: all in the store")
    parser.add_argument("--labels", nargs="+", metavar="NAME", help="default: all they share")
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
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="default: all that apply")
    parser.add_argument(
        "--modes",
        nargs="+",
        metavar="MODE",
        default=["global"],
        help="fit corrections on all clips (global), per class (classwise), or both",
    )


def read_clips(args: argparse.Namespace) -> Any:
    """Return the `ClipTable` that the options name, or None."""
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
    if not tables:
        return None
    return Vocabulary(PUBLISHED.labels).apply(ClipTable.concat(tables))


def partial_rule(args: argparse.Namespace) -> str:
    """Return what to do about clips that do not match: "drop" or "raise"."""
    return "drop" if args.allow_partial else "raise"


def expand(names: Sequence[str] | None) -> list[str] | None:
    """Return the names, with None for ``all``."""
    return None if names is None or list(names) == ["all"] else list(names)
