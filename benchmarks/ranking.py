"""Whether ranking helps: takes that are kept beside as many drawn at random, both against held-out real music.

`python benchmarks/ranking.py RUN CORPUS [--charts 16] [--takes 16] [--keep 5]`: over the chords of each of so many test
excerpts of eight bars takes are played as `woodshed generate` plays them, all at one temperature, and ranked by a
critic made from the training pieces. "random" is the mean over 200 draws of as many of each chart's takes, "beaten" the
share of the draws that the kept are better than: 0.5 is chance. Histograms of all that is kept are compared with those
of the real test excerpts by overlapped area, and hidden states of --judge (by default of the run itself) by their
Frechet distance, on the directions in which real training music varies most.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import bench
import numpy as np

from woodshed.statistics import evenly, frechet_distance
from woodshed.symbolic.data.corpus import open_corpus
from woodshed.symbolic.judging.likelihood import hidden_state
from woodshed.symbolic.music.measure import histograms, overlapped_area
from woodshed.symbolic.playing import rank as ranking
from woodshed.symbolic.playing.critic import Critic, make_critic
from woodshed.symbolic.playing.excerpts import cut_excerpts, stage_of, windows
from woodshed.symbolic.playing.perform import perform
from woodshed.symbolic.playing.rank import CRITERIA, STYLE, Ranked
from woodshed.symbolic.run import open_run

DRAWS, REAL, DIRECTIONS = 200, 200, 48


def figures(hidden: np.ndarray, counts: list[dict], real_hidden: np.ndarray, real: dict) -> dict[str, float]:
    """How near some takes are to real excerpts; distances are negative, so that more is better."""
    areas = {name: overlapped_area(sum(row[name] for row in counts), total) for name, total in real.items()}
    found = {"Frechet distance": -frechet_distance(hidden, real_hidden)}
    return found | {f"overlapped area, {name}": area for name, area in areas.items()}


def qualities(ranked: list[Ranked], takes: list) -> dict[str, np.ndarray]:
    """Of each take, in the order of `takes`: its place in the ranking, its score, each criterion; more is better."""
    by_take = {id(one.take): (-place, one) for place, one in enumerate(ranked)}
    rows = [by_take[id(take)] for take in takes]
    found = {"all, diverse": np.array([place for place, _ in rows]), "all": np.array([one.score for _, one in rows])}
    for name in (*CRITERIA, STYLE):
        if any(name in one.off for one in ranked):
            found[name + " alone"] = np.array([-one.off.get(name, ranking.FARTHEST) for _, one in rows])
    return found


def kept(quality: np.ndarray, keep: int, group: int) -> np.ndarray:
    """The numbers of the best takes: `keep` of each `group` of takes, which are over the same chords."""
    groups = np.arange(len(quality)).reshape(-1, group)
    best = np.argsort(-quality[groups], axis=1, kind="stable")[:, :keep]
    return np.take_along_axis(groups, best, axis=1).ravel()


def main() -> None:
    parser = bench.new_parser(__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--charts", type=int, default=16)
    parser.add_argument("--takes", type=int, default=16, help="over each chart")
    parser.add_argument("--keep", type=int, default=5, help="of each chart")
    parser.add_argument("--bars", type=int, default=8)
    parser.add_argument("--temperature", default="1.0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--judge", type=Path, help="another run, whose hidden states are compared")
    options = parser.parse_args()
    run, corpus = open_run(options.run), open_corpus(options.corpus)
    judge = open_run(options.judge) if options.judge else run
    real = cut_excerpts(corpus, "test", options.bars)[0]
    takes = []
    for number, chart in enumerate(evenly([one for one in real if len(one.score.chords)], options.charts)):
        asked = dict(bars=options.bars, takes=options.takes, temperature=options.temperature, originality=False)
        played = perform(run, seed=options.seed + 1000 * number, **asked, **stage_of(chart.score))
        takes += [take.score for take in played]
    critic: Critic = make_critic(run, corpus, length=options.bars, seed=10**6)
    print(critic)
    ranked = ranking.rank(run, takes, critic=critic)

    pool = partial(hidden_state, judge.model(merge=True), judge.tokenizer, judge.row_length)
    known = evenly(cut_excerpts(corpus, "train", options.bars)[0], REAL)
    states = np.array([pool(one.score) for one in known])
    middle = states.mean(axis=0)
    directions = np.linalg.svd(states - middle, full_matrices=False)[2][:DIRECTIONS].T
    real = evenly(real, REAL)
    real_hidden = (np.array([pool(one.score) for one in real]) - middle) @ directions
    counts = [histograms(one.score) for one in real]
    totals = {name: sum(row[name] for row in counts) for name in counts[0]}
    parts = [windows([take], run.tokenizer, options.bars)[0] for take in takes]
    hidden, counts = (
        (np.array([pool(part) for part in parts]) - middle) @ directions,
        [histograms(one) for one in parts],
    )

    def told(numbers) -> dict[str, float]:
        return figures(hidden[numbers], [counts[n] for n in numbers], real_hidden, totals)

    rng, rows = np.random.default_rng(0), []
    random = [told(kept(rng.random(len(takes)), options.keep, options.takes)) for _ in range(DRAWS)]
    for name, quality in qualities(ranked, takes).items():
        for figure, value in told(kept(quality, options.keep, options.takes)).items():
            draws = np.array([draw[figure] for draw in random])
            row = {"by": name, "figure": figure, "kept": abs(value), "random": abs(draws.mean())}
            rows.append(row | {"beaten": float((draws < value).mean())})
    bench.report(rows, options.json)


if __name__ == "__main__":
    main()
