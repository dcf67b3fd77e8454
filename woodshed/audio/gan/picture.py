"""A picture of a training over its steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ... import page
from ...files import write_file
from ...log import read_log
from .health import Signs


def draw_progress(log: Path, picture: Path, *, real: Signs) -> None:
    """The critic's losses and R1's weight over steps; and of the samples how far their latents are from those of the
    recordings, how many attacks they have a second and how much they move; dashed what recordings have."""
    lines = read_log(log)
    figure = page.canvas(9, 9)
    rows = figure.subplots(5, 1, sharex=True)
    drawn = (("hinge", "gap"), ("r1", "switch"), ("distance",), ("onset_rate",), ("motion",))
    for axes, names in zip(rows, drawn, strict=True):
        for name in names:
            found = np.array([(line["step"], line[name]) for line in lines if name in line]).reshape(-1, 2)
            of_samples = {"marker": "o", "markersize": 4, "color": "tab:orange"} if len(names) == 1 else {}
            axes.plot(*found.T, label=name, linewidth=0.9, **of_samples)
            if hasattr(real, name):
                axes.axhline(getattr(real, name), linestyle="--", color="gray", linewidth=0.9)
        axes.set_ylabel("\n".join(names).replace("_", " "))
    for axes in rows[:2]:
        axes.legend(fontsize=8, frameon=False)
    rows[2].set_ylim(bottom=0)
    rows[-1].set_xlabel("step")
    write_file(picture, page.png(figure, grid="both"))
