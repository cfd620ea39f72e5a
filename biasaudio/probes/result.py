"""What a probe found."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ProbeResult", "ValueScore"]


@dataclass(frozen=True)
class ValueScore:
    """How well one domain (or genre) is told from the rest.

    Attributes
    ----------
    value : str
    n : int
        Number of different clips of it that were scored.
    auc : float
        One against the rest.
    recall : float
        Share of its clips that the probe names right.
    """

    value: str
    n: int
    auc: float
    recall: float


@dataclass(frozen=True)
class ProbeResult:
    """Hold how well a probe reads a category off the vectors.

    Attributes
    ----------
    auc : float
        ROC-AUC on held-out clips; one-vs-rest and averaged for more than two
        values.  Chance is 0.5.
    low, high : float
        95 % bootstrap interval over groups.
    p_value : float
        Share of permutations with an AUC at least as high, itself counted in;
        averaged over redrawn splits, which errs on the careful side.
    balanced_accuracy : float
        Mean recall of the values.
    chance_accuracy : float
        What a constant probe gets: one over the number of values.
    n, n_groups : int
        Number of different clips and groups that were scored.
    by_value : tuple of ValueScore
    design : {"cross-fit", "three-way"}
    mix : {"raw", "equal"}
        Whether the clips were subsampled to the same class mix.
    kind : {"linear", "scaled"}
    """

    auc: float
    low: float
    high: float
    p_value: float
    balanced_accuracy: float
    chance_accuracy: float
    n: int
    n_groups: int
    by_value: tuple[ValueScore, ...]
    design: str
    mix: str
    kind: str

    @property
    def n_classes(self) -> int:
        """Number of values."""
        return len(self.by_value)

    def __str__(self) -> str:
        """Return the finding in one line."""
        return (
            f"ROC-AUC {self.auc:.3f} [{self.low:.3f}, {self.high:.3f}] (chance .500), "
            f"p = {self.p_value:.3g}, n = {self.n} clips in {self.n_groups} groups, "
            f"{self.design}, {self.mix} class mix, {self.kind} probe"
        )
