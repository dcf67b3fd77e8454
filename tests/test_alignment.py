"""Lines of notes and their alignments, beside naive references."""

import numpy as np
import pytest
from hypothesis import given
from strategies import scores

from woodshed.symbolic.data import alignment
from woodshed.symbolic.data.alignment import (
    BAND,
    COST,
    DRIFT,
    NOTE,
    SLACK,
    TOGETHER,
    Lines,
    Pairs,
    align,
    lines,
)


def naive_line(notes: list[tuple], sign: int) -> list[tuple]:
    """(pitch, onset) of the notes (onset, end, pitch) that no other covers."""
    kept = []
    for n, (onset, end, pitch) in enumerate(notes):
        half = onset + max((end - onset) / 2, TOGETHER)
        others = [(o, e, sign * p, k) for k, (o, e, p) in enumerate(notes) if k != n]
        begins_with = [abs(o - onset) <= TOGETHER and (p, -k) > (sign * pitch, -n) for o, e, p, k in others]
        sounding = [k < n and e >= half and p > sign * pitch for o, e, p, k in others]
        if not any(begins_with + sounding):
            kept.append((pitch, onset))
    return kept


@given(scores())
def test_lines_equal_those_made_note_by_note(score):
    found, tpq = lines(score), score.ticks_per_quarter
    notes = [n for n in score.notes.tolist() if not score.tracks[n[4]].drums]
    tracks = sorted({n[4] for n in notes})
    groups = [("highest", set(tracks), 1), ("lowest", set(tracks), -1)]
    groups += [(score.tracks[t].part, {t}, 1) for t in tracks if len(tracks) > 1]
    assert found.names == tuple(name for name, *_ in groups)
    if len(notes) <= alignment.NEIGHBOURS:
        for k, (_, members, sign) in enumerate(groups):
            rows = [(n[0] / tpq, n[0] / tpq + n[1] / tpq, n[2]) for n in notes if n[4] in members]
            mine = slice(*found.starts[k : k + 2])
            naive = [(pitch, np.float32(onset)) for pitch, onset in naive_line(rows, sign)]
            assert list(zip(found.pitch[mine].tolist(), found.time[mine], strict=True)) == naive


def naive_align(mine, theirs, gains, move, tempo) -> int:
    """Smith and Waterman on whole lines of (pitch, time), cell by cell."""
    table = [[0] * (len(theirs) + 1) for _ in range(len(mine) + 1)]
    for i, (pitch, time) in enumerate(mine):
        for j, (other, then) in enumerate(theirs):
            mine_gap = time - mine[i - 1][1] if i else 0.0
            gap = then - theirs[j - 1][1] if j else 0.0
            late = abs(mine_gap * tempo - gap) > SLACK * max(tempo, 1) + DRIFT * gap
            gain = -COST if pitch + move != other else 0 if late and table[i][j] else gains[i]
            table[i + 1][j + 1] = max(0, table[i][j] + gain, table[i][j + 1] - COST, table[i + 1][j] - COST)
    return max(map(max, table))


def random_lines(rng, count: int) -> Lines:
    """Lines on a small scale, in eighths and quarters: much agrees by chance."""
    sizes = rng.integers(1, 30, count)
    starts = np.append(0, np.cumsum(sizes))
    time = np.concatenate([np.cumsum(rng.choice([0.5, 1.0], size)) for size in sizes])
    pitch = rng.integers(60, 64, starts[-1])
    return Lines(pitch.astype(np.int16), time.astype(np.float32), starts, ("highest",) * count, np.arange(count))


def rows(these: Lines, k: int) -> list[tuple]:
    part = slice(*these.starts[k : k + 2])
    return list(zip(these.pitch[part].tolist(), these.time[part].tolist(), strict=True))


@pytest.mark.parametrize("seed", range(5))
def test_alignments_equal_those_made_cell_by_cell(seed):
    rng = np.random.default_rng(seed)
    mine, theirs, count = random_lines(rng, 6), random_lines(rng, 6), 12
    gains = rng.integers(0, NOTE + 1, len(mine.pitch))
    one, other = rng.integers(0, 6, count), rng.integers(0, 6, count)
    move, tempo = rng.integers(-1, 2, count), rng.choice([0.5, 1.0, 2.0], count)
    low = theirs.starts[other] - mine.starts[one] - BAND // 2
    for c, (score, i, j) in enumerate(align(mine, theirs, gains, Pairs(one, other, move, low, tempo))):
        naive = naive_align(rows(mine, one[c]), rows(theirs, other[c]), gains[mine.starts[one[c]] :], move[c], tempo[c])
        assert score == naive
        assert (mine.pitch[i] + move[c] == theirs.pitch[j]).all()
        assert (np.diff(i) > 0).all() and (np.diff(j) > 0).all()
        assert score <= gains[i].sum()
