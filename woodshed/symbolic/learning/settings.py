"""How to train: the settings, their presets, and what may change when a run goes on."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from ... import config
from ...config import (
    Allowed,
    NotNegative,
    Positive,
    Seed,
    ShareBelowOne,
    continued,
    flag,
    given,
    read_preset,
    restored,
    with_rate,
)
from ...errors import InputError, MissingExtra

PRESETS = Path(__file__).with_name("presets")
SHORTEST = 16  # ids in a row: fewer may hold no music at all
Adapter = Literal["lora", "ia3", "none"]
Tracker = Literal["none", "wandb", "trackio", "tensorboard"]


@dataclass(frozen=True)
class TrainSettings:
    """How to train. What is None comes from the preset, or else from DEFAULTS."""

    model: str | None = None
    """The architecture of a new model: decoder (a stock Llama; the default), lstm, music_transformer or music_gpt2.
    This, --size or --model-args alone begin from nothing."""
    size: str | None = None
    """The size of a new model, by its parameters: 6m by default; a decoder is 2m, 6m, 12m, 25m, 50m or 150m, others
    fewer."""
    model_args: tuple[str, ...] = ()
    """More settings of a new model, as JSON or name=value: hidden_size=256."""
    base: str | None = "auto"
    """Start from this: a base model by name (piano), a run, a Hugging Face folder or id. "auto" takes the base model
    that has the corpus's tokens, "none" (and any setting of a new model) a new one."""
    preset: str | None = None
    """auto (the default), quick, balanced, best (their rate goes by what is trained), the recipe of a model
    (music_gpt2, music_transformer), or a JSON file of your own with any of these settings; flags win over it, and
    --max-minutes, --max-steps or --epochs alone say how long. With --resume only what its file says counts."""
    epochs: Positive[float] | None = None
    """How many times to go through your music (5 by default, where nothing else says how long). Short pieces come up a
    little more often. Without effect where --max-steps is given."""
    batch_size: Positive[int] | None = None
    """Rows that go through the model at once (4 by default)."""
    learning_rate: Positive[float] | None = None
    """The rate after the warm-up; flat until the last fifth of the run, then falling to 0. By default 2e-3 for LoRA,
    1e-2 for IA3, 5e-4 for all weights, 1.5e-3 for a new model."""
    adapter: Adapter | None = None
    """What is trained on a base, which itself stays as it is: lora (the default), or the far smaller ia3. With none all
    of its weights are trained."""
    lora_rank: Annotated[int, Allowed(1, hint="--adapter none trains all weights")] | None = None
    """Rank of the LoRA adapter (8 by default): a higher one can learn more, and forget more."""
    lora_alpha: Positive[float] | None = None
    """Scale of the LoRA adapter; twice the rank where nothing says otherwise."""
    lora_dropout: ShareBelowOne | None = None
    """Dropout within the LoRA adapter (0.1 by default)."""
    lora_args: tuple[str, ...] = ()
    """Any other field of peft's LoraConfig, as JSON or name=value."""
    load_in_4bit: bool | None = None
    """QLoRA: keep the weights of the base in 4 bits, in a sixth of their memory, while its adapter is trained."""
    gradient_accumulation: Positive[int] | None = None
    """Batches that make one step together (1 by default)."""
    max_seq_len: Annotated[int, Allowed(SHORTEST)] | None = None
    """Ids in a row (2048 by default, fewer where the base takes no more); an id is a word of the music, four to a note
    or so."""
    max_steps: Positive[int] | None = None
    """Stop after so many steps."""
    max_minutes: Positive[float] | None = None
    """Stop after so many minutes of training, over all restarts together."""
    warmup: NotNegative[float] | None = None
    """The part of the run in which the rate rises (0.02 by default); 1 or more counts steps."""
    eval_steps: Positive[int] | None = None
    """Validate and save every so many steps; by default often at first, then every tenth of the run and at least every
    ten minutes, for a tenth of the time at most."""
    eval_rows: Positive[int] | None = None
    """Rows of the validation split to evaluate (64 by default), always the same."""
    patience: NotNegative[int] | None = None
    """After so many evaluations since the best (2 by default), go back to that and on at a quarter of the rate; where
    that does not help either, the rate falls to nothing and the run ends. Without effect at 0, or with a
    lr_scheduler_type."""
    keep_checkpoints: Positive[int] | None = None
    """Checkpoints to keep (3 by default), the best and the last among them."""
    seed: Seed | None = None
    """Seeds the weights, the order of the rows and the dropout (0 by default)."""
    threads: Positive[int] | None = None
    """CPU threads; by default as many as there are cores with nothing to do."""
    tracker: Tracker | None = None
    """Also show settings, curves and sample takes in Weights & Biases (offline, unless the environment says
    WANDB_MODE=online), Trackio or TensorBoard; none by default."""
    project: str | None = None
    """The tracker's project (woodshed by default)."""
    run_name: str | None = None
    """The run's name in the tracker; by default that of --out."""
    training_args: tuple[str, ...] = ()
    """Any field of Hugging Face's TrainingArguments, as JSON or name=value: weight_decay=0.1."""
    resume: bool = False
    """Go on with the run in --out, with its settings."""


# What is meant where nobody says. The fields are None then, so that what is given at its default counts as given.
DEFAULTS = {"model": "decoder", "size": "6m", "preset": "auto", "load_in_4bit": False, "gradient_accumulation": 1}
DEFAULTS |= {"max_seq_len": 2048, "warmup": 0.02, "eval_rows": 64, "patience": 2, "keep_checkpoints": 3, "seed": 0}
DEFAULTS |= {"tracker": "none", "project": "woodshed"}

# What may change when a run goes on: its length, its rate, and what leaves the losses alone.
LIMITS = ("epochs", "max_steps", "max_minutes")
TRACKING = {"tracker", "project", "run_name"}
FREE = {*LIMITS, *TRACKING, "preset", "learning_rate", "warmup", "eval_steps", "patience"}
FREE |= {"keep_checkpoints", "threads", "resume"}
LORA = ("lora_rank", "lora_alpha", "lora_dropout")
NEW = ("model", "size", "model_args")  # what only a new model can have
ADAPTER = ("adapter", *LORA, "lora_args")
# TrainingArguments that have a flag of their own.
FLAGS = {
    "output_dir": "--out",
    "per_device_train_batch_size": "--batch-size",
    "num_train_epochs": "--epochs",
    "gradient_accumulation_steps": "--gradient-accumulation",
    "warmup_steps": "--warmup",
    "save_steps": "--eval-steps",
    "save_total_limit": "--keep-checkpoints",
    "report_to": "--tracker",
    "run_name": "--run-name",
    "project": "--project",
    "resume_from_checkpoint": "--resume",
} | {name: flag(name) for name in ("learning_rate", "max_steps", "eval_steps", "seed")}
# What is decided elsewhere than in a new model's configuration.
MODEL_FLAGS = {"name": "--model", "size": "--size", "max_seq_len": "--max-seq-len"}
MODEL_FLAGS |= {"vocab_size": "--tokenizer of woodshed prepare"}


def resolve(settings: TrainSettings) -> TrainSettings:
    """Fill from the preset what was not set, then from DEFAULTS, and check the values."""
    config.check(settings)
    asked, new = given(settings), settings.base is None
    if _based(settings) and (for_new := asks_for_new(settings)):
        raise InputError(f"{flag(for_new)} is for a new model; --base {settings.base} brings its own")
    chosen = _preset(settings.preset or DEFAULTS["preset"], new=new, adapter="none" if new else settings.adapter)
    unfit = (*(LIMITS if asked.keys() & LIMITS else ()), *_of_another_model(settings, chosen))
    chosen = {name: value for name, value in chosen.items() if name not in unfit}
    settings = replace(settings, **DEFAULTS | chosen | asked)
    if settings.lora_rank and settings.lora_alpha is None:
        settings = replace(settings, lora_alpha=2 * settings.lora_rank)
    check(settings)
    return settings


def resumed(asked: TrainSettings, saved: dict, out: Path) -> TrainSettings:
    """The settings of a run that goes on: those saved with it, and what is given now.

    What would change its losses is refused by name. A setting counts as given where it is not the default.
    """
    was, now = restored(TrainSettings, DEFAULTS | saved, out), given(asked)
    if "preset" in now:
        own = with_rate(_of_preset(asked.preset), asked.preset, "new" if was.base is None else was.adapter)
        limited = {name for name in LIMITS if getattr(was, name) is not None}
        ended = LIMITS if now.keys() & set(LIMITS) or not limited <= own.keys() else ()  # by something else
        chosen = ("base", *NEW, *ADAPTER, *ended)  # once and for all, or just now
        now = {name: value for name, value in own.items() if name not in chosen} | now
    settings = replace(continued(was, now, out, free=FREE, limits=LIMITS), resume=False)
    check(settings)
    return settings


def with_model_of_preset(settings: TrainSettings) -> TrainSettings:
    """The settings with what the preset says of the model, its base and its rows, where they say nothing else of it.

    Where they name a base, nothing of a new model.
    """
    own, asked = _of_preset(settings.preset or DEFAULTS["preset"]), given(settings)
    names = {"base", "max_seq_len", *NEW} & own.keys() - asked.keys() - {*_of_another_model(settings, own)}
    return replace(settings, **{name: own[name] for name in names})


def asks_for_new(settings: TrainSettings) -> str:
    """The first setting that only a new model can have; empty where there is none."""
    asked = given(settings)
    return next((name for name in NEW if name in asked), "")


def _of_another_model(settings: TrainSettings, preset: dict) -> tuple[str, ...]:
    """What a preset says of a new model and these settings have no use for: over a base, or where they name another."""
    if _based(settings):
        return NEW
    own = preset.get("model", settings.model)
    return ("size", "model_args") if settings.model not in (None, own) else ()


def _based(settings: TrainSettings) -> bool:
    """Whether they name what to start from."""
    return settings.base not in (None, "none", "auto")


def _of_preset(name: str) -> dict:
    """What the file of a preset says, checked."""
    return read_preset(name, PRESETS, TrainSettings)


def _preset(name: str, *, new: bool, adapter: str | None) -> dict:
    """The settings of a preset for a `new` model or for a base with an adapter (None: the preset's own)."""
    preset = _of_preset(DEFAULTS["preset"]) | _of_preset(name)
    preset["adapter"] = adapter or preset["adapter"]
    if preset["adapter"] != "lora":
        preset = {key: value for key, value in preset.items() if key not in LORA}
    return with_rate(preset, name, "new" if new else preset["adapter"])


def recomputes(training_args: Sequence[str]) -> bool:
    """Whether --training-args ask for gradient checkpointing, by its old name or its new one."""
    asked = config.read_fields(tuple(training_args), None, "--training-args")
    return bool(asked.get("gradient_checkpointing") or asked.get("activation_checkpointing"))


def lighter(settings: TrainSettings, *first: str) -> str:
    """What to give so that a step takes less memory: `first` and what does so with the same rows at once."""
    ways = [*first, f"a shorter --max-seq-len than {settings.max_seq_len}"]
    if settings.adapter != "none" and not settings.load_in_4bit:
        ways.append("--load-in-4bit")
    if settings.base is None:
        ways.append("a smaller --size")
    if not recomputes(settings.training_args):
        ways.append("--training-args gradient_checkpointing=true")
    *others, last = ways
    return ", ".join([*others, "or " * bool(others) + last])


def check(settings: TrainSettings) -> None:
    """An InputError for a value that cannot work, with its flag."""
    config.check(settings)
    _check_adapter(settings)
    if settings.tracker != "none" and not importlib.util.find_spec(settings.tracker):
        raise MissingExtra(settings.tracker, settings.tracker)


def _check_adapter(settings: TrainSettings) -> None:
    new, lora = settings.base is None, settings.adapter == "lora"
    if new and (unfit := [name for name in ADAPTER if getattr(settings, name) not in (None, "none", ())]):
        raise InputError(f"{flag(unfit[0])}: a new model has nothing to adapt; add --base, or leave it out")
    if settings.load_in_4bit and settings.adapter == "none":
        why = "a new model has no weights yet" if new else "weights in 4 bits cannot be trained"
        raise InputError(f"--load-in-4bit: {why}; train an adapter on a --base, or leave it out")
    for name in ADAPTER[1:]:
        if getattr(settings, name) not in (None, ()) and not lora:
            raise InputError(f"{flag(name)} {getattr(settings, name)}: that is for --adapter lora; leave it out")
    if settings.load_in_4bit and not importlib.util.find_spec("bitsandbytes"):
        raise MissingExtra("bitsandbytes", "qlora")
