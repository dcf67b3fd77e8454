"""From a folder to a corpus: what goes in, songs in one split, the same every time, and never half a corpus."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from folders import BAND, FAULTS, folder, hostile, real, songs_folder, tune

from woodshed.errors import EmptyCorpus, InputError
from woodshed.symbolic.data import corpus as writing
from woodshed.symbolic.data.corpus import SPLITS, Corpus, draw_region
from woodshed.symbolic.data.inspect import inspect
from woodshed.symbolic.data.metadata import parse_years
from woodshed.symbolic.data.prepare import (
    PrepareSettings,
    changed_sources,
    changes_line,
    corpus_lines,
    divide,
    parse_fractions,
    prepare,
)
from woodshed.symbolic.data.tasks import Region
from woodshed.symbolic.music.midi import write_midi
from woodshed.symbolic.music.score import Score, Track

# --- what goes in ----------------------------------------------------------------------------------------------


def test_every_file_is_a_piece_or_skipped_with_its_reason(tmp_path):
    (tmp_path / "midi").mkdir()
    source = hostile(tmp_path / "midi")
    corpus = prepare(source, tmp_path / "corpus")
    report = inspect(source)
    assert sorted([piece.path for piece in corpus.pieces] + [row["path"] for row in corpus.skipped]) == [
        finding.path for finding in report.findings
    ]
    assert [(row["path"], row["reason"], row["detail"]) for row in corpus.skipped] == [
        (finding.path, finding.reason, finding.detail) for finding in report.left_out
    ]


def test_scores_come_back_as_they_were_examined(tmp_path):
    source = songs_folder(tmp_path, 6)
    corpus = prepare(source, tmp_path / "corpus")
    report = inspect(source, corpus_settings := PrepareSettings(), chords=corpus_settings.chords)
    assert [corpus.score(index) for index in range(len(corpus))] == [finding.score for finding in report.usable]
    for index, piece in enumerate(corpus.pieces):
        score, facts = corpus.score(index), report.usable[index].facts
        assert piece.notes == len(score.notes)
        assert piece.seconds == pytest.approx(float(score.seconds(score.end)), abs=1e-3)
        assert piece.ids == len(corpus.tokenizer.encode(score))
        assert (piece.bars, piece.bpm, piece.metre) == (facts.bars, facts.bpm, facts.metre)
        assert piece.digest == report.usable[index].digest


def test_remi_leaves_out_free_time_and_performance_takes_it(tmp_path):
    source = songs_folder(tmp_path, 3, free=tune(50).freed())
    remi = prepare(source, tmp_path / "remi", PrepareSettings(tokenizer="remi"))
    assert [(row["path"], row["reason"]) for row in remi.skipped] == [("free.mid", "free time")]
    performance = prepare(source, tmp_path / "performance", PrepareSettings(tokenizer="performance"))
    assert performance.skipped == []
    assert [piece.free for piece in performance.pieces] == [True, False, False, False]
    assert performance.facts["free"] == 1


def test_the_tokenizer_suits_most_of_the_music(tmp_path):
    source = songs_folder(tmp_path, 2)
    corpus = prepare(source, tmp_path / "a")
    assert corpus.tokenizer.name == "remi"
    assert "bars and beats" in corpus.facts["tokenizer"]
    for seed in (60, 61, 62):
        write_midi(tune(seed).freed(), source / f"free {seed}.mid")
    assert prepare(source, tmp_path / "b").tokenizer.name == "performance"
    with pytest.raises(InputError, match="unknown tokenizer 'rem'"):
        prepare(source, tmp_path / "c", PrepareSettings(tokenizer="rem"))
    assert not (tmp_path / "c").exists()


def test_chords_are_heard_kept_or_dropped(tmp_path):
    stated = tune(1).replace(chords=np.array([(0, 2, 1, 2), (1920, 7, 0, 7)], dtype=Score().chords.dtype))
    source = songs_folder(tmp_path, 0, stated=stated, silent=tune(2))

    def roots(chords):
        corpus = prepare(source, tmp_path / chords, PrepareSettings(chords=chords))
        return {p.path: corpus.score(k).chords["root"].tolist() for k, p in enumerate(corpus.pieces)}

    assert roots("none") == {"silent.mid": [], "stated.mid": []}
    assert roots("file") == {"silent.mid": [], "stated.mid": [2, 7]}
    heard = roots("recognise")
    assert heard["stated.mid"] == [2, 7]
    assert heard["silent.mid"]


def test_drums_alone_teach_no_chords(tmp_path):
    corpus = prepare(folder(tmp_path, a=FAULTS["drums"]), tmp_path / "corpus", only_part="drums")
    assert corpus.music["chords"] is False and not len(corpus.score(0).chords)


def test_nothing_left_names_the_reasons_and_a_way(tmp_path):
    source = folder(tmp_path, a=FAULTS["drums"], b=FAULTS["drums"], c=FAULTS["short"])
    with pytest.raises(EmptyCorpus, match=r"2 drums .*1 short .*--only-part drums"):
        prepare(source, tmp_path / "corpus")
    with pytest.raises(EmptyCorpus, match="--tokenizer performance"):
        prepare(songs_folder(tmp_path, 0, free=tune().freed()), tmp_path / "corpus", PrepareSettings(tokenizer="remi"))
    assert not (tmp_path / "corpus").exists()


def test_the_summary_is_that_of_the_pieces(tmp_path):
    tracks = (Track("Melody", 0, False, "melody"), Track("Piano", 0, False, "accompaniment"))
    slow = Score(tune(1).notes, tempos=[(0, 1_000_000)], metres=[(0, 3, 4)])
    corpus = prepare(
        songs_folder(tmp_path, 0, slow=slow, a=tune(2, tracks=tracks), b=tune(3)),
        tmp_path / "corpus",
        PrepareSettings(keep_grid=True),
    )
    facts = corpus.facts
    assert (facts["chords"], facts["free"]) == (3, 0)
    assert (corpus.music["bpm"], corpus.music["metre"]) == (120, "4/4")
    assert set(corpus.music["head"]) <= set(corpus.tokenizer.words)
    notes = [(s.notes["onset"].astype(int), s.notes["duration"], s) for s in map(corpus.score, range(len(corpus)))]
    lengths = np.concatenate([s.seconds(onset + length) - s.seconds(onset) for onset, length, s in notes])
    assert 0.99 * lengths.max() < corpus.music["longest_note"] <= lengths.max() + 0.01
    pitches = np.concatenate([corpus.score(place).notes["pitch"] for place in range(len(corpus))])
    assert corpus.music["pitches"] == [pitches.min(), pitches.max()]
    struck = [Counter(corpus.score(place).notes["onset"].tolist()).most_common(1)[0][1] for place in range(len(corpus))]
    assert corpus.music["together"] == max(struck)
    heard = [
        tuple(score.tracks[n].part for n in np.unique(score.notes["track"])) for score in map(corpus.score, range(3))
    ]
    assert {frozenset(parts) for parts in corpus.music["ensembles"]} == {frozenset(parts) for parts in heard}
    assert corpus.music["programs"] == {"melody": 0, "accompaniment": 0}
    told = "\n".join(corpus_lines(corpus))
    assert "bars and beats" in told
    assert f"{facts['ids']:,} remi ids" in told
    assert facts["ids"] == sum(piece.ids for piece in corpus.pieces)
    assert facts["parts"] == {"melody": 3, "accompaniment": 1}
    assert corpus.settings["tasks"] == {"continue": 0.05, "accompany": 0.1, "fill": 0.1}


def test_a_corpus_knows_what_mostly_plays_each_part(tmp_path):
    kit = Track("Kit", 0, True, "drums")
    songs = {}
    for seed, (strings, bass) in enumerate([(48, 33), (0, 33), (48, 35)]):
        pad, piano = (Track(name, program, False, "accompaniment") for name, program in (("Pad", strings), ("Keys", 4)))
        songs[f"song {seed}"] = tune(seed, tracks=(Track("Low", bass, False, "bass"), pad, kit, pad))
        songs[f"piano {seed}"] = tune(seed + 5, tracks=(piano,)) if seed else tune(seed + 5, tracks=(piano, kit))
    settings = PrepareSettings(keep=("programs", "drums"), keep_grid=True)
    corpus = prepare(songs_folder(tmp_path, 0, **songs), tmp_path / "corpus", settings)
    assert len(corpus) == 6 and corpus.music["programs"] == {"bass": 33, "accompaniment": 4}


# --- never half a corpus ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("where", ["read", "encode", "save"])
def test_a_killed_preparation_leaves_nothing(tmp_path, monkeypatch, where, error):
    source, calls = songs_folder(tmp_path, 4), []

    def killed(*args, **kwargs):
        calls.append(args)
        if len(calls) > 2:
            raise error
        return original(*args, **kwargs)

    from woodshed.symbolic.data import inspect as inspecting
    from woodshed.symbolic.data import prepare as preparing

    module, name = {"read": (inspecting, "read_whole"), "encode": (preparing, "_length"), "save": (writing.np, "save")}[
        where
    ]
    original = getattr(module, name)
    monkeypatch.setattr(module, name, killed)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(error):
        prepare(source, tmp_path / "corpus")
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    monkeypatch.undo()
    assert len(prepare(source, tmp_path / "corpus")) == 4


def test_what_exists_is_never_overwritten(tmp_path):
    source = songs_folder(tmp_path, 3)
    corpus = prepare(source, tmp_path / "corpus")
    with pytest.raises(InputError, match="exists already"):
        prepare(source, tmp_path / "corpus", PrepareSettings(seed=5))
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(InputError, match="link exists already"):
        prepare(source, tmp_path / "link")
    assert Corpus(tmp_path / "corpus").fingerprint == corpus.fingerprint


def test_progress_rises_to_the_end(tmp_path):
    shares = []
    songs = songs_folder(tmp_path, 4, band=tune(9, tracks=BAND))
    prepare(songs, tmp_path / "corpus", report=lambda now: shares.append(now.share))
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_the_same_folder_and_settings_give_the_same_corpus(tmp_path):
    source = songs_folder(tmp_path, 8)
    one, two = (prepare(source, tmp_path / name) for name in ("one", "two"))
    assert one.fingerprint == two.fingerprint
    assert (tmp_path / "one" / "corpus.json").read_bytes() == (tmp_path / "two" / "corpus.json").read_bytes()
    other = prepare(source, tmp_path / "three", PrepareSettings(seed=1))
    assert other.fingerprint != one.fingerprint


def test_changed_and_lost_sources_are_noticed(tmp_path):
    source = songs_folder(tmp_path, 4)
    corpus = prepare(source, tmp_path / "corpus")
    assert changed_sources(corpus, source) == {}
    (source / "song 1.mid").unlink()
    write_midi(tune(99), source / "song 3.mid")
    write_midi(tune(98), source / "new.mid")
    assert changes_line(corpus).startswith(f"{corpus.folder}: files have changed since it was prepared: 1 removed, 1")
    changes = {"removed": ["song 1.mid"], "edited": ["song 3.mid"], "added": ["new.mid"]}
    assert changed_sources(corpus, source) == changes


# --- splits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(1, 40))
def test_every_split_gets_its_share_and_at_least_one(count):
    names = [f"song {k}" for k in range(count)]
    splits, remarks = divide(names, [""] * count, (0.8, 0.1, 0.1), 3)
    sizes = [splits.count(split) for split in SPLITS]
    assert sum(sizes) == count
    if count < 3:
        assert sizes == [count, 0, 0]
        assert "no song for validation and test" in remarks[0]
        assert divide(names, [""] * count, (0.8, 0.2, 0.0))[0].count("validation") == count - 1
    else:
        assert min(sizes) >= 1
        assert sizes[1] == sizes[2] == max(round(count / 10), 1)


def test_one_song_more_moves_few_others():
    names = [f"song {k}" for k in range(200)]
    before, _ = divide(names, [""] * 200, (0.8, 0.1, 0.1), 0)
    after, _ = divide([*names, "new"], [""] * 201, (0.8, 0.1, 0.1), 0)
    assert sum(a != b for a, b in zip(before, after, strict=False)) <= 4
    other, _ = divide(names, [""] * 200, (0.8, 0.1, 0.1), 1)
    assert sum(a != b for a, b in zip(before, other, strict=True)) > 20


def test_a_known_split_is_kept_and_its_takes_follow():
    names = ["a", "a", "b", "c", "c"]
    splits, remarks = divide(names, ["test", "", "", "train", "validation"], (1.0, 0.0, 0.0))
    assert splits == ["test", "test", "train", "train", "validation"]
    assert any("takes of c into train and validation" in remark for remark in remarks)


def test_equal_notes_are_one_song_also_where_they_are_too_few_to_tell_songs_apart(tmp_path):
    phrase = tune(0, 15)
    source = songs_folder(tmp_path, 6, one=phrase, other=phrase, third=tune(1, 15))
    corpus = prepare(source, tmp_path / "corpus", keep=("duplicate", "short"))
    songs = {piece.path: piece.song for piece in corpus.pieces}
    assert songs["one.mid"] == songs["other.mid"] != songs["third.mid"]


def test_takes_of_a_song_share_a_split(tmp_path):
    source = songs_folder(tmp_path, 12)
    for seed in range(12):
        (source / "versions").mkdir(exist_ok=True)
        write_midi(tune(seed + 500), source / "versions" / f"song {seed}-v2.mid")  # a take by its name alone
        write_midi(tune(seed, 120), source / f"unlike {seed}.mid")  # a take by its notes alone
    corpus = prepare(source, tmp_path / "corpus")
    assert len(corpus) == 36
    for seed in range(12):
        names = {f"song {seed}.mid", f"versions/song {seed}-v2.mid", f"unlike {seed}.mid"}
        mine = [piece for piece in corpus.pieces if piece.path in names]
        assert len({piece.split for piece in mine}) == len({piece.song for piece in mine}) == 1
    assert {piece.split for piece in corpus.pieces} == set(SPLITS)


@pytest.mark.parametrize(
    ("text", "shares"), [("0.8,0.1,0.1", (0.8, 0.1, 0.1)), ("0.8,0.2", (0.8, 0.2, 0)), ("1,0,0", (1, 0, 0))]
)
def test_fractions(text, shares):
    assert parse_fractions(text) == shares


@pytest.mark.parametrize("text", ["", "1", "0.8;0.2", "0.5,0.4", "0,1", "1.5,-0.5", "nan,0.5", "0.25,0.25,0.25,0.25"])
def test_fractions_that_cannot_be(text):
    with pytest.raises(InputError, match="--fractions"):
        PrepareSettings(fractions=text)


def test_years_and_shares_that_cannot_be():
    assert parse_years("2009") == range(2009, 2010)
    assert parse_years("2004-2011") == range(2004, 2012)
    for settings, flag in [
        ({"year": "last"}, "--year"),
        ({"year": "2011-2004"}, "--year"),
        ({"year": "²"}, "--year"),
        ({"fill_share": -0.1}, "--fill-share"),
        ({"fill_share": 0.6, "continue_share": 0.6}, "shares of the tasks"),
        ({"only_split": "dev"}, "--only-split"),
        ({"chords": "recognize"}, "--chords 'recognize': choose from recognise, file, none"),
    ]:
        with pytest.raises(InputError, match=flag):
            PrepareSettings(**settings)


# --- what training reads ---------------------------------------------------------------------------------------


def same(one, two) -> bool:
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("tokenizer", ["remi", "performance"])
def test_a_row_is_a_function_of_seed_and_number_alone(tmp_path, tokenizer):
    settings = PrepareSettings(
        tokenizer=tokenizer, augment=True, fill_share=0.3, continue_share=0.3, accompany_share=0.3
    )
    corpus = prepare(songs_folder(tmp_path, 5), tmp_path / "corpus", settings)
    rows = corpus.training_rows(256, seed=7)
    count = 3 * len(rows)
    forwards = [rows[k] for k in range(count)]
    again = Corpus(tmp_path / "corpus").training_rows(256, seed=7)
    backwards = [again[k] for k in reversed(range(count))][::-1]
    assert all(same(a, b) for a, b in zip(forwards, backwards, strict=True))
    other = corpus.training_rows(256, seed=8)
    assert not all(same(a, other[k]) for k, a in enumerate(forwards))
    for row in forwards:
        assert all(len(values) == 256 for values in row.values())
        learned = row["labels"] >= 0
        assert np.array_equal(row["labels"][learned], row["input_ids"][learned])


def test_the_end_of_a_piece_little_longer_than_a_row_is_learned(tmp_path):
    corpus = prepare(songs_folder(tmp_path, 12), tmp_path / "corpus")
    longest = max(piece.ids for piece in corpus.pieces)
    rows = corpus.training_rows(int(longest / 1.4), seed=0)
    assert all(piece.ids < 1.5 * rows.max_seq_len for piece in corpus.pieces)  # one window each
    ended = [(rows[k]["input_ids"] == 2).any() for k in range(200)]
    assert np.mean(ended) > 0.25


def test_bars_are_filled_in_all_parts_and_in_one(tmp_path):
    score = tune(3, tracks=(Track("Melody", 0, False, "melody"), Track("Bass", 33, False, "bass")))
    everything = Region(0, score.end)
    drawn = [draw_region("fill", score, everything, np.random.default_rng(seed)) for seed in range(300)]
    assert Counter(region.parts for region in drawn).keys() == {None, ("melody",), ("bass",)}
    assert 0.25 < np.mean([region.parts is not None for region in drawn]) < 0.42
    assert all(0 < region.start < region.end < score.end for region in drawn)


def test_evaluation_rows_hold_every_note_of_the_split_once(tmp_path):
    corpus = prepare(songs_folder(tmp_path, 10), tmp_path / "corpus")
    for split in SPLITS:
        rows = corpus.evaluation_rows(split, 128)
        assert rows.notes == sum(corpus.pieces[index].notes for index in corpus.split(split))
        ids = np.concatenate([row["input_ids"] for row in rows])
        pitches = sum(corpus.tokenizer.words[token].startswith("Pitch_") for token in ids.tolist())
        assert pitches == rows.notes


def test_of_a_bar_longer_than_a_row_only_what_is_in_the_row_counts(tmp_path):
    dense = tune(notes=640, step=30)  # 64 notes a bar
    corpus = prepare(folder(tmp_path, dense=dense), tmp_path / "corpus", fractions="1,0,0", keep_grid=True)
    rows = corpus.evaluation_rows("train", 64)
    ids = np.concatenate([row["input_ids"] for row in rows])
    pitches = sum(corpus.tokenizer.words[token].startswith("Pitch_") for token in ids.tolist())
    assert pitches < corpus.pieces[0].notes / 2 and rows.notes == pytest.approx(pitches, rel=0.1)
    assert rows.seconds < corpus.evaluation_rows("train", 1024).seconds / 2


def test_rests_that_no_token_spells_are_no_rows(tmp_path):
    pytest.importorskip("miditok")
    late = tune(notes=64)
    notes = late.notes.copy()
    notes["onset"][32:] += 40 * 1920  # forty bars of silence in the middle
    corpus = prepare(folder(tmp_path, late=late.replace(notes=notes)), tmp_path / "corpus", tokenizer="miditok:REMI")
    for length in (32, 64, 256):
        rows = corpus.evaluation_rows("train", length)
        assert len(rows) and all((row["labels"] >= 0).any() for row in rows)


def test_tokens_that_know_no_parts_learn_from_music_that_has_some(songs, tmp_path):
    pytest.importorskip("miditok")
    tasks = dict(accompany_share=0.5, fill_share=0.5, continue_share=0.0)
    corpus = prepare(songs, tmp_path / "corpus", tokenizer="miditok:REMI", **tasks)
    assert len(corpus.facts["parts"]) > 1
    rows = corpus.training_rows(512)
    words = {word for k in range(20) for word in corpus.tokenizer.to_words(rows[k]["input_ids"])}
    assert "Task_fill" in words and "Task_accompany" not in words


def test_a_split_is_a_hugging_face_dataset(tmp_path):
    datasets = pytest.importorskip("datasets")
    corpus = prepare(songs_folder(tmp_path, 4), tmp_path / "corpus")
    data = corpus.dataset("train", 128)
    assert isinstance(data, datasets.Dataset)
    assert set(data.column_names) == {"input_ids", "labels", "position_ids"}
    assert len(data) == len(corpus.evaluation_rows("train", 128))
    assert np.array_equal(data[0]["input_ids"], corpus.evaluation_rows("train", 128)[0]["input_ids"])


# --- real music ------------------------------------------------------------------------------------------------


def test_pop909_with_its_versions(tmp_path):
    (tmp_path / "midi").mkdir()
    source = real(tmp_path / "midi", "pop909/00*/**/*.mid", 24)
    corpus = prepare(source, tmp_path / "corpus")
    assert corpus.tokenizer.name == "remi"
    by_song = {}
    for piece in corpus.pieces:
        by_song.setdefault(piece.path.split("/")[1], set()).add(piece.split)
    assert len(by_song) >= 4
    assert all(len(splits) == 1 for splits in by_song.values())
    assert corpus.facts["chords"] == len(corpus)
    for row in islice(corpus.training_rows(512), 4):
        assert (row["labels"] >= 0).any()


@pytest.mark.parametrize("pattern", ["giantmidi/*.mid", "lieder/A*/**/*.mid"])
def test_real_music_comes_back_as_examined(tmp_path, pattern):
    (tmp_path / "midi").mkdir()
    source = real(tmp_path / "midi", pattern, 4)
    corpus = prepare(source, tmp_path / "corpus", PrepareSettings(tokenizer="performance"))
    report = inspect(source, chords="recognise")
    assert [corpus.score(index) for index in range(len(corpus))] == [finding.score for finding in report.usable]
    assert sum(piece.notes for piece in corpus.pieces) == corpus.facts["notes"] > 1000
