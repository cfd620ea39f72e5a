"""Iterated nullspace projection: what each round finds, and how many are worth it."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

from biasaudio.datasets.synthetic import make_domains
from biasaudio.errors import BiasAudioWarning, DataError, ParameterError
from biasaudio.probes import probe_domain
from biasaudio.transforms import LDAProjection, MeanProjection, NullspaceProjection

WHOLE = {"variance": 1.0}
PUBLISHED = {"variance": 1.0, "probes": "all"}


def planted(rng, n=400, d=12, domains=("a", "b"), offset=0.0):
    domain = np.resize(np.array(domains), n)
    mix = rng.normal(size=(d, d)) * np.arange(1, d + 1) ** -0.5
    X = rng.normal(size=(n, d)) @ mix + offset
    for i, name in enumerate(domains[1:]):
        X[domain == name] += rng.normal(size=d) * (0.4 + 0.1 * i)
    return X, domain


def gap(X, domain):
    means = [X[domain == k].mean(axis=0, dtype=float) for k in np.unique(domain)]
    return np.abs(np.subtract(means[1:], means[0])).max()


def overlap(A, B):
    """Return the smallest cosine between the spans of the rows."""
    a, b = (np.linalg.qr(np.atleast_2d(M).T)[0] for M in (A, B))
    return np.linalg.svd(a.T @ b, compute_uv=False).min() if a.shape == b.shape else 0.0


@pytest.mark.parametrize("domains", [("a", "b"), ("a", "b", "c")])
@pytest.mark.parametrize(("n", "d"), [(400, 12), (60, 90)])
@pytest.mark.parametrize("shrinkage", [0.1, "auto", "oas"])
def test_the_first_published_round_is_lda(rng, domains, n, d, shrinkage):
    X, domain = planted(rng, n, d, domains)
    lda = LDAProjection(shrinkage=shrinkage).fit(X, domain=domain)
    inlp = NullspaceProjection(n_iter=1, shrinkage=shrinkage, **PUBLISHED)
    assert overlap(inlp.fit(X, domain=domain).directions_, lda.directions_) > 1 - 1e-9
    more = clone(inlp).set_params(n_iter=3).fit(X, domain=domain)
    assert overlap(more.directions_[: len(domains) - 1], lda.directions_) > 1 - 1e-9


@pytest.mark.parametrize(("n", "d"), [(400, 12), (60, 90)])
def test_the_first_round_of_halves_is_the_mean_difference(rng, n, d):
    X, domain = planted(rng, n, d)
    inlp = NullspaceProjection(n_iter=1, **WHOLE).fit(X, domain=domain)
    mean = MeanProjection().fit(X, domain=domain)
    assert overlap(inlp.directions_, mean.directions_) > 1 - 1e-9
    moved = inlp.transform(X) - mean.transform(X)
    np.testing.assert_allclose(moved, np.broadcast_to(moved[0], X.shape), atol=1e-9)


@pytest.mark.parametrize("domains", [("a", "b"), ("a", "b", "c")])
def test_every_round_is_the_ridge_probe_of_the_projected_clips(rng, domains):
    X, domain = planted(rng, d=16, domains=domains)
    inlp = NullspaceProjection(n_iter=4, shrinkage=0.05, **PUBLISHED).fit(X, domain=domain)
    A = np.zeros((16, 16))
    for name in domains:
        S = np.cov(X[domain == name].T, ddof=0)
        shrunk = 0.95 * S + 0.05 * np.trace(S) / 16 * np.eye(16)
        A += np.mean(domain == name) * shrunk
    Z, P, per = X.copy(), np.eye(16), len(domains) - 1
    for r in range(4):
        means = np.stack([Z[domain == k].mean(axis=0) for k in domains])
        w = np.linalg.pinv(P @ A @ P, hermitian=True) @ (means[1:] - means[0]).T
        assert overlap(w.T, inlp.directions_[r * per : (r + 1) * per]) > 1 - 1e-7
        Q = np.linalg.qr(w)[0]
        P = P - P @ Q @ Q.T
        P = (P + P.T) / 2
        Z = X @ P


def test_the_published_rounds_lower_the_gap_and_end_when_nothing_is_left(rng):
    X, domain = planted(rng)
    gaps = []
    for rounds in (1, 2, 4, 6):
        inlp = NullspaceProjection(n_iter=rounds, shrinkage=0.3, **PUBLISHED)
        gaps.append(gap(inlp.fit_transform(X, domain=domain), domain))
    assert gap(X, domain) > gaps[0] > 2 * gaps[-1]
    # With all the shrinkage the probe is the mean difference: one round is enough.
    inlp = NullspaceProjection(n_iter=5, shrinkage=1.0, **PUBLISHED).fit(X, domain=domain)
    assert inlp.n_iter_ == 1
    assert gap(inlp.transform(X), domain) < 1e-9


@pytest.mark.parametrize("domains", [("a", "b"), ("a", "b", "c")])
@pytest.mark.parametrize("n_iter", [1, 2])
@pytest.mark.parametrize("variance", [0.9, 0.99, 1.0])
def test_domain_means_are_equal_after_and_were_not_before(rng, domains, n_iter, variance):
    X, domain = planted(rng, d=24, domains=domains)
    inlp = NullspaceProjection(n_iter=n_iter, variance=variance)
    Z = inlp.fit_transform(X, domain=domain)
    assert gap(X, domain) > 0.3
    assert gap(Z, domain) < 1e-9
    before, after = (
        LogisticRegression(C=100, max_iter=5000).fit(A, domain == "a").decision_function(A)
        for A in (X, Z)
    )
    assert roc_auc_score(domain == "a", before) > 0.8
    assert abs(roc_auc_score(domain == "a", after) - 0.5) < 0.08


@pytest.mark.parametrize("probes", ["halves", "all"])
@pytest.mark.parametrize("variance", [0.9, 1.0])
@pytest.mark.parametrize(("n", "d"), [(300, 20), (50, 80)])
def test_the_map_is_an_orthogonal_projection_that_keeps_the_center(rng, probes, variance, n, d):
    X, domain = planted(rng, n, d)
    inlp = NullspaceProjection(n_iter=2, probes=probes, variance=variance)
    Z = inlp.fit_transform(X, domain=domain)
    V, M = inlp.directions_, inlp.to_affine().matrix
    np.testing.assert_allclose(V @ V.T, np.eye(2), atol=1e-9)
    np.testing.assert_allclose(M, M.T, atol=1e-9)
    np.testing.assert_allclose(inlp.transform(Z), Z, atol=1e-9)
    assert np.linalg.matrix_rank(M, tol=1e-6) == inlp.n_kept_ <= d - 2
    assert np.abs(V @ M).max() < 1e-9
    center = np.mean([X[domain == k].mean(axis=0) for k in "ab"], axis=0)
    np.testing.assert_allclose(inlp.transform(center[None]), center[None], atol=1e-9)


@pytest.mark.parametrize(("n", "d"), [(300, 20), (50, 80)])
def test_the_kept_directions_hold_the_variance_and_fewer_do_not(rng, n, d):
    X, domain = planted(rng, n, d)
    inside = np.concatenate([X[domain == k] - X[domain == k].mean(axis=0) for k in "ab"])
    inlp = NullspaceProjection(n_iter=1, variance=0.9).fit(X, domain=domain)
    values, vectors = np.linalg.eigh(inlp.to_affine().matrix)
    K = np.r_[inlp.directions_, vectors[:, values > 0.5].T]
    np.testing.assert_allclose(K @ K.T, np.eye(len(K)), atol=1e-9)
    assert len(K) == inlp.n_kept_ + 1
    best = np.cumsum(np.linalg.svd(inside)[1] ** 2) / np.square(inside).sum()
    assert best[len(K) - 1] >= 0.9 > best[len(K) - 2]
    held = np.square(inside @ K.T).sum() / np.square(inside).sum()
    assert held == pytest.approx(best[len(K) - 1])


@pytest.mark.parametrize("variance", [0.95, 1.0])
def test_few_clips_give_in_n_x_n_what_full_moments_give(rng, variance):
    X, domain = planted(rng, 60, 90)
    inlp = NullspaceProjection(n_iter=4, variance=variance)
    thin = clone(inlp).fit(X, domain=domain)
    full = inlp.partial_fit(X, domain=domain)
    assert overlap(thin.directions_, full.directions_) > 1 - 1e-9
    np.testing.assert_allclose(thin.to_affine().matrix, full.to_affine().matrix, atol=1e-8)


@pytest.mark.parametrize("probes", ["halves", "all"])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_batches_give_what_all_clips_give(rng, probes, is_weighted):
    X, domain = planted(rng, 500, 12, domains=("a", "b", "c"), offset=30.0)
    weight = rng.random(500) if is_weighted else None
    inlp = NullspaceProjection(n_iter=2, probes=probes)
    whole = clone(inlp).fit(X, domain=domain, sample_weight=weight)
    for rows in np.split(np.arange(500), [1, 130, 400]):
        part = None if weight is None else weight[rows]
        inlp.partial_fit(X[rows], domain=domain[rows], sample_weight=part)
    np.testing.assert_allclose(inlp.transform(X), whole.transform(X), atol=1e-8)


def test_a_weight_of_two_is_the_clip_twice_and_zero_none(rng):
    X, domain = planted(rng)
    weight = rng.integers(0, 3, 400)
    rows = np.repeat(np.arange(400), weight)
    inlp = NullspaceProjection(n_iter=3, probes="all")
    weighted = clone(inlp).fit(X, domain=domain, sample_weight=weight).transform(X)
    repeated = clone(inlp).fit(X[rows], domain=domain[rows]).transform(X)
    np.testing.assert_allclose(weighted, repeated, atol=1e-9)


def test_balance_compares_at_equal_class_mix(rng):
    domain = np.repeat(["a", "b"], 300)
    label = np.r_[np.arange(300) % 3 > 0, np.arange(300) % 3 == 0]
    X = rng.normal(size=(600, 8))
    X[label, 0] += 5
    X[domain == "b", 1] += 1
    inlp = NullspaceProjection(n_iter=1, **WHOLE)
    mixed = np.abs(clone(inlp).fit(X, domain=domain).directions_[0])
    equal = np.abs(clone(inlp).fit(X, domain=domain, balance=label).directions_[0])
    assert mixed[0] > 0.8
    assert equal[0] < 0.2
    assert equal[1] > 0.9
    auto = NullspaceProjection().fit(X, domain=domain, balance=label)
    assert auto.transform(X)[label, 0].mean() - auto.transform(X)[~label, 0].mean() > 4


def test_few_clips_in_many_dimensions_leave_less_than_the_mean_difference(rng):
    # A steep spectrum, as embeddings have it: the many small dimensions are what
    # the error of the mean difference is read from.
    n, d = 240, 120
    domain = rng.choice(["a", "b"], n)
    scale = np.arange(1, d + 1) ** -1.0
    X = rng.normal(size=(n, d)) * scale
    X[domain == "b"] += 0.35 * scale * rng.choice([-1, 1], d)
    X = X @ np.linalg.qr(rng.normal(size=(d, d)))[0]
    options = {"design": "three-way", "n_repeats": 2, "n_permutations": 0, "n_resamples": 0}
    before, mean, inlp = (
        probe_domain(X, domain, correction=c, **options).auc
        for c in (None, MeanProjection(), NullspaceProjection())
    )
    assert before > 0.9
    assert mean < before - 0.1
    assert inlp < mean - 0.02


def test_the_path_begins_with_what_normal_clips_let_a_probe_read(rng):
    n, d, gap = 6000, 8, 1.2
    domain = np.resize(["a", "b"], n)
    X = rng.normal(size=(n, d))
    X[domain == "b", 3] += gap
    inlp = NullspaceProjection(max_iter=2).fit(X, domain=domain)
    assert inlp.auc_path_[0] == pytest.approx(norm.cdf(gap / np.sqrt(2)), abs=0.02)
    assert inlp.auc_path_[1:] == pytest.approx([0.5, 0.5], abs=0.05)


def test_the_random_state_may_be_a_generator_or_none(rng):
    X, domain = planted(rng, 240, 60)
    options = {"n_iter": 3, "random_state": 7}
    whole = NullspaceProjection(**options).fit(X, domain=domain)
    drawn = [
        NullspaceProjection(n_iter=3, random_state=np.random.default_rng(seed)).fit(
            X, domain=domain
        )
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(drawn[0].directions_, drawn[1].directions_)
    for other in (drawn[2], whole, NullspaceProjection(n_iter=3, random_state=None)):
        Z = clone(other).fit(X, domain=domain).transform(X)
        assert np.abs(Z - drawn[0].transform(X)).max() > 1e-6


def test_auto_reports_its_path_and_takes_the_fewest_rounds(rng):
    X, domain = planted(rng, 240, 60)
    inlp = NullspaceProjection(max_iter=12).fit(X, domain=domain)
    assert inlp.ranks_.tolist() == [0, 1, 2, 4, 8, 12]
    path = inlp.auc_path_
    assert path.shape == (6,)
    assert path[0] > path[1:].max() + 0.1
    good = inlp.ranks_[1:][path[1:] <= path[1:].min() + 0.02]
    assert inlp.n_iter_ == good[0]
    same = clone(inlp).fit(X, domain=domain)
    np.testing.assert_array_equal(same.auc_path_, path)
    np.testing.assert_array_equal(same.directions_, inlp.directions_)


def test_one_round_is_enough_with_many_clips(rng):
    X, domain = planted(rng, 6000, 8)
    inlp = NullspaceProjection().fit(X, domain=domain)
    assert inlp.n_iter_ == 1
    assert abs(inlp.auc_path_[1] - 0.5) < 0.05 < inlp.auc_path_[0] - 0.5


def test_groups_stay_together_in_the_choice(rng):
    # Clips of a group are nearly alike: where they are split, the held-out
    # part knows the error of the fitted one, and nothing seems to be left.
    X, domain = planted(rng, 60, 40)
    domain, groups = np.repeat(domain, 6), np.repeat(np.arange(60), 6)
    X = np.repeat(X, 6, axis=0) + rng.normal(size=(360, 40)) * 0.01
    inlp = NullspaceProjection(max_iter=1)
    apart = clone(inlp).fit(X, domain=domain).auc_path_
    together = clone(inlp).fit(X, domain=domain, groups=groups).auc_path_
    assert together[0] < 0.98 < apart[0]


@pytest.mark.parametrize("offset", [0.0, 128.0, 1000.0])
def test_float32_with_large_means_loses_nothing(rng, offset):
    X, domain = planted(rng, 400, 16, offset=offset)
    X = X.astype(np.float32)
    inlp = NullspaceProjection(n_iter=3)
    exact = clone(inlp).fit(X.astype(float), domain=domain).transform(X.astype(float))
    Z = clone(inlp).fit(X, domain=domain).transform(X)
    assert Z.dtype == np.float32
    change = np.linalg.norm(exact - X)
    assert np.linalg.norm(Z - exact) < 1e-3 * change


def test_a_planted_class_survives(rng):
    table, _ = make_domains(n=600, d=64, random_state=3)
    X, clips = table.X, table.clips
    y = clips.labels.iloc[:, 0].to_numpy()
    Z = NullspaceProjection().fit_transform(X, domain=clips.dataset)
    scores = []
    for A in (X, Z):
        model = LogisticRegression(max_iter=5000).fit(A[::2], y[::2])
        scores.append(roc_auc_score(y[1::2], model.decision_function(A[1::2])))
    assert scores[0] > 0.8
    assert scores[1] > scores[0] - 0.05


def test_it_goes_into_a_pipeline_and_blends(rng):
    X, domain = planted(rng)
    pipe = make_pipeline(NullspaceProjection(n_iter=2), LogisticRegression())
    pipe.fit(X, rng.random(400) < 0.5, nullspaceprojection__domain=domain)
    inlp = NullspaceProjection(n_iter=2, alpha=0.25).fit(X, domain=domain)
    full = clone(inlp).set_params(alpha=1.0).fit(X, domain=domain)
    np.testing.assert_allclose(inlp.transform(X), 0.75 * X + 0.25 * full.transform(X), atol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_iter": 0}, "n_iter=0 is not allowed"),
        ({"n_iter": "aut"}, "n_iter='aut' is not allowed"),
        ({"probes": "half"}, "probes='half' is not known.*did you mean 'halves'"),
        ({"variance": 0}, "variance=0 keeps nothing"),
        ({"variance": 1.5}, "variance=1.5 is not allowed"),
        ({"max_iter": 0}, "max_iter=0"),
        ({"shrinkage": 2}, "shrinkage=2"),
        ({"random_state": -1}, "random_state=-1"),
    ],
)
def test_wrong_parameters_are_named(rng, options, message):
    X, domain = planted(rng)
    with pytest.raises(ParameterError, match=message):
        NullspaceProjection(**options).fit(X, domain=domain)


def test_other_errors_say_what_to_do(rng):
    X, domain = planted(rng)
    few = NullspaceProjection(n_iter=2, shrinkage=0, **WHOLE)
    with pytest.raises(ParameterError, match="called without domain"):
        NullspaceProjection().fit(X)
    with pytest.raises(ParameterError, match="set n_iter to a whole number"):
        NullspaceProjection().partial_fit(X, domain=domain)
    with pytest.raises(DataError, match=r"'auto'.*2 group.*or set n_iter=1"):
        NullspaceProjection().fit(X, domain=domain, groups=np.arange(400) % 4)
    with pytest.raises(DataError, match="singular; use a larger shrinkage"):
        few.fit(X[:10], domain=domain[:10])
    with pytest.warns(BiasAudioWarning, match="n_iter=50 was cut to 6"):
        NullspaceProjection(n_iter=50, **WHOLE).fit(X, domain=domain)
