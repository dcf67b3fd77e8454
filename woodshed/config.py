"""Settings are dataclasses: the fields are the flags of a verb and the keywords of its function."""

from __future__ import annotations

import dataclasses
import difflib
from typing import TypeVar

from .errors import InputError

Settings = TypeVar("Settings")


def updated(kind: type[Settings], settings: Settings | None, changes: dict) -> Settings:
    """`settings` (or the defaults of `kind`) with some fields changed; an unknown name is an InputError."""
    names = [field.name for field in dataclasses.fields(kind)]
    for name in changes:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose from: {', '.join(names)}"
            raise InputError(f"{kind.__name__} has no setting {name!r}; {hint}")
    return dataclasses.replace(settings if settings is not None else kind(), **changes)
