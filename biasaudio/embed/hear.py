"""Anything that follows the HEAR API as an embedding."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasaudio._validation import check_name
from biasaudio.embed._hear_api import (
    as_array,
    call_function,
    choose_frames,
    hash_weights,
    import_code,
    is_torch,
)
from biasaudio.embed._windows import one_line, sha256_of
from biasaudio.embed.base import FOREIGN_ERRORS, Frames, Identity, check_waveform
from biasaudio.errors import DataError

__all__ = ["HearModel"]


class HearModel:
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
        self._sha256 = None if self._weights is None else hash_weights(self._weights)
        code = import_code(module)
        self._frames = choose_frames(code, module, frames)
        self.name = check_name(module.rpartition(".")[2] if name is None else name, "name")
        file = Path(getattr(code, "__file__", None) or "")
        self._code = sha256_of(file) if file.is_file() else None
        self._loaded: tuple[ModuleType, Any] | None = (code, self._load(code))
        self.sample_rate = self._read_size("sample_rate")
        self.dims = self._read_size(f"{self._frames}_embedding_size")

    @property
    def identity(self) -> Identity:
        """Return what decides the numbers."""
        return {
            "kind": "hear",
            "module": self._module,
            "module_sha256": self._code,
            "sha256": self._sha256,
            "sample_rate": self.sample_rate,
            "frames": self._frames,
        }

    def __repr__(self) -> str:
        """Return the call that makes this model."""
        return f"HearModel({self._call})"

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the model, which belongs to a process."""
        return {**self.__dict__, "_loaded": None}

    def embed(self, audio: ArrayLike) -> Frames:
        """Return the vectors of one mono waveform.

        Parameters
        ----------
        audio : array_like [shape=(n_samples,)]
            Floats, full scale is 1, at `sample_rate`.

        Returns
        -------
        Frames
            Vectors [shape=(n_frames, dims), dtype=float32] and the timestamps
            of the module in milliseconds; a scene is one frame in the middle
            of the clip.

        Raises
        ------
        DataError
            If the waveform is not finite mono floats, or the module fails, or
            what it gives has another shape, NaN or Inf.
        """
        wave = check_waveform(audio)
        code, model = self._ready()
        function = f"get_{self._frames}_embeddings"
        try:
            given = call_function(getattr(code, function), wave[None, :], code, model)
        except FOREIGN_ERRORS as error:
            raise DataError(
                f"{function} of {self._module!r} fails with {type(error).__name__} "
                f"({one_line(error)}) for {wave.size} samples; leave the clip out"
            ) from error
        if self._frames == "scene":
            vectors = self._check(given, (1, self.dims), function)
            return Frames(vectors, np.array([wave.size * 500.0 / self.sample_rate]))
        if not isinstance(given, (tuple, list)) or len(given) != 2:
            raise DataError(
                f"{function} of {self._module!r} gives {type(given).__name__}, not two arrays: "
                "embeddings and timestamps; mend the module"
            )
        vectors = self._check(given[0], (1, None, self.dims), function)[0]
        centres = as_array(given[1])
        if centres.size != len(vectors) or not np.isfinite(centres).all():
            raise DataError(
                f"{function} of {self._module!r} gives timestamps of shape {centres.shape} for "
                f"{len(vectors)} frames, or NaN; there must be one a frame in milliseconds"
            )
        return Frames(vectors, centres.reshape(-1).astype(np.float64))

    def _ready(self) -> tuple[ModuleType, Any]:
        """Return module and model, made in this process."""
        if self._loaded is None:
            if self._weights is not None and hash_weights(self._weights) != self._sha256:
                raise DataError(
                    f"{self._weights} has changed since the model was made; make the model again"
                )
            code = import_code(self._module)
            self._loaded = (code, self._load(code))
        return self._loaded

    def _load(self, code: ModuleType) -> Any:
        """Return the model of the module, ready to embed."""
        paths = [] if self._weights is None else [str(self._weights)]
        try:
            model = code.load_model(*paths)
        except FOREIGN_ERRORS as error:
            raise DataError(
                f"load_model of {self._module!r} fails with {type(error).__name__} "
                f"({one_line(error)}); give the weights that it needs, or mend it"
            ) from error
        if is_torch(code, model) and callable(getattr(model, "eval", None)):
            # Not every module does it, and dropout would give other vectors each time.
            model.eval()
        return model

    def _read_size(self, name: str) -> int:
        """Return a whole number that the API asks of a model."""
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
        """Return what a function gave as finite float32 of a shape."""
        array = as_array(given)
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
