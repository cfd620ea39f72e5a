"""The published protocol step by step: the sample, the training sets, the classifier."""

import random

import numpy as np
import pytest
from naive_wang2023 import naive_classifier, naive_sample

from biasaudio.datasets import PUBLISHED, load_irmas
from biasaudio.errors import BiasAudioWarning
from biasaudio.transfer import Task, evaluate
from biasaudio.transfer.wang2023 import GENRES, PENALTIES, published_sample

COUNTS = {
    **{"guitar": 1051, "piano": 551, "voice": 545, "organ": 508, "saxophone": 476},
    **{"violin": 437, "trumpet": 427, "clarinet": 378, "flute": 330, "cello": 294},
}


def test_the_sample_equals_the_naive_one_index_by_index(rng):
    for _ in range(200):
        m = int(rng.integers(1, 120))
        share = rng.dirichlet(np.ones(4))
        genre = rng.choice(GENRES, size=m, p=share)
        n = int(rng.integers(1, m + 1))
        rows = np.sort(rng.choice(1000, size=m, replace=False))
        expected = rows[naive_sample(genre.tolist(), n)]
        assert published_sample(rows, genre, n).tolist() == expected.tolist()


def test_floating_point_decides_as_it_did():
    # 100 * (29 / 100) is 28.999999999999996, so 28 are taken and not 29.
    assert len(published_sample(np.arange(100), np.full(100, "classical"), 29)) == 28


def test_the_sample_keeps_proportions_and_never_takes_more(rng):
    genre = np.array(GENRES)[np.repeat(np.arange(4), [40, 30, 20, 10])]
    sample = published_sample(np.arange(100), genre, 50)
    kept = genre[sample]
    assert [int((kept == g).sum()) for g in GENRES] == [20, 15, 10, 5]
    assert kept.tolist() == sorted(kept, key=GENRES.index)
    assert len(set(sample.tolist())) == 50
    assert set(published_sample(np.arange(100), genre, 100)) == set(range(100))


def test_the_sample_does_not_touch_the_global_generator():
    random.seed(7)
    before = random.getstate()
    published_sample(np.arange(10), np.full(10, "classical"), 5)
    assert random.getstate() == before


def test_the_first_genre_draws_what_python_draws_after_seeding_with_42():
    drawn = random.Random(42).sample(range(9), 9)[:3]
    assert published_sample(np.arange(9), np.full(9, "pop_rock"), 3).tolist() == drawn


def test_a_genre_without_clips_still_leaves_the_stream_as_it_was(rng):
    genre = np.array(["jazz_blue"] * 8 + ["country_folk"] * 8)
    stream = random.Random(42)
    first, second = stream.sample(range(8), 8)[:4], stream.sample(range(8), 8)[:4]
    expected = [*first, *(8 + i for i in second)]
    assert published_sample(np.arange(16), genre, 8).tolist() == expected


@pytest.fixture(scope="module")
def task():
    rng = np.random.default_rng(8)
    n = 400
    domain = np.repeat(["irmas", "openmic"], 200)
    is_train = np.arange(n) % 4 != 0
    Y = (rng.random(n) < np.where(domain == "irmas", 0.25, 0.5))[:, None]
    mask = (domain == "irmas")[:, None] | (rng.random((n, 1)) < 0.7)
    genre = np.array(GENRES)[rng.integers(4, size=n)]
    X = rng.normal(size=(n, 6)) + 0.8 * Y + 0.5 * (domain == "irmas")[:, None]
    return Task(X, domain, is_train, Y, mask, ("cello",), np.arange(n), genre)


def test_training_sets_are_cut_to_one_size_and_test_sets_are_not(task):
    sizes = {}
    for name in task.domains:
        rows = task.rows(0, name, train=True)
        sizes[name] = task.Y[rows, 0].sum(), (~task.Y[rows, 0]).sum()
    most = sum(min(size) for size in zip(*sizes.values(), strict=True))
    for row in evaluate(task, methods=[], protocol="wang2023").rows():
        assert most - 8 < row["n_train"] <= most
        assert row["n_test"] == len(task.rows(0, row["test_set"], train=False))
        assert row["C"] in PENALTIES


def test_the_classifier_is_the_published_one(task):
    for outcome in evaluate(task, methods=[], protocol="wang2023", solver="liblinear").outcomes:
        parts = {}
        for name in task.domains:
            rows = task.rows(0, name, train=True)
            truth = task.Y[rows, 0]
            parts[name] = rows[truth], rows[~truth]
        training = []
        for k in (0, 1):
            n = min(len(part[k]) for part in parts.values())
            rows = parts[outcome.train_set][k]
            training += rows[naive_sample(task.genre[rows].tolist(), n)].tolist()
        model = naive_classifier(task.X[training], task.Y[training, 0])
        test = task.rows(0, outcome.test_set, train=False)
        assert outcome.scores == pytest.approx(model.decision_function(task.X[test]), abs=1e-9)
        assert outcome.metrics["C"] == model.C


def test_the_seed_of_the_caller_changes_nothing(task):
    first, second = (
        evaluate(task, methods=["lda"], protocol="wang2023", random_state=seed) for seed in (0, 1)
    )
    assert first.rows() == second.rows()


def test_a_genre_that_one_dataset_lacks_is_warned_about_by_name(task):
    genre = np.where(
        (task.domain == "openmic") & (task.genre == "jazz_blue"), "pop_rock", task.genre
    )
    parts = (task.X, task.domain, task.is_train, task.Y, task.mask, task.label_names, task.groups)
    with pytest.warns(BiasAudioWarning, match=r"'jazz_blue' has .* openmic: 0\) and gets a one-cl"):
        evaluate(Task(*parts, genre), methods=["mlda"], protocol="wang2023")


def published_keys(shared, split):
    return (shared / "published" / f"irmas_split_{split}.csv").read_text().split("\n")[:-1]


def test_counts_of_irmas_are_the_published_ones(shared):
    keys = {split: published_keys(shared, split) for split in ("train", "test")}
    clips = load_irmas(
        keys["train"] + keys["test"],
        splits=["train"] * len(keys["train"]) + ["test"] * len(keys["test"]),
    )
    assert len(clips) == 6705
    clips = PUBLISHED.apply(clips)
    assert [(clips.split == split).sum() for split in ("train", "test")] == [4997, 1666]
    assert len(clips.dropped) == 42
    train = clips.select(clips.split == "train").labels.sum()
    assert train.to_dict() == COUNTS
    songs = [set(clips.group[clips.split == split]) for split in ("train", "test")]
    assert not songs[0] & songs[1]


def test_test_supports_are_those_of_the_published_rows(shared):
    import pandas as pd

    clips = PUBLISHED.apply(load_irmas(published_keys(shared, "test")))
    rows = pd.read_csv(shared / "published" / "result_all_global.csv")
    published = rows[rows["test_set"] == "irmas"].groupby("instrument")["support"].unique()
    for name, count in clips.labels.sum().items():
        assert published[name].tolist() == [count]
