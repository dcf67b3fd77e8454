"""Excerpts of real music, and takes as long over the same chords: what judges compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ...config import updated
from ...errors import InputError, RunError
from ..data.corpus import Corpus
from ..data.likeness import Excerpt
from ..music.chords import spell
from ..music.score import Score
from ..run import Run, longest
from ..tokenizers import Tokenizer
from .perform import perform
from .settings import MOST_BARS, UNAIDED, GenerateSettings, temperatures
from .takes import Take

DEFAULT_BARS, DEFAULT_SECONDS = 32, 60
TOGETHER = 4  # takes over one progression


@dataclass(frozen=True)
class EvaluateSettings:
    """How to evaluate: on which music, and what to play."""

    split: str = "test"
    """The pieces to compare with: train, validation or test."""
    takes: int = 20
    """How many takes to play, without harmony and guard; 0 measures the likelihood and the real music only."""
    takes_dir: Path | None = None
    """Measure the .mid files of this folder instead of playing."""
    bars: int | None = None
    """How long takes and excerpts are, in bars (32 by default)."""
    seconds: int | None = None
    """How long takes and excerpts are where the tokens know no bars (60 by default)."""
    temperature: str = GenerateSettings.temperature
    """One temperature for all takes, or a range over them."""
    top_p: float = GenerateSettings.top_p
    """Draw only among the likeliest ids that together have this probability."""
    seed: int = 0
    """The first take's seed."""
    judge: Path | None = None
    """Another run, whose hidden states the Frechet distance compares; by default that of its base where the run is an
    adapter, else its own."""
    checkpoint: int | None = None
    """Evaluate one of the run's checkpoints instead of the best."""
    device: str = "auto"
    """Where models compute: cpu, cuda, cuda:1 or mps; auto is the GPU where there is one."""


def make_settings(settings: EvaluateSettings | None, changes: dict) -> EvaluateSettings:
    """Settings with changes, every value checked."""
    settings = updated(EvaluateSettings, settings, changes)
    if settings.takes < 0:
        raise InputError(f"--takes {settings.takes}: choose 0 (only the likelihood and the real music) or more")
    if settings.bars is not None and not 1 <= settings.bars <= MOST_BARS:
        raise InputError(f"--bars {settings.bars}: choose 1 to {MOST_BARS}")
    if settings.seconds is not None and not 1 <= settings.seconds <= 3600:
        raise InputError(f"--seconds {settings.seconds}: choose 1 to 3600")
    if settings.seed < 0:
        raise InputError(f"--seed {settings.seed}: choose 0 or more")
    temperatures(settings.temperature, 1)
    return settings


def refuse_other_tokens(run: Run, corpus: Corpus) -> None:
    """A RunError unless the ids of a run mean what those of the corpus do."""
    ours, theirs = corpus.tokenizer, run.tokenizer
    if theirs.fingerprint != ours.fingerprint:
        told = f"its tokens are {theirs.name} {theirs.fingerprint}, those of {corpus.folder} {ours.name}"
        raise RunError(run.folder, f"{told} {ours.fingerprint}; give the corpus it was trained on, or one like it")


def excerpt_length(tokenizer: Tokenizer, settings: EvaluateSettings) -> int:
    """How long takes and excerpts are: bars, or where the tokens know none, seconds."""
    if tokenizer.needs_bars and settings.seconds is not None:
        raise InputError(f"--seconds {settings.seconds}: {tokenizer.name} tokens count bars; give --bars")
    if not tokenizer.needs_bars and settings.bars is not None:
        raise InputError(f"--bars {settings.bars}: {tokenizer.name} tokens know no bars; give --seconds")
    return (settings.bars or DEFAULT_BARS) if tokenizer.needs_bars else (settings.seconds or DEFAULT_SECONDS)


def row_length(run: Run) -> int:
    """Ids in a row: as many as the run was trained with."""
    return run.facts["settings"].get("max_seq_len") or longest(run.folder) or 2048


def cut_excerpts(corpus: Corpus, split: str, length: int) -> tuple[list[Excerpt], int]:
    """The pieces of a split in excerpts of so many bars or seconds, and how many pieces are shorter than one.

    All is quantized as the tokens have it, like the takes. What is left over at a piece's end is not used; a shorter
    piece is one shorter excerpt. Silent excerpts are left out.
    """
    excerpts, short = [], 0
    for piece in corpus.split(split):
        score = _spelled(corpus.score(piece), corpus.tokenizer)
        windows = list(_windows(score, length))
        short += not windows
        excerpts += [Excerpt(piece, window) for window in windows or [score] if len(window.notes)]
    if not excerpts:
        raise InputError(f"--split {split}: its pieces have no notes; choose another split")
    return excerpts, short


def first(score: Score, tokenizer: Tokenizer, length: int) -> Score:
    """The beginning of a take, as long as an excerpt and quantized like it."""
    score = _spelled(score, tokenizer)
    return next(_windows(score, length), score)


def _spelled(score: Score, tokenizer: Tokenizer) -> Score:
    """A score as the tokens have it; where they know no bars, none are measured in it."""
    score = tokenizer.quantize(score)
    return score if tokenizer.needs_bars else score.freed()


def _windows(score: Score, length: int) -> Iterator[Score]:
    """One whole window after another: bars, or in free time seconds."""
    lines = score.seams()[::length]
    for start, stop in zip(lines[:-1].tolist(), lines[1:].tolist(), strict=True):
        yield score.slice(start, stop, cut=True)


def play(
    run: Run, excerpts: list[Excerpt], settings: EvaluateSettings, length: int, *, progress: Callable[[float], None]
) -> list[Take]:
    """Takes of a run from nothing: over the chords, tempo and metre of real excerpts, or where it knows no chords free.

    Nothing helps it with chords or out of loops. Four takes share a progression; the progressions come from excerpts
    that are evenly spread over the pieces.
    """
    common = {"bars": length} if run.tokenizer.needs_bars else {"seconds": length}
    common |= {"temperature": settings.temperature, "top_p": settings.top_p, "device": settings.device} | UNAIDED
    charted = [excerpt.score for excerpt in excerpts if run.knows_chords and len(excerpt.score.chords)]
    if not charted:
        return perform(run, takes=settings.takes, seed=settings.seed, progress=progress, **common)
    takes, groups, heat = [], -(-settings.takes // TOGETHER), temperatures(settings.temperature, settings.takes)
    for group, chosen in enumerate(np.linspace(0, len(charted) - 1, groups).round().astype(int)):
        count = min(TOGETHER, settings.takes - len(takes))
        report = partial(_part, progress, group / groups, 1 / groups)
        first, last = heat[len(takes)], heat[len(takes) + count - 1]
        asked = common | stage_of(charted[chosen]) | {"temperature": f"{first}:{last}"}
        asked |= {"takes": count, "seed": settings.seed + len(takes)}
        takes += perform(run, **asked, progress=report)
    return takes


def _part(progress: Callable[[float], None], start: float, size: float, share: float) -> None:
    progress(start + size * share)


def stage_of(score: Score) -> dict:
    """The chords of a score as a chart, a slot for each beat, and its first tempo and metre: keywords of `perform`.

    Free time has no bars: a chart bar is two seconds of it.
    """
    end, numerator, denominator = score.end, 4, 4
    if not score.free:
        _, numerator, denominator = score.metres[0].tolist()
    bars, beats = score.bars(end), score.beats(end)
    at = np.searchsorted(score.chords["tick"], beats[:-1], side="right") - 1
    names = np.array(["N.C.", *(spell(*chord.tolist()[1:]) for chord in score.chords)])[at + 1]
    cells = []
    for inside in np.split(names, np.searchsorted(beats, bars[1:-1])):
        kept = inside[1:] == inside[:-1]
        cells.append(" ".join([inside[0], *np.where(kept, "/", inside[1:]).tolist()]))
    bpm = float(np.clip(60e6 / score.tempos["usec"][0], 10, 500))
    return {"chords": f"| {' | '.join(cells)} |", "bpm": bpm, "metre": f"{numerator}/{denominator}"}
