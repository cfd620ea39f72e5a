"""Models by name: what can be embedded with, and what it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from biasaudio._validation import check_choice, did_you_mean
from biasaudio.embed.base import AudioModel
from biasaudio.errors import ParameterError

__all__ = ["MODELS", "ModelKind", "load_model"]


class ModelKind(NamedTuple):
    """One kind of model.

    Attributes
    ----------
    spec : str
        How it is asked for.
    what : str
        What it is, in a few words.
    needs : str
        What is to be installed for it, with pip.
    """

    spec: str
    what: str
    needs: str


MODELS = {
    "melstats": ModelKind(
        "melstats",
        "105 hand-crafted features of librosa, without weights",
        "nothing more",
    ),
    "yamnet": ModelKind(
        "yamnet:FILE.tflite",
        "YAMNet with 15,600 samples as input: 1,024 dimensions",
        "biasaudio[embed]",
    ),
    "vggish": ModelKind(
        "vggish:FILE",
        "VGGish of torchvggish (.pth), or exported to .onnx or .tflite: 128 dimensions",
        "torchvggish for .pth, else biasaudio[embed]",
    ),
    "openl3": ModelKind(
        "openl3[:FILE]",
        "OpenL3 of openl3 (.h5) or torchopenl3 (.pth.tar): 512 or 6,144 dimensions",
        "torchopenl3 or openl3",
    ),
    "hear": ModelKind(
        "hear:MODULE[:FILE]",
        "any Python module that follows the HEAR API",
        "the package that has the module",
    ),
    "tflite": ModelKind(
        "tflite:FILE",
        "any exported TFLite model that takes a waveform",
        "biasaudio[embed]",
    ),
    "onnx": ModelKind(
        "onnx:FILE",
        "any exported ONNX model that takes a waveform",
        "biasaudio[embed]",
    ),
}

# Module and class; imported when the kind is asked for, so that no other is loaded.
_CLASSES = {
    "melstats": ("melstats", "LibrosaFeatures"),
    "yamnet": ("tflite", "YAMNet"),
    "vggish": ("vggish", "VGGish"),
    "openl3": ("openl3", "OpenL3"),
    "hear": ("hear", "HearModel"),
    "tflite": ("tflite", "TFLiteModel"),
    "onnx": ("onnx", "ONNXModel"),
}


def load_model(spec: str, **options: Any) -> AudioModel:
    """Make a model from a short text, as the command line takes it.

    Parameters
    ----------
    spec : str
        The kind and, behind a colon, the path of its weights: one of the
        `spec` in `MODELS`.
    **options
        Keywords of the class of this kind.

    Returns
    -------
    AudioModel

    Raises
    ------
    DataError
        If weights are absent or not those of such a model.
    ParameterError
        If the kind or an option is not known, something is missing, or a
        package is not installed.

    Examples
    --------
    >>> load_model("melstats", sample_rate=16000)
    LibrosaFeatures(sample_rate=16000, frame_seconds=0.5)
    """
    # At the first colon only: a path may have another one, behind the letter of a drive.
    kind, colon, rest = str(spec).partition(":")
    usage = MODELS[check_choice(kind, "model", list(MODELS))].spec
    module, name = _CLASSES[kind]
    make: Callable[..., AudioModel] = getattr(import_module(f"biasaudio.embed.{module}"), name)
    parameters = inspect.signature(make).parameters.values()
    allowed = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    places = [each.default for each in parameters if each.kind is not each.KEYWORD_ONLY]
    given = rest.split(":", len(places) - 1) if colon and places else [rest] * bool(colon)
    if "" in given or not places.count(inspect.Parameter.empty) <= len(given) <= len(places):
        raise ParameterError(f"model={spec!r} does not say what it must; write {usage}")
    for option in options:
        if option not in allowed:
            takes = ", ".join(allowed) or "none"
            raise ParameterError(
                f"{kind} has no option {option!r}; it takes {takes}{did_you_mean(option, allowed)}"
            )
    return make(*given, **options)
