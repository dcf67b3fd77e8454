"""woodshed accompany"""

from pathlib import Path

from tyro.conf import Positional

from ..symbolic.playing.settings import TakeSettings
from .generate import generate_with_bar


def command(
    run: Positional[Path],
    file: Positional[Path],
    settings: TakeSettings,
    chords: str | None = None,
    melody: str = "auto",
    keep_grid: bool = False,
    out: Path | None = None,
    soundfont: Path | None = None,
):
    """Play an accompaniment to a melody, which stays exactly as it is.

    The chords are printed: change them and give them back with --chords.

    Args:
        run: a run made by woodshed train, or a base model
        file: a MIDI file: a melody, or music with a track for it
        settings: how takes are drawn
        chords: the chords to play over; by default those in the file, or else such as fit to the melody
        melody: the track that is the melody, by its name or number; by default the one that sounds like it
        keep_grid: believe the bars and beats of the file instead of checking them
        out: where the takes go, in a folder with the next free number; by default RUN/takes
        soundfont: a .sf2 or .sf3 that plays the .wav; by default our own piano
    """
    generate_with_bar(run, settings, out, soundfont, prompt=file, melody=melody, chords=chords, keep_grid=keep_grid)
