"""What is asked of every run of a comparison, what its training took, and whether the comparison is fair."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...config import flag
from ...jobs import find_device
from ...log import LOG, read_log
from ...progress import Reporter, part
from ..data import tasks
from ..data.corpus import Corpus, EvaluationRows
from ..data.tasks import Region
from ..music.score import Score
from ..playing.decode import Sampling, Stream, decode
from ..playing.excerpts import Excerpt, cut_excerpts, first, play
from ..playing.perform import stepping
from ..playing.takes import Take
from ..run import Run
from .alone import logged_costs
from .evaluate import EvaluateSettings, excerpt_length, refuse_empty
from .likelihood import likelihood
from .likeness import compare_measures, overall

if TYPE_CHECKING:
    from ..playing.step import Step

SPEED_BARS, SPEED_IDS, WARM_IDS = 16, 400, 16  # written to measure the speed of playing; the first ids do not count
UNEVEN, BUSY = 1.2, 1.5  # times as many parameters, minutes, ids; processor time a minute: worth a remark


class Questions(NamedTuple):
    """What every run is asked about, decided before anything is trained."""

    settings: EvaluateSettings
    length: int  # of takes and excerpts
    excerpts: list[Excerpt]


def questions(corpus: Corpus, split: str | None, **playing) -> Questions:
    """The music of a split (by default test, or validation where there is no test) and how takes are played; `playing`
    are fields of EvaluateSettings. Raises InputError for what cannot be asked.
    """
    split = split or next((name for name in ("test", "validation") if corpus.split(name)), "test")
    refuse_empty(corpus, split)
    settings = EvaluateSettings(split=split, **playing)
    length = excerpt_length(corpus.tokenizer, settings)
    return Questions(settings, length, cut_excerpts(corpus, split, length)[0])


def examined(run: Run, corpus: Corpus, rows: EvaluationRows, asked: Questions, report: Reporter) -> tuple[dict, Take]:
    """All figures of one run, and its first take. `rows` are those of the likelihood, the same for all."""
    model = run.model(merge=True, device=find_device())
    nats = likelihood(model, rows, corpus.tokenizer, report=part(report, 0, 0.4))
    count = sum(weight.numel() for weight in model.parameters())
    step = stepping(run, asked.settings.device)
    speed = playing_speed(run, step, asked.settings.seed)
    music = [excerpt.score for excerpt in asked.excerpts]
    played = play(run, music, asked.length, step=step, report=part(report, 0.4, 1), **asked.settings.playing)
    takes = [first(take.score, corpus.tokenizer, asked.length) for take in played]
    measures = compare_measures(takes, asked.excerpts)
    row = {"run": str(run.folder), "parameters": count, "likelihood": nats, "playing": speed, "training": trained(run)}
    return row | {"measures": measures, "overall": overall(measures)}, played[0]


def playing_speed(run: Run, step: Step, seed: int) -> dict:
    """Ids a second in which one take comes out of the engine that `generate` takes, grammar and sampling included.

    The first ids do not count: there the engine warms up.
    """
    tokenizer = run.tokenizer
    score = Score(tempos=[(0, 500_000)], metres=[(0, 4, 4)], ticks_per_quarter=480)
    region = Region(0, SPEED_BARS * 4 * 480)
    prompt = tasks.prompt(tokenizer, score, region).tolist()
    plan = tasks.plan(score, region, ring=False)
    context = min(step.max_seq_len, run.row_length)
    stream, times = Stream(prompt, prompt, tokenizer.grammar(plan), Sampling(), seed), []
    decode(step, [stream], context=context, max_length=SPEED_IDS, watch=lambda *_: times.append(time.perf_counter()))
    begin = min(WARM_IDS, len(times) // 2)
    spent = times[-1] - times[begin]
    speed = (len(times) - 1 - begin) / spent if spent else None
    return {"ids_per_second": speed, "ids": len(times), "engine": step.engine}


def trained(run: Run) -> dict:
    """What the training of a run took and how it went: ids, minutes, speed, memory, validation along the way.

    None for what its log does not tell. Ids are places in rows: they include what a prompt tells and the padding.
    """
    settings, log = run.facts["settings"], read_log(run.folder / LOG)
    sizes = [settings.get(name) for name in ("batch_size", "gradient_accumulation", "max_seq_len")]
    each = int(np.prod(sizes)) if None not in sizes else None
    step, seconds = run.facts.get("step"), run.facts.get("seconds")
    speeds = [line["ids_per_second"] for line in log if "ids_per_second" in line]
    curve = [line for line in log if line.get("validation")]
    return {
        "step": step,
        "best_step": run.facts.get("best_step"),
        "ids": step * each if step and each else None,
        "minutes": seconds / 60 if seconds else None,
        "ids_per_second": float(np.median(speeds)) if speeds else None,
        **logged_costs(log),
        "rollbacks": sum(line.get("event") == "rollback" for line in log),
        "settings": settings,
        "base": run.facts.get("base"),
        "corpus": run.facts.get("corpus"),
        "curve": [
            {"minutes": line["seconds"] / 60, "ids": line["step"] * each if each else None} | line["validation"]
            for line in curve
        ],
    }


def remarks(rows: list[dict], split: str) -> list[str]:
    """What is not alike in the training of the rows, and what else a reader of the table should know."""
    told, training = [], [row["training"] for row in rows]
    if len({learned["corpus"] for learned in training}) > 1:
        told.append("They learned from different corpora: one may know some of these pieces.")
    for name in ("max_seq_len", "seed"):
        values = [learned["settings"].get(name) for learned in training]
        if len(set(values)) > 1:
            told.append(f"They were trained with {flag(name)} {', '.join(map(str, values))}: not with the same rows.")
    told += [f"{row['name']} started from {row['training']['base']}." for row in rows if row["training"]["base"]]
    counts = [row["parameters"] for row in rows]
    if max(counts, default=0) > UNEVEN * min(counts, default=0):
        told.append(f"Their parameters differ: {min(counts):,} to {max(counts):,}.")
    if all(uneven([learned[name] for learned in training]) for name in ("minutes", "ids")):
        told.append("They were trained neither for the same time nor on as many ids.")
    shares = [_processor_share(learned) for learned in training]
    if len(rows) > 1 and None not in shares and max(shares) > BUSY * min(shares):
        had = f"Their processes had a processor for {100 * min(shares):.0f} to {100 * max(shares):.0f} % of the time"
        told.append(f"{had}: where the machine was busy with other work, --max-steps compares them better.")
    for row in rows:
        if row["training"]["rollbacks"]:
            told.append(f"{row['name']} diverged on its way, and went on at a lower learning rate.")
    if split == "validation":
        told.append("Each run's weights were chosen by their loss on some of these pieces.")
    return told + (["They have learned these very pieces."] if split == "train" else [])


def _processor_share(training: dict) -> float | None:
    """Seconds of processor time in a second of training on a CPU."""
    if training["peak_device_memory"] is not None or None in (training["processor_seconds"], training["minutes"]):
        return None
    return training["processor_seconds"] / (60 * training["minutes"])


def uneven(values: list[float | None]) -> bool:
    """Whether some are much larger than others, or not known."""
    return None in values or (bool(values) and max(values) > UNEVEN * min(values))
