"""Folders of recordings become folders of MIDI: what is written, left out, gone on with."""

import os
import signal
import sys

import numpy as np
import pytest
from sounds import Folder, hostile, silence, tone
from test_cli import run_main

from woodshed.audio import notes, transcription
from woodshed.audio.strikes import HEARD
from woodshed.audio.wave import Audio, write_audio
from woodshed.cli.audio.transcribe import as_score
from woodshed.symbolic.music.midi import read_midi, read_texts
from woodshed.symbolic.music.render import render
from woodshed.symbolic.music.score import Score

TWO = np.array([(0.5, 1.25, 60, 80), (0.75, 1.0, 64, 40)], HEARD)


@pytest.fixture
def heard(monkeypatch):
    """Two notes are heard in every recording but in noise; the samples that were listened to, one count for each."""
    counts = []

    def hear(pieces):
        samples = [piece.samples for piece in pieces]
        counts.append(sum(map(len, samples)))
        return TWO if np.abs(np.concatenate(samples)).max() < 0.9 else TWO[:0]

    monkeypatch.setattr(notes, "hear", hear)
    monkeypatch.setattr(notes, "available", lambda: True)
    return counts


@pytest.fixture
def folder(tmp_path):
    return Folder.new(tmp_path / "takes")


def test_every_recording_becomes_midi_of_its_name_in_its_folder(heard, folder, tmp_path, capsys):
    folder.add("a b.wav", "deep/Dvořák 夜.ogg", "deep/c.flac", "note.txt.wav")
    code, out, err = run_main(capsys, "audio", "transcribe", folder, "--out", tmp_path / "midi")
    written = sorted(path.relative_to(tmp_path / "midi").as_posix() for path in (tmp_path / "midi").rglob("*.*"))
    assert written == ["a b.mid", "deep/Dvořák 夜.mid", "deep/c.mid", "note.txt.mid"] and code == 0
    assert f"{tmp_path / 'midi' / 'a b.mid'}: 2 notes in 0:00" in err.splitlines()
    assert out.splitlines()[0] == f"{tmp_path / 'midi'}: 4 recordings transcribed, 8 notes in 0:00"
    path = tmp_path / "midi" / "deep" / "Dvořák 夜.mid"
    score = read_midi(path)
    assert score.free and score.tracks[0].name == "Dvořák 夜" and read_texts(path) == ["transcribed from Dvořák 夜.ogg"]
    rows = score.notes[["onset", "duration", "pitch", "velocity"]].tolist()
    assert rows == [(500, 750, 60, 80), (750, 250, 64, 40)] and not len(score.pedals)


def test_what_is_there_stays_and_what_is_missing_is_added(heard, folder, tmp_path, capsys):
    out = tmp_path / "midi"
    run_main(capsys, "audio", "transcribe", folder.add("a.wav", "b.wav"), "--out", out)
    (out / "a.mid").write_bytes(b"mine")
    folder.add("c.wav")
    code, told, err = run_main(capsys, "audio", "transcribe", folder, "--out", out)
    assert code == 0 and (out / "a.mid").read_bytes() == b"mine" and len(heard) == 3
    assert told.splitlines()[0] == f"{out}: 1 recording transcribed, 2 notes in 0:00; 2 were there already"
    code, told, err = run_main(capsys, "audio", "transcribe", folder, "--out", out)
    assert code == 0 and told.startswith(f"{out}: 0 recordings transcribed; 3 were there already\n") and not err


def test_what_gives_no_notes_is_left_out_with_its_reason(heard, tmp_path, capsys):
    folder = hostile(tmp_path / "takes")
    write_audio(folder / "hum.wav", tone(0.5, level=1.0))
    write_audio(folder / "two.wav", tone(0.5))
    code, out, err = run_main(capsys, "audio", "transcribe", folder, "--out", tmp_path / "midi")
    assert code == 0 and sorted(path.name for path in (tmp_path / "midi").rglob("*.mid")) == [
        "8 bit.mid",
        "Dvořák 夜.mid",
        "two.mid",
    ]
    reasons = dict(line.removeprefix("left out: ").split(": ", 1) for line in err.splitlines() if "left out" in line)
    assert reasons["silent.wav"].startswith("silent") and reasons["hum.wav"] == "no notes are heard in it"
    assert "no numbers (NaN)" in reasons["nan.wav"] and "cannot be read as sound" in reasons["text.mp3"]
    assert reasons["two.wav"] == "two.flac goes to two.mid already; rename one of them"
    assert "; 8 left out" not in out and f"; {len(reasons)} left out" in out


def test_a_single_recording_and_one_that_is_too_long(heard, folder, tmp_path, capsys, monkeypatch):
    folder.add("a.wav", "b.wav")
    code, _, _ = run_main(capsys, "audio", "transcribe", folder / "a.wav", "--out", tmp_path / "midi")
    assert code == 0 and [path.name for path in (tmp_path / "midi").iterdir()] == ["a.mid"]
    monkeypatch.setattr(transcription, "HOURS", 0.1 / 3600)
    code, _, err = run_main(capsys, "audio", "transcribe", folder / "b.wav", "--out", tmp_path / "midi")
    assert code == 1 and "cut it into pieces" in err and "no notes came of it: b.wav: lasts" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("where", "out", "message"),
    [
        ("nowhere", "midi", "nowhere: no such file or folder; give a recording, or a folder that holds some"),
        ("empty", "midi", "empty: no recordings (.wav, .flac"),
        ("takes", "song.mid", "--out song.mid: give a folder; each .mid gets the name of its recording"),
        ("takes", "takes/a.wav", "--out takes/a.wav: give a folder"),
        ("silent", "midi", "silent: no notes came of it: a.wav: silent: record it again"),
    ],
)
def test_what_cannot_work_is_told_and_leaves_nothing(heard, folder, tmp_path, capsys, monkeypatch, where, out, message):
    monkeypatch.chdir(tmp_path)
    folder.add("a.wav")
    (tmp_path / "empty").mkdir()
    write_audio(Folder.new(tmp_path / "silent") / "a.wav", silence(0.5))
    code, _, err = run_main(capsys, "audio", "transcribe", where, "--out", out)
    assert code == 1 and err.splitlines()[-1].startswith(f"woodshed: {message}")
    assert sorted(os.listdir(tmp_path)) == ["empty", "silent", "takes"]


def test_without_the_model_a_line_says_how_to_install_it(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(notes, "available", lambda: False)
    code, _, err = run_main(capsys, "audio", "transcribe", folder.add("a.wav"), "--out", tmp_path / "midi")
    assert code == 1 and "pip install onnxruntime && pip install --no-deps basic-pitch" in err and err.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_ctrl_c_keeps_what_is_finished_and_the_same_command_goes_on(folder, tmp_path, capsys, heard, monkeypatch):
    folder.add("a.wav", "b.wav", "c.wav")
    hear, names = notes.hear, []

    def interrupted(pieces):
        names.append(len(names))
        if len(names) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return hear(pieces)

    monkeypatch.setattr(notes, "hear", interrupted)
    line = ("audio", "transcribe", folder, "--out", tmp_path / "midi")
    code, out, _ = run_main(capsys, *line)
    assert code == 130 and out.endswith("stopped by SIGINT; the same command goes on with what is missing\n")
    assert [path.name for path in (tmp_path / "midi").iterdir()] == ["a.mid"]
    code, out, _ = run_main(capsys, *line)
    assert code == 0 and "2 recordings transcribed, 4 notes in 0:00; 1 were there already" in out


def test_a_full_disk_is_no_reason_to_leave_recordings_out(heard, folder, tmp_path, capsys):
    (tmp_path / "midi").mkdir()
    (tmp_path / "midi" / "deep").write_text("a file where the folder should be")
    code, _, err = run_main(capsys, "audio", "transcribe", folder.add("deep/a.wav"), "--out", tmp_path / "midi")
    assert code == 1 and err.endswith("deep: a file, not a folder; choose another folder\n")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such names")
def test_names_that_are_no_text_are_transcribed_too(heard, folder, tmp_path, capsys):
    folder.add("a.wav")
    (folder / "a.wav").rename(folder / os.fsdecode(b"caf\xe9.wav"))
    code, _, _ = run_main(capsys, "audio", "transcribe", folder, "--out", tmp_path / "midi")
    assert code == 0 and read_midi(tmp_path / "midi" / os.fsdecode(b"caf\xe9.mid")).tracks[0].name == "caf\\udce9"


def test_notes_in_seconds_are_a_score_of_milliseconds():
    odd = np.array([(-0.003, 0.0001, 60, 80), (1.0, 1.0002, 60, 90), (1.0001, 5.0, 60, 70)], HEARD)
    score = as_score(odd, "x")
    assert score.notes["onset"].tolist() == [0, 1000] and score.notes["duration"].tolist() == [1, 4000]


@pytest.mark.skipif(not notes.available(), reason="basic-pitch is not installed")
def test_our_own_piano_comes_back():
    pitches = [48, 60, 64, 72, 76, 55]
    rows = [(400 * n, 300 + 100 * (n % 3), pitch, 50, 0) for n, pitch in enumerate(pitches)]
    rows += [(2800 + 400 * n, 300, pitch, 90, 0) for n, pitch in enumerate(pitches)]
    rows += [(5600, 600, pitch, 80, 0) for pitch in (43, 58, 62, 65)]
    played = Score(rows, ticks_per_quarter=500, free=True)
    audio = Audio(render(played, sample_rate=22050), 22050)
    found = as_score(notes.transcribe(audio), "x").notes
    one, other = (np.sort(heard, order=["pitch", "onset"]) for heard in (found, played.notes))
    assert one["pitch"].tolist() == other["pitch"].tolist()
    assert np.abs(one["onset"] - other["onset"]).max() <= 50
    late = np.abs(one["onset"] + one["duration"] - other["onset"] - other["duration"])
    assert np.sort(late)[-3] <= 60 and late.max() < 400  # in a chord one may seem to ring on
    soft, loud = (one[other["velocity"] == velocity]["velocity"].astype(int) for velocity in (50, 90))
    assert (loud > soft + 5).all()
