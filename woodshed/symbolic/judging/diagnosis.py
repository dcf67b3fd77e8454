"""What a diagnosis is: what is wrong, how one can tell, why, and the flags that put it right."""

from __future__ import annotations

from dataclasses import dataclass

from ...files import quoted


@dataclass(frozen=True)
class Remedy:
    """A command with the flags to use, and what it does."""

    verb: str
    flags: str
    why: str

    def line(self, run: str) -> str:
        run = quoted(run)
        out = run if "--resume" in self.flags else "NEW"
        where = {"train": f"CORPUS --out {out}", "prepare": "FOLDER --out NEW", "inspect": "FOLDER", "generate": run}
        return f"woodshed {self.verb} {where[self.verb]} {self.flags.replace('RUN', run)}".rstrip()


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong: `symptom` has the figure and the yardstick. Severity 3 has stopped the run, 1 is good to know."""

    name: str
    severity: int
    symptom: str
    cause: str
    remedies: tuple[Remedy, ...]
