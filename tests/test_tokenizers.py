"""The laws every tokenizer keeps, over the whole menu."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import scores

from woodshed.symbolic.score import Score
from woodshed.symbolic.tokenizers import EOS, Plan, make

OURS = {
    "remi": make("remi"),
    "remi by bar": make("remi", restate="bar"),
    "performance": make("performance"),
    "performance stretched": make("performance", pedal="stretch"),
}
each = pytest.mark.parametrize("name", OURS)
quick = settings(max_examples=50, deadline=None)


def fit(score: Score, tokenizer) -> bool:
    return not (tokenizer.needs_bars and score.free)


@each
@given(score=scores())
@quick
def test_decode_undoes_encode_up_to_quantize(name, score):
    tokenizer = OURS[name]
    if fit(score, tokenizer):
        assert tokenizer.decode(tokenizer.encode(score)) == tokenizer.quantize(score)


@each
@given(score=scores())
@quick
def test_quantize_moves_no_onset_by_more_than_half_a_step(name, score):
    tokenizer = OURS[name]
    if not fit(score, tokenizer):
        return
    quantized = tokenizer.quantize(score)
    if tokenizer.needs_bars:
        half, had, has = 1 / 24, score.notes["onset"] / score.ticks_per_quarter, quantized.notes["onset"] / 12
    else:
        half, had, has = 0.005, score.seconds(score.notes["onset"]), quantized.seconds(quantized.notes["onset"])
    for pitch in np.unique(score.notes["pitch"]):  # every onset survives for its pitch, near where it was
        before, after = had[score.notes["pitch"] == pitch], has[quantized.notes["pitch"] == pitch]
        assert len(after) > 0
        assert np.abs(before[:, None] - after).min(axis=1).max() <= half + 1e-9
        assert np.abs(before[:, None] - after).min(axis=0).max() <= half + 1e-9


@each
@given(score=scores())
@quick
def test_quantize_twice_is_quantize(name, score):
    tokenizer = OURS[name]
    if fit(score, tokenizer):
        once = tokenizer.quantize(score.replace(chords=()))
        assert tokenizer.quantize(once) == once


def walk(tokenizer, score, start, end, **plan):
    """Feed real ids through the grammar that its own plan makes; every one of them must be allowed or forced."""
    body = tokenizer.body(score, start, end, given=plan.get("given", ()), last=plan.get("last"))
    grammar = tokenizer.grammar(Plan(score, start, end, **plan))
    for place, token in enumerate([*body.ids.tolist(), EOS]):
        if grammar.forced is None:
            assert grammar.allowed()[token], (place, tokenizer.words[token], grammar.stage)
        else:
            assert grammar.forced == token, (place, tokenizer.words[token], tokenizer.words[grammar.forced])
        if grammar.push(token) != token:  # the plan's own chord comes first; the id is asked for again
            pytest.fail(f"{place}: {tokenizer.words[token]} became {tokenizer.words[grammar.ids[-1]]}")
    assert grammar.done


@each
@given(score=scores(), data=st.data())
@quick
def test_grammar_never_forbids_real_music(name, score, data):
    tokenizer = OURS[name]
    if not fit(score, tokenizer):
        return
    given = data.draw(st.sampled_from([(), (score.tracks[0].part,)]))
    last = data.draw(st.sampled_from([None, score.end]))
    walk(tokenizer, score, 0, tokenizer.end(score), given=given, last=last)


@each
@given(seed=st.integers(0, 2**32 - 1), score=scores(), chords=st.booleans(), ring=st.booleans())
@quick
def test_every_sequence_the_grammar_allows_decodes(name, seed, score, chords, ring):
    tokenizer = OURS[name]
    if not fit(score, tokenizer):
        return
    if not chords:
        score = score.replace(chords=())
    rng = np.random.default_rng(seed)
    grammar = tokenizer.grammar(Plan(score, 0, tokenizer.end(score), ring=ring))
    for _ in range(20_000):
        choice = grammar.forced
        if choice is None:
            allowed = np.flatnonzero(grammar.allowed())
            assert len(allowed)
            choice = int(rng.choice(allowed)) if rng.random() < 0.7 else int(allowed[-1])
        grammar.push(choice)
        if grammar.done:
            break
    if not grammar.done:
        return
    music = tokenizer.decode(grammar.ids)
    again = tokenizer.decode(tokenizer.encode(music))
    assert again == tokenizer.quantize(music)
    assert len(music.notes) == len(again.notes)
    if not ring:
        assert music.end <= _planned_end(tokenizer, score)


def _planned_end(tokenizer, score):
    """The plan's end in the ticks of decoded music."""
    if tokenizer.needs_bars:
        from woodshed.symbolic.tokenizers.remi import Bars

        return int(Bars(score, 0, tokenizer.end(score)).starts[-1])
    return max(round(float(score.seconds(tokenizer.end(score))) * 100), 1) * 10
