"""One id in, the logits of the next one out: what the decode loop asks of a torch model.

    step = make_step(model)
    logits = step.start([prompt, ...])      # (B, V)
    logits = step(ids)                      # (B, V), one more id for every row
    step.keep([0, 2])                       # go on with these rows only

`HubStep` runs any causal model of transformers. `LlamaStep` runs the stock Llama in numpy, `LSTMStep` our LSTM: for one
id at a time a product of a vector and a matrix waits for memory, and all around it is the overhead of calls, which is
0.5 us in numpy where it is 1 to 3 in torch.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from transformers import LlamaForCausalLM, PreTrainedModel

from ...errors import InputError
from ..models.lstm import LSTMForCausalLM

PREFILL = 256  # prompt ids that run through LlamaStep at a time
HIDDEN = np.float32(-1e30)  # added to hidden scores; finite, so that a row that sees nothing is no NaN


class Step(ABC):
    """A model with the rows it is writing. Every row has its own length and positions; rows do not see each other."""

    max_seq_len: int  # ids that a row may have
    length = 0  # ids of the longest row

    @abstractmethod
    def start(self, rows: list[list[int]]) -> np.ndarray:
        """Forget all and read B prompts, of one id or more each: the logits (B, V) float32 that follow."""

    @abstractmethod
    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """Add one id (B,) to every row: the logits (B, V) float32 that follow."""

    @abstractmethod
    def keep(self, rows: list[int]) -> None:
        """Go on with these rows only, in this order."""

    def _grow(self, count: int) -> None:
        if self.length + count > self.max_seq_len:
            wanted = self.length + count
            raise InputError(f"{wanted} ids in a context of {self.max_seq_len}; start again with the last of them")
        self.length += count


def make_step(model: PreTrainedModel) -> Step:
    """The fastest Step for a model: LlamaStep for a stock Llama and LSTMStep for an LSTM, both on CPU and without
    adapters (merge them), else HubStep."""
    if _is_plain_llama(model):
        return LlamaStep(model)
    return LSTMStep(model) if type(model) is LSTMForCausalLM and model.device.type == "cpu" else HubStep(model)


def _is_plain_llama(model) -> bool:
    if type(model) is not LlamaForCausalLM or model.device.type != "cpu":
        return False
    config = model.config
    plain = not (config.attention_bias or config.mlp_bias) and config.hidden_act == "silu"
    linear = all(type(m) is torch.nn.Linear for name, m in model.named_modules() if name.endswith(("_proj", "lm_head")))
    return plain and linear and config.rope_parameters["rope_type"] == "default"


def _left_padded(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Prompts as ids (B, T), padded with id 0 at the left, and the padding (B,) of every row."""
    lengths = [len(row) for row in rows]
    if not lengths or min(lengths) == 0:
        raise InputError(f"prompts of {lengths} ids; every row needs one or more, BOS at least")
    padding = max(lengths) - np.array(lengths)
    ids = np.zeros((len(rows), max(lengths)), dtype=np.int64)
    for row, pad, prompt in zip(ids, padding, rows, strict=True):
        row[pad:] = prompt
    return ids, padding


class HubStep(Step):
    """Any causal model of transformers that takes and gives `past_key_values`, on its own device."""

    def __init__(self, model: PreTrainedModel):
        self.model = model.eval()
        self.max_seq_len = getattr(model.config, "max_position_embeddings", None) or 1 << 30
        base = model.get_base_model() if hasattr(model, "get_base_model") else model  # peft hides the signature
        self.accepts = inspect.signature(base.forward).parameters

    def start(self, rows: list[list[int]]) -> np.ndarray:
        ids, padding = _left_padded(rows)
        self.length, self.cache = 0, None
        self.padding = torch.as_tensor(padding, device=self.model.device)
        return self._advance(ids)

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        return self._advance(np.asarray(ids)[:, None])

    def keep(self, rows: list[int]) -> None:
        chosen = torch.as_tensor(rows, device=self.model.device)
        self.padding = self.padding[chosen]
        self.cache.batch_select_indices(chosen)

    @torch.inference_mode()
    def _advance(self, ids: np.ndarray) -> np.ndarray:
        seen = self.length
        self._grow(ids.shape[1])
        at = torch.arange(self.length, device=self.model.device) - self.padding[:, None]
        options = {"attention_mask": (at >= 0).long(), "position_ids": at[:, seen:].clamp_min(0), "logits_to_keep": 1}
        options = {name: value for name, value in options.items() if name in self.accepts}
        ids = torch.as_tensor(ids, device=self.model.device)
        out = self.model(input_ids=ids, past_key_values=self.cache, use_cache=True, **options)
        self.cache = out.past_key_values
        return out.logits[:, -1].float().cpu().numpy()


class LSTMStep(HubStep):
    """Our LSTM: prompts in torch, then one id at a time in numpy, fp32, from a copy of the model's weights."""

    def __init__(self, model: LSTMForCausalLM):
        super().__init__(model)
        self.embedding, self.head = _array(model.embed_tokens.weight), _matrix(_array(model.lm_head.weight))
        halves = np.repeat(np.array([0.5, 0.5, 1, 0.5], np.float32), model.config.hidden_size)  # in, forget, cell, out
        cells = [layer.lstm for layer in model.layers]
        self.biases = [_array(cell.bias_ih_l0 + cell.bias_hh_l0) * halves for cell in cells]
        joined = (torch.cat([cell.weight_ih_l0, cell.weight_hh_l0], 1) for cell in cells)
        self.gates = [_matrix(_array(weight) * halves[:, None]) for weight in joined]

    def start(self, rows: list[list[int]]) -> np.ndarray:
        logits = super().start(rows)
        self.states = [tuple(part[0].numpy() for part in state) for state in self.cache.layers]
        return logits

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        self._grow(1)
        x, states = self.embedding[np.asarray(ids)], []
        for matrix, bias, (hidden, cell) in zip(self.gates, self.biases, self.states, strict=True):
            parts = np.tanh(np.concatenate([x, hidden], axis=1) @ matrix + bias)
            enter, forget, new, leave = np.split(parts, 4, axis=1)  # sigmoid(z) is (tanh(z / 2) + 1) / 2
            cell = (forget + 1) / 2 * cell + (enter + 1) / 2 * new
            x = (leave + 1) / 2 * np.tanh(cell)
            states.append((x, cell))
        self.states = states
        return x @ self.head

    def keep(self, rows: list[int]) -> None:
        self.states = [tuple(part[rows] for part in state) for state in self.states]


class _Layer(NamedTuple):
    """The matrices of a layer, (in, out): a vector times such a matrix is OpenBLAS's fastest product."""

    qkv: np.ndarray
    out: np.ndarray
    gate_up: np.ndarray
    down: np.ndarray


class LlamaStep(Step):
    """A stock Llama in numpy, fp32, from a copy of the model's weights.

    What can be done once is in the matrices: queries, keys and values in one, gate and up in one, the weights of the
    norms, the scale of the scores; and the two numbers that rotary embedding turns stand side by side, so that it is
    one product of complex numbers.
    """

    def __init__(self, model: LlamaForCausalLM):
        config = model.config
        self.max_seq_len = config.max_position_embeddings
        self.heads, self.head_dim = config.num_attention_heads, config.head_dim
        self.eps = np.float32(config.rms_norm_eps)
        self.embedding = _array(model.model.embed_tokens.weight)
        self.layers = [self._layer(layer) for layer in model.model.layers]
        self.head = _matrix(_array(model.lm_head.weight) * _array(model.model.norm.weight))
        angles = np.arange(self.max_seq_len)[:, None] * _array(model.model.rotary_emb.inv_freq).astype(np.float64)
        self.turn = np.exp(1j * angles).astype(np.complex64)[:, None]  # (T, 1, head_dim / 2)

    def _layer(self, layer) -> _Layer:
        attention, mlp = layer.self_attn, layer.mlp
        groups = attention.num_key_value_groups
        query = self._paired(attention.q_proj) * np.float32(attention.scaling)
        key = self._paired(attention.k_proj).repeat(groups, axis=0)
        value = _array(attention.v_proj.weight).reshape(-1, self.head_dim, query.shape[-1]).repeat(groups, axis=0)
        qkv = np.concatenate([query, key, value]).reshape(-1, query.shape[-1])
        gate_up = np.concatenate([_array(mlp.gate_proj.weight), _array(mlp.up_proj.weight)])
        return _Layer(
            _matrix(qkv * _array(layer.input_layernorm.weight)),
            _matrix(_array(attention.o_proj.weight)),
            _matrix(gate_up * _array(layer.post_attention_layernorm.weight)),
            _matrix(_array(mlp.down_proj.weight)),
        )

    def _paired(self, projection) -> np.ndarray:
        """Rows by head (H, D, in), the halves of D that rotate together moved side by side."""
        rows = _array(projection.weight)
        halves = rows.reshape(-1, 2, self.head_dim // 2, rows.shape[1])
        return halves.swapaxes(1, 2).reshape(-1, self.head_dim, rows.shape[1])

    def start(self, rows: list[list[int]]) -> np.ndarray:
        ids, self.padding = _left_padded(rows)
        self.length = 0
        shape = (len(self.layers), 2, len(rows), self.heads, self.max_seq_len, self.head_dim)
        self.cache = np.empty(shape, dtype=np.float32)
        self._hide()
        for begin in range(0, ids.shape[1], PREFILL):
            x = self._advance(ids[:, begin : begin + PREFILL])
        return self._logits(x[:, -1])

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        return self._logits(self._advance(np.asarray(ids)[:, None])[:, -1])

    def keep(self, rows: list[int]) -> None:
        self.padding = self.padding[rows]
        self.cache = self.cache[:, :, rows]
        self._hide()

    def _hide(self) -> None:
        """The bias (B, 1, 1, T) that hides the padding; None where there is none."""
        hidden = np.arange(self.max_seq_len) < self.padding[:, None]
        self.bias = np.where(hidden, HIDDEN, np.float32(0))[:, None, None] if self.padding.any() else None

    def _advance(self, ids: np.ndarray) -> np.ndarray:
        """Add ids (B, T) to the rows: the last hidden states (B, T, width)."""
        batch, count = ids.shape
        seen = self.length
        self._grow(count)
        at = np.maximum(np.arange(seen, self.length) - self.padding[:, None], 0)
        turn = self.turn[at.ravel()]
        future = np.triu(np.full((count, count), HIDDEN), 1) if count > 1 else None
        x = self.embedding[ids.ravel()]
        for layer, cache in zip(self.layers, self.cache, strict=True):
            qkv = (self._norm(x) @ layer.qkv).reshape(batch * count, 3 * self.heads, self.head_dim)
            turned = qkv[:, : 2 * self.heads].view(np.complex64)
            np.multiply(turned, turn, out=turned)
            x += self._attend(qkv.reshape(batch, count, 3, self.heads, self.head_dim), cache, future) @ layer.out
            gate, up = np.split(self._norm(x) @ layer.gate_up, 2, axis=1)
            x += (gate / (1 + np.exp(-gate)) * up) @ layer.down
        return x.reshape(batch, count, -1)

    def _attend(self, qkv: np.ndarray, cache: np.ndarray, future: np.ndarray | None) -> np.ndarray:
        """Store keys and values of (B, T, 3, H, D) in the cache (2, B, H, max, D) and attend: (B * T, H * D)."""
        batch, count = qkv.shape[:2]
        query, *new = qkv.transpose(2, 0, 3, 1, 4)
        cache[:, :, :, self.length - count : self.length] = new
        keys, values = cache[:, :, :, : self.length]
        scores = query @ keys.swapaxes(2, 3)
        if self.bias is not None:
            scores += self.bias[..., : self.length]
        if future is not None:
            scores[..., -count:] += future
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        out = scores @ values
        out /= scores.sum(axis=-1, keepdims=True)
        return out.swapaxes(1, 2).reshape(batch * count, -1)

    def _norm(self, x: np.ndarray) -> np.ndarray:
        """RMSNorm of (N, width) without its weight."""
        return x / np.sqrt(np.einsum("ij,ij->i", x, x) / np.float32(x.shape[1]) + self.eps)[:, None]

    def _logits(self, x: np.ndarray) -> np.ndarray:
        return self._norm(x) @ self.head


def _array(parameter: torch.Tensor) -> np.ndarray:
    return parameter.detach().float().numpy()


def _matrix(weight: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(weight.T)
