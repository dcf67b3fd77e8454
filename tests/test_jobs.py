"""What every long job asks before it begins: a device that is there, memory, a seed, a folder of its own."""

import os
import sys

import pytest
import torch

from woodshed.errors import InputError
from woodshed.jobs import alone, check_seed, enough_memory, find_device, refuse_occupied


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


def test_a_device_is_one_that_there_is(two_gpus):
    assert find_device() == "cuda"
    assert [find_device(name) for name in ("cpu", "cuda", "cuda:1")] == ["cpu", "cuda", "cuda:1"]
    for name in ("cuda:2", "cuda:x", "cuda:", "cpu:0", "mps"):
        with pytest.raises(InputError, match=f"--device {name}: choose from auto, cpu, cuda, cuda:0, cuda:1$"):
            find_device(name)


def test_without_a_gpu_there_is_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device() == "cpu"
    with pytest.raises(InputError, match=r"--device cuda: choose from auto, cpu \(torch finds no CUDA GPU here\)"):
        find_device("cuda")


def test_memory_that_ends_is_one_line():
    with (
        pytest.raises(InputError, match=r"out of GPU memory for a take; give less$"),
        enough_memory("for a take", "give less"),
    ):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such lock there")
def test_a_lock_follows_no_link_and_empties_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    lock, diary = tmp_path / f"woodshed-{os.getuid()}-test.lock", tmp_path / "diary"
    diary.write_text("mine")
    lock.symlink_to(diary)
    with pytest.raises(OSError, match="symbolic links"), alone("test"):
        pass
    assert diary.read_text() == "mine"
    lock.unlink()
    lock.write_text("held")
    with alone("test"):
        assert lock.read_text() == "held"


def test_seeds_are_those_that_numpy_takes():
    check_seed(0)
    for seed in (-1, 2**32):
        with pytest.raises(InputError, match=f"--seed {seed}: choose from 0 to 4294967295"):
            check_seed(seed)


def test_a_folder_is_occupied_by_what_one_sees(tmp_path):
    for name in (".DS_Store", ".0123456789ab.tmp"):
        (tmp_path / name).touch()
    refuse_occupied(tmp_path, "run.json")
    (tmp_path / "mine").touch()
    with pytest.raises(InputError, match="is not empty"):
        refuse_occupied(tmp_path, "run.json")
