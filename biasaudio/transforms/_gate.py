"""What self-training found, and the gate that decides whether to use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasaudio.errors import DataError
from biasaudio.transforms._shifts import ClassShifts

__all__ = ["FACTORS", "PseudoShifts", "decide"]

_Array = NDArray[np.float64]

FACTORS: Mapping[str, float] = {"full": 1.0, "weak": 0.1, "none": 0.0}
_MOST_SPREAD = {"full": 1.1, "weak": 0.9}
_LEAST_RECURRENCE, _FEWEST_CLASSES, _FEWEST_CLIPS = 0.4, 2, 2.0
_SURE_CONFIDENCE, _SURE_AGREEMENT = 0.9, 0.95


@dataclass(frozen=True, eq=False)
class PseudoShifts:
    """Hold what self-training found, and what the gate makes of it.

    Attributes
    ----------
    source_means, target_means : np.ndarray [shape=(k, d)]
        The mean of each class, in the target by pseudo-labels.
    source_counts, target_counts : np.ndarray [shape=(k,)]
        How many clips each mean stands on; in the target ``sum p^2`` of the
        shares p, which is how many would be right if the shares were.
    within : float
        Mean variance of a feature inside a class of one set.
    probabilities : np.ndarray [shape=(n_target, k)]
        The pseudo-labels: shares, sharpened and balanced.
    evidence : dict of str to float
        What the gate reads, and more; see `pseudo_shifts`.
    decision : {"full", "weak", "none"}
    strength_factor : float in [0, 1]
        By what to multiply the strength of the correction.
    history : tuple of dict
        For each round the ``confidence``, the ``agreement`` of both
        classifiers and the share of clips whose label ``changed``.
    """

    source_means: _Array
    target_means: _Array
    source_counts: _Array
    target_counts: _Array
    within: float
    probabilities: _Array
    evidence: dict[str, float] = field(default_factory=dict)
    decision: str = "none"
    strength_factor: float = 0.0
    history: tuple[dict[str, float], ...] = ()

    @property
    def covered(self) -> NDArray[np.bool_]:
        """Which classes have a target count of 2 or more; the others give no shift."""
        return self.target_counts >= _FEWEST_CLIPS

    def class_shifts(
        self, classes: ArrayLike | None = None, domains: tuple[Any, Any] = ("source", "target")
    ) -> ClassShifts:
        """Return the shifts in the form that labelled clips give.

        Parameters
        ----------
        classes : array_like [shape=(k,)], optional
            What the classes are called; default their numbers.
        domains : tuple of two
            What source and target are called.

        Returns
        -------
        ClassShifts
            Of the classes with a target count of 2 or more, with the
            noise of each: ``shrunk("auto")`` draws those of few confident
            clips towards the mean shift.

        Raises
        ------
        DataError
            If there is no such class.
        """
        kept = self.covered
        if not kept.any():
            raise DataError(
                "no class has two target clips that look like it, so there are no shifts; "
                "leave self-training out, or label some target clips"
            )
        names = np.arange(len(kept)) if classes is None else np.asarray(classes)
        half = (self.target_means - self.source_means)[kept] / 2
        noise = (1 / self.source_counts[kept] + 1 / self.target_counts[kept]) * self.within / 4
        return ClassShifts(
            np.stack([-half, half], axis=1).reshape(-1, half.shape[1]),
            np.repeat(noise, 2),
            np.repeat(names[kept], 2),
            np.array(list(domains) * len(half)),
            self.within,
        )


def decide(evidence: Mapping[str, float]) -> str:
    """Return what the evidence allows.

    Parameters
    ----------
    evidence : mapping of str to float
        As `pseudo_shifts` gives it.

    Returns
    -------
    {"full", "weak", "none"}
        "none" if ``recurrence < 0.4`` or ``covered < 2``.  Else, with sure
        labels (``confidence >= 0.9`` and ``agreement >= 0.95``) "full" up to
        a ``spread`` of 1.1; with others "weak" up to 0.9.
    """
    if evidence["recurrence"] < _LEAST_RECURRENCE or evidence["covered"] < _FEWEST_CLASSES:
        return "none"
    confident = evidence["confidence"] >= _SURE_CONFIDENCE
    choice = "full" if confident and evidence["agreement"] >= _SURE_AGREEMENT else "weak"
    return choice if evidence["spread"] <= _MOST_SPREAD[choice] else "none"
