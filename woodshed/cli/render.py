"""woodshed render"""

import math
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ..errors import FileError, InputError
from ..files import new_folder, shown
from ..progress import Progress
from ..symbolic.music.midi import midi_files, read_midi
from ..symbolic.music.render import CEILING, LUFS, render
from ..symbolic.music.score import Score
from ..symbolic.music.sound import write_wav
from .terminal import FilePaths, bar


def command(
    files: FilePaths,
    out: Path | None = None,
    soundfont: Path | None = None,
    picture: Path | None = None,
    sample_rate: int = 44100,
    loudness: float = LUFS,
):
    """Make MIDI files sound: a .wav of each, by a soundfont or by our own piano; and a piano roll.

    Volume, panning and bends are not played; without a soundfont every instrument is a piano, and drums are drums.

    Args:
        files: MIDI files, or folders of them, of which those that cannot be read are told and left out
        out: the .wav; a folder for them where FILES are several. By default beside each file
        soundfont: a .sf2 or .sf3 whose instruments play; needs fluidsynth or tinysoundfont
        picture: draw the piano roll to this .png, with parts and chords; a folder where FILES are several
        sample_rate: samples a second
        loudness: how loud the whole is to be, in LUFS; softer where its peaks would pass -1 dBFS
    """
    paths = [path for file in files for path in (_readable(file) if file.is_dir() else [file])]
    if not paths:
        raise InputError("no MIDI to render; give files, or folders that hold some")
    several = len(paths) > 1 or files[0].is_dir()
    wavs = _targets(paths, out, suffix=".wav", several=several)
    pictures = _targets(paths, picture, suffix=".png", several=several) if picture else [None] * len(paths)
    with bar("rendering") as report:
        for path in (file for file in files if not file.is_dir()):
            read_midi(path)  # one that cannot be read is told before anything is written
        for number, (path, wav, png) in enumerate(zip(paths, wavs, pictures, strict=True)):
            score = read_midi(path)
            audio = render(score, soundfont, sample_rate=sample_rate, target=loudness)
            with new_folder(wav.parent):
                write_wav(wav, audio, sample_rate, new=True)
            print(f"{wav}: {_told(audio, sample_rate, loudness)}", flush=True)
            if png:
                _draw(score, png, path.stem)
            report(Progress((number + 1) / len(paths), path.name))


def _readable(folder: Path) -> Iterator[Path]:
    """The MIDI files of a folder, but for those that cannot be read, which are told."""
    for path in midi_files(folder):
        try:
            read_midi(path)
        except FileError as error:
            print(f"left out: {shown(str(error))}", file=sys.stderr)
        else:
            yield path


def _targets(paths: list[Path], out: Path | None, *, suffix: str, several: bool) -> list[Path]:
    """Where what is made of each file goes; a FileError where something is there already."""
    if out is None:
        targets = [path.with_suffix(suffix) for path in paths]
    elif several:
        targets = [out / f"{path.stem}{suffix}" for path in paths]
    elif out.suffix.lower() == suffix:
        targets = [out]
    else:
        raise InputError(f"{out}: give the name of a {suffix} file")
    counts = Counter(str(target).casefold() for target in targets)  # many disks take A.wav for a.wav
    for target in targets:
        if os.path.lexists(target):
            raise FileError(target, "it exists already; choose another name with --out or --picture")
        if (count := counts[str(target).casefold()]) > 1:
            raise InputError(f"{count} files are called {target.stem}; render them one by one")
    return targets


def _told(audio, sample_rate: int, asked: float) -> str:
    """Length and loudness, and why it is softer than asked."""
    from ..loudness import loudness

    heard = loudness(audio, sample_rate)
    if not math.isfinite(heard):
        return f"{len(audio) / sample_rate:.1f} s, silent"
    softer = f" (its peaks are at {CEILING:g} dBFS)" if heard < asked - 0.1 else ""
    return f"{len(audio) / sample_rate:.1f} s, {heard:.1f} LUFS{softer}"


def _draw(score: Score, path: Path, title: str) -> None:
    """The roll, with parts and chords found where the file does not tell them."""
    from ..symbolic.music.chords import recognise
    from ..symbolic.music.parts import assign_parts
    from ..symbolic.music.roll import draw_roll

    score = assign_parts(score, hands="kept")
    if not len(score.chords):
        score = score.replace(chords=recognise(score))
    with new_folder(path.parent):
        draw_roll(score, path, title, new=True)
    print(path)
