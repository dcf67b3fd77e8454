"""The network of the codec `own`: magnitudes of a spectrum as latents, and back.

Magnitudes are seen as their square root (power 0.5): in decibels a network learns the noise floor, in this domain the
notes. Principal components of stretches of `ratio` frames are the start, since no linear codec is better; the
convolutions begin by adding nothing to them and learn what they leave.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

POOLS = ((1, 1), (8, 1), (1, 4))  # bins and frames averaged before errors are taken: all, attacks, pitches


class Block(nn.Module):
    """A residual block of a convolution over time and one over channels; adds nothing when it is new."""

    def __init__(self, width: int, dilation: int = 1):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.along = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.across = nn.Conv1d(width, width, 1)
        _silence(self.across)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x.transpose(1, 2)).transpose(1, 2)
        return x + self.across(F.gelu(self.along(normed)))


class Magnitudes(nn.Module):
    """Square roots of magnitudes (batch, bins, frames) to latents (batch, dim, frames / ratio) and back."""

    def __init__(self, bins: int, ratio: int, dim: int, width: int, depth: int):
        super().__init__()
        self.ratio = ratio
        self.register_buffer("mean", torch.zeros(bins, 1))
        self.register_buffer("spread", torch.ones(dim, 1))
        self.analysis = nn.Parameter(torch.zeros(dim, bins, ratio))
        self.synthesis = nn.Parameter(torch.zeros(dim, bins, ratio))
        scales = ratio.bit_length() - 1
        down: list[nn.Module] = [nn.Conv1d(bins, width, 1), *_blocks(width, depth)]
        up: list[nn.Module] = [nn.Conv1d(dim, width, 3, padding=1), Block(width, 2), *_blocks(width, depth)]
        for _ in range(scales):
            down += [nn.Conv1d(width, width, 4, stride=2, padding=1), *_blocks(width, depth)]
            up += [nn.ConvTranspose1d(width, width, 4, stride=2, padding=1), *_blocks(width, depth)]
        self.down = nn.Sequential(*down, Block(width, 2), nn.Conv1d(width, dim, 1))
        self.up = nn.Sequential(*up, nn.Conv1d(width, bins, 1))
        _silence(self.down[-1])
        _silence(self.up[-1])

    @torch.no_grad()
    def start_from(self, roots: Tensor) -> None:
        """Set the linear part to the principal components of stretches of `roots` (count, bins, frames)."""
        self.mean.copy_(roots.mean((0, 2))[:, None])
        stretches = (roots - self.mean).unfold(2, self.ratio, self.ratio).permute(0, 2, 1, 3)  # (count, n, bins, ratio)
        stretches = stretches.reshape(-1, self.mean.shape[0] * self.ratio)
        components = principal(stretches, len(self.spread))  # (dim, bins * ratio)
        self.spread.copy_((stretches @ components.T).std(0)[:, None].clamp(min=1e-3))
        self.analysis.copy_(components.reshape(self.analysis.shape))
        self.synthesis.copy_(components.reshape(self.analysis.shape))

    def encode(self, roots: Tensor) -> Tensor:
        linear = F.conv1d(roots - self.mean, self.analysis, stride=self.ratio) / self.spread
        return linear + self.down(roots - self.mean)

    def decode(self, latents: Tensor) -> Tensor:
        linear = F.conv_transpose1d(latents * self.spread, self.synthesis, stride=self.ratio)
        return linear + self.up(latents) + self.mean


def principal(rows: Tensor, count: int) -> Tensor:
    """The first `count` principal directions (count, width) of centred rows (n, width); zeros where there are fewer."""
    found = torch.zeros(count, rows.shape[1], device=rows.device)
    rank = min(count, *rows.shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        directions = torch.pca_lowrank(rows, rank, center=False, niter=3)[2]
    found[:rank] = directions.T
    return found


def spectral_error(found: Tensor, true: Tensor) -> Tensor:
    """Squared error over the squared size, at several resolutions in time and frequency; 0 is perfect, 1 silence."""
    errors = []
    for pool in POOLS:
        one, other = (F.avg_pool2d(x[:, None], pool) for x in (found, true))
        errors.append((one - other).square().sum() / (other.square().sum() + 1e-6))
    return sum(errors) / len(errors)


def _blocks(width: int, depth: int) -> list[Block]:
    return [Block(width) for _ in range(depth)]


def _silence(layer: nn.Conv1d) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
