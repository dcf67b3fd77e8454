"""Takes that the musician kept (`woodshed keep`), as further files of a corpus.

They are learned from and never judged by. All of them go into the train split. The musician's own files are divided,
and what is usual in them is told, as if there were no takes. A take of a song that is held out is left out: who has
learned it can no longer be asked about music that they do not know.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import FileError, InputError
from ...files import seen_from, shown
from ...page import percent
from .. import bases
from ..music.grid import Grid, apply_grid, estimate_grid
from ..music.midi import read_midi
from ..music.parts import assign_parts
from ..music.score import Score
from ..run import FACTS
from .corpus import Piece
from .inspect import Chords, InspectSettings, compared, examine, mapped
from .report import Finding
from .take_files import prompt_digest, region_of, take_facts, takes_in

FOLDER = "kept"  # of a run
HELD_OUT = "held out"  # a reason to leave a take out
MOST = 0.5  # of what is drawn, above which it is told


def kept_folder(place: str | Path) -> Path:
    """Where the kept takes of a run are; any other folder is one of takes itself. InputError where there are none."""
    place = Path(place)
    base = None if place.is_dir() else bases.find(str(place))
    folder = Path(base.name) if base else place
    if (folder / FOLDER).is_dir():
        return folder / FOLDER
    if (folder / FACTS).exists() or base or folder.name in bases.names():
        raise InputError(f"--kept {place}: no take of it was kept yet; woodshed keep TAKE.mid keeps one")
    return folder


def examine_kept(places: Sequence[Path], out: Path, settings: InspectSettings, chords: Chords) -> list[Finding]:
    """Every kept take of runs and folders by itself; its path is as seen from the corpus `out`."""
    folders = [kept_folder(place) for place in places]
    takes = [takes_in(folder) for folder in folders]
    for place, found in zip(places, takes, strict=True):
        if not found:
            raise InputError(f"--kept {place}: no takes in it; woodshed keep TAKE.mid keeps one")
    paths = [path for found in takes for path in found]
    found = mapped(partial(examine_take, settings=settings, chords=chords), paths)
    return [dataclasses.replace(one, path=_name(out, path)) for one, path in zip(found, paths, strict=True)]


def _name(out: Path, path: Path) -> str:
    """A path as seen from the corpus, in characters that every file and screen can hold."""
    return shown(seen_from(out, path))


# --- the music -----------------------------------------------------------------------------------------------------


def examine_take(path: Path, settings: InspectSettings, chords: Chords = "file") -> Finding:
    """One take as inspect examines a file, but only what was written of it, with all that sounds beside it."""
    read, facts = partial(read_learned, keep_grid=settings.keep_grid), _facts(path)
    found = examine(path, dataclasses.replace(settings, keep_grid=True), chords=chords, read=read)
    player = str(facts.get("run") or path.absolute().parent.name)  # of a file that is no take its folder
    return dataclasses.replace(found, kept=player, prompt=prompt_digest(facts))


def _facts(path: Path) -> dict:
    try:
        return take_facts(path)
    except FileError:
        return {}


def read_learned(path: Path, warn: Callable[[str], None] | None = None, *, keep_grid: bool = False) -> Score:
    """The stretch of a take that was written, on the grid of the whole file, which tells more of it than a few bars.

    The bars of a take without a prompt are sure, and so are those that were believed when it was played.
    """
    score, facts = assign_parts(read_midi(path, warn=warn), hands="kept"), _facts(path)
    region = region_of(path, score)
    sure = keep_grid or (facts and (region is None or facts["settings"].get("keep_grid")))
    grid = Grid("kept", 1.0, "") if sure else estimate_grid(score)
    whole = apply_grid(score, grid)
    if region is None:
        return whole
    if whole.free != score.free:  # in ticks of a millisecond
        return whole.slice(*np.rint(score.seconds(region) * 1000).astype(int).tolist(), cut=True)
    return whole.slice(*(tick + grid.shift for tick in region), cut=True)


# --- what may be learned -------------------------------------------------------------------------------------------


def learnable(
    takes: Sequence[Finding],
    own: Sequence[Finding],
    learned: Mapping[str, tuple[str, str]],
    settings: InspectSettings,
) -> list[Finding]:
    """The kept takes beside the musician's `own` files: duplicates left out as they are among files, and those of
    held-out songs; each of the others with its song. `learned` has split and song of the own files by their paths.
    """
    together = compared([*own, *takes], settings)
    held = {one.song: one.path for one in together[: len(own)] if learned.get(one.path, ("train",))[0] != "train"}
    sources = {one.digest: one.path for one in own if one.path in learned}
    return [_placed(take, held, sources.get(take.prompt, ""), learned) for take in together[len(own) :]]


def _placed(take: Finding, held: Mapping[str, str], source: str, learned: Mapping[str, tuple[str, str]]) -> Finding:
    """A take with its song; left out where that is held out, by its notes or as the `source` that it was played in."""
    if take.reason:
        return take
    judge = held.get(take.song) or (source if source and learned[source][0] != "train" else "")
    if judge:
        return take.without(HELD_OUT, f"it is of {judge}, which nothing that is learned may know")
    song = next((learned[path][1] for path in (take.song, source) if path in learned), take.song)
    return dataclasses.replace(take, song=song)


# --- what is told --------------------------------------------------------------------------------------------------


def kept_share(pieces: Sequence[Piece]) -> float:
    """The share of kept takes in what is drawn to train on."""
    drawn = [(piece.ids * piece.weight, bool(piece.kept)) for piece in pieces if piece.split == "train"]
    return sum(much for much, kept in drawn if kept) / max(sum(much for much, _ in drawn), 1e-9)


def kept_remarks(pieces: Sequence[Piece]) -> list[str]:
    """What a musician should know whose model would mostly learn from a model."""
    share = kept_share(pieces)
    if share <= MOST:
        return []
    weight = next(piece.weight for piece in pieces if piece.kept) * (1 - share) / share / 2
    told = f"kept takes are {percent(share)} of what is drawn: the model would learn from models more than from you"
    return [f"{told}; --kept-weight {weight:.2g} makes them a third"]
