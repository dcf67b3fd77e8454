"""The words of REMI, and the bars and steps they count in."""

from __future__ import annotations

import numpy as np

from ...errors import InputError
from ..music.score import PARTS, Score
from . import BASS_WORDS, CHORD_WORDS, HEAD_WORDS, PART_WORDS, SPECIALS, TASK_WORDS

STEPS = 12  # positions a quarter
LONGEST_BAR = 8 * STEPS
LEFT = (*range(1, 17), 24, 32, 48, 64)  # bars to the end of the piece, this one counted; each means "at most"
METRES = tuple((n, d) for d in (2, 4, 8, 16) for n in range(1, 16) if 4 * STEPS * n <= LONGEST_BAR * d)
TEMPOS = tuple(round(float(bpm), 1) for bpm in np.geomspace(30, 300, 40))
VELOCITY_STEP = 8
DURATIONS = (*range(1, 13), 14, 15, 16, 18, 20, 21, 22, 24, 27, 28, 30, 32, 33, 36, 40, 42, 45, 48, 54, 60, 66, 72, 84)
DURATIONS += (96, 108, 120, 144, 168, 192)
OTHER = PARTS.index("other")

GROUPS = {
    "special": SPECIALS,
    "bar": ("Bar_None", *(f"Bar_{left}" for left in LEFT)),
    "metre": tuple(f"TimeSig_{n}/{d}" for n, d in METRES),
    "tempo": tuple(f"Tempo_{bpm}" for bpm in TEMPOS),
    "position": tuple(f"Position_{step}" for step in range(LONGEST_BAR)),
    "chord": CHORD_WORDS,
    "bass": BASS_WORDS,
    "part": PART_WORDS,
    "pitch": tuple(f"Pitch_{pitch}" for pitch in range(128)),
    "velocity": tuple(f"Velocity_{level * VELOCITY_STEP + 4}" for level in range(128 // VELOCITY_STEP)),
    "duration": tuple(f"Duration_{steps}" for steps in DURATIONS),
    "task": TASK_WORDS,
    "head": HEAD_WORDS,
}
WORDS = tuple(word for words in GROUPS.values() for word in words)
FIRST = dict(zip(GROUPS, np.cumsum([0, *(len(words) for words in GROUPS.values())]).tolist(), strict=False))
KINDS = list(GROUPS)
KIND = np.repeat(np.arange(len(GROUPS)), [len(words) for words in GROUPS.values()])
(BAR, METRE, TEMPO, POSITION, CHORD, BASS, PART, PITCH, VELOCITY, DURATION) = (FIRST[kind] for kind in KINDS[1:11])
GIVEN, WRITE = WORDS.index("Given"), WORDS.index("Write")

_NAMED = np.full((256, 256), -1)  # a METRE's numerator and denominator to its place in METRES
_NAMED[tuple(np.transpose(METRES))] = np.arange(len(METRES))
BAR_LENGTHS = np.array([4 * STEPS * n // d for n, d in METRES])
_BETWEEN_TEMPOS = np.sqrt(np.multiply(TEMPOS[1:], TEMPOS[:-1]))  # where one tempo is as near as the next, by ratio
DURATION_STEPS = np.array(DURATIONS)
NEAREST_DURATION = np.abs(np.arange(DURATIONS[-1] + 1)[:, None] - DURATION_STEPS).argmin(axis=1).astype(np.int16)
FLOOR_DURATION = np.searchsorted(DURATION_STEPS, np.arange(DURATIONS[-1] + 1), side="right").astype(np.int16) - 1


class Bars:
    """The bars that begin in [start, end) ticks: `starts` (B+1 steps from the first), metre and tempo ids (B)."""

    def __init__(self, score: Score, start: int, end: int, last: int | None = None):
        if score.free:
            raise InputError("music in free time has no bars; use --tokenizer performance")
        lines = score.bars(max(end, start + 1))
        first = int(np.searchsorted(lines, start))
        lines = lines[first : int(np.searchsorted(lines, end)) + 1]
        self.scale = STEPS / score.ticks_per_quarter
        metre = score.metres[np.searchsorted(score.metres["tick"], lines[:-1], side="right") - 1]
        steps, metres = _name_bars(self._rounded(lines), metre)
        count = max(int(np.searchsorted(steps[:-1], end * self.scale)), 1)
        steps, self.metre = steps[: count + 1], metres[:count]
        self.origin = int(steps[0])
        self.starts = steps - self.origin
        seconds = np.diff(score.seconds(steps / self.scale))
        bpm = np.diff(self.starts) / STEPS * 60 / np.maximum(seconds, 1e-3)
        self.tempo = np.searchsorted(_BETWEEN_TEMPOS, bpm)
        self.left = self._left(score, last)

    def _rounded(self, lines: np.ndarray) -> np.ndarray:
        """Bar lines in steps, each on a sixteenth."""
        return np.rint(lines * (self.scale / 3)).astype(np.int64) * 3

    def _left(self, score: Score, last: int | None) -> np.ndarray:
        """The countdown token of each bar, as an index into GROUPS["bar"]; 0 says nothing."""
        if last is None:
            return np.zeros(len(self.metre), dtype=np.int64)
        lines = self._rounded(score.bars(last)) - self.origin
        bars = len(lines) - 1 - np.searchsorted(lines, self.starts[:-1])
        index = np.searchsorted(LEFT, np.maximum(bars, 1)) + 1
        return np.where(index > len(LEFT), 0, index)

    def at(self, steps: np.ndarray) -> np.ndarray:
        """The bar each step lies in."""
        return np.searchsorted(self.starts, steps, side="right") - 1

    def steps(self, ticks: np.ndarray) -> np.ndarray:
        """Ticks of the score as steps from the first bar line, to the nearest."""
        return np.rint(ticks * self.scale).astype(np.int64) - self.origin

    def beats(self, score: Score) -> np.ndarray:
        """Beats and bar lines in steps, not sorted; some may lie before or after the bars."""
        beats = score.beats(int((self.origin + self.starts[-1]) / self.scale))
        return np.append(self.steps(beats), self.starts)


def _name_bars(lines: np.ndarray, metre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bar lines in steps and the metre of each bar; a bar that has no name is cut into 4/4 bars and a rest."""
    lengths = np.diff(lines)
    named = _NAMED[metre["numerator"], metre["denominator"]]
    if ((named >= 0) & (BAR_LENGTHS[named] == lengths)).all():
        return lines, named
    starts, names = [int(lines[0])], []
    for length, name in zip(lengths.tolist(), named.tolist(), strict=True):
        if name >= 0 and BAR_LENGTHS[name] == length:
            pieces = [name]
        else:
            whole, rest = divmod(length, 4 * STEPS) if length not in BAR_LENGTHS else (0, length)
            pieces = [METRES.index((4, 4))] * whole + ([int(np.flatnonzero(rest == BAR_LENGTHS)[0])] if rest else [])
        for piece in pieces:
            starts.append(starts[-1] + int(BAR_LENGTHS[piece]))
            names.append(piece)
    return np.array(starts), np.array(names)
