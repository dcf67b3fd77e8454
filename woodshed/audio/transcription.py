"""Recordings become notes: a folder of sound in, a file for each recording out. Who calls says how one is written.

    found = transcribe("my-recordings", "my-midi", write)     write(recording, notes, target) makes each file

What is there already stays as it is, so that the same call goes on where another was stopped.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import EmptyCorpus, FileError, InputError
from ..jobs import stop_on_signals
from ..page import clock, counted
from ..progress import Progress, Reporter, part, unheard
from . import notes
from .wave import SILENT, Audio, Heard, audio_files, listen, stream

SUFFIX = ".mid"
HOURS = 6.0  # of a MIDI file that can be read back
EXAMPLES = 3  # reasons that are told where nothing came of a folder

Write = Callable[[Path, np.ndarray, Path], None]


@dataclass
class Transcription:
    """What transcribe() did."""

    written: list[Path] = field(default_factory=list)
    there: int = 0
    """Recordings that had their file already."""
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """Names of recordings and reasons."""
    notes: int = 0
    seconds: float = 0.0
    """Of sound, in the recordings that were written."""
    stopped: str = ""
    """The signal that ended it early."""


class _Work(NamedTuple):
    """A recording, its name in the folder, and the file that its notes go to."""

    path: Path
    name: str
    target: Path


class _Stopped(Exception):
    """A signal came in the middle of a recording."""


def transcribe(where: str | Path, out: str | Path, write: Write, *, report: Reporter = unheard) -> Transcription:
    """Hear the notes of a recording, or of all in a folder and below it, and let `write` make a file of each, in `out`
    and folders in it as they lie in theirs.

    `write` gets a recording, its notes (strikes.HEARD, at least one) and the path to write to. `report` hears a line of
    every recording. One that cannot be read, is silent or gives no notes is left out. Ctrl-C ends it, in the middle of
    a recording. Raises InputError where there is no `where` or `out` is no folder, EmptyCorpus where nothing comes of
    it, MissingExtra.
    """
    where, out, found = Path(where), Path(out), Transcription()
    if out.is_file() or out.suffix == SUFFIX:
        raise InputError(f"--out {out}: give a folder; each {SUFFIX} gets the name of its recording")
    if not where.exists():
        raise InputError(f"{where}: no such file or folder; give a recording, or a folder that holds some")
    paths = [where] if where.is_file() else audio_files(where)
    if not notes.available():
        raise notes.missing()
    ahead = _ahead(paths, where.parent if where.is_file() else where, out, found, report)
    with stop_on_signals(found):
        for number, work in enumerate(ahead):
            whole = part(report, number / len(ahead), (number + 1) / len(ahead))
            try:
                heard, sound = _heard(work, found, whole)
            except FileError as error:
                _leave_out(work.name, error.reason, found, report)
                continue
            except _Stopped:
                break
            write(work.path, heard, work.target)
            _count(work, heard, sound, found, report)
    if not (found.written or found.there or found.stopped):
        more = "; ..." if len(found.left_out) > EXAMPLES else ""
        told = "; ".join(": ".join(row) for row in found.left_out[:EXAMPLES])
        raise EmptyCorpus(f"{where}: no notes came of it: {told}{more}")
    return found


def _ahead(paths: list[Path], root: Path, out: Path, found: Transcription, report: Reporter) -> list[_Work]:
    """What is still to be done; of recordings that would go to one file the first is."""
    ahead, names = [], {}
    for path in paths:
        inside = path.relative_to(root)
        work = _Work(path, inside.as_posix(), out / inside.with_suffix(SUFFIX))
        first = names.setdefault(str(work.target).casefold(), path.name)  # many disks take A.mid for a.mid
        if first != path.name:
            _leave_out(work.name, f"{first} goes to {work.target.name} already; rename one of them", found, report)
        elif os.path.lexists(work.target):
            found.there += 1
        else:
            ahead.append(work)
    return ahead


def _heard(work: _Work, found: Transcription, report: Reporter) -> tuple[np.ndarray, Heard]:
    """The notes of a recording, and how it sounds. Raises FileError with the reason why it gives none, and _Stopped."""
    sound = listen(work.path)
    if not math.isfinite(sound.loudness):
        raise FileError(work.path, SILENT)
    if sound.seconds > 3600 * HOURS:
        raise FileError(work.path, f"lasts {sound.seconds / 3600:.1f} hours; cut it into pieces of at most {HOURS:g}")
    heard = notes.hear(_pieces(work, sound, found, report))
    if not len(heard):
        raise FileError(work.path, "no notes are heard in it")
    return heard, sound


def _pieces(work: _Work, sound: Heard, found: Transcription, report: Reporter) -> Iterator[Audio]:
    """A recording as it is heard, piece by piece."""
    done = 0.0
    for piece in stream(work.path, sample_rate=notes.SAMPLE_RATE, channels=1):
        if found.stopped:
            raise _Stopped
        report(Progress(min(done / sound.seconds, 1.0), work.name))
        yield piece
        done += piece.seconds


def _leave_out(name: str, reason: str, found: Transcription, report: Reporter) -> None:
    found.left_out.append((name, reason))
    report(Progress(message=f"left out: {name}: {reason}"))


def _count(work: _Work, heard: np.ndarray, sound: Heard, found: Transcription, report: Reporter) -> None:
    found.written.append(work.target)
    found.notes += len(heard)
    found.seconds += sound.seconds
    told = f"{work.target}: {counted(len(heard), 'note')} in {clock(sound.seconds)}"
    report(Progress(message="; ".join(filter(None, [told, sound.remark]))))
