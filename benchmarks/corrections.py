"""Compare our corrections with those of other libraries, on the same arrays in one go.

    python -m benchmarks.corrections [--quick] [--npz A.npz B.npz] [--out FILE]

prints a table for each array: time, extra memory, leakage and error of each
operation that two libraries have, and then where ours is not first, and why.
A library that is not installed, or fails, has a row that says so.  What to
install, and what the columns mean, is in README.md next to this file.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COLUMNS = {
    "time_32": "time, s (float32)",
    "ratio_32": "x ours",
    "time_64": "time, s (float64)",
    "ratio_64": "x ours",
    "memory": "memory, MiB",
    "auc": "AUC, new clips",
    "coef": "coef., fitted clips",
    "error_64": "error, float64",
    "error_32": "error, float32, mean 1000",
}
# What is called equal: a factor, and a size below which nothing is told apart.
EQUAL = {
    "time_32": (1.1, 1e-3),
    "time_64": (1.1, 1e-3),
    "memory": (1.05, 1.0),
    "auc": (1.0, 0.01),
    "coef": (2.0, 1e-5),
    "error_64": (2.0, 1e-10),
    "error_32": (2.0, 1e-6),
}
REASONS = {
    ("ComBat", "error_32"): "ours returns float32 for float32, which has steps of 6e-5 at 1000; "
    "neuroCombat returns float64",
    ("CORAL, shrunk", "auc"): "ours shrinks both sets by one weight, on the scale of both; skada "
    "shrinks each by its own, on the scale of its own",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; return 0."""
    options = _parse(arguments)
    for name in ("OMP", "OPENBLAS", "MKL"):
        # Read when numpy and torch are loaded, and handed on to the processes started here.
        os.environ[f"{name}_NUM_THREADS"] = str(options.threads)
    warnings.simplefilter("ignore")
    report: dict[str, Any] = {"meta": _meta(options), "arrays": []}
    print(_head(report["meta"]))
    for name, splits in _arrays(options):
        rows = _compare(splits, options)
        report["arrays"].append({"name": name, "rows": rows})
        print(f"\n## {name}\n\n{_table(rows)}\n\n{_not_first(rows)}", flush=True)
    if not options.only or "LEACE".startswith(options.only):
        report["erasure"] = _erasure(options)
        print(f"\n## LEACE on new planted clips\n\n{_erasure_table(report['erasure'])}")
    if options.out:
        options.out.write_text(json.dumps(report, indent=1), encoding="utf-8")
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny arrays, one repeat")
    parser.add_argument("--npz", nargs=2, type=Path, metavar=("A", "B"), help="two real sets")
    parser.add_argument("--repeats", type=int, default=7, help="timed turns (default 7)")
    parser.add_argument("--threads", type=int, default=1, help="BLAS threads (default 1)")
    parser.add_argument("--only", help="operations that start so, such as LEACE")
    parser.add_argument("--out", type=Path, help="write all numbers as JSON")
    return parser.parse_args(arguments)


def _meta(options: argparse.Namespace) -> dict[str, Any]:
    import numpy as np

    from benchmarks._entries import ENTRIES

    versions = {entry.library: entry.version or "not installed" for entry in ENTRIES}
    return {
        "versions": {**versions, "numpy": np.__version__, "python": platform.python_version()},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": options.threads,
        "repeats": 1 if options.quick else options.repeats,
        "clock": "CPU time" if options.threads == 1 else "wall time",
    }


def _head(meta: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in meta["versions"].items())
    return (
        f"# Corrections compared\n\n{versions}; {meta['machine']}; {meta['threads']} BLAS "
        f"thread(s); {meta['clock']}, median of {meta['repeats']} turns taken one after the other."
    )


def _arrays(options: argparse.Namespace) -> list[tuple[str, Any]]:
    """Return the name and the three splits of each array."""
    from benchmarks._measures import planted, real

    sizes = [(60, 8), (24, 40)] if options.quick else [(18000, 512), (400, 1024)]
    arrays = [(f"planted, {n} clips a split, D = {d}", planted(n, d)) for n, d in sizes]
    if options.npz:
        splits = real(*options.npz)
        names = " and ".join(path.stem for path in options.npz)
        n, d = splits[0].X.shape
        arrays.append((f"{names}, {n} clips a split, D = {d}", splits))
    return arrays


def _compare(splits: Any, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return one row for each operation and library."""
    from benchmarks._entries import ENTRIES

    n, d = splits[0].X.shape
    rows = []
    usable = [e for e in ENTRIES if (e.is_tall if n > d else e.is_wide)]
    for operation in dict.fromkeys(entry.operation for entry in usable):
        if options.only and not operation.startswith(options.only):
            continue
        entries = [e for e in usable if e.operation == operation]
        # A process an entry takes most of the time of a quick run: one array will do.
        found = [_quality(e, splits, with_memory=n > d or not options.quick) for e in entries]
        working = [e for e, row in zip(entries, found) if "all" not in row["problems"]]
        _add_times(working, found, splits, options)
        rows += found
    return rows


def _quality(entry: Any, splits: Any, *, with_memory: bool) -> dict[str, Any]:
    """Return what does not depend on the clock: memory, leakage and error."""
    from benchmarks._measures import coefficient, error, extra_memory, held_out_auc, wide_mean

    row: dict[str, Any] = {"operation": entry.operation, "library": entry.library, "problems": {}}
    if not entry.version:
        return {**row, "problems": {"all": "not installed"}}
    exact = splits[0].astype("float64")
    measures = {
        "coef": lambda: coefficient(entry, splits[0]),
        "auc": lambda: held_out_auc(entry.correct, splits),
        "error_64": lambda: error(entry, exact),
        "error_32": lambda: error(entry, wide_mean(exact)),
    }
    if with_memory:
        measures["memory"] = lambda: extra_memory(entry, splits[0])
    for name, measure in measures.items():
        try:
            row[name] = measure()
        except Exception as problem:  # Another library may fail in any way; the table tells it.
            text = f"{type(problem).__name__}: {' '.join(str(problem).split())}"[:160]
            row["problems"][name] = text
    if len(row["problems"]) == len(measures):
        row["problems"] = {"all": row["problems"]["coef"]}
    return row


def _add_times(entries: Any, rows: list[dict[str, Any]], splits: Any, options: Any) -> None:
    """Time the entries in turns, and compare each with ours."""
    from statistics import median

    from benchmarks._timing import in_turns

    clock = time.process_time if options.threads == 1 else time.perf_counter
    repeats = 1 if options.quick else options.repeats
    for bits in ("32", "64"):
        columns = splits[0].astype(f"float{bits}").columns
        calls = {e.library: functools.partial(e.correct, *columns) for e in entries}
        times = in_turns(calls, repeats, warm=True, clock=clock)
        for row in rows:
            if row["library"] in times:
                row[f"times_{bits}"] = times[row["library"]]
                row[f"time_{bits}"] = median(times[row["library"]])
        ours = rows[0].get(f"time_{bits}")
        for row in rows:
            if ours and f"time_{bits}" in row:
                row[f"ratio_{bits}"] = row[f"time_{bits}"] / ours


def _table(rows: list[dict[str, Any]]) -> str:
    lines = ["| operation | library | " + " | ".join(COLUMNS.values()) + " |"]
    lines.append("|---|---|" + "---:|" * len(COLUMNS))
    notes = []
    for row in rows:
        problems = row["problems"]
        cells = ["fails" if name in problems else _cell(name, row.get(name)) for name in COLUMNS]
        if "all" in problems:
            cells = [problems["all"].replace("|", "/"), *[""] * (len(COLUMNS) - 1)]
        lines.append(f"| {row['operation']} | {row['library']} | " + " | ".join(cells) + " |")
        notes += [
            f"- {row['operation']}, {row['library']}, {COLUMNS[name]}: {text}"
            for name, text in problems.items()
            if name != "all"
        ]
    return "\n".join([*lines, "", "What fails:", "", *notes] if notes else lines)


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if name.startswith("time"):
        return f"{value:.4f}" if value < 0.1 else f"{value:.3f}"
    shapes = {"ratio_32": ".2f", "ratio_64": ".2f", "memory": ".1f", "auc": ".3f"}
    return format(value, shapes.get(name, ".1e"))


def _not_first(rows: list[dict[str, Any]]) -> str:
    """Return the columns where another library is better than ours, and why."""
    lines = []
    for ours in (row for row in rows if row["library"] == "biasaudio"):
        for other in rows:
            if other is ours or other["operation"] != ours["operation"]:
                continue
            for column, (factor, least) in EQUAL.items():
                if column not in ours or column not in other:
                    continue
                a, b = ours[column], other[column]
                if column == "auc":
                    a, b = abs(a - 0.5), abs(b - 0.5)
                if a > factor * b and a - b > least:
                    why = REASONS.get((ours["operation"], column), "no reason known")
                    lines.append(
                        f"- {ours['operation']}, {COLUMNS[column]}: {_cell(column, ours[column])}, "
                        f"{other['library']} {_cell(column, other[column])}: {why}"
                    )
    return (
        "Ours is first or equal in every column."
        if not lines
        else "\n".join(["Where ours is not first:", "", *lines])
    )


def _erasure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return what a probe reads on new planted clips after LEACE, for three seeds."""
    from benchmarks._entries import ENTRIES
    from benchmarks._measures import held_out_auc, planted

    leace = next(e for e in ENTRIES if e.operation == "LEACE, shrunk" and e.is_ours)
    lda = next(e for e in ENTRIES if e.operation == "LDA projection" and e.is_ours)
    rows = []
    for n in (60,) if options.quick else (9000, 18000):
        d = 8 if options.quick else 512
        for seed in range(1 if options.quick else 3):
            splits = planted(n, d, random_state=seed)
            aucs = {
                "original": held_out_auc(_unchanged, splits),
                "lda": held_out_auc(lda.correct, splits),
                "leace": held_out_auc(leace.correct, splits),
            }
            rows.append({"n": n, "d": d, "seed": seed, "floor": _floor(n, d), **aucs})
    return rows


def _unchanged(X: Any, domain: Any, label: Any) -> tuple[Any, Any]:
    return X, lambda X, domain, label: X


def _floor(n: int, d: int) -> float:
    """Return the AUC that the sampling error of the mean difference leaves.

    The removed difference is off by a vector of squared length 4 d / n, in
    units of the noise, and what the probe takes for it by as much again.
    """
    from statistics import NormalDist

    return NormalDist().cdf((4 * d / n) ** 0.5 / 2)


def _erasure_table(rows: list[dict[str, Any]]) -> str:
    names = ("n", "d", "seed", "original", "lda", "leace", "floor")
    heads = ("clips a split", "D", "seed", "original", "lda", "leace", "expected of leace")
    lines = ["| " + " | ".join(heads) + " |", "|" + "---:|" * len(heads)]
    for row in rows:
        cells = [f"{row[n]:.3f}" if isinstance(row[n], float) else str(row[n]) for n in names]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
