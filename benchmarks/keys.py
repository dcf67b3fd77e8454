"""Whether a run plays in the key that is asked for: `python benchmarks/keys.py piano`.

One take of so many bars in each of the 24 keys, over no chords and without help. Told are in how many takes the key is
the one that is heard, in how many its relative, and how much of the sounding time lies in the scale (of minor keys the
natural one, and the leading note); beside it the same for the scale a tritone away, and for takes of which no key was
asked.
"""

from __future__ import annotations

import bench
import numpy as np

from woodshed.symbolic.music.chord_suffix import MAJOR_SCALE
from woodshed.symbolic.music.chords import NAMES, pitched
from woodshed.symbolic.music.keys import estimate_key, key_name
from woodshed.symbolic.music.score import Score
from woodshed.symbolic.playing.generate import generate
from woodshed.symbolic.playing.settings import UNAIDED
from woodshed.symbolic.run import open_run

SCALES = {"major": MAJOR_SCALE, "minor": (0, 2, 3, 5, 7, 8, 10, 11)}
KEYS = [(tonic, mode) for mode in SCALES for tonic in range(len(NAMES))]


def in_scale(score: Score, tonic: int, mode: str) -> float:
    """The share of sounding time that lies in a scale."""
    notes = pitched(score)
    inside = np.isin((notes["pitch"] - tonic) % 12, SCALES[mode])
    return float(notes["duration"][inside].sum() / notes["duration"].sum())


def same_notes(tonic: int, mode: str) -> tuple[int, str]:
    """The relative key."""
    return ((tonic + 9) % 12, "minor") if mode == "major" else ((tonic + 3) % 12, "major")


def main() -> None:
    parser = bench.new_parser(__doc__)
    parser.add_argument("run")
    parser.add_argument("--bars", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    run, rows = open_run(options.run), []
    for asked in (True, False):
        found = []
        for number, key in enumerate(KEYS):
            told = {"key": key_name(*key)} if asked else {}
            take = generate(
                run, bars=options.bars, takes=1, temperature="1.0", seed=options.seed + number, **UNAIDED, **told
            )
            score = take[0].score
            heard, away = estimate_key(score)[:2], ((key[0] + 6) % 12, key[1])
            found.append((heard == key, heard == same_notes(*key), in_scale(score, *key), in_scale(score, *away)))
        means = np.mean(found, axis=0).round(2).tolist()
        names = ("heard in it", "in its relative", "time in its scale", "in the scale a tritone away")
        rows.append(
            {"key": "asked" if asked else "not asked", "takes": len(KEYS)} | dict(zip(names, means, strict=True))
        )
    bench.report(rows, options.json)


if __name__ == "__main__":
    main()
