"""How to make a codec: the flags of `woodshed audio codec train`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from ... import config
from ...config import Allowed, NotNegative, Positive, flag, given
from ...errors import InputError

MOST_SEED = 2**43 - 1  # a step's seed is a million times that, and torch takes 64 bits


@dataclass(frozen=True)
class CodecSettings:
    """How to make a codec."""

    kind: str = "own"
    """own: learned from the recordings; oobleck: one of diffusers, of which only the spread of its latents is
    measured."""
    base: str | None = None
    """Go on from this codec, with its sample rate, channels and size, on other recordings; of oobleck the folder or id
    of the diffusers model."""
    sample_rate: Annotated[int, Allowed(8000, 96000, hint="44100 is usual")] = 44100
    """Samples a second."""
    channels: Literal[1, 2] = 2
    """1 mono, 2 stereo."""
    latent_rate: Positive[float] = 10.8
    """Latent frames a second, about: the nearest that the sample rate allows."""
    latent_dim: Positive[int] = 64
    """Numbers in a latent frame."""
    side_dim: int = 8
    """How many of them say where in the stereo image each band stands."""
    width: Positive[int] = 256
    """Channels of the convolutions: 256 for a CPU, 512 and more for a GPU."""
    depth: Positive[int] = 1
    """Residual blocks at each time scale."""
    max_minutes: Positive[float] | None = None
    """Stop after so many minutes of training, over all restarts together; 20 where --max-steps is not given either."""
    max_steps: Positive[int] | None = None
    """Stop after so many steps."""
    batch_size: Positive[int] = 16
    """Crops in a step."""
    seconds: Positive[float] = 1.5
    """Length of a crop."""
    learning_rate: Positive[float] | None = None
    """After the warm-up, by default 1e-3; flat, and falling to 0 in the last two fifths."""
    latent_noise: NotNegative[float] = 0.1
    """Noise on the latents in training, in their standard deviations: what comes near a latent should sound like it."""
    eval_minutes: Positive[float] | None = None
    """Validate and save every so many minutes, by default 2."""
    eval_steps: Positive[int] | None = None
    """Validate and save every so many steps instead."""
    seed: Annotated[int, Allowed(0, MOST_SEED)] = 0
    """Seeds the weights and the order of the crops."""
    threads: Positive[int] | None = None
    """CPU threads; by default as many as there are cores with nothing to do."""
    device: str = "auto"
    """cpu, cuda, or auto: cuda where there is one."""
    resume: bool = False
    """Go on with the codec in --out, with its settings."""


LIMITS = ("max_minutes", "max_steps")
# what may change when it goes on
FREE = {*LIMITS, "learning_rate", "eval_minutes", "eval_steps", "threads", "device", "resume"}
MINUTES = 20.0
# What is meant where nobody says. The fields are None, so that what is given at its default counts when it goes on.
DEFAULTS = {"learning_rate": 1e-3, "eval_minutes": 2.0}

SIZES = ("sample_rate", "channels", "latent_rate", "latent_dim", "side_dim", "width", "depth")


def refuse_sizes(settings: CodecSettings, known: dict) -> None:
    """An InputError for a size that is asked of a base and that it, `known`, has not."""
    for name in [name for name in SIZES if name in given(settings) and not settings.resume]:
        asked, has = getattr(settings, name), known.get(name, "no such size")
        near = name == "latent_rate" and name in known and 0.7 < asked / has < 1.42  # as near as sample rates allow
        if not near and asked != has:
            raise InputError(f"{flag(name)} {asked}: the base {settings.base} has {has}; leave it out")


def check(settings: CodecSettings) -> None:
    """An InputError for a value that cannot work, with its flag."""
    config.check(settings)
    if settings.channels == 2 and not 0 < settings.side_dim < settings.latent_dim:
        raise InputError(f"--side-dim {settings.side_dim}: choose from 1 to {settings.latent_dim - 1}")
