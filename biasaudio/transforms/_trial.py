"""A correction from a file is looked at, and tried on one clip, before it is given out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio.transforms._affine import Affine

__all__ = ["check_header", "try_out"]

_KINDS: dict[str, type] = {
    "biasaudio": str,
    "saved": str,
    "class": str,
    "parameters": dict,
    "attributes": dict,
    "is_affine": bool,
    "n_features": int,
}


def check_header(header: Mapping[str, Any]) -> None:
    """Refuse a header with a member that is absent or of another type.

    Raises
    ------
    KeyError, ValueError
        With the member.
    """
    for name, kind in _KINDS.items():
        if type(header[name]) is not kind:
            raise ValueError(f"{name} is a {type(header[name]).__name__}")
    names = header["feature_names"]
    if names is not None and not (
        isinstance(names, list)
        and len(names) == header["n_features"]
        and all(isinstance(name, str) for name in names)
    ):
        raise ValueError("feature_names is no list of one text a feature")


def try_out(transform: Any, header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Refuse a correction that cannot transform a clip.

    Whatever a file set in it in place of what ``fit`` sets shows here, and not
    later in the middle of somebody's work.

    Raises
    ------
    ValueError
        With what is wrong; other errors come from the correction itself.
    """
    state, d = vars(transform), header["n_features"]
    # The clip is not to be larger than what the file holds.
    if state.get("n_features_in_") != d or not any(d in a.shape for a in arrays.values()) or d < 1:
        raise ValueError(f"{d} features, of which its arrays know nothing")
    maps = dict(state.get("affines_", {}))
    for affine in (*maps.values(), *(state[key] for key in ("affine_", "global_") if key in state)):
        if not isinstance(affine, Affine) or affine.center.shape != (d,):
            raise ValueError(f"a map that is not one of {d} features")
    if np.ndim(state.get("domains_", maps)) != ("domains_" in state):
        raise ValueError("domains_ is no list of names")
    if not isinstance(state.get("gate_") or {}, dict):
        raise ValueError("gate_ is no dict")
    if (transform.domain_aware and not maps) or not all(isinstance(name, str) for name in maps):
        raise ValueError("no maps for domains, or for one that is no text")
    columns = {"domain": np.array(list(maps)[:1])} if transform.domain_aware else {}
    with np.errstate(all="ignore"):
        transform.transform(np.zeros((1, d)), **columns)
