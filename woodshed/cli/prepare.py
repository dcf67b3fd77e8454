"""woodshed prepare"""

from pathlib import Path

from ..symbolic.data.prepare import PrepareSettings, corpus_lines, prepare
from .terminal import FolderPath, bar


def command(folder: FolderPath, out: Path, settings: PrepareSettings):
    """Make a corpus of a folder of MIDI.

    Args:
        folder: the folder; everything below it is read
        out: the corpus, a folder that does not exist yet
        settings: how to prepare
    """
    with bar("preparing") as report:
        corpus = prepare(folder, out, settings, report=report)
    for line in corpus_lines(corpus):
        print(line)
