"""Evaluation: nats that add up, yardsticks that real music passes and noise does not, and a page that is one file."""

import io
import itertools
import json
import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from folders import tune
from rich.console import Console

from woodshed.cli import main
from woodshed.errors import InputError, RunError
from woodshed.statistics import frechet_distance
from woodshed.symbolic.data.corpus import IGNORED, open_corpus
from woodshed.symbolic.data.prepare import prepare
from woodshed.symbolic.judging import evaluate_page
from woodshed.symbolic.judging.evaluate import evaluate
from woodshed.symbolic.judging.likelihood import hidden_state, kind_of, likelihood, same_mix
from woodshed.symbolic.judging.likeness import (
    compare_hidden,
    compare_histograms,
    compare_measures,
    inside_of_others,
    overall,
)
from woodshed.symbolic.learning.train import train
from woodshed.symbolic.music.chords import lay_out, parse_progression
from woodshed.symbolic.music.midi import write_midi
from woodshed.symbolic.music.score import Score, Track
from woodshed.symbolic.playing.excerpts import Excerpt, cut_excerpts, first, play, stage_of
from woodshed.symbolic.playing.takes import Take
from woodshed.symbolic.run import Run, open_run


def short(corpus) -> dict:
    """Four bars, or eight seconds where there are none."""
    return {"bars": 4} if corpus.tokenizer.needs_bars else {"seconds": 8}


@pytest.fixture(scope="session")
def corpus(run):
    return open_corpus(run.parent / "corpus")


@pytest.fixture(scope="session")
def found(run, corpus):
    """Five takes beside the pieces the run has learned: the test split of eight songs is one song."""
    return evaluate(run, corpus, split="train", takes=5, **short(corpus))


# --- likelihood ------------------------------------------------------------------------------------------------


def test_nats_are_those_of_the_rows_one_by_one_and_add_up(run, corpus, found):
    import torch

    told = found.facts["likelihood"]
    model, rows = open_run(run).model(), corpus.evaluation_rows("train", told["max_seq_len"])
    nats = tokens = 0
    for row in rows:
        ids, positions = (torch.as_tensor(row[name])[None] for name in ("input_ids", "position_ids"))
        with torch.inference_mode():
            chances = model(input_ids=ids, position_ids=positions).logits[0].log_softmax(-1).numpy()
        at = np.flatnonzero(row["labels"][1:] != IGNORED)
        nats -= chances[at, row["labels"][at + 1]].sum()
        tokens += len(at)
    assert tokens == told["tokens"] == sum(kind["tokens"] for kind in told["by_kind"].values())
    assert tokens == sum(place["tokens"] for place in told["by_place"])
    spent = sum(place["tokens"] * place["nats_per_token"] for place in told["by_place"] if place["tokens"])
    assert spent == pytest.approx(nats, rel=1e-5)
    assert told["nats_per_token"] == pytest.approx(nats / tokens, rel=1e-5)
    assert told["nats_per_note"] == pytest.approx(nats / rows.notes, rel=1e-5)
    assert told["nats_per_second"] == pytest.approx(nats / rows.seconds, rel=1e-5)
    assert sum(kind["nats_per_note"] for kind in told["by_kind"].values()) == pytest.approx(told["nats_per_note"])
    assert {"pitch", "duration"} <= told["by_kind"].keys() or {"note on", "note off"} <= told["by_kind"].keys()


class Guess:
    """A model that finds every id equally likely."""

    device = "cpu"

    def __init__(self, size):
        self.size = size

    def forward(self, input_ids):
        import torch

        return SimpleNamespace(logits=torch.zeros(*input_ids.shape, self.size))

    __call__ = forward


def test_who_knows_nothing_needs_the_logarithm_of_the_vocabulary(corpus):
    shares, tokenizer = [], corpus.tokenizer
    rows, report = corpus.evaluation_rows("train", 256), lambda now: shares.append(now.share)
    told = likelihood(Guess(tokenizer.vocab_size), rows, tokenizer, report=report)
    assert told["nats_per_token"] == pytest.approx(math.log(tokenizer.vocab_size), rel=1e-6)
    assert [place["nats_per_token"] for place in told["by_place"]] == pytest.approx([told["nats_per_token"]] * 4)
    assert shares == sorted(shares) and shares[-1] == 1


def test_a_place_is_not_hard_for_the_kinds_that_stand_there():
    counts = np.array([[90, 10, 0], [10, 90, 0], [0, 0, 0]])
    assert same_mix(counts * [1.0, 3.0, 0.0], counts) == [2, 2, None]
    assert same_mix(counts * [[1.0, 3.0, 0.0], [0.5, 1.5, 0.0], [0, 0, 0]], counts) == [2, 1, None]
    assert same_mix(np.array([[4.0, 0.0], [4.0, 8.0]]), np.array([[4, 0], [4, 8]])) == [1, 1]


def test_words_have_a_kind():
    words = {
        "Pitch_60": "pitch",
        "NOTE_ON_60": "note on",
        "Chord_C:maj7": "chord",
        "EOS": "eos",
        "TimeSig_4/4": "timesig",
    }
    assert {word: kind_of(word) for word in words} == words


# --- excerpts --------------------------------------------------------------------------------------------------


def test_excerpts_are_whole_windows_and_short_pieces_are_counted(corpus):
    count = len(corpus.split("train"))
    excerpts, shorter = cut_excerpts(corpus, "train", 4)
    assert shorter == 0 and {excerpt.piece for excerpt in excerpts} == set(corpus.split("train"))
    for excerpt in excerpts:
        assert len(excerpt.score.notes) and len(excerpt.score.seams()) - 1 <= 4
        assert first(excerpt.score, corpus.tokenizer, 4) == excerpt.score
    whole, shorter = cut_excerpts(corpus, "train", 1000)
    assert shorter == count == len(whole)
    notes = sum(len(excerpt.score.notes) for excerpt in whole)
    assert 0.8 * notes < sum(len(excerpt.score.notes) for excerpt in excerpts) <= notes


def test_silent_stretches_are_no_excerpts(corpus):
    late = tune(1).replace(notes=[(at + 20 * 1920, *rest) for at, *rest in tune(1).notes.tolist()])  # 40 s later
    shelf = SimpleNamespace(split=lambda name: [0], score=lambda index: late, tokenizer=corpus.tokenizer)
    excerpts, _ = cut_excerpts(shelf, "test", 4)
    assert all(len(excerpt.score.notes) for excerpt in excerpts)
    assert len(excerpts) == 7 if corpus.tokenizer.needs_bars else len(excerpts) == 15  # 30 bars, 60 seconds


def test_takes_over_many_excerpts_need_the_model_once_and_are_what_they_would_be_alone(run, corpus, monkeypatch):
    loaded, model = [], Run.model
    monkeypatch.setattr(Run, "model", lambda self, **how: loaded.append(1) or model(self, **how))
    music = cut_excerpts(corpus, "train", 2)[0][0].score
    takes = play(open_run(run), [music], 2, takes=5, seed=1, temperature="1")
    assert len(loaded) == 1 and len(takes) == 5
    alone = play(open_run(run), [music], 2, takes=1, seed=5, temperature="1")
    assert takes[4].score == alone[0].score and takes[4].digests == alone[0].digests


def test_a_chart_holds_the_chords_of_its_excerpt():
    bars = parse_progression("| N.C. / C / | C Am7/G F#m7b5 / | / / / Db | % |")
    score = tune(notes=32, metres=[(0, 4, 4)], tempos=[(0, 600_000)])
    score = score.replace(chords=lay_out(bars, score.bars()))
    asked = stage_of(score)
    assert asked["bpm"] == 100 and asked["metre"] == "4/4"
    again = score.replace(chords=lay_out(parse_progression(asked["chords"]), score.bars()))
    assert again == score
    waltz = stage_of(tune(notes=32, metres=[(0, 3, 4)]))
    assert waltz["metre"] == "3/4" and waltz["chords"].count("N.C.") == len(tune(notes=32).beats()) // 3 + 1


# --- measures --------------------------------------------------------------------------------------------------


def inside_one_by_one(values, pieces):
    count = 0
    for value, piece in zip(values, pieces, strict=True):
        others = sorted(other for other, its in zip(values, pieces, strict=True) if its != piece)
        count += np.percentile(others, 5) <= value <= np.percentile(others, 95)
    return count / len(values)


def test_real_pieces_are_judged_by_the_others():
    rng = np.random.default_rng(0)
    values, pieces = rng.normal(size=60), np.repeat(np.arange(20), 3)
    assert inside_of_others(values, pieces) == inside_one_by_one(values, pieces)
    assert 0.84 < inside_of_others(rng.normal(size=2000), np.arange(2000)) < 0.92
    # pieces that are each of their own kind: what is inside of one tells nothing about another
    assert inside_of_others(np.repeat([0.0, 10.0, 20.0], 5), np.repeat([0, 1, 2], 5)) == pytest.approx(1 / 3)
    assert inside_of_others(values, np.zeros(60)) is None


def shelf_of(scores, windows=2):
    return [Excerpt(piece, score) for piece, score in enumerate(scores) for _ in range(windows)]


def noise(seed):
    rng = np.random.default_rng(seed)
    rows = [(rng.integers(0, 7680), 30, rng.integers(0, 128), 64, 0) for _ in range(300)]
    return Score(rows).without_overlaps()


def test_music_of_the_same_kind_passes_and_noise_does_not():
    real = shelf_of([tune(seed, notes=64) for seed in range(30)])
    alike = compare_measures([tune(seed, notes=64) for seed in range(100, 130)], real)
    assert 0.85 < overall(alike)["pass_rate"] < 1.1
    strange = compare_measures([noise(seed) for seed in range(10)], real)
    assert overall(strange)["pass_rate"] < 0.5 and strange["notes_per_bar"]["pass_rate"] == 0
    same = compare_histograms([excerpt.score for excerpt in real], real)
    far = compare_histograms([noise(0)], real)
    for name, told in same.items():
        assert told["overlapped_area"] == pytest.approx(1) and told["kl_divergence"] == pytest.approx(0, abs=1e-9)
        assert far[name]["overlapped_area"] < told["halves"]["overlapped_area"] <= 1, name
        assert far[name]["kl_divergence"] > told["halves"]["kl_divergence"] >= 0, name


def test_music_without_pitches_has_a_picture_all_the_same():
    drums = tune(tracks=(Track("Kit", 0, True, "drums"),))
    told = compare_histograms([drums], shelf_of([drums]))
    assert not sum(told["pitch"]["real"]) and evaluate_page._histograms(told, "quarters")


def test_a_silent_take_is_never_inside():
    real = shelf_of([tune(seed, notes=64) for seed in range(6)])
    half = compare_measures([tune(1, notes=64), Score()], real)
    assert all(told["takes_inside"] <= 0.5 for told in half.values())
    none = compare_measures([Score()], real)
    assert all(told["takes"] is None and told["takes_inside"] == 0 for told in none.values())


# --- hidden states ---------------------------------------------------------------------------------------------


def test_frechet_is_the_distance_of_gaussians():
    rng = np.random.default_rng(0)
    one, other = rng.normal(3, 2, (40, 1)), rng.normal(-1, 5, (70, 1))
    exact = (one.mean() - other.mean()) ** 2 + (one.std() - other.std()) ** 2
    assert frechet_distance(one, other) == pytest.approx(exact)
    cloud = rng.normal(size=(50, 6)) @ rng.normal(size=(6, 6))
    assert frechet_distance(cloud, cloud) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(cloud, cloud + 2) == pytest.approx(6 * 4)
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    apart = frechet_distance(cloud, one[:, [0] * 6] + cloud[:40])
    assert frechet_distance(cloud @ turn, (one[:, [0] * 6] + cloud[:40]) @ turn) == pytest.approx(apart)
    wide, scales = rng.normal(size=(20_000, 4)), np.array([1.0, 2.0, 3.0, 4.0])
    assert frechet_distance(wide, rng.normal(size=(20_000, 4)) * scales) == pytest.approx(
        ((scales - 1) ** 2).sum(), rel=0.05
    )
    assert np.isfinite(frechet_distance(np.ones((4, 3)), rng.normal(size=(5, 3))))


def test_takes_like_real_music_are_as_far_from_it_as_it_is_from_itself():
    rng = np.random.default_rng(1)
    real = [Excerpt(piece, tune(piece, notes=8)) for piece in range(80)]
    takes = [tune(100 + seed, notes=8) for seed in range(40)]
    alike = compare_hidden(takes, real, lambda score: rng.normal(size=16))
    assert 0.8 < alike["ratio"] < 1.25 and alike["samples"] == [40, 40] and alike["width"] == 16
    ours = {id(take) for take in takes}
    apart = compare_hidden(takes, real, lambda score: rng.normal(size=16) + (2 if id(score) in ours else 0))
    assert apart["ratio"] > 3
    assert compare_hidden(takes[:3], real, lambda score: rng.normal(size=16))["distance"] is None


def test_a_hidden_state_is_the_mean_over_ids_however_long_the_rows(run, corpus):
    import torch

    model, tokenizer = open_run(run).model(), corpus.tokenizer
    score = cut_excerpts(corpus, "train", 4)[0][0].score
    ids = torch.as_tensor(tokenizer.encode(score))[None]
    with torch.inference_mode():
        states = model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0, 1:]
    pooled = hidden_state(model, tokenizer, 512, score)
    assert pooled == pytest.approx(states.double().mean(0).numpy(), abs=1e-5)
    assert np.isfinite(hidden_state(model, tokenizer, 48, score)).all()


# --- the whole -------------------------------------------------------------------------------------------------


def test_everything_is_told(run, corpus, found):
    facts = found.facts
    assert facts["takes"]["count"] == 5 == len(found.takes) and facts["excerpts"]["count"] == len(found.excerpts)
    assert facts["remarks"] == ["The run has learned these very pieces."]
    assert facts["frechet"]["width"] == 32 and len(facts["histograms"]) == 4
    barless = {"recurrence", "groove_consistency", "self_similarity_1", "notes_per_bar"}
    assert (
        barless <= facts["measures"].keys() if corpus.tokenizer.needs_bars else not barless & facts["measures"].keys()
    )
    assert {"polyphony", "pitch_class_entropy"} <= facts["measures"].keys()
    for told in facts["measures"].values():
        assert told["real"] == sorted(told["real"]) and len(told["values"]["takes"]) == 5
        assert 0 <= told["takes_inside"] <= 1 and 0 <= told["real_inside"] <= 1
    assert corpus.music["chords"] and len(facts["takes"]["charts"]) == 2
    for take in found.played:
        assert lay_out(parse_progression(take.settings["chords"]), [0, 4])[0]["root"] == take.score.chords["root"][0]
    assert [take.seed for take in found.played] == [0, 1, 2, 3, 4]


def test_the_same_seed_finds_the_same(run, corpus, found):
    if corpus.tokenizer.name != "remi":
        pytest.skip("once is enough")
    shares = []
    settings = {"split": "train", "takes": 5} | short(corpus)
    again = evaluate(run, corpus, report=lambda now: shares.append(now.share), **settings)
    assert again.facts == found.facts
    assert shares == sorted(shares) and shares[0] < 0.3 and shares[-1] == 1


def test_without_takes_the_real_music_is_measured(run, corpus):
    facts = evaluate(run, corpus, takes=0, **short(corpus)).facts
    assert "frechet" not in facts and facts["likelihood"]["nats_per_note"] > 0 and facts["takes"]["count"] == 0
    assert facts["measures"]["polyphony"]["takes_inside"] is None and facts["measures"]["polyphony"]["real"]
    assert facts["overall"]["pass_rate"] is None and "overlapped_area" not in facts["histograms"]["pitch"]
    assert facts["measures"]["polyphony"]["real_inside"] is None  # a single piece has no others


def test_an_adapter_is_judged_by_its_base(run, corpus, tmp_path):
    shortest = dict(max_steps=1, batch_size=1, max_seq_len=64, eval_rows=1, threads=1)
    adapted = train(corpus, tmp_path / "adapted", base=str(run), **shortest)
    for seed in range(2):
        write_midi(tune(seed + 50), tmp_path / f"{seed}.mid")
    facts = evaluate(adapted, corpus, split="train", takes_dir=tmp_path, **short(corpus)).facts
    assert facts["frechet"]["judge"] == Path(run).name


def test_takes_from_a_folder(run, corpus, tmp_path):
    for seed in range(4):
        write_midi(tune(seed + 50, notes=16 if seed else 240), tmp_path / f"{seed}.mid")
    (tmp_path / "._0.mid").write_bytes(b"\0\5\26\7")  # of macOS
    facts = evaluate(run, corpus, split="train", takes_dir=tmp_path, judge=run, **short(corpus)).facts
    assert "temperature" not in facts["settings"] and facts["settings"]["split"] == "train"
    assert facts["takes"] == {"count": 4, "silent": 0, "short": 3, "names": [f"{seed}.mid" for seed in range(4)]}
    assert len(facts["measures"]["polyphony"]["values"]["takes"]) == 4 and facts["frechet"]["judge"] == "run"


def test_of_takes_in_a_file_what_was_written_is_measured(run, corpus, tmp_path):
    whole = tune(50, notes=240)
    take = Take(whole, 16, 1, 1.0, {}, run="my-style", region=tuple(whole.bars()[[-3, -1]].tolist()))
    take.write(tmp_path / "take-1")
    facts = evaluate(run, corpus, split="train", takes_dir=tmp_path, judge=run, **short(corpus)).facts
    assert facts["takes"]["count"] == facts["takes"]["short"] == 1


def test_what_cannot_be_evaluated_is_refused_by_name(run, corpus, songs, tmp_path):
    barless = not corpus.tokenizer.needs_bars
    wrong = [
        (dict(split="exam"), "split 'exam'"),
        (dict(takes=-1), "--takes -1"),
        (dict(bars=0), "--bars 0"),
        (dict(seconds=4000), "--seconds 4000"),
        (dict(bars=4), "know no bars") if barless else (dict(seconds=8), "count bars"),
        (dict(temperature="hot"), "--temperature 'hot'"),
        (dict(takes_dir=tmp_path), "--takes-dir"),
        (dict(takes_dir=tmp_path, temperature="0.8"), "--temperature is for takes that are played now"),
        (dict(takes=1, device="meta"), "--device meta: choose from auto"),
        (dict(take=3), "did you mean 'takes'"),
    ]
    for changes, message in wrong:
        with pytest.raises(InputError, match=message):
            evaluate(run, corpus, **changes)
    other = prepare(songs, tmp_path / "other", tokenizer="remi" if barless else "performance", fractions="0.9,0.1")
    with pytest.raises(RunError, match=r"its tokens are .*; give the corpus"):
        evaluate(run, other)
    with pytest.raises(InputError, match=r"--split test.*choose train or validation"):
        evaluate(run, prepare(songs, tmp_path / "same", tokenizer=corpus.tokenizer.name, fractions="0.9,0.1"))


# --- the page --------------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """What stands in a page: images, links to elsewhere, and text; an error for tags that do not match."""

    def __init__(self):
        super().__init__()
        self.open, self.images, self.elsewhere, self.told = [], [], [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.open += [] if tag in ("img", "meta") else [tag]
        self.images += [attributes["src"]] if tag == "img" else []
        self.elsewhere += [value for value in attributes.values() if value and value.startswith(("http", "//", "file"))]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.told.append(data)


def test_the_page_is_one_file_and_obeys_no_name(found, tmp_path):
    found = replace(found, facts=found.facts | {"run": "<script>alert(1)</script>"})
    folder = evaluate_page.save(found, tmp_path / "out")
    reader = Reader()
    reader.feed((folder / "index.html").read_text(encoding="utf-8"))
    assert not reader.open and not reader.elsewhere and "script" not in reader.open
    assert len(reader.images) == 3 + 4 + 2 == len(list(folder.glob("*.png")))
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in reader.images)
    assert any("<script>alert(1)</script> beside" in text for text in reader.told)
    assert json.loads((folder / "evaluation.json").read_text(encoding="utf-8")) == found.facts
    assert sorted(path.name for path in (folder / "takes").glob("*.mid")) == [f"take-{n}.mid" for n in range(1, 6)]


def test_nothing_is_overwritten_and_nothing_half_written_stays(found, tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate_page, "pictures", lambda found: dict.fromkeys(("loss", "measures", "histograms"), b""))
    assert [evaluate_page.save(found, tmp_path).name for _ in range(2)] == ["001", "002"]
    calls = itertools.count()

    def stopped(path, data):
        if next(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(evaluate_page, "write_file", stopped)
    with pytest.raises(KeyboardInterrupt):
        evaluate_page.save(found, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["001", "002"]


def test_the_table_fits_a_terminal(found):
    console = Console(file=io.StringIO(), width=80)
    console.print(evaluate_page.render(found))
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert (
        "\npitch class entropy " in text
        and "nats a token along a row" in text
        and "Frechet" in text
        and "…" not in text
    )


def test_the_command(run, corpus, tmp_path, capsys):
    if corpus.tokenizer.name != "remi":
        pytest.skip("once is enough")
    flags = ["--takes", "0", "--bars", "4", "--out", str(tmp_path), "--json", str(tmp_path / "figures.json")]
    main(["evaluate", str(run), str(corpus.folder), *flags])
    out = capsys.readouterr().out
    assert "0 takes beside" in out and "nats:" in out and str(tmp_path / "001" / "index.html") in out
    assert json.loads((tmp_path / "figures.json").read_text())["likelihood"]["tokens"] > 0
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(run), str(corpus.folder), *flags])
    assert stop.value.code == 1 and "--json" in capsys.readouterr().err
    assert not (tmp_path / "002").exists()
