"""woodshed audio codec check"""

import sys
from pathlib import Path

import numpy as np

from ....audio.codec_check import CheckSettings, check_codec, lines
from ....errors import FileError
from ....files import shown
from ....symbolic.music.midi import read_midi
from ...terminal import CodecName, FolderPath, bar


def command(codec: CodecName, folder: FolderPath, out: Path, settings: CheckSettings):
    """What is lost on the way to latents and back. A MIDI file beside a recording tells which notes are in it.

    Args:
        codec: a folder made by woodshed audio codec train, or one of diffusers (AutoencoderOobleck), or its id
        folder: recordings, best such as the codec has not learned from
        out: a new folder for report.html, report.json, pictures and sounds
        settings: what to listen to
    """
    with bar("listening") as report:
        facts = check_codec(codec, folder, out, settings, notes_of=_notes_beside, report=report)
    print("\n".join(lines(facts)))
    print(out / "report.html")


def _notes_beside(recording: Path) -> np.ndarray | None:
    """Seconds and pitches of the MIDI file of the same name, if there is one that can be read."""
    path = next((path for kind in (".mid", ".midi") if (path := recording.with_suffix(kind)).exists()), None)
    if path is None:
        return None
    try:
        score = read_midi(path)
    except FileError as error:
        print(shown(f"{error}; {recording.name} is checked without it"), file=sys.stderr)
        return None
    return np.column_stack([score.seconds(score.notes["onset"]), score.notes["pitch"]]).astype(float)
