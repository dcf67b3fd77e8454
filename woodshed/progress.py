"""How far a long job is: all of them tell it in one way, to whoever listens.

generate("my-style", bars=16, report=print)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Progress:
    """What is done of a job and what is being done, a step of a training among it; or a message."""

    share: float = math.nan
    """What is done of the whole, 0 to 1."""
    text: str = ""
    """What is being done."""
    message: str = ""
    """Instead of both a line worth keeping, such as the `validation` after a step."""
    step: int = 0
    loss: float = math.nan
    seconds_left: float = math.nan
    validation: dict[str, float] = field(default_factory=dict)


Reporter = Callable[[Progress], None]


def unheard(now: Progress) -> None:
    """Where nobody listens."""


def part(report: Reporter, start: float, end: float, name: str = "") -> Reporter:
    """Where a part of a job reports, from `start` to `end` of the whole; under a name if it has one."""

    def told(now: Progress) -> None:
        text = "  ".join(filter(None, (name, now.text)))
        message = f"{name}: {now.message}" if name and now.message else now.message
        report(replace(now, share=start + (end - start) * now.share, text=text, message=message))

    return told
