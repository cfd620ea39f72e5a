"""The columns of every table of an audit, and the types in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

__all__ = ["TABLES", "check_meta", "make_table"]

_PROBE_KEYS = {
    "embedding": str,
    "probe": str,
    "datasets": str,
    "design": str,
    "mix": str,
    "method": str,
    "kind": str,
}
TABLES: Mapping[str, Mapping[str, type]] = {
    "probes": _PROBE_KEYS
    | {
        "auc": float,
        "low": float,
        "high": float,
        "balanced_accuracy": float,
        "chance_accuracy": float,
        "p_value": float,
        "n": int,
        "n_groups": int,
        "n_classes": int,
    },
    "probe_values": _PROBE_KEYS | {"value": str, "n": int, "auc": float, "recall": float},
    "transfer": {
        "instrument": str,
        "train_set": str,
        "test_set": str,
        "precision": float,
        "recall": float,
        "f1-score": float,
        "support": float,
        "accuracy": float,
        "roc_auc": float,
        "ap": float,
        "embedding": str,
        "method": str,
        "mode": str,
        "prevalence": float,
        "n_train": int,
        "n_test": int,
        "C": float,
        "constant": bool,
    },
    "comparisons": {
        "embedding": str,
        "method": str,
        "mode": str,
        "train_set": str,
        "test_set": str,
        "n_labels": int,
        "before": float,
        "after": float,
        "delta": float,
        "low": float,
        "high": float,
        "p_value": float,
        "p_holm": float,
        "n_groups": int,
        "verdict": str,
    },
    "drops": {
        "embedding": str,
        "method": str,
        "mode": str,
        "train_set": str,
        "test_set": str,
        "within": float,
        "across": float,
        "drop": float,
        "low": float,
        "high": float,
        "p_value": float,
        "n_labels": int,
        "n_groups": int,
    },
    "distribution": {
        "dataset": str,
        "genre": str,
        "label": str,
        "n_annotated": int,
        "n_positive": int,
        "note": str,
    },
    "dropped": {"dataset": str, "reason": str, "n": int, "examples": str},
    "methods": {
        "method": str,
        "title": str,
        "family": str,
        "explanation": str,
        "reference": str,
        "needs": str,
        "sees_source_labels": bool,
        "sees_target_clips": bool,
        "sees_target_labels": bool,
        "domain_at_transform": bool,
    },
}

# What the report walks through; the other members are texts and numbers.
_META: Mapping[str, type] = {
    **dict.fromkeys(("config", "planted", "versions"), dict),
    **dict.fromkeys(("datasets", "embeddings", "labels", "notes", "warnings"), list),
    **dict.fromkeys(("excluded", "files"), list),
}


def check_meta(meta: Any) -> dict[str, Any]:
    """Return what an audit says of itself, or raise a ValueError if it is of another form."""
    if not isinstance(meta, dict):
        raise ValueError("meta is no object")
    for name, kind in _META.items():
        if meta.get(name) is not None and not isinstance(meta[name], kind):
            raise ValueError(f"meta has {name!r} as a {type(meta[name]).__name__}")
    for name in ("excluded", "files"):
        if not all(isinstance(entry, dict) for entry in meta.get(name) or ()):
            raise ValueError(f"meta has {name!r} with an entry that is no object")
    return meta


def make_table(name: str, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the rows as the table of this name, columns and types as in `TABLES`."""
    columns = TABLES[name]
    data = {key: [kind(row[key]) for row in rows] for key, kind in columns.items()}
    dtypes = {str: "object", float: "float64", int: "int64", bool: "bool"}
    return pd.DataFrame(
        {key: pd.Series(values, dtype=dtypes[columns[key]]) for key, values in data.items()},
        columns=list(columns),
    )
