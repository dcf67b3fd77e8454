"""How much memory a training takes, by arithmetic: before it begins, and without a GPU.

Weights, adapter, gradients and optimizer are counted. What the transformer keeps for the way back was counted on one
and two layers of its real size, in bfloat16 (docs/audio.md); a GPU's own overhead and gaps are estimates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ... import jobs
from .settings import TrainSettings

if TYPE_CHECKING:
    from diffusers import AceStepTransformer1DModel

STATE_BYTES = {"adamw": 8, "adamw8bit": 2, "adafactor": 0.1, "prodigy": 16}  # of each trained weight
# bytes kept for the way back: of each position and hidden unit of a layer, and of each weight that has an adapter
KEPT = {"lora": (88, 0.0), "dora": (108, 4.6), "lokr": (76, 1.8)}
KEPT_MLP = {"lora": 30, "dora": 30, "lokr": 10}
KEPT_CONDITION = 9
CONTEXT = 500 * 1024**2  # of CUDA itself
GAPS = 0.12  # between blocks of memory
STRIDE = 2  # frames that are one position


@dataclass(frozen=True)
class Memory(jobs.Memory):
    """Bytes of a training."""

    weights: float
    adapter: float
    """With its gradients."""
    optimizer: float
    activations: float
    overhead: float


def memory(
    transformer: AceStepTransformer1DModel,
    settings: TrainSettings,
    *,
    frames: int,
    tokens: int = 512,
    weight_bytes: int = 2,
    gpu: bool = True,
) -> Memory:
    """What a training takes with these (resolved) settings: crops of `frames`, conditions of `tokens`.

    `transformer` holds its adapter already, and may be on torch's meta device. `weight_bytes` of a weight
    of the base and of an activation: 2 in bfloat16, 4 in float32.
    """
    total = sum(parameter.numel() for parameter in transformer.parameters())
    trained = sum(parameter.numel() for parameter in transformer.parameters() if parameter.requires_grad)
    weights = (total - trained) * weight_bytes
    activations = _activations(transformer, settings, frames, tokens) * weight_bytes / 2
    optimizer = trained * STATE_BYTES[settings.optimizer]
    overhead = CONTEXT * gpu + GAPS * (8 * trained + optimizer + activations)
    return Memory(weights, 8 * trained, optimizer, activations, overhead)


def _activations(transformer, settings: TrainSettings, frames: int, tokens: int) -> float:
    """Bytes in bfloat16 that are kept for the way back."""
    config, batch = transformer.config, settings.batch_size
    hidden, layers = config.hidden_size, config.num_hidden_layers
    positions = -(-frames // STRIDE) * batch
    named = transformer.layers.named_modules()
    adapted = {name: module.weight.numel() for name, module in named if name.endswith(".base_layer")}
    each, of_weight = KEPT[settings.kind]
    each += KEPT_MLP[settings.kind] * any(".mlp." in name for name in adapted)
    layer = hidden * (positions * each + tokens * batch * KEPT_CONDITION) + of_weight * sum(adapted.values()) / layers
    if not settings.gradient_checkpointing:
        return layers * layer
    return layer + layers * positions * hidden * 2
