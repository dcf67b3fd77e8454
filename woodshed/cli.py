"""The command line: one verb, one function, its settings the flags. It parses, shows progress and prints."""

import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

from .errors import InputError, WoodshedError

VERBS = {
    "inspect": "look at a folder of MIDI before training: what is usable, what is wrong, is it enough",
    "prepare": "make a corpus of a folder of MIDI",
    "train": "teach a model: a corpus in, a run out",
    "generate": "play: new music over your chords, from your bars, or free",
    "evaluate": "how well a run knows music it has not learned, and how much its takes are like it",
    "demo": "the whole line on Bach chorales, in a few minutes",
}


def main(arguments: list[str] | None = None) -> None:
    """Run one command. What the user can put right is one line on stderr and exit status 1."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if sys.platform == "win32":
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        _dispatch(arguments)
        sys.stdout.flush()
    except WoodshedError as error:
        print(f"woodshed: {error}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # woodshed ... | head: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        print("woodshed: stopped", file=sys.stderr)
        sys.exit(130)


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return
    if arguments[0] == "--version":
        from . import __version__

        print(__version__)
        return
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        raise InputError(f"unknown command {verb!r}; choose from: {', '.join(VERBS)}")
    import tyro

    tyro.cli(_command(verb), prog=f"woodshed {verb}", args=rest, config=(tyro.conf.OmitArgPrefixes,))


def _overview() -> str:
    lines = [f"  woodshed {verb:<10}{about}" for verb, about in VERBS.items()]
    return "\n".join(
        ["Teach a music model to play in your style.", "", *lines, "", "woodshed VERB --help tells the flags of each."]
    )


def _command(verb: str) -> Callable:
    """The function behind a verb. Made when it is asked for: its settings live beside heavy libraries."""
    return globals()[f"_{verb}"]()


def _inspect() -> Callable:
    from tyro.conf import Positional

    from .symbolic.inspect import InspectSettings, inspect, render

    def command(
        folder: Positional[Path], settings: InspectSettings, json_file: Annotated[Path | None, _flag("json")] = None
    ):
        """Look at a folder of MIDI before training.

        Args:
            folder: the folder; everything below it is read
            settings: what counts as usable
            json_file: write the whole report to this file
        """
        if json_file and json_file.exists():
            raise InputError(f"--json {json_file} exists already; choose another file, or remove it")
        with _bar("reading") as progress:
            report = inspect(folder, settings, progress=lambda done, total: progress(done / max(total, 1)))
        _console().print(render(report))
        if json_file:
            _write_json(json_file, report.as_dict())

    return command


def _prepare() -> Callable:
    from tyro.conf import Positional

    from .symbolic.prepare import PrepareSettings, corpus_lines, prepare

    def command(folder: Positional[Path], out: Path, settings: PrepareSettings):
        """Make a corpus of a folder of MIDI.

        Args:
            folder: the folder; everything below it is read
            out: the corpus, a folder that does not exist yet
            settings: how to prepare
        """
        with _bar("preparing") as progress:
            corpus = prepare(folder, out, settings, progress=lambda done, total: progress(done / max(total, 1)))
        for line in corpus_lines(corpus):
            print(line)

    return command


def _train() -> Callable:
    from tyro.conf import Positional

    from .symbolic.corpus import open_corpus
    from .symbolic.prepare import changes_line
    from .symbolic.settings import TrainSettings

    def command(corpus: Positional[Path], out: Path, settings: TrainSettings):
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

    return command


def train_with_bar(corpus, out: Path, settings=None, **changes):
    """train() with a progress bar that shows loss and time left."""
    from .symbolic.train import train

    with _bar("training") as progress:

        def report(now):
            if now.message:
                progress.say(now.message)
            elif now.validation:
                told = ", ".join(f"{value:.3f} {name.replace('_', ' ')}" for name, value in now.validation.items())
                progress.say(f"step {now.step}: validation {told}")
            else:
                left = _clock(now.seconds_left)
                progress(now.step / max(now.steps, 1), f"step {now.step}  loss {now.loss:.3f}  {left} left")

        return train(corpus, out, settings, report=report, **changes)


def _clock(seconds: float) -> str:
    return "--:--" if math.isnan(seconds) else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _generate() -> Callable:
    from tyro.conf import Positional

    from .symbolic.generate import GenerateSettings

    def command(run: Positional[Path], settings: GenerateSettings, out: Path | None = None):
        """Play: new music over your chords, from your bars, or free.

        Args:
            run: a run made by woodshed train, or a base model (piano, piano-played)
            settings: what to play
            out: where the takes go, in a folder with the next free number; by default RUN/takes (of a base model:
                its name/takes, where you are)
        """
        generate_with_bar(run, settings, out)

    return command


def generate_with_bar(run: Path, settings, out: Path | None = None) -> Path:
    """generate() with a progress bar; writes the takes, prints a line on each, and answers their folder."""
    from .files import new_folder
    from .symbolic.generate import free_folder, generate, save_takes
    from .symbolic.run import open_run

    opened = open_run(run, settings.checkpoint)
    parent = out or opened.place / "takes"
    with new_folder(parent):
        folder = free_folder(parent)
        try:
            with _bar("playing") as progress:
                takes = generate(opened, settings, progress=progress)
            for take, paths in save_takes(takes, folder):
                print(take_line(take, paths[0]))
        finally:
            if not any(folder.iterdir()):
                folder.rmdir()
    return folder


def take_line(take, path: Path) -> str:
    """Notes, chord adherence (and on rotated chords), recurrence and the file."""
    told = [f"{take.notes} notes", f"{take.score.seconds(take.score.end):.1f} s", f"T {take.temperature:g}"]
    names = {"chord_adherence": "in chord", "rotated_adherence": "in rotated chords", "recurrence": "recurrence"}
    told += [f"{take.measures[k]:.2f} {about}" for k, about in names.items() if not math.isnan(take.measures[k])]
    return f"{path}: " + ", ".join(told)


def _evaluate() -> Callable:
    from tyro.conf import Positional

    from .symbolic.evaluate import EvaluateSettings

    def command(
        run: Positional[Path],
        corpus: Positional[Path],
        settings: EvaluateSettings,
        out: Path | None = None,
        json_file: Annotated[Path | None, _flag("json")] = None,
    ):
        """Compare a run with music it has not learned: its likelihood, and its takes beside real excerpts.

        Args:
            run: a run made by woodshed train, or a base model
            corpus: a corpus with the same tokens
            settings: on what to evaluate it, and what to play
            out: where the page, its pictures and the takes go, in a folder with the next free number; by default
                RUN/evaluations
            json_file: write all figures to this file too, which does not exist yet
        """
        evaluate_with_bar(run, corpus, settings, out, json_file)

    return command


def evaluate_with_bar(run: Path, corpus: Path, settings, out: Path | None = None, json_file: Path | None = None):
    """evaluate() with a progress bar; prints a table, writes the page and answers its folder."""
    from .files import write_file
    from .symbolic.evaluate import evaluate
    from .symbolic.evaluate_page import render, save, to_json
    from .symbolic.run import open_run

    if json_file and (json_file.exists() or not json_file.absolute().parent.is_dir()):
        raise InputError(f"--json {json_file}: choose a file that does not exist yet, in a folder that does")
    opened = open_run(run, settings.checkpoint)
    with _bar("evaluating") as progress:
        found = evaluate(opened, corpus, settings, progress=progress)
    _console().print(render(found))
    folder = save(found, out or opened.place / "evaluations")
    if json_file:
        write_file(json_file, to_json(found))
    print(folder / "index.html")
    return folder


def _demo() -> Callable:
    from .demo import demo

    return demo


# --- what the commands share -----------------------------------------------------------------------------------


def _flag(name: str):
    import tyro

    return tyro.conf.arg(name=name)


def _console():
    from rich.console import Console

    return Console(highlight=False)


@contextmanager
def _bar(about: str) -> Iterator[Callable]:
    """A progress bar on stderr: call it with a share (0 to 1) and a text; `say` prints a line above it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, highlight=False)
    columns = [TextColumn(about), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn()]
    quiet = not console.is_terminal
    with Progress(*columns, TextColumn("{task.fields[text]}"), console=console, transient=True, disable=quiet) as bars:
        task = bars.add_task(about, total=1.0, text="")

        def progress(share: float, text: str = "") -> None:
            bars.update(task, completed=share, text=text)

        progress.say = partial(console.print, soft_wrap=True)
        yield progress


def _write_json(path: Path, data) -> None:
    from .files import write_file

    write_file(path, json.dumps(data, indent=1, ensure_ascii=False, default=_plain))


def _plain(value):
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else str(value)
