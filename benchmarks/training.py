"""How fast `train` is against a bare Hugging Face Trainer: the same model, rows and arguments, kept in memory.

    python benchmarks/training.py CORPUS [--size 6m] [--max-seq-len 512] [--batch-size 4] [--steps 12] [--rounds 3]

The two take turns, so that other load on the machine meets both; each round counts by its median step, drawing the rows
and writing the log included, and the medians of the rounds are compared. Prints a table; --json writes it down.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from woodshed.symbolic import models
from woodshed.symbolic.callbacks import fast_bf16
from woodshed.symbolic.corpus import open_corpus
from woodshed.symbolic.train import free_threads, train

BAR = 0.95
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class Stopwatch(TrainerCallback):
    """The time at the end of every step."""

    def __init__(self, clock: Callable[[], float]):
        self.clock, self.times = clock, []

    def on_step_end(self, args, state, control, **kwargs):
        self.times.append(self.clock())


def ours(corpus, options) -> list[float]:
    """Step times of `train`, as it reports them; no evaluation before the last step."""
    times, clock = [], CLOCKS[options.clock]
    settings = {"size": options.size, "max_seq_len": options.max_seq_len, "batch_size": options.batch_size}
    with tempfile.TemporaryDirectory() as folder:
        train(
            corpus,
            Path(folder) / "run",
            report=lambda told: told.message or told.validation or times.append(clock()),
            max_steps=options.steps,
            eval_steps=options.steps,
            eval_rows=1,
            threads=options.threads,
            **settings,
        )
    return times


def bare(corpus, options) -> list[float]:
    """Step times of the Trainer on a list of rows."""
    drawn = corpus.training_rows(options.max_seq_len)
    rows = [drawn[i] for i in range(options.steps * options.batch_size)]
    sizes = {"vocab_size": corpus.tokenizer.vocab_size, "max_seq_len": options.max_seq_len}
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=options.steps,
            per_device_train_batch_size=options.batch_size,
            learning_rate=3e-4,
            bf16=torch.cuda.is_bf16_supported() if torch.cuda.is_available() else fast_bf16(),
            use_cpu=not torch.cuda.is_available(),
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        model, watch = models.make("decoder", size=options.size, **sizes), Stopwatch(CLOCKS[options.clock])
        trainer = Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[watch])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return watch.times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--size", default="6m")
    for name, default in {"max-seq-len": 512, "batch-size": 4, "steps": 12, "rounds": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int, default=free_threads())
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: of this process, on a busy machine")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    corpus = open_corpus(options.corpus)
    speeds: dict[str, list[float]] = {"train": [], "bare": []}
    for _ in range(options.rounds):
        for name, measure in (("train", ours), ("bare", bare)):
            times = measure(corpus, options)
            step = median(stop - start for start, stop in pairwise(times))
            speeds[name].append(options.batch_size * options.max_seq_len / step)
    report(speeds, options)


def report(speeds: dict[str, list[float]], options) -> None:
    ratios = [a / b for a, b in zip(speeds["train"], speeds["bare"], strict=True)]
    run = f"{options.size}, {options.batch_size} x {options.max_seq_len}, {options.threads} threads"
    print(f"| {run}, {options.clock} time | ids/s | rounds |")
    print("|---|---|---|")
    for name, values in speeds.items():
        print(f"| {name} | {median(values):,.0f} | {', '.join(f'{value:,.0f}' for value in values)} |")
    ratio = median(speeds["train"]) / median(speeds["bare"])
    rounds = ", ".join(f"{value:.3f}" for value in ratios)
    print(f"| train / bare (bar: {BAR}) | {ratio:.3f} | {rounds} |")
    if options.json:
        facts = {**vars(options), "ids_per_second": speeds, "ratio": ratio, "bar": BAR, "torch": torch.__version__}
        options.json.write_text(json.dumps(facts, default=str, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
