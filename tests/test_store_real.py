"""Stores of real embeddings: three instrument collections, with frames and without."""

import numpy as np
import pytest

from biasaudio.store import EmbeddingStore, import_file

NAMES = ("fluidr3", "fsdkaggle18", "philharmonia")


@pytest.mark.parametrize("name", ["store.h5", "store"])
def test_three_collections_in_one_store(shared, tmp_path, name):
    for each in NAMES:
        import_file(tmp_path / name, shared / f"data/yamnet_{each}.npz", embedding="yamnet")
    store = EmbeddingStore(tmp_path / name)
    assert store.datasets() == list(NAMES)
    assert store.shape("fsdkaggle18", "yamnet") == (2478, 1024)
    table = store.table("yamnet")
    for each in NAMES:
        source = np.load(shared / f"data/yamnet_{each}.npz")
        part = table.select(table.clips.dataset == each)
        assert list(part.clips.clip_id) == source["clip"].tolist()
        assert list(part.clips.group) == source["group"].tolist()
        labels = np.array(part.clips.label_names)[part.clips.labels.to_numpy().argmax(axis=1)]
        np.testing.assert_array_equal(labels, source["label"])
        # The clip means were taken of frames in float32 by somebody else.
        np.testing.assert_allclose(part.X, source["X"], atol=2e-6)


def test_spread_over_frames_is_the_direct_one(shared, tmp_path):
    path = import_file(tmp_path / "x.h5", shared / "data/yamnet_fsdkaggle18.npz")
    source = np.load(shared / "data/yamnet_fsdkaggle18.npz")
    frames, owner = source["frames"].astype(np.float64), source["frame_clip"]
    got = EmbeddingStore(path).table("embedding", pool="std").X
    for i in (0, 7, 299):
        np.testing.assert_allclose(got[i], frames[owner == i].std(axis=0), rtol=1e-5, atol=1e-7)
