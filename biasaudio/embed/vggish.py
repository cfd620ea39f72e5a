"""VGGish from the weights that people have: an export, or those of torchvggish."""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasaudio.embed.base import (
    Identity,
    WindowedModel,
    check_hop,
    check_unchanged,
    default_name,
    find_weights,
    guarded,
    import_package,
    one_line,
    sha256_of,
)
from biasaudio.embed.onnx import ONNXGraph
from biasaudio.embed.tflite import TFLiteGraph
from biasaudio.errors import DataError, ParameterError

__all__ = ["VGGish", "log_mel_examples"]

_RATE, _FFT = 16000, 512
_WINDOW, _HOP = 400, 160
_FRAMES, _BANDS, _DIMS = 96, 64, 128
_LOW_HZ, _HIGH_HZ = 125.0, 7500.0
# Samples that 96 overlapping windows need, and samples from one example to the next.
_EXAMPLE, _STEP = (_FRAMES - 1) * _HOP + _WINDOW, _FRAMES * _HOP


def log_mel_examples(windows: ArrayLike) -> NDArray[np.float32]:
    """Compute what VGGish looks at: log-mel spectra of stretches of audio.

    Magnitudes of 25 ms every 10 ms (periodic Hann window, FFT of 512 points)
    are summed by 64 triangles, equally spaced from 125 to 7,500 Hz and linear
    on the mel scale of HTK, and log(sum + 0.01) is taken.

    Parameters
    ----------
    windows : array_like [shape=(n, 15600)]
        Waveforms at 16 kHz.

    Returns
    -------
    np.ndarray [shape=(n, 96, 64), dtype=float32]

    Raises
    ------
    DataError
        If the array has another shape.

    Examples
    --------
    >>> import numpy as np
    >>> silence = log_mel_examples(np.zeros((2, 15600)))
    >>> silence.shape, bool(np.allclose(silence, np.log(0.01)))
    ((2, 96, 64), True)
    """
    array = np.asarray(windows)
    if array.ndim != 2 or array.shape[1] != _EXAMPLE:
        raise DataError(f"windows have shape {array.shape}; give (n, {_EXAMPLE}) samples at 16 kHz")
    pieces = np.lib.stride_tricks.sliding_window_view(array, _WINDOW, axis=-1)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)
    spectrum = np.abs(np.fft.rfft(pieces[:, ::_HOP] * hann, _FFT))
    # As one matrix: a product for each example would wait for the threads of BLAS each time.
    bands = spectrum.reshape(-1, spectrum.shape[-1]) @ _mel_bank()
    return np.log(bands + 0.01).astype(np.float32).reshape(-1, _FRAMES, _BANDS)


@lru_cache(maxsize=1)
def _mel_bank() -> NDArray[np.float64]:
    """Return the weights of the bands [shape=(257, 64)]."""
    # Not librosa's: its triangles are linear in Hz.
    low, high = _mel(np.array([_LOW_HZ, _HIGH_HZ]))
    edges = np.linspace(low, high, _BANDS + 2)
    bins = _mel(np.linspace(0.0, _RATE / 2, _FFT // 2 + 1))[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.asarray(np.maximum(0.0, np.minimum(rising, falling)))


def _mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1127.0 * np.log1p(hertz / 700.0))


class _TorchGraph:
    """The network of torchvggish with weights from a file."""

    shape = (None, 1, _FRAMES, _BANDS)

    def __init__(self, path: str | Path) -> None:
        self.path = find_weights(path)
        self.identity = {"sha256": sha256_of(self.path)}
        self._network: Any = self._open()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_network": None}

    def run(self, values: NDArray[np.float32]) -> NDArray[Any]:
        """Return the vectors of examples."""
        if self._network is None:
            check_unchanged(self.path, self.identity["sha256"])
            self._network = self._open()
        torch = import_package("torch", "torchvggish")
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                return np.asarray(self._network(torch.from_numpy(values)).numpy())
        finally:
            torch.set_num_threads(threads)

    def _open(self) -> Any:
        """Return the network with its weights, on the CPU."""
        package = import_package("torchvggish", "torchvggish")
        torch = import_package("torch", "torchvggish")
        with guarded(self._not_weights), warnings.catch_warnings():
            # torch warns of odd files, which fail below.
            warnings.simplefilter("ignore", UserWarning)
            weights = torch.load(self.path, map_location="cpu", weights_only=True)
            # On no device: drawing weights takes time and random numbers of the caller.
            with torch.device("meta"):
                network = package.VGG(package.make_layers(), False)
            network.load_state_dict(weights, assign=True)
        return network.float().eval()

    def _not_weights(self, error: BaseException) -> DataError:
        return DataError(
            f"{self.path} holds no weights of torchvggish ({one_line(error)}); "
            "give its state dict, such as vggish-10086976.pth"
        )


_GRAPHS: dict[str, Any] = {
    ".onnx": ONNXGraph,
    ".tflite": TFLiteGraph,
    ".pth": _TorchGraph,
    ".pt": _TorchGraph,
}


class VGGish(WindowedModel):
    """Embed audio by VGGish: 128 dimensions, one frame every 0.96 s.

    The vectors are those of the network, before the principal components and
    the 8 bits of the published AudioSet features.  Samples at the end that do
    not fill an example (0.975 s) are left out; a shorter clip is padded with
    zeros.

    Parameters
    ----------
    path : str or path-like
        An export to ONNX (``.onnx``) or TFLite (``.tflite``) that takes log-mel
        examples of shape (n, 96, 64), (n, 1, 96, 64) or (n, 96, 64, 1), or the
        state dict of ``torchvggish`` (``.pth``, ``.pt``), read without running
        anything that is in it.
    hop : int
        Samples from one example to the next.
    tensor : str, optional
        The end of the name of the tensor to take from an export; by default
        its first output.
    name : str
        What the embedding is called in a store.

    Attributes
    ----------
    sample_rate : int
        16000.
    dims : int
        128.
    identity : dict
        What decides the numbers.

    Raises
    ------
    DataError
        If the file is absent or not VGGish.
    ParameterError
        If the file is of another kind, a value is not allowed, or the package
        that reads the file is not installed.

    See Also
    --------
    log_mel_examples : The front-end.

    References
    ----------
    Hershey et al. (2017), CNN Architectures for Large-Scale Audio
    Classification, doi:10.1109/ICASSP.2017.7952132.
    """

    _kind = "vggish"
    sample_rate = _RATE
    dims = _DIMS
    window = _EXAMPLE

    def __init__(
        self,
        path: str | Path,
        *,
        hop: int = _STEP,
        tensor: str | None = None,
        name: str = "vggish",
    ) -> None:
        self._call = f"{str(path)!r}, {hop=}, {tensor=}, {name=}"
        suffix = Path(path).suffix.lower()
        if suffix not in _GRAPHS:
            raise ParameterError(
                f"{path} ends in {suffix!r}; give VGGish as one of {', '.join(_GRAPHS)}"
            )
        if _GRAPHS[suffix] is _TorchGraph and tensor is not None:
            raise ParameterError(
                f"tensor={tensor!r} names a part of an export, not of {path}; leave it out"
            )
        self.hop = self._step = check_hop(hop, _EXAMPLE)
        self.name = default_name(name, Path(path))
        options = {} if tensor is None else {"tensor": tensor}
        self._graph = _GRAPHS[suffix](path, **options)
        each = (_FRAMES, _BANDS)
        if self._graph.shape[1:] not in (each, (1, *each), (*each, 1)) or (
            self._graph.shape[0] not in (None, 1)
        ):
            raise DataError(
                f"{path} takes input of shape {self._graph.shape}, not log-mel examples of shape "
                "(n, 96, 64), (n, 1, 96, 64) or (n, 96, 64, 1)"
            )
        found = self._rows(np.zeros(_EXAMPLE, dtype=np.float32)).shape[1:]
        if found != (1, _DIMS):
            raise DataError(
                f"{path} gives {found[0]} vectors of {found[1]} dimensions an example, and VGGish "
                "one of 128; name another of its tensors (tensor=...)"
            )

    def _options(self) -> Identity:
        return {**self._graph.identity, "sample_rate": self.sample_rate, "step": self.hop}

    def _inputs(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        return log_mel_examples(windows)
