"""A task posed and read is the quantized piece, whatever the region; real music passes the grammar of its own plan."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import scores
from test_tokenizers import OURS, each, fit, walk

from woodshed.symbolic.data.tasks import Region, describe, pose, prompt, read
from woodshed.symbolic.music.score import PARTS, Score


def regions(tokenizer, score):
    """Regions of a Score: stretches between bar lines (or any seconds in free time), in all or some parts."""
    end = tokenizer.end(score)
    if tokenizer.needs_bars:
        lines = score.bars(end)
        lines = [int(line) for line in lines if line < end and line % max(score.ticks_per_quarter // 4, 1) == 0] + [end]
    else:
        step = max(score.ticks_per_quarter // 2, 1)
        lines = [*range(0, end, step), end]
    start = st.integers(0, len(lines) - 2)
    parts = st.sampled_from([None, *((track.part,) for track in score.tracks)])
    return st.tuples(start, st.integers(1, len(lines) - 1), parts).map(
        lambda x: Region(lines[x[0]], lines[max(x[0] + 1, x[1])], x[2])
    )


@each
@given(score=scores(), data=st.data())
@settings(max_examples=40, deadline=None)
def test_read_undoes_pose(name, score, data):
    tokenizer = OURS[name]
    if fit(score, tokenizer):
        region = data.draw(regions(tokenizer, score))
        posed = pose(tokenizer, score, region, head=describe(score))
        assert read(tokenizer, posed.ids, score, region) == tokenizer.quantize(score)


@pytest.mark.parametrize(("start", "end"), [(0, 1000), (990, 2000), (1000, 2010), (1010, 3000)])
def test_a_pedal_renewed_at_the_edge_of_a_region_is_renewed(start, end):
    notes, pedals = [(0, 3000, 60, 80, 0)], [(0, 127, 0), (1000, 0, 0), (1000, 127, 0), (2000, 0, 0), (2000, 127, 0)]
    score, region = Score(notes, pedals, ticks_per_quarter=500, free=True), Region(start, end)
    tokenizer = OURS["performance"]
    played = read(tokenizer, pose(tokenizer, score, region).ids, score, region)
    assert played == tokenizer.quantize(score) and np.count_nonzero(played.pedals["value"]) == 3


@each
@given(score=scores(), data=st.data())
@settings(max_examples=40, deadline=None)
def test_grammar_of_a_region_lets_its_own_music_through(name, score, data):
    tokenizer = OURS[name]
    if fit(score, tokenizer):
        region = data.draw(regions(tokenizer, score))
        walk(tokenizer, score, region.start, region.end, given=region.given(score))


@each
@given(score=scores())
@settings(max_examples=20, deadline=None)
def test_only_the_region_is_learned(name, score):
    tokenizer = OURS[name]
    if not fit(score, tokenizer):
        return
    region = Region(0, tokenizer.end(score))
    posed = pose(tokenizer, score, region)
    assert posed.loss_mask[1:].all() and not posed.loss_mask[0]
    assert np.array_equal(posed.ids, tokenizer.encode(score))
    some = Region(0, region.end, (score.tracks[0].part,))
    posed = pose(tokenizer, score, some)
    before = len(prompt(tokenizer, score, some))
    assert not posed.loss_mask[:before].any()
    if some.given(score):
        words = np.array(tokenizer.to_words(posed.ids))
        assert not posed.loss_mask[words == "Given"].any()


def test_describe_tells_played_from_notated():
    scale = [0, 2, 4, 5, 7, 9, 11, 12]
    flat = Score([(480 * i, 480, 60 + p, 80, 0) for i, p in enumerate(scale)])
    played = Score([(480 * i, 480, 60 + p, 60 + 4 * i, 0) for i, p in enumerate(scale)])
    assert describe(flat)[0] == "Notated" and describe(played)[0] == "Played"
    assert describe(flat)[1] == "Density_1"  # two notes a second
    assert describe(Score()) == []


@pytest.mark.parametrize("part", PARTS)
def test_every_part_has_a_word(part):
    for tokenizer in OURS.values():
        assert f"Part_{part}" in tokenizer.index
