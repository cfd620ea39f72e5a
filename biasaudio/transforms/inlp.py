"""Iterated nullspace projection (INLP): one probe direction after the other."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasaudio._linalg import orthogonal, right_vectors, smaller_gram_eigh
from biasaudio._parallel import one_blas_thread
from biasaudio._validation import (
    check_categories,
    check_choice,
    check_count,
    check_number,
    check_sample_weight,
)
from biasaudio.errors import DataError, ParameterError, warn
from biasaudio.moments import Cell, Moments
from biasaudio.probes.metrics import weighted_auc
from biasaudio.probes.splits import assign_parts, equal_mix
from biasaudio.transforms._affine import Affine
from biasaudio.transforms._base import DomainFreeTransform, StreamingFit, as_seed, clip_weights
from biasaudio.transforms._covariance import (
    Group,
    ShrunkCovariance,
    check_shrinkage,
    domain_groups,
    shrunk_covariance,
)

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["NullspaceProjection"]

_Array = NDArray[np.float64]
_Codes = NDArray[np.intp]
_Floats = NDArray[np.floating[Any]]
_BLOCK = 4096
# A held-out AUC that is lower by less than this is not clearly lower.
_CLEAR = 0.02
# A gap this much smaller than the first is rounding.
_NOTHING = 1e-7
# The share of the kept dimensions that may go: in a fit, and in the trials of "auto".
_MOST, _MOST_OF_TRIAL = 0.5, 0.25
# Of the ridge probe on held-out clips, relative to the largest eigenvalue: what the identity probe
# usually takes.
_PENALTY = 1e-3


class NullspaceProjection(StreamingFit, DomainFreeTransform):
    """Iterated nullspace projection (INLP) until a fresh probe reads no less.

    Domain-free at transform: needs ``domain`` in ``fit`` only.

    Parameters
    ----------
    n_iter : int or "auto", default "auto"
        Rounds; each takes k - 1 directions for k domains, and at most half of
        the kept dimensions go.  "auto" chooses by cross-fitting, up to a
        quarter of them; ``partial_fit`` needs an int.
    probes : {"halves", "all"}
        "halves": the first round takes the mean differences, every further
        one the probe of a random half of the clips.  "all": the published
        method, every probe sees all clips; the first direction is then that
        of `LDAProjection`, and it ends when the domain means are equal.
    shrinkage : float in [0, 1], "auto" or "oas", default 0.1
        Of the within-domain covariance of the probes; found once, before the
        first round.
    variance : float in (0, 1], default 0.99
        Only the leading principal directions that hold this share of the
        variance within domains are kept; 1 keeps everything.
    max_iter : int, default 64
        The most rounds that "auto" tries.
    alpha : float in [0, 1], default 1
        The share of the change that is applied.
    random_state : int, np.random.Generator or None, default 0
        Of the halves and of the split of "auto".

    Attributes
    ----------
    domains_ : np.ndarray [shape=(k,)]
    directions_ : np.ndarray [shape=(m, d)]
        Orthonormal, in the order in which they were found.
    n_iter_ : int
        Rounds that were done.
    n_kept_ : int
        Dimensions that are left.
    ranks_, auc_path_ : np.ndarray [shape=(p,)]
        With "auto": the numbers of rounds that were tried, from 0 for no
        correction, and the held-out domain AUC after each.
    affine_ : Affine
    n_features_in_ : int

    See Also
    --------
    MeanProjection : The first round alone, at ``variance=1``.
    LDAProjection : The first round of ``probes="all"``, at ``variance=1``.
    LEACE : Removes no more than needed on the fitted clips.

    Notes
    -----
    With the directions V so far, P = I - V'V, the mean differences g and the
    shrunk within-domain covariance A, a round adds the ridge probe of the
    projected clips,

        w = argmin w'A w - 2 w'P g  subject to  V w = 0,

    in closed form from the moments: no round passes over the data.  The map
    is ``x -> m + (x - m) K'K (I - V'V)``, K being the kept directions.

    On the fitted clips the means are equal after the first round of "halves";
    what a probe reads on new clips is the error of the estimated means.  Two
    things lower it: directions outside of the leading ones are dropped, as
    the clips are too few to compare domains there, and the gap between random
    halves, an error of the same size, is what further rounds take.  "auto"
    splits the clips (by ``groups``) in three, finds directions on one part,
    fits a new probe on the second and reads it on the third, and takes the
    fewest rounds within 0.02 of the lowest AUC.  Where clips are fewer than
    dimensions that is often one: a round more gains little and costs a
    direction, and ``variance`` decides.

    What is not claimed: that nothing linear is left on new clips; that the
    rank, chosen on a third of the clips, is best for all; that classes which
    live in the deleted dimensions survive.  With ``probes="all"`` the means
    of the fitted clips are equal only if it ended by itself.

    References
    ----------
    Ravfogel, Elazar, Gonen, Twiton, Goldberg: Null It Out: Guarding Protected
    Attributes by Iterative Nullspace Projection. ACL 2020, arXiv:2004.07667.

    Examples
    --------
    >>> from biasaudio.datasets.synthetic import make_domains
    >>> table, _ = make_domains(n=300, d=32, random_state=0)
    >>> inlp = NullspaceProjection().fit(table.X, domain=table.clips.dataset)
    >>> bool(inlp.auc_path_[0] > 0.8 > 0.65 > inlp.auc_path_.min())
    True
    """

    __metadata_request__fit: ClassVar[dict[str, Any]] = {
        "domain": True,
        "balance": True,
        "groups": True,
    }

    def __init__(
        self,
        *,
        n_iter: int | str = "auto",
        probes: str = "halves",
        shrinkage: float | str = 0.1,
        variance: float = 0.99,
        max_iter: int = 64,
        alpha: float = 1.0,
        random_state: int | np.random.Generator | None = 0,
    ) -> None:
        self.n_iter = n_iter
        self.probes = probes
        self.shrinkage = shrinkage
        self.variance = variance
        self.max_iter = max_iter
        self.alpha = alpha
        self.random_state = random_state

    @one_blas_thread()
    def fit(
        self,
        X: ArrayLike,
        y: object = None,
        *,
        domain: ArrayLike | None = None,
        balance: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Find the directions, and how many.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        y : ignored
        domain : array_like of str or int [shape=(n,)]
            Two or more datasets.
        balance : array_like of str or int [shape=(n,)], optional
            The class of each clip.  Domains are then compared at equal class
            mix, over the classes that all have.
        groups : array_like of str or int [shape=(n,)], optional
            Song or artist; clips of one are in one half and in one part.
        sample_weight : array_like [shape=(n,)], optional
            What each clip counts for; default 1, and for "auto" 0 or 1.

        Returns
        -------
        self

        Raises
        ------
        ParameterError
            If the domain is missing or a parameter is not allowed.
        DataError
            If there is one domain only, X is not usable, or "auto" finds a
            domain with fewer than three groups.
        """
        self._check_parameters()
        seed = as_seed(self.random_state)
        for name in ("ranks_", "auc_path_"):
            self.__dict__.pop(name, None)
        X, domains, codes = self._fit_input(X, domain)
        weights = clip_weights(codes, len(domains), balance, sample_weight)
        units = None if groups is None else check_categories(groups, "groups", len(X))[1]
        n_iter = self.n_iter
        if n_iter == "auto":
            n_iter = self._choose(X, codes, weights, balance, units, seed)
        return self._keep(self._fit_clips(X, codes, weights, units, seed, int(n_iter)))

    def _fit_clips(
        self,
        X: _Floats,
        codes: _Codes,
        weights: _Array | None,
        units: _Codes | None,
        seed: int,
        n_iter: int,
        limit: float = _MOST,
    ) -> _Rounds:
        """Find the rounds that these clips give, at most so many."""
        halves = None
        if self.probes == "halves":
            halves = _Halves(n_iter - 1, seed).update(X, codes, weights, units)
        return self._solve(domain_groups(X, codes, weights), halves, n_iter, limit)

    @one_blas_thread()
    def _fit_moments(self, moments: Moments) -> None:
        groups = [Group(cell) for cell in moments.by("domain").values()]
        self._keep(self._solve(groups, self._seen, int(self.n_iter)))

    def _solve(
        self, groups: Sequence[Group], halves: _Halves | None, n_iter: int, limit: float = _MOST
    ) -> _Rounds:
        """So many rounds, from moments of the domains and of random halves of the clips."""
        m = np.mean([group.cell.mean for group in groups], axis=0)
        h = None if halves is None else halves.gaps()
        K = None
        if self.variance < 1:
            # All rounds are found in the coordinates of the kept directions: these are fewer.
            K = _principal(groups, self.variance)
            groups = [_along(group, K, m) for group in groups]
            h = None if h is None else h @ K.T
        means = np.stack([group.cell.mean for group in groups])
        g = means[1:] - means[0]
        A = shrunk_covariance(groups, self.shrinkage)
        V, ends, is_done = _find_directions(A, g, h, n_iter, limit)
        return _Rounds(m, K, V, ends, len(ends) < n_iter and not is_done)

    def _keep(self, found: _Rounds) -> Self:
        """Set the attributes, from the rounds that were found."""
        self.directions_ = found.directions
        self.n_iter_ = len(found.ends)
        self.n_kept_ = found.n_kept
        if found.is_cut and self.n_iter != "auto":
            warn(
                f"n_iter={self.n_iter} was cut to {self.n_iter_}: more would take over half of "
                f"the {self.n_kept_ + len(self.directions_)} dimensions that hold "
                f"variance={self.variance}; give that number, or a larger variance"
            )
        self.affine_ = found.affine()
        return self

    def _check_streaming(self) -> None:
        self._check_parameters()
        if self.n_iter == "auto":
            raise ParameterError(
                "n_iter='auto' splits all clips at once, which partial_fit does not keep; set "
                "n_iter to a whole number"
            )

    def _batch_moments(
        self, X: _Floats, domain: NDArray[Any], sample_weight: ArrayLike | None, **columns: Any
    ) -> Moments:
        found = super()._batch_moments(X, domain, sample_weight, **columns)
        if not hasattr(self, "moments_"):
            halves = _Halves(int(self.n_iter) - 1, as_seed(self.random_state))
            self._seen = None if self.probes == "all" else halves
        if self._seen is not None:
            weights = None if sample_weight is None else check_sample_weight(sample_weight, len(X))
            # A copy, as these clips may still be refused.
            self._seen = copy.deepcopy(self._seen).update(X, domain, weights)
        return found

    def _check_parameters(self) -> None:
        check_shrinkage(self.shrinkage)
        check_choice(self.probes, "probes", ("halves", "all"))
        check_count(self.max_iter, "max_iter", 1)
        if check_number(self.variance, "variance", 0, 1) == 0:
            raise ParameterError("variance=0 keeps nothing; give a share above 0, up to 1")
        if self.n_iter != "auto":
            check_count(self.n_iter, "n_iter", 1)

    def _choose(
        self,
        X: _Floats,
        codes: _Codes,
        weights: _Array | None,
        balance: ArrayLike | None,
        units: _Codes | None,
        seed: int,
    ) -> int:
        """Choose the number of rounds after which more do not lower the held-out AUC."""
        rng = np.random.default_rng(seed)
        strata = np.zeros(len(X), dtype=np.intp)
        units = np.arange(len(X)) if units is None else units
        rows = np.arange(len(X)) if weights is None else np.flatnonzero(weights > 0)
        if balance is not None:
            strata = check_categories(balance, "balance", len(X))[1]
            rows = rows[equal_mix(codes[rows], strata[rows], rng, self.domains_)]
        X, codes, units, strata = X[rows], codes[rows], units[rows], strata[rows]
        most = self.max_iter
        self.ranks_ = np.unique([0, *(2 ** np.arange(most.bit_length())), most])

        def fit(part: _Codes) -> _Rounds:
            clips = X[part], codes[part], None, units[part]
            return self._fit_clips(*clips, seed, most, limit=_MOST_OF_TRIAL)

        try:
            self.auc_path_ = _held_out_path(
                X, codes, units, strata, fit, self.ranks_, names=self.domains_, rng=rng
            )
        except DataError as error:
            raise DataError(f"n_iter='auto': {error}; or set n_iter=1") from error
        is_good = self.auc_path_[1:] <= self.auc_path_[1:].min() + _CLEAR
        return int(self.ranks_[1:][is_good.argmax()])


@dataclass(frozen=True)
class _Rounds:
    """The directions that were found, and the map that projects them out.

    Attributes
    ----------
    center : np.ndarray [shape=(d,)]
        The mean of the domain means, which stays.
    basis : np.ndarray [shape=(r, d)] or None
        The directions that are kept; None for all.
    found : np.ndarray [shape=(m, r)]
        Orthonormal, in the coordinates of the basis.
    ends : np.ndarray of int
        How many directions there are after each round.
    is_cut : bool
        Whether more would have taken over the limit of the dimensions.
    """

    center: _Array
    basis: _Array | None
    found: _Array
    ends: _Codes
    is_cut: bool

    @property
    def directions(self) -> _Array:
        """The directions in the coordinates of x [shape=(m, d)]."""
        return self.found if self.basis is None else self.found @ self.basis

    @property
    def n_kept(self) -> int:
        """How many dimensions the map leaves."""
        return int(self.found.shape[1] - len(self.found))

    def affine(self, end: int | None = None) -> Affine:
        """Map that projects the first ``end`` directions out."""
        d, V = len(self.center), self.found[:end]
        if self.basis is None:
            return Affine(self.center, V.T, -V, np.zeros(d))
        left = np.linalg.svd(V, full_matrices=True)[2][len(V) :] @ self.basis
        if 2 * len(left) <= d:
            return Affine(self.center, left.T, left, np.zeros(d), -np.ones(d))
        gone = np.linalg.svd(left, full_matrices=True)[2][len(left) :]
        return Affine(self.center, gone.T, -gone, np.zeros(d))


class _Halves:
    """Domain means of many random halves of the clips.

    Parameters
    ----------
    n_halves : int
    seed : int

    Notes
    -----
    Whether a clip (or its group) is in a half is a draw of its own, in the
    order in which clips come, so that batches give what all clips at once do.
    """

    def __init__(self, n_halves: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._n = n_halves
        self._center: _Array | None = None
        self._sums: dict[Any, tuple[_Array, _Array]] = {}

    def update(
        self, X: _Floats, names: NDArray[Any], weights: _Array | None, groups: _Codes | None = None
    ) -> _Halves:
        """Add clips of the domains ``names`` [shape=(n,)]."""
        if self._center is None:
            self._center = X[:_BLOCK].mean(axis=0, dtype=np.float64)
        units = np.arange(len(X)) if groups is None else groups
        is_in = (self._rng.random((int(units.max()) + 1, self._n)) < 0.5)[units]
        for name in np.unique(names).tolist():
            rows = np.flatnonzero(names == name)
            count, total = self._sums.get(
                name, (np.zeros(self._n), np.zeros((self._n, X.shape[1])))
            )
            for start in range(0, len(rows), _BLOCK):
                block = rows[start : start + _BLOCK]
                share = is_in[block] * (1.0 if weights is None else weights[block, None])
                count = count + share.sum(axis=0)
                total = total + share.T @ (X[block] - self._center)
            self._sums[name] = count, total
        return self

    def gaps(self) -> _Array:
        """Differences of the domain means in each half [shape=(n_halves, k - 1, d)].

        Zero where a half has no clip of some domain.
        """
        counts = np.stack([count for count, _ in self._sums.values()])
        sums = np.stack([total for _, total in self._sums.values()])
        means = sums / np.where(counts > 0, counts, 1)[:, :, None]
        is_whole = np.all(counts > 0, axis=0)
        gaps: _Array = np.moveaxis(means[1:] - means[0], 0, 1) * np.reshape(is_whole, (-1, 1, 1))
        return gaps


def _find_directions(
    A: ShrunkCovariance, g: _Array, halves: _Array | None, rounds: int, limit: float
) -> tuple[_Array, _Codes, bool]:
    """Orthonormal directions, one probe after the other.

    It ends early where more than the limit of the dimensions would go.

    Parameters
    ----------
    A : ShrunkCovariance
        Within the domains, of all clips, before the first round.
    g : np.ndarray [shape=(k - 1, d)]
        What tells the domain means apart.
    halves : np.ndarray [shape=(rounds - 1, k - 1, d)], optional
        The same of random halves.  If given, the first round takes g
        itself; else every round takes the probe of all clips.
    rounds : int
    limit : float
        The largest share of the dimensions that may go.

    Returns
    -------
    directions : np.ndarray [shape=(m, d)]
    ends : np.ndarray of int
        How many directions there are after each round.
    is_done : bool
        Whether it ended because nothing was left to find.

    Notes
    -----
    With the directions V so far and P = I - V'V, the ridge probe of projected
    clips is the w orthogonal to V with ``P A w = P g``, A being the shrunk
    covariance, so ``w = A^-1 (P g + V'u)``, where u makes ``V w = 0``.
    """
    try:
        solve = A.solver()
    except np.linalg.LinAlgError:
        raise DataError(
            f"the within-domain covariance in {g.shape[1]} dimensions is singular; use a larger "
            "shrinkage, or variance below 1"
        ) from None
    size = np.linalg.norm(g)
    V = np.zeros((0, g.shape[1])) if halves is None else orthogonal(g)
    A_V = solve(V.T)  # A^-1 V', a column more with every direction
    ends, is_done = ([] if halves is None else [len(V)]), False
    # Every direction takes a share of all else with it.
    while len(ends) < rounds and (not ends or len(V) + len(g) <= limit * g.shape[1]):
        left = g if halves is None else halves[len(ends) - 1]
        left = left - (left @ V.T) @ V  # P g
        if np.linalg.norm(left) > _NOTHING * size:
            w = solve(left.T)
            if len(V):
                w -= A_V @ np.linalg.solve(V @ A_V, V @ w)
            found = orthogonal(w.T)
            # Once more against rounding: a projection that is not one leaks.
            found = orthogonal(found - (found @ V.T) @ V)
            V, A_V = np.concatenate([V, found]), np.concatenate([A_V, solve(found.T)], axis=1)
        elif halves is None:
            is_done = True
            break
        ends.append(len(V))
    return V, np.array(ends, dtype=np.intp), is_done


def _principal(groups: Sequence[Group], share: float) -> _Array:
    """Directions that hold this share of the within-domain variance.

    Parameters
    ----------
    groups : sequence of Group
        One per domain; all count the same.
    share : float in (0, 1)

    Returns
    -------
    np.ndarray [shape=(r, d)]
        Orthonormal, the largest variance first; at least one.
    """
    k = len(groups)
    if groups[0].cell.scatter.ndim == 1:
        rows = np.concatenate([group.rows() for group in groups]) / np.sqrt(k)
        values, vectors, _ = smaller_gram_eigh(rows)
    else:
        values, vectors = np.linalg.eigh(np.mean([g.cell.covariance for g in groups], axis=0))
    values = np.maximum(values[::-1], 0.0)
    held = np.cumsum(values)
    n = min(int(np.searchsorted(held, share * held[-1])) + 1, len(values))
    vectors = vectors[:, ::-1][:, :n]
    if groups[0].cell.scatter.ndim == 1:
        vectors = np.linalg.qr(right_vectors(rows, values[:n], vectors))[0]
    basis: _Array = vectors.T
    return basis


def _along(group: Group, basis: _Array, center: _Array) -> Group:
    """Group in the coordinates of a basis, about a center."""
    cell = group.cell
    if group.X is None:
        mean, scatter = basis @ (cell.mean - center), basis @ cell.scatter @ basis.T
        return Group(Cell(cell.n, mean, scatter, cell.n_squared))
    Z: _Array = (group.X[group.at] - center) @ basis.T
    return Group(Cell.of(Z, group.weights, dtype=np.float64), Z, group.weights)


def _held_out_path(
    X: _Floats,
    codes: _Codes,
    groups: _Codes,
    strata: _Codes,
    fit: Callable[[_Codes], _Rounds],
    ranks: _Codes,
    *,
    names: NDArray[Any],
    rng: np.random.Generator,
) -> _Array:
    """Held-out domain AUC of a fresh probe after each number of rounds.

    The directions are found on part A, the probe is fitted on part B and
    scored on part C, in three rotations.

    Parameters
    ----------
    X : np.ndarray [shape=(n, d)]
    codes, groups, strata : np.ndarray of codes [shape=(n,)]
        The domain, the group and the class of each clip.
    fit : callable
        Takes row numbers, returns the rounds found on these clips.
    ranks : np.ndarray of int [shape=(p,)]
        The numbers of rounds, rising; the first is 0, for clips as they are.
    names : np.ndarray
        What the domain codes stand for.
    rng : np.random.Generator

    Returns
    -------
    np.ndarray [shape=(p,)]
        One against the rest, averaged over domains.
    """
    path = []
    for _ in range(3 if len(X) < 4000 else 1):
        part = assign_parts(groups, codes, strata, 3, rng, names)
        for k in range(3):
            a, b, c = (np.flatnonzero(part == (k + j) % 3) for j in range(3))
            found = fit(a)
            ends = found.ends[np.minimum(ranks[1:], len(found.ends)) - 1]
            Y = np.eye(len(names))[codes[b]]
            train, test = X[b] - found.center, X[c] - found.center
            before = _probe_aucs(train, Y, test, codes[c], found.found[:0, :0], [0])
            if found.basis is not None:
                train, test = train @ found.basis.T, test @ found.basis.T
            path.append(before + _probe_aucs(train, Y, test, codes[c], found.found, ends))
    return np.mean(path, axis=0)


def _probe_aucs(
    X: _Array, Y: _Array, X_test: _Array, test: _Codes, V: _Array, ends: Any
) -> list[float]:
    """Held-out AUC of ridge probes, with the first ``ends`` rows of V projected out.

    The weights of projected clips are those that are orthogonal to V, so one
    factor of ``X'X`` serves for all.

    Parameters
    ----------
    X : np.ndarray [shape=(n, r)]
    Y : np.ndarray of 0 and 1 [shape=(n, k)]
        The domain of each clip.
    X_test : np.ndarray [shape=(m, r)]
    test : np.ndarray of int [shape=(m,)]
    V : np.ndarray [shape=(v, r)]
        Orthonormal.
    ends : sequence of int
    """
    X = X - X.mean(axis=0)
    is_root = X.shape[0] < X.shape[1]
    gram = X @ X.T if is_root else X.T @ X
    penalty = max(_PENALTY * np.linalg.eigvalsh(gram)[-1], np.finfo(float).tiny)
    A = ShrunkCovariance(X if is_root else gram, np.full(X.shape[1], penalty), is_root)
    solve = A.solver()
    free, bound = solve(X.T @ (Y - Y.mean(axis=0))), solve(V.T) if len(V) else V.T
    aucs, flat = [], np.ones(len(test))
    for end in ends:
        w = free
        if end:
            B = bound[:, :end]
            w = free - B @ np.linalg.solve(V[:end] @ B, V[:end] @ free)
        scores = X_test @ w
        found = [weighted_auc(s, test == j, flat) for j, s in enumerate(scores.T)]
        # A domain that the test part lacks says nothing.
        aucs.append(float(np.nan_to_num(found, nan=0.5).mean()))
    return aucs
