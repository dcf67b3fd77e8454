"""Codecs: what goes in comes out, in pieces as at once; phases and stereo as they were told; training that goes on."""

import importlib.util
import json
import os
import signal
import warnings
from pathlib import Path

import mir_eval
import numpy as np
import pytest
import torch
from folders import tune
from sounds import noise, silence, song, tone

from woodshed import menu, write_midi
from woodshed.audio import codec_train, codecs, notes
from woodshed.audio.codec_check import balance_error, check_codec, spectral_distance
from woodshed.audio.codec_train import train_codec
from woodshed.audio.codecs import LOUDNESS, encode_file, encode_stream, oobleck, open_codec, own
from woodshed.audio.codecs._network import Magnitudes, principal, spectral_error
from woodshed.audio.codecs._phase import Integrator, PhaseHead, Stft, differences, griffin_lim
from woodshed.audio.codecs._settings import CodecSettings
from woodshed.audio.codecs._stereo import BANDS, apart, image, to_bands
from woodshed.audio.crops import Crops, find, split
from woodshed.audio.wave import Audio, loudness_of, write_audio
from woodshed.errors import EmptyCorpus, InputError, RunError

RECIPE = Path(__file__).parents[1] / "recipes" / "render_piano.py"
TINY = dict(sample_rate=16000, latent_dim=24, side_dim=4, width=16, batch_size=2, seconds=0.6, threads=1, device="cpu")


@pytest.fixture(scope="module", autouse=True)
def less_to_measure():
    """The spread of latents from four crops is enough here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec_train, "FIRST", 4)
        patch.setattr(codec_train, "LONG", 3.0)
        yield


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recordings")
    for seed in range(6):
        write_audio(folder / f"{seed}.flac", song(seed, seconds=6.0, bpm=90 + 10 * seed))
    return folder


@pytest.fixture(scope="module")
def trained(recordings, tmp_path_factory):
    out = tmp_path_factory.mktemp("codec") / "own"
    train_codec(recordings, out, **TINY, max_steps=4, eval_steps=2)
    return out


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A tiny random Oobleck in the folder of a pipeline."""
    from diffusers import AutoencoderOobleck

    torch.manual_seed(0)
    sizes = dict(encoder_hidden_size=12, decoder_channels=8, decoder_input_channels=6, audio_channels=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # diffusers uses the old weight_norm
        model = AutoencoderOobleck(
            **sizes, downsampling_ratios=[2, 4, 8], channel_multiples=[1, 2, 2], sampling_rate=1600
        )
    folder = tmp_path_factory.mktemp("pipeline")
    model.save_pretrained(folder / "vae")
    return folder


@pytest.fixture(params=menu.names(codecs.__name__))
def codec(request, trained, foreign):
    """One of each kind on the menu."""
    return open_codec({"own": trained, "oobleck": foreign}[request.param])


# --- every codec -----------------------------------------------------------------------------------------------


def test_a_frame_for_every_hop_that_is_begun_and_a_hop_for_every_frame(codec):
    for samples in (1, codec.hop_length, codec.hop_length + 1, 7 * codec.hop_length - 3):
        sound = Audio(noise(1.0, channels=codec.channels).samples[:1].repeat(samples, axis=0), codec.sample_rate)
        latents = codec.encode(sound)
        assert latents.shape == (-(-samples // codec.hop_length), codec.latent_dim)
        assert latents.dtype == np.float32
        back = codec.decode(latents)
        assert back.samples.shape == (len(latents) * codec.hop_length, codec.channels)
        assert back.samples.dtype == np.float32 and np.isfinite(back.samples).all()
    assert codec.latent_rate == pytest.approx(codec.sample_rate / codec.hop_length)
    assert len(codec.decode(codec.encode(silence(0.0))).samples) == 0


def test_latents_of_pieces_are_those_of_the_whole(codec):
    sound = song(3, seconds=9.0).resampled(codec.sample_rate).with_channels(codec.channels)
    cuts = np.cumsum([round(s * codec.sample_rate) for s in (0, 0.3, 2.7, 0.01, 4.0)]).tolist()
    pieces = [Audio(part, codec.sample_rate) for part in np.split(sound.samples, cuts[1:])]
    whole = codec.encode(sound)
    np.testing.assert_allclose(np.concatenate(list(encode_stream(iter(pieces), codec))), whole, atol=2e-3)


def test_other_rates_and_channels_are_converted_and_other_widths_refused(codec):
    wide = song(1, seconds=2.0, sample_rate=22050, channels=1)
    same = wide.with_channels(codec.channels).resampled(codec.sample_rate)
    np.testing.assert_allclose(codec.encode(wide), codec.encode(same), atol=1e-4)
    with pytest.raises(InputError, match=rf"takes \(frames, {codec.latent_dim}\)"):
        codec.decode(np.zeros((3, codec.latent_dim + 1)))


def test_a_recording_is_encoded_at_one_loudness(codec, tmp_path):
    sound = song(2, seconds=4.0)
    write_audio(tmp_path / "loud.wav", sound)
    write_audio(tmp_path / "soft.wav", Audio(sound.samples * np.float32(0.3), sound.sample_rate))
    loud, soft = (encode_file(tmp_path / f"{name}.wav", codec) for name in ("loud", "soft"))
    assert np.abs(loud - soft).mean() < 0.05 * np.abs(loud).mean()
    levelled = codec.encode(sound.levelled(LOUDNESS, ceiling=60.0))
    assert np.abs(levelled - loud).mean() < 0.05 * np.abs(loud).mean()


def test_a_saved_codec_is_the_same_and_has_another_fingerprint_when_standardised(codec, tmp_path):
    sound = song(4, seconds=1.0)
    (tmp_path / "copy").mkdir()
    codec.save(tmp_path / "copy")
    again = open_codec(tmp_path / "copy")
    assert again.fingerprint == codec.fingerprint
    np.testing.assert_array_equal(again.encode(sound), codec.encode(sound))
    samples = np.stack([song(k, seconds=3.0).samples.T[:, : 8 * codec.hop_length] for k in range(4)])
    again.standardise(torch.from_numpy(samples))
    assert again.fingerprint != codec.fingerprint
    latents = np.concatenate([again.encode(Audio(one.T, codec.sample_rate)) for one in samples])
    np.testing.assert_allclose(latents.mean(axis=0), 0, atol=1e-2)
    np.testing.assert_allclose(latents.std(axis=0), 1, atol=0.05)


def test_what_is_no_codec_is_refused(tmp_path):
    with pytest.raises(RunError, match="it is no codec of these kinds: oobleck, own"):
        open_codec(tmp_path)
    (tmp_path / "codec.json").write_text("[1]")
    with pytest.raises(RunError, match="no codec"):
        open_codec(tmp_path)


def test_damaged_folders_are_refused_by_name(trained, tmp_path):
    facts = json.loads((trained / "codec.json").read_text())
    for damage, weights in (
        ({"shape": facts["shape"] | {"width": 17}}, None),
        ({"shape": {}}, None),
        ({"fingerprint": "0" * 16}, None),
        ({}, b"no tensors"),
    ):
        (tmp_path / "codec.json").write_text(json.dumps(facts | damage))
        (tmp_path / "model.safetensors").write_bytes(weights or (trained / "model.safetensors").read_bytes())
        with pytest.raises(Exception, match=r"fit together|cannot be read|is not the one") as caught:
            open_codec(tmp_path)
        assert type(caught.value).__module__ == "woodshed.errors"


def test_an_oobleck_learns_only_the_spread_of_its_latents(foreign, recordings, tmp_path):
    out = tmp_path / "out"
    codec = train_codec(recordings, out, kind="oobleck", base=str(foreign), seconds=0.5)
    assert sorted(path.name for path in out.iterdir()) == ["codec.json", "log.jsonl", "settings.json"]
    latents = np.concatenate([encode_file(path, codec) for path in sorted(recordings.iterdir())])
    plain = np.concatenate([encode_file(path, open_codec(foreign)) for path in sorted(recordings.iterdir())])
    assert np.abs(latents.std(axis=0) - 1).max() < 0.35 < np.abs(plain.std(axis=0) - 1).max()
    assert codec.fingerprint != open_codec(foreign).fingerprint
    facts = json.loads((out / "codec.json").read_text())
    assert not os.path.isabs(facts["base"])


# --- phases and stereo -----------------------------------------------------------------------------------------


@pytest.fixture
def spectrum():
    stft = Stft(512, 128)
    sound = torch.from_numpy(song(0, seconds=2.048).samples.T.copy())
    return stft, sound, stft(sound)


def test_a_spectrum_gives_its_sound_back(spectrum):
    stft, sound, found = spectrum
    assert found.shape == (2, 257, sound.shape[1] // 128)
    torch.testing.assert_close(stft.inverse(found), sound, atol=1e-5, rtol=0)


def test_true_differences_give_phases_of_a_real_sound(spectrum):
    stft, _, found = spectrum
    one = found[:1]
    ahead, across = (part[0].T.numpy() for part in differences(one, 0.25))
    magnitude = one[0].abs().T.contiguous().numpy()
    whole = Integrator(257, 0.25)(magnitude, ahead, across)
    told, drawn = torch.from_numpy(whole).T, griffin_lim(one[0].abs(), stft, iterations=0)
    far = [float((stft(stft.inverse(x)).abs() - one[0].abs()).square().sum()) for x in (told, drawn)]
    assert far[0] < 0.1 * far[1]
    halves = Integrator(257, 0.25)
    split = [halves(*(x[part] for x in (magnitude, ahead, across))) for part in (slice(0, 100), slice(100, None))]
    np.testing.assert_allclose(np.concatenate(split), whole, rtol=1e-4, atol=1e-4)


def test_bins_have_the_power_that_they_have_in_recordings(trained):
    codec = open_codec(trained)
    samples = torch.from_numpy(np.stack([song(k, seconds=3.0).samples.T[:, : 40 * codec.hop_length] for k in range(4)]))
    codec.standardise(samples)
    with torch.no_grad():
        true, _, _ = codec.network.look(samples)
        latents = torch.cat([codec.network.encode(one[None]) for one in samples])
        plain, lifted = (
            x.pow(n).mean((0, 2))
            for x, n in ((codec.network.roots(latents).clamp(min=0), 4), (codec.network.magnitude(latents), 2))
        )
    loud = true.pow(4).mean((0, 2)) > 1
    off = [float((power / true.pow(4).mean((0, 2)))[loud].log().abs().mean()) for power in (plain, lifted)]
    assert off[1] < 0.7 * off[0]


def test_a_long_piece_is_decoded_in_blocks_without_a_seam(trained, monkeypatch):
    codec = open_codec(trained)
    latents = codec.encode(song(5, seconds=9.0))
    whole = codec.decode(latents).samples
    monkeypatch.setattr(own, "BLOCK", 30)
    np.testing.assert_allclose(codec.decode(latents).samples, whole, atol=1e-3 * np.abs(whole).max())


def test_phases_go_on_through_silence(spectrum):
    _, _, found = spectrum
    magnitude = found[0].abs().T.contiguous().numpy().copy()
    magnitude[40:60] = 0
    ones = np.ones_like(magnitude, dtype=np.complex64)
    back = Integrator(257, 0.25)(magnitude, ones, ones)
    np.testing.assert_allclose(np.abs(back), magnitude, rtol=1e-3, atol=1e-5)


def test_a_head_that_learns_tells_more_than_one_that_has_not(spectrum):
    _, _, found = spectrum
    torch.manual_seed(0)
    head = PhaseHead()
    magnitude = found.abs() * 100
    before = head.loss(magnitude, found, 0.25).item()
    optimizer = torch.optim.Adam(head.parameters(), 5e-3)
    for _ in range(15):
        optimizer.zero_grad()
        loss = head.loss(magnitude, found, 0.25)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.85 * before


def test_griffin_lim_comes_nearer_with_every_round(spectrum):
    stft, _, found = spectrum
    magnitude = found[0].abs()
    errors = []
    for rounds in (0, 4, 16):
        heard = stft(stft.inverse(griffin_lim(magnitude, stft, iterations=rounds))).abs()
        errors.append(float((heard - magnitude).square().sum() / magnitude.square().sum()))
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("pan", [-0.9, 0.0, 0.6])
@pytest.mark.parametrize("width", [0.0, 1.0])
def test_a_stereo_image_is_heard_where_it_was_told(pan, width):
    stft = Stft(1024, 256)
    alike, left, right = (torch.from_numpy(noise(4.096, seed=k).samples[:, 0]) for k in range(3))
    pair = torch.stack([(1 - width) * alike + width * left, (1 - width) * alike + width * right])
    pair = pair * torch.tensor([(1 + pan) ** 0.5, (1 - pan) ** 0.5])[:, None]
    found = stft(pair)
    bands = to_bands(513, 16000)
    told = image(found[:1], found[1:], bands, 4)
    mean = found.abs().square().mean(0).sqrt()
    made = apart(mean * torch.exp(1j * found[0].angle()), told[0].repeat_interleave(4, dim=1), bands)
    again = image(*(stft(stft.inverse(one))[None] for one in made), bands, 4)
    was, now = (x.mean(2)[0].split(BANDS) for x in (told, again))
    np.testing.assert_allclose(now[0], was[0], atol=0.05)
    np.testing.assert_allclose(now[1][2:], was[1][2:], atol=0.15)  # the lowest bands are one bin wide


def test_every_bin_is_in_one_band():
    bands = to_bands(1025, 44100)
    assert bands.shape == (BANDS, 1025) and bool((bands.sum(0) == 1).all()) and bool((bands.sum(1) >= 1).all())


# --- the network -----------------------------------------------------------------------------------------------


def test_a_new_network_is_the_best_linear_codec():
    torch.manual_seed(0)
    roots = torch.randn(40, 3, 1) @ torch.randn(1, 1, 64) + torch.randn(40, 1, 64)
    roots = (torch.randn(20, 40, 4) @ torch.randn(20, 4, 64)).abs()
    network = Magnitudes(40, 4, 16, 8, 1)
    network.start_from(roots)
    with torch.no_grad():
        back = network.decode(network.encode(roots))
    rows = (roots - roots.mean((0, 2))[:, None]).unfold(2, 4, 4).permute(0, 2, 1, 3).reshape(-1, 160)
    values = torch.linalg.svdvals(rows)
    best = values[16:].square().sum()
    assert float((back - roots).square().sum()) == pytest.approx(float(best), rel=0.02)


def test_fewer_rows_than_components_leave_zeros():
    found = principal(torch.randn(3, 10), 6)
    assert found.shape == (6, 10) and not found[3:].any()


def test_the_error_is_0_for_the_same_and_1_for_silence():
    roots = torch.rand(2, 32, 16)
    assert float(spectral_error(roots, roots)) == 0
    assert float(spectral_error(torch.zeros_like(roots), roots)) == pytest.approx(1, abs=1e-4)


# --- crops -----------------------------------------------------------------------------------------------------


def test_crops_are_a_function_of_seed_and_step(recordings):
    train, held = split(find(recordings, shortest=0.5), shortest=0.5, seed=0)
    assert len(train) == 5 and len(held) == 1 and held[0] not in train
    how = dict(samples=8000, sample_rate=16000, channels=2)
    straight = Crops(train, **how, seed=1)
    batches = [straight.batch(step, 3) for step in range(6)]
    assert batches[0].shape == (3, 2, 8000) and batches[0].dtype == np.float32
    np.testing.assert_array_equal(Crops(train, **how, seed=1).batch(5, 3), batches[5])
    assert not np.array_equal(batches[4], batches[5])
    assert not np.array_equal(Crops(train, **how, seed=2).batch(5, 3), batches[5])


def test_of_few_recordings_the_ends_are_held_out_and_the_unusable_are_named(tmp_path):
    write_audio(tmp_path / "a.wav", song(0, seconds=10.0))
    write_audio(tmp_path / "quiet.wav", silence(4.0))
    write_audio(tmp_path / "short.wav", tone(0.2))
    (tmp_path / "broken.wav").write_bytes(b"RIFFnonsense")
    said = []
    found = find(tmp_path, shortest=0.5, say=said.append)
    (train,), (held,) = split(found, shortest=0.5, seed=0)
    assert train.end == held.start == pytest.approx(9.0) and held.end == pytest.approx(10.0)
    assert len(said) == 3
    for word in ("broken.wav", "quiet.wav: it is silent", "short.wav: only 0.2 s"):
        assert any(word in line for line in said)
    (tmp_path / "a.wav").unlink()
    with pytest.raises(EmptyCorpus, match="3 left out"):
        find(tmp_path, shortest=0.5)


# --- training --------------------------------------------------------------------------------------------------


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(recordings, trained, tmp_path):
    def stop(now):
        if now.step == 3 and not now.validation:
            os.kill(os.getpid(), signal.SIGINT)

    out = tmp_path / "own"
    half = train_codec(recordings, out, **TINY, max_steps=4, eval_steps=2, report=stop)
    assert half.about["step"] == 3
    (tmp_path / "others").mkdir()
    write_audio(tmp_path / "others" / "a.wav", song(9))
    with pytest.raises(RunError, match="not those it has learned from"):
        train_codec(tmp_path / "others", out, resume=True)
    again = train_codec(recordings, out, resume=True)
    assert again.about["step"] == 4
    with pytest.raises(RunError, match="it has finished, at step 4"):
        train_codec(recordings, out, resume=True)
    whole = open_codec(trained)
    assert again.fingerprint == whole.fingerprint
    assert sorted(p.name for p in out.glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-4"]
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines() if '"loss"' in line]
    assert steps == [1, 2, 3, 4]


def test_training_lowers_the_error(recordings, tmp_path):
    settings = TINY | {"batch_size": 4, "width": 32, "latent_dim": 12}
    out = tmp_path / "own"
    train_codec(recordings, out, **settings, max_steps=24, eval_steps=24, learning_rate=3e-3)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    found = [line for line in lines if "loss" in line]
    for name in ("spectrum", "phase"):
        first, last = (np.mean([line[name] for line in part]) for part in (found[:6], found[-6:]))
        assert last < 0.9 * first, name


def test_what_cannot_work_is_refused(recordings, trained, tmp_path):
    with pytest.raises(InputError, match="is there already; add --resume"):
        train_codec(recordings, trained)
    with pytest.raises(RunError, match="no codec in training"):
        train_codec(recordings, tmp_path / "new", resume=True)
    assert not (tmp_path / "new").exists()
    with pytest.raises(RunError, match="--width was 16, now it is 64"):
        train_codec(recordings, trained, resume=True, width=64)
    for changes, match in (
        ({"channels": 3}, "choose 1"),
        ({"side_dim": 24}, "--side-dim 24"),
        ({"batch_size": 0}, "--batch-size 0"),
        ({"kind": "oobleck"}, "needs --base"),
        ({"kind": "owl"}, "choose from: oobleck, own"),
        ({"latent_noise": -1}, "--latent-noise"),
    ):
        with pytest.raises(InputError, match=match):
            train_codec(recordings, tmp_path / "new", **TINY | {"max_steps": 1} | changes)


# --- the report ------------------------------------------------------------------------------------------------


def test_the_report_of_a_codec(trained, recordings, tmp_path, monkeypatch):
    monkeypatch.setattr(notes, "available", lambda: False)
    facts = check_codec(trained, recordings, tmp_path / "report", excerpts=2, seconds=1.0, sounds=1, griffin_lim=True)
    assert set(facts["measures"]) == {"round trip", "noise on latents", "griffin-lim"}
    found = facts["measures"]["round trip"]
    assert 0 < found["spectral_distance"] < facts["measures"]["noise on latents"]["spectral_distance"]
    assert 0 <= found["onset_f1"] <= 1 and "note_f1" not in found
    assert json.loads((tmp_path / "report" / "report.json").read_text()) == facts
    html = (tmp_path / "report" / "report.html").read_text()
    assert "1 source.wav" in html and (tmp_path / "report" / "1 round trip.wav").exists()
    assert any("basic-pitch" in line for line in facts["verdict"])
    with pytest.raises(InputError, match="is there already"):
        check_codec(trained, recordings, tmp_path / "report")


def test_the_measures_are_those_of_the_same_sound_and_of_silence():
    sound = song(0, seconds=3.0)
    assert spectral_distance(sound.samples, sound.samples) == 0
    assert spectral_distance(-sound.samples, sound.samples) == pytest.approx(0, abs=1e-9)
    assert spectral_distance(0 * sound.samples, sound.samples) == pytest.approx(1)
    left = Audio(sound.samples * np.float32([1, 0.5]), sound.sample_rate)
    assert balance_error(sound, sound) == 0
    assert balance_error(left, sound) == pytest.approx(20 * np.log10(2), abs=0.1)


# --- notes -----------------------------------------------------------------------------------------------------


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


def test_settings_say_what_they_are_for():
    assert own.begin(CodecSettings(sample_rate=16000, width=8)).latent_rate == pytest.approx(15.6, abs=0.1)
    assert own.begin(CodecSettings(latent_rate=11, width=8)).latent_rate == pytest.approx(10.77, abs=0.01)
    assert not oobleck.recognises("/no/such/folder") and oobleck.recognises("someone/model")


# --- recordings made of MIDI -----------------------------------------------------------------------------------


def test_the_recipe_renders_the_splits_of_the_manifest_once(tmp_path, capsys):
    spec = importlib.util.spec_from_file_location("render_piano", RECIPE)
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    data, out = tmp_path / "data", tmp_path / "out"
    rows = [
        ("a/1.mid", "a", "train"),
        ("a/2.mid", "a", "train"),
        ("a/Mozart.mid", "a", "test"),
        ("b/3.mid", "b", "train"),
    ]
    for number, (path, _, _) in enumerate(rows):
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        write_midi(tune(number, notes=16), data / path)
    lines = ["file,set,split,seconds,info", *(f"{file},{name},{split},4,someone" for file, name, split in rows)]
    (data / "manifest.csv").write_text("\n".join(lines))
    choice = [str(data), str(out), "--sets", "a", "--hours"]
    recipe.main([*choice, "0.0011"])
    first = {path: path.stat().st_mtime_ns for path in out.rglob("*.flac")}
    assert {path.parts[-3] for path in first} == {"train", "test"} and len(first) == 2
    recipe.main([*choice, "1"])
    second = {path: path.stat().st_mtime_ns for path in out.rglob("*.flac")}
    assert len(second) == 3 and first.items() <= second.items()
    for path in second:
        assert path.with_suffix(".mid").exists()
        assert loudness_of(path) == pytest.approx(LOUDNESS, abs=0.3)
    table = (out / "table.csv").read_text().splitlines()
    assert len(table) == 4 and "3 recordings" not in capsys.readouterr().out
    assert [row["file"] for row in recipe.choose(data, ("a", "b"), ("mozart",), hours=1, seed=0)] == ["a/Mozart.mid"]
