"""The points of a few-shot curve."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from biasaudio.errors import ParameterError

__all__ = ["FewShotResult", "FewShotRow"]


@dataclass(frozen=True)
class FewShotRow:
    """Hold one point of the curve.

    Attributes
    ----------
    source, target : str
    count : int or None
        Labelled target clips a class; None for all.
    n_labelled : float
        How many clips that are in all, on average over the draws.
    strategy : str
        "source only", "add clips" (to the training set), a method, or
        "<method> + add clips".
    auc, low, high : float
        Mean ROC-AUC over labels and draws, with its 95 % interval.
    delta, delta_low, delta_high : float
        The same of the difference from "source only", paired.
    """

    source: str
    target: str
    count: int | None
    n_labelled: float
    strategy: str
    auc: float
    low: float
    high: float
    delta: float
    delta_low: float
    delta_high: float


@dataclass(frozen=True)
class FewShotResult:
    """Hold the curve of one source and target.

    Attributes
    ----------
    points : tuple of FewShotRow
    n_draws : int
    n_groups : int
        Test groups that were resampled.
    """

    points: tuple[FewShotRow, ...]
    n_draws: int
    n_groups: int

    def rows(self) -> list[dict[str, Any]]:
        """Return the tidy rows, one a (count, strategy)."""
        return [asdict(point) for point in self.points]

    def columns(self) -> dict[str, list[Any]]:
        """Return the same by column, as ``pandas.DataFrame`` takes them."""
        names = list(FewShotRow.__dataclass_fields__)
        return {name: [getattr(point, name) for point in self.points] for name in names}

    def best(self, count: int | None) -> FewShotRow:
        """Return the strategy with the highest ROC-AUC for a count.

        Raises
        ------
        ParameterError
            If this count was not measured.
        """
        found = [point for point in self.points if point.count == count]
        if not found:
            counts = list(dict.fromkeys(point.count for point in self.points))
            raise ParameterError(f"count={count!r} was not measured; choose among {counts}")
        return max(found, key=lambda point: point.auc)
