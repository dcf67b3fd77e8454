"""REMI: bars, positions and durations, for music on a grid.

`Bar [TimeSig] [Tempo]`, then at each position `Position [Chord [Bass]]` and, for every note, `[Part] Pitch Velocity
Duration`. A position is a twelfth of a quarter, which holds sixteenths and triplets alike. The chord is stated again
at every bar (and beat), so that any window of the stream knows it. Where a hole is written beside given parts, every
bar reads `Bar Given <their notes> Write <the rest>`.

After Huang and Yang, "Pop Music Transformer" (2020), https://arxiv.org/abs/2002.00212.
"""

from __future__ import annotations

import numpy as np

from ...errors import InputError
from ..music.score import Score
from . import (
    Body,
    Grammar,
    Plan,
    Tokenizer,
    before,
    changes,
    chord_ids,
    chord_rows,
    is_given,
    merged_chords,
    note_rows,
    part_index,
    part_tracks,
    reduced,
    restated,
    stepped_chords,
    strikes,
)
from ._remi_grammar import RemiGrammar
from ._remi_words import (
    BAR,
    BAR_LENGTHS,
    BASS,
    CHORD,
    DURATION,
    DURATION_STEPS,
    DURATIONS,
    FLOOR_DURATION,
    GIVEN,
    KIND,
    KINDS,
    METRE,
    METRES,
    NEAREST_DURATION,
    OTHER,
    PART,
    PITCH,
    POSITION,
    STEPS,
    TEMPO,
    TEMPOS,
    VELOCITY,
    VELOCITY_STEP,
    WORDS,
    WRITE,
    Bars,
)

HEADER, IN_GIVEN, IN_WRITTEN = 0, 1, 2  # the blocks of a bar
WIDTH = 5  # ids of the longest row: Position Part Pitch Velocity Duration
VOICE_BITS, BLOCK_BITS = 11, 18  # of a row's sort key: its part and pitch; and its step in the bar before them


class Remi(Tokenizer):
    """Bars, positions and durations. `restate` says how often the chord is repeated: at every "bar" or "beat"."""

    name = "remi"
    words = WORDS
    needs_bars = True

    def __init__(self, restate: str = "beat"):
        if restate not in ("bar", "beat"):
            raise InputError(f"restate={restate!r}: choose 'bar' or 'beat'")
        self.restate = restate

    @property
    def settings(self) -> dict:
        return {"restate": self.restate}

    def body(self, score: Score, start: int, end: int, *, given=(), last: int | None = None, whole=True) -> Body:
        bars = Bars(score, start, end, last)
        rows = [_header_rows(bars, bool(given)), _note_rows(bars, _stepped_notes(score, bars, whole), given)]
        if len(score.chords):
            rows.append(_chord_rows(bars, *self.chord_marks(score, bars)))
        key, ids = (np.concatenate(columns) for columns in zip(*rows, strict=True))
        order = np.argsort(key, kind="stable")
        key, ids = key[order], ids.take(order, axis=0)
        spoken = np.flatnonzero(_spoken(key, ids))
        written = (key + 1 >> BLOCK_BITS) % 4 != IN_GIVEN
        return Body(ids.ravel()[spoken].astype(np.int64), written[spoken // WIDTH])

    def chord_marks(self, score: Score, bars: Bars) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where a chord token stands: at every change, and again at every bar or beat. Steps, chord ids, bass ids."""
        again = bars.starts[:-1] if self.restate == "bar" else bars.beats(score)
        steps, chords = restated(stepped_chords(score.chords, bars.steps), again, bars.starts[-1])
        return steps, *chord_ids(chords, CHORD, BASS)

    def decode_body(self, ids: np.ndarray) -> Score:
        kind, ids = KIND[ids], np.asarray(ids, dtype=np.int64)
        bar = np.cumsum(kind == KINDS.index("bar")) - 1
        metres, starts = _decode_metres(ids, kind, bar)
        # Position and part hold until the next one of their kind, but not past a bar line or a change of block.
        fence = _last(np.isin(ids, (GIVEN, WRITE)) | (kind == KINDS.index("bar")))
        given = (fence >= 0) & (ids[np.maximum(fence, 0)] == GIVEN)
        step = starts[np.maximum(bar, 0)] + _held(ids, kind == KINDS.index("position"), fence, POSITION)
        part = _held(ids, kind == KINDS.index("part"), fence, PART + OTHER, less=PART)
        note = (kind == KINDS.index("duration")) & ~given & (bar >= 0)
        note &= (np.roll(kind, 1) == KINDS.index("velocity")) & (np.roll(kind, 2) == KINDS.index("pitch"))
        at = np.flatnonzero(note)
        notes = np.stack(
            [step[at], DURATION_STEPS[ids[at] - DURATION], ids[at - 2] - PITCH, ids[at - 1] - VELOCITY, part[at]]
        )
        return _score(notes, metres, _decode_tempos(ids, kind, bar, starts), _decode_chords(ids, kind, step, given))

    def quantize(self, score: Score) -> Score:
        """Onsets on the nearest twelfth of a quarter, durations and velocities on their nearest levels.

        Dropped: pedal, programs, track names (one track a part remains), chords after the last bar, the extensions of
        chords beyond their seventh, tempo changes inside a bar, and all but the longest of equal notes. A pitch struck
        again ends the note before it. A bar no time signature here can name is cut into bars that have one.
        """
        bars = Bars(score, 0, self.end(score))
        notes = _stepped_notes(score, bars, whole=True)
        columns = [notes["step"], DURATION_STEPS[notes["duration"]], notes["pitch"], notes["velocity"], notes["part"]]
        metres = [(bars.starts[b], *METRES[bars.metre[b]]) for b in np.flatnonzero(changes(bars.metre))]
        tempos = [(bars.starts[b], round(6e7 / TEMPOS[bars.tempo[b]])) for b in np.flatnonzero(changes(bars.tempo))]
        chords = reduced(stepped_chords(score.chords, bars.steps))
        return _score(np.stack(columns), metres, tempos, chords[chords["tick"] < bars.starts[-1]])

    def end(self, score: Score) -> int:
        onsets = score.notes["onset"]
        slack = score.ticks_per_quarter // 6 + 1  # half a step, and half a sixteenth for a bar line off its place
        return max(score.end, int(onsets.max()) + slack if len(onsets) else slack)

    def tick(self, score: Score, tick: int) -> int:
        return round(tick * STEPS / score.ticks_per_quarter / 3) * 3

    def grammar(self, plan: Plan) -> Grammar:
        return RemiGrammar(self, plan)


TOKENIZER = Remi

# --- from a Score to ids: rows of up to WIDTH ids (-1 where there is none), each with its sort key -------------

Rows = tuple[np.ndarray, np.ndarray]


def _rows(bar: np.ndarray, block: int | np.ndarray, columns: list, *, inside=0, voice=0) -> Rows:
    """Rows from their columns; they sort by bar, block, step inside the bar, then chord before notes by voice."""
    ids = np.full((len(bar), WIDTH), -1, dtype=np.int16)
    for place, column in enumerate(columns):
        ids[:, place] = column
    return (bar * 4 + block << BLOCK_BITS) + (inside << VOICE_BITS) + voice, ids


def _header_rows(bars: Bars, given: bool) -> Rows:
    """A row for each bar line, and where there are given parts the words that part them from the written."""
    bar = np.arange(len(bars.metre))
    metre = np.where(changes(bars.metre), METRE + bars.metre, -1)
    tempo = np.where(changes(bars.tempo), TEMPO + bars.tempo, -1)
    rows = [_rows(bar, HEADER, [BAR + bars.left, metre, tempo])]
    if given:  # they stand just before all else of their block
        rows += [_rows(bar, block, [word], voice=-1) for block, word in ((IN_GIVEN, GIVEN), (IN_WRITTEN, WRITE))]
    return tuple(np.concatenate(columns) for columns in zip(*rows, strict=True))


def _chord_rows(bars: Bars, step: np.ndarray, chord: np.ndarray, bass: np.ndarray) -> Rows:
    bar = bars.at(step)
    inside = step - bars.starts[bar]
    return _rows(bar, IN_WRITTEN, [POSITION + inside, chord, bass], inside=inside)


def _note_rows(bars: Bars, notes: dict[str, np.ndarray], given: tuple[str, ...]) -> Rows:
    part, pitch, bar = notes["part"], notes["pitch"], bars.at(notes["step"])
    block = IN_WRITTEN + (IN_GIVEN - IN_WRITTEN) * is_given(part, given) if given else IN_WRITTEN
    inside = notes["step"] - bars.starts[bar]
    columns = [POSITION + inside, PART + part, PITCH + pitch]
    columns += [VELOCITY + notes["velocity"].astype(np.int16), DURATION + notes["duration"]]
    return _rows(bar, block, columns, inside=inside, voice=(part + 1) * 128 + pitch)


def _spoken(key: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Which ids of sorted rows are said: not the position or part of the row before, except in a new block."""
    spoken = ids >= 0
    note = np.flatnonzero(spoken[:, -1])
    part = ids[note, 1]
    spoken[:, 0] &= changes(key >> VOICE_BITS)
    spoken[note, 1] = part != before(part, changes(key[note] >> BLOCK_BITS), PART + OTHER)
    return spoken


def _stepped_notes(score: Score, bars: Bars, whole: bool) -> dict[str, np.ndarray]:
    """Notes of the bars in order of their steps; velocity and duration as indices of their levels."""
    longest, end = DURATIONS[-1], bars.starts[-1]
    step = bars.steps(score.notes["onset"])
    near = slice(*np.searchsorted(step, [0, end + longest]))  # notes after the end may cut short what rings past it
    notes, step, part = score.notes[near], step[near], part_index(score)[near]
    length = np.minimum(np.maximum(np.rint(notes["duration"] * bars.scale), 1), longest).astype(np.int16)
    struck = strikes(step, part * 128 + notes["pitch"], -length)  # of equal notes the longest stays
    room = np.minimum(struck, longest if whole else (end - step).clip(1, longest))
    duration = np.minimum(NEAREST_DURATION[length], FLOOR_DURATION[room])
    columns = (step, part, notes["pitch"].astype(np.int16), notes["velocity"] // VELOCITY_STEP, duration)
    kept = np.flatnonzero((struck > 0) & (step < end))
    names = ("step", "part", "pitch", "velocity", "duration")
    return {name: column[kept] for name, column in zip(names, columns, strict=True)}


# --- from ids back to a Score ----------------------------------------------------------------------------------


def _last(mask: np.ndarray) -> np.ndarray:
    """For every place the index of the last True up to it, or -1."""
    return np.maximum.accumulate(np.where(mask, np.arange(len(mask)), -1)) if len(mask) else np.zeros(0, dtype=int)


def _held(ids: np.ndarray, mask: np.ndarray, fence: np.ndarray, default: int, less: int | None = None) -> np.ndarray:
    """The value of the last id in `mask` since the fence, or the default, counted from `less`."""
    last = _last(mask)
    less = default if less is None else less
    return np.where(last > fence, ids[np.maximum(last, 0)], default) - less


def _decode_metres(ids: np.ndarray, kind: np.ndarray, bar: np.ndarray) -> tuple[list, np.ndarray]:
    """Metre changes as rows (step, numerator, denominator), and the first step of every bar and of the one after."""
    bars = int(bar[-1]) + 1 if len(bar) else 0
    metre = np.full(bars + 1, -1)
    said = np.flatnonzero((kind == KINDS.index("metre")) & (bar >= 0))
    metre[bar[said]] = ids[said] - METRE
    last = _last(metre >= 0)
    metre = np.where(last >= 0, metre[np.maximum(last, 0)], METRES.index((4, 4)))
    starts = np.concatenate([[0], np.cumsum(BAR_LENGTHS[metre])])
    changed = np.flatnonzero(np.append(True, np.diff(metre[:bars]) != 0)[:bars])
    return [(starts[b], *METRES[metre[b]]) for b in changed], starts


def _decode_tempos(ids: np.ndarray, kind: np.ndarray, bar: np.ndarray, starts: np.ndarray) -> list[tuple]:
    said = np.flatnonzero((kind == KINDS.index("tempo")) & (bar >= 0))
    return [(starts[bar[at]], round(6e7 / TEMPOS[ids[at] - TEMPO])) for at in said]


def _decode_chords(ids: np.ndarray, kind: np.ndarray, step: np.ndarray, given: np.ndarray) -> np.ndarray:
    at = np.flatnonzero((kind == KINDS.index("chord")) & ~given)
    after = np.minimum(at + 1, len(ids) - 1)
    bass = np.where(kind[after] == KINDS.index("bass"), ids[after] - BASS, -1)
    return chord_rows(step[at], ids[at] - CHORD, bass)


def _score(notes: np.ndarray, metres: list, tempos: list, chords: np.ndarray) -> Score:
    """A Score at one tick a step from rows (step, duration, pitch, velocity level, part)."""
    tracks, track = part_tracks(notes[4])
    velocity = notes[3] * VELOCITY_STEP + VELOCITY_STEP // 2
    rows = note_rows(*notes[:3], velocity, track)
    score = Score(rows, (), tempos, metres, merged_chords(chords), tracks, STEPS)
    clean = score.without_overlaps()
    return clean if len(clean.notes) == len(score.notes) and clean == score else _floored(clean)


def _floored(score: Score) -> Score:
    """Durations cut short by the next note of their pitch go down to a length that has a token."""
    notes = score.notes.copy()
    notes["duration"] = DURATION_STEPS[FLOOR_DURATION[notes["duration"]]]
    return score.replace(notes=notes)
