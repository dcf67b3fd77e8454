"""The guard: what it notices in music made to run aground, that it lets real music be, and how it steps back."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import DATA
from test_decode import Hashed
from test_harmonise import BENCHMARKS, load
from test_tokenizers import OURS

from woodshed.symbolic.music.midi import read_midi
from woodshed.symbolic.music.score import Score, Track
from woodshed.symbolic.playing import guard as limits
from woodshed.symbolic.playing.decode import Sampling, Stream, advance, decode
from woodshed.symbolic.playing.guard import Guard, notice
from woodshed.symbolic.tokenizers import BOS, Plan

both = pytest.mark.parametrize("name", ["remi", "performance"])
BAR, SECONDS = 48, 2.0  # steps and seconds of the bars below


def bars(count):
    return np.arange(count + 1) * BAR, np.arange(count + 1) * SECONDS


def notes(rows):
    return np.array(rows, dtype=np.int64).reshape(-1, 3)


# --- what is noticed -------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(
    phrase=st.lists(st.tuples(st.integers(0, 47), st.integers(30, 90)), min_size=2, max_size=12, unique=True),
    length=st.sampled_from([0.5, 1, 2, 3]),
    times=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_a_phrase_is_a_loop_when_it_came_often_and_long_enough(phrase, length, times, seed):
    rng, phrase = np.random.default_rng(seed), [(0, 35), *phrase]
    begun = [(at, at + 3, pitch) for at, pitch in zip(range(0, 4 * BAR, 5), rng.permutation(60) + 36, strict=False)]
    period = round(length * BAR)
    loop = [
        (4 * BAR + turn * period + at * period // BAR, 4 * BAR + turn * period + at * period // BAR + 3, pitch)
        for turn in range(times)
        for at, pitch in phrase
    ]
    count = 4 + int(-(-times * length // 1))
    fault = notice(notes(begun + loop), *bars(count))
    long = times * length >= limits.LOOP_BARS + 1  # a bar more than the limit: the last phrase may end early
    if times > limits.LOOP_TIMES and long and length <= limits.LOOP_PERIOD:
        assert fault.name == "looped" and abs(fault.since - 4 * BAR - period) <= 2 * BAR
    elif times < limits.LOOP_TIMES or length > limits.LOOP_PERIOD:
        inner = smallest_period([pitch for _, pitch in sorted(phrase)])
        assert fault is None or inner < len(phrase)


def smallest_period(row):
    return next(lag for lag in range(1, len(row) + 1) if row[lag:] == row[: len(row) - lag])


@pytest.mark.parametrize("change", ["none", "pitch", "time"])
def test_a_phrase_that_changes_each_time_is_no_loop(change):
    rows = []
    for bar in range(12):
        for at, pitch in ((0, 48), (12, 55), (24, 60), (36, 55)):
            at += bar % 3 * (change == "time" and at == 24)
            pitch += bar % 5 * (change == "pitch" and at == 24)
            rows.append((bar * BAR + at, bar * BAR + at + 12, pitch))
    fault = notice(notes(rows), *bars(12))
    assert (fault is not None and fault.name == "looped") == (change == "none")


@pytest.mark.parametrize(
    ("kind", "rows", "count", "since"),
    [
        ("silent", [(30, 40, 60)], 7, 30),
        ("silent", [], 6, 0),
        ("stuck", [(100, -1, 60), *((at, at + 5, 61 + at % 15) for at in range(0, 768, 17))], 16, 100),
        (
            "stuck",
            [(at, at + 96, 60) for at in range(0, 1536, 96)] + [(a, a + 5, a % 59) for a in range(0, 1536, 7)],
            32,
            0,
        ),
        ("dense", [(144 + at // 3, 200, at % 128) for at in range(130)], 4, 144),
    ],
)
def test_what_has_run_aground_is_noticed_and_since_when(kind, rows, count, since):
    fault = notice(notes(rows), *bars(count))
    assert fault == (kind, since)
    before = notes([row for row in rows if row[0] < 3 * BAR])
    assert notice(before, *bars(3)) is None or kind == "dense"


def test_seconds_count_as_well_as_bars():
    """Four silent bars are a rest in a fast piece, and silence in a slow one."""
    rows, times = notes([(0, 10, 60)]), bars(6)[0]
    assert notice(rows, times, times / BAR * 3.0).name == "silent"
    assert notice(rows, times, times / BAR * 1.0) is None


@pytest.mark.skipif(not DATA.exists(), reason="needs the shared data")
def test_real_music_is_let_be():
    faults = load(BENCHMARKS / "guard.py").faults
    with open(DATA / "manifest.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    for name, count in (("pop909", 6), ("lieder", 8), ("giantmidi", 1)):
        for row in [row for row in rows if row["set"] == name][:count]:
            assert faults(read_midi(DATA / row["file"])) == {}


# --- stepping back ---------------------------------------------------------------------------------------------


class Toy(Hashed):
    """Pure chance, but for its love of the words of `cycle`, of each after the one before it."""

    def __init__(self, tokenizer, cycle, love=30.0):
        super().__init__(tokenizer.vocab_size, 60_000)
        self.cycle, self.love = [tokenizer.index[word] for word in cycle.split()], love

    def _logits(self):
        logits = super()._logits()
        for row, scores in zip(self.rows, logits, strict=True):
            after = [place + 1 for place, token in enumerate(self.cycle) if token == row[-1]]
            scores[[self.cycle[place % len(self.cycle)] for place in after] or self.cycle[:1]] += self.love
        return logits


ILL = {
    (
        "remi",
        "looped",
    ): "Bar_None Position_0 Pitch_48 Velocity_60 Duration_12 Position_24 Pitch_55 Velocity_68",
    ("remi", "silent"): "Bar_None",
    ("remi", "stuck"): "Bar_None Position_0 Pitch_48 Velocity_60 Duration_48",
    ("performance", "looped"): "NOTE_ON_48 TIME_SHIFT_500ms NOTE_OFF_48 TIME_SHIFT_20ms",
    ("performance", "silent"): "TIME_SHIFT_1000ms",
    ("performance", "stuck"): "NOTE_ON_48 TIME_SHIFT_1000ms",
}


def stream(tokenizer, seed=0, most=2, bars=32, temperature=1.0):
    """One take, guarded against all but what no one can play."""
    plan = Plan(Score(tempos=[(0, 600_000)]), 0, bars * 1920, ring=False, last=None)
    guard = Guard(most, pitches=(0, 127), together=128)
    return Stream([BOS], [BOS], tokenizer.grammar(plan), Sampling(temperature), seed, guard=guard)


@pytest.mark.parametrize(("name", "kind"), ILL)
def test_a_model_made_to_run_aground_is_caught(name, kind):
    tokenizer = OURS[name]
    take, engine = stream(tokenizer), Toy(tokenizer, cycle=ILL[name, kind])
    decode(engine, [take], context=60_000)
    told = take.guard.happened
    assert {row["noticed"] for row in told} & {kind, "looped" if kind == "stuck" else kind}
    assert len(told) == 3 and told[-1]["back_to"] is None  # two steps back, and then it is let go on
    assert engine.starts == 1 + 2
    assert all(0 <= row["back_to"] < row["bar"] + 1 and row["warmer"] > 0 for row in told[:2])
    assert take.grammar.done and len(take.sums) == len(take.ids)


@pytest.mark.parametrize("longest", [6.0, 10.0])
def test_a_key_that_was_forgotten_is_lifted(longest):
    tokenizer = OURS["performance"]
    lengths = {}
    for guard in (None, Guard(longest_note=longest)):
        take = replace(stream(tokenizer), guard=guard)
        love = Toy(tokenizer, cycle="NOTE_ON_48 TIME_SHIFT_1000ms NOTE_ON_60 TIME_SHIFT_900ms", love=9.0)
        decode(love, [take], context=60_000)
        rows = np.array(take.grammar.notes)
        lengths[guard is None] = take.grammar.seconds(rows[:, 1]) - take.grammar.seconds(rows[:, 0])
    assert lengths[True].max() > longest + 2  # what this model does by itself
    assert longest <= lengths[False].max() <= longest + 1  # a time shift is a second at most


@both
def test_no_key_is_struck_out_of_range(name):
    tokenizer, lows, highs = OURS[name], [], []
    for guard in (None, Guard(pitches=(50, 61))):
        take = replace(stream(tokenizer, bars=4), guard=guard)
        decode(Hashed(tokenizer.vocab_size, 60_000), [take], context=60_000)
        pitches = np.array(take.grammar.notes)[:, 2]
        lows.append(pitches.min()), highs.append(pitches.max())
    assert lows[0] < 50 and highs[0] > 61  # what this model does by itself
    assert 50 <= lows[1] <= highs[1] <= 61


@both
def test_no_more_keys_are_struck_at_once_than_may_be(name):
    tokenizer, most = OURS[name], []
    for guard in (None, Guard(together=3)):
        take = replace(stream(tokenizer, bars=4), guard=guard)
        decode(Hashed(tokenizer.vocab_size, 60_000), [take], context=60_000)
        onsets = np.array(take.grammar.notes)[:, 0]
        most.append(np.unique(onsets, return_counts=True)[1].max())
    assert most[0] > 3 >= most[1]


@both
def test_what_has_drums_is_let_through(name):
    """One pitched note at a time, and a drum with each: drums neither count nor are left out."""
    tokenizer = OURS[name]
    tracks = (Track("a", 0, False, "melody"), Track("b", 0, True, "drums"))
    notes = [(at, 240, pitch, 80, track) for at in range(0, 7680, 480) for track, pitch in enumerate((60, 38))]
    ids = tokenizer.body(Score(notes, tracks=tracks), 0, 7680).ids
    guard, grammar = Guard(pitches=(60, 60), together=1), tokenizer.grammar(Plan(Score(), 0, 7680, last=None))
    for token in ids:
        if grammar.forced is None and not grammar.done:
            assert guard.playable(grammar, grammar.allowed())[token], tokenizer.words[token]
        grammar.push(int(token))
    assert len(grammar.notes) == 32


@both
def test_a_model_that_runs_wild_is_caught_before_its_bar_ends(name):
    tokenizer = OURS[name]
    words = np.array(tokenizer.words)
    striking = np.char.startswith(words, "Pitch") | np.char.startswith(words, "NOTE_ON")
    soon = np.char.startswith(words, "Position") | np.char.startswith(words, "TIME_SHIFT")

    class Wild(Hashed):
        def _logits(self):
            return super()._logits() + 2000 * striking + soon * (1000 - 5 * np.cumsum(soon))

    take = stream(tokenizer, bars=4)
    decode(Wild(tokenizer.vocab_size, 60_000), [take], context=60_000)
    told = take.guard.happened
    assert len(told) >= 2 and {row["noticed"] for row in told} == {"dense"} and told[0]["bar"] == 0


@both
def test_a_take_that_gets_out_of_it_cools_down_again(name):
    """A model that is silent until it is drawn a little warmer."""
    tokenizer = OURS[name]
    take = stream(tokenizer, most=4, bars=8)

    class Shy(Toy):
        def _logits(self):
            self.love *= not take.warmer
            return super()._logits()

    rest = "Bar_None" if name == "remi" else "TIME_SHIFT_1000ms"
    decode(Shy(tokenizer, cycle=rest, love=60.0), [take], context=60_000)
    first = take.guard.happened[0]
    assert first["noticed"] == "silent" and first["back_to"] == 0 and first["warmer"] == limits.WARMER
    assert len(take.guard.happened) < 4 and take.warmer == 0
    assert take.grammar.seconds(take.grammar.notes[0][0]) < 5  # notes where silence was


@both
def test_music_from_nothing_strikes_its_first_note_before_it_is_due(name):
    tokenizer, rest = OURS[name], {"remi": "Bar_None", "performance": "TIME_SHIFT_1000ms"}[name]
    takes = [stream(tokenizer, seed, bars=4) for seed in range(4)]
    for take in takes:
        take.guard.sets_in = int(take.grammar.steps(480))
    decode(Toy(tokenizer, cycle=rest, love=8.0), takes, context=60_000)
    assert all(take.grammar.notes[0][0] < take.guard.sets_in for take in takes)
    free = stream(tokenizer, bars=4)
    decode(Toy(tokenizer, cycle=rest, love=8.0), [free], context=60_000)
    assert free.grammar.notes[0][0] >= free.grammar.steps(480)


@both
def test_guarded_takes_are_the_same_alone_or_among_others(name):
    tokenizer = OURS[name]
    engine = {"cycle": ILL[name, "looped"], "love": 16.0}
    together = [stream(tokenizer, seed, most=2, bars=16) for seed in range(2)]
    decode(Toy(tokenizer, **engine), together, context=400)
    assert sum(len(take.guard.happened) for take in together) > 0
    for seed, take in enumerate(together):
        alone = stream(tokenizer, seed, most=2, bars=16)
        decode(Toy(tokenizer, **engine), [alone], context=400)
        assert (alone.ids, alone.guard.happened) == (take.ids, take.guard.happened)
        assert alone.log_likelihood == pytest.approx(take.log_likelihood)


@both
def test_a_guard_that_finds_nothing_changes_nothing(name):
    tokenizer = OURS[name]
    takes = [stream(tokenizer, 5, bars=2), stream(tokenizer, 5, bars=2)]  # no key can be down for too long
    takes[1].guard = None
    for take in takes:
        decode(Hashed(tokenizer.vocab_size), [take], context=60_000)
    assert takes[0].guard.happened == [] and takes[0].ids == takes[1].ids


@both
@pytest.mark.parametrize("given", [(), ("bass",)])
def test_a_rewound_stream_stands_where_it_stood(name, given):
    tokenizer = OURS[name]
    notes = [(at, 300, 40, 80, 0) for at in range(0, 7680, 960)]
    score = Score(notes, chords=[(1920, 0, 0, 0), (3840, 7, 0, 11)], tracks=(Track("one", part="bass"),))
    grammar = tokenizer.grammar(Plan(score, 0, 7680, given=given, ring=False))
    take, rng, seen = Stream([BOS], [BOS], grammar, Sampling(), 0), np.random.default_rng(1), []
    while not take.grammar.done:
        grammar = take.grammar
        open_ = None if grammar.forced is not None else grammar.allowed()
        state = [list(note) for note in grammar.notes], [list(note) for note in grammar.held], list(grammar.times)
        seen.append((open_, state, (take.log_likelihood, take.sampled, take.legal), grammar.now))
        advance(take, rng.normal(0, 3, tokenizer.vocab_size).astype(np.float32))
    ids = list(take.ids)
    for count in sorted({0, 1, len(ids) // 3, len(ids) // 2, len(ids) - 1}, reverse=True):
        take.rewind(count)
        open_, state, sums, now = seen[count]
        grammar = take.grammar
        assert take.ids == ids[:count] and not grammar.done and grammar.now == now
        assert (grammar.notes, grammar.held, grammar.times) == state
        assert (take.log_likelihood, take.sampled, take.legal) == sums
        assert open_ is None if grammar.forced is not None else (grammar.allowed() == open_).all()
