"""Small models of the menu, sharp enough that a wrong mask shows, and what they give."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from woodshed.symbolic import models

VOCAB = 50
each = pytest.mark.parametrize("name", models.names())
# Small ones; a new file in the menu is tested at its smallest size until it stands here.
SMALL = {"hidden_size": 64, "num_hidden_layers": 2}
TINY = {
    "decoder": SMALL | {"intermediate_size": 96, "num_attention_heads": 2, "head_dim": 32},
    "lstm": SMALL,
    "music_gpt2": SMALL | {"num_attention_heads": 2},
    "music_transformer": SMALL | {"intermediate_size": 96, "num_attention_heads": 2},
}
TRANSFORMERS = [name for name in models.names() if name != "lstm"]


def fresh(name: str, *, max_seq_len: int = 300, **overrides):
    torch.manual_seed(0)
    options = TINY.get(name, {}) | overrides
    return models.make(name, size=models.sizes(name)[0], vocab_size=VOCAB, max_seq_len=max_seq_len, **options)


def make(name: str = "decoder", **overrides):
    return spread(fresh(name, **{"initializer_range": 0.06} | overrides).eval())


def spread(model):
    """Sharper attention than fresh weights have, so that a wrong mask shows."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(2)
    return model


def random_ids(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(3, VOCAB, shape, generator=torch.Generator().manual_seed(seed))


def logits_and_grads(model, ids, weight=None, **options) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits, and the gradients of a next-id loss; `weight` (B, T) says which predictions count."""
    model.zero_grad()
    logits = model(ids, **options).logits
    loss = cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(len(ids), -1)
    (loss if weight is None else loss * weight[:, :-1]).sum().backward()
    return logits.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


def assert_close(got, expected, atol=1e-5):
    """Equal to `atol` of the largest value."""
    torch.testing.assert_close(got, expected, rtol=0, atol=atol * max(1.0, float(expected.detach().abs().max())))


def assert_grads(got, expected):
    for name, grad in expected.items():
        assert_close(got[name], grad)
