"""The log of a run, log.jsonl: a line for each step and validation, and all that happened; loss.png, its picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from .files import parsed, replacing, write_file, writing

LOG = "log.jsonl"


def append_log(path: Path, line: dict) -> None:
    """Add a line. Raises FileError where the disk refuses."""
    with writing(path), open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def read_log(path: Path) -> list[dict]:
    """The lines of a log.jsonl; one that a kill cut short is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(parsed(text))
        except ValueError:
            continue
    return lines


def rewind_log(path: Path, step: int) -> None:
    """Take back what the log says about steps that will be trained again; what happened (events) stays."""
    kept = [line for line in read_log(path) if line["step"] <= step or "event" in line]
    write_file(path, "".join(json.dumps(line) + "\n" for line in kept))


def draw_loss(log: Path, picture: Path, *, measure: str = "nats_per_token") -> None:
    """Draw loss over steps, both axes logarithmic: training (and its running median), the `measure` of validation, and
    training_loss, where validation measured it alike."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    lines = read_log(log)
    train = np.array([(line["step"], line["loss"]) for line in lines if "loss" in line]).reshape(-1, 2)
    told = [(line["step"], line["validation"]) for line in lines if line.get("validation") and line["step"]]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot(xscale="log", yscale="log", xlabel="step", ylabel=measure.replace("_", " "))
    axes.plot(*train.T, color="tab:blue", alpha=0.3, linewidth=0.8)
    axes.plot(train[:, 0], _running_median(train[:, 1]), color="tab:blue", label="train")
    curves = {measure: ("tab:orange", "validation"), "training_loss": ("tab:green", "train, measured alike")}
    for name, (color, label) in curves.items():
        if points := [(step, values[name]) for step, values in told if name in values]:
            axes.plot(*np.array(points).T, "o-", color=color, markersize=4, label=label)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 7), numticks=20))
    axes.yaxis.set_minor_formatter(NullFormatter())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.grid(alpha=0.3)
    axes.legend()
    with replacing(picture) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _running_median(values: np.ndarray) -> np.ndarray:
    """The median of each value and the twelve on either side."""
    if not len(values):
        return values
    padded = np.pad(values, 12, constant_values=np.nan)
    return np.nanmedian(np.lib.stride_tricks.sliding_window_view(padded, 25), axis=1)
