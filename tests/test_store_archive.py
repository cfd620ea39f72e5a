"""Stores of every version of the format are read for ever."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

from biasaudio.store import EmbeddingStore, import_arrays, verify

DATA = Path(__file__).parent / "data"
_spec = importlib.util.spec_from_file_location("make_stores", DATA / "make_stores.py")
made = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(made)
STORES = sorted(DATA.glob("store_v*/*"))


@pytest.mark.parametrize("path", STORES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_an_old_store_is_read_and_added_to(path, tmp_path):
    copy = tmp_path / path.name
    shutil.copytree(path, copy) if path.is_dir() else shutil.copy(path, copy)
    import_arrays(copy, np.eye(2), ["x", "y"], dataset="three", embedding="framed")
    for place, datasets in ((path, ["one", "two"]), (copy, ["one", "three", "two"])):
        store = EmbeddingStore(place, cache=False)
        assert store.datasets() == datasets
        for k, dataset in enumerate(["one", "two"]):
            assert store.embeddings(dataset) == ["framed", "pooled"]
            table = store.table("framed", datasets=[dataset])
            X = made.vectors(k)
            means = [X[made.OWNER == i].mean(axis=0) for i in range(made.N_CLIPS)]
            np.testing.assert_allclose(table.X, means, rtol=1e-6)
            clips = store.clips(dataset)
            assert clips.clip_id.tolist() == made.CLIPS
            assert clips.genre.tolist() == ["rock", "jazz", "", "rock", "jazz"]
        assert verify(place).faults == []
