"""The words of Performance, and the clock they run by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..music.score import PARTS, Score
from . import BASS_WORDS, CHORD_WORDS, HEAD_WORDS, PART_WORDS, SPECIALS, TASK_WORDS

STEP = 10  # milliseconds
LONGEST = 100  # steps of one time shift
AHEAD = 100  # steps by which given events come early
FREE_BAR, FREE_BEAT = 200, 100  # steps, where there are neither
LEFT = (1, 2, 4, 8, 16, 32, 64, 128)  # seconds to the end of the piece; each means "at most"
OTHER = PARTS.index("other")

WORDS = (
    *SPECIALS,
    *(f"NOTE_ON_{pitch}" for pitch in range(128)),
    *(f"NOTE_OFF_{pitch}" for pitch in range(128)),
    *(f"TIME_SHIFT_{STEP * steps}ms" for steps in range(1, LONGEST + 1)),
    *(f"VELOCITY_{level}" for level in range(32)),
    "PEDAL_ON",
    "PEDAL_OFF",
    *PART_WORDS,
    *TASK_WORDS,
    *HEAD_WORDS,
    *(f"Left_{seconds}" for seconds in LEFT),
    *(word.upper() if word == "Chord_N" else "CHORD_" + word[6:] for word in CHORD_WORDS),
    *BASS_WORDS,
)
ON, OFF, SHIFT, VELOCITY, PEDAL_ON, PEDAL_OFF, PART = 3, 131, 258, 359, 391, 392, 393  # SHIFT + steps
GIVEN, WRITE, LEFT_1 = (WORDS.index(word) for word in ("Given", "Write", "Left_1"))
CHORD, BASS = 457, 457 + len(CHORD_WORDS)


class Clock:
    """Ticks of a score as steps of 10 ms from `start`; `length` is the step of `end`."""

    def __init__(self, score: Score, start: int, end: int):
        self.score, self.start = score, start
        self.origin = 0
        self.origin, last = self.steps(np.array([start, end])).tolist()
        self.length = max(last - self.origin, 1)

    def steps(self, ticks: np.ndarray) -> np.ndarray:
        """Ticks of the score as steps from `start`, to the nearest."""
        return np.rint(self.score.seconds(ticks) * (1000 / STEP)).astype(np.int64) - self.origin

    def bars(self) -> np.ndarray:
        """The steps of bar lines, in free time every two seconds."""
        return np.arange(0, self.length, FREE_BAR) if self.score.free else self._from_start(self.score.bars)

    def beats(self) -> np.ndarray:
        """The steps of beats, in free time every second."""
        return np.arange(0, self.length, FREE_BEAT) if self.score.free else self._from_start(self.score.beats)

    def _from_start(self, lines: Callable[[int], np.ndarray]) -> np.ndarray:
        found = lines(int(self.score.ticks((self.origin + self.length) * STEP / 1000)))
        return self.steps(found[found >= self.start])
