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
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import FileError, InputError
from ...files import write_file
from . import smf
from .channels import DRUM_CHANNEL, first_programs, told
from .extras import CONDUCTOR, ENDED, SUSTAIN, Extra, find_extras
from .marks import FREE, IN_PLACES, MARK, marks, noted_parts, read_chords
from .score import DEFAULT_USEC, FREE_TICKS, METRE, NOTE, PEDAL, TEMPO, Score, Track, array, ends_of
from .smf import CONTROL, NAME, NOTE_OFF, NOTE_ON, SET_TEMPO, SIGNATURE, TEXT, Events, Meta
from .voices import close, tracks_of

MAX_BYTES = 8 * 2**20
MAX_NOTES = 500_000
MAX_TRACKS = 256  # a Score counts them in a byte
MAX_HOURS = 6
MAX_QUARTERS = MAX_BEATS = 400_000  # six hours at 1,100 bpm: bounds what all that goes by bars and beats takes
MAX_SOUNDING = 5_000_000  # beats, or half seconds, of all notes: each is looked at when chords are heard
MAX_USEC = 2**24 - 1

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


def read_whole(path: str | Path, warn: Callable[[str], None] | None = None) -> Score:
    """A MIDI file as `read_midi`, without chords that stand in places alone: those say nothing of the whole."""
    score = read_midi(path, warn)
    return score.replace(chords=()) if has_chords_in_places(path) else score


def has_chords_in_places(path: str | Path) -> bool:
    """Whether the chords of a file stand in what takes have written alone, as it states none itself."""
    return IN_PLACES in marks(load_events(path).metas)


def read_extras(path: str | Path) -> tuple[Extra, ...]:
    """What a MIDI file says and its Score does not hold, for `write_midi` to write back."""
    events = load_events(path)
    (score, _), found = _score(events), find_extras(events)
    own, end = _in_own_time(events, score), int(events.ends.max(initial=0))
    if own.ticks_per_quarter != score.ticks_per_quarter or not np.array_equal(own.tempos, score.tempos):
        *ticks, end = np.rint(score.seconds([*(one.tick for one in found), end]) * 1000).astype(int).tolist()
        found = tuple(one._replace(tick=tick) for one, tick in zip(found, ticks, strict=True))
    later = end > max([close(own), *(one.tick for one in found)])
    return (*found, Extra(CONDUCTOR, min(end, smf.MAX_TICK), ENDED)) if later else found


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
    onsets, ends = score.notes["onset"], ends_of(score.notes)
    if (beats := int(_beats(score, score.end))) > MAX_BEATS:
        raise ValueError(f"{beats} beats long by its metre; at most {MAX_BEATS}")
    in_beats, in_seconds = (float(np.sum(at(ends) - at(onsets))) for at in (partial(_beats, score), score.seconds))
    if max(in_beats, 2 * in_seconds) > MAX_SOUNDING:
        raise ValueError(
            f"its notes sound for {max(in_beats, 2 * in_seconds):.0f} beats in all; at most {MAX_SOUNDING}"
        )


def _beats(score: Score, ticks) -> np.ndarray:
    """How many beats have passed at ticks: denominators of the metre, with what a change of it cuts off."""
    edges = np.minimum(np.append(score.metres["tick"], score.end), score.end).astype(np.int64)
    beat = np.maximum(4 * score.ticks_per_quarter // score.metres["denominator"].astype(np.int64), 1)  # in ticks
    passed = np.cumsum(-(-np.diff(edges) // beat))
    return np.interp(ticks, edges, np.append(0, passed))


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
    """A track for each key: name and part of its MIDI track, the program that holds for it at the first note."""
    names = {meta.track: meta.text for meta in reversed(events.metas) if meta.kind == NAME}
    parts = noted_parts(events.metas)
    tracks = []
    for key, program in zip(keys.tolist(), first_programs(events, keys.tolist()), strict=True):
        name, part = names.get(key // 16, ""), parts.get(key // 16, "other")
        tracks.append(Track(name, program or 0, key % 16 == DRUM_CHANNEL, part))
    return tuple(tracks)


def _pedals(events: Events, keys: np.ndarray) -> np.ndarray:
    """Controller 64 as it holds for each track. A value that only repeats the one before is left out."""
    at = np.flatnonzero((events.kind == CONTROL) & (events.data[:, 0] == SUSTAIN))
    if not len(at):
        return array((), PEDAL)
    heard = told(events, keys.tolist(), at)
    mine = np.concatenate([at[:0], *heard])
    pedals = np.empty(len(mine), PEDAL)
    pedals["tick"], pedals["value"] = events.tick[mine], events.data[mine, 1]
    pedals["track"] = np.repeat(np.arange(len(heard)), [len(which) for which in heard])
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


def write_midi(
    score: Score,
    path: str | Path,
    texts: Iterable[str] = (),
    extras: Sequence[Extra] = (),
    end: int | None = None,
    *,
    new: bool = False,
) -> None:
    """Write a Score as a type 1 MIDI file that opens well in any DAW.

    First a conductor track with tempo, metre, chords as markers and `texts` (seed, settings) as text events, then a
    MIDI track for each track: drums on channel 10, the others on one each, as far as there are as many. `extras` are
    events of another file to be written with it (`extras.py`). The file ends at the tick `end`, or with its last event
    if that is later; without one where the file of the extras ended, or at a bar line. It appears only when it is
    whole. Raises InputError for what MIDI cannot hold, and FileError where the disk refuses or, with `new`, where
    something is at `path` already.
    """
    write_file(path, encode(score, texts, extras, end), new=new)


def encode(score: Score, texts: Iterable[str] = (), extras: Sequence[Extra] = (), end: int | None = None) -> bytes:
    """The bytes of the MIDI file that `write_midi` writes."""
    end = close(score, extras) if end is None else end
    _check(score, end)
    return smf.encode(score.ticks_per_quarter, tracks_of(score, texts, extras), end)


def _check(score: Score, end: int) -> None:
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
        ("note end", ends_of(notes), 0, smf.MAX_TICK),
        ("end", end, 0, smf.MAX_TICK),
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


# --- events ---------------------------------------------------------------------------------------------------


def events(score: Score) -> np.ndarray:
    """A score as a stream of events: float64 (n, 4) of time in seconds, type ON 1, OFF 0 or CC 2, and two values.

    ON and OFF have pitch and velocity (0 for OFF), CC has 64 and 127 or 0: pedal down, at any value above 0, or up.
    Sorted by time; at one time OFF before CC before ON. All tracks together.
    """
    notes, pedals = score.notes, score.pedals
    ticks = np.concatenate([ends_of(notes), pedals["tick"], notes["onset"]])
    columns = [
        score.seconds(ticks),
        np.repeat([OFF, CC, ON], [len(notes), len(pedals), len(notes)]),
        np.concatenate([notes["pitch"], np.full(len(pedals), SUSTAIN), notes["pitch"]]),
        np.concatenate([np.zeros(len(notes)), np.where(pedals["value"] > 0, 127, 0), notes["velocity"]]),
    ]
    return np.stack(columns, axis=1).astype(np.float64)[np.argsort(ticks, kind="stable")]
