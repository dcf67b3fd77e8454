"""POP909 on its annotated beats: the files' own bars are wrong, `beat_midi.txt` knows better.

folders(data, "train") -> song folders        load(folder) -> Score, re-barred, with its annotated chords
"""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
from bench import manifest

from woodshed.errors import FileError
from woodshed.symbolic.music.chords import merged, parse_chord
from woodshed.symbolic.music.midi import read_midi
from woodshed.symbolic.music.score import CHORD, Score, retimed

TICKS = 480
MIN_CONCENTRATION = 0.5  # of onsets around the annotated grid; songs below it are off the grid


def folders(data: Path, split: str) -> list[Path]:
    """The song folders of a split: train, validation or test. `data` is the folder that holds manifest.csv."""
    return [(data / row["file"]).parent for row in manifest(data, "pop909", split=split)]


def annotated_chords(folder: Path) -> tuple[np.ndarray, list[str]]:
    """`chord_midi.txt`: intervals (n, 2) in seconds and Harte labels."""
    rows = [line.split() for line in (folder / "chord_midi.txt").read_text(encoding="utf-8").splitlines() if line]
    return np.array([row[:2] for row in rows], dtype=float), [row[2] for row in rows]


def load(folder: Path) -> Score:
    """A song whose quarter notes are the annotated beats and whose bars begin on the annotated downbeats.

    Irregular bars keep their length (2/4, 5/4, ...), bars of six beats are two of 3/4; beats before the first
    downbeat end a whole bar. Chords are those of `chord_midi.txt`. A constant shift brings the onsets onto the
    beats. Raises FileError where they lie on no such grid (about 6% of the songs).
    """
    played = read_midi(folder / f"{folder.name}.mid")
    table = np.loadtxt(folder / "beat_midi.txt")
    beats, downbeats = table[:, 0], np.flatnonzero(table[:, 2] > 0)
    shift, concentration = _grid_shift(_positions(beats, played.seconds(played.notes["onset"])))
    if concentration < MIN_CONCENTRATION:
        raise FileError(folder, f"off its beat grid: onsets concentrate {concentration:.2f} of 1 around the beats")
    usual = 3 if np.median(np.diff(downbeats)) in (3, 6) else 4
    first = _positions(beats, played.seconds(played.notes["onset"][:1]))[0] - shift
    lead = -(-(downbeats[0] + max(0, np.ceil(-first - 0.02))) // usual) * usual - downbeats[0]

    def ticks(seconds, shift=0.0):
        return np.maximum(np.rint((_positions(beats, seconds) - shift + lead) * TICKS), 0).astype(np.int64)

    rows = (played.notes, played.pedals)
    notes, pedals = (retimed(one, lambda tick: ticks(played.seconds(tick), shift)) for one in rows)
    return Score(
        notes,
        pedals,
        _tempos(beats, int(lead)),
        _metres((downbeats + int(lead)) * TICKS, usual),
        _chords(folder, ticks),
        played.tracks,
        TICKS,
    )


def _positions(beats: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Seconds to beats (0 is the first annotated one), carried on evenly outside of the annotation."""
    before, after = beats[1] - beats[0], beats[-1] - beats[-2]
    inside = np.interp(seconds, beats, np.arange(len(beats)))
    return inside + np.minimum(seconds - beats[0], 0) / before + np.maximum(seconds - beats[-1], 0) / after


def _grid_shift(positions: np.ndarray) -> tuple[float, float]:
    """How many beats onsets lie behind the grid of quarter (or third) beats, and how closely: 0 (no grid) to 1.

    The shift is the commonest residue, not the mean one: many songs hold notes played early on purpose.
    """
    means = {parts: np.exp(2j * np.pi * parts * positions).mean() for parts in (4, 3)}
    parts = max(means, key=lambda parts: abs(means[parts]))
    residues = (positions + 0.5 / parts) % (1 / parts) - 0.5 / parts
    counts, edges = np.histogram(residues, bins=round(200 / parts))
    peak = int(np.argmax(counts))
    return float(np.median(residues[(residues >= edges[peak]) & (residues <= edges[peak + 1])])), abs(means[parts])


def _tempos(beats: np.ndarray, lead: int) -> list[tuple[int, int]]:
    """A tempo at every beat that differs from the last by more than the annotation's rounding."""
    lengths = np.rint(np.diff(beats) * 1e6).astype(int)
    rows = [(0, int(lengths[0]))]
    for index, length in enumerate(lengths):
        if abs(length - rows[-1][1]) > 2:
            rows.append(((index + lead) * TICKS, int(length)))
    return rows


def _metres(downbeats: np.ndarray, usual: int) -> list[tuple[int, int, int]]:
    rows = [(0, usual, 4)]
    for start, end in pairwise(downbeats):
        beats = (end - start) // TICKS
        while beats > 0:
            length = usual if beats > usual + (usual == 4) else beats
            if length != rows[-1][1]:
                rows.append((int(end - beats * TICKS), int(length), 4))
            beats -= length
    if rows[-1][1] != usual:
        rows.append((int(downbeats[-1]), usual, 4))
    return rows


def _chords(folder: Path, ticks) -> np.ndarray:
    """The annotated chords on their beats, and no chord after the last."""
    intervals, labels = annotated_chords(folder)
    starts = np.rint(ticks(np.append(intervals[:, 0], intervals[-1, 1])) / TICKS).astype(int) * TICKS
    rows = [(start, *parse_chord(label)) for start, label in zip(starts, [*labels, "N"], strict=True)]
    return merged(np.array(rows, dtype=CHORD))


if __name__ == "__main__":
    for split in ("train", "validation", "test"):
        songs, off = folders(Path(sys.argv[1]), split), 0
        for song in songs:
            try:
                load(song)
            except FileError as error:
                off += 1
                print(error)
        print(f"{split}: {len(songs)} songs, {off} off their beat grid")
