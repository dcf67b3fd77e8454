"""What stands in a take's file beside its notes: what the prompt's file says, or a title, a key and sections.

It is written as extras (music/extras.py): a DAW shows it, and no model sees it.
"""

from __future__ import annotations

import numpy as np

from ..music.extras import CONDUCTOR, Extra, released, without_bends
from ..music.keys import estimate_key, parse_key
from ..music.marks import END_OF_NEW, IN_PLACES, NEW
from ..music.score import Score
from ..music.smf import KEY, MARKER, NAME, TEXT, meta_event
from ..music.spelling import signature
from .settings import GenerateSettings
from .stage import Stage


def noted(stage: Stage, settings: GenerateSettings, score: Score, title: str) -> tuple[Extra, ...]:
    """What goes into the file of a take, which is `score`, beside it."""
    sections = _sections(stage, settings.form)
    if not len(stage.prompt.file.notes):
        return (_meta(0, NAME, title), *_key(settings, score), *sections)
    start, end = stage.in_file
    goes_on = end < score.end
    new = [_meta(0, TEXT, IN_PLACES)] * _in_places(stage, score)
    new += [_meta(start, MARKER, NEW)] * (start > 0 or goes_on) + [_meta(end, MARKER, END_OF_NEW)] * goes_on
    if stage.extends:
        return (*released(stage.prompt.extras, start), *new, *sections)
    return (*without_bends(stage.prompt.extras, stage.tracks, start, end), *new)


def _meta(tick: int, kind: int, data: str | bytes) -> Extra:
    return Extra(CONDUCTOR, tick, meta_event(kind, data))


def _in_places(stage: Stage, score: Score) -> bool:
    """Whether the chords of a file that was written into stand where that was, and those of the rest are not known."""
    (start, end), prompt = stage.in_file, stage.prompt
    unstated = prompt.in_places or not len(prompt.file.chords)
    return unstated and len(score.chords) > 0 and (start > 0 or end < prompt.file.end)


def _key(settings: GenerateSettings, score: Score) -> list[Extra]:
    """The key signature: of the key asked for, or of that which new music is in."""
    tonic, mode, sure = (*parse_key(settings.key), 1.0) if settings.key else estimate_key(score)
    return [_meta(0, KEY, bytes([signature(tonic, mode) % 256, mode == "minor"]))] * (sure > 0)


def _sections(stage: Stage, form: str) -> list[Extra]:
    """A marker where each section of a form begins, in words that are no chord."""
    if len(form) == 1:
        return []
    starts = stage.lines[np.cumsum([0, *stage.sections[:-1]])]
    return [
        _meta(int(tick), MARKER, f"Section {letter}")
        for tick, letter in zip(np.maximum(stage.prompt.to_file(starts), 0), form, strict=True)
    ]
