"""Tensors of a dataset: what the pipeline itself would hear and read, made once, whole or not at all."""
# ruff: noqa: F811

import dataclasses
import errno
import inspect
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from ace_toys import base, dataset, guided_base, make_dataset, make_pipeline, tensors, uncollected  # noqa: F401
from safetensors.torch import save_file
from sounds import silence, song, tone

from woodshed.audio.ace import pipeline
from woodshed.audio.ace import prepare as preparing
from woodshed.audio.ace.pipeline import ENCODERS, fingerprint, open_pipeline
from woodshed.audio.ace.prepare import prepare
from woodshed.audio.ace.tensors import open_tensors, opened_for, shapes
from woodshed.audio.labels.dataset import load_dataset
from woodshed.audio.wave import read_audio, write_audio
from woodshed.cli import main
from woodshed.errors import EmptyCorpus, FileError, InputError, RunError


def heard_by_the_transformer(base, facts, seconds):
    """What the pipeline gives its transformer when it plays a prompt."""
    pipe, heard = open_pipeline(base), {}

    def listen(module, args, kwargs):
        heard.update(kwargs)

    pipe.transformer.register_forward_pre_hook(listen, with_kwargs=True)
    told = {name: facts[name] for name in ("lyrics", "bpm", "keyscale", "timesignature")}
    told |= {"prompt": facts["caption"], "vocal_language": facts["language"]}
    pipe(**told, audio_duration=seconds, num_inference_steps=1, guidance_scale=1.0, output_type="latent")
    return heard


def test_conditions_and_context_are_those_of_playing(base, tensors):
    for index in (0, 1):
        sample = tensors.samples[index]
        heard = heard_by_the_transformer(base, sample.facts, sample.seconds)
        torch.testing.assert_close(tensors.condition(index)[None], heard["encoder_hidden_states"])
        torch.testing.assert_close(tensors.context(sample.frames)[None], heard["context_latents"])
    assert tensors.samples[0].tokens < tensors.samples[1].tokens  # the second one is sung
    assert tensors.samples[1].facts["caption"] == "mystyle, plucked strings 1"


def test_latents_are_those_of_the_codec(base, tensors, dataset):
    pipe = open_pipeline(base, parts=("vae",))
    audio = read_audio(dataset.parent / "song 2.wav", sample_rate=pipe.sample_rate, channels=2)
    with torch.no_grad():
        told = pipe.vae.encode(torch.from_numpy(audio.samples.T[None].copy())).latent_dist
    latents = tensors.latents(2)
    assert latents.shape == (75, 8) and tensors.samples[2].frames == 75 and tensors.samples[2].seconds == 3.0
    distance = ((latents - told.mean[0].T) / told.std[0].T).std()
    assert 0.9 < distance < 1.1  # drawn from the codec's own distribution
    torch.testing.assert_close(tensors.latents(2, 10, 20), latents[10:30])


def test_silence_is_what_the_codec_makes_of_it_at_any_length(tensors):
    silence_latent = tensors.shared["silence_latent"]
    long = tensors.context(len(silence_latent) + 7)
    torch.testing.assert_close(long[-7:, :8], silence_latent[:7])
    assert (long[:, 8:] == 1).all()


def test_what_was_made_once_is_kept(base, tmp_path, monkeypatch, capsys):
    """And codec and condition encoder are never in memory together."""
    data, pipes, real = make_dataset(tmp_path / "songs", 3), [], preparing.open_pipeline

    def watched(*args, **more):
        assert all(getattr(pipe, part) is None for pipe in pipes for part in (*ENCODERS, "transformer"))
        pipes.append(real(*args, **more))
        return pipes[-1]

    monkeypatch.setattr(preparing, "open_pipeline", watched)
    main(["audio", "ace", "prepare", str(data), "--base", str(base), "--out", str(tmp_path / "tensors")])
    assert "3 samples, 0.1 minutes" in capsys.readouterr().out
    assert len(pipes) == 2
    first = open_tensors(tmp_path / "tensors")
    assert all({*shapes(first.folder / sample.file)} == {"latents", "condition"} for sample in first.samples)
    again = prepare(data, base, tmp_path / "tensors")
    assert len(pipes) == 2 and again.samples == first.samples
    loaded = load_dataset(data)
    loaded.samples[1].caption = "a new caption"
    changed = prepare(loaded, base, tmp_path / "tensors")
    assert len(pipes) == 4
    assert [a == b for a, b in zip(changed.samples, first.samples, strict=True)] == [True, False, True]


def test_it_goes_on_where_it_was_interrupted(base, dataset, tensors, tmp_path, monkeypatch):
    calls = []
    for step, done in (("_first_pass", 2), ("_second_pass", 1)):
        real = getattr(preparing, step)

        def interrupted(*args, step=step, done=done, real=real):
            calls.append(step)
            if calls.count(step) == done + 1:
                raise KeyboardInterrupt
            return real(*args)

        monkeypatch.setattr(preparing, step, interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare(dataset, base, tmp_path / "tensors")
    again = prepare(dataset, base, tmp_path / "tensors")
    assert (calls.count("_first_pass"), calls.count("_second_pass")) == (5 + 1, 5 + 1)
    assert again.samples == tensors.samples
    for sample in again.samples:
        assert (again.folder / sample.file).read_bytes() == (tensors.folder / sample.file).read_bytes()
    assert {path.name for path in again.folder.iterdir()} == {path.name for path in tensors.folder.iterdir()}


def test_a_file_cut_short_is_named_and_made_again(base, dataset, tensors, tmp_path):
    folder = tmp_path / "tensors"
    shutil.copytree(tensors.folder, folder)
    hurt = folder / tensors.samples[3].file
    whole = hurt.read_bytes()
    for size in (0, 5, 60, len(whole) - 1):
        hurt.write_bytes(whole[:size])
        with pytest.raises(FileError, match=f"{hurt.name}: damaged.*prepare again"):
            open_tensors(folder)
    prepare(dataset, base, folder)
    assert hurt.read_bytes() == whole
    hurt.unlink()
    with pytest.raises(FileError, match="it is gone"):
        open_tensors(folder)
    (folder / "base.safetensors").write_bytes(whole)
    with pytest.raises(FileError):
        open_tensors(folder)


def test_what_cannot_be_read_is_left_out_with_its_reason(base, tmp_path):
    data = make_dataset(tmp_path / "songs", 6, seconds=1.5)
    folder = data.parent
    (folder / "song 0.wav").unlink()
    (folder / "song 1.wav").write_bytes(b"RIFF")
    write_audio(folder / "song 2.wav", tone(0.3))
    write_audio(folder / "song 3.wav", silence(0))
    loaded = load_dataset(data)
    loaded.samples[4].labeled, loaded.samples[4].caption = False, ""
    loaded.samples[5].labeled = False  # a caption that was written by hand is a label
    loaded.samples.append(loaded.samples[5])
    tensors = prepare(loaded, base, tmp_path / "tensors")
    assert [sample.name for sample in tensors.samples] == ["song 5.wav"]
    reasons = [entry["reason"] for entry in tensors.facts["skipped"]]
    assert len(reasons) == 6
    for words in (
        "No such file",
        "cannot be read as sound",
        "shorter than 1 second",
        "no sound",
        "not labelled",
        "same",
    ):
        assert sum(words in reason for reason in reasons) == 1, words
    for sample in loaded.samples:
        sample.labeled, sample.caption = False, ""
    with pytest.raises(EmptyCorpus, match="not labelled"):  # before anything of the base is loaded
        prepare(loaded, base, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_lyrics_are_learned_whatever_else_the_file_says(base, tmp_path):
    data = make_dataset(tmp_path / "songs", 2)
    loaded = load_dataset(data)
    for sample, lyrics in zip(loaded.samples, ("la la la", ""), strict=True):  # as edited by hand
        sample.lyrics, sample.is_instrumental = lyrics, True
    loaded.save(data)
    prepared = prepare(data, base, tmp_path / "tensors")
    assert [sample.facts["lyrics"] for sample in prepared.samples] == ["la la la", "[Instrumental]"]


def test_lyrics_are_learned_as_they_were_corrected(base, tmp_path):
    data = make_dataset(tmp_path / "songs", 2)
    loaded = load_dataset(data)
    for sample, lyrics in zip(loaded.samples, ("la lee", ""), strict=True):
        sample.lyrics, sample.formatted_lyrics = lyrics, "[Verse]\nla la"
    prepared = prepare(loaded, base, tmp_path / "tensors")
    assert [sample.facts["lyrics"] for sample in prepared.samples] == ["la lee", "[Verse]\nla la"]


def test_singing_without_lyrics_is_not_called_instrumental(base, tmp_path):
    data = make_dataset(tmp_path / "songs", 3)
    loaded = load_dataset(data)
    for sample in loaded.samples:
        sample.lyrics, sample.is_instrumental = "[Instrumental]", sample is loaded.samples[0]
    loaded.samples[2].extra["woodshed"] = {"lyrics": {"value": "[Instrumental]", "by": "whisper"}}
    prepared = prepare(loaded, base, tmp_path / "tensors")
    assert [sample.facts["lyrics"] for sample in prepared.samples] == ["[Instrumental]", "", "[Instrumental]"]
    assert ["without lyrics" in sample.remark for sample in prepared.samples] == [False, True, False]


def test_lyrics_that_are_too_long_are_said_to_be_cut(base, tmp_path, capsys, monkeypatch):
    data = make_dataset(tmp_path / "songs", 2)
    loaded = load_dataset(data)
    loaded.samples[1].lyrics = "la la " * 2000 + "the end"
    loaded.save(data)
    line = (
        r"song 1.wav: lyrics of 1\d,\d{3} tokens, of which ACE-Step reads the first 2,048, up to "
        r'"[.]{3}[al ]{35,40}"; shorten them, or cut the song in two\n'
    )
    real = preparing._second_pass

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(preparing, "_second_pass", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare(data, base, tmp_path / "tensors")
    monkeypatch.setattr(preparing, "_second_pass", real)
    for _ in range(2):  # what was made before the interruption, and all of it
        main(["audio", "ace", "prepare", str(data), "--base", str(base), "--out", str(tmp_path / "tensors")])
        told = capsys.readouterr().out
        assert re.search(line, told) and told.count("tokens") == 1
    tensors = open_tensors(tmp_path / "tensors")
    assert [bool(sample.remark) for sample in tensors.samples] == [False, True]
    assert 2048 < tensors.samples[1].tokens < 2048 + 300  # the lyrics, one of silence, the prompt
    pipe = open_pipeline(base, parts=("tokenizer",))
    limits = inspect.signature(pipe.encode_prompt).parameters
    assert [limits[f"max_{name}_length"].default for name in ("text", "lyric")] == [*pipeline.MOST_TOKENS.values()]
    words = {"lyrics": "", "audio_duration": 3.0}
    assert not pipeline.too_long(pipe, words | {"prompt": "a waltz"})
    assert "prompt of 1," in pipeline.too_long(pipe, words | {"prompt": "a waltz " * 200})[0]


def test_mono_other_rates_and_length_and_the_genre_ratio(base, tmp_path):
    data = make_dataset(tmp_path / "songs", 3, genre_ratio=100, tag_position="append")
    write_audio(data.parent / "song 0.wav", song(0, seconds=2.01, sample_rate=44100, channels=1))
    loaded = load_dataset(data)
    loaded.samples[2].prompt_override = "caption"
    tensors = prepare(loaded, base, tmp_path / "tensors", max_seconds=2.5)
    assert [sample.frames for sample in tensors.samples] == [51, 63, 63]  # 25 a second, rounded up
    captions = [sample.facts["caption"] for sample in tensors.samples]
    assert captions == ["folk, mystyle", "folk, mystyle", "plucked strings 2, mystyle"]


def test_loudness_makes_soft_and_loud_alike(base, tmp_path):
    data = make_dataset(tmp_path / "songs", 2)
    loud = song(0, seconds=3)
    write_audio(data.parent / "song 0.wav", loud)
    write_audio(data.parent / "song 1.wav", type(loud)(loud.samples * np.float32(0.25), loud.sample_rate))
    tensors = prepare(data, base, tmp_path / "tensors", loudness=-14.0)
    one, other = (tensors.latents(index) for index in (0, 1))
    assert (one - other).square().mean() < 0.01 * one.var()


def test_another_base_is_another_folder(base, guided_base, dataset, tensors):
    assert fingerprint(base) != fingerprint(guided_base)
    with pytest.raises(RunError, match="another base"):
        prepare(dataset, guided_base, tensors.folder)
    with pytest.raises(RunError, match="made with another base"):
        opened_for(tensors.folder, guided_base)
    assert opened_for(tensors, base) == (tensors, base)
    facts = tensors.facts | {"base": "../gone"}
    with pytest.raises(
        InputError, match=re.escape(f"--base {tensors.folder.parent / 'gone'}: there is no such folder")
    ):
        opened_for(dataclasses.replace(tensors, facts=facts), None)


def test_an_interrupted_start_with_another_base_leaves_nothing_of_it(base, guided_base, dataset, tensors, tmp_path):
    folder = tmp_path / "tensors"
    shutil.copytree(tensors.folder, folder)
    (folder / "manifest.json").unlink()
    prepared = prepare(dataset, guided_base, folder).shared["null_condition"]
    assert not torch.equal(prepared, tensors.shared["null_condition"])


def test_the_fingerprint_is_of_values_and_not_of_files(base, tmp_path):
    again = make_pipeline(tmp_path / "again")
    assert fingerprint(again) == fingerprint(base)
    weights = again / "transformer" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 0x40
    weights.write_bytes(data)
    assert fingerprint(again) != fingerprint(base)
    weights.write_bytes(data[:-1])
    with pytest.raises(FileError, match="it is cut short"):
        fingerprint(again)
    with pytest.raises(RunError, match="its parts cannot be loaded"):
        open_pipeline(again, parts=("transformer",))
    encoder = again / "text_encoder" / "model.safetensors"
    encoder.write_bytes(encoder.read_bytes()[:-1])
    with pytest.raises(RunError, match="its parts cannot be loaded"):
        open_pipeline(again, parts=("text_encoder",))
    weights.write_bytes(data[:100])
    with pytest.raises(FileError, match="cannot be read as safetensors"):
        fingerprint(again)


def test_a_base_that_is_none(base, dataset, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        prepare(dataset, tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(InputError, match="no model_index"):
        prepare(dataset, dataset.parent, tmp_path / "out")
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "StableAudioPipeline"}))
    with pytest.raises(InputError, match="it is a StableAudioPipeline"):
        prepare(dataset, tmp_path, tmp_path / "out")
    torn = tmp_path / "torn"
    shutil.copytree(base, torn)
    (torn / "vae" / "config.json").write_text("{")
    with pytest.raises(RunError, match="cannot be loaded"):
        prepare(dataset, torn, tmp_path / "out")


def test_values_that_cannot_work(base, dataset, tmp_path):
    with pytest.raises(InputError, match="--max-seconds 0"):
        prepare(dataset, base, tmp_path / "out", max_seconds=0)
    with pytest.raises(InputError, match="--seed -1"):
        prepare(dataset, base, tmp_path / "out", seed=-1)
    with pytest.raises(InputError, match="--device tpu: choose from auto, cpu"):
        prepare(dataset, base, tmp_path / "out", device="tpu")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        prepare(dataset, base, tmp_path / "full")
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["my-lora.safetensors", "0123456789abcdef.v2.safetensors", "base.safetensors"])
def test_tensors_of_somebody_else_are_left_alone(base, dataset, tmp_path, name):
    """A folder of LoRAs, or of a base's own weights, has files that end like ours."""
    save_file({"weight": torch.ones(1)}, mine := tmp_path / name)
    before = mine.read_bytes()
    with pytest.raises(InputError, match="is not empty; choose another folder"):
        prepare(dataset, base, tmp_path)
    assert mine.read_bytes() == before and list(tmp_path.iterdir()) == [mine]


def test_hidden_files_do_not_fill_a_folder(base, dataset, tmp_path):
    (tmp_path / "out").mkdir()
    for name in (".DS_Store", ".0123456789ab.tmp"):
        (tmp_path / "out" / name).touch()
    assert len(prepare(dataset, base, tmp_path / "out")) == 5


def test_a_full_gpu_is_one_line(base, dataset, tmp_path, monkeypatch):
    def full(*args, **more):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(preparing, "encode_audio", full)
    with pytest.raises(InputError, match="out of GPU memory with recordings this long; give fewer --max-seconds"):
        prepare(dataset, base, tmp_path / "out")
    monkeypatch.setattr("diffusers.AceStepPipeline.to", full)
    with pytest.raises(InputError, match="out of GPU memory for the weights of the base"):
        open_pipeline(base)


def test_a_full_disk_is_one_line_and_leaves_no_half_file(base, dataset, tmp_path, monkeypatch):
    def full(path, data):
        path.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(FileError, match=r"cannot be written: No space left on device$"):
        prepare(dataset, base, tmp_path / "tensors")
    assert not any(tmp_path.iterdir())
