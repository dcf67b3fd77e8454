"""Chords: three small integers each, the many ways to write them, and hearing them in a score.

A chord is `(root, quality, bass)`: pitch classes 0-11 (C is 0) and an index into QUALITIES; `bass` equals `root`
unless the chord is inverted, and no chord is `(-1, 0, -1)`. These are the last three fields of a `score.CHORD` row.

    parse_chord("Am7/G") -> Chord(9, 9, 7)        spell(9, 9, 7) -> "Am7/G"         word(9, 9) -> "A:min7"
    parse_progression("| Cmaj7 | Am7 D7 |") -> bars      lay_out(bars, lines) -> CHORD rows
    recognise(score) -> CHORD rows

Tokenizers use the first TOKEN_QUALITIES of the table; `REDUCED` has the nearest of those for each quality.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import groupby, pairwise
from typing import NamedTuple

import numpy as np

from ...errors import InputError
from .chord_suffix import MAJOR_SCALE, degree, suffix_tones
from .score import CHORD, Score, spread
from .spelling import C_MAJOR, bass_name, pitch_name


class Chord(NamedTuple):
    """Root, quality (index into QUALITIES) and bass."""

    root: int
    quality: int
    bass: int


NO_CHORD = Chord(-1, 0, -1)
SILENT_ROW = np.array([(0, *NO_CHORD)], dtype=CHORD)
TOKEN_QUALITIES = 15
NAMES = tuple(pitch_name(pitch_class) for pitch_class in range(12))  # C Db D Eb E F F# G Ab A Bb B

# name, the token quality it reduces to, semitones above the root
_TABLE = """
maj maj 0 4 7          | min min 0 3 7            | dim dim 0 3 6             | aug aug 0 4 8
sus2 sus2 0 2 7        | sus4 sus4 0 5 7          | maj6 maj6 0 4 7 9         | min6 min6 0 3 7 9
maj7 maj7 0 4 7 11     | min7 min7 0 3 7 10       | 7 7 0 4 7 10              | hdim7 hdim7 0 3 6 10
dim7 dim7 0 3 6 9      | minmaj7 minmaj7 0 3 7 11 | 7sus4 7sus4 0 5 7 10
5 maj 0 7              | add9 maj 0 2 4 7         | minadd9 min 0 2 3 7       | 69 maj6 0 2 4 7 9
min69 min6 0 2 3 7 9   | maj9 maj7 0 2 4 7 11     | min9 min7 0 2 3 7 10      | 9 7 0 2 4 7 10
11 7 0 2 4 5 7 10      | min11 min7 0 2 3 5 7 10  | 13 7 0 2 4 7 9 10         | min13 min7 0 2 3 7 9 10
maj13 maj7 0 2 4 7 9 11    | maj7#11 maj7 0 4 6 7 11   | 7b5 7 0 4 6 10        | 7#5 7 0 4 8 10
maj7#5 maj7 0 4 8 11       | 7b9 7 0 1 4 7 10          | 7#9 7 0 3 4 7 10      | 7#11 7 0 4 6 7 10
7b13 7 0 4 7 8 10          | 7alt 7 0 1 3 4 6 8 10     | 9sus4 7sus4 0 2 5 7 10 | 13sus4 7sus4 0 2 5 7 9 10
majb5 maj 0 4 6            | add11 maj 0 4 5 7         | minadd11 min 0 3 5 7  | addb9 maj 0 1 4 7
add#11 maj 0 4 6 7         | minb6 min 0 3 7 8         | maj11 maj7 0 2 4 5 7 11 | maj7b5 maj7 0 4 6 11
maj9#11 maj7 0 2 4 6 7 11  | maj13#11 maj7 0 2 4 6 7 9 11 | maj7add13 maj7 0 4 7 9 11 | maj9#5 maj7 0 2 4 8 11
7add11 7 0 4 5 7 10        | 7add13 7 0 4 7 9 10       | 9#11 7 0 2 4 6 7 10   | 9b5 7 0 2 4 6 10
9#5 7 0 2 4 8 10           | 13#11 7 0 2 4 6 7 9 10    | 13b9 7 0 1 4 7 9 10   | 13#9 7 0 3 4 7 9 10
9b13 7 0 2 4 7 8 10        | 7b9#9 7 0 1 3 4 7 10      | 7b9#11 7 0 1 4 6 7 10 | 7b9b13 7 0 1 4 7 8 10
7#9#11 7 0 3 4 6 7 10      | 7#9b13 7 0 3 4 7 8 10     | 7#11b13 7 0 4 6 7 8 10 | 7b5b9 7 0 1 4 6 10
7b5#9 7 0 3 4 6 10         | 7#5b9 7 0 1 4 8 10        | 7#5#9 7 0 3 4 8 10    | 7b9sus4 7sus4 0 1 5 7 10
7sus2 7sus4 0 2 7 10       | maj7sus4 sus4 0 5 7 11    | sus2sus4 sus4 0 2 5 7 | min7add11 min7 0 3 5 7 10
min7#5 min7 0 3 8 10       | min7add13 min7 0 3 7 9 10 | min#5 min 0 3 8       | minmaj9 minmaj7 0 2 3 7 11
hdim9 hdim7 0 2 3 6 10     | hdim11 hdim7 0 2 3 5 6 10 | dimmaj7 dim7 0 3 6 11 | maj6#11 maj6 0 4 6 7 9
13b9#11 7 0 1 4 6 7 9 10   | sus4b9 sus4 0 1 5 7       | hdim7add11 hdim7 0 3 5 6 10 | min6maj7 minmaj7 0 3 7 9 11
"""
_ROWS = [cell.split() for line in _TABLE.strip().splitlines() for cell in line.split("|")]
QUALITIES: dict[str, tuple[int, ...]] = {name: tuple(map(int, tones)) for name, _, *tones in _ROWS}
QUALITY_NAMES = tuple(QUALITIES)
TONES = np.array([[pc in tones for pc in range(12)] for tones in QUALITIES.values()])  # (qualities, 12) bool
REDUCED = np.array([QUALITY_NAMES.index(token) for _, token, *_ in _ROWS], dtype=np.int8)
_BY_TONES = {frozenset(tones): quality for quality, tones in enumerate(QUALITIES.values())}
_SUFFIXES = {  # the others spell themselves
    **{"maj": "", "maj6": "6", "minmaj7": "m(maj7)", "majb5": "(b5)"},
    **{"hdim7add11": "m7b5(11)", "min6maj7": "m6(maj7)"},
}


def pitch_classes(root, quality, bass) -> np.ndarray:
    """The pitch classes of chords, bass included: (..., 12) bool from integers or arrays (...); none for no chord."""
    root, quality, bass = (np.asarray(value, dtype=np.int64)[..., None] for value in (root, quality, bass))
    pitch_class = np.arange(12)
    return (TONES[quality, (pitch_class - root) % 12] | (pitch_class == bass)) & (root >= 0)


# --- names ----------------------------------------------------------------------------------------------------


def spell(root: int, quality: int, bass: int, key: tuple[int, str] = C_MAJOR) -> str:
    """The chord as a jazz chart in a key (tonic and mode) has it: `Cmaj7`, `Bb7#11`, `Bm7b5`, `C/E`, `N.C.`, in E major
    `C#m7`; `parse_chord` reads it back."""
    if root < 0:
        return "N.C."
    name = QUALITY_NAMES[quality]
    plain = name.replace("hdim", "min") + "b5" if name.startswith("hdim") else name
    chord = pitch_name(root, key) + _SUFFIXES.get(name, plain.replace("min", "m"))
    if bass == root:
        return chord
    inside = TONES[quality, (bass - root) % 12]
    return f"{chord}/{bass_name(bass, root, key) if inside else pitch_name(bass, key)}"


def word(root: int, quality: int) -> str:
    """The chord as a token has it, without its bass: `C:maj7`, `N`."""
    return "N" if root < 0 else f"{NAMES[root]}:{QUALITY_NAMES[quality]}"


def from_word(text: str) -> tuple[int, int]:
    """Root and quality of a token's word: the reverse of `word`."""
    root, _, quality = text.partition(":")
    if text == "N":
        return NO_CHORD[:2]
    if root not in NAMES or quality not in QUALITIES:
        raise InputError(f"unknown chord word {text!r}; expected N or root:quality such as C:maj7")
    return NAMES.index(root), QUALITY_NAMES.index(quality)


_SIGNS = str.maketrans(dict(zip("♯♭–—−△∆°ØɸφϕΦ∅", "#b---ΔΔoøøøøøø", strict=True)) | {"𝄪": "##", "𝄫": "bb"})
_NO_CHORD = re.compile(r"n|n\.?\s?c\.?|no chord|none|x", re.IGNORECASE)
_ROOT = r"[A-Ga-g](?:##?|bb?)?"
_CHORD = re.compile(rf"(?P<root>{_ROOT})(?P<colon>:?)(?P<kind>[^/]*)(?:/(?P<bass>{_ROOT}|[b#]*[1-7]))?")


def parse_chord(text: str) -> Chord:
    """Read a chord as musicians type it (`C-7b5`, `F#o7`, `Bb7(#11)`, `Am7/G`, `N.C.`), in Harte's syntax
    (`F#:maj7/5`, `Bb:sus4(b7)`) or with a MusicXML kind (`C:minor-seventh`).

    `C2` is C with an added ninth, `Csus` a suspended fourth, `CΔ` and `C^` major sevenths. A lower-case root with
    a suffix is the same root (`am7`); alone it is refused, as some mean minor by it. Raises InputError.
    """
    plain = unicodedata.normalize("NFKC", text.translate(_SIGNS)).strip()
    if _NO_CHORD.fullmatch(plain):
        return NO_CHORD
    plain = re.sub(r"/(?=[#b+-]?(?:9|1[13])\b)", ",", plain)  # 6/9 and 7/13 add tones: Harte's basses stay below 8
    match = _CHORD.fullmatch(plain)
    if not match:
        raise InputError(f"unknown chord {text!r:.60}; write chords such as C, Am7, F#m7b5, Bb13, C/E or N.C.")
    name = match["root"]
    if name.islower() and not match["kind"] and not match["colon"]:
        raise InputError(f"chord {text!r} could be major or minor; write {name.title()} or {name.title()}m")
    root, bass = _pitch_class(name), match["bass"]
    try:
        tones = suffix_tones(match["kind"], harte=bool(match["colon"]))
    except InputError as error:
        raise InputError(f"unknown chord {text!r:.60}: {error}") from error
    quality = _BY_TONES.get(tones, _BY_TONES.get(tones | {7}))  # a fifth left out changes no name
    if quality is None:
        raise InputError(f"no quality has the tones of chord {text!r:.60}; there are: {', '.join(QUALITIES)}")
    if not bass:
        return Chord(root, quality, root)
    return Chord(root, quality, (root + degree(bass)[1]) % 12 if bass[-1].isdigit() else _pitch_class(bass))


def _pitch_class(name: str) -> int:
    return (MAJOR_SCALE["CDEFGAB".index(name[0].upper())] + name.count("#") - name[1:].count("b")) % 12


# --- progressions ---------------------------------------------------------------------------------------------

Bar = list[tuple[Chord, Fraction]]  # the chords of a bar, each with its share of the bar

_TIMES = r"(?:\s*\(?[x×]?\s*(?P<times>[1-9]\d?)(?!\.)\s*[x×]?\)?)?"
_LINE = re.compile(rf"(?P<close>:)?\|+\]?(?P<open>:)?(?:\s*(?P<ending>[1-9])\.)?(?(close){_TIMES})")
_WORD = re.compile(r"(?:\([^()|\n]*\)|[^\s|,])+")


def parse_progression(text: str) -> list[Bar]:
    """Read a chord chart: `| Cmaj7 | Am7 D7 |` gives a list of bars, each a list of (chord, share of the bar).

    The chords of a bar share it equally; `/` or `.` holds a chord for another share. `%` repeats the bar before
    (beside other chords, the chord before). `|: ... :|` is played twice, `:| x3` three times; `|: ... |1. ... :|2. ...`
    has another ending each time. Without any bar line every chord lasts a bar. Raises InputError with the bar and the
    character of what cannot be read.
    """
    bars: list[Bar] = []
    again: list[Bar] = []  # what comes back before another ending
    written, start, opened, ending = 0, 0, None, None
    for words, line in _cells(text):
        if words:
            written += 1
            bars.append(_bar(words, bars, written))
        if line and line["close"]:
            goes_on = line["ending"] or not again  # else it closes the last of several endings
            again = again or bars[start : start + ending if ending is not None else None]
            bars += again * (int(line["times"] or 2) - 1) if goes_on else []
            opened = None
            if not line["ending"]:
                start, again, ending = len(bars), [], None
        elif line and line["ending"]:
            ending = len(bars) - start
        if line and line["open"]:
            if opened is not None:
                raise _misplaced(written + 1, line.start(), "a second |: before the first was closed by :|")
            start, opened, again, ending = len(bars), line.start(), [], None
    if opened is not None:
        raise _misplaced(written, opened, "|: is never closed; write :| where the repeat ends")
    if not bars:
        raise InputError("the progression is empty; write chords such as | Cmaj7 | Am7 D7 |")
    return bars


def _misplaced(bar: int, position: int, message: str) -> InputError:
    return InputError(f"bar {bar}, character {position + 1}: {message}")


def _cells(text: str) -> Iterator[tuple[list[tuple[str, int]], re.Match | None]]:
    """The words of each bar with their places, and the bar line after it."""
    empty = re.search(r"(?<!:)\|[^\S\n]+\|(?!:)", text)
    if empty:
        bar = 1 + sum(bool(part.strip(": \n")) for part in text[: empty.start()].split("|"))
        raise _misplaced(bar, empty.start() + 1, "an empty bar; write % to repeat the bar before, N.C. for no chord")
    lines, begin = [*_LINE.finditer(text), None], 0
    for line in lines:
        words = _WORD.finditer(text, begin, line.start() if line else len(text))
        words = [(word[0], word.start()) for word in words if word[0].strip("-–—>→")]  # dashes only separate
        if len(lines) > 1:
            yield words, line
            begin = line.end() if line else begin
            continue
        for number, (word, position) in enumerate(words, 1):
            if not word.strip("/."):
                raise _misplaced(number, position, f"{word!r} holds a chord inside a bar; write bar lines: | C / G / |")
            yield [(word, position)], None


def _bar(words: list[tuple[str, int]], before: list[Bar], number: int) -> Bar:
    """One bar from its words and their places."""
    slots: list[Chord] = []
    for text, position in words:
        if text == "%" and len(words) == 1 and before:
            return before[-1]
        try:
            if text != "%" and text.strip("/."):
                slots.append(parse_chord(text))
            elif slots or before:
                slots += [slots[-1] if slots else before[-1][-1][0]] * len(text)
            else:
                raise InputError(f"{text!r} has no chord before it to repeat")
        except InputError as error:
            raise _misplaced(number, position, str(error)) from error
    return [(chord, Fraction(len(list(same)), len(slots))) for chord, same in groupby(slots)]


def lay_out(progression: Sequence[Bar], bars: np.ndarray) -> np.ndarray:
    """Place a progression on bar lines in ticks (as `score.bars()`, N + 1 of them): CHORD rows for N bars.

    A progression shorter than that starts again; equal chords in a row become one.
    """
    rows = []
    for index, (start, end) in enumerate(pairwise(bars)):
        passed = Fraction(0)
        for chord, share in progression[index % len(progression)]:
            rows.append((round(int(start) + passed * int(end - start)), *chord))
            passed += share
    return merged(np.array(rows, dtype=CHORD))


def chords_at(chords: np.ndarray, ticks) -> np.ndarray:
    """The CHORD rows in force at some ticks; no chord before the first."""
    return np.concatenate([SILENT_ROW, chords])[np.searchsorted(chords["tick"], ticks, side="right")]


def merged(chords: np.ndarray) -> np.ndarray:
    """CHORD rows without those that repeat the chord before them."""
    same = [chords[name][1:] == chords[name][:-1] for name in ("root", "quality", "bass")]
    return chords[np.concatenate([np.ones(min(len(chords), 1), dtype=bool), ~np.logical_and.reduce(same)])]


# --- hearing --------------------------------------------------------------------------------------------------

# Fitted to POP909's training songs and to plain chords and arpeggios; benchmarks/chord_accuracy.py measures them.
_INSIDE, _OUTSIDE = 2.5, -2.5  # log odds of a pitch class, times the root of the share of the beat that it sounds
_BASS_ROOT, _BASS_INSIDE, _BASS_OUTSIDE = 1.4, -0.9, -1.5  # of the lowest note of a beat
_PRIOR = (2.0, 1.5, -0.2, -0.1, -0.2, -0.6, -2.9, -2.4, -2.0, -2.4, -2.1, -2.3, -2.1, -2.2, -2.7)  # of each quality
_PRIOR_EACH_BEAT, _PRIOR_AT_CHANGE = 0.4, 1.3  # a rare quality costs most where it enters, so that arpeggios can add up
_SILENCE, _SILENCE_PER_TONE, _SILENCE_PER_BASS = 3.0, -1.5, -0.3  # of no chord
_CHANGE_AT_BAR, _CHANGE_MID_BAR, _CHANGE, _CHANGE_IN_FREE_TIME = 0.8, 0.4, 0.1, 0.3  # how often the chord changes
_NEXT_CHORDS = 30  # about as many chords as could follow
_BLOCK = 1024  # beats that are compared with all chords at once


def pitched(score: Score) -> np.ndarray:
    """The notes that are not drums."""
    drums = [track.drums for track in score.tracks]
    return score.notes[~np.array(drums)[score.notes["track"]]] if any(drums) else score.notes


def recognise(score: Score) -> np.ndarray:
    """The chords of a score, one guess a beat (every half second in free time), equal ones merged: CHORD rows.

    A hidden Markov model: beats emit how long each pitch class sounds and which is lowest; chords (the token
    qualities and no chord) like to change at bar lines and mid-bar. The lowest note of most beats gives the bass
    where it belongs to the chord.
    """
    notes, (beats, change) = pitched(score), _grid(score)
    if not len(notes):
        return SILENT_ROW.copy()
    pitch = notes["pitch"].astype(np.int64)
    note, beat, length = spread(notes, beats)
    count, tone = len(beats) - 1, beat * 12 + pitch[note] % 12
    sounding = np.bincount(tone, length / np.diff(beats)[beat], count * 12).reshape(count, 12)
    lowest = np.full(count, 128)
    np.minimum.at(lowest, beat, pitch[note])
    bass = (np.arange(12) == lowest[:, None] % 12) & (lowest < 128)[:, None]
    entry = np.append(_PRIOR_AT_CHANGE * (np.tile(_PRIOR, 12) - max(_PRIOR)), 0)
    blocks = (slice(first, first + _BLOCK) for first in range(0, count, _BLOCK))
    odds = (row for block in blocks for row in _log_odds(np.sqrt(sounding[block]), bass[block]))
    path = _most_likely(odds, change, entry)
    starts = np.flatnonzero(np.append(True, np.diff(path) != 0))
    root, quality = np.divmod(path[starts], TOKEN_QUALITIES)
    root[path[starts] == 12 * TOKEN_QUALITIES] = -1
    return merged(np.rec.fromarrays([beats[starts], root, quality, _basses(root, quality, bass, starts)], CHORD))


def _basses(root: np.ndarray, quality: np.ndarray, bass: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The chord tone that is lowest in most of a chord's beats; the root where none is."""
    votes = np.add.reduceat(bass, starts, axis=0, dtype=np.int64) * pitch_classes(root, quality, root)
    return np.where(root < 0, -1, np.where(votes.any(1), votes.argmax(1), root))


def _grid(score: Score) -> tuple[np.ndarray, np.ndarray]:
    """Beats in ticks, and how likely the chord changes at each but the last."""
    if score.free:
        seconds = np.arange(0, score.seconds(score.end) + 1, 0.5)
        return score.ticks(seconds), np.full(len(seconds) - 1, _CHANGE_IN_FREE_TIME)
    beats, bars = score.beats(), score.bars()
    bar = np.searchsorted(bars, beats[:-1], side="right") - 1
    since, left = beats[:-1] - bars[bar], bars[bar + 1] - beats[:-1]
    return beats, np.select([since == 0, since == left], [_CHANGE_AT_BAR, _CHANGE_MID_BAR], _CHANGE)


def _log_odds(sounding: np.ndarray, bass: np.ndarray) -> np.ndarray:
    """Beats (B, 12) against chords, root by root and last no chord: (B, 12 * TOKEN_QUALITIES + 1), not normalised."""
    root, quality = np.divmod(np.arange(12 * TOKEN_QUALITIES), TOKEN_QUALITIES)
    tones = pitch_classes(root, quality, root)
    lowest = np.where(tones, _BASS_INSIDE, _BASS_OUTSIDE)
    lowest[np.arange(len(root)), root] = _BASS_ROOT
    heard, weights = np.hstack([sounding, bass]), np.hstack([np.where(tones, _INSIDE, _OUTSIDE), lowest])
    chords = np.einsum("bt,ct->bc", heard, weights)  # BLAS threads cost more than they save
    silence = _SILENCE + _SILENCE_PER_TONE * sounding.sum(1) + _SILENCE_PER_BASS * bass.sum(1)
    return np.column_stack([chords + _PRIOR_EACH_BEAT * np.tile(_PRIOR, 12), silence])


def _most_likely(log_odds: Iterable[np.ndarray], change: np.ndarray, entry: np.ndarray) -> np.ndarray:
    """Viterbi over states that stay or change, to whichever: the best state (S) of every step (B).

    `log_odds` (S,) of each step, `change` (B,) how likely each step changes, `entry` (S,) log odds of a new state.
    """
    stay, go = np.log(1 - change), np.log(change / _NEXT_CHORDS)
    stayed, leaders = np.empty((len(change), len(entry)), dtype=bool), np.empty(len(change), dtype=np.int64)
    log_odds = iter(log_odds)
    best = next(log_odds) + entry
    for step, odds in enumerate(log_odds, start=1):
        leaders[step] = leader = best.argmax()
        staying = best + stay[step]
        going = best[leader] + go[step] + entry
        np.greater_equal(staying, going, out=stayed[step])
        best = np.maximum(staying, going) + odds
    path = np.empty(len(change), dtype=np.int64)
    path[-1] = best.argmax()
    for step in range(len(path) - 1, 0, -1):
        path[step - 1] = path[step] if stayed[step, path[step]] else leaders[step]
    return path
