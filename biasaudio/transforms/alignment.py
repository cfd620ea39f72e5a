"""Alignment: every domain gets the same mean and covariance."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasaudio._validation import check_choice, check_number, did_you_mean, name_some
from biasaudio.errors import BiasAudioWarning, DataError, ParameterError
from biasaudio.moments import Moments
from biasaudio.transforms._affine import Affine
from biasaudio.transforms._base import DomainAwareTransform
from biasaudio.transforms._directions import SMALLEST_CELL, domain_groups
from biasaudio.transforms._frame import Frame, frame_of
from biasaudio.transforms._shrinkage import Group
from biasaudio.transforms._streaming import StreamingFit
from biasaudio.transforms._weights import clip_weights

__all__ = ["CORAL"]

_Array = NDArray[np.float64]
_UNSEEN = ("raise", "identity", "global")
# Eigenvalues below this share of their mean are raised to it: directions that no clip
# varies along are the same in every domain, and stay as they are.
_FLOOR = 1e-10


class CORAL(StreamingFit, DomainAwareTransform):
    """Give every domain the same mean and covariance (domain at transform).

    Domain-aware at transform: ``transform(X, domain=...)``.

    Parameters
    ----------
    shrinkage : float in [0, 1] or "auto", default "auto"
        The weight of the pooled covariance in the estimate of each domain's:
        0 for the sample covariance, 1 to move the means only; "auto" weighs
        the sampling noise of each domain's covariance against its distance
        from the pooled one, and needs all clips at once.
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
        The weight of the pooled covariance in each domain's.
    affines_ : dict of str to Affine
    n_features_in_ : int

    See Also
    --------
    DomainStandardizer : Matches mean and scale of each feature alone.

    Notes
    -----
    With the mean ``m_d`` and the covariance ``S_d`` of each domain, their
    means ``m`` and ``S`` over the domains, and ``T_d = (1 - g) S_d + g S``,

        x -> (x - m_d) T_d^-1/2 S^1/2 + m,

    with ``T_t`` and ``m_t`` of the target for S and m, if there is one.  With
    ``g = 0`` the covariances of the fitted clips are equal afterwards, which
    is the published method, but for its ridge of 1; for more than 0 no
    direction is stretched more than ``g^-1/2`` times towards S, whatever the
    number of clips.  "auto" is the g that minimises the expected squared
    error of T_d, as of Ledoit and Wolf, with the other domains as what is
    shrunk to:  ``(1 - 1/k) noise(S_d) / |S_d - S|^2``, at most 1.

    With fewer clips than features, the change stays in what the clips span,
    and is kept in two thin factors; other directions are only moved.
    Eigenvalues below 1e-10 of the mean are raised to that.  A feature that is
    constant in a domain is moved and neither scaled nor mixed with others.

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
    ) -> Any:
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
        self._align(domain_groups(X, codes, weights))
        return self

    def _solve(self, moments: Moments) -> None:
        cells = {str(name): cell for name, cell in moments.by("domain").items()}
        self._align([Group(cells[str(name)]) for name in self.domains_])

    def _align(self, groups: list[Group]) -> None:
        """Set the maps, from one group for each domain."""
        check_choice(self.unseen, "unseen", _UNSEEN)
        names = [str(name) for name in self.domains_]
        target = self._target(names)
        _check_sizes(names, groups)
        means = np.stack([group.cell.mean for group in groups])
        mean = means.mean(axis=0)
        frame = frame_of(groups, self.scale)
        covariances = np.stack([frame.covariance(group) for group in groups])
        pooled = covariances.mean(axis=0)
        weights = self._weights(frame, groups, covariances, pooled)
        shrunk = covariances + weights[:, None, None] * (pooled - covariances)
        to, to_mean = (pooled, mean) if target is None else (shrunk[target], means[target])
        root = _power(to, 0.5)
        affines = [
            _unchanged(m) if k == target else frame.affine(m, to_mean, _power(S, -0.5) @ root)
            for k, (m, S) in enumerate(zip(means, shrunk))
        ]
        gaps = frame.read(means - mean)
        # For a clip of no known domain: the clips of all domains taken as one.
        mixture = pooled + gaps.T @ gaps / len(gaps)
        self.global_ = frame.affine(mean, to_mean, _power(mixture, -0.5) @ root)
        self.affines_ = dict(zip(names, affines))
        self.means_, self.shrinkage_ = means, weights

    def _target(self, names: list[str]) -> int | None:
        """Return the place of the target domain, if there is one."""
        if self.target is None:
            return None
        if str(self.target) not in names:
            raise ParameterError(
                f"target={self.target!r} is not a domain of these clips; choose among "
                f"{name_some(names, 9)}, or None{did_you_mean(self.target, names)}"
            )
        return names.index(str(self.target))

    def _weights(
        self, frame: Frame, groups: list[Group], covariances: _Array, pooled: _Array
    ) -> _Array:
        """Return the weight of the pooled covariance for each domain."""
        if self.shrinkage != "auto":
            if isinstance(self.shrinkage, str):
                raise ParameterError(
                    f"shrinkage={self.shrinkage!r} is not allowed; give 'auto' or a number from 0 "
                    "to 1"
                )
            weight = check_number(self.shrinkage, "shrinkage", 0, 1)
            sizes = [group.cell.size for group in groups]
            if weight == 0 and min(sizes) <= len(pooled):
                warnings.warn(
                    f"a domain has {min(sizes):.0f} clips for {len(pooled)} dimensions, so at "
                    "shrinkage=0 its covariance is singular, and what new clips have outside of "
                    "it is stretched without limit; set shrinkage='auto'",
                    BiasAudioWarning,
                    stacklevel=4,
                )
            return np.full(len(groups), weight)
        weights = []
        for group, covariance in zip(groups, covariances):
            noise = frame.noise(group, covariance) * (1 - 1 / len(groups))
            distance = float(np.sum((covariance - pooled) ** 2))
            is_known = group.cell.size >= SMALLEST_CELL and noise < distance
            weights.append(max(noise, 0.0) / distance if is_known else 1.0)
        return np.array(weights)


def _check_sizes(names: list[str], groups: list[Group]) -> None:
    """Raise if a domain has one clip."""
    single = [name for name, group in zip(names, groups) if group.cell.size < 1 + 1e-9]
    if single:
        raise DataError(
            f"domain {name_some(single)} has one clip, which has no covariance; give more clips of "
            "it, leave it out, or use DomainCentering"
        )


def _unchanged(center: _Array) -> Affine:
    """Return the identity, as a map of rank 0 that costs nothing to apply."""
    d = len(center)
    return Affine(center, np.zeros((d, 0)), np.zeros((0, d)), np.zeros(d))


def _power(covariance: _Array, exponent: float) -> _Array:
    """Return a power of a symmetric matrix, its eigenvalues raised to the floor."""
    values, vectors = np.linalg.eigh(covariance)
    least = _FLOOR * values.sum() / max(len(values), 1)
    powered: _Array = (vectors * np.maximum(values, least) ** exponent) @ vectors.T
    return powered
