"""A Corpus is a folder of prepared music: note arrays on disk, and ids made when a batch is drawn.

    corpus.json      settings, every piece with its split, every skipped file with its reason, the fingerprint
    tokenizer.json   the tokenizer
    notes.npy ...    the music of all pieces, one array a kind, memory-mapped; offsets.npy says whose is what

Augmentation and tasks are drawn with the batch: a row is a pure function of (seed, row number), so that any run can be
resumed or repeated exactly, and nothing augmented is ever stored.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import numpy as np

from ...errors import FileError, InputError, MissingExtra, RunError
from ...files import built, found_from, read_object, sha256_of, unread
from ..music.score import Score, Track
from ..tokenizers import BOS, EOS, PAD, Tokenizer, open_tokenizer
from .tasks import Posed, Region, describe, pose

DATA = "corpus.json"
FORMAT = 1
KINDS = ("notes", "pedals", "tempos", "metres", "chords")
SPLITS = ("train", "validation", "test")
KEYS = range(-5, 7)  # semitones: twelve keys
TEMPI = (0.9, 1.0, 1.1)
ROOM = {"compose": 1.2, "continue": 0.8, "fill": 0.8, "accompany": 0.6}  # of a row, in which a task's music is drawn
PART_SHARE = 1 / 3  # how often one part is to be filled in, beside the others
HEAD_SHARE = 0.5  # how often each head word, and the countdown, is told
IGNORED = -100


@dataclass(frozen=True)
class Piece:
    """One piece of a corpus: where it came from and what is known of it."""

    path: str
    split: str
    notes: int
    seconds: float
    ids: int
    bars: int
    ticks_per_quarter: int
    free: bool
    tracks: tuple[Track, ...]
    digest: str = ""
    song: str = ""
    bpm: float = 120.0
    metre: str = "4/4"
    weight: float = 1.0  # how often it is drawn to train on, relative to other pieces of its length
    kept: str = ""  # the run that played it, where it is a take that was kept; empty for the musician's own pieces


class Corpus:
    """A prepared corpus, opened from its folder. Reading one piece takes a slice of each memory-mapped array."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        data = _read_facts(self.folder)
        self.settings: dict = data["settings"]
        self.fingerprint: str = data["fingerprint"]
        self.skipped: list[dict] = data["skipped"]
        self.facts: dict = data.get("facts", {})
        self.music: dict = data.get("music", {})  # what generate falls back on: bpm, metre, head words
        self.pieces = [
            Piece(**{**piece, "tracks": tuple(Track(*track) for track in piece["tracks"])}) for piece in data["pieces"]
        ]
        self.tokenizer: Tokenizer = open_tokenizer(self.folder)
        if data["tokenizer"] != self.tokenizer.fingerprint:
            raise RunError(folder, "its tokenizer.json belongs to another corpus; prepare it again")

    def __len__(self) -> int:
        return len(self.pieces)

    def __repr__(self) -> str:
        minutes = sum(piece.seconds for piece in self.pieces) / 60
        return f"Corpus({self.folder}, {len(self)} pieces, {minutes:.0f} min, {self.tokenizer.name})"

    @cached_property
    def _arrays(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        try:
            arrays = {kind: np.load(self.folder / f"{kind}.npy", mmap_mode="r").view(np.ndarray) for kind in KINDS}
            offsets = np.load(self.folder / "offsets.npy")
        except (OSError, ValueError, EOFError) as error:
            raise RunError(self.folder, f"incomplete ({error}); prepare it again") from None
        if offsets.shape != (len(self) + 1, len(KINDS)) or any(
            len(arrays[kind]) != offsets[-1, k] for k, kind in enumerate(KINDS)
        ):
            raise RunError(self.folder, "its arrays do not fit its corpus.json; prepare it again")
        return offsets, arrays

    @property
    def own(self) -> list[Piece]:
        """The musician's own pieces: all but takes that were kept."""
        return [piece for piece in self.pieces if not piece.kept]

    def score(self, index: int) -> Score:
        """The Score of one piece."""
        offsets, arrays = self._arrays
        piece = self.pieces[index]
        first, stop = offsets[index : index + 2].tolist()
        rows = {kind: arrays[kind][first[k] : stop[k]] for k, kind in enumerate(KINDS)}
        return Score.trusted(**rows, tracks=piece.tracks, ticks_per_quarter=piece.ticks_per_quarter, free=piece.free)

    def split(self, name: str) -> list[int]:
        """The numbers of the pieces of one split."""
        if name not in SPLITS:
            raise InputError(f"split {name!r}: choose one of {', '.join(SPLITS)}")
        return [index for index, piece in enumerate(self.pieces) if piece.split == name]

    def scores(self, split: str) -> list[Score]:
        """The Scores of one split, all in memory."""
        return [self.score(index) for index in self.split(split)]

    def training_rows(self, max_seq_len: int, seed: int = 0) -> TrainingRows:
        """Rows of ids to train on, drawn anew in every epoch: those beyond their `len` are the next epochs'."""
        return TrainingRows(self, max_seq_len, seed)

    def evaluation_rows(self, split: str, max_seq_len: int) -> EvaluationRows:
        """All music of a split as rows of ids: plain pieces, not augmented, always the same."""
        return EvaluationRows(map(self.score, self.split(split)), self.tokenizer, max_seq_len)

    def dataset(self, split: str = "train", max_seq_len: int = 2048):
        """A split as a Hugging Face `datasets.Dataset` with input_ids, labels and position_ids."""
        try:
            import datasets
        except ImportError:
            raise MissingExtra("datasets", "datasets") from None
        return datasets.Dataset.from_list(list(self.evaluation_rows(split, max_seq_len)))


def _read_facts(folder: Path) -> dict:
    """corpus.json, or a RunError."""
    make = "woodshed prepare FOLDER --out CORPUS"
    try:
        data = read_object(folder / DATA)
    except (OSError, ValueError) as error:
        raise RunError(folder, f"not a corpus: {unread(folder, DATA, error)}; make one with: {make}") from None
    if (found := data.get("format")) != FORMAT:
        raise RunError(folder, f"a corpus of format {found}, this version reads {FORMAT}; make it again with: {make}")
    if missing := {"settings", "fingerprint", "skipped", "pieces", "tokenizer"} - data.keys():
        raise RunError(folder, f"its corpus.json lacks {', '.join(sorted(missing))}; make it again with: {make}")
    return data


def open_corpus(folder: Corpus | str | Path) -> Corpus:
    """Open a prepared corpus, or answer one that is open already; a RunError says what is wrong with a folder that is
    none."""
    return Corpus(folder) if isinstance(folder, str | os.PathLike) else folder


def find_corpus(run: Path, facts: dict) -> Corpus | None:
    """The corpus that the run in a folder has learned, by its fingerprint: where its facts (run.json) say it was, else
    beside the run, one above it, or where you are. None where there is none that can be opened.
    """
    beside = run.absolute().parent
    places = [beside, beside.parent, Path()]
    there = [found_from(run, facts["corpus_folder"]) / DATA] if facts.get("corpus_folder") else []
    for path in (*there, *(path for place in places for path in sorted(place.glob(f"*/{DATA}")))):
        with suppress(OSError, RunError):
            with open(path, encoding="utf-8", errors="replace") as file:
                head = file.read(256)  # the fingerprint stands first
            if f'"{facts["corpus"]}"' in head:
                return open_corpus(path.parent)
    return None


def write_corpus(folder: Path, pieces: list[Piece], scores: list[Score], tokenizer: Tokenizer, **facts) -> Corpus:
    """Write a corpus beside its place and rename it, so that no half corpus is ever seen. Raises FileError."""
    folder = Path(folder)
    try:
        with built(folder) as temporary:
            _write(temporary, pieces, scores, tokenizer, facts)
    except (OSError, FileError) as error:
        # numpy counts the bytes instead, without an errno
        told = getattr(error, "strerror", None) or "not all of it fits on the disk"
        raise FileError(folder, f"cannot be written: {told}; nothing was changed") from None
    return Corpus(folder)


def _write(folder: Path, pieces: list[Piece], scores: list[Score], tokenizer: Tokenizer, facts: dict) -> None:
    sizes = [[len(getattr(score, kind)) for kind in KINDS] for score in scores]
    np.save(folder / "offsets.npy", np.cumsum([[0] * len(KINDS), *sizes], axis=0))
    for kind in KINDS:
        np.save(folder / f"{kind}.npy", np.concatenate([getattr(score, kind) for score in scores]))
    tokenizer.save(folder)
    rows = [{k: value for k, value in vars(piece).items() if value or k != "kept"} for piece in pieces]
    told = json.dumps([rows, facts.get("settings"), tokenizer.fingerprint], ensure_ascii=False)
    digest = sha256_of(*(folder / f"{kind}.npy" for kind in KINDS), begin=told.encode())
    data = {"format": FORMAT, "fingerprint": digest[:16], "tokenizer": tokenizer.fingerprint}
    text = json.dumps(data | facts | {"pieces": rows}, indent=1, ensure_ascii=False)
    (folder / DATA).write_text(text, encoding="utf-8")


# --- drawing rows ----------------------------------------------------------------------------------------------


class TrainingRows(Sequence):
    """Packed rows of `max_seq_len` ids. `rows[i]` works for every i >= 0 and depends on (seed, i) alone; to iterate
    gives the first epoch.

    An epoch (`len`) has a row for about every `max_seq_len` ids of the split, times their piece's weight. Every row
    has its own stretch of the epoch's shuffled pieces; it begins with that or, in one row of five, with the beginning
    of its piece, and is filled up with stretches drawn at random. `position_ids` begin at 0 with each.
    """

    def __init__(self, corpus: Corpus, max_seq_len: int, seed: int):
        self.corpus, self.max_seq_len, self.seed = corpus, max_seq_len, seed
        self.pieces = [piece for piece in corpus.split("train") if corpus.pieces[piece].weight > 0]
        if not self.pieces:
            raise RunError(
                corpus.folder, "it has no piece to train on; prepare it with more files or other --fractions"
            )
        sizes = np.array([corpus.pieces[piece].ids for piece in self.pieces])
        weights = np.array([corpus.pieces[piece].weight for piece in self.pieces])
        counts = np.maximum(np.rint(sizes / max_seq_len).astype(int), 1)
        self.windows = [
            (p, part / n, 1 / n) for p, n in zip(self.pieces, counts.tolist(), strict=True) for part in range(n)
        ]
        self.weights = np.repeat(weights, counts)  # of the windows
        self.edges = np.cumsum(sizes * weights)  # of the pieces' shares in what fills rows up
        self.length = max(round(float(self.weights.sum())), 1)
        self.order = (-1, np.zeros(0, dtype=int))  # the epoch drawn last

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        epoch, place = divmod(index, len(self))
        if self.order[0] != epoch:
            self.order = epoch, self._draw_epoch(epoch)
        rng = np.random.default_rng([self.seed, 2, index])
        piece, begin, share = self.windows[self.order[1][place]]
        longer = self.corpus.pieces[piece].ids > self.max_seq_len  # than the row, so that it may begin anywhere
        examples = [self._example(piece, begin + share * rng.random() * longer, self.max_seq_len, rng)]
        space = self.max_seq_len - len(examples[0].ids)
        while space > 0:
            piece = self.pieces[np.searchsorted(self.edges, rng.random() * self.edges[-1], side="right")]
            examples.append(self._example(piece, rng.random(), space, rng))
            space -= len(examples[-1].ids)
        return pack(examples, self.max_seq_len)

    def _draw_epoch(self, epoch: int) -> np.ndarray:
        """The windows of an epoch, shuffled: each as often as its weight says, rounded up or down by chance."""
        rng = np.random.default_rng([self.seed, 1, epoch])
        order = rng.permutation(len(self.windows))
        edges = np.cumsum(self.weights[order])
        ticks = (rng.random() + np.arange(len(self))) * edges[-1] / len(self)
        return rng.permutation(order[np.searchsorted(edges[:-1], ticks, side="right")])

    def _example(self, piece: int, at: float, space: int, rng: np.random.Generator) -> Posed:
        """One task on the stretch that begins at a share of the piece, of about the ids that there is space for.

        In less than half a row there is only music, longer than the space: more examples cost more than longer ones.
        """
        corpus, tokenizer = self.corpus, self.corpus.tokenizer
        half = self.max_seq_len // 2
        task = draw_task(corpus.settings.get("tasks", {}), rng) if space >= half else "compose"
        room = max(space, half) / max(corpus.pieces[piece].ids, 1) * ROOM[task]
        window, last, ended = cut_window(corpus.score(piece), tokenizer, at if rng.random() < 0.8 else 0.0, room)
        if corpus.settings.get("augment"):
            window, last = augment(window, last, rng)
        everything = Region(0, tokenizer.end(window))
        region = draw_region(task, window, everything, rng, parts=tokenizer.knows_parts)
        head = [word for word in describe(window) if rng.random() < HEAD_SHARE]
        told = dict(head=head, last=last if rng.random() < HEAD_SHARE else None)
        posed = pose(tokenizer, window, region, ended=ended or region != everything, **told)
        if region != everything and len(posed.ids) > space:  # its answer would be cut off
            return pose(tokenizer, window, everything, ended=ended, **told)
        return posed


def cut_window(score: Score, tokenizer: Tokenizer, at: float, room: float) -> tuple[Score, int, bool]:
    """The stretch of about a `room` share of a piece that begins at the share `at`.

    Also the tick, of the stretch, at which the piece ends, and whether the stretch reaches it.
    """
    end = tokenizer.end(score)
    lines = score.seams(end)
    first = int(at * (len(lines) - 1))
    stop = min(first + max(int((len(lines) - 1) * room), 1), len(lines) - 1)
    start, ended = int(lines[first]), stop == len(lines) - 1
    window = score.slice(start, end) if ended else score.slice(start, int(lines[stop]), cut=True)
    return window, end - start, ended


def augment(score: Score, last: int, rng: np.random.Generator) -> tuple[Score, int]:
    """One of twelve keys and three tempi; the tick `last` moves along."""
    factor = TEMPI[rng.integers(len(TEMPI))]
    moved = score.transpose(KEYS[rng.integers(len(KEYS))]).stretch(factor)
    return moved, round(last / factor) if score.free else last


def draw_task(shares: dict[str, float], rng: np.random.Generator) -> str:
    """The name of a task by its share of the draws; what the shares leave over is "compose"."""
    draw = rng.random()
    edges = accumulate(shares.values())
    return next((name for name, edge in zip(shares, edges, strict=True) if draw < edge), "compose")


def draw_region(task: str, score: Score, everything: Region, rng: np.random.Generator, *, parts: bool = True) -> Region:
    """A region for a task: everything, the rest from a bar on, up to eight bars or one part in them, or one part.

    Never one part alone where the tokens know no `parts`.
    """
    if task == "compose":
        return everything
    present = sorted({score.tracks[track].part for track in np.unique(score.notes["track"]).tolist()})
    one = (str(rng.choice(present)),) if parts and len(present) > 1 else None
    if task == "accompany":
        return Region(0, everything.end, one) if one else everything
    lines = score.seams(everything.end)
    if task == "continue" and len(lines) > 2:
        return Region(int(lines[rng.integers(1, len(lines) - 1)]), everything.end)
    if task == "fill" and len(lines) > 4:
        start = int(rng.integers(1, len(lines) - 2))
        stop = min(start + int(rng.integers(1, 9)), len(lines) - 2)
        return Region(int(lines[start]), int(lines[stop]), one if rng.random() < PART_SHARE else None)
    return everything


def pack(examples: list[Posed], length: int) -> dict[str, np.ndarray]:
    """Examples one after another in one row, cut or padded to `length`; positions begin anew with each."""
    ids, labels, positions = np.full(length, PAD), np.full(length, IGNORED), np.arange(length)
    begin = 0
    for example in examples:
        count = min(len(example.ids), length - begin)
        place = slice(begin, begin + count)
        ids[place] = example.ids[:count]
        labels[place] = np.where(example.loss_mask[:count], ids[place], IGNORED)
        positions[place] = np.arange(count)
        begin += count
    positions[begin:] -= begin
    return {"input_ids": ids, "labels": labels, "position_ids": positions}


class EvaluationRows(Sequence):
    """Scores cut at seams into stretches that fit a row; `notes` and `seconds` are what the labels spell."""

    def __init__(self, scores: Iterable[Score], tokenizer: Tokenizer, max_seq_len: int):
        self.notes, self.seconds, self._rows = 0, 0.0, []
        for score in scores:
            self._add(score, tokenizer, max_seq_len)

    def _add(self, score: Score, tokenizer: Tokenizer, length: int) -> None:
        end = tokenizer.end(score)
        lines = score.seams(end)
        first, count = 0, len(lines) - 1
        while first < len(lines) - 1:
            start, stop = int(lines[first]), int(lines[min(first + count, len(lines) - 1)])
            ended = stop >= end
            window = score.slice(start, end if ended else stop)
            region = Region(0, tokenizer.end(window) if ended else stop - start)
            body = tokenizer.body(window, 0, region.end)
            if len(body.ids) + 2 > length and count > 1:
                count = max(int(count * min(0.95, length / len(body.ids))), 1)
                continue
            ids = np.array([BOS, *body.ids.tolist(), *[EOS] * ended])
            if len(ids) > 1:  # MidiTok spells no rests
                self._rows.append(pack([Posed(ids, np.arange(len(ids)) > 0)], length))
            kept = min(1.0, length / len(ids))  # of a bar that is longer than a row
            self.notes += round(kept * len(window.notes))
            self.seconds += kept * float(score.seconds(min(stop, end)) - score.seconds(start))
            first += count

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index):
        return self._rows[index]
