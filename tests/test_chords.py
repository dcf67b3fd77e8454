"""Chords: names and charts read back, other people's definitions agree, and played chords are heard."""

import importlib
import itertools
import time
import tracemalloc
from fractions import Fraction
from pathlib import Path

import mir_eval.chord
import numpy as np
import pytest
from folders import tune
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import DATA, scores

from woodshed.errors import InputError
from woodshed.symbolic.music import chords
from woodshed.symbolic.music.chords import (
    NO_CHORD,
    QUALITIES,
    QUALITY_NAMES,
    REDUCED,
    TOKEN_QUALITIES,
    from_word,
    lay_out,
    parse_chord,
    parse_progression,
    pitch_classes,
    recognise,
    spell,
    word,
)
from woodshed.symbolic.music.keys import estimate_key, key_name, parse_key
from woodshed.symbolic.music.midi import read_midi
from woodshed.symbolic.music.score import CHORD, Score, Track
from woodshed.symbolic.music.spelling import signature

EVERY_CHORD = [NO_CHORD, *itertools.product(range(12), range(len(QUALITIES)), range(12))]
CHORDS = st.sampled_from(EVERY_CHORD)


def named(root, quality, bass=None):
    """A chord from pitch classes and the name of its quality."""
    return root, QUALITY_NAMES.index(quality), root if bass is None else bass


def tones(chord):
    return set(np.flatnonzero(pitch_classes(*chord)).tolist())


# --- the table ------------------------------------------------------------------------------------------------


def test_token_qualities_come_first_and_in_order():
    order = "maj min dim aug sus2 sus4 maj6 min6 maj7 min7 7 hdim7 dim7 minmaj7 7sus4"
    assert " ".join(list(QUALITIES)[:TOKEN_QUALITIES]) == order
    assert len({frozenset(tones) for tones in QUALITIES.values()}) == len(QUALITIES) < 128  # a signed byte


def test_reduce_ends_at_token_qualities_and_keeps_the_third():
    assert np.array_equal(REDUCED[REDUCED], REDUCED) and REDUCED.max() < TOKEN_QUALITIES
    assert np.array_equal(REDUCED[:TOKEN_QUALITIES], np.arange(TOKEN_QUALITIES))
    for name, reduced in zip(QUALITIES, REDUCED, strict=True):
        thirds = {3, 4} & set(QUALITIES[name])
        assert name == "5" or len(thirds) == 2 or thirds == {3, 4} & set(QUALITIES[QUALITY_NAMES[reduced]])


def test_pitch_classes_of_many_chords_are_those_of_each():
    together = pitch_classes(*np.array(EVERY_CHORD).T)
    for row, (root, quality, bass) in zip(together, EVERY_CHORD, strict=True):
        expected = set() if root < 0 else {(root + tone) % 12 for tone in QUALITIES[QUALITY_NAMES[quality]]} | {bass}
        assert set(np.flatnonzero(row).tolist()) == expected


# --- names ----------------------------------------------------------------------------------------------------


def test_what_spell_writes_parse_chord_reads():
    for chord in EVERY_CHORD:
        assert parse_chord(spell(*chord)) == chord, spell(*chord)
        assert from_word(word(*chord[:2])) == chord[:2]
        if chord[2] == chord[0]:
            assert parse_chord(word(*chord[:2])) == chord  # the words of tokens can be typed as well
    with pytest.raises(InputError, match="C:nonsense"):
        from_word("C:nonsense")


def test_what_spell_writes_in_any_key_is_read_back():
    keys = list(itertools.product(range(12), ("major", "minor")))
    for number, chord in enumerate(EVERY_CHORD):
        key = keys[number % len(keys)]
        assert parse_chord(spell(*chord, key)) == chord, spell(*chord, key)


@pytest.mark.parametrize(
    ("key", "written"),
    [
        ((4, "major"), "E C#m7 G#7 F#m7/C# D#m7b5 B/D# Dmaj7 G C A#dim7"),
        ((1, "minor"), "C#m7 F#m7 G#7 E/G# Cdim7"),  # no B#
        ((9, "minor"), "Am G#dim7 E7/G# Bb F"),
        ((10, "major"), "Bb Gm7 Ebmaj7 D7/F# Gbm6 Db/F Cm7/Bb"),
        ((6, "major"), "F# G#m7 A#m7 B C#7"),
        ((3, "minor"), "Ebm Abm Bb7 Gb Db/Ab"),
        ((0, "major"), "C E7/G# Dm7b5/Ab F#m7b5 Db7/F C/Bb Bbmaj7 F#/C#"),
    ],
)
def test_spelling_is_that_of_the_key(key, written):
    assert " ".join(spell(*parse_chord(text), key) for text in written.split()) == written


def test_a_key_has_the_sharps_or_flats_of_its_spelling():
    sharps = {"C": 0, "D": 2, "F#": 6, "Db": -5, "Am": 0, "F": -1, "Ebm": -6, "G#m": 5, "Bm": 2, "Cm": -3}
    assert {name: signature(*parse_key(name)) for name in sharps} == sharps


def test_spelling_is_that_of_a_jazz_chart():
    typed = (
        "C Am Cmaj7 Am7 Bb7#11 F#dim7 Bm7b5 C/E N.C. C6 Cm6 G7sus4 Cm(maj7) C7alt Ebm9 Cadd9 C(b5) Cm6(maj7) Am7b5(11)"
    )
    assert " ".join(spell(*parse_chord(text)) for text in typed.split()) == typed


@pytest.mark.parametrize(
    ("texts", "chord"),
    [
        ("C CM Cmaj Cmajor C:maj C: C:major", named(0, "maj")),
        ("Cm C- Cmin Cmi C:min C:minor", named(0, "min")),
        ("C7maj C7Maj Cmaj7 C^7 C^ CM7 CMA7 Cma7 CΔ CΔ7 C△7 C7M Cj7 CMaj7 C:major-seventh", named(0, "maj7")),
        ("Cm7 C-7 Cmi7 Cmin7 CMI7 c-7 cm7 C−7 C–7 C:minor-seventh C:(b3,5,b7)", named(0, "min7")),
        ("C7 Cdom7 C⁷ C:dominant C7(no5)", named(0, "7")),
        ("Cm7b5 Cø Cø7 C-7b5 Cm7-5 Cm7(b5) Chdim7 C:half-diminished Cm7♭5 Cm7(5-)", named(0, "hdim7")),
        ("F#o7 F♯o7 F#dim7 F#°7 Gb°7 F#º7 F#:diminished-seventh", named(6, "dim7")),
        ("Caug C+ C:augmented", named(0, "aug")),
        ("C+7 C7+ C7#5 C7+5 Caug7 C:augmented-seventh", named(0, "7#5")),
        ("Gsus Gsus4 G4 G:suspended-fourth", named(7, "sus4")),
        ("G7sus G7sus4 Gsus7 G:sus4(b7)", named(7, "7sus4")),
        ("Cm(#7) Cm#7 C-(#7) C-#7 Cm(+7) Cm+7 Cmin+7 Cmi+7 C-+7 C-(♯7)", named(0, "minmaj7")),
        ("Cmaj7 C(#7)", named(0, "maj7")),
        ("Bh7 Bø7 B∅7 Bφ7 BΦ7 Bϕ", named(11, "hdim7")),
        ("Bh9 Bø9 Bhdim9", named(11, "hdim9")),
        ("C13b9#11 C13(b9,#11) C:13b9#11", named(0, "13b9#11")),
        ("Esus(b9) Esusb9 Esus4b9", named(4, "sus4b9")),
        ("Am7b5(11) Aø7(11) Am7b5add11", named(9, "hdim7add11")),
        ("Cm6(maj7) C-6(maj7) Cm6maj7", named(0, "min6maj7")),
        ("CmM7 Cm(maj7) C-^7 CmΔ Cmmaj7 C:minor-major C:major-minor Cm7M", named(0, "minmaj7")),
        ("Cadd9 C2 C(add9) Cadd2 C:maj(9)", named(0, "add9")),
        ("C69 C6/9 C6(9) C:maj69", named(0, "69")),
        ("C9 C7/9 C7(9) C:dominant-ninth", named(0, "9")),
        ("C7b9 C7(b9) C7-9 C7♭9 C7(9-) C7/9-", named(0, "7b9")),
        ("C7#9 C7+9 C7(♯9) C7(9+)", named(0, "7#9")),
        ("C7alt Calt C7(alt)", named(0, "7alt")),
        ("C13sus4 C13sus", named(0, "13sus4")),
        ("Bb7#11 B♭7(#11) A#7#11 bb7#11", named(10, "7#11")),
        ("Abmaj7#11 G#Δ7#11", named(8, "maj7#11")),
        ("C5 C:power C(no3)", named(0, "5")),
        ("Am7/G A-7/G a-7/g A:min7/b7 A:minor-seventh/G", named(9, "min7", 7)),
        ("C/E C:maj/3 C/Fb C:major/E", named(0, "maj", 4)),
        ("Cm-5 Cmin-5 Cdim", named(0, "dim")),
        ("Cmaj7(9+11) Cmaj9#11", parse_chord("Cmaj9#11")),
        ("C7(13-9) C13b9", parse_chord("C13b9")),
        ("F#:maj7/5 F#maj7/C#", named(6, "maj7", 1)),
        ("N.C. NC N n.c. nc X none", NO_CHORD),
    ],
)
def test_what_musicians_type(texts, chord):
    assert {text: parse_chord(text) for text in texts.split()} == {text: chord for text in texts.split()}


def test_double_accidentals_and_case():
    assert parse_chord("Bbb") == parse_chord("A") and parse_chord("F##m") == parse_chord("Gm")
    with pytest.raises(InputError, match="C or Cm"):
        parse_chord("c")
    with pytest.raises(InputError, match="Bb or Bbm"):
        parse_chord("bb")


@pytest.mark.parametrize("root", ["C", "F#", "Bb"])
@pytest.mark.parametrize(
    "kind", [*list(QUALITIES)[:14], "sus4(b7)", "maj(*3)", "min7(*5)", "7(*5)", "(b3,5)", "(3,5,b7)"]
)
@pytest.mark.parametrize("bass", ["", "/3", "/5", "/b7"])
def test_harte_syntax_agrees_with_mir_eval(root, kind, bass):
    label = f"{root}:{kind}{bass}"
    number, bitmap, bass_interval = mir_eval.chord.encode(label)
    expected = {(number + tone) % 12 for tone in np.flatnonzero(bitmap)} | {(number + bass_interval) % 12}
    without_fifth = {(number + 7) % 12} if "*5" in kind else set()  # a fifth left out changes no name
    assert tones(parse_chord(label)) == expected | without_fifth


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "H7",
        "h7",
        "Ah",
        "C7h7",
        "Cfoo",
        "C/H",
        "C//E",
        "C/",
        "add9",
        "dim",
        "C:maj(x)",
        "C:maj(99)",
        "C7b9sus2#11",
        "x3",
        "C é",
    ],
)
def test_unknown_chords_are_named(text):
    with pytest.raises(InputError) as caught:
        parse_chord(text)
    assert repr(text)[:-1] in str(caught.value)


@given(st.text(max_size=30) | st.text("ABCDEFGabmjosud#b-+^0123456789/()., :|%ΔN", max_size=30))
def test_any_text_is_a_chord_or_an_input_error(text):
    for reader in (parse_chord, parse_progression):
        try:
            reader(text)
        except InputError as error:
            assert 0 < len(str(error)) < 1500


def test_a_long_nonsense_is_answered_shortly():
    with pytest.raises(InputError) as caught:
        parse_chord("A" * 100_000)
    assert len(str(caught.value)) < 300


def test_open_brackets_without_end_are_answered_at_once():
    began = time.process_time()
    with pytest.raises(InputError, match="unknown chord"):
        parse_progression("(" * 50_000)
    assert time.process_time() - began < 2


def test_openewld_markers_are_chords():
    files = sorted((DATA / "openewld").glob("*.mid"))[::25]
    if not files:
        pytest.skip("no OpenEWLD here")
    heard = sum(len(read_midi(file).chords) for file in files)
    assert heard > 10 * len(files)


# --- progressions ---------------------------------------------------------------------------------------------


def bars(text):
    """A progression written out again, to compare with: `C Am:1/2 ...`."""
    return " | ".join(" ".join(f"{spell(*chord)}:{share}" for chord, share in bar) for bar in parse_progression(text))


@given(st.lists(st.lists(CHORDS, min_size=1, max_size=4), min_size=1, max_size=12))
def test_a_written_progression_is_read_back(written):
    text = "| " + " | ".join(" ".join(spell(*chord) for chord in bar) for bar in written) + " |"
    read = parse_progression(text)
    for bar, original in zip(read, written, strict=True):
        assert sum(share for _, share in bar) == 1
        assert [chord for chord, _ in bar] == [chord for chord, _ in itertools.groupby(original)]
    assert parse_progression(text.strip("| ") if len(written) > 1 else text) == read


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("C Am F G", "| C | Am | F | G |"),
        ("C, Am, F, G", "| C | Am | F | G |"),
        ("C - Am – F -> G", "| C | Am | F | G |"),
        ("C\nAm\n\nF G\n", "| C | Am | F | G |"),
        ("|C|Am|\n|F|G|", "| C | Am | F | G |"),
        ("| C || Am | F | G |]", "| C | Am | F | G |"),
        ("C | % | F G | %", "| C | C | F G | F G |"),
        ("| C % F % |", "| C C F F |"),
        ("| C / / G |", "| C C C G |"),
        ("| C .. G |", "| C C C G |"),
        ("| C G | . F |", "| C G | G F |"),
        ("|: C | G :|", "| C | G | C | G |"),
        ("|: C | G :| x3 | F |", "| C | G | C | G | C | G | F |"),
        ("|: C :|: G :| (3x)", "| C | C | G | G | G |"),
        ("|: C | D |1. E | F :|2. G | A |", "| C | D | E | F | C | D | G | A |"),
        ("| C | 1. D :| 2. E :|3. F | G |: Am :|", "| C | D | C | E | C | F | G | Am | Am |"),
        ("|: C |1. D :| E |", "| C | D | C | E |"),
        ("|: C |1. D :|2. E :| F |", "| C | D | C | E | F |"),
        ("|: C | 1. D :|2. E :|3. F :|: G :|", "| C | D | C | E | C | F | G | G |"),
        ("C | G :|×2", "| C | G | C | G |"),
        ("|:C:maj|G:7:|", "| C | G7 | C | G7 |"),
        ("| C7(b9, b13) | N.C. |", "| C7b9b13 | N |"),
    ],
)
def test_ways_to_write_the_same(text, same):
    assert bars(text) == bars(same)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty"),
        ("| |\n", "empty"),
        ("| C | Hm |", "bar 2, character 7: unknown chord 'Hm'"),
        ("| C | | G |", "bar 2, character 6: an empty bar"),
        ("| % | C |", "bar 1, character 3: '%' has no chord"),
        ("| / C |", "bar 1, character 3: '/' has no chord"),
        ("C / / /", "bar 2, character 3: '/' holds"),
        ("| F |: C | G", "bar 3, character 5: .* never closed"),
        ("|: C |: G :|", "bar 2, character 6: a second"),
        ("| C | G | x3", "bar 3, character 11"),
        ("C :| x1000", "bar 2"),
        ("C-Am-F-G", "bar 1, character 1: unknown chord"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text, complaint):
    with pytest.raises(InputError, match=complaint):
        parse_progression(text)


def test_lay_out_repeats_and_follows_uneven_bars():
    progression = parse_progression("| C G | Am |")
    rows = lay_out(progression, np.array([0, 1920, 3360, 5280]))
    heard = [(tick, spell(*chord)) for tick, *chord in rows.tolist()]
    assert heard == [(0, "C"), (960, "G"), (1920, "Am"), (3360, "C"), (4320, "G")]
    assert len(lay_out(parse_progression("C"), np.arange(0, 9600, 960))) == 1
    third = lay_out([[(NO_CHORD, Fraction(1, 3)), (named(0, "7"), Fraction(2, 3))]], np.array([0, 1000]))
    assert third["tick"].tolist() == [0, 333]


# --- hearing --------------------------------------------------------------------------------------------------

PATTERNS = {
    "block": lambda tones, beat: [(0, 480, tone) for tone in tones],
    "arpeggio": lambda tones, beat: [(at * 480 // len(tones), 480 // len(tones), t) for at, t in enumerate(tones)],
    "broken": lambda tones, beat: [(at, 240, tones[(2 * beat + at // 240) % len(tones)]) for at in (0, 240)],
}


def played(root, quality, pattern, start=0, bars=2):
    """Notes of a chord in root position, in bars of 4/4 at 480 ticks."""
    tones = [48 + root + tone for tone in sorted(QUALITIES[QUALITY_NAMES[quality]])]
    return [
        (start + beat * 480 + at, length, pitch, 80, 0)
        for beat in range(4 * bars)
        for at, length, pitch in PATTERNS[pattern](tones, beat)
    ]


@pytest.mark.parametrize("root", [0, 7, 10])
@pytest.mark.parametrize(("pattern", "least"), [("block", 15), ("arpeggio", 14), ("broken", 6)])
def test_played_chords_are_heard(root, pattern, least):
    heard = [recognise(Score(played(root, quality, pattern))).tolist() for quality in range(TOKEN_QUALITIES)]
    right = [rows == [(0, root, quality, root)] for quality, rows in enumerate(heard)]
    assert sum(right) >= least and right[0] and right[1], (pattern, heard)


def test_changes_and_inversions_are_heard_where_they_are():
    notes = played(0, 0, "block", bars=1) + played(9, 1, "arpeggio", start=1920, bars=1)
    notes += [(3840, 1920, pitch, 80, 0) for pitch in (47, 55, 62, 67)] + [(5760, 1920, 36, 80, 1)]
    heard = recognise(Score(notes, tracks=(Track(), Track("kit", 0, True, "drums"))))
    assert [(tick, spell(*chord)) for tick, *chord in heard.tolist()] == [
        (0, "C"),
        (1920, "Am"),
        (3840, "G/B"),
        (5760, "N.C."),
    ]


def test_free_time_is_heard_on_half_seconds():
    notes = [(at, 240, pitch, 80, 0) for at in range(0, 2000, 250) for pitch in (48, 52, 55)]
    notes += [(at, 240, pitch, 80, 0) for at in range(2000, 4000, 250) for pitch in (53, 57, 60)]
    heard = recognise(Score(notes, ticks_per_quarter=500, free=True))
    assert [(tick, spell(*chord)) for tick, *chord in heard.tolist()[:2]] == [(0, "C"), (2000, "F")]


@settings(max_examples=40, deadline=None)
@given(scores())
def test_any_score_has_well_formed_chords_and_a_key(score):
    heard = recognise(score)
    assert heard.dtype == CHORD and len(heard) and heard["tick"][0] == 0 and (np.diff(heard["tick"]) > 0).all()
    rows = [row[1:] for row in heard.tolist()]
    assert all(a != b for a, b in itertools.pairwise(rows)) and all(
        row in (NO_CHORD, parse_chord(spell(*row))) for row in rows
    )
    tonic, mode, confidence = estimate_key(score)
    assert 0 <= tonic < 12 and mode in ("major", "minor") and 0 <= confidence <= 2


@given(st.integers(1, 11))
def test_chords_and_key_move_with_the_music(semitones):
    notes = [
        note
        for bar, quality in enumerate((0, 9, 10, 8))
        for note in played(bar * 5 % 12, quality, "block", 1920 * bar, 1)
    ]
    score = Score(notes)
    moved = recognise(score.transpose(semitones))
    assert np.array_equal(moved, score.replace(chords=recognise(score)).transpose(semitones).chords)
    tonic, mode, _ = estimate_key(score)
    assert estimate_key(score.transpose(semitones))[:2] == ((tonic + semitones) % 12, mode)


@pytest.mark.parametrize("tonic", range(12))
@pytest.mark.parametrize("mode", ["major", "minor"])
def test_keys_read_back_as_they_are_written(tonic, mode):
    assert parse_key(key_name(tonic, mode)) == (tonic, mode)


@pytest.mark.parametrize(
    ("text", "key"),
    [("F sharp minor", (6, "minor")), ("B flat", (10, "major")), ("am", (9, "minor")), ("C# major", (1, "major"))],
)
def test_keys_are_read_as_they_are_typed(text, key):
    assert parse_key(text) == key


@pytest.mark.parametrize("text", ["", "H", "D dorian", "C/E", "N.C.", "C7", "bb"])
def test_what_is_no_key_is_refused(text):
    with pytest.raises(InputError, match="--key"):
        parse_key(text)


def test_keys_of_scales():
    def key(pitches):
        return estimate_key(Score([(480 * i, 480, pitch, 80, 0) for i, pitch in enumerate(pitches)]))[:2]

    assert key([60, 62, 64, 65, 67, 69, 71, 72, 67, 64, 60]) == (0, "major")
    assert key([57, 59, 60, 62, 64, 65, 68, 69, 64, 60, 57]) == (9, "minor")
    assert estimate_key(Score()) == (0, "major", 0.0)


def test_viterbi_finds_the_best_of_all_paths():
    generator = np.random.default_rng(0)
    for _ in range(20):
        odds, change = generator.normal(size=(5, 3)), generator.uniform(0.1, 0.9, size=5)
        entry = generator.normal(size=3)
        stay, go = np.log(1 - change), np.log(change / chords._NEXT_CHORDS)

        def worth(path, odds=odds, stay=stay, go=go, entry=entry):
            steps = (
                max(stay[t] if a == b else -np.inf, go[t] + entry[b])
                for t, (a, b) in enumerate(itertools.pairwise(path), 1)
            )
            return entry[path[0]] + odds[np.arange(5), list(path)].sum() + sum(steps)

        best = max(itertools.product(range(3), repeat=5), key=worth)
        assert chords._most_likely(odds, change, entry).tolist() == list(best)


def test_chords_of_hours_take_no_more_memory_than_they_must():
    score = Score([(480 * beat, 480, 60 + beat % 12, 80, 0) for beat in (*range(100), 10_000)])
    tracemalloc.start()
    heard = recognise(score)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 15e6 and heard["tick"].max() < 480 * 110


def test_chords_in_blocks_are_those_of_the_whole(monkeypatch):
    score = tune(3, notes=300)
    whole = recognise(score)
    monkeypatch.setattr(chords, "_BLOCK", 7)
    assert np.array_equal(recognise(score), whole)


def test_pop909_is_heard_as_annotated(monkeypatch):
    if not (DATA / "manifest.csv").exists():
        pytest.skip("no POP909 here")
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    accuracy = importlib.import_module("chord_accuracy")
    songs = importlib.import_module("pop909").folders(DATA, "validation")[:8]
    figures = accuracy.evaluate(songs, "annotated")
    assert figures["majmin"] > 0.88 and figures["root"] > 0.88 and figures["sevenths"] > 0.78
