"""A codec learns from a folder, goes on as if it had not been stopped, and is told what it loses."""
# ruff: noqa: F811

import importlib.util
import json
import os
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from codec_toys import TINY, hurrying, recordings, trained  # noqa: F401
from folders import tune
from sounds import silence, song, tone
from toys import events_of

from woodshed import write_midi
from woodshed.audio import codec_train, listener, notes
from woodshed.audio.codec_check import balance_error, check_codec, spectral_distance
from woodshed.audio.codec_train import train_codec
from woodshed.audio.codecs import LOUDNESS, open_codec, own
from woodshed.audio.codecs._settings import CodecSettings
from woodshed.audio.crops import Crops, find, split
from woodshed.audio.gan import train as gan
from woodshed.audio.gan.run import open_run
from woodshed.audio.wave import Audio, listen, write_audio
from woodshed.errors import EmptyCorpus, FileError, InputError, RunError
from woodshed.log import draw_loss

RECIPE = Path(__file__).parents[1] / "recipes" / "render_piano.py"


# --- crops -----------------------------------------------------------------------------------------------------


def test_crops_are_a_function_of_seed_and_step(recordings):
    train, held = split(find(recordings, shortest=0.5), shortest=0.5, seed=0)
    assert len(train) == 5 and len(held) == 1 and held[0] not in train
    how = dict(samples=8000, sample_rate=16000, channels=2)
    straight = Crops(train, **how, seed=1)
    batches = [straight.batch(step, 3) for step in range(6)]
    assert batches[0].shape == (3, 2, 8000) and batches[0].dtype == np.float32
    np.testing.assert_array_equal(Crops(train, **how, seed=1).batch(5, 3), batches[5])
    assert not np.array_equal(batches[4], batches[5])
    assert not np.array_equal(Crops(train, **how, seed=2).batch(5, 3), batches[5])


def test_a_recording_that_is_shorter_than_a_crop_is_repeated_in_it(tmp_path):
    write_audio(tmp_path / "a.wav", song(0, seconds=1.0))
    how = dict(sample_rate=16000, channels=1)
    crops = Crops(find(tmp_path, shortest=0.5), samples=40000, **how, seed=0).first(2)
    np.testing.assert_array_equal(crops[..., 16000:32000], crops[..., :16000])
    np.testing.assert_array_equal(crops[..., 32000:], crops[..., :8000])


def test_of_few_recordings_the_ends_are_held_out_and_the_unusable_are_named(tmp_path):
    write_audio(tmp_path / "a.wav", song(0, seconds=10.0))
    write_audio(tmp_path / "quiet.wav", silence(4.0))
    write_audio(tmp_path / "short.wav", tone(0.2))
    (tmp_path / "broken.wav").write_bytes(b"RIFFnonsense")
    said = []
    found = find(tmp_path, shortest=0.5, report=lambda now: said.append(now.message))
    (train,), (held,) = split(found, shortest=0.5, seed=0)
    assert train.end == held.start == pytest.approx(9.0) and held.end == pytest.approx(10.0)
    assert len(said) == 3
    for word in ("broken.wav", "quiet.wav: it is silent", "short.wav: only 0.2 s"):
        assert any(word in line for line in said)
    (tmp_path / "a.wav").unlink()
    with pytest.raises(EmptyCorpus, match="3 left out"):
        find(tmp_path, shortest=0.5)


# --- training --------------------------------------------------------------------------------------------------


def test_a_broken_checkpoint_goes_without_what_is_behind_a_link(tmp_path):
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (elsewhere / "mine").touch()
    (tmp_path / "checkpoint-9").symlink_to(elsewhere)
    codec_train._restore(SimpleNamespace(out=tmp_path, say=pytest.fail, settings=SimpleNamespace(base="other")), None)
    assert not (tmp_path / "checkpoint-9").is_symlink() and (elsewhere / "mine").exists()


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(recordings, trained, tmp_path):
    def stop(now):
        if now.step == 3 and not now.message:
            os.kill(os.getpid(), signal.SIGINT)

    out = tmp_path / "own"
    half = train_codec(recordings, out, **TINY, max_steps=4, eval_steps=2, report=stop)
    assert half.about["step"] == 3 and events_of(out) == ["stopped"]
    (tmp_path / "others").mkdir()
    write_audio(tmp_path / "others" / "a.wav", song(9))
    with pytest.raises(RunError, match="not those it has learned from"):
        train_codec(tmp_path / "others", out, resume=True)
    again = train_codec(recordings, out, resume=True)
    assert again.about["step"] == 4
    with pytest.raises(RunError, match="it has finished, at step 4"):
        train_codec(recordings, out, resume=True)
    whole = open_codec(trained)
    assert again.fingerprint == whole.fingerprint
    assert sorted(p.name for p in out.glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-4"]
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines() if '"loss"' in line]
    assert steps == [1, 2, 3, 4]


def test_a_training_goes_on_with_its_base_as_it_was_given(recordings, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(trained.parent)
    how = {"base": trained.name, "batch_size": 2, "seconds": 0.6, "threads": 1, "device": "cpu"}
    train_codec(recordings, tmp_path / "own", **how, max_steps=1)
    again = {"max_steps": 2, "learning_rate": 5e-4, "resume": True}
    assert train_codec(recordings, tmp_path / "own", **how, **again).about["step"] == 2
    kept = codec_train._settled(CodecSettings(resume=True), tmp_path / "own")  # the next time, where nothing is said
    assert (kept.max_steps, kept.max_minutes, kept.learning_rate) == (2, None, 5e-4)
    usual = codec_train._settled(CodecSettings(resume=True, learning_rate=1e-3), tmp_path / "own")
    assert usual.learning_rate == 1e-3  # a default that is given counts too


def test_a_training_goes_on_without_its_base(recordings, trained, tmp_path):
    base, out = shutil.copytree(trained, tmp_path / "base"), tmp_path / "own"
    how = {"batch_size": 2, "seconds": 0.6, "threads": 1, "device": "cpu"}
    train_codec(recordings, out, **how, base=str(base), max_steps=1)
    base.rename(tmp_path / "moved")
    assert train_codec(recordings, out, max_steps=2, resume=True).about["step"] == 2
    shutil.rmtree(out / "checkpoint-1")
    shutil.rmtree(out / "checkpoint-2")
    with pytest.raises(RunError, match=r"base: there is no codec of kind own"):
        train_codec(recordings, out, max_steps=3, resume=True)


def test_a_full_disk_says_how_to_go_on(recordings, tmp_path, monkeypatch):
    def write(path, data):
        raise FileError(path, "cannot be written: No space left on device")

    told = r"left on device; put that right, then go on from step 0 with --resume"
    with monkeypatch.context() as patch, pytest.raises(FileError, match=told):
        patch.setattr(own, "write_file", write)
        train_codec(recordings, tmp_path / "own", **TINY, max_steps=1)
    assert train_codec(recordings, tmp_path / "own", resume=True).about["step"] == 1


def test_a_checkpoint_that_was_cut_short_is_named(recordings, trained, tmp_path):
    out = shutil.copytree(trained, tmp_path / "own")
    for name, data in (("state.json", b"{}"), ("network.safetensors", b"\0" * 20)):
        (out / "checkpoint-4" / name).write_bytes(data)
        with pytest.raises(RunError, match=r"checkpoint-4: cannot be read: .*; delete it to go on before it"):
            train_codec(recordings, out, resume=True, max_steps=5)


def test_a_file_whose_name_is_no_text_is_learned_from(recordings, tmp_path):
    folder = shutil.copytree(recordings, tmp_path / "music")
    try:
        os.rename(folder / "0.flac", os.fsencode(folder) + b"/caf\xe9.flac")
    except OSError:
        pytest.skip("this file system has only names that are text")
    train_codec(folder, tmp_path / "own", **TINY, max_steps=1)
    assert train_codec(folder, tmp_path / "own", resume=True, max_steps=2).about["recordings"] == 5


def test_a_kill_at_the_end_leaves_nothing_unpublished(recordings, trained, tmp_path):
    whole = open_codec(trained).fingerprint
    for number, broken in enumerate(("checkpoint-4/state.json", "codec.json", "model.safetensors")):
        out = shutil.copytree(trained, tmp_path / f"{number}")
        (out / broken).unlink()
        if broken.startswith("checkpoint"):  # published is what step 2 was
            facts = json.loads((out / "codec.json").read_text())
            (out / "codec.json").write_text(json.dumps(facts | {"step": 2}))
        assert train_codec(recordings, out, resume=True).fingerprint == whole
        assert (out / "checkpoint-4" / "state.json").exists()
        with pytest.raises(RunError, match="it has finished, at step 4"):
            train_codec(recordings, out, resume=True)


def test_a_run_keeps_its_codec(recordings, trained, tmp_path):
    codec = shutil.copytree(trained, tmp_path / "codec")
    tiny = dict(base_channels=4, window=16, batch_size=2, learning_rate=1e-3, threads=1, samples=2, max_steps=1)
    run = gan.train(recordings, tmp_path / "runs" / "mine", codec=codec, **tiny)
    known = open_codec(codec).fingerprint
    train_codec(recordings, codec, resume=True, max_steps=5)
    assert open_codec(codec).fingerprint != known
    with pytest.raises(RunError, match=rf"give its own with --codec, {run.folder / 'codec'}"):
        gan.train(recordings, run.folder, codec=codec, resume=True, max_steps=2)
    assert gan.train(recordings, run.folder, resume=True, max_steps=2).codec.fingerprint == known
    shutil.move(tmp_path / "runs", tmp_path / "elsewhere")
    shutil.rmtree(codec)
    moved = open_run(tmp_path / "elsewhere" / "mine")
    assert moved.codec.fingerprint == known == run.codec.fingerprint
    shutil.rmtree(moved.folder / "codec")
    with pytest.raises(RunError, match=r"its codec is not at .*say where it is with --codec"):
        open_run(moved.folder)


def test_a_training_that_goes_on_listens_only_to_what_has_changed(recordings, tmp_path, monkeypatch):
    heard, listen = [], listener.listen
    monkeypatch.setattr(listener, "listen", lambda path, *how: heard.append(path.name) or listen(path, *how))
    folder, out = shutil.copytree(recordings, tmp_path / "music"), tmp_path / "own"
    train_codec(folder, out, **TINY, max_steps=1)
    assert sorted(heard) == sorted(path.name for path in folder.iterdir())
    heard.clear()
    train_codec(folder, out, resume=True, max_steps=2)
    assert heard == []
    write_audio(folder / "3.flac", song(3, seconds=6.0, bpm=99))  # as long as before
    train_codec(folder, out, resume=True, max_steps=3)
    assert heard == ["3.flac"]
    whole = (out / "heard.json").read_text()
    (out / "heard.json").write_text(whole[:-50])
    train_codec(folder, out, resume=True, max_steps=4)
    assert len(heard) == 7 and (out / "heard.json").read_text() == whole
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in recordings.iterdir())


def test_training_lowers_the_error(recordings, tmp_path, monkeypatch):
    monkeypatch.setattr(codec_train, "draw_loss", draw_loss)
    settings = TINY | {"batch_size": 4, "width": 32, "latent_dim": 12}
    out = tmp_path / "own"
    train_codec(recordings, out, **settings, max_steps=24, eval_steps=24, learning_rate=3e-3)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    found = [line for line in lines if "loss" in line]
    for name in ("spectrum", "phase"):
        first, last = (np.mean([line[name] for line in part]) for part in (found[:6], found[-6:]))
        assert last < 0.9 * first, name
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_work_is_refused(recordings, trained, tmp_path):
    with pytest.raises(InputError, match="holds a run already; add --resume"):
        train_codec(recordings, trained)
    with pytest.raises(RunError, match="no codec in training"):
        train_codec(recordings, tmp_path / "new", resume=True)
    assert not (tmp_path / "new").exists()
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "settings.json").write_text('{"settings": {"swing": 0.6}}')
    with pytest.raises(RunError, match="its settings swing are of another version"):
        train_codec(recordings, tmp_path / "later", resume=True)
    with pytest.raises(RunError, match="--width was 16, now it is 64"):
        train_codec(recordings, trained, resume=True, width=64)
    for changes, match in (
        ({"channels": 3}, "--channels 3: choose from 1, 2"),
        ({"side_dim": 24}, "--side-dim 24"),
        ({"batch_size": 0}, "--batch-size 0"),
        ({"kind": "oobleck"}, "needs --base"),
        ({"kind": "owl"}, "choose from: oobleck, own"),
        ({"latent_noise": -1}, "--latent-noise"),
        ({"seed": -1}, "--seed -1: give 0 to"),
        ({"max_minutes": 0, "max_steps": None}, "--max-minutes 0: give more than 0"),
    ):
        with pytest.raises(InputError, match=match):
            train_codec(recordings, tmp_path / "new", **TINY | {"max_steps": 1} | changes)
    with pytest.raises(InputError, match=r"--latent-dim 32: the base .* has 24; leave it out"):
        train_codec(recordings, tmp_path / "new", base=str(trained), latent_dim=32, max_steps=1)


# --- the report ------------------------------------------------------------------------------------------------


def test_the_report_of_a_codec(trained, recordings, tmp_path, monkeypatch):
    monkeypatch.setattr(notes, "available", lambda: False)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / ".DS_Store").touch()
    facts = check_codec(trained, recordings, tmp_path / "report", excerpts=2, seconds=1.0, sounds=1, griffin_lim=True)
    assert set(facts["measures"]) == {"round trip", "noise on latents", "griffin-lim"}
    found = facts["measures"]["round trip"]
    assert 0 < found["spectral_distance"] < facts["measures"]["noise on latents"]["spectral_distance"]
    assert 0 <= found["onset_f1"] <= 1 and "note_f1" not in found
    assert json.loads((tmp_path / "report" / "report.json").read_text()) == facts
    html = (tmp_path / "report" / "report.html").read_text()
    assert "1 source.wav" in html and (tmp_path / "report" / "1 round trip.wav").exists()
    assert any("basic-pitch" in line for line in facts["verdict"])
    with pytest.raises(InputError, match="is not empty"):
        check_codec(trained, recordings, tmp_path / "report")
    with pytest.raises(InputError, match="--seed -1: give 0 or more"):
        check_codec(trained, recordings, tmp_path / "new", seed=-1)


def test_an_excerpt_whose_notes_cannot_be_heard_in_the_source_is_not_judged_by_them(
    trained, recordings, tmp_path, monkeypatch
):
    played = np.column_stack([np.arange(0, 6, 0.1), np.full(60, 60.0)])
    nothing, some = np.zeros((0, 2)), played[:5]
    heard = iter(3 * [nothing] + 3 * [some] + 3 * [nothing])
    monkeypatch.setattr(notes, "available", lambda: True)
    monkeypatch.setattr(notes, "transcribe", lambda sound: next(heard))
    how = dict(seconds=1.0, sounds=0, notes_of=lambda path: played)
    facts = check_codec(trained, recordings, tmp_path / "report", excerpts=2, **how)
    assert facts["measures"]["round trip"]["note_f1_of_midi_relative"] == 1
    assert "NaN" not in (tmp_path / "report" / "report.json").read_text()
    facts = check_codec(trained, recordings, tmp_path / "deaf", excerpts=1, **how)
    assert "note_f1_of_midi_relative" not in facts["measures"]["round trip"]
    assert facts["verdict"][0].startswith("note f1 1.000: the notes are kept")


def test_the_measures_are_those_of_the_same_sound_and_of_silence():
    sound = song(0, seconds=3.0)
    assert spectral_distance(sound.samples, sound.samples) == 0
    assert spectral_distance(-sound.samples, sound.samples) == pytest.approx(0, abs=1e-9)
    assert spectral_distance(0 * sound.samples, sound.samples) == pytest.approx(1)
    left = Audio(sound.samples * np.float32([1, 0.5]), sound.sample_rate)
    assert balance_error(sound, sound) == 0
    assert balance_error(left, sound) == pytest.approx(20 * np.log10(2), abs=0.1)


# --- recordings made of MIDI -----------------------------------------------------------------------------------


def test_the_recipe_renders_the_splits_of_the_manifest_once(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("render_piano", RECIPE)
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    data, out = tmp_path / "data", tmp_path / "out"
    rows = [
        ("a/1.mid", "a", "train"),
        ("a/2.mid", "a", "train"),
        ("a/Mozart.mid", "a", "test"),
        ("b/3.mid", "b", "train"),
    ]
    for number, (path, _, _) in enumerate(rows):
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        write_midi(tune(number, notes=16), data / path)
    lines = ["file,set,split,seconds,info", *(f"{file},{name},{split},4,someone" for file, name, split in rows)]
    (data / "manifest.csv").write_text("\n".join(lines))
    choice = [str(data), str(out), "--sets", "a", "--hours"]
    recipe.main([*choice, "0.0011"])
    first = {path: path.stat().st_mtime_ns for path in out.rglob("*.flac")}
    assert {path.parts[-3] for path in first} == {"train", "test"} and len(first) == 2
    recipe.main([*choice, "1"])
    second = {path: path.stat().st_mtime_ns for path in out.rglob("*.flac")}
    assert len(second) == 3 and first.items() <= second.items()
    for path in second:
        assert path.with_suffix(".mid").exists()
        assert listen(path).loudness == pytest.approx(LOUDNESS, abs=0.3)
    table = (out / "table.csv").read_text().splitlines()
    assert len(table) == 4 and "3 recordings" not in capsys.readouterr().out
    assert [row["file"] for row in recipe.choose(data, ("a", "b"), ("mozart",), hours=1, seed=0)] == ["a/Mozart.mid"]
