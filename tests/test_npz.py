"""npz files that lie: refused before anything is allocated, and never unpickled."""

import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from biasaudio._files import DECODED_LEAST, open_npy, open_npz, write_npz
from biasaudio.errors import DataError
from biasaudio.store import import_file, read_vectors

ARRAYS = {
    "a": np.arange(6.0).reshape(2, 3),
    "text": np.array(["x", "yé", ""]),
    "fortran": np.asfortranarray(np.eye(3, 2)),
    "scalar": np.array(3),
    "empty": np.zeros((0, 4)),
    "bytes": np.array([b"a", b"bb"]),
    "flag": np.array([True, False]),
    # Names that numpy.savez takes for its own parameters.
    "file": np.ones(2, ">i2"),
    "allow_pickle": np.ones(1, "f2"),
}


def header(descr="<f8", shape="(3,)"):
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def packed(path, members, way=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", way) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def read_all(path):
    with open_npz(path) as archive:
        return {name: archive.read(name) for name in archive.names}


@pytest.mark.parametrize("compressed", [False, True])
def test_arrays_come_back_as_they_were(tmp_path, compressed):
    with (tmp_path / "a.npz").open("wb") as stream:
        write_npz(stream, ARRAYS, compressed=compressed)
    found = read_all(tmp_path / "a.npz")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


@pytest.mark.parametrize(
    "data",
    [
        header("<f8", "(10000000000000,)"),
        header("<f8", "(-1,)"),
        header("<U0", "(1000000000,)"),
        header("<f8", "(0, 1000000000)"),
        header("|O", "(1,)") + bytes(8),
        header("<U1", "(1,)") + b"\xff\xff\xff\xff",
        header("<f8", "(3,)") + bytes(23),
        header("<f8", "(3,)") + bytes(25),
        b"\x93NUMPY\x09\x00" + bytes(99),
        b"",
    ],
)
def test_arrays_that_are_not_what_they_say(tmp_path, data):
    path = packed(tmp_path / "a.npz", {"a.npy": data})
    (tmp_path / "a.npy").write_bytes(data)
    for call in (lambda: read_all(path), lambda: open_npy(tmp_path / "a.npy")):
        tracemalloc.start()
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            call()
        memory = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert "\n" not in str(caught.value)
        assert memory < 2**22


def test_bombs_and_unusual_archives_are_refused(tmp_path):
    n = DECODED_LEAST // 8 + 1
    path = packed(tmp_path / "a.npz", {"a.npy": header("<f8", f"({n},)") + bytes(8 * n)})
    with pytest.raises(ValueError, match=f"would take {8 * n} bytes"):
        read_all(path)
    good = header() + bytes(24)
    for members, way in (
        ({"a.npy": good}, zipfile.ZIP_LZMA),
        ({"a.npz": good}, zipfile.ZIP_STORED),
        ({"../a.npy": good}, zipfile.ZIP_STORED),
    ):
        with pytest.raises(ValueError, match=r"unusual way|is not an array"):
            read_all(packed(path, members, way))


def test_strange_arrays_do_not_reach_a_store(tmp_path):
    members = {"X.npy": header("<f8", "(10000000000, 2)"), "clip.npy": header("<U0", "(9,)")}
    path = packed(tmp_path / "a.npz", members)
    for call in (lambda: import_file(tmp_path / "s.h5", path), lambda: read_vectors(path)):
        with pytest.raises(DataError, match=r"'(X|clip)' is damaged"):
            call()
    assert not (tmp_path / "s.h5").exists()
