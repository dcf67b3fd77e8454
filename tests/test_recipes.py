"""The recipe of the base models, on a data folder of a few made-up songs and a model of a few thousand weights."""

import csv
import importlib.util
import json
from pathlib import Path

import pytest
from folders import tune
from toys import TINY, stop_at

from woodshed.errors import InputError, RunError
from woodshed.log import read_log
from woodshed.symbolic import bases
from woodshed.symbolic.data.corpus import open_corpus
from woodshed.symbolic.learning.course import DECAY
from woodshed.symbolic.learning.train import train
from woodshed.symbolic.music.midi import write_midi
from woodshed.symbolic.run import open_run

PATH = Path(__file__).parents[1] / "recipes" / "base.py"
FILES = {
    "pop909/001/001.mid": ("pop909", "train"),
    "pop909/002/002.mid": ("pop909", "validation"),
    "lieder/Wolf,_Hugo/a.mid": ("lieder", "train"),
    "lieder/Chaminade,_Cécile/b.mid": ("lieder", "train"),
    "groove/c.mid": ("groove", "train"),
}


@pytest.fixture
def recipe(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("recipe_of_bases", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tiny = TINY | {"batch_size": 1, "eval_rows": 1, "eval_steps": 2}
    monkeypatch.setattr(module, "TRAIN", {name: value for name, value in tiny.items() if name != "threads"})
    monkeypatch.setattr(bases, "FOLDER", tmp_path / "bases")
    return module


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    for seed, path in enumerate([*FILES, "pop909/001/versions/1.mid"]):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        write_midi(tune(seed), folder / path)
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("file", "set", "split"))
        writer.writerows((path, *told) for path, told in FILES.items())
    return folder


def test_the_corpus_has_the_sets_their_splits_and_weights_and_no_style_that_is_held_out(recipe, data, tmp_path):
    corpus = recipe.make_corpus(data, tmp_path / "music", "remi", tmp_path / "corpus")
    found = {piece.path: (piece.split, piece.weight) for piece in corpus.pieces}
    weights = recipe.WEIGHTS
    assert found == {
        "pop909/001/001.mid": ("train", weights["pop909"]),
        "pop909/001/versions/1.mid": ("train", weights["versions"]),
        "pop909/002/002.mid": ("validation", weights["pop909"]),
        "lieder/Wolf,_Hugo/a.mid": ("train", weights["lieder"]),
    }


def test_from_the_data_to_a_base_in_the_package(recipe, data, tmp_path):
    work, packed = tmp_path / "work", tmp_path / "corpus.zip"
    recipe.main([str(data), str(work), "--pack", str(packed)])
    elsewhere = tmp_path / "elsewhere"
    command = [str(packed), str(elsewhere), "--minutes", "0.02", "--threads", "1"]
    recipe.main(command)  # on a machine without the data
    assert open_corpus(elsewhere / "piano" / "corpus").fingerprint == open_corpus(work / "piano" / "corpus").fingerprint
    with pytest.raises(RunError, match="has finished"):
        recipe.main(command)
    for version in (1, 2):
        recipe.main([*command, "--publish"])
        base = open_run("piano")
        assert base.folder.name == f"piano-{version}" and base.facts["music"]["chords"]
        assert next(base.model().parameters()).abs().sum() > 0
    assert {path.name for path in base.folder.iterdir()} >= {"README.md", "model.safetensors", "tokenizer.json"}


def test_a_run_is_cooled_from_its_newest_checkpoint_and_never_published_before(recipe, data, tmp_path):
    work = tmp_path / "work"
    command = [str(data), str(work), "--threads", "1"]
    corpus = recipe.make_corpus(data, work / "music", "remi", work / "piano" / "corpus")
    run = work / "piano" / "run"
    train(corpus, run, max_minutes=60, report=stop_at(5), threads=1, **recipe.TRAIN)
    with pytest.raises(InputError, match="not finished; go on to the end, or --cool MINUTES first"):
        recipe.main([*command, "--publish"])
    for steps in (6, 12):
        recipe.main([*command, "--cool", "0.02"])
        recipe.main([*command, "--publish"])
        cooled = open_run(work / "piano" / f"cooled-{steps}")
        base = open_run("piano")
        assert base.facts["step"] == cooled.facts["step"] > steps == base.facts["cooled_since"]
        told = {"learning_rate": recipe.TRAIN["learning_rate"], "max_minutes": 60}
        assert told.items() <= base.facts["settings"].items()
        assert f"--name piano`, at a falling rate from step {steps} on" in (base.folder / "README.md").read_text()
        train(corpus, run, resume=True, max_minutes=60, patience=0, report=stop_at(steps + 5), threads=1)
    with pytest.raises(InputError, match="not finished"):
        recipe.main([*command, "--publish"])
    assert sorted(path.name for path in bases.FOLDER.iterdir()) == ["piano-1", "piano-2"]


def test_a_rate_begins_to_fall_from_where_it_was(recipe, data, tmp_path):
    work = tmp_path / "work"
    corpus = recipe.make_corpus(data, work / "music", "remi", work / "piano" / "corpus")
    run = work / "piano" / "run"
    train(corpus, run, max_minutes=60, report=stop_at(5), threads=1, **recipe.TRAIN)
    log = read_log(run / "log.jsonl")
    lines = [line | {"seconds": 600.0 * line["step"]} if "seconds" in line else line for line in log]
    lines.append({"step": 7, "loss": 1.0, "seconds": 9999.0})  # after its checkpoint
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    asked = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe, "train_with_bar", lambda corpus, out, **how: asked.update(how))
        recipe.cool(corpus, run.parent, 3.0, None)
    assert asked["max_minutes"] == pytest.approx(60 + 3)
    left = 3 / 63 / DECAY  # of the peak, when it goes on
    before = recipe.TRAIN["learning_rate"] * recipe.height(60, 60)
    assert asked["learning_rate"] * left == pytest.approx(before, abs=1e-9)


def test_a_base_that_is_too_large_leaves_nothing_behind(recipe, data, tmp_path, monkeypatch):
    command = [str(data), str(tmp_path / "work"), "--minutes", "0.02", "--threads", "1"]
    recipe.main(command)
    monkeypatch.setattr(recipe, "LARGEST", 1000)
    with pytest.raises(InputError, match="MiB of weights; a base may have"):
        recipe.main([*command, "--publish"])
    assert not list(bases.FOLDER.glob("*"))


def test_a_base_goes_on_with_longer_rows(recipe, data, tmp_path):
    command = [str(data), str(tmp_path / "work"), "--minutes", "0.02", "--threads", "1"]
    recipe.main(command)
    recipe.main([*command, "--publish"])
    longer = [str(data), str(tmp_path / "more"), *command[2:], "--on-from", "piano", "--max-seq-len", "128"]
    recipe.main(longer)
    recipe.main([*longer, "--publish"])
    base = open_run("piano")
    assert base.folder.name == "piano-2" and base.model().config.max_position_embeddings == 128
    assert base.facts["base"] is None and base.facts["settings"]["base"] == "piano-1"
    assert [before["style"] for before in base.facts["before"]] == ["piano-1"]
    assert "--on-from piano-1 --max-seq-len 128" in (base.folder / "README.md").read_text()
    with pytest.raises(SystemExit):
        recipe.main([*command, "--max-seq-len", "128"])
