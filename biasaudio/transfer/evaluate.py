"""Train on each dataset, test on each, before and after every correction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from biasaudio._parallel import one_blas_thread, run_all
from biasaudio._validation import as_list, as_seed, check_choice
from biasaudio.errors import DataError, ParameterError
from biasaudio.transfer.protocol import DefaultProtocol
from biasaudio.transfer.task import Outcome, Piece, Task, TransferResult
from biasaudio.transfer.wang2023 import Wang2023Protocol
from biasaudio.transforms.methods import Method, check_methods

__all__ = ["MODES", "PROTOCOLS", "Plan", "as_methods", "evaluate"]

MODES = ("global", "classwise")
PROTOCOLS = ("default", "wang2023")


@one_blas_thread()
def evaluate(
    task: Task,
    *,
    methods: str | Method | Sequence[str | Method] = ("lda", "leace"),
    protocol: str = "default",
    modes: str | Sequence[str] = "global",
    n_jobs: int = 1,
    random_state: int | np.random.Generator | None = 0,
    solver: str = "newton",
    progress: str | None = None,
) -> TransferResult:
    """Measure the transfer between datasets, before and after corrections.

    Parameters
    ----------
    task : Task
        Clips of two or more datasets with labels and a split.
    methods : str, Method, or sequence of these
        Names in `biasaudio.transforms.METHODS`, or entries of your own; the
        uncorrected vectors are always measured too.
    protocol : {"default", "wang2023"}
        "default": all training clips, in common units, L2 logistic
        regression with balanced classes, C by ROC-AUC over 3 shuffled folds
        of groups.
        "wang2023": the published protocol, see `biasaudio.transfer.wang2023`.
    modes : {"global", "classwise"} or sequence of these
        Fit the correction on all training clips of all datasets, or for each
        label on those that have it.
    n_jobs : int
        Processes; -1 for all cores.  The numbers do not depend on it.
    random_state : int, np.random.Generator or None
        For the folds of the default protocol.
    solver : {"newton", "liblinear"}
        Of the classifiers of protocol "wang2023": `biasaudio.transfer.logistic`,
        or the published one, which has the same optimum, takes 5 to 25 times
        as long and stops short of it for the largest C.  The default protocol
        has a solver of its own.
    progress : str, optional
        Name of a progress bar on stderr.

    Returns
    -------
    TransferResult

    Raises
    ------
    ParameterError
        If a method, mode or protocol is unknown.
    DataError
        If a method needs genres that the task does not have.

    Notes
    -----
    A correction is fitted once for each (label, mode, method) and a
    classifier once for each (training set, label, mode, method); it is then
    scored on the test clips of every dataset.

    Examples
    --------
    >>> from biasaudio.datasets.synthetic import make_domains
    >>> table, _ = make_domains(n=400, d=8, n_labels=2, random_state=0)
    >>> clips = table.clips
    >>> task = Task(
    ...     table.X, clips.dataset, clips.split == "train", clips.labels.to_numpy(),
    ...     clips.mask.to_numpy(), tuple(clips.label_names), clips.group_id, clips.genre,
    ... )
    >>> result = evaluate(task, methods="leace")
    >>> len(result.to_frame())  # 2 methods x 2 labels x 4 pairs
    16
    """
    plan = Plan.of(task, methods, protocol, modes, random_state, solver)
    found = run_all(plan.run, plan.pieces, n_jobs=n_jobs, progress=progress)
    return TransferResult(plan.task, tuple(outcome for piece in found for outcome in piece))


@dataclass(frozen=True)
class Plan:
    """Independent pieces of a study, and the protocol that runs each of them.

    Attributes
    ----------
    task : Task
        With the vectors as the protocol takes them.
    protocol : DefaultProtocol or Wang2023Protocol
    pieces : tuple of Piece
    """

    task: Task
    protocol: DefaultProtocol | Wang2023Protocol
    pieces: tuple[Piece, ...]

    @classmethod
    def of(
        cls,
        task: Task,
        methods: str | Method | Iterable[str | Method],
        protocol: str,
        modes: str | Sequence[str],
        random_state: int | np.random.Generator | None = 0,
        solver: str = "newton",
    ) -> Plan:
        """Plan for the options of `evaluate`, which are checked."""
        check_choice(protocol, "protocol", PROTOCOLS)
        chosen = as_methods(methods)
        modes = as_list(modes)
        if not modes:
            raise ParameterError(f"modes is empty; give one or both of {', '.join(MODES)}")
        for mode in modes:
            check_choice(mode, "mode", MODES)
        for method in chosen:
            _check_method(method, task, protocol, modes)
        seed = as_seed(random_state)
        if protocol == "default" and solver != "newton":
            raise ParameterError(
                f"solver={solver!r} is for protocol 'wang2023'; leave it out with 'default'"
            )
        how = DefaultProtocol(seed) if protocol == "default" else Wang2023Protocol(solver)
        task = how.prepare(task)
        return cls(task, how, tuple(how.pieces(task, chosen, tuple(dict.fromkeys(modes)))))

    def run(self, piece: Piece) -> list[Outcome]:
        """Outcomes of one piece."""
        return self.protocol.run(self.task, piece)


def as_methods(methods: str | Method | Iterable[str | Method]) -> tuple[Method, ...]:
    """Methods by their names or as they are, without ``original`` and repeats.

    Raises
    ------
    ParameterError
        If a name is unknown; the message says which is nearest.
    """
    given = [methods] if isinstance(methods, (str, Method)) else list(methods)
    names = check_methods([one for one in given if not isinstance(one, Method)])
    by_name = {method.name: method for method in names}
    found = (one if isinstance(one, Method) else by_name.get(one) for one in given)
    # Two entries of one name would share their rows.
    return tuple({method.name: method for method in found if method is not None}.values())


def _check_method(method: Method, task: Task, protocol: str, modes: Sequence[str]) -> None:
    if "genre" in method.needs and task.genre is None:
        raise DataError(
            f"method {method.name!r} needs a genre for every clip and there is none; give "
            "clips with genres, or leave this method out"
        )
    if method.is_per_target and protocol != "default":
        raise ParameterError(
            f"method {method.name!r} is fitted for one target at a time; use protocol 'default'"
        )
    if not set(modes) & set(method.modes):
        raise ParameterError(
            f"method {method.name!r} compares classes, and mode 'classwise' fits on one alone; "
            "add mode 'global'"
        )
