"""Compare: models side by side, each taught the same rows of the same corpus for as long; or runs that are there.

    compare("corpus", "compared", models="lstm,decoder", max_minutes=10) -> Comparison

Every model trains in a process of its own (alone.py) from nothing, with the same seed, rows, order of rows, threads and
minutes (or steps), in `out`/runs/MODEL-SIZE. A run that has finished is not trained again, one that has not is resumed.
Then all are asked the same (standing.py): how well they expect the same rows of a split, how fast they play on this
machine, and how like excerpts of that split their takes are, over the same chords with the same seeds.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np

from ... import __version__
from ...config import Allowed, check, flag, given, read_fields, updated
from ...errors import InputError, RunError, WoodshedError
from ...files import make_folder, new_folder, read_object, write_object
from ...jobs import claimed, find_device, free_threads, refuse_occupied, threads
from ...progress import Progress, Reporter, part, unheard
from .. import models
from ..data.corpus import Corpus, open_corpus
from ..learning.settings import ADAPTER, DEFAULTS, TrainSettings, resolve
from ..playing.excerpts import refuse_other_tokens
from ..playing.takes import Take
from ..run import FACTS, open_run, read_facts
from .alone import train_alone
from .evaluate import EvaluateSettings
from .standing import Questions, examined, questions, remarks

PLAN = "compare.json"  # in the folder of a comparison: what its models are trained with
DEFAULT_MINUTES = 10
TRAINING = 0.85  # the share of the work, for the progress
OWN_FLAGS = ("max_minutes", "max_steps", "max_seq_len", "seed", "size")
REFUSED = (*OWN_FLAGS, *sorted(ADAPTER), "load_in_4bit", "model", "base", "resume", "epochs", "run_name")


@dataclass(frozen=True)
class CompareSettings:
    """What to compare: models to train, or runs that are trained already."""

    models: str | None = None
    """Models to train, each from nothing and for the same time: decoder, lstm, music_gpt2, music_transformer; write
    lstm,decoder for two of them. decoder:2m has a size of its own."""
    runs: tuple[Path, ...] = ()
    """Finished runs (or base models) to compare instead."""
    size: str = DEFAULTS["size"]
    """The size of every model, by its parameters."""
    max_minutes: float | None = None
    """Minutes of training for each model (10 by default)."""
    max_steps: int | None = None
    """Instead of minutes: the same number of steps, and so of ids, for each model."""
    max_seq_len: int = DEFAULTS["max_seq_len"]
    """Ids in a row."""
    train_args: tuple[str, ...] = ()
    """Any other setting of woodshed train, for all models, as JSON or name=value: learning_rate=3e-4."""
    split: str | None = None
    """The pieces that the models are asked about; by default test, or validation where there is no test."""
    takes: Annotated[int, Allowed(1)] = EvaluateSettings.takes
    """How many takes each plays, to be measured."""
    bars: int | None = None
    """How long takes and excerpts are, in bars (32 by default)."""
    seconds: int | None = None
    """How long takes and excerpts are where the tokens know no bars (60 by default)."""
    seed: int = 0
    """Seeds the weights, the order of the rows and the first take."""


class Entry(NamedTuple):
    """One row of the comparison."""

    name: str
    folder: Path  # of its run
    training: dict  # fields of TrainSettings; empty where the run is there already


@dataclass(frozen=True)
class Comparison:
    """What was found: `facts` for JSON, its rows from the best on; and the first take of each run, by name."""

    facts: dict
    takes: dict[str, Take] = field(repr=False)


def compare(
    corpus: Corpus | str | Path,
    out: str | Path,
    settings: CompareSettings | None = None,
    *,
    report: Reporter = unheard,
    **changes,
) -> Comparison:
    """Train models alike in the folder `out` and compare them, or compare runs.

    Settings may be given as keywords; `report` hears the Progress. A model that cannot be trained loses only its own
    row, which tells the reason. After Ctrl-C the same call goes on. The page is not written: `compare_page.save` does.
    Raises InputError for settings that cannot work and where no model could be trained, RunError for runs whose tokens
    are not the corpus's.
    """
    settings = make_settings(settings, changes)
    corpus = open_corpus(corpus)
    playing = {name: getattr(settings, name) for name in ("takes", "bars", "seconds", "seed")}
    asked, failed = questions(corpus, settings.split, **playing), {}
    if settings.runs:
        entries, plan, begin = named_runs(settings.runs), {"threads": free_threads()}, 0.0
        for entry in entries:
            refuse_other_tokens(open_run(entry.folder), corpus)
    else:
        with new_folder(out := Path(out)), claimed(out):
            (entries, plan), begin = planned(corpus, out, settings), TRAINING
            failed = _trained(corpus, entries, part(report, 0, TRAINING))
    sound = [entry for entry in entries if entry.name not in failed]
    return _compared(corpus, sound, failed, asked, plan, part(report, begin, 1))


def make_settings(settings: CompareSettings | None, changes: dict) -> CompareSettings:
    """Settings with changes, checked."""
    settings = updated(CompareSettings, settings, changes)
    check(settings)
    if bool(settings.models) == bool(settings.runs):
        found = "both are given" if settings.runs else f"the models are {', '.join(models.names())}"
        raise InputError(f"give either --models to train or --runs that are trained already; {found}")
    told = given(settings).keys() & {"size", "max_minutes", "max_steps", "max_seq_len", "train_args"}
    if settings.runs and told:
        raise InputError(f"{flag(min(told))} is for models to train; the runs are trained already, leave it out")
    if settings.max_minutes is not None and settings.max_steps is not None:
        asked = f"--max-minutes {settings.max_minutes:g} and --max-steps {settings.max_steps}"
        raise InputError(f"{asked}: as long for all or as many ids for all; give one of them")
    return settings


# --- which runs ------------------------------------------------------------------------------------------------


def named_runs(folders: tuple[Path, ...]) -> list[Entry]:
    """Finished runs by the names of their folders, or by their paths where two names are alike."""
    folders = [Path(folder) for folder in folders]
    if len({folder.resolve() for folder in folders}) < max(2, len(folders)):
        raise InputError(f"--runs {' '.join(map(str, folders))}: give two or more, each once")
    names = [folder.name or str(folder) for folder in folders]
    names = [folder.as_posix() if names.count(name) > 1 else name for folder, name in zip(folders, names, strict=True)]
    return [Entry(name, folder, {}) for name, folder in zip(names, folders, strict=True)]


def planned(corpus: Corpus, out: Path, settings: CompareSettings) -> tuple[list[Entry], dict]:
    """The models to train in the folder `out`, with all they are trained with, and what of that they have in common.

    Raises InputError for what no model can be trained with, and for a folder that holds something else.
    """
    kinds = [_kind(word.strip(), settings.size) for word in settings.models.split(",") if word.strip()]
    if len(set(kinds)) < max(2, len(kinds)):
        raise InputError(f"--models {settings.models}: give two or more, each once")
    common = _plan_of(out, {"corpus": corpus.fingerprint, "training": _common(settings)})
    runs = [(f"{model}-{size}", {"model": model, "size": size}) for model, size in kinds]
    return [Entry(name, out / "runs" / name, common | own) for name, own in runs], common


def _kind(word: str, size: str) -> tuple[str, str]:
    """ "decoder:2m" as model and size. Whether the model has that size, its own row will say."""
    model, _, own = word.partition(":")
    if model not in models.names():
        raise InputError(f"--models {word}: unknown model; choose from: {', '.join(models.names())}")
    if not (own or size).isalnum():
        raise InputError(f"--models {word}: a size is a word such as {DEFAULTS['size']}")
    return model, own or size


def _common(settings: CompareSettings) -> dict:
    """What every model is trained with: fields of TrainSettings, checked."""
    more = read_fields(settings.train_args, TrainSettings, "--train-args")
    for name in more.keys() & set(REFUSED):
        remedy = f"set it with {flag(name)}" if name in OWN_FLAGS else "every model is new, and trained for as long"
        raise InputError(f"--train-args {name}: {remedy}")
    several = [name for name, value in asdict(TrainSettings()).items() if isinstance(value, tuple)]
    more = {name: (v,) if name in several and isinstance(v, str) else v for name, v in more.items()}
    limits = {"max_minutes": settings.max_minutes, "max_steps": settings.max_steps}
    if settings.max_minutes is settings.max_steps is None:
        limits["max_minutes"] = DEFAULT_MINUTES
    common = {"max_seq_len": settings.max_seq_len, "seed": settings.seed, "patience": 0} | limits | more
    try:
        resolve(TrainSettings(base=None, **common))
    except TypeError as error:
        raise InputError(f"--train-args {' '.join(settings.train_args)}: {error}") from None
    return {"base": "none", "threads": None} | common


def _plan_of(out: Path, plan: dict) -> dict:
    """What the models in `out` are trained with: as planned in an empty folder, else as it says there if that is alike.

    Threads are counted once, so that every model has as many, and those that are resumed too.
    """
    path, plan = out / PLAN, json.loads(json.dumps(plan))
    if path.exists():
        before = _plan_there(out, plan["corpus"])
        now = plan["training"] | {"threads": plan["training"]["threads"] or before.get("threads")}
        for name in dict.fromkeys([*now, *before]):
            if before.get(name) != now.get(name):
                told = f"with {flag(name)} {before.get(name)}, now it is {now.get(name)}"
                raise InputError(f"--out {out} holds a comparison {told}; leave it as it was, or choose another folder")
        return before
    refuse_occupied(out)
    plan["training"]["threads"] = plan["training"]["threads"] or free_threads()
    write_object(path, {"woodshed": __version__} | plan)
    return plan["training"]


def _plan_there(out: Path, corpus: str) -> dict:
    """What the models of an earlier comparison on this corpus are trained with."""
    try:
        there = read_object(out / PLAN)
        known, training = there["corpus"], dict(there["training"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"--out {out}: its {PLAN} cannot be read ({error}); choose another folder") from None
    if known != corpus:
        raise InputError(f"--out {out} holds a comparison on corpus {known}, this is {corpus}; choose another folder")
    return training


# --- training --------------------------------------------------------------------------------------------------


def _trained(corpus: Corpus, entries: list[Entry], report: Reporter) -> dict[str, str]:
    """Train what has not finished, one after another; the reasons of those that failed, by name."""
    failed = {}
    for number, entry in enumerate(entries):
        if _finished(entry.folder):
            continue
        make_folder(entry.folder.parent)
        own = part(report, number / len(entries), (number + 1) / len(entries), entry.name)
        there = (entry.folder / FACTS).exists()  # with its settings
        asked = ({} if there else entry.training) | {"resume": there}
        errors = entry.folder.with_name(f"{entry.name}.txt")
        try:
            train_alone(corpus.folder, entry.folder, asked, report=own, errors=errors)
            if not _finished(entry.folder):
                raise RunError(entry.folder, "it was stopped before its end; the same command goes on")
        except RunError as trouble:
            failed[entry.name] = trouble.reason
            own(Progress(message=trouble.reason))
        except KeyboardInterrupt:
            own(Progress(message="stopped; the same command goes on from what is saved"))
            raise
    return failed


def _finished(folder: Path) -> bool:
    return (folder / FACTS).exists() and bool(read_facts(folder)["finished"])


# --- comparing -------------------------------------------------------------------------------------------------


def _compared(
    corpus: Corpus, entries: list[Entry], failed: dict[str, str], asked: Questions, plan: dict, report: Reporter
) -> Comparison:
    """Ask every run, and put the best first."""
    runs = {entry.name: open_run(entry.folder) for entry in entries}
    length = min((run.row_length for run in runs.values()), default=1)
    rows, found, takes = corpus.evaluation_rows(asked.settings.split, length) if runs else [], [], {}
    for number, (name, run) in enumerate(runs.items()):
        own = part(report, number / len(runs), (number + 1) / len(runs), name)
        try:
            with threads(plan["threads"]):
                row, takes[name] = examined(run, corpus, rows, asked, own)
        except WoodshedError as trouble:
            failed[name] = str(trouble)
        else:
            found.append({"name": name} | row)
    if not found:
        raise InputError("nothing to compare: " + "; ".join(f"{name}: {reason}" for name, reason in failed.items()))
    found.sort(key=lambda row: row["likelihood"]["nats_per_note"] or np.inf)
    facts = {"woodshed": __version__, "corpus": corpus.folder.name, "fingerprint": corpus.fingerprint}
    facts |= {"tokenizer": corpus.tokenizer.name, "max_seq_len": length, "plan": plan, "device": find_device()}
    facts |= {"split": asked.settings.split, "takes": asked.settings.takes, "seed": asked.settings.seed}
    facts |= {"unit": "bars" if corpus.tokenizer.needs_bars else "seconds", "length": asked.length}
    pieces = len({excerpt.piece for excerpt in asked.excerpts})
    facts |= {"excerpts": len(asked.excerpts), "pieces": pieces, "remarks": remarks(found, asked.settings.split)}
    report(Progress(1.0))
    return Comparison(facts | {"rows": found, "failed": failed}, takes)
