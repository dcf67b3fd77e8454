"""Notes out of what is heard in frames: none of this needs the model."""

import numpy as np
import pytest

from woodshed.audio import strikes
from woodshed.audio.strikes import FALLING, GAP, KEYS, LONGEST, LOWEST, Frames, notes_of

C4 = 60 - LOWEST


def struck(*notes, frames=300) -> Frames:
    """Frames in which keys are struck: (frame, key, frames, sureness, level in dB), the last two if need be."""
    heard = Frames(*(values.copy() for values in Frames.silent(frames)))
    for start, key, length, *more in notes:
        sure, level = (*more, *(0.9, -30.0)[len(more) :])
        heard.onset[start - 1 : start + 2, key] = [sure / 2, sure, sure / 2]
        heard.note[start : start + length, key] = sure
        heard.level[start : start + length, key] = level - 0.1 * np.arange(length)[: frames - start]
        heard.bright[start : start + 4] = np.maximum(heard.bright[start : start + 4], level)
    return heard


def rows(*batches) -> list[tuple]:
    """Onset, end and pitch of what is found, in whole frames."""
    found = notes_of(batches)
    return [(round(onset), round(end), pitch) for onset, end, pitch, _ in found.tolist()]


def test_a_note_lasts_from_its_strike_until_its_sound_falls():
    ((onset, end, pitch),) = rows(struck((20, C4, 100)))
    assert (onset, pitch) == (20, 60) and abs(end - 120) <= (FALLING + 1) / 2


def test_a_note_that_only_dies_away_ends_where_it_is_hardly_heard():
    heard = struck((20, C4, 250))
    heard.note[90:, C4] = 0.1
    assert rows(heard) == [(20, 90, 60)]


@pytest.mark.parametrize(("gap", "end"), [(GAP - 1, 220), (GAP + 3, 100)])
def test_short_gaps_are_no_end(gap, end):
    heard = struck((20, C4, 250))
    heard.note[100 : 100 + gap, C4] = 0
    heard.note[220:, C4] = 0
    assert rows(heard) == [(20, end, 60)]


def test_a_key_that_is_struck_again_ends_its_first_note():
    first, second = rows(struck((20, C4, 250), (90, C4, 100)))
    assert first == (20, 90, 60) and second[0] == 90
    assert len(rows(struck((20, C4, 250), (90, C4, 100, 0.4)))) == 1  # too weak beside the others, as it sounds already


def test_an_overtone_is_no_note_and_an_octave_is_two():
    lower, fifth = C4, C4 + 19
    assert [row[2] for row in rows(struck((20, lower, 99), (20, lower + 12, 99, 0.6), (21, fifth, 99, 0.6)))] == [60]
    assert [row[2] for row in rows(struck((20, lower, 99), (21, lower + 12, 99)))] == [60, 72]
    assert [row[2] for row in rows(struck((20, lower, 99), (20, lower + 4, 99, 0.75)))] == [60, 64]


def test_what_is_strong_enough_depends_on_the_recording():
    faint = [(at, C4 + at // 30, 25, 0.55) for at in range(20, 260, 30)]
    assert len(rows(struck(*faint))) == len(faint)
    sure = [(start, key, length, 0.97) for start, key, length, _ in faint[:-1]]
    assert len(rows(struck(*sure, faint[-1]))) == len(sure)


def test_louder_is_a_higher_velocity_and_half_are_below_the_middle():
    levels = [-50.0, -40.0, -30.0, -20.0, -10.0]
    found = notes_of([struck(*((20 + 50 * n, C4, 40, 0.9, level) for n, level in enumerate(levels)))])
    assert (np.diff(found["velocity"].astype(int)) > 0).all() and found["velocity"][2] == strikes.MIDDLE
    found = notes_of([struck((20, C4, 40, 0.9, -110.0), (90, C4, 40), (160, C4, 40))])
    assert found["velocity"][0] == 1


def test_a_strike_between_two_frames_is_heard_between_them():
    heard = struck((20, C4, 100))
    heard.onset[19:22, C4] = [0.5, 0.9, 0.7]
    assert 20 < notes_of([heard])["onset"][0] < 20.5


def test_batches_of_any_size_give_the_same_notes():
    rng = np.random.default_rng(0)
    some = [(int(at), int(rng.integers(KEYS)), int(rng.integers(15, 400)), 0.9) for at in range(5, 4000, 23)]
    whole = struck(*some, frames=4500)
    found = notes_of([whole])
    assert len(found) > 150
    for size in (1000, 333):
        cut = [Frames(*(values[at : at + size] for values in whole)) for at in range(0, 4500, size)]
        assert np.array_equal(notes_of(cut), found)


def test_silence_and_nothing_give_no_notes_and_no_note_rings_for_ever():
    assert len(notes_of([Frames.silent(500)])) == len(notes_of([])) == 0
    heard = struck((20, C4, 3000), frames=3000)
    heard.level[20:, C4] = -30
    assert rows(heard) == [(20, 20 + LONGEST, 60)]
    assert rows(struck((1, C4, 50), (298, C4 + 5, 2)))[0][0] == 1  # at both ends of the sound
