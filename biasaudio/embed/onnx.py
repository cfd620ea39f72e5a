"""Any exported ONNX model that takes a waveform.

An ONNX file may keep weights in other files, which it names.  Not every version
of ``onnxruntime`` refuses names that lead somewhere else, so they are read
here, straight from the protocol buffer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio.embed.base import (
    RATES,
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
    sha256_of,
)
from biasaudio.errors import DataError, ParameterError

__all__ = ["ONNXGraph", "ONNXModel", "external_files"]

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


# A protocol buffer holds no file of 2 GiB or more.
_MAX_BYTES = 2**31
# Message: the numbers of its fields that lead to a tensor, and the message of each.
_FIELDS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_VARINT, _LONG, _BYTES, _SHORT = 0, 1, 2, 5


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


class ONNXModel(WindowedModel):
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

    _kind = "onnx"

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
        self._graph = graph = ONNXGraph(path, tensor)
        self.name = default_name(name, graph.path)
        self.sample_rate = _sample_rate(sample_rate, graph)
        self.window = find_window(graph.shape, self.sample_rate, graph.path)
        if self.window is None and hop is not None:
            raise ParameterError(
                f"hop={hop!r} is not used: {path} takes clips of any length whole; leave hop out"
            )
        self._step = None if self.window is None else check_hop(hop, self.window)
        length = self.window or self.sample_rate
        _, per_window, self.dims = self._rows(np.zeros(length, dtype=np.float32)).shape
        self.hop = self._step if per_window == 1 else None


def _sample_rate(given: int | None, graph: ONNXGraph) -> int:
    """Return the sample rate that the file says or the caller, who may not disagree."""
    said = graph.metadata.get("sample_rate")
    if said is None and given is None:
        raise ParameterError(
            f"{graph.path.name} does not say its sample rate; give it, for example "
            "sample_rate=16000"
        )
    if said is None:
        return check_rate(given)
    # At most nine digits: int() refuses thousands of them in words of its own.
    is_rate = said.isdecimal() and len(said) < 10 and RATES[0] <= int(said) <= RATES[1]
    if not is_rate:
        raise DataError(
            f"{graph.path.name} has sample_rate {said[:99]!r} in its metadata; "
            f"export it with a whole number from {RATES[0]} upwards, at most {RATES[1]}"
        )
    if given not in (None, int(said)):
        raise ParameterError(
            f"sample_rate={given!r} is not the {said} that {graph.path.name} says; leave it out"
        )
    return int(said)


def external_files(path: Path) -> dict[str, Path]:
    """Return the files beside an ONNX file that hold its weights.

    Parameters
    ----------
    path : Path
        The ONNX file.

    Returns
    -------
    dict of str to Path
        Name in the file: the file, which is there and, links followed, in the
        folder of the model.

    Raises
    ------
    DataError
        If the file is no protocol buffer, or a file is absent or elsewhere.
    """
    if path.stat().st_size >= _MAX_BYTES:
        raise DataError(f"{path} has 2 GiB or more; export it with its weights in a file beside it")
    names = sorted(_locations(memoryview(path.read_bytes()), path))
    return {name: _beside(path, name) for name in names}


def _beside(path: Path, name: str) -> Path:
    """Return the file that a model asks for, if it is in the model's folder."""
    folder = path.parent.resolve()
    try:
        file = (folder / name).resolve()
        is_there = file.is_file()
    except (OSError, ValueError):
        # Too long, or with a zero in it.
        file, is_there = folder, False
    if Path(name).is_absolute() or not file.is_relative_to(folder):
        raise DataError(
            f"{path.name} asks for {name[:99]!r}, which is not in its folder; "
            "nothing outside is read: put the weights beside the model"
        )
    if not is_there:
        raise DataError(
            f"{path.name} has weights in {name[:99]!r}, which is not beside it; copy it"
        )
    return file


def _locations(data: memoryview, path: Path) -> set[str]:
    """Return the names of the files that the tensors of a model lie in."""
    found = set()
    # A list and no recursion: graphs may be nested as deep as a stranger likes.
    left = [("model", data)]
    while left:
        message, part = left.pop()
        if message == "entry":
            pair = {number: bytes(value) for number, value in _parts(part, path)}
            if pair.get(1) == b"location":
                found.add(pair.get(2, b"").decode("utf-8", "replace"))
            continue
        inside = _FIELDS[message]
        left += [
            (inside[number], value) for number, value in _parts(part, path) if number in inside
        ]
    return found


def _parts(data: memoryview, path: Path) -> Iterator[tuple[int, memoryview]]:
    """Yield number and content of the fields of a message that have a length."""
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at, path)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            _, at = _varint(data, at, path)
        elif kind in (_LONG, _SHORT):
            at += 8 if kind == _LONG else 4
        elif kind == _BYTES:
            size, at = _varint(data, at, path)
            if size > end - at:
                raise _not_onnx(path)
            yield number, data[at : at + size]
            at += size
        else:
            raise _not_onnx(path)
    if at > end:
        raise _not_onnx(path)


def _varint(data: memoryview, at: int, path: Path) -> tuple[int, int]:
    """Return the number of variable length at a place, and the place after it."""
    value = 0
    for shift, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, at + shift + 1
    raise _not_onnx(path)


def _not_onnx(path: Path) -> DataError:
    return DataError(f"{path} is not an ONNX file; give an exported .onnx model")
