"""A Comparison as it is told: tables for the terminal; a folder with an HTML page, its pictures and a take of each."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ...files import make_folder, numbered_folder, shown, strict_json, whole, write_file
from ...page import canvas, counted, digits, document, embedded, html_table, percent, png, spaced, tag, text_table
from ..music.roll import roll_png
from .compare import Comparison

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
SHORT_COLUMNS = ("model", "params", "token", "note", "second", "ids", "ids/s", "memory", "plays")
COLUMNS = (
    "model",
    "parameters",
    "nats a token",
    "note",
    "second",
    "ids",
    "minutes",
    "ids/s",
    "memory",
    "plays",
    "inside",
)
TOLD = ("recurrence", "repeated_bars", "adherence_gain", "pitch_class_entropy", "notes_per_second")  # in a terminal
FEWEST_POINTS = 2  # of a curve that is drawn


def save(found: Comparison, parent: str | Path) -> Path:
    """Write index.html, comparison.json, the pictures and a take of each model to the next free number in `parent`.

    Answers the new folder, which is whole or not there at all. Raises FileError where the disk refuses.
    """
    stems = file_names(list(found.takes))
    curves = draw_curves(found.facts["rows"])
    names = [row["name"] for row in found.facts["rows"]]
    rolls = {name: roll_png(found.takes[name].score, f"{name}, seed {found.takes[name].seed}") for name in names}
    text = page(found.facts, curves, rolls)
    with numbered_folder(Path(parent)) as folder, whole(folder):
        if curves:
            write_file(folder / "curves.png", curves)
        make_folder(folder / "takes")
        for name, take in found.takes.items():
            take.write(folder / "takes" / stems[name])
            write_file(folder / "takes" / f"{stems[name]}.png", rolls[name])
        write_file(folder / "comparison.json", strict_json(found.facts))
        write_file(folder / "index.html", text)
    return folder


def file_names(names: list[str]) -> dict[str, str]:
    """The names of the rows as names of files, no two alike."""
    plainer = [re.sub(r"[^\w.-]+", "-", name).strip("-.") or "take" for name in names]
    return {
        name: f"{one}-{number}" if plainer.count(one) > 1 else one
        for number, (name, one) in enumerate(zip(names, plainer, strict=True), start=1)
    }


# --- words and tables ------------------------------------------------------------------------------------------


def render(found: Comparison):
    """Two short tables for a rich console: what was learned at what cost, and how the takes are."""
    from rich.console import Group
    from rich.text import Text

    facts = found.facts
    lines = [headline(facts), *(f"{name}: {reason}" for name, reason in facts["failed"].items()), *facts["remarks"]]
    learned = text_table(SHORT_COLUMNS, map(_short_row, facts["rows"]), no_wrap=True)
    told = [name for name in TOLD if name in facts["rows"][0]["measures"]]
    heads = ["median of takes", "inside", *(name.replace("_", "\n") for name in told)]
    music = text_table(heads, _music_rows(facts, told), vertical="bottom", no_wrap=True)
    how = Text(_HOW_SHORT, style="dim")
    return Group(*(Text(shown(line)) for line in lines), Text(), learned, how, Text(), music)


_HOW_SHORT = "nats a token, note, second; memory: the most in training; plays: ids a second"


def headline(facts: dict) -> str:
    """What was compared, in a sentence."""
    plan, threads = facts["plan"], counted(facts["plan"]["threads"], "thread")
    given = f" after {plan['max_minutes']:g} min of training each" if plan.get("max_minutes") else ""
    given = given or (f" after {counted(plan['max_steps'], 'step')} each" if plan.get("max_steps") else "")
    told = f"{counted(len(facts['rows']), 'model')} on the {facts['split']} split of {facts['corpus']}{given}, "
    told += f"{threads} on {facts['device']}: {counted(facts['pieces'], 'piece')} in rows of {facts['max_seq_len']:,}; "
    takes = f"{counted(facts['takes'], 'take')} of {facts['length']} {facts['unit']} each"
    return f"{told}{takes} beside {counted(facts['excerpts'], 'excerpt')}"


def _short_row(row: dict) -> list[str]:
    training, nats = row["training"], row["likelihood"]
    told = [row["name"], thousands(row["parameters"])]
    told += [digits(nats[f"nats_per_{unit}"]) for unit in ("token", "note", "second")]
    told += [thousands(training["ids"]), thousands(training["ids_per_second"]), _memory(training)]
    return [*told, thousands(row["playing"]["ids_per_second"])]


def _row(row: dict) -> list[str]:
    """The same for the page, with what there is room for."""
    short, minutes = _short_row(row), row["training"]["minutes"]
    spent = "-" if minutes is None else f"{minutes:.1f}"
    inside = percent(row["overall"]["takes_inside"])
    return [short[0], f"{row['parameters']:,}", *short[2:6], spent, *short[6:], inside]


def _memory(training: dict) -> str:
    """Resident memory, and where there is one that of the device."""
    peaks = [training["peak_memory"], training["peak_device_memory"]]
    return " + ".join(f"{peak / 2**30:.2f} G" for peak in peaks if peak is not None) or "-"


def thousands(value: float | None) -> str:
    """A count to three digits: 512, 6.21k, 12.4M."""
    if value is None:
        return "-"
    size, unit = next(((size, unit) for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if value >= size), (1, ""))
    value /= size
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}{unit}" if unit else f"{value:.0f}"


def _music_rows(facts: dict, names: list[str]) -> list[list[str]]:
    """The medians of some measures: real music first."""
    best = facts["rows"][0]
    real = ["real music", percent(best["overall"]["real_inside"])]
    rows = [real + [digits(best["measures"][name]["real"][1]) for name in names]]
    for row in facts["rows"]:
        medians = [digits(row["measures"][name]["takes"]) for name in names]
        rows.append([row["name"], percent(row["overall"]["takes_inside"]), *medians])
    return rows


def _measure_rows(facts: dict) -> list[list[str]]:
    """Every measure, a row each: real music, then the median of each model's takes and the share that is inside."""
    rows = []
    for name, real in facts["rows"][0]["measures"].items():
        low, middle, high = map(digits, real["real"])
        each = [row["measures"][name] for row in facts["rows"]]
        told = [f"{digits(found['takes'])} ({percent(found['takes_inside'])})" for found in each]
        rows.append([spaced(name), f"{middle} ({low} to {high})", *told])
    means = [percent(row["overall"]["takes_inside"]) for row in facts["rows"]]
    return [*rows, ["mean of the shares inside", percent(facts["rows"][0]["overall"]["real_inside"]), *means]]


# --- the page --------------------------------------------------------------------------------------------------


def page(facts: dict, curves: bytes | None, rolls: dict[str, bytes]) -> str:
    """One HTML page that needs no other file."""
    title = "Models side by side"
    parts = [tag("h1", title), tag("p", headline(facts)), *(tag("p", text) for text in facts["remarks"])]
    rows = [_row(row) for row in facts["rows"]] + [[name, reason] for name, reason in facts["failed"].items()]
    parts += [html_table(COLUMNS, rows), tag("p", _HOW_ROWS, "note")]
    if curves:
        parts += [tag("h2", "While they learned"), embedded("validation curves", curves)]
    names = [row["name"] for row in facts["rows"]]
    parts += [tag("h2", "Their takes beside real music"), tag("p", _HOW_MEASURES, "note")]
    parts += [html_table(["measure", "real music", *names], _measure_rows(facts), summed=True)]
    parts += [tag("h2", "A take of each")]
    return document(title, parts + [embedded(f"take of {name}", data) for name, data in rolls.items()])


_HOW_ROWS = (
    "Nats a token, a note and a second of music: less is better. Ids (places in rows) and minutes are those of the "
    "training; ids/s is the median of its steps, validation not counted; memory is the most that was resident in its "
    "process, Python and PyTorch included. Plays: ids a second of one take in the engine that generate takes on this "
    "machine, all of its work included. Inside: the share of takes between the 5th and 95th percentile of the real "
    "excerpts, mean of all measures."
)
_HOW_MEASURES = (
    "Real music: the median, and the 5th and 95th percentile of the excerpts. Models: the median of the takes, and "
    "which share of them lies between those percentiles. Near to real music is good; no measure is better the higher "
    "it is. Recurrence and repeated bars tell how much comes back."
)


# --- the picture -----------------------------------------------------------------------------------------------


def draw_curves(rows: list[dict]) -> bytes | None:
    """Nats a note of the validation rows over minutes and over ids as PNG; None where no run has a curve.

    Nats a token stand in where a log has none a note.
    """
    curves = {row["name"]: row["training"]["curve"] for row in rows}
    curves = {name: curve for name, curve in curves.items() if len(curve) >= FEWEST_POINTS}
    if not curves:
        return None
    unit = "note" if all("nats_per_note" in point for curve in curves.values() for point in curve) else "token"
    figure = canvas(11, 4.2)
    for axes, along in zip(figure.subplots(1, 2, sharey=True), ("minutes", "ids"), strict=True):
        for (name, curve), colour in zip(curves.items(), COLOURS * len(curves), strict=False):
            at = np.array([np.nan if point[along] is None else point[along] for point in curve], dtype=float)
            axes.plot(at, [point[f"nats_per_{unit}"] for point in curve], "o-", color=colour, markersize=3, label=name)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.set_xlabel(along if along == "minutes" else "ids trained on")
        axes.set_title(f"validation, nats a {unit}", fontsize=10, loc="left")
        for text in axes.legend(frameon=False, fontsize=8).get_texts():
            text.set_parse_math(False)  # a run may have dollars in its name
    figure.axes[1].xaxis.set_major_formatter(lambda value, _: thousands(value))
    return png(figure, grid="both")
