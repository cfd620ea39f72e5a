"""Add to a store, whole or not at all: arrays, labels, and clips while they are computed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from biasaudio._validation import check_features, check_name, name_some
from biasaudio.datasets.table import ClipTable
from biasaudio.errors import DataError, ParameterError, StoreError
from biasaudio.store.clips import known_clips, merge_clips
from biasaudio.store.file import (
    CLIPS,
    Frames,
    Origin,
    check_finite,
    is_file_path,
    member,
    name_clips,
    not_finite,
    open_file,
)
from biasaudio.store.output import Vectors, copying, crcs_of, encode, write_file
from biasaudio.store.parts import Pair, Parts, clean, new_part, read_parts, write_parts, writing
from biasaudio.store.reader import (
    EmbeddingStore,
    Snapshot,
    held_by,
    live,
    look,
    open_parts,
    snapshot,
    steadily,
)

__all__ = [
    "Appender",
    "add_vectors",
    "commit",
    "derive_embedding",
    "import_arrays",
    "relabel",
    "vectors_of",
    "waiting",
]

# Another writer may merge or import for minutes.
PATIENCE = 600.0
_Array = NDArray[Any]

# ------------------------------------------------------------------ arrays


def import_arrays(
    path: str | os.PathLike[str],
    X: ArrayLike,
    clip: ArrayLike,
    *,
    dataset: str | ArrayLike,
    embedding: str = "embedding",
    split: str | ArrayLike = "",
    genre: str | ArrayLike = "",
    group: str | ArrayLike = "",
    label: ArrayLike | None = None,
    labels: pd.DataFrame | Mapping[str, ArrayLike] | None = None,
    mask: pd.DataFrame | Mapping[str, ArrayLike] | None = None,
    frame_clip: ArrayLike | None = None,
    overwrite: bool = False,
) -> Path:
    """Add the vectors of one embedding to a store, and what the clips are.

    Parameters
    ----------
    path : path-like
        An HDF5 file (``.h5``, ``.hdf5``; written anew with more in it, so the old
        file stays whole until the new one is), else a folder, to which one file
        is added.
    X : array_like [shape=(n_clips, d) or (n_frames, d)]
        Vectors, stored as float32.
    clip : array_like of str [shape=(n_clips,)]
        Ids of the clips, unique within a dataset.
    dataset : str or array_like of str [shape=(n_clips,)]
        Several datasets become several groups.
    embedding : str
        The name of the embedding.
    split, genre, group, label, labels, mask
        What is known of the clips; see `ClipTable.from_columns`.
    frame_clip : array_like of int [shape=(n_frames,)], optional
        If given, X holds frames, and this is the row of ``clip`` of each.
    overwrite : bool
        Replace the embedding where it exists, and let what is said of a clip
        here replace what the store says.

    Returns
    -------
    Path
        Of the store.

    Raises
    ------
    ParameterError
        If the embedding exists and ``overwrite`` is False, or a name is not
        allowed.
    DataError
        If lengths differ, ids are repeated, vectors have NaN or Inf, clips
        have no frames, or the clips contradict the store.
    StoreError
        If the file that is there is not a store, or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = import_arrays(folder + "/demo.h5", [[1.0], [2.0]], ["a", "b"], dataset="demo")
    ...     path.name
    'demo.h5'
    """
    clips = ClipTable.from_columns(
        clip, dataset, split=split, genre=genre, group=group, label=label, labels=labels, mask=mask
    )
    vectors = vectors_of(X, clips, embedding, frame_clip)
    tables = {each.dataset: clips.select(clips.dataset == each.dataset) for each in vectors}
    return add_vectors(Path(path), vectors, tables, overwrite=overwrite)


def vectors_of(
    X: ArrayLike, clips: ClipTable, embedding: str, frame_clip: ArrayLike | None = None
) -> list[Vectors]:
    """Vectors of each dataset of ``clips``, checked; see `import_arrays`."""
    check_name(embedding, "embedding")
    for name in clips.datasets:
        check_name(name, "dataset")
    array, owner = _check_vectors(X, clips, frame_clip)
    keys, found = encode(clips.clip_id), []
    for name in clips.datasets:
        rows = np.flatnonzero((clips.dataset == name)[owner])
        block = array if len(rows) == len(array) else array[rows]
        found.append(Vectors(name, embedding, keys[owner[rows]], [block]))
    return found


def _check_vectors(
    X: ArrayLike, clips: ClipTable, frame_clip: ArrayLike | None
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    array = np.asarray(X)
    owner = np.arange(len(clips)) if frame_clip is None else _check_owner(frame_clip, clips)
    if array.ndim == 2 and len(array) != len(owner):
        what, way = ("clip ids", "a clip, or frames with frame_clip")
        if frame_clip is not None:
            what, way = ("values of frame_clip", "a value of frame_clip")
        raise DataError(
            f"X has {len(array)} rows, but there are {len(owner)} {what}; give one row {way}"
        )
    if array.dtype.kind in "fiub" and array.ndim == 2:
        # float64 beyond the range of float32 becomes Inf, which is named below.
        with np.errstate(over="ignore"):
            array = array.astype(np.float32, copy=False)
        wrong = check_finite(array)
        if wrong is not None:
            bad = np.unique(owner[wrong])
            raise DataError(
                f"X has NaN or Inf in {bad.size} of {len(clips)} clips: "
                f"{name_some(clips.clip_id[bad])}; remove these clips or compute them again"
            )
        if array.size:
            return array, owner
    return check_features(array).astype(np.float32, copy=False), owner


def _check_owner(frame_clip: ArrayLike, clips: ClipTable) -> NDArray[np.intp]:
    owner = np.asarray(frame_clip)
    n = len(clips)
    if owner.ndim != 1 or owner.dtype.kind not in "iu":
        raise DataError(
            f"frame_clip has shape {owner.shape} and dtype {owner.dtype}; "
            "give one whole number a frame, the row of its clip"
        )
    outside = owner[(owner < 0) | (owner >= n)]
    if outside.size:
        raise DataError(
            f"frame_clip holds {outside[0]}, but there are {n} clips; give rows from 0 to {n - 1}"
        )
    without = clips.clip_id[np.bincount(owner.astype(np.intp), minlength=n) == 0]
    if without.size:
        raise DataError(
            f"{without.size} clip(s) have no frame: {name_some(without)}; "
            "remove these clips or add their frames"
        )
    return owner.astype(np.intp)


def add_vectors(
    path: Path,
    vectors: Sequence[Vectors],
    clips: Mapping[str, ClipTable],
    *,
    overwrite: bool,
    advance: Callable[[int], object] = lambda _: None,
) -> Path:
    """Add vectors that were checked, and what is known of their clips, in one commit."""
    pairs = [each.pair for each in vectors]
    with writing(path):
        now = look(path, may_be_missing=True)
        for dataset, embedding in pairs:
            if (dataset, embedding) in now.index and not overwrite:
                raise already_there(embedding, dataset, now.index[dataset, embedding])
        tables = {
            dataset: _merge_stored(now, dataset, table, pairs, overwrite)
            for dataset, table in clips.items()
        }
        commit(now, vectors, tables, replaced=pairs, advance=advance)
    return path


def already_there(embedding: str, dataset: str, files: Iterable[Path]) -> ParameterError:
    """The error that an embedding is in a store and shall not be replaced."""
    return ParameterError(
        f"embedding {embedding!r} of dataset {dataset!r} is already in "
        f"{name_some(map(str, files))}; choose another name, or pass overwrite=True to replace it"
    )


def _merge_stored(
    now: Snapshot, dataset: str, new: ClipTable, pairs: Sequence[Pair], overwrite: bool
) -> ClipTable:
    """The clip table that a dataset has from now on."""
    others = [pair for pair in now.index if pair[0] == dataset and pair not in pairs]
    # What the store says stays, unless what is replaced was all that it held of the dataset.
    if not others:
        return new
    where = f"{now.path} (which overwrite=True replaces)"
    return merge_clips(_all_clips(now, dataset, others), new, replace=overwrite, where=where)


def _all_clips(now: Snapshot, dataset: str, pairs: Iterable[Pair]) -> ClipTable:
    """The clip table of a dataset; a published file has none, so it is made of the keys."""
    table = now.clips(dataset)
    if table is not None:
        return table
    names: dict[str, None] = {}
    for pair in pairs:
        names |= names_of(now.index[pair], pair)
    return ClipTable.from_columns(list(names), dataset)


def names_of(files: Sequence[Path], pair: Pair) -> dict[str, None]:
    """Clips of an embedding, each once, in the order of the files."""
    with open_parts(files, pair) as parts:
        return dict.fromkeys(name for frames in parts for name in frames.keys.names)


def commit(
    now: Snapshot,
    vectors: Sequence[Vectors],
    tables: Mapping[str, ClipTable],
    *,
    replaced: Iterable[Pair] = (),
    advance: Callable[[int], object] = lambda _: None,
) -> Path:
    """Write one file, and let the store be what it was before with this in it.

    Parameters
    ----------
    now : Snapshot
        Of the store, whose lock must be held.
    vectors : sequence of Vectors
    tables : mapping of str to ClipTable
        Each is all that counts of its dataset from now on.
    replaced : iterable of (dataset, embedding)
        What counts no longer.
    advance : callable

    Returns
    -------
    Path
        Of the file.
    """
    if is_file_path(now.path):
        _extend(now, vectors, tables, advance)
        return now.path
    target = write_part(now, vectors, tables, advance=advance)
    for pair in replaced:
        for file in now.index.get(pair, ()):
            now.parts.hide(file.name, *pair)
    publish_part(now, target, tables)
    return target


def write_part(
    now: Snapshot,
    vectors: Sequence[Vectors],
    tables: Mapping[str, ClipTable],
    *,
    advance: Callable[[int], object] = lambda _: None,
) -> Path:
    """Write a file that no list names yet."""
    target = new_part(now.path)
    if not now.parts.is_listed:
        # Without a list, readers would take each new file for a part of the store.
        write_parts(now.path, now.parts)
    clean(now.path, now.parts)
    write_file(target, vectors, tables, advance=advance)
    return target


def publish_part(
    now: Snapshot, target: Path, tables: Iterable[str], *, behind: str | None = None
) -> None:
    """List a file that was written, whose clip tables take the place of all others.

    Parameters
    ----------
    now : Snapshot
    target : Path
    tables : iterable of str
        Datasets.
    behind : str, optional
        A file of the list that it is to follow; by default it comes last.
    """
    parts = now.parts
    parts.files.insert(
        len(parts.files) if behind is None else parts.files.index(behind) + 1, target.name
    )
    for dataset in tables:
        for file in now.tables.get(dataset, ()):
            parts.hide(file.name, dataset, CLIPS)
    for name in [name for name in parts.files if name in parts.hidden]:
        pairs, held = held_by(now.path / name)
        parts.drop_hidden(name, list(pairs), list(held))
    write_parts(now.path, parts)


def _extend(
    now: Snapshot,
    vectors: Sequence[Vectors],
    tables: Mapping[str, ClipTable],
    advance: Callable[[int], object],
) -> None:
    """Write a file anew with more in it; other chunks are copied as they are."""
    path, pairs = now.path, [each.pair for each in vectors]
    if not path.exists():
        write_file(path, vectors, tables, advance=advance)
        return
    with open_file(path) as old:
        for pair in pairs:
            _check_room(old, path, pair, now)
        copied = {}
        for pair in now.index:
            frames = None if pair in pairs else Frames(old, path, *pair)
            # A file of another program has no sums that a copy could be compared with.
            if frames is not None and frames.crcs() is None:
                copied[pair] = crcs_of(frames)
        copy = copying(path, old, pairs, tables)
        write_file(path, vectors, tables, copy=copy, copied=copied, advance=advance)


def _check_room(old: h5py.File, path: Path, pair: Pair, now: Snapshot) -> None:
    above = member(old, pair[0], path)
    is_array = above is not None and not isinstance(above, h5py.Group)
    if is_array or (above is not None and pair not in now.index and pair[1] in above):
        raise StoreError(
            f"{path} has something else than vectors at /{pair[0]}/{pair[1]} or above it; "
            "choose another name"
        )


def relabel(
    path: str | os.PathLike[str], clips: ClipTable, *, overwrite: bool = False, wait: float = 10.0
) -> list[Path]:
    """Fill what the clip tables of a store leave open.

    A folder gets a part that holds clip tables only; a file is written anew.

    Parameters
    ----------
    path : path-like
        The store.
    clips : ClipTable
        Of any datasets; datasets and clips that the store does not have are passed over.
    overwrite : bool
        Whether ``clips`` wins where both say something else.
    wait : float
        Seconds to wait for another writer.

    Returns
    -------
    list of Path
        The file that was written, if any was.

    Raises
    ------
    DataError
        If the tables contradict each other and ``overwrite`` is False.
    StoreError
        If a file is damaged or cannot be written; then nothing was changed.
    """
    path = Path(path)
    EmbeddingStore(path)
    with writing(path, wait=wait):
        now = look(path)
        if path.is_dir():
            clean(path, now.parts)
        tables = _relabelled(now, clips, overwrite)
        return [commit(now, [], tables)] if tables else []


def _relabelled(now: Snapshot, clips: ClipTable, overwrite: bool) -> dict[str, ClipTable]:
    """New clip tables of the datasets whose table does not say it all already."""
    tables = {}
    for dataset in set(clips.datasets) & set(now.datasets):
        new = clips if clips.datasets == [dataset] else clips.select(clips.dataset == dataset)
        old = _all_clips(now, dataset, [pair for pair in now.index if pair[0] == dataset])
        if not new.frame.index.equals(old.frame.index):
            new = new.select(np.flatnonzero(new.frame.index.isin(old.frame.index)))
        # A label that none of these clips is annotated for says nothing here.
        said = [name for name in new.label_names if new.mask[name].any()]
        new = new if said == new.label_names else new.with_labels(said)
        merged = merge_clips(old, new, replace=overwrite, where=str(now.path))
        if any(not getattr(old, k).equals(getattr(merged, k)) for k in ("frame", "labels", "mask")):
            tables[dataset] = merged
    return tables


# ------------------------------------------------------------------ one embedding from another


def derive_embedding(
    source: EmbeddingStore,
    path: str | os.PathLike[str],
    change: Callable[[_Array, ClipTable, NDArray[np.intp]], _Array],
    *,
    embedding: str,
    name: str,
    datasets: Sequence[str],
    pool: bool = False,
    overwrite: bool = False,
    advance: Callable[[int], object] = lambda _: None,
) -> Path:
    """Write an embedding whose rows are a function of those of another one.

    Rows are read, changed and written in blocks.

    Parameters
    ----------
    source : EmbeddingStore
    path : path-like
        Of the store to be written or added to, which may be the source.
    change : callable
        From rows (m, d), the clips, and the row of each one's clip in them
        (m,), to new rows (m, d').
    embedding, name : str
        What is read, and what the new one is called.
    datasets : sequence of str
    pool : bool
        Change and write the mean of each clip's frames, not the frames.
    overwrite : bool
        Replace an embedding of this name in the store.
    advance : callable
        Told how many rows were done.

    Returns
    -------
    Path
        Of the store.

    Raises
    ------
    ParameterError
        If the embedding is there and ``overwrite`` is False.
    StoreError
        If a file is damaged, or cannot be written.
    DataError
        If a row has NaN or Inf.
    """
    path = Path(path)
    check_name(name, "embedding")
    there = steadily(path, lambda now: now.index, may_be_missing=True)
    for dataset in datasets:
        if (dataset, name) in there and not overwrite:
            raise already_there(name, dataset, there[dataset, name])
    if pool:
        table = source.table(embedding, datasets=datasets)
        X = change(table.X, table.clips, np.arange(len(table.X)))
        advance(len(X))
        tables = {each: table.clips.select(table.clips.dataset == each) for each in datasets}
        vectors = vectors_of(X, table.clips, name)
        return add_vectors(path, vectors, tables, overwrite=overwrite)

    def write(now: Snapshot) -> Path:
        with ExitStack() as stack:
            vectors, tables = [], {}
            for dataset in datasets:
                pair = (dataset, embedding)
                parts = stack.enter_context(open_parts(now.of(*pair), pair))
                kept = live(parts, is_listed=now.parts.is_listed)
                names = np.concatenate([p.keys.names[keep] for p, keep in zip(parts, kept)])
                clips = known_clips(now.clips(dataset), names, dataset)
                rows = _changed(parts, kept, clips, change)
                keys = gathered_keys(parts, kept)
                vectors.append(Vectors(dataset, name, keys, rows))
                tables[dataset] = clips
            return add_vectors(path, vectors, tables, overwrite=overwrite, advance=advance)

    return steadily(source.path, write)


def gathered_keys(parts: Sequence[Frames], kept: Sequence[NDArray[np.bool_]]) -> NDArray[np.bytes_]:
    """Clip of each row that counts, over all parts."""
    found = [
        encode(each.keys.names)[each.keys.codes[keep[each.keys.codes]]]
        for each, keep in zip(parts, kept, strict=True)
    ]
    width = max(each.dtype.itemsize for each in found)
    return np.concatenate([each.astype(f"S{width}", copy=False) for each in found])


def _changed(
    parts: Sequence[Frames],
    kept: Sequence[NDArray[np.bool_]],
    clips: ClipTable,
    change: Callable[[_Array, ClipTable, NDArray[np.intp]], _Array],
) -> Iterator[_Array]:
    """New rows, a block at a time."""
    for frames, keep in zip(parts, kept, strict=True):
        owner = clips.frame.index.get_indexer(pd.Index(frames.keys.names, dtype=object))
        for start, X in frames.blocks():
            codes = frames.keys.codes[start : start + len(X)]
            mask = keep[codes]
            here, rows = owner[codes[mask]], X[mask]
            if not len(rows):
                continue
            bad = check_finite(rows)
            if bad is not None:
                names = name_clips(clips.clip_id[here[bad]])
                raise not_finite(frames, f"{bad.sum()} rows, of {names}")
            with np.errstate(over="ignore"):
                new = np.ascontiguousarray(change(rows, clips, here), dtype=np.float32)
            bad = check_finite(new)
            if bad is not None:
                raise DataError(
                    f"the corrected vectors have NaN or Inf in {bad.sum()} rows, of "
                    f"{name_clips(clips.clip_id[here[bad]])}; leave these clips out or fit another "
                    "correction"
                )
            yield new


# ------------------------------------------------------------------ clips while they are computed


class Appender:
    """Clips that are added while they are computed, by several processes at the same time.

    Parameters
    ----------
    folder : path-like
        The store, made if it is not there.
    embedding : str
    model : mapping
        What made the vectors, as in `Origin`.
    staged : bool
        Whether the clips wait until `publish`, and then take the place of what is
        there.

    Raises
    ------
    ParameterError
        If the store is a file, or has vectors of this name that another model made.
    StoreError
        If the store is damaged or cannot be written.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        embedding: str,
        model: Mapping[str, Any],
        *,
        staged: bool = False,
    ) -> None:
        self.folder, self.embedding, self.model = Path(folder), embedding, dict(model)
        self.staged = staged
        self._seen: dict[tuple[str, str], dict[str, str]] = {}
        check_name(embedding, "embedding")
        if is_file_path(self.folder):
            raise ParameterError(
                f"{folder} is a file, but a store that survives interruption grows by files in a "
                "folder; give a folder, and make one file of it with 'biasaudio store export'"
            )
        # Where nothing can be written, that is known before anything is computed.
        with writing(self.folder, wait=PATIENCE):
            parts = read_parts(self.folder, may_be_missing=True)
            if not parts.is_listed:
                write_parts(self.folder, parts)
            clean(self.folder, parts)
            if staged:
                self._discard_others(parts)
            now = self._mine()
            for pair in now.index:
                if pair[1] == embedding:
                    self._present(now, pair[0])

    def _discard_others(self, parts: Parts) -> None:
        """Forget what waits if another model made it, or it is damaged."""
        try:
            now = snapshot(self.folder, Parts(parts.staged.get(self.embedding, [])))
            is_ours = all(
                _origin_of(file, pair) == self.model
                for pair, files in now.index.items()
                for file in files
            )
        except (StoreError, FileNotFoundError):
            is_ours = False
        if not is_ours:
            parts.staged.pop(self.embedding, None)
            write_parts(self.folder, parts)

    def _mine(self) -> Snapshot:
        parts = read_parts(self.folder, may_be_missing=True)
        if self.staged:
            parts = Parts(parts.staged.get(self.embedding, []))
        return snapshot(self.folder, parts)

    def present(self, dataset: str) -> dict[str, str]:
        """Clips that are there, and the sha256 of the audio of each.

        Parameters
        ----------
        dataset : str

        Returns
        -------
        dict
            Of what waits, if the clips are staged.

        Raises
        ------
        ParameterError
            If another model has made vectors of this name meanwhile.
        """
        for _ in range(10):
            try:
                return self._present(self._mine(), dataset)
            except FileNotFoundError:
                continue  # It was merged.
        return self._present(self._mine(), dataset)

    def _present(self, now: Snapshot, dataset: str) -> dict[str, str]:
        found: dict[str, str] = {}
        pair = (dataset, self.embedding)
        for file in now.index.get(pair, ()):
            # Parts never change, and no two have had one name.
            if (file.name, dataset) not in self._seen:
                self._seen[file.name, dataset] = self._read(file, pair)
            found |= self._seen[file.name, dataset]
        return found

    def _read(self, file: Path, pair: Pair) -> dict[str, str]:
        with open_file(file) as handle:
            frames = Frames(handle, file, *pair)
            origin = frames.origin()
            if origin is None or origin.model != self.model:
                raise self._made_otherwise(file, pair, origin)
            found = dict.fromkeys(frames.keys.names.tolist(), "")
        known = dict(zip(origin.sources["clip_id"], origin.sources["sha256"], strict=True))
        return {name: known.get(name, "") for name in found}

    def _made_otherwise(self, file: Path, pair: Pair, origin: Origin | None) -> ParameterError:
        made = "is not known"
        if origin is not None:
            model = origin.model
            names = [k for k in {**model, **self.model} if model.get(k) != self.model.get(k)]
            seen = ", ".join(f"{k}={model.get(k)!r} (now {self.model.get(k)!r})" for k in names)
            made = f"is another one: {seen}"
        return ParameterError(
            f"embedding {pair[1]!r} of dataset {pair[0]!r} is in {file} already, and the "
            f"model that made it {made}; choose another name with embedding=..., or pass "
            "overwrite=True to replace it (all datasets of the store that have it, as one "
            "embedding is of one model)"
        )

    def add(
        self,
        dataset: str,
        vectors: Mapping[str, _Array],
        source: pd.DataFrame,
        clips: ClipTable,
    ) -> list[str]:
        """Commit clips: when this returns, they are on disk.

        Parameters
        ----------
        dataset : str
        vectors : mapping of str to np.ndarray [shape=(k, d)]
            Rows of each clip.
        source : pd.DataFrame
            Columns clip_id, path and sha256 of the audio, one row per clip.
        clips : ClipTable
            What is known of these clips.

        Returns
        -------
        list of str
            Clips that another process has added in the meantime; these are left
            as they are.

        Raises
        ------
        DataError
            If vectors have NaN or Inf, or their widths differ.
        StoreError
            If the disk is full, or the store is locked for ten minutes.
        """
        check_name(dataset, "dataset")
        with writing(self.folder, wait=PATIENCE):
            there = self.present(dataset)
            new = [name for name in vectors if name not in there]
            if new:
                self._add(dataset, {name: vectors[name] for name in new}, source, clips)
        return [name for name in vectors if name in there]

    def _add(
        self, dataset: str, vectors: Mapping[str, _Array], source: pd.DataFrame, clips: ClipTable
    ) -> None:
        arrays = [np.asarray(each, np.float32) for each in vectors.values()]
        if len({each.shape[1:] for each in arrays}) > 1 or arrays[0].ndim != 2:
            raise DataError(f"vectors of {dataset!r} have different shapes; give (k, d) per clip")
        keys = encode(list(vectors)).repeat([len(each) for each in arrays])
        source = source[source["clip_id"].isin(list(vectors))]
        given = Vectors(dataset, self.embedding, keys, [np.concatenate(arrays)], self.model, source)
        table = known_clips(clips, np.array(list(vectors), dtype=object), dataset)
        now = look(self.folder, may_be_missing=True)
        target = write_part(now, [given], {dataset: table})
        if self.staged:
            now.parts.staged.setdefault(self.embedding, []).append(target.name)
        else:
            now.parts.files.append(target.name)
        write_parts(self.folder, now.parts)

    def publish(self, *, replace_labels: bool = True) -> None:
        """Let what waits take the place of what is there, in one step.

        Of the same model, clips take the place of clips; what another model made goes
        as a whole, in each dataset that has anything waiting.

        Parameters
        ----------
        replace_labels : bool
            Whether what is said of clips now wins over what the store says.
        """
        with writing(self.folder, wait=PATIENCE):
            now = look(self.folder, may_be_missing=True)
            names = now.parts.staged.pop(self.embedding, [])
            if not names:
                return
            new = snapshot(self.folder, Parts(names))
            tables = {}
            for pair in new.index:
                old = now.index.get(pair, [])
                is_same = all(_origin_of(file, pair) == self.model for file in old)
                for file in () if is_same else old:
                    now.parts.hide(file.name, *pair)
                tables[pair[0]] = _published_clips(now, new, pair, is_same, replace_labels)
            # Before anything is written, as what is not listed is removed.
            now.parts.files.extend(names)
            target = write_part(now, [], tables)
            for dataset, files in new.tables.items():
                now.tables.setdefault(dataset, []).extend(files)
            publish_part(now, target, tables)


def _origin_of(file: Path, pair: Pair) -> Mapping[str, Any] | None:
    with open_file(file) as handle:
        origin = Frames(handle, file, *pair).origin()
    return None if origin is None else origin.model


def _published_clips(
    now: Snapshot, new: Snapshot, pair: Pair, is_same: bool, replace: bool
) -> ClipTable:
    """The clip table of a dataset once new vectors are in place."""
    table, old = new.clips(pair[0]), now.clips(pair[0])
    if table is None or old is None:
        table = table or old or _all_clips(new, pair[0], [pair])
    else:
        table = merge_clips(old, table, replace=replace, where=str(now.path))
    others = [each for each in now.index if each[0] == pair[0] and each != pair]
    if is_same or others:
        return table
    # What could not be embedded by this model is no clip of it.
    names = names_of(new.index[pair], pair)
    return known_clips(table, np.array(list(names), dtype=object), pair[0])


def waiting(path: str | os.PathLike[str]) -> list[str]:
    """Embeddings of a folder store whose new vectors wait to be put in place."""
    folder = Path(path)
    if is_file_path(folder):
        return []
    return sorted(read_parts(folder, may_be_missing=True).staged)
