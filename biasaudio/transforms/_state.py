"""The parameters and attributes of a fitted correction as JSON and plain arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from biasaudio._validation import did_you_mean
from biasaudio.errors import DataError, ParameterError
from biasaudio.transforms._affine import Affine

__all__ = ["Reader", "Writer", "classes"]

_Array = NDArray[Any]
# Needed by partial_fit only, and k d x d large.
DROPPED = ("moments_",)
_MOST_ESTIMATORS = 100
_PARTS = tuple(field.name for field in fields(Affine))


def classes() -> dict[str, type[Any]]:
    """Return the classes that may be in a file, by name."""
    from biasaudio import transforms
    from biasaudio.transforms._base import BaseTransform

    public = (getattr(transforms, name) for name in transforms.__all__)
    return {c.__name__: c for c in public if isinstance(c, type) and issubclass(c, BaseTransform)}


class Writer:
    """Turn values into JSON, and gather the arrays in them.

    Attributes
    ----------
    arrays : dict of str to np.ndarray
        What the JSON refers to, by name.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, _Array] = {}
        self._named: dict[int, dict[str, str | None]] = {}

    def name_affine(self, affine: Affine, suffix: str) -> None:
        """Put the arrays of a map under names of its own, in float64.

        ``gain`` is written where it is None too, so that a reader need not
        ask; ``up`` is absent in a dense map, where it would be an identity.
        """
        refs: dict[str, str | None] = {}
        for part in _PARTS:
            value, refs[part] = getattr(affine, part), None
            if value is not None:
                refs[part] = f"{part}_{suffix}"
                self.arrays[f"{part}_{suffix}"] = np.asarray(value, dtype=np.float64)
        self.arrays.setdefault(f"gain_{suffix}", np.zeros(len(affine.center)))
        self._named[id(affine)] = refs

    def estimator(self, transform: Any, where: str = "") -> dict[str, Any]:
        """Return class, parameters and fitted attributes."""
        name = type(transform).__name__
        if classes().get(name) is not type(transform):
            raise ParameterError(
                f"{type(transform).__module__}.{name} is not a correction of biasaudio.transforms, "
                f"so no file can hold it; save one of {', '.join(classes())} (of a pipeline, the "
                "step)"
            )
        parameters = transform.get_params(deep=False)
        state = {
            key: value
            for key, value in vars(transform).items()
            if key.endswith("_") and not key.startswith("_") and key not in (*parameters, *DROPPED)
        }
        return {
            "class": name,
            "parameters": {
                key: self.value(value, f"{where}parameters.{key}")
                for key, value in parameters.items()
            },
            "attributes": {key: self.value(value, where + key) for key, value in state.items()},
        }

    def value(self, value: Any, where: str) -> Any:
        """Return JSON for one value; ``where`` names its arrays, and it in a message."""
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, np.generic):
            return {"scalar": self._array(np.asarray(value), where)}
        if isinstance(value, np.ndarray):
            return self._any_array(value, where)
        if type(value) in (list, tuple):
            items = [self.value(item, f"{where}.{i}") for i, item in enumerate(value)]
            return {type(value).__name__: items}
        if isinstance(value, Mapping):
            pairs = enumerate(value.items())
            return {
                "dict": [
                    [self._key(k, where), self.value(v, f"{where}.{i}")] for i, (k, v) in pairs
                ]
            }
        if isinstance(value, Affine):
            refs = self._named.get(id(value)) or {
                part: None if array is None else self._array(np.asarray(array), f"{where}.{part}")
                for part, array in ((part, getattr(value, part)) for part in _PARTS)
            }
            return {"affine": refs}
        if isinstance(value, BaseEstimator):
            return {"estimator": self.estimator(value, f"{where}.")}
        raise ParameterError(
            f"{where} is a {type(value).__name__}, which a file without pickle cannot hold; give "
            "numbers, texts, arrays, or lists of these"
        )

    def _key(self, key: Any, where: str) -> Any:
        if key is None or type(key) in (bool, int, str):
            return key
        raise ParameterError(f"{where} has the key {key!r}; only texts and whole numbers are saved")

    def _any_array(self, array: _Array, where: str) -> dict[str, str]:
        if array.dtype.kind in "biufU":
            return {"array": self._array(array, where)}
        values = array.ravel().tolist()
        texts = np.array([v if isinstance(v, str) else "" for v in values], dtype=np.str_)
        texts = texts.reshape(array.shape)
        # Not so where a text ends in NUL, which fixed-length texts lose.
        if array.dtype.kind not in "OT" or texts.ravel().tolist() != values:
            raise ParameterError(
                f"{where} has dtype {array.dtype}; only numbers and texts are saved"
            )
        return {"texts": self._array(texts, where)}

    def _array(self, array: _Array, where: str) -> str:
        self.arrays[where] = array
        return where


class Reader:
    """Turn JSON that `Writer` made back into values.

    Parameters
    ----------
    arrays : mapping of str to np.ndarray
    version : str
        Of the biasaudio that wrote, for messages.
    """

    def __init__(self, arrays: Mapping[str, _Array], version: str) -> None:
        self.arrays = arrays
        self.version = version[:40]
        # A file may name one array a million times, which must not become a million arrays.
        self._texts: dict[str, _Array] = {}
        self._finite: dict[str, bool] = {}
        self._n_estimators = 0

    def estimator(self, state: Mapping[str, Any]) -> Any:
        """Return the fitted correction."""
        name, known = state["class"], classes()
        self._n_estimators += 1
        if self._n_estimators > _MOST_ESTIMATORS:
            raise ValueError(f"more than {_MOST_ESTIMATORS} corrections in one")
        if name not in known:
            raise DataError(
                f"the correction is a {name[:80]!r} (biasaudio {self.version}), which is not among "
                f"{', '.join(known)}; update biasaudio{did_you_mean(name, known)}"
            )
        parameters = {key: self.value(value) for key, value in state["parameters"].items()}
        foreign = set(parameters) - set(known[name]().get_params(deep=False))
        if foreign:
            raise DataError(
                f"the {name} has the parameter {min(foreign)[:80]!r} (biasaudio {self.version}), "
                "which is not known here; update biasaudio"
            )
        transform = known[name](**parameters)
        for key, value in state["attributes"].items():
            if not (key.isidentifier() and key.endswith("_") and not key.startswith("_")):
                raise ValueError(f"an attribute {key!r}")
            setattr(transform, key, self.value(value))
        return transform

    def value(self, value: Any) -> Any:
        """Return the value that one piece of JSON stands for."""
        if not isinstance(value, dict):
            return value
        [(kind, content)] = value.items()
        if kind == "float":
            return float(content)
        if kind == "scalar":
            return self.arrays[content][()]
        if kind == "array":
            return self.arrays[content]
        if kind == "texts":
            if content not in self._texts:
                self._texts[content] = self.arrays[content].astype(object)
            return self._texts[content]
        if kind == "list":
            return [self.value(item) for item in content]
        if kind == "tuple":
            return tuple(self.value(item) for item in content)
        if kind == "dict":
            return {key: self.value(item) for key, item in content}
        if kind == "affine":
            return self._affine(content)
        if kind == "estimator":
            return self.estimator(content)
        raise ValueError(f"a value of kind {kind!r}")

    def _affine(self, refs: Mapping[str, str | None]) -> Affine:
        """Return the map, if its arrays fit each other."""
        parts = {part: None if name is None else self.arrays[name] for part, name in refs.items()}
        affine = Affine(**parts)  # type: ignore[arg-type]
        d, k = affine.down.shape
        shapes = {"center": (d,), "offset": (d,), "gain": (d,), "up": (k, d), "down": (d, k)}
        for part, name in refs.items():
            array = parts[part]
            if name is not None and array is not None:
                if name not in self._finite:
                    is_number = array.dtype.kind in "biuf"
                    self._finite[name] = is_number and bool(np.isfinite(array).all())
                if array.shape != shapes[part] or not self._finite[name]:
                    raise ValueError(f"{part} of shape {array.shape}, or not finite")
        if affine.up is None and k != d:
            raise ValueError(f"a dense map of shape {(d, k)}")
        return affine
