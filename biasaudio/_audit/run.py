"""The public function: store and clips in, `AuditResult` out."""

from __future__ import annotations

import os
import platform
import warnings
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

from biasaudio._audit.measure import measure_probes
from biasaudio._audit.prepare import Prepared, prepare
from biasaudio._parallel import check_n_jobs
from biasaudio._validation import check_choice, name_some
from biasaudio.datasets import ClipTable, EmbeddingTable
from biasaudio.errors import BiasAudioWarning, DataError, ParameterError
from biasaudio.probes.scaling import has_units
from biasaudio.results import AuditResult
from biasaudio.store import EmbeddingStore
from biasaudio.transfer import MODES, PROTOCOLS, compare, evaluate, measure_drops, resample
from biasaudio.transforms.methods import METHODS, Method, check_methods

__all__ = ["audit"]

_PACKAGES = ("numpy", "scipy", "scikit-learn", "pandas", "h5py", "librosa")


def audit(
    source: str | os.PathLike[str] | EmbeddingStore | EmbeddingTable,
    *,
    clips: ClipTable | None = None,
    embeddings: Sequence[str] | None = None,
    datasets: Sequence[str] | None = None,
    labels: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    protocol: str = "default",
    modes: Sequence[str] = ("global",),
    pool: str = "mean",
    missing: str = "raise",
    unknown: str = "raise",
    n_permutations: int = 200,
    n_resamples: int = 1000,
    random_state: int = 0,
    n_jobs: int = 1,
    progress: bool = False,
    meta: Mapping[str, Any] | None = None,
) -> AuditResult:
    """Measure dataset and genre bias, and transfer, before and after corrections.

    Parameters
    ----------
    source : path-like, EmbeddingStore or EmbeddingTable
        A store, or one table of vectors and clips.
    clips : ClipTable, optional
        What is known about the clips; default what the store holds.
    embeddings, datasets, labels : sequence of str, optional
        Which to take; default all that the datasets share.
    methods : sequence of str, optional
        Corrections in `biasaudio.transforms.METHODS`; default all that the
        clips allow.
    protocol : {"default", "wang2023"}
        See `biasaudio.transfer.evaluate`.
    modes : sequence of {"global", "classwise"}
        What each correction is fitted on.
    pool : {"mean", "max", "std", "mean+std"}
        From frames to clips.
    missing, unknown : {"raise", "drop"}
        What to do about clips without vectors, and vectors without clips.
    n_permutations, n_resamples : int
        For p-values of probes, and for all intervals.
    random_state : int
    n_jobs : int
        Processes; -1 for all cores.  The numbers do not depend on it.
    progress : bool
        Show progress bars on stderr.
    meta : mapping, optional
        Anything to be kept in ``AuditResult.meta``, such as the command.

    Returns
    -------
    AuditResult

    Raises
    ------
    ParameterError
        If an option is not allowed.
    DataError
        If there is nothing to compare, or vectors and clips do not match.
    StoreError
        If the store is missing or damaged.

    Examples
    --------
    >>> from biasaudio.datasets.synthetic import make_domains
    >>> table, _ = make_domains(n=300, d=8, n_labels=2, random_state=0)
    >>> result = audit(table, methods=["leace"], n_permutations=20, n_resamples=50)
    >>> sorted(set(result.transfer["method"]))
    ['leace', 'original']
    """
    check_choice(protocol, "protocol", tuple(PROTOCOLS))
    for mode in modes:
        check_choice(mode, "mode", MODES)
    check_n_jobs(n_jobs)
    chosen = check_methods(list(METHODS) if methods is None else methods)
    options = {"missing": missing, "unknown": unknown}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BiasAudioWarning)
        tables = _load(source, clips, embeddings, datasets, pool, options, progress)
        first = next(iter(tables.values()))
        prepared = prepare(first, labels=labels, protocol=protocol, seed=random_state)
        usable = prepared.usable(chosen, asked=methods is not None)
        rows: dict[str, list[dict[str, Any]]] = {
            "distribution": _records(prepared.clips.distribution(by=("dataset", "genre"))),
            "dropped": _dropped(prepared.clips),
            "methods": [method.card() for method in usable],
        }
        study = _Study(
            prepared,
            usable,
            protocol,
            tuple(modes),
            n_permutations,
            n_resamples,
            random_state,
            n_jobs,
            progress,
        )
        for name, table in tables.items():
            for key, found in study.run(name, table).items():
                rows.setdefault(key, []).extend(found)
    about = {
        "title": "Bias audit of " + name_some(tables, 5).replace("'", ""),
        "protocol": protocol,
        "seed": random_state,
        "command": "",
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": _versions(),
        "files": _fingerprint(source),
        "embeddings": list(tables),
        "datasets": prepared.clips.datasets,
        "labels": prepared.clips.label_names,
        "config": {
            "modes": list(modes),
            "pool": pool,
            "n_permutations": n_permutations,
            "n_resamples": n_resamples,
            "scaling": study.scaling,
        },
        "notes": prepared.notes,
        "warnings": _messages(caught),
        "excluded": prepared.excluded,
        "synthetic": False,
    }
    return AuditResult.from_rows(rows, {**about, **(meta or {})})


class _Study:
    """Everything that is measured, embedding by embedding, on the same clips."""

    def __init__(
        self,
        prepared: Prepared,
        methods: Sequence[Method],
        protocol: str,
        modes: tuple[str, ...],
        n_permutations: int,
        n_resamples: int,
        seed: int,
        n_jobs: int,
        progress: bool,
    ) -> None:
        self.prepared, self.methods = prepared, methods
        self.protocol, self.modes = protocol, modes
        self.n_permutations, self.n_resamples = n_permutations, n_resamples
        self.seed, self.n_jobs, self.progress = seed, n_jobs, progress
        self.scaling: dict[str, str] = {}

    def run(self, name: str, table: EmbeddingTable) -> dict[str, list[dict[str, Any]]]:
        """Return the rows of one embedding."""
        X = self.prepared.vectors(table)
        self.scaling[name] = "each feature" if has_units(X) else "common"
        measured = measure_probes(
            X,
            self.prepared,
            self.methods,
            embedding=name,
            n_permutations=self.n_permutations,
            n_resamples=self.n_resamples,
            random_state=self.seed,
            n_jobs=self.n_jobs,
            progress=self.progress,
        )
        self.prepared.excluded.extend(measured.excluded)
        rows = {"probes": measured.probes, "probe_values": measured.values}
        if not self.prepared.has_transfer:
            return rows
        bar = f"{name}: transfer" if self.progress else None
        result = evaluate(
            self.prepared.task(X),
            methods=[method.name for method in self.methods],
            protocol=self.protocol,
            modes=self.modes,
            n_jobs=self.n_jobs,
            random_state=self.seed,
            progress=bar,
        )
        curves = resample(
            result,
            n_resamples=self.n_resamples,
            random_state=self.seed,
            n_jobs=self.n_jobs,
            progress=bar and f"{name}: intervals",
        )
        rows["transfer"] = [{"embedding": name, **row} for row in result.rows()]
        for key, found in (
            ("comparisons", compare(result, curves=curves)),
            ("drops", measure_drops(curves)),
        ):
            rows[key] = [{"embedding": name, **vars(one)} for one in found]
        return rows


def _load(
    source: str | os.PathLike[str] | EmbeddingStore | EmbeddingTable,
    clips: ClipTable | None,
    embeddings: Sequence[str] | None,
    datasets: Sequence[str] | None,
    pool: str,
    options: dict[str, str],
    progress: bool,
) -> dict[str, EmbeddingTable]:
    """Return the table of each embedding."""
    if isinstance(source, EmbeddingTable):
        if clips is not None or embeddings is not None:
            raise ParameterError(
                "clips and embeddings were given with an EmbeddingTable, which has both; leave "
                "them out, or give a store"
            )
        table = source
        if datasets is not None:
            table = table.select([name in datasets for name in table.clips.dataset])
        return {table.embedding or "embedding": table}
    store = source if isinstance(source, EmbeddingStore) else EmbeddingStore(source)
    if datasets is None and clips is not None:
        datasets = [name for name in store.datasets() if name in clips.datasets]
    wanted = datasets or store.datasets()
    if embeddings is None:
        held = [set(store.embeddings(name)) for name in wanted]
        embeddings = sorted(set.intersection(*held))
    if not embeddings:
        raise DataError(
            f"{name_some(wanted)} have no embedding in common; choose datasets that do, or import "
            "the missing vectors"
        )
    return {
        name: store.table(name, clips, wanted, pool, progress=progress, **options)
        for name in dict.fromkeys(embeddings)
    }


def _records(frame: Any) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]


def _dropped(clips: ClipTable) -> list[dict[str, Any]]:
    """Return how many clips were left out, for each dataset and reason."""
    rows = []
    for (dataset, reason), part in clips.dropped.groupby(["dataset", "reason"], sort=True):
        examples = name_some(part["clip_id"], 2)
        rows.append({"dataset": dataset, "reason": reason, "n": len(part), "examples": examples})
    return rows


def _fingerprint(source: Any) -> list[dict[str, Any]]:
    if isinstance(source, EmbeddingTable):
        return []
    store = source if isinstance(source, EmbeddingStore) else EmbeddingStore(source)
    return store.fingerprint()


def _messages(caught: Sequence[warnings.WarningMessage]) -> list[str]:
    """Return our own warnings once each; all others go on to the caller."""
    for one in caught:
        if not issubclass(one.category, BiasAudioWarning):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    ours = (str(one.message) for one in caught if issubclass(one.category, BiasAudioWarning))
    return list(dict.fromkeys(ours))


def _versions() -> dict[str, str]:
    versions = {"biasaudio": version("biasaudio"), "python": platform.python_version()}
    return versions | {name: version(name) for name in _PACKAGES}
