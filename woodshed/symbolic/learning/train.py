"""Train a next-token model on a corpus with the Hugging Face Trainer; the result is a Run.

    train("corpus", "my-style", base="piano", preset="quick", report=print) -> Run

The settings are settings.py, what hangs in the Trainer's loop is callbacks.py; here is what goes on around the loop:
what is decided before the first step, what happens when the loss jumps or the memory ends, and how a run is closed.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ... import __version__
from ... import log as logs
from ...config import given, read_fields, updated
from ...errors import FileError, InputError, RunError, WoodshedError
from ...files import new_folder, seen_from
from ...jobs import claimed, finished, quiet, refuse_occupied, resumable, stop_on_signals, threads
from ...progress import Reporter, unheard
from .. import bases
from .. import run as runs
from ..data.corpus import IGNORED, open_corpus
from ..data.unigram import for_comparison
from ..run import Run, checkpoints
from . import adapters
from .course import (
    UNLIMITED,
    Course,
    Diverged,
    Job,
    Plateau,
    find_course,
    lower,
    out_of_memory,
    slower,
    smaller,
    whole_checkpoints,
)
from .publish import publish
from .settings import LIMITS, MODEL_FLAGS, TrainSettings, asks_for_new, resolve, resumed, with_model_of_preset

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from .callbacks import Learner


def train(
    corpus,
    out: str | Path,
    settings: TrainSettings | None = None,
    *,
    report: Reporter = unheard,
    **changes,
) -> Run:
    """Train on a corpus (or its folder) into the folder `out`, and open the run.

    `changes` are fields of TrainSettings. `report` is called with a Progress after every step. Ctrl-C and SIGTERM
    save a checkpoint and end the run early.
    Raises InputError for settings that cannot work, RunError for a run, base or corpus that does not fit, and
    FileError where the run cannot be written (a full disk): what is there by then can be resumed.
    """
    settings = updated(TrainSettings, settings, changes)
    job = _job(open_corpus(corpus), Path(out), settings, report)
    with _claimed(job.out, resume=settings.resume), _failures_logged(job):
        return _trained(job)


def _trained(job: Job) -> Run:
    """Attempts, each from the newest checkpoint on, until one comes to the end."""
    course = find_course(job)
    while True:
        began = time.monotonic()
        try:
            with threads(course.threads), quiet("transformers"):
                return _attempt(job, course)
        except Diverged as trouble:
            course = slower(job, course, trouble)
        except Plateau as found:
            course = lower(job, course, found)
        except FileError as trouble:
            raise resumable(trouble, job.out / runs.FACTS, whole_checkpoints(job)) from None
        except RuntimeError as trouble:
            if not out_of_memory(trouble):
                raise
            course = smaller(job, course)
        course = replace(course, seconds=course.seconds + time.monotonic() - began)
        gc.collect()  # the model of the failed attempt


# --- before the first step -------------------------------------------------------------------------------------


def _job(corpus, out: Path, asked: TrainSettings, report: Reporter) -> Job:
    saved = runs.read_facts(out) if asked.resume else {}
    settings = _going_on(asked, saved, corpus, out) if saved else _begun(asked, corpus, out)
    facts = (saved or _facts(corpus, out, settings)) | {"settings": asdict(settings), "finished": False}
    facts |= {"corpus_folder": seen_from(out, corpus.folder)}
    rows = corpus.training_rows(settings.max_seq_len, seed=settings.seed)
    steps, before = _steps(settings, len(rows)), {}
    if saved:
        _refuse_finished(out, saved, steps, settings)
        new_rate = "learning_rate" in given(asked) or settings.learning_rate != saved["settings"]["learning_rate"]
        before = {"new_rate": new_rate, "ended": saved["finished"]}
    return Job(corpus, out, settings, report, facts, rows, steps, *_validation(corpus, settings), **before)


def _begun(settings: TrainSettings, corpus, out: Path) -> TrainSettings:
    """The settings of a new run."""
    settings = with_model_of_preset(settings)
    base = _named_base(settings.base, out)
    refuse_occupied(out, runs.FACTS)
    if base == "auto":
        base = None if asks_for_new(settings) else bases.fitting(corpus.tokenizer.fingerprint)
    settings = replace(settings, base=base)
    return _fitted(resolve(settings), out, asked=settings.max_seq_len is not None)


def _going_on(settings: TrainSettings, saved: dict, corpus, out: Path) -> TrainSettings:
    """The settings of a run that goes on."""
    if corpus.fingerprint != saved["corpus"]:
        raise RunError(
            out, f"it learns from corpus {saved['corpus']}, this is {corpus.fingerprint}; give its own corpus"
        )
    ended = saved["finished"] and saved.get("plateau")  # by itself, and is to go on
    asked = given(settings)
    settings = resumed(replace(settings, base=_named_base(settings.base, out)), saved["settings"], out)
    if saved.get("step") and not checkpoints(out):
        raise RunError(out, "it holds no checkpoint to go on from; train a new run with this one as its --base")
    if settings.adapter != "none":
        runs.own_base(out, saved)
    return replace(settings, patience=0) if ended and "patience" not in asked else settings


def _named_base(base: str | None, out: Path) -> str | None:
    """A local base as a path relative to the run, so that both can move together; one of the package with its version;
    a Hugging Face id as it is."""
    if base in (None, "auto"):
        return base
    if base == "none":
        return None
    ours = bases.find(base)
    if ours and not any((Path(base) / file).exists() for file in (runs.FACTS, runs.CONFIG, runs.ADAPTER)):
        return ours.name  # a folder of that name holds something else: its takes, or music
    return seen_from(out, base) if Path(base).is_dir() else base


def _fitted(settings: TrainSettings, out: Path, *, asked: bool) -> TrainSettings:
    """Rows no longer than the base takes: an InputError where their length was `asked` for, else they are shortened."""
    longest = runs.longest(runs.find_base(settings.base, out, fetch=True)) if settings.base else None
    if longest is None or settings.max_seq_len <= longest:
        return settings
    if asked:
        raise InputError(f"--max-seq-len {settings.max_seq_len}: the base {settings.base} takes at most {longest}")
    return replace(settings, max_seq_len=longest)


def _steps(settings: TrainSettings, rows: int) -> int:
    if settings.max_steps or not settings.epochs:
        return settings.max_steps or UNLIMITED
    return math.ceil(settings.epochs * rows / (settings.batch_size * settings.gradient_accumulation))


@contextmanager
def _claimed(out: Path, *, resume: bool) -> Iterator[None]:
    """The folder of the run, ours alone."""
    with new_folder(out), claimed(out):
        if not resume:
            refuse_occupied(out, runs.FACTS)  # another training may have been quicker
        yield


def _facts(corpus, out: Path, settings: TrainSettings) -> dict:
    """What run.json says from the start, so that a run can be resumed from its first step on."""
    facts = {"woodshed": __version__, "style": Path(corpus.folder).name, "music": corpus.music}
    facts |= {"corpus": corpus.fingerprint, "tokenizer": corpus.tokenizer.fingerprint}
    facts |= {"model": settings.model, "base": settings.base, "adapter": settings.adapter != "none"}
    if settings.base is not None:
        base = runs.find_base(settings.base, out)
        adapters.unknown_ids(base, corpus.tokenizer)
        facts |= {"model": None, "base_weights": runs.weights_digest(base)}
    return facts


def _refuse_finished(out: Path, facts: dict, steps: int, settings: TrainSettings) -> None:
    late = settings.max_minutes is not None and facts.get("seconds", 0) >= settings.max_minutes * 60
    same = all(getattr(settings, name) == facts["settings"][name] for name in LIMITS)
    if facts["finished"] and (facts["step"] >= steps or late or same):
        raise finished(out, facts["step"], "--epochs, --max-steps or --max-minutes")


def _validation(corpus, settings: TrainSettings) -> tuple[list | None, dict[str, float]]:
    """Rows spread evenly over the validation split, and how many tokens the whole split has to each unit."""
    rows = corpus.evaluation_rows("validation", settings.max_seq_len)
    if not len(rows):
        return None, {}
    tokens = sum(int((rows[i]["labels"][1:] != IGNORED).sum()) for i in range(len(rows)))
    count = min(len(rows), settings.eval_rows)
    chosen = [rows[i * len(rows) // count] for i in range(count)]
    units = {"note": rows.notes, "second": rows.seconds}
    return chosen, {"token": 1.0} | {unit: tokens / total for unit, total in units.items() if total}


@contextmanager
def _failures_logged(job: Job) -> Iterator[None]:
    """What ends the training with an error is in its log too, where the disk still takes it."""
    try:
        yield
    except WoodshedError as error:
        if (log := job.out / logs.LOG).exists():
            with suppress(FileError):
                step = max(checkpoints(job.out), default=0)
                logs.append_log(log, {"step": step, "event": "failed", "message": str(error)})
        raise


# --- one attempt: from the newest checkpoint to the end ---------------------------------------------------------


def _attempt(job: Job, course: Course) -> Run:
    found, learner = checkpoints(job.out), _learner(job, course)
    runs.write_facts(job.out, job.facts)
    job.corpus.tokenizer.save(job.out)
    logs.rewind_log(job.out / logs.LOG, max(found, default=-1))
    with stop_on_signals(job):
        learner.train(resume_from_checkpoint=str(found[max(found)]) if found else None)
    return _finish(job, learner)


def _model(job: Job, *, half: bool) -> PreTrainedModel:
    """The model to train; `half` says that it is trained in bfloat16."""
    from transformers import set_seed

    from .. import models

    settings, tokenizer = job.settings, job.corpus.tokenizer
    set_seed(settings.seed)
    if settings.base is None:
        more = read_fields(settings.model_args, None, "--model-args", MODEL_FLAGS)
        sizes = {"vocab_size": tokenizer.vocab_size, "max_seq_len": settings.max_seq_len}
        model = models.make(settings.model, size=settings.size, **sizes, **more)
        models.share_features(model, tokenizer.features)
        return model
    base = runs.find_base(settings.base, job.out)
    model = runs.load_base(base, tokenizer)
    if settings.adapter == "none":
        return model
    return adapters.adapt(model, settings, fresh=adapters.unknown_ids(base, tokenizer), half=half)


def _learner(job: Job, course: Course) -> Learner:
    from torch.utils.data import Subset
    from transformers import PrinterCallback

    from .arguments import arguments, refusing
    from .callbacks import Journal, Learner, Pace, Patience, Validation
    from .memory import advice, free_memory, memory

    settings, per_step = job.settings, course.batch_size * course.accumulation
    args = arguments(job, course)
    model = _model(job, half=args.bf16)
    if not course.rollbacks:
        total, trained = adapters.count(model)
        job.facts.update(parameters=total, trainable=trained)
        if settings.base:
            job.say(f"Starting from {settings.base}")
        job.say(f"Total parameters {total:,} / Trainable parameters {trained:,} ({trained / total:.2%})")
    asked = read_fields(settings.training_args, None, "--training-args")
    ids, epoch = per_step * settings.max_seq_len, len(job.rows) / per_step
    pace = Pace(job, course)
    journal = Journal(pace, ids=ids, epoch=epoch)
    callbacks, own_rate = [journal, pace], "lr_scheduler_type" not in asked
    if settings.patience and own_rate:
        callbacks.append(Patience(settings.patience, pace, journal.path))
    with refusing(settings):
        learner = Learner(
            model=model,
            args=args,
            # all epochs are one of the Trainer's, in order: a resumed run skips to its place without making a row
            train_dataset=Subset(job.rows, range(pace.steps * per_step)),
            eval_dataset=job.validation and Subset(job.validation, range(len(job.validation))),
            compute_metrics=Validation(job.per),
            callbacks=callbacks,
            pace=pace,
            own_rate=own_rate,
            muon="optim" not in asked and settings.adapter == "none",
        )
        learner.try_out()
    learner.remove_callback(PrinterCallback)
    if not (course.rollbacks or args.gradient_checkpointing):  # which keeps far less
        needed = memory(learner, course.batch_size, settings.max_seq_len)
        job.say(f"{needed}{advice(needed, settings, course, free_memory(args.device))}")
    return learner


def _finish(job: Job, learner: Learner) -> Run:
    """Publish the best checkpoint (without validation: the last)."""
    step, found = learner.state.global_step, checkpoints(job.out)
    best = learner.state.best_global_step
    best = best if best in found else max(found)
    log = logs.read_log(job.out / logs.LOG)
    validation = [line["validation"] for line in log if line["step"] == best and "validation" in line]
    facts = job.facts | {"settings": asdict(job.settings), "step": step, "best_step": best}
    facts |= {"plateau": bool(learner.pace.course.last)}
    facts |= {"seconds": round(learner.pace.seconds, 1), "validation": validation[-1] if validation else {}}
    if facts["validation"] and (beaten := _no_better_than_base(log, facts["validation"])):
        job.say(beaten)
    if facts["validation"]:
        job.say(f"for comparison: {for_comparison(facts['tokenizer'], job.rows, facts['validation'])}")
    job.say_stopped(step)
    return publish(job.out, found[best], facts | {"finished": not job.stopped}, learner.model.config)


def _no_better_than_base(log: list[dict], validation: dict[str, float]) -> str:
    """That pieces held out are no likelier to a run than to its base, where that is so."""
    measure = next(name for name in ("nats_per_note", "nats_per_token") if name in validation)
    base = next((line["validation"][measure] for line in log if line["step"] == 0 and "validation" in line), math.inf)
    if base > validation[measure]:
        return ""
    return f"no better than its base on your validation pieces ({validation[measure]:.3f}, base {base:.3f} {measure})"
