"""Codecs: sound as latents, a few dozen numbers 10 to 25 times a second, and latents as sound again.

    codec = open_codec("my-codec")                 a folder made by `woodshed audio codec train`, or one of diffusers
    latents = codec.encode(audio)                  (frames, latent_dim) float32, each dimension with mean 0 and spread 1
    audio = codec.decode(latents)
    latents = encode_file("concert.flac", codec)   a recording of any length, as loud as all others

One file here is one kind of codec. It has `recognises(place) -> bool`, `load(place, *, fetch) -> Codec` and, for
codec_train.py, `begin(settings) -> Codec`: one that has `device`, `about` (what goes into codec.json), `start_from` and
`standardise` too, and a `network` with its `loss`, or None where nothing but the spread of latents is to be learned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from ... import menu
from ...errors import InputError, RunError
from ...files import quoted
from ..wave import Audio, listen, stream

FACTS, WEIGHTS = "codec.json", "model.safetensors"
LOUDNESS = -18.0  # LUFS: every recording is brought to it before anything learns from it
CONTEXT = 2.0  # seconds on both sides of a stretch that may have a say in its latents


class Codec(Protocol):
    """What every codec has.

    `encode` answers ceil(samples / hop_length) frames; `decode` of n frames answers n * hop_length samples. Latents are
    standardised: each dimension has mean 0 and standard deviation 1 over the music that the codec has learned from.
    """

    kind: str
    """Name of the module here."""
    sample_rate: int
    channels: int
    hop_length: int
    """Samples to one latent frame."""
    latent_rate: float
    """Latent frames to a second: sample_rate / hop_length."""
    latent_dim: int
    fingerprint: str
    """Equal for equal weights and settings: latents of one fingerprint are no use to another codec."""

    def encode(self, audio: Audio) -> np.ndarray:
        """(frames, latent_dim) float32. Audio of another sample rate or number of channels is converted."""

    def decode(self, latents: np.ndarray) -> Audio:
        """The sound of latents (frames, latent_dim), at the codec's rate and channels; the caller may change it."""

    def to(self, device: str) -> None:
        """Encode and decode on another device."""

    def save(self, folder: Path) -> None:
        """Write what open_codec needs into a folder, FACTS last."""


def open_codec(place: str | Path, *, fetch: bool = True) -> Codec:
    """The codec in a folder, or by an id of Hugging Face, which is downloaded where it must be and `fetch` allows it:
    for a place that the user names, not for one that is found in a run. Raises RunError where no kind of codec
    recognises it."""
    kinds = menu.names(__name__)
    for name in kinds:
        module = menu.load(__name__, name, "codec")
        if module.recognises(str(place)):
            return module.load(str(place), fetch=fetch)
    known = f"it is no codec of these kinds: {', '.join(kinds)}"
    raise RunError(place, f"{known}; make one with: woodshed audio codec train FOLDER --out {quoted(place)}")


def fingerprint(*parts: bytes | str) -> str:
    """Sixteen hexadecimal digits that stand for settings and weights."""
    digest = hashlib.sha256()
    for part in parts:
        # names of files may hold bytes that are no text
        digest.update(part.encode("utf-8", "backslashreplace") if isinstance(part, str) else part)
    return digest.hexdigest()[:16]


def whole_frames(audio: Audio, codec: Codec) -> np.ndarray:
    """Audio as a codec hears it: (channels, samples) at its sample rate, filled up with silence to whole frames."""
    samples = audio.with_channels(codec.channels).resampled(codec.sample_rate).samples.T
    return np.pad(samples, ((0, 0), (0, -samples.shape[1] % codec.hop_length)))


def fitting(latents: np.ndarray, codec: Codec) -> np.ndarray:
    """Latents (frames, latent_dim) as float32. Raises InputError for those of another width."""
    latents = np.asarray(latents, np.float32)
    if latents.ndim != 2 or latents.shape[1] != codec.latent_dim:
        raise InputError(f"latents of shape {latents.shape}: this codec takes (frames, {codec.latent_dim})")
    return latents


def gain(loudness: float) -> float:
    """The factor that brings a sound of so many LUFS to LOUDNESS; 0 for silence."""
    return 10 ** ((LOUDNESS - loudness) / 20) if np.isfinite(loudness) else 0.0


def levelled_stream(path: str | Path, codec: Codec, *, loudness: float | None = None) -> Iterator[Audio]:
    """A recording piece by piece as the codec hears it: its sample rate and channels, at LOUDNESS.

    `loudness` is that of the recording with these channels, in LUFS, where it has been measured already.
    """
    factor = np.float32(gain(listen(path, codec.channels).loudness if loudness is None else loudness))
    for piece in stream(path, sample_rate=codec.sample_rate, channels=codec.channels):
        yield Audio(piece.samples * factor, piece.sample_rate)


def encode_file(path: str | Path, codec: Codec, *, loudness: float | None = None, mirror: bool = False) -> np.ndarray:
    """The latents (frames, latent_dim) of a whole recording at LOUDNESS, read and encoded piece by piece; with `mirror`
    those of its stereo image from the other side. `loudness` as in levelled_stream()."""
    pieces = levelled_stream(path, codec, loudness=loudness)
    if mirror:
        pieces = (Audio(piece.samples[:, ::-1], piece.sample_rate) for piece in pieces)
    return np.concatenate([*encode_stream(pieces, codec)])


def encode_stream(pieces: Iterator[Audio], codec: Codec) -> Iterator[np.ndarray]:
    """Latents of one sound that comes in pieces, as if it were encoded at once: every stretch is encoded with CONTEXT
    seconds of what stands on both sides, whose latents are then left out.
    """
    margin = -int(-CONTEXT * codec.latent_rate // 1)  # frames
    held, skip = np.zeros((0, codec.channels), np.float32), 0
    for piece in pieces:
        held = np.concatenate([held, piece.samples])
        frames = len(held) // codec.hop_length - margin  # what has all of its right-hand context
        if frames > skip:
            latents = codec.encode(Audio(held, codec.sample_rate))
            yield latents[skip:frames]
            drop = max(frames - margin, 0)
            held, skip = held[drop * codec.hop_length :], frames - drop
    if len(held):
        yield codec.encode(Audio(held, codec.sample_rate))[skip:]
