"""What DESIGN.md says of measuring leakage holds, as theorems and as experiments."""

import numpy as np
import pytest
from scipy.stats import kstest
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from biasaudio.errors import ParameterError
from biasaudio.probes import probe_domain
from biasaudio.probes.ridge import RidgeProbe
from biasaudio.transforms import LEACE, LDAProjection, MeanProjection


def two_domains(rng, n=240, d=20, gap=1.0):
    """Return vectors whose domains also differ in shape, which no linear eraser removes."""
    domain = np.repeat(["a", "b"], n // 2)
    X = rng.normal(size=(n, d)) @ np.diag(np.linspace(0.5, 1.5, d))
    X += gap * (domain == "b")[:, None] / np.sqrt(d)
    return X, domain


def two_mixes(rng, n=400, d=10, share=0.85, effect=2.5, gap=0.0):
    """Return two datasets that differ in class mix, and by ``gap`` if it is not zero."""
    domain = np.repeat(["a", "b"], n // 2)
    is_x = rng.random(n) < np.where(domain == "a", share, 1 - share)
    X = rng.normal(size=(n, d))
    X[:, 0] += effect * is_x
    X[:, 1] += gap * (domain == "b")
    return X, domain, np.where(is_x, "x", "y")


@pytest.mark.parametrize("eraser", [LEACE(), MeanProjection()], ids=["leace", "meandiff"])
def test_an_erasure_in_sample_leaves_no_linear_probe_anything(rng, eraser):
    X, domain = two_domains(rng)
    Z = eraser.fit_transform(X, domain=domain)
    y = domain == "b"
    before = RidgeClassifier(alpha=1.0).fit(X, y)
    after = RidgeClassifier(alpha=1.0).fit(Z, y)
    assert np.abs(before.coef_).max() > 0.05
    assert np.abs(after.coef_).max() < 1e-10
    probe = RidgeProbe(Z).fit(y[:, None].astype(float))
    assert probe.score(probe.rotate(Z)) == pytest.approx(np.full((len(Z), 1), 0.5), abs=1e-9)
    logistic = LogisticRegression(C=1e3, tol=1e-10, max_iter=10_000).fit(Z, y)
    assert np.abs(logistic.coef_).max() < 1e-4


def test_cross_validation_on_the_clips_of_the_eraser_is_below_chance(rng):
    X, domain = two_domains(rng, n=120, d=60)
    Z = LEACE().fit_transform(X, domain=domain)
    y = domain == "b"
    scores = cross_val_predict(RidgeClassifier(alpha=1.0), Z, y, cv=5, method="decision_function")
    assert roc_auc_score(y, scores) < 0.3
    # The probe refuses to be used like this, and its own design is at chance or above.
    assert probe_domain(X, domain, correction=LEACE(), n_permutations=0).auc > 0.42


def test_the_three_way_split_finds_what_in_sample_erasure_hides(rng):
    # With as many dimensions as clips the direction is noisy, and much is left on new clips.
    X, domain = two_domains(rng, n=150, d=50, gap=4.0)
    before = probe_domain(X, domain, design="three-way", n_permutations=99, n_resamples=100)
    after = probe_domain(X, domain, correction=LEACE(), n_permutations=99, n_resamples=100)
    assert before.auc > 0.9
    assert before.auc > after.auc > 0.6
    assert after.p_value < 0.05


def test_with_many_clips_erasure_holds_on_new_ones_and_one_direction_does_not(rng):
    n, d = 3000, 10
    domain = np.repeat(["a", "b"], n // 2)
    X = rng.normal(size=(n, d)) @ np.linalg.cholesky(np.eye(d) + 3.0).T
    X[:, 0] += 2.0 * (domain == "b")
    options = {"n_permutations": 0, "n_resamples": 50, "n_repeats": 1}
    before = probe_domain(X, domain, design="three-way", **options).auc
    lda = probe_domain(X, domain, correction=LDAProjection(), **options).auc
    leace = probe_domain(X, domain, correction=LEACE(), **options).auc
    assert before > 0.9
    assert abs(leace - 0.5) < 0.05
    assert lda > leace + 0.02


def test_a_correction_is_never_probed_in_sample(rng):
    X, domain = two_domains(rng, n=60)
    with pytest.raises(ParameterError, match="leave design out \\(it is then 'three-way'\\)"):
        probe_domain(X, domain, correction=LEACE(), design="cross-fit")
    assert probe_domain(X, domain, correction=LEACE(), n_permutations=0).design == "three-way"


def test_the_correction_never_sees_a_clip_of_the_probe(rng):
    X, domain = two_domains(rng, n=90)
    groups = np.repeat(np.arange(45), 2)
    fitted = []

    class Spy(LEACE):
        def fit(self, X, y=None, *, domain=None):
            fitted.append({row.tobytes() for row in X})
            return super().fit(X, y, domain=domain)

        def transform(self, X):
            assert not fitted[-1] & {row.tobytes() for row in X}
            return super().transform(X)

    probe_domain(X, domain, groups=groups, correction=Spy(), n_permutations=0, n_repeats=2)
    assert len(fitted) == 6
    assert {len(clips) for clips in fitted} == {30}
    assert len(set().union(*fitted)) == 90


def test_class_mix_alone_is_readable_raw_and_not_at_equal_mix(rng):
    X, domain, classes = two_mixes(rng)
    options = {"n_permutations": 99, "n_resamples": 200}
    raw = probe_domain(X, domain, **options)
    equal = probe_domain(X, domain, strata=classes, **options)
    assert raw.auc > 0.75
    assert raw.low > 0.6
    assert raw.p_value == 0.01
    assert equal.mix == "equal"
    assert abs(equal.auc - 0.5) < 0.08
    assert equal.low < 0.5 < equal.high
    assert equal.p_value > 0.1


@pytest.mark.parametrize("design", ["cross-fit", "three-way"])
@pytest.mark.parametrize("group_size", [1, 4])
def test_an_offset_beside_the_class_mix_is_found_at_equal_mix(rng, design, group_size):
    # The null keeps the equal mix; one over all clips would score the classes and say p = 1.
    X, domain, classes = two_mixes(rng, n=600, gap=1.0)
    groups = np.arange(600) // group_size
    result = probe_domain(
        X, domain, groups=groups, strata=classes, design=design, n_permutations=99, n_resamples=100
    )
    assert 0.62 < result.auc < 0.85
    assert result.p_value < 0.03


def p_values(rng, make, n_sets=40, **options):
    found = []
    for seed in range(n_sets):
        X, domain, more = make(rng)
        found.append(
            probe_domain(
                X, domain, n_permutations=39, n_resamples=0, random_state=seed, **more, **options
            ).p_value
        )
    return np.array(found)


def test_p_values_of_nothing_are_uniform(rng):
    def nothing(rng):
        return rng.normal(size=(60, 5)), np.repeat(["a", "b"], 30), {}

    p = p_values(rng, nothing)
    assert kstest(p, "uniform").pvalue > 0.01
    assert (p < 0.1).mean() < 0.25


def test_p_values_of_songs_are_uniform_and_of_their_clips_are_not(rng):
    def songs(rng):
        groups = np.repeat(np.arange(20), 4)
        X = rng.normal(size=(20, 5))[groups] + 0.3 * rng.normal(size=(80, 5))
        return X, np.where(groups % 2, "a", "b"), {"groups": groups}

    p = p_values(rng, songs)
    assert kstest(p, "uniform").pvalue > 0.01
    assert (p < 0.1).mean() < 0.25

    def clips(rng):
        X, domain, _ = songs(rng)
        return X, domain, {}

    assert np.median(p_values(rng, clips, n_sets=10)) < 0.05


@pytest.mark.parametrize("group_size", [1, 4], ids=["clips", "songs"])
def test_p_values_of_a_class_mix_are_neither_small_nor_all_large_at_equal_mix(rng, group_size):
    def mix(rng):
        X, domain, classes = two_mixes(rng, n=240, d=5)
        groups = np.arange(240) // group_size
        classes = classes[groups * group_size]  # one class a song
        X[:, 0] = rng.normal(size=240) + 2.5 * (classes == "x")
        return X, domain, {"groups": groups, "strata": classes}

    p = p_values(rng, mix, n_splits=2)
    assert (p < 0.1).mean() < 0.2
    assert 0.35 < p.mean() < 0.65


def test_the_interval_mostly_covers_chance_when_there_is_nothing(rng):
    covered = []
    for seed in range(30):
        X, domain = rng.normal(size=(80, 5)), np.repeat(["a", "b"], 40)
        result = probe_domain(X, domain, n_permutations=0, n_resamples=200, random_state=seed)
        covered.append(result.low <= 0.5 <= result.high)
    assert np.mean(covered) > 0.7


def test_the_interval_covers_the_held_out_auc_of_a_strong_offset(rng):
    covered = []
    for seed in range(30):
        domain = np.repeat(["a", "b"], 60)
        X = rng.normal(size=(120, 3))
        X[:, 0] += 2.0 * (domain == "b")
        result = probe_domain(X, domain, n_permutations=0, n_resamples=200, random_state=seed)
        covered.append(result.low <= 0.9214 <= result.high)
    assert np.mean(covered) > 0.8
