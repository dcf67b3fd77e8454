"""Rank takes: best first, and no two that are nearly the same on top.

    for ranked in rank("my-style", "my-style/takes/001"):
        print(ranked.take, ranked)      # take-3.mid 0.91 keeps to the chords .93, bars return .31; a little dense

Everything is compared with excerpts of the musician's own pieces, as `critic.py` stored them. In each measure a take is
as far off as it lies outside the middle two thirds of the excerpts, in half-widths of these: 0 inside, never more than
5. Too much is as bad as too little (a model is sure of loops and surprised by chance), but nothing can be too well in
its chords. Measures come together in CRITERIA, each the mean of its measures (repetition but where
sections were asked to come back), and the score is

    exp(-mean over the criteria that apply) * typical       1: like the musician's own pieces in everything; 0: no notes

`typical` being the style critic's probability that it is one of them. Without a critic and a corpus to make one from,
as with base models, the excerpts are real music in general, `typical` is 1, and a take that the guard could not put
right goes down.

Then takes are chosen one after another by score * (1 - 0.5 * the closest overlap with those chosen before), in the way
of maximal marginal relevance (Carbonell and Goldstein 1998, "The use of MMR, diversity-based reranking").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import FileError, InputError
from ...jobs import free_threads, threads
from ...progress import Progress, Reporter, part, unheard
from ...statistics import mean_known
from ..data.corpus import Corpus, find_corpus, open_corpus
from ..data.originality import Index
from ..data.take_files import read_stretch, read_written, take_facts, takes_in
from ..music.chords import pitched
from ..music.measure import measure
from ..music.score import Score
from ..run import Run, open_run
from .critic import LOGIT, NATS, Critic, Ears, keep_critic, open_critic, sigmoid, unlearned
from .excerpts import windows
from .harmony import CARRYING
from .takes import Take

CRITERIA = {
    "likelihood": (NATS,),
    "chords": ("chord_adherence", "strong_beat_adherence", "bass_adherence"),
    "repetition": ("recurrence", "repeated_bars", "self_similarity_1", "self_similarity_2", "self_similarity_4"),
    "statistics": (
        *("notes_per_bar", "notes_per_second", "polyphony", "pitch_range"),
        *("pitch_class_entropy", "scale_consistency", "groove_consistency", "empty_bars"),
    ),
}
ORIGINALITY, STYLE, GUARD = "originality", "style", "guard"
UPWARD = {*CRITERIA["chords"], LOGIT}  # never too much of these
FARTHEST = 5.0
MIDDLE = (100 / 6, 50, 500 / 6)  # percentiles
LIKENESS = 0.5  # the share that a take equal to one chosen before loses
NEARLY = 0.5  # overlap from which it is told
FREE_GRID, GRID = 0.1, 1 / 12  # what counts as the same moment: seconds, quarters
WORDS = {
    NATS: ("predictable", "erratic"),
    "chord_adherence": ("off its chords", ""),
    "strong_beat_adherence": ("off its chords on strong beats", ""),
    "bass_adherence": ("bass off the roots", ""),
    "recurrence": ("hardly a bar returns", "repetitive"),
    "repeated_bars": ("no bar repeated", "stuck in one bar"),
    "self_similarity_1": ("every bar different", "repetitive"),
    "self_similarity_2": ("restless", "repetitive"),
    "self_similarity_4": ("no period of four bars", "repetitive"),
    "notes_per_bar": ("sparse", "dense"),
    "notes_per_second": ("slow", "busy"),
    "polyphony": ("thin", "thick"),
    "pitch_range": ("narrow in range", "wide in range"),
    "pitch_class_entropy": ("poor in pitches", "chromatic"),
    "scale_consistency": ("outside any scale", "strictly in its scale"),
    "groove_consistency": ("uneven in rhythm", "stiff in rhythm"),
    "empty_bars": ("without rests", "full of gaps"),
    LOGIT: ("unlike your pieces", ""),
}


class Candidate(NamedTuple):
    """What is to be ranked, whether a take just played, any score or a file."""

    take: Take | Score | str | Path
    score: Score  # what is judged: of a take with a prompt what was written, among what sounds beside it
    facts: dict  # what a take says of how it was asked for; of other music nothing
    flagged: bool | None = None  # whether a take says itself that it repeats too much of its corpus
    path: str = ""  # of a file


@dataclass(frozen=True)
class Ranked:
    """A take with its score, 0 to 1, and why: in a musician's words, and in numbers."""

    take: Take | Score | Path
    score: float
    reasons: str
    off: dict[str, float] = field(repr=False)  # by criterion, how far outside the musician's own: 0 to 5; style in nats
    measures: dict[str, float] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.score:.2f} {self.reasons}"


def rank(
    run: Run | str | Path,
    takes: str | Path | Sequence[Take | Score | str | Path],
    *,
    corpus: Corpus | str | Path | None = None,
    critic: Critic | None = None,
    index: Index | None = None,
    best: int | None = None,
    device: str = "auto",
    report: Reporter = unheard,
) -> list[Ranked]:
    """Takes, scores or MIDI files (or all of a folder), best first; only so many with `best`.

    Bars of files are those that the files state; of takes with a prompt only what was written is judged. The run's
    critic is made, and kept in its folder, where it has none, has learned since, or `corpus` is another than it was
    made from; or give a `critic`. Without critic and corpus takes are judged by what is usual in real music
    (`critic.unlearned`). A Take that is flagged for repeating more of its corpus than the musician does goes down; so
    does any other, by an originality `index` of the corpus. `device` is where the models compute.

    Raises InputError where there is nothing to rank, RunError for a corpus of other tokens, FileError for what cannot
    be read.
    """
    run = open_run(run)
    takes = takes_in(takes) if isinstance(takes, str | Path) else list(takes)
    if not takes:
        raise InputError("no takes to rank; give a folder that holds .mid files")
    if best is not None and best < 1:
        raise InputError(f"--best {best}: choose 1 or more")
    candidates = [_candidate(take) for take in takes]
    if run.tokenizer.needs_bars:
        _refuse_free(candidates)
    critic = critic or critic_of(run, corpus, device=device, report=part(report, 0, 0.5))
    with threads(free_threads()):
        ears, found = Ears(run, device) if critic.learned else None, []
        for number, candidate in enumerate(candidates):
            found.append(_measured(run, ears, critic, candidate.score))
            report(Progress((1 + (number + 1) / len(candidates)) / 2, "judging"))
    judged = zip(candidates, found, strict=True)
    ranked = [_judged(one, critic, measures, _flagged(one, index)) for one, measures in judged]
    return _diverse(ranked, candidates)[:best]


def critic_of(run: Run, corpus: Corpus | str | Path | None = None, **options) -> Critic:
    """The critic of a run; made and kept there where it has none of these weights, or one of another corpus than is
    given. Without a corpus to make it from, what is usual in real music."""
    corpus = None if corpus is None else open_corpus(corpus)
    critic = open_critic(run)
    if critic is None and corpus is None:
        corpus = find_corpus(run.folder, run.facts)
    if corpus is not None and (critic is None or critic.facts["corpus"] != corpus.fingerprint):
        return keep_critic(run, corpus, **options)
    return critic or unlearned(run)


def _candidate(take: Take | Score | str | Path) -> Candidate:
    if isinstance(take, Score):
        return Candidate(take, take, {})
    if isinstance(take, Take):
        return Candidate(take, take.stretch, vars(take), take.originality.flagged if take.originality else None)
    facts = {}
    with suppress(FileError):
        facts = take_facts(take)
    return Candidate(take, read_stretch(Path(take)), facts, path=str(take))


def _refuse_free(candidates: list[Candidate]) -> None:
    if free := [one.path or "a take" for one in candidates if one.score.free]:
        raise FileError(free[0], "it is in free time, and this run needs bars; rank it with a run of played music")


# --- how far off a take is -------------------------------------------------------------------------------------


def _measured(run: Run, ears: Ears | None, critic: Critic, score: Score) -> dict[str, float]:
    """Every measure of a score, the mean over its excerpts; nothing for silence."""
    parts = windows([score], run.tokenizer, critic.length)
    if not parts:
        return {}
    rows = [measure(part) for part in parts]
    found = {name: mean_known([row[name] for row in rows]) for name in rows[0]}
    if ears:
        hidden, nats = ears.hear(parts)
        found[NATS] = mean_known(nats)
        if critic.judges:
            found[LOGIT] = mean_known(critic.classifier.logits(hidden))
    return {name: value for name, value in found.items() if not math.isnan(value)}


def distances(critic: Critic, measures: dict[str, float]) -> dict[str, float]:
    """How far each measure lies outside the middle two thirds of the excerpts, in half-widths of these.

    From -5, below, over 0, inside, to 5. A measure that no excerpt has, or the take has not, is left out. Since most
    excerpts may be alike, a half-width is at least half a standard deviation, and a twentieth of the median.
    """
    found = {}
    for name, value in measures.items():
        known = critic.excerpts[:, critic.facts["names"].index(name)]
        known = known[np.isfinite(known)].astype(np.float64)
        if len(known):
            low, middle, high = np.percentile(known, MIDDLE)
            width = max((high - low) / 2, known.std() / 2, abs(middle) / 20, 1e-3)
            off = min(value - low, 0) + max(value - high, 0) * (name not in UPWARD)
            found[name] = float(np.clip(off / width, -FARTHEST, FARTHEST))
    return found


def _flagged(candidate: Candidate, index: Index | None) -> bool | None:
    if index is None:
        return candidate.flagged
    music, start = read_written(Path(candidate.path)) if candidate.path else (candidate.score, 0)
    return index.repeats(music, start=start).flagged if len(pitched(music)) else None


def _judged(candidate: Candidate, critic: Critic, measures: dict[str, float], flagged: bool | None) -> Ranked:
    """Its score and reasons; `flagged` says whether it repeats too much of the corpus, None where nobody looked."""
    if not measures:
        return Ranked(candidate.take, 0.0, "silent", {}, {})
    asked = _asked_for(candidate.facts.get("settings", {}))
    far = {name: off for name, off in distances(critic, measures).items() if name not in asked}
    groups = {name: [abs(far[one]) for one in members if one in far] for name, members in CRITERIA.items()}
    off = {name: float(np.mean(group)) for name, group in groups.items() if group}
    if flagged is not None:
        off[ORIGINALITY] = FARTHEST * flagged
    if not critic.learned:
        given_up = any(event.get("back_to") is None for event in candidate.facts.get("guarded", ()))
        off[GUARD] = FARTHEST * given_up
    score = math.exp(-float(np.mean([*off.values()])))
    if LOGIT in measures:
        off[STYLE] = float(np.logaddexp(0, -measures[LOGIT]))
        score *= math.exp(-off[STYLE])
    return Ranked(candidate.take, score, _reasons(measures, far, flagged), off, measures)


def _asked_for(settings: dict) -> set[str]:
    """The measures in which a take is what was asked for, not what the model made of it: repetition where sections were
    to come back, the bass where parts were to be without one."""
    form, parts = settings.get("form", ""), settings.get("parts")
    bassless = parts and not settings.get("prompt") and not {*parts} & {*CARRYING}
    return {*(CRITERIA["repetition"] if len({*form}) < len(form) else ()), *(["bass_adherence"] if bassless else ())}


def _reasons(measures: dict[str, float], far: dict[str, float], flagged: bool | None) -> str:
    """What it is like, then what is odd about it, the oddest first."""
    typical = {"typical": float(sigmoid(measures[LOGIT]))} if LOGIT in measures else {}
    abouts = {
        "chord_adherence": "keeps to the chords",
        "recurrence": "bars return",
        "typical": "typical of your pieces",
    }
    known = {name: value for name, value in (measures | typical).items() if name in abouts}
    good = [abouts[name] + f" {known[name]:.2f}".replace(" 0", " ") for name in abouts if name in known]
    odd = [_odd(name, off) for name, off in sorted(far.items(), key=lambda item: -abs(item[1])) if abs(off) >= 0.5]
    odd = [*["copies a training piece"] * bool(flagged), *dict.fromkeys(word for word in odd if word)][:3]
    return "; ".join([", ".join(good) or "no chords, no bars", *[", ".join(odd)] * bool(odd)])


def _odd(name: str, off: float) -> str:
    if name not in WORDS:
        return ""
    word = WORDS[name][off > 0]
    return f"a little {word}" if word and abs(off) < 1.5 else word


# --- diversity -------------------------------------------------------------------------------------------------


def _diverse(ranked: list[Ranked], candidates: list[Candidate]) -> list[Ranked]:
    """By score, discounted by what a take has in common with those before it; equal ones in an order of their own."""
    rolls = [roll(one.score) for one in candidates]
    order = sorted(range(len(ranked)), key=lambda n: (-ranked[n].score, rolls[n].tobytes(), candidates[n].path))
    left, chosen, closest = order, [], dict.fromkeys(order, (0.0, 0))
    while left:
        best = max(left, key=lambda n: ranked[n].score * (1 - LIKENESS * closest[n][0]))
        left = [n for n in left if n != best]
        near, other = closest[best]
        told = f", nearly the same as number {-other}" if near >= NEARLY else ""
        chosen.append(replace(ranked[best], reasons=ranked[best].reasons + told))
        for n in left:
            closest[n] = max(closest[n], (overlap(rolls[best], rolls[n]), -len(chosen)))
    return chosen


def roll(score: Score) -> np.ndarray:
    """Which pitches begin at which moment, a twelfth of a quarter or in free time a tenth of a second: (moments, 128)
    of 0 and 1."""
    notes = pitched(score)
    onsets = (
        score.seconds(notes["onset"]) / FREE_GRID if score.free else notes["onset"] / score.ticks_per_quarter / GRID
    )
    moments = np.rint(onsets).astype(int)
    found = np.zeros((moments.max(initial=-1) + 1, 128), dtype=np.float32)
    found[moments, notes["pitch"]] = 1
    return found


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """How much two rolls have in common in the best transposition: the Jaccard overlap, 0 to 1."""
    total, long = one.sum() + other.sum(), min(len(one), len(other))
    if not total:
        return 1.0
    together = one[:long].T @ other[:long]  # how often each pitch meets each
    moves = np.arange(128) - np.arange(128)[:, None] + 127
    both = np.bincount(moves.ravel(), together.ravel()).max()
    return float(both / (total - both))
