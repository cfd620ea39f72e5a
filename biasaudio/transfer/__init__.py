"""Transfer: train on one dataset, test on another, before and after."""

from biasaudio.transfer.compare import Comparison, Curve, Drop, compare, measure_drops, resample
from biasaudio.transfer.evaluate import MODES, PROTOCOLS, evaluate
from biasaudio.transfer.few_shot import FewShotResult, FewShotRow, few_shot_curve
from biasaudio.transfer.task import Outcome, Records, Task, TransferResult

__all__ = [
    "MODES",
    "PROTOCOLS",
    "Comparison",
    "Curve",
    "Drop",
    "FewShotResult",
    "FewShotRow",
    "Outcome",
    "Records",
    "Task",
    "TransferResult",
    "compare",
    "evaluate",
    "few_shot_curve",
    "measure_drops",
    "resample",
]
