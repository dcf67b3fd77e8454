"""What may follow in a stream of Performance: keys go down and up, and time goes forward."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from ..music.score import PARTS
from . import EOS, NoteGrammar, Plan, Tokenizer
from ._performance_words import (
    AHEAD,
    BASS,
    CHORD,
    GIVEN,
    LEFT_1,
    LONGEST,
    OFF,
    ON,
    OTHER,
    PART,
    PEDAL_OFF,
    PEDAL_ON,
    SHIFT,
    STEP,
    VELOCITY,
    WORDS,
    WRITE,
    Clock,
)

MOST_HELD = 20  # notes that a moved window strikes again
NEAR, NEARER = 40, 0.6  # how early the model may be with a chord of the plan: steps, and part of the time between two


class PerformanceGrammar(NoteGrammar):
    """A key is struck only when up and lifted only when down; the plan's marks stop every time shift.

    A model keeps its own time, and a chord of the plan may come a little later than it thought. Then it may write the
    chord, and time goes on to its place. Forbidden to, it would go on without the bar line that it has reached, be
    given another soon after, and play both: takes over chords grew denser from bar to bar.
    """

    keys, releases, part_words, leads = ON, OFF, PART, ("melody", "right")
    strikes = np.isin(np.arange(len(WORDS)), [*range(ON, OFF), *range(VELOCITY, PEDAL_ON)])
    passes = np.isin(np.arange(len(WORDS)), range(SHIFT + 1, VELOCITY))
    leaves = np.isin(np.arange(len(WORDS)), [EOS, *range(CHORD, BASS)]) | passes

    def __init__(self, tokenizer: Tokenizer, plan: Plan):
        super().__init__(tokenizer, plan)
        fixed = tokenizer.pedalled(plan.laid_out).only(*plan.given).replace(pedals=())
        body = tokenizer.body(fixed, plan.start, plan.end, given=plan.given, last=plan.last)
        self.time = -AHEAD if plan.given else 0
        self.marks = _marks(body.ids, self.time)
        self.clock = Clock(plan.score, plan.start, plan.end)
        self.end = self.clock.length
        self.ahead = [step for step in self.clock.bars().tolist() if 0 < step < self.end]  # bar lines still to come
        self.pedals = tokenizer.pedal == "events"
        self.lines, self.times = [0], [0]
        self.reached = 0  # where the chord before stood
        self.down: dict[int, list[int]] = {}  # pitch to its row of `notes`
        self.velocity, self.part, self.pedal = -1, OTHER, False
        self.stage, self.struck, self.rested = "event", False, False
        self._reach()

    def _reach(self) -> None:
        """Put in what the plan has for this moment, or what closes the take at its end."""
        self.struck = False
        if self.marks and self.marks[0][0] <= self.time:
            place, self.header = self.marks.pop(0)
            self.reached = place if _has_chord(self.header) else self.reached
        if self.time < 0:
            self._queue_shift(min(0, self.marks[0][0]) if self.marks else 0)
        elif self.time >= self.end:
            self._close()

    def _close(self) -> None:
        if not self.ring:
            self.queue = [OFF + pitch for pitch in sorted(self.down)] + [PEDAL_OFF] * self.pedal + [EOS]
        elif not self.down:
            self.queue = [EOS]

    def _queue_shift(self, until: int) -> None:
        full, rest = divmod(until - self.time, LONGEST)
        self.queue += [SHIFT + LONGEST] * full + ([SHIFT + rest] if rest else [])

    @property
    def now(self) -> int:
        return self.time

    @property
    def held(self) -> list[list[int]]:
        return list(self.down.values())

    ringing = held

    @property
    def waits(self) -> int:
        return SHIFT + LONGEST

    def stands(self) -> np.ndarray:
        steps = np.full(len(WORDS), -1)
        steps[SHIFT + 1 : SHIFT + LONGEST + 1] = self.time + np.arange(1, LONGEST + 1)
        return steps

    def late(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        past, last = np.zeros((2, len(WORDS)), dtype=bool)
        if step - self.time < LONGEST:
            past[SHIFT + 1 + step - self.time : SHIFT + LONGEST + 1] = True
            last[SHIFT + step - self.time] = step > self.time
        past[CHORD:BASS] = not self.own_chords and bool(self.marks) and self.marks[0][0] > step
        return past, last

    def steps(self, ticks: np.ndarray) -> np.ndarray:
        return self.clock.steps(ticks)

    def seconds(self, steps: np.ndarray) -> np.ndarray:
        return np.asarray(steps) * (STEP / 1000)

    def allowed(self) -> np.ndarray:
        mask = np.zeros(len(WORDS), dtype=bool)
        up = np.ones(128, dtype=bool)
        up[list(self.down)] = False
        if self.stage in ("velocity", "part"):
            mask[ON:OFF] = up & (self.velocity >= 0)
            if self.stage == "part":
                self._allow_velocity(mask)
            return mask
        self._allow_off(mask)
        mask[SHIFT + 1 : SHIFT + LONGEST + 1] = not self.rested
        if self.time >= self.end or not up.any():
            return mask
        mask[ON:OFF] = up & (self.velocity >= 0) & self.parts[self.part]
        self._allow_velocity(mask)
        mask[PART : PART + len(PARTS)] = self.parts
        mask[PART + self.part] = False
        if self.pedals and not self.struck:
            mask[PEDAL_OFF if self.pedal else PEDAL_ON] = True
        if (self.own_chords or self._chord_is_near()) and self.stage in ("shift", "event"):
            mask[CHORD:BASS] = True
        if self.own_chords and self.stage == "chord" and self.ids[-1] != CHORD:
            mask[BASS:] = True
        return mask

    def _chord_is_near(self) -> bool:
        """Whether the next of the plan's chords comes so soon that the model may have meant it."""
        if not self.marks or not _has_chord(self.marks[0][1]):
            return False
        place = self.marks[0][0]
        return place - self.time <= min(NEAR, NEARER * (place - self.reached))

    def _allow_velocity(self, mask: np.ndarray) -> None:
        mask[VELOCITY:PEDAL_ON] = self.parts[self.part]
        mask[VELOCITY + self.velocity] &= self.velocity < 0

    def _allow_off(self, mask: np.ndarray) -> None:
        if not self.struck:
            mask[[OFF + pitch for pitch, note in self.down.items() if note[0] < self.time]] = True

    def push(self, token: int) -> int:
        if self.header:
            token = self.header.pop(0)
            self.ids.append(token)
            self.stage, self.rested = "event", False
            return token
        chosen = not self.queue
        token = self._clip(token) if chosen else self.queue.pop(0)
        self.ids.append(token)
        if SHIFT < token < VELOCITY:
            self.rested = chosen and token < SHIFT + LONGEST
            self._pass(token - SHIFT)
        else:
            self._play(token)
        return token

    def _clip(self, token: int) -> int:
        """A time shift ends at the next mark, or at the plan's end unless notes ring past it; other ids stay. A chord
        that comes early is the shift to its place."""
        if token >= CHORD and not self.own_chords:
            return SHIFT + self.marks[0][0] - self.time
        if not SHIFT < token < VELOCITY:
            return token
        stops = [mark[0] for mark in self.marks[:1]] + (
            [self.end] if self.time < self.end and not (self.ring and self.down) else []
        )
        return min(token, SHIFT + min(stop - self.time for stop in stops)) if stops else token

    def _pass(self, steps: int) -> None:
        self.time += steps
        self.stage = "shift"
        if self.ahead and self.ahead[0] <= self.time:
            self.ahead = [step for step in self.ahead if step > self.time]
            self.lines.append(len(self.ids))
            self.times.append(self.time)
        if not self.queue:
            self._reach()

    def _play(self, token: int) -> None:
        self.stage, self.rested, self.done = "event", False, token == EOS
        if ON <= token < OFF:
            self.down[token - ON] = [self.time, -1, token - ON, self.part]
            self.notes.append(self.down[token - ON])
            self.struck = True
        elif OFF <= token <= SHIFT:
            note = self.down.pop(token - OFF, None)
            if note is not None:
                note[1] = self.time
            if self.time >= self.end and not self.queue:
                self._close()
        elif VELOCITY <= token < PEDAL_ON:
            self.velocity, self.stage = token - VELOCITY, "velocity"
        elif token in (PEDAL_ON, PEDAL_OFF):
            self.pedal = token == PEDAL_ON
        elif PART <= token < PART + len(PARTS):
            self.part, self.stage = token - PART, "part"
        elif token >= CHORD:
            self.stage = "chord" if token < BASS else "event"

    @property
    def share(self) -> float:
        return 1.0 if self.done else min(max(self.time / self.end, 0.0), 1.0)

    def window(self, keep: int) -> list[int]:
        room = keep - MOST_HELD - 3  # for what has to be stated again
        start = next((at for at in self.lines if len(self.ids) - at <= room), max(len(self.ids) - room, 0))
        return _made_whole(self.ids[start:], self.ids[:start])


def _marks(ids: np.ndarray, time: int) -> list[tuple[int, list[int]]]:
    """The plan's ids by the step at which they stand, time shifts taken out."""
    marks: dict[int, list[int]] = defaultdict(list)
    for token in ids.tolist():
        if SHIFT < token < VELOCITY:
            time += token - SHIFT
        else:
            marks[time].append(token)
    return sorted(marks.items())


def _has_chord(mark: list[int]) -> bool:
    return max(mark) >= CHORD


def _made_whole(ids: list[int], before: list[int]) -> list[int]:
    """A cut stream that stands alone: what was in force is stated again, and held notes are struck again."""
    held: dict[int, None] = {}
    pedal, part, velocity, given = False, [], [], False
    for token in before:
        given = token == GIVEN or (given and token != WRITE)
        if given:
            continue
        if ON <= token < OFF:
            held[token - ON] = None
        elif OFF <= token <= SHIFT:
            held.pop(token - OFF, None)
        elif VELOCITY <= token < PEDAL_ON:
            velocity = [token]
        elif token in (PEDAL_ON, PEDAL_OFF):
            pedal = token == PEDAL_ON
        elif PART <= token < PART + len(PARTS):
            part = [token]
    first = next((at for at, token in enumerate(ids) if token < LEFT_1), len(ids))  # after countdown and chord
    stated = [PEDAL_ON] * pedal + part + velocity + [ON + pitch for pitch in sorted(list(held)[-MOST_HELD:])]
    return ids[:first] + stated + ids[first:]
