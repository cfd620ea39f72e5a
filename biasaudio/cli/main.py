"""Parse the command line, run the command, turn errors into exit codes."""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from biasaudio.cli._common import Parser
from biasaudio.errors import BiasAudioError, BiasAudioWarning, ParameterError

__all__ = ["main"]

COMMANDS = ("demo", "audit", "reproduce", "probe", "store", "report")
FAILURE, USAGE, INTERRUPTED = 1, 2, 130
_SHOWN_WARNINGS = 5


def build_parser() -> Parser:
    """Return the parser of all commands."""
    shared = Parser(add_help=False)
    group = shared.add_argument_group("every command")
    group.add_argument("--json", action="store_true", help="one JSON document on stdout")
    group.add_argument("--seed", type=int, default=0, help="random seed (default 0)")
    group.add_argument("--n-jobs", type=int, default=-1, help="processes (default all cores)")
    group.add_argument("--quiet", action="store_true", help="nothing on stderr but errors")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = Parser(
        prog="biasaudio",
        description="Measure dataset and genre bias in audio embeddings, and correct it.",
        epilog="Exit codes: 0 ok, 1 failure, 2 usage, 3 threshold exceeded.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name in COMMANDS:
        module = import_module(f"biasaudio.cli.{name}")
        text = module.__doc__ or ""
        command = commands.add_parser(
            name, parents=[shared], help=text.splitlines()[0].rstrip("."), description=text
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Default ``sys.argv[1:]``.

    Returns
    -------
    int
        The exit code: 0 ok, 1 failure, 2 usage, 3 threshold exceeded.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    # Known before parsing, because parsing itself can fail.
    as_json, debug = "--json" in argv, "--debug" in argv
    try:
        parser = build_parser()
        args = parser.parse_args(argv)
        if args.version:
            from importlib.metadata import version

            print(f"biasaudio {version('biasaudio')}")
            return 0
        if args.command is None:
            parser.print_help()
            return USAGE
        return _run(args)
    except BiasAudioError as error:
        return _fail(error, as_json=as_json, debug=debug)
    except OSError as error:
        return _fail(error, as_json=as_json, debug=debug)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _run(args: Any) -> int:
    """Run the command, then show our own warnings, each once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BiasAudioWarning)
        code: int = args.run(args)
    texts = list(dict.fromkeys(str(one.message) for one in caught))
    for text in texts[: 0 if args.quiet else _SHOWN_WARNINGS]:
        print(f"warning: {text}", file=sys.stderr)
    if len(texts) > _SHOWN_WARNINGS and not args.quiet:
        print(f"warning: ... and {len(texts) - _SHOWN_WARNINGS} more", file=sys.stderr)
    return code


def _fail(error: Exception, *, as_json: bool, debug: bool) -> int:
    """Report the error in one line, and return its exit code."""
    if debug:
        traceback.print_exception(error)
    message = " ".join(str(error).split())
    if as_json:
        print(json.dumps({"error": {"type": type(error).__name__, "message": message}}))
    else:
        print(f"biasaudio: {message}", file=sys.stderr)
    return USAGE if isinstance(error, ParameterError) else FAILURE
