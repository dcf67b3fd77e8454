"""Form: a take in sections, of which those with the same letter are the same music but for how they close.

A model of this size keeps a figure for some bars and forgets how a piece began. So what comes back is not asked of it:
a section that returns is repeated note for note, and only its last bars are written anew, from all that came before, as
a second ending leads elsewhere than the first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ...errors import InputError
from ..music.chords import Bar, parse_progression
from ..music.score import Score

SECTION_BARS = 8  # of a section, where nothing says how long
LABEL = re.compile(r"(?<!\w)([A-Za-z]):(?!\|)")


@dataclass(frozen=True)
class Scene:
    """A stretch of a take, in ticks, that is written at once or repeats what was written from `source` on."""

    start: int
    end: int
    source: int | None = None
    closes: bool = False  # whether it is the closing bar, over the tonic


def scenes(form: str, vary: float, lines: np.ndarray, *, ending: bool, closes: bool) -> list[Scene]:
    """The scenes of a form over bar lines in ticks, of which there are a multiple of its letters and one.

    Of a section that returns the share `vary`, in whole bars, is written anew at its end; of a last one with an
    `ending` a bar at least. New bars that follow each other are one scene, but for a last one that `closes`.
    """
    bars = len(lines) - 1
    section = bars // len(form)
    back = np.zeros(bars, int)  # how many bars before each that lies which it repeats; 0 for new ones
    for number, letter in enumerate(form):
        same = section - round(vary * section)
        back[number * section :][:same] = (number - form.index(letter)) * section
    back[bars - ending :] = 0
    back[bars - closes :] = -1
    first = np.flatnonzero(np.diff(back, prepend=bars))
    stretches = zip(first.tolist(), [*first[1:].tolist(), bars], back[first].tolist(), strict=True)
    return [
        Scene(int(lines[a]), int(lines[b]), int(lines[a - far]) if far > 0 else None, closes=far < 0)
        for a, b, far in stretches
    ]


def bars_of(form: str, bars: int, *, given: bool) -> int:
    """So many bars where they are a multiple of the sections; else the next one that is, or where they are `given` an
    InputError."""
    section, left = divmod(bars, len(form))
    if given and left:
        near = " or ".join(str(count * len(form)) for count in (section, section + 1) if count)
        raise InputError(f"--bars {bars} with --form {form}: its {len(form)} sections are equally long; give {near}")
    return (section + bool(left)) * len(form)


def progressions(chords: str, form: str) -> dict[str, list[Bar]]:
    """The progression of each letter of a form: its own, as in "A: C Am F G B: F G Em Am", or the same for all.

    Raises InputError for chords that cannot be read, and for letters that are not those of the form.
    """
    labels = list(LABEL.finditer(chords))
    if not labels:
        return dict.fromkeys(form, parse_progression(chords))
    told, asked = [label[1] for label in labels], sorted(set(form))
    if sorted(told) != asked:
        raise InputError(
            f"--chords: for {', '.join(told)}; with --form {form} each of {', '.join(asked)} once, or none"
        )
    if before := chords[: labels[0].start()].strip(" |"):
        raise InputError(f"--chords: {before!r} stands before {told[0]}: and belongs to no section")
    ends = [*(label.start() for label in labels[1:]), len(chords)]
    # spaces in front, so that an error names the character where it is
    texts = [" " * label.end() + chords[label.end() : end] for label, end in zip(labels, ends, strict=True)]
    return {letter: parse_progression(text) for letter, text in zip(told, texts, strict=True)}


def spread(by_letter: dict[str, list[Bar]], form: str, section: int) -> list[Bar]:
    """The chords of all bars: each section, of so many bars, begins its progression anew, and repeats it."""
    return [by_letter[letter][bar % len(by_letter[letter])] for letter in form for bar in range(section)]


def repeated(music: Score, scene: Scene) -> Score:
    """What a scene repeats of the music, moved to where it stands."""
    found = music.slice(scene.source, scene.source + scene.end - scene.start, cut=True)
    notes, pedals, chords = found.notes.copy(), found.pedals.copy(), found.chords.copy()
    for rows, time in ((notes, "onset"), (pedals, "tick"), (chords, "tick")):
        rows[time] += scene.start
    return music.replace(notes=notes, pedals=pedals, chords=chords)
