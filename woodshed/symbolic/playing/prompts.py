"""A prompt: the user's own file, the same music as a run has learned to see it, and the way back.

A run sees music as its corpus was prepared: on a checked grid or in free time, in the parts that it knows, without
drums. What it writes goes back into the file itself, in whose ticks, tracks and tempo map all else stays as it was.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...errors import FileError, InputError
from ..music.extras import CONDUCTOR, Extra
from ..music.grid import Grid, apply_grid, estimate_grid, main_metre
from ..music.midi import has_chords_in_places, read_extras, read_midi
from ..music.parts import assign_parts, only_tracks, programs_of
from ..music.score import PARTS, Score

HANDS = ("left", "right")


@dataclass(frozen=True)
class Prompt:
    """A file, and how a run sees it. Music without a prompt goes into an empty one."""

    file: Score  # in its own ticks and tracks, every track's part filled in
    score: Score  # what of it the run sees, in ticks that begin elsewhere, or in milliseconds
    seen: tuple[int, ...] = ()  # the file's track behind each track of `score`
    origin: int = 0  # the tick of `score` at which the file begins
    remark: str = ""  # how bars are counted, where not as the file has them
    extras: tuple[Extra, ...] = ()  # what else the file says, which no run sees
    programs: dict[str, int] = field(default_factory=dict)  # what plays each part, tracks that are left out with it
    in_places: bool = False  # whether the file's chords stand in what takes have written alone, which no run sees

    def to_file(self, ticks) -> np.ndarray:
        """Ticks of `score` in the file's."""
        ticks = np.asarray(ticks, dtype=np.int64) - self.origin
        return ticks if self.score.free == self.file.free else self.file.ticks(ticks / 1000)

    def to_score(self, ticks) -> np.ndarray:
        """Ticks of the file in those of `score`."""
        ticks = np.asarray(ticks, dtype=np.int64)
        if self.score.free != self.file.free:
            ticks = np.rint(self.file.seconds(ticks) * 1000).astype(np.int64)
        return ticks + self.origin

    def without(self, tracks: Sequence[int], start: int, end: int) -> tuple[Score, Score]:
        """File and score without the notes of these tracks of the file that begin in [start, end) ticks of `score`."""
        here = [place for place, track in enumerate(self.seen) if track in tracks]
        left = []
        for score, numbers, onset in (
            (self.file, tracks, self.to_score(self.file.notes["onset"])),
            (self.score, here, self.score.notes["onset"]),
        ):
            gone = np.isin(score.notes["track"], numbers) & (onset >= start) & (onset < end)
            left.append(score.replace(notes=score.notes[~gone]))
        return left[0], left[1]

    def tracks_of(self, parts: Sequence[str] | None) -> list[int]:
        """The file's tracks that play these parts, in the file's words or the run's; None for all that are seen."""
        known = dict(zip(self.seen, (track.part for track in self.score.tracks), strict=True))
        return [t for t, part in known.items() if parts is None or {part, self.file.tracks[t].part} & set(parts)]

    def asked(self, words: Sequence[str] | None) -> list[int]:
        """The file's tracks that a musician means: of these parts or, where none plays one, of that name or number."""
        if words is None:
            return self.tracks_of(None)
        found = {t for word in words for t in self.tracks_of([word]) or _tracks_named(self.file, word)}
        return [track for track in self.seen if track in found]

    def hides(self, word: str) -> bool:
        """Whether a track that the run does not see is of that part, name or number."""
        unseen = {*np.unique(self.file.notes["track"]).tolist()} - {*self.seen}
        named = _tracks_named(self.file, word)
        return any(track in named or self.file.tracks[track].part == word for track in unseen)

    def parts(self) -> list[str]:
        """The parts that the run sees, in the file's words."""
        there = {self.file.tracks[track].part for track in self.seen}
        return [part for part in PARTS if part in there]

    def heard_beside(self, parts: Collection[str], ensembles: Sequence[Collection[str]]) -> Prompt:
        """The same as heard by a run that writes `parts` to it, in the one of the ensembles that is most like it.

        A track whose part has no place there, such as a whole piano under a melody, is heard as the accompaniment, or
        as the melody where the accompaniment is what is written.
        """
        there = {track.part for track in self.score.tracks}
        ensemble = max(ensembles, key=lambda one: len(there & {*one}))
        homes = [part for part in ("accompaniment", *PARTS) if part in ensemble and part not in {*parts, "drums"}]
        strange = there - {*ensemble, "drums"} if homes else ()
        tracks = [t._replace(part=homes[0]) if t.part in strange else t for t in self.score.tracks]
        return replace(self, score=self.score.replace(tracks=tracks))


def read_prompt(
    source: Score | str | Path,
    prepared: dict,
    *,
    parts: Sequence[str] | None = None,
    melody: str | None = None,
    keep_grid: bool = False,
) -> Prompt:
    """A file or Score as a run has learned to see it; `prepared` is what run.json says of how its corpus was made.

    With `melody` (a track's name or number, or "auto") that track is all there is. `parts` are those to be written.
    Raises FileError for a file that cannot be read or has nothing that the run sees, InputError for an unknown melody.
    """
    name = "the Score" if isinstance(source, Score) else source
    file, extras = (source, ()) if isinstance(source, Score) else (read_midi(source), read_extras(source))
    if not len(file.notes):
        raise FileError(name, "no prompt: it has no notes")
    file = assign_parts(file, hands="kept")
    grid = Grid("kept", 1.0, "") if keep_grid or prepared.get("keep_grid") else estimate_grid(file)
    programs = programs_of(file, _labels(file, prepared, _parts_meant(file, parts)))
    if melody is not None:
        number = _melody_track(file, melody)
        extras = tuple(one._replace(track=min(one.track, 0)) for one in extras if one.track in (CONDUCTOR, number))
        file = only_tracks(file, [number])
        file = file.replace(tracks=[file.tracks[0]._replace(part="melody")])
    labels = _labels(file, prepared, _parts_meant(file, parts))
    only = prepared.get("only_part")
    sounding = np.unique(file.notes["track"]).tolist()
    drums = prepared.get("drums", only == "drums")
    seen = [track for track in sounding if (drums or labels[track] != "drums") and only in (None, labels[track])]
    if not seen:
        there = ", ".join(sorted({labels[track] for track in sounding}))
        raise FileError(name, f"no prompt: this run plays {only or 'no drums'}, the file has only {there}")
    barred = apply_grid(file, grid)
    in_places = not isinstance(source, Score) and has_chords_in_places(source)
    score = only_tracks(barred.replace(chords=()) if in_places else barred, seen)
    score = score.replace(tracks=[track._replace(part=labels[t]) for t, track in zip(seen, score.tracks, strict=True)])
    origin = grid.shift if grid.action not in ("kept", "free") else 0
    return Prompt(file, score, tuple(seen), origin, _remark(grid, file, barred), extras, programs, in_places)


def _labels(file: Score, prepared: dict, wanted: Sequence[str] | None) -> list[str]:
    """The part as which a run knows each track: one that has learned hands joined tells them apart by other names."""
    roles = ["drums" if track.drums else track.part for track in file.tracks]
    kept = prepared.get("hands") == "kept" or prepared.get("only_part") in HANDS
    if kept or not {*HANDS} & {*roles}:
        return roles
    others = {*roles} - {*HANDS, "drums"}
    if not {*HANDS} & {*(wanted or ())}:
        names = dict.fromkeys(HANDS, "accompaniment" if others else "other")
    elif "melody" in others:
        names = {"right": "accompaniment", "left": "bass"}
    else:
        names = {"right": "melody", "left": "accompaniment"}
    return [names.get(role, role) for role in roles]


def _parts_meant(file: Score, words: Sequence[str] | None) -> list[str]:
    """Parts asked for, with those of tracks that are asked for by their names or numbers."""
    named = [track for word in {*(words or ())} - {*PARTS} for track in _tracks_named(file, word)]
    return [*(words or ()), *(file.tracks[track].part for track in named)]


def _tracks_named(score: Score, wanted: str) -> list[int]:
    """The tracks that sound, of that name or number (from 1)."""
    sounding = np.unique(score.notes["track"]).tolist()
    if wanted.isdecimal():
        return [track for track in sounding if track == int(wanted) - 1]
    return [track for track in sounding if score.tracks[track].name.strip().lower() == wanted.strip().lower()]


def listed(score: Score, tracks: Sequence[int]) -> str:
    """Tracks as they can be asked for: `1 'Lead', 2 'Keys'`."""
    return ", ".join(f"{track + 1} {score.tracks[track].name!r}" for track in tracks)


def _melody_track(score: Score, wanted: str) -> int:
    """The track of that name or number (from 1), or by "auto" the one whose part is melody. Raises InputError."""
    sounding = np.unique(score.notes["track"]).tolist()
    if wanted == "auto":
        found = [track for track in sounding if assign_parts(score, hands="kept").tracks[track].part == "melody"]
    else:
        found = _tracks_named(score, wanted)
    if found:
        return max(found, key=lambda track: np.count_nonzero(score.notes["track"] == track))
    told = "no track sounds like the melody" if wanted == "auto" else f"--melody {wanted}: no such track"
    raise InputError(f"{told}; choose with --melody one of: {listed(score, sounding)}")


def _remark(grid: Grid, file: Score, barred: Score) -> str:
    """How bars are counted, where not as the file has them."""
    if grid.action in ("kept", "free"):
        return ""
    seconds = float(file.seconds(int(barred.bars()[1]) - grid.shift))
    metre = "{}/{}".format(*main_metre(barred))
    told = f"the file's bar lines are not where its music has them; bars are counted in {metre}, bar 2 from"
    return f"{told} {seconds:.2f} s on (--keep-grid believes the file)"
