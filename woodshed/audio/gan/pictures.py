"""Pictures: spectrograms of samples, one below the other; a training run over its steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ... import page
from ...files import write_file
from ...log import read_log
from ..wave import Audio

FFT, HOP = 2048, 512
SHOWN = (50.0, 8000.0)  # Hz
BANDS = 160
RANGE = 70.0  # dB


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
            vmax=levels.max() or 1,
            extent=(0, audio.seconds, 0, BANDS),
            interpolation="nearest",
        )
        marks = [100, 300, 1000, 3000]
        axes.set_yticks(np.interp(marks, hertz, np.arange(BANDS)), [str(mark) for mark in marks])
        axes.set_title(name, fontsize=9, loc="left")
    return page.png(figure, grid="x")


def draw_progress(log: Path, picture: Path) -> None:
    """The critic's losses, the switch and the distance of the samples from the recordings, over steps."""
    lines = read_log(log)
    figure = page.canvas(9, 7)
    rows = figure.subplots(3, 1, sharex=True)
    for axes, names in zip(rows, (("hinge", "gap"), ("r1", "switch"), ()), strict=True):
        for name in names:
            found = np.array([(line["step"], line[name]) for line in lines if name in line]).reshape(-1, 2)
            axes.plot(*found.T, label=name, linewidth=0.9)
        axes.set_ylabel(", ".join(names) or "distance of latents")
    heard = [(line["step"], line["distance"]) for line in lines if "distance" in line]
    rows[2].plot(*np.array(heard).reshape(-1, 2).T, "o-", markersize=4, color="tab:orange")
    rows[2].set_yscale("log")
    rows[2].set_xlabel("step")
    for axes in rows[:2]:
        axes.legend(fontsize=8, frameon=False)
    write_file(picture, page.png(figure, grid="both"))


def _levels(audio: Audio) -> tuple[np.ndarray, np.ndarray]:
    """Centres in Hz (BANDS,) and dB (BANDS, frames)."""
    sound = np.pad(audio.mono, (0, max(0, FFT - len(audio.mono))))
    frames = np.lib.stride_tricks.sliding_window_view(sound, FFT)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(FFT), axis=1)) ** 2
    hertz = np.geomspace(*SHOWN, BANDS)
    bins = np.clip(hertz * FFT / audio.sample_rate, 0, power.shape[1] - 1).round().astype(int)
    return hertz, 10 * np.log10(power[:, bins].T + 1e-10)
