"""Takes of a tiny run: they end where asked, hold the chords, repeat from their seed, and lose nothing."""

import json

import mido
import numpy as np
import pytest
from folders import tune

from woodshed.errors import FileError, InputError, RunError
from woodshed.symbolic.generate import free_folder, generate, parse_metre, save_takes, temperatures
from woodshed.symbolic.midi import read_midi, read_texts, write_midi

CHORDS = "Cmaj7 Am7 | Dm7 G7"


def test_takes_end_at_their_bar_and_hold_the_chords(run):
    for take in generate(run, chords=CHORDS, bars=3, takes=2, seed=1, bpm=100, metre="3/4"):
        score = take.score
        bar = 3 * score.ticks_per_quarter
        assert len(score.notes) and score.end <= 3 * bar
        assert score.metres.tolist() == [(0, 3, 4)] and score.tempos.tolist() == [(0, 600_000)]
        assert score.chords["tick"].tolist() == [0, bar // 2, bar, 3 * bar // 2, 2 * bar, 5 * bar // 2]
        assert score.chords["root"].tolist() == [0, 9, 2, 7, 0, 9]


def test_the_same_seed_plays_the_same_alone_or_among_others(run):
    three = generate(run, chords=CHORDS, bars=2, takes=3, seed=5, temperature="1.0")
    again = generate(run, chords=CHORDS, bars=2, takes=1, seed=7, temperature="1.0")
    assert three[2].score == again[0].score
    assert three[0].score != three[1].score


def test_a_prompt_is_kept_and_gone_on_from(run, tmp_path):
    prompt = tune(1, notes=64)
    write_midi(prompt, tmp_path / "prompt.mid")
    take = generate(run, prompt=str(tmp_path / "prompt.mid"), bars=2, takes=1, seed=1)[0]
    onsets = take.score.seconds(take.score.notes["onset"])
    kept = np.sort(prompt.seconds(prompt.notes["onset"]))
    assert len(take.score.notes) > len(prompt.notes)
    assert np.allclose(np.sort(onsets)[: len(kept)] - onsets.min(), kept - kept.min(), atol=0.011)


def test_max_length_and_seconds_end_at_a_bar_line(run):
    short = generate(run, max_length=120, takes=1, seed=1)[0].score
    assert len(short.notes) <= 120
    timed = generate(run, seconds=5, bpm=120, takes=1, seed=1)[0].score
    assert timed.seconds(timed.end) <= 6.0


def test_a_take_writes_what_makes_it_again(run, tmp_path):
    take = generate(run, chords=CHORDS, bars=2, takes=1, seed=3)[0]
    paths = {path.suffix: path for path in take.save(tmp_path / "take")}
    assert set(paths) == {".mid", ".json", ".wav", ".png"}
    facts = json.loads(paths[".json"].read_text())
    assert facts["seed"] == 3 and facts["settings"]["chords"] == CHORDS and facts["engine"]
    assert any("seed: 3" in text for text in read_texts(paths[".mid"]))
    assert read_midi(paths[".mid"]) == take.score
    markers = [m.text for track in mido.MidiFile(paths[".mid"]).tracks for m in track if m.type == "marker"]
    assert markers == ["Cmaj7", "Am7", "Dm7", "G7"]
    again = generate(run, **facts["settings"] | {"takes": 1, "seed": facts["seed"]})[0]
    assert again.score == take.score
    with pytest.raises(FileError, match="exists already"):
        take.save(tmp_path / "take")


def test_outputs_go_to_the_next_free_number(run, tmp_path):
    take = generate(run, bars=1, takes=1, seed=1)
    for number in ("001", "002"):
        folder = free_folder(tmp_path / "takes")
        assert folder.name == number
        assert [path.name for _, paths in save_takes(take, folder) for path in paths if path.suffix == ".mid"]


def test_a_full_disk_costs_the_sound_and_not_the_music(run, tmp_path, monkeypatch):
    def full(path, data):
        raise FileError(path, "cannot be written: No space left on device")

    monkeypatch.setattr("woodshed.symbolic.sound.write_file", full)
    takes = generate(run, bars=1, takes=2, seed=1)
    with pytest.raises(FileError, match=r"take-1.wav: .*; kept: the music \(.mid\) of 2 of 2 takes"):
        list(save_takes(takes, tmp_path))
    assert [read_midi(tmp_path / f"take-{number}.mid") for number in (1, 2)] == [take.score for take in takes]


def test_progress_goes_from_nothing_to_all(run):
    shares = []
    generate(run, bars=4, takes=2, seed=1, progress=shares.append)
    assert shares == sorted(shares) and 0 <= shares[0] < shares[-1] <= 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(chords="Cmaj7 | Hm7"), "bar 2.*Hm7"),
        (dict(bars=0), "--bars 0"),
        (dict(bars=2, seconds=3), "one of them"),
        (dict(metre="4/5"), "--metre '4/5'"),
        (dict(bpm=5000), "--bpm 5000"),
        (dict(takes=0), "--takes 0"),
        (dict(temperature="hot"), "--temperature 'hot'"),
        (dict(temperature="inf"), "--temperature 'inf'"),
        (dict(max_length=0), "--max-length 0"),
        (dict(metre=""), "--metre ''"),
        (dict(chords=""), "progression is empty"),
        (dict(tempo=3), "no setting 'tempo'"),
        (dict(seconds=-1), "--seconds"),
        (dict(prompt="nowhere.mid"), "nowhere.mid"),
    ],
)
def test_what_cannot_be_played_is_refused_by_name(run, wrong, message):
    with pytest.raises((InputError, FileError), match=message):
        generate(run, **wrong)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="not a run"):
        generate(tmp_path, bars=1)


def test_temperatures_and_metres():
    assert temperatures("0.8:1.2", 5) == [0.8, 0.9, 1.0, 1.1, 1.2]
    assert temperatures("1", 2) == [1.0, 1.0]
    assert parse_metre("6/8") == (6, 8)
