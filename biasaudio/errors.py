"""The errors and the warning that biasaudio raises.

Every message says three things: the value seen, what is allowed, and what to
do next.  Catch `BiasAudioError` to catch them all.
"""

from __future__ import annotations

import sys
import warnings
from types import FrameType

__all__ = [
    "BiasAudioError",
    "BiasAudioWarning",
    "DataError",
    "ParameterError",
    "StoreError",
    "warn",
]

# Frames of these stand between the caller and us: scikit-learn's in ``fit_transform`` and in
# pipelines, those of contextlib where a context manager decorates one of our functions.
_BETWEEN = {"biasaudio", "sklearn", "contextlib"}


class BiasAudioError(Exception):
    """Root of every error that biasaudio raises on purpose."""


class ParameterError(BiasAudioError, ValueError):
    """An argument has a value, a type or a shape that is not allowed."""


class DataError(BiasAudioError, ValueError):
    """Arrays, labels or dataset files do not say what they must say."""


class StoreError(BiasAudioError, OSError):
    """An embedding store is missing, damaged or in an unknown layout."""


class BiasAudioWarning(UserWarning):
    """Something was done that the user should know about."""


def warn(message: str, category: type[Warning] = BiasAudioWarning) -> None:
    """Warn at the line of the caller's code that led here, however deep inside the package.

    A fixed ``stacklevel`` would have to know how many of our frames lie between;
    ``skip_file_prefixes`` does this from Python 3.12 on.

    Parameters
    ----------
    message : str
    category : type of Warning
    """
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _package_of(frame) in _BETWEEN:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)


def _package_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
