"""woodshed audio ace train"""

from pathlib import Path

from ....audio.ace.settings import TrainSettings
from ....files import quoted
from ...terminal import BaseOption, TensorsPath, bar


def command(tensors: TensorsPath, out: Path, settings: TrainSettings, base: BaseOption = None):
    """Teach an adapter: tensors in, a run out. Ctrl-C saves; --resume goes on.

    Args:
        tensors: a folder made by woodshed audio ace prepare
        out: the run, a new folder (or with --resume the run to go on with)
        settings: how to train
        base: the ACE-Step model; by default the one the tensors were made with
    """
    from ....audio.ace.train import train

    with bar("training") as report:
        train(tensors, out, settings, base=base, report=report)
    print(f"{out}: play it with woodshed audio ace generate BASE --adapter {quoted(out)}")
