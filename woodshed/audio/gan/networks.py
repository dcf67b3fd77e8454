"""The generator and the critic.

The sizes follow Musika's: with `base_channels` 128, windows of 256 and 128 latent dimensions the generator has 15.4 M
parameters and the critic 21.8 M. Channels of a level are a multiple of `base_channels`: 2 at the full rate, 3 at half
of it, and so on; the critic begins with 3 of them. Latent dimensions differ in audibility; the networks scale each by
the square root of it.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .coordinates import DEPTH

SEED_LENGTH = 4  # frames that the generator begins with, and that the critic ends with
CRITIC_WIDTHS = (4, 5, 6, 7)  # times base_channels; all further blocks are as wide as the last
SLOPE = 0.2


class Noise(nn.Module):
    """The same noise for all channels, each with its own learned gain; in all `rounds` of a loop the same."""

    def __init__(self, channels: int):
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(channels, 1))

    def forward(self, x: Tensor, generator: torch.Generator, rounds: int = 1) -> Tensor:
        noise = torch.randn(len(x), 1, x.shape[2] // rounds, generator=generator, device=x.device)
        return x + self.gain * noise.repeat(1, 1, rounds).to(x.dtype)


class Style(nn.Module):
    """Adaptive instance normalisation without a shift: in each half (`length` frames at this level) every channel gets
    spread 1, then the scale that the coordinates say."""

    def __init__(self, channels: int, length: int):
        super().__init__()
        self.length = length
        self.scale = nn.Conv1d(2 * DEPTH, channels, 1)

    def forward(self, x: Tensor, coordinates: Tensor) -> Tensor:
        halves = x.float().unflatten(2, (-1, self.length))
        variance = halves.var(dim=3, keepdim=True, correction=0)
        return ((halves * torch.rsqrt(variance + 1e-4)).flatten(2) * self.scale(coordinates)).to(x.dtype)


class Layer(nn.Module):
    """A convolution, noise, style, swish."""

    def __init__(self, convolution: nn.Module, channels: int, length: int):
        super().__init__()
        self.convolution, self.noise, self.style = convolution, Noise(channels), Style(channels, length)

    def forward(self, x: Tensor, coordinates: Tensor, generator: torch.Generator, rounds: int = 1) -> Tensor:
        return F.silu(self.style(self.noise(self.convolution(x), generator, rounds), coordinates))


class Same(nn.Conv1d):
    """A convolution of 4 frames that keeps the length."""

    def __init__(self, channels: int, out: int):
        super().__init__(channels, out, 4)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (1, 2)))


class Up(nn.Module):
    """(B, C, T) -> (B, out, 2 T): a transposed convolution and, except at the full rate, a convolution; around them
    a pixel shuffle over time. A half has `length` frames then."""

    def __init__(self, channels: int, out: int, length: int, *, last: bool):
        super().__init__()
        self.up = Layer(nn.ConvTranspose1d(channels, out, 4, stride=2, padding=1), out, length)
        self.more = None if last else Layer(Same(out, out), out, length)
        self.around = nn.Conv1d(channels // 2, out, 1)

    def forward(self, x: Tensor, coordinates: Tensor, generator: torch.Generator, rounds: int = 1) -> Tensor:
        new = self.up(x, coordinates, generator, rounds)
        if self.more is not None:
            new = self.more(new, coordinates, generator, rounds)
        return (new + self.around(shuffled(x))) * math.sqrt(0.5)


class Generator(nn.Module):
    """Coordinates (B, 2 * DEPTH, k * half) -> latents (B, latent_dim, k * half). Every half grows from its own seed and
    has its own spread; convolutions run across the borders, so that nothing breaks off there.

    They come out times `scale` (latent_dim, 1), as the critic takes them; play() gives those of the codec.
    """

    def __init__(self, latent_dim: int, base_channels: int, half: int):
        super().__init__()
        self.register_buffer("scale", torch.ones(latent_dim, 1))
        self.half, levels = half, int(math.log2(half // SEED_LENGTH))
        widths = [base_channels * (2 + level) for level in range(levels, -1, -1)]
        self.seed = nn.Linear(2 * DEPTH * SEED_LENGTH // 2, widths[0] * SEED_LENGTH)
        self.style = Style(widths[0], SEED_LENGTH)
        steps = enumerate(itertools.pairwise(widths), 1)
        self.blocks = nn.ModuleList(Up(*step, SEED_LENGTH << at, last=at == levels) for at, step in steps)
        self.out = Same(widths[-1], latent_dim)
        self.apply(_fresh)

    def forward(self, coordinates: Tensor, generator: torch.Generator, rounds: int = 1) -> Tensor:
        halves, levels = coordinates.shape[2] // self.half, [coordinates]
        while levels[-1].shape[2] > halves * SEED_LENGTH // 2:
            levels.append(F.avg_pool1d(levels[-1], 2))
        deepest, at_seed, *rest = reversed(levels)
        seeds = self.seed(deepest.unflatten(2, (halves, -1)).transpose(1, 2).flatten(2))
        x = seeds.unflatten(2, (-1, SEED_LENGTH)).transpose(1, 2).flatten(2)
        x = F.silu(self.style(x, at_seed))
        for block, at_level in zip(self.blocks, rest, strict=True):
            x = block(x, at_level, generator, rounds)
        return self.out(x)

    def play(self, coordinates: Tensor, generator: torch.Generator, *, loop: bool = False) -> Tensor:
        """Latents (B, latent_dim, k * half) as the codec takes them, standardised. A loop is the second of three
        rounds: what comes before its beginning is its end."""
        length = coordinates.shape[2]
        if not loop:
            return self(coordinates, generator) / self.scale
        return self(coordinates.repeat(1, 1, 3), generator, 3)[..., length : 2 * length] / self.scale


class Down(nn.Module):
    """(B, C, T) -> (B, out, T / 2), with its input, averaged, around it."""

    def __init__(self, channels: int, out: int):
        super().__init__()
        self.first, self.second = nn.Conv1d(channels, out, 3, padding=1), nn.Conv1d(out, out, 3, stride=2, padding=1)
        self.around = nn.Conv1d(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        new = F.leaky_relu(self.second(F.leaky_relu(self.first(x), SLOPE)), SLOPE)
        return (new + self.around(F.avg_pool1d(x, 2))) * math.sqrt(0.5)


class Critic(nn.Module):
    """Latents (B, latent_dim, window) -> judgements (B, n), above 0 real, below made: one for every 2, 4, ... frames
    and those around them, and one of the whole window. `shares` (n,) make all these levels count alike.

    Judging stretches as well is from P. Isola, J. Zhu, T. Zhou and A. Efros, "Image-to-Image Translation with
    Conditional Adversarial Networks", 2016, https://arxiv.org/abs/1611.07004.
    """

    def __init__(self, latent_dim: int, base_channels: int, window: int):
        super().__init__()
        blocks = int(math.log2(window // SEED_LENGTH)) - 1
        widths = [base_channels * width for width in (3, *(CRITIC_WIDTHS[min(k, 3)] for k in range(blocks)))]
        widths = [max(width, 2 * latent_dim) for width in widths[:2]] + widths[2:]  # so that nothing is lost at once
        self.look = nn.Conv1d(latent_dim, widths[0], 3, padding=1)
        self.start = nn.Conv1d(widths[0], widths[0], 4, stride=2, padding=1)
        self.blocks = nn.ModuleList(Down(*step) for step in itertools.pairwise(widths))
        self.local = nn.ModuleList(nn.Conv1d(width, 1, 1) for width in widths[:-1])
        self.last = nn.Conv1d(widths[-1], widths[-1], 3, padding=1)
        self.out = nn.Linear(widths[-1] * SEED_LENGTH, 1)
        counts = [*(window >> level for level in range(1, blocks + 1)), 1]
        shares = [torch.full((count,), 1 / count / len(counts)) for count in counts]
        self.register_buffer("shares", torch.cat(shares), persistent=False)
        self.apply(_fresh)

    def forward(self, latents: Tensor) -> Tensor:
        x = F.leaky_relu(self.start(F.leaky_relu(self.look(latents), SLOPE)), SLOPE)
        judgements = []
        for local, block in zip(self.local, self.blocks, strict=True):
            judgements.append(local(x)[:, 0])
            x = block(x)
        whole = self.out(F.leaky_relu(self.last(x), SLOPE).flatten(1))
        return torch.cat([*judgements, whole], dim=1)


def shuffled(x: Tensor) -> Tensor:
    """A pixel shuffle over time, (B, C, T) -> (B, C / 2, 2 T): pairs of channels become pairs of frames."""
    count, channels, length = x.shape
    return x.reshape(count, channels // 2, 2, length).transpose(2, 3).reshape(count, channels // 2, 2 * length)


def parameters(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def _fresh(module: nn.Module) -> None:
    """Glorot's uniform weights, biases of 0; the scales of a Style begin at 1."""
    if isinstance(module, nn.Conv1d | nn.ConvTranspose1d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, Style):  # children come first
        nn.init.ones_(module.scale.bias)
