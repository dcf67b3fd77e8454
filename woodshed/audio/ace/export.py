"""Adapters for other programs: the same weights under the names that ComfyUI, ACE-Step's page or diffusers look for.

    export("my-run", "my-style.safetensors", layout="comfyui")

Nothing is lost on the way: read_adapter reads each of them back as the adapter it was.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from ... import __version__
from ...errors import InputError, RunError
from ...files import new_folder, whole, write_object
from ...jobs import refuse_existing
from ..tensor_files import write_tensors
from .layouts import (
    CONFIG,
    DIFFUSERS,
    DIFFUSERS_CONFIG,
    LYCORIS,
    PEFT,
    Adapter,
    ace_name,
    factor,
    factor_shape,
    lokr_rank,
    ranks_for_peft,
    read_adapter,
)

if TYPE_CHECKING:
    import torch

Layout = Literal["comfyui", "ace-step", "diffusers"]
TENSORS = {"A": "lora_A.weight", "B": "lora_B.weight", "magnitude": "lora_magnitude_vector"}


def export(run: Adapter | str | Path, out: str | Path, *, layout: Layout) -> Path:
    """Write an adapter (one that was read, or any that read_adapter takes) for another program; answers the path.

    comfyui: one .safetensors file for models/loras. ace-step: a folder for "Load LoRA" on ACE-Step's own page, which
    takes LoKr as LyCORIS writes it. diffusers: a folder for pipe.load_lora_weights, with its alpha inside.
    Raises InputError for another layout and where `out` exists already, RunError for an adapter that the layout has no
    room for.
    """
    if layout not in get_args(Layout):
        raise InputError(f"--layout {layout}: choose from {', '.join(get_args(Layout))}")
    adapter, out = run if isinstance(run, Adapter) else read_adapter(run), Path(out)
    if layout == "comfyui" and out.suffix != ".safetensors":
        out = out.with_name(f"{out.name}.safetensors")
    refuse_existing(out)
    files = {"comfyui": _comfyui, "ace-step": _ace_step, "diffusers": _diffusers}[layout](adapter)
    folder = out.parent if layout == "comfyui" else out
    about = {"format": "pt", "woodshed": __version__}
    with new_folder(folder), whole(out):
        for name, (tensors, metadata, config) in files.items():
            write_tensors(folder / (name or out.name), tensors, about | metadata)
            if config is not None:
                write_object(folder / CONFIG, config)
    return out


# --- layouts: file name -> tensors, metadata of the file, PEFT's config beside it ---------------------------------


def _comfyui(adapter: Adapter) -> dict:
    """https://github.com/comfyanonymous/ComfyUI, comfy/lora.py: `base_model.model.` and dots for LoRA, `lycoris_` and
    underscores for LoKr, with an `alpha` to each module, which it divides by the rank."""
    import torch

    if adapter.kind == "dora":
        reason = "ComfyUI measures the rows of a DoRA in another way than training did: it would sound otherwise"
        raise RunError(adapter.path, f"{reason}; use --layout ace-step, or train a LoRA")
    facts = {"base": str(adapter.facts.get("base", "")), "adapter": adapter.digest}
    if adapter.kind == "lora":
        tensors = _lora(adapter, "base_model.model.{}.{}")
        for module, parts in adapter.modules.items():
            alpha = adapter.scaling[module] * parts["A"].shape[0]
            tensors[f"base_model.model.{ace_name(module)}.alpha"] = torch.tensor(alpha)
        return {"": (tensors, facts, None)}
    tensors = {}
    for module, parts in adapter.modules.items():
        name, rank = _lycoris_name(module), lokr_rank(parts)
        alpha = 1.0 if rank is None else adapter.scaling[module] * rank
        own = _folded(adapter, module) if rank is None else parts
        tensors |= {f"{name}.{part}": tensor for part, tensor in own.items()}
        tensors[f"{name}.alpha"] = torch.tensor(alpha)
    return {"": (tensors, facts, None)}


def _ace_step(adapter: Adapter) -> dict:
    """https://github.com/ace-step/ACE-Step-1.5, core/generation/handler/lora: PEFT's files for LoRA and DoRA, LyCORIS'
    file with its settings inside for LoKr."""
    if adapter.kind != "lokr":
        return {PEFT: (_lora(adapter, "base_model.model.{}.{}"), {}, _peft_config(adapter, ace_name))}
    import torch

    found = _factorization(adapter)
    settings = {"linear_dim": 1, "linear_alpha": 1, "full_matrix": True, "decompose_both": False, **found}
    settings |= {"use_tucker": False, "use_scalar": False, "weight_decompose": False, "bypass_mode": False}
    endings = sorted({ace_name(module).rpartition(".")[2] for module in adapter.modules})
    settings |= {"rs_lora": False, "target_modules": endings}
    tensors = {}
    for module in adapter.modules:
        name = _lycoris_name(module)
        tensors |= {f"{name}.{part}": tensor for part, tensor in _folded(adapter, module).items()}
        tensors[f"{name}.alpha"] = torch.tensor(1.0)
    return {LYCORIS: (tensors, {"algo": "lokr", "format": "lycoris", "lokr_config": json.dumps(settings)}, None)}


def _diffusers(adapter: Adapter) -> dict:
    """One file; for LoRA and DoRA with PEFT's config inside, without which diffusers takes alpha = rank. LoKr is for
    pipe.transformer.load_lora_adapter, with its scale in the weights."""
    if adapter.kind != "lokr":
        config = {f"transformer.{key}": value for key, value in _peft_config(adapter, str).items()}
        tensors = _lora(adapter, "transformer.{}.{}", naming=str)
        return {DIFFUSERS: (tensors, {DIFFUSERS_CONFIG: json.dumps(config, sort_keys=True)}, None)}
    if _factorization(adapter)["unbalanced_factorization"]:
        raise RunError(adapter.path, "diffusers has no room for a LoKr of unbalanced factors; use --layout comfyui")
    tensors = {}
    for module in adapter.modules:
        tensors |= {f"transformer.{module}.{part}": tensor for part, tensor in _folded(adapter, module).items()}
    return {DIFFUSERS: (tensors, {}, None)}


# --- what they have in common -----------------------------------------------------------------------------------


def _lora(adapter: Adapter, key: str, naming=ace_name) -> dict[str, torch.Tensor]:
    items = [(naming(module), parts) for module, parts in adapter.modules.items()]
    return {key.format(name, TENSORS[part]): tensor for name, parts in items for part, tensor in parts.items()}


def _peft_config(adapter: Adapter, naming) -> dict:
    """PEFT's settings, each module with the rank and alpha that make its factor."""
    more = {"lora_dropout": 0.0, "bias": "none", "inference_mode": True}
    return {"peft_type": "LORA", "base_model_name_or_path": None} | ranks_for_peft(adapter, naming) | more


def _folded(adapter: Adapter, module: str) -> dict[str, torch.Tensor]:
    """The two factors of a LoKr, whole, its scale in the first: what a program reads that ignores alpha there."""
    parts = {part: tensor.float() for part, tensor in adapter.modules[module].items()}
    return {
        "lokr_w1": adapter.scaling[module] * factor(parts, "lokr_w1"),
        "lokr_w2": factor(parts, "lokr_w2"),
    }


def _factorization(adapter: Adapter) -> dict:
    """The `factor` from which LyCORIS and peft make the shapes of all factors of a LoKr; a RunError where none does."""
    from peft.tuners.lokr.layer import factorization

    shapes = [tuple(factor_shape(parts, name) for name in ("lokr_w1", "lokr_w2")) for parts in adapter.modules.values()]
    for number in (-1, *sorted({size for w1, _ in shapes for size in w1})):
        for unbalanced in (False, True):
            if all(_made(factorization, number, unbalanced, *shape) for shape in shapes):
                return {"factor": number, "unbalanced_factorization": unbalanced}
    reason = "its factors are cut in a way that ACE-Step's page and diffusers cannot be told"
    raise RunError(adapter.path, f"{reason}; use --layout comfyui")


def _made(factorization, number: int, unbalanced: bool, w1: tuple[int, int], w2: tuple[int, int]) -> bool:
    out, inner = factorization(w1[0] * w2[0], number), factorization(w1[1] * w2[1], number)
    return (out[::-1] if unbalanced else out, inner) == ((w1[0], w2[0]), (w1[1], w2[1]))


def _lycoris_name(module: str) -> str:
    return "lycoris_" + ace_name(module).replace(".", "_")
