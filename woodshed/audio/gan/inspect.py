"""The folder before training: is there enough, is it equally loud, and what experiments teach about such material.

    found = inspect("recordings")      found.recordings, found.lessons

The lessons are those of a dozen experiments with Musika on piano recordings, and of our own.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import EmptyCorpus, FileError
from ...files import shown
from ...page import counted, tally
from ...progress import Progress, Reporter, unheard
from .. import features
from ..crops import ENOUGH
from ..wave import Audio, audio_files, digest_of, listen, read_audio

EXCERPT = 60.0  # seconds from the middle of each recording that are listened to
LONG = 20 * 60.0  # seconds
DENSE, FAST = 8.0, 160.0  # onsets a second; beats a minute
SPREAD = 3.0  # LU
HOURS = {128: 60, 256: 120}  # of audio, that runs of this size were trained on
ENVELOPE_RATE, SAME = 20, 0.97  # values a second; correlation of the envelopes of the same sound in two files


@dataclass(frozen=True)
class Inspected:
    """One recording, or why it is none."""

    file: str
    seconds: float = 0.0
    channels: int | None = None
    loudness: float | None = None  # LUFS; None for silence
    onset_rate: float | None = None  # a second
    tempo: float | None = None  # beats a minute
    key: str | None = None
    duplicate_of: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Inspection:
    """`recordings` is every file; `figures` and `lessons` are about those that can be used."""

    folder: str
    recordings: tuple[Inspected, ...]
    figures: dict
    lessons: tuple[str, ...]


def inspect(folder: str | Path, *, report: Reporter = unheard) -> Inspection:
    """Listen to every recording of a folder. Raises InputError for a folder that is none, EmptyCorpus where there is
    nothing but silence and damage."""
    folder = Path(folder)
    paths = audio_files(folder)
    found, digests, envelopes = [], {}, []
    for number, path in enumerate(paths):
        report(Progress(number / len(paths), path.name))
        one, envelope = _heard(path, folder, digests)
        if envelope is not None and (twin := _twin(one, envelope, envelopes)):
            one = dataclasses.replace(one, duplicate_of=twin)
        elif envelope is not None:
            envelopes.append((one, envelope))
        found.append(one)
    used = [one for one in found if not one.reason and not one.duplicate_of]
    if not used:
        told = tally(one.reason for one in found)
        raise EmptyCorpus(f"{folder}: nothing to learn from ({told}); give recordings of music")
    figures = _figures(found, used)
    return Inspection(folder.name, tuple(found), figures, tuple(_lessons(figures, used)))


def _heard(path: Path, folder: Path, digests: dict[str, str]) -> tuple[Inspected, np.ndarray | None]:
    """What one file is, and its envelope where it can be used."""
    one = Inspected(shown(path.relative_to(folder).as_posix()))
    try:
        facts, digest = listen(path, 2), digest_of(path)  # in stereo, as a codec hears mono too
        start = max(0.0, (facts.seconds - EXCERPT) / 2)
        audio = read_audio(path, start=start, seconds=EXCERPT)
    except FileError as error:
        return dataclasses.replace(one, reason=error.reason), None
    one = dataclasses.replace(one, seconds=round(facts.seconds, 2), channels=audio.channels)
    audio = audio.with_channels(1)
    if not np.isfinite(facts.loudness):
        return dataclasses.replace(one, reason="silent"), None
    if digest in digests:
        return dataclasses.replace(one, duplicate_of=digests[digest]), None
    digests[digest] = one.file
    heard = features.describe(audio)
    known = {"loudness": round(facts.loudness, 2), "onset_rate": round(heard.onset_rate, 3)}
    tempo = heard.tempo and round(heard.tempo, 1)
    return dataclasses.replace(one, **known, tempo=tempo, key=heard.key), _envelope(audio)


def _envelope(audio: Audio) -> np.ndarray:
    """Changes of level, ENVELOPE_RATE a second, of mean 0 and length 1: the same in every format of a sound."""
    step = audio.sample_rate // ENVELOPE_RATE
    frames = audio.mono[: len(audio.samples) // step * step].reshape(-1, step)
    change = np.diff(np.log10(np.square(frames).mean(axis=1) + 1e-8))
    change = change - change.mean() if len(change) else change
    return change / max(float(np.linalg.norm(change)), 1e-9)


def _twin(one: Inspected, envelope: np.ndarray, before: list[tuple[Inspected, np.ndarray]]) -> str:
    """The file that is the same sound, as long within half a second."""
    for other, theirs in before:
        if abs(other.seconds - one.seconds) < 0.5:
            count = min(len(envelope), len(theirs))
            if count > ENVELOPE_RATE and float(envelope[:count] @ theirs[:count]) > SAME:
                return other.file
    return ""


def _figures(found: list[Inspected], used: list[Inspected]) -> dict:
    def quartiles(name: str) -> list[float] | None:
        values = [getattr(one, name) for one in used if getattr(one, name) is not None]
        return [round(float(value), 2) for value in np.percentile(values, [25, 50, 75])] if values else None

    figures = {"files": len(found), "used": len(used), "minutes": round(sum(one.seconds for one in used) / 60, 2)}
    figures["duplicates"] = sum(bool(one.duplicate_of) for one in found)
    figures["left_out"] = dict(Counter(one.reason for one in found if one.reason))
    figures |= {name: quartiles(name) for name in ("seconds", "loudness", "onset_rate", "tempo")}
    loud = [one.loudness for one in used]
    return figures | {"loudness_spread": round(float(np.subtract(*np.percentile(loud, [95, 5]))), 2)}


def _lessons(figures: dict, used: list[Inspected]) -> Iterator[str]:
    minutes = figures["minutes"]
    if 60 * minutes < ENOUGH:
        yield f"{minutes:.1f} minutes are too little: below 10 a model repeats what it heard; record more"
    elif minutes < 60:
        yield f"{minutes:.0f} minutes are enough for the small sizes (--base-channels 24, 64), not for 128 and more"
    elif minutes < 60 * HOURS[128]:
        told = ", ".join(f"{hours} hours at --base-channels {size}" for size, hours in HOURS.items())
        yield f"{minutes / 60:.1f} hours: the published experiments had {told}; fine-tuning a --base takes far less"
    if figures["loudness_spread"] > SPREAD:
        spread = f"loudness differs by {figures['loudness_spread']:.1f} LU between recordings"
        yield f"{spread}: training brings all to one level, which cured unstable volume in the experiments"
    if wide := [one for one in used if (one.channels or 0) > 2]:
        told = f"{counted(len(wide), 'recording')} with more than two channels"
        yield f"{told}: only the first two are learned; mix them down to stereo, or the centre is lost"
    dense = [one for one in used if (one.onset_rate or 0) > DENSE]
    if dense:
        told = f"{counted(len(dense), 'recording')} with more than {DENSE:g} onsets a second"
        yield f"{told}: very fast pieces came out as chaos"
    fast = [one for one in used if (one.tempo or 0) > FAST]
    if len(fast) > len(used) / 2:
        yield f"half of the recordings are faster than {FAST:g} bpm: slower material was learned better"
    if long := [one for one in used if one.seconds > LONG]:
        told = f"{counted(len(long), 'recording')} longer than {LONG / 60:.0f} minutes"
        yield f"{told}: compilations lost quality; look at woodshed audio codec check before time goes into training"
    if figures["duplicates"]:
        told = counted(figures["duplicates"], "duplicate")
        yield f"{told}: equal files are learned once, the same sound in another format twice; remove one"


def render(found: Inspection):
    """Totals, the table and the lessons for a rich console."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("recording", no_wrap=True)
    for name in ("seconds", "LUFS", "onsets/s", "bpm"):
        table.add_column(name, justify="right", no_wrap=True, min_width=max(6, len(name)))
    table.add_column("key", no_wrap=True, min_width=8)
    table.add_column("")
    for one in found.recordings:
        numbers = (one.seconds or None, one.loudness, one.onset_rate, one.tempo)
        told = ["-" if value is None else f"{value:.1f}" for value in numbers]
        remark = one.reason or (f"the same as {one.duplicate_of}" if one.duplicate_of else "")
        table.add_row(Text(one.file), *told, one.key or "-", Text(remark))
    figures = found.figures
    total = f"{figures['used']} of {counted(figures['files'], 'file')}, {figures['minutes']:.1f} minutes"
    middle = f"onsets a second {_three(figures['onset_rate'])}; bpm {_three(figures['tempo'])}"
    return Group(Text(total), table, Text(f"quartiles: {middle}"), *(Text(f"- {one}") for one in found.lessons))


def _three(values: list[float] | None) -> str:
    return "-" if values is None else " ".join(f"{value:.1f}" for value in values)
