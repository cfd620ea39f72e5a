"""Read OpenMIC-2018: which of 20 instruments are in ten seconds of music.

The 20,000 clips come from the Free Music Archive.  Each was annotated for a few
of the instruments only, so most entries are not known, which is not "absent".
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasaudio._validation import check_choice, did_you_mean, name_some
from biasaudio.datasets._files import one_line, read_csv, read_npz, read_splits, read_text
from biasaudio.datasets.table import ClipTable, text_column
from biasaudio.datasets.vocabulary import OPENMIC_INSTRUMENTS, openmic_genre
from biasaudio.errors import DataError

__all__ = ["CITATION", "LICENSE", "METADATA", "load_openmic", "openmic_audio"]

CITATION = """@inproceedings{humphrey2018openmic,
  title     = {{OpenMIC-2018}: An open data-set for multiple instrument
               recognition},
  author    = {Humphrey, Eric J. and Durand, Simon and McFee, Brian},
  booktitle = {Proceedings of the 19th International Society for Music
               Information Retrieval Conference (ISMIR)},
  pages     = {438--444},
  year      = {2018}
}"""

LICENSE = "CC BY 4.0"

DATASET = "openmic"
NPZ = "openmic-2018.npz"
LABELS = "openmic-2018-aggregated-labels.csv"
METADATA = "openmic-2018-metadata.csv"
CLASSES = "class-map.json"
PARTITIONS = {"train": "partitions/split01_train.csv", "test": "partitions/split01_test.csv"}
POSITIVE = 0.5
# A list of genres has a few hundred characters; a tree of a million nodes would be slow to parse.
MAX_GENRES = 10_000
# Answers: the published set has 20,000 clips times 20 labels.
MAX_CELLS = 2**25


def load_openmic(folder: str | os.PathLike[str], *, group: str = "track") -> ClipTable:
    """Read the clips of OpenMIC-2018 from its folder.

    Parameters
    ----------
    folder : path
        The folder ``openmic-2018`` as it was published: the npz file (or, where
        it is absent, the aggregated labels), metadata, partitions, class map.
    group : {'track', 'artist'}
        What must not straddle a split.

    Returns
    -------
    ClipTable
        Dataset ``"openmic"``, all 20 labels, the official split.  Positive is
        a relevance of at least .5; the genre is that of `openmic_genre`, ``""``
        where the track has none of the four.

    Raises
    ------
    DataError
        If a file is missing or is not as it was published.
    ParameterError
        If ``group`` is not known.

    Notes
    -----
    The keys in the npz file are an object array.  They are read without
    unpickling, and a file with anything but strings there is refused.
    """
    check_choice(group, "group", ("track", "artist"))
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(
            f"{str(folder)!r} is not a folder; give the folder openmic-2018 that holds {NPZ}"
        )
    if not any((folder / name).is_file() for name in (NPZ, LABELS)):
        raise DataError(
            f"{str(folder)!r} has neither {NPZ} nor {LABELS}; give the folder openmic-2018 "
            "as it was published"
        )
    absent = [name for name in (METADATA, *PARTITIONS.values()) if not (folder / name).is_file()]
    if absent:
        raise DataError(
            f"{str(folder)!r} has no {name_some(absent)}; get the whole folder as it was published"
        )
    split = read_splits({part: folder / name for part, name in PARTITIONS.items()})
    names = _class_names(folder / CLASSES)
    if (folder / NPZ).is_file():
        keys, relevance, mask = _from_npz(folder / NPZ, names)
    else:
        keys, relevance, mask = _from_csv(folder / LABELS, names, list(split))
    # The npz file need not hold all clips: what the split lists beyond it is kept
    # in the record, so that vectors of these clips are not strangers.
    here = set(keys)
    absent = [key for key in split if key not in here]
    genre, groups = _from_metadata(folder / METADATA, keys, group)
    # As objects: what is no valid Unicode is refused by the clip table in one line.
    columns = pd.Index(names, dtype=object)
    return ClipTable.from_columns(
        keys,
        DATASET,
        split=np.array([split.get(key, "") for key in keys], dtype=object),
        genre=genre,
        group=groups,
        labels=pd.DataFrame((relevance >= POSITIVE) & mask, columns=columns),
        mask=pd.DataFrame(mask, columns=columns),
        dropped=pd.DataFrame(
            {"clip_id": absent, "dataset": DATASET, "reason": f"listed in a split, not in {NPZ}"}
        ),
    )


def openmic_audio(folder: Path, audio: Iterable[Path]) -> tuple[ClipTable, list[Path]]:
    """Read the clips whose file is among ``audio``, and these files, in one order."""
    clips = load_openmic(folder)
    here = set(audio)
    paths = [folder / "audio" / key[:3] / f"{key}.ogg" for key in clips.clip_id]
    found = np.array([path in here for path in paths], dtype=bool)
    absent = pd.DataFrame(
        {"clip_id": clips.clip_id[~found], "dataset": DATASET, "reason": "no audio file"}
    )
    if not found.any():
        raise DataError(
            f"none of the {len(clips)} clips has its file below {str(folder / 'audio')!r}, such as "
            f"{paths[0].name if paths else 'audio/000/000046_3840.ogg'}; get the audio again"
        )
    kept = clips.select(found)
    dropped = pd.concat([kept.dropped, absent], ignore_index=True)
    return (
        ClipTable(kept.frame, kept.labels, kept.mask, dropped),
        [path for path in paths if path in here],
    )


def _class_names(path: Path) -> list[str]:
    if not path.is_file():
        return list(OPENMIC_INSTRUMENTS)
    try:
        column = json.loads(read_text(path))
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(
            f"{path.name} is not JSON ({one_line(error)}); get the file again"
        ) from error
    is_map = isinstance(column, dict) and all(type(value) is int for value in column.values())
    if not is_map or sorted(column.values()) != list(range(len(column))) or not column:
        raise DataError(
            f"{path.name} does not give each label its column, 0 to the number of labels less 1; "
            "get the file again"
        )
    return sorted(column, key=column.__getitem__)


def _from_npz(
    path: Path, names: list[str]
) -> tuple[NDArray[np.object_], NDArray[Any], NDArray[np.bool_]]:
    arrays = read_npz(path, ("sample_key", "Y_true", "Y_mask"))
    keys = text_column(arrays["sample_key"], "sample_key", arrays["sample_key"].size, required=True)
    shape = (len(keys), len(names))
    for name in ("Y_true", "Y_mask"):
        if arrays[name].shape != shape or arrays[name].dtype.kind not in "bifu":
            raise DataError(
                f"{name} in {path.name} has shape {arrays[name].shape} and dtype "
                f"{arrays[name].dtype}, but there are {shape[0]} keys and {shape[1]} classes; "
                "get the file again"
            )
    # Y_true is .5, which counts as positive, wherever nobody answered.
    mask = arrays["Y_mask"].astype(bool)
    with np.errstate(over="ignore"):
        relevance = arrays["Y_true"].astype(np.float64)
    unknown = (np.isnan(relevance) & mask).any(axis=1)
    if unknown.any():
        raise DataError(
            f"Y_true in {path.name} is NaN where Y_mask is true for {unknown.sum()} clip(s): "
            f"{name_some(keys[unknown])}; get the file again"
        )
    beyond = (((relevance < 0) | (relevance > 1)) & mask).any(axis=1)
    if beyond.any():
        raise DataError(
            f"Y_true in {path.name} is not from 0 to 1 for {beyond.sum()} clip(s): "
            f"{name_some(keys[beyond])}; get the file again"
        )
    return keys, relevance, mask


def _from_csv(
    path: Path, names: list[str], listed: list[str]
) -> tuple[NDArray[np.object_], NDArray[Any], NDArray[np.bool_]]:
    """Read the same from one row per answer; clips without one are listed."""
    rows = read_csv(path, ("sample_key", "instrument", "relevance"))
    column = pd.Index(names).get_indexer(pd.Index(rows["instrument"]))
    if (column < 0).any():
        strange = rows["instrument"][column < 0].iloc[0]
        raise DataError(
            f"{path.name} has the instrument {strange!r}, which is not in {CLASSES}"
            f"{did_you_mean(strange, names)}; give both files of one release"
        )
    value = pd.to_numeric(rows["relevance"], errors="coerce").to_numpy(dtype=np.float64)
    # NaN compares as neither.
    is_strange = ~((value >= 0) & (value <= 1))
    if is_strange.any():
        strange = rows["relevance"][is_strange].iloc[0]
        raise DataError(f"{path.name} has the relevance {strange!r}; a number 0 to 1 is allowed")
    repeated = rows.duplicated(["sample_key", "instrument"])
    if repeated.any():
        raise DataError(
            f"{path.name} rates one instrument more than once for {repeated.sum()} row(s) of "
            f"{name_some(rows['sample_key'][repeated].unique())}; keep one row each"
        )
    keys = np.array(sorted({*rows["sample_key"], *listed}), dtype=object)
    if len(keys) * len(names) > MAX_CELLS:
        raise DataError(
            f"{path.name} and {CLASSES} say {len(keys)} clips times {len(names)} labels; at most "
            f"{MAX_CELLS} answers are read, so get both files again"
        )
    row = pd.Index(keys, dtype=object).get_indexer(pd.Index(rows["sample_key"], dtype=object))
    relevance = np.zeros((len(keys), len(names)))
    mask = np.zeros(relevance.shape, dtype=bool)
    relevance[row, column] = value
    mask[row, column] = True
    return keys, relevance, mask


def _from_metadata(
    path: Path, keys: NDArray[np.object_], group: str
) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    wanted = ["sample_key", "track_genres", *(["artist_id"] if group == "artist" else [])]
    rows = read_csv(path, wanted)
    repeated = rows["sample_key"].duplicated()
    if repeated.any():
        raise DataError(
            f"{path.name} has {repeated.sum()} clip(s) more than once: "
            f"{name_some(rows['sample_key'][repeated])}; keep one row per clip"
        )
    at = pd.Index(rows["sample_key"], dtype=object).get_indexer(pd.Index(keys, dtype=object))
    if len(keys) and (at < 0).all():
        raise DataError(
            f"{path.name} has none of the {len(keys)} clips such as {keys[0]!r}; "
            "give the metadata of this release"
        )
    # Parsing is slow and most lists of genres come again and again.
    codes, titles = pd.factorize(rows["track_genres"].to_numpy(dtype=object))
    first = dict(zip(codes[::-1], rows["sample_key"][::-1], strict=True))
    known = [_genre(text, path.name, first[i]) for i, text in enumerate(titles)]
    genre = np.array([*known, ""], dtype=object)[np.where(at < 0, len(known), codes[at])]
    groups = np.array([key.split("_")[0] for key in keys], dtype=object)
    if group == "artist":
        artist = np.where(at < 0, "", rows["artist_id"].to_numpy(dtype=object)[at])
        groups = np.where(artist == "", groups, artist)
    return genre, groups


def _genre(text: str, name: str, key: str) -> str:
    """Read the genre in a list of dicts that was written as Python text."""
    if text.strip() in ("", "nan", "None"):
        return ""
    try:
        if len(text) > MAX_GENRES:
            raise ValueError("too long")
        return openmic_genre(entry["genre_title"] for entry in ast.literal_eval(text))
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise DataError(
            f"track_genres of {key!r} in {name} is not a list of genres: {text[:60]!r}; "
            "give the metadata as it was published"
        ) from error
