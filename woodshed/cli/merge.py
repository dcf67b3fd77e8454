"""woodshed merge"""

from pathlib import Path

from ..symbolic.learning.merge import merge
from .terminal import RunPath


def command(run: RunPath, out: Path):
    """Make an adapter and its base one: a run that can be given away alone.

    Args:
        run: a run made by woodshed train on a base
        out: the whole run, a folder that does not exist yet; takes and log stay with the old one
    """
    merged = merge(run, out)
    print(f"{out}: {merged.facts['parameters']:,} parameters, no base needed")
