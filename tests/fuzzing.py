"""Damage to the bytes of a file, and a process with little memory that opens what comes of it.

``BIASAUDIO_FUZZ=1000`` gives each kind of file so many cases in place of the few of a usual run,
``BIASAUDIO_FUZZ_SEED=1`` other ones, and ``BIASAUDIO_FUZZ_KEEP=<folder>`` keeps what went wrong.
"""

import importlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from biasaudio.errors import BiasAudioError

MEMORY, SECONDS = 2**29, 5.0
# Each further thread takes address space, which is what is limited.
_SINGLE = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
_NUMBERS = [0, 1, 2, 7, 8, 127, 128, 255, 256, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1]
_NUMBERS += [2**40, 2**63 - 1, 2**63, 2**64 - 1]
_TEXTS = [b"0", b"-1", b"9" * 18, b"9" * 400, b"1e999", b"nan", b"null", b"{}", b"[]", b'""', b"\0"]
_TEXTS += [b"\n", b"\r", b'"', b",", b"/", b"../", b"\x1b[2J", b"\xff\xfe", "\u202e".encode()]


def n_cases(usual):
    """Return how many cases of one kind are asked for."""
    return int(os.environ.get("BIASAUDIO_FUZZ", usual))


def mutations(data, rng, n):
    """Yield n files that differ from ``data`` in one to four places.

    Parameters
    ----------
    data : bytes
    rng : np.random.Generator
    n : int
    """
    for _ in range(n):
        changed = bytearray(data)
        for _ in range(rng.integers(1, 5)):
            _change(changed, rng)
        yield bytes(changed)


def _change(data, rng):
    """Damage some bytes in place."""
    at = int(rng.integers(len(data) + 1))
    size = int(rng.choice([1, 2, 4, 8, 30, 200]))
    digits = [found.span() for found in re.finditer(rb"\d+", data[max(0, at - 200) : at + 200])]
    kind = rng.integers(9)
    if kind == 0 and data:
        data[min(at, len(data) - 1)] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        data[at : at + size] = rng.bytes(size)
    elif kind == 2:
        del data[at : at + size]
    elif kind == 3:
        data[at:at] = data[at : at + size] * int(rng.integers(1, 9))
    elif kind == 4 and rng.random() < 0.3:
        del data[at:]
    elif kind == 5:
        width = int(rng.choice([1, 2, 4, 8]))
        number = int(rng.choice(np.array(_NUMBERS, dtype=object))) % 2 ** (8 * width)
        data[at : at + width] = number.to_bytes(width, "little")
    elif kind == 6:
        data[at : at + int(rng.integers(5))] = _TEXTS[rng.integers(len(_TEXTS))]
    elif digits:
        start, stop = (max(0, at - 200) + place for place in digits[rng.integers(len(digits))])
        number = int(rng.choice(np.array(_NUMBERS, dtype=object)))
        data[start:stop] = str(number * int(rng.choice([1, 1, -1]))).encode()


@dataclass
class Outcome:
    """What became of the cases of one kind: ``failures`` is empty if all was well."""

    n_cases: int = 0
    n_read: int = 0
    n_refused: int = 0
    slowest: float = 0.0
    failures: list = field(default_factory=list)


def run_cases(kinds, n, *, seed=None, memory=MEMORY, seconds=SECONDS):
    """Open damaged files in a process of its own, and say what happened.

    Each case may end well or in a `BiasAudioError` of one line, within some
    seconds, and some bytes of address space more than the process has once it
    has opened the whole files.

    Parameters
    ----------
    kinds : dict of str to (callable, list of path)
        What opens a file by its path, a function of a test module; and the
        whole files that are damaged for it.  They are copied to
        ``whole<i><suffix>`` and must be read; each case is ``case<suffix>``.
    n : int
        Damaged files of each kind.
    seed : int, optional
        Default ``BIASAUDIO_FUZZ_SEED``, else 0.
    memory, seconds : number
        What one case may take.

    Returns
    -------
    dict of str to Outcome
    """
    seed = int(os.environ.get("BIASAUDIO_FUZZ_SEED", 0)) if seed is None else seed
    order = {"n": n, "seed": seed, "memory": memory, "seconds": seconds}
    order["kinds"] = {
        name: [target.__module__, target.__name__, [str(path) for path in files]]
        for name, (target, files) in kinds.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [sys.executable, "-W", "ignore", __file__, json.dumps(order | {"folder": folder})],
            capture_output=True,
            text=True,
            env=os.environ | _SINGLE | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            timeout=120 + n * len(kinds),
        )
    lines = run.stdout.splitlines()
    if run.returncode:
        place = lines[-1] if lines else "reading the whole files"
        died = f"the process ended with {run.returncode} at {place}: {run.stderr[-2000:]}"
        return {name: Outcome(failures=[died]) for name in kinds}
    return {name: Outcome(**found) for name, found in json.loads(lines[-1]).items()}


def _work(order):
    """Open the files of one order, and print what became of them."""
    folder, rng = Path(order["folder"]), np.random.default_rng(order["seed"])
    targets = {}
    for name, (module, function, files) in order["kinds"].items():
        targets[name] = getattr(importlib.import_module(module), function)
        (folder / name).mkdir()
        for i, path in enumerate(map(Path, files)):
            whole = folder / name / f"whole{i}{path.suffix}"
            whole.write_bytes(path.read_bytes())
            targets[name](whole)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + order["memory"],) * 2)
    signal.signal(signal.SIGALRM, _stop)
    found = {name: Outcome() for name in targets}
    for name, (_, _, files) in order["kinds"].items():
        for k in range(order["n"]):
            source = Path(files[k % len(files)])
            path = folder / name / f"case{source.suffix}"
            [data] = mutations(source.read_bytes(), rng, 1)
            path.write_bytes(data)
            # The last line says where a process was that was killed.
            print(f"case {k} of {name}, {source.name}", flush=True)
            failure = _try(targets[name], path, order["seconds"], found[name])
            if failure:
                found[name].failures.append(f"case {k}, {source.name}: {failure}")
                _keep(path, k)
    print(json.dumps({name: vars(outcome) for name, outcome in found.items()}))


def _try(target, path, seconds, found):
    """Open one file, and return what was wrong about how that ended."""
    start, failure = time.perf_counter(), ""
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        target(path)
        found.n_read += 1
    except BiasAudioError as error:
        found.n_refused += 1
        if _is_of_memory(error):
            failure = f"it asked for more memory than allowed: {error}"
        elif "\n" in str(error):
            failure = f"more than one line: {error!r}"
    except BaseException as error:
        failure = f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    took = time.perf_counter() - start
    found.n_cases += 1
    found.slowest = max(found.slowest, took)
    return failure or (f"took {took:.1f} s" if took > seconds else "")


def _stop(*_):
    raise TimeoutError("too slow")


def _is_of_memory(error):
    """Say whether an error comes from asking for more memory than there is."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _keep(path, k):
    """Keep a file that went wrong, if a folder for such files is named."""
    if "BIASAUDIO_FUZZ_KEEP" in os.environ:
        kept = Path(os.environ["BIASAUDIO_FUZZ_KEEP"]) / f"{path.parent.name}-{k}{path.suffix}"
        kept.write_bytes(path.read_bytes())


def _address_space():
    """Return the bytes of address space that this process has taken."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    _work(json.loads(sys.argv[1]))
