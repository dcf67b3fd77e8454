"""Labels that nobody wrote: tempo and key measured, captions and lyrics drafted. What a person wrote stays.

    dataset = load_dataset("my-songs/dataset.json")
    done = annotate(dataset, "my-songs/dataset.json", whisper="models/faster-whisper-large-v3")

Each sample notes under "woodshed" what was written here: {"bpm": {"value": 96, "by": "woodshed", "sure": 0.83}}. What
differs from its note is a person's. The file is saved after each recording; another call goes on from there.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ...config import Seed, check, flag, updated
from ...errors import FileError, InputError
from ...jobs import stop_on_signals
from ...progress import Progress, Reporter, unheard
from ..features import Features, describe
from ..wave import probe, read_audio
from .captions import Captioner, caption
from .dataset import INSTRUMENTAL, OURS, Dataset, Sample, is_sung, read_language
from .services import ServiceError, caption_service, lyrics_service
from .transcribe import Transcriber, Transcript

LISTENED = 300.0  # seconds of a recording that are measured, from its middle
DOUBTFUL = 0.5  # how sure a measured value must be not to be listed
PATIENCE = 3  # recordings that a service may fail one after the other


@dataclass(frozen=True)
class AnnotateSettings:
    """What is annotated, and by whom. Remote services get the recording (of at most 25 minutes); they are
    asked only where named here."""

    measure: bool = True
    """Tempo and key."""
    captions: bool = True
    """Captions: in words from what was measured, unless a captioner is named."""
    captioner: Path | None = None
    """A folder with an audio language model of transformers (Qwen2-Audio, Qwen2.5-Omni, Music Flamingo ...); it hears
    half a minute from the middle."""
    caption_service: Literal["openai", "gemini"] | None = None
    """Captions by a service, its key in OPENAI_API_KEY or GEMINI_API_KEY."""
    caption_model: str = ""
    """Another of its models; by default gpt-audio (openai) or gemini-2.5-flash (gemini)."""
    whisper: Path | None = None
    """Lyrics by a folder with a faster-whisper model."""
    lyrics_service: Literal["openai", "elevenlabs", "gemini"] | None = None
    """Lyrics by a service, its key in OPENAI_API_KEY, ELEVENLABS_API_KEY or GEMINI_API_KEY."""
    lyrics_model: str = ""
    """Another of its models; by default whisper-1 (openai), scribe_v2 (elevenlabs) or gemini-2.5-flash (gemini)."""
    language: str = ""
    """The language that is sung, such as en or de; by default what the dataset says, else it is heard."""
    again: bool = False
    """Write anew what an earlier annotation wrote. What a person wrote stays."""
    device: str = "auto"
    """Where models run: auto, cpu, cuda."""
    seed: Seed = 0
    """Another seed words the captions otherwise."""

    def __post_init__(self):
        check(self)
        for names in (("whisper", "lyrics_service"), ("captioner", "caption_service")):
            if all(getattr(self, name) is not None for name in names):
                raise InputError(f"give either {flag(names[0])} or {flag(names[1])}, not both")
        for what in ("caption", "lyrics"):
            if getattr(self, f"{what}_model") and getattr(self, f"{what}_service") is None:
                raise InputError(f"--{what}-model is a model of a service; add --{what}-service")


@dataclass
class Annotation:
    """What annotate() did."""

    written: Counter = field(default_factory=Counter)
    """Values by field: bpm, keyscale, caption, lyrics, language."""
    failed: list[tuple[str, str]] = field(default_factory=list)
    """Recordings and reasons."""
    doubtful: list[str] = field(default_factory=list)
    """Lines on what was measured but is not sure."""
    done: int = 0
    """Recordings looked at."""
    total: int = 0
    stopped: str = ""
    """The signal that ended it early."""


def annotate(
    dataset: Dataset,
    path: str | Path,
    settings: AnnotateSettings | None = None,
    *,
    report: Reporter = unheard,
    **changes,
) -> Annotation:
    """Fill in what a dataset lacks, and save it to `path` after each recording. `changes` are fields of the settings.

    Ctrl-C ends it after the recording at hand. A recording that fails is named in the result and the others go on.
    Raises InputError for settings that cannot work, RunError for a folder that is no model, and ServiceError, with all
    saved, where a service refuses its key or fails three times running.
    """
    settings = updated(AnnotateSettings, settings, changes)
    writers = _writers(settings)
    wanting = [sample.id for sample in dataset.samples if any(it.wanted(sample, settings) for it in writers)]
    found = Annotation(total=len(wanting))
    failures: Counter = Counter()
    with stop_on_signals(found):
        for wanted in wanting:  # ids, since saving may see the paths from another folder
            if found.stopped:
                break
            sample = next((sample for sample in dataset.samples if sample.id == wanted), None)
            if sample is None:  # somebody took it out of the file meanwhile
                continue
            report(Progress(found.done / found.total, sample.filename))
            subject = Subject(dataset.path_of(sample), sample, settings)
            try:
                for writer in writers:
                    if fields := writer.wanted(sample, settings):
                        _write(writer, subject, fields, found, failures)
            finally:
                dataset.save(path)
            found.done += 1
    return found


@dataclass
class Subject:
    """What writers write about; a recording is measured once, and only if one of them asks."""

    path: Path
    sample: Sample
    settings: AnnotateSettings

    @cached_property
    def features(self) -> Features:
        start = max(0.0, (probe(self.path).seconds - LISTENED) / 2)
        return describe(read_audio(self.path, start=start, seconds=LISTENED))


class Value(NamedTuple):
    """A value for a field, who wrote it, and how sure it is where that is known."""

    value: Any
    by: str
    sure: float | None = None


class Writer(NamedTuple):
    """Writes some fields of a sample. It is asked where one of `fields` is free; `besides` it may fill too."""

    fields: tuple[str, ...]
    write: Callable[[Subject], dict[str, Value]]
    besides: tuple[str, ...] = ()

    def wanted(self, sample: Sample, settings: AnnotateSettings) -> list[str]:
        """The fields it may fill; none where it is not asked."""
        free = [name for name in (*self.fields, *self.besides) if _free(sample, name, settings.again)]
        return free if set(free) & set(self.fields) else []


# --- who wrote what --------------------------------------------------------------------------------------------


def _free(sample: Sample, name: str, again: bool) -> bool:
    """Whether a field may be written: it is blank and we did not try yet; with `again` also where we wrote it."""
    if name == "lyrics" and sample.raw_lyrics.strip():
        return False
    blank = not sample.has_lyrics if name == "lyrics" else getattr(sample, name) == getattr(Sample(""), name)
    if name not in sample.notes:
        return blank
    return again and (blank or sample.is_noted(name))


def _write(writer: Writer, subject: Subject, fields: list[str], found: Annotation, failures: Counter) -> None:
    """Let a writer fill in fields; what goes wrong is noted, unless it will go wrong with every other recording too."""
    sample, key = subject.sample, writer.fields[0]
    try:
        values = writer.write(subject)
    except ServiceError as error:
        failures[key] += 1
        found.failed.append((sample.filename, str(error)))
        if error.lasting or failures[key] >= PATIENCE:
            raise
        return
    except FileError as error:
        if (sample.filename, error.reason) not in found.failed:
            found.failed.append((sample.filename, error.reason))
        return
    failures[key] = 0
    for name, value in values.items():
        if name in fields:
            _set(sample, name, value)
            found.written[name] += value.value not in (None, "", INSTRUMENTAL)
            if value.sure is not None and value.value and value.sure < DOUBTFUL:
                found.doubtful.append(f"{sample.filename}: {name} {value.value} ({value.sure:.0%} sure)")


def _set(sample: Sample, name: str, value: Value) -> None:
    """A value, and that it was written here."""
    kept = getattr(Sample(""), name) if value.value is None else value.value
    setattr(sample, name, kept)
    note = {"value": kept, "by": value.by} | ({} if value.sure is None else {"sure": round(value.sure, 2)})
    sample.extra[OURS] = sample.notes | {name: note}
    sample.labeled = sample.labeled or bool(sample.caption)
    sample.is_instrumental = sample.is_instrumental and not sample.has_lyrics


# --- the writers -----------------------------------------------------------------------------------------------


def _writers(settings: AnnotateSettings) -> list[Writer]:
    """Those the settings ask for; models are loaded and keys are read here, before the work begins."""
    writers = [Writer(("bpm", "keyscale"), _measured)] if settings.measure else []
    if settings.whisper is not None or settings.lyrics_service is not None:
        writers.append(_lyricist(settings))
    if settings.captions:
        writers.append(_caption_writer(settings))
    return writers


def _measured(subject: Subject) -> dict[str, Value]:
    heard = subject.features
    bpm = None if heard.tempo is None else round(heard.tempo)
    return {
        "bpm": Value(bpm, OURS, heard.tempo_confidence),
        "keyscale": Value(heard.key, OURS, heard.key_confidence),
    }


def _lyricist(settings: AnnotateSettings) -> Writer:
    language = read_language(settings.language)
    if settings.whisper is not None:
        hear = Transcriber(settings.whisper, device=settings.device, language=language)
        by = Path(settings.whisper).name
    else:
        hear, by = lyrics_service(settings.lyrics_service, settings.lyrics_model), settings.lyrics_service

    def write(subject: Subject) -> dict[str, Value]:
        known = read_language(subject.sample.language)
        heard: Transcript = hear(subject.path, language or ("" if known == "unknown" else known))
        if not is_sung(heard.lyrics):
            return {"lyrics": Value(INSTRUMENTAL, by)}
        sung_in = {"language": Value(heard.language, by)} if heard.language else {}
        return {"lyrics": Value(heard.lyrics, by)} | sung_in

    return Writer(("lyrics",), write, ("language",))


def _caption_writer(settings: AnnotateSettings) -> Writer:
    if settings.captioner is not None:
        tell, by = Captioner(settings.captioner, device=settings.device), Path(settings.captioner).name
    elif settings.caption_service is not None:
        tell, by = caption_service(settings.caption_service, settings.caption_model), settings.caption_service
    else:
        tell, by = None, OURS

    def write(subject: Subject) -> dict[str, Value]:
        text = tell(subject.path) if tell else _worded(subject)
        return {"caption": Value(text, by)}

    return Writer(("caption",), write)


def _worded(subject: Subject) -> str:
    """A caption from what was measured, and from tempo and key where a person knows better."""
    sample = subject.sample
    rng = np.random.default_rng([subject.settings.seed, zlib.crc32(sample.id.encode())])
    bpm, key = (None if sample.is_noted(name) else getattr(sample, name) for name in ("bpm", "keyscale"))
    return caption(subject.features, rng, bpm=bpm, key=key or "", sung=sample.has_lyrics)
