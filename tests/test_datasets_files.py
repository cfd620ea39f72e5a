"""Files of others are read without running what is in them."""

import pickle
import pickletools
import time
from pathlib import Path

import numpy as np
import pytest

from biasaudio.datasets._files import object_text, read_csv, read_npz
from biasaudio.errors import DataError

KEYS = [f"{i:06d}_{i}" for i in range(2500)]


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def objects(values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_keys_are_read_from_every_protocol(protocol):
    # A repeated string is written once and fetched from the memo after that.
    keys = [*KEYS, KEYS[0], "é", ""]
    stream = pickle.dumps(objects(keys), protocol=protocol)
    if protocol == 5:
        # Arrays are pickled as buffers from protocol 5 on, but not objects.
        assert b"_reconstruct" in stream
    assert object_text(stream, "k", len(keys)).tolist() == keys


def test_keys_written_by_python_2():
    stream = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85q\x03"
        b"U\x01bq\x04\x87q\x05Rq\x06(K\x01K\x02\x85q\x07cnumpy\ndtype\nq\x08U\x02O8K\x00K\x01\x87"
        b"Rq\x09(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb\x89]q\x0a(U\x0200U\x0201etb."
    )
    assert pickle.loads(stream, encoding="latin1").tolist() == ["00", "01"]
    assert object_text(stream, "k", 2).tolist() == ["00", "01"]


def test_twenty_thousand_keys_take_no_time():
    keys = [f"{i:06d}_{i}" for i in range(20_000)]
    stream = pickle.dumps(objects(keys), protocol=4)
    start = time.perf_counter()
    assert object_text(stream, "k", 20_000)[-1] == keys[-1]
    assert time.perf_counter() - start < 2


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path):
    marker = tmp_path / "was_run"
    np.savez(tmp_path / "bad.npz", k=objects([Evil(marker)]))
    with pytest.raises(DataError, match=r"'k' holds something other than plain text .* for safety"):
        read_npz(tmp_path / "bad.npz", ["k"])
    assert not marker.exists()
    np.load(tmp_path / "bad.npz", allow_pickle=True)["k"]
    assert marker.exists()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (objects(["a", 1]), "opcode BININT1 among the strings"),
        (objects(["a", None]), "opcode NONE among the strings"),
        (objects(["a", ["b"]]), "opcode EMPTY_LIST among the strings"),
        (objects(["a", ("b", "c", "d", "e")]), "behind the array"),
        (objects(["a", np.str_("b")]), "opcode .* among the strings"),
        (objects(["a", print]), "opcode STACK_GLOBAL among the strings"),
        (["a", "b"], "opcode STOP among the strings"),
        ("a", "no array of strings"),
        (print, "a call of '.* print'"),
        ({"a": "b"}, "opcode EMPTY_DICT"),
    ],
)
def test_other_pickles_are_refused(value, message):
    with pytest.raises(DataError, match=message):
        object_text(pickle.dumps(value, protocol=4), "k", 2)


def test_damaged_streams_are_refused():
    stream = pickle.dumps(objects(["a", "b"]), protocol=4)
    with pytest.raises(DataError, match="promises 3 strings and has 2"):
        object_text(stream, "k", 3)
    for end in range(len(stream)):
        with pytest.raises(DataError, match="'k' "):
            object_text(stream[:end], "k", 2)
    late = stream[:-1] + b"cos\nsystem\n."
    assert any(op.name == "GLOBAL" for op, _, _ in pickletools.genops(late))
    with pytest.raises(DataError, match="a call of 'os system'"):
        object_text(late, "k", 2)


def test_npz_arrays_of_all_kinds(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, k=objects(["x", "y"]), u=np.array(["x", "y"]), f=np.eye(2))
    arrays = read_npz(path, ["k", "u", "f"])
    assert arrays["k"].tolist() == arrays["u"].tolist() == ["x", "y"]
    np.testing.assert_array_equal(arrays["f"], np.eye(2))
    with pytest.raises(DataError, match=r"a\.npz has no array 'z'; it has 'k', 'u', 'f'"):
        read_npz(path, ["z"])
    np.savez(path, k=objects([objects(["x"]), "y"]).reshape(1, 2))
    with pytest.raises(DataError, match=r"array 'k' has shape \(1, 2\); a 1-d array of text"):
        read_npz(path, ["k"])


def test_files_that_are_no_npz_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, f=np.eye(200))
    whole = path.read_bytes()
    for content in (b"", b"text", whole[:2000]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="is not an npz file that can be read"):
            read_npz(path, ["f"])
    np.save(tmp_path / "b.npy", np.eye(2))
    with pytest.raises(DataError, match=r"is not an npz file that can be read .*not a zip file"):
        read_npz(tmp_path / "b.npy", ["f"])


def test_csv_cells_stay_text(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("\ufeffk,v\n007,\nNA,1.0\n", encoding="utf-8")
    assert read_csv(path).to_numpy().tolist() == [["007", ""], ["NA", "1.0"]]
    assert list(read_csv(path, ["v"]).columns) == ["v"]
    with pytest.raises(DataError, match=r"a\.csv has no column 'w'; it has 'k', 'v'"):
        read_csv(path, ["w"])


@pytest.mark.parametrize("content", [b"", b"k,v\n1,2\n1,2,3\n", b"k,v\n1,2,3\n", b"k\n\xff\xfe\n"])
def test_files_that_are_no_csv_are_refused(tmp_path, content):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is not a csv file that can be read") as caught:
        read_csv(path)
    assert "\n" not in str(caught.value)
