"""npz and npy files that lie, and tables: refused before anything is allocated."""

import io
import json
import struct
import tracemalloc
import zipfile

import numpy as np
import pandas as pd
import pytest

from biasaudio._npz import DECODED_LEAST, decoded_limit, open_npy, open_npz, write_npz
from biasaudio._sheets import MOST_COLUMNS, check_csv, check_texts, read_parquet
from biasaudio.datasets import load_manifest
from biasaudio.datasets._files import object_text
from biasaudio.errors import DataError
from biasaudio.store import import_file
from biasaudio.store.readers import open_vectors, read_columns_file
from biasaudio.transforms import LEACE, DomainCentering, load, save
from biasaudio.transforms.persist import digest
from biasaudio.transforms.persist import read_header

ARRAYS = {
    "a": np.arange(6.0).reshape(2, 3),
    "text": np.array(["x", "yé", ""]),
    "big": np.array(["k"], ">U3"),
    "fortran": np.asfortranarray(np.eye(3, 2)),
    "scalar": np.array(3),
    "empty": np.zeros((0, 4)),
    "bytes": np.array([b"a", b"bb"]),
    "day": np.array(["2020-01-01"], "M8[D]"),
    "flag": np.array([True, False]),
    "complex": np.array([1j]),
    # Names that numpy.savez takes for its own parameters.
    "file": np.ones(2, ">i2"),
    "allow_pickle": np.ones(1, "f2"),
}


def header(descr="<f8", shape="(3,)", order="False", pad=0):
    text = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}"
    return npy(text.encode() + b" " * pad)


def npy(text, version=1):
    size = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text


def packed(path, members, way=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", way) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def peak(call):
    """Return what a call raised, and the most memory that it took."""
    tracemalloc.start()
    try:
        call()
        return None, 0
    except ValueError as error:
        return error, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def read_all(path):
    with open_npz(path) as archive:
        return {name: archive.read(name) for name in archive.names}


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_come_back_as_numpy_reads_them(tmp_path, compressed):
    with (tmp_path / "a.npz").open("wb") as stream:
        write_npz(stream, ARRAYS, compressed=compressed)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        expected = {name: archive[name] for name in archive.files}
    found = read_all(tmp_path / "a.npz")
    assert list(found) == list(expected) == list(ARRAYS)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype == ARRAYS[name].dtype
        assert found[name].flags.f_contiguous == array.flags.f_contiguous
        np.testing.assert_array_equal(found[name], array, strict=True)
        found[name].flat[:1] = found[name].flat[:1]
    with open_npz(tmp_path / "a.npz") as archive:
        assert archive.is_compressed == compressed


def test_what_savez_writes_is_read_and_the_same_bytes(tmp_path):
    arrays = {name: array for name, array in ARRAYS.items() if name not in ("file", "allow_pickle")}
    np.savez(tmp_path / "a.npz", **arrays)
    with (tmp_path / "b.npz").open("wb") as stream:
        write_npz(stream, arrays)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert list(read_all(tmp_path / "a.npz")) == list(arrays)


def test_npy_numbers_are_mapped_and_texts_are_read(tmp_path):
    np.save(tmp_path / "a.npy", ARRAYS["fortran"])
    found = open_npy(tmp_path / "a.npy")
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, ARRAYS["fortran"])
    np.save(tmp_path / "b.npy", ARRAYS["text"])
    assert open_npy(tmp_path / "b.npy").tolist() == ARRAYS["text"].tolist()
    (tmp_path / "c.npy").write_bytes((tmp_path / "a.npy").read_bytes() + b"x")
    with pytest.raises(ValueError, match=r"49 bytes for float64 and shape \(3, 2\)"):
        open_npy(tmp_path / "c.npy")
    # Empty texts have no bytes in the file.
    (tmp_path / "d.npy").write_bytes(header("<U0", "(100000000000,)"))
    error, memory = peak(lambda: open_npy(tmp_path / "d.npy"))
    assert "would take" in str(error)
    assert memory < 2**20


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (header("<f8", "(10000000000000,)"), "0 bytes for float64 and shape"),
        (header("<f8", "(-1,)"), "give plain arrays"),
        (header("<f8", "(3, 999999999999999999999)"), "give plain arrays"),
        (header("<f8", "(" + "1, " * 400 + ")") + bytes(8), "dimension"),
        (header("<U0", "(1000000000,)"), "would take 64000000000 bytes of memory"),
        (header("<f8", "(0, 1000000000)"), "would take 8000000000 bytes of memory"),
        (header("<U999999999", "(1,)"), "understood|bytes for"),
        (header("|O", "(1,)") + bytes(8), "an array of object"),
        (header("|V8", "(1,)") + bytes(8), "give plain arrays"),
        (header("<f4,<f4", "(1,)") + bytes(8), "give plain arrays"),
        (header("<f8", "(1,)", "0") + bytes(8), "give plain arrays"),
        (
            npy(b"{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (1,), }"),
            "plain arrays",
        ),
        (npy(b"__import__('os').system('true')"), "give plain arrays"),
        (npy(b"-" * 60_000 + b"1"), "give plain arrays"),
        (npy(b"(" * 60_000), "give plain arrays"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(9), "npy header of 4294967295 bytes"),
        (header("<U1", "(1,)") + b"\xff\xff\xff\xff", "not Unicode"),
        (header("<U1", "(1,)") + b"\x00\xd8\x00\x00", "not Unicode"),
        (header("<f8", "(3,)") + bytes(23), "23 bytes for float64"),
        (header("<f8", "(3,)") + bytes(25), "25 bytes for float64"),
        (b"\x93NUMPY\x09\x00" + bytes(99), "it is not an npy array"),
        (b"", "it is not an npy array"),
    ],
)
def test_arrays_that_are_not_what_they_say(tmp_path, data, message):
    path = packed(tmp_path / "a.npz", {"a.npy": data})
    error, memory = peak(lambda: read_all(path))
    with pytest.raises(ValueError, match=message):
        raise error
    assert "\n" not in str(error)
    assert memory < 2**21
    (tmp_path / "a.npy").write_bytes(data)
    error, memory = peak(lambda: open_npy(tmp_path / "a.npy"))
    assert isinstance(error, ValueError)
    assert memory < 2**21


def test_bombs_are_refused_before_they_are_unpacked(tmp_path):
    n = DECODED_LEAST // 8 + 1
    path = packed(tmp_path / "a.npz", {"a.npy": header("<f8", f"({n},)") + bytes(8 * n)})
    assert path.stat().st_size < DECODED_LEAST / 900
    error, memory = peak(lambda: read_all(path))
    assert f"would take {8 * n} bytes" in str(error)
    assert memory < 2**21
    # Together they are too large, though each alone is not.
    half = header("<f8", f"({n // 2},)") + bytes(8 * (n // 2))
    path = packed(tmp_path / "b.npz", {f"{i}.npy": half for i in range(3)})
    with open_npz(path) as archive:
        assert not archive.read("0").any()
        archive.read("1")
        with pytest.raises(ValueError, match=r"would take .* left of"):
            archive.read("2")
    # One byte a value would become eight.
    path = packed(tmp_path / "c.npz", {"a.npy": header("|b1", f"({n},)") + bytes(n)})
    with pytest.raises(ValueError, match="would take"):
        read_all(path)
    assert decoded_limit(1) == DECODED_LEAST == 2**26
    assert decoded_limit(2**30) == 100 * 2**30


def test_ordinary_files_of_any_size_are_within_the_limit(tmp_path, rng):
    X = rng.normal(size=(20_000, 128)).astype("f4")
    arrays = {"X": X, "mask": np.zeros((20_000, 20), bool), "key": np.arange(20_000).astype(str)}
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    assert read_all(tmp_path / "a.npz")["key"][-1] == "19999"


@pytest.mark.parametrize(
    "name",
    [
        "../a",
        "/a",
        "a/b",
        "a\\b",
        "C:a",
        "",
        "..",
        "a\x1b[2J",
        "a\n",
        "a\x00b",
        "\u202ea",
        "n" * 256,
    ],
)
def test_names_of_members_that_are_no_names(tmp_path, name):
    path = packed(tmp_path / "a.npz", {"abcdefgh.npy": header() + bytes(24)})
    data = path.read_bytes()
    encoded = (name + ".npy").encode()
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("abcdefgh.npy")
        # Zipfile itself cuts names off at a NUL.
        info.filename = name + ".npy"
        archive.writestr(info, header() + bytes(24))
    assert encoded in path.read_bytes() != data
    with pytest.raises(ValueError, match="no name of an array") as caught:
        read_all(path)
    assert "\x1b" not in str(caught.value)


def test_members_that_are_no_arrays(tmp_path):
    inside = io.BytesIO()
    np.savez(inside, a=np.ones(2))
    path = packed(tmp_path / "a.npz", {"a.npz": inside.getvalue()})
    with pytest.raises(ValueError, match=r"'a\.npz' is not an array"):
        read_all(path)
    path = packed(tmp_path / "a.npz", {"a.npy": inside.getvalue()})
    with pytest.raises(ValueError, match="it is not an npy array"):
        read_all(path)


def test_a_name_twice(tmp_path):
    path = tmp_path / "a.npz"
    packed(path, {"a.npy": header() + bytes(24), "b.npy": header() + bytes(24)})
    path.write_bytes(path.read_bytes().replace(b"b.npy", b"a.npy"))
    with pytest.raises(ValueError, match="'a' occurs twice"):
        read_all(path)


@pytest.mark.parametrize("way", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_packed_in_an_unusual_way(tmp_path, way):
    path = packed(tmp_path / "a.npz", {"a.npy": header() + bytes(24)}, way)
    with pytest.raises(ValueError, match="packed in an unusual way"):
        read_all(path)


def patched(path, *changes):
    """Write other numbers at places counted from the local (L) or listed (C) header, or the end."""
    data = bytearray(path.read_bytes())
    starts = {
        "L": data.index(b"PK\x03\x04"),
        "C": data.rindex(b"PK\x01\x02"),
        "E": data.rindex(b"PK\x05\x06"),
    }
    for where, at, form, number in changes:
        struct.pack_into(form, data, starts[where] + at, number)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ([("L", 6, "<H", 1), ("C", 8, "<H", 1)], "is encrypted"),
        ([("L", 18, "<L", 77)], "header unlike its place"),
        ([("L", 22, "<L", 2**31)], "header unlike its place"),
        ([("L", 14, "<L", 1)], "header unlike its place"),
        ([("L", 8, "<H", 0)], "header unlike its place"),
        ([("L", 30, "<H", 0x6262)], "differ"),
        ([("C", 24, "<L", 2**31)], "cannot have 2147483648 bytes in"),
        ([("C", 24, "<L", 2**32 - 1)], "cannot have 4294967295 bytes in"),
        ([("C", 42, "<L", 2**31)], "requires a buffer of 30 bytes"),
        ([("C", 42, "<L", 1)], "header unlike its place"),
        ([("L", 14, "<L", 1), ("C", 16, "<L", 1)], "CRC"),
        ([("E", 12, "<L", 2**30)], "list of members has 1073741824 bytes"),
        ([("E", 16, "<L", 0)], "list of members has 51 bytes from 0 on"),
    ],
)
def test_archives_that_say_one_thing_here_and_another_there(tmp_path, changes, message):
    path = patched(packed(tmp_path / "a.npz", {"a.npy": header() + bytes(24)}), *changes)
    error, memory = peak(lambda: read_all(path))
    with pytest.raises(ValueError, match=message):
        raise error
    assert memory < 2**21


def test_members_that_lie_upon_each_other(tmp_path):
    path = packed(
        tmp_path / "a.npz", {"a.npy": header() + bytes(24), "b.npy": header() + bytes(24)}
    )
    data = bytearray(path.read_bytes())
    # Both places in the list lead to the first member, under its name.
    second = data.rindex(b"PK\x01\x02")
    struct.pack_into("<L", data, second + 42, 0)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"lies upon another member|differ"):
        read_all(path)


def test_a_zip64_end_that_says_something_else(tmp_path):
    path = packed(tmp_path / "a.npz", {"a.npy": header() + bytes(24)})
    data = path.read_bytes()
    at, end = data.rindex(b"PK\x01\x02"), data.rindex(b"PK\x05\x06")
    length, where = struct.unpack_from("<LL", data, end + 12)

    def zip64(n_bytes, start, record):
        wide = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, n_bytes, start)
        locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, record, 1)
        return data[:end] + wide + locator + data[end:]

    assert at == where
    path.write_bytes(zip64(length, where, end))
    assert list(read_all(path)) == ["a"]
    for lie in (zip64(2**60, where, end), zip64(length, 2**60, end), zip64(length, where, 0)):
        path.write_bytes(lie)
        error, memory = peak(lambda: read_all(path))
        with pytest.raises(ValueError, match=r"list of members has|its zip64 end"):
            raise error
        assert memory < 2**21


def test_a_long_list_of_members(tmp_path):
    path = tmp_path / "a.npz"
    packed(path, {f"{i:090}.npy": b"" for i in range(30_000)}, zipfile.ZIP_STORED)
    error, memory = peak(lambda: read_all(path))
    assert "list of members has" in str(error)
    assert memory < 2**21


def test_strange_arrays_do_not_reach_a_store(tmp_path):
    path = tmp_path / "a.npz"
    for members, message in (
        (
            {
                "X": header("<f8", "(10000000000, 2)"),
                "clip": header("<U1", "(2,)") + b"a\0\0\0" * 2,
            },
            "X",
        ),
        (
            {"X": header("<f8", "(1, 2)") + bytes(16), "clip": header("<U0", "(9000000000,)")},
            "clip",
        ),
        (
            {"X": header("<f8", "(1, 2)") + bytes(16), "clip": header("|V4", "(1,)") + bytes(4)},
            "clip",
        ),
    ):
        packed(path, {f"{name}.npy": data for name, data in members.items()})
        with pytest.raises(DataError, match=f"'{message}' is damaged"):
            import_file(tmp_path / "s.h5", path)
        with pytest.raises(DataError, match=f"'{message}' is damaged"):
            open_vectors(path)
    assert not (tmp_path / "s.h5").exists()


def test_names_that_savez_cannot_write_are_kept(tmp_path):
    with (tmp_path / "a.npz").open("wb") as stream:
        write_npz(stream, {"X": np.eye(3), "file": np.arange(3), "allow_pickle": np.arange(2)})
    open_vectors(tmp_path / "a.npz").write(tmp_path / "b.npz", lambda X, owner: 2 * X)
    assert list(read_all(tmp_path / "b.npz")) == ["file", "allow_pickle", "X"]


def test_a_walk_over_pickled_texts_ends(tmp_path):
    # Two bytes an item, of which none is new: a billion strings are a matter of time only.
    start = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nX\x01\x00\x00\x00aq\x00(]"
    with pytest.raises(DataError, match="more than 1009 opcodes for 2 strings"):
        object_text(start + b"h\x00" * 2**20 + b"et.", "k", 2)
    with pytest.raises(DataError, match="surrogates not allowed"):
        object_text(
            start.replace(b"\x01\x00\x00\x00a", b"\x03\x00\x00\x00\xed\xa0\x80") + b"et.", "k", 2
        )


# Tables.


def wide(path, n, *, rows="a,1\n"):
    path.write_text(",".join(["clip", *(f"f{i}" for i in range(n - 1))]) + "\n" + rows)
    return path


def refused_everywhere(path, message):
    for call in (
        lambda: import_file(path.parent / "s.h5", path),
        lambda: open_vectors(path),
        lambda: read_columns_file(path),
        lambda: load_manifest(path, dataset="x"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_csv_files_that_would_become_large(tmp_path):
    path = wide(tmp_path / "a.csv", MOST_COLUMNS + 1)
    refused_everywhere(path, "has 10001 columns; at most 10000")
    wide(path, 100_000)
    refused_everywhere(path, "has 100000 columns")
    # 130 kB that stand for 640 million cells.
    wide(path, 9_999, rows="a\n" * 65_000)
    refused_everywhere(path, "has 65002 lines and 9999 columns, which its .* bytes cannot fill")
    wide(path, 3, rows="a" + ",1" * 10**5 + "\n")
    refused_everywhere(path, "more fields than the header")
    assert len(check_csv(wide(path, MOST_COLUMNS))) == MOST_COLUMNS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"clip,f0\na\0,1\n", "NUL bytes"),
        ("clip,f0\na,1\n".encode("utf-16"), "NUL bytes"),
        (b"clip,f0,f0\na,1,2\n", "has the column 'f0' twice"),
        (b"clip," + b"x" * 200_000 + b"\na,1\n", "field larger than field limit"),
        (b'clip,f0\n"' + b"a,1\n" * 50_000, "field larger than field limit"),
        (b"clip,f0\n\xff,1\n", "can.t decode|more than"),
        (b"", "is empty|No columns|is not a csv"),
    ],
)
def test_csv_files_that_are_no_tables(tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content)
    if content:
        refused_everywhere(tmp_path / "a.csv", message)
    else:
        with pytest.raises(DataError, match=message):
            load_manifest(tmp_path / "a.csv")


def test_a_long_text_does_not_make_all_others_as_long(tmp_path):
    path = tmp_path / "a.csv"
    names = "".join(f"c{i},{i / 3}\n" for i in range(30_000))
    path.write_text("clip,f0\n" + "x" * 10_000 + ",0.5\n" + names)
    with pytest.raises(DataError, match="a text of 10000 characters in 'clip'"):
        import_file(tmp_path / "s.h5", path)
    with pytest.raises(DataError, match="a text of 10000 characters in 'clip'"):
        open_vectors(path)
    check_texts(path, {"clip": np.array(["x" * 50, "y"], dtype=object), "n": np.arange(2)})
    path.write_text("clip_id,dataset\n" + "x" * 1025 + ",a\n")
    with pytest.raises(DataError, match="clip_id has a text of 1025 characters; at most 1024"):
        load_manifest(path)


def test_a_csv_is_changed_in_the_last_digit_only_where_it_is_changed(tmp_path, rng):
    X = rng.normal(size=(50, 3)) * 10.0 ** rng.integers(-300, 300, size=(50, 3))
    frame = pd.DataFrame(X, columns=["f0", "f1", "f2"])
    frame.insert(0, "clip", [f"c{i}" for i in range(50)])
    frame.to_csv(tmp_path / "a.csv", index=False)
    np.testing.assert_array_equal(open_vectors(tmp_path / "a.csv").vectors["X"], X)


def test_numbers_in_names_that_are_too_long(tmp_path):
    name = "f" + "9" * 5000
    (tmp_path / "a.csv").write_text(f"clip,{name},f\u00b2\na,1.5,2\nb,2.5,3\n")
    assert open_vectors(tmp_path / "a.csv").features == [name, "f\u00b2"]
    import_file(tmp_path / "s.h5", tmp_path / "a.csv")


def test_parquet_files_that_would_become_large(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    # One value is written once, whatever the number of rows.
    pd.DataFrame({"clip": np.zeros(20_000_000, "i1"), "f0": np.int8(1)}).to_parquet(path)
    assert path.stat().st_size < 2**20
    refused_everywhere(path, "says 20000000 rows and 2 columns, which take 320000000 bytes")
    pd.DataFrame({"clip": ["a"], "f0": [[1.0, 2.0]]}).to_parquet(path)
    refused_everywhere(path, "has lists in 'f0")
    path.write_bytes(path.read_bytes()[:-20])
    refused_everywhere(path, "cannot be read|that can be read")
    pd.DataFrame({"clip": ["a"], "f0": [1.0]}).to_parquet(path)
    assert len(read_parquet(path)) == 1
    assert open_vectors(path).features == ["f0"]


def test_parquet_texts_that_are_not_utf_8(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    frame = pd.DataFrame({"clip": ["abcdefgh", "x"], "f0": [1.0, 2.0]})
    frame.to_parquet(path, compression=None)
    path.write_bytes(path.read_bytes().replace(b"abcdefgh", b"abc\xff\xfefgh"))
    refused_everywhere(path, "cannot be read|that can be read")


# Saved corrections.


@pytest.fixture
def saved(tmp_path, rng):
    """Give a function that writes a correction again with other pieces and the right checksum."""
    X, domain = rng.normal(size=(40, 6)), np.array(["a", "b"] * 20)

    def write(change=None, *, text=None, estimator=None, **arrays):
        path = save((estimator or LEACE()).fit(X, domain=domain), tmp_path / "c.npz")
        with np.load(path) as archive:
            held = {name: archive[name] for name in archive.files} | arrays
        header = json.loads(str(held.pop("header")))
        (change or (lambda header: None))(header)
        header["sha256"] = digest(header, held)
        np.savez(path, header=np.array(json.dumps(header) if text is None else text), **held)
        return path

    return write


@pytest.mark.parametrize(
    "change",
    [
        {"parameters": {"alpha": "x"}},
        {"parameters": {"alpha": {"float": "nan"}}},
        {"parameters": {"alpha": {"float": 1e400}}},
        {"parameters": 3},
        {"attributes": {}},
        {"attributes": {"n_features_in_": 6}},
        {"n_features": 10**12},
        {"n_features": True},
        {"feature_names": "abcdef"},
        {"feature_names": [1] * 6},
        {"saved": None},
        {"biasaudio": {"a": []}},
        {"class": {}},
        {"is_affine": "yes"},
    ],
)
def test_headers_with_fields_of_another_type(saved, change):
    path = saved(lambda header: header.update(change))
    with pytest.raises(DataError, match="does not hold what a correction needs"):
        load(path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("affine_", 3),
        ("affine_", {"list": []}),
        ("affine_", {"affine": {"center": "alpha"}}),
        ("n_features_in_", 7),
        ("n_features_in_", "6"),
        ("n_features_in_", 10**12),
        ("domains_", 3),
        ("gate_", "open"),
        ("classes_", {"estimator": {"class": "LEACE", "parameters": {}, "attributes": []}}),
        ("deep_", {"dict": [[{}, 1]]}),
        (
            "many_",
            {"list": [{"estimator": {"class": "LEACE", "parameters": {}, "attributes": {}}}] * 101},
        ),
    ],
)
def test_attributes_of_another_type(saved, name, value):
    path = saved(lambda header: header["attributes"].update({name: value}))
    with pytest.raises(DataError, match="does not hold what a correction needs") as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_maps_of_domains_of_another_type(saved):
    for maps in (3, {"dict": [["a", 1]]}, {"list": []}, {"dict": []}):
        change = {"affines_": maps}
        path = saved(
            lambda header, c=change: header["attributes"].update(c), estimator=DomainCentering()
        )
        with pytest.raises(DataError, match="does not hold what a correction needs"):
            load(path)


@pytest.mark.parametrize(
    "text", ["[" * 10**5, '{"a":' * 10**5, "9" * 10**5, "[]", "null", '"format"', "{", "\x1b[2J"]
)
def test_headers_that_are_no_header(saved, text):
    path = saved(text=text)
    with pytest.raises(DataError, match="is an npz file, but not a correction"):
        read_header(path)


def test_a_header_too_long_or_no_text(saved):
    for header in (" " * (2**22 + 1), 3, ["{}"]):
        path = saved(text=header)
        with pytest.raises(DataError, match="is an npz file, but not a correction"):
            load(path)


def test_one_array_named_many_times_is_made_once(saved, rng):
    # A file of 1 MB that would take 10 GB if each name made an array of its own.
    many = {"list": [{"texts": "long"}] * 20_000}
    change = lambda header: header["attributes"].update(many_=many)  # noqa: E731
    path = saved(change, long=np.array([f"{i:04}" for i in range(10_000)]))
    tracemalloc.start()
    correction = load(path)
    assert tracemalloc.get_traced_memory()[1] < 2**27
    tracemalloc.stop()
    assert len(correction.many_) == 20_000
    assert correction.transform(rng.normal(size=(2, 6))).shape == (2, 6)


def test_a_deflated_correction_is_refused_before_it_is_unpacked(saved):
    path = saved()
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez_compressed(path, **arrays, zeros=np.zeros(2**23))
    error, memory = peak(lambda: load(path))
    assert "is compressed" in str(error)
    assert memory < 2**22
