"""Times to keep from version to version, for pytest-benchmark; see README.md.

pytest benchmarks/history.py --benchmark-autosave
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks._bootstrap import outcomes
from benchmarks._classifier import search
from benchmarks._layout import plant
from benchmarks._pooling import load
from benchmarks._transforms import clips, fit
from biasaudio.transfer import compare

pytest.importorskip("pytest_benchmark")


def test_pooling(benchmark: Any, tmp_path: Path) -> None:
    """Load 40,000 frames of 512 dimensions to 2,000 clip vectors."""
    folder = plant(tmp_path / "layout", n_clips=1000, n_frames=20, d=512)
    benchmark(load(folder / "embeddings.h5"))


@pytest.mark.parametrize("name", ["leace", "lda", "center"])
def test_fit(benchmark: Any, name: str) -> None:
    """Fit on 50,000 x 256."""
    X, domain = clips(50_000, 256)
    benchmark(fit, name, X, domain)


def test_apply(benchmark: Any) -> None:
    """Apply LEACE to 50,000 x 256."""
    X, domain = clips(50_000, 256)
    fitted = fit("leace", X, domain)
    benchmark(fitted.transform, X)


@pytest.mark.parametrize("d", [128, 4096])
def test_path(benchmark: Any, d: int) -> None:
    """Choose C among 12 by three folds of 628 clips."""
    benchmark(search(628, d))


def test_bootstrap(benchmark: Any) -> None:
    """Compare two methods on 1,000 test clips, 1,000 resamples."""
    benchmark(compare, outcomes(1000, 2, 1))
