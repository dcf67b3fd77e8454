"""What a MIDI file says and a Score does not hold: volume, bends, later programs, lyrics, keys, system exclusive.

It is carried past the models and written back beside what they wrote, so that a file that is gone on with, or filled
in, keeps all that it had.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from .marks import MARK, chord_metas, chord_named
from .smf import (
    CONTROL,
    END,
    MARKER,
    NAME,
    NOTE_OFF,
    NOTE_ON,
    PROGRAM,
    SET_TEMPO,
    SIGNATURE,
    TEXT,
    Events,
    Meta,
    meta_event,
)

CONDUCTOR = -1  # the track of what belongs to none that has notes
SUSTAIN = 64  # the controller of the pedal, which a Score holds
HELD = (SET_TEMPO, SIGNATURE, END)  # meta events that a Score holds, or the file itself
PLACE = (0x00, 0x20, 0x21)  # sequence number, channel and port: those of the tracks as they were
PRESSURE = 0xD  # of a channel: one data byte, as a program has
_MARKER, _CUE, _RESET = b"\xff\x06", b"\xff\x07", b"\xb0\x79\x00"  # _RESET: of all controllers but volume
_LEVELS = b"\xb0\x07", b"\xb0\x0b"  # volume and expression
_AT_REST = {0xE0: b"\xe0\x00\x40", 0xD0: b"\xd0\x00"}  # a bend and a channel's pressure
OURS = (MARK, "woodshed ")  # how texts begin that Woodshed writes anew


class Extra(NamedTuple):
    """One event: the number of its track in the Score, its tick, and its bytes, those of a channel for channel 1."""

    track: int
    tick: int
    event: bytes


def extras_of(extras: Iterable[Extra], track: int, channel: int) -> list[tuple[int, bytes]]:
    """The events of one track, on a channel, with their ticks."""
    return [(one.tick, _on_channel(one.event, channel)) for one in extras if one.track == track]


def _on_channel(event: bytes, channel: int) -> bytes:
    return event if event[0] >= 0xF0 else bytes([event[0] | channel]) + event[1:]


def find_extras(events: Events) -> tuple[Extra, ...]:
    """All that a Score of these events does not hold, by tick; a reset, which is system exclusive, before the rest."""
    struck = (events.kind == NOTE_ON) & (events.data[:, 1] > 0)
    keys = np.unique(events.key[struck]).tolist()  # as Score.tracks has them
    found = _meta_events(events.metas, keys) + _channel_events(events, keys, struck)
    return tuple(sorted(found, key=lambda extra: extra.tick))


def _channel_events(events: Events, keys: list[int], struck: np.ndarray) -> list[Extra]:
    """Controllers but the pedal, bends, pressure, for all tracks on their channel; and the programs after a track's
    first note, those of a MIDI track without notes for all on its channel. What a track says itself is not said again
    by another."""
    begins, port = {key: int(np.argmax(struck & (events.key == key))) for key in keys}, events.ports()
    own, copies = [], []
    kept = ~np.isin(events.kind, (NOTE_ON, NOTE_OFF, 15))
    kept &= (events.kind != CONTROL) | (events.data[:, 0] != SUSTAIN)
    for at in np.flatnonzero(kept).tolist():
        key, kind, tick = int(events.key[at]), int(events.kind[at]), int(events.tick[at])
        data = events.data[at, : 1 if kind in (PROGRAM, PRESSURE) else 2]
        for number, home in enumerate(keys):
            apart = (home % 16, port.get(home // 16)) != (key % 16, port.get(key // 16))
            if apart or (kind == PROGRAM and key in begins and home != key):
                continue
            late = at > begins[home] if home == key else tick > int(events.tick[begins[home]])
            if kind != PROGRAM or late:
                extra = Extra(number, tick, bytes([kind << 4, *data.tolist()]))
                (own if home == key else copies).append(extra)
    said = set(own)
    return own + [one for one in copies if one not in said]


def _meta_events(metas: list[Meta], keys: list[int]) -> list[Extra]:
    """Texts, lyrics, keys, system exclusive; those of a MIDI track that plays on one channel stay with it."""
    chords = set(chord_metas(metas))
    counts = Counter(key // 16 for key in keys)
    homes = {key // 16: number for number, key in enumerate(keys) if counts[key // 16] == 1}
    found = []
    for meta in metas:
        title = meta.kind == NAME and meta.track == 0 and not counts[0]
        said = meta.kind == TEXT and meta.text.startswith(OURS)
        if meta.kind in (*HELD, *PLACE) or (meta.kind == NAME and not title) or said or meta in chords:
            continue
        found.append(Extra(homes.get(meta.track, CONDUCTOR), meta.tick, meta_event(meta.kind, meta.data)))
    return found


# --- where other music is written ---------------------------------------------------------------------------------


def beside_chords(extras: Iterable[Extra]) -> list[Extra]:
    """Extras for a file whose markers are chords: rehearsal letters, which would be read as chords, are cue points."""
    return [one._replace(event=_CUE + one.event[2:]) if _is_letter(one.event) else one for one in extras]


def _is_letter(event: bytes) -> bool:
    return event[:2] == _MARKER and chord_named(Meta(0, 0, MARKER, event[3:]).text) is not None


def released(extras: Iterable[Extra], start: int) -> tuple[Extra, ...]:
    """The extras before the tick `start`, at which other music goes on: there all controllers are at rest again, and
    volume and expression the most they were, since a file may have faded in or out."""
    kept = [one for one in extras if one.tick < start]
    rest = []
    for track in dict.fromkeys(one.track for one in kept if one.event[0] < 0xF0):
        mine = [one.event for one in kept if one.track == track]
        loud = (max((event for event in mine if event[:2] == level), default=b"") for level in _LEVELS)
        rest += [Extra(track, start, event) for event in (_RESET, *loud) if event]
    return tuple(kept + rest)


def without_bends(extras: Iterable[Extra], tracks: Iterable[int], start: int, end: int) -> tuple[Extra, ...]:
    """The extras without the bends and channel pressures that belong to the notes of these tracks in [start, end)
    ticks; there they are at rest, and at the end again what they were."""
    extras, rest = tuple(extras), []
    left = [one for one in extras if not (one.track in tracks and one.event[0] in _AT_REST and start <= one.tick < end)]
    for track in tracks:
        for status, calm in _AT_REST.items():
            mine = [one for one in extras if one.track == track and one.event[0] == status]
            before, after = (_held(mine, tick, calm) for tick in (start, end))
            rest += [Extra(track, start, calm)] * (before != calm) + [Extra(track, end, after)] * (after != calm)
    return tuple(sorted(rest + left, key=lambda extra: extra.tick))  # what stands at the end itself comes last


def _held(mine: list[Extra], tick: int, calm: bytes) -> bytes:
    """What holds just before a tick."""
    return next((one.event for one in reversed(mine) if one.tick < tick), calm)
