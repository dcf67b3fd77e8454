"""What may pay in a base model: `python benchmarks/base_trials.py PIANO PLAYED [--steps 400] [--only NAME]`.

PIANO and PLAYED are the corpora of recipes/base.py. Every trial sees the same rows in the same order, with the
optimizer and the schedule of the recipe (the rate falls to nothing in the last fifth), and differs in one thing:

    wide, deep    as many parameters in fewer, wider layers, and in more, narrower ones
    dropout       a tenth of the attention weights dropped
    even sets     every piece drawn as often as it is long, instead of the recipe's weights of the sets
    bare heads    of the words that describe the music only whether it was played or notated, neither density nor key
    no tasks      every row music from its beginning, none with bars or parts to fill in
    trunk         one model for both tokenizers, their ids side by side, a row of each in turn; twice the steps

In the end nats a token and a note of rows spread over the validation split of each corpus that it has learned.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass, replace
from pathlib import Path

import bench
import numpy as np
import torch

from woodshed.jobs import fast_bf16
from woodshed.symbolic import models
from woodshed.symbolic.data import corpus as rows_of
from woodshed.symbolic.data.corpus import Corpus, open_corpus
from woodshed.symbolic.data.tasks import describe
from woodshed.symbolic.learning.muon import Muon, parameter_groups

LENGTH, ROWS, WARMUP, COOLED = 1024, 4, 50, 0.2
RATE, DECAY, BETAS = 1.5e-3, 0.1, (0.9, 0.98)
WIDE = dict(hidden_size=384, num_hidden_layers=4, intermediate_size=768, num_attention_heads=6, num_key_value_heads=6)
DEEP = dict(hidden_size=192, num_hidden_layers=14, intermediate_size=480, num_attention_heads=3, num_key_value_heads=3)


@dataclass(frozen=True)
class Trial:
    """A model to train: from the rows of which corpora, with which fields of its configuration, how often a set is
    drawn, and what stands in the rows besides music."""

    corpora: tuple[int, ...] = (0,)
    overrides: tuple[tuple[str, float], ...] = ()
    even: bool = False
    bare: bool = False
    tasks: bool = True


TRIALS = {
    "piano": Trial(),
    "wide": Trial(overrides=tuple(WIDE.items())),
    "deep": Trial(overrides=tuple(DEEP.items())),
    "dropout": Trial(overrides=(("attention_dropout", 0.1),)),
    "even sets": Trial(even=True),
    "bare heads": Trial(bare=True),
    "no tasks": Trial(tasks=False),
    "piano-played": Trial(corpora=(1,)),
    "trunk": Trial(corpora=(0, 1)),
}


class Stream:
    """The rows of a corpus, whose ids begin at `first` in the model's vocabulary."""

    def __init__(self, corpus: Corpus, first: int, trial: Trial):
        if trial.even:
            corpus.pieces = [replace(piece, weight=1.0) for piece in corpus.pieces]
        if not trial.tasks:
            corpus.settings["tasks"] = {}
        self.corpus, self.first = corpus, first
        self.rows = corpus.training_rows(LENGTH)

    def batch(self, rows: list[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
        """Rows as the model takes them."""
        found = {name: torch.as_tensor(np.stack([row[name] for row in rows])) for name in rows[0]}
        found["input_ids"] += self.first
        found["labels"] = torch.where(found["labels"] < 0, found["labels"], found["labels"] + self.first)
        return found


def train(trial: Trial, corpora: list[Corpus], steps: int) -> tuple[torch.nn.Module, list[Stream], float]:
    """The trained model, its streams, and seconds in all."""
    streams, first = [], 0
    rows_of.describe = (lambda score: describe(score)[:1]) if trial.bare else describe
    for number in trial.corpora:
        streams.append(Stream(corpora[number], first, trial))
        first += corpora[number].tokenizer.vocab_size
    torch.manual_seed(0)
    model = models.make("decoder", size="6m", vocab_size=first, max_seq_len=2048, **dict(trial.overrides))
    models.share_features(model, features(streams))
    optimizer = Muon(parameter_groups(model, DECAY), lr=RATE, betas=BETAS)
    steps *= len(streams)
    began, counts = time.perf_counter(), [itertools.count() for _ in streams]
    for step in range(steps):
        which = step % len(streams)
        stream = streams[which]
        rows = [stream.rows[next(counts[which])] for _ in range(ROWS)]
        for group in optimizer.param_groups:
            group["lr"] = RATE * min((step + 1) / WARMUP, 1.0, (steps - step) / (COOLED * steps))
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_bf16("cpu")):
            loss = model(**stream.batch(rows), use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return model, streams, time.perf_counter() - began


def features(streams: list[Stream]) -> np.ndarray:
    """What ids have in common; ids of two tokenizers share nothing but what they are trained to."""
    blocks = [stream.corpus.tokenizer.features for stream in streams]
    joined = np.zeros((sum(len(block) for block in blocks), sum(block.shape[1] for block in blocks)))
    row = column = 0
    for block in blocks:
        joined[row : row + len(block), column : column + block.shape[1]] = block
        row, column = row + len(block), column + block.shape[1]
    return joined


@torch.no_grad()
def validate(model: torch.nn.Module, stream: Stream, count: int) -> dict[str, float]:
    """Nats a token and a note of `count` rows spread over the validation split."""
    rows = stream.corpus.evaluation_rows("validation", LENGTH)
    model.eval()
    nats = tokens = 0
    for i in range(count):
        batch = stream.batch([rows[i * len(rows) // count]])
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_bf16("cpu")):
            logits = model(**{name: batch[name] for name in ("input_ids", "position_ids")}, use_cache=False).logits
        target = batch["labels"][0, 1:]
        nats += torch.nn.functional.cross_entropy(logits[0, :-1].float(), target, reduction="sum").item()
        tokens += int((target >= 0).sum())
    everything = sum(int((rows[i]["labels"][1:] >= 0).sum()) for i in range(len(rows)))
    return {"nats a token": nats / tokens, "nats a note": nats / tokens * everything / rows.notes}


def main() -> None:
    parser = bench.new_parser(__doc__)
    parser.add_argument("corpora", type=Path, nargs=2, metavar="CORPUS")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rows", type=int, default=96, help="of validation")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=TRIALS, default=list(TRIALS))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = []
    for name in options.only:
        corpora = [open_corpus(folder) for folder in options.corpora]
        model, streams, seconds = train(TRIALS[name], corpora, options.steps)
        size = {"trial": name, "M parameters": sum(weight.numel() for weight in model.parameters()) / 1e6}
        for stream in streams:
            row = size | {"corpus": stream.corpus.tokenizer.name} | validate(model, stream, options.rows)
            found.append(row | {"seconds": seconds})
        bench.report(found, options.json)


if __name__ == "__main__":
    main()
