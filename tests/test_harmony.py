"""Harmony: under it a model of pure chance keeps to the chords, and music that keeps to them goes through."""

import numpy as np
import pytest
from test_decode import Hashed
from test_tokenizers import OURS, each

from woodshed.symbolic.music.chords import TONES, lay_out, parse_progression
from woodshed.symbolic.music.measure import bass_adherence, chord_adherence, strong_beat_adherence
from woodshed.symbolic.music.score import PARTS, Score, Track
from woodshed.symbolic.playing.decode import Sampling, Stream, decode
from woodshed.symbolic.playing.harmony import BIAS, Harmony
from woodshed.symbolic.tokenizers import BOS, EOS, Plan

CHARTS = [
    ("C Am F G", (4, 4)),
    ("Cmaj7 Am7 | Dm7 C7b9", (4, 4)),
    ("C/E | F6/9 | Bb13#11/D | Gsus4 A7 D", (3, 4)),
    ("F#m7b5 | N.C. | Ebmaj9#11 D", (6, 8)),
]


def stage(text, metre=(4, 4), bars=8, bpm=100):
    """Chords laid out over bars, and the tick where they end."""
    bar = 480 * 4 * metre[0] // metre[1]
    chords = lay_out(parse_progression(text), np.arange(bars + 1) * bar)
    return Score(metres=[(0, *metre)], tempos=[(0, round(6e7 / bpm))], chords=chords), bars * bar


def placed(music, score):
    """Decoded notes in the ticks of the stage, under the chords that were asked for."""
    notes = music.notes.copy()
    ends = notes["onset"] + notes["duration"]
    if music.free:
        notes["onset"], ends = score.ticks(music.seconds(notes["onset"])), score.ticks(music.seconds(ends))
    else:
        notes["onset"], ends = notes["onset"] * 40, ends * 40
    notes["duration"] = ends - notes["onset"]
    return score.replace(notes=notes, tracks=music.tracks)


def chance_plays(tokenizer, text, metre, mode, takes=2, given=(), score=None, closing=None):
    score, end = stage(text, metre) if score is None else score
    plan = Plan(score, 0, end, given=given, ring=False)
    streams = []
    for seed in range(takes):
        grammar = tokenizer.grammar(plan)
        harmony = Harmony(plan, grammar, mode, closing)
        streams.append(Stream([BOS], [BOS], grammar, Sampling(), seed, harmony))
    decode(Hashed(tokenizer.vocab_size), streams, context=50_000)
    return [placed(tokenizer.decode_body(np.array(stream.ids)), score) for stream in streams]


def enter(grammar, tokenizer, *words):
    """Push words, and all that the plan puts in before each of them."""
    for word in words:
        token = tokenizer.index[word]
        while grammar.push(token if grammar.forced is None else grammar.forced) != token:
            pass


def marks(takes):
    return [np.nanmean([measure(take) for take in takes]) for measure in (strong_beat_adherence, bass_adherence)]


@each
@pytest.mark.parametrize(("text", "metre"), CHARTS)
def test_under_strict_harmony_pure_chance_keeps_both_marks(name, text, metre):
    takes = chance_plays(OURS[name], text, metre, "strict")
    strong, bass = marks(takes)
    assert strong >= 0.99 and bass >= 0.95
    assert min(len(take.notes) for take in takes) > 20


@pytest.mark.parametrize("name", ["remi", "performance"])
def test_guided_lies_between_free_and_strict(name):
    modes = ("free", "guided", "strict")
    every = [marks(chance_plays(OURS[name], "C Am F G", (4, 4), mode, takes=16)) for mode in modes]
    assert (np.diff(every, axis=0) > 0.02).all()


@pytest.mark.parametrize(("name", "first"), [("remi", "Position_0"), ("performance", "VELOCITY_9")])
@pytest.mark.parametrize(("text", "basses"), [("C", range(128)), ("C/E", range(4, 128, 12))])
def test_a_bass_after_a_slash_is_kept_in_guided_harmony_too(name, first, text, basses):
    score, end = stage(text, bars=1)
    plan, tokenizer = Plan(score, 0, end), OURS[name]
    grammar = tokenizer.grammar(plan)
    harmony = Harmony(plan, grammar, "guided")

    inverted = ["Bass_E"] * (name == "remi" and text == "C/E")
    enter(grammar, tokenizer, first, *inverted, "Part_accompaniment")
    mask = harmony(grammar, np.zeros(tokenizer.vocab_size), grammar.allowed())[1]
    assert np.flatnonzero(mask[grammar.keys :][:128]).tolist() == list(basses)


@each
@pytest.mark.parametrize("mode", ["free", "guided", "strict"])
def test_without_a_chord_the_parts_that_carry_chords_are_silent(name, mode):
    """N.C. is asked for by name, so that it is kept where harmony is guided too."""
    carry, quiet, every = ("bass", "accompaniment", "left", "other"), [], []
    for take in chance_plays(OURS[name], "C | N.C. | F | N.C.", (4, 4), mode, takes=6):
        onset, part = take.notes["onset"].astype(int), np.array([take.tracks[n].part for n in take.notes["track"]])
        ends, carried = onset + take.notes["duration"], np.isin(part, carry)
        quiet.append(((onset + 58) // 1920 % 2 == 1) & carried)
        every.append(carried)
        over = carried & (onset // 1920 % 2 == 0) & (ends > (onset // 1920 + 1) * 1920 + 60)
        assert mode == "free" or not over[onset < (onset // 1920 + 1) * 1920 - 60].any()
    share = np.concatenate(quiet).sum() / np.concatenate(every).sum()
    assert share > 0.4 if mode == "free" else share == 0


@pytest.mark.parametrize("name", ["remi", "performance"])
def test_an_accompaniment_alone_rests_where_no_chord_is(name):
    score, end = stage("C | N.C.", bars=2)
    melody = Score([(0, 240, 72, 80, 0)], tracks=(Track("tune", part="melody"),))
    score = score.replace(notes=melody.notes, tracks=melody.tracks)
    only = tuple(part for part in PARTS if part != "accompaniment")
    for take in chance_plays(OURS[name], "", None, "strict", given=only, score=(score, end)):
        assert len(take.notes) and (take.notes["onset"] < 1920 - 50).all()


@pytest.mark.parametrize("name", ["remi", "performance"])
def test_weak_beats_stay_free_and_notes_in_passing_end_before_they_clash(name):
    for take in chance_plays(OURS[name], "C", (4, 4), "strict"):
        notes, drums = take.notes, [track.drums for track in take.tracks]
        notes = notes[~np.array(drums)[notes["track"]]]
        outside = notes[~np.isin(notes["pitch"] % 12, (0, 4, 7)) & (notes["onset"] < 7 * 1920)]
        assert len(outside) > 5
        onsets, ends = outside["onset"].astype(int), outside["onset"].astype(int) + outside["duration"]
        near = 58  # ticks; and a tick for rounding
        assert (np.abs(onsets - np.rint(onsets / 960) * 960) > near - 1).all()  # bar lines and half bars
        assert (ends <= -(-onsets // 960) * 960 + 1).all()


@each
@pytest.mark.parametrize("mode", ["free", "guided", "strict"])
@pytest.mark.parametrize(
    ("text", "metre", "where"),
    [("C Am F G", (4, 4), 0), ("Cmaj7 | %", (4, 4), 0), ("F | C/E", (3, 4), 0), ("C F | G7 C", (4, 4), 960)],
)
def test_an_ending_is_struck_by_the_middle_of_its_last_bar_and_rings_on(name, mode, text, metre, where):
    """`where` in the last bar is its last chord: over its bass only tones of it, each of which sounds to the end."""
    score, end = stage(text, metre, bars=4)
    closing, near = end - 480 * metre[0], 60
    _, root, quality, bass = score.chords[-1].tolist()
    for take in chance_plays(OURS[name], text, metre, mode, score=(score, end), closing=closing):
        notes = take.notes[[not take.tracks[track].drums for track in take.notes["track"]]]
        onset, ends = notes["onset"].astype(int), notes["onset"].astype(int) + notes["duration"]
        assert take.notes["onset"].max() <= closing + max(240 * metre[0], where) + near
        last = onset >= closing + where - near
        assert TONES[quality, (notes["pitch"][last] - root) % 12].all()
        voices = [(row["pitch"], row["track"]) for row in notes]  # a pitch that is struck again ends where it was
        until = {voice: stop for voice, stop in zip(voices, ends, strict=True)}
        assert (
            min(until[voice] for voice, late in zip(voices, last, strict=True) if late) >= end - 160
        )  # REMI's lengths
        for moment in (closing + where + near, end - 160):
            sounding = (onset <= moment) & (ends >= moment)
            assert notes["pitch"][sounding].min() % 12 == bass


@pytest.mark.parametrize("name", ["remi", "performance"])
@pytest.mark.parametrize("text", ["", "C | N.C."])
def test_an_ending_without_a_chord_is_struck_by_its_middle_too(name, text):
    score, end = stage("C | N.C.", bars=4)
    score = score if text else score.replace(chords=())
    takes = chance_plays(OURS[name], text, None, "free", score=(score, end), closing=end - 1920)
    assert max(take.notes["onset"].max() for take in takes) <= end - 960 + 60


def test_a_listed_tension_is_a_tone_of_its_chord_and_an_unlisted_one_is_not():
    score, end = stage("C7b9 | C7")
    plan, remi = Plan(score, 0, end), OURS["remi"]
    grammar, index = remi.grammar(plan), remi.index
    harmony = Harmony(plan, grammar)

    def after(*words):
        enter(grammar, remi, *words)
        return harmony(grammar, np.zeros(remi.vocab_size), grammar.allowed())[1]

    mask = after("Position_0", "Chord_C:7", "Part_melody")
    assert mask[index["Pitch_61"]] and mask[index["Pitch_58"]] and not mask[index["Pitch_62"]]
    note = ("Velocity_60", "Duration_6")
    assert after("Pitch_61", *note, "Part_bass", "Pitch_36", *note, "Position_14")[index["Pitch_62"]]
    mask = after("Bar_None", "Position_0", "Chord_C:7", "Part_melody")
    assert mask[index["Pitch_58"]] and not mask[index["Pitch_61"]]


def test_the_bass_is_asked_of_the_parts_that_carry_it_and_melody_may_come_first():
    score, end = stage("C/E", bars=1)
    plan, remi = Plan(score, 0, end), OURS["remi"]
    grammar, index = remi.grammar(plan), remi.index
    harmony = Harmony(plan, grammar)

    def after(*words):
        enter(grammar, remi, *words)
        return harmony(grammar, np.zeros(remi.vocab_size), grammar.allowed())[1]

    mask = after("Position_0", "Chord_C:maj", "Bass_E")
    assert mask[index["Part_melody"]] and mask[index["Part_left"]] and not mask[index["Part_right"]]
    mask = after("Part_melody")
    assert mask[index["Pitch_60"]] and not mask[index["Pitch_62"]]
    mask = after("Pitch_60", "Velocity_60", "Duration_12")
    assert not mask[remi.grammar(plan).leaves].any()  # the moment is not left without its bass
    mask = after("Part_accompaniment")
    assert np.flatnonzero(mask[index["Pitch_0"] : index["Pitch_127"]]).tolist() == [4, 16, 28, 40, 52]
    assert after("Pitch_40", "Velocity_60", "Duration_12")[index["Position_6"]]


def test_a_part_that_has_no_bass_is_asked_for_none():
    score, end = stage("C Am F G", bars=4)
    given = Score([(0, end, 40, 80, 0)], tracks=(Track("piano", 0, False, "accompaniment"),))
    score = score.replace(notes=given.notes, tracks=given.tracks)
    only = tuple(part for part in PARTS if part != "melody")
    takes = chance_plays(OURS["remi"], "", None, "strict", given=only, score=(score, end))
    melody = [take for take in takes if len(take.notes)]
    assert melody and all(strong_beat_adherence(take) == 1 for take in melody)
    assert min(bass_adherence(take) for take in melody) < 1


def test_what_breaks_a_rule_is_made_less_likely_and_its_heir_inherits():
    score, end = stage("C D", bars=2)
    plan, remi = Plan(score, 0, end), OURS["remi"]
    grammar, index = remi.grammar(plan), remi.index
    enter(grammar, remi, "Position_42", "Pitch_65", "Velocity_60")
    logits, allowed = np.random.default_rng(0).normal(0, 2, remi.vocab_size), grammar.allowed()

    def shares(logits, mask):
        chances = np.where(mask, np.exp(logits), 0)
        return chances / chances.sum()

    free = shares(logits, allowed)
    guided, strict = (shares(*Harmony(plan, grammar, mode)(grammar, logits, allowed)) for mode in ("guided", "strict"))
    lengths = [index[f"Duration_{steps}"] for steps in (1, 6, 7, 48)]  # F over D: six steps are left
    assert strict[lengths[2]] == strict[lengths[3]] == 0
    assert 0 < strict[lengths[0]] == pytest.approx(free[lengths[0]])
    assert strict[lengths[1]] == pytest.approx(1 - free[lengths[0] : lengths[1]].sum())
    assert guided[lengths[3]] == pytest.approx(free[lengths[3]] * np.exp(-BIAS))
    assert free[lengths[1]] < guided[lengths[1]] < strict[lengths[1]]


@each
def test_without_chords_nothing_changes(name):
    tokenizer = OURS[name]
    score, end = stage("C Am F G", bars=2)
    for other, told in ((score.replace(chords=()), True), (stage("N.C.")[0], False)):
        plan = Plan(other, 0, end, ring=False)
        with_, without = (tokenizer.grammar(plan) for _ in range(2))
        streams = [
            Stream([BOS], [BOS], with_, Sampling(), 1, Harmony(plan, with_, told=told)),
            Stream([BOS], [BOS], without, Sampling(), 1),
        ]
        decode(Hashed(tokenizer.vocab_size), streams, context=20_000)
        assert streams[0].ids == streams[1].ids


@pytest.mark.parametrize("name", ["remi", "performance"])
def test_music_that_keeps_the_rules_is_never_hindered(name):
    """Block chords over their roots, melody on top: every id of theirs is allowed under strict harmony."""
    tokenizer = OURS[name]
    score, end = stage("C Am/C Dm7 G7b9", bars=4)
    tones = [(48, 55, 64), (48, 57, 64), (50, 53, 60), (43, 56, 65)]
    notes = [(bar * 1920, 1900, pitch, 80, 1) for bar, chord in enumerate(tones) for pitch in chord]
    melody = [(0, 400, 76), (720, 200, 77), (960, 900, 79), (3600, 240, 73), (3840, 900, 74), (5760, 1900, 80)]
    tracks = (Track("song", 0, False, "melody"), Track("piano", 0, False, "accompaniment"))
    score = score.replace(notes=[*notes, *[(*row, 90, 0) for row in melody]], tracks=tracks)
    assert strong_beat_adherence(score) == bass_adherence(score) == 1 and chord_adherence(score) < 1
    plan = Plan(score, 0, end)
    grammar = tokenizer.grammar(plan)
    harmony = Harmony(plan, grammar)
    for token in [*tokenizer.body(score, 0, end).ids.tolist(), EOS]:
        if grammar.forced is None:
            logits = np.zeros(tokenizer.vocab_size)
            assert harmony(grammar, logits, grammar.allowed())[1][token], tokenizer.words[token]
        assert grammar.push(token) == token
