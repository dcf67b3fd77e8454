"""What can be counted in a score: how far it keeps to its chords, whether its bars come back, how busy it is.

Every measure is a function of a Score that gives a number, NaN where it does not apply (no notes, no chords, no bars
in free time). MEASURES lists them by name; `measure(score)` takes them all. None says that music is good: compare
with the same numbers of real music.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from ...statistics import mean_known
from .chord_suffix import MAJOR_SCALE
from .chords import SILENT_ROW, chords_at, merged, pitch_classes, pitched
from .score import Score, ends_of, spread

GRID = 12  # positions a quarter: sixteenths and triplets
NEAR = 0.12  # of a quarter, a little less than half a sixteenth: an onset so near to a beat is on it
_HARMONIC_MINOR = (0, 2, 3, 5, 7, 8, 11)
_SCALES = np.array(
    [[(pc - tonic) % 12 in s for pc in range(12)] for s in (MAJOR_SCALE, _HARMONIC_MINOR) for tonic in range(12)]
)
_BLOCK = 256  # bars compared at a time
LAGS = (1, 2, 4, 8, 16)  # bars
NOTE_VALUES = np.array([1 / 12, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4, 1, 4 / 3, 3 / 2, 2, 3, 4, 6, 8])  # quarters
SECONDS = 0.02 * 2 ** (np.arange(19) / 2)  # half octaves to 10 s: what lengths are counted by in free time


# --- chords ---------------------------------------------------------------------------------------------------


def chord_adherence(score: Score) -> float:
    """The share of sounding time inside the chord of the moment, its bass included: 0 to 1.

    Every note counts for its length, cut where chords change; drums and time without a chord are left out. Real pop
    songs reach .91, with shuffled chords .46 (POP909).
    """
    inside = _time_inside(score)
    return float(inside.trace() / inside[:, -1].sum()) if inside[:, -1].any() else np.nan


def rotated_adherence(score: Score) -> float:
    """What `chord_adherence` would be by chance: its mean when every chord is exchanged for every other of the piece.

    The mean over all rotations of the distinct chords. Music that follows its chords adheres far better than this;
    music that ignores them does not. NaN with fewer than two chords.
    """
    inside = _time_inside(score)
    total, others = inside[:, -1].sum(), len(inside) - 1
    return float((inside[:, :-1].sum() - inside.trace()) / (others * total)) if total and others else np.nan


def adherence_gain(score: Score) -> float:
    """`chord_adherence` minus `rotated_adherence`: 0 for music that does not hear its chords."""
    return chord_adherence(score) - rotated_adherence(score)


def adherence_per_bar(score: Score, chords: np.ndarray | None = None, lines: np.ndarray | None = None) -> np.ndarray:
    """`chord_adherence` between bar `lines`, by default the score's, in free time two seconds apart: (bars,), NaN where
    no note or no chord is.
    """
    chords, lines = score.chords if chords is None else chords, score.bars() if lines is None else lines
    notes = pitched(score)
    edges = np.unique(np.concatenate([lines, chords["tick"].clip(lines[0], lines[-1])]))
    note, cell, length = spread(notes, edges)
    held = chords_at(chords, edges[cell])
    inside = pitch_classes(held["root"], held["quality"], held["bass"])[np.arange(len(note)), notes["pitch"][note] % 12]
    bar, length = np.searchsorted(lines, edges[cell], side="right") - 1, length * (held["root"] >= 0)
    total, kept = (np.bincount(bar, weights, len(lines) - 1) for weights in (length, length * inside))
    return np.divide(kept, total, out=np.full(len(total), np.nan), where=total > 0)


def strong_beats(score: Score, chords: np.ndarray, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Where metre or harmony has weight before a tick: ticks (n,), and the rows of CHORD that hold there (n,).

    They are the bar lines, the middle of bars that have an even number of beats, and wherever the chord changes; in
    free time only that. What lies before the first chord is left out.
    """
    chords = merged(chords)
    ticks = chords["tick"].astype(np.int64)
    if not score.free:
        bars, beats = score.bars(end), score.beats(end)
        first = np.searchsorted(beats, bars)
        even = np.diff(first) % 2 == 0
        ticks = np.concatenate([ticks, bars, beats[(first[:-1] + first[1:])[even] // 2]])
    ticks = np.unique(ticks)
    held = np.searchsorted(chords["tick"], ticks, side="right") - 1
    kept = (held >= 0) & (ticks < end)
    return ticks[kept], chords[held[kept]]


def strong_beat_adherence(score: Score, chords: np.ndarray | None = None) -> float:
    """The share of the notes struck on strong beats (see `strong_beats`) that are tones of the chord there: 0 to 1.

    All that the chord names is its tone: C7b9 has a D flat. Bars of 4/4 have two strong beats, of 3/4 one.
    """
    notes = pitched(score)
    beats, held = strong_beats(score, score.chords if chords is None else chords, score.end)
    if not len(beats) or not len(notes):
        return np.nan
    onsets = notes["onset"].astype(np.int64)
    after = np.searchsorted(beats, onsets).clip(1, max(len(beats) - 1, 1))
    nearest = np.where(2 * onsets < beats[after - 1] + beats[after % len(beats)], after - 1, after % len(beats))
    on = np.abs(onsets - beats[nearest]) <= NEAR * score.ticks_per_quarter
    held, pitch = held[nearest[on]], notes["pitch"][on] % 12
    inside = pitch_classes(held["root"], held["quality"], held["bass"])[np.arange(len(held)), pitch]
    return mean_known(np.where(held["root"] >= 0, inside, np.nan))


def bass_adherence(score: Score) -> float:
    """The share of chord changes at which the bass is right: see `bass_at_changes`."""
    return mean_known(bass_at_changes(score))


def bass_at_changes(score: Score, chords: np.ndarray | None = None) -> list[bool]:
    """At which chord changes the lowest note is the chord's root, or the bass written after its slash.

    It is the lowest of the notes that sound on, or are struck, when the chord changes; where there is none, of those
    struck first under the chord. Changes under which nothing sounds are left out.
    """
    chords, notes, near = score.chords if chords is None else chords, pitched(score), NEAR * score.ticks_per_quarter
    chords = merged(chords)
    onsets, ends = notes["onset"].astype(np.int64), ends_of(notes)
    found = []
    for (tick, root, _, bass), until in zip(chords.tolist(), [*chords["tick"].tolist(), np.inf][1:], strict=True):
        struck = np.abs(onsets - tick) <= near
        sounding = struck | ((onsets < tick) & (ends > tick + near))
        if not sounding.any():
            later = onsets[(onsets > tick) & (onsets < until - near)]
            sounding = (onsets >= later[0]) & (onsets <= later[0] + near) if len(later) else sounding
        if root >= 0 and sounding.any():
            found.append(notes["pitch"][sounding].min() % 12 == bass)
    return found


def _time_inside(score: Score) -> np.ndarray:
    """Time over each distinct chord that sounds inside each of them, and last all of it: (D, D + 1) in ticks."""
    notes, chords = pitched(score), np.concatenate([SILENT_ROW, score.chords])
    names = np.stack([chords[field] for field in ("root", "quality", "bass")], axis=1)
    distinct, which = np.unique(names, axis=0, return_inverse=True)
    edges = np.append(chords["tick"], max(score.end, chords["tick"][-1]) + 1)
    note, cell, length = spread(notes, edges)
    slot = which.reshape(-1)[cell] * 12 + notes["pitch"][note] % 12
    time = np.bincount(slot, length, len(distinct) * 12).reshape(-1, 12)
    named = distinct[:, 0] >= 0
    tones = pitch_classes(*distinct[named].T)
    return np.column_stack([time[named] @ tones.T, time[named].sum(1)])


# --- bars -----------------------------------------------------------------------------------------------------


def recurrence(score: Score) -> float:
    """How much bars come back: the mean of `recurrence_per_bar`. Pop songs have about .3 within 16 bars (POP909)."""
    return mean_known(recurrence_per_bar(score))


def recurrence_per_bar(score: Score) -> np.ndarray:
    """The best overlap of every bar with an earlier one: (bars,) from 0 to 1, NaN for empty bars and the first.

    Overlap is Jaccard's, of the sets of (position on a grid of 1/12 quarter, pitch): 1 for a bar played again.
    """
    cells, count = _cells(score)
    keys, key = np.unique(cells[:, 1], return_inverse=True)
    repeated = np.bincount(key, minlength=len(keys)) > 1  # what occurs in one bar only overlaps with nothing
    column = np.cumsum(repeated) - 1
    table = np.zeros((count, repeated.sum()), dtype=np.float32)
    shared = repeated[key]
    table[cells[shared, 0], column[key[shared]]] = 1
    sizes = np.bincount(cells[:, 0], minlength=count)
    best = np.zeros(count)
    for start in range(0, count, _BLOCK):
        stop = min(start + _BLOCK, count)
        both = table[start:stop] @ table[:stop].T
        overlap = both / np.maximum(sizes[start:stop, None] + sizes[None, :stop] - both, 1)
        best[start:stop] = np.max(np.tril(overlap, start - 1), axis=1, initial=0)
    best[(sizes == 0) | (np.cumsum(sizes > 0) <= 1)] = np.nan
    return best


def self_similarity(score: Score, lag: int = 1) -> float:
    """How alike bars are that lie `lag` bars apart: the mean Jaccard overlap, 0 to 1, of bars that both have onsets.

    Sets are those of `recurrence_per_bar`. Over several lags it shows a period: pop comes back after 4 and 8 bars.
    """
    cells, count = _cells(score)
    if len(cells) == 0 or lag >= count:
        return np.nan
    sizes, width = np.bincount(cells[:, 0], minlength=count), cells[:, 1].max() + 1
    key = cells[:, 0] * width + cells[:, 1]
    again = cells[np.isin(key, key + lag * width), 0]
    now, before, both = sizes[lag:], sizes[:-lag], np.bincount(again, minlength=count)[lag:]
    sounding = (now > 0) & (before > 0)
    return mean_known(both[sounding] / (now + before - both)[sounding])


def repeated_bars(score: Score) -> float:
    """The longest run of equal bars, counted in bars: 1 where no bar equals the one before. Empty bars do not count."""
    cells, count = _cells(score)
    if len(cells) == 0:
        return np.nan
    bars = np.split(cells[:, 1], np.searchsorted(cells[:, 0], np.arange(1, count)))
    longest = run = 0
    for index, bar in enumerate(bars):
        same = index > 0 and np.array_equal(bar, bars[index - 1])
        run = (run + 1 if same else 1) if len(bar) else 0
        longest = max(longest, run)
    return float(longest)


def groove_consistency(score: Score) -> float:
    """How alike the onsets of neighbouring bars are, whatever their pitches: 1 minus the mean Hamming distance.

    The distance is the share of a bar's positions (1/12 quarter) struck in one of the two bars only.
    """
    cells, count = _cells(score)
    if len(cells) == 0 or count < 2:
        return np.nan
    positions = cells[:, 1] // 256
    struck = np.zeros((count, positions.max() + 1), dtype=bool)
    struck[cells[:, 0], positions] = True
    length = np.diff(_bar_lines(score)).max()
    return float(1 - (struck[1:] != struck[:-1]).sum(1).mean() / length)


def empty_bars(score: Score) -> float:
    """The share of bars without an onset."""
    cells, count = _cells(score)
    return 1 - len(np.unique(cells[:, 0])) / count if len(cells) else np.nan


def notes_per_bar(score: Score) -> float:
    """Notes a bar."""
    return len(score.notes) / (len(score.bars()) - 1) if len(score.notes) and not score.free else np.nan


def _bar_lines(score: Score) -> np.ndarray:
    """Bar lines on the grid of 1/12 quarter."""
    return np.rint(score.bars() * (GRID / score.ticks_per_quarter)).astype(np.int64)


def _cells(score: Score) -> tuple[np.ndarray, int]:
    """The distinct (bar, position * 256 + pitch) of a score, drums at pitches from 128, and how many bars there are."""
    if score.free:
        return np.zeros((0, 2), dtype=np.int64), 0
    notes, lines = score.notes, _bar_lines(score)
    drums = np.array([track.drums for track in score.tracks], dtype=bool)[notes["track"]]
    grid = np.rint(notes["onset"] * (GRID / score.ticks_per_quarter)).astype(np.int64)
    bar = np.clip(np.searchsorted(lines, grid, side="right") - 1, 0, len(lines) - 2)
    cells = np.stack([bar, (grid - lines[bar]) * 256 + notes["pitch"] + 128 * drums], axis=1)
    return np.unique(cells, axis=0), len(lines) - 1


# --- pitches and density --------------------------------------------------------------------------------------


def pitch_class_entropy(score: Score) -> float:
    """Shannon entropy of the notes' pitch classes in bits: 0 (one) to 3.58 (all twelve alike)."""
    notes = pitched(score)
    share = np.bincount(notes["pitch"] % 12, minlength=12) / max(len(notes), 1)
    share = share[share > 0]
    return float(-(share * np.log2(share)).sum()) + 0.0 if len(share) else np.nan


def scale_consistency(score: Score) -> float:
    """The share of notes in the major or harmonic minor scale that holds the most of them."""
    notes = pitched(score)
    return (
        float((_SCALES @ np.bincount(notes["pitch"] % 12, minlength=12)).max() / len(notes)) if len(notes) else np.nan
    )


def pitch_range(score: Score) -> float:
    """Semitones from the lowest to the highest note."""
    notes = pitched(score)
    return float(np.ptp(notes["pitch"].astype(int))) if len(notes) else np.nan


def polyphony(score: Score) -> float:
    """How many notes sound at once, on average over the time in which any does; drums left out."""
    notes = pitched(score)
    if not len(notes):
        return np.nan
    onsets, ends = notes["onset"].astype(np.int64), ends_of(notes)
    reached = np.maximum.accumulate(ends)
    covered = np.maximum(ends - np.maximum(onsets, np.append(onsets[0], reached[:-1])), 0).sum()
    return float((ends - onsets).sum() / covered) if covered else np.nan


def notes_per_second(score: Score) -> float:
    """Notes a second, to the end of the music."""
    seconds = float(score.seconds(score.end))
    return len(score.notes) / seconds if seconds else np.nan


MEASURES: dict[str, Callable[[Score], float]] = {
    function.__name__: function
    for function in (
        chord_adherence,
        rotated_adherence,
        adherence_gain,
        strong_beat_adherence,
        bass_adherence,
        recurrence,
        repeated_bars,
        groove_consistency,
        empty_bars,
        notes_per_bar,
        notes_per_second,
        pitch_class_entropy,
        scale_consistency,
        pitch_range,
        polyphony,
    )
} | {f"self_similarity_{lag}": partial(self_similarity, lag=lag) for lag in LAGS}


def measure(score: Score) -> dict[str, float]:
    """Every measure of a score by name."""
    return {name: function(score) for name, function in MEASURES.items()}


# --- histograms -----------------------------------------------------------------------------------------------


def histograms(score: Score) -> dict[str, np.ndarray]:
    """How many notes have each pitch (128) and pitch class (12), how many lengths and intervals between onsets are
    nearest to each of NOTE_VALUES (in free time SECONDS). Drums left out; notes of one onset have one interval.
    """
    notes = pitched(score)
    onsets = np.unique(notes["onset"]).astype(np.int64)
    ends = ends_of(notes)
    if score.free:
        values, length, interval = SECONDS, score.seconds(ends) - score.seconds(notes["onset"]), score.seconds(onsets)
    else:
        values, length, interval = NOTE_VALUES, notes["duration"] / score.ticks_per_quarter, onsets
        interval = interval / score.ticks_per_quarter
    edges = np.sqrt(values[1:] * values[:-1])
    return {
        "pitch": np.bincount(notes["pitch"], minlength=128),
        "pitch_class": np.bincount(notes["pitch"] % 12, minlength=12),
        "duration": np.bincount(np.searchsorted(edges, length), minlength=len(values)),
        "onset_interval": np.bincount(np.searchsorted(edges, np.diff(interval)), minlength=len(values)),
    }


def overlapped_area(one: np.ndarray, other: np.ndarray) -> float:
    """The area that two histograms of counts (N,) share once both sum to 1: 0 to 1. NaN where one is empty."""
    if not one.sum() or not other.sum():
        return np.nan
    return float(np.minimum(one / one.sum(), other / other.sum()).sum())


def kl_divergence(one: np.ndarray, other: np.ndarray) -> float:
    """Kullback-Leibler divergence of `one` from `other` in nats, histograms of counts (N,) with half a count added to
    every bin: what it costs to expect `other` and meet `one`. NaN where one is empty.
    """
    if not one.sum() or not other.sum():
        return np.nan
    p, q = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (one, other))
    return float((p * np.log(p / q)).sum())
