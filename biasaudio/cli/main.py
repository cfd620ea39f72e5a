"""Parse the command line, run the command, turn errors into exit codes."""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import NoReturn

from biasaudio.cli._common import Parser, add_shared_options, note_warnings, say, steady_streams
from biasaudio.errors import BiasAudioError, BiasAudioWarning, ParameterError

__all__ = ["main"]

# Not the docstrings of the modules, which are None under `python -OO`.
COMMANDS = {
    "demo": "Synthesise two biased datasets, audit them and write a report (a minute).",
    "extract": "Embed a folder of audio into a store; run again, it goes on where it stopped.",
    "audit": "Audit the embeddings of a store and write the report.",
    "reproduce": "Repeat the published study (Wang, Richard and McFee, ISMIR 2023).",
    "probe": "Ask how well a probe reads the dataset, or the genre, off the vectors.",
    "correct": "Fit a correction, apply a saved one, or say what is in it.",
    "store": "List, check, merge and export stores, and import vectors into one.",
    "report": "Print the verdict of a saved audit and write its report again.",
}
FAILURE, USAGE, INTERRUPTED, TERMINATED = 1, 2, 130, 143

# Messages name the way out in Python, as in "pass overwrite=True"; at the shell it is an option.
OPTIONS = {
    "columns": "--column",
    "datasets": "--datasets",
    "embedding": "--embedding",
    "embeddings": "--embedding",
    "labels": "--labels",
    "missing": "--allow-partial",
    "n_jobs": "--n-jobs",
    "n_permutations": "--permutations",
    "n_resamples": "--resamples",
    "n_splits": "--splits",
    "overwrite": "--overwrite",
    "random_state": "--seed",
    "split": "--split",
    "strata": "--mix",
    "unknown": "--allow-partial",
    "unseen": "--unseen",
}
# A parameter with its value, which ends where the word ends: "seed=3/x.h5" is a path.
_PARAMETER = re.compile(
    rf"(?<![\w/.'\"-])({'|'.join(OPTIONS)})="
    r"""("[^"]*"|'[^']*'|\[\.\.\.\]|\.\.\.|\{'\w+': \.\.\.\}|[\w.+-]+)(?=[\s,;:)]|$)"""
)


class _Terminated(BaseException):
    """SIGTERM came: not an error of the work, so no ``except Exception`` may keep it."""


def build_parser() -> Parser:
    """Parser of all commands."""
    parser = Parser(
        prog="biasaudio",
        description="Measure dataset and genre bias in audio embeddings, and correct it.",
        epilog="Exit codes: 0 ok, 1 failure, 2 usage, 3 threshold exceeded.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, text in COMMANDS.items():
        module = import_module(f"biasaudio.cli.{name}")
        command = commands.add_parser(name, help=text.rstrip("."), description=text)
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
    with steady_streams() as unprinted, _orderly_end():
        try:
            code = _run(argv)
        except (BiasAudioError, OSError, ArithmeticError, MemoryError, UnicodeError) as error:
            code = _fail(error, as_json=as_json, debug=debug)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            code = INTERRUPTED
        except _Terminated:
            print("terminated", file=sys.stderr)
            code = TERMINATED
        sys.stdout.flush()
        reason = unprinted()
        if reason:
            say(
                f"biasaudio: the outcome could not be printed ({reason}); the work is done, so "
                "what the command writes is there",
                sys.stderr,
            )
            code = code or FAILURE
    return code


def _run(argv: Sequence[str]) -> int:
    """Run the command, then show our own warnings, each once."""
    _check_command(argv)
    parser = build_parser()
    args = parser.parse_args(argv, argparse.Namespace(typed=argv))
    if args.version:
        from biasaudio import __version__

        print(f"biasaudio {__version__}")
        return 0
    if args.command is None:
        parser.print_help()
        return USAGE
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BiasAudioWarning)
        code: int = args.run(args)
    note_warnings(args, list(dict.fromkeys(str(one.message) for one in caught)))
    return code


def _check_command(argv: Sequence[str]) -> None:
    """Refuse an unknown command, and say which is nearest."""
    name = next((text for text in argv if not text.startswith("-")), None)
    if name is not None and name not in COMMANDS:
        from biasaudio._validation import did_you_mean

        known = ", ".join(COMMANDS)
        raise ParameterError(
            f"unknown command {name!r}; choose one of {known}{did_you_mean(name, COMMANDS)}"
        )


@contextmanager
def _orderly_end() -> Iterator[None]:
    """SIGTERM unwinds the stack, so that scratch files go and workers are stopped."""

    def stop(signum: int, frame: FrameType | None) -> NoReturn:
        # A second one ends the process at once, whatever the clean-up waits for.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _fail(error: Exception, *, as_json: bool, debug: bool) -> int:
    """Report the error in one line; its exit code."""
    if debug:
        say("".join(traceback.format_exception(error)).rstrip(), sys.stderr)
    message = in_options(" ".join(_message(error).split()))
    if as_json:
        print(json.dumps({"error": {"type": type(error).__name__, "message": message}}))
    else:
        say(f"biasaudio: {message}", sys.stderr)
    return USAGE if isinstance(error, ParameterError) else FAILURE


def _message(error: Exception) -> str:
    if isinstance(error, BiasAudioError):
        return str(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        reason = error.strerror or str(error)
        return f"{where}{reason}; check the path, its permissions and the disk"
    if isinstance(error, MemoryError):
        return f"not enough memory ({error}); give fewer clips at a time, or fewer --n-jobs"
    if isinstance(error, UnicodeError):
        return f"a text is not valid Unicode ({error}); rename what is called so"
    return f"a number is too large or too small to compute with ({error}); --debug says where"


def in_options(message: str) -> str:
    """Message in which parameters of Python are the options of the command line.

    Parameters
    ----------
    message : str

    Returns
    -------
    str

    Examples
    --------
    >>> in_options("choose another name, or pass overwrite=True to replace it")
    'choose another name, or pass --overwrite to replace it'
    >>> in_options("n_jobs=0 is not allowed; say columns={'clip': ...}")
    '--n-jobs=0 is not allowed; say --column clip=NAME'
    """

    def option(found: re.Match[str]) -> str:
        name, value = OPTIONS[found[1]], found[2]
        if value in ("True", "...", "[...]", '"drop"'):
            return name
        if value[0] == "{":
            return f"{name} {value[2:-7]}=NAME"
        if found[1] == "strata" and value == "None":
            return f"{name} raw"
        return f"{name} {value[1:-1]}" if value[0] in "'\"" else f"{name}={value}"

    return _PARAMETER.sub(option, message).replace("import_arrays", "'biasaudio store import'")
