"""Replace clips of a store: the new vectors wait beside it until all of them are there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from biasaudio.datasets.table import ClipTable
from biasaudio.errors import StoreError
from biasaudio.store.change import Change, apply_changes, settled, writing
from biasaudio.store.clips import merge_clips, stored_clips
from biasaudio.store.content import Origin, read_origin
from biasaudio.store.gathered import Gathered, sort_clips
from biasaudio.store.index import existing, is_alone
from biasaudio.store.parts import PATIENCE, read_sources
from biasaudio.store.schema import part_file, target_file
from biasaudio.store.stream import open_parts

__all__ = ["discard_done", "discard_useless", "put_in_place", "staging_folder"]


def staging_folder(folder: Path, embedding: str) -> Path:
    """Return where new vectors wait: a folder store that no reader of the other one sees."""
    return folder / f".{embedding}.new"


def _discard(staging: Path) -> None:
    with writing(staging, wait=PATIENCE):
        shutil.rmtree(staging, ignore_errors=True)


def discard_useless(folder: Path, embedding: str, model: Mapping[str, Any]) -> None:
    """Remove what waits if another model made it, or it is damaged.

    Parameters
    ----------
    folder : Path
        The store.
    embedding : str
    model : mapping
        As in `Origin`.
    """
    staging = staging_folder(folder, embedding)
    if not staging.is_dir():
        return
    try:
        index = existing(staging)
        origins = [read_origin(file, *pair) for pair, files in index.items() for file in files]
        is_ours = all(each is not None and each.model == model for each in origins)
    except StoreError:
        is_ours = False
    if not is_ours:
        _discard(staging)


def discard_done(folder: Path, embedding: str, model: Mapping[str, Any]) -> None:
    """Remove what a process left that died after all of it was put in place.

    Parameters
    ----------
    folder : Path
        The store.
    embedding : str
    model : mapping
        As in `Origin`.
    """
    staging = staging_folder(folder, embedding)
    if not staging.is_dir():
        return
    with suppress(StoreError), writing(folder, wait=PATIENCE):
        there = _all_sources(folder, embedding, model)
        if _all_sources(staging, embedding, model) <= there:
            _discard(staging)


def _all_sources(
    folder: Path, embedding: str, model: Mapping[str, Any]
) -> set[tuple[str, str, str] | None]:
    """Return dataset, clip and sha256 of all that is there; None for what another model made."""
    found: set[tuple[str, str, str] | None] = set()
    for pair, files in existing(folder).items():
        for file in files if pair[1] == embedding else ():
            sources = read_sources(file, pair, model)
            found |= {None} if sources is None else {(pair[0], *each) for each in sources.items()}
    return found


def put_in_place(folder: Path, embedding: str, model: Mapping[str, Any]) -> None:
    """Let the vectors that wait take the place of those of the same clips in a store.

    What another model made goes as a whole, in each dataset that has anything
    waiting.

    Parameters
    ----------
    folder : Path
        The store.
    embedding : str
    model : mapping
        Which made what waits.

    Raises
    ------
    StoreError
        If a file is damaged or cannot be written; a dataset is changed whole or
        not at all, and what waits is kept.
    """
    staging = staging_folder(folder, embedding)
    if not staging.is_dir():
        return
    with writing(folder, wait=PATIENCE), writing(staging, wait=PATIENCE):
        for pair, staged in existing(staging).items():
            _put(folder, pair, staged, model)
        shutil.rmtree(staging, ignore_errors=True)


def _put(
    folder: Path, pair: tuple[str, str], staged: tuple[Path, ...], model: Mapping[str, Any]
) -> None:
    index = settled(folder)
    files = index.get(pair, ())
    origins = [read_origin(file, *pair) for file in files]
    is_same = all(each is not None and each.model == model for each in origins)
    target = target_file(folder, *pair)
    if target not in files and target.exists():
        target = part_file(folder, *pair)
    with open_parts(files if is_same else (), *pair) as old, open_parts(staged, *pair) as new:
        rows = Gathered(old, newer=new)
        clips = ClipTable.from_columns(rows.names, pair[0])
        for paths in (files, staged):
            known = stored_clips({pair: paths}, pair[0])
            if known is not None:
                clips = merge_clips(clips, known, replace=True, where=str(folder))
        if target not in files or is_alone(index, pair, target):
            # What could not be embedded by this model is no clip of it.
            clips = clips if is_same else clips.select(np.isin(clips.clip_id, rows.names))
        sources = [each.sources for each in origins if each is not None and is_same]
        sources += [each.sources for file in staged if (each := read_origin(file, *pair))]
        known_last = pd.concat(sources).drop_duplicates("clip_id", keep="last")
        content = rows.content(pair, sort_clips(clips), Origin(model, known_last))
        others = [file for file in files if file != target]
        apply_changes(index, [Change(target, content, others)])
