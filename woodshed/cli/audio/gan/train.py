"""woodshed audio gan train"""

from pathlib import Path

from ....audio.gan.settings import GanSettings
from ....files import quoted
from ...terminal import CodecOption, FolderPath, bar


def command(folder: FolderPath, out: Path, settings: GanSettings, codec: CodecOption = None):
    """Teach a model: a folder of recordings and a codec in, a run out. Ctrl-C saves; --resume goes on.

    Args:
        folder: the recordings; everything below it is read, what is shorter than a --window is left out
        out: the run, a new folder (or with --resume the run to go on with)
        settings: how to train
        codec: a codec made by woodshed audio codec train, or another one that can be opened; with --resume by default
            the run's own copy
    """
    from ....audio.gan.train import train

    with bar("training") as report:
        train(folder, out, codec=codec, settings=settings, report=report)
    print(f"{out}: play it with woodshed audio gan generate {quoted(out)}")
