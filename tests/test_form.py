"""Takes in sections: what comes back is what was played, but for its end, and stands over its own chords."""

import mido
import numpy as np
import pytest
from conftest import HANDS
from folders import tune

from woodshed.errors import InputError
from woodshed.symbolic.music.chords import parse_progression
from woodshed.symbolic.music.measure import NEAR
from woodshed.symbolic.music.midi import read_extras, read_midi
from woodshed.symbolic.music.score import Score
from woodshed.symbolic.music.smf import MARKER, as_meta
from woodshed.symbolic.playing import perform
from woodshed.symbolic.playing.form import over_form, progressions, remark, repeated, scenes, usual_sections
from woodshed.symbolic.playing.generate import generate
from woodshed.symbolic.playing.guard import Guard
from woodshed.symbolic.playing.placing import joined


def played(form, vary, bars, **how):
    """Scenes over bars of one tick, as (start, end), and the source of what is repeated."""
    sections = [bars // len(form)] * len(form) if isinstance(bars, int) else bars
    found = scenes(form, sections, vary, np.arange(sum(sections) + 1), **{"ending": False, "closes": False} | how)
    return [(scene.start, scene.end, *[scene.source] * (scene.source is not None)) for scene in found]


def test_a_take_of_one_section_is_written_at_once():
    assert played("A", 0.5, 8) == [(0, 8)]
    assert played("A", 0.5, 8, ending=True) == [(0, 8)]
    assert played("A", 0.5, 8, ending=True, closes=True) == [(0, 7), (7, 8)]
    assert [scene.closes for scene in scenes("A", [8], 0, np.arange(9), ending=True, closes=True)] == [False, True]


def test_what_returns_is_repeated_but_for_its_end():
    assert played("AABA", 0.25, 16) == [(0, 4), (4, 7, 0), (7, 12), (12, 15, 0), (15, 16)]
    assert played("AABA", 0, 16) == [(0, 4), (4, 8, 0), (8, 12), (12, 16, 0)]
    assert played("AAB", 0.5, 12) == [(0, 4), (4, 6, 0), (6, 12)]
    assert played("AB", 0.5, 8) == [(0, 8)]


def test_a_section_that_will_return_is_a_scene_of_its_own():
    """So that no note that belongs to it was struck before it began."""
    assert played("ABAB", 0, 8) == [(0, 2), (2, 4), (4, 8, 0)]
    assert played("ABB", 1, 6) == [(0, 2), (2, 6)]


@pytest.mark.parametrize(
    ("vary", "section", "anew"), [(0.25, 2, 1), (0.25, 6, 2), (0.25, 10, 3), (0.1, 1, 0), (0.99, 4, 3)]
)
def test_a_part_of_a_section_is_whole_bars_and_not_all_of_it(vary, section, anew):
    assert played("AA", vary, 2 * section)[1] == (section, 2 * section - anew, 0)


def test_sections_may_have_lengths_of_their_own():
    assert played("ABA", 0.25, [4, 2, 4]) == [(0, 6), (6, 9, 0), (9, 10)]
    assert played("ABAB", 0, [2, 3, 2, 3], ending=True) == [(0, 2), (2, 5), (5, 9, 0), (9, 10)]


@pytest.mark.parametrize(
    ("chords", "form", "bars"),
    [
        ("A: C Am F G B: F G", "AABA", [4, 4, 2, 4]),
        ("A: C Am F G", "AA", [4, 4]),
        ("C Am F G", "AA", [8, 8]),
        ("C G", "AB", [8, 8]),
        ("C G Am", "AB", [9, 9]),
        ("C F G " * 4, "A", [24]),
        ("C G " * 9, "A", [18]),
        ("A: C G Am", "A", [18]),
    ],
)
def test_sections_are_as_long_as_their_own_chords_or_whole_times_through_all(chords, form, bars):
    assert usual_sections(chords, form, 16 if form == "A" else 8) == bars
    assert usual_sections(None, form, 8) == [8] * len(form)


def test_a_last_section_has_at_least_its_ending_anew():
    assert played("AA", 0, 8, ending=True) == [(0, 4), (4, 7, 0), (7, 8)]
    assert played("AA", 0.5, 8, ending=True, closes=True) == [(0, 4), (4, 6, 0), (6, 7), (7, 8)]
    assert played("AA", 0, 2, ending=True, closes=True) == [(0, 1), (1, 2)]


def test_sections_begin_their_chords_anew_and_may_have_their_own():
    by_letter = progressions("| C | F | G |", "AB")
    assert over_form(by_letter, "AB", [4, 4]) == parse_progression("| C | F | G | C | C | F | G | C |")
    for chords in (
        "A: C Am F G  B: | Dm G7 | % |",
        "A: C Am F G | B： | Dm G7 | % |",
        "\nA: C Am F G\nB: | Dm G7 | % |\n",
    ):
        by_letter = progressions(chords, "AABA")
        assert over_form(by_letter, "ABA", [2, 2, 2]) == parse_progression("| C | Am | Dm G7 | Dm G7 | C | Am |")
    assert progressions("|: C | A:| x3", "A")["A"] == parse_progression("|: C | A :| x3")


def test_a_chord_with_a_colon_is_no_section():
    for form in ("A", "AB"):
        chords = "C:maj7 A:min7 D:min7 G:7"
        assert progressions(chords, form)["A"] == parse_progression("Cmaj7 Am7 Dm7 G7")
    assert progressions("A: A:min7 B: C:maj7", "AB")["A"] == parse_progression("Am7")


@pytest.mark.parametrize(
    ("chords", "message"),
    [
        (
            "A: C Am",
            "--chords: for the sections A; --form AAB has A, B: give each of them chords once, or one progression",
        ),
        ("A: C B: F C: G", "for the sections A, B, C; --form AAB has A, B: give each"),
        ("A: C A: F B: G", "for the sections A, A, B; --form AAB has A, B"),
        ("Am A: C B: F", "'Am' stands before A: and belongs to no section"),
        ("A: C B: | F | H |", "B: bar 2, character 15: .*H"),
        ("A: B: C", "A: the progression is empty"),
    ],
)
def test_chords_that_fit_no_form_are_refused(chords, message):
    with pytest.raises(InputError, match=message):
        progressions(chords, "AAB")


@pytest.mark.parametrize(
    ("chords", "form", "bars", "told"),
    [
        ("C G Am", "A", 2, "the chords last 3 bars; the first 2 are played"),
        ("C G Am", "A", 3, ""),
        ("C G Am", "AB", 4, "the chords of A last 3 bars; the first 2 are played"),
        ("A: C G B: C G Am", "AB", 4, "the chords of B last 3 bars; the first 2 are played"),
        (
            "C " * 16,
            "AB",
            32,
            'each section plays all 16 bars of the chords; --chords "A: ... B: ..." gives each its own',
        ),
        ("C G", "AB", 16, ""),
    ],
)
def test_what_of_the_chords_may_not_be_as_it_was_meant_is_told(chords, form, bars, told):
    found = remark(progressions(chords, form), form, [bars // len(form)] * len(form))
    assert found.startswith(told) and bool(found) == bool(told)


def test_what_is_repeated_sounds_like_what_it_repeats():
    scene = scenes("AA", [1, 1], 0, 1920 * np.arange(3), ending=False, closes=False)[1]
    first = Score([(0, 480, 60, 80, 0), (1800, 480, 64, 70, 0)], pedals=[(0, 127, 0)], chords=[(0, 0, 0, 0)])
    both = joined(first, repeated(first, scene))
    assert both.notes["onset"].tolist() == [0, 1800, 1920, 3720] and both.notes["duration"].tolist()[-1] == 120
    assert both.pedals.tolist() == [(0, 127, 0), (1920, 127, 0), (3839, 0, 0)]
    assert both.chords.tolist() == [(0, 0, 0, 0)]


def bars_alike(score, one, other, count=1):
    """Whether so many bars from two places on have the same notes, but for what the end cuts to a slip."""
    bar = 4 * score.ticks_per_quarter
    first, second = (score.slice(at * bar, (at + count) * bar, cut=True) for at in (one, other))
    notes = [
        {tuple(note) for note in part.notes[["onset", "pitch", "velocity", "duration"]].tolist()}
        for part in (first, second)
    ]
    slips = {
        note for note in notes[0] if note[0] + note[3] == count * bar and note[3] <= NEAR * score.ticks_per_quarter
    }
    return len(notes[1]) > 0 and notes[0] - slips == notes[1] - slips


def test_takes_have_the_form_that_was_asked_for(run):
    asked = dict(form="ABA", bars=12, seed=1, bpm=100, chords="A: C Am F G B: Em Dm")
    shares = []
    for take in generate(run, takes=2, report=lambda now: shares.append(now.share), **asked):
        score = take.score
        assert bars_alike(score, 0, 8, 3) and not bars_alike(score, 0, 4, 3) and not bars_alike(score, 3, 11)
        assert score.chords["root"].tolist() == [0, 9, 5, 7, 4, 2, 4, 2, 0, 9, 5, 7]
        assert score.end <= 12 * 4 * score.ticks_per_quarter
    assert shares == sorted(shares) and shares[-1] > 0.9
    short = generate(run, form="AB", chords="A: C Am B: F", takes=1, seed=1)[0]
    assert short.chart == "| C | Am | F |" and not short.remarks
    again = generate(run, **take.settings)[0]
    assert again.score == take.score and again.seed == 2


def test_a_section_comes_back_note_for_note_and_closes(run):
    take = generate(run, form="AA", bars=8, vary=0, ending=True, takes=1, seed=3)[0]
    assert bars_alike(take.score, 0, 4, 3)
    whole = generate(run, form="AA", bars=8, vary=0, takes=1, seed=3)[0]
    assert bars_alike(whole.score, 0, 4, 3)
    closed = generate(run, form="AA", bars=8, vary=0, ending=True, chords="C F G C", takes=1, seed=3)[0]
    assert bars_alike(closed.score, 0, 4, 3) and closed.score.chords["root"].tolist()[-3:] == [5, 7, 0]


def test_a_form_goes_on_from_a_file(run):
    song = tune(3, notes=64, tracks=HANDS)
    take = generate(run, prompt=song, keep_grid=True, form="BB", bars=4, vary=0, takes=1, seed=1)[0]
    first = round(take.region[0] / (4 * take.score.ticks_per_quarter))
    assert bars_alike(take.score, first, first + 2, 2)
    assert take.score.slice(0, take.region[0]).notes.tolist() == song.notes.tolist()


def test_a_file_names_sections_and_key(run, tmp_path):
    take = generate(run, form="ABA", bars=6, key="Ebm", metre="3/4", takes=1, seed=3)[0]
    take.write(tmp_path / "new")
    conductor = mido.MidiFile(tmp_path / "new.mid").tracks[0]
    assert conductor.name == "run seed 3" and "Ebm" in [m.key for m in conductor if m.type == "key_signature"]
    assert sections(tmp_path / "new.mid") == [(0, "A"), (2880, "B"), (5760, "A")]
    assert read_midi(tmp_path / "new.mid").chords.tolist() == take.score.chords.tolist()
    more = generate(run, prompt=tmp_path / "new.mid", keep_grid=True, form="AB", bars=2, takes=1, seed=1)[0]
    more.write(tmp_path / "more")
    assert sections(tmp_path / "more.mid")[3:] == [(8640, "A"), (10080, "B")]
    conductor = mido.MidiFile(tmp_path / "more.mid").tracks[0]
    assert [m.name for m in conductor if m.type == "track_name"] == ["run seed 3"]  # the file's own


def sections(path):
    """The sections that markers in a file name, with their ticks."""
    found = [(one.tick, as_meta(one.event).text) for one in read_extras(path) if one.event[1] == MARKER]
    return [(tick, text.removeprefix("Section ")) for tick, text in found if text.startswith("Section ")]


def test_seconds_last_to_the_end_of_a_section_and_each_has_eight_bars_by_default(run):
    asked = dict(takes=1, seed=1, bpm=120, chords="C G")
    assert generate(run, form="ABA", seconds=8, **asked)[0].chart == "| C | G | C | G | C | G |"
    assert generate(run, form="AB", **asked)[0].chart.count("|") == 17


def test_compound_time_comes_back(run):
    asked = dict(form="ABA", bars=6, metre="6/8", chords="C F", vary=0, temperature="1")
    for take in generate(run, takes=2, seed=1, **asked):
        score = take.score
        bar = 3 * score.ticks_per_quarter
        first, last = (score.slice(at * bar, (at + 2) * bar, cut=True) for at in (0, 4))
        struck, again = ({*part.notes[["onset", "pitch"]].tolist()} for part in (first, last))
        assert len(again) and again <= struck


def test_a_hole_has_no_form_but_takes_its_chords_in_any_notation(run):
    song = tune(3, notes=64, tracks=HANDS)
    asked = dict(prompt=song, keep_grid=True, bars="3-4", takes=1, seed=1)
    assert generate(run, chords="C:maj7 A:min7", **asked)[0].chart == "| Cmaj7 | Am7 |"
    assert generate(run, chords="A: C Am", **asked)[0].chart == "| C | Am |"
    with pytest.raises(InputError, match="for the sections A, B; --form A has A"):
        generate(run, chords="A: C Am B: F G", **asked)


def test_the_guard_tells_bars_of_the_take(run, monkeypatch):
    monkeypatch.setattr(perform, "_guard", lambda run: Noticing())
    (take,) = generate(run, form="AAB", bars=6, vary=0.5, takes=1, seed=1)
    assert [event["bar"] for event in take.guarded] == [0, 3]


class Noticing(Guard):
    """A guard that notices something in the first bar, and lets it go on."""

    def look(self, grammar):
        if not self.happened:
            self.happened.append({"noticed": "loop", "bar": 0, "back_to": None, "warmer": 0.0})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(form=""), "--form ''"),
        (dict(form="A-B"), "--form 'A-B': give a letter for each section, up to 64, such as AABA"),
        (dict(form="AB", vary=1.5), "--vary 1.5"),
        (dict(form=None), "--form None"),
        (dict(form="AB", bars=3), "--bars 3 with --form AB: its 2 sections are equally long; give 2 or 4"),
        (dict(form="AABA", bars=3), "are equally long; give 4"),
        (dict(form="ABC", bars=1999), "are equally long; give 1998"),
        (dict(form="A" * 64, chords="C " * 40), "--chords: 2,560 bars; give at most 2,000"),
        (dict(form="AB", max_length=100), "--max-length 100 with --form AB: where it ends is not known"),
        (dict(form="AB", prompt=tune(3), parts="melody"), "--form AB: sections are for what is written after"),
    ],
)
def test_what_has_no_form_is_refused(run, wrong, message):
    with pytest.raises(InputError, match=message):
        generate(run, **wrong)
