"""The one table of correction methods: what each is and what it may see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasaudio._validation import did_you_mean
from biasaudio.errors import ParameterError
from biasaudio.transforms._method import Method
from biasaudio.transforms.alignment import CORAL
from biasaudio.transforms.centering import DomainCentering, DomainStandardizer
from biasaudio.transforms.combat import ComBat
from biasaudio.transforms.inlp import NullspaceProjection
from biasaudio.transforms.kernel import KernelMap
from biasaudio.transforms.lda import LDAProjection, MultiLDAProjection
from biasaudio.transforms.leace import LEACE, MeanProjection
from biasaudio.transforms.nuisance import NuisanceProjection
from biasaudio.transforms.robust import RobustLEACE
from biasaudio.transforms.within import WithinClassNormalization

__all__ = [
    "DEFAULT",
    "METHODS",
    "ORIGINAL",
    "Method",
    "apply_correction",
    "check_methods",
    "method_of",
]

ORIGINAL = "original"
_FOURIER = "Rahimi and Recht, NeurIPS 2007"
_LEACE = "Belrose et al., NeurIPS 2023, arXiv:2306.03819"
_WANG = "Wang, Richard and McFee, ISMIR 2023, arXiv:2307.10834"

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
                "shrinkage": "auto",
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


def method_of(transform: Any) -> Method | None:
    """Return the method that an estimator belongs to, or None if it is not one of ours."""
    params = transform.get_params(deep=False)
    for method in METHODS.values():
        # Other parameters, such as a strength, make no other method.
        told_apart = {"labels", "correction"} & set(params)
        fresh = method.make().get_params(deep=False)
        if type(transform) is method.estimator and all(
            _alike(params[key], fresh[key]) for key in told_apart
        ):
            return method
    return None


def _alike(a: Any, b: Any) -> bool:
    return type(a) is type(b) if hasattr(a, "get_params") else bool(a == b)


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
