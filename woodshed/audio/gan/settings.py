"""The settings of the verbs, and what may change when a run goes on."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from ... import config
from ...config import Allowed, Positive, Share, ShareBelowOne, continued, flag, given, restored
from ...errors import InputError

BaseChannels = Literal[24, 64, 128, 192, 256]
Precision = Literal["auto", "float32", "bfloat16"]
LEARNING_RATES = {24: 2e-4, 64: 2e-4, 128: 4e-5, 192: 3e-5, 256: 2e-5}
SIZES = ", ".join(map(str, LEARNING_RATES))
FINE_TUNING = 0.5  # of the rate that the base had
SECONDS_OF_A_WINDOW = {24: 6.0, 64: 6.0}  # larger models: LONG
LONG = 24.0
SMALLEST_WINDOW = 16  # latents
MOST_SECONDS = 4 * 3600
MOST_TRUNCATION = 4
MOST_TAKES = 1000
MOST_SAMPLES = 64  # at a checkpoint: of so many windows the latents are compared with the recordings'
TorchSeed = Annotated[int, Allowed(0, 2**63 - 1)]
Truncation = Annotated[float, Allowed(above=0, most=MOST_TRUNCATION)]


@dataclass(frozen=True)
class GanSettings:
    """How to train a latent GAN."""

    base_channels: Annotated[BaseChannels, Allowed(2, hint=f"such as {SIZES}")] | None = None
    """The size: 24 and 64 can be trained on a CPU, 128 to 256 want a GPU and many hours of audio. By default that of
    --base, or 64."""
    window: int | None = None
    """Latents that the critic hears at once, a power of two; by default about 6 s (24 and 64) or 24 s. Recordings that
    are shorter are left out."""
    batch_size: Positive[int] = 16
    """Windows in a step."""
    learning_rate: Positive[float] | None = None
    """By default chosen by the size; on a --base half of its last rate."""
    epochs: Positive[float] | None = None
    """Passes over the recordings."""
    max_steps: Positive[int] | None = None
    """Stop after so many steps (100,000 where no limit is given)."""
    max_minutes: Positive[float] | None = None
    """Stop after so many minutes of training, over all restarts together."""
    base: Path | None = None
    """Go on from this run, with all that it knows, on these recordings."""
    rehearse: ShareBelowOne = 0.0
    """The share of windows that come from the recordings of the --base, so that they are not forgotten; try 0.2."""
    hold_out: ShareBelowOne = 0.1
    """The share of recordings (of five or more) that is not learned: woodshed audio gan evaluate judges by them."""
    save_steps: Positive[int] | None = None
    """Save, listen and check every so many steps; by default every tenth of the run, at least every ten minutes."""
    samples: Annotated[int, Allowed(2, MOST_SAMPLES, hint="two at least, to be compared")] = 4
    """Trials at each checkpoint: short takes, to be heard and compared."""
    keep_checkpoints: Positive[int] = 3
    """Checkpoints to keep."""
    latents: Path | None = None
    """Where latents are kept, so that other runs find them; by default OUT/latents."""
    precision: Precision = "auto"
    """bfloat16 in the networks where it is fast (auto: on a GPU)."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda."""
    seed: TorchSeed = 0
    """Seeds the weights, the windows and the coordinates."""
    threads: Positive[int] | None = None
    """CPU threads; by default as many as there are cores with nothing to do."""
    resume: bool = False
    """Go on with the run in --out, with its settings."""


@dataclass(frozen=True)
class GenerateSettings:
    """What to play."""

    seconds: Annotated[float, Allowed(above=0, most=MOST_SECONDS)] = 60.0
    """How long each take is, four hours at most; a loop comes as near as whole half windows allow, two or more."""
    takes: Annotated[int, Allowed(1, MOST_TAKES)] = 4
    """How many to play."""
    truncation: Truncation = 2.0
    """How far a take may stray from what is most usual: 0.5 is safe and much alike, 3 is wild."""
    seed: TorchSeed | None = None
    """The first take's seed; the others count on from it. By default a new one; every take stores its own."""
    style_seed: TorchSeed | None = None
    """One style for all takes; by default each has its own, from its seed."""
    form: str = "A"
    """Sections by letters: in AABA the first comes back, twice. All have the same length in whole halves of a window,
    two at least, so that a take is about as long as was asked."""
    vary: Share = 0.2
    """How much of a section is new when it comes back: 0 hardly anything, 1 all of it."""
    loop: bool = False
    """Takes whose end leads back to their beginning, to be repeated without a seam."""
    checkpoint: int | None = None
    """Play one of the run's checkpoints instead of its end."""

    def __post_init__(self):
        config.check(self)
        if not re.fullmatch("[A-Za-z]{1,64}", self.form):
            raise InputError(f"--form {self.form!r}: give a letter for each section, up to 64, such as AABA")


@dataclass(frozen=True)
class EvaluateSettings:
    """On what to judge a run."""

    clips: Annotated[int, Allowed(2, MOST_TAKES)] = 16
    """Clips of each set; as many takes are played."""
    seconds: Annotated[float, Allowed(1, 600)] = 12.0
    """How long each is."""
    truncation: Truncation = 2.0
    """That of the takes."""
    seed: TorchSeed = 0
    """Seeds the takes, the random latents and which stretches of the recordings are taken."""
    checkpoint: int | None = None
    """Judge one of the run's checkpoints instead of its end."""

    def __post_init__(self):
        config.check(self)


LIMITS = ("epochs", "max_steps", "max_minutes")
FREE = {*LIMITS, "learning_rate", "save_steps", "samples", "keep_checkpoints", "threads", "device", "latents", "resume"}
DEFAULT_STEPS = 100_000  # where nothing says how long


def resolve(settings: GanSettings, *, latent_rate: float, base: dict | None) -> GanSettings:
    """Fill in what was not set, and check it. `base` says base_channels and window of the base, and its last rate."""
    check(settings)
    if settings.rehearse and settings.base is None:
        raise InputError(f"--rehearse {settings.rehearse}: a new model has nothing to rehearse; add --base")
    if base is not None:
        settings = _as_base(settings, base)
    channels = settings.base_channels or 64
    window = settings.window or nearest_power(SECONDS_OF_A_WINDOW.get(channels, LONG) * latent_rate)
    rate = settings.learning_rate
    if rate is None and base is not None:
        rate = FINE_TUNING * base["rate"]
    elif rate is None:
        if channels not in LEARNING_RATES:
            told = f"--base-channels {channels}: no rate is known for it"
            raise InputError(f"{told}; choose from {SIZES}, or give a --learning-rate")
        rate = LEARNING_RATES[channels]
    length = {} if any(getattr(settings, name) for name in LIMITS) else {"max_steps": DEFAULT_STEPS}
    return replace(settings, base_channels=channels, window=window, learning_rate=rate, **length)


def check(settings: GanSettings) -> None:
    """An InputError for a value that cannot work, with its flag."""
    config.check(settings)
    window = settings.window
    if window is not None and (window < SMALLEST_WINDOW or window & (window - 1)):
        raise InputError(f"--window {window}: give a power of two, {SMALLEST_WINDOW} or more")
    if settings.base_channels is not None and settings.base_channels % 2:
        raise InputError(f"--base-channels {settings.base_channels}: choose from {SIZES}, or give another even number")


def resumed(asked: GanSettings, saved: dict, out: Path) -> GanSettings:
    """The settings of a run that goes on: those saved with it, and what is given now; what would make another run of
    it is refused by name. A setting counts as given where it is not the default.
    """
    was = restored(GanSettings, saved, out)
    settings = replace(continued(was, given(asked), out, free=FREE, limits=LIMITS), resume=False)
    check(settings)
    return settings


def to_json(settings: GanSettings) -> dict:
    """The settings for run.json; `base` and `latents` stand elsewhere in it, relative to the run."""
    return {name: value for name, value in vars(settings).items() if name not in ("base", "latents", "resume")}


def _as_base(settings: GanSettings, base: dict) -> GanSettings:
    for name in ("base_channels", "window"):
        asked = getattr(settings, name)
        if asked is not None and asked != base[name]:
            reason = f"the base {settings.base} was trained with {base[name]}"
            raise InputError(f"{flag(name)} {asked}: {reason}; leave it out, or choose another --base")
    return replace(settings, base_channels=base["base_channels"], window=base["window"])


def nearest_power(frames: float) -> int:
    """The window nearest to so many latents."""
    return max(SMALLEST_WINDOW, 2 ** round(math.log2(frames)))
