"""Adapters on any model: what they train, that merging changes nothing, 4 bits, and what cannot work."""

import dataclasses
import errno
import json
import os
import re
import shutil

import pytest
import torch
from safetensors import SafetensorError
from toys import TINY, ToyCorpus
from transformers import GPT2Config, GPT2LMHeadModel, GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

from woodshed.errors import FileError, InputError, MissingExtra, RunError
from woodshed.jobs import quiet
from woodshed.symbolic import models
from woodshed.symbolic.learning.adapters import adapt, count
from woodshed.symbolic.learning.merge import merge
from woodshed.symbolic.learning.settings import TrainSettings, resolve, resumed
from woodshed.symbolic.learning.train import train
from woodshed.symbolic.models._layers import attach, linear_layers, quantise, round_to_4bit
from woodshed.symbolic.playing.engines import LlamaStep, make_step
from woodshed.symbolic.run import open_run

WIDTH, IDS = 64, 80
STILL = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
SIZES = {
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(
            vocab_size=IDS,
            hidden_size=WIDTH,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
        )
    ),
    "gpt2": lambda: GPT2LMHeadModel(
        GPT2Config(vocab_size=IDS, n_embd=WIDTH, n_layer=2, n_head=4, n_positions=64, **STILL)
    ),
    "neox": lambda: GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=IDS,
            hidden_size=WIDTH,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=64,
        )
    ),
}
ADAPTERS = {"lora": {}, "ia3": {}}
WIDER = TINY | {"model_args": (*TINY["model_args"], '{"hidden_size": 64, "intermediate_size": 128}')}
ADAPTER = {name: TINY[name] for name in ("max_seq_len", "batch_size", "learning_rate", "threads")}


def make(name: str):
    torch.manual_seed(0)
    if name in SIZES:
        return SIZES[name]().eval()
    return models.make(name, size=models.sizes(name)[0], vocab_size=IDS, max_seq_len=64).eval()


def settings(**given) -> TrainSettings:
    return resolve(TrainSettings(base="base", **given))


def adapted(model, **given):
    with quiet("transformers"):
        return adapt(model, settings(**given))


def disturbed(model):
    """With trained weights that are no longer what they began as."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += 0.1 * torch.randn_like(weight)
    return model.eval()


def logits(model):
    with torch.no_grad():
        return model(input_ids=torch.arange(40)[None] + 10).logits


transformers = [*SIZES, *(name for name in models.names() if linear_layers(make(name)))]


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("name", transformers)
def test_merged_is_unmerged_on_every_transformer(name, adapter, tmp_path):
    base = logits(make(name))
    model = disturbed(adapted(make(name), adapter=adapter, lora_rank=4 if adapter == "lora" else None))
    expected = logits(model)
    assert not expected.allclose(base, atol=1e-2)
    model.save_pretrained(tmp_path)
    with quiet("transformers"):
        again, merged = attach(make(name), tmp_path), attach(make(name), tmp_path, merge=True)
    assert logits(again).allclose(expected, atol=1e-5) and logits(merged).allclose(expected, atol=1e-5)
    assert type(merged) is type(make(name)) and not linear_layers(merged).keys() ^ linear_layers(make(name)).keys()


@pytest.mark.parametrize("name", transformers)
def test_lora_is_on_every_linear_layer_and_nothing_else_is_trained(name):
    layers, rank = linear_layers(make(name)), 3
    model = adapted(make(name), lora_rank=rank)
    on = {n.removeprefix("base_model.model.") for n, module in model.named_modules() if hasattr(module, "lora_A")}
    assert on == layers.keys() and len(layers) >= 8
    trained = sum(rank * sum(layer.weight.shape) for layer in layers.values())
    assert count(model) == (sum(weight.numel() for weight in make(name).parameters()) + trained, trained)


def test_ia3_scales_what_comes_out_and_what_goes_into_the_second_half_of_a_feed_forward_block():
    shapes = {
        name.split(".")[-3]: tuple(weight.shape)
        for name, weight in adapted(make("llama"), adapter="ia3").named_parameters()
        if weight.requires_grad
    }
    heads = {"q_proj": (64, 1), "k_proj": (32, 1), "v_proj": (32, 1), "o_proj": (64, 1)}
    assert shapes == heads | {"gate_proj": (96, 1), "up_proj": (96, 1), "down_proj": (1, 96)}


# --- 4 bits ------------------------------------------------------------------------------------------------------


@pytest.fixture
def bitsandbytes():
    return pytest.importorskip("bitsandbytes")


@pytest.mark.parametrize("name", ["llama", "gpt2", "neox"])
def test_a_model_in_4_bits_is_the_model_with_rounded_weights(name, bitsandbytes):
    packed, rounded, before = make(name), make(name), linear_layers(make(name))
    quantise(packed)
    round_to_4bit(rounded)
    assert not logits(packed).allclose(logits(make(name)), atol=1e-3)
    assert logits(packed).allclose(logits(rounded), atol=1e-5)
    assert count(packed)[0] == count(make(name))[0]
    kept = [n for n, layer in linear_layers(packed).items() if not hasattr(layer.weight, "quant_state")]
    assert [n.rpartition(".")[2] for n in kept] == (["down_proj"] * 2 if name == "llama" else [])  # it reads 96
    for n, layer in linear_layers(packed).items():
        if n not in kept:
            assert layer.weight.nbytes == before[n].weight.numel() / 2 and not layer.weight.requires_grad
            assert layer.weight.quant_state.nested and layer.weight.quant_state.quant_type == "nf4"
    for n, layer in linear_layers(rounded).items():  # the error of NF4 on normal weights is .09 of them
        error = (layer.weight - before[n].weight).norm() / before[n].weight.norm()
        assert error == 0 if n in kept else 0.08 < error < 0.1


def test_a_model_too_narrow_for_4_bits(bitsandbytes):
    narrow = GPT2LMHeadModel(GPT2Config(vocab_size=IDS, n_embd=32, n_inner=80, n_layer=1, n_head=2))
    with pytest.raises(InputError, match="--load-in-4bit: no layer reads a multiple of 64 numbers"):
        adapted(narrow, load_in_4bit=True)


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_an_adapter_over_4_bits_learns_also_after_an_evaluation(name, adapter, bitsandbytes):
    def gradients(model):
        model.zero_grad()
        ids = torch.arange(40)[None] + 10
        model.train()(input_ids=ids, labels=ids).loss.backward()
        return {n: weight.grad.clone() for n, weight in model.named_parameters() if weight.requires_grad}

    given = {"adapter": adapter} | ({"lora_dropout": 0.0} if adapter == "lora" else {})
    plain = make(name)
    round_to_4bit(plain)
    expected = gradients(disturbed(adapted(plain, **given)).train())
    model = disturbed(adapted(make(name), load_in_4bit=True, **given))
    before = gradients(model)
    logits(model.eval())
    after = gradients(model)
    assert before.keys() == after.keys() == expected.keys()
    for n in expected:
        assert before[n].equal(after[n]) and before[n].abs().max() > 0
        assert before[n].allclose(expected[n], atol=1e-4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a base, and adapters of each kind over it."""
    folder = tmp_path_factory.mktemp("adapters")
    train(ToyCorpus(), folder / "base", max_steps=8, **WIDER)
    for adapter in ADAPTERS:
        train(ToyCorpus(), folder / adapter, base=str(folder / "base"), adapter=adapter, max_steps=4, **ADAPTER)
    return folder


def toy_logits(model):
    ids = ToyCorpus().evaluation_rows("validation", 64)[0]["input_ids"]
    with torch.no_grad():
        return model(input_ids=torch.from_numpy(ids[None])).logits


def test_qlora_trains_tells_the_true_sizes_and_plays_fast(folder, tmp_path, bitsandbytes):
    told, base = {}, str(folder / "base")
    for name, four in (("lora", False), ("qlora", True)):
        lines = told.setdefault(name, [])
        run = train(
            ToyCorpus(), tmp_path / name, report=lines.append, base=base, load_in_4bit=four, max_steps=8, **ADAPTER
        )
    sizes = [[line.message for line in lines if line.message.startswith("Total")] for lines in told.values()]
    assert sizes[0] == sizes[1]
    assert re.fullmatch(r"Total parameters \d\d,\d{3} / Trainable parameters [\d,]+ \(\d+\.\d\d%\)", sizes[0][0])
    losses = [[line.loss for line in lines if line.loss == line.loss] for lines in told.values()]
    assert losses[0] != losses[1] and losses[0] == pytest.approx(losses[1], rel=0.05)
    merged = run.model(merge=True)
    assert type(make_step(merged)) is LlamaStep and {w.dtype for w in merged.parameters()} == {torch.float32}
    assert toy_logits(run.model()).allclose(toy_logits(merged), atol=1e-5)
    longer = train(ToyCorpus(), tmp_path / "qlora", resume=True, max_steps=10)
    assert longer.facts["settings"]["load_in_4bit"] and longer.facts["step"] == 10
    shutil.copytree(tmp_path / "qlora", tmp_path / "float")
    facts = json.loads((tmp_path / "float" / "run.json").read_text())
    facts["settings"]["load_in_4bit"] = False
    facts["base"] = str(folder / "base")
    (tmp_path / "float" / "run.json").write_text(json.dumps(facts))
    assert not toy_logits(open_run(tmp_path / "float").model()).allclose(toy_logits(longer.model()), atol=1e-3)


def test_without_bitsandbytes_it_is_named_before_anything_is_written(folder, tmp_path, monkeypatch):
    find = "importlib.util.find_spec"
    monkeypatch.setattr(find, lambda name, *more: None)
    with pytest.raises(MissingExtra, match=r"bitsandbytes is not installed; .*woodshed\[qlora\]"):
        train(ToyCorpus(), tmp_path / "out", base=str(folder / "base"), load_in_4bit=True, max_steps=1, **ADAPTER)
    assert not (tmp_path / "out").exists()


# --- merge -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_merged_run_is_whole_and_plays_the_same(folder, tmp_path, adapter):
    run = open_run(folder / adapter)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    merged = merge(run, tmp_path / "whole")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    (tmp_path / "whole").rename(tmp_path / "given away")
    merged = open_run(tmp_path / "given away")
    assert toy_logits(merged.model()).allclose(toy_logits(run.model()), atol=1e-5)
    assert not merged.facts["adapter"] and merged.facts["base"] is None
    corpus, theirs = ((made.folder / made.facts["corpus_folder"]).resolve() for made in (merged, run))
    assert corpus == theirs
    assert merged.facts["parameters"] == merged.model().num_parameters()
    assert {path.name for path in merged.folder.iterdir()} == {
        *("config.json", "generation_config.json", "model.safetensors", "run.json", "README.md"),
        *("tokenizer.json", "tokenizer_config.json", "takes"),
    }
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    again = train(ToyCorpus(), tmp_path / "again", base=str(merged.folder), max_steps=1, **ADAPTER)
    assert again.facts["adapter"]
    with pytest.raises(RunError, match="no checkpoint to go on from; train a new run with this one as its --base"):
        train(ToyCorpus(), merged.folder, resume=True, max_steps=9)


def test_merge_leaves_alone_what_lies_beside_it(folder, tmp_path, monkeypatch):
    (mine := tmp_path / f".whole.{os.getpid()}").mkdir()
    (mine / "notes.txt").touch()

    def full(*args, **keywords):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("woodshed.symbolic.learning.merge.publish", full)
    with pytest.raises(FileError, match=r"whole: cannot be written: No space left on device$"):
        merge(folder / "lora", tmp_path / "whole")
    assert list(tmp_path.iterdir()) == [mine] and (mine / "notes.txt").exists()


def test_merge_on_a_full_disk_is_told_in_one_line(folder, tmp_path, monkeypatch):
    def full(*args, **keywords):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("transformers.modeling_utils.safe_save_file", full)
    with pytest.raises(FileError, match=r"whole: cannot be written: No space left on device$"):
        merge(folder / "lora", tmp_path / "whole")
    assert not any(tmp_path.iterdir())


def test_merge_overwrites_nothing_and_needs_an_adapter(folder, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "file").write_text("mine")
    for name in ("mine", "file"):
        with pytest.raises(InputError, match=f"{name} exists already"):
            merge(folder / "lora", tmp_path / name)
    with pytest.raises(RunError, match="it has no adapter to merge"):
        merge(folder / "base", tmp_path / "new")
    with pytest.raises(RunError, match="not a run"):
        merge(tmp_path / "nothing", tmp_path / "new")
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "file"}


def test_an_adapter_is_refused_by_a_base_it_was_not_made_for(folder, tmp_path):
    music = shutil.copytree(folder, tmp_path / "music")
    train(ToyCorpus(), tmp_path / "other", max_steps=2, seed=3, **WIDER)
    shutil.copyfile(tmp_path / "other" / "model.safetensors", music / "base" / "model.safetensors")
    reason = r"its base .* has other weights than it was trained on \(\w{12}, not \w{12}\); put those back"
    for attempt in (
        lambda: open_run(music / "lora").model(merge=True),
        lambda: merge(music / "ia3", tmp_path / "new"),
        lambda: train(ToyCorpus(), music / "lora", resume=True, max_steps=9),
    ):
        with pytest.raises(RunError, match=reason):
            attempt()
    assert not (tmp_path / "new").exists()


# --- what cannot work --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, told",
    [
        ({"lora_rank": 0}, "--lora-rank 0: give 1 or more; --adapter none trains all weights"),
        ({"lora_rank": 8, "adapter": "ia3"}, "--lora-rank 8: that is for --adapter lora"),
        ({"lora_args": ("use_dora=true",), "adapter": "none"}, "--lora-args .*: that is for --adapter lora"),
        ({"lora_dropout": 1.0}, "--lora-dropout 1.0: give 0 or more, less than 1"),
        ({"lora_alpha": 0.0}, "--lora-alpha 0.0: give more than 0"),
        ({"load_in_4bit": True, "adapter": "none"}, "--load-in-4bit: weights in 4 bits cannot be trained"),
        ({"load_in_4bit": True, "base": None}, "--load-in-4bit: a new model has no weights yet"),
        ({"lora_rank": 8, "base": None}, "--lora-rank: a new model has nothing to adapt"),
        ({"adapter": "lora", "base": None}, "--adapter: a new model has nothing to adapt"),
        ({"adapter": "ia3", "base": None}, "--adapter: a new model has nothing to adapt"),
    ],
)
def test_settings_that_contradict_each_other(given, told):
    with pytest.raises(InputError, match=told):
        resolve(TrainSettings(**{"base": "b"} | given))


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_rank_larger_than_a_layer(name):
    room = 32 if name == "llama" else 64  # the llama's keys are 32 wide
    adapted(make(name), lora_rank=room)
    with pytest.raises(
        InputError, match=rf"--lora-rank {room + 1}: the layer .* turns 64 numbers into .*; give at most"
    ):
        adapted(make(name), lora_rank=room + 1)
    if name == "llama":
        adapted(make(name), lora_rank=33, lora_args=('target_modules=["q_proj", "o_proj"]',))


def test_a_model_without_linear_layers():
    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.core, self.head = torch.nn.LSTM(8, 8), torch.nn.Linear(8, 8)

        def get_output_embeddings(self):
            return self.head

    for given in ({}, {"load_in_4bit": True}, {"adapter": "ia3"}):
        with pytest.raises(InputError, match="base has no linear layers; give --adapter none"):
            adapt(Plain(), settings(**given))


def test_what_has_a_flag_is_no_lora_arg():
    for word in ("r=3", "lora_alpha=3", "lora_dropout=0.3"):
        with pytest.raises(InputError, match=r"--lora-args \w+: set it with --lora-"):
            adapted(make("llama"), lora_args=(word,))
    with pytest.raises(InputError, match="LoraConfig has no setting 'rank'"):
        adapted(make("llama"), lora_args=("rank=3",))
    with pytest.raises(InputError, match="--adapter lora target_modules=nonsense"):
        adapted(make("llama"), lora_args=("target_modules=nonsense",))


@pytest.mark.parametrize(
    "change", [{"adapter": "ia3"}, {"adapter": "none"}, {"lora_rank": 4}, {"load_in_4bit": True}, {"base": "c"}]
)
def test_a_run_goes_on_with_its_own_adapter_alone(change, tmp_path):
    saved = dataclasses.asdict(settings(max_steps=3))
    name = next(iter(change)).replace("_", "-")
    with pytest.raises(RunError, match=rf"--{name} was .*: that would be another run"):
        resumed(TrainSettings(resume=True, **change), saved, tmp_path)
