"""How to train an adapter: the settings, their presets and memory profiles, what may change when a run goes on."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

from ...config import continued, flag, given, refuse_not_positive, refuse_unknown, refuse_words
from ...errors import InputError
from ...files import read_object
from ...jobs import check_seed

PRESETS = Path(__file__).with_name("presets")
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
MLP = ("gate_proj", "up_proj", "down_proj")
TARGETS = {"attention": ATTENTION, "attention+mlp": ATTENTION + MLP}
FEW_SONGS, EPOCHS_OF_FEW, EPOCHS = 20, 800, 500  # the tutorial's: the fewer songs, the more often each


@dataclass(frozen=True)
class TrainSettings:
    """How to train. What is None comes from --memory, else from the preset."""

    preset: str = "balanced"
    """quick, balanced, best, or a JSON file of your own with any of these settings; flags win over it."""
    memory: Literal[8, 12, 16, 24] | None = None
    """Fit a GPU of so many GB: rank, targets, optimizer, crop and checkpointing; flags win over it."""
    kind: Literal["lora", "dora", "lokr"] | None = None
    """What is trained: lora, dora (a LoRA that learns the lengths of the weights apart) or the far smaller lokr."""
    rank: int | None = None
    """Rank of a LoRA or DoRA: the more, the more it can learn, and forget. LoKr: see --lokr-factor."""
    alpha: float | None = None
    """Scale; twice the rank where nothing says otherwise (LoKr: the rank)."""
    dropout: float | None = None
    """Dropout within a LoRA or DoRA."""
    lokr_factor: int | None = None
    """LoKr: into what the weights are split; with -1 into halves as even as can be, where rank and alpha do nothing."""
    targets: Literal["attention", "attention+mlp"] | None = None
    """Which weights of the transformer get an adapter."""
    ranks: Path | None = None
    """A file of woodshed audio ace estimate: these modules get an adapter, each of its own rank."""
    epochs: int | None = None
    """Passes over the songs; 800 for up to 20 songs, 500 for more, where nothing says otherwise."""
    max_steps: int | None = None
    """Stop after so many steps."""
    batch_size: int | None = None
    """Crops that go through the model at once."""
    gradient_accumulation: int | None = None
    """Batches that make one step together."""
    learning_rate: float | None = None
    """The rate after the warm-up; of prodigy, which finds its own, 1."""
    optimizer: Literal["adamw", "adamw8bit", "adafactor", "prodigy"] | None = None
    """adamw8bit and adafactor need less memory; prodigy finds its rate by itself."""
    schedule: Literal["cosine", "linear", "constant"] | None = None
    """How the rate goes on after the warm-up (a tenth of the run, at most 100 steps)."""
    weight_decay: float | None = None
    """Pulls the adapter towards nothing."""
    max_grad_norm: float | None = None
    """Longer gradients are cut to this."""
    timesteps: Literal["corrected", "turbo"] | None = None
    """corrected: drawn as the base was trained; turbo: the eight that a turbo model plays with."""
    uniform_share: float | None = None
    """Corrected: the part of timesteps drawn from all alike, since playing begins at pure noise, which is else rare."""
    condition_dropout: float | None = None
    """How often the prompt is left out, for guidance; 0.15, and 0 for a turbo base, which plays without guidance."""
    min_snr: float | None = None
    """Weigh nearly clean timesteps down to this ratio of signal to noise; 0 weighs all alike."""
    crop_seconds: float | None = None
    """Of each song a stretch of this length is learned at a time, another each time; 0 takes songs whole."""
    gradient_checkpointing: bool | None = None
    """Half of the memory, a quarter slower."""
    validation: float = 0.1
    """The part of the songs that is not learned but measured; none of fewer than four."""
    save_epochs: int | None = None
    """Validate and save every so many epochs; by default ten times in a run."""
    keep_checkpoints: int = 10
    """Checkpoints to keep, the best and the last among them."""
    takes: int = 1
    """Sound to render with every save, always from the same seeds; 0 for none."""
    take_seconds: float = 30.0
    """Length of such a take."""
    seed: int = 0
    """Seeds the adapter, the order of the songs, crops, noise and dropout."""
    device: str = "auto"
    """Where to train: cpu, cuda, or auto."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What to compute in; auto: bfloat16 on a GPU, float32 on a CPU. The adapter itself is float32."""
    threads: int | None = None
    """CPU threads; by default as many as there are cores with nothing to do."""
    resume: bool = False
    """Go on with the run in --out, with its settings."""


# What may change when a run goes on: its length, its rate, and what leaves the losses alone.
FREE = {"epochs", "max_steps", "learning_rate", "save_epochs", "keep_checkpoints", "takes", "take_seconds"}
FREE |= {"threads", "resume", "preset", "memory", "gradient_checkpointing"}
LIMITS = ("epochs", "max_steps")
BY_PRESET = ("preset", "memory", "resume")
POSITIVE = ("rank", "alpha", "epochs", "max_steps", "batch_size", "gradient_accumulation", "learning_rate")
POSITIVE += ("max_grad_norm", "save_epochs", "keep_checkpoints", "take_seconds", "threads")
SHARES = ("dropout", "condition_dropout", "uniform_share", "validation")


@dataclass(frozen=True)
class Progress:
    """One step of training, the `validation` at a save, or (`message`) something worth knowing."""

    step: int = 0
    steps: int = 0
    epoch: float = 0.0
    loss: float = math.nan  # mean squared error of the velocity
    learning_rate: float = math.nan
    steps_per_second: float = math.nan
    seconds_left: float = math.nan
    validation: dict[str, float] = field(default_factory=dict)  # loss, and training_loss measured alike
    message: str = ""


def resolve(settings: TrainSettings, *, songs: int, turbo: bool) -> TrainSettings:
    """Fill in what was not set, from the memory profile, the preset and what is learned; and check it."""
    _check_choices(settings)
    asked = given(settings)
    chosen = read_preset("balanced") | ({} if settings.preset == "balanced" else read_preset(settings.preset))
    memory = asked.get("memory", chosen.get("memory"))
    profile = {} if memory is None else read_preset(f"memory-{memory}")
    if asked.keys() & LIMITS:
        chosen = {name: value for name, value in chosen.items() if name not in LIMITS}
    chosen |= {name: value for name, value in profile.items() if name not in asked} | asked
    kind, rate = chosen["kind"], chosen["learning_rate"]
    if isinstance(rate, dict):
        chosen["learning_rate"] = 1.0 if chosen["optimizer"] == "prodigy" else rate[kind]
    chosen.setdefault("alpha", chosen["rank"] * (1 if kind == "lokr" else 2))
    chosen.setdefault("condition_dropout", 0.0 if turbo else 0.15)
    if "max_steps" not in chosen:
        chosen.setdefault("epochs", EPOCHS_OF_FEW if songs <= FEW_SONGS else EPOCHS)
    settings = _placed(replace(settings, **chosen))
    check(settings)
    return settings


def resumed(asked: TrainSettings, saved: dict, out: Path) -> TrainSettings:
    """The settings of a run that goes on: those saved with it, and what is given now and may change.

    What would make it another run is refused by name. A setting counts as given where it is not the default.
    """
    was, now = _placed(TrainSettings(**saved)), given(_placed(asked))
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
    """The settings of a preset: one of ours, or a JSON file."""
    shipped = {path.stem: path for path in PRESETS.glob("*.json")}
    path = shipped.get(name, Path(name))
    try:
        preset = read_object(path)
    except (OSError, ValueError) as error:
        choice = ", ".join(sorted(name for name in shipped if not name.startswith("memory-")))
        raise InputError(f"--preset {name}: {error}; choose from {choice}, or give a JSON file of settings") from None
    refuse_unknown(preset, TrainSettings, f"--preset {name}: {TrainSettings.__name__}")
    refuse_words(preset, TrainSettings, f"--preset {name}")
    return preset


def check(settings: TrainSettings) -> None:
    """An InputError for a value that cannot work, with its flag."""
    _check_choices(settings)
    refuse_not_positive(settings, POSITIVE)
    check_seed(settings.seed)
    for name in SHARES:
        if not 0 <= getattr(settings, name) < 1:
            raise InputError(f"{flag(name)} {getattr(settings, name)}: give 0 or more, less than 1")
    for name in ("crop_seconds", "min_snr", "weight_decay", "takes"):
        if not getattr(settings, name) >= 0:
            raise InputError(f"{flag(name)} {getattr(settings, name)}: give 0 or more")
    if settings.lokr_factor < 2 and settings.lokr_factor != -1:
        raise InputError(f"--lokr-factor {settings.lokr_factor}: give -1 (as even as can be), or 2 or more")


def _check_choices(settings: TrainSettings) -> None:
    for name in get_type_hints(TrainSettings):
        choice, value = choices(name), getattr(settings, name)
        if choice and value is not None and value not in choice:
            raise InputError(f"{flag(name)} {value}: choose from {', '.join(map(str, choice))}")


def choices(name: str) -> tuple:
    """The values that a setting can have; nothing where they are not counted."""
    hint = get_type_hints(TrainSettings)[name]
    inner = (hint, *get_args(hint))
    return next((get_args(part) for part in inner if get_origin(part) is Literal), ())
