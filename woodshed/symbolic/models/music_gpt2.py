"""Music GPT-2: GPT-2's layers (norms first, GELU, biases, tied embedding) with relative attention instead of positions.

After https://github.com/scpark20/Music-GPT-2, whose model is the largest here: 2,000 long, distances as far as that.
"""

from __future__ import annotations

from huggingface_hub.dataclasses import strict

from ._relative import RelativeConfig, RelativeForCausalLM, configured

# hidden_size, num_hidden_layers, num_attention_heads; the last is the published one. Named after their parameters at a
# vocabulary of about 650 ids and rows of 1,024.
SIZES = {"2m": (192, 3, 6), "6m": (256, 6, 8), "30m": (512, 8, 16)}


@strict
class MusicGPT2Config(RelativeConfig):
    model_type = "woodshed_music_gpt2"
    hidden_act: str = "gelu_new"
    use_bias: bool = True


class MusicGPT2ForCausalLM(RelativeForCausalLM):
    config_class = MusicGPT2Config


MODEL = MusicGPT2ForCausalLM


def make_config(size: str, vocab_size: int, *, max_seq_len: int, **overrides) -> MusicGPT2Config:
    """The configuration of a size in SIZES. `overrides` are fields of MusicGPT2Config; a `max_relative_distance` longer
    than the context is an InputError."""
    width, depth, heads = SIZES[size]
    longest = overrides.get("max_position_embeddings", max_seq_len)
    settings = {
        "vocab_size": vocab_size,
        "hidden_size": width,
        "num_hidden_layers": depth,
        "intermediate_size": 4 * overrides.get("hidden_size", width),
        "num_attention_heads": heads,
        "max_position_embeddings": longest,
        "max_relative_distance": longest,
    }
    return configured(MusicGPT2Config, settings | overrides)
