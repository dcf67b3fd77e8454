"""What a MIDI file says and a Score does not hold: volume, bends, later programs, lyrics, keys, system exclusive.

It is carried past the models and written back beside what they wrote, so that a file that is gone on with, or filled
in, keeps all that it had.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from .marks import MARK, chord_metas
from .smf import CONTROL, END, NAME, NOTE_OFF, NOTE_ON, PROGRAM, SET_TEMPO, SIGNATURE, TEXT, Events, Meta, meta_event

CONDUCTOR = -1  # the track of what belongs to none that has notes
SUSTAIN = 64
HELD = (SET_TEMPO, SIGNATURE, END)  # meta events that a Score holds, or the file itself
PLACE = (0x00, 0x20, 0x21)  # sequence number, channel and port: those of the tracks as they were
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
    """All that a Score of these events does not hold, in the order of the file."""
    struck = (events.kind == NOTE_ON) & (events.data[:, 1] > 0)
    keys = np.unique(events.key[struck]).tolist()  # as Score.tracks has them
    return tuple(sorted(_channel_events(events, keys, struck) + _meta_events(events.metas, keys), key=_tick))


def _tick(extra: Extra) -> int:
    return extra.tick


def _channel_events(events: Events, keys: list[int], struck: np.ndarray) -> list[Extra]:
    """Controllers but the pedal, bends, pressure, and the programs after a track's first note. What stands in a MIDI
    track without notes goes to the first that plays on its channel."""
    begins = {key: int(np.argmax(struck & (events.key == key))) for key in keys}
    homes = {key % 16: key for key in reversed(keys)} | {key: key for key in keys}
    found = []
    kept = ~np.isin(events.kind, (NOTE_ON, NOTE_OFF, 15))
    kept &= (events.kind != CONTROL) | (events.data[:, 0] != SUSTAIN)
    for at in np.flatnonzero(kept).tolist():
        key, kind = int(events.key[at]), int(events.kind[at])
        home = key if key in begins else homes.get(key % 16)
        if home is None or (kind == PROGRAM and at < begins[home]):
            continue
        data = events.data[at, : 1 if kind in (PROGRAM, 0xD) else 2]
        found.append(Extra(keys.index(home), int(events.tick[at]), bytes([kind << 4, *data.tolist()])))
    return found


def _meta_events(metas: list[Meta], keys: list[int]) -> list[Extra]:
    """Texts, lyrics, keys, system exclusive; those of a MIDI track that plays on one channel stay with it."""
    chords = chord_metas(metas)
    homes = {key // 16: number for number, key in enumerate(keys)}
    several = {key // 16 for key in keys if sum(other // 16 == key // 16 for other in keys) > 1}
    found = []
    for meta in metas:
        title = meta.kind == NAME and meta.track == 0 and 0 not in homes
        said = meta.kind == TEXT and meta.text.startswith(OURS)
        if meta.kind in (*HELD, *PLACE) or (meta.kind == NAME and not title) or said or meta in chords:
            continue
        home = CONDUCTOR if meta.track in several else homes.get(meta.track, CONDUCTOR)
        found.append(Extra(home, meta.tick, meta_event(meta.kind, meta.data)))
    return found
