"""``partial_fit``: refused batches change nothing, single clips are waited for."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from biasaudio.errors import DataError, ParameterError
from biasaudio.moments import Moments
from biasaudio.transforms import CORAL, LEACE, ComBat, DomainCentering, NullspaceProjection

MAPS = [
    NullspaceProjection(n_iter=2),
    NullspaceProjection(n_iter=2, probes="all"),
    CORAL(shrinkage=0.2),
    ComBat(),
    LEACE(shrinkage="oas"),
    DomainCentering(),
]


def planted(rng, n=60, d=10):
    domain = np.resize(["a", "b", "c"], n)
    return rng.normal(size=(n, d)) + (domain == "b")[:, None] * 2.0, domain


def columns(transform, domain):
    return {"domain": domain} if transform.domain_aware else {}


@pytest.mark.parametrize("transform", MAPS, ids=repr)
@pytest.mark.parametrize("n_before", [0, 30])
def test_a_refused_batch_leaves_no_trace(rng, transform, n_before):
    X, domain = planted(rng)
    whole = clone(transform).partial_fit(X, domain=domain)
    parts = clone(transform)
    if n_before:
        parts.partial_fit(X[:n_before], domain=domain[:n_before])
    rest = slice(n_before, None)
    with pytest.raises(DataError, match="sample_weight"):
        parts.partial_fit(X[rest], domain=domain[rest], sample_weight=-np.ones(60 - n_before))
    with pytest.raises(DataError, match="NaN"):
        parts.partial_fit(X[rest] * np.nan, domain=domain[rest])
    parts.alpha = 2
    with pytest.raises(ParameterError, match="alpha=2"):
        parts.partial_fit(X[rest], domain=domain[rest])
    parts.alpha = 1.0
    parts.partial_fit(X[rest], domain=domain[rest])
    np.testing.assert_allclose(
        parts.transform(X, **columns(transform, domain)),
        whole.transform(X, **columns(transform, domain)),
        atol=1e-8,
    )


def test_a_batch_that_cannot_be_solved_counts_once(rng):
    X, domain = planted(rng)
    X, domain = X[np.argsort(domain)], np.sort(domain)
    transform = NullspaceProjection(n_iter=2, shrinkage=0, variance=1)
    whole, parts = (clone(transform).partial_fit(X[:3], domain=domain[:3]) for _ in range(2))
    with pytest.raises(DataError, match="singular"):
        parts.partial_fit(X[19:22], domain=domain[19:22])
    assert parts.moments_.n == 3
    for one in (whole, parts):
        one.partial_fit(X[3:], domain=domain[3:])
    np.testing.assert_array_equal(parts.transform(X), whole.transform(X))


@pytest.mark.parametrize("transform", MAPS, ids=repr)
def test_a_batch_that_is_interrupted_leaves_no_trace(rng, transform, monkeypatch):
    def interrupted(self, other):
        raise KeyboardInterrupt

    X, domain = planted(rng)
    whole = clone(transform).partial_fit(X, domain=domain)
    parts = clone(transform).partial_fit(X[:30], domain=domain[:30])
    with monkeypatch.context() as patch:
        patch.setattr(Moments, "merge", interrupted)
        with pytest.raises(KeyboardInterrupt):
            parts.partial_fit(X[30:], domain=domain[30:])
    parts.partial_fit(X[30:], domain=domain[30:])
    np.testing.assert_allclose(
        parts.transform(X, **columns(transform, domain)),
        whole.transform(X, **columns(transform, domain)),
        atol=1e-8,
    )


@pytest.mark.parametrize("transform", [CORAL(shrinkage=0.2), ComBat()], ids=repr)
def test_the_first_clip_of_a_domain_waits_for_the_second(rng, transform):
    X, domain = planted(rng)
    order = np.argsort(domain, kind="stable")
    X, domain = X[order], domain[order]
    whole = clone(transform).fit(X, domain=domain)
    two = clone(transform).fit(X[:40], domain=domain[:40])
    parts = clone(transform)
    parts.partial_fit(X[:21], domain=domain[:21])
    with pytest.raises(NotFittedError):
        parts.transform(X[:3], domain=domain[:3])
    parts.partial_fit(X[21:41], domain=domain[21:41])
    assert parts.domains_.tolist() == ["a", "b"]
    np.testing.assert_allclose(
        parts.transform(X[:40], domain=domain[:40]), two.transform(X[:40], domain=domain[:40])
    )
    with pytest.raises(DataError, match="domain 'c' was not seen"):
        parts.transform(X, domain=domain)
    parts.partial_fit(X[41:], domain=domain[41:])
    np.testing.assert_allclose(
        parts.transform(X, domain=domain), whole.transform(X, domain=domain), atol=1e-8
    )
