"""The probes of an audit: which are run, and on what."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio._audit.clips import Prepared, fit_columns
from biasaudio._parallel import run_all
from biasaudio._validation import name_some
from biasaudio.errors import DataError
from biasaudio.probes import ProbeResult, probe_domain, probe_genre
from biasaudio.transforms.methods import ORIGINAL, Method

__all__ = ["FEWEST_GENRE_GROUPS", "Measured", "known_genres", "measure_probes"]

# Genres with fewer groups cannot be in all parts of a split.
FEWEST_GENRE_GROUPS = 10


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
    compat: str | None,
    n_permutations: int,
    n_resamples: int,
    random_state: int,
    n_jobs: int,
    progress: bool,
) -> Measured:
    """Run all probes of one embedding, before and after every method."""
    measured = Measured([], [], [])
    # A correction for one target says nothing of both datasets at once.
    methods = [method for method in methods if not method.is_per_target]
    jobs = [
        *_domain_jobs(prepared, methods),
        *_genre_jobs(prepared, methods, measured.excluded),
    ]
    run = functools.partial(_run, X, prepared, compat, n_permutations, n_resamples, random_state)
    bar = f"{embedding}: probes" if progress else None
    found = run_all(run, jobs, n_jobs=n_jobs, progress=bar)
    for job, result in zip(jobs, found):
        name = job.method.name if job.method else ORIGINAL
        if isinstance(result, str):
            mix = "equal" if job.equal else "raw"
            how = f"{name}, {job.design}, {mix} class mix, {job.kind}"
            what = f"{job.probe} probe of {job.datasets} ({how})"
            measured.excluded.append({"what": what, "why": result})
            continue
        keys = {
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


def _genre_jobs(
    prepared: Prepared, methods: Sequence[Method], excluded: list[dict[str, str]]
) -> Iterator[_Job]:
    clips = prepared.clips
    for name in clips.datasets:
        inside = clips.dataset == name
        rows, thin = known_genres(prepared, inside)
        if thin:
            why = f"fewer than {FEWEST_GENRE_GROUPS} groups with {name_some(thin)}"
            excluded.append({"what": f"{len(thin)} genre(s) of {name}", "why": why})
        if rows.size:
            yield _Job("genre", name, "cross-fit", False, "linear", None, rows)
            if prepared.has_classes:
                yield _Job("genre", name, "cross-fit", True, "linear", None, rows)
        elif (clips.genre[inside] != "").any():
            why = f"it needs two genres with {FEWEST_GENRE_GROUPS} groups at least"
            excluded.append({"what": f"genre probe of {name}", "why": why})
    rows, _ = known_genres(prepared, np.ones(len(clips), dtype=bool))
    names = sorted(set(clips.dataset[rows]))
    if len(names) > 1:
        for method in (None, *methods):
            yield _Job("genre", " + ".join(names), "three-way", False, "linear", method, rows)


def known_genres(
    prepared: Prepared, inside: NDArray[np.bool_]
) -> tuple[NDArray[np.intp], list[str]]:
    """Return the clips of the genres that have groups enough, and the genres that have not.

    Parameters
    ----------
    prepared : Prepared
    inside : np.ndarray of bool [shape=(n,)]
        The clips to choose from.

    Returns
    -------
    rows : np.ndarray of int
        None of the clips if there are less than two such genres.
    thin : list of str
    """
    clips = prepared.clips
    genre, groups = clips.genre.astype(str), clips.group_id
    sizes = {
        str(name): len(np.unique(groups[inside & (genre == name)]))
        for name in np.unique(genre[inside])
        if name
    }
    kept = [name for name, size in sizes.items() if size >= FEWEST_GENRE_GROUPS]
    rows = np.flatnonzero(inside & np.isin(genre, kept))
    thin = [name for name in sizes if name not in kept]
    return (rows if len(kept) > 1 else rows[:0]), thin


def _run(
    X: NDArray[np.float32],
    prepared: Prepared,
    compat: str | None,
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
        options["correction"] = job.method.make(compat=compat)
        options["fit_params"] = fit_columns(prepared, job.method, rows)
    try:
        if job.probe == "domain":
            return probe_domain(X[rows], domain, **options)
        return probe_genre(X[rows], genre, domain=domain, **options)
    except DataError as error:
        return str(error)
