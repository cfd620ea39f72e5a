"""Robust LEACE: erasure that holds on new clips, as far as the fitted ones can vouch for it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from biasaudio._linalg import orthogonal, right_vectors, smaller_gram_eigh
from biasaudio._parallel import one_blas_thread
from biasaudio.errors import ParameterError, warn
from biasaudio.transforms._affine import Affine
from biasaudio.transforms._covariance import Covariance, ShrunkCovariance, shrunk_covariance
from biasaudio.transforms.leace import LEACE, Concepts

__all__ = ["RobustLEACE"]

_Array = NDArray[np.float64]
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
    are nearly alike (give one clip per group, or a lower ``leakage``); that it
    holds for new clips at another class mix than the fitted ones; or that the classes
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

    # LEACE takes what is formed already as well, which is what it is given below.
    @one_blas_thread()
    def _solve(self, concepts: Concepts, S: Covariance) -> Affine:  # type: ignore[override]
        m, C, K = concepts.mean, concepts.erased, concepts.preserved
        d = len(m)
        # One direction at least has to be left when the others are erased or preserved.
        r = max(self._allowed(concepts.sizes, d), C.shape[1] + K.shape[1] + 1)
        groups = list(S.groups())
        shrunk = shrunk_covariance(groups, S.shrinkage)
        if r >= d:
            self.rank_, self.kept_variance_ = d, 1.0
            return super()._solve(concepts, shrunk)
        # The leading directions are those of the clips as they are: shrinkage would turn them.
        sample = shrunk_covariance(groups, 0.0, floor=0.0)
        V, self.kept_variance_ = _leading(sample, K, r)
        self.rank_ = V.shape[1]
        self._warn_if_little_is_kept(concepts.sizes.sum(), d)
        among = Concepts(m @ V, orthogonal(C.T @ V).T, orthogonal(K.T @ V).T, concepts.sizes)
        L = super()._solve(among, shrunk.along(V)).matrix
        # x -> m + V L V'(x - m), as a change of x: the gain takes x - m away.
        return Affine(m, V @ L, V.T, np.zeros(d), gain=-np.ones(d))

    def _allowed(self, sizes: _Array, d: int) -> int:
        """How many of d directions the clips allow: r of the Notes."""
        value = self.leakage
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.5 < value <= 1:
            raise ParameterError(
                f"leakage={value!r} is not allowed; give a ROC-AUC above 0.5, up to 1 (keep all)"
            )
        noise = (1 / sizes + 1 / (sizes.sum() - sizes)).max()
        return int(min(d, 2 * norm.ppf(value) ** 2 / noise))

    def _warn_if_little_is_kept(self, n: float, d: int) -> None:
        # A stream starts with few clips, and they are not its last.
        if self.kept_variance_ < _LITTLE and not hasattr(self, "moments_"):
            warn(
                f"{n:.0f} clips allow {self.rank_} of {d} directions at leakage={self.leakage}, "
                f"which hold {self.kept_variance_:.0%} of the variance; fit with more clips or "
                "allow more leakage"
            )


def _leading(sample: ShrunkCovariance, first: _Array, r: int) -> tuple[_Array, float]:
    """Directions ``first`` and the leading ones beside them, r in all, and their variance.

    Parameters
    ----------
    sample : ShrunkCovariance
        Shrunk by nothing.
    first : np.ndarray [shape=(d, m)]
        Orthonormal.
    r : int

    Returns
    -------
    V : np.ndarray [shape=(d, r)]
        Orthonormal.
    share : float
        Of the variance.
    """
    base = sample.base
    rest = base - (base @ first) @ first.T
    if sample.is_root:
        values, vectors, _ = smaller_gram_eigh(rest)
        total, seen = np.sum(np.square(base)), np.sum(np.square(base @ first))
    else:
        values, vectors = np.linalg.eigh(rest - first @ (first.T @ rest))
        total, seen = np.trace(base), np.sum(first * (base @ first))
    kept = np.flatnonzero(values > 1e-12 * values[-1])[::-1][: r - first.shape[1]]
    found = vectors[:, kept]
    if sample.is_root:
        found = right_vectors(rest, values[kept], found)
    # Rounding tilts the least of them by 1e-6, but the eraser needs them orthonormal.
    V = np.linalg.qr(np.c_[first, found])[0]
    return V, float(min((seen + values[kept].sum()) / total, 1.0))
