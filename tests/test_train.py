"""train(): the same losses whatever happens on the way, and every setting kept or refused by name."""

import dataclasses
import errno
import json
import math
import os
import pkgutil
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors import SafetensorError
from toys import TINY, ToyCorpus, ToyRows

from woodshed.config import read_fields
from woodshed.errors import EmptyCorpus, FileError, InputError, MissingExtra, RunError
from woodshed.jobs import claimed, free_threads
from woodshed.log import read_log, rewind_log
from woodshed.symbolic.learning.settings import FREE, PRESETS, Course, TrainSettings, check, resolve, resumed
from woodshed.symbolic.learning.train import train
from woodshed.symbolic.run import checkpoints, open_run

STEPS = 24


def steps_of(folder: Path, key: str = "loss") -> dict[int, float]:
    return {line["step"]: line[key] for line in read_log(folder / "log.jsonl") if key in line}


def events_of(folder: Path) -> list[str]:
    return [line["event"] for line in read_log(folder / "log.jsonl") if "event" in line]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A run that nothing disturbs, and all it reported."""
    out, told = tmp_path_factory.mktemp("train") / "reference", []
    run = train(ToyCorpus(), out, report=told.append, max_steps=STEPS, eval_steps=8, **TINY)
    return run, told


@pytest.fixture(scope="module")
def adapter(reference, tmp_path_factory):
    """LoRA over the reference, with dropout: its losses depend on the random state."""
    run, _ = reference
    out = tmp_path_factory.mktemp("train") / "adapter"
    return train(ToyCorpus(), out, base=str(run.folder), max_steps=12, eval_steps=4, keep_checkpoints=9, **ADAPTER)


ADAPTER = {name: TINY[name] for name in ("max_seq_len", "batch_size", "learning_rate", "threads")}


# --- what a run leaves behind ------------------------------------------------------------------------------------


def test_a_run_learns_and_reports_every_step(reference):
    _, told = reference
    steps = [progress for progress in told if not progress.message and not progress.validation]
    assert [progress.step for progress in steps] == list(range(1, STEPS + 1))
    assert steps[-1].loss < steps[0].loss / 2
    assert steps[-1].seconds_left == 0
    assert all(progress.seconds_left > 0 and progress.ids_per_second > 0 for progress in steps[:-1])
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


# --- the same losses, whatever happens ---------------------------------------------------------------------------


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
    with pytest.raises(RunError, match="choose a checkpoint: 8"):
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


def stop_at(step):
    """A report that presses Ctrl-C after a step; the run ends with the next."""

    def report(progress):
        if progress.step == step and not progress.message and not progress.validation:
            signal.raise_signal(signal.SIGINT)

    return report


def test_killed_before_it_was_published_a_run_is_published_when_resumed(reference, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(reference[0].folder, out)
    (out / "model.safetensors").unlink()
    (out / "run.json").write_text((out / "run.json").read_text().replace('"finished": true', '"finished": false'))
    run = train(ToyCorpus(), out, resume=True)
    assert run.facts["finished"] and run.facts["step"] == STEPS
    assert (out / "model.safetensors").read_bytes() == (reference[0].folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("writer", "place", "error", "told"),
    [
        (
            "transformers.modeling_utils.safe_save_file",
            "checkpoint-16",
            SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
            "checkpoint-16: cannot be written: No space left on device; put that right, then go on from step 8 with",
        ),
        (
            "torch.save",
            "checkpoint-16",
            RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 4823424 vs 4823316"),
            "checkpoint-16: cannot be written: not all of it fits on the disk, or the disk fails; .* step 8 with",
        ),
        (
            "shutil.copyfile",
            ".tmp",
            OSError(errno.ENOSPC, "No space left on device"),
            "model.safetensors: cannot be written: No space left on device; .* step 24 with --resume",
        ),
        (
            "matplotlib.figure.Figure.savefig",
            ".tmp",
            OSError(errno.ENOSPC, "No space left on device"),
            "loss.png: cannot be written: No space left on device; .* step 24 with --resume",
        ),
    ],
)
def test_a_full_disk_leaves_what_was_whole_and_is_resumed(reference, tmp_path, monkeypatch, writer, place, error, told):
    """The writers raise what they raised on a full tmpfs, with half a file written."""
    module, _, name = writer.rpartition(".")
    real = pkgutil.resolve_name(f"{module}.{name}")

    def full(*args, **keywords):
        for path in args:
            if isinstance(path, str | Path) and place in str(path):
                Path(path).write_bytes(b"half")
                raise error
        return real(*args, **keywords)

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(writer, full)
        with pytest.raises(FileError, match=told):
            train(ToyCorpus(), out, max_steps=STEPS, eval_steps=8, **TINY)
    assert {path.name for path in out.glob("checkpoint-*")} == {path.name for path in checkpoints(out).values()}
    assert not list(out.rglob("*.tmp"))
    assert train(ToyCorpus(), out, resume=True).facts["finished"]
    assert steps_of(out) == steps_of(reference[0].folder)


def test_a_disk_with_no_room_at_all_is_left_as_it_was(tmp_path, monkeypatch):
    def full(path, data):
        raise FileError(path, "cannot be written: No space left on device")

    monkeypatch.setattr("woodshed.symbolic.run.write_file", full)
    with pytest.raises(FileError, match=r"run\.json: cannot be written: No space left on device$"):
        train(ToyCorpus(), tmp_path / "run", max_steps=1, **TINY)
    assert not any(tmp_path.iterdir())


def test_two_trainings_never_share_a_folder(tmp_path):
    pytest.importorskip("fcntl")
    with claimed(tmp_path), pytest.raises(RunError, match="another training is writing into it"):
        train(ToyCorpus(), tmp_path, max_steps=1, **TINY)
    with claimed(tmp_path):
        pass
    assert not any(tmp_path.iterdir())


def test_out_of_memory_halves_the_batch_and_learns_the_same(reference, tmp_path, monkeypatch):
    from woodshed.symbolic.learning.callbacks import Learner

    real, told = Learner.training_step, []

    def small(self, model, inputs, num_items_in_batch=None):
        if len(inputs["input_ids"]) > 1:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 8 bytes")
        return real(self, model, inputs, num_items_in_batch)

    monkeypatch.setattr(Learner, "training_step", small)
    run = train(ToyCorpus(), tmp_path, report=told.append, max_steps=10, eval_steps=8, **TINY)
    messages = [progress.message for progress in told if "out of memory" in progress.message]
    assert messages == [
        "out of memory: 2 rows at once instead of 4, 2 times a step",
        "out of memory: 1 rows at once instead of 2, 4 times a step",
    ]
    losses, expected = steps_of(run.folder), steps_of(reference[0].folder)
    assert losses[1] == pytest.approx(expected[1], rel=1e-3)
    assert losses[8] == pytest.approx(expected[8], rel=0.05)  # the same rows in every step
    assert run.facts["settings"]["batch_size"] == 4


def test_out_of_memory_with_one_row_says_what_to_try(tmp_path, monkeypatch):
    from woodshed.symbolic.learning.callbacks import Learner

    def never(*args):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(Learner, "training_step", never)
    with pytest.raises(InputError, match="single row of 64 ids; try a smaller --max-seq-len"):
        train(ToyCorpus(), tmp_path, max_steps=2, **{**TINY, "batch_size": 1})


def test_any_other_error_of_torch_keeps_its_traceback(tmp_path, monkeypatch):
    from woodshed.symbolic.learning.callbacks import Learner

    def bug(*args):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Learner, "training_step", bug)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        train(ToyCorpus(), tmp_path, max_steps=2, **TINY)


class Poisoned(ToyCorpus):
    """Row 48 is noise the first `times` it is drawn; with one row to a step, the loss jumps at step 49."""

    def __init__(self, times: float):
        self.times = times

    def training_rows(self, max_seq_len, seed=0):
        corpus = self

        class Rows(ToyRows):
            def __getitem__(self, index):
                row = super().__getitem__(index)
                if index == 48 and corpus.times > 0:
                    corpus.times -= 1
                    noise = np.random.default_rng(0).integers(300, 600, self.length)
                    row = {**row, "labels": noise}
                return row

        return Rows(24, max_seq_len, seed)


@pytest.fixture
def rates(monkeypatch):
    """The rate in the optimizer itself, as each step finds it: (step, rate)."""
    from woodshed.symbolic.learning.callbacks import Learner

    seen, real = [], Learner.training_step

    def spy(self, *args, **kwargs):
        seen.append((self.state.global_step + 1, self.optimizer.param_groups[0]["lr"]))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Learner, "training_step", spy)
    return seen


ROLL = {**TINY, "batch_size": 1, "learning_rate": 2e-2, "max_steps": 60, "eval_steps": 40}


def test_a_jump_in_loss_rolls_back_and_halves_the_rate(tmp_path, rates):
    told = []
    run = train(Poisoned(1), tmp_path, report=told.append, **ROLL)
    assert events_of(run.folder) == ["rollback"]
    assert any("back to step 40, on at learning rate 0.01" in progress.message for progress in told)
    assert [step for step, _ in rates] == [*range(1, 50), *range(41, 61)]
    assert rates[39][1] == rates[40][1] == pytest.approx(2e-2)
    assert rates[49] == (41, pytest.approx(1e-2))
    assert list(steps_of(run.folder)) == [*range(1, 61)]
    assert steps_of(run.folder, "learning_rate")[41] == pytest.approx(1e-2)
    assert steps_of(run.folder, "learning_rate")[40] == pytest.approx(2e-2)


def test_a_loss_that_jumps_again_and_again_ends_with_advice(tmp_path, rates):
    with pytest.raises(InputError, match=r"diverged 4 times: at step 49 .* try --learning-rate"):
        train(Poisoned(math.inf), tmp_path, **ROLL)
    assert events_of(tmp_path) == ["rollback"] * 3 + ["failed"]
    assert [rate for step, rate in rates if step == 41] == pytest.approx([2e-2, 1e-2, 5e-3, 2.5e-3])


def test_a_loss_that_is_not_a_number_never_reaches_the_weights(tmp_path, monkeypatch):
    import torch

    from woodshed.symbolic.learning.callbacks import Learner

    real, broken = Learner.compute_loss, []

    def breaks(self, *args, **kwargs):
        loss = real(self, *args, **kwargs)
        if self.state.global_step == 5 and not broken and isinstance(loss, torch.Tensor):
            broken.append(True)
            return loss * float("nan")
        return loss

    monkeypatch.setattr(Learner, "compute_loss", breaks)
    run = train(ToyCorpus(), tmp_path, max_steps=8, eval_steps=4, **TINY)
    assert events_of(run.folder) == ["rollback"] and broken
    assert all(math.isfinite(loss) for loss in steps_of(run.folder).values())


def test_a_restart_leaves_the_rest_of_the_log_and_what_happened(tmp_path):
    lines = [{"step": step, "loss": 1.0} for step in range(1, 6)]
    lines.insert(4, {"step": 5, "event": "rollback"})
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 6, "los')
    rewind_log(tmp_path / "log.jsonl", 3)
    assert read_log(tmp_path / "log.jsonl") == [*lines[:3], {"step": 5, "event": "rollback"}]


# --- time and rate -----------------------------------------------------------------------------------------------


def pace(**changes):
    from woodshed.symbolic.learning.callbacks import Pace

    settings = {"steps": 100, "minutes": None, "warmup": 0.1, "eval_steps": None} | changes
    return Pace(Course(1, 1, 1, seconds=settings.pop("seconds", 0.0)), **settings)


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


# --- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, epochs, batch, rate", [("quick", 3, 8, 5e-4), ("balanced", 5, 4, 3e-4), ("best", 10, 2, 2e-4)]
)
def test_presets(name, epochs, batch, rate):
    new = resolve(TrainSettings(preset=name, base=None))
    assert (new.epochs, new.batch_size, new.learning_rate) == (epochs, batch, rate)
    assert (new.adapter, new.lora_rank, new.lora_alpha, new.lora_dropout) == ("none", None, None, None)
    tuned = resolve(TrainSettings(preset=name, base="some/base"))
    assert (tuned.adapter, tuned.lora_rank, tuned.lora_alpha, tuned.lora_dropout) == ("lora", 8, 16, 0.1)
    assert tuned.learning_rate == rate and (PRESETS / f"{name}.json").exists()


def test_the_default_rate_goes_by_what_is_trained():
    """An adapter over frozen weights learns with rates that would spoil all weights."""
    new = resolve(TrainSettings(base=None)).learning_rate
    lora, ia3, full = (resolve(TrainSettings(base="b", adapter=name)).learning_rate for name in ("lora", "ia3", "none"))
    assert resolve(TrainSettings(base="b")).learning_rate == lora
    assert ia3 > lora > full and lora > new
    assert resolve(TrainSettings(base="b", adapter="ia3")).lora_rank is None
    assert resolve(TrainSettings(base="b", preset="best", adapter="ia3")).learning_rate == 2e-4


def test_flags_win_over_the_preset():
    settings = resolve(TrainSettings(preset="best", batch_size=7, base="b", lora_rank=4))
    assert (settings.batch_size, settings.epochs, settings.lora_rank, settings.lora_alpha) == (7, 10, 4, 8)
    assert resolve(TrainSettings(base="b", adapter="none")).lora_rank is None
    assert resolve(TrainSettings(base="b", lora_alpha=5.0)).lora_alpha == 5
    assert resolve(TrainSettings(max_steps=3)).epochs is None
    assert resolve(TrainSettings(max_minutes=3)).epochs is None


def test_a_preset_of_ones_own(tmp_path):
    path = tmp_path / "my.json"
    path.write_text('{"epochs": 7, "max_seq_len": 512, "training_args": ["weight_decay=0.1"]}')
    settings = resolve(TrainSettings(preset=str(path)))
    assert (settings.epochs, settings.max_seq_len, settings.batch_size) == (7, 512, 4)
    assert settings.training_args == ("weight_decay=0.1",)
    path.write_text('{"epoch": 7}')
    with pytest.raises(InputError, match="has no 'epoch'; did you mean epochs"):
        resolve(TrainSettings(preset=str(path)))
    for text in ("[1]", "{", "7"):
        path.write_text(text)
        with pytest.raises(InputError, match="choose from auto, balanced, best, "):
            resolve(TrainSettings(preset=str(path)))
    with pytest.raises(InputError, match="choose from auto, balanced, best, "):
        resolve(TrainSettings(preset="quik"))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"batch_size": 0}, "--batch-size 0"),
        ({"learning_rate": -1.0}, "--learning-rate -1.0"),
        ({"max_minutes": math.nan}, "--max-minutes nan"),
        ({"base": "b", "size": "25m"}, "--size is for a new model"),
    ],
)
def test_values_that_cannot_work_name_their_flag(settings, message):
    with pytest.raises(InputError, match=message):
        resolve(TrainSettings(**settings))


def test_a_tracker_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="wandb is not installed"):
        check(resolve(TrainSettings(tracker="wandb")))


def test_fields_are_json_or_name_value():
    words = ('{"weight_decay": 0.1, "adam_beta2": 0.98}', "optim=adamw_torch", "bf16=false", "max_grad_norm=0.5")
    expected = {"weight_decay": 0.1, "adam_beta2": 0.98, "optim": "adamw_torch", "bf16": False, "max_grad_norm": 0.5}
    assert read_fields(words, None, "--training-args") == expected
    for word in ("weight_decay", "[1]", "{", "7"):
        with pytest.raises(InputError, match="neither a JSON object nor name=value"):
            read_fields((word,), None, "--training-args")


@pytest.mark.parametrize(
    "field, word, message",
    [
        ("training_args", "weight_dcay=0.1", "TrainingArguments has no 'weight_dcay'; did you mean weight_decay"),
        ("training_args", "learning_rate=0.1", "learning_rate: set it with --learning-rate"),
        ("training_args", "optim=nonsense", "--training-args optim=nonsense"),
        ("model_args", "hiden_size=2", "hiden_size"),
    ],
)
def test_unknown_fields_are_refused_by_name(tmp_path, field, word, message):
    with pytest.raises(InputError, match=message):
        train(ToyCorpus(), tmp_path, max_steps=1, **{**TINY, field: (word,)})
    assert not list(tmp_path.iterdir())  # nothing is left behind that would be in the way of the next try


def test_training_and_lora_fields_arrive(reference, tmp_path, monkeypatch):
    from woodshed.symbolic.learning import callbacks

    made = []
    monkeypatch.setattr(callbacks, "Learner", lambda **options: made.append(options) or 1 / 0)
    settings = {**ADAPTER, "base": str(reference[0].folder), "training_args": ("weight_decay=0.1", "optim=adafactor")}
    with pytest.raises(ZeroDivisionError):
        train(ToyCorpus(), tmp_path, lora_rank=3, lora_args=('{"use_rslora": true}',), seed=5, **settings)
    arguments, config = made[0]["args"], made[0]["model"].peft_config["default"]
    assert (arguments.weight_decay, arguments.optim, arguments.seed) == (0.1, "adafactor", 5)
    assert (config.r, config.use_rslora, config.lora_dropout) == (3, True, 0.1)


# --- resuming with other settings --------------------------------------------------------------------------------

SAVED = dataclasses.asdict(resolve(TrainSettings(size="25m", max_steps=100, batch_size=3)))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"max_seq_len": 1024},
        {"batch_size": 8},
        {"size": "50m"},
        {"model": "lstm"},
        {"preset": "quick"},
        {"gradient_accumulation": 2},
        {"training_args": ("weight_decay=0.1",)},
        {"base": "other"},
        {"adapter": "none"},
    ],
)
def test_what_would_change_the_losses_is_refused_by_name(change):
    name = "batch_size" if "preset" in change else next(iter(change))
    with pytest.raises(RunError, match=f"--{name.replace('_', '-')} was"):
        resumed(TrainSettings(resume=True, **change), SAVED, Path("run"))


def test_what_is_not_given_stays_as_it_was():
    was = TrainSettings(**{**SAVED, "model_args": (), "lora_args": (), "training_args": ()})
    assert resumed(TrainSettings(resume=True), json.loads(json.dumps(SAVED)), Path("run")) == was
    longer = resumed(TrainSettings(resume=True, max_steps=200, learning_rate=1e-5), SAVED, Path("run"))
    assert longer == dataclasses.replace(was, max_steps=200, learning_rate=1e-5)
    by_time = resumed(TrainSettings(resume=True, max_minutes=5, threads=2), SAVED, Path("run"))
    assert by_time == dataclasses.replace(was, max_steps=None, max_minutes=5, threads=2)
    assert {field.name for field in dataclasses.fields(TrainSettings)} >= FREE


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


def test_an_empty_corpus_is_an_error_before_anything_is_written(tmp_path):
    corpus = ToyCorpus()
    corpus.training_rows = lambda max_seq_len, seed=0: []
    with pytest.raises(EmptyCorpus, match="no music to train on"):
        train(corpus, tmp_path / "out", **TINY)
    assert not (tmp_path / "out").exists()
