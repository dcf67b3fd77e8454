"""woodshed audio annotate"""

from pathlib import Path

from ...audio.labels.annotate import AnnotateSettings, Annotation, annotate
from ...audio.labels.dataset import Dataset, load_dataset
from ...audio.labels.scan import scan, troubles
from ...errors import InputError
from ...files import shown
from ...page import counted, spaced
from ..terminal import DatasetOrFolder, bar


def command(where: DatasetOrFolder, settings: AnnotateSettings):
    """Tempo, key, captions and lyrics for recordings that have none. What a person wrote stays.

    Everything is measured and worded on this machine; models are read from folders, and services are asked only where
    a flag names one. Ctrl-C ends after the recording at hand, and the same command goes on. Read it all through.

    Args:
        where: a dataset.json, or a folder of recordings, in which dataset.json is written
        settings: what is annotated, and by whom
    """
    path = where / "dataset.json" if where.is_dir() else where
    if where.is_dir():
        dataset = _scanned(where, path)
    elif where.exists():
        dataset = load_dataset(where)
    else:
        raise InputError(f"{where}: no such file or folder; give a dataset.json or a folder of recordings")
    with bar("annotating") as report:
        found = annotate(dataset, path, settings, report=report)
    print("\n".join(told(found, path)))


def _scanned(folder: Path, path: Path) -> Dataset:
    """The dataset of a folder, written to `path`; what is wrong in the folder is printed."""
    with bar("listening") as report:
        found = scan(folder, out=path, report=report)
    print("".join(f"{line}\n" for line in troubles(found)), end="")
    return found.dataset


def told(found: Annotation, path: Path) -> list[str]:
    """What was written, what is not sure, what failed, and what comes next."""
    wrote = [f"{count} {spaced(name)}" for name, count in found.written.items() if count]
    lines = [f"{path}: {counted(found.done, 'recording')} annotated: {', '.join(wrote) or 'nothing new'}"]
    if not found.total:
        lines = [f"{path}: nothing to annotate; --again writes anew what was measured before"]
    for title, rows in (("not sure", found.doubtful), ("failed", [": ".join(row) for row in found.failed])):
        lines += [f"{title}: {row}" for row in rows]
    if found.stopped:
        lines.append(f"stopped by {found.stopped} after {found.done} of {found.total}; the same command goes on")
    if found.written["lyrics"]:
        lines.append("read the lyrics through: what is heard in singing is a draft")
    return [*map(shown, lines)]
