"""The decode loop, on toy engines behind the real interface."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import scores
from test_tokenizers import OURS, each

from woodshed.errors import InputError
from woodshed.symbolic.music.score import Score
from woodshed.symbolic.playing.decode import Sampling, Stream, decode, in_time, moved, probabilities
from woodshed.symbolic.tokenizers import BOS, Plan, make

CHANGES = Score(tempos=[(0, 500_000)], chords=[(bar * 1920, [0, 9, 2, 7][bar % 4], 0, 0) for bar in range(64)])


class Hashed:
    """An engine with a limit, whose logits depend on all ids of a row and on nothing else."""

    def __init__(self, vocab_size, limit=4096):
        self.vocab_size, self.limit, self.starts = vocab_size, limit, 0

    def start(self, rows):
        self.rows = [list(row) for row in rows]
        self.longest = max(map(len, rows))
        self.starts += 1
        return self._logits()

    def __call__(self, ids):
        self.longest += 1  # like a cache, it does not shrink when the longest row leaves
        for row, token in zip(self.rows, ids.tolist(), strict=True):
            row.append(token)
        return self._logits()

    def keep(self, rows):
        self.rows = [self.rows[row] for row in rows]

    def _logits(self):
        assert self.longest <= self.limit
        seeds = [[len(row), *row[-3:]] for row in self.rows]
        return np.stack([np.random.default_rng(seed).normal(0, 3, self.vocab_size) for seed in seeds]).astype(
            np.float32
        )


def streams(tokenizer, count, *, bars=16, ring=False, top_p=0.95):
    def one(seed):
        grammar = tokenizer.grammar(Plan(CHANGES, 0, bars * 1920, ring=ring))
        return Stream([BOS], [BOS], grammar, Sampling(top_p=top_p), seed)

    return [one(seed) for seed in range(count)]


@each
@pytest.mark.parametrize("context", [160, 4096])
def test_takes_come_out_the_same_alone_or_among_others(name, context):
    tokenizer = OURS[name]
    together = streams(tokenizer, 4, bars=6)
    decode(Hashed(tokenizer.vocab_size, context), together, context=context)
    for seed, stream in enumerate(together):
        alone = streams(tokenizer, seed + 1, bars=6)[-1]
        decode(Hashed(tokenizer.vocab_size, context), [alone], context=context)
        assert alone.ids == stream.ids


@each
def test_a_take_ends_on_its_bar_line_with_its_chords_in_place(name):
    tokenizer = OURS[name]
    takes = streams(tokenizer, 2, bars=4)
    decode(Hashed(tokenizer.vocab_size), takes, context=4096)
    for take in takes:
        music = tokenizer.decode(take.ids)
        assert 0 < music.end <= (192 if tokenizer.needs_bars else 8000)  # four bars
        assert [chord[1] for chord in music.chords.tolist()] == [0, 9, 2, 7]
        assert np.allclose(music.seconds(music.chords["tick"]), [0, 2, 4, 6], atol=0.3)
        assert len(music.notes)


@each
def test_past_the_context_the_window_moves_at_a_bar_line(name):
    tokenizer = OURS[name]
    take = streams(tokenizer, 1, bars=64)[0]
    engine = Hashed(tokenizer.vocab_size, 128)
    decode(engine, [take], context=128)
    assert engine.starts >= len(take.ids) / 128
    music = tokenizer.decode(take.ids)
    assert len(take.ids) > 4 * 128
    assert tokenizer.decode(tokenizer.encode(music)) == tokenizer.quantize(music)


@each
def test_a_moved_window_reads_like_the_music_it_keeps(name):
    """What the window keeps, decoded alone, is the end of what was written."""
    tokenizer = OURS[name]
    take = streams(tokenizer, 1, bars=8)[0]
    decode(Hashed(tokenizer.vocab_size), [take], context=10_000)
    window = take.grammar.window(len(take.ids) // 2)
    assert len(window) <= len(take.ids) // 2 + 4
    whole, end = tokenizer.decode(take.ids), tokenizer.decode(window)
    assert len(end.notes) > 0
    shift = whole.end - end.end
    begin = end.notes["onset"].min()  # notes held across the cut are struck again there
    ours = {(n[0] + shift, n[0] + n[1] + shift, n[2], n[3]) for n in end.notes.tolist() if n[0] > begin}
    theirs = {(n[0], n[0] + n[1], n[2], n[3]) for n in whole.notes.tolist() if n[0] > begin + shift}
    assert ours and ours == theirs


@each
def test_a_long_prefix_leaves_the_window_its_share(name):
    tokenizer = OURS[name]
    take = streams(tokenizer, 1, bars=16)[0]
    decode(Hashed(tokenizer.vocab_size), [take], context=10_000)
    take.prefix = [BOS] * 200  # what comes after a hole, half of the context
    assert 200 + 100 >= len(moved(take, 400)) > 200 + 50


def test_a_model_with_more_ids_than_we_have_words_for_plays():
    tokenizer = OURS["remi"]
    take = streams(tokenizer, 1, bars=2)[0]
    decode(Hashed(tokenizer.vocab_size + 5000), [take], context=4096)
    assert take.grammar.done and max(take.ids) < tokenizer.vocab_size


def test_max_length_ends_at_a_bar_line():
    tokenizer = OURS["remi"]
    take = streams(tokenizer, 1)[0]
    decode(Hashed(tokenizer.vocab_size), [take], context=4096, max_length=300)
    assert 0 < len(take.ids) < 300
    assert tokenizer.words[take.grammar.ids[len(take.ids)]].startswith("Bar")


def test_max_length_ends_at_a_bar_line_where_tokens_have_no_word_for_it():
    pytest.importorskip("miditok")
    tokenizer = make("miditok:TSD")
    (take,) = streams(tokenizer, 1, bars=400)
    decode(Hashed(tokenizer.vocab_size), [take], context=4096, max_length=300)
    assert 0 < len(take.ids) < 300
    assert tokenizer.words[take.grammar.ids[len(take.ids)]].startswith(("TimeShift", "Rest"))


@given(
    logits=st.lists(st.floats(-20, 20), min_size=1, max_size=30),
    top_k=st.integers(0, 10),
    top_p=st.floats(0.05, 1),
    min_p=st.floats(0, 0.9),
    temperature=st.floats(0, 3),
)
@settings(max_examples=200, deadline=None)
def test_filters_keep_the_likeliest_and_renormalise(logits, top_k, top_p, min_p, temperature):
    logits = np.round(logits, 3)  # no ties that only the last bit tells apart
    chances = probabilities(logits, Sampling(temperature, top_k, top_p, min_p))
    assert chances == pytest.approx(filtered(logits, temperature, top_k, top_p, min_p))


def filtered(logits, temperature, top_k, top_p, min_p):
    """What is left of each chance, filter by filter; of equally likely ids top_k and min_p take all."""
    order = np.argsort(-logits, kind="stable").tolist()
    if temperature < 1e-3:
        return np.eye(len(logits))[order[0]]
    softmax = np.exp((logits - logits.max()) / temperature)
    softmax /= softmax.sum()
    least = max(softmax[order[min(top_k or len(logits), len(logits)) - 1]], min_p * softmax.max())
    order = [one for one in order if softmax[one] >= least]
    left, enough = np.zeros(len(logits)), top_p * sum(softmax[one] for one in order)
    for one in order:
        left[one] = softmax[one] if left.sum() < enough or top_p == 1 else 0
    return left / left.sum()


def test_time_passes_as_the_model_has_it():
    rng = np.random.default_rng(0)
    logits, passes = rng.normal(0, 2, 60).astype(np.float32), np.arange(60) < 40
    plain, sampling = probabilities(logits, Sampling()), Sampling(temperature=0.5, top_p=0.8)
    found = in_time(logits, sampling, passes)
    assert found.sum() == pytest.approx(1)
    assert np.allclose(found[passes], plain[passes])
    assert np.allclose(found[~passes], plain[~passes].sum() * probabilities(logits[~passes], sampling))
    for mask in (passes | True, passes & False):
        assert np.allclose(in_time(logits, sampling, mask), plain if mask.all() else probabilities(logits, sampling))
    assert in_time(logits, Sampling(temperature=0), passes).max() == 1  # the likeliest, whatever it is


@pytest.mark.parametrize("wrong", [dict(temperature=-1), dict(top_p=0), dict(min_p=1), dict(top_k=-1)])
def test_impossible_sampling_is_refused_by_name(wrong):
    with pytest.raises(InputError, match=f"--{next(iter(wrong)).replace('_', '-')}"):
        Sampling(**wrong)


@given(score=scores(free=False))
@settings(max_examples=5, deadline=None)
def test_a_prompt_longer_than_the_context_is_refused(score):
    tokenizer = OURS["remi"]
    stream = streams(tokenizer, 1)[0]
    stream.prompt = [BOS] * 64
    with pytest.raises(InputError, match="64 ids"):
        decode(Hashed(tokenizer.vocab_size), [stream], context=64)


def test_a_chord_that_comes_early_is_the_shift_to_its_place():
    tokenizer = OURS["performance"]
    grammar, index = streams(tokenizer, 1, bars=4)[0].grammar, tokenizer.index
    chord = tokenizer.words.index("CHORD_N") + 1

    def passes(word):
        while grammar.forced is not None:
            grammar.push(grammar.forced)
        for struck in ("VELOCITY_9", "NOTE_ON_60", word, "NOTE_OFF_60"):
            assert grammar.push(index[struck]) == index[struck]
        return grammar.allowed()[chord]

    assert not passes("TIME_SHIFT_50ms")
    assert passes("TIME_SHIFT_150ms")  # the chord is stated again on the second beat, at half a second
    assert grammar.push(chord) == index["TIME_SHIFT_300ms"] and grammar.now == 50
    assert tokenizer.words[grammar.forced].startswith("CHORD_C")
