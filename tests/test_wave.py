"""Sound in and out: every format, piece by piece as the whole, and files that are no sound."""

import os
import shutil
import subprocess
import tracemalloc
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyloudnorm
import pytest
import soundfile
from sounds import hostile, silence, song, tone

from woodshed.audio import wave
from woodshed.audio.spectrogram import spectrograms
from woodshed.audio.wave import Audio, audio_files, listen, probe, read_audio, stream, write_audio
from woodshed.errors import EmptyCorpus, FileError, InputError, WoodshedError

MUSIC = song(3, seconds=4, sample_rate=44100)


@pytest.fixture
def at(tmp_path):
    """A writer: a name and sound to a path."""

    def write(name: str, audio: Audio = MUSIC):
        path = tmp_path / name
        if path.suffix == ".opus":
            soundfile.write(path, audio.samples, audio.sample_rate, format="OGG", subtype="OPUS")
        else:
            write_audio(path, audio)
        return path

    return write


# --- formats ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".WAV"])
def test_what_is_written_is_read_again(at, suffix):
    path = at(f"Dvořák 夜 [1]{suffix}")
    facts, audio = probe(path), read_audio(path)
    assert (facts.seconds, facts.sample_rate, facts.channels) == (pytest.approx(4, abs=0.03), 44100, 2)
    assert audio.samples.dtype == np.float32 and len(audio.samples) == round(facts.seconds * 44100)
    error = np.sqrt(np.mean((audio.samples[: len(MUSIC.samples)] - MUSIC.samples) ** 2))
    assert error < (1 / 32768 if suffix.lower() in (".wav", ".flac") else 0.01)
    assert audio.loudness == pytest.approx(MUSIC.loudness, abs=0.1)


def test_opus_is_read(at):
    audio = read_audio(at("song.opus", MUSIC.resampled(48000)))
    assert (audio.sample_rate, audio.seconds) == (48000, pytest.approx(4, abs=0.03))
    assert audio.loudness == pytest.approx(MUSIC.loudness, abs=0.2)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
@pytest.mark.parametrize("suffix", [".m4a", ".aac", ".wma", ".mp4"])
def test_ffmpeg_reads_the_rest(at, tmp_path, suffix):
    path = tmp_path / f"a:b 夜{suffix}"  # ffmpeg takes what stands before a colon for a protocol
    subprocess.run(["ffmpeg", "-v", "error", "-i", at("song.wav"), f"file:{path}"], check=True)
    assert listen(path).loudness == pytest.approx(MUSIC.loudness, abs=0.5)
    assert read_audio(path, channels=1, sample_rate=8000).seconds == pytest.approx(4, abs=0.15)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
@pytest.mark.parametrize("suffix", [".m4a", ".aac", ".mp4"])
def test_a_stretch_by_ffmpeg_is_that_of_the_whole(at, tmp_path, suffix):
    path = tmp_path / f"song{suffix}"
    subprocess.run(["ffmpeg", "-v", "error", "-i", at("song.wav"), path], check=True)
    for start in (0.0, 0.5, 2.5):
        part, whole = read_audio(path, start=start, seconds=0.75), read_audio(path).cut(start, start + 0.75)
        assert np.abs(part.samples - whole.samples).max() < 0.01
    assert len(read_audio(path, start=60, seconds=1.0).samples) == 0


def test_ffmpeg_is_asked_for_the_stretch_alone(at, tmp_path, monkeypatch):
    whole, path, made = read_audio(at("song.wav")), tmp_path / "song.m4a", []
    path.write_bytes(b"1")

    def stand_in(command, **_):
        start = sum(float(after) for word, after in pairwise(command) if word == "-ss")
        made.append(whole.cut(start, start + float(command[command.index("-t") + 1])))
        soundfile.write(command[-1], made[-1].samples, 44100, subtype="FLOAT")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("subprocess.run", stand_in)
    monkeypatch.setattr("shutil.which", lambda name: name)
    assert np.array_equal(read_audio(path, start=1.5, seconds=0.75).samples, whole.cut(1.5, 2.25).samples)
    assert len(read_audio(path, start=60, seconds=1.0).samples) == 0
    assert [audio.seconds for audio in made] == pytest.approx([0.85, 0.0], abs=1e-3)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="ffmpeg is not installed")
def test_what_ffmpeg_cannot_read_says_so(tmp_path):
    (tmp_path / "text.m4a").write_text("hello")
    with pytest.raises(FileError, match=r"text\.m4a: ffmpeg cannot read it: "):
        probe(tmp_path / "text.m4a")


@pytest.mark.skipif(os.name != "posix", reason="a shell script")
@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("exec sleep 100", r"song\.m4a: ffmpeg had not come to its end after 1 s"),
        (
            'for made; do true; done; head -c 2000 /dev/zero > "$made"',
            r"song\.m4a: decoded it has more than .*; cut it",
        ),
    ],
)
def test_what_keeps_ffmpeg_for_ever_or_fills_the_disk_is_told(tmp_path, monkeypatch, script, told):
    (tmp_path / "song.m4a").write_bytes(b"1")
    (tmp_path / "ffmpeg").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(wave, "PATIENCE", 1.0)
    monkeypatch.setattr(wave, "DECODED", 2000)
    with pytest.raises(FileError, match=told):
        probe(tmp_path / "song.m4a")


def test_without_ffmpeg_its_formats_name_it(tmp_path, monkeypatch):
    (tmp_path / "song.m4a").write_bytes(b"1")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileError, match="need ffmpeg, which is not installed"):
        probe(tmp_path / "song.m4a")


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
def test_every_depth_of_wav_is_read(tmp_path, subtype):
    soundfile.write(tmp_path / "a.wav", MUSIC.samples, 44100, subtype=subtype)
    assert np.abs(read_audio(tmp_path / "a.wav").samples - MUSIC.samples).max() < 0.02


def test_minutes_of_ogg_are_written(at):
    """At once, libsndfile puts them on the stack and dies."""
    long = silence(100, sample_rate=24000, channels=2)
    assert probe(at("long.ogg", long)).seconds == pytest.approx(100, abs=0.1)


# --- piece by piece --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample_rate", [None, 16000, 48000])
@pytest.mark.parametrize("channels", [None, 1, 2])
@pytest.mark.parametrize("seconds", [0.31, 1.0, 30.0])
def test_a_stream_is_the_whole_file(at, sample_rate, channels, seconds, monkeypatch):
    monkeypatch.setattr(wave, "BLOCK", seconds)
    path = at("song.flac")
    whole = read_audio(path, sample_rate=sample_rate, channels=channels)
    pieces = list(stream(path, sample_rate=sample_rate, channels=channels))
    joined = np.concatenate([piece.samples for piece in pieces])
    assert {piece.sample_rate for piece in pieces} == {whole.sample_rate}
    assert joined.shape == whole.samples.shape
    assert np.abs(joined - whole.samples).max() < 1e-4


def test_loudness_of_a_file_is_that_of_its_sound(at):
    music = Audio(np.concatenate([MUSIC.samples * gain for gain in (1, 0.1, 0.5, 0.003) * 3]), 44100)
    path = at("long.flac", music)
    assert listen(path).loudness == pytest.approx(read_audio(path).loudness, abs=1e-6)
    assert listen(path).loudness == pytest.approx(pyloudnorm.Meter(44100).integrated_loudness(music.samples), abs=0.1)


def test_an_hour_does_not_fill_memory(tmp_path):
    path, hour = tmp_path / "long.flac", 3600 * 4000
    with soundfile.SoundFile(path, "w", 4000, 1) as file:
        file.write(tone(10, 100, sample_rate=4000).samples[:, 0])
        file.write(np.zeros(hour - 40000, np.int16))
    tracemalloc.start()
    heard = listen(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert heard.seconds == heard.promised == 3600
    assert heard.loudness == pytest.approx(tone(10, 100, sample_rate=4000).loudness, abs=0.2)
    assert peak < hour * 4 / 10


def test_a_stretch_is_that_of_the_whole(at):
    path = at("song.flac")
    whole = read_audio(path)
    part = read_audio(path, start=1.5, seconds=0.75)
    assert np.array_equal(part.samples, whole.cut(1.5, 2.25).samples)
    assert len(read_audio(path, start=3.9, seconds=5).samples) == len(whole.cut(3.9).samples)
    assert len(read_audio(path, start=60).samples) == 0


# --- Audio -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample_rate", [8000, 22050, 48000])
def test_a_tone_stays_itself_at_another_rate(sample_rate):
    once = tone(1, 440, sample_rate=16000).resampled(sample_rate)
    expected = tone(1, 440, sample_rate=sample_rate)
    inside = slice(sample_rate // 10, -sample_rate // 10)
    assert once.samples.shape == expected.samples.shape
    assert np.abs(once.samples[inside] - expected.samples[inside]).max() < 1e-3


def test_channels():
    stereo = tone(0.1, channels=2)
    mono = stereo.with_channels(1)
    assert np.allclose(mono.samples[:, 0], stereo.samples.mean(axis=1)) and np.allclose(mono.samples[:, 0], stereo.mono)
    assert np.array_equal(mono.with_channels(2).samples, np.repeat(mono.samples, 2, axis=1))
    assert np.array_equal(tone(0.1, channels=6).with_channels(2).samples, tone(0.1, channels=6).samples[:, :2])


def test_cut_keeps_within_the_sound():
    audio = tone(1)
    joined = np.concatenate([audio.cut(0, 0.3).samples, audio.cut(0.3).samples])
    assert np.array_equal(joined, audio.samples)
    assert audio.cut(-0.5, 0.25).seconds == 0.25
    assert audio.cut(2).seconds == 0


@pytest.mark.parametrize("target", [-30.0, -16.0, -6.0])
def test_levelled_sound_is_as_loud_as_asked_or_at_the_ceiling(target):
    levelled = song(1).levelled(target, ceiling=-1)
    peak = np.abs(levelled.samples).max()
    assert peak <= 10 ** (-1 / 20) + 1e-6
    assert levelled.loudness == pytest.approx(target, abs=0.05) or (levelled.loudness < target and peak > 0.8)


def test_silence_stays_silence():
    assert silence().loudness == -np.inf
    assert not silence().levelled(-16).samples.any()


@pytest.mark.parametrize("level", [-70, -100])
def test_what_is_nearly_silent_is_not_blown_up(level):
    hum = Audio(song(1).samples * np.float32(10 ** (level / 20)), 44100)
    assert hum.loudness == -np.inf and np.array_equal(hum.levelled(-16).samples, hum.samples)


# --- what is no sound ------------------------------------------------------------------------------------------


def test_the_files_of_a_folder(tmp_path):
    folder = hostile(tmp_path / "in")
    (folder / "._two.flac").write_bytes(b"macOS")
    (folder / ".trash").mkdir()
    (folder / ".trash" / "old.wav").write_bytes(b"")
    names = [path.relative_to(folder).as_posix() for path in audio_files(folder)]
    assert names == sorted(names) and len(names) == 10
    assert {"two.flac", "deep/Dvořák 夜.OGG"} < set(names)
    with pytest.raises(InputError, match="is not a folder"):
        audio_files(folder / "two.flac")
    with pytest.raises(EmptyCorpus, match=r"\.trash: no recordings \(\.wav, \.flac, .*\) in it or below it"):
        (folder / ".trash" / "old.wav").unlink()
        audio_files(folder / ".trash")


def test_links_to_folders_are_followed_once(tmp_path):
    music, disk = tmp_path / "music", tmp_path / "disk"
    for path in (music / "real" / "a.wav", disk / "deep" / "b.wav", tmp_path / ".hidden" / "c.wav"):
        path.parent.mkdir(parents=True)
        write_audio(path, tone(0.1))
    try:
        for link, to in (("again", music / "real"), ("disk", disk), (".secret", tmp_path / ".hidden")):
            (music / link).symlink_to(to)
        (disk / "deep" / "back").symlink_to(music)
    except OSError:
        pytest.skip("this file system has no links")
    assert audio_files(music) == [music / "disk" / "deep" / "b.wav", music / "real" / "a.wav"]


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_a_comment_stands_in_the_file(tmp_path, suffix):
    write_audio(tmp_path / f"a{suffix}", tone(0.2), comment='{"seed": 7, "form": "ä"}')
    with soundfile.SoundFile(tmp_path / f"a{suffix}") as file:
        assert file.comment == '{"seed": 7, "form": "ä"}'


def test_what_a_run_has_played_is_no_recording(tmp_path):
    (tmp_path / "my run" / "takes").mkdir(parents=True)
    (tmp_path / "theirs").mkdir()
    for name in ("a.wav", "my run/b.wav", "my run/takes/c.wav", "theirs/d.wav"):
        write_audio(tmp_path / name, tone(0.3))
    (tmp_path / "my run" / "run.json").write_text('{"woodshed": "0.1.0"}')
    (tmp_path / "theirs" / "run.json").write_text('{"started": "May"}')
    assert audio_files(tmp_path) == [tmp_path / "a.wav", tmp_path / "theirs" / "d.wav"]
    assert len(audio_files(tmp_path / "my run")) == 2  # asked for by name


@pytest.mark.parametrize(
    "name", ["zero.wav", "nan.wav", "empty.mp3", "text.mp3", "corrupt.mp3", "[bold]x.wav", "no.wav"]
)
def test_what_is_no_sound_has_a_reason(tmp_path, name):
    path = hostile(tmp_path / "in") / name
    for reader in (read_audio, listen, lambda path: list(stream(path))):
        with pytest.raises(FileError) as error:
            reader(path)
        assert str(path) in str(error.value) and "\n" not in str(error.value)
    if path.exists():
        assert "no such file" not in error.value.reason


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3", ".opus"])
@pytest.mark.parametrize("damage", ["cut", "hole", "noise", "head"])
def test_damaged_files_give_sound_or_a_reason(at, suffix, damage):
    path = at(f"song{suffix}", MUSIC.resampled(48000) if suffix == ".opus" else MUSIC)
    data = path.read_bytes()
    half, junk = len(data) // 2, np.random.default_rng(0).bytes(3000)
    damaged = {"cut": data[:half], "hole": data[:half] + bytes(3000), "noise": data[:half] + junk, "head": data[:150]}
    path.write_bytes(damaged[damage] + (data[half + 3000 :] if damage in ("hole", "noise") else b""))
    for reader in (probe, read_audio, listen):
        try:
            assert 0 < reader(path).seconds < 4.1
        except WoodshedError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("rate", [1, 9, 3999, 768_001, 655_000_000])
def test_what_no_sound_has_as_sample_rate_is_refused(tmp_path, rate):
    soundfile.write(tmp_path / "song.wav", np.ones(1000), rate)
    for reader in (probe, read_audio, listen, lambda path: list(stream(path))):
        with pytest.raises(FileError, match=rf"its sample rate is {rate:,} Hz; 4,000 to 768,000 are read"):
            reader(tmp_path / "song.wav")


def test_a_header_that_promises_more_than_any_memory_holds(at):
    path = at("song.flac")
    data = bytearray(path.read_bytes())
    data[21], data[22:26] = data[21] | 15, b"\xff" * 4  # 2**36 - 1 samples, which FLAC has in 36 bits
    path.write_bytes(data)
    assert probe(path).seconds > 1e6
    with pytest.raises(FileError, match="it is damaged"):
        read_audio(path)


def test_what_is_read_in_blocks_is_the_whole(at, monkeypatch):
    path = at("song.wav")
    whole = read_audio(path).samples
    monkeypatch.setattr(wave, "READ_VALUES", 1000)
    assert np.array_equal(read_audio(path).samples, whole)
    assert np.array_equal(read_audio(path, start=1, seconds=0.5).samples, whole[44100 : 44100 + 22050])


def test_any_name_can_stand_over_a_spectrogram():
    assert spectrograms({r"Ke$ha $2 $\no$": tone(0.1)}).startswith(b"\x89PNG")


def test_an_mp3_that_was_cut_is_shorter_than_it_promises(at):
    path = at("song.mp3")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    heard = listen(path)
    assert heard.seconds < 2.5 < heard.promised
    assert heard.remark.endswith("cut short?") and not replace(heard, promised=heard.seconds + 0.9).remark
    assert replace(heard, seconds=10.0, promised=180.0).remark == "ends after 0:10 of 3:00: cut short?"


def test_nothing_is_written_where_it_cannot_be(tmp_path):
    with pytest.raises(InputError, match=r"song\.xyz: sound is written as"):
        write_audio(tmp_path / "song.xyz", MUSIC)
    with pytest.raises(FileError, match="cannot be written"):
        write_audio(tmp_path / "no" / "song.wav", MUSIC)
    with pytest.raises(FileError, match="cannot be written"):
        write_audio(tmp_path / "song.mp3", tone(0.1, sample_rate=96000))
    assert not list(tmp_path.iterdir())


def test_samples_beyond_full_scale_are_clipped(at):
    loud = tone(0.1, level=4.0)
    samples = read_audio(at("loud.wav", loud)).samples
    assert np.abs(samples - np.clip(loud.samples, -1, 1)).max() < 1 / 16384
