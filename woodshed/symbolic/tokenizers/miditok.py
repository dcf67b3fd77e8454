"""MidiTok's tokenizations behind our interface: `miditok:REMI`, `:TSD`, `:MIDILike` and `:Structured`.

One keyboard, no parts, chords or pedal. The words are MidiTok's own (`Pitch_60`, `TimeShift_1.0.8`); which kind of word
may follow which is MidiTok's own graph. https://github.com/Natooz/MidiTok
"""

from __future__ import annotations

from functools import cached_property
from importlib import import_module

import numpy as np

from ...errors import InputError, MissingExtra
from ..score import Score, Track
from . import EOS, HEAD_WORDS, PART_WORDS, SPECIALS, TASK_WORDS, Body, Grammar, Plan, Tokenizer

VARIANTS = ("MIDILike", "REMI", "Structured", "TSD")  # those that are one stream of ids
NOTE_FIELDS = ("onset", "duration", "pitch", "velocity")
CLOCKS = ("TimeShift", "Rest")


class MidiTok(Tokenizer):
    """A tokenization of MidiTok with its default settings, or with `config`, any of TokenizerConfig's."""

    needs_bars = True
    knows_chords = False

    def __init__(self, variant: str = "REMI", **config):
        if variant not in VARIANTS:
            raise InputError(f"unknown tokenization 'miditok:{variant}'; choose from: {', '.join(VARIANTS)}")
        try:
            package = import_module("miditok")
        except ImportError:
            raise MissingExtra("miditok", "miditok") from None
        config = {"use_tempos": False, "use_time_signatures": False} | config
        self.config = config
        self.inner = getattr(package, variant)(package.TokenizerConfig(**config))
        self.name = f"miditok:{variant}"
        inner = [word for word, _ in sorted(self.inner.vocab.items(), key=lambda item: item[1])]
        self.words = (*SPECIALS, *PART_WORDS, *TASK_WORDS, *HEAD_WORDS, *inner)
        self.first = len(self.words) - len(inner)
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
        return Body(np.array(ids, dtype=np.int64) + self.first, np.ones(len(ids), dtype=bool))

    def decode_body(self, ids: np.ndarray) -> Score:
        ids = np.asarray(ids, dtype=np.int64)
        return self._score(self.inner.decode([(ids[ids >= self.first] - self.first).tolist()]))

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
    def graph(self) -> dict[str, np.ndarray]:
        """For every kind of word the (vocab_size,) mask of what may follow it."""
        kinds = np.array([word.split("_")[0] for word in self.words])
        mine = np.arange(len(self.words)) >= self.first
        barred = ("PAD", "BOS", "EOS", "MASK")
        return {
            kind: mine & np.isin(kinds, [name for name in follow if name not in barred])
            for kind, follow in self.inner.tokens_types_graph.items()
        }

    def grammar(self, plan: Plan) -> Grammar:
        return MidiTokGrammar(self, plan)


TOKENIZER = MidiTok


class MidiTokGrammar(Grammar):
    """MidiTok's graph of what may follow what, and a clock that ends the take."""

    def __init__(self, tokenizer: MidiTok, plan: Plan):
        self.tokenizer = tokenizer
        self.quarters = (plan.end - plan.start) / plan.score.ticks_per_quarter
        self.bar = 4.0  # MidiTok without time signatures takes every bar for 4/4
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
        elif kind in CLOCKS:
            beats, part, resolution = (int(number) for number in value.split("."))
            self.time += beats + part / resolution
        self.done = token == EOS
        self.ids.append(token)
        return token

    def window(self, keep: int) -> list[int]:
        start = next((at for at in self.lines if len(self.ids) - at <= keep), max(len(self.ids) - keep, 0))
        return self.ids[start:]
