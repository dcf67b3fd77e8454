"""Files of tensors, in the layout of safetensors, and what an optimizer has to keep in one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..files import write_file

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer


def serialized(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """Tensors of any device and order in memory, as a file holds them."""
    from safetensors.torch import save

    return save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, metadata)


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file, whole or not at all. Raises FileError."""
    write_file(path, serialized(tensors, metadata))  # their own writer tells a full disk as an error of Rust


def optimizer_tensors(optimizer: Optimizer) -> dict[str, Tensor]:
    """What an optimizer keeps of each parameter, by the parameter's number and a name."""
    import torch

    states = optimizer.state_dict()["state"].items()
    return {f"{number}.{name}": torch.as_tensor(value) for number, state in states for name, value in state.items()}


def restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what optimizer_tensors() gave."""
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        states.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": states})
