"""One step of training: the critic learns to tell real from made, the generator to pass for real.

Hinge losses; R1, the squared slope of the critic at real latents (L. Mescheder, A. Geiger and S. Nowozin, "Which
Training Methods for GANs do actually Converge?", 2018, https://arxiv.org/abs/1801.04406), with a weight that fades
while the generator keeps up and returns when the critic runs away; a moving average of the generator's weights, which
is what plays.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..tensor_files import optimizer_tensors, restore_optimizer
from . import coordinates
from .networks import Critic, Generator

BETAS = (0.5, 0.999)
R1_WEIGHT = 40.0  # four times that of Musika, by trial: the critic runs away less
SWITCH_STEP, LEAST = 1e-4, 0.1  # of R1's weight: without any a critic swings
RUNS_AWAY = 0.35  # of the gap of 2 at which both hinges are satisfied: the mean of all levels never comes near it
POWER = 0.5  # of how much is heard of a latent dimension: its size in the networks
DECAY = 0.999  # of the moving average
CLIP = 100.0  # norm of a gradient; a rare outlier is shortened, the usual ones are left alone


class Shape(NamedTuple):
    """What two runs must have in common for the weights of one to fit the other."""

    latent_dim: int
    base_channels: int
    window: int


@dataclass
class Players:
    """All that training changes. `switch` goes from -1 (R1 in full) to -LEAST."""

    generator: Generator
    critic: Critic
    average: Generator
    adams: dict[str, torch.optim.Adam]
    switch: float = -1.0
    age: int = 0  # steps, those of a base included

    @property
    def device(self) -> torch.device:
        return next(self.critic.parameters()).device


class Losses(NamedTuple):
    """What one step says of itself."""

    hinge: float  # the critic's loss: 0 where it is always right by a margin, 1 where it knows nothing
    r1: float
    generator: float  # the generator's loss
    gap: float  # between the critic's means for real and for made
    spread: float  # of the critic's judgements of the real
    norm: float  # the larger norm of the gradients


def new_players(
    shape: Shape, *, seed: int, importance: Sequence[float] | None = None, device: torch.device | str = "cpu"
) -> Players:
    """Fresh networks; equal for equal seeds. `importance` is how much is heard of each latent dimension."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = Generator(shape.latent_dim, shape.base_channels, shape.window // 2)
        critic = Critic(*shape)
    if importance is not None:
        generator.scale.copy_(torch.tensor(importance)[:, None] ** POWER)
    average = Generator(shape.latent_dim, shape.base_channels, shape.window // 2)
    average.load_state_dict(generator.state_dict())
    generator, critic, average = (network.to(device) for network in (generator, critic, average.requires_grad_(False)))
    adams = {
        name: torch.optim.Adam(network.parameters(), betas=BETAS)
        for name, network in (("generator", generator), ("critic", critic))
    }
    return Players(generator, critic, average, adams)


def update(players: Players, real: Tensor, *, rate: float, seed: int, half_precision: bool = False) -> Losses:
    """One step on real latents (B, latent_dim, window); what is drawn for it depends on the seed alone."""
    draws = torch.Generator(players.device).manual_seed(seed)
    generator, critic = players.generator, players.critic
    with _precision(real.device, half_precision):
        made = windows(generator, len(real), draws).float()
    weight = -players.switch * R1_WEIGHT
    real = (real * generator.scale).requires_grad_()
    with _precision(real.device, half_precision):
        on_real, on_made = (critic(latents).float() for latents in (real, made.detach()))
    hinge = ((F.relu(1 - on_real) + F.relu(1 + on_made)) @ critic.shares).mean() / 2
    on_real, on_made = on_real @ critic.shares, on_made @ critic.shares
    penalty = r1(on_real, real)
    critic_norm = _learn(players.adams["critic"], critic, hinge + weight * penalty, rate)
    critic.requires_grad_(False)
    with _precision(real.device, half_precision):
        judged = critic(made).float()
    loss = -(judged @ critic.shares).mean()
    generator_norm = _learn(players.adams["generator"], generator, loss, rate)
    critic.requires_grad_(True)
    players.age += 1
    follow(players.average, generator, decay=decay(players.age))
    gap = on_real.mean() - on_made.mean()
    norm = torch.maximum(critic_norm, generator_norm)
    told = torch.stack([hinge, penalty, loss, gap, on_real.std(correction=0), norm]).tolist()
    players.switch = switched(players.switch, gap=told[3])
    return Losses(*told)


def windows(generator: Generator, count: int, draws: torch.Generator) -> Tensor:
    """Latents (count, latent_dim, window) as the critic takes them, cut out of three halves: borders lie anywhere, and
    what is beyond an end is sometimes music and sometimes nothing, as in a piece."""
    half = generator.half
    where = coordinates.draw(count, 3, half, generator=draws, device=draws.device)
    begin = int(torch.randint(half + 1, (1,), generator=draws, device=draws.device))
    return generator(where, draws)[..., begin : begin + 2 * half]


def r1(scores: Tensor, real: Tensor) -> Tensor:
    """The mean over a batch of the squared slope of the critic's scores (B,) at the real latents (B, D, T)."""
    (slope,) = torch.autograd.grad(scores.sum(), real, create_graph=True)
    return slope.square().sum(dim=(1, 2)).mean()


def switched(switch: float, *, gap: float) -> float:
    """The switch after a step: towards -1 where the critic runs away, else towards -LEAST."""
    runs_away = min(max(gap, 0.0), 2.0) / 2 > RUNS_AWAY
    return min(max(switch + (-SWITCH_STEP if runs_away else SWITCH_STEP), -1.0), -LEAST)


def decay(step: int) -> float:
    """How much of the average remains: less in the beginning, when it still holds the weights of the start."""
    return min(DECAY, (1 + step) / (10 + step))


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, *, decay: float) -> None:
    """average <- decay * average + (1 - decay) * network, for every weight."""
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)


def _learn(adam: torch.optim.Adam, network: nn.Module, loss: Tensor, rate: float) -> Tensor:
    """One step of an optimizer; the norm of its gradient."""
    for group in adam.param_groups:
        group["lr"] = rate
    adam.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(network.parameters(), CLIP)
    adam.step()
    return norm


def _precision(device: torch.device, half: bool):
    return torch.autocast(device.type, dtype=torch.bfloat16) if half else nullcontext()


# --- as tensors, for a checkpoint --------------------------------------------------------------------------------


def to_tensors(players: Players) -> dict[str, Tensor]:
    """All weights and the state of both optimizers, by name."""
    networks = {name: getattr(players, name) for name in ("generator", "critic", "average")}
    parts = {name: network.state_dict() for name, network in networks.items()}
    parts |= {f"adam.{name}": optimizer_tensors(adam) for name, adam in players.adams.items()}
    return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.items()}


def from_tensors(players: Players, tensors: dict[str, Tensor]) -> None:
    """Put back what to_tensors() gave."""
    for name in ("generator", "critic", "average"):
        getattr(players, name).load_state_dict(_part(tensors, name))
    for name, adam in players.adams.items():
        restore_optimizer(adam, _part(tensors, f"adam.{name}"))


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
