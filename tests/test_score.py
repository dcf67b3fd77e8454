"""Edits of a Score, and its clock."""

import pickle
import tracemalloc
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import scores

from woodshed.symbolic.music.score import Score, Track

quick = settings(max_examples=60, deadline=None)


@given(score=scores())
@quick
def test_seconds_and_ticks_are_inverse(score):
    ticks = np.arange(0, 20 * score.ticks_per_quarter, 7)
    assert np.array_equal(score.ticks(score.seconds(ticks)), ticks)
    assert (np.diff(score.seconds(ticks)) > 0).all()


@given(score=scores())
@quick
def test_no_pitch_sounds_twice_without_overlaps(score):
    clean = score.without_overlaps()
    keys = clean.notes["track"].astype(int) * 128 + clean.notes["pitch"]
    for key in np.unique(keys):
        mine = clean.notes[keys == key]
        assert (mine["onset"][1:] >= mine["onset"][:-1] + mine["duration"][:-1]).all()
        old = score.notes[score.notes["track"].astype(int) * 128 + score.notes["pitch"] == key]
        assert set(mine["onset"].tolist()) == set(old["onset"].tolist())
    assert clean.without_overlaps() == clean


@given(score=scores(), semitones=st.integers(-12, 12))
@quick
def test_transposing_there_and_back_loses_only_what_left_the_range(score, semitones):
    back = score.transpose(semitones).transpose(-semitones)
    drums = np.array([track.drums for track in score.tracks])[score.notes["track"]]
    moved = score.notes["pitch"].astype(int) + np.where(drums, 0, semitones)
    assert np.array_equal(back.notes, score.notes[(moved >= 0) & (moved <= 127)])
    assert np.array_equal(back.chords, score.chords)


@given(score=scores())
@quick
def test_slices_at_bar_lines_put_together_are_the_piece(score):
    middle = int(score.bars()[len(score.bars()) // 2])
    first, second = score.slice(0, middle), score.slice(middle, score.end + 1)
    later = second.notes.copy()
    later["onset"] += middle
    assert np.array_equal(np.concatenate([first.notes, later]), score.notes)
    rest = max(score.end - middle, 0)
    assert second.seconds(rest) == pytest.approx(score.seconds(middle + rest) - score.seconds(middle))


@given(score=scores())
@quick
def test_freed_music_sounds_the_same(score):
    freed = score.freed()
    assert freed.free
    order = np.lexsort((score.notes["pitch"], np.rint(score.seconds(score.notes["onset"]) * 1000)))
    onsets = np.sort(score.seconds(score.notes["onset"][order]))
    assert np.abs(np.sort(freed.seconds(freed.notes["onset"])) - onsets).max(initial=0) <= 0.0005 + 1e-9


def test_bar_lines_follow_the_metre_and_a_change_cuts_a_bar_short():
    score = Score([(0, 4000, 60, 80, 0)], metres=[(0, 3, 4), (1000, 4, 4)])
    assert score.bars().tolist() == [0, 1000, 2920, 4840]
    assert Score([(0, 10, 60, 80, 0)], metres=[(0, 6, 8)]).beats().tolist() == [0, 720, 1440]


def test_bar_lines_end_with_the_music_whatever_metre_comes_later():
    score = Score([(0, 100, 60, 90, 0)], metres=[(0, 1, 128), (2**24, 4, 4)], ticks_per_quarter=32)
    tracemalloc.start()
    assert score.bars().tolist() == list(range(101))
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()


def test_pedal_lets_notes_ring_until_it_lifts_or_they_are_struck_again():
    score = Score([(0, 10, 60, 80, 0), (100, 10, 62, 80, 0), (200, 10, 60, 80, 0)], [(0, 127, 0), (300, 0, 0)])
    assert score.sustained().notes["duration"].tolist() == [200, 200, 100]
    assert not len(score.sustained().pedals)


def test_a_pedal_renewed_where_notes_end_damps_them():
    notes, pedals = [(0, 100, 60, 80, 0), (100, 100, 64, 80, 0)], [(0, 127, 0), (100, 0, 0), (100, 127, 0), (300, 0, 0)]
    assert Score(notes, pedals).sustained().notes["duration"].tolist() == [100, 200]
    assert Score(notes, pedals[2:]).sustained().notes["duration"].tolist() == [100, 200]  # pressed where one ends


def test_stretch_is_faster_by_its_factor():
    grid = Score([(480, 480, 60, 80, 0)])
    assert grid.stretch(2).seconds(grid.end) == pytest.approx(grid.seconds(grid.end) / 2)
    free = Score([(1000, 500, 60, 80, 0)], ticks_per_quarter=500, free=True)
    assert free.stretch(2).notes.tolist() == [(500, 250, 60, 80, 0)]


def test_scores_are_read_only_and_equal_by_content():
    score = Score([(0, 10, 60, 80, 0)])
    with pytest.raises(ValueError, match="read-only"):
        score.notes["onset"] = 5
    assert score == Score([(0, 10, 60, 80, 0)])
    assert score != Score([(0, 10, 61, 80, 0)])
    assert score != score.replace(tracks=(Track("x"),))
    assert Score().end == 0 and len(Score().bars()) == 2


@given(score=scores(), semitones=st.integers(-60, 60), ticks=st.tuples(st.integers(0, 9000), st.integers(0, 9000)))
@quick
def test_edits_leave_everything_in_order(score, semitones, ticks):
    edits = [score.slice(*sorted(ticks)), score.slice(*sorted(ticks), cut=True), score.transpose(semitones)]
    for edited in (*edits, score.stretch(1.1), score.without_overlaps(), score.sustained()):
        assert edited == edited.replace()  # which checks and sorts all of it


@given(score=scores())
@quick
def test_a_pickled_score_is_the_same_and_read_only(score):
    score.seconds(score.end)
    again = pickle.loads(pickle.dumps(score))
    assert again == score and vars(again).keys() == {field.name for field in fields(Score)}
    for name in ("notes", "pedals", "tempos", "metres", "chords"):
        assert not getattr(again, name).flags.writeable


@given(score=scores())
@quick
def test_beats_divide_every_bar(score):
    beats, bars = score.beats(), score.bars()
    assert (np.diff(beats) > 0).all()
    assert np.isin(bars, beats).all() and beats[-1] == bars[-1]
    first = score.metres[0]
    unit = score.ticks_per_quarter * 4 // int(first["denominator"])
    compound = first["denominator"] >= 8 and first["numerator"] % 3 == 0 and first["numerator"] > 3
    unit = max(unit * 3 if compound else unit, 1)
    assert beats[: np.searchsorted(beats, bars[1])].tolist() == list(range(0, int(bars[1]), unit))


def test_merge_keeps_every_note_in_its_track():
    one, two = Score([(0, 480, 60, 80, 0)]), Score([(0, 96, 64, 70, 0)], ticks_per_quarter=96)
    merged = one.merge(two)
    assert merged.notes.tolist() == [(0, 480, 60, 80, 0), (0, 480, 64, 70, 1)]
    assert len(merged.tracks) == 2
