"""Probe directions one after the other, from moments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from biasaudio.errors import DataError
from biasaudio.moments import Cell
from biasaudio.transforms._affine import Affine
from biasaudio.transforms._covariance import Group, ShrunkCovariance
from biasaudio.transforms._directions import orthogonal
from biasaudio.transforms._halves import Halves
from biasaudio.transforms._shrinkage import shrunk_covariance

__all__ = ["Rounds", "find_directions", "find_rounds", "principal", "solver"]

_Array = NDArray[np.float64]
_Codes = NDArray[np.intp]
# A gap this much smaller than the first is rounding.
_NOTHING = 1e-7


def principal(groups: Sequence[Group], share: float) -> _Array:
    """Return the directions that hold this share of the within-domain variance.

    Parameters
    ----------
    groups : sequence of Group
        One for each domain; all count the same.
    share : float in (0, 1)

    Returns
    -------
    np.ndarray [shape=(r, d)]
        Orthonormal, the largest variance first; at least one.
    """
    k = len(groups)
    if groups[0].cell.scatter.ndim == 1:
        rows = np.concatenate([group.rows() for group in groups]) / np.sqrt(k)
        values, vectors = np.linalg.eigh(rows @ rows.T)
    else:
        values, vectors = np.linalg.eigh(np.mean([g.cell.covariance for g in groups], axis=0))
    values = np.maximum(values[::-1], 0.0)
    held = np.cumsum(values)
    n = min(int(np.searchsorted(held, share * held[-1])) + 1, len(values))
    vectors = vectors[:, ::-1][:, :n]
    if groups[0].cell.scatter.ndim == 1:
        vectors = np.linalg.qr(rows.T @ (vectors / np.sqrt(values[:n])))[0]
    basis: _Array = vectors.T
    return basis


@dataclass(frozen=True)
class Rounds:
    """Hold the directions that were found, and the map that projects them out.

    Attributes
    ----------
    center : np.ndarray [shape=(d,)]
        The mean of the domain means, which stays.
    basis : np.ndarray [shape=(r, d)] or None
        The directions that are kept; None for all.
    found : np.ndarray [shape=(m, r)]
        Orthonormal, in the coordinates of the basis.
    ends : np.ndarray of int
        How many directions there are after each round.
    is_cut : bool
        Whether more would have taken over the limit of the dimensions.
    """

    center: _Array
    basis: _Array | None
    found: _Array
    ends: _Codes
    is_cut: bool

    @property
    def directions(self) -> _Array:
        """The directions in the coordinates of x [shape=(m, d)]."""
        return self.found if self.basis is None else self.found @ self.basis

    @property
    def n_kept(self) -> int:
        """How many dimensions the map leaves."""
        return int(self.found.shape[1] - len(self.found))

    def affine(self, end: int | None = None) -> Affine:
        """Return the map that projects the first ``end`` directions out."""
        d, V = len(self.center), self.found[:end]
        if self.basis is None:
            return Affine(self.center, V.T, -V, np.zeros(d))
        left = np.linalg.svd(V, full_matrices=True)[2][len(V) :] @ self.basis
        if 2 * len(left) <= d:
            return Affine(self.center, left.T, left, np.zeros(d), -np.ones(d))
        gone = np.linalg.svd(left, full_matrices=True)[2][len(left) :]
        return Affine(self.center, gone.T, -gone, np.zeros(d))


def find_rounds(
    cells: Sequence[Group],
    halves: Halves | None,
    rounds: int,
    variance: float,
    shrinkage: float | str,
    limit: float = 0.5,
) -> Rounds:
    """Return the directions of so many rounds, from moments of the domains.

    Parameters
    ----------
    cells : sequence of Group
        One for each domain.
    halves : Halves, optional
        Of the same clips; without it every probe sees all clips.
    rounds : int
    variance : float in (0, 1]
        The share that is kept.
    shrinkage : float in [0, 1], "auto" or "oas"
    limit : float
        The largest share of the kept dimensions that may go.
    """
    center = np.mean([group.cell.mean for group in cells], axis=0)
    gaps = None if halves is None else halves.gaps()
    basis = None
    if variance < 1:
        basis = principal(cells, variance)
        cells = [_rotated(group, basis, center) for group in cells]
        gaps = None if gaps is None else gaps @ basis.T
    means = np.stack([group.cell.mean for group in cells])
    within = shrunk_covariance(cells, shrinkage)
    found, ends, is_done = find_directions(within, means[1:] - means[0], gaps, rounds, limit)
    return Rounds(center, basis, found, ends, len(ends) < rounds and not is_done)


def _rotated(group: Group, basis: _Array, center: _Array) -> Group:
    """Return the group in the coordinates of a basis, about a center."""
    cell = group.cell
    if group.X is None:
        mean, scatter = basis @ (cell.mean - center), basis @ cell.scatter @ basis.T
        return Group(Cell(cell.n, mean, scatter, cell.n_squared))
    Z: _Array = (group.X[group.at] - center) @ basis.T
    return Group(Cell.of(Z, group.weights, dtype=np.float64), Z, group.weights)


def find_directions(
    within: ShrunkCovariance, gap: _Array, halves: _Array | None, rounds: int, limit: float
) -> tuple[_Array, _Codes, bool]:
    """Return orthonormal directions, a probe after the other.

    It ends early where more than the limit of the dimensions would go.

    Parameters
    ----------
    within : ShrunkCovariance
        Of all clips, before the first round.
    gap : np.ndarray [shape=(k - 1, d)]
        What tells the domain means apart.
    halves : np.ndarray [shape=(rounds - 1, k - 1, d)], optional
        The same of random halves.  If given, the first round takes the gap
        itself; else every round takes the probe of all clips.
    rounds : int
    limit : float
        The largest share of the dimensions that may go.

    Returns
    -------
    directions : np.ndarray [shape=(m, d)]
    ends : np.ndarray of int
        How many directions there are after each round.
    is_done : bool
        Whether it ended because nothing was left to find.

    Notes
    -----
    With the directions V so far and P = I - V'V, the ridge probe of projected
    clips is the w orthogonal to V with ``P A w = P g``, A being the shrunk
    covariance, so ``w = A^-1 (P g + V'u)``, where u makes ``V w = 0``.
    """
    solve = solver(within)
    size = np.linalg.norm(gap)
    V = np.zeros((0, gap.shape[1])) if halves is None else orthogonal(gap)
    solved = solve(V.T)
    ends, is_done = ([] if halves is None else [len(V)]), False
    # Every direction takes a share of all else with it.
    while len(ends) < rounds and (not ends or len(V) + len(gap) <= limit * gap.shape[1]):
        left = gap if halves is None else halves[len(ends) - 1]
        left = left - (left @ V.T) @ V
        if np.linalg.norm(left) > _NOTHING * size:
            w = solve(left.T)
            if len(V):
                w -= solved @ np.linalg.solve(V @ solved, V @ w)
            found = orthogonal(w.T)
            # Once more against rounding: a projection that is not one leaks.
            found = orthogonal(found - (found @ V.T) @ V)
            V, solved = np.concatenate([V, found]), np.concatenate([solved, solve(found.T)], axis=1)
        elif halves is None:
            is_done = True
            break
        ends.append(len(V))
    return V, np.array(ends, dtype=np.intp), is_done


def solver(within: ShrunkCovariance) -> Any:
    """Return a function that applies the inverse, factored once."""
    try:
        if not within.is_root or not (within.ridge > 0).all():
            factor = cho_factor(within.dense())
            return lambda B: cho_solve(factor, B)
        root, ridge = within.base, within.ridge[:, None]
        inner = (root / within.ridge) @ root.T
        inner.flat[:: len(inner) + 1] += 1
        factor = cho_factor(inner)
    except np.linalg.LinAlgError:
        raise DataError(
            f"the within-domain covariance in {len(within.ridge)} dimensions is singular; use a "
            "larger shrinkage, or variance below 1"
        ) from None

    def solve(B: _Array) -> _Array:
        rest = B / ridge
        solved: _Array = rest - (root.T @ cho_solve(factor, root @ rest)) / ridge
        return solved

    return solve
