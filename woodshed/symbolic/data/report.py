"""What was found in a folder of MIDI, and the advice a musician gets on it, in plain words."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...page import counted, percent
from ..music.score import Score

LITTLE_FILES, LITTLE_MINUTES = 50, 50.0
MOSTLY = 0.9  # of the minutes are alike: the rest is not worth a word of its own
HEAVY = 0.25  # of the minutes in one file are a lot

REASONS = {
    "selection": "not asked for",
    "unreadable": "cannot be read",
    "empty": "no notes",
    "drums": "drums only",
    "part": "does not have the part",
    "range": "no note a piano could play",
    "programs": "more than one instrument",
    "short": "too short",
    "dense": "too many notes a second",
    "duplicate": "the same notes as another file",
    "near-duplicate": "another file in another key or tempo, or hardly changed",
}


@dataclass(frozen=True)
class Facts:
    """What is known of one piece of music."""

    seconds: float
    notes: int
    notes_per_second: float
    lowest: int  # pitch
    highest: int
    key: str  # "F# minor"; empty for drums alone
    key_confidence: float  # see keys.estimate_key
    bars: int  # 0 in free time
    bpm: float | None  # that half of the time is slower than; None in free time
    metre: str  # that most of the time is in; "free" in free time
    grid: str  # kept, shifted, re-barred or free, as grid.py has it; "believed" where nobody asked
    grid_confidence: float  # 0 to 1
    grid_reason: str
    parts: tuple[str, ...]
    pedal: float  # share of the time that it is down
    velocities: int  # different ones
    chords: int  # stated in the file

    @property
    def free(self) -> bool:
        """Whether it is in free time."""
        return self.metre == "free"


@dataclass(frozen=True)
class Finding:
    """One file: ready to be learned (`score`, no `reason`), or left out for one of REASONS."""

    path: str  # in the folder, with /; of a kept take as seen from the corpus
    reason: str = ""
    detail: str = ""
    remarks: tuple[str, ...] = ()
    facts: Facts | None = None
    song: str = ""  # the first file that is a version of the same song
    digest: str = ""  # sha256 of the file
    recording: str = ""  # of the same performance, as a table of the files names it
    kept: str = ""  # the run that played it, where it is a take that was kept; empty for the musician's own files
    prompt: str = ""  # sha256 of the file that a kept take was played in, if any
    content: str = field(default="", repr=False)
    figures: Any = field(default=None, repr=False)
    score: Score | None = field(default=None, repr=False)

    def without(self, reason: str, detail: str) -> Finding:
        """The same file, left out."""
        return dataclasses.replace(self, reason=reason, detail=detail, score=None)

    def as_dict(self) -> dict:
        """All but the music, for JSON."""
        hidden = ("content", "figures", "score", "facts", "kept", "prompt")
        told = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in hidden}
        return told | {"remarks": list(self.remarks), "facts": self.facts and dataclasses.asdict(self.facts)}


@dataclass(frozen=True)
class Inspection:
    """A folder's findings, in the order of their paths."""

    folder: Path
    settings: Any
    findings: tuple[Finding, ...] = field(repr=False)
    table: dict[str, dict] | None = None  # what of a table of the files was asked for, by split: metadata.Table.sums

    @property
    def usable(self) -> list[Finding]:
        """The files that can be learned from."""
        return [finding for finding in self.findings if not finding.reason]

    @property
    def left_out(self) -> list[Finding]:
        """The files that cannot."""
        return [finding for finding in self.findings if finding.reason]

    @property
    def seconds(self) -> float:
        """How long the usable music is in all."""
        return sum(finding.facts.seconds for finding in self.usable)

    def counts(self) -> dict[str, int]:
        """Files left out by reason, in the order of REASONS."""
        counts = Counter(finding.reason for finding in self.left_out)
        return {reason: counts[reason] for reason in REASONS if counts[reason]}

    def as_dict(self) -> dict:
        """Everything, for JSON."""
        return {
            "folder": str(self.folder),
            "settings": dataclasses.asdict(self.settings),
            "files": len(self.findings),
            "usable": len(self.usable),
            "minutes": round(self.seconds / 60, 3),
            "notes": sum(finding.facts.notes for finding in self.usable),
            "left_out": self.counts(),
            "table": self.table,
            "advice": advice(self),
            "findings": [finding.as_dict() for finding in self.findings],
        }


# --- advice ----------------------------------------------------------------------------------------------------


def suits(found: Inspection) -> tuple[str, str]:
    """The tokenizer that suits a folder, and why: remi for music on a grid, performance for free time."""
    share = _minutes_share(found, [finding for finding in found.usable if not finding.facts.free])
    if share >= MOSTLY:
        return "remi", f"{_almost(share)} keeps to bars and beats"
    if share <= 1 - MOSTLY:
        return "performance", f"{_almost(1 - share)} is played without a beat that can be trusted"
    mixed = f"the folder is mixed, {percent(share)} of the music keeps to bars and beats"
    return ("remi" if share > 0.5 else "performance"), mixed


def advice(found: Inspection) -> list[str]:
    """What a musician should know before training, most important first; empty lines are none."""
    if not found.usable:
        return ["Nothing here can be learned from yet.", *_about_left_out(found)]
    tellers = (_about_amount, _about_tokens, _about_bars, _about_left_out, _about_balance, _about_parts)
    tellers += (_about_touch, _about_chords)
    return [line for teller in tellers for line in teller(found)]


def _about_tokens(found: Inspection) -> Iterable[str]:
    name, why = suits(found)
    yield f"Tokenizer: {name}; {why}."
    free = [finding for finding in found.usable if finding.facts.free]
    if name == "remi" and free:
        yield (
            f"remi has to leave out the {count_files(len(free))} in free time ({_minutes(free):.0f} min). To learn "
            "them too, take --tokenizer performance, or make a second corpus of them."
        )
    elif name == "performance" and len(free) < len(found.usable):
        bound = len(found.usable) - len(free)
        yield f"performance takes the {count_files(bound)} with bars as well, in seconds; remi would take nothing else."


def _about_bars(found: Inspection) -> Iterable[str]:
    corrected = [finding for finding in found.usable if finding.facts.grid in ("shifted", "re-barred")]
    if corrected:
        first = corrected[0]
        yield (
            f"The bar lines of {count_files(len(corrected))} were wrong and are taken from the music instead, such as "
            f"{first.path}: {first.facts.grid_reason}. If you know better: --keep-grid believes the files."
        )


def _about_amount(found: Inspection) -> Iterable[str]:
    files = len(found.usable)
    if files < LITTLE_FILES or found.seconds / 60 < LITTLE_MINUTES:
        yield (
            f"This is little music: {count_files(files)}, {duration(found.seconds)}. From {LITTLE_FILES} files and "
            f"{LITTLE_MINUTES:.0f} minutes on a style can be learned; with less, adapt a base model and expect it to "
            "quote you."
        )
    else:
        yield f"This is enough to learn from: {count_files(files)}, {duration(found.seconds)}."


def _about_left_out(found: Inspection) -> Iterable[str]:
    ways = {
        "unreadable": "Open the unreadable files in your DAW and save them again, if they matter to you.",
        "drums": "Drum files are left out; to learn drums: --only-part drums.",
        "part": "Files without the part you asked for are left out; the list names the parts they have.",
        "programs": "Files with several instruments are left out; --keep programs learns them by their parts, each of "
        "which takes play on the instrument it mostly has; --only-part melody (or another part) takes one of each.",
        "duplicate": "Duplicates count once: a piece that is there twice would be learned twice as hard.",
        "near-duplicate": "Copies in another key or tempo bring nothing that --augment does not bring; "
        "--keep near-duplicate takes them all the same.",
        "short": "Short files are often loops or exports that failed; --min-seconds and --min-notes set the limit.",
        "dense": "Files with very many notes a second are seldom music a hand played; --max-notes-per-second.",
        "range": "Files without a note on a piano's keys are often effects or drum maps.",
    }
    return [ways[reason] for reason in found.counts() if reason in ways]


def _about_balance(found: Inspection) -> Iterable[str]:
    longest = max(found.usable, key=lambda finding: finding.facts.seconds)
    share = longest.facts.seconds / found.seconds
    if share > HEAVY and len(found.usable) > 1 / HEAVY:
        yield f"{longest.path} alone makes {percent(share)} of the minutes: the model will sound most like it."
    heads = Counter(finding.song for finding in found.usable)
    takes = sum(count for count in heads.values() if count > 1)
    if takes:
        songs = sum(count > 1 for count in heads.values())
        yield (
            f"{count_files(takes)} are versions of {counted(songs, 'song')}: those of a song are all learned, or all "
            "held out."
        )
    key, count = Counter(finding.facts.key for finding in found.usable).most_common(1)[0]
    if key and len(found.usable) >= 10 and count > len(found.usable) / 2:
        yield f"{percent(count / len(found.usable))} of the files are in {key}; --augment evens the keys out."


def _about_parts(found: Inspection) -> Iterable[str]:
    several = [finding for finding in found.usable if len(finding.facts.parts) > 1]
    if several:
        parts = " and ".join(Counter(finding.facts.parts for finding in several).most_common(1)[0][0])
        some = (
            "Every file has"
            if len(several) == len(found.usable)
            else f"{count_files(len(several))} {_have(len(several))}"
        )
        yield f"{some} several parts, mostly {parts}: the model learns to play one of them to the others."
    else:
        yield "No file has more than one part: the model learns to compose, continue and fill in, not to accompany."


def _about_touch(found: Inspection) -> Iterable[str]:
    flat = [finding for finding in found.usable if finding.facts.velocities == 1]
    if len(flat) == len(found.usable):
        yield "All notes of a file are equally loud (notated music): what the model plays will have no dynamics."
    elif flat:
        yield f"{count_files(len(flat))} {_have(len(flat))} one velocity for all notes: the model learns that, too."
    dry = [finding for finding in found.usable if not finding.facts.pedal]
    if 0 < len(dry) < len(found.usable):
        yield f"{count_files(len(dry))} {_have(len(dry))} no pedal, the others do: the model will learn both."


def _about_chords(found: Inspection) -> Iterable[str]:
    pitched = [finding for finding in found.usable if set(finding.facts.parts) != {"drums"}]
    stated = sum(finding.facts.chords > 0 for finding in pitched)
    if pitched and stated < len(pitched):
        some = f"Chords are written in {count_files(stated)}" if stated else "No file states its chords"
        yield f"{some}; woodshed prepare hears them in the {'others' if stated else 'notes'}."


def told_sums(sums: dict) -> str:
    """What a table of the files says of one split."""
    missing = f", {sums['missing']} of them not in the folder" if sums["missing"] else ""
    return (
        f"{counted(sums['performances'], 'performance')}, {sums['hours']:.1f} hours, {sums['notes']:,} notes{missing}"
    )


def count_files(count: int) -> str:
    """ "1 file", "2,000 files"."""
    return counted(count, "file")


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _almost(share: float) -> str:
    if share > 0.995:
        return "all of the music" if share == 1 else "almost all of the music"
    return f"{percent(share)} of the music"


def duration(seconds: float) -> str:
    """Minutes, or from two hours on hours."""
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:,.1f} hours"


def _minutes(findings: Iterable[Finding]) -> float:
    return sum(finding.facts.seconds for finding in findings) / 60


def _minutes_share(found: Inspection, some: Iterable[Finding]) -> float:
    return 60 * _minutes(some) / found.seconds if found.seconds else 0.0
