"""What a take has in common with the pieces that were learned, as it is told."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Match:
    """A stretch of a take that stands in a piece. Bars count from 1 in the corpus's own bars; None in free time."""

    path: str  # of the piece
    bar: int | None
    second: float
    take_bar: int | None
    take_second: float
    line: str  # of the take: highest, lowest, or a part
    notes: int  # equal ones along that line
    weight: float  # how many rare notes it is worth
    bars: float | None  # how long it is in the take
    seconds: float
    share: float  # of the take's time
    texture: float  # share of all the notes there that stand in the piece too
    semitones: int  # by which the take is higher
    tempo: float  # of the take over that of the piece, in notated time
    kept: bool = False  # whether the piece is itself a take, one that the musician kept

    def __str__(self) -> str:
        long = f"{self.seconds:.1f} s" if self.bars is None else f"{self.bars:.1f} bars"
        place, key = _place(self.bar, self.second), f", {self.semitones:+d} semitones" if self.semitones else ""
        told = f"{self.notes} notes, {long} from {_place(self.take_bar, self.take_second)} ({self.share:.0%} of it)"
        return f"{told} as in {'the kept take ' * self.kept}{self.path} {place}{key}"


def _place(bar: int | None, second: float) -> str:
    return f"{second:.1f} s" if bar is None else f"bar {bar}"


@dataclass(frozen=True)
class Repeats:
    """What a take has in common with the training pieces, beside what is usual for the musician."""

    matches: list[Match]  # best first
    usual: float | None  # None without held-out pieces
    base: str = ""  # what the run was adapted from, whose pieces nobody has here

    @property
    def weight(self) -> float:
        """Of the best match; 0 without one."""
        return self.matches[0].weight if self.matches else 0.0

    @property
    def flagged(self) -> bool:
        """Whether it repeats more than the musician does."""
        return self.usual is not None and self.weight > self.usual

    @property
    def unexamined(self) -> str:
        """That only the corpus was looked through, where the run has learned more than that."""
        told = f"originality is beside your pieces alone: those that the base {self.base} has learned were not examined"
        return told if self.base else ""

    def facts(self) -> dict:
        """For JSON."""
        told = {"weight": round(self.weight, 2), "usual": self.usual, "flagged": self.flagged}
        told |= {"unexamined_base": self.base or None}
        rows = [asdict(match) for match in self.matches]
        return told | {"matches": [{k: round(v, 3) if isinstance(v, float) else v for k, v in r.items()} for r in rows]}

    def __str__(self) -> str:
        longest = str(self.matches[0]) if self.matches else "nothing in common with any training piece"
        level = (
            "no held-out pieces to compare with" if self.usual is None else f"your own pieces: up to {self.usual:.1f}"
        )
        verdict = "NOT ORIGINAL: " if self.flagged else ""
        return f"{verdict}{longest}; it counts as {self.weight:.1f} rare notes ({level})"
