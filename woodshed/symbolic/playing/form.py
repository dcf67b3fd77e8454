"""Form: a take in sections, of which those with the same letter are the same music but for how they close.

A model of this size keeps a figure for some bars and forgets how a piece began. So what comes back is not asked of it:
a section that returns is repeated note for note, and only its last bars are written anew, from all that came before, as
a second ending leads elsewhere than the first.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import InputError
from ..music.chords import Bar, parse_progression
from ..music.score import Score, shifted

SECTION_BARS = 8  # of a section, where nothing says how long
LABEL = re.compile(r"(?<![^\s|])([A-Za-z])[:：](?=\s|$)")  # by itself: C:maj7 is a chord


@dataclass(frozen=True)
class Scene:
    """A stretch of a take, in ticks, that is written at once or repeats what was written from `source` on."""

    start: int
    end: int
    source: int | None = None
    closes: bool = False  # whether it is the closing bar, over the tonic


def scenes(
    form: str, sections: Sequence[int], vary: float, lines: np.ndarray, *, ending: bool, closes: bool
) -> list[Scene]:
    """The scenes of a form, whose sections have so many bars each, over bar lines in ticks.

    Of a section that returns the share `vary`, in whole bars, is written anew at its end; of a last one with an
    `ending` a bar at least. New bars that follow each other are one scene, but for a last one that `closes`, and for
    the first of a section that will return: what sounds into it would be missing there.
    """
    bars, begins = len(lines) - 1, np.cumsum([0, *sections])
    back = np.zeros(bars, int)  # how many bars before each that lies which it repeats; 0 for new ones
    for number, letter in enumerate(form):
        same = sections[number] - _anew(vary, sections[number])
        back[begins[number] :][:same] = begins[number] - begins[form.index(letter)]
    back[bars - ending :] = 0
    back[bars - closes :] = -1
    first = set(np.flatnonzero(np.diff(back, prepend=bars)).tolist())
    first |= {int(begins[number]) for number, letter in enumerate(form) if letter in form[number + 1 :]}
    starts = sorted(first)
    return [
        Scene(int(lines[a]), int(lines[b]), int(lines[a - back[a]]) if back[a] > 0 else None, closes=bool(back[a] < 0))
        for a, b in zip(starts, [*starts[1:], bars], strict=True)
    ]


def _anew(vary: float, section: int) -> int:
    """How many of a section's bars are new when it returns: all of them for 1 alone."""
    return section if vary == 1 else min(math.ceil(vary * section - 1e-9), section - 1)


def progressions(chords: str, form: str) -> dict[str, list[Bar]]:
    """The progression of each letter of a form: its own, as in "A: C Am F G B: F G Em Am", or the same for all.

    Raises InputError for chords that cannot be read, and for letters that are not those of the form.
    """
    labels = list(LABEL.finditer(chords))
    if not labels:
        return dict.fromkeys(form, parse_progression(chords))
    told, asked = [label[1] for label in labels], sorted(set(form))
    if sorted(told) != asked:
        names = f"--chords: for the sections {', '.join(told)}; --form {form} has {', '.join(asked)}"
        raise InputError(f"{names}: give each of them chords once, or one progression without letters for all")
    if before := chords[: labels[0].start()].strip(" |\t\n"):
        raise InputError(f"--chords: {before!r} stands before {told[0]}: and belongs to no section")
    ends = [*(label.start() for label in labels[1:]), len(chords)]
    return {label[1]: _of_section(chords, label, end) for label, end in zip(labels, ends, strict=True)}


def _of_section(chords: str, label: re.Match, end: int) -> list[Bar]:
    """The progression between a label and the next one; a single bar line at its end only divides the two."""
    text = chords[label.end() : end].rstrip()
    text = text[:-1] if text.endswith("|") and text.count("|") == 1 else text
    try:  # spaces in front, so that an error names the character where it is
        return parse_progression(" " * label.end() + text)
    except InputError as error:
        raise InputError(f"{label[1]}: {error}") from None


def usual_sections(chords: str | None, form: str, least: int) -> list[int]:
    """The bars of each section where nothing says how long: those of the chords that stand after its letter, or else
    whole times through the chords, `least` bars or more."""
    by_letter = {} if chords is None else progressions(chords, form)
    if len(form) > 1 and LABEL.search(chords or ""):
        return [len(by_letter[letter]) for letter in form]
    once = max(map(len, by_letter.values()), default=1)
    return [-(-least // once) * once] * len(form)


def over_form(by_letter: dict[str, list[Bar]], form: str, sections: Sequence[int]) -> list[Bar]:
    """The chords of all bars: each section, of so many bars, begins its progression anew, and repeats it."""
    return [
        by_letter[letter][bar % len(by_letter[letter])]
        for letter, bars in zip(form, sections, strict=True)
        for bar in range(bars)
    ]


def remark(by_letter: dict[str, list[Bar]], form: str, sections: Sequence[int]) -> str:
    """What of the chords is not played, or oftener than may be meant; empty where all is as usual."""
    for letter, bars in zip(form, sections, strict=True):
        if letter in by_letter and (asked := len(by_letter[letter])) > bars:
            return f"the chords{f' of {letter}' * (len(by_letter) > 1)} last {asked} bars; the first {bars} are played"
    shared = len({id(progression) for progression in by_letter.values()}) == 1
    if len(by_letter) > 1 and shared and sections[0] > SECTION_BARS:
        return f'each section plays all {sections[0]} bars of the chords; --chords "A: ... B: ..." gives each its own'
    return ""


def repeated(music: Score, scene: Scene) -> Score:
    """What a scene repeats of the music, moved to where it stands; the pedal is up at its end."""
    found = music.slice(scene.source, scene.source + scene.end - scene.start, cut=True)
    notes, pedals, chords = (shifted(rows, scene.start) for rows in (found.notes, found.pedals, found.chords))
    held = [(scene.end - 1, 0, row["track"]) for row in pedals[-1:] if row["value"]]
    pedals = np.concatenate([pedals, np.array(held, dtype=pedals.dtype)])
    return music.replace(notes=notes, pedals=pedals, chords=chords)
