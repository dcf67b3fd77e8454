"""Music Transformer: relative attention beside sinusoids, ReLU, an output layer of its own.

Huang et al. 2018, https://arxiv.org/abs/1809.04281; what the paper leaves open is as in Magenta's `score2perf`: norms
before the layers, no biases in the attention, distances up to half the context.
"""

from __future__ import annotations

from huggingface_hub.dataclasses import strict

from ._relative import RelativeConfig, RelativeForCausalLM, configured

# hidden_size, num_hidden_layers, intermediate_size, num_attention_heads; the last is the published one. Named after
# their parameters at a vocabulary of about 650 ids and rows of 1,024.
SIZES = {"2m": (192, 4, 512, 4), "6m": (256, 6, 1024, 8), "15m": (512, 6, 1024, 8)}


@strict
class MusicTransformerConfig(RelativeConfig):
    model_type = "woodshed_music_transformer"
    sinusoids: bool = True
    tie_word_embeddings: bool = False


class MusicTransformerForCausalLM(RelativeForCausalLM):
    config_class = MusicTransformerConfig


MODEL = MusicTransformerForCausalLM


def make_config(size: str, vocab_size: int, *, max_seq_len: int, **overrides) -> MusicTransformerConfig:
    """The configuration of a size in SIZES. `overrides` are fields of MusicTransformerConfig; a
    `max_relative_distance` longer than the context is an InputError."""
    width, depth, inner, heads = SIZES[size]
    longest = overrides.get("max_position_embeddings", max_seq_len)
    settings = {
        "vocab_size": vocab_size,
        "hidden_size": width,
        "num_hidden_layers": depth,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "max_position_embeddings": longest,
        "max_relative_distance": max(longest // 2, 1),
        "initializer_range": overrides.get("hidden_size", width) ** -0.5,  # embeddings are multiplied by its inverse
    }
    return configured(MusicTransformerConfig, settings | overrides)
