"""A fitted linear correction as a torch module, or as an ONNX file."""

from __future__ import annotations

import functools
import importlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from biasaudio._files import replacing
from biasaudio._validation import check_choice
from biasaudio.errors import DataError, ParameterError
from biasaudio.transforms._affine import Affine

__all__ = ["to_onnx", "to_torch"]

# Sub, MatMul, Mul and Add have been as they are since opset 14; runtimes of 2021 read it.
OPSET, IR_VERSION = 14, 7


def to_torch(transform: Any, domain: object = None) -> Any:
    """Fitted linear correction as a ``torch.nn.Module``.

    Parameters
    ----------
    transform : estimator
        A fitted correction; ``alpha`` is included.
    domain : str or int, optional
        Of the vectors that the module will get; needed for a domain-aware
        correction, and only there.

    Returns
    -------
    torch.nn.Module
        Takes float vectors (..., d) and gives the same shape and dtype.  Its
        arrays are buffers: they move with ``.to(device)``, are in
        ``state_dict`` and are not trained; gradients flow through.

    Raises
    ------
    ParameterError
        If torch is not installed, the correction is not fitted or not linear,
        or the domain is missing or not needed.
    DataError
        If the domain was not seen in fit and ``unseen="raise"``.

    Notes
    -----
    The buffers are float64 and are cast to the dtype of the input, half
    precision being computed in float32.  For a device without float64, call
    ``.float()`` on the module before ``.to(device)``.
    """
    affine = _affine(transform, domain)
    _need("torch", "to_torch")
    return _module_class()(affine)


def to_onnx(
    transform: Any,
    path: str | os.PathLike[str],
    domain: object = None,
    *,
    dtype: str = "float32",
) -> Path:
    """Write a fitted linear correction as an ONNX file.

    Parameters
    ----------
    transform : estimator
        A fitted correction; ``alpha`` is included.
    path : path-like
        A file that is there is replaced, in one step.
    domain : str or int, optional
        Of the vectors that the graph will get; needed for a domain-aware
        correction, and only there.
    dtype : {"float32", "float64"}
        Of its input ``X`` (n, d), its output ``corrected`` (n, d) and its
        arrays; n is free.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    ParameterError
        If onnx is not installed, the correction is not fitted or not linear,
        or the domain is missing or not needed.
    DataError
        If the domain was not seen in fit and ``unseen="raise"``, or the file
        cannot be written.
    """
    check_choice(dtype, "dtype", ("float32", "float64"))
    affine = _affine(transform, domain)
    onnx = _need("onnx", "to_onnx")
    arrays = _arrays(affine, np.dtype(dtype))
    nodes = [("Sub", ("X", "center"), "centered")]
    terms = ["X", "offset"]
    if affine.rank:
        nodes.append(("MatMul", ("centered", "down"), "read"))
        if affine.up is not None:
            nodes.append(("MatMul", ("read", "up"), "change"))
        terms.append("read" if affine.up is None else "change")
    if affine.gain is not None:
        nodes.append(("Mul", ("centered", "gain"), "scaled"))
        terms.append("scaled")
    # The small terms first: added to large vectors one by one, each would be rounded.
    total = terms[1]
    for i, term in enumerate([*terms[2:], terms[0]]):
        is_last = term == "X"
        total_after = "corrected" if is_last else f"sum_{i}"
        nodes.append(("Add", (term, total), total_after))
        total = total_after
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    shape = ["n", len(affine.center)]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(name, inputs, [output]) for name, inputs, output in nodes],
        type(transform).__name__,
        [onnx.helper.make_tensor_value_info("X", kind, shape)],
        [onnx.helper.make_tensor_value_info("corrected", kind, shape)],
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opset = onnx.helper.make_opsetid("", OPSET)
    model = onnx.helper.make_model(
        graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="biasaudio"
    )
    onnx.checker.check_model(model, full_check=True)
    path = Path(path)
    with replacing(path, error=DataError) as partial:
        partial.write_bytes(model.SerializeToString())
    return path


def _affine(transform: Any, domain: object) -> Affine:
    """Map to be exported."""
    name = type(transform).__name__
    try:
        check_is_fitted(transform)
        maps = transform.to_affine()
    except NotFittedError:
        raise ParameterError(f"this {name} is not fitted; call fit before it is exported") from None
    except (AttributeError, TypeError) as error:
        raise ParameterError(
            f"{name} is not a fitted linear correction of biasaudio.transforms; only such a one "
            "can be exported"
        ) from error
    if isinstance(maps, Affine):
        if domain is not None:
            raise ParameterError(
                f"domain={domain!r} was given, but {name} treats all domains alike; leave it out"
            )
        return maps
    if domain is None:
        raise ParameterError(
            f"{name} has one map per domain; say which one with domain=..., among {list(maps)}"
        )
    return maps[str(domain)] if str(domain) in maps else transform._unseen(str(domain))


def _need(package: str, what: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ParameterError(
            f"{what} needs {package}, which cannot be imported here; run: python -m pip install "
            f"{package}"
        ) from error


def _arrays(affine: Affine, dtype: np.dtype[Any]) -> dict[str, NDArray[Any]]:
    """Arrays that are used, in a dtype; what rounding the center loses is made good."""
    center = affine.center.astype(dtype)
    lost = center.astype(np.float64)[None, :]
    offset = affine(lost)[0] - lost[0]
    parts: dict[str, Any] = {"center": center, "offset": offset, "gain": affine.gain}
    if affine.rank:
        parts |= {"down": affine.down, "up": affine.up}
    return {
        name: np.ascontiguousarray(array, dtype=dtype)
        for name, array in parts.items()
        if array is not None
    }


@functools.cache
def _module_class() -> Any:
    """Class of the modules, which can be made only where torch is."""
    torch = importlib.import_module("torch")

    class TorchCorrection(torch.nn.Module):  # type: ignore[name-defined]
        """Apply ``x + (x - center) * gain + ((x - center) @ down) @ up + offset``."""

        def __init__(self, affine: Affine) -> None:
            super().__init__()
            arrays = _arrays(affine, np.dtype(np.float64))
            self.down = self.up = self.gain = None
            for name, array in arrays.items():
                # A buffer that is None is more than torch.export can take.
                self.__dict__.pop(name, None)
                self.register_buffer(name, torch.tensor(array))

        def extra_repr(self) -> str:
            """Width and rank, for print."""
            rank = 0 if self.down is None else self.down.shape[1]
            return f"n_features={len(self.center)}, rank={rank}"

        def forward(self, X: Any) -> Any:
            """Corrected vectors (..., d), in the dtype of X."""
            if X.shape[-1] != len(self.center):
                raise DataError(
                    f"X has {X.shape[-1]} features, but {len(self.center)} were seen in fit; use "
                    "vectors of the same embedding"
                )
            dtype = torch.float64 if X.dtype == torch.float64 else torch.float32
            wide = X.to(dtype)
            Z = wide - self.center.to(dtype)
            change = self.offset.to(dtype)
            if self.down is not None:
                read = Z @ self.down.to(dtype)
                change = change + (read if self.up is None else read @ self.up.to(dtype))
            if self.gain is not None:
                change = change + Z * self.gain.to(dtype)
            return (wide + change).to(X.dtype)

    TorchCorrection.__module__, TorchCorrection.__qualname__ = __name__, "TorchCorrection"
    return TorchCorrection


def __getattr__(name: str) -> Any:
    """Give the class to pickle, which looks for it here."""
    if name == "TorchCorrection":
        return _module_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
