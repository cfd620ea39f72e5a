"""ComBat: location and scale of each domain, shrunk by what the features share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from biasaudio._validation import check_categories, check_choice, check_sample_weight, name_some
from biasaudio.errors import DataError, ParameterError
from biasaudio.moments import Moments
from biasaudio.transforms._affine import Affine, array_namespace, check_result
from biasaudio.transforms._base import (
    DomainAwareTransform,
    StreamingFit,
    read_columns,
)

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ComBat"]

_Array = NDArray[np.float64]
_Floats = NDArray[np.floating[Any]]
_UNSEEN = ("raise", "identity", "global")
_BLOCK = 4096
# The relative change at which the published code stops; a tighter one would differ from it.
_CHANGE = 1e-4
_MAX_ROUNDS = 1000


class ComBat(StreamingFit, DomainAwareTransform):
    """ComBat: match location and scale, shrunk over features.

    Domain-aware at transform: ``transform(X, domain=...)``.

    Parameters
    ----------
    empirical_bayes : bool, default True
        Shrink location and scale of a feature in a domain towards those of
        the others, which steadies them where clips are few.
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
    >>> Z = ComBat(empirical_bayes=False).fit_transform(table.X, domain=domain)
    >>> gap = Z[domain == "a"].mean(0) - Z[domain == "b"].mean(0)
    >>> bool(np.abs(gap).max() < 1e-5)
    True
    """

    __metadata_request__fit: ClassVar[dict[str, Any]] = {"domain": True, "preserve": True}
    __metadata_request__transform: ClassVar[dict[str, Any]] = {"domain": True, "preserve": True}
    _scatter = "diagonal"

    def __init__(
        self, *, empirical_bayes: bool = True, unseen: str = "raise", alpha: float = 1.0
    ) -> None:
        self.empirical_bayes = empirical_bayes
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
    ) -> Self:
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
        w = np.ones(len(X)) if sample_weight is None else check_sample_weight(sample_weight, len(X))
        moments = Moments(dtype=np.float64, scatter="diagonal")
        moments.update(X, sample_weight=w, domain=domains[codes])
        if len(moments.cells) < len(domains):
            raise DataError("a domain has no clip with a weight above 0; give it one or drop it")
        if preserve is None:
            self._fit_moments(moments)
            return self
        sizes, means, _ = self._statistics(moments)
        self.categories_, C = _code_columns(preserve, len(X))
        shares = np.eye(len(domains))[codes] * w[:, None]
        usual, mean = shares.T @ C / sizes[:, None], w @ C / w.sum()
        within = C - usual[codes]
        _check_apart(C - mean, within, len(domains), w)
        self.effects_, variances = _regress(X, codes, w, means, within)
        self.usual_ = np.r_[usual, [mean]]
        self._solve(sizes, means, variances, (usual - mean) @ self.effects_)
        return self

    def fit_transform(
        self, X: ArrayLike, y: object = None, *, domain: ArrayLike | None = None, **fit_params: Any
    ) -> _Floats:
        """Corrected vectors of the clips that are fitted, as in the paper.

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
        """Corrected vectors.

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
            whole = xp.asarray(change(slice(None)), dtype=result.dtype, device=result.device)
            return check_result(result + whole)
        # set_output may have made a frame of it, which is not to be written.
        final = np.array(result) if hasattr(result, "columns") else result
        final = final if out is None else out
        for start in range(0, len(final), _BLOCK):
            rows = slice(start, start + _BLOCK)
            with np.errstate(over="ignore", invalid="ignore"):
                final[rows] += change(rows).astype(final.dtype, copy=False)
        return check_result(final)

    def _difference(self, n: int, domain: ArrayLike, preserve: ArrayLike) -> Any:
        """Difference that the preserved columns of the clips make, as a function of rows."""
        if not len(self.effects_):
            raise ParameterError(
                "preserve was given to transform and not to fit; give it to both or to none"
            )
        _, columns = _code_columns(preserve, n, len(self.effects_), self.categories_)
        domains, codes = check_categories(domain, "domain", n)
        names, affines = [str(name) for name in domains.tolist()], self.to_affine()
        known = dict(zip(affines, self.usual_))
        maps = [affines[k] if k in affines else self._unseen(k) for k in names]
        # A map of a loaded file has no gain where it would be zeros.
        none = np.zeros(self.n_features_in_)
        gains = np.stack([none if one.gain is None else one.gain for one in maps])
        usual = np.stack([known.get(k, self.usual_[-1]) for k in names])
        return lambda rows: (
            ((usual[codes[rows]] - columns[rows]) @ self.effects_) * gains[codes[rows]]
        )

    def _statistics(self, moments: Moments) -> tuple[_Array, _Array, _Array]:
        """Sizes, means and variances of the domains, in order."""
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
        self._solve(sizes, means, variances, np.zeros_like(means))

    def _solve(self, n: _Array, means: _Array, variances: _Array, explained: _Array) -> None:
        """Set the maps; ``explained`` is what c'b adds to the means."""
        check_choice(self.unseen, "unseen", _UNSEEN)
        if not isinstance(self.empirical_bayes, (bool, np.bool_)):
            raise ParameterError(
                f"empirical_bayes={self.empirical_bayes!r} is not allowed; give True or False"
            )
        levels, shares = means - explained, n / n.sum()
        a, pooled = shares @ levels, shares @ variances
        # A feature that does not vary (up to rounding) has no scale to match.
        floor = 1e-10 * (pooled + a**2) + np.finfo(float).tiny
        live = pooled > floor
        flat = ~live | (variances <= floor)
        s = np.sqrt(np.where(live, pooled, 1.0))
        g = (levels - a) / s
        biased = np.where(flat, 0.0, variances) / s**2
        d = np.where(flat, 1.0, biased * (n / (n - 1))[:, None])
        if self.empirical_bayes:
            if live.sum() < 2:
                raise DataError(
                    f"{live.sum()} of {len(live)} features vary within the domains, and "
                    "empirical Bayes needs two to compare; set empirical_bayes=False"
                )
            for i, size in enumerate(n):
                g[i, live], d[i, live] = _posterior(g[i, live], d[i, live], biased[i, live], size)
            d[flat] = 1.0
        self.locations_, self.scales_ = s * g, np.sqrt(d)
        nothing = np.zeros((len(s), 0))
        # (x - a - c'b - s g) d^-1/2 + a + c'b, as what it adds to x
        self.affines_ = {
            str(name): Affine(a + e + shift, nothing, nothing.T, -shift, 1 / scale - 1)
            for name, e, shift, scale in zip(
                self.domains_, explained, self.locations_, self.scales_
            )
        }
        # For a clip of no known domain: the clips of all domains taken as one.
        mixture = pooled + shares @ (levels - a) ** 2
        gain = np.sqrt(np.where(live, pooled, 1.0) / np.where(live, mixture, 1.0)) - 1
        self.global_ = Affine(a, nothing, nothing.T, np.zeros(len(s)), gain)


def _code_columns(
    values: ArrayLike, n: int, width: int | None = None, categories: Any = None
) -> tuple[NDArray[Any] | None, _Array]:
    """Categories of what is preserved, if it has any, and its columns.

    Parameters
    ----------
    values : array_like [shape=(n,) or (n, m)]
    n : int
    width : int, optional
        The number of columns in fit.
    categories : np.ndarray, optional
        The categories in fit, if there were any.

    Returns
    -------
    categories : np.ndarray [shape=(m,)] or None
    columns : np.ndarray [shape=(n, m)]

    Raises
    ------
    DataError
        If a category or the number of columns differs from that in fit.
    """
    array = np.asarray(values)
    is_numeric = array.ndim != 1 or array.dtype.kind == "f"
    if is_numeric or (width is not None and categories is None):
        columns = read_columns(values, "preserve", n, categories=False)
        found = "no categories" if categories is not None else f"{columns.shape[1]} column(s)"
        if width is not None and (categories is not None or columns.shape[1] != width):
            wanted = f"{width} column(s)" if categories is None else "one category per clip"
            raise DataError(f"preserve has {found}, but fit saw {wanted}; give the same to both")
        return None, columns
    names, codes = check_categories(values, "preserve", n)
    if categories is None:
        return names, np.eye(len(names))[codes]
    places = {str(name): i for i, name in enumerate(categories)}
    new = [str(name) for name in names.tolist() if str(name) not in places]
    if new:
        raise DataError(
            f"preserve has {name_some(new)}, which fit did not see; it saw {name_some(places, 9)}: "
            "leave these clips or preserve out"
        )
    return names, np.eye(len(places))[[places[str(name)] for name in names.tolist()]][codes]


def _check_apart(columns: _Array, within: _Array, n_domains: int, weights: _Array) -> None:
    """Raise if what is preserved cannot be told from the domain, or explains all.

    Parameters
    ----------
    columns, within : np.ndarray [shape=(n, m)]
        Centred, over all clips and in each domain.
    n_domains : int
    weights : np.ndarray [shape=(n,)]
    """
    root = np.sqrt(weights / weights.sum())[:, None]
    spread = np.sqrt(np.square(root * columns).sum(axis=0))
    spread[spread == 0] = 1
    ranks = [np.linalg.matrix_rank(root * part / spread, tol=1e-6) for part in (columns, within)]
    if ranks[0] > ranks[1]:
        raise DataError(
            f"preserve cannot be told from domain: {ranks[0] - ranks[1]} of its {ranks[0]} "
            "independent columns does not vary within the domains; give clips of one class in "
            "several domains, or preserve less"
        )
    n = int((weights > 0).sum())
    if ranks[1] + n_domains >= n:
        raise DataError(
            f"preserve has {ranks[1]} independent columns for {n} clips, which leaves nothing to "
            "estimate a scale from; give more clips, or preserve less"
        )


def _regress(
    X: NDArray[np.floating[Any]], codes: NDArray[np.intp], weights: _Array, means: _Array, C: _Array
) -> tuple[_Array, _Array]:
    """Effects of columns within domains, and what they leave.

    Parameters
    ----------
    X : np.ndarray [shape=(n, d)]
    codes : np.ndarray of int [shape=(n,)]
    weights : np.ndarray [shape=(n,)]
    means : np.ndarray [shape=(k, d)]
    C : np.ndarray [shape=(n, m)]
        Centred in each domain; may be of lower rank.

    Returns
    -------
    effects : np.ndarray [shape=(m, d)]
    variances : np.ndarray [shape=(k, d)]
        The mean squared residual in each domain.
    """
    root = np.sqrt(weights)
    spread = np.sqrt(weights @ C**2 / weights.sum())
    spread[spread == 0] = 1
    basis, sizes, mix = np.linalg.svd(root[:, None] * C / spread, full_matrices=False)
    kept = sizes > 1e-6 * np.sqrt(weights.sum())
    solve = (basis[:, kept] / sizes[kept] * root[:, None]) @ mix[kept] / spread
    effects = np.zeros((C.shape[1], X.shape[1]))
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(X), _BLOCK)]
    for rows in blocks:
        effects += solve[rows].T @ (X[rows] - means[codes[rows]])
    squares = np.zeros_like(means)
    for rows in blocks:
        left = X[rows] - means[codes[rows]] - C[rows] @ effects
        shares = np.eye(len(means))[codes[rows]] * weights[rows, None]
        squares += shares.T @ left**2
    return effects, squares / np.bincount(codes, weights)[:, None]


def _posterior(gamma: _Array, delta: _Array, variances: _Array, n: float) -> tuple[_Array, _Array]:
    """Posterior location g* and variance d* of each feature in one domain.

    Parameters
    ----------
    gamma : np.ndarray [shape=(p,)]
        The mean of each standardised feature.
    delta : np.ndarray [shape=(p,)]
        Its variance (unbiased), from which the prior follows.
    variances : np.ndarray [shape=(p,)]
        Its variance (biased), which the clips have.
    n : float
        The number of clips.

    Returns
    -------
    location, scale : np.ndarray [shape=(p,)]
    """
    center, spread = gamma.mean(), gamma.var(ddof=1)
    mean, s2 = delta.mean(), delta.var(ddof=1)
    location, scale = gamma, delta
    for _ in range(_MAX_ROUNDS):
        before = location, scale
        location = (n * spread * gamma + scale * center) / (n * spread + scale)
        squares = n * (variances + (gamma - location) ** 2)
        # The prior's a = 2 + m^2 / s2 and b = m + m^3 / s2, times s2, which may be 0.
        scale = (s2 * (squares / 2 + mean) + mean**3) / (s2 * (n / 2 + 1) + mean**2)
        # As in the published code, which divides by the value and not by its size, so that
        # negative locations never ask for another round; counting them would differ from it.
        pairs = zip(before, (location, scale))
        if all((np.abs(b - a) <= _CHANGE * a)[a > 0].all() for a, b in pairs):
            break
    return location, scale
