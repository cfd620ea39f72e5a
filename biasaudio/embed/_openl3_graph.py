"""The network of OpenL3, run by the package that its weights are for."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio.embed._windows import (
    check_unchanged,
    find_weights,
    import_package,
    one_line,
    sha256_of,
)
from biasaudio.embed.base import FOREIGN_ERRORS
from biasaudio.errors import DataError, ParameterError

__all__ = ["RATE", "OpenL3Graph"]

RATE = 48000


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
        """Return the vectors of windows.

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
        try:
            return np.asarray(self._network(values))
        except FOREIGN_ERRORS as error:
            raise DataError(f"OpenL3 fails: {one_line(error)}; leave the clip out") from error

    def _open(self) -> Callable[[NDArray[np.float32]], Any]:
        """Return what turns windows into vectors."""
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
    try:
        network = load(str(path), input_repr, embedding_size, frontend="kapre")
    except FOREIGN_ERRORS as error:
        raise _other_weights(path, input_repr, error) from error
    return lambda windows: network.predict(windows, verbose=0)


def _open_torch(path: Path, input_repr: str, embedding_size: int) -> Callable[[Any], Any]:
    torch = import_package("torch", "torchopenl3")
    models = import_package("torchopenl3.models", "torchopenl3")
    # It does nothing with the content type, but has no default for it.
    options = {"input_repr": input_repr, "embedding_size": embedding_size, "content_type": "music"}
    # Drawing the weights that are replaced at once takes random numbers of the caller.
    with torch.random.fork_rng(devices=[]):
        network = models.PytorchOpenl3(**options)
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except FOREIGN_ERRORS as error:
        raise _other_weights(path, input_repr, error) from error
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
