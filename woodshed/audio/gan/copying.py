"""Whether takes copy: how near their stretches of latents come to anything that was learned, wherever that begins, and
with left and right exchanged as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from ...statistics import evenly
from .latents import Latents

STRETCH = 3.0  # seconds
MOST_HELD = 300  # stretches of held-out music
CLOSEST = 5  # stretches of takes that are named
LEVEL = 5  # percent of the held-out stretches that are nearer to what was learned than what counts as near
BLOCK = 2048  # learned stretches at once


def neighbours(known: Latents, new: Latents, takes: list[np.ndarray], random: list[np.ndarray], rate: float) -> dict:
    """How near each stretch of takes, held-out music (`new`) and random latents comes to what was learned (`known`), of
    `rate` latents a second; and the nearest stretches of takes, named. Takes shorter than a stretch are not judged.
    """
    size = max(2, round(STRETCH * rate))
    _, held = new.windows(size, every=max(1, size // 2))
    held = held[evenly(range(len(held)), MOST_HELD)]
    asked = {"held-out": held, "takes": _stretches(takes, size), "random": _stretches(random, size)}
    near = {name: nearest_learned(stretches, known) for name, stretches in asked.items() if len(stretches)}
    level = float(np.percentile(near["held-out"][0], LEVEL)) if "held-out" in near else 0.0
    found: dict = {"stretch_seconds": round(size / rate, 2), "level": round(level, 4)}
    found["median"] = {name: _round(np.median(far)) for name, (far, _) in near.items()}
    found["nearest"] = {name: _round(far.min()) for name, (far, _) in near.items()}
    if "takes" not in near:
        return found
    far, frames = near["takes"]
    found["share_within_level"] = round(float((far < level).mean()), 4)
    per_take = len(far) // len(takes)
    found["closest"] = []
    for at in _spread(far, per_take):
        file, frame = known.place(int(frames[at]))
        take, stretch = divmod(at, per_take)
        moment = {"take": take + 1, "take_second": round(stretch * (size // 2) / rate, 1)}
        found["closest"].append(moment | {"file": file, "second": round(frame / rate, 1), "distance": _round(far[at])})
    return found


def nearest_learned(asked: np.ndarray, known: Latents) -> tuple[np.ndarray, np.ndarray]:
    """How far each stretch (n, size, latent_dim) is from the nearest one that was learned, and the frame at which that
    begins: 1 minus the cosine, which takes nothing soft or plain for near; 0 is a copy, 1 has nothing in common.
    """
    size, far, frames = asked.shape[1], np.full(len(asked), 2.0), np.zeros(len(asked), int)
    asked = _unit(asked)
    for first, learned in _learned(known, size):
        alike = asked @ _unit(learned).T
        best = alike.argmax(axis=1)
        apart = 1 - alike[np.arange(len(asked)), best]
        nearer = apart < far
        far[nearer], frames[nearer] = apart[nearer], first + best[nearer]
    return far, frames


def _learned(known: Latents, size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Every stretch of `size` frames of each recording and of its mirror image, BLOCK at a time: the frame at which the
    first begins, and (count, size, latent_dim)."""
    for data in [known.data] if known.mirrored is None else [known.data, known.mirrored]:
        for begin, end in itertools.pairwise(known.first):
            for first in range(begin, end - size + 1, BLOCK):
                piece = data[first : min(first + BLOCK + size - 1, end)]
                yield first, np.lib.stride_tricks.sliding_window_view(piece, size, axis=0).transpose(0, 2, 1)


def _stretches(pieces: list[np.ndarray], size: int) -> np.ndarray:
    """Overlapping stretches (n, size, latent_dim) of pieces of one length; none where they are shorter."""
    starts = np.arange(0, len(pieces[0]) - size + 1, max(1, size // 2))
    return np.concatenate([piece[starts[:, None] + np.arange(size)] for piece in pieces])


def _unit(stretches: np.ndarray) -> np.ndarray:
    """Each stretch as one vector of length 1, in float32."""
    flat = stretches.reshape(len(stretches), -1).astype(np.float32)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9)


def _spread(far: np.ndarray, per_take: int) -> list[int]:
    """The nearest stretches, one a take, the nearest first."""
    best = far.reshape(-1, per_take).argmin(axis=1) + per_take * np.arange(len(far) // per_take)
    return sorted(best.tolist(), key=lambda at: far[at])[:CLOSEST]


def _round(value: float) -> float:
    return round(float(value), 4)
