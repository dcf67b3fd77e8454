"""A guard that notices, at every bar line, when a take has run aground, and takes it back to where it was sound.

Four things are noticed: a loop (two bars or less, again and again, note for note), a stuck key, silence, and runaway
density. Each limit is beyond what real music does: together they fire in under 2% of real pieces
(benchmarks/guard.py). Ids are never penalised for coming again; music repeats itself. And no key is struck far
out of the corpus's range, nor more at once than there; where notes are ended by ids of their own, a forgotten key is
lifted.

    Guard().lifted(grammar, allowed), .playable(grammar, allowed) -> the ids that may come next
    Guard().look(grammar) -> how many ids to keep, where the take is to go back to an earlier bar line, a little warmer
    notice(notes, times, seconds) -> Fault or None            the detector alone, on any notes and bar lines
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import takewhile
from typing import NamedTuple

import numpy as np

from ..music.score import DRUMS, PARTS
from ..tokenizers import NoteGrammar

# All limits but that of density are in bars and in seconds: both have to be passed.
LOOP_TIMES, LOOP_PERIOD, LOOP_BARS, LOOP_SECONDS = 4, 2, 4, 8  # so often, a period of so many bars at the most
LOOP_TIMING = 0.03  # seconds by which the notes of a loop may come early or late
STUCK_BARS, STUCK_SECONDS = 8, 24  # one key held, or struck anew the moment it ends, no more than once a bar
SILENT_BARS, SILENT_SECONDS = 4, 10  # without an onset
DENSEST, DENSE_SECONDS = 56, 2  # notes a second, over at least so many seconds
REACH = 800  # notes that are looked back upon
PIANO = 21, 108  # A0 to C8: the pitches that may be struck, where the corpus does not say which
FINGERS = 10  # notes that may be struck at one moment, where the corpus does not say how many
LONGEST_NOTE = 6.0  # seconds that a key may be down, where the corpus does not say more: 99.9% of GiantMIDI's notes
WARMER = 0.15  # temperature added with every step back


class Fault(NamedTuple):
    """What is wrong, and the step since when."""

    name: str
    since: int


def notice(notes: np.ndarray, times: np.ndarray, seconds: np.ndarray) -> Fault | None:
    """What is wrong with music at the last of its bar lines, if anything.

    `notes` are rows (N, 3) of onset, end and pitch, up to that line; an end of -1 is still to come. `times` (B,) are
    bar lines from the first on, `seconds` (B,) the same in seconds. Notes and lines are in the same steps.
    """
    order = np.lexsort((notes[:, 2], notes[:, 0]))[-REACH:]
    onset, end, pitch = notes[order].T.astype(np.int64)
    heard = _SoFar(onset, np.where(end < 0, times[-1], end), pitch, times, seconds)
    for look in (_silent, _dense, _stuck, _looped):
        since = look(heard)
        if since is not None:
            return Fault(look.__name__[1:], int(since))
    return None


class _SoFar(NamedTuple):
    """Notes in order of onset, and the bar lines up to now."""

    onset: np.ndarray
    end: np.ndarray
    pitch: np.ndarray
    times: np.ndarray
    seconds: np.ndarray

    def measured(self, steps) -> tuple[np.ndarray, np.ndarray]:
        """Steps as bars and as seconds from the first bar line."""
        bars = np.interp(steps, self.times, np.arange(len(self.times)))
        return bars, np.interp(steps, self.times, self.seconds)

    def lasting(self, since, until) -> tuple[np.ndarray, np.ndarray]:
        """How many bars and seconds there are between two steps."""
        (first, begun), (last, ended) = self.measured(since), self.measured(until)
        return last - first, ended - begun


def _silent(heard: _SoFar) -> int | None:
    since = heard.onset[-1] if len(heard.onset) else heard.times[0]
    bars, seconds = heard.lasting(since, heard.times[-1])
    return since if bars >= SILENT_BARS and seconds >= SILENT_SECONDS else None


def _dense(heard: _SoFar) -> int | None:
    first = max(int(np.searchsorted(heard.seconds, heard.seconds[-1] - DENSE_SECONDS, side="right")) - 1, 0)
    count = len(heard.onset) - int(np.searchsorted(heard.onset, heard.times[first]))
    lasting = max(heard.seconds[-1] - heard.seconds[first], DENSE_SECONDS)
    return heard.times[first] if count > DENSEST * lasting else None


def _stuck(heard: _SoFar) -> int | None:
    bar = np.diff(heard.times[-2:]).max(initial=1)
    for pitch in np.unique(heard.pitch[heard.end >= heard.times[-1] - bar / 16]):
        mine = heard.pitch == pitch
        onset, end = heard.onset[mine], heard.end[mine]
        joined = (onset[1:] - end[:-1] <= bar / 16) & (np.diff(onset) >= 0.9 * bar)
        first = int(np.flatnonzero(~joined)[-1]) + 1 if not joined.all() else 0
        bars, seconds = heard.lasting(onset[first], min(end[-1], heard.times[-1]))
        if bars >= STUCK_BARS and seconds >= STUCK_SECONDS:
            return onset[first]
    return None


def _looped(heard: _SoFar) -> int | None:
    bars, seconds = heard.measured(heard.onset)
    pitch, count = heard.pitch, len(heard.pitch)
    lags = np.arange(1, count // LOOP_TIMES + 1)
    lags = lags[(pitch[count - 1 - lags] == pitch[-1:]) & (bars[-1:] - bars[count - 1 - lags] <= LOOP_PERIOD + 0.01)]
    between = np.diff(seconds, prepend=seconds[:1])
    for lag in lags.tolist():
        same = (pitch[lag:] == pitch[:-lag]) & (np.abs(between[lag:] - between[:-lag]) <= LOOP_TIMING)
        run = int(same[::-1].argmin()) if not same.all() else len(same)
        first = count - run - lag
        long = bars[-1] - bars[first] >= LOOP_BARS and seconds[-1] - seconds[first] >= LOOP_SECONDS
        if run >= (LOOP_TIMES - 1) * lag and long:
            return heard.onset[first + lag]
    return None


@dataclass
class Guard:
    """Watches over one take, and steps it back at most `most` times. `happened` tells each time: what was noticed at
    which bar (counted from 0, of the bars written), the bar it went back to (None when it was let go on), and how much
    was added to the temperature up to where it was noticed.
    """

    most: int = 4
    longest_note: float = LONGEST_NOTE  # seconds
    pitches: tuple[int, int] = PIANO  # the lowest and the highest
    together: int = FINGERS  # notes struck at one moment
    sets_in: int | None = None  # the step before which music that begins from nothing strikes its first note
    warmer: float = 0.0  # added to the temperature for now
    happened: list[dict] = field(default_factory=list)
    seen: tuple[int, int] = (0, 0)  # lines and notes there were at the last look
    until: int = -1  # the step up to which the take stays warmer
    again: int = 0  # steps back without having come past that

    def lifted(self, grammar: NoteGrammar, allowed: np.ndarray) -> np.ndarray:
        """The ids (a mask) that may come next: where keys are down for too long, only those that lift them."""
        if grammar.releases is None or not grammar.held:
            return allowed
        onset, _, pitch, _ = np.array(grammar.held).T
        lift = np.zeros_like(allowed)
        down = grammar.seconds(grammar.now) - grammar.seconds(onset)
        lift[grammar.releases + pitch[down >= self.longest_note]] = True
        return allowed & lift if (allowed & lift).any() else allowed

    def playable(self, grammar: NoteGrammar, allowed: np.ndarray) -> np.ndarray:
        """The ids (a mask) that may come next: none that strikes a key out of range, or one too many at this moment, or
        waits too long for a first note, unless there is no other. Drums have no range, and do not count.
        """
        if self.sets_in is not None and not grammar.notes:
            begins = allowed & (grammar.stands() < self.sets_in)
            begins[grammar.ids] = False  # no id twice: a pedal could go down and up for ever
            allowed = begins if begins.any() else allowed
        left, full = allowed.copy(), self._full(grammar)
        words, keys = left[grammar.part_words :][: len(PARTS)], left[grammar.keys :][:128]
        beats = bool(words[DRUMS])
        if grammar.part == DRUMS:
            words &= not full
        elif full and (left & grammar.leaves).any():
            left &= grammar.leaves
        else:
            keys[: self.pitches[0]] = keys[self.pitches[1] + 1 :] = False
        words[DRUMS] = beats
        return left if left.any() else allowed

    def _full(self, grammar: NoteGrammar) -> bool:
        """Whether no more notes may be struck at this moment."""
        now = grammar.now
        struck = takewhile(lambda note: note[0] == now, reversed(grammar.notes))
        return sum(part != DRUMS for _, _, _, part in struck) >= self.together

    def look(self, grammar: NoteGrammar) -> int | None:
        """Look at a take that has come to a bar line, or is too busy to reach it: how many of its ids to keep where it
        is to go back, None where it may go on."""
        if not self._is_due(grammar):
            return None
        times = [*grammar.times, grammar.end] if grammar.done else list(grammar.times)
        if len(grammar.lines) == self.seen[0] and not grammar.done:
            times.append(grammar.now + 1)
        self.watch(grammar)
        rows = np.array(grammar.notes[-REACH:], dtype=np.int64).reshape(-1, 4)
        heard, lines = rows[rows[:, 3] != DRUMS, :3], np.array(times)
        judged = len(times) > 1 and (len(heard) > 0 or not len(rows))  # drums may loop, and be alone
        fault = notice(heard, lines, grammar.seconds(lines)) if judged else None
        if fault is None:
            if times[-1] >= self.until:
                self.warmer, self.again = 0.0, 0
            return None
        return self._act(grammar, fault, times)

    def watch(self, grammar: NoteGrammar) -> None:
        """What comes from here on is new."""
        self.seen = len(grammar.lines), len(grammar.notes)

    def _is_due(self, grammar: NoteGrammar) -> bool:
        lines, notes = self.seen
        busy = len(grammar.notes) - notes > DENSEST * DENSE_SECONDS
        return len(self.happened) <= self.most and (len(grammar.lines) > lines or busy or grammar.done)

    def _act(self, grammar: NoteGrammar, fault: Fault, times: list[int]) -> int | None:
        told = {"noticed": fault.name, "bar": len(times) - 2, "back_to": None, "warmer": 0.0}
        self.happened.append(told)
        if len(self.happened) > self.most:
            self.warmer = 0.0
            return None
        self.again += 1
        begun = int(np.searchsorted(times[:-1], fault.since, side="right"))
        back = max(begun - self.again, 0)  # each time it fails it goes back a bar more
        self.warmer = told["warmer"] = round(WARMER * self.again, 2)
        told["back_to"], self.until = back, max(self.until, times[-1])
        return grammar.lines[back]
