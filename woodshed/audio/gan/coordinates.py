"""Latent coordinates: where in the space of sounds each moment of a piece lies.

A piece has one style, a vector that holds from beginning to end, and a line of anchors with SPACING halves of a window
from one to the next; between two anchors the coordinates change evenly. All are standard normal, DEPTH numbers each.
A half of a window is all that the generator makes at once, so that a line of any length is a piece of any length, and
a line that ends where it begins is a loop.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

DEPTH = 64
SPACING = 3  # halves


def draw(count: int, half: int, *, generator: torch.Generator, device: torch.device | str = "cpu") -> Tensor:
    """Coordinates of `count` windows to train on, (count, 2 * DEPTH, 2 * half): each begins at one of the SPACING
    halves between two anchors.
    """
    anchors = torch.randn(count, 3, DEPTH, generator=generator, device=device)
    style = torch.randn(count, DEPTH, generator=generator, device=device)
    starts = torch.randint(SPACING, (count, 1), generator=generator, device=device)
    frames = torch.arange(2 * half, device=device) + 0.5
    return _joined(anchors, starts / SPACING + frames / (SPACING * half), style)


def piece(
    halves: int, half: int, *, seed: int, style_seed: int | None = None, truncation: float = 2.0, loop: bool = False
) -> Tensor:
    """Coordinates of one piece, (1, 2 * DEPTH, halves * half); no number is beyond -truncation .. truncation.

    A loop leads back to its first anchor: the frame after its last is its first.
    """
    segments = max(1, round(halves / SPACING)) if loop else math.ceil(halves / SPACING)
    anchors = truncated_normal(1, segments + (not loop), DEPTH, seed=seed, truncation=truncation)
    style = truncated_normal(1, DEPTH, seed=_other(seed) if style_seed is None else style_seed, truncation=truncation)
    spacing = halves / segments if loop else SPACING
    return _joined(anchors, ((torch.arange(halves * half) + 0.5) / (spacing * half))[None], style)


def truncated_normal(*shape: int, seed: int, truncation: float) -> Tensor:
    """Standard normal numbers within -truncation .. truncation: the law of those that remain where others are drawn
    again. The same seed gives the same quantiles at every truncation.
    """
    uniform = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (math.sqrt(2) * torch.erfinv((2 * uniform - 1) * math.erf(truncation / math.sqrt(2)))).float()


def interpolated(anchors: Tensor, positions: Tensor) -> Tensor:
    """Anchors (B, A, D) at positions (B, T), in anchors, as (B, T, D); after the last anchor comes the first."""
    left = positions.floor().long()
    rows, count = torch.arange(len(anchors), device=anchors.device)[:, None], anchors.shape[1]
    before, after = anchors[rows, left % count], anchors[rows, (left + 1) % count]
    return torch.lerp(before, after, (positions - left)[..., None])


def _joined(anchors: Tensor, positions: Tensor, style: Tensor) -> Tensor:
    line = interpolated(anchors, positions)
    return torch.cat([line, style[:, None].expand_as(line)], dim=-1).transpose(1, 2)


def _other(seed: int) -> int:
    """A seed of its own for the style, which --seed alone decides as well."""
    return (seed * 0x9E3779B1 + 0x7F4A7C15) % 2**32
