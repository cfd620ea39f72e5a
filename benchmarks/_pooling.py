"""Loading of pooled vectors, beside reading the bytes and beside a mean for each key."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks._layout import EMBEDDING, plant
from benchmarks._timing import Row, Setting, peak_growth
from biasaudio.store import EmbeddingStore

DATASETS = ("irmas", "openmic")
BLOCK_BYTES = 2**23
SAMPLED = 20


def loading(setting: Setting) -> Iterator[Row]:
    """Yield the time from the file to clip vectors, without and with the cache."""
    tiny = plant(setting.folder / "tiny", n_clips=40, n_frames=3, d=8)
    folder = setting.layout or tiny
    if not (setting.quick or setting.layout):
        folder = plant(setting.folder / "planted", n_clips=4000, n_frames=20, d=512)
    path = folder / "embeddings.h5"
    with h5py.File(path) as file:
        shapes = [file[f"{name}/{EMBEDDING}/features"].shape for name in DATASETS]
    size = f"{EMBEDDING}, " + " and ".join(f"{n:,}" for n, _ in shapes) + f" x {shapes[0][1]}"
    memory = peak_growth(load, path, small=(tiny / "embeddings.h5",))
    calls = {
        "ours": load(path),
        "bytes": partial(read_bytes, path, byte_ranges(path)),
        "h5py": partial(read_h5py, path),
    }
    # Frames are read and summed in threads of the store's own, whatever BLAS has.
    found = setting.medians(calls, time.perf_counter)
    task, ours, note = "frames to clip vectors", found["ours"], "wall clock, one thread"
    baseline = "reading the bytes in blocks"
    yield Row(task, size, ours, baseline, found["bytes"], 1.5, memory=memory, note=note)
    if hasattr(os, "sched_setaffinity"):
        with one_core():
            alone = setting.medians(calls, time.perf_counter)
        note = "wall clock, on one core"
        yield Row(task, size, alone["ours"], baseline, alone["bytes"], note=note)
    yield Row(task, size, ours, "reading the vectors in blocks by h5py", found["h5py"])
    yield _cached(setting, path, size)
    naive = naive_seconds(path, time.perf_counter)
    baseline = f"mean of X[keys == key], {SAMPLED} keys of each set timed"
    yield Row(task, size, ours, baseline, naive, 1 / 100)


def load(path: Path, *, cache: bool = False) -> Callable[[], Any]:
    """Return the call that loads both datasets."""
    store = EmbeddingStore(path, cache=cache)
    return partial(store.table, EMBEDDING, datasets=DATASETS)


def _cached(setting: Setting, path: Path, size: str) -> Row:
    """Return the time with the pooled vectors kept beside the store."""
    calls = {"hit": load(path, cache=True), "pooled": load(path)}
    with keeping_cache(path):
        calls["hit"]()
        found = setting.medians(calls, time.perf_counter)
    return Row("the same from the cache", size, found["hit"], "without it", found["pooled"])


@contextmanager
def one_core() -> Iterator[None]:
    """Let this process and its threads have one core only (Linux)."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    yield
    os.sched_setaffinity(0, cores)


@contextmanager
def keeping_cache(path: Path) -> Iterator[None]:
    """Remove the pooled vectors of a store afterwards, if there were none before."""
    there = set(path.parent.iterdir())
    yield
    if set(path.parent.iterdir()) != there:
        EmbeddingStore(path).clear_cache()


def byte_ranges(path: Path) -> list[tuple[int, int]]:
    """Return where the vectors and keys of both datasets are in the file, and their lengths."""
    found: list[tuple[int, int]] = []
    with h5py.File(path) as file:
        for name in DATASETS:
            for part in ("keys", "features"):
                array = file[f"{name}/{EMBEDDING}/{part}"].id
                if array.get_offset() is not None:
                    found.append((array.get_offset(), array.get_storage_size()))
                else:
                    array.chunk_iter(lambda chunk: found.append((chunk.byte_offset, chunk.size)))
    return sorted(found)


def read_bytes(path: Path, ranges: Sequence[tuple[int, int]]) -> None:
    """Read these bytes once, into one buffer."""
    buffer = memoryview(bytearray(BLOCK_BYTES))
    with open(path, "rb", buffering=0) as raw:
        for start, length in ranges:
            raw.seek(start)
            while length > 0:
                length -= raw.readinto(buffer[: min(length, BLOCK_BYTES)])


def read_h5py(path: Path) -> None:
    """Read the vectors of both datasets once, into one array."""
    with h5py.File(path) as file:
        for name in DATASETS:
            features = file[f"{name}/{EMBEDDING}/features"]
            n, d = features.shape
            rows = BLOCK_BYTES // (4 * d)
            block = np.empty((rows, d), dtype=features.dtype)
            for start in range(0, n, rows):
                stop = min(start + rows, n)
                features.read_direct(block, np.s_[start:stop], np.s_[: stop - start])


def naive_seconds(path: Path, clock: Callable[[], float]) -> float:
    """Return what a mean for each key takes, from a few keys of each dataset."""
    total = 0.0
    rng = np.random.default_rng(0)
    with h5py.File(path) as file:
        for name in DATASETS:
            start = clock()
            group = file[f"{name}/{EMBEDDING}"]
            keys, X = group["keys"][:], group["features"][:]
            names = np.unique(keys)
            total += clock() - start
            chosen = rng.choice(names, size=min(SAMPLED, len(names)), replace=False)
            start = clock()
            for key in chosen:
                X[keys == key].mean(axis=0)
            total += (clock() - start) * len(names) / len(chosen)
    return total
