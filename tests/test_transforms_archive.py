"""Files that an old version wrote are read for ever, and do what they did."""

import sys
from pathlib import Path

import numpy as np
import pytest

from biasaudio.transforms import load

DATA = Path(__file__).parent / "data"
FILES = sorted(DATA.glob("corrections_v*/*.npz"))
KINDS = {"center", "combat", "coral", "inlp", "kernel", "leace", "nap", "wccn"}


@pytest.mark.parametrize("version", [1, 2])
def test_there_is_a_file_of_each_kind(version):
    assert {path.stem for path in DATA.glob(f"corrections_v{version}/*.npz")} == KINDS


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


def test_parameters_of_version_1_have_their_names_of_today():
    old = {path.stem: load(path) for path in FILES if path.parent.name == "corrections_v1"}
    new = {path.stem: load(path) for path in FILES if path.parent.name == "corrections_v2"}
    for name, correction in old.items():
        assert repr(correction) == repr(new[name])
        assert set(vars(correction)) == set(vars(new[name]))
    assert (old["nap"].n_components, old["nap"].shift_shrinkage) == (1, 0.5)
    assert (old["nap"].strength, old["wccn"].shrinkage) == ("cv", "cv")
    assert old["combat"].empirical_bayes is False
    assert old["inlp"].n_iter == 1
