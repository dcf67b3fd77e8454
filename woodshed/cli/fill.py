"""woodshed fill"""

from ..errors import InputError
from ..symbolic.playing.settings import TakeSettings, read_span
from .generate import TakeFiles, generate_with_bar
from .terminal import FilePath, RunPath


def command(
    run: RunPath,
    file: FilePath,
    settings: TakeSettings,
    files: TakeFiles,
    bars: str | None = None,
    seconds: str | None = None,
    parts: tuple[str, ...] | None = None,
    chords: str | None = None,
    keep_grid: bool = False,
):
    """Write some bars of a MIDI file anew, or some parts of it, there or new.

    Your file is never changed: each take is a copy of it in which only what you asked for is written anew.

    Args:
        run: a run made by woodshed train, or a base model
        file: the MIDI file
        settings: how takes are drawn
        files: where the takes go, and what plays them
        bars: which bars to write, such as 9-12 or 9
        seconds: which seconds to write, such as 20-26, where the file has no bars (for runs of played music); a run
            that counts bars writes all bars anew that they touch
        parts: which parts to write: melody, bass, accompaniment, left, right ...; or tracks of
            the file by name or number (from 1), such as Lead or 2; by default all; a part that the file has not gets a
            track of its own, where the run has learned to play it to others
        chords: the chords to play over; by default those the file states or its parts imply
        keep_grid: believe the bars and beats of the file instead of checking them
    """
    if bars is None and seconds is None and parts is None:
        raise InputError(f"{file}: say what to write anew: --bars 9-12, --seconds 20-26 or --parts melody")
    told = dict(bars=read_span("bars", bars), seconds=read_span("seconds", seconds))
    told |= dict(parts=parts, chords=chords, keep_grid=keep_grid)
    generate_with_bar(run, settings, files, prompt=file, **told)
