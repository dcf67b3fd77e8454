"""What the benchmarks share: medians, a table, and a JSON file."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from statistics import median

__all__ = ["median", "report"]


def report(rows: list[dict], path: Path | None = None) -> None:
    """Print rows as a Markdown table, and write them with the machine they were measured on."""
    rows = [{k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + "---|" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")
    if path:
        facts = {"machine": platform.processor() or platform.machine(), "python": platform.python_version()}
        path.write_text(json.dumps(facts | {"rows": rows}, indent=1) + "\n", encoding="utf-8")
