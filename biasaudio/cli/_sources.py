"""Where ``correct`` gets vectors and columns from: a store, or a file."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from biasaudio.cli._common import note, partial_rule, read_clips
from biasaudio.cli._source import Source, check_classes, is_linear
from biasaudio.errors import DataError, ParameterError

__all__ = ["FileSource", "StoreSource", "open_source"]

TABLES = (".csv", ".parquet")
STORE_ONLY = ("embedding", "datasets", "clips", "openmic", "irmas", "name")


def open_source(
    args: argparse.Namespace,
    *,
    features: Sequence[str] | None = None,
    not_features: Sequence[str] = (),
) -> Any:
    """Return the source that the options name.

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
    from biasaudio.store.readers import SUFFIXES
    from biasaudio.store.schema import SUFFIXES as STORES

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


class FileSource(Source):
    """Read a file of vectors, and write one like it."""

    def __init__(
        self,
        args: argparse.Namespace,
        features: Sequence[str] | None,
        not_features: Sequence[str],
    ) -> None:
        from biasaudio._validation import name_some
        from biasaudio.store.readers import open_vectors

        super().__init__(args)
        for name in STORE_ONLY:
            if getattr(args, name, None):
                raise ParameterError(f"--{name} is for stores, but {args.source} is a file")
        self.file = open_vectors(args.source, features=features, not_features=not_features)
        if self.file.is_guessed:
            names = name_some(self.file.features or [], 9)
            note(args, f"features: {names} (all that are numbers; --features takes others)")
        self.n_clips, self.columns = self.file.n_clips, dict(self.file.columns)
        self.add_columns_from()

    def vectors(self) -> Any:
        """Return one vector a clip."""
        return self.file.clip_vectors()

    def apply(self, transform: Any, *, method: str) -> dict[str, Any]:
        """Write the corrected file, and return what was done."""
        if self.file.frame_clip is not None and not is_linear(transform):
            name = type(transform).__name__
            raise ParameterError(
                f"{self.args.source} holds frames, and {name} is for the mean of a clip's frames, "
                "which is not the mean of changed frames; save one vector a clip as X (n, d)"
            )
        domains = self.domains(transform)
        if self.has("label"):
            check_classes(transform, self.column("label"))

        def change(X: Any, rows: Any) -> Any:
            """Return corrected vectors."""
            return _transform(transform, X, None if domains is None else domains[rows])

        n_rows = self.file.n_rows
        with self.progress(n_rows) as advance:
            overwrite = self.args.overwrite
            self.file.write(self.args.out, change, overwrite=overwrite, advance=advance)
        return {"n_vectors": n_rows}


class StoreSource(Source):
    """Read an embedding of a store, and write another one."""

    def __init__(self, args: argparse.Namespace) -> None:
        from biasaudio.cli.probe import _embedding
        from biasaudio.store import EmbeddingStore

        super().__init__(args)
        self.store = EmbeddingStore(args.source, cache=not args.no_cache)
        self.embedding = _embedding(argparse.Namespace(**vars(args), store=args.source))
        self.datasets = args.datasets or self.store.datasets()
        self.known = read_clips(args)
        if args.action == "fit":
            self._use(self.table.clips)
            self.add_columns_from()

    @cached_property
    def table(self) -> Any:
        """Return the pooled vectors and their clips."""
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
        """Take the columns from these clips."""
        from biasaudio._audit.clips import classes

        self.n_clips = len(clips)
        names = ("dataset", "split", "genre", "group")
        self.columns = {name: clips.labels[name].to_numpy() for name in clips.label_names}
        self.columns |= {name: getattr(clips, name).astype(str) for name in names}
        if clips.label_names:
            self.columns["label"] = classes(clips)

    def vectors(self) -> Any:
        """Return one vector a clip."""
        return self.table.X

    def apply(self, transform: Any, *, method: str) -> dict[str, Any]:
        """Write the corrected embedding, and return what was done."""
        from biasaudio.store.derive import derive_embedding

        name = self.args.name or f"{self.embedding}.{method}"
        if self.args.columns_from:
            raise ParameterError("--columns-from is for files; of a store give --clips")
        if name == self.embedding and not self.args.overwrite:
            raise ParameterError(f"--name {name!r} is what the vectors are called; choose another")

        self._check_classes(transform)
        domains: dict[str, Any] = {}

        def change(X: Any, clips: Any, rows: Any) -> Any:
            """Return corrected vectors."""
            if not transform.domain_aware:
                return _transform(transform, X, None)
            key = " ".join(clips.datasets)
            if key not in domains:
                domains[key] = self._domains_of(transform, clips)
            return _transform(transform, X, domains[key][rows])

        n_rows = sum(self.store.shape(d, self.embedding)[0] for d in self.datasets)
        with self.progress(n_rows) as advance:
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
        """Return what is known of the clips of a dataset, or None."""
        if self.known is None:
            return self.store.clips(dataset)
        return self.known.select(self.known.dataset == dataset)

    def _domains_of(self, transform: Any, clips: Any) -> Any:
        """Return the domain of each of these clips, as --clips says where it is given."""
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
