"""Recordings are listened to once, however often a training goes on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..errors import FileError
from ..files import read_object, seen_from, write_object
from .wave import Heard, digest_of, listen


class Listener:
    """Listens to the recordings of a folder, to each only once: what it heard is kept in a JSON file elsewhere.

        listener = Listener("recordings", "my-run/heard.json", channels=2)
        listener.listen(path), listener.digest(path)       as listen() and digest_of(), or as it was when last heard
        listener.save()

    A recording is heard again where its size, the time of its last change or `channels`, with which it was heard, are
    others. A file that is not whole is begun anew; recordings that cannot be read are not in it.
    """

    def __init__(self, folder: str | Path, file: str | Path, *, channels: int | None = None):
        self.folder, self.file, self.channels = Path(folder), Path(file), channels
        self.known, self.learned = _read_known(self.file), False  # whether there is more than in the file

    def listen(self, path: Path) -> Heard:
        known = self._known(path)
        if known.heard is None or self.channels not in (None, known.heard.channels):
            known.heard, self.learned = listen(path, self.channels), True
        return known.heard

    def digest(self, path: Path) -> str:
        known = self._known(path)
        if not known.digest:
            known.digest, self.learned = digest_of(path), True
        return known.digest

    def save(self) -> None:
        """Write the file where there is something new. Raises FileError."""
        if not self.learned:
            return
        known = {name: asdict(one) for name, one in self.known.items() if one.heard}
        for one in known.values():
            if not np.isfinite(one["heard"]["loudness"]):
                one["heard"]["loudness"] = None  # JSON has no infinity
        write_object(self.file, known)

    def _known(self, path: Path) -> _Known:
        """What is known of a recording as it is now: nothing yet where it is new, or changed."""
        name = seen_from(self.file.parent, path)  # two folders may hold files of one name
        try:
            facts = path.stat()
        except OSError as error:
            raise FileError(path, f"cannot be read: {error.strerror or error}") from None
        now, known = (facts.st_size, facts.st_mtime_ns), self.known.get(name)
        if known is None or (known.size, known.changed) != now:
            known = self.known[name] = _Known(*now)
        return known


@dataclass
class _Known:
    """What a Listener knows of a recording, as long as these are its size in bytes and its last change in ns."""

    size: int
    changed: int
    heard: Heard | None = None
    digest: str = ""


def _read_known(file: Path) -> dict[str, _Known]:
    try:
        return {name: _Known(**one | {"heard": _heard(**one["heard"])}) for name, one in read_object(file).items()}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _heard(*, loudness: float | None, **facts) -> Heard:
    return Heard(**facts, loudness=-np.inf if loudness is None else loudness)
