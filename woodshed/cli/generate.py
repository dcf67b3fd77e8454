"""woodshed generate"""

import math
from pathlib import Path

from tyro.conf import Positional

from ..files import new_folder
from ..symbolic.generate import GenerateSettings, free_folder, generate, save_takes
from ..symbolic.run import open_run
from .terminal import bar


def command(run: Positional[Path], settings: GenerateSettings, out: Path | None = None):
    """Play: new music over your chords, from your bars, or free.

    Args:
        run: a run made by woodshed train, or a base model (piano, piano-played)
        settings: what to play
        out: where the takes go, in a folder with the next free number; by default RUN/takes (of a base model: its
            name/takes, where you are)
    """
    generate_with_bar(run, settings, out)


def generate_with_bar(run: Path, settings: GenerateSettings, out: Path | None = None) -> Path:
    """generate() with a progress bar; writes the takes, prints a line on each, and answers their folder."""
    opened = open_run(run, settings.checkpoint)
    parent = out or opened.place / "takes"
    with new_folder(parent):
        folder = free_folder(parent)
        try:
            with bar("playing") as progress:
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
