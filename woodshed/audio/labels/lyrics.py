"""Lyrics as a model learns them: time stamps out, structure tags ([Verse 1], [Chorus]) kept.

    clean("[ar:Somebody]\\n[00:12.00][01:02.50]<00:12.00>La <00:12.80>la\\n")  ->  "La la\\nLa la"

Understood is what goes under the name of LRC (https://en.wikipedia.org/wiki/LRC_(file_format)): stamps as [mm:ss.xx],
[m:ss.x], [mm:ss] or [mm:ss:xx], several before a line that is sung several times, <mm:ss.xx> before each word, and
facts about the song like [ar:...] or [offset:...].
"""

from __future__ import annotations

import codecs
import re

_TIME = r"(\d{1,3}):(\d{1,2})(?:[.:](\d{1,3}))?"
_STAMP = re.compile(rf"(?:\[{_TIME}\]|<{_TIME}>)\Z")
LONGEST_STAMP = len("[000:00.000]")
MOST_TIMES = 50  # that a line is sung; further stamps say nothing
_LEADING = re.compile(rf"\s*\[{_TIME}\]")
_FACT = re.compile(r"\s*\[(ti|ar|al|au|lr|by|re|ve|length|offset|tool|#)\s*:[^\]]*\]\s*", re.IGNORECASE)


def decoded(data: bytes) -> str:
    """Text in UTF-8, or in UTF-16 where it begins by saying so. Raises UnicodeDecodeError."""
    return data.decode("utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig")


def clean(text: str) -> str:
    """Lyrics without LRC: no stamps, no facts about the song, no blanks at the ends of lines or of the text.

    A line with several stamps is sung that often: it and the others then stand in the order in which they are sung.
    Of several empty lines one stays. clean(clean(text)) == clean(text).
    """
    lines = text.lstrip("\ufeff").splitlines()
    again = any(len(_times(line)) > 1 for line in lines)
    bare = [line for line in (_as_sung(lines) if again else map(_without_stamps, lines)) if not _FACT.fullmatch(line)]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(bare)).strip("\n")


def _times(line: str) -> list[float]:
    """The seconds of the stamps that a line begins with."""
    found, at = [], 0
    while len(found) < MOST_TIMES and (stamp := _LEADING.match(line, at)):
        minutes, seconds, parts = stamp.groups()
        found.append(60 * int(minutes) + int(seconds) + float(f"0.{parts or 0}"))
        at = stamp.end()
    return found


def _as_sung(lines: list[str]) -> list[str]:
    """Each line without stamps, once for each that it had, in order of time; one that had none stays behind the one
    before it."""
    sung, last = [], 0.0
    for line in lines:
        times = _times(line) or [last]
        bare = _without_stamps(line)
        sung += [(time, bare) for time in times]
        last = times[0]
    return [line for _, line in sorted(sung, key=lambda entry: entry[0])]


def _without_stamps(line: str) -> str:
    """A line without stamps, and without what becomes one when another goes out of it: [0<0:00>0:00]."""
    kept: list[str] = []
    for letter in line:
        kept.append(letter)
        if letter in "]>" and (stamp := _STAMP.search("".join(kept[-LONGEST_STAMP:]))):
            del kept[-len(stamp[0]) :]
    return re.sub(r"[ \t]+", " ", "".join(kept)).strip()
