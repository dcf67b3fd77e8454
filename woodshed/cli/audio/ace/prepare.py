"""woodshed audio ace prepare"""

from pathlib import Path

from ....audio.ace.prepare import PrepareSettings, prepare
from ....files import shown
from ...terminal import BaseNamed, DatasetPath, bar


def command(dataset: DatasetPath, base: BaseNamed, out: Path, settings: PrepareSettings):
    """Make tensors of a dataset, once for all adapters; interrupted, it goes on where it was.

    Args:
        dataset: a file made by woodshed audio scan
        base: the ACE-Step model to be taught: a folder in the layout of diffusers, or a Hugging Face id
        out: the folder of the tensors
        settings: how to make them
    """
    with bar("preparing") as report:
        tensors = prepare(dataset, base, out, settings, report=report)
    for entry in tensors.facts["skipped"]:
        print(shown(f"{entry['name']}: left out: {entry['reason']}"))
    for sample in tensors.samples:
        if sample.remark:
            print(shown(f"{sample.name}: {sample.remark}"))
    seconds = sum(sample.seconds for sample in tensors.samples)
    print(f"{out}: {len(tensors)} samples, {seconds / 60:.1f} minutes, for {base}")
