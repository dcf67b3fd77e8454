"""A file of music as ids and words, and back.

tokenise("song.mid", "performance") -> Tokens         tokens.ids, tokens.words
read_tokens("ids.json") -> Tokens                     tokens.score()
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...errors import FileError, InputError, first_line
from ...files import parsed, write_object
from .. import tokenizers
from ..music.midi import read_midi
from ..music.parts import assign_parts
from ..music.score import Score
from ..tokenizers import Tokenizer
from .inspect import Chords, InspectSettings, on_grid, with_chords


@dataclass(frozen=True)
class Tokens:
    """A piece as the ids of a tokenizer."""

    tokenizer: Tokenizer
    ids: list[int]

    @property
    def words(self) -> list[str]:
        """What each id says."""
        return self.tokenizer.to_words(self.ids)

    def score(self) -> Score:
        """The music: what the tokenizer keeps of the piece. Ids that its grammar forbids are passed over."""
        return self.tokenizer.decode(self.ids)

    def save(self, path: str | Path) -> None:
        """Write ids and words to a new file of JSON, with what makes the same tokenizer again."""
        told = {"tokenizer": self.tokenizer.facts, "ids": self.ids, "words": self.words}
        write_object(path, told, new=True)


def tokenise(path: str | Path, tokenizer: str = "auto", *, chords: Chords = "file", keep_grid: bool = False) -> Tokens:
    """A MIDI file as the ids that a model would learn from it: its grid checked unless `keep_grid`, its parts assigned.

    The tokenizer is named, or ("auto") remi for music on a grid and performance for music in free time. Chords are the
    file's, heard where it states none ("recognise"), or left out ("none"). Raises FileError for a file that cannot be
    read, InputError for an unknown tokenizer, or one that needs bars where there are none.
    """
    if chords not in Chords.__args__:
        raise InputError(f"--chords {chords}: choose one of {', '.join(Chords.__args__)}")
    score, _ = on_grid(assign_parts(read_midi(path)), InspectSettings(keep_grid=keep_grid))
    score = with_chords(score, chords)
    made = tokenizers.make(("performance" if score.free else "remi") if tokenizer == "auto" else tokenizer)
    if made.needs_bars and score.free:
        raise InputError(
            f"{path}: no bars to trust, which {made.name} needs; take --tokenizer performance or --keep-grid"
        )
    return Tokens(made, made.encode(score).tolist())


def read_tokens(path: str | Path, tokenizer: str | None = None) -> Tokens:
    """The ids in a JSON file: of Tokens.save, or a mere list, whose tokenizer is named here.

    Raises FileError for a file that holds no such thing, InputError for ids of another tokenizer.
    """
    try:
        data = parsed(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FileError(path, f"no ids in JSON ({first_line(error)})") from None
    facts, ids = (data.get("tokenizer"), data.get("ids")) if isinstance(data, dict) else (None, data)
    if not (isinstance(ids, list) and all(type(one) is int for one in ids)):
        raise FileError(path, "no list of ids in it; write one with woodshed tokens FILE.mid --json")
    made = _tokenizer(path, facts, tokenizer)
    if wrong := [one for one in ids if not 0 <= one < made.vocab_size]:
        raise InputError(f"{path}: the id {wrong[0]} is none of {made.name}, which has 0 to {made.vocab_size - 1}")
    return Tokens(made, ids)


def _tokenizer(path: str | Path, facts: dict | None, name: str | None) -> Tokenizer:
    """The one that is told, in the file or by its name."""
    if name in (None, "auto"):
        if not (isinstance(facts, dict) and isinstance(facts.get("name"), str)):
            raise InputError(f"{path} does not say whose ids these are; give --tokenizer")
        if not isinstance(settings := facts.get("settings") or {}, dict):
            raise FileError(path, f"its tokenizer has the settings {settings!r}; write it again with --json")
        made = tokenizers.make(facts["name"], **settings)
    else:
        made = tokenizers.make(name)
    if isinstance(facts, dict) and facts.get("fingerprint", made.fingerprint) != made.fingerprint:
        told = f"{facts.get('name')} {facts['fingerprint']}, not {made.name} {made.fingerprint}"
        raise InputError(f"{path}: its ids are {told}; write them again from the MIDI file")
    return made
