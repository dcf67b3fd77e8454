"""woodshed demo: the whole pipeline on real music: Bach chorales in, takes over Cmaj7 Am7 Dm7 G7 out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..config import NotNegative, Positive, check
from ..errors import MissingExtra
from ..files import numbered_folder
from ..progress import Progress
from ..symbolic.data.inspect import inspect, render
from ..symbolic.data.prepare import PrepareSettings, corpus_lines, prepare
from ..symbolic.music.midi import write_midi
from ..symbolic.music.score import Score, Track
from ..symbolic.playing.settings import GenerateSettings
from .generate import generate_with_bar
from .terminal import bar, console
from .train import train_with_bar

CHORDS = "Cmaj7 Am7 Dm7 G7"
VOICES = {"soprano": "melody", "alto": "accompaniment", "tenor": "accompaniment", "bass": "bass"}
TICKS = 480


@dataclass(frozen=True)
class DemoSettings:
    """How much of it."""

    pieces: Positive[int] = 48
    """How many chorales to learn from."""
    minutes: Positive[float] = 1.0
    """How long to adapt."""
    takes: Positive[int] = 5
    """How many takes to play."""
    seed: NotNegative[int] = 1
    """The first take's seed."""


def command(settings: DemoSettings, out: Path = Path("demo")) -> Path:
    """The whole pipeline on Bach chorales: inspect, prepare, adapt the base model, generate.

    Args:
        settings: how much of it
        out: everything goes here, in a folder with the next free number
    """
    check(settings)
    playing = GenerateSettings(chords=CHORDS, bars=16, takes=settings.takes, seed=settings.seed)
    found = []
    with bar("unpacking chorales") as report:
        for number, chorale in enumerate(islice(chorales(), settings.pieces), start=1):
            found.append(chorale)
            report(Progress(number / settings.pieces))
    with numbered_folder(out) as folder:
        midi, corpus, run = folder / "midi", folder / "corpus", folder / "bach"
        midi.mkdir()
        for name, score in found:
            write_midi(score, midi / f"{name}.mid")
        console().print(render(inspect(midi)))
        for line in corpus_lines(prepare(midi, corpus, PrepareSettings(augment=True))):
            print(line)
        train_with_bar(corpus, run, max_seq_len=512, batch_size=2, max_minutes=settings.minutes)
        takes_folder = generate_with_bar(run, playing)
        print(f"\nThe takes lie in {takes_folder}: open the .mid in your DAW, or listen to the .wav.")
    return takes_folder


def chorales() -> Iterator[tuple[str, Score]]:
    """Bach's four-part chorales from the music21 package's corpus, as (name, Score)."""
    try:
        from music21 import corpus
    except ImportError:
        raise MissingExtra("music21", "demo") from None
    for path in sorted(corpus.getComposer("bach"), key=lambda path: path.name):
        if path.suffix not in (".mxl", ".xml", ".musicxml"):
            continue
        stream = corpus.parse(path)
        if [part.partName.lower() for part in stream.parts if part.partName] == list(VOICES):
            yield "-".join(path.name.split(".")[:2]), chorale(stream)


def chorale(stream) -> Score:
    """A music21 stream of four voices as a Score: a track a voice, pickup and metre as they are written."""
    notes, tracks = [], []
    for number, part in enumerate(stream.parts):
        tracks.append(Track(part.partName, 0, False, VOICES[part.partName.lower()]))
        for note in part.stripTies().flatten().notes:
            onset, length = float(note.offset), float(note.quarterLength)
            notes += [(round(onset * TICKS), max(round(length * TICKS), 1), p.midi, 80, number) for p in note.pitches]
    return Score(notes, (), [(0, 600_000)], list(_metres(stream.parts[0])), (), tracks, TICKS)


def _metres(part) -> Iterator[tuple[int, int, int]]:
    """Metre changes in ticks. A pickup is a short bar of its own; a whole bar that stands off the bar lines, as after a
    repeat, begins new ones."""
    current, since = None, 0.0
    for measure in part.getElementsByClass("Measure"):
        signature = measure.timeSignature or measure.getContextByClass("TimeSignature")
        metre, whole = (signature.numerator, signature.denominator), float(signature.barDuration.quarterLength)
        start, length = float(measure.offset), float(measure.duration.quarterLength)
        if start == 0 and 0 < length < whole:
            metre = (round(length * 4), 16) if length % 1 else (round(length), 4)
        if metre != current or (length >= whole and (start - since) % whole):
            yield round(start * TICKS), *metre
            current, since = metre, start
