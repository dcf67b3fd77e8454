"""The steps of the models: one id after another gives what the whole row gives."""

import numpy as np
import pytest
import torch
from model_toys import VOCAB, make, random_ids

from woodshed.errors import InputError
from woodshed.symbolic import models
from woodshed.symbolic.playing import engines
from woodshed.symbolic.playing.engines import ACTIVATIONS, LlamaStep, LSTMStep, RelativeStep, make_step
from woodshed.symbolic.playing.step import HubStep

pytestmark = pytest.mark.usefixtures("one_thread")


def steps_of(name: str) -> list:
    """A model with the step it gets and with the generic one."""
    model = make(name)
    return [(model, step) for step in {type(step): step for step in (make_step(model), HubStep(model))}.values()]


every_step = pytest.mark.parametrize(("model", "step"), [pair for name in models.names() for pair in steps_of(name)])


@torch.no_grad()
def full(model, ids: list[int]) -> np.ndarray:
    """The logits (T, V) of the full forward of one row."""
    return model(torch.tensor([ids])).logits[0].numpy()


@every_step
def test_stepping_equals_the_full_forward(model, step):
    ids = random_ids(300).tolist()
    logits = [step.start([ids[:270]])[0]] + [step(np.array([token]))[0] for token in ids[270:]]
    np.testing.assert_allclose(logits, full(model, ids)[269:], atol=1e-4)


@every_step
def test_rows_of_a_batch_equal_rows_alone(monkeypatch, model, step):
    monkeypatch.setattr(engines, "PREFILL", 16)
    lengths, ids = [60, 1, 40], random_ids(3, 80).tolist()
    expected = [full(model, row) for row in ids]
    got = step.start([row[:n] for row, n in zip(ids, lengths, strict=True)])
    assert got.dtype == np.float32 and got.shape == (3, VOCAB)
    for added in range(10):
        np.testing.assert_allclose(got, [e[n - 1 + added] for e, n in zip(expected, lengths, strict=True)], atol=1e-4)
        got = step(np.array([row[n + added] for row, n in zip(ids, lengths, strict=True)]))
    step.keep([2, 1])
    got = step(np.array([ids[2][50], ids[1][11]]))
    np.testing.assert_allclose(got, [expected[2][50], expected[1][11]], atol=1e-4)


@every_step
def test_start_forgets_and_bounds_are_told(model, step):
    ids = random_ids(40).tolist()
    before = step.start([ids])
    step.start([ids[:3], ids[7:30]])
    np.testing.assert_allclose(step.start([ids]), before, atol=1e-6)
    with pytest.raises(InputError, match="one or more"):
        step.start([ids, []])
    with pytest.raises(InputError, match="301 ids in a context of 300"):
        step.start([random_ids(301).tolist()])
    step.start([random_ids(300).tolist()])
    with pytest.raises(InputError, match="301 ids in a context of 300"):
        step(np.array([3]))


def test_every_model_has_an_engine_of_its_own():
    engines = {name: type(make_step(make(name))) for name in models.names()}
    relative = dict.fromkeys(("music_transformer", "music_gpt2"), RelativeStep)
    assert engines == {"decoder": LlamaStep, "lstm": LSTMStep} | relative


def test_logits_of_another_precision_come_in_float32():
    model = make("decoder").bfloat16()
    logits = HubStep(model).start([random_ids(20).tolist()])
    assert logits.dtype == np.float32 and logits.shape == (1, VOCAB)


def test_a_model_on_another_device_goes_to_the_hub_step_which_says_where():
    assert make_step(make("decoder")).engine == "LlamaStep" and HubStep(make("decoder")).engine == "HubStep"
    assert make_step(make("decoder").to("meta")).engine == "HubStep on meta"


def test_an_activation_without_an_engine_goes_to_the_hub_step():
    model, ids = make("music_gpt2", hidden_act="silu"), random_ids(20).tolist()
    assert "silu" not in ACTIVATIONS and isinstance(make_step(model), HubStep)
    np.testing.assert_allclose(make_step(model).start([ids])[0], full(model, ids)[-1], atol=1e-4)


def test_llama_step_knows_grouped_heads():
    model, ids = make(num_key_value_heads=1), random_ids(20).tolist()
    step = make_step(model)
    assert isinstance(step, LlamaStep)
    np.testing.assert_allclose(step.start([ids])[0], full(model, ids)[-1], atol=1e-4)


@pytest.mark.parametrize("overrides", [{"attention_bias": True}, {"hidden_act": "gelu"}], ids=["bias", "gelu"])
def test_other_llamas_go_to_the_hub_step(overrides):
    model, ids = make(**overrides), random_ids(20).tolist()
    step = make_step(model)
    assert isinstance(step, HubStep)
    np.testing.assert_allclose(step.start([ids])[0], full(model, ids)[-1], atol=1e-4)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft 0.21 on transformers 5.23
def test_adapters_go_to_the_hub_step_until_they_are_merged():
    from peft import LoraConfig, get_peft_model

    model, rows = make(), [random_ids(20).tolist(), random_ids(9, seed=2).tolist()]
    plain = full(model, rows[0])
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)).eval()
    expected = [full(adapted, row)[-1] for row in rows]
    assert not np.allclose(expected[0], plain[-1], atol=1e-2)
    for current in (adapted, model):
        assert isinstance(make_step(current), HubStep)
        np.testing.assert_allclose(make_step(current).start(rows), expected, atol=1e-4)
    merged = make_step(adapted.merge_and_unload())
    assert isinstance(merged, LlamaStep)
    np.testing.assert_allclose(merged.start(rows), expected, atol=1e-4)
