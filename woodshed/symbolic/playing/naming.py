"""File names that tell what is inside."""

from __future__ import annotations

import re
import unicodedata

MAX_STYLE, MAX_CHORDS = 24, 40  # letters: the whole stays below 128, well inside what any disk takes
UNSAFE = r"[^\w#+-]+"  # also what Windows forbids, and the dot, which would look like the beginning of a suffix


def stem(style: str, chart: str = "", *, seed: int, number: int, bpm: float | None = None) -> str:
    """The name of a take's files: `piano_Cmaj7-Am7-Dm7-G7_120bpm_seed7_take-1`.

    `chart` is a chord chart as `chords` takes it; repeats of a progression are left out, a long one is cut at a chord,
    and a slash becomes an underscore. Music without chords or tempo (free time) goes without that field.
    """
    fields = [_safe(style)[:MAX_STYLE] or "take", _chords(chart), "" if bpm is None else f"{bpm:.0f}bpm"]
    return "_".join([*filter(None, fields), f"seed{seed}", f"take-{number}"])


def _chords(chart: str) -> str:
    """The progression of a chart, without bar lines and without its repeats."""
    chords = [_safe(chord) for chord in chart.replace("|", " ").split() if chord != "%"]
    chords = chords[: next((n for n in range(1, len(chords)) if _repeats(chords, n)), len(chords))]
    chords = [chord for i, chord in enumerate(chords) if chord and (i == 0 or chord != chords[i - 1])]
    kept = [chord for i, chord in enumerate(chords) if len("-".join(chords[: i + 1])) <= MAX_CHORDS]
    return "-".join([*kept, *["etc"] * (len(kept) < len(chords))])


def _repeats(chords: list[str], period: int) -> bool:
    """Whether the chords go round every `period` of them."""
    return all(chord == chords[i % period] for i, chord in enumerate(chords))


def _safe(text: str) -> str:
    """Letters, digits, # and + of a text, for any file system."""
    text = re.sub(UNSAFE, "-", unicodedata.normalize("NFC", text).replace("/", "_"))
    return text.strip("-_")
