"""For whom an event on a channel is meant.

To the letter, what is said on a channel holds for all that plays on it. But DAWs export tracks that know nothing of
each other on one channel, each with its own sound. So a track has what its own MIDI track says, and of others only

- what a MIDI track without notes says on its channel: it can be meant for none but those that have some;
- the program and the controllers, the pedal among them, that it does not set itself, of the staves of its instrument:
  of tracks on its channel of which one alone names a program. Bends stay with the notes that they bend.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .smf import CONTROL, NOTE_OFF, NOTE_ON, PROGRAM, Events

DRUM_CHANNEL = 9
CHANNELS = tuple(channel for channel in range(16) if channel != DRUM_CHANNEL)


def told(events: Events, keys: Sequence[int], which: np.ndarray) -> list[np.ndarray]:
    """For each track (its key) those of the events `which` (indices) that hold for it, by tick, its own the last."""
    if not len(which):
        return [which] * len(keys)
    kind, key, port = events.kind[which], events.key[which], events.ports()
    subject = kind.astype(np.int64) * 128 + np.where(kind == CONTROL, events.data[which, 0], 0)
    silent = sorted(set(key.tolist()) - set(keys))
    found = []
    for home, staves in zip(keys, _staves(events, keys), strict=True):
        own = key == home
        others = np.isin(key, staves) & ((kind == CONTROL) | (kind == PROGRAM)) & ~np.isin(subject, subject[own])
        others |= np.isin(key, [one for one in silent if _reaches(one, home, port)])
        here = np.concatenate([which[others], which[own]])
        found.append(here[np.argsort(events.tick[here], kind="stable")])
    return found


def first_programs(events: Events, keys: Sequence[int]) -> list[int | None]:
    """The program that holds for each track (its key) at its first note; None where none is named."""
    sounding = (events.kind == NOTE_ON) & (events.data[:, 1] > 0)
    programs = []
    for key, mine in zip(keys, told(events, keys, np.flatnonzero(events.kind == PROGRAM)), strict=True):
        first, own = np.argmax(sounding & (events.key == key)) if len(mine) else 0, events.key[mine] == key
        before = mine[own & (mine < first)]
        if not len(before):
            before = mine[~own & (events.tick[mine] <= events.tick[first])]
        programs.append(int(events.data[before[-1], 0]) if len(before) else None)
    return programs


def _reaches(silent: int, home: int, port: dict[int, int]) -> bool:
    """Whether what a MIDI track without notes says on a channel is heard by a track; without a port it is by all."""
    return silent % 16 == home % 16 and port.get(silent // 16) in (None, port.get(home // 16))


def _staves(events: Events, keys: Sequence[int]) -> list[list[int]]:
    """For each key the others that are staves of the same instrument."""
    port = events.ports()
    named = set(events.key[events.kind == PROGRAM].tolist())
    found = []
    for home in keys:
        there = [key for key in keys if key % 16 == home % 16 and port.get(key // 16) == port.get(home // 16)]
        naming = len(named.intersection(there))
        found.append(there if naming == 1 or (naming and home not in named) else [])
    return [[key for key in there if key != home] for home, there in zip(keys, found, strict=True)]


def unheard(events: Events, keys: Sequence[int]) -> np.ndarray:
    """Which events (indices) are said on channels on which no track plays."""
    port, silent = events.ports(), ~np.isin(events.kind, (NOTE_ON, NOTE_OFF, 15)) & ~np.isin(events.key, keys)
    heard = [one for one in set(events.key[silent].tolist()) if any(_reaches(one, home, port) for home in keys)]
    return np.flatnonzero(silent & ~np.isin(events.key, heard))
