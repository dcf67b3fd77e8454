"""Evaluate: a run beside music it has not learned, by its likelihood and by what it plays.

Three questions, each with its own yardstick:

- how well does it expect the music of a split: nats per token, note and second, by kind of token, by place in the row
- are takes like excerpts of that music: every measure of measure.py, with the share of takes that lies between the 5th
  and 95th percentile of the excerpts, beside the share of real pieces that do when they are left out themselves
- are the two alike as a whole: histograms of single notes (an overlapped area and a KL divergence as in Yang and Lerch
  2020, "On the evaluation of generative models in music", but of the notes themselves, with no kernel), and a Frechet
  distance between hidden states (Heusel et al. 2017); both beside the same figure of the real pieces in two halves

    evaluate("my-style", "corpus", takes=20) -> Evaluation
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from .. import __version__
from ..config import updated
from ..errors import InputError, RunError
from ..jobs import free_threads, threads
from .chords import spell
from .corpus import Corpus, open_corpus
from .generate import generate
from .generate_settings import MOST_BARS, UNAIDED, GenerateSettings, temperatures
from .likelihood import hidden_state, likelihood
from .likeness import Excerpt, compare_hidden, compare_histograms, compare_measures, overall
from .midi import read_midi
from .run import Run, longest, open_run
from .score import Score
from .takes import Take
from .tokenizers import Tokenizer

DEFAULT_BARS, DEFAULT_SECONDS = 32, 60
TOGETHER = 4  # takes over one progression


@dataclass(frozen=True)
class EvaluateSettings:
    """How to evaluate: on which music, and what to play."""

    split: str = "test"
    """The pieces to compare with: train, validation or test."""
    takes: int = 20
    """How many takes to play; 0 measures the likelihood and the real music only."""
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
    """Another run, whose hidden states the Frechet distance compares; by default the run's own."""
    checkpoint: int | None = None
    """Evaluate one of the run's checkpoints instead of the best."""


@dataclass(frozen=True)
class Evaluation:
    """What was found: `facts` for JSON; the music that it was found in."""

    facts: dict
    takes: list[Score] = field(repr=False)
    excerpts: list[Excerpt] = field(repr=False)
    played: list[Take] = field(repr=False)  # the takes with their seeds; none where they came from a folder


def evaluate(
    run: Run | str | Path,
    corpus: Corpus | str | Path,
    settings: EvaluateSettings | None = None,
    *,
    progress: Callable[[float, str], None] | None = None,
    **changes,
) -> Evaluation:
    """Compare a run with the music of a split of a corpus that has the same tokens.

    Settings may be given as keywords; `progress` is called with the share that is done and what is being done. With
    chords in the corpus, takes are played over those of real excerpts, so that adherence compares like with like.
    Nothing is written: `evaluate_page.save` does. Raises InputError for settings that cannot work and a split
    without pieces, RunError for a run or judge that does not fit the corpus.
    """
    settings = make_settings(settings, changes)
    run = run if isinstance(run, Run) else open_run(run, settings.checkpoint)
    corpus = corpus if isinstance(corpus, Corpus) else open_corpus(corpus)
    judge = open_run(settings.judge) if settings.judge else run
    _refuse_unfit(run, corpus, judge, settings)
    report = progress or (lambda share, text: None)
    length = excerpt_length(corpus.tokenizer, settings)
    excerpts, short = cut_excerpts(corpus, settings.split, length)
    files = _read_takes(settings.takes_dir) if settings.takes_dir else {}
    device = device_here()
    model, rows = run.model(merge=True, device=device), corpus.evaluation_rows(settings.split, row_length(run))
    with threads(free_threads()):
        nats = likelihood(model, rows, corpus.tokenizer, progress=lambda share: report(0.3 * share, "likelihood"))
    played = []
    if settings.takes and not files:
        played = play(run, excerpts, settings, length, progress=lambda share: report(0.3 + 0.6 * share, "takes"))
    named = files or {f"seed {take.seed}, temperature {take.temperature:g}": take.score for take in played}
    takes = [first(score, corpus.tokenizer, length) for score in named.values()]
    facts = _heading(run, corpus, settings, length) | {"likelihood": nats}
    paths = [corpus.pieces[excerpt.piece].path for excerpt in excerpts]
    facts["excerpts"] = {"count": len(paths), "pieces": len(set(paths)), "short_pieces": short, "paths": paths}
    facts["takes"] = _take_counts(takes, length, played) | {"names": list(named)}
    facts["measures"] = compare_measures(takes, excerpts)
    facts |= {"overall": overall(facts["measures"]), "histograms": compare_histograms(takes, excerpts)}
    report(0.9, "hidden states")
    if takes:
        judging = model if judge is run else judge.model(merge=True, device=device)
        pool = partial(hidden_state, judging, judge.tokenizer, row_length(judge))
        with threads(free_threads()):
            facts["frechet"] = {"judge": judge.folder.name} | compare_hidden(takes, excerpts, pool)
    report(1.0, "")
    return Evaluation(facts, takes, excerpts, played)


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


def _refuse_unfit(run: Run, corpus: Corpus, judge: Run, settings: EvaluateSettings) -> None:
    refuse_other_tokens(run, corpus)
    if not corpus.split(settings.split):
        full = [name for name in ("train", "validation", "test") if corpus.split(name)]
        raise InputError(f"--split {settings.split}: {corpus.folder} has no pieces in it; choose {' or '.join(full)}")
    if judge.tokenizer.needs_bars and not corpus.tokenizer.needs_bars:
        raise InputError(f"--judge {judge.folder} needs bars, and these takes have none; choose a run without bars")


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


def device_here() -> str:
    """The accelerator where there is one, else the CPU."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


# --- the music that is compared --------------------------------------------------------------------------------


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


def _read_takes(folder: Path) -> dict[str, Score]:
    """The MIDI files below a folder by their names in it."""
    folder = Path(folder)
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".mid", ".midi"))
    if not paths:
        raise InputError(f"--takes-dir {folder}: no MIDI files in it; give a folder of takes")
    return {path.relative_to(folder).as_posix(): read_midi(path) for path in paths}


def play(
    run: Run, excerpts: list[Excerpt], settings: EvaluateSettings, length: int, *, progress: Callable[[float], None]
) -> list[Take]:
    """Takes of a run from nothing: over the chords, tempo and metre of real excerpts, or where it knows no chords free.

    Nothing helps it with chords or out of loops. Four takes share a progression; the progressions come from excerpts
    that are evenly spread over the pieces.
    """
    common = {"bars": length} if run.tokenizer.needs_bars else {"seconds": length}
    common |= {"temperature": settings.temperature, "top_p": settings.top_p} | UNAIDED
    knows = run.facts.get("music", {}).get("chords", run.tokenizer.knows_chords)
    charted = [excerpt.score for excerpt in excerpts if len(excerpt.score.chords)] if knows else []
    if not charted:
        return generate(run, takes=settings.takes, seed=settings.seed, progress=progress, **common)
    takes, groups = [], -(-settings.takes // TOGETHER)
    for group, chosen in enumerate(np.linspace(0, len(charted) - 1, groups).round().astype(int)):
        count = min(TOGETHER, settings.takes - len(takes))
        report = partial(_part, progress, group / groups, 1 / groups)
        asked = common | stage_of(charted[chosen]) | {"takes": count, "seed": settings.seed + len(takes)}
        takes += generate(run, **asked, progress=report)
    return takes


def _part(progress: Callable[[float], None], start: float, size: float, share: float) -> None:
    progress(start + size * share)


def stage_of(score: Score) -> dict:
    """The chords of a score as a chart, a slot for each beat, and its first tempo and metre: keywords of `generate`.

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


# --- what is told ----------------------------------------------------------------------------------------------


def _heading(run: Run, corpus: Corpus, settings: EvaluateSettings, length: int) -> dict:
    asked = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(settings).items()}
    facts = {"woodshed": __version__, "run": run.folder.name, "corpus": corpus.folder.name, "split": settings.split}
    facts |= {"fingerprint": corpus.fingerprint, "length": length}
    facts |= {"unit": "bars" if corpus.tokenizer.needs_bars else "seconds", "tokenizer": corpus.tokenizer.name}
    remarks = []
    if run.facts.get("corpus") != corpus.fingerprint:
        remarks.append("The run was trained on another corpus: it may have learned some of these pieces.")
    elif settings.split == "train":
        remarks.append("The run has learned these very pieces.")
    elif settings.split == "validation":
        remarks.append("The run's weights were chosen by their loss on these pieces.")
    return facts | {"remarks": remarks, "settings": asked}


def _take_counts(takes: list[Score], length: int, played: list[Take]) -> dict:
    short = sum(len(take.seams()) <= length for take in takes)
    told = {"count": len(takes), "silent": sum(not len(take.notes) for take in takes), "short": short}
    charts = list(dict.fromkeys(take.settings["chords"] for take in played if "chords" in take.settings))
    return told | ({"charts": charts} if charts else {})
