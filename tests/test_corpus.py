"""Drawing rows: every piece as often as its weight says, and pieces that end where they end."""

import json
import os
from collections import Counter
from dataclasses import replace
from itertools import chain, islice

import numpy as np
import pytest
from conftest import HANDS
from folders import songs_folder, tune
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import scores
from test_tokenizers import OURS, each, fit

from woodshed.errors import RunError
from woodshed.symbolic.data.corpus import Corpus, Piece, cut_window, pack, write_corpus
from woodshed.symbolic.data.prepare import PrepareSettings, prepare
from woodshed.symbolic.data.tasks import Posed
from woodshed.symbolic.tokenizers import BOS, EOS, PAD, make


def corpus_of(folder, tunes, weights=None, tokenizer="remi", **facts) -> Corpus:
    """A corpus of these Scores, all to train on."""
    tokenizer, pieces = make(tokenizer), []
    for number, score in enumerate(tunes):
        count = len(tokenizer.encode(score))
        rest = (len(score.notes), 1.0, count, 10, score.ticks_per_quarter, score.free, score.tracks)
        pieces.append(Piece(f"{number}.mid", "train", *rest, weight=(weights or {}).get(number, 1.0)))
    return write_corpus(folder, pieces, tunes, tokenizer, settings=facts, skipped=[])


def drawn(rows, epochs: int) -> Counter:
    """How often each piece was an epoch's own stretch."""
    return Counter(rows.windows[place][0] for epoch in range(epochs) for place in rows._draw_epoch(epoch))


def test_an_epoch_has_every_stretch_once(tmp_path):
    rows = corpus_of(tmp_path / "c", [tune(seed, notes=100 * (seed + 1)) for seed in range(5)]).training_rows(128)
    for epoch in range(3):
        assert sorted(rows._draw_epoch(epoch).tolist()) == list(range(len(rows)))
    assert not np.array_equal(rows._draw_epoch(0), rows._draw_epoch(1))
    assert len(list(islice(rows, len(rows) + 1))) == len(rows)


def test_a_piece_is_drawn_as_often_as_its_weight_says(tmp_path):
    weights = {0: 3.0, 1: 0.5, 2: 0.0}
    corpus = corpus_of(tmp_path / "c", [tune(seed) for seed in range(6)], weights)
    rows, epochs = corpus.training_rows(128), 200
    even = drawn(corpus_of(tmp_path / "even", [tune(seed) for seed in range(6)]).training_rows(128), epochs)
    found = drawn(rows, epochs)
    assert found[2] == 0
    for piece in (0, 1, 3, 4, 5):
        assert found[piece] == pytest.approx(even[piece] * weights.get(piece, 1.0), rel=0.1)
    shares = np.diff(rows.edges, prepend=0) / rows.edges[-1]  # of what fills rows up
    sizes = np.array([corpus.pieces[piece].ids * weights.get(piece, 1.0) for piece in rows.pieces])
    assert shares == pytest.approx(sizes / sizes.sum())


def test_nothing_to_draw_is_refused(tmp_path):
    with pytest.raises(RunError, match="no piece to train on"):
        corpus_of(tmp_path / "c", [tune()], {0: 0.0}).training_rows(128)


def test_a_corpus_from_before_weights_opens(tmp_path):
    corpus = corpus_of(tmp_path / "c", [tune()])
    path = tmp_path / "c" / "corpus.json"
    data = json.loads(path.read_text())
    for piece in data["pieces"]:
        del piece["weight"]
    path.write_text(json.dumps(data))
    assert Corpus(tmp_path / "c").pieces == [replace(piece, weight=1.0) for piece in corpus.pieces]


@each
@given(score=scores(), at=st.floats(0, 0.999), room=st.floats(0.01, 2))
@settings(max_examples=40, deadline=None)
def test_a_window_says_whether_it_reaches_the_end(name, score, at, room):
    tokenizer = OURS[name]
    if not fit(score, tokenizer):
        return
    window, last, ended = cut_window(score, tokenizer, at, room)
    lines = score.seams(tokenizer.end(score))
    start = lines[int(at * (len(lines) - 1))]
    assert last == tokenizer.end(score) - start
    after = np.count_nonzero(score.notes["onset"] >= start)
    assert len(window.notes) == after if ended else len(window.notes) <= after
    assert ended or window.end <= last


@pytest.mark.parametrize("free", [False, True])
def test_music_that_reaches_its_end_says_so(tmp_path, free):
    """Whatever the key and tempo it was moved to; and nothing else says so."""
    piece = tune(notes=60, step=241)
    corpus = corpus_of(tmp_path / "c", [piece.freed() if free else piece], tokenizer="performance", augment=True)
    rows = corpus.training_rows(2048)
    for index in range(20):  # the piece fits a row several times, so that every stretch of it reaches its end
        ids = rows[index]["input_ids"]
        begins = np.flatnonzero(ids == BOS)[1:]
        assert len(begins) and (ids[begins - 1] == EOS).all()


def words_drawn(corpus, rows=150):
    """The words of the first stretch of so many rows, each of them a list."""
    drawn = corpus.training_rows(1024)
    found = (drawn[index]["input_ids"].tolist() for index in range(rows))  # of as many epochs as that takes
    return [[corpus.tokenizer.words[one] for one in ids[: ids.index(EOS)]] for ids in found if EOS in ids]


@pytest.mark.parametrize("augmented", [False, True])
def test_a_piece_is_learned_in_twelve_keys_and_three_tempi_where_that_is_asked(tmp_path, augmented):
    drawn = words_drawn(corpus_of(tmp_path / "c", [tune(notes=120)], augment=augmented))
    lowest = {min(int(word[6:]) for word in words if word.startswith("Pitch_")) for words in drawn}
    tempi = {word for words in drawn for word in words if word.startswith("Tempo_")}
    assert (len(lowest), len(tempi)) == ((12, 3) if augmented else (1, 1))


def test_rows_hold_the_tasks_that_are_asked_for_keys_and_the_way_to_the_end(tmp_path):
    hands = [tune(seed, notes=120, tracks=HANDS) for seed in range(2)]
    tasks = {"Task_continue", "Task_accompany", "Task_fill"}
    asked = corpus_of(tmp_path / "asked", hands, tasks={"continue": 0.2, "accompany": 0.2, "fill": 0.2})
    drawn, plain = ({*chain(*words_drawn(one))} for one in (asked, corpus_of(tmp_path / "plain", hands)))
    assert tasks | {"Future", "Hole", "Given", "Bar_1", "Bar_None"} <= drawn and not tasks & plain
    assert all(any(word.startswith(head) for word in drawn) for head in ("Key_", "Density_", "Played"))


def test_packing_cuts_the_last_example_and_pads_the_rest():
    one, two = (Posed(np.arange(3, 3 + count), np.arange(count) > 0) for count in (3, 4))
    row = pack([one, two], 5)
    assert row["input_ids"].tolist() == [3, 4, 5, 3, 4]
    assert row["labels"].tolist() == [-100, 4, 5, -100, 4]
    assert row["position_ids"].tolist() == [0, 1, 2, 0, 1]
    row = pack([one], 5)
    assert row["input_ids"].tolist() == [3, 4, 5, PAD, PAD]
    assert row["labels"].tolist() == [-100, 4, 5, -100, -100]
    assert row["position_ids"].tolist() == [0, 1, 2, 0, 1]


def test_pieces_come_back_in_order_and_read_only(tmp_path):
    corpus = prepare(songs_folder(tmp_path, 3), tmp_path / "corpus", PrepareSettings())
    for index in range(len(corpus)):
        score = corpus.score(index)
        assert score == score.replace()  # checking and sorting it again changes nothing
        with pytest.raises(ValueError, match="read-only"):
            score.notes["onset"] = 0


def test_what_lies_beside_a_new_corpus_is_left_alone(tmp_path):
    """Be it named as a temporary folder might be."""
    (mine := tmp_path / f".corpus.{os.getpid()}").mkdir()
    (mine / "song.mid").touch()
    corpus_of(tmp_path / "corpus", [tune(0)])
    assert (mine / "song.mid").exists() and set(tmp_path.iterdir()) == {mine, tmp_path / "corpus"}


@pytest.mark.parametrize("text", ["[]", "7", "{}", '{"format": 1}', '{"format": 99}', "{"])
def test_a_corpus_json_that_is_none_says_how_to_make_one(tmp_path, text):
    corpus = prepare(songs_folder(tmp_path, 3), tmp_path / "corpus", PrepareSettings())
    (corpus.folder / "corpus.json").write_text(text)
    with pytest.raises(RunError, match="woodshed prepare FOLDER"):
        Corpus(corpus.folder)


@pytest.mark.parametrize("left", [0, 4, 100])
def test_arrays_that_are_cut_short_are_a_run_error(tmp_path, left):
    corpus = prepare(songs_folder(tmp_path, 3), tmp_path / "corpus", PrepareSettings())
    (corpus.folder / "notes.npy").write_bytes((corpus.folder / "notes.npy").read_bytes()[:left])
    with pytest.raises(RunError, match="incomplete"):
        Corpus(corpus.folder).score(0)


def test_a_tokenizer_config_that_is_none_is_a_run_error(tmp_path):
    corpus = prepare(songs_folder(tmp_path, 3), tmp_path / "corpus", PrepareSettings())
    for text in ("[]", "7", "{"):
        (corpus.folder / "tokenizer_config.json").write_text(text)
        with pytest.raises(RunError, match="damaged"):
            Corpus(corpus.folder)
