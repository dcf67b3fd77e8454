"""Takes in sections: what comes back is what was played, but for its end, and stands over its own chords."""

import numpy as np
import pytest
from conftest import HANDS
from folders import tune

from woodshed.errors import InputError
from woodshed.symbolic.music.chords import parse_progression
from woodshed.symbolic.music.score import Score
from woodshed.symbolic.playing.form import bars_of, progressions, repeated, scenes, spread
from woodshed.symbolic.playing.generate import generate
from woodshed.symbolic.playing.placing import joined


def played(form, vary, bars, **how):
    """Scenes over bars of one tick, as (start, end, source), and "closes" where one does."""
    found = scenes(form, vary, np.arange(bars + 1), **{"ending": False, "closes": False} | how)
    return [(scene.start, scene.end, *[scene.source] * (scene.source is not None)) for scene in found]


def test_a_take_of_one_section_is_written_at_once():
    assert played("A", 0.5, 8) == [(0, 8)]
    assert played("A", 0.5, 8, ending=True) == [(0, 8)]
    assert played("A", 0.5, 8, ending=True, closes=True) == [(0, 7), (7, 8)]
    assert [scene.closes for scene in scenes("A", 0, np.arange(9), ending=True, closes=True)] == [False, True]


def test_what_returns_is_repeated_but_for_its_end():
    assert played("AABA", 0.25, 16) == [(0, 4), (4, 7, 0), (7, 12), (12, 15, 0), (15, 16)]
    assert played("AABA", 0, 16) == [(0, 4), (4, 8, 0), (8, 12), (12, 16, 0)]
    assert played("ABAB", 0, 8) == [(0, 4), (4, 8, 0)]
    assert played("AAB", 1, 6) == [(0, 6)]


def test_a_last_section_has_at_least_its_ending_anew():
    assert played("AA", 0, 8, ending=True) == [(0, 4), (4, 7, 0), (7, 8)]
    assert played("AA", 0.5, 8, ending=True, closes=True) == [(0, 4), (4, 6, 0), (6, 7), (7, 8)]
    assert played("AA", 0, 2, ending=True, closes=True) == [(0, 1), (1, 2)]


def test_all_sections_are_whole():
    assert [bars_of("AABA", bars, given=False) for bars in (1, 4, 5, 32)] == [4, 4, 8, 32]
    assert bars_of("AABA", 32, given=True) == 32
    with pytest.raises(InputError, match="--bars 30 with --form AABA: its 4 sections are equally long; give 28 or 32"):
        bars_of("AABA", 30, given=True)
    with pytest.raises(InputError, match=r"give 4$"):
        bars_of("AABA", 3, given=True)


def test_sections_begin_their_chords_anew_and_may_have_their_own():
    by_letter = progressions("| C | F | G |", "AB")
    assert spread(by_letter, "AB", 4) == parse_progression("| C | F | G | C | C | F | G | C |")
    by_letter = progressions("A: C Am F G  B: | Dm G7 | % |", "AABA")
    assert spread(by_letter, "ABA", 2) == parse_progression("| C | Am | Dm G7 | Dm G7 | C | Am |")
    assert progressions("|: C | A:| x3", "A")["A"] == parse_progression("|: C | A :| x3")


@pytest.mark.parametrize(
    ("chords", "message"),
    [
        ("A: C Am", "--chords: for A; with --form AAB each of A, B once, or none"),
        ("A: C B: F C: G", "for A, B, C; with --form AAB each of A, B once"),
        ("A: C A: F B: G", "for A, A, B; with --form AAB"),
        ("Am A: C B: F", "'Am' stands before A: and belongs to no section"),
        ("A: C B: | F | H |", "bar 2, character 15: .*H"),
        ("A: B: C", "progression is empty"),
    ],
)
def test_chords_that_fit_no_form_are_refused(chords, message):
    with pytest.raises(InputError, match=message):
        progressions(chords, "AAB")


def test_what_is_repeated_sounds_like_what_it_repeats():
    scene = scenes("AA", 0, 1920 * np.arange(3), ending=False, closes=False)[1]
    first = Score([(0, 480, 60, 80, 0), (1800, 480, 64, 70, 0)], pedals=[(0, 127, 0)], chords=[(0, 0, 0, 0)])
    both = joined(first, repeated(first, scene), scene.start)
    assert both.notes["onset"].tolist() == [0, 1800, 1920, 3720] and both.notes["duration"].tolist()[-1] == 120
    assert both.pedals.tolist() == [(0, 127, 0), (1920, 0, 0), (1920, 127, 0)]
    assert both.chords.tolist() == [(0, 0, 0, 0)]


def bars_alike(score, one, other, count=1):
    """Whether so many bars from two places on have the same notes."""
    bar = 4 * score.ticks_per_quarter
    first, second = (score.slice(at * bar, (at + count) * bar, cut=True) for at in (one, other))
    return len(first.notes) > 0 and first.notes.tolist() == second.notes.tolist()


def test_takes_have_the_form_that_was_asked_for(run):
    asked = dict(form="ABA", bars=12, seed=1, bpm=100, chords="A: C Am F G B: Em Dm")
    shares = []
    for take in generate(run, takes=2, report=lambda now: shares.append(now.share), **asked):
        score = take.score
        assert bars_alike(score, 0, 8, 3) and not bars_alike(score, 0, 4, 3) and not bars_alike(score, 3, 11)
        assert score.chords["root"].tolist() == [0, 9, 5, 7, 4, 2, 4, 2, 0, 9, 5, 7]
        assert score.end <= 12 * 4 * score.ticks_per_quarter
    assert shares == sorted(shares) and shares[-1] > 0.9
    again = generate(run, **take.settings)[0]
    assert again.score == take.score and again.seed == 2


def test_a_section_comes_back_note_for_note_and_closes(run):
    take = generate(run, form="AA", bars=8, vary=0, ending=True, takes=1, seed=3)[0]
    assert bars_alike(take.score, 0, 4, 3)
    whole = generate(run, form="AA", bars=8, vary=0, takes=1, seed=3)[0]
    assert bars_alike(whole.score, 0, 4, 4)


def test_a_form_goes_on_from_a_file(run):
    song = tune(3, notes=64, tracks=HANDS)
    take = generate(run, prompt=song, keep_grid=True, form="BB", bars=4, vary=0, takes=1, seed=1)[0]
    first = round(take.region[0] / (4 * take.score.ticks_per_quarter))
    assert bars_alike(take.score, first, first + 2, 2)
    assert take.score.slice(0, take.region[0]).notes.tolist() == song.notes.tolist()


def test_seconds_last_to_the_end_of_a_section_and_each_has_eight_bars_by_default(run):
    asked = dict(takes=1, seed=1, bpm=120, temperature="1")
    bars = 4 * 480
    assert generate(run, form="AB", seconds=5, **asked)[0].chart.count("|") in (0, 5)
    take = generate(run, form="AB", chords="C G", **asked)[0]
    assert take.chart.count("|") == 17 and take.score.end > 14 * bars


def test_chords_that_are_longer_than_their_section_are_told(run):
    take = generate(run, form="AB", bars=4, chords="C G Am", takes=1, seed=1)[0]
    assert take.remarks == ("the chords last 3 bars; the first 2 are played",)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(form=""), "--form ''"),
        (dict(form="A-B"), "--form 'A-B': give a letter for each section, up to 64, such as AABA"),
        (dict(form="AB", vary=1.5), "--vary 1.5"),
        (dict(form="AB", bars=3), "--bars 3 with --form AB: its 2 sections are equally long; give 2 or 4"),
        (dict(form="AB", max_length=100), "--max-length 100 with --form AB: where it ends is not known"),
        (dict(form="AB", prompt=tune(3), parts="melody"), "--form AB: sections are for what is written after"),
    ],
)
def test_what_has_no_form_is_refused(run, wrong, message):
    with pytest.raises(InputError, match=message):
        generate(run, **wrong)
