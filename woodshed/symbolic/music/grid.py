"""The grid: does music follow a beat, where do its beats fall, and where do its bars begin?

A file's own bar lines can be wrong: POP909 has the right tempo, but its beats and bars start anywhere. So no bar
number is trusted before the grid was checked:

    pulse   onsets are wrapped around a quarter of the file's own tempo map, in four, three and six parts: their
            circular mean tells how closely they keep to a pulse and how far it lies from the file's ticks
    kept    the pulse lies on the file's ticks, or it is notation, and its metre is more than the bare 1/4: the file
            is believed, unless it was played (its velocities vary) and its music speaks loudly for other beats
    bars    else beats and bar lines are read from the music. Onsets, long and low notes and changes of harmony speak
            for each place in the bar, and a semi-Markov chain of bars (3 or 4 quarters, now and then another number)
            weighs all possible bar lines of the piece together: the best row of bars, and how sure each line is
    free    no pulse, or bar lines that are no surer than THRESHOLD: free time

The weights are the maximum likelihood fit to windows of 12 bars of POP909's training songs: a conditional logit over
metre, beat and bar line, both metres counted alike, one label in ten taken to be wrong. `benchmarks/grid_accuracy.py`
measures them. The beat is the file's quarter throughout: in POP909 it always is.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .score import Score, shifted

THRESHOLD = 0.5  # confidence below which a file is free time
MIN_PULSE = 0.15  # concentration of onsets (0-1) below which there is no pulse; 95% of GiantMIDI lie below 0.08
MIN_ONSETS = 6  # fewer say nothing about a grid
NOTATED = 0.95  # share of onsets within a tick of the file's own 24ths of a quarter, in notation
PLAYED = 24  # more different velocities than notation has
OVERRULED = (60.0, 0.7)  # log odds and confidence from which other beats count more than a played file's own
MAX_BEATS = 20_000  # a longer piece (three hours) is judged by its first so many beats

# What speaks for each place of a beat in its bar: first, second, middle, last.
WEIGHTS = np.array(
    [
        (0.153, 0.136, 0.173, 0.064),  # notes that start on the beat: log(1 + number), in units of the piece's mean
        (0.199, -0.493, 0.523, -0.157),  # whether any do, in units of its mean
        (0.368, 0.342, -0.006, -0.128),  # the longest of them: log(1 + eighths), in units of the mean
        (0.095, 0.041, 0.037, -0.040),  # whether one of the piece's lowest tenth is among them, likewise
        (0.389, -0.647, -0.536, -0.472),  # new harmony: 1 - cosine of the pitch classes of 2 beats before and after
        (0.164, 0.979, -0.280, 0.262),  # the same over 4 beats
    ]
)
PLACES = {2: (0, 3), 3: (0, 1, 3), 4: (0, 1, 2, 3), 5: (0, 1, 1, 2, 3), 6: (0, 1, 3, 2, 1, 3)}  # by beats in a bar
LENGTHS = tuple(PLACES)
METRES = {4: 0.0, 3: 0.06}  # regular bars in quarters, and the weight of each such bar
RARE = {4: 0.0, 3: -2.0}  # log odds of the metres
IRREGULAR = -3.5  # weight of a bar of another length
PAD = 8  # beats of silence on either side, so that the first and last bar may be incomplete
NEVER = -1e9  # log probability


@dataclass(frozen=True)
class Grid:
    """Where the beats and bars of a piece are, and how sure that is.

    `action` is "kept", "shifted" (other bar lines in the file's own metre), "re-barred" (another metre too) or
    "free". `confidence` (0-1) is the expected share of right bar lines; for a kept grid how closely the onsets
    keep to it. `shift` is in ticks; `metres` holds (tick, numerator, denominator), after the shift.
    """

    action: str
    confidence: float
    reason: str
    shift: int = 0
    metres: tuple[tuple[int, int, int], ...] = ()


class Subdivision(NamedTuple):
    """How onsets lie around the parts of a beat: times in beats."""

    parts: int  # of a beat: 4, 3 or 6
    concentration: float  # of the onsets, 0-1
    phase: float  # of the pulse behind the file's ticks, within half a part
    jitter: float  # a robust standard deviation

    def lies_on_ticks(self, ticks_per_quarter: int) -> bool:
        """Whether the file's own ticks can be the pulse: within rounding, or within a player's own looseness."""
        return abs(self.phase) <= max(1.5 / ticks_per_quarter, 3 * self.jitter)


def estimate_grid(score: Score) -> Grid:
    """Check a piece's beats and bar lines, and find them where they are wrong. Takes about 10 ms a song.

    Believes files whose onsets lie on their own ticks under a metre that has beats (notation, music played to a
    click), with all metre changes and pickups. Apply the answer with `apply_grid`.
    """
    if score.free:
        return Grid("free", 1.0, "free time already")
    onsets = np.unique(score.notes["onset"])
    if len(onsets) < MIN_ONSETS:
        return _kept(score, 1.0, f"{len(onsets)} onsets say nothing about a grid")
    has_beats = (score.metres["numerator"] > 1).any()
    played = len(np.unique(score.notes["velocity"])) > PLAYED
    share = _share_on_ticks(onsets / score.ticks_per_quarter, 1 / score.ticks_per_quarter)
    if has_beats and not played and share >= NOTATED:
        return _kept(score, share, f"notation: {share:.0%} of the onsets lie on 24ths of the file's quarters")
    pulse = _pulse(score)
    keeps = f"onsets keep to a pulse by {pulse.concentration:.2f} of 1"
    if pulse.concentration < MIN_PULSE:
        return Grid("free", pulse.concentration, f"{keeps}: no beat")
    reading = None
    if has_beats and pulse.lies_on_ticks(score.ticks_per_quarter):
        reading = _read(score, pulse) if played else None
        if reading is None or reading.odds < OVERRULED[0] or reading.confidence < OVERRULED[1]:
            return _kept(score, (1 + pulse.concentration) / 2, f"{keeps}, on the file's own ticks")
    return _barred(score, pulse, reading or _read(score, pulse))


def apply_grid(score: Score, grid: Grid) -> Score:
    """The same music on its grid: beats on quarters, a bar line at tick 0, the metre map of the grid.

    All times move by one number of ticks, the tempo map with them, so that seconds move by one constant; the first
    bar is filled up with silence. A kept piece is returned as it is, and free time as `score.freed()`.
    """
    if grid.action == "kept":
        return score
    if grid.action == "free":
        return score.freed()
    moved = {name: shifted(getattr(score, name), grid.shift) for name in ("notes", "pedals", "tempos", "chords")}
    moved["tempos"]["tick"][0] = 0
    return score.replace(metres=grid.metres, **moved)


def main_metre(score: Score) -> tuple[int, int]:
    """Numerator and denominator of the metre that is in force for the longest."""
    lasting: Counter[tuple[int, int]] = Counter()
    edges = np.minimum(np.append(score.metres["tick"], score.end), score.end)
    for (_, *metre), ticks in zip(score.metres.tolist(), np.diff(edges).tolist(), strict=True):
        lasting[tuple(metre)] += ticks
    return lasting.most_common(1)[0][0]


def _kept(score: Score, confidence: float, reason: str) -> Grid:
    return Grid("kept", confidence, reason, 0, tuple(score.metres.tolist()))


def _share_on_ticks(beats: np.ndarray, tolerance: float) -> float:
    """The share of onsets (in beats) within `tolerance` of a 24th of a beat: 32nds and sextuplets."""
    return float(np.mean(np.abs((beats + 1 / 48) % (1 / 24) - 1 / 48) <= tolerance + 1e-9))


# --- pulse ----------------------------------------------------------------------------------------------------


def _pulse(score: Score) -> Subdivision:
    """The best pulse among four, three and six parts of a quarter; the simpler of two that fit alike."""
    beats = score.notes["onset"] / score.ticks_per_quarter
    means = {parts: np.exp(2j * np.pi * parts * beats).mean() for parts in (4, 3, 6)}
    parts = max(means, key=lambda parts: abs(means[parts]) - 0.02 * (parts != 4))

    def wrapped(times):
        return (times * parts + 0.5) % 1 / parts - 0.5 / parts

    phase = np.angle(means[parts]) / (2 * np.pi * parts)
    phase = wrapped(phase + np.median(wrapped(beats - phase)))  # the median is exact where most onsets are
    jitter = 1.48 * np.median(np.abs(wrapped(beats - phase)))
    return Subdivision(parts, float(abs(means[parts])), float(phase), float(jitter))


# --- bars -----------------------------------------------------------------------------------------------------


class Reading(NamedTuple):
    """Bar lines read from the music."""

    bars: np.ndarray  # beats from the pulse at tick 0; the last one ends the piece
    length: int  # of a regular bar, in beats
    offset: int  # of the beats, in parts of a beat
    confidence: float  # the expected share of right bar lines
    odds: float  # log odds of these beats against the file's own


def _barred(score: Score, pulse: Subdivision, reading: Reading) -> Grid:
    """The grid of bar lines that were read."""
    bars, length, offset, confidence, _ = reading
    if confidence < THRESHOLD:
        return Grid("free", confidence, f"no bar line stands out ({confidence:.2f} of 1)")
    ticks = score.ticks_per_quarter
    start = round((pulse.phase + offset / pulse.parts + bars[0]) * ticks)
    empty = max(0, -(-start // (length * ticks)))  # whole bars before the first that has music
    shift = empty * length * ticks - start
    lengths = np.concatenate([np.full(empty, length), np.diff(bars)])
    lines = ticks * np.concatenate([[0], np.cumsum(lengths)[:-1]])
    changes = np.append(True, np.diff(lengths) != 0)
    metres = tuple(
        (tick, beats, 4) for tick, beats in zip(lines[changes].tolist(), lengths[changes].tolist(), strict=True)
    )
    own = tuple(score.metres[0].tolist()[1:])
    action = "shifted" if own == (length, 4) and len(score.metres) == 1 else "re-barred"
    said = f"the file says {own[0]}/{own[1]}, its beats lie {abs(pulse.phase):.2f} of a quarter off the pulse"
    return Grid(action, confidence, f"{said}; {length}/4 found", shift, metres)


def _read(score: Score, pulse: Subdivision) -> Reading:
    """The best bar lines of a piece on this pulse."""
    evidence, first = _evidence(score, pulse)
    reading = _best_bars(_bar_weights(evidence, pulse.parts))
    return reading._replace(bars=reading.bars + first // pulse.parts)


def _evidence(score: Score, pulse: Subdivision) -> tuple[np.ndarray, int]:
    """What speaks for a beat at each part of a beat, and the part that comes first, counted from the pulse at tick 0.

    Shape [parts in the piece, 6], a whole number of beats.
    """
    part = np.rint((score.notes["onset"] / score.ticks_per_quarter - pulse.phase) * pulse.parts).astype(np.int64)
    first = int(part.min()) // pulse.parts * pulse.parts
    part -= first
    inside = part < MAX_BEATS * pulse.parts
    notes, part = score.notes[inside], part[inside]
    size = (int(part.max()) // pulse.parts + 1) * pulse.parts
    drums = np.array([track.drums for track in score.tracks])[notes["track"]]
    beats = np.minimum(notes["duration"] / score.ticks_per_quarter, 4)
    number = np.bincount(part, minlength=size)
    longest = np.zeros(size)
    np.maximum.at(longest, part, np.log1p(2 * beats) * ~drums)
    low = np.bincount(part, _low(notes["pitch"], drums), minlength=size) > 0
    columns = np.stack([np.log1p(number), number > 0, longest, low], axis=1)
    columns /= np.maximum(columns[number > 0].mean(axis=0), 1e-9)
    chroma = np.zeros((size, 12))
    np.add.at(chroma, (part, notes["pitch"] % 12), np.minimum(beats, 2) * ~drums)
    harmony = [_change(chroma, width * pulse.parts) for width in (2, 4)]
    return np.column_stack([columns, *harmony]), first


def _low(pitch: np.ndarray, drums: np.ndarray) -> np.ndarray:
    """Notes of the lowest tenth, and bass drums."""
    kick = drums & ((pitch == 35) | (pitch == 36))
    return kick if drums.all() else kick | ~drums & (pitch <= np.percentile(pitch[~drums], 10))


def _change(chroma: np.ndarray, width: int) -> np.ndarray:
    """How the pitch classes of the `width` rows from each row on differ from those before: 1 - cosine, 0 if silent."""
    total = np.concatenate([np.zeros((width, 12)), np.cumsum(chroma, axis=0)])
    total = np.concatenate([np.zeros((1, 12)), total, np.repeat(total[-1:], width, axis=0)])
    middle = total[width : width + len(chroma)]
    before, after = middle - total[: len(chroma)], total[2 * width : 2 * width + len(chroma)] - middle
    norm = np.sqrt((before**2).sum(axis=1) * (after**2).sum(axis=1))
    return np.where(norm > 0, 1 - (before * after).sum(axis=1) / np.maximum(norm, 1e-9), 0)


def _bar_weights(evidence: np.ndarray, parts: int) -> np.ndarray:
    """The weight of a bar of each of LENGTHS that ends before each beat: [beats + 2 PAD + 1, length, offset].

    The offset is the part of the beat on which beats are taken to lie; every offset is a reading of its own.
    """
    places = (evidence @ WEIGHTS).reshape(-1, parts, WEIGHTS.shape[1])
    places = np.pad(places, ((PAD, PAD), (0, 0), (0, 0)))
    weights = np.full((len(places) + 1, len(LENGTHS), parts), NEVER)
    for index, length in enumerate(LENGTHS):
        stop = len(places) + 1 - length
        weights[length:, index] = sum(places[i : i + stop, :, place] for i, place in enumerate(PLACES[length]))
    return weights


def _best_bars(weights: np.ndarray) -> Reading:
    """The best row of bars over all offsets and metres, counted from the first beat that has music."""
    size = len(weights)
    bias = np.array([[METRES[m] if length == m else IRREGULAR for m in METRES] for length in LENGTHS])
    weights = weights[:, :, :, None] + bias[None, :, None, :]  # [beat, length, offset, metre]
    starts = np.where(np.arange(PAD + 1)[:, None] > PAD - np.array([*METRES]), 0.0, NEVER)  # [beat, metre]
    forward = _forward(weights, starts[:, None])
    ends = [np.arange(size - 1 - PAD, size - 1 - PAD + m) for m in METRES]
    totals = [np.logaddexp.reduce(forward[beats, :, i]) for i, beats in enumerate(ends)]
    totals = np.stack(totals, axis=1) + np.array([*RARE.values()])
    offset, metre = np.unravel_index(totals.argmax(), totals.shape)
    chosen = weights[:, :, offset, metre]
    backward = _backward(chosen, ends[metre])
    path = _path(chosen, starts[:, metre], ends[metre])
    sure = np.exp(
        forward[path, offset, metre] + backward[path] - np.logaddexp.reduce(forward[ends[metre], offset, metre])
    )
    reading = np.exp(totals[offset, metre] - np.logaddexp.reduce(totals, axis=None))
    odds = totals.max() - np.logaddexp.reduce(totals[0])
    return Reading(path - PAD, [*METRES][metre], int(offset), float(reading * sure[:-1].mean()), float(odds))


def _forward(weights: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Log weight of all rows of bars that end before each beat: [beat, offset, metre]."""
    reach = max(LENGTHS)
    total = np.full((len(weights) + reach, *weights.shape[2:]), NEVER)
    for beat in range(len(weights)):
        before = total[beat + reach - np.array(LENGTHS)]
        total[beat + reach] = np.logaddexp.reduce(before + weights[beat], axis=0)
        if beat < len(starts):
            total[beat + reach] = np.logaddexp(total[beat + reach], starts[beat])
    return total[reach:]


def _backward(weights: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Log weight of all rows of bars from each beat to the end of the piece: [beat]."""
    reach, lengths, index = max(LENGTHS), np.array(LENGTHS), np.arange(len(LENGTHS))
    total = np.full(len(weights) + reach, NEVER)
    total[ends] = 0
    padded = np.pad(weights, ((0, reach), (0, 0)), constant_values=NEVER)
    for beat in range(ends[-1] - 1, -1, -1):
        total[beat] = np.logaddexp(
            total[beat], np.logaddexp.reduce(total[beat + lengths] + padded[beat + lengths, index])
        )
    return total[: len(weights)]


def _path(weights: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """The beats that begin the bars of the best row, and its end (Viterbi)."""
    best, length_of = [NEVER] * len(weights), [0] * len(weights)
    best[: len(starts)] = starts.tolist()
    for beat, row in enumerate(weights.tolist()):
        for length, weight in zip(LENGTHS, row, strict=True):
            if beat >= length and best[beat - length] + weight > best[beat]:
                best[beat], length_of[beat] = best[beat - length] + weight, length
    path = [max(ends.tolist(), key=best.__getitem__)]
    while length_of[path[-1]]:
        path.append(path[-1] - length_of[path[-1]])
    return np.array(path[::-1])
