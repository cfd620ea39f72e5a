"""Any exported ONNX model that takes a waveform."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasaudio._validation import check_count
from biasaudio.embed._onnx_files import external_files
from biasaudio.embed._windows import (
    MIN_RATE,
    as_rows,
    check_hop,
    check_unchanged,
    cut_windows,
    default_name,
    find_tensor,
    find_weights,
    find_window,
    import_package,
    join_frames,
    one_line,
    run_windows,
    sha256_of,
)
from biasaudio.embed.base import Frames, Identity, check_waveform
from biasaudio.errors import DataError, ParameterError

__all__ = ["ONNXGraph", "ONNXModel"]

# The exceptions of onnxruntime have no class in common.
_ERRORS = (
    "EPFail",
    "EngineError",
    "Fail",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "NoModel",
    "NoSuchFile",
    "NotImplemented",
    "RuntimeException",
)


class ONNXGraph:
    """An ONNX file with one input of floats, and the output read from it.

    The session does not travel when the graph is pickled: the first `run` in
    another process makes its own.  Weights in other files are read from the
    folder of the model and from nowhere else.

    Parameters
    ----------
    path : str or path-like
        The file.
    tensor : str, optional
        The end of an output's name; by default the first output is read.

    Attributes
    ----------
    path : Path
        The file.
    identity : dict of str to str
        ``sha256`` of the file and of each file of weights beside it, and the
        name of the ``tensor``.
    shape : tuple of int or None
        Of the input; None where any length goes.
    metadata : dict of str to str
        What the exporter wrote about the model.

    Raises
    ------
    DataError
        If the file is absent, no ONNX file, has another input, or wants weights
        from outside its folder.
    ParameterError
        If ``onnxruntime`` is not installed, or no output is called so.
    """

    def __init__(self, path: str | Path, tensor: str | None = None) -> None:
        self.path = find_weights(path)
        beside = external_files(self.path)
        self._files = {"sha256": self.path}
        self._files |= {f"sha256 of {name}": file for name, file in beside.items()}
        self.identity = {key: sha256_of(file) for key, file in self._files.items()}
        self._session: Any = self._open()
        try:
            self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)
            inputs = [(each.name, each.type, each.shape) for each in self._session.get_inputs()]
            names = [each.name for each in self._session.get_outputs()]
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path} has names that are not text; export it again") from error
        kinds = [kind for _, kind, _ in inputs]
        if kinds != ["tensor(float)"] or not names:
            raise DataError(
                f"{self.path.name} has {len(kinds)} inputs ({', '.join(kinds)}) and {len(names)} "
                "outputs; give a model with one float32 input"
            )
        ((self._input, _, shape),) = inputs
        # An axis of any length has a name or nothing in the place of a number.
        self.shape = tuple(axis if isinstance(axis, int) else None for axis in shape)
        at = 0 if tensor is None else find_tensor(tensor, names, self.path)
        self.identity["tensor"] = names[at]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the session, which belongs to a process."""
        return {**self.__dict__, "_session": None}

    def run(self, values: NDArray[np.float32]) -> NDArray[Any]:
        """Return the output for one input of this `shape`."""
        if self._session is None:
            for key, file in self._files.items():
                check_unchanged(file, self.identity[key])
            self._session = self._open()
        try:
            outputs = self._session.run([self.identity["tensor"]], {self._input: values})
            return np.asarray(outputs[0])
        except _errors() as error:
            raise DataError(
                f"{self.path.name} fails for input of shape {values.shape}: {one_line(error)}"
            ) from error

    def _open(self) -> Any:
        """Return a session of the file that uses one thread."""
        runtime = import_package("onnxruntime", "onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.load_model_format", "ONNX")
        try:
            # The fallback would try the same again and print about it.
            return runtime.InferenceSession(
                str(self.path), options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
        except _errors() as error:
            raise DataError(
                f"{self.path} cannot be opened as an ONNX model ({one_line(error)}); "
                "export it again"
            ) from error


def _errors() -> tuple[type[Exception], ...]:
    """Return what onnxruntime raises."""
    state = import_package("onnxruntime.capi.onnxruntime_pybind11_state", "onnxruntime")
    named = [getattr(state, name) for name in _ERRORS if hasattr(state, name)]
    return (RuntimeError, ValueError, *named)


class ONNXModel:
    """Embed audio by an exported ONNX model that takes a waveform.

    The input of the model is floats of shape (window,), (1, window) or
    (batch, window).  Windows are cut every ``hop`` samples; samples at the end
    that do not fill a window are left out, and a clip shorter than one window
    is padded with zeros.  A model for any length gets each clip whole.  One
    thread is used.

    Parameters
    ----------
    path : str or path-like
        The ``.onnx`` file.  Weights in other files must lie in its folder.
    sample_rate : int, optional
        Samples a second that the model was made for; by default what the file
        says under ``sample_rate`` in its metadata.
    hop : int, optional
        Samples from one window to the next; by default the window.
    tensor : str, optional
        The end of the name of the output to take; by default the first one.
    name : str, optional
        What the embedding is called in a store; by default the name of the
        file.

    Attributes
    ----------
    window : int or None
        Samples of a window; None if the model takes any length.
    dims : int
        Width of the vectors.
    hop : int or None
        Samples between frames; None if a clip is taken whole, or a window gives
        several frames.
    identity : dict
        What decides the numbers.

    Raises
    ------
    DataError
        If the file is absent, no ONNX file, takes no waveform, or wants weights
        from outside its folder.
    ParameterError
        If a value is not allowed, the sample rate is not known, no output is
        called so, or the package ``onnxruntime`` is not installed.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        sample_rate: int | None = None,
        hop: int | None = None,
        tensor: str | None = None,
        name: str | None = None,
    ) -> None:
        self._call = f"{str(path)!r}, {sample_rate=}, {hop=}, {tensor=}, {name=}"
        self._graph = ONNXGraph(path, tensor)
        self.name = default_name(name, self._graph.path)
        self.sample_rate = _sample_rate(sample_rate, self._graph)
        self.window = find_window(self._graph.shape, self.sample_rate, self._graph.path)
        if self.window is None and hop is not None:
            raise ParameterError(
                f"hop={hop!r} is not used: {path} takes clips of any length whole; leave hop out"
            )
        self._step = None if self.window is None else check_hop(hop, self.window)
        length = self.window or self.sample_rate
        _, per_window, self.dims = self._rows(np.zeros(length, dtype=np.float32)).shape
        self.hop = self._step if per_window == 1 else None

    @property
    def identity(self) -> Identity:
        """Return what decides the numbers."""
        return {
            "kind": "onnx",
            **self._graph.identity,
            "sample_rate": self.sample_rate,
            "window": self.window,
            "step": self._step,
        }

    def __repr__(self) -> str:
        """Return the call that makes this model."""
        return f"ONNXModel({self._call})"

    def embed(self, audio: ArrayLike) -> Frames:
        """Return the vectors of one mono waveform.

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
            If the waveform is not finite mono floats, or the model fails or
            gives NaN or Inf.
        """
        wave = check_waveform(audio)
        rows = self._rows(wave)
        if rows.shape[2] != self.dims:
            raise DataError(
                f"{self._graph.path.name} gives {rows.shape[2]} dimensions for {wave.size} samples "
                f"and {self.dims} for others; name another of its outputs (tensor=...)"
            )
        window = self.window or wave.size
        return join_frames(rows, window, self._step or window, self.sample_rate, self._graph.path)

    def _rows(self, wave: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the outputs for a waveform [shape=(n_windows, n_rows, d)]."""
        if self.window is None or self._step is None:
            whole = wave.reshape((1, -1) if len(self._graph.shape) == 2 else -1)
            return as_rows(self._graph.run(whole), 1, self._graph.path)
        return run_windows(self._graph, cut_windows(wave, self.window, self._step))


def _sample_rate(given: int | None, graph: ONNXGraph) -> int:
    """Return the sample rate that the file says or the caller, who may not disagree."""
    said = graph.metadata.get("sample_rate")
    if said is None and given is None:
        raise ParameterError(
            f"{graph.path.name} does not say its sample rate; give it, for example "
            "sample_rate=16000"
        )
    if said is None:
        return check_count(given, "sample_rate", MIN_RATE)
    if not said.isdecimal() or int(said) < MIN_RATE:
        raise DataError(
            f"{graph.path.name} has sample_rate {said!r} in its metadata; "
            f"export it with a whole number from {MIN_RATE} upwards"
        )
    if given not in (None, int(said)):
        raise ParameterError(
            f"sample_rate={given!r} is not the {said} that {graph.path.name} says; leave it out"
        )
    return int(said)
