"""Embed some files, and say what became of each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from biasaudio._files import fingerprint_file
from biasaudio.embed.audio import read_audio
from biasaudio.embed.base import FOREIGN_ERRORS, AudioModel
from biasaudio.errors import BiasAudioError, DataError, StoreError

__all__ = ["Job", "Outcome", "embed_batch", "hash_file"]

CHANGED = "its audio has changed since it was embedded; pass overwrite=True to embed it anew"
# The model that this process used last, by the run that it belongs to.
_KEPT: dict[str, AudioModel] = {}


class Job(NamedTuple):
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
    is_renewed: bool = False


class Outcome(NamedTuple):
    """What became of a clip: vectors, or a reason, or neither where it is there."""

    row: int
    sha256: str
    seconds: float
    vectors: NDArray[np.float32] | None
    reason: str


def embed_batch(
    batch: Sequence[Job], *, model: AudioModel, max_seconds: float | None, run: str = ""
) -> list[Outcome]:
    """Return what becomes of each of some files.

    Parameters
    ----------
    batch : sequence of Job
    model : AudioModel
    max_seconds : float or None
    run : str
        What no other run is called, where the model comes as a copy with each batch.

    Returns
    -------
    list of Outcome
    """
    if run:
        # The copy that came first has its interpreter or network already.
        if run not in _KEPT:
            _KEPT.clear()
        model = _KEPT.setdefault(run, model)
    return [_embed(job, model, max_seconds) for job in batch]


def _embed(job: Job, model: AudioModel, max_seconds: float | None) -> Outcome:
    try:
        if job.sha256 is not None:
            found = hash_file(job.path)
            if found == job.sha256 or not job.is_renewed:
                reason = "" if found == job.sha256 else CHANGED
                return Outcome(job.row, found, 0.0, None, reason)
        audio = read_audio(job.path, model.sample_rate, max_seconds=max_seconds)
        vectors = _vectors(model, audio.waveform)
        if vectors.ndim != 2 or vectors.shape[1] != model.dims or not len(vectors):
            raise DataError(
                f"the model gave vectors of shape {vectors.shape}; (n, {model.dims}) is allowed"
            )
        if not np.isfinite(vectors).all():
            raise DataError("the model gave NaN or Inf; check its weights and this file")
        return Outcome(job.row, audio.sha256, audio.seconds, vectors, "")
    except DataError as error:
        return Outcome(job.row, "", 0.0, None, str(error))


def _vectors(model: AudioModel, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    try:
        return np.asarray(model.embed(waveform).vectors, dtype=np.float32)
    except BiasAudioError:
        # Such as a package that is missing, which no other clip can do without either.
        raise
    except FOREIGN_ERRORS as error:
        text = " ".join(f"{type(error).__name__}: {error}".split())
        raise DataError(f"the model failed on it ({text[:500]}); check the model") from error


def hash_file(path: Path) -> str:
    """Return the sha256 of a file of audio.

    Parameters
    ----------
    path : Path

    Returns
    -------
    str

    Raises
    ------
    DataError
        If it is not there, no regular file, or cannot be read.
    """
    if not path.is_file():
        raise DataError(f"{str(path)!r} is not a file that is there; check the path")
    try:
        return str(fingerprint_file(path)["sha256"])
    except StoreError as error:
        raise DataError(str(error)) from error
