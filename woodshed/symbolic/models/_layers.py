"""The linear layers of a model, whatever model it is: a trained adapter over them, their weights in 4 bits."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ...errors import InputError, MissingExtra

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

BLOCK = 64  # weights in 4 bits that share a scale


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


def shape(layer: torch.nn.Module) -> tuple[int, int]:
    """Numbers out and in; Conv1D keeps its weight the other way round."""
    out, inner = layer.weight.shape
    return (out, inner) if hasattr(layer, "in_features") else (inner, out)


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
    return {name: layer for name, layer in linear_layers(model).items() if shape(layer)[1] % BLOCK == 0}


def _packed(layer: torch.nn.Module, kind: torch.dtype) -> torch.nn.Module:
    import torch

    nn = _bitsandbytes().nn
    out, inner = shape(layer)
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
