"""Recordings for the latent GAN: what can be learned from, latents that are kept, and what counts as sound."""
# ruff: noqa: F811

import dataclasses
import math
import os

import numpy as np
import pytest
from gan_toys import TOY, Toy, reads, recordings  # noqa: F401
from sounds import Folder, noise, silence, song, tone

from woodshed.audio import wave
from woodshed.audio.codecs import LOUDNESS, encode_file, levelled_stream
from woodshed.audio.gan import health, latents, profile, step
from woodshed.audio.gan.inspect import inspect
from woodshed.audio.listener import Listener
from woodshed.audio.wave import Audio, audio_files, digest_of, listen, write_audio
from woodshed.errors import EmptyCorpus, FileError

# --- listening ---------------------------------------------------------------------------------------------------


def test_a_listener_knows_what_has_not_changed(tmp_path, reads):
    folder = Folder.new(tmp_path / "music").add("a.wav", "deep/b.flac").add("silent.wav", audio=silence(0.5))
    paths = audio_files(folder)

    def heard():
        listener = Listener(folder, tmp_path / "heard.json")
        found = [(listener.listen(path), listener.digest(path)) for path in paths]
        listener.save()
        return found

    first = heard()
    assert reads == {path: 2 for path in paths}  # once as sound, once for its digest
    written = (tmp_path / "heard.json").stat().st_mtime_ns
    assert first == heard() == [(listen(path), digest_of(path)) for path in paths]
    assert (tmp_path / "heard.json").stat().st_mtime_ns == written  # there was nothing new
    assert first[2][0].loudness == -math.inf and "Infinity" not in (tmp_path / "heard.json").read_text()
    reads.clear()
    folder.add("a.wav", audio=tone(0.3))
    heard()
    os.utime(paths[1], ns=(0, 0))
    heard()
    assert reads == {paths[0]: 2, paths[1]: 2}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["heard.json", "music"]


def test_a_recording_is_as_loud_as_the_codec_hears_it(tmp_path):
    """Mono in two channels is 3 LU louder; what was heard with other channels is heard again."""
    folder = Folder.new(tmp_path / "music").add("mono.wav", audio=tone())
    folder.add("stereo.wav", audio=tone().with_channels(2))
    for channels in (None, 2):
        listener = Listener(folder, tmp_path / "heard.json", channels=channels)
        mono, stereo = (listener.listen(path).loudness for path in audio_files(folder))
        assert stereo - mono == pytest.approx(0.0 if channels else 3.01, abs=0.01)
        listener.save()
    for path in audio_files(folder):
        pieces = [piece.samples for piece in levelled_stream(path, Toy(channels=2))]
        assert Audio(np.concatenate(pieces), Toy.sample_rate).loudness == pytest.approx(LOUDNESS, abs=0.2)


def test_a_listener_whose_file_is_damaged_hears_all_again(tmp_path, reads):
    folder = Folder.new(tmp_path / "music").add("a.wav", "b.wav")
    file = tmp_path / "heard.json"

    def heard():
        listener = Listener(folder, file)
        found = [listener.listen(path) for path in audio_files(folder)]
        listener.save()
        return found

    first, whole = heard(), file.read_text()
    for damaged in (whole[:-10].encode(), b"", b"[1]", b'{"a.wav": 1}', b'{"a.wav": {"heard": {}}}', b"\xff\xfe"):
        file.write_bytes(damaged)
        assert heard() == first and file.read_text() == whole
    assert reads == {folder / name: 7 for name in ("a.wav", "b.wav")}
    with pytest.raises(FileError, match="No such file"):
        Listener(folder, file).listen(folder / "gone.wav")


def test_files_of_one_name_in_two_folders_are_two(tmp_path):
    paths = [tmp_path / folder / "001.wav" for folder in ("train", "test")]
    for path, pitch in zip(paths, (440.0, 550.0), strict=True):
        path.parent.mkdir()
        write_audio(path, tone(0.3, pitch))
        os.utime(path, ns=(0, 0))  # as long, and unpacked at once
    digests = []
    for path in paths:
        listener = Listener(path.parent, tmp_path / "heard.json")
        listener.listen(path)
        digests.append(listener.digest(path))
        listener.save()
    assert digests == [digest_of(path) for path in paths] and len(set(digests)) == 2


# --- latents -----------------------------------------------------------------------------------------------------


def surveyed(folder, codec=TOY, **more):
    (folder / "run").mkdir(exist_ok=True)
    return latents.survey(folder, codec, run=folder / "run", window=16, **more)


def test_a_folder_is_split_and_what_cannot_be_used_is_named(recordings, tmp_path):
    for path in recordings.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "twin.wav").write_bytes((recordings / "song 0.wav").read_bytes())
    write_audio(tmp_path / "silent.wav", silence(5.0, sample_rate=8000))
    write_audio(tmp_path / "short.wav", tone(0.3, sample_rate=8000))
    (tmp_path / "text.wav").write_text("no sound")
    found = {one.file: one for one in surveyed(tmp_path, hold_out=0.34)}
    assert [one.split for one in found.values()].count("held-out") == 2
    assert found["silent.wav"].reason == "silent" and "shorter" in found["short.wav"].reason
    assert "same sound" in found["twin.wav"].reason and found["text.wav"].split == "skipped"
    renamed = tmp_path / "renamed.wav"
    held = next(name for name, one in found.items() if one.split == "held-out")
    (tmp_path / held).rename(renamed)
    again = {one.file: one for one in surveyed(tmp_path, hold_out=0.34)}
    assert again["renamed.wav"].split == "held-out"
    told = " ".join(latents.remarks(list(found.values()), window_seconds=0.8))
    assert "below 10" in told and "1 of 10 files left out: silent" in told


def test_what_was_encoded_is_kept_by_content(recordings, tmp_path, monkeypatch):
    found = latents.survey(recordings, TOY, run=tmp_path, window=16)
    first = latents.encode(found, recordings, TOY, keep=tmp_path)
    monkeypatch.setattr(Toy, "encode", None)
    again = latents.encode(found, recordings, TOY, keep=tmp_path)
    assert np.array_equal(first.data, again.data) and first.recordings == again.recordings
    assert first.mirrored is None and len(first.data) == 6 * 120
    starts = first.starts(16)
    assert len(starts) == 6 * (120 - 15) and first.place(250) == (first.recordings[2].file, 10)


def test_something_is_always_learned_from(recordings, tmp_path):
    found = latents.survey(recordings, TOY, run=tmp_path, window=16, hold_out=0.95)
    assert [one.split for one in found].count("train") == 1


def test_the_weights_of_a_codec_are_read_once_for_a_folder(recordings, tmp_path, monkeypatch):
    asked = []

    class Weighed(Toy):
        fingerprint = property(lambda self: asked.append(1) or "weighed", lambda self, value: None)

    codec = Weighed()
    found = latents.survey(recordings, codec, run=tmp_path, window=16)
    latents.encode(found, recordings, codec, keep=tmp_path / "kept")
    assert len(asked) == 1 and len([*(tmp_path / "kept").glob("weighed-*.safetensors")]) == 6


def test_to_count_channels_the_beginning_is_enough(tmp_path, monkeypatch):
    write_audio(tmp_path / "one.wav", song(1, seconds=4.0, sample_rate=8000, channels=2))
    lengths, real = [], wave._opened
    monkeypatch.setattr(
        wave, "_opened", lambda path, start=0.0, seconds=None: lengths.append(seconds) or real(path, start, seconds)
    )
    stereo = Toy(channels=2)
    latents.encode(surveyed(tmp_path, stereo), tmp_path, stereo, keep=tmp_path / "kept", report=print)
    assert lengths == [None, None, 0.1, None]  # to listen, to encode, to count, to encode the mirror image


def test_a_run_behind_a_link_knows_its_recordings_and_latents(tmp_path):
    (tmp_path / "far" / "away" / "runs" / "mine").mkdir(parents=True)
    try:
        (tmp_path / "runs").symlink_to(tmp_path / "far" / "away" / "runs")
    except OSError:
        pytest.skip("this file system has no links")
    run, folder, keep = (tmp_path / name for name in ("runs/mine", "music", "kept"))
    latents.write_manifest(run, folder, keep, [])
    manifest = latents.read_manifest(run)
    assert (manifest["folder"], manifest["latents"]) == (folder, keep)


def test_what_is_kept_is_what_the_codec_gave(recordings, tmp_path, monkeypatch):
    """In whatever order it lies in memory: that of `own` is turned."""
    encode = Toy.encode
    monkeypatch.setattr(Toy, "encode", lambda self, audio: np.asfortranarray(encode(self, audio)))
    found = latents.survey(recordings, TOY, run=tmp_path, window=16)
    kept = latents.encode(found, recordings, TOY, keep=tmp_path)
    given = np.concatenate([encode_file(recordings / one.file, TOY) for one in kept.recordings])
    np.testing.assert_allclose(kept.data, given, atol=1e-5)


def test_of_stereo_the_mirror_image_is_learned_as_well(tmp_path):
    left = song(1, seconds=4.0, sample_rate=8000, channels=2)
    write_audio(tmp_path / "one.wav", Audio(left.samples * np.float32([1, 0.3]), 8000))
    stereo = Toy(channels=2)
    found = latents.encode(surveyed(tmp_path, stereo), tmp_path, stereo, keep=tmp_path / "kept", report=print)
    assert np.allclose(found.mirrored, np.roll(found.data, 8, axis=1), atol=1e-4)
    assert not np.allclose(found.mirrored, found.data, atol=0.1)


def test_what_comes_again_is_alike():
    rng = np.random.default_rng(0)
    bars = rng.standard_normal((4, 20, 8))
    again = [np.concatenate([bar, bar + 0.1 * rng.standard_normal(bar.shape)]) for bar in bars]
    assert profile.repetition(again, 20) > 0.95
    assert abs(profile.repetition(again, 7)) < 0.2
    assert profile.repetition(again, 40) is None


class Unequal(Toy):
    """The toy, but of its dimensions only the first is heard in full, and the last not at all."""

    def decode(self, latents):
        return super().decode(latents * np.float32([1, 0.5, 0.25, 0.25, 0.25, 0.25, 0.25, 0]))


def test_what_is_heard_of_a_dimension_is_measured():
    stretches = list(np.random.default_rng(0).standard_normal((8, 16, 8)).astype(np.float32))
    found = profile.importance(stretches, Unequal())
    assert found[0] == 1.0 and found[7] == profile.LEAST
    assert all(0.2 < rest < found[1] < 0.9 for rest in found[2:7])


def test_profiles_tell_near_from_far():
    music = [TOY.encode(song(seed, seconds=8.0, sample_rate=8000, channels=1)) for seed in range(12)]
    old, new = (profile.profile(some, profile.stretch(20.0, 64)) for some in (music[:6], music[6:]))
    other = profile.profile([TOY.encode(noise(8.0, seed=seed, sample_rate=8000)) for seed in range(6)], 30)
    assert profile.distance(old, old) == pytest.approx(0, abs=1e-6)
    assert profile.distance(new, old) < profile.distance(other, old)
    assert old.shape == (6 * (160 // 30), 16) and profile.stretch(20.0, 16) == 16


# --- health ------------------------------------------------------------------------------------------------------


def reference():
    real = [song(seed, seconds=6.0, sample_rate=8000, channels=1) for seed in range(4)]
    return health.signs([TOY.encode(audio) for audio in real], real), real


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        ([song(seed, seconds=6.0, sample_rate=8000, channels=1) for seed in (7, 8)], ""),
        ([silence(3.0, sample_rate=8000), tone(3.0, level=1e-5, sample_rate=8000)], "silent"),
        ([tone(3.0, 880, sample_rate=8000), tone(3.0, 900, sample_rate=8000)], "beep"),
    ],
)
def test_sounds_that_are_no_music_are_noticed(samples, reason):
    found = health.signs([TOY.encode(audio) for audio in samples], samples)
    told = health.sickness(found, health.limits(*reference()))
    assert reason in told if reason else told == ""


def test_one_silent_reference_does_not_make_silence_sound():
    signs, real = reference()
    assert signs.onset_rate > 0.5
    real[0] = silence(6.0, sample_rate=8000)
    found = health.limits(health.signs([TOY.encode(audio) for audio in real], real), real)
    assert found.loudness > signs.loudness - health.SOFTER - 3


def test_latents_that_stand_still_or_are_alike_are_noticed():
    sound = health.limits(*reference())
    music = [song(seed, seconds=3.0, sample_rate=8000, channels=1) for seed in (7, 8)]
    coded = [TOY.encode(audio) for audio in music]
    still = [np.repeat(one[:1], len(one), axis=0) for one in coded]
    assert "stand still" in health.sickness(health.signs(still, music), sound)
    assert "alike" in health.sickness(health.signs([coded[0], coded[0]], music), sound)
    broken = dataclasses.replace(health.signs(coded, music), motion=math.nan)
    assert "no numbers" in health.sickness(broken, sound)


def test_a_critic_that_has_won_or_died_is_noticed():
    usual = step.Losses(hinge=0.7, r1=0.01, generator=0.1, gap=0.5, spread=0.3, norm=1.0)
    pulse = health.Pulse()
    assert not any(pulse.feel(usual) for _ in range(2000))
    for change, reason in (
        ({"hinge": 0.0, "gap": 30.0}, "always wins"),
        ({"hinge": 1.0, "gap": 0.0, "spread": 0.0}, "alike"),
    ):
        pulse = health.Pulse()
        told = [pulse.feel(usual._replace(**change)) for _ in range(2000)]
        assert told[0] == "" and reason in told[-1]
    assert "NaN" in health.Pulse().feel(usual._replace(r1=math.inf))


# --- before training ---------------------------------------------------------------------------------------------


def test_a_folder_is_looked_at_before_training(tmp_path):
    loud = song(0, seconds=8.0)
    write_audio(tmp_path / "loud.wav", Audio(2 * loud.samples, loud.sample_rate))
    write_audio(tmp_path / "again.flac", loud)
    write_audio(tmp_path / "soft.wav", Audio(0.05 * song(1, seconds=9.0).samples, loud.sample_rate))
    write_audio(tmp_path / "silent.wav", silence(5.0))
    report = inspect(tmp_path)
    assert report.figures["files"] == 4 and report.figures["used"] == 2 and report.figures["duplicates"] == 1
    assert report.figures["left_out"] == {"silent": 1} and report.figures["loudness_spread"] > 10
    told = " ".join(report.lessons)
    assert "too little" in told and "unstable volume" in told and "1 duplicate" in told
    for path in tmp_path.glob("*"):
        if path.name != "silent.wav":
            path.unlink()
    with pytest.raises(EmptyCorpus, match="1 silent"):
        inspect(tmp_path)


def test_mono_is_as_loud_as_a_codec_hears_it_and_of_six_channels_two_are_learned(tmp_path):
    mono = song(0, seconds=3.0, channels=1)
    for name, channels in (("a", 6), ("b", 1), ("c", 2)):
        write_audio(tmp_path / f"{name}.wav", Audio(mono.samples.repeat(channels, axis=1), mono.sample_rate))
    report = inspect(tmp_path)
    assert [one.channels for one in report.recordings] == [6, 1, 2]
    assert len({one.loudness for one in report.recordings}) == 1
    assert any("1 recording with more than two channels" in lesson for lesson in report.lessons)
    (tmp_path / "a.wav").unlink()
    assert not any("two channels" in lesson for lesson in inspect(tmp_path).lessons)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such names")
def test_names_move_no_cursor(tmp_path):
    write_audio(tmp_path / "a.wav", song(0, seconds=3.0))
    (tmp_path / "a.wav").rename(tmp_path / "a\x1b[2J.wav")
    assert inspect(tmp_path).recordings[0].file == "a\\x1b[2J.wav"
