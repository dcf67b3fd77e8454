"""The style critic tells styles that differ and not those that do not; made twice or opened again it is the same."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from folders import tune

from woodshed.errors import EmptyCorpus, InputError, RunError
from woodshed.statistics import evenly
from woodshed.symbolic.judging.likelihood import hidden_state, likelihood
from woodshed.symbolic.music.measure import measure
from woodshed.symbolic.playing import critic as critics
from woodshed.symbolic.playing.critic import (
    FILE,
    L2,
    LOGIT,
    NAMES,
    NATS,
    Ears,
    accuracy,
    auc,
    fit,
    keep_critic,
    make_critic,
    open_critic,
)
from woodshed.symbolic.playing.excerpts import cut_excerpts, windows
from woodshed.symbolic.run import open_run, weights_digest

SMALL = {"length": 2, "takes": 2}


@pytest.fixture(scope="module")
def opened(run):
    return open_run(run)


@pytest.fixture(scope="module")
def made(opened):
    return make_critic(opened, opened.folder.parent / "corpus", **SMALL)


def spelled(run, score):
    return windows([score], run.tokenizer, 4)[0]


def states(run, count, **style):
    return Ears(run).hear([spelled(run, tune(seed, 64, **style)) for seed in range(count)])[0]


def test_two_styles_are_told_and_one_is_not(opened):
    low, high = states(opened, 24, center=40), states(opened, 24, center=80, step=120)
    known = fit(low[:12], high[:12])
    assert accuracy(known.logits(low[12:]), known.logits(high[12:])) == 1
    same = fit(low[:12], low[12:])
    fresh = Ears(opened).hear([spelled(opened, tune(seed, 64, center=40)) for seed in range(100, 140)])[0]
    assert 0.2 <= auc(same.logits(fresh[::2]), same.logits(fresh[1::2])) <= 0.8


def test_fit_is_where_the_gradient_vanishes_and_weighs_both_sides_alike():
    rng = np.random.default_rng(0)
    real, others = rng.normal(0.5, 1, (30, 4)), rng.normal(-0.5, 2, (10, 4))
    real[:, 3] = others[:, 3] = 7.0  # a feature that never changes
    known = fit(real, others)
    assert known.weights[3] == 0

    def loss(weights, bias):
        signs = zip((1, -1), (real, others), strict=True)
        parts = [np.log1p(np.exp(-sign * ((x - known.mean) / known.scale @ weights + bias))) for sign, x in signs]
        return sum(part.mean() / 2 for part in parts) + L2 / 2 * (weights**2).sum()

    best = loss(known.weights, known.bias[0])
    for _ in range(50):
        move = rng.normal(0, 0.05, 5)
        assert loss(known.weights + move[:4], known.bias[0] + move[4]) > best
    twice = fit(np.concatenate([real, real]), others)
    np.testing.assert_allclose(twice.weights[:3] / twice.scale[:3], known.weights[:3] / known.scale[:3], rtol=0.3)


def test_accuracy_and_auc_beside_counting():
    rng = np.random.default_rng(1)
    one, other = rng.integers(-3, 4, 17).astype(float), rng.integers(-4, 3, 23).astype(float)
    pairs = [(a > b) + (a == b) / 2 for a in one for b in other]
    assert auc(one, other) == pytest.approx(np.mean(pairs))
    right = sum(a > 0 for a in one) / len(one), sum(b <= 0 for b in other) / len(other)
    assert accuracy(one, other) == pytest.approx(sum(right) / 2)


def test_what_is_heard_of_an_excerpt_agrees_with_evaluate(opened):
    score = spelled(opened, tune(3, 48))
    if not len(score.chords):
        score = score.replace(chords=critics.recognise(score))
    ears = Ears(opened)
    hidden, nats = ears.hear([score])
    from woodshed.symbolic.data.corpus import EvaluationRows

    whole = likelihood(ears.model, EvaluationRows([score], opened.tokenizer, 512), opened.tokenizer)
    assert nats[0] == pytest.approx(whole["nats_per_note"], rel=0.1)  # which counts the end of the piece too
    assert np.corrcoef(hidden[0][:32], hidden_state(ears.model, opened.tokenizer, 512, score))[0, 1] > 0.99


def test_a_critic_knows_how_the_excerpts_spread_and_how_good_it_is(opened, made):
    facts = made.facts
    assert facts["pieces"] >= critics.FEWEST and facts["takes"] >= 4 and facts["fresh_takes"] >= 2
    assert 0 <= facts["accuracy"] <= 1 and 0 <= facts["auc"] <= 1 and "held-out" in str(made)
    assert made.excerpts.shape == (facts["excerpts"], len(NAMES))
    from woodshed.symbolic.data.corpus import open_corpus

    corpus = open_corpus(opened.folder.parent / "corpus")
    first = cut_excerpts(corpus, "train", 2)[0][0].score
    np.testing.assert_allclose(made.excerpts[0, :-2], [*measure(first).values()], rtol=1e-5)
    heard = np.isfinite(made.excerpts[:, [NAMES.index(NATS), NAMES.index(LOGIT)]])
    assert 0 < heard.all(1).sum() == heard.any(1).sum() <= 2 * critics.HEARD
    train = len(cut_excerpts(corpus, "train", 2)[0])
    learned = evenly(range(train), critics.LEARNED)
    assert not heard[learned].any() and heard[train:].any()


def test_the_same_critic_is_made_again_saved_and_opened(opened, made, monkeypatch, tmp_path):
    again = make_critic(opened, opened.folder.parent / "corpus", **SMALL)
    made.save(tmp_path / "one")
    again.save(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    monkeypatch.setattr(critics, "FILE", tmp_path / "one")
    found = open_critic(opened)
    np.testing.assert_array_equal(found.excerpts, made.excerpts)
    assert json.dumps(found.facts) == json.dumps(made.facts)
    features = np.random.default_rng(0).normal(size=(5, len(made.classifier.mean)))
    np.testing.assert_array_equal(found.classifier.logits(features), made.classifier.logits(features))


def test_too_few_pieces_make_no_classifier_but_a_spread(opened, monkeypatch):
    monkeypatch.setattr(critics, "FEWEST", 99)
    few = make_critic(opened, opened.folder.parent / "corpus", **SMALL)
    assert few.classifier is None and not few.judges and "too few" in str(few) and len(few.excerpts)


def test_a_critic_is_that_of_the_weights_it_was_made_with(opened, made, monkeypatch, tmp_path):
    run = open_run(shutil.copytree(opened.folder, tmp_path / "run"))
    checkpoint = replace(run, weights=tmp_path / "run" / "checkpoint-7")
    checkpoint.weights.mkdir()
    (checkpoint.weights / "model.safetensors").write_bytes(b"of another step")
    told = {"weights": weights_digest(checkpoint.weights)}
    (run.folder / FILE).parent.mkdir()
    made.save(run.folder / FILE)
    assert open_critic(run) and open_critic(checkpoint) is None
    monkeypatch.setattr(critics, "make_critic", lambda *_: replace(made, facts=made.facts | told))
    kept = keep_critic(checkpoint, "corpus")
    assert open_critic(checkpoint).facts["weights"] == kept.facts["weights"] != open_critic(run).facts["weights"]
    with open(run.folder / "model.safetensors", "ab") as weights:
        weights.write(b"learned since")
    assert open_critic(run) is None


def test_what_is_no_critic_is_refused_in_one_line(opened, made, monkeypatch, tmp_path):
    path = tmp_path / "critic.safetensors"
    monkeypatch.setattr(critics, "FILE", path)
    assert open_critic(opened) is None
    for junk in (b"", b"junk" * 40):
        path.write_bytes(junk)
        with pytest.raises(RunError, match="no critic"):
            open_critic(opened)
    made.save(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RunError, match="no critic"):
        open_critic(opened)
    replace(made, facts=made.facts | {"tokenizer": "another"}).save(path)
    with pytest.raises(RunError, match="another run"):
        open_critic(opened)
    replace(made, facts=made.facts | {"format": 0}).save(path)
    assert open_critic(opened) is None


def test_a_critic_wants_takes_and_music(opened, monkeypatch):
    with pytest.raises(InputError, match="takes 0"):
        make_critic(opened, opened.folder.parent / "corpus", takes=0)
    monkeypatch.setattr(critics, "_excerpts", lambda *_: ([], 0))
    with pytest.raises(EmptyCorpus, match="no training piece"):
        make_critic(opened, opened.folder.parent / "corpus")


def test_its_place_leaves_the_weights_digest_alone(opened, made, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    before = weights_digest(tmp_path)
    (tmp_path / FILE).parent.mkdir()
    made.save(tmp_path / FILE)
    assert weights_digest(tmp_path) == before
