"""What stands in the texts of a MIDI file: the user's chords, and what Woodshed notes there of a Score.

MIDI has no word for the part of a track, for free time, and for markers that are chords; a DAW shows or ignores ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby

import numpy as np

from ...errors import InputError
from .chords import Chord, parse_chord
from .score import CHORD, PARTS, array
from .smf import LYRIC, MARKER, TEXT, Meta

MARK = "woodshed: "
_LETTER = re.compile(r"([A-H])([1-9]?)['’′]*")
FREE, CHORDS, PART = MARK + "free time", MARK + "chords", MARK + "part "
NEW, END_OF_NEW = MARK + "new", MARK + "end"  # markers, for who looks for what a take has written
IN_PLACES = MARK + "chords in places"  # those of takes, in a file that states none


def marks(metas: list[Meta]) -> set[str]:
    """What Woodshed noted in a file."""
    return {meta.text for meta in metas if meta.kind == TEXT and meta.data.startswith(MARK.encode())}


def noted_parts(metas: list[Meta]) -> dict[int, str]:
    """The part Woodshed noted for each MIDI track. Several in one track (a DAW merged them) say nothing."""
    noted: dict[int, set[str]] = {}
    for meta in metas:
        if meta.kind == TEXT and meta.data.startswith(PART.encode()):
            noted.setdefault(meta.track, set()).add(meta.text.removeprefix(PART))
    return {track: parts.pop() for track, parts in noted.items() if len(parts) == 1 and parts <= set(PARTS)}


def read_chords(metas: list[Meta]) -> np.ndarray:
    """The chords of a file: CHORD rows."""
    return array([(meta.tick, *chord_named(meta.text)) for meta in chord_metas(metas)], CHORD)


def chord_metas(metas: list[Meta]) -> list[Meta]:
    """The meta events that are a file's chords: markers, of which some may be section names; else lyrics or texts that
    are all chords."""
    return next(_charts(metas), [])


def chart_metas(metas: list[Meta]) -> set[Meta]:
    """The meta events that are a file's chords, and those that say the same in another way."""
    first, *others = [*_charts(metas)] or [[]]
    chords = {meta.tick: chord_named(meta.text) for meta in first}
    return {*first} | {meta for line in others for meta in line if chords.get(meta.tick) == chord_named(meta.text)}


def _charts(metas: list[Meta]) -> Iterator[list[Meta]]:
    markers = [meta for meta in metas if meta.kind == MARKER and not meta.text.startswith(MARK)]
    if CHORDS in marks(metas) or _is_chart(markers, share=0.5):
        yield [meta for meta in markers if chord_named(meta.text)]
    lines = sorted((meta for meta in metas if meta.kind in (TEXT, LYRIC)), key=lambda meta: (meta.track, meta.kind))
    for _, line in groupby(lines, key=lambda meta: (meta.track, meta.kind)):
        line = list(line)
        if _is_chart(line, share=1.0):
            yield line


def _is_chart(metas: list[Meta], share: float) -> bool:
    """Whether at least two, and this share, of the texts are chords, and not rehearsal letters."""
    texts = [meta.text.strip() for meta in metas]
    chords = [text for text in texts if chord_named(text)]
    real = [text for text in chords if chord_named(text).root >= 0]
    return len(real) > 1 and len(chords) >= share * len(metas) and not _are_letters(texts, real)


def _are_letters(texts: list[str], chords: list[str]) -> bool:
    """Whether those of the texts that read as chords are rehearsal letters: A, B, C in turn, counted from one on (A,
    A2, B), or in any order where a 1 says that they are counted (B1, A1, A2)."""
    found = {text: letter for text in texts if (letter := _LETTER.fullmatch(text))}
    names = dict.fromkeys(letter[1] for letter in found.values())
    counts = {(letter[1], int(letter[2] or 1)) for letter in found.values()}
    counted = all(count == 1 or (name, count - 1) in counts for name, count in counts)  # A7 alone is no seventh A
    in_turn = "ABCDEFGH".startswith("".join(names)) or any(letter[2] == "1" for letter in found.values())
    return found.keys() >= {*chords} and counted and in_turn


@lru_cache(maxsize=4096)
def chord_named(text: str) -> Chord | None:
    """The chord that a text is; None where it is none."""
    try:
        return parse_chord(text)
    except InputError:
        return None
