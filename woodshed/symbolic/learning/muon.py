"""Muon: an optimizer that learns from half as much music as AdamW when a model is trained whole.

Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), https://kellerjordan.github.io/posts/muon/
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from ...jobs import fast_bf16

RMS = 0.2  # of AdamW's usual update, so that one learning rate suits both: https://arxiv.org/abs/2502.16982


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum for the matrices between the layers, AdamW for embeddings, heads, norms and biases.

    torch.optim.Muon takes matrices alone, and the Trainer takes one optimizer: so both rules stand here, chosen by the
    group's `matrices`.
    """

    def __init__(self, groups: Iterable[dict], lr: float, *, betas=(0.9, 0.98), eps=1e-8, momentum=0.95):
        super().__init__(groups, dict(lr=lr, weight_decay=0.0, betas=betas, eps=eps, momentum=momentum, matrices=False))

    @torch.no_grad()
    def step(self, closure=None):
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            rule = self._orthogonal if group["matrices"] else self._adam
            for weight in group["params"]:
                if weight.grad is not None:
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    rule(weight, weight.grad, self.state[weight], group)
        return loss

    def _orthogonal(self, weight, grad, state, group) -> None:
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        mean = state["momentum"].lerp_(grad, 1 - group["momentum"])
        update = orthogonal(grad.lerp(mean, group["momentum"]))
        weight.add_(update.to(weight.dtype), alpha=-group["lr"] * RMS * math.sqrt(max(weight.shape)))

    def _adam(self, weight, grad, state, group) -> None:
        if not state:
            state |= {"step": torch.zeros(()), "mean": torch.zeros_like(weight), "square": torch.zeros_like(weight)}
        state["step"] += 1
        (one, two), step = group["betas"], state["step"].item()
        mean = state["mean"].lerp_(grad, 1 - one) / (1 - one**step)
        square = state["square"].lerp_(grad.square(), 1 - two) / (1 - two**step)
        weight.addcdiv_(mean, square.sqrt_().add_(group["eps"]), value=-group["lr"])


def orthogonal(matrix: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """The matrix (m, n) with its singular values brought to about 1 (0.7 to 1.2), by a Newton-Schulz iteration."""
    tall = matrix.shape[0] > matrix.shape[1]
    found = (matrix.T if tall else matrix).to(torch.bfloat16 if fast_bf16(matrix.device.type) else torch.float32)
    found = found / (found.norm() + 1e-7)
    for _ in range(steps):
        gram = found @ found.T
        gram = torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        found = torch.addmm(found, gram, found, beta=3.4445)
    return found.T if tall else found


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """The trained parameters of a model as Muon's groups; only matrices and embeddings decay."""
    tables = [part for part in model.modules() if isinstance(part, nn.Embedding)]  # of ids, and of positions
    ends = {id(end.weight) for end in (*tables, model.get_output_embeddings()) if end is not None}
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    inner = [weight for weight in trained if weight.ndim == 2 and id(weight) not in ends]
    outer = [weight for weight in trained if id(weight) in ends]
    rest = [weight for weight in trained if weight.ndim != 2 and id(weight) not in ends]
    groups = [
        {"params": inner, "weight_decay": weight_decay, "matrices": True},
        {"params": outer, "weight_decay": weight_decay},
        {"params": rest},
    ]
    return [group for group in groups if group["params"]]
