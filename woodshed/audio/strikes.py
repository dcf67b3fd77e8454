"""Which keys were struck, how hard and until when: notes out of what is heard in each frame of a recording.

Three things make notes of the activations of a model: an overtone is told from a key by what is struck with it, a note
ends where its sound falls as only a damper makes it fall, and it is as loud as its fundamental and the brightness of
its attack. All of this was measured on piano (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce
from itertools import chain
from typing import NamedTuple

import numpy as np

HEARD = np.dtype([("onset", "f8"), ("end", "f8"), ("pitch", "u1"), ("velocity", "u1")])
CANDIDATE = np.dtype([("onset", "f8"), ("end", "f8"), ("key", "u1"), ("strength", "f4"), ("loudness", "f4")])

KEYS, LOWEST = 88, 21  # the keys of a piano, and the MIDI pitch of the first
SILENCE = -120.0  # dB

# In frames of 11.6 ms:
SOUNDING = 11  # over which a struck key must sound on
BEFORE = 9  # in which one that sounds already is seldom struck again, but for the last two
APART = 3  # two strikes of one key are farther apart
TOGETHER = 2  # two keys within so many are struck together
ATTACK = 8  # in which a note is loudest
SPOKEN = 4  # after which a fall is no longer that of another note's end
FALLING = 7  # in which a damper lets a string fall
GAP = 11  # a note ends where it is hardly heard for so long
LONGEST = 1722  # twenty seconds

FAINTEST, SURELY, UNSURE = 0.4, 0.5, 0.15  # strikes looked at; those that tell how sure others are; the key after one
OVERTONES = (12, 19, -12, -19)  # semitones between keys of which one may be heard for the other
OVERTONE, AGAIN = 0.4, 0.2  # what a strike loses as an overtone at most, and where its key sounds already
ENOUGH, LEAST, MOST = 0.7, 0.35, 0.85  # of the upper quartile of the strengths of a recording; and its limits
FADED = 0.2  # of what a key sounded at first
FALL = 9.0  # dB
TREBLE = 0.4  # dB a semitone: higher strings carry less
MIDDLE = 64  # the velocity of half of all notes; each dB is one more


class Frames(NamedTuple):
    """What is heard in frames, (frames, KEYS)."""

    onset: np.ndarray
    """How sure it is that a key is struck, 0 to 1."""
    note: np.ndarray
    """How sure it is that it sounds."""
    level: np.ndarray
    """Its fundamental in dB."""
    bright: np.ndarray
    """(frames, 1): all of the treble in dB."""

    @classmethod
    def silent(cls, count: int) -> Frames:
        nothing = np.zeros((count, KEYS), np.float32)
        return cls(nothing, nothing, nothing + np.float32(SILENCE), nothing[:, :1] + np.float32(SILENCE))


def notes_of(batches: Iterable[Frames]) -> np.ndarray:
    """HEARD, onsets and ends in frames, sorted; each key sounds once at a time. Of all frames only some seconds are
    kept."""
    found, kept, first = [np.empty(0, CANDIDATE)], Frames.silent(BEFORE), 0
    for batch in chain(batches, [Frames.silent(LONGEST)]):
        kept = Frames(*(np.concatenate(both) for both in zip(kept, batch, strict=True)))
        ready = len(kept.note) - BEFORE - LONGEST
        if ready > 0:
            found.append(_candidates(kept, first - BEFORE))
            kept, first = Frames(*(values[ready:] for values in kept)), first + ready
    return _chosen(np.concatenate(found))


# --- what may be a note ----------------------------------------------------------------------------------------


def _candidates(frames: Frames, first: int) -> np.ndarray:
    """All strikes but in the first BEFORE and the last LONGEST frames; `first` is the number of the first frame."""
    onset, note = frames.onset, frames.note
    sure = _over(note, 0, SOUNDING, np.add) / SOUNDING
    peak = (onset >= FAINTEST) & (onset >= _over(onset, -APART, APART + 1, np.maximum)) & (sure >= UNSURE)
    share = _share(np.where(peak, sure, 0), sure)
    frame, key = np.nonzero(peak[BEFORE:-LONGEST])
    at = frame + BEFORE, key
    again = _over(note, -BEFORE, -2, np.add)[at] / (BEFORE - 2)
    found = np.empty(len(frame), CANDIDATE)
    found["onset"] = first + at[0] + _summit(onset, at)
    found["end"] = first + _ends(frames, at, sure[at])
    found["key"] = key
    found["strength"] = onset[at] - OVERTONE * (1 - share[at]) - AGAIN * again
    bright = _over(frames.bright, 0, ATTACK, np.maximum)[at[0], 0]
    found["loudness"] = _over(frames.level, 0, ATTACK, np.maximum)[at] + bright + TREBLE * key
    return found


def _share(struck: np.ndarray, sure: np.ndarray) -> np.ndarray:
    """How surely each key sounds beside those that are struck with it an octave or a twelfth away, at most 1."""
    near = _over(struck, -TOGETHER, TOGETHER + 1, np.maximum)
    beside = np.zeros_like(near)
    for step in OVERTONES:
        here, there = (slice(step, None), slice(-step)) if step > 0 else (slice(step), slice(-step, None))
        beside[:, here] = np.maximum(beside[:, here], near[:, there])
    return sure / np.maximum(np.maximum(beside, sure), 1e-9)


def _summit(values: np.ndarray, at: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Where between frames a peak is highest: the parabola through it and its neighbours, -.5 to .5."""
    before, here, after = (values[at[0] + step, at[1]] for step in (-1, 0, 1))
    return np.clip((after - before) / np.maximum(2 * (2 * here - before - after), 1e-6), -0.5, 0.5)


def _ends(frames: Frames, at: tuple[np.ndarray, np.ndarray], sure: np.ndarray) -> np.ndarray:
    """In which frame a note ends that is not struck again: its fundamental falls, or it is hardly heard any more."""
    heard = np.ascontiguousarray(_over(frames.note, 0, GAP, np.maximum).T)
    level = np.ascontiguousarray(frames.level.T)
    falls = np.pad(level[:, FALLING:] < level[:, :-FALLING] - FALL, ((0, 0), (0, FALLING)))
    ends = np.empty(len(sure))
    for number, (frame, key, most) in enumerate(zip(*at, sure, strict=True)):
        faded = _first(heard[key, frame + 1 : frame + LONGEST] < FADED * most) + 1
        fallen = _first(falls[key, frame + SPOKEN : frame + LONGEST]) + SPOKEN + FALLING / 2
        ends[number] = frame + min(faded, fallen, LONGEST)
    return ends


def _first(mask: np.ndarray) -> int:
    """Where the first one is; LONGEST where none is."""
    at = int(mask.argmax())
    return at if mask[at] else LONGEST


def _over(values: np.ndarray, first: int, last: int, put_together: np.ufunc) -> np.ndarray:
    """The sum or the maximum of the frames from `first` to before `last`, counted from each; beyond the ends are those
    at the ends."""
    early = max(-first, 0)
    padded = np.pad(values, ((early, max(last - 1, 0)), (0, 0)), mode="edge")
    begin = early + first
    return reduce(put_together, (padded[begin + step : begin + step + len(values)] for step in range(last - first)))


# --- which are ones --------------------------------------------------------------------------------------------


def _chosen(candidates: np.ndarray) -> np.ndarray:
    """Those that are strong enough beside the others of their recording, each no longer than until the next of its
    key; velocities beside the median."""
    strength = candidates["strength"]
    sure = strength[strength >= SURELY]
    if not len(sure):
        return np.empty(0, HEARD)
    enough = np.clip(ENOUGH * np.percentile(sure, 75), LEAST, MOST)
    some = np.sort(candidates[strength >= enough], order=["key", "onset"])
    room = np.where(np.diff(some["key"], append=KEYS) == 0, np.append(some["onset"][1:], 0), np.inf)
    found = np.empty(len(some), HEARD)
    found["onset"], found["end"] = some["onset"], np.minimum(some["end"], room)
    found["pitch"] = some["key"] + LOWEST
    louder = some["loudness"] - np.median(some["loudness"])
    found["velocity"] = np.clip(np.rint(MIDDLE + louder), 1, 127)
    return np.sort(found, order=["onset", "pitch"])
