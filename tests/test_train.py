"""train(): the same losses whatever happens on the way, and never a folder that is not its own."""

import errno
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from toys import ADAPTER, STEPS, TINY, ToyCorpus, events_of, steps_of, stop_at

from woodshed import jobs
from woodshed.errors import FileError, InputError, RunError
from woodshed.jobs import claimed, free_threads
from woodshed.symbolic.learning.course import Course
from woodshed.symbolic.learning.settings import TrainSettings, resolve
from woodshed.symbolic.learning.train import train
from woodshed.symbolic.run import checkpoints, open_run


@pytest.fixture(scope="module")
def adapter(reference, tmp_path_factory):
    """LoRA over the reference, with dropout: its losses depend on the random state."""
    run, _ = reference
    out = tmp_path_factory.mktemp("train") / "adapter"
    return train(ToyCorpus(), out, base=str(run.folder), max_steps=12, eval_steps=4, keep_checkpoints=9, **ADAPTER)


# --- what a run leaves behind ------------------------------------------------------------------------------------


def test_a_run_learns_and_reports_every_step(reference):
    _, told = reference
    steps = [progress for progress in told if not progress.message and not progress.validation]
    assert [progress.step for progress in steps] == list(range(1, STEPS + 1))
    assert steps[-1].loss < steps[0].loss / 2
    assert steps[-1].seconds_left == 0
    assert all(progress.seconds_left > 0 for progress in steps[:-1]) and steps[-1].share == 1
    assert told[0].message == "Total parameters 31,136 / Trainable parameters 31,136 (100.00%)"


def test_the_log_has_every_step_and_every_validation(reference):
    run, told = reference
    assert steps_of(run.folder) == {progress.step: progress.loss for progress in told if not progress.message}
    assert {progress.step: progress.validation for progress in told if progress.validation} == steps_of(
        run.folder, "validation"
    )
    assert list(steps_of(run.folder, "validation")) == [8, 16, 24]
    assert (run.folder / "loss.png").read_bytes()[:4] == b"\x89PNG"


def test_validation_is_nats_per_token_note_and_second(reference):
    """Against the model itself, evaluated by hand; the toy rows have 63 labels each, 100 notes, 50 seconds."""
    import torch

    run, _ = reference
    rows = ToyCorpus().evaluation_rows("validation", TINY["max_seq_len"])
    batch = {name: torch.from_numpy(np.stack([rows[i][name] for i in range(len(rows))])) for name in rows[0]}
    with torch.no_grad():
        nats = run.model()(**batch).loss.item()
    validation = run.facts["validation"]
    assert validation["nats_per_token"] == pytest.approx(nats, rel=0.02)  # evaluated in bfloat16
    assert validation["nats_per_note"] == pytest.approx(validation["nats_per_token"] * len(rows) * 63 / 100)
    assert validation["nats_per_second"] == pytest.approx(validation["nats_per_token"] * len(rows) * 63 / 50)


def test_the_best_checkpoint_is_published(reference):
    run, _ = reference
    validations = steps_of(run.folder, "validation")
    best = min(validations, key=lambda step: validations[step]["nats_per_note"])
    assert run.facts["best_step"] == best
    chosen = open_run(run.folder, checkpoint=best).weights / "model.safetensors"
    assert chosen.read_bytes() == (run.folder / "model.safetensors").read_bytes()


def test_only_so_many_checkpoints_are_kept(tmp_path):
    run = train(ToyCorpus(), tmp_path, max_steps=8, eval_steps=2, keep_checkpoints=2, **TINY)
    assert len(checkpoints(run.folder)) == 2
    assert {run.facts["best_step"], 8} <= set(checkpoints(run.folder))


def test_without_validation_the_last_checkpoint_is_published(tmp_path):
    corpus = ToyCorpus()
    corpus.validation = 0
    run = train(corpus, tmp_path, epochs=0.5, gradient_accumulation=2, **TINY)
    assert run.facts["step"] == run.facts["best_step"] == math.ceil(0.5 * 24 / 8)
    assert run.facts["validation"] == {}


def test_an_adapter_trains_few_parameters_over_its_base(adapter, reference):
    base, _ = reference
    assert adapter.facts["adapter"]
    assert adapter.facts["base"] == os.path.relpath(base.folder, adapter.folder)
    assert adapter.facts["trainable"] < 0.2 * adapter.facts["parameters"]
    assert adapter.facts["settings"]["lora_alpha"] == 16
    assert adapter.facts["validation"]["nats_per_note"] < base.facts["validation"]["nats_per_note"]


def test_fine_tuning_all_of_a_base_needs_the_base_no_more(reference, tmp_path):
    base, _ = reference
    settings = {**ADAPTER, "learning_rate": 1e-3}
    run = train(ToyCorpus(), tmp_path / "full", base=str(base.folder), adapter="none", max_steps=3, **settings)
    assert not run.facts["adapter"] and run.facts["trainable"] == run.facts["parameters"]
    first = steps_of(run.folder)[1]
    assert first < steps_of(base.folder)[STEPS] * 1.3  # it began where the base ended
    run.folder.rename(tmp_path / "alone")
    assert open_run(tmp_path / "alone").model().num_parameters() == 31136


@pytest.mark.parametrize("adapter", ["none", "lora", "ia3"])
def test_gradient_checkpointing_computes_layers_again_and_changes_no_loss(reference, tmp_path, monkeypatch, adapter):
    from transformers.models.llama.modeling_llama import LlamaMLP

    forward, calls, losses = LlamaMLP.forward, [], []
    monkeypatch.setattr(LlamaMLP, "forward", lambda self, x: calls.append(self.training) or forward(self, x))
    settings = {**ADAPTER, "base": str(reference[0].folder), "adapter": adapter, "max_steps": 3}
    for words in ((), ("gradient_checkpointing=true",)):
        told = []
        run = train(ToyCorpus(), tmp_path / str(len(words)), training_args=words, report=told.append, **settings)
        losses.append(list(steps_of(run.folder).values()))
        counting_memory = 3 * any("GB of memory" in line.message for line in told)
        assert calls.count(True) == (6 if words else 3 + counting_memory)
        calls.clear()
    assert losses[0] == losses[1]


# --- the same losses, whatever happens ---------------------------------------------------------------------------


def test_smoothed_labels_leave_an_evaluation_in_nats(tmp_path):
    settings = TINY | {"max_steps": 1, "eval_steps": 1, "learning_rate": 1e-9}
    plain, smoothed = (
        train(ToyCorpus(), tmp_path / str(len(words)), training_args=words, **settings).facts["validation"]
        for words in ((), ("label_smoothing_factor=0.9",))
    )
    assert smoothed == pytest.approx(plain, rel=1e-6)


def test_killed_and_resumed_is_uninterrupted(reference, tmp_path):
    """A real process that is killed with SIGKILL in the middle of the run; then bit for bit the same losses."""
    run, _ = reference
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from toys import ToyCorpus, TINY\n"
        "from woodshed.symbolic.learning.train import train\n"
        "import time\n"
        "slow = lambda progress: time.sleep(0.3 if progress.step > 10 else 0)\n"
        f"train(ToyCorpus(), sys.argv[2], report=slow, max_steps={STEPS}, eval_steps=8, **TINY)\n"
    )
    out = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", code, str(Path(__file__).parent), str(out)])
    deadline = time.monotonic() + 120
    while max(steps_of(out), default=0) < 12:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert 12 <= max(steps_of(out)) < STEPS and max(checkpoints(out)) == 8
    with pytest.raises(RunError, match="or with generate, rank and evaluate choose a --checkpoint: 8"):
        open_run(out)
    assert open_run(out, checkpoint=8).model().num_parameters() == 31136
    train(ToyCorpus(), out, resume=True)
    assert steps_of(out) == steps_of(run.folder)
    assert steps_of(out, "learning_rate") == steps_of(run.folder, "learning_rate")
    assert steps_of(out, "validation") == steps_of(run.folder, "validation")
    assert (out / "model.safetensors").read_bytes() == (run.folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_ends_the_run_and_resuming_repeats_the_dropout(adapter, tmp_path, number):
    base = str(adapter.folder / adapter.facts["base"])

    def interrupt(progress):
        if progress.step == 6 and not progress.message:
            os.kill(os.getpid(), number)

    handler = signal.getsignal(number)
    out = tmp_path / "stopped"
    run = train(ToyCorpus(), out, base=base, report=interrupt, max_steps=12, eval_steps=4, **ADAPTER)
    assert signal.getsignal(number) == handler
    assert not run.facts["finished"] and run.facts["step"] == 7 and events_of(out) == ["stopped"]
    assert set(checkpoints(out)) == {4, 7}
    run = train(ToyCorpus(), out, resume=True, keep_checkpoints=9)
    assert run.facts["finished"]
    assert steps_of(out) == steps_of(adapter.folder)


def test_a_broken_checkpoint_is_passed_over(reference, tmp_path):
    """As a kill leaves it: the newest checkpoint without its last file, the log with half a line."""
    out = tmp_path / "run"
    train(ToyCorpus(), out, max_steps=STEPS, eval_steps=8, report=stop_at(17), **TINY)
    (out / "checkpoint-18" / "trainer_state.json").write_text('{"global_st')
    with open(out / "log.jsonl", "a") as file:
        file.write('{"step": 19, "lo')
    assert set(checkpoints(out)) == {8, 16}
    train(ToyCorpus(), out, resume=True)
    assert steps_of(out) == steps_of(reference[0].folder)


def test_killed_before_it_was_published_a_run_is_published_when_resumed(reference, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(reference[0].folder, out)
    (out / "model.safetensors").unlink()
    (out / "run.json").write_text((out / "run.json").read_text().replace('"finished": true', '"finished": false'))
    run = train(ToyCorpus(), out, resume=True)
    assert run.facts["finished"] and run.facts["step"] == STEPS
    assert (out / "model.safetensors").read_bytes() == (reference[0].folder / "model.safetensors").read_bytes()


# --- time and rate -----------------------------------------------------------------------------------------------


def pace(**changes):
    from woodshed.symbolic.learning.callbacks import Pace

    asked = {"steps": 100, "minutes": None, "warmup": 0.1, "seconds": 0.0} | changes
    settings = TrainSettings(max_minutes=asked["minutes"], warmup=asked["warmup"])
    job = SimpleNamespace(settings=settings, steps_of=lambda course: asked["steps"])
    return Pace(job, Course(1, 1, 1, seconds=asked["seconds"]))


def test_the_rate_rises_stays_flat_and_falls_to_zero():
    shape = np.array([pace().rate(step) for step in range(101)])
    assert shape[0] == pytest.approx(0.1) and np.all(np.diff(shape[:10]) > 0)
    assert np.allclose(shape[9:81], 1)
    assert np.allclose(np.diff(shape[80:]), -1 / 20) and shape[100] == 0
    assert pace(warmup=4).rate(1) == pytest.approx(0.5)
    assert pace(warmup=0).rate(0) == 1


def test_the_rate_follows_the_minutes_in_the_same_shape():
    """Half of ten minutes, then nine of them: time spent before a restart counts."""
    assert pace(steps=2**31, minutes=10, seconds=300).rate(5) == pytest.approx(1, abs=1e-3)
    assert pace(steps=2**31, minutes=10, seconds=30).rate(5) == pytest.approx(0.5, abs=1e-2)
    assert pace(steps=2**31, minutes=10, seconds=540).rate(5) == pytest.approx(0.5, abs=1e-2)
    assert pace(steps=2**31, minutes=10, seconds=700).rate(5) == 0
    assert pace(steps=100, minutes=10, seconds=30).rate(90) == pytest.approx(0.5, abs=1e-2)


def test_minutes_end_a_run_and_a_resumed_run_knows_what_is_left(tmp_path):
    settings = {**TINY, "max_minutes": 0.05}
    began = time.monotonic()
    run = train(ToyCorpus(), tmp_path, report=stop_at(3), **settings)
    assert not run.facts["finished"] and run.facts["step"] == 4
    run = train(ToyCorpus(), tmp_path, resume=True)
    assert run.facts["finished"] and 3 <= run.facts["seconds"] <= time.monotonic() - began
    seconds, learned = steps_of(run.folder, "seconds"), steps_of(run.folder, "learning_rate")
    assert all(np.diff(list(seconds.values())) >= 0)
    assert min(learned.values()) < 0.3 * max(learned.values())
    with pytest.raises(RunError, match="it has finished"):
        train(ToyCorpus(), tmp_path, resume=True)


def test_threads_are_what_the_others_leave(monkeypatch):
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for load in (0.0, 0.3, 0.9, 2.0, 500.0):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, 0.0, 0.0), raising=False)
        assert 1 <= free_threads() <= cores
        assert free_threads() == cores or load >= 0.75
    assert free_threads() == 1


def test_a_gpu_that_only_emulates_bfloat16_learns_in_float32(tmp_path, monkeypatch):
    import torch

    from woodshed.symbolic.learning import arguments

    class Asked(arguments.TrainingArguments):
        n_gpu = 1

        def __init__(self, **asked):
            self.asked = asked

    monkeypatch.setattr(arguments, "TrainingArguments", Asked)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (6, 1))
    told = dict(out=tmp_path, settings=resolve(TrainSettings(base=None)), steps=1, validation=None, per={})
    made = arguments.arguments(SimpleNamespace(**told, steps_of=lambda course: 1), Course(1, 1, 1))
    assert made.asked["bf16"] is made.asked["fp16"] is False


# --- whose folder it is --------------------------------------------------------------------------------------------


def test_two_trainings_never_share_a_folder(tmp_path):
    pytest.importorskip("fcntl")
    with claimed(tmp_path), pytest.raises(RunError, match="another training is writing into it"):
        train(ToyCorpus(), tmp_path, max_steps=1, **TINY)
    with claimed(tmp_path):
        pass
    assert not any(tmp_path.iterdir())


def test_two_trainings_never_share_a_folder_on_windows(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def locking(handle, mode, count):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, "Permission denied") from None

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(jobs, "fcntl", None)
    monkeypatch.setattr(jobs, "msvcrt", SimpleNamespace(locking=locking, LK_NBLCK=2), raising=False)
    run = tmp_path / "run"
    run.mkdir()
    with claimed(run), pytest.raises(RunError, match="another training is writing into it"), claimed(run):
        pass
    with claimed(run):
        pass
    assert not any(run.iterdir())


def test_another_corpus_is_refused(reference, tmp_path):
    corpus = ToyCorpus()
    corpus.fingerprint = "other"
    with pytest.raises(RunError, match="it learns from corpus toy-1, this is other"):
        train(corpus, reference[0].folder, resume=True)


def test_a_folder_with_something_in_it_is_never_written_to(reference, tmp_path):
    run, _ = reference
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="holds a run already; add --resume"):
        train(ToyCorpus(), run.folder, max_steps=1, **TINY)
    with pytest.raises(RunError, match="it has finished, at step 24"):
        train(ToyCorpus(), run.folder, resume=True)
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(InputError, match=r"README\.md is a file"):
        train(ToyCorpus(), tmp_path / "README.md", max_steps=1, **TINY)
    with pytest.raises(FileError, match="cannot be written: Not a directory"):
        train(ToyCorpus(), tmp_path / "README.md" / "run", max_steps=1, **TINY)
    with pytest.raises(InputError, match="is not empty"):
        train(ToyCorpus(), tmp_path, max_steps=1, **TINY)
    with pytest.raises(RunError, match="not a run"):
        train(ToyCorpus(), tmp_path, max_steps=1, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
