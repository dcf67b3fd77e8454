"""What the commands share: the progress bar, the console, the file for --json."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from tyro.conf import Positional, arg

from .. import progress
from ..files import shown, strict_json, write_file
from ..jobs import refuse_no_new_file

# Arguments by the names that the help has for them.
RunPath = Annotated[Positional[Path], arg(metavar="RUN")]
CorpusPath = Annotated[Positional[Path], arg(metavar="CORPUS")]
FolderPath = Annotated[Positional[Path], arg(metavar="FOLDER")]
FilePath = Annotated[Positional[Path], arg(metavar="FILE")]
FilePaths = Annotated[Positional[tuple[Path, ...]], arg(metavar="FILES")]
RunOption = Annotated[Path | None, arg(metavar="RUN")]
RecordingsPath = Annotated[Positional[Path], arg(metavar="FOLDER|FILE")]
DatasetOrFolder = Annotated[Positional[Path], arg(metavar="DATASET|FOLDER")]
DatasetPath = Annotated[Positional[Path], arg(metavar="DATASET")]
TensorsPath = Annotated[Positional[Path], arg(metavar="TENSORS")]
CodecName = Annotated[Positional[str], arg(metavar="CODEC")]
CodecOption = Annotated[str | None, arg(metavar="CODEC")]
BaseName = Annotated[Positional[str], arg(metavar="BASE")]
BaseNamed = Annotated[str, arg(metavar="BASE")]
BaseOption = Annotated[str | None, arg(metavar="BASE")]
JsonFile = Annotated[Path | None, arg(name="json")]


def console() -> Console:
    """Standard output, with tables."""
    return Console(highlight=False)


@contextmanager
def bar(about: str) -> Iterator[progress.Reporter]:
    """A progress bar on stderr for what is reported; messages become lines above it."""
    errors = Console(stderr=True, highlight=False)
    columns = [TextColumn(about), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn()]
    columns += [TextColumn("{task.fields[text]}", markup=False)]
    with Progress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bars:
        task = bars.add_task(about, total=1.0, text="")

        def report(now: progress.Progress) -> None:
            if now.message:
                errors.print(shown(now.message), soft_wrap=True, markup=False)
            else:
                bars.update(task, completed=now.share, text=shown(now.text))

        yield report


def refuse_json(path: Path | None) -> None:
    """An InputError, before the work begins, where --json names what is there already or cannot be written."""
    if path:
        refuse_no_new_file("--json", path)


def write_json(path: Path | None, data) -> None:
    """The figures of a verb, where --json asks for them."""
    if path:
        write_file(path, strict_json(data), new=True)
