"""What the simplest models reach on a corpus: `python benchmarks/ngrams.py CORPUS [--split test]`.

Nats per note of a unigram and of an interpolated bigram model of the same ids, fitted to the rows a run would see. What
`woodshed evaluate` says of a run is to be read beside them.
"""

from __future__ import annotations

from pathlib import Path

import bench
import numpy as np

from woodshed.symbolic.data.corpus import IGNORED, Corpus, open_corpus

SMOOTHING = 20  # ids that the unigram is worth beside what followed an id


def pairs(rows, count: int):
    """Ids and the id before each, where the id is to be learned, over the first `count` rows."""
    for index in range(count):
        row = rows[index]
        keep = row["labels"][1:] != IGNORED
        yield row["input_ids"][:-1][keep], row["labels"][1:][keep]


def nats_a_note(corpus: Corpus, split: str, length: int, count: int) -> dict[str, float]:
    """Of both models, fitted to `count` rows of the training split."""
    size = corpus.tokenizer.vocab_size
    counts = np.zeros((size, size))
    training = corpus.training_rows(length)
    for before, after in pairs(training, min(count, 4 * len(training))):
        np.add.at(counts, (before, after), 1)
    unigram = (counts.sum(axis=0) + 0.1) / (counts.sum() + 0.1 * size)
    bigram = (counts + SMOOTHING * unigram) / (counts.sum(axis=1, keepdims=True) + SMOOTHING)
    rows = corpus.evaluation_rows(split, length)
    nats = {"unigram": 0.0, "bigram": 0.0}
    for before, after in pairs(rows, len(rows)):
        nats["unigram"] -= np.log(unigram[after]).sum()
        nats["bigram"] -= np.log(bigram[before, after]).sum()
    return {name: value / rows.notes for name, value in nats.items()}


def main() -> None:
    parser = bench.new_parser(__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--split", default="validation")
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--max-seq-len", type=int, default=1024)
    options = parser.parse_args()
    found = nats_a_note(open_corpus(options.corpus), options.split, options.max_seq_len, options.rows)
    bench.report([{"model": name, "nats a note": value} for name, value in found.items()], options.json)


if __name__ == "__main__":
    main()
