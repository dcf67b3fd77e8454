"""woodshed extend"""

from ..symbolic.playing.settings import ComposeSettings
from .generate import TakeFiles, generate_with_bar
from .terminal import FilePath, RunPath


def command(run: RunPath, file: FilePath, settings: ComposeSettings, files: TakeFiles, keep_grid: bool = False):
    """Go on from the end of a MIDI file, which is never changed: each take is a copy of it with more at its end.

    Args:
        run: a run made by woodshed train, or a base model
        file: the MIDI file to go on from
        settings: what to play
        files: where the takes go, and what plays them
        keep_grid: believe the bars and beats of the file instead of checking them
    """
    generate_with_bar(run, settings, files, prompt=file, keep_grid=keep_grid)
