"""A take: one generated piece with its seed, settings and measures, and the files it is written to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ... import __version__
from ...errors import FileError
from ...files import read_object, write_file
from ..data.originality import Report
from ..music.extras import Extra
from ..music.midi import midi_files, read_midi, write_midi
from ..music.parts import assign_parts
from ..music.score import Score
from .naming import stem as name

MEASURED = ("measures", "adherence_per_bar", "originality")  # facts that stand in the .json alone


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
    adherence_per_bar: tuple[float | None, ...] = ()  # of the bars written; None where no chord or note is
    guarded: tuple[dict, ...] = ()  # what the guard noticed on the way, and where it stepped back to
    region: tuple[int, int] | None = None  # in ticks of its score: where it was written, if not all of it was
    chart: str = ""  # the chords that held in what was written, as `chords` takes them
    originality: Report | None = None  # what it repeats of the pieces that the run has learned, where these are found
    ranked: str = ""  # its score, 0 to 1, and why, where takes were ranked
    remarks: tuple[str, ...] = ()  # what a musician should know of how it was made
    extras: tuple[Extra, ...] = field(default=(), repr=False)  # what the prompt's file says besides
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

    def _anywhere(self) -> dict:
        """Its facts with the prompt where it is found from any folder; what travels in the .mid names no folders."""
        prompt = self.settings.get("prompt")
        found = {"prompt": str(Path(prompt).absolute())} if prompt else {}
        return self.facts() | {"settings": self.settings | found}

    def stem(self, number: int = 1) -> str:
        """The name of its files: `piano-1_Cmaj7-Am7_120bpm_seed7_take-1`."""
        bpm = None if self.score.free else 60e6 / self.score.tempos["usec"][0]
        return name(self.run, self.chart, seed=self.seed, number=number, bpm=bpm)

    def save(self, stem: str | Path, *, sound: bool = True, picture: bool = True) -> list[Path]:
        """Write `stem`.mid, .wav, .png and .json, and what is `alone` as `stem`-name.mid.

        Nothing that exists is overwritten: a FileError.
        """
        stem = Path(stem)
        music = {stem.with_name(f"{stem.name}.mid"): self.score}
        music |= {stem.with_name(f"{stem.name}-{name}.mid"): score for name, score in self.alone.items()}
        facts = stem.with_name(f"{stem.name}.json")
        for path in (*music, facts, *_shown(stem)):
            if path.exists():
                raise FileError(path, "it exists already; choose another name")
        told = {name: value for name, value in self.facts().items() if name not in MEASURED}
        texts = [f"woodshed {name}: {json.dumps(value)}" for name, value in told.items()]
        for path, score in music.items():
            write_midi(score, path, texts=texts, extras=self.extras if score is self.score else ())
        write_file(facts, json.dumps(self._anywhere(), indent=1, ensure_ascii=False))
        return [*music, facts, *self.show(stem, sound=sound, picture=picture)]

    def show(
        self, stem: str | Path, *, sound: bool = True, picture: bool = True, soundfont: Path | None = None
    ) -> list[Path]:
        """Write how it sounds, `stem`.wav, by a soundfont where one is given, and looks, `stem`.png."""
        wav, png = _shown(Path(stem))
        if sound:
            from ..music.render import render
            from ..music.sound import write_wav

            write_wav(wav, render(self.score, soundfont))
        if picture:
            from ..music.roll import draw_roll

            draw_roll(self.score, png, title=f"{self.run} seed {self.seed} temperature {self.temperature:g}")
        return [wav] * sound + [png] * picture


def _shown(stem: Path) -> list[Path]:
    return [stem.with_name(f"{stem.name}.{kind}") for kind in ("wav", "png")]


def save_takes(takes: list[Take], folder: Path, soundfont: Path | None = None) -> Iterator[tuple[Take, list[Path]]]:
    """Write takes under names that end in `take-1`, `take-2`, ... and yield each with its files.

    The music of all of them comes before sounds and pictures, which need a thousand times its room.
    """
    stems = [Path(folder) / take.stem(number) for number, take in enumerate(takes, 1)]
    try:
        music = [take.save(stem, sound=False, picture=False) for take, stem in zip(takes, stems, strict=True)]
        for take, stem, paths in zip(takes, stems, music, strict=True):
            yield take, paths + take.show(stem, soundfont=soundfont)
    except FileError as error:
        kept = sum(stem.with_name(f"{stem.name}.mid").exists() for stem in stems)
        told = f"; kept: the music (.mid) of {kept} of {len(takes)} takes"
        raise FileError(error.path, error.reason + told) from None


def read_stretch(path: Path) -> Score:
    """What was written of a MIDI file, with all that sounds beside it: as `Take.stretch`, where the .json beside it
    says so, else all of it. Raises FileError.
    """
    score = assign_parts(read_midi(path))
    region = _region(path, score)
    return score.slice(*region, cut=True) if region else score


def read_written(path: Path) -> tuple[Score, int]:
    """What was written of a MIDI file, and the tick at which that begins: of a take that goes on from a file, or fills
    holes in it, without the notes of that, as far as it and the .json beside the take are there. Raises FileError.
    """
    score = assign_parts(read_midi(path))
    region = _region(path, score)
    if region is None:
        return score, 0
    start, end = region
    onsets = score.notes["onset"]
    own = score.notes[(onsets >= start) & (onsets < end)]
    with suppress(OSError, ValueError, KeyError, TypeError, FileError):
        prompt = read_midi(read_object(path.with_suffix(".json"))["settings"]["prompt"])
        known, notes = (rows["onset"].astype(np.int64) << 8 | rows["pitch"] for rows in (prompt.notes, own))
        own = own[~np.isin(notes, known)]
    return score.replace(notes=own), start


def _region(path: Path, score: Score) -> tuple[int, int] | None:
    """The ticks of a take between which it was written; None where it is no take, or was written as a whole."""
    try:
        first, last = read_object(path.with_suffix(".json"))["region_quarters"]
        return round(first * score.ticks_per_quarter), round(last * score.ticks_per_quarter)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def takes_in(folder: str | Path) -> list[Path]:
    """The MIDI files of a folder, but for a part that was saved once more beside its take (`Take.alone`)."""
    paths = midi_files(folder)
    there = set(paths)
    return [path for path in paths if not _is_alone(path, there)]


def _is_alone(path: Path, there: set[Path]) -> bool:
    words = path.stem.split("-")
    takes = [path.with_name("-".join(words[:count]) + path.suffix) for count in range(1, len(words))]
    return not _is_take(path) and any(take in there and _is_take(take) for take in takes)


def _is_take(path: Path) -> bool:
    return path.with_suffix(".json").exists()
