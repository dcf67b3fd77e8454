"""What the commands share: the progress bar, the console, the file for --json."""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ..errors import InputError
from ..files import write_file

JsonFile = Annotated[Path | None, tyro.conf.arg(name="json")]


def console() -> Console:
    """Standard output, with tables."""
    return Console(highlight=False)


@contextmanager
def bar(about: str) -> Iterator[Callable]:
    """A progress bar on stderr: call it with a share (0 to 1) and a text; `say` prints a line above it."""
    errors = Console(stderr=True, highlight=False)
    columns = [TextColumn(about), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn()]
    quiet = not errors.is_terminal
    with Progress(*columns, TextColumn("{task.fields[text]}"), console=errors, transient=True, disable=quiet) as bars:
        task = bars.add_task(about, total=1.0, text="")

        def progress(share: float, text: str = "") -> None:
            bars.update(task, completed=share, text=text)

        progress.say = partial(errors.print, soft_wrap=True)
        yield progress


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return "--:--" if math.isnan(seconds) else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def refuse_json(path: Path | None) -> None:
    """An InputError, before the work begins, where --json names what is there already or cannot be written."""
    if path and (path.exists() or not path.absolute().parent.is_dir()):
        raise InputError(f"--json {path}: choose a file that does not exist yet, in a folder that does")


def write_json(path: Path | None, data) -> None:
    """The figures of a verb, where --json asks for them."""
    if path:
        write_file(path, json.dumps(data, indent=1, ensure_ascii=False, default=_plain))


def _plain(value):
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else str(value)
