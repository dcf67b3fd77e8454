"""What every long job asks before it begins: a device that is there, memory, a seed, a folder of its own."""

import errno

import pytest
import torch

from woodshed.errors import InputError
from woodshed.jobs import check_seed, enough_memory, find_device, refuse_occupied, remove_checkpoints


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


def test_seeds_are_those_that_numpy_takes():
    check_seed(0)
    for seed in (-1, 2**32):
        with pytest.raises(InputError, match=f"--seed {seed}: choose from 0 to 4294967295"):
            check_seed(seed)


def checkpoint(out, step, *names):
    (folder := out / f"checkpoint-{step}").mkdir()
    for name in names:
        (folder / name).touch()
    return folder


def test_of_a_checkpoint_that_is_a_link_only_the_link_goes(tmp_path):
    elsewhere = checkpoint(tmp_path, 1, "weights", "state.json")
    (link := tmp_path / "checkpoint-2").symlink_to(elsewhere)
    remove_checkpoints([link], "state.json", pytest.fail)
    assert not link.is_symlink() and len(list(elsewhere.iterdir())) == 2


def test_a_checkpoint_that_cannot_be_removed_is_told_and_not_whole(tmp_path, monkeypatch):
    stuck, said = checkpoint(tmp_path, 1, "weights", "state.json"), []

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", refuse)
        remove_checkpoints([stuck], "state.json", said.append)
    assert said == [f"{stuck} cannot be removed: Permission denied; remove it yourself"]
    assert [path.name for path in stuck.iterdir()] == ["weights"]
    remove_checkpoints([stuck], "state.json", said.append)
    assert not stuck.exists() and len(said) == 1


def test_a_folder_is_occupied_by_what_one_sees(tmp_path):
    for name in (".DS_Store", ".0123456789ab.tmp"):
        (tmp_path / name).touch()
    refuse_occupied(tmp_path, "run.json")
    (tmp_path / "mine").touch()
    with pytest.raises(InputError, match="is not empty"):
        refuse_occupied(tmp_path, "run.json")
