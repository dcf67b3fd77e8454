"""Samples: some of many, the mean of what is known, how far two are apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def evenly(items: Sequence, most: int) -> list:
    """At most so many of the items, evenly spread over all."""
    places = np.linspace(0, len(items) - 1, min(most, len(items))).astype(int)
    return [items[place] for place in places.tolist()]


def mean_known(values: Iterable[float | None]) -> float:
    """The mean of the finite values, NaN where there is none."""
    known = np.array([*values], dtype=np.float64)
    known = known[np.isfinite(known)]
    return float(known.mean()) if len(known) else np.nan


def frechet_distance(one: np.ndarray, other: np.ndarray) -> float:
    """The squared 2-Wasserstein distance of the Gaussians of two samples (N, D) and (M, D), covariances shrunk."""
    (mean, root), (their_mean, their_root) = (_gaussian(sample) for sample in (one, other))
    # tr (A B)^(1/2) is the sum of the singular values of A^(1/2) B^(1/2)
    cross = np.linalg.svd(root @ their_root, compute_uv=False).sum()
    spread = (root**2).sum() + (their_root**2).sum() - 2 * cross
    return float(((mean - their_mean) ** 2).sum() + max(spread, 0.0))


def _gaussian(sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (D,) and root of the shrunk covariance (D, D), symmetric: Ledoit and Wolf (2004), who mix the sample's with
    a multiple of the identity, the more of it the fewer the samples are.
    """
    mean = sample.mean(axis=0)
    centred = sample - mean
    count, width = sample.shape
    covariance = centred.T @ centred / count
    level = np.trace(covariance) / width
    spread = (covariance**2).sum() - width * level**2
    noise = ((centred**2).sum(axis=1) ** 2).sum() / count**2 - (covariance**2).sum() / count
    share = min(1.0, max(noise, 0.0) / spread) if spread > 0 else 1.0
    values, vectors = np.linalg.eigh(share * level * np.eye(width) + (1 - share) * covariance)
    return mean, (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
