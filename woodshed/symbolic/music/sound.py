"""A small synthesiser, so that a fresh machine always sounds: a struck string in numpy, and plain drums.

A string is a sum of partials that ring down. All partials of a note are one matrix product: time is cut into blocks,
and `exp(s (t0 + t)) = exp(s t0) exp(s t)` for the block's start t0 and the time t inside it. Each pitch is rendered
once for each of 16 strengths; playing is adding slices of these.

For better sound, give `render` a soundfont.
"""

from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np

from ...errors import InputError
from ...files import write_file
from .score import Score, ends_of

MAX_MINUTES = 60  # 1.3 GB of samples at 44.1 kHz
TAIL = 1.5  # seconds of sound after the last note
PEAK = 10 ** (-1 / 20)  # -1 dBFS
UNDAMPED = 90  # strings above have no damper
STRENGTHS = 16  # steps of loudness and brightness over the 128 velocities
ROOM, ROOM_SECONDS, ROOM_LEVEL = 2**16, 0.5, 0.16  # FFT length in samples; length and level of the room's reply
BLOCK = 256


def synthesise(score: Score, sample_rate: int = 44100) -> np.ndarray:
    """The sound of a score as float32 (samples, 2), peak at -1 dBFS, `TAIL` seconds longer than the score.

    All pitched tracks sound like a piano, whatever their program; drum tracks like a drum kit. Pedals are played.
    Raises InputError for a score of more than MAX_MINUTES.
    """
    score = score.sustained()
    check_length(score, sample_rate)
    seconds = float(score.seconds(score.end))
    audio = np.zeros((2, round((seconds + TAIL) * sample_rate)), np.float32)
    drums = np.array([track.drums for track in score.tracks], dtype=bool)[score.notes["track"]]
    for kit in (False, True):
        _play(audio, score, score.notes[drums == kit], kit=kit, sample_rate=sample_rate)
    _add_room(audio, sample_rate)
    peak = max(audio.max(initial=0), -audio.min(initial=0))
    if peak > 0:
        audio *= PEAK / peak
    return audio.T


def check_length(score: Score, sample_rate: int) -> None:
    """Refuse, as an InputError, a sample rate that is none and music of more than MAX_MINUTES."""
    if not 8000 <= sample_rate <= 192_000:
        raise InputError(f"sample rate {sample_rate}; choose one from 8000 to 192000, such as 44100")
    if too_long(score):
        minutes = float(score.seconds(score.end)) / 60
        raise InputError(f"{minutes:.0f} minutes are too long to sound; slice the score to {MAX_MINUTES}")


def too_long(score: Score) -> bool:
    """Whether a score, its notes held by the pedal, lasts longer than MAX_MINUTES."""
    return float(score.seconds(score.sustained().end)) > 60 * MAX_MINUTES


def write_wav(path: str | Path, audio: np.ndarray, sample_rate: int = 44100, *, new: bool = False) -> None:
    """Write audio (samples, channels) in -1 .. 1 as a 16-bit WAV file, whole or not at all. Raises FileError; with
    `new` also where something is there."""
    samples = np.rint(np.clip(audio, -1, 1) * 32767).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((samples.shape[1], 2, sample_rate, len(samples), "NONE", "not compressed"))
        file.writeframes(np.ascontiguousarray(samples).tobytes())
    write_file(path, buffer.getbuffer(), new=new)


def _play(audio: np.ndarray, score: Score, notes: np.ndarray, *, kit: bool, sample_rate: int) -> None:
    """Add notes to audio (2, samples), rendering each pitch once for each strength, as long as it is needed."""
    onset = score.seconds(notes["onset"])
    length = score.seconds(ends_of(notes)) - onset
    starts = np.rint(onset * sample_rate).astype(np.int64)
    held = np.maximum(np.rint(length * sample_rate).astype(np.int64), 1)
    sounds = notes["pitch"].astype(int) * STRENGTHS + notes["velocity"] // (128 // STRENGTHS)
    for sound in np.unique(sounds):
        pitch, velocity = int(sound) // STRENGTHS, (int(sound) % STRENGTHS + 0.5) / STRENGTHS
        mine = sounds == sound
        if kit:
            ring, release = _drum(pitch, velocity, sample_rate), None
        else:
            release = _release(pitch, sample_rate)
            ring = _string(pitch, velocity, samples=int(held[mine].max()) + len(release), sample_rate=sample_rate)
        for start, stop in zip(starts[mine].tolist(), (starts + held)[mine].tolist(), strict=True):
            _add(audio, ring, release, start=start, held=stop - start)


def _add(audio: np.ndarray, ring: np.ndarray, release: np.ndarray | None, *, start: int, held: int) -> None:
    """Add one note: `ring` while it is held, faded by `release` after; without a release, all of it."""
    body = min(ring.shape[1] if release is None else held, ring.shape[1], audio.shape[1] - start)
    audio[:, start : start + body] += ring[:, :body]
    if release is not None:
        tail = max(min(len(release), ring.shape[1] - body, audio.shape[1] - start - body), 0)
        audio[:, start + body : start + body + tail] += ring[:, body : body + tail] * release[:tail]


def _string(pitch: int, velocity: float, *, samples: int, sample_rate: int) -> np.ndarray:
    """A struck piano string that is never damped: (2, samples or until it is inaudible); velocity 0 .. 1."""
    frequency = 440 * 2 ** ((pitch - 69) / 12)
    number = np.arange(1, 41)
    stiffness = 2.5e-4 * 2 ** (abs(pitch - 50) / 9)  # strings are stiffest, relative to their length, at both ends
    partials = frequency * number * np.sqrt((1 + stiffness * number**2) / (1 + stiffness))
    audible = (partials < 0.45 * sample_rate) & (partials < max(11_000, 1.1 * frequency))
    if not audible.any():
        return np.zeros((2, 1), np.float32)
    number, partials = number[audible], partials[audible]
    softness = 2 ** ((1 - velocity) * 3)  # a soft blow leaves the high partials asleep
    level = np.abs(np.sin(np.pi * number / 7.3)) / number**0.75 * np.exp(-partials * softness / (2200 + 3 * frequency))
    level *= velocity**1.8 * (frequency / 262) ** -0.15 / np.sqrt(np.sum(level**2))
    # Two decays: the strings of a note first sound together and fast, what is left out of phase lasts.
    slow = 0.35 * 2 ** ((pitch - 60) / 15) + 0.0004 * partials
    decay = np.concatenate([4.5 * slow, slow])
    level = np.concatenate([0.75 * level, 0.25 * level])
    poles = -decay + 2j * np.pi * np.tile(partials, 2)
    samples = min(samples, round(7 / slow[0] * sample_rate))
    generator = np.random.default_rng(pitch)
    phase = 0.5 * np.pi + generator.uniform(-0.6, 0.6, (2, len(partials)))  # a little apart on both sides: width
    right = 0.5 + 0.35 * (np.clip(pitch, 21, 108) - 64.5) / 43.5
    gains = np.sqrt([1 - right, right])
    amplitude = gains[:, None] * np.tile(np.exp(1j * phase), 2) * level
    sound = _ring(poles / sample_rate, amplitude, samples)
    attack = round(sample_rate * (0.0012 + 0.0025 * (1 - velocity)))
    sound[:, :attack] *= np.sin(np.linspace(0, np.pi / 2, attack, dtype=np.float32))[: sound.shape[1]] ** 2
    knock = _noise(0.03, sample_rate, decay=150 + 2 * pitch, low_pass=6)
    sound[:, : len(knock)] += np.float32(0.1 * velocity**2.2) * knock[: sound.shape[1]]
    return sound


def _ring(poles: np.ndarray, amplitude: np.ndarray, samples: int) -> np.ndarray:
    """The real part of sums of decaying oscillations: poles (k,) a sample, amplitude (channels, k) -> (channels, n)."""
    blocks = -(-samples // BLOCK)
    inside = np.exp(np.outer(poles, np.arange(BLOCK))).astype(np.complex64)
    start = np.exp(np.outer(np.arange(blocks) * BLOCK, poles))
    weights = (amplitude[:, None, :] * start).astype(np.complex64)  # (channels, blocks, k)
    real = np.concatenate([inside.real, -inside.imag])
    sound = np.concatenate([weights.real, weights.imag], axis=2) @ real
    return sound.reshape(len(amplitude), -1)[:, :samples]


def _release(pitch: int, sample_rate: int) -> np.ndarray:
    """How a string fades once its key is up: within a tenth of a second, later in the bass, undamped in the treble."""
    seconds = TAIL if pitch >= UNDAMPED else 0.12 + 0.2 * max(0, 60 - pitch) / 40
    fade = np.linspace(1, 0, round(seconds * sample_rate), dtype=np.float32)
    return fade if pitch >= UNDAMPED else fade**3


def _noise(seconds: float, sample_rate: int, *, decay: float, low_pass: int = 1, high_pass: bool = False) -> np.ndarray:
    """White noise that dies away by `decay` a second, smoothed over `low_pass` samples or with its lows removed."""
    noise = np.random.default_rng(7).standard_normal(round(seconds * sample_rate))
    if low_pass > 1:
        noise = np.convolve(noise, np.full(low_pass, low_pass**-0.5), mode="same")
    if high_pass:
        noise = np.diff(noise, n=2, prepend=[0, 0]) / 2.4
    time = np.arange(len(noise)) / sample_rate
    return (noise * np.exp(-decay * time) * (1 - time / seconds)).astype(np.float32)


def _tone(low: float, bend: float, seconds: float, *, decay: float, sample_rate: int) -> np.ndarray:
    """A drum skin: a sine that falls to `low` Hz from `1 + bend` times as high."""
    time = np.arange(round(seconds * sample_rate)) / sample_rate
    phase = 2 * np.pi * low * (time + bend * (1 - np.exp(-30 * time)) / 30)
    return (np.sin(phase) * np.exp(-decay * time) * (1 - time / seconds)).astype(np.float32)


def _drum(pitch: int, velocity: float, sample_rate: int) -> np.ndarray:
    """One stroke of the General MIDI percussion at this pitch, (2, samples)."""
    rate = dict(sample_rate=sample_rate)
    if pitch in (35, 36):
        sound, pan = 1.1 * _tone(48, 2.5, 0.4, decay=9, **rate), 0.5
        sound[: round(0.03 * sample_rate)] += 0.15 * _noise(0.03, sample_rate, decay=200)
    elif pitch in (37, 38, 39, 40):
        sound, pan = 0.45 * _noise(0.25, sample_rate, decay=20 if pitch != 37 else 90), 0.52
        sound += 0.6 * _tone(185, 0.5, 0.25, decay=25, **rate)
    elif pitch in (42, 44, 22):
        sound, pan = 0.3 * _noise(0.1, sample_rate, decay=60, high_pass=True), 0.62
    elif pitch in (46, 26):
        sound, pan = 0.3 * _noise(0.5, sample_rate, decay=8, high_pass=True), 0.62
    elif pitch in (49, 51, 52, 53, 55, 57, 59):
        ride = pitch in (51, 53, 59)
        sound = (0.18 if ride else 0.3) * _noise(TAIL, sample_rate, decay=4 if ride else 3, high_pass=True)
        sound, pan = sound + (0.1 if ride else 0) * _tone(3150, 0, TAIL, decay=9, **rate), 0.35
    elif pitch in (41, 43, 45, 47, 48, 50, 58):
        low = 75 * 2 ** ((pitch - 41) / 9)
        sound, pan = 0.9 * _tone(low, 0.6, 0.5, decay=8, **rate), 0.7 - (pitch - 41) / 30
    else:
        sound, pan = 0.4 * _tone(400 * 2 ** ((pitch % 12) / 12), 0.3, 0.15, decay=40, **rate), 0.4
    return np.outer(np.sqrt([1 - pan, pan]), 1.6 * velocity**1.8 * sound).astype(np.float32)


def _add_room(audio: np.ndarray, sample_rate: int) -> None:
    """Add the reply of a small room to audio (2, samples): decaying noise, other on each side, by blockwise FFT."""
    size = min(round(ROOM_SECONDS * sample_rate), ROOM // 2)
    time = np.arange(size) / sample_rate
    reply = np.random.default_rng(3).standard_normal((2, size)) * np.exp(-11 * time) * (time > 0.008)
    reply = np.cumsum(reply, axis=1) - np.cumsum(np.pad(reply, ((0, 0), (4, 0)))[:, :size], axis=1)  # walls are dull
    reply *= ROOM_LEVEL / np.sqrt(np.sum(reply**2, axis=1, keepdims=True))
    spectrum = np.fft.rfft(reply.astype(np.float32), ROOM)
    step = ROOM - size
    for start in reversed(range(0, audio.shape[1], step)):  # backwards: a reply never reaches sound not yet read
        wet = np.fft.irfft(np.fft.rfft(audio[:, start : start + step], ROOM) * spectrum, ROOM)
        stop = min(start + ROOM, audio.shape[1])
        audio[:, start:stop] += wet[:, : stop - start].astype(np.float32)
