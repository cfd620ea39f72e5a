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

import json
import os
import reprlib
from collections.abc import Mapping
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from biasaudio._validation import check_alpha
from biasaudio.errors import DataError, ParameterError
from biasaudio.transforms._affine import Affine
from biasaudio.transforms._archive import digest, read_arrays, write_arrays
from biasaudio.transforms._state import Reader, Writer
from biasaudio.transforms._trial import check_header, try_out

__all__ = ["check_path", "load", "read_header", "save"]

FORMAT_NAME = "biasaudio-correction"
FORMAT_VERSION = 1
SUFFIX = ".npz"
# Of 4 bytes a character; as JSON it takes 20 times as much.
_LONGEST_HEADER = 2**24
# What a file of a stranger can lead to.
_UNFIT = (
    *(LookupError, TypeError, ValueError, AttributeError, ArithmeticError),
    *(RuntimeError, MemoryError),
)


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
        If the correction is not fitted, or not one of ours, or the path ends
        otherwise.
    DataError
        If the file cannot be written.

    See Also
    --------
    load : Gives the same correction back.

    Notes
    -----
    Parameters and fitted attributes are kept to the bit, so the loaded
    correction does exactly what the saved one did.  Dropped are the moments
    that ``partial_fit`` gathers, whose size is that of the covariances, and
    what ``set_output`` was told: a loaded correction transforms, and does not
    take in more clips.

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
    writer = Writer()
    # First, because it also refuses what is not a correction.
    maps = _maps(transform)
    for i, affine in enumerate(maps.values()):
        writer.name_affine(affine, str(i))
    names = getattr(transform, "feature_names_in_", None)
    header: dict[str, Any] = {
        "format": FORMAT_NAME,
        "format_version": FORMAT_VERSION,
        "biasaudio": _version(),
        "saved": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        **writer.estimator(transform),
        "is_affine": bool(maps),
        "n_features": int(transform.n_features_in_),
        "feature_names": None if names is None else [str(name) for name in names],
    }
    arrays: dict[str, NDArray[Any]] = {
        "alpha": np.array(check_alpha(getattr(transform, "alpha", 1.0))),
        "domains": np.array(list(maps), dtype=np.str_),
        **writer.arrays,
    }
    header["sha256"] = digest(header, arrays)
    write_arrays(path, {"header": np.array(json.dumps(header)), **arrays})
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
    header, arrays = _read(Path(path))
    reader = Reader(arrays, header["biasaudio"])
    try:
        transform = reader.estimator(header)
        try_out(transform, header, arrays)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except _UNFIT as error:
        raise _damaged(Path(path), error) from error
    return transform


def read_header(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what a saved correction says of itself, without making it.

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
    try:
        return header | {"domains": arrays["domains"].tolist()}
    except KeyError as error:
        raise _damaged(Path(path), error) from error


def check_path(path: str | os.PathLike[str]) -> Path:
    """Return the path, if a correction may be saved there.

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


def _maps(transform: Any) -> Mapping[str, Affine]:
    """Return the map of each domain, of all under the name "", without ``alpha``."""
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


def _read(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the header and all arrays of a file, once all checks have passed."""
    arrays = read_arrays(path)
    try:
        text = arrays["header"]
        if text.ndim or text.dtype.kind != "U" or text.nbytes > _LONGEST_HEADER:
            raise ValueError("it has no header")
        header = json.loads(str(text[()]))
        name, found = header["format"], header["format_version"]
        writer = str(header.get("biasaudio"))[:40]
    except _UNFIT:
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
            f"{path} has format version {found}, written by biasaudio {writer}; "
            f"this one reads up to {FORMAT_VERSION}, so update biasaudio"
        )
    try:
        is_right = header.get("sha256") == digest(header, arrays)
        check_header(header)
    except _UNFIT as error:
        raise _damaged(path, error) from error
    if not is_right:
        raise DataError(
            f"{path} does not have the contents that its checksum says; copy it or save the "
            "correction again"
        )
    return header, arrays


def _damaged(path: Path, error: Exception) -> DataError:
    text = " ".join(str(error).split())[:300]
    return DataError(
        f"{path} does not hold what a correction needs ({type(error).__name__}: {text}); save the "
        "correction again"
    )
