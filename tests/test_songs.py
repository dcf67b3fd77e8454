"""The same song known again: by its figures, its notes, its name."""

from itertools import combinations

import numpy as np
import pytest
from folders import tune

from woodshed.symbolic.data import songs


@pytest.mark.parametrize("seed", range(4))
def test_figures_do_not_change_with_key_tempo_touch_or_place(seed):
    piece = tune(seed)
    figures = songs.figures(piece)
    notes = piece.notes.copy()
    notes["onset"] += 777
    notes["velocity"] = 64
    for other in (piece.transpose(3), piece.stretch(0.8), piece.freed(), piece.replace(notes=notes)):
        assert np.array_equal(songs.figures(other), figures)
    assert len(np.intersect1d(songs.figures(tune(seed + 100)), figures)) < songs.TAKE * len(figures)


def test_shared_figures_equal_those_counted_one_pair_at_a_time():
    rng = np.random.default_rng(0)
    sets = [np.unique(rng.integers(0, 60, size)).astype(np.uint64) for size in (0, 5, 30, 30, 50, 1)]
    naive = {(a, b): len(np.intersect1d(sets[a], sets[b])) for a, b in combinations(range(len(sets)), 2)}
    pairs, counts = songs.shared(sets)
    found = dict(zip(map(tuple, pairs.tolist()), counts.tolist(), strict=True))
    assert found == {pair: count for pair, count in naive.items() if count}


def test_the_same_notes_elsewhere_are_the_same_content():
    piece = tune()
    notes = piece.notes.copy()
    notes["onset"] += 1000
    assert songs.content(piece.replace(notes=notes)) == songs.content(piece)
    assert songs.content(piece.retime(960)) == songs.content(piece)
    notes["pitch"][7] += 1
    assert songs.content(piece.replace(notes=notes)) != songs.content(piece)


def test_joined_groups_by_their_first_member():
    assert songs.joined(6, [(4, 2), (2, 5), (1, 3)]) == [0, 1, 2, 1, 2, 2]
    assert songs.joined(0, []) == []


@pytest.mark.parametrize(
    ("path", "song"),
    [
        ("001/versions/001-v1.mid", "001/001"),
        ("My Song (2).mid", "my song"),
        ("a/Blues - Take 3.mid", "a/blues"),
        ("Blues_v2 copy.mid", "blues"),
        ("etude 2.mid", "etude 2"),
        ("take 5.mid", "take 5"),
        ("v1.mid", "v1"),
    ],
)
def test_names_of_takes(path, song):
    assert songs.named_song(path) == song
