"""Which files are the same song: equal notes, transposed copies, other takes.

A song is known by its figures: hashed runs of eight intervals along the highest notes of each track. Intervals do not
change with the key, and no time is in them, so that tempo and touch do not matter.

Measured: of POP909's 1,989 further takes 97 % share more than a quarter of their figures with the main one (median
0.97), and two thirds more than nine tenths of all. Two different songs share next to nothing: of a million pairs of
Lieder about 15 reach a quarter, most of them songs that were printed twice.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..music.chords import pitched
from ..music.score import Score

RUN = 8  # intervals in a figure
COLOURS = 3  # different ones, at least: tremolos and repeated notes are in everything
TOGETHER = 0.04  # seconds within which notes are one chord, of which the highest counts
FEW = 16  # figures; music with fewer cannot be told apart by them
NEIGHBOURS = 64  # files that share a figure, compared at most: bounds the work where one figure is everywhere
COPY = 0.9  # of all figures of two files are in both (Jaccard): a near-duplicate
TAKE = 0.25  # of the figures of the smaller are in the other (containment): takes of one song

_TAKES = re.compile(r"(?:[\s_.\-(\[]+(?:v|ver|version|take|tk|alt|copy|kopie|copie|copia)[\s_.#]*\d*[)\]]*)+$")
_COUNTED = re.compile(r"\s*\(\d{1,2}\)$")  # what a file manager makes of a second song.mid


def content(score: Score) -> str:
    """A digest of the notes alone: equal for the same notes at another place in time, in other tracks or ticks."""
    notes = score.notes
    start = notes["onset"].min() if len(notes) else 0
    times = [np.rint(960 / score.ticks_per_quarter * ticks) for ticks in (notes["onset"] - start, notes["duration"])]
    rows = np.stack([*times, notes["pitch"], notes["velocity"]]).astype(np.int64)
    rows = rows[:, np.lexsort(rows[::-1])]
    return hashlib.sha256(rows.tobytes()).hexdigest()[:32]


def figures(score: Score) -> np.ndarray:
    """The song's figures as sorted, distinct hashes: (F,) uint64. Drums have none."""
    notes = pitched(score)
    seconds = score.seconds(notes["onset"])
    found = [_runs(notes["pitch"][mine], seconds[mine]) for mine in _tracks(notes)]
    return np.unique(np.concatenate([np.zeros(0, np.uint64), *found]))


def _tracks(notes: np.ndarray) -> list[np.ndarray]:
    return [notes["track"] == track for track in np.unique(notes["track"])]


def _runs(pitch: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Hashes of every RUN intervals between the highest notes that are no mere tremolo; notes come by onset."""
    chord = np.cumsum(np.diff(seconds, prepend=seconds[:1]) > TOGETHER)
    highest = np.zeros(chord[-1] + 1, np.int64)
    np.maximum.at(highest, chord, pitch)
    if len(highest) <= RUN:
        return np.zeros(0, np.uint64)
    runs = sliding_window_view(np.diff(highest) + 128, RUN).astype(np.uint64)
    different = np.count_nonzero(np.diff(np.sort(runs, axis=1), axis=1), axis=1) + 1
    return runs[different >= COLOURS] @ (np.uint64(0x100000001B3) ** np.arange(RUN, dtype=np.uint64))


def shared(songs: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """How many figures two files share: pairs (P, 2) with the first below the second, and counts (P,).

    Pairs that share nothing are left out. Every file is compared with the NEIGHBOURS after it that have the figure.
    """
    hashes = np.concatenate([np.zeros(0, np.uint64), *songs])
    owner = np.repeat(np.arange(len(songs)), [len(song) for song in songs])
    order = np.argsort(hashes, kind="stable")
    hashes, owner = hashes[order], owner[order]
    codes = [np.zeros(0, np.int64)]
    for away in range(1, min(NEIGHBOURS, len(songs))):
        same = hashes[away:] == hashes[:-away]
        if not same.any():
            break
        codes.append(owner[:-away][same] * len(songs) + owner[away:][same])
    pairs, counts = np.unique(np.concatenate(codes), return_counts=True)
    return np.stack(np.divmod(pairs, max(len(songs), 1)), axis=1), counts


def copies_and_takes(songs: Sequence[np.ndarray]) -> tuple[dict[int, int], list[int]]:
    """Near-duplicates, each with the earlier file it repeats, and for every file the first one of its song.

    Of near-duplicates the first stays, and later ones are held against those that stay.
    """
    sizes = np.array([len(song) for song in songs], dtype=np.int64)
    pairs, counts = shared(songs)
    smaller, both = sizes[pairs].min(axis=1), sizes[pairs].sum(axis=1)
    enough = smaller >= FEW
    pairs, counts, smaller, both = pairs[enough], counts[enough], smaller[enough], both[enough]
    copies: dict[int, int] = {}
    likely = pairs[counts >= COPY * (both - counts)]
    for first, second in likely[np.lexsort((likely[:, 0], likely[:, 1]))].tolist():
        if first not in copies:
            copies.setdefault(second, first)
    return copies, joined(len(songs), pairs[counts >= TAKE * smaller].tolist())


def joined(count: int, pairs: Sequence[Sequence[int]]) -> list[int]:
    """The first member of everyone's group when the pairs are joined."""
    head = list(range(count))

    def find(member: int) -> int:
        while head[member] != member:
            head[member] = member = head[head[member]]
        return member

    for one, other in pairs:
        low, high = sorted((find(one), find(other)))
        head[high] = low
    return [find(member) for member in range(count)]


def named_song(path: str) -> str:
    """The song a file's path claims to be: `001/versions/001-v1.mid` and `001/001.mid` are both `001/001`."""
    parts = PurePosixPath(path.lower())
    folders = [part for part in parts.parts[:-1] if part not in ("versions", "version", "takes", "alternates", "alt")]
    stem = _TAKES.sub("", _COUNTED.sub("", parts.stem)) or parts.stem
    return "/".join([*folders, stem])
