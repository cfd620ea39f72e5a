"""Fit a correction on clips whose class is known."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasaudio._validation import check_categories, check_sample_weight, name_some
from biasaudio.errors import BiasAudioWarning, DataError, ParameterError
from biasaudio.moments import Moments
from biasaudio.transforms._base import DomainFreeTransform, StreamingFit
from biasaudio.transforms._shifts import read_labels

__all__ = ["Labelled", "LabelledFit"]

_Array = NDArray[np.float64]
_Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Labelled:
    """Hold the clips whose class is known, one row a clip and class.

    Attributes
    ----------
    X : np.ndarray [shape=(m, d)]
    rows : np.ndarray of int [shape=(m,)]
        The clip of each row.
    domain, label : np.ndarray [shape=(m,)]
    weights : np.ndarray [shape=(m,)] or None
    """

    X: _Floats
    rows: NDArray[np.intp]
    domain: NDArray[Any]
    label: NDArray[Any]
    weights: _Array | None

    def moments(self, scatter: str) -> Moments:
        """Return the moments by domain and class."""
        moments = Moments(dtype=np.float64, scatter=scatter)
        return moments.update(
            self.X, sample_weight=self.weights, domain=self.domain, label=self.label
        )


class LabelledFit(StreamingFit, DomainFreeTransform):
    """Take the class of each clip in ``fit``, and remember which classes there were."""

    __metadata_request__fit: ClassVar[dict[str, Any]] = {
        "domain": True,
        "label": True,
        "groups": True,
    }
    classes_: NDArray[Any]
    fitted_classes_: NDArray[Any]
    domains_: NDArray[Any]

    def _labelled(
        self,
        X: _Floats,
        domain: NDArray[Any],
        y: Any,
        label: ArrayLike | None,
        sample_weight: ArrayLike | None,
        groups: ArrayLike | None = None,
    ) -> Labelled:
        """Return the clips that have a class, one row for each."""
        label = y if label is None else label
        if label is None:
            name = type(self).__name__
            raise ParameterError(
                f"{name} was called without label; call {name}().fit(X, domain=domain, "
                "label=classes) with one class a clip, or use LEACE, which needs no class labels"
            )
        classes, Y = read_labels(label, len(X))
        weights = None
        if sample_weight is not None:
            weights = check_sample_weight(sample_weight, len(X))
            Y &= (weights > 0)[:, None]
        rows, columns = np.nonzero(Y)
        if not len(rows):
            raise DataError("no clip that has a class has a weight above 0; give some of them one")
        kept = X if len(rows) == len(X) and (np.diff(rows) == 1).all() else X[rows]
        weights = None if weights is None else weights[rows]
        if groups is not None:
            check_categories(groups, "groups", len(X))
        self.classes_ = classes[Y.any(axis=0)]
        return Labelled(kept, rows, domain[rows], classes[columns], weights)

    def partial_fit(
        self,
        X: ArrayLike,
        y: object = None,
        *,
        domain: ArrayLike | None = None,
        label: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Any:
        """Add clips to those seen so far, and solve again.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        y : array_like, optional
            Taken for the labels where ``label`` is not given.
        domain : array_like of str or int [shape=(n,)]
            One dataset is enough for a call; `transform` works when a class
            was seen in two.
        label : array_like [shape=(n,) or (n, n_labels)]
            The class of each clip, as in ``fit``.
        sample_weight : array_like [shape=(n,)], optional
            What each clip counts for; default 1.

        Returns
        -------
        self

        Raises
        ------
        ParameterError
            If domain or label is missing, ``fit`` was called before, or a
            parameter is "auto", which needs all clips at once.
        DataError
            If X is not usable, or no clip has a class.
        """
        self._check_streaming()
        first = not hasattr(self, "moments_")
        if first and hasattr(self, "affine_"):
            raise ParameterError(
                f"this {type(self).__name__} was fitted by fit, which keeps no moments; call "
                "partial_fit on a new one, or on sklearn.base.clone(of this one)"
            )
        X, domains, codes = self._fit_input(X, domain, ", label=classes", first=first, at_least=1)
        found = self._labelled(X, domains[codes], y, label, sample_weight).moments(self._scatter)
        self.moments_ = found if first else self.moments_.merge(found)
        self.domains_ = np.array(list(self.moments_.by("domain")))
        self.classes_ = np.unique([label for _, label in self.moments_.cells])
        cells = Counter(label for _, label in self.moments_.cells)
        if max(cells.values()) > 1:
            self._solve(self.moments_)
        return self

    def _check_streaming(self) -> None:
        """Refuse parameters that need all clips at once."""

    def check_classes(self, labels: ArrayLike) -> None:
        """Warn if the correction is applied to classes that it was not fitted on.

        `transform` cannot know classes; who does should call this.

        Parameters
        ----------
        labels : array_like [shape=(k,)]
            Classes, or the class of each clip; "" does not count.  With
            ``label`` as columns in ``fit``, the numbers of the columns.

        Warns
        -----
        BiasAudioWarning
            Naming the classes that did not have clips in two domains in
            ``fit``: how *they* differ between domains was not seen, and the
            shifts of other classes may take away what tells them apart.
        """
        known = {str(name) for name in self.fitted_classes_}
        unknown = [c for c in np.unique(np.asarray(labels)) if str(c) not in known and str(c)]
        if unknown:
            warnings.warn(
                f"{type(self).__name__} is applied to {len(unknown)} class(es) that it was not "
                f"fitted on in two domains: {name_some(unknown)}; for them it can do harm, fit "
                "with labelled clips of them or leave them uncorrected",
                BiasAudioWarning,
                stacklevel=2,
            )
