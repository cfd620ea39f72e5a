"""Take out of a store what is damaged, and keep it beside."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from biasaudio._text import csv_safe
from biasaudio.datasets.table import ClipTable
from biasaudio.errors import StoreError
from biasaudio.store.cache import clear_cache
from biasaudio.store.change import remove_files, write_file, writing
from biasaudio.store.check import Check, check_store, find_leftovers, merge_tables
from biasaudio.store.clips import encode
from biasaudio.store.content import Content, Origin
from biasaudio.store.inspected import Inspected, Part
from biasaudio.store.inspection import open_rows
from biasaudio.store.replace import replacing, sync_folder
from biasaudio.store.schema import SUFFIXES, is_file_path, list_files, store_files

__all__ = ["TAKEN", "Repair", "repair_store"]

QUARANTINE = "quarantine"
PATIENCE = 10.0
TAKEN = "taken_out.csv"


@dataclass(frozen=True)
class Repair:
    """Say what was done to a store.

    Parameters
    ----------
    before : Check
    after : Check or None
        None where nothing of the store is left.
    quarantine : Path or None
        The folder with the files as they were, those that others have taken the
        place of, and a table of what was taken out; None where there was neither.
    rewritten : list of Path
        Files that have the clips that are right.
    removed : list of Path
        Files of which nothing could be kept, and what dead processes had left;
        all that holds finished vectors is in ``quarantine``.
    """

    before: Check
    after: Check | None
    quarantine: Path | None
    rewritten: list[Path]
    removed: list[Path]


def repair_store(
    path: str | os.PathLike[str], *, advance: Callable[[int], object] = lambda _: None
) -> Repair:
    """Take what is damaged out of a store; each file is as it was, or has its good clips.

    Nothing is lost.  A file with a fault goes as it is into a folder beside the
    store, with a table of the faults, and a new file with all clips that are right
    takes its place.  That is ``quarantine/<n>`` in a store that is a folder, and
    ``<name>.quarantine/<n>`` beside a file; readers never look there.

    Parameters
    ----------
    path : path-like
    advance : callable
        Told how many bytes were read; each file is read twice.

    Returns
    -------
    Repair

    Raises
    ------
    StoreError
        If another process writes to the store, or a file cannot be written.

    See Also
    --------
    check_store : Says what would be taken out.

    Notes
    -----
    Only clips whose vectors are damaged, or not finite, lose them.  Keys, clip
    tables and sources that are damaged are those of the seal again, as are vectors
    behind damaged headers.  Of a clip in two files the one in the first file by
    name stays, and where clip tables contradict each other the first is right.
    Vectors without a row in the clip table get one that says nothing; rows without
    vectors go.  What other programs have put into a file that is written anew is
    in the old file only.
    """
    path = Path(path)
    list_files(path)
    with writing(path, wait=PATIENCE):
        before = check_store(path, advance=advance)
        found = [each.path for each in before.leftovers]
        replaced = [each for each in found if each.suffix.lower() in SUFFIXES]
        kept, tables = _kept(before), merge_tables(before.inspected)
        bad = [each for each in before.inspected if _is_bad(each, kept)]
        quarantine = _quarantine(before, bad, replaced) if bad or replaced else None
        _remove(replaced)
        rewritten, removed = [], []
        for each in bad:
            if any(set(part.names) - part.bad for part in each.parts.values()):
                _rewrite(each, tables, kept)
                rewritten.append(each.path)
            else:
                _remove([each.path])
                removed.append(each.path)
        # Looked for late, as others may have begun to write single files of the folder.
        leftovers = [each.path for each in find_leftovers(path, is_ours=True)]
        _remove(leftovers)
        removed += [*leftovers, *replaced]
        is_left = path.is_file() or bool(store_files(path))
        after = check_store(path, advance=advance) if is_left else None
    return Repair(before, after, quarantine, rewritten, removed)


def _kept(check: Check) -> dict[str, set[str]]:
    """Return which clips of each dataset have vectors that stay."""
    kept: dict[str, set[str]] = {}
    for each in check.inspected:
        for (dataset, _), part in each.parts.items():
            kept.setdefault(dataset, set()).update(set(part.names) - part.bad)
    return kept


def _is_bad(each: Inspected, kept: dict[str, set[str]]) -> bool:
    ids = ((dataset, set(table.clip_id)) for dataset, table in each.tables.items())
    return bool(each.faults) or any(names - kept.get(dataset, set()) for dataset, names in ids)


def _quarantine(check: Check, bad: Sequence[Inspected], replaced: Sequence[Path]) -> Path:
    """Keep files as they are beside the store, with a table of their faults."""
    path = check.path
    # What a damaged file has taken the place of may be all that is left of a clip.
    files = [*(each.path for each in bad), *replaced]
    is_file = is_file_path(path)
    folder = path.with_name(f"{path.name}.{QUARANTINE}") if is_file else path / QUARANTINE
    n = 1
    while (folder / str(n)).exists():
        n += 1
    folder = folder / str(n)
    try:
        folder.mkdir(parents=True)
        for file in files:
            _keep(file, folder / file.name)
        rows = [
            (fault.file.name, fault.dataset, fault.embedding, fault.clip, fault.what)
            for fault in check.faults
        ]
        names = ["file", "dataset", "embedding", "clip", "why"]
        csv_safe(pd.DataFrame(rows, columns=names)).to_csv(folder / TAKEN, index=False)
        sync_folder(folder)
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written ({error.strerror or error}); nothing was changed, so "
            "check the disk space and the permissions"
        ) from error
    return folder


def _keep(file: Path, target: Path) -> None:
    if not file.is_file():
        os.replace(file, target)
        return
    try:
        os.link(file, target)
    except OSError:
        # Some file systems have no second names of a file.
        shutil.copy2(file, target)


def _rewrite(each: Inspected, tables: dict[str, ClipTable], kept: dict[str, set[str]]) -> None:
    names = {dataset: _clips_of(each, dataset, tables, kept) for dataset, _ in each.parts}
    with replacing([each.path]) as partials, ExitStack() as stack:
        contents = []
        for pair, part in each.parts.items():
            if set(part.names) - part.bad:
                vectors = stack.enter_context(open_rows(each, pair))
                contents.append(_content(pair, part, vectors, names[pair[0]]))
        write_file(partials[each.path], contents)
    clear_cache(each.path)


def _clips_of(
    each: Inspected, dataset: str, tables: dict[str, ClipTable], kept: dict[str, set[str]]
) -> ClipTable:
    """Return what the file is to say of the clips of a dataset."""
    held = [
        name
        for pair, part in each.parts.items()
        for name in part.names
        if pair[0] == dataset and name not in part.bad
    ]
    held = list(dict.fromkeys(held))
    if dataset not in tables:
        return ClipTable.from_columns(held, dataset)
    mine = set(each.tables[dataset].clip_id) if dataset in each.tables else set()
    ids = tables[dataset].clip_id
    wanted = (mine | set(held)) & kept[dataset]
    known = tables[dataset].select(np.isin(ids.astype(str), list(wanted)))
    new = sorted(set(held) - set(ids))
    return ClipTable.concat([known, ClipTable.from_columns(new, dataset)]) if new else known


def _content(pair: tuple[str, str], part: Part, vectors: object, clips: ClipTable) -> Content:
    is_kept = np.array([name not in part.bad for name in part.names])
    rows = np.flatnonzero(is_kept[part.codes])
    keys = encode(np.array(part.names, dtype=object))[part.codes[rows]]
    names = [name for name in part.names if name not in part.bad]
    origin = part.origin
    if origin is not None:
        sources = origin.sources.drop_duplicates("clip_id").set_index("clip_id")
        origin = Origin(origin.model, sources.reindex(names, fill_value="").reset_index())
    return Content(*pair, vectors, rows, keys, clips, origin)


def _remove(paths: Sequence[Path]) -> None:
    for path in paths:
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                remove_files([path])
        except OSError as error:
            raise StoreError(
                f"{path} cannot be removed ({error.strerror or error}); check the permissions, "
                "close it in other programs, and repair again"
            ) from error
