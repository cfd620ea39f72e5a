"""Parse the command line, run the command, turn errors into exit codes."""

from __future__ import annotations

import argparse
import json
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from biasaudio.cli._common import Parser, add_shared_options, note_warnings, say
from biasaudio.errors import BiasAudioError, BiasAudioWarning, ParameterError

__all__ = ["main"]

COMMANDS = ("demo", "extract", "audit", "reproduce", "probe", "correct", "store", "report")
FAILURE, USAGE, INTERRUPTED = 1, 2, 130
# Messages name the way out in Python; a user of the command line needs it in options.
_IN_SHELL = (
    ('missing="drop"', "--allow-partial"),
    ('unknown="drop"', "--allow-partial"),
    ("overwrite=True", "--overwrite"),
    ("columns={'clip': ...}", "--column clip=NAME"),
    ("columns names", "--column names"),
    ("datasets=[...]", "--datasets"),
    ("write one with import_arrays", "write one with 'biasaudio store import'"),
    ("n_jobs=", "--n-jobs="),
    ("n_permutations=", "--permutations="),
    ("n_resamples=", "--resamples="),
    ("random_state=", "--seed="),
    ("ask for fewer splits", "ask for fewer --splits"),
    ("probe without strata", "give --mix raw"),
    ("leave it out of labels", "leave it out of --labels"),
    ("split='drawn'", "--split drawn"),
    ("another name with embedding=...", "another name with --embedding"),
    ("unseen='identity'", "--unseen identity"),
    ("unseen='global'", "--unseen global"),
)


def build_parser() -> Parser:
    """Return the parser of all commands."""
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
        command = commands.add_parser(name, help=text.splitlines()[0].rstrip("."), description=text)
        module.add_arguments(command)
        add_shared_options(command)
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
        _check_command(argv)
        parser = build_parser()
        args = parser.parse_args(argv, argparse.Namespace(typed=argv))
        if args.version:
            from importlib.metadata import version

            print(f"biasaudio {version('biasaudio')}")
            return 0
        if args.command is None:
            parser.print_help()
            return USAGE
        code = _run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader, such as head, has enough; the flush at exit must not fail again.
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        return FAILURE
    except (BiasAudioError, OSError) as error:
        return _fail(error, as_json=as_json, debug=debug)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _check_command(argv: Sequence[str]) -> None:
    """Refuse an unknown command, and say which is nearest."""
    name = next((text for text in argv if not text.startswith("-")), None)
    if name is not None and name not in COMMANDS:
        from biasaudio._validation import did_you_mean

        known = ", ".join(COMMANDS)
        raise ParameterError(
            f"unknown command {name!r}; choose one of {known}{did_you_mean(name, COMMANDS)}"
        )


def _run(args: Any) -> int:
    """Run the command, then show our own warnings, each once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BiasAudioWarning)
        code: int = args.run(args)
    note_warnings(args, list(dict.fromkeys(str(one.message) for one in caught)))
    return code


def _fail(error: Exception, *, as_json: bool, debug: bool) -> int:
    """Report the error in one line, and return its exit code."""
    if debug:
        say("".join(traceback.format_exception(error)).rstrip(), sys.stderr)
    message = " ".join(str(error).split())
    if isinstance(error, OSError) and not isinstance(error, BiasAudioError):
        message = (
            f"{error.filename}: {error.strerror}; check the path, its permissions and the disk"
        )
    for python, shell in _IN_SHELL:
        message = message.replace(python, shell)
    if as_json:
        print(json.dumps({"error": {"type": type(error).__name__, "message": message}}))
    else:
        say(f"biasaudio: {message}", sys.stderr)
    return USAGE if isinstance(error, ParameterError) else FAILURE
