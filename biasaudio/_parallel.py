"""The one place that runs work in parallel, with the same numbers for any number of jobs."""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import joblib
from threadpoolctl import ThreadpoolController
from tqdm import tqdm

from biasaudio._text import printable
from biasaudio.errors import BiasAudioError, BiasAudioWarning, ParameterError, warn

__all__ = ["check_n_jobs", "one_blas_thread", "run_all"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
# Seconds between two looks of a worker at whether its parent is still there.
_WATCH_INTERVAL = 1.0


def check_n_jobs(n_jobs: int) -> int:
    """Check a number of jobs; -1 stands for all cores."""
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, int) or n_jobs == 0 or n_jobs < -1:
        raise ParameterError(f"n_jobs={n_jobs!r} is not allowed; give 1 or more, or -1 for all")
    return joblib.cpu_count() if n_jobs == -1 else n_jobs


def run_all(
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    *,
    n_jobs: int = 1,
    progress: str | None = None,
    on_result: Callable[[int, _Result, list[str]], object] | None = None,
) -> list[_Result]:
    """Parallel ``[function(item) for item in items]``, with the same numbers.

    Parameters
    ----------
    function : callable
        Picklable if ``n_jobs`` is not 1.
    items : iterable
    n_jobs : int
        Number of processes.
    progress : str, optional
        Shows a progress bar of this name on stderr.
    on_result : callable, optional
        Called here with the number of an item, its result and its warnings,
        in the order of the items, while others are worked on.

    Returns
    -------
    list
        In the order of the items; empty with ``on_result``, which may want to
        forget them.

    Raises
    ------
    BiasAudioError
        If one of the processes dies.

    Warns
    -----
    BiasAudioWarning
        Each different one that the function gave, once.
    """
    todo: Sequence[_Item] = list(items)
    n_jobs = min(check_n_jobs(n_jobs), max(len(todo), 1))
    name = printable(progress or "")
    bar = tqdm(total=len(todo), desc=name, disable=progress is None, leave=False)
    # One BLAS thread a job, also for a single job: the number of threads decides
    # the order of sums, and the same seed must give the same bytes.
    call = joblib.delayed(_single_threaded)
    parallel = joblib.Parallel(
        n_jobs=n_jobs,
        return_as="generator",
        **({} if n_jobs == 1 else {"initializer": _end_with, "initargs": (os.getpid(),)}),
    )
    results: list[_Result] = []
    texts: dict[str, None] = {}
    with bar, _naming_dead():
        done = parallel(call(function, item) for item in todo)
        for number, (result, found) in enumerate(done):
            if on_result is None:
                results.append(result)
            else:
                on_result(number, result, found)
            texts.update(dict.fromkeys(found))
            bar.update()
    # A warning in another process would only reach its stderr.
    for text in texts:
        warn(text)
    return results


@lru_cache(maxsize=1)
def _libraries(n_modules: int) -> ThreadpoolController:
    # To find them takes milliseconds; new ones come with new modules.
    return ThreadpoolController()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread inside, as a ``with`` block or as a decorator of a function.

    Threads gain nothing where products are small and many: starting and joining
    them then takes 2 to 24 times as long as the products themselves.
    """
    with _libraries(len(sys.modules)).limit(limits=1):
        yield


def _end_with(parent: int) -> None:
    """End this worker soon after its parent: a killed parent cannot stop its workers.

    loky's workers wait 300 s for work that never comes.  Linux could signal the
    death of a parent (``PR_SET_PDEATHSIG``), but means the *thread* that started
    the worker, and workers are also started by threads that end before.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_INTERVAL)
        os._exit(1)

    threading.Thread(target=watch, name="biasaudio-parent", daemon=True).start()


@contextmanager
def _naming_dead() -> Iterator[None]:
    try:
        yield
    except BrokenExecutor as error:
        raise BiasAudioError(
            "one of the processes died; it was killed, perhaps for lack of memory, or a library "
            "crashed in it: try again with fewer, n_jobs=1 if it crashes again"
        ) from error


def _single_threaded(
    function: Callable[[_Item], _Result], item: _Item
) -> tuple[_Result, list[str]]:
    """Result and texts of our own warnings; other warnings are given again here."""
    with one_blas_thread(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BiasAudioWarning)
        result = function(item)
    texts = [str(one.message) for one in caught if issubclass(one.category, BiasAudioWarning)]
    for one in caught:
        if not issubclass(one.category, BiasAudioWarning):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return result, texts
