"""What is decided before the first step of training: settings, latents, the base, what is healthy."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ... import __version__, jobs
from ...errors import RunError
from ...files import found_from, seen_from
from ...jobs import find_device
from ...progress import Progress, Reporter
from ..codecs import Codec
from ..tensor_files import write_tensors
from . import health, latents, profile, run
from .latents import Latents, Recording
from .run import Course, Run
from .settings import GanSettings, resolve, resumed, to_json
from .step import Shape

UNLIMITED = 2**31  # steps, where only the minutes are limited
REFERENCES = 8  # stretches of recordings that say what is healthy


@dataclass
class Job(jobs.Job):
    """One call of train(), with all that is decided before the first step."""

    out: Path
    codec: Codec
    settings: GanSettings
    report: Reporter
    facts: dict
    rows: Rows
    real: health.Signs  # of recordings,
    least: health.Limits  # and what samples must reach
    profile: np.ndarray
    steps: int
    rate_is_asked: bool  # now, of a run that goes on

    @property
    def shape(self) -> Shape:
        return Shape(self.codec.latent_dim, self.settings.base_channels, self.settings.window)

    def done(self, course: Course) -> float:
        """The part of the run that is over, of its steps or of its minutes, whichever is more."""
        limit = self.settings.max_minutes
        return min(1.0, max(course.step / self.steps, course.seconds / (60 * limit) if limit else 0.0))


class Rows:
    """Windows of latents to learn from, for every step its own: a function of seed, rollbacks and step alone."""

    def __init__(self, new: Latents, old: Latents | None, settings: GanSettings, device: torch.device):
        self.sources = [new] if old is None else [new, old]
        self.shares = [1.0] if old is None else [1 - settings.rehearse, settings.rehearse]
        self.settings, self.device = settings, device
        self.starts = [source.starts(settings.window) for source in self.sources]
        self.data = [[_tensor(one, device) for one in (source.data, source.mirrored)] for source in self.sources]

    def draw(self, step: int, rollbacks: int) -> tuple[Tensor, int]:
        """Latents (batch_size, latent_dim, window), and a seed for all else that the step draws."""
        rng = np.random.default_rng((self.settings.seed, rollbacks, step))
        counts = rng.multinomial(self.settings.batch_size, self.shares)
        rows = []
        for data, starts, count in zip(self.data, self.starts, counts, strict=True):
            chosen = torch.from_numpy(rng.choice(starts, count)).to(self.device)
            frames = chosen[:, None] + torch.arange(self.settings.window, device=self.device)
            mirrored = torch.from_numpy(rng.random(count) < 0.5).to(self.device)[:, None, None]
            plain, other = data
            rows.append(plain[frames] if other is None else torch.where(mirrored, other[frames], plain[frames]))
        return torch.cat(rows).transpose(1, 2).contiguous(), int(rng.integers(2**62))


def plan(folder: Path, out: Path, codec: Codec, place: str | Path, settings: GanSettings, report) -> Job:
    """All that a training needs before its first step; run.json, manifest and profile are written. `place` is where the
    codec was opened."""
    rate_is_asked = settings.resume and settings.learning_rate is not None
    facts, settings, base = (_again if settings.resume else _anew)(folder, out, codec, place, settings)
    device, finished = find_device(settings.device), facts.get("finished", False)
    codec.to(device)
    facts |= {"settings": to_json(settings), "finished": False}
    keep = settings.latents or out / "latents"
    learned = _recordings(folder, out, codec, keep, settings, report)
    if not (out / run.FACTS).exists():
        run.write_facts(out, facts)  # encoding may take hours: from here on --resume goes on
    run.keep_codec(codec, out)
    new, old = latents.encode(learned, folder, codec, keep=keep, report=report), None
    if settings.rehearse:
        old = latents.reopened(base.folder, latents.read_manifest(base.folder), "train", codec, report=report)
    rows = Rows(new, old, settings, torch.device(device))
    if base and "distance" not in facts:
        facts["distance"] = _distance(base, new, codec, settings, report)
    stretches, sounds = _references(new, codec, settings)
    real = health.signs(stretches, sounds)
    facts["real"] = vars(real)
    if facts["base"] is None and "importance" not in facts:
        report(Progress(message="listening to what each dimension of the latents does"))
        facts["importance"] = profile.importance(stretches, codec)
    known, least = _profile(new, codec, settings.window), health.limits(real, sounds)
    job = Job(out, codec, settings, report, facts, rows, real, least, known, _steps(settings, new), rate_is_asked)
    if finished:
        _refuse_finished(job)
    run.write_facts(out, facts)
    write_tensors(out / "profile.safetensors", {"stretches": torch.from_numpy(job.profile)})
    return job


def _anew(folder: Path, out: Path, codec: Codec, place: str | Path, settings: GanSettings):
    """Facts, settings and base of a new run."""
    base = _open_base(settings.base, codec, out) if settings.base is not None else None
    known = base and base.facts["shape"] | {"rate": base.facts.get("rate", base.facts["settings"]["learning_rate"])}
    settings = resolve(settings, latent_rate=codec.latent_rate, base=known)
    facts = {"woodshed": __version__, "style": folder.absolute().name, "codec": run.codec_facts(codec, place, out)}
    facts["shape"] = {"base_channels": settings.base_channels, "window": settings.window}
    facts["base"] = seen_from(out, base.folder) if base else None
    return facts, settings, base


def _again(folder: Path, out: Path, codec: Codec, place: str | Path, settings: GanSettings):
    """Facts, settings and base of a run that goes on."""
    facts = run.read_facts(out)
    run.refuse_other_codec(out, facts, codec)
    was = None if facts["base"] is None else found_from(out, facts["base"])
    if settings.base is not None and (was is None or not settings.base.exists() or not was.samefile(settings.base)):
        raise RunError(out, f"--base was {was}, now it is {settings.base}: that would be another run; leave it out")
    settings = resumed(replace(settings, base=was), facts["settings"] | {"base": was}, out)
    if settings.latents is None:
        settings = replace(settings, latents=latents.read_manifest(out)["latents"])
    needed = was and (settings.rehearse or "distance" not in facts or not run.checkpoints(out))
    return facts, settings, _open_base(was, codec, out) if needed else None


def _open_base(folder: Path, codec: Codec, out: Path) -> Run:
    """A base; a RunError where the run in `out` is to begin with all that it knows, and its checkpoints are gone."""
    base = run.open_run(folder, codec=codec)
    if not run.checkpoints(out) and not run.checkpoints(base.folder):
        reason = "it holds no checkpoint, and without its critic and optimizers it cannot go on learning"
        raise RunError(base.folder, f"{reason}; train it again, or choose another --base")
    return base


def _recordings(folder: Path, out: Path, codec: Codec, keep: Path, settings: GanSettings, report) -> list[Recording]:
    """The recordings of the folder that are learned from; the manifest is written, with `keep`, where latents are."""
    found = latents.survey(folder, codec, run=out, window=settings.window, hold_out=settings.hold_out)
    if (out / latents.MANIFEST).exists():
        found = _as_before(out, found)
    for remark in latents.remarks(found, window_seconds=settings.window / codec.latent_rate):
        report(Progress(message=remark))
    latents.write_manifest(out, folder, keep, found)
    return [one for one in found if one.split == "train"]


def _as_before(out: Path, found: list[Recording]) -> list[Recording]:
    """The recordings in the order they had, by whatever names: it is by their places that windows are drawn. A RunError
    where those to learn from are others."""
    learned = [one for one in latents.read_manifest(out)["recordings"] if one.split == "train"]
    was = {one.digest: place for place, one in enumerate(learned)}
    now = {one.digest for one in found if one.split == "train"}
    if was.keys() != now:
        reason = f"{len(was.keys() - now)} of its recordings are gone from the folder, {len(now - was.keys())} are new"
        raise RunError(out, f"{reason}; give the folder as it was, or train a new run with this one as --base")
    return sorted(found, key=lambda one: was.get(one.digest, len(found)))


def _refuse_finished(job: Job) -> None:
    facts = job.facts
    if job.done(Course(job.settings.learning_rate, step=facts["step"], seconds=facts["seconds"])) >= 1:
        raise jobs.finished(job.out, facts["step"], "--epochs, --max-steps or --max-minutes")


def _distance(base: Run, new: Latents, codec: Codec, settings: GanSettings, report) -> float:
    """How far the new recordings are from what the base knows: measured, and said."""
    old = run.read_tensors(base.folder / "profile.safetensors")["stretches"].numpy()
    found = profile.distance(_profile(new, codec, settings.window), old)
    hint = "; --rehearse 0.2 mixes the old ones in" if found > profile.RELATED and not settings.rehearse else ""
    report(Progress(message=profile.told(found) + hint))
    return round(found, 4)


def _profile(found: Latents, codec: Codec, window: int) -> np.ndarray:
    return profile.profile(found.pieces, profile.stretch(codec.latent_rate, window))


def _references(new: Latents, codec: Codec, settings: GanSettings) -> tuple[list, list]:
    """Stretches of the recordings, evenly chosen, as latents and decoded."""
    starts = new.starts(settings.window)
    chosen = starts[np.linspace(0, len(starts) - 1, REFERENCES).astype(int)]
    stretches = [new.data[start : start + settings.window] for start in chosen]
    return stretches, [codec.decode(stretch) for stretch in stretches]


def _steps(settings: GanSettings, new: Latents) -> int:
    """The limit that is nearer."""
    limits = [settings.max_steps] if settings.max_steps else []
    if settings.epochs:
        limits.append(math.ceil(settings.epochs * len(new.data) / (settings.window * settings.batch_size)))
    return min(limits, default=UNLIMITED)


def _tensor(array: np.ndarray | None, device: torch.device) -> Tensor | None:
    return None if array is None else torch.from_numpy(array).to(device)
