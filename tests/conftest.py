"""Fixtures that every test may use."""

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def rng():
    """Give one generator with one seed; no test seeds globally."""
    return np.random.default_rng(20230)


@pytest.fixture(scope="session")
def shared():
    """Give the folder of real test data, or skip where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("real test data (../shared) is absent")
    return folder
