"""A score played by a soundfont: by the program fluidsynth where there is one, else by the package tinysoundfont.

Both read a MIDI file and write raw samples, in a process of their own: a damaged soundfont takes tinysoundfont down
with it. Pedals are played into the notes beforehand: tinysoundfont has none, and fluidsynth knows no half-pedal.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ...errors import FileError, MissingExtra
from ...jobs import own_process, run_program
from .channels import CHANNELS, DRUM_CHANNEL
from .midi import encode, read_midi
from .parts import only_tracks
from .score import Score, ends_of
from .sound import check_length

RING = 5.0  # seconds in which what was played last may die away
SILENT = 10 ** (-70 / 20)  # below the peak: what is cut off at the end
FADE = 0.03  # seconds, at the very end
VOICES = 512  # that sound at once in tinysoundfont; a note of a stereo piano takes two
DRUM_BANK = 128
PATIENCE, PACE = 120.0, 4.0  # seconds that a player has to open a soundfont, and more for each second of music


def play(score: Score, soundfont: str | Path, sample_rate: int = 44100) -> np.ndarray:
    """The sound of a score by a soundfont (.sf2, .sf3) as float32 (samples, 2), as loud as the player makes it.

    Each track sounds with its General MIDI program, drum tracks with the drum kit; more than 15 tracks are played by
    fifteens. Raises MissingExtra without a player, FileError for a soundfont that cannot be played, InputError for
    music of more than an hour.
    """
    soundfont, player = Path(soundfont).absolute(), check_soundfont(soundfont)
    score = score.sustained()
    check_length(score, sample_rate)
    audio = np.zeros((0, 2), np.float32)
    with tempfile.TemporaryDirectory(prefix="woodshed-") as folder:
        for band in _bands(score):
            piece = _run(player, band, soundfont, folder=Path(folder), sample_rate=sample_rate)
            longer, shorter = (audio, piece) if len(audio) > len(piece) else (piece, audio)
            longer[: len(shorter)] += shorter
            audio = longer
    if len(score.notes) and not np.abs(audio).max(initial=0) > 1e-5:
        raise FileError(soundfont, "no sound comes of it: it is damaged, or has no instrument for these tracks")
    return _trimmed(audio, round(float(score.seconds(score.end)) * sample_rate), sample_rate)


def _player() -> str:
    """The player to use, by its name."""
    if shutil.which("fluidsynth"):
        return "fluidsynth"
    if find_spec("tinysoundfont") is None:
        line = "pip install --no-deps tinysoundfont (or install fluidsynth)"
        raise MissingExtra("a player of soundfonts", line=line)
    return "tinysoundfont"


def check_soundfont(soundfont: str | Path) -> str:
    """The player that will play a soundfont, by its name: fluidsynth or tinysoundfont.

    Raises MissingExtra without a player, FileError for a file that is no soundfont, or not all of one.
    """
    try:
        with open(soundfont, "rb") as file:
            head = file.read(12)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise FileError(soundfont, f"cannot be read: {error.strerror or error}") from None
    if head[:4] != b"RIFF" or head[8:] != b"sfbk":
        raise FileError(soundfont, "not a soundfont; give a .sf2 or .sf3")
    if (whole := int.from_bytes(head[4:8], "little") + 8) > size:
        raise FileError(soundfont, f"damaged: {size:,} of {whole:,} bytes are there; fetch it again")
    return _player()


def _bands(score: Score) -> Iterator[Score]:
    """The tracks of a score that have notes, in scores of no more tracks than MIDI has channels.

    A pedal that lifts late keeps each open while its last notes die away.
    """
    sounding = np.unique(score.notes["track"])
    stop = int(score.ticks(score.seconds(score.end) + RING))
    for first in range(0, len(sounding), len(CHANNELS)):
        band = only_tracks(score, sounding[first : first + len(CHANNELS)])
        yield band.replace(pedals=[(stop, 0, 0)], chords=())


def _run(player: str, score: Score, soundfont: Path, *, folder: Path, sample_rate: int) -> np.ndarray:
    """Let a player turn a score of up to 15 tracks into samples (n, 2)."""
    midi, raw = folder / "score.mid", folder / "sound.raw"
    midi.write_bytes(encode(score))
    raw.unlink(missing_ok=True)
    if player == "fluidsynth":  # without the default soundfont, which would stand in for a damaged one
        flags = f"-ni -q -o synth.default-soundfont= -r {sample_rate} -T raw -O float -F".split()
        command = [player, *flags, raw, soundfont, midi]
    else:
        command = own_process(__name__, soundfont, midi, raw, str(sample_rate))
    seconds = float(score.seconds(score.pedals["tick"][-1]))
    done = run_program(player, command, soundfont, seconds=PATIENCE + PACE * seconds)
    if done.returncode or not raw.exists() or raw.stat().st_size < 0.9 * seconds * sample_rate * 8:
        told = done.stderr.strip().splitlines() or ["it stopped before the end"]
        raise FileError(soundfont, f"{player} cannot play it: {told[-1]}")
    return np.nan_to_num(np.fromfile(raw, "<f4").reshape(-1, 2))


def _trimmed(audio: np.ndarray, least: int, sample_rate: int) -> np.ndarray:
    """Audio without the silence at its end, though not shorter than `least` samples, and faded out."""
    level = np.abs(audio).max(axis=1, initial=0)
    loud = np.flatnonzero(level > SILENT * level.max(initial=0))
    audio = audio[: max(least, int(loud[-1]) + 1 if len(loud) else 0)]
    fade = min(round(FADE * sample_rate), len(audio))
    audio[len(audio) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)[:, None]
    return audio


# --- what tinysoundfont plays, in a process of its own ----------------------------------------------------------


def _play_tiny(soundfont: str, midi: str, raw: str, sample_rate: int) -> None:
    """Play a MIDI file by tinysoundfont, to the sample, and write float32 pairs of samples."""
    import tinysoundfont

    score, synth = read_midi(midi), tinysoundfont.Synth(samplerate=sample_rate)
    font = synth.sfload(soundfont, max_voices=VOICES)
    melodic, channels = iter(CHANNELS), []
    for track in score.tracks:
        channels.append(DRUM_CHANNEL if track.drums else next(melodic))
        _choose(synth, font, channels[-1], program=track.program, drums=track.drums)
    notes = score.notes
    ticks = np.concatenate([ends_of(notes), notes["onset"]])
    at = np.rint(score.seconds(ticks) * sample_rate).astype(int)
    order = np.argsort(at, kind="stable").tolist()  # ends come before starts
    now, stop = 0, round(float(score.seconds(score.pedals["tick"].max(initial=0))) * sample_rate)
    with open(raw, "wb") as file:
        for event in order:
            if at[event] > now:
                file.write(synth.generate(int(at[event]) - now))
                now = int(at[event])
            _, _, pitch, velocity, track = notes[event % len(notes)].tolist()
            if event < len(notes):
                synth.noteoff(channels[track], pitch)
            else:
                synth.noteon(channels[track], pitch, velocity)
        file.write(synth.generate(max(stop - now, 0)))


def _choose(synth, font: int, channel: int, *, program: int, drums: bool) -> None:
    """Give a channel its instrument: the program, else the first that the soundfont has; no drums where it has none."""
    bank = DRUM_BANK if drums else 0
    there = [number for number in range(128) if synth.sfpreset_name(font, bank, number) is not None]
    if there:
        synth.program_select(channel, font, bank, program if program in there else there[0], drums)
    else:
        synth.program_unset(channel)


if __name__ == "__main__":
    _play_tiny(*sys.argv[1:4], int(sys.argv[4]))
