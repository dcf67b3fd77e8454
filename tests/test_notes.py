"""Notes that are heard, and how they are compared."""

import mir_eval
import numpy as np
import pytest
from sounds import silence

from woodshed.audio import notes
from woodshed.audio.wave import Audio


def test_onsets_are_matched_as_mir_eval_matches_them():
    rng = np.random.default_rng(0)
    for _ in range(20):
        found, true = (np.sort(rng.uniform(0, 3, rng.integers(1, 40))) for _ in range(2))
        f1, precision, recall = mir_eval.onset.f_measure(true, found, window=0.05)
        score = notes.onset_score(found, true)
        assert (score["f1"], score["precision"], score["recall"]) == pytest.approx((f1, precision, recall))


def test_notes_match_only_at_their_pitch():
    true = np.array([[0.0, 60], [0.0, 64], [1.0, 60]])
    assert notes.onset_score(np.add(true, [0.03, 0]), true)["f1"] == 1
    assert notes.onset_score(np.add(true, [0.03, 1]), true)["f1"] == 0
    assert notes.onset_score(np.zeros((0, 2)), true)["f1"] == 0
    assert notes.onset_score(np.zeros((0, 2)), np.zeros((0, 2)))["f1"] == 1


@pytest.mark.skipif(not notes.available(), reason="basic-pitch is not installed")
def test_the_transcriber_hears_a_scale():
    pitches = [60, 62, 64, 65, 67, 69, 71, 72]
    rate = 22050
    time = np.arange(rate // 2) / rate
    partials = [np.sin(2 * np.pi * 440 * 2 ** ((p - 69) / 12) * k * time) / k**2 for p in pitches for k in (1, 2, 3, 4)]
    struck = np.concatenate(np.reshape(partials, (8, 4, -1)).sum(1) * np.exp(-4 * time)).astype(np.float32)
    for pause in (0.0, 1.3):  # so that notes fall on other places of the windows
        sound = np.concatenate([np.zeros(round(pause * rate), np.float32), 0.3 * struck])
        found = notes.transcribe(Audio(sound[:, None], rate))
        true = np.column_stack([pause + 0.5 * np.arange(8), pitches])
        assert notes.onset_score(found, true)["recall"] == 1
    assert len(notes.transcribe(silence(3.0))) == 0


@pytest.mark.skipif(not notes.available(), reason="basic-pitch is not installed")
def test_a_sound_in_pieces_has_the_notes_of_the_whole():
    rate = notes.SAMPLE_RATE
    time = np.arange(rate // 2) / rate
    hertz = [440 * 2 ** ((pitch - 69) / 12) for pitch in (60, 65, 62, 67, 64, 69) * 3]
    struck = np.concatenate([0.3 * np.exp(-4 * time) * np.sin(2 * np.pi * f * time) for f in hertz]).astype(np.float32)
    sound = Audio(struck[:, None], rate)
    whole = notes.transcribe(sound)
    assert len(whole) >= len(hertz) and (whole["end"] > whole["onset"]).all() and whole["end"].max() < 10
    for seconds in (0.3, 2.7):
        pieces = [sound.cut(at, at + seconds) for at in np.arange(0, sound.seconds, seconds)]
        found = notes.hear(pieces)
        assert found[["pitch", "velocity"]].tolist() == whole[["pitch", "velocity"]].tolist()
        assert np.allclose(found["onset"], whole["onset"], atol=1e-3)
