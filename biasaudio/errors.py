"""The errors and the warning that biasaudio raises.

Every message says three things: the value seen, what is allowed, and what to
do next.  Catch `BiasAudioError` to catch them all.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

__all__ = [
    "BiasAudioError",
    "BiasAudioWarning",
    "DataError",
    "ParameterError",
    "StoreError",
    "warn",
]

_PACKAGE = str(Path(__file__).parent)


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
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
