"""
Can a probe tell which dataset a clip came from?
================================================

A linear probe names the dataset of clips it has not seen, first on the vectors
as they are and then after each of four corrections.  The vectors are synthetic,
so the offset between the two datasets is known.
"""

# %%
# Two datasets, one planted offset
# --------------------------------
# Both hold the same instruments and genres in the same proportions; clips come
# in songs of three.  All that sets the datasets apart is one offset, three times as
# long as the standard deviation of the noise, which is wider along some axes
# than along others.

import matplotlib.pyplot as plt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score

from biasaudio.datasets.synthetic import make_domains
from biasaudio.probes import probe_domain
from biasaudio.transforms import LEACE, METHODS

table, truth = make_domains(n=1500, d=32, shift=1.5, random_state=0)
X, clips = table.X, table.clips
print(f"{len(clips)} clips in {len(set(clips.group_id))} songs, {X.shape[1]} dimensions")

# %%
# Probe, correct, probe again
# ---------------------------
# The correction is fitted on one third of the songs, the probe is trained on
# another and scored on the last.  ``strata`` gives both datasets the same class
# mix, so that different instruments are not taken for different datasets.

options = {
    "groups": clips.group_id,
    "strata": clips.labels.idxmax(axis=1),
    "design": "three-way",
    "n_permutations": 99,
}
found = {"original": probe_domain(X, clips.dataset, **options)}
for name in ("lda", "meandiff", "leace", "center"):
    found[name] = probe_domain(X, clips.dataset, correction=METHODS[name].make(), **options)
for name, result in found.items():
    print(f"{name:9} {result}")

# %%
# The published projection (``lda``) takes out the one direction along which the
# datasets differ most for their noise; the means still differ along others, and
# the probe finds them.  ``meandiff``, ``leace`` and ``center`` take out the
# difference of the means itself, each with another change to the vectors.  What
# is left then is the error of an estimate from 500 clips.

fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
for row, (name, result) in enumerate(found.items()):
    color = "black" if name == "original" else "tab:blue"
    ax.plot([result.low, result.high], [row, row], color=color, linewidth=1.5)
    ax.plot(result.auc, row, "o", color=color)
    ax.text(result.auc, row - 0.3, f"{result.auc:.2f}", ha="center", fontsize=9)
ax.axvline(0.5, color="gray", linestyle="--", linewidth=1)
ax.text(0.505, -0.75, "chance", color="gray", fontsize=9, va="center")
ax.set(
    yticks=range(len(found)),
    yticklabels=found,
    xlim=(0.42, 1.02),
    ylim=(len(found) - 0.5, -1.1),
    xlabel="ROC-AUC of the dataset probe (95 % interval over songs)",
    title="How readable is the dataset?",
)
ax.spines[["top", "right"]].set_visible(False)
plt.show()

# %%
# How not to measure it
# ---------------------
# Erase on all clips, then cross-validate a probe on the same clips: the folds
# share the mean that was made equal, so what one fold has too much of the others
# lack, and the probe is wrong more often than by chance.  An ROC-AUC below .5
# is no sign of a good correction; it is a sign of this mistake.

erased = LEACE().fit_transform(X, domain=clips.dataset)
wrong = cross_val_score(
    LogisticRegression(max_iter=1000),
    erased,
    clips.dataset == "a",
    groups=clips.group_id,
    cv=GroupKFold(5),
    scoring="roc_auc",
)
print(f"in sample: {wrong.mean():.2f}, three-way: {found['leace'].auc:.2f}")
