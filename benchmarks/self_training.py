"""Show every decision of the self-training gate, and what it gained or would have gained.

    python -m benchmarks.self_training FOLDER [--splits 6] [--out FILE]

FOLDER holds .npz files with the arrays ``X``, ``label``, ``dataset`` and
``group`` (or ``song_id``, or ``clip``); files whose names agree up to the
first ``_`` are of one embedding.  For each embedding and ordered pair of
datasets, two thirds of the groups train: the source with its labels, the
target without.  Scored is the mean ROC-AUC over the shared classes of a
logistic classifier of the source, on the other third of the target.

Target labels are read for the scores, the column "true labels" and the column
"right" (the share of right pseudo-labels), and for nothing else.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio.moments import Moments
from biasaudio.probes.ridge import common_units
from biasaudio.transfer import Task, evaluate
from biasaudio.transforms.class_shifts import ClassShifts, class_shifts
from biasaudio.transforms.selftrain import FACTORS, pseudo_shifts

Array = NDArray[Any]
STRENGTH = 10.0
GROUP_NAMES = ("group", "song_id", "clip")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; return 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--splits", type=int, default=6)
    parser.add_argument("--embedding", help="only this one")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    tables = read_folder(options.folder)
    lines = []
    for name, columns in tables.items():
        if options.embedding in (None, name):
            for source, target in permutations(np.unique(columns["dataset"]), 2):
                rows = [run(columns, source, target, seed) for seed in range(options.splits)]
                if rows[0] is not None:
                    lines.append((f"{name}: {source} -> {target}", rows))
                    print(f"{len(lines)} pairs", end="\r", file=sys.stderr)
    text = "\n".join([*pair_table(lines), "", *evidence_table(lines), "", *summary(lines)]) + "\n"
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    print(text)
    return 0


def read_folder(folder: Path) -> dict[str, dict[str, Array]]:
    """Return the columns of each embedding."""
    found: dict[str, list[dict[str, Array]]] = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            group = next((name for name in GROUP_NAMES if name in arrays), None)
            if group is None or not {"X", "label", "dataset"} <= set(arrays):
                continue
            columns = {name: arrays[name] for name in ("X", "label", "dataset")}
            columns["group"] = np.char.add(columns["dataset"], np.char.add("/", arrays[group]))
        found.setdefault(path.stem.split("_")[0], []).append(columns)
    return {
        name: {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        for name, parts in found.items()
        if len({part["X"].shape[1] for part in parts}) == 1
    }


def split(groups: Array, labels: Array, rng: np.random.Generator) -> Array:
    """Return which clips train: of each class two thirds of the groups."""
    names, first, codes = np.unique(groups, return_index=True, return_inverse=True)
    order = np.lexsort((rng.random(len(names)), labels[first]))
    part = np.empty(len(names), dtype=int)
    part[order] = np.arange(len(names)) % 3
    return part[codes] != 0


def run(columns: dict[str, Array], source: str, target: str, seed: int) -> dict[str, Any] | None:
    """Return the scores of one split, or None where the pair shares too little."""
    of = [set(np.unique(columns["label"][columns["dataset"] == name])) for name in (source, target)]
    shared = sorted(of[0] & of[1] - {""})
    if len(shared) < 3:
        return None
    kept = np.isin(columns["dataset"], (source, target)) & np.isin(columns["label"], shared)
    X, label, domain, group = (columns[k][kept] for k in ("X", "label", "dataset", "group"))
    X = common_units(X.astype(np.float64))
    is_train = np.zeros(len(X), dtype=bool)
    for name in (source, target):
        rows = np.flatnonzero(domain == name)
        is_train[rows] = split(group[rows], label[rows], np.random.default_rng(seed))
    codes = np.searchsorted(shared, label)
    ours, theirs = is_train & (domain == source), is_train & (domain == target)
    found = pseudo_shifts(
        X[ours], codes[ours], X[theirs], group[ours], strength=STRENGTH, random_state=seed
    )
    Y = codes[:, None] == np.arange(len(shared))
    ids = np.unique(group, return_inverse=True)[1]

    def score(Z: Array) -> float:
        task = Task(Z, domain, is_train, Y, np.ones_like(Y), tuple(map(str, shared)), ids)
        rows = evaluate(task, methods=[]).rows()
        known = [r["roc_auc"] for r in rows if (r["train_set"], r["test_set"]) == (source, target)]
        return 100 * float(np.mean(known))

    moments = Moments(dtype=np.float64, scatter="diagonal")
    moments.update(X[is_train], domain=domain[is_train], label=label[is_train])
    guessed = found.class_shifts()
    result: dict[str, Any] = {
        "original": score(X),
        "true": score(corrected(X, class_shifts(moments.cells), STRENGTH)),
        "decision": found.decision,
        "right": 100 * float(np.mean(found.probabilities.argmax(axis=1) == codes[theirs])),
        "evidence": found.evidence,
    }
    for name, factor in FACTORS.items():
        result[name] = score(corrected(X, guessed, factor * STRENGTH)) if factor else None
    result["none"] = result["original"]
    return result | {"gated": result[found.decision]}


def corrected(X: Array, shifts: ClassShifts, strength: float) -> Array:
    """Return the clips after the soft projection."""
    shifts = shifts.shrunk("auto")
    _, sizes, V = np.linalg.svd(shifts.shifts, full_matrices=False)
    change = 1 / np.sqrt(1 + strength * sizes**2 / shifts.n_classes / shifts.within) - 1
    return X + ((X @ V.T) * change) @ V


def gains(rows: Sequence[dict[str, Any]], name: str) -> Array:
    """Return what was gained on each split."""
    return np.array([row[name] - row["original"] for row in rows])


def pair_table(lines: Sequence[Any]) -> Iterator[str]:
    """Yield the scores of every pair."""
    names = ["pair", "original", "true labels", "full", "weak", "decisions", "gated"]
    names += ["worst split", "right"]
    yield f"| {' | '.join(names)} |"
    yield f"|{'---|' * len(names)}"
    for name, rows in lines:
        original = np.mean([row["original"] for row in rows])
        true, full, weak, gated = (gains(rows, n) for n in ("true", "full", "weak", "gated"))
        chosen = [row["decision"] for row in rows]
        decisions = ", ".join(f"{d} {chosen.count(d)}" for d in FACTORS if d in chosen)
        yield (
            f"| {name} | {original:.1f} | {true.mean():+.1f} | {full.mean():+.1f} | "
            f"{weak.mean():+.1f} | {decisions} | {gated.mean():+.2f} | {gated.min():+.1f} | "
            f"{np.mean([row['right'] for row in rows]):.0f} % |"
        )


def evidence_table(lines: Sequence[Any]) -> Iterator[str]:
    """Yield the evidence of every pair."""
    names = list(lines[0][1][0]["evidence"]) if lines else []
    yield f"| pair | {' | '.join(names)} |"
    yield f"|{'---|' * (len(names) + 1)}"
    for name, rows in lines:
        means = (np.mean([row["evidence"][n] for row in rows]) for n in names)
        yield f"| {name} | {' | '.join(f'{mean:.2f}' for mean in means)} |"


def summary(lines: Sequence[Any]) -> Iterator[str]:
    """Yield one line for each rule: the mean over pairs, the worst pair, the worst split."""
    for rule in ("full", "weak", "gated"):
        found = [gains(rows, rule) for _, rows in lines]
        pairs = np.array([one.mean() for one in found])
        worst = min((float(one.min()) for one in found), default=np.nan)
        yield (
            f"- {rule}: mean {pairs.mean():+.2f}, worst pair {pairs.min():+.2f}, worst split "
            f"{worst:+.1f}, better in {np.sum(pairs > 0)} of {len(pairs)} pairs"
        )


if __name__ == "__main__":
    sys.exit(main())
