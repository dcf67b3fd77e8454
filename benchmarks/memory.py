"""What `train` says of its memory beside what it takes: `python benchmarks/memory.py CORPUS --json FILE`.

Each training runs for two steps in a process of its own, on the CPU; what the process took for a training of next to
nothing, most of it for libraries, is taken from its peak.
"""

from __future__ import annotations

import multiprocessing
import re
import tempfile
from pathlib import Path

import bench

from woodshed.jobs import GB
from woodshed.symbolic.judging.alone import peak_memory


def measured(corpus: Path, settings: dict) -> tuple[float, float]:
    """GB that are told and that are taken."""
    import peft  # noqa: F401 (so that it does not count)

    from woodshed.symbolic.data.corpus import open_corpus
    from woodshed.symbolic.learning.train import train

    told, opened, more = [], open_corpus(corpus), dict(max_steps=2, eval_rows=1, threads=1, patience=0)
    with tempfile.TemporaryDirectory() as folder:
        train(opened, Path(folder) / "least", base="none", size="2m", batch_size=1, max_seq_len=16, **more)
        before = peak_memory()
        train(opened, Path(folder) / "run", report=lambda line: told.append(line.message), **settings, **more)
    said = next(re.match(r"about ([\d.]+) GB", line) for line in told if line.startswith("about"))
    return float(said[1]), (peak_memory() - before) / GB


def main() -> None:
    parser = bench.new_parser(__doc__)
    parser.add_argument("corpus", type=Path)
    options = parser.parse_args()
    trials = {
        "new, 6m, 4 x 512": dict(base="none", size="6m", batch_size=4, max_seq_len=512),
        "new, 25m, 2 x 512": dict(base="none", size="25m", batch_size=2, max_seq_len=512),
        "LoRA over its base, 2 x 1024": dict(batch_size=2, max_seq_len=1024),
        "IA3, 2 x 1024": dict(adapter="ia3", batch_size=2, max_seq_len=1024),
        "all weights of it, 2 x 1024": dict(adapter="none", batch_size=2, max_seq_len=1024),
    }
    rows = []
    for what, settings in trials.items():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            told, taken = pool.apply(measured, (options.corpus, settings))
        rows.append({"what": what, "told (GB)": told, "taken (GB)": taken, "told / taken": told / taken})
    bench.report(rows, options.json)


if __name__ == "__main__":
    main()
