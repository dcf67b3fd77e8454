"""The style critic: how much a stretch of music is like the musician's pieces and unlike what a model plays by itself.

    critic = keep_critic(run, corpus)       # minutes of playing and listening; kept in the run's folder
    critic = open_critic(run)               # None where there is none, or the run has learned since
    critic.logits(hidden)                   # above 0: rather one of the musician's pieces than a take

It is a logistic regression on mean and spread of the last hidden states of the run's base, which learned from other
music and so knows none of these pieces by heart; for a run without a base, of its own. Positive are excerpts of the
training pieces, negative are takes over their chords: of the base, which plays in nobody's style, and of the run. Its
accuracy is that on validation pieces and on takes over their chords that it was not made with (as Lopez-Paz and Oquab
2017, "Revisiting classifier two-sample tests"): at chance, takes cannot be told from the musician's pieces, and it is
not asked.

Takes that the musician kept, where the corpus has some, are training pieces like the others, and so positive: they are
what the musician likes, which the other takes need not be. What the critic is worth is told by validation pieces, among
which there are none.

With it the spread of the excerpts in every measure is stored, which ranking compares takes with: the corpus may be gone
by then. Without a critic and a corpus to make one from `unlearned` judges: by what is usual in real music, in those
measures that tell styles apart the least.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import EmptyCorpus, InputError, RunError
from ...files import make_folder, parsed, write_file
from ...jobs import find_device, free_threads, threads
from ...progress import Progress, Reporter, unheard
from ...statistics import evenly
from .. import run as runs
from ..data.corpus import Corpus, open_corpus
from ..music.chords import recognise
from ..music.measure import MEASURES, measure
from ..music.score import Score
from ..run import Run, base_run, open_run
from ..tokenizers import BOS
from .excerpts import TOGETHER, play, refuse_other_tokens, windows

FILE = Path("critic") / "critic.safetensors"  # a folder of its own: a run's digest is over all weights beside run.json
FORMAT = 3
BARS, SECONDS = 8, 20  # of an excerpt
PIECES = 64  # of a split that excerpts are cut from, at most
MEASURED = 200  # excerpts whose measures are taken, at most
LEARNED, HEARD = 160, 20  # excerpts of training and of validation pieces that a model listens to, at most
TAKES, FRESH = 32, 12  # to learn from, of the base and of the run each; and of the run, to be tried on
FEWEST = 6  # pieces to learn from
L2 = 0.1
SOLVING = 50  # steps of Newton's method, at most
NATS, LOGIT = "nats_per_note", "critic"
NAMES = (*MEASURES, NATS, LOGIT)
USUAL = {  # the middle two thirds of 400 excerpts that `piano` learned; equal bars and rests are in hardly any
    "chord_adherence": (0.84, 0.94),
    "strong_beat_adherence": (0.82, 0.97),
    "bass_adherence": (0.71, 1.0),
    "recurrence": (0.13, 0.36),
    "repeated_bars": (1, 2),
    "self_similarity_1": (0.05, 0.21),
    "self_similarity_2": (0.04, 0.21),
    "self_similarity_4": (0.04, 0.27),
    "empty_bars": (0, 0.125),
    "scale_consistency": (0.91, 1.0),
    "pitch_class_entropy": (2.56, 2.95),
}


@dataclass(frozen=True)
class Classifier:
    """A logistic regression on standardised features of width D."""

    mean: np.ndarray  # (D,)
    scale: np.ndarray  # (D,)
    weights: np.ndarray  # (D,)
    bias: np.ndarray  # (1,)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(N, D) to (N,)."""
        return (features - self.mean) / self.scale @ self.weights + self.bias[0]


@dataclass(frozen=True)
class Critic:
    """What is known of the musician's excerpts: how they spread in every measure, and how to tell them from takes.

    `excerpts` holds NAMES of each excerpt (N, M), NaN where one was not measured. `classifier` is None where there were
    too few pieces. `facts` say with what it was made and how well it tells held-out pieces from takes.
    """

    excerpts: np.ndarray
    classifier: Classifier | None
    facts: dict

    @property
    def length(self) -> int:
        """Bars of an excerpt, or seconds where the tokens know no bars."""
        return self.facts["length"]

    @property
    def learned(self) -> bool:
        """Whether it was made from a corpus."""
        return self.facts["corpus"] is not None

    @property
    def judges(self) -> bool:
        """Whether it tells the musician's pieces from takes, as far as that is known."""
        return self.classifier is not None and (self.facts["auc"] is None or self.facts["auc"] > 0.5)

    def __str__(self) -> str:
        facts = self.facts
        if not self.learned:
            told = (
                "style critic: none, and no corpus to make one from; chords, bass, scales, returning bars and rests are"
            )
            return f"{told} judged beside real piano music. By your pieces: woodshed rank RUN FOLDER --corpus CORPUS"
        made = f"{facts['excerpts']} excerpts of {facts['pieces']} pieces"
        if self.classifier is None:
            few = f"{facts['pieces']} pieces to learn from are too few, it takes {FEWEST}"
            return f"style critic: none, {few if facts['pieces'] < FEWEST else 'no take had a note'}; {made}"
        counts = f"{made}, {facts['takes']} takes"
        if facts["accuracy"] is None:
            return f"style critic: made of {counts}; no validation pieces to try it on"
        verdict = "" if self.judges else "; it cannot tell them, and is not asked"
        told = f"accuracy {facts['accuracy']:.2f}, AUC {facts['auc']:.2f} on held-out pieces"
        return f"style critic: {told} ({counts}){verdict}"

    def save(self, path: str | Path) -> None:
        """Write it to a safetensors file, the facts in its header. An older one is replaced; raises FileError."""
        from safetensors.numpy import save

        tensors = {"excerpts": self.excerpts} | (vars(self.classifier) if self.classifier else {})
        write_file(path, save(tensors, metadata={"woodshed": json.dumps(self.facts)}))


def open_critic(run: Run) -> Critic | None:
    """The critic of a run; None where there is none of these very weights, or of the measures that this version takes.

    Raises RunError for a damaged file, and for one that was made with other tokens.
    """
    from safetensors import SafetensorError, safe_open

    path = _file(run)
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="np") as file:
            facts = parsed(file.metadata()["woodshed"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        made = (facts["format"], tuple(facts["names"]), facts["tokenizer"], facts.get("weights"))
        excerpts = tensors.pop("excerpts")
        classifier = Classifier(**tensors) if tensors else None
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(path, f"no critic ({error}); remove it and make it again with --corpus") from None
    if made[:2] != (FORMAT, NAMES):
        return None
    if made[2] != run.tokenizer.fingerprint:
        raise RunError(path, "it was made for another run; remove it and make it again with --corpus")
    return Critic(excerpts, classifier, facts) if made[3] == runs.weights_digest(run.weights) else None


def _file(run: Run) -> Path:
    """Where the critic of a run is kept; that of one of its checkpoints beside it, under the name of that."""
    return run.place / (FILE if run.weights == run.folder else FILE.with_stem(run.weights.name))


def unlearned(run: Run) -> Critic:
    """What judges the takes of a run that has no critic, nor a corpus to make one from."""
    edges = np.array([USUAL.get(name, (np.nan, np.nan)) for name in NAMES], dtype=np.float32).T
    facts = {"names": NAMES, "corpus": None, "length": _length(run), "excerpts": 0, "pieces": 0, "auc": None}
    return Critic(np.repeat(edges, 2, axis=0), None, facts)


# --- making it -------------------------------------------------------------------------------------------------


def make_critic(
    run: Run | str | Path,
    corpus: Corpus | str | Path,
    *,
    length: int | None = None,
    takes: int = TAKES,
    seed: int = 0,
    device: str = "auto",
    report: Reporter = unheard,
) -> Critic:
    """Make the critic of a run from the corpus it has learned; `Critic.save` keeps it, `keep_critic` in the run.

    Excerpts have `length` bars (seconds where the tokens know none). So many `takes` are played of the base, as many of
    the run, and a few over chords of validation pieces to try it on. Same seed and version, same critic.
    Raises RunError for a run of other tokens than the corpus, EmptyCorpus without a training piece.
    """
    run = open_run(run)
    corpus = open_corpus(corpus)
    refuse_other_tokens(run, corpus)
    if takes < 1:
        raise InputError(f"takes {takes}: choose 1 or more")
    length = length or _length(run)
    train, pieces = _excerpts(corpus, "train", length)
    held, held_pieces = _excerpts(corpus, "validation", length)
    if not train:
        raise EmptyCorpus(f"{corpus.folder}: no training piece with notes to make a critic from")
    excerpts = _measured([*train, *held])
    facts = {"format": FORMAT, "names": NAMES, "tokenizer": run.tokenizer.fingerprint, "corpus": corpus.fingerprint}
    facts |= {"length": length, "excerpts": len(excerpts), "pieces": pieces, "held_out_pieces": held_pieces}
    facts |= {"weights": runs.weights_digest(run.weights), "seed": seed, "takes": 0, "accuracy": None, "auc": None}
    charts = evenly(range(len(train)), 2 * -(-takes // TOGETHER))
    learned = sorted({*charts, *evenly(range(len(train)), LEARNED)})
    heard = _unlearned(learned, len(train), len(held), held_pieces)
    with threads(free_threads()):
        ears = Ears(run, device)
        hidden, excerpts[heard, NAMES.index(NATS)] = ears.hear([[*train, *held][place] for place in heard])
        report(Progress(0.2, "making the critic"))
        if pieces < FEWEST:
            return Critic(excerpts, None, facts)
        over = [train[place] for place in charts]
        ours, fresh = _played(run, over, held, length, takes=takes, seed=seed, device=device, report=report)
        if not ours:
            return Critic(excerpts, None, facts)
        asked = ([train[place] for place in learned], ours, fresh)
        real, ours, fresh = (ears.hear(scores, nats=False)[0] for scores in asked)
    classifier = fit(real, ours)
    logits = excerpts[heard, NAMES.index(LOGIT)] = classifier.logits(hidden)
    facts["takes"] = len(ours)
    if len(fresh):
        one, other = logits[np.array(heard) >= len(train)], classifier.logits(fresh)
        facts |= {"accuracy": accuracy(one, other), "auc": auc(one, other), "fresh_takes": len(fresh)}
    return Critic(excerpts, classifier, facts)


def _length(run: Run) -> int:
    return BARS if run.tokenizer.needs_bars else SECONDS


def _measured(music: list[Score]) -> np.ndarray:
    """NAMES of each excerpt (N, M); NaN for what is to be heard by a model."""
    rows = [measure(score) for score in music]
    return np.array([[row.get(name, np.nan) for name in NAMES] for row in rows], dtype=np.float32)


def _played(
    run: Run,
    train: list[Score],
    held: list[Score],
    length: int,
    *,
    takes: int,
    seed: int,
    device: str,
    report: Reporter,
) -> tuple[list[Score], list[Score]]:
    """Excerpts of takes to learn from, of the base and of the run over those of training pieces; and to try the critic
    on, of the run over those held out, if there are.
    """
    few = min(takes, FRESH)
    sessions = (
        (base_run(run) or run, train[0::2], takes),
        (run, train[1::2] or train, takes),
        (run, evenly(held, few), few),
    )
    heard = []
    for number, (player, over, count) in enumerate(sessions):
        asked = {"takes": count, "seed": seed + 10_000 * number, "device": device}
        made = play(player, over, length, **asked) if over else []
        heard.append(windows([take.score for take in made], run.tokenizer, length))
        report(Progress(0.4 + 0.2 * number, "making the critic"))
    return heard[0] + heard[1], heard[2]


def keep_critic(run: Run, corpus: Corpus | str | Path, **options) -> Critic:
    """Make the critic of a run and keep it in the run's folder. A FileError where it cannot be written."""
    critic = make_critic(run, corpus, **options)
    path = _file(run)
    make_folder(path.parent)
    critic.save(path)
    return critic


def _excerpts(corpus: Corpus, split: str, length: int) -> tuple[list[Score], int]:
    """Excerpts evenly spread over a split, and how many pieces the split has."""
    numbers = corpus.split(split)
    pieces = map(corpus.score, evenly(numbers, PIECES))
    return evenly(windows(pieces, corpus.tokenizer, length), MEASURED), len(numbers)


def _unlearned(learned: list[int], train: int, held: int, held_pieces: int) -> list[int]:
    """The places of excerpts that a model listens to but does not learn from, `train` of training pieces before `held`:
    those held out, and where these are of few pieces some of the others too.
    """
    places = evenly(range(train, train + held), HEARD)
    others = [place for place in range(train) if place not in {*learned}] or [*range(train * (not held))]
    if held_pieces >= FEWEST:
        return places
    return evenly(others, max(HEARD - len(places), HEARD // 4)) + places


# --- what a model makes of excerpts ----------------------------------------------------------------------------


class Ears:
    """The models that listen to excerpts for a run: its base (hidden states), and itself (likelihood)."""

    def __init__(self, run: Run, device: str = "auto"):
        self.run, self.tokenizer, self.context = run, run.tokenizer, run.row_length
        device = find_device(device, apple=True)
        self.model = run.model(merge=True, device=device)
        self.base = self.model
        if run.facts["base"]:
            folder = runs.own_base(run.folder, run.facts)
            self.base = runs.load_base(folder, run.tokenizer, device=device)

    def hear(self, scores: Sequence[Score], *, nats: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """What the base makes of scores, (N, 2 * width): mean and spread of its last hidden states. And nats per note
        under the run (N,), NaN where not asked for.
        """
        hidden, spent = [], []
        for score in scores:
            ids = self._ids(score)
            part = ids[: self.context]
            state, cost = _listen(self.base, part)
            if nats and self.base is not self.model:
                cost = _listen(self.model, part)[1]
            hidden.append(state)
            spent.append(cost / max(len(score.notes) * len(part) / len(ids), 1) if nats else np.nan)
        return np.array(hidden), np.array(spent)

    def _ids(self, score: Score) -> np.ndarray:
        if self.run.knows_chords and not len(score.chords):
            score = score.replace(chords=recognise(score))  # as the pieces of the corpus have them
        body = self.tokenizer.body(score, 0, self.tokenizer.end(score))
        return np.array([BOS, *body.ids.tolist()])


def _listen(model, ids: np.ndarray) -> tuple[np.ndarray, float]:
    """Mean and standard deviation of the last hidden state over ids after the first, (2 * width,) float64, and what
    these ids cost in nats."""
    import torch

    row = torch.as_tensor(ids[None], device=model.device)
    with torch.inference_mode():
        heard = model(input_ids=row, output_hidden_states=True)
        nats = torch.nn.functional.cross_entropy(heard.logits[0, :-1].float(), row[0, 1:], reduction="sum")
    states = heard.hidden_states[-1][0, 1:].cpu().double()  # Apple's GPUs have no float64
    return torch.cat([states.mean(dim=0), states.std(dim=0, correction=0)]).numpy(), float(nats)


# --- the classifier --------------------------------------------------------------------------------------------


def fit(real: np.ndarray, others: np.ndarray) -> Classifier:
    """The logistic regression that tells `real` (N, D) from `others` (M, D), both sides of the same weight.

    Minimises mean loss + L2 / 2 |weights|^2 on standardised features, by Newton's method: no chance in it. A feature
    that never changes gets no weight.
    """
    features = np.concatenate([real, others]).astype(np.float64)
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-9 * np.maximum(np.abs(mean), 1), scale, np.inf)
    x = np.column_stack([(features - mean) / scale, np.ones(len(features))])
    y = np.repeat([1.0, 0.0], [len(real), len(others)])
    share = np.repeat([0.5 / len(real), 0.5 / len(others)], [len(real), len(others)])
    penalty = np.append(np.full(x.shape[1] - 1, L2), 1e-9)  # hardly any on the bias
    w = np.zeros(x.shape[1])
    for _ in range(SOLVING):
        p = sigmoid(x @ w)
        gradient = x.T @ (share * (p - y)) + penalty * w
        curvature = (x.T * (share * np.maximum(p * (1 - p), 1e-6))) @ x + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        w -= step
        if np.abs(step).max() < 1e-8:
            break
    return Classifier(mean, scale, w[:-1], w[-1:])


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(np.asarray(logits) / 2))


def accuracy(real: np.ndarray, others: np.ndarray) -> float:
    """The mean of the shares of logits on the right side of 0: (N,) of real excerpts above, (M,) of others below."""
    return float(((real > 0).mean() + (others <= 0).mean()) / 2)


def auc(real: np.ndarray, others: np.ndarray) -> float:
    """How often a real excerpt has the greater logit than another, ties by half: 0.5 at chance, 1 at best."""
    return float(np.mean((np.sign(real[:, None] - others[None, :]) + 1) / 2))
