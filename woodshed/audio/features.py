"""What can be measured in sound: tempo, key, loudness, brightness, density; and frames to compare sounds by.

found = describe(read_audio("song.mp3"))        Features: found.tempo, found.key, found.loudness, ...
timbre(audio), chroma(audio)                    frames for statistics.frechet_distance
onsets(audio)                                   seconds at which something begins
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass

import numpy as np

from ..errors import MissingExtra
from ..jobs import one_process
from ..key_profiles import TONICS, best_key
from .wave import Audio

SAMPLE_RATE = 22050  # all but loudness is measured in one channel at this rate
HOP = 512
MIN_SECONDS = 2.0  # shorter sound is padded with silence
SILENCE = 1e-5  # of full scale: below it there is nothing to measure
FAINT = 0.3  # dB, in the mean of all bands


@dataclass(frozen=True)
class Features:
    """What was measured in one sound. Silence has no features but these defaults."""

    seconds: float
    loudness: float  # LUFS, -inf for silence
    dynamic_range: float = 0.0  # dB between soft (10th percentile) and loud (95th) stretches of three seconds
    tempo: float | None = None  # bpm; None without a pulse
    tempo_confidence: float = 0.0  # 0 to 1
    key: str | None = None  # "A minor"; None without pitches
    key_confidence: float = 0.0  # 0 to 1
    centroid: float = 0.0  # Hz, the middle of the spectrum: how bright
    flatness: float = 0.0  # 0 a tone, 1 noise
    onset_rate: float = 0.0  # a second
    percussive: float = 0.0  # share of the power that is struck, not held: 0 to 1
    bass: float = 0.0  # share of the power below 150 Hz


def describe(audio: Audio) -> Features:
    """Measure a sound: about a second of work for each minute of it, and 100 MB."""
    sound = _mono(audio)
    if np.abs(sound).max() < SILENCE:
        return Features(audio.seconds, audio.loudness)
    spectrum = _spectrum(sound)
    power = spectrum**2
    hertz = np.linspace(0, SAMPLE_RATE / 2, len(power))
    strength = power.sum(axis=1) / power.sum()
    rises = _rises(power)
    tempo, tempo_confidence = estimate_tempo(rises)
    key, key_confidence = estimate_key(_chroma(sound).mean(axis=0))
    percussive = _percussive(spectrum)
    return Features(
        seconds=audio.seconds,
        loudness=audio.loudness,
        dynamic_range=_dynamic_range(sound),
        tempo=tempo,
        tempo_confidence=tempo_confidence,
        key=key,
        key_confidence=key_confidence * (1 - percussive),  # drums ring, but in no key
        centroid=float(hertz @ strength),
        flatness=_flatness(power),
        onset_rate=len(_onsets(rises)) / audio.seconds,
        percussive=percussive,
        bass=float(strength[hertz < 150].sum()),
    )


def timbre(audio: Audio) -> np.ndarray:
    """MFCC 1 to 16 (without 0, the level), (frames, 16), 43 frames a second. Does not change with the volume."""
    librosa = load_librosa()
    mel = librosa.feature.melspectrogram(S=_spectrum(_mono(audio)) ** 2, sr=SAMPLE_RATE)
    return librosa.feature.mfcc(S=librosa.power_to_db(mel, ref=np.max), n_mfcc=17)[1:].T


def mel_decibels(audio: Audio, bands: int) -> np.ndarray:
    """A mel spectrum in dB, (bands, frames)."""
    mel = load_librosa().feature.melspectrogram(S=_spectrum(_mono(audio)) ** 2, sr=SAMPLE_RATE, n_mels=bands)
    return 10 * np.log10(mel + 1e-10)


def chroma(audio: Audio) -> np.ndarray:
    """How much of each pitch class sounds, C first, in its own tuning: (frames, 12), 11 a second; rows sum to 1, or
    to 0 in silence."""
    frames = _chroma(_mono(audio))
    total = frames.sum(axis=1, keepdims=True)
    return np.divide(frames, total, out=np.zeros_like(frames), where=total > 1e-9)


def heard_rises(audio: Audio) -> np.ndarray:
    """What estimate_tempo takes: how much begins in each frame, in all, low and high bands, (3, frames)."""
    return _rises(_spectrum(_mono(audio)) ** 2)


def onsets(audio: Audio) -> np.ndarray:
    """The seconds at which notes or strokes begin, (onsets,)."""
    sound = _mono(audio)
    if float(np.abs(sound).max(initial=0)) < SILENCE:
        return np.zeros(0)
    return _onsets(_rises(_spectrum(sound) ** 2))


# --- tempo -----------------------------------------------------------------------------------------------------

BPM = np.geomspace(40, 250, 600)
RELATED = np.array([1 / 4, 1 / 3, 1 / 2, 2 / 3, 3 / 4, 1, 4 / 3, 3 / 2, 2, 3, 4])  # tempi that share a pulse
LAGS = np.array([1 / 8, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 1, 2, 3, 4, 8])  # in beats
LONGEST = 26.0  # seconds: eight beats at 40 bpm go twice into it
NEAR = 0.012  # seconds around a lag within which its peak may lie
CLEAR = 0.5  # how much rises repeat themselves where there is a pulse, times the root of the seconds heard
# What speaks for a tempo, learned from rendered music of known tempo by recipes/tempo.py: the autocorrelation of rises
# at LAGS, in all bands, in the low ones, in the high ones; then log2(bpm / 100), rises a beat, and their squares.
TEMPO_WEIGHTS = np.concatenate(
    [
        [-0.38, 2.11, 0.60, -2.13, 1.41, 2.34, 0.77, 1.54, 1.46, 0.93],
        [-1.78, 0.44, 1.23, -3.86, -4.37, 1.18, 1.60, 0.66, 2.66, 0.23],
        [-0.58, 1.04, -0.95, 0.04, 3.37, 1.51, 0.25, -0.09, 1.12, 0.53],
        [0.98, -1.53, -0.60, -0.20],
    ]
)


def estimate_tempo(rises: np.ndarray) -> tuple[float | None, float]:
    """Beats a minute and how sure (0 to 1) of `rises` (3, frames), SAMPLE_RATE / HOP a second; None without a pulse.

    Autocorrelation tells the pulse, but not whether it is counted slow or fast: that is weighed as by H. Schreiber and
    M. Müller, "A Post-Processing Procedure for Improving Music Tempo Estimates Using Supervised Learning" (ISMIR 2017).
    """
    candidates, facts, clarity = tempo_candidates(rises)
    if clarity * np.sqrt(rises.shape[1] * HOP / SAMPLE_RATE) < CLEAR:
        return None, 0.0
    odds = facts @ TEMPO_WEIGHTS
    odds = np.exp(odds - odds.max())
    return float(candidates[odds.argmax()]), float(odds.max() / odds.sum())


def tempo_candidates(rises: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Tempi that may be meant (candidates,), facts about each (candidates, 34), how clear the pulse is (0 to 1)."""
    frames = SAMPLE_RATE / HOP
    repeats = [_autocorrelation(band, round(LONGEST * frames)) for band in rises]
    lags = 60 * frames / BPM
    pulse = sum(weight * _read(repeats[0], lags * beats) for beats, weight in ((0.5, 0.5), (1, 1), (2, 0.5), (4, 0.5)))
    usual = np.exp(-0.5 * (np.log2(BPM / 100) / 0.8) ** 2)
    best = BPM[np.argmax((pulse - pulse.min()) * usual)]
    candidates = best * RELATED
    candidates = candidates[(candidates >= BPM[0]) & (candidates <= BPM[-1])]
    lags = 60 * frames / candidates[:, None] * LAGS
    slack = np.linspace(-NEAR, NEAR, 5) * frames
    at_lags = [_read(band, lags[..., None] + slack).max(axis=-1) for band in repeats]
    rate = len(_onsets(rises)) / (rises.shape[1] / frames)
    octaves, a_beat = np.log2(candidates / 100), np.log2(np.maximum(rate, 0.1) * 60 / candidates / 2)
    facts = np.column_stack([*at_lags, octaves, octaves**2, a_beat, a_beat**2])
    return candidates, facts, float(at_lags[0][:, (LAGS >= 0.5) & (LAGS <= 2)].max())


def _autocorrelation(rises: np.ndarray, longest: int) -> np.ndarray:
    """How much rises repeat themselves after 0 to `longest` frames: 1 wholly; 0 where too little is left of them."""
    frames = len(rises)
    centred = rises - rises.mean()
    repeated = np.fft.irfft(np.abs(np.fft.rfft(centred, 2 * frames)) ** 2)[: min(longest, 3 * frames // 4)]
    if repeated[0] <= 0:
        return np.zeros(longest)
    overlap = 1 - np.arange(len(repeated)) / frames
    return np.pad(repeated / repeated[0] / overlap, (0, longest - len(repeated)))


def _read(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Values between frames; 0 beyond the last."""
    return np.interp(at, np.arange(len(values)), values, right=0.0)


# --- key -------------------------------------------------------------------------------------------------------

MARGIN = 0.05  # of correlation between the best key and the next: 63% sure
FLAT = 0.2  # spread of pitch classes over their mean: noise has 0.05 to 0.1, drums 0.25, tonal music 0.3 to 0.9


def estimate_key(profile: np.ndarray) -> tuple[str | None, float]:
    """The key of a chroma profile (12,), C first, and how sure (0 to 1); None where all twelve are about as strong."""
    contrast = profile.std() / max(float(profile.mean()), 1e-9)
    if contrast < FLAT:
        return None, 0.0
    tonic, mode, lead = best_key(profile)
    sure = (1 - np.exp(-lead / MARGIN)) * min(1.0, contrast / FLAT - 1)
    return f"{TONICS[tonic]} {mode}", float(sure)


# --- from samples to frames ------------------------------------------------------------------------------------


@functools.cache
def load_librosa():
    """librosa, with what we use of it compiled.

    The first time ever that takes some twenty seconds. Two processes that do it at once leave a cache (numba's) in
    which the index of one names the code of the other: from then on a segmentation fault.
    """
    with one_process("librosa"):
        try:
            import librosa
        except ImportError:
            raise MissingExtra("librosa", "audio") from None
        noise = np.random.default_rng(0).normal(size=4 * SAMPLE_RATE).astype(np.float32)
        librosa.onset.onset_detect(onset_envelope=noise[:100], sr=SAMPLE_RATE)
        librosa.cqt(noise, sr=SAMPLE_RATE, hop_length=4 * HOP, tuning=librosa.estimate_tuning(y=noise, sr=SAMPLE_RATE))
    return librosa


def _mono(audio: Audio) -> np.ndarray:
    """One channel at SAMPLE_RATE, at least MIN_SECONDS long."""
    sound = audio.with_channels(1).resampled(SAMPLE_RATE).samples[:, 0]
    return np.pad(sound, (0, max(0, round(MIN_SECONDS * SAMPLE_RATE) - len(sound))))


def _spectrum(sound: np.ndarray) -> np.ndarray:
    """Magnitudes, (1025, frames)."""
    return np.abs(load_librosa().stft(sound, hop_length=HOP))


def _rises(power: np.ndarray) -> np.ndarray:
    """How much begins in each frame, (3, frames): rises in dB within two frames, a mean of 40 mel bands, of the lowest
    five (to 370 Hz) and of the highest 15 (from 2.6 kHz)."""
    librosa = load_librosa()
    mel = librosa.power_to_db(librosa.feature.melspectrogram(S=power, sr=SAMPLE_RATE, n_mels=40), ref=np.max)
    rises = np.maximum(mel[:, 2:] - mel[:, :-2], 0)
    bands = np.stack([band.mean(axis=0) for band in (rises, rises[:5], rises[25:])])
    second = round(SAMPLE_RATE / HOP)
    usual = np.stack([np.convolve(band, np.ones(second) / second, mode="same") for band in bands])
    return np.pad(np.maximum(bands - usual, 0), ((0, 0), (2, 0)))


def _onsets(rises: np.ndarray) -> np.ndarray:
    """Seconds of the peaks of `rises`; what rises by less than FAINT does not begin."""
    strength = rises[0].astype(np.float32)
    least = max(FAINT, 0.07 * float(strength.max()))
    find = load_librosa().onset.onset_detect
    return find(onset_envelope=strength, sr=SAMPLE_RATE, hop_length=HOP, normalize=False, delta=least, units="time")


def _chroma(sound: np.ndarray) -> np.ndarray:
    """Pitch classes, (frames, 12): the peaks of a constant-Q spectrum in the sound's own tuning.

    Between the peaks lies what has no pitch; the root keeps loud notes from drowning the others.
    """
    librosa = load_librosa()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Trying to estimate tuning from empty frequency set")
        tuning = librosa.estimate_tuning(y=sound, sr=SAMPLE_RATE)
    steps = np.abs(librosa.cqt(sound, sr=SAMPLE_RATE, hop_length=4 * HOP, tuning=tuning))
    around = np.pad(steps, ((1, 1), (0, 0)))
    peaks = np.where((steps >= around[:-2]) & (steps >= around[2:]), steps, 0)
    return np.sqrt(peaks).reshape(7, 12, -1).sum(axis=0).T


def _dynamic_range(sound: np.ndarray) -> float:
    """dB between the soft and the loud stretches of three seconds, the silent ones left out."""
    step = min(3 * SAMPLE_RATE, len(sound))
    power = np.square(sound[: len(sound) // step * step]).reshape(-1, step).mean(axis=1)
    levels = 10 * np.log10(power[power > SILENCE**2])
    return float(np.subtract(*np.percentile(levels, [95, 10]))) if len(levels) else 0.0


def _flatness(power: np.ndarray) -> float:
    """Geometric over arithmetic mean of the spectrum up to 5 kHz, averaged over frames by their power.

    Higher up there may be nothing, where the file was made at a lower sample rate or by a codec that saves there.
    """
    power = power[5 : len(power) * 5000 * 2 // SAMPLE_RATE] + 1e-10
    return float(np.average(np.exp(np.log(power).mean(axis=0)) / power.mean(axis=0), weights=power.sum(axis=0)))


def _percussive(spectrum: np.ndarray) -> float:
    """The share of the power up to 5.5 kHz that median filters over frequency keep, against those over time.

    D. FitzGerald, "Harmonic/Percussive Separation Using Median Filtering" (DAFx 2010).
    """
    held, struck = load_librosa().decompose.hpss(spectrum[: len(spectrum) // 2, ::2], kernel_size=(9, 17))
    return float((struck**2).sum() / max(float((held**2).sum() + (struck**2).sum()), 1e-12))
