"""A tiny ACE-Step 1.5: all parts of the pipeline, with random weights, in the folder layout of diffusers."""

import math
import warnings
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

SAMPLE_RATE, CHANNELS, RATIOS = 16000, 2, (4, 4, 4, 10)  # 640 samples a frame: 25 frames a second, as in the real one
LATENTS, WIDTH, TEXT_WIDTH = 8, 32, 16
ATTENTION = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}
WORDS = ["# Instruction Fill the audio semantic mask based on the given conditions:", "# Caption # Metas", "- bpm: 120"]


def make_pipeline(folder: Path, seed: int = 0, *, turbo: bool = True) -> Path:
    """Write a tiny pipeline with random weights, which AceStepPipeline.from_pretrained opens; answers its folder.

    `turbo`: 8 steps without guidance; else a base model, which takes guidance.
    """
    from diffusers import AceStepPipeline, FlowMatchEulerDiscreteScheduler

    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*weight_norm", FutureWarning)  # by the codec of diffusers
        torch.manual_seed(seed)
        vae, tokenizer = _vae(), _tokenizer()
        pipeline = AceStepPipeline(
            vae=vae,
            tokenizer=tokenizer,
            text_encoder=_text_encoder(len(tokenizer)),
            condition_encoder=_condition_encoder(vae),
            transformer=_transformer(turbo),
            scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1, shift=1.0),
            **_audio_tokens(),
        )
        pipeline.save_pretrained(folder)
    return Path(folder)


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    """The folder of a tiny turbo pipeline. What is so small is slower with two threads."""
    torch.set_num_threads(1)
    return make_pipeline(tmp_path_factory.mktemp("ace") / "base")


@pytest.fixture(scope="session")
def guided_base(tmp_path_factory) -> Path:
    """The folder of a tiny pipeline that takes guidance, with other weights than `base`."""
    return make_pipeline(tmp_path_factory.mktemp("ace") / "guided", 1, turbo=False)


def blank(config: dict, settings):
    """A transformer with its adapter but without values, on the meta device: to be counted. {} is the 1.6 B one."""
    from diffusers import AceStepTransformer1DModel

    from woodshed.audio.ace.tuning import adapter_config, add_adapter

    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        transformer = AceStepTransformer1DModel(**config)
        add_adapter(transformer, adapter_config(settings, ""), 0)
    return transformer


def make_dataset(folder: Path, count: int = 5, seconds: float = 3.0, **metadata) -> Path:
    """A dataset file over made-up recordings with captions, every other one sung."""
    from sounds import songs_folder

    from woodshed.audio.labels.dataset import Dataset, Metadata, Sample

    songs_folder(folder, count, seconds=seconds, labelled=False)
    samples = [Sample(audio_path=f"song {k}.wav", caption=f"plucked strings {k}", bpm=90 + k) for k in range(count)]
    for k, sample in enumerate(samples):
        sample.labeled, sample.genre, sample.keyscale, sample.timesignature = True, "folk", "A minor", "4"
        if k % 2:
            sample.lyrics, sample.is_instrumental, sample.language = "[Verse 1]\nla la la" + " la" * k, False, "en"
    Dataset(folder, Metadata("toy", custom_tag="mystyle", **metadata), samples).save(folder / "dataset.json")
    return folder / "dataset.json"


@pytest.fixture(scope="session")
def dataset(tmp_path_factory) -> Path:
    """The file of a dataset of five recordings of three seconds."""
    return make_dataset(tmp_path_factory.mktemp("recordings"))


@contextmanager
def without_collection():
    """Nothing is collected in the block: with all that diffusers has loaded, that takes longer than all else here."""
    with pytest.MonkeyPatch.context() as patch:
        for module in ("prepare", "train"):
            patch.setattr(f"woodshed.audio.ace.{module}.gc", SimpleNamespace(collect=lambda: None))
        yield


@pytest.fixture(autouse=True)
def uncollected():
    with without_collection():
        yield


@pytest.fixture(scope="session")
def tensors(base, dataset, tmp_path_factory):
    """The same, as tensors."""
    from woodshed.audio.ace.prepare import prepare

    with without_collection():
        return prepare(dataset, base, tmp_path_factory.mktemp("tensors") / "tensors")


def _vae():
    """A codec whose latents have a deviation of one or so, and little noise of their own, like the real one's."""
    from diffusers import AutoencoderOobleck

    vae = AutoencoderOobleck(
        encoder_hidden_size=2 * LATENTS,
        downsampling_ratios=list(RATIOS),
        channel_multiples=[1, 1, 2, 2],
        decoder_channels=8,
        decoder_input_channels=LATENTS,
        audio_channels=CHANNELS,
        sampling_rate=SAMPLE_RATE,
    ).eval()
    last = vae.encoder.conv2
    last.bias[LATENTS:] = -6.0
    last.weight_g[LATENTS:] = 0.01
    heard = vae.encode(0.1 * torch.randn(1, CHANNELS, SAMPLE_RATE)).latent_dist.mean
    last.weight_g[:LATENTS] /= heard.std()
    last.bias[:LATENTS] = 0.0
    return vae


def _tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokens = Tokenizer(models.BPE())
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokens.decoder = decoders.ByteLevel()
    every_byte = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<|endoftext|>"], initial_alphabet=every_byte, show_progress=False
    )
    tokens.train_from_iterator(WORDS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token="<|endoftext|>", pad_token="<|endoftext|>")


def _text_encoder(vocab_size: int):
    from transformers import Qwen3Config, Qwen3Model

    sizes = {"hidden_size": TEXT_WIDTH, "intermediate_size": 32, "num_hidden_layers": 1}
    return Qwen3Model(Qwen3Config(vocab_size=vocab_size, max_position_embeddings=4096, **sizes, **ATTENTION)).eval()


def _condition_encoder(vae):
    from diffusers.pipelines.ace_step import AceStepConditionEncoder

    encoder = AceStepConditionEncoder(
        hidden_size=WIDTH,
        intermediate_size=64,
        text_hidden_dim=TEXT_WIDTH,
        timbre_hidden_dim=LATENTS,
        num_lyric_encoder_hidden_layers=1,
        num_timbre_encoder_hidden_layers=1,
        sliding_window=16,
        **ATTENTION,
    ).eval()
    silence = vae.encode(torch.zeros(1, CHANNELS, 4 * SAMPLE_RATE)).latent_dist.mean.transpose(1, 2)
    frames = encoder.silence_latent.shape[1]
    encoder.silence_latent.copy_(silence.repeat(1, math.ceil(frames / silence.shape[1]), 1)[:, :frames])
    return encoder


def _transformer(turbo: bool):
    from diffusers import AceStepTransformer1DModel

    return AceStepTransformer1DModel(
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        in_channels=3 * LATENTS,
        audio_acoustic_hidden_dim=LATENTS,
        sliding_window=16,
        is_turbo=turbo,
        **ATTENTION,
    ).eval()


def _audio_tokens() -> dict:
    """What covers need: latents as tokens of 5 Hz, and back."""
    from diffusers.pipelines.ace_step import AceStepAudioTokenDetokenizer, AceStepAudioTokenizer

    sizes = {"hidden_size": WIDTH, "intermediate_size": 64, "audio_acoustic_hidden_dim": LATENTS}
    sizes |= {"num_attention_pooler_hidden_layers": 1, "sliding_window": 16} | ATTENTION
    levels = {"fsq_dim": WIDTH, "fsq_input_levels": [5, 5, 5]}
    return {
        "audio_tokenizer": AceStepAudioTokenizer(**sizes, **levels).eval(),
        "audio_token_detokenizer": AceStepAudioTokenDetokenizer(**sizes).eval(),
    }
