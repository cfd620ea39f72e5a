"""Work in parallel gives the same as a loop, in order, with its warnings and errors."""

import functools
import os
import warnings

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from biasaudio._parallel import check_n_jobs, run_all
from biasaudio.errors import BiasAudioWarning, DataError, ParameterError


def square(x):
    return x * x


def gram(seed):
    X = np.random.default_rng(seed).normal(size=(300, 200)).astype(np.float32)
    return (X.T @ X).tobytes()


def threads(_):
    return max((pool["num_threads"] for pool in threadpool_info()), default=1)


def complain(x):
    warnings.warn(f"item {x % 2} is odd", BiasAudioWarning, stacklevel=2)
    return x


def fail(x):
    if x == 3:
        raise DataError("item 3 is not usable")
    return x


def process(_):
    return os.getpid()


@pytest.mark.parametrize("n_jobs", [1, 2, -1])
def test_results_are_those_of_a_loop_in_order(n_jobs):
    assert run_all(square, range(9), n_jobs=n_jobs) == [x * x for x in range(9)]
    assert run_all(square, iter([3, 1, 2]), n_jobs=n_jobs) == [9, 1, 4]
    assert run_all(square, [], n_jobs=n_jobs) == []


def test_two_jobs_are_other_processes_and_one_is_not():
    assert set(run_all(process, range(3))) == {os.getpid()}
    assert os.getpid() not in run_all(process, range(3), n_jobs=2)


def test_bytes_are_the_same_for_any_number_of_jobs():
    assert run_all(gram, range(4), n_jobs=1) == run_all(gram, range(4), n_jobs=2)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_every_job_has_one_thread(n_jobs):
    np.ones((4, 4)) @ np.ones((4, 4))
    assert set(run_all(threads, range(3), n_jobs=n_jobs)) == {1}


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_our_warnings_come_back_once_each(n_jobs):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert run_all(complain, range(6), n_jobs=n_jobs) == list(range(6))
    ours = [str(w.message) for w in caught if w.category is BiasAudioWarning]
    assert ours == ["item 0 is odd", "item 1 is odd"]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_error_comes_back_as_it_was_raised(n_jobs):
    with pytest.raises(DataError, match=r"^item 3 is not usable$"):
        run_all(fail, range(6), n_jobs=n_jobs)


def test_progress_goes_to_stderr_and_only_when_asked(capsys):
    run_all(square, range(3))
    assert capsys.readouterr() == ("", "")
    run_all(functools.partial(square), range(3), progress="probes")
    out, err = capsys.readouterr()
    assert out == ""
    assert "probes" in err


@pytest.mark.parametrize("n_jobs", [0, -2, 1.5, "2", True, None])
def test_a_wrong_number_of_jobs_is_refused(n_jobs):
    with pytest.raises(ParameterError, match=f"n_jobs={n_jobs!r} is not allowed; give 1 or more"):
        check_n_jobs(n_jobs)


def test_minus_one_is_all_cores():
    assert check_n_jobs(-1) >= 1
    assert check_n_jobs(3) == 3
