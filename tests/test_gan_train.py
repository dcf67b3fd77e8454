"""Training the latent GAN: it goes on exactly, goes back where it breaks, and begins with what a base knows."""
# ruff: noqa: F811

import errno
import json
import math
import os
import shutil
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gan_toys import TINY, TOY, Toy, events, reads, recordings, trained, without_pictures  # noqa: F401
from safetensors.torch import load_file
from sounds import silence, song

from woodshed.audio.gan import generate as playing
from woodshed.audio.gan import latents, profile, step
from woodshed.audio.gan import run as runs
from woodshed.audio.gan import train as training
from woodshed.audio.gan.job import Rows
from woodshed.audio.gan.picture import draw_progress
from woodshed.audio.gan.settings import GanSettings, resolve
from woodshed.audio.gan.train import train
from woodshed.audio.spectrogram import spectrograms
from woodshed.audio.wave import write_audio
from woodshed.errors import EmptyCorpus, FileError, InputError, RunError

# --- training ----------------------------------------------------------------------------------------------------


def test_a_run_holds_what_it_needs(trained, recordings):
    folder = trained.folder
    assert sorted(runs.checkpoints(folder)) == [4, 8, 12]
    assert sorted(path.name for path in (folder / "samples/step-12").glob("*.wav")) == ["1.wav", "2.wav"]
    facts = runs.read_facts(folder)
    assert facts["finished"] and facts["step"] == 12 and facts["codec"]["fingerprint"] == TOY.fingerprint
    average = {k.removeprefix("average."): v for k, v in load_file(folder / "checkpoint-12/state.safetensors").items()}
    assert all(torch.equal(value, average[name]) for name, value in load_file(folder / "generator.safetensors").items())
    assert len([one for one in latents.read_manifest(folder)["recordings"] if one.split == "held-out"]) == 1
    assert str(folder) not in (folder / "run.json").read_text() + (folder / "manifest.json").read_text()


def test_samples_and_progress_are_painted(recordings, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "spectrograms", spectrograms)
    monkeypatch.setattr(training, "draw_progress", draw_progress)
    run = train(recordings, tmp_path / "run", codec=TOY, **TINY | {"max_steps": 1})
    for picture in ("progress.png", "samples/step-1/spectrogram.png"):
        assert (run.folder / picture).read_bytes().startswith(b"\x89PNG")


def test_a_killed_run_goes_on_exactly(trained, recordings, tmp_path):
    class Killed(BaseException):
        pass

    def kill(now):
        if now.step == 10 and not now.message:
            raise Killed

    with pytest.raises(Killed):
        train(recordings, tmp_path / "run", codec=TOY, report=kill, latents=tmp_path / "kept", **TINY)
    assert sorted(runs.checkpoints(tmp_path / "run")) == [0, 4, 8]
    killed = runs.open_run(tmp_path / "run", codec=TOY)  # it plays all the same
    assert not killed.facts["finished"] and killed.step() == 8 and killed.step(0) == 0
    average = killed.generator(8).state_dict()
    assert all(torch.equal(value, average[name]) for name, value in killed.generator().state_dict().items())
    train(recordings, tmp_path / "run", codec=TOY, resume=True)
    assert not (tmp_path / "run/latents").exists()
    for name in ("generator.safetensors", "checkpoint-12/state.safetensors"):
        one, other = (load_file(folder / name) for folder in (trained.folder, tmp_path / "run"))
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    course = [
        json.loads((folder / "checkpoint-12/course.json").read_text()) for folder in (trained.folder, tmp_path / "run")
    ]
    for one in course:
        one.pop("seconds")
    assert course[0] == course[1]


def test_a_run_that_goes_on_reads_only_recordings_that_changed(recordings, tmp_path, reads):
    folder = shutil.copytree(recordings, tmp_path / "music")
    run = tmp_path / "run"
    train(folder, run, codec=TOY, **TINY | {"max_steps": 1})
    assert set(reads) == set(folder.iterdir())
    reads.clear()
    train(folder, run, codec=TOY, resume=True, max_steps=2)
    assert not reads
    os.utime(folder / "song 2.wav", ns=(0, 0))
    train(folder, run, codec=TOY, resume=True, max_steps=3)
    assert set(reads) == {folder / "song 2.wav"}
    heard = (run / "heard.json").read_text()
    (run / "heard.json").write_text(heard[:100])
    train(folder, run, codec=TOY, resume=True, max_steps=4)
    assert (run / "heard.json").read_text() == heard
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in recordings.iterdir())


def test_a_run_that_was_interrupted_as_it_encoded_goes_on(recordings, tmp_path, monkeypatch):
    real, encoded = Toy.encode, []

    def encode(self, audio):
        encoded.append(1)
        if len(encoded) == 3:
            raise KeyboardInterrupt
        return real(self, audio)

    monkeypatch.setattr(Toy, "encode", encode)
    with pytest.raises(KeyboardInterrupt):
        train(recordings, tmp_path / "run", codec=TOY, **TINY | {"max_steps": 1})
    ((kept, made),) = [(path, path.stat().st_mtime_ns) for path in (tmp_path / "run/latents").iterdir()]
    train(recordings, tmp_path / "run", codec=TOY, resume=True)
    assert runs.read_facts(tmp_path / "run")["finished"]
    assert len([*kept.parent.iterdir()]) == 5 and kept.stat().st_mtime_ns == made


def test_checkpoints_go_without_what_is_behind_links_and_never_end_a_training(tmp_path, monkeypatch):
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (elsewhere / "mine").touch()
    (out := tmp_path / "run").mkdir()
    (out / "checkpoint-9").symlink_to(elsewhere)
    players, said = SimpleNamespace(age=0, switch=0.0), []
    job = SimpleNamespace(out=out, say=said.append, facts={"base": None})
    job.settings = SimpleNamespace(learning_rate=1e-3, keep_checkpoints=1)
    monkeypatch.setattr(runs, "to_tensors", lambda players: {})
    course = training._start(job, players)
    assert [path.name for path in out.iterdir()] == ["checkpoint-0"] and (elsewhere / "mine").exists()

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("shutil.rmtree", refuse)
    course.step = 4
    runs.save_checkpoint(out, players, course, keep=1, say=said.append)
    assert len(said) == 1 and "checkpoint-0 cannot be removed: Permission denied" in said[0]
    assert set(runs.checkpoints(out)) == {4}


def test_a_full_disk_says_how_to_go_on(recordings, tmp_path, monkeypatch):
    real = runs.write_tensors

    def write(path, tensors):
        if path.parent.name == "checkpoint-8":
            raise FileError(path, "cannot be written: No space left on device")
        real(path, tensors)

    told = r"left on device; put that right, then go on from step 4 with --resume"
    with monkeypatch.context() as patch, pytest.raises(FileError, match=told):
        patch.setattr(runs, "write_tensors", write)
        train(recordings, tmp_path / "run", codec=TOY, **TINY)
    assert train(recordings, tmp_path / "run", codec=TOY, resume=True).facts["finished"]


def test_a_run_goes_on_for_longer_but_not_with_other_settings(trained, recordings, tmp_path):
    for change, flag in (({"batch_size": 8}, "--batch-size"), ({"seed": 3}, "--seed")):
        with pytest.raises(RunError, match=f"{flag} was .* another run"):
            train(recordings, trained.folder, codec=TOY, resume=True, **change)
    own = shutil.copytree(trained.folder, tmp_path / "own")
    slower = train(recordings, own, codec=TOY, resume=True, max_steps=13, learning_rate=1e-4)
    assert slower.facts["rate"] == 1e-4
    with pytest.raises(RunError, match="codec toy-1-0"):
        train(recordings, trained.folder, codec=Toy(seed=1), resume=True)
    with pytest.raises(RunError, match="finished, at step 12; to go on"):
        train(recordings, trained.folder, codec=TOY, resume=True)
    with pytest.raises(InputError, match="--resume"):
        train(recordings, trained.folder, codec=TOY, **TINY)
    (tmp_path / "music").mkdir()
    write_audio(tmp_path / "music/one.wav", song(99, seconds=6.0, sample_rate=8000))
    with pytest.raises(RunError, match="5 of its recordings are gone"):
        train(tmp_path / "music", trained.folder, codec=TOY, resume=True, max_steps=14)


def test_a_run_ends_at_the_limit_that_is_nearer(recordings, tmp_path):
    run = train(recordings, tmp_path / "run", codec=TOY, **TINY | {"max_steps": 12, "epochs": 0.2})
    assert run.facts["step"] == 2 and run.facts["finished"]


def poisoned(monkeypatch, *, at, times):
    """After the step `at` the weights are no numbers, the first so many times."""
    left = [times]

    def update(players, real, **settings):
        told = step.update(players, real, **settings)
        if players.age == at and left[0]:
            left[0] -= 1
            torch.nn.init.constant_(players.generator.out.weight, math.nan)
        return told

    monkeypatch.setattr(training, "update", update)


def test_a_checkpoint_without_its_course_is_named(recordings, tmp_path):
    train(recordings, tmp_path / "run", codec=TOY, **TINY | {"max_steps": 1})
    (tmp_path / "run/checkpoint-1/course.json").write_text("{")
    with pytest.raises(RunError, match=r"checkpoint-1: cannot be read: .*; delete it to go on before it"):
        train(recordings, tmp_path / "run", codec=TOY, resume=True, max_steps=2)


def test_a_poisoned_step_is_rolled_back_and_retried_at_half_the_rate(recordings, tmp_path, monkeypatch):
    poisoned(monkeypatch, at=6, times=2)
    messages = []
    train(recordings, tmp_path / "run", codec=TOY, report=lambda now: messages.append(now.message), **TINY)
    told = [message for message in messages if "back to step" in message]
    assert "at step 7 the losses are no numbers (NaN); back to step 4, on at a rate of 0.0005" in told[0]
    assert "back to step 0, on at a rate of 0.00025" in told[1]  # step 4 has been tried twice
    rolled = [(event["event"], event["rate"]) for event in events(tmp_path / "run")]
    assert rolled == [("rollback", 0.0005), ("rollback", 0.00025)]
    facts = runs.read_facts(tmp_path / "run")
    assert facts["finished"] and facts["rollbacks"] == 2 and facts["rate"] == 0.00025
    weights = load_file(tmp_path / "run/generator.safetensors")
    assert all(torch.isfinite(weight).all() for weight in weights.values())


def test_after_a_break_r1_weighs_in_full_and_a_new_rate_is_halved_too(recordings, tmp_path, monkeypatch):
    train(recordings, tmp_path / "run", codec=TOY, **TINY | {"max_steps": 4})
    poisoned(monkeypatch, at=6, times=1)
    again = {"resume": True, "max_steps": 8, "save_steps": 8, "learning_rate": 1e-4}
    train(recordings, tmp_path / "run", codec=TOY, **again)
    course = json.loads((tmp_path / "run/checkpoint-4/course.json").read_text())
    assert course["switch"] == -1.0 and course["rate"] == 5e-5 and course["asked"] == 1e-4
    assert train(recordings, tmp_path / "run", codec=TOY, resume=True, max_steps=9).facts["rate"] == 5e-5


def test_the_rate_falls_to_nothing_in_the_last_fifth_and_is_whole_again_where_a_run_goes_on(
    recordings, tmp_path, monkeypatch
):
    rates, real = [], training.update
    monkeypatch.setattr(
        training, "update", lambda *args, rate, **how: rates.append(rate) or real(*args, rate=rate, **how)
    )
    run = train(recordings, tmp_path / "run", codec=TOY, **TINY | {"max_steps": 10})
    whole = run.facts["rate"]
    assert rates == pytest.approx([whole] * 9 + [whole / 2])
    train(recordings, tmp_path / "run", codec=TOY, resume=True, max_steps=15)
    assert rates[10:] == pytest.approx([whole] * 3 + [whole * 2 / 3, whole / 3])


def test_a_rate_that_is_asked_for_again_is_taken(recordings, tmp_path, monkeypatch):
    poisoned(monkeypatch, at=6, times=1)
    run = train(recordings, tmp_path / "run", codec=TOY, **TINY | {"max_steps": 8})
    assert run.facts["rate"] == 0.0005
    again = {"resume": True, "learning_rate": 0.001}
    assert train(recordings, run.folder, codec=TOY, max_steps=9, **again).facts["rate"] == 0.001
    assert train(recordings, run.folder, codec=TOY, max_steps=10, resume=True).facts["rate"] == 0.001


def test_a_model_that_breaks_at_every_rate_is_an_error_with_advice_that_helps(recordings, tmp_path, monkeypatch):
    poisoned(monkeypatch, at=2, times=6)
    with pytest.raises(InputError, match=r"broke 5 times: at step 3 .*--learning-rate"):
        train(recordings, tmp_path / "run", codec=TOY, **TINY | {"max_steps": 4})
    run = train(recordings, tmp_path / "run", codec=TOY, resume=True, learning_rate=1e-5)  # it breaks once more
    assert run.facts["finished"] and run.facts["rollbacks"] == 5 and run.facts["rate"] == 5e-6


def test_silent_samples_are_rolled_back_once_they_have_sounded(recordings, tmp_path, monkeypatch):
    spoilt = [True]

    def update(players, real, **settings):
        told = step.update(players, real, **settings)
        if players.age == 8 and spoilt.pop():
            spoilt.append(False)
            for weight in players.average.out.parameters():
                torch.nn.init.zeros_(weight)
        return told

    monkeypatch.setattr(training, "update", update)
    train(recordings, tmp_path / "run", codec=TOY, **TINY)
    (event,) = events(tmp_path / "run")
    assert event["broke"] == 8 and event["step"] == 4 and "silent" in event["message"]


def test_nothing_to_learn_from_and_values_that_cannot_work(recordings, tmp_path):
    write_audio(tmp_path / "silent.wav", silence(5.0, sample_rate=8000))
    with pytest.raises(EmptyCorpus, match="1 silent"):
        train(tmp_path, tmp_path / "run", codec=TOY, **TINY)
    assert not (tmp_path / "run").exists()
    for change, told in (
        ({"window": 24}, "--window 24: give a power of two"),
        ({"rehearse": 0.2}, "nothing to rehearse"),
        ({"learning_rate": -1.0}, "--learning-rate -1.0"),
        ({"learning_rate": None}, "--base-channels 4: no rate is known"),
        ({"seed": -1}, "--seed -1: give 0 to"),
        ({"threads": -1}, "--threads -1: give more than 0"),
        ({"samples": 65}, "--samples 65: give 2 to 64; two at least, to be compared"),
        ({"precision": "half"}, "--precision 'half': choose from auto, float32, bfloat16"),
        ({"device": "cuda"}, "--device cuda"),
    ):
        if "device" in change and torch.cuda.is_available():
            continue
        with pytest.raises(InputError, match=told):
            train(recordings, tmp_path / "run", codec=TOY, **TINY | change)
    with pytest.raises(InputError, match="--codec: a new run needs one"):
        train(recordings, tmp_path / "run", **TINY)
    with pytest.raises(InputError, match="no setting 'windows'; did you mean 'window'"):
        train(recordings, tmp_path / "run", codec=TOY, windows=16)
    assert not (tmp_path / "run").exists()


def test_a_file_whose_name_is_no_text_is_learned_from(recordings, tmp_path):
    folder = tmp_path / "music"
    shutil.copytree(recordings, folder)
    try:
        os.rename(folder / "song 0.wav", os.fsencode(folder) + b"/caf\xe9.wav")
    except OSError:
        pytest.skip("this file system has only names that are text")
    run = train(folder, tmp_path / "run", codec=TOY, **TINY | {"max_steps": 1, "save_steps": 1})
    listed = latents.read_manifest(run.folder)["recordings"]
    assert len(listed) == 6 and all(one.split != "skipped" for one in listed)
    train(folder, run.folder, codec=TOY, resume=True, max_steps=2)


def test_a_run_goes_on_exactly_with_recordings_that_were_renamed(recordings, tmp_path):
    folder = shutil.copytree(recordings, tmp_path / "music")
    for name in ("same", "renamed"):
        train(folder, tmp_path / name, codec=TOY, **TINY | {"max_steps": 1})
    train(folder, tmp_path / "same", codec=TOY, resume=True, max_steps=2)
    for path in sorted(folder.iterdir()):
        path.rename(folder / f"{9 - int(path.stem[-1])}.wav")
    for steps in (2, 3):
        train(folder, tmp_path / "renamed", codec=TOY, resume=True, max_steps=steps)
    train(folder, tmp_path / "same", codec=TOY, resume=True, max_steps=3)
    one, other = (load_file(tmp_path / name / "generator.safetensors") for name in ("same", "renamed"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_run_of_another_version_is_named(trained, recordings, tmp_path):
    run = shutil.copytree(trained.folder, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoint-*", "latents"))
    facts = runs.read_facts(run)
    runs.write_facts(run, facts | {"settings": facts["settings"] | {"swing": 0.6}})
    with pytest.raises(RunError, match="its settings swing are of another version"):
        train(recordings, run, codec=TOY, resume=True, max_steps=13)


def test_a_run_inside_the_folder_of_recordings_goes_on(recordings, tmp_path):
    folder = shutil.copytree(recordings, tmp_path / "music")
    run = train(folder, folder / "run", codec=TOY, **TINY | {"max_steps": 1, "save_steps": 1})
    assert list((run.folder / "samples").rglob("*.wav"))
    assert runs.read_facts(train(folder, run.folder, codec=TOY, resume=True, max_steps=2).folder)["step"] == 2


# --- fine-tuning ---------------------------------------------------------------------------------------------------


def test_a_base_brings_all_that_it_knows(trained, recordings, tmp_path):
    messages = []
    settings = {name: value for name, value in TINY.items() if name not in ("base_channels", "window", "learning_rate")}
    settings |= {"base": trained.folder, "rehearse": 0.5, "learning_rate": 1e-6, "max_steps": 2, "save_steps": 1}
    run = train(recordings, tmp_path / "run", codec=TOY, report=lambda now: messages.append(now.message), **settings)
    began = load_file(run.folder / "checkpoint-0/state.safetensors")
    ended = load_file(trained.folder / "checkpoint-12/state.safetensors")
    assert began.keys() == ended.keys() and all(torch.equal(began[name], ended[name]) for name in began)
    course = json.loads((run.folder / "checkpoint-2/course.json").read_text())
    assert course["age"] == 14 and course["switch"] > -1 and course["step"] == 2
    assert any("near the old ones" in message for message in messages)
    assert runs.read_facts(run.folder)["distance"] < profile.NEAR
    again = train(recordings, run.folder, codec=TOY, resume=True, max_steps=3, base=trained.folder)
    assert runs.read_facts(again.folder)["step"] == 3
    with pytest.raises(RunError, match="--base was"):
        train(recordings, run.folder, codec=TOY, resume=True, max_steps=4, base=tmp_path)


@pytest.mark.parametrize(
    ("channels", "window", "rate"),
    [(24, 64, 2e-4), (64, 64, 2e-4), (128, 256, 4e-5), (192, 256, 3e-5), (256, 256, 2e-5)],
)
def test_a_larger_model_hears_longer_windows_and_learns_more_slowly(channels, window, rate):
    found = resolve(GanSettings(base_channels=channels), latent_rate=10.77, base=None)
    assert (found.window, found.learning_rate) == (window, rate)


def test_the_rate_on_a_base_is_half_of_what_that_had_at_last():
    base = {"base_channels": 24, "window": 64, "rate": 5e-5}
    assert resolve(GanSettings(), latent_rate=10.0, base=base).learning_rate == 2.5e-5
    assert resolve(GanSettings(learning_rate=1e-5), latent_rate=10.0, base=base).learning_rate == 1e-5


def test_a_base_that_does_not_fit_is_refused_by_name(trained, recordings, tmp_path):
    for change, told in (({"base_channels": 24}, "--base-channels 24: the base"), ({"window": 32}, "--window 32")):
        with pytest.raises(InputError, match=told):
            train(recordings, tmp_path / "run", codec=TOY, base=trained.folder, **change)
    with pytest.raises(RunError, match="codec toy-1-0"):
        train(recordings, tmp_path / "run", codec=Toy(seed=1), base=trained.folder)
    bare = shutil.copytree(trained.folder, tmp_path / "bare", ignore=shutil.ignore_patterns("checkpoint-*"))
    with pytest.raises(RunError, match="it holds no checkpoint"):
        train(recordings, tmp_path / "run", codec=TOY, base=bare)
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_without_its_base_unless_it_rehearses(trained, recordings, tmp_path):
    base = shutil.copytree(trained.folder, tmp_path / "base")
    for name, rehearse in (("alone", 0.0), ("rehearsed", 0.5)):
        train(recordings, tmp_path / name, codec=TOY, base=base, rehearse=rehearse, max_steps=1, threads=1, samples=2)
    shutil.rmtree(base)
    train(recordings, tmp_path / "alone", codec=TOY, resume=True, max_steps=2)
    with pytest.raises(RunError, match="not a run"):
        train(recordings, tmp_path / "rehearsed", codec=TOY, resume=True, max_steps=2)


def test_the_rehearsed_share_of_rows_is_old():
    def source(value):
        one = latents.Recording("a.wav", frames=100)
        return latents.Latents((one,), np.full((100, 8), value, np.float32), None)

    settings = GanSettings(**{k: v for k, v in TINY.items() if k != "batch_size"}, batch_size=500, rehearse=0.2)
    rows = Rows(source(1.0), source(-1.0), settings, torch.device("cpu"))
    drawn, seed = rows.draw(3, 0)
    assert drawn.shape == (500, 8, 16) and (drawn < 0).float().mean() == pytest.approx(0.2, abs=0.06)
    assert rows.draw(3, 0)[1] == seed != rows.draw(3, 1)[1]


# --- the commands ------------------------------------------------------------------------------------------------


def test_the_commands(recordings, tmp_path, monkeypatch, capsys):
    from woodshed.cli import main

    for module in (training, runs):
        monkeypatch.setattr(module, "open_codec", lambda place, **_: TOY)
    monkeypatch.setattr("woodshed.audio.gan.settings.LEARNING_RATES", {24: 1e-3})
    out = str(tmp_path / "run")
    more = [
        "--base-channels",
        "24",
        "--window",
        "16",
        "--batch-size",
        "2",
        "--max-steps",
        "2",
        "--save-steps",
        "2",
        "--threads",
        "1",
    ]
    main(["audio", "gan", "train", str(recordings), "--codec", "toy", "--out", out, *more])
    held, real = [], playing._take

    def played(*how):
        assert not [one for one in held if one()], "a take is still in memory as the next one is played"
        held.append(weakref.ref(take := real(*how)))
        return take

    monkeypatch.setattr(playing, "_take", played)
    main(["audio", "gan", "generate", out, "--seconds", "2", "--takes", "2", "--seed", "4"])
    told = capsys.readouterr()
    assert "seed 4" in told.out and (tmp_path / "run/takes/001/run_seed5_take-2.wav").exists()
    assert "below 10" in told.err
