"""One performance: the stage is set, each take gets a stream for each of its scenes, and takes are made of them.

To choose among them is generate.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from ...errors import EmptyCorpus
from ...jobs import enough_memory, find_device, free_threads, threads
from ...progress import Progress, Reporter, part, unheard
from ...statistics import mean_known
from ..data import tasks
from ..data.corpus import find_corpus
from ..data.matches import Repeats
from ..data.originality import Index, originality_index
from ..data.tasks import Region
from ..music.measure import (
    adherence_per_bar,
    bass_at_changes,
    chord_adherence,
    recurrence_per_bar,
    rotated_adherence,
    strong_beat_adherence,
)
from ..music.score import Score
from ..music.sound import MAX_MINUTES, too_long
from ..run import Run, open_run
from ..tokenizers import NoteGrammar, Tokenizer
from .decode import Sampling, Stream, decode
from .form import progressions, remark, repeated, scenes
from .guard import Guard
from .harmony import Harmony
from .noting import noted
from .placing import added, finish, in_ensemble, joined, reached, resting, without_slips, written
from .settings import ComposeSettings, GenerateSettings, make_settings, temperatures
from .stage import Stage, at_scene, fitted, set_stage
from .takes import Take, digests_of, excerpt

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from .step import Step

TRIES = 8  # to write a take that has a note
PROMPT_SHARE = 0.5  # the most of a context that a prompt takes
LARGE = 50e6  # parameters: of less, a step in numpy is done in the time it takes to ask a GPU for one
ANOTHER_KEY = 6  # semitones that music may lie beyond the range of the corpus


@enough_memory("for these takes", "play fewer at once (--takes), or on the CPU (--device cpu)")
def perform(
    run: Run | str | Path,
    settings: ComposeSettings | None = None,
    *,
    step: Step | None = None,
    report: Reporter = unheard,
    **changes,
) -> list[Take]:
    """As many takes as the settings ask for, in the order of their seeds; arguments and errors are as in generate.

    `step` is the model where it has been loaded already, by `stepping`.
    """
    settings = make_settings(settings, changes)
    run = open_run(run, settings.checkpoint)
    stage = set_stage(run, settings)
    step = step or stepping(run, settings.device)
    with threads(free_threads()), threadpool_limits(1, "blas"):  # more gain nothing on small matrices, and spin
        played, music = _play_scenes(step, run, settings, stage, report)
    known = learned(run) if settings.originality else None
    told = {"engine": step.engine, "digests": digests_of(run, settings.prompt), "known": known}
    return [_take(run, settings, stage, *take, **told) for take in zip(played, music, strict=True)]


@enough_memory("for this model", "play on the CPU (--device cpu)")
def stepping(run: Run, device: str) -> Step:
    """The model of a run, on its device, as the engine that writes takes: for one performance after another."""
    from .engines import make_step

    return make_step(placed(run.model(merge=True), device))


def _play_scenes(
    step: Step, run: Run, settings: GenerateSettings, stage: Stage, report: Reporter
) -> tuple[list[list[Stream]], list[Score]]:
    """For each take its streams, one after another, and the music that they have written."""
    closes = _closes(run, settings, stage)
    played, music, begun = [[] for _ in range(settings.takes)], [None] * settings.takes, stage.region.start
    sections = stage.sections or [len(stage.lines) - 1]
    for scene in scenes(settings.form, sections, settings.vary, stage.lines, ending=settings.ending, closes=closes):
        if scene.source is not None:
            new = [repeated(before, scene) for before in music]
        else:
            stages = [at_scene(stage, scene, before, settings.key) for before in music]
            done = [(tick - begun) / (stage.region.end - begun) for tick in (scene.start, scene.end)]
            before = [streams[-1] for streams in played if streams]
            streams = _play(step, run, settings, stages, _watch(part(report, *done)), after=before)
            new = [_music(run, *written) for written in zip(stages, streams, strict=True)]
            for take, stream in zip(played, streams, strict=True):
                _count_from(stream, int(np.searchsorted(stage.lines, scene.start)))
                take.append(stream)
        if scene.end < stage.region.end or not stage.region.followed_in(stage.score):
            new = [without_slips(one, scene.end) for one in new]
        music = [one if before is None else joined(before, one) for before, one in zip(music, new, strict=True)]
    return played, music


def _count_from(stream: Stream, first: int) -> None:
    """Let what the guard noticed tell bars of the take, of which the stream has written those from `first` on."""
    for event in stream.guard.happened if stream.guard else ():
        event["bar"] += first
        event["back_to"] = None if event["back_to"] is None else event["back_to"] + first


def learned(run: Run) -> Index | None:
    """The pieces that a run has learned, where they can be found and have pitches."""
    corpus = find_corpus(run.folder, run.facts)
    with suppress(EmptyCorpus):
        return originality_index(corpus, base=run.facts["base"]) if corpus and corpus.split("train") else None
    return None


def placed(model: PreTrainedModel, name: str) -> PreTrainedModel:
    """A model where it is to compute: `auto` is the GPU for large ones only. One that is on another device than the CPU
    by itself, such as one in training, stays there."""
    if name == "auto" and model.device.type != "cpu":
        return model
    device = find_device(name, apple=True)
    return model.to("cpu" if name == "auto" and model.num_parameters() < LARGE else device)


def _closes(run: Run, settings: GenerateSettings, stage: Stage) -> bool:
    """Whether the last bar is to be the tonic's. Chords asked for have their own end; one bar alone is in no key."""
    free = not stage.binding and stage.last is not None and settings.max_length is None
    keyed = settings.key is not None or stage.region.start > 0 or len(stage.lines) > 2
    return settings.ending and free and keyed


def _play(step: Step, run: Run, settings: GenerateSettings, stages: list[Stage], watch, after=()) -> list[Stream]:
    """One stream a take, written to its end; `after` are those that the takes go on from.

    A take without a single note is drawn again, a few times: its seed still tells all of it.
    """
    context = min(step.max_seq_len, run.row_length)
    streams = _streams(run, settings, stages, context, after)
    decode(step, streams, context=context, max_length=settings.max_length, watch=watch)
    for attempt in range(1, TRIES):
        wanted = (stage.keep(_music(run, stage, stream)) for stage, stream in zip(stages, streams, strict=True))
        silent = [number for number, music in enumerate(wanted) if not len(music.notes)]
        if not silent:
            break
        anew = _streams(run, settings, stages, context, after)
        for number in silent:
            streams[number] = anew[number]
            streams[number].rng = np.random.default_rng([anew[number].seed, attempt, stages[number].region.start])
        again = [streams[number] for number in silent]
        decode(step, again, context=context, max_length=settings.max_length, watch=watch)
    return streams


def _streams(run: Run, settings: GenerateSettings, stages: list[Stage], context: int, after=()) -> list[Stream]:
    """One stream a take, ready for decode; its random numbers go on from those of `after`.

    A run that has learned no chords closes on one all the same: harmony keeps to it, and no id says it.
    """
    streams = []
    for number, temperature in enumerate(temperatures(settings.temperature, settings.takes)):
        stage, tokenizer = stages[number], run.tokenizer
        score, region = fitted(tokenizer, stage.score, stage.region, int(context * PROMPT_SHARE))
        last = None if stage.last is None else stage.last - stage.region.start + region.start
        plan = tasks.plan(score, region, last=last, ring=False, chords=stage.binding, only=stage.only)
        grammar = tokenizer.grammar(plan if run.knows_chords else dataclasses.replace(plan, chords=False))
        closing = settings.ending and stage.last == stage.region.end
        closing = int(stage.lines[-2]) - stage.region.start + region.start if closing else None
        bound = stage.binding and settings.harmony != "free"
        told = bool(settings.chords or settings.melody) or not stage.charted
        rules = (plan, grammar, settings.harmony, closing)
        harmony = Harmony(*rules, told=told) if bound or closing is not None else None
        sampling = Sampling(temperature, settings.top_k, settings.top_p, settings.min_p)
        prompts = _prompts(tokenizer, stage, score, region, last)
        guard = _guard(run) if settings.guard and isinstance(grammar, NoteGrammar) else None
        if guard and not stage.binding and not len(score.notes):
            guard.sets_in = int(grammar.steps(region.start + score.ticks_per_quarter))
        streams.append(Stream(*prompts, grammar, sampling, settings.seed + number, harmony, guard))
    for stream, before in zip(streams, after, strict=False):
        stream.rng = before.rng
    return streams


def _guard(run: Run) -> Guard:
    """One that knows what the run's corpus has."""
    limits = {name: run.music[name] for name in ("longest_note", "together") if name in run.music}
    if "pitches" in run.music:
        lowest, highest = run.music["pitches"]
        limits["pitches"] = max(lowest - ANOTHER_KEY, 0), min(highest + ANOTHER_KEY, 127)
    return Guard(**limits)


def _prompts(tokenizer: Tokenizer, stage: Stage, score: Score, region: Region, last: int | None) -> list[list[int]]:
    """What stands before the region, and what of it a moved window keeps: nothing of the music before it."""
    end = None if region.followed_in(score) else region.end
    prompt = tasks.prompt(tokenizer, score, region, head=stage.head, last=last, end=end)
    after = score.slice(region.start, max(score.end, region.end) + 1)
    rest = Region(0, region.end - region.start, region.parts)
    prefix = tasks.prompt(tokenizer, after, rest, head=stage.head, end=end and rest.end)
    return [prompt.tolist(), prefix.tolist()]


def _music(run: Run, stage: Stage, stream: Stream) -> Score:
    """What a stream has written, in the ticks of its stage."""
    music = run.tokenizer.decode_body(np.array(stream.ids))
    if stream.guard:
        music = in_ensemble(stage, music, run.music.get("ensembles", ()))
    return written(stage if run.knows_chords else dataclasses.replace(stage, binding=False), music)


def _take(
    run: Run,
    settings: GenerateSettings,
    stage: Stage,
    streams: list[Stream],
    music: Score,
    *,
    engine: str,
    digests: dict[str, str],
    known: Index | None,
) -> Take:
    """One take from its streams, one after another, and the music that they have written."""
    stage, music = stage if streams[-1].cut is None else reached(stage, music), stage.keep(music)
    originality = known.repeats(music, start=stage.region.start) if known else None
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
        digests=digests,
        measures=measures,
        adherence_per_bar=_per_bar(stage, music),
        guarded=tuple(event for stream in streams if stream.guard for event in stream.guard.happened),
        region=stage.written_span,
        extras=noted(stage, settings, score, f"{run.folder.name} seed {seed}"),
        originality=originality,
        chart=stage.chart,
        end=int(stage.prompt.to_file(stage.region.end)) if stage.extends else None,
        remarks=_remarks(settings, stage, music, score, _unexamined(run, settings, originality)),
        alone=added(stage, score),
    )


def _unexamined(run: Run, settings: GenerateSettings, found: Repeats | None) -> str:
    """What of the music that the run has learned a take was not compared with, if that was asked for."""
    if found is None and settings.originality:
        name = run.folder.name
        return f"originality was not examined: the pieces that {name} has learned are not here, or have no pitches"
    return found.unexamined if found else ""


def _remarks(settings: GenerateSettings, stage: Stage, music: Score, score: Score, *more: str) -> tuple[str, ...]:
    """What a musician should know of how a take was made."""
    silent = "" if len(music.notes) else f"nothing was written, in {TRIES} attempts; try a higher temperature"
    unbound = "no chords were given to keep to, so that --harmony strict has no effect"
    unbound = unbound if settings.harmony == "strict" and not stage.binding else ""
    unheard = f"takes of more than {MAX_MINUTES} minutes have no .wav"
    unheard = unheard if too_long(excerpt(score, stage.written_span)) else ""
    remarks = (stage.prompt.remark, unbound, _chords_told(settings, stage), silent, _resting(stage, score), unheard)
    return tuple(remark for remark in (*remarks, *more) if remark)


def _chords_told(settings: GenerateSettings, stage: Stage) -> str:
    """That the chords asked for go on longer than what was written, if they do."""
    chords = progressions(settings.chords, settings.form) if settings.chords is not None else {}
    return remark(chords, settings.form, stage.sections or [len(stage.lines) - 1])


def _resting(stage: Stage, score: Score) -> str:
    """Which of the file's tracks have nothing in what was written, if any, and where."""
    names, region = resting(stage, score), [stage.region.start, stage.region.end]
    if stage.score.free:
        first, last = stage.score.seconds(region)
        where = f"from {first:.1f} s on" if stage.extends else f"from {first:.1f} to {last:.1f} s"
    else:
        bars = stage.score.bars(region[1])
        first, last = np.searchsorted(bars, region[0], side="right"), np.searchsorted(bars, region[1])
        where = f"from bar {first} on" if stage.extends else f"in bars {first}-{last}"
    told = "it; it rests" if len(names) == 1 else "them; they rest"
    return f"{', '.join(names)}: nothing was written for {told} {where}" if names else ""


def _measures(stage: Stage, music: Score) -> dict[str, float]:
    """What can be counted in the music that was written: among the rest of the stage where that matters."""
    whole = stage.score.merge(music)
    first, last = np.searchsorted(whole.bars(stage.region.end), [stage.region.start, stage.region.end])
    bass = bass_at_changes(music, _holding(stage, music))
    return {
        "chord_adherence": chord_adherence(music),
        "rotated_adherence": rotated_adherence(music),
        "strong_beat_adherence": strong_beat_adherence(music, _holding(stage, music)),
        "bass_adherence": mean_known(bass),
        "chord_changes": float(len(bass)),
        "recurrence": mean_known(recurrence_per_bar(whole)[first:last]),
    }


def _holding(stage: Stage, music: Score) -> np.ndarray:
    """The chords that hold in what was written: those asked for, with all that they name, or else the take's own."""
    return stage.score.chords if stage.binding else music.chords


def _per_bar(stage: Stage, music: Score) -> tuple[float | None, ...]:
    """The chord adherence of the bars that were written, None where there is nothing to tell."""
    values = adherence_per_bar(music, _holding(stage, music), stage.lines)
    return tuple(None if np.isnan(value) else round(float(value), 4) for value in values)


def _again(settings: GenerateSettings, stage: Stage, seed: int, temperature: float) -> dict:
    """Keywords of `generate` that make one take again; a prompt that is a Score is not among them."""
    asked = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    asked |= {"takes": 1, "best": None, "seed": seed, "temperature": f"{temperature:g}"}
    if settings.melody:
        asked["chords"] = stage.chart or None
    if isinstance(settings.prompt, Path):
        asked["prompt"] = str(settings.prompt)
    return {name: value for name, value in asked.items() if value is not None and not isinstance(value, Score)}


def _watch(report: Reporter) -> Callable[[int, Sequence[Stream]], None]:
    """A callback for decode that tells the slowest take's share now and then."""

    done = 0.0  # the guard may step back, and a silent take begin again; a progress bar does not

    def watch(count: int, streams: Sequence[Stream]) -> None:
        nonlocal done
        if count % 16 == 0:
            done = max(done, min(stream.grammar.share for stream in streams))
            report(Progress(done, "playing"))

    return watch
