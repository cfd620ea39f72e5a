"""Time every task beside its baseline, and write the table into the README.

    python -m benchmarks.run [--quick] [--only NAME ...] [--layout DIR] [--out DIR]

prints one table.  Results go to ``results.json``, ``cost.png`` and the marked
part of ``README.md`` in the folder of this file; with ``--only`` the other
tasks keep the numbers they had.  What the columns mean is in README.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

TASKS = {
    "loading": "_pooling",
    "transforms": "_transforms",
    "peers": "_transforms",
    "slopes": "_scaling",
    "out_of_core": "_scaling",
    "classifier": "_classifier",
    "kernel": "_classifier",
    "bootstrap": "_bootstrap",
    "study": "_study",
}

GOALS = ("goal", "limit", "memory_goal")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tasks; return 0."""
    options = _parse(arguments)
    for name in ("OMP", "OPENBLAS", "MKL"):
        # Read when numpy and torch are loaded, and handed on to the processes started here.
        os.environ[f"{name}_NUM_THREADS"] = str(options.threads)
    warnings.simplefilter("ignore")
    from importlib import import_module

    from benchmarks._report import HERE, head, line, machine, save
    from benchmarks._timing import Setting

    out = options.out or (None if options.quick else HERE)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    print(head(), flush=True)
    for name in options.only or TASKS:
        task = getattr(import_module(f"benchmarks.{TASKS[name]}"), name)
        rows = []
        with tempfile.TemporaryDirectory() as folder:
            for row in task(Setting(options.quick, Path(folder), options.layout, options.threads)):
                # A goal is one for arrays of a real size.
                rows.append(asdict(row) | dict.fromkeys(GOALS if options.quick else ()))
                print(line(rows[-1]), flush=True)
        if out is not None:
            save(out, machine(options.threads), name, rows)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks.run", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny arrays; write nothing, or --out")
    parser.add_argument("--only", nargs="+", choices=TASKS, metavar="NAME", help=", ".join(TASKS))
    parser.add_argument("--layout", type=Path, help="the published data, not small planted ones")
    parser.add_argument("--threads", type=int, default=1, help="BLAS threads (default 1)")
    parser.add_argument("--out", type=Path, help="folder to write to (default: that of this file)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
