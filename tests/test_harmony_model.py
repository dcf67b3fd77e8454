"""The model behind harmonise(): beside naive references, and how its parameters are made."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open
from test_harmonise import BENCHMARKS, load, names, tune, wandering

from woodshed.symbolic.music import harmonise as module
from woodshed.symbolic.music.harmonise import (
    CHORDS,
    QUALITIES,
    chord_odds,
    decode,
    harmonise,
    lasting,
    parameters,
)
from woodshed.symbolic.music.melody import CHANNELS, FACTS, OWN, Slots, features, make_slots, melody_line
from woodshed.symbolic.music.midi import write_midi
from woodshed.symbolic.music.score import Score

# --- naive references -----------------------------------------------------------------------------------------


def test_the_line_is_the_top_and_does_not_overlap():
    rows = [(0, 960, 72, 80, 0), (0, 960, 60, 80, 0), (480, 240, 64, 80, 0), (900, 480, 71, 80, 0)]
    line = melody_line(Score([*rows, *((tick, 2000, 40 + tick // 480, 80, 0) for tick in (0, 480, 960))]))
    assert line[["onset", "duration", "pitch"]].tolist() == [(0, 900, 72), (900, 480, 71)]


def test_features_say_how_long_each_pitch_class_sounds_in_a_slot():
    score = wandering(6, scale=range(12))
    line, slots = melody_line(score), make_slots(score)
    channels, facts = features(line, slots)
    count = len(slots.bar)
    assert channels.shape == (count, CHANNELS, 12) and facts.shape == (count, FACTS)
    for slot in range(count):
        share = np.zeros(12)
        for onset, duration, pitch, *_ in line.tolist():
            for tick in range(onset, onset + duration):
                share[pitch % 12] += slots.edges[slot] <= tick < slots.edges[slot + 1]
        assert np.allclose(channels[slot, OWN], share / np.diff(slots.edges)[slot], atol=1e-6)
    assert np.allclose(channels[1:, OWN - 1], channels[:-1, OWN]) and not channels[0, OWN - 1].any()


def test_the_network_hears_each_root_by_itself():
    rng, p = np.random.default_rng(0), parameters()
    channels = rng.random((3, CHANNELS, 12), dtype=np.float32)
    facts = rng.random((3, FACTS), dtype=np.float32)
    naive = np.zeros((3, 12, len(QUALITIES)))
    for row, root in itertools.product(range(3), range(12)):
        heard = np.concatenate([np.roll(channel, -root) for channel in channels[row]])
        hidden = np.maximum(heard @ p["channels"] + facts[row] @ p["facts"] + p["bias"], 0)
        naive[row, root] = np.maximum(hidden @ p["hidden"] + p["hidden_bias"], 0) @ p["out"] + p["out_bias"]
    naive = naive.reshape(3, CHORDS)
    expected = np.exp(naive) / np.exp(naive).sum(1, keepdims=True)
    assert np.allclose(np.exp(chord_odds(channels, facts)), expected, atol=1e-5)


FEW = (0, 2, 45, 63)  # C, C7, F, G


@pytest.fixture(scope="module")
def small():
    """Five slots (a bar of three, and two) whose chords can only be FEW, and the weight of every progression."""
    slots = Slots(np.arange(6) * 480, np.array([2, 3, 4, 2, 3]), np.array([0, 0, 0, 1, 1]))
    odds = np.full((5, CHORDS), -60.0)
    odds[:, FEW] = np.log(np.random.default_rng(3).dirichlet(np.ones(len(FEW)), 5))
    p, (last, _) = parameters(), lasting(slots)
    weights = {}
    for path in itertools.product(FEW, repeat=5):
        weight = p["first"][0][path[0]] * module.ENDING + p["last"][0][path[-1]] * module.ENDING
        begin = [0, *(slot for slot in range(1, 5) if path[slot] != path[slot - 1])]
        for start, stop in itertools.pairwise([*begin, 5]):
            chord = path[start]
            weight += last[start, stop - start - 1]
            weight += sum(module.HEARING * odds[slot, chord] for slot in range(start, stop))
            weight -= module.COMMON * p["key_chords"][0][chord] * (stop - start)
            if start:
                weight += module.FOLLOWING * p["transitions"][0][path[start - 1], chord]
        weights[path] = weight
    return odds, slots, weights


def test_the_best_progression_is_the_best_of_all(small):
    odds, slots, weights = small
    path = decode(odds, np.zeros(5, dtype=int), slots)
    assert tuple(path) == max(weights, key=weights.get)


# --- the parameters and how they are made ---------------------------------------------------------------------


def test_the_parameters_are_small_and_say_where_they_come_from():
    assert module.FILE.stat().st_size < 500_000
    with safe_open(module.FILE, "numpy") as file:
        about = file.metadata()["about"]
    assert all(word in about for word in ("OpenEWLD", "POP909", "Licence: MIT"))
    p = parameters()
    for name in ("key_notes", "key_chords", "first", "last", "transitions"):
        assert np.allclose(np.exp(p[name]).sum(-1), 1, atol=0.02), name
    assert np.exp(p["transitions"])[:, np.eye(CHORDS, dtype=bool)].max() < 1e-4
    assert (p["changes"] > 0).all() and (p["changes"] < 1).all()


def test_harmony_needs_no_torch():
    code = (
        "import sys, woodshed; woodshed.harmonise(woodshed.Score([(0, 480, 60, 80, 0)])); print('torch' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


def test_the_recipe_learns_the_chords_it_is_shown(tmp_path, monkeypatch):
    recipe = load(BENCHMARKS.parent / "recipes" / "harmony.py")
    monkeypatch.setattr(recipe, "EPOCHS", 12)
    monkeypatch.setattr(recipe, "BATCH", 16)
    monkeypatch.setattr(recipe, "HIDDEN", 16)
    (tmp_path / "openewld").mkdir()
    rows = []
    for number, name in enumerate(("Silent night", "Greensleeves", "Twinkle, twinkle, little star")):
        score = tune(name)
        write_midi(score.replace(chords=harmonise(score)), tmp_path / "openewld" / f"{number}.mid")
        rows.append(f"openewld/{number}.mid,openewld,train")
    (tmp_path / "manifest.csv").write_text("\n".join(["file,set,split", *rows]), encoding="utf-8")
    for out in ("one", "two"):
        recipe.main([str(tmp_path), "--out", str(tmp_path / out)])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    monkeypatch.setattr(module, "FILE", tmp_path / "one")
    parameters.cache_clear()
    try:
        score = tune("Silent night")
        assert {"C", "F"} <= set(names(harmonise(score))) <= {"C", "F", "G", "G7", "Dm7", "Am", "E7"}
    finally:
        parameters.cache_clear()


def test_dissonant_overlap_is_the_time_of_semitones():
    overlap = load(BENCHMARKS / "harmonise.py").dissonant_overlap
    melody, other = wandering(8, 1), wandering(8, 2)

    def naive(*scores):
        lines = [score.notes[["onset", "duration", "pitch"]].tolist() for score in scores]
        rubs = both = 0
        for tick in range(0, 8 * 1920, 120):
            sung, played = ([p for at, long, p in line if at <= tick < at + long] for line in lines)
            both += bool(sung and played)
            rubs += any((a - b) % 12 in (1, 11) for a in sung for b in played)
        return rubs / both

    assert overlap(melody, other) == pytest.approx(naive(melody, other)) and overlap(melody, other) > 0
    assert overlap(melody, other.transpose(-24)) == overlap(melody, other)
    assert overlap(melody, melody) == 0 and overlap(melody, melody.transpose(-13)) == 1
    assert np.isnan(overlap(melody, Score()))
