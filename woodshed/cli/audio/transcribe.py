"""woodshed audio transcribe"""

from pathlib import Path

import numpy as np

from ...audio.transcription import Transcription, transcribe
from ...files import new_folder, quoted, shown
from ...page import clock, counted
from ...symbolic.music.midi import write_midi
from ...symbolic.music.score import FREE_TICKS, NOTE, Score, Track
from ..terminal import RecordingsPath, bar

TICKS = 1000  # a second of free time


def command(where: RecordingsPath, out: Path):
    """Make MIDI of recordings: which notes are struck, how hard and how long, each recording in a .mid of its name.

    Best of a piano alone; guitar, voices and bands come out less well, drums not at all. There are no bars and no
    pedal: notes ring as long as they are heard. Ctrl-C ends it, and the same command goes on with what is missing.
    Needs basic-pitch: pip install onnxruntime && pip install --no-deps basic-pitch.

    Args:
        where: a recording, or a folder of them; everything below it is heard
        out: the folder for the .mid files, in folders as the recordings lie in; what is there already stays
    """
    with bar("transcribing") as report:
        found = transcribe(where, out, write, report=report)
    print("\n".join(map(shown, told(found, out))))


def write(recording: Path, heard: np.ndarray, target: Path) -> None:
    """The notes of a recording as a MIDI file in free time, which does not exist yet."""
    text = shown(f"transcribed from {recording.name}")
    with new_folder(target.parent):
        write_midi(as_score(heard, shown(recording.stem)), target, [text], new=True)


def as_score(heard: np.ndarray, name: str) -> Score:
    """Notes in seconds as a Score in free time, in one track of that name."""
    onset, end = (np.rint(TICKS * np.maximum(heard[edge], 0)).astype(int) for edge in ("onset", "end"))
    rows = np.zeros(len(heard), NOTE)
    rows["onset"], rows["duration"] = onset, np.maximum(end - onset, 1)
    rows["pitch"], rows["velocity"] = heard["pitch"], heard["velocity"]
    return Score(rows, tracks=(Track(name),), ticks_per_quarter=FREE_TICKS, free=True).without_overlaps()


def told(found: Transcription, out: Path) -> list[str]:
    """What there is now, and what comes next."""
    done = f"{counted(len(found.written), 'recording')} transcribed"
    if found.written:
        done += f", {counted(found.notes, 'note')} in {clock(found.seconds)}"
    there = [f"{found.there:,} were there already"] * bool(found.there)
    left_out = [f"{len(found.left_out):,} left out"] * bool(found.left_out)
    line = f"{out}: {'; '.join([done, *there, *left_out])}"
    if found.stopped:
        return [line, f"stopped by {found.stopped}; the same command goes on with what is missing"]
    then = f"woodshed prepare {quoted(out)} --out CORPUS --tokenizer performance"
    return [line, f"Next: woodshed inspect {quoted(out)}, and {then}"]
