"""A score as sound, as loud as other music: by a soundfont where one is given, else by our own synthesiser."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...errors import InputError
from ...loudness import levelled
from .score import Score
from .sound import synthesise

LUFS = -16.0  # what streaming services ask of quiet music
MIN_LUFS = -70
CEILING = -1.0  # dBFS of the true peak


def render(
    score: Score,
    soundfont: str | Path | None = None,
    *,
    sample_rate: int = 44100,
    target: float = LUFS,
) -> np.ndarray:
    """The sound of a score as float32 (samples, 2), at `target` LUFS, or softer where its peak would pass -1 dBFS.

    Tempo, metre, programs, drums and pedal are played; what a Score does not hold (pitch bend, volume, panning) is not.
    `soundfont` is any .sf2 or .sf3; without one everything sounds like a piano, and drums like drums.

    Raises InputError for music of more than an hour or a level that is none, FileError for a soundfont that cannot be
    played, MissingExtra where nothing is installed that plays it.
    """
    if not MIN_LUFS <= target <= 0:
        raise InputError(f"loudness {target:g} LUFS; choose from {MIN_LUFS} to 0, such as {LUFS:g}")
    if soundfont is None:
        audio = synthesise(score, sample_rate)
    else:
        from .soundfont import play

        audio = play(score, soundfont, sample_rate)
    return levelled(audio, sample_rate, target=target, ceiling=CEILING)
