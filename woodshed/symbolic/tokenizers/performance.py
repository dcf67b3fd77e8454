"""Performance: MIDI as it happens, in steps of 10 ms, for music as it was played.

Ids: PAD 0, BOS 1, EOS 2, NOTE_ON_p = 3 + p, NOTE_OFF_p = 131 + p, TIME_SHIFT_10ms..1000ms = 259..358, VELOCITY
0..31 = 359..390, PEDAL_ON 391, PEDAL_OFF 392, 64 ids for parts, tasks and controls = 393..456, chords from 457.
A velocity stands before the first note it holds for. At one moment the order is: countdown, chord, note-offs, pedal,
note-ons. The chord is stated again at every bar line (every two seconds in free time).

Where a hole is written beside given parts, their events stand in the same stream one second ahead of time, between
`Given` and `Write`, so that the model hears what is coming (the idea of Thickstun et al., "Anticipatory Music
Transformer", 2023, https://arxiv.org/abs/2306.08620). Event vocabulary after Oore et al., "This Time with Feeling"
(2018), https://arxiv.org/abs/1808.03715.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from ...errors import InputError
from ..score import FREE_TICKS, PARTS, PEDAL, Score
from . import (
    BASS_WORDS,
    CHORD_WORDS,
    EOS,
    HEAD_WORDS,
    PART_WORDS,
    SPECIALS,
    TASK_WORDS,
    Body,
    Grammar,
    Plan,
    Tokenizer,
    chord_index,
    chord_rows,
    part_index,
    part_tracks,
)

STEP = 10  # milliseconds
LONGEST = 100  # steps of one time shift
AHEAD = 100  # steps by which given events come early
RESTATE = 200  # steps after which a chord is stated again where there are no bars
MOST_HELD = 20  # notes that a moved window strikes again
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

ROW = np.dtype([(name, "i8") for name in ("time", "block", "rank", "part", "pitch", "velocity", "token", "bass")])
MARK, IN_GIVEN, IN_WRITTEN = range(3)
LEFT_RANK, CHORD_RANK, OFF_RANK, PEDAL_RANK, ON_RANK = range(5)


class Performance(Tokenizer):
    """Events in time. `pedal` says what becomes of it: "events", "stretch" (into the notes' lengths) or "drop"."""

    name = "performance"
    words = WORDS
    needs_bars = False

    def __init__(self, pedal: str = "events"):
        if pedal not in ("events", "stretch", "drop"):
            raise InputError(f"pedal={pedal!r}: choose 'events', 'stretch' or 'drop'")
        self.pedal = pedal

    @property
    def settings(self) -> dict:
        return {"pedal": self.pedal}

    def body(self, score: Score, start: int, end: int, *, given=(), last: int | None = None, whole=True) -> Body:
        clock = Clock(score, start, end)
        notes = _stepped_notes(self.pedalled(score), clock, whole, given)
        is_given = np.isin(notes["part"], [PARTS.index(part) for part in given])
        rows = [_note_rows(notes, ~is_given, IN_WRITTEN), _note_rows(notes, is_given, IN_GIVEN, clock.length)]
        rows += [self._pedal_rows(score, clock), _chord_rows(score, clock), _left_rows(score, clock, last)]
        if given:
            rows.append(np.array([(0, MARK, LEFT_RANK, 0, 0, 0, -1, 0)], dtype=ROW))  # time shifts stop where it begins
        table = np.concatenate(rows)
        order = ((table["time"] * 4 + table["block"]) * 8 + table["rank"]) * 8 + table["part"]
        table = table[np.argsort(order * 128 + table["pitch"], kind="stable")]
        if not given:
            return _spell(table, 0, clock.length)
        body = _spell(table, -AHEAD, clock.length)
        return Body(np.append([GIVEN, WRITE], body.ids), np.append([False, False], body.written))

    def end(self, score: Score) -> int:
        score = self.pedalled(score)
        onsets, pedals = score.notes["onset"], score.pedals["tick"] if self.pedal == "events" else ()
        last = max(int(onsets.max()) if len(onsets) else 0, int(pedals[-1]) if len(pedals) else 0)
        return max(score.end, int(score.ticks(score.seconds(last) + 2 * STEP / 1000)), 1)

    def pedalled(self, score: Score) -> Score:
        return score.sustained() if self.pedal == "stretch" else score

    def _pedal_rows(self, score: Score, clock: Clock) -> np.ndarray:
        pedals = _stepped_pedals(score, clock) if self.pedal == "events" else np.zeros(0, dtype=PEDAL)
        rows = np.zeros(len(pedals), dtype=ROW)
        rows["time"], rows["block"], rows["rank"] = pedals["tick"], IN_WRITTEN, PEDAL_RANK
        rows["token"] = np.where(pedals["value"] > 0, PEDAL_ON, PEDAL_OFF)
        return rows

    def decode_body(self, ids: np.ndarray) -> Score:
        ids = np.asarray(ids, dtype=np.int64)
        switch = np.maximum.accumulate(np.where(np.isin(ids, (GIVEN, WRITE)), np.arange(len(ids)), -1))
        given = (switch >= 0) & (ids[switch] == GIVEN)
        shift = np.where((ids > SHIFT) & (ids < VELOCITY), ids - SHIFT, 0)
        lead = AHEAD if (ids == GIVEN).any() else 0
        time = np.cumsum(shift) - lead
        ids, time = ids[~given], time[~given]
        notes = _pair_notes(ids, time)
        at = np.flatnonzero((ids == PEDAL_ON) | (ids == PEDAL_OFF))
        pedals = [(t * STEP, 127 * (token == PEDAL_ON), 0) for t, token in zip(time[at], ids[at], strict=True)]
        at = np.flatnonzero((ids >= CHORD) & (ids < BASS))
        after = ids[np.minimum(at + 1, len(ids) - 1)]
        bass = np.where(after >= BASS, after - BASS, -1)
        return _score(notes, pedals, chord_rows(time[at] * STEP, ids[at] - CHORD, bass))

    def quantize(self, score: Score) -> Score:
        """Onsets, ends, chords and pedal to the nearest 10 ms, velocities to 32 levels, in free time.

        Dropped: bars, programs, track names (one track a part remains), how far the pedal is down (it is down or up),
        the extensions of chords beyond their seventh, and all but the longest of equal notes. A pitch struck again, in
        whatever part, ends the note before it: a keyboard has one key for it.
        """
        clock = Clock(score, 0, self.end(score))
        notes = _stepped_notes(self.pedalled(score), clock, whole=True)
        pedals = _stepped_pedals(score, clock) if self.pedal == "events" else np.zeros(0, dtype=PEDAL)
        pedals["tick"] *= STEP
        chords = _stepped_chords(score, clock)
        bass = np.where(chords["bass"] == chords["root"], -1, chords["bass"])
        chords = chord_rows(chords["tick"] * STEP, chord_index(chords), bass)
        columns = [notes[name] for name in ("onset", "end", "pitch", "velocity", "part")]
        return _score(np.stack(columns), pedals.tolist(), chords)

    def tick(self, score: Score, tick: int) -> int:
        return int(Clock(score, 0, 1).steps(np.array([tick]))[0]) * STEP

    def settle(self, score: Score) -> Score:
        """One keyboard: a pitch struck in any part ends the note of that pitch; of equal notes the longest stays."""
        notes = score.notes
        notes = notes[np.lexsort((notes["track"], -notes["duration"], notes["onset"], notes["pitch"]))]
        again = np.diff(notes["pitch"].astype(int)) == 0
        notes = notes[np.append(True, ~again | (np.diff(notes["onset"]) > 0))[: len(notes)]]
        again = np.diff(notes["pitch"].astype(int)) == 0
        room = np.where(again, np.diff(notes["onset"]), np.iinfo(np.int32).max)
        notes["duration"][:-1] = np.minimum(notes["duration"][:-1], room)
        score = score.replace(notes=notes)
        tracks, track = part_tracks(part_index(score))
        notes = score.notes.copy()
        notes["track"] = track
        return score.replace(notes=notes, tracks=tracks)

    def grammar(self, plan: Plan) -> Grammar:
        return PerformanceGrammar(self, plan)


TOKENIZER = Performance

# --- from ticks to steps ---------------------------------------------------------------------------------------


class Clock:
    """Ticks of a score as steps of 10 ms from `start`; `length` is the step of `end`."""

    def __init__(self, score: Score, start: int, end: int):
        self.score, self.start = score, start
        self.origin = 0
        self.origin, last = self.steps(np.array([start, end])).tolist()
        self.length = max(last - self.origin, 1)

    def steps(self, ticks: np.ndarray) -> np.ndarray:
        return np.rint(self.score.seconds(ticks) * (1000 / STEP)).astype(np.int64) - self.origin

    def bars(self) -> np.ndarray:
        """Where a chord is stated again: bar lines, or every two seconds."""
        if self.score.free:
            return np.arange(0, self.length, RESTATE)
        end = int(self.score.ticks((self.origin + self.length) * STEP / 1000))
        lines = self.score.bars(end)
        return self.steps(lines[lines >= self.start])


def _stepped_notes(score: Score, clock: Clock, whole: bool, given: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """The stretch's notes in steps, each pitch sounding once at a time in all parts together.

    Given parts are a keyboard of their own: how long their notes sound must not tell what is to be written.
    """
    rows, part = score.notes, part_index(score)
    onset = clock.steps(rows["onset"])
    end = np.maximum(clock.steps(rows["onset"].astype(np.int64) + rows["duration"]), onset + 1)
    pitch, velocity = rows["pitch"].astype(np.int64), rows["velocity"].astype(np.int64) // 4
    key = pitch + 128 * np.isin(part, [PARTS.index(name) for name in given])
    order = np.argsort((key << 52) + (onset << 26) - end * 8 + part, kind="stable")  # longest first of equal notes
    columns, key = np.stack([onset, end, pitch, velocity, part])[:, order], key[order]
    again = np.diff(key) == 0
    first = np.append(True, ~again | (np.diff(columns[0]) > 0))[: len(rows)]
    columns, key = columns[:, first], key[first]
    struck = np.where(np.diff(key) == 0, columns[0, 1:], np.iinfo(np.int64).max)
    columns[1, :-1] = np.minimum(columns[1, :-1], struck)
    columns = columns[:, (columns[0] >= 0) & (columns[0] < clock.length)]
    if not whole:
        columns[1] = np.minimum(columns[1], clock.length)
    return dict(zip(("onset", "end", "pitch", "velocity", "part"), columns, strict=True))


def _stepped_pedals(score: Score, clock: Clock) -> np.ndarray:
    """The pedal of the whole keyboard in steps as changes between down (127) and up (0); down at 0 if already down."""
    pedals = score.pedals.copy()
    pedals["tick"] = np.maximum(clock.steps(pedals["tick"]), 0)
    pedals["value"], pedals["track"] = np.where(pedals["value"] > 0, 127, 0), 0
    pedals = pedals[pedals["tick"] < clock.length]
    pedals = pedals[np.append(np.diff(pedals["tick"]) > 0, True)] if len(pedals) else pedals
    before = np.append(0, pedals["value"][:-1].astype(int))[: len(pedals)]
    return pedals[pedals["value"] != before]


def _stepped_chords(score: Score, clock: Clock) -> np.ndarray:
    chords = score.chords.copy()
    chords["tick"] = np.maximum(clock.steps(chords["tick"]), 0)
    chords = chords[np.append(np.diff(chords["tick"]) > 0, True)] if len(chords) else chords
    return chords[chords["tick"] < clock.length]


def _note_rows(notes: dict[str, np.ndarray], mine: np.ndarray, block: int, length: int | None = None) -> np.ndarray:
    """Note-ons and note-offs; given ones come early, and end with the stretch (`length`) at the latest."""
    onset, end = notes["onset"][mine], notes["end"][mine]
    if block == IN_GIVEN:
        onset, end = onset - AHEAD, np.minimum(end, length) - AHEAD
    rows = np.zeros(2 * len(onset), dtype=ROW)
    rows["time"], rows["block"] = np.concatenate([onset, end]), block
    rows["rank"] = np.repeat([ON_RANK, OFF_RANK], len(onset))
    for name in ("part", "pitch", "velocity"):
        rows[name] = np.tile(notes[name][mine], 2)
    rows["token"] = rows["pitch"] + np.repeat([ON, OFF], len(onset))
    return rows


def chord_marks(score: Score, clock: Clock) -> tuple[np.ndarray, np.ndarray]:
    """Where a chord stands: at every change and again at every bar line. Steps and CHORD rows."""
    chords = _stepped_chords(score, clock)
    steps = np.unique(np.concatenate([clock.bars(), chords["tick"]]))
    steps = steps[(steps >= 0) & (steps < clock.length)]
    held = np.searchsorted(chords["tick"], steps, side="right") - 1
    return steps[held >= 0], chords[held[held >= 0]]


def _chord_rows(score: Score, clock: Clock) -> np.ndarray:
    steps, chords = chord_marks(score, clock)
    rows = np.zeros(len(steps), dtype=ROW)
    rows["time"], rows["rank"], rows["token"] = steps, CHORD_RANK, CHORD + chord_index(chords)
    inverted = (chords["root"] >= 0) & (chords["bass"] != chords["root"])
    rows["bass"] = np.where(inverted, BASS + chords["bass"].astype(np.int64), 0)
    return rows


def _left_rows(score: Score, clock: Clock, last: int | None) -> np.ndarray:
    """The countdown: at the start, and where the time left passes one of LEFT."""
    if last is None:
        return np.zeros(0, dtype=ROW)
    left = int(clock.steps(np.array([last]))[0])
    times = left - np.array(LEFT) * (1000 // STEP)
    first = int(np.searchsorted(-times, 0))  # the smallest LEFT not yet passed at the start
    rows = np.zeros(len(LEFT), dtype=ROW)
    rows["time"], rows["rank"], rows["token"] = np.maximum(times, 0), LEFT_RANK, LEFT_1 + np.arange(len(LEFT))
    return rows[(np.arange(len(LEFT)) <= first) & (rows["time"] < clock.length)]


# --- rows to ids, ids to notes ---------------------------------------------------------------------------------


def _spell(table: np.ndarray, begin: int, length: int) -> Body:
    """Sorted rows to ids: time shifts between them, part and velocity where they change, Given and Write around."""
    last = int(table["time"][-1]) if len(table) else begin
    delta = np.diff(np.concatenate([[begin], table["time"], [max(length, last)]]))
    given = table["block"] == IN_GIVEN
    apart = delta[1:-1] > 0
    opens = given & np.append(True, ~given[:-1] | apart)[: len(table)]
    closes = given & np.append(~given[1:] | apart, True)[: len(table)]
    part, velocity = np.full((2, len(table)), -1)
    for voice in (IN_GIVEN, IN_WRITTEN):
        on = np.flatnonzero((table["rank"] == ON_RANK) & (table["block"] == voice))
        part[on] = np.where(_changes(table["part"][on], OTHER), PART + table["part"][on], -1)
        velocity[on] = np.where(_changes(table["velocity"][on], -1), VELOCITY + table["velocity"][on], -1)
    bass = np.where(table["bass"] > 0, table["bass"], -1)
    columns = [np.where(opens, GIVEN, -1), part, velocity, table["token"], bass, np.where(closes, WRITE, -1)]
    return _weave(np.stack(columns, axis=1), given, *np.divmod(delta, LONGEST))


def _changes(values: np.ndarray, start: int) -> np.ndarray:
    return np.diff(np.append(start, values)) != 0


def _weave(columns: np.ndarray, given: np.ndarray, full: np.ndarray, rest: np.ndarray) -> Body:
    """Put each row's time shifts before its tokens; the last shift comes after all of them."""
    keep = columns >= 0
    sizes = keep.sum(axis=1)
    shifts = full + (rest > 0)
    total = shifts + np.append(sizes, 0)
    ids = np.full(int(total.sum()), SHIFT + LONGEST)
    written = np.ones(len(ids), dtype=bool)
    begin = np.cumsum(total) - total
    moved = rest > 0
    ids[(begin + shifts - 1)[moved]] = SHIFT + rest[moved]
    first = begin[:-1] + shifts[:-1]
    inside = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    places = np.repeat(first, sizes) + inside
    ids[places] = columns[keep]
    written[places] = np.repeat(~given, sizes)
    return Body(ids, written)


def _pair_notes(ids: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Note-ons matched with what ends them: rows (onset, end, pitch, velocity level, part), all in steps."""
    index = np.arange(len(ids))
    velocity = np.maximum.accumulate(np.where((ids >= VELOCITY) & (ids < PEDAL_ON), index, -1))
    part = np.maximum.accumulate(np.where((ids >= PART) & (ids < PART + len(PARTS)), index, -1))
    key = np.flatnonzero((ids >= ON) & (ids <= SHIFT))
    is_on = ids[key] < OFF
    pitch = np.where(is_on, ids[key] - ON, ids[key] - OFF)
    order = np.argsort(pitch, kind="stable")
    key, is_on, pitch = key[order], is_on[order], pitch[order]
    ends = np.append(time[key][1:], 0)
    ends[:-1] = np.where(np.diff(pitch) == 0, ends[:-1], time[-1] if len(time) else 0)
    if len(ends):
        ends[-1] = time[-1]
    at, ends, pitch = key[is_on], ends[is_on], pitch[is_on]
    level = np.where(velocity[at] >= 0, ids[velocity[at]] - VELOCITY, 16)
    role = np.where(part[at] >= 0, ids[part[at]] - PART, OTHER)
    notes = np.stack([time[at], ends, pitch, level, role])
    return notes[:, ends > time[at]]


def _score(notes: np.ndarray, pedals: list, chords: np.ndarray) -> Score:
    tracks, track = part_tracks(notes[4])
    rows = [notes[0] * STEP, (notes[1] - notes[0]) * STEP, notes[2], notes[3] * 4 + 2, track]
    return Score(np.stack(rows, axis=1).tolist(), pedals, (), (), chords, tracks, FREE_TICKS, free=True)


# --- what may follow -------------------------------------------------------------------------------------------


class PerformanceGrammar(Grammar):
    """A key is struck only when up and lifted only when down; the plan's marks stop every time shift."""

    def __init__(self, tokenizer: Performance, plan: Plan):
        fixed = tokenizer.pedalled(plan.laid_out).only(*plan.given).replace(pedals=())
        body = tokenizer.body(fixed, plan.start, plan.end, given=plan.given, last=plan.last)
        self.time = -AHEAD if plan.given else 0
        self.marks = _marks(body.ids, self.time)
        clock = Clock(plan.score, plan.start, plan.end)
        self.end = clock.length
        self.ahead = [step for step in clock.bars().tolist() if 0 < step < self.end]  # bar lines still to come
        self.own_chords = not len(plan.laid_out.chords)
        self.pedals = tokenizer.pedal == "events"
        self.parts = np.array([part not in plan.given for part in PARTS])
        self.ring = plan.ring
        self.ids: list[int] = []
        self.lines: list[int] = [0]
        self.header: list[int] = []  # what the plan has to say now
        self.queue: list[int] = []  # shifts through the lead-in, or what closes the take
        self.down: dict[int, int] = {}  # pitch to the step it was struck
        self.velocity, self.part, self.pedal = -1, OTHER, False
        self.stage, self.struck, self.rested = "event", False, False
        self._reach()

    def _reach(self) -> None:
        """Put in what the plan has for this moment, or what closes the take at its end."""
        self.struck = False
        if self.marks and self.marks[0][0] <= self.time:
            self.header = self.marks.pop(0)[1]
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
    def forced(self) -> int | None:
        return (self.header or self.queue or [None])[0]

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
        if self.own_chords and self.stage in ("shift", "event"):
            mask[CHORD:BASS] = True
        if self.own_chords and self.stage == "chord" and self.ids[-1] != CHORD:
            mask[BASS:] = True
        return mask

    def _allow_velocity(self, mask: np.ndarray) -> None:
        mask[VELOCITY:PEDAL_ON] = self.parts[self.part]
        mask[VELOCITY + self.velocity] &= self.velocity < 0

    def _allow_off(self, mask: np.ndarray) -> None:
        if not self.struck:
            mask[[OFF + pitch for pitch, step in self.down.items() if step < self.time]] = True

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
        """A time shift ends at the next mark, or at the plan's end unless notes ring past it; other ids stay."""
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
        if not self.queue:
            self._reach()

    def _play(self, token: int) -> None:
        self.stage, self.rested, self.done = "event", False, token == EOS
        if ON <= token < OFF:
            self.down[token - ON] = self.time
            self.struck = True
        elif OFF <= token <= SHIFT:
            self.down.pop(token - OFF, None)
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
