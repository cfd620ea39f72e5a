"""What the models that run a graph share: windows in, frames out, and the words for errors."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from biasaudio._files import fingerprint_file
from biasaudio._validation import check_count, check_name, did_you_mean, name_some
from biasaudio.embed.base import Frames
from biasaudio.errors import DataError, ParameterError, StoreError

__all__ = [
    "MIN_RATE",
    "Graph",
    "as_rows",
    "check_hop",
    "check_unchanged",
    "cut_windows",
    "default_name",
    "find_tensor",
    "find_weights",
    "find_window",
    "import_package",
    "join_frames",
    "one_line",
    "run_windows",
    "sha256_of",
]

MIN_RATE = 1000
_BATCH = 32
_MAX_SECONDS = 600


class Graph(Protocol):
    """A file of weights that turns one array into another.

    `shape` is that of its input; the first axis is None where it takes any
    number of windows at once.  `identity` says which weights and which output.
    """

    path: Path
    shape: tuple[int | None, ...]
    identity: dict[str, str]

    def run(self, values: NDArray[np.float32]) -> NDArray[Any]:
        """Return the output for one input."""


def import_package(module: str, install: str) -> Any:
    """Return a module of a package that not everybody needs, or say how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ParameterError(
            f"this model needs the package {module.split('.')[0]!r}, which cannot be imported "
            f"({one_line(error)}); run: python -m pip install {install}"
        ) from error


def one_line(error: BaseException) -> str:
    """Return the text of an error as one line of bounded length that can be printed."""
    text = " ".join(str(error).split()) or type(error).__name__
    # It may repeat names out of a stranger's file.
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= 200 else f"{text[:200]}..."


def find_weights(path: str | Path) -> Path:
    """Return the whole path of a file of weights that is there."""
    if not Path(path).is_file():
        raise DataError(f"{path} is not a file; give the path of the model's weights")
    # Another process may have another working folder.
    return Path(path).absolute()


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file."""
    try:
        return str(fingerprint_file(path)["sha256"])
    except StoreError as error:
        raise DataError(str(error)) from error


def check_unchanged(path: Path, sha256: str) -> None:
    """Refuse a file that is not what it was when the model was made."""
    if sha256_of(path) != sha256:
        raise DataError(f"{path} has changed since the model was made; make the model again")


def default_name(name: str | None, path: Path) -> str:
    """Return what an embedding is called: the name of the file where nothing is given."""
    return check_name(path.stem if name is None else name, "name")


def find_tensor(wanted: str, names: Sequence[str], path: Path) -> int:
    """Return which of ``names`` is ``wanted`` or, alone among them, ends in it."""
    wanted = str(wanted)
    exact = [at for at, name in enumerate(names) if name == wanted]
    found = exact or [at for at, name in enumerate(names) if wanted and name.endswith(wanted)]
    if len(found) == 1:
        return found[0]
    if found:
        some = name_some(names[at].split(";")[-1] for at in found)
        raise ParameterError(
            f"tensor={wanted!r} ends {len(found)} names in {path.name}: {some}; give more of it"
        )
    # Names are paths: the hint compares as many parts as were given.
    parts = wanted.count("/") + 1
    tails = sorted({"/".join(name.split(";")[-1].split("/")[-parts:]) for name in names})
    hint = did_you_mean(wanted, tails) or f"; it has {name_some(tails)}"
    raise ParameterError(f"tensor={wanted!r} is not the end of a name in {path.name}{hint}")


def find_window(shape: Sequence[int | None], sample_rate: int, path: Path) -> int | None:
    """Return the samples of a window, or None for any, of an input that is a waveform."""
    *lead, window = shape or (0,)
    fits = window is None or 2 <= window <= _MAX_SECONDS * sample_rate
    if lead not in ([], [1], [None]) or not fits:
        raise DataError(
            f"{path.name} takes input of shape {tuple(shape)}, not a waveform of shape (window,), "
            f"(1, window) or (batch, window) of at most {_MAX_SECONDS} s; export the model with "
            "its front-end"
        )
    return window


def check_hop(hop: int | None, window: int) -> int:
    """Return the samples from one window to the next."""
    return window if hop is None else check_count(hop, "hop", 1)


def cut_windows(wave: NDArray[np.float32], window: int, hop: int) -> NDArray[np.float32]:
    """Return the whole windows of a waveform [shape=(n_windows, window)].

    What is left at the end and does not fill a window is left out; a waveform
    shorter than one window is padded with zeros.
    """
    if wave.size < window:
        wave = np.pad(wave, (0, window - wave.size))
    return np.lib.stride_tricks.sliding_window_view(wave, window)[::hop]


def run_windows(graph: Graph, windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the outputs for windows [shape=(n_windows, n_rows, d)].

    Parameters
    ----------
    graph : Graph
    windows : np.ndarray [shape=(n_windows, ...)]

    Returns
    -------
    np.ndarray [shape=(n_windows, n_rows, d), dtype=float32]

    Raises
    ------
    DataError
        If the graph does not give one or more vectors a window.
    """
    size = _BATCH if graph.shape[0] is None else 1
    rows = []
    for at in range(0, len(windows), size):
        part = windows[at : at + size]
        shape = [len(part) if axis is None else axis for axis in graph.shape]
        rows.append(as_rows(graph.run(part.reshape(shape)), len(part), graph.path))
    return np.concatenate(rows)


def as_rows(output: NDArray[Any], n: int, path: Path) -> NDArray[np.float32]:
    """Return the output for n windows as [shape=(n, n_rows, d), dtype=float32]."""
    shape = output.shape
    lowest = 1 if n == 1 else 2
    leads = shape[:1] == (n,) or (n == 1 and output.ndim < 3)
    if not (lowest <= output.ndim <= 3 and leads and output.size and output.dtype.kind == "f"):
        raise DataError(
            f"{path.name} gives {output.dtype} of shape {shape} for {n} window(s), not one or "
            "more vectors of floats each; name another of its tensors (tensor=...)"
        )
    return output.reshape(n, -1, shape[-1]).astype(np.float32, copy=False)


def join_frames(
    rows: NDArray[np.float32], window: int, hop: int, sample_rate: int, path: Path
) -> Frames:
    """Return the rows of windows as frames, each with its centre in milliseconds.

    Several rows of a window share its length evenly.
    """
    n, each, dims = rows.shape
    inside = (np.arange(each) + 0.5) * window / each
    centres = (np.arange(n)[:, None] * hop + inside).ravel() * 1000.0 / sample_rate
    vectors = rows.reshape(-1, dims)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        raise DataError(
            f"{path.name} gives NaN or Inf in {bad.size} of {len(vectors)} frames, first at "
            f"{centres[bad[0]] / 1000:.2f} s; leave the clip out"
        )
    return Frames(vectors, centres)
