"""The tracks of a MIDI file: a Score, and what goes with it, as events with their ticks for `smf.encode`."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from .channels import CHANNELS, DRUM_CHANNEL
from .chords import spell
from .extras import CONDUCTOR, ENDED, NO_PROGRAM, SUSTAIN, Extra, beside_chords, extras_of, marked, name_event
from .keys import estimate_key
from .marks import CHORDS, FREE, PART
from .score import Score, ends_of
from .smf import MARKER, MAX_TICK, NAME, PORT, SET_TEMPO, SIGNATURE, TEXT, meta_event

Told = list[tuple[int, bytes]]  # events with their ticks
BANKS = b"\xb0\x00", b"\xb0\x20"  # of which the next program is one
RESETS = (0xF0, 0xF7)  # system exclusive: General MIDI and its kin put all programs back


def tracks_of(score: Score, texts: Iterable[str], extras: Sequence[Extra]) -> list[Told]:
    """The conductor's track, one for each of the score, and those without notes that the extras hold."""
    extras = [one for one in beside_chords(extras, score.chords) if one.event != ENDED]
    channels = _allot(score, extras)
    voices = [_voice(score, number, channel, extras) for number, channel in enumerate(channels)]
    return [_conductor(score, texts, extras), *voices, *_silent(extras, set(channels))]


def close(score: Score, extras: Iterable[Extra] = ()) -> int:
    """Where the tracks of a file end: the bar line after all that is in them, so that a DAW loops whole bars; later
    where the extras say so."""
    starts = [
        int(rows["tick"][-1]) + 1 for rows in (score.pedals, score.tempos, score.metres, score.chords) if len(rows)
    ]
    last = max([score.end, *starts])
    last = last if score.free else min(int(score.bars(last)[-1]), MAX_TICK)
    return max([last, *(one.tick for one in extras if one.event == ENDED)])


def _conductor(score: Score, texts: Iterable[str], extras: Sequence[Extra]) -> Told:
    """Texts, metre, tempo and chords, but for those that the extras state, and the extras of no track."""
    marks = [FREE] * score.free + [CHORDS] * bool(len(score.chords))
    events = [(0, meta_event(TEXT, text)) for text in (*texts, *marks)]
    for tick, top, bottom in score.metres.tolist():
        events.append((tick, meta_event(SIGNATURE, bytes([top, bottom.bit_length() - 1, 24, 8]))))
    events += [(tick, meta_event(SET_TEMPO, usec.to_bytes(3, "big"))) for tick, usec in score.tempos.tolist()]
    stated, key = marked(extras), estimate_key(score)[:2]
    chords = [(tick, spell(*chord, key)) for tick, *chord in score.chords.tolist() if tick not in stated]
    events += [(tick, meta_event(MARKER, name)) for tick, name in chords]
    return sorted(events + extras_of(extras, CONDUCTOR, 0), key=lambda event: event[0])


def _voice(score: Score, number: int, channel: int, extras: Sequence[Extra]) -> Told:
    """One track: name, part, program, then notes and pedal; at one tick ends come before pedal before starts, and
    extras before all of them."""
    track = score.tracks[number]
    notes, pedals = (rows[rows["track"] == number] for rows in (score.notes, score.pedals))
    head = [(0, name_event(extras, number, track.name))] * bool(track.name)
    head += [(0, meta_event(TEXT, PART + track.part))] * (track.part != "other")
    count, pitch = len(notes), notes["pitch"]
    ticks = np.concatenate([ends_of(notes), pedals["tick"], notes["onset"]])
    status = np.repeat(np.array([0x80, 0xB0, 0x90]) | channel, [count, len(pedals), count])
    first = np.concatenate([pitch, np.full(len(pedals), SUSTAIN), pitch])
    second = np.concatenate([np.full(count, 64), pedals["value"], notes["velocity"]])
    rows = np.stack([status, first, second], axis=1).astype(np.uint8)
    order = np.argsort(ticks, kind="stable")
    own = list(zip(ticks[order].tolist(), map(bytes, rows[order]), strict=True))
    kept = [event for event in extras_of(extras, number, channel) if event[1][:2] != bytes([0xFF, NAME])]
    start = int(notes["onset"][0]) if count else 0
    program = [(_program_tick(extras, number, start), bytes([0xC0 | channel, track.program]))]
    program *= track.program > 0 or (number, NO_PROGRAM) not in {(one.track, one.event) for one in extras}
    return head + sorted([*kept, *program, *own], key=lambda event: event[0])


def _program_tick(extras: Sequence[Extra], number: int, start: int) -> int:
    """The tick of a track's program: 0, or that of the last bank or reset before its first note, which undo others."""
    undone = (one for one in extras if one.event[0] in RESETS or (one.track == number and one.event[:2] in BANKS))
    return max((one.tick for one in undone if one.tick <= start), default=0)


# --- channels -------------------------------------------------------------------------------------------------------


def _allot(score: Score, extras: Sequence[Extra]) -> list[int]:
    """A channel for each track: drums have theirs, the others one each. Of more than there are those of one program
    share, and if possible those that say the same on it besides."""
    melodic = [number for number, track in enumerate(score.tracks) if not track.drums]
    sounds = [score.tracks[number].program for number in melodic]
    if len(melodic) > len(CHANNELS):
        said = [frozenset(_sayings(score, extras, number)) for number in melodic]
        whole = list(zip(sounds, said, strict=True))
        sounds = whole if len(set(whole)) <= len(CHANNELS) else sounds
    channels = dict(zip(melodic, (CHANNELS[place] for place in _shared(sounds)), strict=True))
    return [channels.get(number, DRUM_CHANNEL) for number in range(len(score.tracks))]


def _sayings(score: Score, extras: Sequence[Extra], number: int) -> list:
    """All that a track says on its channel besides notes and its program."""
    pedals = score.pedals[score.pedals["track"] == number]
    return pedals.tolist() + [one for one in extras if one.track == number and one.event[0] < 0xF0]


def _shared(sounds: Sequence[Hashable]) -> list[int]:
    """A place for each sound, of as many as there are channels: at one place are only equal sounds, if that can be."""
    count, room = Counter(sounds), Counter(set(sounds))
    while room.total() < min(len(CHANNELS), len(sounds)):
        room[max(count, key=lambda sound: count[sound] / room[sound])] += 1
    turn = {sound: itertools.cycle(range(places)) for sound, places in room.items()}
    seats = [(sound, next(turn[sound])) for sound in sounds]
    order = {seat: number % len(CHANNELS) for number, seat in enumerate(dict.fromkeys(seats))}
    return [order[seat] for seat in seats]


def _silent(extras: Sequence[Extra], taken: set[int]) -> list[Told]:
    """MIDI tracks without notes, on the channels they were on, or free ones where tracks with notes have taken those.
    Where none is free they go to another port, as they would be heard on a channel that is taken."""
    tracks = []
    for number in sorted({one.track for one in extras if one.track < CONDUCTOR}, reverse=True):
        mine = [one for one in extras if one.track == number]
        moves: dict[int, int] = {}
        for channel in dict.fromkeys(one.event[0] & 15 for one in mine if one.event[0] < 0xF0):
            free = [other for other in (channel, *CHANNELS) if other not in {*taken, *moves.values()}]
            moves[channel] = free[0] if free else channel
        crowded = taken & {*moves.values()}
        taken = taken | {*moves.values()}
        apart = [(0, meta_event(PORT, bytes([1])))] * bool(crowded)
        tracks.append(
            apart + [told for one in mine for told in extras_of([one], number, moves.get(one.event[0] & 15, 0))]
        )
    return tracks
