"""A table beside the music: who wrote what, who played it when, and in which split it belongs.

The columns are those of the MAESTRO dataset (https://magenta.tensorflow.org/datasets/maestro), of which only
`midi_filename` has to be there: canonical_composer, canonical_title, split, year, midi_filename, audio_filename (the
recording of the same performance), duration (seconds); others are passed over. A column of our own, weight, says how
often a piece is drawn in training, 1 being usual. The table is read as CSV and in both forms of MAESTRO's JSON: a list
of rows, or a column under each name.
"""

from __future__ import annotations

import csv
import io
import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import FileError, InputError
from ...files import parsed
from ..music.parts import without_accents
from .report import Finding

if TYPE_CHECKING:
    from .inspect import InspectSettings

SPLIT_WORDS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation", "test": "test"}


@dataclass(frozen=True)
class TableRow:
    """One row of the table; what it leaves out is empty, or None."""

    midi_filename: str
    audio_filename: str = ""
    composer: str = ""
    title: str = ""
    split: str = ""
    year: int | None = None
    duration: float | None = None
    weight: float | None = None

    @property
    def song(self) -> str:
        """Composer and title: performances of one piece share it. Empty where either is missing."""
        return f"{self.composer}: {self.title}" if self.composer and self.title else ""


@dataclass(frozen=True)
class Table:
    """The table by file."""

    rows: Mapping[str, TableRow]

    def of(self, path: str) -> TableRow | None:
        """The row of a file, by its path in the folder, or by its name where that is in the table only once."""
        path = _normal(path)
        return self.rows.get(path) or self.rows.get("/" + path.rpartition("/")[2])

    def recording(self, path: str) -> str:
        """The recording of a file, as the table names it, or nothing."""
        row = self.of(path)
        return row.audio_filename if row else ""

    def split(self, path: str) -> str:
        """The split the table gives a file, or nothing."""
        row = self.of(path)
        return row.split if row else ""

    def weight(self, path: str) -> float:
        """How often the table wants a file drawn, 1 where it does not say."""
        row = self.of(path)
        return 1.0 if row is None or row.weight is None else row.weight

    def performances(self) -> list[TableRow]:
        """Every row once, in the order of the table."""
        return [row for name, row in self.rows.items() if not name.startswith("/")]

    def chosen(self, asked: InspectSettings) -> Table:
        """Only the rows that are asked for."""
        return Table({name: row for name, row in self.rows.items() if not _not_selected(row, asked)})

    def sums(self, findings: Iterable[Finding]) -> dict[str, dict]:
        """Performances, hours and notes of each split of the table, whatever was left out of its files.

        Notes are those of the files that were read; hours are the table's, or where it has none theirs.
        """
        told: dict[str, dict] = {}
        known = {finding.path: finding.facts for finding in findings if finding.facts}
        heard = {row.midi_filename: known[path] for path in known if (row := self.of(path))}
        for row in self.performances():
            sums = told.setdefault(row.split or "none", {"performances": 0, "hours": 0.0, "notes": 0, "missing": 0})
            facts = heard.get(row.midi_filename)
            sums["performances"] += 1
            sums["hours"] += ((facts.seconds if facts else 0.0) if row.duration is None else row.duration) / 3600
            sums["notes"] += facts.notes if facts else 0
            sums["missing"] += facts is None
        return told


def find_metadata(folder: Path) -> Path | None:
    """MAESTRO's own table, where it lies in the folder, in either form."""
    found = [path for kind in ("csv", "json") for path in sorted(folder.glob(f"maestro-v*.{kind}"))]
    return found[0] if found else None


def table_of(folder: Path, asked: InspectSettings) -> Table | None:
    """The table of the files in a folder: the one that is named, or MAESTRO's own. An InputError where there is none
    and some rows are asked for."""
    path = asked.metadata or find_metadata(folder)
    if path is None and asked.selects:
        raise InputError("--composer, --year and --only-split need a table of the files: --metadata FILE")
    return read_metadata(path) if path else None


def asked_for(finding: Finding, table: Table | None, asked: InspectSettings) -> Finding:
    """The finding, left out where it is not asked for."""
    if finding.reason or not asked.selects:
        return finding
    wrong = _not_selected(table.of(finding.path), asked)
    return finding.without("selection", wrong) if wrong else finding


def _not_selected(row: TableRow | None, asked: InspectSettings) -> str:
    """Why a row of the table is not asked for; empty where it is."""
    if row is None:
        return "not in the table"
    if asked.composer and _folded(asked.composer) not in _folded(row.composer):
        return f"composer {row.composer or 'unknown'}"
    if asked.year and row.year not in parse_years(asked.year):
        return f"year {row.year or 'unknown'}"
    return f"split {row.split or 'unknown'}" if asked.only_split not in (None, row.split) else ""


def _folded(text: str) -> str:
    """Without case and accents, so that Dvorak finds Dvořák."""
    return without_accents(text).casefold()


def parse_years(text: str | None) -> range | None:
    """ "2009" or "2004-2011" as a range."""
    if text is None:
        return None
    first, _, last = text.partition("-")
    if not (first.strip().isdecimal() and (last or first).strip().isdecimal()) or int(last or first) < int(first):
        raise InputError(f"--year {text}: give a year (2009) or a range (2004-2011)")
    return range(int(first), int(last or first) + 1)


def read_metadata(path: str | Path) -> Table:
    """Read a table. Raises FileError where it cannot be read and InputError where it says what it may not."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = _json_rows(parsed(text)) if path.suffix.lower() == ".json" else list(csv.DictReader(io.StringIO(text)))
    except OSError as error:
        raise FileError(path, error.strerror or str(error)) from None
    except (ValueError, csv.Error) as error:
        raise FileError(path, f"not a table in CSV or JSON ({error})") from None
    if not rows or "midi_filename" not in rows[0]:
        columns = ", ".join(map(str, rows[0])) if rows else "no rows"
        raise InputError(f"--metadata {path}: no column midi_filename; it has: {columns}")
    performances = [_performance(row, path) for row in rows if row.get("midi_filename")]
    named = {_normal(row.midi_filename): row for row in performances}
    base = Counter(name.rpartition("/")[2] for name in named)
    short = {"/" + name.rpartition("/")[2]: row for name, row in named.items() if base[name.rpartition("/")[2]] == 1}
    return Table(short | named)


def _json_rows(data) -> list[dict]:
    """Rows from a list of them, or from columns that map a row's number to its value."""
    if isinstance(data, list) and all(isinstance(row, dict) for row in data):
        return data
    if isinstance(data, dict) and all(isinstance(column, dict) for column in data.values()):
        numbers = data.get("midi_filename", {})
        return [{name: column.get(number) for name, column in data.items()} for number in numbers]
    raise ValueError("expected a list of rows, or columns by name")


def _performance(row: dict, path: Path) -> TableRow:
    told = {name: "" if row.get(name) is None else str(row[name]).strip() for name in row if name}
    split = told.get("split", "").lower()
    if split and split not in SPLIT_WORDS:
        raise InputError(
            f"--metadata {path}: split {split!r} of {told['midi_filename']}; use train, validation or test"
        )
    weight = _number(float, told, "weight", path)
    if weight is not None and not 0 <= weight < math.inf:
        raise InputError(f"--metadata {path}: weight {weight} of {told['midi_filename']}; give 0 (never drawn) or more")
    return TableRow(
        midi_filename=told["midi_filename"],
        audio_filename=told.get("audio_filename", ""),
        composer=told.get("canonical_composer", ""),
        title=told.get("canonical_title", ""),
        split=SPLIT_WORDS.get(split, ""),
        year=_number(int, told, "year", path),
        duration=_number(float, told, "duration", path),
        weight=weight,
    )


def _number(kind: type, told: dict[str, str], name: str, path: Path):
    try:
        return kind(told[name]) if told.get(name) else None
    except ValueError:
        raise InputError(
            f"--metadata {path}: {name} {told[name]!r} of {told['midi_filename']} is not a number"
        ) from None


def _normal(path: str) -> str:
    """One spelling for a path: / between folders and none before them, accents composed."""
    return unicodedata.normalize("NFC", path.replace("\\", "/")).removeprefix("./").lstrip("/")
