"""What a harmony model sees of a melody: its line, a grid of slots on which chords may change, and features.

A slot is a beat, or half of one where the beat is a half note: 6/8 has two in a bar, 3/4 three, 4/4 and 2/2 four.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .chords import pitched
from .parts import assign_parts
from .score import NOTE, Score, beat_ticks, spread

SIZES = ((0, 2), (2, 5), (5, 9))  # the places of a slot in bars of two slots, of three, and of four or more
PLACES = SIZES[-1][1]
GAPS = (0.3, 0.6, 0.9, 1.2, 1.9, 2.5, 3.5)  # slots from a note to the next that part the classes of `metric`
NEIGHBOURS = (-2, -1, 0, 1, 2, 3)  # slots around each, as the features have them
OWN = NEIGHBOURS.index(0)  # the channel of the slot itself
BARS = (-2, -1, 0, 1, 2)  # bars around each
PERIODS = (2, 4, 8)  # bars after which chords like to come back, slot by slot
RETURNS = 4  # so many times before and after
WINDOW = 4  # bars to either side of what tells the key
CHANNELS = len(NEIGHBOURS) + 1 + len(BARS) + 2 * len(PERIODS) + 3  # sets of twelve pitch classes in the features
FACTS = PLACES + 4 + 5 + 4 + 7  # the other features


class Slots(NamedTuple):
    """The grid on which chords change: N slots in B bars."""

    edges: np.ndarray  # (N + 1,) in ticks
    place: np.ndarray  # (N,) 0 to PLACES - 1, see SIZES
    bar: np.ndarray  # (N,) 0 to B - 1

    @property
    def starts(self) -> np.ndarray:
        """The slots that begin a bar (B,)."""
        return np.flatnonzero(np.diff(self.bar, prepend=-1))

    @property
    def bar_ticks(self) -> np.ndarray:
        """The length of each bar (B,)."""
        return np.diff(np.append(self.edges[self.starts], self.edges[-1]))

    def at(self, ticks: np.ndarray) -> np.ndarray:
        """The slots that hold these ticks; the first or last for ticks beyond."""
        return np.clip(np.searchsorted(self.edges, ticks, side="right") - 1, 0, len(self.bar) - 1)


def melody_line(score: Score) -> np.ndarray:
    """The melody as NOTE rows that do not overlap: the part "melody", or else the top of all that is pitched."""
    parts = assign_parts(score)
    notes = pitched(parts.only("melody"))
    notes = notes if len(notes) else pitched(parts)
    line: list[list[int]] = []
    for onset, duration, pitch, *rest in notes[np.lexsort((-notes["pitch"].astype(int), notes["onset"]))].tolist():
        if line:
            last, length, top = line[-1][:3]
            if onset == last or (pitch < top and 2 * (last + length - onset) >= min(length, duration)):
                continue  # below a note that sounds on
            line[-1][1] = min(length, onset - last)
        line.append([onset, duration, pitch, *rest])
    return np.array([tuple(row) for row in line], dtype=NOTE)


def slot_ticks(score: Score, at) -> np.ndarray:
    """The length of the slots of the bars that begin at these ticks."""
    metre = score.metres[np.maximum(np.searchsorted(score.metres["tick"], at, side="right") - 1, 0)]
    unit = beat_ticks(metre, score.ticks_per_quarter)
    return np.maximum(np.where(unit >= 2 * score.ticks_per_quarter, unit // 2, unit), 1)


def make_slots(score: Score, pickup: int = 0) -> Slots:
    """The slots of a score, from tick 0 to the bar line at or after its end.

    With a `pickup` (whole slots in ticks, less than a bar; for scores of one metre) all bar lines stand that much
    later, and the first bar is what lies before them.
    """
    lines = score.bars()
    if pickup:
        lines = np.arange(pickup - lines[1], score.end + lines[1], lines[1])
    lengths = np.diff(lines)
    count = np.maximum(np.rint(lengths / slot_ticks(score, lines[:-1])).astype(np.int64), 1)
    bar = np.repeat(np.arange(len(count)), count)
    inside = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    edges = lines[bar] + inside * lengths[bar] // count[bar]
    heard = edges >= 0
    return Slots(np.append(edges[heard], lines[-1]), _place(inside, count[bar])[heard], bar[heard])


def _place(inside: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Places of slots by their number in a bar of `size` slots; long bars have a first, a middle and two others."""
    other = np.select([inside == 0, 2 * inside == size, 2 * inside < size], [0, 2, 1], 3)
    return np.select([size <= 2, size == 3], [inside, 2 + inside], 5 + other)


def metric(line: np.ndarray, slots: Slots) -> np.ndarray:
    """Where each note stands and how long it waits for the next: (notes, 3) place, half of the slot, class of GAPS."""
    onsets = line["onset"].astype(np.int64)
    slot = slots.at(onsets)
    length = np.diff(slots.edges)[slot]
    half = 2 * (onsets - slots.edges[slot]) >= length
    gap = np.append(np.diff(onsets), line["duration"][-1]) / length
    return np.column_stack([slots.place[slot], half, np.searchsorted(GAPS, gap)])


def features(line: np.ndarray, slots: Slots) -> tuple[np.ndarray, np.ndarray]:
    """What the model hears at each slot: pitch classes (N, CHANNELS, 12) and other facts (N, FACTS), float32.

    Channels: the slots NEIGHBOURS around it (share of the time that each pitch class sounds), the note that begins
    with it, the bars BARS around its own, slots and then bars that lie whole PERIODS away, WINDOW bars to either
    side, the whole melody, and its last note.
    """
    count, size = len(slots.bar), np.bincount(slots.bar)[slots.bar]
    note, slot, length = spread(line, slots.edges)
    time = np.bincount(slot * 12 + line["pitch"][note] % 12, length, count * 12).reshape(count, 12)
    share = time / np.diff(slots.edges)[:, None]
    begun = _begun(line, slots)
    per_bar = np.add.reduceat(time, slots.starts)
    bar_share = per_bar / slots.bar_ticks[:, None]
    total = np.cumsum(np.pad(per_bar, ((WINDOW + 1, WINDOW), (0, 0))), axis=0)
    window = total[2 * WINDOW + 1 :] - total[: -2 * WINDOW - 1]
    channels = [
        *(_moved(share, step) for step in NEIGHBOURS),
        begun,
        *(_moved(bar_share, step)[slots.bar] for step in BARS),
        *(_returning(share, period * size) for period in PERIODS),
        *(_returning(bar_share, np.full(len(bar_share), period))[slots.bar] for period in PERIODS),
        _normed(window)[slots.bar],
        np.broadcast_to(_normed(per_bar.sum(0)), (count, 12)),
        np.broadcast_to(np.arange(12) == line["pitch"][-1] % 12, (count, 12)),
    ]
    return np.stack(channels, axis=1).astype(np.float32), _facts(line, slots, share.sum(1), begun.any(1))


def _begun(line: np.ndarray, slots: Slots) -> np.ndarray:
    """(N, 12): the pitch class that begins with each slot, to an eighth of it."""
    onsets, lengths = line["onset"].astype(np.int64), np.diff(slots.edges)
    near = np.median(lengths) / 8
    slot = slots.at(onsets + near)
    on_time = np.abs(onsets - slots.edges[slot]) <= near
    begun = np.zeros((len(lengths), 12))
    begun[slot[on_time], line["pitch"][on_time] % 12] = 1
    return begun


def _facts(line: np.ndarray, slots: Slots, sounding: np.ndarray, begun: np.ndarray) -> np.ndarray:
    """(N, FACTS): place, place in four bars, bars to the end and from the beginning, how much sounds and how."""
    bar, slot = slots.bar, slots.at(line["onset"])
    per_bar = np.add.reduceat(sounding, slots.starts) / np.bincount(bar)
    bars, notes = len(per_bar), np.bincount(bar[slot], minlength=len(per_bar))
    first, last = bar[slot[0]], bar[slot[-1]]
    longest = np.zeros(bars)
    np.maximum.at(longest, bar[slot], line["duration"] / slots.bar_ticks[bar[slot]])
    columns = [
        np.eye(PLACES)[slots.place],
        np.eye(4)[(bar - first) % 4],
        np.eye(5)[np.clip(last - bar, 0, 4)],
        np.eye(4)[np.clip(bar - first, 0, 3)],
        sounding,
        begun,
        per_bar[bar],
        np.append(per_bar[1:], 0)[bar],
        np.minimum(longest, 1)[bar],
        np.minimum(notes / 8, 2)[bar],
        np.full(len(bar), len(line) / bars / 8),
    ]
    return np.column_stack(columns).astype(np.float32)


def _moved(rows: np.ndarray, step: int) -> np.ndarray:
    """Row i + step at i, zeros beyond the ends."""
    index = np.arange(len(rows)) + step
    inside = (index >= 0) & (index < len(rows))
    return np.where(inside[:, None], rows[np.clip(index, 0, len(rows) - 1)], 0)


def _returning(rows: np.ndarray, period: np.ndarray) -> np.ndarray:
    """The mean of the rows that lie 1 to RETURNS periods away on either side, as far as there are such; else zeros."""
    times = np.array([*range(-RETURNS, 0), *range(1, RETURNS + 1)])
    index = np.arange(len(rows))[:, None] + period[:, None] * times
    inside = (index >= 0) & (index < len(rows))
    found = np.where(inside[:, :, None], rows[np.clip(index, 0, len(rows) - 1)], 0)
    return found.sum(1) / np.maximum(inside.sum(1), 1)[:, None]


def _normed(rows: np.ndarray) -> np.ndarray:
    """Each row scaled to a sum of 4, the weight at which it learns as fast as the others; zeros stay."""
    return 4 * rows / np.maximum(rows.sum(axis=-1, keepdims=True), 1)
