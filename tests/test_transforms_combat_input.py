"""What ComBat cannot do is refused, by name."""

import numpy as np
import pytest

from biasaudio.errors import BiasAudioWarning, DataError, ParameterError
from biasaudio.transforms.combat import ComBat


def planted(rng, n=150):
    """Return clips with a domain, a class and a level, all independent."""
    domain = rng.choice(["a", "b", "c"], n)
    label = rng.choice(["flute", "horn", "oboe"], n)
    return rng.normal(size=(n, 5)), domain, label, rng.normal(size=n)


def test_confounded_and_bad_columns_are_named(rng):
    X, domain, label, level = planted(rng)
    fit = ComBat().fit
    with pytest.raises(DataError, match="preserve cannot be told from domain: 2 of its 2"):
        fit(X, domain=domain, preserve=domain)
    with pytest.raises(DataError, match="preserve cannot be told from domain: 1 of its 2"):
        fit(X, domain=domain, preserve=np.c_[level, domain == "a"])
    with pytest.raises(DataError, match="independent columns for 150 clips, which leaves nothing"):
        fit(X, domain=domain, preserve=rng.normal(size=(150, 147)))
    with pytest.raises(DataError, match="preserve has NaN or Inf for 1 of 150 clips"):
        fit(X, domain=domain, preserve=np.where(np.arange(150) == 3, np.nan, level))


def test_what_transform_cannot_preserve_is_named(rng):
    X, domain, label, level = planted(rng)
    fit = ComBat().fit
    fitted = fit(X, domain=domain, preserve=label)
    with pytest.raises(DataError, match="preserve has 'tuba', which fit did not see; it saw"):
        fitted.transform(X, domain=domain, preserve=np.where(label == "oboe", "tuba", label))
    with pytest.raises(DataError, match="but fit saw one category per clip"):
        fitted.transform(X, domain=domain, preserve=level)
    with pytest.raises(DataError, match=r"preserve has 2 column\(s\), but fit saw 1 column"):
        fit(X, domain=domain, preserve=level).transform(
            X, domain=domain, preserve=np.c_[level, level]
        )
    with pytest.raises(ParameterError, match="preserve was given to transform and not to fit"):
        fit(X, domain=domain).transform(X, domain=domain, preserve=label)
    with pytest.raises(ParameterError, match="transform was called without domain"):
        fitted.transform(X, preserve=label)


def test_other_errors_are_named(rng):
    X, domain, label, _ = planted(rng)
    with pytest.raises(ParameterError, match=r"ComBat\.fit was called without domain"):
        ComBat().fit(X)
    with pytest.raises(
        ParameterError, match="empirical_bayes='auto' is not allowed; give True or False"
    ):
        ComBat(empirical_bayes="auto").fit(X, domain=domain)
    with pytest.raises(ParameterError, match="unseen='ignore' is not known"):
        ComBat(unseen="ignore").fit(X, domain=domain)
    few = np.r_[np.flatnonzero(domain != "c"), np.flatnonzero(domain == "c")[:1]]
    for preserve in (None, label[few]):
        with (
            pytest.warns(BiasAudioWarning, match="domain 'c' has fewer than 3 clips"),
            pytest.raises(DataError, match="domain 'c' has one clip, which has no scale"),
        ):
            ComBat().fit(X[few], domain=domain[few], preserve=preserve)
    with pytest.raises(DataError, match=r"1 of 1 features vary .* set empirical_bayes=False"):
        ComBat().fit(X[:, :1], domain=domain)
    assert np.isfinite(ComBat(empirical_bayes=False).fit_transform(X[:, :1], domain=domain)).all()
    with pytest.raises(DataError, match="a domain has no clip with a weight above 0"):
        ComBat().fit(X, domain=domain, sample_weight=domain != "a")
