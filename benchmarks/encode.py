"""Parse and encode MIDI without chords, against MidiTok: `python benchmarks/encode.py --data DIR --json FILE`.

Every method reads the same POP909 files in a process of its own, in turns; what is compared is the median of the
seconds that each took for all files, imports left out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import bench

PAIRS = {"remi": "miditok:REMI", "performance": "miditok:MIDILike"}


def ours(name: str):
    from woodshed.symbolic.music.midi import read_midi
    from woodshed.symbolic.tokenizers import make

    tokenizer = make(name)
    return lambda path: tokenizer.encode(read_midi(path))


def theirs(name: str):
    import miditok
    import symusic

    tokenizer = getattr(miditok, name.partition(":")[2])(miditok.TokenizerConfig())
    return lambda path: tokenizer(symusic.Score(path))


def measure(name: str, folder: Path, count: int) -> float:
    """Seconds for `count` files in this process, after one to warm up."""
    encode = theirs(name) if ":" in name else ours(name)
    files = sorted(folder.glob("pop909/*/*.mid"))[:count]
    encode(files[0])
    began = time.perf_counter()
    for path in files:
        encode(path)
    return time.perf_counter() - began


def main() -> None:
    parser = bench.new_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds pop909/")
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(measure(options.one, options.data, options.files))
        return
    seconds: dict[str, list[float]] = {name: [] for pair in PAIRS.items() for name in pair}
    for _ in range(options.rounds):
        for name, found in seconds.items():
            command = [sys.executable, __file__, "--data", options.data, "--files", options.files, "--one", name]
            found.append(float(subprocess.check_output([str(part) for part in command], text=True)))
    rows = []
    for mine, other in PAIRS.items():
        a, b = bench.median(seconds[mine]), bench.median(seconds[other])
        rows.append(
            {
                "what": f"parse + encode, {mine}",
                "ms a file": 1000 * a / options.files,
                "against": other,
                "its ms a file": 1000 * b / options.files,
                "times as fast": b / a,
            }
        )
    bench.report(rows, options.json)


if __name__ == "__main__":
    main()
