"""The grid: what was moved is found again, what is right stays, what has no beat is free."""

import csv
import itertools
from functools import cache
from pathlib import Path

import mir_eval
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from woodshed.symbolic.music import grid as grids
from woodshed.symbolic.music.grid import apply_grid, estimate_grid, main_metre
from woodshed.symbolic.music.midi import read_midi
from woodshed.symbolic.music.score import Score, Track

DATA = Path(__file__).parents[1].parent / "shared" / "data"
needs_data = pytest.mark.skipif(not (DATA / "manifest.csv").exists(), reason="shared data is not here")
ROOTS = (36, 45, 41, 43)  # C Am F G


def song(*, beats=4, bars=32, ticks=480, short=(), metre=None):
    """A song on its bars: a long bass note and a new chord at each bar line, chords on beats, a melody in eighths.

    Bars in `short` have two beats; the metre map says all of it, unless `metre` is given.
    """
    random = np.random.default_rng(3)
    notes, metres, start = [], [], 0
    for bar in range(bars):
        size, root = 2 if bar in short else beats, ROOTS[bar % len(ROOTS)]
        metres.append((start, size, 4))
        notes.append((start, size * ticks, root, 70, 0))
        for beat in range(size):
            notes += [(start + beat * ticks, ticks, root + 12 + third, 60, 0) for third in (4, 7, 12)]
        melody = random.choice([0, 4, 7, 9], size=2 * size) + root + 36
        notes += [(start + i * ticks // 2, ticks // 2, pitch, 90, 1) for i, pitch in enumerate(melody.tolist())]
        start += size * ticks
    changes = [row for i, row in enumerate(metres) if i == 0 or row[1] != metres[i - 1][1]]
    tempos = [(0, 500_000), (beats * ticks * 5 + 100, 600_000), (beats * ticks * 9, 450_000)]
    tracks = (Track("PIANO"), Track("MELODY"))
    return Score(notes, (), tempos, metre or changes, (), tracks, ticks_per_quarter=ticks)


def moved(score, offset):
    """The same music `offset` ticks later under the bare metre 1/4: a file that knows the tempo and nothing else."""
    notes, tempos = score.notes.copy(), score.tempos.copy()
    notes["onset"] += offset
    tempos["tick"][1:] += offset
    return score.replace(notes=notes, tempos=tempos, metres=[(0, 1, 4)])


@settings(max_examples=25, deadline=None)
@given(offset=st.integers(0, 4 * 480 - 1), ticks=st.sampled_from([96, 480, 960]))
def test_a_moved_song_is_found_again(offset, ticks):
    right = song(ticks=ticks)
    lost = moved(right, offset * ticks // 480)
    grid = estimate_grid(lost)
    found = apply_grid(lost, grid)
    late = found.notes["onset"][0] - right.notes["onset"][0]
    assert late in (0, 4 * ticks)
    assert np.array_equal(found.notes["onset"], right.notes["onset"] + late)
    assert main_metre(found) == (4, 4) and grid.confidence > 0.8
    assert lost.notes["onset"][0] >= 0 and grid.shift >= 0


@settings(max_examples=15, deadline=None)
@given(offset=st.integers(0, 4 * 480 - 1))
def test_seconds_move_by_one_constant_and_twice_is_once(offset):
    lost = moved(song(), offset)
    found = apply_grid(lost, estimate_grid(lost))
    change = found.seconds(found.notes["onset"]) - lost.seconds(lost.notes["onset"])
    assert np.ptp(change) < 1e-6
    again = estimate_grid(found)
    assert again.action == "kept"
    assert apply_grid(found, again) == found


def test_pedal_and_chords_move_with_the_notes():
    lost = moved(song(), 77).replace(pedals=[(77, 100, 0), (500, 0, 0)], chords=[(77, 0, 0, 0), (1997, 9, 1, 9)])
    grid = estimate_grid(lost)
    found = apply_grid(lost, grid)
    assert grid.shift > 0
    for name in ("pedals", "chords"):
        assert np.array_equal(getattr(found, name)["tick"], getattr(lost, name)["tick"] + grid.shift)


@pytest.mark.parametrize("beats", [2, 3, 4])
def test_a_right_grid_is_kept(beats):
    right = song(beats=beats, short=(7, 20) if beats == 4 else ())
    grid = estimate_grid(right)
    assert grid.action == "kept" and grid.shift == 0
    assert apply_grid(right, grid) == right
    assert [tuple(row) for row in grid.metres] == right.metres.tolist()


def test_a_pickup_is_kept():
    right = song()
    pickup = right.replace(notes=right.notes[right.notes["onset"] >= 3 * 480])
    assert apply_grid(pickup, estimate_grid(pickup)) == pickup


def test_three_four_is_found_again():
    right = song(beats=3)
    lost = moved(right, 211)
    found = apply_grid(lost, estimate_grid(lost))
    assert found.metres.tolist() == [(0, 3, 4)]
    assert found.notes["onset"][0] % 1440 == 0


def test_a_bar_of_two_beats_is_found_and_written():
    right = song(short=(13,))
    lost = moved(right, 950)
    found = apply_grid(lost, estimate_grid(lost))
    assert np.isin(right.bars() + found.notes["onset"][0], found.bars()).all()
    assert 2 in found.metres["numerator"]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_onsets_at_random_are_free_time(seed):
    random = np.random.default_rng(seed)
    onsets = np.sort(random.integers(0, 480 * 400, 600))
    notes = [
        (tick, 200, pitch, 80, 0) for tick, pitch in zip(onsets.tolist(), random.integers(30, 90, 600), strict=True)
    ]
    score = Score(notes)
    grid = estimate_grid(score)
    assert grid.action == "free" and grid.confidence < grids.THRESHOLD and not grid.metres
    assert apply_grid(score, grid) == score.freed()
    assert estimate_grid(score.freed()).action == "free"
    assert apply_grid(score.freed(), estimate_grid(score.freed())) == score.freed()


def test_music_around_a_pulse_is_not_free():
    right = song(metre=[(0, 4, 4)])
    notes = right.notes.copy()
    notes["onset"] = np.maximum(notes["onset"] + np.random.default_rng(1).normal(0, 12, len(notes)).round(), 0)
    notes["velocity"] = np.random.default_rng(2).integers(40, 110, len(notes))
    assert estimate_grid(right.replace(notes=notes)).action == "kept"


@pytest.mark.parametrize(
    "score",
    [
        Score(),
        Score([(0, 1, 60, 64, 0)]),
        Score([(9, 1, 60, 64, 0)] * 50),
        Score([(tick, 1, 60, 64, 0) for tick in range(50)], ticks_per_quarter=1, metres=[(0, 1, 4)]),
        Score([(tick * 37, 1, 36, 64, 0) for tick in range(50)], tracks=(Track(drums=True),), metres=[(0, 1, 8)]),
        Score([(tick * 480, 5, 60, 64, 0) for tick in range(50)] + [(10**9, 1, 60, 64, 0)], metres=[(0, 1, 4)]),
    ],
)
def test_odd_scores_get_an_answer(score):
    grid = estimate_grid(score)
    found = apply_grid(score, grid)
    assert grid.action in ("kept", "shifted", "re-barred", "free")
    assert 0 <= grid.confidence <= 1 and grid.reason
    assert len(found.notes) == len(score.notes) and (found.notes["onset"] >= 0).all()
    assert apply_grid(found, estimate_grid(found)) == found


@pytest.mark.parametrize("seed", range(4))
def test_bars_agree_with_trying_every_row(seed):
    evidence = np.random.default_rng(seed).normal(0, 3, (7, 6))
    weights = grids._bar_weights(evidence, 1)
    found = grids._best_bars(weights)
    rows = {}
    for metre, bias in grids.METRES.items():
        for start in range(1 - metre, 1):
            for number in range(1, 6):
                for lengths in itertools.product(grids.LENGTHS, repeat=number):
                    lines = start + np.concatenate([[0], np.cumsum(lengths)])
                    if not len(evidence) <= lines[-1] < len(evidence) + metre:
                        continue
                    bars = list(zip(lines[1:].tolist(), lengths, strict=True))
                    heard = sum(weights[end + grids.PAD, grids.LENGTHS.index(size), 0] for end, size in bars)
                    usual = sum(bias if size == metre else grids.IRREGULAR for size in lengths)
                    rows[metre, tuple(lines.tolist())] = heard + usual + grids.RARE[metre]
    total = np.logaddexp.reduce(list(rows.values()))
    sums = {m: np.logaddexp.reduce([v for (metre, _), v in rows.items() if metre == m]) for m in grids.METRES}
    metre = max(sums, key=sums.get)
    lines = max((row for row in rows if row[0] == metre), key=rows.get)[1]
    shares = [sum(np.exp(v - total) for row, v in rows.items() if row[0] == metre and line in row[1]) for line in lines]
    assert found.length == metre and tuple(found.bars.tolist()) == lines
    assert found.confidence == pytest.approx(np.mean(shares[:-1]), rel=1e-6)


# --- real files -----------------------------------------------------------------------------------------------


@cache
def manifest(name):
    with (DATA / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return [DATA / row["file"] for row in csv.DictReader(file) if row["set"] == name and row["split"] != "test"]


@needs_data
def test_pop909_beats_are_found():
    measured = []
    for path in manifest("pop909")[::60]:
        score, labels = read_midi(path), np.loadtxt(path.parent / "beat_midi.txt", ndmin=2)
        grid = estimate_grid(score)
        if grid.action == "free":
            continue
        found = apply_grid(score, grid)
        zero = found.seconds(grid.shift)
        beats = found.seconds(found.beats(int(found.ticks(labels[-1, 0] + zero)))) - zero
        beats = beats[beats >= 0]
        measured.append(mir_eval.beat.f_measure(labels[:, 0], beats))
        assert np.all(np.diff(found.bars()) >= 2 * found.ticks_per_quarter)
    assert len(measured) >= 10 and np.mean(measured) > 0.95


@needs_data
@pytest.mark.parametrize(("name", "action", "share"), [("lieder", "kept", 0.98), ("giantmidi", "free", 0.9)])
def test_notation_is_kept_and_playing_is_free(name, action, share):
    paths = manifest(name)
    scores = [read_midi(path) for path in paths[:: max(1, len(paths) // 40)]]
    answers = [estimate_grid(score) for score in scores]
    assert np.mean([grid.action == action for grid in answers]) >= share
    for score, grid in zip(scores, answers, strict=True):
        if grid.action == "kept":
            assert apply_grid(score, grid) == score
