"""Each operation in each library, behind one signature.

An entry is called with the vectors, a code (0 or 1) for the domain and a
label for each clip.  It fits, and returns the corrected vectors and a function
that corrects other clips.  What a library needs its input to look like is made
in here, and so is part of its time and memory.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import _definitions as definitions

Array = NDArray[Any]
Again = Callable[[Array, Array, Array], Array]
Correct = Callable[[Array, Array, Array], tuple[Array, Again]]


@dataclass(frozen=True)
class Entry:
    """Name one operation of one library.

    Attributes
    ----------
    operation : str
    library : str
        Its name on PyPI.
    correct : callable
    define : callable
        What the result should be.
    is_tall, is_wide : bool
        Whether it is run with more clips than dimensions, and with fewer.
    """

    operation: str
    library: str
    correct: Correct
    define: Callable[[Array, Array, Array], Array]
    is_tall: bool = True
    is_wide: bool = True

    @property
    def is_ours(self) -> bool:
        """Whether this is biasaudio."""
        return self.library == "biasaudio"

    @property
    def version(self) -> str:
        """The version that is installed, or an empty string."""
        try:
            return importlib.metadata.version(self.library)
        except importlib.metadata.PackageNotFoundError:
            return ""


def _ours(name: str, *, keeps_label: bool = False, **options: Any) -> Correct:
    """Return how one of our classes is called."""

    def correct(X: Array, domain: Array, label: Array) -> tuple[Array, Again]:
        # Here, not at the top: the peak of memory is measured in a process of its own.
        from biasaudio import transforms

        fitted = getattr(transforms, name)(**options)
        keywords = {"preserve": label} if keeps_label else {}
        fitted.fit(X, domain=domain, **keywords)

        def again(X: Array, domain: Array, label: Array) -> Array:
            if not fitted.domain_aware:
                return fitted.transform(X)
            keywords = {"preserve": label} if keeps_label else {}
            return fitted.transform(X, domain=domain, **keywords)

        return again(X, domain, label), again

    return correct


def _concept_erasure(shrinkage: bool) -> Correct:
    def correct(X: Array, domain: Array, label: Array) -> tuple[Array, Again]:
        import torch
        from concept_erasure import LeaceFitter

        x, z = torch.from_numpy(X), torch.from_numpy(domain)
        eraser = LeaceFitter.fit(x, z, shrinkage=shrinkage).eraser

        def again(X: Array, domain: Array, label: Array) -> Array:
            return eraser(torch.from_numpy(X)).numpy()

        return again(X, domain, label), again

    return correct


def _fairlearn(X: Array, domain: Array, label: Array) -> tuple[Array, Again]:
    from fairlearn.preprocessing import CorrelationRemover

    def with_domain(X: Array, domain: Array) -> Array:
        return np.concatenate([X, domain[:, None].astype(X.dtype)], axis=1)

    both = with_domain(X, domain)
    remover = CorrelationRemover(sensitive_feature_ids=[X.shape[1]]).fit(both)

    def again(X: Array, domain: Array, label: Array) -> Array:
        return remover.transform(with_domain(X, domain))

    return remover.transform(both), again


def _sklearn_lda(X: Array, domain: Array, label: Array) -> tuple[Array, Again]:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    lda = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto").fit(X, domain)
    v = lda.coef_[0] / np.linalg.norm(lda.coef_[0])

    def again(X: Array, domain: Array, label: Array) -> Array:
        return X - np.outer(X @ v, v)

    return again(X, domain, label), again


def _skada(name: str, **options: Any) -> Correct:
    def correct(X: Array, domain: Array, label: Array) -> tuple[Array, Again]:
        import skada

        adapter = getattr(skada, name)(**options)
        # There a source has a positive number, and the target a negative one.
        sides = np.where(domain == 0, 1, -2)

        def again(X: Array, domain: Array, label: Array) -> Array:
            sides = np.where(domain == 0, 1, -2)
            return adapter.transform(X, sample_domain=sides, allow_source=True)

        return adapter.fit_transform(X, sample_domain=sides), again

    return correct


def _neurocombat(X: Array, domain: Array, label: Array) -> tuple[Array, Again]:
    import pandas as pd
    from neuroCombat import neuroCombat, neuroCombatFromTraining

    covariates = pd.DataFrame({"batch": domain, "label": label})
    with contextlib.redirect_stdout(io.StringIO()):
        found = neuroCombat(X.T, covariates, "batch", categorical_cols=["label"])

    def again(X: Array, domain: Array, label: Array) -> Array:
        with contextlib.redirect_stdout(io.StringIO()):
            return neuroCombatFromTraining(X.T, domain, found["estimates"])["data"].T

    return found["data"].T, again


ENTRIES = (
    Entry(
        "LEACE",
        "biasaudio",
        _ours("LEACE", shrinkage=0.0),
        definitions.leace(definitions.sample),
        is_wide=False,
    ),
    Entry(
        "LEACE",
        "concept-erasure",
        _concept_erasure(shrinkage=False),
        definitions.leace(definitions.sample),
        is_wide=False,
    ),
    Entry(
        "LEACE, shrunk",
        "biasaudio",
        _ours("LEACE"),
        definitions.leace(definitions.shrunk_correlation),
    ),
    Entry(
        "LEACE, shrunk",
        "concept-erasure",
        _concept_erasure(shrinkage=True),
        definitions.leace(definitions.optimal_linear),
    ),
    Entry("centering", "biasaudio", _ours("DomainCentering"), definitions.centering),
    Entry("centering", "fairlearn", _fairlearn, definitions.residuals),
    Entry("LDA projection", "biasaudio", _ours("LDAProjection"), definitions.lda),
    Entry("LDA projection", "scikit-learn", _sklearn_lda, definitions.lda),
    Entry(
        "CORAL",
        "biasaudio",
        _ours("CORAL", shrinkage=0, scale=False, target=1),
        definitions.coral(definitions.sample),
        is_wide=False,
    ),
    Entry(
        "CORAL",
        "skada",
        _skada("CORALAdapter", reg=None),
        definitions.coral(definitions.sample, centred=True),
        is_wide=False,
    ),
    Entry("CORAL, shrunk", "biasaudio", _ours("CORAL"), definitions.coral_pooled),
    Entry(
        "CORAL, shrunk",
        "skada",
        _skada("CORALAdapter"),
        definitions.coral(definitions.shrunk_correlation, centred=True),
    ),
    Entry("ComBat", "biasaudio", _ours("ComBat", keeps_label=True), definitions.combat),
    Entry("ComBat", "neuroCombat", _neurocombat, definitions.combat),
)
