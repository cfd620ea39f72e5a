"""What a module that follows the HEAR API has, and how to talk to it."""

from __future__ import annotations

import hashlib
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio._validation import check_choice
from biasaudio.embed._windows import find_weights, one_line, sha256_of
from biasaudio.embed.base import FOREIGN_ERRORS
from biasaudio.errors import ParameterError

__all__ = [
    "as_array",
    "call_function",
    "choose_frames",
    "hash_weights",
    "import_code",
    "is_torch",
]

_FRAMES = ("timestamp", "scene")


def hash_weights(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents in a folder."""
    if not path.is_dir():
        return sha256_of(find_weights(path))
    digest = hashlib.sha256()
    for file in sorted(each for each in path.rglob("*") if each.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_of(file)}\n".encode())
    return digest.hexdigest()


def import_code(module: str) -> ModuleType:
    """Return a module, or say how to make it one that can be imported."""
    if not isinstance(module, str) or not all(part.isidentifier() for part in module.split(".")):
        raise ParameterError(
            f"module={module!r} is not the name of a Python module; give it as one imports it, "
            "for example hear21passt.base"
        )
    try:
        return import_module(module)
    except ImportError as error:
        missing = getattr(error, "name", None)
        if missing and f"{module}.".startswith(f"{missing}."):
            # Not "pip install": a stranger may have published something of that name.
            raise ParameterError(
                f"there is no module {missing!r} to import; install the package that has it, or "
                "name the folder it is in: PYTHONPATH=FOLDER biasaudio extract ..."
            ) from error
        raise ParameterError(
            f"module {module!r} cannot be imported ({one_line(error)}); install what it needs"
        ) from error
    except (*FOREIGN_ERRORS, SyntaxError) as error:
        raise ParameterError(
            f"module {module!r} fails when it is imported ({one_line(error)}); mend it"
        ) from error


def choose_frames(code: ModuleType, module: str, frames: str | None) -> str:
    """Return which embeddings to take of those that a module has."""
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


def is_torch(code: ModuleType, model: Any) -> bool:
    """Return whether a module works with PyTorch, which this does not import."""
    torch = sys.modules.get("torch")
    if torch is None:
        return False
    named = (torch, torch.Tensor, torch.nn)
    return isinstance(model, torch.nn.Module) or any(
        value is each for value in vars(code).values() for each in named
    )


def call_function(function: Any, wave: NDArray[np.float32], code: ModuleType, model: Any) -> Any:
    """Return what a function of the module gives for one waveform."""
    if not is_torch(code, model):
        return function(wave, model)
    torch = sys.modules["torch"]
    parameters = getattr(model, "parameters", list)
    device = next((each.device for each in parameters()), "cpu")
    with torch.no_grad():
        return function(torch.tensor(wave, device=device), model)


def as_array(given: Any) -> NDArray[Any]:
    """Return an array of what PyTorch, TensorFlow or numpy made."""
    if hasattr(given, "detach"):
        given = given.detach().cpu()
    return np.asarray(given.numpy() if hasattr(given, "numpy") else given)
