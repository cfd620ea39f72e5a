"""From files of audio to a folder store that survives anything."""

from __future__ import annotations

import os
import uuid
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from biasaudio._parallel import check_n_jobs, run_all
from biasaudio.datasets.audio import AudioFiles, find_audio
from biasaudio.embed._gathering import FAILED, Gathering
from biasaudio.embed._work import embed_batch, hash_file
from biasaudio.embed.base import AudioModel
from biasaudio.errors import BiasAudioWarning, ParameterError, StoreError
from biasaudio.store.clips import merge_clips
from biasaudio.store.forget import forget_clips
from biasaudio.store.index import existing
from biasaudio.store.merge import compact_store
from biasaudio.store.reader import EmbeddingStore
from biasaudio.store.schema import check_name, is_file_path, store_files

__all__ = ["ExtractResult", "extract"]


@dataclass(frozen=True, eq=False)
class ExtractResult:
    """Say what became of each clip.

    Parameters
    ----------
    path : Path
        The store.
    embedding : str
        What the vectors are called there.
    n_embedded : int
        Clips that were embedded now.
    n_present : int
        Clips that were there already, of the same audio and the same model.
    failed : pd.DataFrame
        Columns dataset, clip_id, path and reason, a row for each other clip.
    seconds : float
        Of audio that was embedded now.
    """

    path: Path
    embedding: str
    n_embedded: int
    n_present: int
    failed: pd.DataFrame
    seconds: float


def extract(
    audio: AudioFiles | str | os.PathLike[str],
    model: AudioModel,
    path: str | os.PathLike[str],
    *,
    embedding: str | None = None,
    max_seconds: float | None = None,
    overwrite: bool = False,
    n_jobs: int = 1,
    commit_seconds: float = 10.0,
    progress: bool = False,
) -> ExtractResult:
    """Embed files of audio and add their vectors to a folder store.

    Clips are committed in parts: what was committed is on disk whatever happens
    to the process, and the next call goes on from there.  Several processes may
    extract into one store, and it may be read meanwhile.

    Parameters
    ----------
    audio : AudioFiles or path-like
        What `find_audio` returned, or what it takes.
    model : AudioModel
        For example ``load_model("melstats")``.
    path : path-like
        The store: a folder, made if it is not there.
    embedding : str, optional
        What the vectors are called; by default ``model.name``.
    max_seconds : float, optional
        Embed no more than the beginning of each file.
    overwrite : bool
        Embed anew what is there but was made by another model, or of a file
        that has changed since.
    n_jobs : int
        Number of processes; -1 stands for all cores.
    commit_seconds : float
        Seconds between two commits, what an interruption may cost at most; they
        grow to 2 % of the time that has passed, so that parts stay few.
    progress : bool
        Show a bar on stderr.

    Returns
    -------
    ExtractResult
        Files that could not be embedded are listed there; they stop nothing.

    Raises
    ------
    DataError
        If no audio is found, or the clips contradict what the store says.
    ParameterError
        If the store is a file, or has vectors of this name from another model.
    StoreError
        If the store is damaged or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> import soundfile
    >>> from biasaudio.embed import LibrosaFeatures
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     soundfile.write(f"{folder}/tone.wav", np.sin(np.arange(22050) / 9), 22050)
    ...     extract(folder, LibrosaFeatures(), f"{folder}/store").n_embedded
    1
    """
    files = audio if isinstance(audio, AudioFiles) else find_audio(audio)
    folder = Path(path)
    embedding = check_name(model.name if embedding is None else embedding, "embedding")
    n_jobs = check_n_jobs(n_jobs)
    if is_file_path(folder):
        raise ParameterError(
            f"{folder} is a file, but a store that survives interruption grows by files in a "
            "folder; give a folder, and make one file of it with 'biasaudio store export'"
        )
    for dataset in files.clips.datasets:
        check_name(dataset, "dataset")
    _check_clips(files, folder)
    identity = dict(model.identity)
    if max_seconds is not None:
        identity["max_seconds"] = float(max_seconds)
    if overwrite:
        _forget(files, folder, embedding, identity)
    gathered = Gathering(files, folder, embedding, identity, commit_seconds, progress)
    with gathered.committing():
        run = uuid.uuid4().hex if n_jobs > 1 else ""
        work = partial(embed_batch, model=model, max_seconds=max_seconds, run=run)
        run_all(work, gathered.batches(), n_jobs=n_jobs, on_result=gathered.take)
    if store_files(folder):
        _merge(folder, embedding)
    failed = pd.DataFrame(gathered.failed, columns=list(FAILED), dtype=object)
    counts = (gathered.n_embedded, gathered.n_present)
    return ExtractResult(folder, embedding, *counts, failed, gathered.seconds)


def _check_clips(files: AudioFiles, folder: Path) -> None:
    """Refuse clips that the store knows otherwise, before anything is computed."""
    if not store_files(folder):
        return
    store = EmbeddingStore(folder)
    for dataset in set(store.datasets()) & set(files.clips.datasets):
        known = store.clips(dataset)
        if known is not None:
            new = files.clips.select(files.clips.dataset == dataset)
            merge_clips(known, new, replace=False, where=str(folder))


def _merge(folder: Path, embedding: str) -> None:
    """Merge the parts; what is not merged is as good, only in more files."""
    try:
        compact_store(folder, embedding=embedding)
    except StoreError as error:
        warnings.warn(
            f"the clips are in the store, but its parts were not merged ({error}); run "
            "'biasaudio store compact' later",
            BiasAudioWarning,
            stacklevel=3,
        )


def _forget(files: AudioFiles, folder: Path, embedding: str, identity: dict[str, Any]) -> None:
    """Take out what another model made, and clips whose audio is not what it was."""
    for dataset in files.clips.datasets:
        pair = (dataset, embedding)
        if pair not in existing(folder):
            continue
        made = EmbeddingStore(folder).origin(*pair)
        if made is None or made.model != identity:
            forget_clips(folder, pair, None)
            continue
        known = dict(zip(made.sources["clip_id"], made.sources["sha256"]))
        is_mine = files.clips.dataset == dataset
        changed = [
            name
            for name, path, mine in zip(files.clips.clip_id, files.paths, is_mine)
            if mine and name in known and path.is_file() and hash_file(path) != known[name]
        ]
        if changed:
            forget_clips(folder, pair, changed)
