"""Save a fitted correction to one small file, and load it: no pickle.

The file is an ``.npz`` of plain arrays; FORMAT.md states its rules.  numpy
alone applies a linear correction from it; this is all it takes, for clips of
one domain (without ``domain`` for a domain-free correction):

.. code-block:: python

    import numpy as np

    def correct(X, file, domain=""):
        with np.load(file) as f:
            i = f["domains"].tolist().index(domain)
            Z = X - f[f"center_{i}"]
            read = Z @ f[f"down_{i}"]
            if f"up_{i}" in f:
                read = read @ f[f"up_{i}"]
            change = Z * f[f"gain_{i}"] + read + f[f"offset_{i}"]
            return X + f["alpha"] * change
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import reprlib
import zipfile
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from biasaudio._files import replacing
from biasaudio._validation import check_alpha, did_you_mean
from biasaudio.errors import DataError, ParameterError
from biasaudio.transforms._affine import Affine
from biasaudio.transforms._base import BaseTransform, DomainAwareTransform, DomainFreeTransform

__all__ = ["check_path", "classes", "digest", "load", "read_header", "save"]

FORMAT_NAME = "biasaudio-correction"
FORMAT_VERSION = 2
SUFFIX = ".npz"
_Array = NDArray[Any]
_PARTS = tuple(field.name for field in fields(Affine))
# What the arrays of a file say already: the maps, and the width and names of the features.
# A second place in the file could say something else.
_ELSEWHERE = ("alpha", "affine_", "affines_", "n_features_in_", "feature_names_in_")
# Needed by partial_fit only, and k d x d large.
_DROPPED = ("moments_",)
# Of 4 bytes per character; as JSON it takes 20 times as much.
_LONGEST_HEADER = 2**24
_MOST_ESTIMATORS = 100
_HEADER: dict[str, type] = {
    "biasaudio": str,
    "saved": str,
    "class": str,
    "parameters": dict,
    "attributes": dict,
    "is_affine": bool,
    "n_features": int,
}
# Names of parameters and attributes in files of version 1.
_RENAMED = {
    "ComBat": {"shrinkage": "empirical_bayes"},
    "NuisanceProjection": {"rank": "n_components", "shrinkage": "shift_shrinkage"},
    "NullspaceProjection": {
        "n_directions": "n_iter",
        "max_directions": "max_iter",
        "n_directions_": "n_iter_",
    },
}
# Where "auto" now is "cv", as folds decide.
_BY_FOLDS = {
    "NuisanceProjection": ("strength", "n_components"),
    "WithinClassNormalization": ("strength", "shrinkage"),
}


def save(transform: Any, path: str | os.PathLike[str]) -> Path:
    """Save a fitted correction to one ``.npz`` file.

    Parameters
    ----------
    transform : estimator
        A fitted correction of `biasaudio.transforms`; of a pipeline, the step.
    path : path-like
        Ends in ``.npz``; a file that is there is replaced, in one step.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    ParameterError
        If the correction is not fitted, or not one of ours, or holds NaN or
        Inf, or the path ends otherwise.
    DataError
        If the file cannot be written.

    See Also
    --------
    load : Gives the same correction back.

    Notes
    -----
    Parameters and fitted attributes are kept to the bit, so the loaded
    correction does exactly what the saved one did.  The maps are in the file
    once, in the arrays that numpy's ten lines read.  Dropped are the moments
    that ``partial_fit`` gathers, whose size is that of the covariances, what
    ``set_output`` was told, and a generator as ``random_state``: a loaded
    correction transforms, and does not take in more clips.

    Examples
    --------
    >>> import tempfile
    >>> from biasaudio.datasets.synthetic import make_domains
    >>> from biasaudio.transforms import LEACE
    >>> table, _ = make_domains(n=200, d=8, random_state=0)
    >>> leace = LEACE().fit(table.X, domain=table.clips.dataset)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     again = load(save(leace, folder + "/leace.npz"))
    >>> bool((again.transform(table.X) == leace.transform(table.X)).all())
    True
    """
    path = check_path(path)
    # First, because it also refuses what is not a correction.
    maps = _maps(transform)
    writer = _Writer()
    for i, affine in enumerate(maps.values()):
        for part in _PARTS:
            value = getattr(affine, part)
            if value is None and part == "gain":
                # Written all the same, so that numpy's lines need not ask.
                value = np.zeros(len(affine.center))
            if value is not None:
                writer.array(np.asarray(value, dtype=np.float64), f"{part}_{i}")
    names = getattr(transform, "feature_names_in_", None)
    header: dict[str, Any] = {
        "format": FORMAT_NAME,
        "format_version": FORMAT_VERSION,
        "biasaudio": _version(),
        "saved": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **writer.estimator(transform, skipped=_ELSEWHERE),
        "is_affine": bool(maps),
        "n_features": int(transform.n_features_in_),
        "feature_names": None if names is None else [str(name) for name in names],
    }
    arrays: dict[str, _Array] = {
        "alpha": np.array(check_alpha(getattr(transform, "alpha", 1.0))),
        "domains": np.array(list(maps), dtype=np.str_),
        **writer.arrays,
    }
    header["sha256"] = digest(header, arrays)
    with replacing(path, error=DataError) as partial, partial.open("wb") as stream:
        np.savez(stream, **{"header": np.array(json.dumps(header)), **arrays})  # type: ignore[arg-type]
    return path


def load(path: str | os.PathLike[str]) -> Any:
    """Load a correction that `save` wrote.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    estimator
        Fitted, of the class and with the parameters that were saved.

    Raises
    ------
    DataError
        If the file is missing, empty, cut off, damaged or of another kind, was
        written by a newer biasaudio, or holds a class that is not known here.

    Notes
    -----
    Nothing in the file is run: it can only name one of the corrections of this
    package, and give numbers and texts to it.  The checksum finds damage; it
    does not prove who wrote the file.
    """
    path = Path(path)
    header, arrays = _read(path)
    try:
        return _restored(header, arrays)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:
        # Whatever the file of a stranger leads to, it is one line.
        _refuse(path, error)


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Header of a saved correction, without making it.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    dict
        Format and its version, the version of biasaudio, when it was saved,
        class, parameters, names of the features, sha256; and the ``domains``.

    Raises
    ------
    DataError
        As in `load`, but for a class that is not known.
    """
    header, arrays = _read(Path(path))
    return header | {"domains": arrays["domains"].tolist()}


def check_path(path: str | os.PathLike[str]) -> Path:
    """Path, if a correction may be saved there.

    Raises
    ------
    ParameterError
        If it does not end in ``.npz``.
    DataError
        If its folder is not there.
    """
    path = Path(path)
    if path.suffix.lower() != SUFFIX:
        raise ParameterError(f"{path} ends in {path.suffix!r}; give a name that ends in {SUFFIX!r}")
    if not path.parent.is_dir():
        raise DataError(f"{path} cannot be written: {path.parent} is not a folder; make it first")
    return path


def digest(header: Mapping[str, Any], arrays: Mapping[str, _Array]) -> str:
    """Checksum (sha256) of everything in a file but itself."""
    total = hashlib.sha256()
    for name in sorted(set(arrays) - {"header"}):
        array = arrays[name]
        total.update(f"{name}\n{array.dtype.str}\n{array.shape}\n".encode())
        total.update(array.tobytes())
    rest = {name: value for name, value in header.items() if name != "sha256"}
    total.update(json.dumps(rest, sort_keys=True).encode())
    return total.hexdigest()


def classes() -> dict[str, type[Any]]:
    """Classes that may be in a file, by name."""
    from biasaudio import transforms

    public = (getattr(transforms, name) for name in transforms.__all__)
    return {c.__name__: c for c in public if isinstance(c, type) and issubclass(c, BaseTransform)}


def _maps(transform: Any) -> Mapping[str, Affine]:
    """Map of each domain, of all under the name "", without ``alpha``."""
    name = type(transform).__name__
    if isinstance(transform, type) or not hasattr(transform, "get_params"):
        raise ParameterError(
            f"transform is a {name}; give a fitted correction, as LEACE().fit(...)"
        )
    state = vars(transform)
    if "moments_" in state and not {"affine_", "affines_"} & set(state):
        raise ParameterError(
            f"this {name} has seen clips of one domain only, so it changes nothing yet; call "
            "partial_fit with clips of another domain first"
        )
    try:
        check_is_fitted(transform)
    except NotFittedError:
        raise ParameterError(
            f"this {name} is not fitted, so there is nothing to save; call fit first"
        ) from None
    if "affines_" in state:
        return transform.affines_
    if "affine_" in state:
        return {"": transform.affine_}
    return {}


def _version() -> str:
    try:
        return version("biasaudio")
    except PackageNotFoundError:
        return "not known"


class _Writer:
    """Values as JSON, and the arrays in them.

    Attributes
    ----------
    arrays : dict of str to np.ndarray
        What the JSON refers to, by name.
    """

    def __init__(self) -> None:
        self.arrays: dict[str, _Array] = {}

    def estimator(
        self, transform: Any, where: str = "", skipped: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """Class, parameters and fitted attributes."""
        name = type(transform).__name__
        if classes().get(name) is not type(transform):
            raise ParameterError(
                f"{type(transform).__module__}.{name} is not a correction of biasaudio.transforms, "
                f"so no file can hold it; save one of {', '.join(classes())} (of a pipeline, the "
                "step)"
            )
        parameters = transform.get_params(deep=False)
        hidden = {*parameters, *_DROPPED, *skipped}
        state = {
            key: value
            for key, value in vars(transform).items()
            if key.endswith("_") and not key.startswith("_") and key not in hidden
        }
        return {
            "class": name,
            "parameters": {
                key: self.value(value, f"{where}parameters.{key}")
                for key, value in parameters.items()
                if key not in skipped
            },
            "attributes": {key: self.value(value, where + key) for key, value in state.items()},
        }

    def value(self, value: Any, where: str) -> Any:
        """JSON for one value; ``where`` names its arrays, and it in a message."""
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, np.generic):
            return {"scalar": self.array(np.asarray(value), where)}
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
            parts = {part: getattr(value, part) for part in _PARTS}
            return {
                "affine": {
                    part: self.array(np.asarray(array), f"{where}.{part}")
                    for part, array in parts.items()
                    if array is not None
                }
            }
        if isinstance(value, np.random.Generator):
            # What it drew is in the maps; a loaded correction draws nothing.
            return None
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
            return {"array": self.array(array, where)}
        values = array.ravel().tolist()
        texts = np.array([v if isinstance(v, str) else "" for v in values], dtype=np.str_)
        texts = texts.reshape(array.shape)
        # Not so where a text ends in NUL, which fixed-length texts lose.
        if array.dtype.kind not in "OT" or texts.ravel().tolist() != values:
            raise ParameterError(
                f"{where} has dtype {array.dtype}; only numbers and texts are saved"
            )
        return {"texts": self.array(texts, where)}

    def array(self, array: _Array, where: str) -> str:
        """Name of an array, once it is kept under it."""
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ParameterError(
                f"{where} has NaN or Inf, so the correction changes nothing that can be used; fit "
                "it again, to vectors of smaller numbers"
            )
        self.arrays[where] = array
        return where


class _Reader:
    """Values from the JSON that `_Writer` made.

    Parameters
    ----------
    header : mapping
    arrays : mapping of str to np.ndarray
    """

    def __init__(self, header: Mapping[str, Any], arrays: Mapping[str, _Array]) -> None:
        self.arrays = arrays
        self.version = header["biasaudio"][:40]
        self._is_old = header["format_version"] == 1
        # A file may name one array a million times, which must not become a million arrays.
        self._texts: dict[str, _Array] = {}
        self._n_estimators = 0

    def estimator(self, state: Mapping[str, Any]) -> Any:
        """Fitted correction, without what is in arrays of a fixed name."""
        name, known = state["class"], classes()
        self._n_estimators += 1
        if self._n_estimators > _MOST_ESTIMATORS:
            raise ValueError(f"more than {_MOST_ESTIMATORS} corrections in one")
        if name not in known:
            raise DataError(
                f"the correction is a {name[:80]!r} (biasaudio {self.version}), which is not among "
                f"{', '.join(known)}; update biasaudio{did_you_mean(name, known)}"
            )
        is_outer = self._n_estimators == 1
        parameters, attributes = dict(state["parameters"]), dict(state["attributes"])
        if is_outer and self._is_old:
            # In version 1 the header said these too.
            for key in _ELSEWHERE:
                parameters.pop(key, None)
                attributes.pop(key, None)
        elif is_outer and set(_ELSEWHERE) & {*parameters, *attributes}:
            raise ValueError("a map, its share or its width is in the header too")
        parameters = self._renamed(name, parameters)
        parameters = {key: self.value(value) for key, value in parameters.items()}
        foreign = set(parameters) - set(known[name]().get_params(deep=False))
        if foreign:
            raise DataError(
                f"the {name} has the parameter {min(foreign)[:80]!r} (biasaudio {self.version}), "
                "which is not known here; update biasaudio"
            )
        transform = known[name](**parameters)
        for key, value in self._renamed(name, attributes).items():
            if not (key.isidentifier() and key.endswith("_") and not key.startswith("_")):
                raise ValueError(f"an attribute {key!r}")
            setattr(transform, key, self.value(value))
        return transform

    def numbered(self, i: int, d: int) -> Affine:
        """Map of the domain number i, of d features."""
        names = {part: f"{part}_{i}" for part in _PARTS}
        if names["up"] not in self.arrays:
            names.pop("up")
        parts = {part: self.arrays[name] for part, name in names.items()}
        if any(array.dtype.kind != "f" or array.dtype.itemsize != 8 for array in parts.values()):
            raise ValueError("a map that is not of float64")
        if not parts["gain"].any():
            # Zeros stand for no gain.
            del parts["gain"]
        affine = _checked(parts)
        if affine.center.shape != (d,):
            raise ValueError(f"a map that is not one of {d} features")
        return affine

    def _renamed(self, name: str, values: dict[str, Any]) -> dict[str, Any]:
        """Values of a file of version 1, under the names of today."""
        if not self._is_old:
            return values
        names = _RENAMED.get(name, {})
        found = {names.get(key, key): value for key, value in values.items()}
        for key in _BY_FOLDS.get(name, ()):
            if found.get(key) == "auto":
                found[key] = "cv"
        return found

    def value(self, value: Any) -> Any:
        """Value that one piece of JSON stands for."""
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
            named = {part: name for part, name in content.items() if name is not None}
            return _checked({part: self.arrays[name] for part, name in named.items()})
        if kind == "estimator":
            return self.estimator(content)
        raise ValueError(f"a value of kind {kind!r}")


def _checked(parts: Mapping[str, _Array]) -> Affine:
    """Map of these arrays, if they fit each other."""
    affine = Affine(**{"up": None, **parts})  # type: ignore[arg-type]
    d, k = affine.down.shape
    shapes = {"center": (d,), "offset": (d,), "gain": (d,), "up": (k, d), "down": (d, k)}
    for part, array in parts.items():
        if array.shape != shapes[part] or array.dtype.kind not in "biuf":
            raise ValueError(f"{part} of shape {array.shape} and {array.dtype}")
    if affine.up is None and k != d:
        raise ValueError(f"a dense map of shape {(d, k)}")
    return affine


def _read(path: Path) -> tuple[dict[str, Any], dict[str, _Array]]:
    """Header and all arrays of a file, once all checks have passed."""
    arrays = _read_arrays(path)
    try:
        text = arrays["header"]
        if text.ndim or text.dtype.kind != "U" or text.nbytes > _LONGEST_HEADER:
            raise ValueError("it has no header")
        header = json.loads(str(text[()]))
        name, found = header["format"], header["format_version"]
        writer = str(header.get("biasaudio"))[:40]
    except Exception:
        raise DataError(
            f"{path} is an npz file, but not a correction saved by biasaudio; give a file that "
            "save wrote"
        ) from None
    if name != FORMAT_NAME:
        raise DataError(
            f"{path} is a {reprlib.repr(name)} file; give a correction, {FORMAT_NAME!r}"
        )
    if type(found) is not int or found < 1:
        raise DataError(
            f"{path} has format version {reprlib.repr(found)}; save the correction again"
        )
    if found > FORMAT_VERSION:
        raise DataError(
            f"{path} has format version {reprlib.repr(found)}, written by biasaudio "
            f"{ascii(writer)[1:-1]}; this one reads up to {FORMAT_VERSION}, so update biasaudio"
        )
    try:
        is_right = header.get("sha256") == digest(header, arrays)
        _check_header(header, arrays)
    except Exception as error:
        _refuse(path, error)
    if not is_right:
        raise DataError(
            f"{path} does not have the contents that its checksum says; copy it or save the "
            "correction again"
        )
    return header, arrays


def _read_arrays(path: Path) -> dict[str, _Array]:
    """Arrays of an npz file, no larger than the file itself."""
    what = f"{path} is not a correction saved by biasaudio"
    if not path.is_file():
        raise DataError(f"{path} is not a file that is there; check the path")
    try:
        with path.open("rb") as stream:
            start = stream.read(8)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check it") from error
    if not start:
        raise DataError(f"{path} is empty (0 bytes); save the correction again")
    if start[:1] == b"\x80":
        raise DataError(
            f"{what} but a pickle, which could run code and is never loaded; refit and save"
        )
    if start[:4] != b"PK\x03\x04":
        raise DataError(f"{what}, it starts with {start!r}; give a file that save wrote")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path.stat().st_size)
        with np.load(path, allow_pickle=False) as archive:
            return {name: _plain(name, archive[name]) for name in archive.files}
    except Exception as error:
        # zipfile and numpy raise a dozen kinds of errors on damaged bytes.
        text = ascii(" ".join(str(error).split())[:300])[1:-1] or type(error).__name__
        raise DataError(
            f"{what}, or is cut off or damaged ({text}); copy it or save the correction again"
        ) from error


def _check_members(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse members that would take more memory than the file has bytes."""
    members = archive.infolist()
    names = [member.filename for member in members]
    if len(set(names)) < len(names):
        raise ValueError("a name occurs twice")
    for member in members:
        if not member.filename.endswith(".npy"):
            raise ValueError(f"{member.filename[:80]!r} is not an array")
        if member.compress_type != zipfile.ZIP_STORED:
            raise ValueError("a member is compressed")
    if sum(member.file_size for member in members) > size:
        raise ValueError("its members overlap")
    for member in members:
        with archive.open(member) as stream:
            # numpy makes room for what this header says before it reads a value.
            number = npy.read_magic(stream)
            reader = npy.read_array_header_1_0 if number == (1, 0) else npy.read_array_header_2_0
            shape, _, dtype = reader(stream)
            if dtype.kind not in "biufU":
                raise ValueError(f"an array of {dtype} and shape {shape}")
            n_bytes = member.file_size - stream.tell()
            if math.prod(shape) * max(dtype.itemsize, 1) != n_bytes or min(shape, default=0) < 0:
                raise ValueError(f"{n_bytes} bytes for {dtype} and shape {shape}")


def _plain(name: str, array: _Array) -> _Array:
    """Array, if its values can be used: finite numbers, texts of Unicode."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name} of shape {array.shape} has NaN or Inf")
    if array.dtype.kind == "U" and array.size:
        flat = np.ascontiguousarray(array).reshape(-1)
        points = flat.view(f"{array.dtype.byteorder}u4")
        if points.max() > 0x10FFFF or ((points >= 0xD800) & (points < 0xE000)).any():
            raise ValueError("its text is not Unicode")
    return array


def _check_header(header: Mapping[str, Any], arrays: Mapping[str, _Array]) -> None:
    """Refuse a header with a member that is absent, or of another type or size."""
    # JSON can name half of a character, which no terminal prints.
    json.dumps(header, ensure_ascii=False).encode()
    for name, kind in _HEADER.items():
        if type(header[name]) is not kind:
            raise ValueError(f"{name} is a {type(header[name]).__name__}")
    names, d = header["feature_names"], header["n_features"]
    if names is not None and not (
        isinstance(names, list) and len(names) == d and all(type(name) is str for name in names)
    ):
        raise ValueError("feature_names is no list of one text per feature")
    # The clip that a correction is tried on is not to be larger than what the file holds.
    if d < 1 or not any(d in array.shape for array in arrays.values()):
        raise ValueError(f"{reprlib.repr(d)} features, of which its arrays know nothing")
    domains = arrays["domains"]
    if domains.ndim != 1 or domains.dtype.kind != "U" or len(set(domains.tolist())) < len(domains):
        raise ValueError("domains is no list of different names")


def _restored(header: Mapping[str, Any], arrays: Mapping[str, _Array]) -> Any:
    """Correction of a file, tried on one clip."""
    reader = _Reader(header, arrays)
    transform, d = reader.estimator(header), header["n_features"]
    # The maps, their share and the width come from the arrays that numpy's lines read, and from
    # nowhere else.
    domains = arrays["domains"].tolist()
    maps = {name: reader.numbered(i, d) for i, name in enumerate(domains)}
    is_affine = isinstance(transform, (DomainAwareTransform, DomainFreeTransform))
    if header["is_affine"] is not is_affine or bool(maps) is not is_affine:
        raise ValueError(f"maps of {len(maps)} domains for a {type(transform).__name__}")
    transform.n_features_in_ = d
    if header["feature_names"] is not None:
        transform.feature_names_in_ = np.array(header["feature_names"], dtype=object)
    if "alpha" in transform.get_params(deep=False):
        transform.alpha = check_alpha(float(arrays["alpha"]))
    if isinstance(transform, DomainAwareTransform):
        transform.affines_ = maps
        if transform.global_.center.shape != (d,):
            raise ValueError(f"global_ is no map of {d} features")
    elif is_affine:
        if domains != [""]:
            raise ValueError(f"a {type(transform).__name__} with maps for {len(maps)} domains")
        transform.affine_ = maps[""]
    state = vars(transform)
    if np.ndim(state.get("domains_", domains)) != 1:
        raise ValueError("domains_ is no list of names")
    if not isinstance(state.get("gate_") or {}, dict):
        raise ValueError("gate_ is no dict")
    # Whatever a file sets in place of what `fit` sets shows here, and not in somebody's work.
    columns = {"domain": np.array(domains[:1])} if transform.domain_aware else {}
    transform.transform(np.zeros((1, d)), **columns)
    return transform


def _refuse(path: Path, error: Exception) -> NoReturn:
    text = ascii(" ".join(str(error).split())[:300])[1:-1]
    raise DataError(
        f"{path} does not hold what a correction needs ({type(error).__name__}: {text}); save the "
        "correction again"
    ) from error
