"""Merge the files of a store: in place (compact), or into one file (export)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from biasaudio._validation import name_some
from biasaudio.datasets.table import ClipTable
from biasaudio.errors import ParameterError
from biasaudio.store.change import Change, apply_changes, settled, write_file, writing
from biasaudio.store.clips import stored_clips
from biasaudio.store.content import Origin, read_origin
from biasaudio.store.gathered import Gathered, sort_clips
from biasaudio.store.index import Index, index_now, is_alone
from biasaudio.store.reader import EmbeddingStore
from biasaudio.store.replace import replacing
from biasaudio.store.schema import SUFFIXES, is_part, target_file
from biasaudio.store.stream import open_parts

__all__ = ["compact_store", "export_store"]


def compact_store(
    path: str | os.PathLike[str],
    *,
    embedding: str | None = None,
    advance: Callable[[int], object] = lambda _: None,
) -> list[Path]:
    """Merge the parts of each embedding of a folder store into one file.

    The clips of the new file are in the order of their ids, so the same clips
    give the same bytes however they came in.

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
                target = target_file(path, *pair)
                target = target if target in mine or not target.exists() else mine[0]
                _merge(index, pair, mine, target, advance)
                written.append(target)
    return written


def _merge(
    index: Index,
    pair: tuple[str, str],
    files: Sequence[Path],
    target: Path,
    advance: Callable[[int], object],
) -> None:
    with ExitStack() as stack:
        parts = stack.enter_context(open_parts(files, *pair))
        rows = Gathered(parts, advance)
        clips = stored_clips({pair: tuple(files)}, pair[0])
        known = ClipTable.from_columns(rows.names, pair[0]) if clips is None else clips
        origin = Origin.concat([read_origin(file, *pair) for file in files])
        content = rows.content(pair, sort_clips(known), origin)
        others = [file for file in files if file != target]
        apply_changes(index, [Change(target, content, others)])


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
        If ``out`` is there and ``overwrite`` is False, has another suffix, or a
        name is not in the store.
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
    index = index_now(path)
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
    with writing(out), replacing([out]) as partials, ExitStack() as stack:
        contents = []
        for pair in chosen:
            rows = Gathered(stack.enter_context(open_parts(index[pair], *pair)), advance)
            clips = stored_clips(index, pair[0])
            known = ClipTable.from_columns(rows.names, pair[0]) if clips is None else clips
            origin = Origin.concat([read_origin(file, *pair) for file in index[pair]])
            contents.append(rows.content(pair, sort_clips(known), origin))
        write_file(partials[out], contents)
    return out


def _is_chosen(
    pair: tuple[str, str], datasets: Sequence[str] | None, embeddings: Sequence[str] | None
) -> bool:
    return (datasets is None or pair[0] in datasets) and (
        embeddings is None or pair[1] in embeddings
    )
