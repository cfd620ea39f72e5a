"""The one table of correction methods: what each is and what it may see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from biasaudio._validation import did_you_mean
from biasaudio.errors import ParameterError
from biasaudio.transforms.centering import DomainCentering, DomainStandardizer
from biasaudio.transforms.combat import ComBat
from biasaudio.transforms.coral import CORAL
from biasaudio.transforms.inlp import NullspaceProjection
from biasaudio.transforms.kernel import KernelMap
from biasaudio.transforms.lda import LDAProjection, MultiLDAProjection
from biasaudio.transforms.leace import LEACE, MeanProjection
from biasaudio.transforms.nap import NuisanceProjection
from biasaudio.transforms.robust import RobustLEACE
from biasaudio.transforms.wccn import WithinClassNormalization

__all__ = [
    "DEFAULT",
    "METHODS",
    "ORIGINAL",
    "Method",
    "apply_correction",
    "as_correction",
    "check_methods",
    "method_of",
]

ORIGINAL = "original"
_FOURIER = "Rahimi and Recht, NeurIPS 2007"
_LEACE = "Belrose et al., NeurIPS 2023, arXiv:2306.03819"
_WANG = "Wang, Richard and McFee, ISMIR 2023, arXiv:2307.10834"


@dataclass(frozen=True)
class Method:
    """One correction: what is said of it, and how it is made.

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
        """Fresh estimator, in compat mode where it has one."""
        estimator = clone(self.estimator(**self.options))
        for name in ("compat", "correction__compat"):
            if compat is not None and name in estimator.get_params():
                estimator.set_params(**{name: compat})
        return estimator

    def on_features(self) -> Method | None:
        """Correction of features that are mapped already, for a kernel method that has one."""
        inner = self.options.get("correction")
        if inner is None:
            return None
        inner = as_correction(inner)
        return replace(self, estimator=type(inner), options=inner.get_params(deep=False))

    def fit(self, X: ArrayLike, *, compat: str | None = None, **columns: ArrayLike) -> Any:
        """Fitted estimator, from clips and the columns that it needs.

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
        """Row of the report's table of methods."""
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
            "rleace",
            RobustLEACE,
            "Robust concept erasure",
            "Erases among as many leading directions as the clips vouch for, and drops the rest.",
            _LEACE,
        ),
        Method(
            "inlp",
            NullspaceProjection,
            "Iterative nullspace projection",
            "Projects out one probe direction after the other, as many as held-out clips ask for.",
            "Ravfogel et al., ACL 2020, arXiv:2004.07667",
            takes=("groups",),
            is_default=False,
        ),
        Method(
            "nap",
            NuisanceProjection,
            "Nuisance projection",
            "Turns down the directions in which the same class differs between datasets.",
            "Solomonoff, Campbell and Boardman, ICASSP 2005",
            needs=("domain", "label"),
            takes=("groups",),
            sees_source_labels=True,
            sees_target_labels=True,
        ),
        Method(
            "selftrain",
            NuisanceProjection,
            "Self-trained nuisance projection",
            "Turns down the shifts of guessed classes of the target, where a gate lets it.",
            "Nuisance projection with pseudo-labels behind a gate; this package",
            needs=("domain", "label"),
            takes=("groups",),
            # The gate was set on shifts found like this.
            options={
                "labels": "pseudo",
                "keep_common": False,
                "strength": 10.0,
                "shift_shrinkage": "auto",
            },
            is_default=False,
            is_per_target=True,
            sees_source_labels=True,
        ),
        Method(
            "wccn",
            WithinClassNormalization,
            "Within-class normalisation",
            "Evens out what varies within a class, the dataset included.",
            "Hatch, Kajarekar and Stolcke, Interspeech 2006",
            needs=("domain", "label"),
            takes=("groups",),
            sees_source_labels=True,
            sees_target_labels=True,
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
        Method(
            "coral",
            CORAL,
            "Correlation alignment",
            "Gives every dataset the same mean and covariance, as far as its clips tell them.",
            "Sun, Feng and Saenko, AAAI 2016, arXiv:1511.05547",
            is_default=False,
        ),
        Method(
            "combat",
            ComBat,
            "ComBat",
            "Matches mean and scale of each feature, shrunk towards what all features share.",
            "Johnson, Li and Rabinovic, Biostatistics 8, 2007",
            is_default=False,
        ),
        Method(
            "k",
            KernelMap,
            "Kernel features",
            "Maps to random Fourier features of a Gaussian kernel.",
            _FOURIER,
            needs=(),
            is_default=False,
        ),
        Method(
            "klda",
            KernelMap,
            "Kernel LDA projection",
            "Maps to random Fourier features, then projects out the one direction of `lda` there.",
            f"{_FOURIER}; {_WANG}",
            options={"correction": LDAProjection()},
            is_default=False,
        ),
        Method(
            "mklda",
            KernelMap,
            "Genre-wise kernel LDA projection",
            "Maps to random Fourier features, then projects out one direction a genre there.",
            f"{_FOURIER}; {_WANG}",
            needs=("domain", "genre"),
            options={"correction": MultiLDAProjection()},
            is_default=False,
        ),
        Method(
            "kleace",
            KernelMap,
            "Kernel concept erasure",
            "Maps to random Fourier features, then erases all linear dataset information there.",
            f"{_FOURIER}; {_LEACE}",
            options={"correction": LEACE()},
            is_default=False,
        ),
    )
}


DEFAULT = [name for name, method in METHODS.items() if method.is_default]


def check_methods(names: Sequence[str]) -> tuple[Method, ...]:
    """Methods of these names, without ``original`` and repeats.

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


def as_correction(correction: Any, *, compat: str | None = None) -> Any:
    """Unfitted correction, from its name or an estimator.

    Parameters
    ----------
    correction : str or estimator
        A name in `METHODS`, or any estimator with ``fit`` and ``transform``,
        of which a clone is made.
    compat : str, optional
        For a name: the compat mode, where the method has one.

    Returns
    -------
    estimator

    Raises
    ------
    ParameterError
        If the name is unknown, or it is neither a name nor an estimator.

    Examples
    --------
    >>> as_correction("leace")
    LEACE()
    """
    if isinstance(correction, str):
        if correction not in METHODS:
            raise ParameterError(
                f"correction {correction!r} is not known; choose among {', '.join(METHODS)}"
                f"{did_you_mean(correction, METHODS)}"
            )
        return METHODS[correction].make(compat=compat)
    needed = ("fit", "transform", "get_params")
    if isinstance(correction, type) or not all(hasattr(correction, name) for name in needed):
        what = correction.__name__ if isinstance(correction, type) else type(correction).__name__
        hint = f"{what}()" if isinstance(correction, type) else "LEACE()"
        kind = "class" if isinstance(correction, type) else "object"
        raise ParameterError(
            f"correction is the {kind} {what}; give an estimator such as {hint}, or a name among "
            f"{', '.join(METHODS)}"
        )
    return clone(correction)


def method_of(transform: Any) -> Method | None:
    """Entry of the table that an estimator belongs to, or None if it is not one of ours."""
    found = _BY_KIND.get(_kind(type(transform), transform.get_params(deep=False)))
    return None if found is None else METHODS[found]


def _kind(estimator: type, params: Mapping[str, Any]) -> tuple[type, str, type]:
    """Class and parameters by which methods differ; a strength makes no other method."""
    inner = params.get("correction")
    if isinstance(inner, str) and inner in METHODS:
        inner = METHODS[inner].make()
    return estimator, str(params.get("labels", "true")), type(inner)


_BY_KIND = {_kind(method.estimator, method.options): name for name, method in METHODS.items()}


def apply_correction(
    fitted: Any, X: NDArray[np.floating[Any]], domain: ArrayLike
) -> NDArray[np.floating[Any]]:
    """X through a fitted correction of either family; None changes nothing."""
    if fitted is None:
        return X
    result: NDArray[np.floating[Any]] = (
        fitted.transform(X, domain=domain) if fitted.domain_aware else fitted.transform(X)
    )
    return result
