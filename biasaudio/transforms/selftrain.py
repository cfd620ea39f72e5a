"""Class shifts without target labels: self-training behind a gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasaudio._linalg import right_vectors, smaller_gram_eigh
from biasaudio._parallel import one_blas_thread
from biasaudio._validation import check_categories, check_count, check_features, check_number
from biasaudio.errors import DataError, warn
from biasaudio.probes.metrics import weighted_auc
from biasaudio.probes.splits import deal_groups
from biasaudio.transforms._base import as_seed
from biasaudio.transforms.class_shifts import ClassShifts, Labelled

__all__ = ["FACTORS", "PseudoShifts", "decide", "guessed_shifts", "pseudo_shifts"]

_Array = NDArray[np.float64]
_Codes = NDArray[np.intp]
_Floats = NDArray[np.floating[Any]]
_Scorer = Callable[[_Array], _Array]

# What each decision of the gate multiplies the strength by, and what it asks for.
FACTORS: Mapping[str, float] = {"full": 1.0, "weak": 0.1, "none": 0.0}
_MOST_SPREAD = {"full": 1.1, "weak": 0.9}
_LEAST_RECURRENCE, _FEWEST_CLASSES, _FEWEST_CLIPS = 0.4, 2, 2.0
_SURE_CONFIDENCE, _SURE_AGREEMENT = 0.9, 0.95
# Heavier than what reads one set best (1e-3): a classifier that is to label *another*
# set gains 3 to 10 points of ROC-AUC there from a heavier penalty.
_PENALTY, _SHRINKAGE, _SHARPNESS = 0.1, 0.5, 2.0
_N_FOLDS = 3
_TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True, eq=False)
class PseudoShifts:
    """What self-training found, and what the gate makes of it.

    Attributes
    ----------
    source_means, target_means : np.ndarray [shape=(k, d)]
        The mean of each class, in the target by pseudo-labels.
    source_counts, target_counts : np.ndarray [shape=(k,)]
        How many clips each mean stands on; in the target ``sum p^2`` of the
        shares p, which is how many would be right if the shares were.
    within : float
        Mean variance of a feature inside a class of one set.
    probabilities : np.ndarray [shape=(n_target, k)]
        The pseudo-labels: shares, sharpened and balanced.
    evidence : dict of str to float
        What the gate reads, and more; see `pseudo_shifts`.
    decision : {"full", "weak", "none"}
    strength_factor : float in [0, 1]
        By what to multiply the strength of the correction.
    history : tuple of dict
        For each round the ``confidence``, the ``agreement`` of both
        classifiers and the share of clips whose label ``changed``.
    """

    source_means: _Array
    target_means: _Array
    source_counts: _Array
    target_counts: _Array
    within: float
    probabilities: _Array
    evidence: dict[str, float] = field(default_factory=dict)
    decision: str = "none"
    strength_factor: float = 0.0
    history: tuple[dict[str, float], ...] = ()

    @property
    def covered(self) -> NDArray[np.bool_]:
        """Which classes have a target count of 2 or more; the others give no shift."""
        return self.target_counts >= _FEWEST_CLIPS

    def class_shifts(
        self, classes: ArrayLike | None = None, domains: tuple[Any, Any] = ("source", "target")
    ) -> ClassShifts:
        """Shifts in the form that labelled clips give.

        Parameters
        ----------
        classes : array_like [shape=(k,)], optional
            What the classes are called; default their numbers.
        domains : tuple of two
            What source and target are called.

        Returns
        -------
        ClassShifts
            Of the classes with a target count of 2 or more, with the
            noise of each: ``shrunk("auto")`` draws those of few confident
            clips towards the mean shift.

        Raises
        ------
        DataError
            If there is no such class.
        """
        kept = self.covered
        if not kept.any():
            raise DataError(
                "no class has two target clips that look like it, so there are no shifts; "
                "leave self-training out, or label some target clips"
            )
        names = np.arange(len(kept)) if classes is None else np.asarray(classes)
        half = (self.target_means - self.source_means)[kept] / 2
        noise = (1 / self.source_counts[kept] + 1 / self.target_counts[kept]) * self.within / 4
        return ClassShifts(
            np.stack([-half, half], axis=1).reshape(-1, half.shape[1]),
            np.repeat(noise, 2),
            np.repeat(names[kept], 2),
            np.array(list(domains) * len(half)),
            self.within,
        )


@one_blas_thread()
def pseudo_shifts(
    X_source: ArrayLike,
    label_codes: ArrayLike,
    X_target: ArrayLike,
    groups_source: ArrayLike | None = None,
    *,
    strength: float = 10.0,
    rounds: int = 5,
    random_state: int | np.random.Generator | None = 0,
) -> PseudoShifts:
    """Class shifts from pseudo-labels, and whether to use them.

    Parameters
    ----------
    X_source : array_like [shape=(n, d)]
        Clips whose class is known, all features in one unit.
    label_codes : array_like of int or str [shape=(n,)]
        The class of each.
    X_target : array_like [shape=(m, d)]
        Clips of another dataset, without labels.
    groups_source : array_like [shape=(n,)], optional
        The recording or artist of each source clip: how sure the classifiers
        may be is set on held-out groups.
    strength : float
        The strength of the correction between the rounds, and what
        ``strength_factor`` refers to.
    rounds : int
    random_state : int, None or np.random.Generator
        Deals out the folds.

    Returns
    -------
    PseudoShifts

    Raises
    ------
    DataError
        If there are fewer than two classes or two target clips per class, or
        the arrays do not fit together.
    ParameterError
        If a parameter is not allowed.

    See Also
    --------
    NuisanceProjection : Uses the shifts.

    Notes
    -----
    In each round a ridge classifier and a shrunk discriminant analysis of the
    source, with temperatures set on held-out groups, label the target.  The
    geometric mean of their shares is squared and balanced to a class mix half
    way between the observed one and equal parts; the means ``t_c`` of the
    target weighted by these shares p, less those of the source ``s_c``, are
    the shifts.  Both sets are corrected with them, and the next round begins.
    A class with ``sum p^2 < 2`` gives no shift.

    **The gate** reads two things, with ``s``, ``t`` less their means:

    - ``spread``, the slope ``sum s_c't_c / sum s_c's_c``.  Shares that are
      partly wrong draw the ``t_c`` together, so it is below 1 if the classes
      mean the same.  Near 1 or above, a wide target was cut into slices along
      the classifiers' directions, and the shifts are those directions.
    - ``recurrence``, how often a classifier of the pseudo-labels of two thirds
      of the target gives the others their pseudo-label, 0 at chance.  In
      noise of many dimensions it is near 0.2, on real targets above 0.45.

    The decision is "none" if the recurrence is below 0.4 or the spread above
    0.9, else "weak": a tenth of the strength.  It is "full", up to a spread of
    1.1, if the last ``confidence`` reaches 0.9 and the ``agreement`` of both
    classifiers 0.95 (0 at chance), which no real pair did.

    Given but not read, since they did not tell pairs that gain from pairs that
    lose: ``stability`` (labels that survive all rounds) and ``reverse`` (what
    a classifier of the pseudo-labelled target gains in ROC-AUC on the source).
    Bootstrap refits and the agreement with the nearest class mean were tried
    too, and did not either.

    **Measured** on three sets of instrument notes, six ordered pairs, three
    embeddings (YAMNet, MusiCNN, 25 hand-crafted features), in points of
    ROC-AUC, on six splits.  The settings were chosen, among some thirty, on
    other splits of the same clips, so expect less elsewhere:

    ================  =====  ==========  ===========
    rule              mean   worst pair  worst split
    ================  =====  ==========  ===========
    always "full"     +1.6   -2.3        -4.3
    always "weak"     +1.5   -0.5        -2.9
    the gate          +1.5   -0.4        -2.9
    true labels       +7.7   +1.5        -1.5
    ================  =====  ==========  ===========

    It abstained on 7 % of the splits and never chose "full".  So it is the
    weak correction that keeps losses small; on these splits the gate itself
    earned next to nothing.  Six pairs with IRMAS (hand-crafted features)
    changed by -0.05 in the mean and -0.7 in the worst, where the uncorrected
    classifier is near chance (52.6).
    ``benchmarks/self_training.py`` prints every decision.

    What is not claimed: that the gate sees whether the target has the classes
    of the source.  Clips of other instruments give the same evidence as clips
    of the same ones.  A single split can lose points.

    References
    ----------
    Lee: Pseudo-label: the simple and efficient semi-supervised learning
    method for deep neural networks. ICML workshop 2013.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> codes = np.arange(300) % 3
    >>> X = 4 * np.eye(3, 8)[codes] + rng.normal(size=(300, 8))
    >>> shift = np.r_[np.zeros(3), 3, 3, np.zeros(3)]
    >>> found = pseudo_shifts(X, codes, X[::-1] + shift)
    >>> found.decision
    'full'
    >>> moved = (found.target_means - found.source_means).mean(axis=0)
    >>> bool(np.abs(moved - shift).max() < 0.1)
    True
    """
    source = check_features(X_source).astype(np.float64)
    target = check_features(X_target, n_features=source.shape[1]).astype(np.float64)
    classes, codes = check_categories(label_codes, "label_codes", len(source), at_least=2)
    groups = np.arange(len(source), dtype=np.intp)
    if groups_source is not None:
        _, groups = check_categories(groups_source, "groups_source", len(source))
    strength = check_number(strength, "strength", 0)
    rounds = check_count(rounds, "rounds", 1)
    if len(target) < 2 * len(classes):
        raise DataError(
            f"the target has {len(target)} clips for {len(classes)} classes; give two clips "
            "per class or more, or leave self-training out"
        )
    center = source.mean(axis=0)
    training = _Training(
        source - center,
        np.eye(len(classes))[codes],
        target - center,
        groups,
        np.random.default_rng(as_seed(random_state)),
    )
    return training.run(strength, rounds, center)


def decide(evidence: Mapping[str, float]) -> str:
    """Decision of the gate, from the evidence.

    Parameters
    ----------
    evidence : mapping of str to float
        As `pseudo_shifts` gives it.

    Returns
    -------
    {"full", "weak", "none"}
        "none" if ``recurrence < 0.4`` or ``covered < 2``.  Else, with sure
        labels (``confidence >= 0.9`` and ``agreement >= 0.95``) "full" up to
        a ``spread`` of 1.1; with others "weak" up to 0.9.
    """
    if evidence["recurrence"] < _LEAST_RECURRENCE or evidence["covered"] < _FEWEST_CLASSES:
        return "none"
    confident = evidence["confidence"] >= _SURE_CONFIDENCE
    choice = "full" if confident and evidence["agreement"] >= _SURE_AGREEMENT else "weak"
    return choice if evidence["spread"] <= _MOST_SPREAD[choice] else "none"


def guessed_shifts(
    X: _Floats,
    domain: NDArray[Any],
    found: Labelled,
    groups: ArrayLike | None,
    strength: float,
    seed: int,
) -> tuple[ClassShifts, dict[str, Any]]:
    """Shifts of the domain without labels, and what the gate decided from what it saw.

    Parameters
    ----------
    X : np.ndarray [shape=(n, d)]
        All clips.
    domain : np.ndarray [shape=(n,)]
    found : Labelled
        Those of one domain, which have labels.
    groups : array_like [shape=(n,)], optional
    strength : float
    seed : int

    Returns
    -------
    shifts : ClassShifts
        None at all where the gate abstains.
    gate : dict
        ``decision``, ``strength_factor`` and ``evidence``.

    Raises
    ------
    DataError
        If there is not one domain with labels and one without, or a clip of
        the first has several classes or none.
    """
    names = np.unique(domain)
    labelled = np.unique(found.domain)
    if len(names) != 2 or len(labelled) != 1:
        raise DataError(
            f"labels='pseudo' needs one domain with labels and one without, but {len(labelled)} of "
            f"{len(names)} have labels; give the target's clips the label ''"
        )
    if len(np.unique(found.rows)) != len(found.rows):
        raise DataError(
            "labels='pseudo' needs one class per clip, but some have several; leave these clips out"
        )
    if groups is not None:
        groups = np.asarray(groups)[found.rows]
    classes, codes = np.unique(found.label, return_inverse=True)
    if len(classes) < 2:
        raise DataError(
            f"labels='pseudo' needs two classes or more in the labelled domain, and it has "
            f"{str(classes[0])!r} only; give labels of other classes too"
        )
    target = X[domain != labelled[0]]
    guess = pseudo_shifts(found.X, codes, target, groups, strength=strength, random_state=seed)
    if guess.decision == "none":
        seen = ", ".join(f"{name} {value:.2f}" for name, value in guess.evidence.items())
        warn(
            f"labels='pseudo' abstains: the evidence ({seen}) does not allow a correction, so "
            "vectors stay as they are; label some target clips"
        )
    if guess.decision != "none" and guess.covered.any():
        other = names[names != labelled[0]][0]
        shifts = guess.class_shifts(classes, (labelled[0], other))
    else:
        none = np.array([], dtype=str)
        shifts = ClassShifts(np.zeros((0, X.shape[1])), np.zeros(0), none, none, guess.within)
    evidence = {name: float(value) for name, value in guess.evidence.items()}
    gate = {"decision": guess.decision, "strength_factor": float(guess.strength_factor)}
    return shifts, gate | {"evidence": evidence}


class _Training:
    """Rounds in which the target is labelled, and both sets are corrected."""

    def __init__(
        self, source: _Array, P: _Array, target: _Array, groups: _Codes, rng: np.random.Generator
    ) -> None:
        self._full = source, target
        self._P, self._rng = P, rng
        # Nothing changes outside of what the clips span, so few clips need few coordinates.
        self._basis = _span(np.concatenate(self._full))
        self._source, self._target = source @ self._basis, target @ self._basis
        self._labeller = _Labeller(self._source, P, groups, source.shape[1], rng)

    def run(self, strength: float, rounds: int, center: _Array) -> PseudoShifts:
        """Shifts that the last round found, with the evidence."""
        corrected = self._source, self._target
        history: list[dict[str, float]] = []
        shares: list[_Array] = []
        for _ in range(rounds):
            raw, agreement = self._labeller(*corrected)
            shares.append(_sharpen(raw))
            history.append(self._round(raw, agreement, shares))
            found = self._found(shares[-1], center)
            corrected = self._corrected(found, strength)
        evidence = history[-1] | self._evidence(found, shares[0], corrected)
        decision = decide(evidence)
        return replace(
            found,
            evidence=evidence,
            decision=decision,
            strength_factor=FACTORS[decision],
            history=tuple(history),
        )

    def _round(self, raw: _Array, agreement: float, shares: list[_Array]) -> dict[str, float]:
        labels, before = (P.argmax(axis=1) for P in (shares[-1], shares[max(len(shares) - 2, 0)]))
        return {
            "confidence": _beyond_chance(float(raw.max(axis=1).mean()), raw.shape[1]),
            "agreement": _beyond_chance(agreement, raw.shape[1]),
            "changed": float(np.mean(labels != before)),
        }

    def _found(self, P: _Array, center: _Array) -> PseudoShifts:
        source, target = self._full
        within = [_mean_within(source, self._P), _mean_within(target, P)]
        return PseudoShifts(
            source_means=_class_means(source, self._P) + center,
            target_means=_class_means(target, P) + center,
            source_counts=self._P.sum(axis=0),
            target_counts=np.square(P).sum(axis=0),
            within=float(np.average(within, weights=[len(source), len(target)])),
            probabilities=P,
        )

    def _corrected(self, found: PseudoShifts, strength: float) -> tuple[_Array, _Array]:
        if not found.covered.any():
            return self._source, self._target
        # Not shrunk: the labels gain from a bolder correction than the classifier does.
        shifts = found.class_shifts()
        _, sizes, V = np.linalg.svd(shifts.shifts @ self._basis, full_matrices=False)
        change = 1 / np.sqrt(1 + strength * sizes**2 / shifts.n_classes / found.within) - 1
        return (
            self._source + ((self._source @ V.T) * change) @ V,
            self._target + ((self._target @ V.T) * change) @ V,
        )

    def _evidence(
        self, found: PseudoShifts, first: _Array, corrected: tuple[_Array, _Array]
    ) -> dict[str, float]:
        last, k = found.probabilities, first.shape[1]
        places, seen = (M - M.mean(axis=0) for M in (found.source_means, found.target_means))
        reverse = self._reverse(*corrected, last) - self._reverse(self._source, self._target, first)
        same = float(np.mean(first.argmax(axis=1) == last.argmax(axis=1)))
        return {
            "spread": float(np.vdot(seen, places) / max(np.vdot(places, places), _TINY)),
            "recurrence": _beyond_chance(self._recurrence(first), k),
            "covered": float(found.covered.sum()),
            "stability": _beyond_chance(same, k),
            "reverse": reverse,
        }

    def _recurrence(self, P: _Array) -> float:
        """Share of target clips that a classifier on the others labels alike."""
        fold = deal_groups(np.arange(len(P)), _N_FOLDS, self._rng, as_turns=True)
        labels = np.zeros(len(P), dtype=np.intp)
        for k in range(fold.max() + 1):
            score = _ridge_scores(self._target[fold != k], P[fold != k])
            labels[fold == k] = score(self._target[fold == k]).argmax(axis=1)
        return float(np.mean(labels == P.argmax(axis=1)))

    def _reverse(self, source: _Array, target: _Array, P: _Array) -> float:
        """ROC-AUC on the source of a classifier on the pseudo-labelled target."""
        scores, flat = _ridge_scores(target, P)(source), np.ones(len(source))
        found = [weighted_auc(s, y > 0, flat) for s, y in zip(scores.T, self._P.T)]
        return float(np.mean(found))


def _class_means(X: _Array, P: _Array) -> _Array:
    """Mean of each class [shape=(k, d)], from shares [shape=(n, k)] of the clips."""
    means: _Array = (P.T @ X) / np.maximum(P.sum(axis=0), _TINY)[:, None]
    return means


def _mean_within(X: _Array, P: _Array) -> float:
    """Variance of a feature inside a class, averaged over clips and features."""
    squares = P.sum(axis=0) @ np.square(_class_means(X, P)).mean(axis=1)
    total = np.square(X).mean(axis=1) @ P.sum(axis=1)
    return max(float((total - squares) / P.sum()), _TINY)


def _beyond_chance(share: float, k: int) -> float:
    """Share of equal labels as 0 at chance (one of k) and 1 at all."""
    return (share - 1 / k) / (1 - 1 / k)


def _ridge_scores(X: _Array, P: _Array) -> _Scorer:
    """Scorer by ridge regression on class shares, all classes at equal weight."""
    weights = (P / np.maximum(P.sum(axis=0), 1e-9)).sum(axis=1)
    weights /= weights.sum()
    mean, share = weights @ X, weights @ P
    root = np.sqrt(weights)[:, None]
    Z, T = (X - mean) * root, (P - share) * root
    W = Z.T @ _solve(Z @ Z.T, T) if len(Z) < Z.shape[1] else _solve(Z.T @ Z, Z.T @ T)
    return lambda X: (X - mean) @ W + share


def _solve(gram: _Array, right: _Array) -> _Array:
    """Solution with a penalty relative to the largest eigenvalue."""
    # A few steps of power iteration: a penalty need not be exact.
    v: Any = np.linalg.norm(gram, axis=1)
    for _ in range(15):
        v = gram @ (v / max(float(np.linalg.norm(v)), _TINY))
    gram.flat[:: len(gram) + 1] += max(_PENALTY * float(np.linalg.norm(v)), _TINY)
    return np.asarray(np.linalg.solve(gram, right), dtype=np.float64)


def _discriminant_scores(X: _Array, P: _Array, width: int) -> _Scorer:
    """Scorer by discriminant analysis with a shrunk covariance."""
    means = _class_means(X, P)
    covariance = (X * P.sum(axis=1)[:, None]).T @ X - (means * P.sum(axis=0)[:, None]).T @ means
    covariance *= (1 - _SHRINKAGE) / P.sum()
    # X may be rotated into fewer coordinates than the vectors have; the mean variance is theirs.
    level = np.trace(covariance) / (1 - _SHRINKAGE) / width
    covariance.flat[:: len(covariance) + 1] += max(_SHRINKAGE * level, _TINY)
    W = np.linalg.solve(covariance, means.T)
    offset = -0.5 * (means * W.T).sum(axis=1)
    return lambda X: X @ W + offset


def _softmax(scores: _Array) -> _Array:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: _Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _sharpen(P: _Array) -> _Array:
    """Shares that are surer, and half as far from equal class sizes.

    The squares of the shares are balanced, by turns over clips and classes,
    to a mix half way between what they say and equal parts: a classifier
    carried to another set tends to see few of its classes there.
    """
    k = P.shape[1]
    P = P**_SHARPNESS
    P /= P.sum(axis=1, keepdims=True)
    mix = 0.5 / k + 0.5 * P.mean(axis=0)
    P += 1e-9
    for _ in range(30):
        P *= mix / P.mean(axis=0)
        P /= P.sum(axis=1, keepdims=True)
    return P


class _Labeller:
    """Labels of clips from two classifiers whose confidence is set on held-out groups.

    Parameters
    ----------
    X : np.ndarray [shape=(n, d)]
        The source clips.
    P : np.ndarray of 0 and 1 [shape=(n, k)]
        Their classes.
    groups : np.ndarray of int [shape=(n,)]
    width : int
        The number of features that the clips had before X was rotated.
    rng : np.random.Generator
        Deals out the folds.
    """

    def __init__(
        self, X: _Array, P: _Array, groups: _Codes, width: int, rng: np.random.Generator
    ) -> None:
        self._P, self._width = P, width
        fold = deal_groups(groups, _N_FOLDS, rng, as_turns=True)
        held = [np.zeros_like(P), np.zeros_like(P)]
        for k in range(_N_FOLDS):
            test = fold == k
            if test.any() and not test.all():
                for scores, score in zip(held, self._fit(X[~test], P[~test])):
                    scores[test] = score(X[test])
        self._temperatures = [_temperature(scores, P) for scores in held]

    def _fit(self, X: _Array, P: _Array) -> list[_Scorer]:
        return [_ridge_scores(X, P), _discriminant_scores(X, P, self._width)]

    def __call__(self, source: _Array, target: _Array) -> tuple[_Array, float]:
        """Shares [shape=(n_target, k)], and the share of clips on which both agree."""
        fitted = self._fit(source, self._P)
        found = [_softmax(f(target) / t) for f, t in zip(fitted, self._temperatures)]
        P = np.sqrt(found[0] * found[1]) + _TINY
        agree: Any = np.mean(found[0].argmax(axis=1) == found[1].argmax(axis=1))
        return P / P.sum(axis=1, keepdims=True), float(agree)


def _temperature(scores: _Array, P: _Array) -> float:
    """Divisor of held-out scores that makes their shares as sure as they are right.

    The best log-likelihood decides, every class at equal weight.
    """
    grid = max(float(scores.std()), _TINY) * np.geomspace(0.03, 3, 25)
    weights = P / P.sum(axis=0)
    losses = [-(weights * np.log(_softmax(scores / t) + 1e-12)).sum() for t in grid]
    return float(grid[int(np.argmin(losses))])


def _span(X: _Array) -> _Array:
    """Orthonormal basis [shape=(d, r)] of what the rows span, r = d for many rows."""
    n, d = X.shape
    if n >= d:
        return np.eye(d)
    values, vectors, _ = smaller_gram_eigh(X)
    kept = values > max(float(values[-1]), _TINY) * 1e-12
    return right_vectors(X, values[kept], vectors[:, kept])
