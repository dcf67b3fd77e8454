"""Codecs: what goes in comes out, in pieces as at once; phases and stereo as they were told."""
# ruff: noqa: F811

import json
import os

import numpy as np
import pytest
import torch
from codec_toys import foreign, hurrying, recordings, trained  # noqa: F401
from sounds import noise, silence, song

from woodshed import menu
from woodshed.audio import codecs
from woodshed.audio.codec_train import train_codec
from woodshed.audio.codecs import LOUDNESS, encode_file, encode_stream, oobleck, open_codec, own
from woodshed.audio.codecs._network import Magnitudes, principal, spectral_error
from woodshed.audio.codecs._phase import Integrator, PhaseHead, Stft, differences, griffin_lim
from woodshed.audio.codecs._settings import CodecSettings
from woodshed.audio.codecs._stereo import BANDS, apart, image, to_bands
from woodshed.audio.wave import Audio, write_audio
from woodshed.errors import InputError, RunError


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
    assert sorted(path.name for path in out.iterdir()) == ["codec.json", "heard.json", "settings.json"]
    latents = np.concatenate([encode_file(path, codec) for path in sorted(recordings.iterdir())])
    plain = np.concatenate([encode_file(path, open_codec(foreign)) for path in sorted(recordings.iterdir())])
    assert np.abs(latents.std(axis=0) - 1).max() < 0.35 < np.abs(plain.std(axis=0) - 1).max()
    assert codec.fingerprint != open_codec(foreign).fingerprint
    facts = json.loads((out / "codec.json").read_text())
    assert not os.path.isabs(facts["base"])


def test_an_oobleck_goes_to_the_device_that_was_asked_for(foreign, recordings, tmp_path, monkeypatch):
    devices = []
    monkeypatch.setattr(oobleck.OobleckCodec, "to", lambda self, device: devices.append(device))
    train_codec(recordings, tmp_path / "out", kind="oobleck", base=str(foreign), seconds=0.5, device="cpu")
    assert devices == ["cpu"]


def test_an_oobleck_opens_from_where_it_is_seen(foreign, monkeypatch):
    monkeypatch.chdir(foreign)
    assert open_codec("./vae").fingerprint == open_codec(foreign).fingerprint


def test_a_model_that_only_a_codec_names_is_not_downloaded(foreign, tmp_path, monkeypatch):
    from diffusers import AutoencoderOobleck, DiffusionPipeline

    asked, model = [], open_codec(foreign).model

    def there(name, *, local_files_only, **more):
        asked.append((name, local_files_only))
        return model

    monkeypatch.setattr(DiffusionPipeline, "load_config", there)
    monkeypatch.setattr(AutoencoderOobleck, "from_pretrained", there)
    codec = open_codec("someone/model")
    codec.save(tmp_path)
    assert open_codec(tmp_path).fingerprint == codec.fingerprint
    assert asked == [("someone/model", False)] * 2 + [("someone/model", True)] * 2

    def gone(name, **more):
        raise OSError("not in the cache")

    monkeypatch.setattr(AutoencoderOobleck, "from_pretrained", gone)
    with pytest.raises(RunError, match=r"someone/model: .* on this machine; if you trust it: hf download someone/mod"):
        open_codec(tmp_path)


def test_settings_say_what_they_are_for():
    assert own.begin(CodecSettings(width=8)).latent_rate == pytest.approx(10.77, abs=0.01)
    assert own.begin(CodecSettings(latent_rate=21, width=8)).latent_rate == pytest.approx(21.53, abs=0.01)
    assert own.begin(CodecSettings(sample_rate=16000, width=8)).latent_rate == pytest.approx(7.8, abs=0.1)
    assert not oobleck.recognises("/no/such/folder") and oobleck.recognises("someone/model")


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
