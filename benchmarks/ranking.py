"""Whether ranking helps: takes that are kept beside as many drawn at random, both against held-out real music.

`python benchmarks/ranking.py RUN CORPUS [--takes 24] [--keep 8] [--takes-dir DIR]`: takes of eight bars over the chords
of test pieces, four over the same, (or the MIDI files of a folder) are ranked with a critic made from the training
pieces. Some are kept: of all, where those over one progression may crowd out others, and of each four. "random" is the
mean over 200 draws of as many, "beaten" the share of the draws that the kept are better than: 0.5 is chance. The
Frechet distance is between hidden states of --judge, by default of the run itself.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import bench
import numpy as np

from woodshed.statistics import frechet_distance
from woodshed.symbolic.data.corpus import open_corpus
from woodshed.symbolic.judging.likelihood import hidden_state
from woodshed.symbolic.music.measure import histograms, overlapped_area
from woodshed.symbolic.music.midi import midi_files, read_midi
from woodshed.symbolic.music.parts import assign_parts
from woodshed.symbolic.playing import rank as ranking
from woodshed.symbolic.playing.critic import Critic, make_critic, windows
from woodshed.symbolic.playing.excerpts import TOGETHER, EvaluateSettings, cut_excerpts, play, row_length
from woodshed.symbolic.playing.rank import CRITERIA, Ranked
from woodshed.symbolic.run import open_run

DRAWS, REAL = 200, 64


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
    for name in CRITERIA:
        if any(name in one.off for one in ranked):
            found[name + " alone"] = np.array([-one.off.get(name, ranking.FARTHEST) for _, one in rows])
    return found


def kept(quality: np.ndarray, keep: int, group: int) -> np.ndarray:
    """The numbers of the best takes: `keep` of each `group` of takes, which are over the same chords."""
    groups = np.arange(len(quality)).reshape(-1, group)
    best = np.argsort(-quality[groups], axis=1, kind="stable")[:, :keep]
    return np.take_along_axis(groups, best, axis=1).ravel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--takes", type=int, default=24)
    parser.add_argument("--keep", type=int, default=8)
    parser.add_argument("--keep-of-four", type=int, default=2, help="of each four takes over the same chords")
    parser.add_argument("--bars", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--takes-dir", type=Path, help="rank these instead of playing")
    parser.add_argument("--critic-takes", type=int, default=8, help="of each kind that the critic learns from")
    parser.add_argument("--judge", type=Path, help="another run, whose hidden states are compared")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    run, corpus = open_run(options.run), open_corpus(options.corpus)
    judge = open_run(options.judge) if options.judge else run
    excerpts, _ = cut_excerpts(corpus, "test", options.bars)
    chosen = [excerpts[n] for n in np.linspace(0, len(excerpts) - 1, min(REAL, len(excerpts))).astype(int)]
    if options.takes_dir:
        takes = [assign_parts(read_midi(path)) for path in midi_files(options.takes_dir)]
    else:
        settings = EvaluateSettings(takes=options.takes, seed=options.seed)
        played = play(run, chosen, settings, options.bars, progress=lambda share: None)
        takes = [take.score for take in played]
    critic: Critic = make_critic(run, corpus, length=options.bars, takes=options.critic_takes, seed=10**6)
    print(critic)
    ranked = ranking.rank(run, takes, critic=critic)
    pool = partial(hidden_state, judge.model(merge=True), judge.tokenizer, row_length(judge))
    real_hidden, real = np.array([pool(one.score) for one in chosen]), [histograms(one.score) for one in excerpts]
    real = {name: sum(row[name] for row in real) for name in real[0]}
    parts = [windows([take], run.tokenizer, options.bars)[0] for take in takes]
    hidden, counts = np.array([pool(part) for part in parts]), [histograms(part) for part in parts]

    def told(numbers) -> dict[str, float]:
        return figures(hidden[numbers], [counts[n] for n in numbers], real_hidden, real)

    rng, rows = np.random.default_rng(0), []
    whole = len(takes) // TOGETHER * TOGETHER
    for among, group, keep in (("all takes", whole, options.keep), ("each four", TOGETHER, options.keep_of_four)):
        random = [told(kept(rng.random(whole), keep, group)) for _ in range(DRAWS)]
        for name, quality in qualities(ranked, takes).items():
            for figure, value in told(kept(quality[:whole], keep, group)).items():
                draws = np.array([draw[figure] for draw in random])
                row = {"kept": f"{keep} of {among}", "by": name, "figure": figure, "they": abs(value)}
                rows.append(row | {"random": abs(draws.mean()), "beaten": float((draws < value).mean())})
    bench.report(rows, options.json)


if __name__ == "__main__":
    main()
