"""The whole published study by its command, with its time and the memory of all its processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from benchmarks._layout import INSTRUMENTS, plant
from benchmarks._pooling import keeping_cache
from benchmarks._timing import Row, Setting

JOBS = 2
TICK_SECONDS = 0.2


def study(setting: Setting) -> Iterator[Row]:
    """Yield the study, the same command again, and a part of it by liblinear."""
    n_clips, d = (300, 4) if setting.quick else (2000, 64)
    folder = setting.layout or plant(setting.folder / "study", n_clips=n_clips, n_frames=4, d=d)
    labels = INSTRUMENTS[:1] if setting.quick else INSTRUMENTS
    out = setting.folder / "out"
    with keeping_cache(folder / "embeddings.h5"):
        seconds, peak = reproduce(folder, out, "--no-cache", "--labels", *labels)
        again, _ = reproduce(folder, out, "--labels", *labels)
        one, _ = reproduce(
            folder, setting.folder / "one", "--solver", "liblinear", "--labels", labels[0]
        )
    n_rows = sum(len(pd.read_csv(path)) for path in out.glob("result_all_*.csv"))
    size = f"{n_rows:,} rows, {'published size' if setting.layout else f'planted, D = {d}'}"
    yield Row(
        f"biasaudio reproduce, {JOBS} jobs",
        size,
        seconds,
        f"--solver liblinear, 1 of {len(labels)} instruments timed",
        one * len(labels),
        limit=600.0 if setting.layout else None,
        memory=peak,
        memory_goal=4096,
        note="memory of all processes",
    )
    yield Row("the same command again", size, again, "the first time", seconds)


def reproduce(folder: Path, out: Path, *options: str) -> tuple[float, float]:
    """Return the seconds of the command, and the largest memory of its processes in MiB."""
    command = [sys.executable, "-m", "biasaudio", "reproduce", str(folder), "--out", str(out)]
    # The command itself says how many threads each job has.
    threads = {f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL")}
    environment = {name: value for name, value in os.environ.items() if name not in threads}
    start, peak = time.perf_counter(), 0.0
    with subprocess.Popen(
        [*command, "--quiet", "--n-jobs", str(JOBS), *options],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        while process.poll() is None:
            peak = max(peak, _session_mib(process.pid))
            time.sleep(TICK_SECONDS)
        seconds = time.perf_counter() - start
        text = process.stderr.read() if process.stderr else ""
    if process.returncode:
        raise RuntimeError(text.strip())
    return seconds, peak


def _session_mib(session: int) -> float:
    """Return the memory of all processes of a session, shared pages counted once (Linux only)."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            after_name = (folder / "stat").read_text(encoding="ascii").rpartition(")")[2]
            if int(after_name.split()[3]) == session:
                text = (folder / "smaps_rollup").read_text(encoding="ascii")
                total += int(text.split("\nPss:")[1].split()[0])
        except (OSError, IndexError, UnicodeDecodeError):
            # It ended meanwhile.
            continue
    return total / 1024
