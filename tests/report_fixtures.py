"""A plausible audit result, made up and deterministic, in several variants."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

LABELS = ("bass_drum", "cello", "clarinet", "double_bass", "flute", "organ", "trumpet", "violin")
GENRES = ("pop_rock", "jazz_blue", "classical", "country_folk")
METHODS = ("original", "lda", "mlda", "meandiff", "leace", "center", "nap", "wccn")
# How much of the leakage and of the transfer drop each made-up method takes away.
EFFECT = {
    "original": (0.0, 0.0),
    "lda": (0.02, 0.01),
    "mlda": (0.10, -0.15),
    "meandiff": (0.45, 0.02),
    "leace": (0.55, 0.03),
    "center": (0.60, 0.25),
    "nap": (0.50, 0.75),
    "wccn": (0.30, 0.65),
}
SEEING = ("nap", "wccn")
REFERENCE = "Wang et al. 2023, arXiv 2307.10834"
CARDS = {
    "lda": ("LDA projection", "domain-free", "Removes the one discriminant direction."),
    "mlda": ("LDA projection per genre", "domain-free", "Removes one direction per genre."),
    "meandiff": ("Mean projection", "domain-free", "Removes the span of the mean differences."),
    "leace": ("LEACE", "domain-free", "Removes all linear domain information, changing least."),
    "center": ("Domain centering", "domain-aware", "Subtracts the mean of each domain."),
    "nap": ("Nuisance projection", "domain-free", "Removes the per-class domain shifts."),
    "wccn": ("Within-class normalization", "domain-free", "Whitens the within-class covariance."),
}
PROBES = [
    "embedding",
    "probe",
    "datasets",
    "design",
    "mix",
    "method",
    "kind",
    "auc",
    "low",
    "high",
    "balanced_accuracy",
    "chance_accuracy",
    "p_value",
    "n",
    "n_groups",
    "n_classes",
]
VALUES = [
    "embedding",
    "probe",
    "datasets",
    "design",
    "mix",
    "method",
    "kind",
    "value",
    "n",
    "auc",
    "recall",
]
TRANSFER = [
    "instrument",
    "train_set",
    "test_set",
    "precision",
    "recall",
    "f1-score",
    "support",
    "accuracy",
    "roc_auc",
    "ap",
    "embedding",
    "method",
    "mode",
    "prevalence",
    "n_train",
    "n_test",
    "C",
    "constant",
]
DROPS = [
    "embedding",
    "method",
    "mode",
    "train_set",
    "test_set",
    "within",
    "across",
    "drop",
    "low",
    "high",
    "p_value",
    "n_labels",
    "n_groups",
]
COMPARISONS = [
    "embedding",
    "method",
    "mode",
    "train_set",
    "test_set",
    "n_labels",
    "before",
    "after",
    "delta",
    "low",
    "high",
    "p_value",
    "p_holm",
    "n_groups",
    "verdict",
]
DISTRIBUTION = ["dataset", "split", "genre", "label", "n_annotated", "n_positive", "note"]
DROPPED = ["dataset", "reason", "n", "examples"]
CARD_COLUMNS = [
    "method",
    "title",
    "family",
    "explanation",
    "reference",
    "needs",
    "sees_source_labels",
    "sees_target_clips",
    "sees_target_labels",
    "domain_at_transform",
]


@dataclass(frozen=True)
class FakeResult:
    """The fields that the report reads of an audit result."""

    probes: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=PROBES))
    probe_values: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=VALUES))
    transfer: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=TRANSFER))
    comparisons: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=COMPARISONS))
    drops: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=DROPS))
    distribution: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=DISTRIBUTION))
    dropped: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=DROPPED))
    methods: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=CARD_COLUMNS))
    meta: dict[str, Any] = field(default_factory=dict)


def _noise(*names: str, scale: float = 1.0) -> float:
    """Draw one number that depends on the names alone."""
    seed = [ord(c) for c in "/".join(names)]
    return float(scale * np.random.default_rng(seed).standard_normal())


def _probes(embeddings, datasets, methods, genres):
    rows, values = [], []
    sets = [" + ".join(pair) for pair in itertools.combinations(datasets, 2)]
    for name in embeddings:
        asked = [("domain", s, m) for s in sets for m in ("raw", "equal")]
        asked += [("genre", " + ".join(datasets), "raw")] if genres else []
        for (probe, where, mix), design in itertools.product(asked, ("cross-fit", "three-way")):
            for method in methods if design == "three-way" else ["original"]:
                top = {"raw": 0.97, "equal": 0.95}[mix] if probe == "domain" else 0.81
                top += _noise(name, where, scale=0.015)
                cut = EFFECT[method][0] * (1 if probe == "domain" else 0.1)
                auc = 0.5 + (min(top, 0.99) - 0.5) * (1 - cut)
                half = 0.012 if design == "cross-fit" else 0.03
                key = (name, probe, where, design, mix, method, "linear")
                n_classes = len(genres) if probe == "genre" else 2
                row = (auc, auc - half, min(auc + half, 1), auc - 0.05, 1 / n_classes, 0.005)
                rows.append((*key, *row, 1840 if mix == "raw" else 1322, 412, n_classes))
                parts = genres if probe == "genre" else where.split(" + ")
                values += [(*key, part, 660, auc, auc - 0.04) for part in parts]
    return pd.DataFrame(rows, columns=PROBES), pd.DataFrame(values, columns=VALUES)


def _transfer(embeddings, datasets, methods, modes, labels):
    rows = []
    pairs = list(itertools.product(datasets, datasets))
    for name, mode, method, label in itertools.product(embeddings, modes, methods, labels):
        for train, test in pairs:
            within = 0.93 + _noise(name, test, label, scale=0.02)
            drop = 0.0 if train == test else 0.03 + 0.12 * (label == "organ")
            drop += 0.0 if train == test else abs(_noise(name, train, test, label, scale=0.05))
            kept = drop * (1 - EFFECT[method][1]) + _noise(method, label, mode, scale=0.002)
            auc = min(within - kept, 0.999)
            scores = (0.5, 0.8, 0.6, 60, 0.85, auc, auc - 0.2)
            tail = (name, method, mode, 0.1, 400, 612, 0.01, label == "flute" and method == "mlda")
            rows.append((label, train, test, *scores, *tail))
    return pd.DataFrame(rows, columns=TRANSFER)


def _comparisons(transfer):
    rows = []
    keys = ["embedding", "method", "mode", "train_set", "test_set"]
    means = transfer.groupby(keys, sort=False)["roc_auc"].mean()
    n_labels = transfer["instrument"].nunique()
    for key, after in means.items():
        name, method, mode, train, test = key
        if method != "original":
            before = means[(name, "original", mode, train, test)]
            delta = after - before
            p = float(np.clip(0.9 * np.exp(-((delta / 0.006) ** 2)), 0.0004, 1))
            holm = min(1.0, 4 * p)
            verdict = "no measurable change"
            if abs(delta) > 0.012 and holm < 0.05:
                verdict = "better" if delta > 0 else "worse"
            band = (delta - 0.012, delta + 0.012)
            rows.append((*key, n_labels, before, after, delta, *band, p, holm, 187, verdict))
    return pd.DataFrame(rows, columns=COMPARISONS)


def drops_of(transfer, half=0.02):
    """Return the drops of all pairs; few labels make the interval wide."""
    rows = []
    keys = ["embedding", "method", "mode", "train_set", "test_set"]
    means = transfer.groupby(keys, sort=False)["roc_auc"].mean()
    n_labels = transfer["instrument"].nunique()
    half = half if n_labels > 5 else 0.3
    for (name, method, mode, train, test), across in means.items():
        if train != test:
            within = means[(name, method, mode, test, test)]
            drop = within - across
            p = 0.002 if abs(drop) > half else 0.4
            band = (drop - half, drop + half)
            row = (name, method, mode, train, test, within, across, drop, *band, p, n_labels, 187)
            rows.append(row)
    return pd.DataFrame(rows, columns=DROPS)


def _distribution(datasets, genres, labels):
    rows = []
    for i, dataset in enumerate(datasets):
        for j, genre in enumerate(genres or [""]):
            for k, label in enumerate(labels):
                n = int(abs(_noise(dataset, genre, label, scale=40)) * (1 + (i + j) % 3))
                n = 0 if (i + 2 * j + 3 * k) % 11 == 0 else n
                note = "empty" if n == 0 else "near-empty" if n < 10 else ""
                rows.append((dataset, "train", genre, label, 6 * n, n, note))
    return pd.DataFrame(rows, columns=DISTRIBUTION)


def _cards(methods):
    rows = [
        (m, *CARDS[m], REFERENCE, "domain at fit", m in SEEING, m == "center", m in SEEING)
        for m in methods
        if m in CARDS
    ]
    cards = pd.DataFrame(rows, columns=CARD_COLUMNS[:-1])
    cards["domain_at_transform"] = cards["method"] == "center"
    return cards


def make_result(
    *,
    embeddings=("yamnet",),
    datasets=("philharmonia", "fluidr3"),
    methods=METHODS,
    modes=("global",),
    genres=GENRES,
    labels=LABELS,
    synthetic=False,
    **meta,
) -> FakeResult:
    """Make a result in which `EFFECT` says what each method does."""
    probes, values = _probes(embeddings, datasets, methods, genres)
    transfer = _transfer(embeddings, datasets, methods, modes, labels)
    planted = {"domain": "a recording chain for each dataset", "genre": "four spectral tilts"}
    sha = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    return FakeResult(
        probes=probes,
        probe_values=values,
        transfer=transfer,
        comparisons=_comparisons(transfer),
        drops=drops_of(transfer),
        distribution=_distribution(datasets, genres, labels),
        dropped=pd.DataFrame(
            [(datasets[0], "genre 'lat_sou' is not among the genres", 42, "'a', 'b', 'c'")],
            columns=DROPPED,
        ),
        methods=_cards(methods),
        meta={
            "title": "Audit of " + " and ".join(datasets),
            "protocol": "default",
            "seed": 0,
            "command": "biasaudio audit store.h5 --datasets " + " ".join(datasets),
            "created": "2025-01-31T12:00:00Z",
            "versions": {"biasaudio": "0.1.0", "numpy": "2.2.0", "scikit-learn": "1.6.1"},
            "files": [{"path": "store/yamnet.h5", "bytes": 12_345_678, "sha256": sha}],
            "embeddings": list(embeddings),
            "datasets": list(datasets),
            "labels": list(labels),
            "config": {"pool": "mean", "n_bootstrap": 1000},
            "warnings": ["yamnet: 3 clips of fluidr3 have no vector and were left out"],
            "excluded": [{"what": "label guitar", "why": "no positives in fluidr3"}],
            "synthetic": synthetic,
            **({"planted": planted} if synthetic else {}),
            **meta,
        },
    )


def one_dataset() -> FakeResult:
    """Make a result of one dataset: a genre probe and nothing to transfer."""
    whole = make_result(datasets=("irmas",))
    return replace(
        whole,
        transfer=pd.DataFrame(columns=TRANSFER),
        comparisons=pd.DataFrame(columns=COMPARISONS),
        drops=pd.DataFrame(columns=DROPS),
    )


def wide_result() -> FakeResult:
    """Make the largest plausible page: three embeddings, three datasets, two modes."""
    return make_result(
        embeddings=("vggish", "openl3", "yamnet"),
        datasets=("philharmonia", "fluidr3", "fsdkaggle18"),
        modes=("global", "classwise"),
    )


def hostile_result() -> FakeResult:
    """Make a result whose names try to be markup, mathematics and control codes."""
    return make_result(
        embeddings=("<b>emb</b>",),
        datasets=("<script>alert(1)</script>", "a$b$_{\x1b[31m"),
        labels=("organ & <i>", "$\\frac{1}$", "flute"),
        genres=("<img src=x onerror=alert(1)>", "rock"),
        synthetic=True,
        command="biasaudio audit '<script>alert(2)</script>'",
    )
