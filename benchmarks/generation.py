"""Our decode loop, grammar and clock included, against transformers' `generate()` on the same weights.

`python benchmarks/generation.py --json FILE`: one take and eight, a 64-id prompt, alternating runs, median ids a
second. The model is a fresh `decoder`: how long an id takes does not depend on the weights.
"""

from __future__ import annotations

import time
from pathlib import Path

import bench
import numpy as np
import torch

from woodshed.symbolic import models
from woodshed.symbolic.music.score import Score
from woodshed.symbolic.playing.decode import Sampling, Stream, decode
from woodshed.symbolic.playing.engines import make_step
from woodshed.symbolic.tokenizers import BOS, Plan, make

PROMPT = 64


def ours(model, tokenizer, takes: int, count: int) -> float:
    """Ids a second of the decode loop over so many takes together."""
    score = Score(chords=[(bar * 1920, bar % 12, 0, bar % 12) for bar in range(400)])
    prompt = [BOS, *np.random.default_rng(0).integers(3, tokenizer.vocab_size, PROMPT - 1).tolist()]
    streams = [
        Stream(prompt, [BOS], tokenizer.grammar(Plan(score, 0, 400 * 1920)), Sampling(1.0, top_p=0.95), seed)
        for seed in range(takes)
    ]
    step = make_step(model)
    began = time.perf_counter()
    decode(step, streams, context=PROMPT + count + 8, max_length=count)
    return sum(len(stream.grammar.ids) for stream in streams) / (time.perf_counter() - began)


def theirs(model, tokenizer, takes: int, count: int) -> float:
    prompt = torch.randint(3, tokenizer.vocab_size, (takes, PROMPT))
    began = time.perf_counter()
    with torch.inference_mode():
        out = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=True,
            top_p=0.95,
            top_k=0,
            min_new_tokens=count,
            max_new_tokens=count,
            pad_token_id=0,
        )
    return (out.numel() - prompt.numel()) / (time.perf_counter() - began)


def main() -> None:
    parser = bench.new_parser(__doc__)
    parser.add_argument("--data", type=Path, help="not needed")
    parser.add_argument("--sizes", default="6m,25m")
    parser.add_argument("--ids", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    tokenizer, rows = make("remi"), []
    for size in options.sizes.split(","):
        torch.manual_seed(0)
        model = models.make("decoder", size=size, vocab_size=tokenizer.vocab_size, max_seq_len=2048).eval()
        for takes in (1, 8):
            speed: dict = {ours: [], theirs: []}
            for _ in range(options.rounds):
                for method, found in speed.items():
                    found.append(method(model, tokenizer, takes, options.ids))
            a, b = bench.median(speed[ours]), bench.median(speed[theirs])
            rows.append({"model": size, "takes": takes, "ids/s": a, "generate() ids/s": b, "times as fast": a / b})
    bench.report(rows, options.json)


if __name__ == "__main__":
    main()
