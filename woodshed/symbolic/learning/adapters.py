"""Adapters: a little to train on a base that stays as it is, by PEFT: LoRA, IA3, and both over a base in 4 bits.

    model = adapt(base, settings)                 # a base with a fresh adapter, to train

They go by the linear layers that a model has, whatever model it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...config import flag, read_fields
from ...errors import InputError, RunError
from ..models._layers import linear_layers, quantise, shape
from ..tokenizers import Tokenizer, miditok, saved_facts
from .settings import LORA, TrainSettings

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

FLAGS = {"r": "--lora-rank"} | {name: flag(name) for name in LORA}  # fields of LoraConfig that have a flag of their own


def adapt(model: PreTrainedModel, settings: TrainSettings, *, fresh: Sequence[int] = (), half: bool = False):
    """A base with the adapter that the settings ask for, the only thing in it that is trained: a PeftModel.

    `fresh` are ids that mean nothing to the base: their rows in embedding and head are trained too. `half` computes
    with 4-bit weights in bfloat16. Raises InputError for an adapter that does not suit the model.
    """
    import peft

    layers = linear_layers(model)
    if not layers:
        raise InputError(f"--adapter {settings.adapter}: {settings.base} has no linear layers; give --adapter none")
    given = f"--adapter {settings.adapter} {' '.join(settings.lora_args)}".strip()
    try:
        config = (_lora if settings.adapter == "lora" else _ia3)(model, settings, fresh)
        if settings.adapter == "lora":
            _refuse_wide(config, layers)
        if settings.load_in_4bit:
            quantise(model, half=half)
        return peft.get_peft_model(model, config)
    except (ValueError, TypeError) as error:
        raise InputError(f"{given}: {error}") from None


def count(model: torch.nn.Module) -> tuple[int, int]:
    """Parameters in all, and those that are trained. A 4-bit weight counts as the weights that are packed in it."""
    sizes = [(_unpacked(weight), weight.requires_grad) for weight in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)


def _unpacked(weight: torch.nn.Parameter) -> int:
    state = getattr(weight, "quant_state", None)
    return weight.numel() if state is None else state.shape.numel()


def unknown_ids(base: Path, tokenizer: Tokenizer) -> range:
    """The ids of a tokenizer that mean nothing to a base: none for a base of ours, the words that Woodshed adds for a
    model that comes with MidiTok's tokenizer.json, all of them for any other. Other ids of a known kind are a RunError.
    """
    saved, name = saved_facts(base), ""
    if saved is None and (theirs := miditok.outside(base)):
        saved, name = theirs.facts, f"miditok:{base}"
    if saved is None:
        return range(tokenizer.vocab_size)
    if saved["fingerprint"] != tokenizer.fingerprint:
        kinds = f"{saved['name']} {saved['fingerprint']}, the corpus has {tokenizer.name} {tokenizer.fingerprint}"
        advice = f"prepare the corpus with --tokenizer {name or saved['name']}"
        raise RunError(base, f"its tokens are {kinds}; {advice}")
    return range(tokenizer.known, tokenizer.vocab_size) if name else range(0)


# --- configurations --------------------------------------------------------------------------------------------


def _lora(model: PreTrainedModel, settings: TrainSettings, fresh: Sequence[int]):
    """LoRA on every linear layer, https://arxiv.org/abs/2106.09685"""
    from peft import LoraConfig

    more = read_fields(settings.lora_args, LoraConfig, "--lora-args", FLAGS)
    chosen = _common(model) | {"r": settings.lora_rank} | {name: getattr(settings, name) for name in LORA[1:]}
    if fresh:
        ends = (model.get_input_embeddings(), model.get_output_embeddings())
        names = [name for name, module in model.named_modules() if any(module is end for end in ends)]
        chosen["trainable_token_indices"] = {name: list(fresh) for name in names}
    return LoraConfig(**chosen | more)


def _ia3(model: PreTrainedModel, settings: TrainSettings, fresh: Sequence[int]):
    """IA3, https://arxiv.org/abs/2205.05638: a factor for every number that a linear layer gives, or, where it reads
    the wide inner layer of a feed-forward block, that it takes."""
    from peft import IA3Config

    if fresh:
        reason = f"{settings.base} does not know {len(fresh)} of the corpus's ids, and IA3 learns none"
        raise InputError(f"--adapter ia3: {reason}; give --adapter lora, or none")
    width = model.get_input_embeddings().weight.shape[1]
    wide = {".".join(name.split(".")[-2:]) for name, layer in linear_layers(model).items() if shape(layer)[1] > width}
    # a pattern, because PEFT shortens the names of target_modules and then misses those of this list among them
    chosen = _common(model) | {"feedforward_modules": rf".*\.({'|'.join(map(re.escape, sorted(wide)))})"}
    return IA3Config(**chosen)


def _common(model: PreTrainedModel) -> dict:
    from transformers.pytorch_utils import Conv1D

    layers = linear_layers(model)
    transposed = any(isinstance(layer, Conv1D) for layer in layers.values())
    return {"target_modules": list(layers), "task_type": "CAUSAL_LM", "fan_in_fan_out": transposed}


def _refuse_wide(config, layers: dict[str, torch.nn.Module]) -> None:
    """An InputError where a layer that is adapted has no room for the rank."""
    from peft.tuners.tuners_utils import check_target_module_exists

    for name, layer in layers.items():
        out, inner = shape(layer)
        if config.r > min(out, inner) and check_target_module_exists(config, name):
            reason = f"the layer {name} turns {inner} numbers into {out}"
            raise InputError(f"--lora-rank {config.r}: {reason}; give at most {min(out, inner)}")
