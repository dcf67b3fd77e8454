"""The latent GAN plays, and is judged by recordings it has not learned from."""
# ruff: noqa: F811

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from gan_toys import TINY, TOY, Toy, recordings, trained, without_pictures  # noqa: F401
from sounds import song

from woodshed.audio.gan import copying
from woodshed.audio.gan.evaluate import evaluate
from woodshed.audio.gan.evaluate_page import save
from woodshed.audio.gan.generate import decode_loop, generate, save_take
from woodshed.audio.gan.latents import Latents, Recording, read_manifest
from woodshed.audio.gan.run import open_run
from woodshed.audio.gan.settings import EvaluateSettings, GenerateSettings
from woodshed.audio.gan.train import train
from woodshed.audio.wave import Audio, read_audio, write_audio
from woodshed.cli import main
from woodshed.errors import EmptyCorpus, InputError, RunError

# --- playing -----------------------------------------------------------------------------------------------------


def test_takes_are_functions_of_their_seeds_and_as_long_as_asked(trained):
    takes = list(generate(trained, seconds=3.14, takes=3, seed=5))
    assert [take.facts["seed"] for take in takes] == [5, 6, 7]
    assert all(len(take.audio.samples) == round(3.14 * 8000) for take in takes)
    (alone,) = generate(trained, seconds=3.14, takes=1, seed=6)
    assert np.array_equal(alone.audio.samples, takes[1].audio.samples)
    assert not np.array_equal(takes[0].latents, takes[1].latents)
    assert alone.facts["weights"] == takes[1].facts["weights"]
    (earlier,) = generate(trained, seconds=3.14, takes=1, seed=6, checkpoint=4)
    assert earlier.facts["weights"] != alone.facts["weights"]
    with pytest.raises(InputError, match="--seed -1: give 0"):
        EvaluateSettings(seed=-1)
    for wrong, told in (
        ({"seconds": 0}, "--seconds"),
        ({"truncation": 9}, "--truncation"),
        ({"style_seed": -1}, "--style"),
        ({"form": "A-B"}, "--form 'A-B': give a letter for each section"),
        ({"form": ""}, "--form ''"),
    ):
        with pytest.raises(InputError, match=told):
            GenerateSettings(**wrong)


def test_a_take_stores_its_seed_in_the_file_and_beside_it(trained, tmp_path):
    (take,) = generate(trained, seconds=2.0, takes=1, seed=11, style_seed=3)
    wav, told, picture = save_take(replace(take, facts=take.facts | {"run": "run.v1"}), tmp_path, 2)
    with soundfile.SoundFile(wav) as file:
        assert json.loads(file.comment)["seed"] == 11 and file.frames == 16000
    assert json.loads(told.read_text())["style_seed"] == 3 and picture.read_bytes()[:4] == b"\x89PNG"
    assert wav.name == "run.v1_seed11_take-2.wav" and read_audio(wav).loudness == pytest.approx(-18, abs=0.5)


def test_a_take_of_silence_is_told_in_json_that_any_program_reads(trained, tmp_path):
    class Silent(Toy):
        def decode(self, latents):
            return Audio(np.zeros((len(latents) * 400, 1), np.float32), 8000)

    (take,) = generate(replace(trained, codec=Silent()), seconds=1.0, takes=1, seed=1)
    told = save_take(take, tmp_path, 1)[1].read_text()
    assert json.loads(told, parse_constant=pytest.fail)["loudness_before_levelling"] is None


@pytest.mark.parametrize("loop", [False, True])
def test_a_form_has_sections_of_whole_halves(trained, loop):
    half = trained.window // 2
    for seconds, length in ((0.1, 2), (4.0, 3), (7.77, 6)):  # halves of .4 s
        (take,) = generate(trained, seconds=seconds, takes=1, seed=4, form="ABA", loop=loop)
        assert len(take.latents) == 3 * length * half and len(take.audio.samples) == 400 * len(take.latents)
    part = take.latents[: 5 * half]
    across = [np.corrcoef(part.ravel(), take.latents[k * half :][: 5 * half].ravel())[0, 1] for k in (6, 12)]
    assert across[1] > across[0] and take.facts["form"] == "ABA"


def test_a_loop_has_two_halves_at_least(trained):
    (take,) = generate(trained, seconds=0.1, takes=1, seed=2, loop=True)
    assert len(take.latents) == trained.window


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
    facts = json.loads((tmp_path / "run.json").read_text())
    for place in ("../gone", str(tmp_path.parent / "gone")):
        (tmp_path / "run.json").write_text(json.dumps(facts | {"codec": facts["codec"] | {"place": place}}))
        with pytest.raises(RunError, match=f"its codec is not at {tmp_path.parent / 'gone'}; put it back there"):
            open_run(tmp_path)


# --- judging -----------------------------------------------------------------------------------------------------


def several(*lengths, mirror=False):
    rng = np.random.default_rng(1)
    recordings = tuple(Recording(f"{number}.wav", frames=count) for number, count in enumerate(lengths))
    data = rng.standard_normal((2, sum(lengths), 3)).astype(np.float32)
    return Latents(recordings, data[0], data[1] if mirror else None)


@pytest.mark.parametrize("mirror", [False, True])
def test_the_nearest_learned_stretch_is_found_wherever_it_begins(monkeypatch, mirror):
    monkeypatch.setattr(copying, "BLOCK", 7)
    known, size = several(40, 3, 25, mirror=mirror), 5
    asked = np.random.default_rng(0).standard_normal((9, size, 3))
    asked[3] = known.data[17:22] + 0.001
    asked[4] = (known.mirrored if mirror else known.data)[63:68]  # the last there is
    far, frames = copying.nearest_learned(asked, known)
    starts = [*range(36), *range(43, 64)]  # none goes from one recording into the next
    sides = [known.data, known.mirrored] if mirror else [known.data]
    learned = [(start, data[start : start + size]) for data in sides for start in starts]
    for at, one in enumerate(asked):
        norms = [np.linalg.norm(one) * np.linalg.norm(other) for _, other in learned]
        naive = [1 - (one * other).sum() / norm for (_, other), norm in zip(learned, norms, strict=True)]
        assert frames[at] == learned[int(np.argmin(naive))][0] and far[at] == pytest.approx(min(naive), abs=1e-5)
    assert frames[3] == 17 and far[3] < 0.001
    assert frames[4] == 63 and far[4] == pytest.approx(0, abs=1e-6)
    assert copying.nearest_learned(0.1 * asked, known)[0] == pytest.approx(far, abs=1e-6)


def test_a_run_is_judged_by_recordings_it_has_not_learned(trained, recordings, tmp_path):
    found = evaluate(trained, recordings, clips=3, seconds=3.5)
    facts = found.facts
    assert facts["recordings"] == 1
    assert facts["frechet"]["timbre"]["learned"] < facts["frechet"]["timbre"]["random"]
    assert facts["neighbours"]["median"]["held-out"] < facts["neighbours"]["median"]["random"]
    assert facts["repetition"]["seconds"] == pytest.approx(8 / 20)
    assert all(-1 <= facts["repetition"][kind] <= 1 for kind in ("held-out", "learned", "takes"))
    closest = facts["neighbours"]["closest"]
    assert {one["file"] for one in closest} <= {path.name for path in recordings.iterdir()}
    folder = save(found, tmp_path / "evaluations")
    page = (folder / "index.html").read_text()
    assert "held-out" in page and closest[0]["file"] in page and (folder / "clips/takes-1.wav").exists()
    assert json.loads((folder / "evaluation.json").read_text()) == facts
    odd = save(replace(found, facts=facts | {"minutes": np.nan}), tmp_path / "evaluations")
    assert json.loads((odd / "evaluation.json").read_text())["minutes"] is None
    learned = tmp_path / "learned"
    learned.mkdir()
    (learned / "a.wav").write_bytes((recordings / closest[0]["file"]).read_bytes())
    with pytest.raises(EmptyCorpus, match="learned from all 1"):
        evaluate(trained, learned, clips=2)


def test_recordings_that_have_moved_are_known_by_their_content(trained, recordings, tmp_path):
    run = open_run(shutil.copytree(trained.folder, tmp_path / "deeper" / "run"), codec=TOY)  # not beside them
    (tmp_path / "music").mkdir()
    for path in recordings.iterdir():
        shutil.copy(path, tmp_path / "music" / f"moved {path.name}")
    assert evaluate(run, tmp_path / "music", clips=2, seconds=3.5).facts["recordings"] == 1
    learned = next(one.file for one in read_manifest(run.folder)["recordings"] if one.split == "train")
    (tmp_path / "music" / f"moved {learned}").unlink()
    with pytest.raises(RunError, match=r"1 of the 5 recordings that it has learned from are neither in .* nor in"):
        evaluate(run, tmp_path / "music", clips=2, seconds=3.5)


def test_what_cannot_be_judged_is_refused_before_anything_is_encoded(trained, recordings, monkeypatch, capsys):
    monkeypatch.setattr(Toy, "encode", None)
    with pytest.raises(RunError, match="choose from: 4, 8, 12"):
        evaluate(trained, recordings, checkpoint=5)
    for wrong, told in (({"truncation": 9}, "--truncation 9"), ({"clips": 1001}, "--clips 1001: give 2 to 1000")):
        with pytest.raises(InputError, match=told):
            evaluate(trained, recordings, **wrong)
    monkeypatch.setattr("woodshed.audio.gan.run.open_run", lambda *where, **how: trained)
    out = next(recordings.iterdir())
    with pytest.raises(SystemExit, match="1"):
        main(["audio", "gan", "evaluate", str(trained.folder), str(recordings), "--out", str(out)])
    assert f"{out}: a file, not a folder; choose another folder" in capsys.readouterr().err


def test_what_a_base_has_learned_counts_as_learned(trained, recordings, tmp_path):
    music = tmp_path / "music"
    music.mkdir()
    write_audio(music / "new.wav", song(77, seconds=6.0, sample_rate=8000))
    settings = {**TINY, "hold_out": 0.0, "max_steps": 1, "base": trained.folder}
    run = train(music, tmp_path / "run", codec=TOY, **settings)
    (tmp_path / "elsewhere").mkdir()
    found = evaluate(run, recordings, clips=2, seconds=3.5).facts
    assert found["recordings"] == 1  # all others its base has learned from
    moved = shutil.move(tmp_path / "run", tmp_path / "elsewhere" / "run")
    with pytest.raises(RunError, match="is unknown without its base"):
        evaluate(open_run(moved, codec=TOY), recordings, clips=2)
