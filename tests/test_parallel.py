"""Work in parallel gives the same as a loop, in order, with its warnings and errors."""

import functools
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

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


def wait_until(is_so, seconds):
    end = time.monotonic() + seconds
    while not is_so() and time.monotonic() < end:
        time.sleep(0.05)
    return is_so()


def is_alive(pid):
    try:
        os.kill(pid, 0)
        # In a container nobody may collect the dead, which then stay as zombies.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks in /proc")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_workers_end_with_their_parent(tmp_path, name):
    script = tmp_path / "parent.py"
    script.write_text(
        "import os, sys, time\n"
        "from pathlib import Path\n"
        "from biasaudio._parallel import run_all\n"
        "def work(i):\n"
        f"    Path({str(tmp_path)!r}, f'{{os.getpid()}}.pid').touch()\n"
        "    time.sleep(0.3 if i < 2 else 60)\n"
        "if __name__ == '__main__':\n"
        "    run_all(work, range(4), n_jobs=2)\n"
    )
    parent = subprocess.Popen([sys.executable, script], stderr=subprocess.DEVNULL)
    try:
        assert wait_until(lambda: len(list(tmp_path.glob("*.pid"))) == 2, 60)
        workers = [int(path.stem) for path in tmp_path.glob("*.pid")]
        assert all(map(is_alive, workers))
    finally:
        parent.send_signal(getattr(signal, name))
        parent.wait(timeout=60)
    assert wait_until(lambda: not any(map(is_alive, workers)), 10)


def test_a_warning_of_a_worker_points_at_the_caller():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run_all(complain, range(4), n_jobs=2)
    assert {one.filename for one in caught} == {__file__}
