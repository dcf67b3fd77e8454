"""MIDI files in and out, without loss: reading what `write_midi` wrote gives the same Score, to the tick.

Reading goes through `smf.py` and not symusic, because a Score needs what symusic 0.6 leaves out: it drops notes
without an end, refuses a file for one value out of range, and gives neither channels nor text events. The tests read
the same files with symusic and mido and compare.

What a Score knows and MIDI has no word for stands in text events (`marks.py`); what a file says and a Score does not
hold can be written back beside it (`extras.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from ...errors import FileError, InputError
from ...files import write_file
from . import smf
from .chords import spell
from .extras import CONDUCTOR, SUSTAIN, Extra, beside_chords, extras_of, find_extras
from .marks import CHORDS, FREE, MARK, PART, marks, noted_parts, read_chords
from .score import DEFAULT_USEC, FREE_TICKS, METRE, NOTE, PEDAL, TEMPO, Score, Track, array
from .smf import CONTROL, MARKER, NAME, NOTE_OFF, NOTE_ON, PROGRAM, SET_TEMPO, SIGNATURE, TEXT, Events, Meta

MAX_BYTES = 8 * 2**20
MAX_NOTES = 500_000
MAX_TRACKS = 256  # a Score counts them in a byte
MAX_HOURS = 6
MAX_QUARTERS = 400_000  # six hours at 1,100 bpm: bounds the number of bars and beats
MAX_USEC = 2**24 - 1

DRUM_CHANNEL = 9
CHANNELS = tuple(channel for channel in range(16) if channel != DRUM_CHANNEL)
OFF, ON, CC = 0, 1, 2  # the types in `events`


# --- files to scores ------------------------------------------------------------------------------------------


def midi_files(folder: str | Path) -> list[Path]:
    """All .mid and .midi files in a folder and its subfolders, sorted; hidden ones (`._song.mid`) are left out.

    Links to folders are not followed. Raises FileError for a folder that cannot be read.
    """
    if not os.path.isdir(folder):
        raise FileError(folder, "a file, not a folder" if os.path.exists(folder) else "no such folder")
    found = []
    for place, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if name.lower().endswith((".mid", ".midi")) and name[0] != "."]
    return sorted(path for path in found if path.is_file())


def _refuse(error: OSError) -> None:
    raise FileError(error.filename, f"cannot be read: {error.strerror}") from None


def read_midi(path: str | Path, warn: Callable[[str], None] | None = None) -> Score:
    """Read a MIDI file, type 0 or 1: one track for each channel of each MIDI track that has notes.

    A track's program is the one at its first note; channel 10 is drums; its part is "other" unless Woodshed wrote
    the file. Each pitch of a track sounds once at a time. Chords come from markers, or else from lyrics or text
    events of which all are chords. SMPTE time becomes free time. Values out of range are clipped, notes without an
    end are closed at the end of their track: `warn` is told, a line for each. Raises FileError with the reason.
    """
    return parse_midi(_load(path), path=path, warn=warn)


def parse_midi(data: bytes, *, path: str | Path = "<bytes>", warn: Callable[[str], None] | None = None) -> Score:
    """The Score in the bytes of a MIDI file, as `read_midi`; `path` is only for messages."""
    try:
        events = smf.decode(data)
        score, hanging = _score(events)
        score = _in_own_time(events, score)
    except ValueError as error:
        raise FileError(path, str(error)) from None
    slips, more = events.slips, len(events.slips) - 1
    lines = [slips[0] + (f" (and {more} more)" if more else "")] if slips else []
    if hanging:
        lines.append(f"{hanging} {'note has' if hanging == 1 else 'notes have'} no end, closed at the end of the track")
    for line in lines if warn else ():
        warn(line)
    return score


def read_texts(path: str | Path) -> list[str]:
    """The text events of a MIDI file in order: the `texts` of `write_midi`, without the marks Woodshed adds."""
    texts = [meta.text for meta in load_events(path).metas if meta.kind == TEXT]
    return [text for text in texts if text and not text.startswith(MARK)]


def read_extras(path: str | Path) -> tuple[Extra, ...]:
    """What a MIDI file says and its Score does not hold, for `write_midi` to write back."""
    events = load_events(path)
    (score, _), found = _score(events), find_extras(events)
    own = _in_own_time(events, score)
    if own.ticks_per_quarter == score.ticks_per_quarter and np.array_equal(own.tempos, score.tempos):
        return found
    return tuple(one._replace(tick=round(float(score.seconds(one.tick)) * 1000)) for one in found)


def load_events(path: str | Path) -> Events:
    """The events of a MIDI file. Raises FileError with the reason."""
    try:
        return smf.decode(_load(path))
    except ValueError as error:
        raise FileError(path, str(error)) from None


def _load(path: str | Path) -> bytes:
    path = Path(path)
    if not path.is_file():
        raise FileError(path, "not a file" if path.exists() else "no such file")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise FileError(path, f"{size / 2**20:.1f} MiB; a MIDI file may have {MAX_BYTES // 2**20}")
        return path.read_bytes()
    except OSError as error:
        raise FileError(path, error.strerror or str(error)) from None


def _score(events: Events) -> tuple[Score, int]:
    """Events to a Score in their ticks, and how many notes had to be closed at the end of their track."""
    notes, owners, hanging = _notes(events)
    keys = np.flatnonzero(np.bincount(owners))
    if len(keys) > MAX_TRACKS:
        raise ValueError(f"{len(keys)} tracks with notes; at most {MAX_TRACKS}")
    notes["track"] = np.searchsorted(keys, owners)
    ticks_per_quarter, tempos = events.division, _tempos(events.metas)
    if ticks_per_quarter & 0x8000:
        ticks_per_quarter, tempos = _smpte(events.division)
    score = Score(
        notes=notes,
        pedals=_pedals(events, keys),
        tempos=tempos,
        metres=_metres(events.metas),
        chords=read_chords(events.metas),
        tracks=_tracks(events, keys),
        ticks_per_quarter=ticks_per_quarter,
    ).without_overlaps()
    _check_length(score)
    return score, hanging


def _in_own_time(events: Events, score: Score) -> Score:
    """The score of events, in free time where they are: their ticks may be others, where a DAW has saved it."""
    if FREE not in marks(events.metas) and not events.division & 0x8000:
        return score
    in_ms = score.ticks_per_quarter == FREE_TICKS and score.tempos.tolist() == [(0, DEFAULT_USEC)]
    return score.replace(free=True) if in_ms else score.freed()


def _check_length(score: Score) -> None:
    hours = float(score.seconds(score.end)) / 3600
    if hours > MAX_HOURS:
        raise ValueError(f"lasts {hours:.1f} hours; at most {MAX_HOURS}")
    if score.end > MAX_QUARTERS * score.ticks_per_quarter:
        raise ValueError(f"{score.end // score.ticks_per_quarter} quarter notes long; at most {MAX_QUARTERS}")


def _notes(events: Events) -> tuple[np.ndarray, np.ndarray, int]:
    """Note rows, their keys, and how many had no end: each note-off ends the earliest note of its pitch that sounds; of
    a pitch that lacks note-offs the latest, so that one that was lost lengthens one note and not all after it."""
    at = np.flatnonzero((events.kind == NOTE_ON) | (events.kind == NOTE_OFF))
    voice = events.key[at] * 128 + events.data[at, 0]
    small = np.min_scalar_type(voice.max(initial=0))  # 16 bits sort several times as fast as 64
    order = np.argsort(voice.astype(small), kind="stable")
    at, voice = at[order], voice[order]
    voice = np.cumsum(np.diff(voice, prepend=voice[:1]) > 0)
    starts = (events.kind[at] == NOTE_ON) & (events.data[at, 1] > 0)
    if np.count_nonzero(starts) > MAX_NOTES:
        raise ValueError(f"{np.count_nonzero(starts)} notes; at most {MAX_NOTES}")
    ends_a_note = ~starts & ~_stray(starts, voice)
    on, off = at[starts], at[ends_a_note]
    ons, offs = (np.bincount(voice[which], minlength=len(at) + 1) for which in (starts, ends_a_note))
    mine = voice[starts]
    rank = np.arange(len(on)) - (np.cumsum(ons) - ons)[mine]
    ended = (ons == offs)[mine]
    until = np.full(len(events.tick), -2)  # -2 is no note, -1 a note without an end
    until[on] = -1
    until[on[ended]] = events.tick[off[(np.cumsum(offs) - offs)[mine][ended] + rank[ended]]]
    lacking = (starts | ends_a_note) & (ons > offs)[voice]
    first, last = _nested(starts[lacking], voice[lacking])
    until[at[lacking][first]] = events.tick[at[lacking][last]]
    on = np.flatnonzero(until > -2)  # in the order of the file
    onset, end, key = events.tick[on], until[on], events.key[on]
    end = np.where(end < 0, events.ends[key // 16], end)
    notes = np.empty(len(on), NOTE)
    notes["onset"], notes["duration"] = onset, np.maximum(end - onset, 1)
    notes["pitch"], notes["velocity"] = events.data[on, 0], events.data[on, 1]
    return notes, key, len(on) - int(np.count_nonzero(ended)) - len(first)


def _nested(starts: np.ndarray, voice: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Note-ons and the note-offs that end them, each the latest that sounds; `voice` is sorted, and no off is stray."""
    sounding = np.cumsum(np.where(starts, 1, -1)) + ~starts  # with the note itself; over all voices: those before go on
    order = np.lexsort((np.arange(len(starts)), sounding, voice))
    pairs = starts[order][:-1] & ~starts[order][1:] & (np.diff(voice[order]) == 0) & (np.diff(sounding[order]) == 0)
    return order[:-1][pairs], order[1:][pairs]


def _stray(starts: np.ndarray, voice: np.ndarray) -> np.ndarray:
    """Which note-offs find no note sounding; `voice` counts 0, 1, 2 ... and is sorted."""
    step = np.where(starts, 1, -1)
    total = np.cumsum(step)
    first = np.append(True, np.diff(voice) > 0)[: len(voice)]
    zero = -voice * (len(voice) + 1)  # each voice starts below the last one's lowest: one running minimum does for all
    sounding = total - (total - step)[first][voice] + zero
    lowest = np.minimum.accumulate(np.minimum(sounding, zero))
    return sounding < np.minimum(np.append(0, lowest[:-1])[: len(voice)], zero)


def _tracks(events: Events, keys: np.ndarray) -> tuple[Track, ...]:
    """A track for each key: name and part of its MIDI track, program of its channel at the first note."""
    names = {meta.track: meta.text for meta in reversed(events.metas) if meta.kind == NAME}
    parts = noted_parts(events.metas)
    sounding = (events.kind == NOTE_ON) & (events.data[:, 1] > 0)
    changes = np.flatnonzero(events.kind == PROGRAM)
    tracks, port, silent = [], events.ports(), np.setdiff1d(events.key[changes], keys).tolist()
    for key in keys.tolist():
        first = np.argmax(sounding & (events.key == key)) if len(changes) else 0
        mine = changes[(events.key[changes] == key) & (changes < first)]
        if not len(mine):  # a MIDI track without notes may say it for its channel
            there = [k for k in silent if k % 16 == key % 16 and port.get(k // 16) in (None, port.get(key // 16))]
            mine = changes[np.isin(events.key[changes], there) & (events.tick[changes] <= events.tick[first])]
        program = int(events.data[mine[-1], 0]) if len(mine) else 0
        name, part = names.get(key // 16, ""), parts.get(key // 16, "other")
        tracks.append(Track(name, program, key % 16 == DRUM_CHANNEL, part))
    return tuple(tracks)


def _pedals(events: Events, keys: np.ndarray) -> np.ndarray:
    """Controller 64 of the tracks that have notes; from a track without, it goes to all of that channel.

    A value that only repeats the one before is left out.
    """
    at = np.flatnonzero((events.kind == CONTROL) & (events.data[:, 0] == SUSTAIN))
    if not len(at):
        return array((), PEDAL)
    source, keys = events.key[at], keys.tolist()
    pairs = [(track, source == key) for track, key in enumerate(keys)]
    for orphan in set(np.flatnonzero(np.bincount(source)).tolist()) - set(keys):
        pairs += [(track, source == orphan) for track, key in enumerate(keys) if key % 16 == orphan % 16]
    mine = np.concatenate([at[:0], *(at[which] for _, which in pairs)])
    pedals = np.empty(len(mine), PEDAL)
    pedals["tick"], pedals["value"] = events.tick[mine], events.data[mine, 1]
    pedals["track"] = np.repeat([track for track, _ in pairs], [np.count_nonzero(which) for _, which in pairs])
    pedals = pedals.take(np.argsort((pedals["track"].astype(np.int64) << 32) + pedals["tick"], kind="stable"))
    repeats = (pedals["track"][1:] == pedals["track"][:-1]) & (pedals["value"][1:] == pedals["value"][:-1])
    return pedals.compress(np.append(True, ~repeats)[: len(pedals)])


def _tempos(metas: list[Meta]) -> np.ndarray:
    found = [(meta.tick, int.from_bytes(meta.data, "big")) for meta in metas if meta.kind == SET_TEMPO]
    return array([(tick, usec) for tick, usec in found if 0 < usec <= MAX_USEC], TEMPO)


def _metres(metas: list[Meta]) -> np.ndarray:
    found = [(meta.tick, *meta.data[:2]) for meta in metas if meta.kind == SIGNATURE and len(meta.data) >= 2]
    return array([(tick, top, 1 << power) for tick, top, power in found if top and power < 8], METRE)


def _smpte(division: int) -> tuple[int, list[tuple[int, int]]]:
    """Frames a second and ticks a frame as ticks a quarter of one second; 29 stands for 30 drop-frame, 29.97."""
    frames, ticks = 256 - (division >> 8), division & 255
    if frames not in (24, 25, 29, 30) or not ticks:
        raise ValueError(f"SMPTE time of {frames} frames a second and {ticks} ticks a frame")
    return (30 * ticks, [(0, 1_001_000)]) if frames == 29 else (frames * ticks, [(0, 1_000_000)])


# --- scores to files ------------------------------------------------------------------------------------------


def write_midi(score: Score, path: str | Path, texts: Iterable[str] = (), extras: Sequence[Extra] = ()) -> None:
    """Write a Score as a type 1 MIDI file that opens well in any DAW.

    First a conductor track with tempo, metre, chords as markers and `texts` (seed, settings) as text events, then a
    MIDI track for each track: drums on channel 10, the others on the other channels by turns. `extras` are events of
    another file to be written with it (`extras.py`). The file appears only when it is whole. Raises InputError for what
    MIDI cannot hold and FileError where the disk refuses.
    """
    write_file(path, encode(score, texts, extras))


def encode(score: Score, texts: Iterable[str] = (), extras: Sequence[Extra] = ()) -> bytes:
    """The bytes of the MIDI file that `write_midi` writes."""
    _check(score)
    extras = beside_chords(extras) if len(score.chords) else extras
    tracks, melodic = [_conductor(score, texts, extras)], 0
    for number, track in enumerate(score.tracks):
        channel = DRUM_CHANNEL if track.drums else CHANNELS[melodic % len(CHANNELS)]
        melodic += not track.drums
        tracks.append(_voice(score, number, channel, extras))
    return smf.encode(score.ticks_per_quarter, tracks, end=_close(score))


def _close(score: Score) -> int:
    """Where the tracks of a file end: the bar line after all that is in them, so that a DAW loops whole bars."""
    starts = [
        int(rows["tick"][-1]) + 1 for rows in (score.pedals, score.tempos, score.metres, score.chords) if len(rows)
    ]
    last = max([score.end, *starts])
    return last if score.free else min(int(score.bars(last)[-1]), smf.MAX_TICK)


def _check(score: Score) -> None:
    """Refuse what the bytes of MIDI cannot say."""
    notes, pedals, metres = score.notes, score.pedals, score.metres
    powers = 1 << np.arange(8)
    ranges = [
        ("ticks a quarter note", score.ticks_per_quarter, 1, 2**15 - 1),
        ("program", [track.program for track in score.tracks], 0, 127),
        ("pitch", notes["pitch"], 0, 127),
        ("velocity", notes["velocity"], 1, 127),
        ("onset", notes["onset"], 0, smf.MAX_TICK),
        ("duration", notes["duration"], 1, smf.MAX_TICK),
        ("note end", notes["onset"].astype(np.int64) + notes["duration"], 0, smf.MAX_TICK),
        ("pedal", pedals["value"], 0, 127),
        ("tick of a pedal", pedals["tick"], 0, smf.MAX_TICK),
        ("microseconds a quarter note", score.tempos["usec"], 1, MAX_USEC),
        ("beats a bar", metres["numerator"], 1, 255),
    ]
    for name, values, low, high in ranges:
        for value in np.atleast_1d(values)[(np.atleast_1d(values) < low) | (np.atleast_1d(values) > high)][:1]:
            raise InputError(f"{name} {value} cannot be written as MIDI; it goes from {low} to {high}")
    for value in metres["denominator"][~np.isin(metres["denominator"], powers)][:1]:
        raise InputError(f"a metre over {value} cannot be written as MIDI; choose from 1, 2, 4, 8 ... 128")


def _conductor(score: Score, texts: Iterable[str], extras: Sequence[Extra]) -> list[tuple[int, bytes]]:
    """Texts, metre, tempo and chords as events with their ticks, and the extras of no track."""
    marks = [FREE] * score.free + [CHORDS] * bool(len(score.chords))
    events = [(0, smf.meta_event(TEXT, text)) for text in (*texts, *marks)]
    for tick, top, bottom in score.metres.tolist():
        events.append((tick, smf.meta_event(SIGNATURE, bytes([top, bottom.bit_length() - 1, 24, 8]))))
    events += [(tick, smf.meta_event(SET_TEMPO, usec.to_bytes(3, "big"))) for tick, usec in score.tempos.tolist()]
    events += [(tick, smf.meta_event(MARKER, spell(*chord))) for tick, *chord in score.chords.tolist()]
    return sorted(events + extras_of(extras, CONDUCTOR, 0), key=lambda event: event[0])


def _voice(score: Score, number: int, channel: int, extras: Sequence[Extra]) -> list[tuple[int, bytes]]:
    """One track: name, part, program, then notes and pedal; at one tick ends come before pedal before starts, and
    extras before all of them: at the beginning before the program too, of which they name the bank.
    """
    track = score.tracks[number]
    notes, pedals = (rows[rows["track"] == number] for rows in (score.notes, score.pedals))
    head = [bytes([0xC0 | channel, track.program])]
    if track.part != "other":
        head.insert(0, smf.meta_event(TEXT, PART + track.part))
    if track.name:
        head.insert(0, smf.meta_event(NAME, track.name))
    count, pitch = len(notes), notes["pitch"]
    ticks = np.concatenate([notes["onset"] + notes["duration"], pedals["tick"], notes["onset"]])
    status = np.repeat(np.array([0x80, 0xB0, 0x90]) | channel, [count, len(pedals), count])
    first = np.concatenate([pitch, np.full(len(pedals), SUSTAIN), pitch])
    second = np.concatenate([np.full(count, 64), pedals["value"], notes["velocity"]])
    rows = np.stack([status, first, second], axis=1).astype(np.uint8)
    order = np.argsort(ticks, kind="stable")
    own = list(zip(ticks[order].tolist(), map(bytes, rows[order]), strict=True))
    kept = extras_of(extras, number, channel)
    first = [event for event in kept if event[0] == 0]
    told = [(0, event) for event in head]
    own = sorted(kept[len(first) :] + own, key=lambda event: event[0]) if len(kept) > len(first) else own
    return told[:-1] + first + told[-1:] + own


# --- events ---------------------------------------------------------------------------------------------------


def events(score: Score) -> np.ndarray:
    """A score as a stream of events: float64 (n, 4) of time in seconds, type ON 1, OFF 0 or CC 2, and two values.

    ON and OFF have pitch and velocity (0 for OFF), CC has 64 and 127 or 0: pedal down, at any value above 0, or up.
    Sorted by time; at one time OFF before CC before ON. All tracks together.
    """
    notes, pedals = score.notes, score.pedals
    ticks = np.concatenate([notes["onset"] + notes["duration"], pedals["tick"], notes["onset"]])
    columns = [
        score.seconds(ticks),
        np.repeat([OFF, CC, ON], [len(notes), len(pedals), len(notes)]),
        np.concatenate([notes["pitch"], np.full(len(pedals), SUSTAIN), notes["pitch"]]),
        np.concatenate([np.zeros(len(notes)), np.where(pedals["value"] > 0, 127, 0), notes["velocity"]]),
    ]
    return np.stack(columns, axis=1).astype(np.float64)[np.argsort(ticks, kind="stable")]
