"""A look at a folder of recordings before anything is learned: what is readable, what is labelled, what is missing.

    found = scan("my-songs", out="my-songs/dataset.json", custom_tag="mystyle")

Every file is in the report, and one that is left out says why.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any, Literal

from ...config import updated
from ...errors import EmptyCorpus, FileError, InputError
from ...files import quoted, seen_from, shown
from ...page import clock, counted
from ...progress import Progress, Reporter, unheard
from ..wave import SILENT, audio_files, listen
from .dataset import Dataset, Metadata, Sample, TagPosition, load_dataset
from .sidecars import collect

SHOWN = 60  # letters of a caption in the table
EXAMPLES = 3  # recordings named where none is usable


@dataclass(frozen=True)
class ScanSettings:
    """What the dataset says of all its songs. None: as it says already, or the default."""

    name: str | None = None
    """The dataset's name; by default the folder's."""
    custom_tag: str | None = None
    """The trigger: a word that stands in every prompt, and later calls the style."""
    tag_position: TagPosition | None = None
    """Where it stands: before the caption (the default), after it, or in its place."""
    all_instrumental: bool | None = None
    """Recordings without lyrics are learned as [Instrumental] (default: True); say False if there is singing in
    them."""
    genre_ratio: int | None = None
    """Percent of the songs that are learned by their genre instead of their caption (default: 0)."""
    believe: Literal["dataset", "sidecars"] = "dataset"
    """Which counts where a dataset that is there already and the files beside the recordings say different things."""
    absolute_paths: bool = False
    """Write absolute paths, for ACE-Step's own tool; by default paths are relative to the dataset."""


@dataclass(frozen=True)
class ScannedFile:
    """A file of the folder, and its sample; or the reason why it has none."""

    path: str
    seconds: float = 0.0
    sample_rate: int = 0
    channels: int = 0
    loudness: float = -math.inf
    reason: str = ""
    remark: str = ""
    sample: Sample | None = None


@dataclass(frozen=True)
class Scan:
    """What scan() found."""

    folder: Path
    recordings: tuple[ScannedFile, ...]
    remarks: tuple[str, ...]
    """Lines on what was left out, contradicts itself, or belongs to no recording."""
    dataset: Dataset
    added: int
    """Samples that the dataset did not have before."""

    @property
    def usable(self) -> list[ScannedFile]:
        return [recording for recording in self.recordings if not recording.reason]

    @property
    def left_out(self) -> list[ScannedFile]:
        return [recording for recording in self.recordings if recording.reason]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the loudness of silence is null."""
        rows = [vars(item) | {"sample": item.sample and item.sample.as_dict()} for item in self.recordings]
        for row in rows:
            row["loudness"] = row["loudness"] if math.isfinite(row["loudness"]) else None
        return {"folder": str(self.folder), "added": self.added, "remarks": list(self.remarks), "recordings": rows}


def scan(
    folder: str | Path,
    settings: ScanSettings | None = None,
    *,
    out: str | Path | None = None,
    report: Reporter = unheard,
    **changes,
) -> Scan:
    """Listen to every recording in a folder, gather the labels that lie beside them, and write a dataset to `out`.

    A dataset that is there already gets what is new; what stands in it stays (or see `believe`). `report` hears
    how far it is. `changes` are fields of ScanSettings.
    Raises InputError without the folder, EmptyCorpus without a usable recording in it, FileError where `out` is
    something else or cannot be written.
    """
    folder, settings = Path(folder), updated(ScanSettings, settings, changes)
    paths = audio_files(folder)
    dataset = _opened(folder, settings, Path(out) if out else None)
    heard: dict[Path, ScannedFile] = {}
    for path in paths:
        heard[path] = _heard(folder, path)
        report(Progress(len(heard) / len(paths), path.name))
    if all(recording.reason for recording in heard.values()):
        raise EmptyCorpus(f"{folder}: none of its recordings can be used: {_reasons(heard.values())}")
    labels = collect(folder, paths)
    remarks, before = labels.remarks + _missing(dataset), len(dataset.samples)
    remarks += _put_in(dataset, heard, labels.found, settings)
    if out:
        dataset.save(out)
    return Scan(folder, tuple(heard.values()), tuple(remarks), dataset, len(dataset.samples) - before)


# --- the dataset -----------------------------------------------------------------------------------------------


def _opened(folder: Path, settings: ScanSettings, out: Path | None) -> Dataset:
    """The dataset that is there, or a new one, with what the settings say of all samples."""
    if out and not out.absolute().parent.is_dir():
        raise InputError(f"--out {out}: choose a file in a folder that exists")
    if out and out.exists():
        dataset = load_dataset(out)
    else:
        dataset = Dataset((out or folder / "dataset.json").absolute().parent, Metadata(name=folder.resolve().name))
    names = {item.name for item in dataclasses.fields(Metadata)}
    dataset.revise({name: value for name, value in vars(settings).items() if name in names and value is not None})
    return dataset


def _put_in(dataset: Dataset, heard: dict[Path, ScannedFile], labels: dict[Path, dict], settings: ScanSettings) -> list:
    """Give every usable recording its sample, with the labels that lie beside it; what to remark on them."""
    remarks, known = [], {dataset.path_of(sample).resolve(): sample for sample in dataset.samples}
    for path, recording in heard.items():
        if recording.reason:
            continue
        sample = known.get(path.resolve()) or _added(dataset, path)
        known[path.resolve()] = sample
        if kept := _label(sample, labels[path], settings):
            remarks.append(f"{recording.path}: kept the dataset's {kept}; its sidecars differ (--believe sidecars)")
        before, sample.duration = sample.duration, max(round(recording.seconds), 1)
        if before and abs(before - sample.duration) > 1:  # other tools round otherwise
            told = f"{recording.path}: lasts {clock(sample.duration)} now, before it was {clock(before)}"
            remarks.append(f"{told}; if it is another recording, measure it anew (annotate --again)")
        heard[path] = dataclasses.replace(recording, sample=sample)
    if settings.absolute_paths:
        for path, sample in known.items():
            sample.audio_path = str(path) if path.exists() else sample.audio_path
    return remarks


def _added(dataset: Dataset, path: Path) -> Sample:
    """A new sample, with an id that no other has."""
    sample = Sample(audio_path=seen_from(dataset.folder, path), custom_tag=dataset.metadata.custom_tag)
    sample.is_instrumental = dataset.metadata.all_instrumental
    taken = {other.id for other in dataset.samples}
    while sample.id in taken:
        sample.id = hashlib.sha256(sample.id.encode()).hexdigest()[:8]
    dataset.samples.append(sample)
    return sample


def _label(sample: Sample, labels: dict[str, Any], settings: ScanSettings) -> str:
    """Take labels where the sample has none, or what annotation wrote; answers the names of those that say something
    else and were not taken."""
    blank, kept = Sample(), []
    for name, value in labels.items():
        there = getattr(sample, name)
        free = there == getattr(blank, name) or sample.is_noted(name)
        if free or settings.believe == "sidecars":
            setattr(sample, name, value)
            sample.is_instrumental = sample.is_instrumental and not sample.has_lyrics
        elif there != value and name != "raw_lyrics":
            kept.append(name)
    sample.labeled = sample.labeled or bool(sample.caption)
    return ", ".join(kept)


def _missing(dataset: Dataset) -> list[str]:
    gone = [sample for sample in dataset.samples if not dataset.path_of(sample).exists()]
    return [f"{sample.audio_path}: in the dataset, but there is no such file" for sample in gone]


# --- the recordings --------------------------------------------------------------------------------------------


def _heard(folder: Path, path: Path) -> ScannedFile:
    name = shown(path.relative_to(folder).as_posix())
    if str(path).encode("utf-8", "ignore").decode() != str(path):
        return ScannedFile(name, reason="its name is not UTF-8; rename it")
    try:
        heard = listen(path)
    except FileError as error:
        return ScannedFile(name, reason=error.reason)
    reason = "" if math.isfinite(heard.loudness) else SILENT
    return ScannedFile(name, heard.seconds, heard.sample_rate, heard.channels, heard.loudness, reason, heard.remark)


def _reasons(recordings: Iterable[ScannedFile]) -> str:
    told = [f"{recording.path}: {recording.reason}" for recording in recordings]
    return "; ".join(told[:EXAMPLES]) + ("; ..." if len(told) > EXAMPLES else "")


# --- on the screen ---------------------------------------------------------------------------------------------


def table(found: Scan):
    """The usable recordings and their labels, for a rich console; genres where there are some."""
    from rich.table import Table
    from rich.text import Text

    genres = any(recording.sample.genre for recording in found.usable)

    rows = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    rows.add_column("file", overflow="fold")
    for name in ("duration", "loudness"):
        rows.add_column(name, justify="right", no_wrap=True)
    for name in ("lyrics", "labelled", "bpm", "key"):
        rows.add_column(name, no_wrap=True)
    for name in [*["genre"] * genres, "caption"]:
        rows.add_column(name)
    for recording in found.usable:
        rows.add_row(*map(Text, _cells(recording, genres=genres)))
    return rows


def told(found: Scan, out: Path | None = None) -> list[str]:
    """What stands below the table: what was left out and why, remarks, a line on all of them, what to do next.

    `out` is the file that the dataset was written to.
    """
    lines = troubles(found)
    return [*([""] if lines else []), *lines, "", _summary(found), _next(found, out)]


def troubles(found: Scan) -> list[str]:
    """What was left out and why, and remarks."""
    lines = [f"left out: {recording.path}: {recording.reason}" for recording in found.left_out]
    lines += [f"{recording.path}: {recording.remark}" for recording in found.recordings if recording.remark]
    return [*lines, *found.remarks, *_without_genre(found)]


def _without_genre(found: Scan) -> list[str]:
    """That recordings which are to be learned by their genre now and then have none."""
    ratio = found.dataset.metadata.genre_ratio
    count = sum(not sample.genre for sample in found.dataset.samples)
    told = f"--genre-ratio {ratio}: {counted(count, 'recording')} without a genre, learned by the caption alone"
    return [told] if ratio and count else []


def _cells(recording: ScannedFile, *, genres: bool) -> list[str]:
    sample = recording.sample
    ticks = ["yes" if tick else "-" for tick in (sample.has_lyrics, sample.labeled)]
    facts = [clock(recording.seconds), f"{recording.loudness:.1f}", *ticks, str(sample.bpm or "-")]
    texts = [*[sample.genre] * genres, sample.caption]
    told = [shorten(text, SHOWN, placeholder="...") or "-" for text in texts]
    return [recording.path, *facts, sample.keyscale or "-", *told]


def _summary(found: Scan) -> str:
    usable, total = found.usable, len(found.recordings)
    levels = [recording.loudness for recording in usable]
    length = clock(sum(recording.seconds for recording in usable))
    spread = f"from {min(levels):.1f} to {max(levels):.1f} LUFS"
    return f"{len(usable)} of {counted(total, 'recording')} can be learned from: {length}, {spread}"


def _next(found: Scan, out: Path | None) -> str:
    """What is still missing, and the command that brings it."""
    if out is None:
        return f"Next: woodshed audio scan {quoted(found.folder)} --out dataset.json"
    samples = found.dataset.samples
    blanks = {"caption": "caption", "bpm": "bpm", "key": "keyscale"}
    lacking = {what: sum(not getattr(sample, name) for sample in samples) for what, name in blanks.items()}
    lacking = [f"{count} without {what}" for what, count in lacking.items() if count]
    if lacking:
        return f"Next: woodshed audio annotate {quoted(out)} ({', '.join(lacking)})"
    return f"Next: woodshed audio ace prepare {quoted(out)} --base ACE-STEP --out tensors"
