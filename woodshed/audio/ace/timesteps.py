"""Flow matching: how noise and music are mixed at a timestep, and which timesteps are drawn.

t = 1 is noise, t = 0 music. x_t = t noise + (1 - t) music; the transformer learns the velocity noise - music.
Lipman et al. 2023, https://arxiv.org/abs/2210.02747
"""

from __future__ import annotations

import torch

SHIFT = 3.0
TURBO = torch.arange(8, 0, -1) / 8
TURBO = SHIFT * TURBO / (1 + (SHIFT - 1) * TURBO)  # 1, .9545, .9, .8333, .75, .6429, .5, .3: a turbo model's steps


def turbo(count: int, generator: torch.Generator) -> torch.Tensor:
    """Timesteps (count,) drawn alike from the eight that a turbo model plays with."""
    return TURBO[torch.randint(len(TURBO), (count,), generator=generator)]


def corrected(count: int, generator: torch.Generator, *, mean: float, deviation: float, uniform: float) -> torch.Tensor:
    """Timesteps (count,) of which the logit is normal, as ACE-Step was trained; a share of them `uniform` in 0 .. 1.

    Esser et al. 2024, https://arxiv.org/abs/2403.03206. With ACE-Step's mean of -0.4 and deviation of 1 only 0.04 % of
    the timesteps lie above .95, where playing begins.
    """
    drawn = torch.sigmoid(mean + deviation * torch.randn(count, generator=generator))
    alike = torch.rand(count, generator=generator)
    return torch.where(torch.rand(count, generator=generator) < uniform, alike, drawn)


def mix(music: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x_t and the velocity to be learned, both (batch, frames, dims), from t (batch,)."""
    t = t[:, None, None]
    return t * noise + (1 - t) * music, noise - music
