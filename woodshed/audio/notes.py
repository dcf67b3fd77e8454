"""The notes that are heard in sound, by the model inside the package basic-pitch, and how well two sets of them agree.

R. Bittner et al., "A Lightweight Instrument-Agnostic Model for Polyphonic Note Transcription", ICASSP 2022. Onsets and
pitches are good (F1 .84 to .96 on rendered piano); where notes end is not, and is left out.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..errors import MissingExtra, WoodshedError
from .wave import Audio

SAMPLE_RATE, HOP = 22050, 256  # what the model hears
WINDOW, FRAMES, EDGE = 43844, 172, 15  # its samples and frames; frames on each side that lack their context
LOWEST = 21  # MIDI pitch of its first column
ONSET, NOTE = 0.7, 0.3  # what an onset must reach, and on average the note in the SOUNDING frames after it
SOUNDING = 11
BATCH = 16  # windows at once
TOLERANCE = 0.05  # seconds between onsets that are the same


class MissingTranscriber(MissingExtra):
    """basic-pitch or onnxruntime is not installed."""

    def __init__(self):
        line = "pip install onnxruntime && pip install --no-deps basic-pitch"
        WoodshedError.__init__(self, f"notes are found by basic-pitch, which is not installed; it comes with: {line}")


def available() -> bool:
    """Whether transcribe() can be used here."""
    return find_spec("basic_pitch") is not None and find_spec("onnxruntime") is not None


def transcribe(audio: Audio) -> np.ndarray:
    """(notes, 2): onset in seconds and MIDI pitch, sorted. Raises MissingTranscriber."""
    sound = audio.with_channels(1).resampled(SAMPLE_RATE).samples[:, 0]
    step = (FRAMES - 2 * EDGE) * HOP - (FRAMES * HOP - WINDOW)  # the windows tile without a gap
    padded = np.pad(sound, (EDGE * HOP, WINDOW))
    starts = np.arange(0, len(sound) + 1, step)
    windows = np.stack([padded[start : start + WINDOW] for start in starts])[:, :, None]
    outputs = [_session().run(None, {_session().get_inputs()[0].name: part}) for part in _batches(windows)]
    names = [output.name for output in _session().get_outputs()]
    note, onset = (np.concatenate([part[names.index(name)] for part in outputs]) for name in _OUTPUTS)
    return _notes(onset, note, starts / SAMPLE_RATE, step / SAMPLE_RATE)


_OUTPUTS = ("StatefulPartitionedCall:1", "StatefulPartitionedCall:2")  # notes, onsets


@cache
def _session():
    """The model, loaded once, without importing basic_pitch, which would import TensorFlow where there is one."""
    if not available():
        raise MissingTranscriber
    import onnxruntime

    folder = Path(find_spec("basic_pitch").submodule_search_locations[0])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = folder / "saved_models" / "icassp_2022" / "nmp.onnx"
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _batches(windows: np.ndarray) -> list[np.ndarray]:
    return [windows[first : first + BATCH].astype(np.float32) for first in range(0, len(windows), BATCH)]


def _notes(onset: np.ndarray, note: np.ndarray, starts: np.ndarray, step: float) -> np.ndarray:
    """Peaks in time of `onset` (windows, frames, keys) that a sounding `note` follows, as rows of seconds and pitch."""
    before, after = onset[:, EDGE - 1 : -EDGE - 1], onset[:, EDGE + 1 : FRAMES - EDGE + 1]
    here = onset[:, EDGE:-EDGE]
    sums = np.cumsum(np.pad(note, ((0, 0), (1, SOUNDING), (0, 0))), axis=1)
    held = (sums[:, SOUNDING:] - sums[:, :-SOUNDING])[:, EDGE : FRAMES - EDGE] / SOUNDING
    peaks = (here >= ONSET) & (here > before) & (here >= after) & (held >= NOTE)
    window, frame, key = np.nonzero(peaks)
    within = frame * HOP / SAMPLE_RATE
    kept = within < step  # the last frame of a window may stand beyond the first of the next
    found = np.column_stack([starts[window] + within, key + LOWEST])[kept]
    return found[np.lexsort(found.T[::-1])]


def onset_score(found: np.ndarray, true: np.ndarray, *, tolerance: float = TOLERANCE) -> dict[str, float]:
    """Precision, recall and F1 of onsets: (n,) seconds, or (n, 2) seconds and pitch, which must then be equal.

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
