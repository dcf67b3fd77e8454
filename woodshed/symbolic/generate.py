"""Play: a run, and chords, a few bars or nothing, become takes, each as .mid, .wav, .png and .json."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from .. import __version__
from ..config import updated
from ..errors import FileError, InputError
from ..files import write_file
from . import tasks
from .chords import lay_out, parse_progression
from .decode import Sampling, Stream, decode
from .inspect import InspectSettings, examine
from .measure import chord_adherence, recurrence_per_bar, rotated_adherence
from .midi import write_midi
from .run import Run, open_run
from .score import Score
from .tasks import Region
from .tokenizers import Tokenizer

TICKS = 480  # a quarter in written takes
DEFAULT_BARS = 16
MOST_BARS = 2000
PROMPT_SHARE = 0.5  # the most of a context that a prompt takes


@dataclass(frozen=True)
class GenerateSettings:
    """What to play. With chords it plays over them; with a prompt it goes on from it; with neither it makes its own."""

    chords: str | None = None
    """Chords such as "Cmaj7 Am7 | Dm7 G7", repeated to the length asked; without any | one chord a bar."""
    prompt: str | None = None
    """A MIDI file to go on from; the take begins with it."""
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
    keep_grid: bool = False
    """Believe the bars and beats of the prompt instead of checking them."""
    ending: bool = False
    """Let the model know how much is left, so that it comes to an end."""
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
    seed: int | None = None
    """The first take's seed; the others count on from it. By default a new one; every take stores its own."""
    checkpoint: int | None = None
    """Play one of the run's checkpoints instead of the best."""


@dataclass(frozen=True)
class Take:
    """One generated piece, with all that is needed to make it again."""

    score: Score
    notes: int  # that were written; those of a prompt do not count
    seed: int
    temperature: float
    settings: dict = field(repr=False)  # keywords of `generate` that make this very take
    run: str = ""
    engine: str = ""
    measures: dict = field(default_factory=dict)

    def facts(self) -> dict:
        """What stands in the take's .json and, as text events, in its .mid."""
        facts = {name: getattr(self, name) for name in ("seed", "temperature", "run", "engine", "notes")}
        facts = facts | {"woodshed": __version__, "settings": self.settings}
        return facts | {"measures": {k: None if np.isnan(v) else round(v, 4) for k, v in self.measures.items()}}

    def save(self, stem: str | Path, *, sound: bool = True, picture: bool = True) -> list[Path]:
        """Write `stem`.mid, .wav, .png and .json; nothing that exists is overwritten."""
        stem = Path(stem)
        music = [stem.with_name(f"{stem.name}.{kind}") for kind in ("mid", "json")]
        for path in (*music, *_shown(stem)):
            if path.exists():
                raise FileError(path, "it exists already; choose another name")
        texts = [f"woodshed {name}: {json.dumps(value)}" for name, value in self.facts().items() if name != "measures"]
        write_midi(self.score, music[0], texts=texts)
        write_file(music[1], json.dumps(self.facts(), indent=1, ensure_ascii=False))
        return music + self.show(stem, sound=sound, picture=picture)

    def show(self, stem: str | Path, *, sound: bool = True, picture: bool = True) -> list[Path]:
        """Write how it sounds, `stem`.wav, and looks, `stem`.png."""
        wav, png = _shown(Path(stem))
        if sound:
            from .sound import synthesise, write_wav

            write_wav(wav, synthesise(self.score))
        if picture:
            from .roll import draw_roll

            draw_roll(self.score, png, title=f"{self.run} seed {self.seed} temperature {self.temperature:g}")
        return [wav] * sound + [png] * picture


def _shown(stem: Path) -> list[Path]:
    return [stem.with_name(f"{stem.name}.{kind}") for kind in ("wav", "png")]


def generate(
    run: Run | str | Path,
    settings: GenerateSettings | None = None,
    *,
    progress: Callable[[float], None] | None = None,
    **changes,
) -> list[Take]:
    """Play takes and return them; `Take.save` writes one.

    `run` is a Run or its folder; settings may be given as keywords: `generate("my-style", chords="Dm7 G7 Cmaj7",
    bars=8, takes=3, seed=1)`. `progress` is called with the share that is done, 0 to 1.

    Raises InputError for chords, a metre or a length that cannot be played, FileError for a prompt that cannot be read
    and RunError for a folder that is no run.
    """
    from .step import make_step

    settings = make_settings(settings, changes)
    run = run if isinstance(run, Run) else open_run(run, settings.checkpoint)
    score, region = stage(run, settings)
    model = run.model(merge=True)
    step = make_step(model)
    context = min(step.max_seq_len, run.facts.get("settings", {}).get("max_seq_len") or step.max_seq_len)
    streams = _streams(run, settings, *_fitted(run.tokenizer, score, region, int(context * PROMPT_SHARE)))
    report = _reporter(progress) if progress else None
    decode(step, streams, context=context, max_length=settings.max_length, progress=report)
    return [_take(run, settings, stream, score, region, type(step).__name__) for stream in streams]


def _streams(run: Run, settings: GenerateSettings, score: Score, region: Region) -> list[Stream]:
    """One stream a take, ready for decode."""
    tokenizer, head = run.tokenizer, run.facts.get("music", {}).get("head", [])
    last = region.end if settings.ending else None
    prompt = tasks.prompt(tokenizer, score, region, head=head, last=last).tolist()
    prefix = tasks.prompt(tokenizer, score.replace(notes=()), Region(0, region.end), head=head).tolist()
    entropy = settings.seed if settings.seed is not None else int(np.random.SeedSequence().entropy % 2**31)
    streams = []
    for number, temperature in enumerate(temperatures(settings.temperature, settings.takes)):
        plan = tasks.plan(score, region, last=last, ring=False, chords=settings.chords is not None)
        grammar = tokenizer.grammar(plan)
        sampling = Sampling(temperature, settings.top_k, settings.top_p, settings.min_p)
        streams.append(Stream(prompt, prefix, grammar, sampling, entropy + number))
    return streams


def _take(run: Run, settings: GenerateSettings, stream: Stream, score: Score, region: Region, engine: str) -> Take:
    music = place(run.tokenizer.decode_body(np.array(stream.ids)), score, region, settings.chords is not None)
    if stream.cut is not None:
        music = music.replace(chords=music.chords[music.chords["tick"] < music.end])
    written = music.slice(region.start, max(music.end, region.start + 1))
    bars = np.zeros(0) if music.free else recurrence_per_bar(music)[-len(written.bars()) + 1 :]
    measures = {
        "chord_adherence": chord_adherence(written),
        "rotated_adherence": rotated_adherence(written),
        "recurrence": float(np.nanmean(bars)) if np.isfinite(bars).any() else np.nan,
        "legal_probability": stream.legal / max(stream.sampled, 1),
        "nats_per_id": -stream.log_likelihood / max(stream.sampled, 1),
    }
    temperature = stream.sampling.temperature
    again = dataclasses.replace(settings, takes=1, seed=stream.seed, temperature=f"{temperature:g}")
    asked = {name: value for name, value in asdict(again).items() if value is not None}
    return Take(music, len(written.notes), stream.seed, temperature, asked, run.folder.name, engine, measures)


def make_settings(settings: GenerateSettings | None, changes: dict) -> GenerateSettings:
    """Settings with changes, every value checked."""
    settings = updated(GenerateSettings, settings, changes)
    if settings.takes < 1:
        raise InputError(f"--takes {settings.takes}: choose 1 or more")
    if settings.bars is not None and not 1 <= settings.bars <= MOST_BARS:
        raise InputError(f"--bars {settings.bars}: choose 1 to {MOST_BARS}")
    if settings.seconds is not None and not 0 < settings.seconds <= 3600:
        raise InputError(f"--seconds {settings.seconds:g}: choose more than 0, at most 3600")
    if settings.bars is not None and settings.seconds is not None:
        raise InputError(
            f"--bars {settings.bars} and --seconds {settings.seconds:g} both say how long; give one of them"
        )
    if settings.max_length is not None and settings.max_length < 1:
        raise InputError(f"--max-length {settings.max_length}: choose 1 or more")
    if settings.seed is not None and settings.seed < 0:
        raise InputError(f"--seed {settings.seed}: choose 0 or more")
    if settings.bpm is not None and not 10 <= settings.bpm <= 500:
        raise InputError(f"--bpm {settings.bpm:g}: choose 10 to 500")
    return settings


def temperatures(text: str, takes: int) -> list[float]:
    """ "0.8:1.2" as evenly spaced temperatures for so many takes; one number stands for all."""
    try:
        values = [float(part) for part in str(text).split(":")]
    except ValueError:
        values = []
    if len(values) not in (1, 2) or not np.isfinite(values).all():
        raise InputError(f"--temperature {text!r}: give one number (1.0) or a range over the takes (0.8:1.2)")
    return [round(float(value), 4) for value in np.linspace(values[0], values[-1], takes)]


def parse_metre(text: str) -> tuple[int, int]:
    """ "6/8" as (6, 8)."""
    above, _, below = text.partition("/")
    if above.isdigit() and below.isdigit() and 1 <= int(above) <= 15 and int(below) in (2, 4, 8, 16):
        return int(above), int(below)
    raise InputError(f"--metre {text!r}: write beats over 2, 4, 8 or 16, such as 4/4, 3/4 or 6/8")


# --- the stage: what is there before the model plays -----------------------------------------------------------


def stage(run: Run, settings: GenerateSettings) -> tuple[Score, Region]:
    """The Score with its prompt, tempo, metre and chords laid out, and the region that is to be written."""
    learned = run.facts.get("music", {})
    if settings.chords is not None and not learned.get("chords", run.tokenizer.knows_chords):
        raise InputError(f"--chords: {run.folder} has learned no chords; prepare with chords in remi or performance")
    score, start = _opening(run, settings, learned)
    bar = _bar_ticks(score, settings)
    progression = parse_progression(settings.chords) if settings.chords is not None else None
    end = start + bar * _length(settings, score, bar, len(progression) if progression else 0)
    if progression:
        before = score.chords[score.chords["tick"] < start]
        lines = np.arange(start, end + 1, bar)
        score = score.replace(chords=np.concatenate([before, lay_out(progression, lines)]))
    return score, Region(start, end)


def _opening(run: Run, settings: GenerateSettings, learned: dict) -> tuple[Score, int]:
    """An empty Score in the tempo and metre asked for, or the prompt and the bar line where it ends."""
    if settings.prompt is None:
        bpm = settings.bpm or learned.get("bpm", 120)
        metre = parse_metre(learned.get("metre", "4/4") if settings.metre is None else settings.metre)
        return Score(tempos=[(0, round(6e7 / bpm))], metres=[(0, *metre)], ticks_per_quarter=TICKS), 0
    score = _read_prompt(settings, run, learned)
    slack = score.ticks_per_quarter // 4  # a last note may ring a little past the bar line
    start = int(score.seams(max(score.end - slack, int(score.notes["onset"].max()) + 1))[-1])
    score = score.replace(
        tempos=score.tempos[score.tempos["tick"] <= start],
        metres=score.metres[score.metres["tick"] <= start],
        pedals=score.pedals[score.pedals["tick"] < start],
    )
    if settings.bpm is not None and not score.free:
        score = score.replace(tempos=[*score.tempos.tolist(), (start, round(6e7 / settings.bpm))])
    if settings.metre is not None and not score.free:
        score = score.replace(metres=[*score.metres.tolist(), (start, *parse_metre(settings.metre))])
    return score, start


def _read_prompt(settings: GenerateSettings, run: Run, learned: dict) -> Score:
    """The prompt made ready as the run's corpus was: its grid, its parts, its chords."""
    prepared = learned.get("prepared", {}) | ({"keep_grid": True} if settings.keep_grid else {})
    open_door = dict(min_seconds=0, min_notes=1, max_notes_per_second=1e9, keep=("range", "programs"))
    chords = "recognise" if learned.get("chords", run.tokenizer.knows_chords) else "none"
    finding = examine(settings.prompt, InspectSettings(**prepared, **open_door), chords=chords)
    if finding.score is None:
        raise FileError(settings.prompt, f"no prompt: {finding.detail or finding.reason}")
    if finding.score.free and run.tokenizer.needs_bars:
        reason = "it is played freely and this run needs bars; believe its bars with --keep-grid, or use another run"
        raise InputError(f"--prompt {settings.prompt}: {reason}")
    return finding.score if finding.score.free else finding.score.retime(TICKS)


def _bar_ticks(score: Score, settings: GenerateSettings) -> int:
    """A bar of the region; in free time that of --bpm and --metre, by default two seconds."""
    _, numerator, denominator = score.metres[-1].tolist()
    if score.free and settings.metre is not None:
        numerator, denominator = parse_metre(settings.metre)
    faster = (settings.bpm or 120) / 120 if score.free else 1
    return round(score.ticks_per_quarter * 4 * numerator / denominator / faster)


def _length(settings: GenerateSettings, score: Score, bar: int, chords: int) -> int:
    """How many bars to write."""
    if settings.bars is not None:
        return settings.bars
    if settings.seconds is not None:
        ticks = settings.seconds * 1e6 * score.ticks_per_quarter / int(score.tempos["usec"][-1])
        return max(1, int(np.ceil(ticks / bar - 1e-9)))
    if settings.max_length is not None:
        return min(MOST_BARS, settings.max_length)
    return max(DEFAULT_BARS, chords)


def _fitted(tokenizer: Tokenizer, score: Score, region: Region, room: int) -> tuple[Score, Region]:
    """The stage with only so many bars before the region as fit into `room` ids."""
    lines = [int(line) for line in score.seams(max(region.start, 1)) if line < region.start]
    while len(lines) > 1 and len(tokenizer.body(score, lines[0], region.start, whole=False).ids) > room:
        lines = lines[max(1, len(lines) // 8) :]
    cut = lines[0] if lines else 0
    moved = Region(region.start - cut, region.end - cut, region.parts)
    return score.slice(cut, max(region.end, score.end + 1)), moved


def place(music: Score, score: Score, region: Region, chords: bool) -> Score:
    """`music`, which begins at tick 0, in the region of the stage, in the stage's ticks, tempo and metre.

    Notes join the track that has their part. The pedal of the stage lifts where the music begins. From there on the
    chords are the stage's own (`chords`), or the music's.
    """
    music = _in_ticks_of(music, score, region.start)
    tracks = list(score.tracks) if len(score.notes) else []
    where = []
    for track in music.tracks:
        parts = [known.part for known in tracks]
        where.append(parts.index(track.part) if track.part in parts else len(tracks))
        tracks += [] if track.part in parts else [track]
    notes, pedals = music.notes.copy(), music.pedals.copy()
    notes["track"] = np.array(where, dtype=np.uint8)[notes["track"]]
    pedals["track"] = np.array(where, dtype=np.uint8)[pedals["track"]]
    kept = score.pedals[score.pedals["tick"] < region.start]
    down = [t for t in np.unique(kept["track"]) if kept[kept["track"] == t]["value"][-1] > 0]
    lifts = np.array([(region.start, 0, track) for track in down], dtype=kept.dtype)
    before = score.chords[score.chords["tick"] < region.start]
    return score.replace(
        notes=np.concatenate([score.notes, notes]),
        pedals=np.concatenate([kept, lifts, pedals]),
        chords=score.chords if chords else np.concatenate([before, music.chords]),
        tracks=tuple(tracks),
    ).without_overlaps()


def _in_ticks_of(music: Score, score: Score, start: int) -> Score:
    if music.free == score.free:
        music = music.retime(score.ticks_per_quarter)

        def tick(ticks):
            return ticks.astype(np.int64) + start
    else:
        origin = float(score.seconds(start))

        def tick(ticks):
            return score.ticks(origin + music.seconds(ticks))

    notes, pedals, chords = music.notes.copy(), music.pedals.copy(), music.chords.copy()
    ends = tick(music.notes["onset"] + music.notes["duration"])
    notes["onset"] = tick(music.notes["onset"])
    notes["duration"] = np.maximum(ends - notes["onset"], 1)
    pedals["tick"], chords["tick"] = tick(pedals["tick"]), tick(chords["tick"])
    return music.replace(notes=notes, pedals=pedals, chords=chords)


def _reporter(progress: Callable[[float], None]) -> Callable[[int, Sequence[Stream]], None]:
    """A callback for decode that tells the slowest take's share, now and then."""

    def report(written: int, streams: Sequence[Stream]) -> None:
        if written % 16 == 0:
            progress(min(stream.grammar.share for stream in streams))

    return report


def free_folder(parent: Path) -> Path:
    """The next free number in a folder, made: 001, 002, ..."""
    number = 1 + max((int(path.name) for path in parent.glob("*") if path.name.isdigit()), default=0)
    while True:
        folder = parent / f"{number:03d}"
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
        except OSError as error:
            raise FileError(folder, f"cannot be made: {error.strerror or error}") from None


def save_takes(takes: list[Take], folder: Path) -> Iterator[tuple[Take, list[Path]]]:
    """Write takes as `take-1`, `take-2`, ... and yield each with its files.

    The music of all of them comes before sounds and pictures, which need a thousand times its room.
    """
    stems = [Path(folder) / f"take-{number}" for number in range(1, len(takes) + 1)]
    try:
        music = [take.save(stem, sound=False, picture=False) for take, stem in zip(takes, stems, strict=True)]
        for take, stem, paths in zip(takes, stems, music, strict=True):
            yield take, paths + take.show(stem)
    except FileError as error:
        kept = sum(stem.with_name(f"{stem.name}.mid").exists() for stem in stems)
        told = f"; kept: the music (.mid) of {kept} of {len(takes)} takes"
        raise FileError(error.path, error.reason + told) from None
