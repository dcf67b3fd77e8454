"""Planted copies found, held-out music flagged, and how long it takes:

    python benchmarks/originality.py CORPUS [--versions DATA/pop909] [--json FILE]

A copy is some bars of a training piece, transposed by up to six semitones, up to 10 % faster or slower, every onset
moved by up to half a sixteenth triplet, one note in twelve altered. "bar" counts as right inside the bars copied, or
where three quarters of their notes stand in the piece again. `--versions` looks for POP909's other takes of the songs
in the corpus.
"""

from __future__ import annotations

import time
from pathlib import Path

import bench
import numpy as np

from woodshed.errors import FileError
from woodshed.symbolic.data.corpus import Corpus, open_corpus
from woodshed.symbolic.data.originality import Index, level, originality_index
from woodshed.symbolic.music.midi import read_midi
from woodshed.symbolic.music.parts import assign_parts
from woodshed.symbolic.music.score import Score

BARS, COPIES = 16, 100


def stretch(score: Score, count: int, rng: np.random.Generator) -> tuple[int, Score]:
    """Some bars in which there is music, and the number of the first."""
    lines = score.bars()
    for _ in range(50):
        first = int(rng.integers(0, max(len(lines) - count, 1)))
        cut = score.slice(int(lines[first]), int(lines[min(first + count, len(lines) - 1)]), cut=True)
        if len(cut.notes) >= 4 * count:
            break
    return first + 1, cut


def disguised(score: Score, rng: np.random.Generator) -> Score:
    notes, tpq, tempo = score.notes.copy(), score.ticks_per_quarter, rng.uniform(0.9, 1.1)
    jitter = rng.uniform(-tpq / 12, tpq / 12, len(notes))
    notes["onset"] = np.maximum(np.rint(notes["onset"] * tempo + jitter), 0)
    notes["duration"] = np.maximum(np.rint(notes["duration"] * tempo), 1)
    altered = rng.random(len(notes)) < 1 / 12
    moves = rng.choice([-7, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 7], altered.sum())
    notes["pitch"][altered] = np.clip(notes["pitch"][altered] + moves, 1, 126)
    return score.replace(notes=notes).transpose(int(rng.integers(-6, 7)))


def inside(copy: Score, around: Score) -> Score:
    """The copy after the first six bars of other music, and the rest of that behind it."""
    copy = copy.retime(around.ticks_per_quarter)
    at, long = int(around.bars()[min(6, len(around.bars()) - 2)]), copy.bars()[-1]
    before = around.slice(0, at, cut=True).notes
    after, notes = around.slice(at, around.end).notes.copy(), copy.notes.copy()
    notes["onset"] += at
    after["onset"] += at + long
    tracks = [{track.part: k for k, track in enumerate(around.tracks)}.get(track.part, 0) for track in copy.tracks]
    notes["track"] = np.array(tracks, np.uint8)[notes["track"]]
    return around.replace(notes=np.concatenate([before, notes, after]))


def same_music(source: Score, bar: int, copied: Score) -> bool:
    """Whether three quarters of the notes copied begin at this bar of the piece too, to a sixteenth."""
    lines = source.bars()
    there = source.slice(int(lines[max(bar, 1) - 1]), source.end)
    mine, theirs = (
        set(zip((s.notes["onset"] * 4 // s.ticks_per_quarter).tolist(), s.notes["pitch"].tolist(), strict=True))
        for s in (copied, there)
    )
    return len(mine & theirs) >= 0.75 * len(mine)


def recall(known: Index, corpus: Corpus, bars: int, *, surrounded: bool) -> dict:
    """Shares of the copies that are found, alone or between six and six bars of a held-out piece."""
    usual = known.usual(4 * (BARS if surrounded else bars))
    rng = np.random.default_rng(0)
    train, held_out = corpus.split("train"), corpus.split("test")
    rows = []
    for _ in range(COPIES):
        number = int(rng.choice(train))
        first, copied = stretch(corpus.score(number), bars, rng)
        take = disguised(copied, rng)
        if surrounded:
            take = inside(take, stretch(corpus.score(int(rng.choice(held_out))), 12, rng)[1])
        found = known.matches(take)
        best, piece = found[0] if found else None, corpus.pieces[number]
        file = best is not None and best.path == piece.path
        exact = file and first - 1 <= best.bar <= first + bars
        offset = best.bar - best.take_bar + (7 if surrounded else 1) if file else 0
        bar = exact or (file and same_music(corpus.score(number), offset, copied))
        flagged = best is not None and best.weight > usual
        rows.append([file, bar, flagged, file and flagged, best.weight if best else 0, best.notes if best else 0])
    names = ("right file", "right bar", "flagged", "flagged, right file")
    means = dict(zip(names, np.mean(rows, axis=0).tolist()[:4], strict=True))
    weight, notes = np.median(rows, axis=0).tolist()[4:]
    return means | {"weight, median": weight, "notes, median": notes}


def false_positives(known: Index, corpus: Corpus) -> dict:
    """Of stretches of one held-out split, those above the level of the other."""
    rng = np.random.default_rng(1)
    weights = {
        split: np.array([known.weight(stretch(score, BARS, rng)[1]) for score in corpus.scores(split)])
        for split in ("validation", "test")
    }
    told = {}
    for split, other in (("test", "validation"), ("validation", "test")):
        told[f"{split} flagged"] = float((weights[split] > level(weights[other])).mean())
    every = np.concatenate([*weights.values()])
    return told | {f"{q} %": float(np.percentile(every, q)) for q in (5, 50, 95, 100)} | {"level": level(every)}


def versions(known: Index, folder: Path) -> dict:
    """Whether other takes of songs in the index lead to their song; every twentieth of them."""
    songs = {Path(path).stem for path in known.paths}
    paths = [path for path in sorted(folder.glob("*/versions/*.mid")) if path.parts[-3] in songs][::20]
    right, flagged, read = 0, 0, 0
    for path in paths:
        try:
            report = known.repeats(assign_parts(read_midi(path)))
        except FileError:
            continue
        read += 1
        hit = bool(report.matches) and Path(report.matches[0].path).stem == path.parts[-3]
        right, flagged = right + hit, flagged + (hit and report.flagged)
    return {"versions": read, "right song": right / read, "flagged": flagged / read}


def timed(corpus: Corpus, count: int) -> dict:
    """Seconds to index so many pieces and, median, to search with 16 bars of a held-out one."""
    rng, train = np.random.default_rng(2), corpus.split("train")
    chosen = [train[k] for k in np.unique(np.linspace(0, len(train) - 1, count).astype(int))]
    scores = [corpus.score(number) for number in chosen]
    began = time.perf_counter(), time.process_time()
    known = Index(scores, [corpus.pieces[number].path for number in chosen])
    spent = {"index s": time.perf_counter() - began[0], "index cpu s": time.process_time() - began[1]}
    walls, cpus = [], []
    for score in corpus.scores("test")[:20]:
        take = stretch(score, BARS, rng)[1]
        began = time.perf_counter(), time.process_time()
        known.matches(take)
        walls.append(time.perf_counter() - began[0])
        cpus.append(time.process_time() - began[1])
    notes = sum(len(score.notes) for score in scores)
    told = {"pieces": len(scores), "notes": notes, "figures": len(known.places)} | spent
    return told | {"take s": bench.median(walls), "take cpu s": bench.median(cpus)}


def main() -> None:
    parser = bench.new_parser(__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--versions", type=Path, help="POP909's folder")
    parser.add_argument("--only-time", action="store_true")
    options = parser.parse_args()
    corpus = open_corpus(options.corpus)
    sizes = [size for size in (100, 1000) if size < len(corpus.split("train"))]
    times = [timed(corpus, size) for size in (*sizes, len(corpus.split("train")))]
    bench.report(times, options.json, "times")
    if options.only_time:
        return
    known = originality_index(corpus)
    rows = []
    for bars, surrounded in ((4, False), (4, True), (8, True)):
        where = f"{bars} bars" + (" inside 12 others" if surrounded else " alone")
        rows.append({"copies": where} | recall(known, corpus, bars, surrounded=surrounded))
    bench.report(rows, options.json, "copies")
    bench.report([false_positives(known, corpus)], options.json, "held out")
    if options.versions:
        bench.report([versions(known, options.versions)], options.json, "versions")


if __name__ == "__main__":
    main()
