"""How fast `train` is against a bare Hugging Face Trainer: `python benchmarks/training.py --data DIR --json FILE`.

The same model, the same rows of a dozen POP909 songs; the bare Trainer has them in memory, `train` draws them and
writes its log. The arms take turns, so that other load on the machine meets all; a round counts by its median step, and
the medians of the rounds are compared. Muon is the optimizer that `train` uses by itself.
"""

from __future__ import annotations

import tempfile
import time
from itertools import pairwise
from pathlib import Path

import bench
import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from woodshed.jobs import fast_bf16, find_device, free_threads
from woodshed.symbolic import models
from woodshed.symbolic.data.prepare import prepare
from woodshed.symbolic.learning.train import train


class Stopwatch(TrainerCallback):
    """The time at the end of every step."""

    def __init__(self):
        self.times = []

    def on_step_end(self, args, state, control, **kwargs):
        self.times.append(time.perf_counter())


def ours(corpus, options, optimizer: str) -> list[float]:
    """Step times of `train`, as it reports them; no evaluation before the last step."""
    times = []
    settings = {"base": "none", "size": options.size}
    settings |= {"max_seq_len": options.max_seq_len, "batch_size": options.batch_size}
    settings |= {"training_args": ("optim=adamw_torch",)} if optimizer == "AdamW" else {}
    with tempfile.TemporaryDirectory() as folder:
        train(
            corpus,
            Path(folder) / "run",
            report=lambda told: told.message or told.validation or times.append(time.perf_counter()),
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
            bf16=fast_bf16(find_device()),
            use_cpu=not torch.cuda.is_available(),
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        model, watch = models.make("decoder", size=options.size, **sizes), Stopwatch()
        trainer = Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[watch])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return watch.times


ARMS = {
    "bare Trainer, AdamW": bare,
    "train, AdamW": lambda corpus, options: ours(corpus, options, "AdamW"),
    "train, Muon": lambda corpus, options: ours(corpus, options, "Muon"),
}


def main() -> None:
    parser = bench.new_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds pop909/")
    parser.add_argument("--size", default="6m")
    for name, default in {"max-seq-len": 1024, "batch-size": 4, "steps": 10, "rounds": 3, "songs": 12}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--threads", type=int, default=free_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    speeds: dict[str, list[float]] = {name: [] for name in ARMS}
    with tempfile.TemporaryDirectory() as folder:
        music = Path(folder) / "music"
        music.mkdir()
        for path in sorted(options.data.glob("pop909/*/*.mid"))[: options.songs]:
            (music / path.name).write_bytes(path.read_bytes())
        corpus = prepare(music, Path(folder) / "corpus", tokenizer="remi", augment=True)
        for _ in range(options.rounds):
            for name, measure in ARMS.items():
                step = bench.median([stop - start for start, stop in pairwise(measure(corpus, options))])
                speeds[name].append(options.batch_size * options.max_seq_len / step)
    against = bench.median(speeds["bare Trainer, AdamW"])
    shape = f"{options.size}, {options.batch_size} x {options.max_seq_len}, {options.threads} threads"
    rows = [
        {
            "what": f"{name}; {shape}",
            "ids a second": bench.median(found),
            "of the bare Trainer": bench.median(found) / against,
        }
        for name, found in speeds.items()
    ]
    bench.report(rows, options.json)


if __name__ == "__main__":
    main()
