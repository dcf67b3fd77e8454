"""Comparison: all models learn from the same rows, one that fails costs only its row, and the same call goes on."""

import io
import json
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console
from test_evaluate import Reader
from toys import TINY

from woodshed.cli import main
from woodshed.errors import InputError, RunError, WoodshedError
from woodshed.jobs import claimed
from woodshed.log import read_log
from woodshed.symbolic import models
from woodshed.symbolic.data.corpus import open_corpus
from woodshed.symbolic.data.prepare import prepare
from woodshed.symbolic.judging import compare, compare_page
from woodshed.symbolic.judging.alone import logged_costs, train_alone
from woodshed.symbolic.judging.compare import CompareSettings, Comparison, named_runs, planned
from woodshed.symbolic.judging.compare_page import draw_curves, file_names, thousands
from woodshed.symbolic.judging.evaluate import evaluate
from woodshed.symbolic.judging.standing import remarks, uneven
from woodshed.symbolic.learning.settings import TrainSettings
from woodshed.symbolic.learning.train import train
from woodshed.symbolic.run import open_run, read_facts
from woodshed.symbolic.tokenizers import make

# decoders of 4 and 8 layers that are otherwise as small; no lstm has heads
SMALL = '{"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "head_dim": 16}'
ARGS = (json.dumps({"model_args": [SMALL], "batch_size": 2, "learning_rate": 0.01, "threads": 1, "eval_steps": 2}),)
ASKED = {"models": "decoder:2m,lstm:2m,decoder:6m", "max_steps": 4, "max_seq_len": 256, "train_args": ARGS}
ASKED |= {"takes": 2, "bars": 4}


def test_the_help_names_every_model(capsys):
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    told = capsys.readouterr().out.split()
    assert all(any(word.strip(",;") == name for word in told) for name in models.names())


@pytest.fixture(scope="module")
def corpus(songs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare") / "corpus"
    prepare(songs, folder, tokenizer="remi", fractions="0.5,0.25,0.25")
    return open_corpus(folder)


def train_here(corpus, out, settings, *, report, errors, calls=None):
    """train_alone without the other process."""
    if calls is not None:
        calls.append((out.name, settings["resume"]))
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    try:
        train(corpus, out, TrainSettings(**settings), report=report)
    except WoodshedError as error:
        raise RunError(out, str(error)) from None


@pytest.fixture(scope="module")
def compared(corpus, tmp_path_factory):
    """A comparison of two tiny decoders and a model that cannot be made: what was found, where, and what was said."""
    out, told = tmp_path_factory.mktemp("compared") / "out", []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "train_alone", train_here)
        found = compare.compare(corpus, out, report=told.append, **ASKED)
    shares = [now.share for now in told if not now.message]
    assert shares == sorted(shares) and 0 < shares[0] < 0.2 and shares[-1] == pytest.approx(1)
    return found, out, [now.message for now in told if now.message]


# --- the same for all ------------------------------------------------------------------------------------------


def test_every_model_learns_from_the_same_rows(compared):
    found, out, _ = compared
    settings = [read_facts(out / "runs" / name)["settings"] for name in ("decoder-2m", "decoder-6m")]
    differing = {name for name in settings[0] if settings[0][name] != settings[1][name]}
    assert differing == {"size"} and all(one["base"] is None for one in settings)
    trained = [row["training"] for row in found.facts["rows"]]
    assert [one["ids"] for one in trained] == [4 * 2 * 256] * 2 and [one["step"] for one in trained] == [4, 4]
    assert [point["ids"] for point in trained[0]["curve"]] == [2 * 2 * 256, 4 * 2 * 256]
    assert [len(one["curve"]) for one in trained] == [2, 2] and trained[0]["ids_per_second"] > 0


def test_the_best_stands_first_and_its_figures_are_those_of_evaluate(compared, corpus):
    found, out, _ = compared
    rows = found.facts["rows"]
    assert [row["likelihood"]["nats_per_note"] for row in rows] == sorted(
        row["likelihood"]["nats_per_note"] for row in rows
    )
    assert {row["name"] for row in rows} == {"decoder-2m", "decoder-6m"} == set(found.takes)
    assert found.facts["split"] == "test" and len({row["likelihood"]["tokens"] for row in rows}) == 1
    for row in rows:
        told = evaluate(out / "runs" / row["name"], corpus, takes=2, bars=4).facts
        assert row["likelihood"] == told["likelihood"] and row["measures"] == told["measures"]
        model = open_run(row["run"]).model()
        assert row["parameters"] == sum(weight.numel() for weight in model.parameters())
        assert row["playing"]["engine"] == "LlamaStep" and row["playing"]["ids_per_second"] > 0
    assert found.facts["remarks"] == [f"Their parameters differ: {min_max(rows)}."]


def min_max(rows):
    counts = sorted(row["parameters"] for row in rows)
    return f"{counts[0]:,} to {counts[-1]:,}"


def test_a_model_that_fails_tells_why_and_costs_only_its_row(compared):
    found, _, said = compared
    assert list(found.facts["failed"]) == ["lstm-2m"] and "lstm has no setting" in found.facts["failed"]["lstm-2m"]
    assert any(line.startswith("lstm-2m: lstm has no setting") for line in said)
    assert any(line.startswith("decoder-6m: step 4, validation") for line in said)


def told_before(found):
    """standing.examined, with the figures that were found before."""
    rows = {row["run"]: {name: row[name] for name in row if name != "name"} for row in found.facts["rows"]}
    return lambda run, *_: (rows[str(run.folder)], found.takes[run.folder.name])


# --- going on --------------------------------------------------------------------------------------------------


def test_what_has_finished_is_not_trained_again_and_the_rest_is_resumed(compared, corpus, monkeypatch):
    found, out, _ = compared
    calls = []
    monkeypatch.setattr(compare, "train_alone", partial(train_here, calls=calls))
    facts = read_facts(out / "runs" / "decoder-6m")
    (out / "runs" / "decoder-6m" / "run.json").write_text(json.dumps(facts | {"finished": False}))
    monkeypatch.setattr(compare, "examined", told_before(found))
    again = compare.compare(corpus, out, **ASKED)
    assert calls == [("lstm-2m", False), ("decoder-6m", True)]
    assert again.facts["rows"] == found.facts["rows"] and list(again.facts["failed"]) == ["lstm-2m"]
    assert read_facts(out / "runs" / "decoder-6m")["finished"]


def test_ctrl_c_goes_up_and_what_was_asked_is_kept(corpus, tmp_path, monkeypatch):
    def stopped(*args, **keywords):
        raise KeyboardInterrupt

    said = []
    monkeypatch.setattr(compare, "train_alone", stopped)
    with pytest.raises(KeyboardInterrupt):
        compare.compare(corpus, tmp_path / "out", report=lambda now: said.append(now.message), **ASKED)
    assert said == ["decoder-2m: stopped; the same command goes on from what is saved"]
    entries, plan = planned(corpus, tmp_path / "out", CompareSettings(**ASKED))
    assert plan["threads"] == 1 and [entry.name for entry in entries] == ["decoder-2m", "lstm-2m", "decoder-6m"]
    assert all(
        entry.training == plan | {"model": entry.training["model"], "size": entry.name[-2:]} for entry in entries
    )
    with pytest.raises(InputError, match="holds a comparison with --max-steps 4, now it is 5"):
        planned(corpus, tmp_path / "out", CompareSettings(**ASKED | {"max_steps": 5}))
    more = planned(corpus, tmp_path / "out", CompareSettings(**ASKED | {"models": "decoder,music_gpt2"}))[0]
    assert [entry.name for entry in more] == ["decoder-6m", "music_gpt2-6m"]


def test_threads_are_counted_once(corpus, tmp_path, monkeypatch):
    asked = CompareSettings(models="decoder,lstm")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".DS_Store").touch()  # of macOS: the folder counts as empty
    monkeypatch.setattr(compare, "free_threads", lambda: 3)
    plan = planned(corpus, tmp_path / "out", asked)[1]
    monkeypatch.setattr(compare, "free_threads", lambda: 1)
    assert planned(corpus, tmp_path / "out", asked)[1] == plan and plan["threads"] == 3 and plan["max_minutes"] == 10


# --- a process of its own --------------------------------------------------------------------------------------


def test_a_stopped_training_is_saved_and_goes_on_and_its_memory_is_logged(corpus, tmp_path):
    settings = TINY | {"base": "none", "max_seq_len": 256, "max_steps": 400, "eval_steps": 200}
    told, out, errors = [], tmp_path / "run", tmp_path / "run.txt"

    def interrupt(progress):
        told.append(progress)
        if progress.step >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_alone(corpus.folder, out, settings, report=interrupt, errors=errors)
    assert not read_facts(out)["finished"] and any("parameters" in progress.message for progress in told)
    reached = read_facts(out)["step"]
    assert 2 <= reached < 400 and not errors.exists()
    costs = logged_costs(read_log(out / "log.jsonl"))
    assert 0.5 < costs["processor_seconds"] < 100
    assert costs["peak_memory"] is None or 50 * 2**20 < costs["peak_memory"] < 8 * 2**30
    train(corpus, out, TrainSettings(**settings | {"resume": True, "max_steps": reached + 1}))
    assert read_facts(out)["finished"] and read_facts(out)["step"] == reached + 1
    assert logged_costs(read_log(out / "log.jsonl")) == costs
    assert logged_costs([costs, costs | {"peak_memory": 1}])["processor_seconds"] == 2 * costs["processor_seconds"]
    assert logged_costs([costs, {"peak_memory": 2**50}])["peak_memory"] == 2**50


def test_the_reason_comes_back(tmp_path):
    with pytest.raises(RunError, match="not a corpus") as trouble:
        train_alone(tmp_path, tmp_path / "run", {}, report=print, errors=tmp_path / "run.txt")
    assert "\n" not in trouble.value.reason and list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix", reason="a shell script")
@pytest.mark.parametrize(
    ("script", "reason"),
    [("kill -9 $$", "memory runs out"), ("echo one >&2; echo Oops: two >&2; exit 3", "Oops: two"), ("exit 4", "4")],
)
def test_how_it_died_is_told(script, reason, tmp_path, monkeypatch):
    shell = tmp_path / "python"
    shell.write_text(f"#!/bin/sh\n{script}\n")
    shell.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(shell))
    with pytest.raises(RunError, match=reason):
        train_alone(tmp_path, tmp_path / "run", {}, report=print, errors=tmp_path / "run.txt")
    assert (tmp_path / "run.txt").exists() == ("Oops" in script)


@pytest.mark.skipif(os.name != "posix", reason="a shell script")
def test_how_it_died_is_told_where_somebody_removed_what_it_said(tmp_path, monkeypatch):
    shell, errors = tmp_path / "python", tmp_path / "run.txt"
    shell.write_text(f"#!/bin/sh\nrm '{errors}'; exit 3\n")
    shell.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(shell))
    with pytest.raises(RunError, match="it ended with status 3 and said nothing"):
        train_alone(tmp_path, tmp_path / "run", {}, report=print, errors=errors)


def test_two_comparisons_do_not_train_into_one_folder(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "train_alone", lambda *args, **keywords: pytest.fail("it trains"))
    with claimed(tmp_path), pytest.raises(RunError, match="another training is writing into it"):
        compare.compare(corpus, tmp_path, **ASKED)
    assert not any(tmp_path.iterdir())
    with pytest.raises(InputError, match="--models"):
        compare.compare(corpus, tmp_path / "new", **ASKED | {"models": "nothing,lstm"})
    assert not any(tmp_path.iterdir())


def test_peak_memory_is_what_was_touched_and_stays():
    code = "import numpy as np; from woodshed.symbolic.judging.alone import peak_memory as peak; before = peak(); "
    code += "held = np.ones(2**24); during = peak(); del held; print(before, during, peak())"
    told = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    if told[0] == "None":
        pytest.skip("this system does not tell")
    before, during, after = map(int, told)
    assert 0.9 * 2**27 < during - before < 2**28
    assert after > 0.99 * during  # the system counts by and by


# --- what is refused -------------------------------------------------------------------------------------------


def test_what_cannot_be_compared_is_refused_before_anything_is_trained(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "train_alone", None)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep")
    wrong = [
        (dict(), "give either --models"),
        (dict(models="decoder,lstm", runs=("a", "b")), "give either --models .* both"),
        (dict(models="decoder,tuba"), "--models tuba: unknown model; choose from: .*decoder"),
        (dict(models="decoder"), "give two or more"),
        (dict(models="decoder,decoder:6m"), "each once"),
        (dict(models="decoder:../../x,lstm"), "a size is a word"),
        (dict(models="decoder,lstm", max_minutes=3, max_steps=3), "--max-minutes 3 and --max-steps 3"),
        (dict(models="decoder,lstm", max_minutes=-1), "--max-minutes -1"),
        (dict(models="decoder,lstm", max_minutes=0), "--max-minutes 0"),
        (dict(models="decoder,lstm", max_steps=0), "--max-steps 0"),
        (dict(models="decoder,lstm", takes=0), "--takes 0"),
        (dict(models="decoder,lstm", seconds=9), "count bars"),
        (dict(models="decoder,lstm", split="exam"), "split 'exam'"),
        (dict(models="decoder,lstm", train_args=("base=piano",)), "--train-args base"),
        (dict(models="decoder,lstm", train_args=("seed=1",)), "--train-args seed: set it with --seed"),
        (
            dict(models="decoder,lstm", train_args=("batch_size=many",)),
            "batch_size is .many.; give a number",
        ),
        (dict(models="decoder,lstm", train_args=("batchsize=1",)), "did you mean .batch_size."),
        (dict(model="decoder"), "did you mean 'models'"),
        (dict(runs=("a",)), "--runs a: give two or more"),
        (dict(runs=("a", "b"), max_minutes=1), "--max-minutes is for models to train"),
    ]
    for changes, message in wrong:
        with pytest.raises(InputError, match=message):
            compare.compare(corpus, tmp_path / "out", **changes)
    with pytest.raises(InputError, match="is not empty"):
        compare.compare(corpus, tmp_path / "full", models="decoder,lstm")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["full", "mine.txt"]


def test_a_folder_of_another_comparison_is_refused(corpus, songs, tmp_path):
    (tmp_path / "out").mkdir()
    planned(corpus, tmp_path / "out", CompareSettings(models="decoder,lstm"))
    other = open_corpus(prepare(songs, tmp_path / "other", tokenizer="remi", augment=True).folder)
    with pytest.raises(InputError, match="holds a comparison on corpus"):
        planned(other, tmp_path / "out", CompareSettings(models="decoder,lstm"))
    (tmp_path / "out" / "compare.json").write_text("[]")
    with pytest.raises(InputError, match=r"compare.json cannot be read"):
        planned(corpus, tmp_path / "out", CompareSettings(models="decoder,lstm"))


def test_where_no_model_can_be_trained_the_reasons_are_told(corpus, tmp_path, monkeypatch):
    def fails(corpus, out, settings, **more):
        raise RunError(out, f"no size {settings['size']}")

    monkeypatch.setattr(compare, "train_alone", fails)
    with pytest.raises(InputError, match="nothing to compare: decoder-1m: no size 1m; lstm-2m: no size 2m"):
        compare.compare(corpus, tmp_path / "out", models="decoder:1m,lstm:2m")


# --- runs that are there ---------------------------------------------------------------------------------------


def test_finished_runs_are_compared_and_other_tokens_refused(compared, corpus, tmp_path, monkeypatch):
    found, out, _ = compared
    monkeypatch.setattr(compare, "examined", told_before(found))
    folders = (out / "runs" / "decoder-2m", out / "runs" / "decoder-6m")
    again = compare.compare(corpus, tmp_path / "out", runs=folders, takes=2, bars=4)
    assert again.facts["rows"] == found.facts["rows"] and not (tmp_path / "out").exists()
    other, tokenizer = tmp_path / "other", make("performance")
    shutil.copytree(folders[0], other)
    tokenizer.save(other)
    facts = read_facts(other) | {"tokenizer": tokenizer.fingerprint}
    (other / "run.json").write_text(json.dumps(facts))
    with pytest.raises(RunError, match="its tokens are performance"):
        compare.compare(corpus, tmp_path / "out", runs=(folders[0], other))


def test_runs_of_the_same_name_are_told_apart():
    names = [entry.name for entry in named_runs((Path("a/run"), Path("b/run"), Path("c/other")))]
    assert names == ["a/run", "b/run", "other"]
    assert file_names([*names, "../..", "a-run"]) == {
        "a/run": "a-run-1",
        "b/run": "b-run",
        "other": "other",
        "../..": "take",
        "a-run": "a-run-5",
    }


def test_what_is_not_alike_is_remarked():
    def row(name, parameters=100, **changes):
        same = {"corpus": "c", "settings": {"max_seq_len": 512, "seed": 0}, "base": None, "rollbacks": 0}
        same |= {"processor_seconds": 500.0, "peak_device_memory": None}
        return {"name": name, "parameters": parameters, "training": same | {"minutes": 10.0, "ids": 1000} | changes}

    assert remarks([row("a"), row("b", minutes=30.0, processor_seconds=1500.0)], "test") == []  # as many ids
    assert len(remarks([row("a"), row("b", minutes=30.0, processor_seconds=1500.0, ids=9999)], "test")) == 1
    assert "started from piano-3" in remarks([row("a"), row("b", base="piano-3")], "test")[0]
    assert "parameters differ: 100 to 130" in remarks([row("a"), row("b", parameters=130)], "test")[0]
    assert "--max-seq-len 512, 64" in remarks([row("a"), row("b", settings={"max_seq_len": 64, "seed": 0})], "test")[0]
    assert "different corpora" in remarks([row("a"), row("b", corpus="d")], "test")[0]
    busy = remarks([row("a"), row("b", processor_seconds=200.0)], "test")
    assert len(busy) == 1 and "33 to 83 %" in busy[0] and "--max-steps" in busy[0]
    assert remarks([row("a"), row("b", processor_seconds=None)], "test") == []
    assert remarks([row("a"), row("b", processor_seconds=200.0, peak_device_memory=9)], "test") == []
    assert "b diverged" in remarks([row("a"), row("b", rollbacks=1)], "test")[0]
    assert len(remarks([row("a")], "validation")) == len(remarks([row("a")], "train")) == 1
    assert uneven([None, 1]) and uneven([1, 2]) and not uneven([1.0, 1.1]) and not uneven([])


# --- the page --------------------------------------------------------------------------------------------------


def test_the_page_is_one_file_with_a_row_for_each_model(compared, tmp_path):
    found, _, _ = compared
    facts = json.loads(json.dumps(found.facts))
    facts["rows"][0]["name"] = evil = "<script>alert(1)</script>"
    takes = {evil if name == found.facts["rows"][0]["name"] else name: take for name, take in found.takes.items()}
    folder = compare_page.save(Comparison(facts, takes), tmp_path / "out")
    reader = Reader()
    reader.feed((folder / "index.html").read_text(encoding="utf-8"))
    assert not reader.open and not reader.elsewhere and len(reader.images) == 1 + 2
    assert all(source.startswith("data:image/png;base64,iVBOR") for source in reader.images)
    assert reader.told.count(evil) == 2 and any("lstm has no setting" in text for text in reader.told)
    assert json.loads((folder / "comparison.json").read_text(encoding="utf-8")) == facts
    kinds = sorted(path.suffix for path in (folder / "takes").iterdir())
    assert kinds == [".json", ".json", ".mid", ".mid", ".png", ".png"]
    assert compare_page.save(found, tmp_path / "out").name == "002"


def test_the_tables_fit_a_terminal(compared):
    found, _, _ = compared
    facts = json.loads(json.dumps(found.facts))
    for row, name in zip(facts["rows"], ("music_transformer-6m", "music_gpt2-6m"), strict=True):
        row["name"] = name
    console = Console(file=io.StringIO(), width=80)
    console.print(compare_page.render(Comparison(facts, {})))
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text and "lstm-2m: lstm has no setting" in text
    assert "music_transformer-6m " in text and "real music" in text and "recurrence" in text


def test_runs_without_a_log_have_dashes_and_no_curve(compared):
    found, _, _ = compared
    facts = json.loads(json.dumps(found.facts))
    bare = dict.fromkeys(("ids", "minutes", "ids_per_second", "peak_memory", "peak_device_memory", "processor_seconds"))
    for row in facts["rows"]:
        row["training"] |= bare | {"curve": []}
    assert draw_curves(facts["rows"]) is None
    page = compare_page.page(facts, None, {})
    assert "<td>-</td><td>-</td><td>-</td><td>-</td>" in page and "While they learned" not in page


def test_curves_are_drawn_whatever_a_run_is_called():
    curve = [{"minutes": at, "ids": 1000 * at, "nats_per_note": 1 / at} for at in range(1, 6)]
    for name in (r"$\no$", "Ke$ha $2"):
        assert draw_curves([{"name": name, "training": {"curve": curve}}]).startswith(b"\x89PNG")


def test_counts_have_three_digits():
    told = [thousands(value) for value in (None, 7.4, 512, 6_196_480, 12_420_000, 150_000, 2_500_000_000)]
    assert told == ["-", "7", "512", "6.20M", "12.4M", "150k", "2.50G"]


def test_the_command(compared, corpus, tmp_path, capsys):
    _, out, _ = compared
    runs = [str(out / "runs" / name) for name in ("decoder-2m", "decoder-6m")]
    figures = tmp_path / "figures.json"
    short = ["--takes", "1", "--bars", "4", "--out", str(tmp_path / "o"), "--json", str(figures)]
    main(["compare", str(corpus.folder), "--runs", *runs, *short])
    told = capsys.readouterr().out
    assert "2 models on the test split" in told and str(tmp_path / "o" / "001" / "index.html") in told
    assert {row["name"] for row in json.loads(figures.read_text())["rows"]} == {"decoder-2m", "decoder-6m"}
    with pytest.raises(SystemExit) as stop:
        main(["compare", str(corpus.folder), "--models", "decoder,tuba", "--out", str(tmp_path / "p")])
    assert stop.value.code == 1 and "unknown model" in capsys.readouterr().err
    assert "decoder" in models.names()
