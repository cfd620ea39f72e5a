"""Find the audio of a dataset: a folder, an IRMAS or OpenMIC tree, or a manifest."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import pandas as pd

from biasaudio._text import can_be_name
from biasaudio._validation import check_choice, did_you_mean, name_some
from biasaudio.datasets._files import check_printable, walk_files
from biasaudio.datasets.irmas import irmas_audio
from biasaudio.datasets.manifest import clip_table, read_rows
from biasaudio.datasets.openmic import METADATA, openmic_audio
from biasaudio.datasets.table import COLUMNS, ClipTable, text_column
from biasaudio.errors import DataError, ParameterError

__all__ = ["AUDIO_SUFFIXES", "INFORMATIONAL", "AudioFiles", "find_audio"]

AUDIO_SUFFIXES = (".aif", ".aiff", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav")
MANIFEST_SUFFIXES = (".csv", ".parquet", ".pq")
# Columns of a manifest that say something of the file and nothing of the clip.
INFORMATIONAL = ("seconds", "duration", "sample_rate")
IRMAS_PARTS = ("IRMAS-TrainingData", "IRMAS-TestingData")


@dataclass(frozen=True, eq=False)
class AudioFiles:
    """Clips and the audio file of each.

    Attributes
    ----------
    clips : ClipTable
        All clips that a file is named for.
    paths : tuple of Path [shape=(n,)]
        The file of each clip, in the same order; of a manifest it need not be
        there.
    kind : {'folder', 'irmas', 'openmic', 'manifest'}
        What the clips were read from.
    root : Path
        The folder that holds all files.
    unlisted : tuple of Path
        Audio files in the folder that belong to none of the clips.
    refused : tuple of (Path, str)
        Audio files that can be no clip, and why.
    """

    clips: ClipTable
    paths: tuple[Path, ...]
    kind: Literal["folder", "irmas", "openmic", "manifest"]
    root: Path
    unlisted: tuple[Path, ...] = ()
    refused: tuple[tuple[Path, str], ...] = ()


def find_audio(
    source: str | os.PathLike[str],
    clips: str | os.PathLike[str] | pd.DataFrame | None = None,
    *,
    columns: Mapping[str, str] | None = None,
) -> AudioFiles:
    """Find audio files, and read what is known about them.

    Parameters
    ----------
    source : path
        A folder with audio at any depth.  The tree of IRMAS
        (``IRMAS-TrainingData``, ``IRMAS-TestingData-Part1`` ...) or of OpenMIC
        (``openmic-2018-metadata.csv``, ``audio/000/...``) is recognised and read
        by `load_irmas` or `load_openmic`.  Of any other folder a first-level
        subfolder is a dataset, and so is the folder itself for audio that lies
        in it; the clip id is the path below that, with suffix.  Or a manifest
        file, whose paths are relative to its folder.
    clips : path or pd.DataFrame, optional
        A manifest beside a folder.  One row per file with the columns of
        `load_manifest` and ``path``, relative to the folder.  Where there is
        no such column ``dataset`` is that of a folder, and ``clip_id`` too: the
        path, without the first folder if that is called like the dataset.  The
        columns seconds, duration and sample_rate are passed over.
    columns : mapping of str to str, optional
        What columns of the manifest are called where they are not called
        ``path``, ``label``, ``group``, ..., as in ``{"label": "instrument"}``.

    Returns
    -------
    AudioFiles

    Raises
    ------
    DataError
        If no audio is found, a folder or the manifest cannot be read, or names
        a file outside of the folder or one twice.
    ParameterError
        If the arguments do not go together or ``columns`` does not fit.

    Notes
    -----
    OpenMIC clips without an audio file and IRMAS keys without one are recorded
    in ``clips.dropped``; so a part of either dataset can be read.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("mine/cello/a.wav", "mine/flute/b.wav", "theirs/c.ogg"):
    ...         path = Path(folder, name)
    ...         path.parent.mkdir(parents=True, exist_ok=True)
    ...         path.touch()
    ...     found = find_audio(folder)
    >>> found.clips.datasets, found.clips.clip_id.tolist()
    (['mine', 'theirs'], ['cello/a.wav', 'flute/b.wav', 'c.ogg'])
    """
    if not isinstance(source, (str, os.PathLike)):
        raise ParameterError(f"source is a {type(source).__name__}; give the path of a folder")
    folder = Path(source)
    if clips is None and folder.is_file() and folder.suffix.lower() in MANIFEST_SUFFIXES:
        folder, clips = folder.parent, folder
    if not folder.is_dir():
        raise DataError(
            f"{str(folder)!r} is not a folder; give a folder of audio, or a manifest "
            f"({' '.join(MANIFEST_SUFFIXES)}) that lists files"
        )
    if clips is None and columns is not None:
        raise ParameterError(f"columns={columns!r} is given without a manifest; give clips as well")
    files = walk_files(folder)
    audio = [path for path in files if path.suffix.lower() in AUDIO_SUFFIXES]
    if not audio:
        raise DataError(
            f"no audio is below {str(folder)!r}, which holds {len(files)} file(s)"
            f"{': ' if files else ''}{name_some(path.name for path in files)}; "
            f"files that end in {' '.join(AUDIO_SUFFIXES)} count"
        )
    if clips is not None:
        return _from_manifest(folder, clips, columns or {}, audio)
    trees = [path.parent for path in files if path.name == METADATA]
    if folder in trees:
        table, paths = openmic_audio(folder, audio)
        return AudioFiles(table, tuple(paths), "openmic", folder, _others(audio, paths))
    if trees:
        raise DataError(
            f"{str(trees[0])!r} is an OpenMIC tree inside of the folder; give each dataset alone, "
            "one after the other into one store"
        )
    if _is_irmas(folder, audio):
        table, paths = irmas_audio(folder)
        return AudioFiles(table, tuple(paths), "irmas", folder, _others(audio, paths))
    return _from_folder(folder, audio)


def _others(audio: list[Path], paths: list[Path]) -> tuple[Path, ...]:
    here = {path.absolute() for path in paths}
    return tuple(path for path in audio if path.absolute() not in here)


def _is_irmas(folder: Path, audio: list[Path]) -> bool:
    parts = {part for path in audio for part in path.relative_to(folder).parts[:-1]}
    return any(part.startswith(IRMAS_PARTS) for part in {folder.absolute().name, *parts})


def _from_folder(folder: Path, audio: list[Path]) -> AudioFiles:
    inside = [PurePosixPath(path.relative_to(folder).as_posix()) for path in audio]
    datasets = _datasets(folder, inside)
    ids = [str(_below(path, name)) for path, name in zip(inside, datasets)]
    # One name that cannot be kept is no reason to leave all others out.
    refused = [
        (path, f"its name {name!r} has characters that cannot be printed; rename it")
        for path, name in zip(audio, ids)
        if not name.isprintable()
    ]
    kept = [i for i, name in enumerate(ids) if name.isprintable()]
    if not kept:
        raise DataError(f"{str(folder)!r} has no audio that can be kept: {refused[0][1]}")
    clips = ClipTable.from_columns(
        np.array([ids[i] for i in kept], dtype=object),
        np.array([datasets[i] for i in kept], dtype=object),
    )
    paths = tuple(audio[i] for i in kept)
    return AudioFiles(clips, paths, "folder", folder, refused=tuple(refused))


def _below(path: PurePosixPath, dataset: object) -> PurePosixPath:
    """Strip the folder of its dataset from a path."""
    is_inside = len(path.parts) > 1 and path.parts[0] == dataset
    return PurePosixPath(*path.parts[1:]) if is_inside else path


def _datasets(folder: Path, inside: list[PurePosixPath]) -> list[str]:
    """Name the dataset of each file: its first-level folder, or the folder itself."""
    own = folder.resolve().name
    names = [path.parts[0] if len(path.parts) > 1 else own for path in inside]
    for name in dict.fromkeys(names):
        _check_dataset(name)
    return names


def _check_dataset(name: str) -> None:
    if not can_be_name(name):
        raise DataError(
            f"the folder name {name[:200]!r} cannot be that of a dataset, which is printable text "
            "without slashes that does not start with '.' or '__'; rename the folder, or give a "
            "manifest with a column 'dataset'"
        )


def _from_manifest(
    folder: Path,
    source: str | os.PathLike[str] | pd.DataFrame,
    columns: Mapping[str, str],
    audio: list[Path],
) -> AudioFiles:
    frame, name = read_rows(source)
    frame = _renamed(frame, columns, name)
    if "path" not in frame.columns:
        raise DataError(
            f"{name} has no column 'path'; it has {name_some(frame.columns, limit=10) or 'none'}; "
            "say which holds the files with columns={'path': ...}"
        )
    texts = text_column(frame["path"].to_numpy(), "path", len(frame), required=True)
    roots = (folder.absolute(), folder.resolve())
    inside = [_inside(roots, text, name) for text in texts]
    paths = tuple(folder / path for path in inside)
    repeated = pd.Series(inside, dtype=object).duplicated().to_numpy()
    if repeated.any():
        raise DataError(
            f"{name} lists {repeated.sum()} file(s) more than once: {name_some(texts[repeated])}; "
            "give each file one row"
        )
    if paths and not any(map(os.path.exists, paths)):
        raise DataError(
            f"none of the {len(paths)} files of {name} is in {str(folder)!r}, such as "
            f"{str(texts[0])!r}; give the folder that the paths are relative to"
        )
    frame = frame.drop(columns=["path", *(each for each in INFORMATIONAL if each in frame.columns)])
    if "dataset" not in frame.columns:
        frame.insert(0, "dataset", np.array(_datasets(folder, inside), dtype=object))
    if "clip_id" not in frame.columns:
        ids = [str(_below(path, name)) for path, name in zip(inside, frame["dataset"])]
        frame.insert(0, "clip_id", np.array(ids, dtype=object))
    clips = clip_table(frame, name)
    for dataset in clips.datasets:
        _check_dataset(dataset)
    for word in ("clip_id", "split", "genre", "group", "label_names"):
        for text in dict.fromkeys(getattr(clips, word)):
            check_printable(text, f"the {word.removesuffix('_names')} in {name}")
    return AudioFiles(clips, paths, "manifest", folder, _others(audio, list(paths)))


def _renamed(frame: pd.DataFrame, columns: Mapping[str, str], name: str) -> pd.DataFrame:
    """Give each column our word where it has another one."""
    for word, column in columns.items():
        check_choice(word, "a key of columns", ("path", "clip_id", *COLUMNS, "label"))
        if column not in frame.columns:
            raise ParameterError(
                f"columns says that {word!r} is {column!r}, which is no column of {name}; it has "
                f"{name_some(frame.columns, limit=10)}{did_you_mean(column, frame.columns)}"
            )
    ours = {column: word for word, column in columns.items()}
    named = [ours.get(column, column) for column in frame.columns]
    if len(ours) < len(columns) or len(set(named)) < len(named):
        raise ParameterError(
            f"columns={dict(columns)!r} gives one column of {name} two names or two columns one; "
            f"it has {name_some(frame.columns, limit=10)}"
        )
    return frame.set_axis(named, axis=1)


def _inside(roots: tuple[Path, Path], text: str, name: str) -> PurePosixPath:
    """Make a path of a manifest relative to the folder, which has two names if it is a link."""
    path = Path(check_printable(text, f"the path in {name}"))
    for root in roots:
        if path.is_absolute() and path.is_relative_to(root):
            path = path.relative_to(root)
    if path.is_absolute() or ".." in path.parts:
        raise DataError(
            f"{name} names {text!r}, which is not inside of {str(roots[0])!r}; "
            "give paths below the folder, or the folder that holds all of them"
        )
    return PurePosixPath(path.as_posix())
