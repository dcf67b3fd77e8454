"""What a step learns: crops of songs, timesteps and noise, each batch a pure function of the seed and its number.

So a run that goes on draws what an uninterrupted one would have drawn, and no random state has to be kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePath

import numpy as np
import torch

from . import timesteps
from .settings import TrainSettings
from .tensors import Prepared, Tensors

EVALUATED = 8  # timesteps, and as many crops, of every song that is measured
SHORTEST = 2  # frames: the transformer looks at two at a time


@dataclass(frozen=True)
class Batch:
    """Some crops of equal length, with all that the transformer needs to learn from them."""

    music: torch.Tensor
    """(batch, frames, dims), float32"""
    noise: torch.Tensor
    """the same shape"""
    t: torch.Tensor
    """(batch,): 1 is noise, 0 music"""
    condition: torch.Tensor
    """(batch, tokens, width)"""
    mask: torch.Tensor | None
    """(batch, tokens), False where a condition is padding; None where none is"""
    context: torch.Tensor
    """(batch, frames, 2 dims)"""

    def to(self, device: str) -> Batch:
        moved = {name: value.to(device) for name, value in vars(self).items() if value is not None}
        return replace(self, **moved)


class Batches:
    """Training batches 0, 1, 2, ... over some songs of a folder of tensors, in another order every epoch."""

    def __init__(self, tensors: Tensors, songs: list[int], settings: TrainSettings, law: tuple[float, float]):
        self.tensors, self.songs, self.settings, self.law = tensors, songs, settings, law

    def __getitem__(self, number: int) -> Batch:
        settings = self.settings
        generator = torch.Generator().manual_seed(seed_of(settings.seed, number))
        first = number * settings.batch_size
        songs = [self._song(draw) for draw in range(first, first + settings.batch_size)]
        crops = self._crops(songs, generator)
        batch = assemble(self.tensors, crops, self._timesteps(len(songs), generator), generator)
        return self._without_condition(batch, generator)

    def _song(self, draw: int) -> int:
        epoch, place = divmod(draw, len(self.songs))
        return self.songs[np.random.default_rng([self.settings.seed, epoch]).permutation(len(self.songs))[place]]

    def _crops(self, songs: list[int], generator: torch.Generator) -> list[tuple[int, int, int]]:
        """Song, first frame and frames of each crop; as long as the shortest song allows, so that none has padding."""
        frames = [self.tensors.samples[song].frames for song in songs]
        length = crop_frames(self.tensors, self.settings, min(frames))
        spare = [total - length + 1 for total in frames]
        starts = [int(torch.randint(more, (1,), generator=generator)) for more in spare]
        return [(song, start, length) for song, start in zip(songs, starts, strict=True)]

    def _timesteps(self, count: int, generator: torch.Generator) -> torch.Tensor:
        if self.settings.timesteps == "turbo":
            return timesteps.turbo(count, generator)
        mean, deviation = self.law
        uniform = self.settings.uniform_share
        return timesteps.corrected(count, generator, mean=mean, deviation=deviation, uniform=uniform)

    def _without_condition(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Some of the prompts exchanged for the base's "no prompt"."""
        dropped = torch.rand(len(batch.t), generator=generator) < self.settings.condition_dropout
        nothing = self.tensors.shared["null_condition"].to(batch.condition.dtype)
        return replace(batch, condition=torch.where(dropped[:, None, None], nothing, batch.condition))


def evaluation(tensors: Tensors, song: int, settings: TrainSettings) -> list[Batch]:
    """A song at eight timesteps and in eight crops over its length, always with the same noise."""
    frames = tensors.samples[song].frames
    length = crop_frames(tensors, settings, frames)
    batches = []
    for k in range(EVALUATED):
        generator = torch.Generator().manual_seed(seed_of(song, k))
        start = (frames - length) * k // (EVALUATED - 1)
        t = torch.tensor([(k + 0.5) / EVALUATED])
        batches.append(assemble(tensors, [(song, start, length)], t, generator))
    return batches


def assemble(tensors: Tensors, crops: list[tuple[int, int, int]], t: torch.Tensor, generator: torch.Generator) -> Batch:
    """A batch of crops (song, first frame, frames), conditions padded to the longest."""
    music = torch.stack([tensors.latents(*crop) for crop in crops])
    conditions = [tensors.condition(song) for song, _, _ in crops]
    mask = None
    if len({len(condition) for condition in conditions}) > 1:
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(c), dtype=torch.bool) for c in conditions], True)
    noise = torch.randn(music.shape, generator=generator)
    padded = torch.nn.utils.rnn.pad_sequence(conditions, batch_first=True)
    context = tensors.context(music.shape[1]).expand(len(crops), -1, -1)
    return Batch(music, noise, t, padded, mask, context)


def crop_frames(tensors: Tensors, settings: TrainSettings, frames: int) -> int:
    """Frames of a crop of a song that has so many: an even number, since the transformer looks at two at a time."""
    asked = round(settings.crop_seconds * tensors.frames_per_second)
    return max(min(asked, frames) if asked else frames, SHORTEST) // SHORTEST * SHORTEST


def split(tensors: Tensors, settings: TrainSettings) -> tuple[list[int], list[int]]:
    """The songs that are learned and those that are only measured, drawn by the seed; versions of one stay together."""
    songs = np.random.default_rng([settings.seed, len(tensors)]).permutation(len(tensors)).tolist()
    count = max(1, round(settings.validation * len(songs))) if settings.validation and len(songs) >= 4 else 0
    measured: set[int] = set()
    for song in songs:
        if len(measured) < count:
            measured |= _versions(tensors, song)
    learned = set(songs) - measured
    return (sorted(learned), sorted(measured)) if learned else (sorted(songs), [])


def _versions(tensors: Tensors, song: int) -> set[int]:
    """A song, its copies, and the same in other formats."""
    found = {song}
    while more := {
        other
        for other in range(len(tensors))
        if other not in found and any(_same(tensors.samples[one], tensors.samples[other]) for one in found)
    }:
        found |= more
    return found


def _same(one: Prepared, other: Prepared) -> bool:
    """Whether two samples are of one recording: equal bytes, or one name in two formats, as long within half a second.
    In one format every song may be a master.wav, and all long ones are cut to one length."""
    first, second = (PurePath(sample.name.casefold()) for sample in (one, other))
    named = first.stem == second.stem and first.suffix != second.suffix and abs(one.seconds - other.seconds) < 0.5
    return named or (bool(one.digest) and one.digest == other.digest)


def seed_of(*numbers: int) -> int:
    """One seed from several numbers, well mixed."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
