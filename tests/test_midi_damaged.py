"""Damaged MIDI is read or refused with its reason, and never takes long."""

import random
import time
from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from strategies import DATA
from test_midi import NOTE_C, SETS, smf, some_files

from woodshed.errors import FileError
from woodshed.symbolic.music import midi
from woodshed.symbolic.music.midi import encode, parse_midi, read_midi, write_midi
from woodshed.symbolic.music.score import Score, Track

LATER = b"\x89\xc4\xda\x00"  # 20,000,000 ticks: 5.8 hours
FINE = b"\x00\xff\x58\x04\x04\x07\x18\x08"  # 4/128
CLUSTER = b"".join(b"\x00\x90" + bytes([pitch]) + b"\x40" for pitch in range(128))
RELEASED = b"".join((b"\x00" if pitch else LATER) + b"\x80" + bytes([pitch]) + b"\x40" for pitch in range(128))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "zero bytes"),
        (b"Dear diary, today I practised.", "not a MIDI file"),
        (b"MThd\x00\x00", "truncated"),
        (smf(NOTE_C)[:-6], "lacks 6 bytes"),
        (smf(NOTE_C, NOTE_C)[: -len(NOTE_C) - 12], "1 of 2 tracks"),
        (smf(NOTE_C, kind=2), "type 2"),
        (smf(NOTE_C, division=0), "0 ticks"),
        (smf(), "0 tracks"),
        (smf(NOTE_C, division=0xE700 | 0), "SMPTE"),
        (smf(b"\x00\x3c\x40"), "half an event"),
        (smf(b"\x00\xf4\x00"), "0xf4"),
        (smf(b"\xff\xff\xff\xff\xff\x90\x3c\x40"), "at byte 22"),
        (smf(b"\x00\xff\x01\xff\x7f"), "16383 bytes"),
        (smf(b"\x00\x90\x3c\x40" + b"\xff\xff\xff\x7f\x80\x3c\x40", division=1), "hours"),
        (smf(b"\x00\x90\x3c\x40" + b"\xff\xff\xff\x7f\x80\x3c\x40" * 9, division=1), "ticks"),
        (smf(FINE + NOTE_C + LATER + NOTE_C[1:]), r"13333\d\d beats long by its metre; at most 400000"),
        (smf(CLUSTER + RELEASED), "its notes sound for 5333376 beats in all; at most 5000000"),
    ],
)
def test_the_reason_is_named(tmp_path, data, reason):
    path = tmp_path / "a.mid"
    path.write_bytes(data)
    with pytest.raises(FileError, match=reason) as error:
        read_midi(path)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


def test_files_that_are_not_there_or_too_large(tmp_path, monkeypatch):
    for path, reason in [("absent.mid", "no such file"), (".", "not a file"), ("\0.mid", "no such file")]:
        with pytest.raises(FileError, match=reason):
            read_midi(tmp_path / path)
    (tmp_path / "a.mid").write_bytes(smf(NOTE_C * 100))
    for limit, reason in [("MAX_NOTES", "100 notes; at most 10"), ("MAX_BYTES", "MiB")]:
        with monkeypatch.context() as patch:
            patch.setattr(midi, limit, 10)
            with pytest.raises(FileError, match=reason):
                read_midi(tmp_path / "a.mid")
    assert len(read_midi(tmp_path / "a.mid").notes) == 100


def originals():
    rng = np.random.default_rng(0)
    notes = [(int(t), int(d), int(p), 80, i % 2) for i, (t, d, p) in enumerate(rng.integers(1, 127, (200, 3)))]
    tracks = [Track("piano", part="melody"), Track("kit", drums=True)]
    ours = Score(notes, [(9, 64, 0)], [(0, 600_000)], [(0, 3, 4)], [(0, 0, 1, 0)], tracks).without_overlaps()
    found = [path.read_bytes() for name in SETS if DATA.is_dir() for path in some_files(name, 3)]
    return [encode(ours), smf(NOTE_C * 50), *(data for data in found if len(data) < 30_000)]


def mutate(data, rng):
    """Bytes flipped, cut off, cut out or inserted; one time in three in the header or a chunk's."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5, 30])):
        place = rng.choice([rng.randrange(len(data)), rng.randrange(len(data)), rng.randrange(min(40, len(data)))])
        kind = rng.randrange(4)
        if kind == 0:
            data[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[place] = rng.choice([0, 0x7F, 0x80, 0xF0, 0xFF, rng.randrange(256)])
        elif kind == 2:
            data[place:place] = rng.randbytes(rng.choice([1, 1, 4, 50]))
        else:
            del data[place : place + rng.choice([1, 1, 3, 50, 5000])]
        data = data or bytearray(b"M")
    return bytes(data)


def fuzz(count, seed):
    rng, files, outcomes = random.Random(seed), originals(), defaultdict(int)
    for _ in range(count):
        data = mutate(rng.choice(files), rng)
        before = time.process_time()
        try:
            score = parse_midi(data)
            assert parse_midi(encode(score)) == score  # whatever was read is in normal form and can be written
            outcomes["read"] += 1
        except FileError:
            outcomes["refused"] += 1
        assert time.process_time() - before < 2
    return outcomes


def test_damaged_files_are_read_or_refused():
    outcomes = fuzz(300, seed=1)
    assert outcomes["read"] > 20 and outcomes["refused"] > 20


@pytest.mark.slow
def test_many_damaged_files_are_read_or_refused():
    assert sum(fuzz(10_000, seed=2).values()) == 10_000


@pytest.mark.slow
def test_the_largest_files_allowed_take_seconds_not_minutes():
    for event in (b"\x00\x90\x3c\x40", b"\x00\x3c\x40", b"\x00\xff\x01\x00", b"\x00\xc0\x00"):
        body = b"\x00\x90\x3c\x40" + event * ((midi.MAX_BYTES - 100) // len(event))
        before = time.process_time()
        with pytest.raises(FileError, match="notes;") if body.count(b"\x3c") > 1 else nullcontext():
            parse_midi(smf(body))
        assert time.process_time() - before < 20


def test_paths_may_be_text(tmp_path):
    write_midi(Score([(0, 10, 60, 80, 0)]), str(tmp_path / "a.mid"))
    assert len(read_midi(str(tmp_path / "a.mid")).notes) == 1
    assert Path(tmp_path / "a.mid").stat().st_mode & 0o444
