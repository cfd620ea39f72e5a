"""Merge the files of a store: in place (compact), or into one file (export)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain, count
from pathlib import Path

import numpy as np

from biasaudio._validation import name_some
from biasaudio.datasets.table import ClipTable
from biasaudio.errors import ParameterError
from biasaudio.store.blocks import BlockTable, digests_of_whole
from biasaudio.store.change import Change, apply_changes, settled, write_file, writing
from biasaudio.store.clips import stored_clips
from biasaudio.store.content import Content, Origin, read_origin
from biasaudio.store.gathered import Gathered, sort_clips
from biasaudio.store.index import Index, index_now, is_alone, read_steadily
from biasaudio.store.reader import EmbeddingStore
from biasaudio.store.replace import replacing
from biasaudio.store.schema import SUFFIXES, is_part, list_files, target_file
from biasaudio.store.seal import read_seal
from biasaudio.store.stream import open_parts

__all__ = ["compact_store", "export_store"]


def compact_store(
    path: str | os.PathLike[str],
    *,
    embedding: str | None = None,
    advance: Callable[[int], object] = lambda _: None,
) -> list[Path]:
    """Merge the parts of each embedding of a folder store into one file.

    The clips of the new file are in the order of their ids, however they came in.

    Parameters
    ----------
    path : path-like
        A folder; of a file nothing is to be merged.
    embedding : str, optional
        By default all of them.
    advance : callable
        Told how many frames were written.

    Returns
    -------
    list of Path
        The files that were written.

    Raises
    ------
    StoreError
        If a file is damaged or cannot be written, or another process writes.
    """
    path = Path(path)
    written: list[Path] = []
    if not path.is_dir():
        EmbeddingStore(path)
        return written
    with writing(path):
        index = settled(path)
        for pair, files in index.items():
            mine = [file for file in files if is_alone(index, pair, file)]
            is_merged = len(mine) < 2 and not any(map(is_part, mine))
            if (embedding is None or pair[1] == embedding) and not is_merged:
                target = _free_target(path, pair, mine)
                with ExitStack() as stack:
                    content = _content({pair: tuple(mine)}, pair, stack, advance)
                    others = [file for file in mine if file != target]
                    apply_changes(index, [Change(target, content, others)])
                written.append(target)
    return written


def _free_target(path: Path, pair: tuple[str, str], mine: Sequence[Path]) -> Path:
    """Return the file that parts are merged into: one of them, or a new one."""
    target = target_file(path, *pair)
    # "a.b" of "c" and "a" of "b.c" would have one name.
    names = (target.with_suffix(f".{k}.h5") for k in count(2))
    return next(each for each in chain([target], names) if each in mine or not each.exists())


def _content(
    index: Index,
    pair: tuple[str, str],
    stack: ExitStack,
    advance: Callable[[int], object],
    clips: ClipTable | None = None,
) -> Content:
    """Return all that these files hold of an embedding, in the order of the clips' names."""
    files = index[pair]
    rows = Gathered(stack.enter_context(open_parts(files, *pair)), advance)
    clips = stored_clips(index, pair[0]) if clips is None else clips
    known = ClipTable.from_columns(rows.names, pair[0]) if clips is None else clips
    origin = Origin.concat([read_origin(file, *pair) for file in files])
    content = rows.content(pair, sort_clips(known), origin)
    sealed = [seal.vectors for file in files if (seal := read_seal(file)) is not None]
    known_digests: dict[str, str] = {}
    for vectors in sealed:
        known_digests |= digests_of_whole(vectors.get(content.where, BlockTable()))
    return replace(content, sha256=known_digests)


def export_store(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    datasets: Sequence[str] | None = None,
    embeddings: Sequence[str] | None = None,
    overwrite: bool = False,
    advance: Callable[[int], object] = lambda _: None,
) -> Path:
    """Write a store to one file, in the layout of the published ``embeddings.h5``.

    Parameters
    ----------
    path : path-like
        A file or a folder.
    out : path-like
        Ends in ``.h5`` or ``.hdf5``.
    datasets, embeddings : sequence of str, optional
        By default all.
    overwrite : bool
        Replace the file that is there.
    advance : callable
        Told how many frames were written.

    Returns
    -------
    Path
        Of the file.

    Raises
    ------
    ParameterError
        If ``out`` is there and ``overwrite`` is False, has another suffix, is part
        of the store, or a name is not in the store.
    StoreError
        If a file is damaged or cannot be written.
    """
    path, out = Path(path), Path(out)
    if out.suffix.lower() not in SUFFIXES or out.is_dir():
        raise ParameterError(f"{out} is not a name of one file; give one that ends in .h5")
    if out.exists() and not overwrite:
        raise ParameterError(
            f"{out} is already there; choose another name, or pass overwrite=True to replace it"
        )

    is_mine = any(out.resolve() == file.resolve() for file in list_files(path))
    if is_mine or (path.is_dir() and out.resolve().parent == path.resolve()):
        raise ParameterError(f"{out} is part of the store itself; give a name outside of {path}")

    def write(index: Index) -> Path:
        chosen = _choose(index, path, datasets, embeddings)
        tables = {name: _exported(index, name, chosen) for name, _ in chosen}
        with replacing([out]) as partials, ExitStack() as stack:
            contents = [_content(index, pair, stack, advance, tables[pair[0]]) for pair in chosen]
            write_file(partials[out], contents)
        return out

    _choose(index_now(path), path, datasets, embeddings)
    with writing(out):
        return read_steadily(path, write)


def _exported(index: Index, dataset: str, chosen: Sequence[tuple[str, str]]) -> ClipTable:
    """Return what is known of the clips of a dataset that have vectors in what was chosen."""
    names: dict[str, None] = {}
    for pair in chosen:
        if pair[0] == dataset:
            with open_parts(index[pair], *pair) as parts:
                for frames in parts:
                    names |= dict.fromkeys(frames.read_keys().names)
    known = stored_clips(index, dataset)
    if known is None:
        return ClipTable.from_columns(list(names), dataset)
    held = known.select(np.isin(known.clip_id.astype(str), list(names)))
    others = sorted(set(names) - set(held.clip_id))
    more = [ClipTable.from_columns(others, dataset)] if others else []
    return ClipTable.concat([held, *more])


def _choose(
    index: Index, path: Path, datasets: Sequence[str] | None, embeddings: Sequence[str] | None
) -> list[tuple[str, str]]:
    """Return what of a store was asked for."""
    for k, (names, what) in enumerate([(datasets, "dataset"), (embeddings, "embedding")]):
        there = list(dict.fromkeys(pair[k] for pair in index))
        missing = [name for name in names or () if name not in there]
        if missing:
            raise ParameterError(
                f"{what} {name_some(missing)} is not in {path}; choose from {name_some(there, 20)}"
            )
    chosen = [pair for pair in index if _is_chosen(pair, datasets, embeddings)]
    if not chosen:
        raise ParameterError(f"no dataset of {path} has these embeddings; choose others")
    return chosen


def _is_chosen(
    pair: tuple[str, str], datasets: Sequence[str] | None, embeddings: Sequence[str] | None
) -> bool:
    return (datasets is None or pair[0] in datasets) and (
        embeddings is None or pair[1] in embeddings
    )
