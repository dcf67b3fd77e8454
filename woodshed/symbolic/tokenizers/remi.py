"""REMI: bars, positions and durations, for music on a grid.

`Bar [TimeSig] [Tempo]`, then at each position `Position [Chord [Bass]]` and, for every note, `[Part] Pitch Velocity
Duration`. A position is a twelfth of a quarter, which holds sixteenths and triplets alike. The chord is stated again
at every bar (and beat), so that any window of the stream knows it. Where a hole is written beside given parts, every
bar reads `Bar Given <their notes> Write <the rest>`.

After Huang and Yang, "Pop Music Transformer" (2020), https://arxiv.org/abs/2002.00212.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ...errors import InputError
from ..score import PARTS, Score
from . import (
    BASS_WORDS,
    CHORD_WORDS,
    EOS,
    HEAD_WORDS,
    PART_WORDS,
    SPECIALS,
    TASK_WORDS,
    Body,
    Grammar,
    Plan,
    Tokenizer,
    chord_index,
    chord_rows,
    merged_chords,
    part_index,
    part_tracks,
)

STEPS = 12  # positions a quarter
LONGEST_BAR = 8 * STEPS
LEFT = (*range(1, 17), 24, 32, 48, 64)  # bars to the end of the piece, this one counted; each means "at most"
METRES = tuple((n, d) for d in (2, 4, 8, 16) for n in range(1, 16) if 4 * STEPS * n <= LONGEST_BAR * d)
TEMPOS = tuple(round(float(bpm), 1) for bpm in np.geomspace(30, 300, 40))
VELOCITY_STEP = 8
DURATIONS = (*range(1, 13), 14, 15, 16, 18, 20, 21, 22, 24, 27, 28, 30, 32, 33, 36, 40, 42, 45, 48, 54, 60, 66, 72, 84)
DURATIONS += (96, 108, 120, 144, 168, 192)
OTHER = PARTS.index("other")

GROUPS = {
    "special": SPECIALS,
    "bar": ("Bar_None", *(f"Bar_{left}" for left in LEFT)),
    "metre": tuple(f"TimeSig_{n}/{d}" for n, d in METRES),
    "tempo": tuple(f"Tempo_{bpm}" for bpm in TEMPOS),
    "position": tuple(f"Position_{step}" for step in range(LONGEST_BAR)),
    "chord": CHORD_WORDS,
    "bass": BASS_WORDS,
    "part": PART_WORDS,
    "pitch": tuple(f"Pitch_{pitch}" for pitch in range(128)),
    "velocity": tuple(f"Velocity_{level * VELOCITY_STEP + 4}" for level in range(128 // VELOCITY_STEP)),
    "duration": tuple(f"Duration_{steps}" for steps in DURATIONS),
    "task": TASK_WORDS,
    "head": HEAD_WORDS,
}
WORDS = tuple(word for words in GROUPS.values() for word in words)
FIRST = dict(zip(GROUPS, np.cumsum([0, *(len(words) for words in GROUPS.values())]).tolist(), strict=False))
KINDS = list(GROUPS)
KIND = np.repeat(np.arange(len(GROUPS)), [len(words) for words in GROUPS.values()])
(BAR, METRE, TEMPO, POSITION, CHORD, BASS, PART, PITCH, VELOCITY, DURATION) = (FIRST[kind] for kind in KINDS[1:11])
GIVEN, WRITE = WORDS.index("Given"), WORDS.index("Write")

_LENGTHS = np.array([4 * STEPS * n // d for n, d in METRES])
_DURATIONS = np.array(DURATIONS)
_NEAREST_DURATION = np.abs(np.arange(DURATIONS[-1] + 1)[:, None] - _DURATIONS).argmin(axis=1)
_FLOOR_DURATION = np.searchsorted(_DURATIONS, np.arange(DURATIONS[-1] + 1), side="right") - 1


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
        rows = [bars.rows(bool(given)), self._chord_rows(score, bars)]
        rows += _note_rows(score, bars, given, whole)
        table = np.concatenate(rows)
        table = table[np.argsort(table["key"], kind="stable")]
        _silence_repeats(table)
        columns = table.view("i8").reshape(len(table), len(ROW))[:, -len(COLUMNS) :]
        keep = columns >= 0
        written = np.repeat(table["block"] != IN_GIVEN, keep.sum(axis=1))
        return Body(columns[keep], written)

    def _chord_rows(self, score: Score, bars: Bars) -> np.ndarray:
        marks = self.chord_marks(score, bars)
        rows = _blank(len(marks["step"]))
        rows["key"] = bars.key(marks["step"], rank=IN_WRITTEN)
        rows["block"] = IN_WRITTEN
        rows["position"] = POSITION + marks["step"] - bars.starts[bars.at(marks["step"])]
        rows["chord"], rows["bass"] = marks["chord"], marks["bass"]
        return rows

    def chord_marks(self, score: Score, bars: Bars) -> dict[str, np.ndarray]:
        """Where a chord token stands: at every change, and again at every bar or beat. Steps, chord ids, bass ids."""
        chords = _stepped_chords(score, bars)
        if not len(chords):
            return {name: np.zeros(0, dtype=np.int64) for name in ("step", "chord", "bass")}
        again = bars.starts[:-1] if self.restate == "bar" else bars.beats(score)
        steps = np.unique(np.concatenate([again, np.maximum(chords["tick"], 0)]))
        steps = steps[(steps >= 0) & (steps < bars.starts[-1])]
        held = np.searchsorted(chords["tick"], steps, side="right") - 1
        steps, held = steps[held >= 0], held[held >= 0]
        chords = chords[held]
        inverted = (chords["bass"] != chords["root"]) & (chords["root"] >= 0)
        return {
            "step": steps,
            "chord": CHORD + chord_index(chords),
            "bass": np.where(inverted, BASS + chords["bass"].astype(np.int64), -1),
        }

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
            [step[at], _DURATIONS[ids[at] - DURATION], ids[at - 2] - PITCH, ids[at - 1] - VELOCITY, part[at]]
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
        columns = [notes["step"], _DURATIONS[notes["duration"]], notes["pitch"], notes["velocity"], notes["part"]]
        changed = np.append(True, np.diff(bars.metre) != 0)
        metres = [(bars.starts[b], *METRES[bars.metre[b]]) for b in np.flatnonzero(changed)]
        changed = np.append(True, np.diff(bars.tempo) != 0)
        tempos = [(bars.starts[b], round(6e7 / TEMPOS[bars.tempo[b]])) for b in np.flatnonzero(changed)]
        chords = _stepped_chords(score, bars).copy()
        index = chord_index(chords)
        bass = np.where(chords["bass"] == chords["root"], -1, chords["bass"])
        chords = chord_rows(np.maximum(chords["tick"], 0), index, bass)
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

# --- from ticks to bars and steps ------------------------------------------------------------------------------

COLUMNS = ("bar", "metre", "tempo", "switch", "position", "chord", "bass", "part", "pitch", "velocity", "duration")
ROW = np.dtype([("key", "i8"), ("block", "i8"), *((name, "i8") for name in COLUMNS)])
HEADER, IN_GIVEN, IN_WRITTEN = 0, 1, 2


class Bars:
    """The bars that begin in [start, end) ticks: `starts` (B+1 steps from the first), metre and tempo ids (B)."""

    def __init__(self, score: Score, start: int, end: int, last: int | None = None):
        if score.free:
            raise InputError("music in free time has no bars; use --tokenizer performance")
        lines = score.bars(max(end, start + 1))
        first = int(np.searchsorted(lines, start))
        lines = lines[first : int(np.searchsorted(lines, end)) + 1]
        self.scale = STEPS / score.ticks_per_quarter
        metre = score.metres[np.searchsorted(score.metres["tick"], lines[:-1], side="right") - 1]
        steps, metres = _name_bars(self._rounded(lines), metre)
        count = max(int(np.searchsorted(steps[:-1], end * self.scale)), 1)
        steps, self.metre = steps[: count + 1], metres[:count]
        self.origin = int(steps[0])
        self.starts = steps - self.origin
        seconds = np.diff(score.seconds(steps / self.scale))
        bpm = np.diff(self.starts) / STEPS * 60 / np.maximum(seconds, 1e-3)
        self.tempo = np.abs(np.log(bpm)[:, None] - np.log(TEMPOS)).argmin(axis=1)
        self.left = self._left(score, last)

    def _rounded(self, lines: np.ndarray) -> np.ndarray:
        """Bar lines in steps, each on a sixteenth."""
        return np.rint(lines * (self.scale / 3)).astype(np.int64) * 3

    def _left(self, score: Score, last: int | None) -> np.ndarray:
        """The countdown token of each bar, as an index into GROUPS["bar"]; 0 says nothing."""
        if last is None:
            return np.zeros(len(self.metre), dtype=np.int64)
        lines = self._rounded(score.bars(last)) - self.origin
        bars = len(lines) - 1 - np.searchsorted(lines, self.starts[:-1])
        index = np.searchsorted(LEFT, np.maximum(bars, 1)) + 1
        return np.where(index > len(LEFT), 0, index)

    def at(self, steps: np.ndarray) -> np.ndarray:
        """The bar each step lies in."""
        return np.searchsorted(self.starts, steps, side="right") - 1

    def steps(self, ticks: np.ndarray) -> np.ndarray:
        """Ticks of the score as steps from the first bar line, to the nearest."""
        return np.rint(ticks * self.scale).astype(np.int64) - self.origin

    def beats(self, score: Score) -> np.ndarray:
        beats = score.beats(int((self.origin + self.starts[-1]) / self.scale))
        steps = np.unique(np.append(self.steps(beats), self.starts))
        return steps[(steps >= 0) & (steps < self.starts[-1])]

    def key(self, steps: np.ndarray, *, rank: int | np.ndarray, part=0, pitch=0) -> np.ndarray:
        """Sort keys: by bar, then header, given and written, then step, then chord before notes, part and pitch."""
        bar = self.at(steps)
        inside = steps - self.starts[np.maximum(bar, 0)]
        return (((bar * 4 + rank) * 128 + inside) * 16 + part) * 256 + pitch

    def rows(self, given: bool) -> np.ndarray:
        """One row for each bar line, and where there are given parts the words that part them from the written."""
        rows = _blank(len(self.metre))
        rows["key"], rows["block"] = self.key(self.starts[:-1], rank=HEADER), HEADER
        rows["bar"] = BAR + self.left
        rows["metre"] = np.where(np.append(True, np.diff(self.metre) != 0), METRE + self.metre, -1)
        rows["tempo"] = np.where(np.append(True, np.diff(self.tempo) != 0), TEMPO + self.tempo, -1)
        if not given:
            return rows
        switches = [rows]
        for block, word in ((IN_GIVEN, GIVEN), (IN_WRITTEN, WRITE)):
            switch = _blank(len(self.metre))
            switch["key"], switch["block"], switch["switch"] = self.key(self.starts[:-1], rank=block) - 1, block, word
            switches.append(switch)
        return np.concatenate(switches)


def _name_bars(lines: np.ndarray, metre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bar lines in steps and the metre of each bar; a bar that has no name is cut into 4/4 bars and a rest."""
    lengths = np.diff(lines)
    keys = metre["numerator"].astype(np.int64) * 64 + metre["denominator"]
    table = {n * 64 + d: index for index, (n, d) in enumerate(METRES)}
    named = np.array([table.get(key, -1) for key in keys.tolist()], dtype=np.int64)
    if ((named >= 0) & (_LENGTHS[named] == lengths)).all():
        return lines, named
    starts, names = [int(lines[0])], []
    for length, name in zip(lengths.tolist(), named.tolist(), strict=True):
        if name >= 0 and _LENGTHS[name] == length:
            pieces = [name]
        else:
            whole, rest = divmod(length, 4 * STEPS) if length not in _LENGTHS else (0, length)
            pieces = [METRES.index((4, 4))] * whole + ([int(np.flatnonzero(rest == _LENGTHS)[0])] if rest else [])
        for piece in pieces:
            starts.append(starts[-1] + int(_LENGTHS[piece]))
            names.append(piece)
    return np.array(starts), np.array(names, dtype=np.int64)


def _blank(count: int) -> np.ndarray:
    return np.full(count * len(ROW), -1, dtype="i8").view(ROW)


def _stepped_notes(score: Score, bars: Bars, whole: bool) -> dict[str, np.ndarray]:
    """Notes of the bars in order of step, part and pitch; velocity and duration as indices of their levels."""
    notes, part = score.notes, part_index(score)
    step, pitch = bars.steps(notes["onset"]), notes["pitch"].astype(np.int64)
    length = np.rint(notes["duration"] * bars.scale).astype(np.int64).clip(1, DURATIONS[-1])
    velocity = notes["velocity"].astype(np.int64) // VELOCITY_STEP
    voice = part * 128 + pitch
    order = np.argsort((voice << 40) + (step << 8) - length, kind="stable")  # longest first of equal notes
    columns, voice = np.stack([step, part, pitch, velocity, length])[:, order], voice[order]
    first = np.append(True, (np.diff(voice) != 0) | (np.diff(columns[0]) > 0))[: len(voice)]
    columns, voice = columns[:, first], voice[first]
    struck = np.where(np.diff(voice) == 0, np.diff(columns[0]), DURATIONS[-1])  # steps to the next note of this pitch
    room = np.append(struck, DURATIONS[-1])[: len(voice)]
    if not whole:
        room = np.minimum(room, bars.starts[-1] - columns[0])
    columns[4] = np.minimum(_NEAREST_DURATION[columns[4]], _FLOOR_DURATION[room.clip(1, DURATIONS[-1])])
    inside = (columns[0] >= 0) & (columns[0] < bars.starts[-1])
    columns = columns[:, inside]
    columns = columns[:, np.argsort((columns[0] << 16) + voice[inside], kind="stable")]
    return dict(zip(("step", "part", "pitch", "velocity", "duration"), columns, strict=True))


def _note_rows(score: Score, bars: Bars, given: tuple[str, ...], whole: bool) -> list[np.ndarray]:
    notes = _stepped_notes(score, bars, whole)
    block = np.where(np.isin(notes["part"], [PARTS.index(part) for part in given]), IN_GIVEN, IN_WRITTEN)
    rows = _blank(len(block))
    rows["key"] = bars.key(notes["step"], rank=block, part=notes["part"] + 1, pitch=notes["pitch"])
    rows["block"] = block
    rows["position"] = POSITION + notes["step"] - bars.starts[bars.at(notes["step"])]
    rows["part"] = PART + notes["part"]
    rows["pitch"] = PITCH + notes["pitch"]
    rows["velocity"], rows["duration"] = VELOCITY + notes["velocity"], DURATION + notes["duration"]
    return [rows]


def _stepped_chords(score: Score, bars: Bars) -> np.ndarray:
    """The chords with steps for ticks; the last of several at one step."""
    chords = score.chords.copy()
    chords["tick"] = bars.steps(chords["tick"])
    held = np.append(chords["tick"][1:] > 0, True)[: len(chords)]  # of those before the first bar, the last holds
    chords = chords[held]
    return chords[np.append(np.diff(chords["tick"]) > 0, True)] if len(chords) else chords


def _silence_repeats(table: np.ndarray) -> None:
    """Blank the positions and parts that the row before has already said."""
    same = (table["position"][1:] == table["position"][:-1]) & (table["position"][1:] >= 0)
    fence = (table["bar"] >= 0) | (table["switch"] >= 0)
    note = np.flatnonzero((table["pitch"] >= 0) | fence)
    part = np.where(fence, PART + OTHER, table["part"])[note]
    table["position"][1:][same] = -1
    repeated = np.append(False, part[1:] == part[:-1])[: len(note)]
    table["part"][note[repeated]] = -1


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
    starts = np.concatenate([[0], np.cumsum(_LENGTHS[metre])])
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
    rows = np.stack([notes[0], notes[1], notes[2], velocity, track], axis=1)
    score = Score(rows.tolist(), (), tempos, metres, merged_chords(chords), tracks, STEPS)
    clean = score.without_overlaps()
    return clean if len(clean.notes) == len(score.notes) and clean == score else _floored(clean)


def _floored(score: Score) -> Score:
    """Durations cut short by the next note of their pitch go down to a length that has a token."""
    notes = score.notes.copy()
    notes["duration"] = _DURATIONS[_FLOOR_DURATION[notes["duration"]]]
    return score.replace(notes=notes)


# --- what may follow -------------------------------------------------------------------------------------------


class RemiGrammar(Grammar):
    """Bars come from the plan; inside a bar positions rise, parts and pitches rise at a position."""

    def __init__(self, tokenizer: Remi, plan: Plan):
        score = plan.laid_out
        self.bars = bars = Bars(score, plan.start, plan.end, plan.last)
        given = score.only(*plan.given).replace(chords=())
        fixed = tokenizer.body(given, plan.start, plan.end, given=plan.given, last=plan.last)
        lines = np.flatnonzero(KIND[fixed.ids] == KINDS.index("bar"))
        self.headers = [ids.tolist() for ids in np.split(fixed.ids, lines[1:])]
        marks = tokenizer.chord_marks(score, bars)
        self.marks = [
            (step, [c] if b < 0 else [c, b])
            for step, c, b in zip(*(marks[k].tolist() for k in ("step", "chord", "bass")), strict=True)
        ]
        self.own_chords = not len(score.chords)
        self.parts = np.array([part not in plan.given for part in PARTS])
        self.ring, self.open_end = plan.ring, plan.last is None
        self.ids: list[int] = []
        self.lines: list[int] = []
        self.header: list[int] = []  # what the plan still has to say before the model may speak
        self.queue: list[int] = []  # the chord that follows a forced position
        self._open_bar()

    @cached_property
    def total(self) -> int:
        return int(self.bars.starts[-1])

    def _open_bar(self) -> None:
        self.header = list(self.headers[len(self.lines)])
        self.lines.append(len(self.ids))
        self.position = self.pitch = -1
        self.part = self.top = OTHER  # `part` is in force; `top` is the highest part at this position
        self.stage = "bar"

    @property
    def line(self) -> int:
        """The current bar's first step."""
        return int(self.bars.starts[len(self.lines) - 1])

    @property
    def forced(self) -> int | None:
        return (self.header or self.queue or [None])[0]

    @property
    def share(self) -> float:
        return 1.0 if self.done else (len(self.lines) - 1) / len(self.headers)

    def window(self, keep: int) -> list[int]:
        """The last at most `keep` ids from a bar line on, metre and tempo stated again; the current bar at least."""
        bar = next((b for b, at in enumerate(self.lines) if len(self.ids) - at <= keep - 2), len(self.lines) - 1)
        ids = self.ids[self.lines[bar] :]
        if not ids:
            return []
        said = [token for token in ids[1:3] if KINDS[KIND[token]] in ("metre", "tempo")]
        full = [METRE + int(self.bars.metre[bar]), TEMPO + int(self.bars.tempo[bar])]
        return [ids[0], *full, *ids[1 + len(said) :][-max(keep - 3, 1) :]]  # a bar longer than that loses its start

    def allowed(self) -> np.ndarray:
        mask = np.zeros(len(WORDS), dtype=bool)
        getattr(self, f"_after_{self.stage}")(mask)
        return mask

    def _after_bar(self, mask: np.ndarray) -> None:
        length = int(self.bars.starts[len(self.lines)]) - self.line
        mask[POSITION + self.position + 1 : POSITION + length] = True
        mask[self._next_bar] = True
        if self.open_end and self._next_bar == EOS:
            mask[BAR] = True  # to the model the piece goes on
        if self.pitch >= 0:
            mask[PITCH + self.pitch + 1 : PITCH + 128] = True
            mask[PART + self.top + 1 : PART + len(PARTS)] = self.parts[self.top + 1 :]

    @property
    def _next_bar(self) -> int:
        return self.headers[len(self.lines)][0] if len(self.lines) < len(self.headers) else EOS

    def _after_position(self, mask: np.ndarray) -> None:
        mask[PART : PART + len(PARTS)] = self.parts
        mask[PART + self.part] = False
        mask[PITCH : PITCH + 128] = self.parts[self.part]
        if self.own_chords:
            mask[CHORD:BASS] = True

    def _after_chord(self, mask: np.ndarray) -> None:
        self._after_bar(mask)
        self._after_position(mask)
        mask[CHORD:BASS] = False
        mask[BASS:PART] = self.own_chords and CHORD < self.ids[-1] < BASS

    _after_duration, _after_bass = _after_bar, _after_chord

    def _after_part(self, mask: np.ndarray) -> None:
        mask[PITCH : PITCH + 128] = True

    def _after_pitch(self, mask: np.ndarray) -> None:
        mask[VELOCITY:DURATION] = True

    def _after_velocity(self, mask: np.ndarray) -> None:
        room = DURATIONS[-1] if self.ring else self.total - self.line - self.position
        mask[DURATION : DURATION + int(np.searchsorted(_DURATIONS, room, side="right"))] = True

    def push(self, token: int) -> int:
        if self.header:
            return self._append(self.header.pop(0))
        if self.queue:
            return self._enter(self.queue.pop(0))
        if token == BAR and self._next_bar == EOS:
            token = EOS
        bar_line = token == self._next_bar
        if bar_line or POSITION <= token < CHORD:
            step = int(self.bars.starts[len(self.lines)]) if bar_line else self.line + token - POSITION
            if self.marks and self.marks[0][0] < step + (not bar_line):
                return self._enter_mark()
        if bar_line and token != EOS:
            self._open_bar()
            return self._append(self.header.pop(0))
        return self._enter(token)

    def _append(self, token: int) -> int:
        self.ids.append(token)
        return token

    def _enter_mark(self) -> int:
        """The plan's next chord comes before the sampled id: its position now, the chord after it."""
        step, self.queue = self.marks.pop(0)
        return self._enter(POSITION + step - self.line)

    def _enter(self, token: int) -> int:
        self.stage = KINDS[KIND[token]]
        if self.stage == "position":
            self.position, self.pitch, self.top = token - POSITION, -1, -1
        elif self.stage == "part":
            self.part = self.top = token - PART
            self.pitch = -1
        elif self.stage == "pitch":
            self.pitch, self.top = token - PITCH, self.part
        self.done = token == EOS
        return self._append(token)
