"""Train a latent GAN on a folder of recordings; the result is a run.

    train("recordings", "my-sound", codec="my-codec", max_minutes=60, report=print) -> Run

The step is step.py, what is decided before the first one job.py; here is what goes on around steps: checkpoints and
samples on the way, and what happens when the model breaks.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from ... import log as logs
from ...config import updated
from ...errors import FileError, InputError
from ...files import found_from, make_folder, new_folder, write_file
from ...jobs import (
    claimed,
    free_threads,
    refuse_occupied,
    remove_broken,
    remove_checkpoints,
    resumable,
    stop_on_signals,
    threads,
)
from ...page import clock
from ...progress import Progress, Reporter, unheard
from ..codecs import Codec, open_codec
from ..spectrogram import spectrograms
from ..wave import write_audio
from . import health, profile, run
from .job import Job, plan
from .picture import draw_progress
from .run import Course, Run
from .settings import MOST_SAMPLES, GanSettings, check
from .step import Losses, Players, new_players, update, windows

LOG_EVERY = 20  # steps
SAVE_SECONDS, SOONEST_SAVE = 600.0, 20.0
DECAY = 0.2  # of a run, its last part, in which the rate falls to nothing
GRACE = 1000  # steps after which samples must be healthy, if they have not been before
MAX_ROLLBACKS = 4
SAMPLE_SEEDS = 1_000_000  # far from those of takes


class Sick(Exception):
    """The model has broken."""

    def __init__(self, step: int, reason: str):
        self.step, self.reason = step, reason
        super().__init__(f"at step {step:,} {reason}")


def train(
    folder: str | Path,
    out: str | Path,
    *,
    codec: Codec | str | Path | None = None,
    settings: GanSettings | None = None,
    report: Reporter = unheard,
    **changes,
) -> Run:
    """Learn from a folder of recordings into the folder `out`, and open the run.

    `codec` is a codec or its folder; a run that goes on has its own. `changes` are fields of GanSettings; `report` is
    called with a Progress after every step. Ctrl-C and SIGTERM save a checkpoint and end the run early.

    Raises InputError for settings that cannot work and for a model that breaks at every rate, RunError for a run, base
    or codec that does not fit, EmptyCorpus.
    """
    settings = updated(GanSettings, settings, changes)
    check(settings)
    out = Path(out)
    asked = codec is not None
    codec = codec if asked else _place_of_codec(out, settings)
    place = codec if isinstance(codec, str | Path) else ""
    codec = open_codec(codec, fetch=asked) if isinstance(codec, str | Path) else codec
    if not settings.resume:
        refuse_occupied(out, run.FACTS)
    with new_folder(out), claimed(out):
        free = free_threads()  # before encoding keeps them busy
        try:
            with threads(settings.threads or free):
                job = plan(Path(folder), out, codec, place, settings, report)
            with threads(job.settings.threads or free):
                return _trained(job)
        except FileError as trouble:
            raise resumable(trouble, out / run.FACTS, run.checkpoints(out)) from None


def _place_of_codec(out: Path, settings: GanSettings) -> str | Path:
    if not settings.resume:
        raise InputError("--codec: a new run needs one; make it with woodshed audio codec train")
    return run.place_of_codec(out, run.read_facts(out))


def _trained(job: Job) -> Run:
    how = {"seed": job.settings.seed, "importance": job.facts.get("importance"), "device": job.rows.device}
    players = new_players(job.shape, **how)
    course = _start(job, players)
    while True:
        try:
            with stop_on_signals(job):
                _learn(job, players, course)
            return _finish(job, players, course)
        except Sick as trouble:
            course = _rolled_back(job, players, course, trouble)


# --- before the first step ---------------------------------------------------------------------------------------


def _start(job: Job, players: Players) -> Course:
    """From the newest checkpoint; else from all that the base knows; else from fresh weights."""
    found = remove_broken(job.out, run.COURSE, job.say)
    if found:
        newest, asked = found[max(found)], job.settings.learning_rate
        course = run.load_checkpoint(newest, players)
        if job.rate_is_asked or course.asked not in (0.0, asked):  # else one that was halved stays so
            course.rate, course.asked, course.forgiven = asked, asked, course.rollbacks
            run.write_course(newest, course)
        course.asked = asked
        logs.rewind_log(job.out / logs.LOG, course.step)
        return course
    course = Course(job.settings.learning_rate, asked=job.settings.learning_rate)
    if job.facts["base"] is not None:
        known = run.checkpoints(found_from(job.out, job.facts["base"]))
        run.load_checkpoint(known[max(known)], players)
    run.save_checkpoint(job.out, players, course, keep=job.settings.keep_checkpoints, say=job.say)
    return course


# --- the loop ----------------------------------------------------------------------------------------------------


def _learn(job: Job, players: Players, course: Course) -> None:
    """Step by step to the end, or until a signal; raises Sick."""
    half = _half_precision(job)
    began, saved = time.monotonic() - course.seconds, time.monotonic()
    while job.done(course) < 1 and not job.stopped:
        real, seed = job.rows.draw(course.step, course.rollbacks)
        rate = course.rate * min(1.0, (1 - job.done(course)) / DECAY)
        told = update(players, real, rate=rate, seed=seed, half_precision=half)
        course.step += 1
        course.seconds = time.monotonic() - began
        if trouble := course.pulse.feel(told):
            raise Sick(course.step, trouble)
        _tell(job, players, course, told, rate)
        if _due(job, course, time.monotonic() - saved):
            _save(job, players, course)
            saved = time.monotonic()
    if course.step not in run.checkpoints(job.out):
        _save(job, players, course)


def _half_precision(job: Job) -> bool:
    asked = job.settings.precision
    return asked == "bfloat16" or (asked == "auto" and job.rows.device.type == "cuda")


def _due(job: Job, course: Course, since: float) -> bool:
    """Whether to save: every `save_steps`, or every tenth of the run, at least every SAVE_SECONDS."""
    if job.settings.save_steps:
        return course.step % job.settings.save_steps == 0
    tenth = course.seconds / max(job.done(course), 1e-9) / 10
    return since >= min(SAVE_SECONDS, max(SOONEST_SAVE, tenth))


def _tell(job: Job, players: Players, course: Course, told: Losses, rate: float) -> None:
    if course.step % LOG_EVERY == 0:
        line = {"step": course.step} | {name: round(value, 5) for name, value in told._asdict().items()}
        line |= {"switch": round(players.switch, 4), "rate": round(rate, 9), "seconds": round(course.seconds, 2)}
        logs.append_log(job.out / logs.LOG, line)
    done = job.done(course)
    left = course.seconds * (1 - done) / max(done, 1e-9)
    text = f"step {course.step}  critic {told.hinge:.3f}  {clock(left)} left"
    job.report(Progress(done, text, step=course.step, loss=told.hinge, seconds_left=left))


def _save(job: Job, players: Players, course: Course) -> None:
    """Listen to the model; a checkpoint where it is healthy, else Sick."""
    found, apart = _listen(job, players, course)
    trouble = health.sickness(found, job.least)
    if trouble and (course.sounded or course.step >= GRACE):
        raise Sick(course.step, trouble)
    course.sounded = course.sounded or not trouble
    course.retried = False
    run.save_checkpoint(job.out, players, course, keep=job.settings.keep_checkpoints, say=job.say)
    run.publish(job.out, players, job.facts | _counted(course))  # so that it plays, however it ends
    line = {"step": course.step, "distance": round(apart, 5)} | {k: round(v, 5) for k, v in vars(found).items()}
    logs.append_log(job.out / logs.LOG, line | {"seconds": round(course.seconds, 2)})
    draw_progress(job.out / logs.LOG, job.out / "progress.png", real=job.real)
    heard = f"{found.onset_rate:.1f} onsets a second (recordings {job.real.onset_rate:.1f}), {found.loudness:.0f} LUFS"
    job.say(f"step {course.step:,}: distance of its latents {apart:.3f}, {heard}")


@torch.no_grad()
def _listen(job: Job, players: Players, course: Course) -> tuple[health.Signs, float]:
    """Samples of the moving average, written and measured; and how far its latents are from the recordings'."""
    draws = torch.Generator(job.rows.device).manual_seed(SAMPLE_SEEDS)
    made = windows(players.average, MOST_SAMPLES, draws) / players.average.scale
    made = made.transpose(1, 2).cpu().numpy()
    if not np.isfinite(made).all():
        raise Sick(course.step, "its samples are no numbers")
    size = profile.stretch(job.codec.latent_rate, job.settings.window)
    apart = profile.distance(profile.profile(list(made), size), job.profile)
    samples = list(made[: job.settings.samples])
    sounds = [job.codec.decode(sample) for sample in samples]
    folder = job.out / "samples" / f"step-{course.step}"
    make_folder(folder)
    for number, audio in enumerate(sounds, 1):
        write_audio(folder / f"{number}.wav", audio)
    named = {f"step {course.step}, sample {number}": audio for number, audio in enumerate(sounds, 1)}
    write_file(folder / "spectrogram.png", spectrograms(named))
    return health.signs(samples, sounds), apart


# --- when something goes wrong, and the end ------------------------------------------------------------------------


def _rolled_back(job: Job, players: Players, course: Course, trouble: Sick) -> Course:
    """Back to the last healthy checkpoint, at half the rate and with R1 in full. One that has been gone back to before
    is left for an older one; after MAX_ROLLBACKS an error with advice.
    """
    rollbacks, rate, broken = course.rollbacks + 1, course.rate / 2, course
    if (times := rollbacks - course.forgiven) > MAX_ROLLBACKS:
        advice = f"try --learning-rate {rate / 2:.1g}, more recordings, or woodshed audio gan inspect"
        raise InputError(f"the model broke {times} times: {trouble}; {advice}") from None
    found = run.checkpoints(job.out)
    newest = found.pop(max(found))
    if found and run.read_course(newest).retried:
        remove_checkpoints([newest], run.COURSE, job.say)
        newest = found[max(found)]
    course = run.load_checkpoint(newest, players)
    course.rollbacks, course.rate, course.retried = rollbacks, rate, True
    course.seconds, course.asked, course.forgiven = broken.seconds, broken.asked, broken.forgiven
    course.switch = players.switch = -1.0
    run.write_course(newest, course)
    back = f"back to step {course.step:,}, on at a rate of {rate:.2g}"
    job.say(f"{trouble}; {back}", step=course.step, event="rollback", broke=trouble.step, rate=rate)
    logs.rewind_log(job.out / logs.LOG, course.step)
    return course


def _finish(job: Job, players: Players, course: Course) -> Run:
    counted = _counted(course) | {"finished": not job.stopped}
    run.publish(job.out, players, job.facts | counted)
    job.say_stopped(course.step)
    return Run(job.out, job.facts | counted, job.codec)


def _counted(course: Course) -> dict:
    """What run.json says of how far a run has come."""
    counted = {"step": course.step, "seconds": round(course.seconds, 1), "finished": False}
    return counted | {"rollbacks": course.rollbacks, "rate": course.rate}
