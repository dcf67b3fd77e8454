"""What ids have in common, as their words tell it: a fresh model that begins with it learns several times faster."""

from __future__ import annotations

import re
from collections import defaultdict

import numpy as np

from ..music.chord_suffix import MAJOR_SCALE
from ..music.chords import NAMES, TONES, from_word

PITCH = ("pitch", "noteon", "noteoff")
ORDERED = ("velocity", "duration", "timeshift", "tempo", "bar", "left", "density")
SCALES = {"": MAJOR_SCALE, "m": (0, 2, 3, 5, 7, 8, 10)}
REACH = 4  # how far ids of an ordered kind look alike: exp(-(distance / 2)^2) up to so many places


def word_features(words: tuple[str, ...], steps: int) -> np.ndarray:
    """(vocab_size, F) of 0 to 1: what each word stands for, a column for each feature.

    Pitches, basses, chords and keys share pitch classes, chords and basses their root, pitches and durations and other
    ordered kinds their neighbourhood, positions their place in the quarter (of `steps` positions), all of one kind the
    kind.
    """
    columns: dict[tuple, np.ndarray] = defaultdict(lambda: np.zeros(len(words), dtype=np.float32))
    places: dict[str, int] = defaultdict(int)
    for token, spelled in enumerate(words):
        kind, _, value = spelled.rpartition("_")
        kind = kind.lower().replace("_", "")
        columns[kind,][token] = 1
        for feature, weight in _told(kind, value, places[kind], steps):
            columns[feature][token] = weight
        places[kind] += 1
    return np.stack([columns[feature] for feature in sorted(columns, key=str)], axis=1)


def _told(kind: str, value: str, place: int, steps: int):
    """(feature, weight) of a word; `place` counts the words of its kind."""
    if kind in PITCH:
        yield ("pitch class", int(value) % 12), 1
        yield ("octave", int(value) // 12), 1
        yield from _near("height", int(value) // 3)
    elif kind == "bass":
        yield ("pitch class", NAMES.index(value)), 1
        yield ("root", NAMES.index(value)), 1
    elif kind == "chord" and ":" in value:
        root, quality = from_word(value)
        yield from ((("pitch class", int(tone)), 1) for tone in np.flatnonzero(np.roll(TONES[quality], root)))
        yield ("root", root), 1
        yield ("quality", quality), 1
    elif kind == "key":
        tonic, mode = re.fullmatch(r"(.[b#]?)(m?)", value).groups()
        yield from ((("pitch class", (NAMES.index(tonic) + tone) % 12), 1) for tone in SCALES[mode])
    elif kind == "position":
        yield ("in the quarter", int(value) % steps), 1
        yield ("quarter", int(value) // steps), 1
        yield ("grain", int(np.gcd(int(value), steps))), 1
    elif kind in ORDERED and value != "None":
        yield from _near(kind, place)


def _near(kind: str, place: int):
    """Neighbours share most, ids further apart less."""
    return (((kind, place + away), float(np.exp(-((away / 2) ** 2)))) for away in range(-REACH, REACH + 1))
