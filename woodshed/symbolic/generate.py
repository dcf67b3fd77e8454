"""Play: a run, and chords, a prompt or nothing, become takes. A prompt is music plus the region of it to write.

generate(run, chords="Cmaj7 Am7 | Dm7 G7", bars=8)         over chords
generate(run, prompt="song.mid", bars=8)                   eight bars after the end
generate(run, prompt="song.mid", bars="9-12")              bars 9 to 12 anew, all else as it was
generate(run, prompt="song.mid", parts="bass")             a part anew, to all the others
generate(run, prompt="tune.mid", melody="auto")            an accompaniment to a melody
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ..config import updated
from ..errors import InputError
from . import tasks
from .decode import Sampling, Stream, decode
from .guard import Guard
from .harmony import Harmony
from .measure import (
    adherence_per_bar,
    bass_adherence,
    chord_adherence,
    recurrence_per_bar,
    rotated_adherence,
    strong_beat_adherence,
)
from .placing import finish, joined, reached, written
from .run import Run, open_run
from .score import Score
from .stage import MOST_BARS, Stage, bar_lines, but_the_last_bar, closing, fitted, set_stage
from .takes import Take
from .tasks import Region
from .tokenizers import Tokenizer

MOST_SECONDS = 3600
TRIES = 8  # to write a take that has a note
UNAIDED = {"harmony": "free", "guard": False}  # a model by itself, where it is to be judged
PROMPT_SHARE = 0.5  # the most of a context that a prompt takes


@dataclass(frozen=True)
class TakeSettings:
    """How many takes, and how they are drawn: what every verb that plays has in common."""

    takes: int = 5
    """How many to play."""
    temperature: str = "0.8:1.2"
    """One temperature for all takes, or a range over them: 0.8 is safe, 1.2 is wild."""
    top_p: float = 0.95
    """Draw only among the likeliest ids that together have this probability."""
    top_k: int = 0
    """Draw only among the k likeliest ids; 0 for all."""
    min_p: float = 0.0
    """Draw only among ids at least this share as likely as the likeliest."""
    harmony: Literal["free", "guided", "strict"] = "guided"
    """How chords are kept on strong beats and in the bass: as the model likes, with a soft bias, or strictly."""
    guard: bool = True
    """Step back to an earlier bar line and draw again where a take loops, sticks, falls silent or runs wild."""
    seed: int | None = None
    """The first take's seed; the others count on from it. By default a new one; every take stores its own."""
    checkpoint: int | None = None
    """Play one of the run's checkpoints instead of the best."""


@dataclass(frozen=True)
class LengthSettings:
    """Over what to play, and how long."""

    chords: str | None = None
    """Chords such as "Cmaj7 Am7 | Dm7 G7", repeated to the length asked; without any | one chord a bar."""
    bars: int | None = None
    """How many bars to write (16 by default, or once through longer chords)."""
    seconds: float | None = None
    """How many seconds to write, up to the next bar line."""
    max_length: int | None = None
    """Stop after at most so many ids, at a bar line."""
    bpm: float | None = None
    """Tempo in quarters a minute; by default the prompt's, or that of the music the run has learned."""
    metre: str | None = None
    """Time signature such as 4/4, 3/4 or 6/8; by default the prompt's, or that of the music the run has learned."""
    ending: bool = False
    """Let the model know how much is left, so that it comes to an end."""


@dataclass(frozen=True)
class ComposeSettings(TakeSettings, LengthSettings):
    """What to play, how long, and how it is drawn."""


@dataclass(frozen=True)
class GenerateSettings(ComposeSettings):
    """All that can be asked: without a prompt music of its own, after it, or inside it."""

    bars: int | str | None = None
    """How many bars to write, after a prompt if there is one; or which of the prompt's: "9-12"."""
    seconds: float | str | None = None
    """How many seconds to write; or which of the prompt's: "20-26"."""
    prompt: Score | Path | str | None = None
    """Music to go on from, or inside which to write: a MIDI file or a Score."""
    parts: tuple[str, ...] | str | None = None
    """Which parts of the prompt to write; all others stay. By default all parts."""
    melody: str | None = None
    """The prompt's track that is kept as the melody, alone, to be accompanied: its name or number, or "auto"."""
    keep_grid: bool = False
    """Believe the bars and beats of the prompt instead of checking them."""

    @property
    def span(self) -> tuple[float, float] | None:
        """The first and the last bar, or the seconds, of a region inside the prompt; None where it is not told."""
        told = [text for text in (self.bars, self.seconds) if isinstance(text, str)]
        return parse_span(told[0]) if told else None


def generate(
    run: Run | str | Path,
    settings: ComposeSettings | None = None,
    *,
    progress: Callable[[float], None] | None = None,
    **changes,
) -> list[Take]:
    """Play takes and return them; `Take.save` writes one.

    `run` is a Run or its folder; settings may be given as keywords: `generate("my-style", chords="Dm7 G7 Cmaj7",
    bars=8, takes=3, seed=1)`. `progress` is called with the share that is done, 0 to 1.

    Inside a prompt all events outside the region stay as they are, in the prompt's own ticks, and so do notes that
    sound into it; tempo map, metre, tracks and programs are the prompt's.

    Raises InputError for chords, a metre, a length or a region that cannot be played, FileError for a prompt that
    cannot be read and RunError for a folder that is no run.
    """
    from .step import make_step

    settings = make_settings(settings, changes)
    run = run if isinstance(run, Run) else open_run(run, settings.checkpoint)
    stage = set_stage(run, settings)
    step = make_step(run.model(merge=True))
    closes = _closes(run, settings, stage)
    first = but_the_last_bar(stage) if closes else stage
    share = (first.region.end - first.region.start) / (stage.region.end - stage.region.start)
    streams = _play(step, run, settings, [first] * settings.takes, _reporter(progress, 0, share))
    played, music = [[stream] for stream in streams], [_music(run, first, stream) for stream in streams]
    if closes:
        last = [closing(stage, before) for before in music]
        ends = _play(step, run, settings, last, _reporter(progress, share, 1), after=streams)
        played = [[*before, end] for before, end in zip(played, ends, strict=True)]
        music = [joined(a, _music(run, b, end)) for a, b, end in zip(music, last, ends, strict=True)]
    return [_take(run, settings, stage, *take, type(step).__name__) for take in zip(played, music, strict=True)]


def _closes(run: Run, settings: GenerateSettings, stage: Stage) -> bool:
    """Whether the last bar is to be the tonic's. Chords asked for have their own end; one bar has no key before it."""
    knows = run.facts.get("music", {}).get("chords", run.tokenizer.knows_chords)
    free = knows and not stage.binding and stage.last is not None and settings.max_length is None
    return settings.ending and free and len(bar_lines(stage.score, stage.region.start, stage.region.end)) > 2


def _play(step, run: Run, settings: GenerateSettings, stages: list[Stage], report, after=()) -> list[Stream]:
    """One stream a take, written to its end; `after` are those that the takes go on from.

    A take without a single note is drawn again, a few times: its seed still tells all of it.
    """
    context = min(step.max_seq_len, run.facts.get("settings", {}).get("max_seq_len") or step.max_seq_len)
    streams = _streams(run, settings, stages, context, after)
    decode(step, streams, context=context, max_length=settings.max_length, progress=report)
    for attempt in range(1, TRIES):
        silent = [n for n, stream in enumerate(streams) if not len(_music(run, stages[n], stream).notes)]
        if not silent:
            break
        anew = _streams(run, settings, stages, context, after)
        for number in silent:
            streams[number] = anew[number]
            streams[number].rng = np.random.default_rng([anew[number].seed, attempt])
        decode(step, [streams[number] for number in silent], context=context, max_length=settings.max_length)
    return streams


def _streams(run: Run, settings: GenerateSettings, stages: list[Stage], context: int, after=()) -> list[Stream]:
    """One stream a take, ready for decode; its random numbers go on from those of `after`."""
    streams = []
    for number, temperature in enumerate(temperatures(settings.temperature, settings.takes)):
        stage, tokenizer = stages[number], run.tokenizer
        score, region = fitted(tokenizer, stage.score, stage.region, int(context * PROMPT_SHARE))
        last = None if stage.last is None else stage.last - stage.region.start + region.start
        plan = tasks.plan(score, region, last=last, ring=False, chords=stage.binding)
        grammar = tokenizer.grammar(plan)
        harmony = Harmony(plan, grammar, settings.harmony) if stage.binding and settings.harmony != "free" else None
        sampling = Sampling(temperature, settings.top_k, settings.top_p, settings.min_p)
        prompts = _prompts(tokenizer, stage, score, region, last)
        guard = Guard() if settings.guard else None
        streams.append(Stream(*prompts, grammar, sampling, settings.seed + number, harmony, guard))
    for stream, before in zip(streams, after, strict=False):
        stream.rng = before.rng
    return streams


def _prompts(tokenizer: Tokenizer, stage: Stage, score: Score, region: Region, last: int | None) -> list[list[int]]:
    """What stands before the region, and what of it a moved window keeps: nothing of the music before it."""
    end = None if (score.notes["onset"] >= region.end).any() else region.end
    prompt = tasks.prompt(tokenizer, score, region, head=stage.head, last=last, end=end)
    after = score.slice(region.start, max(score.end, region.end) + 1)
    rest = Region(0, region.end - region.start, region.parts)
    prefix = tasks.prompt(tokenizer, after, rest, head=stage.head, end=end and rest.end)
    return [prompt.tolist(), prefix.tolist()]


def _music(run: Run, stage: Stage, stream: Stream) -> Score:
    """What a stream has written, in the ticks of its stage."""
    return written(stage, run.tokenizer.decode_body(np.array(stream.ids)))


def _take(run: Run, settings: GenerateSettings, stage: Stage, streams: list[Stream], music: Score, engine: str) -> Take:
    """One take from its streams, one after another, and the music that they have written."""
    stage = stage if streams[-1].cut is None else reached(stage, music)
    score, own = finish(stage, music, pedalled=run.tokenizer.settings.get("pedal") == "events")
    sampled = max(sum(stream.sampled for stream in streams), 1)
    measures = _measures(stage, music) | {
        "legal_probability": sum(stream.legal for stream in streams) / sampled,
        "nats_per_id": -sum(stream.log_likelihood for stream in streams) / sampled,
    }
    seed, temperature = streams[0].seed, streams[0].sampling.temperature
    return Take(
        score=score,
        notes=len(own.notes),
        seed=seed,
        temperature=temperature,
        settings=_again(settings, stage, seed, temperature),
        run=run.folder.name,
        engine=engine,
        measures=measures,
        adherence_per_bar=_per_bar(stage, music, adherence_per_bar(music, stage.score.chords)),
        guarded=tuple(event for stream in streams if stream.guard for event in stream.guard.happened),
        chart=stage.chart,
        remarks=_remarks(stage, music),
        alone={"-".join(stage.region.parts): own} if settings.melody else {},
    )


def _remarks(stage: Stage, music: Score) -> tuple[str, ...]:
    """What a musician should know of how a take was made."""
    silent = "" if len(music.notes) else f"nothing was written, in {TRIES} attempts; try a higher temperature"
    return tuple(remark for remark in (stage.prompt.remark, silent) if remark)


def _measures(stage: Stage, music: Score) -> dict[str, float]:
    """What can be counted in the music that was written: among the rest of the stage where that matters."""
    recurrence = [] if music.free else _per_bar(stage, music, recurrence_per_bar(stage.score.merge(music)))
    told = [value for value in recurrence if value is not None]
    return {
        "chord_adherence": chord_adherence(music),
        "rotated_adherence": rotated_adherence(music),
        "strong_beat_adherence": strong_beat_adherence(music, stage.score.chords),
        "bass_adherence": bass_adherence(music, stage.score.chords),
        "recurrence": float(np.mean(told)) if told else np.nan,
    }


def _per_bar(stage: Stage, music: Score, values: np.ndarray) -> tuple[float | None, ...]:
    """Those of the bars that were written, None where there is nothing to tell."""
    lines = stage.score.merge(music).bars(stage.region.end)
    first, last = np.searchsorted(lines, [stage.region.start, stage.region.end])
    return tuple(None if np.isnan(value) else round(float(value), 4) for value in values[first:last])


def _again(settings: GenerateSettings, stage: Stage, seed: int, temperature: float) -> dict:
    """Keywords of `generate` that make one take again; a prompt that is a Score is not among them."""
    asked = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    asked |= {"takes": 1, "seed": seed, "temperature": f"{temperature:g}"}
    if settings.melody:
        asked["chords"] = stage.chart or None
    if isinstance(settings.prompt, Path):
        asked["prompt"] = str(settings.prompt)
    return {name: value for name, value in asked.items() if value is not None and not isinstance(value, Score)}


def _reporter(progress: Callable[[float], None] | None, start: float, end: float):
    """A callback for decode that tells the slowest take's share, from `start` to `end`, now and then."""

    done = 0.0  # the guard may step back; a progress bar does not

    def report(count: int, streams: Sequence[Stream]) -> None:
        nonlocal done
        if count % 16 == 0:
            done = max(done, min(stream.grammar.share for stream in streams))
            progress(start + (end - start) * done)

    return report if progress else None


# --- settings --------------------------------------------------------------------------------------------------


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
    _refuse_odd_numbers(settings)
    _refuse_odd_regions(settings)
    return settings


def _number(value, kind: type):
    try:
        return kind(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _refuse_odd_numbers(settings: GenerateSettings) -> None:
    bars, seconds = settings.bars, settings.seconds
    if settings.takes < 1:
        raise InputError(f"--takes {settings.takes}: choose 1 or more")
    if isinstance(bars, int) and not 1 <= bars <= MOST_BARS:
        raise InputError(f"--bars {bars}: choose 1 to {MOST_BARS}")
    if isinstance(seconds, int | float) and not 0 < seconds <= MOST_SECONDS:
        raise InputError(f"--seconds {seconds:g}: choose more than 0, at most {MOST_SECONDS}")
    if bars is not None and seconds is not None:
        raise InputError(f"--bars {bars} and --seconds {seconds} both say how long; give one of them")
    if settings.max_length is not None and settings.max_length < 1:
        raise InputError(f"--max-length {settings.max_length}: choose 1 or more")
    if settings.seed is not None and settings.seed < 0:
        raise InputError(f"--seed {settings.seed}: choose 0 or more")
    if settings.bpm is not None and not 10 <= settings.bpm <= 500:
        raise InputError(f"--bpm {settings.bpm:g}: choose 10 to 500")


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
    inside = settings.span is not None or settings.parts is not None or settings.melody is not None
    if inside and settings.prompt is None:
        raise InputError("a region, parts or a melody belong to a prompt; give a MIDI file or a Score")
    if inside and settings.span is None and (settings.bars, settings.seconds) != (None, None):
        raise InputError(f"--bars {settings.bars}: of a prompt's parts, say which bars are to be written, such as 9-12")
    for name in ("bpm", "metre", "max_length"):
        if inside and getattr(settings, name) is not None:
            raise InputError(f"--{name.replace('_', '-')}: what is written inside a prompt keeps to the prompt")


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
