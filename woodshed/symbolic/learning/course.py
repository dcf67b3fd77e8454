"""What one call of train() knows, where it stands in its course, and how that goes on when something breaks or nothing
better comes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ... import jobs
from ...errors import InputError
from ...files import read_object, write_file
from ...jobs import checkpoint_folders, free_threads, remove_checkpoints
from ...progress import Reporter
from ..run import STATE, checkpoints, saved_step
from .settings import TrainSettings, lighter

UNLIMITED = 2**31  # steps, where only the minutes are limited
DECAY = 0.2  # the last part of a run, in which the rate falls linearly to 0
MAX_ROLLBACKS = 3
LOWER, LOWEST = 1 / 4, 1 / 16  # of the learning rate: what is left where nothing better comes, and when that is the end


@dataclass(frozen=True)
class Course:
    """What a run has come to on its way; every checkpoint keeps it."""

    batch_size: int
    accumulation: int
    threads: int
    rollbacks: int = 0
    seconds: float = 0.0
    best: int = 0  # the step gone back to when nothing better came for long (0: none)
    height: float = 1.0  # the share of the learning rate that is left since then
    last: int = 0  # the step at which it will have fallen to nothing (0: at the planned end)


@dataclass
class Job(jobs.Job):
    """One call of train(), with all that is decided before the first step."""

    corpus: Any
    out: Path
    settings: TrainSettings
    report: Reporter
    facts: dict
    rows: Any
    steps: int
    validation: Any  # rows, or None
    per: dict[str, float]  # tokens to a token, a note, a second
    new_rate: bool = False  # whether it goes on with another rate than it had
    ended: bool = False  # whether it goes on after it had finished

    def steps_of(self, course: Course) -> int:
        """The steps of the run as it has turned out."""
        return min(course.last or self.steps, self.steps)


class Diverged(Exception):
    """The loss is no longer finite, or jumped far above what it was."""

    def __init__(self, step: int, loss: float, usual: float, seconds: float):
        self.step, self.seconds = step, seconds
        super().__init__(f"at step {step} the loss was {loss:.3g}, after a median of {usual:.3g}")


class Plateau(Exception):
    """No evaluation has been better than that at step `best` (0: the base's) for as long as the run has patience."""

    def __init__(self, best: int, step: int, seconds: float, told: str):
        self.best, self.step, self.seconds = best, step, seconds
        super().__init__(told)


def find_course(job: Job) -> Course:
    """Where the run stands: at its newest checkpoint, or at the start. Checkpoints that a kill broke are removed."""
    found = whole_checkpoints(job)
    settings, threads = job.settings, job.settings.threads
    if not found:
        return Course(settings.batch_size, settings.gradient_accumulation, threads or free_threads())
    state = read_object(found[max(found)] / STATE)
    course = kept = Course(**state["stateful_callbacks"]["Pace"]["attributes"])
    ended = job.ended and 0 < course.last <= max(found)
    if ended or not settings.patience:  # it has come to its end, and is to go on
        course = replace(course, best=0, height=1.0, last=0)
    if job.new_rate:  # which is meant as it is
        course = replace(course, rollbacks=0, height=1.0)
    if course != kept:
        _write_course(found[max(found)], course)
    return replace(course, threads=threads or course.threads)


def _write_course(checkpoint: Path, course: Course) -> None:
    """Let a checkpoint go on with another course: a kill from here on changes nothing."""
    state = read_object(path := checkpoint / STATE)
    state["stateful_callbacks"]["Pace"]["attributes"] |= asdict(course)
    write_file(path, json.dumps(state, indent=2))


def whole_checkpoints(job: Job) -> dict[int, Path]:
    """The checkpoints of a run; what there is of others is removed."""
    broken = [path for path in checkpoint_folders(job.out).values() if saved_step(path) is None]
    remove_checkpoints(broken, STATE, job.say)
    return checkpoints(job.out)


def rotate(out: Path, keep: int, best: int | None, say: Callable[[str], None]) -> None:
    """Remove the oldest checkpoints beyond so many, but not the newest nor the best. The Trainer itself would remove
    whatever is called checkpoint-something."""
    found = checkpoints(out)
    stay = {best, max(found, default=0)} & found.keys()
    old = [step for step in found if step not in stay]
    oldest = old[: max(0, len(found) - max(keep, len(stay)))]
    remove_checkpoints([found[step] for step in oldest], STATE, say)


def lower(job: Job, course: Course, found: Plateau) -> Course:
    """Back to the best checkpoint, or to the base, and on at a quarter of the rate; where nothing better came of that
    before, or the rate is low already, to an end as if planned so: the rate falls in a last fifth."""
    if (found.best > course.best or not found.best) and course.height > LOWEST:
        course = replace(course, best=found.best, height=LOWER * course.height)
        way = f"on at learning rate {peak(job, course):.2g}"
    else:
        last = found.best + max(1, round(found.best * DECAY / (1 - DECAY)))
        course = replace(course, best=found.best, last=last)
        way = f"the rate falls until step {last:,}"
    job.say(f"{found}: back to step {found.best:,}, {way}", step=found.step, event="plateau")
    saved = checkpoints(job.out)
    if found.best:
        _write_course(saved[found.best], replace(course, seconds=found.seconds))
    remove_checkpoints([path for step, path in saved.items() if step > found.best], STATE, job.say)
    return course


def slower(job: Job, course: Course, trouble: Diverged) -> Course:
    """Back to the last checkpoint, at half the rate; after three times of that, an error with advice."""
    rate = peak(job, course) / 2
    if course.rollbacks == MAX_ROLLBACKS:
        advice = f"try --learning-rate {rate / 2:.1g}, --warmup 0.1, or look at the corpus with woodshed inspect"
        raise InputError(f"training diverged {MAX_ROLLBACKS + 1} times: {trouble}; {advice}") from None
    step = max(checkpoints(job.out), default=0)
    message = f"{trouble}: back to step {step:,}, on at learning rate {rate:.3g}"
    job.say(message, step=trouble.step, event="rollback", rate=rate)
    course = replace(course, rollbacks=course.rollbacks + 1)
    if step:
        _write_course(checkpoints(job.out)[step], replace(course, seconds=trouble.seconds))
    return course


def peak(job: Job, course: Course) -> float:
    """The learning rate between rise and fall."""
    return job.settings.learning_rate * 0.5**course.rollbacks * course.height


def out_of_memory(trouble: RuntimeError) -> bool:
    """By its words: torch has a class of its own for CUDA alone."""
    return any(words in str(trouble) for words in ("out of memory", "can't allocate memory"))


def smaller(job: Job, course: Course) -> Course:
    """Half the rows at once (or the next smaller divisor), as many in a step as before."""
    rows = course.batch_size * course.accumulation
    if course.batch_size == 1:
        advice = f"give {lighter(job.settings)}"
        raise InputError(f"out of memory with a single row of {job.settings.max_seq_len} ids; {advice}") from None
    size = max(size for size in range(1, course.batch_size // 2 + 1) if rows % size == 0)
    message = f"out of memory: {size} rows at once instead of {course.batch_size}, {rows // size} times a step"
    job.say(message, step=max(checkpoints(job.out), default=0), event="out of memory")
    return replace(course, batch_size=size, accumulation=rows // size)
