"""Standard MIDI Files as bytes: a file to columns of events and back, knowing nothing of scores.

Most of a track is `delta time, [status], data, data`: a regular expression finds how far that goes, and numpy splits
it, as each such event has three bytes below 128. Values out of range (a velocity of 176) are clipped and named;
everything else that is wrong is a ValueError with the reason.
"""

from __future__ import annotations

import re
import struct
from itertools import accumulate
from typing import NamedTuple

import numpy as np

TEXT, NAME, LYRIC, MARKER, PORT, END = 1, 3, 5, 6, 0x21, 0x2F  # meta events
SET_TEMPO, SIGNATURE, KEY = 0x51, 0x58, 0x59
NOTE_OFF, NOTE_ON, CONTROL, PROGRAM = 0x8, 0x9, 0xB, 0xC  # the upper half of a status byte
MAX_TICK = 2**31 - 1
MAX_DELTA = 2**28 - 1
MAX_SLIPS = 8  # values out of range that pass for slips; in a long file one event in 20

_NUMBER = re.compile(rb"[\x80-\xff]{0,3}[\x00-\x7f]")
_EVENT = _NUMBER.pattern + rb"[\x80-\xbf\xe0-\xef]?[\x00-\x7f]{2}"
_RUN = re.compile(b"(?:%b){1,4096}" % _EVENT)  # bounded, as the matcher's memory grows with it


class Meta(NamedTuple):
    """A meta event: its MIDI track, tick, type and bytes; or a system exclusive one, whose type is below 0."""

    track: int
    tick: int
    kind: int
    data: bytes

    @property
    def text(self) -> str:
        """Text as UTF-8, or as Latin-1 where it is not; without the zero bytes some programs end it with."""
        try:
            return self.data.decode("utf-8").rstrip("\0")
        except UnicodeDecodeError:
            return self.data.decode("latin-1").rstrip("\0")


class Events(NamedTuple):
    """A file's channel events as columns (n,) in file order, its meta events, and the end of each track in ticks."""

    division: int  # ticks a quarter note, or with the highest bit set SMPTE frames and ticks a frame
    key: np.ndarray  # MIDI track * 16 + channel
    tick: np.ndarray  # int64
    kind: np.ndarray  # upper half of the status byte; 15 where a meta or system exclusive event stands
    data: np.ndarray  # (n, 2)
    metas: list[Meta]
    ends: np.ndarray  # (tracks,)
    slips: list[str]

    def ports(self) -> dict[int, int]:
        """The port of each MIDI track that names one: with it, more than 16 channels."""
        return {meta.track: meta.data[0] for meta in self.metas if meta.kind == PORT and meta.data}


# --- bytes to events --------------------------------------------------------------------------------------------------


def decode(data: bytes) -> Events:
    """All events of a file with their ticks. Raises ValueError with the reason."""
    division, tracks = _chunks(data)
    walks = [_walk(data, start, stop) for start, stop in tracks]
    begins = [0, *accumulate(len(body) for body, _, _ in walks)]
    delta, status, values, stops = _columns(b"".join(body for body, _, _ in walks))
    bounds = np.searchsorted(stops, begins)
    track = np.repeat(np.arange(len(walks)), np.diff(bounds))
    elapsed = np.cumsum(np.append(0, delta))
    tick = elapsed[1:] - elapsed[bounds[:-1]][track]
    if tick.max(initial=0) > MAX_TICK:
        raise ValueError(f"lasts {tick.max()} ticks; at most {MAX_TICK}")
    kind = status >> 4
    metas = [(n, begins[n] + place, *rest) for n, (_, found, _) in enumerate(walks) for place, *rest in found]
    slips = [(begins[n] + place, *rest) for n, (_, _, found) in enumerate(walks) for place, *rest in found]
    ticks = tick[np.searchsorted(stops, [place for _, place, *_ in metas])].tolist()
    kinds = kind[np.searchsorted(stops, [place for place, *_ in slips])].tolist()
    metas = [Meta(number, at, *rest) for at, (number, _, *rest) in zip(ticks, metas, strict=True)]
    slips = [_slip(which, *rest) for which, (_, *rest) in zip(kinds, slips, strict=True)]
    if len(slips) > max(MAX_SLIPS, len(delta) // 20):
        raise ValueError(f"damaged: {len(slips)} of {len(delta)} events are out of range")
    metas.sort(key=lambda meta: meta.tick)
    return Events(division, track * 16 + (status & 15), tick, kind, values, metas, np.diff(elapsed[bounds]), slips)


def _slip(kind: int, index: int, value: int) -> str:
    notes, control = ("pitch", "velocity"), ("controller", "controller value")
    names = {NOTE_OFF: notes, NOTE_ON: notes, CONTROL: control}.get(kind, ("data byte", "data byte"))
    return f"{names[index]} {value} out of range, clipped to 127"


def _chunks(data: bytes) -> tuple[int, list[tuple[int, int]]]:
    """The time division, and where the events of each track start and stop."""
    if not data:
        raise ValueError("empty (zero bytes)")
    if data[:4] != b"MThd":
        raise ValueError("not a MIDI file (no MThd at its start)")
    if len(data) < 14:
        raise ValueError("truncated inside its header")
    size, kind, declared, division = struct.unpack(">IHHH", data[4:14])
    if kind > 1:
        raise ValueError(f"MIDI type {kind}; only types 0 and 1 can be read, save it again as type 1")
    if not declared or not division:
        raise ValueError(f"{declared} tracks, {division} ticks a quarter note")
    tracks, place = [], 8 + size
    while len(tracks) < declared or data[place : place + 4] == b"MTrk":
        if place + 8 > len(data):
            raise ValueError(f"truncated: {len(tracks)} of {declared} tracks are there")
        stop = place + 8 + int.from_bytes(data[place + 4 : place + 8], "big")
        if data[place : place + 4] == b"MTrk":
            if stop > len(data):
                raise ValueError(f"truncated: track {len(tracks) + 1} lacks {stop - len(data)} bytes")
            tracks.append((place + 8, stop))
        place = stop
    return division, tracks


def _walk(data: bytes, place: int, stop: int) -> tuple[bytes, list[tuple], list[tuple]]:
    """One track as events `delta [status] data data`, and its meta events and slips, each with its place in the bytes.

    Meta events stand among them as status 0xFF; an event of a single data byte gets its status and a zero.
    """
    body, metas, slips = bytearray(), [], []
    running, width = b"", 0  # the status in force, where it takes one data byte, and how many it takes
    while place < stop:
        if width == 2 and (run := _RUN.match(data, place, stop)):
            body += run[0]
            place = run.end()
            continue
        delta, place = _number(data, place, stop)
        status = data[place : place + 1] if place < stop else b"\0"
        if status >= b"\xf0":
            kind, text = _meta(data, place, stop)
            metas.append((len(body), kind, data[text]))
            body += delta + b"\xff\0\0"
            place = text.stop
            if kind == END:
                break
            continue
        if status >= b"\x80":
            place += 1
            running, width = status, 1 if b"\xc0" <= status < b"\xe0" else 2
        values = data[place : min(place + width, stop)]
        if not width or len(values) < width:
            raise ValueError(f"damaged: half an event at byte {place}")
        slips += [(len(body), index, value) for index, value in enumerate(values) if value > 127]
        values = bytes(min(value, 127) for value in values).ljust(2, b"\0")
        body += delta + (running if width == 1 or status >= b"\x80" else b"") + values
        place += width
    return bytes(body), metas, slips


def _number(data: bytes, place: int, stop: int) -> tuple[bytes, int]:
    """The bytes of a variable-length number, and where it ends."""
    if not (number := _NUMBER.match(data, place, stop)):
        raise ValueError(f"damaged: no length or time at byte {place}")
    return number[0], number.end()


def _meta(data: bytes, place: int, stop: int) -> tuple[int, slice]:
    """The type of a meta event (of a system exclusive one its status, negative), and where its bytes stand."""
    status = data[place]
    if status not in (0xFF, 0xF0, 0xF7):
        raise ValueError(f"damaged: event {status:#x} at byte {place}")
    kind = data[place + 1] if status == 0xFF and place + 1 < stop else -status
    number, start = _number(data, place + 1 + (status == 0xFF), stop)
    size = 0
    for byte in number:
        size = size << 7 | byte & 127
    if start + size > stop:
        raise ValueError(f"damaged: a text or system event of {size} bytes at byte {place}")
    return kind, slice(start, start + size)


def _columns(body: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Events to delta times, status with running status filled in, data (n, 2), and where in the bytes they stop.

    Every event has three bytes below 128: the last of its delta time and its two data bytes.
    """
    raw = np.frombuffer(body, np.uint8)
    last, first_data, stops = np.flatnonzero(raw < 128).reshape(-1, 3).T
    before = np.append(-1, stops[:-1])[: len(stops)]
    delta = raw[last].astype(np.int64)
    for shift in (1, 2, 3):
        more = np.flatnonzero(last - shift > before)
        delta[more] += (raw[last[more] - shift] & 127).astype(np.int64) << 7 * shift
    status = np.where(first_data - last == 2, raw[first_data - 1], np.uint8(0))
    voiced = np.where((status > 0) & (status < 0xF0), np.arange(len(status)), 0)
    status = np.where(status > 0, status, status[np.maximum.accumulate(voiced)])
    return delta, status, raw[np.stack([first_data, stops], axis=1)], stops


# --- events to bytes --------------------------------------------------------------------------------------------------


def meta_event(kind: int, data: str | bytes) -> bytes:
    """The bytes of a meta event, or where the kind is negative of a system exclusive one; text as UTF-8."""
    data = data.encode("utf-8", "replace") if isinstance(data, str) else data
    return bytes([0xFF, kind] if kind >= 0 else [-kind]) + _length(len(data)) + data


def as_meta(event: bytes) -> Meta:
    """The meta event in such bytes, at tick 0 of track 0."""
    kind, place = _meta(event, 0, len(event))
    return Meta(0, 0, kind, event[place])


def _length(value: int) -> bytes:
    """A variable-length number: seven bits a byte, the high bit on all but the last."""
    octets = [value & 127]
    while value := value >> 7:
        octets.append(value & 127 | 128)
    return bytes(octets[::-1])


def encode(ticks_per_quarter: int, tracks: list[list[tuple[int, bytes]]], end: int = 0) -> bytes:
    """A type 1 file of tracks, each a list of (tick, bytes of an event) in order of the ticks.

    A track ends at tick `end`, or with its last event if that is later.
    """
    header = struct.pack(">IHHH", 6, 1, len(tracks), ticks_per_quarter)
    return b"MThd" + header + b"".join(_chunk(track, end) for track in tracks)


def _chunk(events: list[tuple[int, bytes]], end: int) -> bytes:
    """Events as a track; waits longer than MIDI can say are bridged by empty texts."""
    bridge = _length(MAX_DELTA) + meta_event(TEXT, b"")
    body, now = [], 0
    for tick, event in (*events, (max(end, events[-1][0]) if events else end, meta_event(END, b""))):
        bridges, wait = divmod(tick - now, MAX_DELTA)
        body += [bridge * bridges, _length(wait), event]
        now = tick
    data = b"".join(body)
    return b"MTrk" + struct.pack(">I", len(data)) + data
