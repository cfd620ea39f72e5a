"""Read IRMAS: predominant instruments in excerpts of music.

The training part holds 6,705 excerpts of three seconds with one instrument
each; instrument, genre and song stand in the file name.  The testing part
holds 2,874 longer excerpts with one or more instruments in a text file each,
and no genre.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasaudio._validation import check_choice, name_some
from biasaudio.datasets._files import one_line, read_splits, read_text, walk_files
from biasaudio.datasets.table import ClipTable, text_column
from biasaudio.datasets.vocabulary import IRMAS_GENRES, IRMAS_INSTRUMENTS
from biasaudio.errors import DataError, ParameterError

__all__ = ["CITATION", "LICENSE", "irmas_audio", "load_irmas"]

CITATION = """@inproceedings{bosch2012comparison,
  title     = {A comparison of sound segregation techniques for predominant
               instrument recognition in musical audio signals},
  author    = {Bosch, Juan J. and Janer, Jordi and Fuhrmann, Ferdinand and
               Herrera, Perfecto},
  booktitle = {Proceedings of the 13th International Society for Music
               Information Retrieval Conference (ISMIR)},
  pages     = {559--564},
  year      = {2012}
}"""

LICENSE = "CC BY-NC-SA 3.0"

DATASET = "irmas"
LABELS = tuple(dict.fromkeys(IRMAS_INSTRUMENTS.values()))
SPLIT_FILES = {"train": "split_train.csv", "test": "split_test.csv"}

# An optional bracket between the two tells of drums and is not used here.
_KEY = re.compile(r"[^\[\]]*\[(\w+)\](?:\[[^\]]*\])?\[(\w+)\](\d+)(?:__\d+)?")


def load_irmas(
    source: str | os.PathLike[str] | Sequence[str] | Sequence[bytes] | NDArray[Any],
    *,
    part: str = "training",
    splits: Mapping[str, str] | Sequence[str] | None = None,
) -> ClipTable:
    """Read the clips of IRMAS from a folder or from a list of keys.

    Parameters
    ----------
    source : path or sequence of str or bytes
        A folder with the wav files (``IRMAS-TrainingData/cel/*.wav`` and
        ``IRMAS-TestingData-Part1/Part1/*.wav``, at any depth), or with
        ``split_train.csv`` and ``split_test.csv`` (one training key per line,
        no header), or with both.  Or the keys themselves: file names without
        ``.wav``, of the training part.
    part : {'training', 'testing', 'all'}
        Which part to read.
    splits : mapping of str to str, or sequence of str, optional
        The split of each training key, in place of the two csv files; a
        sequence goes with a sequence of keys.

    Returns
    -------
    ClipTable
        Dataset ``"irmas"``, 10 labels in full words (both guitars are
        ``guitar``).  Training clips: genre, and the song number as group.
        Testing clips: split ``"test"``, no genre, and the title as group.

    Raises
    ------
    DataError
        If there is no such folder or part, a key or a label is not as IRMAS
        writes it, or the splits do not fit the keys.
    ParameterError
        If ``part`` is not known, or does not go with the source.

    Examples
    --------
    >>> clips = load_irmas(["[cla][cla]0189__2", "008__[cel][nod][cla]0058__1"])
    >>> clips.labels.idxmax(axis=1).tolist(), clips.genre.tolist()
    (['clarinet', 'cello'], ['classical', 'classical'])
    """
    check_choice(part, "part", ("training", "testing", "all"))
    if not isinstance(source, (str, os.PathLike)):
        if part != "training":
            raise ParameterError(
                f"part={part!r} does not go with a list of keys, since testing clips have their "
                "labels in text files; give the folder, or part='training'"
            )
        array = np.asarray(source)
        keys = text_column(array, "keys", len(np.atleast_1d(array)), required=True)
        return _training(keys, _given_splits(keys, splits))
    folder = Path(source)
    if not folder.is_dir():
        raise DataError(
            f"{str(folder)!r} is not a folder; give the folder that holds IRMAS-TrainingData or "
            f"{SPLIT_FILES['train']}, or a list of keys"
        )
    training, testing = _find(folder)
    tables = []
    if part in ("training", "all"):
        tables.append(_training_folder(folder, training, splits))
    if part in ("testing", "all"):
        if not testing:
            raise DataError(
                f"no testing clip is under {str(folder)!r}; give the folder that holds "
                "IRMAS-TestingData-Part1 (with its .txt files), or part='training'"
            )
        tables.append(_testing(testing))
    return ClipTable.concat(tables)


def _find(folder: Path) -> tuple[list[Path], list[Path]]:
    """Find the wav files of the training part and all files of the other."""
    training: list[Path] = []
    testing: list[Path] = []
    for path in walk_files(folder.absolute()):
        # The nearest folder that names a part decides.
        parts = path.parent.parts
        marks = [each for each in parts if "TrainingData" in each or "TestingData" in each]
        is_testing = bool(marks) and "TestingData" in marks[-1]
        if not marks and path.parent.name not in IRMAS_INSTRUMENTS:
            continue
        suffix = path.suffix.lower()
        if is_testing and suffix in (".wav", ".txt"):
            testing.append(path)
        elif not is_testing and suffix == ".wav":
            training.append(path)
    return training, testing


def irmas_audio(folder: Path) -> tuple[ClipTable, list[Path]]:
    """Read the clips of both parts that have a wav file, and these files, in one order."""
    training, testing = _find(folder)
    waves = [path for path in testing if path.suffix.lower() == ".wav"]
    if not training and not waves:
        raise DataError(
            f"{str(folder)!r} looks like IRMAS and has no .wav file; give the audio as it was "
            "published, or a manifest of these files"
        )
    tables = [_training_folder(folder, training, None)] if training else []
    tables += [_testing(testing)] if waves else []
    return ClipTable.concat(tables), [*training, *waves]


def _training_folder(
    folder: Path, files: list[Path], splits: Mapping[str, str] | Sequence[str] | None
) -> ClipTable:
    if splits is not None and not isinstance(splits, Mapping):
        raise ParameterError(
            "splits is a sequence, but the order of a folder's clips is not known; "
            "give a mapping of key to split"
        )
    lists = {name: folder / file for name, file in SPLIT_FILES.items()}
    listed = read_splits({name: path for name, path in lists.items() if path.is_file()})
    if not files and not listed:
        raise DataError(
            f"no training clip is under {str(folder)!r}: neither <instrument>/*.wav nor "
            f"{' or '.join(SPLIT_FILES.values())}; give the folder that holds IRMAS-TrainingData"
        )
    if not files:
        keys = np.array(list(listed), dtype=object)
        return _training(keys, _given_splits(keys, listed if splits is None else splits))
    keys = np.array([path.name[:-4] for path in files], dtype=object)
    codes = [(path.parent.name, _KEY.fullmatch(path.name[:-4])) for path in files]
    astray = [
        match[0]
        for code, match in codes
        if match and code in IRMAS_INSTRUMENTS and match[1] != code
    ]
    if astray:
        raise DataError(
            f"{len(astray)} file(s) are in the folder of another instrument than their name says: "
            f"{name_some(astray)}; move them back"
        )
    if splits is not None:
        return _training(keys, _given_splits(keys, splits))
    here = set(keys)
    absent = [key for key in listed if key not in here]
    if listed and len(absent) == len(listed):
        raise DataError(
            f"no key of {' and '.join(SPLIT_FILES.values())} is a wav file: the keys are "
            f"{name_some(listed)}, the files {name_some(keys)}; give the split of these files"
        )
    dropped = pd.DataFrame(
        {"clip_id": absent, "dataset": DATASET, "reason": "listed in a split, but without wav"}
    )
    split = np.array([listed.get(key, "") for key in keys], dtype=object)
    return _training(keys, split, dropped)


def _given_splits(keys: NDArray[np.object_], splits: Any) -> NDArray[np.object_]:
    if splits is None:
        return np.full(len(keys), "", dtype=object)
    if not isinstance(splits, Mapping):
        return text_column(np.asarray(splits), "splits", len(keys))
    strangers = set(splits) - set(keys)
    if strangers:
        raise DataError(
            f"splits has {len(strangers)} key(s) that are no clip: {name_some(sorted(strangers))}; "
            "give the split of the clips that are there"
        )
    return np.array([splits.get(key, "") for key in keys], dtype=object)


def _training(
    keys: NDArray[np.object_], split: NDArray[np.object_], dropped: pd.DataFrame | None = None
) -> ClipTable:
    found = [_KEY.fullmatch(key) for key in keys]
    tags = [match.groups() if match else ("", "", "") for match in found]
    bad = [
        key
        for key, (instrument, genre, _) in zip(keys, tags, strict=True)
        if instrument not in IRMAS_INSTRUMENTS or genre not in IRMAS_GENRES
    ]
    if bad:
        raise DataError(
            f"{len(bad)} key(s) are not as IRMAS writes them: {name_some(bad)}; a key reads "
            f"[instrument][genre]song__part, instrument one of {' '.join(IRMAS_INSTRUMENTS)} and "
            f"genre one of {' '.join(IRMAS_GENRES)}, without folder and .wav"
        )
    label = np.array([IRMAS_INSTRUMENTS[instrument] for instrument, _, _ in tags], dtype=object)
    return ClipTable.from_columns(
        keys,
        DATASET,
        split=split,
        genre=np.array([IRMAS_GENRES[genre] for _, genre, _ in tags], dtype=object),
        group=np.array([song for _, _, song in tags], dtype=object),
        labels={name: label == name for name in LABELS},
        dropped=dropped,
    )


def _testing(files: list[Path]) -> ClipTable:
    texts = {path.with_suffix(""): path for path in files if path.suffix.lower() == ".txt"}
    waves = [path.with_suffix("") for path in files if path.suffix.lower() == ".wav"]
    # Vectors may be kept without the audio: the text files alone will do then.
    clips = waves or list(texts)
    silent = [path.name for path in clips if path not in texts]
    if silent:
        raise DataError(
            f"{len(silent)} testing clip(s) have no .txt file with their instruments: "
            f"{name_some(silent)}; put the .txt files beside the .wav files"
        )
    labels = np.zeros((len(clips), len(LABELS)), dtype=bool)
    for i, clip in enumerate(clips):
        codes = _codes(texts[clip])
        unknown = [code for code in codes if code not in IRMAS_INSTRUMENTS]
        if unknown:
            raise DataError(
                f"{texts[clip].name!r} holds {unknown[0]!r}; "
                f"one of {' '.join(IRMAS_INSTRUMENTS)} per line is allowed"
            )
        for code in codes:
            labels[i, LABELS.index(IRMAS_INSTRUMENTS[code])] = True
    answered = np.repeat(labels.any(axis=1, keepdims=True), len(LABELS), axis=1)
    return ClipTable.from_columns(
        np.array([clip.name for clip in clips], dtype=object),
        DATASET,
        split="test",
        group=np.array([re.sub(r"-\d+$", "", clip.name) for clip in clips], dtype=object),
        labels=pd.DataFrame(labels, columns=list(LABELS)),
        mask=pd.DataFrame(answered, columns=list(LABELS)),
    )


def _codes(path: Path) -> list[str]:
    try:
        return read_text(path).split()
    except (ValueError, OSError) as error:
        raise DataError(
            f"{str(path)!r} cannot be read ({one_line(error)}); get the file again"
        ) from error
