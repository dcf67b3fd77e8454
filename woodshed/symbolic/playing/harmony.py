"""Notes held to the chords while they are written: what chord and clock ask of the next id.

The rules, where the plan has chords:

- On a strong beat (measure.strong_beats) only tones of its chord are struck, all that the chord names; and what rings
  on from before it belongs to the chord too, or ends there.
- Where the chord changes, its root (or the bass after the slash) is the lowest note of all that sound.
- Where it has none (N.C.), the parts that carry chords are silent.
- Everything else is free: notes in passing keep the music alive.

"strict" forbids what breaks a rule, "guided" makes it less likely, "free" lets all be. Where a rule has another id to
offer, that one inherits the probability: a note that would ring too long ends on the beat, and a moment that would pass
without its bass gets it. So the model is not left to choose among ids it never meant.

A bass after a slash and the silence of N.C. are asked for by name, and strict where it is guided. The last bar of an
ending is strict in every mode. On its last chord only tones of it are struck, over its bass, and all of them sound to
the end; after its middle nothing is struck.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..music.chords import TONES, merged
from ..music.measure import NEAR, strong_beats
from ..music.score import DRUMS, PARTS
from ..tokenizers import NoteGrammar, Plan

BIAS = 1.0  # nats by which guided harmony makes a wrong note less likely
KEPT = {"free": 1.0, "guided": float(np.exp(-BIAS)), "strict": 0.0}  # what is left of the odds of a wrong note
CARRYING = ("bass", "accompaniment", "left", "other")  # the parts that may have the bass
CARRIERS = np.isin(PARTS, CARRYING)
INNER = 33  # below this pitch (A1) only the bass is struck at a change, so that there is always room for it beneath
AHEAD = 128  # strong beats that a note may ring over
PITCHES = np.arange(128)
NEVER = 1 << 60  # a step


class Rule(NamedTuple):
    """Ids that break it, those that have their probability instead, and whether it is strict in every mode."""

    wrong: np.ndarray
    instead: np.ndarray | None = None
    strict: bool = False


class Harmony:
    """The chords of a plan as rules for the ids of one tokenizer. It keeps no state: all of it is in the grammar.

    `closing` is the tick at which the last bar of an ending begins. `told` is whether somebody wrote the chords: those
    that were only heard in a file ask for neither a bass nor silence.
    """

    def __init__(
        self, plan: Plan, grammar: NoteGrammar, mode: str = "strict", closing: int | None = None, *, told: bool = True
    ):
        self.kept, score = KEPT[mode], plan.laid_out
        beats, held = strong_beats(score, score.chords, plan.end)
        here = beats >= plan.start
        beats, held, near = beats[here], held[here], NEAR * score.ticks_per_quarter
        self.low, self.step, self.high = (grammar.steps(beats + by) for by in (-near, 0, near))
        changes = merged(score.chords)["tick"].astype(np.int64)
        self.closes, self.last, self.latest = np.zeros(len(beats), dtype=bool), NEVER, NEVER
        if closing is not None:
            last = max([closing, *changes[changes < plan.end].tolist()])
            self.closes = (beats >= last) & (held["root"] >= 0)
            self.last = self.low[self.closes].min(initial=NEVER)
            self.latest = int(grammar.steps(max(last, (closing + plan.end) // 2) + near))
            changes = np.append(changes, last)
        self.change = np.isin(beats, changes) & (held["root"] >= 0)
        self.bass = held["bass"].astype(np.int64)
        self.named = (held["bass"] != held["root"]) & told & (mode != "free")
        self.silent = (held["root"] < 0) & told & (mode != "free")
        self.fits = _fitting(held, self.change)
        self.carriers = CARRIERS & grammar.parts

    def __call__(self, grammar: NoteGrammar, logits: np.ndarray, allowed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Logits and mask (V,) of the next id, as the rules leave them. At least one id is always left."""
        for rule in self._rules(grammar, allowed):
            logits, allowed = self._weighed(logits, allowed, rule)
        return logits, allowed

    def _weighed(self, logits: np.ndarray, allowed: np.ndarray, rule: Rule) -> tuple[np.ndarray, np.ndarray]:
        """One rule applied; a rule that would leave no id, or has no heirs to name, is skipped."""
        wrong, right, kept = allowed & rule.wrong, allowed & ~rule.wrong, 0.0 if rule.strict else self.kept
        heirs = right if rule.instead is None else right & rule.instead
        if kept == 1 or not wrong.any() or not heirs.any():
            return logits, allowed
        logits = logits.astype(np.float64)
        if rule.instead is not None:
            own, freed = np.logaddexp.reduce(logits[heirs]), np.logaddexp.reduce(logits[wrong]) + np.log1p(-kept)
            logits[heirs] += np.logaddexp(own, freed) - own
        if kept:
            logits[wrong] += np.log(kept)
            return logits, allowed
        return logits, right

    def _rules(self, grammar: NoteGrammar, allowed: np.ndarray) -> Iterator[Rule]:
        yield from self._ringing(grammar)
        if self.latest < NEVER:
            yield from self._ending(grammar, allowed)
        now, striking = grammar.now, slice(grammar.keys, grammar.keys + 128)
        beat = int(np.searchsorted(self.low, now, side="right")) - 1
        if self.silent.any():
            yield from self._tacet(grammar, allowed, beat)
        if beat < 0:
            return
        strict = bool(self.closes[beat])
        if (now <= self.high[beat] or strict) and grammar.part != DRUMS and allowed[striking].any():
            yield Rule(_ids(allowed, striking, ~self.fits[beat]), strict=strict)
        changes = np.flatnonzero(self.change[: beat + 1])
        if len(changes) and self.carriers.any():
            yield from self._bass(grammar, allowed, int(changes[-1]))

    def _ringing(self, grammar: NoteGrammar) -> Iterator[Rule]:
        """What rings belongs to the chord of every strong beat it sounds over, or ends there; before the last chord
        of an ending it ends in any case."""
        ringing = [(onset, pitch, part) for onset, _, pitch, part in grammar.ringing if part != DRUMS]
        if not ringing:
            return
        onsets, pitches, parts = np.transpose(ringing)
        side = "right" if grammar.releases is None else "left"
        first = int(np.searchsorted(self.step, grammar.now, side=side))
        clash = ~self.fits[first : first + AHEAD, pitches]
        clash |= self.closes[first : first + AHEAD, None] & (onsets < self.last)
        clash |= self.silent[first : first + AHEAD, None] & CARRIERS[parts]
        beats = np.flatnonzero(clash.any(axis=1))
        firm = self.closes | self.silent
        for beat in (*beats[:1], *beats[firm[first + beats]][:1]):
            strict = bool(firm[first + beat])
            if self.step[first + beat] > grammar.now:
                yield Rule(*grammar.late(int(self.step[first + beat])), strict)
                continue
            ends = np.zeros(len(grammar.leaves), dtype=bool)
            ends[grammar.releases + pitches[clash[beat]]] = True
            yield Rule(~ends, ends, strict)

    def _tacet(self, grammar: NoteGrammar, allowed: np.ndarray, beat: int) -> Iterator[Rule]:
        """Without a chord only the parts that lead play, and drums; where none of them is to be written, none does."""
        if not (grammar.parts & ~CARRIERS).any():
            waits, stands = np.arange(len(allowed)) == grammar.waits, grammar.stands()
            where = np.searchsorted(self.low, stands, side="right") - 1
            yield Rule((stands >= 0) & (where >= 0) & self.silent[where] & ~waits, waits, strict=True)
        if beat >= 0 and self.silent[beat]:
            wrong = grammar.strikes & CARRIERS[grammar.part]
            wrong[grammar.part_words :][: len(PARTS)] = CARRIERS
            yield Rule(wrong, grammar.leaves if (grammar.leaves & allowed).any() else None, strict=True)

    def _ending(self, grammar: NoteGrammar, allowed: np.ndarray) -> Iterator[Rule]:
        """After its middle nothing is struck in the last bar; what is struck on its last chord sounds to the end."""
        waits = np.arange(len(allowed)) == grammar.waits
        over = grammar.now > self.latest
        yield Rule(~waits & (over | (grammar.stands() > self.latest)), waits, strict=True)
        held = [row for row in grammar.ringing if row[0] >= self.last and row[3] != DRUMS]
        if held and grammar.releases is None:
            _, last = grammar.late(grammar.end)
            yield Rule(~last, last, strict=True)
        elif held:
            lifts = np.isin(np.arange(len(allowed)) - grammar.releases, [pitch for _, _, pitch, _ in held])
            yield Rule(lifts, strict=True)

    def _bass(self, grammar: NoteGrammar, allowed: np.ndarray, beat: int) -> Iterator[Rule]:
        """The lowest note at the change is the bass; the moment is not left without it."""
        now, bass, striking = grammar.now, int(self.bass[beat]), slice(grammar.keys, grammar.keys + 128)
        before, struck = self._sounding(grammar, beat)
        if now < self.step[beat] or now > self._until(now, before, struck, beat):
            return
        lowest = min(before + [pitch for _, pitch in struck], default=128)
        strict, part = bool(self.closes[beat] or self.named[beat]), PARTS[grammar.part]
        deeper = (lowest > PITCHES) & (bass == PITCHES % 12)
        if lowest < 128 and lowest % 12 == bass:
            yield Rule(_ids(allowed, striking, (lowest > PITCHES) & ~deeper & (part != "drums")), strict=strict)
            if grammar.releases is not None and lowest in before:  # it stays until the moment is over
                lifts = slice(grammar.releases, grammar.releases + 128)
                yield Rule(_ids(allowed, lifts, lowest == PITCHES), strict=strict)
            return
        if part != "drums":
            leading = part in grammar.leads and PITCHES >= INNER
            yield Rule(_ids(allowed, striking, ~(leading | (deeper & self.carriers[grammar.part]))), strict=strict)
        words = slice(grammar.part_words, grammar.part_words + len(PARTS))
        fit = self.carriers | np.isin(PARTS, (*grammar.leads, "drums"))
        yield Rule(_ids(allowed, words, ~fit), strict=strict)
        if lowest < 128 or self.closes[beat]:
            paying = _ids(allowed, words, self.carriers)
            paying[striking] = deeper & self.carriers[grammar.part]
            yield Rule(grammar.leaves, paying if (paying & allowed).any() else ~grammar.leaves, strict)

    def _sounding(self, grammar: NoteGrammar, beat: int) -> tuple[list[int], list[tuple[int, int]]]:
        """The pitches that ring on from before a change, and the onsets and pitches of what was struck since."""
        low, high, struck = self.low[beat], self.high[beat], []
        for onset, _, pitch, part in reversed(grammar.notes):
            if onset < low:
                break
            if part != DRUMS:
                struck.append((onset, pitch))
        before = [
            pitch
            for onset, end, pitch, part in grammar.held
            if onset < low and (end < 0 or end > high) and part != DRUMS
        ]
        return before, struck

    def _until(self, now: int, before: list, struck: list, beat: int) -> int:
        """The last step of the moment at which a change gets its bass: about the change, or where music sets in; on
        the last chord of an ending all that is struck."""
        if self.closes[beat]:
            return self.latest
        step, high = int(self.step[beat]), int(self.high[beat])
        first = min((onset for onset, _ in struck), default=now)
        return high if before or first <= high else first + high - step


def _ids(like: np.ndarray, where: slice, mask: np.ndarray) -> np.ndarray:
    """A mask of all ids that is `mask` in a slice and False elsewhere."""
    ids = np.zeros(len(like), dtype=bool)
    ids[where] = mask
    return ids


def _fitting(chords: np.ndarray, change: np.ndarray) -> np.ndarray:
    """(B, 128) bool: the pitches that may sound on strong beats with these chords; all of them without a chord."""
    root, bass = (chords[name].astype(np.int64)[:, None] for name in ("root", "bass"))
    tones = TONES[chords["quality"][:, None], (PITCHES - root) % 12] | (bass == PITCHES % 12) | (root < 0)
    return tones & (~change[:, None] | (PITCHES >= INNER) | (bass == PITCHES % 12))
