"""Coordinates in which the covariances of domains are compared."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from biasaudio._linalg import orthogonal
from biasaudio.errors import ParameterError
from biasaudio.moments import centred_blocks
from biasaudio.transforms._affine import Affine
from biasaudio.transforms._covariance import Group

__all__ = ["Frame", "frame_of"]

_Array = NDArray[np.float64]
_BLOCK = 1024


@dataclass(frozen=True)
class Frame:
    """Hold the coordinates in which covariances are compared.

    Attributes
    ----------
    live : np.ndarray of int [shape=(m,)]
        The features that are compared; others are only moved.
    scale : np.ndarray [shape=(m,)]
    prior : float
        The mean of their pooled variances in these coordinates.
    basis : np.ndarray [shape=(m, r)] or None
        An orthonormal basis of what the clips span, where they are fewer than
        the features.
    """

    live: NDArray[np.intp]
    scale: _Array
    prior: float = 1.0
    basis: _Array | None = None

    def read(self, centred: _Array) -> _Array:
        """Return rows [shape=(n, d)] in these coordinates."""
        live = centred if len(self.live) == centred.shape[1] else centred[:, self.live]
        scaled: _Array = live / self.scale
        return scaled if self.basis is None else scaled @ self.basis

    def covariance(self, group: Group) -> _Array:
        """Return the covariance of the clips of one domain in these coordinates."""
        if self.basis is not None:
            rows = self.read(group.rows())
            return rows.T @ rows
        inside: _Array = group.cell.covariance[np.ix_(self.live, self.live)]
        return inside / np.outer(self.scale, self.scale)

    def noise(self, group: Group, covariance: _Array) -> float:
        """Return the expected squared error of the covariance of one domain."""
        if group.X is None:
            raise ParameterError(
                "shrinkage='auto' needs all clips at once, which partial_fit does not keep; set "
                "shrinkage to a number from 0 to 1"
            )
        fourth = 0.0
        for place, Z in centred_blocks(group.X, group.at, group.cell.mean, np.float64, _BLOCK):
            read = self.read(np.asarray(Z, dtype=np.float64))
            squares = np.einsum("ij,ij->i", read, read) ** 2
            fourth += float(
                squares.sum() if group.weights is None else group.weights[place] @ squares
            )
        return (fourth / group.cell.n - float(np.sum(covariance**2))) / group.cell.size

    def distance(self, covariance: _Array) -> float:
        """Return the squared distance of a covariance from ``prior`` times the identity."""
        trace = float(np.trace(covariance))
        rest = self.prior * (self.prior * len(self.live) - 2 * trace)
        return float(np.sum(covariance**2)) + rest

    def affine(self, center: _Array, to: _Array, matrix: _Array) -> Affine:
        """Return the map that applies ``matrix`` in here, and moves the mean."""
        d, change = len(center), matrix - np.eye(len(matrix))
        if self.basis is None:
            dense = np.zeros((d, d))
            dense[np.ix_(self.live, self.live)] = change * self.scale / self.scale[:, None]
            return Affine(center, dense, None, to - center)
        down, up = np.zeros((d, len(change))), np.zeros((len(change), d))
        down[self.live] = self.basis @ change / self.scale[:, None]
        up[:, self.live] = self.basis.T * self.scale
        if 2 * len(change) > d:
            return Affine(center, down @ up, None, to - center)
        return Affine(center, down, up, to - center)


def frame_of(groups: list[Group], is_scaled: bool, is_shrunk: bool) -> Frame:
    """Return the coordinates for these clips: thin ones where only clips are at hand."""
    cells = [group.cell for group in groups]
    variances = np.stack([cell.variance for cell in cells])
    means = np.stack([cell.mean for cell in cells])
    pooled, mean = variances.mean(axis=0), means.mean(axis=0)
    varies = variances > 1e-10 * (pooled + mean**2) + np.finfo(float).tiny
    # A feature that is constant in a domain (up to rounding) has no variance of its own to
    # match; shrinkage gives it one.
    live = np.flatnonzero(varies.any(axis=0) if is_shrunk else varies.all(axis=0))
    frame = Frame(live, np.sqrt(pooled[live]))
    if not is_scaled:
        frame = Frame(live, np.ones(len(live)), float(pooled[live].sum()) / max(len(live), 1))
    if cells[0].scatter.ndim == 2:
        return frame
    rows = [frame.read(group.rows()) for group in groups] + [frame.read(means - mean)]
    return replace(frame, basis=orthogonal(np.concatenate(rows)).T)
