"""Anything that follows the HEAR API as an embedding."""

from __future__ import annotations

import hashlib
import sys
from importlib import import_module
from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio._validation import check_choice, check_name
from biasaudio.embed.base import (
    BaseModel,
    Frames,
    Identity,
    find_weights,
    guarded,
    one_line,
    sha256_of,
)
from biasaudio.errors import DataError, ParameterError

__all__ = ["HearModel"]

_FRAMES = ("timestamp", "scene")


class HearModel(BaseModel):
    """Embed audio by a Python module that follows the HEAR API.

    The module has ``load_model``, and ``get_timestamp_embeddings`` or
    ``get_scene_embeddings``; its model has a ``sample_rate``.  Models of
    PyTorch get tensors, all others arrays.

    Parameters
    ----------
    module : str
        What one would import, for example ``"hear21passt.base"``.
    weights : str or path-like, optional
        A file or folder for ``load_model``; by default it is called without
        one.
    frames : str, optional
        ``"timestamp"`` takes the embeddings along time, ``"scene"`` the one of
        the whole clip.  By default the first of these that the module has.
    name : str, optional
        What the embedding is called in a store; by default the last part of
        the module's name.

    Attributes
    ----------
    sample_rate : int
        What the model wants.
    dims : int
        Width of the vectors.
    hop : None
        The API does not say it before there are timestamps.
    identity : dict
        What decides the numbers: among it the SHA-256 of the module's file and
        of the weights.

    Raises
    ------
    DataError
        If the weights are absent, or the module makes no such model of them.
    ParameterError
        If the module cannot be imported or lacks a function, or a value is not
        allowed.

    Notes
    -----
    The module is code that runs with all your rights: take it from people whom
    you trust.  A clip goes through the model as a whole, so that the length it
    can take is bounded by the memory that the model needs.

    References
    ----------
    Turian et al. (2022), "HEAR: Holistic Evaluation of Audio Representations",
    PMLR 176, 125-145.
    """

    hop = None
    _kind = "hear"

    def __init__(
        self,
        module: str,
        weights: str | PathLike[str] | None = None,
        *,
        frames: str | None = None,
        name: str | None = None,
    ) -> None:
        given = None if weights is None else str(weights)
        self._call = f"{module!r}, {given!r}, {frames=}, {name=}"
        self._module = module
        # Another process may have another working folder.
        self._weights = None if weights is None else Path(weights).absolute()
        self._sha256 = None if self._weights is None else _hash_weights(self._weights)
        code = _import_code(module)
        self._frames = _choose_frames(code, module, frames)
        self.name = check_name(module.rpartition(".")[2] if name is None else name, "name")
        file = Path(getattr(code, "__file__", None) or "")
        self._code = sha256_of(file) if file.is_file() else None
        self._loaded: tuple[ModuleType, Any] | None = (code, self._load(code))
        self.sample_rate = self._read_size("sample_rate")
        self.dims = self._read_size(f"{self._frames}_embedding_size")

    def _options(self) -> Identity:
        return {
            "module": self._module,
            "module_sha256": self._code,
            "sha256": self._sha256,
            "sample_rate": self.sample_rate,
            "frames": self._frames,
        }

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the model, which belongs to a process."""
        return {**self.__dict__, "_loaded": None}

    def _embed(self, wave: NDArray[np.float32]) -> Frames:
        code, model = self._ready()
        function = f"get_{self._frames}_embeddings"
        advice = f" for {wave.size} samples; leave the clip out"
        with guarded(lambda error: self._failed(function, error, advice)):
            given = _call(getattr(code, function), wave[None, :], code, model)
        if self._frames == "scene":
            vectors = self._check(given, (1, self.dims), function)
            return Frames(vectors, np.array([wave.size * 500.0 / self.sample_rate]))
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            raise DataError(
                f"{function} of {self._module!r} gives {type(given).__name__}, not two arrays: "
                "embeddings and timestamps; mend the module"
            )
        vectors = self._check(given[0], (1, None, self.dims), function)[0]
        centres = _as_array(given[1])
        if centres.size != len(vectors) or not np.isfinite(centres).all():
            raise DataError(
                f"{function} of {self._module!r} gives timestamps of shape {centres.shape} for "
                f"{len(vectors)} frames, or NaN; there must be one a frame in milliseconds"
            )
        return Frames(vectors, centres.reshape(-1).astype(np.float64))

    def _ready(self) -> tuple[ModuleType, Any]:
        """Make module and model, once in each process."""
        if self._loaded is None:
            if self._weights is not None and _hash_weights(self._weights) != self._sha256:
                raise DataError(
                    f"{self._weights} has changed since the model was made; make the model again"
                )
            code = _import_code(self._module)
            self._loaded = (code, self._load(code))
        return self._loaded

    def _load(self, code: ModuleType) -> Any:
        """Model of the module, ready to embed."""
        paths = [] if self._weights is None else [str(self._weights)]
        advice = "; give the weights that it needs, or mend it"
        with guarded(lambda error: self._failed("load_model", error, advice)):
            model = code.load_model(*paths)
        if _is_torch(code, model) and callable(getattr(model, "eval", None)):
            # Not every module does it, and dropout would give other vectors each time.
            model.eval()
        return model

    def _failed(self, function: str, error: BaseException, advice: str) -> DataError:
        return DataError(
            f"{function} of {self._module!r} fails with {type(error).__name__} "
            f"({one_line(error)}){advice}"
        )

    def _read_size(self, name: str) -> int:
        """Whole number that the API asks of a model."""
        value = getattr(self._ready()[1], name, None)
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
            raise DataError(
                f"the model of {self._module!r} has {name}={value!r}; the HEAR API wants a "
                "whole number there"
            )
        return int(value)

    def _check(
        self, given: Any, shape: tuple[int | None, ...], function: str
    ) -> NDArray[np.float32]:
        """Check what a function gave: finite floats of a shape."""
        array = _as_array(given)
        fits = array.ndim == len(shape) and array.size > 0 and array.dtype.kind == "f"
        if not fits or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True)):
            wanted = ", ".join("n" if n is None else str(n) for n in shape)
            raise DataError(
                f"{function} of {self._module!r} gives {array.dtype} of shape {array.shape}, not "
                f"floats of shape ({wanted}); mend the module"
            )
        bad = int(np.count_nonzero(~np.isfinite(array)))
        if bad:
            raise DataError(
                f"{function} of {self._module!r} gives NaN or Inf in {bad} of {array.size} "
                "numbers; leave the clip out"
            )
        return array.astype(np.float32, copy=False)


def _hash_weights(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents in a folder."""
    if not path.is_dir():
        return sha256_of(find_weights(path))
    digest = hashlib.sha256()
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_of(file)}\n".encode())
    return digest.hexdigest()


def _import_code(module: str) -> ModuleType:
    """Import a module, or say how to make it one that can be imported."""
    if not isinstance(module, str) or not all(part.isidentifier() for part in module.split(".")):
        raise ParameterError(
            f"module={module!r} is not the name of a Python module; give it as one imports it, "
            "for example hear21passt.base"
        )
    with guarded(lambda error: _not_imported(module, error)):
        return import_module(module)


def _not_imported(module: str, error: BaseException) -> ParameterError:
    missing = getattr(error, "name", None) if isinstance(error, ImportError) else None
    if missing and f"{module}.".startswith(f"{missing}."):
        # Not "pip install": a stranger may have published something of that name.
        return ParameterError(
            f"there is no module {missing!r} to import; install the package that has it, or "
            "name the folder it is in: PYTHONPATH=FOLDER biasaudio extract ..."
        )
    if isinstance(error, ImportError):
        return ParameterError(
            f"module {module!r} cannot be imported ({one_line(error)}); install what it needs"
        )
    return ParameterError(
        f"module {module!r} fails when it is imported ({one_line(error)}); mend it"
    )


def _choose_frames(code: ModuleType, module: str, frames: str | None) -> str:
    """Choose which embeddings to take of those that a module has."""
    has = [each for each in _FRAMES if callable(getattr(code, f"get_{each}_embeddings", None))]
    lacks = "load_model" if not callable(getattr(code, "load_model", None)) else None
    if frames is not None:
        check_choice(frames, "frames", _FRAMES)
    if not lacks and (not has or frames not in (None, *has)):
        lacks = f"get_{frames or 'timestamp'}_embeddings"
    if lacks:
        hint = f"; frames={has[0]!r} would do" if has and frames not in (None, *has) else ""
        raise ParameterError(
            f"module {module!r} has no function {lacks}, which the HEAR API asks for{hint}"
        )
    return frames or has[0]


def _is_torch(code: ModuleType, model: Any) -> bool:
    """Whether a module works with PyTorch, which this does not import."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    named = (torch, torch.Tensor, torch.nn)
    return isinstance(model, torch.nn.Module) or any(
        value is each for value in vars(code).values() for each in named
    )


def _call(function: Any, wave: NDArray[np.float32], code: ModuleType, model: Any) -> Any:
    """Call a function of the module with one waveform."""
    if not _is_torch(code, model):
        return function(wave, model)
    torch = sys.modules["torch"]
    parameters = getattr(model, "parameters", list)
    device = next((each.device for each in parameters()), "cpu")
    with torch.no_grad():
        return function(torch.tensor(wave, device=device), model)


def _as_array(given: Any) -> NDArray[Any]:
    """Make an array of what PyTorch, TensorFlow or numpy made."""
    if hasattr(given, "detach"):
        given = given.detach().cpu()
    return np.asarray(given.numpy() if hasattr(given, "numpy") else given)
