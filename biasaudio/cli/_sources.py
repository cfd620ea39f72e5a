"""Where ``correct`` gets vectors and columns from: a store, or a file."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from biasaudio.cli._common import partial_rule, read_clips
from biasaudio.errors import DataError, ParameterError

__all__ = ["FileSource", "StoreSource", "open_source"]

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
        The columns that a correction was fitted on.
    not_features : sequence of str
        Columns that are used for something else.

    Returns
    -------
    FileSource or StoreSource
    """
    from biasaudio.store.readers import SUFFIXES
    from biasaudio.store.schema import SUFFIXES as STORES

    path = Path(args.source)
    if path.is_dir() or path.suffix.lower() in STORES:
        return StoreSource(args)
    if path.suffix.lower() not in SUFFIXES:
        raise ParameterError(
            f"{path} ends in {path.suffix!r}; give a store ({', '.join(STORES)} or a folder) or a "
            f"file that ends in {', '.join(SUFFIXES)}"
        )
    return FileSource(args, features, not_features)


class _Source:
    """Say what is shared: where columns come from, and how missing ones are named."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.columns: dict[str, Any] = {}
        self.n_clips = 0

    def has(self, name: str) -> bool:
        """Whether there is such a column."""
        return name in self.columns

    def column(self, name: str) -> Any:
        """Return a column, one value a clip."""
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
        from biasaudio.store.readers import read_columns_file

        for name, column in read_columns_file(self.args.columns_from).items():
            if column.ndim and len(column) == self.n_clips:
                # The domains alone are what they are asked for as.
                self.columns[name] = column
            elif name in (self.args.domain, "dataset"):
                raise DataError(
                    f"{self.args.columns_from} has {len(column) if column.ndim else 1} rows, but "
                    f"{self.args.source} has {self.n_clips} clips; give one row a clip, in the "
                    "same order"
                )

    @contextmanager
    def progress(self, total: int) -> Iterator[Any]:
        """Show a bar on stderr, if somebody is there to see it."""
        from tqdm import tqdm

        hide = True if self.args.quiet else None
        with tqdm(total=total, unit=" rows", unit_scale=True, leave=False, disable=hide) as bar:
            yield bar.update

    def domains(self, transform: Any) -> Any:
        """Return the domain of each clip, or None for a correction that does not need it."""
        import numpy as np

        if not transform.domain_aware:
            return None
        found = np.asarray(self.column(self.args.domain))
        self.check_known(found, self.args.domain)
        return found


class FileSource(_Source):
    """Read a file of vectors, and write one like it."""

    def __init__(
        self,
        args: argparse.Namespace,
        features: Sequence[str] | None,
        not_features: Sequence[str],
    ) -> None:
        from biasaudio.store.readers import open_vectors

        super().__init__(args)
        for name in STORE_ONLY:
            if getattr(args, name, None):
                raise ParameterError(f"--{name} is for stores, but {args.source} is a file")
        self.file = open_vectors(args.source, features=features, not_features=not_features)
        self.n_clips, self.columns = self.file.n_clips, dict(self.file.columns)
        self.add_columns_from()

    def vectors(self) -> Any:
        """Return one vector a clip."""
        return self.file.clip_vectors()

    def apply(self, transform: Any, *, method: str) -> dict[str, Any]:
        """Write the corrected file, and return what was done."""
        domains = self.domains(transform)

        def change(X: Any, rows: Any) -> Any:
            """Return corrected vectors."""
            return _transform(transform, X, None if domains is None else domains[rows])

        n_rows = sum(map(len, self.file.vectors.values()))
        with self.progress(n_rows) as advance:
            overwrite = self.args.overwrite
            self.file.write(self.args.out, change, overwrite=overwrite, advance=advance)
        return {"n_vectors": n_rows}


class StoreSource(_Source):
    """Read an embedding of a store, and write another one."""

    def __init__(self, args: argparse.Namespace) -> None:
        from biasaudio.cli.probe import _embedding
        from biasaudio.store import EmbeddingStore

        super().__init__(args)
        self.store = EmbeddingStore(args.source)
        self.embedding = _embedding(argparse.Namespace(**vars(args), store=args.source))
        self.datasets = args.datasets or self.store.datasets()
        self.known = read_clips(args)
        if args.action == "fit":
            self._use(self.table.clips)
            self.add_columns_from()

    @cached_property
    def table(self) -> Any:
        """Return the pooled vectors and their clips."""
        from biasaudio._audit.load import load_tables

        rule = partial_rule(self.args)
        return load_tables(
            self.store,
            self.known,
            embeddings=[self.embedding],
            datasets=self.args.datasets,
            pool="mean",
            missing=rule,
            unknown=rule,
            progress=not self.args.quiet,
        )[self.embedding]

    def _use(self, clips: Any) -> None:
        """Take the columns from these clips."""
        from biasaudio._audit.labels import classes

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
                # The mean of linearly corrected frames is the corrected mean; no other is.
                pool=not hasattr(transform, "affine_") and not hasattr(transform, "affines_"),
                overwrite=self.args.overwrite,
                advance=advance,
            )
        return {"n_vectors": n_rows, "embedding": name, "datasets": list(self.datasets)}

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
