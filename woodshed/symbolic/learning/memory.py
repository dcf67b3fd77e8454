"""How much memory a training takes, told before its first step.

What the model keeps of a row for the way back is counted in forward passes over three short ones (autograd's saved
tensors), and a parabola through them tells it of a row of any length: attention may keep its weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ... import jobs
from ...jobs import GB
from .course import Course
from .muon import Muon
from .settings import TrainSettings, lighter

if TYPE_CHECKING:
    from .callbacks import Learner

SHORT = 128  # ids in the first of the short rows, at most: as many as queries in a block of our attention
LOGIT_BYTES = 16  # of each logit: itself, its logarithm and the gradients of both, in float32
# Of what is kept: gaps between blocks, and what comes and goes (benchmarks/memory.py, on the CPU). What adapters read
# in float32 comes and goes between what they keep.
GAPS, ADAPTER_GAPS = 0.35, 0.6
STATE_BYTES = 8  # of each trained weight: AdamW's two averages


@dataclass(frozen=True)
class Memory(jobs.Memory):
    """Bytes of a training, besides what Python, torch and CUDA take for themselves."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    logits: float
    gaps: float


def memory(learner: Learner, rows: int, length: int) -> Memory:
    """What a step of so many rows of `length` ids at once takes, with the learner's model and optimizer, where they
    are. No random number of the training is drawn."""
    model = learner.model
    weights = {id(weight): weight for weight in model.parameters()}.values()
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    half = torch.bfloat16 if learner.args.bf16 else torch.float16 if learner.args.fp16 else None
    once, of_row = _kept(model, length, half)
    logits = rows * length * model.config.vocab_size * LOGIT_BYTES
    kept = [4 * trained, _optimizer_bytes(learner.optimizer), once + rows * of_row, logits]
    gaps = (ADAPTER_GAPS if hasattr(model, "peft_config") else GAPS) * sum(kept)
    return Memory(sum(weight.numel() * weight.element_size() for weight in weights), *kept, gaps)


def _kept(model, length: int, half: torch.dtype | None) -> tuple[float, float]:
    """Bytes kept for the way back: once, and of each row of `length` ids; `half` is what autocast computes in."""
    short = min(SHORT, length // 3)
    lengths = [short, 2 * short, 3 * short]
    device, was = model.device, model.training
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        torch.autocast(device.type, half, enabled=half is not None),
    ):
        model.train()
        curve = np.polyfit(lengths, [_saved(model, count) for count in lengths], 2)
        model.train(was)
    once = max(float(curve[2]), 0.0)
    return once, float(np.polyval(curve, length)) - once


def _saved(model, length: int) -> int:
    """Bytes that one row of so many ids leaves for the way back, without the weights."""
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    found: dict[int, int] = {}

    def seen(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # itself, it would hold what made it and so itself, and never be freed

    ids = torch.ones((1, length), dtype=torch.long, device=model.device)
    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(seen, lambda tensor: tensor):
        out = model(input_ids=ids)  # held until all is counted: no two have the same place
    del out
    return sum(found.values())


def _optimizer_bytes(optimizer: torch.optim.Optimizer) -> float:
    """What an optimizer will remember: Muon one number of each weight of a matrix, AdamW two of every weight, one in 8
    bits two bytes."""
    each = 2 if "8bit" in type(optimizer).__name__ else STATE_BYTES
    return sum(
        weight.numel() * (4 if isinstance(optimizer, Muon) and group["matrices"] else each)
        for group in optimizer.param_groups
        for weight in group["params"]
    )


def advice(found: Memory, settings: TrainSettings, course: Course, at_hand: float | None) -> str:
    """Where a GPU has less memory `at_hand` than was found, what to lower; else nothing."""
    if at_hand is None or found.total <= at_hand:
        return ""
    alike = f"--batch-size 1 --gradient-accumulation {course.batch_size * course.accumulation}"
    fewer = [f"a smaller --batch-size than {course.batch_size} ({alike} learns the same)"] * (course.batch_size > 1)
    return f"; the GPU has {at_hand / GB:.2f} GB free: give {lighter(settings, *fewer)}"


def free_memory(device: torch.device) -> float | None:
    """Bytes of a CUDA device that a training can take, what it has already with them; None of any other."""
    if device.type != "cuda":
        return None
    return torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device)
