"""What may follow in a stream of REMI: bars come from the plan, and time goes forward."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ..music.score import PARTS
from . import EOS, NoteGrammar, Plan, Tokenizer
from ._remi_words import (
    BAR,
    BASS,
    CHORD,
    DURATION,
    DURATIONS,
    KIND,
    KINDS,
    METRE,
    OTHER,
    PART,
    PITCH,
    POSITION,
    TEMPO,
    VELOCITY,
    WORDS,
    Bars,
)


class RemiGrammar(NoteGrammar):
    """Bars come from the plan; inside a bar positions rise, parts and pitches rise at a position."""

    keys, part_words, leads = PITCH, PART, ("melody",)
    strikes = np.isin(np.arange(len(WORDS)), range(PITCH, VELOCITY))
    leaves = np.isin(KIND, [KINDS.index("bar"), KINDS.index("position")]) | (np.arange(len(WORDS)) == EOS)

    def __init__(self, tokenizer: Tokenizer, plan: Plan):
        super().__init__(tokenizer, plan)
        self.score = score = plan.laid_out
        self.bars = bars = Bars(score, plan.start, plan.end, plan.last)
        given = score.only(*plan.given).replace(chords=())
        fixed = tokenizer.body(given, plan.start, plan.end, given=plan.given, last=plan.last)
        lines = np.flatnonzero(KIND[fixed.ids] == KINDS.index("bar"))
        self.headers = [ids.tolist() for ids in np.split(fixed.ids, lines[1:])]
        marks = zip(*(column.tolist() for column in tokenizer.chord_marks(score, bars)), strict=True)
        self.marks = [(step, [chord] if bass < 0 else [chord, bass]) for step, chord, bass in marks]
        self.open_end = plan.last is None
        self.held: list[list[int]] = []
        self._open_bar()

    @cached_property
    def end(self) -> int:
        return int(self.bars.starts[-1])

    def _open_bar(self) -> None:
        self.header = list(self.headers[len(self.lines)])
        self.lines.append(len(self.ids))
        self.times.append(self.line)
        self.position = self.pitch = -1
        self.part = self.top = OTHER  # `part` is in force; `top` is the highest part at this position
        self.stage = "bar"

    @property
    def line(self) -> int:
        """The current bar's first step."""
        return int(self.bars.starts[len(self.lines) - 1])

    @property
    def now(self) -> int:
        return self.line + self.position

    @property
    def ringing(self) -> list[list[int]]:
        return [[self.now, -1, self.pitch, self.part]] if self.stage == "velocity" else []

    @property
    def waits(self) -> int:
        return self._next_bar

    def stands(self) -> np.ndarray:
        steps = np.full(len(WORDS), -1)
        steps[POSITION:CHORD] = self.line + np.arange(CHORD - POSITION)
        steps[[BAR, self._next_bar]] = self.bars.starts[len(self.lines)]
        return steps

    def late(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        past, last = np.zeros((2, len(WORDS)), dtype=bool)
        first = DURATION + int(np.searchsorted(DURATIONS, step - self.now, side="right"))
        past[first : DURATION + len(DURATIONS)] = last[first - 1] = True
        return past, last

    def steps(self, ticks: np.ndarray) -> np.ndarray:
        return self.bars.steps(ticks)

    def seconds(self, steps: np.ndarray) -> np.ndarray:
        origin = self.bars.origin
        return self.score.seconds((np.asarray(steps) + origin) / self.bars.scale) - self.score.seconds(
            origin / self.bars.scale
        )

    @property
    def share(self) -> float:
        return 1.0 if self.done else (len(self.lines) - 1) / len(self.headers)

    def window(self, keep: int) -> list[int]:
        """The last at most `keep` ids from a bar line on, metre and tempo stated again; the current bar at least."""
        bar = next((b for b, at in enumerate(self.lines) if len(self.ids) - at <= keep - 2), len(self.lines) - 1)
        ids = self.ids[self.lines[bar] :]
        if not ids:
            return []
        said = [token for token in ids[1:3] if KINDS[KIND[token]] in ("metre", "tempo")]
        full = [METRE + int(self.bars.metre[bar]), TEMPO + int(self.bars.tempo[bar])]
        return [ids[0], *full, *ids[1 + len(said) :][-max(keep - 3, 1) :]]  # a bar longer than that loses its start

    def allowed(self) -> np.ndarray:
        mask = np.zeros(len(WORDS), dtype=bool)
        getattr(self, f"_after_{self.stage}")(mask)
        return mask

    def _after_bar(self, mask: np.ndarray) -> None:
        length = int(self.bars.starts[len(self.lines)]) - self.line
        mask[POSITION + self.position + 1 : POSITION + length] = True
        mask[self._next_bar] = True
        if self.open_end and self._next_bar == EOS:
            mask[BAR] = True  # to the model the piece goes on
        if self.pitch >= 0:
            mask[PITCH + self.pitch + 1 : PITCH + 128] = True
            mask[PART + self.top + 1 : PART + len(PARTS)] = self.parts[self.top + 1 :]

    @property
    def _next_bar(self) -> int:
        return self.headers[len(self.lines)][0] if len(self.lines) < len(self.headers) else EOS

    def _after_position(self, mask: np.ndarray) -> None:
        mask[PART : PART + len(PARTS)] = self.parts
        mask[PART + self.part] = False
        mask[PITCH : PITCH + 128] = self.parts[self.part]
        if self.own_chords:
            mask[CHORD:BASS] = True

    def _after_chord(self, mask: np.ndarray) -> None:
        self._after_bar(mask)
        self._after_position(mask)
        mask[CHORD:BASS] = False
        mask[BASS:PART] = self.own_chords and CHORD < self.ids[-1] < BASS

    _after_duration, _after_bass = _after_bar, _after_chord

    def _after_part(self, mask: np.ndarray) -> None:
        mask[PITCH : PITCH + 128] = True

    def _after_pitch(self, mask: np.ndarray) -> None:
        mask[VELOCITY:DURATION] = True

    def _after_velocity(self, mask: np.ndarray) -> None:
        room = DURATIONS[-1] if self.ring else self.end - self.line - self.position
        mask[DURATION : DURATION + int(np.searchsorted(DURATIONS, room, side="right"))] = True

    def push(self, token: int) -> int:
        if self.header:
            return self._append(self.header.pop(0))
        if self.queue:
            return self._enter(self.queue.pop(0))
        if token == BAR and self._next_bar == EOS:
            token = EOS
        bar_line = token == self._next_bar
        if bar_line or POSITION <= token < CHORD:
            step = int(self.bars.starts[len(self.lines)]) if bar_line else self.line + token - POSITION
            if self.marks and self.marks[0][0] < step + (not bar_line):
                return self._enter_mark()
        if bar_line and token != EOS:
            self._open_bar()
            return self._append(self.header.pop(0))
        return self._enter(token)

    def _append(self, token: int) -> int:
        self.ids.append(token)
        return token

    def _enter_mark(self) -> int:
        """The plan's next chord comes before the sampled id: its position now, the chord after it."""
        step, self.queue = self.marks.pop(0)
        return self._enter(POSITION + step - self.line)

    def _enter(self, token: int) -> int:
        self.stage = KINDS[KIND[token]]
        if self.stage == "position":
            self.position, self.pitch, self.top = token - POSITION, -1, -1
            self.held = [note for note in self.held if note[1] > self.now]
        elif self.stage == "part":
            self.part = self.top = token - PART
            self.pitch = -1
        elif self.stage == "pitch":
            self.pitch, self.top = token - PITCH, self.part
        elif self.stage == "duration":
            self._strike(self.now + DURATIONS[token - DURATION])
        self.done = token == EOS
        return self._append(token)

    def _strike(self, end: int) -> None:
        """A note has been spelled; it ends one of its pitch and part that still rings."""
        key = [self.pitch, self.part]
        for note in self.held:
            if note[2:] == key:
                note[1] = self.now
        self.notes.append([self.now, end, *key])
        self.held = [note for note in self.held if note[1] > self.now] + [self.notes[-1]]
