"""Hypothesis draws the same examples on every run; and runs so small that they are trained in the tests."""

import pytest
from folders import tune
from hypothesis import settings
from toys import STEPS, TINY, ToyCorpus

from woodshed.symbolic.music.midi import write_midi
from woodshed.symbolic.music.score import Track

settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")

HANDS = (Track("Melody", 0, False, "melody"), Track("Piano", 0, False, "accompaniment"))


@pytest.fixture(scope="session")
def songs(tmp_path_factory):
    """A folder of eight made-up songs for two hands."""
    folder = tmp_path_factory.mktemp("songs")
    for seed in range(8):
        write_midi(tune(seed, tracks=HANDS), folder / f"song {seed}.mid")
    return folder


@pytest.fixture(scope="session", params=["remi", "performance"])
def run(request, songs, tmp_path_factory):
    """The folder of a tiny run, trained for three steps on the songs."""
    from woodshed.symbolic.data.prepare import prepare
    from woodshed.symbolic.learning.train import train

    folder = tmp_path_factory.mktemp(request.param)
    prepare(songs, folder / "corpus", tokenizer=request.param)
    train(folder / "corpus", folder / "run", **TINY | {"max_steps": 3, "max_seq_len": 512, "batch_size": 2})
    return folder / "run"


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    """A run on toy sequences that nothing disturbs, and all it reported."""
    from woodshed.symbolic.learning.train import train

    out, told = tmp_path_factory.mktemp("train") / "reference", []
    run = train(ToyCorpus(), out, report=told.append, max_steps=STEPS, eval_steps=8, **TINY)
    return run, told


@pytest.fixture(scope="module")
def one_thread():
    """Threads that wait for each other on busy cores are ten times slower than one."""
    from woodshed.jobs import threads

    with threads(1):
        yield
