"""Correlation alignment (CORAL): every domain gets the same mean and covariance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasaudio._linalg import orthogonal
from biasaudio._validation import check_choice, check_number, did_you_mean, name_some
from biasaudio.errors import DataError, ParameterError, warn
from biasaudio.moments import Moments, centred_blocks
from biasaudio.transforms._affine import Affine
from biasaudio.transforms._base import (
    SMALLEST_CELL,
    DomainAwareTransform,
    StreamingFit,
    clip_weights,
)
from biasaudio.transforms._covariance import Group, domain_groups

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["CORAL"]

_Array = NDArray[np.float64]
_UNSEEN = ("raise", "identity", "global")
_BLOCK = 1024
# Eigenvalues below this share of their mean are raised to it: directions that no clip
# varies along are the same in every domain, and stay as they are.
_FLOOR = 1e-10


class CORAL(StreamingFit, DomainAwareTransform):
    """Correlation alignment (CORAL): the same mean and covariance for all.

    Domain-aware at transform: ``transform(X, domain=...)``.

    Parameters
    ----------
    shrinkage : float in [0, 1] or "auto", default "auto"
        A number is the weight of the pooled covariance in the estimate of
        each domain's: 0 for the sample covariance, 1 to move the means only.
        "auto" shrinks all of them towards the diagonal of the pooled one, by
        the weight that their sampling noise asks for; it needs all clips at
        once.
    target : str or int, optional
        The domain that the others are aligned to, and that itself stays as it
        is; default the pooled mean and covariance.
    scale : bool, default True
        Compare features on the scale of their pooled standard deviation, so
        that the result does not depend on their units; False is the
        definition to the letter.
    unseen : {"raise", "identity", "global"}
        What to do with a domain that ``fit`` did not see: refuse, change
        nothing, or treat it as the mixture of all domains.
    alpha : float in [0, 1], default 1
        The share of the change that is applied.

    Attributes
    ----------
    domains_ : np.ndarray [shape=(k,)]
    means_ : np.ndarray [shape=(k, d)]
    shrinkage_ : np.ndarray [shape=(k,)]
        The weight of what each domain's covariance is shrunk towards; "auto"
        finds one for all, and gives a domain of two clips 1: it is only moved.
    affines_ : dict of str to Affine
    n_features_in_ : int

    See Also
    --------
    DomainStandardizer : Matches mean and scale of each feature alone.

    Notes
    -----
    With the mean ``m_d`` and the covariance ``S_d`` of each domain, their
    means ``m`` and ``S`` over the domains, and a matrix P to shrink towards,

        T_d = (1 - g) S_d + g P,    T = (1 - g) S + g P,
        x -> (x - m_d) T_d^-1/2 T^1/2 + m,

    with ``T_t`` and ``m_t`` of the target for T and m, if there is one.  P is
    S for a number g; with 0 the covariances of the fitted clips are equal
    afterwards, which is the published method, but for its ridge of 1.  For
    "auto" P is the diagonal of S (the mean of that times the identity, if
    scale is False), and g is the one that minimises the summed expected
    squared errors of the T_d, as of Ledoit and Wolf:  the sum over the domains
    of ``noise(S_d)`` as a share of that of ``|S_d - P|^2``, and 1 where the
    ``S_d`` are nearer to S than a tenth of their noise would leave them, as
    they are after this correction.  It is the same for all domains, so that
    different numbers of clips are not taken for different covariances.  (The
    weight that is right in this sense for the pooled covariance can be near 1
    where clips are few and features many, and then hardly anything but the
    means is aligned.)

    No direction is stretched without limit: as ``T_d >= g P``, by no more than
    ``g^-1/2`` times in units of S for a number, and ``(t / g)^1/2`` times in
    units of P for "auto", with the largest eigenvalue t of T there.  With fewer
    clips than features, the change stays in what the clips span, and is kept
    in two thin factors; other directions are only moved.  A feature that is
    constant in one domain is compared like the others, unless g is 0: then
    it is only moved, as one is that is constant in all.  Eigenvalues below
    1e-10 of the mean are raised to that.

    What is not claimed: that the domains are alike.  Means and covariances
    are, on the fitted clips; shape and clusters are not, and where the class
    mix differs, so does what is aligned: see ``balance``.  Vectors with many
    exact zeros (means over rectified units, such as YAMNet's) are an example:
    a map for each domain moves the zeros to a place of its own, where a
    linear probe does not see them and a tree does, better than before.

    References
    ----------
    Sun, Feng, Saenko: Return of frustratingly easy domain adaptation. AAAI
    2016, arXiv:1511.05547.
    Ledoit, Wolf: A well-conditioned estimator for large-dimensional
    covariance matrices. J. Multivariate Analysis 88, 2004.

    Examples
    --------
    >>> import numpy as np
    >>> from biasaudio.datasets.synthetic import make_domains
    >>> table, _ = make_domains(n=200, d=4, random_state=0)
    >>> a = table.clips.dataset == "a"
    >>> Z = CORAL(shrinkage=0).fit_transform(table.X, domain=table.clips.dataset)
    >>> bool(np.allclose(np.cov(Z[a].T, ddof=0), np.cov(Z[~a].T, ddof=0), atol=1e-4))
    True
    """

    __metadata_request__fit: ClassVar[dict[str, Any]] = {"domain": True, "balance": True}

    def __init__(
        self,
        *,
        shrinkage: float | str = "auto",
        target: str | int | None = None,
        scale: bool = True,
        unseen: str = "raise",
        alpha: float = 1.0,
    ) -> None:
        self.shrinkage = shrinkage
        self.target = target
        self.scale = scale
        self.unseen = unseen
        self.alpha = alpha

    def fit(
        self,
        X: ArrayLike,
        y: object = None,
        *,
        domain: ArrayLike | None = None,
        balance: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Find the mean and the covariance of each domain.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        y : ignored
        domain : array_like of str or int [shape=(n,)]
            Two or more datasets, each of two clips or more.
        balance : array_like of str or int [shape=(n,)], optional
            A class for each clip.  The classes that every domain has then
            count the same in each, so that a different class mix is not
            mistaken for a difference of domains.
        sample_weight : array_like [shape=(n,)], optional
            What each clip counts for; default 1.

        Returns
        -------
        self

        Raises
        ------
        ParameterError
            If the domain is missing or a parameter is not allowed.
        DataError
            If there is one domain only, a domain has one clip, X is not
            usable, or no class is in every domain.
        """
        X, domains, codes = self._fit_input(X, domain, extra=", balance=classes")
        weights = clip_weights(codes, len(domains), balance, sample_weight)
        if weights is not None:
            kept = weights > 0
            X, codes, weights = X[kept], codes[kept], weights[kept]
        self._solve(domain_groups(X, codes, weights))
        return self

    def _fit_moments(self, moments: Moments) -> None:
        cells = {str(name): cell for name, cell in moments.by("domain").items()}
        self._solve([Group(cells[str(name)]) for name in self.domains_])

    def _solve(self, groups: list[Group]) -> None:
        """Set the maps x -> (x - m_d) T_d^-1/2 T^1/2 + m, from one group per domain."""
        check_choice(self.unseen, "unseen", _UNSEEN)
        names = [str(name) for name in self.domains_]
        target = self._target(names)
        _check_sizes(names, groups)
        g = self._weight()
        means = np.stack([group.cell.mean for group in groups])
        m = means.mean(axis=0)
        frame = _frame_of(groups, self.scale, is_shrunk=g != 0)
        S = np.stack([frame.covariance(group) for group in groups])
        if g is None:
            T_d, T, weights = _shrunk_to_diagonal(frame, groups, S)
        else:
            _warn_singular(g, groups, len(S[0]))
            T, weights = S.mean(axis=0), np.full(len(groups), g)
            T_d = S + g * (T - S)
        to, to_mean = (T, m) if target is None else (T_d[target], means[target])
        root = _power(to, 0.5)
        affines = [
            _unchanged(mean) if k == target else frame.affine(mean, to_mean, _power(C, -0.5) @ root)
            for k, (mean, C) in enumerate(zip(means, T_d))
        ]
        gaps = frame.read(means - m)
        # For a clip of no known domain: the clips of all domains taken as one.
        mixture = T + gaps.T @ gaps / len(gaps)
        self.global_ = frame.affine(m, to_mean, _power(mixture, -0.5) @ root)
        self.affines_ = dict(zip(names, affines))
        self.means_, self.shrinkage_ = means, weights

    def _target(self, names: list[str]) -> int | None:
        """Place of the target domain, if there is one."""
        if self.target is None:
            return None
        if str(self.target) not in names:
            raise ParameterError(
                f"target={self.target!r} is not a domain of these clips; choose among "
                f"{name_some(names, 9)}, or None{did_you_mean(self.target, names)}"
            )
        return names.index(str(self.target))

    def _weight(self) -> float | None:
        """Weight of the pooled covariance, None for "auto"."""
        if self.shrinkage == "auto":
            return None
        if isinstance(self.shrinkage, str):
            raise ParameterError(
                f"shrinkage={self.shrinkage!r} is not allowed; give 'auto' or a number from 0 to 1"
            )
        return check_number(self.shrinkage, "shrinkage", 0, 1)


def _shrunk_to_diagonal(
    frame: _Frame, groups: list[Group], covariances: _Array
) -> tuple[_Array, _Array, _Array]:
    """Shrunk covariances, their mean, and the weight of the diagonal for each."""
    known = np.array([group.cell.size >= SMALLEST_CELL for group in groups])
    prior = frame.prior * np.eye(covariances.shape[1])
    errors = np.array([frame.noise(group, S) for group, S in zip(groups, covariances)])
    noise = float(errors[known].sum())
    distance = sum(frame.distance(S) for S in covariances[known])
    pooled = covariances[known if known.any() else slice(None)].mean(axis=0)
    between = float(np.sum((covariances[known] - pooled) ** 2))
    # Sampling alone leaves ten times this: covariances that are nearer were aligned before.
    differ = (1 - 1 / max(known.sum(), 1)) * noise / 10 < between
    weight = max(noise, 0.0) / distance if differ and noise < distance else 1.0
    pooled += weight * (prior - pooled)
    shrunk = covariances + weight * (prior - covariances)
    # A domain of so few clips counts as what the others have in common: it is only moved.
    shrunk[~known] = pooled
    return shrunk, pooled, np.where(known, weight, 1.0)


def _warn_singular(weight: float, groups: list[Group], d: int) -> None:
    """Warn if the covariance of a domain is singular and stays so."""
    least = min(group.cell.size for group in groups)
    if weight == 0 and least <= d:
        warn(
            f"a domain has {least:.0f} clips for {d} dimensions, so at shrinkage=0 its covariance "
            "is singular, and what new clips have outside of it is stretched without limit; set "
            "shrinkage='auto'"
        )


def _check_sizes(names: list[str], groups: list[Group]) -> None:
    """Raise if a domain has one clip."""
    single = [name for name, group in zip(names, groups) if group.cell.size < 1 + 1e-9]
    if single:
        raise DataError(
            f"domain {name_some(single)} has one clip, which has no covariance; give more clips of "
            "it, leave it out, or use DomainCentering"
        )


def _unchanged(center: _Array) -> Affine:
    """Identity, as a map of rank 0 that costs nothing to apply."""
    d = len(center)
    return Affine(center, np.zeros((d, 0)), np.zeros((0, d)), np.zeros(d))


def _power(covariance: _Array, exponent: float) -> _Array:
    """Power of a symmetric matrix, its eigenvalues raised to the floor."""
    values, vectors = np.linalg.eigh(covariance)
    least = _FLOOR * values.sum() / max(len(values), 1)
    powered: _Array = (vectors * np.maximum(values, least) ** exponent) @ vectors.T
    return powered


@dataclass(frozen=True)
class _Frame:
    """The coordinates in which covariances are compared.

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
        """Rows [shape=(n, d)] in these coordinates."""
        live = centred if len(self.live) == centred.shape[1] else centred[:, self.live]
        scaled: _Array = live / self.scale
        return scaled if self.basis is None else scaled @ self.basis

    def covariance(self, group: Group) -> _Array:
        """Covariance of the clips of one domain in these coordinates."""
        if self.basis is not None:
            rows = self.read(group.rows())
            return rows.T @ rows
        inside: _Array = group.cell.covariance[np.ix_(self.live, self.live)]
        return inside / np.outer(self.scale, self.scale)

    def noise(self, group: Group, covariance: _Array) -> float:
        """Squared error that is expected of the covariance of one domain."""
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
        """Squared distance of a covariance from ``prior`` times the identity."""
        trace = float(np.trace(covariance))
        rest = self.prior * (self.prior * len(self.live) - 2 * trace)
        return float(np.sum(covariance**2)) + rest

    def affine(self, center: _Array, to: _Array, matrix: _Array) -> Affine:
        """Map that applies ``matrix`` in these coordinates, and moves the mean."""
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


def _frame_of(groups: list[Group], is_scaled: bool, is_shrunk: bool) -> _Frame:
    """Coordinates for these clips: thin ones where only clips are at hand."""
    cells = [group.cell for group in groups]
    variances = np.stack([cell.variance for cell in cells])
    means = np.stack([cell.mean for cell in cells])
    pooled, mean = variances.mean(axis=0), means.mean(axis=0)
    varies = variances > 1e-10 * (pooled + mean**2) + np.finfo(float).tiny
    # A feature that is constant in a domain (up to rounding) has no variance of its own to
    # match; shrinkage gives it one.
    live = np.flatnonzero(varies.any(axis=0) if is_shrunk else varies.all(axis=0))
    frame = _Frame(live, np.sqrt(pooled[live]))
    if not is_scaled:
        frame = _Frame(live, np.ones(len(live)), float(pooled[live].sum()) / max(len(live), 1))
    if cells[0].scatter.ndim == 2:
        return frame
    rows = [frame.read(group.rows()) for group in groups] + [frame.read(means - mean)]
    return replace(frame, basis=orthogonal(np.concatenate(rows)).T)
