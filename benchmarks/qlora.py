"""What 4 bits save, and what they cost: `python benchmarks/qlora.py [--corpus CORPUS]`.

Memory: models with random weights take two training steps, each in a process of its own. `weights` are all that a model
holds, `step` is the most that model, optimizer and activations took together, over what the process took before them
(on a GPU: what was allocated on it).

Loss: with a corpus, the base that fits it is adapted twice, over the same rows, in float32 and in 4 bits.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import bench

SIZES = ("12m", "150m")
METHODS = ("all weights", "LoRA", "QLoRA")
VOCABULARY = 623


def prepared(size: str, method: str, length: int):
    """A decoder with random weights, ready to be trained by a method."""
    import torch

    from woodshed.jobs import quiet
    from woodshed.symbolic import models
    from woodshed.symbolic.learning.adapters import adapt
    from woodshed.symbolic.learning.settings import TrainSettings, resolve

    torch.manual_seed(0)
    model = models.make("decoder", size=size, vocab_size=VOCABULARY, max_seq_len=length)
    if method == "all weights":
        return model
    with quiet("transformers"):
        return adapt(model, resolve(TrainSettings(base="random", load_in_4bit=method == "QLoRA")), half=half())


def half() -> bool:
    import torch

    from woodshed.jobs import fast_bf16

    return torch.cuda.is_available() or fast_bf16("cpu")


def weight_bytes(model) -> int:
    """Bytes of a model: its parameters, and the scales of those in 4 bits."""
    states = [weight.quant_state for weight in model.parameters() if hasattr(weight, "quant_state")]
    scales = [part for state in states for part in (state.absmax, state.state2.absmax)]
    return sum(part.nbytes for part in (*model.parameters(), *scales))


def measured(size: str, method: str, batch: int, length: int) -> dict:
    """Weights and peak of a training step, in MiB, of this process."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    prepared("2m", method, length)  # whatever the libraries load
    before = bench.held(device)
    model = prepared(size, method, length).to(device).train()
    ids = torch.randint(3, VOCABULARY, (2, batch, length), device=device)
    peak = bench.peak(learn, model, ids, device=device)[1]
    return {"weights MiB": weight_bytes(model) / bench.MIB, "step MiB": peak - before}


def learn(model, batches) -> None:
    """A step of training on each of some batches of ids (steps, batch, length)."""
    import torch

    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad])
    for ids in batches:
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=half()):
            loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def memory(options: argparse.Namespace) -> list[dict]:
    """A row for each size and method."""
    rows = []
    for size in options.sizes:
        for method in METHODS:
            shape = ["--batch-size", str(options.batch_size), "--max-seq-len", str(options.max_seq_len)]
            command = [sys.executable, __file__, "--one", size, method, *shape]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            rows.append({"decoder": size, "trained": method} | json.loads(told.splitlines()[-1]))
    return rows


def losses(corpus: Path, steps: int, length: int) -> list[dict]:
    """Nats a note on the same validation rows after the same training rows, in float32 and in 4 bits."""
    from woodshed.log import read_log
    from woodshed.symbolic.learning.train import train

    rows = []
    limits = dict(max_steps=steps, eval_steps=steps, eval_rows=48, max_seq_len=length, batch_size=2)
    with tempfile.TemporaryDirectory() as folder:
        for method in METHODS[1:]:
            run = train(corpus, Path(folder) / method, load_in_4bit=method == "QLoRA", **limits)
            last = [line["loss"] for line in read_log(run.folder / "log.jsonl") if "loss" in line][-steps // 3 :]
            row = {"trained": method, "training, nats a token (last third)": sum(last) / len(last)}
            row |= {"validation, nats a note": run.facts["validation"]["nats_per_note"]}
            rows.append(row | {"seconds": run.facts["seconds"]})
    return rows


def main() -> None:
    parser = bench.new_parser(__doc__)
    parser.add_argument("--sizes", nargs="*", default=list(SIZES))
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--max-seq-len", type=int, default=512)
    parser.add_argument("--corpus", type=Path, help="compare the losses on it too")
    parser.add_argument("--steps", type=int, default=150, help="of the comparison of losses")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(*options.one, options.batch_size, options.max_seq_len)))
        return
    rows = memory(options)
    if rows:
        bench.report(rows, options.json, "memory")
    if options.corpus:
        bench.report(losses(options.corpus, options.steps, options.max_seq_len), options.json, "losses")


if __name__ == "__main__":
    main()
