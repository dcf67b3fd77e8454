"""The data report before training: what is in a folder, what can be learned from, and what a musician should know.

    examine(path) -> Finding          one file: its Score ready to be learned, or the reason why not
    inspect(folder) -> Inspection     all of them; duplicates, takes of one song, advice

Nothing is dropped silently: every file is in the report, and one that is left out says why.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np

from ...config import NotNegative, check, updated
from ...errors import EmptyCorpus, FileError, InputError
from ...files import sha256_of, shown
from ...progress import Progress, Reporter, unheard
from ..music.chords import NAMES, pitched, recognise
from ..music.grid import apply_grid, estimate_grid, main_metre
from ..music.keys import estimate_key
from ..music.midi import midi_files, read_whole
from ..music.parts import assign_parts, only_tracks
from ..music.score import PARTS, Score, Track
from . import songs
from .metadata import asked_for, parse_years, table_of
from .printing import render
from .report import Facts, Finding, Inspection

__all__ = ["Finding", "InspectSettings", "Inspection", "examine", "inspect", "mapped", "render"]

POOL_FROM = 200  # files; below it starting processes costs more than they bring
MOST_WORKERS = 61  # Windows cannot wait for more
LOWEST, HIGHEST = 21, 108  # a piano's keys
PIANOS = range(6)  # General MIDI programs that are one instrument: grand, upright, electric
KEYS = {4: "electric piano", 5: "electric piano", 6: "harpsichord", 7: "clavinet"}  # within the family
FAMILIES = "piano chimes organ guitar bass strings ensemble brass reed flute lead pad effect ethnic percussion sound"
SILENCE = 2.0  # seconds at the start of freely played music that are cut away

Reason = Literal["drums", "range", "programs", "short", "dense", "duplicate", "near-duplicate"]
Chords = Literal["recognise", "file", "none"]
Part = Literal["melody", "bass", "accompaniment", "left", "right", "drums", "other"]


@dataclass(frozen=True)
class InspectSettings:
    """What counts as usable."""

    keep: tuple[Reason, ...] = ()
    """Take files that these reasons would leave out, separated by spaces; drums takes drum tracks of other files
    too."""
    only_part: Part | None = None
    """Learn this part alone."""
    hands: Literal["joined", "kept"] = "joined"
    """The two staves of a piano: joined into one part, or kept as right and left."""
    keep_grid: bool = False
    """Believe the bars and beats of the files instead of checking them."""
    min_seconds: NotNegative[float] = 5.0
    """Shorter music is left out."""
    min_notes: NotNegative[int] = 16
    """Music with fewer notes is left out."""
    max_notes_per_second: NotNegative[float] = 60.0
    """Music with more is left out."""
    metadata: Path | None = None
    """A table of the files, CSV or JSON as MAESTRO has it; one in the folder, maestro-v*, is found without this."""
    composer: str | None = None
    """Only music of composers whose name holds this."""
    year: str | None = None
    """Only performances of this year (2009) or of these years (2004-2011)."""
    only_split: Literal["train", "validation", "test"] | None = None
    """Only what the table calls train, validation or test (which prepare then divides anew)."""

    def __post_init__(self):
        check(self)
        for name in set(self.keep) - set(Reason.__args__):
            raise InputError(f"--keep {name}: choose from {', '.join(Reason.__args__)}")
        parse_years(self.year)

    @property
    def selects(self) -> bool:
        """Whether only some of the files are asked for, by the table."""
        return any((self.composer, self.year, self.only_split))


# --- one file --------------------------------------------------------------------------------------------------


def examine(
    path: str | Path,
    settings: InspectSettings | None = None,
    *,
    chords: Chords = "file",
    read: Callable[..., Score] | None = None,
) -> Finding:
    """One file: its music as it would be learned (grid checked, parts assigned and chosen), or why not.

    `chords` "recognise" hears them where the file states none, before a part is chosen; "none" drops the file's.
    `read` gives the music of a file, as read_whole does by default.
    """
    settings, warnings = settings or InspectSettings(), []
    path = Path(path)
    try:
        score = (read or read_whole)(path, warn=warnings.append)
        digest = sha256_of(path)
    except FileError as error:
        return Finding(path.name, "unreadable", error.reason)
    except OSError as error:
        return Finding(path.name, "unreadable", error.strerror or str(error))
    finding = Finding(path.name, remarks=tuple(warnings), digest=digest)
    if not len(score.notes):
        return finding.without("empty", "no notes")
    hands = "kept" if settings.only_part in ("left", "right") else settings.hands
    score = _drums_marked(assign_parts(score, hands=hands))
    music, reason, detail = chosen(score, settings)
    if reason:
        return finding.without(reason, detail)
    whole, grid = on_grid(score, settings)
    stated = 0 if chords == "none" else len(whole.chords)
    ready, silence = without_silence(chosen(with_chords(whole, chords), settings)[0])
    facts = _facts(ready, stated, grid)
    remarks = [silence, _dropped_drums(score, music), _beyond_the_piano(ready)]
    finding = dataclasses.replace(
        finding,
        remarks=(*finding.remarks, *(remark for remark in remarks if remark)),
        facts=facts,
        content=songs.content(music),
        figures=songs.figures(music),
        score=ready,
    )
    reason, detail = _fault(ready, facts, settings)
    return finding.without(reason, detail) if reason else finding


def on_grid(score: Score, settings: InspectSettings) -> tuple[Score, dict]:
    """The music on the grid it keeps to, or in free time, and the facts about it."""
    if settings.keep_grid:
        return score, {"grid": "believed", "grid_confidence": 1.0, "grid_reason": "--keep-grid"}
    grid = estimate_grid(score)
    told = {"grid": grid.action, "grid_confidence": round(float(grid.confidence), 3), "grid_reason": grid.reason}
    return apply_grid(score, grid), told


def with_chords(score: Score, chords: Chords) -> Score:
    """The music with the chords that the file states, those heard where it states none ("recognise"), or no chords.
    None are heard in drums alone, so that a model of them has learned no chords."""
    if chords == "none":
        return score.replace(chords=())
    heard = chords == "recognise" and not len(score.chords) and len(pitched(score))
    return score.replace(chords=recognise(score)) if heard else score


def _drums_marked(score: Score) -> Score:
    """Tracks that are drums by name or channel are drums in both senses."""
    tracks = [t._replace(drums=True, part="drums") if t.drums or t.part == "drums" else t for t in score.tracks]
    return score.replace(tracks=tracks)


def chosen(score: Score, settings: InspectSettings) -> tuple[Score, str, str]:
    """The tracks that are to be learned, or the reason and detail why there are none."""
    sounding = set(np.unique(score.notes["track"]).tolist())
    parts = {score.tracks[track].part for track in sounding}
    unwanted = set() if "drums" in settings.keep else {"drums"}
    wanted = {settings.only_part} if settings.only_part else parts - unwanted
    if not wanted & parts:
        if settings.only_part:
            return score, "part", f"no {settings.only_part} in it, only {', '.join(sorted(parts))}"
        return score, "drums", "drums only"
    keep = [track for track in sorted(sounding) if score.tracks[track].part in wanted]
    return only_tracks(score, keep), "", ""


def without_silence(score: Score) -> tuple[Score, str]:
    """The music from the bar in which it begins (in free time from its first note), and a remark where that cut."""
    first = int(score.notes["onset"][0])
    if score.free:
        start = first if score.seconds(first) > SILENCE else 0
        told = f"silence at the start left out: {score.seconds(start):.1f} s"
    else:
        bar = int(np.searchsorted(score.bars(), first, side="right")) - 1
        start, told = int(score.bars()[bar]), f"empty bars at the start left out: {bar}"
    return (score.slice(start, score.end), told) if start else (score, "")


def _dropped_drums(score: Score, music: Score) -> str:
    dropped = any(track.drums for track in score.tracks) and not any(track.drums for track in music.tracks)
    return "drum track left out" if dropped else ""


def _beyond_the_piano(score: Score) -> str:
    pitch = pitched(score)["pitch"]
    outside = np.count_nonzero((pitch < LOWEST) | (pitch > HIGHEST))
    return f"notes beyond a piano's keys: {outside}" if outside else ""


def _fault(score: Score, facts: Facts, settings: InspectSettings) -> tuple[str, str]:
    """The first filter that a piece does not pass, and by how much; empty where it passes all."""
    pitch = pitched(score)["pitch"]
    names = instruments(score.tracks)
    faults = {
        "range": len(pitch) and (pitch.max() < LOWEST or pitch.min() > HIGHEST) and f"pitches from {pitch.min()} up",
        "programs": len(names) > 1 and f"{len(names)} instruments: {', '.join(names)}",
        "short": (facts.seconds < settings.min_seconds or facts.notes < settings.min_notes)
        and f"{facts.seconds:.1f} s, {facts.notes} notes",
        "dense": facts.notes_per_second > settings.max_notes_per_second and f"{facts.notes_per_second:.0f} a second",
    }
    return next(((why, told) for why, told in faults.items() if told and why not in settings.keep), ("", ""))


def instruments(tracks: Iterable[Track]) -> list[str]:
    """The different instruments of some tracks, as General MIDI family and program numbers (from 1); no drums."""
    programs = sorted({track.program for track in tracks if not track.drums})
    pianos = [program for program in programs if program in PIANOS]
    kinds = [pianos] * bool(pianos) + [[program] for program in programs if program not in PIANOS]
    families = FAMILIES.split()
    names = [KEYS.get(kind[0], families[kind[0] // 8]) for kind in kinds]
    numbers = [", ".join(str(program + 1) for program in kind) for kind in kinds]
    return [f"{name} ({told})" for name, told in zip(names, numbers, strict=True)]


def _facts(score: Score, chords: int, grid: dict) -> Facts:
    notes, seconds = score.notes, float(score.seconds(score.end))
    tonic, mode, key_confidence = estimate_key(score)
    return Facts(
        seconds=round(seconds, 3),
        notes=len(notes),
        notes_per_second=round(len(notes) / max(seconds, 1e-3), 2),
        lowest=int(notes["pitch"].min()),
        highest=int(notes["pitch"].max()),
        key=f"{NAMES[tonic]} {mode}" if len(pitched(score)) else "",
        key_confidence=round(key_confidence, 3),
        bars=0 if score.free else len(score.bars()) - 1,
        bpm=None if score.free else _tempo(score),
        metre="free" if score.free else "{}/{}".format(*main_metre(score)),
        parts=tuple(sorted({track.part for track in score.tracks}, key=PARTS.index)),
        pedal=round(_pedal_share(score), 3),
        velocities=len(np.unique(notes["velocity"])),
        chords=chords,
        **grid,
    )


def _tempo(score: Score) -> float:
    """The median tempo over time, in quarters a minute."""
    order = np.argsort(-score.tempos["usec"].astype(np.int64), kind="stable")
    edges = score.seconds(np.append(score.tempos["tick"], max(score.end, int(score.tempos["tick"][-1]))))
    half = np.cumsum(np.diff(edges)[order])
    return round(60e6 / float(score.tempos["usec"][order][np.searchsorted(half, half[-1] / 2)]), 2)


def _pedal_share(score: Score) -> float:
    """Share of the time that the pedal is down, of the track that uses it most."""
    shares = [0.0]
    for track in np.unique(score.pedals["track"]):
        rows = score.pedals[score.pedals["track"] == track]
        time = score.seconds(np.append(rows["tick"], max(score.end, int(rows["tick"][-1]))))
        shares.append(float(np.diff(time)[rows["value"] > 0].sum() / max(time[-1], 1e-3)))
    return max(shares)


# --- a folder --------------------------------------------------------------------------------------------------


def inspect(
    folder: str | Path,
    settings: InspectSettings | None = None,
    *,
    report: Reporter = unheard,
    chords: Chords = "file",
    **changes,
) -> Inspection:
    """Examine every MIDI file in a folder, and find the files that are the same song.

    Of two duplicates the first in the order of paths stays. By a table of the files, one like MAESTRO's, some can be
    chosen, and what it has of these is summed up by split; each is told with the recording that the table names.
    `changes` are fields of InspectSettings; the other arguments and errors are as in examine_folder.
    """
    settings = updated(InspectSettings, settings, changes)
    table = table_of(Path(folder), settings)
    findings = examine_folder(folder, settings, report=report, chords=chords)
    found = compared([asked_for(finding, table, settings) for finding in findings], settings)
    if table is None:
        return Inspection(Path(folder), settings, found)
    found = tuple(dataclasses.replace(finding, recording=table.recording(finding.path)) for finding in found)
    return Inspection(Path(folder), settings, found, table.chosen(settings).sums(found))


def examine_folder(
    folder: str | Path,
    settings: InspectSettings,
    *,
    report: Reporter = unheard,
    chords: Chords = "file",
) -> list[Finding]:
    """Examine every MIDI file in a folder, each by itself.

    `report` hears how far it is. Above POOL_FROM files all cores work. Raises FileError
    without the folder, EmptyCorpus without a MIDI file in it.
    """
    folder = Path(folder)
    paths = midi_files(folder)
    if not paths:
        raise EmptyCorpus(f"{folder}: no MIDI files (.mid, .midi) in it or below it{_other_files(folder)}")
    found = mapped(partial(examine, settings=settings, chords=chords), paths, report)
    return [dataclasses.replace(one, path=file_name(path, folder)) for one, path in zip(found, paths, strict=True)]


def mapped(function: Callable, items: list, report: Reporter = unheard) -> list:
    """`function` of every item, in order; on all cores where there are many. It must be importable by its name."""
    if len(items) < POOL_FROM or (os.cpu_count() or 1) == 1:
        return list(_counted(map(function, items), len(items), report))
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(min(os.cpu_count(), MOST_WORKERS), get_context("spawn")) as pool:
        with _script_hidden():
            results = pool.map(function, items, chunksize=8)
        return list(_counted(results, len(items), report))


@contextmanager
def _script_hidden() -> Iterator[None]:
    """Processes that are spawned in the block do not run the user's own script, which may have no __main__ guard."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def file_name(path: Path, folder: str | Path) -> str:
    """A file's path in the folder, with / and in characters that every file and screen can hold."""
    return shown(path.relative_to(folder).as_posix())


def _counted(results: Iterable, total: int, report: Reporter) -> Iterator:
    """The results, and after each how many there are."""
    for number, result in enumerate(results, start=1):
        report(Progress(number / total, f"{number} of {total}"))
        yield result


def _other_files(folder: Path) -> str:
    kinds = Counter(path.suffix.lower() for path in folder.rglob("*") if path.suffix and path.is_file())
    return f"; there are {', '.join(f'{count} {kind}' for kind, count in kinds.most_common(3))}" if kinds else ""


def compared(findings: Iterable[Finding], settings: InspectSettings) -> tuple[Finding, ...]:
    """The findings with duplicates and near-duplicates left out and each one's song named."""
    findings, first = list(findings), {}
    for index, finding in enumerate(findings):
        if not finding.reason:
            other = first.setdefault(finding.content, finding.path)
            if other != finding.path and "duplicate" not in settings.keep:
                findings[index] = finding.without("duplicate", f"the same notes as {other}")
    rest = [index for index, finding in enumerate(findings) if not finding.reason]
    copies, heads = songs.copies_and_takes([findings[index].figures for index in rest])
    for place, index in enumerate(rest):
        finding = dataclasses.replace(findings[index], song=findings[rest[heads[place]]].path)
        if place in copies and "near-duplicate" not in settings.keep:
            finding = finding.without("near-duplicate", _likeness(findings[rest[copies[place]]], finding))
        findings[index] = finding
    return tuple(dataclasses.replace(finding, content="", figures=None) for finding in findings)


def _likeness(original: Finding, copy: Finding) -> str:
    """In what a near-duplicate differs, as far as its range tells."""
    up, top = copy.facts.lowest - original.facts.lowest, copy.facts.highest - original.facts.highest
    moved = f", {abs(up)} semitone{'s' * (abs(up) > 1)} {'higher' if up > 0 else 'lower'}" if up and up == top else ""
    return f"hardly differs from {original.path}{moved}"
