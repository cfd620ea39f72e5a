"""The one table of correction methods: what each is and what it may see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from biasaudio._validation import did_you_mean
from biasaudio.errors import ParameterError
from biasaudio.transforms.centering import DomainCentering, DomainStandardizer
from biasaudio.transforms.erasure import LEACE, MeanProjection
from biasaudio.transforms.projection import LDAProjection, MultiLDAProjection

__all__ = ["METHODS", "ORIGINAL", "Method", "check_methods"]

ORIGINAL = "original"
_LEACE = "Belrose et al., NeurIPS 2023, arXiv:2306.03819"
_WANG = "Wang, Richard and McFee, ISMIR 2023, arXiv:2307.10834"


@dataclass(frozen=True)
class Method:
    """Describe one correction and make it.

    Attributes
    ----------
    name : str
        The short name used in tables and on the command line.
    estimator : type
        The class; `make` returns a fresh instance.
    title : str
    explanation : str
        One sentence.
    reference : str
    needs : tuple of str
        The keywords of ``fit``: ``domain``, and ``genre`` or ``label`` where
        that is needed for each clip.
    takes : tuple of str
        Further keywords of ``fit`` that are used where they are known.
    options : mapping of str to object
        Parameters of the estimator that make it this method.
    is_default : bool
        Whether an audit runs it when no method is named.
    is_per_target : bool
        Whether it is fitted anew for each source and target.
    sees_source_labels, sees_target_clips, sees_target_labels : bool
        What the correction was allowed to see of source and target when it
        was fitted.
    """

    name: str
    estimator: type[Any]
    title: str
    explanation: str
    reference: str
    needs: tuple[str, ...] = ("domain",)
    takes: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    is_default: bool = True
    is_per_target: bool = False
    sees_source_labels: bool = False
    sees_target_clips: bool = True
    sees_target_labels: bool = False

    @property
    def domain_at_transform(self) -> bool:
        """Whether each clip's domain must be known when the correction is applied."""
        return bool(self.estimator.domain_aware)

    @property
    def family(self) -> str:
        """Either "domain-free" or "domain-aware", at transform."""
        return "domain-aware" if self.domain_at_transform else "domain-free"

    def make(self, *, compat: str | None = None) -> Any:
        """Return a fresh estimator, in compat mode where it has one."""
        estimator = clone(self.estimator(**self.options))
        if compat is not None and "compat" in estimator.get_params():
            estimator.set_params(compat=compat)
        return estimator

    def fit(self, X: ArrayLike, *, compat: str | None = None, **columns: ArrayLike) -> Any:
        """Return the fitted estimator, given the columns that it needs.

        Raises
        ------
        ParameterError
            If a column that the method needs is not among ``columns``.
        """
        missing = [name for name in self.needs if name not in columns]
        if missing:
            raise ParameterError(f"{self.name} needs {missing[0]} for every clip; give it to fit")
        used = {name: columns[name] for name in (*self.needs, *self.takes) if name in columns}
        return self.make(compat=compat).fit(X, **used)

    def card(self) -> dict[str, str | bool]:
        """Return the method card: one row of the report's table."""
        return {
            "method": self.name,
            "title": self.title,
            "family": self.family,
            "explanation": self.explanation,
            "reference": self.reference,
            "needs": " and ".join(self.needs)
            + (" at fit, domain at transform" if self.domain_at_transform else " at fit"),
            "sees_source_labels": self.sees_source_labels,
            "sees_target_clips": self.sees_target_clips,
            "sees_target_labels": self.sees_target_labels,
            "domain_at_transform": self.domain_at_transform,
        }


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method(
            "lda",
            LDAProjection,
            "LDA projection",
            "Projects out the one direction that best tells the datasets apart.",
            _WANG,
        ),
        Method(
            "mlda",
            MultiLDAProjection,
            "Genre-wise LDA projection",
            "Projects out one discriminant direction for each genre, jointly.",
            _WANG,
            needs=("domain", "genre"),
        ),
        Method(
            "meandiff",
            MeanProjection,
            "Mean-difference projection",
            "Projects out the differences between the dataset means, orthogonally.",
            "Orthogonal projection; compare Bolukbasi et al., NeurIPS 2016, arXiv:1607.06520",
        ),
        Method(
            "leace",
            LEACE,
            "Least-squares concept erasure",
            "Erases all linear information about the dataset with the smallest change.",
            _LEACE,
        ),
        Method(
            "center",
            DomainCentering,
            "Centering by dataset",
            "Moves every dataset's mean to the common mean.",
            "Mean subtraction by domain",
        ),
        Method(
            "standardize",
            DomainStandardizer,
            "Standardising by dataset",
            "Gives every feature the same mean and scale in every dataset.",
            "Standardisation by domain",
        ),
    )
}


def check_methods(names: Sequence[str]) -> tuple[Method, ...]:
    """Return the methods of these names, without ``original`` and repeats.

    Raises
    ------
    ParameterError
        If a name is unknown; the message says which is nearest.
    """
    found = []
    for name in dict.fromkeys(names):
        if name == ORIGINAL:
            continue
        if name not in METHODS:
            known = ", ".join(METHODS)
            hint = did_you_mean(name, METHODS)
            raise ParameterError(f"method {name!r} is not known; choose among {known}{hint}")
        found.append(METHODS[name])
    return tuple(found)


def apply_correction(
    fitted: Any, X: NDArray[np.floating[Any]], domain: ArrayLike
) -> NDArray[np.floating[Any]]:
    """Return X through a fitted correction of either family; None changes nothing."""
    if fitted is None:
        return X
    result: NDArray[np.floating[Any]] = (
        fitted.transform(X, domain=domain) if fitted.domain_aware else fitted.transform(X)
    )
    return result
