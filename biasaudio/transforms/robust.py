"""Erasure that holds on new clips: only what the fitted clips can vouch for is kept."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy.stats import norm

from biasaudio.errors import BiasAudioWarning, ParameterError
from biasaudio.moments import Moments
from biasaudio.transforms._affine import Affine
from biasaudio.transforms._concepts import Concepts
from biasaudio.transforms._covariance import Group, ShrunkCovariance
from biasaudio.transforms._directions import group_of, orthogonal
from biasaudio.transforms._shrinkage import shrunk_covariance
from biasaudio.transforms.erasure import LEACE

__all__ = ["RobustLEACE"]

_Array = NDArray[np.float64]
_Floats = NDArray[np.floating[Any]]
# Below this share of the variance, what is left is hardly the embedding any more.
_LITTLE = 0.5


class RobustLEACE(LEACE):
    """Erase linear domain information so that it stays erased on new clips.

    Domain-free at transform: needs ``domain`` in ``fit`` only.  `LEACE` in
    the leading principal directions, the rest dropped: few with few clips,
    all with many.

    Parameters
    ----------
    leakage : float in (0.5, 1], default 0.75
        The ROC-AUC with which the best linear probe may still tell the
        domains of *new* clips apart, because their means are known only as
        well as the fitted clips tell.  It sets how many directions are kept;
        1 keeps all, which is `LEACE`.
    shrinkage : float in [0, 1], "auto" or "oas", default "auto"
        As in `LEACE`.
    alpha : float in [0, 1], default 1
        The share of the change that is applied.

    Attributes
    ----------
    domains_ : np.ndarray [shape=(k,)]
    rank_ : int
        Directions that are kept.
    kept_variance_ : float
        The share of the variance that they hold.
    affine_ : Affine
    n_features_in_ : int

    See Also
    --------
    LEACE : The smallest change that erases on the fitted clips.
    NullspaceProjection : Takes probe directions out one by one.

    Notes
    -----
    On new clips an eraser leaves its own error: the difference of the domain
    means is estimated from n_1 and n_2 clips, with a covariance of ``S (1/n_1
    + 1/n_2)``.  In units of S the error has the squared length ``r (1/n_1 +
    1/n_2)`` in r dimensions, whatever direction is removed, so removing more
    directions of d = 1024 hardly helps.  A probe that knew it would have the
    ROC-AUC ``Phi(sqrt(r (1/n_1 + 1/n_2) / 2))``.  This is solved for r,

        r = 2 Phi^-1(leakage)^2 / (1/n_1 + 1/n_2),

    and with V the r leading principal directions of x,

        x -> m + V L V'(x - m),

    where L is LEACE among them.  Among r directions these lose least of x.
    With leakage = 0.75 there is one for every 4.4 clips of two equal domains.
    Of k domains the smallest, against the others, decides.  With weights n is
    the effective number (Kish 1965).  ``preserve`` keeps the covariances with
    the preserved columns whole; their directions come first.

    What is not claimed: that the bound holds where clips come in groups that
    are nearly alike (give one clip a group, or a lower ``leakage``); that it holds
    for new clips at another class mix than the fitted ones; or that the classes
    do not use the directions that are dropped.  Principal directions depend
    on the units of the features: bring these to a common one first.

    References
    ----------
    Belrose et al.: LEACE: Perfect linear concept erasure in closed form.
    NeurIPS 2023, arXiv:2306.03819.

    Examples
    --------
    >>> from biasaudio.datasets.synthetic import make_domains
    >>> table, _ = make_domains(n=200, d=64, random_state=0)
    >>> eraser = RobustLEACE(leakage=0.7).fit(table.X, domain=table.clips.dataset)
    >>> eraser.rank_, eraser.transform(table.X).shape
    (27, (200, 64))
    """

    def __init__(
        self, *, leakage: float = 0.75, shrinkage: float | str = "auto", alpha: float = 1.0
    ) -> None:
        self.leakage = leakage
        self.shrinkage = shrinkage
        self.alpha = alpha

    def _check_parameters(self) -> None:
        super()._check_parameters()
        value = self.leakage
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.5 < value <= 1:
            raise ParameterError(
                f"leakage={value!r} is not allowed; give a ROC-AUC above 0.5, up to 1 (keep all)"
            )

    def _fit_input(
        self,
        X: ArrayLike,
        domain: ArrayLike | None,
        extra: str = "",
        *,
        first: bool = True,
        at_least: int = 2,
    ) -> tuple[_Floats, NDArray[Any], NDArray[np.intp]]:
        X, domains, codes = super()._fit_input(X, domain, extra, first=first, at_least=at_least)
        self._sizes: _Array = np.bincount(codes).astype(np.float64)
        return X, domains, codes

    def _covariance(
        self, X: _Floats, weights: _Array | None, mean: _Array, dtype: DTypeLike
    ) -> Any:
        """Return the covariance of x, shrunk and as it is."""
        if not len(self.domains_):
            # A continuous nuisance is read as two equal domains with its variance would be.
            self._sizes = np.full(2, len(X) / 2)
        if weights is not None:
            self._sizes *= weights.sum() ** 2 / (weights @ weights) / len(X)
        return self._both([group_of(X, weights, mean)])

    def _streamed_covariance(self, moments: Moments) -> Any:
        """Return the covariance of x, shrunk and as it is."""
        return self._both([Group(moments.total())])

    def _both(self, everything: list[Group]) -> tuple[ShrunkCovariance, ShrunkCovariance]:
        shrunk = shrunk_covariance(everything, self.shrinkage)
        return shrunk, shrunk_covariance(everything, 0.0, floor=0.0)

    def _solve(self, moments: Moments) -> None:
        self._check_parameters()
        self._sizes = np.array([cell.size for cell in moments.by("domain").values()])
        super()._solve(moments)

    def _finish(self, concepts: Concepts, covariance: Callable[[], Any]) -> None:
        """Set the affine map."""
        S, sample = covariance()
        C, K = concepts.erased, concepts.preserved
        # One direction at least has to be left when the others are erased or preserved.
        rank = max(self._allowed(len(C)), C.shape[1] + K.shape[1] + 1)
        if rank >= len(C):
            self.rank_, self.kept_variance_ = len(C), 1.0
            super()._finish(concepts, lambda: S)
            return
        V, self.kept_variance_ = _leading(sample, K, rank)
        self.rank_ = V.shape[1]
        # A stream starts with few clips, and they are not its last.
        if self.kept_variance_ < _LITTLE and not hasattr(self, "moments_"):
            warnings.warn(
                f"{self._sizes.sum():.0f} clips allow {self.rank_} of {len(C)} directions at "
                f"leakage={self.leakage}, which hold {self.kept_variance_:.0%} of the variance; "
                "fit with more clips or allow more leakage",
                BiasAudioWarning,
                stacklevel=4,
            )
        among = Concepts(concepts.mean @ V, orthogonal(C.T @ V).T, orthogonal(K.T @ V).T)
        inner = V.T @ (S.base.T @ (S.base @ V) if S.is_root else S.base @ V)
        inner += V.T @ (S.ridge[:, None] * V)
        super()._finish(among, lambda: ShrunkCovariance(inner, np.zeros(self.rank_), False))
        inside = self.affine_.matrix
        zeros = np.zeros(len(C))
        self.affine_ = Affine(concepts.mean, V @ inside, V.T, zeros, gain=zeros - 1.0)

    def _allowed(self, d: int) -> int:
        """Return how many of d directions the clips allow."""
        others = self._sizes.sum() - self._sizes
        noise = (1 / self._sizes + 1 / others).max()
        return int(min(d, 2 * norm.ppf(self.leakage) ** 2 / noise))


def _leading(sample: ShrunkCovariance, first: _Array, rank: int) -> tuple[_Array, float]:
    """Return the directions ``first`` and the leading ones beside, and their share of variance."""
    base = sample.base
    rest = base - (base @ first) @ first.T
    if sample.is_root:
        # The eigenvectors of the smaller Gram matrix cost less than an SVD.
        values, vectors = np.linalg.eigh(rest @ rest.T)
        total, seen = np.sum(np.square(base)), np.sum(np.square(base @ first))
    else:
        values, vectors = np.linalg.eigh(rest - first @ (first.T @ rest))
        total, seen = np.trace(base), np.sum(first * (base @ first))
    kept = np.flatnonzero(values > 1e-12 * values[-1])[::-1][: rank - first.shape[1]]
    found = vectors[:, kept]
    if sample.is_root:
        found = rest.T @ (found / np.sqrt(values[kept]))
    # Rounding tilts the least of them by 1e-6, but the eraser needs them orthonormal.
    V = np.linalg.qr(np.c_[first, found])[0]
    return V, float(min((seen + values[kept].sum()) / total, 1.0))
