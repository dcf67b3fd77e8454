"""Keep takes: those that the musician likes are copied into RUN/kept, where `prepare --kept RUN` finds them.

for kept in keep(["my-style/takes/001/take-2.mid"]):
    print(kept.path, kept.before)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ...errors import InputError
from ...files import new_folder, write_file, write_object
from .. import bases
from ..data.kept import FOLDER
from ..data.take_files import file_digest, take_facts, takes_in, whole_take
from ..run import open_run
from .takes import played_by


class Kept(NamedTuple):
    """A take, where it is kept, and whether it was kept before."""

    take: Path
    path: Path
    before: bool


def keep(takes: str | Path | Sequence[str | Path], run: str | Path | None = None) -> list[Kept]:
    """Copy takes, or all takes of a folder, with what they say of how they were made, into the folder `kept` of the run
    that played them, or of `run`.

    Nothing is overwritten: of two takes of one name the second gets the next free number, and one that is kept already
    stays the one it is. Raises FileError for a file that is no take, InputError where its run is not found.
    """
    paths = [Path(takes)] if isinstance(takes, str | Path) else [Path(take) for take in takes]
    paths = [path for one in paths for path in (takes_in(one) if one.is_dir() else [_music(one)])]
    if not paths:
        raise InputError("no takes to keep; name some .mid files that woodshed has played")
    place = open_run(run).place if run is not None else None
    found = [(path, take_facts(path)) for path in dict.fromkeys(paths)]
    wanted = [(path, facts, (place or _home(path, facts)) / FOLDER) for path, facts in found]
    return [_kept(*one) for one in wanted]  # once nothing is left that can be refused


def _music(path: Path) -> Path:
    """The .mid of a take, by itself, its .json or a part that was saved once more beside it."""
    return whole_take(path.with_suffix(".mid") if path.suffix == ".json" else path)


def _home(take: Path, facts: dict) -> Path:
    """The run that played a take; a base of the package has a folder where its takes are, or else where you are."""
    run = played_by(take, facts)
    if run.parent != bases.FOLDER:
        return run
    return next((folder for folder in take.parents if folder.name == run.name), Path(run.name))


def _kept(take: Path, facts: dict, folder: Path) -> Kept:
    digest = file_digest(take)
    for path in sorted(folder.glob("*.mid")):
        if file_digest(path) == digest:
            return Kept(take, path, before=True)
    with new_folder(folder):
        path = _free(folder, take.stem)
        write_object(path.with_suffix(".json"), facts)  # first: a .mid alone would be taken for all its own
        write_file(path, take.read_bytes())
    return Kept(take, path, before=False)


def _free(folder: Path, stem: str) -> Path:
    """A name that neither a .mid nor a .json has: `stem`, or the next number behind it."""
    names = (f"{stem}-{number}" if number > 1 else stem for number in range(1, 10**6))
    paths = (folder / f"{name}.mid" for name in names)
    return next(path for path in paths if not path.exists() and not path.with_suffix(".json").exists())
