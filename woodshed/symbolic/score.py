"""A Score is one piece of music as read-only arrays in integer ticks; every edit gives a new Score.

Music played freely, without a beat, is written at 500 ticks a quarter and 120 bpm, so that one tick is one
millisecond, and says `free=True`. Seconds are always derived from the tempo map.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

NOTE = np.dtype([("onset", "<i4"), ("duration", "<i4"), ("pitch", "u1"), ("velocity", "u1"), ("track", "u1")])
PEDAL = np.dtype([("tick", "<i4"), ("value", "u1"), ("track", "u1")])  # controller 64; half-pedal kept
TEMPO = np.dtype([("tick", "<i4"), ("usec", "<i4")])  # microseconds a quarter, as MIDI has it: no rounding
METRE = np.dtype([("tick", "<i4"), ("numerator", "u1"), ("denominator", "u1")])
CHORD = np.dtype([("tick", "<i4"), ("root", "i1"), ("quality", "i1"), ("bass", "i1")])  # chords.py names them

PARTS = ("melody", "bass", "accompaniment", "left", "right", "drums", "other")
FREE_TICKS = 500  # ticks a quarter of free time: at 120 bpm a tick is a millisecond
DEFAULT_USEC = 500_000  # 120 bpm, what MIDI means when it says nothing


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
        return rows.copy() if rows.flags.writeable else rows
    return np.array([tuple(row) for row in rows], dtype=dtype)


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
        pedals = array(self.pedals, PEDAL)
        if len(pedals):
            pedals = pedals[np.lexsort((pedals["track"], pedals["tick"]))]
        tempos = _map_from_zero(array(self.tempos, TEMPO), (0, DEFAULT_USEC))
        metres = _map_from_zero(array(self.metres, METRE), (0, 4, 4))
        chords = _last_per_tick(array(self.chords, CHORD))
        for name, value in dict(notes=notes, pedals=pedals, tempos=tempos, metres=metres, chords=chords).items():
            value.flags.writeable = False
            object.__setattr__(self, name, value)
        object.__setattr__(self, "tracks", tuple(self.tracks))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Score):
            return NotImplemented
        same = (self.ticks_per_quarter, self.free, self.tracks) == (other.ticks_per_quarter, other.free, other.tracks)
        fields = ("notes", "pedals", "tempos", "metres", "chords")
        return same and all(np.array_equal(getattr(self, name), getattr(other, name)) for name in fields)

    __hash__ = None

    def __repr__(self) -> str:
        time = "free time" if self.free else f"{len(self.bars()) - 1} bars"
        return f"Score({len(self.notes)} notes, {self.seconds(self.end):.1f} s, {time}, {len(self.tracks)} tracks)"

    # --- time -------------------------------------------------------------------------------------------------

    @property
    def end(self) -> int:
        """The tick at which the last note stops (0 without notes)."""
        notes = self.notes
        return int((notes["onset"] + notes["duration"]).max()) if len(notes) else 0

    def seconds(self, ticks) -> np.ndarray:
        """Ticks to seconds through the tempo map (any shape, float64)."""
        start, rate = self._tempo_segments()
        ticks = np.asarray(ticks, dtype=np.float64)
        segment = np.searchsorted(self.tempos["tick"], ticks, side="right") - 1
        segment = np.maximum(segment, 0)
        return start[segment] + (ticks - self.tempos["tick"][segment]) * rate[segment]

    def ticks(self, seconds) -> np.ndarray:
        """Seconds to the nearest ticks: the inverse of `seconds`."""
        start, rate = self._tempo_segments()
        seconds = np.asarray(seconds, dtype=np.float64)
        segment = np.maximum(np.searchsorted(start, seconds, side="right") - 1, 0)
        return np.rint(self.tempos["tick"][segment] + (seconds - start[segment]) / rate[segment]).astype(np.int64)

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
        stops = [*self.metres["tick"][1:].tolist(), None]
        for (tick, numerator, denominator), stop in zip(self.metres.tolist(), stops, strict=True):
            length = max(1, self.ticks_per_quarter * 4 * numerator // denominator)
            if stop is None:
                stop = max(tick + length * -(-(end - tick) // length), tick) + 1
            lines.append(np.arange(tick, stop, length))
        lines = np.concatenate(lines)
        return lines[: np.searchsorted(lines, end) + 1].astype(np.int64)

    def beats(self, end: int | None = None) -> np.ndarray:
        """Beats in ticks: the metre's denominator, or three of it in 6/8, 9/8 and 12/8; bar lines always included."""
        bars = self.bars(end)
        metre = self.metres[np.searchsorted(self.metres["tick"], bars[:-1], side="right") - 1]
        unit = self.ticks_per_quarter * 4 // metre["denominator"].astype(np.int64)
        compound = (metre["denominator"] >= 8) & (metre["numerator"] % 3 == 0) & (metre["numerator"] > 3)
        unit = np.maximum(np.where(compound, 3 * unit, unit), 1)
        inside = [np.arange(a, b, u) for a, b, u in zip(bars[:-1], bars[1:], unit, strict=True)]
        return np.concatenate([*inside, bars[-1:]])

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
        notes = self.notes[(self.notes["onset"] >= start) & (self.notes["onset"] < end)].copy()
        notes["onset"] -= start
        if cut:
            notes["duration"] = np.minimum(notes["duration"], end - start - notes["onset"])
        return self.replace(
            notes=notes,
            pedals=self._pedals_between(start, end),
            tempos=_window(self.tempos, start, end),
            metres=_window(self.metres, start, end),
            chords=_window(self.chords, start, end),
        )

    def _pedals_between(self, start: int, end: int) -> np.ndarray:
        windows = [_window(self.pedals[self.pedals["track"] == track], start, end) for track in range(len(self.tracks))]
        pedals = np.concatenate([array((), PEDAL), *windows])
        return pedals[(pedals["tick"] > 0) | (pedals["value"] > 0)]

    def only(self, *parts: str) -> Score:
        """Only the notes and pedal of these parts; the tracks stay."""
        keep = np.array([track.part in parts for track in self.tracks], dtype=bool)
        return self.replace(notes=self.notes[keep[self.notes["track"]]], pedals=self.pedals[keep[self.pedals["track"]]])

    def transpose(self, semitones: int) -> Score:
        """Notes and chords moved together; drums stay, and notes that leave 0-127 are dropped, never clipped."""
        drums = np.array([track.drums for track in self.tracks], dtype=bool)
        pitch = self.notes["pitch"] + np.where(drums[self.notes["track"]], 0, semitones)
        notes = self.notes.copy()
        notes["pitch"] = pitch.clip(0, 127)
        chords = self.chords.copy()
        for name in ("root", "bass"):
            chords[name] = np.where(chords["root"] < 0, chords[name], (chords[name] + semitones) % 12)
        return self.replace(notes=notes[(pitch >= 0) & (pitch <= 127)], chords=chords)

    def stretch(self, factor: float) -> Score:
        """The same music `factor` times as fast. On a grid only the tempo changes; free time moves its ticks."""
        if not self.free:
            tempos = self.tempos.copy()
            tempos["usec"] = np.rint(tempos["usec"] / factor).clip(1)
            return self.replace(tempos=tempos)
        changes = {}
        for name in ("notes", "pedals", "chords"):
            rows = getattr(self, name).copy()
            time = "onset" if name == "notes" else "tick"
            if name == "notes":
                ends = np.rint((rows["onset"] + rows["duration"]) / factor)
                rows["duration"] = np.maximum(ends - np.rint(rows["onset"] / factor), 1)
            rows[time] = np.rint(rows[time] / factor)
            changes[name] = rows
        return self.replace(**changes)

    def retime(self, ticks_per_quarter: int) -> Score:
        """The same music with another number of ticks a quarter; times go to the nearest tick."""
        factor = ticks_per_quarter / self.ticks_per_quarter
        if factor == 1:
            return self
        changes = {}
        for name in ("pedals", "tempos", "metres", "chords"):
            rows = getattr(self, name).copy()
            rows["tick"] = np.rint(rows["tick"] * factor)
            changes[name] = rows
        notes = self.notes.copy()
        ends = np.rint((notes["onset"] + notes["duration"]) * factor)
        notes["onset"] = np.rint(notes["onset"] * factor)
        notes["duration"] = np.maximum(ends - notes["onset"], 1)
        return self.replace(notes=notes, ticks_per_quarter=ticks_per_quarter, **changes)

    def freed(self) -> Score:
        """The same music in free time: milliseconds for ticks, no metre, one tempo."""
        if self.free:
            return self

        def ms(ticks):
            return np.rint(self.seconds(ticks) * 1000)

        notes, pedals, chords = self.notes.copy(), self.pedals.copy(), self.chords.copy()
        notes["onset"] = ms(self.notes["onset"])
        ends = ms(self.notes["onset"].astype(np.int64) + self.notes["duration"])
        notes["duration"] = np.maximum(ends - notes["onset"], 1)
        pedals["tick"], chords["tick"] = ms(pedals["tick"]), ms(chords["tick"])
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
        voice = notes["track"].astype(np.int64) * 128 + notes["pitch"]
        order = np.lexsort((-notes["duration"], notes["onset"], voice))
        voice, onset = voice[order], notes["onset"][order]
        again = np.diff(voice) == 0
        room = np.diff(onset)
        if not (again & (notes["duration"][order][:-1] > room)).any() and not (again & (room == 0)).any():
            return self
        first = np.append(True, ~(again & (room == 0)))
        notes, voice = notes[order][first], voice[first]
        room = np.where(np.diff(voice) == 0, np.diff(notes["onset"]), np.iinfo(np.int32).max)
        notes["duration"][:-1] = np.minimum(notes["duration"][:-1], room)
        return self.replace(notes=notes)

    def sustained(self) -> Score:
        """The pedal played into the notes: each rings until its pedal lifts or its pitch is struck again; no pedal."""
        notes = self.notes.copy()
        for track in np.unique(self.pedals["track"]):
            pedals = self.pedals[self.pedals["track"] == track]
            down = pedals["value"] > 0
            mine = np.flatnonzero(notes["track"] == track)
            ends = notes["onset"][mine] + notes["duration"][mine]
            held = np.searchsorted(pedals["tick"], ends, side="right") - 1
            ringing = (held >= 0) & down[np.maximum(held, 0)]
            lifts = pedals["tick"][~down]
            following = np.searchsorted(lifts, ends, side="right")
            last = max(self.end, int(pedals["tick"][-1]))
            lift = np.append(lifts, last)[np.minimum(following, len(lifts))]
            notes["duration"][mine] = np.where(ringing, np.maximum(lift, ends), ends) - notes["onset"][mine]
        return self.replace(notes=notes, pedals=()).without_overlaps()


def _sorted_notes(notes: np.ndarray) -> np.ndarray:
    """By onset, track, pitch and duration."""
    key = (notes["onset"].astype(np.int64) << 16) | (notes["track"].astype(np.int64) << 8) | notes["pitch"]
    if (key[1:] > key[:-1]).all():
        return notes
    return notes[np.lexsort((notes["duration"], key))]


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
    rows = rows[first : np.searchsorted(rows["tick"], end)].copy()
    rows["tick"] = np.maximum(rows["tick"] - start, 0)
    return rows
