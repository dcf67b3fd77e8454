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

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

from ... import __version__
from ...config import flag, given
from ...errors import InputError
from ...jobs import find_device, free_threads, threads
from ..data.corpus import SPLITS, Corpus, open_corpus
from ..data.likeness import Excerpt, compare_hidden, compare_histograms, compare_measures, overall
from ..data.take_files import takes_in
from ..music.midi import read_midi
from ..music.score import Score
from ..playing.excerpts import (
    EvaluateSettings,
    cut_excerpts,
    excerpt_length,
    first,
    make_settings,
    play,
    refuse_other_tokens,
    row_length,
)
from ..playing.takes import Take
from ..run import ADAPTER, Run, base_run, open_run
from .likelihood import hidden_state, likelihood

PLAYING = {"takes", "temperature", "top_p", "seed"}  # settings of takes that are played now


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
    if settings.takes_dir and (unused := PLAYING & given(settings).keys()):
        raise InputError(f"{flag(min(unused))} is for takes that are played now; leave it out with --takes-dir")
    run = run if isinstance(run, Run) else open_run(run, settings.checkpoint)
    corpus = corpus if isinstance(corpus, Corpus) else open_corpus(corpus)
    judge = open_run(settings.judge) if settings.judge else _own_judge(run)
    _refuse_unfit(run, corpus, judge, settings)
    report = progress or (lambda share, text: None)
    length = excerpt_length(corpus.tokenizer, settings)
    excerpts, short = cut_excerpts(corpus, settings.split, length)
    files = _read_takes(settings.takes_dir) if settings.takes_dir else {}
    device = find_device(settings.device, apple=True)
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
    """The takes below a folder by their names in it."""
    paths = takes_in(folder)
    if not paths:
        raise InputError(f"--takes-dir {folder}: no MIDI files in it; give a folder of takes")
    return {path.relative_to(folder).as_posix(): read_midi(path) for path in paths}


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
