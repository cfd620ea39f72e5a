"""A task of planted labels and domains, and its numbers by what they stand for."""

import numpy as np

from biasaudio.datasets.synthetic import make_domains
from biasaudio.transfer import Task


def as_task(n=360, d=10, *, domains=("a", "b"), dtype=np.float32, mask=None, **options):
    options = {"label_effect": 0.7} | options
    table, _ = make_domains(n=n, d=d, n_labels=2, domains=domains, **options)
    clips = table.clips
    return Task(
        table.X.astype(dtype),
        clips.dataset.astype(str),
        clips.split == "train",
        clips.labels.to_numpy(),
        clips.mask.to_numpy() if mask is None else mask(clips),
        tuple(clips.label_names),
        clips.group_id,
        clips.genre.astype(str),
    )


def keyed(result, value="roc_auc"):
    """Return one number a (method, mode, train set, test set, label)."""
    names = ("method", "mode", "train_set", "test_set", "instrument")
    return {tuple(row[k] for k in names): row[value] for row in result.rows()}
