"""A small folder with the published file layout and planted vectors, for tests.

Keys, file names, columns, dtypes and order quirks are those of the real files;
a few hundred clips, 16 dimensions.  Two cells are empty on purpose: OpenMIC has
no clip of jazz_blue, and IRMAS no cello in country_folk, so that the published
code would fit LDAs on one class.
"""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

D = 16
EMBEDDING = "tiny"
INSTRUMENTS = ("cello", "violin")
IRMAS_CODES = ("cel", "vio", "tru", "gac", "gel", "cla")
GENRE_CODES = ("pop_roc", "jaz_blu", "cla", "cou_fol", "lat_sou")
# The first title with a word of the four genres decides; the last three have none.
TITLES = (
    ["Electronic", "Indie-Rock", "Jazz"],
    ["20th Century Classical"],
    ["Singer-Songwriter", "Folk"],
    ["Blues"],
    ["Audio Collage"],
    None,
)
CLASSES = {"banjo": 0, "cello": 1, "guitar": 2, "trumpet": 3, "violin": 4}


def write_layout(folder: Path, rng: np.random.Generator) -> Path:
    """Write the folder and return it."""
    irmas = _irmas(folder / "irmas", rng)
    openmic = _openmic(folder / "openmic-2018", rng)
    cello, violin = rng.normal(size=(2, D))
    genres, offset, shift = rng.normal(size=(6, D)), rng.normal(size=D), rng.normal(size=D)
    with h5py.File(folder / "embeddings.h5", "w") as file:
        for name, clips in (("irmas", irmas), ("openmic", openmic)):
            far = name == "openmic"
            mean = clips[["cello", "violin"]].to_numpy(float) @ [cello, violin]
            mean += 0.7 * genres[clips["genre"]] + far * (
                offset + clips[["cello"]].to_numpy() * shift
            )
            mean += 2.0 * rng.normal(size=mean.shape)
            frame_clip = np.repeat(np.arange(len(clips)), rng.integers(1, 4, size=len(clips)))
            rng.shuffle(frame_clip)
            X = mean[frame_clip] + 0.3 * rng.normal(size=(len(frame_clip), D))
            group = file.create_group(f"{name}/{EMBEDDING}")
            group["features"] = X.astype(np.float32)
            group["keys"] = clips["key"].to_numpy()[frame_clip].astype("S")
    return folder


def _irmas(folder: Path, rng: np.random.Generator) -> pd.DataFrame:
    """Write the split files; a song has two to four clips on one side."""
    folder.mkdir(parents=True)
    rows = []
    for song in range(150):
        code = IRMAS_CODES[rng.choice(6, p=[0.25, 0.25, 0.2, 0.1, 0.1, 0.1])]
        genre = int(rng.choice(5, p=[0.3, 0.25, 0.25, 0.15, 0.05]))
        if (code, genre) == ("cel", 3):
            genre = 2
        split = "test" if song % 4 == 0 else "train"
        drums = ("", "[dru]", "[nod]")[song % 3]
        for k in range(int(rng.integers(2, 5))):
            key = f"{song % 7:03d}__[{code}]{drums}[{GENRE_CODES[genre]}]{song:04d}__{k + 1}"
            rows.append((key, split, genre, code == "cel", code == "vio"))
    clips = pd.DataFrame(rows, columns=["key", "split", "genre", "cello", "violin"])
    for split in ("train", "test"):
        keys = clips["key"][clips["split"] == split].sample(frac=1, random_state=1)
        keys.to_csv(folder / f"split_{split}.csv", index=False, header=False)
    return clips


def _openmic(folder: Path, rng: np.random.Generator) -> pd.DataFrame:
    """Write npz, metadata, labels, class map and partitions."""
    (folder / "partitions").mkdir(parents=True)
    n = 520
    tracks = np.sort(rng.choice(9999, size=n, replace=False))
    keys = np.array([f"{t:06d}_{int(rng.integers(999))}" for t in tracks], dtype=object)
    which = rng.choice(len(TITLES), size=n, p=[0.4, 0.2, 0.2, 0.1, 0.05, 0.05])
    present = rng.random((n, 5)) < 0.5
    mask = rng.random((n, 5)) < 0.8
    relevance = np.where(
        mask,
        np.where(present, rng.uniform(0.5, 1, present.shape), rng.uniform(0, 0.49, present.shape)),
        0.5,
    )
    titles = [_titles(TITLES[i]) for i in which]
    order = rng.permutation(n)
    pd.DataFrame({"track_genres": titles, "sample_key": keys, "track_title": "t"}).iloc[
        order
    ].to_csv(folder / "openmic-2018-metadata.csv", index=False)
    row, column = np.nonzero(mask)
    pd.DataFrame(
        {
            "sample_key": keys[row],
            "instrument": np.array(list(CLASSES))[column],
            "relevance": relevance[row, column],
            "num_responses": 3,
        }
    ).to_csv(folder / "openmic-2018-aggregated-labels.csv", index=False)
    (folder / "class-map.json").write_text(json.dumps(CLASSES))
    np.savez(folder / "openmic-2018.npz", Y_true=relevance, Y_mask=mask, sample_key=keys)
    split = np.where(np.arange(n) % 4 == 0, "test", "train")
    for part in ("train", "test"):
        path = folder / "partitions" / f"split01_{part}.csv"
        path.write_text("".join(f"{key}\n" for key in keys[split == part]))
    genre = np.array([0, 2, 3, 4, 4, 4])[which]
    return pd.DataFrame(
        {"key": keys, "genre": genre, "cello": present[:, 1], "violin": present[:, 4]}
    )


def _titles(titles: list[str] | None) -> str | None:
    """Return genre titles as the metadata file writes them."""
    if titles is None:
        return None
    return str(
        [{"genre_id": str(i), "genre_title": t, "genre_url": ""} for i, t in enumerate(titles)]
    )
