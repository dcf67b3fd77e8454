"""What the pages have in common: one HTML file that holds its pictures in itself, so that it can be sent as one file.

The pictures stand on white, in the dark as well.
"""

from __future__ import annotations

import base64
import io
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape

from .files import shown

_STYLE = """
:root { color-scheme: light dark; --line: #8886; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
th, td { padding: .2rem .8rem .2rem 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child, td[colspan] { text-align: left; }
td[colspan] { white-space: normal; }
.summed tr:last-child td { font-weight: bold; }
img { max-width: 100%; background: white; border-radius: 6px; margin: .5rem 0; }
.note { opacity: .75; }
"""


# --- HTML ------------------------------------------------------------------------------------------------------


def document(title: str, parts: Iterable[str]) -> str:
    """One HTML page of parts that are HTML already."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{escape(title)}</title>'
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n'
    )


def tag(name: str, text: str, kind: str = "") -> str:
    """A tag around text, which may hold anything."""
    return f"<{name}{f' class={kind}' if kind else ''}>{escape(text)}</{name}>"


def embedded(name: str, data: bytes) -> str:
    """A picture that stands in the page itself."""
    return f'<img alt="{escape(spaced(name))}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'


def html_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, summed: bool = False) -> str:
    """A table; `summed` says that its last row is over the others. A row of two cells may be a name and a sentence:
    the second goes over all columns that are left.
    """
    lines = ["".join(tag("th", name) for name in columns), *(_cells(row, len(columns)) for row in rows)]
    return "\n".join([f"<table{' class=summed' * summed}>", *(f"<tr>{line}</tr>" for line in lines), "</table>"])


def _cells(row: Sequence[str], columns: int) -> str:
    if len(row) == columns:
        return "".join(tag("td", cell) for cell in row)
    first, rest = row
    return f"{tag('td', first)}<td colspan={columns - 1}>{escape(rest)}</td>"


def text_table(columns: Iterable[str], rows: Iterable[Sequence[str]], **how):
    """The same for a rich console, names at the left and figures at the right; `how` is told to Rich of each column."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", **how)
    for row in rows:
        table.add_row(*(Text(shown(cell)) for cell in row))
    return table


# --- words -----------------------------------------------------------------------------------------------------


def spaced(name: str) -> str:
    """The name of a measure as it is read."""
    return name.replace("_", " ")


def counted(number: int, thing: str) -> str:
    """ "1 take", "20 takes"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def tally(reasons: Iterable[str]) -> str:
    """ "3 silent, 1 damaged"; what is most often comes first."""
    return ", ".join(f"{count} {reason}" for reason, count in Counter(reasons).most_common())


def clock(seconds: float) -> str:
    """ "3:07", "1:02:45"; dashes for what is not known, or has no end."""
    if not math.isfinite(seconds):
        return "--:--"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def digits(value: float | None) -> str:
    """Three significant digits or so, a dash for none."""
    return "-" if value is None else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def percent(share: float | None) -> str:
    """A share in percent, a dash for none."""
    return "-" if share is None else f"{100 * share:.0f} %"


# --- pictures --------------------------------------------------------------------------------------------------


def canvas(width: float, height: float):
    """An empty matplotlib Figure, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def png(picture, *, grid: str = "x") -> bytes:
    """A Figure as PNG, its axes without frames."""
    for axes in picture.axes:
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(length=0, labelsize=8)
        axes.grid(axis=grid, alpha=0.25)
    buffer = io.BytesIO()
    picture.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()
