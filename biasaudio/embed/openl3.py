"""OpenL3, by one of the two packages that people run it with."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio._validation import check_choice, check_name, check_number
from biasaudio.embed.base import (
    Frames,
    Identity,
    WindowedModel,
    check_unchanged,
    find_weights,
    guarded,
    import_package,
    join_frames,
    one_line,
    sha256_of,
)
from biasaudio.errors import DataError, ParameterError

__all__ = ["OpenL3", "OpenL3Graph"]

RATE = 48000
_INPUTS = ("linear", "mel128", "mel256")
_CONTENTS = ("music", "env")
_SIZES = (512, 6144)
_MAX_HOP = 600


class OpenL3(WindowedModel):
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

    _kind = "openl3"
    sample_rate = RATE
    window = RATE

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
        self.hop = self._step = int(check_number(hop_size, "hop_size", 0.001, _MAX_HOP) * RATE)
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
        silence = self._rows(np.zeros(RATE, dtype=np.float32))
        if silence.shape[-1] != self.dims or not np.isfinite(silence).all():
            raise DataError(
                f"{self._graph.path} gives {silence.shape[-1]} dimensions with "
                f"embedding_size={self.dims}, or NaN; give the weights of OpenL3"
            )

    def _options(self) -> Identity:
        return {
            **self._graph.identity,
            "sample_rate": self.sample_rate,
            "hop": self.hop,
            "center": self._center,
            "input_repr": self._input_repr,
            "embedding_size": self.dims,
        }

    def _embed(self, wave: NDArray[np.float32]) -> Frames:
        before, length = (RATE // 2, 0) if self._center else (0, RATE)
        hop = self._step or RATE
        # The last samples are heard too, in a window that ends in zeros.
        after = -(before + wave.size - RATE) % hop
        rows = self._rows(np.pad(wave, (before, after)))
        # What is padded in front and half a window cancel.
        return join_frames(rows, length, hop, RATE, self._graph.path)

    def _inputs(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        return windows[:, None, :]


def _packaged(input_repr: str, content_type: str) -> Path:
    """Weights of the package openl3, found without loading TensorFlow."""
    found = find_spec("openl3")
    if found is None or found.origin is None:
        names = f"{input_repr}_{content_type}_<size>.pth.tar"
        raise ParameterError(
            "OpenL3 without weights needs the package 'openl3', which has some and is not "
            "installed; run: python -m pip install openl3 (up to Python 3.11), or run: python -m "
            f"pip install torchopenl3 and give its weights, torchopenl3_{names}"
        )
    return Path(found.origin).parent / f"openl3_audio_{input_repr}_{content_type}.h5"


class OpenL3Graph:
    """The network of OpenL3: windows of a second in, vectors out.

    The network does not travel when the graph is pickled: the first `run` in
    another process makes its own.

    Parameters
    ----------
    path : str or path-like
        The weights: ``.h5`` are those of the package ``openl3`` (TensorFlow),
        all others those of ``torchopenl3`` (PyTorch).
    input_repr : str
        The spectrogram that the weights were trained on.
    embedding_size : int
        Width of the vectors.

    Attributes
    ----------
    path : Path
        The file.
    shape : tuple
        Of the input.
    identity : dict
        The package that runs the network, and the SHA-256 of the file.

    Raises
    ------
    DataError
        If the file is absent or does not hold such weights.
    ParameterError
        If the package is not installed.
    """

    def __init__(self, path: str | PathLike[str], input_repr: str, embedding_size: int) -> None:
        self.path = find_weights(Path(path))
        self.shape: tuple[int | None, ...] = (None, 1, RATE)
        package = "openl3" if self.path.suffix.lower() in (".h5", ".hdf5") else "torchopenl3"
        self.identity = {"package": package, "sha256": sha256_of(self.path)}
        self._options = (input_repr, embedding_size)
        self._network: Callable[[NDArray[np.float32]], Any] | None = self._open()

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the network, which belongs to a process."""
        return {**self.__dict__, "_network": None}

    def run(self, values: NDArray[np.float32]) -> NDArray[Any]:
        """Run the network on windows.

        Parameters
        ----------
        values : np.ndarray [shape=(n, 1, 48000), dtype=float32]

        Returns
        -------
        np.ndarray [shape=(n, embedding_size)]

        Raises
        ------
        DataError
            If the weights have changed, or the network fails.
        """
        if self._network is None:
            check_unchanged(self.path, self.identity["sha256"])
            self._network = self._open()
        with guarded(lambda e: DataError(f"OpenL3 fails: {one_line(e)}; leave the clip out")):
            return np.asarray(self._network(values))

    def _open(self) -> Callable[[NDArray[np.float32]], Any]:
        """Open what turns windows into vectors."""
        opened = _open_keras if self.identity["package"] == "openl3" else _open_torch
        # Both packages warn of how they build their own spectrograms.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return opened(self.path, *self._options)


def _open_keras(path: Path, input_repr: str, embedding_size: int) -> Callable[[Any], Any]:
    models = import_package("openl3.models", '"openl3>=0.4.2"')
    try:
        load = models.load_audio_embedding_model_from_path
    except AttributeError as error:
        raise ParameterError(
            "this openl3 cannot load weights by their path; run: python -m pip install -U "
            '"openl3>=0.4.2"'
        ) from error
    with guarded(lambda error: _other_weights(path, input_repr, error)):
        network = load(str(path), input_repr, embedding_size, frontend="kapre")
    return lambda windows: network.predict(windows, verbose=0)


def _open_torch(path: Path, input_repr: str, embedding_size: int) -> Callable[[Any], Any]:
    torch = import_package("torch", "torchopenl3")
    models = import_package("torchopenl3.models", "torchopenl3")
    # It does nothing with the content type, but has no default for it.
    options = {"input_repr": input_repr, "embedding_size": embedding_size, "content_type": "music"}
    # Drawing the weights that are replaced at once takes random numbers of the caller.
    with torch.random.fork_rng(devices=[]):
        network = models.PytorchOpenl3(**options)
    with guarded(lambda error: _other_weights(path, input_repr, error)):
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    network.eval()

    def run(windows: NDArray[np.float32]) -> Any:
        # One thread: the sums differ with their number, and processes share the cores.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode():
                # A copy: the windows are a view that torch may not write to, of which it warns.
                return network(torch.tensor(windows)).numpy()
        finally:
            torch.set_num_threads(threads)

    return run


def _other_weights(path: Path, input_repr: str, error: BaseException) -> DataError:
    # What torch says of it is to read the file in a way that may run code from it.
    is_alien = isinstance(error, pickle.UnpicklingError)
    reason = "it holds more or less than tensors" if is_alien else one_line(error)
    return DataError(
        f"{path} does not hold weights of OpenL3 for input_repr={input_repr!r} "
        f"({reason}); give a file of openl3 or torchopenl3, or another input_repr"
    )
