"""Fit a correction a batch of clips at a time."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from biasaudio.errors import BiasAudioError, DataError, ParameterError
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
        before = dict(vars(self))
        try:
            X, domains, codes = self._fit_input(X, domain, extra, first=first, at_least=1)
            kept = {name: values for name, values in columns.items() if values is not None}
            names, found = domains[codes], Moments(dtype=np.float64, scatter=self._scatter)
            found.update(X, sample_weight=sample_weight, domain=names, **kept)
            self.moments_ = found if first else self.moments_.merge(found)
            self._gather(X, names, sample_weight, first)
            self._solve_known(self.moments_)
        except BiasAudioError:
            # Clips that were refused must not count twice when they are given again.
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        return self

    def _gather(self, X: Any, names: Any, sample_weight: ArrayLike | None, first: bool) -> None:
        """Keep what is needed beside the moments, in place of what was kept before."""

    def _solve_known(self, moments: Moments) -> None:
        """Solve, without the domains of one clip where that is too few."""
        cells = moments.by("domain")
        self.domains_ = np.array(list(cells))
        if len(cells) < 2:
            return
        try:
            self._solve(moments)
        except DataError:
            few = [name for name, cell in cells.items() if min(cell.n, cell.size) < 1 + 1e-9]
            if not self.domain_aware or not few:
                raise
            for name in few:
                moments = moments.subtract(moments.select(domain=name))
            self.domains_ = np.array([name for name in cells if name not in few])
            if len(self.domains_) > 1:
                self._solve(moments)
