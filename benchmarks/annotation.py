"""How right measured tempo and key are: python benchmarks/annotation.py DATA --soundfont FILE.sf2 [--json FILE]

DATA holds manifest.csv and the sets it names. What is known is rendered and measured, the first 90 seconds of each:

- pop909: songs of one key, every other one as played on the piano, the others on their annotated beats for a band with
  drums, in another key and at another speed. Tempo is that of `beat_midi.txt`; keys are those of `key_audio.txt`, an
  algorithm's.
- mutopia: keyboard music; the key is that of the key signature and its mode, the tempo the file's where it has one.
- groove: drums alone, as played to a metronome; those of 15 seconds or more, 24 at most.
- made up: a piece in each of the 24 keys, in six styles, from 56 to 184 bpm.

`within 4%` and `octave` (also at half, double, a third or three times the tempo) follow MIREX; `weighted` is mir_eval's
score of keys: 1 for the key, .5 for a fifth, .3 for the relative, .2 for the parallel one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import bench
import librosa
import mido
import mir_eval
import numpy as np
import pop909

from woodshed.audio.features import Features, describe
from woodshed.audio.wave import Audio
from woodshed.errors import FileError
from woodshed.symbolic.music.chord_suffix import MAJOR_SCALE
from woodshed.symbolic.music.midi import read_midi
from woodshed.symbolic.music.render import render
from woodshed.symbolic.music.score import Score, Track

SETS = ("pop909-piano", "pop909-band", "mutopia", "groove", "made-up")
SECONDS, SAMPLE_RATE = 90.0, 44100
KRUMHANSL = (  # and Kessler, 1982
    (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
)
NAMES = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
SCALES = {"major": MAJOR_SCALE, "minor": (0, 2, 3, 5, 7, 8, 10)}
SINGERS, BACKING = (73, 65, 40, 26, 80, 52), ((25, 48), (4, 89), (0, 49), (27, 16))
TICKS = 480


@dataclass(frozen=True)
class Piece:
    """A score of known key and, where it has one, known tempo."""

    name: str
    score: Score
    key: str | None
    tempo: float | None


# --- what is known ---------------------------------------------------------------------------------------------


def songs(data: Path, split: str, kind: str) -> Iterator[Piece]:
    """POP909: every other song on the piano, the others for a band."""
    rng = np.random.default_rng(0)
    for number, folder in enumerate(pop909.folders(data, split)):
        keys = [line.split()[2] for line in (folder / "key_audio.txt").read_text().splitlines() if line.strip()]
        if len(set(keys)) != 1 or kind != ("piano", "band")[number % 2]:
            continue
        tonic, mode = keys[0].split(":")
        tonic, mode = NAMES.index(tonic), {"maj": "major", "min": "minor"}[mode]
        tempo = 60 / float(np.median(np.diff(np.loadtxt(folder / "beat_midi.txt")[:, 0])))
        name = f"pop909 {kind}/{folder.name}"
        if kind == "piano":
            yield Piece(name, read_midi(folder / f"{folder.name}.mid"), f"{NAMES[tonic]} {mode}", tempo)
            continue
        shift, factor = int(rng.integers(-5, 7)), float(rng.uniform(0.8, 1.25))
        try:
            score = band(pop909.load(folder), shift, factor, rng)
        except FileError:  # off its beat grid
            continue
        yield Piece(name, score, f"{NAMES[(tonic + shift) % 12]} {mode}", tempo * factor)


def band(score: Score, shift: int, factor: float, rng: np.random.Generator) -> Score:
    """A song for other instruments and drums, in another key, `factor` times as fast."""
    score = score.transpose(shift).stretch(factor)
    backing = BACKING[rng.integers(len(BACKING))]
    programs = [int(rng.choice(SINGERS)), *backing, *backing]
    tracks = tuple(Track(track.name, programs[index % 5]) for index, track in enumerate(score.tracks))
    first = int(score.notes["onset"][0])
    beats = score.beats()
    bars = set(score.bars().tolist())
    drums = []
    for beat in beats[beats >= first].tolist():
        drums += [(beat, 60, 36, 100, len(tracks))] if beat in bars else [(beat, 60, 38, 80, len(tracks))]
        drums += [(beat + offset, 60, 42, 60, len(tracks)) for offset in (0, 240)]
    return score.replace(notes=[*score.notes.tolist(), *drums], pedals=(), tracks=(*tracks, Track("Drums", 0, True)))


def keyboard(data: Path, split: str) -> Iterator[Piece]:
    """Mutopia, where there is one key signature."""
    for path in (data / row["file"] for row in bench.manifest(data, "mutopia", split=split)):
        keys = {
            message.key for track in mido.MidiFile(path).tracks for message in track if message.type == "key_signature"
        }
        if len(keys) != 1:
            continue
        name = keys.pop()
        tonic = mir_eval.key.KEY_TO_SEMITONE[name.removesuffix("m").lower()]
        score = read_midi(path)
        quarters = len(score.metres) == 1 and score.metres["denominator"][0] == 4 and len(score.tempos) == 1
        tempo = 6e7 / int(score.tempos["usec"][0]) if quarters else None
        yield Piece(
            f"mutopia/{path.stem}", score, f"{NAMES[tonic]} {'minor' if name.endswith('m') else 'major'}", tempo
        )


def drums(data: Path, split: str, most: int = 24) -> Iterator[Piece]:
    """Groove: beats, no fills, evenly taken from all."""
    rows = bench.manifest(data, "groove", split=split)
    rows = [row for row in rows if "_beat_" in row["file"] and float(row["seconds"]) >= 15]
    for row in [rows[at] for at in np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]:
        path = data / row["file"]
        tempo = float(path.stem.split("_beat_")[0].rsplit("_", 1)[1])
        yield Piece(f"groove/{path.parent.name} {path.stem}", read_midi(path), None, tempo)


def made_up(seed: int = 0) -> Iterator[Piece]:
    """One piece in each key; another seed gives others."""
    tempos = np.geomspace(56, 184, 24)
    order = np.random.default_rng(1 + seed).permutation(24)
    for number in range(24):
        mode, tonic = ("major", "minor")[number // 12], number % 12
        tempo, style = float(np.round(tempos[order[number]], 1)), (number + seed) % len(STYLES)
        name = f"made up/{STYLES[style][0]} {NAMES[tonic]} {mode} {tempo:g}"
        yield Piece(name, compose(tonic, mode, tempo, style, 24 * seed + number), f"{NAMES[tonic]} {mode}", tempo)


PROGRESSIONS = {
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 0, 4), (1, 4, 0, 5), (0, 3, 4, 0)),
    "minor": ((0, 5, 2, 6), (0, 3, 4, 0), (0, 6, 5, 4), (0, 3, 6, 2), (0, 5, 3, 4)),
}
# name, beats a bar, programs of melody, chords and bass, onsets of the chords in beats, drums in beats (or none)
STYLES = (
    (
        "rock",
        4,
        (29, 27, 34),
        (0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5),
        {36: (0, 2), 38: (1, 3), 42: (0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5)},
    ),
    ("ballad", 4, (73, 0, 32), (0, 1, 2, 3), None),
    ("waltz", 3, (40, 21, 32), (1, 2), None),
    (
        "bossa",
        4,
        (65, 24, 32),
        (0, 1, 2.5, 3.5),
        {37: (0, 1.5, 3), 42: (0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5), 36: (0, 1.5, 2, 3.5)},
    ),
    ("dance", 4, (81, 90, 38), (0.5, 1.5, 2.5, 3.5), {36: (0, 1, 2, 3), 39: (1, 3), 46: (0.5, 1.5, 2.5, 3.5)}),
    ("strings", 4, (48, 49, 43), (0, 2), None),
)


def compose(tonic: int, mode: str, tempo: float, style: int, seed: int, bars: int = 32) -> Score:
    """A melody of chord and scale tones over a progression, which closes on its tonic every eight bars."""
    rng = np.random.default_rng(seed)
    _, beats, programs, strokes, kit = STYLES[style]
    scale, notes = SCALES[mode], []
    verses = [PROGRESSIONS[mode][rng.integers(5)] for _ in range(2)]

    def tone(degree: int, low: int) -> int:
        pitch = tonic + scale[degree % 7] + 12 * (degree // 7)
        return low + (pitch - low) % 12

    for bar in range(bars):
        start = bar * beats
        degree = 0 if bar % 8 == 7 else verses[bar // 8 % 2][bar % 4]
        raised = mode == "minor" and degree == 4  # the leading note of the dominant
        chord = [tone(degree + step, 52) + (raised and step == 2) for step in (0, 2, 4)]
        notes += [
            (start, beats / 2, tone(degree, 33), 90, 2),
            (start + beats / 2, beats / 2, tone(degree + 4, 33), 75, 2),
        ]
        notes += [(start + at, 0.45, pitch, 64, 1) for at in strokes for pitch in chord]
        at = 0.0
        while at < beats:
            length = float(rng.choice((0.5, 0.5, 1, 1, 1.5)))
            step = int(rng.choice((0, 2, 4))) if at % 1 == 0 else int(rng.integers(0, 7))
            notes.append((start + at, min(length, beats - at), tone(degree + step, 67) + (raised and step == 2), 92, 0))
            at += length
        notes += [(start + at, 0.1, drum, 85, 3) for drum, hits in (kit or {}).items() for at in hits]
    rows = [(round(at * TICKS), max(round(length * TICKS), 30), *rest) for at, length, *rest in notes]
    tracks = (*(Track(program=program) for program in programs), Track("Drums", 0, True))
    return Score(rows, tempos=[(0, round(6e7 / tempo))], metres=[(0, beats, 4)], tracks=tracks, ticks_per_quarter=TICKS)


# --- what is measured ------------------------------------------------------------------------------------------


def rendered(piece: Piece, soundfont: Path) -> Audio:
    score = piece.score.slice(0, int(piece.score.ticks(SECONDS)))
    return Audio(render(score, soundfont, sample_rate=SAMPLE_RATE), SAMPLE_RATE)


def plain(audio: Audio) -> Features:
    """librosa's own tempo, and Krumhansl's and Kessler's profiles on its chroma."""
    sound = audio.with_channels(1).resampled(22050).samples[:, 0]
    tempo = float(librosa.feature.tempo(y=sound, sr=22050)[0])
    profile = librosa.feature.chroma_cqt(y=sound, sr=22050).mean(axis=1)
    keys = [np.roll(profile_of_mode, tonic) for profile_of_mode in KRUMHANSL for tonic in range(12)]
    best = int(np.argmax(np.corrcoef(np.vstack([profile, *keys]))[0, 1:]))
    return Features(audio.seconds, -20.0, tempo=tempo, key=f"{NAMES[best % 12]} {'major' if best < 12 else 'minor'}")


def judged(piece: Piece, soundfont: Path, measure: Callable[[Audio], Features]) -> dict:
    """One row: what was found and how right it is."""
    audio = rendered(piece, soundfont)
    start = time.perf_counter()
    found = measure(audio)
    row = {"piece": piece.name, "seconds": audio.seconds, "took": time.perf_counter() - start}
    row |= {"key": piece.key, "found_key": found.key, "key_confidence": found.key_confidence}
    row |= {"tempo": piece.tempo, "found_tempo": found.tempo, "tempo_confidence": found.tempo_confidence}
    return (
        row
        | (key_marks(piece.key, found.key) if piece.key else {})
        | (tempo_marks(piece.tempo, found.tempo) if piece.tempo else {})
    )


def tempo_marks(truth: float, found: float) -> dict[str, float]:
    near = [abs(found / (truth * times) - 1) <= 0.04 for times in (1, 2, 1 / 2, 3, 1 / 3)]
    return {"within 4%": float(near[0]), "octave": float(any(near))}


def key_marks(truth: str, found: str) -> dict[str, float]:
    weight = mir_eval.key.weighted_score(truth, found)
    names = {1.0: "exact", 0.5: "fifth", 0.3: "relative", 0.2: "parallel"}
    return {name: float(weight == value) for value, name in names.items()} | {"weighted": weight}


def table(rows: list[dict]) -> list[dict]:
    """Means for each set and of all."""
    sets = dict.fromkeys(row["piece"].split("/")[0] for row in rows)
    kinds = {name: [row for row in rows if row["piece"].startswith(f"{name}/")] for name in sets} | {"all": rows}
    marks = ("within 4%", "octave", "exact", "fifth", "relative", "parallel", "weighted")
    found = []
    for name, some in kinds.items():
        speed = sum(row["seconds"] for row in some) / sum(row["took"] for row in some)
        told = {mark: [row[mark] for row in some if mark in row] for mark in marks}
        counts = {"pieces": len(some), "tempos": len(told["octave"]), "keys": len(told["exact"])}
        means = {mark: float(np.mean(values)) for mark, values in told.items() if values}
        found.append({"set": name} | counts | means | {"times real time": round(speed)})
    return found


def pieces(data: Path, split: str, sets: list[str]) -> Iterator[Piece]:
    """The pieces of the sets. Mutopia's validation split is counted to its test split: both are small."""
    splits = ("validation", "test") if split == "test" else (split,)
    kinds = {
        "pop909-piano": songs(data, split, "piano"),
        "pop909-band": songs(data, split, "band"),
        "mutopia": (piece for name in splits for piece in keyboard(data, name)),
        "groove": drums(data, split),
        "made-up": made_up(),
    }
    for name in sets or kinds:
        yield from kinds[name]


def main() -> None:
    parser = bench.new_parser(__doc__)
    parser.add_argument("data", type=Path, help="folder with manifest.csv")
    parser.add_argument("--soundfont", type=Path, required=True)
    parser.add_argument("--split", default="test", choices=("train", "validation", "test"))
    parser.add_argument("--sets", nargs="*", default=[], choices=SETS)
    parser.add_argument("--plain", action="store_true", help="librosa's tempo and Krumhansl's profiles instead of ours")
    options = parser.parse_args()
    found = pieces(options.data, options.split, options.sets)
    rows = [judged(piece, options.soundfont, plain if options.plain else describe) for piece in found]
    bench.report(table(rows), options.json, pieces=rows)


if __name__ == "__main__":
    main()
