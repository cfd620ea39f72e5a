"""From files of audio to a folder store that survives anything."""

from __future__ import annotations

import json
import os
import uuid
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from biasaudio._parallel import check_n_jobs, run_all
from biasaudio._text import printable
from biasaudio._validation import check_number, name_some
from biasaudio.datasets.audio import AudioFiles, find_audio
from biasaudio.embed._gathering import FAILED, Gathering
from biasaudio.embed._work import embed_batch
from biasaudio.embed.audio import MAX_SECONDS
from biasaudio.embed.base import AudioModel
from biasaudio.errors import BiasAudioWarning, DataError, ParameterError, StoreError
from biasaudio.store.clips import merge_clips
from biasaudio.store.index import Index, read_steadily
from biasaudio.store.merge import compact_store
from biasaudio.store.parts import PATIENCE, made_otherwise, read_sources
from biasaudio.store.reader import EmbeddingStore
from biasaudio.store.relabel import relabel
from biasaudio.store.schema import PARTIAL, check_name, is_file_path, part_file, store_files
from biasaudio.store.staging import discard_done, discard_useless, put_in_place, staging_folder
from biasaudio.store.stream import open_parts

__all__ = ["ExtractResult", "extract"]

# Bytes in the name of a file, where nearly all file systems end.
LONGEST_NAME = 255


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
    if overwrite and store_files(folder):
        known = read_steadily(folder, partial(_replaceable, files, embedding, identity))
    target = staging_folder(folder, embedding) if known else folder
    if known:
        discard_useless(folder, embedding, identity)
    gathered = Gathering(files, target, embedding, identity, commit_seconds, progress, known)
    for place in dict.fromkeys([folder, target]):
        if store_files(place):
            relabel(place, files.clips, replace=overwrite, wait=PATIENCE)
    with gathered.committing():
        run = uuid.uuid4().hex if n_jobs > 1 else ""
        work = partial(embed_batch, model=model, max_seconds=max_seconds, run=run)
        run_all(work, gathered.batches(), n_jobs=n_jobs, on_result=gathered.take)
    if known:
        put_in_place(folder, embedding, identity)
    else:
        discard_done(folder, embedding, identity)
    if store_files(folder):
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
        name = part_file(folder, dataset, embedding).name + PARTIAL
        over = len(os.fsencode(name)) - LONGEST_NAME
        if over > 0:
            raise ParameterError(
                f"dataset {dataset[:50]!r}... and embedding {embedding[:50]!r}... are {over} bytes "
                "too long together for the name of a file; shorten one of them"
            )


def _check_clips(files: AudioFiles, folder: Path) -> None:
    """Refuse clips that the store knows otherwise, before anything is computed."""
    if not store_files(folder):
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
    files: AudioFiles, embedding: str, identity: dict[str, Any], index: Index
) -> dict[str, dict[str, str]]:
    """Return the clips of each dataset that has the embedding, with the sha256 of their audio.

    What another model made is replaced as a whole, so that none is known of it.
    """
    known: dict[str, dict[str, str]] = {}
    for pair, held in index.items():
        dataset = pair[0]
        if pair[1] != embedding:
            continue
        is_given = dataset in files.clips.datasets
        found = [read_sources(file, pair, identity) for file in held]
        other = [file for file, each in zip(held, found) if each is None]
        if other and not is_given:
            raise made_otherwise(other[0], pair, identity, is_given=False)
        if other:
            _check_all_given(files, held, pair)
        if is_given:
            same = [each for each in found if each is not None and not other]
            known[dataset] = {clip: sha256 for each in same for clip, sha256 in each.items()}
    return known


def _check_all_given(files: AudioFiles, held: Sequence[Path], pair: tuple[str, str]) -> None:
    """Refuse to lose clips that another model embedded and that are not given now."""
    with open_parts(held, *pair) as parts:
        there = {name for frames in parts for name in frames.read_keys().names}
    lost = sorted(there - set(files.clips.clip_id[files.clips.dataset == pair[0]]))
    if lost:
        raise ParameterError(
            f"{len(lost)} clip(s) of dataset {pair[0]!r} in {held[0].parent} are not among the "
            f"audio, such as {name_some(lost)}, and their vectors by another model would be lost; "
            "choose another name with embedding=..., or give the audio of all clips"
        )


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
