"""Print the verdict of a saved audit and write its report again."""

from __future__ import annotations

import argparse
from pathlib import Path

from biasaudio.cli._common import emit

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("audit", metavar="DIR", help="a folder that an audit was written to")
    parser.add_argument("--out", metavar="DIR", help="default: the same folder")


def run(args: argparse.Namespace) -> int:
    """Load the audit, write the report and print the verdict."""
    from biasaudio.results import AuditResult, check_folder

    source = Path(args.audit)
    target = check_folder(args.out or (source.parent if source.is_file() else source))
    result = AuditResult.load(source)
    out = result.save(target)
    document = {"report": str(out / "report.html"), "meta": result.meta}
    emit(args, f"{result.summary()}\n\nReport: {out / 'report.html'}", document)
    return 0
