"""train() where things go wrong: a full disk, too little memory, a loss that jumps; and where nothing better comes."""

import errno
import json
import math
import pkgutil
import re
import shutil
import signal
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors import SafetensorError
from toys import ADAPTER, STEPS, TINY, ToyCorpus, ToyRows, events_of, steps_of

from woodshed.errors import FileError, InputError, RunError
from woodshed.files import found_from
from woodshed.log import read_log, rewind_log
from woodshed.progress import unheard
from woodshed.symbolic.learning.course import Course, Plateau, lower, rotate, whole_checkpoints
from woodshed.symbolic.learning.settings import TrainSettings
from woodshed.symbolic.learning.train import _job, _no_better_than_base, train
from woodshed.symbolic.run import checkpoints


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

    monkeypatch.setattr("woodshed.symbolic.run.write_object", full)
    with pytest.raises(FileError, match=r"run\.json: cannot be written: No space left on device$"):
        train(ToyCorpus(), tmp_path / "run", max_steps=1, **TINY)
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
    with pytest.raises(
        InputError,
        match="single row of 64 ids; give a shorter --max-seq-len than 64, a smaller --size, or --training-args ",
    ):
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


def course_of(checkpoint: Path) -> dict:
    return json.loads((checkpoint / "trainer_state.json").read_text())["stateful_callbacks"]["Pace"]["attributes"]


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
    kept = course_of(checkpoints(run.folder)[40])  # should it be killed before the next checkpoint
    assert kept["rollbacks"] == 1 and kept["seconds"] > steps_of(run.folder, "seconds")[40]


def test_a_loss_that_jumps_again_and_again_ends_with_advice(tmp_path, rates):
    with pytest.raises(InputError, match=r"diverged 4 times: at step 49 .* try --learning-rate"):
        train(Poisoned(math.inf), tmp_path, **ROLL)
    assert events_of(tmp_path) == ["rollback"] * 3 + ["failed"]
    assert [rate for step, rate in rates if step == 41] == pytest.approx([2e-2, 1e-2, 5e-3, 2.5e-3])


def test_a_rate_that_is_given_is_not_halved_by_what_broke_before(tmp_path, rates):
    with pytest.raises(InputError):
        train(Poisoned(math.inf), tmp_path, **ROLL)
    rates.clear()
    assert course_of(checkpoints(tmp_path)[40])["rollbacks"] == 3  # so that a kill now would not go on at the full rate
    same = shutil.copytree(tmp_path, tmp_path.with_name("same"))
    train(ToyCorpus(), tmp_path, resume=True, learning_rate=7e-3, max_steps=60)
    train(ToyCorpus(), same, resume=True, learning_rate=ROLL["learning_rate"], max_steps=60)
    assert [rate for step, rate in rates if step == 41] == pytest.approx([7e-3, 2e-2])


def test_ctrl_c_in_the_step_that_breaks_is_heard(tmp_path, monkeypatch):
    from woodshed.symbolic.learning.callbacks import Learner

    real, corpus = Learner._watch, Poisoned(1)

    def watch(self, loss):
        if self.state.global_step == 48:
            signal.raise_signal(signal.SIGINT)
        real(self, loss)

    monkeypatch.setattr(Learner, "_watch", watch)
    run = train(corpus, tmp_path, **ROLL)
    assert events_of(tmp_path) == ["rollback", "stopped"]
    assert not run.facts["finished"] and run.facts["step"] == 41


def test_a_rate_that_waits_for_the_validation_is_resumed(tmp_path):
    schedule = {"training_args": ("lr_scheduler_type=reduce_lr_on_plateau", "optim=adamw_torch")}
    train(ToyCorpus(), tmp_path, max_steps=2, eval_steps=2, **TINY, **schedule)
    assert train(ToyCorpus(), tmp_path, resume=True, max_steps=4).facts["step"] == 4


def test_the_random_numbers_of_an_apple_gpu_are_kept(tmp_path, monkeypatch):
    import torch

    from woodshed.symbolic.learning.callbacks import Learner

    learner, state = object.__new__(Learner), torch.arange(5, dtype=torch.uint8)
    learner.args, kept = SimpleNamespace(device=torch.device("mps"), world_size=1, parallel_mode=None), []
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: state)
    monkeypatch.setattr(torch.mps, "set_rng_state", kept.append)
    learner._save_rng_state(str(tmp_path))
    learner._load_rng_state(str(tmp_path))
    assert torch.equal(kept[0], state)


def test_copies_of_checkpoints_are_the_users_own(tmp_path):
    train(ToyCorpus(), tmp_path, max_steps=8, eval_steps=4, **TINY)
    copy = shutil.copytree(tmp_path / "checkpoint-4", tmp_path / "checkpoint-4-good")
    (tmp_path / "checkpoint-4.zip").write_bytes(b"PK")
    assert set(checkpoints(tmp_path)) == {4, 8}
    train(ToyCorpus(), tmp_path, resume=True, max_steps=12, keep_checkpoints=1)
    assert (copy / "trainer_state.json").exists() and (tmp_path / "checkpoint-4.zip").exists()


def test_only_checkpoints_that_a_kill_broke_are_removed(tmp_path):
    """Not one of which there is a copy under another number; and nothing behind a link."""
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (elsewhere / "mine").touch()
    (out := tmp_path / "run").mkdir()
    (out / "checkpoint-700").symlink_to(elsewhere)
    for number, state in ((500, '{"global_step": 500}'), (600, '{"glob'), (500000, '{"global_step": 500}')):
        (out / f"checkpoint-{number}").mkdir()
        (out / f"checkpoint-{number}" / "trainer_state.json").write_text(state)
    found = whole_checkpoints(SimpleNamespace(out=out, say=pytest.fail))
    assert found == checkpoints(out) == {500: out / "checkpoint-500"}
    assert {path.name for path in out.iterdir()} == {"checkpoint-500", "checkpoint-500000"}
    assert (elsewhere / "mine").exists()


def test_an_old_checkpoint_that_cannot_be_removed_ends_no_training(tmp_path, monkeypatch):
    def refuse(path, *args, **keywords):
        raise PermissionError(errno.EACCES, "Permission denied")

    for number in (4, 8, 12):
        (tmp_path / f"checkpoint-{number}").mkdir()
        (tmp_path / f"checkpoint-{number}" / "trainer_state.json").write_text(f'{{"global_step": {number}}}')
    said = []
    monkeypatch.setattr("shutil.rmtree", refuse)
    rotate(tmp_path, 2, None, said.append)
    course = Course(4, 1, 1, height=1 / 4, best=4)
    job = SimpleNamespace(
        out=tmp_path, settings=SimpleNamespace(learning_rate=1e-3), say=lambda text, **more: said.append(text)
    )
    with monkeypatch.context() as patch:
        patch.setattr("woodshed.symbolic.learning.course._write_course", lambda *args: None)
        lower(job, course, Plateau(8, 12, 60.0, "nothing better"))
    assert [text for text in said if "cannot be removed" in text] == [
        f"{tmp_path / f'checkpoint-{number}'} cannot be removed: Permission denied; remove it yourself"
        for number in (4, 12)
    ]
    assert set(checkpoints(tmp_path)) == {8}  # what is left of others is whole no more


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


# --- nothing better comes --------------------------------------------------------------------------------------------


class Backwards(ToyCorpus):
    """Learns to count upwards, and is asked to count down: the surer it becomes, the worse."""

    def evaluation_rows(self, split, max_seq_len):
        rows = super().evaluation_rows(split, max_seq_len)
        upwards = type(rows).__getitem__

        class Downwards(type(rows)):
            def __getitem__(self, index):
                row = upwards(self, index)
                ids = row["input_ids"][::-1].copy()
                return row | {"input_ids": ids, "labels": ids.copy()}

        return Downwards(rows.count, rows.length, rows.seed)


STALE = {**TINY, "max_steps": 400, "eval_steps": 4, "patience": 2}


@pytest.fixture(scope="module")
def plateau(tmp_path_factory):
    out, told = tmp_path_factory.mktemp("train") / "plateau", []
    return train(Backwards(), out, report=told.append, **STALE), told


def test_a_run_that_becomes_no_better_tries_a_lower_rate_from_its_best_and_ends(plateau):
    run, told = plateau
    found = [line for line in read_log(run.folder / "log.jsonl") if line.get("event") == "plateau"]
    assert len(found) >= 2 and all("back to step" in line["message"] for line in found)
    assert {line["message"] for line in found} <= {progress.message for progress in told}
    assert "on at learning rate 0.0025" in found[0]["message"]
    best = int(re.search(r"back to step (\d+), the rate falls until step (\d+)", found[-1]["message"])[1])
    last = best + round(best / 4)
    assert found[-1]["step"] == best + 8 and f"until step {last}" in found[-1]["message"]
    assert run.facts["finished"] and run.facts["plateau"] and run.facts["step"] == last
    assert list(steps_of(run.folder)) == [*range(1, last + 1)]
    rates = steps_of(run.folder, "learning_rate")
    falling = [rates[step] for step in range(best + 1, last + 1)]
    assert max(rates.values()) == pytest.approx(1e-2) and all(np.diff(falling) < 0)
    assert falling[-1] == pytest.approx(falling[0] / (last - best))
    assert falling[0] <= 2.5e-3
    validations = {step: found["nats_per_note"] for step, found in steps_of(run.folder, "validation").items()}
    assert run.facts["best_step"] == min(validations, key=validations.get)


def test_a_run_no_better_than_its_base_begins_again_at_a_lower_rate(plateau, tmp_path):
    """The base counts upwards badly; what it is taught makes it worse at counting down, unless very little of it."""
    asked = ADAPTER | {name: STALE[name] for name in ("max_steps", "eval_steps", "patience")}
    run = train(Backwards(), tmp_path / "run", base=str(plateau[0].folder), adapter="none", **asked)
    log = read_log(run.folder / "log.jsonl")
    first = next(line["message"] for line in log if line.get("event") == "plateau")
    assert "than that of the base" in first and "back to step 0, on at learning rate 0.0025" in first
    assert steps_of(run.folder, "learning_rate")[1] <= 2.5e-3  # the first steps are those of the second beginning
    validations = {line["step"]: line["validation"]["nats_per_note"] for line in log if "validation" in line}
    assert run.facts["best_step"] == min(validations, key=validations.get) != 0


def test_a_run_that_stays_worse_than_its_base_says_so():
    log = [{"step": 0, "validation": {"nats_per_token": 1.0, "nats_per_note": 4.0}}, {"step": 4, "loss": 1.0}]
    told = "no better than its base on your validation pieces (4.100, base 4.000 nats_per_note)"
    assert _no_better_than_base(log, {"nats_per_token": 0.9, "nats_per_note": 4.1}) == told
    assert _no_better_than_base(log, {"nats_per_note": 3.9}) == ""
    assert _no_better_than_base(log[1:], {"nats_per_note": 4.1}) == ""


class Killed(Exception):
    """As sudden as a kill: nothing is saved."""


@pytest.mark.parametrize("told", ["the rate falls", "on at learning rate"])
@pytest.mark.parametrize("sudden", [False, True])
def test_what_ends_it_after_it_went_back_changes_nothing(plateau, tmp_path, sudden, told):
    fallen = []

    def end(progress):
        fallen.append(told in progress.message or (bool(fallen) and fallen[-1]))
        if fallen.count(True) == 4:
            if sudden:
                raise Killed
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Killed) if sudden else nullcontext():
        train(Backwards(), tmp_path, report=end, **STALE)
    assert fallen.count(True) >= 4 and not json.loads((tmp_path / "run.json").read_text())["finished"]
    run = train(Backwards(), tmp_path, resume=True)
    assert run.facts["finished"] and steps_of(run.folder) == steps_of(plateau[0].folder)


def test_a_run_that_ended_by_itself_goes_on_with_another_patience(plateau, tmp_path):
    out = shutil.copytree(plateau[0].folder, tmp_path / "run")
    step = plateau[0].facts["step"]
    run = train(Backwards(), out, resume=True, max_steps=step + 8, patience=9)
    assert run.facts["step"] == step + 8 and max(steps_of(out)) == step + 8


def test_a_signal_is_heard_before_patience_ends(plateau, tmp_path):
    """It comes with the evaluation that would be the last one."""
    events = [line for line in read_log(plateau[0].folder / "log.jsonl") if line.get("event") == "plateau"]

    def stop(progress):
        if progress.step == events[0]["step"] and progress.validation:
            signal.raise_signal(signal.SIGTERM)

    run = train(Backwards(), tmp_path, report=stop, **STALE)
    assert not run.facts["finished"] and events_of(tmp_path) == ["stopped"]


def test_what_has_ended_by_itself_goes_on_where_more_is_asked(plateau, tmp_path):
    out, ended = shutil.copytree(plateau[0].folder, tmp_path / "run"), plateau[0].facts["step"]
    with pytest.raises(RunError, match=f"it has finished, at step {ended}; to go on, give more"):
        train(Backwards(), out, resume=True)
    run = train(Backwards(), out, resume=True, max_steps=ended + 40)
    assert run.facts["step"] == ended + 40 and not run.facts["plateau"]
    rates = steps_of(out, "learning_rate")
    assert rates[ended + 1] == pytest.approx(1e-2)
    assert run.facts["best_step"] == plateau[0].facts["best_step"]  # it did not become better


def test_what_was_to_end_there_keeps_its_patience_and_learns_where_its_corpus_is(reference, plateau):
    corpus = Backwards()
    corpus.folder = Path("elsewhere")
    for run, patience in ((reference[0], 2), (plateau[0], 0)):
        job = _job(corpus, run.folder, TrainSettings(resume=True, max_steps=900), unheard)
        assert job.settings.patience == patience
        assert found_from(run.folder, job.facts["corpus_folder"]).absolute() == Path("elsewhere").absolute()


def test_what_has_ended_by_itself_and_was_not_published_is_published(plateau, tmp_path):
    out, facts = shutil.copytree(plateau[0].folder, tmp_path / "run"), plateau[0].facts
    (out / "model.safetensors").unlink()
    (out / "run.json").write_text(json.dumps(facts | {"finished": False}))
    run = train(Backwards(), out, resume=True)
    assert run.facts["finished"] and run.facts["plateau"] and run.facts["best_step"] == facts["best_step"]
    assert steps_of(out) == steps_of(plateau[0].folder) and events_of(out) == events_of(plateau[0].folder)


def test_nothing_ends_what_still_becomes_better_or_has_no_patience(reference, tmp_path):
    assert events_of(reference[0].folder) == []
    run = train(Backwards(), tmp_path, **STALE | {"patience": 0, "max_steps": 32})
    assert run.facts["step"] == 32 and events_of(tmp_path) == []
    schedule = ("lr_scheduler_type=constant",)
    run = train(Backwards(), tmp_path / "own", training_args=schedule, **STALE | {"max_steps": 32})
    assert run.facts["step"] == 32
