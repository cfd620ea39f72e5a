"""What an embedding model is: audio in, one vector a stretch of time out.

The shape follows the HEAR benchmark (Turian et al. 2022): a model has a sample
rate and a width, and turns a waveform into vectors with timestamps.
"""

from __future__ import annotations

import pickle
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasaudio.errors import DataError

__all__ = ["FOREIGN_ERRORS", "AudioModel", "Frames", "Identity", "check_waveform"]

Identity = dict[str, str | int | float | bool | None]

# What the code of others raises for weights and for audio that it cannot take; torch
# refuses pickled code by this error of pickle, of which nothing else is used.
FOREIGN_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)


class Frames(NamedTuple):
    """The vectors of one clip.

    Attributes
    ----------
    vectors : np.ndarray [shape=(n_frames, d), dtype=float32]
        One row a frame, at least one.
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
        Samples a second of the waveforms that it takes.
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
        """Return what the embedding is called in a store."""

    @property
    def sample_rate(self) -> int:
        """Return the samples a second that it takes."""

    @property
    def dims(self) -> int:
        """Return the width of its vectors."""

    @property
    def hop(self) -> int | None:
        """Return the samples from one frame to the next, if regular."""

    @property
    def identity(self) -> Identity:
        """Return what decides the numbers."""

    def embed(self, audio: ArrayLike) -> Frames:
        """Return the vectors of one mono waveform.

        Parameters
        ----------
        audio : array_like [shape=(n_samples,)]
            Floats, full scale is 1, at `sample_rate`.

        Returns
        -------
        Frames
        """


def check_waveform(waveform: ArrayLike, name: str = "the waveform") -> NDArray[np.float32]:
    """Return a waveform as finite mono float32.

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
