"""Performance RNN: layers of LSTM over embedded ids, the state carried from id to id.

Oore et al. 2018, "This Time with Feeling", https://arxiv.org/abs/1808.03715; the model of Magenta's `performance_rnn`
is the size `6m`, 3 x 512. The embedding is tied to the output, so that ids that share features begin alike.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel, initialization
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import CausalLMOutputWithPast

from ..tokenizers import BOS, EOS, PAD

# hidden_size, num_hidden_layers
SIZES = {"2m": (272, 3), "6m": (512, 3), "12m": (704, 3), "25m": (1024, 3)}


@strict
class LSTMConfig(PreTrainedConfig):
    model_type = "woodshed_lstm"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]

    vocab_size: int = 650
    hidden_size: int = 512
    num_hidden_layers: int = 3
    max_position_embeddings: int = 2048  # the longest row that was trained; a state has no bound
    dropout: float | int = 0.0  # of the embeddings and of what each layer gives
    initializer_range: float = 0.2  # of the embedding; gates that see less than that learn nothing for long
    use_cache: bool = True
    tie_word_embeddings: bool = True
    pad_token_id: int | None = PAD
    bos_token_id: int | None = BOS
    eos_token_id: int | list[int] | None = EOS


class LSTMState:
    """What an LSTM remembers, in the place of a cache of keys and values: (hidden, cell) of every layer, (1, B, W)."""

    def __init__(self, layers: list[tuple[torch.Tensor, torch.Tensor]], length: int):
        self.layers, self.length = layers, length

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """How many ids it has seen."""
        return self.length

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows, in this order."""
        self.layers = [(hidden[:, indices], cell[:, indices]) for hidden, cell in self.layers]

    reorder_cache = batch_select_indices


class LSTMLayer(GradientCheckpointingLayer):
    """One layer, in float32 on a CPU whatever autocast says: bf16 would make it slower there."""

    def __init__(self, config: LSTMConfig):
        super().__init__()
        self.lstm = nn.LSTM(config.hidden_size, config.hidden_size, batch_first=True)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor, spans: list, state: tuple | None) -> tuple[torch.Tensor, tuple]:
        """x (B, T, W) to the same, and the state after it; see `_spans`."""
        outputs = []
        with torch.autocast(x.device.type, enabled=x.device.type != "cpu" and torch.is_autocast_enabled(x.device.type)):
            x = x.to(self.lstm.weight_ih_l0.dtype)
            for start, stop, kept in spans:
                if kept is not None and state is not None:
                    state = tuple(part * kept.to(part.dtype) for part in state)
                output, state = self.lstm(x[:, start:stop], state)
                outputs.append(output)
        return self.dropout(torch.cat(outputs, 1)), state


class LSTMForCausalLM(PreTrainedModel, GenerationMixin):
    """Ids in, logits out."""

    config_class = LSTMConfig
    supports_gradient_checkpointing = True
    _is_stateful = True
    _no_split_modules = ("LSTMLayer",)
    _tied_weights_keys: ClassVar[dict[str, str]] = {"lm_head.weight": "embed_tokens.weight"}

    def __init__(self, config: LSTMConfig):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(LSTMLayer(config) for _ in range(config.num_hidden_layers))
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @classmethod
    def _supports_default_dynamic_cache(cls) -> bool:
        """Asked by transformers' `generate`, which would bring a cache of keys and values."""
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """A gate that forgets begins half open, as in TensorFlow's cells."""
        super()._init_weights(module)
        if isinstance(module, nn.LSTM):
            width = module.hidden_size
            for weight in (module.weight_ih_l0, module.weight_hh_l0):
                initialization.uniform_(weight, -(width**-0.5), width**-0.5)
            initialization.zeros_(module.bias_hh_l0)
            forget = torch.zeros_like(module.bias_ih_l0)
            forget[width : 2 * width] = 1
            initialization.copy_(module.bias_ih_l0, forget)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: LSTMState | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool = False,
        logits_to_keep: int = 0,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Logits (B, T, vocab_size) of input_ids (B, T), with the loss where `labels` are given.

        The state begins anew wherever `position_ids` say 0, and at the first real id of a padded row.
        """
        use_cache = self.config.use_cache if use_cache is None else use_cache
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        spans = _spans(x.shape[:2], position_ids, attention_mask)
        before = [None] * len(self.layers) if past_key_values is None else past_key_values.layers
        x, hidden, after = self.dropout(x), [], []
        for layer, state in zip(self.layers, before, strict=True):
            hidden.append(x)
            x, state = layer(x, spans, state)
            after.append(state)
        logits = self.lm_head(x[:, -logits_to_keep:])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        seen = past_key_values.length if past_key_values is not None else 0
        cache = LSTMState(after, seen + x.shape[1]) if use_cache else None
        return CausalLMOutputWithPast(loss, logits, cache, (*hidden, x) if output_hidden_states else None)


def _spans(shape: tuple[int, int], positions: torch.Tensor | None, mask: torch.Tensor | None) -> list[tuple]:
    """Where an LSTM may run on: (start, stop, kept), `kept` (1, B, 1) the rows that bring their state along.

    Rows begin anew at different places; the batch is cut at all of them, which costs less than to pad every piece.
    """
    batch, length = shape
    if mask is not None:
        mask = mask.bool()
        begins = (mask & (mask.cumsum(1) == 1))[:, -length:]
        if positions is not None:
            begins = mask[:, -length:] & (positions == 0)
    elif positions is not None:
        begins = (positions == 0).expand(batch, length)
    else:
        return [(0, length, None)]
    edges = begins[:, 1:].any(0).nonzero()[:, 0] + 1
    return [(start, stop, ~begins[None, :, start, None]) for start, stop in pairwise([0, *edges.tolist(), length])]


MODEL = LSTMForCausalLM


def make_config(size: str, vocab_size: int, *, max_seq_len: int, **overrides) -> LSTMConfig:
    """The configuration of a size in SIZES. `overrides` are fields of LSTMConfig."""
    width, depth = SIZES[size]
    settings = {"vocab_size": vocab_size, "hidden_size": width, "num_hidden_layers": depth}
    return LSTMConfig(**settings | {"max_position_embeddings": max_seq_len} | overrides)
