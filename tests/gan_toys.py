"""A codec so small that a run of the latent GAN takes a second; recordings, and a run that has learned from them."""

import json
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from sounds import songs_folder

from woodshed.audio import listener, wave
from woodshed.audio.gan import train as training
from woodshed.audio.gan.train import train
from woodshed.audio.wave import Audio

TINY = {"base_channels": 4, "window": 16, "batch_size": 4, "learning_rate": 1e-3, "threads": 1, "samples": 2}
TINY |= {"max_steps": 12, "save_steps": 4, "hold_out": 0.2}


class Toy:
    """A codec: magnitudes of blocks, each channel's through a fixed orthogonal projection to eight numbers."""

    kind, sample_rate, hop_length, latent_rate = "toy", 8000, 400, 20.0

    def __init__(self, channels=1, seed=0):
        self.channels, self.latent_dim, self.fingerprint = channels, 8 * channels, f"toy-{channels}-{seed}"
        self.basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((201, 8)))[0].T.astype(np.float32)

    def encode(self, audio):
        samples = audio.with_channels(self.channels).resampled(self.sample_rate).samples
        blocks = np.pad(samples, ((0, -len(samples) % 400), (0, 0))).reshape(-1, 400, self.channels)
        return (np.abs(np.fft.rfft(blocks, axis=1)).transpose(0, 2, 1) @ self.basis.T).reshape(len(blocks), -1) / 3

    def decode(self, latents):
        magnitudes = 3 * latents.reshape(len(latents), self.channels, 8) @ self.basis
        blocks = np.fft.irfft(magnitudes, axis=2).transpose(0, 2, 1)
        return Audio(blocks.reshape(-1, self.channels).astype(np.float32), self.sample_rate)

    def to(self, device):
        pass

    def save(self, folder):
        (folder / "toy").touch()  # open_codec knows no toys: the tests give it themselves


TOY = Toy()


@pytest.fixture(scope="session")
def recordings(tmp_path_factory) -> Path:
    """Six songs of six seconds."""
    sizes = {"seconds": 6.0, "sample_rate": 8000, "channels": 1}
    return songs_folder(tmp_path_factory.mktemp("recordings"), 6, labelled=False, **sizes)


@contextmanager
def unpainted():
    """No pictures in the block: they take longer than the steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "spectrograms", lambda sounds: b"")
        patch.setattr(training, "draw_progress", lambda log, picture, real: None)
        yield


@pytest.fixture(autouse=True)
def without_pictures():
    with unpainted():
        yield


@pytest.fixture(scope="session")
def trained(recordings, tmp_path_factory):
    """A run of twelve steps on the recordings; to be looked at, not to be changed."""
    with unpainted():
        return train(recordings, tmp_path_factory.mktemp("trained") / "run", codec=TOY, **TINY)


@pytest.fixture
def reads(monkeypatch) -> Counter:
    """How often each file is read from here on, as sound or for its digest."""
    counted: Counter = Counter()
    for module, name in ((wave, "_opened"), (listener, "digest_of")):
        real = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda path, *how, real=real: counted.update([Path(path)]) or real(path, *how)
        )
    return counted


def events(folder: Path) -> list[dict]:
    """What happened in a run, by its log."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "event" in line]
