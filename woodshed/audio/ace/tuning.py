"""The adapter on the transformer: LoRA, DoRA and LoKr by PEFT, saved in PEFT's own layout; its optimizer and its rate.

adapter_config.json         kind, rank, alpha, targets
adapter_model.safetensors   base_model.model.layers.0.self_attn.to_q.lora_A.weight, ...
"""

from __future__ import annotations

import io
import json
import math
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from ...errors import InputError, MissingExtra, RunError
from ...files import read_object, write_file
from ..tensor_files import write_tensors
from .layouts import CONFIG, PEFT
from .settings import TARGETS, TrainSettings

if TYPE_CHECKING:
    from diffusers import AceStepTransformer1DModel
    from peft import PeftConfig

PREFIX = "base_model.model."  # so that PeftModel.from_pretrained opens it too
NAME = "default"
WARMUP_STEPS, WARMUP_START, FLOOR = 100, 0.1, 0.01


class OwnMask:
    """Lets the cross attention of a transformer see only what is no padding.

    The transformer of diffusers takes no mask for its condition: without this, a batch of prompts of unequal length
    would attend to their padding.
    """

    def __init__(self, transformer: AceStepTransformer1DModel):
        self.mask: torch.Tensor | None = None
        for block in transformer.layers:
            block.cross_attn.register_forward_pre_hook(self._masked, with_kwargs=True)

    def __call__(self, mask: torch.Tensor | None) -> None:
        """The mask (batch, tokens) of the batch that comes next."""
        self.mask = None if mask is None else mask[:, None, None, :]

    def _masked(self, module, args, kwargs):
        return args, kwargs | {"attention_mask": self.mask}


# --- the adapter -----------------------------------------------------------------------------------------------


def adapter_config(settings: TrainSettings, base: str) -> PeftConfig:
    """What PEFT needs to know. Raises InputError where --ranks is not a file of `woodshed audio ace estimate`."""
    from peft import LoKrConfig, LoraConfig

    common: dict[str, Any] = {"r": settings.rank, "target_modules": list(TARGETS[settings.targets])}
    if settings.ranks:
        common |= read_ranks(settings.ranks)
        common["target_modules"] = list(common["rank_pattern"])
    common |= {"base_model_name_or_path": base}
    if settings.kind == "lokr":
        common |= {"alpha_pattern": common["rank_pattern"]} if settings.ranks else {}
        split = {"decompose_factor": settings.lokr_factor}
        return LoKrConfig(alpha=settings.alpha, **common, **split)
    more = {"lora_dropout": settings.dropout, "use_dora": settings.kind == "dora"}
    return LoraConfig(lora_alpha=settings.alpha, **common, **more)


def read_ranks(path: Path) -> dict[str, dict[str, int]]:
    """rank_pattern and alpha_pattern of a file of `woodshed audio ace estimate`."""
    try:
        ranks = read_object(path)
        patterns = {name: {str(k): v for k, v in ranks[name].items()} for name in ("rank_pattern", "alpha_pattern")}
        if not patterns["rank_pattern"] or not all(v > 0 for pattern in patterns.values() for v in pattern.values()):
            raise ValueError("it has no ranks above 0")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"--ranks {path}: {error}; make it with woodshed audio ace estimate") from None
    return patterns


def add_adapter(transformer: AceStepTransformer1DModel, config: PeftConfig, seed: int) -> None:
    """Freeze the transformer and put a new adapter in, float32; its weights follow from the seed."""
    transformer.requires_grad_(False)
    torch.manual_seed(seed)
    try:
        transformer.add_adapter(config, adapter_name=NAME)
    except ValueError as error:
        raise InputError(f"the adapter does not fit the base: {error}") from None
    for parameter in trained(transformer):
        parameter.data = parameter.data.float()


def trained(transformer: AceStepTransformer1DModel) -> list[torch.nn.Parameter]:
    return [parameter for parameter in transformer.parameters() if parameter.requires_grad]


def save_adapter(transformer: AceStepTransformer1DModel, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors. Raises FileError."""
    from peft import get_peft_model_state_dict

    config = transformer.peft_config[NAME].to_dict() | {"inference_mode": True}
    weights = get_peft_model_state_dict(transformer, adapter_name=NAME)
    write_tensors(folder / PEFT, {PREFIX + name: value for name, value in weights.items()}, {"format": "pt"})
    write_file(folder / CONFIG, json.dumps(config, indent=2, default=_listed, sort_keys=True))


def load_adapter(transformer: AceStepTransformer1DModel, folder: Path) -> None:
    """Weights of a folder into the adapter that is there. A RunError where a single one is missing or too much."""
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    weights = {name.removeprefix(PREFIX): value for name, value in load_file(folder / PEFT).items()}
    shapes = {name: value.shape for name, value in get_peft_model_state_dict(transformer, adapter_name=NAME).items()}
    if shapes != {name: value.shape for name, value in weights.items()}:
        raise RunError(folder, "its weights do not fit its settings; was it changed by hand?")
    set_peft_model_state_dict(transformer, weights, adapter_name=NAME)


def _listed(value):
    return sorted(value) if isinstance(value, set) else str(value)


# --- the optimizer ---------------------------------------------------------------------------------------------


def make_optimizer(parameters: list[torch.nn.Parameter], settings: TrainSettings) -> torch.optim.Optimizer:
    """The optimizer of the settings. Raises MissingExtra where its package is not installed."""
    rates = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
    if settings.optimizer == "adamw8bit":
        try:
            from bitsandbytes.optim import AdamW8bit
        except ImportError:
            raise MissingExtra("bitsandbytes", "qlora") from None
        return AdamW8bit(parameters, **rates)
    if settings.optimizer == "adafactor":
        from transformers.optimization import Adafactor

        return Adafactor(parameters, **rates, scale_parameter=False, relative_step=False)
    if settings.optimizer == "prodigy":
        try:
            from prodigyopt import Prodigy
        except ImportError:
            raise MissingExtra("prodigyopt", "prodigy") from None
        with redirect_stdout(io.StringIO()):  # it prints that it decouples the weight decay
            return Prodigy(parameters, **rates, use_bias_correction=True, safeguard_warmup=True)
    return torch.optim.AdamW(parameters, **rates)


def rate(step: int, steps: int, schedule: str) -> float:
    """The learning rate of a step as a share of its peak: from a tenth up to 1, then along the schedule to 0.01."""
    warmup = min(WARMUP_STEPS, steps // 10)
    if step < warmup:
        return WARMUP_START + (1 - WARMUP_START) * step / warmup
    done = (step - warmup) / max(steps - warmup, 1)
    shape = {"cosine": (1 + math.cos(math.pi * done)) / 2, "linear": 1 - done, "constant": 1.0}[schedule]
    return FLOOR + (1 - FLOOR) * shape
