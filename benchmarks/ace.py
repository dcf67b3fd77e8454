"""ACE-Step adapters on a tiny pipeline with random weights, and steps of the real size.

python benchmarks/ace.py learning WORK      LoRA and LoKr on clips they learn and clips they do not
python benchmarks/ace.py speed WORK         steps a second and peak memory of `train` against a bare loop
python benchmarks/ace.py preparing WORK     seconds of audio a second
python benchmarks/ace.py full               the 1.6 B transformer with random weights; --layers 2 for a smaller one
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import sys
import time
from itertools import pairwise
from pathlib import Path

import bench
import torch

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from ace_toys import make_pipeline
from sounds import song

from woodshed.audio.ace.batches import Batch, Batches, evaluation, split
from woodshed.audio.ace.loop import velocity_errors
from woodshed.audio.ace.memory import memory
from woodshed.audio.ace.pipeline import open_pipeline
from woodshed.audio.ace.prepare import prepare
from woodshed.audio.ace.run import read_facts
from woodshed.audio.ace.settings import TrainSettings, resolve
from woodshed.audio.ace.tensors import Tensors, open_tensors
from woodshed.audio.ace.train import train
from woodshed.audio.ace.tuning import adapter_config, add_adapter, load_adapter, make_optimizer, trained
from woodshed.audio.labels.dataset import Dataset, Metadata, Sample
from woodshed.audio.wave import write_audio
from woodshed.files import built
from woodshed.jobs import GB, quiet

LAW = (-0.4, 1.0)
KEYS = ("C major", "G major", "A minor", "E minor")
STYLES = {"A": {"brightness": 0.2, "bpm": 90.0}, "B": {"brightness": 0.95, "bpm": 180.0}}
SONG_TOKENS, SONG_SECONDS, SONGS, EPOCHS = 400, 60, 13, 500


def recordings(folder: Path, style: str, count: int, seconds: float) -> Path:
    """The dataset file of made-up songs of one style."""
    samples = []
    for k in range(count):
        name = f"{style}{k}.wav"
        folder.mkdir(parents=True, exist_ok=True)
        write_audio(folder / name, song(100 + k, seconds=seconds, key=KEYS[k % len(KEYS)], **STYLES[style]))
        samples.append(Sample(audio_path=name, caption=f"plucked strings {style}", labeled=True))
    Dataset(folder, Metadata(f"style {style}"), samples).save(folder / "dataset.json")
    return folder / "dataset.json"


def random_base(work: Path) -> Path:
    """The folder of the tiny pipeline."""
    base = work / "base"
    return base if base.exists() else make_pipeline(base)


def tensors_of(work: Path, style: str) -> Tensors:
    """Those of eight songs of ten seconds."""
    folder = work / f"tensors {style}"
    if not (folder / "manifest.json").exists():
        prepare(recordings(work / f"songs {style}", style, 8, 10.0), random_base(work), folder)
    return open_tensors(folder)


# --- learning ----------------------------------------------------------------------------------------------------


def warm_base(work: Path, steps: int) -> Path:
    """The folder of a pipeline whose transformer has learned style A, so that there is a base to adapt."""
    base = work / f"base, {steps} steps"
    if not base.exists():
        with built(base) as folder:
            warm_up(make_pipeline(folder), tensors_of(work, "A"), steps)
    return base


def warm_up(base: Path, tensors: Tensors, steps: int) -> None:
    """Train all weights of the tiny transformer on some songs."""
    pipe = open_pipeline(base)
    optimizer = torch.optim.AdamW(pipe.transformer.parameters(), 2e-3)
    settings = resolve(TrainSettings(crop_seconds=5.0, batch_size=4), songs=len(tensors), turbo=True)
    batches = Batches(tensors, list(range(len(tensors))), settings, LAW)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * (1 - step / steps)
        velocity_errors(pipe.transformer, batches[step]).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    with quiet("diffusers", "transformers"):
        pipe.transformer.save_pretrained(base / "transformer")


def mean_error(transformer, tensors: Tensors, songs: list[int], settings: TrainSettings) -> float:
    with torch.no_grad():
        errors = [velocity_errors(transformer, b).item() for k in songs for b in evaluation(tensors, k, settings)]
    return sum(errors) / len(errors)


def learning(options: argparse.Namespace) -> list[dict]:
    """Losses at fixed noise: style A, which the base knows; songs of B that are learned; songs of B that are not."""
    work, rows = options.work, []
    base = warm_base(work, options.warm_up)
    known, music = (tensors_of(work, style) for style in "AB")
    methods = {"lora": {"rank": 8, "learning_rate": 5e-3}, "dora": {"rank": 8, "learning_rate": 5e-3}}
    methods["lokr"] = {"rank": 8, "learning_rate": 2e-2}
    asked = {"targets": "attention+mlp", "crop_seconds": 5.0, "takes": 0, "validation": 0.25, "threads": 1}
    for kind, more in {"base": {}, **methods}.items():
        transformer, facts, began = open_pipeline(base, parts=("transformer",)).transformer.eval(), {}, time.monotonic()
        settings = resolve(TrainSettings(**asked), songs=8, turbo=True)
        if more:
            out = work / f"run {kind}"
            shutil.rmtree(out, ignore_errors=True)
            steps = {"max_steps": options.steps, "gradient_checkpointing": False}
            train(music, out, base=base, kind=kind, **asked, **more, **steps)
            facts = read_facts(out)
            settings = resolve(TrainSettings(kind=kind, **asked, **more), songs=8, turbo=True)
            add_adapter(transformer, adapter_config(settings, ""), 0)
            load_adapter(transformer.eval(), out)
        learned, measured = split(music, settings)
        rows.append(
            {
                "adapter": kind,
                "weights": facts.get("trainable", 0),
                "step": facts.get("best_step", 0),
                "B learned": mean_error(transformer, music, learned, settings),
                "B not learned": mean_error(transformer, music, measured, settings),
                "A": mean_error(transformer, known, list(range(8)), settings),
                "seconds": time.monotonic() - began,
            }
        )
    return rows


# --- speed -------------------------------------------------------------------------------------------------------

SPEED = {"rank": 8, "takes": 0, "validation": 0.0, "threads": 1, "crop_seconds": 10.0, "gradient_checkpointing": False}


def bare(tensors: Tensors, base: Path, steps: int) -> list[float]:
    """The least that a training can do: everything in memory, no log, no checkpoint. Seconds of each step."""
    settings = resolve(TrainSettings(**SPEED), songs=len(tensors), turbo=True)
    transformer = open_pipeline(base, parts=("transformer",)).transformer
    add_adapter(transformer, adapter_config(settings, ""), 0)
    songs = [(tensors.latents(k), tensors.condition(k)) for k in range(len(tensors))]
    optimizer, seconds = make_optimizer(trained(transformer), settings), []
    for step in range(steps):
        began = time.monotonic()
        music, condition = songs[step % len(songs)]
        music = music[None, :250]
        t = torch.sigmoid(torch.randn(1) - 0.4)
        batch = Batch(music, torch.randn_like(music), t, condition[None], None, tensors.context(250)[None])
        velocity_errors(transformer, batch).mean().backward()
        torch.nn.utils.clip_grad_norm_(trained(transformer), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.monotonic() - began)
    return seconds


def ours(tensors: Tensors, base: Path, steps: int) -> list[float]:
    """The time from one step's report to the next."""
    told, out = [], tensors.folder.parent / "run speed"
    shutil.rmtree(out, ignore_errors=True)
    train(tensors, out, base=base, **SPEED, max_steps=steps, report=lambda now: told.append(time.monotonic()))
    return [after - before for before, after in pairwise(told)]


def timed(name: str, folder: Path, base: Path, steps: int, answers) -> None:
    torch.set_num_threads(1)
    seconds, peak = bench.peak({"bare": bare, "ours": ours}[name], open_tensors(folder), base, steps)
    answers.put((bench.median(seconds), peak))


def speed(options: argparse.Namespace) -> list[dict]:
    """Each in a process of its own, by turns, so that its peak memory is its own."""
    base, tensors, rows = random_base(options.work), tensors_of(options.work, "B"), []
    context = multiprocessing.get_context("spawn")
    for turn in range(options.turns):
        for name in ("bare", "ours"):
            answers = context.Queue()
            process = context.Process(target=timed, args=(name, tensors.folder, base, options.steps, answers))
            process.start()
            second, peak = answers.get()
            process.join()
            rows.append({"turn": turn, "loop": name, "steps/s": 1 / second, "peak MiB": peak})
    return rows


# --- preparing -----------------------------------------------------------------------------------------------------


def preparing(options: argparse.Namespace) -> list[dict]:
    """Eight songs of a minute: first, and again when all are there."""
    base = random_base(options.work)
    data = recordings(options.work / "songs long", "B", 8, 60.0)
    shutil.rmtree(options.work / "tensors long", ignore_errors=True)
    rows = []
    for what in ("all new", "all there"):
        began = time.monotonic()
        prepare(data, base, options.work / "tensors long")
        seconds = time.monotonic() - began
        rows.append({"what": what, "seconds": seconds, "audio s/s": 8 * 60 / seconds})
    return rows


# --- the real size -------------------------------------------------------------------------------------------------


def full(options: argparse.Namespace) -> list[dict]:
    """Steps with crops of 60 s, in bfloat16 on a GPU: how many a second, the peak, and what memory() says of it."""
    from diffusers import AceStepTransformer1DModel

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype, rows = torch.bfloat16 if device == "cuda" else torch.float32, []
    for kind, targets, checkpointing in (
        ("lora", "attention", True),
        ("lora", "attention", False),
        ("lora", "attention+mlp", False),
        ("lokr", "attention", False),
    ):
        asked = TrainSettings(kind=kind, targets=targets, gradient_checkpointing=checkpointing)
        settings = resolve(asked, songs=SONGS, turbo=True)
        before = bench.held(device)
        with torch.device(device):
            transformer = AceStepTransformer1DModel(num_hidden_layers=options.layers).to(dtype)
        add_adapter(transformer, adapter_config(settings, ""), 0)
        if checkpointing:
            transformer.enable_gradient_checkpointing()
        how = settings, device, dtype, options.steps
        second, peak = bench.peak(_steps, transformer.train(), *how, device=device)
        size = memory(transformer, settings, frames=25 * SONG_SECONDS, tokens=SONG_TOKENS, weight_bytes=dtype.itemsize)
        rows.append(
            {
                "kind": kind,
                "targets": targets,
                "checkpointing": checkpointing,
                "steps/s": 1 / second,
                "peak GB": (peak - before) / 1024,
                "memory() GB": size.total / GB,
                f"hours for {SONGS} x {EPOCHS}": second * SONGS * EPOCHS / 3600,
            }
        )
        del transformer
    return rows


def _steps(transformer, settings: TrainSettings, device: str, dtype: torch.dtype, steps: int) -> float:
    """The median of a step's seconds."""
    optimizer, frames, seconds = make_optimizer(trained(transformer), settings), 25 * SONG_SECONDS, []
    for _ in range(steps):
        began = time.monotonic()
        parts = [torch.randn(1, frames, 64), torch.randn(1, frames, 64), torch.rand(1)]
        parts += [torch.randn(1, SONG_TOKENS, 2048), None, torch.randn(1, frames, 128)]
        with torch.autocast(device, dtype, enabled=device == "cuda"):
            loss = velocity_errors(transformer, Batch(*parts).to(device), dtype).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
        seconds.append(time.monotonic() - began)
    return bench.median(seconds[len(seconds) // 5 :])


def main() -> None:
    parser = bench.new_parser(__doc__)
    parser.add_argument("what", choices=["learning", "speed", "preparing", "full"])
    parser.add_argument("work", type=Path, nargs="?", default=Path("ace-work"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--warm-up", type=int, default=1000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--layers", type=int, default=24)
    options = parser.parse_args()
    what = {"learning": learning, "speed": speed, "preparing": preparing, "full": full}[options.what]
    bench.report(what(options), options.json)


if __name__ == "__main__":
    main()
