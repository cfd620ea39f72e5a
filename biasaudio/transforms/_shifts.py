"""What one class changes between domains: its shifts, from moments."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasaudio._validation import check_categories
from biasaudio.errors import DataError
from biasaudio.moments import Cell

__all__ = ["ClassShifts", "class_shifts", "read_labels"]

_Array = NDArray[np.float64]


def read_labels(label: ArrayLike, n: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return the classes, and which clip is of which class.

    Parameters
    ----------
    label : array_like [shape=(n,) or (n, n_labels)]
        Categories, "" where the class is not known; or bools, where a clip
        may be of several classes.
    n : int

    Returns
    -------
    classes : np.ndarray [shape=(k,)]
        The categories, or the numbers of the columns that have clips.
    Y : np.ndarray of bool [shape=(n, k)]

    Raises
    ------
    DataError
        If the length differs, or no clip has a class.
    """
    array = np.asarray(label)
    if array.ndim == 2:
        is_binary = array.dtype == bool or (
            array.dtype.kind in "iu" and np.isin(array, (0, 1)).all()
        )
        if len(array) != n or not is_binary:
            raise DataError(
                f"label has shape {array.shape} and dtype {array.dtype}, but X has {n} clips; give "
                "one class a clip, or a bool array of shape (n_clips, n_labels)"
            )
        Y = array.astype(bool)
        classes: NDArray[Any] = np.arange(Y.shape[1])
    else:
        classes, codes = check_categories(array, "label", n)
        Y = codes[:, None] == np.arange(len(classes))
    kept = Y.any(axis=0) & np.array([str(name) != "" for name in classes])
    if not kept.any():
        raise DataError("no clip has a class; give label a class for some clips of each domain")
    return classes[kept], Y[:, kept]


@dataclass(frozen=True)
class ClassShifts:
    """Hold how the class means of each domain differ from the class's centre.

    Attributes
    ----------
    shifts : np.ndarray [shape=(m, d)]
        A row for each class that has clips in two domains or more, and each
        of these domains: the domain's class mean less the centre, which is
        the mean of the class's domain means.
    noise : np.ndarray [shape=(m,)]
        What the sampling of clips adds to the mean square of a shift.
    classes, domains : np.ndarray [shape=(m,)]
        The class and the domain of each row.
    within : float
        Mean variance of a feature inside a cell of class and domain.
    """

    shifts: _Array
    noise: _Array
    classes: NDArray[Any]
    domains: NDArray[Any]
    within: float

    @property
    def n_classes(self) -> int:
        """How many classes gave shifts."""
        return len(np.unique(self.classes))

    def axes(self) -> tuple[_Array, _Array]:
        """Return the sizes of the shifts along orthonormal directions, and these."""
        _, sizes, basis = np.linalg.svd(self.shifts, full_matrices=False)
        kept = sizes > 1e-10 * max(sizes.max(initial=0.0), np.finfo(float).tiny)
        return sizes[kept], basis[kept]

    def shrunk(self, shrinkage: float | str) -> ClassShifts:
        """Return these shifts drawn towards the mean shift of their domain.

        Parameters
        ----------
        shrinkage : float in [0, 1] or "auto"
            The weight of the mean shift.  "auto" weighs every class by its
            own noise: ``v / (v + t)`` with the noise v and the spread t of
            the true shifts, estimated as the mean square about the mean
            shift less what noise adds to it (empirical Bayes).

        Returns
        -------
        ClassShifts
        """
        if not len(self.shifts):
            return self
        _, codes = np.unique(self.domains, return_inverse=True)
        onehot = np.eye(codes.max() + 1)[codes]
        counts = onehot.sum(axis=0)
        mean = (onehot / counts).T @ self.shifts
        rest = self.shifts - mean[codes]
        free = float(np.sum(counts - 1))
        if shrinkage != "auto" or free == 0:
            weight = np.full(len(rest), 0.0 if shrinkage == "auto" else float(shrinkage))
        else:
            expected = float(np.sum((1 - 1 / counts[codes]) * self.noise))
            spread = max((float(np.mean(rest**2, axis=1).sum()) - expected) / free, 0.0)
            weight = self.noise / np.maximum(self.noise + spread, np.finfo(float).tiny)
        return replace(self, shifts=mean[codes] + (1 - weight)[:, None] * rest)

    def centred(self) -> ClassShifts:
        """Return these shifts less the mean shift of their domain.

        With one class alone there is nothing else, so it stays.
        """
        if self.n_classes < 2:
            return self
        _, codes = np.unique(self.domains, return_inverse=True)
        onehot = np.eye(codes.max() + 1)[codes]
        counts = onehot.sum(axis=0)
        mean = (onehot / counts).T @ self.shifts
        noise = self.noise * (1 - 1 / counts[codes])
        return replace(self, shifts=self.shifts - mean[codes], noise=noise)


def class_shifts(cells: Mapping[tuple[Hashable, ...], Cell]) -> ClassShifts:
    """Return the shifts, from cells of (domain, class).

    Parameters
    ----------
    cells : mapping of (domain, class) to Cell
        Variances are enough.

    Returns
    -------
    ClassShifts

    Raises
    ------
    DataError
        If no class has clips in two domains.
    """
    by_class: dict[Hashable, dict[Hashable, Cell]] = {}
    for (domain, label), cell in sorted(cells.items(), key=lambda item: [str(k) for k in item[0]]):
        by_class.setdefault(label, {})[domain] = cell
    paired = {label: found for label, found in by_class.items() if len(found) > 1}
    if not paired:
        raise DataError(
            "no class has clips in two domains, so nothing tells how a class differs between them; "
            "give labels that the domains share, or use LEACE, which needs none"
        )
    within = _within(list(cells.values()))
    shifts, noise, classes, domains = [], [], [], []
    for label, found in paired.items():
        k = len(found)
        center = np.mean([cell.mean for cell in found.values()], axis=0)
        others = sum(1 / cell.size for cell in found.values()) / k**2
        for domain, cell in found.items():
            shifts.append(cell.mean - center)
            noise.append(within * (others + (1 - 2 / k) / cell.size))
            classes.append(label)
            domains.append(domain)
    return ClassShifts(
        np.stack(shifts), np.array(noise), np.array(classes), np.array(domains), within
    )


def _within(cells: list[Cell]) -> float:
    """Return the mean variance of a feature inside a cell, unbiased."""
    total = sum(float(cell.variance.mean()) * cell.size for cell in cells)
    free = sum(cell.size - 1 for cell in cells)
    return total / free if free > 0 else 0.0
