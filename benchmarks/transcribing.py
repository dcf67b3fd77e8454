"""How right the notes are that are heard in recordings: python benchmarks/transcribing.py DATA [--soundfont FILE.sf2]

DATA holds manifest.csv and GiantMIDI, piano as it was played. Half a minute of each piece of validation and test, on
which nothing was tuned, is rendered and transcribed; it begins half a minute after the first note:

- own: by the piano of woodshed render
- soundfont: by the piano of the soundfont; room: that with echo and hiss; guitar, strings, voices: the same notes by
  other instruments of it
- thresholds: the first two again, by the thresholds alone that the makers of basic-pitch give, a note as loud as it is
  sure

Columns by mir_eval: precision, recall and F1 of onsets (50 ms, the same pitch); F1 of notes whose ends are right too
(50 ms or a fifth of their length), held as the pedal holds them; correlation of velocities of the notes found.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from bench import manifest, report
from mir_eval import transcription

from woodshed.audio import notes, strikes
from woodshed.audio.wave import Audio
from woodshed.symbolic.music.midi import read_midi
from woodshed.symbolic.music.render import render
from woodshed.symbolic.music.score import Score, Track

START, SECONDS, SAMPLE_RATE = 30.0, 30.0, 44100
PIECES = 6
PROGRAMS = {"soundfont": 0, "guitar": 24, "strings": 48, "voices": 52}
ECHO, HISS = 0.8, -45.0  # seconds until it is 60 dB softer; dB below the music
THRESHOLDS = 0.5, 0.3  # of basic-pitch for onsets and frames
TRANSCRIBED = Callable[[Audio], np.ndarray]


def excerpts(data: Path, splits: list[str]) -> Iterator[Score]:
    """Half a minute of each of PIECES pieces, evenly taken from some splits."""
    rows = [row for split in splits for row in manifest(data, "giantmidi", split=split)]
    for row in [rows[at] for at in np.unique(np.linspace(0, len(rows) - 1, PIECES).astype(int))]:
        score = read_midi(data / row["file"])
        first = float(score.seconds(score.notes["onset"][0])) + START
        yield score.slice(*score.ticks([first, first + SECONDS]), cut=True)


def sounds(score: Score, soundfont: Path | None) -> Iterator[tuple[str, Audio]]:
    """An excerpt as each instrument plays it."""
    yield "own", Audio(render(score, sample_rate=SAMPLE_RATE), SAMPLE_RATE)
    for name, program in PROGRAMS.items() if soundfont else ():
        played = score.replace(tracks=tuple(Track(program=program) for _ in score.tracks))
        audio = Audio(render(played, soundfont, sample_rate=SAMPLE_RATE), SAMPLE_RATE)
        yield name, audio
        if name == "soundfont":
            yield "room", in_a_room(audio)


def in_a_room(audio: Audio) -> Audio:
    """The same with the echo of a room, half as strong, and hiss."""
    rng = np.random.default_rng(0)
    at = np.arange(round(ECHO * audio.sample_rate)) / audio.sample_rate
    size = 1 << (len(audio.samples) + len(at)).bit_length()
    channels = []
    for dry in audio.samples.T:
        reply = rng.standard_normal(len(at)) * 10 ** (-3 * at / ECHO) * (at > 0.01)
        spectrum = np.fft.rfft(dry, size) * np.fft.rfft(reply / np.sqrt(np.sum(reply**2)) / 2, size)
        hiss = 10 ** (HISS / 20) * np.std(dry) * rng.standard_normal(len(dry))
        channels.append(dry + np.fft.irfft(spectrum, size)[: len(dry)] + hiss)
    return Audio(np.stack(channels, axis=1).astype(np.float32), audio.sample_rate)


def plainly(audio: Audio) -> np.ndarray:
    """Notes by thresholds alone: an onset above the first, until its key is below the second for GAP frames."""
    sound = audio.with_channels(1).resampled(notes.SAMPLE_RATE).samples[:, 0]
    heard = [*notes._frames([sound])]
    onset, note = (np.concatenate([getattr(frames, name) for frames in heard]) for name in ("onset", "note"))
    before, after = np.roll(onset, 1, axis=0), np.roll(onset, -1, axis=0)
    rows = []
    for key in range(strikes.KEYS):
        struck = (onset >= THRESHOLDS[0]) & (onset > before) & (onset >= after)
        starts = np.flatnonzero(struck[:, key])
        for start, following in zip(starts, np.append(starts, len(note))[1:], strict=True):
            sounding = np.flatnonzero(note[start:following, key] >= THRESHOLDS[1])
            breaks = np.flatnonzero(np.diff(sounding) > strikes.GAP)
            end = start + (sounding[breaks[0] if len(breaks) else -1] if len(sounding) else 0) + 1
            if end - start >= strikes.GAP:  # its makers take no shorter ones
                velocity = round(127 * float(note[start:end, key].mean()))
                rows.append((start, end, key + strikes.LOWEST, velocity))
    found = np.array(rows, strikes.HEARD)
    for name in ("onset", "end"):
        found[name] *= notes.HOP / notes.SAMPLE_RATE
    return found


def played(score: Score) -> np.ndarray:
    """The notes of an excerpt as HEARD, held by the pedal."""
    score = score.sustained()
    rows = np.empty(len(score.notes), strikes.HEARD)
    rows["onset"] = score.seconds(score.notes["onset"])
    rows["end"] = score.seconds(score.notes["onset"] + score.notes["duration"])
    rows["pitch"], rows["velocity"] = score.notes["pitch"], score.notes["velocity"]
    return rows


def judged(found: np.ndarray, true: np.ndarray) -> dict[str, float]:
    times, pitches = zip(*(_intervals(rows) for rows in (true, found)), strict=True)
    both = times[0], pitches[0], times[1], pitches[1]
    precision, recall, onsets, _ = transcription.precision_recall_f1_overlap(*both, offset_ratio=None)
    whole = transcription.precision_recall_f1_overlap(*both)[2]
    pairs = np.array(transcription.match_notes(*both, offset_ratio=None))
    velocities = true["velocity"][pairs[:, 0]], found["velocity"][pairs[:, 1]]
    told = {"precision": precision, "recall": recall, "onset F1": onsets, "with ends": whole}
    return told | {"velocities": float(np.corrcoef(*velocities)[0, 1])}


def _intervals(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ends = np.maximum(rows["end"], rows["onset"] + 0.001)
    return np.column_stack([rows["onset"], ends]), 440 * 2 ** ((rows["pitch"].astype(float) - 69) / 12)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with manifest.csv")
    parser.add_argument("--soundfont", type=Path)
    parser.add_argument("--splits", nargs="+", default=("validation", "test"), choices=("train", "validation", "test"))
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    rows: dict[str, list[dict]] = {}
    spent = {"ours": 0.0}
    for score in excerpts(options.data, options.splits):
        for name, audio in sounds(score, options.soundfont):
            before = time.process_time()
            found = notes.transcribe(audio)
            spent["ours"] += time.process_time() - before
            rows.setdefault(name, []).append({"excerpts": 1, "notes": len(score.notes)} | judged(found, played(score)))
            if name in ("own", "soundfont"):
                plain = judged(plainly(audio), played(score))
                rows.setdefault(f"{name}, thresholds", []).append({"excerpts": 1, "notes": len(score.notes)} | plain)
    seconds = SECONDS * sum(len(some) for name, some in rows.items() if "thresholds" not in name)
    report([{"sound": name} | _summed(some) for name, some in rows.items()], options.json)
    print(f"\n{seconds / spent['ours']:.0f} times as fast as the music, by the processor's time of one thread")


def _summed(rows: list[dict]) -> dict:
    """Sums of counts and means of marks."""
    counts = {name: sum(row[name] for row in rows) for name in ("excerpts", "notes")}
    return counts | {name: float(np.mean([row[name] for row in rows])) for name in rows[0] if name not in counts}


if __name__ == "__main__":
    main()
