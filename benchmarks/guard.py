"""How often the guard would step back in real music, where it never should, and what it costs.

`python benchmarks/guard.py --data DATA`: of every set the share of pieces in which it fires at any bar line,
by reason, and milliseconds a bar. Its limits were chosen on the training split.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import bench
import numpy as np
import pop909

from woodshed.errors import FileError
from woodshed.symbolic.music.chords import pitched
from woodshed.symbolic.music.midi import read_midi
from woodshed.symbolic.music.score import Score, ends_of
from woodshed.symbolic.playing.guard import notice

SETS = ("pop909", "lieder", "mutopia", "openewld", "giantmidi")


def pieces(data: Path, name: str, split: str, count: int) -> list[Score]:
    """Up to so many pieces of a set, drawn at random; POP909's on their annotated grid, played music in free time."""
    rows, scores = bench.manifest(data, name, split=split), []
    for place in np.random.default_rng(0).permutation(len(rows))[:count]:
        path = data / rows[place]["file"]
        try:
            score = pop909.load(path.parent) if name == "pop909" else read_midi(path)
        except FileError:
            continue
        scores.append(score.freed() if name == "giantmidi" else score)
    return scores


def faults(score: Score) -> dict[int, str]:
    """The bars of a Score (in free time every two seconds) at whose ends the guard would fire, and why.

    Bars are counted from the one in which the music sets in.
    """
    notes, lines = pitched(score), score.bars()
    onsets = notes["onset"].astype(np.int64)
    lines = lines[max(int(np.searchsorted(lines, onsets[:1].sum(), side="right")) - 1, 0) :]
    seconds = score.seconds(lines)
    rows, found = np.stack([onsets, ends_of(notes), notes["pitch"]], axis=1), {}
    for bar in range(1, len(lines)):
        fault = notice(rows[: np.searchsorted(onsets, lines[bar])], lines[: bar + 1], seconds[: bar + 1])
        if fault:
            found[bar - 1] = fault.name
    return found


def main() -> None:
    parser = bench.new_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds manifest.csv")
    parser.add_argument("--splits", default="train,test")
    parser.add_argument("--pieces", type=int, default=300, help="of each set and split at most")
    options = parser.parse_args()
    rows = []
    for split in options.splits.split(","):
        for name in SETS:
            scores = pieces(options.data, name, split, options.pieces)
            began = time.process_time()
            found = [set(faults(score).values()) for score in scores]
            took, bars = time.process_time() - began, sum(len(score.bars()) - 1 for score in scores)
            reasons = Counter(reason for reasons in found for reason in sorted(reasons))
            row = {"set": name, "split": split, "pieces": len(scores), "fires in %": 100 * np.mean([*map(bool, found)])}
            told = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
            rows.append(row | {"because": told, "ms a bar": 1000 * took / bars})
    bench.report(rows, options.json)


if __name__ == "__main__":
    main()
