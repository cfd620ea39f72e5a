"""Where ``correct`` gets vectors and columns from: a store, or a file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from biasaudio.cli._common import note, only_embedding, partial_rule, progress, read_clips
from biasaudio.errors import DataError, ParameterError

__all__ = ["FileSource", "Source", "StoreSource", "open_source"]

TABLES = (".csv", ".parquet")
STORE_ONLY = ("embedding", "datasets", "clips", "openmic", "irmas", "name")


def open_source(
    args: argparse.Namespace,
    *,
    features: Sequence[str] | None = None,
    not_features: Sequence[str] = (),
) -> Any:
    """Source that the options name.

    Parameters
    ----------
    args : argparse.Namespace
    features : sequence of str, optional
        The columns that a correction was, or is to be, fitted on.
    not_features : sequence of str
        Columns that are used for something else.

    Returns
    -------
    FileSource or StoreSource
    """
    from biasaudio.store import SUFFIXES as STORES
    from biasaudio.store import VECTOR_SUFFIXES as SUFFIXES

    path = Path(args.source)
    is_store = path.is_dir() or path.suffix.lower() in STORES
    if args.features and (is_store or path.suffix.lower() not in TABLES):
        raise ParameterError(f"--features is for {' and '.join(TABLES)} files, not for {path}")
    if is_store:
        return StoreSource(args)
    if path.suffix.lower() not in SUFFIXES:
        raise ParameterError(
            f"{path} ends in {path.suffix!r}; give a store ({', '.join(STORES)} or a folder) or a "
            f"file that ends in {', '.join(SUFFIXES)}"
        )
    return FileSource(args, features, not_features)


class Source:
    """Columns of the clips, and errors that name a missing one."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.columns: dict[str, Any] = {}
        self.n_clips = 0

    def has(self, name: str) -> bool:
        """Whether there is such a column."""
        return name in self.columns

    def column(self, name: str) -> Any:
        """Column with one value per clip."""
        from biasaudio._validation import did_you_mean, name_some

        if name not in self.columns:
            held = name_some(self.columns, 10) or "none"
            raise ParameterError(
                f"{self.args.source} has no column {name!r}, only {held}"
                f"{did_you_mean(name, self.columns)}; name another one with --domain or --column, "
                "or give a file with --columns-from"
            )
        return self.columns[name]

    def check_known(self, values: Any, name: str) -> None:
        """Refuse clips whose domain is blank."""
        import numpy as np

        blank = np.flatnonzero(np.asarray(values).astype(str) == "")
        if blank.size:
            raise DataError(
                f"column {name!r} is blank for {blank.size} of {len(values)} clips, first in row "
                f"{blank[0]}; fill it in or leave these clips out"
            )

    def add_columns_from(self) -> None:
        """Add the columns of the file that was given beside the source."""
        if self.args.columns_from is None:
            return
        from biasaudio.store import read_columns_file

        for name, column in read_columns_file(self.args.columns_from).items():
            if column.ndim and len(column) == self.n_clips:
                # The domains alone are what they are asked for as.
                self.columns[name] = column
            elif name in (self.args.domain, "dataset"):
                raise DataError(
                    f"{self.args.columns_from} has {len(column) if column.ndim else 1} rows, but "
                    f"{self.args.source} has {self.n_clips} clips; give one row per clip, in the "
                    "same order"
                )

    def domains(self, transform: Any) -> Any:
        """Domain of each clip, or None for a correction that does not need it."""
        import numpy as np

        if not transform.domain_aware:
            return None
        found = np.asarray(self.column(self.args.domain))
        self.check_known(found, self.args.domain)
        return found


class FileSource(Source):
    """File of vectors; corrected, it becomes a file of the same kind."""

    def __init__(
        self,
        args: argparse.Namespace,
        features: Sequence[str] | None,
        not_features: Sequence[str],
    ) -> None:
        from biasaudio._validation import name_some
        from biasaudio.store import read_vectors

        super().__init__(args)
        for name in STORE_ONLY:
            if getattr(args, name, None):
                raise ParameterError(f"--{name} is for stores, but {args.source} is a file")
        self.file = read_vectors(args.source, features=features, not_features=not_features)
        if self.file.is_guessed:
            names = name_some(self.file.features or [], 9)
            note(args, f"features: {names} (all that are numbers; --features takes others)")
        self.n_clips, self.columns = self.file.n_clips, dict(self.file.columns)
        self.add_columns_from()

    def vectors(self) -> Any:
        """One vector per clip."""
        return self.file.clip_vectors()

    def apply(self, transform: Any, *, method: str) -> dict[str, Any]:
        """Write the corrected file; what was done, for --json."""
        if self.file.frame_clip is not None and not is_linear(transform):
            name = type(transform).__name__
            raise ParameterError(
                f"{self.args.source} holds frames, and {name} is for the mean of a clip's frames, "
                "which is not the mean of changed frames; save one vector per clip as X (n, d)"
            )
        domains = self.domains(transform)
        if self.has("label"):
            check_classes(transform, self.column("label"))

        def change(X: Any, rows: Any) -> Any:
            return _transform(transform, X, None if domains is None else domains[rows])

        n_rows = self.file.n_rows
        with progress(self.args, "correcting", " rows", n_rows) as advance:
            overwrite = self.args.overwrite
            self.file.write(self.args.out, change, overwrite=overwrite, advance=advance)
        return {"n_vectors": n_rows}


class StoreSource(Source):
    """Embedding of a store; corrected, it becomes another embedding."""

    def __init__(self, args: argparse.Namespace) -> None:
        from biasaudio.store import EmbeddingStore

        super().__init__(args)
        self.store = EmbeddingStore(args.source, cache=not args.no_cache)
        self.embedding = only_embedding(args, args.source)
        self.datasets = args.datasets or self.store.datasets()
        self.known = read_clips(args)
        if args.action == "fit":
            self._use(self.table.clips)
            self.add_columns_from()

    @cached_property
    def table(self) -> Any:
        """Pooled vectors and their clips."""
        from biasaudio._audit.clips import load_tables

        rule = partial_rule(self.args)
        return load_tables(
            self.store,
            self.known,
            embeddings=[self.embedding],
            datasets=self.args.datasets,
            pool="mean",
            missing=rule,
            unknown=rule,
            progress=not self.args.quiet and sys.stderr.isatty(),
        )[self.embedding]

    def _use(self, clips: Any) -> None:
        """Columns from these clips."""
        from biasaudio._audit.clips import classes

        self.n_clips = len(clips)
        names = ("dataset", "split", "genre", "group")
        self.columns = {name: clips.labels[name].to_numpy() for name in clips.label_names}
        self.columns |= {name: getattr(clips, name).astype(str) for name in names}
        if clips.label_names:
            self.columns["label"] = classes(clips)

    def vectors(self) -> Any:
        """One vector per clip."""
        return self.table.X

    def apply(self, transform: Any, *, method: str) -> dict[str, Any]:
        """Write the corrected embedding; what was done, for --json."""
        from biasaudio.store import derive_embedding

        name = self.args.name or f"{self.embedding}.{method}"
        if self.args.columns_from:
            raise ParameterError("--columns-from is for files; of a store give --clips")
        if name == self.embedding and not self.args.overwrite:
            raise ParameterError(f"--name {name!r} is what the vectors are called; choose another")

        self._check_classes(transform)
        domains: dict[str, Any] = {}

        def change(X: Any, clips: Any, rows: Any) -> Any:
            if not transform.domain_aware:
                return _transform(transform, X, None)
            key = " ".join(clips.datasets)
            if key not in domains:
                domains[key] = self._domains_of(transform, clips)
            return _transform(transform, X, domains[key][rows])

        n_rows = sum(self.store.shape(d, self.embedding)[0] for d in self.datasets)
        with progress(self.args, "correcting", " rows", n_rows) as advance:
            derive_embedding(
                self.store,
                self.args.out,
                change,
                embedding=self.embedding,
                name=name,
                datasets=self.datasets,
                pool=not is_linear(transform),
                overwrite=self.args.overwrite,
                advance=advance,
            )
        return {"n_vectors": n_rows, "embedding": name, "datasets": list(self.datasets)}

    def _check_classes(self, transform: Any) -> None:
        """Warn of classes that the correction was not fitted on, where clips say theirs."""
        from biasaudio._audit.clips import classes
        from biasaudio.datasets import ClipTable

        if not hasattr(transform, "check_classes"):
            return
        parts = [self._clips_of(dataset) for dataset in self.datasets]
        found = [clips for clips in parts if clips is not None and clips.label_names]
        if found:
            check_classes(transform, classes(ClipTable.concat(found)))

    def _clips_of(self, dataset: str) -> Any:
        """What is known of the clips of a dataset, or None."""
        if self.known is None:
            return self.store.clips(dataset)
        return self.known.select(self.known.dataset == dataset)

    def _domains_of(self, transform: Any, clips: Any) -> Any:
        """Domain of each of these clips, as --clips says where it is given."""
        if self.known is not None:
            from biasaudio.datasets import ClipTable

            parts = []
            for dataset in clips.datasets:
                wanted = clips.select(clips.dataset == dataset)
                here = self.known.select(self.known.dataset == dataset)
                at = here.frame.index.get_indexer(list(wanted.clip_id))
                if (at < 0).any():
                    lost = wanted.clip_id[at < 0]
                    raise DataError(
                        f"{len(lost)} clip(s) of {dataset!r} are not among those given, such as "
                        f"{lost[0]!r}; add them, as their domain is needed"
                    )
                parts.append(here.select(at))
            clips = ClipTable.concat(parts)
        self._use(clips)
        return self.domains(transform)


def _transform(transform: Any, X: Any, domain: Any) -> Any:
    from biasaudio.transforms.methods import apply_correction

    return apply_correction(transform, X, domain)


def check_classes(transform: Any, label: Any) -> None:
    """Warn if some of the labels are classes that the correction was not fitted on."""
    import numpy as np
    import pandas as pd

    if not hasattr(transform, "check_classes"):
        return
    label = np.asarray(label)
    if label.ndim == 2:
        # Columns go by their number, as in fit.
        transform.check_classes(np.flatnonzero(label.any(axis=0)))
    else:
        transform.check_classes(pd.Series(label).dropna().astype(str).unique())


def is_linear(transform: Any) -> bool:
    """Whether the mean of corrected frames is the corrected mean; of other maps it is not."""
    return hasattr(transform, "affine_") or hasattr(transform, "affines_")
