"""Make a codec of a folder of recordings.

    train_codec("recordings", "my-codec", max_minutes=20) -> Codec

OUT/codec.json and model.safetensors are the codec, from the first save on; log.jsonl and loss.png its progress;
checkpoint-STEP/ (two of them) what a training needs to go on exactly where it stopped, and heard.json how loud and long
the recordings are; both private to this machine.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from .. import menu
from ..config import continued, given, restored, updated
from ..errors import FileError, RunError
from ..files import new_folder, read_object, write_object
from ..jobs import (
    Job,
    checkpoints_with,
    claimed,
    find_device,
    finished,
    free_threads,
    going_on_from,
    refuse_occupied,
    remove_broken,
    remove_checkpoints,
    resumable,
    stop_on_signals,
    threads,
)
from ..log import LOG, append_log, draw_loss, rewind_log
from ..page import clock
from ..progress import Progress, Reporter, unheard
from . import codecs
from .codecs import Codec
from .codecs._settings import DEFAULTS, FREE, LIMITS, MINUTES, CodecSettings, check
from .crops import ENOUGH, Crops, find, split
from .listener import Listener
from .tensor_files import optimizer_tensors, restore_optimizer, write_tensors

SETTINGS, HEARD, STATE = "settings.json", "heard.json", "state.json"
WARM_UP, FALLING = 30, 0.4  # steps; part of the run in which the rate falls to 0
CLIP = 0.5  # norm of the gradient
FIRST, LONG = 48, 6.0  # crops that the linear part and the spread of the latents come from, and their seconds
VALIDATION = 16  # crops
KEPT = 2  # checkpoints
LOUDER = 0.15  # spread of the logarithm of a random gain


@dataclass
class _Job(Job):
    """One call of train_codec()."""

    out: Path
    settings: CodecSettings
    codec: Codec
    crops: Crops
    held: Crops
    report: Reporter
    step: int = 0
    seconds: float = 0.0  # of training so far, over all restarts

    @property
    def share(self) -> float:
        """How much of the run is done, by the limit that is nearer."""
        done = [self.seconds / 60 / self.settings.max_minutes] if self.settings.max_minutes else []
        done += [self.step / self.settings.max_steps] if self.settings.max_steps else []
        return min(max(done), 1.0)

    @cached_property
    def first(self) -> Tensor:
        """Longer crops from many places, (count, channels, samples)."""
        hop = self.codec.hop_length
        length = max(1, round(LONG * self.codec.sample_rate / hop)) * hop
        how = {"sample_rate": self.codec.sample_rate, "channels": self.codec.channels, "seed": self.settings.seed}
        crops = Crops(self.crops.stretches, samples=length, **how)
        return torch.from_numpy(crops.first(FIRST)).to(self.codec.device)


def train_codec(
    folder: str | Path,
    out: str | Path,
    settings: CodecSettings | None = None,
    *,
    report: Reporter = unheard,
    **changes,
) -> Codec:
    """Learn a codec from a folder of recordings into the folder `out`, and open it.

    `changes` are fields of CodecSettings; `report` is called with a Progress after every step. Ctrl-C and SIGTERM save
    and end the training early; `resume` goes on. Every recording is brought to one loudness first.

    Raises InputError for settings that cannot work, EmptyCorpus for a folder without usable sound, RunError for an
    `out` that holds something else.
    """
    out, settings = Path(out), updated(CodecSettings, settings, changes)
    settings = _settled(settings, out)
    with new_folder(out), claimed(out), threads(settings.threads or free_threads()):
        try:
            job = _job(Path(folder), out, settings, report)
            with stop_on_signals(job):
                if job.codec.network is not None:
                    _learn(job)
            return _finish(job)
        except FileError as trouble:
            raise resumable(trouble, out / SETTINGS, _checkpoints(out)) from None


def _settled(settings: CodecSettings, out: Path) -> CodecSettings:
    """The settings checked; where a training goes on, those it began with, with other limits if some are given."""
    if settings.base and Path(settings.base).exists():
        settings = replace(settings, base=str(Path(settings.base).resolve()))
    if settings.resume:
        settings = _resumed(settings, out)
    else:
        refuse_occupied(out, SETTINGS)
    if all(getattr(settings, name) is None for name in LIMITS):
        settings = replace(settings, max_minutes=MINUTES)
    unset = {name: value for name, value in DEFAULTS.items() if getattr(settings, name) is None}
    settings = replace(settings, **unset)
    check(settings)
    return settings


def _resumed(asked: CodecSettings, out: Path) -> CodecSettings:
    try:
        saved = read_object(out / SETTINGS)["settings"]
    except (OSError, ValueError, KeyError):
        raise RunError(out, f"it holds no codec in training ({SETTINGS}); train it anew without --resume") from None
    was = restored(CodecSettings, saved, out)
    return replace(continued(was, given(asked), out, free=FREE, limits=LIMITS, thing="codec"), resume=True)


def _job(folder: Path, out: Path, settings: CodecSettings, report) -> _Job:
    """Everything that is needed before the first step."""
    codec = _begun(settings, out)
    codec.to(find_device(settings.device))
    listener = Listener(folder, out / HEARD, channels=codec.channels)
    found = find(folder, shortest=settings.seconds, hear=listener.listen, report=report)
    if (seconds := sum(one.seconds for one in found)) < ENOUGH:
        little = f"{seconds / 60:.1f} minutes of audio are little"
        message = f"{little}: give more than {ENOUGH / 60:.0f}, so that the codec knows many sounds"
        report(Progress(message=message))
    train, held = split(found, shortest=settings.seconds, seed=settings.seed)
    codec.about = {"folder": folder.absolute().name, "recordings": len(train)}
    samples = max(1, round(settings.seconds * codec.sample_rate / codec.hop_length)) * codec.hop_length
    how = {"samples": samples, "sample_rate": codec.sample_rate, "channels": codec.channels, "seed": settings.seed}
    job = _Job(out, settings, codec, Crops(train, **how), Crops(held, **how), report)
    known = codecs.fingerprint(*(f"{one.path.name} {one.seconds:.2f}\n" for one in found))
    if settings.resume:
        _refuse_other_recordings(out, known)
    write_object(out / SETTINGS, {"settings": asdict(settings) | {"resume": False}, "recordings": known})
    listener.save()  # after the settings, without which --resume knows no codec here
    if not settings.resume and (settings.base is None or codec.network is None):
        job.say("finding the components that the recordings are made of")
        codec.start_from(job.first)
        codec.standardise(job.first)
        codec.save(out)
    return job


def _begun(settings: CodecSettings, out: Path) -> Codec:
    """The codec before its first step. Of one that goes on from a checkpoint sizes will do: its base may be gone."""
    kind = menu.load(codecs.__name__, settings.kind, "codec")
    if settings.resume and settings.base and _checkpoints(out):
        with suppress(FileError, RunError):  # a kill came before it was written whole
            return kind.load(str(out))
    return kind.begin(settings)


def _refuse_other_recordings(out: Path, known: str) -> None:
    if read_object(out / SETTINGS).get("recordings") != known:
        reason = "the recordings in the folder are not those it has learned from"
        raise RunError(out, f"{reason}; give the folder as it was, or train another codec with this one as --base")


# --- the loop --------------------------------------------------------------------------------------------------


def _learn(job: _Job) -> None:
    """Steps until a limit or a signal; validates and saves on the way."""
    network = job.codec.network
    optimizer = torch.optim.AdamW(network.parameters(), job.settings.learning_rate, betas=(0.9, 0.95))
    if job.settings.resume:
        _restore(job, optimizer)
        if job.share >= 1:
            return _publish_late(job)
    saved = job.seconds
    while job.share < 1 and not job.stopped:
        began = time.monotonic()
        losses = _step(job, optimizer)
        job.seconds += time.monotonic() - began
        left = job.seconds * (1 / job.share - 1) if job.share else math.nan
        append_log(job.out / LOG, {"step": job.step, "loss": losses["spectrum"], **losses})
        error = losses["spectrum"]  # 0 is perfect, 1 silence
        text = f"step {job.step}  error {error:.4f}  {clock(left)} left"
        job.report(Progress(job.share, text, step=job.step, loss=error, seconds_left=left))
        due = job.seconds - saved >= 60 * job.settings.eval_minutes
        if (job.step % job.settings.eval_steps == 0) if job.settings.eval_steps else due:
            _save(job, optimizer)
            saved = job.seconds
    if job.step not in _checkpoints(job.out):
        _save(job, optimizer)


def _publish_late(job: _Job) -> None:
    """The codec of the last checkpoint, where a kill came before it was written; else a RunError: all is done."""
    try:
        published = codecs.open_codec(job.out).about.get("step")
    except (FileError, RunError):
        published = None
    if published == job.step:
        raise finished(job.out, job.step, "--max-minutes or --max-steps")
    _publish(job)


def _step(job: _Job, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """One batch: a function of the seed and the number of the step."""
    network, settings = job.codec.network, job.settings
    generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + job.step)
    samples = torch.from_numpy(job.crops.batch(job.step, settings.batch_size))
    louder = torch.exp(LOUDER * torch.randn(len(samples), 1, 1, generator=generator))
    for group in optimizer.param_groups:
        rise, fall = (job.step + 1) / WARM_UP, (1 - job.share) / FALLING
        group["lr"] = settings.learning_rate * min(1.0, rise, fall)
    losses = job.codec.loss((samples * louder).to(job.codec.device), settings.latent_noise, generator)
    optimizer.zero_grad()
    losses["total"].backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
    optimizer.step()
    job.step += 1
    found = {name: float(value.detach()) for name, value in losses.items() if name != "total"}
    if not all(map(math.isfinite, found.values())):
        told = f"the loss is no number any more at step {job.step}"
        raise RunError(job.out, f"{told}; go on from its last checkpoint: --resume with half the --learning-rate")
    return found


@torch.no_grad()
def _validation(job: _Job) -> dict[str, float]:
    """The errors on held-out crops, without noise on the latents and with it."""
    samples = torch.from_numpy(job.held.first(VALIDATION)).to(job.codec.device)
    plain = job.codec.loss(samples, 0.0, torch.Generator().manual_seed(0))
    noisy = job.codec.loss(samples, 0.3, torch.Generator().manual_seed(0))
    return {
        "spectrum": float(plain["spectrum"]),
        "phase": float(plain["phase"]),
        "spectrum_with_noise": float(noisy["spectrum"]),
    }


# --- saving and going on ---------------------------------------------------------------------------------------


def _save(job: _Job, optimizer: torch.optim.Optimizer) -> None:
    """A checkpoint, the codec as it is now, the log's line and its picture."""
    found = _validation(job)
    append_log(job.out / LOG, {"step": job.step, "seconds": job.seconds, "validation": found})
    told = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in found.items())
    job.report(Progress(message=f"step {job.step}: held-out error: {told}", step=job.step, validation=found))
    folder = job.out / f"checkpoint-{job.step}"
    with new_folder(folder):
        write_tensors(folder / "optimizer.safetensors", optimizer_tensors(optimizer))
        write_tensors(folder / "network.safetensors", job.codec.network.state_dict())
        write_object(folder / STATE, {"step": job.step, "seconds": job.seconds})
    remove_checkpoints([*_checkpoints(job.out).values()][:-KEPT], STATE, job.say)
    _publish(job)
    draw_loss(job.out / LOG, job.out / "loss.png", measure="spectrum")


def _publish(job: _Job) -> None:
    job.codec.standardise(job.first)
    job.codec.about |= {"step": job.step, "minutes": round(job.seconds / 60, 2)}
    job.codec.save(job.out)


def _finish(job: _Job) -> Codec:
    if job.codec.network is None:
        _publish(job)
    else:
        job.say_stopped(job.step)
    return codecs.open_codec(job.out)


def _restore(job: _Job, optimizer: torch.optim.Optimizer) -> None:
    """Network, optimizer, step and seconds of the newest checkpoint; the log loses what came after it."""
    found = remove_broken(job.out, STATE, job.say)
    if not found:
        rewind_log(job.out / LOG, 0)
        if job.settings.base is None:
            job.codec.start_from(job.first)
        return
    folder = found[max(found)]
    with going_on_from(folder):
        state = read_object(folder / STATE)
        job.codec.network.load_state_dict(load_file(folder / "network.safetensors"))
        restore_optimizer(optimizer, load_file(folder / "optimizer.safetensors"))
        job.step, job.seconds = state["step"], state["seconds"]
    rewind_log(job.out / LOG, job.step)


def _checkpoints(out: Path) -> dict[int, Path]:
    """Whole checkpoints by step, the oldest first."""
    return checkpoints_with(out, STATE)
