"""A dataset as tensors, once: recordings through the codec, prompts and lyrics through the text encoders.

    prepare("dataset.json", "ACE-Step/acestep-v15-xl-turbo-diffusers", "tensors") -> Tensors

Two passes, so that the codec and the text encoder are never in memory together with the condition encoder. What was
made once is kept: a sample is made anew only where its recording, its labels or the base changed. Prompts are written
by the pipeline's own encode_prompt, so that training and playing cannot differ.
"""

from __future__ import annotations

import gc
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from ... import __version__
from ...config import Allowed, Seed, check, updated
from ...errors import EmptyCorpus, FileError, InputError, RunError
from ...files import new_folder, seen_from, visible, write_object
from ...jobs import claimed, enough_memory
from ...progress import Progress, Reporter, unheard
from ..labels.dataset import INSTRUMENTAL, Dataset, Sample, is_sung, load_dataset, prompt
from ..tensor_files import write_tensors
from ..wave import DIGEST, digest_of, read_audio
from .pipeline import (
    ENCODERS,
    STATES,
    chosen_device,
    encode_audio,
    encode_condition,
    fingerprint,
    open_pipeline,
    part_config,
    too_long,
)
from .tensors import (
    ENCODERS_OF,
    MANIFEST,
    REMARK,
    SHARED,
    Prepared,
    Tensors,
    open_tensors,
    read_manifest,
    read_note,
    read_tensors,
    shapes,
)

if TYPE_CHECKING:
    import torch
    from diffusers import AceStepPipeline

SHORTEST = 1  # seconds
HALF = ".half.safetensors"  # a sample after the first pass
WORDLESS = "not instrumental, but without lyrics; write them into the dataset, or set is_instrumental there"


@dataclass(frozen=True)
class PrepareSettings:
    """How to make tensors of a dataset."""

    max_seconds: Annotated[float, Allowed(SHORTEST)] = 240.0
    """Recordings are cut to this length."""
    loudness: float | None = None
    """Make all recordings as loud as this first, in LUFS: -14 evens out songs of different age."""
    device: str = "auto"
    """Where to compute: cpu, cuda, or auto."""
    seed: Seed = 42
    """Decides which songs take their genre as prompt, where the dataset has a genre ratio."""


@dataclass(frozen=True)
class _Task:
    """A sample, what it is told to be, and the name that follows from all of it."""

    path: Path
    name: str
    facts: dict[str, Any]
    digest: str
    """Of the recording alone."""
    key: str


def prepare(
    dataset: Dataset | str | Path,
    base: str | Path,
    out: str | Path,
    settings: PrepareSettings | None = None,
    *,
    report: Reporter = unheard,
    **changes,
) -> Tensors:
    """Make a folder of tensors of a dataset's labelled samples, for the base they will be trained on.

    `changes` are fields of PrepareSettings; `report` hears the Progress. Called again it goes on where it
    was interrupted, and makes only what changed. Recordings that cannot be read are left out, with the reason; where a
    caption or lyrics are longer than the base can read, or lyrics are missing, the sample has a remark.
    Raises EmptyCorpus where nothing is left, InputError for a base or settings that cannot work, and FileError.
    """
    settings = updated(PrepareSettings, settings, changes)
    check(settings)
    dataset = dataset if isinstance(dataset, Dataset) else load_dataset(dataset)
    encoders, out = fingerprint(base, ENCODERS), Path(out)
    with new_folder(out), claimed(out):
        _refuse_other(out, encoders)
        tasks, skipped = _tasks(dataset, encoders, settings)
        _refuse_none(tasks, dataset, skipped)
        samples = _made(tasks, base, encoders, out, settings, skipped, report)
        _refuse_none(samples, dataset, skipped)
        facts = {"woodshed": __version__, "dataset": dataset.metadata.name, "encoders": encoders}
        facts |= {"base": seen_from(out, base) if Path(base).is_dir() else str(base), "settings": asdict(settings)}
        facts |= {"frames_per_second": _frames_per_second(base), "skipped": skipped}
        facts |= {"samples": [asdict(sample) for sample in samples]}
        write_object(out / MANIFEST, facts)
    return open_tensors(out)


# --- what there is to do ---------------------------------------------------------------------------------------


def _refuse_other(out: Path, encoders: str) -> None:
    """An InputError where a folder holds something else, a RunError where it holds tensors of another base."""
    if (out / MANIFEST).exists():
        if read_manifest(out)["encoders"] != encoders:
            raise RunError(out, "it holds tensors made with another base; choose another --out")
    elif not all(map(_is_ours, visible(out))):
        raise InputError(f"--out {out} is not empty; choose another folder")


def _is_ours(path: Path) -> bool:
    """Whether a file without a manifest is what an interrupted call has left."""
    if path.name == SHARED:
        return _whole(path) and bool(read_note(path, ENCODERS_OF))
    return bool(re.fullmatch(rf"[0-9a-f]{{{DIGEST}}}({re.escape(HALF)}|\.safetensors)", path.name))


def _tasks(dataset: Dataset, encoders: str, settings: PrepareSettings) -> tuple[list[_Task], list[dict]]:
    """The labelled samples that can be read, each once; and those left out, with their reasons."""
    tasks: dict[str, _Task] = {}
    skipped = []
    for sample in dataset.samples:
        path = dataset.path_of(sample)
        try:
            if not (sample.labeled or sample.caption.strip()):
                raise FileError(path, "not labelled; give it a caption, or run woodshed audio annotate")
            facts = _facts(sample, dataset, settings.seed)
            key = _key(path, facts, encoders, settings)
            if key in tasks:
                raise FileError(path, f"the same recording and labels as {tasks[key].name}")
            tasks[key] = _Task(path, sample.filename, facts, digest_of(path), key)
        except FileError as trouble:
            skipped.append({"name": sample.filename, "reason": trouble.reason})
    return list(tasks.values()), skipped


def _facts(sample: Sample, dataset: Dataset, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng([seed, int.from_bytes(sample.id.encode()[:8], "little")])
    return {
        "caption": prompt(sample, dataset.metadata, rng),
        "lyrics": _lyrics(sample),
        "language": sample.language or "unknown",
        "bpm": sample.bpm,
        "keyscale": sample.keyscale,
        "timesignature": sample.timesignature,
    }


def _lyrics(sample: Sample) -> str:
    """What is sung; nothing where somebody may sing and nobody has said what."""
    written = sample.lyrics if sample.lyrics.strip() else sample.formatted_lyrics
    if is_sung(written):
        return written
    by_its_file = sample.raw_lyrics.strip().casefold() == INSTRUMENTAL.casefold()
    return INSTRUMENTAL if sample.is_instrumental or by_its_file or sample.is_noted("lyrics") else ""


def _key(path: Path, facts: dict, encoders: str, settings: PrepareSettings) -> str:
    """Sixteen hex digits over all that a sample's tensors depend on."""
    return digest_of(path, json.dumps([facts, encoders, settings.max_seconds, settings.loudness]).encode())


def _refuse_none(left: list, dataset: Dataset, skipped: list[dict]) -> None:
    """An EmptyCorpus where nothing is left, with the reasons."""
    counts = Counter(entry["reason"] for entry in skipped)
    told = "; ".join(f"{count} x {reason}" for reason, count in counts.most_common()) or "it has no samples"
    if not left:
        raise EmptyCorpus(f"{dataset.folder}: nothing to learn from: {told}")


# --- the two passes --------------------------------------------------------------------------------------------


def _made(
    tasks: list[_Task], base, encoders: str, out: Path, settings: PrepareSettings, skipped: list[dict], report: Reporter
) -> list[Prepared]:
    """The samples of all tasks: made, or found. Those that cannot be made are added to `skipped`."""
    missing = [task for task in tasks if not _whole(_file(out, task))]
    half = [task for task in missing if not _whole(_file(out, task, HALF))]
    with _parts(base, settings, ("vae", "text_encoder", "tokenizer"), wanted=bool(half)) as pipe:
        for number, task in enumerate(half):
            report(Progress(0.8 * number / len(half), task.name))
            try:
                _first_pass(pipe, task, out, settings)
            except FileError as trouble:
                if trouble.path != task.path:
                    raise
                skipped.append({"name": task.name, "reason": trouble.reason})
    second = [task for task in missing if _file(out, task, HALF).exists()]
    shared = _whole(out / SHARED) and read_note(out / SHARED, ENCODERS_OF) == encoders
    with _parts(base, settings, ("condition_encoder",), wanted=bool(second) or not shared) as pipe:
        if not shared:
            write_tensors(out / SHARED, _base_tensors(pipe), {ENCODERS_OF: encoders})
        for number, task in enumerate(second):
            report(Progress(0.8 + 0.2 * number / len(second), task.name))
            _second_pass(pipe, task, out)
    rate = _frames_per_second(base)
    return [_prepared(task, out, rate) for task in tasks if _file(out, task).exists()]


def _file(out: Path, task: _Task, suffix: str = ".safetensors") -> Path:
    return out / (task.key + suffix)


@contextmanager
def _parts(
    base, settings: PrepareSettings, parts: tuple[str, ...], *, wanted: bool
) -> Iterator[AceStepPipeline | None]:
    """Some parts of a base in memory, for as long as the block lasts; nothing where nothing is wanted."""
    import torch

    device, dtype = chosen_device(settings.device)
    if not wanted:
        yield None
        return
    pipe = open_pipeline(base, device=device, dtype=dtype, parts=parts)
    try:
        with enough_memory("with recordings this long", "give fewer --max-seconds, or --device cpu"):
            yield pipe
    finally:
        for name in parts:
            setattr(pipe, name, None)  # whoever holds the pipeline still, holds nothing of it
        gc.collect()
        if device != "cpu":
            torch.cuda.empty_cache()


def _first_pass(pipe: AceStepPipeline, task: _Task, out: Path, settings: PrepareSettings) -> None:
    """Latents, and prompt and lyrics as the text encoder reads them; and what of those it cannot take."""
    import torch

    rate, channels = pipe.sample_rate, pipe.vae.config.audio_channels
    audio = read_audio(task.path, sample_rate=rate, channels=channels, seconds=settings.max_seconds)
    if audio.seconds < SHORTEST:
        raise FileError(task.path, f"it is shorter than {SHORTEST:g} second")
    if settings.loudness is not None:
        audio = audio.levelled(settings.loudness)
    latents = encode_audio(pipe, torch.from_numpy(audio.samples.T.copy()), seed=int(task.key[:8], 16))
    told = {name: task.facts[name] for name in ("lyrics", "bpm", "keyscale", "timesignature")}
    told |= {"prompt": task.facts["caption"], "vocal_language": task.facts["language"], "audio_duration": audio.seconds}
    with torch.no_grad():
        states = pipe.encode_prompt(**told, device=pipe.device)
    tensors = {"latents": latents} | dict(zip(STATES, states, strict=True))
    remarks = too_long(pipe, told) + [WORDLESS] * (not told["lyrics"])
    write_tensors(_file(out, task, HALF), tensors, {REMARK: "; ".join(remarks)})


def _second_pass(pipe: AceStepPipeline, task: _Task, out: Path) -> None:
    half = _file(out, task, HALF)
    states = read_tensors(half)
    tensors = {"latents": states.pop("latents"), "condition": encode_condition(pipe, states)}
    write_tensors(_file(out, task), tensors, {REMARK: read_note(half, REMARK)})
    half.unlink()


def _base_tensors(pipe: AceStepPipeline) -> dict[str, torch.Tensor]:
    encoder = pipe.condition_encoder
    return {
        "silence_latent": encoder.silence_latent[0].float(),
        "null_condition": encoder.null_condition_emb[0].float(),
    }


def _prepared(task: _Task, out: Path, rate: float) -> Prepared:
    path = _file(out, task)
    lengths = {name: shape[0] for name, shape in shapes(path).items()}
    seconds = round(lengths["latents"] / rate, 2)
    about = (lengths["latents"], lengths["condition"], task.facts, read_note(path, REMARK), task.digest)
    return Prepared(path.name, task.name, seconds, *about)


def _whole(path: Path) -> bool:
    """Whether a file of tensors is there, and all of it."""
    try:
        return bool(shapes(path))
    except FileError:
        return False


def _frames_per_second(base) -> float:
    config = part_config(base, "vae")
    return config["sampling_rate"] / math.prod(config["downsampling_ratios"])
