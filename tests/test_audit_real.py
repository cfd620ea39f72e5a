"""Audits of real embeddings, through the command line as a user would."""

import pytest
from audit_fixtures import call, strict

from biasaudio import AuditResult
from biasaudio.cli.main import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def yamnet(shared, tmp_path_factory):
    """Give a store of YAMNet vectors of three collections of notes."""
    path = tmp_path_factory.mktemp("yamnet") / "yamnet.h5"
    names = ("philharmonia", "fluidr3", "fsdkaggle18")
    files = [str(shared / "data" / f"yamnet_{name}.npz") for name in names]
    argv = ["store", "import", str(path), *files, "--embedding", "yamnet", "--quiet"]
    assert main(argv) == 0
    return path


@pytest.fixture(scope="module")
def pair(yamnet):
    """Give the audit of rendered against recorded notes."""
    out = yamnet.parent / "pair"
    argv = ["audit", str(yamnet), "--datasets", "fluidr3", "fsdkaggle18", "--out", str(out)]
    argv += ["--methods", "lda", "leace", "--permutations", "39", "--resamples", "200"]
    assert main([*argv, "--n-jobs", "1", "--quiet"]) == 0
    return AuditResult.load(out)


def test_three_files_make_one_store(capsys, yamnet):
    code, out, _ = call(capsys, "store", "ls", yamnet, "--json")
    rows = {row["dataset"]: row for row in strict(out)["embeddings"]}
    assert code == 0
    assert {name: (row["clips"], row["dims"]) for name, row in rows.items()} == {
        "fluidr3": (1198, 1024),
        "fsdkaggle18": (300, 1024),
        "philharmonia": (2558, 1024),
    }
    assert rows["fsdkaggle18"]["frames"] == 2478


def test_the_published_projection_hides_nothing_and_leace_most(pair):
    probes = pair.probes.query("design == 'three-way' and mix == 'equal' and kind == 'linear'")
    found = probes.set_index("method")
    auc = found["auc"]
    assert auc["original"] > 0.80
    assert abs(auc["lda"] - auc["original"]) < 0.03
    assert auc["leace"] < auc["original"] - 0.08
    assert (found["p_value"] < 0.05).all()


def test_only_shared_classes_take_part(pair):
    classes = ["cello", "clarinet", "double_bass", "flute", "guitar", "saxophone", "violin"]
    assert pair.meta["labels"] == classes
    excluded = {entry["what"]: entry["why"] for entry in pair.meta["excluded"]}
    assert excluded["label banjo"] == "no annotated clips in 'fsdkaggle18'"
    assert (
        excluded["90 clips of fsdkaggle18"]
        == "they are of no class that is compared, or not annotated"
    )
    raw = pair.probes.query("design == 'cross-fit' and mix == 'raw'")
    assert raw["n"].tolist() == [547 + 210]


def test_transfer_loses_between_the_collections(pair):
    drops = pair.drops.query("method == 'original'")
    assert (drops["within"] > 0.9).all()
    assert drops["across"].between(0.7, 0.9).all()
    assert (drops["low"] > 0).all()


@pytest.fixture(scope="module")
def irmas(shared, tmp_path_factory):
    """Give a store of 25 features of all IRMAS training clips, genre codes as they are."""
    path = tmp_path_factory.mktemp("irmas") / "irmas.h5"
    source = shared / "data" / "librosa25_irmas_train.npz"
    argv = ["store", "import", str(path), str(source), "--column", "group=song_id", "--quiet"]
    assert main([*argv, "--embedding", "librosa25"]) == 0
    return path


def test_genre_is_readable_above_chance_when_split_by_song(capsys, irmas):
    argv = ["probe", irmas, "--genre", "--permutations", "39", "--json", "--quiet"]
    code, out, _ = call(capsys, *argv)
    found = strict(out)
    assert code == 0
    assert found["n"] == 6705
    assert found["n_groups"] < 2500
    assert {value["value"] for value in found["by_value"]} == {
        "cla",
        "cou_fol",
        "jaz_blu",
        "lat_sou",
        "pop_roc",
    }
    assert found["auc"] > found["low"] > 0.5
    assert found["p_value"] < 0.05
    assert call(capsys, *argv, "--fail-above", "0.5")[0] == 3


def test_the_audit_of_one_dataset_says_the_same(capsys, irmas):
    out = irmas.parent / "audit"
    options = ["--permutations", "39", "--resamples", "200", "--n-jobs", "1", "--quiet"]
    code, text, _ = call(capsys, "audit", irmas, "--out", out, *options)
    assert code == 0
    assert "Genre can be read from librosa25" in " ".join(text.split())
    result = AuditResult.load(out)
    assert set(result.probes["probe"]) == {"genre"}
    (row,) = result.probes.query("mix == 'raw'").to_dict("records")
    assert row["low"] > 0.5
    assert row["p_value"] < 0.05
    assert result.meta["config"]["scaling"] == {"librosa25": "each feature"}
