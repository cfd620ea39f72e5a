"""Transfer: train on one dataset, test on another, before and after."""

from biasaudio.transfer.compare import Comparison, compare
from biasaudio.transfer.evaluate import MODES, PROTOCOLS, evaluate
from biasaudio.transfer.task import Outcome, Task, TransferResult

__all__ = [
    "MODES",
    "PROTOCOLS",
    "Comparison",
    "Outcome",
    "Task",
    "TransferResult",
    "compare",
    "evaluate",
]
