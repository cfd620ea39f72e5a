"""Planted clips, and what each correction promises about them."""

import inspect
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from biasaudio.transforms import METHODS
from biasaudio.transforms.methods import apply_correction

# The same few examples every time: a test that fails today failed yesterday.  A smaller
# example than planted clips tells no more, so none is searched for.
PROPERTY = settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=(HealthCheck.too_slow,),
)
# Rounding of float64, for vectors of size one.
EXACT = 1e-9
each_method = pytest.mark.parametrize("name", METHODS)


@dataclass(frozen=True)
class Traits:
    """Say which theorems hold for a method.

    Attributes
    ----------
    affine : bool
        It maps vectors to vectors, one affine map per domain.
    corrects : bool
        It needs the domain; the kernel map alone does not.
    erases : bool
        On the fitted clips the domains have equal means.
    idempotent : bool
        Applying it twice is applying it once.
    mean : {"clips", "domains", None}
        What stays: the mean of all clips, the mean of the domain means.
    rank : callable or None
        The rank of the change, from the numbers of domains and of genres.
    rotates : dict or None
        Parameters with which rotating the vectors rotates the correction.
    fixed : dict
        Parameters for which nothing is chosen from the clips: the automatic
        choices need them all at once, and know that copies are no news.
    random : bool
        It splits clips at random, so all tests here fix its parameters.
    copies : bool
        With fixed parameters, a weight of three is three copies; else the
        method goes by how many different clips there are.
    shares : bool
        With fixed parameters, only the ratios of the weights count.
    preserves : bool
        What is given as ``preserve`` keeps its covariance with the vectors.
    floor : bool
        Features that hardly vary are lifted to a floor, with a warning.
    lost : float
        How much accuracy for classes it may cost on planted clips.
    """

    affine: bool = True
    corrects: bool = True
    erases: bool = False
    idempotent: bool = False
    mean: str | None = None
    rank: object = None
    rotates: dict | None = None
    fixed: dict = field(default_factory=lambda: {"shrinkage": 0.1})
    random: bool = False
    copies: bool = True
    shares: bool = True
    preserves: bool = True
    floor: bool = False
    lost: float = 0.05


TRAITS = {
    "lda": Traits(idempotent=True, rank=lambda k, g: k - 1, rotates={"shrinkage": 0.1}, floor=True),
    "mlda": Traits(
        idempotent=True, rank=lambda k, g: g * (k - 1), rotates={"shrinkage": 0.1}, floor=True
    ),
    "meandiff": Traits(erases=True, idempotent=True, rank=lambda k, g: k - 1, rotates={}),
    "leace": Traits(
        erases=True,
        idempotent=True,
        mean="clips",
        rank=lambda k, g: k - 1,
        rotates={"shrinkage": 0.1},
        floor=True,
    ),
    "rleace": Traits(erases=True, idempotent=True, mean="clips", copies=False, floor=True),
    "center": Traits(erases=True, mean="domains", rank=lambda k, g: 0, rotates={}),
    "standardize": Traits(erases=True, mean="domains"),
    "coral": Traits(erases=True, mean="domains", rotates={"shrinkage": 0.1, "scale": False}),
    "combat": Traits(fixed={}, shares=False, preserves=False),
    "inlp": Traits(erases=True, idempotent=True, mean="domains", fixed={"n_iter": 1}, random=True),
    "k": Traits(affine=False, corrects=False),
    "klda": Traits(affine=False),
    "mklda": Traits(affine=False),
    "kleace": Traits(affine=False, erases=True),
    "nap": Traits(fixed={"strength": 10.0}, random=True, copies=False),
    # The gate has its own tests; here it is the same projection with true labels.
    "selftrain": Traits(fixed={"strength": 10.0, "labels": "true"}, random=True, copies=False),
    "wccn": Traits(fixed={"strength": 10.0, "shrinkage": 0.1}, random=True, copies=False),
}


def fixed(name):
    """Return parameters with which nothing is chosen from the clips."""
    return TRAITS.get(name, Traits()).fixed


def promising(claim):
    """Return the names of the methods for whose traits ``claim`` is true."""
    return [name for name in METHODS if claim(TRAITS.get(name, Traits()))]


def is_affine(traits):
    """Return whether vectors stay vectors of the same space."""
    return traits.affine


def each(claim):
    """Run a test for these methods."""
    return pytest.mark.parametrize("name", promising(claim))


def taking(keyword, method="fit"):
    """Return the names of the affine methods whose ``fit`` has this keyword."""
    found = {name: getattr(METHODS[name].estimator, method) for name in promising(is_affine)}
    return [n for n, f in found.items() if keyword in inspect.signature(f).parameters]


def streamed():
    """Return the names of the methods that can be fitted batch by batch."""
    return [name for name in METHODS if hasattr(METHODS[name].estimator, "partial_fit")]


@dataclass(frozen=True)
class Planted:
    """Hold planted clips: vectors, categories, and a level in decibels."""

    X: np.ndarray
    domain: np.ndarray
    genre: np.ndarray
    label: np.ndarray
    level: np.ndarray

    def columns(self, method):
        """Return the columns that a method needs in ``fit``."""
        return {name: getattr(self, name) for name in method.needs}

    def rows(self, index):
        """Return these clips only, in this order."""
        return Planted(*(value[index] for value in vars(self).values()))

    def using(self, **values):
        """Return the same clips with other vectors or categories."""
        return replace(self, **values)

    def gap(self, Z=None, weights=None):
        """Return the largest difference of two domain means, in Z or X."""
        Z = self.X if Z is None else Z
        w = np.ones(len(Z)) if weights is None else weights
        means = [np.average(Z[m].astype(float), axis=0, weights=w[m]) for m in self.masks()]
        return np.ptp(means, axis=0).max()

    def masks(self):
        """Return which clips are of each domain."""
        return [self.domain == name for name in np.unique(self.domain)]


def plant(seed=0, *, n=240, d=8, domains=2, labels=3, genres=2, mean=0.0, dtype=np.float64):
    """Return clips whose domain, genre, class and level all show in the vectors.

    Domains differ in size, in class mix, in mean, in scale, and in where each
    class lies.
    """
    rng = np.random.default_rng(seed)
    sizes = np.arange(2, domains + 2) * n // np.arange(2, domains + 2).sum()
    domain = np.repeat(np.arange(domains), sizes)
    place = np.concatenate([np.arange(size) for size in sizes])
    # One class is twice as frequent, another one in each domain.
    label = (place % (labels + 1) % labels + domain) % labels
    genre = place // (labels + 1) % genres
    mix = np.linalg.qr(rng.normal(size=(d, d)))[0] * np.linspace(1, 0.5, d)
    X = rng.normal(size=(len(domain), d)) @ mix
    X *= rng.uniform(0.7, 1.4, (domains, d))[domain]
    X += signs(rng, domains, d)[domain] + 1.5 * signs(rng, labels, d)[label]
    X += 0.3 * signs(rng, domains * labels, d)[domain * labels + label]
    X += 0.3 * signs(rng, genres, d)[genre]
    level = rng.normal(size=len(X)) + 0.5 * domain
    X += np.outer(level, rng.normal(size=d) * 0.3) + mean
    names = (np.array(["a", "b", "c", "d"])[domain], np.array(["jazz", "pop", "rock"])[genre])
    clips = Planted(X, *names, np.array(["flute", "guitar", "voice"])[label], level)
    clips = clips.rows(rng.permutation(len(X)))
    return clips.using(X=clips.X.astype(dtype))


def signs(rng, k, d):
    """Return k different offsets, each as long as noise of variance one."""
    return rng.choice([-0.8, 0.8], (k, d)) + rng.normal(size=(k, d)) * 0.4


def planted(**options):
    """Draw planted clips; what is given in ``options`` is not drawn."""
    drawn = {
        "seed": st.integers(0, 2**32 - 1),
        "n": st.sampled_from((180, 241)),
        # Three genres of four domains give nine directions; some must be left.
        "d": st.integers(10, 14),
        "domains": st.integers(2, 4),
        "genres": st.integers(2, 3),
    }
    return st.builds(plant, **(drawn | {k: st.just(value) for k, value in options.items()}))


def make(name, params=None):
    """Return a fresh estimator, with those of the parameters that it has."""
    estimator = METHODS[name].make()
    known = estimator.get_params()
    wanted = (fixed(name) if TRAITS.get(name, Traits()).random else {}) | (params or {})
    return estimator.set_params(**{k: v for k, v in wanted.items() if k in known})


def fit(name, clips, params=None, **columns):
    """Return a method fitted on planted clips; ``columns`` go to ``fit``."""
    return make(name, params).fit(clips.X, **(clips.columns(METHODS[name]) | columns))


def correct(fitted, clips):
    """Return the corrected vectors of planted clips."""
    return apply_correction(fitted, clips.X, clips.domain)


def maps(fitted, clips):
    """Return the affine map of each domain, of either family."""
    affine = fitted.to_affine()
    names = np.unique(clips.domain).tolist()
    return affine if fitted.domain_aware else dict.fromkeys(names, affine)
