"""Muon: what it does to matrices, that the rest is AdamW, and that its state can be saved."""

import copy

import pytest
import torch
from torch import nn

from woodshed.symbolic.learning import muon
from woodshed.symbolic.learning.muon import Muon, orthogonal, parameter_groups


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(16, 16), (8, 40), (40, 8)])
def test_an_orthogonal_matrix_keeps_its_directions_and_loses_their_sizes(shape, dtype, monkeypatch):
    monkeypatch.setattr(muon, "fast_bf16", lambda device: dtype == torch.bfloat16)  # else it would be emulated
    torch.manual_seed(0)
    matrix = torch.randn(shape) @ torch.diag(torch.logspace(0, -2, shape[1]))
    found = orthogonal(matrix, steps=10)
    assert found.dtype == dtype
    before, after = torch.linalg.svd(matrix), torch.linalg.svdvals(found.float())
    assert after.max() < 1.3 and after.min() > 0.5
    aligned = before.U[:, : min(shape)].T @ found.float() @ before.Vh[: min(shape)].T
    assert torch.diagonal(aligned).min() > 0.5


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.inner, self.norm = nn.Embedding(7, 8), nn.Linear(8, 8), nn.LayerNorm(8)

    def get_input_embeddings(self):
        return self.words

    def get_output_embeddings(self):
        return None

    def forward(self, ids):
        return self.norm(self.words(ids) + self.inner(self.words(ids))).square().mean(0).sub(1).square().sum()


def steps(model, optimizer, count: int) -> None:
    for step in range(count):
        optimizer.zero_grad()
        model(torch.arange(step, step + 5) % 7).backward()
        optimizer.step()


def test_all_but_the_inner_matrices_follow_adamw():
    torch.manual_seed(0)
    model = Model()
    model.inner.weight.requires_grad = False
    other = copy.deepcopy(model)
    groups = parameter_groups(model, weight_decay=0.1)
    assert not any(group.get("matrices") for group in groups)
    steps(model, Muon(groups, lr=0.01), 5)
    rest = [other.inner.bias, *other.norm.parameters()]
    plain = [{"params": other.words.weight, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    steps(other, torch.optim.AdamW(plain, lr=0.01, betas=(0.9, 0.98)), 5)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_inner_matrices_follow_torchs_muon():
    torch.manual_seed(0)
    model = Model()
    other = copy.deepcopy(model)
    model.places = nn.Embedding(5, 8)  # of positions, as GPT-2 has them
    groups = [group for group in parameter_groups(model, weight_decay=0.1) if group.get("matrices")]
    assert groups[0]["params"] == [model.inner.weight]
    steps(model, Muon(groups, lr=0.01), 3)
    muon = torch.optim.Muon([other.inner.weight], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    steps(other, muon, 3)
    torch.testing.assert_close(model.inner.weight, other.inner.weight, atol=3e-3, rtol=1e-2)


def test_a_saved_state_goes_on_as_if_nothing_had_happened():
    torch.manual_seed(0)
    model = Model()
    optimizer = Muon(parameter_groups(model, weight_decay=0.1), lr=0.01)
    steps(model, optimizer, 3)
    other = copy.deepcopy(model)
    resumed = Muon(parameter_groups(other, weight_decay=0.1), lr=0.5)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    steps(model, optimizer, 3)
    steps(other, resumed, 3)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, atol=0, rtol=0)
