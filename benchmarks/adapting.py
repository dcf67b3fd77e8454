"""How well a base takes on a style it has not seen: `python benchmarks/adapting.py DATA WORK --style Chaminade`.

The pieces of a style that every base leaves out (recipes/base.py, HELD_OUT) become a corpus; each method trains on it
for the same minutes; nats per note on the style's own test pieces are compared, and on the base's own validation pieces
(--base-corpus), which tells how much was forgotten. The best checkpoint is chosen on the style's validation.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from pathlib import Path

import bench

from woodshed.symbolic.corpus import Corpus, open_corpus
from woodshed.symbolic.likelihood import likelihood
from woodshed.symbolic.prepare import prepare
from woodshed.symbolic.run import Run, open_run
from woodshed.symbolic.train import free_threads, threads, train

STYLES = {"Chaminade": "remi", "Debussy": "performance", "Scarlatti": "performance", "Schubert": "performance"}
SETS = {"remi": "lieder", "performance": "giantmidi"}
METHODS = {
    "from scratch": dict(base="none", size="6m", learning_rate=1.5e-3),
    "full fine-tune": dict(lora_rank=0, learning_rate=5e-4),
    "full, a lower rate": dict(lora_rank=0, learning_rate=2e-4),
    "LoRA r8": dict(lora_rank=8, learning_rate=2e-3),
    "LoRA r8 and embedding": dict(lora_rank=8, learning_rate=2e-3, lora_args=('modules_to_save=["embed_tokens"]',)),
}


def style_corpus(data: Path, style: str, work: Path) -> Corpus:
    """The corpus of one style, prepared once."""
    kind, folder = STYLES[style], work / style
    if not (folder / "corpus").exists():
        with (data / "manifest.csv").open(encoding="utf-8") as file:
            paths = [row["file"] for row in csv.DictReader(file) if row["set"] == SETS[kind] and style in row["file"]]
        for path in paths:
            target = folder / "music" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(data / path, target)
        prepare(folder / "music", folder / "corpus", tokenizer=kind, augment=True, fractions="0.6,0.2,0.2")
    return open_corpus(folder / "corpus")


def nats_a_note(run: Run, corpus: Corpus, split: str) -> float:
    """Of a whole split."""
    rows = corpus.evaluation_rows(split, 1024)
    found = likelihood(run.model(merge=True), rows, corpus.tokenizer, progress=lambda share: None)
    return found["nats_per_note"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--style", choices=STYLES, default="Chaminade")
    parser.add_argument("--base", default="auto")
    parser.add_argument("--base-corpus", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    corpus = style_corpus(options.data, options.style, options.work)
    rows = []
    for method in options.methods:
        out = options.work / options.style / method.replace(" ", "-").replace(",", "")
        common = dict(max_minutes=options.minutes, max_seq_len=1024, batch_size=2, eval_rows=32, base=options.base)
        run = open_run(out) if (out / "run.json").exists() else train(corpus, out, **common | METHODS[method])
        with threads(free_threads()):
            row = {"method": method, "trained": run.facts["trainable"], "steps": run.facts["step"]}
            row |= {"validation": run.facts["validation"]["nats_per_note"], "test": nats_a_note(run, corpus, "test")}
            if options.base_corpus:
                row["base's validation"] = nats_a_note(run, open_corpus(options.base_corpus), "validation")
        rows.append(row)
    bench.report(rows, options.json)


if __name__ == "__main__":
    main()
