"""What the benchmarks share: a parser, the manifest of the data, medians, peaks of memory, a table, and a JSON file."""

from __future__ import annotations

import argparse
import csv
import ctypes
import json
import platform
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ["held", "manifest", "median", "new_parser", "peak", "report"]

PROCESS = Path("/proc/self")  # of Linux
MIB = 2**20
FIGURES: dict[str, list[dict]] = {}


def new_parser(doc: str) -> argparse.ArgumentParser:
    """A parser for a benchmark that its docstring describes, with the file for `report`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures here")
    return parser


def manifest(data: Path, *sets: str, split: str | None = None) -> list[dict]:
    """The rows of manifest.csv in the data folder about some sets: of one split (train, validation, test) or of all."""
    with (data / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["set"] in sets and split in (None, row["split"])]


def held(device: str = "cpu") -> float:
    """MiB that this process holds: resident, or on a GPU allocated; nan where the system does not tell."""
    if device == "cuda":
        import torch

        return torch.cuda.memory_allocated() / MIB
    if PROCESS.exists():
        ctypes.CDLL(None).malloc_trim(0)
    return _resident("VmRSS")


def peak(run: Callable, *args, device: str = "cpu") -> tuple[Any, float]:
    """What a call answers, and the most MiB that this process holds during it, as `held` counts them."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return run(*args), torch.cuda.max_memory_allocated() / MIB
    if PROCESS.exists():
        ctypes.CDLL(None).malloc_trim(0)
        (PROCESS / "clear_refs").write_text("5")  # the high-water mark begins anew
    return run(*args), _resident("VmHWM")


def _resident(name: str) -> float:
    status = PROCESS / "status"
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(name)), float("nan"))


def report(rows: list[dict], path: Path | None = None, name: str = "rows", **more: list[dict]) -> None:
    """Print rows as a Markdown table, in which what a row does not tell stays empty. Write the machine and all that has
    been measured on it in this process: these rows by their name, and more that is not printed."""
    rows = [{k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    columns = dict.fromkeys(column for row in rows for column in row)
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(row.get(column, "")) for column in columns) + " |")
    FIGURES.update({name: rows} | more)
    if path:
        facts = {"machine": platform.processor() or platform.machine(), "python": platform.python_version()}
        path.write_text(json.dumps(facts | FIGURES, indent=1) + "\n", encoding="utf-8")
