"""Measures: what they must be on music made for it, how they move with edits, and on real songs."""

import importlib
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import DATA, scores

from woodshed.errors import FileError
from woodshed.symbolic.music.chords import lay_out, parse_chord, parse_progression, pitch_classes, pitched
from woodshed.symbolic.music.measure import (
    LAGS,
    MEASURES,
    NEAR,
    NOTE_VALUES,
    SECONDS,
    adherence_gain,
    adherence_per_bar,
    bass_adherence,
    bass_at_changes,
    chord_adherence,
    empty_bars,
    groove_consistency,
    histograms,
    kl_divergence,
    measure,
    notes_per_bar,
    notes_per_second,
    overlapped_area,
    pitch_class_entropy,
    pitch_range,
    polyphony,
    recurrence,
    recurrence_per_bar,
    repeated_bars,
    rotated_adherence,
    scale_consistency,
    self_similarity,
    strong_beat_adherence,
    strong_beats,
)
from woodshed.symbolic.music.score import CHORD, Score, Track


def chart(text, bars):
    progression = parse_progression(text)
    return lay_out(progression, np.arange(bars + 1) * 1920)


def block(pitches, bar, length=1920):
    return [(bar * 1920, length, pitch, 80, 0) for pitch in pitches]


# --- chords ---------------------------------------------------------------------------------------------------


def adherence_note_by_note(score):
    """The naive version: every tick of every note is asked for its chord."""
    inside = total = 0
    for note in pitched(score):
        for tick in range(int(note["onset"]), int(note["onset"]) + int(note["duration"])):
            row = score.chords[score.chords["tick"] <= tick][-1:]
            if len(row) and row["root"][0] >= 0:
                total += 1
                inside += pitch_classes(row["root"], row["quality"], row["bass"])[0, note["pitch"] % 12]
    return inside / total if total else math.nan


@settings(max_examples=30, deadline=None)
@given(scores())
def test_adherence_is_that_of_every_tick(score):
    score = score.retime(6)
    assert chord_adherence(score) == pytest.approx(adherence_note_by_note(score), nan_ok=True)


def test_adherence_counts_sounding_time_and_the_bass():
    score = Score(block((48, 52, 55), 0) + block((47, 48, 66), 1), chords=chart("| C | C/B |", 2))
    assert chord_adherence(score) == pytest.approx(5 / 6)
    assert math.isnan(chord_adherence(score.replace(chords=chart("N.C.", 2))))
    held = Score([(0, 3840, 60, 80, 0)], chords=chart("| C | D |", 2))
    assert chord_adherence(held) == 0.5
    drums = Score([(0, 480, 61, 80, 0)], chords=chart("C", 1), tracks=(Track("kit", 0, True, "drums"),))
    assert math.isnan(chord_adherence(drums))


def test_rotated_adherence_is_the_mean_over_rotations():
    text = ["C", "Am", "F#7", "Eb"]
    notes = [note for bar in range(4) for note in block((48, 52, 55, 57, 61 + bar), bar)]
    score = Score(notes, chords=chart(" ".join(text), 4))
    turned = [chart(" ".join(text[k:] + text[:k]), 4) for k in (1, 2, 3)]
    turned = [chord_adherence(score.replace(chords=chords)) for chords in turned]
    assert rotated_adherence(score) == pytest.approx(np.mean(turned))
    assert adherence_gain(score) == pytest.approx(chord_adherence(score) - np.mean(turned))
    assert math.isnan(rotated_adherence(score.replace(chords=chart("C", 4))))


@settings(max_examples=30, deadline=None)
@given(scores(), st.booleans())
def test_adherence_of_each_bar_is_that_of_its_music_alone(score, other):
    lines = score.bars()[-3::2] if other else score.bars()
    found = adherence_per_bar(score, lines=lines) if other else adherence_per_bar(score)
    assert len(found) == len(lines) - 1
    for value, start, end in zip(found, lines, lines[1:], strict=False):
        notes = [(max(on, start), min(on + long, end), *rest) for on, long, *rest in score.notes.tolist()]
        bar = score.replace(notes=[(on, off - on, *rest) for on, off, *rest in notes if off > on])
        assert value == pytest.approx(chord_adherence(bar), nan_ok=True)


def test_strong_beats_are_bar_lines_halves_of_even_bars_and_chord_changes():
    def ticks(metre, chords, bars=2):
        bar = 1920 * metre[0] // metre[1]
        rows = [(at, *parse_chord(name)) for at, name in chords]
        score = Score(metres=[(0, *metre)], chords=rows)
        return strong_beats(score, score.chords, bars * bar)

    assert ticks((4, 4), [(0, "C")])[0].tolist() == [0, 960, 1920, 2880]
    assert ticks((3, 4), [(0, "C")])[0].tolist() == [0, 1440]
    assert ticks((6, 8), [(0, "C")])[0].tolist() == [0, 720, 1440, 2160]
    beats, held = ticks((3, 4), [(0, "C"), (960, "C"), (1000, "F"), (1440, "G")])
    assert beats.tolist() == [0, 1000, 1440] and held["root"].tolist() == [0, 5, 7]
    assert ticks((4, 4), [(1000, "C")])[0].tolist() == [1000, 1920, 2880]  # nothing is asked before the first chord
    free = Score(chords=[(0, 0, 0, 0), (300, 5, 0, 5)], ticks_per_quarter=500, free=True)
    assert strong_beats(free, free.chords, 9000)[0].tolist() == [0, 300]


def strong_note_by_note(score):
    beats, held = strong_beats(score, score.chords, score.end)
    inside = []
    for note in pitched(score):
        distance = np.abs(beats - int(note["onset"]))
        if len(beats) and distance.min() <= NEAR * score.ticks_per_quarter:
            row = held[len(distance) - 1 - distance[::-1].argmin()]
            if row["root"] >= 0:
                inside.append(pitch_classes(row["root"], row["quality"], row["bass"])[note["pitch"] % 12])
    return np.mean(inside) if inside else math.nan


@settings(max_examples=60, deadline=None)
@given(scores())
def test_strong_beat_adherence_is_that_of_every_note_on_its_nearest_beat(score):
    assert strong_beat_adherence(score) == pytest.approx(strong_note_by_note(score), nan_ok=True)


def test_strong_beats_want_what_the_chord_names_and_weak_ones_nothing():
    def share(pitch, at, name="C7b9"):
        return strong_beat_adherence(Score([(at, 100, pitch, 80, 0)], chords=[(0, *parse_chord(name))]))

    assert share(61, 0) == share(58, 960) == 1 and share(62, 0) == share(61, 0, "C7") == 0
    assert share(61, 40, "C7") == 0 and math.isnan(share(61, 80, "C7")) and math.isnan(share(61, 480, "C7"))
    assert math.isnan(share(61, 0, "N.C."))


def test_the_bass_is_the_lowest_note_at_the_change_or_the_first_after_it():
    chords = chart("C | C/E | F", 3)

    def share(*notes):
        return bass_adherence(Score([(*note, 80, 0) for note in notes], chords=chords))

    assert share((0, 480, 48), (0, 480, 64), (1920, 480, 52), (3840, 480, 41)) == 1
    assert share((0, 480, 48), (0, 480, 43), (1920, 480, 48), (3840, 480, 41)) == pytest.approx(1 / 3)
    assert share((0, 1920, 48), (2200, 480, 52), (2200, 480, 60), (4000, 480, 48)) == pytest.approx(2 / 3)
    assert share((0, 3000, 48), (1920, 480, 52)) == 1 / 2  # the held C is lower than the E
    assert share((0, 1960, 48), (1920, 480, 52)) == 1  # it ends with the moment
    assert share((100, 480, 60)) == 1  # no music, no bass
    two = [(0, 480, 48, 80, 0), (3840, 480, 48, 80, 0)]
    assert bass_at_changes(Score(two, chords=chords)) == [True, False]  # nothing sounds under the second


def test_music_that_follows_its_chords_beats_its_rotations():
    chords = chart("C Am F G", 16)
    follows = [
        note for i, row in enumerate(chords) for note in block(48 + np.flatnonzero(pitch_classes(*row.tolist()[1:])), i)
    ]
    assert chord_adherence(Score(follows, chords=chords)) == 1
    assert rotated_adherence(Score(follows, chords=chords)) < 0.6


def pop909_songs(monkeypatch, split, count):
    if not (DATA / "manifest.csv").exists():
        pytest.skip("no POP909 here")
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    pop909 = importlib.import_module("pop909")
    songs = []
    for folder in pop909.folders(DATA, split):
        try:
            songs.append(pop909.load(folder))
        except FileError:
            continue
        if len(songs) == count:
            break
    return songs


def test_pop909_keeps_to_its_chords_on_the_beat_and_not_a_beat_late(monkeypatch):
    """The clock is honest: over the whole split .91, one beat late .70, two .51, shuffled .46."""
    songs = pop909_songs(monkeypatch, "validation", 10)
    assert len(songs) == 10
    generator = np.random.default_rng(0)

    def mean(change):
        return np.mean([chord_adherence(score.replace(chords=change(score.chords.copy()))) for score in songs])

    def late(beats):
        def change(chords):
            chords["tick"] += beats * 480
            return chords

        return change

    def shuffled(chords):
        names = generator.permutation(chords)
        names["tick"] = chords["tick"]
        return names

    assert 0.88 < mean(late(0)) < 0.95
    assert 0.62 < mean(late(1)) < 0.77
    assert 0.44 < mean(late(2)) < 0.60
    assert 0.38 < mean(shuffled) < 0.54
    assert 0.35 < np.mean([rotated_adherence(score) for score in songs]) < 0.50


# --- bars -----------------------------------------------------------------------------------------------------


def bar_sets(score):
    """The (position, pitch, drum) of each bar, with sets."""
    tpq, lines, bars = score.ticks_per_quarter, np.rint(score.bars() * 12 / score.ticks_per_quarter), []
    for start, end in itertools.pairwise(lines):
        drums = [track.drums for track in score.tracks]
        cells = [(np.rint(n["onset"] * 12 / tpq), n["pitch"], drums[n["track"]]) for n in score.notes]
        last = end == lines[-1]
        bars.append({(at - start, pitch, drum) for at, pitch, drum in cells if start <= at and (at < end or last)})
    return bars


def recurrence_bar_by_bar(score):
    """The naive version."""
    bars = bar_sets(score)
    best = []
    for i, bar in enumerate(bars):
        known = any(bars[:i])
        overlaps = [len(bar & old) / len(bar | old) for old in bars[:i] if bar]
        best.append(max(overlaps) if bar and known else math.nan)
    return best


@settings(max_examples=40, deadline=None)
@given(scores(free=False))
def test_recurrence_is_the_best_jaccard_overlap(score):
    assert recurrence_per_bar(score) == pytest.approx(recurrence_bar_by_bar(score), nan_ok=True, abs=1e-6)


def test_bars_that_come_back():
    one, two = block((60, 64, 67), 0), [(at + 1920, 240, 70, 80, 0) for at in (0, 480, 960)]
    again = [(at + 3840, *rest) for at, *rest in one]
    half = [(at + 5760, *rest) for at, *rest in one[:2]]
    per_bar = recurrence_per_bar(Score([*one, *two, *again, *half]))
    assert math.isnan(per_bar[0]) and per_bar[1:].tolist() == pytest.approx([0, 1, 2 / 3])
    assert recurrence(Score([*one, *two, *again, *half])) == pytest.approx(5 / 9)
    assert recurrence(Score([note for bar in range(600) for note in block((60,), bar)])) == 1  # more than one block
    assert repeated_bars(Score([*one, *two, *again])) == 1
    assert repeated_bars(Score([note for bar in (0, 1, 2, 4) for note in block((60,), bar)])) == 3
    assert empty_bars(Score([note for bar in (0, 1, 2, 4) for note in block((60,), bar)])) == pytest.approx(1 / 5)


@settings(max_examples=40, deadline=None)
@given(scores(free=False), st.integers(1, 3))
def test_self_similarity_is_the_mean_overlap_at_a_lag(score, lag):
    bars = bar_sets(score)
    pairs = [(now, before) for now, before in zip(bars[lag:], bars, strict=False) if now and before]
    overlaps = [len(now & before) / len(now | before) for now, before in pairs]
    expected = np.mean(overlaps) if overlaps else math.nan
    assert self_similarity(score, lag) == pytest.approx(expected, nan_ok=True)


def test_music_with_a_period_is_like_itself_at_its_multiples():
    phrase = [block((40 + i, 60 + i), 0) for i in range(4)]
    song = Score([(at + bar * 1920, *rest) for bar in range(24) for at, *rest in phrase[bar % 4]])
    values = measure(song)
    assert [values[f"self_similarity_{lag}"] for lag in LAGS] == pytest.approx([0, 0, 1, 1, 1])


def test_groove_is_of_onsets_alone():
    steady = Score([(at, 240, 40 + at // 480, 80, 0) for at in range(0, 7680, 480)])
    assert groove_consistency(steady) == 1
    offbeat = Score([(at, 240, 60, 80, 0) for at in (*range(0, 1920, 480), *range(2160, 3840, 480))])
    assert groove_consistency(offbeat) == pytest.approx(1 - 8 / 48)


# --- pitches and density --------------------------------------------------------------------------------------


def test_figures_one_can_count():
    scale = Score([(480 * i, 480, pitch, 80, 0) for i, pitch in enumerate((60, 62, 64, 65, 67, 69, 71, 72))])
    assert scale_consistency(scale) == 1 and pitch_range(scale) == 12 and polyphony(scale) == 1
    assert notes_per_bar(scale) == 4 and notes_per_second(scale) == pytest.approx(2)
    chromatic = Score([(480 * i, 480, 60 + i, 80, 0) for i in range(12)])
    assert pitch_class_entropy(chromatic) == pytest.approx(math.log2(12)) and scale_consistency(chromatic) == 7 / 12
    assert pitch_class_entropy(Score([(0, 480, 60, 80, 0), (0, 480, 72, 80, 0)])) == 0
    assert polyphony(Score([*block((60, 64, 67), 0), (3840, 1920, 60, 80, 0)])) == 2


# --- histograms -----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(scores())
def test_histograms_count_every_note_at_the_nearest_value(score):
    counts, notes = histograms(score), pitched(score)
    assert all(counts[name].sum() == len(notes) for name in ("pitch", "pitch_class", "duration"))
    assert counts["onset_interval"].sum() == max(len(np.unique(notes["onset"])) - 1, 0)
    assert (counts["pitch_class"] == np.pad(counts["pitch"], (0, 4)).reshape(-1, 12).sum(0)).all()
    values = SECONDS if score.free else NOTE_VALUES
    for note in notes:
        length = int(note["duration"]) / score.ticks_per_quarter * (0.5 if score.free else 1)
        distance = np.abs(np.log(values / length))
        counts["duration"][distance.argmin()] -= np.ptp(np.partition(distance, 1)[:2]) > 1e-9
        counts["pitch"][note["pitch"]] -= 1
    assert not counts["pitch"].any() and counts["duration"].min() >= 0


def test_lengths_and_intervals_one_can_count():
    score = Score([(0, 480, 60, 80, 0), (0, 960, 64, 80, 0), (240, 160, 60, 80, 0), (1200, 480, 72, 80, 0)])
    counts = histograms(score)
    assert dict(zip(NOTE_VALUES[counts["duration"] > 0], counts["duration"][counts["duration"] > 0], strict=True)) == {
        1 / 3: 1,
        1: 2,
        2: 1,
    }
    assert NOTE_VALUES[counts["onset_interval"] > 0].tolist() == [1 / 2, 2]
    assert counts["pitch"][[60, 64, 72]].tolist() == [2, 1, 1] and counts["pitch_class"][[0, 4]].tolist() == [3, 1]


COUNTS = st.lists(st.integers(0, 1000), min_size=5, max_size=5).map(np.array).filter(np.any)


@given(COUNTS, COUNTS)
def test_overlap_and_divergence_of_histograms(one, other):
    area, nats = overlapped_area(one, other), kl_divergence(one, other)
    assert -1e-9 <= area <= 1 + 1e-9 and area == pytest.approx(overlapped_area(other, one))
    assert area == pytest.approx(1 - np.abs(one / one.sum() - other / other.sum()).sum() / 2)
    assert nats >= -1e-12 and overlapped_area(one, 3 * one) == pytest.approx(1)
    assert kl_divergence(one, one) == pytest.approx(0, abs=1e-12)
    assert math.isnan(overlapped_area(one, 0 * one)) and math.isnan(kl_divergence(0 * one, one))


def test_divergence_is_what_wrong_expectations_cost():
    assert overlapped_area(np.array([4, 0]), np.array([0, 9])) == 0
    cost = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)  # (4.5, 0.5) of 5 against halves
    assert kl_divergence(np.array([4, 0]), np.array([50, 50])) == pytest.approx(cost)


# --- all of them ----------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(scores(), st.integers(-5, 6))
def test_measures_of_any_score_stay_in_range_and_do_not_depend_on_the_key(score, semitones):
    values = measure(score)
    assert list(values) == list(MEASURES)
    shares = {
        name: values[name] for name in values if name.endswith(("adherence", "consistency", "recurrence", "empty_bars"))
    }
    assert len(shares) == 8 and all(math.isnan(share) or -1e-9 <= share <= 1 + 1e-9 for share in shares.values())
    moved = score.transpose(semitones)
    if len(moved.notes) == len(score.notes):
        assert measure(moved) == pytest.approx(values, nan_ok=True)


def test_nothing_is_measured_without_notes_or_bars():
    assert all(math.isnan(value) for value in measure(Score()).values())
    free = measure(Score(block((60, 64), 0), ticks_per_quarter=500, free=True))
    assert math.isnan(free["recurrence"]) and math.isnan(free["notes_per_bar"]) and free["polyphony"] == 2


def test_chords_after_the_end_do_no_harm():
    late = np.array([(0, *parse_chord("C")), (99_999, *parse_chord("G"))], dtype=CHORD)
    assert chord_adherence(Score(block((60,), 0), chords=late)) == 1
