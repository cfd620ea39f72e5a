"""Transfer: train on one dataset, test on another, before and after."""

from biasaudio.transfer.compare import Comparison, compare
from biasaudio.transfer.drop import Drop, measure_drops
from biasaudio.transfer.evaluate import MODES, PROTOCOLS, evaluate
from biasaudio.transfer.resample import Curve, resample
from biasaudio.transfer.task import Outcome, Task, TransferResult

__all__ = [
    "MODES",
    "PROTOCOLS",
    "Comparison",
    "Curve",
    "Drop",
    "Outcome",
    "Task",
    "TransferResult",
    "compare",
    "evaluate",
    "measure_drops",
    "resample",
]
