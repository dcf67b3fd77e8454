"""From magnitudes to a spectrum that has phases: Griffin-Lim, or a learned head whose answers are put together.

The head sees magnitudes and tells for each bin how its phase differs from that of the frame before and from that of the
bin below, as complex numbers whose size says how sure it is. `Integrator` goes through the frames and finds the phases
that agree with most of this; a few rounds of Griffin-Lim from there are better than many from chance. Y. Masuyama et
al., "Phase Reconstruction Based on Recurrent Phase Unwrapping with Deep Neural Networks", ICASSP 2020. Griffin and Lim
(1984) with the momentum of Perraudin et al. (2013) is the reference.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

QUIET = 1e-2  # magnitude of a bin that is as good as silent, at the loudness of codecs
FAINT = 1e-9  # magnitude below all that sounds: phases go on through silence
SWEEPS = 4  # over the bins of a frame
AROUND = (7, 5)  # bins and frames that the head sees at once
ITERATIONS, MOMENTUM = 32, 0.99  # of Griffin-Lim
ROUNDS = 4  # of it after the head, which make small disagreements good


class Stft(nn.Module):
    """Hann windows of `size` samples, `hop` apart, the first one centred on the first sample."""

    def __init__(self, size: int, hop: int):
        super().__init__()
        self.size, self.hop, self.bins = size, hop, size // 2 + 1
        self.register_buffer("window", torch.hann_window(size), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """(..., samples), a whole number of hops, to complex (..., bins, samples / hop)."""
        flat = samples.reshape(-1, samples.shape[-1])
        found = torch.stft(flat, self.size, self.hop, window=self.window, pad_mode="constant", return_complex=True)
        return found[..., :-1].reshape(*samples.shape[:-1], self.bins, -1)

    def inverse(self, spectrum: Tensor) -> Tensor:
        """(..., bins, frames) to (..., frames * hop): the sound whose spectrum is nearest."""
        padded = torch.cat([spectrum, torch.zeros_like(spectrum[..., :1])], dim=-1)
        flat = padded.reshape(-1, *padded.shape[-2:])
        sound = torch.istft(flat, self.size, self.hop, window=self.window, length=spectrum.shape[-1] * self.hop)
        return sound.reshape(*spectrum.shape[:-2], -1)


def griffin_lim(magnitude: Tensor, stft: Stft, *, iterations: int = ITERATIONS) -> Tensor:
    """A complex spectrum (bins, frames) with these magnitudes; its first phases are drawn with seed 0."""
    turns = torch.rand(magnitude.shape, generator=torch.Generator().manual_seed(0)).to(magnitude.device)
    return refined(torch.polar(magnitude, 2 * torch.pi * turns), magnitude, stft, iterations=iterations)


def refined(spectrum: Tensor, magnitude: Tensor, stft: Stft, *, iterations: int = ROUNDS) -> Tensor:
    """A spectrum (bins, frames) whose phases have gone through rounds of Griffin-Lim. Each reaches three frames far."""
    phase, before = torch.sgn(spectrum), torch.zeros_like(spectrum)
    for _ in range(iterations):
        after = stft(stft.inverse(magnitude * phase))
        phase, before = torch.sgn(after - MOMENTUM / (1 + MOMENTUM) * before), after
    return magnitude * phase


class PhaseHead(nn.Module):
    """Phase differences, seen in magnitudes: a 2-D convolution over AROUND and two layers on each bin alone."""

    def __init__(self, width: int = 16):
        super().__init__()
        self.look = nn.Conv2d(1, width, AROUND, padding=(AROUND[0] // 2, AROUND[1] // 2))
        self.think = nn.Conv2d(width, width, 1)
        self.tell = nn.Conv2d(width, 4, 1)

    def forward(self, magnitude: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, bins, frames) to (ahead, across), complex of the same shape; see `differences`."""
        level = torch.log(magnitude + QUIET)[:, None]
        edge = (AROUND[1] // 2, AROUND[1] // 2, AROUND[0] // 2, AROUND[0] // 2)
        level = level - F.avg_pool2d(F.pad(level, edge, mode="replicate"), AROUND, stride=1)
        told = self.tell(F.silu(self.think(F.silu(self.look(level))))).float()
        return torch.complex(told[:, 0], told[:, 1]), torch.complex(told[:, 2], told[:, 3])

    def loss(self, magnitude: Tensor, spectrum: Tensor, step: float) -> Tensor:
        """Mean squared error of both differences, each bin weighted by its size; 2 where the head tells nothing."""
        weight = spectrum.abs()[..., 1:-1]
        pairs = zip(self(magnitude), differences(spectrum, step), strict=True)
        errors = [(weight * (told - true)[..., 1:-1].abs().square()).sum() for told, true in pairs]
        return sum(errors) / (weight.sum() + 1e-6)


def differences(spectrum: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """Unit complex numbers that a spectrum (batch, bins, frames) turns by: from the frame before, beyond what a tone in
    the middle of the bin turns by; and from the bin below, phases counted from the middle of the window. `step` is that
    from frame to frame, in windows.
    """
    phase = torch.sgn(spectrum * _signs(spectrum.shape[1], spectrum.device))
    ahead, across = torch.ones_like(phase), torch.ones_like(phase)
    turn = torch.from_numpy(_turns(spectrum.shape[1], step)).to(phase.device)[:, None]
    ahead[..., 1:] = phase[..., 1:] * phase[..., :-1].conj() * turn.conj()
    across[:, 1:] = phase[:, 1:] * phase[:, :-1].conj()
    return ahead, across


class Integrator:
    """Phases from their differences, frame after frame; goes on where it stopped when it is called again. `step`: see
    `differences`."""

    def __init__(self, bins: int, step: float):
        self.turns, self.signs = _turns(bins, step), _signs(bins, "cpu")[:, 0].numpy()
        self.phase = np.exp(2j * np.pi * np.random.default_rng(0).random(bins)).astype(np.complex64)
        self.before = np.zeros(bins, np.float32)  # magnitudes of the frame before

    def __call__(self, magnitude: np.ndarray, ahead: np.ndarray, across: np.ndarray) -> np.ndarray:
        """(frames, bins) each; the complex spectrum (frames, bins)."""
        heard = np.concatenate([self.before[None], magnitude[:-1]])
        from_before = (heard * ahead + FAINT) * self.turns
        from_below = magnitude[:, :-1] * across[:, 1:]
        from_above = magnitude[:, 1:] * across[:, 1:].conj()
        phases = np.empty_like(ahead)
        phase = self.phase
        for frame in range(len(magnitude)):
            held = from_before[frame] * phase
            phase = held / np.abs(held)
            for _ in range(SWEEPS):
                sum_ = held.copy()
                sum_[1:] += from_below[frame] * phase[:-1]
                sum_[:-1] += from_above[frame] * phase[1:]
                phase = sum_ / np.abs(sum_)
            phases[frame] = phase
        self.phase, self.before = phase, magnitude[-1].copy()
        return magnitude * phases * self.signs


def _turns(bins: int, step: float) -> np.ndarray:
    """What a tone in the middle of each bin turns by from frame to frame, (bins,) complex64."""
    return np.exp(2j * np.pi * step * np.arange(bins)).astype(np.complex64)


def _signs(bins: int, device) -> Tensor:
    """1, -1, 1, ... (bins, 1): from phases at the window's start to those at its middle."""
    return (1 - 2 * (torch.arange(bins, device=device) % 2))[:, None].float()
