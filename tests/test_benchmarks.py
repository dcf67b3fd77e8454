"""What the benchmarks share: their parser, the manifest, peaks of memory, tables and their file."""

import importlib
import json
import math
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    found = importlib.import_module("bench")
    monkeypatch.setattr(found, "FIGURES", {})
    return found


def test_a_parser_tells_the_docstring_as_it_stands_and_where_figures_go(bench):
    parser = bench.new_parser("One line.\n\n    python benchmarks/one.py\n")
    assert "One line.\n\n    python benchmarks/one.py\n" in parser.format_help()
    assert parser.parse_args(["--json", "out.json"]).json == Path("out.json") and parser.parse_args([]).json is None


def test_the_manifest_tells_some_sets_in_its_own_order_of_one_split_or_all(bench, tmp_path):
    lines = ("file,set,split", "b.mid,two,train", "a.mid,one,test", "c.mid,one,train", "d.mid,three,train")
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    files = [row["file"] for row in bench.manifest(tmp_path, "one", "two", split="train")]
    assert files == ["b.mid", "c.mid"]
    assert [row["file"] for row in bench.manifest(tmp_path, "one")] == ["a.mid", "c.mid"]


def test_all_tables_come_into_the_file_and_gaps_stay_empty(bench, tmp_path, capsys):
    out = tmp_path / "figures.json"
    bench.report([{"what": "one", "a": 0.12345}, {"what": "two", "b": 2}], out, pieces=[{"piece": "x"}])
    assert capsys.readouterr().out.splitlines()[2:] == ["| one | 0.123 |  |", "| two |  | 2 |"]
    bench.report([{"c": 3}], out, "more")
    told = json.loads(out.read_text())
    assert (told["rows"][0]["a"], told["more"], told["pieces"]) == (0.123, [{"c": 3}], [{"piece": "x"}])


def test_a_peak_is_that_of_the_call_alone_and_counts_what_is_freed_again(bench):
    if math.isnan(bench.held()):
        pytest.skip("this system does not tell")
    before = bench.held()
    large = bench.peak(lambda: np.ones(2**23).sum())  # 64 MiB
    small = bench.peak(lambda: np.ones(2**17).sum())
    assert large[0] == 2**23 and 60 < large[1] - before < 70
    assert small[1] < large[1] - 50
