"""A small folder laid out like the published data, with planted vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

CODES = ("cel", "cla", "flu", "gac", "org", "pia", "sax", "tru", "vio", "voi")
INSTRUMENTS = (
    *("cello", "clarinet", "flute", "guitar", "organ"),
    *("piano", "saxophone", "trumpet", "violin", "voice"),
)
GENRES = ("pop_roc", "jaz_blu", "cla", "cou_fol")
TITLES = ("Rock", "Jazz", "Classical", "Folk")
EMBEDDING = "openl3"
BLOCK = 500


def plant(folder: Path, *, n_clips: int, n_frames: int, d: int) -> Path:
    """Write the folder and return it.

    Parameters
    ----------
    folder : Path
    n_clips : int
        Of each dataset.
    n_frames : int
        Of each clip.
    d : int
    """
    folder.mkdir()
    rng = np.random.default_rng(0)
    means = rng.normal(size=(len(INSTRUMENTS), d))
    with h5py.File(folder / "embeddings.h5", "w") as file:
        for name, write in (("irmas", _irmas), ("openmic", _openmic)):
            (folder / name).mkdir()
            keys, present = write(folder / name, rng, n_clips)
            clips = present @ means + (name == "openmic") * means[0] + rng.normal(size=(n_clips, d))
            group = file.create_group(f"{name}/{EMBEDDING}")
            group["keys"] = np.repeat(keys.astype("S"), n_frames)
            features = group.create_dataset("features", (n_clips * n_frames, d), "f4")
            for start in range(0, n_clips, BLOCK):
                block = np.repeat(clips[start : start + BLOCK], n_frames, axis=0)
                block += 0.3 * rng.standard_normal(block.shape)
                features[start * n_frames : start * n_frames + len(block)] = block
    return folder


def _irmas(folder: Path, rng: np.random.Generator, n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Write the split; return keys and which instruments are present. A song has two clips."""
    song = np.arange(n) // 2
    code, genre = rng.integers(len(CODES), size=n)[song], rng.integers(len(GENRES), size=n)[song]
    parts = zip(range(n), np.array(CODES)[code], np.array(GENRES)[genre], song)
    keys = np.array([f"{i:05d}__[{c}][{g}]{s:05d}__{i % 2}" for i, c, g, s in parts])
    is_test = song % 4 == 0
    for part, rows in (("train", ~is_test), ("test", is_test)):
        (folder / f"split_{part}.csv").write_text("".join(f"{key}\n" for key in keys[rows]))
    return keys, np.eye(len(CODES))[code]


def _openmic(folder: Path, rng: np.random.Generator, n: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Write labels, genres and partitions; return keys and which instruments are present."""
    keys = np.array([f"{i:06d}_{i % 7}" for i in range(n)])
    present, known = rng.random((2, n, len(INSTRUMENTS))) < [[[0.3]], [[0.5]]]
    row, column = np.nonzero(known)
    relevance = np.where(present, 0.9, 0.1)[row, column]
    labels = {"sample_key": keys[row], "instrument": np.array(INSTRUMENTS)[column]}
    pd.DataFrame(labels | {"relevance": relevance}).to_csv(
        folder / "openmic-2018-aggregated-labels.csv", index=False
    )
    titles = [str([{"genre_title": TITLES[g]}]) for g in rng.integers(len(TITLES), size=n)]
    pd.DataFrame({"sample_key": keys, "track_genres": titles}).to_csv(
        folder / "openmic-2018-metadata.csv", index=False
    )
    (folder / "partitions").mkdir()
    is_test = np.arange(n) % 4 == 0
    for part, rows in (("train", ~is_test), ("test", is_test)):
        path = folder / "partitions" / f"split01_{part}.csv"
        path.write_text("".join(f"{key}\n" for key in keys[rows]))
    return keys, present.astype(float)
