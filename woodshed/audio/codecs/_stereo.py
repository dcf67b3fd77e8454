"""Two channels as one spectrum and, band by band, where it stands and how wide it is: parametric stereo.

J. Breebaart et al., "Parametric Coding of Stereo Audio", EURASIP JASP 9 (2005). The one spectrum is the root mean power
of both channels, which unlike their sum cannot cancel. For each band: `pan`, (L2 - R2) / (L2 + R2), from -1 (right) to
1 (left), and `coherence`, how alike the channels are, -1 to 1.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

BANDS = 16  # of about equal width to the ear
FLOOR = 1e-2  # power of a band that is as good as silent, at the loudness of codecs: in the middle, and coherent


def edges(bins: int, sample_rate: int) -> np.ndarray:
    """BANDS + 1 bins between which the bands lie, on the ERB scale (Glasberg and Moore, 1990)."""
    top = sample_rate / 2
    scale = np.linspace(0, np.log1p(0.00437 * top), BANDS + 1)
    return np.round(np.expm1(scale) / 0.00437 / top * (bins - 1)).astype(int)


def to_bands(bins: int, sample_rate: int) -> Tensor:
    """(BANDS, bins): 1 where a bin belongs to a band; each bin to one."""
    band = np.searchsorted(edges(bins, sample_rate)[1:-1], np.arange(bins), side="right")
    return F.one_hot(torch.from_numpy(band), BANDS).T.float()


def image(left: Tensor, right: Tensor, bands: Tensor, ratio: int) -> Tensor:
    """Pan and coherence (batch, 2 * BANDS, frames / ratio) of two complex spectra (batch, bins, frames)."""

    def power(values: Tensor) -> Tensor:
        return F.avg_pool1d(bands @ values, ratio)

    first, second = power(left.abs().square()), power(right.abs().square())
    shared = power((left * right.conj()).real)
    pan = (first - second) / (first + second + FLOOR)
    coherence = (shared + FLOOR) / (first * second).sqrt().add(FLOOR)
    return torch.cat([pan, coherence.clamp(-1, 1)], dim=1)


def apart(spectrum: Tensor, told: Tensor, bands: Tensor) -> tuple[Tensor, Tensor]:
    """Left and right of a complex spectrum (bins, frames), as an image (2 * BANDS, frames) tells: the inverse of
    `image`. Channels that are less alike are turned apart in phase, which leaves their levels exact.
    """
    pan, coherence = (bands.T @ part.clamp(-1, 1) for part in told.chunk(2))
    turn = torch.acos(coherence) / 2 * _sides(bands)[:, None]
    left, right = (torch.polar(size.sqrt(), turned) for size, turned in ((1 + pan, turn), (1 - pan, -turn)))
    return spectrum * left, spectrum * right


def _sides(bands: Tensor) -> Tensor:
    """1 and -1 (bins,) in turn from band to band: which channel's phases run ahead."""
    return bands.T @ (1 - 2 * (torch.arange(len(bands), device=bands.device) % 2)).float()
