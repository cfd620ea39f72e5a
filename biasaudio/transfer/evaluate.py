"""Train on each dataset, test on each, before and after every correction."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

from biasaudio._parallel import run_all
from biasaudio._validation import check_choice
from biasaudio.errors import DataError, ParameterError
from biasaudio.probes.ridge import common_units
from biasaudio.transfer import default, wang2023
from biasaudio.transfer.task import Outcome, Task, TransferResult
from biasaudio.transforms.methods import Method, check_methods

__all__ = ["MODES", "PROTOCOLS", "Plan", "evaluate"]

MODES = ("global", "classwise")
PROTOCOLS: Mapping[str, ModuleType] = {"default": default, "wang2023": wang2023}


def evaluate(
    task: Task,
    *,
    methods: Sequence[str] = ("lda", "leace"),
    protocol: str = "default",
    modes: Sequence[str] = ("global",),
    n_jobs: int = 1,
    random_state: int = 0,
    solver: str = "newton",
    progress: str | None = None,
) -> TransferResult:
    """Measure the transfer between datasets, before and after corrections.

    Parameters
    ----------
    task : Task
        Clips of two or more datasets with labels and a split.
    methods : sequence of str
        Names in `biasaudio.transforms.METHODS`; the uncorrected vectors are
        always measured too.
    protocol : {"default", "wang2023"}
        "default": all training clips, in common units, L2 logistic
        regression with balanced classes, C by ROC-AUC over 3 shuffled folds
        of groups.
        "wang2023": the published protocol, see `biasaudio.transfer.wang2023`.
    modes : sequence of {"global", "classwise"}
        Fit the correction on all training clips of all datasets, or for each
        label on those that have it.
    n_jobs : int
        Processes; -1 for all cores.  The numbers do not depend on it.
    random_state : int
        For the folds of the default protocol.
    solver : {"newton", "liblinear"}
        Of the classifiers of protocol "wang2023": `biasaudio.transfer.path`,
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
    >>> result = evaluate(task, methods=["leace"])
    >>> len(result.rows())  # 2 methods x 2 labels x 4 pairs
    16
    """
    plan = Plan.of(task, methods, protocol, modes, random_state, solver)
    found = run_all(plan.run, plan.pieces, n_jobs=n_jobs, progress=progress)
    return TransferResult(plan.task, tuple(outcome for piece in found for outcome in piece))


@dataclass(frozen=True)
class Plan:
    """Hold the independent pieces of a study, and what runs one of them.

    Attributes
    ----------
    task : Task
        With the vectors as the protocol takes them.
    pieces : list
    run : callable
        From a piece to a list of Outcome; picklable.
    """

    task: Task
    pieces: list[Any]
    run: Callable[[Any], list[Outcome]]

    @classmethod
    def of(
        cls,
        task: Task,
        methods: Sequence[str],
        protocol: str,
        modes: Sequence[str],
        random_state: int = 0,
        solver: str = "newton",
    ) -> Plan:
        """Check the options of `evaluate`, and return the plan."""
        check_choice(protocol, "protocol", tuple(PROTOCOLS))
        chosen = check_methods(methods)
        if not modes:
            raise ParameterError(f"modes is empty; give one or both of {', '.join(MODES)}")
        for mode in modes:
            check_choice(mode, "mode", MODES)
        for method in chosen:
            _check_method(method, task, protocol, modes)
        module, more = PROTOCOLS[protocol], {}
        if protocol == "default":
            if solver != "newton":
                raise ParameterError(
                    f"solver={solver!r} is for protocol 'wang2023'; leave it out with 'default'"
                )
            task = replace(task, X=common_units(task.X, task.is_train))
        else:
            more = {"solver": solver}
        pieces = list(module.cells(task, chosen, tuple(dict.fromkeys(modes)), random_state, **more))
        return cls(task, pieces, functools.partial(module.run_cell, task))


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
