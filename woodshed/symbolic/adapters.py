"""Adapters: a little to train on a base that stays as it is, by PEFT: LoRA, IA3, and both over a base in 4 bits.

    model = adapt(base, settings)                 # a base with a fresh adapter, to train
    model = attach(base, folder, merge=True)      # a base with a trained one, or merged with it

They go by the linear layers that a model has, whatever model it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ..config import read_fields
from ..errors import InputError, MissingExtra, RunError
from .settings import LORA, TrainSettings, flag
from .tokenizers import Tokenizer, miditok, saved_facts

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

FLAGS = {"r": "--lora-rank"} | {name: flag(name) for name in LORA}  # fields of LoraConfig that have a flag of their own
BLOCK = 64  # weights in 4 bits that share a scale


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


def attach(model: PreTrainedModel, folder: Path, *, merge: bool = False):
    """A base with the trained adapter in a folder, in eval mode; merged it is a plain model again."""
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(model, folder).eval()
    return adapted.merge_and_unload() if merge else adapted


def linear_layers(model: PreTrainedModel) -> dict[str, torch.nn.Module]:
    """The linear layers of a model by name, without its head."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    head = model.get_output_embeddings()
    found = {name: layer for name, layer in model.named_modules() if isinstance(layer, Linear | Conv1D)}
    return {name: layer for name, layer in found.items() if layer is not head}


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

    more = read_fields(settings.lora_args, LoraConfig, "--lora-args")
    for name in more.keys() & FLAGS.keys():
        raise InputError(f"--lora-args {name}: set it with {FLAGS[name]}")
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
    wide = {".".join(name.split(".")[-2:]) for name, layer in linear_layers(model).items() if _shape(layer)[1] > width}
    # a pattern, because PEFT shortens the names of target_modules and then misses those of this list among them
    chosen = _common(model) | {"feedforward_modules": rf".*\.({'|'.join(map(re.escape, sorted(wide)))})"}
    return IA3Config(**chosen)


def _common(model: PreTrainedModel) -> dict:
    from transformers.pytorch_utils import Conv1D

    layers = linear_layers(model)
    transposed = any(isinstance(layer, Conv1D) for layer in layers.values())
    return {"target_modules": list(layers), "task_type": "CAUSAL_LM", "fan_in_fan_out": transposed}


def _shape(layer: torch.nn.Module) -> tuple[int, int]:
    """Numbers out and in; Conv1D keeps its weight the other way round."""
    out, inner = layer.weight.shape
    return (out, inner) if hasattr(layer, "in_features") else (inner, out)


def _refuse_wide(config, layers: dict[str, torch.nn.Module]) -> None:
    """An InputError where a layer that is adapted has no room for the rank."""
    from peft.tuners.tuners_utils import check_target_module_exists

    for name, layer in layers.items():
        out, inner = _shape(layer)
        if config.r > min(out, inner) and check_target_module_exists(config, name):
            reason = f"the layer {name} turns {inner} numbers into {out}"
            raise InputError(f"--lora-rank {config.r}: {reason}; give at most {min(out, inner)}")


# --- 4 bits ----------------------------------------------------------------------------------------------------


def quantise(model: PreTrainedModel, *, half: bool = False) -> None:
    """Pack the linear layers of a model into 4 bits, frozen, as QLoRA does (https://arxiv.org/abs/2305.14314): NF4 in
    blocks of 64, the scales of the blocks in 8 bits. They compute in float32, or (`half`) in bfloat16.

    Layers that do not read a multiple of 64 numbers stay as they are; a model of nothing else is an InputError.
    """
    import torch

    layers = _packable(model)
    if not layers:
        raise InputError(f"--load-in-4bit: no layer reads a multiple of {BLOCK} numbers, nothing fits; leave it out")
    kind = torch.bfloat16 if half else torch.float32
    for name, layer in layers.items():
        model.set_submodule(name, _packed(layer, kind))
    model.is_loaded_in_4bit = True  # what PEFT goes by


def round_to_4bit(model: PreTrainedModel) -> None:
    """Give the linear layers the weights that they have in 4 bits, in float32: what an adapter on them was made for."""
    import torch

    for layer in _packable(model).values():
        packed = _packed(layer, torch.float32).weight
        weight = _bitsandbytes().functional.dequantize_4bit(packed.data, packed.quant_state)
        layer.weight.data = weight if hasattr(layer, "in_features") else weight.T.contiguous()


def _packable(model: PreTrainedModel) -> dict[str, torch.nn.Module]:
    """Layers whose rows are whole blocks: of others bitsandbytes 0.50 unpacks wrong numbers on CPU (measured)."""
    return {name: layer for name, layer in linear_layers(model).items() if _shape(layer)[1] % BLOCK == 0}


def _packed(layer: torch.nn.Module, kind: torch.dtype) -> torch.nn.Module:
    import torch

    nn = _bitsandbytes().nn
    out, inner = _shape(layer)
    weight = layer.weight.data if hasattr(layer, "in_features") else layer.weight.data.T
    with torch.device("meta"):
        packed = nn.Linear4bit(inner, out, bias=False, compute_dtype=kind, quant_type="nf4")
    frozen = nn.Params4bit(
        weight.contiguous(), blocksize=BLOCK, quant_type="nf4", compress_statistics=True, module=packed
    )
    packed.weight, packed.bias = frozen.to(weight.device), layer.bias
    # an evaluation on CPU would pack the weights anew for inference, and training after it would learn nothing
    packed.support_avx512bf16_for_cpu = False
    return packed.train(layer.training)


def _bitsandbytes() -> ModuleType:
    try:
        import bitsandbytes
    except ImportError:
        raise MissingExtra("bitsandbytes", "qlora") from None
    return bitsandbytes
