"""What a probe found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

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
    """How well a probe reads a category off the vectors.

    Attributes
    ----------
    auc : float
        ROC-AUC on held-out clips; one-vs-rest and averaged for more than two
        values.  Chance is 0.5.
    low, high : float
        95 % bootstrap interval over groups.
    p_value : float
        Share of permutations with an AUC at least as high, itself counted in,
        on the first of the redrawn splits; NaN without permutations.
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

    def row(self) -> dict[str, Any]:
        """Numbers of the probe, the single values left out."""
        found = asdict(self) | {"n_classes": self.n_classes}
        del found["by_value"]
        return found

    def to_frame(self, *, by_value: bool = False) -> pd.DataFrame:
        """Table of the result: one row, or one row per value.

        Parameters
        ----------
        by_value : bool
            Whether the rows are the values: ``value``, ``n``, ``auc`` and
            ``recall``, with the design of the probe.

        Returns
        -------
        pandas.DataFrame
        """
        import pandas as pd

        if not by_value:
            return pd.DataFrame([self.row()])
        how = {"design": self.design, "mix": self.mix, "kind": self.kind}
        return pd.DataFrame([asdict(value) | how for value in self.by_value])

    def __str__(self) -> str:
        """One line with the finding."""
        return (
            f"ROC-AUC {self.auc:.3f} [{self.low:.3f}, {self.high:.3f}] (chance .500), "
            f"p = {self.p_value:.3g}, n = {self.n} clips in {self.n_groups} groups, "
            f"{self.design}, {self.mix} class mix, {self.kind} probe"
        )
