"""Performance: MIDI as it happens, in steps of 10 ms, for music as it was played.

Ids: PAD 0, BOS 1, EOS 2, NOTE_ON_p = 3 + p, NOTE_OFF_p = 131 + p, TIME_SHIFT_10ms..1000ms = 259..358, VELOCITY
0..31 = 359..390, PEDAL_ON 391, PEDAL_OFF 392, 64 ids for parts, tasks and controls = 393..456, chords from 457.
A velocity stands before the first note it holds for. At one moment the order is: countdown, chord, note-offs, pedal,
note-ons. The chord is stated again at every beat (every second in free time).

Where a hole is written beside given parts, their events stand in the same stream one second ahead of time, between
`Given` and `Write`, so that the model hears what is coming (the idea of Thickstun et al., "Anticipatory Music
Transformer", 2023, https://arxiv.org/abs/2306.08620). Event vocabulary after Oore et al., "This Time with Feeling"
(2018), https://arxiv.org/abs/1808.03715.
"""

from __future__ import annotations

import numpy as np

from ...errors import InputError
from ..music.score import FREE_TICKS, PARTS, PEDAL, Score, ends_of
from . import (
    Body,
    Grammar,
    Plan,
    Tokenizer,
    before,
    by_part,
    changes,
    chord_ids,
    chord_rows,
    is_given,
    lasts,
    note_rows,
    part_index,
    part_tracks,
    reduced,
    restated,
    stepped_chords,
    strikes,
    told_pedals,
)
from ._performance_grammar import PerformanceGrammar
from ._performance_words import (
    AHEAD,
    BASS,
    CHORD,
    GIVEN,
    LEFT,
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

MARK, IN_GIVEN, IN_WRITTEN = range(3)  # the blocks of one moment
LEFT_RANK, CHORD_RANK, OFF_RANK, PEDAL_RANK, ON_RANK = range(5)  # the order of a block
REST, OPEN, ROLE, LEVEL, EVENT, INVERSION, CLOSE = range(7)  # the columns of a row of ids
WIDTH = CLOSE + 1
LAST = 2**40  # a time after all others
RANK_BITS, BLOCK_BITS, TIME_BITS = 10, 13, 15  # of a row's sort key


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
        rows = _note_rows(notes, given, clock.length)
        if len(score.pedals):
            rows.append(_pedal_rows(self._stepped_pedals(score, clock)))
        if len(score.chords):
            rows.append(_chord_rows(score, clock))
        if last is not None:
            rows.append(_left_rows(clock, last))
        stops = np.array([LAST, 0] if given else [LAST])  # of time shifts: where the music begins, and the end
        rows.append(_rows(stops, MARK, LEFT_RANK, {}))
        key, ids = (np.concatenate(columns) for columns in zip(*rows, strict=True))
        order = np.argsort(key, kind="stable")
        body = _spell(key[order], ids.take(order, axis=0), -AHEAD if given else 0, clock.length)
        if not given:
            return body
        return Body(np.append([GIVEN, WRITE], body.ids), np.append([False, False], body.written))

    def end(self, score: Score) -> int:
        score = self.pedalled(score)
        ticks = [score.notes["onset"][-1:], score.pedals["tick"][-1:] if self.pedal == "events" else ()]
        last = int(np.concatenate(ticks).max(initial=0))
        return max(score.end, int(score.ticks(score.seconds(last) + 2 * STEP / 1000)), 1)

    def pedalled(self, score: Score) -> Score:
        """The score as its notes are spelled: where the pedal is stretched, with that played into them."""
        return score.sustained() if self.pedal == "stretch" else score

    def _stepped_pedals(self, score: Score, clock: Clock) -> np.ndarray:
        """The pedal of the whole keyboard in steps: changes between down (127) and up (0); down at 0 if already so.

        Where it is lifted and pressed again within one step, it is pressed in the next: the lift is heard.
        """
        if self.pedal != "events":
            return np.zeros(0, dtype=PEDAL)
        pedals = score.pedals.copy()
        pedals["tick"] = clock.steps(pedals["tick"])
        pedals["value"], pedals["track"] = np.where(pedals["value"] > 0, 127, 0), 0
        pedals = told_pedals(pedals)
        pedals["tick"][1:] += pedals["tick"][1:] == pedals["tick"][:-1]
        pedals["tick"] = np.maximum(pedals["tick"], 0)
        return told_pedals(pedals[lasts(pedals["tick"]) & (pedals["tick"] < clock.length)])

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
        pedals = np.zeros(len(at), dtype=PEDAL)
        pedals["tick"], pedals["value"] = time[at] * STEP, np.where(ids[at] == PEDAL_ON, 127, 0)
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
        pedals = self._stepped_pedals(score, clock)
        pedals["tick"] *= STEP
        chords = reduced(stepped_chords(score.chords, clock.steps))
        chords = chords[chords["tick"] < clock.length]
        chords["tick"] *= STEP
        columns = [notes[name] for name in ("onset", "end", "pitch", "velocity", "part")]
        return _score(np.stack(columns), pedals, chords)

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
        return by_part(score.replace(notes=notes))

    def grammar(self, plan: Plan) -> Grammar:
        return PerformanceGrammar(self, plan)


TOKENIZER = Performance

# --- from a Score to ids: rows of ids (-1 where there is none), each with its sort key --------------------------

Rows = tuple[np.ndarray, np.ndarray]


def _rows(time: np.ndarray, block: int, rank: int, columns: dict, *, voice=0) -> Rows:
    """Rows from columns by their places; they sort by time, block, rank, then part and pitch (`voice`)."""
    ids = np.full((len(time), WIDTH), -1, dtype=np.int16)
    for place, column in columns.items():
        ids[:, place] = column
    return (time << TIME_BITS) + (block << BLOCK_BITS) + (rank << RANK_BITS) + voice, ids


def _stepped_notes(score: Score, clock: Clock, whole: bool, given: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
    """The stretch's notes in steps, each pitch sounding once at a time in all parts together.

    Given parts are a keyboard of their own: how long their notes sound must not tell what is to be written.
    """
    notes, part = score.notes, part_index(score)
    onset = clock.steps(notes["onset"])
    length = np.maximum(clock.steps(ends_of(notes)) - onset, 1)
    voice = notes["pitch"] + 128 * is_given(part, given)
    struck = strikes(onset, voice, part - 8 * length)  # of equal notes the longest stays, then that of the first part
    end = onset + np.minimum(length, struck)
    if not whole:
        end = np.minimum(end, clock.length)
    columns = (onset, end, notes["pitch"].astype(np.int16), notes["velocity"].astype(np.int16) // 4, part)
    kept = np.flatnonzero((struck > 0) & (onset >= 0) & (onset < clock.length))
    names = ("onset", "end", "pitch", "velocity", "part")
    return {name: column[kept] for name, column in zip(names, columns, strict=True)}


def _note_rows(notes: dict[str, np.ndarray], given: tuple[str, ...], length: int) -> list[Rows]:
    """Note-ons and note-offs; given ones come early, and end with the stretch (`length`) at the latest."""
    onset, end, part, pitch = (notes[name] for name in ("onset", "end", "part", "pitch"))
    block = IN_WRITTEN
    if given:
        early = is_given(part, given)
        block = np.where(early, IN_GIVEN, IN_WRITTEN)
        onset, end = onset - AHEAD * early, np.where(early, np.minimum(end, length) - AHEAD, end)
    voice = part * 128 + pitch
    columns = {ROLE: PART + part, LEVEL: VELOCITY + notes["velocity"], EVENT: ON + pitch}
    on = _rows(onset, block, ON_RANK, columns, voice=voice)
    return [on, _rows(end, block, OFF_RANK, {EVENT: OFF + pitch}, voice=voice)]


def _pedal_rows(pedals: np.ndarray) -> Rows:
    event = np.where(pedals["value"] > 0, PEDAL_ON, PEDAL_OFF)
    return _rows(pedals["tick"].astype(np.int64), IN_WRITTEN, PEDAL_RANK, {EVENT: event})


def _chord_rows(score: Score, clock: Clock) -> Rows:
    steps, chords = restated(stepped_chords(score.chords, clock.steps), clock.beats(), clock.length)
    chord, bass = chord_ids(chords, CHORD, BASS)
    return _rows(steps, MARK, CHORD_RANK, {EVENT: chord, INVERSION: bass})


def _left_rows(clock: Clock, last: int) -> Rows:
    """The countdown to the tick `last`: at the start, and where the time left passes one of LEFT."""
    times = int(clock.steps(np.array([last]))[0]) - np.array(LEFT) * (1000 // STEP)
    first = int(np.searchsorted(-times, 0))  # the smallest LEFT not yet passed at the start
    told = np.flatnonzero((np.arange(len(LEFT)) <= first) & (times < clock.length))
    return _rows(np.maximum(times[told], 0), MARK, LEFT_RANK, {EVENT: LEFT_1 + told})


def _spell(key: np.ndarray, ids: np.ndarray, begin: int, length: int) -> Body:
    """Sorted rows to ids: time shifts between them, part and velocity where they change, Given and Write around."""
    time, given = key >> TIME_BITS, (key >> BLOCK_BITS) % 4 == IN_GIVEN
    time[-1] = time[:-1].max(initial=length)
    delta = time - np.append(begin, time[:-1])
    full = delta // LONGEST
    rest = delta - full * LONGEST
    ids[:, REST] = np.where(rest > 0, SHIFT + rest, -1)
    if given.any():
        opens = given & changes(given, time)
        ids[opens, OPEN] = GIVEN
        ids[given & np.append(opens[1:] | ~given[1:], True), CLOSE] = WRITE
    spoken = np.flatnonzero(_spoken(ids, given))
    written = ~given[spoken // WIDTH] | (spoken % WIDTH == REST) if given.any() else np.ones(len(spoken), dtype=bool)
    long = np.flatnonzero(full)
    at = np.repeat(np.searchsorted(spoken, long * WIDTH), full[long])  # whole shifts stand before all else of a row
    ids = np.insert(ids.ravel()[spoken].astype(np.int64), at, SHIFT + LONGEST)
    return Body(ids, np.insert(written, at, True))


def _spoken(ids: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Which ids are said: part and velocity only where they change, for given and written notes apart."""
    spoken = ids >= 0
    on = np.flatnonzero(spoken[:, LEVEL])
    on = on[np.argsort(given[on], kind="stable")]
    first = changes(given[on])
    for column, default in ((ROLE, PART + OTHER), (LEVEL, -1)):
        said = ids[on, column]
        spoken[on, column] = said != before(said, first, default)
    return spoken


# --- from ids back to a Score ----------------------------------------------------------------------------------


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
    ends = np.append(time[key][1:], time[-1:])[: len(key)]
    ends[:-1][np.diff(pitch) != 0] = time[-1:]
    at, ends, pitch = key[is_on], ends[is_on], pitch[is_on]
    level = np.where(velocity[at] >= 0, ids[velocity[at]] - VELOCITY, 16)
    role = np.where(part[at] >= 0, ids[part[at]] - PART, OTHER)
    notes = np.stack([time[at], ends, pitch, level, role])
    return notes[:, ends > time[at]]


def _score(notes: np.ndarray, pedals: np.ndarray, chords: np.ndarray) -> Score:
    """A Score in free time from rows (onset, end, pitch, velocity level, part) in steps."""
    tracks, track = part_tracks(notes[4])
    rows = note_rows(notes[0] * STEP, (notes[1] - notes[0]) * STEP, notes[2], notes[3] * 4 + 2, track)
    return Score(rows, pedals, (), (), chords, tracks, FREE_TICKS, free=True)
