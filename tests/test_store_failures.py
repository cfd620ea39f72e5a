"""Bad input and failed writes: named, and nothing half-written is left."""

import os

import h5py
import numpy as np
import pytest

from biasaudio.errors import DataError, ParameterError, StoreError
from biasaudio.store import EmbeddingStore, import_arrays
from biasaudio.store import output as output_module


@pytest.fixture(params=["store.h5", "store"])
def path(request, tmp_path):
    """Give the path of a store that is not there yet: a file, and a folder."""
    return tmp_path / "new" / request.param


def listing(folder):
    """Return what is in a folder and the bytes of each file."""
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def columns(n, **more):
    ids = [f"clip {i} é" for i in range(n)]
    return {"clip": ids, "dataset": "demo", "group": [f"song {i // 2}" for i in range(n)], **more}


@pytest.mark.parametrize(
    ("X", "change", "error", "message"),
    [
        (
            np.ones((3, 2)),
            {},
            DataError,
            "X has 3 rows, but there are 4 clip ids; give one row a clip",
        ),
        (np.ones(4), {}, DataError, r"X has shape \(4,\); give a 2-d array"),
        (np.ones((4, 0)), {}, DataError, r"X is empty: 4 clip.*shape=\(4, 0\)"),
        (np.array([list("ab")] * 4), {}, DataError, "X has dtype <U1; give real numbers"),
        (
            [[1], [np.nan], [2], [np.inf]],
            {},
            DataError,
            r"NaN or Inf in 2 of 4 clips: 'clip 1 é', 'clip 3",
        ),
        (
            [[1], [2], [2], [1e300]],
            {},
            DataError,
            r"NaN or Inf in 1 of 4 clips: 'clip 3 é'; remove",
        ),
        (np.ones((4, 2)), {"clip": list("abcb")}, DataError, "more than once in one dataset: 'b'"),
        (
            np.ones((4, 2)),
            {"clip": ["a", "", "b", "c"]},
            DataError,
            "clip_id is missing for 1 of 4",
        ),
        (
            np.ones((4, 2)),
            {"clip": np.array(["a", "b\0", "c", "d"], object)},
            DataError,
            r"name 'b\\x00' has 2 characters; .* without NUL",
        ),
        (
            np.ones((4, 2)),
            {"genre": ["rock"]},
            DataError,
            r"genre has shape \(1,\), but there are 4",
        ),
        (
            np.ones((4, 2)),
            {"dataset": "a/b"},
            ParameterError,
            "dataset='a/b' cannot name a part of a st",
        ),
        (
            np.ones((4, 2)),
            {"embedding": "__e"},
            ParameterError,
            "embedding='__e' cannot name a part",
        ),
        (
            np.ones((4, 2)),
            {"frame_clip": [0, 1, 2, 3, 3]},
            DataError,
            "X has 4 rows, but there are 5 values of",
        ),
        (
            np.ones((4, 2)),
            {"frame_clip": [0, 1, 2, 4]},
            DataError,
            "frame_clip holds 4, but there are 4",
        ),
        (
            np.ones((4, 2)),
            {"frame_clip": [0, 1, 2, 2]},
            DataError,
            r"1 clip\(s\) have no frame: 'clip 3 é'",
        ),
        (
            np.ones((4, 2)),
            {"frame_clip": [0.0, 1, 2, 3]},
            DataError,
            "frame_clip has shape .* float64",
        ),
        (
            [[1], [2], [np.nan], [3], [np.nan]],
            {"frame_clip": [0, 1, 2, 3, 2]},
            DataError,
            "X has NaN or Inf in 1 of 4 clips: 'clip 2 é'",
        ),
    ],
)
def test_bad_input_is_named_and_leaves_nothing(path, X, change, error, message):
    with pytest.raises(error, match=message):
        import_arrays(path, X, **(columns(4) | change))
    assert list(path.parent.parent.iterdir()) == []


@pytest.mark.parametrize("step", ["_write_clips", "replace"])
def test_failed_write_leaves_nothing_half_written(path, monkeypatch, step):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    def fails(**known):
        owner = {"replace": os}.get(step, output_module)
        with monkeypatch.context() as patch:
            patch.setattr(owner, step, full)
            with pytest.raises(
                StoreError, match=r"cannot be written \(.*No space left.*nothing was"
            ):
                import_arrays(path, np.ones((4, 2)), **known)

    fails(**columns(4))
    assert list(path.parent.parent.iterdir()) == []
    import_arrays(path, np.ones((4, 2)), **columns(4))
    before = listing(path.parent)
    fails(**columns(4, embedding="other"))
    fails(**columns(4, overwrite=True))
    assert listing(path.parent) == before


def test_interrupted_write_leaves_nothing_either(path, monkeypatch):
    import_arrays(path, np.ones((4, 2)), **columns(4))
    before = listing(path.parent)

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(output_module, "_write_clips", interrupted)
    with pytest.raises(KeyboardInterrupt):
        import_arrays(path, np.ones((4, 2)), **columns(4, embedding="other"))
    assert listing(path.parent) == before


def test_left_over_partial_is_replaced(tmp_path):
    path = tmp_path / "x.h5"
    (tmp_path / "x.h5.partial").write_bytes(b"from a crash")
    import_arrays(path, np.ones((4, 2)), **columns(4))
    assert [file.name for file in tmp_path.iterdir()] == ["x.h5"]
    assert len(EmbeddingStore(path).table("embedding")) == 4


def test_files_of_others_are_not_touched(tmp_path):
    path = tmp_path / "x.h5"
    path.write_text("not HDF5")
    with pytest.raises(StoreError, match="is not an HDF5 file"):
        import_arrays(path, np.ones((4, 2)), overwrite=True, **columns(4))
    assert path.read_text() == "not HDF5"
    path.unlink()
    import_arrays(path, np.ones((4, 2)), **columns(4))
    with h5py.File(path, "a") as handle:
        handle["mine"] = np.ones(3)
        handle["demo/notes/text"] = np.ones(3)
    before = path.read_bytes()
    for change in ({"dataset": "mine"}, {"embedding": "notes"}):
        with pytest.raises(
            StoreError, match=r"something else than vectors at /.*choose another name"
        ):
            import_arrays(path, np.ones((4, 2)), **(columns(4) | change))
    assert path.read_bytes() == before
