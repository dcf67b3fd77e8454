"""How to train an adapter: the settings, their presets and memory profiles, what may change when a run goes on."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from ... import config
from ...config import (
    NotNegative,
    Positive,
    Seed,
    ShareBelowOne,
    continued,
    flag,
    given,
    restored,
    with_rate,
)
from ...errors import InputError

PRESETS = Path(__file__).with_name("presets")
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
MLP = ("gate_proj", "up_proj", "down_proj")
TARGETS = {"attention": ATTENTION, "attention+mlp": ATTENTION + MLP}
FEW_SONGS, EPOCHS_OF_FEW, EPOCHS = 20, 800, 500  # the tutorial's: the fewer songs, the more often each


@dataclass(frozen=True)
class TrainSettings:
    """How to train. What is None comes from --memory, else from the preset, else from DEFAULTS."""

    preset: str | None = None
    """balanced (the default), quick, best, or a JSON file of your own with any of these; --memory and flags win over
    it."""
    memory: Literal[8, 12, 16, 24] | None = None
    """Fit a GPU of so many GB. This decides rank, targets, optimizer, crop and checkpointing in place of the preset;
    flags you give win over both."""
    kind: Literal["lora", "dora", "lokr"] | None = None
    """What is trained: lora, dora (a LoRA that learns the lengths of the weights apart) or the far smaller lokr."""
    rank: Positive[int] | None = None
    """Rank of a LoRA or DoRA: a higher one can learn more, and forget more. LoKr: see --lokr-factor."""
    alpha: Positive[float] | None = None
    """Scale; twice the rank where nothing says otherwise (LoKr: the rank)."""
    dropout: ShareBelowOne | None = None
    """Dropout within a LoRA or DoRA."""
    lokr_factor: int | None = None
    """LoKr: the factor that splits the weights; -1 splits them as evenly as possible. Its strength is alpha / rank."""
    targets: Literal["attention", "attention+mlp"] | None = None
    """Which weights of the transformer get an adapter."""
    ranks: Path | None = None
    """A file of woodshed audio ace estimate: these modules get an adapter, each of its own rank and alpha."""
    epochs: Positive[int] | None = None
    """Passes over the songs; 800 for up to 20 songs, 500 for more, where nothing says otherwise."""
    max_steps: Positive[int] | None = None
    """Stop after so many steps."""
    batch_size: Positive[int] | None = None
    """Crops that go through the model at once."""
    gradient_accumulation: Positive[int] | None = None
    """Batches that make one step together."""
    learning_rate: Positive[float] | None = None
    """The rate after the warm-up; of prodigy, which finds its own, 1."""
    optimizer: Literal["adamw", "adamw8bit", "adafactor", "prodigy"] | None = None
    """adamw8bit and adafactor need less memory; prodigy finds its rate by itself."""
    schedule: Literal["cosine", "linear", "constant"] | None = None
    """How the rate goes on after the warm-up (a tenth of the run, at most 100 steps)."""
    weight_decay: NotNegative[float] | None = None
    """Pulls the adapter towards nothing."""
    max_grad_norm: Positive[float] | None = None
    """Longer gradients are cut to this."""
    timesteps: Literal["corrected", "turbo"] | None = None
    """corrected: drawn as the base was trained; turbo: the eight that a turbo model plays with."""
    uniform_share: ShareBelowOne | None = None
    """Corrected: the share of timesteps drawn uniformly, since playing begins at pure noise, otherwise rarely drawn."""
    condition_dropout: ShareBelowOne | None = None
    """How often the prompt is left out, for guidance; 0.15, and 0 for a turbo base, which plays without guidance."""
    crop_seconds: NotNegative[float] | None = None
    """Of each song a stretch of this length is learned at a time, another each time; 0 takes songs whole."""
    gradient_checkpointing: bool | None = None
    """Half of the memory, a quarter slower."""
    validation: ShareBelowOne | None = None
    """The part of the songs that is not learned but measured (0.1 by default); none of fewer than four."""
    save_epochs: Positive[int] | None = None
    """Validate and save every so many epochs; by default ten times in a run."""
    keep_checkpoints: Positive[int] | None = None
    """Checkpoints to keep, the best and the last among them (10 by default)."""
    takes: NotNegative[int] | None = None
    """Sound to render with every save, always from the same seeds (1 by default); 0 for none."""
    take_seconds: Positive[float] | None = None
    """Length of such a take (30 by default)."""
    seed: Seed | None = None
    """Seeds the adapter, the order of the songs, crops, noise and dropout (0 by default)."""
    device: str | None = None
    """Where to train: cpu, cuda, or auto (the default)."""
    precision: Literal["auto", "float32", "bfloat16"] | None = None
    """What to compute in; auto (the default): bfloat16 on a GPU, float32 on a CPU. The adapter itself is float32."""
    threads: Positive[int] | None = None
    """CPU threads; by default as many as there are cores with nothing to do."""
    resume: bool = False
    """Go on with the run in --out, with its settings."""


# What is meant where nobody says. The fields are None then, so that what is given at its default counts as given.
DEFAULTS = {"preset": "balanced", "validation": 0.1, "keep_checkpoints": 10, "takes": 1, "take_seconds": 30.0}
DEFAULTS |= {"seed": 0, "device": "auto", "precision": "auto"}

# What may change when a run goes on: its length, its rate, and what leaves the losses alone.
FREE = {"epochs", "max_steps", "learning_rate", "save_epochs", "keep_checkpoints", "takes", "take_seconds"}
FREE |= {"threads", "gradient_checkpointing"}
LIMITS = ("epochs", "max_steps")
BY_PRESET = ("preset", "memory", "resume")
BY_RANKS = ("rank", "alpha", "targets")  # what a file of ranks says itself


def resolve(settings: TrainSettings, *, songs: int, turbo: bool) -> TrainSettings:
    """Fill in what was not set, from the memory profile, the preset and what is learned; and check it."""
    config.check(settings)
    asked = given(settings)
    preset = settings.preset or DEFAULTS["preset"]
    chosen = DEFAULTS | read_preset(DEFAULTS["preset"]) | read_preset(preset)
    memory = asked.get("memory", chosen.get("memory"))
    profile = {} if memory is None else read_preset(f"memory-{memory}")
    if asked.keys() & LIMITS:
        chosen = {name: value for name, value in chosen.items() if name not in LIMITS}
    if "rank" in profile and not asked.keys() & {"rank", "alpha"}:
        chosen.pop("alpha", None)  # it belongs to the preset's own rank
    chosen |= {name: value for name, value in profile.items() if name not in asked} | asked
    for name in BY_RANKS:
        if "ranks" in chosen and name in asked:
            raise InputError(f"{flag(name)} {asked[name]}: --ranks {chosen['ranks']} says it; leave out one of the two")
    if isinstance(chosen["learning_rate"], dict) and chosen["optimizer"] == "prodigy":
        chosen["learning_rate"] = 1.0
    chosen = with_rate(chosen, preset, chosen["kind"])
    chosen.setdefault("alpha", chosen["rank"] * (1 if chosen["kind"] == "lokr" else 2))
    chosen.setdefault("condition_dropout", 0.0 if turbo else 0.15)
    if "max_steps" not in chosen:
        chosen.setdefault("epochs", EPOCHS_OF_FEW if songs <= FEW_SONGS else EPOCHS)
    settings = _placed(replace(settings, **chosen))
    check(settings)
    return settings


def resumed(asked: TrainSettings, saved: dict, out: Path) -> TrainSettings:
    """The settings of a run that goes on: those saved with it, and what is given now and may change.

    What would make it another run is refused by name.
    """
    was, now = _placed(restored(TrainSettings, saved, out)), given(_placed(asked))
    for name in ("preset", "memory"):
        if now.get(name, getattr(was, name)) != getattr(was, name):
            told = f"{flag(name)} {now[name]}: the run has its settings, from {getattr(was, name)}"
            raise InputError(f"{told}; leave it out, or begin another run")
    now = {name: value for name, value in now.items() if name not in BY_PRESET}
    settings = continued(was, now, out, free=FREE, limits=LIMITS)
    check(settings)
    return settings


def _placed(settings: TrainSettings) -> TrainSettings:
    """With the file of ranks from the root on: a run that goes on reads it again, wherever that is called."""
    return replace(settings, ranks=settings.ranks and Path(settings.ranks).resolve())


def as_facts(settings: TrainSettings) -> dict:
    """The settings as they stand in run.json."""
    values = asdict(settings)
    return values | {"ranks": values["ranks"] and str(values["ranks"]), "resume": False}


def read_preset(name: str) -> dict:
    """The settings of a preset: one of ours, or a JSON file; null says nothing. Raises InputError."""
    return config.read_preset(name, PRESETS, TrainSettings, unnamed="memory-")


def check(settings: TrainSettings) -> None:
    """An InputError for a value that cannot work, with its flag."""
    config.check(settings)
    if settings.lokr_factor < 2 and settings.lokr_factor != -1:
        raise InputError(f"--lokr-factor {settings.lokr_factor}: give -1 (as even as can be), or 2 or more")
