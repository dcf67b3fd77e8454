"""What may follow what: the plan of a stretch that is to be written, and the state of one take that keeps to it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..music.score import PARTS, Score

if TYPE_CHECKING:
    from . import Tokenizer


@dataclass(frozen=True)
class Plan:
    """What is already decided about a stretch that is to be written; the clock holds the model to it.

    `score` carries tempo, metre and chords, and the notes of the `given` parts; [start, end) is in its ticks. The ids
    count down to `last`, the tick at which the piece ends; None leaves the end open. `ring` lets notes sound past
    `end`; otherwise none does. Without `chords` the score's chords are only what came before: the model goes on with
    chords of its own. `only` are the parts that may be written; by default all that are not given.
    """

    score: Score
    start: int
    end: int
    given: tuple[str, ...] = ()
    last: int | None = None
    ring: bool = True
    chords: bool = True
    only: tuple[str, ...] = ()

    @property
    def laid_out(self) -> Score:
        """The score with its chords where they bind, else without."""
        return self.score if self.chords else self.score.replace(chords=())

    @property
    def writable(self) -> np.ndarray:
        """(PARTS,) bool: the parts that may be written."""
        return np.array([part in self.only if self.only else part not in self.given for part in PARTS])


class Grammar(ABC):
    """Which ids may follow, for one take: a state that eats ids, with the clock of the music in it.

    The plan's chords, bars and given notes are not sampled but put in when their time comes: `forced` names the next
    id where it is already decided, and `push` may answer a sampled id with another one (a time shift that would jump
    over a chord becomes the shift up to the chord).
    """

    done = False
    passes: np.ndarray | None = None  # (vocab_size,) bool: ids by which time goes on, where it has ids of its own
    ids: list[int]  # all that has entered the stream
    lines: list[int]  # where in `ids` each bar (in free time, each second or two) began; the first is 0

    @property
    @abstractmethod
    def share(self) -> float:
        """How much of the plan is written, 0 to 1."""

    @property
    @abstractmethod
    def forced(self) -> int | None:
        """The next id, where there is no choice; else None."""

    @abstractmethod
    def allowed(self) -> np.ndarray:
        """(vocab_size,) bool: the ids that may come next. Never empty before `done`."""

    @abstractmethod
    def push(self, token: int) -> int:
        """Take one id, sampled or forced, and answer the id that really enters the stream."""

    @abstractmethod
    def window(self, keep: int) -> list[int]:
        """About the last `keep` ids, cut at a bar line and made whole, for a context that the stream has outgrown."""


class NoteGrammar(Grammar):
    """A grammar that knows the notes it has taken in: what harmony and guard listen to. Times are steps of its clock,
    from the plan's start.
    """

    keys: int  # the id that strikes pitch 0; those of the other pitches follow
    releases: int | None = None  # the id that lifts pitch 0, where notes are ended by ids of their own
    part_words: int  # the id of the first part
    strikes: np.ndarray  # (vocab_size,) bool: ids that strike a key of the part in force, or that one has to follow
    leaves: np.ndarray  # (vocab_size,) bool: ids after which no more notes come at this moment
    leads: tuple[str, ...]  # parts whose notes may stand before the bass of their moment
    parts: np.ndarray  # (PARTS,) bool: which are to be written
    part: int  # the one in force, an index into PARTS
    notes: list[list[int]]  # onset, end (-1 while the key is down), pitch and part of every note written so far
    held: list[list[int]]  # those of them that sound now
    times: list[int]  # where each of `lines` stands
    end: int  # where the plan ends
    header: list[int]  # ids that the plan has to say now, before the model may speak
    queue: list[int]  # ids that follow without a choice, such as a chord after its position, or what closes the take

    def __init__(self, tokenizer: Tokenizer, plan: Plan):
        self.made_from = tokenizer, plan
        self.parts, self.ring, self.own_chords = plan.writable, plan.ring, not len(plan.laid_out.chords)
        self.ids, self.notes, self.lines, self.times, self.header, self.queue = ([] for _ in range(6))

    @property
    def forced(self) -> int | None:
        return (self.header or self.queue or [None])[0]

    @property
    @abstractmethod
    def now(self) -> int:
        """Where the clock stands."""

    @property
    @abstractmethod
    def ringing(self) -> list[list[int]]:
        """The rows of the notes whose length the next id decides."""

    @property
    @abstractmethod
    def waits(self) -> int:
        """The id by which time goes on to what the plan says next, or to its end."""

    @abstractmethod
    def stands(self) -> np.ndarray:
        """(vocab_size,) int: the step at which time stands after each id; -1 after ids by which none passes."""

    @abstractmethod
    def late(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """(vocab_size,) bool twice: ids that let `ringing` sound past a step, and the id that ends it there."""

    @abstractmethod
    def steps(self, ticks: np.ndarray) -> np.ndarray:
        """Ticks of the plan's score in steps."""

    @abstractmethod
    def seconds(self, steps: np.ndarray) -> np.ndarray:
        """Steps in seconds."""

    def rewound(self, count: int) -> NoteGrammar:
        """A grammar of the same plan that has taken in only the first `count` ids."""
        again = type(self)(*self.made_from)
        for token in self.ids[:count]:
            again.push(token)
        return again
