"""Trackers: what arrives in each of them, that training does not notice, and that nothing leaves the machine."""

import json
import os
import shutil
import sqlite3
import sys

import numpy as np
import pytest
from toys import TINY, ToyCorpus

from woodshed.errors import InputError, MissingExtra
from woodshed.log import read_log
from woodshed.symbolic.learning import trackers
from woodshed.symbolic.learning.settings import FREE, TrainSettings, check, resolve
from woodshed.symbolic.learning.train import train
from woodshed.symbolic.run import open_run

RUN = {**TINY, "max_steps": 8, "eval_steps": 4}
CURVES = {"train/loss", "train/learning_rate", "eval/nats_per_token", "eval/nats_per_note", "take/notes"}


@pytest.fixture(scope="module", autouse=True)
def no_pictures_of_the_loss():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("woodshed.symbolic.learning.callbacks.draw_loss", lambda log, picture: None)
        yield


@pytest.fixture(scope="module")
def untracked(tmp_path_factory):
    return train(ToyCorpus(), tmp_path_factory.mktemp("trackers") / "run", **RUN).folder


@pytest.fixture
def every_take(monkeypatch):
    """Time enough for a take at each evaluation, of two bars."""
    monkeypatch.setattr(trackers, "SHARE", 1e9)
    monkeypatch.setattr(trackers, "BARS", 2)


def steps_of(folder, key="loss"):
    return {line["step"]: line[key] for line in read_log(folder / "log.jsonl") if key in line}


def same_training(one, other):
    for key in ("loss", "learning_rate", "validation"):
        assert steps_of(one, key) == steps_of(other, key)
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


def test_tensorboard_gets_curves_sound_and_pictures_and_training_does_not_notice(untracked, every_take, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    told = []
    run = train(ToyCorpus(), tmp_path / "run", tracker="tensorboard", report=told.append, **RUN).folder
    same_training(run, untracked)
    assert any("tensorboard --logdir" in progress.message for progress in told)
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"audio": 0, "images": 0, "scalars": 0}).Reload()
    tags = events.Tags()
    assert set(tags["scalars"]) >= CURVES
    losses = {event.step: event.value for event in events.Scalars("train/loss")}
    assert losses == pytest.approx(steps_of(run), rel=1e-6)
    assert [event.step for event in events.Audio("take/sound")] == [4, 8]
    assert [event.step for event in events.Images("take/roll")] == [4, 8]
    sound, roll = events.Audio("take/sound")[0], events.Images("take/roll")[0]
    assert sound.encoded_audio_string[:4] == b"RIFF" and sound.length_frames > 3 * sound.sample_rate
    assert roll.encoded_image_string[:4] == b"\x89PNG" and roll.width > roll.height > 100
    facts = json.loads(events.Tensors("run/text_summary")[0].tensor_proto.string_val[0].decode()[8:-3])
    assert facts["settings"]["learning_rate"] == TINY["learning_rate"] and facts["corpus"] == "toy-1"


def test_an_adapter_is_trained_as_without_a_tracker(untracked, every_take, tmp_path):
    """Its dropout draws from the random state; its takes come from a merged copy."""
    pytest.importorskip("tensorboard")
    settings = {name: value for name, value in RUN.items() if name not in ("size", "model_args")}
    settings |= {"base": str(untracked), "adapter": "lora"}
    runs = [
        train(ToyCorpus(), tmp_path / tracker, tracker=tracker, **settings).folder
        for tracker in ("none", "tensorboard")
    ]
    for key in ("loss", "learning_rate", "validation"):
        assert steps_of(runs[0], key) == steps_of(runs[1], key)


def test_a_resumed_training_takes_its_place_in_tensorboard(every_take, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = tmp_path / "run"
    train(ToyCorpus(), run, tracker="tensorboard", **RUN)
    shutil.rmtree(run / "checkpoint-8")
    (run / "run.json").write_text((run / "run.json").read_text().replace('"finished": true', '"finished": false'))
    train(ToyCorpus(), run, resume=True)
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "audio": 0}).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [*range(1, 9)]
    assert [event.step for event in events.Audio("take/sound")] == [4, 8]


def test_wandb_stays_offline_and_has_all(untracked, every_take, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_ERROR_REPORTING", "WANDB_PROJECT", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    told = []
    names = {"project": "my-project", "run_name": "my-name"}
    run = train(ToyCorpus(), tmp_path / "run", tracker="wandb", report=told.append, **names, **RUN).folder
    same_training(run, untracked)
    (folder,) = (run / "wandb").glob("offline-run-*")
    assert any(f"wandb sync {folder}" in progress.message for progress in told)
    assert len(list((folder / "files" / "media" / "audio" / "take").glob("sound*.wav"))) == 2
    assert len(list((folder / "files" / "media" / "images" / "take").glob("roll*.png"))) == 2
    (data,) = folder.glob("*.wandb")
    data = data.read_bytes()
    for text in (*CURVES, "my-project", "my-name", "toy-1", '"learning_rate":0.01'):
        assert text.encode() in data, text
    assert os.environ["WANDB_ERROR_REPORTING"] == "false"
    import wandb

    assert wandb.run is None
    monkeypatch.delenv("WANDB_ERROR_REPORTING")


def test_trackio_stays_on_the_machine_and_names_are_told_apart(untracked, every_take, tmp_path, monkeypatch, capfd):
    if "trackio" not in sys.modules:  # it reads the folder once
        monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    for name in ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    trackio = pytest.importorskip("trackio")
    if tmp_path / "trackio" != trackio.utils.TRACKIO_DIR:
        pytest.skip("another folder is in use")
    for place in ("one", "two"):
        run = train(ToyCorpus(), tmp_path / place / "run", tracker="trackio", project="toys", **RUN).folder
    same_training(run, untracked)
    assert {run.name for run in trackio.Api().runs("toys")} == {"run", "run 2"}
    (one,) = [run for run in trackio.Api().runs("toys") if run.name == "run"]
    assert one.config["run"]["settings"]["learning_rate"] == TINY["learning_rate"]
    rows = sqlite3.connect(tmp_path / "trackio" / "toys.db").execute("select metrics from metrics where run_name='run'")
    metrics = [json.loads(row[0]) for row in rows]
    assert {name for row in metrics for name in row} >= CURVES | {"take/sound", "take/roll"}
    assert len([row for row in metrics if "train/loss" in row]) == 8
    assert len(list((tmp_path / "trackio" / "media").rglob("*.wav"))) == 4


def test_a_take_of_a_model_in_training_is_always_the_same_and_leaves_it_alone(untracked):
    import torch

    model = open_run(untracked).model()
    before, state = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    takes = [trackers.sample(model, untracked, deadline=np.inf) for _ in range(2)]
    assert takes[0].score == takes[1].score and takes[0].notes > 0
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state) and not model.training
    with pytest.raises(trackers.TooLate):
        trackers.sample(model, untracked, deadline=0.0)


@pytest.mark.parametrize("late", [False, True])
def test_takes_keep_to_their_share_of_the_time(monkeypatch, tmp_path, late):
    """On a clock of our own: an evaluation every five seconds, and takes that last one."""
    clock, shown = [0.0], []

    def sample(model, folder, *, deadline):
        clock[0] += 1.0
        if late:
            raise trackers.TooLate

    monkeypatch.setattr(trackers.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(trackers, "sample", sample)
    monkeypatch.setattr(trackers.Takes, "_show", lambda self, take, step: shown.append(clock[0]))
    monkeypatch.setattr(trackers, "read_facts", lambda folder: {})

    class Told:
        def tell(self, facts):
            pass

    takes = trackers.Takes(Told(), tmp_path)
    state = type("State", (), {"global_step": 1})
    takes.on_train_begin(None, state, None)
    for _ in range(100):
        clock[0] += 5.0
        takes.on_evaluate(None, state, None, model=None)
        assert takes.spent <= max(1.0, trackers.SHARE * clock[0] + 1e-9)
    assert takes.spent > 0.5 * trackers.SHARE * clock[0]
    assert (shown == []) == late


def test_what_cannot_work_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name in ("wandb", "trackio", "tensorboard"):
        with pytest.raises(MissingExtra, match=rf"{name} is not installed.*woodshed\[{name}\]"):
            check(resolve(TrainSettings(tracker=name)))
    assert {"tracker", "project", "run_name"} <= FREE


def test_wandb_online_without_a_key_says_what_to_do(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    import wandb

    def refuse(**keywords):
        raise wandb.errors.UsageError("api_key not configured (no-tty). call wandb.login(key=[your_api_key])")

    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(InputError, match=r"WANDB_MODE=online: api_key not configured.*unset WANDB_MODE"):
        train(ToyCorpus(), tmp_path / "run", tracker="wandb", **RUN)
