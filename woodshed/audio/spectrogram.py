"""Sound as a picture: spectrograms, one below the other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .. import page
from .wave import Audio

FFT, HOP = 2048, 512
SHOWN = (50.0, 8000.0)  # Hz
BANDS = 160
RANGE = 70.0  # dB
MOST = 8000  # frames: more than a picture shows


def spectrograms(sounds: Mapping[str, Audio]) -> bytes:
    """A PNG: a row for each sound, its level in dB over time and (logarithmic) frequency."""
    figure = page.canvas(10, 1.9 * len(sounds))
    rows = figure.subplots(len(sounds), 1, squeeze=False)[:, 0]
    for axes, (name, audio) in zip(rows, sounds.items(), strict=True):
        hertz, levels = _levels(audio)
        axes.imshow(
            levels,
            origin="lower",
            aspect="auto",
            cmap="magma",
            vmin=levels.max() - RANGE,
            vmax=levels.max(),
            extent=(0, audio.seconds, 0, BANDS),
            interpolation="nearest",
        )
        marks = [100, 300, 1000, 3000]
        axes.set_yticks(np.interp(marks, hertz, np.arange(BANDS)), [str(mark) for mark in marks])
        axes.set_title(name, fontsize=9, loc="left", parse_math=False)
    return page.png(figure, grid="x")


def _levels(audio: Audio) -> tuple[np.ndarray, np.ndarray]:
    """Centres in Hz (BANDS,) and dB (BANDS, frames)."""
    sound = np.pad(audio.mono, (0, max(0, FFT - len(audio.mono))))
    hop = max(HOP, len(sound) // MOST)  # of hours all frames would fill the memory
    frames = np.lib.stride_tricks.sliding_window_view(sound, FFT)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(FFT), axis=1)) ** 2
    hertz = np.geomspace(*SHOWN, BANDS)
    bins = np.clip(hertz * FFT / audio.sample_rate, 0, power.shape[1] - 1).round().astype(int)
    return hertz, 10 * np.log10(power[:, bins].T + 1e-10)
