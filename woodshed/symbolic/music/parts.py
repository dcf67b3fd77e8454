"""Parts: the role each track plays, from its name, its sound, its register and its texture.

A part the file already states is kept. Names come first, in the languages of the scores we know; a track whose name
says nothing is judged by what it plays:

    the highest of the lines that play one note at a time   melody
    the lowest of them, in the bass register                bass
    everything else beside others                           accompaniment
    two keyboard tracks                                     right and left hand, joined or kept
    a single track: one line / a whole piano                melody / other

A second lead (POP909's BRIDGE, an obbligato flute) is accompaniment: it answers the melody, often in chords, and the
melody stays one line. A whole solo piano is "other", recorded as one track or joined from two staves: it holds
melody, bass and accompaniment at once, so that no single role is true of it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...errors import InputError
from .score import PARTS, Score, Track

HANDS = ("joined", "kept")
ONE_LINE = 0.9  # share of notes that end before the next begins, above which a track is a single line
LEGATO = 0.25  # of its length that a note may sound into the next and still be one line
BASS_PITCH = 52  # E3: a line whose median lies below it can be a bass
BASS_SINGER = 45  # A2: a "Bass" whose median lies above it is a voice when only a piano plays with it
KEYBOARDS = {*range(8), *range(16, 21)}  # General MIDI programs: pianos, harpsichord, clavinet, organs
BASSES = range(32, 40)

# What a lower-case name without accents, digits and punctuation says; the first match counts. Singers and second
# leads ("voice", "lead") become melody, bass or accompaniment only beside the other tracks.
NAMES = (
    ("drums", r"\bdrums?\b|percussion|schlagzeug|\bbatteri[ae]\b|\bbateria\b|djembe|\bcongas?\b"),
    ("right", r"\brh\b|\br h\b|\bright\b|upper|\bup\b|\boben\b|\brecht|droite|\bdestra\b|\bderecha\b"),
    ("left", r"\blh\b|\bl h\b|\bleft\b|lower|\bdown\b|\bunten\b|\blinke?\b|gauche|sinistra|izquierda|\bpedale?\b"),
    ("melody", r"melod|\bvoice|\bvocals?\b|\bvox\b|\bvoz\b|\bvoix\b|\bvoce\b|stimme\b|gesang|\bchants?\b|\bcanto\b"),
    ("melody", r"\bsang\b|\bsolo\b|\b(wo)?men\b|\blead\b"),
    ("right", r"\btreble\b|\bdessus\b"),
    ("lead", r"bridge|flute|flauto|flote|traverso|piccolo|recorder|oboe|hautbois|clarinet|klarinette|bassoon|fagott"),
    ("lead", r"violin|viola\b|bratsche|\bcello|\bsax|trumpet|trombone|\bhorns?\b|obbligato"),
    ("bass", r"\bbass([oei]|es)?\b|contrabass|kontrabass|^b$"),
    ("voice", r"\bsopran|\bmezzo|\bcontralto\b|\balt(o|us)?s?\b|\btenor[ei]?s?\b|\bbar[iy]ton|^[sat]$"),
    ("accompaniment", r"accomp|begleit|piano|klavier|guitar|gitarre|\bharp|harfe|cembalo|clavecin|\borg(an|ue|el)\b"),
    ("accompaniment", r"\bchords?\b|\bkeys\b|keyboard|\bpads?\b|\bstrings\b|\bcomping\b"),
)


@dataclass
class _Voice:
    """One track that has notes, while its role is being settled (None: nothing said yet)."""

    track: Track
    pitch: float  # median
    line: bool  # one note at a time
    role: str | None

    @property
    def keyboard(self) -> bool:
        return self.track.program in KEYBOARDS and not self.track.drums


def assign_parts(score: Score, hands: str = "joined") -> Score:
    """The same music with every track's part filled in.

    `hands="joined"` makes one track of the two staves of a piano: "other" in a solo piece, "accompaniment" beside
    other tracks. `hands="kept"` leaves them two tracks, "right" and "left". Nothing else is moved or merged, and
    parts the file states are kept. Raises InputError for another value of `hands`.
    """
    if hands not in HANDS:
        raise InputError(f"hands is {hands!r}; choose from: {', '.join(HANDS)}")
    said = _said(score.tracks)
    voices = {index: _voice(score, index, said[index]) for index in np.unique(score.notes["track"]).tolist()}
    _settle([voice for voice in voices.values() if voice.role != "drums"])
    tracks = list(score.tracks)
    for index, track in enumerate(tracks):
        role = voices[index].role if index in voices else said[index]
        tracks[index] = track._replace(part="other" if role in (None, "voice", "lead") else role)
    staves = [index for index, track in enumerate(tracks) if score.tracks[index].part == "other" != track.part]
    staves = [index for index in staves if tracks[index].part in ("left", "right")]
    score = score.replace(tracks=tracks)
    return _joined(score, staves) if hands == "joined" and staves else score


def without_accents(text: str) -> str:
    """Dvorak for Dvořák."""
    letters = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _said(tracks: Sequence[Track]) -> list[str | None]:
    """What each track says of itself. A name that all share, though they sound different, is the title of the piece:
    they are channels of one MIDI track, as in files of type 0.
    """
    titled = len({track.name for track in tracks}) == 1 < len({(track.program, track.drums) for track in tracks})
    return [_named(track._replace(name="") if titled else track) for track in tracks]


def _named(track: Track) -> str | None:
    """What a track says of itself: its stated part, drums, a name, a bass program; None where it says nothing."""
    if track.part != "other":
        return track.part
    if track.drums:
        return "drums"
    plain = re.sub(r"[\W\d_]+", " ", without_accents(track.name.lower())).strip()
    said = next((role for role, words in NAMES if re.search(words, plain)), None)
    return "bass" if said is None and track.program in BASSES else said


def _voice(score: Score, index: int, said: str | None) -> _Voice:
    """One track's texture, with what it says of itself."""
    notes = score.notes[score.notes["track"] == index]
    ends = notes["onset"] + (1 - LEGATO) * notes["duration"]
    line = len(notes) < 2 or np.mean(notes["onset"][1:] >= ends[:-1]) > ONE_LINE
    track = score.tracks[index]
    return _Voice(track, float(np.median(notes["pitch"])), bool(line), said)


def _settle(voices: list[_Voice]) -> None:
    """Give every pitched track its role among the others."""
    if len(voices) == 1 and voices[0].role not in ("melody", "bass") and voices[0].track.part == "other":
        voices[0].role = "melody" if voices[0].line else None
        return
    _settle_hands(voices)
    _settle_singers(voices)
    lines = sorted((voice for voice in voices if voice.role is None and voice.line), key=lambda voice: voice.pitch)
    roles = {voice.role for voice in voices}
    if lines and "melody" not in roles:
        lines.pop().role = "melody"
    if lines and "bass" not in roles and lines[0].pitch < BASS_PITCH:
        lines[0].role = "bass"
    for voice in voices:
        voice.role = voice.role or "accompaniment"


def _settle_hands(voices: list[_Voice]) -> None:
    """Two keyboard tracks that nothing else tells apart are the hands of one player, the higher the right."""
    hands = [voice for voice in voices if voice.role in ("right", "left")]
    for voice in hands:
        voice.role = voice.role if voice.keyboard or voice.track.part == voice.role else None
    staves = [voice for voice in voices if voice.keyboard and voice.track.part == "other"]
    named = {voice.role for voice in staves} & {"right", "left"}
    said = {None, "right", "left"}
    if len(named) == 1:  # the other hand may be called piano, or basse beside dessus
        said |= {"accompaniment", "bass"} if len(voices) == 2 else {"accompaniment"}
    staves = [voice for voice in staves if voice.role in said] if named else _alike(staves, len(voices))
    if len(staves) < 2:
        return
    staves.sort(key=lambda voice: voice.pitch)
    middle = (staves[0].pitch + staves[-1].pitch) / 2
    for voice in staves:
        if voice.role not in named:
            voice.role = "right" if voice.pitch > middle or (voice is staves[-1] and not named) else "left"


def _alike(staves: list[_Voice], size: int) -> list[_Voice]:
    """Two keyboard tracks without a name and alone, or both of the same name for an accompaniment ("Piano")."""
    unnamed = [voice for voice in staves if voice.role is None]
    pianos = [voice for voice in staves if voice.role == "accompaniment"]
    if len(unnamed) == size == 2:
        return unnamed
    return pianos if len(pianos) == 2 and pianos[0].track.name == pianos[1].track.name else []


def _settle_singers(voices: list[_Voice]) -> None:
    """The highest singer or lead is the melody unless one is named; the other singers accompany."""
    for kind in ("voice", "lead", "bass"):
        members = [voice for voice in voices if voice.role == kind]
        if kind == "bass":
            pianist = any(voice.role == "accompaniment" for voice in voices)
            members = [voice for voice in members if pianist and voice.keyboard and voice.pitch > BASS_SINGER]
        members = [voice for voice in members if voice.track.part == "other"]
        if members and not any(voice.role == "melody" for voice in voices):
            max(members, key=lambda voice: voice.pitch).role = "melody"
        for voice in members:
            voice.role = "accompaniment" if voice.role in ("voice", "lead") else voice.role


def _joined(score: Score, staves: list[int]) -> Score:
    """The staves as one track in the place of the first; where both strike a pitch at once the longer note stays."""
    others = set(score.notes["track"].tolist()) - set(staves)
    alone = all(score.tracks[index].drums for index in others)
    tracks = [track for index, track in enumerate(score.tracks) if index not in staves[1:]]
    first = score.tracks[staves[0]]
    tracks[staves[0]] = Track("Piano", first.program, False, "other" if alone else "accompaniment")
    place = np.array([index - sum(stave < index for stave in staves[1:]) for index in range(len(score.tracks))])
    place[staves] = staves[0]
    notes, pedals = score.notes.copy(), score.pedals.copy()
    notes["track"], pedals["track"] = place[notes["track"]], place[pedals["track"]]
    return score.replace(notes=notes, pedals=pedals, tracks=tracks).without_overlaps()


def sounding_parts(score: Score) -> tuple[str, ...]:
    """The parts that have notes, in the order of PARTS."""
    heard = {score.tracks[track].part for track in np.unique(score.notes["track"])}
    return tuple(part for part in PARTS if part in heard)


def programs_of(score: Score, parts: Sequence[str] | None = None) -> dict[str, int]:
    """The General MIDI program that plays most notes of each part that sounds; drums have none.

    `parts` are those of the tracks, where they are others than the score states.
    """
    parts = parts or [track.part for track in score.tracks]
    counts = np.bincount(score.notes["track"], minlength=len(parts))
    notes: dict[str, Counter] = {}
    for part, track, count in zip(parts, score.tracks, counts.tolist(), strict=True):
        if count and not track.drums:
            notes.setdefault(part, Counter())[track.program] += count
    return {part: found.most_common(1)[0][0] for part, found in notes.items()}


def only_tracks(score: Score, keep: Sequence[int]) -> Score:
    """The score with these tracks alone, in this order."""
    place = np.zeros(len(score.tracks), np.uint8)
    place[keep] = np.arange(len(keep))
    kept = {}
    for name in ("notes", "pedals"):
        rows = getattr(score, name)
        rows = rows[np.isin(rows["track"], keep)]
        rows["track"] = place[rows["track"]]
        kept[name] = rows
    return score.replace(tracks=[score.tracks[track] for track in keep], **kept)
