"""From files of audio to a folder store that survives anything."""

from __future__ import annotations

import json
import os
import uuid
import warnings
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from biasaudio._parallel import check_n_jobs, run_all
from biasaudio._text import printable
from biasaudio._validation import check_name, check_number, name_some
from biasaudio.datasets.audio import AudioFiles, find_audio
from biasaudio.embed._gathering import FAILED, Gathering
from biasaudio.embed._work import embed_batch
from biasaudio.embed.audio import MAX_SECONDS
from biasaudio.embed.base import AudioModel
from biasaudio.errors import BiasAudioWarning, DataError, ParameterError, StoreError
from biasaudio.store import EmbeddingStore, exists, is_file_path, merge, merge_clips, relabel

__all__ = ["ExtractResult", "extract"]

# Another writer may merge or import for minutes.
PATIENCE = 600.0


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
        Columns dataset, clip_id, path and reason, a row for each other clip;
        blank but for path and reason where the name of a file cannot be kept.
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
        that has changed since; and let what is known of the clips now win.
        The old vectors stay until all new ones are there.
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
        If no audio is found, or the clips contradict what the store says and
        ``overwrite`` is False.
    ParameterError
        If the store is a file, or has vectors of this name from another model:
        at all without ``overwrite``, with it of clips that are not given; if a
        name or what the model says of itself cannot be written.
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
    identity = _identity(model, max_seconds)
    _check_names(files, folder, embedding)
    if not overwrite:
        _check_clips(files, folder)
    known = {}
    if overwrite and exists(folder):
        known = _replaceable(files, embedding, identity, EmbeddingStore(folder))
    is_staged = bool(known)
    pace = (commit_seconds, progress)
    gathered = Gathering(files, folder, embedding, identity, *pace, known, staged=is_staged)
    if exists(folder):
        relabel(folder, files.clips, overwrite=overwrite, wait=PATIENCE)
    with gathered.committing():
        run = uuid.uuid4().hex if n_jobs > 1 else ""
        work = partial(embed_batch, model=model, max_seconds=max_seconds, run=run)
        run_all(work, gathered.batches(), n_jobs=n_jobs, on_result=gathered.take)
    if is_staged:
        gathered.writer.publish()
    if exists(folder):
        _merge(folder, embedding)
    refused = [("", "", printable(str(file)), reason) for file, reason in files.refused]
    failed = pd.DataFrame([*refused, *gathered.failed], columns=list(FAILED), dtype=object)
    counts = (gathered.n_embedded, gathered.n_present)
    return ExtractResult(folder, embedding, *counts, failed, gathered.seconds)


def _identity(model: AudioModel, max_seconds: float | None) -> dict[str, Any]:
    """Return what decides the numbers, as it is read from the store again."""
    values: dict[str, Any] = dict(model.identity)
    if max_seconds is not None:
        values["max_seconds"] = check_number(max_seconds, "max_seconds", 0.1, MAX_SECONDS)
    try:
        for name, value in values.items():
            json.dumps({name: value}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"the identity of the model has {name}={value!r}, which cannot be written as JSON "
            f"({error}); give text, numbers, bools or None"
        ) from error
    return dict(json.loads(json.dumps(values)))


def _check_names(files: AudioFiles, folder: Path, embedding: str) -> None:
    if is_file_path(folder):
        raise ParameterError(
            f"{folder} is a file, but a store that survives interruption grows by files in a "
            "folder; give a folder, and make one file of it with 'biasaudio store export'"
        )
    for dataset in files.clips.datasets:
        check_name(dataset, "dataset")


def _check_clips(files: AudioFiles, folder: Path) -> None:
    """Refuse clips that the store knows otherwise, before anything is computed."""
    if not exists(folder):
        return
    store = EmbeddingStore(folder)
    for dataset in set(store.datasets()) & set(files.clips.datasets):
        known = store.clips(dataset)
        if known is not None:
            new = files.clips.select(files.clips.dataset == dataset)
            try:
                merge_clips(known, new, replace=False, where=str(folder))
            except DataError as error:
                way = "or pass overwrite=True, so that what is given now wins"
                raise DataError(f"{error}, {way}") from error


def _replaceable(
    files: AudioFiles, embedding: str, identity: dict[str, Any], store: EmbeddingStore
) -> dict[str, dict[str, str]]:
    """Return the clips of each dataset that has the embedding, with the sha256 of their audio.

    What another model made is replaced as a whole, so that none is known of it.
    """
    known: dict[str, dict[str, str]] = {}
    for dataset in store.datasets():
        if embedding not in store.embeddings(dataset):
            continue
        origin = store.origin(dataset, embedding)
        is_same = origin is not None and origin.model == identity
        if dataset not in files.clips.datasets:
            if not is_same:
                raise ParameterError(
                    f"embedding {embedding!r} of dataset {dataset!r} is in {store.path} already, "
                    "and another model made it; choose another name with embedding=..., or remove "
                    "that dataset from the store, as one embedding is of one model"
                )
            continue
        if not is_same:
            _check_all_given(files, store, dataset, embedding)
            known[dataset] = {}
        elif origin is not None:
            sources = origin.sources
            known[dataset] = dict(zip(sources["clip_id"], sources["sha256"], strict=True))
    return known


def _check_all_given(
    files: AudioFiles, store: EmbeddingStore, dataset: str, embedding: str
) -> None:
    """Refuse to lose clips that another model embedded and that are not given now."""
    there = {name for keys, _ in store.blocks(dataset, embedding) for name in set(keys)}
    lost = sorted(there - set(files.clips.clip_id[files.clips.dataset == dataset]))
    if lost:
        raise ParameterError(
            f"{len(lost)} clip(s) of dataset {dataset!r} in {store.path} are not among the "
            f"audio, such as {name_some(lost)}, and their vectors by another model would be lost; "
            "choose another name with embedding=..., or give the audio of all clips"
        )


def _merge(folder: Path, embedding: str) -> None:
    """Merge the parts; what is not merged is as good, only in more files."""
    try:
        merge(folder, embedding=embedding)
    except StoreError as error:
        warnings.warn(
            f"the clips are in the store, but its parts were not merged ({error}); run "
            "'biasaudio store compact' later",
            BiasAudioWarning,
            stacklevel=3,
        )
