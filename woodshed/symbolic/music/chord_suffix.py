"""What stands after the root of a chord, as semitones above it: `m7b5`, `-7(b5)`, `hdim7`, `half-diminished`."""

from __future__ import annotations

import re

from ...errors import InputError

_KINDS = """half-diminished=hdim7 major-minor=minmaj7 minor-major=minmaj7 suspended-second=sus2 suspended-fourth=sus4
power=5 dominant-=- dominant=7 -seventh=7 -sixth=6 -ninth=9 -11th=11 -13th=13
7maj=maj7 7Maj=maj7 7M=maj7"""  # MusicXML, and French, into our grammar
_GRAMMAR = re.compile(
    r"""(?P<omit>(?i:no|omit)\s?[35])
    | (?P<alter>(?i:add)\s?[#b]?(?:1[13]|[24679])
        | (?:[#b]|(?<=[\d(,])[+-]|(?<![^(,])[+-](?=5)|(?<=[mijn])[+-](?=5)
            |(?:(?<=[mn-])(?<!dom)|(?<=mi))\+(?=7))(?:1[13]|[5679]))
    | (?P<hdim>ø|(?i:h(?:alf)?-?dim)|\Ah(?=\d)) | (?P<dim>(?i:diminished|dim)|o) | (?P<aug>(?i:augmented|aug)|\+)
    | (?P<sus>(?i:sus)[24]?) | (?P<alt>(?i:alt)) | (?P<min>(?i:minor|min|mi)|m(?!a(?!dd))|-)
    | (?P<delta>[Δ^]) | (?P<maj>(?i:major|maj|ma)|[Mj]) | (?P<number>69|1[13]|[24-79]) | (?P<skip>(?i:dom)|[\s(),])""",
    re.VERBOSE,
)
MAJOR_SCALE = (0, 2, 4, 5, 7, 9, 11)
_SEVENTHS = {"maj": {11}, "delta": {11}, "dim": {9}}
_MEANS = {  # what a word of the grammar does to the steps of the scale (0-6); None is the seventh of the chord
    **dict(maj={}, skip={}, min={2: {3}}, dim={2: {3}, 4: {6}}, aug={4: {8}}, delta={6: {11}}),
    **dict(hdim={2: {3}, 4: {6}, 6: {10}}, alt={1: {1, 3}, 3: {6}, 4: set(), 5: {8}, 6: {10}}),
    **{"sus": {2: set(), 3: {5}}, "sus4": {2: set(), 3: {5}}, "sus2": {2: set(), 1: {2}}},
    **{"2": {1: {2}}, "4": {2: set(), 3: {5}}, "5": {2: set()}, "6": {5: {9}}, "69": {5: {9}, 1: {2}}, "7": {6: None}},
    **{"9": {6: None, 1: {2}}, "11": {6: None, 1: {2}, 3: {5}}, "13": {6: None, 1: {2}, 5: {9}}},
}


def degree(text: str) -> tuple[int, int]:
    """A degree such as b3 or #11 as its step of the scale (0-6) and semitones above the root."""
    step = (int(text.lstrip("#b")) - 1) % 7
    return step, (MAJOR_SCALE[step] + text.count("#") - text.count("b")) % 12


def _alter(steps: dict[int, set[int]], name: str) -> None:
    """Add a degree; b9 replaces a natural ninth, and #9 stands beside b9."""
    step, tone = degree(name)
    steps[step] = steps.get(step, set()) - {MAJOR_SCALE[step]} | {tone}


def suffix_tones(suffix: str, *, harte: bool = False) -> frozenset[int]:
    """The semitones above the root of a chord's suffix; in Harte's syntax brackets hold degrees: `sus4(b7)`.

    Raises InputError for what it cannot read.
    """
    shorthand, _, degrees = suffix.partition("(") if harte else (suffix, "", "")
    for pair in _KINDS.split():
        shorthand = shorthand.replace(*pair.split("="))
    shorthand = re.sub(r"(?<=[(,])(1[13]|[59])([+-])(?!\d)", r"\2\1", shorthand)  # (9-) is (-9) in older songbooks
    steps = {0: {0}} if degrees and not shorthand else _steps(shorthand)
    for name in re.findall(r"[^,\s)]+", degrees):
        if not re.fullmatch(r"\*?[#b]*(?:1[0-3]|[1-9])", name):
            raise InputError(f"unknown degree {name!r:.40}; degrees are 1 to 13 after any b or #")
        if name.startswith("*"):
            steps.pop(degree(name[1:])[0], None)
        else:
            _alter(steps, name)
    return frozenset().union(*steps.values())


def _steps(suffix: str) -> dict[int, set[int]]:
    """The tones of a chord's suffix by step of the scale: `m7b5` gives {0: {0}, 2: {3}, 4: {6}, 6: {10}}."""
    steps, seventh, numbered, position = {0: {0}, 2: {4}, 4: {7}}, {10}, False, 0
    while position < len(suffix):
        match = _GRAMMAR.match(suffix, position)
        if not match or (match.lastgroup == "min" and numbered):  # C7- is not C minor
            raise InputError(f"cannot read {suffix[position:]!r:.40}; write suffixes such as m7, maj7, sus4, dim, 7b9")
        position, kind, token = match.end(), match.lastgroup, match[0].lower()
        seventh = _SEVENTHS.get(kind, seventh)
        if kind == "omit":
            steps.pop(int(token[-1]) - 1, None)
        elif kind == "alter" or (kind == "number" and numbered):
            name = token.removeprefix("add").strip().replace("-", "b").replace("+", "#")
            _alter(steps, "7" if name == "#7" else name)  # from the flat seventh of other chords
        else:
            means = _MEANS[token if kind in ("number", "sus") else kind]
            steps |= {step: seventh if tones is None else tones for step, tones in means.items()}
        numbered |= kind == "number"
    return steps
