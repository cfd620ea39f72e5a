"""ComBat: location and scale of each domain, shrunk by what the features share."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from biasaudio._validation import check_categories, check_choice, check_sample_weight, name_some
from biasaudio.errors import DataError, ParameterError
from biasaudio.moments import Moments
from biasaudio.transforms._affine import Affine, array_namespace
from biasaudio.transforms._base import DomainAwareTransform, StreamingFit
from biasaudio.transforms._location_scale import check_apart, code_columns, locate, regress

__all__ = ["ComBat"]

_Array = NDArray[np.float64]
_Floats = NDArray[np.floating[Any]]
_UNSEEN = ("raise", "identity", "global")
_BLOCK = 4096


class ComBat(StreamingFit, DomainAwareTransform):
    """Match location and scale, shrunk over features (domain at transform).

    Domain-aware at transform: ``transform(X, domain=...)``.

    Parameters
    ----------
    shrinkage : bool, default True
        Shrink location and scale of a feature in a domain towards those of
        the others (empirical Bayes), which steadies them where clips are few.
    unseen : {"raise", "identity", "global"}
        What to do with a domain that ``fit`` did not see: refuse, change
        nothing, or treat it as the mixture of all domains.
    alpha : float in [0, 1], default 1
        The share of the change that is applied.

    Attributes
    ----------
    domains_ : np.ndarray [shape=(k,)]
    locations_ : np.ndarray [shape=(k, d)]
        What is taken off the clips of each domain.
    scales_ : np.ndarray [shape=(k, d)]
        What the rest is then divided by.
    effects_ : np.ndarray [shape=(m, d)]
        The coefficients of the preserved columns; m = 0 without any.
    usual_ : np.ndarray [shape=(k + 1, m)]
        The means of the preserved columns in each domain, and in all clips.
    categories_ : np.ndarray [shape=(m,)] or None
        What the columns stand for, if categories are preserved.
    affines_ : dict of str to Affine
    n_features_in_ : int

    See Also
    --------
    DomainStandardizer : Neither shrinks nor preserves.

    Notes
    -----
    The model of a feature of a clip with the preserved columns c, centred, is

        x = a + c'b + s (g_domain + d_domain^(1/2) e),

    with ``a, b, g`` from least squares and s^2 the mean squared residual.
    Over the features, g has a normal prior in each domain and the variance d
    an inverse gamma one, with moments as observed; their estimates solve

        g* = (n t2 g + d* g0) / (n t2 + d*),
        d* = (v0 + sum (z - g*)^2 / 2) / (u0 + n / 2 - 1),

    which are iterated until they change by less than 1e-4 of themselves, as in
    the published code.  The corrected value is

        (x - a - c'b - s g*) d*^(-1/2) + a + c'b.

    ``fit_transform`` and ``transform`` with ``preserve`` are that; without
    it the mean of c in the domain stands for the c of each clip, which needs
    no labels, is affine, and gives the domain the same mean.  Labels of clips
    that a classifier is tested on must not be given to ``transform``.

    A feature that does not vary within the domains is moved and not scaled,
    and takes no part in the priors.

    What is not claimed: that the means become equal, which shrinkage keeps a
    little apart; nor that anything but location and scale is aligned.

    References
    ----------
    Johnson, Li, Rabinovic: Adjusting batch effects in microarray expression
    data using empirical Bayes methods. Biostatistics 8, 2007.
    Fortin et al.: Harmonization of cortical thickness measurements across
    scanners and sites. NeuroImage 167, 2018 (the package neuroCombat).

    Examples
    --------
    >>> import numpy as np
    >>> from biasaudio.datasets.synthetic import make_domains
    >>> table, _ = make_domains(n=200, d=8, random_state=0)
    >>> domain = table.clips.dataset
    >>> Z = ComBat(shrinkage=False).fit_transform(table.X, domain=domain)
    >>> gap = Z[domain == "a"].mean(0) - Z[domain == "b"].mean(0)
    >>> bool(np.abs(gap).max() < 1e-5)
    True
    """

    __metadata_request__fit: ClassVar[dict[str, Any]] = {"domain": True, "preserve": True}
    __metadata_request__transform: ClassVar[dict[str, Any]] = {"domain": True, "preserve": True}
    _scatter = "diagonal"

    def __init__(
        self, *, shrinkage: bool = True, unseen: str = "raise", alpha: float = 1.0
    ) -> None:
        self.shrinkage = shrinkage
        self.unseen = unseen
        self.alpha = alpha

    def fit(
        self,
        X: ArrayLike,
        y: object = None,
        *,
        domain: ArrayLike | None = None,
        preserve: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Any:
        """Find location and scale of each domain.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        y : ignored
        domain : array_like of str or int [shape=(n,)]
            Two or more datasets, each of two clips or more.
        preserve : array_like [shape=(n,) or (n, m)], optional
            What the clips differ by apart from the domain, and shall go on
            to: categories such as the class, or columns of numbers.
        sample_weight : array_like [shape=(n,)], optional
            As how many clips each counts; 10 times the weights shrink less.

        Returns
        -------
        self

        Raises
        ------
        ParameterError
            If the domain is missing or a parameter is not allowed.
        DataError
            If there is one domain only, a domain has one clip, what is to be
            preserved cannot be told from the domain, or X is not usable.
        """
        X, domains, codes = self._fit_input(X, domain, extra=", preserve=classes")
        n = len(X)
        w = np.ones(n) if sample_weight is None else check_sample_weight(sample_weight, n)
        moments = Moments(dtype=np.float64, scatter="diagonal")
        moments.update(X, sample_weight=w, domain=domains[codes])
        if len(moments.cells) < len(domains):
            raise DataError("a domain has no clip with a weight above 0; give it one or drop it")
        if preserve is None:
            self._fit_moments(moments)
            return self
        sizes, means, _ = self._statistics(moments)
        categories, columns = code_columns(preserve, n)
        shares = np.eye(len(domains))[codes] * w[:, None]
        usual = shares.T @ columns / sizes[:, None]
        mean, within = w @ columns / w.sum(), columns - usual[codes]
        check_apart(columns - mean, within, len(domains), w)
        effects, variances = regress(X, codes, w, means, within)
        self.categories_, self.effects_, self.usual_ = categories, effects, np.r_[usual, [mean]]
        self._set(sizes, means, variances, (usual - mean) @ effects)
        return self

    def fit_transform(
        self, X: ArrayLike, y: object = None, *, domain: ArrayLike | None = None, **fit_params: Any
    ) -> _Floats:
        """Fit on X, then return its corrected vectors, as in the paper.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        y : ignored
        domain : array_like [shape=(n,)]
        **fit_params : array_like
            As in ``fit``; ``preserve`` goes to ``transform`` as well.

        Returns
        -------
        np.ndarray [shape=(n, d)]
        """
        fitted = self.fit(X, y, domain=domain, **fit_params)
        return fitted.transform(X, domain=domain, preserve=fit_params.get("preserve"))

    def transform(
        self,
        X: Any,
        *,
        domain: ArrayLike | None = None,
        preserve: ArrayLike | None = None,
        copy: bool = True,
        out: _Floats | None = None,
    ) -> Any:
        """Return the corrected vectors.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        domain : array_like [shape=(n,)]
        preserve : array_like [shape=(n,) or (n, m)], optional
            The preserved columns of each clip, as in ``fit``; default the
            mean of the domain in ``fit``.
        copy : bool
            False writes into X, if X is a float array of numpy.
        out : np.ndarray [shape=(n, d)], optional
            Where to write; of the dtype of the result.

        Returns
        -------
        array [shape=(n, d)]
            Of the dtype of X.

        Raises
        ------
        ParameterError, DataError
            If the domain is missing, or was not seen in fit, or ``preserve``.
        """
        if preserve is None or domain is None:
            return super().transform(X, domain=domain, copy=copy, out=out)
        check_is_fitted(self)
        change = self._difference(len(X), domain, preserve)
        if out is None and not copy and isinstance(X, np.ndarray) and X.dtype.kind == "f":
            out = X
        result = super().transform(X, domain=domain, copy=copy, out=out)
        xp = array_namespace(result)
        if xp is not np:
            whole = change(slice(None))
            return result + xp.asarray(whole, dtype=result.dtype, device=result.device)
        # set_output may have made a frame of it, which is not to be written.
        final = np.array(result) if hasattr(result, "columns") else result
        final = final if out is None else out
        for start in range(0, len(final), _BLOCK):
            rows = slice(start, start + _BLOCK)
            final[rows] += change(rows).astype(final.dtype, copy=False)
        return final

    def _difference(self, n: int, domain: ArrayLike, preserve: ArrayLike) -> Any:
        """Return what gives the difference that the columns of the clips make."""
        if not len(self.effects_):
            raise ParameterError(
                "preserve was given to transform and not to fit; give it to both or to none"
            )
        _, columns = code_columns(preserve, n, len(self.effects_), self.categories_)
        domains, codes = check_categories(domain, "domain", n)
        names, affines = [str(name) for name in domains.tolist()], self.to_affine()
        known = dict(zip(affines, self.usual_))
        maps = [affines[k] if k in affines else self._unseen(k) for k in names]
        gains = np.stack([np.asarray(one.gain) for one in maps])
        usual = np.stack([known.get(k, self.usual_[-1]) for k in names])
        return lambda rows: (
            ((usual[codes[rows]] - columns[rows]) @ self.effects_) * gains[codes[rows]]
        )

    def _statistics(self, moments: Moments) -> tuple[_Array, _Array, _Array]:
        """Return number of clips, mean and variance of each domain, in order."""
        cells = {str(name): cell for name, cell in moments.by("domain").items()}
        names = [str(name) for name in self.domains_]
        single = [name for name in names if cells[name].n <= 1 + 1e-9]
        if single:
            raise DataError(
                f"domain {name_some(single)} has one clip, which has no scale; give more clips of "
                "it, leave it out, or use DomainCentering"
            )
        sizes = np.array([float(cells[name].n) for name in names])
        means = np.stack([cells[name].mean for name in names])
        return sizes, means, np.stack([cells[name].variance for name in names])

    def _fit_moments(self, moments: Moments) -> None:
        sizes, means, variances = self._statistics(moments)
        self.categories_, self.effects_ = None, np.zeros((0, means.shape[1]))
        self.usual_ = np.zeros((len(means) + 1, 0))
        self._set(sizes, means, variances, np.zeros_like(means))

    def _set(self, sizes: _Array, means: _Array, variances: _Array, explained: _Array) -> None:
        """Set the maps; ``explained`` is what the preserved columns add to the means."""
        check_choice(self.unseen, "unseen", _UNSEEN)
        if not isinstance(self.shrinkage, (bool, np.bool_)):
            raise ParameterError(f"shrinkage={self.shrinkage!r} is not allowed; give True or False")
        fitted = locate(means - explained, variances, sizes, is_shrunk=bool(self.shrinkage))
        self.locations_, self.scales_ = fitted.shift, fitted.scale
        nothing = np.zeros((means.shape[1], 0))
        self.affines_ = {
            str(name): Affine(fitted.grand + e + s, nothing, nothing.T, -s, 1 / r - 1)
            for name, e, s, r in zip(self.domains_, explained, fitted.shift, fitted.scale)
        }
        still = np.zeros(len(nothing))
        self.global_ = Affine(fitted.grand, nothing, nothing.T, still, fitted.mixture_gain)
