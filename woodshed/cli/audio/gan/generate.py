"""woodshed audio gan generate"""

from pathlib import Path

from tyro.conf import Positional

from ....audio.gan.settings import GenerateSettings
from ....files import free_folder, new_folder
from ...terminal import bar


def command(run: Positional[Path], settings: GenerateSettings, out: Path | None = None, codec: str | None = None):
    """Play new sound of any length.

    Args:
        run: a run made by woodshed audio gan train
        settings: what to play
        out: where the takes go, in a folder with the next free number; by default RUN/takes
        codec: another folder of its codec; by default the run's own copy (of an oobleck: where its model is)
    """
    from ....audio.gan.generate import generate, save_take
    from ....audio.gan.run import open_run

    opened = open_run(run, codec=codec)
    parent = out or run / "takes"
    with new_folder(parent), bar("playing") as progress:
        folder = free_folder(parent)
        try:
            for number, take in enumerate(generate(opened, settings, progress=progress), 1):
                path, *_ = save_take(take, folder / f"{take.facts['run']}_seed{take.facts['seed']}_take-{number}")
                spent = take.facts["seconds_spent"]
                times = take.audio.seconds / sum(spent.values())
                told = f"{take.audio.seconds:.1f} s, seed {take.facts['seed']}, {times:.0f} times as fast as it sounds"
                print(f"{path}: {told} (network {spent['network']:.2f} s, codec {spent['codec']:.2f} s)")
        finally:
            if not any(folder.iterdir()):
                folder.rmdir()
