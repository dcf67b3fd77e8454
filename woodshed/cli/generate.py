"""woodshed generate"""

import math
from dataclasses import dataclass
from pathlib import Path

from ..files import numbered_folder
from ..symbolic.music.soundfont import check_soundfont
from ..symbolic.playing.generate import generate
from ..symbolic.playing.settings import ComposeSettings, TakeSettings
from ..symbolic.playing.takes import Take, save_takes
from ..symbolic.run import open_run
from .terminal import RunPath, bar


@dataclass(frozen=True)
class TakeFiles:
    """Where takes go, and what plays them."""

    out: Path | None = None
    """Where the takes go, in a folder with the next free number; by default RUN/takes (of a base model:
    piano-2/takes, where you are)."""
    soundfont: Path | None = None
    """A .sf2 or .sf3 that plays the .wav; by default our own piano."""


def command(run: RunPath, settings: ComposeSettings, files: TakeFiles):
    """Play new music, over your chords or free.

    Args:
        run: a run made by woodshed train, or a base model (piano, piano-played)
        settings: what to play
        files: where the takes go, and what plays them
    """
    generate_with_bar(run, settings, files)


def generate_with_bar(run: Path, settings: TakeSettings, files: TakeFiles = TakeFiles(), **more) -> Path:
    """generate() with a progress bar; writes the takes, prints a line on each, and answers their folder.

    `more` are keywords of generate().
    """
    opened = open_run(run, settings.checkpoint)
    if files.soundfont:
        check_soundfont(files.soundfont)
    parent = files.out or opened.place / "takes"
    with numbered_folder(parent) as folder:
        with bar("playing") as report:
            takes = generate(opened, settings, report=report, **more)
        if takes[0].settings.get("melody") and takes[0].chart:
            print("\n".join(["chords:", *chart_lines(takes[0].chart)]))
        for remark in dict.fromkeys(remark for take in takes for remark in take.remarks):
            print(remark)
        for take, paths in save_takes(takes, folder, files.soundfont):
            print("\n".join(take_lines(take, paths[0])))
    return folder


def chart_lines(chart: str) -> list[str]:
    """A chart, four bars a line; as one text it is a chart again."""
    bars = chart.strip("| ").split(" | ")
    return [f"| {' | '.join(bars[first : first + 4])} |" for first in range(0, len(bars), 4)]


def take_lines(take: Take, path: Path) -> list[str]:
    """The file, notes, adherence to the chords (and to rotated ones, and bar by bar), recurrence; why it was kept; what
    it repeats of the training pieces; the guard's work.
    """
    told = [f"{take.notes} notes", f"{take.score.seconds(take.score.end):.1f} s", f"T {take.temperature:g}"]
    names = {"chord_adherence": "in chord", "rotated_adherence": "in rotated chords", "recurrence": "recurrence"}
    told += [f"{take.measures[k]:.2f} {about}" for k, about in names.items() if not math.isnan(take.measures[k])]
    lines = [f"{path}: " + ", ".join(told)]
    if take.ranked:
        lines += [f"    {take.ranked}"]
    if any(value is not None for value in take.adherence_per_bar):
        bars = ["  - " if value is None else f"{value:.2f}" for value in take.adherence_per_bar]
        lines += [f"    in chord, bar by bar: {' '.join(bars)}"]
    if take.originality:
        lines += [f"    {take.originality}"]
    if take.guarded:
        noticed = ", ".join(sorted({event["noticed"] for event in take.guarded}))
        back = sum(event["back_to"] is not None for event in take.guarded)
        times = "once" if back == 1 else f"{back} times"
        lines += [f"    stepped back {times}: {noticed}"]
    return lines
