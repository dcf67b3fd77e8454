"""What can be asked of the verbs that play, and what cannot."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from ...config import Allowed, NotNegative, Share, ShareBelowOne, check, updated
from ...errors import InputError
from ..music.keys import parse_key
from ..music.score import Score

MOST_BARS = 2000
MOST_SECONDS = 3600
TopP = Annotated[float, Allowed(above=0, most=1)]
TopK = Annotated[int, Allowed(0, hint="0 draws among all")]
SPANS = {"bars": "9-12", "seconds": "20-26"}  # how what of a prompt is written anew is told
UNAIDED = {"harmony": "free", "guard": False, "originality": False}  # a model by itself, where it is to be judged


@dataclass(frozen=True)
class TakeSettings:
    """How many takes, and how they are drawn: what every verb that plays has in common."""

    takes: Annotated[int, Allowed(1)] = 5
    """How many to play."""
    temperature: str = "0.8:1.2"
    """0.8 is safe, 1.2 is wild. A range goes from the first take to the last; one number is for all of them."""
    top_p: TopP = 0.95
    """Draw only among the likeliest ids that together have this probability."""
    top_k: TopK = 0
    """Draw only among the k likeliest ids; 0 for all."""
    min_p: ShareBelowOne = 0.0
    """Draw only among ids at least this share as likely as the likeliest."""
    harmony: Literal["free", "guided", "strict"] = "guided"
    """How chords are kept on strong beats and in the bass: as the model likes, with a soft bias, or strictly."""
    guard: bool = True
    """Where a take loops, sticks, falls silent or runs wild, go back to an earlier bar line and draw again, up to four
    times; and stay near the range of your pieces, their notes struck at once and their parts that go together."""
    originality: bool = True
    """Tell what each take repeats of the pieces that the run has learned."""
    best: Annotated[int, Allowed(1)] | None = None
    """Write only the best so many takes, as woodshed rank judges; the others are thrown away."""
    seed: NotNegative[int] | None = None
    """The first take's seed; the others count on from it. By default a new one; every take stores its own."""
    checkpoint: int | None = None
    """Play one of the run's checkpoints instead of the best."""
    device: str = "auto"
    """Where the model computes: cpu, cuda, cuda:1 or mps; auto is the CPU for models of less than 50 million
    parameters, which are asked for one note at a time, else the GPU where there is one. Chance is the CPU's."""


@dataclass(frozen=True)
class LengthSettings:
    """Over what to play, and how long."""

    chords: str | None = None
    """Chords such as "Cmaj7 Am7 | Dm7 G7": between two | the chords of a bar share it; without any | each lasts a bar.
    They repeat until the length is reached. / holds a chord for one more share of its bar, % repeats the bar before,
    N.C. is none, |: ... :| is played twice."""
    bars: int | None = None
    """How many bars to write. By default 16, or 8 for each section of a form, and over chords as many more as play them
    to their end: three times a progression of 6, twice a blues of 12."""
    seconds: float | None = None
    """How many seconds to write, up to the next bar line, or in a form so that its sections are whole."""
    max_length: Annotated[int, Allowed(1)] | None = None
    """Stop after at most so many ids, at a bar line."""
    bpm: Annotated[float, Allowed(10, 500)] | None = None
    """Tempo in quarters a minute; by default that of the file (extend), or of the music the run has learned."""
    metre: str | None = None
    """Time signature such as 4/4, 3/4 or 6/8; by default that of the file (extend), or of the music the run has
    learned."""
    key: str | None = None
    """Key such as D, F#m or "Bb minor": the music sets out in it, and with --ending closes in it where no chords are
    asked for. By default that of the file (extend), or any."""
    ending: bool = False
    """Come to an end in the last bar: on the tonic, or with --chords on the chord of that bar (so let --bars be a
    multiple of your progression). Not with --max-length."""
    form: str = "A"
    """Sections by letters: in AABA the first one comes back, twice. Each has the chords from their beginning, or its
    own, as long as they are: "A: C Am F G B: F G". With --bars or --seconds all are equally long."""
    vary: Share = 0.25
    """How much of a section is new when it comes back, in whole bars at its end: 0 nothing, 1 all of it, over the same
    --chords where they are given."""


@dataclass(frozen=True)
class ComposeSettings(TakeSettings, LengthSettings):
    """What to play, how long, and how it is drawn."""


@dataclass(frozen=True)
class GenerateSettings(ComposeSettings):
    """All that can be asked: without a prompt music of its own, after it, or inside it."""

    bars: Annotated[int, Allowed(1, MOST_BARS)] | str | None = None
    """How many bars to write, after a prompt if there is one; or which of the prompt's: "9-12"."""
    seconds: Annotated[float, Allowed(above=0, most=MOST_SECONDS)] | str | None = None
    """How many seconds to write; or which of the prompt's: "20-26"."""
    prompt: Score | Path | str | None = None
    """Music to go on from, or inside which to write: a MIDI file or a Score."""
    parts: tuple[str, ...] | str | None = None
    """Which parts to write. Of a prompt, its own or new ones; all others stay. Without a prompt, those to keep of what
    plays together in the run's music. By default all."""
    melody: str | None = None
    """The prompt's track that is kept as the melody, alone, to be accompanied: its name or number, or "auto"."""
    keep_grid: bool = False
    """Believe the bars and beats of the prompt instead of checking them."""

    @property
    def span(self) -> tuple[float, float] | None:
        """The first and the last bar, or the seconds, of a region inside the prompt; None where it is not told."""
        told = [text for text in (self.bars, self.seconds) if isinstance(text, str)]
        return parse_span(told[0]) if told else None


def make_settings(settings: ComposeSettings | None, changes: dict) -> GenerateSettings:
    """Settings with changes, every value checked; numbers that came as text are numbers, and there is a seed."""
    if settings is not None and not isinstance(settings, GenerateSettings):
        settings = GenerateSettings(**dataclasses.asdict(settings))
    settings = updated(GenerateSettings, settings, changes)
    for name, number in (("bars", int), ("seconds", float)):
        settings = dataclasses.replace(settings, **{name: _number(getattr(settings, name), number)})
    if isinstance(settings.parts, str):
        settings = dataclasses.replace(settings, parts=tuple(re.split(r"[\s,]+", settings.parts.strip())))
    if settings.seed is None:
        settings = dataclasses.replace(settings, seed=int(np.random.SeedSequence().entropy % 2**31))
    if settings.key is not None:
        parse_key(settings.key)
    check(settings)
    _refuse_contradictions(settings)
    _refuse_odd_forms(settings.form, settings.bars)
    _refuse_odd_regions(settings)
    return settings


def _number(value, kind: type):
    try:
        return kind(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _refuse_contradictions(settings: GenerateSettings) -> None:
    bars, seconds = settings.bars, settings.seconds
    if settings.best is not None and settings.best > settings.takes:
        raise InputError(f"--best {settings.best}: give 1 to {settings.takes}, as many as --takes says")
    if bars is not None and seconds is not None:
        raise InputError(f"--bars {bars} and --seconds {seconds} both say how long; give one of them")
    if settings.max_length is not None and (settings.ending or len(settings.form) > 1):
        what = "--ending" if settings.ending else f"--form {settings.form}"
        raise InputError(f"--max-length {settings.max_length} with {what}: where it ends is not known; give --bars")


def _refuse_odd_forms(form: str, bars: int | str | None) -> None:
    """What is no form, and a number of bars that it cannot have."""
    if not re.fullmatch("[A-Za-z]{1,64}", form or ""):
        raise InputError(f"--form {form!r}: give a letter for each section, up to 64, such as AABA")
    if isinstance(bars, int) and bars % len(form):
        near = {bars // len(form) * len(form), -(-bars // len(form)) * len(form)}
        told = " or ".join(str(count) for count in sorted(near) if 0 < count <= MOST_BARS)
        raise InputError(f"--bars {bars} with --form {form}: its {len(form)} sections are equally long; give {told}")


def _refuse_odd_regions(settings: GenerateSettings) -> None:
    """Spans that are none, and what has no meaning without or inside a prompt."""
    if isinstance(settings.bars, str):
        first, last = parse_span(settings.bars) or (0, 0)
        if not (1 <= first <= last and first % 1 == last % 1 == 0):
            raise InputError(f"--bars {settings.bars}: write the first and the last bar, from 1 on, such as 9-12")
    if isinstance(settings.seconds, str):
        first, last = parse_span(settings.seconds) or (0, 0)
        if not first < last:
            raise InputError(f"--seconds {settings.seconds}: write from when to when, such as 20-26")
    if settings.parts is not None and not (settings.parts and all(settings.parts)):
        raise InputError("--parts: name at least one part, such as melody")
    inside = settings.span is not None or settings.melody is not None
    if inside and settings.prompt is None:
        raise InputError("a region or a melody belongs to a prompt; give a MIDI file or a Score")
    inside |= settings.parts is not None and settings.prompt is not None
    for name, example in SPANS.items():
        if inside and settings.span is None and (asked := getattr(settings, name)) is not None:
            raise InputError(f"--{name} {asked:g}: with parts of a prompt name the {name} to write, such as {example}")
    if inside and len(settings.form) > 1:
        raise InputError(f"--form {settings.form}: sections are for what is written after a prompt, or without one")
    for name in ("bpm", "metre", "max_length", "key"):
        if inside and getattr(settings, name) is not None:
            raise InputError(f"--{name.replace('_', '-')}: what is written inside a prompt keeps to the prompt")


def read_span(name: str, text: str | None) -> str | None:
    """What of a file is to be written, as GenerateSettings takes it: of `bars` also "9", which is "9-9"; None of
    nothing. Raises InputError."""
    if text is None or not (text := text.strip()):
        return None
    text = f"{text}-{text}" if text.isdecimal() and name == "bars" else text
    if parse_span(text) is None:
        raise InputError(f"--{name} {text}: write the first and the last, such as {SPANS[name]}; extend writes more")
    return text


def parse_span(text: str) -> tuple[float, float] | None:
    """ "9-12" as (9.0, 12.0); None for what is no such thing."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*[-–]\s*(\d+(?:\.\d+)?)\s*", text)
    return (float(match[1]), float(match[2])) if match else None


def temperatures(text: str, takes: int) -> list[float]:
    """ "0.8:1.2" as evenly spaced temperatures for so many takes; one number stands for all."""
    try:
        values = [float(part) for part in str(text).split(":")]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not np.isfinite(values).all():
        raise InputError(f"--temperature {text!r}: give one number (1.0) or a range over the takes (0.8:1.2)")
    return [round(float(value), 4) for value in np.linspace(values[0], values[-1], takes)]
