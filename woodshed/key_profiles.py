"""The key of what sounds, notes or sound: C. Krumhansl's method (Cognitive Foundations of Musical Pitch, 1990)."""

from __future__ import annotations

import numpy as np

TONICS = ("C", "C#", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")  # as recordings are labelled

# How often each degree of a key sounds: J. Albrecht and D. Shanahan, "The Use of Large Corpora to Train a New Type of
# Key-Finding Algorithm", Music Perception 31 (2013); of five profiles the best on POP909
MAJOR = np.array([0.238, 0.006, 0.111, 0.006, 0.137, 0.094, 0.016, 0.214, 0.009, 0.080, 0.008, 0.081])
MINOR = np.array([0.220, 0.006, 0.104, 0.123, 0.019, 0.103, 0.012, 0.214, 0.062, 0.022, 0.061, 0.052])
_KEYS = np.array([np.roll(profile, tonic) for profile in (MAJOR, MINOR) for tonic in range(12)])
_KEYS -= _KEYS.mean(axis=1, keepdims=True)
_KEYS /= np.linalg.norm(_KEYS, axis=1, keepdims=True)  # (24, 12): a product with one of them is a correlation


def best_key(heard: np.ndarray) -> tuple[int, str, float]:
    """Tonic (0-11), "major" or "minor", and how far that key's correlation leads the next best (0 to 2).

    `heard` says how much of each pitch class sounds, C first, (12,). Where all are as strong it is C major with 0.
    """
    if heard.max() == heard.min():
        return 0, "major", 0.0
    heard = heard - heard.sum() / 12
    correlation = _KEYS @ heard / np.sqrt(heard @ heard)
    best = int(correlation.argmax())
    second, first = np.sort(correlation)[-2:].tolist()
    return best % 12, ("major", "minor")[best // 12], first - second
