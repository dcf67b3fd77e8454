"""How far takes keep to their chords, free, guided and strict, and whether they stay as lively as real music.

`python benchmarks/harmony.py --data DATA --json FILE`: takes of a run over several progressions, the same
seeds for every mode, beside excerpts of as many bars from POP909's test songs with their annotated chords: the mean,
and in brackets the 5th and 95th percentile. `inside` is the share of takes whose density and entropy both lie between
the percentiles of the excerpts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import bench
import numpy as np
import pop909

from woodshed.errors import FileError
from woodshed.symbolic.music.measure import (
    bass_adherence,
    chord_adherence,
    notes_per_second,
    pitch_class_entropy,
    rotated_adherence,
    strong_beat_adherence,
)
from woodshed.symbolic.music.score import Score
from woodshed.symbolic.playing.perform import perform
from woodshed.symbolic.run import open_run

PROGRESSIONS = {
    "triads": ("C G Am F", "4/4"),
    "sevenths": ("Cmaj7 Am7 | Dm7 G7", "4/4"),
    "jazz": ("Dm9 | G7b9 | Cmaj9 | A7alt", "4/4"),
    "slash": ("C | C/B | Am7 | Am7/G | F | C/E | Dm7 | G7sus4", "4/4"),
    "waltz": ("Am F C E7", "3/4"),
}
MEASURES = {
    "strong": strong_beat_adherence,
    "bass": bass_adherence,
    "adherence": chord_adherence,
    "rotated": rotated_adherence,
    "notes/s": notes_per_second,
    "entropy": pitch_class_entropy,
}
LIVELY = ("notes/s", "entropy")
MODES = ("free", "guided", "strict")


def excerpts(data: Path, bars: int) -> Iterator[Score]:
    """Stretches of so many bars, one after the other, of the test songs that have a grid."""
    for folder in pop909.folders(data, "test"):
        try:
            song = pop909.load(folder)
        except FileError:
            continue
        lines = song.bars()
        for first in range(0, len(lines) - bars, bars):
            excerpt = song.slice(int(lines[first]), int(lines[first + bars]), cut=True)
            if len(excerpt.notes):
                yield excerpt


def told(scores: list[Score]) -> tuple[dict, np.ndarray]:
    """A row of the table, and the measures (scores, MEASURES)."""
    values = np.array([[function(score) for function in MEASURES.values()] for score in scores])
    low, high = np.nanpercentile(values, [5, 95], axis=0)
    cells = zip(MEASURES, low, np.nanmean(values, axis=0), high, strict=True)
    return {name: f"{m:.3f} ({a:.2f} {b:.2f})" for name, a, m, b in cells}, values


def judged(takes: list[Score], spread: np.ndarray) -> dict:
    """What is told of takes, and the share of them that are as lively as the `spread` (2, MEASURES) of real music."""
    row, values = told(takes)
    lively = [list(MEASURES).index(name) for name in LIVELY]
    low, high = spread[:, lively]
    return row | {"inside": float(((values[:, lively] >= low) & (values[:, lively] <= high)).all(axis=1).mean())}


def main() -> None:
    parser = bench.new_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds manifest.csv")
    parser.add_argument("--run", default="piano")
    parser.add_argument("--bars", type=int, default=8)
    parser.add_argument("--takes", type=int, default=4)
    parser.add_argument("--temperature", default="1.0")
    parser.add_argument("--top-p", type=float, default=0.95)
    options = parser.parse_args()
    run = open_run(options.run)
    row, real = told(list(excerpts(options.data, options.bars)))
    rows = [{"chords": "POP909 test", "harmony": "-"} | row | {"inside": "", "s a take": ""}]
    spread = np.nanpercentile(real, [5, 95], axis=0)
    asked = dict(bars=options.bars, takes=options.takes, seed=0, originality=False)
    asked |= dict(temperature=options.temperature, top_p=options.top_p)
    every: dict[str, list[Score]] = {mode: [] for mode in MODES}
    for name, (chords, metre) in PROGRESSIONS.items():
        for mode in MODES:
            began = time.perf_counter()
            takes = [take.score for take in perform(run, chords=chords, metre=metre, harmony=mode, **asked)]
            seconds = (time.perf_counter() - began) / options.takes
            every[mode] += takes
            rows.append({"chords": name, "harmony": mode} | judged(takes, spread) | {"s a take": seconds})
            print(rows[-1], flush=True)
    rows += [{"chords": "all", "harmony": mode} | judged(every[mode], spread) | {"s a take": ""} for mode in MODES]
    bench.report(rows, options.json)


if __name__ == "__main__":
    main()
