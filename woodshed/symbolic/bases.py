"""The base models in the package: small models that already know music, for anyone to start from.

A base is a run without a log, in `woodshed/bases/NAME-VERSION` (`piano-3`); the plain name (`piano`) is the newest.
A name works wherever a command takes a run or a base.
"""

from __future__ import annotations

import re
from pathlib import Path

from .tokenizers import saved_facts

FOLDER = Path(__file__).parents[1] / "bases"
NAME = re.compile(r"[a-z][a-z-]*-\d+")


def names() -> list[str]:
    """The bases there are, by name and version, older versions first."""
    there = [path for path in FOLDER.glob("*-*") if NAME.fullmatch(path.name)]
    found = [path.name for path in there if (path / "model.safetensors").exists()]
    return sorted(found, key=lambda name: (name.rpartition("-")[0], int(name.rpartition("-")[2])))


def newest() -> list[str]:
    """The plain names, each of which is the newest of its versions."""
    return [*dict.fromkeys(name.rpartition("-")[0] for name in names())]


def find(name: str) -> Path | None:
    """The folder of a base: `piano-3`, or the newest `piano`; None where there is none of that name."""
    versions = [known for known in names() if name in (known, known.rpartition("-")[0])]
    return FOLDER / versions[-1] if versions else None


def fitting(fingerprint: str) -> str | None:
    """The name and version of the newest base with the same ids as the tokenizer of a fingerprint, or None."""
    fits = [name for name in names() if saved_facts(FOLDER / name)["fingerprint"] == fingerprint]
    return fits[-1] if fits else None
