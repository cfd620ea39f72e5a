"""Measure what `extract` adds to a bare loop over the model, and what two jobs gain.

    python -m benchmarks.extraction [--model melstats yamnet:FILE ...] [--clips 240] [--turns 3]

The clips are tones in noise of 3 to 10 s, half of them wav at 44.1 kHz in stereo, half flac.
The bare loop reads a file with soundfile, averages the channels, resamples with librosa and calls
the model; it stores nothing.  All run in turns.  On one core the ratio is that of the CPU time of
the process, which other jobs on the machine disturb least (and of the wall clock, beside it).  Two
bare loops at once, in two processes with half of the clips each, show what the machine allows.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import librosa
import numpy as np
import soundfile
from threadpoolctl import threadpool_limits

from biasaudio.embed import extract, load_model
from biasaudio.store import Appender

GOALS = {"one": 0.9, "two": 1.7, "store": 0.05}


def write_clips(folder: Path, n: int) -> list[Path]:
    """Write the clips, of one dataset."""
    rng = np.random.default_rng(0)
    paths = []
    for k in range(n):
        rate, channels, suffix = ((44_100, 2, "wav"), (22_050, 1, "flac"))[k % 2]
        length = int(rate * rng.uniform(3, 10))
        tone = np.sin(np.arange(length) * rng.uniform(0.02, 0.3))[:, None]
        sound = 0.3 * tone + 0.1 * rng.normal(size=(length, channels))
        paths.append(folder / "clips" / f"{k:04d}.{suffix}")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(paths[-1], sound.clip(-1, 1), rate)
    return paths


def bare_loop(spec: str, paths: Sequence[Path]) -> None:
    """Embed files as simply as it can be done."""
    model = load_model(spec)
    with threadpool_limits(1):
        for path in paths:
            sound, rate = soundfile.read(path, dtype="float32", always_2d=True)
            mono = sound.mean(axis=1)
            if rate != model.sample_rate:
                mono = librosa.resample(mono, orig_sr=rate, target_sr=model.sample_rate)
            model.embed(mono)


def _wait_and_loop(spec: str, paths: Sequence[Path], gate: Any) -> None:
    bare_loop(spec, paths[:2])
    gate.wait()
    bare_loop(spec, paths)
    gate.wait()


def two_loops(spec: str, paths: Sequence[Path]) -> float:
    """Return the seconds that two bare loops take at once, with half of the files each."""
    fresh = multiprocessing.get_context("spawn")
    gate = fresh.Barrier(3)
    halves = (paths[: len(paths) // 2], paths[len(paths) // 2 :])
    loops = [fresh.Process(target=_wait_and_loop, args=(spec, half, gate)) for half in halves]
    for loop in loops:
        loop.start()
    gate.wait()
    begin = time.perf_counter()
    gate.wait()
    seconds = time.perf_counter() - begin
    for loop in loops:
        loop.join()
    return seconds


@contextmanager
def _timing(owner: Any, name: str, clock: Callable[[], float]) -> Iterator[list[float]]:
    """Add up what the calls of a function take."""
    real, taken = getattr(owner, name), [0.0]

    def timed(*args: Any, **options: Any) -> Any:
        begin = clock()
        try:
            return real(*args, **options)
        finally:
            taken[0] += clock() - begin

    setattr(owner, name, timed)
    try:
        yield taken
    finally:
        setattr(owner, name, real)


def _clocked(call: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds of the wall and of the CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(spec: str, audio: Path, paths: Sequence[Path], turns: int) -> dict[str, float]:
    """Return the ratios of one model.

    Parameters
    ----------
    spec : str
    audio : Path
        The folder of the files.
    paths : sequence of Path
    turns : int
    """
    import sys

    engine = sys.modules["biasaudio.embed.extraction"]
    model = load_model(spec)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        stores = (Path(scratch, f"{k}") for k in range(10**6))

        def one(n_jobs: int) -> None:
            extract(audio, model, next(stores), n_jobs=n_jobs)

        # Processes are kept from one call to the next; to start them is not what is measured.
        bare_loop(spec, paths[:4])
        one(2)
        for _ in range(turns):
            loop_wall, loop_cpu = _clocked(lambda: bare_loop(spec, paths))
            with (
                _timing(Appender, "add", time.process_time) as added,
                _timing(engine, "_merge", time.process_time) as merged,
            ):
                wall, cpu = _clocked(lambda: one(1))
            both, _ = _clocked(lambda: one(2))
            pair = two_loops(spec, paths)
            store = (added[0] + merged[0]) / cpu
            ratios = (loop_cpu / cpu, loop_wall / wall, wall / both, loop_wall / pair)
            rows.append((*ratios, store, 1000 * cpu / len(paths)))
    names = ("one, CPU", "one, wall", "two jobs", "two bare loops", "store", "ms a clip")
    return dict(zip(names, map(median, zip(*rows))))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure all models, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", nargs="+", default=["melstats"])
    parser.add_argument("--clips", type=int, default=240)
    parser.add_argument("--turns", type=int, default=3)
    args = parser.parse_args(argv)
    print("| model | ms a clip | bare loop / extract, CPU | wall clock | 2 jobs against 1 |")
    print("| --- | ---: | ---: | ---: | ---: |")
    notes = []
    with tempfile.TemporaryDirectory() as folder:
        paths = write_clips(Path(folder), args.clips)
        for spec in args.model:
            found = measure(spec, Path(folder), paths, args.turns)
            name = spec.split(":")[0]
            print(
                f"| {name} | {found['ms a clip']:.1f} | {found['one, CPU']:.2f} (goal "
                f"{GOALS['one']}) | {found['one, wall']:.2f} | {found['two jobs']:.2f} (goal "
                f"{GOALS['two']}; two bare loops {found['two bare loops']:.2f}) |",
                flush=True,
            )
            notes.append(
                f"{name}: the store takes {found['store']:.1%} of the CPU time "
                f"(goal {GOALS['store']:.0%})"
            )
    print("\n" + "\n".join(notes))


if __name__ == "__main__":
    main()
