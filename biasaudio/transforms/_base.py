"""What every correction shares: the affine map, and the two families."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from biasaudio._validation import check_alpha, check_categories, check_choice, check_features
from biasaudio.errors import DataError, ParameterError
from biasaudio.moments import Moments

__all__ = ["Affine", "DomainAwareTransform", "DomainFreeTransform"]

_BLOCK = 8192
_Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Affine:
    """Apply ``x -> x * scale + ((x - center) @ down) @ up + offset``.

    A linear correction in the form that costs least: two thin products and
    no d x d matrix.

    Attributes
    ----------
    center : np.ndarray [shape=(d,)]
        Taken off before the product, so that float32 vectors with large means
        keep their digits.
    down : np.ndarray [shape=(d, k)]
        What is read.
    up : np.ndarray [shape=(k, d)]
        What is added for it.
    offset : np.ndarray [shape=(d,)]
    scale : np.ndarray [shape=(d,)] or None
        None stands for ones.

    Examples
    --------
    >>> import numpy as np
    >>> e = np.array([[1.0], [0.0]])
    >>> flat = Affine(np.zeros(2), e, -e.T, np.zeros(2))
    >>> flat(np.array([[3.0, 4.0]])).tolist()
    [[0.0, 4.0]]
    """

    center: _Floats
    down: _Floats
    up: _Floats
    offset: _Floats
    scale: _Floats | None = None

    @property
    def matrix(self) -> _Floats:
        """The same map as a dense matrix [shape=(d, d)], for ``X @ matrix``."""
        scale = np.ones(len(self.center)) if self.scale is None else self.scale
        return np.diag(scale) + self.down @ self.up

    @property
    def intercept(self) -> _Floats:
        """What ``X @ matrix`` still lacks [shape=(d,)]."""
        return self.offset - (self.center @ self.down) @ self.up

    def __call__(self, X: _Floats) -> _Floats:
        """Return the corrected copy of X, in its own dtype."""
        out = np.empty_like(X)
        center, down, up, offset = (
            a.astype(X.dtype) for a in (self.center, self.down, self.up, self.offset)
        )
        for start in range(0, len(X), _BLOCK):
            rows = slice(start, start + _BLOCK)
            block = X[rows] - center
            out[rows] = (block @ down) @ up
            if self.scale is None:
                out[rows] += X[rows] + offset
            else:
                # Scaling the centred block, not X, keeps float32 digits as well.
                block *= self.scale.astype(X.dtype)
                out[rows] += block + (self.center * self.scale + self.offset).astype(X.dtype)
        return out

    def blend(self, alpha: float) -> Affine:
        """Return ``(1 - alpha) * identity + alpha * self``."""
        scale = None if self.scale is None else 1 + alpha * (self.scale - 1)
        return Affine(self.center, self.down, alpha * self.up, alpha * self.offset, scale)


class _Transform(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Check the input of fit and transform in one way for all corrections."""

    domain_aware: ClassVar[bool]

    def _fit_input(
        self, X: ArrayLike, domain: ArrayLike | None, extra: str = ""
    ) -> tuple[_Floats, NDArray[Any], NDArray[np.intp]]:
        """Return X, the domains and the code of each clip, all checked."""
        if domain is None:
            raise ParameterError(
                f"{type(self).__name__}.fit was called without domain; call "
                f"{type(self).__name__}().fit(X, domain=domain{extra}), one dataset name a clip "
                "(in a Pipeline: pipeline.fit(X, y, <step>__domain=domain))"
            )
        self._name_features(X, reset=True)
        X = check_features(X)
        self.n_features_in_ = X.shape[1]
        check_alpha(getattr(self, "alpha", 1.0))
        domains, codes = check_categories(domain, "domain", len(X), at_least=2)
        if not (X != X[0]).any():
            raise DataError(
                f"all {len(X)} clips have the same vector; there is nothing to correct, "
                "check how the embedding was computed"
            )
        self.domains_ = domains
        return X, domains, codes

    def _transform_input(self, X: ArrayLike) -> _Floats:
        check_is_fitted(self)
        if hasattr(X, "columns"):
            self._name_features(X, reset=False)
        return check_features(X, n_features=self.n_features_in_)

    def _name_features(self, X: ArrayLike, *, reset: bool) -> None:
        """Let scikit-learn remember, forget or compare the column names of a frame."""
        try:
            validate_data(self, X, reset=reset, skip_check_array=True)
        except (TypeError, ValueError) as error:
            text = " ".join(str(error).split())
            raise DataError(f"{text} Use vectors of the same embedding as in fit.") from error


class DomainFreeTransform(_Transform):
    """Base of corrections that need the domain in fit only."""

    __metadata_request__fit: ClassVar[dict[str, bool]] = {"domain": True}
    domain_aware = False
    affine_: Affine

    def transform(self, X: ArrayLike) -> _Floats:
        """Return the corrected vectors.

        Parameters
        ----------
        X : array_like [shape=(n, d)]

        Returns
        -------
        np.ndarray [shape=(n, d)]
            float32 if X is float32, else float64.
        """
        return self.to_affine()(self._transform_input(X))

    def to_affine(self) -> Affine:
        """Return the fitted correction as an `Affine` map, ``alpha`` included."""
        check_is_fitted(self)
        return self.affine_.blend(check_alpha(getattr(self, "alpha", 1.0)))


class DomainAwareTransform(_Transform):
    """Base of corrections that need the domain in fit and in transform."""

    __metadata_request__fit: ClassVar[dict[str, bool]] = {"domain": True}
    __metadata_request__transform: ClassVar[dict[str, bool]] = {"domain": True}
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

    def transform(self, X: ArrayLike, *, domain: ArrayLike | None = None) -> _Floats:
        """Return the corrected vectors.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        domain : array_like [shape=(n,)]
            The dataset of each clip, as in ``fit``.

        Returns
        -------
        np.ndarray [shape=(n, d)]
            float32 if X is float32, else float64.

        Raises
        ------
        ParameterError
            If the domain is missing.
        DataError
            If a domain was not seen in fit and ``unseen="raise"``.
        """
        X = self._transform_input(X)
        if domain is None:
            raise ParameterError(
                f"{type(self).__name__}.transform was called without domain, which it needs: call "
                "transform(X, domain=domain); a correction that does not need it is LEACE"
            )
        affines = self.to_affine()
        domains, codes = check_categories(domain, "domain", len(X))
        out = np.empty_like(X)
        for code, name in enumerate(map(str, domains.tolist())):
            rows = codes == code
            out[rows] = (affines[name] if name in affines else self._unseen(name))(X[rows])
        return out

    def to_affine(self) -> dict[str, Affine]:
        """Return one `Affine` map for each domain, by its name, ``alpha`` included.

        An integer domain goes by its digits: 7 and "7" are the same.
        """
        check_is_fitted(self)
        alpha = check_alpha(getattr(self, "alpha", 1.0))
        return {name: affine.blend(alpha) for name, affine in self.affines_.items()}

    def _unseen(self, name: object) -> Affine:
        rule = check_choice(self.unseen, "unseen", ("raise", "identity", "global"))
        if rule == "raise":
            raise DataError(
                f"domain {name!r} was not seen in fit, which saw {self.domains_.tolist()}; fit "
                "with clips of it, or set unseen='identity' or unseen='global'"
            )
        alpha = check_alpha(getattr(self, "alpha", 1.0))
        return self.global_.blend(alpha if rule == "global" else 0.0)


def domain_moments(X: _Floats, codes: NDArray[np.intp], **cells: NDArray[np.intp]) -> Moments:
    """Return float64 moments by domain code (and further columns)."""
    return Moments(dtype=np.float64).update(X, domain=codes, **cells)
