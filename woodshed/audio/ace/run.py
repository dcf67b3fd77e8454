"""A run of an adapter's training: its folder, and one call that trains in it.

adapter_config.json, adapter_model.safetensors    the best by validation, in PEFT's layout
run.json, log.jsonl, loss.png, takes/, README.md
checkpoint-000500/                                an adapter as above, and in the newest what a resume needs
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from ... import jobs
from ...errors import RunError
from ...files import object_in
from ...jobs import FACTS, checkpoints_with
from ...progress import Reporter
from .settings import TrainSettings
from .tensors import Tensors

PICTURE, STATE = "loss.png", "state.json"
KNOWN = {"base", "base_fingerprint", "songs", "settings", "finished"}


@dataclass
class Job(jobs.Job):
    """One call of train(), with all that is decided before the first step."""

    tensors: Tensors
    base: Path | str
    """A folder, or a Hugging Face id."""
    out: Path
    settings: TrainSettings
    report: Reporter
    learned: list[int]
    """Which samples are learned, and which only measured."""
    measured: list[int]
    facts: dict = field(default_factory=dict)
    """run.json"""
    saved: dict = field(default_factory=dict)
    """What stood there when a run goes on."""

    @property
    def steps(self) -> int:
        """The limit that is nearer."""
        limits = [self.settings.max_steps] if self.settings.max_steps else []
        if self.settings.epochs:
            limits.append(math.ceil(self.settings.epochs * len(self.learned) / self.crops_per_step))
        return min(limits)

    @property
    def crops_per_step(self) -> int:
        return self.settings.batch_size * self.settings.gradient_accumulation

    @property
    def epochs_per_step(self) -> float:
        return self.crops_per_step / len(self.learned)


def read_facts(out: Path) -> dict:
    """run.json of a run. Raises RunError where there is none."""
    facts = object_in(out / FACTS)
    if not facts.keys() >= KNOWN:
        raise RunError(out, f"no run of an adapter (no {FACTS} of ours); leave out --resume to begin one")
    return facts


def checkpoints(out: Path) -> dict[int, Path]:
    """The checkpoints of a run by their steps; one whose save was interrupted is none."""
    return checkpoints_with(out, STATE)
