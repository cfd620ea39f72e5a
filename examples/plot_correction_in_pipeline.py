"""
Use a correction in your own scikit-learn pipeline
==================================================

A correction is a scikit-learn transformer.  ``LEACE`` needs the dataset of each
clip in ``fit`` only, so the fitted pipeline takes new clips of unknown origin.
"""

# %%
# Vectors of two datasets
# -----------------------
# The task is to find the clips with a flute.  Replace these lines with your own
# arrays: vectors, labels, the dataset of each clip and the song it comes from.

import matplotlib.pyplot as plt
import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from biasaudio.datasets.synthetic import make_domains
from biasaudio.transforms import LEACE, DomainCentering

table, truth = make_domains(n=2400, d=32, shift=1.5, random_state=0)
X, clips = table.X, table.clips
y = clips.labels["flute"].to_numpy()
domain, song = clips.dataset, clips.group_id
train = clips.split == "train"

# %%
# One step more
# -------------
# The dataset goes to the correction as a keyword of ``fit`` and to no other step.
# ``predict`` and ``decision_function`` do not ask for it.

pipeline = make_pipeline(StandardScaler(), LEACE(), LogisticRegression())
pipeline.fit(X[train], y[train], leace__domain=domain[train])
print(f"accuracy on new songs: {pipeline.score(X[~train], y[~train]):.3f}")

# %%
# What it did
# -----------
# A second classifier learns to name the dataset.  It must not learn from the clips
# that the correction was fitted on: their means were made equal, so there is nothing
# to learn, whatever new clips hold.  So half of the test songs train it and the
# other half is scored.  `biasaudio.probes.probe_domain` does this in three rotations
# and gives the number with its interval.

learn, look = ~train & (song % 2 == 0), ~train & (song % 2 == 1)
views = {"before": pipeline[:1].transform(X), "after": pipeline[:-1].transform(X)}

fig, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained", sharex=True, sharey=True)
bins = np.linspace(-15, 15, 41)
for ax, (title, vectors) in zip(axes, views.items(), strict=True):
    probe = LogisticRegression().fit(vectors[learn], domain[learn] == "b")
    scores = probe.decision_function(vectors[look])
    for name, color in (("a", "tab:blue"), ("b", "tab:orange")):
        ax.hist(scores[domain[look] == name], bins, alpha=0.6, color=color, label=f"dataset {name}")
    auc = roc_auc_score(domain[look] == "b", scores)
    ax.set(title=f"{title}: ROC-AUC {auc:.2f}", xlabel="score for dataset b")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("clips")
axes[0].legend(frameon=False)
plt.show()

# %%
# Cross-validation
# ----------------
# Corrections declare that ``fit`` wants the domain, so scikit-learn's metadata
# routing passes it on within each fold.  biasaudio itself never turns routing on.

with sklearn.config_context(enable_metadata_routing=True):
    folds = cross_validate(
        pipeline, X, y, cv=GroupKFold(5), params={"domain": domain, "groups": song}
    )
print(f"five folds by song: {folds['test_score'].mean():.3f}")

# %%
# Domain-aware corrections
# ------------------------
# ``DomainCentering`` moves each dataset by its own mean, so it needs the domain of
# new clips too.  Leaving it out is an error that says so, never a silent pass.

centering = DomainCentering().fit(X[train], domain=domain[train])
moved = centering.transform(X[~train], domain=domain[~train])
gap = moved[domain[~train] == "a"].mean(0) - moved[domain[~train] == "b"].mean(0)
print(f"distance of the dataset means: {np.linalg.norm(gap):.2f}")

# %%
# Out of Python
# -------------
# Every linear correction is one matrix and one row to add.

affine = LEACE().fit(X[train], domain=domain[train]).to_affine()
same = X @ affine.matrix + affine.intercept
print(affine.matrix.shape, affine.intercept.shape, np.abs(same - affine(X)).max() < 1e-4)
