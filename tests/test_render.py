"""Rendering: by our own synthesiser and by soundfonts, and as loud as asked; a soundfont is made here, of sines."""

import os
import shutil
import struct
import wave
from importlib.util import find_spec

import numpy as np
import pytest

from woodshed.cli import main
from woodshed.errors import FileError, InputError, MissingExtra
from woodshed.loudness import k_weighting, loudness, true_peak
from woodshed.symbolic.music import soundfont as soundfonts
from woodshed.symbolic.music.midi import write_midi
from woodshed.symbolic.music.render import LUFS, render
from woodshed.symbolic.music.score import Score, Track

RATE = 22050
MS = dict(ticks_per_quarter=500, free=True)  # a tick is a millisecond
HERE = [
    name
    for name, there in (("fluidsynth", shutil.which("fluidsynth")), ("tinysoundfont", find_spec("tinysoundfont")))
    if there
]
PROGRAMS = {(0, 0): 1, (0, 40): 3, (128, 0): 7}  # (bank, program): how many periods of its sine are 100 samples


def chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def make_soundfont(path, programs=None):
    """A soundfont of looped sines: root key 69, 220.5 Hz times a number for each (bank, program)."""
    programs, wave_length, gap = programs or PROGRAMS, 2000, 46
    samples, headers, presets, instruments = b"", b"", b"", b""
    preset_bags = preset_gens = bags = gens = b""
    for number, ((bank, program), periods) in enumerate(programs.items()):
        start = len(samples) // 2
        sine = 12000 * np.sin(2 * np.pi * periods * np.arange(wave_length) / 100)
        samples += sine.astype("<i2").tobytes() + bytes(2 * gap)
        place = (start, start + wave_length, start + 100, start + wave_length - 100)
        headers += struct.pack("<20sIIIIIBbHH", b"sine", *place, RATE, 69, 0, 0, 1)
        presets += struct.pack("<20sHHHIII", b"P%d" % number, program, bank, number, 0, 0, 0)
        preset_bags += struct.pack("<HH", number, 0)
        preset_gens += struct.pack("<Hh", 41, number)  # instrument
        instruments += struct.pack("<20sH", b"I%d" % number, number)
        bags += struct.pack("<HH", 2 * number, 0)
        gens += struct.pack("<HhHh", 54, 1, 53, number)  # looped; sample
    count = len(programs)
    hydra = [
        chunk(b"phdr", presets + struct.pack("<20sHHHIII", b"EOP", 0, 0, count, 0, 0, 0)),
        chunk(b"pbag", preset_bags + struct.pack("<HH", count, 0)),
        chunk(b"pmod", bytes(10)),
        chunk(b"pgen", preset_gens + bytes(4)),
        chunk(b"inst", instruments + struct.pack("<20sH", b"EOI", count)),
        chunk(b"ibag", bags + struct.pack("<HH", 2 * count, 0)),
        chunk(b"imod", bytes(10)),
        chunk(b"igen", gens + bytes(4)),
        chunk(b"shdr", headers + struct.pack("<20sIIIIIBbHH", b"EOS", 0, 0, 0, 0, 0, 0, 0, 0, 0)),
    ]
    info = chunk(b"ifil", struct.pack("<HH", 2, 1)) + chunk(b"isng", b"EMU8000\0") + chunk(b"INAM", b"toy\0")
    lists = [b"INFO" + info, b"sdta" + chunk(b"smpl", samples), b"pdta" + b"".join(hydra)]
    path.write_bytes(chunk(b"RIFF", b"sfbk" + b"".join(chunk(b"LIST", part) for part in lists)))
    return path


@pytest.fixture(scope="module")
def font(tmp_path_factory):
    return make_soundfont(tmp_path_factory.mktemp("fonts") / "a font.sf2")


@pytest.fixture(params=HERE)
def player(request, monkeypatch):
    monkeypatch.setattr(soundfonts, "_player", lambda: request.param)
    return request.param


def level(audio, start, stop, rate=RATE):
    """Root mean square between two times in seconds."""
    return float(np.sqrt(np.mean(audio[int(start * rate) : int(stop * rate)] ** 2)))


def frequency(audio, start, stop):
    """The strongest frequency between two times, in Hz."""
    piece = audio[int(start * RATE) : int(stop * RATE)].sum(axis=1)
    return np.argmax(np.abs(np.fft.rfft(piece * np.hanning(len(piece)), 2**16))) * RATE / 2**16


def test_programs_drums_tempo_and_pitch(font, player):
    tracks = [Track(), Track(program=40), Track(drums=True)]
    notes = [(0, 480, 69, 100, 0), (480, 480, 69, 100, 1), (960, 480, 69, 100, 2), (1440, 480, 81, 100, 0)]
    score = Score(notes, (), [(0, 500_000), (960, 1_000_000)], tracks=tracks)
    audio = render(score, font, sample_rate=RATE)
    for start, stop, periods in ((0.1, 0.4, 1), (0.6, 0.9, 3), (1.1, 1.9, 7), (2.1, 2.9, 2)):
        assert frequency(audio, start, stop) == pytest.approx(220.5 * periods, rel=0.01)
    assert 3.0 <= len(audio) / RATE < 3.0 + soundfonts.RING


def test_notes_are_in_time_and_the_pedal_holds(font, player):
    notes = [(500, 200, 69, 100, 0), (4000, 200, 69, 100, 0)]
    dry = render(Score(notes, **MS), font, sample_rate=RATE)
    held = render(Score(notes, [(600, 64, 0), (2000, 0, 0)], **MS), font, sample_rate=RATE)
    for audio in (dry, held):
        for at in (0.5, 4.0):
            sound = np.abs(audio[int((at - 0.2) * RATE) : int((at + 0.1) * RATE)]).max(axis=1)
            assert abs(np.argmax(sound > 0.1 * sound.max()) / RATE - 0.2) < 0.01
    assert level(dry, 1.2, 1.9) < 0.01 * level(dry, 0.5, 0.7) and level(held, 3.2, 3.9) < 0.01 * level(held, 0.5, 0.7)
    assert level(held, 1.2, 1.9) > 0.5 * level(held, 0.5, 0.7)


def test_more_tracks_than_channels_keep_their_programs(font, player):
    tracks = [Track(program=40 if number == 19 else 0) for number in range(20)]
    notes = [(1000 * number, 900, 69, 100, number) for number in range(20)]
    audio = render(Score(notes, tracks=tracks, **MS), font, sample_rate=RATE)
    heard = [frequency(audio, at + 0.1, at + 0.8) / 220.5 for at in range(20)]
    assert heard == pytest.approx([1] * 19 + [3], rel=0.01)


@pytest.mark.parametrize("cut", [0, 3, 11, 12, 60, 3000, -4])
def test_a_damaged_soundfont_is_one_line(tmp_path, font, player, cut):
    bad = tmp_path / "bad.sf2"
    bad.write_bytes(font.read_bytes()[:cut])
    with pytest.raises(FileError, match=r"bad\.sf2: (damaged|not a soundfont)") as caught:
        render(Score([(0, 480, 60, 90, 0)]), bad)
    assert "\n" not in str(caught.value)


def test_a_soundfont_that_takes_its_player_down_is_one_line(tmp_path, font, player):
    data = bytearray(font.read_bytes())
    place = data.index(b"pbag") + 8
    data[place : place + 8] = b"\xff\x7f\xff\x7f\x00\x70\xff\x7f"
    (tmp_path / "bad.sf2").write_bytes(data)
    with pytest.raises(FileError, match=r"bad\.sf2: ") as caught:
        render(Score([(0, 480, 60, 90, 0)]), tmp_path / "bad.sf2")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="a shell script")
def test_a_player_that_never_ends_is_killed(tmp_path, font, monkeypatch):
    (tmp_path / "fluidsynth").write_text("#!/bin/sh\nexec sleep 100\n")
    (tmp_path / "fluidsynth").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(soundfonts, "PATIENCE", 0.1)
    monkeypatch.setattr(soundfonts, "PACE", 0.01)
    with pytest.raises(FileError, match=r"a font\.sf2: fluidsynth had not come to its end after 0 s"):
        render(Score([(0, 480, 60, 90, 0)]), font)


def test_what_cannot_be_rendered_is_refused(tmp_path, font, monkeypatch):
    score = Score([(0, 480, 60, 90, 0)])
    with pytest.raises(FileError, match="cannot be read"):
        soundfonts.check_soundfont(tmp_path / "absent.sf2")
    with pytest.raises(InputError, match="loudness 3 LUFS"):
        render(score, target=3)
    with pytest.raises(InputError, match="loudness nan"):
        render(score, target=float("nan"))
    monkeypatch.setattr(soundfonts, "_player", lambda: "neither")
    with pytest.raises(InputError, match="slice"):
        render(Score([(0, 2 * 3600 * 1000, 60, 80, 0)], **MS), font)
    monkeypatch.undo()
    monkeypatch.setattr(soundfonts.shutil, "which", lambda name: None)
    monkeypatch.setattr(soundfonts, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="pip install --no-deps tinysoundfont"):
        render(score, font)


def test_silence_and_short_sounds_stay_what_they_are(font):
    assert not render(Score()).any()
    if HERE:
        assert not render(Score(), font).any()
    click = render(Score([(0, 1, 60, 90, 0)]))
    assert np.isfinite(click).all() and np.abs(click).max() > 0


# --- loudness -------------------------------------------------------------------------------------------------


def test_a_sine_is_as_loud_as_the_standard_says():
    for rate in (44100, 48000):
        sine = np.sin(2 * np.pi * 997 * np.arange(5 * rate) / rate)
        assert loudness(sine[:, None], rate) == pytest.approx(-3.01, abs=0.01)
        assert loudness(np.stack([sine, sine], axis=1) / 10, rate) == pytest.approx(-20, abs=0.01)
    assert loudness(np.zeros((48000, 2)), 48000) == -np.inf == loudness(np.zeros((0, 2)), 48000)


def test_the_filter_is_the_table_of_the_standard():
    """Coefficients at 48 kHz in BS.1770, Annex 1, Tables 1 and 2."""
    frequency = np.linspace(10, 23000, 200)
    z = np.exp(-2j * np.pi * frequency / 48000)
    shelf = np.polyval([1.19839281085285, -2.69169618940638, 1.53512485958697], z)
    shelf /= np.polyval([0.73248077421585, -1.69065929318241, 1], z)
    high_pass = (1 - 2 * z + z * z) / np.polyval([0.99007225036621, -1.99004745483398, 1], z)
    np.testing.assert_allclose(k_weighting(frequency, 48000), shelf * high_pass, rtol=1e-4)


def test_soft_and_silent_stretches_do_not_count():
    sine = np.sin(2 * np.pi * 997 * np.arange(40 * 8000) / 8000)[:, None]
    alone = loudness(sine, 8000)
    padded = np.concatenate([sine, 0 * sine, 0.01 * sine])
    assert loudness(padded, 8000) == pytest.approx(alone, abs=0.1)


@pytest.mark.parametrize("rate", [22050, 44100, 48000])
def test_loudness_is_that_of_pyloudnorm(rate):
    pyloudnorm = pytest.importorskip("pyloudnorm")
    rng = np.random.default_rng(rate)
    swell = np.repeat(10 ** rng.uniform(-3, 0, 80), rate // 2)[:, None]
    audio = np.cumsum(rng.standard_normal((len(swell), 2)), axis=0)
    audio = (audio - np.convolve(audio[:, 0], np.ones(99) / 99, mode="same")[:, None]) * swell
    audio *= 0.5 / np.abs(audio).max()
    assert loudness(audio, rate) == pytest.approx(pyloudnorm.Meter(rate).integrated_loudness(audio), abs=0.1)


def test_the_true_peak_lies_between_the_samples():
    sine = np.sin(2 * np.pi * np.arange(44100) / 4 + np.pi / 4)[:, None]  # never sampled at its top
    assert np.abs(sine).max() == pytest.approx(0.7071, abs=1e-3)
    assert true_peak(sine[1000:-1000]) >= 0.999
    rng = np.random.default_rng(0)
    noise = rng.uniform(-0.5, 0.5, (9000, 2))
    finer = np.fft.irfft(np.fft.rfft(np.pad(noise, ((300, 300), (0, 0))), axis=0), 4 * 9600, axis=0) * 4
    assert true_peak(noise) == pytest.approx(np.abs(finer).max(), rel=0.03)


@pytest.mark.parametrize("target", [-30.0, LUFS, -3.0])
def test_as_loud_as_asked_or_as_its_peaks_allow(target):
    audio = render(Score([(480 * i, 480, 40 + 5 * i, 90, 0) for i in range(8)]), target=target)
    heard, peak = loudness(audio, 44100), 20 * np.log10(true_peak(audio))
    assert peak < -0.99
    if target == -30:
        assert heard == pytest.approx(target, abs=0.01)
    else:
        assert (heard < target and peak == pytest.approx(-1, abs=0.01)) or heard == pytest.approx(target, abs=0.01)


# --- the command ----------------------------------------------------------------------------------------------


def run_main(capsys, *arguments):
    try:
        main([str(argument) for argument in arguments])
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    return code, *capsys.readouterr()


def test_the_command_renders_files_and_folders(capsys, tmp_path):
    songs = tmp_path / "songs"
    songs.mkdir()
    for name in ("a", "b"):
        write_midi(Score([(0, 480, 60, 90, 0), (480, 480, 64, 90, 0)]), songs / f"{name}.mid")
    code, out, _ = run_main(capsys, "render", songs / "a.mid", "--sample-rate", 48000, "--picture", tmp_path / "a.png")
    assert code == 0 and "LUFS" in out and (tmp_path / "a.png").exists()
    with wave.open(str(songs / "a.wav")) as file:
        assert (file.getframerate(), file.getnchannels()) == (48000, 2)
    before = (songs / "a.wav").read_bytes()
    (songs / "z.mid").write_bytes(b"MThd")
    code, _, err = run_main(capsys, "render", songs / "b.mid", songs / "z.mid", "--out", tmp_path / "half")
    assert code == 1 and "z.mid" in err and not (tmp_path / "half").exists()  # nothing before all can be read
    code, out, err = run_main(capsys, "render", songs, "--out", tmp_path / "whole")
    assert code == 0 and err.startswith("left out: ") and "z.mid: truncated" in err and err.count("\n") == 1
    assert sorted(path.name for path in (tmp_path / "whole").iterdir()) == ["a.wav", "b.wav"] and "b.wav: " in out
    (songs / "z.mid").unlink()
    code, _, err = run_main(capsys, "render", songs)
    assert code == 1 and "exists already" in err and not (songs / "b.wav").exists()
    assert (songs / "a.wav").read_bytes() == before
    out = tmp_path / "new" / "sounds"
    code, _, _ = run_main(capsys, "render", songs, "--out", out, "--picture", out)
    assert code == 0 and sorted(path.name for path in out.iterdir()) == ["a.png", "a.wav", "b.png", "b.wav"]


@pytest.mark.parametrize(
    ("option", "maker", "made"),
    [
        ("--out", "woodshed.cli.render.render", np.zeros((100, 2))),
        ("--picture", "woodshed.symbolic.music.roll.roll_png", b"png"),
    ],
)
def test_sound_and_picture_leave_what_has_come_in_the_meantime(capsys, tmp_path, monkeypatch, option, maker, made):
    write_midi(Score([(0, 480, 60, 90, 0)]), tmp_path / "a.mid")
    mine = tmp_path / {"--out": "mine.wav", "--picture": "mine.png"}[option]

    def late(*args, **keywords):
        mine.write_text("mine")
        return made

    monkeypatch.setattr(maker, late)
    code, _, err = run_main(capsys, "render", tmp_path / "a.mid", option, mine)
    assert code == 1 and f"{mine}: something has taken" in err and mine.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["a.mid", "--out", "a.mp3"], "give the name of a .wav"),
        (["a.mid", "--out", "a.mid"], "give the name of a .wav"),
        (["."], "no MIDI"),
        (["absent.mid"], "absent.mid"),
        (["x/a.mid", "y/a.mid", "--out", "o"], "one by one"),
        (["x/A.mid", "y/a.mid", "--out", "o"], "one by one"),
        (["a.mid", "--loudness", "9"], "loudness 9"),
        (["a.mid", "--soundfont", "absent.sf2"], "absent.sf2" if HERE else "pip install"),
    ],
)
def test_the_command_refuses_in_one_line(capsys, tmp_path, monkeypatch, arguments, reason):
    monkeypatch.chdir(tmp_path)
    if arguments[0] == "a.mid":
        write_midi(Score([(0, 480, 60, 90, 0)]), tmp_path / "a.mid")
    code, _, err = run_main(capsys, "render", *arguments)
    assert code == 1 and reason in err and err.count("\n") == 1
    assert not list(tmp_path.glob("*.wav"))
