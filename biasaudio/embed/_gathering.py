"""Take what became of each clip, and commit it to a store now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os.path import relpath
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from biasaudio._text import printable
from biasaudio.datasets.audio import AudioFiles
from biasaudio.embed._work import Job, Outcome
from biasaudio.errors import StoreError
from biasaudio.store import Appender

__all__ = ["FAILED", "Gathering"]

# A file decodes in some 10 ms; so many at once hide what handing them over takes.
BATCH = 8
BUFFER_BYTES = 2**26
SHARE = 0.02
FAILED = ("dataset", "clip_id", "path", "reason")


class Gathering:
    """Take what became of each clip, and commit it now and then.

    Parameters
    ----------
    files : AudioFiles
    folder : Path
        The store.
    embedding : str
    identity : dict
        Of the model.
    commit_seconds : float
    progress : bool
    known : mapping, optional
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
        folder: Path,
        embedding: str,
        identity: dict[str, Any],
        commit_seconds: float,
        progress: bool,
        known: Mapping[str, Mapping[str, str]] | None = None,
        *,
        staged: bool = False,
    ) -> None:
        self.known = known or {}
        self.clips, self.paths = files.clips, files.paths
        self.embedding, self.identity = embedding, identity
        self.writer = Appender(folder, embedding, identity, staged=staged)
        self.commit_seconds = commit_seconds
        self.n_embedded = self.n_present = 0
        self.seconds = 0.0
        self.failed: list[tuple[str, str, str, str]] = []
        self._root = files.root
        self._waiting: list[Outcome] = []
        self._begin = self._last = time.monotonic()
        options: dict[str, Any] = {"unit": " clips", "smoothing": 0.1, "leave": False}
        options |= {"file": sys.stderr, "disable": not progress, "desc": embedding}
        self._bar = tqdm(total=len(self.paths), **options)

    @contextmanager
    def committing(self) -> Iterator[None]:
        """Commit what was taken, also after an interruption."""
        is_writable = True
        try:
            with self._bar:
                yield
        except StoreError:
            is_writable = False
            raise
        finally:
            if is_writable:
                self._commit()

    def batches(self) -> list[list[Job]]:
        """Return the clips a few at a time, each batch of one dataset."""
        found: list[list[Job]] = []
        for dataset in self.clips.datasets:
            there, ids = self.writer.present(dataset), self.clips.clip_id
            old = self.known.get(dataset, {})
            rows = np.flatnonzero(self.clips.dataset == dataset).tolist()
            jobs = [self._job(row, there.get(ids[row]), old.get(ids[row])) for row in rows]
            found += [jobs[at : at + BATCH] for at in range(0, len(jobs), BATCH)]
        return found

    def _job(self, row: int, there: str | None, old: str | None) -> Job:
        sha256 = old if there is None else there
        return Job(row, self.paths[row], sha256, is_renewed=there is None)

    def take(self, _: int, outcomes: list[Outcome], __: list[str]) -> None:
        """Count what became of some clips of one dataset, and commit if it is time."""
        name = self.clips.dataset[outcomes[0].row]
        if self._waiting and self.clips.dataset[self._waiting[0].row] != name:
            self._commit()
        for outcome in outcomes:
            if outcome.vectors is not None:
                self._waiting.append(outcome)
            elif outcome.reason:
                clip, path = self.clips.clip_id[outcome.row], str(self.paths[outcome.row])
                self.failed.append((name, clip, printable(path), printable(outcome.reason)))
            else:
                self.n_present += 1
        self._bar.update(len(outcomes))
        now = time.monotonic()
        pause = max(self.commit_seconds, SHARE * (now - self._begin))
        size = sum(each.vectors.nbytes for each in self._waiting if each.vectors is not None)
        if now - self._last > pause or size > BUFFER_BYTES:
            self._commit()

    def _commit(self) -> None:
        """Write what is waiting; when this returns it is on disk."""
        waiting = self._waiting
        if waiting:
            present = set(self._add(waiting))
            ids = self.clips.clip_id
            added = [each for each in waiting if ids[each.row] not in present]
            self.n_present += len(present)
            self.n_embedded += len(added)
            self.seconds += sum(each.seconds for each in added)
            # Not before: who is interrupted while writing tries once more at the end.
            self._waiting = []
        self._last = time.monotonic()

    def _add(self, outcomes: Sequence[Outcome]) -> list[str]:
        rows = [each.row for each in outcomes]
        clips = self.clips.select(rows)
        ids = clips.clip_id
        sources = pd.DataFrame(
            {
                "clip_id": ids,
                "path": [Path(relpath(self.paths[row], self._root)).as_posix() for row in rows],
                "sha256": [each.sha256 for each in outcomes],
            },
            dtype=object,
        )
        vectors = {
            name: each.vectors
            for name, each in zip(ids, outcomes, strict=True)
            if each.vectors is not None
        }
        return self.writer.add(clips.datasets[0], vectors, sources, clips)
