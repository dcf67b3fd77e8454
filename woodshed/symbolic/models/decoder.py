"""The default model: the stock Llama architecture of transformers (rotary positions, SwiGLU, RMSNorm, tied head), so
that PEFT, ONNX and vLLM know it. Sizes are named after their parameters at a vocabulary of about 650 ids."""

from __future__ import annotations

from transformers import LlamaConfig, LlamaForCausalLM

from ..tokenizers import BOS, EOS, PAD
from ._attention import attention_for

MODEL = LlamaForCausalLM
HEAD_DIM = 64

# hidden_size, num_hidden_layers, intermediate_size
SIZES = {
    "2m": (192, 4, 512),
    "6m": (256, 8, 640),
    "12m": (320, 10, 832),
    "25m": (448, 10, 1216),
    "50m": (576, 12, 1536),
    "150m": (896, 16, 2368),
}


def make_config(size: str, vocab_size: int, *, max_seq_len: int, **overrides) -> LlamaConfig:
    """The configuration of a size in SIZES. `overrides` are fields of LlamaConfig."""
    width, depth, inner = SIZES[size]
    settings = {
        "hidden_size": width,
        "num_hidden_layers": depth,
        "intermediate_size": inner,
        "num_attention_heads": width // HEAD_DIM,
        "head_dim": HEAD_DIM,
        "vocab_size": vocab_size,
        "max_position_embeddings": max_seq_len,
        "tie_word_embeddings": True,
        "pad_token_id": PAD,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
    }
    return LlamaConfig(**(settings | overrides), attn_implementation=attention_for())
