"""What is known of music by counting its ids: what any model has to beat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .corpus import IGNORED

ROWS = 32  # that are counted


def unigram(rows: Sequence[dict]) -> float:
    """Nats a token of the shares that ids have in training rows."""
    labels = np.concatenate([rows[index]["labels"] for index in range(ROWS)])
    share = np.bincount(labels[labels != IGNORED]) / max((labels != IGNORED).sum(), 1)
    return float(-(share[share > 0] * np.log(share[share > 0])).sum())


def unigram_told(rows: Sequence[dict], validation: dict[str, float]) -> str:
    """The same as it is told; `validation`, in nats, says how many tokens there are to a note."""
    nats, a_token = unigram(rows), validation["nats_per_token"]
    units = [unit for unit in ("token", "note") if f"nats_per_{unit}" in validation]
    told = [f"{nats * validation[f'nats_per_{unit}'] / a_token:.2f} nats a {unit}" for unit in units]
    return f"counting ids alone gives {' and '.join(told)}"
