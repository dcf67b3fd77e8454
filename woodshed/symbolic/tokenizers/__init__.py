"""Tokenizers turn a Score into ids and back. One file here is one tokenizer; the file name is its name.

The laws every one of them keeps (tests/test_tokenizers.py):

- `decode(encode(s)) == quantize(s)`, where `quantize` does not use the tokenizer's ids; it moves no onset by more than
  half a step and drops only what its docstring lists.
- The grammar never forbids what real music does, and every id sequence it allows decodes.

Tokens also have words (`Pitch_60`, `Chord_C:maj7`), saved as a word-level Hugging Face `tokenizer.json`.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ... import menu
from ...errors import InputError, RunError
from ...files import read_object, write_object
from ..music.chords import NAMES, REDUCED, TOKEN_QUALITIES, merged, word
from ..music.score import CHORD, NOTE, PARTS, Score, Track, retimed
from ._features import word_features
from ._grammar import Grammar as Grammar
from ._grammar import NoteGrammar as NoteGrammar
from ._grammar import Plan as Plan

SPECIALS = ("PAD", "BOS", "EOS")
PAD, BOS, EOS = 0, 1, 2
FACTS = "woodshed"  # where tokenizer_config.json keeps what is ours

# Task, structure and head tokens: the same words in every tokenizer of ours.
PART_WORDS = tuple(f"Part_{part}" for part in PARTS)
TASK_WORDS = ("Task_continue", "Task_accompany", "Task_fill", "Future", "Hole", "Given", "Write")
HEAD_WORDS = (
    "Played",
    "Notated",
    *(f"Density_{level}" for level in range(8)),
    *(f"Key_{note}{mode}" for mode in ("", "m") for note in NAMES),
    *(f"Style_{slot}" for slot in range(8)),
)
CHORDS = [(-1, 0), *((root, quality) for root in range(12) for quality in range(TOKEN_QUALITIES))]
CHORD_WORDS = tuple(f"Chord_{word(*chord)}" for chord in CHORDS)
BASS_WORDS = tuple(f"Bass_{note}" for note in NAMES)


@dataclass(frozen=True)
class Body:
    """The ids of a stretch of music, and which of them are written (True) rather than given (False)."""

    ids: np.ndarray  # (T,) int64
    written: np.ndarray  # (T,) bool


class Tokenizer(ABC):
    """Score to ids and back. `words[id]` is the word of an id; PAD, BOS and EOS are 0, 1 and 2."""

    name: str
    words: tuple[str, ...]
    needs_bars: bool  # True: only music on a grid can be encoded
    knows_chords = True
    knows_parts = True  # False: nothing can be given beside what is to be written
    steps = 12  # positions a quarter, where there are positions

    @property
    def settings(self) -> dict:
        """What else is needed to make the same tokenizer again; JSON values."""
        return {}

    @cached_property
    def index(self) -> dict[str, int]:
        """Word to id."""
        return {word: token for token, word in enumerate(self.words)}

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        return len(self.words)

    @cached_property
    def features(self) -> np.ndarray:
        """(vocab_size, F) of 0 to 1: what ids have in common, known to a fresh model (models.share_features)."""
        return word_features(self.words, self.steps)

    @cached_property
    def fingerprint(self) -> str:
        """Twelve hex digits over name, settings and vocabulary: two models share ids only where these agree."""
        text = json.dumps([self.name, self.settings, self.words])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def facts(self) -> dict:
        """What a file of its ids says of it."""
        return {"name": self.name, "settings": self.settings, "fingerprint": self.fingerprint}

    @abstractmethod
    def end(self, score: Score) -> int:
        """A tick after all the music, also after every onset once it is rounded to its step."""

    @abstractmethod
    def tick(self, score: Score, tick: int) -> int:
        """A tick of `score` in the ticks of its quantized Score."""

    @abstractmethod
    def body(self, score: Score, start: int, end: int, *, given=(), last: int | None = None, whole=True) -> Body:
        """The ids of the music that begins in [start, end) ticks.

        `given` parts stand in the stream but are not for the model to write. `last` adds the countdown to the end of
        the piece. `whole` keeps notes that sound past `end` whole; otherwise they end there, and silence up to `end`
        is spelled out, so that other music can follow.
        """

    @abstractmethod
    def decode_body(self, ids: np.ndarray) -> Score:
        """The written music of one body, from tick 0. Ids that the grammar forbids are passed over."""

    @abstractmethod
    def quantize(self, score: Score) -> Score:
        """What remains of a Score after encode and decode."""

    def settle(self, score: Score) -> Score:
        """A quantized Score after notes from elsewhere were put in: only what these tokens let sound together."""
        return score

    @abstractmethod
    def grammar(self, plan: Plan) -> Grammar:
        """The grammar and clock of one take."""

    def encode(self, score: Score) -> np.ndarray:
        """A whole piece as ids: BOS, the music, EOS."""
        return np.concatenate([[BOS], self.body(score, 0, self.end(score)).ids, [EOS]])

    def decode(self, ids) -> Score:
        """The music of a whole piece's ids."""
        return self.decode_body(np.asarray(ids, dtype=np.int64))

    def to_words(self, ids) -> list[str]:
        """The words of ids."""
        return [self.words[token] for token in np.asarray(ids).tolist()]

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json`, the word-level Hugging Face format, and our facts in `tokenizer_config.json`."""
        model = {"type": "WordLevel", "vocab": self.index, "unk_token": "PAD"}
        blank = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        added = [{"id": token, "content": word, "special": True} | flags for token, word in enumerate(SPECIALS)]
        data = {"version": "1.0", **blank, "added_tokens": added, "pre_tokenizer": {"type": "WhitespaceSplit"}}
        special = dict(pad_token="PAD", bos_token="BOS", eos_token="EOS", unk_token="PAD")
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **special, FACTS: self.facts}
        for name, content in (("tokenizer.json", data | {"model": model}), ("tokenizer_config.json", config)):
            write_object(Path(folder) / name, content)


def names() -> list[str]:
    """The tokenizers there are."""
    return menu.names(__name__)


def make(name: str, **settings) -> Tokenizer:
    """A tokenizer by name (`remi`, `performance`, `miditok:TSD`), with its settings."""
    base, _, variant = name.partition(":")
    if variant:
        settings["variant"] = variant
    module = menu.load(__name__, base, "tokenizer")
    try:
        return module.TOKENIZER(**settings)
    except TypeError as error:
        raise InputError(f"tokenizer {name!r} does not take these settings: {settings} ({error})") from None


def saved_facts(folder: Path) -> dict | None:
    """Name, settings and fingerprint of the tokenizer saved in a folder; None where there is none of ours."""
    path = Path(folder) / "tokenizer_config.json"
    try:
        return read_object(path).get(FACTS)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunError(path, f"damaged ({error}); copy it again") from None


def open_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer saved in a corpus or run; a RunError where its ids are not what this version would make."""
    saved = saved_facts(folder)
    if saved is None:
        raise RunError(folder, "no tokenizer of Woodshed in it; give a corpus or a run made here")
    tokenizer = make(saved["name"], **saved["settings"])
    if tokenizer.fingerprint != saved["fingerprint"]:
        reason = f"its {saved['name']} tokens {saved['fingerprint']} are not this version's {tokenizer.fingerprint}"
        raise RunError(folder, f"{reason}; prepare and train it again")
    return tokenizer


# --- what the tokenizers of ours share -------------------------------------------------------------------------


def stepped_chords(chords: np.ndarray, steps: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Rows of score.CHORD with steps for ticks; the last of several at one step, and of those up to the first step."""
    chords = retimed(chords, lambda ticks: np.maximum(steps(ticks), 0))
    return chords[lasts(chords["tick"])]


def restated(chords: np.ndarray, again: np.ndarray, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Where chords in steps are told before `end`: at every change and `again` at other steps. Steps, and the rows."""
    steps = np.sort(np.concatenate([again, chords["tick"]]))
    steps = steps[changes(steps) & (steps >= 0) & (steps < end)]
    held = np.searchsorted(chords["tick"], steps, side="right") - 1
    return steps[held >= 0], chords[held[held >= 0]]


def chord_ids(chords: np.ndarray, chord: int, bass: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of score.CHORD as ids of CHORD_WORDS, which begin with `chord`, and of BASS_WORDS, -1 where the root is in
    the bass. Extended qualities become the one they are built on.
    """
    root, low = chords["root"].astype(np.int64), chords["bass"].astype(np.int64)
    index = 1 + root * TOKEN_QUALITIES + REDUCED[chords["quality"]]
    return chord + np.where(root < 0, 0, index), np.where((root >= 0) & (low != root), bass + low, -1)


def chord_rows(ticks: np.ndarray, index: np.ndarray, bass: np.ndarray) -> np.ndarray:
    """The reverse of `chord_ids`, both counted from their first; `bass` is -1 where the root is in the bass. Equal
    neighbours are merged.
    """
    rows = np.zeros(len(ticks), dtype=CHORD)
    rows["tick"] = ticks
    rows["root"] = np.where(index > 0, (index - 1) // TOKEN_QUALITIES, -1)
    rows["quality"] = np.where(index > 0, (index - 1) % TOKEN_QUALITIES, 0)
    rows["bass"] = np.where((bass >= 0) & (index > 0), bass, rows["root"])
    return merged_chords(rows)


def merged_chords(rows: np.ndarray) -> np.ndarray:
    """Of several rows at one tick the last; then only rows that differ from the chord before them."""
    return merged(rows[lasts(rows["tick"])])


def reduced(chords: np.ndarray) -> np.ndarray:
    """Rows of score.CHORD as tokens have them: of the qualities that extended ones are built on, and merged."""
    rows, sounds = chords.copy(), chords["root"] >= 0
    rows["quality"] = np.where(sounds, REDUCED[chords["quality"]], 0)
    rows["bass"] = np.where(sounds & (chords["bass"] >= 0), chords["bass"], chords["root"])
    return merged_chords(rows)


def changes(*columns: np.ndarray) -> np.ndarray:
    """(n,) bool: which entries differ from the one before in any of the columns; the first one does."""
    changed = np.zeros(len(columns[0]), dtype=bool)
    changed[:1] = True
    for column in columns:
        changed[1:] |= column[1:] != column[:-1]
    return changed


def before(values: np.ndarray, first: np.ndarray, default: int) -> np.ndarray:
    """The value before each, or the default where `first` is True."""
    shifted = np.append(values[:1], values[:-1])
    shifted[first] = default
    return shifted


def lasts(values: np.ndarray) -> np.ndarray:
    """(n,) bool: which entry of a sorted column is the last of its value."""
    return np.append(values[1:] > values[:-1], True)[: len(values)]


def told_pedals(pedals: np.ndarray) -> np.ndarray:
    """Rows of one pedal, in order, without what changes nothing; of a tick the last, and a lift from before it."""
    pedals = pedals[lasts(pedals["tick"]) | (pedals["value"] == 0)]
    return pedals[np.diff(pedals["value"].astype(int), prepend=0) != 0]


def part_index(score: Score) -> np.ndarray:
    """The index into PARTS of every note's track."""
    parts = np.array([PARTS.index(track.part) for track in score.tracks] or [0], dtype=np.int16)
    return parts[score.notes["track"]]


def is_given(part: np.ndarray, given: tuple[str, ...]) -> np.ndarray:
    """Which notes belong to the given parts, from indices into PARTS."""
    return np.array([name in given for name in PARTS])[part]


def strikes(step: np.ndarray, voice: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Steps from each note to the next of its voice; 0 for all but the lowest rank of those struck together.

    `step` ascends below 2**26, `voice` lies in 0 to 2**10, `rank` between -(2**24) and 2**24.
    """
    order = np.argsort(voice.astype(np.int16), kind="stable")  # a radix sort, after which the next has little to do
    place = (voice.astype(np.int64) << 27) + step
    order = order[np.argsort(((place << 24) + rank)[order], kind="stable")]
    place = place[order]
    first = np.flatnonzero(changes(place))
    following = np.append(place[first[1:]], 2**62)[: len(first)]
    room = np.zeros(len(step), dtype=np.int64)
    room[order[first]] = following - place[first]
    return room


def note_rows(*columns: np.ndarray) -> np.ndarray:
    """Rows of score.NOTE from the columns onset, duration, pitch, velocity and track."""
    rows = np.empty(len(columns[0]), dtype=NOTE)
    for name, column in zip(NOTE.names, columns, strict=True):
        rows[name] = column
    return rows


def part_tracks(parts: np.ndarray) -> tuple[tuple[Track, ...], np.ndarray]:
    """One track for each part that occurs, in the order of PARTS, and every note's track number."""
    used = np.unique(parts)
    tracks = tuple(Track(PARTS[part], 0, PARTS[part] == "drums", PARTS[part]) for part in used.tolist())
    return tracks or (Track("other", part="other"),), np.searchsorted(used, parts)


def by_part(score: Score, part: np.ndarray | None = None) -> Score:
    """The same notes with a track for each part, by default that of their tracks, and the pedal on the first; `part`
    are indices (N,) into PARTS."""
    tracks, track = part_tracks(part_index(score) if part is None else part)
    notes = score.notes.copy()
    notes["track"] = track
    return score.replace(notes=notes, tracks=tracks)
