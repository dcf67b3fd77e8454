"""A task is a Score and the region to write: `pose` makes ids of it, `read` puts the answer back into the Score.

Continuation, accompaniment, infilling and music over chords are not modes but regions:

    everything                    BOS heads                                    <music> EOS
    from a bar to the end         BOS Task_continue heads         <before> Hole <music> EOS
    some bars                     BOS Task_fill heads Future <after> <before> Hole <music> EOS
    some parts                    BOS Task_accompany heads                Hole <music with Given parts> EOS

What comes after a hole stands first, so that the music before it runs straight into the hole.

The law: `read(tokenizer, pose(tokenizer, score, region).ids, score, region) == tokenizer.quantize(score)`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..music.keys import estimate_key, key_name
from ..music.score import PARTS, Score, shifted
from ..tokenizers import EOS, Plan, Tokenizer, merged_chords, part_index, part_tracks

DENSITIES = (1, 2, 3, 4.5, 6.5, 9, 13)  # notes a second that part the eight density levels
PLAYED_LEVELS = 8  # music with at least so many different velocities was played, not notated


@dataclass(frozen=True)
class Region:
    """What is to be written: the music that begins in [start, end) ticks, in all parts or only in `parts`.

    On a grid, start and end are bar lines.
    """

    start: int
    end: int
    parts: tuple[str, ...] | None = None

    def given(self, score: Score) -> tuple[str, ...]:
        """The parts that stand in the region already."""
        if self.parts is None:
            return ()
        present = {track.part for track in score.tracks}
        return tuple(part for part in PARTS if part in present and part not in self.parts)

    def followed_in(self, score: Score) -> bool:
        """Whether music of a score begins after the region."""
        return bool((score.notes["onset"] >= self.end).any())


@dataclass(frozen=True)
class Posed:
    """Ids and the places to be learned: `loss_mask` is True where the model has to write."""

    ids: np.ndarray  # (T,) int64
    loss_mask: np.ndarray  # (T,) bool


def pose(
    tokenizer: Tokenizer, score: Score, region: Region, *, head=(), last: int | None = None, ended: bool = True
) -> Posed:
    """Ids that ask for the region and answer with what stands there.

    `head` are words that describe the music (see `describe`), `last` the tick to count down to, and `ended` says that
    the piece (or the hole) is over after the region; without it there is no EOS.
    """
    before = prompt(tokenizer, score, region, head=head, last=last)
    body = tokenizer.body(score, region.start, region.end, given=region.given(score), last=last)
    close = [EOS] if ended else []
    ids = np.concatenate([before, body.ids, close]).astype(np.int64)
    mask = np.concatenate([np.zeros(len(before), bool), body.written, np.ones(len(close), bool)])
    return Posed(ids, mask)


def prompt(
    tokenizer: Tokenizer, score: Score, region: Region, *, head=(), last: int | None = None, end: int | None = None
) -> np.ndarray:
    """All that stands before the region's own music: what a model is given to write it.

    `end` is where the music ends, by default after all that rings; with that of the region nothing follows it.
    """
    end = tokenizer.end(score) if end is None else end
    task = _task(score, region, end)
    words = ["BOS", *([task] if task else []), *head]
    ids = [np.array([tokenizer.index[word] for word in words], dtype=np.int64)]
    if region.end < end:
        ids += [[tokenizer.index["Future"]], tokenizer.body(score, region.end, end, last=last).ids]
    if region.start > 0:
        ids.append(tokenizer.body(score, 0, region.start, last=last, whole=False).ids)
    if task:
        ids.append([tokenizer.index["Hole"]])
    return np.concatenate(ids).astype(np.int64)


def _task(score: Score, region: Region, end: int) -> str | None:
    if region.end < end:
        return "Task_fill"
    if region.start > 0:
        return "Task_continue"
    return "Task_accompany" if region.given(score) else None


def plan(score: Score, region: Region, **more) -> Plan:
    """What the grammar has to know to write the region; `more` are the other fields of Plan."""
    return Plan(score, region.start, region.end, region.given(score), **more)


def read(tokenizer: Tokenizer, ids, score: Score, region: Region) -> Score:
    """The Score with the region replaced by what the ids say, in the tokenizer's ticks; all else as quantized."""
    ids = np.asarray(ids, dtype=np.int64)
    hole = np.flatnonzero(ids == tokenizer.index["Hole"])
    music = tokenizer.decode_body(ids[hole[-1] + 1 :] if len(hole) else ids)
    return fill(tokenizer, music, score, region)


def fill(tokenizer: Tokenizer, music: Score, score: Score, region: Region) -> Score:
    """The quantized Score with `music`, which starts at tick 0, in place of what stands in the region."""
    base = tokenizer.quantize(score)
    start, end = (tokenizer.tick(score, tick) for tick in (region.start, region.end))
    onsets = base.notes["onset"]
    outside = (onsets < start) | (onsets >= end)
    parts = part_index(base)
    outside |= np.isin(parts, [PARTS.index(part) for part in region.given(score)])
    tracks, track = part_tracks(np.concatenate([parts[outside], part_index(music)]))
    notes = np.concatenate([base.notes[outside], shifted(music.notes, start)])
    notes["track"] = track
    chords = base.chords if len(base.chords) else shifted(music.chords, start)
    pedals = _spliced_pedals(base.pedals, shifted(music.pedals, start), start, end)
    filled = base.replace(notes=notes, pedals=pedals, chords=merged_chords(chords), tracks=tracks)
    return tokenizer.settle(filled)


def _spliced_pedals(pedals: np.ndarray, inner: np.ndarray, start: int, end: int) -> np.ndarray:
    """`pedals` with what lies in [start, end) replaced; up at `start` where `inner` does not say down."""
    up = np.array([(start, 0, 0)], dtype=pedals.dtype)
    rows = np.concatenate([pedals[pedals["tick"] < start], up, inner, pedals[pedals["tick"] >= end]])
    rows = rows[np.append(np.diff(rows["tick"]) > 0, True)]
    return rows[np.diff(np.append(0, rows["value"].astype(int))) != 0]


def describe(score: Score) -> list[str]:
    """Head words that are true of a Score: played or notated, density and key."""
    if not len(score.notes):
        return []
    seconds = max(float(score.seconds(score.end)), 1e-3)
    level = int(np.searchsorted(DENSITIES, len(score.notes) / seconds))
    played = np.count_nonzero(np.bincount(score.notes["velocity"])) >= PLAYED_LEVELS
    tonic, mode = estimate_key(score)[:2]
    return [
        "Played" if played else "Notated",
        f"Density_{level}",
        f"Key_{key_name(tonic, mode)}",
    ]
