"""How fast codecs are: seconds of audio encoded and decoded in a second.

    python benchmarks/codecs.py [CODEC ...] [--recording FILE] [--seconds 30] [--threads 1] [--json FILE]

Without a codec a new one of kind own with the default settings, whose speed does not depend on what it has learned; of
kind own also with Griffin-Lim. `processor` counts the time that the process itself had, for machines that are busy.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from bench import median, new_parser, report

from woodshed.audio.codecs import LOUDNESS, open_codec, own
from woodshed.audio.codecs._settings import CodecSettings
from woodshed.audio.wave import Audio, read_audio

ROUNDS = 3


def main() -> None:
    parser = new_parser(__doc__)
    parser.add_argument("codecs", nargs="*", type=Path)
    parser.add_argument("--recording", type=Path, help="by default noise")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = {str(place): open_codec(place) for place in options.codecs} or {"own, new": own.begin(CodecSettings())}
    rows = []
    for name, codec in found.items():
        audio = sound(options.recording, codec, options.seconds)
        latents = codec.encode(audio)
        rows.append(speed(name, "encode", options.seconds, partial(codec.encode, audio)))
        rows.append(speed(name, "decode", options.seconds, partial(codec.decode, latents)))
        if codec.kind == "own":
            plain = partial(codec.decode, latents, phase="griffin-lim")
            rows.append(speed(name, "decode, Griffin-Lim", options.seconds, plain))
    report(rows, options.json)


def sound(recording: Path | None, codec, seconds: float) -> Audio:
    """What is encoded: the beginning of a recording, or noise."""
    if recording:
        how = {"sample_rate": codec.sample_rate, "channels": codec.channels}
        return read_audio(recording, seconds=seconds, **how).levelled(LOUDNESS)
    samples = np.random.default_rng(0).standard_normal((round(seconds * codec.sample_rate), codec.channels))
    return Audio(0.1 * samples.astype(np.float32), codec.sample_rate)


def speed(name: str, what: str, seconds: float, work) -> dict:
    """Seconds of audio in a second, by the clock and by the processor's time."""
    work()
    walls, spent = [], []
    for _ in range(ROUNDS):
        wall, process = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        spent.append(time.process_time() - process)
    return {"codec": name, "what": what, "by the clock": seconds / median(walls), "processor": seconds / median(spent)}


if __name__ == "__main__":
    main()
