"""Which corrections the clips of an audit allow, and what they are fitted with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio._audit.prepare import Prepared
from biasaudio.errors import DataError
from biasaudio.transforms._base import SMALLEST_CELL
from biasaudio.transforms.methods import Method

__all__ = ["fit_columns", "usable_methods"]


def usable_methods(
    prepared: Prepared,
    methods: Sequence[Method],
    *,
    asked: bool,
    modes: Sequence[str] = ("global",),
    protocol: str = "default",
) -> list[Method]:
    """Return the methods whose needs the clips meet.

    Parameters
    ----------
    prepared : Prepared
        Gets a note about each method that is left out.
    methods : sequence of Method
    asked : bool
        Whether the user named them; then a need that is not met raises.
    modes : sequence of {"global", "classwise"}
    protocol : {"default", "wang2023"}

    Returns
    -------
    list of Method

    Raises
    ------
    DataError
        If a method that was asked for cannot be used.
    """
    if len(prepared.clips.datasets) < 2 and not asked:
        return []
    kept = []
    for method in methods:
        why = _why_not(prepared, method, modes, protocol)
        if why and asked:
            raise DataError(f"method {method.name!r} cannot be used: {why}; leave it out")
        if why:
            prepared.excluded.append({"what": f"method {method.name}", "why": why})
        else:
            kept.append(method)
    return kept


def fit_columns(
    prepared: Prepared, method: Method, rows: NDArray[np.intp]
) -> dict[str, NDArray[Any]]:
    """Return the keywords of ``fit`` beside ``domain`` that a method uses, of these clips."""
    clips = prepared.clips
    known = {
        "genre": clips.genre.astype(str),
        "label": prepared.classes,
        "groups": clips.group_id,
    }
    wanted = (*method.needs, *method.takes)
    return {name: column[rows] for name, column in known.items() if name in wanted}


def _why_not(prepared: Prepared, method: Method, modes: Sequence[str], protocol: str) -> str:
    if len(prepared.clips.datasets) < 2:
        return f"there is one dataset only, {prepared.clips.datasets[0]!r}, and it needs two"
    if "label" in method.needs and not prepared.has_classes:
        return "it needs the class of each clip, and there are no labels that the datasets share"
    if not set(modes) & set(method.modes):
        return "it compares classes, and mode classwise fits on one alone: use mode global"
    if method.is_per_target and protocol == "wang2023":
        return "it is fitted for one target at a time: use protocol default"
    # The published code goes on with what there is, and compat mode does the same.
    if "genre" not in method.needs or (protocol == "wang2023" and prepared.has_genres):
        return ""
    few = _few_genres(prepared, prepared.is_train)
    if few or "classwise" not in modes:
        return few
    for name in prepared.clips.label_names:
        has_label = prepared.clips.labels[name].to_numpy(dtype=bool)
        few = _few_genres(prepared, prepared.is_train & has_label)
        if few:
            return f"in mode classwise, for label {name!r}, {few}"
    return ""


def _few_genres(prepared: Prepared, rows: NDArray[np.bool_]) -> str:
    """Say why genres cannot be compared on these clips, or nothing."""
    genre, dataset = prepared.clips.genre[rows], prepared.clips.dataset[rows]
    for name in prepared.clips.datasets:
        found = sorted(set(genre[dataset == name]) - {""})
        if len(found) < 2:
            what = f"a single genre, {found[0]!r}" if found else "no known genre"
            return f"dataset {name!r} has {what}, and it needs two"
    shared = [
        name
        for name in sorted(set(genre) - {""})
        if min(((genre == name) & (dataset == d)).sum() for d in prepared.clips.datasets)
        >= SMALLEST_CELL
    ]
    if len(shared) < 2:
        return (
            f"it needs two genres with {SMALLEST_CELL} training clips in every dataset, and "
            f"there {'is one' if shared else 'is none'}"
        )
    return ""
