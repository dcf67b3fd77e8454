"""Training of adapters: what a step learns, that a run can stop anywhere and go on, what is published at its end."""
# ruff: noqa: F811

import errno
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ace_toys import base, dataset, guided_base, tensors, uncollected  # noqa: F401
from safetensors.torch import load_file

from woodshed.audio.ace import batches as batching
from woodshed.audio.ace import loop as looping
from woodshed.audio.ace import pipeline as pipelines
from woodshed.audio.ace import timesteps
from woodshed.audio.ace.batches import Batches, assemble, evaluation, split
from woodshed.audio.ace.loop import Loop, State, velocity_errors
from woodshed.audio.ace.pipeline import open_pipeline
from woodshed.audio.ace.run import KNOWN, Job, checkpoints, read_facts
from woodshed.audio.ace.settings import TrainSettings, resolve
from woodshed.audio.ace.takes import play
from woodshed.audio.ace.tensors import Tensors
from woodshed.audio.ace.train import train
from woodshed.audio.ace.tuning import OwnMask
from woodshed.cli import main
from woodshed.errors import FileError, InputError, MissingExtra, RunError
from woodshed.jobs import quiet
from woodshed.log import draw_loss, read_log

SMALL = {"rank": 4, "crop_seconds": 1.0, "gradient_checkpointing": False, "takes": 0, "threads": 1, "validation": 0.2}
SMALL |= {"learning_rate": 5e-3, "save_epochs": 5}


def settings(**changes) -> TrainSettings:
    return resolve(TrainSettings(**SMALL | changes), songs=5, turbo=True)


def losses(run) -> list[float]:
    return [line["loss"] for line in read_log(run / "log.jsonl") if "loss" in line]


def events(run) -> list[str]:
    return [line["event"] for line in read_log(run / "log.jsonl") if "event" in line]


@pytest.fixture(scope="module", autouse=True)
def in_a_hurry():
    """Three timesteps and crops of each song that is measured are enough here; and pictures take longer than a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batching, "EVALUATED", 3)
        patch.setattr(looping, "draw_loss", lambda log, picture, measure: None)
        yield


# --- timesteps ---------------------------------------------------------------------------------------------------


def test_timesteps_follow_their_laws():
    generator = torch.Generator().manual_seed(0)
    t = timesteps.corrected(20000, generator, mean=-0.4, deviation=1.0, uniform=0.0)
    logits = torch.log(t / (1 - t))
    assert abs(logits.mean() + 0.4) < 0.03 and abs(logits.std() - 1) < 0.03
    mixed = timesteps.corrected(20000, generator, mean=-0.4, deviation=1.0, uniform=0.1)
    often, mixed_often = ((each > 0.95).float().mean() for each in (t, mixed))
    assert often < 0.001 and 0.003 < mixed_often < 0.008
    eight = timesteps.turbo(4000, generator).unique()
    assert [round(float(t), 4) for t in eight] == [0.3, 0.5, 0.6429, 0.75, 0.8333, 0.9, 0.9545, 1.0]


def test_turbo_timesteps_are_those_that_the_pipeline_plays(base):
    played = open_pipeline(base, parts=())._get_timestep_schedule(8, 3.0, "cpu", torch.float32)
    torch.testing.assert_close(timesteps.TURBO, played)


def test_mixing():
    music, noise = torch.randn(3, 4, 2), torch.randn(3, 4, 2)
    mixed, velocity = timesteps.mix(music, noise, torch.tensor([0.0, 1.0, 0.25]))
    torch.testing.assert_close(mixed[0], music[0])
    torch.testing.assert_close(mixed[1], noise[1])
    torch.testing.assert_close(mixed[2] - 0.25 * velocity[2], music[2])  # a step down to t = 0 arrives at the music


# --- batches -----------------------------------------------------------------------------------------------------


def test_every_epoch_learns_every_song_once_in_another_order(tensors):
    batches = Batches(tensors, [0, 2, 3, 4], settings(), (-0.4, 1.0))
    epochs = [[batches._song(draw) for draw in range(first, first + 4)] for first in (0, 4, 8, 12)]
    assert all(sorted(epoch) == [0, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_a_batch_is_a_pure_function_of_its_number(tensors):
    make = lambda: Batches(tensors, [0, 1, 2], settings(batch_size=2, condition_dropout=0.5), (-0.4, 1.0))  # noqa: E731
    one, other = make(), make()
    forward, backward = [one[n] for n in range(4)], [other[n] for n in reversed(range(4))]
    for a, b in zip(forward, reversed(backward), strict=True):
        for name, value in vars(a).items():
            assert value is vars(b)[name] is None or torch.equal(value, vars(b)[name])
    assert not torch.equal(forward[0].noise, forward[1].noise)


def test_crops_are_stretches_of_the_song_at_other_places_each_time(tensors):
    batches = Batches(tensors, [2], settings(), (-0.4, 1.0))
    song, starts = tensors.latents(2), set()
    for number in range(20):
        crop = batches[number].music[0]
        assert crop.shape == (24, 8)  # a second, an even number of frames
        starts |= {start for start in range(52) if torch.equal(song[start : start + 24], crop)}
    assert len(starts) > 5
    whole = Batches(tensors, [2], settings(crop_seconds=0.0), (-0.4, 1.0))[0].music
    assert whole.shape == (1, 74, 8)


def test_the_condition_is_left_out_as_often_as_asked(tensors):
    batches = Batches(tensors, [0], settings(condition_dropout=0.3), (-0.4, 1.0))
    nothing = tensors.shared["null_condition"].expand_as(tensors.condition(0))
    share = sum(torch.equal(batches[number].condition[0], nothing) for number in range(200)) / 200
    assert 0.2 < share < 0.4


def test_a_batch_of_unequal_conditions_equals_its_samples_alone(base, tensors):
    transformer = open_pipeline(base, parts=("transformer",)).transformer
    generator, t = torch.Generator().manual_seed(0), torch.tensor([0.3, 0.8])
    together = assemble(tensors, [(0, 3, 20), (1, 0, 20)], t, generator)
    assert together.mask is not None
    mask = OwnMask(transformer)

    def errors(batch):
        mask(batch.mask)
        with torch.no_grad():
            return velocity_errors(transformer, batch)

    alone = []
    for index in (0, 1):
        keep = together.mask[index]
        parts = {name: value[index : index + 1] for name, value in vars(together).items()}
        single = replace(together, **parts | {"condition": parts["condition"][:, keep], "mask": None})
        alone.append(errors(single))
    torch.testing.assert_close(errors(together), torch.cat(alone))
    assert not torch.allclose(errors(replace(together, mask=None)), torch.cat(alone))


@pytest.mark.parametrize(
    ("limits", "songs", "steps"),
    [({"epochs": 1}, 49, 49), ({"epochs": 1, "max_steps": 1000}, 10, 10), ({"epochs": 9, "max_steps": 7}, 10, 7)],
)
def test_a_run_ends_at_the_limit_that_is_nearer(limits, songs, steps):
    assert Job(None, "", Path("run"), settings(**limits), print, list(range(songs)), []).steps == steps


def test_validation_songs_are_not_learned(tensors):
    learned, measured = split(tensors, settings())
    assert sorted(learned + measured) == [0, 1, 2, 3, 4] and len(measured) == 1
    assert split(tensors, settings()) == (learned, measured)
    assert split(tensors, settings(validation=0.0))[1] == []
    few = Tensors(tensors.folder, tensors.facts, tensors.samples[:3])
    assert split(few, settings()) == ([0, 1, 2], [])
    copies = [replace(sample, name=f"copy of {sample.name}") for sample in tensors.samples]
    formats = [replace(sample, name=f"{sample.name[:-4].upper()}.mp3", digest="", seconds=3.1) for sample in copies]
    more = Tensors(tensors.folder, tensors.facts, [*tensors.samples, *copies, *formats])
    for seed in range(5):
        learned, measured = split(more, settings(seed=seed))
        assert len(measured) == 3 and {song % 5 for song in learned}.isdisjoint({song % 5 for song in measured})
    masters = Tensors(tensors.folder, tensors.facts, [replace(sample, name="01.wav") for sample in tensors.samples])
    assert len(split(masters, settings())[1]) == 1
    alike = Tensors(tensors.folder, tensors.facts, [replace(sample, digest="one") for sample in tensors.samples])
    assert split(alike, settings()) == ([0, 1, 2, 3, 4], [])
    few = Tensors(tensors.folder, tensors.facts, tensors.samples[:3])
    assert split(few, settings()) == ([0, 1, 2], [])
    for a, b in zip(evaluation(tensors, 1, settings()), evaluation(tensors, 1, settings()), strict=True):
        assert torch.equal(a.noise, b.noise) and torch.equal(a.music, b.music) and a.t == b.t


# --- training ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["lora", "dora", "lokr"])
def trained_run(request, tensors, tmp_path_factory):
    out = tmp_path_factory.mktemp(request.param) / "run"
    rates = {"learning_rate": 2e-2 if request.param == "lokr" else 5e-3}
    return train(tensors, out, **SMALL | rates, kind=request.param, epochs=6)


def test_what_is_published_learned_something_and_opens_in_peft(trained_run, base, tensors):
    from peft import PeftModel

    facts = read_facts(trained_run)
    told = json.loads((checkpoints(trained_run)[24] / "state.json").read_text())["validation"]
    assert told[str(facts["best_step"])] == facts["validation"]
    assert facts["validation"]["loss"] < 0.8 * told["0"]["loss"]
    assert facts["validation"]["training_loss"] < 0.8 * told["0"]["training_loss"]
    pipe = open_pipeline(base, parts=("transformer",))
    pipe.transformer.requires_grad_(False)
    with quiet("diffusers", "transformers"):
        opened = PeftModel.from_pretrained(pipe.transformer, str(trained_run))
    chosen = resolve(TrainSettings(**SMALL), songs=5, turbo=True)
    batches = [batch for song in split(tensors, chosen)[1] for batch in evaluation(tensors, song, chosen)]
    with torch.no_grad():
        errors = [velocity_errors(opened.base_model.model.eval(), batch, torch.float32).item() for batch in batches]
    assert sum(errors) / len(errors) == pytest.approx(facts["validation"]["loss"], rel=1e-5)


def test_a_run_is_whole(trained_run):
    facts, config = read_facts(trained_run), json.loads((trained_run / "adapter_config.json").read_text())
    assert facts["finished"] and facts["step"] == 24 and facts["kind"] == trained_run.parent.name[:4]
    assert config["peft_type"] == ("LOKR" if facts["kind"] == "lokr" else "LORA") and config["r"] == 4
    assert "toy" in (trained_run / "README.md").read_text()
    steps = [line["step"] for line in read_log(trained_run / "log.jsonl") if "loss" in line]
    assert steps == list(range(1, 25))
    found = checkpoints(trained_run)
    assert [step for step, path in found.items() if (path / "optimizer.pt").exists()] == [max(found)] == [24]


def test_a_model_card_that_somebody_edited_stays(tensors, tmp_path):
    train(tensors, tmp_path / "run", **SMALL, epochs=1)
    card = tmp_path / "run" / "README.md"
    train(tensors, tmp_path / "run", resume=True, epochs=2)
    assert "of 8, by woodshed" in card.read_text()
    card.write_text("mine")
    train(tensors, tmp_path / "run", resume=True, epochs=3)
    assert card.read_text() == "mine"


OPTIMIZERS = ["adamw", "adafactor", "prodigy"]
ONE_IN_A_HURRY = ["adamw", *(pytest.param(name, marks=pytest.mark.slow) for name in OPTIMIZERS[1:])]


@pytest.mark.parametrize("optimizer", ONE_IN_A_HURRY)
def test_a_run_that_was_killed_goes_on_as_if_nothing_had_been(optimizer, tensors, tmp_path):
    asked = SMALL | {"optimizer": optimizer, "dropout": 0.3, "gradient_accumulation": 2, "epochs": 5, "save_epochs": 2}
    asked |= {"learning_rate": 1.0 if optimizer == "prodigy" else 5e-3}
    train(tensors, tmp_path / "whole", **asked)

    def kill(now):
        if now.step == 7 and not math.isnan(now.loss):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tensors, tmp_path / "killed", report=kill, **asked)
    assert max(checkpoints(tmp_path / "killed")) == 4
    train(tensors, tmp_path / "killed", resume=True)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole") and len(losses(tmp_path / "whole")) == 10
    one, other = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("killed", "whole"))
    assert all(torch.equal(one[name], other[name]) for name in one.keys() | other.keys())
    with pytest.raises(RunError, match="it has finished, at step 10"):
        train(tensors, tmp_path / "whole", resume=True)


def test_a_signal_ends_a_run_in_order(tensors, tmp_path):
    import os
    import signal

    def stop(now):
        if now.step == 3 and not math.isnan(now.loss):
            os.kill(os.getpid(), signal.SIGINT)

    train(tensors, tmp_path / "run", report=stop, **SMALL, epochs=5)
    facts = read_facts(tmp_path / "run")
    assert (facts["step"], facts["finished"], events(tmp_path / "run")) == (3, False, ["stopped"])
    assert (tmp_path / "run" / "adapter_model.safetensors").exists()
    train(tensors, tmp_path / "run", resume=True)
    assert read_facts(tmp_path / "run")["finished"] and len(losses(tmp_path / "run")) == 20


def test_a_loss_that_is_no_number_goes_back_to_the_last_checkpoint_at_half_the_rate(tensors, tmp_path, monkeypatch):
    real, broken = Loop.errors, []

    def errors(self, batch):
        bad = self.state.step == 5 and self.transformer.training and len(broken) < 2
        broken.extend([1] * bad)
        return real(self, batch) * (math.nan if bad else 1.0)

    monkeypatch.setattr(Loop, "errors", errors)
    out = tmp_path / "run"
    train(tensors, out, **SMALL | {"save_epochs": 1}, epochs=2, schedule="constant")
    assert events(out) == ["rollback", "rollback"]
    lines = [line for line in read_log(out / "log.jsonl") if "loss" in line]
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert [line["learning_rate"] for line in lines] == [5e-3] * 4 + [1.25e-3] * 4
    monkeypatch.setattr(Loop, "errors", lambda self, batch: real(self, batch) * math.nan)
    monkeypatch.setattr("woodshed.audio.ace.train.MAX_ROLLBACKS", 1)
    with pytest.raises(InputError, match=r"diverged 2 times: at step 1 the loss .* try --learning-rate"):
        train(tensors, tmp_path / "hopeless", **SMALL, epochs=2)


def test_a_full_disk_is_one_line_and_the_run_goes_on_later(tensors, tmp_path, monkeypatch):
    real, calls = looping.write_file, []

    def full(path, data):
        calls.append(path)
        if path.name == "optimizer.pt" and len(calls) > 2:
            raise FileError(path, "cannot be written: No space left on device")
        real(path, data)

    monkeypatch.setattr(looping, "write_file", full)
    out = tmp_path / "run"
    with pytest.raises(
        FileError, match=r"No space left on device; put that right, then go on from step 8 with --resume"
    ):
        train(tensors, out, **SMALL | {"save_epochs": 1}, epochs=4)
    assert sorted(path.name for path in out.glob("*checkpoint-*")) == ["checkpoint-000004", "checkpoint-000008"]
    monkeypatch.undo()
    train(tensors, out, resume=True)
    assert read_facts(out)["finished"]


def test_a_full_gpu_is_one_line_with_a_flag_that_helps(tensors, tmp_path, monkeypatch):
    def full(self, batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Loop, "errors", full)
    for checkpointing, told in ((True, "--crop-seconds$"), (False, "--resume --gradient-checkpointing True$")):
        with pytest.raises(InputError, match=f"out of GPU memory with crops this long; .*{told}"):
            train(tensors, tmp_path / str(checkpointing), **SMALL | {"gradient_checkpointing": checkpointing}, epochs=1)


def test_a_save_that_was_interrupted_is_no_checkpoint(tensors, tmp_path):
    out = tmp_path / "run"
    train(tensors, out, **SMALL | {"save_epochs": 1}, epochs=2)
    whole = losses(out)
    shutil.copytree(out / "checkpoint-000008", out / "checkpoint-000009")
    (out / "checkpoint-000009" / "state.json").unlink()
    (out / ".checkpoint-000010.tmp").mkdir()
    train(tensors, out, resume=True, epochs=3)
    assert losses(out)[:8] == whole and len(losses(out)) == 12
    assert not (out / ".checkpoint-000010.tmp").exists() and 9 not in checkpoints(out)


def test_a_checkpoint_that_cannot_be_read_is_named_with_what_helps(tmp_path, monkeypatch):
    (place := tmp_path / "checkpoint-000004").mkdir()
    job, optimizer = SimpleNamespace(facts={}, say=pytest.fail), torch.optim.SGD([torch.zeros(1)])
    loop = SimpleNamespace(out=tmp_path, job=job, transformer=None, optimizer=optimizer, device="cpu")
    (place / "state.json").write_text('{"step": 4, "other": 1}')
    (place / "adapter_model.safetensors").write_bytes(b"short")
    broken = [
        lambda: None,
        (place / "optimizer.pt").touch,
        lambda: torch.save(optimizer.state_dict(), place / "optimizer.pt"),
    ]
    told = r"checkpoint-000004: cannot be read: .+; copy it again, or choose another --out"
    with pytest.raises(RunError, match=told):
        Loop._restored(loop)
    monkeypatch.setattr(looping, "load_adapter", lambda *_: None)
    for damage in broken:  # the optimizer is gone, it is empty, and the state is that of another version
        damage()
        with pytest.raises(RunError, match=told):
            Loop._restored(loop)
    (place / "state.json").write_text('{"step": 4}')
    assert Loop._restored(loop).step == 4


def test_checkpoints_go_without_what_is_behind_links_and_never_end_a_training(tmp_path, monkeypatch):
    (elsewhere := tmp_path / "elsewhere").mkdir()
    (elsewhere / "optimizer.pt").touch()
    (out := tmp_path / "run").mkdir()
    (out / "checkpoint-000009").symlink_to(elsewhere)
    for name in (".checkpoint-mine", ".checkpoint-000010.tmp", "checkpoint-000004", "checkpoint-000008"):
        (out / name).mkdir()
    said = []
    loop = SimpleNamespace(out=out, job=SimpleNamespace(facts={}, say=said.append), state=State(step=8))
    loop.settings = SimpleNamespace(keep_checkpoints=1)
    assert Loop._restored(loop) == State()
    assert [path.name for path in out.iterdir()] == [".checkpoint-mine"] and (elsewhere / "optimizer.pt").exists()
    for step in (4, 8):
        (out / f"checkpoint-{step:06d}").mkdir()
        (out / f"checkpoint-{step:06d}" / "state.json").touch()
    (elsewhere / "state.json").touch()
    (out / "checkpoint-000006").symlink_to(elsewhere)
    loop.state.best_step = 6

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("shutil.rmtree", refuse)
    Loop._prune(loop)
    assert len(said) == 1 and "checkpoint-000004 cannot be removed: Permission denied" in said[0]
    assert set(checkpoints(out)) == {6, 8} and (elsewhere / "optimizer.pt").exists()


def test_what_would_be_another_run_is_refused(base, guided_base, tensors, dataset, tmp_path):
    out = tmp_path / "run"
    train(tensors, out, **SMALL, epochs=1)
    with pytest.raises(InputError, match="holds a run already; add --resume"):
        train(tensors, out, **SMALL)
    with pytest.raises(RunError, match="--rank was 4, now it is 8: that would be another run"):
        train(tensors, out, resume=True, rank=8, epochs=2)
    with pytest.raises(RunError, match="made with another base"):
        train(tensors, tmp_path / "other", base=guided_base, **SMALL)
    mixed = tmp_path / "mixed"  # the encoders of one base, the transformer of another
    shutil.copytree(base, mixed)
    shutil.rmtree(mixed / "transformer")
    shutil.copytree(guided_base / "transformer", mixed / "transformer")
    with pytest.raises(RunError, match=r"it was trained over .* this base is"):
        train(tensors, out, base=mixed, resume=True, epochs=2)
    fewer = tmp_path / "fewer"
    shutil.copytree(tensors.folder, fewer)
    facts = json.loads((fewer / "manifest.json").read_text())
    facts |= {"samples": facts["samples"][:4], "base": str(base)}
    (fewer / "manifest.json").write_text(json.dumps(facts))
    with pytest.raises(RunError, match="other tensors"):
        train(fewer, out, resume=True, epochs=2)
    with pytest.raises(RunError, match="no run"):
        train(tensors, tmp_path / "nothing", resume=True)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "run.json").write_text('{"settings": {}}')
    with pytest.raises(RunError, match="no run of an adapter"):
        train(tensors, foreign, resume=True)
    with pytest.raises(RunError, match="no tensors"):
        train(tmp_path, tmp_path / "x", **SMALL)
    (fewer / facts["samples"][0]["file"]).write_bytes(b"short")
    with pytest.raises(FileError, match="damaged"):
        train(fewer, tmp_path / "x", **SMALL)


def test_a_start_that_failed_is_no_run(tensors, tmp_path, monkeypatch):
    def broken(self, job):
        raise MissingExtra("bitsandbytes", "qlora")

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "__init__", broken)
        with pytest.raises(MissingExtra):
            train(tensors, tmp_path / "run", **SMALL, epochs=1)
    (tmp_path / "run" / ".DS_Store").touch()
    train(tensors, tmp_path / "run", **SMALL | {"rank": 2}, epochs=1)  # nothing was learned, so begin as you like
    assert json.loads((tmp_path / "run" / "run.json").read_text())["finished"]


def test_a_folder_that_holds_something_else_stays_as_it_is(tensors, tmp_path):
    for name, facts, others in (("gan", {"codec": {}}, ()), ("begun", dict.fromkeys(KNOWN, ""), ("log.jsonl",))):
        folder = tmp_path / name
        folder.mkdir()
        for file in ("run.json", *others):
            (folder / file).write_text(json.dumps(facts))
        with pytest.raises(InputError, match="holds a run already; add --resume"):
            train(tensors, folder, **SMALL)
        assert json.loads((folder / "run.json").read_text()) == facts


def test_a_new_rate_is_not_halved_by_what_broke_before(tensors, tmp_path):
    out = tmp_path / "run"
    train(tensors, out, **SMALL | {"save_epochs": 1}, epochs=1, schedule="constant")
    for file in (out / "run.json", *out.glob("checkpoint-*/state.json")):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"rollbacks": 3}))
    train(tensors, out, resume=True, epochs=2, learning_rate=1e-3)
    assert [line["learning_rate"] for line in read_log(out / "log.jsonl") if "loss" in line][-1] == 1e-3


def test_takes_are_what_the_pipeline_plays(base, guided_base, tensors, monkeypatch):
    """Without encoders in memory, from the stored condition: the same sound."""
    monkeypatch.setitem(pipelines.OTHERS, "steps", 10)
    for place in (base, guided_base):
        pipe = open_pipeline(place)
        if place == guided_base:  # its own encoders would say something else than the tensors, and it takes guidance
            pipe.condition_encoder = open_pipeline(base).condition_encoder
            pipe.text_encoder = open_pipeline(base).text_encoder
        facts = tensors.samples[1].facts
        audio = play(pipe.transformer, pipe.vae, pipe.scheduler, tensors, song=1, seconds=3.0, seed=7)
        turbo = place == base
        played = pipe(
            prompt=facts["caption"],
            lyrics=facts["lyrics"],
            vocal_language=facts["language"],
            bpm=facts["bpm"],
            keyscale=facts["keyscale"],
            timesignature=facts["timesignature"],
            audio_duration=3.0,
            generator=torch.Generator().manual_seed(7),
            **({"num_inference_steps": 8, "shift": 3.0} if turbo else {"num_inference_steps": 10, "shift": 1.0}),
            guidance_scale=1.0 if turbo else 7.0,
        ).audios
        torch.testing.assert_close(torch.from_numpy(audio.samples.T.copy()), played[0], atol=1e-4, rtol=1e-3)


def test_takes_are_rendered_on_the_way_and_change_no_loss(tensors, tmp_path):
    asked = SMALL | {"epochs": 2, "save_epochs": 1}
    train(tensors, tmp_path / "without", **asked)
    train(tensors, tmp_path / "with", **asked | {"takes": 2, "take_seconds": 1.0})
    assert losses(tmp_path / "with") == losses(tmp_path / "without")
    sounds = sorted((tmp_path / "with" / "takes").rglob("*.wav"))
    assert [str(path.relative_to(tmp_path / "with" / "takes")) for path in sounds] == [
        f"step-00000{step}/{number}.wav" for step in (4, 8) for number in (1, 2)
    ]
    one, other = (json.loads((path.with_suffix(".json")).read_text()) for path in sounds[::2])
    assert one["seed"] == other["seed"] and sounds[0].read_bytes() != sounds[2].read_bytes()


# --- the commands --------------------------------------------------------------------------------------------------


def test_the_commands(tensors, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(looping, "draw_loss", draw_loss)
    folder, ranks, run = str(tensors.folder), str(tmp_path / "ranks.json"), str(tmp_path / "run")
    main(["audio", "ace", "estimate", folder, "--out", ranks, "--rank", "4", "--batches", "2", "--crop-seconds", "1"])
    assert "of 22 modules, measured on 2 crops" in capsys.readouterr().out
    flags = ["--memory", "8", "--optimizer", "adamw", "--rank", "4", "--epochs", "1", "--takes", "0"]
    main(["audio", "ace", "train", folder, "--out", run, *flags])
    told = capsys.readouterr()
    assert "Trainable parameters" in told.err and "GB of memory: weights" in told.err
    assert read_facts(tmp_path / "run")["finished"]
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(SystemExit):
        main(["audio", "ace", "train", folder, "--out", run, *flags])
    assert "add --resume" in capsys.readouterr().err
