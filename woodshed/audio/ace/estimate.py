"""Which modules the music moves most, and so the rank that each should have: an estimate before training.

    estimate("tensors", "ranks.json") -> Estimate         then train(..., ranks="ranks.json")

The sensitivity of a module is its diagonal Fisher information for this music, per weight: the squared gradients of the
loss of the base, over crops and timesteps. A module that is kept gets a rank by it and by how many directions its
weight uses: rank = middle rank * sqrt(sensitivity / median * directions / median).

Kirkpatrick et al. 2017, https://arxiv.org/abs/1612.00796 (Fisher information); Side-Step ranks adapters alike.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Annotated, Literal

from ... import __version__
from ...config import Allowed, NotNegative, Positive, Seed, check, updated
from ...files import seen_from, write_object
from ...jobs import enough_memory, refuse_no_new_file
from ...progress import Progress, Reporter, unheard
from .pipeline import chosen_device, fingerprint, open_pipeline, timestep_law
from .settings import TARGETS, TrainSettings, resolve
from .tensors import Tensors, opened_for

TOP, STABLE = 20, 5  # the measurement ends when the first so many modules kept their order for so many batches
LEAST_OF_KIND = 0.1  # of self attention, cross attention and MLP at least so much is kept
FOCUS = {"balanced": (0.0, 1.0), "texture": (0.0, 0.4), "structure": (0.6, 1.0)}


@dataclass(frozen=True)
class EstimateSettings:
    """How to estimate."""

    rank: Positive[int] = 64
    """The rank of a module in the middle; ranks lie between a quarter and twice of it."""
    targets: Literal["attention", "attention+mlp"] = "attention+mlp"
    """Among which modules to choose."""
    keep: Annotated[float, Allowed(above=0, most=1)] = 0.55
    """The part of them that gets an adapter."""
    focus: Literal["balanced", "texture", "structure"] = "balanced"
    """Timesteps that count: texture is heard in the late ones, structure is decided in the early ones."""
    batches: Positive[int] = 64
    """Crops to measure at most."""
    crop_seconds: NotNegative[float] = 60.0
    """Length of a crop; 0 takes songs whole."""
    seed: Seed = 0
    """Decides crops, timesteps and noise."""
    device: str = "auto"
    """Where to compute: cpu, cuda, or auto."""


@dataclass(frozen=True)
class Module:
    """What was found out about a module."""

    name: str
    sensitivity: float
    """Mean of the squared gradients of its weight."""
    directions: float
    """How many directions its weight uses: (sum of squared singular values)^2 / sum of their fourth powers."""
    rank: int
    """0 where it gets no adapter."""


@dataclass(frozen=True)
class Estimate:
    """Modules, the most sensitive first, and after how many batches their order was settled."""

    modules: list[Module]
    batches: int
    settled: bool


def estimate(
    tensors: Tensors | str | Path,
    out: str | Path,
    settings: EstimateSettings | None = None,
    *,
    base: str | Path | None = None,
    report: Reporter = unheard,
    **changes,
) -> Estimate:
    """Measure modules of the base on a folder of tensors and write their ranks to the new JSON file `out`.

    `base`: by default the one the tensors were made with. `changes` are fields of EstimateSettings. Raises InputError,
    RunError for tensors of another base, FileError.
    """
    settings, out = updated(EstimateSettings, settings, changes), Path(out)
    check(settings)
    refuse_no_new_file("--out", out)
    tensors, base = opened_for(tensors, base)
    with enough_memory("with crops this long", "give fewer --crop-seconds, or --device cpu"):
        found = _measured(tensors, base, settings, report)
    directions, sensitivity, count, settled = found
    found = Estimate(ranked(sensitivity, directions, settings), count, settled)
    kept = {module.name: module.rank for module in found.modules if module.rank}
    facts = {"woodshed": __version__, "base_fingerprint": fingerprint(base), "settings": asdict(settings)}
    facts |= {"tensors": seen_from(out.parent, tensors.folder), "batches": count, "settled": settled}
    facts |= {"rank_pattern": kept, "alpha_pattern": {name: 2 * rank for name, rank in kept.items()}}
    facts |= {"modules": [asdict(module) for module in found.modules]}
    write_object(out, facts, new=True)
    return found


def ranked(sensitivity: dict[str, float], directions: dict[str, float], settings: EstimateSettings) -> list[Module]:
    """Modules with their ranks, the most sensitive first."""
    order = sorted(sensitivity, key=sensitivity.get, reverse=True)
    kept = set(order[: math.ceil(settings.keep * len(order))])
    for kind in ("self_attn", "cross_attn", "mlp"):
        alike = [name for name in order if f".{kind}." in name]
        kept |= set(alike[: math.ceil(LEAST_OF_KIND * len(alike))])
    middle = [median([values[name] for name in kept]) for values in (sensitivity, directions)]
    step = max(settings.rank // 8, 1)
    modules = []
    for name in order:
        share = math.sqrt(sensitivity[name] / middle[0] * directions[name] / middle[1]) if name in kept else 0.0
        rank = min(max(round(settings.rank * share / step) * step, -(-settings.rank // 4)), 2 * settings.rank)
        modules.append(Module(name, sensitivity[name], directions[name], rank if name in kept else 0))
    return modules


def directions_of(weight) -> float:
    """How many directions a matrix uses, from 1 to its smaller side, without a singular value decomposition."""
    weight = weight.detach().float()
    weight = weight if weight.shape[0] <= weight.shape[1] else weight.T
    gram = weight @ weight.T
    return float(gram.trace() ** 2 / gram.square().sum())


def _measured(tensors: Tensors, base, settings: EstimateSettings, report: Reporter):
    """Directions and mean squared gradients of all modules, over how many batches, and whether their order settled."""
    import torch

    from .loop import velocity_errors

    device, dtype = chosen_device(settings.device)
    transformer = open_pipeline(base, device=device, dtype=dtype, parts=("transformer",)).transformer.eval()
    transformer.requires_grad_(False)
    transformer.enable_gradient_checkpointing()
    endings = tuple(f".{ending}" for ending in TARGETS[settings.targets])
    weights = {name: module.weight for name, module in transformer.named_modules() if name.endswith(endings)}
    squares = dict.fromkeys(weights, 0.0)
    for name, weight in weights.items():
        weight.requires_grad_(True)
        weight.register_post_accumulate_grad_hook(_collector(squares, name))
    orders, count = [], 0
    for count, batch in enumerate(_batches(tensors, base, settings), start=1):
        with torch.enable_grad():
            velocity_errors(transformer, batch.to(device)).mean().backward()
        orders = [*orders, sorted(squares, key=squares.get, reverse=True)[:TOP]][-STABLE:]
        settled = len(orders) == STABLE and all(order == orders[0] for order in orders)
        report(Progress(count / settings.batches, f"{count} crops"))
        if settled:
            break
    directions = {name: directions_of(weight) for name, weight in weights.items()}
    return directions, {name: value / count for name, value in squares.items()}, count, settled


def _collector(squares: dict[str, float], name: str):
    """Adds up the squared gradient of one weight and lets it go: all of them together would be a second model."""

    def collect(weight):
        squares[name] += weight.grad.float().square().mean().item()
        weight.grad = None

    return collect


def _batches(tensors: Tensors, base, settings: EstimateSettings):
    """Crops of all songs in turn, their timesteps moved into the focus."""
    from .batches import Batches

    first, last = FOCUS[settings.focus]
    plain = TrainSettings(crop_seconds=settings.crop_seconds, seed=settings.seed, condition_dropout=0.0)
    batches = Batches(
        tensors, list(range(len(tensors))), resolve(plain, songs=len(tensors), turbo=False), timestep_law(base)
    )
    for number in range(settings.batches):
        batch = batches[number]
        yield replace(batch, t=first + (last - first) * batch.t)
