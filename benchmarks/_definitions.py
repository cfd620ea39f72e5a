"""What each correction is by definition: plain float64 numpy, as slow as it may be.

Each function takes the vectors, a code (0 or 1) for the domain and a label
for each clip, and returns the corrected vectors of these clips.  Nothing here
imports biasaudio, so that an error cannot cancel out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import ledoit_wolf

Array = NDArray[np.float64]
Codes = NDArray[np.intp]
Covariance = Callable[[Array], Array]


def sample(X: Array) -> Array:
    """Return the biased covariance."""
    Z = X - X.mean(axis=0)
    return Z.T @ Z / len(Z)


def shrunk_correlation(X: Array) -> Array:
    """Return Ledoit and Wolf's estimate on features of variance one, scaled back."""
    scale = X.std(axis=0)
    scale[scale == 0] = 1.0
    return ledoit_wolf((X - X.mean(axis=0)) / scale)[0] * np.outer(scale, scale)


def optimal_linear(X: Array) -> Array:
    """Return the estimate of Bodnar, Gupta and Parolya (2014), for concept-erasure."""
    S, (n, d) = sample(X), X.shape
    trace, squares = np.trace(S), np.sum(S**2)
    prior = trace / d * np.eye(d)
    size = np.sum(prior**2)
    product = np.trace(S @ prior)
    alpha = 1 - trace**2 * size / n / (squares * size - product**2)
    return alpha * S + (1 - alpha) * product / size * prior


def leace(covariance: Covariance) -> Callable[[Array, Codes, Codes], Array]:
    """Return LEACE for a way to estimate the covariance (Belrose et al. 2023)."""

    def erase(X: Array, domain: Codes, label: Codes) -> Array:
        Z = X - X.mean(axis=0)
        c = Z.T @ (domain - domain.mean()) / len(X)
        read = np.linalg.solve(covariance(X), c)
        return X - np.outer(Z @ read / (c @ read), c)

    return erase


def residuals(X: Array, domain: Codes, label: Codes) -> Array:
    """Return what a least-squares fit on the domain leaves of X, at the mean of X."""
    z = domain - domain.mean()
    return X - np.outer(z, z @ (X - X.mean(axis=0)) / (z @ z))


def centering(X: Array, domain: Codes, label: Codes) -> Array:
    """Return both domains at the mean of their means."""
    means = np.stack([X[domain == k].mean(axis=0) for k in (0, 1)])
    return X - means[domain] + means.mean(axis=0)


def lda(X: Array, domain: Codes, label: Codes) -> Array:
    """Return X without its part along the shrunk LDA direction (Wang et al. 2023)."""
    parts = [X[domain == k] for k in (0, 1)]
    within = sum(len(part) / len(X) * shrunk_correlation(part) for part in parts)
    v = np.linalg.solve(within, parts[1].mean(axis=0) - parts[0].mean(axis=0))
    v /= np.linalg.norm(v)
    return X - np.outer(X @ v, v)


def power(S: Array, exponent: float) -> Array:
    """Return a power of a symmetric matrix on its range."""
    values, vectors = np.linalg.eigh(S)
    kept = values > 1e-10 * values.mean()
    return (vectors[:, kept] * values[kept] ** exponent) @ vectors[:, kept].T


def coral(
    covariance: Covariance, *, centred: bool = False
) -> Callable[[Array, Codes, Codes], Array]:
    """Return CORAL from domain 0 to domain 1 (Sun, Feng and Saenko 2016)."""

    def align(X: Array, domain: Codes, label: Codes) -> Array:
        a, b = X[domain == 0], X[domain == 1]
        to = b.mean(axis=0)
        Z = X.copy()
        matrix = power(covariance(a), -0.5) @ power(covariance(b), 0.5)
        Z[domain == 0] = (a - a.mean(axis=0)) @ matrix + to
        return Z - to if centred else Z

    return align


def coral_pooled(X: Array, domain: Codes, label: Codes) -> Array:
    """Return both domains at one covariance, shrunk by one weight for both.

    What is shrunk to is the diagonal of their mean covariance.
    """
    parts = [X[domain == k] for k in (0, 1)]
    means, variances = (np.stack([f(part, axis=0) for part in parts]) for f in (np.mean, np.var))
    mean, pooled = means.mean(axis=0), variances.mean(axis=0)
    live = (variances > 1e-10 * (pooled + mean**2)).any(axis=0)
    scale = np.sqrt(pooled[live])
    parts = [(part - m)[:, live] / scale for part, m in zip(parts, means)]
    covariances = [sample(part) for part in parts]
    one = np.eye(len(scale))
    noise = distance = 0.0
    for part, S in zip(parts, covariances):
        noise += (np.mean(np.sum(part**2, axis=1) ** 2) - np.sum(S**2)) / len(part)
        distance += np.sum((S - one) ** 2)
    differ = noise / 20 < np.sum((covariances[0] - covariances[1]) ** 2) / 2
    g = min(1.0, max(noise, 0.0) / distance) if differ else 1.0
    shrunk = [(1 - g) * S + g * one for S in covariances]
    to = power((shrunk[0] + shrunk[1]) / 2, 0.5)
    Z = X - means[domain] + mean
    for k, (part, S) in enumerate(zip(parts, shrunk)):
        Z[np.ix_(domain == k, live)] = part @ power(S, -0.5) @ to * scale + mean[live]
    return Z


def combat(X: Array, domain: Codes, label: Codes) -> Array:
    """Return parametric ComBat with the label kept (Johnson, Li and Rabinovic 2007)."""
    one_hot = np.eye(2)[domain]
    design = np.c_[one_hot, np.eye(label.max() + 1)[label][:, 1:]]
    beta = np.linalg.lstsq(design, X, rcond=None)[0]
    mean = design[:, 2:] @ beta[2:] + one_hot.mean(axis=0) @ beta[:2]
    pooled = np.sqrt(np.mean((X - design @ beta) ** 2, axis=0))
    Z = (X - mean) / pooled
    out = np.empty_like(Z)
    for k in (0, 1):
        part = Z[domain == k]
        gamma, delta = _posterior(part)
        out[domain == k] = (part - gamma) / np.sqrt(delta)
    return out * pooled + mean


def _posterior(Z: Array) -> tuple[Any, Any]:
    """Return the posterior mean and variance of each feature, to the last digit."""
    n, shift, spread = len(Z), Z.mean(axis=0), Z.var(axis=0, ddof=1)
    center, width = shift.mean(), shift.var(ddof=1)
    m, s2 = spread.mean(), spread.var(ddof=1)
    a, b = (2 * s2 + m**2) / s2, (m * s2 + m**3) / s2
    gamma, delta = shift, spread
    for _ in range(1000):
        before = gamma, delta
        gamma = (width * n * shift + delta * center) / (width * n + delta)
        total = (n - 1) * spread + n * (shift - gamma) ** 2
        delta = (total / 2 + b) / (n / 2 + a - 1)
        if np.allclose(before, (gamma, delta), rtol=1e-14, atol=0):
            break
    return gamma, delta
