"""Tensors survive a file in any order in memory, and an optimizer goes on from one as if it had not stopped."""

import errno
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from woodshed.audio.tensor_files import optimizer_tensors, restore_optimizer, write_tensors
from woodshed.errors import FileError


def test_tensors_are_written_as_they_read_whatever_their_order(tmp_path):
    turned = torch.arange(6.0).reshape(2, 3).T
    write_tensors(tmp_path / "a.safetensors", {"turned": turned, "learned": torch.nn.Parameter(turned)}, {"of": "a"})
    found = load_file(tmp_path / "a.safetensors")
    assert torch.equal(found["turned"], turned) and torch.equal(found["learned"], turned)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata() == {"of": "a"}


def test_a_full_disk_is_one_line_and_leaves_what_was_there(tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    write_tensors(tmp_path / "a", {"a": torch.zeros(1)})
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(FileError, match=r"a: cannot be written: No space left on device$"):
        write_tensors(tmp_path / "a", {"a": torch.ones(1)})
    assert [path.name for path in tmp_path.iterdir()] == ["a"] and load_file(tmp_path / "a")["a"] == 0


def test_an_optimizer_goes_on_from_a_file(tmp_path):
    weights = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    straight, resumed = (torch.optim.Adam([weight], lr=0.1) for weight in weights)

    def step(optimizer, weight):
        optimizer.zero_grad()
        weight.square().sum().backward()
        optimizer.step()

    for _ in range(2):
        step(straight, weights[0])
    write_tensors(tmp_path / "a", optimizer_tensors(straight))
    restore_optimizer(resumed, load_file(tmp_path / "a"))
    weights[1].data.copy_(weights[0].data)
    step(straight, weights[0])
    step(resumed, weights[1])
    assert torch.equal(*weights)
