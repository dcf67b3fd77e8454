"""A picture of a training over its steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ... import page
from ...files import write_file
from ...log import read_log


def draw_progress(log: Path, picture: Path) -> None:
    """The critic's losses, the switch and the distance of the samples from the recordings, over steps."""
    lines = read_log(log)
    figure = page.canvas(9, 7)
    rows = figure.subplots(3, 1, sharex=True)
    for axes, names in zip(rows, (("hinge", "gap"), ("r1", "switch"), ()), strict=True):
        for name in names:
            found = np.array([(line["step"], line[name]) for line in lines if name in line]).reshape(-1, 2)
            axes.plot(*found.T, label=name, linewidth=0.9)
        axes.set_ylabel(", ".join(names) or "distance of latents")
    heard = [(line["step"], line["distance"]) for line in lines if "distance" in line]
    rows[2].plot(*np.array(heard).reshape(-1, 2).T, "o-", markersize=4, color="tab:orange")
    rows[2].set_yscale("log")
    rows[2].set_xlabel("step")
    for axes in rows[:2]:
        axes.legend(fontsize=8, frameon=False)
    write_file(picture, page.png(figure, grid="both"))
