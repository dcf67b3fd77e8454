"""Files are written whole or not at all."""

from __future__ import annotations

import dataclasses
import errno
import glob
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import FileError

DAY = 86_400.0  # seconds


def write_file(path: str | Path, data: bytes | str, *, new: bool = False) -> None:
    """Write bytes, or text as UTF-8: under a temporary name first, then renamed; see replacing(). Raises FileError.

    What UTF-8 cannot hold (bytes of a file's name that are no text) is escaped as JSON does it: \\udcff.
    """
    with replacing(path, new=new) as temporary:
        temporary.write_bytes(_encoded(data) if isinstance(data, str) else data)


def holds(path: Path, text: str) -> bool:
    """Whether a file still holds the text that write_file() wrote, untouched. Raises FileError."""
    with writing(path):
        return path.read_bytes() == _encoded(text)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def parsed(text: str | bytes) -> Any:
    """What JSON says. Raises ValueError for any other text, and for brackets within too many brackets."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("brackets in brackets, too deep to be read") from None


def read_object(path: str | Path) -> dict:
    """The JSON object in a file. Raises OSError for a file that cannot be read, ValueError for any other content."""
    return object_of(Path(path).read_text(encoding="utf-8"))


def object_of(text: str | bytes) -> dict:
    """The JSON object that a text is. Raises ValueError for any other."""
    found = parsed(text)
    if not isinstance(found, dict):
        raise ValueError(f"a {type(found).__name__}, not a JSON object")
    return found


def object_in(path: str | Path) -> dict:
    """The JSON object in a file; an empty one where there is none that can be read."""
    try:
        return read_object(path)
    except (OSError, ValueError):
        return {}


def write_object(path: str | Path, found: dict, *, new: bool = False) -> None:
    """Write a JSON object, as write_file() does."""
    write_file(path, json.dumps(found, indent=1, ensure_ascii=False) + "\n", new=new)


def unread(folder: Path, name: str, error: Exception) -> str:
    """Why `read_object` could not read the file of that name in a folder, in words."""
    if not folder.is_dir():
        return "a file, not a folder" if folder.exists() else "no such folder"
    return f"it has no {name}" if isinstance(error, FileNotFoundError) else f"its {name} cannot be read ({error})"


def strict_json(figures: Any) -> str:
    """Figures as JSON that any program reads: dataclasses as objects, what JSON has not as text, and null for NaN."""
    told = json.loads(json.dumps(figures, default=_plain), parse_constant=lambda nan: None)
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) else str(value)


@contextmanager
def replacing(path: str | Path, *, new: bool = False) -> Iterator[Path]:
    """A temporary path beside `path` to write to. It takes the place of `path`, or is gone where something fails.

    A file that is replaced keeps its mode; where `path` is a link, what it leads to is replaced, and the link stays.
    With `new` nothing is replaced: where something has the name by then, a FileError says where this lies instead.
    """
    target = Path(path if new else os.path.realpath(path))
    temporary = target.with_name(f".{secrets.token_hex(6)}.tmp")
    with writing(path):
        try:
            yield temporary
            _on_disk(temporary)
            if new:
                _take_name(temporary, target)
                return
            if target.exists():
                with suppress(PermissionError, NotImplementedError):  # disks that know no modes
                    shutil.copymode(target, temporary)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


def _take_name(temporary: Path, path: Path) -> None:
    """Give what is at `temporary` a name of its own. Where something has that already, it gets another one, and a
    FileError says which."""
    try:
        _link(temporary, path)
    except FileExistsError:
        beside = path.with_name(f"{path.stem}-{secrets.token_hex(3)}{path.suffix}")
        os.replace(temporary, beside)
        raise FileError(
            path, f"something has taken this name meanwhile, and stays; what was made is in {beside.name}"
        ) from None


def _link(temporary: Path, path: Path) -> None:
    """Take a name at once; on memory cards, which have no links, with an empty file first, which only one can."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        path.touch(exist_ok=False)
        try:
            os.replace(temporary, path)
        except OSError:
            path.unlink()
            raise


def _on_disk(path: Path) -> None:
    """Wait until a file is on the disk: one that is renamed before could be empty after a power cut."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # of disks that cannot tell
            raise
    finally:
        os.close(handle)


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Whatever keeps the block from writing (a full disk, a folder that is read-only) is a FileError of `path`."""
    try:
        yield
    except OSError as error:
        raise FileError(path, f"cannot be written: {error.strerror or error}") from None


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, where it is missing. Raises FileError."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[None]:
    """Makes a folder and those above it where they are missing, and removes those again if nothing comes into them."""
    if path.is_file():
        raise FileError(path, "a file, not a folder; choose another folder")
    made = [folder for folder in (path, *path.parents) if not os.path.exists(folder)]
    make_folder(path)
    with _unless_empty(made):
        yield


@contextmanager
def numbered_folder(parent: Path) -> Iterator[Path]:
    """Makes the next free number in a folder, 001, 002, ..., and removes it again if nothing comes into it."""
    with new_folder(parent), _unless_empty([folder := _next_number(parent)]):
        yield folder


def _next_number(parent: Path) -> Path:
    number = 1 + max((int(path.name) for path in parent.glob("*") if path.name.isdecimal()), default=0)
    with writing(parent):
        while True:
            try:
                (folder := parent / f"{number:03d}").mkdir(parents=True)
                return folder
            except FileExistsError:  # another process was quicker
                number += 1


@contextmanager
def _unless_empty(folders: list[Path]) -> Iterator[None]:
    """Removes those of the folders that are empty after the block."""
    try:
        yield
    finally:
        for folder in folders:
            with suppress(OSError):  # it is not empty, or gone
                folder.rmdir()


def shown(name: str) -> str:
    """A name, or a line that holds one, in characters that every file and screen can hold and none that move a cursor:
    bytes that are no text and control characters are escaped."""
    text = _encoded(name).decode()
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda found: f"\\x{ord(found[0]):02x}", text)


def quoted(word: str | Path) -> str:
    """A word of a command, such as a path, as it is typed: in quotes where it needs some."""
    return subprocess.list2cmdline([str(word)]) if sys.platform == "win32" else shlex.quote(str(word))


def visible(folder: Path) -> list[Path]:
    """What lies in a folder, but hidden files: macOS writes a .DS_Store, a kill leaves what `replacing` had begun."""
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


@contextmanager
def whole(folder: Path) -> Iterator[None]:
    """Removes the folder and all that is in it, unless the block comes to its end."""
    done = False
    try:
        yield
        done = True
    finally:
        if not done:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def built(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` to build it in: it takes its place, or is gone where something fails. What a kill
    left of ours a day ago or earlier goes too. Raises OSError."""
    for old in folder.parent.glob(f".{glob.escape(folder.name)}.{'[0-9a-f]' * 12}.tmp"):
        if time.time() - old.lstat().st_mtime > DAY:
            shutil.rmtree(old, ignore_errors=True)  # which removes no link
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}.tmp")
    temporary.mkdir(parents=True)
    with whole(temporary):
        yield temporary
        os.replace(temporary, folder)


def sha256_of(*paths: str | Path, begin: bytes = b"") -> str:
    """The sha256, in hex, of some bytes to begin with and all that files hold. Raises OSError."""
    digest = hashlib.sha256(begin)
    for path in paths:
        with open(path, "rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()


def seen_from(folder: str | Path, path: str | Path) -> str:
    """`path` relative to a folder, so that both can move together; absolute where they lie on different drives."""
    try:
        relative = Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return Path(path).absolute().as_posix()
    return relative if relative.startswith(".") else f"./{relative}"


def found_from(folder: str | Path, place: str) -> Path:
    """Where `place` is, which seen_from() has written down in a folder: where the folder's name is a link, `..`
    is what stands above that name, not above what it leads to."""
    return Path(os.path.normpath(Path(folder).absolute() / place))


def local(folder: str | Path, place: str) -> Path | None:
    """Where a folder is that seen_from() has written down in another; None of anything else, such as a Hugging Face
    id."""
    return found_from(folder, place) if place.startswith(".") or os.path.isabs(place) else None
