"""The one decode loop: every token that is ever generated passes here.

It is the same for every model and engine, which differ in `step` alone (logits in, see step.py), and for every
tokenizer, which brings its grammar and clock. Each take has its own random generator and depends on nothing else, so
that a take comes out the same alone or among others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

import numpy as np

from ...config import Allowed, ShareBelowOne, check
from ...errors import InputError
from ..tokenizers import Grammar
from .guard import Guard
from .harmony import Harmony
from .settings import TopK, TopP

HOTTEST = 10  # temperature
COOLEST = 0.6  # what a take that has to get out of something is drawn at, at least


@dataclass(frozen=True)
class Sampling:
    """How an id is drawn from the logits: the filters hold together, in the order temperature, top_k, min_p, top_p."""

    temperature: Annotated[float, Allowed(0, HOTTEST, hint="0.8 is safe, 1.2 is wild")] = (
        1.0  # below 1 safer, above 1 wilder; 0 (below 0.001) always takes the likeliest
    )
    top_k: TopK = 0  # only the k likeliest; 0 for all
    top_p: TopP = 1.0  # only the likeliest that together have this probability
    min_p: ShareBelowOne = 0.0  # only ids at least this share as likely as the likeliest

    def __post_init__(self):
        check(self)


@dataclass
class Stream:
    """One take on its way: what came before, what the grammar has taken in, and how likely the model found it."""

    prompt: list[int]  # all that stands before the region
    prefix: list[int]  # what of it a moved window keeps: task, heads, what comes after a hole
    grammar: Grammar
    sampling: Sampling
    seed: int
    harmony: Harmony | None = None  # what the chords ask of the next id
    guard: Guard | None = None  # what takes it back to an earlier bar line
    log_likelihood: float = 0.0  # of the sampled ids, at temperature 1, in nats
    sampled: int = 0
    legal: float = 0.0  # sum of the probability mass on allowed ids
    sums: list[tuple[float, int, float]] = field(default_factory=list)  # these three before each id
    cut: int | None = None  # ids to keep, where a limit of ids ended the take at a bar line
    rng: np.random.Generator = field(init=False)

    def __post_init__(self):
        self.rng = np.random.default_rng(self.seed)

    @property
    def ids(self) -> list[int]:
        return self.grammar.ids[: self.cut]

    @property
    def warmer(self) -> float:
        """What the guard adds to the temperature for now."""
        return self.guard.warmer if self.guard else 0.0

    def stepped_back(self) -> bool:
        """Whether the guard has found the take aground, and it is back at an earlier bar line now."""
        keep = self.guard.look(self.grammar) if self.guard else None
        if keep is None:
            return False
        self.rewind(keep)
        self.guard.watch(self.grammar)
        return True

    def rewind(self, count: int) -> None:
        """Forget all but the first `count` ids. The random generator goes on: what follows is drawn anew."""
        self.grammar = self.grammar.rewound(count)
        self.log_likelihood, self.sampled, self.legal = self.sums[count]
        del self.sums[count:]


def probabilities(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """What is left of softmax(logits) after temperature and filters; sums to 1. logits: (n,) of the allowed ids."""
    if sampling.temperature < 1e-3:
        return (np.arange(len(logits)) == logits.argmax()).astype(np.float64)
    scaled = logits.astype(np.float64) / sampling.temperature
    chances = np.exp(scaled - scaled.max())
    chances /= chances.sum()
    keep = chances >= sampling.min_p * chances.max()
    if sampling.top_k and sampling.top_k < len(chances):
        keep &= chances >= np.partition(chances, -sampling.top_k)[-sampling.top_k]
    if sampling.top_p < 1:
        chances = np.where(keep, chances, 0)
        order = np.argsort(-chances, kind="stable")
        before = np.cumsum(chances[order]) - chances[order]
        keep[order[before >= sampling.top_p * chances.sum()]] = False
    chances = np.where(keep, chances, 0)
    return chances / chances.sum()


def in_time(logits: np.ndarray, sampling: Sampling, passes: np.ndarray) -> np.ndarray:
    """As `probabilities`, but when and how far time goes on (`passes`: at those ids) is as likely as the model has it.

    A hundred time shifts share what one note has alone. So a low temperature, or top_p, takes the most from them; time
    would stand still for ever more notes, which the next ones follow.
    """
    if sampling.temperature < 1e-3 or not passes.any():
        return probabilities(logits, sampling)
    chances = probabilities(logits, Sampling())
    if not passes.all():
        chances[~passes] = chances[~passes].sum() * probabilities(logits[~passes], sampling)
    return chances


def draw(stream: Stream, logits: np.ndarray, allowed: np.ndarray) -> int:
    """One id for a take, among the allowed ones (a mask)."""
    ids, sampling = np.flatnonzero(allowed), stream.sampling
    if stream.warmer:
        warm = max(sampling.temperature, COOLEST) + stream.warmer
        sampling = replace(sampling, temperature=min(warm, HOTTEST))
    left, passes = logits[ids], stream.grammar.passes
    chances = probabilities(left, sampling) if passes is None else in_time(left, sampling, passes[ids])
    place = int(np.searchsorted(np.cumsum(chances), stream.rng.random() * (1 - 1e-12), side="right"))
    return int(ids[min(place, len(ids) - 1)])


def advance(stream: Stream, logits: np.ndarray) -> int:
    """Write the next id of a take: forced where the plan has it, else drawn; and remember how likely it was."""
    grammar = stream.grammar
    stream.sums.append((stream.log_likelihood, stream.sampled, stream.legal))
    if grammar.forced is not None:
        return grammar.push(grammar.forced)
    allowed = grammar.allowed()
    logits = logits[: len(allowed)]  # a base from elsewhere may have more ids than we have words for
    weighed, left = logits, stream.guard.lifted(grammar, allowed) if stream.guard else allowed
    if stream.harmony:
        weighed, left = stream.harmony(grammar, weighed, left)
    if stream.guard:
        left = stream.guard.playable(grammar, left)
    drawn = draw(stream, weighed, left)
    entered = grammar.push(drawn)
    if entered == drawn:  # what the clock puts in instead was not the model's choice
        total = _log_sum(logits)
        stream.sampled += 1
        stream.legal += float(np.exp(_log_sum(logits[allowed]) - total))
        stream.log_likelihood += float(logits[drawn] - total)
    return entered


def _log_sum(logits: np.ndarray) -> float:
    top = float(logits.max())
    return top + float(np.log(np.exp(logits.astype(np.float64) - top).sum()))


def decode(
    step,
    streams: Sequence[Stream],
    *,
    context: int,
    max_length: int | None = None,
    watch: Callable[[int, Sequence[Stream]], None] | None = None,
) -> None:
    """Write all streams to their end, as one batch.

    `step` is an engine of step.py, for up to `context` ids. A take that outgrows it goes on from what `moved` keeps;
    that depends on the take alone. `max_length` ends a take at the last bar line before so many ids.
    """
    live, rows = list(streams), [list(stream.prompt) for stream in streams]
    longest = max(map(len, rows))
    if longest >= context:
        raise InputError(f"the prompt has {longest} ids, the model's context {context}; give a shorter prompt")
    logits, written = step.start(rows), 0
    while True:
        ids = np.array([advance(stream, row) for stream, row in zip(live, logits, strict=True)])
        for row, token in zip(rows, ids.tolist(), strict=True):
            row.append(token)
        longest, written = longest + 1, written + 1
        back = [place for place, stream in enumerate(live) if stream.stepped_back()]
        for place in back:
            rows[place] = [*live[place].prompt, *live[place].ids]
        for stream in live:
            _stop_at(stream, max_length)
        if watch:
            watch(written, streams)
        stay = [place for place, stream in enumerate(live) if not (stream.grammar.done or stream.cut is not None)]
        if not stay:
            return
        if len(stay) < len(live):
            live, rows, ids = [live[place] for place in stay], [rows[place] for place in stay], ids[stay]
            step.keep(stay)
        if longest < context and not back:
            logits = step(ids)
            continue
        rows = [row if len(row) < context else moved(stream, context) for row, stream in zip(rows, live, strict=True)]
        logits, longest = step.start(rows), max(map(len, rows))


def moved(stream: Stream, context: int) -> list[int]:
    """What a take that has outgrown its context goes on from: its prefix and the last bars that fill half of what it
    leaves, since the music after a region, which stands in the prefix, may be half a context long."""
    return stream.prefix + stream.grammar.window((context - len(stream.prefix)) // 2)


def _stop_at(stream: Stream, max_length: int | None) -> None:
    """End a take that has reached its limit of ids at the last bar line it passed; the first bar may be longer."""
    grammar = stream.grammar
    if max_length is not None and len(grammar.ids) >= max_length and not grammar.done and grammar.lines[-1] > 0:
        stream.cut = grammar.lines[-1]
