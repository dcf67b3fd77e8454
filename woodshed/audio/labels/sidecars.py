"""What lies beside recordings and labels them.

    song.caption.txt   song.lyrics.txt, else song.txt   song.json   and .csv tables with a row for each file

A JSON holds caption, genre, bpm, keyscale, timesignature and language, or some of them; a table is an export of
Key-BPM-Finder (File,Artist,Title,BPM,Key,Camelot), with a column Caption or Genre where somebody added one. Where they
disagree what lies beside the recording counts more than a table, and its JSON more than its text.
"""

from __future__ import annotations

import csv
import difflib
import io
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PureWindowsPath
from textwrap import shorten
from typing import Any

from ...errors import InputError
from ...files import object_of, shown
from ..wave import visible_files
from .dataset import read_bpm, read_key, read_language, read_metre
from .lyrics import clean, decoded


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InputError(f"{name} {value!r}: give a text")
    return value.strip()


# what a JSON or a table calls it: the field of a Sample, and how it is read
LABELS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "caption": ("caption", partial(_text, "caption")),
    "genre": ("genre", partial(_text, "genre")),
    "bpm": ("bpm", read_bpm),
    "keyscale": ("keyscale", read_key),
    "key": ("keyscale", read_key),
    "timesignature": ("timesignature", read_metre),
    "language": ("language", lambda value: read_language(_text("language", value))),
}
COLUMNS = ("caption", "genre", "bpm", "key")
SHOWN = 40  # letters of a caption in a remark
MOST_TEXT, MOST_TABLE = 2**20, 2**24  # bytes: the lyrics of an opera have fewer, and the table of 100,000 songs


@dataclass
class Labels:
    """The labels of the recordings in a folder, and what is wrong with the files that hold them."""

    folder: Path
    found: dict[Path, dict[str, Any]]
    """For each recording the fields of a Sample that are known."""
    remarks: list[str] = field(default_factory=list)
    """A line for each file, row or value that was left out, and for labels that contradict one another."""
    sources: dict[tuple[Path, str], str] = field(default_factory=dict, repr=False)

    def name(self, path: Path) -> str:
        return shown(path.relative_to(self.folder).as_posix())

    def put(self, path: Path, name: str, value: object, source: str) -> None:
        """Take one value by the name that `source` gives it; what cannot be read is told and left out."""
        if value is None or value == "":
            return
        label, read = LABELS[name]
        try:
            value = read(value)
        except InputError as error:
            self.remarks.append(f"{source}: {error}; left out")
            return
        known = self.found[path]
        if label in known and known[label] != value:
            here, there = (shorten(str(text), SHOWN, placeholder="...") for text in (value, known[label]))
            where = self.sources[path, label]
            self.remarks.append(f"{self.name(path)}: {label} is {here} in {source}, not {there} as in {where}")
        known[label], self.sources[path, label] = value, source


def collect(folder: str | Path, recordings: Iterable[Path]) -> Labels:
    """Read everything that labels `recordings`, files in `folder` or below it.

    Names are compared without case and in one Unicode form. Nothing is raised for a bad file: it is in the remarks.
    """
    folder = Path(folder)
    labels = Labels(folder, {path: {} for path in recordings})
    files = {_key(path): path for path in visible_files(folder)}
    for path in files.values():
        if path.suffix.lower() == ".csv":
            _take_table(labels, path)
    used = defaultdict(list)
    for path in labels.found:
        for sidecar in _beside(labels, path, files):
            used[sidecar].append(path)
    for path in files.values():
        if _key(path).endswith((".lyrics.txt", ".caption.txt")) and path not in used:
            labels.remarks.append(f"{labels.name(path)}: there is no recording of that name")
    for sharing in dict.fromkeys(tuple(paths) for paths in used.values() if len(paths) > 1):
        names = ", ".join(labels.name(path) for path in sharing)
        labels.remarks.append(f"{names}: one set of labels for all; if it is one song, keep one file, else rename them")
    return labels


def _key(path: Path | str) -> str:
    """A name without case and in one Unicode form: macOS writes an ä as two characters."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def _read(labels: Labels, path: Path, most: int = MOST_TEXT) -> str:
    """The text of a file of at most so many bytes, or nothing and a remark. UTF-8, or UTF-16 where the file says so."""
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise OSError(f"more than {most // 2**20} MiB; keep its labels alone in it")
        return decoded(data)
    except OSError as error:
        reason = error.strerror or str(error)
    except UnicodeDecodeError:
        reason = "not UTF-8; save it as UTF-8"
    labels.remarks.append(f"{labels.name(path)}: cannot be read: {reason}")
    return ""


# --- one recording ---------------------------------------------------------------------------------------------


def _beside(labels: Labels, path: Path, files: dict[str, Path]) -> list[Path]:
    """Take the labels beside a recording; the files they come from."""
    used = []

    def texts(*endings: str) -> Iterator[tuple[Path, str]]:
        for ending in endings:
            if sidecar := files.get(_key(f"{path.with_suffix('')}{ending}")):
                used.append(sidecar)
                yield sidecar, _read(labels, sidecar).strip()

    for sidecar, text in texts(".caption.txt"):
        labels.put(path, "caption", text, labels.name(sidecar))
    for _, text in texts(".lyrics.txt", ".txt"):
        if clean(text):
            labels.found[path] |= {"raw_lyrics": text, "lyrics": clean(text)}
            break
    for sidecar, text in texts(".json"):
        _take_json(labels, path, sidecar, text)
    return used


def _take_json(labels: Labels, path: Path, sidecar: Path, text: str) -> None:
    source = labels.name(sidecar)
    try:
        data = object_of(text or "{}")
    except ValueError as error:
        labels.remarks.append(f'{source}: not a JSON object like {{"bpm": 120}} ({error}); left out')
        return
    for name, value in data.items():
        if name in LABELS:
            labels.put(path, name, value, source)
        elif near := difflib.get_close_matches(name.lower(), LABELS, n=1, cutoff=0.75):
            labels.remarks.append(f"{source}: no label is called {name!r}; did you mean {near[0]!r}?")


# --- tables ----------------------------------------------------------------------------------------------------


def _take_table(labels: Labels, table: Path) -> None:
    """Take a table; its rows name files in its folder or below it."""
    names = defaultdict(list)
    for path in labels.found:
        if path.is_relative_to(table.parent):
            names[_key(path.name)].append(path)
            names[_key(path.stem)].append(path)
    try:
        text = _read(labels, table, MOST_TABLE)
        for number, row in _rows(text) if text else ():
            source, file = f"{labels.name(table)} row {number}", PureWindowsPath(row["file"]).name
            if None in row:
                told = "more values than columns; put a text that holds the separator into quotes"
                labels.remarks.append(f"{source}: {told}; left out")
                continue
            named = names[_key(file)]
            if not named:
                labels.remarks.append(f"{source}: there is no recording {row['file']!r}")
            if len({path.suffix for path in named}) < len(named):
                labels.remarks.append(f"{source}: there are {len(named)} recordings {file!r}; all get its labels")
            for path in named:
                for column in COLUMNS:
                    labels.put(path, column, row.get(column), source)
    except (csv.Error, InputError) as error:
        labels.remarks.append(f"{labels.name(table)}: {error}")


def _rows(text: str) -> Iterator[tuple[int, dict[str | None, str]]]:
    """The rows that name a file, with the number of their line, by lower-case column. An InputError without `File`."""
    lines = io.StringIO(text, newline="").readlines()
    skipped = 0
    while lines and (not lines[0].strip() or lines[0].lower().startswith("sep=")):  # Excel names the separator first
        lines, skipped = lines[1:], skipped + 1
    header = lines[0] if lines else ""
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(lines, delimiter=delimiter)
    columns = [name.strip().lower() for name in _filled(next(reader, []))]
    if "file" not in columns:
        raise InputError(f"not a table of labels: it has no column File, only {', '.join(columns) or 'nothing'}")
    for values in reader:
        row = _row(columns, _filled(values), delimiter)
        if row.get("file"):
            row["key"] = row.get("key") or row.get("camelot", "")
            yield skipped + reader.line_num, row


def _row(columns: list[str], values: list[str], delimiter: str) -> dict[str | None, str]:
    """Values by their columns. A caption in the last one may hold the delimiter; else surplus is under None."""
    last = len(columns) - 1
    if columns[last] == "caption":
        values = [*values[:last], delimiter.join(values[last:])]
    names = columns + [None] * (len(values) - len(columns))
    return dict(zip(names, (value.strip() for value in values), strict=False))


def _filled(cells: list[str]) -> list[str]:
    """Without the empty cells that spreadsheets write at the end."""
    count = max((at for at, cell in enumerate(cells, 1) if cell.strip()), default=0)
    return cells[:count]
