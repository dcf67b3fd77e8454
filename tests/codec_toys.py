"""Tiny codecs, one of each kind, and recordings to learn them from."""

import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from sounds import song

from woodshed.audio import codec_train
from woodshed.audio.codec_train import train_codec
from woodshed.audio.wave import write_audio

TINY = dict(sample_rate=16000, latent_rate=15.6, latent_dim=24, side_dim=4, width=16)
TINY |= dict(batch_size=2, seconds=0.6, threads=1, device="cpu")


@contextmanager
def in_a_hurry():
    """The spread of latents, and what validation says, from four crops each is enough here; and no pictures, which take
    longer than the steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec_train, "VALIDATION", 4)
        patch.setattr(codec_train, "draw_loss", lambda log, picture, measure: None)
        patch.setattr(codec_train, "FIRST", 4)
        patch.setattr(codec_train, "LONG", 3.0)
        yield


@pytest.fixture(scope="module", autouse=True)
def hurrying():
    with in_a_hurry():
        yield


@pytest.fixture(scope="session")
def recordings(tmp_path_factory) -> Path:
    """Six songs of six seconds."""
    folder = tmp_path_factory.mktemp("recordings")
    for seed in range(6):
        write_audio(folder / f"{seed}.flac", song(seed, seconds=6.0, bpm=90 + 10 * seed))
    return folder


@pytest.fixture(scope="session")
def trained(recordings, tmp_path_factory) -> Path:
    """A codec of four steps; to be looked at, not to be changed."""
    out = tmp_path_factory.mktemp("codec") / "own"
    with in_a_hurry():
        train_codec(recordings, out, **TINY, max_steps=4, eval_steps=2)
    return out


@pytest.fixture(scope="session")
def foreign(tmp_path_factory) -> Path:
    """A tiny random Oobleck in the folder of a pipeline."""
    from diffusers import AutoencoderOobleck

    torch.manual_seed(0)
    sizes = dict(encoder_hidden_size=12, decoder_channels=8, decoder_input_channels=6, audio_channels=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # diffusers uses the old weight_norm
        model = AutoencoderOobleck(
            **sizes, downsampling_ratios=[2, 4, 8], channel_multiples=[1, 2, 2], sampling_rate=1600
        )
    folder = tmp_path_factory.mktemp("pipeline")
    model.save_pretrained(folder / "vae")
    return folder
