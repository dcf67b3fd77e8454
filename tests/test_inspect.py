"""The data report: every file accounted for, nothing left out without its reason, the same song known again."""

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from folders import FAULTS, PIANO, folder, hostile, real, tune
from rich.console import Console

from woodshed.errors import EmptyCorpus, FileError, InputError
from woodshed.symbolic.data import inspect as inspecting
from woodshed.symbolic.data.inspect import InspectSettings, examine, inspect, render
from woodshed.symbolic.data.report import REASONS, advice, suits
from woodshed.symbolic.music.midi import midi_files, write_midi
from woodshed.symbolic.music.score import Score, Track


def reasons(report) -> dict[str, str]:
    return {finding.path: finding.reason for finding in report.findings}


# --- one file --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", FAULTS)
def test_each_filter_leaves_out_its_file_and_keep_takes_it(tmp_path, reason):
    path = tmp_path / "music.mid"
    write_midi(FAULTS[reason], path)
    finding = examine(path)
    assert (finding.reason, finding.score) == (reason, None)
    assert finding.detail
    kept = examine(path, InspectSettings(keep=(reason,)))
    assert kept.reason == ""
    assert len(kept.score.notes) == len(FAULTS[reason].notes)


def test_thresholds_are_the_limit_itself(tmp_path):
    path = tmp_path / "music.mid"
    write_midi(tune(notes=40, step=480), path)  # 20 seconds, 2 notes a second
    for settings, reason in [
        (InspectSettings(min_seconds=20), ""),
        (InspectSettings(min_seconds=20.1), "short"),
        (InspectSettings(min_notes=40), ""),
        (InspectSettings(min_notes=41), "short"),
        (InspectSettings(max_notes_per_second=2), ""),
        (InspectSettings(max_notes_per_second=1.9), "dense"),
    ]:
        assert examine(path, settings).reason == reason


@pytest.mark.parametrize("data", [b"", b"not a MIDI file", b"MThd\0\0\0\6\0\0\0\1", b"RIFF\0\0\0\0"])
def test_what_is_no_midi_is_unreadable_with_a_reason(tmp_path, data):
    path = tmp_path / "song.mid"
    path.write_bytes(data)
    finding = examine(path)
    assert finding.reason in ("unreadable", "empty")
    assert finding.detail


def test_music_without_notes_is_empty(tmp_path):
    write_midi(Score(), tmp_path / "silence.mid")
    assert examine(tmp_path / "silence.mid").reason == "empty"


def test_drums_beside_a_piano_are_dropped_with_a_word(tmp_path):
    path = tmp_path / "music.mid"
    write_midi(tune(tracks=(*PIANO, Track("Kit", 0, True, "drums"))), path)
    finding = examine(path)
    assert not finding.reason
    assert [track.drums for track in finding.score.tracks] == [False]
    assert set(finding.score.notes["track"]) == {0}
    assert "drum track left out" in finding.remarks
    with_drums = examine(path, InspectSettings(keep=("drums",)))
    assert with_drums.facts.parts == ("melody", "drums")
    only = examine(path, InspectSettings(only_part="drums"))
    assert only.facts.parts == ("drums",)
    assert len(only.score.notes) + len(finding.score.notes) == len(with_drums.score.notes)


def test_in_drums_alone_no_chords_are_heard(tmp_path):
    write_midi(FAULTS["drums"], tmp_path / "music.mid")
    score = examine(tmp_path / "music.mid", InspectSettings(only_part="drums"), chords="recognise").score
    assert len(score.notes) and not len(score.chords)


def test_instruments_are_named_by_their_own_programs():
    def named(*programs):
        return inspecting.instruments([Track(program=program) for program in programs])

    assert named(0) == ["piano (1)"] and named(5) == ["electric piano (6)"] and named(7) == ["clavinet (8)"]
    assert named(33, 6, 4, 0) == ["piano (1, 5)", "harpsichord (7)", "bass (34)"]  # all pianos are one instrument


def test_one_part_is_learned_alone_and_its_absence_is_told(tmp_path):
    path = tmp_path / "music.mid"
    tracks = (Track("Melody", 0, False, "melody"), Track("Organ", 19, False, "accompaniment"))
    write_midi(tune(tracks=tracks), path)
    assert examine(path).reason == "programs"
    melody = examine(path, InspectSettings(only_part="melody"))
    assert melody.score.tracks == tracks[:1]
    assert len(melody.score.notes) == 120
    bass = examine(path, InspectSettings(only_part="bass"))
    assert bass.reason == "part"
    assert "melody" in bass.detail
    assert "accompaniment" in bass.detail


def test_chords_are_heard_in_all_parts_before_one_is_chosen(tmp_path):
    path = tmp_path / "music.mid"
    tracks = (Track("Melody", 0, False, "melody"), Track("Piano", 0, False, "accompaniment"))
    chords = [(960 * k, 960, p, 70, 1) for k in range(40) for p in ((48, 52, 55), (53, 57, 60))[k // 2 % 2]]
    lead = [(480 * k, 480, 79, 90, 0) for k in range(80)]
    write_midi(Score(lead + chords, tracks=tracks), path)
    alone = examine(path, InspectSettings(only_part="melody"), chords="recognise").score
    assert set(alone.notes["pitch"]) == {79}
    assert {0, 5} <= set(alone.chords["root"].tolist())  # C and F are in the piano only
    assert not len(examine(path).score.chords)
    stated = Score(lead + chords, chords=[(0, 2, 1, 2)], tracks=tracks)
    write_midi(stated, path)
    assert examine(path, chords="recognise").score.chords["root"].tolist() == [2]
    assert not len(examine(path, chords="none").score.chords)


def test_silence_before_the_music_is_cut(tmp_path):
    path, piece = tmp_path / "music.mid", tune()
    late = piece.notes.copy()
    late["onset"] += 3 * 1920 + 480
    write_midi(piece.replace(notes=late), path)
    finding = examine(path, InspectSettings(keep_grid=True))
    assert finding.score.notes["onset"][0] == 480  # a beat into its bar, as before
    assert "empty bars at the start left out: 3" in finding.remarks
    free = piece.freed()
    late = free.notes.copy()
    late["onset"] += 5000
    write_midi(free.replace(notes=late), path)
    assert examine(path).score.notes["onset"][0] == 0


def test_facts_are_true_of_the_music(tmp_path):
    path = tmp_path / "music.mid"
    pedals = [(0, 127, 0), (1920, 0, 0), (3840, 64, 0), (5760, 0, 0)]
    tempos = [(0, 1_000_000), (1920, 500_000), (9600, 250_000)]  # 4 s at 60, 8 s at 120, the rest at 240
    metres = [(0, 3, 4), (2880, 4, 4)]
    piece = tune(notes=64, pedals=pedals, tempos=tempos, metres=metres)
    write_midi(piece, path)
    facts = examine(path, InspectSettings(keep_grid=True)).facts
    assert facts.seconds == pytest.approx(4 + 8 + 5760 / 1920)
    assert facts.notes_per_second == pytest.approx(64 / 15, abs=0.01)
    assert (facts.lowest, facts.highest) == (piece.notes["pitch"].min(), piece.notes["pitch"].max())
    assert facts.bpm == 120
    assert facts.metre == "4/4"
    assert facts.pedal == pytest.approx((4 + 2) / 15, abs=1e-3)
    assert facts.velocities == len(np.unique(piece.notes["velocity"]))
    assert facts.bars == 2 + 7


def test_settings_that_cannot_work_are_refused_by_name():
    for settings, flag in [
        ({"min_seconds": -1}, "--min-seconds"),
        ({"max_notes_per_second": float("nan")}, "--max-notes-per-second"),
        ({"keep": ("nothing",)}, "--keep"),
        ({"keep": ("selection",)}, "--keep selection: choose from drums"),
        ({"only_part": "tuba"}, "--only-part"),
    ]:
        with pytest.raises(InputError, match=flag):
            InspectSettings(**settings)


# --- a folder --------------------------------------------------------------------------------------------------


def test_every_file_is_in_the_report_once_in_order(tmp_path):
    report = inspect(hostile(tmp_path))
    paths = [path.relative_to(tmp_path).as_posix() for path in midi_files(tmp_path)]
    assert [finding.path for finding in report.findings] == paths
    assert len(report.usable) == 2
    assert sum(report.counts().values()) == len(report.left_out) == 4
    assert set(report.counts()) <= set(REASONS)
    assert all(finding.detail for finding in report.left_out)
    assert all(len(finding.score.notes) for finding in report.usable)


def test_duplicates_transposed_copies_and_takes(tmp_path):
    piece, half = tune(1), tune(1, 120)
    late = piece.notes.copy()
    late["onset"] += 1920
    scores = {"a": piece, "b": piece.replace(notes=late), "c": piece.transpose(2).stretch(1.2), "d": half, "e": tune(2)}
    report = inspect(folder(tmp_path, **scores))
    expected = {"a.mid": "", "b.mid": "duplicate", "c.mid": "near-duplicate", "d.mid": "", "e.mid": ""}
    assert reasons(report) == expected
    details = {finding.path: finding.detail for finding in report.findings}
    assert "a.mid" in details["b.mid"]
    assert "2 semitones higher" in details["c.mid"]
    assert [finding.song for finding in report.usable] == ["a.mid", "a.mid", "e.mid"]
    kept = inspect(tmp_path, InspectSettings(keep=("duplicate", "near-duplicate")))
    assert len(kept.usable) == 5
    assert {finding.song for finding in kept.usable} == {"a.mid", "e.mid"}


def test_progress_counts_to_the_end(tmp_path):
    seen = []
    report = inspect(hostile(tmp_path), report=lambda now: seen.append(now.text))
    assert seen == [f"{number} of {len(report.findings)}" for number in range(1, len(report.findings) + 1)]


def test_many_processes_find_what_one_finds(tmp_path, monkeypatch):
    hostile(tmp_path)
    alone = inspect(tmp_path, chords="recognise")
    monkeypatch.setattr(inspecting, "POOL_FROM", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    together = inspect(tmp_path, chords="recognise")
    assert together.as_dict() == alone.as_dict()
    assert [finding.score for finding in together.findings] == [finding.score for finding in alone.findings]


def test_a_script_without_a_guard_is_not_run_again_by_its_processes(tmp_path):
    (tmp_path / "midi").mkdir()
    write_midi(tune(1), tmp_path / "midi" / "a.mid")
    script = tmp_path / "script.py"
    script.write_text(
        "import os, woodshed\n"
        "from woodshed.symbolic.data import inspect\n"
        "inspect.POOL_FROM, os.cpu_count = 1, lambda: 2\n"
        f"print(len(woodshed.inspect({str(tmp_path / 'midi')!r}).usable))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_a_folder_that_cannot_be_read_is_not_passed_over(tmp_path, monkeypatch):
    scan = os.scandir

    def locked(path):
        if os.path.basename(path) == "deep":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", locked)
    with pytest.raises(FileError, match="deep: cannot be read: Permission denied"):
        inspect(hostile(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such names")
def test_names_that_are_not_utf8_can_be_written(tmp_path):
    write_midi(tune(), tmp_path / os.fsdecode(b"caf\xe9 \x1b[31m.mid"))
    report = inspect(tmp_path)
    assert report.findings[0].path.encode("utf-8")
    json.dumps(report.as_dict(), ensure_ascii=False).encode("utf-8")
    assert "\x1b" not in printed(report, 80)


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_printed_report_fits_and_obeys_no_name(tmp_path, width):
    text = printed(inspect(hostile(tmp_path)), width)
    assert max(map(len, text.splitlines())) <= width
    assert "[bold]x[/bold]" in text
    for word in ("2 of 6 files", "programs", "unreadable", "piano (1), bass (34)", "Tokenizer:"):
        assert word in text


def printed(report, width) -> str:
    console = Console(width=width, highlight=False)
    with console.capture() as capture:
        console.print(render(report))
    return capture.get()


def test_json_holds_everything(tmp_path):
    report = inspect(hostile(tmp_path))
    data = json.loads(json.dumps(report.as_dict()))
    assert [finding["path"] for finding in data["findings"]] == [finding.path for finding in report.findings]
    assert data["usable"] == 2
    assert data["advice"] == advice(report)
    assert all(len(row["digest"]) == 64 for row in data["findings"] if row["reason"] != "unreadable")


def test_a_folder_without_midi_says_what_there_is(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"")
    (tmp_path / "b.wav").write_bytes(b"")
    with pytest.raises(EmptyCorpus, match=r"2 \.wav"):
        inspect(tmp_path)
    with pytest.raises(FileError, match="no such folder"):
        inspect(tmp_path / "nowhere")


def test_a_folder_of_which_nothing_is_usable_still_has_a_report(tmp_path):
    (tmp_path / "text.mid").write_text("hello")
    report = inspect(tmp_path)
    assert report.usable == []
    assert "0 of 1 file can be learned from" in printed(report, 80)


def test_advice_names_little_music_and_the_tokenizer(tmp_path):
    few = " ".join(advice(inspect(folder(tmp_path, a=tune(1), b=tune(2)), InspectSettings(keep_grid=True))))
    assert "little music" in few
    assert "remi" in few
    for seed in (3, 4):
        write_midi(tune(seed).freed(), tmp_path / f"free {seed}.mid")
    report = inspect(tmp_path, InspectSettings(keep_grid=True))
    assert "mixed" in suits(report)[1]


# --- real music ------------------------------------------------------------------------------------------------


def test_takes_of_pop909_are_known_as_their_songs(tmp_path):
    real(tmp_path, "pop909/00*/**/*.mid", 40)
    report = inspect(tmp_path, InspectSettings(keep=("duplicate", "near-duplicate")))
    numbers = [finding.path.split("/")[1] for finding in report.usable]
    assert len(numbers) > 25
    heads = {finding.song: number for finding, number in zip(report.usable, numbers, strict=True)}
    right = [heads[finding.song] == number for finding, number in zip(report.usable, numbers, strict=True)]
    assert all(right)
    assert len(heads) <= len(set(numbers)) + 1


@pytest.mark.parametrize(
    ("pattern", "tokenizer"),
    [("giantmidi/*.mid", "performance"), ("lieder/**/*.mid", "remi"), ("pop909/*/*.mid", "remi")],
)
def test_the_tokenizer_that_suits_real_music(tmp_path, pattern, tokenizer):
    report = inspect(real(tmp_path, pattern, 12))
    assert len(report.usable) >= 10
    assert suits(report)[0] == tokenizer


def test_real_drums_are_left_out_and_can_be_asked_for(tmp_path):
    real(tmp_path, "groove/*/*/*.mid", 6)
    assert set(inspect(tmp_path).counts()) == {"drums"}
    report = inspect(tmp_path, InspectSettings(only_part="drums", min_seconds=0, min_notes=1))
    assert len(report.usable) == 6
    assert "major" not in printed(report, 80)
