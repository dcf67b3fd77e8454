"""What we write, as others read it: mido for the bytes, music21 for the notation; and what the files are called."""

import re

import mido
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import scores

from woodshed.symbolic.music.chords import parse_chord, spell
from woodshed.symbolic.music.midi import DRUM_CHANNEL, encode, write_midi
from woodshed.symbolic.music.score import Score, Track
from woodshed.symbolic.playing.takes import stem_of

TRACKS = (
    Track("Melody", 73, False, "melody"),
    Track("Piano", 0, False, "accompaniment"),
    Track("Bass", 32, False, "bass"),
    Track("Kit", 0, True, "drums"),
)
CHORDS = ("Cmaj7", "Am7", "Dm7/G", "F#m7b5")


@pytest.fixture(scope="module")
def score():
    """Two bars of 4/4 at 120 bpm and two of 3/4 at 90, with chords, pedal, three instruments and drums."""
    bars = (0, 1920, 3840, 5280)
    notes = [(bar + 480 * beat, 240, 72 + beat, 90, 0) for bar in bars for beat in range(3)]
    notes += [(bar, 1200, 48 + pitch, 60, 1) for bar in bars for pitch in (0, 4, 7)]
    notes += [(bar, 960, 36, 80, 2) for bar in bars] + [(bar, 120, 38, 100, 3) for bar in bars]
    pedals = [row for bar in bars for row in ((bar + 10, 127, 1), (bar + 1300, 0, 1))]
    tempos, metres = [(0, 500_000), (3840, 666_667)], [(0, 4, 4), (3840, 3, 4)]
    chords = [(bar, *parse_chord(name)) for bar, name in zip(bars, CHORDS, strict=True)]
    return Score(notes, pedals, tempos, metres, chords, tracks=TRACKS)


@pytest.fixture(scope="module")
def path(score, tmp_path_factory):
    path = tmp_path_factory.mktemp("daw") / "take.mid"
    write_midi(score, path, texts=["woodshed seed: 7"])
    return path


def timed(track):
    """The messages of a track of mido with their ticks."""
    return list(zip(np.cumsum([message.time for message in track]).tolist(), track, strict=True))


def test_mido_reads_one_conductor_and_a_track_for_each_part(path):
    file = mido.MidiFile(path)
    assert (file.type, file.ticks_per_beat, len(file.tracks)) == (1, 480, 1 + len(TRACKS))
    assert [track.name for track in file.tracks[1:]] == [track.name for track in TRACKS]
    channels = []
    for track, midi in zip(TRACKS, file.tracks[1:], strict=True):
        voiced = [message for message in midi if not message.is_meta]
        assert voiced[0].type == "program_change" and voiced[0].program == track.program
        assert len({message.channel for message in voiced}) == 1
        channels.append(voiced[0].channel)
    assert len(set(channels)) == len(TRACKS) and channels[-1] == DRUM_CHANNEL == 9


def test_mido_reads_tempo_metre_and_chord_markers(path):
    conductor = timed(mido.MidiFile(path).tracks[0])
    metas = {kind: [(tick, m) for tick, m in conductor if m.type == kind] for _, m in conductor for kind in [m.type]}
    assert [(tick, m.tempo) for tick, m in metas["set_tempo"]] == [(0, 500_000), (3840, 666_667)]
    assert [(tick, m.numerator, m.denominator) for tick, m in metas["time_signature"]] == [(0, 4, 4), (3840, 3, 4)]
    assert [(tick, m.text) for tick, m in metas["marker"]] == list(zip((0, 1920, 3840, 5280), CHORDS, strict=True))
    assert metas["text"][0][1].text == "woodshed seed: 7"


def test_mido_reads_every_note_and_pedal_in_its_track(path, score):
    tracks = [timed(track) for track in mido.MidiFile(path).tracks[1:]]
    on = [(t, m.note, m.velocity, n) for n, track in enumerate(tracks) for t, m in track if m.type == "note_on"]
    off = [(t, m.note, n) for n, track in enumerate(tracks) for t, m in track if m.type == "note_off"]
    notes = score.notes.tolist()
    assert sorted(on) == sorted((onset, pitch, velocity, track) for onset, _, pitch, velocity, track in notes)
    assert sorted(off) == sorted((onset + duration, pitch, track) for onset, duration, pitch, _, track in notes)
    pedals = [(t, m.value, n) for n, track in enumerate(tracks) for t, m in track if m.type == "control_change"]
    assert pedals == score.pedals.tolist()


@given(scores())
def test_mido_hears_any_score_as_long_as_it_is(score):
    import io

    file = mido.MidiFile(file=io.BytesIO(encode(score)))
    last = max([score.end, *score.pedals["tick"], *score.chords["tick"], *score.tempos["tick"], *score.metres["tick"]])
    assert score.seconds(last) - 1e-3 < file.length < score.seconds(score.bars(last + 1)[-1]) + 1e-3
    for track in file.tracks:
        assert [message.type for message in track].count("end_of_track") == 1 and track[-1].type == "end_of_track"


def test_music21_counts_the_same_bars_beats_and_instruments(path, score):
    music21 = pytest.importorskip("music21")
    piece = music21.converter.parse(str(path))
    assert len(piece.parts) == len(TRACKS)
    for number, (track, part) in enumerate(zip(TRACKS, piece.parts, strict=True)):
        measures = list(part.getElementsByClass("Measure"))
        assert [float(measure.offset) for measure in measures] == [0, 4, 8, 11]
        signatures = part.recurse().getElementsByClass("TimeSignature")
        assert [signature.ratioString for signature in signatures] == ["4/4", "3/4"]
        heard = sorted(
            (float(element.getOffsetInHierarchy(part)), pitch.midi)
            for element in part.recurse().notes
            for pitch in (element.pitches or [music21.pitch.Pitch(midi=38)])
            if element.tie is None or element.tie.type == "start"
        )
        notes = score.notes[score.notes["track"] == number]
        written = sorted((onset / 480, pitch) for onset, _, pitch, _, _ in notes.tolist())
        assert [beat for beat, _ in heard] == pytest.approx([beat for beat, _ in written])
        if not track.drums:
            assert [pitch for _, pitch in heard] == [pitch for _, pitch in written]
            sounds = part.recurse().getElementsByClass("Instrument")  # music21 adds what it makes of the name
            assert track.program in [sound.midiProgram for sound in sounds]
    tempos = [mark.number for mark in piece.flatten().getElementsByClass("MetronomeMark")]
    assert sorted(set(tempos)) == pytest.approx([90, 120], abs=0.01)


# --- names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("style", "chart", "bpm", "name"),
    [
        ("piano", "| Cmaj7 | Am7 | Dm7 | G7 |", 120, "piano_Cmaj7-Am7-Dm7-G7_120bpm_seed7_take-1"),
        ("piano", "| C | C | G/B | G/B | C | C | G/B | G/B |", 84.99, "piano_C-G_B_85bpm_seed7_take-1"),
        ("piano", "| C G | % | C G |", 60, "piano_C-G_60bpm_seed7_take-1"),
        ("my style: new?", "F#m7b5", 100, "my-style-new_F#m7b5_100bpm_seed7_take-1"),
        ("piano", "", None, "piano_seed7_take-1"),
        ("", "N.C.", None, "take_N-C_seed7_take-1"),
        ("p", " ".join(CHORDS * 2 + ("E7",) + CHORDS * 2), 90, None),
    ],
)
def test_a_name_tells_style_chords_tempo_and_seed(style, chart, bpm, name):
    given = stem_of(style, chart, seed=7, number=1, bpm=bpm)
    assert given == name if name else "-etc_90bpm" in given


@given(st.text(max_size=200), st.text(max_size=400), st.integers(0, 2**63), st.integers(1, 999))
def test_any_name_is_safe_everywhere(style, chart, seed, number):
    name = stem_of(style, chart, seed=seed, number=number, bpm=120)
    assert not re.search(r'[<>:"/\\|?*\x00-\x1f. ]', name)
    assert len(name) < 128 and name.endswith(f"_120bpm_seed{seed}_take-{number}")
    assert name.isprintable() and not name.startswith("-")


@given(st.lists(st.sampled_from(CHORDS), min_size=1, max_size=6), st.integers(1, 4))
def test_going_round_again_does_not_change_the_name(chords, rounds):
    once, often = (stem_of("a", " | ".join(chords * times), seed=1, number=1) for times in (2, 2 * rounds))
    assert once == often
    assert spell(*parse_chord(chords[0])).replace("/", "_") in once


def test_every_track_ends_at_the_bar_line(path, score):
    for track in mido.MidiFile(path).tracks:
        assert timed(track)[-1][0] == score.bars()[-1] == 6720
