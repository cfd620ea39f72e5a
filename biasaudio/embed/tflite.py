"""Any exported TFLite model that takes a waveform, and YAMNet."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio.embed.base import (
    WindowedModel,
    check_hop,
    check_rate,
    check_unchanged,
    default_name,
    find_tensor,
    find_weights,
    find_window,
    import_package,
    one_line,
    run_windows,
    sha256_of,
)
from biasaudio.errors import DataError, ParameterError

__all__ = ["TFLiteGraph", "TFLiteModel", "YAMNet"]

_MAGIC = b"TFL3"


class TFLiteGraph:
    """A TFLite file with one input of floats, and the tensor read from it.

    The interpreter does not travel when the graph is pickled: the first `run`
    in another process makes its own.  It gets the bytes of the file and no
    path, so that nothing but the named file is ever read.

    Parameters
    ----------
    path : str or path-like
        The file.
    tensor : str, optional
        The end of a tensor's name; by default the first output is read.

    Attributes
    ----------
    path : Path
        The file.
    identity : dict of str to str
        ``sha256`` of the file and the whole name of the ``tensor``.
    shape : tuple of int or None
        Of the input; None at its end if any length goes.

    Raises
    ------
    DataError
        If the file is absent, no TFLite file, or has another input.
    ParameterError
        If ``ai-edge-litert`` is not installed, or no tensor is called so.
    """

    def __init__(self, path: str | Path, tensor: str | None = None) -> None:
        self.path = find_weights(path)
        self.identity = {"sha256": sha256_of(self.path)}
        self._keeps_all = tensor is not None
        self._interpreter: Any = self._open()
        inputs = self._interpreter.get_input_details()
        outputs = self._interpreter.get_output_details()
        if len(inputs) != 1 or inputs[0]["dtype"] is not np.float32 or not outputs:
            kinds = ", ".join(each["dtype"].__name__ for each in inputs)
            raise DataError(
                f"{self.path.name} has {len(inputs)} inputs ({kinds}) and {len(outputs)} outputs; "
                "give a model with one float32 input"
            )
        self.shape: tuple[int | None, ...] = tuple(int(axis) for axis in inputs[0]["shape"])
        if -1 in inputs[0]["shape_signature"][-1:]:
            self.shape = (*self.shape[:-1], None)
        self._input = inputs[0]["index"]
        read = outputs[0] if tensor is None else self._named(tensor)
        self._output = read["index"]
        self.identity["tensor"] = str(read["name"])

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the interpreter, which belongs to a process."""
        return {**self.__dict__, "_interpreter": None}

    def run(self, values: NDArray[np.float32]) -> NDArray[Any]:
        """Return the tensor for one input of this `shape`."""
        if self._interpreter is None:
            check_unchanged(self.path, self.identity["sha256"])
            self._interpreter = self._open()
        try:
            self._interpreter.set_tensor(self._input, values)
            self._interpreter.invoke()
            return np.asarray(self._interpreter.get_tensor(self._output))
        except (RuntimeError, ValueError) as error:
            raise DataError(f"{self.path.name} fails: {one_line(error)}") from error

    def _open(self) -> Any:
        """Return an interpreter of the file, ready to run."""
        litert = import_package("ai_edge_litert.interpreter", '"biasaudio[embed]"')
        content = self.path.read_bytes()
        if content[4:8] != _MAGIC:
            raise DataError(f"{self.path} is not a TFLite file; give an exported .tflite model")
        with warnings.catch_warnings():
            # That keeping all tensors takes memory: it is what was asked for.
            warnings.simplefilter("ignore", UserWarning)
            try:
                interpreter = litert.Interpreter(
                    model_content=content,
                    num_threads=1,
                    experimental_preserve_all_tensors=self._keeps_all,
                )
                interpreter.allocate_tensors()
            except (RuntimeError, ValueError) as error:
                raise DataError(
                    f"{self.path} cannot be opened as a TFLite model ({one_line(error)}); "
                    "export it again"
                ) from error
        return interpreter

    def _named(self, tensor: str) -> dict[str, Any]:
        """Return the details of the tensor whose name ends so."""
        details = self._interpreter.get_tensor_details()
        # Scratch space has no name, and reading it can end the process.
        floats = [each for each in details if each["name"] and each["dtype"] is np.float32]
        names = [each["name"] for each in floats]
        return dict(floats[find_tensor(tensor, names, self.path)])


class TFLiteModel(WindowedModel):
    """Embed audio by an exported TFLite model that takes a waveform.

    The input of the model is a window of floats, [shape=(window,)] or
    [shape=(1, window)].  Windows are cut every ``hop`` samples.  Samples at the
    end that do not fill a window are left out; a clip shorter than one window
    is padded with zeros.  One thread is used.

    Parameters
    ----------
    path : str or path-like
        The ``.tflite`` file.
    sample_rate : int
        Samples a second that the model was made for.  The file does not say
        it, and a wrong one gives wrong vectors without an error.
    hop : int, optional
        Samples from one window to the next; by default the window.
    tensor : str, optional
        The end of the name of the tensor to take, which may be any inside the
        model; by default its first output.
    name : str, optional
        What the embedding is called in a store; by default the name of the
        file.

    Attributes
    ----------
    window : int
        Samples of a window.
    dims : int
        Width of the vectors.
    hop : int or None
        Samples between frames; None if a window gives several.
    identity : dict
        What decides the numbers.

    Raises
    ------
    DataError
        If the file is absent, no TFLite file, or takes no waveform.
    ParameterError
        If a value is not allowed, no tensor is called so, or the package
        ``ai-edge-litert`` is not installed.

    Notes
    -----
    Models with 8-bit weights give other numbers with other kernels: YAMNet's
    clip vectors move by about 2 % of their length.  What is to be compared
    should be embedded on one kind of machine with one version of
    ``ai-edge-litert``.
    """

    _kind = "tflite"

    def __init__(
        self,
        path: str | Path,
        *,
        sample_rate: int | None = None,
        hop: int | None = None,
        tensor: str | None = None,
        name: str | None = None,
    ) -> None:
        if sample_rate is None:
            raise ParameterError(
                "a TFLite file does not say its sample rate; give it, for example sample_rate=16000"
            )
        self.sample_rate = check_rate(sample_rate)
        self._call = f"{str(path)!r}, {sample_rate=}, {hop=}, {tensor=}, {name=}"
        self._graph = TFLiteGraph(path, tensor)
        self.name = default_name(name, self._graph.path)
        window = find_window(self._graph.shape, self.sample_rate, self._graph.path)
        if window is None:
            raise DataError(f"the input of {path} has no fixed length; export it with one")
        self.window = window
        self._step = check_hop(hop, self.window)
        probe = np.zeros((2, self.window), dtype=np.float32)
        probe[1, ::2] = 0.5
        rows = run_windows(self._graph, probe)
        if np.array_equal(rows[0], rows[1]):
            raise DataError(
                f"tensor {self._graph.identity['tensor']!r} of {path} is the same for silence and "
                "for a tone: it is a weight, or the file is damaged; name another (tensor=...)"
            )
        _, per_window, self.dims = rows.shape
        self.hop = self._step if per_window == 1 else None


class YAMNet(TFLiteModel):
    """Embed audio by YAMNet: 1,024 dimensions, two frames a second.

    Windows of 0.975 s (15,600 samples at 16 kHz) are cut every 0.48 s, and the
    average over time and frequency before the last layer is taken.

    Parameters
    ----------
    path : str or path-like
        ``yamnet.tflite``, the variant with 15,600 samples as input.

    Raises
    ------
    DataError
        If the file is absent or not YAMNet.
    ParameterError
        If the package ``ai-edge-litert`` is not installed.

    References
    ----------
    Plakal and Ellis (2020), YAMNet, github.com/tensorflow/models.
    """

    def __init__(self, path: str | Path) -> None:
        # The package is asked for first, so that its absence is not taken for a wrong file.
        import_package("ai_edge_litert.interpreter", '"biasaudio[embed]"')
        tail = "global_average_pooling2d/Mean"
        try:
            super().__init__(path, sample_rate=16000, hop=7680, tensor=tail, name="yamnet")
        except ParameterError as error:
            raise DataError(f"{path} is not YAMNet: {error}") from error
        if (self.window, self.dims) != (15600, 1024):
            raise DataError(
                f"{path} takes {self.window} samples and gives {self.dims} dimensions; "
                "give yamnet.tflite with 15600 samples in and 1024 dimensions inside"
            )
        self._call = repr(str(path))
