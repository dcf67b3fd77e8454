"""The laws every tokenizer keeps, over the whole menu."""

import numpy as np
import pytest
from folders import tune
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import DATA, scores

from woodshed.errors import InputError, RunError
from woodshed.symbolic import tokenizers
from woodshed.symbolic.music.score import PARTS, Score, Track, shifted
from woodshed.symbolic.tokenizers import EOS, Plan, make, open_tokenizer, strikes
from woodshed.symbolic.tokenizers.miditok import VARIANTS

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


@given(notes=st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 2), st.integers(-20, 20)), max_size=20))
@quick
def test_strikes_are_those_of_a_plain_loop(notes):
    notes.sort(key=lambda note: note[0])
    room = strikes(*np.array(notes, dtype=np.int64).reshape(-1, 3).T)
    for place, (step, voice, rank) in enumerate(notes):
        later = [other for other, its, _ in notes if its == voice and other > step]
        together = [(its, at) for at, (other, whose, its) in enumerate(notes) if (other, whose) == (step, voice)]
        if min(together) != (rank, place):
            assert room[place] == 0
        elif later:
            assert room[place] == min(later) - step
        else:
            assert room[place] > 2**20


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


@each
@pytest.mark.parametrize("given", [(), ("accompaniment",)])
def test_where_some_parts_are_asked_for_no_others_are_written(name, given):
    band = (Track("", 0, False, "accompaniment"), Track("", 0, False, "bass"))
    score, rng = tune(3, tracks=band, notes=160), np.random.default_rng(1)
    grammar = OURS[name].grammar(Plan(score, 0, score.end, given=given, ring=False, only=("bass", "melody")))
    parts = range(grammar.part_words, grammar.part_words + len(PARTS))
    while not grammar.done:
        ids = np.flatnonzero(grammar.allowed()) if grammar.forced is None else [grammar.forced]
        words = np.intersect1d(ids, parts)
        grammar.push(int(rng.choice(words if len(words) and rng.random() < 0.7 else ids)))
    assert {PARTS[part] for *_, part in grammar.notes} == {"bass", "melody"}


def _planned_end(tokenizer, score):
    """The plan's end in the ticks of decoded music."""
    if tokenizer.needs_bars:
        from woodshed.symbolic.tokenizers.remi import Bars

        return int(Bars(score, 0, tokenizer.end(score)).starts[-1])
    return max(round(float(score.seconds(tokenizer.end(score))) * 100), 1) * 10


@pytest.mark.parametrize("variant", VARIANTS)
def test_miditok_moves_no_onset_by_more_than_half_a_step(variant):
    tokenizer, phrase = make(f"miditok:{variant}"), tune(notes=32)
    score = phrase.replace(
        notes=np.concatenate([phrase.notes, shifted(phrase.notes, 480 * 50 + 60)])
    )  # after a long rest
    found, onsets = tokenizer.quantize(score), score.notes["onset"] / 480
    assert found.notes["onset"] / found.ticks_per_quarter == pytest.approx(onsets, abs=0.5 / tokenizer.steps)


@pytest.mark.parametrize("variant", VARIANTS)
@given(score=scores(free=False), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_miditok_keeps_the_same_laws(variant, score, seed):
    tokenizer = make(f"miditok:{variant}")
    score = score.replace(metres=(), notes=score.notes[score.notes["pitch"] > 20])
    ids = tokenizer.encode(score)
    quantized = tokenizer.quantize(score)
    assert tokenizer.decode(ids) == quantized
    assert len(quantized.notes) <= len(score.notes)
    grammar, rng = tokenizer.grammar(Plan(score, 0, 4 * score.ticks_per_quarter)), np.random.default_rng(seed)
    while not grammar.done and len(grammar.ids) < 2000:
        forced = grammar.forced
        grammar.push(int(rng.choice(np.flatnonzero(grammar.allowed()))) if forced is None else forced)
    assert tokenizer.decode(grammar.ids).ticks_per_quarter == quantized.ticks_per_quarter


@pytest.mark.parametrize("name", [*tokenizers.names(), "miditok:TSD"])
def test_a_saved_tokenizer_opens_again_and_in_hugging_face(name, tmp_path):
    from tokenizers import Tokenizer as HubTokenizer

    tokenizer = make(name)
    tokenizer.save(tmp_path)
    again = open_tokenizer(tmp_path)
    assert again.words == tokenizer.words and again.fingerprint == tokenizer.fingerprint
    hub = HubTokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert hub.get_vocab() == tokenizer.index
    words = [tokenizer.words[1], tokenizer.words[-1]]
    assert hub.encode(" ".join(words)).ids == [1, tokenizer.vocab_size - 1]


def test_performance_ids_are_as_published():
    index = OURS["performance"].index
    published = dict(PAD=0, BOS=1, EOS=2, NOTE_ON_60=63, NOTE_OFF_60=191, TIME_SHIFT_10ms=259, TIME_SHIFT_1000ms=358)
    published |= dict(VELOCITY_0=359, VELOCITY_31=390, PEDAL_ON=391, PEDAL_OFF=392, CHORD_N=457)
    assert {word: index[word] for word in published} == published
    assert OURS["performance"].words[393].startswith("Part_")
    assert OURS["performance"].words[456].startswith("Left_")


@pytest.mark.parametrize("late", [0, 2, 8])
def test_a_pedal_that_is_renewed_is_lifted(late):
    """As pianists do at every change of chord, and notation programs write at one tick."""
    bars, performance = range(1000, 4000, 1000), make("performance")
    renewed = [row for bar in bars for row in ((bar, 0, 0), (bar + late, 127, 0))]
    notes = [(bar, 1000, 60, 80, 0) for bar in range(0, 4000, 1000)]
    score = Score(notes, [(0, 90, 0), *renewed, (4000, 0, 0)], ticks_per_quarter=500, free=True)
    lifts = [row for bar in bars for row in ((bar, 0, 0), (bar + 10, 127, 0))]
    played = performance.quantize(score)
    assert played.pedals.tolist() == [(0, 127, 0), *lifts, (4000, 0, 0)]
    assert performance.quantize(played) == played == performance.decode(performance.encode(score))


def test_a_chord_stands_in_the_stream():
    score = Score([(0, 500, 60, 80, 0)], chords=[(0, 0, 8, 0)], ticks_per_quarter=500, free=True)
    words = OURS["performance"].to_words(OURS["performance"].encode(score))
    assert words == ["BOS", "CHORD_C:maj7", "VELOCITY_20", "NOTE_ON_60", "TIME_SHIFT_500ms", "NOTE_OFF_60", "EOS"]


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("rem", {}, "choose from: miditok, performance, remi"),
        ("remi", {"x": 1}, "does not take"),
        ("remi", {"restate": "never"}, "'bar' or 'beat'"),
        ("performance", {"pedal": "no"}, "'stretch'"),
        ("miditok:Octuple", {}, "MIDILike, REMI"),
    ],
)
def test_an_unknown_tokenizer_or_setting_is_refused_by_name(name, settings, message):
    with pytest.raises(InputError, match=message):
        make(name, **settings)


def test_remi_refuses_free_time():
    with pytest.raises(InputError, match="performance"):
        OURS["remi"].encode(Score(free=True, ticks_per_quarter=500))


def test_a_tokenizer_of_another_version_is_refused(tmp_path):
    OURS["remi"].save(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(path.read_text().replace(OURS["remi"].fingerprint, "0123456789ab"))
    with pytest.raises(RunError, match="0123456789ab"):
        open_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["remi", "performance"])
@pytest.mark.skipif(not DATA.exists(), reason="needs the shared data")
def test_real_music_keeps_the_laws(name):
    from woodshed.symbolic.music.midi import read_midi

    tokenizer = OURS[name]
    for path in sorted(DATA.glob("pop909/00[1-5]/*.mid")) + sorted(DATA.glob("mutopia/**/*.mid"))[:5]:
        score = read_midi(path)
        assert tokenizer.decode(tokenizer.encode(score)) == tokenizer.quantize(score)
        walk(tokenizer, score, 0, tokenizer.end(score), last=score.end)


@pytest.mark.parametrize(
    ("name", "one", "near", "far"),
    [
        ("remi", "Pitch_60", "Pitch_72", "Pitch_73"),
        ("remi", "Chord_A:min7", "Pitch_60", "Pitch_61"),
        ("remi", "Chord_D:min", "Chord_D:min7", "Chord_E:maj"),
        ("remi", "Chord_C:maj", "Bass_E", "Bass_F"),
        ("remi", "Key_Db", "Pitch_61", "Pitch_62"),
        ("remi", "Position_6", "Position_18", "Position_7"),
        ("remi", "Duration_12", "Duration_11", "Duration_48"),
        ("performance", "NOTE_ON_61", "NOTE_OFF_61", "NOTE_OFF_62"),
        ("performance", "CHORD_C:maj", "NOTE_ON_64", "NOTE_ON_65"),
        ("performance", "TIME_SHIFT_100ms", "TIME_SHIFT_110ms", "TIME_SHIFT_900ms"),
        ("miditok:TSD", "Pitch_60", "Pitch_72", "Pitch_73"),
    ],
)
def test_ids_with_more_in_common_have_more_features_in_common(name, one, near, far):
    tokenizer = make(name)
    features = tokenizer.features
    assert len(features) == tokenizer.vocab_size and features.any(axis=1).all()
    one, near, far = (features[tokenizer.index[word]] for word in (one, near, far))
    assert one @ near > one @ far
