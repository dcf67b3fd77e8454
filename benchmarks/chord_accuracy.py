"""How well `chords.recognise` hears the chords of POP909, by the rules of mir_eval: python chord_accuracy.py DATA

DATA is the folder that holds manifest.csv and pop909/. Songs stand on their annotated beats, on the grid
that `estimate_grid` finds, and on the bars of their files. Measures are weighted by duration, over the songs that lie
on their beat grid.
"""

from __future__ import annotations

import time
from pathlib import Path

import mir_eval.chord
import numpy as np
from bench import new_parser, report
from mir_eval.util import adjust_intervals, intervals_to_durations, merge_labeled_intervals
from pop909 import annotated_chords, folders, load

from woodshed.errors import FileError
from woodshed.symbolic.music.chords import recognise, word
from woodshed.symbolic.music.grid import apply_grid, estimate_grid
from woodshed.symbolic.music.midi import read_midi
from woodshed.symbolic.music.score import Score

MEASURES = ("root", "thirds", "majmin", "majmin_inv", "sevenths", "tetrads", "mirex")
DEGREES = ("1", "b2", "2", "b3", "3", "4", "b5", "5", "b6", "6", "b7", "7")


def harte(root: int, quality: int, bass: int) -> str:
    """A chord in Harte's syntax as mir_eval reads it."""
    if root < 0:
        return "N"
    name = word(root, quality).replace("7sus4", "sus4(b7)")
    return name if bass == root else f"{name}/{DEGREES[(bass - root) % 12]}"


def intervals(score: Score, chords: np.ndarray, end: float) -> tuple[np.ndarray, list[str]]:
    """CHORD rows as mir_eval has them: intervals (n, 2) in seconds up to `end`, and labels."""
    starts = score.seconds(chords["tick"])
    keep = starts < end
    edges = np.append(starts[keep], end)
    labels = [harte(*row) for _, *row in chords[keep].tolist()]
    return np.stack([edges[:-1], edges[1:]], axis=1), labels


def on_annotated_beats(folder: Path) -> tuple[Score, np.ndarray, list[str]]:
    score = load(folder)
    return score, *intervals(score, score.chords, float(score.seconds(score.end)))


def on_own_bars(folder: Path) -> tuple[Score, np.ndarray, list[str]]:
    load(folder)  # the same songs
    return read_midi(folder / f"{folder.name}.mid"), *annotated_chords(folder)


def agreement(reference: np.ndarray, labels: list[str], heard: np.ndarray, heard_labels: list[str]) -> list[float]:
    """MEASURES of two labelled segmentations, weighted by duration as `mir_eval.chord.evaluate` does."""
    heard, heard_labels = adjust_intervals(heard, heard_labels, reference.min(), reference.max(), "N", "N")
    cells, labels, heard_labels = merge_labeled_intervals(reference, labels, heard, heard_labels)
    durations = intervals_to_durations(cells)
    compare = [getattr(mir_eval.chord, name) for name in MEASURES]
    return [mir_eval.chord.weighted_accuracy(measure(labels, heard_labels), durations) for measure in compare]


def on_estimated_grid(folder: Path) -> tuple[Score, np.ndarray, list[str]]:
    played, times, labels = on_own_bars(folder)
    score = apply_grid(played, estimate_grid(played))
    first = [float(each.seconds(each.notes["onset"].min())) for each in (played, score)]
    return score, times + first[1] - first[0], labels  # the grid moves all seconds by one constant


GRIDS = {"annotated": on_annotated_beats, "estimated": on_estimated_grid, "own": on_own_bars}


def evaluate(songs: list[Path], grid: str) -> dict[str, float]:
    """The mean of every measure over songs, weighted by their length, and milliseconds a song."""
    rows, seconds, spent, off = [], [], 0.0, 0
    for folder in songs:
        try:
            score, reference, labels = GRIDS[grid](folder)
        except FileError:
            off += 1
            continue
        began = time.perf_counter()
        chords = recognise(score)
        spent += time.perf_counter() - began
        rows.append(agreement(reference, labels, *intervals(score, chords, float(reference[-1, 1]))))
        seconds.append(reference[-1, 1] - reference[0, 0])
    means = np.average(rows, axis=0, weights=seconds)
    counts = {"songs": len(rows), "off_grid": off, "milliseconds": 1000 * spent / len(rows)}
    return dict(zip(MEASURES, means.tolist(), strict=True)) | counts


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"))
    options = parser.parse_args()
    songs = folders(options.data, options.split)
    report([{"beats": grid} | evaluate(songs, grid) for grid in GRIDS], options.json)


if __name__ == "__main__":
    main()
