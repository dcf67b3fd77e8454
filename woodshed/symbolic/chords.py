"""Chords: three small integers each, the many ways to write them, and hearing them in a score.

A chord is `(root, quality, bass)`: pitch classes 0-11 (C is 0) and an index into QUALITIES; `bass` equals `root`
unless the chord is inverted, and no chord is `(-1, 0, -1)`. These are the last three fields of a `score.CHORD` row.

    parse_chord("Am7/G") -> Chord(9, 9, 7)        spell(9, 9, 7) -> "Am7/G"         word(9, 9) -> "A:min7"
    parse_progression("| Cmaj7 | Am7 D7 |") -> bars      lay_out(bars, lines) -> CHORD rows
    recognise(score) -> CHORD rows                        estimate_key(score) -> (tonic, mode, confidence)

Tokenizers use the first TOKEN_QUALITIES of the table; `reduce` brings every other quality to one of those.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from .score import CHORD, Score


class Chord(NamedTuple):
    """Root, quality (index into QUALITIES) and bass."""

    root: int
    quality: int
    bass: int


NO_CHORD = Chord(-1, 0, -1)
TOKEN_QUALITIES = 15
NAMES = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")

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
"""
_ROWS = [cell.split() for line in _TABLE.strip().splitlines() for cell in line.split("|")]
QUALITIES: dict[str, tuple[int, ...]] = {name: tuple(map(int, tones)) for name, _, *tones in _ROWS}
QUALITY_NAMES = tuple(QUALITIES)
TONES = np.array([[pc in tones for pc in range(12)] for tones in QUALITIES.values()])  # (qualities, 12) bool
REDUCED = np.array([QUALITY_NAMES.index(token) for _, token, *_ in _ROWS], dtype=np.int8)
_BY_TONES = {frozenset(tones): quality for quality, tones in enumerate(QUALITIES.values())}
_SUFFIXES = {"maj": "", "maj6": "6", "minmaj7": "m(maj7)", "majb5": "(b5)"}  # the others spell themselves


def reduce(quality):
    """The token quality (< TOKEN_QUALITIES) nearest to a quality; arrays as well."""
    return REDUCED[quality]


def pitch_classes(root, quality, bass) -> np.ndarray:
    """The pitch classes of chords, bass included: (..., 12) bool from integers or arrays (...); none for no chord."""
    root, quality, bass = (np.asarray(value, dtype=np.int64)[..., None] for value in (root, quality, bass))
    pitch_class = np.arange(12)
    return (TONES[quality, (pitch_class - root) % 12] | (pitch_class == bass)) & (root >= 0)


# --- names ----------------------------------------------------------------------------------------------------


def spell(root: int, quality: int, bass: int) -> str:
    """The chord as a jazz chart has it: `Cmaj7`, `Bb7#11`, `Bm7b5`, `C/E`, `N.C.`; `parse_chord` reads it back."""
    if root < 0:
        return "N.C."
    name = QUALITY_NAMES[quality]
    if name.startswith("hdim"):
        name = name.replace("hdim", "min") + "b5"
    suffix = _SUFFIXES.get(name, name.replace("min", "m"))
    return NAMES[root] + suffix + ("" if bass == root else "/" + NAMES[bass])


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


_SIGNS = str.maketrans("♯♭–—△∆°Øɸ", "#b--ΔΔoøø") | {"−": "-", "𝄪": "##", "𝄫": "bb"}
_NO_CHORD = re.compile(r"n|n\.?\s?c\.?|no chord|none|x", re.IGNORECASE)
_ROOT = r"[A-Ga-g](?:##?|bb?)?"
_CHORD = re.compile(rf"(?P<root>{_ROOT})(?P<colon>:?)(?P<kind>[^/]*)(?:/(?P<bass>{_ROOT}|[b#]*[1-7]))?")
_KINDS = (  # MusicXML's kinds in the words of the grammar below
    (r"half-diminished", "hdim7"),
    (r"major-minor|minor-major", "minmaj7"),
    (r"suspended-(second|fourth)", lambda match: {"second": "sus2", "fourth": "sus4"}[match[1]]),
    (r"power", "5"),
    (r"dominant-(?=\w)", ""),
    (r"dominant", "7"),
    (r"-?seventh", "7"),
    (r"-?sixth", "6"),
    (r"-?ninth", "9"),
    (r"-?(11|13)th", r"\1"),
    (r"7M", "maj7"),
)
_GRAMMAR = re.compile(
    r"""(?P<omit>(?i:no|omit)\s?[35]) | (?P<add>(?i:add)\s?[#b]?(?:1[13]|[24679]))
    | (?P<alter>(?:[#b]|(?<=[\d(,])[+-]|(?<![^(,])[+-](?=5))(?:1[13]|[5679]))
    | (?P<hdim>ø|(?i:h(?:alf)?-?dim)) | (?P<dim>(?i:diminished|dim)|o) | (?P<aug>(?i:augmented|aug)|\+)
    | (?P<sus>(?i:sus)[24]?) | (?P<alt>(?i:alt)) | (?P<min>(?i:minor|min|mi)|m(?!a(?!dd))|-)
    | (?P<delta>[Δ^]) | (?P<maj>(?i:major|maj|ma)|[Mj]) | (?P<number>69|1[13]|[24-79]) | (?P<skip>(?i:dom)|[\s(),])""",
    re.VERBOSE,
)
_SCALE = (0, 2, 4, 5, 7, 9, 11)
_SEVENTHS = {"maj": {11}, "delta": {11}, "dim": {9}}
_MEANS = {  # what a word of the grammar does to the steps of the scale (0-6); None is the seventh of the chord
    **dict(maj={}, skip={}, min={2: {3}}, dim={2: {3}, 4: {6}}, aug={4: {8}}, delta={6: {11}}),
    **dict(hdim={2: {3}, 4: {6}, 6: {10}}, alt={1: {1, 3}, 3: {6}, 4: set(), 5: {8}, 6: {10}}),
    **{"sus": {2: set(), 3: {5}}, "sus4": {2: set(), 3: {5}}, "sus2": {2: set(), 1: {2}}},
    **{"2": {1: {2}}, "4": {2: set(), 3: {5}}, "5": {2: set()}, "6": {5: {9}}, "69": {5: {9}, 1: {2}}, "7": {6: None}},
    **{"9": {6: None, 1: {2}}, "11": {6: None, 1: {2}, 3: {5}}, "13": {6: None, 1: {2}, 5: {9}}},
}


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
        raise InputError(f"unknown chord {text!r}; write chords such as C, Am7, F#m7b5, Bb13, C/E or N.C.")
    name = match["root"]
    if name.islower() and not match["kind"] and not match["colon"]:
        raise InputError(f"chord {text!r} could be major or minor; write {name.title()} or {name.title()}m")
    root, bass = _pitch_class(name), match["bass"]
    quality = _quality(match["kind"], harte=bool(match["colon"]), text=text)
    if not bass:
        return Chord(root, quality, root)
    return Chord(root, quality, (root + _degree(bass)[1]) % 12 if bass[-1].isdigit() else _pitch_class(bass))


def _pitch_class(name: str) -> int:
    return (_SCALE["CDEFGAB".index(name[0].upper())] + name.count("#") - name[1:].count("b")) % 12


def _degree(text: str) -> tuple[int, int]:
    """A degree such as b3 or #11 as its step of the scale (0-6) and semitones above the root."""
    step = (int(text.lstrip("#b")) - 1) % 7
    return step, (_SCALE[step] + text.count("#") - text.count("b")) % 12


def _quality(kind: str, *, harte: bool, text: str) -> int:
    """The quality that has the tones of a chord's suffix."""
    shorthand, _, degrees = kind.partition("(") if harte else (kind, "", "")
    for pattern, grammar in _KINDS:
        shorthand = re.sub(pattern, grammar, shorthand)
    steps = {0: {0}} if degrees and not shorthand else _steps(shorthand, text)
    for degree in re.findall(r"[^,\s)]+", degrees):
        if not re.fullmatch(r"\*?[#b]*(?:1[0-3]|[1-9])", degree):
            raise InputError(f"unknown degree {degree!r} in chord {text!r}; degrees are 1 to 13 with b or # before")
        step, tone = _degree(degree.lstrip("*"))
        if degree.startswith("*"):
            steps.pop(step, None)
        else:
            steps[step] = steps.get(step, set()) - {_SCALE[step]} | {tone}
    tones = frozenset().union(*steps.values())
    quality = _BY_TONES.get(tones, _BY_TONES.get(tones | {7}))  # a fifth left out changes no name
    if quality is None:
        raise InputError(f"no chord quality has the tones of {text!r}; there are: {', '.join(QUALITIES)}")
    return quality


def _steps(suffix: str, text: str) -> dict[int, set[int]]:
    """The tones of a chord's suffix by step of the scale: `m7b5` gives {0: {0}, 2: {3}, 4: {6}, 6: {10}}."""
    steps, seventh, numbered, position = {0: {0}, 2: {4}, 4: {7}}, {10}, False, 0
    while position < len(suffix):
        match = _GRAMMAR.match(suffix, position)
        if not match:
            raise InputError(f"unknown chord {text!r}: cannot read {suffix[position:]!r}")
        position, kind, token = match.end(), match.lastgroup, match[0].lower()
        seventh = _SEVENTHS.get(kind, seventh)
        if kind == "omit":
            steps.pop(int(token[-1]) - 1, None)
        elif kind == "alter":
            step, tone = _degree(token.replace("-", "b").replace("+", "#"))
            steps[step] = steps.get(step, set()) - {_SCALE[step]} | {tone}
        elif kind == "add" or (kind == "number" and numbered):
            step, tone = _degree(re.sub(r"add\s?", "", token))
            steps[step] = steps.get(step, set()) | {tone}
        else:
            means = _MEANS[token if kind in ("number", "sus") else kind]
            steps |= {step: seventh if tones is None else tones for step, tones in means.items()}
        numbered |= kind == "number"
    return steps


# --- progressions ---------------------------------------------------------------------------------------------

Bar = list[tuple[Chord, Fraction]]  # the chords of a bar, each with its share of the bar

_LINE = re.compile(
    r"(?P<close>:)?\|+\]?(?P<open>:)?(?:\s*(?=\(?(?:x\s*\d|\d+\s*x))[(x\s]*(?P<times>\d+)[\sx)]*)?", re.I
)
_WORD = re.compile(r"(?:\([^)|\n]*\)|[^\s|,])+")
_MOST_REPEATS = 64


def parse_progression(text: str) -> list[Bar]:
    """Read a chord chart: `| Cmaj7 | Am7 D7 |` gives a list of bars, each a list of (chord, share of the bar).

    The chords of a bar share it equally; `/` or `.` holds a chord for another share. `%` repeats the bar before
    (beside other chords, the chord before). `|: ... :|` is played twice, `:| x3` three times. Without any bar line
    every chord lasts a bar. Raises InputError with the bar and the character of what cannot be read.
    """
    text = text.replace("×", "x")
    bars: list[Bar] = []
    written, start, opened, last = 0, 0, None, None
    for line in [*_LINE.finditer(text), None]:
        begin, stop = last.end() if last else 0, line.start() if line else len(text)
        words = [(match[0], match.start()) for match in _WORD.finditer(text, begin, stop) if match[0].strip("-–—>→")]
        for cell in [words] if "|" in text else [[word] for word in words]:
            if cell:
                written += 1
                bars.append(_bar(cell, bars, written, lines="|" in text))
            elif last and line and not any([*last.groups(), *line.groups(), "\n" in text[begin:stop], begin == stop]):
                raise _misplaced(
                    written + 1, begin, "an empty bar; write % to repeat the bar before, N.C. for no chord"
                )
        if line and line["close"]:
            bars += bars[start:] * (_times(line, written) - 1)
            start, opened = len(bars), None
        elif line and line["times"]:
            raise _misplaced(written, line.start(), f"{line[0].strip()!r} repeats nothing; write |: before and :| x3")
        if line and line["open"]:
            if opened is not None:
                raise _misplaced(written + 1, line.start(), "a second |: before the first was closed by :|")
            start, opened = len(bars), line.start()
        last = line
    if opened is not None:
        raise _misplaced(written, opened, "|: is never closed; write :| where the repeat ends")
    if not bars:
        raise InputError("the progression is empty; write chords such as | Cmaj7 | Am7 D7 |")
    return bars


def _misplaced(bar: int, position: int, message: str) -> InputError:
    return InputError(f"bar {bar}, character {position + 1}: {message}")


def _times(line: re.Match, bar: int) -> int:
    """How often a repeated passage is played: 2 unless the repeat sign says x3."""
    times = int(line["times"][:9]) if line["times"] else 2
    if not 1 <= times <= _MOST_REPEATS:
        raise _misplaced(bar, line.start(), f"x{line['times']} repeats; choose 1 to {_MOST_REPEATS}")
    return times


def _bar(words: list[tuple[str, int]], before: list[Bar], number: int, *, lines: bool) -> Bar:
    """One bar from its words and their places."""
    slots: list[list] = []  # [chord, shares]
    for text, position in words:
        held = text == "%" or not text.strip("/.")
        if held and not (slots or before):
            raise _misplaced(number, position, f"{text!r} has no chord before it to repeat")
        if held and text != "%" and not lines:
            raise _misplaced(number, position, f"{text!r} holds a chord inside a bar; write bar lines: | C / G / |")
        if text == "%" and len(words) == 1:
            return before[-1]
        shares = 1 if text == "%" else len(text)
        if held and slots:
            slots[-1][1] += shares
        elif held:
            slots.append([before[-1][-1][0], shares])
        else:
            try:
                slots.append([parse_chord(text), 1])
            except InputError as error:
                raise _misplaced(number, position, str(error)) from error
    total = sum(shares for _, shares in slots)
    return [(chord, Fraction(shares, total)) for chord, shares in slots]


def lay_out(progression: Sequence[Bar], bars: np.ndarray) -> np.ndarray:
    """Place a progression on bar lines in ticks (as `score.bars()`, N + 1 of them): CHORD rows for N bars.

    A progression shorter than that starts again; equal chords in a row become one.
    """
    rows = []
    for index, (start, end) in enumerate(zip(bars[:-1], bars[1:], strict=True)):
        passed = Fraction(0)
        for chord, share in progression[index % len(progression)]:
            rows.append((round(int(start) + passed * int(end - start)), *chord))
            passed += share
    return merged(np.array(rows, dtype=CHORD))


def merged(chords: np.ndarray) -> np.ndarray:
    """CHORD rows without those that repeat the chord before them."""
    same = [chords[name][1:] == chords[name][:-1] for name in ("root", "quality", "bass")]
    return chords[np.concatenate([np.ones(min(len(chords), 1), dtype=bool), ~np.logical_and.reduce(same)])]
