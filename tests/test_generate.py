"""Takes of a tiny run: they end where asked, hold the chords, repeat from their seed, and lose nothing."""

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import mido
import numpy as np
import pytest
from conftest import HANDS
from folders import tune

from woodshed.cli.generate import take_lines
from woodshed.errors import FileError, InputError, RunError
from woodshed.files import numbered_folder
from woodshed.symbolic.data.inspect import InspectSettings, examine
from woodshed.symbolic.data.take_files import read_stretch, read_written, takes_in
from woodshed.symbolic.music.chords import pitched
from woodshed.symbolic.music.extras import Extra
from woodshed.symbolic.music.keys import estimate_key
from woodshed.symbolic.music.midi import read_extras, read_midi, read_texts, read_whole, write_midi
from woodshed.symbolic.music.score import Score, Track
from woodshed.symbolic.playing import engines, perform
from woodshed.symbolic.playing.chart import parse_metre
from woodshed.symbolic.playing.generate import generate
from woodshed.symbolic.playing.settings import temperatures
from woodshed.symbolic.playing.step import HubStep
from woodshed.symbolic.playing.takes import Take, excerpt, save_takes
from woodshed.symbolic.run import open_run

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


@pytest.mark.parametrize("run", ["remi"], indirect=True)  # in performance time passes as the model has it
def test_filters_that_leave_one_id_play_what_is_likeliest(run):
    cold = generate(run, bars=2, takes=1, seed=5, temperature="0")[0].score
    for narrow in (dict(top_k=1), dict(top_p=1e-9), dict(min_p=1 - 1e-9)):
        assert generate(run, bars=2, takes=1, seed=5, temperature="1.0", **narrow)[0].score == cold


def test_a_take_is_a_function_of_its_seed_whatever_computes_the_logits(run, monkeypatch):
    asked, chosen = dict(chords=CHORDS, bars=2, takes=2, seed=5), []
    own = generate(run, device="cpu", **asked)
    monkeypatch.setattr(perform, "find_device", lambda name, *, apple: chosen.append((name, apple)) or "cpu")
    monkeypatch.setattr(engines, "make_step", HubStep)  # which a model on a GPU has
    other = generate(run, device="cuda", **asked)
    assert chosen == [("cuda", True)] and {take.engine for take in other} == {"HubStep"}
    assert [take.score for take in other] == [take.score for take in own]
    assert [take.settings["device"] for take in own + other] == ["cpu"] * 2 + ["cuda"] * 2


def test_by_itself_only_a_large_model_plays_on_a_gpu(run, monkeypatch):
    monkeypatch.setattr(perform, "find_device", lambda name, *, apple: "meta")
    model = open_run(run).model(merge=True)
    assert perform.placed(model, "auto").device.type == "cpu"
    monkeypatch.setattr(perform, "LARGE", model.num_parameters())
    assert perform.placed(model, "auto").device.type == "meta"


def test_a_model_in_training_stays_where_it_is(run):
    model = open_run(run).model(merge=True).to("meta")  # as if a GPU trained it
    assert perform.placed(model, "auto") is model and model.device.type == "meta"


def test_what_is_extended_begins_with_the_very_file(run, tmp_path):
    prompt = tune(1, notes=64, tracks=HANDS).replace(pedals=[(100, 127, 0), (900, 0, 0)])
    write_midi(prompt, tmp_path / "prompt.mid")
    take = generate(run, prompt=str(tmp_path / "prompt.mid"), bars=2, takes=1, seed=1)[0]
    begin = take.score.slice(0, prompt.end)
    assert begin.tracks[:2] == prompt.tracks
    assert begin.replace(chords=(), tracks=prompt.tracks) == prompt
    assert len(take.score.notes) == len(prompt.notes) + take.notes and take.notes
    assert take.score.end <= prompt.end + 2 * 1920


def test_a_take_keeps_all_that_its_prompt_says(run, tmp_path):
    volume, bend, late = Extra(0, 0, b"\xb0\x07\x09"), Extra(0, 90, b"\xe0\x00\x50"), Extra(0, 10**5, b"\xb0\x07\x00")
    write_midi(tune(1, notes=64, tracks=HANDS), tmp_path / "prompt.mid", extras=[volume, bend, late])
    cases = {"1-2": {volume, late}, "4-5": {volume, bend, late}, 2: {volume, bend}}
    for bars, kept in cases.items():
        take = generate(run, prompt=tmp_path / "prompt.mid", takes=1, seed=1, keep_grid=True, bars=bars)[0]
        take.write(tmp_path / f"take {bars}")
        found = read_extras(tmp_path / f"take {bars}.mid")
        assert {volume, bend, late} & {*found} == kept
        assert (volume._replace(tick=take.region[0]) in found) == (bars != "4-5")  # stated again after the end
    take = generate(run, prompt=tmp_path / "prompt.mid", melody="2", takes=1, seed=1)[0]
    assert take.extras == ()  # those were of the track that is not the melody


def test_only_what_was_written_is_looked_at(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prompt = tune(1, notes=64, tracks=HANDS)
    write_midi(prompt, "prompt.mid")
    take = generate(run, prompt="prompt.mid", bars=2, takes=1, seed=1)[0]
    take.write("take")
    begin = take.region[0]
    assert take.score.notes["onset"].max() >= begin > prompt.notes["onset"].max()
    assert len(take.stretch.notes) == len(read_stretch(tmp_path / "take.mid").notes) == take.notes
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")  # the prompt is found from everywhere, and not needed for its end
    for _ in range(2):
        own, start = read_written(tmp_path / "take.mid")
        assert start == begin and len(own.notes) == take.notes
        (tmp_path / "prompt.mid").unlink(missing_ok=True)


def test_new_notes_that_stand_where_old_ones_stood_are_looked_at(tmp_path):
    song = tune(1, notes=64, tracks=HANDS)
    write_midi(song, tmp_path / "song.mid")
    notes = song.notes.copy()
    new = (notes["onset"] >= 1920) & (notes["onset"] < 3840) & (notes["track"] == 0)
    notes["velocity"][new] += 1
    write_midi(song.replace(notes=notes), tmp_path / "take.mid")
    facts = {"region_quarters": [4, 8], "settings": {"prompt": str(tmp_path / "song.mid")}}
    (tmp_path / "take.json").write_text(json.dumps(facts))
    own, start = read_written(tmp_path / "take.mid")
    assert start == 1920 and own.notes.tolist() == notes[new].tolist()


def test_an_accompaniment_by_itself_is_no_take(run, tmp_path):
    take = generate(run, prompt=tune(1, notes=64), melody="auto", takes=1, seed=1)[0]
    take.write(tmp_path / "take-1")
    write_midi(tune(2), tmp_path / "take-2.mid")
    shutil.copy(tmp_path / "take-1-accompaniment.mid", tmp_path / "take-1-bass-accompaniment.mid")
    assert len(list(tmp_path.glob("*.mid"))) == 4
    assert [path.name for path in takes_in(tmp_path)] == ["take-1.mid", "take-2.mid"]


def test_strict_harmony_without_chords_is_told(run):
    assert "no chords were given" in generate(run, bars=1, takes=1, seed=1, harmony="strict")[0].remarks[0]
    assert not generate(run, bars=1, takes=1, seed=1, harmony="strict", chords="C")[0].remarks


def test_tracks_that_a_take_leaves_out_are_named(run):
    song = tune(1, notes=64, tracks=HANDS)
    song = song.merge(tune(2, notes=64).replace(tracks=(Track("Kit", 0, True),)))
    for bars, where in {2: "from bar 9 on", "2-3": "in bars 2-3"}.items():
        (remark,) = generate(run, prompt=song, bars=bars, takes=1, seed=1, keep_grid=True)[0].remarks
        names, told = remark.split(": ")
        assert ("Kit" in names) == (bars == 2) and told.startswith("nothing was written for") and told.endswith(where)


def test_tracks_that_rest_are_told_in_the_bars_that_seconds_lie_in(run):
    song = tune(1, notes=64, tracks=HANDS)
    asked = {"bars": "2-3"} if open_run(run).tokenizer.needs_bars else {"seconds": "3-6"}
    (remark,) = generate(run, prompt=song, takes=1, seed=1, keep_grid=True, **asked)[0].remarks
    assert remark.endswith("in bars 2-3")


def test_a_chart_that_is_cut_off_is_told(run):
    assert generate(run, bars=2, takes=1, seed=1, chords="C | F | G")[0].remarks == (
        "the chords last 3 bars; the first 2 are played",
    )
    assert not generate(run, bars=3, takes=1, seed=1, chords="C | F | G")[0].remarks


def test_a_region_is_written_and_the_rest_stays(run):
    song = tune(3, notes=96, tracks=HANDS)  # 12 bars
    regions = [((2 * a - 2, 2 * b), {"bars": f"{a}-{b}"}) for a, b in ((5, 6), (1, 1), (12, 12))]
    regions += [((8, 12), {"seconds": "8-12"}), ((4, 18), {"bars": "3-9", "parts": "melody"})]
    for (first, last), asked in regions:
        take = generate(run, prompt=song, takes=1, seed=2, **asked)[0]
        onset = song.seconds(song.notes["onset"])
        stays = (onset < first) | (onset >= last) | ((song.notes["track"] == 1) & ("parts" in asked))
        theirs = Counter(map(tuple, song.notes[stays].tolist()))
        ours = Counter(map(tuple, take.score.notes.tolist()))
        assert not theirs - ours and take.notes == sum((ours - theirs).values()) > 0
        new = np.array([note[:2] for note in (ours - theirs).elements()])
        assert (song.seconds(new[:, 0]) >= first).all() and (song.seconds(new.sum(axis=1)) <= last + 1e-9).all()
        assert generate(run, **take.settings | {"prompt": song})[0].score == take.score


def test_an_accompaniment_keeps_the_melody_and_has_a_file_of_its_own(run, tmp_path):
    song = tune(4, notes=64, tracks=HANDS)
    take = generate(run, prompt=song, melody="auto", takes=1, seed=1)[0]
    melody = song.notes[song.notes["track"] == 0]
    assert take.score.notes[take.score.notes["track"] == 0].tolist() == melody.tolist()
    assert [track.part for track in take.score.tracks] == ["melody", "accompaniment"]
    assert generate(run, prompt=song, melody="auto", takes=1, seed=1, chords=take.chart)[0].score == take.score
    paths = take.write(tmp_path / "take-1")
    assert [path.name for path in paths] == ["take-1.mid", "take-1-accompaniment.mid", "take-1.json"]
    alone = read_midi(paths[1])
    assert len(alone.notes) == take.notes and [track.part for track in alone.tracks] == ["accompaniment"]
    assert alone.chords.tolist() == take.score.chords.tolist()


def test_a_part_that_is_not_there_yet_is_written_to_the_others(run, tmp_path):
    """A melody to a chords track, all of it or some bars; everything else of the file stays."""
    chords = [(onset, 900, 48 + add, 60, 0) for onset in range(0, 1920 * 8, 960) for add in (0, 4, 7)]
    song = Score(chords, [(100, 127, 0), (900, 0, 0)], tracks=(Track("Chords", 4),)).merge(
        tune(2, notes=64).replace(tracks=(Track("Kit", 0, True),))
    )
    write_midi(song, tmp_path / "song.mid", extras=[Extra(0, 90, b"\xe0\x00\x50")])
    for asked, (first, last) in (({}, (0, 8)), ({"bars": "3-4"}, (2, 4))):
        take = generate(run, prompt=tmp_path / "song.mid", parts="melody", takes=1, seed=1, keep_grid=True, **asked)[0]
        take.write(tmp_path / f"take {first}")
        whole = read_midi(tmp_path / f"take {first}.mid")
        new = whole.notes[whole.notes["track"] == 2]
        assert whole.notes[whole.notes["track"] < 2].tolist() == song.notes.tolist()
        assert len(new) == take.notes > 0 and whole.tracks[2:] == (Track("melody", 0, False, "melody"),)
        assert [track[:3] for track in whole.tracks[:2]] == [track[:3] for track in song.tracks]
        assert new["onset"].min() >= first * 1920 and (new["onset"] + new["duration"]).max() <= last * 1920
        assert read_midi(tmp_path / f"take {first}-melody.mid").notes[["onset", "pitch"]].tolist() == (
            new[["onset", "pitch"]].tolist()
        )
        assert Extra(0, 90, b"\xe0\x00\x50") in read_extras(tmp_path / f"take {first}.mid")
    with pytest.raises(InputError, match=r"--parts bass: .*; this run plays melody \+ accompaniment$"):
        generate(run, prompt=tmp_path / "song.mid", parts="bass", takes=1, keep_grid=True)


def test_an_ending_closes_on_the_tonic(run):
    shares = []
    asked = {"bars": 4, "takes": 2, "seed": 1, "ending": True, "bpm": 100}
    for take in generate(run, **asked, report=lambda now: shares.append(now.share)):
        start = int(take.score.bars(take.score.ticks_per_quarter * 16)[3])
        assert take.score.end <= start + 4 * take.score.ticks_per_quarter
        assert (take.score.notes["onset"] >= start - 10).any()  # in steps of ten milliseconds
        assert take.score.notes["onset"].max() <= start + 2.2 * take.score.ticks_per_quarter
        onset, duration = take.score.notes["onset"], take.score.notes["duration"]
        assert duration[onset + duration == start].min(initial=480) >= 48
        tonic, mode, _ = estimate_key(take.score.slice(0, start))
        last = take.score.chords[-1].tolist()
        assert abs(last[0] - start) <= 10 and last[1:] == (tonic, 0 if mode == "major" else 1, tonic)
    assert shares == sorted(shares)
    asked = generate(run, chords=CHORDS, bars=4, takes=1, seed=1, ending=True)[0]
    assert asked.score.chords["root"].tolist()[-2:] == [2, 7]
    assert asked.score.notes["onset"].max() <= asked.score.chords["tick"][-1] + 0.2 * asked.score.ticks_per_quarter


def test_no_note_is_struck_a_moment_before_the_end(run):
    for take in generate(run, bars=2, takes=6, seed=1, chords="C G", temperature="1.6"):
        score, end = take.score, 8 * take.score.ticks_per_quarter
        notes = score.notes[~np.array([track.drums for track in score.tracks])[score.notes["track"]]]
        assert notes["duration"][notes["onset"].astype(int) + notes["duration"] >= end].min(initial=480) >= 48


def test_music_in_a_key_closes_on_its_tonic(run):
    take = generate(run, bars=4, takes=1, seed=1, ending=True, key="F# minor")[0]
    assert take.score.chords[-1].tolist()[1:] == (6, 1, 6) and take.settings["key"] == "F# minor"


def test_one_bar_closes_where_a_key_is_known(run):
    song = tune(1, notes=64, tracks=HANDS)
    tonic, mode, _ = estimate_key(song)
    cases = [({"key": "F# minor"}, (6, 1, 6)), ({"prompt": song}, (tonic, int(mode == "minor"), tonic))]
    for asked, chord in cases:
        score = generate(run, bars=1, takes=1, seed=1, ending=True, keep_grid=True, **asked)[0].score
        assert score.chords[-1].tolist()[1:] == chord


def test_a_run_that_has_learned_no_chords_closes_on_the_tonic_too(run, tmp_path):
    plain = shutil.copytree(run, tmp_path / "run")
    facts = json.loads((plain / "run.json").read_text())
    (plain / "run.json").write_text(json.dumps(facts | {"music": facts["music"] | {"chords": False}}))
    for take in (takes := generate(plain, bars=3, takes=3, seed=1, ending=True, key="F#m", guard=False)):
        onset, start = pitched(take.score)["onset"].astype(int), 8 * take.score.ticks_per_quarter
        last = onset >= start - 10  # in steps of ten milliseconds
        pitch, ends = pitched(take.score)["pitch"][last], (onset + pitched(take.score)["duration"])[last]
        assert {6} <= {*(pitch % 12)} <= {6, 9, 1} and pitch.min() % 12 == 6
        assert onset.max() <= 1.26 * start and ends.min() >= 1.46 * start  # REMI's lengths
    assert not all((start, 6, 1, 6) in take.score.chords.tolist() for take in takes)  # it has no word of it


def test_no_take_is_without_notes(run):
    """Where the model likes to write nothing, as one that has learned little does."""
    takes = generate(run, bars=1, takes=24, seed=2**63, temperature="0.5:2")
    assert min(take.notes for take in takes) > 0 and takes[0].seed == 2**63


def test_max_length_and_seconds_end_at_a_bar_line(run):
    for chords in (None, "C | G"):
        short = generate(run, max_length=120, takes=1, seed=1, chords=chords)[0].score
        assert len(short.notes) <= 120
        bar = 4 * short.ticks_per_quarter
        assert short.chords["tick"].max() < -(-short.end // bar) * bar  # no marker lies beyond the music
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
        with numbered_folder(tmp_path / "takes") as folder:
            assert folder.name == number
            assert [path.name for _, paths in save_takes(take, folder) for path in paths if path.suffix == ".mid"]


def test_a_full_disk_costs_the_sound_and_not_the_music(run, tmp_path, monkeypatch):
    def full(path, data, **how):
        raise FileError(path, "cannot be written: No space left on device")

    monkeypatch.setattr("woodshed.symbolic.music.sound.write_file", full)
    takes = generate(run, bars=1, takes=2, seed=1)
    with pytest.raises(FileError, match=r"take-1.wav: .*; kept: the music \(.mid\) of 2 of 2 takes"):
        list(save_takes(takes, tmp_path))
    assert [read_midi(tmp_path / f"{take.stem(n)}.mid") for n, take in enumerate(takes, 1)] == [t.score for t in takes]


def test_progress_goes_from_nothing_to_all(run):
    shares = []
    generate(run, bars=4, takes=2, seed=1, report=lambda now: shares.append(now.share))
    assert shares == sorted(shares) and 0 <= shares[0] < shares[-1] <= 1


def test_a_silent_take_that_is_drawn_again_still_reports(run, monkeypatch):
    """So that it can be stopped."""
    shares, begun, decode = [], [], perform.decode
    monkeypatch.setattr(perform, "_music", lambda run, stage, stream: Score(tempos=[(0, 500_000)]))
    monkeypatch.setattr(perform, "decode", lambda *args, **more: begun.append(len(shares)) or decode(*args, **more))

    def stop(now):
        shares.append(now.share)
        if len(begun) > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(run, bars=4, takes=1, seed=1, report=stop)
    assert shares == sorted(shares) and len(begun) == 2


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
        (dict(key="Am7"), "--key 'Am7': write a major or minor key such as D, F#m or Bb minor"),
        (dict(max_length=100, ending=True), "--max-length 100 with --ending: where it ends is not known; give --bars"),
        (dict(metre=""), "--metre ''"),
        (dict(metre="²/4"), "--metre '²/4'"),
        (dict(chords=""), "progression is empty"),
        (dict(chords="C " * 2001), "--chords: 2,001 bars; give at most 2,000"),
        (dict(chords="C", seconds=3600, bpm=300), "--seconds 3600: 4,500 bars; give at most 2,000"),
        (dict(device="meta"), "--device meta: choose from auto"),
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


def test_strict_harmony_holds_strong_beats_and_the_bass_and_guided_lies_between(run):
    asked = {"chords": "C7b9 Fmaj7/A | Bb G7", "bars": 4, "takes": 12, "seed": 2, "temperature": "1.0"}
    strong, bass = {}, {}
    for harmony in ("free", "guided", "strict"):
        measures = [take.measures for take in generate(run, harmony=harmony, **asked)]
        strong[harmony] = np.nanmean([found["strong_beat_adherence"] for found in measures])
        bass[harmony] = np.nanmean([found["bass_adherence"] for found in measures])
    assert strong["free"] < strong["guided"] < strong["strict"] and strong["strict"] >= 0.99
    assert bass["free"] < bass["strict"] and bass["strict"] >= 0.95


def test_adherence_is_told_for_every_bar_that_was_written(run, tmp_path):
    first = generate(run, chords=CHORDS, bars=2, takes=1, seed=4)[0]
    told = first.adherence_per_bar
    assert len(told) == 2 and all(value is None or 0 <= value <= 1 for value in told)
    more = generate(run, prompt=first.score, chords=CHORDS, bars=3, takes=1, seed=4)[0]
    assert len(more.adherence_per_bar) == 3
    more.write(tmp_path / "more")
    facts = json.loads((tmp_path / "more.json").read_text(encoding="utf-8"))
    assert facts["adherence_per_bar"] == list(more.adherence_per_bar) and facts["guarded"] == []


def test_the_guard_says_what_it_did_unless_it_is_off(run):
    """A model that is always sure of itself goes round in circles."""
    stuck = {"bars": 24, "takes": 1, "seed": 1, "temperature": "0", "harmony": "free"}
    alone, guarded = (generate(run, guard=guard, **stuck)[0] for guard in (False, True))
    assert alone.guarded == () and guarded.guarded
    assert {"noticed", "bar", "back_to", "warmer"} <= guarded.guarded[0].keys()
    assert guarded.score != alone.score


def test_takes_keep_to_what_the_corpus_plays(run):
    opened = open_run(run)
    known = {"pitches": [60, 62], "together": 2, "ensembles": [["melody", "bass"]]}
    opened.facts["music"] = opened.facts["music"] | known
    asked = {"takes": 4, "seed": 3} | ({"bars": 4} if opened.tokenizer.needs_bars else {"seconds": 8})
    for take in generate(opened, **asked):
        notes = pitched(take.score)  # drums have no range, and do not count
        pitches, struck = notes["pitch"], Counter(notes["onset"].tolist())
        assert 60 - 6 <= pitches.min() <= pitches.max() <= 62 + 6 and max(struck.values()) <= 2
        parts = {track.part for track in take.score.tracks}
        assert parts <= {"melody", "bass"} or not parts & {"melody", "bass"}
    wild = generate(opened, guard=False, **asked)
    assert min(pitched(take.score)["pitch"].min() for take in wild) < 54


def test_parts_are_written_alone_or_with_others_that_are_dropped(run):
    opened = open_run(run)
    opened.facts["music"] = opened.facts["music"] | {"ensembles": [["melody", "bass"], ["melody"]]}
    asked = {"takes": 2, "seed": 3, "chords": "C F", "harmony": "strict", "originality": False} | (
        {"bars": 4} if opened.tokenizer.needs_bars else {"seconds": 8}
    )
    both, bass = (generate(opened, parts=parts, **asked) for parts in (("bass", "melody"), "bass"))
    for whole, alone in zip(both, bass, strict=True):
        written = {track.part for track in whole.score.tracks}
        assert "bass" in written <= {"melody", "bass"} and {track.part for track in alone.score.tracks} == {"bass"}
        assert np.array_equal(alone.score.notes["pitch"], whole.score.only("bass").notes["pitch"])
        assert generate(opened, **alone.settings)[0].score == alone.score
    assert {track.part for take in generate(opened, parts="melody", **asked) for track in take.score.tracks} == {
        "melody"
    }


def test_takes_are_told_from_the_learned_pieces_and_the_best_are_kept(run, tmp_path, monkeypatch):
    """The corpus is found where the run says it is; the critic is made, and kept in the run."""
    shutil.copytree(run.parent, tmp_path / "home")
    run = tmp_path / "home" / "run"
    for name in ("FEWEST", "TAKES"):
        monkeypatch.setattr(f"woodshed.symbolic.playing.critic.{name}", 99 if name == "FEWEST" else 2)
    asked = {"takes": 3, "seed": 1} | ({"bars": 4} if open_run(run).tokenizer.needs_bars else {"seconds": 8})
    played = generate(run, **asked)
    assert all(take.originality is not None and take.originality.weight >= 0 for take in played)
    assert generate(run, originality=False, **asked | {"takes": 1})[0].originality is None
    shares = []
    kept = generate(run, best=2, report=lambda now: shares.append(now.share), **asked)
    assert len(kept) == 2 and {take.seed for take in kept} < {take.seed for take in played}
    assert shares == sorted(shares) and shares[-1] == 1
    scores = [float(take.ranked.split()[0]) for take in kept]
    assert all(0 <= score <= 1 for score in scores) and not any(take.ranked for take in played)
    assert [line for take in kept for line in take_lines(take, Path("take.mid")) if take.ranked in line]
    assert (run / "critic").is_dir()
    again = generate(run, **kept[0].settings)
    assert len(again) == 1 and again[0].score == kept[0].score
    with pytest.raises(InputError, match=r"--best 4: give 1 to 3"):
        generate(run, best=4, **asked)
    assert not any("critic" in remark for remark in kept[0].remarks)
    shutil.rmtree(run / "critic")
    monkeypatch.setattr("woodshed.symbolic.playing.rank.find_corpus", lambda folder, facts: None)
    kept = generate(run, best=1, **asked)
    assert kept[0].ranked and not (run / "critic").exists()
    assert any("no corpus" in remark and "woodshed rank RUN FOLDER --corpus" in remark for remark in kept[0].remarks)


def test_a_take_is_told_in_one_line_of_figures_and_one_of_bars():
    measures = {"chord_adherence": 0.951, "rotated_adherence": 0.5, "bass_adherence": 0.75, "chord_changes": 8.0}
    take = Take(Score(), 9, 1, 0.8, {}, measures=measures | {"recurrence": 0.7})
    assert take_lines(take, "a.mid") == [
        "a.mid: 9 notes, 0.0 s, T 0.8, 0.95 in chord (0.50 by chance), bass right at 6 of 8 changes, bars return 0.70"
    ]
    alone = replace(take, settings={"parts": ("melody",)}, measures=dict.fromkeys(take.measures, np.nan))
    assert take_lines(alone, "a.mid") == ["a.mid: 9 notes, 0.0 s, T 0.8"]  # a melody has no bass

    def bars(*adherence):
        return take_lines(replace(take, adherence_per_bar=adherence), "a.mid")[1].strip()

    assert bars(0.912, None, 0.3) == "in chord, bar by bar: 0.91   -  0.30"
    assert bars(*[0.9] * 70, None) == "in chord, at least 0.6 in each of 71 bars"
    assert bars(*[0.9] * 20, 0.5, 0.1) == "in chord, less than 0.6 in 2 of 22 bars: bar 21 0.50, bar 22 0.10"
    many = bars(*[0.5] * 20, 0.1)
    assert many.count(" 0.50") == 15 and many.endswith("bar 21 0.10, and 5 more")


def test_takes_say_what_they_were_not_compared_with(run):
    assert not any("examined" in remark for remark in generate(run, bars=1, takes=1, seed=1)[0].remarks)
    opened = open_run(run)
    opened.facts["base"] = "../mine"
    take = generate(opened, bars=1, takes=1, seed=1)[0]
    assert take.remarks == (take.originality.unexamined,) and "that the base mine has learned" in take.remarks[0]
    assert take.facts()["originality"]["unexamined_base"] == "mine"
    opened.facts["corpus"] = "another"
    told = "originality was not examined: the pieces that run has learned are not here, or have no pitches"
    assert generate(opened, bars=1, takes=1, seed=1)[0].remarks == (told,)
    assert generate(opened, bars=1, takes=1, seed=1, originality=False)[0].remarks == ()


def test_chords_of_takes_in_a_file_that_states_none_say_nothing_of_its_other_bars(run, tmp_path):
    song, path = tune(1, notes=64, tracks=HANDS), tmp_path / "song.mid"
    write_midi(song, path)
    asked = dict(takes=1, seed=1, keep_grid=True)
    for number, (bars, chords) in enumerate({"2-2": "Dm", "4-4": None}.items()):
        take = generate(run, prompt=path, bars=bars, chords=chords, **asked)[0]
        path = tmp_path / f"take {number}.mid"
        take.write(path.with_suffix(""))
        assert read_midi(path).chords.tolist() == take.score.chords.tolist() and not len(read_whole(path).chords)
    known = [(tick, root) for tick, root, *_ in take.score.chords.tolist() if not 5760 <= tick < 7680]
    assert known[:3] == [(1920, 2), (3840, -1), (7680, -1)] and len(take.score.chords) > 3
    assert examine(path, InspectSettings(keep=("short",))).facts.chords == 0


def test_what_is_filled_in_is_judged_by_the_chords_that_it_was_written_over(run, songs):
    """Bars written anew have chords of their own: adherence bar by bar is to the same chords as in all."""
    if not open_run(run).tokenizer.needs_bars:
        pytest.skip("counts bars")
    take = generate(run, prompt=songs / "song 1.mid", bars="2-5", takes=1, seed=1, keep_grid=True)[0]
    told = [value for value in take.adherence_per_bar if value is not None]
    assert len(take.adherence_per_bar) == 4 and told
    assert min(told) <= take.measures["chord_adherence"] <= max(told)


def test_a_file_ends_where_what_was_asked_ends(run, tmp_path):
    """Also where its last bars are silent, so that it loops in a DAW."""
    take = generate(run, chords=CHORDS, bars=6, takes=1, seed=1, bpm=120, metre="4/4")[0]
    quiet = replace(take, score=take.score.slice(0, take.score.ticks_per_quarter * 8).replace(chords=()))
    quiet.write(tmp_path / "take-1")
    file = mido.MidiFile(tmp_path / "take-1.mid")
    assert {sum(message.time for message in track) / file.ticks_per_beat for track in file.tracks} == {24}


def test_a_mid_names_no_folders_and_a_json_does(run, tmp_path):
    write_midi(tune(2), tmp_path / "song.mid")
    take = generate(run, prompt=str(tmp_path / "song.mid"), bars=1, takes=1, seed=1)[0]
    mid, told = take.write(tmp_path / "take-1")
    assert str(tmp_path) not in " ".join(read_texts(mid)) and "song.mid" in " ".join(read_texts(mid))
    assert json.loads(told.read_text())["settings"]["prompt"] == str(tmp_path / "song.mid")


def test_what_is_new_is_marked_and_sounds_with_what_is_around_it(run, tmp_path):
    write_midi(tune(1, notes=256, tracks=HANDS), tmp_path / "song.mid")  # 32 bars, 64 s
    path, asked = tmp_path / "song.mid", dict(takes=1, seed=1, keep_grid=True)
    lasting = {}
    for bars, marked in {
        "11-12": [(10, "new"), (12, "end")],
        "1-2": [(0, "new"), (2, "end")],
        2: [(32, "new")],
    }.items():
        take = generate(run, prompt=path, bars=bars, **asked)[0]
        path = take.write(tmp_path / f"take {bars}")[0]
        assert [(tick / 1920, text[10:]) for tick, text in markers(path) if text.startswith("woodshed: ")] == marked
        heard = excerpt(take.score, take.region)
        lasting[bars] = float(heard.seconds(heard.end))
    assert lasting == pytest.approx({"11-12": 20, "1-2": 12, 2: 12}, abs=1)  # 8 s before and after 4 s
    assert read_midi(path).notes.tolist() == take.score.notes.tolist()
    assert len(read_stretch(path).notes) == take.notes
    whole = generate(run, bars=2, takes=1, seed=1)[0]
    assert excerpt(whole.score, whole.region) is whole.score


def markers(path):
    tracks = [list(track) for track in mido.MidiFile(path).tracks]
    ticks = np.cumsum([message.time for message in tracks[0]]).tolist()
    return [(tick, m.text) for tick, m in zip(ticks, tracks[0], strict=True) if m.type == "marker"]


def test_takes_too_long_to_sound_are_saved_without(run, tmp_path, monkeypatch):
    monkeypatch.setattr("woodshed.symbolic.music.sound.MAX_MINUTES", 0.01)
    take = generate(run, bars=1, takes=1, seed=1, bpm=60)[0]
    assert any("have no .wav" in remark for remark in take.remarks)
    assert [path.suffix for path in take.save(tmp_path / "take-1")] == [".mid", ".json", ".png"]
