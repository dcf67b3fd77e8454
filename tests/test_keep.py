"""Kept takes: copied and never overwritten; learned from, and nothing that judges moves because of them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import HANDS
from folders import songs_folder, tune
from test_grid import moved
from test_grid import song as pop
from test_originality import bars, disguised

from woodshed.cli import main
from woodshed.errors import FileError, InputError
from woodshed.symbolic.data.corpus import open_corpus
from woodshed.symbolic.data.kept import read_learned
from woodshed.symbolic.data.originality import Index, originality_index
from woodshed.symbolic.data.prepare import changed_sources, corpus_lines, prepare
from woodshed.symbolic.data.take_files import read_stretch, read_written, take_facts
from woodshed.symbolic.judging.diagnoses import little_music
from woodshed.symbolic.music.midi import read_midi, write_midi
from woodshed.symbolic.music.score import Score
from woodshed.symbolic.playing.keep import keep
from woodshed.symbolic.playing.takes import Take
from woodshed.symbolic.run import weights_digest


def played(path, score, run="my-style", *, home=None, prompt=None, **more):
    """A take on disk, of a run that is no more than a name."""
    home = home or path.parents[2]
    home.mkdir(parents=True, exist_ok=True)
    (home / "run.json").write_text("{}")
    path.parent.mkdir(parents=True, exist_ok=True)
    settings = {"prompt": str(prompt)} if prompt else {}
    Take(score, len(score.notes), 1, 1.0, settings, run=run, **more).write(path)
    return path.with_name(f"{path.name}.mid")


def takes_of(tmp_path, *scores):
    """The run my-style with some takes, all kept."""
    paths = [played(tmp_path / "my-style" / "takes" / f"{n:03d}" / "take", one) for n, one in enumerate(scores)]
    keep(paths)
    return tmp_path / "my-style"


def after(score: Score, more: Score) -> tuple[Score, int]:
    """A score with another after its last bar line, and the tick of that."""
    begin = int(score.bars()[-1])
    notes = more.notes.copy()
    notes["onset"] += begin
    return score.replace(notes=np.concatenate([score.notes, notes])), begin


# --- keeping -------------------------------------------------------------------------------------------------------


def test_takes_are_copied_with_their_facts_and_never_overwritten(tmp_path):
    one, two = (played(tmp_path / "my-style" / "takes" / name / "take-1", tune(int(name))) for name in ("001", "002"))
    first, second, again = (kept for path in (one, two, one) for kept in keep(path))
    folder = tmp_path / "my-style" / "kept"
    assert (first.path, first.before) == (folder / "take-1.mid", False)
    assert (second.path, second.before) == (folder / "take-1-2.mid", False)
    assert (again.path, again.before) == (first.path, True)
    for kept in (first, second):
        assert kept.path.read_bytes() == kept.take.read_bytes()
        assert kept.path.with_suffix(".json").read_bytes() == kept.take.with_suffix(".json").read_bytes()
    assert len(list(folder.iterdir())) == 4
    first.path.rename(folder / "mine.mid")
    assert keep(one)[0] == (one, folder / "mine.mid", True)


def test_a_folder_a_json_and_a_part_by_itself_are_the_take(tmp_path):
    score = tune(1, tracks=HANDS)
    path = played(tmp_path / "my-style" / "takes" / "001" / "take-1", score, alone={"melody": score})
    for asked in (path.parent, path.with_suffix(".json"), path.with_name("take-1-melody.mid"), [path, path.parent]):
        assert [kept.take for kept in keep(asked)] == [path]
    assert len(list((tmp_path / "my-style" / "kept").glob("*.mid"))) == 1


def test_a_take_without_its_json_says_itself_how_it_was_made(tmp_path):
    score, begin = after(tune(1), tune(2, notes=64))
    path = played(tmp_path / "my-style" / "takes" / "001" / "take", score, region=(begin, score.end))
    path.with_suffix(".json").unlink()
    kept = keep(path)[0].path
    assert json.loads(kept.with_suffix(".json").read_text())["region_quarters"][0] == begin / score.ticks_per_quarter
    assert len(read_learned(path).notes) == len(read_learned(kept).notes) == 64


def test_what_a_take_says_that_is_no_stretch_of_music_is_passed_over(tmp_path):
    write_midi(tune(1), path := tmp_path / "take.mid")
    for said in ("[0, Infinity]", "[NaN, 1]", '["a", 1]', "[0]", "[" * 10**5):
        path.with_suffix(".json").write_text(f'{{"region_quarters": {said}}}')
        assert read_stretch(path) == read_written(path)[0]
    path.with_suffix(".json").unlink()
    write_midi(tune(1), path, ["woodshed seed: " + "[" * 10**5])
    with pytest.raises(FileError, match="it does not say how it was made"):
        take_facts(path)


def test_the_run_is_found_by_its_name_or_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    renamed = played(tmp_path / "renamed" / "takes" / "001" / "take", tune(1), run="my-style")
    assert keep(renamed)[0].path == tmp_path / "renamed" / "kept" / "take.mid"
    played(tmp_path / "my-style" / "takes" / "001" / "take", tune(2))  # another run that has the name now
    again = played(tmp_path / "renamed" / "takes" / "002" / "other", tune(4), run="my-style")
    assert keep(again)[0].path == tmp_path / "renamed" / "kept" / "other.mid"
    (tmp_path / "my-style" / "model.safetensors").write_bytes(b"weights")
    digests = {"weights": weights_digest(tmp_path / "my-style")}
    lent = played(tmp_path / "renamed" / "lent" / "take", tune(5), home=tmp_path / "renamed", digests=digests)
    assert keep(lent)[0].path == Path("my-style") / "kept" / "take.mid"  # by its weights
    led = played(tmp_path / "led" / "take", tune(6), run="../renamed", home=tmp_path / "renamed")
    monkeypatch.chdir(tmp_path / "my-style")
    with pytest.raises(InputError, match="give --run RUN"):
        keep(led)  # a name leads nowhere else
    monkeypatch.chdir(tmp_path)
    shutil.rmtree(tmp_path / "my-style")
    base = played(tmp_path / "piano-3" / "takes" / "001" / "take", tune(1), run="piano-3")
    (tmp_path / "piano-3" / "run.json").unlink()  # a folder of its name, for its takes
    assert keep(base)[0].path == tmp_path / "piano-3" / "kept" / "take.mid"
    away = played(tmp_path / "a" / "b" / "c" / "take", tune(3))
    (tmp_path / "a" / "run.json").unlink()
    with pytest.raises(InputError, match=r"the run my-style that played it is neither above it .* give --run RUN"):
        keep([base, away])
    assert keep(away, run="piano-3")[0].path == keep(away, run="piano")[0].path


def test_what_is_no_take_is_refused_before_any_is_kept(tmp_path):
    take = played(tmp_path / "my-style" / "takes" / "001" / "take", tune(1))
    write_midi(tune(2), tmp_path / "song.mid")
    for wrong, told in ((tmp_path / "song.mid", "no take of woodshed"), (tmp_path / "gone.mid", "no such file")):
        with pytest.raises(FileError, match=told):
            keep([take, wrong])
    with pytest.raises(InputError, match="no takes to keep"):
        keep([])
    assert not (tmp_path / "my-style" / "kept").exists()


# --- learning from them --------------------------------------------------------------------------------------------


def test_kept_takes_are_trained_on_and_all_else_stays_where_it_was(tmp_path):
    source, style = songs_folder(tmp_path, 12), takes_of(tmp_path, *(tune(seed, notes=96) for seed in (50, 51)))
    plain = prepare(source, tmp_path / "plain")
    corpus = prepare(source, tmp_path / "corpus", kept=[style], kept_weight=2.5)
    takes = [piece for piece in corpus.pieces if piece.kept]
    assert [(one.split, one.kept, one.weight) for one in takes] == [("train", "my-style", 2.5)] * 2
    assert [one.path for one in takes] == ["../my-style/kept/take-2.mid", "../my-style/kept/take.mid"]
    assert corpus.own == plain.pieces and corpus.music == plain.music
    assert open_corpus(corpus.folder).pieces == corpus.pieces
    rows = corpus.training_rows(256)
    assert {corpus.pieces[piece].kept for piece in rows.pieces} == {"", "my-style"}
    share = sum(one.ids for one in takes) * 2.5 / (rows.edges[-1])
    assert f"kept takes: 2 of the pieces, all in train, {100 * share:.0f} % of what is drawn" in "".join(
        corpus_lines(corpus)
    )
    assert changed_sources(corpus, source) == {}
    one = prepare(source, tmp_path / "one", kept=[str(style / "kept")])  # a folder, alone
    assert len(one.pieces) == len(corpus.pieces) and "kept" not in plain.settings


def test_of_a_take_with_a_prompt_only_what_was_written_is_learned(tmp_path):
    source, new = songs_folder(tmp_path, 12), tune(60, notes=96)
    plain = prepare(source, tmp_path / "plain", keep_grid=True)
    prompts = [plain.pieces[plain.split(split)[0]].path for split in ("train", "test")]
    paths = []
    for number, prompt in enumerate(prompts):
        whole, begin = after(read_midi(source / prompt), tune(60 + number, notes=96))
        told = dict(prompt=source / prompt, region=(begin, whole.end))
        paths.append(played(tmp_path / "my-style" / "takes" / f"{number}" / f"take-{number}", whole, **told))
    keep(paths)
    corpus = prepare(source, tmp_path / "corpus", keep_grid=True, kept=[tmp_path / "my-style"])
    (index,) = [number for number, piece in enumerate(corpus.pieces) if piece.kept]
    assert corpus.score(index).notes["pitch"].tolist() == new.notes["pitch"].tolist()
    assert corpus.pieces[index].song == next(piece.song for piece in corpus.own if piece.path == prompts[0])
    (row,) = [row for row in corpus.skipped if row["kept"]]
    assert (row["path"], row["reason"]) == ("../my-style/kept/take-1.mid", "held out") and prompts[1] in row["detail"]


def test_takes_like_other_files_are_left_out_as_these_are(tmp_path):
    source = songs_folder(tmp_path, 12)
    plain = prepare(source, tmp_path / "plain")
    train, test = (plain.score(plain.split(split)[0]) for split in ("train", "test"))
    quoted, _ = after(bars(test, 3, 12), tune(70, notes=32))  # no copy, but one that has learned it knows the song
    style = takes_of(tmp_path, train, train.transpose(3), tune(71), quoted, tune(72, notes=8))
    corpus = prepare(source, tmp_path / "corpus", kept=[style])
    assert corpus.own == plain.pieces and sum(bool(piece.kept) for piece in corpus.pieces) == 1
    reasons = {"duplicate", "near-duplicate", "held out", "short"}
    assert {row["reason"] for row in corpus.skipped if row["kept"]} == reasons


def test_bars_of_a_stretch_are_those_of_the_music_and_not_of_the_file(tmp_path):
    whole = moved(pop(bars=32), 240)
    region = (240 + 8 * 1920, 240 + 16 * 1920)
    path = played(tmp_path / "my-style" / "takes" / "001" / "take", whole, region=region, prompt="gone.mid")
    learned = read_learned(path)
    assert learned.notes.tolist() == pop(bars=32).slice(8 * 1920, 16 * 1920, cut=True).notes.tolist()
    assert len(learned.bars()) - 1 == 8 and learned.metres.tolist() == [(0, 4, 4)]


def test_kept_places_that_hold_nothing_are_named(tmp_path):
    source, run = songs_folder(tmp_path, 3), tmp_path / "run"
    (run / "takes").mkdir(parents=True)
    for place, told in (("gone", "no such folder"), ("run/takes", "no takes in it; woodshed keep")):
        with pytest.raises((InputError, FileError), match=told):
            prepare(source, tmp_path / "corpus", kept=[tmp_path / place])
    (run / "run.json").write_text("{}")
    with pytest.raises(InputError, match=r"no take of it was kept yet; woodshed keep TAKE.mid keeps one"):
        prepare(source, tmp_path / "corpus", kept=[run])
    with pytest.raises(InputError, match="--kept-weight 0"):
        prepare(source, tmp_path / "corpus", kept=[run], kept_weight=0)


def test_who_learns_mostly_from_takes_is_told(tmp_path):
    style = takes_of(tmp_path, *(tune(seed) for seed in range(50, 60)))
    corpus = prepare(songs_folder(tmp_path, 4), tmp_path / "corpus", kept=[style], kept_weight=2)
    (told,) = [remark for remark in corpus.facts["remarks"] if "--kept-weight" in remark]
    weight = float(told.split("--kept-weight ")[1].split()[0])
    less = [replace(piece, weight=weight) if piece.kept else piece for piece in corpus.pieces]
    drawn = [(piece.ids * piece.weight, piece.kept) for piece in less if piece.split == "train"]
    assert sum(much for much, kept in drawn if kept) / sum(much for much, _ in drawn) == pytest.approx(1 / 3, abs=0.02)


def test_takes_are_no_music_that_the_doctor_counts_for_yours(tmp_path):
    corpus = prepare(songs_folder(tmp_path, 4), tmp_path / "corpus", kept=[takes_of(tmp_path, tune(50))])
    told = little_music(SimpleNamespace(corpus=corpus, learned=corpus, settings={}, base="piano"))
    assert len(corpus) == 5 and "4 files, 4 minutes" in told.symptom


# --- originality ---------------------------------------------------------------------------------------------------


def test_a_take_that_repeats_a_kept_one_is_named_so(tmp_path):
    style = takes_of(tmp_path, tune(50, tracks=HANDS))
    corpus = prepare(songs_folder(tmp_path, 12), tmp_path / "corpus", kept=[style])
    report = originality_index(corpus).repeats(disguised(bars(tune(50, tracks=HANDS), 3, 8), 0))
    assert report.flagged and report.matches[0].kept and report.facts()["matches"][0]["kept"]
    assert "as in the kept take ../my-style/kept/take.mid bar 3" in str(report)
    own = originality_index(corpus).repeats(disguised(bars(corpus.score(corpus.split("train")[0]), 3, 8), 0))
    assert own.flagged and not own.matches[0].kept and "kept take" not in str(own)


def test_what_takes_have_of_a_piece_is_no_less_that_pieces():
    pieces, names = [tune(seed) for seed in range(8)], [f"{seed}.mid" for seed in range(8)]
    takes = [after(tune(60 + seed, notes=96), bars(pieces[0], 4, 4))[0] for seed in range(4)]
    copied = disguised(bars(pieces[0], 4, 4), 1)
    alone, lost = Index(pieces, names), Index([*pieces, *takes], [*names, *"abcd"])
    known = Index([*pieces, *takes], [*names, *"abcd"], kept="abcd")
    assert known.weight(copied) >= alone.weight(copied) > lost.weight(copied)
    assert known.matches(copied)[0].path == "0.mid"


# --- the door ------------------------------------------------------------------------------------------------------


def test_the_commands_keep_and_prepare(tmp_path, capsys):
    path = played(tmp_path / "my-style" / "takes" / "001" / "take", tune(50))
    for told in ("kept", "kept already"):
        main(["keep", str(path)])
        assert capsys.readouterr().out == f"{tmp_path / 'my-style' / 'kept' / 'take.mid'}: {told}\n"
    source = songs_folder(tmp_path, 4)
    main(["prepare", str(source), "--out", str(tmp_path / "corpus"), "--kept", str(tmp_path / "my-style")])
    assert "kept takes: 1 of the pieces" in capsys.readouterr().out
