"""woodshed accompany"""

from ..symbolic.playing.settings import TakeSettings
from .generate import TakeFiles, generate_with_bar
from .terminal import FilePath, RunPath


def command(
    run: RunPath,
    file: FilePath,
    settings: TakeSettings,
    files: TakeFiles,
    chords: str | None = None,
    melody: str = "auto",
    keep_grid: bool = False,
):
    """Play an accompaniment to a melody, which stays exactly as it is.

    The chords are printed: change them and give them back with --chords. The file's other tracks are left out. To keep
    them use woodshed fill RUN FILE --parts accompaniment; an accompaniment that is already there is written anew.

    Args:
        run: a run made by woodshed train on pieces that have a melody track beside an accompaniment; otherwise piano
        file: a MIDI file: a melody, or music with a track for it
        settings: how takes are drawn
        files: where the takes go, and what plays them
        chords: the chords to play over; by default those written in the file, or else chords that fit the melody
        melody: the track that is the melody, by its name or number; by default the one that sounds like it
        keep_grid: believe the bars and beats of the file instead of checking them
    """
    generate_with_bar(run, settings, files, prompt=file, melody=melody, chords=chords, keep_grid=keep_grid)
