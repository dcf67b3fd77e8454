"""What there is to see of a run: its facts, log and corpus, and measures of its takes beside those of real music."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from ...config import flag
from ...errors import FileError, RunError
from ...files import read_object
from ...jobs import claimed
from ...progress import Reporter
from ...statistics import evenly
from .. import bases
from ..data.corpus import SPLITS, Corpus, TrainingRows
from ..learning.settings import TrainSettings, resolve
from ..music.chords import pitched
from ..music.measure import measure
from ..music.midi import read_midi
from ..music.score import Score
from ..playing.excerpts import cut_excerpts, first, play
from ..playing.generate import generate
from ..playing.settings import UNAIDED
from ..playing.takes import Take
from ..run import Run

FULL_RATE = 0.95  # of the highest rate: after it has risen and before it falls
FIGURE = 6  # intervals
IN_CHORD = ("chord_adherence", "rotated_adherence", "adherence_gain")
MOST_TAKES, MOST_EXCERPTS = 32, 120
CHORDS, BARS, SECONDS = "Cmaj7 Am7 Dm7 G7", 16, 32  # of the takes that are played to judge by


@dataclass(frozen=True)
class Evidence:
    """All that the diagnoses look at. `takes` and `real` are measures of takes and of real excerpts, a dict each."""

    facts: dict
    log: list[dict]
    corpus: Corpus | None = None
    takes: list[dict] = field(default_factory=list)
    real: list[dict] = field(default_factory=list)
    running: bool = False

    @cached_property
    def settings(self) -> dict:
        return self.facts["settings"]

    @property
    def learned(self) -> Corpus | None:
        """The corpus, if it is the one that the run was trained on: another is only a yardstick for its takes."""
        return self.corpus if self.corpus is not None and self.corpus.fingerprint == self.facts["corpus"] else None

    @property
    def rows(self) -> TrainingRows | None:
        """The rows that it learned, where its corpus is at hand."""
        if self.learned is None:
            return None
        return self.learned.training_rows(self.settings["max_seq_len"], seed=self.settings["seed"])

    @cached_property
    def steps(self) -> np.ndarray:
        """Step, loss and learning rate of every step: (N, 3)."""
        rows = [(line["step"], line["loss"], line["learning_rate"]) for line in self.log if "loss" in line]
        return np.array(sorted(rows), dtype=np.float64).reshape(-1, 3)

    @property
    def last(self) -> int:
        """The step that it has come to; with logging_steps there are fewer lines than steps."""
        return int(self.steps[-1, 0]) if len(self.steps) else 0

    @cached_property
    def unit(self) -> str:
        found = [line["validation"] for line in self.log if line.get("validation")]
        return "note" if found and "nats_per_note" in found[0] else "token"

    @cached_property
    def validations(self) -> np.ndarray:
        """Step and nats per note (or token) of every evaluation: (M, 2)."""
        name = f"nats_per_{self.unit}"
        rows = [(line["step"], line["validation"][name]) for line in self.log if line.get("validation")]
        return np.array(sorted(rows), dtype=np.float64).reshape(-1, 2)

    def events(self, name: str) -> list[dict]:
        return [line for line in self.log if line.get("event") == name]

    @cached_property
    def adapter(self) -> bool:
        return bool(self.facts.get("adapter"))

    @cached_property
    def base(self) -> str | None:
        """The base model of the package that has the run's tokens."""
        fits = bases.fitting(self.facts["tokenizer"])
        return fits and fits.rpartition("-")[0]

    @cached_property
    def epoch(self) -> float:
        return max((line["epoch"] for line in self.log if "epoch" in line), default=0.0)

    @cached_property
    def usual_rate(self) -> float:
        """What the presets have for a model that is trained like this one."""
        like = TrainSettings(base=self.settings.get("base"), adapter=self.settings.get("adapter"))
        return resolve(like).learning_rate

    def loss(self, place: float) -> tuple[float, float]:
        """The mean training loss at the begin (0) to the end (1) of the run, over a tenth of it and 8 steps at least;
        and its standard error.
        """
        losses = self.steps[np.isfinite(self.steps[:, 1]), 1]
        width = min(max(len(losses) // 10, 8), len(losses))
        begin = int(place * (len(losses) - width))
        part = losses[begin : begin + width]
        return float(part.mean()), float(part.std() / np.sqrt(max(width - 1, 1)))

    def fall(self, begin: float, end: float) -> tuple[float, float]:
        """How far the training loss fell between two places of the run, and what chance alone may make of that."""
        (high, before), (low, after) = self.loss(begin), self.loss(end)
        return high - low, 2 * float(np.hypot(before, after))

    def at_full_rate(self, rows: np.ndarray) -> np.ndarray:
        """Those rows (step, value) whose step was trained at the full rate."""
        steps, _, rate = self.steps.T
        full = steps[rate >= FULL_RATE * rate.max()]
        return rows[np.isin(rows[:, 0], full)]

    def longer(self) -> str:
        """The flags that make the run twice as long; one without a log, which cannot go on, is a base for another."""
        if not self.log:
            return "--base RUN"
        for name in ("max_minutes", "max_steps", "epochs"):
            if self.settings.get(name):
                return f"--resume {flag(name)} {2 * self.settings[name]:.12g}"
        return "--resume"


# --- gathering ---------------------------------------------------------------------------------------------------


def is_running(folder: Path) -> bool:
    """Whether somebody trains into a run's folder now."""
    try:
        with claimed(folder):
            return False
    except RunError:
        return True


def played_before(folder: Path) -> Iterator[tuple[Score, dict]]:
    """The newest takes in RUN/takes that were played from nothing, each with its measures and temperature."""
    files = [path for path in (folder / "takes").rglob("*.json") if path.with_suffix(".mid").exists()]
    files = [path for path in files if not path.name.startswith(".")]  # macOS: ._take-1.json
    for file in sorted(files, key=os.path.getmtime)[::-1][:MOST_TAKES]:
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError, FileError):  # not as we wrote it
            told = read_object(file)
            asked = told["settings"]
            if not any(asked.get(name) for name in ("prompt", "melody")):
                by_itself = "chords" in asked and asked.get("harmony") == "free"
                found = _asked(told["measures"], float(told["temperature"]), by_itself)
                yield read_midi(file.with_suffix(".mid")), found


def _asked(measures: dict, temperature: float, charted: bool) -> dict:
    """What a take says of itself: its temperature and, where chords were asked for and nothing but the model kept it to
    them, how far it keeps to them."""
    told = {"temperature": temperature}
    if charted and None not in (inside := [measures[name] for name in IN_CHORD[:2]]):
        told |= dict(zip(IN_CHORD, (*inside, inside[0] - inside[1]), strict=True))
    return told


def play_now(run: Run, corpus: Corpus | None, report: Reporter, **asked) -> list[tuple[Score, dict]]:
    """New takes, over the chords of real excerpts where there is a corpus; each with its measures and temperature.

    `asked` are takes, temperature and seed.
    """
    if corpus is not None:
        length = BARS if run.tokenizer.needs_bars else SECONDS
        takes = play(run, _excerpts(corpus, length), length, report=report, **asked)
    else:
        chords = CHORDS if run.knows_chords else None
        takes = generate(run, chords=chords, bars=BARS, report=report, **asked, **UNAIDED)
    return [(take.score, _of(take)) for take in takes]


def _of(take: Take) -> dict:
    measures = {name: None if np.isnan(value) else value for name, value in take.measures.items()}
    return _asked(measures, take.temperature, "chords" in take.settings)


def _excerpts(corpus: Corpus, length: int) -> list[Score]:
    """Excerpts of real music: of the validation split, or of what there is."""
    split = next(name for name in ("validation", "test", *SPLITS) if corpus.split(name))
    return [excerpt.score for excerpt in cut_excerpts(corpus, split, length)[0]]


def compare(takes: list[tuple[Score, dict]], corpus: Corpus | None) -> tuple[list[dict], list[dict]]:
    """Measures of takes, and of excerpts of real music that are as long as the middle one of them."""
    rows = [told for _, told in takes]
    if not takes or corpus is None:
        return rows, []
    tokenizer = corpus.tokenizer
    whole = [first(score, tokenizer, 1 << 20) for score, _ in takes]
    length = max(int(np.median([len(score.seams()) - 1 for score in whole])), 2)
    ours = [_measured(first(score, tokenizer, length)) for score, _ in takes]
    ours = [{name: value for name, value in mine.items() if name not in IN_CHORD} for mine in ours]
    return [mine | told for mine, told in zip(ours, rows, strict=True)], [
        *map(_measured, evenly(_excerpts(corpus, length), MOST_EXCERPTS))
    ]


def _measured(score: Score) -> dict:
    return measure(score) | {"repeated_figures": repeated_figures(score)}


def repeated_figures(score: Score) -> float:
    """The share of figures that were heard before: 0 to 1. A figure is six intervals on end, notes in the order of
    their onsets; so transposed figures count, with bars or without.
    """
    notes = pitched(score)
    pitch = notes["pitch"][np.lexsort((notes["pitch"], notes["onset"]))].astype(np.int16)
    if len(pitch) <= FIGURE:
        return np.nan
    figures = np.lib.stride_tricks.sliding_window_view(np.diff(pitch), FIGURE)
    return 1 - len(np.unique(figures, axis=0)) / len(figures)


def values(rows: list[dict], name: str) -> np.ndarray:
    """One measure of all rows that have it."""
    found = np.array([row[name] for row in rows if row.get(name) is not None], dtype=np.float64)
    return found[np.isfinite(found)]
