"""From files of audio to a folder store that survives anything."""

from __future__ import annotations

import json
import os
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import librosa
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from biasaudio._files import fingerprint_file
from biasaudio._parallel import check_n_jobs, run_all
from biasaudio._text import printable
from biasaudio._validation import check_name, check_number, name_some
from biasaudio.datasets.audio import AudioFiles, find_audio
from biasaudio.embed.audio import MAX_SECONDS, read_audio
from biasaudio.embed.base import AudioModel, check_waveform, guarded, text_of
from biasaudio.errors import DataError, ParameterError, StoreError, warn
from biasaudio.store import (
    Appender,
    EmbeddingStore,
    exists,
    import_arrays,
    is_file_path,
    merge,
    merge_clips,
    relabel,
)

if TYPE_CHECKING:
    from biasaudio.datasets.synthesis import AudioClip

__all__ = ["ExtractResult", "embed_clips", "extract"]

# A file decodes in some 10 ms; so many at once hide what handing them over takes.
BATCH = 8
BUFFER_BYTES = 2**26
# A commit takes milliseconds whatever is in it: 2 % of the time is cheap, and parts stay few.
SHARE = 0.02
# Seconds to wait for another writer, who may merge or import for minutes.
PATIENCE = 600.0
FAILED = ("dataset", "clip_id", "path", "reason")
CHANGED = "its audio has changed since it was embedded; pass overwrite=True to embed it anew"
# The model that this process used last, by the run that it belongs to.
_KEPT: dict[str, AudioModel] = {}


@dataclass(frozen=True, eq=False)
class ExtractResult:
    """What became of each clip.

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
        Columns dataset, clip_id, path and reason, one row for each other clip;
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

    def to_frame(self) -> pd.DataFrame:
        """One row: the counts, and how many clips failed."""
        counts = {"n_embedded": self.n_embedded, "n_present": self.n_present}
        row = {"embedding": self.embedding, **counts, "n_failed": len(self.failed)}
        return pd.DataFrame([row | {"seconds": self.seconds}])


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
    _check_names(files, folder)
    known = {}
    if exists(folder):
        _check_others(files, embedding, identity, folder)
        if overwrite:
            known = _replaceable(files, embedding, identity, folder)
        else:
            _check_clips(files, folder)
    # What takes the place of something waits until all of it is there.
    appender = Appender(folder, embedding, identity, staged=bool(known))
    collected = _Collected(files, appender, commit_seconds, known)
    if exists(folder):
        relabel(folder, files.clips, overwrite=overwrite, wait=PATIENCE)
    run = uuid.uuid4().hex if n_jobs > 1 else ""
    work = partial(embed_batch, model=model, max_seconds=max_seconds, run=run)
    with collected.committing(progress):
        run_all(work, collected.batches(), n_jobs=n_jobs, on_result=collected.take)
    if known:
        appender.publish()
    if exists(folder):
        _merge(folder, embedding)
    refused = [("", "", printable(str(file)), reason) for file, reason in files.refused]
    failed = pd.DataFrame([*refused, *collected.failed], columns=list(FAILED), dtype=object)
    counts = (collected.n_embedded, collected.n_present)
    return ExtractResult(folder, embedding, *counts, failed, collected.seconds)


def _identity(model: AudioModel, max_seconds: float | None) -> dict[str, Any]:
    """Identity of the model and its input, as it is read from the store again."""
    if not isinstance(model.identity, Mapping):
        raise ParameterError(
            f"the identity of the model is {str(model.identity)[:80]!r}; give a dict of what "
            "decides the numbers, such as {'weights': sha256, 'hop': 8000}"
        )
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


def _check_names(files: AudioFiles, folder: Path) -> None:
    if is_file_path(folder):
        raise ParameterError(
            f"{folder} is a file, but a store that survives interruption grows by files in a "
            "folder; give a folder, and make one file of it with 'biasaudio store export'"
        )
    for dataset in files.clips.datasets:
        check_name(dataset, "dataset")


def _check_clips(files: AudioFiles, folder: Path) -> None:
    """Refuse clips that the store knows otherwise, before anything is computed."""
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


def _check_others(
    files: AudioFiles, embedding: str, identity: Mapping[str, Any], folder: Path
) -> None:
    """Refuse a second model in an embedding, in a dataset that is not given now."""
    store = EmbeddingStore(folder)
    for dataset in sorted(set(store.datasets()) - set(files.clips.datasets)):
        if embedding in store.embeddings(dataset):
            origin = store.origin(dataset, embedding)
            if origin is None or origin.model != identity:
                raise ParameterError(
                    f"embedding {embedding!r} of dataset {dataset!r} is in {folder} already, "
                    "and another model made it; choose another name with embedding=..., or remove "
                    "that dataset from the store, as one embedding is of one model"
                )


def _replaceable(
    files: AudioFiles, embedding: str, identity: Mapping[str, Any], folder: Path
) -> dict[str, dict[str, str]]:
    """Clips of each dataset that has the embedding, with the sha256 of their audio.

    What another model made is replaced as a whole, so that no clip of it is known.
    """
    known: dict[str, dict[str, str]] = {}
    store = EmbeddingStore(folder)
    for dataset in sorted(set(store.datasets()) & set(files.clips.datasets)):
        if embedding not in store.embeddings(dataset):
            continue
        origin = store.origin(dataset, embedding)
        if origin is not None and origin.model == identity:
            sources = origin.sources
            known[dataset] = dict(zip(sources["clip_id"], sources["sha256"], strict=True))
        else:
            _check_all_given(files, store, dataset, embedding)
            known[dataset] = {}
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
        warn(
            f"the clips are in the store, but its parts were not merged ({error}); run "
            "'biasaudio store compact' later"
        )


# ------------------------------------------------------------------------- what a worker does


class _Job(NamedTuple):
    """A clip that is to be embedded; or, with the checksum of its audio, seen to be there.

    Attributes
    ----------
    row : int
    path : Path
    sha256 : str or None
        Of the audio that was embedded.
    is_renewed : bool
        Whether other audio is embedded anew.
    """

    row: int
    path: Path
    sha256: str | None
    is_renewed: bool


class _Outcome(NamedTuple):
    """What became of a clip: vectors, or a reason, or neither where it is there."""

    row: int
    sha256: str = ""
    seconds: float = 0.0
    vectors: NDArray[np.float32] | None = None
    reason: str = ""


def embed_batch(
    batch: Sequence[_Job], *, model: AudioModel, max_seconds: float | None, run: str = ""
) -> list[_Outcome]:
    """Embed some files, and say what became of each.

    ``run`` is what no other run is called, where the model comes as a copy with each batch.
    """
    if run:
        # The copy that came first has its interpreter or network already.
        if run not in _KEPT:
            _KEPT.clear()
        model = _KEPT.setdefault(run, model)
    return [_embed(job, model, max_seconds) for job in batch]


def _embed(job: _Job, model: AudioModel, max_seconds: float | None) -> _Outcome:
    try:
        if job.sha256 is not None:
            found = _hash_file(job.path)
            if found == job.sha256 or not job.is_renewed:
                reason = "" if found == job.sha256 else CHANGED
                return _Outcome(job.row, found, reason=reason)
        audio = read_audio(job.path, model.sample_rate, max_seconds=max_seconds)
        vectors = _vectors(model, audio.waveform)
        if vectors.ndim != 2 or vectors.shape[1] != model.dims or not len(vectors):
            raise DataError(
                f"the model gave vectors of shape {vectors.shape}; (n, {model.dims}) is allowed"
            )
        if not np.isfinite(vectors).all():
            raise DataError("the model gave NaN or Inf; check its weights and this file")
        return _Outcome(job.row, audio.sha256, audio.seconds, vectors)
    except DataError as error:
        return _Outcome(job.row, reason=str(error))


def _vectors(model: AudioModel, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    # Errors of ours pass, such as a package that is missing, which no other clip can do without
    # either.  Numbers beyond float32 become Inf, which is found later.
    with guarded(_failed), np.errstate(over="ignore"):
        return np.asarray(model.embed(waveform).vectors, dtype=np.float32)


def _failed(error: BaseException) -> DataError:
    text = f"{type(error).__name__}: {text_of(error)}"[:500]
    return DataError(f"the model failed on it ({text}); check the model")


def _hash_file(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"{str(path)!r} is not a file that is there; check the path")
    try:
        return str(fingerprint_file(path)["sha256"])
    except StoreError as error:
        raise DataError(str(error)) from error


# -------------------------------------------------------------- what is done with its results


class _Collected:
    """What became of the clips so far; the vectors are committed now and then.

    Parameters
    ----------
    files : AudioFiles
    appender : Appender
    commit_seconds : float
    known : mapping
        From each dataset to clips that the vectors would take the place of, and
        the sha256 of the audio of each; only other audio is embedded anew.

    Attributes
    ----------
    n_embedded, n_present : int
        Clips that were committed, and that were there already.
    failed : list of tuple
        Dataset, clip, path and reason of each other clip.
    seconds : float
        Of audio that was embedded.
    """

    def __init__(
        self,
        files: AudioFiles,
        appender: Appender,
        commit_seconds: float,
        known: Mapping[str, Mapping[str, str]],
    ) -> None:
        self.n_embedded = self.n_present = 0
        self.seconds = 0.0
        self.failed: list[tuple[str, str, str, str]] = []
        self._files, self._appender, self._known = files, appender, known
        self._commit_seconds = commit_seconds
        self._waiting: list[_Outcome] = []
        self._begin = self._last = time.monotonic()
        self._bar: Any = None

    @contextmanager
    def committing(self, progress: bool) -> Iterator[None]:
        """Commit at the end what was taken, also after an interruption."""
        options: dict[str, Any] = {"unit": " clips", "smoothing": 0.1, "leave": False}
        options |= {"desc": self._appender.embedding, "disable": not progress}
        is_writable = True
        try:
            with tqdm(total=len(self._files.paths), file=_Stderr(), **options) as self._bar:
                yield
        except StoreError:
            is_writable = False
            raise
        finally:
            if is_writable:
                self._commit()

    def batches(self) -> list[list[_Job]]:
        """Deal the clips into small batches, each of one dataset."""
        clips, paths = self._files.clips, self._files.paths
        ids, found = clips.clip_id, []
        for dataset in clips.datasets:
            there, old = self._appender.present(dataset), self._known.get(dataset, {})
            jobs = [
                _Job(row, paths[row], there.get(ids[row], old.get(ids[row])), ids[row] not in there)
                for row in np.flatnonzero(clips.dataset == dataset).tolist()
            ]
            found += [jobs[at : at + BATCH] for at in range(0, len(jobs), BATCH)]
        return found

    def take(self, _: int, outcomes: list[_Outcome], __: list[str]) -> None:
        """Count what became of some clips of one dataset, and commit if it is time."""
        clips, paths = self._files.clips, self._files.paths
        name = clips.dataset[outcomes[0].row]
        if self._waiting and clips.dataset[self._waiting[0].row] != name:
            self._commit()
        for outcome in outcomes:
            if outcome.vectors is not None:
                self._waiting.append(outcome)
            elif outcome.reason:
                clip, path = clips.clip_id[outcome.row], str(paths[outcome.row])
                self.failed.append((name, clip, printable(path), printable(outcome.reason)))
            else:
                self.n_present += 1
        self._bar.update(len(outcomes))
        now = time.monotonic()
        pause = max(self._commit_seconds, SHARE * (now - self._begin))
        size = sum(each.vectors.nbytes for each in self._waiting if each.vectors is not None)
        if now - self._last > pause or size > BUFFER_BYTES:
            self._commit()

    def _commit(self) -> None:
        """Write what is waiting; when this returns it is on disk."""
        if self._waiting:
            present = self._add(self._waiting)
            ids = self._files.clips.clip_id
            added = [each for each in self._waiting if ids[each.row] not in present]
            self.n_present += len(present)
            self.n_embedded += len(added)
            self.seconds += sum(each.seconds for each in added)
            # Not before: who is interrupted while writing tries once more at the end.
            self._waiting = []
        self._last = time.monotonic()

    def _add(self, outcomes: Sequence[_Outcome]) -> set[str]:
        """Append clips, and name those that another process has added meanwhile."""
        files, rows = self._files, [each.row for each in outcomes]
        clips = files.clips.select(rows)
        paths = [Path(os.path.relpath(files.paths[row], files.root)).as_posix() for row in rows]
        hashes = [each.sha256 for each in outcomes]
        source = pd.DataFrame(
            {"clip_id": clips.clip_id, "path": paths, "sha256": hashes}, dtype=object
        )
        vectors = {
            name: each.vectors
            for name, each in zip(clips.clip_id, outcomes, strict=True)
            if each.vectors is not None
        }
        return set(self._appender.add(clips.datasets[0], vectors, source, clips))


class _Stderr:
    """The standard error; a bar that cannot be shown is no reason to stop."""

    encoding = "utf-8"

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()

    def fileno(self) -> int:
        return sys.stderr.fileno()


# ------------------------------------------------------------------ audio that is in memory


def embed_clips(
    model: AudioModel,
    clips: Iterable[AudioClip],
    path: str | os.PathLike[str],
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
