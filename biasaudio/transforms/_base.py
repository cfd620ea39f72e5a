"""What every correction shares: its checks, and the two families."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.metadata_routing import UNUSED
from sklearn.utils.validation import check_is_fitted, validate_data

from biasaudio._validation import check_alpha, check_categories, check_choice, check_features
from biasaudio.errors import DataError, ParameterError
from biasaudio.transforms._affine import (
    Affine,
    apply_each,
    array_namespace,
    check_foreign,
    concatenate,
    take,
)
from biasaudio.transforms._directions import warn_small

__all__ = ["BaseTransform", "DomainAwareTransform", "DomainFreeTransform"]

_Floats = NDArray[np.floating[Any]]
_UNSEEN = ("raise", "identity", "global")


class BaseTransform(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Check the input of fit and transform in one way for all corrections."""

    domain_aware: ClassVar[bool]
    n_features_in_: int

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether `transform` works: after ``partial_fit`` on one domain it does not."""
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
        """Return X, the domains and the code of each clip, all checked."""
        if domain is None:
            raise ParameterError(
                f"{type(self).__name__}.fit was called without domain; call "
                f"{type(self).__name__}().fit(X, domain=domain{extra}), one dataset name a clip "
                "(in a Pipeline: pipeline.fit(X, y, <step>__domain=domain))"
            )
        X = self._fit_features(X, first=first, at_least=at_least)
        domains, codes = check_categories(domain, "domain", len(X), at_least=at_least)
        if at_least > 1:
            warn_small(domains, np.bincount(codes))
        self.domains_ = domains
        return X, domains, codes

    def _fit_features(self, X: ArrayLike, *, first: bool = True, at_least: int = 2) -> _Floats:
        self._name_features(X, reset=first)
        width = None if first else self.n_features_in_
        X = check_features(X, n_features=width, owner=type(self).__name__)
        self.n_features_in_ = X.shape[1]
        check_alpha(getattr(self, "alpha", 1.0))
        if first:
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
        check_is_fitted(self)
        if array_namespace(X) is not np:
            return check_foreign(X, self.n_features_in_)
        if hasattr(X, "columns"):
            self._name_features(X, reset=False)
        return check_features(X, n_features=self.n_features_in_, owner=type(self).__name__)

    def _name_features(self, X: ArrayLike, *, reset: bool) -> None:
        """Let scikit-learn remember, forget or compare the column names of a frame."""
        try:
            validate_data(self, X, reset=reset, skip_check_array=True)
        except (TypeError, ValueError) as error:
            text = " ".join(str(error).split())
            raise DataError(f"{text} Use vectors of the same embedding as in fit.") from error


class DomainFreeTransform(BaseTransform):
    """Base of corrections that need the domain in fit only."""

    __metadata_request__fit: ClassVar[dict[str, Any]] = {"domain": True}
    __metadata_request__transform: ClassVar[dict[str, Any]] = {"copy": UNUSED, "out": UNUSED}
    domain_aware = False
    affine_: Affine

    def transform(self, X: Any, *, copy: bool = True, out: _Floats | None = None) -> Any:
        """Return the corrected vectors.

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
            If X has another width than in fit, or holds NaN or Inf.
        ParameterError
            If the result does not fit into ``out``.
        """
        checked = self._transform_input(X)
        return self.to_affine()(checked, _destination(checked, copy or checked is not X, out))

    def to_affine(self) -> Affine:
        """Return the fitted correction as an `Affine` map, ``alpha`` included."""
        check_is_fitted(self)
        return self.affine_.blend(check_alpha(getattr(self, "alpha", 1.0)))


class DomainAwareTransform(BaseTransform):
    """Base of corrections that need the domain in fit and in transform."""

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
        """Fit on X, then return its corrected vectors.

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
        """Return the corrected vectors.

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
            If a domain was not seen in fit and ``unseen="raise"``.
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
            order = np.argsort(np.argsort(codes, kind="stable"))
            return take(concatenate(parts, checked), order)
        out = _destination(checked, copy or checked is not X, out)
        result = np.empty_like(checked) if out is None else out
        apply_each(affines, codes, checked, result)
        return result

    def to_affine(self) -> dict[str, Affine]:
        """Return one `Affine` map for each domain, by its name, ``alpha`` included.

        An integer domain goes by its digits: 7 and "7" are the same.
        """
        check_is_fitted(self)
        alpha = check_alpha(getattr(self, "alpha", 1.0))
        return {name: affine.blend(alpha) for name, affine in self.affines_.items()}

    def _unseen(self, name: object) -> Affine:
        rule = check_choice(self.unseen, "unseen", _UNSEEN)
        if rule == "raise":
            raise DataError(
                f"domain {name!r} was not seen in fit, which saw {self.domains_.tolist()}; fit "
                "with clips of it, or set unseen='identity' or unseen='global'"
            )
        alpha = check_alpha(getattr(self, "alpha", 1.0))
        return self.global_.blend(alpha if rule == "global" else 0.0)


def _varies(X: _Floats) -> bool:
    """Return whether two clips differ; on usual data the first block tells."""
    blocks = range(0, len(X), 1024)
    return any((X[start : start + 1024] != X[0]).any() for start in blocks)


def _destination(X: Any, copy: bool, out: Any) -> Any:
    """Return the array to write into, or None for a new one."""
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
