"""Settings are dataclasses: the fields are the flags of a verb and the keywords of its function.

The type of a field says what it may be: `takes: Annotated[int, Allowed(1, 1000)] = 5`, `kind: Literal["lora", "ia3"]`.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import InputError, RunError
from .files import read_object

Settings = TypeVar("Settings")
MANY = 60  # names, more than are worth a line
FORMS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
FORMS |= {Path: "the path of a file", tuple: "a list"}
TAKEN = {int: Integral, float: Real, str: (str, PathLike), Path: (str, PathLike), tuple: (tuple, list)}
PYTHONS = {"True": True, "False": False, "None": None}  # not so written in JSON


def updated(kind: type[Settings], settings: Settings | None, changes: dict) -> Settings:
    """`settings` (or the defaults of `kind`) with some fields changed; an unknown name is an InputError."""
    refuse_unknown(changes, kind, kind.__name__)
    return dataclasses.replace(settings if settings is not None else kind(), **changes)


def read_preset(name: str, folder: Path, kind: type, *, unnamed: str = "") -> dict[str, Any]:
    """The settings of a preset: one of those in `folder`, or a JSON file; null says nothing. An InputError for one that
    cannot be read, which tells all but those that begin with `unnamed`, and for what is no setting of `kind`."""
    shipped = {path.stem: path for path in folder.glob("*.json")}
    try:
        preset = {key: value for key, value in read_object(shipped.get(name, Path(name))).items() if value is not None}
    except (OSError, ValueError) as error:
        choice = ", ".join(sorted(stem for stem in shipped if not (unnamed and stem.startswith(unnamed))))
        raise InputError(f"--preset {name}: {error}; choose from {choice}, or give a JSON file of settings") from None
    refuse_unknown(preset, kind, f"--preset {name}: {kind.__name__}")
    refuse_unfit(preset, kind, f"--preset {name}")
    return tuples(preset)


def with_rate(preset: dict[str, Any], name: str, case: str) -> dict[str, Any]:
    """The settings of a preset with the learning rate for a case, where it has one for each."""
    if isinstance(rates := preset.get("learning_rate"), dict):
        if case not in rates:
            raise InputError(f"--preset {name}: its learning_rate says nothing of {case!r}; add it there")
        preset = preset | {"learning_rate": rates[case]}
    return preset


def tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings out of JSON, where tuples have become lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def flag(name: str) -> str:
    """The flag of a field."""
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True)
class Allowed:
    """The finite numbers that a field may be."""

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    hint: str = ""

    def __contains__(self, value: Any) -> bool:
        enough = (self.least is None or value >= self.least) and (self.above is None or value > self.above)
        little = (self.most is None or value <= self.most) and (self.below is None or value < self.below)
        return enough and little and math.isfinite(value)

    def told(self, value: Any) -> str:
        """What to give instead of a value."""
        told = f"{self.least} or more" if self.above is None else f"more than {self.above}"
        told += "" if self.most is None else f", at most {self.most}"
        told += "" if self.below is None else f", less than {self.below}"
        told = told if None in (self.least, self.most) else f"{self.least} to {self.most}"
        told += ", and a finite number" * (not math.isfinite(value))
        return f"give {told}{self.hint and f'; {self.hint}'}"


class _Listed(tuple):
    """The values of a Literal."""

    def told(self, value: Any) -> str:
        return f"choose from {', '.join(map(str, self))}"


Rule = Allowed | _Listed

Number = TypeVar("Number", int, float)
Positive = Annotated[Number, Allowed(above=0)]
NotNegative = Annotated[Number, Allowed(0)]
Share = Annotated[float, Allowed(0, 1)]
ShareBelowOne = Annotated[float, Allowed(0, below=1)]
Seed = Annotated[int, Allowed(0, 2**32 - 1)]


def check(settings: Any) -> None:
    """An InputError for the first field that is not what its type allows."""
    for name, kinds in allowed(type(settings)).items():
        value = getattr(settings, name)
        if told := _instead(kinds, value):
            raise InputError(f"{flag(name)} {value!r}: {told}")


@cache
def allowed(settings: type) -> dict[str, list[tuple[type, Rule | None]]]:
    """What each field of a dataclass may be: of which kinds, and which values of each."""
    hints = get_type_hints(settings, include_extras=True)
    return {field.name: list(_kinds(hints[field.name])) for field in dataclasses.fields(settings)}


def _kinds(hint: Any, rule: Rule | None = None) -> Iterator[tuple[type, Rule | None]]:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        yield from _kinds(parts[0], next((item for item in hint.__metadata__ if isinstance(item, Allowed)), rule))
    elif origin in (Union, UnionType):
        for part in parts:
            yield from _kinds(part, rule)
    elif origin is Literal:
        yield type(parts[0]), rule or _Listed(parts)
    else:
        yield origin or hint, rule


def _instead(kinds: list[tuple[type, Rule | None]], value: Any) -> str:
    """What to give instead of a value; nothing where it fits."""
    fitting = [rule for kind, rule in kinds if isinstance(rule, _Listed) or _is(kind, value)]
    if any(rule is None or value in rule for rule in fitting):
        return ""
    if fitting:
        return fitting[0].told(value)
    forms = [FORMS.get(kind, f"a {kind.__name__}") for kind, _ in kinds if kind is not NoneType]
    return f"give {' or '.join(forms)}"


def _is(kind: type, value: Any) -> bool:
    """Whether a value can stand for one of a kind; to Python true and false are numbers too."""
    return isinstance(value, TAKEN.get(kind, kind)) and (kind is bool or not isinstance(value, bool))


def given(settings: Any) -> dict[str, Any]:
    """The fields that are not at their defaults."""
    unset = type(settings)()
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return {name: value for name, value in values.items() if value != getattr(unset, name)}


def restored(kind: type[Settings], saved: dict[str, Any], out: Path) -> Settings:
    """The settings that were saved with a job in `out`. A RunError names those that `kind` does not know."""
    if unknown := sorted(saved.keys() - {field.name for field in dataclasses.fields(kind)}):
        told = f"its settings {', '.join(unknown)} are of another version of Woodshed"
        raise RunError(out, f"{told}; go on with the version that trained it")
    return kind(**tuples(saved))


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
    words: tuple[str, ...], kind: type | None, owner: str, own: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """JSON objects and name=value words as one dict: the value of the flag `owner`.

    Raises InputError for names that are no fields of `kind`, for words where these hold numbers, and for names that
    are set with a flag of their `own`.
    """
    values: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        try:
            values |= {name: _value(text)} if equals and not word.lstrip().startswith("{") else json.loads(word)
        except (ValueError, TypeError) as error:
            raise InputError(f"{owner} {word}: neither a JSON object nor name=value ({error})") from None
    if kind is not None:
        refuse_unknown(values, kind, f"{owner}: {kind.__name__}")
        refuse_words(values, kind, owner)
    for name in values.keys() & (own or {}).keys():
        raise InputError(f"{owner} {name}: set it with {own[name]}")
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
    try:
        hints = get_type_hints(kind)
    except NameError:  # of classes of others
        hints = {}
    for item in dataclasses.fields(kind):
        holds = set(re.findall(r"\w+", str(hints.get(item.name, item.type))))
        wordless = holds & {"int", "float", "bool"} and not holds & {"str", "Literal"}
        if wordless and isinstance(value := values.get(item.name), str):
            asked = "a number" if holds & {"int", "float"} else "true or false"
            raise InputError(f"{owner}: {item.name} is {value!r}; give {asked}")


def refuse_unfit(values: Mapping[str, Any], kind: type, owner: str) -> None:
    """An InputError for what a JSON file says and no field of the dataclass `kind` can be; a rate may have one value
    for each case."""
    fields = allowed(kind)
    for name, value in values.items():
        for one in value.values() if name == "learning_rate" and isinstance(value, dict) else [value]:
            if told := _instead(fields[name], one):
                raise InputError(f"{owner}: {name} is {one!r}; {told}")
