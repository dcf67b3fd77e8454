"""What is measured in sound: laws, known tempi and keys, naive references, and sound of which nothing can be said."""

import dataclasses
import math

import numpy as np
import pytest
from sounds import noise, silence, song, tone

from woodshed.audio import features
from woodshed.audio.features import chroma, describe, estimate_key, estimate_tempo, onsets, timbre
from woodshed.audio.wave import Audio
from woodshed.key_profiles import MAJOR, MINOR, TONICS


def clicks(times, seconds, sample_rate=22050) -> Audio:
    """Short bursts of noise at some seconds."""
    samples = np.zeros((round(seconds * sample_rate), 1), np.float32)
    burst = np.random.default_rng(0).standard_normal(400) * np.exp(-np.arange(400) / 80)
    for time in times:
        first = round(time * sample_rate)
        samples[first : first + 400, 0] += 0.5 * burst[: len(samples) - first]
    return Audio(samples, sample_rate)


@pytest.mark.parametrize(("bpm", "key"), [(72.0, "D minor"), (96.0, "F# major"), (126.0, "A minor")])
def test_tempo_and_key_of_a_song(bpm, key):
    found = describe(song(1, seconds=20, bpm=bpm, key=key))
    assert found.key == key and found.key_confidence > 0.3
    related = [bpm * factor for factor in (0.5, 1, 2)]
    assert min(abs(found.tempo / tempo - 1) for tempo in related) < 0.02
    assert 0 < found.tempo_confidence <= 1


def test_a_song_out_of_tune_has_the_same_key():
    in_tune = song(2, seconds=12, key="E major", sample_rate=16000)
    sharp = Audio(in_tune.samples, round(16000 * 2 ** (40 / 1200)))
    assert describe(sharp).key == "E major"


def test_volume_changes_loudness_alone():
    sound = song(3, seconds=8)
    found, softer = describe(sound), describe(Audio(sound.samples / 8, sound.sample_rate))
    assert found.loudness - softer.loudness == pytest.approx(20 * math.log10(8), abs=0.05)
    for name in ("tempo", "key", "centroid", "onset_rate", "percussive", "bass", "dynamic_range"):
        left, right = getattr(found, name), getattr(softer, name)
        assert left == right if isinstance(left, str) else left == pytest.approx(right, rel=1e-3), name


@pytest.mark.parametrize("mode", ["major", "minor"])
def test_a_turned_profile_is_a_transposed_key(mode):
    profile = {"major": MAJOR, "minor": MINOR}[mode]
    for steps in range(12):
        assert estimate_key(np.roll(profile, steps))[0] == f"{TONICS[steps]} {mode}"


def test_what_has_no_pitch_has_no_key_and_what_has_no_pulse_no_tempo():
    found = describe(noise(10))
    assert found.key is None and found.tempo is None and found.tempo_confidence == found.key_confidence == 0
    assert estimate_key(np.ones(12)) == (None, 0.0)
    assert estimate_tempo(np.zeros((3, 500))) == (None, 0.0)


@pytest.mark.parametrize("sound", [silence(0), silence(3), tone(0.001), noise(0.01), tone(0.4, channels=6)])
def test_hardly_any_sound(sound):
    found = describe(sound)
    values = dataclasses.asdict(found)
    assert all(math.isfinite(values[name]) for name in values if isinstance(values[name], float) and name != "loudness")
    assert np.isfinite(timbre(sound)).all() and np.isfinite(chroma(sound)).all()
    assert found.seconds == sound.seconds
    if not np.any(sound.samples):
        assert found.tempo is None and found.key is None and found.onset_rate == 0 and not len(onsets(sound))


def test_onsets_are_where_something_begins():
    times = np.array([0.5, 0.9, 1.6, 2.0, 2.75])
    found = onsets(clicks(times, 3.5))
    assert len(found) == len(times) and np.abs(found - times).max() < 0.05


@pytest.mark.parametrize("bpm", [60, 90, 137])
def test_the_tempo_of_clicks_is_theirs_or_related(bpm):
    found = describe(clicks(np.arange(0.2, 20, 60 / bpm), 20.5))
    assert min(abs(found.tempo / bpm / factor - 1) for factor in (0.25, 1 / 3, 0.5, 1, 2, 3)) < 0.02


def test_brighter_busier_deeper():
    assert describe(tone(2, 3000)).centroid == pytest.approx(3000, rel=0.02)
    assert describe(tone(2, 80)).bass > 0.95 and describe(tone(2, 800)).bass < 0.05
    assert describe(noise(2)).flatness > 0.3 and describe(tone(2)).flatness < 0.01
    every, fewer = (describe(clicks(np.arange(0.2, 6, step), 6.2)) for step in (0.2, 0.8))
    assert every.onset_rate == pytest.approx(29 / 6.2, rel=0.1) and fewer.onset_rate == pytest.approx(8 / 6.2, rel=0.15)
    assert every.percussive > 0.5 and describe(tone(2)).percussive < 0.1


def test_dynamic_range_is_soft_against_loud():
    soft, loud = tone(9, level=0.02), tone(9, level=0.2)
    both = Audio(np.concatenate([soft.samples, loud.samples]), soft.sample_rate)
    assert describe(both).dynamic_range == pytest.approx(20, abs=1) and describe(loud).dynamic_range < 0.1


def test_frames_to_compare_by():
    sound = song(4, seconds=5)
    frames = timbre(sound)
    assert frames.shape[1] == 16 and len(frames) == pytest.approx(5 * 43, abs=3)
    assert np.allclose(frames, timbre(Audio(sound.samples / 10, sound.sample_rate)), atol=0.05)
    pitches = chroma(tone(3, 440))
    assert pitches.shape[1] == 12 and pitches.mean(axis=0).argmax() == 9
    assert np.allclose(chroma(sound).sum(axis=1), 1, atol=1e-5)
    assert not chroma(silence(2)).any()


def test_autocorrelation_against_the_plain_sum():
    values = np.random.default_rng(0).random(200)
    centred = values - values.mean()
    plain = [np.dot(centred[: 200 - lag], centred[lag:]) / (200 - lag) for lag in range(100)]
    assert np.allclose(features._autocorrelation(values, 100), np.array(plain) / plain[0])
    assert not features._autocorrelation(values, 400)[151:].any()
