"""woodshed again"""

from pathlib import Path

from ..symbolic.data.take_files import takes_in
from ..symbolic.playing.again import recall, verdict
from .generate import TakeFiles, generate_with_bar
from .terminal import FilePath, RunOption


def command(
    take: FilePath,
    files: TakeFiles,
    run: RunOption = None,
    prompt: Path | None = None,
    device: str | None = None,
    anyway: bool = False,
):
    """Play a take again from what its file says: with the same run, settings and seed come the same notes.

    Where the run or the file it was played in has changed since, it says so and stops. Another version, engine or
    machine may give other notes: the last line says whether they are the same.

    Args:
        take: the .mid or .json of a take
        files: where it goes, and what plays it
        run: the run that played it, where it is neither above the take nor where you are
        prompt: the MIDI file that it was played in, where that has moved
        device: where the model computes, where this machine has not the device that it was played on
        anyway: play on where the run or that file has changed since, though other notes come
    """
    found = recall(take, run=run, prompt=prompt, device=device, anyway=anyway)
    for remark in found.remarks:
        print(remark)
    folder = generate_with_bar(found.run.folder, found.settings, files)
    if told := verdict(take, takes_in(folder)[0], found):
        print(told)
