"""Takes on disk: which files of a folder are takes, what they say of how they were made, and which notes are their own.

A take is a .mid with a .json of the same name beside it (playing/takes.py writes both); the facts of the .json stand as
texts in the .mid too, but for its measures.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np

from ...errors import FileError
from ...files import parsed, read_object, sha256_of
from ..music.midi import midi_files, read_midi, read_texts
from ..music.parts import assign_parts
from ..music.score import Score

TOLD = "woodshed "  # begins a text in a .mid that tells a fact: `woodshed seed: 7`
NEEDED = {"settings", "seed", "run", "region_quarters"}  # facts without which a file is no take


def fact_texts(facts: dict) -> list[str]:
    """Facts as the texts of a .mid."""
    return [f"{TOLD}{name}: {json.dumps(value)}" for name, value in facts.items()]


def take_facts(path: str | Path) -> dict:
    """What a take says of how it was made: its .json (or that beside its .mid), or else the texts in the .mid.

    Raises FileError for a file that is no take.
    """
    if not Path(path).exists():
        raise FileError(path, "no such file")
    try:
        facts = _told(Path(path))
    except (OSError, ValueError) as error:
        raise FileError(path, f"no facts of a take can be read from its .json ({error})") from None
    if not facts.keys() >= NEEDED or not isinstance(facts["settings"], dict):
        raise FileError(
            path, "no take of woodshed generate, extend, fill or accompany: it does not say how it was made"
        )
    return facts


def _told(path: Path) -> dict:
    """What the .json of that name says, or else the texts in the .mid."""
    beside = path.with_suffix(".json")
    return read_object(beside) if path == beside or beside.exists() else _facts_in_texts(path)


def _facts_in_texts(path: Path) -> dict:
    facts = {}
    for text in read_texts(path):
        name, colon, value = text.removeprefix(TOLD).partition(": ")
        if text.startswith(TOLD) and colon:
            with suppress(ValueError):
                facts[name] = parsed(value)
    return facts


def file_digest(path: str | Path) -> str:
    """The sha256 of a file, in hex; empty where it cannot be read."""
    with suppress(OSError):
        return sha256_of(path)
    return ""


def prompt_digest(facts: dict) -> str:
    """The sha256 of the file that a take was played in, as it says itself or as that file is now; empty without one."""
    prompt = facts.get("settings", {}).get("prompt")
    return facts.get("digests", {}).get("prompt") or (file_digest(prompt) if prompt else "")


# --- what a take has written ---------------------------------------------------------------------------------------


def read_stretch(path: Path) -> Score:
    """What was written of a MIDI file, with all that sounds beside it: as `Take.stretch`, where it or the .json
    beside it says so, else all of it. Raises FileError.
    """
    score = assign_parts(read_midi(path))
    region = region_of(path, score)
    return score.slice(*region, cut=True) if region else score


def read_written(path: Path) -> tuple[Score, int]:
    """What was written of a MIDI file, and the tick at which that begins: of a take that goes on from a file, or fills
    holes in it, without the notes of that, as far as it and the .json beside the take are there. Raises FileError.
    """
    score = assign_parts(read_midi(path))
    region = region_of(path, score)
    if region is None:
        return score, 0
    start, end = region
    onsets = score.notes["onset"]
    own = score.notes[(onsets >= start) & (onsets < end)]
    with suppress(OSError, ValueError, KeyError, TypeError, FileError):
        prompt = read_midi(read_object(path.with_suffix(".json"))["settings"]["prompt"])
        kept, notes = (rows[["onset", "duration", "pitch", "velocity"]] for rows in (prompt.notes, own))
        own = own[~np.isin(notes, kept)]  # a note that only stands where one was is new
    return score.replace(notes=own), start


def region_of(path: Path, score: Score) -> tuple[int, int] | None:
    """The ticks of a take between which it was written; None where it is no take, or was written as a whole."""
    try:
        first, last = _told(path)["region_quarters"]
        return round(first * score.ticks_per_quarter), round(last * score.ticks_per_quarter)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, FileError):
        return None


# --- which files are takes -----------------------------------------------------------------------------------------


def takes_in(folder: str | Path) -> list[Path]:
    """The MIDI files of a folder, but for a part that was saved once more beside its take (`Take.alone`)."""
    return [path for path in midi_files(folder) if whole_take(path) == path]


def whole_take(path: Path) -> Path:
    """The take of which a MIDI file is a part that was saved once more beside it; of any other file the file itself."""
    if _is_take(path):
        return path
    words = path.stem.split("-")
    names = ["-".join(words[:count]) + path.suffix for count in range(1, len(words))]
    takes = [take for name in names if (take := path.with_name(name)).exists() and _is_take(take)]
    return takes[-1] if takes else path


def _is_take(path: Path) -> bool:
    return path.with_suffix(".json").exists()
