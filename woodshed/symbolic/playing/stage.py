"""The stage: what is there before the model plays, and the region that it is to write.

Every wish is a region of a prompt, with chords that hold in it or not:

    nothing given                      an empty file, and a region of so many bars
    a file, and how much               the bars after its end                           (extend)
    a file, and which bars or seconds  those, in all parts or in some                   (fill)
    a file, and parts                  all of it, in these parts, there or new          (fill, accompany)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from ...errors import InputError
from ..data.tasks import Region, describe
from ..music.chords import QUALITY_NAMES, lay_out, recognise
from ..music.keys import estimate_key, key_name, parse_key
from ..music.score import PARTS, Score
from ..run import Run
from ..tokenizers import Tokenizer
from .chart import bar_lines, bar_ticks, chart, chart_bars, harmonised, parse_metre, spliced
from .form import SECTION_BARS, Scene, over_form, progressions, usual_sections
from .prompts import Prompt, listed, read_prompt
from .settings import MOST_BARS, GenerateSettings

TICKS = 480  # a quarter in takes without a prompt
DEFAULT_BARS = 16  # at least; chords are played to their end
KEY_BARS = 16  # before the end, which tell the key
USUAL_BARS = 8  # before the end, which tell tempo and metre
ACCOMPANIMENT = ("accompaniment",)  # what is written to a melody


@dataclass(frozen=True)
class Stage:
    """A prompt without what is to be written, with its chords laid out, and the region that is to be written."""

    prompt: Prompt
    file: Score  # what stays of the prompt's file
    score: Score  # what stays of it as the run sees it, tempo, metre and chords of the region with it
    region: Region  # in ticks of `score`
    tracks: tuple[int, ...] = ()  # of the file, whose notes are written anew
    binding: bool = True  # whether the score's chords hold in the region; otherwise the model plays its own
    charted: bool = True  # whether the chords are others than the file states
    last: int | None = None  # the tick to count down to, where the music comes to its end
    head: tuple[str, ...] = ()  # words that tell the run what music it is
    only: tuple[str, ...] = ()  # the run may write no other parts; where it has not learned those asked for, any
    kept: tuple[str, ...] = ()  # the parts asked for without a prompt: of what plays together the others are dropped
    programs: dict[str, int] = field(default_factory=dict)  # General MIDI's, of tracks that are new
    bar: int | None = None  # ticks of a bar in free time, where a tempo or metre was asked for
    sections: tuple[int, ...] = ()  # how many bars each section of the form has

    @cached_property
    def lines(self) -> np.ndarray:
        """The bar lines of the region, its start and its end included."""
        return bar_lines(self.score, self.region.start, self.region.end, self.bar)

    @property
    def in_file(self) -> tuple[int, int]:
        """The region in ticks of the file."""
        return tuple(np.maximum(self.prompt.to_file([self.region.start, self.region.end]), 0).tolist())

    @property
    def written_span(self) -> tuple[int, int] | None:
        """The region in ticks of the file; None without a prompt, where all of it is written."""
        return self.in_file if len(self.prompt.file.notes) else None

    @property
    def extends(self) -> bool:
        """Whether the region lies after the prompt, or there is none."""
        return not self.tracks and not self.region.parts

    def keep(self, music: Score) -> Score:
        """Of music that was written, what was asked for, with all of its pedal, whatever track that lies on."""
        return music.only(*self.kept).replace(pedals=music.pedals) if self.kept else music

    @property
    def chart(self) -> str:
        """The chords of the region as `--chords` takes them; empty where none hold."""
        if not (self.binding and len(self.score.chords)):
            return ""
        return chart(self.score.chords, self.lines)


def set_stage(run: Run, settings: GenerateSettings) -> Stage:
    """What the settings ask of a run as a Stage. Raises InputError and FileError for what cannot be."""
    learned, knows = run.music, run.knows_chords
    if settings.chords is not None and not knows:
        raise InputError(f"--chords: {run.folder} has learned no chords; prepare with chords in remi or performance")
    if settings.ending and not run.tokenizer.knows_chords:
        raise InputError(f"--ending: {run.folder} plays MidiTok's tokens, which know of no end; leave it out")
    if settings.parts and settings.prompt is None and not run.tokenizer.knows_parts:
        raise InputError(f"--parts: {run.folder} has learned no parts; prepare the corpus with remi or performance")
    stage = _empty(settings, learned) if settings.prompt is None else _around(run, settings, learned, knows)
    return replace(stage, programs=learned.get("programs", {}) | stage.prompt.programs)


def _around(run: Run, settings: GenerateSettings, learned: dict, knows: bool) -> Stage:
    """The bars after a prompt, or a region inside it."""
    prompt = read_prompt(
        settings.prompt,
        learned.get("prepared", {}),
        parts=settings.parts,
        melody=settings.melody,
        keep_grid=settings.keep_grid,
    )
    name = "the Score" if isinstance(settings.prompt, Score) else settings.prompt
    if prompt.score.free and run.tokenizer.needs_bars:
        way = "take a run of played music"
        way = way if prompt.file.free else f"believe its bars with --keep-grid, or {way}"
        raise InputError(f"{name}: it is played freely and this run needs bars; {way}")
    if not knows:
        prompt = replace(prompt, score=prompt.score.replace(chords=()))
    if settings.span is None and not settings.parts and not settings.melody:
        return _after(prompt, settings, knows)
    return _inside(prompt, settings, run.tokenizer, learned, knows)


def _empty(settings: GenerateSettings, learned: dict) -> Stage:
    """Nothing but tempo, metre and chords."""
    bpm = settings.bpm or learned.get("bpm", 120)
    metre = map(int, learned.get("metre", "4/4").split("/")) if settings.metre is None else parse_metre(settings.metre)
    score = Score(tempos=[(0, round(6e7 / bpm))], metres=[(0, *metre)], tracks=(), ticks_per_quarter=TICKS)
    lines, chords, sections = _length(settings, score, 0)
    end = int(lines[-1])
    staged, head = score.replace(chords=chords), _keyed(learned.get("head", ()), settings)
    told = dict(binding=settings.chords is not None, last=end if settings.ending else None, head=head)
    if settings.parts:
        told |= dict(kept=settings.parts, only=_ensemble(settings.parts, learned.get("ensembles", ())))
    return Stage(Prompt(score, staged), score, staged, Region(0, end), sections=sections, **told)


def _ensemble(parts: Sequence[str], ensembles: Sequence[Collection[str]]) -> tuple[str, ...]:
    """What plays where these parts are asked for: they alone, if the run has learned that, or else with what most
    usually plays beside them."""
    having = [one for one in ensembles if {*parts} <= {*one}]
    if not having:
        raise InputError(f"--parts {' '.join(parts)}: {_plays(ensembles) or 'this run has learned no parts'}")
    return tuple(next((one for one in having if {*parts} == {*one}), having[0]))


def _plays(ensembles: Sequence[Collection[str]]) -> str:
    """What a run can play, in words."""
    return f"this run plays {', '.join(' + '.join(one) for one in ensembles)}" * bool(ensembles)


def _after(prompt: Prompt, settings: GenerateSettings, knows: bool) -> Stage:
    """The bars after a prompt."""
    score = prompt.score
    if knows and not len(score.chords):
        score = score.replace(chords=recognise(score))
    slack = score.ticks_per_quarter // 4  # a last note may ring a little past the bar line
    end, last = prompt.to_score([prompt.file.end, prompt.file.notes["onset"].max()])
    start = int(score.seams(max(int(end) - slack, int(last) + 1))[-1])
    usec = None if score.free else _usual(score, start)[0]  # for both: bars of the file may be shorter or longer
    file = _ended(prompt.file, int(prompt.to_file(start)), settings, usec)
    score = _ended(score, start, settings, usec)
    lines, chords, sections = _length(settings, score, start)
    end = int(lines[-1])
    score = score.replace(chords=np.concatenate([score.chords, chords]))
    told = dict(binding=settings.chords is not None, last=end if settings.ending else None, bar=int(lines[1]) - start)
    told |= dict(sections=sections, head=_keyed(describe(prompt.score), settings))
    return Stage(prompt, file, score, Region(start, end), **told)


def _keyed(head: Iterable[str], settings: GenerateSettings) -> tuple[str, ...]:
    """Head words with the key that is asked for, if one is, in place of another."""
    if settings.key is None:
        return tuple(head)
    others = [word for word in head if not word.startswith("Key_")]
    return (*others, f"Key_{key_name(*parse_key(settings.key))}")


def _ended(score: Score, start: int, settings: GenerateSettings, usec: int | None) -> Score:
    """A score that says nothing from `start` on but the tempo and metre asked for or usual, the former in microseconds
    a quarter; nothing at all in free time, where that is None."""
    score = score.replace(
        pedals=score.pedals[score.pedals["tick"] < start], chords=score.chords[score.chords["tick"] < start]
    )
    if usec is None:
        return score
    tempos, metres = (rows[rows["tick"] <= start].tolist() for rows in (score.tempos, score.metres))
    _, metre = _usual(score, start)
    usec = usec if settings.bpm is None else round(6e7 / settings.bpm)
    metre = metre if settings.metre is None else parse_metre(settings.metre)
    tempos += [(start, usec)] if usec != tempos[-1][1] else []
    metres += [(start, *metre)] if metre != tuple(metres[-1][1:]) else []
    return score.replace(tempos=tempos, metres=metres)


def _usual(score: Score, start: int) -> tuple[int, tuple[int, int]]:
    """The median tempo, in microseconds a quarter, and the most frequent metre of the bars before `start`: music goes
    on neither as slowly as a piece has closed nor in the metre of a last bar that was cut short.
    """
    first = int(score.bars(start)[-USUAL_BARS - 1 :][0])
    tempos, metres = score.tempos, score.metres
    held = [np.diff(np.append(rows["tick"], start).clip(first, start)) for rows in (tempos, metres)]
    order = np.argsort(tempos["usec"])
    middle = np.searchsorted(np.cumsum(held[0][order]), held[0].sum() / 2)
    kinds, which = np.unique(metres[["numerator", "denominator"]], return_inverse=True)
    return int(tempos["usec"][order[middle]]), kinds[np.bincount(which, held[1]).argmax()].item()


def _inside(prompt: Prompt, settings: GenerateSettings, tokenizer: Tokenizer, learned: dict, knows: bool) -> Stage:
    """Some bars or seconds of a prompt, or all of it, in all parts or in some."""
    ensembles = learned.get("ensembles", ())
    new = _new_parts(prompt, settings, ensembles)
    tracks = [] if settings.melody else prompt.asked(settings.parts)
    if new:
        written = _run_parts(prompt, settings, tracks, new)
        prompt = prompt.heard_beside(written, [one for one in ensembles if {*new} < {*one}])
    start, end = _span(prompt, settings, tokenizer)
    # on a grid a note played a little early belongs to the bar on whose line it is heard
    slack = prompt.score.ticks_per_quarter // (2 * tokenizer.steps) if tokenizer.needs_bars else 0
    file, score = prompt.without(tracks, start - slack, end - slack)
    region = Region(start, end, _run_parts(prompt, settings, tracks, new))
    if region.given(score) and not tokenizer.knows_parts:
        raise InputError(
            f"{tokenizer.name} tokens know no parts to play to; prepare the corpus with remi or performance"
        )
    followed = region.followed_in(score)
    head = [*learned.get("head", ()), *describe(score)[2:]] if settings.melody or new else describe(score)
    known = settings.parts and {*region.parts} <= {part for one in ensembles for part in one}
    told = dict(last=None if followed else end, head=tuple(head), only=region.parts if known else ())
    if not knows:
        return Stage(prompt, file, score, region, tuple(tracks), binding=False, charted=False, **told)
    stated, asked = len(score.chords) > 0, settings.chords is not None
    if not stated:
        bare = settings.melody or (new and prompt.parts() == ["melody"])
        chords = harmonised(prompt.score) if bare else recognise(prompt.score)
        score = score.replace(chords=chords)
    if asked or settings.melody:
        lines = bar_lines(score, start, end)
        bars = progressions(settings.chords, "A")["A"] if asked else chart_bars(score.chords, lines)
        score = score.replace(chords=spliced(score.chords, lay_out(bars, lines), start, end, resume=followed))
    binding = asked or stated or bool(region.given(score))
    charted = asked or not stated or settings.melody is not None
    return Stage(prompt, file, score, region, tuple(tracks), binding=binding, charted=charted, **told)


def _run_parts(
    prompt: Prompt, settings: GenerateSettings, tracks: list[int], new: Sequence[str]
) -> tuple[str, ...] | None:
    """The parts that are written, in the run's words; None for all of them."""
    if settings.melody:
        return settings.parts or ACCOMPANIMENT
    if settings.parts is None:
        return None
    known = zip(prompt.seen, prompt.score.tracks, strict=True)
    return tuple(dict.fromkeys([*(track.part for number, track in known if number in tracks), *new]))


def _new_parts(prompt: Prompt, settings: GenerateSettings, ensembles: Sequence[Collection[str]]) -> list[str]:
    """The parts asked for that no track of the file plays, if the run has learned to play them to others."""
    parts = dict.fromkeys(settings.parts or ())
    if settings.melody:
        if unknown := {*parts} - {*PARTS}:
            raise InputError(f"--parts {min(unknown)}: choose from: {', '.join(PARTS)}")
        return []
    new = [part for part in parts if not prompt.asked([part])]
    if not new or any({*new} < {*one} for one in ensembles):
        return new
    told = "this run does not play it" if all(map(prompt.hides, new)) else "the file has no such part"
    told += f"; choose from: {', '.join(prompt.parts())}, or a track: {listed(prompt.file, prompt.seen)}"
    raise InputError(f"--parts {' '.join(new)}: " + "; ".join(filter(None, [told, _plays(ensembles)])))


def _span(prompt: Prompt, settings: GenerateSettings, tokenizer: Tokenizer) -> tuple[int, int]:
    """First and last tick of the region inside a prompt, in ticks of its score."""
    score, span = prompt.score, settings.span
    lines = score.seams(int(prompt.to_score(prompt.file.end)))  # drums, which are not seen, count
    if span is None:
        return 0, int(lines[-1])
    first, last = span
    if isinstance(settings.bars, str):
        if score.free:
            raise InputError(f"--bars {settings.bars}: the file is played freely and has no bars; give --seconds")
        if last > len(lines) - 1:
            raise InputError(f"--bars {settings.bars}: the file has {len(lines) - 1} bars; extend writes more")
        return int(lines[int(first) - 1]), int(lines[int(last)])
    length = float(prompt.file.seconds(prompt.file.end))
    if first >= length or last > length + 1:
        raise InputError(f"--seconds {settings.seconds}: the file lasts {length:.1f} s; extend writes more")
    start, end = (int(prompt.to_score(prompt.file.ticks(second))) for second in span)
    if tokenizer.needs_bars:
        start = int(lines[max(np.searchsorted(lines, start, side="right") - 1, 0)])
        end = int(lines[min(np.searchsorted(lines, end), len(lines) - 1)])
    return start, max(end, start + 1)


def _length(settings: GenerateSettings, score: Score, start: int) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """The bar lines of a region that begins at `start`, after all else, the chords asked for in it, and how many bars
    each section has."""
    form, bar = settings.form, bar_ticks(score, settings.bpm, settings.metre)
    chords = progressions(settings.chords, form) if settings.chords is not None else {}
    if (count := _bars_asked(settings, score, bar)) is None:
        sections = usual_sections(settings.chords, form, DEFAULT_BARS if len(form) == 1 else SECTION_BARS)
    else:
        sections = [-(-count // len(form))] * len(form)  # a form of so many seconds goes on until it is whole
    if settings.bars is None and (count := sum(sections)) > MOST_BARS:
        asked = "--chords" if settings.seconds is None else f"--seconds {settings.seconds:g}"
        raise InputError(f"{asked}: {count:,} bars; give at most {MOST_BARS:,}")
    lines = start + bar * np.arange(sum(sections) + 1)
    laid = lay_out(over_form(chords, form, sections), lines) if chords else score.chords[:0]
    return lines, laid, tuple(sections)


def _bars_asked(settings: GenerateSettings, score: Score, bar: int) -> int | None:
    """How many bars of so many ticks are to be written; None where nothing says."""
    if settings.bars is not None:
        return int(settings.bars)
    if settings.seconds is not None:
        ticks = settings.seconds * 1e6 * score.ticks_per_quarter / int(score.tempos["usec"][-1])
        return max(1, int(np.ceil(ticks / bar - 1e-9)))
    return None if settings.max_length is None else min(MOST_BARS, settings.max_length)


# --- one stretch after another ---------------------------------------------------------------------------------


def at_scene(stage: Stage, scene: Scene, music: Score | None, key: str | None = None) -> Stage:
    """The stage of a scene, and on it the music of those before it, if there are any."""
    staged = replace(stage, region=Region(scene.start, scene.end, stage.region.parts))
    if music is not None:
        score = stage.score.merge(music)
        if not stage.binding:
            chords = spliced(stage.score.chords, music.chords, stage.region.start, scene.start, resume=False)
            score = score.replace(chords=chords)
        staged = replace(staged, score=score)
    return closing(staged, key) if scene.closes else staged


def closing(stage: Stage, key: str | None = None) -> Stage:
    """A stage of one bar, the last, over the tonic of the key asked for, or of that which the music before it is in."""
    start, score = stage.region.start, stage.score
    heard = score.slice(max(0, start - KEY_BARS * (stage.region.end - start)), start)
    tonic, mode = parse_key(key) if key else estimate_key(heard)[:2]
    quality = QUALITY_NAMES.index("maj" if mode == "major" else "min")
    chord = np.array([(start, tonic, quality, tonic)], dtype=score.chords.dtype)
    return replace(stage, score=score.replace(chords=np.concatenate([score.chords, chord])), binding=True)


# --- what fits into a context ----------------------------------------------------------------------------------


def fitted(tokenizer: Tokenizer, score: Score, region: Region, room: int) -> tuple[Score, Region]:
    """The stage with only so many bars around the region as fit into `room` ids: half of it before, half after it,
    or what the other side leaves. A bar that does not fit is left out with all that lies beyond it.
    """
    lines = score.seams(max(score.end, region.end)).tolist()
    followed = region.followed_in(score)
    before = [line for line in reversed(lines) if line < region.start]
    after = [line for line in lines if line > region.end] if followed else []

    def size(one: int, other: int) -> int:
        return len(tokenizer.body(score, min(one, other), max(one, other), whole=False).ids)

    _, used = _reach(after, region.end, room // 2, size)
    first, used = _reach(before, region.start, room - used, size)
    stop, _ = _reach(after, region.end, room - used, size)
    moved = Region(region.start - first, region.end - first, region.parts)
    return score.slice(first, stop if followed else max(region.end, score.end + 1)), moved


def _reach(lines: Iterable[int], near: int, room: int, size: Callable[[int, int], int]) -> tuple[int, int]:
    """The farthest of the lines so that all between fits into the room, and how much of it is used."""
    used = 0
    for far in lines:
        more = size(near, far)
        if used + more > room:
            break
        near, used = far, used + more
    return near, used
