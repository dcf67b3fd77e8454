"""MidiTok's tokenizations behind our interface: `miditok:REMI`, `:TSD`, `:MIDILike`, and `miditok:FOLDER` with the
`tokenizer.json` that a model trained elsewhere brings.

One keyboard, no parts, chords or pedal, and without a file of its own every bar one of 4/4. Ids and words are MidiTok's
(`Pitch_60`, `TimeShift_1.0.8`), and so is the graph of which kind of word may follow which; behind them come our words
for tasks and heads.
https://github.com/Natooz/MidiTok
"""

from __future__ import annotations

import json
from functools import cached_property
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from ...errors import InputError, MissingExtra
from ...files import object_in
from ..music.score import Score, Track
from . import EOS, HEAD_WORDS, SPECIALS, TASK_WORDS, Body, Grammar, Plan, Tokenizer

VARIANTS = ("MIDILike", "REMI", "TSD")  # those that are one stream of ids; Structured would shorten long rests
NOTE_FIELDS = ("onset", "duration", "pitch", "velocity")
CLOCKS = ("TimeShift", "Rest")
FILE = "tokenizer.json"
MERGED = "_model"  # what the file of a trained tokenizer holds besides


def outside(folder: Path) -> MidiTok | None:
    """The tokenizer of a model trained with MidiTok, from the tokenizer.json beside it; None where there is no such
    file, and an InputError where it is one that we cannot read."""
    saved = _read(folder / FILE)
    return MidiTok(saved=saved) if saved else None


def _read(path: Path) -> dict | None:
    """What a file says that MidiTok has written; None for any other file, and for none."""
    saved = object_in(path)
    if not saved.keys() >= {"tokenization", "config"}:
        return None
    if MERGED in saved:
        raise InputError(f"{path}: its ids are learned combinations of tokens (BPE and the like), which cannot be read")
    return {key: saved[key] for key in ("tokenization", "config")}


class MidiTok(Tokenizer):
    """A tokenization of MidiTok's: with its default settings or with `config`, any of TokenizerConfig's; or as in a
    tokenizer.json that MidiTok has written: `variant` is its path or folder, or `saved` what it says."""

    needs_bars = True
    knows_chords = False
    knows_parts = False

    def __init__(self, variant: str = "REMI", *, saved: dict | None = None, **config):
        if saved is None and Path(variant).exists():
            saved = _read(Path(variant) / FILE if Path(variant).is_dir() else Path(variant))
        variant = saved["tokenization"] if saved else variant
        if variant not in VARIANTS:
            choice = ", ".join(VARIANTS)
            told = f"choose from: {choice}, or give the {FILE} that MidiTok wrote, or its folder"
            raise InputError(f"unknown tokenization 'miditok:{variant}'; {told}")
        self.name = f"miditok:{variant}"
        self.config = {"saved": saved} if saved else {"use_tempos": False, "use_time_signatures": False} | config
        self.inner = _inner(variant, saved, self.config)
        words = [word for word, _ in sorted(self.inner.vocab.items(), key=lambda item: item[1])]
        if words[:3] != [f"{word}_None" for word in SPECIALS]:
            raise InputError(f"{self.name}: its ids begin with {', '.join(words[:3])}; only PAD, BOS, EOS can be read")
        self.known = len(words)  # MidiTok's own; a model from outside knows no others
        self.words = (*SPECIALS, *words[3:], *TASK_WORDS, *HEAD_WORDS)
        self.steps = self.inner.config.max_num_pos_per_beat

    @property
    def settings(self) -> dict:
        return self.config

    def end(self, score: Score) -> int:
        return max(score.end, 1)

    def tick(self, score: Score, tick: int) -> int:
        return round(tick * self.inner.time_division / score.ticks_per_quarter)

    def _symusic(self, score: Score):
        import symusic

        notes = score.notes
        out = symusic.Score(score.ticks_per_quarter)
        track = symusic.Track(name="", program=0, is_drum=False)
        track.notes = symusic.Note.from_numpy(
            *(notes[name].astype(kind) for name, kind in zip(NOTE_FIELDS, ("i4", "i4", "i1", "i1"), strict=True))
        )
        out.tracks = [track]
        out.tempos = [symusic.Tempo(time=tick, mspq=usec) for tick, usec in score.tempos.tolist()]
        out.time_signatures = [symusic.TimeSignature(*row) for row in score.metres.tolist()]
        return out

    def body(self, score: Score, start: int, end: int, *, given=(), last: int | None = None, whole=True) -> Body:
        if given:
            raise InputError(f"{self.name} tokens know no parts; prepare the corpus with remi or performance")
        if score.free:
            raise InputError(f"{self.name} needs music on a grid; use --tokenizer performance")
        window = self._symusic(score.slice(start, end, cut=not whole))
        if not len(window.tracks[0].notes):
            return Body(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=bool))
        sequences = self.inner(window)
        ids = (sequences if self.inner.one_token_stream else sequences[0]).ids
        return Body(np.array(ids, dtype=np.int64), np.ones(len(ids), dtype=bool))

    def decode_body(self, ids: np.ndarray) -> Score:
        ids = np.asarray(ids, dtype=np.int64)
        return self._score(self.inner.decode([ids[(ids > EOS) & (ids < self.known)].tolist()]))

    def _score(self, found) -> Score:
        notes = [note for track in found.tracks for note in track.notes]
        rows = [(note.time, max(note.duration, 1), note.pitch, note.velocity, 0) for note in notes]
        score = Score(rows, tracks=(Track("other"),), ticks_per_quarter=found.ticks_per_quarter)
        return score.without_overlaps()

    def quantize(self, score: Score) -> Score:
        """What MidiTok's own preprocessing leaves: times, velocities and durations on its levels, pitches in its range.

        Dropped: parts, chords, pedal, tempo and metre, and what MidiTok drops (notes out of range, equal notes).
        """
        return self.decode_body(self.body(score, 0, self.end(score)).ids)

    @cached_property
    def clocks(self) -> np.ndarray:
        """(vocab_size,) bool: the words that let time pass."""
        return np.array([word.split("_")[0] in CLOCKS for word in self.words])

    @cached_property
    def graph(self) -> dict[str, np.ndarray]:
        """For every kind of word the (vocab_size,) mask of what may follow it."""
        kinds = np.array([word.split("_")[0] for word in self.words])
        mine = np.arange(len(self.words)) < self.known
        barred = ("PAD", "BOS", "EOS", "MASK")
        return {
            kind: mine & np.isin(kinds, [name for name in follow if name not in barred])
            for kind, follow in self.inner.tokens_types_graph.items()
        }

    def grammar(self, plan: Plan) -> Grammar:
        return MidiTokGrammar(self, plan)


TOKENIZER = MidiTok


def _inner(variant: str, saved: dict | None, config: dict):
    """MidiTok's own tokenizer; it takes what is saved from a file alone."""
    try:
        package = import_module("miditok")
    except ImportError:
        raise MissingExtra("miditok", "miditok") from None
    kind = getattr(package, variant)
    if not saved:
        return kind(package.TokenizerConfig(**config))
    with TemporaryDirectory() as folder:
        path = Path(folder) / FILE
        path.write_text(json.dumps(saved), encoding="utf-8")
        return kind(params=path)


class MidiTokGrammar(Grammar):
    """MidiTok's graph of what may follow what, and a clock that ends the take."""

    def __init__(self, tokenizer: MidiTok, plan: Plan):
        self.tokenizer, self.passes = tokenizer, tokenizer.clocks
        self.quarters = (plan.end - plan.start) / plan.score.ticks_per_quarter
        self.bar = 4.0  # quarters; without time signatures MidiTok takes every bar for 4/4
        self.time = 0.0
        self.ids: list[int] = []
        self.lines: list[int] = [0]

    @property
    def share(self) -> float:
        return 1.0 if self.done else min(max(self.time / self.quarters, 0.0), 1.0)

    @property
    def forced(self) -> int | None:
        return EOS if self.time >= self.quarters else None

    def allowed(self) -> np.ndarray:
        graph = self.tokenizer.graph
        kind = self.tokenizer.words[self.ids[-1]].split("_")[0] if self.ids else None
        mask = graph[kind] if kind in graph else np.logical_or.reduce(list(graph.values()))
        return mask if mask.any() else np.logical_or.reduce(list(graph.values()))

    def push(self, token: int) -> int:
        kind, _, value = self.tokenizer.words[token].partition("_")
        if kind == "Bar":
            self.time = self.time + self.bar if self.ids else 0.0
            if self.time >= self.quarters:
                token = EOS
            else:
                self.lines.append(len(self.ids))
        elif kind == "TimeSig":
            beats, part = value.split("/")
            self.bar = 4 * int(beats) / int(part)
        elif kind in CLOCKS:
            beats, part, resolution = (int(number) for number in value.split("."))
            before, self.time = self.time, self.time + beats + part / resolution
            if before // self.bar < self.time // self.bar:  # where there are no words for bars
                self.lines.append(len(self.ids))
        self.done = token == EOS
        self.ids.append(token)
        return token

    def window(self, keep: int) -> list[int]:
        start = next((at for at in self.lines if len(self.ids) - at <= keep), max(len(self.ids) - keep, 0))
        return self.ids[start:]
