"""What is usual in a corpus: the tempo and metre of takes that ask for none, and what the guard lets none go beyond."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ..music.chords import pitched
from ..music.parts import programs_of, sounding_parts
from ..music.score import PARTS, Score, ends_of
from ..tokenizers import Tokenizer
from .report import Finding
from .tasks import DENSITIES, PLAYED_LEVELS


def usual(findings: Sequence[Finding], tokenizer: Tokenizer) -> dict:
    """What is usual in the music of some files: what takes ask for that ask for nothing else, and never go beyond."""
    scores = [finding.score for finding in findings]
    return _asked(findings) | {
        "longest_note": _longest_note(scores),
        "pitches": _pitches(scores),
        "together": _together(scores, tokenizer),
        "ensembles": _ensembles(scores),
        "programs": _programs(scores),
    }


def _asked(findings: Sequence[Finding]) -> dict:
    """Head words, and bpm and metre if there are bars."""
    facts = [finding.facts for finding in findings]
    played = np.median([fact.velocities for fact in facts]) >= PLAYED_LEVELS
    density = int(np.searchsorted(DENSITIES, np.median([fact.notes_per_second for fact in facts])))
    usual = {"head": ["Played" if played else "Notated", f"Density_{density}"]}
    bound = [fact for fact in facts if not fact.free]
    if bound:
        metres = Counter(fact.metre for fact in bound)
        usual |= {"bpm": round(float(np.median([fact.bpm for fact in bound])), 1), "metre": metres.most_common(1)[0][0]}
    return usual


def _longest_note(scores: Sequence[Score]) -> float:
    """Seconds that 99 of 100 notes do not outlast: beyond, a key was rather forgotten than held."""
    lengths = []
    for score in scores:
        lengths.append(score.seconds(ends_of(score.notes)) - score.seconds(score.notes["onset"]))
    return round(float(np.quantile(np.concatenate(lengths), 0.99)), 2)


def _pitches(scores: Sequence[Score]) -> list[int]:
    """The range beyond which, above or below, 1 of 2,000 notes lies; drums have none."""
    notes = np.concatenate([pitched(score)["pitch"] for score in scores])
    return [int(pitch) for pitch in np.quantile(notes, [0.0005, 0.9995], method="nearest")] if len(notes) else [0, 127]


def _together(scores: Sequence[Score], tokenizer: Tokenizer) -> int:
    """Notes struck at one moment, as the tokens tell moments apart: only 1 moment of 2,000 has more; drums aside."""
    onsets = [pitched(tokenizer.quantize(score))["onset"] for score in scores]
    counts = np.concatenate([np.unique(times, return_counts=True)[1] for times in onsets])
    return int(np.quantile(counts, 0.9995, method="nearest")) if len(counts) else 128


def _ensembles(scores: Sequence[Score]) -> list[list[str]]:
    """The parts that play together in at least one piece of a hundred, the most usual first."""
    counts = Counter(map(sounding_parts, scores))
    return [list(parts) for parts, count in counts.most_common() if count >= len(scores) / 100]


def _programs(scores: Sequence[Score]) -> dict[str, int]:
    """The General MIDI program that plays each part in most pieces; drums have none."""
    counts: dict[str, Counter] = {part: Counter() for part in PARTS}
    for score in scores:
        for part, program in programs_of(score).items():
            counts[part][program] += 1
    return {part: found.most_common(1)[0][0] for part, found in counts.items() if found}
