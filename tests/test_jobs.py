"""What every long job asks before it begins: a device that is there, memory, a folder of its own."""

import errno
import logging
import os
import signal
import sys
import warnings

import pytest
import torch

from woodshed.errors import FileError, InputError
from woodshed.jobs import (
    Job,
    checkpoint_folders,
    checkpoints_with,
    enough_memory,
    find_device,
    one_process,
    quiet,
    refuse_occupied,
    remove_broken,
    remove_checkpoints,
    resumable,
    stop_on_signals,
)
from woodshed.log import read_log
from woodshed.progress import Progress, part


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


def test_apples_gpus_are_for_what_runs_on_them(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert (find_device(apple=True), find_device("mps", apple=True), find_device()) == ("mps", "mps", "cpu")
    with pytest.raises(InputError, match="--device cuda: choose from auto, cpu, mps"):
        find_device("cuda", apple=True)


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
    with pytest.raises(OSError, match="symbolic links"), one_process("test"):
        pass
    assert diary.read_text() == "mine"
    lock.unlink()
    lock.write_text("held")
    with one_process("test"):
        assert lock.read_text() == "held"


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


def test_checkpoints_come_by_their_steps_and_a_full_disk_tells_of_the_last(tmp_path):
    for name in ("checkpoint-1000", "checkpoint-500", "checkpoint-mine"):
        (tmp_path / name).mkdir()
    found, trouble = checkpoint_folders(tmp_path), FileError("a", "cannot be written: full")
    assert [*found.items()] == [(step, tmp_path / f"checkpoint-{step}") for step in (500, 1000)]
    assert resumable(trouble, tmp_path / "run.json", found) is trouble
    (tmp_path / "run.json").touch()
    for saved, step in ((found, "1,000"), ({}, "0")):
        assert str(resumable(trouble, tmp_path / "run.json", saved)).endswith(f"from step {step} with --resume")


def test_what_a_kill_left_of_a_checkpoint_goes(tmp_path):
    whole, broken = checkpoint(tmp_path, 5, "state.json"), checkpoint(tmp_path, 9, "weights")
    mine = checkpoint(tmp_path, "mine")
    assert remove_broken(tmp_path, "state.json", pytest.fail) == {5: whole} == checkpoints_with(tmp_path, "state.json")
    assert mine.exists() and not broken.exists()


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
    for facts in ("run.json", ""):
        with pytest.raises(InputError, match="is not empty"):
            refuse_occupied(tmp_path, facts)


def test_a_part_of_a_job_reports_within_the_whole():
    told = []
    report = part(part(told.append, 0.5, 1), 0, 0.5, "lstm")
    report(Progress(0.5, "step 3", step=3))
    report(Progress(message="stopped"))
    assert (told[0].share, told[0].text, told[0].step) == (0.625, "lstm  step 3", 3)
    assert told[1].message == "lstm: stopped"


@pytest.mark.parametrize("libraries", [("transformers",), ("diffusers", "transformers")])
def test_libraries_are_quiet_in_a_block_and_then_as_before(libraries):
    loggers = [pytest.importorskip(f"{name}.utils.logging") for name in libraries]
    state = lambda: [(logger.get_verbosity(), logger.is_progress_bar_enabled()) for logger in loggers]  # noqa: E731
    before = state()
    with pytest.raises(ZeroDivisionError), quiet(*libraries):
        warnings.warn("`torch_dtype` is deprecated!", FutureWarning, stacklevel=1)  # here an error, if it is heard
        assert state() == [(logging.ERROR, False)] * len(libraries)
        1 / 0  # noqa: B018
    assert state() == before


def test_a_job_tells_its_messages_logs_events_and_is_stopped_by_a_signal(tmp_path):
    job, told = Job(), []
    job.out, job.report = tmp_path, told.append
    job.say("hello")
    job.say("back to step 3", step=3, event="rollback")
    assert [(now.message, now.step) for now in told] == [("hello", 0), ("back to step 3", 3)]
    assert read_log(tmp_path / "log.jsonl") == [{"step": 3, "event": "rollback", "message": "back to step 3"}]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell in the background takes away
    with pytest.raises(KeyboardInterrupt), stop_on_signals(job):
        job.say_stopped(1234)
        assert not job.stopped and len(told) == 2
        signal.raise_signal(signal.SIGINT)
        assert job.stopped == "SIGINT"
        job.say_stopped(1234)
        assert told[-1].message == "stopped at step 1,234 by SIGINT, saved; go on with --resume"
        signal.raise_signal(signal.SIGINT)
    signal.signal(signal.SIGINT, before)
