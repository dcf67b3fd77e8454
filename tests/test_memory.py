"""What a training takes in memory is told before it begins, and what to lower where a GPU has not so much."""

import gc
import weakref
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from model_toys import VOCAB, make
from toys import TINY, ToyCorpus

from woodshed.jobs import GB, quiet
from woodshed.symbolic import models
from woodshed.symbolic.learning.adapters import adapt
from woodshed.symbolic.learning.course import Course
from woodshed.symbolic.learning.memory import Memory, advice, free_memory, memory
from woodshed.symbolic.learning.muon import Muon, parameter_groups
from woodshed.symbolic.learning.settings import TrainSettings, resolve
from woodshed.symbolic.learning.train import train

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = Memory(1 * GB, 1 * GB, 2 * GB, 3 * GB, 1 * GB, 2 * GB)


def learner(name: str):
    model = make(name).eval()
    return SimpleNamespace(
        model=model, args=SimpleNamespace(bf16=False, fp16=False), optimizer=torch.optim.AdamW(model.parameters())
    )


def kept(model, rows: int, length: int) -> int:
    """What the model really keeps of so many rows of that length, the weights not counted."""
    own, found = {weight.untyped_storage().data_ptr() for weight in model.parameters()}, {}

    def seen(tensor):
        found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor):
        out = model.train()(input_ids=torch.ones((rows, length), dtype=torch.long))
    del out
    return sum(size for place, size in found.items() if place not in own)


@pytest.mark.parametrize("name", models.names())
def test_what_is_kept_of_long_rows_is_foretold_by_short_ones(name):
    toy = learner(name)
    state, found = torch.get_rng_state(), memory(toy, rows=3, length=300)
    assert torch.equal(torch.get_rng_state(), state) and not toy.model.training
    assert found.activations == pytest.approx(kept(toy.model, 3, 300), rel=0.1)


@pytest.mark.parametrize("name", models.names())
def test_nothing_that_was_counted_stays(name):
    toy, made = learner(name), []

    def watch(part, given, out):
        made.extend(weakref.ref(each) for each in (out,) if torch.is_tensor(each))

    for part in toy.model.modules():
        part.register_forward_hook(watch)
    memory(toy, rows=3, length=300)
    gc.collect()
    assert made and not any(ref() is not None for ref in made)


def test_more_is_told_to_come_and_go_of_an_adapter():
    toy = learner("decoder")
    plain = memory(toy, rows=2, length=50)
    with quiet("transformers"):
        toy.model = adapt(toy.model, resolve(TrainSettings(base="b")))
    found = memory(toy, rows=2, length=50)
    assert found.gaps / (found.total - found.weights) > plain.gaps / (plain.total - plain.weights) > 0
    assert found.total == sum(vars(found).values()) and str(found).endswith(f"gaps {found.gaps / GB:.2f}")


def test_weights_gradients_and_optimizer_are_counted_once():
    toy = learner("decoder")
    count = sum(weight.numel() for weight in toy.model.parameters())  # whose head is tied
    found = memory(toy, rows=2, length=50)
    assert (found.weights, found.gradients, found.optimizer) == (4 * count, 4 * count, 8 * count)
    assert found.logits == 2 * 50 * VOCAB * 16
    frozen = toy.model.get_input_embeddings().weight.requires_grad_(False)
    toy.optimizer = Muon(parameter_groups(toy.model, 0.0), lr=1e-3)
    matrices = sum(w.numel() for w in toy.model.parameters() if w.ndim == 2 and w is not frozen)
    found = memory(toy, rows=2, length=50)
    assert found.gradients == 4 * (count - frozen.numel())
    assert found.optimizer == 4 * matrices + 8 * (count - frozen.numel() - matrices)


def test_it_is_told_before_the_first_step(tmp_path):
    told = []
    train(ToyCorpus(), tmp_path / "run", report=told.append, max_steps=1, **TINY)
    messages = [line.message for line in told[: [line.step for line in told].index(1)]]
    assert messages[1].startswith("about 0.00 GB of memory: weights 0.00 + gradients 0.00 + optimizer 0.00 +")


def test_what_does_not_fit_is_told_with_what_to_lower():
    settings = TrainSettings(base="piano", adapter="lora", max_seq_len=2048)
    assert advice(SMALL, settings, Course(4, 2, 1), None) == advice(SMALL, settings, Course(4, 2, 1), 11 * GB) == ""
    assert advice(SMALL, settings, Course(4, 2, 1), 8 * GB) == (
        "; the GPU has 8.00 GB free: give a smaller --batch-size than 4 (--batch-size 1 --gradient-accumulation 8 "
        "learns the same), a shorter --max-seq-len than 2048, --load-in-4bit, or "
        "--training-args gradient_checkpointing=true"
    )
    new = replace(settings, base=None, adapter="none", training_args=("activation_checkpointing=true",))
    assert advice(SMALL, new, Course(1, 1, 1), GB) == (
        "; the GPU has 1.00 GB free: give a shorter --max-seq-len than 2048, or a smaller --size"
    )
    four = replace(settings, load_in_4bit=True, training_args=("gradient_checkpointing=true",))
    assert advice(SMALL, four, Course(1, 1, 1), GB).endswith("free: give a shorter --max-seq-len than 2048")


def test_what_a_gpu_has_counts_with_what_is_taken_already(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5 * GB, 8 * GB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 2 * GB)
    assert free_memory(torch.device("cuda")) == 7 * GB and free_memory(torch.device("cpu")) is None
