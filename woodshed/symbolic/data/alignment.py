"""Music as lines of notes, and how two lines that are nearly alike lie against one another.

lines(score) -> Lines           the highest and lowest notes of the whole, and the highest of each part
figures(lines)                  runs of five intervals, which know neither key nor time
align(...)                      the best local alignments of many pairs of lines at once
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..music.chords import pitched
from ..music.score import Score

FIGURE = 5  # intervals
TOGETHER = 1 / 8  # quarters within which onsets are one chord: half a sixteenth
NEIGHBOURS = 24  # notes after a note, among which are all that it covers
SLACK, DRIFT = 1 / 6, 0.1  # by which inter-onset times may differ: quarters, and a share of the time
NOTE = 1000  # of alignment scores, which are integers, to one note that gains in full
COST = NOTE  # of a note altered, added or left out
BAND = 48  # distances between two lines that one alignment reaches
STOP, EQUAL, OTHER, ADDED, LEFT_OUT = range(5)  # steps of an alignment


class Lines(NamedTuple):
    """Lines of notes one after another: positions `starts[k]` to `starts[k + 1]` are line k."""

    pitch: np.ndarray  # (L,) int16
    time: np.ndarray  # (L,) float32, in quarters
    starts: np.ndarray  # (K + 1,)
    names: tuple[str, ...]  # K times "highest", "lowest", or the part
    pieces: np.ndarray  # (K,) whose line it is

    def owners(self) -> np.ndarray:
        """The line of each position: (L,)."""
        return np.repeat(np.arange(len(self.names)), np.diff(self.starts))


def lines(score: Score) -> Lines:
    """The lines of a score; drums have none.

    A highest line leaves out what begins with a higher note or lies, for half of its length, under one that sounds
    already: the skyline (Uitdenbogerd and Zobel 1998), of voices instead of onsets. Lowest lines likewise, upside down.
    """
    notes = pitched(score)
    tracks = np.unique(notes["track"]).tolist()
    parts = [(score.tracks[track].part, notes["track"] == track, 1) for track in tracks if len(tracks) > 1]
    everything = np.ones(len(notes), bool)
    names, masks, signs = zip(("highest", everything, 1), ("lowest", everything, -1), *parts, strict=True)
    line = np.repeat(np.arange(len(names)), [np.count_nonzero(mask) for mask in masks])
    notes = notes.take(np.concatenate([np.flatnonzero(mask) for mask in masks]))
    pitch, time = notes["pitch"].astype(np.int16), notes["onset"] / score.ticks_per_quarter
    upright = pitch * np.array(signs, np.int16)[line]
    outer = ~covered(upright, time, time + notes["duration"] / score.ticks_per_quarter, line)
    starts = np.append(0, np.cumsum(np.bincount(line[outer], minlength=len(names))))
    return Lines(pitch[outer], time[outer].astype(np.float32), starts, names, np.zeros(len(names), int))


def covered(pitch: np.ndarray, time: np.ndarray, ends: np.ndarray, line: np.ndarray) -> np.ndarray:
    """Which notes of each line begin with a higher one, or under one that sounds already: (N,) bool.

    Notes come by line and time.
    """
    hidden = np.zeros(len(pitch), bool)
    half = time + np.maximum((ends - time) / 2, TOGETHER)
    for away in range(1, min(NEIGHBOURS, len(pitch) - 1) + 1):
        one, other = slice(None, -away), slice(away, None)
        same = line[one] == line[other]
        chord = same & (time[other] - time[one] <= TOGETHER)
        step = pitch[other] - pitch[one]
        hidden[one] |= chord & (step > 0)
        hidden[other] |= (same & (step < 0) & (ends[one] >= half[other])) | (chord & (step <= 0))
    return hidden


def joined(many: Sequence[Lines]) -> Lines:
    """The lines of several scores; `pieces` counts the scores."""
    sizes = np.concatenate([np.zeros(0, int), *[np.diff(one.starts) for one in many]])
    return Lines(
        np.concatenate([np.zeros(0, np.int16), *[one.pitch for one in many]]),
        np.concatenate([np.zeros(0, np.float32), *[one.time for one in many]]),
        np.append(0, np.cumsum(sizes)),
        tuple(name for one in many for name in one.names),
        np.repeat(np.arange(len(many)), [len(one.names) for one in many]),
    )


def figures(these: Lines) -> tuple[np.ndarray, np.ndarray]:
    """All figures, each five intervals in one integer: (F,) int32, and the positions at which they begin: (F,)."""
    if len(these.pitch) <= FIGURE:
        return np.zeros(0, np.int32), np.zeros(0, int)
    steps = np.clip(np.diff(these.pitch), -32, 31).astype(np.int32) + 32
    codes = sum(steps[k : len(steps) - FIGURE + k + 1] << 6 * k for k in range(FIGURE))
    owners = these.owners()
    inside = np.flatnonzero(owners[:-FIGURE] == owners[FIGURE:])
    return codes[inside], inside


class Pairs(NamedTuple):
    """Pairs of lines to be aligned, C of them."""

    mine: np.ndarray  # (C,) the line of the one score
    theirs: np.ndarray  # (C,) the line of the other
    move: np.ndarray  # (C,) semitones from mine to theirs
    low: np.ndarray  # (C,) the least distance, their position less mine, that is looked at; the most is BAND - 1 more
    tempo: np.ndarray  # (C,) their time over mine


def align(mine: Lines, theirs: Lines, gains: np.ndarray, pairs: Pairs) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The best local alignment of each pair: its score, and the positions of the equal notes, mine and theirs.

    Smith and Waterman (1981) with linear gaps, in a band. Equal pitches gain `gains` (L,), integers, where the time
    since the note before agrees as well, and nothing where it does not; a note altered, added or left out costs COST.
    """
    steps, best, ends = _filled(mine, theirs, gains, pairs)
    for c, (row, column) in enumerate(ends.tolist()):
        taken = list(_traced(steps[:, c], row, column))[::-1]
        rows, columns = np.array(taken, int).reshape(-1, 2).T
        i = mine.starts[pairs.mine[c]] + rows
        yield int(best[c]), i, i + pairs.low[c] + columns


def _filled(mine: Lines, theirs: Lines, gains: np.ndarray, pairs: Pairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The steps of all alignments (rows, C, BAND) int8, and each one's best score (C,) and where it ends (C, 2)."""
    first, count = mine.starts[pairs.mine], np.diff(mine.starts)[pairs.mine]
    begin, stop = (theirs.starts[pairs.theirs + k][:, None] for k in (0, 1))
    before = np.diff(mine.time, prepend=mine.time[:1])
    their_before = np.diff(theirs.time, prepend=theirs.time[:1])
    slack = SLACK * np.maximum(pairs.tempo, 1)[:, None]
    band, slope = np.arange(BAND), COST * np.arange(BAND)
    steps = np.zeros((int(count.max(initial=0)), len(count), BAND), np.int8)
    scores = np.zeros((len(count), BAND + 1), np.int64)
    best, ends, every = np.zeros(len(count), np.int64), np.zeros((len(count), 2), int), np.arange(len(count))
    for row, step in enumerate(steps):
        i = np.minimum(first + row, len(mine.pitch) - 1)
        j = (first + row + pairs.low)[:, None] + band
        inside = (j >= begin) & (j < stop) & (row < count)[:, None]
        j = np.clip(j, 0, len(theirs.pitch) - 1)
        waited = their_before[j]
        late = np.abs((before[i] * pairs.tempo)[:, None] - waited) > slack + DRIFT * waited
        fresh = scores[:, :BAND] == 0  # a match begins with any note, whatever came before
        same = theirs.pitch[j] == (mine.pitch[i] + pairs.move)[:, None]
        equal = same & (fresh | ~late)
        on = scores[:, :BAND] + np.where(equal, gains[i][:, None], np.where(same, 0, -COST))
        added = scores[:, 1:] - COST
        reached = np.maximum(np.maximum(on, added), 0) * inside
        now = (np.maximum.accumulate(reached + slope, axis=1) - slope) * inside
        step[:] = np.where(now == on, np.where(equal, EQUAL, OTHER), np.where(now == added, ADDED, LEFT_OUT))
        step[now == 0] = STOP
        scores[:, :BAND] = now
        column = now.argmax(axis=1)
        better = now[every, column] > best
        best[better], ends[better] = now[every, column][better], np.stack([np.full(len(i), row), column], 1)[better]
    return steps, best, ends


def _traced(steps: np.ndarray, row: int, column: int) -> Iterator[tuple[int, int]]:
    """The cells of equal notes of one alignment, steps (rows, BAND), from its end to its beginning."""
    while row >= 0 and 0 <= column < BAND and steps[row, column] != STOP:
        step = steps[row, column]
        if step == EQUAL:
            yield row, column
        row -= step != LEFT_OUT
        column += int(step == ADDED) - int(step == LEFT_OUT)
