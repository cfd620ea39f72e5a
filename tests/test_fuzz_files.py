"""Damaged and made-up npz, npy, csv and parquet files, manifests and saved corrections.

Whatever is in them, they are read or refused with an error of ours, in little time and memory.
"""

import json
import os
import pickle
import zipfile
import zlib
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
from fuzzing import mutations, n_cases, run_cases
from hypothesis import given, settings
from hypothesis import strategies as st

from biasaudio._files import open_npz
from biasaudio._text import csv_safe, printable
from biasaudio.datasets import load_manifest
from biasaudio.datasets._files import object_text, read_npz
from biasaudio.errors import BiasAudioError, DataError
from biasaudio.results import AuditResult
from biasaudio.store import import_file, read_columns_file, read_vectors
from biasaudio.transforms import LEACE, DomainCentering, KernelMap, LDAProjection, load, save
from biasaudio.transforms.persist import digest, read_header

# A campaign of minutes: run with -m "slow or not slow".
pytestmark = pytest.mark.slow

DOMAINS = np.array(["a", "b"] * 10)
MANIFEST = (
    "clip_id,dataset,split,group,genre,cello,flute\n"
    '01,x,train,s1,rock,1,\n02,y,,"s, 2",,0,True\n03,y,test,,jazz,,0\n'
)
OTHERS = [None, True, -1, 0, 3, 2**70, 1e300, "", "up_0", "a" * 99, "\x1b\n\u202e", [], {}, [[]]]
OTHERS += [{"array": "center_0"}, {"texts": "alpha"}, {"float": "x"}, {"list": 3}, {"dict": [[[]]]}]
OTHERS += [{"estimator": {"class": "LEACE"}}, {"affine": {}}, {"scalar": "down_0"}, {"tuple": [1]}]


def each(*calls):
    """Make all calls, and let the first refusal through once all are made."""
    refused = None
    for call in calls:
        try:
            call()
        except BiasAudioError as error:
            refused = refused or error
    if refused is not None:
        raise refused


def vectors(path):
    """Bring a file into a store, and change it."""

    def change():
        file = read_vectors(path)
        np.asarray(file.clip_vectors())
        target = path.with_name(f"out{path.suffix}")
        file.write(target, lambda X, owner: X.astype(np.float32), overwrite=True)

    calls = [change, lambda: read_columns_file(path)]
    if path.suffix != ".npy":
        store = path.with_name("store.h5")
        calls.append(lambda: import_file(store, path, dataset="a", overwrite=True))
    each(*calls)


def member(path):
    """Take the bytes for the vectors, and for the ids, of an archive that is sound but for them."""
    calls = []
    for name, other in (("X", "clip"), ("clip", "X")):
        target = path.with_name(f"member-{name}.npz")
        np.savez(target, **{other: {"X": np.eye(3), "clip": np.array(["a", "b", "c"])}[other]})
        with zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{name}.npy", path.read_bytes())
        if path.stem == "case":
            calls.append(lambda target=target: vectors(target))
    each(*calls)


def published(path):
    """Read what is read of OpenMIC."""
    read_npz(path, ["X", "sample_key"])


def objects(path):
    """Walk through a pickle of three texts."""
    object_text(path.read_bytes(), "keys", 3)


def correction(path):
    """Load a correction, and use it."""
    each(lambda: read_header(path), lambda: use(path))


def use(path):
    """Correct one clip."""
    transform = load(path)
    columns = {"domain": np.array(["a"])} if transform.domain_aware else {}
    transform.transform(np.zeros((1, transform.n_features_in_)), **columns)


def made(path):
    """Replace pieces of a header and of the arrays, and give them the right checksum.

    Which pieces, the bytes behind the first line decide.
    """
    first, _, rest = path.read_bytes().partition(b"\n")
    rng = np.random.default_rng(zlib.crc32(rest) if rest != b"0" * 40 else None)
    try:
        source = json.loads(first)
        spelled = source["arrays"].items()
        arrays = {k: np.array(flat, dtype).reshape(shape) for k, (dtype, shape, flat) in spelled}
        header = source["header"]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, SyntaxError):
        raise DataError("no case") from None
    for _ in range(0 if rest == b"0" * 40 else rng.integers(1, 4)):
        replace(header, arrays, rng)
    header["sha256"] = digest(header, arrays)
    target = path.with_name("made.npz")
    np.savez(target, header=np.array(json.dumps(header)), **arrays)
    correction(target)


def replace(header, arrays, rng):
    """Put something else in one place of the header, or in place of one array."""
    places = list(walk(header))
    holder, key = places[rng.integers(len(places))]
    kind = rng.integers(4)
    if kind == 0:
        name = sorted(arrays)[rng.integers(len(arrays))]
        odd = [np.zeros(()), np.zeros((0, 3)), np.full(4, np.nan), np.array("a"), np.eye(7) > 0]
        arrays[name] = [*odd, arrays[name].T, arrays[name].ravel()[:1]][rng.integers(7)]
    elif kind == 1 and isinstance(holder, dict):
        del holder[key]
    elif kind == 2:
        holder[key] = [holder[key]] * int(rng.choice([1, 2, 1000]))
    else:
        holder[key] = OTHERS[rng.integers(len(OTHERS))]


def walk(value):
    """Yield all places in JSON."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from walk(value[key])


def audit(path):
    """Read a saved audit back, and say what it found."""
    AuditResult.load(path).summary()


def table(rng, n=12):
    """Return a table of vectors with what is known of the clips."""
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=["f0", "f1", "f2"])
    frame.insert(0, "clip", [f"c{i}" for i in range(n)])
    return frame.assign(label=["cello", "flute"] * (n // 2), group=[str(i // 2) for i in range(n)])


def write(kind, folder, rng):
    """Write the whole files of one kind, and return their paths."""
    frame, X = table(rng), rng.normal(size=(20, 5))
    arrays = {"X": X[:12], "clip": frame["clip"].to_numpy(str), "label": np.full(12, "cello")}
    folder.mkdir()
    if kind == "npz":
        np.savez(folder / "a.npz", **arrays)
        np.savez_compressed(folder / "b.npz", **arrays)
        np.savez(folder / "c.npz", frames=X, frame_clip=np.arange(20) % 12, clip=arrays["clip"])
    elif kind == "published":
        keys = np.array(["a", "b", "c"], dtype=object)
        np.savez(folder / "a.npz", X=np.eye(3, dtype="i4"), sample_key=keys)
        np.savez_compressed(folder / "b.npz", X=np.eye(3), sample_key=keys.astype(str))
    elif kind == "objects":
        for protocol in (2, 3, 4, 5):
            keys = np.array(["a", "b", "a"], dtype=object)
            (folder / f"{protocol}.pkl").write_bytes(pickle.dumps(keys, protocol=protocol))
    elif kind in ("npy", "member"):
        np.save(folder / "a.npy", X.astype("f4"))
        np.save(folder / "b.npy", np.asfortranarray(X))
        if kind == "member":
            np.save(folder / "c.npy", np.array(["a", "bc", "d"] * 3))
    elif kind == "csv":
        frame.to_csv(folder / "a.csv", index=False)
    elif kind == "parquet":
        frame.to_parquet(folder / "a.parquet")
        frame.drop(columns="group").to_parquet(folder / "b.parquet", compression=None)
    elif kind == "manifest":
        (folder / "a.csv").write_text(MANIFEST)
    elif kind in ("correction", "made"):
        fitted = [LEACE(), LDAProjection(), DomainCentering(), KernelMap(LEACE())]
        for i, one in enumerate(fitted):
            save(one.fit(X, domain=DOMAINS), folder / f"{i}.npz")
            if kind == "made":
                spell(folder / f"{i}.npz")
    elif kind == "audit":
        AuditResult.from_rows({}, {"title": "x", "n": 1}).save(folder)
        return [folder / "audit.json"]
    return sorted(folder.iterdir())


def spell(path):
    """Write a saved correction as text, for `made`."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    header = json.loads(str(arrays.pop("header")))
    plain = {k: [a.dtype.str, a.shape, a.ravel().tolist()] for k, a in arrays.items()}
    text = json.dumps({"header": header, "arrays": plain})
    path.with_suffix(".json").write_bytes(text.encode() + b"\n" + b"0" * 40)
    path.unlink()


def manifest(path):
    """Read a table of clips."""
    load_manifest(path)


KINDS = {
    "npz": vectors,
    "member": member,
    "npy": vectors,
    "csv": vectors,
    "parquet": vectors,
    "published": published,
    "objects": objects,
    "manifest": manifest,
    "correction": correction,
    "made": made,
    "audit": audit,
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """Give what became of the damaged files of each kind, all opened by one process."""
    folder, rng = tmp_path_factory.mktemp("fuzz"), np.random.default_rng(5)
    there = [kind for kind in KINDS if kind != "parquet" or find_spec("pyarrow")]
    kinds = {kind: (KINDS[kind], write(kind, folder / kind, rng)) for kind in there}
    return run_cases(kinds, n_cases(40))


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused(outcomes, kind):
    if kind not in outcomes:
        pytest.skip("no pyarrow")
    found = outcomes[kind]
    assert not found.failures
    assert found.n_cases == n_cases(40)
    assert found.n_refused > 0


def refusal(call, kind):
    """Return the text of the error that a call ends in, if it is one of this kind."""
    try:
        call()
    except kind as error:
        return str(error)
    return ""


SMALL = st.integers(0, 4)
SHAPES = st.lists(st.one_of(SMALL, st.integers(-1, 2**70)), max_size=40).map(tuple)
DTYPES = st.sampled_from(
    ["<f8", "|b1", "<U0", "<U3", "|S2", "|O", "<c16", "<M8[s]", "|V3", "<f4,<i2"]
)


@settings(max_examples=n_cases(150), deadline=None)
@given(descr=DTYPES, shape=SHAPES, is_fortran=st.booleans(), n=st.integers(0, 100), odd=st.binary())
def test_made_up_headers(tmp_path_factory, descr, shape, is_fortran, n, odd):
    text = repr({"descr": descr, "fortran_order": is_fortran, "shape": shape}).encode() + odd[:3]
    data = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(n)
    path = tmp_path_factory.mktemp("made") / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", data)

    def read():
        with open_npz(path) as found:
            array = found.read("a")
        assert array.shape == shape
        assert array.nbytes == n or descr == "<U0"

    assert "\n" not in refusal(read, ValueError)


@settings(max_examples=n_cases(150), deadline=None)
@given(
    rows=st.lists(
        st.lists(st.text(st.characters(codec="utf-8"), max_size=6), min_size=1, max_size=4),
        max_size=6,
    ),
    header=st.sampled_from(["clip_id,dataset,cello", "clip,f0,f1", "clip,dataset,f0", "f0", ""]),
)
def test_made_up_tables(tmp_path_factory, rows, header):
    path = tmp_path_factory.mktemp("made") / "a.csv"
    lines = [header, *(",".join(row) for row in rows)]
    path.write_bytes("\n".join(lines).encode())
    store = path.with_name("s.h5")
    for call in (
        lambda: load_manifest(path),
        lambda: read_vectors(path),
        lambda: read_columns_file(path),
        lambda: import_file(store, path, overwrite=True),
    ):
        assert "\n" not in refusal(call, BiasAudioError)


@settings(max_examples=n_cases(100), deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_shown_and_kept(text):
    shown = printable(text)
    assert len(shown.encode()) >= len(text)
    assert printable(shown) == shown
    assert not any(0x202A <= ord(c) <= 0x202E or ord(c) < 32 or 127 <= ord(c) < 160 for c in shown)
    frame = pd.DataFrame({"name": pd.Series([text], dtype=object)})
    safe = csv_safe(frame)["name"].iloc[0]
    assert safe.removeprefix("'") == text.removeprefix("'") or safe == f"'{text}"
    assert safe[:1] not in ("=", "+", "-", "@", "\t", "\r") or not safe


def greedy(path):
    """Take a gigabyte where the file is damaged."""
    if path.stem == "case":
        np.ones(2**27)


def slow(path):
    """Never end where the file is damaged."""
    while path.stem == "case":
        pass


def wrong(path):
    """Raise what is no error of ours, or one of two lines."""
    if path.stem == "case":
        raise DataError("a\nb") if path.read_bytes()[:1] == b"a" else KeyError("x")


def deadly(path):
    """End the process where the file is damaged."""
    if path.stem == "case":
        os._exit(7)


def test_the_harness_sees_what_goes_wrong(tmp_path):
    (tmp_path / "a.txt").write_text("a" * 100)
    files = [tmp_path / "a.txt"]
    kinds = {one.__name__: (one, files) for one in (greedy, slow, wrong)}
    found = run_cases(kinds, 2, seconds=0.3)
    assert all(len(outcome.failures) == outcome.n_cases == 2 for outcome in found.values())
    assert "MemoryError" in found["greedy"].failures[0]
    assert "TimeoutError" in found["slow"].failures[0]
    assert any(
        "KeyError" in text or "more than one line" in text for text in found["wrong"].failures
    )
    [text] = run_cases({"deadly": (deadly, files)}, 2)["deadly"].failures
    assert text.startswith("the process ended with 7 at case 0 of deadly, a.txt")


def test_mutations_differ_and_are_the_same_again():
    data = b"name,number\nx,12\n" * 20
    first, second = (list(mutations(data, np.random.default_rng(1), 200)) for _ in range(2))
    assert first == second
    assert len(set(first)) > 190
    assert data not in first or first.count(data) < 20
