"""Learn how fast a pulse is counted, the weights in `woodshed/audio/features.py`: `tempo.py DATA --soundfont FILE.sf2`

The training splits of POP909, Mutopia and Groove and made-up pieces are rendered as in benchmarks/annotation.py; of the
related tempi of each the right one shall have the highest odds (a softmax over the candidates, with a ridge). Prints
the weights, and what is right when each sixth of the pieces is left out in turn. Takes a quarter of an hour on a core.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from annotation import Piece, drums, keyboard, made_up, rendered, songs, tempo_marks

from woodshed.audio.features import heard_rises, tempo_candidates

RIDGE = 3.0
FOLDS = 6


class Example(NamedTuple):
    """A piece: its set, its tempo, and what can be said for each tempo that it may have."""

    name: str
    tempo: float
    candidates: np.ndarray
    facts: np.ndarray

    @property
    def right(self) -> np.ndarray:
        return np.abs(self.candidates / self.tempo - 1) <= 0.04


def pieces(data: Path) -> Iterator[Piece]:
    for kind in ("piano", "band"):
        yield from islice(songs(data, "train", kind), 55)
    yield from islice(keyboard(data, "train"), 60)
    yield from drums(data, "train", 90)
    for seed in (1, 2):
        yield from made_up(seed)


def example(piece: Piece, soundfont: Path) -> Example:
    return Example(piece.name, piece.tempo, *tempo_candidates(heard_rises(rendered(piece, soundfont)))[:2])


def fit(examples: list[Example]) -> np.ndarray:
    """Weights of the facts. Those whose right tempo is not among the candidates teach nothing."""
    able = [example for example in examples if example.right.any()]
    scale = np.concatenate([example.facts for example in able]).std(axis=0) + 1e-9

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        total, slope = RIDGE * weights @ weights, 2 * RIDGE * weights
        for example in able:
            facts = example.facts / scale
            odds = np.exp(facts @ weights - np.max(facts @ weights))
            odds /= odds.sum()
            meant = odds * example.right
            total -= np.log(meant.sum())
            slope = slope - (meant / meant.sum() - odds) @ facts
        return float(total), slope

    return minimize(loss, np.zeros(len(scale)), jac=True, method="L-BFGS-B").x / scale


def left_out(examples: list[Example]) -> dict[str, tuple[int, float, float]]:
    """For each set: pieces, share within 4%, share within 4% of a related tempo, each piece unseen by its weights."""
    marks: dict[str, list[dict]] = {}
    for fold in range(FOLDS):
        weights = fit([example for at, example in enumerate(examples) if at % FOLDS != fold])
        for example in examples[fold::FOLDS]:
            found = example.candidates[np.argmax(example.facts @ weights)]
            marks.setdefault(example.name.split("/")[0], []).append(tempo_marks(example.tempo, found))
    return {
        name: (len(some), *(float(np.mean([mark[kind] for mark in some])) for kind in ("within 4%", "octave")))
        for name, some in marks.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with manifest.csv")
    parser.add_argument("--soundfont", type=Path, required=True)
    arguments = parser.parse_args()
    examples = [example(piece, arguments.soundfont) for piece in pieces(arguments.data) if piece.tempo]
    for name, (count, within, octave) in left_out(examples).items():
        print(f"{name:14s} {count:4d} pieces  within 4% {within:.3f}  octave {octave:.3f}")
    print(np.array2string(fit(examples), precision=2, separator=", ", suppress_small=True, max_line_width=110))


if __name__ == "__main__":
    main()
