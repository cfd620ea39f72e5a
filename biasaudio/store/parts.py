"""Let a folder store grow: each addition is a new file, there at once or not at all."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from biasaudio.errors import ParameterError
from biasaudio.store.change import settled, write_file, writing
from biasaudio.store.content import Content, Origin, read_origin
from biasaudio.store.frames import open_frames
from biasaudio.store.index import index_files, stamp
from biasaudio.store.replace import replacing
from biasaudio.store.schema import part_file, store_files

__all__ = ["PATIENCE", "PartWriter", "made_otherwise", "read_sources"]

# Another writer may merge or import for minutes.
PATIENCE = 600.0


class PartWriter:
    """Add clips to an embedding, which other processes may do at the same time.

    Parameters
    ----------
    folder : Path
        The store.
    embedding : str
    model : mapping
        What made the vectors, as in `Origin`.
    datasets : collection of str
        Those that clips are added to.

    Raises
    ------
    ParameterError
        If the store has vectors of this name that another model made.
    StoreError
        If the store is damaged.
    """

    def __init__(
        self,
        folder: Path,
        embedding: str,
        model: Mapping[str, object],
        datasets: Collection[str],
    ) -> None:
        self.folder, self.embedding, self.model = folder, embedding, dict(model)
        self.datasets = datasets
        self._seen: dict[Path, tuple[int, ...]] = {}
        self._sources: dict[str, dict[str, str]] = {}
        # Where nothing can be written, that is known before anything is computed.
        with writing(folder, wait=PATIENCE):
            settled(folder)
            self.refresh()

    def present(self, dataset: str) -> Mapping[str, str]:
        """Return the clips that are there, and the sha256 of the audio of each."""
        return self._sources.get(dataset, {})

    def refresh(self) -> None:
        """Take note of the files that came since."""
        # A file of merged parts takes the name of an older one.
        stamps = {file: stamp(file) for file in store_files(self.folder)}
        new = [file for file, each in stamps.items() if self._seen.get(file) != each]
        for (dataset, embedding), held in index_files(new).items():
            if embedding == self.embedding:
                for file in held:
                    self._sources.setdefault(dataset, {}).update(self._read(file, dataset))
        self._seen |= stamps

    def _read(self, file: Path, dataset: str) -> dict[str, str]:
        pair = (dataset, self.embedding)
        found = read_sources(file, pair, self.model)
        if found is None:
            raise made_otherwise(file, pair, self.model, is_given=dataset in self.datasets)
        return found

    def add(self, content: Content) -> list[str]:
        """Commit clips: when this returns, they are on disk.

        Parameters
        ----------
        content : Content
            Of one dataset; the rows of a clip follow each other.

        Returns
        -------
        list of str
            Clips that another process has added in the meantime; these are
            left as they are.

        Raises
        ------
        StoreError
            If the disk is full, or the store is locked for ten minutes.
        """
        with writing(self.folder, wait=PATIENCE):
            self.refresh()
            there = self.present(content.dataset)
            present = [name for name in content.clips.clip_id if name in there]
            if present:
                content = _without(content, present)
            if len(content.rows):
                target = part_file(self.folder, content.dataset, self.embedding)
                with replacing([target]) as partials:
                    write_file(partials[target], [content])
                if content.origin is not None:
                    rows = zip(*(content.origin.sources[k] for k in ("clip_id", "sha256")))
                    self._sources.setdefault(content.dataset, {}).update(rows)
        return present


def read_sources(
    file: Path, pair: tuple[str, str], model: Mapping[str, object]
) -> dict[str, str] | None:
    """Return the clips of a file and the sha256 of the audio of each.

    Parameters
    ----------
    file : Path
    pair : tuple of str
        Dataset and embedding.
    model : mapping
        As in `Origin`.

    Returns
    -------
    dict or None
        None where another model made the vectors, or it is not known which.
    """
    origin = read_origin(file, *pair)
    if origin is None or origin.model != model:
        return None
    with open_frames(file, *pair) as frames:
        names = frames.read_keys().names
    known = dict(zip(origin.sources["clip_id"], origin.sources["sha256"]))
    return {str(name): known.get(name, "") for name in names}


def made_otherwise(
    file: Path, pair: tuple[str, str], model: Mapping[str, object], *, is_given: bool
) -> ParameterError:
    """Return the error that another model made an embedding.

    Parameters
    ----------
    file : Path
    pair : tuple of str
        Dataset and embedding.
    model : mapping
        The one that is to be used now.
    is_given : bool
        Whether clips of the dataset are given, so that it could be replaced.
    """
    origin = read_origin(file, *pair)
    made = "is not known" if origin is None else f"is {_differing(origin, model)}"
    way = "pass overwrite=True to replace it"
    if not is_given:
        way = "remove that dataset from the store, as one embedding is of one model"
    return ParameterError(
        f"embedding {pair[1]!r} of dataset {pair[0]!r} is in {file} already, and the model that "
        f"made it {made}; choose another name with embedding=..., or {way}"
    )


def _without(content: Content, names: list[str]) -> Content:
    """Return the content without some clips."""
    keep = ~np.isin(content.clips.clip_id.astype(str), names)
    is_kept = ~np.isin(content.keys, [name.encode() for name in names])
    clips = content.clips.select(keep)
    origin = content.origin and content.origin.select(list(clips.clip_id))
    rows, keys = content.rows[is_kept], content.keys[is_kept]
    return replace(content, rows=rows, keys=keys, clips=clips, origin=origin)


def _differing(origin: Origin, model: Mapping[str, object]) -> str:
    """Say in which values two models differ."""
    names = [k for k in {**origin.model, **model} if origin.model.get(k) != model.get(k)]
    seen = ", ".join(f"{k}={origin.model.get(k)!r} (now {model.get(k)!r})" for k in names)
    return f"another one: {seen}"
