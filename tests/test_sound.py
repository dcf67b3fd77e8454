"""Sound and picture: pitch, time, loudness; and the PNG of a roll."""

import itertools
import time
import wave

import numpy as np
import pytest
from hypothesis import given, settings
from matplotlib.image import imread
from strategies import DATA, scores

from woodshed.errors import FileError, InputError
from woodshed.symbolic.music.chords import lay_out, parse_progression, spell
from woodshed.symbolic.music.midi import read_midi
from woodshed.symbolic.music.roll import SHADE, chord_names, draw_roll
from woodshed.symbolic.music.score import PARTS, Score, Track
from woodshed.symbolic.music.sound import TAIL, synthesise, write_wav

RATE = 22050
MS = dict(ticks_per_quarter=500, free=True)  # a tick is a millisecond


def loudness(audio, start, stop, rate=RATE):
    """Root mean square between two times in seconds."""
    return float(np.sqrt(np.mean(audio[int(start * rate) : int(stop * rate)] ** 2)))


@pytest.mark.parametrize("pitch", [33, 45, 57, 69, 81, 93])
def test_a_note_sounds_at_its_pitch(pitch):
    audio = synthesise(Score([(0, 2000, pitch, 80, 0)], **MS))
    expected = 440 * 2 ** ((pitch - 69) / 12)
    spectrum = np.abs(np.fft.rfft(audio[:88200].sum(axis=1) * np.hanning(88200)))
    near = np.arange(len(spectrum)) * 44100 / 88200
    window = np.flatnonzero((near > expected * 0.7) & (near < expected * 1.4))
    assert abs(near[window][np.argmax(spectrum[window])] - expected) < 3
    if pitch == 69:
        assert abs(near[np.argmax(spectrum)] - 440) < 3


@pytest.mark.parametrize("drums", [False, True])
def test_louder_and_brighter_with_velocity(drums):
    tracks = [Track(drums=drums)]
    velocities = range(10, 128, 16)
    notes = [(i * 2000, 500, 38 if drums else 60, velocity, 0) for i, velocity in enumerate(velocities)]
    audio = synthesise(Score(notes, tracks=tracks, **MS), RATE)
    levels = [loudness(audio, 2 * i, 2 * i + 0.5) for i in range(len(notes))]
    assert np.all(np.diff(levels) > 0) and levels[-1] > 10 * levels[0] > 0
    if not drums:
        spectra = [np.abs(np.fft.rfft(audio[int(at * RATE) :][: RATE // 2, 0])) for at in (0, 2 * len(notes) - 2)]
        centroids = [np.sum(s * np.arange(len(s))) / np.sum(s) for s in spectra]
        assert centroids[1] > 1.3 * centroids[0]


@pytest.mark.parametrize(("pitch", "drums"), [(30, False), (60, False), (100, False), (36, True), (42, True)])
def test_onsets_are_in_time_and_the_length_is_right(pitch, drums):
    onsets = (0.25, 2.75, 5.123)
    score = Score([(round(at * 1000), 200, pitch, 100, 0) for at in onsets], tracks=[Track(drums=drums)], **MS)
    audio = synthesise(score, RATE)
    assert abs(len(audio) / RATE - (5.323 + TAIL)) < 0.001
    for at in onsets:
        before = max(loudness(audio, at - 0.2, at - 0.001), 1e-9)
        assert before < 0.05 * loudness(audio, at, at + 0.05)
        sound = np.abs(audio[int((at - 0.2) * RATE) : int((at + 0.1) * RATE)]).max(axis=1)
        assert abs(np.argmax(sound > 0.1 * sound.max()) / RATE - 0.2) < 0.005


def test_a_key_damps_and_the_pedal_holds():
    notes = [(0, 300, 60, 80, 0), (4000, 100, 90, 1, 0)]
    dry = synthesise(Score(notes, **MS), RATE)
    held = synthesise(Score(notes, [(100, 64, 0), (3000, 0, 0)], **MS), RATE)
    assert loudness(dry, 1.5, 2) < 0.01 * loudness(dry, 0, 0.3)
    assert loudness(held, 1.5, 2) > 0.1 * loudness(held, 0, 0.3)
    assert loudness(held, 3.8, 4) < 0.01 * loudness(held, 0, 0.3)


def test_low_left_high_right():
    for pitch, louder in ((24, 0), (105, 1)):
        left, right = np.mean(synthesise(Score([(0, 900, pitch, 80, 0)], **MS), RATE) ** 2, axis=0)
        assert (left > right) == (louder == 0)


def test_silence_without_notes():
    audio = synthesise(Score())
    assert audio.shape[1] == 2 and len(audio) > 0 and not audio.any()


@settings(max_examples=20, deadline=None)
@given(scores())
def test_never_clipped_never_nan(score):
    audio = synthesise(score.slice(0, 4 * score.ticks_per_quarter), 8000)
    assert audio.dtype == np.float32 and np.isfinite(audio).all()
    peak = np.abs(audio).max()
    assert peak == 0 or abs(20 * np.log10(peak) + 1) < 0.01


def test_what_cannot_sound_is_refused():
    with pytest.raises(InputError, match="slice"):
        synthesise(Score([(0, 2 * 3600 * 1000, 60, 80, 0)], **MS))
    with pytest.raises(InputError, match="sample rate 100"):
        synthesise(Score(), 100)


@pytest.mark.skipif(not DATA.is_dir(), reason="shared data absent")
def test_a_song_is_ready_thirty_times_faster_than_it_sounds():
    score = read_midi(DATA / "pop909" / "001" / "001.mid")
    before = time.process_time()
    audio = synthesise(score)
    assert len(audio) / 44100 > 30 * (time.process_time() - before)


def test_a_wav_holds_what_was_written(tmp_path):
    audio = np.array([[0.0, 1.0], [-1.0, 0.5], [2.0, -2.0]], np.float32)
    write_wav(tmp_path / "a.wav", audio, 22050)
    with wave.open(str(tmp_path / "a.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth(), file.getnframes()) == (22050, 2, 2, 3)
        samples = np.frombuffer(file.readframes(3), "<i2").reshape(3, 2)
    assert np.abs(samples / 32767 - audio.clip(-1, 1)).max() < 1e-4
    with pytest.raises(FileError):
        write_wav(tmp_path / "absent" / "a.wav", audio)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


# --- the roll -------------------------------------------------------------------------------------------------


def picture(score, path, title=""):
    """The pixels of a roll, (height, width, 3), 0 .. 1."""
    draw_roll(score, path, title)
    return imread(path)[:, :, :3]


def shows(image, colour):
    from matplotlib.colors import to_rgb

    return bool((np.abs(image - np.array(to_rgb(colour))).max(axis=2) < 0.02).any())


def test_a_roll_shows_each_part_in_its_colour(tmp_path):
    from woodshed.symbolic.music.roll import COLOURS

    tracks = [Track(part="melody"), Track(part="bass")]
    notes = [(0, 1920, 72, 127, 0), (0, 1920, 40, 127, 1)]
    both = picture(Score(notes, tracks=tracks), tmp_path / "a.png")
    one = picture(Score(notes[:1], tracks=tracks), tmp_path / "b.png")
    assert shows(both, COLOURS["melody"]) and shows(both, COLOURS["bass"])
    assert shows(one, COLOURS["melody"]) and not shows(one, COLOURS["bass"])


def test_a_longer_piece_takes_more_rows_but_not_endlessly(tmp_path):
    heights = [
        picture(Score([(bar * 1920, 480, 60, 80, 0) for bar in range(bars)]), tmp_path / "a.png").shape[0]
        for bars in (8, 16, 32, 96, 400)
    ]
    assert heights[0] == heights[1] < heights[2] < heights[3] == heights[4]


@settings(max_examples=12, deadline=None)
@given(scores())
def test_any_score_can_be_drawn(tmp_path_factory, score):
    image = picture(score, tmp_path_factory.mktemp("roll") / "a.png", "5 $ for 爱\nand \x01 more")
    assert image.shape[1] == 1540 and image.std() > 0


@pytest.mark.parametrize("free", [False, True])
def test_what_is_new_is_shaded(tmp_path, free):
    score = Score([(bar * 1920, 480, 60, 80, 0) for bar in range(32)])
    score, half = (score.freed(), 32_000) if free else (score, 16 * 1920)
    draw_roll(score, tmp_path / "a.png", region=(half, 2 * half))
    image = imread(tmp_path / "a.png")[:, :, :3]
    plain = picture(score, tmp_path / "b.png")
    assert shows(image, SHADE) and not shows(plain, SHADE)
    rows = np.flatnonzero((image != plain)[60:].any(axis=(1, 2))) + 60  # below the heading
    assert rows.min() > 0.4 * len(image)


def test_drums_do_not_hide_the_bass(tmp_path):
    from woodshed.symbolic.music.roll import COLOURS

    tracks = [Track(part="bass"), Track(part="drums", drums=True)]
    image = picture(Score([(0, 1920, 36, 127, 0), (0, 1920, 36, 127, 1)], tracks=tracks), tmp_path / "a.png")
    assert shows(image, COLOURS["bass"])


def test_a_chord_that_holds_stands_at_the_next_row_too(tmp_path):
    notes = [(bar * 1920, 480, 60, 80, 0) for bar in range(32)]
    with_chord, without = (picture(Score(notes, chords=chords), tmp_path / "a.png") for chords in ([(0, 2, 0, 2)], []))
    rows = np.flatnonzero((with_chord != without).any(axis=(1, 2)))
    middle = len(with_chord) / 2
    assert (rows < middle).any() and (rows > middle).any()


def test_chords_that_are_too_close_for_one_line_are_named_in_two(tmp_path):
    bar = "Cmaj7 C#dim7 Dm7 G7#5"
    notes = [(480 * beat, 480, 60, 80, 0) for beat in range(64)]
    close = Score(notes, chords=lay_out(parse_progression(f"{bar} | C"), np.arange(17) * 1920))
    wide = close.replace(chords=lay_out(parse_progression("C | Am"), np.arange(17) * 1920))
    names = chord_names(close, 0, 16 * 1920)
    assert [name.text for name in names[:5]] == ["Cmaj7", "Dbdim7", "Dm7", "G7#5", "C"] and len(names) == 40
    for line in (0, 1):
        mine = [name for name in names if name.line == line]
        assert all(a.position + 480 < b.position for a, b in itertools.pairwise(mine))
    assert {name.line for name in chord_names(wide, 0, 16 * 1920)} == {0}
    assert len(picture(close, tmp_path / "a.png")) > len(picture(wide, tmp_path / "b.png"))


def test_chords_are_named_in_the_key_of_the_music(tmp_path, monkeypatch):
    from woodshed.symbolic.music import roll

    names = []
    monkeypatch.setattr(roll, "spell", lambda *chord: names.append(spell(*chord)) or names[-1])
    notes = [(480 * step, 480, 64 + pitch, 80, 0) for step, pitch in enumerate((0, 2, 4, 5, 7, 9, 11, 12, 7, 4, 0))]
    picture(Score(notes, chords=[(0, 4, 0, 8)]), tmp_path / "a.png")
    picture(Score(notes, chords=[(0, 1, 1, 1)]), tmp_path / "b.png")
    assert names == ["E/G#", "C#m"]


def test_empty_scores_and_all_parts_can_be_drawn(tmp_path):
    parts = [Track(part=part) for part in PARTS]
    full = Score([(i * 480, 480, 50 + i, 80, i) for i in range(len(parts))], tracks=parts)
    for score in (Score(), Score(tracks=()), Score(**MS), full, full.freed()):
        assert picture(score, tmp_path / "a.png", "title").shape[1] == 1540
    with pytest.raises(FileError):
        draw_roll(full, tmp_path / "absent" / "a.png")
