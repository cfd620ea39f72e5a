"""Time calls in turns, and measure the memory that one of them takes."""

from __future__ import annotations

import gc
import math
import multiprocessing
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

Call = Callable[[], object]


@dataclass(frozen=True)
class Row:
    """Hold one line of the table.

    Attributes
    ----------
    task, size : str
    ours : float
        Median seconds.
    baseline : str
        What it is compared with.
    seconds : float or None
        Median seconds of the baseline; None where it is not installed.
    goal : float or None
        The largest ratio of ours to the baseline that is wanted.
    limit : float or None
        The most seconds of ours that are wanted.
    memory, memory_goal : float or None
        MiB by which the peak of a fresh process grows, and what is wanted.
    note : str
    points, baseline_points : tuple of (int, float)
        Sizes and seconds, for the figure.
    """

    task: str
    size: str
    ours: float
    baseline: str
    seconds: float | None
    goal: float | None = None
    limit: float | None = None
    memory: float | None = None
    memory_goal: float | None = None
    note: str = ""
    points: tuple[tuple[int, float], ...] = ()
    baseline_points: tuple[tuple[int, float], ...] = ()

    @property
    def ratio(self) -> float | None:
        """What ours takes as a share of the baseline."""
        return None if self.seconds is None else self.ours / self.seconds


@dataclass(frozen=True)
class Setting:
    """Say how a task is run.

    Attributes
    ----------
    quick : bool
        Tiny arrays, one turn, and no figure worth anything.
    folder : Path
        Where a task may write.
    layout : Path or None
        A folder with the published data, instead of planted ones.
    threads : int
        Of BLAS.
    """

    quick: bool
    folder: Path
    layout: Path | None = None
    threads: int = 1

    @property
    def clock(self) -> Callable[[], float]:
        """Of the CPU for one thread, which other jobs on the machine disturb least."""
        return time.process_time if self.threads == 1 else time.perf_counter

    def medians(
        self,
        calls: Mapping[str, Callable[..., object]],
        clock: Callable[[], float] | None = None,
    ) -> dict[str, float]:
        """Return the median seconds of each call, taken in turns."""
        options = {} if self.quick else {"warm": True, "most": 30.0}
        turns = in_turns(calls, 1 if self.quick else 7, clock=clock or self.clock, **options)
        return {name: median(times) for name, times in turns.items()}


def in_turns(
    calls: Mapping[str, Call],
    repeats: int,
    *,
    warm: bool = False,
    most: float = math.inf,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return the times of each call, one after the other in each turn.

    Parameters
    ----------
    calls : mapping of str to callable
    repeats : int
        Turns that count.
    warm : bool
        Whether a turn before these is not counted.
    most : float
        Seconds after which no further turn is begun, if one was counted.
    clock : callable
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + most
    for turn in range(-warm, repeats):
        if turn > 0 and time.perf_counter() > end:
            break
        for name, call in calls.items():
            gc.collect()
            start = clock()
            call()
            if turn >= 0:
                times[name].append(clock() - start)
    return times


def peak_growth(make: Callable[..., Call], *arguments: Any, small: tuple[Any, ...]) -> float | None:
    """Return by how many MiB the peak of a fresh process grows in a call, its result included.

    Parameters
    ----------
    make : callable
        Importable; returns the call, whose inputs it has made before.
    *arguments : object
        What it is called with.
    small : tuple
        Other arguments; that call is made first, for imports and the buffers
        that a library makes once are not what is compared.

    Returns
    -------
    float or None
        None where the system has no ``/proc/self/clear_refs``, which Linux has.
    """
    # A fork would start with the pages of this process.
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh) as pool:
        return pool.submit(_growth, make, arguments, small).result()


def _growth(
    make: Callable[..., Call], arguments: tuple[Any, ...], small: tuple[Any, ...]
) -> float | None:
    make(*small)()
    call = make(*arguments)
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return None
    before = _status("VmRSS")
    result = call()
    grown = (_status("VmHWM") - before) / 1024
    del result
    return grown


def _status(name: str) -> int:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    return int(text.split(f"{name}:")[1].split()[0])
