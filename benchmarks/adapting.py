"""How well a base takes on a style it has not seen: `python benchmarks/adapting.py DATA WORK --style Chaminade`.

The pieces of a style that every base leaves out (recipes/base.py, HELD_OUT) become a corpus; each method trains on it
for the same minutes; nats per note on the style's own test pieces are compared, and nats per token on some of the
base's own validation pieces (--base-corpus), which tells how much was forgotten. The best checkpoint is chosen on the
style's validation, and a run that becomes no better ends by itself (`train --patience`). Methods with "and the base's
music" learn from both, in equal shares: from the style's training pieces, and from pieces that the base learned from
(--base-corpus); their validation is the style's alone.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import bench

from woodshed.jobs import claimed, free_threads, threads
from woodshed.symbolic import bases
from woodshed.symbolic.data.corpus import Corpus, open_corpus, write_corpus
from woodshed.symbolic.data.prepare import prepare
from woodshed.symbolic.judging.likelihood import likelihood
from woodshed.symbolic.learning.settings import DEFAULTS
from woodshed.symbolic.learning.train import train
from woodshed.symbolic.run import FACTS, Run, open_run, read_facts, weights_digest

STYLES = {  # the set, and the tokens
    "Chaminade": ("lieder", "remi"),
    **dict.fromkeys(("Debussy", "Scarlatti", "Schubert"), ("giantmidi", "performance")),
    "drummer9": ("groove", "performance"),
}
AS_IT_IS = "the base as it is"
TIED = ('modules_to_save=["embed_tokens"]', "ensure_weight_tying=true")
METHODS = {  # each at the rate of its preset, or at --learning-rate
    AS_IT_IS: {},
    "from scratch": dict(base="none", size="6m"),
    "full": dict(adapter="none"),
    "LoRA r8": dict(adapter="lora"),
    "LoRA r8 and embedding": dict(adapter="lora", lora_args=TIED),
    "IA3": dict(adapter="ia3"),
}
MIXED = " and the base's music"
METHODS |= {name + MIXED: METHODS[name] for name in ("full", "LoRA r8")}
ROWS = 32  # of the base's validation pieces
PIECES = 300  # of those that the base learned from, to mix in


def style_corpus(data: Path, style: str, work: Path) -> Corpus:
    """The corpus of one style, prepared once."""
    (kind, tokenizer), folder = STYLES[style], work / style
    if not (folder / "corpus").exists():
        for path in (row["file"] for row in bench.manifest(data, kind) if style in row["file"]):
            target = folder / "music" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(data / path, target)
        keep = ("drums", "short") if kind == "groove" else ()
        told = dict(tokenizer=tokenizer, keep=keep, augment=True, fractions="0.6,0.2,0.2")
        prepare(folder / "music", folder / "corpus", **told)
    return open_corpus(folder / "corpus")


def mixed_corpus(style: Corpus, base: Corpus, folder: Path) -> Corpus:
    """The style's pieces, and to train on besides as many ids of pieces that the base learned from."""
    if (out := folder / f"mixed-{base.fingerprint}").exists():
        return open_corpus(out)
    learned = base.split("train")
    learned = learned[:: max(len(learned) // PIECES, 1)][:PIECES]
    drawn = sum(style.pieces[n].ids * style.pieces[n].weight for n in style.split("train"))
    weight = drawn / sum(base.pieces[n].ids for n in learned)
    pieces = style.pieces + [replace(base.pieces[n], weight=weight) for n in learned]
    scores = [style.score(n) for n in range(len(style))] + [base.score(n) for n in learned]
    told = dict(settings=style.settings, skipped=[], facts=style.facts, music=style.music)
    return write_corpus(out, pieces, scores, style.tokenizer, **told)


class Sample(list):
    """Some of the rows of a split, spread evenly; how many notes they have is not known."""

    notes = seconds = 0

    def __init__(self, rows: Sequence, count: int):
        super().__init__(rows[i * len(rows) // count] for i in range(count))


def adapted(corpus: Corpus, out: Path, options: argparse.Namespace, method: dict) -> Run:
    """The run of a method, with the defaults but for what the method says: trained once, unless other things are asked
    of it now."""
    if not method:
        return open_run(options.base)
    limit = dict(max_steps=options.steps) if options.steps else dict(max_minutes=options.minutes)
    common = limit | dict(max_seq_len=options.max_seq_len, base=options.base)
    common |= dict(learning_rate=options.learning_rate, batch_size=options.batch_size, patience=options.patience)
    asked = json.loads(json.dumps(common | method)) | {"base": None}  # by which the folder is named
    known = read_facts(out) if (out / FACTS).exists() else {"finished": False}
    fits = known["finished"] and all(known["settings"][name] == told for name, told in asked.items() if told)
    if not fits or known["corpus"] != corpus.fingerprint:
        if out.exists():
            with claimed(out):  # by no training that is still going on
                shutil.rmtree(out)
        train(corpus, out, threads=options.threads, **common | method)
    return open_run(out)


def main() -> None:
    parser = bench.new_parser(__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--style", choices=STYLES, default="Chaminade")
    parser.add_argument("--base", default="auto")
    parser.add_argument("--base-corpus", type=Path)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--steps", type=int, help="instead of --minutes, where the machine is shared")
    parser.add_argument("--max-seq-len", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=free_threads())
    parser.add_argument("--learning-rate", type=float, help="for all methods, in place of those of the preset")
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--patience", type=int, default=DEFAULTS["patience"])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    options = parser.parse_args()
    corpus, rows = style_corpus(options.data, options.style, options.work), []
    options.base = bases.fitting(corpus.tokenizer.fingerprint) if options.base == "auto" else options.base
    base = open_run(options.base).folder
    folder = options.work / options.style / f"{base.name}-{weights_digest(base)}"
    splits = {name: corpus.evaluation_rows(name, options.max_seq_len) for name in ("validation", "test")}
    if options.base_corpus:
        learned = open_corpus(options.base_corpus)
        known = Sample(learned.evaluation_rows("validation", options.max_seq_len), ROWS)
        mixed = mixed_corpus(corpus, learned, folder)
    for method in options.methods:
        if method.endswith(MIXED) and not options.base_corpus:
            continue
        rate = f" at {options.learning_rate:g}" if options.learning_rate else ""
        out = folder / "".join(c if c.isalnum() else "-" for c in method + rate)
        run = adapted(mixed if method.endswith(MIXED) else corpus, out, options, METHODS[method])
        learned = {"trained": run.facts["trainable"], "best": run.facts["best_step"], "steps": run.facts["step"]}
        row = {"style": options.style, "method": method} | (learned if METHODS[method] else dict.fromkeys(learned, 0))
        with threads(options.threads):
            model = run.model(merge=True)
            row |= {name: likelihood(model, found, corpus.tokenizer)["nats_per_note"] for name, found in splits.items()}
            if options.base_corpus:
                row["base's validation, a token"] = likelihood(model, known, corpus.tokenizer)["nats_per_token"]
        rows.append(row)
    bench.report(rows, options.json)


if __name__ == "__main__":
    main()
