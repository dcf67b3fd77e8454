"""The latent GAN, on a codec so small that a run takes a second."""

import dataclasses
import json
import math

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file
from sounds import noise, silence, song, songs_folder, tone

from woodshed.audio.gan import coordinates, health, latents, networks, profile, step
from woodshed.audio.gan import run as runs
from woodshed.audio.gan import train as training
from woodshed.audio.gan.evaluate import evaluate, nearest_learned
from woodshed.audio.gan.evaluate_page import save
from woodshed.audio.gan.generate import commented, decode_loop, generate, save_take
from woodshed.audio.gan.inspect import inspect
from woodshed.audio.gan.job import Rows
from woodshed.audio.gan.run import open_run
from woodshed.audio.gan.settings import GanSettings, GenerateSettings
from woodshed.audio.gan.train import train
from woodshed.audio.wave import Audio, read_audio, write_audio
from woodshed.errors import EmptyCorpus, InputError, RunError

HALF = 8
TINY = {"base_channels": 4, "window": 16, "batch_size": 4, "learning_rate": 1e-3, "threads": 1, "samples": 2}
TINY |= {"max_steps": 12, "save_steps": 4, "hold_out": 0.2}


class Toy:
    """A codec: magnitudes of blocks, each channel's through a fixed orthogonal projection to eight numbers."""

    kind, sample_rate, hop_length, latent_rate = "toy", 8000, 400, 20.0

    def __init__(self, channels=1, seed=0):
        self.channels, self.latent_dim, self.fingerprint = channels, 8 * channels, f"toy-{channels}-{seed}"
        self.basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((201, 8)))[0].T.astype(np.float32)

    def encode(self, audio):
        samples = audio.with_channels(self.channels).resampled(self.sample_rate).samples
        blocks = np.pad(samples, ((0, -len(samples) % 400), (0, 0))).reshape(-1, 400, self.channels)
        return (np.abs(np.fft.rfft(blocks, axis=1)).transpose(0, 2, 1) @ self.basis.T).reshape(len(blocks), -1) / 3

    def decode(self, latents):
        magnitudes = 3 * latents.reshape(len(latents), self.channels, 8) @ self.basis
        blocks = np.fft.irfft(magnitudes, axis=2).transpose(0, 2, 1)
        return Audio(blocks.reshape(-1, self.channels).astype(np.float32), self.sample_rate)


TOY = Toy()


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    sizes = {"seconds": 6.0, "sample_rate": 8000, "channels": 1}
    return songs_folder(tmp_path_factory.mktemp("recordings"), 6, labelled=False, **sizes)


@pytest.fixture(scope="module")
def trained(recordings, tmp_path_factory):
    return train(recordings, tmp_path_factory.mktemp("trained") / "run", codec=TOY, **TINY)


@pytest.fixture(autouse=True)
def unpainted(request, monkeypatch):
    """No pictures but those of the run `trained`: they take longer than its steps."""
    if "trained" in request.fixturenames:
        request.getfixturevalue("trained")
    monkeypatch.setattr(training, "spectrograms", lambda sounds: b"")
    monkeypatch.setattr(training, "draw_progress", lambda log, picture: None)


@pytest.fixture
def players():
    return step.new_players(step.Shape(8, 4, 2 * HALF), seed=0)


def drawn(count=4, seed=0):
    return torch.randn(count, 8, 2 * HALF, generator=torch.Generator().manual_seed(seed))


def events(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if "event" in line]


# --- coordinates -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("truncation", [0.3, 1.0, 2.0, 4.0])
def test_truncated_numbers_are_those_that_remain_of_normal_ones(truncation):
    found = coordinates.truncated_normal(40_000, seed=1, truncation=truncation).numpy()
    assert np.abs(found).max() <= truncation
    normal = np.random.default_rng(0).standard_normal(400_000)
    remaining = normal[np.abs(normal) <= truncation]
    levels = [5, 25, 50, 75, 95]
    assert np.percentile(found, levels) == pytest.approx(np.percentile(remaining, levels), abs=0.04)


def test_less_truncation_only_stretches_the_same_numbers():
    narrow, wide = (coordinates.truncated_normal(50, seed=3, truncation=limit) for limit in (0.5, 3.0))
    assert torch.equal(narrow.argsort(), wide.argsort())


def test_anchors_are_joined_by_straight_lines():
    anchors = torch.randn(2, 3, 5)
    positions = torch.tensor([[0.0, 0.25, 1.0, 1.5, 2.75], [0.5, 0.6, 2.0, 2.2, 0.0]])
    found = coordinates.interpolated(anchors, positions)
    for row in range(2):
        for at, position in enumerate(positions[row].tolist()):
            left, share = int(position), position % 1
            naive = (1 - share) * anchors[row, left] + share * anchors[row, (left + 1) % 3]
            torch.testing.assert_close(found[row, at], naive)


@pytest.mark.parametrize("halves", [1, 2, 4, 5, 9])
def test_a_loop_leads_back_to_its_beginning(halves):
    line = coordinates.piece(halves, HALF, seed=5, loop=True)[0, : coordinates.DEPTH]
    steps = torch.diff(line, dim=1).norm(dim=0)
    seam = (line[:, 0] - line[:, -1]).norm()
    assert seam <= steps.max() + 1e-5
    if halves > 4:
        assert steps.median() > 0
        assert (coordinates.piece(halves, HALF, seed=5)[0, :, 0] - line.mean()).norm() > seam


def test_windows_begin_at_each_of_the_places_between_two_anchors():
    found = coordinates.draw(200, HALF, generator=torch.Generator().manual_seed(0))
    assert found.shape == (200, 2 * coordinates.DEPTH, 2 * HALF)
    style, line = found[:, coordinates.DEPTH :], found[:, : coordinates.DEPTH]
    assert torch.equal(style, style[..., :1].expand_as(style))
    bends = torch.diff(line, n=2, dim=2).norm(dim=1) > 1e-4  # where a window goes over an anchor
    assert 0.2 < (bends.any(dim=1)).float().mean() < 0.5


def test_a_style_seed_fixes_the_style_alone():
    one, other = (coordinates.piece(2, HALF, seed=seed, style_seed=9) for seed in (1, 2))
    assert torch.equal(one[:, coordinates.DEPTH :], other[:, coordinates.DEPTH :])
    assert not torch.equal(one[:, : coordinates.DEPTH], other[:, : coordinates.DEPTH])
    assert not torch.equal(one[:, coordinates.DEPTH :], coordinates.piece(2, HALF, seed=1)[:, coordinates.DEPTH :])


# --- networks ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("half", [8, 16, 32, 128])
def test_the_generator_takes_any_number_of_halves_and_the_critic_its_window(half):
    network, critic = networks.Generator(6, 4, half), networks.Critic(6, 4, 2 * half)
    for halves in (1, 2, 5):
        where = torch.randn(2, 2 * coordinates.DEPTH, halves * half)
        made = network(where, torch.Generator().manual_seed(0))
        assert made.shape == (2, 6, halves * half)
    assert critic(torch.randn(3, 6, 2 * half)).shape == (3,)


def test_halves_are_independent():
    network = networks.Generator(8, 4, HALF)
    for name, weight in network.named_parameters():
        if name.endswith("gain"):
            torch.nn.init.ones_(weight)
    where = torch.randn(1, 2 * coordinates.DEPTH, 3 * HALF)
    changed = where.clone()
    changed[..., HALF : 2 * HALF] += 1
    one, other = (network(some, torch.Generator().manual_seed(0)) for some in (where, changed))
    same = (one == other).all(dim=1)[0].reshape(3, HALF).all(dim=1).tolist()
    assert same == [True, False, True]
    assert not torch.equal(one, network(where, torch.Generator().manual_seed(1)))  # noise


def test_the_shuffle_makes_pairs_of_frames_of_pairs_of_channels():
    x = torch.arange(2 * 6 * 5).reshape(2, 6, 5)
    found = networks.shuffled(x)
    for channel in range(3):
        for frame in range(10):
            assert torch.equal(found[:, channel, frame], x[:, 2 * channel + frame % 2, frame // 2])


def test_the_sizes_are_those_of_musika():
    sizes = [
        networks.parameters(network) / 1e6
        for network in (networks.Generator(128, 128, 128), networks.Critic(128, 128, 256))
    ]
    assert sizes == pytest.approx([15.5, 20.8], rel=0.03)


# --- a step ------------------------------------------------------------------------------------------------------


def test_r1_is_the_mean_squared_slope(players):
    real = drawn()
    naive = []
    for one in real:
        one = one[None].clone().requires_grad_()
        players.critic(one).sum().backward()
        naive.append(float(one.grad.square().sum()))
    real.requires_grad_()
    found = step.r1(players.critic(real), real)
    assert found.item() == pytest.approx(np.mean(naive), rel=1e-5)
    found.backward()  # through the slope, into the critic
    assert players.critic.start.weight.grad.abs().sum() > 0


def test_the_switch_fades_and_returns():
    assert step.switched(-1.0, gap=0.5) == pytest.approx(-0.9999)
    assert step.switched(-0.5, gap=5.0) == pytest.approx(-0.5001)
    assert step.switched(-1.0, gap=2.0) == -1.0
    assert step.switched(0.0, gap=-3.0) == 0.0


def test_the_average_follows_by_its_law():
    network, average = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    expected = average.weight.detach().clone()
    for at in range(5):
        torch.nn.init.constant_(network.weight, at)
        step.follow(average, network, decay=0.9)
        expected = 0.9 * expected + 0.1 * at
    torch.testing.assert_close(average.weight.detach(), expected)
    assert [round(step.decay(at), 3) for at in (1, 90, 100_000)] == [0.182, 0.91, step.DECAY]


def test_a_step_is_a_function_of_its_seed_and_changes_all_three_networks():
    after = []
    for seed in (1, 1, 2):
        players = step.new_players(step.Shape(8, 4, 2 * HALF), seed=0)
        before = step.to_tensors(players)
        step.update(players, drawn(), rate=1e-3, seed=seed)
        after.append(step.to_tensors(players))
    assert all(torch.equal(after[0][name], after[1][name]) for name in after[0])
    assert any(not torch.equal(after[0][name], after[2][name]) for name in after[0])
    for name in ("generator", "critic", "average"):
        assert any(not torch.equal(before[key], after[0][key]) for key in before if key.startswith(name))


def test_the_critic_learns_to_tell_and_the_generator_follows(players):
    real = drawn(16) * torch.linspace(0, 2, 8)[:, None] + 3
    reports = [step.update(players, real + 0.1 * drawn(16, at), rate=2e-3, seed=at) for at in range(40)]
    assert max(one.gap for one in reports) > 0.5
    with torch.no_grad():
        made = players.average(coordinates.draw(16, HALF, generator=torch.Generator()), torch.Generator())
    assert made.mean() > 0.3


def test_bfloat16_goes_the_same_way(players):
    other = step.new_players(step.Shape(8, 4, 2 * HALF), seed=0)
    exact = step.update(players, drawn(), rate=1e-4, seed=0)
    rough = step.update(other, drawn(), rate=1e-4, seed=0, half_precision=True)
    assert exact.hinge == pytest.approx(rough.hinge, abs=0.05)
    assert exact.r1 == pytest.approx(rough.r1, rel=0.2)
    assert all(weight.dtype == torch.float32 for weight in other.generator.parameters())


# --- health ------------------------------------------------------------------------------------------------------


def reference():
    real = [song(seed, seconds=6.0, sample_rate=8000, channels=1) for seed in range(4)]
    return [TOY.encode(audio) for audio in real], real


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
    usual = step.Report(hinge=0.7, r1=0.01, generator=0.1, gap=0.5, spread=0.3, norm=1.0)
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


# --- latents -----------------------------------------------------------------------------------------------------


def test_a_folder_is_split_and_what_cannot_be_used_is_named(recordings, tmp_path):
    for path in recordings.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "twin.wav").write_bytes((recordings / "song 0.wav").read_bytes())
    write_audio(tmp_path / "silent.wav", silence(5.0, sample_rate=8000))
    write_audio(tmp_path / "short.wav", tone(0.3, sample_rate=8000))
    (tmp_path / "text.wav").write_text("no sound")
    found = {one.file: one for one in latents.survey(tmp_path, TOY, window=16, hold_out=0.34)}
    assert [one.split for one in found.values()].count("held-out") == 2
    assert found["silent.wav"].reason == "silent" and "shorter" in found["short.wav"].reason
    assert "same sound" in found["twin.wav"].reason and found["text.wav"].split == "skipped"
    renamed = tmp_path / "renamed.wav"
    held = next(name for name, one in found.items() if one.split == "held-out")
    (tmp_path / held).rename(renamed)
    again = {one.file: one for one in latents.survey(tmp_path, TOY, window=16, hold_out=0.34)}
    assert again["renamed.wav"].split == "held-out"
    told = " ".join(latents.remarks(list(found.values()), window_seconds=0.8))
    assert "below 10" in told and "1 of 10 files left out: silent" in told


def test_what_was_encoded_is_kept_by_content(recordings, tmp_path, monkeypatch):
    found = latents.survey(recordings, TOY, window=16)
    first = latents.encode(found, recordings, TOY, keep=tmp_path, told=lambda share, text: None)
    monkeypatch.setattr(Toy, "encode", None)
    again = latents.encode(found, recordings, TOY, keep=tmp_path, told=lambda share, text: None)
    assert np.array_equal(first.data, again.data) and first.recordings == again.recordings
    assert first.mirrored is None and len(first.data) == 6 * 120
    starts = first.starts(16)
    assert len(starts) == 6 * (120 - 15) and first.place(250) == (first.recordings[2].file, 10)


def test_of_stereo_the_mirror_image_is_learned_as_well(tmp_path):
    left = song(1, seconds=4.0, sample_rate=8000, channels=2)
    write_audio(tmp_path / "one.wav", Audio(left.samples * np.float32([1, 0.3]), 8000))
    stereo = Toy(channels=2)
    found = latents.encode(
        latents.survey(tmp_path, stereo, window=16), tmp_path, stereo, keep=tmp_path / "kept", told=print
    )
    assert np.allclose(found.mirrored, np.roll(found.data, 8, axis=1), atol=1e-4)
    assert not np.allclose(found.mirrored, found.data, atol=0.1)


def test_profiles_tell_near_from_far():
    music = [TOY.encode(song(seed, seconds=8.0, sample_rate=8000, channels=1)) for seed in range(12)]
    old, new = (profile.profile(some, profile.stretch(20.0, 64)) for some in (music[:6], music[6:]))
    other = profile.profile([TOY.encode(noise(8.0, seed=seed, sample_rate=8000)) for seed in range(6)], 30)
    assert profile.distance(old, old) == pytest.approx(0, abs=1e-6)
    assert profile.distance(new, old) < profile.distance(other, old)
    assert old.shape == (6 * (160 // 30), 16) and profile.stretch(20.0, 16) == 16


# --- training ----------------------------------------------------------------------------------------------------


def test_a_run_holds_what_it_needs(trained, recordings):
    folder = trained.folder
    assert sorted(runs.checkpoints(folder)) == [4, 8, 12]
    assert (folder / "samples/step-12/1.wav").exists() and (folder / "samples/step-12/spectrogram.png").exists()
    assert (folder / "progress.png").exists()
    facts = runs.read_facts(folder)
    assert facts["finished"] and facts["step"] == 12 and facts["codec"]["fingerprint"] == TOY.fingerprint
    average = {k.removeprefix("average."): v for k, v in load_file(folder / "checkpoint-12/state.safetensors").items()}
    assert all(torch.equal(value, average[name]) for name, value in load_file(folder / "generator.safetensors").items())
    assert len([one for one in latents.read_manifest(folder)["recordings"] if one.split == "held-out"]) == 1
    assert str(folder) not in (folder / "run.json").read_text() + (folder / "manifest.json").read_text()


def test_a_killed_run_goes_on_exactly(trained, recordings, tmp_path):
    class Killed(BaseException):
        pass

    def kill(now):
        if now.step == 10 and not now.message:
            raise Killed

    with pytest.raises(Killed):
        train(recordings, tmp_path / "run", codec=TOY, report=kill, latents=tmp_path / "kept", **TINY)
    assert sorted(runs.checkpoints(tmp_path / "run")) == [0, 4, 8]
    train(recordings, tmp_path / "run", codec=TOY, resume=True)
    assert not (tmp_path / "run/latents").exists()
    for name in ("generator.safetensors", "checkpoint-12/state.safetensors"):
        one, other = (load_file(folder / name) for folder in (trained.folder, tmp_path / "run"))
        assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
    course = [
        json.loads((folder / "checkpoint-12/course.json").read_text()) for folder in (trained.folder, tmp_path / "run")
    ]
    for one in course:
        one.pop("seconds")
    assert course[0] == course[1]


def test_a_run_goes_on_for_longer_but_not_with_other_settings(trained, recordings, tmp_path):
    for change, flag in (({"batch_size": 8}, "--batch-size"), ({"seed": 3}, "--seed")):
        with pytest.raises(RunError, match=f"{flag} was .* another run"):
            train(recordings, trained.folder, codec=TOY, resume=True, **change)
    with pytest.raises(RunError, match="codec toy-1-0"):
        train(recordings, trained.folder, codec=Toy(seed=1), resume=True)
    with pytest.raises(RunError, match="finished, at step 12; to go on"):
        train(recordings, trained.folder, codec=TOY, resume=True)
    with pytest.raises(InputError, match="--resume"):
        train(recordings, trained.folder, codec=TOY, **TINY)
    (tmp_path / "music").mkdir()
    write_audio(tmp_path / "music/one.wav", song(99, seconds=6.0, sample_rate=8000))
    with pytest.raises(RunError, match="5 of its recordings are gone"):
        train(tmp_path / "music", trained.folder, codec=TOY, resume=True, max_steps=14)


def poisoned(monkeypatch, *, at, times):
    """After the step `at` the weights are no numbers, the first so many times."""
    left = [times]

    def update(players, real, **settings):
        told = step.update(players, real, **settings)
        if players.age == at and left[0]:
            left[0] -= 1
            torch.nn.init.constant_(players.generator.out.weight, math.nan)
        return told

    monkeypatch.setattr(training, "update", update)


def test_a_poisoned_step_is_rolled_back_and_retried_at_half_the_rate(recordings, tmp_path, monkeypatch):
    poisoned(monkeypatch, at=6, times=2)
    messages = []
    train(recordings, tmp_path / "run", codec=TOY, report=lambda now: messages.append(now.message), **TINY)
    told = [message for message in messages if "back to step" in message]
    assert "at step 7 the losses are no numbers (NaN); back to step 4, on at a rate of 0.0005" in told[0]
    assert "back to step 0, on at a rate of 0.00025" in told[1]  # step 4 has been tried twice
    assert [event["rate"] for event in events(tmp_path / "run")] == [0.0005, 0.00025]
    facts = runs.read_facts(tmp_path / "run")
    assert facts["finished"] and facts["rollbacks"] == 2 and facts["rate"] == 0.00025
    weights = load_file(tmp_path / "run/generator.safetensors")
    assert all(torch.isfinite(weight).all() for weight in weights.values())


def test_a_model_that_breaks_at_every_rate_is_an_error_with_advice(recordings, tmp_path, monkeypatch):
    poisoned(monkeypatch, at=2, times=99)
    with pytest.raises(InputError, match=r"broke 5 times: at step 3 .*--learning-rate"):
        train(recordings, tmp_path / "run", codec=TOY, **TINY)


def test_silent_samples_are_rolled_back_once_they_have_sounded(recordings, tmp_path, monkeypatch):
    spoilt = [True]

    def update(players, real, **settings):
        told = step.update(players, real, **settings)
        if players.age == 8 and spoilt.pop():
            spoilt.append(False)
            for weight in players.average.out.parameters():
                torch.nn.init.zeros_(weight)
        return told

    monkeypatch.setattr(training, "update", update)
    train(recordings, tmp_path / "run", codec=TOY, **TINY)
    (event,) = events(tmp_path / "run")
    assert event["broke"] == 8 and event["step"] == 4 and "silent" in event["message"]


def test_nothing_to_learn_from_and_values_that_cannot_work(recordings, tmp_path):
    write_audio(tmp_path / "silent.wav", silence(5.0, sample_rate=8000))
    with pytest.raises(EmptyCorpus, match="1 silent"):
        train(tmp_path, tmp_path / "run", codec=TOY, **TINY)
    assert not (tmp_path / "run").exists()
    for change, told in (
        ({"window": 24}, "--window 24: give a power of two"),
        ({"rehearse": 0.2}, "nothing to rehearse"),
        ({"learning_rate": -1.0}, "--learning-rate -1.0"),
        ({"learning_rate": None}, "--base-channels 4: no rate is known"),
        ({"device": "cuda"}, "--device cuda"),
    ):
        if "device" in change and torch.cuda.is_available():
            continue
        with pytest.raises(InputError, match=told):
            train(recordings, tmp_path / "run", codec=TOY, **TINY | change)


# --- fine-tuning ---------------------------------------------------------------------------------------------------


def test_a_base_brings_all_that_it_knows(trained, recordings, tmp_path):
    messages = []
    settings = {name: value for name, value in TINY.items() if name not in ("base_channels", "window", "learning_rate")}
    settings |= {"base": trained.folder, "rehearse": 0.5, "learning_rate": 1e-6, "max_steps": 2, "save_steps": 1}
    run = train(recordings, tmp_path / "run", codec=TOY, report=lambda now: messages.append(now.message), **settings)
    began = load_file(run.folder / "checkpoint-0/state.safetensors")
    ended = load_file(trained.folder / "checkpoint-12/state.safetensors")
    assert began.keys() == ended.keys() and all(torch.equal(began[name], ended[name]) for name in began)
    course = json.loads((run.folder / "checkpoint-2/course.json").read_text())
    assert course["age"] == 14 and course["switch"] > -1 and course["step"] == 2
    assert any("near the old ones" in message for message in messages)
    assert runs.read_facts(run.folder)["distance"] < profile.NEAR
    again = train(recordings, run.folder, codec=TOY, resume=True, max_steps=3, base=trained.folder)
    assert runs.read_facts(again.folder)["step"] == 3
    with pytest.raises(RunError, match="--base was"):
        train(recordings, run.folder, codec=TOY, resume=True, max_steps=4, base=tmp_path)


def test_a_base_that_does_not_fit_is_refused_by_name(trained, recordings, tmp_path):
    for change, told in (({"base_channels": 24}, "--base-channels 24: the base"), ({"window": 32}, "--window 32")):
        with pytest.raises(InputError, match=told):
            train(recordings, tmp_path / "run", codec=TOY, base=trained.folder, **change)
    with pytest.raises(RunError, match="codec toy-1-0"):
        train(recordings, tmp_path / "run", codec=Toy(seed=1), base=trained.folder)


def test_the_rehearsed_share_of_rows_is_old():
    def source(value):
        one = latents.Recording("a.wav", frames=100)
        return latents.Latents((one,), np.full((100, 8), value, np.float32), None)

    settings = GanSettings(**{k: v for k, v in TINY.items() if k != "batch_size"}, batch_size=500, rehearse=0.2)
    rows = Rows(source(1.0), source(-1.0), settings, torch.device("cpu"))
    drawn, seed = rows.draw(3, 0)
    assert drawn.shape == (500, 8, 16) and (drawn < 0).float().mean() == pytest.approx(0.2, abs=0.06)
    assert rows.draw(3, 0)[1] == seed != rows.draw(3, 1)[1]


# --- playing -----------------------------------------------------------------------------------------------------


def test_takes_are_functions_of_their_seeds_and_as_long_as_asked(trained):
    takes = list(generate(trained, seconds=3.14, takes=3, seed=5))
    assert [take.facts["seed"] for take in takes] == [5, 6, 7]
    assert all(len(take.audio.samples) == round(3.14 * 8000) for take in takes)
    (alone,) = generate(trained, seconds=3.14, takes=1, seed=6)
    assert np.array_equal(alone.audio.samples, takes[1].audio.samples)
    assert not np.array_equal(takes[0].latents, takes[1].latents)
    for wrong, told in (
        ({"seconds": 0}, "--seconds"),
        ({"truncation": 9}, "--truncation"),
        ({"style_seed": -1}, "--style"),
    ):
        with pytest.raises(InputError, match=told):
            GenerateSettings(**wrong)


def test_a_take_stores_its_seed_in_the_file_and_beside_it(trained, tmp_path):
    (take,) = generate(trained, seconds=2.0, takes=1, seed=11, style_seed=3)
    wav, told, picture = save_take(take, tmp_path / "take.v1")
    with soundfile.SoundFile(wav) as file:
        assert json.loads(file.comment)["seed"] == 11 and file.frames == 16000
    assert json.loads(told.read_text())["style_seed"] == 3 and picture.read_bytes()[:4] == b"\x89PNG"
    assert wav.name == "take.v1.wav" and read_audio(wav).loudness == pytest.approx(-18, abs=0.5)
    assert len(commented(wav.read_bytes(), "odd")) % 2 == 0


def test_a_loop_has_no_seam(trained):
    (take,) = generate(trained, seconds=4.1, takes=1, seed=2, loop=True)
    assert len(take.latents) % (trained.window // 2) == 0 and len(take.latents) == 80

    class Drifting(Toy):
        """Whose phase is another wherever decoding starts, as with Griffin-Lim."""

        def decode(self, latents):
            time = np.arange(len(latents) * 400) / 8000
            return Audio(np.sin(2 * np.pi * 313.7 * time)[:, None].astype(np.float32), 8000)

    codec = Drifting()
    count = 80 * 400
    cut = codec.decode(take.latents).samples[:, 0]
    looped = decode_loop(codec, take.latents).samples[:, 0]
    assert len(looped) == count
    usual = np.abs(np.diff(cut)).max()
    assert np.abs(cut[0] - cut[-1]) > 2 * usual  # cut off and repeated it clicks
    assert np.abs(looped[0] - looped[-1]) < 1.1 * usual
    assert np.abs(np.diff(looped)).max() < 1.3 * usual
    exact = decode_loop(TOY, take.latents).samples
    assert np.allclose(exact, TOY.decode(take.latents).samples, atol=1e-5)


def test_a_run_with_another_codec_or_broken_weights_is_refused(trained, recordings, tmp_path):
    with pytest.raises(RunError, match="this is toy-1-1"):
        open_run(trained.folder, codec=Toy(seed=1))
    with pytest.raises(RunError, match="not a run"):
        open_run(recordings)
    with pytest.raises(RunError, match="choose from: 4, 8, 12"):
        next(generate(open_run(trained.folder, codec=TOY), checkpoint=5, seconds=1))
    (tmp_path / "run.json").write_bytes((trained.folder / "run.json").read_bytes())
    (tmp_path / "generator.safetensors").write_bytes((trained.folder / "generator.safetensors").read_bytes()[:100])
    with pytest.raises(RunError, match="damaged"):
        next(generate(open_run(tmp_path, codec=TOY), seconds=1))


# --- judging -----------------------------------------------------------------------------------------------------


def test_the_nearest_learned_stretch_is_found():
    rng = np.random.default_rng(0)
    asked, learned = rng.standard_normal((7, 5, 3)), rng.standard_normal((40, 5, 3))
    asked[3] = learned[17] + 0.01
    far, which = nearest_learned(asked, learned, block=3)
    for at, one in enumerate(asked):
        naive = [1 - (one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum()) for other in learned]
        assert which[at] == int(np.argmin(naive)) and far[at] == pytest.approx(min(naive))
    assert which[3] == 17 and far[3] < 0.001
    soft, _ = nearest_learned(0.1 * asked, learned)
    assert soft == pytest.approx(far)


def test_a_run_is_judged_by_recordings_it_has_not_learned(trained, recordings, tmp_path):
    found = evaluate(trained, recordings, clips=3, seconds=3.5)
    facts = found.facts
    assert facts["recordings"] == 1
    assert facts["frechet"]["timbre"]["learned"] < facts["frechet"]["timbre"]["random"]
    assert facts["neighbours"]["median"]["held-out"] < facts["neighbours"]["median"]["random"]
    closest = facts["neighbours"]["closest"]
    assert {one["file"] for one in closest} <= {path.name for path in recordings.iterdir()}
    folder = save(found, tmp_path / "evaluations")
    page = (folder / "index.html").read_text()
    assert "held-out" in page and closest[0]["file"] in page and (folder / "clips/takes-1.wav").exists()
    assert json.loads((folder / "evaluation.json").read_text()) == facts
    learned = tmp_path / "learned"
    learned.mkdir()
    (learned / "a.wav").write_bytes((recordings / closest[0]["file"]).read_bytes())
    with pytest.raises(EmptyCorpus, match="learned from all 1"):
        evaluate(trained, learned, clips=2)


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


def test_the_commands(recordings, tmp_path, monkeypatch, capsys):
    from woodshed.cli import main

    for module in (training, runs):
        monkeypatch.setattr(module, "open_codec", lambda place: TOY)
    monkeypatch.setattr("woodshed.audio.gan.settings.LEARNING_RATES", {24: 1e-3})
    out = str(tmp_path / "run")
    more = [
        "--base-channels",
        "24",
        "--window",
        "16",
        "--batch-size",
        "2",
        "--max-steps",
        "2",
        "--save-steps",
        "2",
        "--threads",
        "1",
    ]
    main(["audio", "gan", "train", str(recordings), "--codec", "toy", "--out", out, *more])
    main(["audio", "gan", "generate", out, "--seconds", "2", "--takes", "1", "--seed", "4"])
    told = capsys.readouterr()
    assert "seed 4" in told.out and (tmp_path / "run/takes/001/run_seed4_take-1.wav").exists()
    assert "below 10" in told.err
