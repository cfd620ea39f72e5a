"""The probes of an audit: which are run, and on what."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio._audit.prepare import Prepared
from biasaudio._parallel import run_all
from biasaudio.errors import DataError
from biasaudio.probes import ProbeResult, probe_domain, probe_genre
from biasaudio.transforms.methods import ORIGINAL, Method

__all__ = ["Measured", "measure_probes"]

# Genres with fewer groups cannot be in all parts of a split.
_FEWEST_GROUPS = 10


@dataclass(frozen=True)
class _Job:
    """One probe to run; ``rows`` selects its clips."""

    probe: str
    datasets: str
    design: str
    equal: bool
    kind: str
    method: Method | None
    rows: NDArray[np.intp]


@dataclass(frozen=True)
class Measured:
    """Hold the rows of the two probe tables, and what could not be run."""

    probes: list[dict[str, Any]]
    values: list[dict[str, Any]]
    excluded: list[dict[str, str]]


def measure_probes(
    X: NDArray[np.float32],
    prepared: Prepared,
    methods: Sequence[Method],
    *,
    embedding: str,
    n_permutations: int,
    n_resamples: int,
    random_state: int,
    n_jobs: int,
    progress: bool,
) -> Measured:
    """Run all probes of one embedding, before and after every method."""
    jobs = [*_domain_jobs(prepared, methods), *_genre_jobs(prepared, methods)]
    run = functools.partial(_run, X, prepared, n_permutations, n_resamples, random_state)
    bar = f"{embedding}: probes" if progress else None
    found = run_all(run, jobs, n_jobs=n_jobs, progress=bar)
    measured = Measured([], [], [])
    for job, result in zip(jobs, found):
        name = job.method.name if job.method else ORIGINAL
        if isinstance(result, str):
            what = f"{job.probe} probe of {job.datasets} ({name}, {job.design}, {job.kind})"
            measured.excluded.append({"what": what, "why": result})
            continue
        keys = {
            "embedding": embedding,
            "probe": job.probe,
            "datasets": job.datasets,
            "design": result.design,
            "mix": result.mix,
            "method": name,
            "kind": result.kind,
        }
        names = ("auc", "low", "high", "balanced_accuracy", "chance_accuracy", "p_value")
        row = {key: getattr(result, key) for key in (*names, "n", "n_groups", "n_classes")}
        measured.probes.append(keys | row)
        measured.values.extend(keys | vars(value) for value in result.by_value)
    return measured


def _domain_jobs(prepared: Prepared, methods: Sequence[Method]) -> Iterator[_Job]:
    clips = prepared.clips
    if len(clips.datasets) < 2:
        return
    name, rows = " + ".join(clips.datasets), np.arange(len(clips))
    mixes = (False, True) if prepared.has_classes else (False,)
    for equal in mixes:
        yield _Job("domain", name, "cross-fit", equal, "linear", None, rows)
        # The stronger probe is asked once, at the fairest mix there is.
        kinds = ("linear", "scaled") if equal is mixes[-1] else ("linear",)
        for method in (None, *methods):
            for kind in kinds:
                yield _Job("domain", name, "three-way", equal, kind, method, rows)


def _genre_jobs(prepared: Prepared, methods: Sequence[Method]) -> Iterator[_Job]:
    clips = prepared.clips
    for name in clips.datasets:
        rows = _known_genres(prepared, clips.dataset == name)
        if rows.size:
            yield _Job("genre", name, "cross-fit", False, "linear", None, rows)
            if prepared.has_classes:
                yield _Job("genre", name, "cross-fit", True, "linear", None, rows)
    rows = _known_genres(prepared, np.ones(len(clips), dtype=bool))
    if len(clips.datasets) > 1 and rows.size:
        for method in (None, *methods):
            yield _Job(
                "genre", " + ".join(clips.datasets), "three-way", False, "linear", method, rows
            )


def _known_genres(prepared: Prepared, inside: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the clips of the genres that have groups enough, none if there is one genre."""
    clips = prepared.clips
    genre, groups = clips.genre.astype(str), clips.group_id
    kept = [
        name
        for name in np.unique(genre[inside])
        if name and len(np.unique(groups[inside & (genre == name)])) >= _FEWEST_GROUPS
    ]
    rows = np.flatnonzero(inside & np.isin(genre, kept))
    return rows if len(kept) > 1 else rows[:0]


def _run(
    X: NDArray[np.float32],
    prepared: Prepared,
    n_permutations: int,
    n_resamples: int,
    random_state: int,
    job: _Job,
) -> ProbeResult | str:
    """Return the result, or in words why the probe cannot be run on these clips."""
    clips, rows = prepared.clips, job.rows
    domain, genre = clips.dataset.astype(str)[rows], clips.genre.astype(str)[rows]
    options: dict[str, Any] = {
        "groups": clips.group_id[rows],
        "strata": prepared.classes[rows] if job.equal else None,
        "design": job.design,
        "kind": job.kind,
        "n_permutations": n_permutations,
        "n_resamples": n_resamples,
        "random_state": random_state,
    }
    if job.method is not None:
        options["correction"] = job.method.make()
        if "genre" in job.method.needs:
            options["fit_params"] = {"genre": genre}
    try:
        if job.probe == "domain":
            return probe_domain(X[rows], domain, **options)
        return probe_genre(X[rows], genre, domain=domain, **options)
    except DataError as error:
        return str(error)
