"""The public function: store and clips in, `AuditResult` out."""

from __future__ import annotations

import json
import platform
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from typing import Any

import numpy as np

from biasaudio._audit.clips import (
    Prepared,
    Source,
    fingerprint,
    load_tables,
    prepare,
    usable_methods,
)
from biasaudio._audit.measure import measure_probes
from biasaudio._parallel import check_n_jobs
from biasaudio._validation import as_list, as_seed, check_choice, check_count, name_some
from biasaudio.datasets import ClipTable, EmbeddingTable
from biasaudio.errors import BiasAudioWarning, ParameterError
from biasaudio.probes.ridge import has_units
from biasaudio.results import AuditResult
from biasaudio.transfer import (
    MODES,
    PROTOCOLS,
    Task,
    compare,
    evaluate,
    measure_drops,
    resample,
)
from biasaudio.transforms.methods import DEFAULT, Method, check_methods

__all__ = ["audit"]

_PACKAGES = ("numpy", "scipy", "scikit-learn", "pandas", "h5py", "librosa")


def audit(
    source: Source,
    *,
    clips: ClipTable | None = None,
    embeddings: str | Sequence[str] | None = None,
    datasets: str | Sequence[str] | None = None,
    labels: str | Sequence[str] | None = None,
    methods: str | Sequence[str] | None = None,
    protocol: str = "default",
    modes: str | Sequence[str] = ("global",),
    pool: str = "mean",
    split: str = "given",
    missing: str = "raise",
    unknown: str = "raise",
    n_permutations: int = 200,
    n_resamples: int = 1000,
    random_state: int | np.random.Generator | None = 0,
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
        Corrections in `biasaudio.transforms.METHODS`; default those with
        ``is_default`` that the clips allow.
    protocol : {"default", "wang2023"}
        See `biasaudio.transfer.evaluate`.
    modes : sequence of {"global", "classwise"}
        What each correction is fitted on.
    pool : {"mean", "max", "std", "mean+std"}
        From frames to clips.
    split : {"given", "drawn"}
        The datasets' own, drawn where there is none; or drawn for all.
    missing, unknown : {"raise", "drop"}
        What to do about clips without vectors, and vectors without clips.
    n_permutations, n_resamples : int
        For p-values of probes, and for all intervals.
    random_state : int, np.random.Generator or None
        The number that was taken or drawn is kept in ``meta["seed"]``.
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
    seed = as_seed(random_state)
    options = _Options(
        protocol, tuple(as_list(modes)), n_permutations, n_resamples, seed, n_jobs, progress
    )
    chosen = check_methods(DEFAULT if methods is None else as_list(methods))
    extra = _plain(meta or {})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BiasAudioWarning)
        tables = load_tables(
            source,
            clips,
            embeddings=None if embeddings is None else as_list(embeddings),
            datasets=None if datasets is None else as_list(datasets),
            pool=pool,
            missing=missing,
            unknown=unknown,
            progress=progress,
        )
        first = next(iter(tables.values()))
        prepared = prepare(first, labels=labels, protocol=protocol, split=split, seed=seed)
        usable = usable_methods(
            prepared, chosen, asked=methods is not None, modes=options.modes, protocol=protocol
        )
        study = _Study(prepared, usable, options)
        for name, table in tables.items():
            study.run(name, table)
    about = study.about()
    about["config"] |= {"pool": pool, "split": split}
    about |= {"files": fingerprint(source), "warnings": _messages(caught), **extra}
    return AuditResult.from_rows(study.rows, about)


@dataclass(frozen=True)
class _Options:
    """What is measured and how; refuses what would only fail minutes later."""

    protocol: str
    modes: tuple[str, ...]
    n_permutations: int
    n_resamples: int
    random_state: int
    n_jobs: int
    progress: bool

    def __post_init__(self) -> None:
        check_choice(self.protocol, "protocol", tuple(PROTOCOLS))
        if not self.modes:
            raise ParameterError(f"modes is empty; give one or both of {', '.join(MODES)}")
        for mode in self.modes:
            check_choice(mode, "modes", MODES)
        check_count(self.n_permutations, "n_permutations", 0)
        check_count(self.n_resamples, "n_resamples", 1)
        check_n_jobs(self.n_jobs)


class _Study:
    """Everything that is measured, embedding by embedding, on the same clips."""

    def __init__(self, prepared: Prepared, methods: Sequence[Method], options: _Options) -> None:
        self.prepared, self.methods, self.options = prepared, methods, options
        self.scaling: dict[str, str] = {}
        clips = prepared.clips
        self.rows: dict[str, list[dict[str, Any]]] = {
            "distribution": _records(clips.distribution(by=("dataset", "genre"))),
            "dropped": _dropped(clips),
            "methods": [method.card() for method in methods],
        }

    def run(self, name: str, table: EmbeddingTable) -> None:
        """Add the rows of one embedding."""
        X = self.prepared.vectors(table)
        self.scaling[name] = "each feature" if has_units(X) else "common"
        options = self.options
        measured = measure_probes(
            X,
            self.prepared,
            self.methods,
            embedding=name,
            compat="wang2023" if options.protocol == "wang2023" else None,
            n_permutations=options.n_permutations,
            n_resamples=options.n_resamples,
            random_state=options.random_state,
            n_jobs=options.n_jobs,
            progress=options.progress,
        )
        self.prepared.excluded.extend(measured.excluded)
        self._add(name, {"probes": measured.probes, "probe_values": measured.values})
        if self.prepared.has_transfer:
            self._add(name, self._transfer(name, self.prepared.task(X)))

    def _transfer(self, name: str, task: Task) -> dict[str, list[dict[str, Any]]]:
        options = self.options
        result = evaluate(
            task,
            methods=[method.name for method in self.methods],
            protocol=options.protocol,
            modes=options.modes,
            n_jobs=options.n_jobs,
            random_state=options.random_state,
            progress=f"{name}: transfer" if options.progress else None,
        )
        curves = resample(
            result, n_resamples=options.n_resamples, random_state=options.random_state
        )
        return {
            "transfer": result.rows(),
            "comparisons": [vars(one) for one in compare(result, curves=curves)],
            "drops": [vars(one) for one in measure_drops(curves)],
        }

    def _add(self, name: str, found: Mapping[str, Sequence[dict[str, Any]]]) -> None:
        for table, rows in found.items():
            self.rows.setdefault(table, []).extend({"embedding": name, **row} for row in rows)

    def about(self) -> dict[str, Any]:
        """Return the provenance."""
        options, clips = self.options, self.prepared.clips
        names = list(self.scaling)
        return {
            "title": f"Bias audit of {', '.join(names)} on {' and '.join(clips.datasets)}",
            "protocol": options.protocol,
            "seed": options.random_state,
            "command": "",
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "versions": _versions(),
            "embeddings": names,
            "datasets": clips.datasets,
            "labels": clips.label_names,
            "config": {
                "modes": list(options.modes),
                "n_permutations": options.n_permutations,
                "n_resamples": options.n_resamples,
                "scaling": self.scaling,
            },
            "notes": self.prepared.notes,
            "excluded": _different(self.prepared.excluded),
            "synthetic": False,
        }


def _plain(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the provenance as it will be read back, or say that it cannot be saved."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(meta), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"meta cannot be written as JSON ({error}); give texts, numbers, lists and dicts"
        ) from error
    return plain


def _different(entries: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """Return each entry once: what is true of one embedding often is of all."""
    return [entry for i, entry in enumerate(entries) if entry not in entries[:i]]


def _records(frame: Any) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]


def _dropped(clips: ClipTable) -> list[dict[str, Any]]:
    """Return how many clips were left out, for each dataset and reason."""
    rows = []
    for (dataset, reason), part in clips.dropped.groupby(["dataset", "reason"], sort=True):
        examples = name_some(part["clip_id"], 2)
        rows.append({"dataset": dataset, "reason": reason, "n": len(part), "examples": examples})
    return rows


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
