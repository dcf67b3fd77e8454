"""woodshed fill"""

from pathlib import Path

from tyro.conf import Positional

from ..errors import InputError
from ..symbolic.playing.settings import TakeSettings
from .generate import generate_with_bar


def command(
    run: Positional[Path],
    file: Positional[Path],
    settings: TakeSettings,
    bars: str | None = None,
    seconds: str | None = None,
    parts: tuple[str, ...] | None = None,
    chords: str | None = None,
    keep_grid: bool = False,
    out: Path | None = None,
    soundfont: Path | None = None,
):
    """Write some bars of a MIDI file anew, or some parts of it; all else stays as it is.

    Args:
        run: a run made by woodshed train, or a base model
        file: the MIDI file
        settings: how takes are drawn
        bars: which bars to write, such as 9-12 or 9
        seconds: which seconds to write, such as 20-26, where the file has no bars
        parts: which parts to write: melody, bass, accompaniment, left, right ...; by default all
        chords: the chords to play over; by default the file's, or such as the other parts speak of, or free
        keep_grid: believe the bars and beats of the file instead of checking them
        out: where the takes go, in a folder with the next free number; by default RUN/takes
        soundfont: a .sf2 or .sf3 that plays the .wav; by default our own piano
    """
    if bars is None and seconds is None and parts is None:
        raise InputError(f"{file}: say what to write anew: --bars 9-12, --seconds 20-26 or --parts melody")
    bars = f"{bars}-{bars}" if bars and bars.isdigit() else bars
    told = dict(bars=bars, seconds=seconds, parts=parts, chords=chords, keep_grid=keep_grid)
    generate_with_bar(run, settings, out, soundfont, prompt=file, **told)
