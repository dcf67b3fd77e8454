"""Chords over bar lines: as rows with ticks, and as the charts that musicians read and write."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np

from ...errors import InputError
from ..music.chords import Bar, Chord, chords_at, merged, spell
from ..music.harmonise import harmonise
from ..music.keys import key_of_chords
from ..music.score import Score

CHART_SLOTS = (*range(1, 17), 24)  # in how many equal shares a chart may divide a bar


def parse_metre(text: str) -> tuple[int, int]:
    """ "6/8" as (6, 8)."""
    above, _, below = text.partition("/")
    if above.isdecimal() and below.isdecimal() and 1 <= int(above) <= 15 and int(below) in (1, 2, 4, 8, 16):
        return int(above), int(below)
    raise InputError(f"--metre {text!r}: write beats over 1, 2, 4, 8 or 16, such as 4/4, 3/4 or 6/8")


def bar_ticks(score: Score, bpm: float | None = None, metre: str | None = None) -> int:
    """A bar at the end of a score; in free time one of that tempo and metre, by default two seconds."""
    _, numerator, denominator = score.metres[-1].tolist()
    if score.free and metre is not None:
        numerator, denominator = parse_metre(metre)
    faster = (bpm or 120) / 120 if score.free else 1
    return round(score.ticks_per_quarter * 4 * numerator / denominator / faster)


def bar_lines(score: Score, start: int, end: int, bar: int | None = None) -> np.ndarray:
    """Bar lines from `start` to `end`, both of them included; in free time one every `bar` ticks, or two seconds."""
    lines = np.arange(start, end, bar or bar_ticks(score)) if score.free else score.bars(end)
    return np.concatenate([[start], lines[(lines > start) & (lines < end)], [end]]).astype(np.int64)


def chart(chords: np.ndarray, lines: np.ndarray) -> str:
    """Chords (CHORD rows) over bar lines as a musician writes them, `| C | Am7 / D7 / |`: `chart_bars` as text.

    `parse_progression` reads it back to the same chords at the same places.
    """
    cells, key = [], key_of_chords(chords, int(lines[-1]))
    for bar in chart_bars(chords, lines):
        slots = int(np.lcm.reduce([share.denominator for _, share in bar]))
        holds = (
            [0] * len(bar) if len({share for _, share in bar}) == 1 else [int(share * slots) - 1 for _, share in bar]
        )
        cells.append(" ".join(spell(*chord, key) + " /" * hold for (chord, _), hold in zip(bar, holds, strict=True)))
    return "| " + " | ".join(cells) + " |"


def chart_bars(chords: np.ndarray, lines: np.ndarray) -> list[Bar]:
    """Chords over bar lines as bars of (chord, share), as `parse_progression` gives them.

    Each bar is divided into the fewest equal shares (CHART_SLOTS) on which its changes lie, or the most there are.
    """
    bars = []
    for start, end in pairwise(lines.tolist()):
        inner = chords[(chords["tick"] > start) & (chords["tick"] < end)]
        first = Chord(*chords_at(chords, start).item()[1:])
        shares = (inner["tick"] - start) / (end - start)
        off = (np.abs(shares * n - np.rint(shares * n)).max(initial=0) for n in CHART_SLOTS)
        slots = next((n for n, most in zip(CHART_SLOTS, off, strict=True) if most < 1e-3 * n), CHART_SLOTS[-1])
        places = dict(zip(np.rint(shares * slots).astype(int).tolist(), inner.tolist(), strict=True))
        changes = {0: first} | {at: Chord(*row[1:]) for at, row in places.items() if at < slots}
        lengths = np.diff([*changes, slots]).tolist()
        bars.append([(chord, Fraction(n, slots)) for chord, n in zip(changes.values(), lengths, strict=True)])
    return bars


def spliced(chords: np.ndarray, inner: np.ndarray, start: int, end: int, *, resume: bool) -> np.ndarray:
    """Chords with others in [start, end); where music goes on (`resume`) what holds at `end` is stated there again."""
    held = chords[chords["tick"] <= end][-1:].copy()
    held["tick"] = end
    rows = [chords[chords["tick"] < start], inner]
    return merged(np.concatenate(rows + [held, chords[chords["tick"] > end]] * resume))


def harmonised(melody: Score) -> np.ndarray:
    """The chords that fit to a melody: CHORD rows, in free time on bars of two seconds. Bars of rest before it are an
    introduction over its first chord."""
    chords = harmonise(melody, keep_grid=True)
    if len(chords) > 1 and chords["root"][0] < 0 and chords["tick"][1] >= bar_lines(melody, 0, melody.end)[1]:
        chords = chords[1:].copy()
        chords["tick"][0] = 0
    return chords
