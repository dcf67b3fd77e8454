"""All verbs of the command line."""

from importlib import import_module
from pathlib import Path

from woodshed import cli


def commands(*words: str) -> list[str]:
    """Every command, in full words: "train", "audio scan"; or those that begin with some."""
    package = import_module(".".join((cli.__name__, *words)).replace("-", "_"))
    inside = Path(package.__file__).parent
    found = []
    for verb in package.VERBS:
        nested = (inside / verb.replace("-", "_")).is_dir()
        found += commands(*words, verb) if nested else [" ".join((*words, verb))]
    return found
