"""A folder of modules is a menu: the file name is the name, and one new file is one new entry."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from .errors import InputError


def names(package: str) -> list[str]:
    """The entries of a menu, sorted: every public module in `package`, none of them imported."""
    folder = importlib.import_module(package).__path__
    return sorted(module.name for module in pkgutil.iter_modules(folder) if not module.name.startswith("_"))


def load(package: str, name: str, kind: str) -> ModuleType:
    """Import one entry of a menu. An unknown name is an InputError that lists what there is."""
    if name not in names(package):
        raise InputError(f"unknown {kind} {name!r}; choose from: {', '.join(names(package))}")
    return importlib.import_module(f"{package}.{name}")
