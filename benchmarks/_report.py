"""The table, the file of all numbers, the figure, and their place in the README."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
FIRST, LAST = "<!-- benchmarks.run -->", "<!-- end of benchmarks.run -->"
COLUMNS = (
    "task",
    "size",
    "ours, s",
    "baseline",
    "baseline, s",
    "ours / baseline",
    "memory, MiB",
    "",
)
VERSIONS = ("biasaudio", "numpy", "scipy", "scikit-learn", "h5py")
FIGURE = "cost.png"


def machine(threads: int) -> dict[str, Any]:
    """Return what the numbers depend on."""
    from threadpoolctl import threadpool_info

    blas = {f"{one['internal_api']} {one['version']}" for one in threadpool_info()}
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory, GiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in VERSIONS},
        "BLAS": ", ".join(sorted(name for name in blas if "openmp" not in name)),
        "BLAS threads": threads,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, value in found.items()}.get("model name", "")


def line(row: Mapping[str, Any]) -> str:
    """Return one line of the table."""
    seconds = row["seconds"]
    ratio = None if seconds is None else row["ours"] / seconds
    cells = (
        row["task"],
        row["size"],
        _beside(row["ours"], row["limit"], _seconds),
        row["baseline"],
        "" if seconds is None else _seconds(seconds),
        _beside(ratio, row["goal"], _ratio),
        _beside(row["memory"], row["memory_goal"], _whole),
        row["note"],
    )
    return _join(cells)


def head() -> str:
    """Return the first two lines of the table."""
    return f"{_join(COLUMNS)}\n{_join('---:' if '/' in c or ',' in c else '---' for c in COLUMNS)}"


def _join(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _beside(value: float | None, goal: float | None, write: Callable[[float], str]) -> str:
    """Return a number and what was wanted of it."""
    if value is None or goal is None:
        return "" if value is None else write(value)
    return f"{write(value)} (goal {write(goal)}{'' if value <= goal else ', missed'})"


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(value: float) -> str:
    if value > 0.95:
        return f"{value:.2f}"
    return f"1/{_seconds(1 / value)}"


def save(folder: Path, about: Mapping[str, Any], name: str, rows: Sequence[Any]) -> None:
    """Write numbers, figure and README; the other tasks stay as they were.

    Parameters
    ----------
    folder : Path
    about : mapping
        The machine.
    name : str
        The task.
    rows : sequence of dict
    """
    path = folder / "results.json"
    tasks = json.loads(path.read_text(encoding="utf-8"))["tasks"] if path.is_file() else {}
    tasks[name] = {"date": f"{date.today()}", "rows": list(rows)}
    report = {"machine": about, "tasks": tasks}
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    draw(tasks, folder / FIGURE)
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    (folder / "README.md").write_text(render(report, readme), encoding="utf-8")


def render(report: Mapping[str, Any], readme: str) -> str:
    """Return the README with the table of a report between the two marks."""
    tasks = report["tasks"].values()
    days = sorted({task["date"] for task in tasks})
    about = [f"{name} {value}" for name, value in report["machine"].items()]
    parts = [
        f"{', '.join(about)}; {' to '.join(sorted({days[0], days[-1]}))}.",
        "\n".join([head(), *(line(row) for task in tasks for row in task["rows"])]),
    ]
    if any(row["points"] for task in tasks for row in task["rows"]):
        parts.append(f"![Seconds of a fit against N and against D]({FIGURE})")
    start, end = readme.index(FIRST) + len(FIRST), readme.index(LAST)
    return "\n\n".join([readme[:start], *parts, readme[end:]])


def draw(tasks: Mapping[str, Any], path: Path) -> None:
    """Draw the rows that have points."""
    rows = [row for task in tasks.values() for row in task["rows"] if row["points"]]
    axes = {name: [row for row in rows if row["task"].endswith(f"against {name}")] for name in "ND"}
    if not all(axes.values()):
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    for panel, (name, lines) in zip(figure.subplots(1, 2), axes.items()):
        for row, marker in zip(lines, "osD^v"):
            sizes, seconds = zip(*row["points"])
            label = f"{row['task'].split(',')[0]}, {row['note']}"
            panel.loglog(sizes, seconds, marker=marker, markersize=4, linewidth=1.3, label=label)
        panel.loglog(
            *zip(*lines[0]["baseline_points"]), "--", color="0.5", label=lines[0]["baseline"]
        )
        sizes = lines[0]["size"].split(" x ")
        panel.set_xlabel(f"{name} ({'D' if name == 'N' else 'N'} = {sizes[name == 'N']})")
        panel.set_ylabel("seconds of a fit")
        panel.grid(True, which="major", alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=100)
