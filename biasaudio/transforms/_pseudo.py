"""Class shifts of one domain without labels, from pseudo-labels behind a gate."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasaudio.errors import BiasAudioWarning, DataError
from biasaudio.transforms._labelled import Labelled
from biasaudio.transforms._shifts import ClassShifts

__all__ = ["guessed_shifts"]

_Floats = NDArray[np.floating[Any]]


def guessed_shifts(
    X: _Floats,
    domain: NDArray[Any],
    found: Labelled,
    groups: ArrayLike | None,
    strength: float,
    seed: int,
) -> tuple[ClassShifts, float, dict[str, Any]]:
    """Return the shifts, by what to multiply the strength, and what the gate saw.

    Raises
    ------
    DataError
        If there is not one domain with labels and one without, or a clip of
        the first has several classes or none.
    """
    from biasaudio.transforms.selftrain import pseudo_shifts

    names = np.unique(domain)
    labelled = np.unique(found.domain)
    if len(names) != 2 or len(labelled) != 1:
        raise DataError(
            f"labels='pseudo' needs one domain with labels and one without, but {len(labelled)} of "
            f"{len(names)} have labels; give the target's clips the label ''"
        )
    if len(np.unique(found.rows)) != len(found.rows):
        raise DataError(
            "labels='pseudo' needs one class a clip, but some have several; leave these clips out"
        )
    if groups is not None:
        groups = np.asarray(groups)[found.rows]
    classes, codes = np.unique(found.label, return_inverse=True)
    if len(classes) < 2:
        raise DataError(
            f"labels='pseudo' needs two classes or more in the labelled domain, and it has "
            f"{str(classes[0])!r} only; give labels of other classes too"
        )
    target = X[domain != labelled[0]]
    guess = pseudo_shifts(found.X, codes, target, groups, strength=strength, random_state=seed)
    if guess.decision == "none":
        seen = ", ".join(f"{name} {value:.2f}" for name, value in guess.evidence.items())
        warnings.warn(
            f"labels='pseudo' abstains: the evidence ({seen}) does not allow a correction, so "
            "vectors stay as they are; label some target clips",
            BiasAudioWarning,
            stacklevel=4,
        )
    if guess.decision != "none" and guess.covered.any():
        other = names[names != labelled[0]][0]
        shifts = guess.class_shifts(classes, (labelled[0], other))
    else:
        none = np.array([], dtype=str)
        shifts = ClassShifts(np.zeros((0, X.shape[1])), np.zeros(0), none, none, guess.within)
    evidence = {name: float(value) for name, value in guess.evidence.items()}
    gate = {"decision": guess.decision, "strength_factor": float(guess.strength_factor)}
    return shifts, float(guess.strength_factor), gate | {"evidence": evidence}
