"""How right the estimated grid is: python benchmarks/grid_accuracy.py DATA [--json FILE]

DATA holds manifest.csv and the sets it names. POP909 is measured against `beat_midi.txt` (mir_eval's F-measure: 70 ms,
the first 5 s left out), free time counting as 0. Its labels are an algorithm's too and not always right: `low` and
`label_low` give the share of a piece's lowest tenth of onsets that fall on our bar lines and on the labels'. `found
again` takes notated pieces of one metre, 3/4 or 4/4, says 1/4, moves them by an odd number of ticks, and counts the
right bar lines of those that are not free.
"""

from __future__ import annotations

import time
from pathlib import Path

import mir_eval
import numpy as np
from bench import manifest, new_parser, report

from woodshed.errors import FileError
from woodshed.symbolic.music.grid import apply_grid, estimate_grid
from woodshed.symbolic.music.midi import read_midi
from woodshed.symbolic.music.score import Score

NEAR = 0.07  # seconds
ODD = 173  # ticks that a notated piece is moved by
BINS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.01)


def lines(score: Score, end: float, shift: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Beats and bar lines in the seconds of the piece before it was shifted, up to `end` seconds."""
    if score.free:
        return np.zeros(0), np.zeros(0)
    zero = score.seconds(shift)
    last = int(score.ticks(end + zero))
    return score.seconds(score.beats(last)) - zero, score.seconds(score.bars(last)) - zero


def f_measure(truth: np.ndarray, found: np.ndarray) -> float:
    """mir_eval's F-measure within the span of the truth; 0 where nothing was found."""
    found = found[(found >= truth[0] - NEAR) & (found <= truth[-1] + NEAR)]
    found = mir_eval.beat.trim_beats(np.maximum(found, 0))
    return float(mir_eval.beat.f_measure(mir_eval.beat.trim_beats(truth), found)) if len(found) else 0.0


def low_share(score: Score, bars: np.ndarray) -> float:
    """The share of a piece's lowest tenth of onsets that lie on these bar lines (seconds); nan without bar lines."""
    if not len(bars):
        return float("nan")
    low = score.notes["pitch"] <= np.percentile(score.notes["pitch"], 10)
    onsets = score.seconds(score.notes["onset"][low])
    return float(np.mean(np.abs(onsets[:, None] - bars).min(axis=1) < NEAR))


def estimated(score: Score) -> tuple[dict, Score]:
    """A row about one piece, and the piece on its grid."""
    start = time.perf_counter()
    grid = estimate_grid(score)
    applied = apply_grid(score, grid)
    row = {"ms": 1000 * (time.perf_counter() - start), "action": grid.action, "confidence": grid.confidence}
    return row | {"shift": grid.shift}, applied


def annotated(path: Path) -> dict:
    """A POP909 song against its annotation."""
    score, labels = read_midi(path), np.loadtxt(path.parent / "beat_midi.txt", ndmin=2)
    row, applied = estimated(score)
    truth, downbeats = labels[:, 0], labels[labels[:, 2] > 0, 0]
    beats, bars = lines(applied, truth[-1], row["shift"])
    own_beats, own_bars = lines(score, truth[-1])
    row |= {"beat": f_measure(truth, beats), "downbeat": f_measure(downbeats, bars)}
    row |= {"own_beat": f_measure(truth, own_beats), "own_downbeat": f_measure(downbeats, own_bars)}
    row |= {"low": low_share(score, bars), "label_low": low_share(score, downbeats), "bars": len(bars) / len(downbeats)}
    return row


def version(path: Path) -> dict:
    """Another take of a POP909 song, without annotation: low notes on bar lines, and lines a second."""
    score = read_midi(path)
    row, applied = estimated(score)
    end = float(score.seconds(score.end))
    bars, own = lines(applied, end, row["shift"])[1], lines(score, end)[1]
    row |= {"low": low_share(score, bars), "own_low": low_share(score, own)}
    return row | {"bars_per_s": len(bars) / end, "own_bars_per_s": len(own) / end}


def found_again(score: Score) -> dict | None:
    """A notated piece with one metre of 3/4 or 4/4, moved off its grid; None for others."""
    metre = tuple(score.metres.tolist()[0][1:])
    if len(score.metres) > 1 or metre not in ((3, 4), (4, 4)) or len(score.notes) < 100:
        return None
    notes, tempos = score.notes.copy(), score.tempos.copy()
    notes["onset"] += ODD
    tempos["tick"][1:] += ODD
    moved = score.replace(notes=notes, tempos=tempos, metres=[(0, 1, 4)], pedals=(), chords=())
    row, applied = estimated(moved)
    if not applied.free:
        truth = score.bars() + ODD + row["shift"]
        bars = applied.bars(int(truth[-1]))
        bars = bars[(bars >= truth[0] - 1) & (bars <= truth[-1] + 1)]
        hits = np.isin(bars, truth).sum() if len(bars) else 0
        row["downbeat"] = 2 * hits / max(len(bars) + len(truth), 1)
    return row | {"metre": f"{metre[0]}/{metre[1]}", "downbeat": row.get("downbeat", 0.0)}


def mean(rows: list[dict], key: str) -> float:
    values = np.array([row[key] for row in rows], dtype=float)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def actions(rows: list[dict]) -> dict:
    """How many pieces, the share of each answer, and the time."""
    names = ("kept", "shifted", "re-barred", "free")
    shares = {name: sum(row["action"] == name for row in rows) / len(rows) for name in names}
    return {"files": len(rows)} | shares | {"ms": mean(rows, "ms")}


def measure(data: Path) -> list[dict]:
    """The table."""
    table, songs, versions, again = [], [], [], []
    for row in manifest(data, "pop909"):
        path = data / row["file"]
        songs.append(annotated(path) | {"split": row["split"]})
        versions += [read for take in sorted((path.parent / "versions").glob("*.mid")) if (read := _try(take))]
    keys = ("own_beat", "own_downbeat", "beat", "downbeat", "low", "label_low")
    for split in ("train", "validation", "test"):
        rows = [row for row in songs if row["split"] == split]
        barred = [row for row in rows if row["action"] != "free"]
        table.append({"pieces": f"POP909 {split}"} | actions(rows) | {key: mean(rows, key) for key in keys})
        means = {key: mean(barred, key) for key in keys}
        table.append({"pieces": f"POP909 {split}, not free", "files": len(barred)} | means)
    for low, high in zip((0.0, *BINS[:-1]), BINS, strict=True):
        rows = [row for row in songs if low <= row["confidence"] < high and row["action"] != "free"]
        if rows:
            name = f"POP909, confidence {low:.1f}-{min(high, 1):.1f}"
            means = {key: mean(rows, key) for key in ("confidence", "beat", "downbeat")}
            table.append({"pieces": name, "files": len(rows)} | means)
    means = {key: mean(versions, key) for key in ("low", "own_low", "bars_per_s", "own_bars_per_s")}
    table.append({"pieces": "POP909 versions"} | actions(versions) | means)
    for name in ("lieder", "mutopia", "openewld", "giantmidi", "groove"):
        scores = [read_midi(data / row["file"]) for row in manifest(data, name)]
        table.append({"pieces": name} | actions([estimated(score)[0] for score in scores]))
        if name in ("lieder", "mutopia"):
            again += [row for score in scores if (row := found_again(score))]
    for metre in ("4/4", "3/4"):
        rows = [row for row in again if row["metre"] == metre]
        barred = [row for row in rows if row["action"] != "free"]
        told = actions(rows) | {"downbeat": mean(barred, "downbeat")}
        table.append({"pieces": f"found again {metre}"} | told)
    return table


def _try(path: Path) -> dict | None:
    try:
        score = read_midi(path)
    except FileError:
        return None
    return version(path) if len(score.notes) else None


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("data", type=Path, help="folder with manifest.csv")
    options = parser.parse_args()
    report(measure(options.data), options.json)


if __name__ == "__main__":
    main()
