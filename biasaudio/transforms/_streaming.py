"""Fit a correction a batch of clips at a time."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from biasaudio.errors import ParameterError
from biasaudio.moments import Moments
from biasaudio.transforms._base import BaseTransform

__all__ = ["StreamingFit"]


class StreamingFit(BaseTransform):
    """Let ``partial_fit`` gather moments, for corrections that follow from them."""

    _scatter: ClassVar[str] = "full"
    moments_: Moments

    def _solve(self, moments: Moments) -> None:
        """Set what ``transform`` needs, from moments by domain."""
        raise NotImplementedError

    def partial_fit(
        self,
        X: ArrayLike,
        y: object = None,
        *,
        domain: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Any:
        """Add clips to those seen so far, and solve again.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        y : ignored
        domain : array_like of str or int [shape=(n,)]
            One dataset is enough for a call; `transform` works when two were
            seen.
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
            If X is not usable, or of another width than before.
        """
        return self._add_clips(X, domain, sample_weight)

    def _add_clips(
        self,
        X: ArrayLike,
        domain: ArrayLike | None,
        sample_weight: ArrayLike | None,
        **columns: ArrayLike | None,
    ) -> Any:
        first = not hasattr(self, "moments_")
        if first and (hasattr(self, "affine_") or hasattr(self, "affines_")):
            raise ParameterError(
                f"this {type(self).__name__} was fitted by fit, which keeps no moments; call "
                "partial_fit on a new one, or on sklearn.base.clone(of this one)"
            )
        extra = "".join(f", {name}={name}" for name in columns)
        X, domains, codes = self._fit_input(X, domain, extra, first=first, at_least=1)
        if first:
            self.moments_ = Moments(dtype=np.float64, scatter=self._scatter)
        kept = {name: values for name, values in columns.items() if values is not None}
        self.moments_.update(X, sample_weight=sample_weight, domain=domains[codes], **kept)
        self.domains_ = np.array(list(self.moments_.by("domain")))
        if len(self.domains_) > 1:
            self._solve(self.moments_)
        return self
