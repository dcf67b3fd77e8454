"""Steps in numpy, fp32, from copies of a model's weights: the stock Llama, relative attention, the LSTM.

For one id at a time a product of a vector and a matrix waits for memory, and all around it is the overhead of calls,
which is 0.5 us in numpy where it is 1 to 3 in torch. What can be done once is in the matrices: queries, keys and values
in one, the weights of the norms, the scale of the scores.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from transformers import LlamaForCausalLM, PreTrainedModel

from ..models._relative import RelativeForCausalLM, sinusoids
from ..models.lstm import LSTMForCausalLM
from .step import HubStep, Step, left_padded

PREFILL = 256  # prompt ids that run through a model at a time
HIDDEN = np.float32(-1e30)  # added to hidden scores; finite, so that a row that sees nothing is no NaN


def make_step(model: PreTrainedModel) -> Step:
    """The fastest Step for a model: an engine in numpy where there is one for it (on CPU, adapters merged), else
    HubStep."""
    if model.device.type != "cpu":
        return HubStep(model)
    if type(model) is LSTMForCausalLM:
        return LSTMStep(model)
    if isinstance(model, RelativeForCausalLM) and model.config.hidden_act in ACTIVATIONS and _is_plain(model):
        return RelativeStep(model)
    return LlamaStep(model) if _is_plain_llama(model) else HubStep(model)


def _is_plain(model: PreTrainedModel) -> bool:
    """Whether all that looks like a linear layer is one, and no adapter over it."""
    return all(type(m) is torch.nn.Linear for name, m in model.named_modules() if name.endswith(("_proj", "lm_head")))


def _is_plain_llama(model: PreTrainedModel) -> bool:
    if type(model) is not LlamaForCausalLM:
        return False
    config = model.config
    plain = not (config.attention_bias or config.mlp_bias) and config.hidden_act == "silu"
    return plain and _is_plain(model) and config.rope_parameters["rope_type"] == "default"


class AttentionStep(Step):
    """What transformers have in common: a cache of keys and values, and attention over it."""

    heads: int
    head_dim: int
    layers: list

    def start(self, rows: list[list[int]]) -> np.ndarray:
        ids, self.padding = left_padded(rows)
        self.length = 0
        shape = (len(self.layers), 2, len(rows), self.heads, self.max_seq_len, self.head_dim)
        self.cache = np.empty(shape, dtype=np.float32)
        self._hide()
        for begin in range(0, ids.shape[1], PREFILL):
            x = self._read(ids[:, begin : begin + PREFILL])
        return self._logits(x[:, -1])

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        return self._logits(self._read(np.asarray(ids)[:, None])[:, -1])

    def keep(self, rows: list[int]) -> None:
        self.padding = self.padding[rows]
        self.cache = self.cache[:, :, rows]
        self._hide()

    def _hide(self) -> None:
        """The bias (B, 1, 1, T) that hides the padding; None where there is none."""
        hidden = np.arange(self.max_seq_len) < self.padding[:, None]
        self.bias = np.where(hidden, HIDDEN, np.float32(0))[:, None, None] if self.padding.any() else None

    def _read(self, ids: np.ndarray) -> np.ndarray:
        """Add ids (B, T) to the rows: the last hidden states (B, T, width)."""
        batch, count = ids.shape
        seen = self.length
        self._grow(count)
        at = np.maximum(np.arange(seen, self.length) - self.padding[:, None], 0).ravel()
        self.future = np.triu(np.full((count, count), HIDDEN), 1) if count > 1 else None
        return self._advance(ids.ravel(), at, batch).reshape(batch, count, -1)

    @abstractmethod
    def _advance(self, ids: np.ndarray, at: np.ndarray, batch: int) -> np.ndarray:
        """The last hidden states (B * T, width) of ids at positions (B * T,)."""

    @abstractmethod
    def _logits(self, x: np.ndarray) -> np.ndarray:
        """Logits (B, V) of last hidden states (B, width)."""

    def _attend(self, qkv: np.ndarray, cache: np.ndarray, distances: np.ndarray | None = None) -> np.ndarray:
        """Store keys and values of (B, T, 3, H, D) in the cache (2, B, H, max, D) and attend: (B * T, H * D).

        `distances` (H, D, R) are embeddings of distances, farthest first, and a last column of zeros; see `skewed`.
        """
        batch, count = qkv.shape[:2]
        query, *new = qkv.transpose(2, 0, 3, 1, 4)
        cache[:, :, :, self.length - count : self.length] = new
        keys, values = cache[:, :, :, : self.length]
        scores = query @ keys.swapaxes(2, 3)
        if distances is not None:
            reach = min(self.length, distances.shape[2] - 1)
            scores[..., self.length - reach :] += skewed(query @ distances[..., -1 - reach :])
        if self.bias is not None:
            scores += self.bias[..., : self.length]
        if self.future is not None:
            scores[..., -count:] += self.future
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        out = scores @ values
        out /= scores.sum(axis=-1, keepdims=True)
        return out.swapaxes(1, 2).reshape(batch * count, -1)


class _Layer(NamedTuple):
    """The matrices of a layer, (in, out): a vector times such a matrix is OpenBLAS's fastest product."""

    qkv: np.ndarray
    out: np.ndarray
    gate_up: np.ndarray
    down: np.ndarray


class LlamaStep(AttentionStep):
    """A stock Llama. The two numbers that rotary embedding turns stand side by side, so that it is one product of
    complex numbers."""

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

    def _advance(self, ids: np.ndarray, at: np.ndarray, batch: int) -> np.ndarray:
        turn = self.turn[at]
        x = self.embedding[ids]
        for layer, cache in zip(self.layers, self.cache, strict=True):
            qkv = (self._norm(x) @ layer.qkv).reshape(len(x), 3 * self.heads, self.head_dim)
            turned = qkv[:, : 2 * self.heads].view(np.complex64)
            np.multiply(turned, turn, out=turned)
            x += self._attend(qkv.reshape(batch, -1, 3, self.heads, self.head_dim), cache) @ layer.out
            gate, up = np.split(self._norm(x) @ layer.gate_up, 2, axis=1)
            x += (gate / (1 + np.exp(-gate)) * up) @ layer.down
        return x

    def _norm(self, x: np.ndarray) -> np.ndarray:
        """RMSNorm of (N, width) without its weight."""
        return x / np.sqrt(np.einsum("ij,ij->i", x, x) / np.float32(x.shape[1]) + self.eps)[:, None]

    def _logits(self, x: np.ndarray) -> np.ndarray:
        return self._norm(x) @ self.head


class _Affine(NamedTuple):
    """x @ matrix + bias."""

    matrix: np.ndarray
    bias: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x @ self.matrix + self.bias


class _RelativeLayer(NamedTuple):
    qkv: _Affine
    out: _Affine
    up: _Affine
    down: _Affine
    distances: np.ndarray  # (H, D, R): farthest first, zeros for those that have none, a last column of zeros


class RelativeStep(AttentionStep):
    """Music Transformer and Music GPT-2."""

    def __init__(self, model: RelativeForCausalLM):
        config = model.config
        self.max_seq_len, self.heads = config.max_position_embeddings, config.num_attention_heads
        self.head_dim = config.hidden_size // self.heads
        self.eps = np.float32(config.layer_norm_eps)
        self.act = ACTIVATIONS[config.hidden_act]
        self.embedding, self.places = _array(model.embed_tokens.weight), None
        if config.sinusoids:
            self.embedding = self.embedding * np.float32(config.hidden_size**0.5)
            self.places = sinusoids(torch.arange(self.max_seq_len), config.hidden_size).numpy()
        self.layers = [self._layer(layer) for layer in model.layers]
        self.head = _affine([model.lm_head], model.norm)

    def _layer(self, layer) -> _RelativeLayer:
        attention = layer.attention
        projections, scale = [attention.q_proj, attention.k_proj, attention.v_proj], self.head_dim**-0.5
        far_first = _array(attention.distances)[:, ::-1].swapaxes(1, 2)
        return _RelativeLayer(
            _affine(projections, layer.attention_norm, scales=(scale, 1, 1)),
            _affine([attention.o_proj]),
            _affine([layer.up_proj], layer.mlp_norm),
            _affine([layer.down_proj]),
            np.pad(far_first, ((0, 0), (0, 0), (PREFILL - 1, 1))),
        )

    def _advance(self, ids: np.ndarray, at: np.ndarray, batch: int) -> np.ndarray:
        x = self.embedding[ids] if self.places is None else self.embedding[ids] + self.places[at]
        for layer, cache in zip(self.layers, self.cache, strict=True):
            qkv = layer.qkv(self._norm(x)).reshape(batch, -1, 3, self.heads, self.head_dim)
            x += layer.out(self._attend(qkv, cache, layer.distances))
            x += layer.down(self.act(layer.up(self._norm(x))))
        return x

    def _norm(self, x: np.ndarray) -> np.ndarray:
        """LayerNorm of (N, width) without weight and bias."""
        x = x - x.mean(axis=1, keepdims=True)
        return x / np.sqrt(np.einsum("ij,ij->i", x, x) / np.float32(x.shape[1]) + self.eps)[:, None]

    def _logits(self, x: np.ndarray) -> np.ndarray:
        return self.head(self._norm(x))


def skewed(products: np.ndarray) -> np.ndarray:
    """Products (..., C, W + 1) of C queries with distances, farthest first, as (..., C, W) by key: every query's own
    key is one further (Huang et al. 2018, https://arxiv.org/abs/1809.04281). The last column fills up."""
    *outer, count, width = products.shape
    flat = products.reshape(*outer, count * width)
    return flat[..., count - 1 : -1].reshape(*outer, count, width - 1)


def _gelu(x: np.ndarray) -> np.ndarray:
    """GELU by its tanh, as in GPT-2."""
    return x / 2 * (1 + np.tanh(np.float32((2 / np.pi) ** 0.5) * (x + np.float32(0.044715) * x * x * x)))


ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"relu": lambda x: np.maximum(x, 0), "gelu_new": _gelu}


class LSTMStep(HubStep):
    """Our LSTM: prompts in torch, then one id at a time in numpy."""

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


def _affine(layers: list[torch.nn.Linear], norm: torch.nn.LayerNorm | None = None, scales: tuple = (1,)) -> _Affine:
    """Linear layers that read the same, as one, each scaled; weight and bias of the norm before them are in it."""
    weights, biases = [], []
    for layer, scale in zip(layers, scales, strict=True):
        weight = _array(layer.weight) * np.float32(scale)
        bias = np.zeros(len(weight), np.float32) if layer.bias is None else _array(layer.bias) * np.float32(scale)
        weights.append(weight if norm is None else weight * _array(norm.weight))
        biases.append(bias if norm is None else bias + weight @ _array(norm.bias))
    return _Affine(_matrix(np.concatenate(weights)), np.concatenate(biases))


def _array(parameter: torch.Tensor) -> np.ndarray:
    return parameter.detach().float().numpy()


def _matrix(weight: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(weight.T)
