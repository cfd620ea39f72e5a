"""Bring the clip tables of a store up to date with what is known of its clips now."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from biasaudio.datasets.table import ClipTable
from biasaudio.store.change import settled, writing
from biasaudio.store.clips import merge_clips, read_clips, write_clips
from biasaudio.store.frames import open_frames
from biasaudio.store.index import Index
from biasaudio.store.opening import open_store_file
from biasaudio.store.output import open_output
from biasaudio.store.replace import replacing
from biasaudio.store.sealing import append_seal, copy_sealed

__all__ = ["relabel"]


def relabel(path: Path, clips: ClipTable, *, replace: bool, wait: float = 10.0) -> list[Path]:
    """Fill what the clip tables of a store leave open, in every file that has the clips.

    Parameters
    ----------
    path : Path
        The store.
    clips : ClipTable
        Of any datasets; those that the store does not have are passed over.
    replace : bool
        Whether ``clips`` wins where both say something else.
    wait : float
        Seconds to wait for another writer.

    Returns
    -------
    list of Path
        The files that were changed.

    Raises
    ------
    DataError
        If the tables contradict each other and ``replace`` is False.
    StoreError
        If a file is damaged or cannot be written; then nothing was changed.
    """
    with writing(path, wait=wait):
        index = settled(path)
        changed: dict[Path, list[ClipTable]] = {}
        for dataset in clips.datasets:
            new = clips.select(clips.dataset == dataset)
            files = [file for pair, held in index.items() if pair[0] == dataset for file in held]
            for file in dict.fromkeys(files):
                table = _updated(index, file, new, replace)
                if table is not None:
                    changed.setdefault(file, []).append(table)
        with replacing(changed) as partials:
            for file, tables in changed.items():
                blocks = copy_sealed(file, partials[file])
                with open_output(partials[file]) as out:
                    for table in tables:
                        write_clips(out.handle, table.datasets[0], table)
                append_seal(partials[file], blocks)
    return list(changed)


def _updated(index: Index, file: Path, new: ClipTable, replace: bool) -> ClipTable | None:
    """Return the new clip table of a file, or None if it says all already."""
    dataset = new.datasets[0]
    with open_store_file(file) as handle:
        old = read_clips(handle, file, dataset)
    if old is None:
        pairs = [pair for pair, held in index.items() if pair[0] == dataset and file in held]
        names: dict[str, None] = {}
        for pair in pairs:
            with open_frames(file, *pair) as frames:
                names |= dict.fromkeys(frames.read_keys().names)
        old = ClipTable.from_columns(np.array(list(names), dtype=object), dataset)
    here = new.select(np.isin(new.clip_id.astype(str), old.clip_id.astype(str)))
    # A label that none of these clips is annotated for says nothing here.
    here = here.with_labels([name for name in here.label_names if here.mask[name].any()])
    merged = merge_clips(old, here, replace=replace, where=str(file))
    is_same = all(
        getattr(old, part).equals(getattr(merged, part)) for part in ("frame", "labels", "mask")
    )
    return None if is_same else merged
