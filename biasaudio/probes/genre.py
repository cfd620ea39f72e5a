"""The genre probe: which genre does this clip have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from biasaudio._parallel import one_blas_thread
from biasaudio._validation import check_features
from biasaudio.errors import DataError, ParameterError
from biasaudio.probes.domain import as_clips, check_columns, run_probe
from biasaudio.probes.result import ProbeResult
from biasaudio.probes.ridge import common_units

__all__ = ["probe_genre"]


@one_blas_thread()
def probe_genre(
    X: ArrayLike,
    genre: ArrayLike,
    *,
    domain: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    correction: Any = None,
    fit_params: Mapping[str, ArrayLike] | None = None,
    design: str | None = None,
    kind: str = "linear",
    n_splits: int = 5,
    n_repeats: int | None = None,
    n_permutations: int = 200,
    n_resamples: int = 1000,
    random_state: int | np.random.Generator | None = 0,
) -> ProbeResult:
    """Measure how well a linear probe names the genre of held-out clips.

    Parameters
    ----------
    X : array_like [shape=(n, d)]
        One vector per clip.
    genre : array_like of str or int [shape=(n,)]
        The genre of each clip.
    domain : array_like of str or int [shape=(n,)], optional
        The dataset of each clip, for a correction.  It does not enter the
        probe.
    groups, strata, correction, fit_params, design, kind
        As in `probe_domain`; groups matter most here, because clips of one
        song have one genre.
    n_splits, n_repeats, n_permutations, n_resamples, random_state
        As in `probe_domain`.

    Returns
    -------
    ProbeResult
        One-vs-rest ROC-AUC, averaged over genres.

    Raises
    ------
    ParameterError
        If an option is not allowed, or a correction comes without domain.
    DataError
        If arrays disagree, a genre is not known, there is one only, or one
        has fewer groups than there are parts.

    Examples
    --------
    >>> from biasaudio.datasets.synthetic import make_domains
    >>> table, _ = make_domains(n=600, d=8, random_state=0)
    >>> result = probe_genre(table.X, table.clips.genre, groups=table.clips.group_id)
    >>> result.n_classes, result.chance_accuracy
    (4, 0.25)
    """
    X = common_units(check_features(X))
    unknown = np.asarray(genre).astype(str) == ""
    if unknown.any():
        raise DataError(
            f"genre is not known ('') for {unknown.sum()} of {len(X)} clips; leave these clips out"
        )
    clips = as_clips(X, genre, "genre", groups, strata)
    if domain is None and correction is not None:
        raise ParameterError(
            "probe_genre got a correction without domain; call "
            "probe_genre(X, genre, domain=domain, correction=...)"
        )
    columns = check_columns(fit_params, domain, len(X))
    return run_probe(
        clips,
        correction=correction,
        columns=columns,
        design=design,
        kind=kind,
        n_splits=n_splits,
        n_repeats=n_repeats,
        n_permutations=n_permutations,
        n_resamples=n_resamples,
        random_state=random_state,
    )
