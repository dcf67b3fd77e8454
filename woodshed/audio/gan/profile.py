"""What latents are like, in short stretches; and how far other latents are from that."""

from __future__ import annotations

import numpy as np

from ...statistics import frechet_distance

SECONDS = 1.5
MOST = 2000  # stretches
NEAR, RELATED = 0.35, 1.0  # of halves of one set .2 to .3, other piano music .4, drums 2.4


def stretch(latent_rate: float, window: int) -> int:
    """The frames of a stretch: SECONDS, or a whole window where that is shorter."""
    return min(window, max(2, round(SECONDS * latent_rate)))


def profile(latents: list[np.ndarray], size: int) -> np.ndarray:
    """Mean and spread of every dimension over stretches of `size` frames, (stretches, 2 * latent_dim), at most MOST of
    them, evenly chosen. `latents` are recordings or takes, (frames, latent_dim) each.
    """
    whole = [one[: len(one) // size * size].reshape(-1, size, one.shape[1]) for one in latents]
    stretches = np.concatenate(whole)
    stretches = stretches[np.linspace(0, len(stretches) - 1, min(MOST, len(stretches))).astype(int)]
    return np.concatenate([stretches.mean(axis=1), stretches.std(axis=1)], axis=1).astype(np.float32)


def distance(new: np.ndarray, old: np.ndarray) -> float:
    """The Frechet distance of two profiles, in units of the old one's variance: 0 is the same, 1 as far as the old is
    wide."""
    return frechet_distance(new.astype(np.float64), old.astype(np.float64)) / float(old.var(axis=0).sum())


def told(found: float) -> str:
    """What a distance means to a run that is to go on with new recordings."""
    if found <= NEAR:
        return f"the new recordings are near the old ones (distance {found:.2f})"
    if found <= RELATED:
        return f"the new recordings are related to the old ones (distance {found:.2f})"
    return f"the new recordings are far from the old ones (distance {found:.2f}): this will replace what it knows"
