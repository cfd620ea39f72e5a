"""Transfer: train on one dataset, test on another, before and after."""

from biasaudio.transfer.compare import Comparison, compare
from biasaudio.transfer.drop import Drop, measure_drops
from biasaudio.transfer.evaluate import MODES, PROTOCOLS, evaluate
from biasaudio.transfer.few_shot import FewShotResult, few_shot_curve
from biasaudio.transfer.resample import Curve, resample
from biasaudio.transfer.task import Outcome, Task, TransferResult

__all__ = [
    "MODES",
    "PROTOCOLS",
    "Comparison",
    "Curve",
    "Drop",
    "FewShotResult",
    "Outcome",
    "Task",
    "TransferResult",
    "compare",
    "evaluate",
    "few_shot_curve",
    "measure_drops",
    "resample",
]
