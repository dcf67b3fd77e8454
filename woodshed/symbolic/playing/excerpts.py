"""Excerpts of real music, and takes as long over the same chords: what judges compare."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...errors import InputError, RunError
from ...progress import Reporter, part, unheard
from ..data.corpus import Corpus
from ..music.chords import chords_at, merged
from ..music.score import Score
from ..run import Run
from ..tokenizers import Tokenizer
from .chart import chart
from .perform import perform, stepping
from .settings import UNAIDED, GenerateSettings, temperatures
from .takes import Take

if TYPE_CHECKING:
    from .step import Step

TOGETHER = 4  # takes over one progression


class Excerpt(NamedTuple):
    """A stretch of a real piece, as the tokens spell it."""

    piece: int
    score: Score


def refuse_other_tokens(run: Run, corpus: Corpus) -> None:
    """A RunError unless the ids of a run mean what those of the corpus do."""
    ours, theirs = corpus.tokenizer, run.tokenizer
    if theirs.fingerprint != ours.fingerprint:
        told = f"its tokens are {theirs.name} {theirs.fingerprint}, those of {corpus.folder} {ours.name}"
        raise RunError(run.folder, f"{told} {ours.fingerprint}; give the corpus it was trained on, or one like it")


def cut_excerpts(corpus: Corpus, split: str, length: int) -> tuple[list[Excerpt], int]:
    """The pieces of a split in excerpts of so many bars or seconds, and how many pieces are shorter than one.

    All is quantized as the tokens have it, like the takes. What is left over at a piece's end is not used; a shorter
    piece is one shorter excerpt. Silent excerpts are left out.
    """
    excerpts, short = [], 0
    for piece in corpus.split(split):
        score = _spelled(corpus.score(piece), corpus.tokenizer)
        short += len(score.seams()) <= length
        excerpts += [Excerpt(piece, window) for window in _windows(score, length) if len(window.notes)]
    if not excerpts:
        raise InputError(f"--split {split}: its pieces have no notes; choose another split")
    return excerpts, short


def windows(scores: Iterable[Score], tokenizer: Tokenizer, length: int) -> list[Score]:
    """Any scores in excerpts, as `cut_excerpts` cuts those of a corpus."""
    spelled = (_spelled(score, tokenizer) for score in scores)
    return [window for score in spelled for window in _windows(score, length) if len(window.notes)]


def first(score: Score, tokenizer: Tokenizer, length: int) -> Score:
    """The beginning of a take, as long as an excerpt and quantized like it."""
    return next(_windows(_spelled(score, tokenizer), length))


def _spelled(score: Score, tokenizer: Tokenizer) -> Score:
    """A score as the tokens have it; where they know no bars, none are measured in it."""
    score = tokenizer.quantize(score)
    return score if tokenizer.needs_bars else score.freed()


def _windows(score: Score, length: int) -> Iterator[Score]:
    """One whole window after another, of bars or in free time of seconds; or all of it, where it is shorter."""
    lines = score.seams()[::length]
    if len(lines) == 1:
        yield score
    for start, stop in zip(lines[:-1].tolist(), lines[1:].tolist(), strict=True):
        yield score.slice(start, stop, cut=True)


def play(
    run: Run,
    excerpts: list[Score],
    length: int,
    *,
    takes: int,
    seed: int,
    temperature: str = GenerateSettings.temperature,
    top_p: float = GenerateSettings.top_p,
    device: str = "auto",
    step: Step | None = None,
    report: Reporter = unheard,
) -> list[Take]:
    """Takes of a run from nothing: over the chords, tempo and metre of real excerpts, or where it knows no chords free.

    Nothing helps it with chords or out of loops. Four takes share a progression; the progressions come from excerpts
    that are evenly spread over the pieces. `step` is as in `perform`; all takes share one.
    """
    common = {"bars": length} if run.tokenizer.needs_bars else {"seconds": length}
    common |= {"temperature": temperature, "top_p": top_p, "device": device} | UNAIDED
    common |= {"step": step or stepping(run, device)}
    charted = [excerpt for excerpt in excerpts if run.knows_chords and len(excerpt.chords)]
    if not charted:
        return perform(run, takes=takes, seed=seed, report=report, **common)
    played, groups, heat = [], -(-takes // TOGETHER), temperatures(temperature, takes)
    for group, chosen in enumerate(np.linspace(0, len(charted) - 1, groups).round().astype(int)):
        count = min(TOGETHER, takes - len(played))
        first, last = heat[len(played)], heat[len(played) + count - 1]
        asked = common | stage_of(charted[chosen]) | {"temperature": f"{first}:{last}"}
        asked |= {"takes": count, "seed": seed + len(played)}
        played += perform(run, **asked, report=part(report, group / groups, (group + 1) / groups))
    return played


def stage_of(score: Score) -> dict:
    """The chords at the beats of a score as a chart, and its first tempo and metre: keywords of `perform`.

    Free time has no bars: a chart bar is two seconds of it.
    """
    end, numerator, denominator = score.end, 4, 4
    if not score.free:
        _, numerator, denominator = score.metres[0].tolist()
    bars, beats = score.bars(end), score.beats(end)
    held = chords_at(score.chords, beats[:-1])
    held["tick"] = beats[:-1]
    bpm = float(np.clip(60e6 / score.tempos["usec"][0], 10, 500))
    return {"chords": chart(merged(held), bars), "bpm": bpm, "metre": f"{numerator}/{denominator}"}
