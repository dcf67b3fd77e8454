"""The command line: one verb, one module here, its settings the flags. It parses, shows progress and prints.

A folder with VERBS of its own is a verb with verbs: `woodshed audio scan` is audio/scan.py.
"""

import os
import sys
from errno import EDQUOT, ENOSPC
from importlib import import_module
from io import TextIOWrapper
from types import ModuleType

from ..errors import InputError, WoodshedError
from ..files import shown

FULL = (ENOSPC, EDQUOT)
VERBS = {
    "inspect": "look at a folder of MIDI before training: what is usable, what is wrong, is there enough",
    "prepare": "make a corpus of a folder of MIDI",
    "train": "teach a model: a corpus in, a run out",
    "merge": "make an adapter and its base one run",
    "generate": "play: new music over your chords, or free",
    "extend": "play on from the end of a MIDI file",
    "fill": "write some bars or parts of a MIDI file anew",
    "accompany": "play an accompaniment to a melody",
    "again": "play a take again from what its file says, note by note",
    "keep": "mark takes as good, for a next model to learn from",
    "evaluate": "how well a run knows music it has not learned, and how much its takes are like it",
    "rank": "takes, best first, and why",
    "compare": "models side by side, each new and taught the same music for the same time; or finished runs",
    "doctor": "what is wrong with a run, and which flag puts it right",
    "originality": "which training piece each file repeats, where, and how much that counts",
    "render": "MIDI files as sound, by a soundfont or our own piano, and as pictures",
    "tokens": "a MIDI file as the ids and words that models read, and ids as a MIDI file",
    "audio": "the same with recordings: adapters for ACE-Step, and models made from scratch",
    "demo-page": "play from a page in the browser, or look through a dataset and edit it",
    "demo": "the whole pipeline on Bach chorales, in a few minutes",
}


def main(arguments: list[str] | None = None) -> None:
    """Run one command. What the user can put right is one line on stderr and exit status 1."""
    if arguments is None:
        arguments = sys.argv[1:]
        os.environ["PYTHONSAFEPATH"] = "1"  # processes that we start import no Python file that lies where the user is
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # the name of a file may hold what no screen can show
            stream.reconfigure(encoding="utf-8" if sys.platform == "win32" else None, errors="backslashreplace")
    try:
        _dispatch(arguments)
        sys.stdout.flush()
    except WoodshedError as error:
        print(f"woodshed: {shown(str(error))}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # woodshed ... | head: nobody reads on
        _drop_output()
        sys.exit(1)
    except OSError as error:  # a path that the system refuses: no permission, too long a name
        if error.filename is not None:
            print(f"woodshed: {shown(f'{error.filename}: {error.strerror}')}", file=sys.stderr)
        elif error.errno in FULL:  # woodshed ... > file: all other files have names
            _drop_output()
            print(f"woodshed: {error.strerror}; make room, and start it again", file=sys.stderr)
        else:
            raise
        sys.exit(1)
    except KeyboardInterrupt:
        print("woodshed: stopped", file=sys.stderr)
        sys.exit(130)


def _drop_output() -> None:
    """Standard output goes nowhere from now on: what it still holds would fail once more at the exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(arguments: list[str], words: tuple[str, ...] = ()) -> None:
    """Find the command that the first words name: a module of that name, or a package with VERBS of its own."""
    package = import_module(".".join((__name__, *words)).replace("-", "_"))
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview(package, words))
        return
    if arguments[0] == "--version" and not words:
        from .. import __version__

        print(__version__)
        return
    verb, rest = arguments[0], arguments[1:]
    if verb not in package.VERBS:
        raise InputError(f"unknown command {' '.join((*words, verb))!r}; choose from: {', '.join(package.VERBS)}")
    named = (*words, verb)
    module = import_module(".".join((__name__, *named)).replace("-", "_"))
    if hasattr(module, "VERBS"):
        _dispatch(rest, named)
        return
    import tyro

    from ..jobs import heard

    heard.clear()
    tyro.cli(module.command, prog=" ".join(("woodshed", *named)), args=rest, config=(tyro.conf.OmitArgPrefixes,))
    if heard:  # a job that was stopped has saved, but is not done: what a script has after it shall not begin
        sys.exit(128 + heard[0])


def _overview(package: ModuleType, words: tuple[str, ...]) -> str:
    about = package.ABOUT if words else "Teach a music model to play in your style."
    prog, width = " ".join(("woodshed", *words)), max(map(len, package.VERBS))
    lines = [f"  {prog} {verb:<{width}}  {text}" for verb, text in package.VERBS.items()]
    return "\n".join([about, "", *lines, "", f"{prog} VERB --help tells more of each."])
