"""What is said of a correction method, and how it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import ArrayLike
from sklearn.base import clone

from biasaudio.errors import ParameterError

__all__ = ["Method"]


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
    def modes(self) -> tuple[str, ...]:
        """On what it can be fitted: what compares classes needs all of them at once."""
        return ("global",) if "label" in self.needs else ("global", "classwise")

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
        for name in ("compat", "correction__compat"):
            if compat is not None and name in estimator.get_params():
                estimator.set_params(**{name: compat})
        return estimator

    def on_features(self) -> Method | None:
        """Return what a kernel method does to features that are mapped already, if anything."""
        inner = self.options.get("correction")
        if inner is None:
            return None
        return replace(self, estimator=type(inner), options=inner.get_params(deep=False))

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
            "needs": (" and ".join(self.needs) or "vectors")
            + (" at fit, domain at transform" if self.domain_at_transform else " at fit"),
            "sees_source_labels": self.sees_source_labels,
            "sees_target_clips": self.sees_target_clips,
            "sees_target_labels": self.sees_target_labels,
            "domain_at_transform": self.domain_at_transform,
        }
