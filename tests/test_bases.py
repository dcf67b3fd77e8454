"""Base models by name: which there are, which fits, and what a damaged or foreign one is told."""

import shutil

import pytest

from woodshed.symbolic import bases
from woodshed.symbolic.tokenizers import make, open_tokenizer


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
