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

from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated

from ... import __version__
from ...config import Allowed, NotNegative, check, flag, given, updated
from ...errors import InputError
from ...jobs import find_device, free_threads, threads
from ...progress import Progress, Reporter, part, unheard
from ..data.corpus import SPLITS, Corpus, open_corpus
from ..data.take_files import read_stretch, takes_in
from ..music.score import Score
from ..playing.excerpts import Excerpt, cut_excerpts, first, play, refuse_other_tokens
from ..playing.settings import MOST_BARS, MOST_SECONDS, GenerateSettings, TopP, temperatures
from ..playing.takes import Take
from ..run import ADAPTER, Run, base_run, open_run
from ..tokenizers import Tokenizer
from .likelihood import hidden_state, likelihood
from .likeness import compare_hidden, compare_histograms, compare_measures, overall

PLAYING = {"takes", "temperature", "top_p", "seed"}  # settings of takes that are played now
DEFAULT_BARS, DEFAULT_SECONDS = 32, 60


@dataclass(frozen=True)
class EvaluateSettings:
    """How to evaluate: on which music, and what to play."""

    split: str = "test"
    """The pieces to compare with: train, validation or test."""
    takes: NotNegative[int] = 20
    """How many takes to play, without harmony and guard; 0 measures the likelihood and the real music only."""
    takes_dir: Path | None = None
    """Measure the .mid files of this folder instead of playing."""
    bars: Annotated[int, Allowed(1, MOST_BARS)] | None = None
    """How long takes and excerpts are, in bars (32 by default)."""
    seconds: Annotated[int, Allowed(1, MOST_SECONDS)] | None = None
    """How long takes and excerpts are where the tokens know no bars (60 by default)."""
    temperature: str = GenerateSettings.temperature
    """One temperature for all takes, or a range over them."""
    top_p: TopP = GenerateSettings.top_p
    """Draw only among the likeliest ids that together have this probability."""
    seed: NotNegative[int] = 0
    """The first take's seed."""
    judge: Path | None = None
    """Another run, whose hidden states the Frechet distance compares; by default that of its base where the run is an
    adapter, else its own."""
    checkpoint: int | None = None
    """Evaluate one of the run's checkpoints instead of the best."""
    device: str = "auto"
    """Where models compute: cpu, cuda, cuda:1 or mps; auto is the GPU where there is one, but the CPU to play takes of
    a model of less than 50 million parameters."""

    def __post_init__(self):
        check(self)
        temperatures(self.temperature, 1)

    @property
    def playing(self) -> dict:
        """How takes are played, as keywords of `excerpts.play`."""
        return {name: getattr(self, name) for name in (*PLAYING, "device")}


def excerpt_length(tokenizer: Tokenizer, settings: EvaluateSettings) -> int:
    """How long takes and excerpts are: bars, or where the tokens know none, seconds."""
    if tokenizer.needs_bars and settings.seconds is not None:
        raise InputError(f"--seconds {settings.seconds}: {tokenizer.name} tokens count bars; give --bars")
    if not tokenizer.needs_bars and settings.bars is not None:
        raise InputError(f"--bars {settings.bars}: {tokenizer.name} tokens know no bars; give --seconds")
    return (settings.bars or DEFAULT_BARS) if tokenizer.needs_bars else (settings.seconds or DEFAULT_SECONDS)


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
    report: Reporter = unheard,
    **changes,
) -> Evaluation:
    """Compare a run with the music of a split of a corpus that has the same tokens.

    Settings may be given as keywords; `report` hears the Progress. With chords in the corpus, takes are
    played over those of real excerpts, so that adherence compares like with like. Nothing is written:
    `evaluate_page.save` does. Raises InputError for settings that cannot work and a split without pieces, RunError for
    a run or judge that does not fit the corpus.
    """
    settings = updated(EvaluateSettings, settings, changes)
    if settings.takes_dir and (unused := PLAYING & given(settings).keys()):
        raise InputError(f"{flag(min(unused))} is for takes that are played now; leave it out with --takes-dir")
    run = open_run(run, settings.checkpoint)
    corpus = open_corpus(corpus)
    judge = open_run(settings.judge) if settings.judge else _own_judge(run)
    _refuse_unfit(run, corpus, judge, settings)
    length = excerpt_length(corpus.tokenizer, settings)
    excerpts, short = cut_excerpts(corpus, settings.split, length)
    files = _read_takes(settings.takes_dir) if settings.takes_dir else {}
    device = find_device(settings.device, apple=True)
    model, rows = run.model(merge=True, device=device), corpus.evaluation_rows(settings.split, run.row_length)
    with threads(free_threads()):
        nats = likelihood(model, rows, corpus.tokenizer, report=part(report, 0, 0.3))
    played = []
    if settings.takes and not files:
        music = [excerpt.score for excerpt in excerpts]
        played = play(run, music, length, report=part(report, 0.3, 0.9), **settings.playing)
    named = files or {f"seed {take.seed}, temperature {take.temperature:g}": take.score for take in played}
    takes = [first(score, corpus.tokenizer, length) for score in named.values()]
    facts = _heading(run, corpus, settings, length) | {"likelihood": nats}
    paths = [corpus.pieces[excerpt.piece].path for excerpt in excerpts]
    facts["excerpts"] = {"count": len(paths), "pieces": len(set(paths)), "short_pieces": short, "paths": paths}
    facts["takes"] = _take_counts(takes, length, played) | {"names": list(named)}
    facts["measures"] = compare_measures(takes, excerpts)
    facts |= {"overall": overall(facts["measures"]), "histograms": compare_histograms(takes, excerpts)}
    report(Progress(0.9, "hidden states"))
    if takes:
        judging = model if judge is run else judge.model(merge=True, device=device)
        pool = partial(hidden_state, judging, judge.tokenizer, judge.row_length)
        with threads(free_threads()):
            facts["frechet"] = {"judge": judge.folder.name} | compare_hidden(takes, excerpts, pool)
    report(Progress(1.0))
    return Evaluation(facts, takes, excerpts, played)


def _own_judge(run: Run) -> Run:
    """The base that an adapter is over, which hears all its adapters alike; else the run itself."""
    adapted = (run.weights / ADAPTER).exists()
    return (base_run(run) if adapted else None) or run


def _refuse_unfit(run: Run, corpus: Corpus, judge: Run, settings: EvaluateSettings) -> None:
    refuse_other_tokens(run, corpus)
    refuse_empty(corpus, settings.split)
    if judge.tokenizer.needs_bars and not corpus.tokenizer.needs_bars:
        raise InputError(f"--judge {judge.folder} needs bars, and these takes have none; choose a run without bars")


def refuse_empty(corpus: Corpus, split: str) -> None:
    """An InputError for a split without pieces."""
    if not corpus.split(split):
        full = " or ".join(name for name in SPLITS if corpus.split(name))
        raise InputError(f"--split {split}: {corpus.folder} has no pieces in it; choose {full}")


# --- the music that is compared --------------------------------------------------------------------------------


def _read_takes(folder: Path) -> dict[str, Score]:
    """The takes below a folder by their names in it; of one in a file, what was written."""
    paths = takes_in(folder)
    if not paths:
        raise InputError(f"--takes-dir {folder}: no MIDI files in it; give a folder of takes")
    return {path.relative_to(folder).as_posix(): read_stretch(path) for path in paths}


# --- what is told ----------------------------------------------------------------------------------------------


def _heading(run: Run, corpus: Corpus, settings: EvaluateSettings, length: int) -> dict:
    asked = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(settings).items()}
    if settings.takes_dir:  # nobody knows how those were played
        asked = {name: value for name, value in asked.items() if name not in PLAYING}
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
