"""What can be wrong with how a run plays: its takes beside excerpts of the corpus that are as long as they are.

How random or repetitive music may be is its own affair; constants are left only for how much of a difference counts.
"""

from __future__ import annotations

import numpy as np

from .diagnosis import Diagnosis, Remedy
from .evidence import Evidence, values

IGNORED_SHARE = 1 / 3  # of what real music gains in adherence by its own chords
FEWEST_TAKES = 3
# Where takes lie that are too random, seen from real music: -1 below, 1 above. Too repetitive is the other side.
RANDOM_SIDE = {
    "recurrence": -1,
    "repeated_figures": -1,
    "repeated_bars": -1,
    "groove_consistency": -1,
    "scale_consistency": -1,
    "pitch_class_entropy": 1,
}


def chords_ignored(seen: Evidence) -> Diagnosis | None:
    """Takes keep to the chords they were asked for hardly better than to those chords in another order."""
    gains, real = (values(rows, "adherence_gain") for rows in (seen.takes, seen.real))
    if len(gains) < FEWEST_TAKES or not len(real):
        return None
    gain, usual = float(np.median(gains)), float(np.median(real))
    if usual <= 0 or gain >= IGNORED_SHARE * usual:
        return None
    inside, rotated = (np.median(values(seen.takes, f"{name}_adherence")) for name in ("chord", "rotated"))
    told = (
        f"{len(gains)} takes are {inside:.2f} in the chord and {rotated:.2f} in rotated chords, a gain of {gain:.2f}; "
    )
    told += f"real music gains {usual:.2f}"
    cause = "the notes before tell the harmony as well, so that a model looks at the chords late"
    remedies = [Remedy("train", seen.longer(), "it comes with more steps")]
    if not seen.settings.get("base") and seen.base:
        remedies.append(Remedy("train", f"--base {seen.base}", "a base that follows its chords"))
    remedies.append(Remedy("prepare", "--chords recognise", "chords from the notes, if the files' own are wrong"))
    return Diagnosis("the chords are ignored", 2, told, cause, tuple(remedies))


def too_random(seen: Evidence) -> Diagnosis | None:
    votes = _votes(seen, 1)
    if not votes:
        return None
    heat = _heat(seen)
    cause = f"at temperature {heat:g} unlikely notes are drawn too often, or it has not learned enough"
    remedies = (
        Remedy("generate", f"--temperature {max(0.8 * heat, 0.1):.2g} --top-p 0.9", "safer"),
        Remedy("train", seen.longer(), "what it does not know it plays at random"),
    )
    return Diagnosis("too random", 2, _told(seen, votes), cause, remedies)


def too_repetitive(seen: Evidence) -> Diagnosis | None:
    votes = _votes(seen, -1)
    if not votes:
        return None
    heat = _heat(seen)
    cause = f"at temperature {heat:g} the likeliest note is taken too often, and it leads back to itself"
    remedies = [Remedy("generate", f"--temperature {max(1.25 * heat, 1.0):.2g} --top-p 0.98", "wilder")]
    if seen.corpus is None or not seen.corpus.settings.get("augment"):
        remedies.append(Remedy("prepare", "--augment", "more music, in all keys"))
    return Diagnosis("too repetitive", 2, _told(seen, votes), cause, tuple(remedies))


def _votes(seen: Evidence, side: int) -> dict[str, tuple[float, float, float]]:
    """The measures that say so: the takes' median, and the 5th and 95th percentile of real music.

    Nothing where fewer than two say it, or as many say the opposite.
    """
    found: dict[int, dict] = {1: {}, -1: {}}
    for name, way in RANDOM_SIDE.items():
        takes, real = values(seen.takes, name), values(seen.real, name)
        if len(takes) < FEWEST_TAKES or not len(real):
            continue
        middle, (low, high) = float(np.median(takes)), np.percentile(real, [5, 95]).tolist()
        if middle < low or middle > high:
            found[way if middle > high else -way][name] = middle, low, high
    return found[side] if len(found[side]) >= 2 and len(found[side]) > len(found[-side]) else {}


def _heat(seen: Evidence) -> float:
    return float(np.median(values(seen.takes, "temperature")))


def _told(seen: Evidence, votes: dict[str, tuple[float, float, float]]) -> str:
    some = [
        f"{name.replace('_', ' ')} {at:.2f} (real {low:.2f} to {high:.2f})" for name, (at, low, high) in votes.items()
    ]
    return f"{len(seen.takes)} takes, their median beside {len(seen.real)} excerpts of real music: {', '.join(some)}"
