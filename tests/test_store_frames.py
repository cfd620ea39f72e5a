"""Frames are read as they lie in the file where they can be, and the same either way."""

import os

import h5py
import numpy as np
import pytest

from biasaudio.errors import StoreError
from biasaudio.store import EmbeddingStore
from biasaudio.store.chunks import Rows
from biasaudio.store.frames import open_frames

N, D = 200, 6


@pytest.fixture
def X(rng):
    """Give some frames."""
    return rng.normal(size=(N, D)).astype("f4")


@pytest.fixture
def decoded(monkeypatch):
    """Count the blocks that are decoded."""
    found = []
    read = Rows.read
    monkeypatch.setattr(Rows, "read", lambda self, *args: found.append(args) or read(self, *args))
    return found


def write(path, X, *, userblock=0, **options):
    keys = np.repeat(np.arange(N // 4), 4).astype("S")
    with h5py.File(path, "w", userblock_size=userblock) as handle:
        # Vectors then lie at an odd place, as in the published file.
        handle["odd"] = np.zeros(13, "u1")
        handle.create_dataset("demo/e/features", data=X, **options)
        handle["demo/e/keys"] = keys
    return path


PLAIN = {
    "in one piece": {},
    "chunks": {"chunks": (16, D)},
    "a last chunk that is cut": {"chunks": (64, D)},
    "one chunk": {"chunks": (N, D)},
}
OTHER = {
    "narrow chunks": {"chunks": (16, 2)},
    "float64": {"dtype": "f8"},
    "the other byte order": {"dtype": ">f4"},
    "half": {"dtype": "f2"},
    "compressed": {"chunks": (16, D), "compression": "gzip"},
    "checksums": {"chunks": (16, D), "fletcher32": True},
    "a block of the user's": {"userblock": 512},
}


@pytest.mark.parametrize("layout", [*PLAIN, *OTHER])
def test_every_layout_gives_the_same_frames(tmp_path, X, decoded, layout):
    X = X.astype("f2").astype("f4")
    path = write(tmp_path / "s.h5", X, **(PLAIN | OTHER)[layout])
    buffer = np.empty((N, D), dtype="f4")
    with open_frames(path, "demo", "e") as frames:
        for start, stop in ((0, N), (0, 1), (15, 17), (16, 32), (3, 150), (N - 1, N), (70, 200)):
            got = frames.read(start, stop, buffer)
            np.testing.assert_array_equal(got, X[start:stop])
        assert bool(decoded) == (layout in OTHER)
    np.testing.assert_allclose(EmbeddingStore(path).table("e").X, X.reshape(-1, 4, D).mean(1), 1e-5)


def test_chunks_that_lie_apart_or_in_another_order(tmp_path, X, decoded):
    with h5py.File(tmp_path / "s.h5", "w") as handle:
        features = handle.create_dataset("demo/e/features", X.shape, "f4", chunks=(16, D))
        for i, start in enumerate([96, 0, 16, 192, 112, *range(32, 96, 16), *range(128, 192, 16)]):
            features[start : start + 16] = X[start : start + 16]
            handle.flush()
            handle[f"between {i}"] = np.zeros(i, "u1")
        handle["demo/e/keys"] = np.full(N, b"a")
    with open_frames(tmp_path / "s.h5", "demo", "e") as frames:
        got = np.concatenate([block.copy() for _, block in frames.blocks(37)])
    np.testing.assert_array_equal(got, X)
    assert not decoded


def test_a_chunk_that_was_never_written_is_refused(tmp_path, X):
    with h5py.File(tmp_path / "s.h5", "w") as handle:
        features = handle.create_dataset("demo/e/features", X.shape, "f4", chunks=(50, D))
        features[:50] = X[:50]
        handle["demo/e/keys"] = np.full(N, b"a")
    with (
        open_frames(tmp_path / "s.h5", "demo", "e") as frames,
        pytest.raises(StoreError, match=r"\(1 blocks are there in place of 4\)"),
    ):
        frames.read(0, N, np.empty((N, D), dtype="f4"))


def test_a_file_that_is_cut_off_while_it_is_read(tmp_path, rng):
    X = rng.normal(size=(N, 1000)).astype("f4")
    path = write(tmp_path / "s.h5", X)
    with open_frames(path, "demo", "e") as frames:
        os.truncate(path, 10_000)
        with pytest.raises(StoreError, match=r"/demo/e/features, rows 0 to 200 cannot be read"):
            frames.read(0, N, np.empty(X.shape, dtype="f4"))


def test_blocks_end_where_clips_do_if_that_is_free(tmp_path, X):
    starts = np.array([0, 10, 35, 36, 150])
    with open_frames(write(tmp_path / "a.h5", X), "demo", "e") as frames:
        assert frames.spans(40, starts) == [
            (0, 36),
            (36, 76),
            (76, 116),
            (116, 150),
            (150, 190),
            (190, 200),
        ]
        assert frames.spans(1000, starts) == [(0, 200)]
        assert frames.spans(90) == [(0, 90), (90, 180), (180, 200)]
    path = write(tmp_path / "b.h5", X, chunks=(16, D), fletcher32=True)
    with open_frames(path, "demo", "e") as frames:
        assert frames.spans(90, starts) == [(0, 96), (96, 192), (192, 200)]


def test_short_reads_are_read_on(tmp_path, rng, monkeypatch):
    X = rng.normal(size=(40, 6)).astype("f4")
    path = tmp_path / "s.h5"
    with h5py.File(path, "w") as handle:
        handle["demo/e/features"] = X
        handle["demo/e/keys"] = np.repeat(np.array([b"a", b"b"]), 20)
    preadv, calls = os.preadv, []

    def short(descriptor, buffers, place):
        calls.append(place)
        return preadv(descriptor, [buffers[0][:100]], place)

    monkeypatch.setattr(os, "preadv", short)
    found = np.concatenate([part for _, part in EmbeddingStore(path).blocks("demo", "e")])
    assert len(calls) > 5
    assert found.tobytes() == X.tobytes()
