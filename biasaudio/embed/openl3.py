"""OpenL3, by one of the two packages that people run it with."""

from __future__ import annotations

from importlib.util import find_spec
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from biasaudio._validation import check_choice, check_name, check_number
from biasaudio.embed._openl3_graph import RATE, OpenL3Graph
from biasaudio.embed._windows import cut_windows, join_frames, run_windows
from biasaudio.embed.base import Frames, Identity, check_waveform
from biasaudio.errors import DataError, ParameterError

__all__ = ["OpenL3"]

_INPUTS = ("linear", "mel128", "mel256")
_CONTENTS = ("music", "env")
_SIZES = (512, 6144)


class OpenL3:
    """Embed audio by OpenL3: a vector for each second, ten times a second.

    Parameters
    ----------
    weights : str or path-like, optional
        A ``.h5`` file of the package ``openl3``, or a ``.pth.tar`` file of
        ``torchopenl3``; the file decides which package is used.  By default
        those that ``openl3`` was installed with.  Nothing is ever downloaded.
    input_repr : str
        ``"linear"``, ``"mel128"`` or ``"mel256"``: the spectrogram that the
        weights were trained on.
    content_type : str
        ``"music"`` or ``"env"``: which of the weights of ``openl3`` are taken
        where none are given.
    embedding_size : int
        512 or 6144.
    hop_size : float
        Seconds from one frame to the next.
    center : bool
        Whether the first frame is centred at the start of the clip, which is
        padded with half a second of zeros, or begins there.
    name : str
        What the embedding is called in a store.

    Attributes
    ----------
    sample_rate : int
        48000.
    dims : int
        Width of the vectors.
    hop : int
        Samples from one frame to the next.
    identity : dict
        What decides the numbers.

    Raises
    ------
    DataError
        If the weights are absent or not those of such a network.
    ParameterError
        If a value is not allowed, or the package is not installed.

    Notes
    -----
    The names and defaults of the options are those of the packages, and so are
    the windows, which are handed to the network 32 at a time: the packages
    themselves hold the windows of a whole clip, at a tenth of a second ten
    times the audio.  Weights of PyTorch are read with ``weights_only=True``,
    which runs no code from the file.

    References
    ----------
    Cramer, Wu, Salamon and Bello (2019), "Look, listen, and learn more",
    ICASSP, 10.1109/ICASSP.2019.8682475.
    """

    sample_rate = RATE

    def __init__(
        self,
        weights: str | PathLike[str] | None = None,
        *,
        input_repr: str = "mel256",
        content_type: str = "music",
        embedding_size: int = 6144,
        hop_size: float = 0.1,
        center: bool = True,
        name: str = "openl3",
    ) -> None:
        check_choice(input_repr, "input_repr", _INPUTS)
        check_choice(content_type, "content_type", _CONTENTS)
        if embedding_size not in _SIZES:
            raise ParameterError(
                f"embedding_size={embedding_size!r} is not allowed; give 512 or 6144"
            )
        if not isinstance(center, bool):
            raise ParameterError(f"center={center!r} is not allowed; give True or False")
        self.hop = int(check_number(hop_size, "hop_size", 0.001) * RATE)
        self.dims = int(embedding_size)
        self.name = check_name(name, "name")
        self._center = center
        given = None if weights is None else str(weights)
        self._call = (
            f"{given!r}, {input_repr=}, {content_type=}, {embedding_size=}, "
            f"{hop_size=}, {center=}, {name=}"
        )
        path = _packaged(input_repr, content_type) if weights is None else weights
        self._graph = OpenL3Graph(path, input_repr, self.dims)
        self._input_repr = input_repr
        silence = run_windows(self._graph, np.zeros((1, 1, RATE), dtype=np.float32))
        if silence.shape[-1] != self.dims or not np.isfinite(silence).all():
            raise DataError(
                f"{self._graph.path} gives {silence.shape[-1]} dimensions with "
                f"embedding_size={self.dims}, or NaN; give the weights of OpenL3"
            )

    @property
    def identity(self) -> Identity:
        """Return what decides the numbers."""
        return {
            "kind": "openl3",
            **self._graph.identity,
            "sample_rate": self.sample_rate,
            "hop": self.hop,
            "center": self._center,
            "input_repr": self._input_repr,
            "embedding_size": self.dims,
        }

    def __repr__(self) -> str:
        """Return the call that makes this model."""
        return f"OpenL3({self._call})"

    def embed(self, audio: ArrayLike) -> Frames:
        """Return the vectors of one mono waveform.

        Parameters
        ----------
        audio : array_like [shape=(n_samples,)]
            Floats, full scale is 1, at 48 kHz.

        Returns
        -------
        Frames
            Vectors [shape=(n_frames, dims), dtype=float32] and the centres of
            the frames in milliseconds.

        Raises
        ------
        DataError
            If the waveform is not finite mono floats, or the network fails or
            gives NaN or Inf.
        """
        wave = check_waveform(audio)
        before, length = (RATE // 2, 0) if self._center else (0, RATE)
        # The last samples are heard too, in a window that ends in zeros.
        after = -(before + wave.size - RATE) % self.hop
        windows = cut_windows(np.pad(wave, (before, after)), RATE, self.hop)
        rows = run_windows(self._graph, windows[:, None, :])
        # What is padded in front and half a window cancel.
        return join_frames(rows, length, self.hop, RATE, self._graph.path)


def _packaged(input_repr: str, content_type: str) -> Path:
    """Return where the package openl3 keeps its weights, without loading TensorFlow."""
    found = find_spec("openl3")
    if found is None or found.origin is None:
        names = f"{input_repr}_{content_type}_<size>.pth.tar"
        raise ParameterError(
            "OpenL3 without weights needs the package 'openl3', which has some and is not "
            "installed; run: python -m pip install openl3 (up to Python 3.11), or run: python -m "
            f"pip install torchopenl3 and give its weights, torchopenl3_{names}"
        )
    return Path(found.origin).parent / f"openl3_audio_{input_repr}_{content_type}.h5"
