"""How far takes keep to their chords, free, guided and strict, and whether they stay as lively as real music.

`python benchmarks/harmony.py --data DATA --json FILE`: takes of a run over several progressions, the same
seeds for every mode, beside excerpts of as many bars from POP909's test songs with their annotated chords: the mean,
and in brackets the 5th and 95th percentile. `inside` is the share of takes whose density and entropy both lie between
the percentiles of the excerpts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import bench
import numpy as np
import pop909

from woodshed.errors import FileError
from woodshed.symbolic.data import tasks
from woodshed.symbolic.data.tasks import Region
from woodshed.symbolic.music.chords import lay_out, parse_progression
from woodshed.symbolic.music.measure import (
    bass_adherence,
    chord_adherence,
    notes_per_second,
    pitch_class_entropy,
    rotated_adherence,
    strong_beat_adherence,
)
from woodshed.symbolic.music.score import Score
from woodshed.symbolic.playing.decode import Sampling, Stream, decode
from woodshed.symbolic.playing.engines import make_step
from woodshed.symbolic.playing.guard import Guard
from woodshed.symbolic.playing.harmony import Harmony
from woodshed.symbolic.run import Run, open_run

PROGRESSIONS = {
    "triads": ("C G Am F", (4, 4)),
    "sevenths": ("Cmaj7 Am7 | Dm7 G7", (4, 4)),
    "jazz": ("Dm9 | G7b9 | Cmaj9 | A7alt", (4, 4)),
    "slash": ("C | C/B | Am7 | Am7/G | F | C/E | Dm7 | G7sus4", (4, 4)),
    "waltz": ("Am F C E7", (3, 4)),
}
MEASURES = {
    "strong": strong_beat_adherence,
    "bass": bass_adherence,
    "adherence": chord_adherence,
    "rotated": rotated_adherence,
    "notes/s": notes_per_second,
    "entropy": pitch_class_entropy,
}
LIVELY = ("notes/s", "entropy")
TICKS = 480
MODES = ("free", "guided", "strict")


def stage(run: Run, text: str, metre: tuple[int, int], bars: int) -> tuple[Score, Region]:
    """An empty Score with the chords laid out, at the tempo the run has learned."""
    bpm, bar = run.facts["music"]["bpm"], TICKS * 4 * metre[0] // metre[1]
    chords = lay_out(parse_progression(text), np.arange(bars + 1) * bar)
    score = Score(tempos=[(0, round(6e7 / bpm))], metres=[(0, *metre)], chords=chords, ticks_per_quarter=TICKS)
    return score, Region(0, bars * bar)


def play(run: Run, step, context: int, score: Score, region: Region, mode: str, options) -> list[Score]:
    """Takes over the chords of `score`."""
    tokenizer = run.tokenizer
    prompt = tasks.prompt(tokenizer, score, region, head=run.facts["music"]["head"]).tolist()
    streams = []
    for seed in range(options.takes):
        plan = tasks.plan(score, region, ring=False)
        grammar = tokenizer.grammar(plan)
        sampling = Sampling(options.temperature, top_p=options.top_p)
        harmony = Harmony(plan, grammar, mode) if mode != "free" else None
        streams.append(Stream(prompt, prompt, grammar, sampling, seed, harmony, Guard()))
    decode(step, streams, context=context)
    return [_placed(tokenizer.decode_body(np.array(stream.ids)), score) for stream in streams]


def _placed(music: Score, score: Score) -> Score:
    """Decoded notes in the ticks of the stage, under the chords that were asked for."""
    notes = music.notes.copy()
    onsets, ends = (music.seconds(ticks) for ticks in (notes["onset"], notes["onset"] + notes["duration"]))
    if not music.free:
        return music.retime(TICKS).replace(chords=score.chords)
    notes["onset"] = score.ticks(onsets)
    notes["duration"] = np.maximum(score.ticks(ends) - notes["onset"], 1)
    return score.replace(notes=notes, tracks=music.tracks)


def excerpts(data: Path, bars: int) -> Iterator[Score]:
    """Stretches of so many bars, one after the other, of the test songs that have a grid."""
    for folder in pop909.folders(data, "test"):
        try:
            song = pop909.load(folder)
        except FileError:
            continue
        lines = song.bars()
        for first in range(0, len(lines) - bars, bars):
            excerpt = song.slice(int(lines[first]), int(lines[first + bars]), cut=True)
            if len(excerpt.notes):
                yield excerpt


def told(scores: list[Score]) -> tuple[dict, np.ndarray]:
    """A row of the table, and the measures (scores, MEASURES)."""
    values = np.array([[function(score) for function in MEASURES.values()] for score in scores])
    low, high = np.nanpercentile(values, [5, 95], axis=0)
    cells = zip(MEASURES, low, np.nanmean(values, axis=0), high, strict=True)
    return {name: f"{m:.3f} ({a:.2f} {b:.2f})" for name, a, m, b in cells}, values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds manifest.csv")
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--run", default="piano")
    parser.add_argument("--bars", type=int, default=8)
    parser.add_argument("--takes", type=int, default=4)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top-p", type=float, default=0.95)
    options = parser.parse_args()
    run = open_run(options.run)
    step = make_step(run.model(merge=True))
    context = min(step.max_seq_len, run.facts["settings"]["max_seq_len"])
    row, real = told(list(excerpts(options.data, options.bars)))
    rows = [{"chords": "POP909 test", "harmony": "-"} | row | {"inside": "", "s a take": ""}]
    lively = [list(MEASURES).index(name) for name in LIVELY]
    low, high = np.nanpercentile(real[:, lively], [5, 95], axis=0)
    every: dict[str, list[Score]] = {mode: [] for mode in MODES}
    for name, (text, metre) in [*PROGRESSIONS.items(), ("all", ("", (4, 4)))]:
        for mode in MODES:
            began = time.perf_counter()
            if text:
                takes = play(run, step, context, *stage(run, text, metre, options.bars), mode, options)
                every[mode] += takes
            row, values = told(takes if text else every[mode])
            inside = ((values[:, lively] >= low) & (values[:, lively] <= high)).all(axis=1).mean()
            seconds = (time.perf_counter() - began) / options.takes if text else ""
            rows.append({"chords": name, "harmony": mode} | row | {"inside": float(inside), "s a take": seconds})
            print(rows[-1], flush=True)
    bench.report(rows, options.json)


if __name__ == "__main__":
    main()
