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
from .smf import CONTROL, END, NAME, NOTE_OFF, NOTE_ON, PROGRAM, SET_TEMPO, SIGNATURE, TEXT, Events, Meta, meta_event

CONDUCTOR = -1  # the track of what belongs to none that has notes
SUSTAIN = 64
HELD = (SET_TEMPO, SIGNATURE, END)  # meta events that a Score holds, or the file itself
PLACE = (0x00, 0x20, 0x21)  # sequence number, channel and port: those of the tracks as they were
PRESSURE = 0xD  # of a channel: one data byte, as a program has
_MARKER, _CUE, _VOLUME, _RESET = b"\xff\x06", b"\xff\x07", b"\xb0\x07", b"\xb0\x79\x00"  # _RESET: all controllers
_BEND, _WITH_NOTES = b"\xe0\x00\x40", (0xA0, 0xD0, 0xE0)  # a centred bend; pressures and bends
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
    return tuple(dict.fromkeys(sorted(found, key=lambda extra: extra.tick)))


def _channel_events(events: Events, keys: list[int], struck: np.ndarray) -> list[Extra]:
    """Controllers but the pedal, bends, pressure, for all tracks on their channel; and the programs after a track's
    first note, those of a MIDI track without notes for all on its channel."""
    begins = {key: int(np.argmax(struck & (events.key == key))) for key in keys}
    found = []
    kept = ~np.isin(events.kind, (NOTE_ON, NOTE_OFF, 15))
    kept &= (events.kind != CONTROL) | (events.data[:, 0] != SUSTAIN)
    for at in np.flatnonzero(kept).tolist():
        key, kind, tick = int(events.key[at]), int(events.kind[at]), int(events.tick[at])
        data = events.data[at, : 1 if kind in (PROGRAM, PRESSURE) else 2]
        for number, home in enumerate(keys):
            if home % 16 != key % 16 or (kind == PROGRAM and key in begins and home != key):
                continue
            late = at > begins[home] if home == key else tick > int(events.tick[begins[home]])
            if kind != PROGRAM or late:
                found.append(Extra(number, tick, bytes([kind << 4, *data.tolist()])))
    return found


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
    return event[:2] == _MARKER and chord_named(event[3:].decode("latin-1")) is not None


def released(extras: Iterable[Extra], start: int) -> tuple[Extra, ...]:
    """The extras before the tick `start`, at which other music goes on: there all controllers are at rest again, and
    the volume is what it was first, since a file may have faded out."""
    kept = [one for one in extras if one.tick < start]
    moved = dict.fromkeys(one.track for one in kept if one.event[0] < 0xF0)
    volumes = {one.track: one.event for one in reversed(kept) if one.event[:2] == _VOLUME}
    rest = [Extra(track, start, event) for track in moved for event in (_RESET, volumes.get(track)) if event]
    return tuple(kept + rest)


def without_bends(extras: Iterable[Extra], tracks: Iterable[int], start: int, end: int) -> tuple[Extra, ...]:
    """The extras without the bends and pressures that belong to the notes of these tracks in [start, end) ticks; at
    the end a bend is again what it was."""
    extras, found = tuple(extras), []
    for one in extras:
        mine = one.track in tracks and one.event[0] in _WITH_NOTES
        if not (mine and start <= one.tick < end):
            found.append(one)
    for track in tracks:
        bends = [one for one in extras if one.track == track and one.event[0] == _BEND[0]]
        for tick, event in ((start, _BEND), (end, _held(bends, end))):
            if _held(bends, tick) != _BEND:
                found.append(Extra(track, tick, event))
    return tuple(sorted(found, key=lambda extra: extra.tick))


def _held(bends: list[Extra], tick: int) -> bytes:
    """The bend that holds just before a tick; centred where there is none."""
    return next((one.event for one in reversed(bends) if one.tick < tick), _BEND)
