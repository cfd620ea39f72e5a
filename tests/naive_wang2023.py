"""Wang, Richard and McFee (2023) once more, naively: a second opinion for tests.

Nothing is imported from biasaudio, nothing is shared between rows and nothing
is fast: labels come from the csv and not from the npz, clips are averaged by a
loop over keys, and every correction and classifier is fitted again for every
row.  What the protocol leaves open is decided as follows.

- Clips stand in ascending order of their key.  Training rows are the cut
  positives, then the cut negatives, each genre by genre, and within a genre in
  the order in which they were drawn.
- The generator is seeded once a call, so the four genres of one call draw from
  one stream, one after the other, a genre without clips included.
- ``int(m * (n / size))`` in floating point: 100 * (29 / 100) is 28.
- Clip vectors are means in float64, rounded to float32 as a table would hold
  them; all that follows is float64.
- A genre in which neither data set has three clips has no LDA (Ledoit-Wolf
  shrinks nothing for two clips, so the covariance is singular); it adds no row
  to W.  A genre that one data set lacks gets the published one-class LDA.
- C: the highest mean ROC-AUC over the three folds, the smallest such C.
- ROC-AUC and average precision of a row are those of ``predict_proba``.
"""

from __future__ import annotations

import ast
import random
import warnings
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold

GENRES = ["pop_rock", "jazz_blue", "classical", "country_folk"]
IRMAS_GENRES = dict(zip(["pop_roc", "jaz_blu", "cla", "cou_fol"], GENRES, strict=True))
IRMAS_GENRES["lat_sou"] = None
IRMAS_INSTRUMENTS = {"cel": "cello", "cla": "clarinet", "flu": "flute", "gac": "guitar"}
IRMAS_INSTRUMENTS |= {"gel": "guitar", "org": "organ", "pia": "piano", "sax": "saxophone"}
IRMAS_INSTRUMENTS |= {"tru": "trumpet", "vio": "violin", "voi": "voice"}
PAIRS = [("irmas", "irmas"), ("irmas", "openmic"), ("openmic", "openmic"), ("openmic", "irmas")]
SUFFIX = {"original": "", "lda": "-lda", "mlda": "-mlda"}


def naive_irmas_tags(key: str) -> tuple[str, str | None]:
    """Return the instrument and the genre (None: Latin) that a key carries."""
    first = key[key.index("[") + 1 : key.index("]")]
    last = key[key.rindex("[") + 1 : key.rindex("]")]
    return IRMAS_INSTRUMENTS[first], IRMAS_GENRES[last]


def naive_words(text: str) -> list[str]:
    """Return the lower-case words of a text, split at every non-letter."""
    words = [""]
    for letter in text.lower():
        if "a" <= letter <= "z":
            words[-1] += letter
        else:
            words.append("")
    return [word for word in words if word != ""]


def naive_openmic_genre(titles: list[str]) -> str | None:
    """Return the genre of the first title that shares a word with a genre."""
    for title in titles:
        for genre in GENRES:
            for word in naive_words(title):
                if word in naive_words(genre):
                    return genre
    return None


def naive_irmas(folder: str | Path) -> list[dict[str, Any]]:
    """Return the IRMAS clips of the four genres, in ascending order of the key."""
    clips = []
    for split in ("train", "test"):
        for line in (Path(folder) / "irmas" / f"split_{split}.csv").read_text().splitlines():
            if line.strip() == "":
                continue
            instrument, genre = naive_irmas_tags(line.strip())
            if genre is not None:
                answers = {name: name == instrument for name in IRMAS_INSTRUMENTS.values()}
                clips.append({"key": line.strip(), "split": split, "genre": genre, "is": answers})
    return sorted(clips, key=lambda clip: clip["key"])


def naive_openmic(folder: str | Path) -> list[dict[str, Any]]:
    """Return the OpenMIC clips of the four genres, in ascending order of the key."""
    root = Path(folder) / "openmic-2018"
    genres = {}
    meta = pd.read_csv(root / "openmic-2018-metadata.csv", dtype=str)
    for key, text in zip(meta["sample_key"], meta["track_genres"], strict=True):
        titles = [item["genre_title"] for item in ast.literal_eval(text)] if text == text else []
        genres[key] = naive_openmic_genre(titles)
    answers: dict[str, dict[str, bool]] = {}
    labels = pd.read_csv(root / "openmic-2018-aggregated-labels.csv", dtype=str)
    for row in labels.itertuples():
        answers.setdefault(row.sample_key, {})[row.instrument] = float(row.relevance) >= 0.5
    clips = []
    for split in ("train", "test"):
        for line in (root / "partitions" / f"split01_{split}.csv").read_text().splitlines():
            key = line.strip()
            if key != "" and genres.get(key) is not None:
                clip = {"key": key, "split": split, "genre": genres[key]}
                clips.append(clip | {"is": answers.get(key, {})})
    return sorted(clips, key=lambda clip: clip["key"])


def naive_vectors(
    folder: str | Path, dataset: str, embedding: str, wanted: list[str]
) -> dict[str, np.ndarray]:
    """Return the mean over the frames of each wanted clip, one clip at a time."""
    with h5py.File(Path(folder) / "embeddings.h5", "r") as file:
        features = file[dataset][embedding]["features"][()]
        keys = file[dataset][embedding]["keys"][()]
    keys = np.array([key.decode() if isinstance(key, bytes) else key for key in keys], dtype=str)
    vectors = {}
    for key in wanted:
        vectors[key] = features[keys == key].mean(axis=0, dtype=np.float64).astype(np.float32)
    return vectors


def naive_sample(genres: list[str], n: int) -> list[int]:
    """Return which of the clips stay when a set is cut to ``n``, in their order.

    ``genres`` is the genre of every clip of the set, in ascending order of the
    clip keys.  Never more than ``n`` come back, and often a few less.
    """
    ratio = n / len(genres)
    random.seed(42)
    kept = []
    for genre in GENRES:
        rows = [i for i, name in enumerate(genres) if name == genre]
        m = len(rows)
        for k in random.sample(range(m), m)[: int(m * ratio)]:
            kept.append(rows[k])
    return kept


def naive_training(
    clips: dict[str, list[dict[str, Any]]], instrument: str
) -> dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """Return the cut positives and the cut negatives of both training sets."""
    sides = {}
    for answer in (True, False):
        for dataset in ("irmas", "openmic"):
            sides[dataset, answer] = [
                clip
                for clip in clips[dataset]
                if clip["split"] == "train" and clip["is"].get(instrument) is answer
            ]
    cut = {}
    for (dataset, answer), side in sides.items():
        n = min(len(sides["irmas", answer]), len(sides["openmic", answer]))
        kept = naive_sample([clip["genre"] for clip in side], n)
        cut[dataset, answer] = [side[i] for i in kept]
    return {name: (cut[name, True], cut[name, False]) for name in ("irmas", "openmic")}


def naive_direction(X: np.ndarray, domain: np.ndarray) -> np.ndarray:
    """Return the coefficients of the shrunk LDA; one class only is allowed."""
    model = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")
    with warnings.catch_warnings():
        # One class: the share of explained variance, which nobody reads, is 0 / 0.
        warnings.filterwarnings("ignore", "invalid value encountered in divide", RuntimeWarning)
        # One clip of a data set: its covariance is taken to be zero.
        warnings.filterwarnings("ignore", "Only one sample available", UserWarning)
        return model.fit(X, domain).coef_[0]


def naive_projection(
    X: np.ndarray, domain: np.ndarray, genre: np.ndarray, method: str
) -> tuple[np.ndarray, list[tuple[str, str]]]:
    """Return the d x d matrix of a correction, and what was odd, genre by genre."""
    eye, odd, directions = np.eye(X.shape[1]), [], []
    if method == "original":
        return eye, odd
    if method == "lda":
        v = naive_direction(X, domain)
        v = v / np.sqrt((v**2).sum())
        return eye - np.outer(v, v), odd
    for name in GENRES:
        counts = [int(((genre == name) & (domain == d)).sum()) for d in (0, 1)]
        if max(counts) < 3:
            odd.append((name, "left out"))
            continue
        if min(counts) == 0:
            odd.append((name, "one class"))
        directions.append(naive_direction(X[genre == name], domain[genre == name]))
    if not directions:
        return eye, odd
    V = np.linalg.svd(np.array(directions), full_matrices=False)[2]
    return eye - V.T @ V, odd


def naive_classifier(X: np.ndarray, y: np.ndarray) -> LogisticRegression:
    """Fit the logistic regression with the best C on all of X."""
    best_score, best = -np.inf, None
    with warnings.catch_warnings():
        # The study ran liblinear to its 100 iterations and no further.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for exponent in range(-8, 4):
            model = LogisticRegression(
                C=10.0**exponent, solver="liblinear", class_weight="balanced", random_state=42
            )
            scores = []
            for fit, check in StratifiedKFold(3).split(X, y):
                model.fit(X[fit], y[fit])
                scores.append(roc_auc_score(y[check], model.decision_function(X[check])))
            if np.mean(scores) > best_score:
                best_score, best = np.mean(scores), model
        return best.fit(X, y)


def naive_scores(model: LogisticRegression, X: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Return the published metrics of the positive class, counted by hand."""
    said, probability = model.predict(X), model.predict_proba(X)[:, 1]
    hits = false_alarms = misses = right = 0
    for truth, guess in zip(y, said, strict=True):
        hits += bool(truth and guess)
        false_alarms += bool(guess and not truth)
        misses += bool(truth and not guess)
        right += bool(truth == guess)
    precision = hits / (hits + false_alarms) if hits + false_alarms else 0.0
    recall = hits / (hits + misses) if hits + misses else 0.0
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return {
        "precision": precision,
        "recall": recall,
        "f1-score": f1,
        "support": float(hits + misses),
        "accuracy": right / len(y),
        "roc_auc": roc_auc_score(y, probability),
        "ap": average_precision_score(y, probability),
    }


def naive_row(
    clips: dict[str, list[dict[str, Any]]], instrument: str, pair: tuple[str, str], how: tuple
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Return one row of the result, everything fitted afresh, and what was odd."""
    mode, method = how
    training = naive_training(clips, instrument)
    X, domain, genre = [], [], []
    for code, dataset in enumerate(("irmas", "openmic")):
        positives, negatives = training[dataset]
        for clip in positives + (negatives if mode == "global" else []):
            X.append(clip["x"])
            domain.append(code)
            genre.append(clip["genre"])
    P, odd = naive_projection(np.array(X), np.array(domain), np.array(genre), method)
    positives, negatives = training[pair[0]]
    fit = np.array([clip["x"] for clip in positives + negatives])
    y = np.array([True] * len(positives) + [False] * len(negatives))
    model = naive_classifier(fit @ P, y)
    test = [c for c in clips[pair[1]] if c["split"] == "test" and instrument in c["is"]]
    truth = np.array([clip["is"][instrument] for clip in test])
    scores = naive_scores(model, np.array([clip["x"] for clip in test]) @ P, truth)
    row = {"instrument": instrument, "train_set": pair[0], "test_set": pair[1]}
    return row | scores, odd


def naive_rows(
    folder: str | Path,
    embedding: str,
    instruments: list[str],
    modes: tuple[str, ...] = ("global", "classwise"),
    methods: tuple[str, ...] = ("original", "lda", "mlda"),
) -> pd.DataFrame:
    """Return the published rows of one embedding, in the published order.

    ``attrs["odd"]`` of the frame lists (mode, instrument, genre, what) for each
    genre whose LDA saw one data set only ("one class") or was "left out".
    """
    clips = {"irmas": naive_irmas(folder), "openmic": naive_openmic(folder)}
    for dataset in clips:
        vectors = naive_vectors(folder, dataset, embedding, [c["key"] for c in clips[dataset]])
        for clip in clips[dataset]:
            clip["x"] = vectors[clip["key"]].astype(np.float64)
    rows, seen = [], []
    for mode in modes:
        for method in methods:
            for pair in PAIRS:
                for instrument in instruments:
                    row, odd = naive_row(clips, instrument, pair, (mode, method))
                    rows.append(row | {"embedding": embedding + SUFFIX[method], "mode": mode})
                    seen += [(mode, instrument, *what) for what in odd]
    frame = pd.DataFrame(rows)
    frame.attrs["odd"] = sorted(set(seen))
    return frame
