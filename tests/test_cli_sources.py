"""Which columns ``correct`` reads from stores and files, and what it says of them."""

import re
import warnings
import zipfile

import h5py
import numpy as np
import pandas as pd
import pytest
from audit_fixtures import call, failure, saved, stored, strict
from test_cli_correct import FEATURES, both, framed_store, table

from biasaudio.errors import BiasAudioWarning
from biasaudio.store import EmbeddingStore
from biasaudio.transforms import LEACE, METHODS, DomainCentering, NuisanceProjection, load, save


def named(path, part):
    """Write a table whose features have names of their own."""
    table(part).rename(columns=dict(zip(FEATURES, ["year", *"vwxy"]))).to_csv(path, index=False)
    return path


def test_features_that_were_guessed_are_named_and_others_can_be_asked_for(capsys, tmp_path):
    part = both()
    source, file, out = named(tmp_path / "m.csv", part), tmp_path / "c.npz", tmp_path / "o.csv"
    fit = ["correct", "fit", source, "--method", "leace", "--out", file, "--overwrite"]
    code, _, err = call(capsys, *fit)
    assert code == 0
    first = "features: 'id', 'year', 'v', 'w', 'x', 'y' (all that are numbers; --features takes "
    assert err.startswith(first)
    code, _, err = call(capsys, *fit, "--features", "w", "v", "w")
    assert (code, err) == (0, "fitted on 160 of 240 clips (split 'train')\n")
    assert load(file).feature_names_in_.tolist() == ["w", "v"]
    code, _, err = call(capsys, "correct", "apply", file, source, "--out", out)
    assert (code, err) == (0, "")
    before, after = pd.read_csv(source), pd.read_csv(out)
    changed = [name for name in before if not before[name].equals(after[name])]
    assert changed == ["v", "w"]
    expected = load(file).transform(before[["w", "v"]])
    np.testing.assert_allclose(after[["w", "v"]], expected, atol=1e-5)
    code, line = failure(capsys, *fit, "--features", "w", "u")
    assert code == 1
    assert "has no column 'u', which the correction was fitted on, or is to be" in line
    fit[2] = saved(tmp_path / "m.npz", part)
    code, line = failure(capsys, *fit, "--features", "w")
    assert code == 2
    assert "--features is for .csv and .parquet files, not for" in line


@pytest.mark.parametrize("kind", [".npz", ".csv", ".h5"])
def test_classes_that_were_not_fitted_are_named_once(capsys, tmp_path, kind):
    part = both()
    known = sorted(set(part["label"]))
    fitted = NuisanceProjection(strength=3.0).fit(
        part["X"], domain=part["dataset"], label=part["label"]
    )
    file = save(fitted, tmp_path / "c.npz")

    def apply(part, name):
        source = tmp_path / f"{name}{kind}"
        if kind == ".csv":
            table(part).to_csv(source, index=False)
        else:
            (saved if kind == ".npz" else stored)(source, part)
        return call(capsys, "correct", "apply", file, source, "--out", tmp_path / f"o-{name}{kind}")

    assert apply(part, "same")[::2] == (0, "")
    label = np.where(part["label"] == known[0], "tuba", part["label"])
    code, _, err = apply(part | {"label": label}, "new")
    assert code == 0
    assert err.count("warning:") == err.count("\n") == 1
    assert "1 class(es) that it was not fitted on in two domains: 'tuba'" in err


def test_columns_of_labels_go_by_their_number(capsys, tmp_path):
    part = both()
    label = part["label"][:, None] == np.unique(part["label"])
    label = np.c_[label, np.zeros(len(label), dtype=bool)]
    fitted = NuisanceProjection(strength=3.0).fit(part["X"], domain=part["dataset"], label=label)
    file = save(fitted, tmp_path / "c.npz")
    more = label.copy()
    more[0, -1] = True
    for given, text in ((label, ""), (more, f"two domains: '{label.shape[1] - 1}'")):
        source = saved(tmp_path / "m.npz", part | {"label": given})
        options = ["--out", tmp_path / "o.npz", "--overwrite"]
        code, _, err = call(capsys, "correct", "apply", file, source, *options)
        assert code == 0
        assert text in err
        assert bool(err) == bool(text)


def test_a_map_that_is_not_linear_is_for_clip_means(capsys, tmp_path):
    """The mean of mapped frames is not the map of the mean."""
    part = both()
    method = METHODS["kleace"].make().fit(part["X"], domain=part["dataset"])
    file = save(method, tmp_path / "k.npz")
    frames = np.repeat(part["X"], 2, axis=0)
    np.savez(tmp_path / "f.npz", frames=frames, frame_clip=np.repeat(np.arange(240), 2))
    options = ["--out", tmp_path / "o.npz"]
    code, line = failure(capsys, "correct", "apply", file, tmp_path / "f.npz", *options)
    assert code == 2
    assert "holds frames, and KernelMap is for the mean of a clip's frames" in line
    framed_store(tmp_path / "s.h5")
    assert call(capsys, "correct", "apply", file, tmp_path / "s.h5", "--out", tmp_path / "o.h5")
    [name] = EmbeddingStore(tmp_path / "o.h5").embeddings()
    found = EmbeddingStore(tmp_path / "o.h5").table(name)
    means = EmbeddingStore(tmp_path / "s.h5").table("yamnet")
    assert found.clips.clip_id.tolist() == means.clips.clip_id.tolist()
    np.testing.assert_allclose(found.X, method.transform(means.X), atol=1e-5)


def test_clips_of_a_store_get_the_domain_that_a_manifest_gives_them(capsys, tmp_path):
    part = both()
    source = stored(tmp_path / "s.h5", part)
    frame = pd.DataFrame({"clip_id": part["clip"], "dataset": part["dataset"]})
    frame["genre"] = np.resize(["jazz", "pop", "pop"], len(frame))
    frame.sample(frac=1, random_state=0).to_csv(tmp_path / "clips.csv", index=False)
    file = save(DomainCentering().fit(part["X"], domain=frame["genre"]), tmp_path / "c.npz")
    options = ["--domain", "genre", "--clips", tmp_path / "clips.csv", "--out", tmp_path / "o.h5"]
    assert call(capsys, "correct", "apply", file, source, *options)[0] == 0
    found = EmbeddingStore(tmp_path / "o.h5").table("toy.center")
    index = pd.Index(list(zip(part["dataset"], part["clip"])))
    rows = index.get_indexer(list(zip(found.clips.dataset, found.clips.clip_id)))
    expected = load(file).transform(part["X"], domain=frame["genre"])
    np.testing.assert_allclose(found.X, expected[rows], atol=1e-5)


def test_clips_without_a_group_stand_alone(capsys, tmp_path):
    part = both()
    file = tmp_path / "c.npz"
    options = ["--method", "nap", "--split", "all", "--out", file, "--overwrite"]
    scores = []
    for group in (np.full(240, ""), np.arange(240)):
        source = saved(tmp_path / "m.npz", part | {"group": group})
        assert call(capsys, "correct", "fit", source, *options)[0] == 0
        scores.append(load(file).scores_)
    assert scores[0] is not None
    assert scores[0]["candidates"].tolist() == scores[1]["candidates"].tolist()


def test_what_is_no_number_is_named_with_its_row(capsys, tmp_path):
    level = np.arange(240).astype(str).astype(object)
    level[7] = "loud"
    table(both()).assign(level=level).to_csv(tmp_path / "m.csv", index=False)
    options = ["--method", "leace", "--column", "nuisance=level", "--out", tmp_path / "c.npz"]
    code, line = failure(capsys, "correct", "fit", tmp_path / "m.csv", *options)
    assert code == 1
    assert "'level' is to be the nuisance, which takes numbers, but has 'loud' in row 7" in line


def test_a_csv_keeps_all_digits_and_an_npz_its_compression(capsys, tmp_path):
    part = both()
    fitted = DomainCentering().fit(part["X"], domain=part["dataset"])
    file, out = save(fitted, tmp_path / "c.npz"), tmp_path / "o.csv"
    X = part["X"].astype(float) + 1e-9 * np.arange(5)
    table(part | {"X": X}).to_csv(tmp_path / "m.csv", index=False)
    assert call(capsys, "correct", "apply", file, tmp_path / "m.csv", "--out", out)[0] == 0
    expected = fitted.transform(X, domain=part["dataset"])
    np.testing.assert_allclose(pd.read_csv(out)[FEATURES], expected, rtol=0, atol=1e-12)
    for write, kind in (
        (np.savez, zipfile.ZIP_STORED),
        (np.savez_compressed, zipfile.ZIP_DEFLATED),
    ):
        write(tmp_path / "m.npz", X=X, dataset=part["dataset"])
        options = ["--out", tmp_path / "o.npz", "--overwrite"]
        assert call(capsys, "correct", "apply", file, tmp_path / "m.npz", *options)[0] == 0
        with zipfile.ZipFile(tmp_path / "o.npz") as archive:
            assert {member.compress_type for member in archive.infolist()} == {kind}


def test_frames_that_are_not_finite_are_refused_by_clip(capsys, tmp_path):
    part = both()
    file = save(LEACE().fit(part["X"], domain=part["dataset"]), tmp_path / "c.npz")
    framed_store(tmp_path / "s.h5")
    with h5py.File(tmp_path / "s.h5", "r+") as handle:
        handle["b/yamnet/features"][3, 1] = np.inf
        clip = handle["b/yamnet/keys"][3].decode()
    code, line = failure(
        capsys, "correct", "apply", file, tmp_path / "s.h5", "--out", tmp_path / "o.h5"
    )
    assert code == 1
    assert f"b/yamnet has NaN or Inf in 1 rows, of {clip!r}" in line
    assert not (tmp_path / "o.h5").exists()


def test_info_lists_the_methods_and_says_what_a_gate_decided(capsys, tmp_path):
    code, text, _ = call(capsys, "correct", "info")
    assert code == 0
    assert [line.split()[0] for line in text.splitlines()] == ["method", *METHODS]
    document = strict(call(capsys, "correct", "info", "--json")[1])
    assert document["methods"][0] == METHODS["lda"].card()
    part = both()
    label = np.where(part["dataset"] == "b", "", part["label"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BiasAudioWarning)
        fitted = METHODS["selftrain"].make().fit(part["X"], domain=part["dataset"], label=label)
    file = save(fitted, tmp_path / "c.npz")
    assert re.search(
        rf"gate +{fitted.gate_['decision']}\n", call(capsys, "correct", "info", file)[1]
    )
    save(LEACE().fit(part["X"], domain=part["dataset"]), file)
    assert "gate" not in call(capsys, "correct", "info", file)[1]
