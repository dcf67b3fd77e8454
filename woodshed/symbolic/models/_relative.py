"""A causal transformer with relative attention, from which `music_transformer` and `music_gpt2` are made.

Every layer and head has an embedding for every distance between a query and a key that came before it, up to
`max_relative_distance`; how they are used is in `_attention.py`. Distances do not depend on where a row begins, so
packed rows, left padding and contexts shorter than the longest need nothing more.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import DynamicCache, GenerationMixin, PreTrainedConfig, PreTrainedModel, initialization
from transformers.activations import ACT2FN
from transformers.masking_utils import create_causal_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import CausalLMOutputWithPast

from ...errors import InputError
from ..tokenizers import BOS, EOS, PAD
from ._attention import NAME, attention_for, biased_attention, chunked_attention


@strict
class RelativeConfig(PreTrainedConfig):
    """What the two models have in common; their own defaults stand in their files."""

    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]

    vocab_size: int = 650
    hidden_size: int = 256
    intermediate_size: int = 1024
    num_hidden_layers: int = 6
    num_attention_heads: int = 8
    max_position_embeddings: int = 2048
    max_relative_distance: int = 1024
    hidden_act: str = "relu"
    use_bias: bool = False  # in the attention
    sinusoids: bool = False  # absolute positions beside the relative ones
    dropout: float | int = 0.0  # of embeddings, attention weights and what a layer adds
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    use_cache: bool = True
    tie_word_embeddings: bool = True
    pad_token_id: int | None = PAD
    bos_token_id: int | None = BOS
    eos_token_id: int | list[int] | None = EOS


def configured(kind: type[RelativeConfig], settings: dict) -> RelativeConfig:
    """A configuration with everything checked that transformers does not check. Raises InputError."""
    config = kind(**settings, attn_implementation=attention_for())
    width, heads = config.hidden_size, config.num_attention_heads
    if width % heads or width % 2:
        raise InputError(f"hidden_size {width}: choose an even multiple of num_attention_heads, {heads}")
    longest, distance = config.max_position_embeddings, config.max_relative_distance
    if not 1 <= distance <= longest:
        remedy = "choose less, or a longer --max-seq-len"
        raise InputError(f"max_relative_distance {distance}: the context is {longest} ids; {remedy}")
    return config


class RelativeAttention(nn.Module):
    """Heads whose scores are query * (key + embedding of the distance)."""

    is_causal = True

    def __init__(self, config: RelativeConfig, layer: int):
        super().__init__()
        self.config, self.layer = config, layer
        width = config.hidden_size
        self.head_dim = width // config.num_attention_heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (
            nn.Linear(width, width, bias=config.use_bias) for _ in range(4)
        )
        self.distances = nn.Parameter(
            torch.empty(config.num_attention_heads, config.max_relative_distance, self.head_dim)
        )

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None, cache: DynamicCache | None) -> torch.Tensor:
        shape = (*x.shape[:2], -1, self.head_dim)
        query, key, value = (f(x).view(shape).transpose(1, 2) for f in (self.q_proj, self.k_proj, self.v_proj))
        if cache is not None:
            key, value = cache.update(key, value, self.layer)
        attend = chunked_attention if self.config._attn_implementation == NAME else biased_attention
        dropout = self.config.dropout if self.training else 0.0
        out, _ = attend(self, query, key, value, mask, dropout=dropout, relative=self.distances)
        return self.o_proj(out.reshape(x.shape))


class RelativeLayer(GradientCheckpointingLayer):
    """Attention and two linear layers, each behind a norm and added to what was there."""

    def __init__(self, config: RelativeConfig, layer: int):
        super().__init__()
        width = config.hidden_size
        self.attention_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.attention = RelativeAttention(config, layer)
        self.mlp_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.up_proj = nn.Linear(width, config.intermediate_size)
        self.act = ACT2FN[config.hidden_act]
        self.down_proj = nn.Linear(config.intermediate_size, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None, past_key_values: DynamicCache | None = None):
        x = x + self.dropout(self.attention(self.attention_norm(x), mask, past_key_values))
        return x + self.dropout(self.down_proj(self.dropout(self.act(self.up_proj(self.mlp_norm(x))))))


class RelativeForCausalLM(PreTrainedModel, GenerationMixin):
    """Ids in, logits out."""

    config_class = RelativeConfig
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_attention_backend = True
    _no_split_modules = ("RelativeLayer",)
    _tied_weights_keys: ClassVar[dict[str, str]] = {"lm_head.weight": "embed_tokens.weight"}

    def __init__(self, config: RelativeConfig):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(RelativeLayer(config, layer) for layer in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, RelativeAttention):
            initialization.normal_(module.distances, std=self.config.initializer_range)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: DynamicCache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool = False,
        logits_to_keep: int = 0,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Logits (B, T, vocab_size) of input_ids (B, T), with the loss where `labels` are given.

        `position_ids` that begin anew at 0 say where pieces begin; no piece sees another.
        """
        use_cache = self.config.use_cache if use_cache is None else use_cache
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        if position_ids is None:
            first = past_key_values.get_seq_length() if past_key_values is not None else 0
            position_ids = torch.arange(first, first + x.shape[1], device=x.device)[None]
        seen = {"attention_mask": attention_mask, "past_key_values": past_key_values, "position_ids": position_ids}
        mask = create_causal_mask(config=self.config, inputs_embeds=x, **seen)
        if self.config.sinusoids:
            x = x * math.sqrt(x.shape[2]) + sinusoids(position_ids, x.shape[2]).to(x.dtype)
        x, hidden = self.dropout(x), []
        for layer in self.layers:
            hidden.append(x)
            x = layer(x, mask, past_key_values=past_key_values)
        x = self.norm(x)
        logits = self.lm_head(x[:, -logits_to_keep:])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        states = (*hidden, x) if output_hidden_states else None
        return CausalLMOutputWithPast(loss, logits, past_key_values if use_cache else None, states)


def sinusoids(positions: torch.Tensor, width: int) -> torch.Tensor:
    """Sines and cosines (B, T, width) of positions (B, T), of wave lengths from 2 pi to 10,000 * 2 pi."""
    rates = 10 ** torch.linspace(0, -4, width // 2, device=positions.device)  # logspace does not run on Apple GPUs
    angles = positions[..., None] * rates
    return torch.cat([angles.sin(), angles.cos()], -1)
