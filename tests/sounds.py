"""Small made-up recordings for the tests of the audio side: tones, noise, songs of known tempo and key, folders."""

import json
from pathlib import Path

import numpy as np
import soundfile

from woodshed.audio.wave import Audio, write_audio

RATE = 16000
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
DEGREES = {"major": (0, 3, 4, 0), "minor": (0, 5, 3, 0)}  # a chord a bar
TONICS = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


def tone(seconds=1.0, frequency=440.0, *, level=0.3, sample_rate=RATE, channels=1) -> Audio:
    """A sine, softer in each further channel."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    wave = level * np.sin(2 * np.pi * frequency * time)
    return Audio(np.stack([wave / (1 + k) for k in range(channels)], axis=1).astype(np.float32), sample_rate)


def noise(seconds=1.0, *, level=0.1, seed=0, sample_rate=RATE, channels=1) -> Audio:
    """White noise, another in each channel."""
    samples = level * np.random.default_rng(seed).standard_normal((round(seconds * sample_rate), channels))
    return Audio(samples.astype(np.float32), sample_rate)


def silence(seconds=1.0, *, sample_rate=RATE, channels=1) -> Audio:
    return Audio(np.zeros((round(seconds * sample_rate), channels), np.float32), sample_rate)


def song(seed=0, *, seconds=8.0, bpm=120.0, key="C major", sample_rate=RATE, channels=2, brightness=0.6) -> Audio:
    """Plucked chords on the bar, a bass on the beat and a melody in eighths, in 4/4 at `bpm` and in `key`.

    `brightness` is how much of each harmonic is left in the next.
    """
    rng = np.random.default_rng(seed)
    tonic, mode = key.split()
    beat, root = 60 / bpm, 48 + TONICS.index(tonic)
    steps = np.concatenate([np.array(SCALES[mode]) + 12 * octave for octave in range(4)]) + root
    samples = np.zeros((round(seconds * sample_rate), channels), np.float32)
    for eighth in range(int(seconds / beat * 2)):
        at, degree = eighth * beat / 2, DEGREES[mode][eighth // 8 % 4]
        played = [(steps[7 + degree + rng.choice((0, 2, 4, 7))], beat / 2, 0.08)]
        played += [(steps[degree] - 12, beat, 0.15)] if eighth % 2 == 0 else []
        played += [(steps[degree + third], 3 * beat, 0.1) for third in (0, 2, 4)] if eighth % 8 == 0 else []
        for pitch, length, level in played:
            first = round(at * sample_rate)
            wave = _pluck(pitch, length, level, brightness, sample_rate)[: len(samples) - first]
            samples[first : first + len(wave)] += wave[:, None]
    samples[:, 1:] *= 0.8
    return Audio(samples, sample_rate)


def _pluck(pitch, seconds, level, brightness, sample_rate) -> np.ndarray:
    """A note that fades, of five harmonics."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    wave = sum(brightness**k * np.sin(2 * np.pi * (k + 1) * frequency * time) for k in range(5))
    return level * wave * np.exp(-4 * time / seconds) * np.minimum(time / 0.005, 1)


# --- folders ---------------------------------------------------------------------------------------------------


class Folder(type(Path())):
    """A folder to put recordings and texts into: Folder.new(path).add("a.wav").write("a.txt", "la la")."""

    @classmethod
    def new(cls, path: Path) -> "Folder":
        path.mkdir(parents=True)
        return cls(path)

    def add(self, *names: str, audio: Audio | None = None) -> "Folder":
        for name in names:
            (self / name).parent.mkdir(parents=True, exist_ok=True)
            write_audio(self / name, audio or tone(0.2))
        return self

    def write(self, name: str, text: object, encoding="utf-8") -> "Folder":
        """A text, or anything else as JSON."""
        (self / name).write_bytes((text if isinstance(text, str) else json.dumps(text)).encode(encoding))
        return self


def songs_folder(folder: Path, count=4, *, suffix=".wav", labelled=True, **settings) -> Path:
    """`song 0.wav` ...: another seed, key and tempo each; with a caption, lyrics for every other, bpm and key."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(count):
        known = {"bpm": 90 + 10 * seed, "key": f"{TONICS[5 * seed % 12]} {'major' if seed % 2 else 'minor'}"} | settings
        write_audio(folder / f"song {seed}{suffix}", song(seed, **known))
        if labelled:
            labels = {"bpm": known["bpm"], "keyscale": known["key"], "timesignature": "4", "language": "en"}
            (folder / f"song {seed}.json").write_text(json.dumps(labels))
            (folder / f"song {seed}.caption.txt").write_text(f"plucked strings, song {seed}")
        if labelled and seed % 2:
            (folder / f"song {seed}.lyrics.txt").write_text(f"[Verse 1]\nOne for the money\nNumber {seed}\n")
    return folder


def hostile(folder: Path) -> Path:
    """All that goes wrong in a folder of recordings, and three good ones: two.flac, deep/Dvořák 夜.OGG, 8 bit.wav."""
    (folder / "deep").mkdir(parents=True)
    (folder / "folder.wav").mkdir()
    write_audio(folder / "two.flac", noise(0.5, sample_rate=44100, channels=2))
    write_audio(folder / "deep" / "Dvořák 夜.ogg", tone(0.5, sample_rate=22050))
    (folder / "deep" / "Dvořák 夜.ogg").rename(folder / "deep" / "Dvořák 夜.OGG")
    soundfile.write(folder / "8 bit.wav", tone(0.5, sample_rate=8000).samples, 8000, subtype="PCM_U8")
    write_audio(folder / "silent.wav", silence(0.5))
    write_audio(folder / "zero.wav", silence(0))
    soundfile.write(folder / "nan.wav", np.full((800, 1), np.nan, np.float32), 8000, subtype="FLOAT")
    (folder / "empty.mp3").write_bytes(b"")
    (folder / "text.mp3").write_text("hello")
    (folder / "corrupt.mp3").write_bytes(b"\xff\xfb\x90\x64" + np.random.default_rng(0).bytes(4000))
    (folder / "[bold]x.wav").write_bytes(b"RIFF")
    return folder
