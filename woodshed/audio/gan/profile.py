"""What latents are like: in short stretches, and how far others are from that; how much they repeat themselves; what is
heard of each dimension."""

from __future__ import annotations

import numpy as np

from ...statistics import evenly, frechet_distance
from ..codecs import Codec

SECONDS = 1.5
MOST = 2000  # stretches
FFT, LOOKS = 2048, 4  # samples; spectra to a frame
FEW = 8  # frames from the middle of each stretch that are played to hear what is lost
LEAST = 0.02  # of the importance of the most important dimension
NEAR, RELATED = 0.35, 1.0  # other pieces of one set .2, other piano music .3 to .4, guitar 3.8, drums 7


def stretch(latent_rate: float, window: int) -> int:
    """The frames of a stretch: SECONDS, or a whole window where that is shorter."""
    return min(window, max(2, round(SECONDS * latent_rate)))


def profile(latents: list[np.ndarray], size: int) -> np.ndarray:
    """Mean and spread of every dimension over stretches of `size` frames, (stretches, 2 * latent_dim), at most MOST of
    them, evenly chosen. `latents` are recordings or takes, (frames, latent_dim) each.
    """
    whole = [one[: len(one) // size * size].reshape(-1, size, one.shape[1]) for one in latents]
    stretches = np.concatenate(whole)
    stretches = stretches[evenly(range(len(stretches)), MOST)]
    return np.concatenate([stretches.mean(axis=1), stretches.std(axis=1)], axis=1).astype(np.float32)


def distance(new: np.ndarray, old: np.ndarray) -> float:
    """The Frechet distance of two profiles, in units of the old one's variance: 0 is the same, 1 as far as the old is
    wide."""
    return frechet_distance(new.astype(np.float64), old.astype(np.float64)) / float(old.var(axis=0).sum())


def repetition(latents: list[np.ndarray], lag: int) -> float | None:
    """How alike latents (frames, latent_dim) are to those `lag` frames before them: 1 the same, 0 unrelated; None where
    none is twice as long."""
    longer = [one for one in latents if len(one) >= 2 * lag]
    if not longer:
        return None
    before, after = (np.concatenate([one[part] for one in longer]) for part in (slice(-lag), slice(lag, None)))
    before, after = before - before.mean(axis=0), after - after.mean(axis=0)
    alike = (before * after).sum() / np.sqrt(np.square(before).sum() * np.square(after).sum())
    return round(float(alike), 4)


def importance(stretches: list[np.ndarray], codec: Codec) -> list[float]:
    """How much is heard of each dimension of latents, from stretches (frames, latent_dim): how far the spectra go where
    it is left at its mean. 1 is the most; LEAST the least, however little is heard.
    """
    middles = [max(0, (len(stretch) - FEW) // 2) for stretch in stretches]
    latents = np.concatenate([stretch[start:][:FEW] for start, stretch in zip(middles, stretches, strict=True)])
    whole = _spectra(codec, latents)
    lost = [latents * (np.arange(codec.latent_dim) != dimension) for dimension in range(codec.latent_dim)]
    changes = np.array([np.sqrt(np.square(_spectra(codec, one) - whole).mean()) for one in lost])
    return np.maximum(changes / max(changes.max(), 1e-9), LEAST).round(4).tolist()


def _spectra(codec: Codec, latents: np.ndarray) -> np.ndarray:
    """Square roots of the magnitudes (frames, channels, bins) of what latents sound like. Each is the mean of LOOKS, so
    that phases, which every decoding makes up anew, count less."""
    sound = np.pad(codec.decode(latents).samples, ((0, FFT), (0, 0)))
    starts = np.arange(LOOKS * len(latents)) * codec.hop_length // LOOKS
    looks = np.lib.stride_tricks.sliding_window_view(sound, FFT, axis=0)[starts]
    power = np.square(np.abs(np.fft.rfft(looks * np.hanning(FFT), axis=-1)))
    return power.reshape(len(latents), -1, *power.shape[1:]).mean(axis=1) ** 0.25


def told(found: float) -> str:
    """What a distance means to a run that is to go on with new recordings."""
    if found <= NEAR:
        return f"the new recordings are near the old ones (distance {found:.2f})"
    if found <= RELATED:
        return f"the new recordings are related to the old ones (distance {found:.2f})"
    return f"the new recordings are far from the old ones (distance {found:.2f}): this will replace what it knows"
