"""Train an adapter over ACE-Step: our own short flow-matching loop, over accelerate.

    train("tensors", "my-style", preset="balanced", report=print) -> Path

A step is a pure function of the seed and its number (batches.py), and so a run that is killed and goes on has the
losses of one that was not. Here is what goes on around the loop (loop.py): what is decided before the first step, what
happens when the loss is no longer finite or the disk is full, and how a run is closed.
"""

from __future__ import annotations

import gc
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ... import __version__
from ...config import updated
from ...errors import FileError, InputError, RunError
from ...files import holds, new_folder, quoted, seen_from, visible, write_file, write_object
from ...jobs import (
    claimed,
    enough_memory,
    finished,
    free_threads,
    quiet,
    refuse_occupied,
    resumable,
    stop_on_signals,
    threads,
)
from ...progress import Reporter, unheard
from .layouts import CONFIG, PEFT
from .pipeline import chosen_device, fingerprint, part_config
from .run import FACTS, Job, checkpoints, read_facts
from .settings import TrainSettings, as_facts, resolve, resumed
from .tensors import Tensors, opened_for

if TYPE_CHECKING:
    from .loop import Loop

MAX_ROLLBACKS = 3


def train(
    tensors: Tensors | str | Path,
    out: str | Path,
    settings: TrainSettings | None = None,
    *,
    base: str | Path | None = None,
    report: Reporter = unheard,
    **changes,
) -> Path:
    """Train an adapter on a folder of tensors into the folder `out`; answers it.

    `base`: the ACE-Step model; by default the one the tensors were made with, whose folder or id they name. `changes`
    are fields of TrainSettings. `report` is called with a Progress after every step. Ctrl-C and SIGTERM save a
    checkpoint and end the run early. Raises InputError for settings that cannot work, RunError for a run, base or
    tensors that do not fit, MissingExtra, and FileError where the run cannot be written (a full disk): what is there by
    then can be resumed.
    """
    settings, out = updated(TrainSettings, settings, changes), Path(out)
    with new_folder(out), claimed(out):
        job = _job(tensors, base, out, settings, report)
        # sums over other threads differ in their last bits: a run that goes on keeps its own
        job.facts["threads"] = job.settings.threads or job.facts.get("threads") or free_threads()
        with threads(job.facts["threads"]), quiet("diffusers", "transformers"):
            _attempts(job)
    return out


# --- before the first step -------------------------------------------------------------------------------------


def _job(tensors, base, out: Path, settings: TrainSettings, report) -> Job:
    from .batches import split

    resume = settings.resume
    saved = read_facts(out) if resume else {}
    tensors, base = opened_for(tensors, base)
    known = fingerprint(base)
    if resume:
        _refuse_others(out, saved, tensors, known)
        settings = replace(resumed(settings, saved["settings"], out), resume=True)
        if settings.learning_rate != saved["settings"]["learning_rate"]:
            saved["rollbacks"] = 0  # the new rate is meant as it is
    else:
        _forget_failed_start(out)
        refuse_occupied(out, FACTS)
        config = part_config(base, "transformer")
        turbo = config.get("is_turbo") or config.get("model_version") == "turbo"
        settings = resolve(settings, songs=len(tensors), turbo=bool(turbo))
    chosen_device(settings.device)
    job = Job(tensors, base, out, settings, report, *split(tensors, settings), saved=saved)
    job.facts = saved | _facts(job, known)
    if resume and saved["finished"] and saved["step"] >= job.steps:
        raise finished(out, saved["step"], "--epochs")
    return job


def _forget_failed_start(out: Path) -> None:
    """Remove a run.json of ours that lies alone in its folder: that run broke off before it had learned anything."""
    if [path.name for path in visible(out)] == [FACTS]:
        with suppress(RunError):
            read_facts(out)
            (out / FACTS).unlink()


def _refuse_others(out: Path, saved: dict, tensors: Tensors, known: str) -> None:
    if saved["base_fingerprint"] != known:
        raise RunError(out, f"it was trained over {saved['base']} ({saved['base_fingerprint']}), this base is {known}")
    if saved["songs"] != [sample.file for sample in tensors.samples]:
        raise RunError(out, "it learns from other tensors than these; give its own, or choose another --out")


def _facts(job: Job, known: str) -> dict:
    """What run.json says from the start on."""
    base, tensors, local = job.base, job.tensors, Path(job.base).is_dir()
    facts = {"woodshed": __version__, "kind": job.settings.kind, "style": tensors.facts["dataset"]}
    facts |= {"base": seen_from(job.out, base) if local else str(base), "base_fingerprint": known}
    facts |= {"tensors": seen_from(job.out, tensors.folder), "songs": [sample.file for sample in tensors.samples]}
    facts |= {"captions": sorted({sample.facts["caption"] for sample in tensors.samples})[:10]}
    return facts | {"settings": as_facts(job.settings), "finished": False}


# --- attempts: each from the newest checkpoint on, until one comes to the end ----------------------------------------


def _attempts(job: Job) -> None:
    from .loop import Diverged

    while True:
        try:
            return _attempt(job)
        except Diverged as trouble:
            _slower(job, trouble)
        except FileError as trouble:
            raise resumable(trouble, job.out / FACTS, checkpoints(job.out)) from None
        gc.collect()  # the model of the failed attempt


def _attempt(job: Job) -> None:
    from .loop import Loop

    write_object(job.out / FACTS, job.facts)
    remedy = "try another --out with --memory 8 or a smaller --crop-seconds"
    if not job.settings.gradient_checkpointing:
        remedy += ", or go on with --resume --gradient-checkpointing True"
    with enough_memory("with crops this long", remedy):
        loop = Loop(job)
        with stop_on_signals(job):
            loop.run()
    _finish(job, loop)


def _slower(job: Job, trouble) -> None:
    """Back to the last checkpoint, at half the rate; after three times of that, an error with advice."""
    rollbacks = job.facts.get("rollbacks", 0) + 1
    rate = job.settings.learning_rate * 0.5**rollbacks
    if rollbacks > MAX_ROLLBACKS:
        advice = f"try --learning-rate {rate / 2:.1g}, or look at the recordings with woodshed audio scan"
        raise InputError(f"training diverged {rollbacks} times: {trouble}; {advice}") from None
    step = max(checkpoints(job.out), default=0)
    job.facts["rollbacks"] = rollbacks
    job.say(f"{trouble}: back to step {step:,}, on at learning rate {rate:.3g}", step=trouble.step, event="rollback")


# --- the end -------------------------------------------------------------------------------------------------------


def _finish(job: Job, loop: Loop) -> None:
    """Publish the best checkpoint (without validation: the last). A model card that somebody edited stays as it is."""
    if not (found := checkpoints(job.out)):
        told = f"stopped by {job.stopped} before its first step, with nothing to lose"
        raise RunError(job.out, f"{told}; begin again with --resume")
    best = loop.state.best_step if loop.state.best_step in found else max(found)
    for name in (PEFT, CONFIG):
        write_file(job.out / name, (found[best] / name).read_bytes())
    facts = job.facts | {"step": loop.state.step, "best_step": best, "seconds": round(loop.state.seconds, 1)}
    facts |= {"validation": loop.state.validation.get(str(best), {}), "finished": not job.stopped}
    write_object(job.out / FACTS, facts)
    card = job.out / "README.md"
    if not card.exists() or _untouched(card, job):
        write_file(card, _card(facts, job))
    base_loss = loop.state.validation.get("0", {}).get("loss")
    if job.measured and base_loss <= facts["validation"]["loss"]:
        told = (
            "on recordings it has not learned, the adapter is no better than the base; try fewer epochs or a lower rate"
        )
        job.say(told, step=loop.state.step, event="no better")
    job.say_stopped(loop.state.step)


def _untouched(card: Path, job: Job) -> bool:
    """Whether a model card is still what an earlier call made of the run."""
    return "best_step" in job.saved and holds(card, _card(job.saved, job))  # else nothing was published yet


def _card(facts: dict, job: Job) -> str:
    settings, seconds = job.settings, sum(sample.seconds for sample in job.tensors.samples)
    base = Path(job.base).absolute().name if Path(job.base).is_dir() else facts["base"]
    front = "---\nlibrary_name: peft\ntags: [music, ace-step, " + settings.kind + "]\n---\n"
    scale = f"rank {settings.rank}, alpha {settings.alpha:g}, {settings.targets}"
    if settings.ranks:
        scale = f"ranks of {Path(settings.ranks).name}"
    told = facts["validation"]
    lines = [
        f"# {facts['style']}",
        f"A {settings.kind} adapter for ACE-Step 1.5 (`{base}`, transformer {facts['base_fingerprint']}): {scale}.",
        f"Learned from {len(job.learned)} recordings (all together {seconds / 60:.0f} minutes) up to step "
        f"{facts['best_step']:,} of {facts['step']:,}, by woodshed {facts['woodshed']}.",
    ]
    if told:
        lines.append(f"Loss on {len(job.measured)} recordings it has not learned: {told['loss']:.4f}.")
    lines.append("Prompts it knows:\n\n" + "\n".join(f"- {caption}" for caption in facts["captions"]))
    lines.append(f"    woodshed audio ace generate {quoted(base)} --adapter THIS_FOLDER --prompt ...")
    return front + "\n\n".join(lines) + "\n"
