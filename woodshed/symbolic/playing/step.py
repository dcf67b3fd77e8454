"""One id in, the logits of the next one out: what the decode loop asks of a torch model.

    step = make_step(model)                 # engines.py
    logits = step.start([prompt, ...])      # (B, V)
    logits = step(ids)                      # (B, V), one more id for every row
    step.keep([0, 2])                       # go on with these rows only

`HubStep` runs any causal model of transformers; our own models and the stock Llama have engines in numpy (engines.py).
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod

import numpy as np
import torch
from transformers import PreTrainedModel

from ...errors import InputError


class Step(ABC):
    """A model with the rows it is writing. Every row has its own length and positions; rows do not see each other."""

    max_seq_len: int  # ids that a row may have
    length = 0  # ids of the longest row

    @property
    def engine(self) -> str:
        """What takes tell of who played them."""
        return type(self).__name__

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


def left_padded(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
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

    @property
    def engine(self) -> str:
        where = self.model.device.type
        return super().engine + f" on {where}" * (where != "cpu")

    def start(self, rows: list[list[int]]) -> np.ndarray:
        ids, padding = left_padded(rows)
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
