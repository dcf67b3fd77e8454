"""Training steps with our attention against the stock `sdpa`, on the same weights and ids, taken in turn.

    python benchmarks/attention.py [size] [--threads 2] [--rounds 7] [--fp32] [--packed] [--json FILE]

Tells tokens a second of both (medians) and the median of the ratios of neighbouring steps.
"""

from __future__ import annotations

import copy
import time

import bench
import torch

from woodshed.symbolic import models

TOKENS = 4096  # of a step
KINDS = ("sdpa", "chunked")


def positions(rows: int, length: int, packed: bool) -> torch.Tensor:
    """Positions (rows, length); packed rows hold two to five pieces."""
    at = torch.arange(length).repeat(rows, 1)
    if packed:
        for row in range(rows):
            for cut in torch.randperm(length)[: 1 + row % 4].sort().values.tolist():
                at[row, cut:] = torch.arange(length - cut)
    return at


def seconds(model, optimizer, batch: dict, dtype: torch.dtype) -> float:
    """One training step."""
    started = time.perf_counter()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return time.perf_counter() - started


def compare(size: str, length: int, *, rounds: int, dtype: torch.dtype, packed: bool) -> dict:
    """Tokens a second of each attention, and the ratio."""
    torch.manual_seed(0)
    trained = {"sdpa": models.make("decoder", size=size, vocab_size=650, max_seq_len=length)}
    trained["chunked"] = copy.deepcopy(trained["sdpa"])
    for kind, model in trained.items():
        model.set_attn_implementation(kind)
    optimizers = {kind: torch.optim.AdamW(model.parameters(), lr=1e-4) for kind, model in trained.items()}
    ids = torch.randint(3, 650, (TOKENS // length, length))
    batch = {"input_ids": ids, "labels": ids, "position_ids": positions(*ids.shape, packed)}
    taken = {kind: [] for kind in KINDS}
    for done in range(rounds + 1):
        for kind in KINDS if done % 2 else KINDS[::-1]:
            taken[kind].append(seconds(trained[kind], optimizers[kind], batch, dtype))
    row = {"size": size, "length": length, "dtype": str(dtype).removeprefix("torch."), "packed": packed}
    row |= {f"{kind} tokens/s": TOKENS / bench.median(times[1:]) for kind, times in taken.items()}
    ratios = [a / b for a, b in zip(taken["sdpa"][1:], taken["chunked"][1:], strict=True)]
    return row | {"ratio": bench.median(ratios)}


def main() -> None:
    parser = bench.new_parser(__doc__)
    parser.add_argument("size", nargs="?", default="6m")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--fp32", action="store_true")
    parser.add_argument("--packed", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dtype = torch.float32 if options.fp32 else torch.bfloat16
    how = dict(rounds=options.rounds, dtype=dtype, packed=options.packed)
    bench.report([compare(options.size, length, **how) for length in (512, 1024, 2048)], options.json)


if __name__ == "__main__":
    main()
