"""How adapters are trained: settings and presets, the arithmetic of memory, and ranks by how much the music pulls."""
# ruff: noqa: F811

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ace_toys import base, blank, dataset, tensors  # noqa: F401
from safetensors.torch import load_file

from woodshed.audio.ace.batches import Batches
from woodshed.audio.ace.estimate import EstimateSettings, directions_of, estimate, ranked
from woodshed.audio.ace.loop import velocity_errors
from woodshed.audio.ace.memory import memory
from woodshed.audio.ace.pipeline import open_pipeline
from woodshed.audio.ace.settings import PRESETS, TrainSettings, as_facts, resolve, resumed
from woodshed.audio.ace.train import train
from woodshed.audio.ace.tuning import adapter_config, add_adapter, make_optimizer, rate, trained
from woodshed.errors import FileError, InputError, RunError
from woodshed.jobs import GB

SMALL = {"rank": 4, "crop_seconds": 1.0, "gradient_checkpointing": False, "takes": 0, "threads": 1}
OPTIMIZERS = ["adamw", "adafactor", "prodigy"]


def settings(**changes) -> TrainSettings:
    return resolve(TrainSettings(**SMALL | changes), songs=5, turbo=True)


# --- settings ----------------------------------------------------------------------------------------------------


def test_every_preset_and_profile_resolves():
    for path in sorted(PRESETS.glob("*.json")):
        name = path.stem
        asked = {"memory": int(name[7:])} if name.startswith("memory-") else {"preset": name}
        got = resolve(TrainSettings(**asked), songs=13, turbo=False)
        assert {key: getattr(got, key) for key in json.loads(path.read_text()) if key != "learning_rate"} == {
            key: value for key, value in json.loads(path.read_text()).items() if key != "learning_rate"
        }


def test_flags_win_over_memory_and_memory_over_presets(tmp_path):
    got = resolve(TrainSettings(preset="best", memory=8, rank=24), songs=100, turbo=False)
    assert (got.rank, got.alpha, got.targets, got.optimizer, got.epochs) == (24, 48, "attention", "adamw8bit", 1000)
    assert (got.condition_dropout, resolve(TrainSettings(), songs=3, turbo=True).condition_dropout) == (0.15, 0.0)
    assert [resolve(TrainSettings(), songs=songs, turbo=True).epochs for songs in (20, 21)] == [800, 500]
    lokr = resolve(TrainSettings(kind="lokr"), songs=3, turbo=True)
    assert lokr.learning_rate == 3e-3 and lokr.alpha == lokr.rank
    assert resolve(TrainSettings(optimizer="prodigy"), songs=3, turbo=True).learning_rate == 1.0
    (tmp_path / "mine.json").write_text('{"rank": 5}')
    assert resolve(TrainSettings(preset=str(tmp_path / "mine.json")), songs=3, turbo=True).rank == 5
    (tmp_path / "mine.json").write_text('{"rank": 64, "alpha": 256}')
    mine = {"preset": str(tmp_path / "mine.json")}
    scales = [resolve(TrainSettings(**mine, **more), songs=3, turbo=True) for more in ({}, {"memory": 8})]
    assert [(got.rank, got.alpha) for got in scales] == [(64, 256), (16, 32)]
    (tmp_path / "mine.json").write_text('{"rnk": 5}')
    with pytest.raises(InputError, match="has no setting 'rnk'; did you mean 'rank'"):
        resolve(TrainSettings(preset=str(tmp_path / "mine.json")), songs=3, turbo=True)


BAD = {"rank": 0, "epochs": -1, "learning_rate": 0.0, "dropout": 1.0, "validation": 1.0, "kind": "loha", "memory": 10}
BAD |= {
    "crop_seconds": -1.0,
    "lokr_factor": 0,
    "optimizer": "sgd",
    "preset": "fast",
    "takes": -1,
    "timesteps": "all",
    "seed": -1,
}


@pytest.mark.parametrize("name", BAD)
def test_values_that_cannot_work_are_refused_with_their_flag(name):
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} '?{BAD[name]}"):
        resolve(TrainSettings(**{name: BAD[name]}), songs=3, turbo=True)


def test_the_rate_rises_and_falls():
    shape = [rate(step, 1000, "cosine") for step in range(1000)]
    assert shape[0] == pytest.approx(0.1) and shape[100] == pytest.approx(1.0) and shape[999] < 0.02
    assert shape[:101] == sorted(shape[:101]) and shape[100:] == sorted(shape[100:], reverse=True)
    assert rate(0, 1, "linear") == 1.0 and rate(900, 1000, "constant") == 1.0
    assert rate(550, 1000, "linear") == pytest.approx(0.5, abs=0.01)


def test_a_rate_may_change_when_a_run_goes_on(tmp_path):
    saved = json.loads(json.dumps(vars(settings(epochs=5))))
    assert resumed(TrainSettings(learning_rate=1e-4, resume=True), saved, tmp_path).learning_rate == 1e-4
    assert resumed(TrainSettings(max_steps=7), saved, tmp_path).epochs is None
    assert resumed(TrainSettings(resume=True), saved, tmp_path).rank == 4
    with pytest.raises(RunError, match="its settings swing are of another version"):
        resumed(TrainSettings(resume=True), saved | {"swing": 0.6}, tmp_path)


def test_what_is_given_at_its_default_counts_when_a_run_goes_on(tmp_path):
    saved = json.loads(json.dumps(as_facts(settings(epochs=5, takes=0, keep_checkpoints=3, preset="best", seed=7))))
    now = resumed(TrainSettings(resume=True, takes=1, keep_checkpoints=10), saved, tmp_path)
    assert (now.takes, now.keep_checkpoints, now.seed, now.preset) == (1, 10, 7, "best")
    with pytest.raises(RunError, match="--seed was 7, now it is 0"):
        resumed(TrainSettings(resume=True, seed=0), saved, tmp_path)
    with pytest.raises(InputError, match="--preset balanced: the run has its settings, from best"):
        resumed(TrainSettings(resume=True, preset="balanced"), saved, tmp_path)


@pytest.mark.parametrize(
    ("preset", "told"),
    [
        ({"rank": "many"}, "rank is 'many'; give a whole number"),
        ({"rank": 2.5}, "rank is 2.5; give a whole number"),
        ({"epochs": True}, "epochs is True; give a whole number"),
        ({"learning_rate": {"lora": "fast"}}, "learning_rate is 'fast'; give a number"),
        ({"learning_rate": {"lora": 1e-4}, "kind": "dora"}, "its learning_rate says nothing of 'dora'; add it there"),
        ({"kind": ["lora"]}, "kind is ['lora']; choose from lora, dora, lokr"),
        ({"gradient_checkpointing": "yes"}, "gradient_checkpointing is 'yes'; give true or false"),
        ({"ranks": 5}, "ranks is 5; give the path of a file"),
    ],
)
def test_a_preset_with_a_value_that_cannot_be_is_one_line(tmp_path, preset, told):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(preset))
    with pytest.raises(InputError, match=re.escape(f"--preset {file}: {told}")):
        resolve(TrainSettings(preset=str(file)), songs=3, turbo=True)


def test_null_in_a_preset_says_nothing(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"rank": None, "kind": None, "learning_rate": None, "crop_seconds": 30}))
    got = resolve(TrainSettings(preset=str(file)), songs=3, turbo=True)
    assert (got.rank, got.kind, got.learning_rate, got.crop_seconds) == (64, "lora", 3e-4, 30)


def test_a_run_finds_its_ranks_from_anywhere(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    saved = json.loads(json.dumps(as_facts(settings(ranks=Path("ranks.json"), rank=None))))
    monkeypatch.chdir(tmp_path / "elsewhere")
    for asked in (None, Path("../ranks.json")):
        assert resumed(TrainSettings(ranks=asked), saved, tmp_path).ranks == (tmp_path / "ranks.json").resolve()


def test_a_run_that_goes_on_refuses_another_profile_by_name(tmp_path):
    saved = json.loads(json.dumps(vars(settings(epochs=5))))
    for change, told in (
        ({"memory": 8}, "--memory 8: the run has its settings"),
        ({"preset": "best"}, "--preset best"),
    ):
        with pytest.raises(InputError, match=told):
            resumed(TrainSettings(resume=True, **change), saved, tmp_path)


def test_a_preset_may_name_a_memory_profile_and_a_flag_replaces_its_limit(tmp_path):
    (tmp_path / "mine.json").write_text('{"memory": 8, "max_steps": 70}')
    got = resolve(TrainSettings(preset=str(tmp_path / "mine.json"), epochs=3), songs=5, turbo=True)
    assert (got.optimizer, got.targets, got.epochs, got.max_steps) == ("adamw8bit", "attention", 3, None)


# --- memory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_arithmetic_counts_what_an_optimizer_keeps(base, optimizer):
    chosen = settings(optimizer=optimizer, targets="attention+mlp", rank=16)
    transformer = open_pipeline(base, parts=("transformer",)).transformer
    plain = sum(parameter.numel() for parameter in transformer.parameters())
    add_adapter(transformer, adapter_config(chosen, ""), 0)
    parameters = trained(transformer)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    kept = make_optimizer(parameters, chosen)
    kept.step()
    states = [v for state in kept.state.values() for v in state.values() if torch.is_tensor(v) and v.ndim]
    size = memory(transformer, chosen, frames=100, weight_bytes=4)
    count = sum(parameter.numel() for parameter in parameters)
    assert size.weights == 4 * plain and size.adapter == 8 * count
    measured = sum(value.numel() * value.element_size() for value in states)
    if optimizer == "adafactor":  # rows and columns only: of a small matrix they are a larger part
        assert measured < count
    else:  # prodigy remembers weights that began at 0 as one number
        assert 0.85 * size.optimizer < measured <= size.optimizer
    assert size.total == size.weights + size.adapter + size.optimizer + size.activations + size.overhead
    assert str(size).endswith(f"overhead {size.overhead / GB:.2f}")


def test_the_sizes_of_the_real_model(tmp_path):
    """44.0 and 81.8 million weights of a LoRA of rank 64, 0.79 of a LoKr: what ACE-Step's own trainer counts."""
    sizes = {}
    for name, asked in {"lora": {}, "mlp": {"targets": "attention+mlp"}, "lokr": {"kind": "lokr"}}.items():
        chosen = resolve(TrainSettings(**asked), songs=3, turbo=True)
        sizes[name] = memory(blank({"num_hidden_layers": 1}, chosen), chosen, frames=1500)
    millions = {name: round(24 * size.adapter / 8 / 1e6, 2) for name, size in sizes.items()}
    assert millions == {"lora": 44.04, "mlp": 81.79, "lokr": 0.79}
    ranks = {f"layers.0.{name}": 64 for name in ("self_attn.to_q", "mlp.up_proj")}
    (tmp_path / "ranks.json").write_text(json.dumps({"rank_pattern": ranks, "alpha_pattern": ranks}))
    chosen = resolve(TrainSettings(ranks=tmp_path / "ranks.json"), songs=3, turbo=True)
    by_ranks = memory(blank({"num_hidden_layers": 1}, chosen), chosen, frames=1500)
    assert by_ranks.activations == sizes["mlp"].activations > sizes["lora"].activations
    plain = resolve(TrainSettings(gradient_checkpointing=False), songs=3, turbo=True)
    more = memory(blank({"num_hidden_layers": 4}, plain), plain, frames=1500)
    less = replace(plain, gradient_checkpointing=True)
    assert memory(blank({"num_hidden_layers": 4}, less), less, frames=1500).activations < more.activations / 3


# --- estimate ----------------------------------------------------------------------------------------------------


def test_sensitivities_are_squared_gradients(base, tensors, tmp_path):
    found = estimate(tensors, tmp_path / "ranks.json", rank=8, batches=2, crop_seconds=1.0)
    assert found.batches == 2 and not found.settled
    transformer = open_pipeline(base, parts=("transformer",)).transformer.eval()
    batches = Batches(tensors, list(range(5)), settings(seed=0), (-0.4, 1.0))
    squares = {}
    for number in range(2):
        transformer.zero_grad()
        velocity_errors(transformer, batches[number]).mean().backward()
        for name, parameter in transformer.named_parameters():
            squares[name] = squares.get(name, 0.0) + parameter.grad.square().mean().item() / 2
    for module in found.modules:
        assert module.sensitivity == pytest.approx(squares[f"{module.name}.weight"], rel=1e-4)
    assert [m.sensitivity for m in found.modules] == sorted((m.sensitivity for m in found.modules), reverse=True)
    assert len(found.modules) == 2 * (4 + 4 + 3)


def test_estimated_ranks_are_what_is_trained(base, tensors, tmp_path):
    found = estimate(tensors, tmp_path / "ranks.json", rank=8, batches=2, crop_seconds=1.0)
    ranks = {module.name: module.rank for module in found.modules if module.rank}
    assert 0 < len(ranks) < len(found.modules) and all(2 <= rank <= 16 for rank in ranks.values())
    asked = {name: value for name, value in SMALL.items() if name != "rank"} | {"ranks": tmp_path / "ranks.json"}
    train(tensors, tmp_path / "run", **asked, epochs=1)
    assert "ranks of ranks.json." in (tmp_path / "run" / "README.md").read_text()
    weights = load_file(tmp_path / "run" / "adapter_model.safetensors")
    learned = {
        name.removeprefix("base_model.model."): len(value) for name, value in weights.items() if "lora_A" in name
    }
    assert learned == {f"{name}.lora_A.weight": rank for name, rank in ranks.items()}
    with pytest.raises(InputError, match="choose a file that does not exist yet"):
        estimate(tensors, tmp_path / "ranks.json")
    (tmp_path / "bad.json").write_text('{"rank_pattern": {}}')
    with pytest.raises(InputError, match=r"--ranks .*bad\.json"):
        train(tensors, tmp_path / "other", **asked | {"ranks": tmp_path / "bad.json"})
    for wrong in ({"keep": 0}, {"seed": -1}):
        with pytest.raises(InputError, match="--{} {}".format(*next(iter(wrong.items())))):
            estimate(tensors, tmp_path / "new.json", **wrong)


def test_ranks_leave_what_has_come_in_the_meantime(tensors, tmp_path):
    """Estimating takes hours."""
    path = tmp_path / "ranks.json"
    with pytest.raises(FileError, match=r"ranks\.json: something has taken"):
        estimate(tensors, path, batches=1, crop_seconds=1.0, report=lambda *told: path.write_text("mine"))
    assert path.read_text() == "mine" and len(list(tmp_path.glob("ranks-*.json"))) == 1


def test_a_file_of_ranks_says_rank_alpha_and_targets(tmp_path):
    file = tmp_path / "ranks.json"
    file.write_text('{"rank_pattern": {"a": 8, "b": 2}, "alpha_pattern": {"a": 16, "b": 4}}')
    for asked in ({"rank": 8}, {"alpha": 64.0}, {"targets": "attention"}):
        with pytest.raises(InputError, match=f"--{next(iter(asked))} .*: --ranks .* leave out one of the two"):
            resolve(TrainSettings(ranks=file, **asked), songs=3, turbo=True)
    for kind, alphas in (("lora", {"a": 16, "b": 4}), ("lokr", {"a": 8, "b": 2})):  # as strong as without the file
        config = adapter_config(resolve(TrainSettings(ranks=file, kind=kind), songs=3, turbo=True), "")
        assert (config.rank_pattern, config.alpha_pattern) == ({"a": 8, "b": 2}, alphas)


def test_directions_are_those_of_the_singular_values():
    torch.manual_seed(0)
    for shape in ((6, 9), (9, 6)):
        weight = torch.randn(shape)
        squares = torch.linalg.svdvals(weight) ** 2
        assert directions_of(weight) == pytest.approx(float(squares.sum() ** 2 / (squares**2).sum()), rel=1e-4)
    assert directions_of(torch.outer(torch.randn(5), torch.randn(7))) == pytest.approx(1.0, rel=1e-4)
    assert directions_of(torch.eye(5)) == pytest.approx(5.0)


def test_ranks_follow_sensitivity_and_leave_no_kind_out():
    names = [f"layers.{k}.self_attn.to_q" for k in range(20)] + [f"layers.{k}.mlp.up_proj" for k in range(20)]
    sensitivity = {name: 100.0 - place for place, name in enumerate(names)}
    modules = ranked(sensitivity, dict.fromkeys(names, 10.0), EstimateSettings(rank=64, keep=0.25))
    kept = [module for module in modules if module.rank]
    assert len(kept) == 12 and sum(".mlp." in module.name for module in kept) == 2
    assert [module.rank for module in kept] == sorted((module.rank for module in kept), reverse=True)
    assert all(module.rank % 8 == 0 and 16 <= module.rank <= 128 for module in kept)
    extreme = ranked(
        {names[0]: 1e6, names[1]: 1.0, names[2]: 1e-6}, dict.fromkeys(names, 1.0), EstimateSettings(keep=1)
    )
    assert [module.rank for module in extreme] == [128, 64, 16]
