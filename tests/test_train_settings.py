"""The settings of train(): presets, flags, what cannot work, and what may change when a run goes on."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
from toys import ADAPTER, TINY, ToyCorpus

from woodshed.config import given, read_fields
from woodshed.errors import InputError, MissingExtra, RunError
from woodshed.symbolic.learning.settings import (
    DEFAULTS,
    FREE,
    PRESETS,
    TrainSettings,
    asks_for_new,
    check,
    resolve,
    resumed,
    with_model_of_preset,
)
from woodshed.symbolic.learning.train import train


@pytest.mark.parametrize(
    "name, epochs, batch, rate", [("quick", 3, 8, 5e-4), ("balanced", 5, 4, 3e-4), ("best", 10, 2, 2e-4)]
)
def test_presets(name, epochs, batch, rate):
    new = resolve(TrainSettings(preset=name, base=None))
    assert (new.epochs, new.batch_size) == (epochs, batch)
    for others in ({"base": None}, {"base": "b", "adapter": "ia3"}, {"base": "b", "adapter": "none"}):
        plain, chosen = resolve(TrainSettings(**others)), resolve(TrainSettings(preset=name, **others))
        assert chosen.learning_rate == plain.learning_rate  # these rates are promised for LoRA alone
    assert (new.adapter, new.lora_rank, new.lora_alpha, new.lora_dropout) == ("none", None, None, None)
    tuned = resolve(TrainSettings(preset=name, base="some/base"))
    assert (tuned.adapter, tuned.lora_rank, tuned.lora_alpha, tuned.lora_dropout) == ("lora", 8, 16, 0.1)
    assert tuned.learning_rate == rate and (PRESETS / f"{name}.json").exists()


def test_the_default_rate_goes_by_what_is_trained():
    """An adapter over frozen weights learns with rates that would spoil all weights."""
    new = resolve(TrainSettings(base=None)).learning_rate
    lora, ia3, full = (resolve(TrainSettings(base="b", adapter=name)).learning_rate for name in ("lora", "ia3", "none"))
    assert resolve(TrainSettings(base="b")).learning_rate == lora
    assert ia3 > lora > full and lora > new
    assert resolve(TrainSettings(base="b", adapter="ia3")).lora_rank is None


def test_flags_win_over_the_preset():
    settings = resolve(TrainSettings(preset="best", batch_size=7, base="b", lora_rank=4))
    assert (settings.batch_size, settings.epochs, settings.lora_rank, settings.lora_alpha) == (7, 10, 4, 8)
    assert resolve(TrainSettings(base="b", adapter="none")).lora_rank is None
    assert resolve(TrainSettings(base="b", lora_alpha=5.0)).lora_alpha == 5
    assert resolve(TrainSettings(max_steps=3)).epochs is None
    assert resolve(TrainSettings(max_minutes=3)).epochs is None


def test_a_preset_of_ones_own(tmp_path):
    path = tmp_path / "my.json"
    path.write_text('{"epochs": 7, "max_seq_len": 512, "training_args": ["weight_decay=0.1"]}')
    settings = resolve(TrainSettings(preset=str(path)))
    assert (settings.epochs, settings.max_seq_len, settings.batch_size) == (7, 512, 4)
    assert settings.training_args == ("weight_decay=0.1",)
    path.write_text('{"lora_rank": 32}')
    assert resolve(TrainSettings(preset=str(path), base="b")).lora_alpha == 64
    path.write_text('{"lora_rank": 32, "lora_alpha": 10}')
    assert resolve(TrainSettings(preset=str(path), base="b")).lora_alpha == 10
    assert resolve(TrainSettings(preset=str(path), base="b", lora_rank=4)).lora_alpha == 10
    path.write_text('{"epoch": 7}')
    with pytest.raises(InputError, match="has no setting 'epoch'; did you mean 'epochs'"):
        resolve(TrainSettings(preset=str(path)))
    for text in ("[1]", "{", "7"):
        path.write_text(text)
        with pytest.raises(InputError, match="choose from auto, balanced, best, "):
            resolve(TrainSettings(preset=str(path)))
    with pytest.raises(InputError, match="choose from auto, balanced, best, "):
        resolve(TrainSettings(preset="quik"))


def test_a_preset_may_name_the_model_and_flags_win(tmp_path):
    path = tmp_path / "my.json"
    path.write_text('{"base": "none", "model": "lstm", "model_args": ["dropout=0.1"]}')
    found = with_model_of_preset(TrainSettings(preset=str(path)))
    assert (found.base, found.model, found.model_args) == ("none", "lstm", ("dropout=0.1",))
    assert with_model_of_preset(TrainSettings(preset=str(path), base="piano")).base == "piano"
    assert with_model_of_preset(TrainSettings()) == TrainSettings()
    other = TrainSettings(preset=str(path), model="decoder")
    fresh = dataclasses.replace(other, base=None)
    assert with_model_of_preset(other).model_args == resolve(fresh).model_args == ()
    path.write_text('{"base": "none", "size": "2m"}')  # of whatever model
    assert with_model_of_preset(other).size == "2m"
    path.write_text('{"base": "none", "learning_rate": {"new": 0.1}}')
    assert with_model_of_preset(TrainSettings(preset=str(path))).base == "none"


@pytest.mark.parametrize("name", ["music_gpt2", "music_transformer"])
def test_the_recipe_of_a_model_makes_that_model_unless_there_is_a_base(name):
    for base in ("auto", "none"):
        assert with_model_of_preset(TrainSettings(preset=name, base=base)).model == name
    tuned = with_model_of_preset(TrainSettings(preset=name, base="piano"))
    assert not asks_for_new(tuned) and resolve(tuned).model_args == ()
    assert resolve(tuned).learning_rate == json.loads((PRESETS / f"{name}.json").read_text())["learning_rate"]


def test_values_that_a_preset_of_ones_own_lacks_or_cannot_have(tmp_path):
    path = tmp_path / "my.json"
    path.write_text('{"learning_rate": {"lora": 0.1}, "batch_size": null}')
    settings = resolve(TrainSettings(preset=str(path), base="b"))
    assert (settings.learning_rate, settings.batch_size) == (0.1, resolve(TrainSettings()).batch_size)
    with pytest.raises(InputError, match=r"my\.json: its learning_rate says nothing of 'new'"):
        resolve(TrainSettings(preset=str(path), base=None))
    path.write_text('{"epochs": "three"}')
    with pytest.raises(InputError, match=r"my\.json: epochs is 'three'; give a number"):
        resolve(TrainSettings(preset=str(path)))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"batch_size": 0}, "--batch-size 0"),
        ({"learning_rate": -1.0}, "--learning-rate -1.0"),
        ({"max_minutes": math.nan}, "--max-minutes nan"),
        ({"epochs": math.inf}, "--epochs inf: give more than 0, and a finite number"),
        ({"max_seq_len": 8}, "--max-seq-len 8: give 16 or more"),
        ({"warmup": -1.0}, "--warmup -1.0: give 0 or more"),
        ({"seed": -1}, "--seed -1: give 0 to 4294967295"),
        ({"seed": 2**32}, "--seed 4294967296"),
        ({"base": "b", "size": "25m"}, "--size is for a new model"),
        ({"base": "b", "model": "decoder"}, "--model is for a new model"),
        ({"base": "b", "adapter": "lorra"}, "--adapter 'lorra': choose from lora, ia3, none"),
        ({"tracker": "mlflow"}, "--tracker 'mlflow': choose from none, wandb"),
    ],
)
def test_values_that_cannot_work_name_their_flag(settings, message):
    with pytest.raises(InputError, match=message):
        resolve(TrainSettings(**settings))


def test_a_tracker_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="wandb is not installed"):
        check(resolve(TrainSettings(tracker="wandb")))


def test_fields_are_json_or_name_value():
    words = ("bf16=False", "tf32=True", "max_steps=None", "bias=none")  # Python's words, and a name of PEFT's
    assert list(read_fields(words, None, "--training-args").values()) == [False, True, None, "none"]
    words = ('{"weight_decay": 0.1, "adam_beta2": 0.98}', "optim=adamw_torch", "bf16=false", "max_grad_norm=0.5")
    expected = {"weight_decay": 0.1, "adam_beta2": 0.98, "optim": "adamw_torch", "bf16": False, "max_grad_norm": 0.5}
    assert read_fields(words, None, "--training-args") == expected
    for word in ("weight_decay", "[1]", "{", "7"):
        with pytest.raises(InputError, match="neither a JSON object nor name=value"):
            read_fields((word,), None, "--training-args")


@pytest.mark.parametrize(
    "field, word, message",
    [
        (
            "training_args",
            "weight_dcay=0.1",
            "Arguments has no setting 'weight_dcay'; did you mean 'weight_decay'",
        ),
        ("training_args", "learning_rate=0.1", "learning_rate: set it with --learning-rate"),
        ("training_args", "save_strategy=no", "--training-args save_strategy: train needs its checkpoints"),
        ("training_args", "save_only_model=true", "--training-args save_only_model: train needs its checkpoints"),
        ("training_args", "optim=nonsense", "--training-args optim=nonsense"),
        ("training_args", "adam_beta1=abc", "--training-args: adam_beta1 is 'abc'; give a number"),
        ("training_args", "use_cache=no", "--training-args: use_cache is 'no'; give true or false"),
        ("model_args", "hiden_size=2", "decoder has no setting 'hiden_size'; did you mean 'hidden_size'"),
        ("model_args", "hidden_size=0", "decoder with hidden_size=0: give 1 or more"),
        ("model_args", "vocab_size=9", "--model-args vocab_size: set it with --tokenizer of woodshed prepare"),
        ("model_args", "size=2m", "--model-args size: set it with --size"),
        ("epoch", 3, "TrainSettings has no setting 'epoch'; did you mean 'epochs'"),
    ],
)
def test_unknown_fields_are_refused_by_name(tmp_path, field, word, message):
    with pytest.raises(InputError, match=message):
        train(ToyCorpus(), tmp_path, max_steps=1, **{**TINY, field: (word,) if isinstance(word, str) else word})
    assert not list(tmp_path.iterdir())  # nothing is left behind that would be in the way of the next try


@pytest.mark.parametrize(
    ("words", "error", "told"),
    [
        (("optim=adamw_8bit",), MissingExtra, r"bitsandbytes is not installed; .*woodshed\[qlora\]"),
        (
            ("lr_scheduler_type=cosine_with_min_lr",),
            InputError,
            "--training-args lr_scheduler_type=cosine_with_min_lr: ",
        ),
    ],
)
def test_what_the_trainer_cannot_make_is_told_before_anything_is_written(tmp_path, monkeypatch, words, error, told):
    monkeypatch.setattr("transformers.trainer_optimizer.is_bitsandbytes_available", lambda: False)
    with pytest.raises(error, match=told):
        train(ToyCorpus(), tmp_path / "out", max_steps=1, training_args=words, **TINY)
    assert not any(tmp_path.iterdir())


def test_rows_are_made_beside_the_training_only_where_that_does_not_run_the_users_script_again(monkeypatch):
    from woodshed.symbolic.learning import arguments

    for method in ("spawn", "forkserver", "fork"):
        monkeypatch.setattr("multiprocessing.get_start_method", lambda allow_none, method=method: method)
        assert bool(arguments.workers()) == (method == "fork")


@pytest.mark.parametrize(
    ("fast", "capability", "asked", "chosen"),
    [
        (True, (9, 0), {}, {"bf16": True, "fp16": False}),
        (False, (7, 5), {}, {"bf16": False, "fp16": True}),
        (False, (6, 1), {}, {"bf16": False, "fp16": False}),  # whose float16 is slow
        (False, None, {}, {"bf16": False, "fp16": False}),
        (False, (7, 5), {"use_cpu": True}, {"bf16": False, "fp16": False}),
        (True, (9, 0), {"use_cpu": True}, {"bf16": False, "fp16": False}),
        (True, (9, 0), {"fp16": True}, {}),
        (True, (9, 0), {"fp16": False}, {"bf16": True, "fp16": False}),
        (False, (7, 5), {"bf16": False}, {}),
    ],
)
def test_sixteen_bits_are_those_that_the_machine_is_fast_in(monkeypatch, fast, capability, asked, chosen):
    from woodshed.symbolic.learning import arguments

    monkeypatch.setattr(arguments, "fast_bf16", lambda device: fast and device == "cuda")
    monkeypatch.setattr("torch.cuda.is_available", lambda: capability is not None)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda: capability)
    assert arguments.half_precision(asked) == chosen


def test_training_and_lora_fields_arrive(reference, tmp_path, monkeypatch):
    from woodshed.symbolic.learning import callbacks

    made = []
    monkeypatch.setattr(callbacks, "Learner", lambda **options: made.append(options) or 1 / 0)
    settings = {**ADAPTER, "base": str(reference[0].folder), "training_args": ("weight_decay=0.1", "optim=adafactor")}
    with pytest.raises(ZeroDivisionError):
        train(ToyCorpus(), tmp_path, lora_rank=3, lora_args=('{"use_rslora": true}',), seed=5, **settings)
    arguments, config = made[0]["args"], made[0]["model"].peft_config["default"]
    assert (arguments.weight_decay, arguments.optim, arguments.seed) == (0.1, "adafactor", 5)
    assert (config.r, config.use_rslora, config.lora_dropout) == (3, True, 0.1)


# --- resuming with other settings --------------------------------------------------------------------------------

SAVED = dataclasses.asdict(resolve(TrainSettings(size="25m", max_steps=100, batch_size=3)))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"max_seq_len": 1024},
        {"batch_size": 8},
        {"size": "50m"},
        {"model": "lstm"},
        {"preset": "quick"},
        {"gradient_accumulation": 2},
        {"training_args": ("weight_decay=0.1",)},
        {"base": "other"},
        {"adapter": "none"},
    ],
)
def test_what_would_change_the_losses_is_refused_by_name(change):
    name = "batch_size" if "preset" in change else next(iter(change))
    with pytest.raises(RunError, match=f"--{name.replace('_', '-')} was"):
        resumed(TrainSettings(resume=True, **change), SAVED, Path("run"))


def test_a_limit_that_is_given_replaces_that_of_the_preset():
    saved = SAVED | {"epochs": 5.0, "max_minutes": None, "max_steps": None, "batch_size": 4}
    preset = json.loads((PRESETS / "balanced.json").read_text())
    saved |= {name: preset[name] for name in ("batch_size",) if name in preset}
    found = resumed(TrainSettings(resume=True, preset="balanced", max_minutes=120), saved, Path("run"))
    assert found.max_minutes == 120 and found.epochs is None


@pytest.mark.parametrize("limit", [{"max_minutes": 5.0}, {"max_steps": 100}])
def test_a_run_that_goes_on_takes_from_a_preset_what_its_own_file_says_and_no_limit_of_another_kind(tmp_path, limit):
    saved = SAVED | dict.fromkeys(("epochs", "max_minutes", "max_steps")) | limit
    (tmp_path / "my.json").write_text('{"learning_rate": {"lora": 1e-4}, "epochs": 1}')
    found = resumed(TrainSettings(resume=True, preset=str(tmp_path / "my.json")), saved, Path("run"))
    assert dataclasses.asdict(found) | {"preset": None} == saved | {"learning_rate": 1e-4, "preset": None}
    (tmp_path / "my.json").write_text(json.dumps(dict.fromkeys(limit, 7)))
    longer = resumed(TrainSettings(resume=True, preset=str(tmp_path / "my.json")), saved, Path("run"))
    assert [getattr(longer, name) for name in limit] == [7]


def test_what_is_not_given_stays_as_it_was():
    was = TrainSettings(**{**SAVED, "model_args": (), "lora_args": (), "training_args": ()})
    assert resumed(TrainSettings(resume=True), json.loads(json.dumps(SAVED)), Path("run")) == was
    longer = resumed(TrainSettings(resume=True, max_steps=200, learning_rate=1e-5), SAVED, Path("run"))
    assert longer == dataclasses.replace(was, max_steps=200, learning_rate=1e-5)
    by_time = resumed(TrainSettings(resume=True, max_minutes=5, threads=2), SAVED, Path("run"))
    assert by_time == dataclasses.replace(was, max_steps=None, max_minutes=5, threads=2)
    assert {field.name for field in dataclasses.fields(TrainSettings)} >= FREE
    with pytest.raises(RunError, match="its settings swing are of another version"):
        resumed(TrainSettings(resume=True), SAVED | {"swing": 0.6}, Path("run"))


def test_a_flag_at_its_default_wins_over_the_preset_and_over_the_run(tmp_path):
    (tmp_path / "my.json").write_text('{"seed": 3, "tracker": "tensorboard", "load_in_4bit": true}')
    plain = {"seed": 0, "tracker": "none", "load_in_4bit": False}
    settings = resolve(TrainSettings(preset=str(tmp_path / "my.json"), base="b", **plain))
    assert {name: getattr(settings, name) for name in plain} == plain
    was = SAVED | {"tracker": "tensorboard", "project": "mine", "keep_checkpoints": 9}
    now = {"tracker": "none", "project": "woodshed", "keep_checkpoints": 3}
    found = resumed(TrainSettings(resume=True, **now), was, Path("run"))
    assert {name: getattr(found, name) for name in now} == now
    with pytest.raises(RunError, match="--seed was 5, now it is 0"):
        resumed(TrainSettings(resume=True, seed=0), SAVED | {"seed": 5}, Path("run"))


def test_the_command_line_tells_no_from_not_given(monkeypatch, tmp_path):
    from woodshed.cli import main
    from woodshed.cli import train as command

    told = []
    monkeypatch.setattr(command, "open_corpus", lambda corpus: corpus)
    monkeypatch.setattr(command, "changes_line", lambda corpus: "")
    monkeypatch.setattr(command, "train_with_bar", lambda corpus, out, settings: told.append(settings.load_in_4bit))
    for flags in ([], ["--load-in-4bit"], ["--no-load-in-4bit"]):
        main(["train", "corpus", "--out", "run", *flags])
    assert told == [None, True, False]


def test_what_is_given_at_its_default_counts_as_given():
    plain = resolve(TrainSettings(base=None))
    assert {name: getattr(plain, name) for name in DEFAULTS} == DEFAULTS
    assert all(given(TrainSettings(**{name: value})) == {name: value} for name, value in DEFAULTS.items())
    assert asks_for_new(TrainSettings(model="decoder", size="6m")) == "model"
    was = SAVED | {"warmup": 0.1, "patience": 5}
    now = resumed(TrainSettings(resume=True, warmup=0.02, patience=2), was, Path("run"))
    assert (now.warmup, now.patience) == (0.02, 2)
    old = {name: value for name, value in SAVED.items() if name != "patience"}  # from before there was such a flag
    assert resumed(TrainSettings(resume=True), old, Path("run")).patience == 2


NAMED = [('{"base": "none", "model": "lstm"}', None), ('{"base": "piano"}', "piano-3")]


@pytest.mark.parametrize(("text", "base"), NAMED)
def test_a_run_goes_on_with_the_preset_that_named_its_model_or_base(tmp_path, text, base):
    (tmp_path / "my.json").write_text(text)
    asked = TrainSettings(preset=str(tmp_path / "my.json"))
    began = resolve(dataclasses.replace(with_model_of_preset(asked), base=base))
    assert began.model == ("decoder" if base else "lstm")
    assert resumed(dataclasses.replace(asked, resume=True), dataclasses.asdict(began), tmp_path) == began
