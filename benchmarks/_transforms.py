"""Fit and apply of corrections, beside one matrix product, a copy, and other libraries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._entries import ENTRIES, Entry
from benchmarks._timing import Row, Setting, peak_growth
from biasaudio.transforms.methods import METHODS

Array = NDArray[Any]
PRODUCT = "X.T @ X and Cholesky"
NAMES = ("leace", "lda", "center", "standardize")
# What is wanted of others: that they take so many times as long.
PEERS = (
    ("LEACE", 1 / 2.5),
    ("LEACE, shrunk", 1 / 2.5),
    ("LDA projection", None),
    ("CORAL", 1 / 5),
    ("CORAL, shrunk", 1 / 5),
)
# What one block of clips may take beside the result and two matrices.
BLOCK_MIB = 64


def transforms(setting: Setting) -> Iterator[Row]:
    """Yield fit and apply of each correction against the physics."""
    for n, d in ((200, 8),) if setting.quick else ((100_000, 512), (500_000, 512)):
        X, domain = clips(n, d)
        size = f"{n:,} x {d}"
        for name in NAMES:
            fitted, keywords = fit(name, X, domain), _keywords(name, domain)
            found = setting.medians(
                {"fit": partial(fit, name, X, domain), "product": partial(product, X)}
            )
            # Apart: a virtual machine may take long to give back memory that was free meanwhile.
            found |= setting.medians(
                {"apply": partial(fitted.transform, X, **keywords), "copy": X.copy}
            )
            yield Row(f"{name}, fit", size, found["fit"], PRODUCT, found["product"], 1.5)
            yield Row(
                f"{name}, apply",
                size,
                found["apply"],
                "X.copy()",
                found["copy"],
                3.0,
                memory=peak_growth(_both, name, n, d, small=(name, 100, d)),
                memory_goal=(X.nbytes + 16 * d * d) / 2**20 + BLOCK_MIB,
                note="memory of fit and apply",
            )


def peers(setting: Setting) -> Iterator[Row]:
    """Yield fit and apply in one call, against the same in other libraries."""
    for n, d in ((200, 8),) if setting.quick else ((100_000, 512), (500_000, 512)):
        X, domain = clips(n, d)
        label = np.zeros(n, dtype=np.intp)
        for operation, goal in PEERS:
            entries = [entry for entry in ENTRIES if entry.operation == operation]
            yield from _beside(setting, entries, (X, domain, label), goal)


def _beside(
    setting: Setting, entries: Sequence[Entry], columns: tuple[Array, Array, Array], goal: Any
) -> Iterator[Row]:
    problems = {entry.library: _problem(entry, columns) for entry in entries}
    calls = {e.library: partial(e.correct, *columns) for e in entries if not problems[e.library]}
    found = setting.medians(calls)
    n, d = columns[0].shape
    for entry in entries:
        if not entry.is_ours:
            yield Row(
                f"{entry.operation}, fit and apply",
                f"{n:,} x {d}",
                found["biasaudio"],
                f"{entry.library} {entry.version}".strip(),
                found.get(entry.library),
                goal,
                note=problems[entry.library],
            )


def _problem(entry: Entry, columns: tuple[Array, Array, Array]) -> str:
    """Return why a library cannot be timed, or an empty string."""
    if not entry.version:
        return "not installed"
    try:
        entry.correct(*(column[:2000] for column in columns))
    except Exception as problem:  # Another library may fail in any way; the table tells it.
        if entry.is_ours:
            raise
        return f"{type(problem).__name__}: {' '.join(str(problem).split())}"[:80]
    return ""


def clips(n: int, d: int) -> tuple[Array, Array]:
    """Return float32 vectors of two domains with different means, and their domains."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, d), dtype=np.float32)
    domain = np.arange(n) % 2
    X += domain[:, None] * rng.standard_normal(d, dtype=np.float32)
    return X, domain


def product(X: Array) -> Array:
    """Return the Cholesky factor of the second moments: the least that a fit can cost."""
    gram = (X.T @ X).astype(np.float64)
    gram.flat[:: len(gram) + 1] += len(X)
    return np.linalg.cholesky(gram)


def fit(name: str, X: Array, domain: Array) -> Any:
    """Return a correction, fitted."""
    return METHODS[name].make().fit(X, domain=domain)


def _keywords(name: str, domain: Array) -> dict[str, Array]:
    return {"domain": domain} if METHODS[name].domain_at_transform else {}


def _both(name: str, n: int, d: int) -> Callable[[], Any]:
    """Return the call that fits and applies a correction."""
    X, domain = clips(n, d)
    return lambda: fit(name, X, domain).transform(X, **_keywords(name, domain))
