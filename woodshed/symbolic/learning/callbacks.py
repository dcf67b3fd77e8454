"""What we hang into the Hugging Face Trainer: the clock and its learning rate, the watch over the loss, the log.

The loop itself is the Trainer's. Imported by train() only, because torch and transformers take seconds to load.
"""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import ExportableState

from ...errors import FileError
from ...log import LOG, append_log, draw_loss, read_log
from ...page import clock
from ...progress import Progress
from ..data.corpus import IGNORED
from ..run import saving
from .course import DECAY, LOWEST, Course, Diverged, Job, Plateau, rotate
from .muon import Muon, parameter_groups
from .trackers import tracking

SAVE_SECONDS = 600  # at most this much work is lost
FIRST_SECONDS, GROWTH = 20, 1 / 3  # when to evaluate first, and then: an adapter may be at its best after a minute
DRAW_SECONDS = 60  # between two pictures of the loss
WINDOW, MIN_WINDOW = 64, 8  # step losses whose median says what is normal
JUMP_FACTOR, JUMP = 3, 1.0
MPS_STATE = "rng_state_mps.pth"  # in a checkpoint: where the random numbers of an Apple GPU stand


class Validation:
    """Nats per token, note and second of music, summed over the batches of one evaluation.

    Only some rows are evaluated; `per` says how many tokens the whole split has to a note and to a second.
    """

    def __init__(self, per: dict[str, float]):
        self.per = per
        self.nats, self.tokens = 0.0, 0

    def __call__(self, batch, compute_result: bool) -> dict[str, float]:
        count = int((batch.label_ids[:, 1:] != IGNORED).sum())
        if count:
            self.nats += float(batch.losses.mean()) * count
            self.tokens += count
        if not compute_result:
            return {}
        mean = self.nats / max(self.tokens, 1)
        self.nats, self.tokens = 0.0, 0
        return {f"nats_per_{unit}": mean * tokens for unit, tokens in self.per.items()}


class Pace(TrainerCallback, ExportableState):
    """How far the run is, in steps and in time; from it follow the rate, the evaluations, the saves and the end."""

    def __init__(self, job: Job, course: Course):
        self.job, self.course, self.steps = job, course, job.steps_of(course)
        self.warmup, self.eval_steps = job.settings.warmup, job.settings.eval_steps
        self.limit = math.inf if job.settings.max_minutes is None else job.settings.max_minutes * 60
        self.began = self.paused = self.saved = self.evaluated = time.monotonic()
        self.pause = 0.0  # seconds that the last evaluation and save took

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those before a restart included."""
        return self.course.seconds + time.monotonic() - self.began

    def done(self, step: int) -> float:
        """The part of the run that is over, of its steps or of its minutes, whichever is more."""
        return min(1.0, max(step / self.steps, self.seconds / self.limit))

    def rate(self, step: int) -> float:
        """The learning rate of a step, as a share of its peak: a rise, then flat, then a fall to 0."""
        if self.course.last:
            left = (self.course.last - step) / (self.course.last - self.course.best)
            return self.course.height * min(1.0, max(0.0, left))
        done = self.done(step)
        if self.course.best:  # it has risen before
            rise = 1.0
        elif self.warmup >= 1:
            rise = (step + 1) / self.warmup
        else:
            rise = (done + 1 / self.steps) / self.warmup if self.warmup else 1.0
        return self.course.height * min(1.0, rise, (1 - done) / DECAY)

    def left(self, step: int, first: int) -> float:
        """Seconds until the end, from the speed since the step `first` at which this process began."""
        spent = time.monotonic() - self.began
        return min((self.steps - step) * spent / max(step - first, 1), max(self.limit - self.seconds, 0.0))

    def state(self) -> dict:
        return {"args": {}, "attributes": asdict(replace(self.course, seconds=self.seconds))}

    def due(self, step: int) -> bool:
        """Whether to evaluate: every `eval_steps`; or every tenth of the run, before that each time that it is longer
        by a third, at most for a tenth of the time."""
        if self.eval_steps:
            return step % self.eval_steps == 0
        since, tenth = time.monotonic() - self.evaluated, self.seconds / max(self.done(step), 1e-9) / 10
        grown = max(FIRST_SECONDS, GROWTH * (self.seconds - since))
        return since >= max(min(tenth, grown, SAVE_SECONDS), 9 * self.pause)

    def on_train_begin(self, args, state, control, **kwargs):
        self.began = self.paused = self.saved = self.evaluated = time.monotonic()

    def on_step_end(self, args, state, control, **kwargs):
        self.paused = time.monotonic()
        if self.seconds >= self.limit:
            control.should_training_stop = control.should_evaluate = control.should_save = True
        elif self.job.stopped:
            control.should_training_stop = control.should_save = True
        elif not control.should_training_stop:
            control.should_evaluate = self.due(state.global_step)
            control.should_save = control.should_evaluate or time.monotonic() - self.saved >= SAVE_SECONDS
        if args.eval_strategy == "no":
            control.should_evaluate = False

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        self.evaluated = time.monotonic()

    def on_save(self, args, state, control, **kwargs):
        rotate(Path(args.output_dir), self.job.settings.keep_checkpoints, state.best_global_step, self.job.say)
        self.saved = time.monotonic()
        self.pause = self.saved - self.paused


class Patience(TrainerCallback):
    """Raises Plateau at the save that follows so many evaluations since the best, unless the end has begun: back to
    that one, or to the base where all were worse and there is a lower rate to try. It goes by the log, which is taken
    back with the run."""

    def __init__(self, patience: int, pace: Pace, log: Path):
        self.patience, self.pace, self.log = patience, pace, log

    def on_save(self, args, state, control, **kwargs):
        best, step = state.best_global_step, state.global_step
        ending = self.pace.job.stopped or self.pace.course.last or self.pace.done(step) > 1 - DECAY
        if ending or not best or not (Path(args.output_dir) / f"checkpoint-{best}").exists():
            return
        lines, measure = read_log(self.log), args.metric_for_best_model.removeprefix("eval_")
        worth = {line["step"]: line["validation"].get(measure, math.nan) for line in lines if "validation" in line}
        if sum(at > best for at in worth) < self.patience:
            return
        if worth.get(0, math.inf) <= worth[best] and self.pace.course.height > LOWEST:
            best = 0
        since = f"since step {best:,}" if best else "than that of the base"
        told = f"validation has not become better {since} ({worth[best]:.3f}, now {worth[max(worth)]:.3f})"
        raise Plateau(best, step, self.pace.seconds, told)


class Learner(Trainer):
    """The Trainer, with our learning rate (unless a lr_scheduler_type was asked for), a watch over the loss and
    evaluations that leave no trace."""

    def __init__(self, *args, pace: Pace, own_rate: bool, muon: bool, **kwargs):
        super().__init__(*args, **kwargs)
        self.pace, self.own_rate, self.muon = pace, own_rate, muon
        self.losses, self.step_loss = deque(maxlen=WINDOW), 0.0
        self.start = 0  # the step that training goes on from

    def train(self, resume_from_checkpoint: str | None = None, **kwargs):
        if resume_from_checkpoint:
            self.start = int(resume_from_checkpoint.rpartition("-")[2])
        with tracking(self, self.pace.job.say):
            return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def create_optimizer(self, model=None):
        """Muon, unless --training-args names another optimizer, or what is trained is an adapter."""
        if self.optimizer is None and self.muon:
            args = self.args
            rates = {"lr": args.learning_rate, "betas": (args.adam_beta1, args.adam_beta2), "eps": args.adam_epsilon}
            self.optimizer = Muon(parameter_groups(self.model, args.weight_decay), **rates)
        return super().create_optimizer(*([] if model is None else [model]))

    def create_scheduler(self, num_training_steps, optimizer=None):
        if not self.own_rate or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        self.lr_scheduler = LambdaLR(optimizer or self.optimizer, self.pace.rate)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def try_out(self) -> None:
        """Make the optimizer and the schedule that are asked for: what cannot be made is told before anything is
        written. The Trainer makes the schedule again."""
        self.create_optimizer_and_scheduler(self.args.max_steps)
        self.lr_scheduler = None

    def _load_optimizer_and_scheduler(self, checkpoint):
        """Load them, but keep the rate of these settings: the checkpoint's own would otherwise return with them."""
        schedule = self.lr_scheduler
        if checkpoint is None or not isinstance(schedule, LambdaLR):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        peaks = list(schedule.base_lrs)
        super()._load_optimizer_and_scheduler(checkpoint)
        schedule.base_lrs = peaks
        schedule._last_lr = [
            peak * shape(schedule.last_epoch) for peak, shape in zip(peaks, schedule.lr_lambdas, strict=True)
        ]
        for group, rate in zip(self.optimizer.param_groups, schedule._last_lr, strict=True):
            group["lr"] = rate

    def training_step(self, model, inputs, num_items_in_batch=None):
        loss = super().training_step(model, inputs, num_items_in_batch)
        self.step_loss += loss.item()
        if self.accelerator.sync_gradients:
            self._watch(self.step_loss)
            self.step_loss = 0.0
        return loss

    def _get_grad_norm(self, model, grad_norm=None):
        norm = super()._get_grad_norm(model, grad_norm)
        scaled = getattr(self.accelerator, "scaler", None) is not None  # float16 skips such steps by itself
        if not scaled and not math.isfinite(norm):  # before the optimizer takes it into the weights
            raise Diverged(self.state.global_step + 1, math.nan, float(np.median(self.losses)), self.pace.seconds)
        return norm

    def _watch(self, loss: float) -> None:
        usual = float(np.median(self.losses)) if self.losses else loss
        jumped = len(self.losses) >= MIN_WINDOW and loss > JUMP_FACTOR * usual + JUMP
        if jumped or not math.isfinite(loss):
            raise Diverged(self.state.global_step + 1, loss, usual, self.pace.seconds)
        self.losses.append(loss)

    def _save_checkpoint(self, model, trial):
        """What Python, safetensors and torch's zip writer each raise on a full disk becomes a FileError."""
        path = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        try:
            with saving(path):
                super()._save_checkpoint(model, trial)
        except RuntimeError as error:
            if "inline_container" not in str(error):
                raise
            raise FileError(path, "cannot be written: not all of it fits on the disk, or the disk fails") from None

    def _save_rng_state(self, output_dir):
        super()._save_rng_state(output_dir)
        if self.args.device.type == "mps":  # which the Trainer forgets
            torch.save(torch.mps.get_rng_state(), Path(output_dir) / MPS_STATE)

    def _load_rng_state(self, checkpoint):
        super()._load_rng_state(checkpoint)
        if self.args.device.type == "mps" and checkpoint and (file := Path(checkpoint) / MPS_STATE).exists():
            torch.mps.set_rng_state(torch.load(file, weights_only=True))

    def evaluate(self, *args, **kwargs):
        """Evaluate without drawing from the random numbers of the training, whenever it happens, and in nats: the
        Trainer would smooth labels here as well."""
        smoother, self.label_smoother = self.label_smoother, None
        with torch.random.fork_rng(devices=[self.args.device] if self.args.device.type == "cuda" else []):
            metrics = super().evaluate(*args, **kwargs)
        self.label_smoother = smoother
        return metrics


class Journal(TrainerCallback):
    """Writes log.jsonl line by line, draws loss.png now and then, and reports the progress."""

    def __init__(self, pace: Pace, *, ids: int, epoch: float):
        self.path, self.pace, self.report = pace.job.out / LOG, pace, pace.job.report
        self.ids, self.epoch = ids, epoch  # ids in a step, steps in an epoch
        self.first = 0
        self.mark: tuple[int, float] = (0, 0.0)  # step and time from which the speed is taken
        self.drawn = time.monotonic()

    def on_train_begin(self, args, state, control, **kwargs):
        self.first = state.global_step
        self._mark(state)

    def _mark(self, state) -> None:
        self.mark = state.global_step, time.monotonic()

    def on_step_end(self, args, state, control, **kwargs):
        state.epoch = state.global_step / self.epoch

    def on_log(self, args, state, control, logs, **kwargs):
        state.log_history.clear()  # it would be written into every checkpoint; log.jsonl has it
        if "loss" not in logs:
            return
        step, loss = state.global_step, logs["loss"]
        speed = self.ids * (step - self.mark[0]) / max(time.monotonic() - self.mark[1], 1e-9)
        line = {"step": step} | {name: logs[name] for name in ("loss", "learning_rate", "grad_norm", "epoch")}
        self._write(line | {"ids_per_second": round(speed, 1)})
        left = self.pace.left(step, self.first)
        text = f"step {step}  loss {loss:.3f}  {clock(left)} left"
        self.report(Progress(self.pace.done(step), text, step=step, loss=loss, seconds_left=left))
        self._mark(state)

    def _write(self, line: dict) -> None:
        append_log(self.path, line | {"seconds": round(self.pace.seconds, 2)})

    def on_evaluate(self, args, state, control, metrics, **kwargs):
        names = [name for name in metrics if name.startswith("eval_nats_per_")]
        validation = {name.removeprefix("eval_"): metrics[name] for name in names}
        self._write({"step": state.global_step, "validation": validation})
        told = ", ".join(f"{value:.3f} {name.replace('_', ' ')}" for name, value in validation.items())
        message = f"step {state.global_step:,}, validation {told}"
        self.report(Progress(message=message, step=state.global_step, validation=validation))
        self._mark(state)

    def on_save(self, args, state, control, **kwargs):
        if time.monotonic() - self.drawn > DRAW_SECONDS:
            self._draw()
        self._mark(state)

    def on_train_end(self, args, state, control, **kwargs):
        self._draw()

    def _draw(self) -> None:
        draw_loss(self.path, self.path.with_name("loss.png"))
        self.drawn = time.monotonic()
