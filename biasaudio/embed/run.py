"""Push the audio of many clips through a model and store the vectors."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

import librosa
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from biasaudio.datasets.synthesis import AudioClip
from biasaudio.embed.base import AudioModel, check_waveform
from biasaudio.errors import DataError
from biasaudio.store import import_arrays

__all__ = ["embed_clips"]


def embed_clips(
    model: AudioModel,
    clips: Iterable[AudioClip],
    path: str | PathLike[str],
    *,
    embedding: str | None = None,
    overwrite: bool = False,
    progress: bool = False,
    total: int | None = None,
) -> Path:
    """Embed clips and write their frames and the clip table to a store.

    Parameters
    ----------
    model : AudioModel
        For example `LibrosaFeatures`.
    clips : iterable of AudioClip
        Read once; audio at another sample rate is resampled.
    path : str or path-like
        The store: an HDF5 file (``.h5``, ``.hdf5``) or a folder of them.
    embedding : str, optional
        What the vectors are called in the store; by default ``model.name``.
    overwrite : bool
        Replace what the store has under this name.
    progress : bool
        Show a bar on stderr.
    total : int, optional
        How many clips there are, for the bar.

    Returns
    -------
    pathlib.Path
        The store.

    Raises
    ------
    DataError
        If there is no clip, or the audio of a clip is not finite mono floats.
    ParameterError
        If the store has this embedding of a dataset already.
    StoreError
        If the store cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from biasaudio.datasets.synthesis import synthesize_datasets
    >>> from biasaudio.embed import LibrosaFeatures
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     clips = synthesize_datasets(n_songs=6)
    ...     embed_clips(LibrosaFeatures(), clips, f"{folder}/demo.h5").name
    'demo.h5'
    """
    rows: list[tuple[str, ...]] = []
    vectors: list[NDArray[np.float32]] = []
    bar = {"desc": model.name, "total": total, "unit": "clip", "file": sys.stderr, "leave": False}
    for clip in tqdm(clips, disable=not progress, **bar):
        wave = check_waveform(clip.waveform, f"clip {clip.clip_id!r}")
        if clip.sample_rate != model.sample_rate:
            wave = librosa.resample(wave, orig_sr=clip.sample_rate, target_sr=model.sample_rate)
        rows.append((clip.clip_id, clip.dataset, clip.split, clip.genre, clip.group, clip.label))
        vectors.append(model.embed(wave).vectors)
    if not rows:
        raise DataError("there are no clips to embed; give at least one")
    clip_id, dataset, split, genre, group, label = map(np.array, zip(*rows, strict=True))
    return import_arrays(
        path,
        np.concatenate(vectors),
        clip_id,
        dataset=dataset,
        embedding=model.name if embedding is None else embedding,
        split=split,
        genre=genre,
        group=group,
        label=label,
        frame_clip=np.repeat(np.arange(len(rows)), [len(each) for each in vectors]),
        overwrite=overwrite,
    )
