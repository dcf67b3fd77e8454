"""The data report on the screen: rich tables that fit 80 columns and 200, and a pipe."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import numpy as np

from ...files import quoted, shown
from ...page import clock, percent
from .report import REASONS, Facts, Inspection, advice, count_files, duration, told_sums
from .tasks import PLAYED_LEVELS

FULL_TABLE = 30  # files up to which each has its line
GRIDS = {
    "kept": "as in the file",
    "shifted": "moved to where the music has them",
    "re-barred": "another metre found",
    "free": "no beat to trust",
    "believed": "not checked",
}
LEFT = {"title_justify": "left", "title_style": "bold"}  # of a rich table
EXAMPLES = 3  # files named for each reason
NAMED = 6  # keys, metres, parts, ... named with their counts


def render(found: Inspection):
    """The report for a rich console; where the usable files are few, each has its line."""
    from rich.console import Group
    from rich.text import Text

    parts = [Text(_headline(found), style="bold"), Text()]
    if found.usable:
        parts += [_overview(found), Text()]
        if len(found.usable) <= FULL_TABLE:
            parts += [_file_table(found), Text()]
    if found.table:
        parts += [_grid([(name, told_sums(sums)) for name, sums in found.table.items()], "In the table"), Text()]
    if found.left_out:
        parts += [_left_out_table(found), Text()]
    if any(finding.remarks for finding in found.usable):
        parts += [_remark_table(found), Text()]
    parts += [_grid([("-", line) for line in advice(found)], "Advice"), Text()]
    if found.usable:
        parts.append(Text(shown(f"Next: woodshed prepare {quoted(found.folder)} --out CORPUS, with the same flags")))
    return Group(*parts)


def _headline(found: Inspection) -> str:
    some = f"{len(found.usable):,} of {count_files(len(found.findings))} can be learned from"
    notes = sum(finding.facts.notes for finding in found.usable)
    return f"{some}: {duration(found.seconds)}, {notes:,} notes" if found.usable else some


def _overview(found: Inspection):
    """Label and value, a line each."""
    facts = [finding.facts for finding in found.usable]
    rows = [
        ("length", _spread([fact.seconds for fact in facts], clock)),
        ("notes a second", _spread([fact.notes_per_second for fact in facts], "{:.1f}".format)),
        ("pitches", f"{min(fact.lowest for fact in facts)} to {max(fact.highest for fact in facts)} (60 is middle C)"),
        ("keys", _common(fact.key for fact in facts if fact.key)),
        ("metre", _common("free time" if fact.free else fact.metre for fact in facts)),
        ("tempo", _spread([fact.bpm for fact in facts if fact.bpm], "{:.0f} bpm".format)),
        ("bars and beats", _common(GRIDS[fact.grid] for fact in facts)),
        ("parts", _common(part for fact in facts for part in fact.parts)),
        ("dynamics", _common(map(_dynamics, facts))),
        ("pedal", _pedal(facts)),
        ("chords", _common("in the file" if fact.chords else "none written" for fact in facts)),
    ]
    return _grid([row for row in rows if row[1]])


def _dynamics(fact: Facts) -> str:
    if fact.velocities == 1:
        return "all equally loud"
    return "played" if fact.velocities >= PLAYED_LEVELS else "some marks"


def _pedal(facts: list[Facts]) -> str:
    used = [fact.pedal for fact in facts if fact.pedal]
    return f"in {count_files(len(used))}, down for {percent(float(np.median(used)))} of the time" if used else "none"


def _spread(values: list[float], tell) -> str:
    """Median and range."""
    if not values:
        return ""
    low, middle, high = (tell(float(value)) for value in np.quantile(values, [0, 0.5, 1]))
    return f"{middle}, from {low} to {high}" if low != high else middle


def _common(values: Iterable[str]) -> str:
    """The most frequent values with their counts."""
    counts = Counter(values).most_common()
    told = ", ".join(f"{value} {count:,}" for value, count in counts[:NAMED])
    return told + (f", {len(counts) - NAMED} more" if len(counts) > NAMED else "")


def _grid(rows: Iterable[tuple[str, str]], title: str = ""):
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2, 0, 0))
    if title:
        table = Table(title=title, box=None, show_header=False, pad_edge=False, **LEFT)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for label, value in rows:
        table.add_row(Text(shown(label)), Text(shown(value)))
    return table


def _file_table(found: Inspection):
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Files", box=None, pad_edge=False, header_style="dim", **LEFT)
    table.add_column("file", no_wrap=True, overflow="ellipsis", ratio=1)
    for name in ("length", "notes", "key", "bpm", "metre"):
        table.add_column(name, justify="left" if name == "key" else "right", no_wrap=True)
    for finding in found.usable:
        fact = finding.facts
        bpm = f"{fact.bpm:.0f}" if fact.bpm else ""
        told = [finding.path, clock(fact.seconds), f"{fact.notes:,}", fact.key, bpm, fact.metre]
        table.add_row(*(Text(shown(cell)) for cell in told))
    return table


def _left_out_table(found: Inspection):
    rows = []
    for reason, count in found.counts().items():
        some = [finding for finding in found.left_out if finding.reason == reason]
        rows.append((count_files(count), f"{reason}: {REASONS[reason]}"))
        rows += [
            ("", finding.path + f": {finding.detail}" * (finding.detail != REASONS[reason]))
            for finding in some[:EXAMPLES]
        ]
        rows += [("", f"... and {count - EXAMPLES:,} more")] * (count > EXAMPLES)
    return _grid(rows, "Left out")


def _remark_table(found: Inspection):
    """Remarks that differ only in their numbers count as one."""
    alike: dict[str, list[str]] = {}
    for finding in found.usable:
        for remark in finding.remarks:
            alike.setdefault(re.sub(r"\d[\d.,/]*", "#", remark), []).append(f"{remark} ({finding.path})")
    most = sorted(alike.values(), key=len, reverse=True)
    return _grid([(count_files(len(told)), told[0] + " ..." * (len(told) > 1)) for told in most], "Remarks")
