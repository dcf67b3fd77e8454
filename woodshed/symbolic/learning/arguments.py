"""The TrainingArguments of a job: ours, and over them those that were asked for."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from transformers import TrainingArguments

from ...config import read_fields
from ...errors import InputError, MissingExtra, first_line
from ...jobs import fast_bf16
from ..run import checkpoints
from .course import UNLIMITED, Course, Job
from .settings import FLAGS, TrainSettings

TENSOR_CORES = (7, 0)  # the CUDA capability from which float16 is faster than float32
KEPT = {"save_strategy", "save_only_model"}  # as they are: a run goes back to its checkpoints, and on from them
ENDLESS = ("constant", "constant_with_warmup", "inverse_sqrt", "reduce_lr_on_plateau")  # schedules without an end


@contextmanager
def refusing(settings: TrainSettings) -> Iterator[None]:
    """What transformers says against --training-args, in the block, is an InputError or a MissingExtra."""
    try:
        yield
    except (ValueError, TypeError, ImportError) as error:
        if not settings.training_args:
            raise
        if "bitsandbytes" in str(error):
            raise MissingExtra("bitsandbytes", "qlora") from None
        raise InputError(f"--training-args {' '.join(settings.training_args)}: {first_line(error)}") from None


def arguments(job: Job, course: Course) -> TrainingArguments:
    """The TrainingArguments of a job: ours, and over them those of --training-args."""
    settings = job.settings
    more = read_fields(settings.training_args, TrainingArguments, "--training-args", FLAGS)
    for name in KEPT & more.keys():
        raise InputError(f"--training-args {name}: train needs its checkpoints whole; leave it out")
    schedule = more.get("lr_scheduler_type", "constant")
    if schedule not in ENDLESS and job.steps == UNLIMITED:
        told = f"--training-args lr_scheduler_type={schedule} counts steps"
        raise InputError(f"{told}; add --max-steps or --epochs to --max-minutes")
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    ours = {
        "output_dir": str(job.out),
        "max_steps": job.steps_of(course),
        "per_device_train_batch_size": course.batch_size,
        "per_device_eval_batch_size": course.batch_size,
        "gradient_accumulation_steps": course.accumulation,
        "learning_rate": settings.learning_rate * 0.5**course.rollbacks,
        "warmup_steps": settings.warmup,
        "seed": settings.seed,
        "train_sampling_strategy": "sequential",
        "use_cpu": not (cuda or mps),
        "dataloader_num_workers": workers() if cuda else 0,
        # Pace decides; the Trainer itself evaluates and saves only at the very end
        "eval_strategy": "steps" if job.validation else "no",
        "save_strategy": "steps",
        "eval_steps": UNLIMITED,
        "eval_on_start": bool(settings.base and job.validation and not checkpoints(job.out)),  # what there is to beat
        "save_steps": UNLIMITED,
        "metric_for_best_model": "nats_per_note" if "note" in job.per else "nats_per_token",
        "greater_is_better": False,
        "batch_eval_metrics": True,
        "include_for_metrics": ["loss"],
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": settings.tracker,
        "project": settings.project,
        "run_name": settings.run_name or job.out.absolute().name,
        "disable_tqdm": True,
        "log_level": "error",
    }
    with refusing(settings):
        made = TrainingArguments(**ours | half_precision(more) | more)
    made._n_gpu = min(made.n_gpu, 1)  # DataParallel would take the rows of several steps at once, and begin again
    return made


def workers() -> int:
    """Processes that make rows, which take milliseconds each. None where they would run the user's own script again,
    which may have no __main__ guard."""
    begun = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    return min(8, os.cpu_count() or 1) if begun == "fork" else 0


def half_precision(asked: dict) -> dict[str, bool]:
    """Which 16 bits to compute with, unless that is asked for: bfloat16 where it is fast, else float16 on a GPU that is
    fast in that (the Trainer scales the loss for it)."""
    if asked.get("fp16") or "bf16" in asked:
        return {}
    cuda = torch.cuda.is_available() and not asked.get("use_cpu")
    bf16 = fast_bf16("cuda" if cuda else "cpu")
    return {"bf16": bf16, "fp16": cuda and not bf16 and torch.cuda.get_device_capability() >= TENSOR_CORES}
