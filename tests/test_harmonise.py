"""Chords for a melody: what a musician expects of well-known tunes, laws, naive references, hostile input."""

import csv
import importlib.util
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import DATA, scores

from woodshed.errors import InputError
from woodshed.symbolic.music.chords import QUALITY_NAMES, merged, pitch_classes, pitched, recognise, spell
from woodshed.symbolic.music.grid import estimate_grid
from woodshed.symbolic.music.harmonise import QUALITIES, harmonise, hear
from woodshed.symbolic.music.melody import make_slots
from woodshed.symbolic.music.midi import read_midi, write_midi
from woodshed.symbolic.music.score import CHORD, Score, Track

MELODY = (Track("Melody", 0, False, "melody"),)
BENCHMARKS = Path(__file__).parents[1] / "benchmarks"

# Public domain, from memory: note:quarters, ' and , for octaves, - for a rest.
TUNES = {
    "Twinkle, twinkle, little star": (
        (4, 4),
        "C C G G|A A G:2|F F E E|D D C:2|G G F F|E E D:2|G G F F|E E D:2|C C G G|A A G:2|F F E E|D D C:2",
    ),
    "Amazing grace": (
        (3, 4),
        "D|G:2 B:.5 G:.5|B:2 A|G:2 E|D:2 D|G:2 B:.5 G:.5|B:2 A|D':3|D':2 B|D':2 B:.5 D':.5|B:2 A|G:2 E|D:2 D|"
        "G:2 B:.5 G:.5|B:2 A|G:3|G:2",
    ),
    "Silent night": (
        (6, 8),
        "G:.75 A:.25 G:.5 E:1.5|G:.75 A:.25 G:.5 E:1.5|D' D':.5 B:1.5|C' C':.5 G:1.5|A A:.5 C':.75 B:.25 A:.5|"
        "G:.75 A:.25 G:.5 E:1.5|A A:.5 C':.75 B:.25 A:.5|G:.75 A:.25 G:.5 E:1.5|D' D':.5 F':.75 D':.25 B:.5|"
        "C':1.5 E':1.5|C':.75 G:.25 E:.5 G:.75 F:.25 D:.5|C:3",
    ),
    "The blue Danube": (
        (3, 4),
        "D|D F# A|A:2 A'|A' - F#'|F#' - D|D F# A|A:2 A'|A' - G'|G' - C#|C# E B|B:2 B'|B' - G'|G' - C#|C# E B|B:2 B'|"
        "B' - F#'|F#' - D|D F# A|D':2 D''|D'' - A'|A' - D|D F# A|D':2 D''|D'' - B'|B' - E|E G B|B:2 G#|A:2 F#'|"
        "D':2 F#|F#:2 E|B:2 A|D:2 D|D:2",
    ),
    "Greensleeves": (
        (6, 8),
        "-:2.5 A:.5|C' D':.5 E':.75 F#':.25 E':.5|D' B:.5 G:.75 A:.25 B:.5|C' A:.5 A:.75 G#:.25 A:.5|B G#:.5 E A:.5|"
        "C' D':.5 E':.75 F#':.25 E':.5|D' B:.5 G:.75 A:.25 B:.5|C':.75 B:.25 A:.5 G#:.75 F#:.25 G#:.5|A:1.5 A:1.5",
    ),
}
HOME = {
    "Twinkle, twinkle, little star": (0, "major", "C"),
    "Amazing grace": (7, "major", "G"),
    "Silent night": (0, "major", "C"),
    "The blue Danube": (2, "major", "D"),
    "Greensleeves": (9, "minor", "Am"),
}


def written(text: str, metre: tuple[int, int]) -> Score:
    rows, tick = [], 0
    for word in text.replace("|", " ").split():
        name, _, quarters = word.partition(":")
        length = round(480 * float(quarters or 1))
        if name != "-":
            pitch = 60 + dict(C=0, D=2, E=4, F=5, G=7, A=9, B=11)[name[0]] + name.count("#") + 12 * name.count("'")
            rows.append((tick, length, pitch, 80, 0))
        tick += length
    return Score(rows, metres=[(0, *metre)], tracks=MELODY)


def tune(name: str) -> Score:
    return written(TUNES[name][1], TUNES[name][0])


def wandering(bars: int, seed: int = 0, scale=(0, 2, 4, 5, 7, 9, 11), **changes) -> Score:
    """A melody of six notes a bar."""
    rng = np.random.default_rng(seed)
    onsets = np.sort(rng.choice(bars * 16, min(bars * 6, bars * 16), replace=False)) * 120
    return Score([(int(at), 120, 60 + int(rng.choice(scale)), 80, 0) for at in onsets], tracks=MELODY, **changes)


def names(chords: np.ndarray) -> list[str]:
    return [spell(*row) for _, *row in chords.tolist()]


def keys(score: Score) -> list[tuple[int, int, str]]:
    """The keys that are heard in a melody: where each begins (tick), its tonic, major or minor."""
    slots, _, heard, shift = hear(score)
    first = np.flatnonzero(np.diff(heard, prepend=-1))
    return [(int(slots.edges[n]) - shift, int(heard[n]) % 12, ("major", "minor")[heard[n] // 12]) for n in first]


def load(path: Path):
    """A script outside of the package, as a module."""
    spec = importlib.util.spec_from_file_location(f"script_{path.parent.name}_{path.stem}", path)
    script = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec.loader.exec_module(script)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return script


# --- music ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TUNES)
def test_a_musician_would_accept_the_chords_of_well_known_tunes(name):
    score, (tonic, mode, home) = tune(name), HOME[name]
    chords = harmonise(score)
    assert [key[1:] for key in keys(score)] == [(tonic, mode)]
    sounding = [chord for chord in names(chords) if chord != "N.C."]
    assert sounding[-1] == home
    assert sounding[0] in (home, "C")  # Greensleeves may begin on the relative major
    dominant = spell((tonic + 7) % 12, 0, (tonic + 7) % 12)
    assert {dominant, dominant + "7"} & set(sounding)
    line = score.notes
    at = chords[np.searchsorted(chords["tick"], line["onset"], side="right") - 1]
    inside = pitch_classes(at["root"], at["quality"], at["bass"])[np.arange(len(line)), line["pitch"] % 12]
    assert inside[(line["duration"] > 480) & (at["root"] >= 0)].mean() > 0.85


def test_the_chords_of_silent_night_are_those_of_the_hymn_book():
    chords = harmonise(tune("Silent night"))
    assert names(chords) == ["C", "G7", "C", "F", "C", "F", "C", "G7", "C", "G7", "C"]
    assert (chords["tick"] // 1440).tolist() == [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]


def test_a_change_of_key_is_followed():
    there = tune("Silent night")
    rows = there.transpose(2).notes.copy()
    rows["onset"] += int(there.bars()[-1])
    both = there.replace(notes=np.concatenate([there.notes, rows]))
    found = keys(both)
    assert [key[1:] for key in found] == [(0, "major"), (2, "major")]
    assert abs(found[1][0] - there.bars()[-1]) <= 1440
    assert names(harmonise(both))[-1] == "D"


def test_a_pickup_has_no_chord_and_needs_no_rest_before_it():
    short = tune("Amazing grace")  # its file begins with the incomplete bar
    rows = short.notes.copy()
    rows["onset"] += 960
    whole = short.replace(notes=rows)
    one, other = harmonise(short), harmonise(whole)
    assert one["tick"].tolist()[:2] == [0, 480] and one["root"][0] == -1
    assert names(one) == names(other)
    assert (other["tick"][1:] - one["tick"][1:] == 960).all()


def test_the_melody_is_found_in_a_larger_score_and_the_rest_not_heard():
    melody = tune("Silent night")
    chords = [(tick, 1400, pitch, 60, 0) for tick in range(0, 17280, 1440) for pitch in (42, 46, 49)]
    kit = [(tick, 100, 36, 90, 0) for tick in range(0, 17280, 480)]
    piano = Score(chords, tracks=(Track("Piano", 0, False, "accompaniment"),))
    drums = Score(kit, tracks=(Track("Kit", 0, True, "drums"),))
    assert np.array_equal(harmonise(melody.merge(piano, drums), keep_grid=True), harmonise(melody, keep_grid=True))


@pytest.mark.skipif(not DATA.exists(), reason="the shared data is not here")
def test_real_lead_sheets_are_met_better_than_by_the_melody_alone():
    with open(DATA / "manifest.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["set"] == "openewld" and row["split"] == "test"]
    agreed = {harmonise: [], recognise: []}
    for row in rows[:15]:
        score = read_midi(DATA / row["file"])
        beats = score.beats()[:-1] + 1
        truth = score.chords["root"][np.maximum(np.searchsorted(score.chords["tick"], beats) - 1, 0)]
        for system, found in agreed.items():
            chords = system(score)
            ours = chords["root"][np.maximum(np.searchsorted(chords["tick"], beats) - 1, 0)]
            found.append((ours == truth).mean())
    assert np.mean(agreed[harmonise]) > np.mean(agreed[recognise]) + 0.1
    assert np.mean(agreed[harmonise]) > 0.4


@pytest.mark.skipif(not DATA.exists(), reason="the shared data is not here")
def test_wrong_bars_of_a_file_are_put_right_and_the_ticks_stay_the_files():
    played = read_midi(DATA / "pop909" / "001" / "001.mid")
    assert estimate_grid(played).action == "re-barred"
    chords = harmonise(played)
    assert chords["tick"][0] >= 0 and chords["tick"][-1] < played.end
    gaps = np.diff(chords["tick"][2:]) / played.ticks_per_quarter
    assert np.isin(gaps % 2, (0,)).mean() > 0.8  # in two beats and bars, wherever the first began


# --- laws -----------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(scores(free=False))
def test_any_score_gets_chords_in_order_or_one_line(score):
    if not len(pitched(score)):
        with pytest.raises(InputError, match="no melody"):
            harmonise(score, keep_grid=True)
        return
    chords = harmonise(score, keep_grid=True)
    assert chords.dtype == CHORD and chords["tick"][0] == 0 and (np.diff(chords["tick"]) > 0).all()
    assert len(merged(chords)) == len(chords)
    assert (chords["root"][1:] >= 0).all() and (chords["bass"] == chords["root"]).all()
    assert {QUALITY_NAMES[quality] for quality in chords["quality"]} <= set(QUALITIES)
    assert Score(score.notes, chords=chords, tracks=score.tracks).chords.tolist() == chords.tolist()


@pytest.mark.parametrize("name", TUNES)
def test_all_keys_are_alike(name):
    score = tune(name)
    for semitones in (-5, 1, 6):
        moved = score.replace(chords=harmonise(score)).transpose(semitones)
        assert np.array_equal(harmonise(moved), moved.chords)


def test_ticks_and_tempo_make_no_difference_and_neither_does_a_file(tmp_path):
    score = tune("Greensleeves")
    chords = harmonise(score)
    finer = harmonise(score.retime(960).stretch(1.5))
    assert names(finer) == names(chords) and (finer["tick"] == 2 * chords["tick"]).all()
    write_midi(score.replace(chords=chords), tmp_path / "tune.mid")
    again = read_midi(tmp_path / "tune.mid")
    assert np.array_equal(again.chords, chords) and np.array_equal(harmonise(again), chords)


def test_bars_without_melody_keep_chords_within_and_none_before():
    score = tune("Silent night")
    rows = score.notes.copy()
    rows["onset"][len(rows) // 2 :] += 4 * 1440  # four empty bars in the middle
    rows["onset"] += 2 * 1440  # two before
    chords = harmonise(score.replace(notes=rows))
    assert chords[0].tolist() == (0, -1, 0, -1) and chords["tick"][1] == 2 * 1440
    assert names(chords)[-1] == "C"


@pytest.mark.parametrize("metre", [(2, 2), (3, 4), (6, 8), (12, 8), (5, 4), (7, 8), (3, 2), (1, 4), (3, 8)])
def test_every_metre_has_slots_that_fill_its_bars(metre):
    score = wandering(8, metres=[(0, *metre)])
    slots = make_slots(score)
    assert np.isin(score.bars(), slots.edges).all() and (np.diff(slots.edges) > 0).all()
    assert harmonise(score, keep_grid=True)["tick"][0] == 0
    bar, slot = int(score.bars()[1]), int(slots.edges[1])
    late = make_slots(score, slot)
    assert late.edges[0] == 0 and ((late.edges[late.starts][1:] - slot) % bar == 0).all()
    assert slot == bar or late.place[0] == slots.place[bar // slot - 1]


def test_one_bar_and_five_hundred():
    assert len(harmonise(wandering(1))) >= 1
    assert names(harmonise(Score([(0, 480, 60, 80, 0)]))) == ["C"]
    long = wandering(500)
    began = time.process_time()
    chords = harmonise(long, keep_grid=True)
    assert time.process_time() - began < 3
    assert len(chords) > 100


def test_free_time_is_heard_in_bars_of_two_seconds():
    song = wandering(8)  # whose bars last as long
    chords, free = harmonise(song, keep_grid=True), harmonise(song.freed())
    assert free["tick"].tolist() == (chords["tick"] * 500 // 480).tolist() and len(free) > 3
    assert names(free) == names(chords)


def test_what_cannot_be_harmonised_is_refused_in_one_line():
    with pytest.raises(InputError, match="no melody"):
        harmonise(Score())
    far = Score([(0, 480, 60, 80, 0), (480 * 30_000, 480, 62, 80, 0)])
    with pytest.raises(InputError, match="beats"):
        harmonise(far)
