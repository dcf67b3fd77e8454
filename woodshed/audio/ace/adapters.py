"""Adapters in use: over a base, one or several, each with a scale; every key is checked.

    adapter = read_adapter("my-run")                                  # a run of ours, or what another program wrote
    load_adapters(pipe, [(adapter, 1.0), (read_adapter("x.safetensors"), 0.5)])
    unload_adapters(pipe)                                             # the base again

What files look like is layouts.py. Here an adapter is already a table of modules, named as diffusers names them, each
with its weights and with the factor (alpha / rank) that its own training multiplied them with.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...errors import RunError
from ...jobs import enough_memory
from .layouts import Adapter, ranks_for_peft

if TYPE_CHECKING:
    import torch
    from diffusers import AceStepPipeline

ORDER = ("dora", "lora", "lokr")  # a DoRA stretches all that peft has computed before it: nothing but the base
SHOWN = 2  # modules that a message names


def load_adapters(pipe: AceStepPipeline, adapters: Sequence[tuple[Adapter, float]], *, base: str = "") -> None:
    """Put adapters over the transformer of a pipeline, each with its scale; those that were there are gone.

    A scale of 1 is the strength it was trained with, 0 leaves the base alone, exactly; several add up (of two DoRAs the
    second stretches the rows that the first has made). `base` is the fingerprint of the base, where it shall be
    compared with the one the adapter was trained on. Raises RunError for an adapter that does not fit, before anything
    is changed.
    """
    for adapter, _ in adapters:
        check(adapter, pipe.transformer, base=base)
    unload_adapters(pipe)
    ordered = sorted(adapters, key=lambda pair: ORDER.index(pair[0].kind))
    heard = [(f"adapter_{number}", *pair) for number, pair in enumerate(ordered) if pair[1]]
    with enough_memory("for the adapters", "close what else uses the card, or add --device cpu"):
        for name, adapter, scale in heard:
            _inject(pipe.transformer, adapter, name, scale)
    if heard:
        pipe.transformer.set_adapters([name for name, _, _ in heard], [scale for _, _, scale in heard])


def unload_adapters(pipe: AceStepPipeline) -> None:
    """The transformer as it was before adapters were loaded."""
    if getattr(pipe.transformer, "peft_config", None):
        pipe.transformer.unload_lora()


@contextmanager
def without_adapters(pipe: AceStepPipeline) -> Iterator[None]:
    """The base alone, in the block."""
    loaded = bool(getattr(pipe.transformer, "peft_config", None))
    if loaded:
        pipe.transformer.disable_adapters()
    try:
        yield
    finally:
        if loaded:
            pipe.transformer.enable_adapters()


# --- does it fit -----------------------------------------------------------------------------------------------


def check(adapter: Adapter, transformer: torch.nn.Module, *, base: str = "") -> None:
    """A RunError where an adapter was not made for this transformer: another base, other modules, other shapes."""
    trained_on = adapter.facts.get("base_fingerprint", "")
    if base and trained_on and base != trained_on:
        known = adapter.facts.get("base", "another base")
        reason = f"it was trained on {known} ({trained_on}), this base is {base}"
        raise RunError(adapter.path, f"{reason}; give that base, or --any-base to try it nevertheless")
    layers = _linear_layers(transformer)
    missing = [name for name in adapter.modules if name not in layers]
    if missing:
        raise RunError(adapter.path, _misfit(adapter, missing))
    for name, parts in adapter.modules.items():
        ours, theirs = tuple(layers[name].weight.shape), adapter.shape(name)
        if ours != theirs:
            sizes = "{} x {} numbers, in this base {} x {}".format(*theirs, *ours)
            raise RunError(adapter.path, f"its {name} has {sizes}: it was made for a model of another size")
        if not all(tensor.float().isfinite().all() for tensor in parts.values()):
            raise RunError(adapter.path, f"its {name} holds numbers that are none (NaN); use an earlier checkpoint")


def _misfit(adapter: Adapter, missing: list[str]) -> str:
    shown = ", ".join(missing[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
    if len(missing) == len(adapter.modules):
        return f"none of its {len(missing)} modules ({shown}) is in this base: it was made for another model"
    reason = f"{len(missing)} of its {len(adapter.modules)} modules are not in this base ({shown})"
    return f"{reason}: it was made for a model with other layers"


def _linear_layers(transformer: torch.nn.Module) -> dict[str, torch.nn.Linear]:
    """The linear layers of a base by name, whatever adapters lie over them."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from torch.nn import Linear

    found = {}
    for name, module in transformer.named_modules():
        if isinstance(module, BaseTunerLayer | Linear) and not any(name.startswith(f"{over}.") for over in found):
            inner = module.get_base_layer() if isinstance(module, BaseTunerLayer) else module
            if isinstance(inner, Linear):
                found[name] = inner
    return found


def change_of_weights(adapter: Adapter, transformer: torch.nn.Module) -> float:
    """How much an adapter at scale 1 changes the weights it lies over: the median of |change| / |weight|."""
    shares = []
    for name, layer in _linear_layers(transformer).items():
        if name in adapter.modules:
            weight = layer.weight.detach().float().cpu()
            shares.append(float(adapter.change(name, weight).norm() / weight.norm()))
    return sorted(shares)[len(shares) // 2]


# --- over the base ---------------------------------------------------------------------------------------------


def _inject(transformer: torch.nn.Module, adapter: Adapter, name: str, scale: float) -> None:
    """Layers of peft over the modules of an adapter, with its weights in them."""
    from peft import inject_adapter_in_model

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several are meant
        inject_adapter_in_model(_config(adapter), transformer, adapter_name=name)
    transformer._hf_peft_config_loaded = True  # what diffusers' set_adapters asks for
    fill = _fill_lokr if adapter.kind == "lokr" else _fill_lora
    for module, parts in adapter.modules.items():
        layer = transformer.get_submodule(module)
        weight = layer.get_base_layer().weight
        moved = {part: tensor.to(device=weight.device, dtype=weight.dtype) for part, tensor in parts.items()}
        fill(layer, name, moved, adapter.scaling[module])
        if "magnitude" in parts:
            _set_magnitude(layer, name, moved["magnitude"], scale)
    transformer.requires_grad_(False)


def _config(adapter: Adapter):
    """What peft needs to make room for an adapter; each module has the rank and alpha it was trained with."""
    from peft import LoKrConfig, LoraConfig

    if adapter.kind == "lokr":
        return LoKrConfig(r=1, alpha=1, target_modules=list(adapter.modules), inference_mode=True)
    return LoraConfig(**ranks_for_peft(adapter), init_lora_weights=False, inference_mode=True)


def _fill_lora(layer, name: str, parts: dict[str, torch.Tensor], scaling: float) -> None:
    layer.lora_A[name].weight.data = parts["A"]
    layer.lora_B[name].weight.data = parts["B"]


def _fill_lokr(layer, name: str, parts: dict[str, torch.Tensor], scaling: float) -> None:
    """The factors as they are: peft would make its own of the sizes, and not every program factors alike."""
    from torch.nn import Parameter

    for part in layer.adapter_layer_names:
        if name in getattr(layer, part):
            del getattr(layer, part)[name]
    for part, tensor in parts.items():
        getattr(layer, part)[name] = Parameter(tensor, requires_grad=False)
    layer.alpha[name], layer.r[name] = scaling, 1


def _set_magnitude(layer, name: str, magnitude: torch.Tensor, scale: float) -> None:
    """DoRA's lengths of the rows, as far on the way from the base's as the scale says: at 0 the base itself."""
    lengths = layer.get_base_layer().weight.float().norm(dim=1)
    layer.lora_magnitude_vector[name].weight.data = (lengths + scale * (magnitude.float() - lengths)).to(
        magnitude.dtype
    )
