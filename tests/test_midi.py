"""MIDI in and out: the round trip, other readers as references, what files say, and hostile bytes."""

import io
import random
import struct
from collections import defaultdict

import mido
import numpy as np
import pytest
import symusic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import DATA, scores

from woodshed.errors import FileError, InputError
from woodshed.symbolic.music.chords import QUALITY_NAMES, parse_chord
from woodshed.symbolic.music.extras import NO_PROGRAM, Extra, released, without_bends
from woodshed.symbolic.music.midi import (
    encode,
    events,
    midi_files,
    parse_midi,
    read_extras,
    read_midi,
    read_texts,
    write_midi,
)
from woodshed.symbolic.music.score import NOTE, PARTS, PEDAL, Score, Track, array

SETS = ("pop909", "lieder", "mutopia", "openewld", "giantmidi", "groove")
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="shared data absent")
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


def some_files(name, count):
    files = midi_files(DATA / name)
    return random.Random(name).sample(files, min(count, len(files)))


def normal(score):
    """The score as MIDI can say it: no same-pitch overlaps, no silent tracks, no repeated pedal values."""
    score = score.without_overlaps()
    used = np.unique(score.notes["track"])
    notes, pedals = score.notes.copy(), score.pedals[np.isin(score.pedals["track"], used)]
    notes["track"], pedals["track"] = np.searchsorted(used, notes["track"]), np.searchsorted(used, pedals["track"])
    kept, last = [], {}
    for tick, value, track in pedals.tolist():
        if last.get(track) != value:
            kept.append((tick, value, track))
        last[track] = value
    return score.replace(notes=notes, pedals=array(kept, PEDAL), tracks=tuple(score.tracks[track] for track in used))


def smf(*tracks, kind=1, division=480):
    """A file of hand-made tracks (bytes without the end-of-track event)."""
    chunks = [b"MTrk" + struct.pack(">I", len(body) + 4) + body + b"\x00\xff\x2f\x00" for body in tracks]
    return b"MThd" + struct.pack(">IHHH", 6, kind, len(tracks), division) + b"".join(chunks)


def note_list(score):
    return [tuple(row) for row in score.notes[["onset", "duration", "pitch", "velocity"]].tolist()]


def text(kind, words, delta=b"\x00"):
    words = words.encode()
    return delta + bytes([0xFF, kind, len(words)]) + words


NOTE_C = b"\x00\x90\x3c\x40\x60\x80\x3c\x40"  # middle C for 96 ticks


# --- the round trip -------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scores(), st.lists(st.tuples(NAMES, st.integers(0, 127), st.booleans(), st.sampled_from(PARTS)), max_size=3))
def test_writing_and_reading_changes_nothing(score, tracks):
    tracks = [Track(*track) for track in tracks][: len(score.tracks)]
    score = normal(score.replace(tracks=(*tracks, *score.tracks[len(tracks) :])))
    assert parse_midi(encode(score)) == score


@needs_data
@pytest.mark.parametrize("name", SETS)
def test_real_files_survive(name):
    for path in some_files(name, 12):
        score = read_midi(path)
        assert len(score.notes) and parse_midi(encode(score)) == score, path


def test_forty_tracks_unicode_and_every_part_survive(tmp_path):
    tracks = [Track(f"Håndtrykk 爱 {i}", i, i % 7 == 3, PARTS[i % len(PARTS)]) for i in range(40)]
    score = Score([(i * 10, 5, 60, 80, i) for i in range(40)], tracks=tracks)
    write_midi(score, tmp_path / "søng 爱.mid")
    assert read_midi(tmp_path / "søng 爱.mid") == score
    channels = [
        m.channel for track in mido.MidiFile(tmp_path / "søng 爱.mid").tracks for m in track if m.type == "note_on"
    ]
    assert [channel == 9 for channel in channels] == [track.drums for track in tracks]


def test_free_time_and_long_silence_survive():
    free = Score([(0, 1, 60, 1, 0), (3_000_000, 5, 60, 127, 0)], ticks_per_quarter=500, free=True)
    assert parse_midi(encode(free)) == free
    silence = Score([(0, 1, 60, 1, 0), (2**31 - 100, 5, 60, 127, 0)], tempos=[(0, 60_000)], ticks_per_quarter=32767)
    assert parse_midi(encode(silence)) == silence


def test_free_time_saved_by_a_daw_in_beats_is_free_again():
    free = Score([(1000, 500, 60, 80, 0)], ticks_per_quarter=500, free=True)
    assert parse_midi(encode(free.retime(480))) == free


def test_texts_come_back_and_the_score_is_the_same(tmp_path):
    score = Score([(0, 10, 60, 80, 0)], tracks=[Track("a", part="bass")], chords=[(0, 9, 0, 9)])
    texts = ["seed: 7", "temperature: 0.9 – «hot»"]
    write_midi(score, tmp_path / "a.mid", texts)
    assert read_texts(tmp_path / "a.mid") == texts
    assert read_midi(tmp_path / "a.mid") == score


def test_what_a_score_does_not_hold_can_be_written_back(tmp_path):
    sysex = b"\x00\xf0\x05\x7e\x7f\x09\x01\xf7"
    title = text(3, "Song") + text(2, "me") + b"\x00\xff\x59\x02\x01\x00" + sysex
    bank = b"\x00\xb1\x00\x01\x00\xc1\x05\x00\xb1\x07\x50"
    played = b"\x00\x91\x3c\x40\x30\xe1\x00\x50\x30\x81\x3c\x40\x00\xc1\x06\x00\x91\x3e\x40\x60\x81\x3e\x40"
    sung = text(5, "la") + b"\x00\x92\x48\x40" + text(5, "lu", b"\x60") + b"\x00\x82\x48\x40" + text(6, "Coda")
    (tmp_path / "a.mid").write_bytes(smf(title, bank + played, sung))
    score, extras = read_midi(tmp_path / "a.mid"), read_extras(tmp_path / "a.mid")
    write_midi(score, tmp_path / "b.mid", texts=["woodshed seed: 1"], extras=extras)
    assert read_midi(tmp_path / "b.mid") == score and read_extras(tmp_path / "b.mid") == extras
    conductor, piano, voice = mido.MidiFile(tmp_path / "b.mid").tracks
    assert {"key_signature", "copyright", "sysex"} <= {message.type for message in conductor}
    told = [message for message in piano if message.type in ("control_change", "program_change", "pitchwheel")]
    assert [str(message.dict().get("control", message.type)) for message in told] == [
        "0", "7", "program_change", "pitchwheel", "program_change",
    ]  # fmt: skip
    assert len({message.channel for message in piano if not message.is_meta}) == 1
    assert [message.text for message in voice if message.type in ("lyrics", "marker")] == ["la", "lu", "Coda"]


def said(path):
    """The extras of a file without the signs that a track names no program."""
    return tuple(one for one in read_extras(path) if one.event != NO_PROGRAM)


def test_a_track_that_names_no_program_is_given_none(tmp_path):
    drums, second, third = (
        NOTE_C.replace(b"\x90", bytes([0x90 | on])).replace(b"\x80", bytes([0x80 | on])) for on in (9, 1, 2)
    )
    (tmp_path / "a.mid").write_bytes(smf(NOTE_C, drums, second + b"\x00\xc1\x05", b"\x00\xc2\x00" + third))
    score, extras = read_midi(tmp_path / "a.mid"), read_extras(tmp_path / "a.mid")
    assert [one.track for one in extras if one.event == NO_PROGRAM] == [0, 1, 2]
    more = score.replace(tracks=[*score.tracks, Track("New")], notes=[*score.notes.tolist(), (0, 96, 50, 64, 4)])
    write_midi(more, tmp_path / "b.mid", extras=extras)
    tracks = mido.MidiFile(tmp_path / "b.mid").tracks[1:]
    told = [[message.program for message in track if message.type == "program_change"] for track in tracks]
    assert told == [[], [], [5], [0], [0]]
    assert read_midi(tmp_path / "b.mid") == more and read_extras(tmp_path / "b.mid") == extras


def test_what_a_channel_is_told_holds_for_all_its_tracks(tmp_path):
    setup = b"\x00\xc0\x30\x00\xb0\x07\x28\x60\xc0\x3c"  # program 48, volume 40, program 60 a little later
    (tmp_path / "a.mid").write_bytes(smf(setup, NOTE_C, NOTE_C))
    assert [track.program for track in read_midi(tmp_path / "a.mid").tracks] == [48, 48]
    extras = read_extras(tmp_path / "a.mid")
    assert {(one.track, one.tick, one.event) for one in extras} == {
        (track, tick, event) for track in (0, 1) for tick, event in ((0, b"\xb0\x07\x28"), (96, b"\xc0\x3c"))
    }
    write_midi(read_midi(tmp_path / "a.mid"), tmp_path / "b.mid", extras=extras)
    assert read_extras(tmp_path / "b.mid") == extras  # and they do not become more


def test_what_a_track_says_twice_stays_and_ports_are_apart(tmp_path):
    null = b"\x00\xb0\x65\x7f\x00\xb0\x64\x7f"
    pan = b"\x00\xb0\x0a\x20\x00\xb0\x0a\x40\x00\xb0\x0a\x20"
    other = b"\x00\xff\x21\x01\x01"  # port 1
    (tmp_path / "a.mid").write_bytes(smf(null + pan + null + NOTE_C, other + NOTE_C))
    extras = said(tmp_path / "a.mid")
    null, pan = ["657f", "647f"], ["0a20", "0a40", "0a20"]
    assert [one.event[1:].hex() for one in extras] == [*null, *pan, *null]
    assert {one.track for one in extras} == {0}


def test_tracks_that_a_daw_exports_on_one_channel_keep_to_themselves(tmp_path):
    first, second = (b"\x00\xb0\x07" + bytes([volume]) + NOTE_C for volume in (100, 60))
    lead = b"\x00\xe0\x00\x50\x00\xb0\x40\x7f" + NOTE_C
    for program in ([b"", b"", b""], [b"\x00\xc0\x05", b"\x00\xc0\x06", b"\x00\xc0\x07"]):
        tracks = [one + two for one, two in zip(program, (first, second, lead), strict=True)]
        (tmp_path / "a.mid").write_bytes(smf(*tracks))
        assert said(tmp_path / "a.mid") == (
            Extra(0, 0, b"\xb0\x07\x64"), Extra(1, 0, b"\xb0\x07\x3c"), Extra(2, 0, b"\xe0\x00\x50"),
        )  # fmt: skip
        assert read_midi(tmp_path / "a.mid").pedals.tolist() == [(0, 127, 2)]


def test_what_a_track_says_holds_against_what_its_channel_is_told(tmp_path):
    setup, volume = b"\x00\xb0\x07\x28", b"\x00\xb0\x07\x50"
    (tmp_path / "a.mid").write_bytes(smf(volume + NOTE_C, setup))
    assert [one.event[2] for one in said(tmp_path / "a.mid")] == [0x28, 0x50]


def test_the_staves_of_an_instrument_share_what_one_of_them_says(tmp_path):
    right = b"\x00\xc0\x13\x00\xb0\x07\x50\x00\xe0\x00\x50" + NOTE_C + b"\x00\xc0\x12" + NOTE_C
    left = b"\x00\xb0\x40\x7f" + NOTE_C + b"\x00\xb0\x40\x00"
    (tmp_path / "a.mid").write_bytes(smf(b"", right, left))
    score, extras = read_midi(tmp_path / "a.mid"), read_extras(tmp_path / "a.mid")
    assert [track.program for track in score.tracks] == [19, 19]
    assert score.pedals.tolist() == [(0, 127, 0), (0, 127, 1), (96, 0, 0), (96, 0, 1)]
    shared = {(tick, event) for tick, event in ((0, b"\xb0\x07\x50"), (96, b"\xc0\x12"))}
    assert {one[1:3] for one in extras if one.track == 0} == {*shared, (0, b"\xe0\x00\x50")}
    assert {one[1:3] for one in extras if one.track == 1} == shared
    write_midi(score, tmp_path / "b.mid", extras=extras)
    assert read_midi(tmp_path / "b.mid") == score and read_extras(tmp_path / "b.mid") == extras


@pytest.mark.parametrize("undone", [b"\xb0\x00\x08", b"\xb0\x20\x03", b"\xf0\x05\x7e\x7f\x09\x01\xf7"])
def test_the_program_comes_after_the_bank_and_the_reset(tmp_path, undone):
    late = NOTE_C.replace(b"\x00\x90", b"\x20\x90")
    (tmp_path / "a.mid").write_bytes(smf(b"", b"\x40" + undone + b"\x00\xc0\x30" + late))
    score, extras = read_midi(tmp_path / "a.mid"), read_extras(tmp_path / "a.mid")
    write_midi(score, tmp_path / "b.mid", extras=extras)
    assert read_midi(tmp_path / "b.mid") == score and read_extras(tmp_path / "b.mid") == extras
    ticks, voice = 0, mido.MidiFile(tmp_path / "b.mid").tracks[1]
    kinds = []
    for message in voice:
        ticks += message.time
        kinds += [(message.type, ticks)] * (message.type in ("control_change", "sysex", "program_change"))
    assert kinds[-1] == ("program_change", 0x40) and len(kinds) == 2


def ends(data):
    return {sum(message.time for message in track) for track in mido.MidiFile(file=io.BytesIO(data)).tracks}


def test_the_end_of_a_file_stays_and_can_be_asked_for(tmp_path):
    song = Score([(0, 480, 60, 90, 0)])
    assert ends(encode(song)) == {1920} and ends(encode(song, end=16 * 1920)) == {16 * 1920}
    assert 480 in ends(encode(song, end=100))  # a note is not cut off
    write_midi(song, tmp_path / "a.mid", end=4000)
    extras = read_extras(tmp_path / "a.mid")
    assert ends(encode(song, extras=extras)) == {4000} and ends(encode(song, extras=released(extras, 9999))) == {1920}
    free = song.freed()
    write_midi(free, tmp_path / "b.mid", end=4000)
    for score in (song, free):
        write_midi(score, tmp_path / "c.mid")
        assert read_extras(tmp_path / "c.mid") == ()
    write_midi(free.retime(480), tmp_path / "d.mid", end=9600)  # as a DAW saves it
    assert read_extras(tmp_path / "d.mid")[-1].tick == 10_000
    with pytest.raises(InputError, match="end -1"):
        encode(song, end=-1)


def channels_of(data):
    return [next(m.channel for m in t if m.type == "note_on") for t in mido.MidiFile(file=io.BytesIO(data)).tracks[1:]]


def test_more_tracks_than_channels_share_those_of_their_program():
    programs = [48] * 6 + [40, 41, 42] * 4 + [0]
    tracks = [Track(str(number), program) for number, program in enumerate(programs)]
    score = Score([(0, 10, 60, 80, number) for number in range(len(tracks))], [(0, 90, 18)], tracks=tracks)
    extras = [Extra(number, 0, bytes([0xB0, 7, 50 + (number > 2)])) for number in range(6)]
    channels = channels_of(encode(score, extras=extras))
    sounds = {(channel, programs[number]) for number, channel in enumerate(channels)}
    assert len({*channels}) == len(sounds) == 15 and 9 not in channels
    assert not {*channels[:3]} & {*channels[3:6]}  # one volume each
    assert parse_midi(encode(score, extras=extras)) == score
    many = [Track(str(number), number) for number in range(len(tracks))]
    assert channels_of(encode(score.replace(tracks=many)))[15:18] == [0, 1, 2]


def test_names_stay_in_the_bytes_they_have(tmp_path):
    latin, greek = "Geige für zwei".encode("latin-1"), "Βιολί".encode("cp1253")
    named = [b"\x00\xff\x03" + bytes([len(name)]) + name for name in (latin, greek)]
    (tmp_path / "a.mid").write_bytes(smf(named[0], named[0] + NOTE_C, named[1] + NOTE_C.replace(b"\x90", b"\x91")))
    score, extras = read_midi(tmp_path / "a.mid"), read_extras(tmp_path / "a.mid")
    data = encode(score, extras=extras)
    assert data.count(latin) == 2 and data.count(greek) == 1 and data.count(b"\xff\x03") == 3
    assert parse_midi(data) == score
    write_midi(score, tmp_path / "b.mid", extras=extras)
    assert read_extras(tmp_path / "b.mid") == extras
    other = score.replace(tracks=[Track("flute"), *score.tracks[1:]])
    assert parse_midi(encode(other, extras=extras)) == other


def test_tracks_without_notes_stay_whole(tmp_path):
    empty = text(3, "Horn") + b"\x00\xc4\x3c\x00\xb4\x07\x50" + text(1, "tacet", b"\x60") + b"\x00\xb4\x40\x7f"
    drums = text(3, "Drums") + b"\x00\xb9\x07\x20"
    (tmp_path / "a.mid").write_bytes(smf(text(3, "Song"), text(3, "Piano") + NOTE_C, empty, drums, text(3, "Aux")))
    score, extras = read_midi(tmp_path / "a.mid"), read_extras(tmp_path / "a.mid")
    assert len(score.tracks) == 1
    write_midi(score, tmp_path / "b.mid", extras=extras)
    assert read_midi(tmp_path / "b.mid") == score and read_extras(tmp_path / "b.mid") == extras
    before, after = (mido.MidiFile(tmp_path / name).tracks for name in ("a.mid", "b.mid"))
    assert [[m for m in t if m.type != "end_of_track"] for t in after[2:]] == [
        [m for m in t if m.type != "end_of_track"] for t in before[2:]
    ]
    kept = released(extras, 90)
    assert all(one in extras for one in kept) and {one.track for one in kept} == {0, -1, -2, -3, -4}


def test_tracks_without_notes_are_not_heard_by_others(tmp_path):
    empty = text(3, "Horn") + b"\x00\xb0\x07\x00\x00\xb0\x40\x7f"
    for count in (1, 15):
        melody = [NOTE_C.replace(b"\x90", b"\x91").replace(b"\x80", b"\x81")] * count
        (tmp_path / "a.mid").write_bytes(smf(b"", *melody, empty))
        score, extras = read_midi(tmp_path / "a.mid"), read_extras(tmp_path / "a.mid")
        assert {one.track for one in said(tmp_path / "a.mid")} == {-2}
        write_midi(score, tmp_path / "b.mid", extras=extras)
        assert read_midi(tmp_path / "b.mid") == score
        assert {one.track for one in said(tmp_path / "b.mid")} == {-2}


def test_rehearsal_letters_do_not_become_chords():
    song = Score([(0, 480, 60, 90, 0), (960, 480, 64, 90, 0)], chords=[(0, 0, 0, 0), (960, 5, 0, 5)])
    letters = [Extra(-1, 0, b"\xff\x06\x01B"), Extra(0, 960, b"\xff\x06\x01C")]
    assert parse_midi(encode(song, extras=letters)).chords.tolist() == song.chords.tolist()
    assert b"\xff\x07\x01B" in encode(song, extras=letters)
    assert b"\xff\x06\x01B" in encode(song.replace(chords=()), extras=letters)


def test_bends_go_with_their_notes_and_music_goes_on_at_rest():
    bends = [Extra(0, tick, bytes([0xE0, 0, value])) for tick, value in ((10, 80), (50, 90), (60, 100), (95, 64))]
    kept = [Extra(1, 55, b"\xe0\x00\x50"), Extra(0, 55, b"\xb0\x07\x09")]
    found = without_bends([*bends, *kept], [0], 40, 80)
    assert [one.tick for one in found if one.track == 0 and one.event[0] == 0xE0] == [10, 40, 80, 95]
    assert [one.event[2] for one in found if one.track == 0 and one.event[0] == 0xE0] == [80, 64, 100, 64]
    assert set(kept) <= set(found)
    assert without_bends(kept, [0], 40, 80) == tuple(sorted(kept, key=lambda one: one.tick))
    faded = [Extra(0, tick, bytes([0xB0, 7, value])) for tick, value in ((0, 100), (30, 50), (39, 0), (41, 99))]
    reset, loud = Extra(0, 40, b"\xb0\x79\x00"), Extra(0, 40, b"\xb0\x07\x64")
    assert released(faded, 40)[3:] == (loud,)
    assert released([*bends[:1], *faded], 40)[4:] == (reset, loud)
    assert released([*bends[:1], *faded[:1]], 40)[2:] == (reset, loud)  # which not all let volume be
    still = [b"\xb0\x07\x50", b"\xb0\x0a\x20", b"\xb0\x5b\x28", b"\xc0", b"\xe0\x00\x50", b"\xe0\x00\x40"]
    assert released([Extra(0, 0, event) for event in still], 40)[6:] == ()
    on_the_line = [Extra(0, 50, b"\xe0\x00\x70"), Extra(0, 80, b"\xe0\x00\x40"), Extra(0, 30, b"\xd0\x64")]
    found = without_bends(on_the_line, [0], 40, 80)
    assert [one.event for one in found if one.tick == 80][-1] == b"\xe0\x00\x40"
    assert Extra(0, 40, b"\xd0\x00") in found and Extra(0, 80, b"\xd0\x64") in found
    assert len(released(faded, 40)) == 4 and released([], 40) == ()


def test_chords_and_our_own_notes_are_not_written_back_twice(tmp_path):
    song = Score([(0, 480, 60, 90, 0), (960, 480, 64, 90, 0)], chords=[(0, 0, 0, 0), (960, 5, 0, 5)])
    write_midi(song, tmp_path / "a.mid", texts=["woodshed seed: 1", "by hand"])
    extras = read_extras(tmp_path / "a.mid")
    assert [extra.event[2:] for extra in extras if not extra.chord] == [b"\x07by hand"]
    again = encode(song, extras=extras)
    assert again.count(b"\xff\x06\x01C") == again.count(b"\xff\x06\x01F") == 1


def test_chords_stay_as_the_file_spells_them_but_where_they_are_other_chords(tmp_path):
    names = [("E", b"\x00"), ("C#m7", b"\x00"), ("F#9(13)", b"\x60"), ("B", b"\x60")]
    (tmp_path / "a.mid").write_bytes(smf(b"".join(text(6, *name) for name in names), NOTE_C))
    score, extras = read_midi(tmp_path / "a.mid"), read_extras(tmp_path / "a.mid")
    assert encode(score, extras=extras).count(b"\xff\x06") == 4
    write_midi(score.replace(chords=[*score.chords[:2].tolist(), (192, 5, 0, 5)]), tmp_path / "b.mid", extras=extras)
    markers = [message.text for message in mido.MidiFile(tmp_path / "b.mid").tracks[0] if message.type == "marker"]
    assert markers == ["E", "C#m7", "F#9(13)", "F"]


def test_markers_are_spelled_in_the_key_of_the_music():
    notes = [(480 * step, 480, 64 + pitch, 80, 0) for step, pitch in enumerate((0, 2, 4, 5, 7, 9, 11, 12, 7, 4, 0))]
    assert b"\xff\x06\x04C#m7" in encode(Score(notes, chords=[(0, 1, QUALITY_NAMES.index("min7"), 1)]))


def test_chords_in_lyrics_stay_lyrics_beside_the_markers(tmp_path):
    sung = NOTE_C + b"".join(text(5, name, b"\x60") for name in ("Db", "Gbm7", "Ab"))
    (tmp_path / "a.mid").write_bytes(smf(b"", sung))
    score = read_midi(tmp_path / "a.mid")
    write_midi(score, tmp_path / "b.mid", extras=read_extras(tmp_path / "a.mid"))
    other = score.replace(chords=[*score.chords[:2].tolist(), (384, 9, 9, 9)])
    write_midi(other, tmp_path / "c.mid", extras=read_extras(tmp_path / "b.mid"))
    for name, words, chords in (("b", ["Db", "Gbm7", "Ab"], score.chords), ("c", ["Db", "Gbm7"], other.chords)):
        _, voice = mido.MidiFile(tmp_path / f"{name}.mid").tracks
        assert [message.text for message in voice if message.type == "lyrics"] == words
        assert read_midi(tmp_path / f"{name}.mid").chords.tolist() == chords.tolist()


def test_what_we_write_other_programs_read(tmp_path):
    score = Score(
        [(0, 480, 60, 80, 0), (480, 240, 60, 90, 0), (480, 960, 36, 100, 1)],
        [(0, 100, 0), (470, 0, 0)],
        tempos=[(0, 600_000), (480, 400_000)],
        metres=[(0, 3, 4)],
        chords=[(0, 0, 0, 0)],
        tracks=[Track("keys", 4), Track("kit", drums=True)],
    )
    write_midi(score, tmp_path / "a.mid")
    other = symusic.Score(tmp_path / "a.mid")
    assert [(track.name, track.program, track.is_drum) for track in other.tracks] == [
        ("keys", 4, False),
        ("kit", 0, True),
    ]
    assert [(note.time, note.duration, note.pitch) for note in other.tracks[0].notes] == [(0, 480, 60), (480, 240, 60)]
    assert [(tempo.time, tempo.mspq) for tempo in other.tempos] == [(0, 600_000), (480, 400_000)]
    assert [marker.text for marker in other.markers] == ["C"]
    assert mido.MidiFile(tmp_path / "a.mid").type == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(tempos=[(0, 2**24)]), "16777216"),
        (dict(metres=[(0, 4, 6)]), "over 6"),
        (dict(notes=[(0, 10, 60, 0, 0)]), "velocity 0"),
        (dict(notes=[(0, 10, 128, 9, 0)]), "pitch 128"),
        (dict(ticks_per_quarter=40_000), "40000"),
    ],
)
def test_what_midi_cannot_say_is_refused(change, words):
    with pytest.raises(InputError, match=words):
        encode(Score(**{"notes": [(0, 10, 60, 80, 0)]} | change))


def test_a_missing_folder_is_a_file_error_and_nothing_half_written_stays(tmp_path):
    score = Score([(0, 10, 60, 80, 0)])
    with pytest.raises(FileError, match="No such file"):
        write_midi(score, tmp_path / "absent" / "a.mid")
    (tmp_path / "folder.mid").mkdir()
    with pytest.raises(FileError):
        write_midi(score, tmp_path / "folder.mid")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.mid"]


# --- other readers --------------------------------------------------------------------------------------------


def naive_notes(path):
    """The notes of a file by mido, one message at a time."""
    notes, names = [], {}
    for number, track in enumerate(mido.MidiFile(path).tracks):
        tick, sounding = 0, defaultdict(list)
        for message in track:
            tick += message.time
            if message.type == "note_on" and message.velocity:
                sounding[message.channel, message.note].append((tick, message.velocity))
            elif message.type in ("note_on", "note_off") and sounding[message.channel, message.note]:
                onset, velocity = sounding[message.channel, message.note].pop(0)
                notes.append((number, message.channel, onset, max(tick - onset, 1), message.note, velocity))
        for (channel, pitch), left in sounding.items():
            notes += [(number, channel, onset, max(tick - onset, 1), pitch, velocity) for onset, velocity in left]
    names = sorted({note[:2] for note in notes})
    return array([(*note[2:], names.index(note[:2])) for note in notes], NOTE)


@needs_data
@pytest.mark.parametrize("name", SETS)
def test_notes_are_those_mido_reads(name):
    for path in some_files(name, 3):
        score = read_midi(path)
        assert score == score.replace(notes=naive_notes(path)).without_overlaps(), path


@needs_data
@pytest.mark.parametrize("name", SETS)
def test_notes_tempo_and_metre_are_those_symusic_reads(name):
    compared = 0
    for path in some_files(name, 25):
        told = []
        score, other = read_midi(path, warn=told.append), symusic.Score(path)
        if told:
            continue  # a note without an end, which symusic drops
        rows = [
            (note.time, max(note.duration, 1), note.pitch, note.velocity, number)
            for number, track in enumerate(other.tracks)
            for note in track.notes
        ]
        assert (
            score
            == score.replace(
                notes=rows,
                tempos=[(tempo.time, tempo.mspq) for tempo in other.tempos],
                metres=[(metre.time, metre.numerator, metre.denominator) for metre in other.time_signatures],
            ).without_overlaps()
        ), path
        assert [track.name for track in score.tracks] == [track.name for track in other.tracks]
        compared += 1
    assert compared > 15


# --- what a file says -----------------------------------------------------------------------------------------


def test_running_status_survives_program_changes_aftertouch_and_texts():
    body = (
        b"\x00\x90\x3c\x40\x60\x3c\x00"
        + b"\x00\xc0\x05\x00\x06"
        + text(1, "hi")
        + b"\x00\x07\x00\x90\x3e\x40\x60\x3e\x00"
    )
    body += b"\x00\xd0\x10\x01\x11\x01\x12" + b"\x00\xb0\x40\x7f\x10\x40\x00"
    score = parse_midi(smf(body, kind=0))
    assert note_list(score) == [(0, 96, 60, 64), (96, 96, 62, 64)]
    assert score.pedals.tolist() == [(194, 127, 0), (210, 0, 0)]
    assert score.tracks[0].program == 0


def test_notes_without_an_end_or_length_and_ends_without_a_note():
    told = []
    body = (
        b"\x00\x80\x3c\x40"
        + b"\x00\x90\x3c\x40\x00\x80\x3c\x40"
        + b"\x10\x90\x3c\x41\x10\x90\x3e\x42"
        + b"\x20\xb0\x01\x00"
    )
    score = parse_midi(smf(body), warn=told.append)
    assert note_list(score) == [(0, 1, 60, 64), (16, 48, 60, 65), (32, 32, 62, 66)]
    assert told == ["2 notes have no end, closed at the end of the track"]


def test_a_lost_end_lengthens_one_note_and_not_all_after_it():
    on, off = b"\x90\x3c\x40", b"\x80\x3c\x40"
    told = []
    body = b"\x00" + on + b"\x30" + on + b"\x30" + off + b"\x30" + on + b"\x30" + off + b"\x30" + on + b"\x30" + off
    score = parse_midi(smf(body), warn=told.append)
    assert note_list(score) == [(0, 48, 60, 64), (48, 48, 60, 64), (144, 48, 60, 64), (240, 48, 60, 64)]
    assert told == ["1 note has no end, closed at the end of the track"]


@given(st.lists(st.tuples(st.booleans(), st.sampled_from([60, 61])), max_size=24))
def test_ends_are_found_as_by_hand(events):
    """Beside lists of what sounds: the earliest first, or the latest where a pitch lacks ends."""
    body = b"".join(b"\x04" + bytes([0x90 if on else 0x80, pitch, 64]) for on, pitch in events)
    found = {}
    for latest in (False, True):
        sounding, pairs = {60: [], 61: []}, []
        for number, (on, pitch) in enumerate(events, 1):
            if on:
                sounding[pitch].append(4 * number)
            elif sounding[pitch]:
                pairs.append((sounding[pitch].pop(-1 if latest else 0), 4 * number, pitch))
        found[latest] = pairs, {pitch for pitch in sounding if sounding[pitch]}
    lacking = found[False][1]
    end = 4 * len(events)
    expected = [pair for latest in (False, True) for pair in found[latest][0] if (pair[2] in lacking) == latest]
    ons = [(4 * number, pitch) for number, (on, pitch) in enumerate(events, 1) if on]
    ended = {(first, pitch): last for first, last, pitch in expected}
    rows = [(first, ended.get((first, pitch), end) - first, pitch, 64, 0) for first, pitch in ons]
    if rows:
        whole = Score([(a, max(b, 1), *more) for a, b, *more in rows], tracks=(Track("Piano"),), ticks_per_quarter=96)
        assert note_list(parse_midi(smf(body, division=96))) == note_list(whole.without_overlaps())


def test_each_end_ends_the_earliest_note_of_its_pitch():
    body = b"\x00\x90\x3c\x40\x0a\x90\x3c\x41\x0a\x80\x3c\x40\x0a\x80\x3c\x40"
    assert note_list(parse_midi(smf(body))) == [(0, 10, 60, 64), (10, 20, 60, 65)]


def test_a_velocity_out_of_range_is_clipped_and_told():
    told = []
    score = parse_midi(smf(b"\x00\x90\x3c\xb0\x60\x3c\x00"), warn=told.append)
    assert note_list(score) == [(0, 96, 60, 127)]
    assert told == ["velocity 176 out of range, clipped to 127"]
    with pytest.raises(FileError, match="damaged: 40 of"):
        parse_midi(smf(b"\x00\x90\x3c\xb0" * 40))


def test_channels_are_tracks_with_the_program_of_their_first_note():
    body = (
        text(3, "all")
        + b"\x00\xc1\x20\x00\xc0\x05"
        + NOTE_C
        + NOTE_C.replace(b"\x90", b"\x91").replace(b"\x80", b"\x81")
    )
    body += NOTE_C.replace(b"\x90", b"\x99").replace(b"\x80", b"\x89") + b"\x00\xc0\x30" + NOTE_C
    score = parse_midi(smf(body, kind=0))
    assert score.tracks == (Track("all", 5), Track("all", 32), Track("all", 0, drums=True))


def test_a_pedal_track_without_notes_serves_its_channel():
    score = parse_midi(smf(b"\x00\xb0\x40\x7f\x60\xb0\x40\x00", NOTE_C, NOTE_C, NOTE_C.replace(b"\x90", b"\x91")))
    assert score.pedals.tolist() == [(0, 127, 0), (0, 127, 1), (96, 0, 0), (96, 0, 1)]


@pytest.mark.parametrize(("rate", "seconds"), [((25, 40), 0.096), ((24, 4), 1.0), ((29, 80), 96 * 1.001 / 2400)])
def test_smpte_time_is_free_time(rate, seconds):
    score = parse_midi(smf(NOTE_C, division=(256 - rate[0]) << 8 | rate[1]))
    assert score.free and abs(score.seconds(score.end) - seconds) <= 0.0005


@pytest.mark.parametrize(
    ("markers", "read"),
    [
        (["Am7", "D7", "Gmaj7"], ["Am7", "D7", "Gmaj7"]),
        (["Intro", "C:minor-seventh", "N.C.", "F:major"], ["Cm7", "N.C.", "F"]),
        (["A", "B", "A", "C"], []),  # rehearsal letters
        (["A", "A2", "B", "A3"], []),
        (["A1", "A2", "B1", "B2"], []),
        (["Intro", "B1", "A1", "B2", "A2"], []),
        (["A", "A'", "B", "B'"], []),
        (["A7", "D7", "E7"], ["A7", "D7", "E7"]),
        (["A", "D", "E", "E7"], ["A", "D", "E", "E7"]),
        (["A", "A2", "D", "E"], ["A", "A2", "D", "E"]),
        (["C", "F", "G", "C"], ["C", "F", "G", "C"]),
        (["Fine", "D.C. al fine"], []),
        (["Verse 1", "Chorus", "Solo", "Am"], []),
    ],
)
def test_markers_are_chords_only_where_most_are(markers, read):
    score = parse_midi(smf(b"".join(text(6, marker, b"\x60") for marker in markers), NOTE_C))
    assert [tuple(row)[1:] for row in score.chords.tolist()] == [tuple(parse_chord(name)) for name in read]


def test_texts_are_chords_only_where_all_are():
    chart = [b"".join(text(1, words, b"\x60") for words in words) for words in (["Am", "F", "C"], ["Am", "love", "C"])]
    assert len(parse_midi(smf(NOTE_C, chart[0])).chords) == 3
    assert len(parse_midi(smf(NOTE_C, chart[1])).chords) == 0


@needs_data
def test_openewld_markers_are_chords():
    for path in some_files("openewld", 20):
        markers = {marker.time for marker in symusic.Score(path).markers}
        assert set(read_midi(path).chords["tick"].tolist()) == markers != set(), path


def test_events_are_sorted_and_complete():
    score = Score([(0, 480, 60, 80, 0), (480, 480, 60, 90, 0)], [(480, 30, 0), (960, 0, 0)])
    assert events(score).tolist() == [
        [0.0, 1, 60, 80],
        [0.5, 0, 60, 0],
        [0.5, 2, 64, 127],
        [0.5, 1, 60, 90],
        [1.0, 0, 60, 0],
        [1.0, 2, 64, 0],
    ]
    assert events(Score()).shape == (0, 4)


def test_midi_files_finds_all_and_only_midi(tmp_path):
    names = ["b.mid", "a.MID", "sub/ü.midi", "sub/._x.mid", ".hidden/c.mid", "notes.txt", "d.mid.bak"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.mid").mkdir()
    assert [path.relative_to(tmp_path).as_posix() for path in midi_files(tmp_path)] == ["a.MID", "b.mid", "sub/ü.midi"]
    with pytest.raises(FileError, match="no such folder"):
        midi_files(tmp_path / "absent")
