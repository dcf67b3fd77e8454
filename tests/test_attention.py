"""The attention for training on CPU equals torch's own, forwards and backwards."""

import pytest
import torch
from model_toys import assert_close, assert_grads, logits_and_grads, make, random_ids

from woodshed.symbolic.models import _attention
from woodshed.symbolic.models._attention import attention_for, chunked_attention

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("overrides", [{}, {"num_key_value_heads": 1}], ids=["plain", "grouped"])
@pytest.mark.parametrize("length", [5, 128, 300])
def test_chunked_equals_sdpa(overrides, length):
    model, ids = make(**overrides), random_ids(3, length)
    model.set_attn_implementation("chunked")
    fast = logits_and_grads(model, ids)
    model.set_attn_implementation("sdpa")
    stock = logits_and_grads(model, ids)
    assert_close(fast[0], stock[0])
    assert_grads(fast[1], stock[1])


def window(length: int) -> torch.Tensor:
    """A mask (1, 1, T, T) of an additive kind that has no first keys: every query sees every other key."""
    at = torch.arange(length)
    seen = (at <= at[:, None]) & ((at - at[:, None]) % 2 == 0)
    return torch.zeros(length, length).masked_fill(~seen, -torch.inf)[None, None]


@pytest.mark.parametrize("mask", [torch.arange(140)[None] % 7 != 3, window(140)], ids=["holes", "own mask"])
def test_masks_without_first_keys_are_kept(mask):
    model, ids = make(), random_ids(1, 140)
    model.set_attn_implementation("chunked")
    fast = model(ids, attention_mask=mask).logits
    assert not torch.allclose(fast, model(ids).logits, atol=1e-2)
    model.set_attn_implementation("sdpa")
    stock = model(ids, attention_mask=mask).logits
    real = mask[0] if mask.ndim == 2 else slice(None)
    assert_close(fast[:, real], stock[:, real])


def test_bf16_autocast_stays_near_fp32():
    model, ids = make(), random_ids(2, 300)
    exact = attended(model, "sdpa", ids)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = {kind: attended(model, kind, ids) for kind in ("chunked", "sdpa")}
    errors = {kind: float((logits - exact).abs().mean()) for kind, logits in rounded.items()}
    assert 0 < errors["chunked"] < 1.5 * errors["sdpa"]


def attended(model, kind: str, ids: torch.Tensor) -> torch.Tensor:
    model.set_attn_implementation(kind)
    with torch.no_grad():
        return model(ids).logits.float()


@pytest.mark.parametrize("first", [None, torch.tensor([[0] * 4 + [4] * 5, [3] * 9])], ids=["plain", "masked"])
@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_gradients_are_those_of_finite_differences(monkeypatch, first, dropout):
    monkeypatch.setattr(_attention, "CHUNK", 4)
    monkeypatch.setattr(_attention, "ALIGN", 2)
    if first is not None:
        first = torch.minimum(first, torch.arange(9))
    inputs = [torch.randn(2, 1, 9, 2, dtype=torch.float64, requires_grad=True) for _ in range(3)]

    def attention(query, key, value):
        torch.manual_seed(0)
        return chunked_attention(torch.nn.Module(), query, key, value, first, dropout=dropout)[0]

    assert torch.autograd.gradcheck(attention, inputs)


def test_dropout_drops_weights_and_scales_the_others():
    size = 200
    equal, reveal = torch.zeros(1, 1, size, size), torch.eye(size)[None, None]
    weights = chunked_attention(torch.nn.Module(), equal, equal, reveal, None, dropout=0.25)[0][0, :, 0]
    counts = torch.arange(1, size + 1)[:, None]
    kept = weights > 0
    assert not weights.triu(1).any()
    torch.testing.assert_close(weights[kept], (1 / 0.75 / counts).expand_as(weights)[kept])
    assert kept.sum() / counts.sum() == pytest.approx(0.75, abs=0.02)


def test_attention_for_devices():
    assert attention_for("cpu") == "chunked"
    assert attention_for("cuda:1") == attention_for(torch.device("cuda")) == "sdpa"
