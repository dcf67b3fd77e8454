"""Crops of recordings to learn from, read as they are needed: recordings may be hours long and many.

Every crop is a function of seed and number alone, so that a training that goes on sees what it would have seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import EmptyCorpus, FileError
from ..progress import Progress, Reporter, unheard
from .codecs import gain
from .wave import Audio, Heard, audio_files, listen, read_audio

POOL, FRESH = 24, 4  # stretches in memory; steps after which the oldest makes room for a new one
STRETCH = 20.0  # seconds
ENOUGH = 600.0  # seconds of recordings; less is little to learn from
HELD_OUT = 0.1  # of the recordings, or of each where they are FEW
FEW = 5


@dataclass(frozen=True)
class Stretch:
    """A part of a recording, in seconds, and the factor that makes the recording as loud as all others."""

    path: Path
    start: float
    end: float
    gain: float

    @property
    def seconds(self) -> float:
        return self.end - self.start

    def read(self, start: float, seconds: float, *, sample_rate: int, channels: int) -> Audio:
        """So many seconds from `start` on, counted from the beginning of the stretch; fewer where the stretch ends."""
        seconds = min(seconds, self.seconds - start)
        audio = read_audio(
            self.path, sample_rate=sample_rate, channels=channels, start=self.start + start, seconds=seconds
        )
        return Audio(audio.samples * np.float32(self.gain), sample_rate)


def find(
    folder: str | Path,
    *,
    shortest: float,
    hear: Callable[[Path], Heard] = listen,
    report: Reporter = unheard,
) -> list[Stretch]:
    """The usable recordings of a folder, whole; `hear` listens to them, with the channels that will be read.

    `report` hears a message for each that is left out: unreadable, silent, or less than `shortest` seconds. Raises
    EmptyCorpus where nothing is left.
    """
    found, left_out = [], []
    for path in audio_files(folder):
        try:
            heard = hear(path)
        except FileError as error:
            left_out.append(str(error))
            continue
        silent = not gain(heard.loudness)
        if silent or heard.seconds < shortest:
            left_out.append(f"{path}: {'it is silent' if silent else f'only {heard.seconds:.1f} s long'}")
        else:
            found.append(Stretch(path, 0.0, heard.seconds, gain(heard.loudness)))
    for line in left_out:
        report(Progress(message=f"left out: {line}"))
    if not found:
        raise EmptyCorpus(f"{folder}: no recording to learn from ({len(left_out)} left out); give another folder")
    return found


def split(found: list[Stretch], *, shortest: float, seed: int) -> tuple[list[Stretch], list[Stretch]]:
    """What is learned from, and what is held out: recordings drawn by the seed, or of FEW recordings each one's end."""
    if len(found) > FEW:
        order = np.random.default_rng(seed).permutation(len(found))
        held = set(order[: max(1, round(HELD_OUT * len(found)))].tolist())
        train = [one for number, one in enumerate(found) if number not in held]
        return train, [found[number] for number in sorted(held)]
    cuts = [one.end - max(HELD_OUT * one.seconds, shortest) for one in found]
    pairs = [(one, cut if cut >= shortest else one.end) for one, cut in zip(found, cuts, strict=True)]
    train = [replace(one, end=cut) for one, cut in pairs]
    return train, [replace(one, start=cut) for one, cut in pairs if cut < one.end] or train


class Crops:
    """Random crops of stretches, (batch, channels, samples) float32, for any step."""

    def __init__(self, stretches: list[Stretch], *, samples: int, sample_rate: int, channels: int, seed: int):
        self.stretches, self.samples, self.seed = stretches, samples, seed
        self.how = {"sample_rate": sample_rate, "channels": channels}
        lengths = np.array([one.seconds for one in stretches])
        self.shares = lengths / lengths.sum()
        self.pool: dict[int, np.ndarray] = {}

    def batch(self, step: int, size: int) -> np.ndarray:
        """The crops of a step, from the POOL stretches that are in memory at that step."""
        first = step // FRESH
        self.pool = {number: self._held(number) for number in range(first, first + POOL)}
        rng = np.random.default_rng([self.seed, 1, step])
        return np.stack([self._crop(self.pool[first + rng.integers(POOL)], rng) for _ in range(size)])

    def first(self, count: int) -> np.ndarray:
        """Crops from so many places, to start from and to measure: always the same."""
        rng = np.random.default_rng([self.seed, 2])
        return np.stack([self._crop(self._drawn(rng, 0.0), rng) for _ in range(count)])

    def _held(self, number: int) -> np.ndarray:
        return self.pool[number] if number in self.pool else self._read(number)

    def _read(self, number: int) -> np.ndarray:
        """The stretch of a number, (channels, samples)."""
        return self._drawn(np.random.default_rng([self.seed, 0, number]), STRETCH)

    def _drawn(self, rng: np.random.Generator, seconds: float) -> np.ndarray:
        """So many seconds from somewhere, at least those of a crop, (channels, samples)."""
        chosen = self.stretches[rng.choice(len(self.stretches), p=self.shares)]
        seconds = max(seconds, self.samples / self.how["sample_rate"])
        start = rng.uniform(0, max(chosen.seconds - seconds, 0))
        return chosen.read(start, seconds, **self.how).samples.T

    def _crop(self, sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        start = rng.integers(max(sound.shape[1] - self.samples, 0) + 1)
        crop = sound[:, start : start + self.samples]
        return np.pad(crop, ((0, 0), (0, self.samples - crop.shape[1])), mode="wrap")  # silence would be learned too
