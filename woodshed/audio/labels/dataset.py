"""The dataset: recordings and their labels in one readable JSON file, in the layout of ACE-Step's own tool.

    {"metadata": {name, custom_tag, tag_position, created_at, num_samples, all_instrumental, genre_ratio},
     "samples": [{id, audio_path, filename, caption, genre, lyrics, raw_lyrics, formatted_lyrics, bpm, keyscale,
                  timesignature, duration, language, is_instrumental, custom_tag, labeled, prompt_override}]}

    dataset = load_dataset("dataset.json")       dataset.path_of(sample) is the recording of a sample
    dataset.save("dataset.json")                 what a person wrote into the file meanwhile stays

https://github.com/ace-step/ACE-Step-1.5. What other tools wrote besides is kept.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PureWindowsPath
from typing import Any, Literal, TypeVar

import numpy as np

from ...errors import FileError, InputError
from ...files import found_from, object_of, seen_from, write_file
from ...jobs import one_writer
from ...key_profiles import TONICS

INSTRUMENTAL = "[Instrumental]"
OURS = "woodshed"  # the key of what annotation notes in a sample, and who wrote what was measured
SLOWEST, FASTEST = 30, 300  # bpm that ACE-Step knows
METRES = ("2", "3", "4", "6")  # beats of a bar that it knows
_SIGNS = {"sharp": "#", "flat": "b"}
TagPosition = Literal["prepend", "append", "replace"]
Record = TypeVar("Record", "Sample", "Metadata")


@dataclass
class Sample:
    """One recording and its labels; the fields are those of the file."""

    id: str = ""
    audio_path: str = ""
    """As it stands in the file: seen from the file's folder, or absolute."""
    filename: str = ""
    caption: str = ""
    genre: str = ""
    lyrics: str = INSTRUMENTAL
    """What is learned."""
    raw_lyrics: str = ""
    """What the musician wrote, as it was."""
    formatted_lyrics: str = ""
    bpm: int | None = None
    keyscale: str = ""
    timesignature: str = ""
    """Beats of a bar."""
    duration: int = 0
    """Seconds."""
    language: str = "unknown"
    is_instrumental: bool = True
    custom_tag: str = ""
    """Empty: the dataset's."""
    labeled: bool = False
    prompt_override: Literal["caption", "genre"] | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    """What another tool wrote."""

    def __post_init__(self):
        self.filename = self.filename or PureWindowsPath(self.audio_path).name
        self.id = self.id or hashlib.sha256(self.audio_path.encode("utf-8", "replace")).hexdigest()[:8]

    @property
    def has_lyrics(self) -> bool:
        """Whether somebody sings words that are written down."""
        return is_sung(self.lyrics)

    @property
    def notes(self) -> dict[str, dict]:
        """What annotation wrote, by field: {"value", "by", "sure"}."""
        notes = self.extra.get(OURS)
        return {name: note for name, note in notes.items() if isinstance(note, dict)} if isinstance(notes, dict) else {}

    def is_noted(self, name: str) -> bool:
        """Whether a field still says what annotation wrote there; what differs is a person's."""
        return name in self.notes and self.notes[name].get("value") == getattr(self, name)

    def write(self, name: str, value: object) -> None:
        """Set a field as a person writes it: read as in a file, null is blank. Raises InputError."""
        blank = getattr(Sample(), name)
        setattr(self, name, blank if value is None else _value(name, value, blank))

    def path_in(self, folder: str | Path) -> Path:
        """The recording, seen from the dataset's folder; the file of its name there, where the path is of another
        machine or leads into a folder that there is not. Of a sample in a dataset see Dataset.path_of."""
        path, beside = found_from(folder, self.audio_path), Path(folder) / self.filename
        elsewhere = not path.parent.is_dir() or (os.sep == "/" and "\\" in self.audio_path)
        return beside if elsewhere and not path.exists() and beside.exists() else path

    def as_dict(self) -> dict[str, Any]:
        return _as_dict(self)


@dataclass
class Metadata:
    """What holds for all samples."""

    name: str = "dataset"
    custom_tag: str = ""
    """The trigger: a word that stands in every prompt, and later calls the style."""
    tag_position: TagPosition = "prepend"
    created_at: str = ""
    num_samples: int = 0
    all_instrumental: bool = True
    """Recordings without lyrics have no singing."""
    genre_ratio: int = 0
    """Percent of the samples whose prompt is the genre instead of the caption."""
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        if self.tag_position not in TagPosition.__args__:
            raise InputError(f"tag_position {self.tag_position!r}: choose from {', '.join(TagPosition.__args__)}")
        if not 0 <= self.genre_ratio <= 100:
            raise InputError(f"genre_ratio {self.genre_ratio}: give percent, 0 to 100")

    def as_dict(self) -> dict[str, Any]:
        return _as_dict(self)


@dataclass
class Dataset:
    """Samples and what holds for all of them. Relative paths of the samples are seen from `folder`."""

    folder: Path
    metadata: Metadata = field(default_factory=Metadata)
    samples: list[Sample] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    """What another tool wrote beside metadata and samples."""
    read: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """What the file held when it was read or written."""

    def path_of(self, sample: Sample) -> Path:
        """A sample's recording: see Sample.path_in. A file that another sample has is never taken for it."""
        path, named = sample.path_in(self.folder), found_from(self.folder, sample.audio_path)
        others = (other for other in self.samples if other.filename == sample.filename and other is not sample)
        if path != named and any(other.path_in(self.folder).resolve() == path.resolve() for other in others):
            return named
        return path

    def revise(self, given: dict[str, Any]) -> None:
        """Change fields of the metadata, and with them the samples that have what held for all. Raises InputError."""
        before, now = self.metadata, dataclasses.replace(self.metadata, **given)
        for sample in self.samples:
            if sample.custom_tag == before.custom_tag:
                sample.custom_tag = now.custom_tag
            if sample.is_instrumental == before.all_instrumental and not sample.has_lyrics:
                sample.is_instrumental = now.all_instrumental
        self.metadata = now

    def as_dict(self) -> dict[str, Any]:
        """As it stands in the file."""
        self.metadata.num_samples = len(self.samples)
        samples = [sample.as_dict() for sample in self.samples]
        return {"metadata": self.metadata.as_dict(), "samples": samples} | self.extra

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all.

        What somebody changed in it since it was read stays as they wrote it, and comes into this dataset too: a field,
        a sample they added, one they took out. Raises FileError where the file is something else or cannot be written.
        """
        path = Path(path)
        self._move(path.absolute().parent)
        with one_writer(path):
            if path.exists():
                self._take_over(load_dataset(path))
            self.metadata.created_at = self.metadata.created_at or datetime.now().isoformat(timespec="seconds")
            data = self.as_dict()
            write_file(path, json.dumps(data, indent=2, ensure_ascii=False) + "\n")
        self.read = data

    def _move(self, folder: Path) -> None:
        """See relative paths from another folder."""
        if folder.resolve() != self.folder.resolve():
            for sample in self.samples:
                if not _absolute(sample.audio_path):
                    sample.audio_path = seen_from(folder, self.folder / sample.audio_path)
            self.folder, self.read = folder, {}

    def _take_over(self, there: Dataset) -> None:
        """Keep what differs in the file from what was read."""
        before = {sample["id"]: sample for sample in self.read.get("samples", [])}
        ours = {sample.id: sample for sample in self.samples}
        _keep(self.read.get("metadata", {}), self.metadata, there.metadata)
        self.extra |= {name: known for name, known in there.extra.items() if known != self.read.get(name)}
        kept = [ours.get(sample.id, sample) for sample in there.samples if sample.id in ours or sample.id not in before]
        for sample in there.samples:
            if sample.id in ours:
                _keep(before.get(sample.id, {}), ours[sample.id], sample)
        known = before.keys() | {sample.id for sample in there.samples}
        self.samples[:] = kept + [sample for sample in self.samples if sample.id not in known]


def load_dataset(path: str | Path) -> Dataset:
    """Read a dataset file, ours or one that ACE-Step's tool made. A FileError names the field that cannot be."""
    path = Path(path)
    try:
        data = object_of(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise FileError(path, f"cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise FileError(path, f"not a dataset: {error}; make one with woodshed audio scan") from None
    if not isinstance(data.get("samples"), list):
        raise FileError(path, "not a dataset: it has no list of samples; make one with woodshed audio scan")
    metadata = _record(Metadata, data.get("metadata", {}), path, "metadata")
    samples = [_record(Sample, item, path, f"samples[{at}]") for at, item in enumerate(data["samples"])]
    counts = Counter(sample.id for sample in samples)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise FileError(path, f"{counts[twice[0]]} samples have the id {twice[0]}; delete all but one of these ids")
    if data.get("metadata", {}).get("custom_tag") is not None:
        _share_tag(samples, metadata.custom_tag)
    extra = {name: value for name, value in data.items() if name not in ("metadata", "samples")}
    dataset = Dataset(path.absolute().parent, metadata, samples, extra)
    dataset.read = dataset.as_dict()
    return dataset


def is_sung(lyrics: str) -> bool:
    """Whether lyrics hold any words."""
    return lyrics.strip().casefold() not in ("", INSTRUMENTAL.casefold())


def prompt(sample: Sample, metadata: Metadata, rng: np.random.Generator) -> str:
    """What the model is told about a sample: its caption, or its genre, and the tag.

    The sample's `prompt_override` decides between the two; else one draw from `rng` against the genre ratio. A sample
    without a genre takes its caption.
    """
    drawn = rng.random() * 100 < metadata.genre_ratio
    wanted = sample.prompt_override or ("genre" if drawn else "caption")
    text = (sample.genre if wanted == "genre" else "") or sample.caption
    tag = sample.custom_tag or metadata.custom_tag
    parts = {"prepend": (tag, text), "append": (text, tag), "replace": (tag or text,)}[metadata.tag_position]
    return ", ".join(part for part in parts if part)


# --- labels that have a form -----------------------------------------------------------------------------------


def read_bpm(value: object) -> int:
    """Beats a minute from a number or a text ("127.9", "127,9", "120 bpm"), rounded. Raises InputError."""
    text = re.sub(r"\s*bpm$", "", str(value).strip(), flags=re.IGNORECASE).replace(",", ".")
    try:
        bpm = round(float(text)) if not isinstance(value, bool) else 0
    except (ValueError, OverflowError):
        bpm = 0
    if not SLOWEST <= bpm <= FASTEST:
        raise InputError(f"bpm {value!r}: give a number from {SLOWEST} to {FASTEST}")
    return bpm


def read_key(value: object) -> str:
    """A key as ACE-Step writes it ("A minor", "F# major") from "Am", "F♯ maj", "f-sharp Minor", or Camelot's "8A"."""
    text = str(value).strip().replace("♯", "#").replace("♭", "b")
    if camelot := re.fullmatch(r"(1[0-2]|0?[1-9])([AB])", text, re.IGNORECASE):
        minor = camelot[2].upper() == "A"
        return f"{TONICS[((int(camelot[1]) - 8) * 7 + 9 * minor) % 12]} {'minor' if minor else 'major'}"
    named = re.fullmatch(r"([A-Ga-g])[\s-]*(#|b|(?i:sharp|flat)|)[\s-]*(|[Mm]|(?i:maj|major|min|minor))", text)
    if not named:
        raise InputError(f'key {value!r}: write it as "A minor" or "F# major"')
    tonic, sign, mode = named.groups()
    minor = mode == "m" or mode.lower().startswith("min")
    return f"{tonic.upper()}{_SIGNS.get(sign.lower(), sign)} {'minor' if minor else 'major'}"


def read_metre(value: object) -> str:
    """Beats of a bar as ACE-Step writes them ("4") from 4, "4" or "4/4". Raises InputError."""
    beats = str(value).strip().partition("/")[0].strip()
    if isinstance(value, bool) or beats not in METRES:
        raise InputError(f"timesignature {value!r}: give one of {', '.join(METRES)}")
    return beats


_NAMES = """
en english eng|de german deu ger|fr french fra fre|es spanish spa|it italian ita|pt portuguese por|nl dutch nld dut
sv swedish swe|no norwegian nor|da danish dan|fi finnish fin|pl polish pol|cs czech ces cze|el greek ell gre
tr turkish tur|ru russian rus|uk ukrainian ukr|ja japanese jpn|ko korean kor|zh chinese zho chi cmn|yue cantonese
vi vietnamese vie|hi hindi hin|ar arabic ara|he hebrew heb|id indonesian ind
"""
_CODES = (line.split() for line in _NAMES.strip().replace("|", "\n").splitlines())
LANGUAGES = {name: names[0] for names in _CODES for name in names}


def read_language(value: object) -> str:
    """A language by its code ("en") from "English", "eng" or "en-GB". What is not known stays, in lower case."""
    text = re.sub(r"^([a-z]{2,3})[-_].*", r"\1", str(value).strip().lower())
    return LANGUAGES.get(text, text)


# --- the file --------------------------------------------------------------------------------------------------


def _absolute(path: str) -> bool:
    """Whether a path is absolute, here or on the machine the file comes from."""
    return os.path.isabs(path) or PureWindowsPath(path).is_absolute()


def _as_dict(record: Sample | Metadata) -> dict[str, Any]:
    values = {item.name: getattr(record, item.name) for item in dataclasses.fields(record)}
    return values | values.pop("extra")


def _keep(before: dict[str, Any], ours: Record, theirs: Record) -> None:
    """Into our record goes each field that differs in theirs from `before`, or from blank where that says nothing."""
    before = type(theirs)().as_dict() | before
    for item in dataclasses.fields(theirs):
        value = getattr(theirs, item.name)
        if item.name == "extra":
            ours.extra |= {name: known for name, known in value.items() if known != before.get(name)}
        elif value != before[item.name]:
            setattr(ours, item.name, value)


def _record(kind: type[Record], values: object, path: Path, place: str) -> Record:
    """A Sample or Metadata of a JSON object; null is blank. Raises FileError, with the place of what cannot be."""
    if not isinstance(values, dict) or (kind is Sample and not isinstance(values.get("audio_path"), str)):
        raise FileError(path, f"{place}: not an object{' with an audio_path' * (kind is Sample)}")
    blank = kind()
    known = {item.name for item in dataclasses.fields(kind)} - {"extra"}
    given = {}
    try:
        for name in known & {name for name, value in values.items() if value is not None}:
            given[name] = _value(name, values[name], getattr(blank, name))
        return kind(**given, extra={name: value for name, value in values.items() if name not in known})
    except InputError as error:
        raise FileError(path, f"{place}: {error}") from None


def _share_tag(samples: list[Sample], tag: str) -> None:
    """Give the dataset's tag to samples that all have one and the same other: they got it when they were scanned."""
    shared = {sample.custom_tag for sample in samples}
    if len(shared) == 1 and "" not in shared:
        for sample in samples:
            sample.custom_tag = tag


def _value(name: str, value: object, blank: object) -> Any:
    """A field's value in its own type; text may be a number in the file. Raises InputError."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if name == "bpm":
        return None if value in ("", "N/A", 0) else read_bpm(value)
    if name == "prompt_override" and value not in ("caption", "genre"):
        raise InputError(f"{name} {value!r}: give caption or genre, or null")
    if isinstance(value, str) or (number and isinstance(blank, str)):
        fits = blank is None or isinstance(blank, str)
    else:
        fits = isinstance(value, bool) if isinstance(blank, bool) else number and isinstance(blank, int)
    if not fits:
        raise InputError(f"{name} {value!r}: give {_FORMS.get(type(blank), 'a text')}")
    if name in _READERS:
        return _read(name, str(value).strip(), blank)
    return str(value) if isinstance(blank, str) else value


def _read(name: str, text: str, blank: str) -> str:
    """A key, metre or language as ACE-Step writes it; as it stands in the file where that cannot be read."""
    if text in ("", "N/A"):
        return blank
    try:
        return _READERS[name](text)
    except InputError:
        return text


_READERS = {"keyscale": read_key, "timesignature": read_metre, "language": read_language}
_FORMS = {bool: "true or false", int: "a number"}
