"""The errors and the warning that biasaudio raises.

Every message says three things: the value seen, what is allowed, and what to
do next.  Catch `BiasAudioError` to catch them all.
"""

__all__ = [
    "BiasAudioError",
    "BiasAudioWarning",
    "DataError",
    "ParameterError",
    "StoreError",
]


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
