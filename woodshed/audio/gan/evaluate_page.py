"""An Evaluation as it is told: lines for the terminal, and a folder with an HTML page, figures and sound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ...files import make_folder, numbered_folder, strict_json, whole, write_file
from ...page import digits, document, embedded, html_table, percent, tag, text_table
from ..codecs import LOUDNESS
from ..spectrogram import spectrograms
from ..wave import write_audio
from .copying import LEVEL
from .evaluate import SETS, Evaluation

COLUMNS = ("", "timbre", "chroma", "onsets a second", "centroid Hz", "LUFS", "repeats", "nearest learned")
HOW = (
    "timbre, chroma: Frechet distances from the held-out clips (MFCC 1 to 16; pitch classes above the "
    "strongest, times 1000); repeats: how alike latents are to those half a window before (1 the same, 0 unrelated); "
    "nearest learned: how far the median stretch of latents is from the nearest that was learned (0 is a copy, "
    "1 unrelated)"
)
HEARD = 4  # clips of each set that are written
SEEN = ("held-out", "codec", "takes", "random")


def save(found: Evaluation, parent: str | Path) -> Path:
    """Write index.html, evaluation.json, spectrograms and clips to the next free number in `parent`; the new folder,
    which is whole or not there at all."""
    with numbered_folder(Path(parent)) as folder, whole(folder):
        make_folder(folder / "clips")
        sounds = {}
        for kind in SETS:
            for number, audio in enumerate(found.clips[kind][:HEARD], 1):
                sounds[f"clips/{kind}-{number}.wav"] = kind
                write_audio(folder / f"clips/{kind}-{number}.wav", audio.levelled(LOUDNESS))
        picture = spectrograms({kind: found.clips[kind][0] for kind in SEEN})
        write_file(folder / "spectrograms.png", picture)
        write_file(folder / "evaluation.json", strict_json(found.facts))
        write_file(folder / "index.html", _page(found.facts, picture, list(sounds)))
    return folder


def rows(facts: dict) -> Iterator[list[str]]:
    """The table: a row for each set."""
    for kind in SETS:
        sound = facts["sound"][kind]
        apart = [facts["frechet"][name].get(kind) for name in ("timbre", "chroma")]
        heard = [sound[name] for name in ("onset_rate", "centroid", "loudness")]
        again, near = facts["repetition"].get(kind), facts["neighbours"]["median"].get(kind)
        yield [kind, *map(digits, (*apart, *heard, again, near))]


def lines(facts: dict) -> Iterator[str]:
    """What stands around the table."""
    near = facts["neighbours"]
    if "closest" not in near:
        yield f"copying: takes of {facts['seconds']:g} s are shorter than a stretch of {near['stretch_seconds']:g} s"
        return
    share = f"{percent(near['share_within_level'])} of the takes' stretches of {near['stretch_seconds']:g} s"
    yield f"copying: {share} come as near to what was learned as the nearest {LEVEL} % of the held-out ones"
    for one in near["closest"]:
        told = f"take {one['take']} at {one['take_second']:g} s is nearest to {one['file']} at {one['second']:g} s"
        yield f"{told} (distance {one['distance']:.3f}; held-out: {near['level']:.3f} at the {LEVEL} % level)"


def headline(facts: dict) -> str:
    told = f"{facts['run']}, step {facts['step']}: {facts['clips']} takes of {facts['seconds']:g} s"
    return f"{told} beside {facts['recordings']} recordings of {facts['folder']} ({facts['minutes']:g} minutes)"


def render(found: Evaluation):
    """The table and lines for a rich console."""
    from rich.console import Group
    from rich.text import Text

    table = text_table(COLUMNS, rows(found.facts))
    return Group(Text(headline(found.facts)), Text(), table, Text(HOW, style="dim"), *map(Text, lines(found.facts)))


def _page(facts: dict, picture: bytes, sounds: list[str]) -> str:
    players = [f'{tag("p", name)}<audio controls preload="none" src="{name}"></audio>' for name in sounds]
    parts = [tag("h1", facts["run"]), tag("p", headline(facts)), html_table(COLUMNS, rows(facts))]
    parts += [tag("p", HOW, "note"), *(tag("p", line) for line in lines(facts))]
    return document(facts["run"], [*parts, embedded("spectrograms", picture), *players])
