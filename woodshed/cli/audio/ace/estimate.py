"""woodshed audio ace estimate"""

from pathlib import Path

from ....audio.ace.estimate import EstimateSettings, estimate
from ...terminal import BaseOption, TensorsPath, bar

SHOWN = 20


def command(tensors: TensorsPath, out: Path, settings: EstimateSettings, base: BaseOption = None):
    """Estimate which modules the music moves most, for woodshed audio ace train --ranks.

    Args:
        tensors: a folder made by woodshed audio ace prepare
        out: the file of ranks, new
        settings: how to estimate
        base: the ACE-Step model; by default the one the tensors were made with
    """
    with bar("estimating") as report:
        found = estimate(tensors, out, settings, base=base, report=report)
    for module in found.modules[:SHOWN]:
        print(f"{module.rank:4d}  {module.sensitivity:.2e}  {module.name}")
    kept = sum(bool(module.rank) for module in found.modules)
    told = "their order is settled" if found.settled else "their order is not settled yet: give more --batches"
    print(f"{out}: {kept} of {len(found.modules)} modules, measured on {found.batches} crops; {told}")
