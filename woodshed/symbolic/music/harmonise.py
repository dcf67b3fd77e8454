"""Chords for a melody: key, harmonic rhythm and cadences, by a model learned from lead sheets.

    harmonise(score) -> CHORD rows

Four steps, all with parameters that `recipes/harmony.py` learned from songs with written chords:

    pickup   where no bar of a file begins with its first note, rhythm may say that the bar lines stand later
    hearing  a small network gives the odds of every chord at every beat. It hears the melody from each of the twelve
             roots with the same weights, so that all keys are alike to it
    keys     a hidden Markov model of 24 keys, bar by bar: melody notes and odds of chords against the key
    chords   a hidden semi-Markov model: chords follow each other as they do in the key, last as long as chords do at
             this place of the bar, and begin and end a piece as they should (Viterbi)

The network decides what fits the notes; the chain of chords makes a progression of it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ...errors import InputError
from .chords import NO_CHORD, QUALITY_NAMES, merged
from .grid import apply_grid, estimate_grid
from .melody import OWN, Slots, features, make_slots, melody_line, metric, slot_ticks
from .score import CHORD, Score

QUALITIES = ("maj", "min", "7", "maj7", "min7", "dim7", "hdim7", "aug", "sus4")  # that the model writes
CHORDS = 12 * len(QUALITIES)  # root * len(QUALITIES) + quality
LONGEST = 8  # bars that a chord may last
MAX_SLOTS = 20_000  # a longer melody is refused
FILE = Path(__file__).with_suffix(".safetensors")

# How much each part of the model counts, chosen on validation songs (`benchmarks/harmonise.py --split validation`).
HEARING = 1.2  # log odds of a chord by the network
FOLLOWING = 0.8  # log probability of a chord after the one before
ENDING = 1.0  # log probability of the first and the last chord
COMMON = 0.2  # taken off for how common a chord is in its key, which network and progression both count
CHANGING = 1.5  # added for every change: the most likely progression moves less than songs do
KEY = 0.5  # log probability of notes and chords in a key
PICKUP = 20.0  # log odds that must speak for bar lines other than the file's


class Cues(NamedTuple):
    """What is known before chords are chosen: N slots from the first bar that wants a chord to the melody's last."""

    slots: Slots
    odds: np.ndarray  # (N, CHORDS) log probability
    keys: np.ndarray  # (N,) mode * 12 + tonic
    shift: int  # ticks that the grid was moved by


def harmonise(score: Score, *, keep_grid: bool = False) -> np.ndarray:
    """Chords that fit the melody of a score: CHORD rows in its ticks, all in root position. Takes a millisecond a bar.

    The melody is the part "melody", or else the top of all that sounds; chords the score already has are not looked
    at. Before the bar in which the melody begins, and under a pickup, there is no chord; the last chord stays. The grid
    is checked, as in `prepare`, unless `keep_grid`; music in free time is heard in bars of two seconds. Raises
    InputError without a melody or with bars that are not clear.
    """
    slots, odds, keys, shift = hear(score, keep_grid)
    path = decode(odds, keys, slots)
    first = np.flatnonzero(np.diff(path, prepend=-1))
    root, quality = np.divmod(path[first], len(QUALITIES))
    quality = np.array([QUALITY_NAMES.index(name) for name in QUALITIES])[quality]
    rows = np.rec.fromarrays([np.maximum(slots.edges[first] - shift, 0), root, quality, root], CHORD)
    rows = rows[np.append(np.diff(rows["tick"]) > 0, True)]  # of those before the file's beginning the last holds
    silence = np.array([(0, *NO_CHORD)] if rows["tick"][0] > 0 else [], dtype=CHORD)
    return merged(np.concatenate([silence, rows]))


# --- hearing --------------------------------------------------------------------------------------------------


@cache
def parameters() -> dict[str, np.ndarray]:
    """What `recipes/harmony.py` learned, in float32."""
    from safetensors.numpy import load_file

    return {name: value.astype(np.float32) for name, value in load_file(FILE).items()}


def hear(score: Score, keep_grid: bool = False) -> Cues:
    """The melody of a score on its slots, with the odds of all chords and the keys."""
    shift = 0
    if score.free:
        score = score.replace(free=False, tempos=[(0, 500_000)], metres=[(0, 4, 4)])
    elif not keep_grid:
        grid = estimate_grid(score)
        if grid.action == "free":
            way = "keep_grid takes those of the file, freed() does without"
            raise InputError(f"the melody has no clear bars ({grid.reason}); {way}")
        score, shift = apply_grid(score, grid), grid.shift
    line = melody_line(score)
    if not len(line):
        raise InputError("no melody: the score has no notes but drums")
    slots = make_slots(score, find_pickup(score, line))
    if len(slots.bar) > MAX_SLOTS:
        raise InputError(f"the melody has {len(slots.bar)} beats; harmonise at most {MAX_SLOTS} at once")
    part = span(line, slots)
    channels, facts = features(line, slots)
    odds = chord_odds(channels[part], facts[part])
    slots = Slots(slots.edges[part.start : part.stop + 1], slots.place[part], slots.bar[part] - slots.bar[part.start])
    return Cues(slots, odds, hear_keys(channels[part, OWN], np.exp(odds), slots, parameters()), shift)


def find_pickup(score: Score, line: np.ndarray) -> int:
    """How far the bar lines stand behind the file's, in ticks: 0 unless the rhythm of a melody without a rest before
    it speaks clearly for a first bar that is incomplete."""
    if len(score.metres) > 1:
        return 0
    unit, bar = int(slot_ticks(score, 0)), int(score.bars()[1])
    pickups = [0, *range(unit * (int(line["onset"][0]) // unit + 1), bar, unit)]
    table = parameters()["metric"]
    weights = [table[tuple(metric(line, make_slots(score, pickup)).T)].sum() for pickup in pickups]
    weights[0] += PICKUP
    return pickups[int(np.argmax(weights))]


def span(line: np.ndarray, slots: Slots) -> slice:
    """The slots from the bar of the first note to that of the last; a first note in the second half is a pickup."""
    first, last = slots.at(np.array([line["onset"][0], line["onset"][-1] + line["duration"][-1] - 1]))
    starts, bar = np.append(slots.starts, len(slots.bar)), slots.bar[first]
    middle = (slots.edges[starts[bar]] + slots.edges[starts[bar + 1]]) / 2
    incomplete = slots.place[starts[bar]] not in (0, 2, 5)
    late = (line["onset"][0] >= middle or incomplete) and bar < slots.bar[last]
    return slice(int(starts[bar + late]), int(starts[slots.bar[last] + 1]))


def chord_odds(channels: np.ndarray, facts: np.ndarray) -> np.ndarray:
    """The network: features of N slots to the log probability of every chord (N, CHORDS)."""
    p = parameters()
    turned = (np.arange(12)[:, None] + np.arange(12)) % 12  # pitch classes as they lie above each root
    heard = channels[:, :, turned].transpose(0, 2, 1, 3).reshape(len(channels), 12, -1)
    hidden = np.maximum(heard @ p["channels"] + (facts @ p["facts"] + p["bias"])[:, None], 0)
    hidden = np.maximum(hidden @ p["hidden"] + p["hidden_bias"], 0)
    scores = (hidden @ p["out"] + p["out_bias"]).reshape(len(channels), CHORDS)
    return scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)


# --- keys -----------------------------------------------------------------------------------------------------


def hear_keys(notes: np.ndarray, chords: np.ndarray, slots: Slots, tables: dict[str, np.ndarray]) -> np.ndarray:
    """The key of every slot: (N,) mode * 12 + tonic. Keys change at bar lines.

    `notes` (N, 12) is how long each pitch class sounds in a slot, `chords` (N, CHORDS) how probable each chord is.
    """
    fits = notes @ in_every_key(tables["key_notes"]).T + chords @ in_every_key(tables["key_chords"]).T
    evidence = KEY * np.add.reduceat(fits, slots.starts)
    best, before = evidence[0] + np.repeat(tables["modes"], 12), []
    for row in evidence[1:]:
        moves = best[:, None] + tables["key_changes"]
        before.append(moves.argmax(0))
        best = moves.max(0) + row
    path = [int(best.argmax())]
    for row in before[::-1]:
        path.append(int(row[path[-1]]))
    return np.array(path[::-1])[slots.bar]


def in_every_key(table: np.ndarray) -> np.ndarray:
    """A table by mode and degree (2, 12 or CHORDS) for every key, by pitch class: (24, the same)."""
    return np.stack([np.roll(table[key // 12], key % 12 * table.shape[1] // 12) for key in range(24)])


# --- chords ---------------------------------------------------------------------------------------------------


def lasting(slots: Slots) -> tuple[np.ndarray, np.ndarray]:
    """How likely a chord that begins at a slot ends so many slots later: (N, D) log weights, and how many
    slots there are for it (N,).

    The odds of a change depend on its place in the bar, on how many bars the chord has lasted, and on whether it
    began with a bar. The end of the melody ends every chord.
    """
    count, longest = len(slots.bar), LONGEST * int(np.bincount(slots.bar).max())
    end = np.arange(count)[:, None] + np.arange(1, longest + 1)
    inside = np.minimum(end, count - 1)
    downbeat = np.diff(slots.bar, prepend=-1) > 0
    age = np.minimum(slots.bar[inside] - slots.bar[:, None], 3)
    change = parameters()["changes"][downbeat[:, None].astype(int), slots.place[inside], age]
    stays = np.cumsum(np.log1p(-change), axis=1) - np.log1p(-change)
    return stays + np.where(end < count, np.log(change) + CHANGING, 0), np.minimum(count - np.arange(count), longest)


def decode(odds: np.ndarray, keys: np.ndarray, slots: Slots) -> np.ndarray:
    """The chord of every slot (N,): the best progression.

    A semi-Markov chain: `ended[n, c]` is the weight of the best that lies before slot n when chord c ends there,
    `begun[n, c]` when c begins there.
    """
    p, count = parameters(), len(odds)
    fits = HEARING * odds - COMMON * in_every_key(p["key_chords"])[keys]
    total = np.concatenate([np.zeros((1, CHORDS)), np.cumsum(fits, axis=0, dtype=np.float64)])
    last, room = lasting(slots)
    moves = {key: FOLLOWING * _moves(p["transitions"], key) for key in np.unique(keys).tolist()}
    ended = np.full((count + 1, CHORDS), -np.inf)
    begun = np.full((count, CHORDS), -np.inf)
    begun[0] = ENDING * in_every_key(p["first"])[keys[0]]
    for slot in range(count):
        if slot:
            begun[slot] = (ended[slot][:, None] + moves[keys[slot]]).max(axis=0)
        ahead = slice(slot + 1, slot + 1 + room[slot])
        weights = begun[slot] + last[slot, : room[slot], None] + total[ahead] - total[slot]
        ended[ahead] = np.maximum(ended[ahead], weights)
    ended[-1] += ENDING * in_every_key(p["last"])[keys[-1]]
    path, end, chord = np.empty(count, dtype=np.int64), count, int(ended[-1].argmax())
    while True:
        starts = np.arange(max(end - last.shape[1], 0), end)
        weights = begun[starts, chord] - total[starts, chord] + last[starts, end - starts - 1]
        start = int(starts[weights.argmax()])
        path[start:end] = chord
        if not start:
            return path
        chord, end = int((ended[start] + moves[keys[start]][:, chord]).argmax()), start


def _moves(table: np.ndarray, key: int) -> np.ndarray:
    """Log probabilities of one chord after another (CHORDS, CHORDS), from those of a mode by degrees."""
    return np.roll(table[key // 12], (key % 12 * len(QUALITIES),) * 2, axis=(0, 1))
