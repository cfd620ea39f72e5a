"""What corrections refuse, warn of or abstain from, instead of a silent wrong number."""

import warnings

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

import biasaudio.transforms.nap as nap_page
from biasaudio.datasets.synthetic import make_domains
from biasaudio.errors import BiasAudioWarning, DataError, ParameterError
from biasaudio.transfer import Task, evaluate
from biasaudio.transforms import (
    LEACE,
    METHODS,
    DomainCentering,
    MultiLDAProjection,
    NuisanceProjection,
    NullspaceProjection,
    WithinClassNormalization,
    selftrain,
)
from biasaudio.transforms.methods import as_correction, method_of

LABELLED = (NuisanceProjection, WithinClassNormalization)


@pytest.fixture(scope="module")
def clips():
    """Return vectors, domains and classes; a class shifts between domains in its own way."""
    rng = np.random.default_rng(0)
    n, d = 240, 10
    domain, label = np.arange(n) % 2, np.arange(n) // 2 % 3
    X = rng.normal(size=(n, d)) + 3 * rng.normal(size=(3, d))[label]
    X += rng.normal(size=(2, 3, d))[domain, label]
    return X, np.array(["a", "b"])[domain], np.array(["x", "y", "z"])[label]


@pytest.mark.parametrize("cls", LABELLED)
@pytest.mark.parametrize("size", [100, 1000])
@pytest.mark.parametrize("strength", ["cv", 10.0])
def test_groups_of_another_length_are_refused(clips, cls, size, strength):
    X, domain, label = clips
    with pytest.raises(DataError, match=rf"groups has shape \({size},\), but X has 240 clips"):
        cls(strength=strength).fit(X, domain=domain, label=label, groups=np.arange(size))


@pytest.mark.parametrize("name", ["leace", "meandiff", "lda", "center", "standardize"])
def test_one_domain_so_far_is_not_fitted(clips, name):
    X, domain, _ = clips
    shrinkage = {"shrinkage": 0.1} if name in ("leace", "lda") else {}
    some = METHODS[name].make().set_params(**shrinkage)
    some.partial_fit(X[domain == "a"], domain=domain[domain == "a"])
    with pytest.raises(NotFittedError):
        some.transform(X, **({"domain": domain} if some.domain_aware else {}))


@pytest.mark.parametrize(("cls", "expected"), [(LABELLED[0], 10.0), (LABELLED[1], 10.0)])
def test_one_class_cannot_choose_and_gets_the_usual_strength(clips, cls, expected):
    X, domain, _ = clips
    label = np.where(np.arange(len(X)) % 4 < 2, "x", "")
    fitted = cls().fit(X, domain=domain, label=label)
    assert fitted.strength_ == expected
    assert fitted.scores_ is None


@pytest.mark.parametrize("cls", LABELLED)
@pytest.mark.parametrize("state", ["a", -1])
def test_a_wrong_random_state_is_named(clips, cls, state):
    X, domain, label = clips
    with pytest.raises(ParameterError, match=r"random_state=.* is not allowed"):
        cls(random_state=state).fit(X, domain=domain, label=label)


def test_pseudo_labels_take_no_weights_and_two_classes(clips):
    X, domain, label = clips
    known = np.where(domain == "a", label, "")
    guess = NuisanceProjection(labels="pseudo")
    with pytest.raises(ParameterError, match="takes no sample_weight"):
        guess.fit(X, domain=domain, label=known, sample_weight=np.ones(len(X)))
    with pytest.raises(DataError, match=r"two classes or more in the labelled domain.*'x' only"):
        guess.fit(X, domain=domain, label=np.where(known == "", "", "x"))


def test_self_training_that_abstains_says_so_and_changes_nothing(clips, monkeypatch):
    X, domain, label = clips
    known = np.where(domain == "a", label, "")
    monkeypatch.setattr(selftrain, "decide", lambda evidence: "none")
    with pytest.warns(BiasAudioWarning, match="labels='pseudo' abstains: the evidence"):
        fitted = NuisanceProjection(labels="pseudo").fit(X, domain=domain, label=known)
    assert fitted.gate_["decision"] == "none"
    assert fitted.rank_ == 0
    assert len(fitted.fitted_classes_) == 0
    np.testing.assert_array_equal(fitted.transform(X), X)
    monkeypatch.setattr(selftrain, "decide", lambda evidence: "full")
    fitted.fit(X, domain=domain, label=known)
    assert np.abs(fitted.transform(X) - X).max() > 0.1


def test_one_clip_a_class_and_domain_says_nothing_of_a_class(rng):
    X = rng.normal(size=(6, 8))
    domain, label = np.tile(["a", "b"], 3), np.repeat(["x", "y", "z"], 2)
    with pytest.raises(DataError, match="no class has two clips in a domain"):
        NuisanceProjection(strength=10.0).fit(X, domain=domain, label=label)


def test_auto_warns_where_no_strength_helps_and_only_there(clips, monkeypatch):
    X, domain, label = clips
    nap = NuisanceProjection(keep_common=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nap.fit(X, domain=domain, label=label)
    # Shifts that are made larger can only do harm.
    monkeypatch.setattr(nap_page, "_gains", lambda found, sizes, amount, **options: 9 + 0 * sizes)
    with pytest.warns(BiasAudioWarning, match="no strength of NuisanceProjection helps"):
        nap.fit(X, domain=domain, label=label)
    assert nap.scores_["across"][0] > nap.scores_["across"][1:].max()


def test_preserve_takes_categories_or_columns_of_zero_and_one(clips):
    X, domain, label = clips
    codes = np.unique(label, return_inverse=True)[1]
    expected = LEACE().fit(X, domain=domain, preserve=label).transform(X)
    for same in (codes + 3, np.eye(3)[codes], np.eye(3, dtype=bool)[codes]):
        Z = LEACE().fit(X, domain=domain, preserve=same).transform(X)
        np.testing.assert_allclose(Z, expected, atol=1e-9)
    with pytest.raises(DataError, match="preserve has other columns than 0 and 1"):
        LEACE().fit(X, domain=domain, preserve=codes[:, None] + 3)
    with pytest.raises(DataError, match="preserve holds floats"):
        LEACE().fit(X, domain=domain, preserve=codes + 0.5)


def test_an_unknown_class_is_no_class_of_the_balance(clips):
    X, domain, label = clips
    known = np.where(np.arange(len(X)) % 5 == 0, "", label)
    rows = known != ""
    whole = DomainCentering().fit(X, domain=domain, balance=known)
    part = DomainCentering().fit(X[rows], domain=domain[rows], balance=known[rows])
    np.testing.assert_allclose(whole.means_, part.means_, atol=1e-12)


def test_copy_false_is_no_error_for_what_is_converted_anyway(clips):
    pd = pytest.importorskip("pandas")
    X, domain, _ = clips
    frame = pd.DataFrame(X, columns=[f"f{i}" for i in range(X.shape[1])])
    fitted = LEACE().fit(frame, domain=domain)
    np.testing.assert_allclose(fitted.transform(frame, copy=False), fitted.transform(frame))


def test_mlda_says_its_rank_and_warns_where_it_leaves_nothing(rng):
    genre, domain = np.arange(120) % 3, np.arange(120) // 3 % 2
    X = rng.normal(size=(120, 4)) + domain[:, None] * rng.normal(size=(3, 4))[genre]
    assert MultiLDAProjection().fit(X, domain=domain, genre=genre).rank_ == 3
    with pytest.warns(BiasAudioWarning, match="3 directions of the genres span all 3 dimensions"):
        MultiLDAProjection().fit(X[:, :3], domain=domain, genre=genre)


def test_a_refit_forgets_the_path_of_an_earlier_choice(clips):
    X, domain, _ = clips
    inlp = NullspaceProjection(max_iter=2).fit(X, domain=domain)
    assert hasattr(inlp, "auc_path_")
    assert not hasattr(inlp.set_params(n_iter=1).fit(X, domain=domain), "auc_path_")


@pytest.mark.parametrize("name", METHODS)
def test_the_method_of_an_estimator_is_found(name):
    assert method_of(METHODS[name].make()).name == name


def test_a_strength_makes_no_other_method():
    assert method_of(NuisanceProjection(strength=3.0)).name == "nap"
    assert method_of(NuisanceProjection(strength=3.0, labels="pseudo")).name == "selftrain"


@pytest.mark.parametrize("name", ["nap", "wccn", "selftrain"])
def test_what_compares_classes_is_not_fitted_on_one(name):
    table, _ = make_domains(n=400, d=8, n_labels=2, random_state=0)
    clips = table.clips
    task = Task(
        table.X,
        clips.dataset,
        clips.split == "train",
        clips.labels.to_numpy(),
        clips.mask.to_numpy(),
        tuple(clips.label_names),
        clips.group_id,
    )
    with pytest.raises(ParameterError, match="compares classes, and mode 'classwise' fits on one"):
        evaluate(task, methods=[name], modes=("classwise",))


def test_a_correction_may_be_named_or_given():
    assert [type(as_correction(name)) for name in METHODS] == [
        method.estimator for method in METHODS.values()
    ]
    given = NuisanceProjection(strength=3.0)
    again = as_correction(given)
    assert again is not given
    assert again.get_params() == given.get_params()
    for wrong, message in (
        ("leac", "correction 'leac' is not known.*did you mean 'leace'"),
        (LEACE, r"is the class LEACE; give an estimator such as LEACE\(\)"),
        (3, "is the object int; give an estimator"),
    ):
        with pytest.raises(ParameterError, match=message):
            as_correction(wrong)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["leace", "wccn", "standardize", "coral", "combat"])
def test_what_overflows_is_named_and_not_returned(clips, name, dtype):
    X, domain, label = clips
    columns = {"label": label} if name == "wccn" else {}
    some = as_correction(name).fit(X, domain=domain, **columns)
    huge = X.astype(dtype)
    huge[7] = np.sign(huge[7]) * np.finfo(dtype).max
    keywords = {"domain": domain} if some.domain_aware else {}
    with pytest.raises(DataError, match=rf"overflows: .* {np.dtype(dtype)} of 1 of 240 .* row 7;"):
        some.transform(huge, **keywords)
    assert np.isfinite(some.transform(X.astype(dtype) * 1e30, **keywords)).all()


@pytest.mark.parametrize("name", ["leace", "lda", "rleace", "inlp", "nap", "center", "combat", "k"])
def test_fit_names_the_clips_whose_squares_overflow(clips, name):
    X, domain, label = clips
    huge = X.astype(np.float64)
    huge[7, 0] = -1e300
    columns = {"label": label} if name == "nap" else {}
    with pytest.raises(DataError, match=r"numbers beyond 1e\+150, .* 1 of 240 clips: 'row 7'"):
        as_correction(name).fit(huge, domain=domain, **columns)


@pytest.mark.parametrize("name", ["leace", "nap", "wccn", "center"])
def test_a_batch_that_would_overflow_changes_nothing(clips, name):
    X, domain, label = clips
    columns = {"label": label} if name in ("nap", "wccn") else {}
    fixed = {"leace": {"shrinkage": 0.1}, "nap": {"strength": 1.0}}
    fixed["wccn"] = {"shrinkage": 0.1, "strength": 1.0}
    some = as_correction(name).set_params(**fixed.get(name, {}))
    some.partial_fit(X, domain=domain, **columns)
    keywords = {"domain": domain} if some.domain_aware else {}
    before = some.transform(X, **keywords)
    huge = X.astype(np.float64)
    huge[7, 0] = 1e300
    with pytest.raises(DataError, match="squares overflow"):
        some.partial_fit(huge, domain=domain, **columns)
    np.testing.assert_array_equal(some.transform(X, **keywords), before)
