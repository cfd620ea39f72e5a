"""``biasaudio correct``: fitting, applying and describing corrections."""

import os
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from audit_fixtures import arrays, call, failure, saved, stored, strict

from biasaudio.errors import BiasAudioWarning
from biasaudio.store import EmbeddingStore, import_arrays
from biasaudio.transforms import LEACE, METHODS, DomainCentering, load, save
from biasaudio.transforms.methods import apply_correction

N = 120
FEATURES = [f"f{i}" for i in range(5)]
TEXTS = ["clip", "dataset", "label", "group", "genre", "split"]


def both(**change):
    """Return the arrays of two datasets that differ, two thirds of them for training."""
    parts = [arrays(name, shift=shift, **change) for name, shift in (("a", 0.0), ("b", 3.0))]
    joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return joined | {"split": np.resize(["train", "train", "test"], 2 * N)}


def table(part):
    """Return the arrays as a table with one column a feature."""
    part = dict(part)
    X = part.pop("X")
    return pd.DataFrame(part | {"id": np.arange(len(X)).astype(str)} | dict(zip(FEATURES, X.T)))


def write(folder, kind, part):
    """Write the arrays as a file of one kind; return it and what goes on the command line."""
    path = folder / f"mine{kind}"
    if kind == ".npz":
        return [saved(path, part)]
    if kind == ".npy":
        np.save(path, part["X"])
        return [path, "--columns-from", saved(folder / "columns.npz", part)]
    if kind == ".h5":
        return [stored(path, part)]
    if kind == ".csv":
        table(part).to_csv(path, index=False)
    else:
        pytest.importorskip("pyarrow")
        table(part).to_parquet(path)
    return [path]


def read(path, kind):
    """Return the vectors of a file of one kind."""
    if kind == ".npz":
        with np.load(path) as archive:
            return archive["X"]
    if kind == ".npy":
        return np.load(path)
    if kind == ".h5":
        store = EmbeddingStore(path)
        return store.table(store.embeddings("a")[0]).X
    frame = pd.read_csv(path) if kind == ".csv" else pd.read_parquet(path)
    return frame[FEATURES].to_numpy()


KINDS = [".npz", ".npy", ".csv", ".parquet", ".h5"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["leace", "standardize"])
def test_every_kind_of_file_is_fitted_and_corrected(capsys, tmp_path, kind, name):
    part = both()
    source, out, file = write(tmp_path, kind, part), tmp_path / f"out{kind}", tmp_path / "c.npz"
    code, text, err = call(capsys, "correct", "fit", *source, "--method", name, "--out", file)
    assert code == 0
    assert err.endswith("fitted on 160 of 240 clips (split 'train')\n")
    assert text.startswith(f"{file}: {name} (")
    train = part["split"] == "train"
    wanted = METHODS[name].fit(part["X"][train], domain=part["dataset"][train])
    expected = apply_correction(wanted, part["X"], part["dataset"])
    assert np.abs(expected - part["X"]).max() > 1
    code, text, err = call(capsys, "correct", "apply", file, *source, "--out", out)
    assert (code, err) == (0, "")
    assert "240 vectors" in text
    found = read(out, kind)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert (found.dtype == np.float32) == (kind != ".csv")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_fitted_from_a_file(capsys, tmp_path, name):
    part = both()
    if METHODS[name].is_per_target:
        part["label"] = np.where(part["dataset"] == "b", "", part["label"])
    source, file = saved(tmp_path / "m.npz", part), tmp_path / "c.npz"
    call(capsys, "correct", "fit", source, "--method", name, "--out", file, "--split", "all")
    keywords = {"domain": "dataset", "groups": "group"}
    used = (*METHODS[name].needs, *METHODS[name].takes)
    columns = {key: part[keywords.get(key, key)] for key in used}
    with warnings.catch_warnings():
        # Whether self-training abstains here is not the question.
        warnings.simplefilter("ignore", BiasAudioWarning)
        wanted = METHODS[name].make().fit(part["X"], **columns)
    assert load(file).get_params().keys() == wanted.get_params().keys()
    np.testing.assert_array_equal(
        apply_correction(load(file), part["X"], part["dataset"]),
        apply_correction(wanted, part["X"], part["dataset"]),
    )
    code, text, _ = call(capsys, "correct", "info", file)
    assert code == 0
    assert METHODS[name].title in text


def test_all_else_stays_as_it_was(capsys, tmp_path):
    part = both() | {"notes": np.arange(7), "wide": np.ones((2 * N, 3))}
    source, file = saved(tmp_path / "m.npz", part), tmp_path / "c.npz"
    call(capsys, "correct", "fit", source, "--method", "leace", "--out", file)
    call(capsys, "correct", "apply", file, source, "--out", tmp_path / "o.npz")
    with np.load(tmp_path / "o.npz") as archive:
        assert sorted(archive.files) == sorted(part)
        for name in set(part) - {"X"}:
            np.testing.assert_array_equal(archive[name], part[name])


def test_a_csv_keeps_its_texts_and_the_order_of_its_columns(capsys, tmp_path):
    frame = table(both())
    frame.insert(3, "code", "007")
    frame.insert(0, "empty", "")
    frame["remark"] = 'said "NA", no'
    frame.to_csv(tmp_path / "m.csv", index=False)
    options = ["--method", "leace", "--out", tmp_path / "c.npz", "--column", "balance=code"]
    assert call(capsys, "correct", "fit", tmp_path / "m.csv", *options)[0] == 0
    shuffled = frame[list(frame)[::-1]]
    shuffled.to_csv(tmp_path / "s.csv", index=False)
    results = []
    for name in "ms":
        source, out = tmp_path / f"{name}.csv", tmp_path / f"{name}-out.csv"
        assert call(capsys, "correct", "apply", tmp_path / "c.npz", source, "--out", out)[0] == 0
        before, after = (pd.read_csv(p, dtype=str, keep_default_na=False) for p in (source, out))
        assert list(before) == list(after)
        others = [column for column in before if column not in FEATURES]
        pd.testing.assert_frame_equal(before[others], after[others])
        results.append(after[FEATURES].astype(float))
    # The features go by their names, and not by their order.
    pd.testing.assert_frame_equal(*results)
    header = strict(call(capsys, "correct", "info", tmp_path / "c.npz", "--json")[1])
    assert header["feature_names"] == FEATURES


def test_frames_are_pooled_to_fit_and_corrected_one_by_one(capsys, tmp_path):
    part, rng = both(), np.random.default_rng(0)
    owner = np.concatenate([rng.permutation(2 * N), rng.integers(0, 2 * N, 300)])
    frames = part.pop("X")[owner] + rng.normal(size=(len(owner), 5)).astype("f4")
    source = saved(tmp_path / "m.npz", part | {"frames": frames, "frame_clip": owner})
    file, out = tmp_path / "c.npz", tmp_path / "o.npz"
    call(capsys, "correct", "fit", source, "--method", "center", "--out", file, "--split", "all")
    means = np.stack([frames[owner == i].mean(axis=0) for i in range(2 * N)])
    wanted = DomainCentering().fit(means, domain=part["dataset"])
    call(capsys, "correct", "apply", file, source, "--out", out)
    with np.load(out) as archive:
        expected = wanted.transform(frames, domain=part["dataset"][owner])
        np.testing.assert_allclose(archive["frames"], expected, atol=1e-5)
        np.testing.assert_array_equal(archive["frame_clip"], owner)


def framed_store(path, labels=None):
    """Write a store with some frames a clip, and return them and the clip of each."""
    rng, part = np.random.default_rng(1), both()
    frames, owners = {}, {}
    for name in "ab":
        rows = part["dataset"] == name
        owner = rng.permutation(np.repeat(np.arange(N), 3))
        X = (part["X"][rows][owner] + rng.normal(size=(3 * N, 5))).astype(np.float32)
        columns = {key: part[key][rows] for key in ("split", "genre", "group", "label")}
        import_arrays(
            path,
            X,
            part["clip"][rows],
            dataset=name,
            embedding="yamnet",
            frame_clip=owner,
            **columns,
        )
        frames[name], owners[name] = X, owner
    return frames, owners


@pytest.mark.parametrize("out", ["new.h5", "folder", "s.h5"])
def test_frames_of_a_store_become_a_new_embedding(capsys, tmp_path, out):
    frames, _ = framed_store(tmp_path / "s.h5")
    file, out = tmp_path / "c.npz", tmp_path / out
    call(capsys, "correct", "fit", tmp_path / "s.h5", "--method", "center", "--out", file)
    code, text, _ = call(capsys, "correct", "apply", file, tmp_path / "s.h5", "--out", out)
    assert (code, text) == (0, f"{out}: 720 vectors, embedding 'yamnet.center'\n")
    old, new = EmbeddingStore(tmp_path / "s.h5"), EmbeddingStore(out)
    for name in "ab":
        [(old_keys, _)], [(keys, X)] = old.blocks(name, "yamnet"), new.blocks(name, "yamnet.center")
        assert keys.tolist() == old_keys.tolist()
        expected = load(file).transform(frames[name], domain=np.full(len(X), name))
        np.testing.assert_allclose(X, expected, atol=1e-6)
        before, after = old.clips(name), new.clips(name)
        assert sorted(after.clip_id) == sorted(before.clip_id)
        kept = before.select(before.frame.index.get_indexer(after.frame.index))
        pd.testing.assert_frame_equal(kept.frame, after.frame)
        pd.testing.assert_frame_equal(kept.labels, after.labels)
    assert not [name for name in os.listdir(tmp_path) if "derive" in name or "partial" in name]


def test_a_store_without_clips_and_one_of_its_datasets(capsys, tmp_path):
    import h5py

    part = both()
    with h5py.File(tmp_path / "s.h5", "w") as handle:
        for name in "ab":
            rows = part["dataset"] == name
            handle[f"{name}/vgg/features"] = part["X"][rows]
            handle[f"{name}/vgg/keys"] = part["clip"][rows].astype("S")
    file, out = tmp_path / "c.npz", tmp_path / "o.h5"
    code, _, err = call(
        capsys, "correct", "fit", tmp_path / "s.h5", "--method", "leace", "--out", file
    )
    assert "fitted on 240 of 240 clips (all; no split is known)" in err
    options = ["--datasets", "b", "--name", "clean"]
    assert call(capsys, "correct", "apply", file, tmp_path / "s.h5", "--out", out, *options)[0] == 0
    store = EmbeddingStore(out)
    assert (store.datasets(), store.embeddings()) == (["b"], ["clean"])
    expected = load(file).transform(part["X"][part["dataset"] == "b"])
    np.testing.assert_allclose(store.table("clean").X, expected, atol=1e-6)


def test_the_domain_may_be_another_column(capsys, tmp_path):
    part = both()
    file, out = tmp_path / "c.npz", tmp_path / "o.npz"
    source = saved(tmp_path / "m.npz", part)
    options = ["--method", "center", "--domain", "genre", "--split", "all"]
    call(capsys, "correct", "fit", source, *options, "--out", file)
    assert load(file).domains_.tolist() == ["jazz", "pop"]
    call(capsys, "correct", "apply", file, source, "--domain", "genre", "--out", out)
    expected = DomainCentering().fit_transform(part["X"], domain=part["genre"])
    np.testing.assert_allclose(read(out, ".npz"), expected, atol=1e-6)
    stored(tmp_path / "s.h5", part)
    options = ["--domain", "genre", "--out", tmp_path / "o.h5"]
    call(capsys, "correct", "apply", file, tmp_path / "s.h5", *options)
    np.testing.assert_allclose(read(tmp_path / "o.h5", ".h5"), expected, atol=1e-5)


def test_columns_and_parameters_reach_fit(capsys, tmp_path):
    rng, part = np.random.default_rng(2), both()
    part |= {"level": rng.normal(size=2 * N), "year": rng.integers(1950, 2020, 2 * N)}
    source, file = saved(tmp_path / "m.npz", part), tmp_path / "c.npz"
    columns = ["nuisance=level", "nuisance=year", "preserve=label", "balance=genre"]
    options = [text for column in columns for text in ("--column", column)]
    options += ["--set", "shrinkage=0.2", "--set", "alpha=0.5", "--split", "test"]
    call(capsys, "correct", "fit", source, "--method", "leace", "--out", file, *options)
    rows = part["split"] == "test"
    nuisance = np.column_stack([part["level"], part["year"]])[rows]
    wanted = LEACE(shrinkage=0.2, alpha=0.5).fit(
        part["X"][rows],
        domain=part["dataset"][rows],
        nuisance=nuisance,
        preserve=part["label"][rows],
        balance=part["genre"][rows],
    )
    assert load(file).get_params() == wanted.get_params()
    np.testing.assert_array_equal(load(file).transform(part["X"]), wanted.transform(part["X"]))


@pytest.mark.parametrize("kind", [".txt", ".npy", ".csv"])
def test_the_datasets_of_an_array_from_a_file(capsys, tmp_path, kind):
    part, labels = both(), tmp_path / f"labels{kind}"
    np.save(tmp_path / "m.npy", part["X"])
    if kind == ".txt":
        labels.write_text("\n".join(part["dataset"]) + "\n")
    elif kind == ".npy":
        np.save(labels, part["dataset"])
    else:
        table(part).to_csv(labels, index=False)
    options = ["--method", "leace", "--split", "all", "--out", tmp_path / "c.npz"]
    if kind != ".csv":
        options.remove("--split")
        options.remove("all")
    code, _, err = call(
        capsys, "correct", "fit", tmp_path / "m.npy", "--columns-from", labels, *options
    )
    assert (code, err) == (0, "fitted on 240 of 240 clips (all)\n")
    wanted = LEACE().fit(part["X"], domain=part["dataset"])
    np.testing.assert_array_equal(
        load(tmp_path / "c.npz").transform(part["X"]), wanted.transform(part["X"])
    )


def test_info_says_what_is_in_the_file(capsys, tmp_path):
    part = both()
    correction = DomainCentering(alpha=0.5).fit(part["X"], domain=part["dataset"])
    file = save(correction, tmp_path / "c.npz")
    code, text, err = call(capsys, "correct", "info", file)
    assert (code, err) == (0, "")
    lines = dict(line.split("  ", 1) for line in text.splitlines())
    lines = {key.strip(): value.strip() for key, value in lines.items()}
    assert lines["correction"] == "Centering by dataset (center)"
    assert lines["class"] == "DomainCentering"
    assert lines["parameters"] == "alpha=0.5, unseen='raise'"
    assert lines["size"] == "5 features, 2 domains (a, b), rank 0"
    assert lines["may see"] == "target clips"
    code, text, err = call(capsys, "correct", "info", file, "--json")
    document = strict(text)
    assert document["sha256"] == lines["sha256"]
    assert document["domains"] == ["a", "b"]
    assert document["card"]["domain_at_transform"]
    assert (document["n_features"], document["format_version"]) == (5, 2)


def test_json_of_fit_and_apply(capsys, tmp_path):
    source, file, out = saved(tmp_path / "m.npz", both()), tmp_path / "c.npz", tmp_path / "o.npz"
    code, text, _ = call(
        capsys, "correct", "fit", source, "--method", "leace", "--out", file, "--json", "--quiet"
    )
    document = strict(text)
    assert (code, document["class"], document["rank"]) == (0, "LEACE", {"": 1})
    assert document["fitted_on"]["columns"] == {"domain": ["dataset"]}
    assert document["fitted_on"]["n_clips"] == 160
    code, text, err = call(capsys, "correct", "apply", file, source, "--out", out, "--json")
    assert (code, err) == (0, "")
    assert strict(text) == {
        "file": str(file), "class": "LEACE", "source": source, "out": str(out), "n_vectors": 240,
    }  # fmt: skip


def test_nothing_is_replaced_unless_asked(capsys, tmp_path):
    source, file, out = saved(tmp_path / "m.npz", both()), tmp_path / "c.npz", tmp_path / "o.npz"
    fit = ["correct", "fit", source, "--method", "leace", "--out", file]
    apply = ["correct", "apply", file, source, "--out", out]
    for command in (fit, apply):
        assert call(capsys, *command)[0] == 0
        code, line = failure(capsys, *command)
        assert code == 2
        assert "is already there; choose another name, or pass --overwrite" in line
        assert call(capsys, *command, "--overwrite")[0] == 0
    store = stored(tmp_path / "s.h5", both())
    apply = ["correct", "apply", file, store, "--embedding", "toy", "--out", store]
    assert call(capsys, *apply)[0] == 0
    code, line = failure(capsys, *apply)
    assert code == 2
    assert "embedding 'toy.leace' of dataset 'a' is already in" in line
    assert call(capsys, *apply, "--overwrite")[0] == 0


@pytest.fixture
def files(tmp_path):
    """Give a good source, good corrections of both families, and bad files."""
    part = both()
    saved(tmp_path / "m.npz", part)
    save(LEACE().fit(part["X"], domain=part["dataset"]), tmp_path / "leace.npz")
    save(DomainCentering().fit(part["X"], domain=part["dataset"]), tmp_path / "center.npz")
    np.save(tmp_path / "m.npy", part["X"])
    np.save(tmp_path / "wide.npy", np.zeros((3, 9)))
    np.save(tmp_path / "flat.npy", np.zeros(3))
    np.save(tmp_path / "short.npy", np.array(["a", "b"]))
    (tmp_path / "empty.npz").touch()
    (tmp_path / "cut.npz").write_bytes((tmp_path / "leace.npz").read_bytes()[:900])
    (tmp_path / "m.h5").write_text("no")
    saved(tmp_path / "new.npz", part | {"dataset": np.full(2 * N, "c")})
    saved(tmp_path / "blank.npz", part | {"dataset": np.where(part["genre"] == "pop", "", "a")})
    table(part).drop(columns=FEATURES[:2]).to_csv(tmp_path / "less.csv", index=False)
    table(part).assign(f1="x").to_csv(tmp_path / "text.csv", index=False)
    table(part).rename(columns=dict(zip(FEATURES, "uvwxy"))).to_csv(
        tmp_path / "named.csv", index=False
    )
    saved(tmp_path / "objects.npz", part | {"label": part["label"].astype(object)})
    return tmp_path


FIT = "correct fit {} --method leace --out out.npz"


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("correct", 2, "required: ACTION"),
        ("correct fit m.npz --out out.npz", 2, "required: --method"),
        ("correct fit m.npz --method leac --out out.npz", 2, "'leac' is not known.*mean 'leace'"),
        ("correct fit m.npz --method original --out out.npz", 2, "'original' changes nothing"),
        ("correct fit m.npz --method leace --out out.pkl", 2, "ends in '.pkl'"),
        ("correct fit m.npz --method leace --out no/out.npz", 1, "no is not a folder"),
        (FIT.format("no.npz"), 1, "no.npz is not a file that is there"),
        (FIT.format("m.wav"), 2, "ends in '.wav'; give a store"),
        (FIT.format("empty.npz"), 1, "empty.npz is empty"),
        (FIT.format("cut.npz"), 1, "is not an npz file, or is cut off"),
        (FIT.format("m.h5"), 1, "m.h5"),
        (FIT.format("objects.npz"), 1, "'label' is an object array"),
        (FIT.format("m.npy"), 2, "has no column 'dataset', only none;.*--columns-from"),
        (FIT.format("flat.npy"), 1, r"has shape \(3,\)"),
        (FIT.format("m.npy --columns-from short.npy"), 1, "has 2 rows, but m.npy has 240 clips"),
        (FIT.format("m.npy --columns-from no.txt"), 1, "no.txt is not a file"),
        (FIT.format("m.npz --domain genr"), 2, "no column 'genr'.*mean 'genre'"),
        (FIT.format("blank.npz"), 1, "'dataset' is blank for 120 of 240 clips, first in row"),
        (
            FIT.format("m.npz --split dev"),
            1,
            "no clip is of split 'dev'; there are 'test', 'train'",
        ),
        (FIT.format("m.npz --set alpha=2"), 2, "alpha=2 is not allowed"),
        (FIT.format("m.npz --set alfa=1"), 2, "'alfa' is no parameter of leace.*mean 'alpha'"),
        (FIT.format("m.npz --set alpha"), 2, "--set 'alpha' is not NAME=VALUE"),
        (FIT.format("m.npz --column label=genre"), 2, "'label' is nothing that leace takes"),
        (FIT.format("m.npz --column nuisance=genre"), 1, "'genre' is to be the nuisance.* numbers"),
        (FIT.format("m.npz --embedding x"), 2, "--embedding is for stores, but m.npz is a file"),
        (FIT.format("new.npz --split all"), 1, "at least 2 are needed"),
        (FIT.format("text.csv"), 1, "text in 'f1'"),
        ("correct apply no.npz m.npz --out o.npz", 1, "no.npz is not a file that is there"),
        ("correct apply m.npz m.npz --out o.npz", 1, "m.npz is an npz file, but not a correction"),
        ("correct apply cut.npz m.npz --out o.npz", 1, "cut.npz .* cut off or damaged"),
        ("correct apply leace.npz wide.npy --out o.npy", 1, "X has 9 features"),
        ("correct apply leace.npz less.csv --out o.csv", 1, "X has 3 features"),
        ("correct apply center.npz m.npy --out o.npy", 2, "has no column 'dataset'"),
        ("correct apply center.npz new.npz --out o.npz", 1, "domain 'c' was not seen.*--unseen"),
        ("correct apply center.npz new.npz --out o.npz --unseen no", 2, "--unseen no is not known"),
        ("correct apply leace.npz m.npz --out o.npz --unseen raise", 2, "treats all domains alike"),
        (
            "correct apply leace.npz m.npz --out o.csv",
            2,
            "o.csv ends in '.csv', but m.npz in '.npz'",
        ),
        (
            "correct apply leace.npz m.npz --out no/o.npz",
            1,
            "o.npz cannot be written: no is not a folder",
        ),
        ("correct apply leace.npz m.npz --out o.npz --name x", 2, "--name is for stores"),
        ("correct info no.npz", 1, "no.npz is not a file that is there"),
        ("correct info empty.npz", 1, "empty.npz is empty"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(capsys, monkeypatch, files, command, code, message):
    monkeypatch.chdir(files)
    before = sorted(os.listdir(files))
    found, line = failure(capsys, *command.split(), "--quiet")
    assert re.search(message, line), line
    assert found == code
    assert sorted(os.listdir(files)) == before


def test_unseen_domains_follow_the_rule(capsys, files):
    out = files / "o.npz"
    command = ["correct", "apply", files / "center.npz", files / "new.npz", "--out", out]
    assert call(capsys, *command, "--unseen", "identity")[0] == 0
    np.testing.assert_array_equal(read(out, ".npz"), both()["X"])


def test_features_by_name_are_missed_by_name(capsys, files):
    file = files / "c.npz"
    assert (
        call(capsys, "correct", "fit", files / "named.csv", "--method", "leace", "--out", file)[0]
        == 0
    )
    code, line = failure(
        capsys, "correct", "apply", file, files / "less.csv", "--out", files / "o.csv"
    )
    assert code == 1
    assert "has no column 'u', 'v', 'w' and 2 more, which the correction was fitted on" in line
