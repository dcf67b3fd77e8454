"""A corpus of toy sequences behind the interface of Corpus, the smallest model that learns them, and what it logs."""

import signal
from pathlib import Path
from typing import ClassVar

import numpy as np

from woodshed.log import read_log
from woodshed.symbolic.tokenizers import make

LENGTH = 64
# keywords of train(): a decoder of 31,136 parameters
TINY = {
    "size": "2m",
    "model_args": (
        '{"hidden_size": 32, "num_hidden_layers": 1, "intermediate_size": 64}',
        "num_attention_heads=2",
        "head_dim=16",
    ),
    "max_seq_len": LENGTH,
    "batch_size": 4,
    "learning_rate": 1e-2,
    "threads": 1,
}
ADAPTER = {name: TINY[name] for name in ("max_seq_len", "batch_size", "learning_rate", "threads")}  # over a base
STEPS = 24  # of the fixture `reference`


class ToyRows:
    """Rows of two pieces that each count to some number, again and again."""

    def __init__(self, count: int, length: int, seed: int):
        self.count, self.length, self.seed = count, length, seed

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        rng = np.random.default_rng([self.seed, index])
        half = np.arange(self.length // 2)
        ids = np.concatenate([half % period + 10 for period in rng.integers(3, 9, 2)])
        return {"input_ids": ids, "labels": ids.copy(), "position_ids": np.tile(half, 2)}


class ToyEvaluation(ToyRows):
    notes, seconds = 100, 50.0


class ToyCorpus:
    folder, fingerprint, pieces, own = Path("toy"), "toy-1", (), ()
    tokenizer = make("performance")
    validation = 6
    music: ClassVar[dict] = {}

    def training_rows(self, max_seq_len, seed=0):
        return ToyRows(24, max_seq_len, seed)

    def evaluation_rows(self, split, max_seq_len):
        return ToyEvaluation(self.validation, max_seq_len, 99)


def steps_of(folder: Path, key: str = "loss") -> dict[int, float]:
    """What the log of a run says of each step."""
    return {line["step"]: line[key] for line in read_log(folder / "log.jsonl") if key in line}


def events_of(folder: Path) -> list[str]:
    """What happened in a run, in order."""
    return [line["event"] for line in read_log(folder / "log.jsonl") if "event" in line]


def stop_at(step):
    """A report that presses Ctrl-C after a step; the run ends with the next."""

    def report(progress):
        if progress.step == step and not progress.message and not progress.validation:
            signal.raise_signal(signal.SIGINT)

    return report
