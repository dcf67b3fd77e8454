"""Relative attention against plain causal attention: seconds and peak memory, forward and backward, taken in turn.

    python benchmarks/relative_attention.py [--threads 1] [--rounds 5] [--fp32] [--lengths 512 1024] [--json FILE]

One layer of music_transformer's size 6m (8 heads of 32), then a training step of the whole model, one row each. With
one thread the seconds are those of the processor, so that what else runs matters less.

plain    causal attention in blocks, without distances
blocks   what we train with: skewed products inside the blocks
fused    skewed products as an additive bias into torch's fused kernel
skewed   pad, reshape, slice on whole matrices (Huang et al. 2018)
naive    the definition, an embedding for every pair (T, T, D); it needs 64 times the memory of the scores, so only up
         to 1,024
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from bench import held, median, new_parser, peak, report

from woodshed.symbolic import models
from woodshed.symbolic.models._attention import biased_attention, chunked_attention, skew

HEADS, DIM, VOCAB = 8, 32, 650
NAIVE_MAX = 1024


def whole(module, query, key, value, mask, *, relative, naive: bool) -> tuple[torch.Tensor, None]:
    """Attention on whole matrices, relative products skewed or by the definition."""
    length = query.shape[2]
    distance = torch.arange(length)[:, None] - torch.arange(length)
    scores = query @ key.transpose(2, 3)
    if naive:
        embeddings = relative[:, distance.clamp(0, relative.shape[1] - 1)]
        scores = scores + torch.einsum("bhtd,htsd->bhts", query, embeddings.to(query.dtype))
    else:
        products = query @ relative[:, :length].flip(1).transpose(1, 2).to(query.dtype)
        scores = scores + skew(torch.nn.functional.pad(products, (0, 1)))
    weights = torch.softmax((scores * query.shape[-1] ** -0.5).masked_fill(distance < 0, -torch.inf), -1)
    return (weights @ value).transpose(1, 2), None


def plain(*args, relative, **options) -> tuple[torch.Tensor, None]:
    return chunked_attention(*args, **options)


LAYERS: dict[str, Callable] = {
    "plain": plain,
    "blocks": chunked_attention,
    "fused": biased_attention,
    "skewed": partial(whole, naive=False),
    "naive": partial(whole, naive=True),
}


def layer_step(kind: str, inputs: list[torch.Tensor]) -> None:
    """Forward and backward of one attention."""
    module = torch.nn.Module()
    module.is_causal = True
    *qkv, relative = inputs
    LAYERS[kind](module, *qkv, None, relative=relative)[0].sum().backward()


def model_step(model, ids: torch.Tensor, dtype: torch.dtype) -> None:
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        loss = model(ids, labels=ids, use_cache=False).loss
    loss.backward()
    model.zero_grad()


def make_model(kind: str, length: int):
    torch.manual_seed(0)
    overrides = {"max_relative_distance": length}
    model = models.make("music_transformer", size="6m", vocab_size=VOCAB, max_seq_len=length, **overrides).train()
    if kind == "fused":
        model.set_attn_implementation("sdpa")
    if kind == "plain":
        for layer in model.layers:
            layer.attention.distances = None
    return model


def compare(what: str, length: int, runs: dict[str, Callable], rounds: int) -> list[dict]:
    """A row for each run: milliseconds, the ratio to the first, MiB above what was there before."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    taken: dict[str, list[float]] = {kind: [] for kind in runs}
    memory = {}
    for kind, run in runs.items():
        before = held()
        memory[kind] = peak(run)[1] - before
    for _ in range(rounds):
        for kind, run in runs.items():
            started = clock()
            run()
            taken[kind].append(clock() - started)
    first = next(iter(runs))
    rows = []
    for kind, times in taken.items():
        ratio = median(a / b for a, b in zip(times, taken[first], strict=True))
        ms = 1000 * median(times)
        rows.append({"what": what, "length": length, "kind": kind, "ms": ms, "x plain": ratio, "MiB": memory[kind]})
    return rows


def measure(length: int, dtype: torch.dtype, rounds: int) -> list[dict]:
    inputs = [torch.randn(1, HEADS, length, DIM, dtype=dtype, requires_grad=True) for _ in range(3)]
    inputs.append(torch.randn(HEADS, length, DIM, dtype=dtype, requires_grad=True))
    kinds = [kind for kind in LAYERS if kind != "naive" or length <= NAIVE_MAX]
    rows = compare("layer", length, {kind: partial(layer_step, kind, inputs) for kind in kinds}, rounds)
    ids = torch.randint(3, VOCAB, (1, length))
    made = {kind: make_model(kind, length) for kind in ("plain", "blocks", "fused")}
    runs = {kind: partial(model_step, model, ids, dtype) for kind, model in made.items()}
    return rows + compare("6m step", length, runs, rounds)


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fp32", action="store_true")
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 3500])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dtype = torch.float32 if options.fp32 else torch.bfloat16
    report([row for length in options.lengths for row in measure(length, dtype, options.rounds)], options.json)


if __name__ == "__main__":
    main()
