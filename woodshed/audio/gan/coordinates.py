"""Latent coordinates: where in the space of sounds each moment of a piece lies.

A piece has one style, a vector that holds from beginning to end, and a line of anchors, one at each border between two
halves of a window; from one anchor to the next the coordinates change gradually. All are normal, DEPTH numbers each. A
half of a window has the same law wherever it lies, so that a line of any length is a piece of any length, and a line
that ends where it begins is a loop. Musika has an anchor every third half and a style as wide as the line; but
then neighbouring halves sound alike.

A half is a function of its two anchors, the style and noise, and near its borders of what lies beyond them: where
anchors come back, so does what was played.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

DEPTH = 64
STYLE = 0.5  # spread of the style; that of the line is 1


def draw(
    count: int, halves: int, half: int, *, generator: torch.Generator, device: torch.device | str = "cpu"
) -> Tensor:
    """Coordinates of `count` stretches to train on, (count, 2 * DEPTH, halves * half)."""
    anchors = torch.randn(count, halves + 1, DEPTH, generator=generator, device=device)
    style = torch.randn(count, DEPTH, generator=generator, device=device)
    return _joined(anchors, halves, half, style)


def piece(
    halves: int,
    half: int,
    *,
    seed: int,
    style_seed: int | None = None,
    truncation: float = 2.0,
    loop: bool = False,
    form: str = "A",
    vary: float = 0.0,
) -> Tensor:
    """Coordinates of one piece, (1, 2 * DEPTH, halves * half); no number of an anchor is beyond -truncation ..
    truncation.

    Of a form (AABA) equal letters have equal anchors, of which `vary` (0 to 1) is new when they come back; `halves` is
    a multiple of its length, and each section leads to what follows. A loop leads back to its first anchor: the frame
    after its last is its first. Loops and sections of a form take two halves or more, so that no anchor is joined to
    itself.
    """
    length, letters = halves // len(form), sorted(set(form), key=form.index)
    drawn = truncated_normal(1, len(letters) * length + (not loop), DEPTH, seed=seed, truncation=truncation)
    order = [letters.index(letter) * length + k for letter in form for k in range(length)] + [-1] * (not loop)
    anchors = drawn[:, order]
    share = torch.tensor([vary * (order[at] in order[:at]) for at in range(len(order))])[:, None]
    new = truncated_normal(*anchors.shape, seed=_other(_other(seed)), truncation=truncation)
    anchors = (torch.sqrt(1 - share**2) * anchors + share * new).clamp(-truncation, truncation)
    style_seed = _other(seed if style_seed is None else style_seed)  # so that it is no anchor
    style = truncated_normal(1, DEPTH, seed=style_seed, truncation=truncation)
    return _joined(anchors, halves, half, style)


def truncated_normal(*shape: int, seed: int, truncation: float) -> Tensor:
    """Standard normal numbers within -truncation .. truncation: the law of those that remain where others are drawn
    again. The same seed gives the same quantiles at every truncation.
    """
    uniform = torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (math.sqrt(2) * torch.erfinv((2 * uniform - 1) * math.erf(truncation / math.sqrt(2)))).float()


def interpolated(anchors: Tensor, positions: Tensor) -> Tensor:
    """Anchors (B, A, D) at positions (T,), in anchors, as (B, T, D), everywhere of the spread that the anchors have;
    after the last anchor comes the first.
    """
    left, count = positions.floor().long(), anchors.shape[1]
    share = (positions - left)[:, None]
    between = torch.lerp(anchors[:, left % count], anchors[:, (left + 1) % count], share)
    return between / torch.sqrt(share**2 + (1 - share) ** 2)


def _joined(anchors: Tensor, halves: int, half: int, style: Tensor) -> Tensor:
    positions = (torch.arange(halves * half, device=anchors.device) + 0.5) / half
    line = interpolated(anchors, positions)
    return torch.cat([line, STYLE * style[:, None].expand_as(line)], dim=-1).transpose(1, 2)


def _other(seed: int) -> int:
    """A seed that follows from another, so that what is drawn from the two has nothing in common."""
    return (seed * 0x9E3779B1 + 0x7F4A7C15) % 2**32
