"""Self-training: it helps where it must, abstains where it must, and sees no target label."""

import inspect

import numpy as np
import pytest

from biasaudio.errors import DataError, ParameterError
from biasaudio.transforms.selftrain import FACTORS, decide, pseudo_shifts

K, N = 4, 240
GOOD = {"recurrence": 0.7, "covered": 4, "spread": 0.6, "confidence": 0.6, "agreement": 0.9}


def classes(rng, centers, n=N):
    codes = np.arange(n) % len(centers)
    return centers[codes] + rng.normal(size=(n, centers.shape[1])), codes


@pytest.fixture
def planted(rng):
    """Source and target clips whose classes shift along a direction of their own each."""
    d = 24
    centers = 4 * np.eye(K, d)
    shifts = 3 * np.eye(K, d, k=K) + 2 * np.eye(K, d)[:, ::-1]
    source, codes = classes(rng, centers)
    target, truth = classes(rng, centers + shifts)
    return source, codes, target, truth, centers + shifts


def noise_of_corrected(found, source, codes, target, truth):
    """Mean distance of target clips to their class in the source, after `found`."""
    shifts = found.class_shifts().shrunk("auto")
    _, sizes, V = np.linalg.svd(shifts.shifts, full_matrices=False)
    strength = 10 * found.strength_factor
    gains = 1 / np.sqrt(1 + strength * sizes**2 / shifts.n_classes / shifts.within)
    source, target = (X + ((X @ V.T) * (gains - 1)) @ V for X in (source, target))
    means = np.stack([source[codes == c].mean(axis=0) for c in range(K)])
    nearest = np.square(target[:, None] - means).sum(axis=2).argmin(axis=1)
    moved = np.stack([target[truth == c].mean(axis=0) for c in range(K)]) - means
    return np.mean(nearest == truth), np.square(moved).sum()


def test_sure_labels_give_the_planted_shifts_in_full(planted):
    source, codes, target, truth, moved = planted
    found = pseudo_shifts(source, codes, target)
    assert (found.decision, found.strength_factor) == ("full", 1.0)
    assert np.mean(found.probabilities.argmax(axis=1) == truth) > 0.98
    assert np.abs(found.target_means - moved).max() < 0.6
    assert found.within == pytest.approx(1, abs=0.1)


def test_the_correction_brings_the_classes_together(planted):
    source, codes, target, truth, _ = planted
    found = pseudo_shifts(source, codes, target)
    nothing = pseudo_shifts(source, codes, source[::-1])
    before = np.square(
        [target[truth == c].mean(axis=0) - source[codes == c].mean(axis=0) for c in range(K)]
    ).sum()
    accuracy, after = noise_of_corrected(found, source, codes, target, truth)
    assert accuracy > 0.97
    assert after < before / 5
    # Control: where nothing shifts there is nothing to bring together.
    assert np.square(nothing.target_means - nothing.source_means).sum() < before / 50


def test_overlapping_classes_get_the_weak_correction(rng):
    d = 64
    centers = 1.5 * np.eye(K, d)
    source, codes = classes(rng, centers)
    target, _ = classes(rng, 0.7 * centers + 2 * np.eye(1, d, 10))
    found = pseudo_shifts(source, codes, target)
    assert (found.decision, found.strength_factor) == ("weak", FACTORS["weak"])


def test_a_wide_target_without_classes_is_refused(rng):
    source, codes = classes(rng, 2 * np.eye(K, 16))
    found = pseudo_shifts(source, codes, 4 * rng.normal(size=(N, 16)))
    assert found.evidence["spread"] > 1.1
    assert (found.decision, found.strength_factor) == ("none", 0.0)


def test_unrelated_noise_of_many_dimensions_is_refused(rng):
    d = 400
    source, codes = classes(rng, 6 * np.eye(K, d))
    target, _ = classes(rng, 6 * np.eye(K, d) + 2 * np.eye(1, d, 10))
    unrelated = 5 * np.eye(1, d, 20) + rng.normal(size=(N, d))
    related, refused = (pseudo_shifts(source, codes, X) for X in (target, unrelated))
    assert refused.evidence["recurrence"] < 0.4 < related.evidence["recurrence"]
    assert refused.decision == "none"
    assert related.decision != "none"


@pytest.mark.parametrize(
    ("change", "decision"),
    [
        ({}, "weak"),
        ({"confidence": 0.95, "agreement": 0.97}, "full"),
        ({"confidence": 0.95, "agreement": 0.97, "spread": 1.05}, "full"),
        ({"confidence": 0.95, "agreement": 0.97, "spread": 1.15}, "none"),
        ({"confidence": 0.95}, "weak"),
        ({"agreement": 0.97}, "weak"),
        ({"spread": 0.95}, "none"),
        ({"recurrence": 0.3}, "none"),
        ({"covered": 1}, "none"),
    ],
)
def test_decide_reads_the_evidence(change, decision):
    assert decide(GOOD | change) == decision


def test_the_same_input_gives_the_same_answer(planted):
    source, codes, target, _, _ = planted
    one, two = (pseudo_shifts(source, codes, target, random_state=3) for _ in range(2))
    np.testing.assert_array_equal(one.target_means, two.target_means)
    assert one.evidence == two.evidence
    other = pseudo_shifts(source, codes, target, random_state=4)
    assert other.decision == one.decision
    assert other.evidence != one.evidence


def test_order_of_the_target_names_of_classes_and_place_do_not_matter(planted, rng):
    source, codes, target, _, _ = planted
    plain = pseudo_shifts(source, codes, target)
    order = rng.permutation(len(target))
    moved = pseudo_shifts(source + 50, np.array(list("abcd"))[codes], target[order] + 50)
    np.testing.assert_allclose(moved.target_means, plain.target_means + 50, atol=1e-6)
    np.testing.assert_allclose(moved.probabilities, plain.probabilities[order], atol=1e-6)


def test_few_clips_of_many_dimensions_are_worked_on_in_their_span(planted, rng):
    source, codes, target, _, _ = planted
    turn = np.linalg.qr(rng.normal(size=(600, 24)))[0].T
    plain, wide = (
        pseudo_shifts(source, codes, target),
        pseudo_shifts(source @ turn, codes, target @ turn),
    )
    assert wide.target_means.shape == (K, 600)
    np.testing.assert_allclose(wide.target_means @ turn.T, plain.target_means, atol=0.05)
    assert wide.within == pytest.approx(plain.within * 24 / 600, rel=0.02)


def test_float32_agrees_with_float64(planted):
    source, codes, target, _, _ = planted
    both = [pseudo_shifts(source.astype(t), codes, target.astype(t)) for t in ("f4", "f8")]
    np.testing.assert_allclose(both[0].target_means, both[1].target_means, atol=1e-4)


def test_target_labels_cannot_be_given():
    names = set(inspect.signature(pseudo_shifts).parameters)
    assert not {name for name in names if "target" in name} - {"X_target"}


def test_a_class_without_clips_that_look_like_it_gives_no_shift(rng):
    d = 30
    centers = 5 * np.eye(6, d)
    source, codes = classes(rng, centers)
    target, _ = classes(rng, centers[:5] + 2 * np.eye(1, d, 20), n=14)
    found = pseudo_shifts(source, codes, target)
    assert not found.covered[5]
    assert found.covered.sum() >= 4
    shifts = found.class_shifts(list("abcdef"), ("here", "there"))
    assert "f" not in shifts.classes
    assert set(shifts.domains) == {"here", "there"}
    assert len(shifts.shifts) == 2 * found.covered.sum() == 2 * shifts.n_classes


def test_classes_of_few_confident_clips_are_drawn_to_the_mean_shift(rng):
    centers = 5 * np.eye(K, 20)
    source, codes = classes(rng, centers)
    target, truth = classes(rng, centers + 2 * rng.normal(size=centers.shape) / np.sqrt(20))
    few = (truth != 0) | (np.arange(N) < 3 * K)
    shifts = pseudo_shifts(source, codes, target[few]).class_shifts()
    after = shifts.shrunk("auto")
    mean = shifts.shifts[1::2].mean(axis=0)
    left = [
        np.linalg.norm(s.shifts[1::2] - s.shifts[1::2].mean(axis=0), axis=1)
        for s in (after, shifts)
    ]
    share = left[0] / left[1]
    assert np.isfinite(mean).all()
    assert shifts.noise[0] > 3 * shifts.noise[2]
    assert share[0] < share[1:].min()


def test_groups_set_how_sure_the_labels_may_be(rng):
    # Takes of one note are nearly alike: without groups the held-out clips are no news.
    centers = np.eye(K, 40)
    notes, note_codes = classes(rng, centers, n=40)
    source = np.repeat(notes, 8, axis=0) + 0.01 * rng.normal(size=(320, 40))
    codes, groups = np.repeat(note_codes, 8), np.repeat(np.arange(40), 8)
    target, _ = classes(rng, centers)
    with_groups = pseudo_shifts(source, codes, target, groups).evidence["confidence"]
    assert with_groups < pseudo_shifts(source, codes, target).evidence["confidence"] - 0.1


def test_history_and_evidence_have_what_is_promised(planted):
    source, codes, target, _, _ = planted
    found = pseudo_shifts(source, codes, target, rounds=3)
    assert len(found.history) == 3
    assert found.history[0]["changed"] == 0
    assert set(found.history[0]) == {"confidence", "agreement", "changed"}
    assert set(found.evidence) == set(found.history[0]) | {
        "spread", "recurrence", "covered", "stability", "reverse",
    }  # fmt: skip
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"X_target": np.zeros((20, 3))}, DataError, "X has 3 features"),
        ({"X_target": np.ones((7, 8))}, DataError, "7 clips for 4 classes"),
        ({"X_target": np.full((20, 8), np.nan)}, DataError, "NaN or Inf in 20 of 20"),
        ({"label_codes": np.zeros(40, int)}, DataError, r"label_codes has 1 different value"),
        ({"label_codes": np.zeros(3, int)}, DataError, r"label_codes has shape \(3,\)"),
        ({"groups_source": [1, 2]}, DataError, r"groups_source has shape \(2,\)"),
        ({"strength": -1}, ParameterError, "strength=-1"),
        ({"rounds": 0}, ParameterError, "rounds=0"),
        ({"random_state": -1}, ParameterError, "random_state=-1"),
    ],
)
def test_bad_input_is_named(rng, change, error, text):
    good = {"X_source": rng.normal(size=(40, 8)), "label_codes": np.arange(40) % 4}
    good |= {"X_target": rng.normal(size=(20, 8))}
    with pytest.raises(error, match=text):
        pseudo_shifts(**(good | change))
