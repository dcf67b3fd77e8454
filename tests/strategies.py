"""Random Scores for the laws, and where the real music is."""

from pathlib import Path

from hypothesis import strategies as st

from woodshed.symbolic.music.score import PARTS, Score, Track

DATA = Path(__file__).parents[1].parent / "shared" / "data"

METRES = st.sampled_from([(4, 4), (3, 4), (6, 8), (2, 2), (5, 8), (7, 4), (12, 8), (13, 8), (12, 2), (1, 4), (3, 16)])
CHORD = st.tuples(st.integers(-1, 11), st.integers(0, 20), st.integers(0, 11))


@st.composite
def scores(draw, free=None):
    """A Score of up to 40 notes in one to three parts, with tempo, metre, pedal and chords, on a grid or free."""
    free = draw(st.booleans()) if free is None else free
    tpq = 500 if free else draw(st.sampled_from([12, 96, 480, 1000]))
    parts = draw(st.lists(st.sampled_from(PARTS), min_size=1, max_size=3))
    tracks = tuple(Track(part, 0, part == "drums", part) for part in parts)
    tick = st.integers(0, 16 * tpq)
    note = st.tuples(
        tick, st.integers(1, 4 * tpq), st.integers(0, 127), st.integers(1, 127), st.integers(0, len(parts) - 1)
    )
    notes = draw(st.lists(note, max_size=40))
    pedals = draw(st.lists(st.tuples(tick, st.integers(0, 127), st.just(0)), max_size=6))
    chords = [
        (at, root, quality if root >= 0 else 0, bass if root >= 0 else -1)
        for at, (root, quality, bass) in draw(st.lists(st.tuples(tick, CHORD), max_size=6))
    ]
    if free:
        return Score(notes, pedals, (), (), chords, tracks, tpq, free=True)
    tempos = draw(st.lists(st.tuples(tick, st.integers(200_000, 2_000_000)), max_size=3))
    metres = draw(st.lists(st.tuples(tick, METRES), max_size=3))
    return Score(notes, pedals, tempos, [(at, *metre) for at, metre in metres], chords, tracks, tpq)
