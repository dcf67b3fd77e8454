"""Keys: a tonic (0-11) and a mode, "major" or "minor".

parse_key("F#m") -> (6, "minor")              key_name(6, "minor") -> "F#m"
estimate_key(score) -> (tonic, mode, confidence)      key_of_chords(chords, end) -> (tonic, mode)
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from ...errors import InputError
from .chords import NAMES, QUALITY_NAMES, parse_chord, pitch_classes, pitched
from .score import Score

MODES = {"maj": "major", "min": "minor"}  # by the quality of the tonic's triad

# Albrecht and Shanahan (2013), how often the degrees of a key sound: of five profiles the best on POP909
_MAJOR_KEY = (0.238, 0.006, 0.111, 0.006, 0.137, 0.094, 0.016, 0.214, 0.009, 0.080, 0.008, 0.081)
_MINOR_KEY = (0.220, 0.006, 0.104, 0.123, 0.019, 0.103, 0.012, 0.214, 0.062, 0.022, 0.061, 0.052)
_KEYS = np.array([np.roll(profile, tonic) for profile in (_MAJOR_KEY, _MINOR_KEY) for tonic in range(12)])
_KEYS -= _KEYS.mean(axis=1, keepdims=True)
_KEYS /= np.linalg.norm(_KEYS, axis=1, keepdims=True)  # (24, 12): a product with one of them is a correlation


def parse_key(text: str) -> tuple[int, str]:
    """`F#m` or `F sharp minor` as tonic (0-11) and "major" or "minor"; `key_name` writes it."""
    with suppress(InputError):
        root, quality, bass = parse_chord(text.replace(" sharp", "#").replace(" flat", "b"))
        if root == bass >= 0 and QUALITY_NAMES[quality] in MODES:
            return root, MODES[QUALITY_NAMES[quality]]
    raise InputError(f"--key {text!r}: write a major or minor key such as D, F#m or Bb minor")


def key_name(tonic: int, mode: str) -> str:
    """A key as musicians write it: `Bb`, `F#m`."""
    return NAMES[tonic] + ("m" if mode == "minor" else "")


def estimate_key(score: Score) -> tuple[int, str, float]:
    """Tonic (0-11), "major" or "minor", and confidence: how far the key's correlation leads the next best (0 to 2).

    Krumhansl's method: time sounding by pitch class, correlated with the profile of all 24 keys. Music without
    pitches is C major with confidence 0.
    """
    notes = pitched(score)
    return _key_of(np.bincount(notes["pitch"] % 12, notes["duration"], 12))


def key_of_chords(chords: np.ndarray, end: int) -> tuple[int, str]:
    """Tonic and mode that CHORD rows, the last of which holds until the tick `end`, suggest by their tones."""
    lasting = np.diff(np.append(chords["tick"], end)).clip(0)
    return _key_of(lasting @ pitch_classes(chords["root"], chords["quality"], chords["bass"]).astype(float))[:2]


def _key_of(heard: np.ndarray) -> tuple[int, str, float]:
    if heard.max() == heard.min():
        return 0, "major", 0.0
    heard = heard - heard.sum() / 12
    correlation = _KEYS @ heard / np.sqrt(heard @ heard)
    best = int(correlation.argmax())
    second, first = np.sort(correlation)[-2:].tolist()
    return best % 12, ("major", "minor")[best // 12], first - second
