"""What a MIDI file says and a Score does not hold: volume, bends, later programs, lyrics, keys, system exclusive.

It bypasses the models and is written back beside what they wrote, so that a file that is extended or filled in loses
nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from .channels import first_programs, told, unheard
from .chords import Chord
from .marks import MARK, chart_metas, chord_named
from .smf import (
    CONTROL,
    END,
    MARKER,
    NAME,
    NOTE_OFF,
    NOTE_ON,
    PORT,
    PROGRAM,
    SET_TEMPO,
    SIGNATURE,
    TEXT,
    Events,
    Meta,
    as_meta,
    meta_event,
)

CONDUCTOR = -1  # the track of what belongs to none that has notes; below it are MIDI tracks without notes, as they were
SUSTAIN = 64  # the controller of the pedal, which a Score holds
HELD = (SET_TEMPO, SIGNATURE, END)  # meta events that a Score holds, or the file itself
PLACE = (0x00, 0x20, PORT)  # sequence number, channel and port: those of the tracks as they were
PRESSURE = 0xD  # of a channel: one data byte, as a program has
_NAME, _MARKER, _CUE = b"\xff\x03", b"\xff\x06", b"\xff\x07"
_RESET = b"\xb0\x79\x00"  # of all controllers but volume
_LEVELS = b"\xb0\x07", b"\xb0\x0b"  # volume and expression
_LASTING = {0, 7, 8, 10, 11, 32, *range(70, 80), *range(91, 96)}  # what a reset leaves, and expression: see _LEVELS
_AT_REST = {0xE0: b"\xe0\x00\x40", 0xD0: b"\xd0\x00"}  # a bend and a channel's pressure
ENDED = meta_event(END, b"")  # where a file ends later than what is in it
NO_PROGRAM = b"\xc0"  # of a track that names none: it is given none
OURS = (MARK, "woodshed ")  # how texts begin that Woodshed writes anew


class Extra(NamedTuple):
    """One event: the number of its track in the Score, its tick, its bytes, and whether it states a chord of the Score.

    A track's channel events are for channel 1, those of a MIDI track without notes for the channel they were on.
    """

    track: int
    tick: int
    event: bytes
    chord: bool = False


def extras_of(extras: Iterable[Extra], track: int, channel: int) -> list[tuple[int, bytes]]:
    """The events of one track, on a channel, with their ticks."""
    mine = (one for one in extras if one.track == track and one.event != NO_PROGRAM)
    return [(one.tick, _on_channel(one.event, channel)) for one in mine]


def _on_channel(event: bytes, channel: int) -> bytes:
    return event if event[0] >= 0xF0 else bytes([event[0] & 0xF0 | channel]) + event[1:]


def find_extras(events: Events) -> tuple[Extra, ...]:
    """All that a Score of these events does not hold, by tick; a reset, which is system exclusive, before the rest."""
    struck = (events.kind == NOTE_ON) & (events.data[:, 1] > 0)
    keys = np.unique(events.key[struck]).tolist()  # as Score.tracks has them
    loose = unheard(events, keys)
    silent = _silent_tracks(events, keys, loose)
    found = _meta_events(events.metas, keys, silent) + _channel_events(events, keys, struck)
    programs = enumerate(first_programs(events, keys))
    found += [Extra(number, 0, NO_PROGRAM) for number, program in programs if program is None]
    found += [Extra(silent[int(events.key[at]) // 16], int(events.tick[at]), _message(events, at)) for at in loose]
    return tuple(sorted(found, key=lambda extra: extra.tick))


def _message(events: Events, at: int) -> bytes:
    """The bytes of a channel event."""
    kind = int(events.kind[at])
    data = events.data[at, : 1 if kind in (PROGRAM, PRESSURE) else 2]
    return bytes([kind << 4 | int(events.key[at]) % 16, *data.tolist()])


def _silent_tracks(events: Events, keys: list[int], loose: np.ndarray) -> dict[int, int]:
    """The MIDI tracks without notes that have a name, and those of events on channels without notes, as numbers."""
    sounding = {0, *(key // 16 for key in keys)}
    named = {meta.track for meta in events.metas if meta.kind == NAME and meta.text} - sounding
    found = sorted(named | {key // 16 for key in events.key[loose].tolist()})
    return {track: CONDUCTOR - 1 - number for number, track in enumerate(found)}


def _channel_events(events: Events, keys: list[int], struck: np.ndarray) -> list[Extra]:
    """Controllers but the pedal, bends, pressure, and the programs after a track's first note. What a track says itself
    is not said again by another."""
    kept = ~np.isin(events.kind, (NOTE_ON, NOTE_OFF, 15))
    kept &= (events.kind != CONTROL) | (events.data[:, 0] != SUSTAIN)
    found = []
    for number, (key, mine) in enumerate(zip(keys, told(events, keys, np.flatnonzero(kept)), strict=True)):
        first = int(np.argmax(struck & (events.key == key)))
        own, copies = [], []
        for at in mine.tolist():
            home, tick = events.key[at] == key, int(events.tick[at])
            late = at > first if home else tick > events.tick[first]
            if events.kind[at] != PROGRAM or late:
                (own if home else copies).append(Extra(number, tick, _on_channel(_message(events, at), 0)))
        said = set(own)
        found += [one for one in copies if one not in said] + own
    return found


def _meta_events(metas: list[Meta], keys: list[int], silent: dict[int, int]) -> list[Extra]:
    """Texts, lyrics, keys, chords, system exclusive; those of a MIDI track that plays on one channel, or has no notes
    and a name, stay with it."""
    chords, counts = chart_metas(metas), Counter(key // 16 for key in keys)
    homes = {track: number for track, number in silent.items() if track and not counts[track]}
    homes |= {key // 16: number for number, key in enumerate(keys) if counts[key // 16] == 1}
    found = []
    for meta in metas:
        ours = meta.kind in (TEXT, MARKER) and meta.text.startswith(OURS)
        title = meta.track == 0 and not counts[0]
        named = meta.kind == NAME and not title and homes.get(meta.track, 0) > CONDUCTOR  # as the Score has it
        if meta.kind in (*HELD, *PLACE) or ours or named:
            continue
        event = meta_event(meta.kind, meta.data)
        found.append(Extra(homes.get(meta.track, CONDUCTOR), meta.tick, event, meta in chords))
    return found + _odd_names(metas, keys)


def _odd_names(metas: list[Meta], keys: list[int]) -> list[Extra]:
    """The names of tracks that would be written in other bytes: those that are not in UTF-8."""
    names = {meta.track: meta for meta in reversed(metas) if meta.kind == NAME}
    odd = {
        track: meta_event(NAME, meta.data)
        for track, meta in names.items()
        if meta.text.encode() not in (b"", meta.data)
    }
    return [Extra(number, 0, odd[key // 16]) for number, key in enumerate(keys) if key // 16 in odd]


# --- where other music is written ---------------------------------------------------------------------------------


def beside_chords(extras: Iterable[Extra], chords: np.ndarray) -> list[Extra]:
    """Extras for a file of these chords: those that state another chord are left out, and rehearsal letters, which
    would be read as chords, are cue points."""
    extras, held = tuple(extras), {tick: tuple(chord) for tick, *chord in chords.tolist()}
    stated = {one.tick: _chord(one) for one in extras if one.chord}  # of several at a tick the last, as in a Score
    kept = [one for one in extras if not one.chord or held.get(one.tick) == stated[one.tick]]
    letters = {one for one in kept if held and not one.chord and one.event[:2] == _MARKER and _chord(one)}
    return [one._replace(event=_CUE + one.event[2:]) if one in letters else one for one in kept]


def _chord(one: Extra) -> Chord | None:
    return chord_named(as_meta(one.event).text)


def marked(extras: Iterable[Extra]) -> set[int]:
    """The ticks at which extras state a chord as a marker, as a file has them."""
    return {one.tick for one in extras if one.chord and one.event[:2] == _MARKER}


def name_event(extras: Iterable[Extra], number: int, name: str) -> bytes:
    """The bytes in which a file names a track; in UTF-8 where it is not the name that they had."""
    events = (one.event for one in extras if one.track == number and one.event[:2] == _NAME)
    return next((event for event in events if as_meta(event).text == name), meta_event(NAME, name))


def released(extras: Iterable[Extra], start: int) -> tuple[Extra, ...]:
    """The extras before the tick `start`, at which other music goes on: there all controllers that are not at rest are
    put back, and volume and expression are the most they were, since a file may have faded in or out."""
    kept = [one for one in extras if one.tick < start and one.event != ENDED]
    rest = []
    for track in dict.fromkeys(one.track for one in kept if one.event[0] < 0xF0 and one.track > CONDUCTOR):
        mine = [one.event for one in kept if one.track == track]
        held = {event[:-1] if event[0] < 0xC0 else event[:1]: event for event in mine}
        reset = [_RESET] * any(_is_moved(event) for event in held.values())
        loud = (max((event for event in mine if event[:2] == level), default=b"") for level in _LEVELS)
        faded = [event for event in loud if event and (reset or event != held[event[:2]])]
        rest += [Extra(track, start, event) for event in (*reset, *faded)]
    return tuple(kept + rest)


def _is_moved(event: bytes) -> bool:
    """Whether a channel event leaves a controller, bend or pressure where a reset would put it back."""
    if event[0] == 0xB0 and event[1] in _LASTING:
        return False
    return (event[0] in (0xA0, 0xB0) and event[2] > 0) or (event[0] in _AT_REST and event != _AT_REST[event[0]])


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
