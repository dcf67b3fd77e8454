"""Melodies with written chords: OpenEWLD's lead sheets, and POP909 on its annotated beats.

scores(data, "train") -> set, file and Score of each song        written_pickup(score) -> ticks
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pop909
from bench import manifest

from woodshed.errors import FileError
from woodshed.symbolic.music.melody import melody_line, slot_ticks
from woodshed.symbolic.music.midi import read_midi
from woodshed.symbolic.music.score import Score

FEWEST = 8  # notes of a melody


def scores(data: Path, split: str) -> Iterator[tuple[str, Path, Score]]:
    """Set, file and score of every song of a split whose melody is long enough and lies on its grid."""
    for row in manifest(data, "openewld", "pop909", split=split):
        path = data / row["file"]
        try:
            score = read_midi(path) if row["set"] == "openewld" else pop909.load(path.parent)
        except FileError:
            continue
        if len(melody_line(score)) >= FEWEST:
            yield row["set"], path, score


def written_pickup(score: Score) -> int:
    """How far the bar lines of a lead sheet stand behind the file's: where in a bar most of its chords begin."""
    if len(score.metres) > 1:
        return 0
    places, count = np.unique(score.chords["tick"] % score.bars()[1], return_counts=True)
    place = int(places[count.argmax()])
    return 0 if place % slot_ticks(score, 0) else place
