"""woodshed extend"""

from pathlib import Path

from tyro.conf import Positional

from ..symbolic.playing.settings import ComposeSettings
from .generate import generate_with_bar


def command(
    run: Positional[Path],
    file: Positional[Path],
    settings: ComposeSettings,
    keep_grid: bool = False,
    out: Path | None = None,
    soundfont: Path | None = None,
):
    """Go on from the end of a MIDI file; each take begins with the very file.

    Args:
        run: a run made by woodshed train, or a base model
        file: the MIDI file to go on from
        settings: what to play
        keep_grid: believe the bars and beats of the file instead of checking them
        out: where the takes go, in a folder with the next free number; by default RUN/takes
        soundfont: a .sf2 or .sf3 that plays the .wav; by default our own piano
    """
    generate_with_bar(run, settings, out, soundfont, prompt=file, keep_grid=keep_grid)
