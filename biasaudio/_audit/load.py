"""From a store, or a table, to the vectors of each embedding."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any

from biasaudio._validation import did_you_mean, name_some
from biasaudio.datasets import ClipTable, EmbeddingTable
from biasaudio.errors import BiasAudioWarning, DataError, ParameterError
from biasaudio.store import EmbeddingStore

__all__ = ["Source", "fingerprint", "load_tables"]

Source = str | os.PathLike[str] | EmbeddingStore | EmbeddingTable


def load_tables(
    source: Source,
    clips: ClipTable | None,
    *,
    embeddings: Sequence[str] | None,
    datasets: Sequence[str] | None,
    pool: str,
    missing: str,
    unknown: str,
    progress: bool,
) -> dict[str, EmbeddingTable]:
    """Return the table of each embedding.

    Raises
    ------
    ParameterError
        If source or clips are of another type, clips or embeddings are given
        with a table, or a dataset is not in it.
    DataError
        If the datasets have no embedding in common.
    """
    _check_types(source, clips)
    if isinstance(source, EmbeddingTable):
        if clips is not None or embeddings is not None:
            raise ParameterError(
                "clips and embeddings were given with an EmbeddingTable, which has both; leave "
                "them out, or give a store"
            )
        return {source.embedding or "embedding": _of_datasets(source, datasets)}
    store = source if isinstance(source, EmbeddingStore) else EmbeddingStore(source)
    if datasets is None and clips is not None:
        datasets = _datasets_of(clips, store)
    wanted = store.datasets() if datasets is None else datasets
    if not wanted:
        raise ParameterError(f"datasets is empty; choose from {name_some(store.datasets(), 20)}")
    held = [set(store.embeddings(name)) for name in wanted]
    shared = sorted(set.intersection(*held))
    if not shared:
        raise DataError(
            f"{name_some(wanted)} have no embedding in common; choose datasets that do, or "
            "import the missing vectors"
        )
    if embeddings is None:
        embeddings = shared
    if not embeddings:
        raise ParameterError(f"embeddings is empty; choose from {name_some(shared, 20)}")
    return {
        name: store.table(
            name, clips, wanted, pool, missing=missing, unknown=unknown, progress=progress
        )
        for name in dict.fromkeys(embeddings)
    }


def _check_types(source: object, clips: object) -> None:
    if not isinstance(source, (str, os.PathLike, EmbeddingStore, EmbeddingTable)):
        raise ParameterError(
            f"source is a {type(source).__name__}; give the path of a store, an EmbeddingStore or "
            "an EmbeddingTable (store.import_arrays makes a store from arrays)"
        )
    if clips is not None and not isinstance(clips, ClipTable):
        raise ParameterError(
            f"clips is a {type(clips).__name__}; give a ClipTable, such as "
            "datasets.load_manifest(clips) makes from a DataFrame or a file"
        )


def _of_datasets(table: EmbeddingTable, datasets: Sequence[str] | None) -> EmbeddingTable:
    if datasets is None:
        return table
    there = table.clips.datasets
    for name in datasets:
        if name not in there:
            raise ParameterError(
                f"dataset {name!r} is not in the table; choose from {name_some(there, 20)}"
                f"{did_you_mean(name, there)}"
            )
    return table.select([name in datasets for name in table.clips.dataset])


def _datasets_of(clips: ClipTable, store: EmbeddingStore) -> list[str]:
    """Return the datasets that the clips and the store share."""
    there = store.datasets()
    shared = [name for name in clips.datasets if name in there]
    lost = [name for name in clips.datasets if name not in there]
    if not shared:
        raise DataError(
            f"the clips are of {name_some(clips.datasets)}, and {store.path} has "
            f"{name_some(there)}; give clips of the datasets in the store"
        )
    if lost:
        warnings.warn(
            f"{store.path} has no vectors of {name_some(lost)}; the clips are left out",
            BiasAudioWarning,
            stacklevel=4,
        )
    return shared


def fingerprint(source: Source) -> list[dict[str, Any]]:
    """Return path, size and sha256 of the files of a store."""
    if isinstance(source, EmbeddingTable):
        return []
    store = source if isinstance(source, EmbeddingStore) else EmbeddingStore(source)
    return store.fingerprint()
