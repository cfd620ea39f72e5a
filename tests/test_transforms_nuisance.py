"""Corrections with class labels turn down what a class changes between domains."""

import numpy as np
import pytest
from sklearn.base import clone

from biasaudio.errors import BiasAudioWarning, DataError, ParameterError
from biasaudio.transforms import ComBat
from biasaudio.transforms.class_shifts import class_shifts
from biasaudio.transforms.nap import NuisanceProjection
from biasaudio.transforms.wccn import WithinClassNormalization

CLASSES = np.array(["harp", "oboe", "tuba"])
FIXED = [
    NuisanceProjection(strength=10.0),
    NuisanceProjection(n_components=2),
    WithinClassNormalization(strength=10.0, shrinkage=0.1),
]
fixed = pytest.mark.parametrize("make", FIXED, ids=["soft", "hard", "wccn"])


def planted(rng, n=240, d=12, domains=("a", "b"), size=2.0):
    domain, label = rng.choice(domains, n), rng.choice(CLASSES, n)
    place = {c: rng.normal(size=d) for c in CLASSES}
    shift = {(k, c): rng.normal(size=d) * size for k in domains for c in CLASSES}
    X = rng.normal(size=(n, d)) + np.array([place[c] + shift[k, c] for k, c in zip(domain, label)])
    return X, domain, label


def shifts(X, domain, label):
    from biasaudio.moments import Moments

    moments = Moments(dtype=np.float64).update(X, domain=domain, label=label)
    return class_shifts(moments.cells)


@pytest.mark.parametrize("domains", [("a", "b"), ("a", "b", "c")])
@pytest.mark.parametrize("keep_common", [True, False])
def test_hard_projection_of_full_rank_leaves_no_shift_but_the_common_one(rng, domains, keep_common):
    X, domain, label = planted(rng, domains=domains)
    nap = NuisanceProjection(n_components=99, keep_common=keep_common).fit(
        X, domain=domain, label=label
    )
    before, after = (shifts(Z, domain, label) for Z in (X, nap.transform(X)))
    if keep_common:
        before, after = before.centred(), after.centred()
    assert np.abs(before.shifts).max() > 1
    assert np.abs(after.shifts).max() < 1e-9


def test_soft_projection_is_its_definition(rng):
    X, domain, label = planted(rng)
    nap = NuisanceProjection(strength=3.0, keep_common=False).fit(X, domain=domain, label=label)
    S, total, free = np.zeros((12, 12)), 0.0, 0
    for c in CLASSES:
        parts = [X[(domain == k) & (label == c)] for k in "ab"]
        center = np.mean([part.mean(0) for part in parts], axis=0)
        for part in parts:
            S += np.outer(part.mean(0) - center, part.mean(0) - center) / 3
            total += part.var(0).mean() * len(part)
            free += len(part) - 1
    values, vectors = np.linalg.eigh(np.eye(12) + 3 * S / (total / free))
    expected = (vectors / np.sqrt(values)) @ vectors.T
    np.testing.assert_allclose(nap.to_affine().matrix, expected, atol=1e-10)
    assert nap.rank_ == len(nap.gains_) == 3
    np.testing.assert_allclose(nap.transform(X).mean(0), X.mean(0), atol=1e-12)


@pytest.mark.parametrize("keep_common", [True, False])
@pytest.mark.parametrize("strength", [1.0, 10.0])
def test_thin_and_dense_normalisation_are_one(rng, keep_common, strength):
    X, domain, label = planted(rng, n=60, d=80)
    options = {"shrinkage": 0.2, "strength": strength, "keep_common": keep_common}
    thin = WithinClassNormalization(**options).fit(X, domain=domain, label=label)
    dense = WithinClassNormalization(**options).partial_fit(X, domain=domain, label=label)
    assert thin.affine_.up is not None
    assert thin.affine_.rank < 80
    assert dense.affine_.up is None
    np.testing.assert_allclose(thin.affine_.matrix, dense.affine_.matrix, atol=1e-9)


def test_within_class_covariance_is_isotropic_after_and_was_not_before(rng):
    X, domain, label = planted(rng, n=600)
    X *= np.linspace(0.2, 3, 12)
    wccn = WithinClassNormalization(strength=1.0, shrinkage=1e-9, keep_common=False)
    Z = wccn.fit_transform(X, domain=domain, label=label)

    def spread(V):
        inside = []
        for c in CLASSES:
            parts = [V[(domain == k) & (label == c)] for k in "ab"]
            center = np.mean([part.mean(0) for part in parts], axis=0)
            inside += [np.outer(p.mean(0) - center, p.mean(0) - center) for p in parts]
            inside += [np.cov(p.T) for p in parts]
        values = np.linalg.eigvalsh(np.mean(inside, axis=0))
        return values.max() / values.min()

    assert spread(X) > 50
    assert spread(Z) < 1.1


def test_full_shrinkage_and_no_alpha_change_nothing(rng):
    X, domain, label = planted(rng)
    for transform in (
        WithinClassNormalization(shrinkage=1.0, strength=1.0),
        WithinClassNormalization(alpha=0.0),
        NuisanceProjection(strength=0.0),
        NuisanceProjection(alpha=0.0),
    ):
        Z = transform.fit_transform(X, domain=domain, label=label)
        np.testing.assert_allclose(Z, X, atol=1e-12)


@fixed
def test_streaming_is_batch_and_order_does_not_matter(rng, make):
    X, domain, label = planted(rng)
    whole = clone(make).fit(X, domain=domain, label=label)
    parts = clone(make)
    order = rng.permutation(len(X))
    for rows in np.array_split(order, 5):
        parts.partial_fit(X[rows], domain=domain[rows], label=label[rows])
    np.testing.assert_allclose(parts.transform(X), whole.transform(X), atol=1e-9)


@fixed
def test_clips_without_a_class_do_not_count_and_y_stands_in(rng, make):
    X, domain, label = planted(rng)
    known = rng.random(len(X)) < 0.7
    part = clone(make).fit(X[known], domain=domain[known], label=label[known])
    some = clone(make).fit(X, domain=domain, label=np.where(known, label, ""))
    by_y = clone(make).fit(X[known], label[known], domain=domain[known])
    np.testing.assert_allclose(some.transform(X), part.transform(X), atol=1e-9)
    np.testing.assert_allclose(by_y.transform(X), part.transform(X), atol=1e-12)
    assert some.classes_.tolist() == CLASSES.tolist()


@fixed
def test_columns_of_bools_are_the_same_and_a_clip_may_have_several(rng, make):
    X, domain, label = planted(rng)
    Y = label[:, None] == CLASSES
    one = clone(make).fit(X, domain=domain, label=label)
    columns = clone(make).fit(X, domain=domain, label=Y)
    np.testing.assert_allclose(columns.transform(X), one.transform(X), atol=1e-9)
    assert columns.fitted_classes_.tolist() == [0, 1, 2]
    twice = clone(make).fit(X, domain=domain, label=Y | (rng.random(Y.shape) < 0.2))
    assert np.isfinite(twice.transform(X)).all()
    assert not np.allclose(twice.transform(X), one.transform(X))


@fixed
def test_float32_with_large_means_loses_nothing(rng, make):
    X, domain, label = planted(rng)
    exact = clone(make).fit(X + 1000, domain=domain, label=label)
    single = clone(make).fit((X + 1000).astype(np.float32), domain=domain, label=label)
    change = exact.transform(X + 1000) - X - 1000
    rough = single.transform((X + 1000).astype(np.float32))
    error = np.abs(rough - exact.transform(X + 1000)).max()
    assert error < 1e-3 * np.abs(change).max()


def test_weights_count_as_repeats(rng):
    X, domain, label = planted(rng)
    w = rng.integers(0, 3, len(X))
    weighted = NuisanceProjection(n_components=2).fit(
        X, domain=domain, label=label, sample_weight=w
    )
    repeated = NuisanceProjection(n_components=2).fit(
        np.repeat(X, w, axis=0), domain=np.repeat(domain, w), label=np.repeat(label, w)
    )
    np.testing.assert_allclose(weighted.transform(X), repeated.transform(X), atol=1e-9)


def test_auto_turns_the_shifts_down_and_says_what_the_folds_said(rng):
    X, domain, label = planted(rng, n=600, size=1.5)
    for transform in (
        NuisanceProjection(),
        NuisanceProjection(strength=None, n_components="cv"),
        WithinClassNormalization(),
    ):
        transform.fit(X, domain=domain, label=label, groups=np.arange(600) // 2)
        scores = transform.scores_
        assert len(scores["across"]) == len(scores["candidates"]) + 1
        assert scores["across"].max() > scores["across"][0] + 0.02
        again = clone(transform).fit(X, domain=domain, label=label, groups=np.arange(600) // 2)
        assert (again.transform(X) == transform.transform(X)).all()


def test_few_clips_get_the_usual_strength(rng):
    X, domain, label = planted(rng, n=24)
    nap = NuisanceProjection().fit(X, domain=domain, label=label)
    wccn = WithinClassNormalization().fit(X, domain=domain, label=label)
    assert nap.scores_ is None
    assert (nap.strength_, wccn.strength_, wccn.shrinkage_) == (10.0, 10.0, 0.6)


def test_shrinkage_is_between_all_and_none_by_how_many_clips_there_are(rng):
    found = {}
    for n in (24, 2400):
        X, domain, label = planted(rng, n=n, size=0.5)
        raw = shifts(X, domain, label)
        kept = raw.shrunk("auto").centred().shifts / raw.centred().shifts
        found[n] = kept.mean()
        assert np.allclose(raw.shrunk(1.0).centred().shifts, 0)
        assert np.allclose(raw.shrunk(0.0).shifts, raw.shifts)
    assert found[24] < found[2400] - 0.1
    assert found[2400] > 0.9


@fixed
def test_classes_that_were_not_fitted_are_named(rng, make):
    X, domain, label = planted(rng)
    only = np.where((label == "tuba") & (domain == "b"), "", label)
    fitted = clone(make).fit(X, domain=domain, label=only)
    fitted.check_classes(["harp", "oboe", ""])
    with pytest.warns(BiasAudioWarning, match="2 class.*'kazoo', 'tuba'"):
        fitted.check_classes(["tuba", "kazoo", "harp"])


def test_errors_name_the_way_out(rng):
    X, domain, label = planted(rng)
    nap, wccn = NuisanceProjection(), WithinClassNormalization()
    with pytest.raises(ParameterError, match=r"NuisanceProjection\(\).fit\(X, domain=domain, lab"):
        nap.fit(X, domain=domain)
    with pytest.raises(ParameterError, match="without domain"):
        wccn.fit(X, label=label)
    with pytest.raises(DataError, match="no class has clips in two domains"):
        nap.fit(X, domain=domain, label=np.char.add(domain.astype(str), label.astype(str)))
    with pytest.raises(DataError, match="no clip has a class"):
        nap.fit(X, domain=domain, label=np.full(len(X), ""))
    with pytest.raises(DataError, match="label has shape"):
        wccn.fit(X, domain=domain, label=rng.normal(size=(len(X), 2)))
    with pytest.raises(ParameterError, match="need all clips at once"):
        nap.partial_fit(X, domain=domain, label=label)
    with pytest.raises(ParameterError, match="needs all clips at once"):
        wccn.partial_fit(X, domain=domain, label=label)
    with pytest.raises(ParameterError, match="was fitted by fit"):
        NuisanceProjection(n_components=1).fit(X, domain=domain, label=label).partial_fit(
            X, domain=domain, label=label
        )
    rows = [np.flatnonzero((domain == k) & (label == c))[0] for k in "ab" for c in CLASSES]
    with pytest.raises(DataError, match="no class has two clips in a domain"):
        wccn.fit(X[rows], domain=domain[rows], label=label[rows])
    for bad, name in (
        ({"strength": -1}, "strength"),
        ({"strength": None}, "n_components"),
        ({"n_components": 0}, "n_components"),
        ({"shift_shrinkage": 2}, "shift_shrinkage"),
        ({"labels": "guess"}, "labels"),
    ):
        with pytest.raises(ParameterError, match=name):
            NuisanceProjection(**bad).fit(X, domain=domain, label=label)
    with pytest.raises(ParameterError, match="shrinkage=0 is not allowed"):
        WithinClassNormalization(shrinkage=0.0).fit(X, domain=domain, label=label)


def test_pseudo_labels_stand_behind_a_gate(rng):
    X, domain, label = planted(rng, n=600, size=0.3)
    X += 4 * np.eye(12)[np.searchsorted(CLASSES, label)]
    known = np.where(domain == "a", label, "")
    nap = NuisanceProjection(labels="pseudo").fit(X, domain=domain, label=known)
    assert nap.gate_["decision"] in ("full", "weak", "none")
    assert nap.strength_ == pytest.approx(10 * nap.gate_["strength_factor"])
    assert nap.gate_["evidence"]
    with pytest.raises(DataError, match="one domain with labels and one without"):
        NuisanceProjection(labels="pseudo").fit(X, domain=domain, label=label)


def test_labels_are_read_as_categories(rng):
    X, domain, label = planted(rng)
    numbers = np.array([3, 11, 20])[np.searchsorted(CLASSES, label)]
    nap = NuisanceProjection(strength=10.0).fit(X, domain=domain, label=numbers)
    assert nap.classes_.tolist() == nap.fitted_classes_.tolist() == [3, 11, 20]
    by_name = NuisanceProjection(strength=10.0).fit(X, domain=domain, label=label)
    np.testing.assert_allclose(nap.transform(X), by_name.transform(X), atol=1e-12)


@pytest.mark.parametrize(
    ("make", "refused"),
    [
        (FIXED[0], "no class has two clips in a domain"),
        (FIXED[2], "no class has two clips in a domain"),
        (ComBat(), "needs two to compare"),
    ],
    ids=["nap", "wccn", "combat"],
)
def test_a_batch_that_is_refused_is_not_counted(rng, make, refused):
    # The first batch leaves every class and domain with one clip, or one feature that varies.
    X, domain, label = planted(rng, n=400)
    columns = {} if isinstance(make, ComBat) else {"label": label}
    streamed, whole = clone(make), clone(make).partial_fit(X, domain=domain, **columns)
    rows = [np.flatnonzero((domain == k) & (label == c))[0] for k in "ab" for c in CLASSES]
    batch = X[rows] if columns else X[rows] * (np.arange(12) == 0)
    for _ in range(3):
        with pytest.raises(DataError, match=refused):
            streamed.partial_fit(
                batch, domain=domain[rows], **{key: v[rows] for key, v in columns.items()}
            )
    assert not {key for key in vars(streamed) if key.endswith("_")}
    streamed.partial_fit(X, domain=domain, **columns)
    keywords = {"domain": domain} if isinstance(make, ComBat) else {}
    np.testing.assert_array_equal(streamed.transform(X, **keywords), whole.transform(X, **keywords))
    # A later batch that is refused leaves the fit as it was.
    before = {key: id(value) for key, value in vars(streamed).items()}
    wrong = {key: v[:5] for key, v in columns.items()}
    with pytest.raises(DataError):
        streamed.partial_fit(X[:5, :3], domain=domain[:5], **wrong)
    assert {key: id(value) for key, value in vars(streamed).items()} == before


def test_a_generator_deals_out_folds(rng):
    X, domain, label = planted(rng, n=600)
    for cls in (NuisanceProjection, WithinClassNormalization):
        for state in (None, np.random.default_rng(3)):
            fitted = cls(random_state=state).fit(X, domain=domain, label=label)
            assert fitted.scores_ is not None


def test_warnings_point_at_the_line_that_asked(rng):
    X, domain, label = planted(rng)
    fitted = clone(FIXED[0]).fit(X, domain=domain, label=label)
    with pytest.warns(BiasAudioWarning, match="kazoo") as caught:
        fitted.check_classes(["kazoo"])
    assert caught[0].filename == __file__
