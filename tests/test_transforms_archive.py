"""Files that an old version wrote are read for ever, and do what they did."""

import sys
from pathlib import Path

import numpy as np
import pytest

from biasaudio.transforms import load

DATA = Path(__file__).parent / "data"
FILES = sorted(DATA.glob("corrections_v*/*.npz"))


def test_there_is_a_file_of_each_kind():
    assert {path.stem for path in FILES} == {"leace", "center", "kernel"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_an_old_file_does_what_it_did(path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(DATA), *sys.path])
    from make_corrections import clips

    X, domain = clips()
    correction = load(path)
    columns = {"domain": domain} if correction.domain_aware else {}
    expected = np.loadtxt(path.with_suffix(".csv"), delimiter=",")
    np.testing.assert_allclose(correction.transform(X, **columns), expected, atol=1e-12)
    assert path.stem == "kernel" or np.abs(expected - X).max() > 0.1
