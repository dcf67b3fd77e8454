"""Adapters in use: what is loaded is what was trained, in whatever layout, or it is refused."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
pytest.importorskip("peft")

from ace_toys import base  # noqa: E402, F401
from safetensors.torch import load_file, save_file  # noqa: E402

from woodshed.audio.ace.adapters import (  # noqa: E402
    change_of_weights,
    check,
    load_adapters,
    unload_adapters,
    without_adapters,
)
from woodshed.audio.ace.layouts import CONFIG, LYCORIS, PEFT, ace_name, module_name, read_adapter  # noqa: E402
from woodshed.audio.ace.pipeline import fingerprint, open_pipeline  # noqa: E402
from woodshed.errors import FileError, RunError, WoodshedError  # noqa: E402
from woodshed.jobs import quiet  # noqa: E402

KINDS = ("lora", "dora", "lokr")
TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "gate_proj", "down_proj")
MODULE = "layers.1.cross_attn.to_out.0"


def trained(pipe, kind: str, seed: int = 0, **changes):
    """Put an adapter over a pipeline with peft alone, with weights as after a training; answers its config."""
    from peft import LoKrConfig, LoraConfig

    own = {"alpha": 12} if kind == "lokr" else {"lora_alpha": 12, "use_dora": kind == "dora"}
    config = (LoKrConfig if kind == "lokr" else LoraConfig)(**{"r": 4, "target_modules": [*TARGETS]} | own | changes)
    pipe.transformer.add_adapter(config)
    with torch.no_grad():
        draw = torch.Generator().manual_seed(seed)
        for name, weight in pipe.transformer.named_parameters():
            if "lora_" in name or "lokr_" in name:
                weight += 0.2 * torch.randn(weight.shape, generator=draw)
    return config


def write(folder: Path, pipe, config) -> Path:
    """Write the adapter over a pipeline as PEFT does."""
    from peft import get_peft_model_state_dict

    folder.mkdir()
    weights = get_peft_model_state_dict(pipe.transformer)
    save_file({name: weight.contiguous() for name, weight in weights.items()}, folder / PEFT)
    facts = {key: sorted(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    (folder / CONFIG).write_text(json.dumps(facts, default=str))
    return folder


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def copied(pipe, kind=None) -> SimpleNamespace:
    """A pipeline's transformer for oneself, all of a pipeline that adapters need."""
    return SimpleNamespace(transformer=copy.deepcopy(pipe.transformer).to(kind or torch.float32))


@pytest.fixture(scope="module")
def pipe(base):  # noqa: F811
    opened = open_pipeline(base)
    opened.transformer = copied(opened).transformer  # products differ in the last bit by where weights lie in memory
    return opened


@pytest.fixture(scope="module")
def runs(pipe, tmp_path_factory):
    """For each kind its folder, and what its training ended with."""
    folder, made = tmp_path_factory.mktemp("runs"), {}
    for kind in KINDS:
        over = copied(pipe)
        config = trained(over, kind)
        made[kind] = write(folder / kind, over, config), velocity(over)
    return made


@torch.no_grad()
def velocity(pipe):
    """What the transformer answers to one fixed input."""
    draw = torch.Generator().manual_seed(5)
    given = {"hidden_states": (1, 40, 8), "encoder_hidden_states": (1, 12, 32), "context_latents": (1, 40, 16)}
    kind = pipe.transformer.dtype
    given = {name: torch.randn(shape, generator=draw).to(kind) for name, shape in given.items()}
    times = torch.full((1,), 0.6, dtype=kind)
    return pipe.transformer(**given, timestep=times, timestep_r=times, return_dict=False)[0]


def played(pipe, *adapters, **more):
    load_adapters(pipe, adapters, **more)
    try:
        return velocity(pipe)
    finally:
        unload_adapters(pipe)


def close(one, other, within: float = 1e-5) -> bool:
    return float((one - other).abs().max()) < within


def changes(adapter) -> dict:
    """The change of each module over a base of zeros and ones: equal for adapters that sound alike."""
    return {name: adapter.change(name, torch.eye(*adapter.shape(name))) for name in adapter.modules}


def same_changes(one, other, within: float = 1e-5) -> bool:
    first, second = changes(one), changes(other)
    return first.keys() == second.keys() and all(close(first[name], second[name], within) for name in first)


# --- laws ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_loaded_is_what_was_trained(pipe, runs, kind):
    folder, wanted = runs[kind]
    adapter = read_adapter(folder)
    assert adapter.kind == kind
    assert len(adapter.modules) == 2 * (4 + 4 + 2)
    assert torch.equal(played(pipe, (adapter, 1.0)), wanted)
    assert not close(wanted, velocity(pipe), 0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_scale_zero_is_the_base_and_small_scales_are_near_it(pipe, runs, kind):
    adapter, bare = read_adapter(runs[kind][0]), velocity(pipe)
    assert torch.equal(played(pipe, (adapter, 0.0)), bare)
    assert close(played(pipe, (adapter, 1e-5)), bare, 1e-3)
    middle, whole = (float((played(pipe, (adapter, scale)) - bare).norm()) for scale in (0.5, 1.0))
    assert 0 < middle < whole


@pytest.mark.parametrize("kind", KINDS)
def test_without_and_after_adapters_there_is_the_base(pipe, runs, kind):
    bare = velocity(pipe)
    layers = {name: type(module) for name, module in pipe.transformer.named_modules()}
    load_adapters(pipe, [(read_adapter(runs[kind][0]), 1.0), (read_adapter(runs["lokr"][0]), 0.5)])
    with without_adapters(pipe):
        assert torch.equal(velocity(pipe), bare)
    assert not torch.equal(velocity(pipe), bare)
    unload_adapters(pipe)
    assert torch.equal(velocity(pipe), bare)
    assert {name: type(module) for name, module in pipe.transformer.named_modules()} == layers


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_are_added_up_in_any_order(pipe, runs, kind):
    """Of each layer: the sum of two changes, whatever their kinds."""
    one, two = (read_adapter(runs[name][0]) for name in (kind, "lokr" if kind != "lokr" else "lora"))
    layer, given = pipe.transformer.get_submodule(MODULE), torch.eye(32)
    weight = layer.weight.detach()
    wanted = layer(given) + given @ (one.change(MODULE, weight) + 0.25 * two.change(MODULE, weight)).T
    for pairs in ([(one, 1.0), (two, 0.25)], [(two, 0.25), (one, 1.0)]):
        load_adapters(pipe, pairs)
        got = pipe.transformer.get_submodule(MODULE)(given)
        unload_adapters(pipe)
        assert close(got, wanted)


def test_loading_anew_takes_away_what_was_there(pipe, runs):
    load_adapters(pipe, [(read_adapter(runs["lokr"][0]), 1.0)])
    assert torch.equal(played(pipe, (read_adapter(runs["lora"][0]), 1.0)), runs["lora"][1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_change_of_weights_is_that_of_the_layers(pipe, runs, kind):
    adapter = read_adapter(runs[kind][0])
    before = {name: pipe.transformer.get_submodule(name).weight.detach() for name in adapter.modules}
    load_adapters(pipe, [(adapter, 1.0)])
    after = {name: pipe.transformer.get_submodule(name)(torch.eye(before[name].shape[1])).T for name in before}
    unload_adapters(pipe)
    shares = sorted(float((after[name] - before[name]).norm() / before[name].norm()) for name in before)
    assert change_of_weights(adapter, pipe.transformer) == pytest.approx(shares[len(shares) // 2], rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision(pipe, runs, kind):
    """A base in bfloat16, as it plays on a GPU: the adapter takes its type, and scale 0 is still the base exactly."""
    half = copied(pipe, torch.bfloat16)
    bare, adapter = velocity(half), read_adapter(runs[kind][0])
    assert bare.dtype == torch.bfloat16 and torch.equal(played(half, (adapter, 0.0)), bare)
    heard, wanted = played(half, (adapter, 1.0)).float(), runs[kind][1]
    assert (heard - wanted).norm() < 0.1 * wanted.norm() and torch.equal(velocity(half), bare)


# --- the alpha trap --------------------------------------------------------------------------------------------


def test_diffusers_alone_forgets_alpha_and_ours_does_not(base, runs):  # noqa: F811
    """What makes adapters of ACE-Step and Side-Step three times too soft in diffusers: alpha / rank is 12 / 4."""
    folder, wanted = runs["lora"]
    fooled = open_pipeline(base)
    theirs = {f"transformer.{name}": weight for name, weight in load_file(folder / PEFT).items()}
    with quiet("diffusers", "transformers"):
        fooled.load_lora_weights(theirs, adapter_name="x")
    assert not close(velocity(fooled), wanted, 0.01)
    fooled.set_adapters(["x"], [12 / 4])
    assert close(velocity(fooled), wanted)
    assert set(read_adapter(folder).scaling.values()) == {3.0}


def test_weights_without_their_config_are_refused(runs, tmp_path):
    alone = tmp_path / PEFT
    alone.write_bytes((runs["lora"][0] / PEFT).read_bytes())
    for place in (alone, tmp_path):
        with pytest.raises(RunError, match=r"adapter_config.json is missing, and with it the alpha"):
            read_adapter(place)


def test_a_single_file_without_alpha_plays_at_alpha_equal_to_rank_and_says_so(runs, tmp_path):
    (tmp_path / "mine.safetensors").write_bytes((runs["lora"][0] / PEFT).read_bytes())
    adapter = read_adapter(tmp_path / "mine.safetensors")
    assert set(adapter.scaling.values()) == {1.0}
    assert any("names no alpha" in remark for remark in adapter.remarks)


def test_ranks_and_alphas_by_module_and_rslora(pipe, tmp_path):
    over = copied(pipe)
    pattern = {"rank_pattern": {r"layers\.1\.self_attn\.to_q": 2, "to_v": 8}, "alpha_pattern": {"mlp.gate_proj": 1}}
    folder = write(tmp_path / "run", over, trained(over, "lora", use_rslora=True, **pattern))
    adapter = read_adapter(folder)
    assert adapter.scaling["layers.0.mlp.gate_proj"] == pytest.approx(1 / 4**0.5)
    assert adapter.scaling["layers.1.self_attn.to_q"] == pytest.approx(12 / 2**0.5)
    assert close(played(pipe, (adapter, 1.0)), velocity(over))


def test_a_config_of_another_training_is_refused(runs, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / PEFT).write_bytes((runs["lora"][0] / PEFT).read_bytes())
    config = json.loads((runs["lora"][0] / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {"r": 16}))
    with pytest.raises(RunError, match=r"says rank 16, .* has rank 4"):
        read_adapter(folder)
    for wrong in ({"lora_alpha": None}, {"lora_alpha": "x"}, {"r": 0}, {"r": None}):
        (folder / CONFIG).write_text(json.dumps(config | wrong))
        with pytest.raises(RunError, match="names no alpha"):
            read_adapter(folder)
    (folder / CONFIG).write_text(json.dumps(config | {"rank_pattern": {"(": 3}}))
    with pytest.raises(RunError, match="a pattern that is none"):
        read_adapter(folder)


# --- layouts of other programs -----------------------------------------------------------------------------------


def ace_step(folder: Path, run: Path, key="base_model.model.{}.{}") -> Path:
    """A LoRA as ACE-Step's trainer writes it: PEFT's files with its own names."""
    folder.mkdir(parents=True)
    weights = {}
    for name, weight in load_file(run / PEFT).items():
        module, _, part = name.rpartition(".lora_")
        weights[key.format(ace_name(module), f"lora_{part}")] = weight
    save_file(weights, folder / PEFT)
    config = json.loads((run / CONFIG).read_text())
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "down_proj"]
    (folder / CONFIG).write_text(json.dumps(config | {"target_modules": names}))
    return folder


PREFIXED = ("base_model.model.{}.{}", "base_model.model.base_model.model.{}.{}", "{}.{}")
PREFIXED += ("diffusion_model.decoder.{}.{}", "decoder.{}.{}")


@pytest.mark.parametrize("key", PREFIXED)
@pytest.mark.parametrize("inner", [".", "adapter", "final/adapter", "final"])
def test_adapters_of_ace_step_and_side_step_open(pipe, runs, tmp_path, inner, key):
    folder = ace_step(tmp_path / "theirs" / inner, runs["lora"][0], key)
    for place in (tmp_path / "theirs", folder / PEFT):
        assert torch.equal(played(pipe, (read_adapter(place), 1.0)), runs["lora"][1])


def test_the_name_of_an_adapter_within_its_keys_is_passed_over(runs, tmp_path):
    folder = ace_step(tmp_path / "resumed", runs["lora"][0])
    weights = {name.replace(".weight", ".default.weight"): weight for name, weight in load_file(folder / PEFT).items()}
    save_file(weights, folder / PEFT)
    assert same_changes(read_adapter(folder), read_adapter(runs["lora"][0]))


def test_kohya_names_with_alphas_in_the_file(runs, tmp_path):
    weights = {}
    for name, weight in load_file(runs["lora"][0] / PEFT).items():
        module, _, part = name.rpartition(".lora_")
        flat = "lora_unet_decoder_" + ace_name(module).replace(".", "_")
        weights[f"{flat}.lora_{'down' if part.startswith('A') else 'up'}.weight"] = weight
        weights[f"{flat}.alpha"] = torch.tensor(12.0)
    save_file(weights, tmp_path / "kohya.safetensors")
    assert same_changes(read_adapter(tmp_path / "kohya.safetensors"), read_adapter(runs["lora"][0]))


def test_lycoris_equals_the_lokr_it_was_made_from(pipe, runs, tmp_path):
    """LyCORIS' rules: scale = alpha / rank, and 1 where both factors are whole, whatever alpha says."""
    run, wanted = runs["lokr"]
    weights, ours = {}, read_adapter(run)
    for module, parts in ours.modules.items():
        flat = "lycoris_" + ace_name(module).replace(".", "_")
        decomposed = "lokr_w2_a" in parts
        own = parts if decomposed else parts | {"lokr_w1": 3.0 * parts["lokr_w1"]}
        weights |= {f"{flat}.{part}": tensor.contiguous() for part, tensor in own.items()}
        weights[f"{flat}.alpha"] = torch.tensor(3.0 * 4 if decomposed else 99.0)
    save_file(weights, tmp_path / LYCORIS)
    assert close(played(pipe, (read_adapter(tmp_path), 1.0)), wanted)
    (tmp_path / CONFIG).write_text(json.dumps({"peft_type": "LOKR", "r": 64, "alpha": 128}))  # ACE-Step adds one
    assert close(played(pipe, (read_adapter(tmp_path), 1.0)), wanted)


def test_factors_that_peft_would_cut_otherwise_are_taken_as_they_are(pipe, tmp_path):
    """LyCORIS' unbalanced factorisation: the larger factor of the rows first."""
    w1, w2 = (torch.randn(shape, generator=torch.Generator().manual_seed(2)) for shape in ((8, 2), (4, 16)))
    save_file({"lycoris_layers_0_self_attn_q_proj.lokr_w1": w1, "lycoris_layers_0_self_attn_q_proj.lokr_w2": w2}
              | {"lycoris_layers_0_self_attn_q_proj.alpha": torch.tensor(1.0)}, tmp_path / LYCORIS)  # fmt: skip
    layer, given = pipe.transformer.layers[0].self_attn.to_q, torch.eye(32)
    bare = layer(given)
    load_adapters(pipe, [(read_adapter(tmp_path), 0.5)])
    got = pipe.transformer.layers[0].self_attn.to_q(given) - bare
    unload_adapters(pipe)
    assert close(got.T, 0.5 * torch.kron(w1, w2))


def test_names_go_there_and_back(pipe):
    from torch.nn import Linear

    for name, module in pipe.transformer.named_modules():
        if isinstance(module, Linear):
            assert module_name(ace_name(name)) == module_name("lycoris_" + ace_name(name).replace(".", "_")) == name
    assert ace_name("proj_in_conv") == "proj_in.1"
    assert module_name("proj_in.1") == "proj_in_conv"


# --- what does not fit -------------------------------------------------------------------------------------------


def edited(folder: Path, run: Path, change) -> Path:
    """A copy of a run, its weights changed."""
    folder.mkdir()
    (folder / CONFIG).write_bytes((run / CONFIG).read_bytes())
    save_file({name: tensor.contiguous() for name, tensor in change(load_file(run / PEFT)).items()}, folder / PEFT)
    return folder


def without_one(weights):
    return {
        name: tensor for name, tensor in weights.items() if not name.endswith("layers.0.mlp.gate_proj.lora_B.weight")
    }


WRONG = {
    "is in this base: it was made for another model": lambda weights: {
        name.replace("layers", "blocks"): tensor for name, tensor in weights.items()
    },
    r"10 of its 20 modules are not in this base \(layers.7": lambda weights: {
        name.replace("layers.1.", "layers.7."): tensor for name, tensor in weights.items()
    },
    "made for a model of another size": lambda weights: {
        name: torch.cat([tensor] * 2, 1) if "A" in name and "down_proj" not in name else tensor
        for name, tensor in weights.items()
    },
    "no numbers|that are none": lambda weights: {name: tensor * torch.nan for name, tensor in weights.items()},
    "is not whole": without_one,
    "belongs to no adapter": lambda weights: weights | {"transformer.layers.0.self_attn.to_q.bias": torch.ones(3)},
    "LoHa": lambda weights: {"layers.0.self_attn.to_q.hada_w1_a": torch.ones(3, 3)},
    "a mixture of": lambda weights: (
        weights | {f"layers.9.self_attn.to_q.lokr_w{number}": torch.ones(2, 2) for number in (1, 2)}
    ),
    "is not one number": lambda weights: weights | {"layers.0.self_attn.to_q.alpha": torch.ones(2)},
    r"alpha of layers\.5\.mlp": lambda weights: weights | {"layers.5.mlp.up_proj.alpha": torch.tensor(1.0)},
    "to_q is not whole": lambda weights: weights | {"layers.0.self_attn.to_q.lora_A.weight": torch.ones(4, 32, 1)},
    "to_k is not whole": lambda weights: (
        weights
        | {
            f"layers.0.self_attn.to_k.lora_{part}.weight": torch.ones(shape)
            for part, shape in zip("AB", ((0, 32), (16, 0)), strict=True)
        }
    ),
    "DoRA in LyCORIS' layout": lambda weights: (
        weights | {"lycoris_layers_0_self_attn_q_proj.dora_scale": torch.ones(3)}
    ),
    "has layers.0.mlp.gate_proj twice": lambda weights: (
        weights | {"base_model.model.layers.0.mlp.gate_proj.lora_A.weight": torch.ones(4, 32)}
    ),
    "holds no weights of an adapter": lambda weights: {"layers.0.self_attn.to_q.alpha": torch.tensor(1.0)},
}


@pytest.mark.parametrize("reason", WRONG)
def test_what_does_not_match_is_refused_in_one_line(pipe, runs, tmp_path, reason):
    bare = velocity(pipe)
    folder = edited(tmp_path / "odd", runs["lora"][0], WRONG[reason])
    with pytest.raises(RunError, match=reason) as caught:
        load_adapters(pipe, [(read_adapter(runs["lora"][0]), 1.0), (read_adapter(folder), 1.0)])
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
    assert torch.equal(velocity(pipe), bare), "a refused adapter leaves something behind"


def test_an_adapter_of_another_base_is_refused_unless_it_is_wished(base, pipe, runs, tmp_path):  # noqa: F811
    folder = edited(tmp_path / "elsewhere", runs["lora"][0], dict)
    (folder / "run.json").write_text(json.dumps({"base": "someone/else", "base_fingerprint": "0123456789ab"}))
    adapter, here = read_adapter(folder), fingerprint(base)
    with pytest.raises(RunError, match=f"trained on someone/else .*this base is {here}; .*--any-base"):
        check(adapter, pipe.transformer, base=here)
    assert torch.equal(played(pipe, (adapter, 1.0)), runs["lora"][1])


def test_a_run_that_is_not_finished_and_its_checkpoints(runs, tmp_path):
    (tmp_path / "run.json").write_text('{"base": "tiny"}')
    with pytest.raises(RunError, match=r"has not come to the end; go on with"):
        read_adapter(tmp_path)
    for name in ("000020", "000100", "000200", "mine"):
        edited(tmp_path / f"checkpoint-{name}", runs["lora"][0], dict)
        if name != "000200":  # whose save was interrupted
            (tmp_path / f"checkpoint-{name}" / "state.json").write_text("{}")
    with pytest.raises(RunError, match=r"give its newest checkpoint, .*checkpoint-000100, or go on"):
        read_adapter(tmp_path)
    assert read_adapter(tmp_path / "checkpoint-000020").facts == {"base": "tiny"}


def test_hostile_places(runs, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "pickled").mkdir()
    (tmp_path / "pickled" / "adapter_model.bin").write_bytes(b"x")
    (tmp_path / "x.pt").write_bytes(b"x")
    (tmp_path / "cut.safetensors").write_bytes((runs["lora"][0] / PEFT).read_bytes()[:1000])
    (tmp_path / "text.safetensors").write_text("hello")
    two = tmp_path / "two"
    two.mkdir()
    for name in "ab":
        (two / f"{name}.safetensors").write_bytes((runs["lora"][0] / PEFT).read_bytes())
    listed = edited(tmp_path / "listed", runs["lora"][0], dict)
    (listed / CONFIG).write_text("[]")
    broken = edited(tmp_path / "broken", runs["lora"][0], dict)
    (broken / CONFIG).write_text("{")
    deep = edited(tmp_path / "deep", runs["lora"][0], dict)
    (deep / CONFIG).write_text("[" * 10**5)
    wrong = {"absent": "no such adapter", "empty": "holds no adapter", "pickled": "pickle, which may run any program"}
    wrong |= {"x.pt": "only safetensors", "cut.safetensors": "cannot be read", "text.safetensors": "cannot be read"}
    wrong |= {
        "two": "holds 2 .safetensors files; give one",
        "broken": "cannot be read: Expecting",
        "listed": "a list, not a JSON object",
        "deep": "too deep",
    }
    for name, reason in wrong.items():
        with pytest.raises(WoodshedError, match=reason):
            read_adapter(tmp_path / name)
    with pytest.raises(FileError):
        read_adapter(tmp_path / "absent")
