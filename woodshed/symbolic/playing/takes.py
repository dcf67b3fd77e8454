"""A take: one generated piece with its seed, settings and measures, and the files it is written to."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ... import __version__
from ...errors import FileError, InputError
from ...files import write_object
from .. import bases
from ..data.matches import Repeats
from ..data.take_files import fact_texts, file_digest
from ..music.extras import Extra
from ..music.midi import write_midi
from ..music.score import Score
from ..music.sound import too_long
from ..run import ADAPTER, FACTS, Run, weights_digest

MEASURED = ("measures", "adherence_per_bar", "originality")  # facts that stand in the .json alone
MAX_STYLE, MAX_CHORDS = 24, 40  # letters: the whole stays below 128, well inside what any disk takes
AROUND = 8  # seconds at least that sound before what was written in a file, and seconds after it
UNSAFE = r"[^\w#+-]+"  # also what Windows forbids, and the dot, which would look like the beginning of a suffix


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
    digests: dict[str, str] = field(default_factory=dict, repr=False)  # see digests_of
    measures: dict = field(default_factory=dict)
    adherence_per_bar: tuple[float | None, ...] = ()  # of the bars written; None where no chord or note is
    guarded: tuple[dict, ...] = ()  # what the guard noticed on the way, and where it stepped back to
    region: tuple[int, int] | None = None  # in ticks of its score: where it was written, if not all of it was
    chart: str = ""  # the chords that held in what was written, as `chords` takes them
    originality: Repeats | None = None  # what it repeats of the pieces that the run has learned, where these are found
    ranked: str = ""  # its score, 0 to 1, and why, where takes were ranked
    remarks: tuple[str, ...] = ()  # what a musician should know of how it was made
    extras: tuple[Extra, ...] = field(default=(), repr=False)  # what the prompt's file says besides
    end: int | None = None  # the tick to which the files go on, if not only to the bar line after all that is in them
    alone: dict[str, Score] = field(default_factory=dict, repr=False)  # what has a file of its own, by its name

    @property
    def stretch(self) -> Score:
        """What was written, with all that sounds beside it: of a take that goes on from a file not that file."""
        return self.score.slice(*self.region, cut=True) if self.region else self.score

    def facts(self) -> dict:
        """What stands in the take's .json and, as text events, in its .mid."""
        facts = {name: getattr(self, name) for name in ("seed", "temperature", "run", "engine", "notes")}
        facts |= {
            "woodshed": __version__,
            "settings": self.settings,
            "digests": self.digests,
            "chart": self.chart,
            "region_quarters": self._quarters(),
        }
        facts |= {"ranked": self.ranked, "remarks": self.remarks}
        facts |= {"originality": self.originality and self.originality.facts()}
        facts |= {"adherence_per_bar": self.adherence_per_bar, "guarded": self.guarded}
        return facts | {"measures": {k: None if np.isnan(v) else round(v, 4) for k, v in self.measures.items()}}

    def _quarters(self) -> list[float] | None:
        """The region in quarters, which hold where a DAW saves the file with other ticks."""
        return self.region and [tick / self.score.ticks_per_quarter for tick in self.region]

    def _told(self, *, prompt: Callable[[Path], object]) -> dict:
        """Its facts, the prompt as `prompt` tells its path: a .json may name folders, a .mid travels."""
        path = self.settings.get("prompt")
        return self.facts() | {"settings": self.settings | ({"prompt": str(prompt(Path(path)))} if path else {})}

    def stem(self, number: int = 1) -> str:
        """The name of its files: `piano-1_Cmaj7-Am7_120bpm_seed7_take-1`."""
        bpm = None if self.score.free else 60e6 / self.score.tempos["usec"][0]
        return stem_of(self.run, self.chart, seed=self.seed, number=number, bpm=bpm)

    def save(self, stem: str | Path) -> list[Path]:
        """Write `stem`.mid, .wav, .png and .json, and what is `alone` as `stem`-name.mid.

        Nothing that exists is overwritten: a FileError.
        """
        return [*self.write(stem), *self.show(stem)]

    def write(self, stem: str | Path) -> list[Path]:
        """The same without sound and picture, which `show` can add."""
        stem = Path(stem)
        music = {stem.with_name(f"{stem.name}.mid"): self.score}
        music |= {stem.with_name(f"{stem.name}-{name}.mid"): score for name, score in self.alone.items()}
        facts = stem.with_name(f"{stem.name}.json")
        for path in (*music, facts, *_shown(stem)):
            if path.exists():
                raise FileError(path, "it exists already; choose another name")
        told = self._told(prompt=lambda path: path.name)
        texts = fact_texts({name: value for name, value in told.items() if name not in MEASURED})
        for path, score in music.items():
            write_midi(score, path, texts, self.extras if score is self.score else (), end=self.end)
        write_object(facts, self._told(prompt=Path.absolute))
        return [*music, facts]

    def show(self, stem: str | Path, *, soundfont: Path | None = None) -> list[Path]:
        """Write how it sounds, `stem`.wav, by a soundfont where one is given, and looks, `stem`.png. Of a take in a
        file the excerpt sounds in which it is new; music that is too long (sound.too_long) has no sound."""
        from ..music.render import render
        from ..music.roll import draw_roll
        from ..music.sound import write_wav

        wav, png = _shown(Path(stem))
        heard = excerpt(self.score, self.region)
        if sounds := not too_long(heard):
            write_wav(wav, render(heard, soundfont))
        title = f"{self.run} seed {self.seed} temperature {self.temperature:g}"
        draw_roll(self.score, png, title, region=None if heard is self.score else self.region)
        return [wav] * sounds + [png]


def excerpt(score: Score, region: tuple[int, int] | None) -> Score:
    """What of a take sounds in its .wav: all of it, or of one in a file what was written and what is around it."""
    if region is None or (region[0] <= 0 and region[1] >= score.end):
        return score
    first, last = score.ticks(score.seconds(region) + AROUND * np.array([-1, 1])).tolist()
    lines = score.seams(region[0])
    return score.slice(int(lines[lines <= max(first, 0)][-1]), last, cut=True)


def _shown(stem: Path) -> list[Path]:
    return [stem.with_name(f"{stem.name}.{kind}") for kind in ("wav", "png")]


def save_takes(takes: list[Take], folder: Path, soundfont: Path | None = None) -> Iterator[tuple[Take, list[Path]]]:
    """Write takes under names that end in `take-1`, `take-2`, ... and yield each with its files.

    The music of all of them comes before sounds and pictures, which need a thousand times its room.
    """
    stems = [Path(folder) / take.stem(number) for number, take in enumerate(takes, 1)]
    try:
        music = [take.write(stem) for take, stem in zip(takes, stems, strict=True)]
        for take, stem, paths in zip(takes, stems, music, strict=True):
            yield take, paths + take.show(stem, soundfont=soundfont)
    except FileError as error:
        kept = sum(stem.with_name(f"{stem.name}.mid").exists() for stem in stems)
        told = f"; kept: the music (.mid) of {kept} of {len(takes)} takes"
        raise FileError(error.path, error.reason + told) from None


def digests_of(run: Run, prompt: Score | str | Path | None) -> dict[str, str]:
    """What a take depends on besides its settings: digests of the run's weights, of its base's where it is an adapter,
    and of the file that it is played in."""
    found = {"weights": weights_digest(run.weights)}
    if (run.weights / ADAPTER).exists():
        found["base_weights"] = run.facts["base_weights"]
    return found | ({"prompt": file_digest(prompt)} if isinstance(prompt, str | Path) else {})


def played_by(path: str | Path, facts: dict) -> Path:
    """The folder of the run that played a take: of the name in its facts above the take; or else, as its weights tell,
    the run in whose folder the take is, which may have been renamed, the one of that name where you are or that in the
    package, in this order where they tell nothing. InputError where there is none.
    """
    name, above = str(facts["run"]), [*Path(path).parents, *Path(path).absolute().parents]
    above = [folder for folder in above if (folder / FACTS).exists()]
    if named := [folder for folder in above if folder.name == name]:
        return named[0]
    here, base = Path(name), bases.find(name)
    found = [*above[:1], *[here] * (here.name == name and (here / FACTS).exists()), *[base] * bool(base)]
    if not found:
        raise InputError(f"{path}: the run {name} that played it is neither above it nor where you are; give --run RUN")
    weights = (facts.get("digests") or {}).get("weights")
    players = [folder for folder in found if weights_digest(folder) == weights] if len(found) > 1 else []
    return (players or found)[0]


# --- names -----------------------------------------------------------------------------------------------------


def stem_of(style: str, chart: str = "", *, seed: int, number: int, bpm: float | None = None) -> str:
    """The name of a take's files: `piano_Cmaj7-Am7-Dm7-G7_120bpm_seed7_take-1`.

    `chart` is a chord chart as `chords` takes it; repeats of a progression are left out, a long one is cut at a chord,
    and a slash becomes an underscore. Music without chords or tempo (free time) goes without that field.
    """
    fields = [_safe(style)[:MAX_STYLE] or "take", _named_chords(chart), "" if bpm is None else f"{bpm:.0f}bpm"]
    return "_".join([*filter(None, fields), f"seed{seed}", f"take-{number}"])


def _named_chords(chart: str) -> str:
    """The progression of a chart, without bar lines and without its repeats."""
    chords = [_safe(chord) for chord in chart.replace("|", " ").split() if chord != "%"]
    chords = chords[: next((n for n in range(1, len(chords)) if _repeats(chords, n)), len(chords))]
    chords = [chord for i, chord in enumerate(chords) if chord and (i == 0 or chord != chords[i - 1])]
    kept = [chord for i, chord in enumerate(chords) if len("-".join(chords[: i + 1])) <= MAX_CHORDS]
    return "-".join([*kept, *["etc"] * (len(kept) < len(chords))])


def _repeats(chords: list[str], period: int) -> bool:
    """Whether the chords go round every `period` of them."""
    return all(chord == chords[i % period] for i, chord in enumerate(chords))


def _safe(text: str) -> str:
    """Letters, digits, # and + of a text, for any file system."""
    text = re.sub(UNSAFE, "-", unicodedata.normalize("NFC", text).replace("/", "_"))
    return text.strip("-_")
