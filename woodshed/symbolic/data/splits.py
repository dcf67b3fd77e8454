"""Which music is learned and which held out. Songs are divided, not files: no two takes of one are in two splits."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from ...errors import InputError
from .corpus import SPLITS
from .metadata import Table
from .report import Finding
from .songs import content, joined, named_song

FEW_SONGS = 10


def parse_fractions(text: str) -> tuple[float, ...]:
    """ "0.8,0.1,0.1" or "0.8,0.2" as three numbers that add up to 1."""
    try:
        shares = [float(share) for share in text.split(",")]
    except ValueError:
        shares = []
    good = 2 <= len(shares) <= 3 and all(0 <= share <= 1 for share in shares) and abs(sum(shares) - 1) < 1e-6
    if not good or not shares[0]:
        raise InputError(f"--fractions {text}: give shares of train, validation and test that add up to 1: 0.8,0.1,0.1")
    return (*shares, 0.0)[:3]


def group_songs(findings: Sequence[Finding], table: Table | None = None) -> list[str]:
    """The song of every file: one by its figures or its notes, its name, or its composer and title, is one song. By its
    first path."""
    ties = defaultdict(list)
    for index, finding in enumerate(findings):
        row = table.of(finding.path) if table else None
        same = content(finding.score) if finding.score is not None else ""  # also where it has too few figures
        names = {"figures": finding.song, "notes": same, "name": named_song(finding.path)}
        for kind, tie in (names | {"title": row.song if row else ""}).items():
            if tie:
                ties[kind, tie].append(index)
    pairs = [(members[0], other) for members in ties.values() for other in members[1:]]
    return [findings[head].path for head in joined(len(findings), pairs)]


def divide(
    songs: Sequence[str], known: Sequence[str], fractions: Sequence[float], seed: int = 0
) -> tuple[list[str], list[str]]:
    """The split of every file, and remarks. Songs with a known split keep it, the others are drawn by `seed`.

    A song's place in the draw depends on its name and the seed alone, so that a file more or less moves few others.
    """
    given: dict[str, set[str]] = defaultdict(set)
    for song, split in zip(songs, known, strict=True):
        given[song] |= {split} - {""}
    rest = sorted((song for song, splits in given.items() if not splits), key=lambda song: _draw(song, seed))
    counts = _split_counts(len(rest), fractions)
    drawn = dict(zip(rest, np.repeat(SPLITS, counts).tolist(), strict=True))
    splits = [
        split or drawn.get(song) or min(given[song], key=SPLITS.index) for song, split in zip(songs, known, strict=True)
    ]
    return splits, _split_remarks(given, splits, fractions)


def _draw(song: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed} {song}".encode()).digest()


def _split_counts(songs: int, fractions: Sequence[float]) -> list[int]:
    """How many songs each split gets: at least one where a share is asked for and there are enough."""
    asked = sum(share > 0 for share in fractions)
    if songs < asked:
        return [songs, 0, 0]
    held_out = [max(round(share * songs), 1) if share else 0 for share in fractions[1:]]
    while sum(held_out) >= songs:
        held_out[int(np.argmax(held_out))] -= 1
    return [songs - sum(held_out), *held_out]


def _split_remarks(given: dict[str, set[str]], splits: Sequence[str], fractions: Sequence[float]) -> list[str]:
    remarks = [
        f"the table puts takes of {song} into {' and '.join(sorted(splits))}"
        for song, splits in given.items()
        if len(splits) > 1
    ]
    empty = [name for name, share in zip(SPLITS, fractions, strict=True) if share and name not in splits]
    if empty:
        remarks.append(f"no song for {' and '.join(empty)}, of {len(given)}: nothing to judge the training by")
    elif len(given) < FEW_SONGS:
        remarks.append(f"only {len(given)} songs: what is measured on so few says little")
    return remarks
