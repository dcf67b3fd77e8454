"""What can be wrong with a run. Every diagnosis is a function from Evidence to a Diagnosis, or None where all is well.

Losses are judged by the run's own course, takes (take_diagnoses.py) by the music of the corpus. Constants are left only
for how much of a difference counts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import get_args

import numpy as np

from ..data.inspect import Reason
from ..data.prepare import LEFT_OUT
from ..data.report import LITTLE_FILES, LITTLE_MINUTES
from ..data.unigram import unigram
from ..learning.settings import recomputes
from .alone import EVENT as COSTS
from .diagnosis import Diagnosis, Remedy
from .evidence import Evidence
from .take_diagnoses import chords_ignored, too_random, too_repetitive

FEW_STEPS = 20
STEEP = 0.05  # of the loss, for a doubling of the steps
RISE = 0.02  # of the best validation
NOTHING = 0.01  # of a loss: an adapter that lowers it by less has not learned
SAME = 0.001  # of the base's validation: a run that lowers it by less is no better
SLOW = 1 / 3  # of the usual rate
MOST_LEFT_OUT = 0.2  # of the files
AUGMENT = Remedy("prepare", "--augment", "12 keys and 3 tempi: 36 times the music")


def out_of_memory(seen: Evidence) -> Diagnosis | None:
    events = seen.events("out of memory")
    events += [event for event in seen.events("failed") if event["message"].startswith("out of memory")]
    if not events:
        return None
    asked, length = seen.settings["batch_size"], seen.settings["max_seq_len"]
    found = re.search(r"memory: (\d+) rows at once", events[-1]["message"])
    rows = int(found[1]) if found else 1
    together = asked * seen.settings["gradient_accumulation"]
    remedies = [Remedy("train", f"--batch-size {rows} --gradient-accumulation {together // rows}", "the same steps")]
    remedies += [Remedy("train", f"--max-seq-len {length // 2}", "rows of half the length need less than half")]
    remedies += _lighter(seen)
    told = f"out of memory {len(events)} times: {rows} rows of {length:,} ids went through at once, {asked} were asked"
    cause = "what a step keeps for its gradients grows with rows and their length; training went on with fewer rows"
    if not found:
        told, remedies = f"it ran out of memory with a single row of {length:,} ids", remedies[1:]
        cause = "what a step keeps for its gradients grows with the length of the row and the size of the model"
    return Diagnosis("out of memory", 1 if seen.facts["finished"] else 3, told, cause, tuple(remedies))


def _lighter(seen: Evidence) -> Iterator[Remedy]:
    """What takes less memory with the same rows."""
    if not seen.settings.get("base"):
        yield Remedy("train", "--base none --size 2m", "a smaller model")
    elif not seen.adapter:
        yield Remedy("train", "--adapter lora", "it keeps no optimizer state for the base")
    elif not seen.settings.get("load_in_4bit"):
        yield Remedy("train", "--load-in-4bit", "the base in a sixth of its memory")
    if not recomputes(seen.settings.get("training_args") or ()):
        why = "a row keeps a fifth, for half as much time again"
        yield Remedy("train", "--training-args gradient_checkpointing=true", why)


def diverging(seen: Evidence) -> Diagnosis | None:
    if not (events := seen.events("rollback")):
        return None
    rate, count = seen.settings["learning_rate"], len(events)
    went = events[-1].get("rate", rate / 2**count)
    if rate <= went:  # it was lowered since
        return None
    told = f"the loss jumped {count} times, at last: {events[-1]['message']}"
    cause = f"the learning rate of {rate:.3g} is too high for this music, or a file in it is broken"
    remedies = (
        Remedy("train", f"--learning-rate {went:.2g}", "the rate it went on with"),
        Remedy("train", "--warmup 0.1", "a longer rise"),
        Remedy("inspect", "", "what is odd in the files"),
    )
    return Diagnosis("diverging", 3 if count > 2 and not seen.facts["finished"] else 2, told, cause, remedies)


def stopped(seen: Evidence) -> Diagnosis | None:
    if seen.facts["finished"] or seen.running or not seen.log:
        return None
    last, end = seen.last, seen.events("stopped")
    goes_on = "goes on from the newest checkpoint"
    told_last = next((line for line in seen.log[::-1] if line.get("event") != COSTS), {})
    if told_last.get("event") == "failed":
        told = f"training ended at step {last:,} of {_planned(seen, last)}, with an error: {told_last['message']}"
        remedy = Remedy("train", "--resume", f"{goes_on}, once that is put right")
        return Diagnosis("failed", 3, told, "the error says it", (remedy,))
    signal = re.search(r" by (\w+)", end[-1]["message"]) if end else None
    by = signal[1] if signal else "the user" if end else "something that left no word"
    if end and end[-1]["step"] >= last:
        cause = "a signal asked for the end; the rate had not come down yet, so more is to be had"
        name = "stopped early"
    else:
        cause = (
            "the process was killed: by the system when it ran out of memory, by a power cut, or by an error it printed"
        )
        name, by = "killed", "nothing that was logged"
    told = f"training ended at step {last:,} of {_planned(seen, last)}, by {by}"
    return Diagnosis(name, 3, told, cause, (Remedy("train", "--resume", goes_on),))


def _planned(seen: Evidence, last: int) -> str:
    settings = seen.settings
    seconds = next((line["seconds"] for line in seen.log[::-1] if "seconds" in line), seen.facts.get("seconds", 0.0))
    if settings.get("max_minutes"):
        return f"a run of {settings['max_minutes']:g} minutes, after {seconds / 60:.1f}"
    if settings.get("max_steps") or not seen.epoch:
        return f"{settings.get('max_steps') or 'the run'}"
    return f"{round(last * settings['epochs'] / seen.epoch):,}"


def flat_loss(seen: Evidence) -> Diagnosis | None:
    """The training loss has not come down from where it began; or it stays at what counting ids would give."""
    if len(seen.steps) < FEW_STEPS or seen.adapter:
        return None
    fresh, rate, usual = not seen.settings.get("base"), seen.settings["learning_rate"], seen.usual_rate
    (start, _), (end, _), (fell, chance), (late, noise) = seen.loss(0), seen.loss(1), seen.fall(0, 1), seen.fall(0.5, 1)
    least = max(chance, STEEP * start if fresh else 0)
    counting = unigram(seen.rows) if fresh and seen.rows is not None else np.inf
    if fell > least and (late > noise or end < 0.98 * counting):
        return None
    told = f"the training loss went from {start:.3f} to {end:.3f} nats a token in {seen.last:,} steps"
    told += f"; a fall of {least:.3f} would count" if fell <= least else ""
    told += f"; counting ids alone gives {counting:.3f}" if np.isfinite(counting) else ""
    cause = f"the learning rate of {rate:.2g} is too high, or the music has nothing to learn"
    better = min(rate / 3, usual)
    if rate < SLOW * usual:
        cause, better = f"the learning rate of {rate:.2g} is too low; the preset has {usual:g}", usual
    remedies = (Remedy("train", f"--learning-rate {better:.2g}", ""), Remedy("inspect", "", "is the music sound?"))
    return Diagnosis("the loss does not fall", 3 if fresh else 2, told, cause, remedies)


def slow_adapter(seen: Evidence) -> Diagnosis | None:
    """Neither the training loss nor validation have moved, and the rate is far below that of the presets."""
    valid, rate, usual = seen.validations[:, 1], seen.settings["learning_rate"], seen.usual_rate
    if not seen.adapter or len(seen.steps) < FEW_STEPS or rate >= SLOW * usual:
        return None
    (start, _), (end, _), (fell, chance) = seen.loss(0), seen.loss(1), seen.fall(0, 1)
    fall = 1 - valid.min() / valid[0] if len(valid) > 1 else 0.0
    if fall > NOTHING or fell > max(chance, NOTHING * start):
        return None
    told = f"the training loss went from {start:.3f} to {end:.3f} nats a token in {seen.last:,} steps"
    told += f", validation fell by {fall:.1%}" if len(valid) > 1 else ""
    cause = f"a learning rate of {rate:.2g} hardly moves an adapter; --preset auto has {usual:g}"
    remedies = (
        Remedy("train", f"--learning-rate {usual:g}", "adapters want higher rates than whole weights"),
        Remedy("train", "--adapter none", "all weights instead"),
    )
    return Diagnosis("the adapter learns too slowly", 2, f"{told}; less than {NOTHING:.0%} is nothing", cause, remedies)


def no_better_than_base(seen: Evidence) -> Diagnosis | None:
    """No evaluation is better than the one before the first step, which is that of the base."""
    valid, rate = seen.validations, seen.settings["learning_rate"]
    later = valid[valid[:, 0] > 0]
    if not (seen.settings.get("base") and 0 < len(later) < len(valid)) or seen.last < FEW_STEPS:
        return None
    base, (at, low) = valid[0, 1], later[later[:, 1].argmin()]
    if low < (1 - SAME) * base or slow_adapter(seen) or flat_loss(seen):
        return None
    (start, _), (end, _), (fell, chance) = seen.loss(0), seen.loss(1), seen.fall(0, 1)
    told = (
        f"validation was {base:.3f} nats a {seen.unit} before the first step and at best {low:.3f} after it, at step "
    )
    told += f"{at:,.0f}; the training loss went from {start:.3f} to {end:.3f} nats a token"
    cause = f"the learning rate of {rate:.2g} is too high, or the base knows such music as well as it can"
    if fell > chance:
        cause = f"what it learns of your pieces at a rate of {rate:.2g} does not hold for those kept back"
    name = f"the {'adapter' if seen.adapter else 'run'} is no better than its base"
    return Diagnosis(name, 2, told, cause, tuple(_away_from_base(seen, rate)))


def _away_from_base(seen: Evidence, rate: float) -> Iterator[Remedy]:
    """What may make a run better than its base."""
    if not seen.events("plateau"):  # then it has tried lower ones
        yield Remedy("train", f"--learning-rate {rate / 4:.2g}", "smaller steps away from what the base knows")
    if seen.learned is None or not seen.learned.settings.get("augment"):
        yield AUGMENT
    if seen.adapter:
        yield Remedy("train", "--adapter none", "all weights instead")
    else:
        yield Remedy("train", "--adapter lora", "an adapter instead, which forgets less")
    yield Remedy("inspect", "", "more pieces help most: which files are usable")


def over_fitting(seen: Evidence) -> Diagnosis | None:
    """Validation rises again for two evaluations or more, while the training loss still falls."""
    valid = seen.validations
    if seen.facts.get("plateau") or len(valid) < 3 or (best := int(valid[:, 1].argmin())) > len(valid) - 3:
        return None
    (at, low), (last, now) = valid[best], valid[-1]
    if not at:  # it was never better than its base
        return None
    before = seen.steps[seen.steps[:, 0] <= at, 1][-max(len(seen.steps) // 10, 8) :].mean()
    after, _ = seen.loss(1)
    if now < (1 + RISE) * low or after >= before:
        return None
    told = f"validation was best at step {at:,.0f}, {low:.3f} nats a {seen.unit}, and is {now:.3f} at step {last:,.0f} "
    told += f"({now / low - 1:.0%} above), while the training loss fell from {before:.3f} to {after:.3f} nats a token"
    cause = "it learns the pieces by heart; the best checkpoint is what plays, what came after was time lost"
    shorter = Remedy("train", f"--max-steps {at:.0f}", "as long as it helped")
    return Diagnosis("over-fitting", 2, told, cause, (*_against_by_heart(seen), shorter))


def ended_by_itself(seen: Evidence) -> Diagnosis | None:
    if not (seen.facts.get("plateau") and (found := seen.events("plateau"))):
        return None
    cause = "more of these pieces taught it nothing that others have as well; it went back to its best, and that plays"
    remedies = (*_against_by_heart(seen), Remedy("inspect", "", "more pieces help most: which files are usable"))
    return Diagnosis("nothing better came", 1, found[-1]["message"], cause, remedies)


def _against_by_heart(seen: Evidence) -> Iterator[Remedy]:
    """What keeps a model from learning its pieces by heart."""
    if seen.learned is None or not seen.learned.settings.get("augment"):
        yield AUGMENT
    if seen.settings.get("base"):
        yield Remedy("train", "--adapter lora --lora-dropout 0.2", "fewer weights to remember with")
    elif seen.base:
        yield Remedy("train", f"--base {seen.base}", "begin with what others have written")


def too_short(seen: Evidence) -> Diagnosis | None:
    """The loss still fell steeply at the end, before the rate came down; or the run had hardly begun."""
    count, least = seen.last, max(FEW_STEPS, seen.settings["warmup"])
    remedies = (Remedy("train", seen.longer(), "twice as long"),)
    if not (seen.facts["finished"] and count) or seen.facts.get("plateau"):
        return None
    if count < least:
        told = f"{count} step{'s' * (count > 1)}; with fewer than {least:g} the rate has hardly risen"
        return Diagnosis("too short a training", 2, told, "there was no time to learn anything", remedies)
    curve, what = _late(seen, seen.validations), f"validation, nats a {seen.unit},"
    if len(curve) < 2:
        curve, what = _smoothed(seen), "the training loss, nats a token,"
    if len(curve) < 2 or over_fitting(seen) or flat_loss(seen):
        return None
    steps, level = np.log2(curve[:, 0]), curve[-1, 1]
    line = np.polyfit(steps, curve[:, 1], 1)
    if -line[0] < max(STEEP * level, 2 * (curve[:, 1] - np.polyval(line, steps)).std()):
        return None
    told = f"{what} still fell by {-line[0]:.3f} ({-line[0] / level:.0%}) for each doubling of the steps, to "
    told += f"{level:.3f} at step {curve[-1, 0]:,.0f}, before the rate came down; {STEEP:.0%} is steep"
    cause = "it ended while it was still learning" + (f", after {seen.epoch:.2f} epochs" if seen.epoch < 1 else "")
    return Diagnosis("too short a training", 1, told, cause, remedies)


def _late(seen: Evidence, rows: np.ndarray) -> np.ndarray:
    """Those rows (step, loss) that are of the second half of the run, at the full rate."""
    rows = seen.at_full_rate(rows)
    return rows[rows[:, 0] >= seen.last / 2]


def _smoothed(seen: Evidence) -> np.ndarray:
    """The late training losses in means of eight stretches: (8, 2), or none where they are few."""
    rows = _late(seen, seen.steps[:, :2])
    return np.array([part.mean(axis=0) for part in np.array_split(rows, 8)]) if len(rows) >= 64 else rows[:0]


def little_music(seen: Evidence) -> Diagnosis | None:
    if seen.learned is None or not seen.learned.own:
        return None
    files, minutes = len(seen.learned.own), sum(piece.seconds for piece in seen.learned.own) / 60
    left_out = Counter(row["reason"] for row in seen.learned.skipped)
    if files >= LITTLE_FILES and minutes >= LITTLE_MINUTES:
        return None
    told = f"{files} files, {minutes:.0f} minutes; a style wants {LITTLE_FILES} files and {LITTLE_MINUTES:.0f} minutes"
    cause, remedies = "there is little to learn the style from", []
    if sum(left_out.values()) > MOST_LEFT_OUT * (files + sum(left_out.values())):
        reason, count = left_out.most_common(1)[0]
        cause += f", and {sum(left_out.values())} files were left out, {count} of them for {LEFT_OUT[reason]}"
        remedies += _back_in(reason)
    if not seen.learned.settings.get("augment"):
        remedies.append(AUGMENT)
    if not seen.settings.get("base") and seen.base:
        remedies.append(Remedy("train", f"--base {seen.base}", "adapt what knows music already"))
    remedies.append(Remedy("inspect", "", "which files are usable; more of them help most"))
    return Diagnosis("too little data", 1 if seen.settings.get("base") else 2, told, cause, tuple(remedies))


def _back_in(reason: str) -> list[Remedy]:
    """How files that were left out for a reason come in after all."""
    if reason == "free time":
        return [Remedy("prepare", "--tokenizer performance", "takes music without bars")]
    if reason in get_args(Reason) and "duplicate" not in reason:
        return [Remedy("prepare", f"--keep {reason}", "takes them all the same")]
    return []


def nothing_to_validate(seen: Evidence) -> Diagnosis | None:
    if len(seen.validations) or seen.running or seen.last < FEW_STEPS or not seen.facts["finished"]:
        return None
    told = f"not one evaluation in {seen.last:,} steps; over-fitting cannot be seen, nor the best checkpoint found"
    remedy = Remedy("prepare", "--fractions 0.8,0.2", "a fifth for it, of two songs one")
    if seen.learned is not None and len({piece.song for piece in seen.learned.own}) == 1:
        remedy = Remedy("inspect", "", "another song is needed for it: which files are usable")
    return Diagnosis("nothing to validate with", 1, told, "the corpus has no validation split", (remedy,))


DIAGNOSES = (
    out_of_memory,
    stopped,
    diverging,
    flat_loss,
    slow_adapter,
    no_better_than_base,
    over_fitting,
    ended_by_itself,
    chords_ignored,
    too_random,
    too_repetitive,
    little_music,
    too_short,
    nothing_to_validate,
)
