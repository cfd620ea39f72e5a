"""Stores of every version of the format are read for ever."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

from biasaudio.store import EmbeddingStore, import_arrays
from biasaudio.store.check import check_store
from biasaudio.store.schema import FORMAT_VERSION

DATA = Path(__file__).parent / "data"
_spec = importlib.util.spec_from_file_location("make_stores", DATA / "make_stores.py")
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)
STORES = sorted(DATA.glob("store_v*/*"))


def test_every_version_is_there():
    versions = {int(path.parent.name.removeprefix("store_v")) for path in STORES}
    assert versions == set(range(1, FORMAT_VERSION + 1))


@pytest.mark.parametrize("path", STORES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_old_store_is_read(path):
    store = EmbeddingStore(path, cache=False)
    assert store.datasets() == ["one", "two"]
    for k, dataset in enumerate(store.datasets()):
        assert store.embeddings(dataset) == ["framed", "pooled"]
        table = store.table("framed", datasets=[dataset])
        X = made.vectors(k)
        means = [X[made.OWNER == i].mean(axis=0) for i in range(made.N_CLIPS)]
        np.testing.assert_allclose(table.X, means, rtol=1e-6)
        pooled = store.table("pooled", datasets=[dataset])
        np.testing.assert_array_equal(pooled.X, made.vectors(k + 9)[: made.N_CLIPS])
        clips = store.clips(dataset)
        assert clips.clip_id.tolist() == made.CLIPS
        assert clips.genre.tolist() == ["rock", "jazz", "", "rock", "jazz"]
        assert clips.group.tolist() == ["g1", "g1", "g2", "g2", made.CLIPS[4]]
        assert clips.split.tolist() == ["train"] * 3 + ["test"] * 2
        assert clips.labels["cello"].tolist() == [True, False, False, True, False]
        assert clips.mask["flute"].tolist() == [True, True, False, True, True]
    assert not check_store(path).faults


@pytest.mark.parametrize("path", STORES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_old_store_is_added_to_and_is_then_a_new_one(path, tmp_path):
    copy = tmp_path / path.name
    (shutil.copytree if path.is_dir() else shutil.copyfile)(path, copy)
    before = EmbeddingStore(copy).table("framed").X
    import_arrays(copy, np.eye(2), ["new", "newer"], dataset="three", embedding="framed")
    store = EmbeddingStore(copy)
    assert store.datasets() == ["one", "three", "two"]
    np.testing.assert_array_equal(store.table("framed", datasets=["one", "two"]).X, before)
    assert not check_store(copy).faults
