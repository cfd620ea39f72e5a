"""The split into training and test clips: the datasets' own, or one drawn by group."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio._audit.labels import classes
from biasaudio._validation import check_groups_do_not_straddle
from biasaudio.datasets import ClipTable
from biasaudio.errors import DataError
from biasaudio.probes.splits import assign_parts

__all__ = ["choose_split"]

# One group in this many is a test group.
TEST_SHARE = 3


def choose_split(clips: ClipTable, seed: int) -> tuple[NDArray[np.bool_], str]:
    """Return the training clips: by the given split, else drawn by group."""
    split, dataset = np.char.lower(clips.split.astype(str)), clips.dataset
    is_train = split == "train"
    drawn = []
    for name in clips.datasets:
        rows = np.flatnonzero(dataset == name)
        if _is_given(split[rows], name):
            check_groups_do_not_straddle(clips.group[rows], split[rows], what=f"split of {name!r}")
            continue
        drawn.append(name)
        n_groups = len(np.unique(clips.group_id[rows]))
        if n_groups < TEST_SHARE:
            raise DataError(
                f"dataset {name!r} has {n_groups} group(s) of clips, fewer than the {TEST_SHARE} "
                "that a training and a test part need; add clips, or give them a split"
            )
        strata = np.unique(classes(clips)[rows], return_inverse=True)[1]
        part = assign_parts(
            clips.group_id[rows],
            np.zeros(len(rows), dtype=np.intp),
            strata,
            TEST_SHARE,
            np.random.default_rng(seed),
            np.array([name]),
        )
        is_train[rows] = part > 0
    if not drawn:
        return is_train, "The split into training and test clips is the datasets' own."
    return is_train, (
        f"{' and '.join(drawn)} came without a complete train/test split: a third of the groups "
        f"was drawn as test set, stratified by class (seed {seed})."
    )


def _is_given(split: NDArray[Any], dataset: str) -> bool:
    """Say whether a dataset brings its own split; half of one is an error."""
    values, counts = np.unique(split.astype(str), return_counts=True)
    if not {"train", "test"} <= set(values):
        return False
    found = zip(values.tolist(), counts.tolist())
    other = [f"{v or 'blank'!r}: {n}" for v, n in found if v not in ("train", "test")]
    if other:
        raise DataError(
            f"dataset {dataset!r} has train and test clips and others ({', '.join(other)} clips); "
            "mark every clip 'train' or 'test', or none, or have it drawn with split='drawn'"
        )
    return True
