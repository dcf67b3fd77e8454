"""woodshed audio gan generate"""

from itertools import count
from pathlib import Path

from ....audio.gan.settings import GenerateSettings
from ....files import numbered_folder
from ...terminal import CodecOption, RunPath, bar


def command(run: RunPath, settings: GenerateSettings, out: Path | None = None, codec: CodecOption = None):
    """Play new sound, as long as you like (four hours at most): it fades out, or with --loop leads back to its start.

    Args:
        run: a run made by woodshed audio gan train
        settings: what to play
        out: where the takes go, in a folder with the next free number; by default RUN/takes
        codec: another folder of its codec; by default the run's own copy (of an oobleck: where its model is)
    """
    from ....audio.gan.generate import generate, save_take
    from ....audio.gan.run import open_run

    opened = open_run(run, codec=codec)
    with numbered_folder(out or run / "takes") as folder, bar("playing") as report:
        numbers = count(1)  # enumerate() would hold on to a take while the next one is played
        for take in generate(opened, settings, report=report):
            path, *_ = save_take(take, folder, next(numbers))
            spent = take.facts["seconds_spent"]
            told = f"{take.audio.seconds:.1f} s, seed {take.facts['seed']}, {take.speed:.0f} times as fast as it sounds"
            print(f"{path}: {told} (network {spent['network']:.2f} s, codec {spent['codec']:.2f} s)")
            del take
