"""What every correction shares: checks, the two families, ``partial_fit`` and weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted, validate_data

from biasaudio._validation import (
    as_seed,
    check_alpha,
    check_categories,
    check_choice,
    check_features,
    check_sample_weight,
    name_some,
)
from biasaudio.errors import DataError, ParameterError, warn
from biasaudio.moments import Moments
from biasaudio.transforms._affine import (
    Affine,
    apply_each,
    array_namespace,
    check_foreign,
    concatenate,
    take,
)

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "SMALLEST_CELL",
    "BaseTransform",
    "DomainAwareTransform",
    "DomainFreeTransform",
    "StreamingFit",
    "as_seed",
    "clip_weights",
    "read_columns",
    "warn_small",
]

_Array = NDArray[np.float64]
_Floats = NDArray[np.floating[Any]]
_UNSEEN = ("raise", "identity", "global")
# Two clips span one line, which Ledoit-Wolf does not shrink: their covariance is singular.
SMALLEST_CELL = 3
_LARGEST = 1e150


class BaseTransform(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """The checks of what goes into fit and transform, the same for all corrections."""

    domain_aware: ClassVar[bool]
    n_features_in_: int

    def __sklearn_is_fitted__(self) -> bool:
        """Whether `transform` works: after ``partial_fit`` on one domain it does not."""
        return bool({"affine_", "affines_", "mean_"} & set(vars(self)))

    def _fit_input(
        self,
        X: ArrayLike,
        domain: ArrayLike | None,
        extra: str = "",
        *,
        first: bool = True,
        at_least: int = 2,
    ) -> tuple[_Floats, NDArray[Any], NDArray[np.intp]]:
        """X, the domains and the code of each clip, all checked; sets ``domains_``.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        domain : array_like [shape=(n,)] or None
        extra : str
            Further keywords of ``fit``, for the message.
        first : bool
            False for a later batch of ``partial_fit``, which must have the width
            and the column names of the first.
        at_least : int
            How many domains there must be; 1 for a batch.

        Returns
        -------
        X : np.ndarray [shape=(n, d)]
        domains : np.ndarray [shape=(k,)]
        codes : np.ndarray of int [shape=(n,)]
        """
        if domain is None:
            raise ParameterError(
                f"{type(self).__name__}.fit was called without domain; call "
                f"{type(self).__name__}().fit(X, domain=domain{extra}), one dataset name per clip "
                "(in a Pipeline: pipeline.fit(X, y, <step>__domain=domain))"
            )
        X = self._fit_features(X, first=first, at_least=at_least)
        domains, codes = check_categories(domain, "domain", len(X), at_least=at_least)
        if at_least > 1:
            warn_small(domains, np.bincount(codes))
        self.domains_ = domains
        return X, domains, codes

    def _fit_features(self, X: ArrayLike, *, first: bool = True, at_least: int = 2) -> _Floats:
        """X, checked, for corrections that can do without domains; arguments as above."""
        self._name_features(X, reset=first)
        width = None if first else self.n_features_in_
        X = check_features(X, n_features=width, owner=type(self).__name__)
        self.n_features_in_ = X.shape[1]
        check_alpha(getattr(self, "alpha", 1.0))
        _check_squares(X)
        if first:
            # What was gathered before does not belong to these clips.
            self.__dict__.pop("moments_", None)
        if at_least > 1 and len(X) == 1:
            raise DataError("X has 1 clip (n_samples=1); give clips of every domain, best hundreds")
        if at_least > 1 and not _varies(X):
            raise DataError(
                f"all {len(X)} clips have the same vector; there is nothing to correct, "
                "check how the embedding was computed"
            )
        return X

    def _transform_input(self, X: Any) -> Any:
        """X, checked, as an array of the library that it came from."""
        check_is_fitted(self)
        if array_namespace(X) is not np:
            return check_foreign(X, self.n_features_in_)
        if hasattr(X, "columns"):
            self._name_features(X, reset=False)
        return check_features(X, n_features=self.n_features_in_, owner=type(self).__name__)

    def _name_features(self, X: ArrayLike, *, reset: bool) -> None:
        """Column names of a frame: remembered or forgotten (reset), or compared."""
        try:
            # Names only: `check_features` reads the values once, and says which clip is bad.
            validate_data(self, X, reset=reset, skip_check_array=True)
        except (TypeError, ValueError) as error:
            text = " ".join(str(error).split())
            raise DataError(f"{text} Use vectors of the same embedding as in fit.") from error


class DomainFreeTransform(BaseTransform):
    """Base of corrections that need the domain in fit only: they set ``affine_``."""

    # copy and out are for direct calls: a pipeline has nowhere to write to.
    __metadata_request__fit: ClassVar[dict[str, Any]] = {"domain": True}
    __metadata_request__transform: ClassVar[dict[str, Any]] = {"copy": UNUSED, "out": UNUSED}
    domain_aware = False
    affine_: Affine

    def transform(self, X: Any, *, copy: bool = True, out: _Floats | None = None) -> Any:
        """Corrected vectors.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
            An array of torch, CuPy or another library of the Python array API
            standard stays on its device.
        copy : bool
            False writes into X, if X is a float array of numpy.
        out : np.ndarray [shape=(n, d)], optional
            Where to write; of the dtype of the result.

        Returns
        -------
        array [shape=(n, d)]
            float32 if X is float32, else float64.

        Raises
        ------
        DataError
            If X has another width than in fit, or holds NaN or Inf, or the
            result overflows its dtype.
        ParameterError
            If the result does not fit into ``out``.
        """
        checked = self._transform_input(X)
        return self.to_affine()(checked, _destination(checked, copy or checked is not X, out))

    def to_affine(self) -> Affine:
        """Fitted correction as an `Affine` map, ``alpha`` included."""
        check_is_fitted(self)
        # alpha is applied here, not in fit, so that it can be changed without fitting again.
        return self.affine_.blend(check_alpha(getattr(self, "alpha", 1.0)))


class DomainAwareTransform(BaseTransform):
    """Base of corrections that need the domain in transform too: they set ``affines_``."""

    __metadata_request__fit: ClassVar[dict[str, Any]] = {"domain": True}
    __metadata_request__transform: ClassVar[dict[str, Any]] = {
        "domain": True,
        "copy": UNUSED,
        "out": UNUSED,
    }
    domain_aware = True
    affines_: dict[str, Affine]
    global_: Affine

    def fit_transform(
        self, X: ArrayLike, y: object = None, *, domain: ArrayLike | None = None, **fit_params: Any
    ) -> _Floats:
        """Corrected vectors of the clips that are fitted.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        y : ignored
        domain : array_like [shape=(n,)]
        **fit_params : array_like
            The other keywords of ``fit``.

        Returns
        -------
        np.ndarray [shape=(n, d)]
        """
        return self.fit(X, y, domain=domain, **fit_params).transform(X, domain=domain)

    def transform(
        self,
        X: Any,
        *,
        domain: ArrayLike | None = None,
        copy: bool = True,
        out: _Floats | None = None,
    ) -> Any:
        """Corrected vectors.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
            An array of torch, CuPy or another library of the Python array API
            standard stays on its device.
        domain : array_like [shape=(n,)]
            The dataset of each clip, as in ``fit``.
        copy : bool
            False writes into X, if X is a float array of numpy.
        out : np.ndarray [shape=(n, d)], optional
            Where to write; of the dtype of the result.

        Returns
        -------
        array [shape=(n, d)]
            float32 if X is float32, else float64.

        Raises
        ------
        ParameterError
            If the domain is missing, or the result does not fit into ``out``.
        DataError
            If a domain was not seen in fit and ``unseen="raise"``, or the
            result overflows its dtype.
        """
        checked = self._transform_input(X)
        if domain is None:
            raise ParameterError(
                f"{type(self).__name__}.transform was called without domain, which it needs: call "
                "transform(X, domain=domain); a correction that does not need it is LEACE"
            )
        known = self.to_affine()
        domains, codes = check_categories(domain, "domain", checked.shape[0])
        names = [str(name) for name in domains.tolist()]
        affines = [known[name] if name in known else self._unseen(name) for name in names]
        if array_namespace(checked) is not np:
            parts = [a(take(checked, np.flatnonzero(codes == k))) for k, a in enumerate(affines)]
            # Clips now stand domain by domain; the inverse of that order puts them back.
            order = np.argsort(np.argsort(codes, kind="stable"))
            return take(concatenate(parts, checked), order)
        out = _destination(checked, copy or checked is not X, out)
        result = np.empty_like(checked) if out is None else out
        apply_each(affines, codes, checked, result)
        return result

    def to_affine(self) -> dict[str, Affine]:
        """One `Affine` map per domain, by its name, ``alpha`` included.

        An integer domain goes by its digits: 7 and "7" are the same.
        """
        check_is_fitted(self)
        alpha = check_alpha(getattr(self, "alpha", 1.0))
        return {name: affine.blend(alpha) for name, affine in self.affines_.items()}

    def _unseen(self, name: object) -> Affine:
        """Map for clips of a domain that was not fitted, as ``unseen`` says."""
        rule = check_choice(self.unseen, "unseen", _UNSEEN)
        if rule == "raise":
            raise DataError(
                f"domain {name!r} was not seen in fit, which saw {self.domains_.tolist()}; fit "
                "with clips of it, or set unseen='identity' or unseen='global'"
            )
        alpha = check_alpha(getattr(self, "alpha", 1.0))
        return self.global_.blend(alpha if rule == "global" else 0.0)


class StreamingFit(BaseTransform):
    """Base of corrections that follow from moments, so that batches can be fitted one by one."""

    # MeanProjection and the like need no products of features.
    _scatter: ClassVar[str] = "full"
    moments_: Moments

    def partial_fit(
        self,
        X: ArrayLike,
        y: object = None,
        *,
        domain: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Add clips to those seen so far, and fit again.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        y : ignored
        domain : array_like of str or int [shape=(n,)]
            One dataset per call is enough; `transform` works when two were
            seen.  A dataset of one clip is left out of a correction that
            needs more of each, until they come.
        sample_weight : array_like [shape=(n,)], optional
            What each clip counts for; default 1.

        Returns
        -------
        self

        Raises
        ------
        ParameterError
            If the domain is missing, ``fit`` was called before, or the
            shrinkage is "auto", which needs all clips at once.
        DataError
            If X is not usable, or of another width than before.  A batch that
            is refused changes nothing.
        """
        return self._add_clips(X, domain, sample_weight)

    def _fit_moments(self, moments: Moments) -> None:
        """Set what ``transform`` needs, from moments by domain."""
        raise NotImplementedError

    def _check_streaming(self) -> None:
        """Refuse parameters that need all clips at once."""

    def _batch_moments(
        self, X: _Floats, domain: NDArray[Any], sample_weight: ArrayLike | None, **columns: Any
    ) -> Moments:
        """Moments of one batch, by domain and the further columns that were given."""
        given = {name: values for name, values in columns.items() if values is not None}
        found = Moments(dtype=np.float64, scatter=self._scatter)
        return found.update(X, sample_weight=sample_weight, domain=domain, **given)

    def _add_clips(
        self,
        X: ArrayLike,
        domain: ArrayLike | None,
        sample_weight: ArrayLike | None,
        **columns: ArrayLike | None,
    ) -> Self:
        """Body of every ``partial_fit``; ``columns`` are its further keywords."""
        first = not hasattr(self, "moments_")
        if first and (hasattr(self, "affine_") or hasattr(self, "affines_")):
            raise ParameterError(
                f"this {type(self).__name__} was fitted by fit, which keeps no moments; call "
                "partial_fit on a new one, or on sklearn.base.clone(of this one)"
            )
        self._check_streaming()
        extra = "".join(f", {name}={name}" for name in columns)
        before, is_done = dict(vars(self)), False
        try:
            X, domains, codes = self._fit_input(X, domain, extra, first=first, at_least=1)
            found = self._batch_moments(X, domains[codes], sample_weight, **columns)
            self.moments_ = found if first else self.moments_.merge(found)
            self._solve_known(self.moments_)
            is_done = True
        finally:
            # Clips that were refused, or whose fit was interrupted, must not count twice when
            # they are given again.
            if not is_done:
                self.__dict__.clear()
                self.__dict__.update(before)
        return self

    def _solve_known(self, moments: Moments) -> None:
        """Fit, without the domains of one clip where that is too few."""
        cells = moments.by("domain")
        self.domains_ = np.array(list(cells))
        if len(cells) < 2:
            return
        try:
            self._fit_moments(moments)
        except DataError:
            few = [name for name, cell in cells.items() if min(cell.n, cell.size) < 1 + 1e-9]
            if not self.domain_aware or not few:
                raise
            for name in few:
                moments = moments.subtract(moments.select(domain=name))
            self.domains_ = np.array([name for name in cells if name not in few])
            if len(self.domains_) > 1:
                self._fit_moments(moments)


def _check_squares(X: _Floats) -> None:
    """Refuse numbers whose squares, which every fit adds up, would be infinite."""
    # The squares of float32 always fit into float64.
    if X.dtype == np.float32 or max(X.max(), -X.min()) < _LARGEST:
        return
    rows = np.flatnonzero((np.abs(X) >= _LARGEST).any(axis=1)).tolist()
    raise DataError(
        f"X has numbers beyond {_LARGEST:g}, whose squares overflow, in {len(rows)} of {len(X)} "
        f"clips: {name_some(f'row {i}' for i in rows)}; remove these clips or compute their "
        "vectors again"
    )


def clip_weights(
    codes: NDArray[np.intp],
    k: int,
    balance: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> _Array | None:
    """Weights of the clips, None if all count the same.

    Parameters
    ----------
    codes : np.ndarray of int [shape=(n,)]
        The domain of each clip.
    k : int
        The number of domains.
    balance : array_like of str or int [shape=(n,)], optional
        The class of each clip, "" where it is not known.  The classes that every domain has get the
        same share in each domain, the others none.
    sample_weight : array_like [shape=(n,)], optional

    Returns
    -------
    np.ndarray [shape=(n,)] or None
        With the number of clips that count as its sum.

    Raises
    ------
    DataError
        If no class is in every domain, or a domain has no weight.
    """
    if balance is None and sample_weight is None:
        return None
    n = len(codes)
    weights = np.ones(n) if sample_weight is None else check_sample_weight(sample_weight, n)
    if balance is not None:
        classes, class_codes = check_categories(balance, "balance", n)
        sums = np.zeros((k, len(classes)))
        np.add.at(sums, (codes, class_codes), weights)
        shared = (sums > 0).all(axis=0) & (classes.astype(str) != "")
        if not shared.any():
            raise DataError(
                "no class of balance has clips in every domain, so the domains cannot be compared "
                "at equal class mix; leave balance out or give classes that the domains share"
            )
        share = np.where(shared, 1 / np.where(shared, sums, 1), 0.0)
        weights = weights * share[codes, class_codes]
    if (np.bincount(codes, weights, minlength=k) == 0).any():
        raise DataError("a domain has no clip with a weight above 0; give it one or leave it out")
    scaled: _Array = weights * ((weights > 0).sum() / weights.sum())
    return scaled


def read_columns(values: ArrayLike, name: str, n: int, *, categories: bool) -> _Array:
    """Numbers or categories as columns of numbers [shape=(n, m)].

    Parameters
    ----------
    values : array_like [shape=(n,) or (n, m)]
    name : str
        What the argument is called in the message.
    n : int
    categories : bool
        Whether strings and integers are categories, and get a column each;
        else they are numbers, and strings are refused.  Columns of bools,
        and several columns at once, are numbers in any case.

    Returns
    -------
    np.ndarray [shape=(n, m)]

    Raises
    ------
    DataError
        If the length differs, or a value is missing or not finite.
    """
    array = np.asarray(values)
    if array.ndim not in (1, 2) or len(array) != n:
        raise DataError(
            f"{name} has shape {array.shape}, but X has {n} clips; give one row per clip, (n,) or "
            "(n, columns)"
        )
    is_binary = array.dtype.kind in "fiub" and bool(np.isin(array, (0, 1)).all())
    if categories and array.ndim == 2 and not is_binary:
        raise DataError(
            f"{name} has other columns than 0 and 1; give one class per clip, (n,), or a column of "
            "0 and 1 per class"
        )
    if categories and array.ndim == 1 and not (array.dtype.kind == "f" and is_binary):
        names, codes = check_categories(array, name, n)
        return np.eye(len(names))[codes]
    if array.dtype.kind not in "fiub":
        raise DataError(f"{name} has dtype {array.dtype}; give numbers, one column for each")
    columns: _Array = array.reshape(n, -1).astype(np.float64)
    if not np.isfinite(columns).all():
        bad = np.flatnonzero(~np.isfinite(columns).all(axis=1))
        raise DataError(
            f"{name} has NaN or Inf for {len(bad)} of {n} clips, first at row {bad[0]}; give a "
            "number for every clip or leave these clips out"
        )
    return columns


def warn_small(names: Any, sizes: Any) -> None:
    """Warn of domains that are too small to tell a direction from noise."""
    small = [str(name) for name, size in zip(names, sizes) if size < SMALLEST_CELL]
    if small:
        warn(
            f"domain {name_some(small)} has fewer than {SMALLEST_CELL} clips; what is found for "
            "it is mostly noise, fit with more clips of it"
        )


def _varies(X: _Floats) -> bool:
    """Whether two clips differ; on usual data the first block tells."""
    blocks = range(0, len(X), 1024)
    return any((X[start : start + 1024] != X[0]).any() for start in blocks)


def _destination(X: Any, copy: bool, out: Any) -> Any:
    """Array to write into, None for a new one."""
    if out is None:
        if copy or array_namespace(X) is not np:
            return None
        if not X.flags.writeable:
            raise ParameterError(
                "copy=False would write into X, which is write-protected; leave copy out, or give "
                "an array as out="
            )
        return X
    if array_namespace(X) is not np or not isinstance(out, np.ndarray):
        kinds = f"{type(X).__name__} with out of type {type(out).__name__}"
        raise ParameterError(f"X is {kinds}; out= works for numpy arrays only, leave it out")
    if out.shape != X.shape or out.dtype != X.dtype or not out.flags.writeable:
        raise ParameterError(
            f"out has shape {out.shape} and dtype {out.dtype}; give a writable array of shape "
            f"{X.shape} and dtype {X.dtype}"
        )
    return out
