"""Whether a model still plays music. A GAN can break without any error: its losses become no numbers, its samples
silence or one beep, or all alike; or its critic has won and teaches nothing any more.

The limits are not fixed here but measured, on recordings that went through the same codec.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .. import features
from ..wave import Audio

if TYPE_CHECKING:
    from .step import Losses

FFT, HOP = 2048, 1024
FLOOR = 1e-6  # of the strongest bin
SOFTER = 25.0  # dB below the median reference
PURER = 0.4  # of the flatness of the purest reference
STILLER = 0.15  # of the references' median motion
ALIKE = 0.1  # of the references' median difference
MEMORY = 0.99  # of the running mean over steps
WON, DEAD = 0.005, 1e-4  # hinge loss; spread of the critic's judgements, and of the gap


@dataclass(frozen=True)
class Signs:
    """What a handful of samples is like."""

    loudness: float  # LUFS, of the median sample
    flatness: float  # of the median sample: 0 a tone, 1 noise
    centroid: float  # Hz
    motion: float  # how much latents change from frame to frame
    difference: float  # how much the samples differ from one another
    onset_rate: float  # attacks a second, in the mean


@dataclass(frozen=True)
class Limits:
    """What samples must reach to count as healthy, from references (recordings through the codec)."""

    loudness: float
    flatness: float
    motion: float
    difference: float


def signs(latents: list[np.ndarray], sounds: list[Audio]) -> Signs:
    """Measure samples: their latents (frames, latent_dim) and what they decode to."""
    heard = np.array([(audio.loudness, *spectrum(audio)) for audio in sounds])
    loudness, flatness, centroid = np.median(np.maximum(heard, -100.0), axis=0)
    onset_rate = float(np.mean([len(features.onsets(audio)) / max(audio.seconds, 1e-9) for audio in sounds]))
    return Signs(float(loudness), float(flatness), float(centroid), motion(latents), difference(latents), onset_rate)


def limits(real: Signs, sounds: list[Audio]) -> Limits:
    """What is asked of samples, where `real` and `sounds` are of recordings."""
    purest = min(spectrum(audio)[0] for audio in sounds)
    return Limits(max(real.loudness, -60.0) - SOFTER, PURER * purest, STILLER * real.motion, ALIKE * real.difference)


def sickness(found: Signs, least: Limits) -> str:
    """What is wrong with samples; nothing where they are healthy."""
    if not math.isfinite(found.loudness + found.motion + found.difference):
        return "its samples are no numbers"
    if found.loudness < least.loudness:
        return f"its samples are silent ({found.loudness:.0f} LUFS)"
    if found.flatness < least.flatness:
        return (
            f"its samples are beeps (spectral flatness {found.flatness:.1g}, recordings {least.flatness / PURER:.1g})"
        )
    if found.motion < least.motion:
        return "its samples stand still: one sound that is held"
    if found.difference < least.difference:
        return "its samples are all alike"
    return ""


@dataclass
class Pulse:
    """The critic over the last hundred steps or so, as running means; every checkpoint keeps it."""

    hinge: float = 1.0
    spread: float = 1.0
    gap: float = 1.0

    def feel(self, losses: Losses) -> str:
        """Take in one step; what is wrong with the critic, nothing where it is well."""
        if not all(map(math.isfinite, losses)):
            return "the losses are no numbers (NaN)"
        for name in ("hinge", "spread", "gap"):
            setattr(self, name, MEMORY * getattr(self, name) + (1 - MEMORY) * abs(getattr(losses, name)))
        if self.hinge < WON:
            return f"the critic always wins (hinge loss {self.hinge:.1g}): the generator learns nothing from it"
        if self.spread < DEAD and self.gap < DEAD:
            return "the critic judges all alike: it has collapsed"
        return ""


# --- measures ----------------------------------------------------------------------------------------------------


def spectrum(audio: Audio) -> tuple[float, float]:
    """Flatness and centroid (Hz) of the mean spectrum of a sound.

    Flatness is the geometric over the arithmetic mean of the power, down to 60 dB below the strongest bin: 0 a tone, 1
    noise. Music goes from tone to tone, so that its mean spectrum is much flatter than that of a beep.
    """
    sound = np.pad(audio.mono, (0, max(0, FFT - len(audio.mono))))
    frames = np.lib.stride_tricks.sliding_window_view(sound, FFT)[::HOP]
    power = np.square(np.abs(np.fft.rfft(frames * np.hanning(FFT), axis=1))).mean(axis=0)  # (bins,)
    if not power.any():
        return 0.0, 0.0
    raised = power + FLOOR * power.max()
    hertz = np.fft.rfftfreq(FFT, 1 / audio.sample_rate)
    return float(np.exp(np.log(raised).mean()) / raised.mean()), float(power @ hertz / power.sum())


def motion(latents: list[np.ndarray]) -> float:
    """Root mean square of the change from frame to frame, of the median sample."""
    return float(np.median([np.sqrt(np.square(np.diff(one, axis=0)).mean()) for one in latents]))


def difference(latents: list[np.ndarray]) -> float:
    """Root mean square of what the samples (two or more) differ by from their mean, frame by frame; the same for any
    number of them."""
    stacked = np.stack(latents)  # (samples, frames, latent_dim)
    return float(np.sqrt(stacked.var(axis=0, ddof=1).mean()))
