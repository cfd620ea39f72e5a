"""What an embedding model is, and what models that run a graph have in common.

The shape follows the HEAR benchmark (Turian et al. 2022): a model has a sample
rate and a width, and turns a waveform into vectors with timestamps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasaudio._files import fingerprint_file
from biasaudio._validation import check_count, check_name, did_you_mean, name_some
from biasaudio.errors import BiasAudioError, DataError, ParameterError, StoreError

__all__ = [
    "RATES",
    "AudioModel",
    "BaseModel",
    "Frames",
    "Graph",
    "Identity",
    "WindowedModel",
    "as_rows",
    "check_hop",
    "check_rate",
    "check_unchanged",
    "check_waveform",
    "cut_windows",
    "default_name",
    "find_tensor",
    "find_weights",
    "find_window",
    "guarded",
    "import_package",
    "join_frames",
    "one_line",
    "run_windows",
    "sha256_of",
    "text_of",
]

Identity = dict[str, str | int | float | bool | None]

# Samples per second that audio files and models may have.
RATES = (1000, 384_000)
MAX_WINDOW = 600
# Windows that a graph gets at once, and windows that are prepared for it at once: 64
# log-mel examples of VGGish need 40 MB on the way.
BATCH, BLOCK = 32, 64


class Frames(NamedTuple):
    """The vectors of one clip.

    Attributes
    ----------
    vectors : np.ndarray [shape=(n_frames, d), dtype=float32]
        One row per frame, at least one.
    timestamps : np.ndarray [shape=(n_frames,)]
        Centres of the frames in milliseconds.
    """

    vectors: NDArray[np.float32]
    timestamps: NDArray[np.float64]


@runtime_checkable
class AudioModel(Protocol):
    """What a model needs for a store to be filled with its vectors.

    It can be pickled, and what belongs to a process (an interpreter, a network)
    is made again in the one that uses it.

    Attributes
    ----------
    name : str
        What the embedding is called in a store.
    sample_rate : int
        Samples per second of the waveforms that it takes.
    dims : int
        Width of its vectors.
    hop : int or None
        Samples from one frame to the next; None if that is not regular.
    identity : dict
        What decides the numbers: the kind of model, the SHA-256 of its
        weights, the sample rate, the options.  Names and numbers only, so that
        it can be written as JSON; no paths and no times.
    """

    @property
    def name(self) -> str:
        """What the embedding is called in a store."""

    @property
    def sample_rate(self) -> int:
        """Samples per second that it takes."""

    @property
    def dims(self) -> int:
        """Width of its vectors."""

    @property
    def hop(self) -> int | None:
        """Samples from one frame to the next, if regular."""

    @property
    def identity(self) -> Identity:
        """What decides the numbers."""

    def embed(self, audio: ArrayLike) -> Frames:
        """Embed one mono waveform.

        Parameters
        ----------
        audio : array_like [shape=(n_samples,)]
            Floats, full scale is 1, at `sample_rate`.

        Returns
        -------
        Frames
        """


class BaseModel(ABC):
    """The face of a model: its identity, its call, and `embed` with its checks.

    A subclass sets the attributes of `AudioModel`, ``_kind`` and ``_call``, and
    writes ``_embed`` and ``_options``.
    """

    name: str
    sample_rate: int
    dims: int
    hop: int | None
    _kind: str
    _call: str

    @property
    def identity(self) -> Identity:
        """What decides the numbers."""
        return {"kind": self._kind, **self._options()}

    def __repr__(self) -> str:
        """Call that makes this model."""
        return f"{type(self).__name__}({self._call})"

    def embed(self, audio: ArrayLike) -> Frames:
        """Embed one mono waveform.

        Parameters
        ----------
        audio : array_like [shape=(n_samples,)]
            Floats, full scale is 1, at `sample_rate`.

        Returns
        -------
        Frames
            Vectors [shape=(n_frames, dims), dtype=float32] and the centres of
            the frames in milliseconds.

        Raises
        ------
        DataError
            If the waveform is not finite mono floats, or the model fails, or
            what it gives has another shape, NaN or Inf.
        """
        return self._embed(check_waveform(audio))

    @abstractmethod
    def _embed(self, wave: NDArray[np.float32]) -> Frames:
        """Vectors of a waveform that was checked."""

    @abstractmethod
    def _options(self) -> Identity:
        """Identity but for the kind of model."""


class Graph(Protocol):
    """A file of weights that turns one array into another.

    `shape` is that of its input; the first axis is None where it takes any
    number of windows at once.  `identity` says which weights and which output.
    """

    path: Path
    shape: tuple[int | None, ...]
    identity: dict[str, str]

    def run(self, values: NDArray[np.float32]) -> NDArray[Any]:
        """Output for one input."""


class WindowedModel(BaseModel):
    """A model that runs a graph on windows of a waveform.

    Windows of ``window`` samples begin every ``_step`` samples.  Samples at the
    end that do not fill a window are left out; a shorter clip is padded with
    zeros.
    """

    window: int | None
    _step: int | None
    _graph: Graph

    def _options(self) -> Identity:
        window = {"window": self.window, "step": self._step}
        return {**self._graph.identity, "sample_rate": self.sample_rate, **window}

    def _embed(self, wave: NDArray[np.float32]) -> Frames:
        rows = self._rows(wave)
        if rows.shape[2] != self.dims:
            raise DataError(
                f"{self._graph.path.name} gives {rows.shape[2]} dimensions for {wave.size} samples "
                f"and {self.dims} for others; name another of its outputs (tensor=...)"
            )
        window = self.window or wave.size
        return join_frames(rows, window, self._step or window, self.sample_rate, self._graph.path)

    def _rows(self, wave: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the graph on a waveform [shape=(n_windows, n_rows, d)]."""
        if self.window is None or self._step is None:
            whole = wave.reshape((1, -1) if len(self._graph.shape) == 2 else -1)
            return as_rows(self._graph.run(whole), 1, self._graph.path)
        windows = cut_windows(wave, self.window, self._step)
        blocks = (windows[at : at + BLOCK] for at in range(0, len(windows), BLOCK))
        return np.concatenate([run_windows(self._graph, self._inputs(each)) for each in blocks])

    def _inputs(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Input of the graph for windows of audio [shape=(n, window)]."""
        return windows


@contextmanager
def guarded(describe: Callable[[BaseException], BiasAudioError]) -> Iterator[None]:
    """Turn whatever the code of others raises into an error of ours.

    Also `SystemExit`, and panics of Rust, which are no `Exception`: one clip that a
    model cannot take is no reason to lose all others.  Only the user's own
    interruption and our own errors pass.

    Parameters
    ----------
    describe : callable
        Makes our error of what was raised.
    """
    try:
        yield
    except (KeyboardInterrupt, GeneratorExit, BiasAudioError):
        raise
    except BaseException as error:
        raise describe(error) from error


def check_waveform(waveform: ArrayLike, name: str = "the waveform") -> NDArray[np.float32]:
    """Check a waveform, and make it float32.

    Parameters
    ----------
    waveform : array_like [shape=(n_samples,)]
        Floats, full scale is 1.
    name : str
        What it is called in the message.

    Returns
    -------
    np.ndarray [shape=(n_samples,), dtype=float32]

    Raises
    ------
    DataError
        If it is not 1-d, empty, not of floats, or has NaN or Inf.
    """
    array: NDArray[Any] = np.asarray(waveform)
    if array.ndim != 1:
        raise DataError(f"{name} has shape {array.shape}; give mono audio of shape (n_samples,)")
    if array.dtype.kind != "f":
        raise DataError(
            f"{name} has dtype {array.dtype}; give floats from -1 to 1 (divide int16 by 32768)"
        )
    if array.size == 0:
        raise DataError(f"{name} has no samples; leave it out")
    array = array.astype(np.float32, copy=False)
    bad = int(np.count_nonzero(~np.isfinite(array)))
    if bad:
        raise DataError(f"{name} has NaN or Inf in {bad} of {array.size} samples; leave it out")
    return array


def import_package(module: str, install: str) -> Any:
    """Import a package that not everybody needs, or say how to install it."""
    try:
        return import_module(module)
    except ImportError as error:
        raise ParameterError(
            f"this model needs the package {module.split('.')[0]!r}, which cannot be imported "
            f"({one_line(error)}); run: python -m pip install {install}"
        ) from error


def text_of(error: BaseException) -> str:
    """Text of an error on one line."""
    try:
        return " ".join(str(error).split()) or type(error).__name__
    except Exception:
        # An exception of others need not even be able to say what it is.
        return type(error).__name__


def one_line(error: BaseException) -> str:
    """Text of an error as one line of bounded length that can be printed."""
    # It may repeat names out of a stranger's file.
    text = "".join(letter if letter.isprintable() else "?" for letter in text_of(error))
    return text if len(text) <= 200 else f"{text[:200]}..."


def find_weights(path: str | Path) -> Path:
    """Whole path of a file of weights that is there."""
    if not Path(path).is_file():
        raise DataError(f"{path} is not a file; give the path of the model's weights")
    # Another process may have another working folder.
    return Path(path).absolute()


def sha256_of(path: Path) -> str:
    """Hash a file."""
    try:
        return str(fingerprint_file(path)["sha256"])
    except StoreError as error:
        raise DataError(str(error)) from error


def check_unchanged(path: Path, sha256: str) -> None:
    """Refuse a file that is not what it was when the model was made."""
    if sha256_of(path) != sha256:
        raise DataError(f"{path} has changed since the model was made; make the model again")


def default_name(name: str | None, path: Path) -> str:
    """Name of an embedding: that of the file where nothing is given."""
    return check_name(path.stem if name is None else name, "name")


def find_tensor(wanted: str, names: Sequence[str], path: Path) -> int:
    """Find the name that is ``wanted`` or, alone among all, ends in it."""
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
    """Find the samples of a window, None for any, of an input that is a waveform."""
    *lead, window = shape or (0,)
    fits = window is None or 2 <= window <= MAX_WINDOW * sample_rate
    if lead not in ([], [1], [None]) or not fits:
        raise DataError(
            f"{path.name} takes input of shape {tuple(shape)}, not a waveform of shape (window,), "
            f"(1, window) or (batch, window) of at most {MAX_WINDOW} s; export the model with "
            "its front-end"
        )
    return window


def check_rate(sample_rate: Any) -> int:
    """Check the samples per second of a model."""
    rate = check_count(sample_rate, "sample_rate", RATES[0])
    if rate > RATES[1]:
        raise ParameterError(f"sample_rate={rate} is not allowed; give at most {RATES[1]}")
    return rate


def check_hop(hop: int | None, window: int) -> int:
    """Check the samples from one window to the next; by default the window."""
    step = window if hop is None else check_count(hop, "hop", 1)
    # A longer one would leave out nearly all audio, and numbers beyond 64 bits end in numpy.
    if step > MAX_WINDOW * RATES[1]:
        raise ParameterError(
            f"hop={hop!r} is not allowed; give at most {MAX_WINDOW * RATES[1]} samples"
        )
    return step


def cut_windows(wave: NDArray[np.float32], window: int, hop: int) -> NDArray[np.float32]:
    """Cut the whole windows of a waveform [shape=(n_windows, window)].

    What is left at the end and does not fill a window is left out; a waveform
    shorter than one window is padded with zeros.
    """
    if wave.size < window:
        wave = np.pad(wave, (0, window - wave.size))
    return np.lib.stride_tricks.sliding_window_view(wave, window)[::hop]


def run_windows(graph: Graph, windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a graph on windows, as many at once as it takes.

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
        If the graph does not give one or more vectors per window.
    """
    size = BATCH if graph.shape[0] is None else 1
    rows = []
    for at in range(0, len(windows), size):
        part = windows[at : at + size]
        shape = [len(part) if axis is None else axis for axis in graph.shape]
        rows.append(as_rows(graph.run(part.reshape(shape)), len(part), graph.path))
    return np.concatenate(rows)


def as_rows(output: NDArray[Any], n: int, path: Path) -> NDArray[np.float32]:
    """Output for n windows as [shape=(n, n_rows, d), dtype=float32]."""
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
    """Make frames of the rows of windows, each with its centre in milliseconds.

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
