"""Settings are dataclasses: the fields are the flags of a verb and the keywords of its function."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from .errors import InputError, RunError

Settings = TypeVar("Settings")
MANY = 60  # names, more than are worth a line
PYTHONS = {"True": True, "False": False, "None": None}  # not so written in JSON


def updated(kind: type[Settings], settings: Settings | None, changes: dict) -> Settings:
    """`settings` (or the defaults of `kind`) with some fields changed; an unknown name is an InputError."""
    refuse_unknown(changes, kind, kind.__name__)
    return dataclasses.replace(settings if settings is not None else kind(), **changes)


def flag(name: str) -> str:
    """The flag of a field."""
    return f"--{name.replace('_', '-')}"


def refuse_not_positive(settings: Any, names: Collection[str]) -> None:
    """An InputError for a field of that name that is given, and is not a finite number above 0."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"{flag(name)} {value}: give more than 0, and a finite number")


def given(settings: Any) -> dict[str, Any]:
    """The fields that are not at their defaults."""
    unset = type(settings)()
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return {name: value for name, value in values.items() if value != getattr(unset, name)}


def continued(
    was: Settings, now: dict[str, Any], out: Path, *, free: Collection[str], limits: Collection[str], thing: str = "run"
) -> Settings:
    """The settings of a job that goes on in `out`: as they were, and what is given now of what is `free` to change.

    A new limit takes the place of all `limits`. What would make it another `thing` is a RunError that names the flag.
    """
    for name in now.keys() - set(free):
        if now[name] != getattr(was, name):
            reason = f"{flag(name)} was {getattr(was, name)}, now it is {now[name]}: that would be another {thing}"
            raise RunError(out, f"{reason}; leave it as it was, or choose another --out")
    if now.keys() & set(limits):
        now = dict.fromkeys(limits) | now
    return dataclasses.replace(was, **now)


def read_fields(
    words: tuple[str, ...], kind: type | None, flag: str, own: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """JSON objects and name=value words as one dict.

    Raises InputError for names that are no fields of `kind`, for words where these hold numbers, and for names that
    are set with a flag of their `own`.
    """
    values: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        try:
            values |= {name: _value(text)} if equals and not word.lstrip().startswith("{") else json.loads(word)
        except (ValueError, TypeError) as error:
            raise InputError(f"{flag} {word}: neither a JSON object nor name=value ({error})") from None
    if kind is not None:
        refuse_unknown(values, kind, f"{flag}: {kind.__name__}")
        refuse_words(values, kind, flag)
    for name in values.keys() & (own or {}).keys():
        raise InputError(f"{flag} {name}: set it with {own[name]}")
    return values


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        if re.fullmatch(r"[+-]?\d*\.?\d+(e[+-]?\d+)?", text):  # .5, which is no JSON
            return float(text)
        return PYTHONS.get(text, text)


def refuse_unknown(values: Collection[str], kind: type, owner: str) -> None:
    """An InputError for a name that is no field of the dataclass `kind`, which are the settings of `owner`."""
    known = sorted(item.name for item in dataclasses.fields(kind) if item.init)
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; choose from: {', '.join(known)}" if len(known) <= MANY else ""
            hint = f"; did you mean {near[0]!r}?" if near else hint
            raise InputError(f"{owner} has no setting {name!r}{hint}")


def refuse_words(values: Mapping[str, Any], kind: type, owner: str) -> None:
    """An InputError for text where a field of the dataclass `kind` holds a number, or true or false."""
    for item in dataclasses.fields(kind):
        holds = set(re.findall(r"\w+", item.type if isinstance(item.type, str) else str(item.type)))
        wordless = holds & {"int", "float", "bool"} and not holds & {"str", "Literal"}
        if wordless and isinstance(value := values.get(item.name), str):
            asked = "a number" if holds & {"int", "float"} else "true or false"
            raise InputError(f"{owner}: {item.name} is {value!r}; give {asked}")
