"""Iterated nullspace projection: one probe direction after the other."""

from __future__ import annotations

import copy
import warnings
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasaudio._validation import (
    check_categories,
    check_choice,
    check_count,
    check_number,
    check_sample_weight,
)
from biasaudio.errors import BiasAudioWarning, DataError, ParameterError
from biasaudio.moments import Moments
from biasaudio.probes._splits import equal_mix
from biasaudio.transforms._base import DomainFreeTransform
from biasaudio.transforms._covariance import Group
from biasaudio.transforms._directions import domain_groups
from biasaudio.transforms._halves import Halves
from biasaudio.transforms._held_out import held_out_path
from biasaudio.transforms._rounds import Rounds, find_rounds
from biasaudio.transforms._shrinkage import check_shrinkage
from biasaudio.transforms._streaming import StreamingFit
from biasaudio.transforms._weights import clip_weights

__all__ = ["NullspaceProjection"]

_Array = NDArray[np.float64]
_Codes = NDArray[np.intp]
_Floats = NDArray[np.floating[Any]]
# A held-out AUC that is lower by less than this is not clearly lower.
_CLEAR = 0.02


class NullspaceProjection(StreamingFit, DomainFreeTransform):
    """Project out probe directions until a fresh probe reads no less.

    Domain-free at transform: needs ``domain`` in ``fit`` only.

    Parameters
    ----------
    n_directions : int or "auto", default "auto"
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
    max_directions : int, default 64
        The most rounds that "auto" tries.
    alpha : float in [0, 1], default 1
        The share of the change that is applied.
    random_state : int, default 0
        Of the halves and of the split of "auto".

    Attributes
    ----------
    domains_ : np.ndarray [shape=(k,)]
    directions_ : np.ndarray [shape=(m, d)]
        Orthonormal, in the order in which they were found.
    n_directions_ : int
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
        n_directions: int | str = "auto",
        probes: str = "halves",
        shrinkage: float | str = 0.1,
        variance: float = 0.99,
        max_directions: int = 64,
        alpha: float = 1.0,
        random_state: int = 0,
    ) -> None:
        self.n_directions = n_directions
        self.probes = probes
        self.shrinkage = shrinkage
        self.variance = variance
        self.max_directions = max_directions
        self.alpha = alpha
        self.random_state = random_state

    def fit(
        self,
        X: ArrayLike,
        y: object = None,
        *,
        domain: ArrayLike | None = None,
        balance: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> NullspaceProjection:
        """Find the directions, and how many.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        y : ignored
        domain : array_like of str or int [shape=(n,)]
            Two or more datasets.
        balance : array_like of str or int [shape=(n,)], optional
            A class for each clip.  Domains are then compared at equal class
            mix, over the classes that all have.
        groups : array_like of str or int [shape=(n,)], optional
            Song or artist; clips of one are in one half and in one part.
        sample_weight : array_like [shape=(n,)], optional
            What each clip counts for; default 1, and for "auto" 0 or 1.

        Returns
        -------
        NullspaceProjection

        Raises
        ------
        ParameterError
            If the domain is missing or a parameter is not allowed.
        DataError
            If there is one domain only, X is not usable, or "auto" finds a
            domain with fewer than three groups.
        """
        self._check_parameters()
        for name in ("ranks_", "auc_path_"):
            self.__dict__.pop(name, None)
        X, domains, codes = self._fit_input(X, domain)
        weights = clip_weights(codes, len(domains), balance, sample_weight)
        units = None if groups is None else check_categories(groups, "groups", len(X))[1]
        rounds = self.n_directions
        if rounds == "auto":
            rounds = self._choose(X, codes, weights, balance, units)
        self._set(self._find(X, codes, weights, units, int(rounds)))
        return self

    def _add_clips(
        self, X: ArrayLike, domain: Any, sample_weight: ArrayLike | None, **columns: Any
    ) -> Any:
        self._check_parameters()
        if self.n_directions == "auto":
            raise ParameterError(
                "n_directions='auto' splits all clips at once, which partial_fit does not keep; "
                "set n_directions to a whole number"
            )
        return super()._add_clips(X, domain, sample_weight, **columns)

    def _gather(self, X: Any, names: Any, sample_weight: ArrayLike | None, first: bool) -> None:
        if first:
            halves = Halves(int(self.n_directions) - 1, self.random_state)
            self._seen = None if self.probes == "all" else halves
        if self._seen is not None:
            weights = None if sample_weight is None else check_sample_weight(sample_weight, len(X))
            # A copy, as these clips may still be refused.
            self._seen = copy.deepcopy(self._seen).update(X, names, weights)

    def _solve(self, moments: Moments) -> None:
        cells = [Group(cell) for cell in moments.by("domain").values()]
        rounds = int(self.n_directions)
        self._set(find_rounds(cells, self._seen, rounds, self.variance, self.shrinkage))

    def _check_parameters(self) -> None:
        check_shrinkage(self.shrinkage)
        check_choice(self.probes, "probes", ("halves", "all"))
        for name, least in (("random_state", 0), ("max_directions", 1)):
            check_count(getattr(self, name), name, least)
        if check_number(self.variance, "variance", 0, 1) == 0:
            raise ParameterError("variance=0 keeps nothing; give a share above 0, up to 1")
        if self.n_directions != "auto":
            check_count(self.n_directions, "n_directions", 1)

    def _choose(
        self, X: _Floats, codes: _Codes, weights: _Array | None, balance: Any, units: Any
    ) -> int:
        """Return the number of rounds after which more do not lower the held-out AUC."""
        rng = np.random.default_rng(self.random_state)
        strata = np.zeros(len(X), dtype=np.intp)
        units = np.arange(len(X)) if units is None else units
        rows = np.arange(len(X)) if weights is None else np.flatnonzero(weights > 0)
        if balance is not None:
            strata = check_categories(balance, "balance", len(X))[1]
            rows = rows[equal_mix(codes[rows], strata[rows], rng, self.domains_)]
        X, codes, units, strata = X[rows], codes[rows], units[rows], strata[rows]
        most = self.max_directions
        self.ranks_ = np.unique([0, *(2 ** np.arange(most.bit_length())), most])

        def fit(part: _Codes) -> Rounds:
            return self._find(X[part], codes[part], None, units[part], most, limit=0.25)

        try:
            self.auc_path_ = held_out_path(
                X, codes, units, strata, fit, self.ranks_, names=self.domains_, rng=rng
            )
        except DataError as error:
            raise DataError(f"n_directions='auto': {error}; or set n_directions=1") from error
        is_good = self.auc_path_[1:] <= self.auc_path_[1:].min() + _CLEAR
        return int(self.ranks_[1:][is_good.argmax()])

    def _find(
        self,
        X: _Floats,
        codes: _Codes,
        weights: _Array | None,
        units: Any,
        rounds: int,
        limit: float = 0.5,
    ) -> Rounds:
        halves = None
        if self.probes == "halves":
            halves = Halves(rounds - 1, self.random_state).update(X, codes, weights, units)
        cells = domain_groups(X, codes, weights)
        return find_rounds(cells, halves, rounds, self.variance, self.shrinkage, limit)

    def _set(self, found: Rounds) -> None:
        self.directions_ = found.directions
        self.n_directions_ = len(found.ends)
        self.n_kept_ = found.n_kept
        if found.is_cut and self.n_directions != "auto":
            warnings.warn(
                f"n_directions={self.n_directions} was cut to {self.n_directions_}: more would "
                f"take over half of the {self.n_kept_ + len(self.directions_)} dimensions that "
                f"hold variance={self.variance}; give that number, or a larger variance",
                BiasAudioWarning,
                stacklevel=3,
            )
        self.affine_ = found.affine()
