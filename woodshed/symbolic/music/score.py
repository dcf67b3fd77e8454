"""A Score is one piece of music as read-only arrays in integer ticks; every edit gives a new Score.

Music played freely, without a beat, is written at 500 ticks a quarter and 120 bpm, so that one tick is one
millisecond, and says `free=True`. Seconds are always derived from the tempo map.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

NOTE = np.dtype([("onset", "<i4"), ("duration", "<i4"), ("pitch", "u1"), ("velocity", "u1"), ("track", "u1")])
PEDAL = np.dtype([("tick", "<i4"), ("value", "u1"), ("track", "u1")])  # controller 64; half-pedal kept
TEMPO = np.dtype([("tick", "<i4"), ("usec", "<i4")])  # microseconds a quarter, as MIDI has it: no rounding
METRE = np.dtype([("tick", "<i4"), ("numerator", "u1"), ("denominator", "u1")])
CHORD = np.dtype([("tick", "<i4"), ("root", "i1"), ("quality", "i1"), ("bass", "i1")])  # chords.py names them

ARRAYS = ("notes", "pedals", "tempos", "metres", "chords")
FIELDS = (*ARRAYS, "tracks", "ticks_per_quarter", "free")
PARTS = ("melody", "bass", "accompaniment", "left", "right", "drums", "other")
DRUMS = PARTS.index("drums")
FREE_TICKS = 500  # ticks a quarter of free time: at 120 bpm a tick is a millisecond
DEFAULT_USEC = 500_000  # 120 bpm, what MIDI means when it says nothing
NO_TEMPO, NO_METRE = (0, DEFAULT_USEC), (0, 4, 4)  # what holds where a map says nothing


class Track(NamedTuple):
    """What is known of one track: its name, General MIDI program (0-127), whether it is drums, and its part.

    The part is its role in the music (one of PARTS); the program is only its sound: the tracks of real piano files
    all share program 0.
    """

    name: str = ""
    program: int = 0
    drums: bool = False
    part: str = "other"


def array(rows: Iterable, dtype: np.dtype) -> np.ndarray:
    """Rows of tuples (or an array of the same fields) as an array of `dtype` that nobody else can write to."""
    if isinstance(rows, np.ndarray) and rows.dtype == dtype:
        return copied(rows) if rows.flags.writeable else rows
    return np.array([tuple(row) for row in rows], dtype=dtype)


def copied(rows: np.ndarray) -> np.ndarray:
    """A copy of rows of several fields, byte for byte: numpy's own goes field by field and takes ten times as long."""
    return np.ascontiguousarray(rows).view(np.uint8).copy().view(rows.dtype)


@dataclass(frozen=True, eq=False)
class Score:
    """One piece: notes, pedal, tempo map, metre, chords and tracks.

    Arrays are sorted and read-only. A tempo and a metre always stand at tick 0 (120 bpm and 4/4 where the source is
    silent). A chord holds until the next one; chord root -1 is "no chord". `free` marks music without a beat.
    """

    notes: np.ndarray = ()
    pedals: np.ndarray = ()
    tempos: np.ndarray = ()
    metres: np.ndarray = ()
    chords: np.ndarray = ()
    tracks: tuple[Track, ...] = (Track(),)
    ticks_per_quarter: int = 480
    free: bool = False

    def __post_init__(self):
        notes = _sorted_notes(array(self.notes, NOTE))
        pedals = _sorted_pedals(array(self.pedals, PEDAL))
        tempos = _map_from_zero(array(self.tempos, TEMPO), NO_TEMPO)
        metres = _map_from_zero(array(self.metres, METRE), NO_METRE)
        chords = _last_per_tick(array(self.chords, CHORD))
        for name, value in dict(notes=notes, pedals=pedals, tempos=tempos, metres=metres, chords=chords).items():
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        object.__setattr__(self, "tracks", tuple(self.tracks))

    @classmethod
    def trusted(cls, **fields) -> Score:
        """A Score of arrays that are in order already, as those of another Score are: nothing is copied or checked."""
        score = object.__new__(cls)
        score.__setstate__(fields)
        return score

    def _edited(self, **changes) -> Score:
        """A copy with some fields replaced by others that are in order as well."""
        return Score.trusted(**{name: changes.get(name, self.__dict__[name]) for name in FIELDS})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Score):
            return NotImplemented
        same = (self.ticks_per_quarter, self.free, self.tracks) == (other.ticks_per_quarter, other.free, other.tracks)
        return same and all(np.array_equal(getattr(self, name), getattr(other, name)) for name in ARRAYS)

    __hash__ = None

    def __getstate__(self) -> dict:
        return {name: self.__dict__[name] for name in FIELDS}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        for name in ARRAYS:  # a pickle forgets that they are read-only
            state[name].flags.writeable = False

    def __repr__(self) -> str:
        time = "free time" if self.free else f"{len(self.bars()) - 1} bars"
        return f"Score({len(self.notes)} notes, {self.seconds(self.end):.1f} s, {time}, {len(self.tracks)} tracks)"

    # --- time -------------------------------------------------------------------------------------------------

    @cached_property
    def end(self) -> int:
        """The tick at which the last note stops (0 without notes)."""
        return int(ends_of(self.notes).max()) if len(self.notes) else 0

    def seconds(self, ticks) -> np.ndarray:
        """Ticks to seconds through the tempo map (any shape, float64)."""
        start, rate = self._tempo_segments
        ticks = np.asarray(ticks, dtype=np.float64)
        if len(rate) == 1:
            return ticks * rate[0]
        segment = np.maximum(np.searchsorted(self.tempos["tick"], ticks, side="right") - 1, 0)
        return start[segment] + (ticks - self.tempos["tick"][segment]) * rate[segment]

    def ticks(self, seconds) -> np.ndarray:
        """Seconds to the nearest ticks: the inverse of `seconds`."""
        start, rate = self._tempo_segments
        seconds = np.asarray(seconds, dtype=np.float64)
        segment = np.maximum(np.searchsorted(start, seconds, side="right") - 1, 0)
        return np.rint(self.tempos["tick"][segment] + (seconds - start[segment]) / rate[segment]).astype(np.int64)

    @cached_property
    def _tempo_segments(self) -> tuple[np.ndarray, np.ndarray]:
        """Start in seconds and seconds a tick of each stretch of constant tempo."""
        rate = self.tempos["usec"] / (1e6 * self.ticks_per_quarter)
        lengths = np.diff(self.tempos["tick"]) * rate[:-1]
        return np.concatenate([[0.0], np.cumsum(lengths)]), rate

    def bars(self, end: int | None = None) -> np.ndarray:
        """Bar lines in ticks, the first at 0 and the last at or after `end` (by default the end of the music).

        A metre that changes inside a bar cuts that bar short, as every DAW does.
        """
        end = max(self.end if end is None else end, 1)
        lines = []
        stops = [*self.metres["tick"][1:].tolist(), np.inf]
        for (tick, numerator, denominator), stop in zip(self.metres.tolist(), stops, strict=True):
            length = max(1, self.ticks_per_quarter * 4 * numerator // denominator)
            last = max(tick + length * -(-(end - tick) // length), tick)
            lines.append(np.arange(tick, min(stop, last + 1), length))
        lines = np.concatenate(lines)
        return lines[: np.searchsorted(lines, end) + 1].astype(np.int64)

    def beats(self, end: int | None = None) -> np.ndarray:
        """Beats in ticks, as long as `beat_ticks` has them; bar lines always included."""
        bars = self.bars(end)
        metre = self.metres[np.searchsorted(self.metres["tick"], bars[:-1], side="right") - 1]
        unit = beat_ticks(metre, self.ticks_per_quarter)
        count = -(-np.diff(bars) // unit)  # beats of each bar, the last one cut short
        inside = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        return np.append(np.repeat(bars[:-1], count) + inside * np.repeat(unit, count), bars[-1])

    def seams(self, end: int | None = None) -> np.ndarray:
        """Where a stretch of music may begin or end, in ticks: bar lines; in free time every second."""
        if not self.free:
            return self.bars(end)
        second = 2 * self.ticks_per_quarter
        return np.arange(0, (self.end if end is None else end) + second, second)

    # --- edits ------------------------------------------------------------------------------------------------

    def replace(self, **changes) -> Score:
        """A copy with some fields replaced."""
        return dataclasses.replace(self, **changes)

    def slice(self, start: int, end: int, cut: bool = False) -> Score:
        """The music whose onsets lie in [start, end) ticks, moved to start at 0.

        Tempo, metre, chord and pedal in force at `start` are stated at 0. A note that sounds past `end` keeps its
        length unless `cut`.
        """
        notes = shifted(self.notes[slice(*np.searchsorted(self.notes["onset"], [start, end]))], -start)
        if cut:
            notes["duration"] = np.minimum(notes["duration"], end - start - notes["onset"])
            notes = _sorted_notes(notes)
        return self._edited(
            notes=notes,
            pedals=self._pedals_between(start, end),
            tempos=_map_from_zero(_window(self.tempos, start, end), NO_TEMPO),
            metres=_map_from_zero(_window(self.metres, start, end), NO_METRE),
            chords=_window(self.chords, start, end),
        )

    def _pedals_between(self, start: int, end: int) -> np.ndarray:
        pedals = self.pedals[: np.searchsorted(self.pedals["tick"], end)]
        first = int(np.searchsorted(pedals["tick"], start, side="right"))
        last = np.full(256, -1)
        last[pedals["track"][:first]] = np.arange(first)  # the last one of each track
        held = last[last >= 0]
        pedals = pedals.take(np.append(held[pedals["value"][held] > 0], np.arange(first, len(pedals))))
        pedals["tick"] = np.maximum(pedals["tick"] - start, 0)
        return pedals

    def only(self, *parts: str) -> Score:
        """Only the notes and pedal of these parts; the tracks stay."""
        keep = np.array([track.part in parts for track in self.tracks], dtype=bool)
        return self.replace(notes=self.notes[keep[self.notes["track"]]], pedals=self.pedals[keep[self.pedals["track"]]])

    def transpose(self, semitones: int) -> Score:
        """Notes and chords moved together; drums stay, and notes that leave 0-127 are dropped, never clipped."""
        moves = np.array([0 if track.drums else semitones for track in self.tracks] or [0])
        pitch = self.notes["pitch"] + moves[self.notes["track"]]
        inside = (pitch >= 0) & (pitch <= 127)
        notes = self.notes.compress(inside)
        notes["pitch"] = pitch[inside]
        chords = self.chords.copy()
        for name in ("root", "bass"):
            chords[name] = np.where(chords["root"] < 0, chords[name], (chords[name] + semitones) % 12)
        return self._edited(notes=notes, chords=chords)

    def stretch(self, factor: float) -> Score:
        """The same music `factor` times as fast. On a grid only the tempo changes; free time moves its ticks."""
        if not self.free:
            tempos = self.tempos.copy()
            tempos["usec"] = np.rint(tempos["usec"] / factor).clip(1)
            return self._edited(tempos=tempos)
        names = ("notes", "pedals", "chords")
        return self.replace(**{name: retimed(getattr(self, name), lambda ticks: ticks / factor) for name in names})

    def retime(self, ticks_per_quarter: int) -> Score:
        """The same music with another number of ticks a quarter; times go to the nearest tick."""
        factor = ticks_per_quarter / self.ticks_per_quarter
        if factor == 1:
            return self
        moved = {name: retimed(getattr(self, name), lambda ticks: ticks * factor) for name in ARRAYS}
        return self.replace(ticks_per_quarter=ticks_per_quarter, **moved)

    def freed(self) -> Score:
        """The same music in free time: milliseconds for ticks, no metre, one tempo."""
        if self.free:
            return self
        rows = (self.notes, self.pedals, self.chords)
        notes, pedals, chords = (retimed(one, lambda ticks: self.seconds(ticks) * 1000) for one in rows)
        return Score(notes, pedals, (), (), chords, self.tracks, FREE_TICKS, free=True)

    def merge(self, *others: Score) -> Score:
        """All tracks side by side; tempo, metre and chords are this score's. The others are brought to its ticks."""
        notes, pedals, tracks = [self.notes], [self.pedals], list(self.tracks)
        for other in others:
            other = other.retime(self.ticks_per_quarter)
            for rows, mine in ((other.notes, notes), (other.pedals, pedals)):
                rows = rows.copy()
                rows["track"] += len(tracks)
                mine.append(rows)
            tracks += other.tracks
        return self.replace(notes=np.concatenate(notes), pedals=np.concatenate(pedals), tracks=tuple(tracks))

    def without_overlaps(self) -> Score:
        """Each pitch of a track sounds once at a time: a note ends where the next of its pitch begins.

        Of several that begin together the longest stays. A keyboard, and MIDI itself, can do no more.
        """
        notes = self.notes
        voice = notes["track"] * np.int16(128) + notes["pitch"]
        place = (voice.astype(np.int64) << 32) + notes["onset"]
        order = np.argsort(voice, kind="stable")
        if (np.diff(place[order]) == 0).any():
            order = np.lexsort((-notes["duration"], place))
            order = order[np.diff(place[order], prepend=-1) > 0]
        room = np.diff(place[order], append=2**62)
        if len(order) == len(notes) and (notes["duration"][order] <= room).all():
            return self
        shortened = copied(notes)
        shortened["duration"][order] = np.minimum(notes["duration"][order], room)
        return self._edited(notes=shortened if len(order) == len(notes) else shortened.take(np.sort(order)))

    def sustained(self) -> Score:
        """The pedal played into the notes: each rings until its pedal lifts or its pitch is struck again; no pedal."""
        notes = self.notes.copy()
        for track in np.unique(self.pedals["track"]):
            pedals = self.pedals[self.pedals["track"] == track]
            down = pedals["value"] > 0
            mine = np.flatnonzero(notes["track"] == track)
            ends = ends_of(notes)[mine]
            held = np.searchsorted(pedals["tick"], ends) - 1
            ringing = (held >= 0) & down[np.maximum(held, 0)]
            lifts = pedals["tick"][~down]
            following = np.searchsorted(lifts, ends)
            last = max(self.end, int(pedals["tick"][-1]))
            lift = np.append(lifts, last)[np.minimum(following, len(lifts))]
            notes["duration"][mine] = np.where(ringing, np.maximum(lift, ends), ends) - notes["onset"][mine]
        return self.replace(notes=notes, pedals=()).without_overlaps()


def ends_of(notes: np.ndarray) -> np.ndarray:
    """The ticks at which notes stop."""
    return notes["onset"].astype(np.int64) + notes["duration"]


def shifted(rows: np.ndarray, by: int) -> np.ndarray:
    """Rows of any array of a Score, so many ticks later."""
    rows = copied(rows)
    rows[rows.dtype.names[0]] += by  # the first field of all is their time
    return rows


def retimed(rows: np.ndarray, at: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Rows of any array of a Score with their ticks sent through `at`, to the nearest; a note lasts a tick at least."""
    moved, time = copied(rows), rows.dtype.names[0]
    moved[time] = np.rint(at(rows[time]))
    if time == "onset":
        moved["duration"] = np.maximum(np.rint(at(ends_of(rows))) - moved["onset"], 1)
    return moved


def beat_ticks(metre: np.ndarray, ticks_per_quarter: int) -> np.ndarray:
    """How long the beats of METRE rows are: the denominator, or three of it in 6/8, 9/8 and 12/8."""
    unit = ticks_per_quarter * 4 // metre["denominator"].astype(np.int64)
    compound = (metre["denominator"] >= 8) & (metre["numerator"] % 3 == 0) & (metre["numerator"] > 3)
    return np.maximum(np.where(compound, 3 * unit, unit), 1)


def spread(notes: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut notes at ascending edges: the note and the cell (between two edges) of every piece, and its length.

    What lies before the first edge or after the last has no length.
    """
    onsets, ends = notes["onset"], ends_of(notes)
    first = np.clip(np.searchsorted(edges, onsets, side="right") - 1, 0, len(edges) - 2)
    last = np.clip(np.searchsorted(edges, ends, side="left") - 1, first, len(edges) - 2)
    count = last - first + 1
    note = np.repeat(np.arange(len(onsets)), count)
    cell = np.arange(len(note)) - np.repeat(np.cumsum(count) - count - first, count)
    length = np.minimum(ends[note], edges[cell + 1]) - np.maximum(onsets[note], edges[cell])
    return note, cell, np.maximum(length, 0)


def _sorted_notes(notes: np.ndarray) -> np.ndarray:
    """By onset, track, pitch and duration."""
    key = (notes["onset"].astype(np.int64) << 16) | (notes["track"].astype(np.int64) << 8) | notes["pitch"]
    if (key[1:] > key[:-1]).all():
        return notes
    order = np.argsort(key, kind="stable")
    if (np.diff(key[order]) == 0).any():
        order = np.lexsort((notes["duration"], key))
    return notes.take(order)  # indexing rows of several fields is ten times slower


def _sorted_pedals(pedals: np.ndarray) -> np.ndarray:
    """By tick and track."""
    return pedals.take(np.argsort((pedals["tick"].astype(np.int64) << 8) + pedals["track"], kind="stable"))


def _last_per_tick(rows: np.ndarray) -> np.ndarray:
    """Sorted by tick; of several rows at one tick the last one given."""
    if (rows["tick"][1:] > rows["tick"][:-1]).all():
        return rows
    rows = rows[np.argsort(rows["tick"], kind="stable")]
    return rows[np.append(np.diff(rows["tick"]) != 0, True)]


def _map_from_zero(rows: np.ndarray, default: tuple) -> np.ndarray:
    """A map that says something at tick 0: the default where the first entry comes later."""
    if not len(rows) or rows["tick"].min() > 0:
        rows = np.concatenate([np.array([default], dtype=rows.dtype), rows])
    return _last_per_tick(rows)


def _window(rows: np.ndarray, start: int, end: int) -> np.ndarray:
    """Entries of a map in [start, end) moved to 0, with the one in force at `start` stated at 0."""
    first = max(np.searchsorted(rows["tick"], start, side="right") - 1, 0)
    rows = copied(rows[first : np.searchsorted(rows["tick"], end)])
    rows["tick"] = np.maximum(rows["tick"] - start, 0)
    return rows
