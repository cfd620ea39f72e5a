"""Cost of a fit against N and D, and a fit from a store that is read in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks._timing import Row, Setting, peak_growth
from benchmarks._transforms import NAMES, PRODUCT, clips, fit, product
from biasaudio.store import EmbeddingStore
from biasaudio.transforms import LEACE

# Frames of a clip, and a key as wide as those of IRMAS.
FRAMES, WIDTH = 20, 40


def slopes(setting: Setting) -> Iterator[Row]:
    """Yield the time of a fit for growing N, and for growing D."""
    counts = (100, 200, 400) if setting.quick else (10_000, 30_000, 100_000, 300_000, 1_000_000)
    widths = (4, 8, 16) if setting.quick else (64, 128, 256, 512, 1024, 2048)
    n, d = (200, 8) if setting.quick else (20_000, 256)
    X, domain = clips(counts[-1], d)
    for_counts = [(count, setting.medians(_fits(X[:count], domain[:count]))) for count in counts]
    yield from _lines("N", f"{counts[0]:,} to {counts[-1]:,} x {d}", for_counts)
    del X
    for_widths = [(width, setting.medians(_fits(*clips(n, width)))) for width in widths]
    yield from _lines("D", f"{n:,} x {widths[0]} to {widths[-1]:,}", for_widths)


def _fits(X: Any, domain: Any) -> dict[str, Callable[[], Any]]:
    fits: dict[str, Callable[[], Any]] = {name: partial(fit, name, X, domain) for name in NAMES}
    return fits | {PRODUCT: partial(product, X)}


def _lines(axis: str, size: str, found: list[tuple[int, dict[str, float]]]) -> Iterator[Row]:
    """Yield one row a correction: seconds at the largest size, and the slope over all."""
    lines = {
        name: tuple((at, seconds[name]) for at, seconds in found) for name in (*NAMES, PRODUCT)
    }
    last = found[-1][1]
    for name in NAMES:
        yield Row(
            f"{name}, fit against {axis}",
            size,
            last[name],
            PRODUCT,
            last[PRODUCT],
            1.5,
            note=f"{axis}^{exponent(lines[name]):.2f}",
            points=lines[name],
            baseline_points=lines[PRODUCT],
        )


def exponent(points: tuple[tuple[int, float], ...]) -> float:
    """Return the slope of a line through the logarithms."""
    sizes, seconds = np.log(np.array(points, dtype=np.float64)).T
    return float(np.polyfit(sizes, seconds, 1)[0])


def out_of_core(setting: Setting) -> Iterator[Row]:
    """Yield a fit from a store, whose memory should not grow with the store."""
    d = 8 if setting.quick else 256
    for n in (2_000, 4_000) if setting.quick else (500_000, 2_000_000):
        path = _write(setting.folder / f"{n}.h5", n, d)
        found = setting.medians({"ours": fit_store(path), "read": partial(read_store, path)})
        tiny = _write(setting.folder / "100.h5", 100, d)
        yield Row(
            "leace, fit from a store in blocks",
            f"{n:,} x {d}",
            found["ours"],
            "reading the blocks",
            found["read"],
            memory=peak_growth(fit_store, path, small=(tiny,)),
            memory_goal=1024,
        )
        path.unlink()


def _write(path: Path, n: int, d: int) -> Path:
    """Write a store of two datasets with n vectors in all."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for name, shift in (("a", 0), ("b", 1)):
            keys = file.create_dataset(f"{name}/vectors/keys", (n // 2,), f"S{WIDTH}")
            features = file.create_dataset(f"{name}/vectors/features", (n // 2, d), "f4")
            for start in range(0, n // 2, 50_000):
                rows = np.arange(start, min(start + 50_000, n // 2))
                keys[rows[0] : rows[-1] + 1] = np.char.mod("%d", rows // FRAMES).astype("S")
                block = rng.standard_normal((len(rows), d), dtype=np.float32)
                features[rows[0] : rows[-1] + 1] = block + np.float32(shift)
    return path


def fit_store(path: Path) -> Callable[[], Any]:
    """Return the call that fits LEACE on all vectors of a store."""
    store = EmbeddingStore(path)

    def run() -> Any:
        leace = LEACE(shrinkage=0.0)
        for name in store.datasets():
            for keys, X in store.blocks(name, "vectors"):
                leace.partial_fit(X, domain=np.full(len(keys), name))
        return leace

    return run


def read_store(path: Path) -> None:
    """Read all blocks of a store."""
    store = EmbeddingStore(path)
    for name in store.datasets():
        for _ in store.blocks(name, "vectors"):
            pass
