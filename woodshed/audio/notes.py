"""The notes that are heard in sound, by the model inside the package basic-pitch, and how well two sets of them agree.

R. Bittner et al., "A Lightweight Instrument-Agnostic Model for Polyphonic Note Transcription", ICASSP 2022: how sure it
is in each frame that a key is struck, and that it sounds. strikes.py makes notes of it, with spectra beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..errors import MissingExtra
from .strikes import KEYS, LOWEST, SILENCE, Frames, notes_of
from .wave import BLOCK, Audio

SAMPLE_RATE, HOP = 22050, 256  # what the model hears
OUTPUTS = ("StatefulPartitionedCall:2", "StatefulPartitionedCall:1")  # its onsets and notes
WINDOW, EDGE = 43844, 15  # its samples; frames on each side that lack their context
STEP = 141  # frames of each window that count: the next begins where these end
SPECTRUM = 2048  # samples
BRIGHT = 1500  # Hz
TOLERANCE = 0.05  # seconds between onsets that are the same


def available() -> bool:
    """Whether transcribe() can be used here."""
    return find_spec("basic_pitch") is not None and find_spec("onnxruntime") is not None


def missing() -> MissingExtra:
    """The error where it cannot."""
    line = "pip install onnxruntime && pip install --no-deps basic-pitch"
    return MissingExtra("basic-pitch, which finds notes,", line=line)


def transcribe(audio: Audio) -> np.ndarray:
    """The notes in a sound, as hear() tells them. Raises MissingExtra."""
    sound = audio.with_channels(1).resampled(SAMPLE_RATE)
    return hear(sound.cut(start, start + BLOCK) for start in np.arange(0, sound.seconds, BLOCK))


def hear(pieces: Iterable[Audio]) -> np.ndarray:
    """The notes in a sound of SAMPLE_RATE and one channel that comes piece by piece: strikes.HEARD, in seconds, sorted.

    Raises MissingExtra.
    """
    found = notes_of(_frames(piece.samples[:, 0] for piece in pieces))
    for name in ("onset", "end"):
        found[name] *= HOP / SAMPLE_RATE
    return found


def _frames(pieces: Iterable[np.ndarray]) -> Iterator[Frames]:
    """What is heard in each frame of a sound, in as many windows at once as a piece fills."""
    held = np.zeros(EDGE * HOP, np.float32)
    for piece in chain(pieces, [np.zeros(WINDOW, np.float32)]):
        held = np.concatenate([held, piece])
        if len(held) >= WINDOW:
            windows = sliding_window_view(held, WINDOW)[:: STEP * HOP]
            yield Frames(*_activations(windows), *_levels(held, STEP * len(windows)))
            held = held[STEP * HOP * len(windows) :]


def _activations(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Onsets and notes, (frames, KEYS), of (windows, WINDOW) samples that stand STEP frames apart."""
    session = _session()
    batch = np.ascontiguousarray(windows, np.float32)[:, :, None]
    outputs = session.run(OUTPUTS, {session.get_inputs()[0].name: batch})
    onset, note = (output[:, EDGE : EDGE + STEP].reshape(-1, KEYS) for output in outputs)
    return onset, note


def _levels(sound: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The fundamentals of all keys and the treble in dB, in `count` frames after the first EDGE."""
    first = EDGE * HOP - SPECTRUM // 2
    windows = sliding_window_view(sound, SPECTRUM)[first::HOP][:count]
    shape = np.hanning(SPECTRUM).astype(np.float32)
    power = np.abs(np.fft.rfft(windows * shape * (2 / shape.sum()))).astype(np.float32) ** 2
    return _decibels(power @ _fundamentals()), _decibels(power[:, _bins() > BRIGHT].sum(axis=1, keepdims=True))


def _decibels(power: np.ndarray) -> np.ndarray:
    return 10 * np.log10(np.maximum(power, 10 ** (SILENCE / 10)))


def _bins() -> np.ndarray:
    return np.fft.rfftfreq(SPECTRUM, 1 / SAMPLE_RATE)


@cache
def _fundamentals() -> np.ndarray:
    """Which bins are a key's, (bins, KEYS): those within a quarter tone, or else the two nearest."""
    hertz = 440 * 2 ** ((np.arange(KEYS) + LOWEST - 69) / 12)
    away = np.abs(12 * np.log2(np.maximum(_bins(), 1)[:, None] / hertz))
    nearest = np.sort(np.abs(_bins()[:, None] - hertz), axis=0)[1]
    within = away <= 0.5
    few = within.sum(axis=0) < 2
    within[:, few] = (np.abs(_bins()[:, None] - hertz) <= nearest)[:, few]
    return within.astype(np.float32)


@cache
def _session():
    """The model, loaded once, without importing basic_pitch, which would import TensorFlow where there is one."""
    if not available():
        raise missing()
    import onnxruntime

    folder = Path(find_spec("basic_pitch").submodule_search_locations[0])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = folder / "saved_models" / "icassp_2022" / "nmp.onnx"
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def onset_score(found: np.ndarray, true: np.ndarray, *, tolerance: float = TOLERANCE) -> dict[str, float]:
    """Precision, recall and F1 of onsets: (n,) seconds, or (n, 2) seconds and pitch, which must then be equal; HEARD is
    such, too.

    Each is matched once, to one not more than `tolerance` seconds away. F1 is 1 where both are empty.
    """
    found, true = (_with_pitch(onsets) for onsets in (found, true))
    matched = sum(
        _matches(found[found[:, 1] == pitch, 0], true[true[:, 1] == pitch, 0], tolerance)
        for pitch in np.unique(true[:, 1])
    )
    if not len(found) and not len(true):
        return {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    return {
        "precision": matched / max(len(found), 1),
        "recall": matched / max(len(true), 1),
        "f1": 2 * matched / (len(found) + len(true)),
    }


def _with_pitch(onsets: np.ndarray) -> np.ndarray:
    if np.asarray(onsets).dtype.names:
        return np.column_stack([onsets["onset"], onsets["pitch"]])
    onsets = np.asarray(onsets, float)
    return np.column_stack([onsets, np.zeros(len(onsets))]) if onsets.ndim == 1 else onsets.reshape(-1, 2)


def _matches(one: np.ndarray, other: np.ndarray, tolerance: float) -> int:
    """How many pairs can be made: on a line, taking the earliest that fits is best."""
    one, other = np.sort(one), np.sort(other)
    matched = first = 0
    for time in one:
        while first < len(other) and other[first] < time - tolerance:
            first += 1
        if first < len(other) and other[first] <= time + tolerance:
            matched, first = matched + 1, first + 1
    return matched
