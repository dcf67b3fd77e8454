"""A piano roll as a picture: notes coloured by part over the keyboard, bar by bar, in as many rows as it takes."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...files import write_file
from .chords import spell
from .keys import estimate_key
from .score import PARTS, Score, ends_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by most colour-blind eyes; "other" is their blue, as most music is only that.
COLOURS = dict(zip(PARTS, ("#D55E00", "#009E73", "#56B4E9", "#CC79A7", "#0072B2", "#666666", "#0072B2"), strict=True))
BARS_PER_ROW, SECONDS_PER_ROW = 16, 30
MAX_ROWS = 6
SHADE = "#fff0b8"  # behind what is new
WIDTH = 14.0  # inches
LARGEST, SMALLEST = 9, 5.5  # points of a chord's name
LINE = 11  # points from a line of chords' names to the one above it
DPI = 110
BLACK_KEYS = (1, 3, 6, 8, 10)
BENEATH = ("drums", "accompaniment", "left", "other", "right", "bass", "melody")  # what is drawn first, what on top


class Layout(NamedTuple):
    """The horizontal axis: where each row starts and stops, its lines and their labels, in ticks or in seconds."""

    edges: np.ndarray  # (rows + 1,)
    lines: np.ndarray
    labels: list[str]


class ChordName(NamedTuple):
    """A chord's name above a row: where, in how many points, in which line from below; `again` if it only holds on."""

    position: float
    text: str
    size: float
    line: int
    again: bool


def draw_roll(
    score: Score, path: str | Path, title: str = "", *, region: tuple[int, int] | None = None, new: bool = False
) -> None:
    """Draw a score as a PNG: colour is the part, opacity the velocity, chord names stand along the top,
    and the `region` from one tick to another is shaded, as what is new.

    The file appears only when it is whole. Raises FileError where the disk refuses; with `new` also where something is
    there.
    """
    write_file(path, roll_png(score, title, region), new=new)


def roll_png(score: Score, title: str = "", region: tuple[int, int] | None = None) -> bytes:
    """The piano roll of a score, as PNG: rows of 16 bars (30 seconds in free time), longer ones where more than six
    would be needed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    layout = _layout(score)
    rows = len(layout.edges) - 1
    low, high = _pitch_range(score)
    height = float(np.clip(0.045 * (high - low), 1.3, 3.2))
    names = [chord_names(score, *layout.edges[row : row + 2].tolist()) for row in range(rows)]
    between = 0.55 + LINE / 72 * any(name.line for row in names for name in row)
    figure = Figure(figsize=(WIDTH, rows * (height + between) + 0.45), dpi=DPI, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    total = figure.get_figheight()
    for row in range(rows):
        bottom = total - 0.45 - (row + 1) * (height + between) + 0.3
        axes = figure.add_axes((0.45 / WIDTH, bottom / total, 1 - 0.7 / WIDTH, height / total))
        axes.set_xlim(*layout.edges[row : row + 2])
        axes.set_ylim(low - 0.5, high + 0.5)
        if region:
            axes.axvspan(*_position(score, region), color=SHADE, linewidth=0, zorder=-1)
        _draw_keyboard(axes, low, high)
        _draw_time(axes, layout)
        _draw_notes(axes, score)
        _draw_chords(axes, names[row])
    _draw_heading(figure, score, title, total, shaded=region is not None)
    buffer = io.BytesIO()
    canvas.print_png(buffer)
    return buffer.getvalue()


def _position(score: Score, ticks) -> np.ndarray:
    """Ticks on the horizontal axis: seconds in free time, else ticks, so that bars are equally wide."""
    return score.seconds(ticks) if score.free else np.asarray(ticks, dtype=np.float64)


def _layout(score: Score) -> Layout:
    if score.free:
        seconds = max(float(score.seconds(score.end)), 1.0)
        rows = min(-(-seconds // SECONDS_PER_ROW), MAX_ROWS)
        length = max(SECONDS_PER_ROW, -(-seconds // rows)) if rows > 1 else seconds
        edges = np.arange(rows + 1) * length
        step = next(step for step in (1, 2, 5, 10, 30, 60, 300, 600, 3600) if length / step <= 20)
        lines = np.arange(0, edges[-1] + step, step)
        return Layout(edges, lines, [f"{line // 60:.0f}:{line % 60:02.0f}" for line in lines])
    bars = score.bars()
    count = len(bars) - 1
    per_row = max(BARS_PER_ROW, 4 * -(-count // (4 * MAX_ROWS))) if count > BARS_PER_ROW else count
    rows = -(-count // per_row)
    edges = bars[np.minimum(np.arange(rows + 1) * per_row, count)].astype(np.float64)
    if rows > 1:  # the last row keeps the scale of the others
        edges[-1] = max(edges[-1], edges[-2] + np.diff(edges[:-1]).max())
    step = 2 ** max(0, int(np.ceil(np.log2(per_row / 24))))
    return Layout(
        edges,
        bars[::step].astype(np.float64),
        [str(bar + 1) if bar < count else "" for bar in range(0, count + 1, step)],
    )


def _pitch_range(score: Score) -> tuple[int, int]:
    """The lowest and highest pitch to show: those played, two more on both sides, and two octaves at least."""
    pitch = score.notes["pitch"].astype(int)
    low, high = (pitch.min() - 2, pitch.max() + 2) if len(pitch) else (48, 72)
    missing = max(0, 24 - (high - low))
    return low - missing // 2, high + missing - missing // 2


def _draw_keyboard(axes: Axes, low: int, high: int) -> None:
    """Grey bands for the black keys, a line and a name at each C."""
    black = [pitch for pitch in range(low, high + 1) if pitch % 12 in BLACK_KEYS]
    thickness = axes.bbox.height * 72 / axes.figure.dpi / (high - low + 1)
    axes.hlines(black, *axes.get_xlim(), color="#f4f4f4", linewidth=thickness, zorder=0)
    octaves = [pitch for pitch in range(low, high + 1) if pitch % 12 == 0]
    axes.hlines(np.array(octaves) - 0.5, *axes.get_xlim(), color="#c8c8c8", linewidth=0.6, zorder=1)
    axes.set_yticks(octaves, [f"C{pitch // 12 - 1}" for pitch in octaves], fontsize=7, color="#555555")
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)


def _draw_time(axes: Axes, layout: Layout) -> None:
    """Lines at the bars or seconds of a row, their names below and to the right of them."""
    start, stop = axes.get_xlim()
    inside = np.flatnonzero((layout.lines >= start) & (layout.lines <= stop))
    axes.vlines(layout.lines[inside], *axes.get_ylim(), color="#b0b0b0", linewidth=0.6, zorder=1)
    inside = inside[layout.lines[inside] < stop]
    axes.set_xticks(layout.lines[inside], [layout.labels[i] for i in inside], fontsize=7, color="#555555", ha="left")


def _draw_notes(axes: Axes, score: Score) -> None:
    """A rectangle for each note that sounds in a row."""
    from matplotlib.collections import PolyCollection
    from matplotlib.colors import to_rgba_array

    notes, (start, stop) = score.notes, axes.get_xlim()
    left = _position(score, notes["onset"])
    right = _position(score, ends_of(notes))
    shown = (left < stop) & (right > start)
    notes, left, right = notes[shown], left[shown], right[shown]
    pixel = (stop - start) / (DPI * WIDTH)
    right = np.maximum(right - pixel, left + 1.5 * pixel)  # a gap between repeated notes; short notes stay visible
    parts = [track.part for track in score.tracks]
    order = np.argsort(np.array([BENEATH.index(part) for part in parts])[notes["track"]], kind="stable")
    notes, left, right = notes[order], left[order], right[order]
    half = np.where(np.array(parts)[notes["track"]] == "drums", 0.2, 0.45)  # a drum has no pitch to be seen
    low, high = notes["pitch"] - half, notes["pitch"] + half
    corners = np.stack([left, low, left, high, right, high, right, low], axis=1).reshape(-1, 4, 2)
    colours = to_rgba_array([COLOURS[part] for part in parts])[notes["track"]]
    colours[:, 3] = 0.4 + 0.6 * notes["velocity"] / 127
    axes.add_collection(PolyCollection(corners, facecolors=colours, linewidth=0, zorder=3), autolim=False)


def chord_names(score: Score, start: float, stop: float) -> list[ChordName]:
    """The names of the chords of a row of the picture, with the one that holds on from the row before.

    Where chords follow each other quickly they are smaller, and if need be in two lines; one that still runs into
    another is left out.
    """
    position = _position(score, score.chords["tick"])
    first = max(int(np.searchsorted(position, start, side="right")) - 1, 0)
    row = score.chords[first : int(np.searchsorted(position, stop))]
    held = int(len(row) > 0 and position[first] < start)
    at = np.maximum(position[first : first + len(row)], start)
    key = estimate_key(score)[:2]
    names = [spell(*chord.tolist()[1:], key) for chord in row]
    widths = np.array([len(name) + 1 for name in names]) * (stop - start) / (WIDTH * 11)
    room = [((at[lines:] - at[:-lines]) / widths[:-lines])[held:].min(initial=1) for lines in (1, 2)]
    size = float(np.clip(room[0] if room[0] >= SMALLEST / LARGEST else room[1], SMALLEST / LARGEST, 1))
    free, found = [start, start], []
    for number, (name, here, width) in enumerate(zip(names, at.tolist(), (widths * size).tolist(), strict=True)):
        again = number < held
        unneeded = again and (row["root"][0] < 0 or (at[1:2] < start + width).any())  # the next chord needs the place
        line = next((line for line in (0, 1) if free[line] <= here), None)
        if not unneeded and line is not None:
            found.append(ChordName(here, name, LARGEST * size, line, again))
            free[line] = here + width
    return found


def _draw_chords(axes: Axes, names: list[ChordName]) -> None:
    """The names of chords above a row, in grey one that holds on from the row before."""
    _, top = axes.get_ylim()
    look = {"weight": "bold", "va": "bottom", "parse_math": False, "annotation_clip": False}
    for name in names:
        above = (0, 2 + name.line * LINE)
        colour = "#999999" if name.again else "#222222"
        place = {"xytext": above, "textcoords": "offset points"}
        axes.annotate(name.text, (name.position, top), **place, fontsize=name.size, color=colour, **look)


def _draw_heading(figure: Figure, score: Score, title: str, total: float, *, shaded: bool) -> None:
    """The title, and what the colours mean where there is more than one, or a shade."""
    from matplotlib.patches import Patch

    place = 1 - 0.08 / total
    title = _printable(" ".join(title.split()))
    figure.text(0.45 / WIDTH, place, title, fontsize=11, weight="bold", color="#222222", va="top", parse_math=False)
    played = {score.tracks[track].part for track in np.unique(score.notes["track"]).tolist()}
    if len(played) > 1 or shaded:
        handles = [Patch(color=COLOURS[part], label=part) for part in PARTS if part in played]
        handles += [Patch(color=SHADE, label="new")] * shaded
        anchor = (1 - 0.25 / WIDTH, 1 - 0.02 / total)
        figure.legend(handles=handles, loc="upper right", bbox_to_anchor=anchor, ncols=8, fontsize=8, frameon=False)


def _printable(text: str) -> str:
    """Text with a box for each character the font does not have."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    return "".join(letter if font.get_char_index(ord(letter)) else "□" for letter in text)
