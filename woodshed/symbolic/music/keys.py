"""Keys: a tonic (0-11) and a mode, "major" or "minor".

parse_key("F#m") -> (6, "minor")              key_name(6, "minor") -> "F#m"
estimate_key(score) -> (tonic, mode, confidence)      key_of_chords(chords, end) -> (tonic, mode)
"""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from ...errors import InputError
from ...key_profiles import best_key
from .chords import NAMES, QUALITY_NAMES, parse_chord, pitch_classes, pitched
from .score import Score

MODES = {"maj": "major", "min": "minor"}  # by the quality of the tonic's triad


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

    What counts is the time that each pitch class sounds. Music without pitches is C major with confidence 0.
    """
    notes = pitched(score)
    return best_key(np.bincount(notes["pitch"] % 12, notes["duration"], 12))


def key_of_chords(chords: np.ndarray, end: int) -> tuple[int, str]:
    """Tonic and mode that CHORD rows, the last of which holds until the tick `end`, suggest by their tones."""
    lasting = np.diff(np.append(chords["tick"], end)).clip(0)
    return best_key(lasting @ pitch_classes(chords["root"], chords["quality"], chords["bass"]).astype(float))[:2]
