"""Vectors with a planted domain offset, for examples and tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import helmert

from biasaudio._validation import as_seed
from biasaudio.datasets.table import ClipTable
from biasaudio.datasets.vectors import EmbeddingTable
from biasaudio.datasets.vocabulary import GENRES
from biasaudio.errors import ParameterError

__all__ = ["DomainTruth", "make_domains"]

Array = NDArray[np.float64]
LABELS = (
    "cello",
    "clarinet",
    "flute",
    "guitar",
    "organ",
    "piano",
    "saxophone",
    "trumpet",
    "violin",
    "voice",
)


@dataclass(frozen=True, eq=False)
class DomainTruth:
    """What `make_domains` planted: x = domain + genre + label + class + noise.

    Attributes
    ----------
    domains, genres, labels : tuple of str
        The names, in the order of the rows below.
    domain_means : np.ndarray [shape=(n_domains, d)]
        Offset of each domain; they sum to zero.
    domain_directions : np.ndarray [shape=(n_domains - 1, d)]
        Orthonormal rows that span the offsets.
    genre_means : np.ndarray [shape=(n_genres, d)]
        What each genre adds.
    label_means : np.ndarray [shape=(n_labels, d)]
        What each label adds.
    class_shifts : np.ndarray [shape=(n_domains, n_labels, d)]
        What each label adds in one domain only.
    covariance : np.ndarray [shape=(d, d)]
        Of the noise, that of groups included.
    """

    domains: tuple[str, ...]
    genres: tuple[str, ...]
    labels: tuple[str, ...]
    domain_means: Array
    domain_directions: Array
    genre_means: Array
    label_means: Array
    class_shifts: Array
    covariance: Array


def make_domains(
    n: int = 600,
    d: int = 32,
    *,
    n_labels: int = 3,
    n_genres: int = 4,
    domains: Sequence[str] = ("a", "b"),
    shift: float = 1.0,
    genre_effect: float = 1.0,
    label_effect: float = 1.5,
    class_shift: float = 0.0,
    group_effect: float = 0.3,
    group_size: int = 3,
    mix: float = 0.0,
    random_state: int | np.random.Generator | None = 0,
) -> tuple[EmbeddingTable, DomainTruth]:
    """Draw clips of several domains that differ by a known offset.

    The clips of a group (a song) share domain, genre, split and a common
    deviation; every third group of a genre is in the test split.  Rows come in
    random order.

    Parameters
    ----------
    n, d : int
        Clips in all, and dimensions.
    n_labels, n_genres : int
        How many there are; each clip has one label and one genre.
    domains : sequence of str
        Names of the datasets, of equal size.
    shift : float
        Length of the offset of each domain from their common centre, in
        units of the noise; two domains are ``2 * shift`` apart.
    genre_effect, label_effect, class_shift : float
        Length of what a genre, a label, and a label in one domain only adds.
    group_effect : float
        Standard deviation of what a group adds, in each dimension.
    group_size : int
        Clips per group.
    mix : float
        From 0 (the same genre and label mix in all domains) to 1 (each domain
        has one genre and one label).
    random_state : int, np.random.Generator or None
        The same seed gives the same table.

    Returns
    -------
    table : EmbeddingTable
    truth : DomainTruth

    Raises
    ------
    ParameterError
        If a number is too small for the domains, or ``mix`` is not in [0, 1].

    Notes
    -----
    The noise is Gaussian and 2.6 times as wide along one axis as along another,
    with a mean variance of 1; so the direction that separates the domains best
    is not that of their mean difference.

    Examples
    --------
    >>> table, truth = make_domains(n=90, d=8)
    >>> table.X.shape, table.clips.datasets, truth.labels
    ((90, 8), ['a', 'b'], ('cello', 'clarinet', 'flute'))
    """
    names = tuple(map(str, domains))
    _check(names, n, d, n_labels, n_genres, group_size, mix)
    rng = np.random.default_rng(as_seed(random_state))
    truth, root = _plant(
        rng,
        d,
        names,
        _names(GENRES, "genre", n_genres),
        _names(LABELS, "label", n_labels),
        (shift, genre_effect, label_effect, class_shift, group_effect),
    )
    domain, group, genre, label = _assign(rng, n, (len(names), n_genres, n_labels), group_size, mix)
    X = truth.domain_means[domain] + truth.genre_means[genre] + truth.label_means[label]
    X += truth.class_shifts[domain, label] + rng.standard_normal((n, d)) @ root
    X += group_effect * rng.standard_normal((group.max() + 1, d))[group]
    within = group - np.array([group[domain == k].min() for k in range(len(names))])[domain]
    number = np.arange(n) - np.searchsorted(domain, np.arange(len(names)))[domain]
    clips = ClipTable.from_columns(
        [f"{names[k]}{i:05d}" for k, i in zip(domain, number, strict=True)],
        np.array(names)[domain],
        split=np.where(within % 3 == 2, "test", "train"),
        genre=np.array(truth.genres)[genre],
        group=[f"{names[k]}-song{j:04d}" for k, j in zip(domain, within, strict=True)],
        label=np.array(truth.labels)[label],
    )
    table = EmbeddingTable(X.astype(np.float32), clips, embedding="synthetic")
    return table.select(rng.permutation(n)), truth


def _check(
    names: tuple[str, ...],
    n: int,
    d: int,
    n_labels: int,
    n_genres: int,
    group_size: int,
    mix: float,
) -> None:
    if not names or len(set(names)) < len(names):
        raise ParameterError(f"domains={names!r} is not allowed; give different names")
    for name, value, least in (
        ("n", n, len(names)),
        ("d", d, max(1, len(names) - 1)),
        ("n_labels", n_labels, 1),
        ("n_genres", n_genres, 1),
        ("group_size", group_size, 1),
    ):
        if not value >= least:
            raise ParameterError(f"{name}={value!r} is too small; give {least} or more")
    if not 0 <= mix <= 1:
        raise ParameterError(f"mix={mix!r} is not allowed; give a number from 0 (same mix) to 1")


def _names(known: Sequence[str], stem: str, count: int) -> tuple[str, ...]:
    """Make ``count`` names: the known ones first, then numbered ones."""
    return (*known[:count], *(f"{stem}{k}" for k in range(len(known), count)))


def _plant(
    rng: np.random.Generator,
    d: int,
    domains: tuple[str, ...],
    genres: tuple[str, ...],
    labels: tuple[str, ...],
    effects: tuple[float, float, float, float, float],
) -> tuple[DomainTruth, Array]:
    """Draw the truth, and the root of the noise covariance [shape=(d, d)]."""
    shift, genre_effect, label_effect, class_shift, group_effect = effects
    k = len(domains)
    basis = np.linalg.qr(rng.standard_normal((d, k - 1)))[0].T
    # Corners of a regular simplex: all domains are equally far from each other.
    corners = helmert(k).T * np.sqrt(k / max(k - 1, 1))
    scales = np.linspace(1.3, 0.5, d)
    scales /= np.sqrt(np.square(scales).mean())
    axes = np.linalg.qr(rng.standard_normal((d, d)))[0]
    root = scales[:, None] * axes.T
    truth = DomainTruth(
        domains=domains,
        genres=genres,
        labels=labels,
        domain_means=shift * corners @ basis,
        domain_directions=basis,
        genre_means=genre_effect * _unit_rows(rng, (len(genres), d)),
        label_means=label_effect * _unit_rows(rng, (len(labels), d)),
        class_shifts=class_shift * _unit_rows(rng, (k, len(labels), d)),
        covariance=root.T @ root + group_effect**2 * np.eye(d),
    )
    return truth, root


def _unit_rows(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    rows = rng.standard_normal(shape)
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


def _assign(
    rng: np.random.Generator, n: int, counts: tuple[int, int, int], group_size: int, mix: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Deal domain, group, genre and label of each clip, as numbers."""
    n_domains, n_genres, n_labels = counts
    domain = np.arange(n) * n_domains // n
    group = np.empty(n, dtype=np.intp)
    genre, label = np.empty_like(group), np.empty_like(group)
    first = 0
    for k in range(n_domains):
        rows = np.flatnonzero(domain == k)
        song = np.arange(len(rows)) // group_size
        # Sorted by genre, every third song as test split takes of all genres.
        genre[rows] = _shares(rng, song[-1] + 1, n_genres, k, mix)[song]
        label[rows] = rng.permutation(_shares(rng, len(rows), n_labels, k, mix))
        group[rows] = first + song
        first += song[-1] + 1
    return domain, group, genre, label


def _shares(
    rng: np.random.Generator, size: int, count: int, favourite: int, mix: float
) -> NDArray[np.intp]:
    """Deal sorted categories with counts in proportion, give or take one."""
    weights = np.full(count, (1.0 - mix) / count)
    weights[favourite % count] += mix
    points = (np.arange(size) + rng.random()) / size
    return np.searchsorted(np.cumsum(weights)[:-1], points, side="right")
