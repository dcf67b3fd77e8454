"""The one decode loop: every token that is ever generated passes here.

It is the same for every model and engine, which differ in `step` alone (logits in, see step.py), and for every
tokenizer, which brings its grammar and clock. Each take has its own random generator and depends on nothing else, so
that a take comes out the same alone or among others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..errors import InputError
from .tokenizers import Grammar


@dataclass(frozen=True)
class Sampling:
    """How an id is drawn from the logits: the filters hold together, in the order temperature, top_k, min_p, top_p."""

    temperature: float = 1.0  # below 1 safer, above 1 wilder; 0 (below 0.001) always takes the likeliest
    top_k: int = 0  # only the k likeliest; 0 for all
    top_p: float = 1.0  # only the likeliest that together have this probability
    min_p: float = 0.0  # only ids at least this share as likely as the likeliest

    def __post_init__(self):
        if not 0 <= self.temperature <= 10:
            raise InputError(f"--temperature {self.temperature}: choose 0 to 10 (0.8 is safe, 1.2 is wild)")
        if not 0 < self.top_p <= 1:
            raise InputError(f"--top-p {self.top_p}: choose above 0, at most 1")
        if not 0 <= self.min_p < 1:
            raise InputError(f"--min-p {self.min_p}: choose 0 to below 1")
        if self.top_k < 0:
            raise InputError(f"--top-k {self.top_k}: choose 0 (all) or more")


@dataclass
class Stream:
    """One take on its way: what came before, what the grammar has taken in, and how likely the model found it."""

    prompt: list[int]  # all that stands before the region
    prefix: list[int]  # what of it a moved window keeps: task, heads, what comes after a hole
    grammar: Grammar
    sampling: Sampling
    seed: int
    log_likelihood: float = 0.0  # of the sampled ids, at temperature 1, in nats
    sampled: int = 0
    legal: float = 0.0  # sum of the probability mass on allowed ids
    cut: int | None = None  # ids to keep, where a limit of ids ended the take at a bar line
    rng: np.random.Generator = field(init=False)

    def __post_init__(self):
        self.rng = np.random.default_rng(self.seed)

    @property
    def ids(self) -> list[int]:
        return self.grammar.ids[: self.cut]


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


def draw(stream: Stream, logits: np.ndarray) -> int:
    """One id for a take: forced where the plan has it, else sampled among the ids the grammar allows."""
    grammar = stream.grammar
    if grammar.forced is not None:
        return grammar.forced
    allowed = np.flatnonzero(grammar.allowed())
    total = _log_sum(logits)
    inside = logits[allowed]
    chances = probabilities(inside, stream.sampling)
    place = int(np.searchsorted(np.cumsum(chances), stream.rng.random() * (1 - 1e-12), side="right"))
    place = min(place, len(allowed) - 1)
    stream.sampled += 1
    stream.legal += float(np.exp(_log_sum(inside) - total))
    stream.log_likelihood += float(inside[place] - total)
    return int(allowed[place])


def _log_sum(logits: np.ndarray) -> float:
    top = float(logits.max())
    return top + float(np.log(np.exp(logits.astype(np.float64) - top).sum()))


def decode(
    step,
    streams: Sequence[Stream],
    *,
    context: int,
    max_length: int | None = None,
    progress: Callable[[int, Sequence[Stream]], None] | None = None,
) -> None:
    """Write all streams to their end, as one batch.

    `step` is an engine of step.py. When a stream outgrows `context` ids, all of them start again from their prefix and
    the last bars that fill half of it. `max_length` ends a take at the last bar line before so many ids.
    """
    live = list(streams)
    lengths = _start_lengths(live, context)
    logits = step.start([stream.prompt for stream in live])
    written = 0
    while live:
        ids = np.array([stream.grammar.push(draw(stream, row)) for stream, row in zip(live, logits, strict=True)])
        written += 1
        lengths += 1
        for stream in live:
            _stop_at(stream, max_length)
        stay = [row for row, stream in enumerate(live) if not (stream.grammar.done or stream.cut)]
        if progress:
            progress(written, streams)
        if len(stay) < len(live):
            live, ids, lengths = [live[row] for row in stay], ids[stay], lengths[stay]
            if not live:
                return
            step.keep(stay)
        if lengths.max() >= context:
            rows = [stream.prefix + stream.grammar.window(context // 2 - len(stream.prefix)) for stream in live]
            lengths = np.array([len(row) for row in rows])
            logits = step.start(rows)
        else:
            logits = step(ids)


def _start_lengths(streams: Sequence[Stream], context: int) -> np.ndarray:
    lengths = np.array([len(stream.prompt) for stream in streams])
    if lengths.max() >= context:
        raise InputError(f"the prompt has {lengths.max()} ids, the model's context {context}; give a shorter prompt")
    return lengths


def _stop_at(stream: Stream, max_length: int | None) -> None:
    """End a take that has reached its limit of ids, at the last bar line it passed."""
    grammar = stream.grammar
    if max_length is not None and len(grammar.ids) >= max_length and not grammar.done:
        stream.cut = (grammar.starts[-1] if grammar.starts else 0) or len(grammar.ids)
