"""What each task costs a run on validation music: `python benchmarks/task_losses.py RUN CORPUS [--checkpoint N]`.

Stretches of the split's pieces, the same for every run, are posed as each task; only what the model has to write is
counted, in nats a written token and a written note. `compose` writes everything from nothing.
"""

from __future__ import annotations

from pathlib import Path

import bench
import numpy as np
import torch

from woodshed.symbolic.data.corpus import IGNORED, ROOM, cut_window, draw_region, open_corpus, pack
from woodshed.symbolic.data.tasks import Region, describe, pose
from woodshed.symbolic.run import open_run


def examples(corpus, task: str, length: int, split: str, count: int):
    """`count` posed stretches of the split that fit a row."""
    pieces, found = corpus.split(split), []
    for number in range(4 * count):
        rng = np.random.default_rng([7, number])
        piece = pieces[number % len(pieces)]
        room = length / corpus.pieces[piece].ids * ROOM[task]
        window = cut_window(corpus.score(piece), corpus.tokenizer, rng.random() * 0.8, room)[0]
        everything = Region(0, corpus.tokenizer.end(window))
        region = draw_region(task, window, everything, rng)
        if task != "compose" and region == everything:
            continue
        posed = pose(corpus.tokenizer, window, region, head=describe(window), ended=task != "compose")
        if len(posed.ids) <= length:
            found.append(posed)
        if len(found) == count:
            break
    return found


@torch.no_grad()
def losses(model, tokenizer, posed, length: int) -> dict[str, float]:
    """Nats a written token and a written note."""
    notes = [token for token, word in enumerate(tokenizer.words) if word.startswith(("Pitch_", "NOTE_ON_"))]
    nats = tokens = struck = 0
    for example in posed:
        row = {name: torch.as_tensor(value)[None] for name, value in pack([example], length).items()}
        size = len(example.ids)
        logits = model(row["input_ids"][:, :size], use_cache=False).logits[0, :-1].float()
        target = row["labels"][0, 1:size]
        nats += torch.nn.functional.cross_entropy(logits, target, ignore_index=IGNORED, reduction="sum").item()
        tokens += int((target >= 0).sum())
        struck += int(np.isin(example.ids[example.loss_mask], notes).sum())
    return {"nats a token": nats / tokens, "nats a note": nats / struck, "notes": struck}


def main() -> None:
    parser = bench.new_parser(__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--checkpoint", type=int)
    parser.add_argument("--split", default="validation")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--max-seq-len", type=int, default=1024)
    options = parser.parse_args()
    corpus = open_corpus(options.corpus)
    model = open_run(options.run, options.checkpoint).model()
    rows = []
    for task in ROOM:
        posed = examples(corpus, task, options.max_seq_len, options.split, options.count)
        if posed:
            found = losses(model, corpus.tokenizer, posed, options.max_seq_len)
            rows.append({"task": task, "stretches": len(posed)} | found)
    bench.report(rows, options.json)


if __name__ == "__main__":
    main()
