"""How fast the latent GAN learns and plays: `python benchmarks/gan.py --sizes 24 64 --json FILE`.

For every size: parameters, floating-point operations of a step (torch.utils.flop_counter, all three networks and their
gradients, the slope of R1 included), steps a second (the median), what that makes of the machine, and how many seconds
of latents the generator makes in a second. The latents are random: speed does not depend on them. With --codec also how
fast that codec turns latents into sound, and with --folder as well how fast it encodes the first recording there.
"""

from __future__ import annotations

import time
from pathlib import Path

import bench
import torch
from torch.utils.flop_counter import FlopCounterMode

from woodshed.audio.codecs import encode_file, open_codec
from woodshed.audio.gan.generate import make_latents
from woodshed.audio.gan.networks import parameters
from woodshed.audio.gan.settings import LONG, SECONDS_OF_A_WINDOW, nearest_power
from woodshed.audio.gan.step import Shape, new_players, update
from woodshed.audio.wave import audio_files, probe


def timed(work, *, device: str) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


class Together:
    """In place of the counter's own tracker of modules, which cannot follow autograd.grad; R1 needs that."""

    parents = ("Global",)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


def size(base_channels: int, options) -> dict:
    """The row of one size."""
    window = options.window or nearest_power(SECONDS_OF_A_WINDOW.get(base_channels, LONG) * options.latent_rate)
    players = new_players(Shape(options.latent_dim, base_channels, window), seed=0, device=options.device)
    half = options.device == "cuda"

    def learn(count: int, seed: int) -> None:
        real = torch.randn(count, options.latent_dim, window, device=options.device)
        update(players, real, rate=1e-5, seed=seed, half_precision=half)

    learn(2, 0)
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = Together()
    with counter:
        learn(1, 1)
    flops = counter.get_total_flops() * options.batch_size
    step = bench.median(
        [timed(lambda s=s: learn(options.batch_size, s), device=options.device) for s in range(options.steps)]
    )
    network = players.average.cpu().eval()
    halves = round(120 * options.latent_rate / network.half)
    play = bench.median([timed(lambda: make_latents(network, halves, seed=0), device="cpu") for _ in range(3)])
    return {
        "base_channels": base_channels,
        "window": window,
        "generator M": parameters(players.generator) / 1e6,
        "critic M": parameters(players.critic) / 1e6,
        "GFLOP a step": flops / 1e9,
        "steps a second": 1 / step,
        "GFLOP/s": flops / step / 1e9,
        "seconds played in a second (network)": halves * network.half / options.latent_rate / play,
    }


def codec_rows(options) -> list[dict]:
    codec = open_codec(options.codec)
    latents = torch.randn(round(60 * codec.latent_rate), codec.latent_dim).numpy()
    codec.decode(latents[:50])
    seconds = bench.median([timed(lambda: codec.decode(latents), device="cpu") for _ in range(3)])
    rows = [{"what": "decode", "times as fast as it sounds": len(latents) / codec.latent_rate / seconds}]
    if options.folder:
        path = audio_files(options.folder)[0]
        spent = timed(lambda: encode_file(path, codec), device="cpu")
        rows.append({"what": "encode", "times as fast as it sounds": probe(path).seconds / spent})
    return rows


def main() -> None:
    parser = bench.new_parser(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[24, 64])
    parser.add_argument("--codec", help="measure this codec as well")
    parser.add_argument("--folder", type=Path, help="recordings to encode")
    parser.add_argument("--latent-rate", type=float, default=10.77, help="that of the codec `own`")
    for name, default in {"latent-dim": 64, "batch-size": 16, "steps": 5, "window": 0, "threads": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bench.report([size(channels, options) for channels in options.sizes], options.json)
    if options.codec:
        bench.report(codec_rows(options), options.json, "codec")


if __name__ == "__main__":
    main()
