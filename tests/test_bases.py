"""Base models by name: which there are, which fits, and what a damaged or foreign one is told."""

import shutil
from pathlib import Path

import pytest
from toys import TINY

from woodshed.errors import RunError
from woodshed.symbolic import bases
from woodshed.symbolic.run import open_run
from woodshed.symbolic.tokenizers import make, open_tokenizer
from woodshed.symbolic.train import train


@pytest.fixture
def shelf(tmp_path, monkeypatch, run):
    """A folder of bases: two versions of `toy`, one of `toy-played`."""
    for name in ("toy-1", "toy-10", "toy-2", "toy-played-1"):
        ignore = shutil.ignore_patterns("checkpoint-*", "takes", "log.jsonl")
        shutil.copytree(run, tmp_path / name, ignore=ignore)
    (tmp_path / "empty-1").mkdir()
    monkeypatch.setattr(bases, "FOLDER", tmp_path)
    return tmp_path


def test_a_plain_name_is_the_newest_version(shelf):
    assert bases.names() == ["toy-1", "toy-2", "toy-10", "toy-played-1"]
    assert bases.find("toy") == shelf / "toy-10"
    assert bases.find("toy-2") == shelf / "toy-2"
    assert bases.find("toy-3") is None and bases.find("empty") is None and bases.find("to") is None


def test_a_base_fits_a_tokenizer_with_the_same_ids_alone(shelf, run):
    assert bases.fitting(open_tokenizer(run)) == "toy-played-1"
    assert bases.fitting(make("performance", pedal="drop")) is None


def test_a_base_is_opened_by_its_name_and_leaves_nothing_in_the_package(shelf, tmp_path, monkeypatch):
    opened = open_run("toy-played")
    assert opened.folder == shelf / "toy-played-1" and opened.place == Path("toy-played-1")
    with pytest.raises(RunError, match="not a run"):
        open_run("toy-3")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy-2").rename(tmp_path / "mine")
    assert open_run("mine").place == Path("mine")  # a folder of one's own is no base


def test_training_starts_from_the_base_that_fits(shelf, run, tmp_path):
    settings = dict(max_steps=1, batch_size=1, max_seq_len=64, eval_rows=1)
    corpus = run.parent / "corpus"
    adapted = train(corpus, tmp_path / "adapted", **settings)
    assert adapted.facts["base"] == "toy-played-1" and adapted.facts["adapter"]
    assert train(corpus, tmp_path / "older", base="toy", **settings).facts["base"] == "toy-10"
    fresh = train(corpus, tmp_path / "fresh", base="none", **settings | TINY | {"max_steps": 1})
    assert fresh.facts["base"] is None
    assert train(corpus, tmp_path / "sized", **TINY | settings).facts["base"] is None
    assert open_run(tmp_path / "adapted").model(merge=True).config.vocab_size == len(adapted.tokenizer.words)


def test_a_truncated_base_says_so(shelf, run, tmp_path):
    weights = shelf / "toy-played-1" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(RunError, match="truncated"):
        train(run.parent / "corpus", tmp_path / "new", max_steps=1, batch_size=1, max_seq_len=64)
    assert not (tmp_path / "new").exists()
