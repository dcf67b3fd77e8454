"""woodshed keep"""

from ..symbolic.playing.keep import keep
from .terminal import FilePaths, RunOption


def command(takes: FilePaths, run: RunOption = None):
    """Keep takes that you like: woodshed prepare --kept RUN then learns from them too.

    They are copied, with the .json beside them, into RUN/kept; take out of that folder what you no longer like.

    Args:
        takes: the takes, .mid files that woodshed has played, or folders of them
        run: the run whose takes they are; by default the one that played them, above them or where you are
    """
    for kept in keep(takes, run):
        print(f"{kept.path}: kept already" if kept.before else f"{kept.path}: kept")
