"""woodshed train"""

import sys
from pathlib import Path

from tyro.conf import DisallowNone

from ..page import clock
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

    with bar("training") as progress:

        def report(now):
            if now.message:
                progress.say(now.message)
            elif now.validation:
                told = ", ".join(f"{value:.3f} {name.replace('_', ' ')}" for name, value in now.validation.items())
                progress.say(f"step {now.step}: validation {told}")
            else:
                left = clock(now.seconds_left)
                progress(now.step / max(now.steps, 1), f"step {now.step}  loss {now.loss:.3f}  {left} left")

        return train(corpus, out, settings, report=report, **changes)
