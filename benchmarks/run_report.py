"""What a run has learned, beside simple models and real music: `python benchmarks/run_report.py RUN CORPUS`.

Validation nats per note of the run, of a unigram and of a bigram model of the same ids; then takes over a progression,
measured beside windows of as many bars of the validation pieces: adherence to the chords, to rotated chords, how bars
recur, notes a bar. "inside" counts the takes between the 5th and 95th percentile of the real windows.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from woodshed.symbolic import measure
from woodshed.symbolic.corpus import open_corpus
from woodshed.symbolic.generate import generate
from woodshed.symbolic.run import open_run

MEASURES = ("chord_adherence", "rotated_adherence", "recurrence", "notes_per_bar", "pitch_class_entropy", "polyphony")


def pairs(rows, count: int):
    """Ids and the id before each, where the id is to be learned, over the first `count` rows."""
    for index in range(count):
        row = rows[index]
        keep = row["labels"][1:] != -100
        yield row["input_ids"][:-1][keep], row["labels"][1:][keep]


def simple_models(corpus, length: int, count: int = 1500) -> dict[str, float]:
    """Validation nats per note of a unigram and an interpolated bigram model, fitted to rows as the run sees them."""
    size = corpus.tokenizer.vocab_size
    counts = np.zeros((size, size))
    training = corpus.training_rows(length)
    for before, after in pairs(training, min(count, 4 * len(training))):
        np.add.at(counts, (before, after), 1)
    unigram = (counts.sum(axis=0) + 0.1) / (counts.sum() + 0.1 * size)
    bigram = (counts + 20 * unigram) / (counts.sum(axis=1, keepdims=True) + 20)
    rows = corpus.evaluation_rows("validation", length)
    nats = {"unigram": 0.0, "bigram": 0.0}
    for before, after in pairs(rows, len(rows)):
        nats["unigram"] -= np.log(unigram[after]).sum()
        nats["bigram"] -= np.log(bigram[before, after]).sum()
    return {name: value / rows.notes for name, value in nats.items()}


def model_nats(run, corpus, length: int) -> dict[str, float]:
    """Validation nats per token, note and second of music of the run itself, over the whole split."""
    import torch

    model, rows = run.model(merge=True), corpus.evaluation_rows("validation", length)
    nats, tokens = 0.0, 0
    with torch.inference_mode():
        for index in range(len(rows)):
            row = {name: torch.as_tensor(value)[None] for name, value in rows[index].items()}
            logits = model(input_ids=row["input_ids"], position_ids=row["position_ids"]).logits[0, :-1].float()
            labels = row["labels"][0, 1:]
            nats += float(torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum"))
            tokens += int((labels != -100).sum())
    return {"per token": nats / tokens, "per note": nats / rows.notes, "per second": nats / rows.seconds}


def windows(corpus, bars: int) -> list:
    """The validation pieces in windows of so many bars."""
    found = []
    for score in corpus.scores("validation"):
        lines = score.seams()
        found += [
            score.slice(int(a), int(b), cut=True) for a, b in zip(lines[:-bars:bars], lines[bars::bars], strict=False)
        ]
    return [score for score in found if len(score.notes) > 8]


def shuffled(score, rng) -> float:
    """Adherence to the score's own chords in another order."""
    order = rng.permutation(len(score.chords))
    mixed = score.chords.copy()
    for name in ("root", "quality", "bass"):
        mixed[name] = score.chords[name][order]
    return measure.chord_adherence(score, mixed)


def table(takes: list, real: list) -> dict:
    rows = {}
    for name in MEASURES:
        ours = np.array([getattr(measure, name)(score) for score in takes])
        theirs = np.array([getattr(measure, name)(score) for score in real])
        low, middle, high = np.nanpercentile(theirs, [5, 50, 95])
        rows[name] = {
            "takes min/median/max": np.round([np.nanmin(ours), np.nanmedian(ours), np.nanmax(ours)], 3).tolist(),
            "real 5/50/95%": np.round([low, middle, high], 3).tolist(),
            "inside": f"{int(((ours >= low) & (ours <= high)).sum())} of {len(ours)}",
        }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--chords", default="Cmaj7 Am7 Dm7 G7")
    parser.add_argument("--bars", type=int, default=16)
    parser.add_argument("--takes", type=int, default=20)
    parser.add_argument("--temperature", default="1.0")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-seq-len", type=int, default=1024)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    run, corpus = open_run(options.run), open_corpus(options.corpus)
    found: dict = {"run": model_nats(run, corpus, options.max_seq_len)}
    found["nats per note of simple models"] = simple_models(corpus, options.max_seq_len)
    asked = dict(chords=options.chords, bars=options.bars, takes=options.takes)
    takes = generate(run, **asked, temperature=options.temperature, seed=options.seed)
    real, rng = windows(corpus, options.bars), np.random.default_rng(0)
    found["takes"] = table([take.score for take in takes], real)
    found["real windows, chords shuffled"] = float(np.nanmedian([shuffled(score, rng) for score in real]))
    found["legal probability"] = float(np.mean([take.measures["legal_probability"] for take in takes]))
    text = json.dumps(found, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
