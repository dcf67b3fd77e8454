"""What can go wrong, in six classes.

    WoodshedError
    |- InputError     a value you gave cannot work        (the value, what is allowed, the flag)
    |- FileError      a file cannot be read or written    (the path, the reason)
    |- EmptyCorpus    nothing usable in the folder        (counts by reason)
    |- RunError       not a run, or made by something else (the path, what differs)
    `- MissingExtra   an optional package is not installed (the pip line)

The command line prints one line and exits 1, for a path that the system refuses as well. Anything else that is raised
is a bug and keeps its traceback.
"""

from __future__ import annotations


class WoodshedError(Exception):
    """Something the user can put right; the message says how."""


class InputError(WoodshedError):
    """A value the user gave cannot work."""


class _PathError(WoodshedError):
    def __init__(self, path, reason: str):
        self.path, self.reason = path, reason
        super().__init__(f"{path}: {reason}")


class FileError(_PathError):
    """A file cannot be read or written."""


class EmptyCorpus(WoodshedError):
    """A folder holds nothing to learn from."""


class RunError(_PathError):
    """A folder is not a run or a corpus of ours, or was made by something else."""


class MissingExtra(WoodshedError):
    """An optional package is not installed. It comes with an `extra` of ours, or with a `line` of its own."""

    def __init__(self, package: str, extra: str = "", *, line: str = ""):
        line = line or f"pip install 'woodshed[{extra}]'"
        super().__init__(f"{package} is not installed; it comes with: {line}")


def first_line(error: BaseException) -> str:
    """The first line of what an error of some library says, or its name where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
