"""An Evaluation as it is told: a table for the terminal, and a folder with an HTML page, its pictures and the takes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from ...files import make_folder, numbered_folder, shown, strict_json, whole, write_file
from ...page import canvas, counted, digits, document, embedded, html_table, percent, png, spaced, tag, text_table
from ...statistics import evenly
from ..music.roll import roll_png
from .evaluate import Evaluation

REAL, TAKES = "#0072B2", "#D55E00"  # Okabe and Ito
COLUMNS = ("measure", "real 5 %", "50 %", "95 %", "takes 50 %", "takes inside", "real inside", "of the real rate")
SHORT_COLUMNS = ("measure", "real 5 %", "50 %", "95 %", "takes", "inside", "of real", "rate")
SHOWN_TAKES, SHOWN_EXCERPTS = 4, 2
STRIPS = 3  # columns of the strip chart


def save(found: Evaluation, parent: str | Path) -> Path:
    """Write index.html, evaluation.json, the pictures and the takes to the next free number in `parent`.

    Answers the new folder, which is whole or not there at all. Raises FileError where the disk refuses.
    """
    images = pictures(found)
    text, data = page(found, images), strict_json(found.facts)
    with numbered_folder(Path(parent)) as folder, whole(folder):
        for name, image in images.items():
            write_file(folder / f"{name}.png", image)
        make_folder(folder / "takes")
        for number, take in enumerate(found.played, start=1):
            take.write(folder / "takes" / f"take-{number}")
        write_file(folder / "evaluation.json", data)
        write_file(folder / "index.html", text)
    return folder


# --- words and tables ------------------------------------------------------------------------------------------


def render(found: Evaluation):
    """The short table for a rich console."""
    from rich.console import Group
    from rich.text import Text

    table = text_table(SHORT_COLUMNS, _measure_rows(found.facts), no_wrap=True)
    lines = [_headline(found.facts), *_nats_lines(found.facts), *found.facts["remarks"]]
    lines = [*map(Text, map(shown, lines)), Text(), table, Text(_HOW_COLUMNS, style="dim"), Text()]
    return Group(*lines, *map(Text, _whole_lines(found.facts)))


_HOW_COLUMNS = (
    "takes: their median; inside: takes between 5 % and 95 % of the real excerpts;\n"
    "of real: real pieces that are, judged by the others; rate: the one over the other"
)


def _headline(facts: dict) -> str:
    takes, excerpts = facts["takes"], facts["excerpts"]
    told = (
        f"{facts['run']} on the {facts['split']} split of {facts['corpus']}: {counted(takes['count'], 'take')} beside "
    )
    told += f"{counted(excerpts['count'], 'excerpt')} of {counted(excerpts['pieces'], 'piece')}, "
    told += f"{facts['length']} {facts['unit']} each"
    if excerpts["short_pieces"]:
        told += f"; shorter than that: {counted(excerpts['short_pieces'], 'piece')}, taken whole"
    if takes["short"]:
        told += f"; {counted(takes['short'], 'take')} ended early"
    return told + (f"; {counted(takes['silent'], 'take')} silent" if takes["silent"] else "")


def _nats_lines(facts: dict) -> list[str]:
    found = facts["likelihood"]
    units = ", ".join(f"{digits(found[f'nats_per_{unit}'])} a {unit}" for unit in ("token", "note", "second"))
    places = ", ".join(digits(place["nats_in_same_mix"]) for place in found["by_place"])
    along = f"nats a token along a row of {found['max_seq_len']}, by quarters in the same mix of kinds: {places}"
    return [f"nats: {units}", along]


def _whole_lines(facts: dict) -> list[str]:
    """Overlaps of the histograms and the Frechet distance, each beside its figure for real pieces."""
    lines = []
    for name, found in facts["histograms"].items():
        if "takes" in found:
            told, halves = (f"{digits(some['overlapped_area'])} overlap" for some in (found, found["halves"]))
            told += f", KL {digits(found['kl_divergence'])} nats"
            halves += f", {digits(found['halves']['kl_divergence'])}"
            lines.append(f"{spaced(name)}: {told} (real pieces in two halves: {halves})")
    frechet = facts.get("frechet")
    if frechet and frechet["distance"] is not None:
        told = f"Frechet distance {digits(frechet['distance'])}, of real pieces {digits(frechet['floor'])}"
        ours, theirs = frechet["samples"]
        lines.append(f"{told}: {frechet['ratio']:.2f} times ({ours} against {theirs} of width {frechet['width']})")
    elif frechet:
        lines.append("Frechet distance: too few takes or pieces for one")
    return lines


def _measure_rows(facts: dict) -> list[list[str]]:
    rows = []
    for name, found in facts["measures"].items():
        shares = [percent(found[share]) for share in ("takes_inside", "real_inside", "pass_rate")]
        rows.append([spaced(name), *map(digits, found["real"]), digits(found["takes"]), *shares])
    shares = [percent(facts["overall"][share]) for share in ("takes_inside", "real_inside", "pass_rate")]
    return [*rows, ["mean", "", "", "", "", *shares]]


# --- the page --------------------------------------------------------------------------------------------------


def page(found: Evaluation, images: dict[str, bytes]) -> str:
    """One HTML page that needs no other file."""
    facts = found.facts
    title = f"{facts['run']} beside real music"
    shown = {name: embedded(name, data) for name, data in images.items()}
    parts = [tag("h1", title), tag("p", _headline(facts)), *(tag("p", text) for text in facts["remarks"])]
    parts += [tag("h2", "Likelihood"), *(tag("p", text) for text in _nats_lines(facts)), shown.pop("loss")]
    parts += [tag("h2", "Measures"), tag("p", _HOW_MEASURES + _uncertain(facts), "note")]
    parts += [html_table(COLUMNS, _measure_rows(facts), summed=True), shown.pop("measures")]
    parts += [tag("h2", "Notes and hidden states"), tag("p", _HOW_WHOLE, "note")]
    parts += [*(tag("p", text) for text in _whole_lines(facts)), shown.pop("histograms")]
    parts += [tag("h2", "Music"), *shown.values()]
    return document(title, parts)


_HOW_MEASURES = (
    "Inside is between the 5th and the 95th percentile of the real excerpts. Real music is judged in the same way, "
    "each piece by the others. 100 % of the real rate: in this measure takes cannot be told from real music. More than "
    "that is no merit: they keep nearer to the middle than real music does."
)


def _uncertain(facts: dict) -> str:
    """The standard error of a share of one half, from as many takes."""
    count = facts["takes"]["count"]
    return (
        f" The share of {counted(count, 'take')} is uncertain by up to {50 / count**0.5:.0f} points." if count else ""
    )


_HOW_WHOLE = (
    "Notes of all takes against notes of all excerpts: the area both histograms share, and the Kullback-Leibler "
    "divergence of the takes from the excerpts, half a note added to every bin. The Frechet distance compares the mean "
    "hidden states of whole excerpts, with as many samples for its real figure; read only how many times that it is."
)


# --- pictures --------------------------------------------------------------------------------------------------


def pictures(found: Evaluation) -> dict[str, bytes]:
    """The pictures of an evaluation as PNG, by name: loss, measures, histograms, and piano rolls."""
    facts = found.facts
    drawn = {"loss": _loss(facts["likelihood"]), "measures": _strips(facts["measures"])}
    drawn["histograms"] = _histograms(facts["histograms"], "seconds" if facts["unit"] == "seconds" else "quarters")
    takes = [(score, f"take: {name}") for name, score in zip(facts["takes"]["names"], found.takes, strict=True)]
    paths = facts["excerpts"]["paths"]
    real = [(excerpt.score, f"real: {path}") for path, excerpt in zip(paths, found.excerpts, strict=True)]
    for kind, music, count in (("take", takes, SHOWN_TAKES), ("excerpt", real, SHOWN_EXCERPTS)):
        drawn |= {f"{kind}-{number + 1}": roll_png(*music[number]) for number in evenly(range(len(music)), count)}
    return drawn


def _loss(found: dict) -> bytes:
    """Nats a note by kind of token, largest first, and nats a token along the row."""
    kinds = sorted(found["by_kind"].items(), key=lambda item: item[1]["nats_per_note"] or 0)
    figure = canvas(11, 0.6 + 0.28 * max(len(kinds), 6))
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    spent = [told["nats_per_note"] or 0 for _, told in kinds]
    bars = left.barh([name for name, _ in kinds], spent, color=REAL)
    left.bar_label(bars, [f"{digits(told['nats_per_token'])} a token" for _, told in kinds], padding=3, fontsize=8)
    left.set(title="nats a note, by kind of token", xlim=(0, 1.25 * max(spent, default=1) or 1))
    along = np.array([place["nats_in_same_mix"] for place in found["by_place"]], dtype=float)
    middle = found["nats_per_token"] or 1
    right.plot(along, "o-", color=REAL)
    right.set_xticks(range(len(along)), [f"from {place['from']}" for place in found["by_place"]])
    low, high = np.nanmin([0.9 * middle, *along]), np.nanmax([1.1 * middle, *along])
    right.set(title="nats a token, by place in the row", xlim=(-0.5, len(along) - 0.5), ylim=(low, high))
    return png(figure)


def _strips(measures: dict[str, dict]) -> bytes:
    """Every excerpt and every take as a dot, measure by measure; what lies inside is shaded."""
    rows = -(-len(measures) // STRIPS)
    figure = canvas(11, 0.6 + 0.95 * rows)
    shuffle = np.random.default_rng(0)
    grid = figure.subplots(rows, STRIPS, squeeze=False)
    for axes in grid.flat[len(measures) :]:
        axes.remove()
    for axes, (name, found) in zip(grid.flat, measures.items(), strict=False):
        axes.axvspan(found["real"][0], found["real"][2], color=REAL, alpha=0.12, linewidth=0)
        for height, kind, colour in ((1, "real", REAL), (0, "takes", TAKES)):
            values = np.array([value for value in found["values"][kind] if value is not None])
            at = height + shuffle.uniform(-0.25, 0.25, len(values))
            axes.plot(values, at, "o", color=colour, alpha=0.5, markersize=4, markeredgewidth=0)
            if len(values):
                axes.plot(np.median(values), height, "|", color=colour, markersize=16, markeredgewidth=2)
        axes.set_title(spaced(name), fontsize=9, loc="left")
        axes.set_ylim(-0.6, 1.6)
        axes.set_yticks([1, 0], ["real", "takes"])
    return png(figure)


def _histograms(found: dict[str, dict], unit: str) -> bytes:
    """The share of notes in each bin, real music filled, takes as a line."""
    figure = canvas(11, 6)
    for axes, (name, told) in zip(figure.subplots(2, 2).flat, found.items(), strict=True):
        at = np.arange(len(told["values"]))
        shown = np.flatnonzero(np.array(told["real"]) + np.array(told.get("takes", told["real"])))
        low, high = (shown[0], shown[-1]) if len(shown) else (0, len(at) - 1)
        for kind, style in (("real", {"fill": True, "color": REAL, "alpha": 0.35}), ("takes", {"color": TAKES})):
            if sum(told.get(kind, ())):
                share = np.array(told[kind]) / sum(told[kind])
                axes.stairs(share[low : high + 1], np.arange(low, high + 2) - 0.5, label=kind, linewidth=1.8, **style)
        some = at[low : high + 1][:: max(1, -(-(high - low + 1) // 13))]
        time = name in ("duration", "onset_interval")
        axes.set_xticks(some, [_tick(told["values"][tick], time and unit == "quarters") for tick in some])
        axes.set_title(spaced(name) + (f" ({unit})" if time else ""), fontsize=10, loc="left")
        if axes.get_legend_handles_labels()[0]:  # drums have no pitches
            axes.legend(frameon=False, fontsize=8)
    return png(figure)


def _tick(value: float, fraction: bool) -> str:
    return str(Fraction(value).limit_denominator(12)) if fraction else f"{value:.3g}"
