"""Doctor: what is wrong with a run, by its log, its corpus and its takes, and which flag puts it right.

diagnose("my-style", "corpus") -> Examination       # .diagnoses, the worst first; .figures; .remarks
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ...config import NotNegative, check, flag, given, updated
from ...errors import InputError, RunError
from ...log import LOG, read_log
from ...progress import Reporter, unheard
from ..data.corpus import Corpus, find_corpus, open_corpus
from ..data.unigram import for_comparison
from ..playing.settings import GenerateSettings, temperatures
from ..run import located, open_run, read_facts
from . import evidence
from .diagnoses import DIAGNOSES
from .diagnosis import Diagnosis
from .evidence import Evidence
from .take_diagnoses import FEWEST_TAKES


@dataclass(frozen=True)
class DoctorSettings:
    """What to judge by."""

    takes: NotNegative[int] = 0
    """Play so many takes without help to judge by; 0 takes those in RUN/takes, which tell of chords only where they
    were played with --harmony free."""
    temperature: str = GenerateSettings.temperature
    """One temperature for all of them, or a range over them."""
    seed: NotNegative[int] = 0
    """The first one's seed."""

    def __post_init__(self):
        check(self)
        temperatures(self.temperature, 1)


@dataclass(frozen=True)
class Examination:
    """The diagnoses, the worst first; the figures that were looked at; what could not be."""

    run: str
    diagnoses: tuple[Diagnosis, ...]
    figures: dict[str, str]
    remarks: tuple[str, ...]

    def as_dict(self) -> dict:
        """Everything, for JSON."""
        told = asdict(self)
        for found, diagnosis in zip(told["diagnoses"], self.diagnoses, strict=True):
            for row, remedy in zip(found["remedies"], diagnosis.remedies, strict=True):
                row["command"] = remedy.line(self.run)
        return told


def diagnose(
    run: str | Path,
    corpus: Corpus | str | Path | None = None,
    settings: DoctorSettings | None = None,
    *,
    report: Reporter = unheard,
    **changes,
) -> Examination:
    """Examine a run, finished or not, and say what is wrong with it and which flag puts it right.

    Without `corpus` the run's own is looked for beside the run and where you are. Settings may be given as keywords;
    `report` hears how far the playing of takes is. Nothing is written. Raises RunError for a folder
    that is no run and for a corpus with other tokens.
    """
    settings = updated(DoctorSettings, settings, changes)
    if not settings.takes and (unused := given(settings)):
        raise InputError(f"{flag(min(unused))} is for takes that are played now; add --takes 5, or leave it out")
    folder = located(run)
    facts = read_facts(folder)
    corpus = find_corpus(folder, facts) if corpus is None else open_corpus(corpus)
    if corpus is not None and corpus.tokenizer.fingerprint != facts["tokenizer"]:
        told = f"its tokens are {facts['tokenizer']}, those of {corpus.folder} {corpus.tokenizer.fingerprint}"
        raise RunError(folder, f"{told}; give the corpus it was trained on, or one like it")
    if settings.takes:
        takes = evidence.play_now(open_run(folder), corpus, report, **vars(settings))
    else:
        takes = list(evidence.played_before(folder))
    measured = evidence.compare(takes, corpus)
    log = read_log(folder / LOG)
    seen = Evidence(facts, log, corpus, *measured, running=bool(log) and evidence.is_running(folder))
    found = [diagnosis for look in DIAGNOSES if (diagnosis := look(seen))]
    found.sort(key=lambda diagnosis: -diagnosis.severity)
    return Examination(str(run), tuple(found), _figures(seen), tuple(_remarks(seen)))


def _figures(seen: Evidence) -> dict[str, str]:
    """What was looked at, as it is told."""
    told, valid = {}, seen.validations
    if len(seen.steps):
        (start, _), (end, _) = seen.loss(0), seen.loss(1)
        told["training loss"] = f"{start:.3f} to {end:.3f} nats a token in {seen.last:,} steps"
    if len(valid):
        (at, low), last = valid[valid[:, 1].argmin()], valid[-1, 1]
        told["validation"] = f"{valid[0, 1]:.3f} to {last:.3f} nats a {seen.unit}, best {low:.3f} at step {at:,.0f}"
        newest = next(line["validation"] for line in seen.log[::-1] if line.get("validation"))
        if beside := for_comparison(seen.facts["tokenizer"], seen.rows, newest):
            told["for comparison"] = beside
    if seen.corpus is not None and seen.corpus.pieces:
        minutes = sum(piece.seconds for piece in seen.corpus.pieces) / 60
        told["corpus"] = f"{len(seen.corpus)} files, {minutes:.0f} minutes, {len(seen.corpus.skipped)} left out"
    for name in ("adherence_gain", "recurrence", "repeated_figures", "scale_consistency"):
        takes, real = (evidence.values(rows, name) for rows in (seen.takes, seen.real))
        if len(takes) and len(real):
            low, high = np.percentile(real, [5, 95])
            told[name.replace("_", " ")] = f"{np.median(takes):.2f} in {len(takes)} takes, real {low:.2f} to {high:.2f}"
    return told


def _remarks(seen: Evidence) -> list[str]:
    """What could not be judged, and how it can be."""
    told, judged = [], seen.takes and seen.real
    if not seen.log:
        how = "" if judged else "; its takes can: --takes 5 --corpus CORPUS"
        told.append(f"It has no log (base models and merged runs have none): how it was trained cannot be judged{how}.")
    elif not judged:
        told.append("How random or repetitive it plays was not judged: --takes 5 --corpus CORPUS does that.")
    if seen.running:
        told.append("It is being trained now: this is how it stands.")
    if seen.corpus is not None and seen.learned is None:
        only = "takes are judged by that music, and nothing else is said of it"
        told.append(f"{seen.corpus.folder} is not the corpus it was trained on: {only}.")
    if judged and len(seen.takes) < FEWEST_TAKES:
        told.append(f"{len(seen.takes)} of its takes are too few to judge by: --takes 5 plays more.")
    return told


def lines(found: Examination) -> list[str]:
    """An examination as it is printed."""
    told = [] if found.diagnoses or not found.figures else ["Nothing wrong found."]
    for number, diagnosis in enumerate(found.diagnoses, start=1):
        told += [f"{number}. {diagnosis.name}: {diagnosis.symptom}.", f"   Cause: {diagnosis.cause}."]
        for remedy in diagnosis.remedies:
            told.append(f"   Try:   {remedy.line(found.run)}" + f"   ({remedy.why})" * bool(remedy.why))
        told.append("")
    told += ["Looked at:", *(f"  {name}: {value}" for name, value in found.figures.items())] * bool(found.figures)
    return told + list(found.remarks)
