"""woodshed train"""

import sys
from pathlib import Path

from tyro.conf import DisallowNone

from ..symbolic.data.corpus import open_corpus
from ..symbolic.data.prepare import changes_line
from ..symbolic.learning.settings import TrainSettings
from .terminal import CorpusPath, bar


def command(corpus: CorpusPath, out: Path, settings: DisallowNone[TrainSettings]):
    """Teach a model: a corpus in, a run out. Ctrl-C saves; --resume goes on.

    Args:
        corpus: a folder made by woodshed prepare
        out: the run, a new folder (or with --resume the run to go on with)
        settings: how to train
    """
    opened = open_corpus(corpus)
    if changes := changes_line(opened):
        print(f"woodshed: {changes}", file=sys.stderr)
    train_with_bar(opened, out, settings)


def train_with_bar(corpus, out: Path, settings=None, **changes):
    """train() with a progress bar that shows loss and time left."""
    from ..symbolic.learning.train import train

    with bar("training") as report:
        return train(corpus, out, settings, report=report, **changes)
