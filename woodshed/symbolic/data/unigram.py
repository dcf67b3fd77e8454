"""What a loss is compared with: what the base with the same ids has come to, or else what counting them gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...files import read_object
from ...jobs import FACTS
from .. import bases
from .corpus import IGNORED

ROWS = 32  # that are counted
UNITS = ("token", "note")


def for_comparison(fingerprint: str, rows: Sequence[dict] | None, validation: Mapping[str, float]) -> str:
    """What nats are told beside: those of the base with the ids of a fingerprint, on music of its own kind, or those of
    counting ids, which any model has to beat; empty without such a base and training rows.

    `validation`, in nats, says how many tokens there are to a note.
    """
    base = bases.fitting(fingerprint)
    if base and (known := read_object(bases.FOLDER / base / FACTS).get("validation")):
        return f"{base} has {_told(known)} on its own kind of music"
    if rows is None:
        return ""
    return f"counting ids alone gives {_told(validation, unigram(rows) / validation['nats_per_token'])}"


def unigram(rows: Sequence[dict]) -> float:
    """Nats a token of the shares that ids have in training rows."""
    labels = np.concatenate([rows[index]["labels"] for index in range(ROWS)])
    share = np.bincount(labels[labels != IGNORED]) / max((labels != IGNORED).sum(), 1)
    return float(-(share[share > 0] * np.log(share[share > 0])).sum())


def _told(validation: Mapping[str, float], times: float = 1.0) -> str:
    known = {unit: validation[f"nats_per_{unit}"] for unit in UNITS if f"nats_per_{unit}" in validation}
    return " and ".join(f"{nats * times:.2f} nats a {unit}" for unit, nats in known.items())
