"""Originality: the longest stretch of a take that also stands in a training piece, in whatever key and tempo.

    index = originality_index("corpus")
    found = index.repeats(score)           # str(found) is one line: how long it is, and in which file at which bar
    found.flagged                          # it repeats more than the musician's own held-out pieces do

The yardstick is the musician: held-out pieces, too, have stretches in common with the training pieces, and a take is
flagged only above that level (as in the originality report of Yin, Reuben, Stepney and Collins 2021, "A good algorithm
does not steal, it imitates"). The search is that of biology for its sequences (Altschul et al. 1990, "Basic local
alignment search tool"), with the notes of lines for residues:

1. Figures, runs of five intervals, are looked up among those of all training pieces.
2. Where figures of one line stand in a piece, in one key and at about one distance, the two lines are aligned (Smith
   and Waterman 1981; for melodies Mongeau and Sankoff 1990), one tempo brought to the other.

What an equal note gains is its rarity: 1 where its figures stand in no more than one song, 0 where they stand in all
(inverse document frequency, Sparck Jones 1972), and shared among all the times that the take itself plays the figure in
that stretch. So scales, Alberti basses and loops gain little however long they last. The `weight` of a match is the
number of rare notes that it is worth: what its notes gain, less one for each note altered, added or left out, less up
to half of that where the other notes that sound with the line do not stand in the piece (`texture`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import EmptyCorpus, FileError
from ...files import object_in, write_object
from ...statistics import evenly
from ..music.chords import pitched
from ..music.score import Score
from .alignment import BAND, FIGURE, NOTE, SLACK, TOGETHER, Lines, Pairs, align, figures, joined, lines
from .corpus import Corpus, open_corpus
from .matches import Match, Repeats

TEMPI = (0.45, 2.2)  # how much slower or faster a copy may be
RARE = 0.25  # rarity from which a figure is looked up
BUCKET = BAND // 3  # distances that are counted together; the band reaches one bucket further to both sides
CANDIDATES = 256  # places that are aligned
CLOSEST = 64  # of them that are looked at closely
MOST_MATCHES = 5  # that are told
BLOCK = 500  # notes of a take that are looked for in a piece at once
EXCERPTS = 100  # of held-out pieces, at most
LENGTHS = (16, 256)  # quarters: the shortest and longest excerpts
CHANCE = 0.99  # of a Gumbel distribution, below which matches by chance lie
METHOD = 2  # to be raised with whatever changes a weight: stored levels of another method are not used
STORED = "originality.json"


class _Aligned(NamedTuple):
    """One of the take's lines of notes beside a piece: the points, and the places of the equal notes."""

    line: int
    points: int
    mine: np.ndarray  # (N,) in the take's Lines
    theirs: np.ndarray  # (N,) in the pieces' Lines


class _Figures(NamedTuple):
    """The figures of a take, (F,) each: where they begin, which are the same in a line, how rare, how often there."""

    places: np.ndarray
    same: np.ndarray
    rarity: np.ndarray
    times: np.ndarray

    def points(self, aligned: _Aligned) -> float:
        """The points of a stretch, each figure shared among the times that it comes there and not in the whole take: a
        take that plays four bars again and again copies them all the same."""
        inside = np.isin(self.places, aligned.mine)
        _, same, times = np.unique(self.same[inside], return_inverse=True, return_counts=True)
        rarity, shared = self.rarity[inside], (self.rarity / self.times)[inside].sum()
        return aligned.points * float((rarity / times[same]).sum() / shared) if shared else float(aligned.points)


class Index:
    """Training pieces, with their figures sorted, so that what a score has in common with them is found at once.

    `songs` says which pieces are takes of one song (by default each is its own), `kept` which paths are takes that the
    musician kept; how rare a figure is, the musician's own pieces tell that have it. `held_out` are those that were not
    trained on. `stored` is the file in which the levels of `key` are kept. `base` names what a run was adapted from,
    whose pieces are not among these.
    """

    def __init__(
        self,
        scores: Sequence[Score],
        paths: Sequence[str],
        *,
        songs: Sequence[str] | None = None,
        kept: Collection[str] = (),
        held_out: Sequence[Score] = (),
        stored: Path | None = None,
        key: str = "",
        base: str = "",
    ):
        self.scores, self.paths, self.held_out = list(scores), list(paths), list(held_out)
        self.kept, self.base = frozenset(kept), base
        self.stored, self.key = stored, f"{key}-{METHOD}"
        self.lines = joined([lines(score) for score in scores])
        self.owners = self.lines.owners()
        codes, places = figures(self.lines)
        both = np.sort((codes.astype(np.int64) << 32) | places)  # four times as fast as argsort
        codes, self.places = both >> 32, both & 0xFFFFFFFF
        first = np.flatnonzero(np.diff(codes, prepend=-1))
        self.codes, self.starts = codes[first], np.append(first, len(codes))
        self.rarity = self._rarity(songs or self.paths)
        self._levels: dict[str, list[float]] = self._read_levels()

    def _rarity(self, songs: Sequence[str]) -> np.ndarray:
        """Of each figure, by the number of songs that it stands in: (F,) from 0, in all, to 1, in one.

        What a kept take has of a piece is no less that piece's: takes count for the figures that no piece has.
        """
        numbers = {song: number for number, song in enumerate(dict.fromkeys(songs))}
        of_piece = np.array([numbers[name] for name in songs], int)
        piece = self.lines.pieces[self.owners[self.places]]
        figure = np.repeat(np.arange(len(self.codes)), np.diff(self.starts))
        kept = np.array([path in self.kept for path in self.paths], bool)
        found = []
        for some in (~kept, kept):
            inside = some[piece]
            both = np.unique(figure[inside] * len(numbers) + of_piece[piece[inside]])
            count = np.bincount(both // len(numbers), minlength=len(self.codes))
            found.append((count, np.log(max(len(np.unique(of_piece[some])), 2))))
        (own, own_log), (takes, takes_log) = found
        return 1 - np.where(own, np.log(np.maximum(own, 1)) / own_log, np.log(np.maximum(takes, 1)) / takes_log)

    def repeats(self, score: Score, *, start: int = 0) -> Repeats:
        """What a take has in common with the training pieces. Give it only what was written, without its prompt, and
        the tick at which that begins."""
        usual = self.usual((score.end - start) / score.ticks_per_quarter)
        return Repeats(self.matches(score, start=start), usual, self.base)

    def matches(self, score: Score, *, start: int = 0) -> list[Match]:
        """Up to MOST_MATCHES stretches of a score that stand in a piece, best first; no two overlap by half. Their
        share is of what comes from `start` on, in ticks.

        Of places nearly alike, as refrains are, that comes first where more of the texture agrees.
        """
        mine = lines(score)
        gains, pairs, known = self._search(mine)
        found = zip(pairs.mine, align(mine, self.lines, gains, pairs), strict=True)
        aligned = [_Aligned(line, *path) for line, path in found]
        best = [row for row in sorted(aligned, key=lambda row: -row.points)[:CLOSEST] if row.points]
        found = [self._match(score, mine, row, known.points(row), start) for row in best]
        chosen: list[Match] = []
        for match in sorted(found, key=lambda match: (-match.weight, match.kept)):
            if len(chosen) < MOST_MATCHES and not any(_overlap(match, other) for other in chosen):
                chosen.append(match)
        return chosen

    def _search(self, mine: Lines) -> tuple[np.ndarray, Pairs, _Figures]:
        """What each note gains, (L,) integers, the places to align: those that most rare figures speak for, and all
        figures."""
        known, i, j = self._hits(mine)
        gains = _spread(known.rarity / known.times, known.places, len(mine.pitch))
        long, their_long = (of.time[at + FIGURE] - of.time[at] for of, at in ((mine, i), (self.lines, j)))
        tempo = their_long / np.maximum(long, TOGETHER)
        keep = (tempo >= TEMPI[0]) & (tempo <= TEMPI[1])
        i, j, tempo = i[keep], j[keep], tempo[keep]
        mine_of, theirs_of = mine.owners()[i], self.owners[j]
        move = self.lines.pitch[j].astype(int) - mine.pitch[i]
        bucket = (j - i + len(mine.pitch)) // BUCKET
        key = ((mine_of * len(self.lines.names) + theirs_of) << 36) + (bucket << 8) + move + 128
        order = np.lexsort((i, key))
        key, i = key[order], i[order]
        fresh = np.diff(key, prepend=-1) > 0  # where another place begins
        votes = gains[i] * (fresh | (np.diff(i, prepend=-1) > 0))  # a figure that a piece goes on playing votes once
        starts = np.flatnonzero(fresh)
        best = np.argsort(-np.add.reduceat(votes, starts), kind="stable")[:CANDIDATES] if len(key) else starts
        ends = np.append(starts, len(key))
        middle = np.array([np.median(tempo[order[ends[one] : ends[one + 1]]]) for one in best])
        first = order[starts[best]]
        low = (bucket[first] - 1) * BUCKET - len(mine.pitch)
        return gains, Pairs(mine_of[first], theirs_of[first], move[first], low, middle), known

    def _hits(self, mine: Lines) -> tuple[_Figures, np.ndarray, np.ndarray]:
        """All figures, and all pairs of positions, mine and theirs, where the same rare one begins."""
        codes, places = figures(mine)
        where = np.searchsorted(self.codes, codes)
        known = np.append(self.codes, -1)[where] == codes
        rarity = np.append(self.rarity, 1.0)[np.where(known, where, len(self.codes))]
        _, same, times = np.unique((mine.owners()[places] << 32) | codes, return_inverse=True, return_counts=True)
        wanted = known & (rarity >= RARE)
        begin, count = self.starts[where[wanted]], np.diff(self.starts)[where[wanted]]
        inside = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        figures_of = _Figures(places, same, rarity, times[same])
        return figures_of, np.repeat(places[wanted], count), self.places[np.repeat(begin, count) + inside]

    def _match(self, score: Score, mine: Lines, aligned: _Aligned, points: float, begun: int) -> Match:
        line, _, i, j = aligned
        piece = int(self.lines.pieces[self.owners[j[0]]])
        source, times, their_times = self.scores[piece], mine.time[i], self.lines.time[j]
        start, stop = np.rint(times[[0, -1]] * score.ticks_per_quarter).astype(int).tolist()
        begin = round(float(their_times[0]) * source.ticks_per_quarter)
        second, end = score.seconds([start, stop]).tolist()
        move = int(mine.pitch[i[0]]) - int(self.lines.pitch[j[0]])
        texture = _texture(score, source, times, their_times, move)
        return Match(
            path=self.paths[piece],
            bar=_bar(source, begin),
            second=float(source.seconds(begin)),
            take_bar=_bar(score, start),
            take_second=second,
            line=mine.names[line],
            notes=len(i),
            weight=points / NOTE * (1 + texture) / 2,
            bars=None if score.free else float(np.diff(_in_bars(score, [start, stop]))[0]),
            seconds=end - second,
            share=(end - second) / max(float(np.ptp(score.seconds([begun, score.end]))), 1e-9),
            texture=texture,
            semitones=move,
            tempo=float(np.ptp(their_times) / np.ptp(times)) if np.ptp(times) else 1.0,
            kept=self.paths[piece] in self.kept,
        )

    # --- the yardstick ----------------------------------------------------------------------------------------

    def usual(self, length: float = 64) -> float | None:
        """How much weight matches of the musician's own held-out music have, over stretches of `length` quarters.

        It is their 95th percentile or, where that is more, the 99th of the Gumbel distribution with their quartiles,
        which is how the best of many alignments by chance is spread (Karlin and Altschul 1990). So one stretch in
        twenty at most goes above it. None without held-out pieces.
        """
        weights = self.held_out_weights(length)
        return level(weights) if len(weights) else None

    def held_out_weights(self, length: float = 64) -> np.ndarray:
        """The weight of the best match of each held-out stretch of about so many quarters.

        Lengths go to the nearest power of two from 16 to 256; at most 100 stretches are drawn, evenly over all.
        """
        quarters = 2 ** round(np.log2(np.clip(length, *LENGTHS)))
        if str(quarters) not in self._levels:
            excerpts = [excerpt for score in self.held_out for excerpt in stretches(score, quarters)]
            weights = [self.weight(excerpt) for excerpt in evenly(excerpts, EXCERPTS)]
            self._levels[str(quarters)] = [round(weight, 3) for weight in weights]
            self._write_levels()
        return np.array(self._levels[str(quarters)])

    def weight(self, score: Score) -> float:
        """The weight of the best match of a score; 0 without one."""
        return Repeats(self.matches(score), None).weight

    def _read_levels(self) -> dict[str, list[float]]:
        """The weights stored for this very corpus and method; none where there are none that can be read."""
        stored = object_in(self.stored) if self.stored else {}
        return stored["weights"] if stored.get("key") == self.key else {}

    def _write_levels(self) -> None:
        if self.stored:
            try:
                write_object(self.stored, {"key": self.key, "weights": self._levels})
            except FileError:  # a corpus that is read-only: measured anew by the next index
                self.stored = None


def originality_index(corpus: Corpus | str | Path, *, base: str | None = None) -> Index:
    """The index of a corpus's training pieces; the levels of its validation and test pieces are kept in its folder.
    `base` is what run.json says of the base of the run that is judged: reports tell that its pieces were not examined.

    Raises RunError for a folder that is no corpus, EmptyCorpus where no piece to train on has pitches.
    """
    corpus = open_corpus(corpus)
    pieces = [corpus.pieces[number] for number in corpus.split("train")]
    made = Index(
        corpus.scores("train"),
        [piece.path for piece in pieces],
        songs=[piece.song or piece.path for piece in pieces],
        kept=[piece.path for piece in pieces if piece.kept],
        held_out=corpus.scores("validation") + corpus.scores("test"),
        stored=corpus.folder / STORED,
        key=corpus.fingerprint,
        base=Path(base).name if base else "",
    )
    if not len(made.lines.pitch):
        raise EmptyCorpus(f"{corpus.folder}: no pitched music to train on; lines of drums cannot be compared")
    return made


def stretches(score: Score, quarters: int) -> list[Score]:
    """A score cut at seams into stretches of about so many quarters; a rest of less than half is left out."""
    seams, size = score.seams(), quarters * score.ticks_per_quarter
    cuts = np.unique(seams[np.searchsorted(seams, np.arange(0, seams[-1] + size // 2, size)).clip(max=len(seams) - 1)])
    cut = [score.slice(int(start), int(stop), cut=True) for start, stop in pairwise(cuts)]
    return [one for one in cut if 2 * one.end >= size] or [score]


def level(weights: np.ndarray) -> float:
    """The 95th percentile, or the 99th of the Gumbel distribution with the same quartiles, whichever is more."""
    low, middle, high, most = np.percentile(weights, [25, 50, 75, 95])
    spread = (high - low) / np.log(np.log(4) / np.log(4 / 3))
    chance = middle + spread * (np.log(np.log(2)) - np.log(-np.log(CHANCE)))
    return round(float(max(most, chance)), 3)


def _spread(weight: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    """The mean weight of the figures (F,) that each note stands in, as alignment scores: (count,) integers."""
    total, number = np.zeros(count), np.zeros(count)
    for k in range(FIGURE + 1):
        total[places + k] += weight
        number[places + k] += 1
    return np.rint(NOTE * total / np.maximum(number, 1)).astype(int)


def _texture(score: Score, source: Score, times: np.ndarray, their_times: np.ndarray, move: int) -> float:
    """The share of a score's notes, of all lines, that stand at the same place of the source; `times` go together."""
    mine, theirs = (
        np.stack([pitched(s)["onset"] / s.ticks_per_quarter, pitched(s)["pitch"]], axis=1) for s in (score, source)
    )
    mine = mine[slice(*np.searchsorted(mine[:, 0], [times[0] - SLACK, times[-1] + SLACK]))]
    theirs = theirs[slice(*np.searchsorted(theirs[:, 0], [their_times[0] - 2 * SLACK, their_times[-1] + 2 * SLACK]))]
    there = np.interp(mine[:, 0], times, their_times)
    found = 0
    for block in range(0, len(mine), BLOCK):
        at, pitch = there[block : block + BLOCK, None], mine[block : block + BLOCK, 1:] - move
        around = theirs[slice(*np.searchsorted(theirs[:, 0], [at.min() - 2 * SLACK, at.max() + 2 * SLACK]))]
        found += ((np.abs(at - around[:, 0]) <= SLACK) & (pitch == around[:, 1])).any(axis=1).sum()
    return float(found / len(mine))


def _bar(score: Score, tick: int) -> int | None:
    return None if score.free else int(np.searchsorted(score.bars(), tick, side="right"))


def _in_bars(score: Score, ticks: Sequence[int]) -> np.ndarray:
    """Ticks as numbers of bars since the beginning."""
    lines_of_bars = score.bars()
    return np.interp(ticks, lines_of_bars, np.arange(len(lines_of_bars)))


def _overlap(one: Match, other: Match) -> bool:
    """Whether more than half of the shorter lies in the other."""
    both = min(m.take_second + m.seconds for m in (one, other)) - max(one.take_second, other.take_second)
    return both > min(one.seconds, other.seconds) / 2
