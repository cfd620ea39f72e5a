"""Which labels can be compared, and which clips say something about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio._validation import did_you_mean, name_some
from biasaudio.datasets import ClipTable
from biasaudio.errors import DataError, ParameterError

__all__ = [
    "FEWEST_GROUPS",
    "check_labels",
    "classes",
    "keep",
    "lacking_anywhere",
    "lacking_in_parts",
    "related",
    "some_reasons",
]

# With fewer groups than this on a side, an ROC-AUC says next to nothing.
FEWEST_GROUPS = 3


def check_labels(labels: str | Sequence[str] | None, clips: ClipTable) -> list[str] | None:
    """Return the labels as a list, each of them known; None stays None."""
    if labels is None:
        return None
    names = [labels] if isinstance(labels, str) else list(labels)
    for name in names:
        if name not in clips.label_names:
            known = name_some(clips.label_names, 30)
            there = f"choose among {known}" if known else "the clips have no labels"
            raise ParameterError(
                f"label {name!r} is not known; {there}{did_you_mean(name, clips.label_names)}"
            )
    return names


def lacking_anywhere(clips: ClipTable) -> dict[str, str]:
    """Return for each label what it lacks in a dataset, "" if nothing."""
    found = {}
    for name in clips.label_names:
        truth, mask = clips.labels[name].to_numpy(), clips.mask[name].to_numpy()
        lacking = []
        for dataset in clips.datasets:
            inside = clips.dataset == dataset
            sides = {"positives": truth & inside, "negatives": mask & ~truth & inside}
            absent = [what for what, rows in sides.items() if not rows.any()]
            if len(absent) == 2:
                absent = ["annotated clips"]
            lacking += [f"no {what} in {dataset!r}" for what in absent]
        found[name] = "; ".join(lacking)
    return found


def lacking_in_parts(clips: ClipTable, is_train: NDArray[np.bool_]) -> dict[str, str]:
    """Return for each label which part of which dataset has too few groups, "" if none."""
    found = {}
    for name in clips.label_names:
        truth, mask = clips.labels[name].to_numpy(), clips.mask[name].to_numpy()
        lacking = []
        for dataset in clips.datasets:
            for part, inside in (("training", is_train), ("test", ~is_train)):
                rows = inside & (clips.dataset == dataset) & mask
                for what, there in (("positive", rows & truth), ("negative", rows & ~truth)):
                    n = len(np.unique(clips.group_id[there]))
                    if n < FEWEST_GROUPS:
                        where = f"among the {part} clips of {dataset!r}"
                        lacking.append(f"{n} {what} group(s) {where}, fewer than {FEWEST_GROUPS}")
        found[name] = lacking[0] if lacking else ""
    return found


def keep(
    lacking: Mapping[str, str], asked: Sequence[str] | None, excluded: list[dict[str, str]]
) -> list[str]:
    """Return the labels that lack nothing.

    Parameters
    ----------
    lacking : mapping of str to str
        What each label lacks.
    asked : sequence of str, optional
        The labels that the user named.
    excluded : list of dict
        Gets the labels that are left out, unless the user named others.

    Returns
    -------
    list of str

    Raises
    ------
    DataError
        If a label that the user named lacks something.
    """
    for name, why in lacking.items():
        if why and asked is None:
            excluded.append({"what": f"label {name}", "why": why})
        elif why and name in (asked or ()):
            raise DataError(f"label {name!r} has {why}; leave it out of labels, or add such clips")
    return [name for name, why in lacking.items() if not why]


def some_reasons(lacking: Mapping[str, str], limit: int = 3) -> str:
    """Return in words what the first few labels lack, and how many more there are."""
    found = [f"{name!r} has {why}" for name, why in lacking.items() if why]
    more = [f"and {len(found) - limit} more labels"] if len(found) > limit else []
    return ", ".join([*found[:limit], *more])


def related(clips: ClipTable) -> NDArray[np.bool_]:
    """Return which clips say something about the labels.

    A clip that is known for sure to have none of them, such as a banjo note
    where the datasets share no banjo, would make the datasets look different
    for what they hold and not for how they sound.
    """
    if not clips.label_names:
        return np.ones(len(clips), dtype=bool)
    truth, mask = clips.labels.to_numpy(dtype=bool), clips.mask.to_numpy(dtype=bool)
    has_none = mask.all(axis=1) & ~truth.any(axis=1)
    return np.asarray(mask.any(axis=1) & ~has_none, dtype=bool)


def classes(clips: ClipTable) -> NDArray[Any]:
    """Return one class a clip: its only positive label, or the rarest of several."""
    truth = clips.labels.to_numpy(dtype=bool)
    if not truth.shape[1]:
        return np.full(len(clips), "")
    rarity = np.argsort(np.argsort(truth.sum(axis=0), kind="stable"), kind="stable")
    rank = np.where(truth, rarity, len(rarity))
    names = np.array([*clips.label_names, ""])
    return np.where(truth.any(axis=1), names[rank.argmin(axis=1)], "")
