"""What learns and plays computes on a GPU as it does on the CPU: a test for both; `make gpu` runs those of a GPU."""

import gc
import re

import pytest
import torch
from model_toys import assert_close, assert_grads, each, logits_and_grads, make, random_ids
from toys import ADAPTER, TINY, ToyCorpus, events_of, steps_of, stop_at

from woodshed.symbolic.learning.memory import GB
from woodshed.symbolic.learning.train import train
from woodshed.symbolic.playing.generate import generate

pytestmark = pytest.mark.usefixtures("one_thread")

CUDA = (
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA GPU here"),
    pytest.mark.filterwarnings("default"),  # shown: what warns on a GPU has not been seen yet
)
each_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=CUDA)])
BETWEEN = {"cpu": 0, "cuda": 0.01}  # losses of the same training, relative: a GPU adds in any order
WIDER = TINY | {"model_args": (*TINY["model_args"], '{"hidden_size": 64, "intermediate_size": 128}')}  # for 4 bits
SHORT = {"max_steps": 8, "eval_steps": 4}


def on(device):
    """Settings that train there, in bfloat16 on whatever machine."""
    return {"training_args": ("bf16=true", f"use_cpu={str(device == 'cpu').lower()}")}


@pytest.fixture
def seen():
    """Where linear layers have computed, and in what."""
    found = set()

    def note(module, inputs, output):
        if isinstance(module, torch.nn.Linear):
            found.add((output.device.type, output.dtype))

    hook = torch.nn.modules.module.register_module_forward_hook(note)
    yield found
    hook.remove()


def places(seen):
    return {place for place, _ in seen}


def trained(folder, device, **settings):
    """A run; its losses are those of one that was stopped on its way and went on."""
    whole, stopped = (folder / name for name in ("whole", "stopped"))
    run = train(ToyCorpus(), whole, **SHORT, **on(device), **settings)
    train(ToyCorpus(), stopped, report=stop_at(3), **SHORT, **on(device), **settings)
    assert 3 <= max(steps_of(stopped)) < 8 and "stopped" in events_of(stopped)
    train(ToyCorpus(), stopped, resume=True)
    assert steps_of(stopped) == pytest.approx(steps_of(whole), rel=BETWEEN[device])
    return run


@each
@each_device
def test_every_model_computes_what_it_does_in_float64(name, device):
    ids = random_ids(2, 200)
    logits, grads = logits_and_grads(make(name).to(device), ids.to(device))
    expected, slopes = logits_and_grads(make(name).double(), ids)
    assert_close(logits.cpu().double(), expected)
    assert_grads({key: grad.cpu().double() for key, grad in grads.items()}, slopes)


@each_device
def test_a_training_in_bfloat16_learns_and_goes_on_where_it_was_stopped(device, seen, tmp_path):
    losses = steps_of(trained(tmp_path, device, **TINY).folder)
    assert losses[8] < 0.9 * losses[1]
    assert places(seen) == {device} and (device, torch.bfloat16) in seen


@each_device
def test_an_adapter_over_four_bits_learns_as_over_the_whole_weights(device, seen, tmp_path):
    pytest.importorskip("bitsandbytes")
    base = str(train(ToyCorpus(), tmp_path / "base", **SHORT, **on(device), **WIDER).folder)
    plain = train(ToyCorpus(), tmp_path / "plain", base=base, **SHORT, **on(device), **ADAPTER)
    run = trained(tmp_path, device, base=base, load_in_4bit=True, **ADAPTER)
    assert places(seen) == {device}
    rounded, exact = steps_of(run.folder), steps_of(plain.folder)
    assert rounded != exact and rounded == pytest.approx(exact, rel=0.15) and rounded[8] < rounded[1]
    ids = random_ids(1, 64).to(device)
    with torch.no_grad():
        over, merged = (run.model(merge=merge, device=device)(ids).logits for merge in (False, True))
    assert_close(over, merged)


@each_device
def test_a_take_is_played_there_and_the_same_again(run, device, seen):
    asked = {"chords": "C F", "bars": 2, "takes": 2, "seed": 5, "device": device}
    takes, again = generate(run, **asked), generate(run, **asked)
    assert [take.score for take in again] == [take.score for take in takes] and len(takes[0].score.notes)
    assert {take.engine for take in takes} == {"LlamaStep" if device == "cpu" else f"HubStep on {device}"}
    assert places(seen) == (set() if device == "cpu" else {device})  # numpy plays on the CPU


@pytest.mark.parametrize("adapter", ["none", "lora"])
@pytest.mark.parametrize("device", [pytest.param("cuda", marks=CUDA)])
def test_a_training_takes_the_memory_that_it_told(device, adapter, tmp_path):
    large = {"max_seq_len": 1024, "batch_size": 8, "threads": 1, **on(device)}
    run = train(ToyCorpus(), tmp_path / "base", size="25m", max_steps=1, **large)
    how, told = {"base": str(run.folder), "adapter": adapter}, []
    del run
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_reserved()
    train(ToyCorpus(), tmp_path / "run", report=told.append, max_steps=3, eval_steps=9, **how, **large)
    taken = (torch.cuda.max_memory_reserved() - before) / GB
    (line,) = [progress.message for progress in told if "GB of memory" in progress.message]
    assert float(re.match(r"about ([\d.]+) GB", line)[1]) == pytest.approx(taken, rel=0.35)
