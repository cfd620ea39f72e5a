"""Small data for the tests of audit, results and command line."""

import json

import h5py
import numpy as np
import pandas as pd

from biasaudio.cli.main import main
from biasaudio.datasets import ClipTable, EmbeddingTable
from biasaudio.datasets.synthetic import make_domains
from biasaudio.store import import_arrays

# Enough for a number, too few for a good one.
QUICK = {"n_permutations": 9, "n_resamples": 40}
FEW = ["--permutations", "9", "--resamples", "40", "--n-jobs", "1"]
N = 120
GROUPS = np.array([f"song {i // 2}" for i in range(N)])
GENRES = np.array(["pop", "jazz"])[(np.arange(N) // 4) % 2]
LABELS = np.array(["cello", "flute"])[np.arange(N) % 2]


def planted(n=180, d=5, **options):
    """Return a table of two datasets that differ by an offset."""
    options = {"n_labels": 2, "n_genres": 2, "random_state": 0} | options
    return make_domains(n=n, d=d, **options)[0]


def arrays(dataset, *, n=N, shift=0.0, seed=0, **change):
    """Return the arrays of an npz file: label 0 moves f0, genre 0 moves f1, dataset moves f2."""
    found = {
        "clip": np.array([f"{dataset}-{i}" for i in range(n)]),
        "dataset": np.full(n, dataset),
        "label": LABELS[:n],
        "group": GROUPS[:n],
        "genre": GENRES[:n],
    } | change
    X = np.random.default_rng([seed, len(dataset), ord(dataset[-1])]).normal(size=(n, 5))
    for column, name in enumerate(("label", "genre")):
        if found[name] is not None:
            X[:, column] += 2.0 * (found[name] == found[name][0])
    X[:, 2] += shift
    found = {"X": X.astype(np.float32)} | found
    return {name: value for name, value in found.items() if value is not None}


def joined(*parts, embedding="toy"):
    """Return the table of the arrays of several datasets."""
    tables = []
    for part in parts:
        columns = {k: v for k, v in part.items() if k not in ("X", "clip", "dataset")}
        clips = ClipTable.from_columns(part["clip"], part["dataset"], **columns)
        tables.append(EmbeddingTable(part["X"], clips, embedding))
    return EmbeddingTable.concat(tables)


def stored(path, *parts, embedding="toy"):
    """Write the arrays of several datasets to one store and return its path as text."""
    for part in parts:
        columns = {k: v for k, v in part.items() if k not in ("X", "clip")}
        import_arrays(path, part["X"], part["clip"], embedding=embedding, **columns)
    return str(path)


def saved(path, part):
    """Write the arrays to an npz file and return its path as text."""
    np.savez(path, **part)
    return str(path)


def without_time(text):
    """Return the lines of an audit.json but that of its time."""
    return [line for line in text.splitlines() if '"created":' not in line]


def write_layout(folder, rng, *, n=96, d=6):
    """Write a tiny folder laid out like the data of the published study."""
    openmic, irmas = folder / "openmic-2018", folder / "irmas"
    (openmic / "partitions").mkdir(parents=True)
    irmas.mkdir()
    codes = {"cello": "cel", "flute": "flu"}
    genres = {"pop_roc": "Rock", "jaz_blu": "Jazz", "cla": "Classical", "cou_fol": "Folk"}
    label = np.array([*codes])[np.arange(n) % 2]
    code = np.array([*genres])[np.arange(n) // 2 % 4]
    is_train = np.arange(n) // 8 % 3 > 0
    irmas_keys = np.array(
        [f"{i:03d}__[{codes[a]}][nod][{g}]{i:04d}__1" for i, (a, g) in enumerate(zip(label, code))]
    )
    openmic_keys = np.array([f"{i:06d}_3840" for i in range(n)])
    for part, rows in (("train", is_train), ("test", ~is_train)):
        for path, keys in (
            (irmas / f"split_{part}.csv", irmas_keys),
            (openmic / "partitions" / f"split01_{part}.csv", openmic_keys),
        ):
            pd.Series(keys[rows]).to_csv(path, index=False, header=False)
    titles = [str([{"genre_title": genres[one]}]) for one in code]
    pd.DataFrame(
        {"track_id": np.arange(n), "track_genres": titles, "sample_key": openmic_keys}
    ).to_csv(openmic / "openmic-2018-metadata.csv", index=False)
    pd.DataFrame(
        {
            "sample_key": np.repeat(openmic_keys, 2),
            "instrument": ["cello", "flute"] * n,
            "relevance": np.column_stack([label == "cello", label == "flute"]).ravel() * 0.9,
            "num_responses": 3,
        }
    ).to_csv(openmic / "openmic-2018-aggregated-labels.csv", index=False)
    with h5py.File(folder / "embeddings.h5", "w") as file:
        for dataset, keys, offset in (("irmas", irmas_keys, 0.0), ("openmic", openmic_keys, 1.0)):
            for embedding in ("toy", "tiny"):
                X = rng.normal(size=(n, d)) + offset
                X[:, 0] += 2.0 * (label == "cello")
                group = file.create_group(f"{dataset}/{embedding}")
                group["features"] = np.repeat(X, 2, axis=0).astype("f4")
                group["keys"] = np.repeat(keys.astype("S"), 2)
    return folder


def call(capsys, *argv):
    """Run the command line in this process and return code, stdout and stderr."""
    capsys.readouterr()
    code = main([str(one) for one in argv])
    return code, *capsys.readouterr()


def strict(text):
    """Return the one JSON document that the text is, NaN and Infinity refused."""

    def refuse(name):
        raise ValueError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def failure(capsys, *argv):
    """Run a command that must fail; return its code and its one line, the same with --json."""
    code, out, err = call(capsys, *argv)
    assert out == ""
    assert err.startswith("biasaudio: ")
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    line = err.removeprefix("biasaudio: ").rstrip("\n")
    again, out, err = call(capsys, *argv, "--json")
    assert (again, err) == (code, "")
    assert strict(out)["error"]["message"] == line
    return code, line
