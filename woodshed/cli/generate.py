"""woodshed generate"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..files import numbered_folder
from ..symbolic.music.soundfont import check_soundfont
from ..symbolic.playing.generate import generate
from ..symbolic.playing.settings import ComposeSettings, TakeSettings
from ..symbolic.playing.takes import Take, save_takes
from ..symbolic.run import open_run
from .terminal import RunPath, bar

MOST_BARS = 16  # told one by one
FALLS_OUT = 0.6  # of a bar in its chord: of 100 real bars two have less


@dataclass(frozen=True)
class TakeFiles:
    """Where takes go, and what plays them."""

    out: Path | None = None
    """Where the takes go, in a folder with the next free number; by default RUN/takes (of a base model:
    piano-3/takes, where you are)."""
    soundfont: Path | None = None
    """A .sf2 or .sf3 that plays the .wav; by default our own piano."""


def command(run: RunPath, settings: ComposeSettings, files: TakeFiles, parts: tuple[str, ...] | None = None):
    """Play new music, over your chords or free.

    Each take is told in numbers from 0 to 1: how much of its sound is in the chord of the moment, and would be by
    chance, in the other chords; at how many changes of chord the bass has the root, or the bass you wrote; and how much
    a bar is like an earlier one. Of more than 16 bars only those are named of which less than 0.6 is in the chord.

    Args:
        run: a run made by woodshed train, or a base model (piano, piano-played)
        settings: what to play
        files: where the takes go, and what plays them
        parts: which parts to write, such as melody for a tune alone, accompaniment, bass or drums; by default all that
            play together in the run's music
    """
    generate_with_bar(run, settings, files, parts=parts)


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
    """The file and its figures; why it was kept; how it keeps to the chords bar by bar; what it repeats of the training
    pieces; the guard's work.
    """
    lines = [f"{path}: " + ", ".join(_figures(take))]
    if take.ranked:
        lines += [f"    {take.ranked}"]
    if any(value is not None for value in take.adherence_per_bar):
        lines += [f"    in chord, {_bars(take.adherence_per_bar)}"]
    if take.originality:
        lines += [f"    {take.originality}"]
    if take.guarded:
        noticed = ", ".join(sorted({event["noticed"] for event in take.guarded}))
        back = sum(event["back_to"] is not None for event in take.guarded)
        times = "once" if back == 1 else f"{back} times"
        lines += [f"    stepped back {times}: {noticed}"]
    return lines


def _figures(take: Take) -> list[str]:
    """Notes, length, temperature, adherence to the chords and what would be chance, the bass, recurrence."""
    told = [f"{take.notes} notes", f"{take.score.seconds(take.score.end):.1f} s", f"T {take.temperature:g}"]
    names = ("chord_adherence", "rotated_adherence", "bass_adherence", "recurrence")
    inside, chance, bass, again = (take.measures[name] for name in names)
    if not math.isnan(inside):
        told.append(f"{inside:.2f} in chord" + ("" if math.isnan(chance) else f" ({chance:.2f} by chance)"))
    if not math.isnan(bass) and not take.settings.get("parts"):
        changes = round(take.measures["chord_changes"])
        told.append(f"bass right at {round(bass * changes)} of {changes} changes")
    return told if math.isnan(again) else [*told, f"bars return {again:.2f}"]


def _bars(adherence: Sequence[float | None]) -> str:
    """What of each bar is in its chord; where they are many, which bars fall out."""
    if len(adherence) <= MOST_BARS:
        return "bar by bar: " + " ".join("  - " if value is None else f"{value:.2f}" for value in adherence)
    low = [(value, bar) for bar, value in enumerate(adherence, 1) if value is not None and value < FALLS_OUT]
    if not low:
        return f"at least {FALLS_OUT:g} in each of {len(adherence)} bars"
    worst = sorted(sorted(low)[:MOST_BARS], key=lambda one: one[1])
    more = f", and {len(low) - MOST_BARS} more" * (len(low) > MOST_BARS)
    named = ", ".join(f"bar {bar} {value:.2f}" for value, bar in worst)
    return f"less than {FALLS_OUT:g} in {len(low)} of {len(adherence)} bars: {named}{more}"
