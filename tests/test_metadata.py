"""Tables of the files, as MAESTRO has them: read in all their forms, and used to divide and to choose."""

import csv
import io
import json
import re

import pytest
from folders import folder, songs_folder, tune
from rich.console import Console

from woodshed.cli import main
from woodshed.errors import FileError, InputError
from woodshed.symbolic.data.inspect import inspect, render
from woodshed.symbolic.data.metadata import read_metadata
from woodshed.symbolic.data.prepare import PrepareSettings, corpus_lines, prepare
from woodshed.symbolic.music.midi import read_midi, write_midi

ROWS = [  # composer, title, split, year
    ("Frédéric Chopin", "Étude, Op. 10", "train", 2004),
    ("Frédéric Chopin", "Étude, Op. 10", "train", 2009),
    ("Antonín Dvořák", "Humoresque", "validation", 2011),
    ("Johann Sebastian Bach", "Fugue", "test", 2018),
    ("Johann Sebastian Bach", "Prelude\nin C", "train", 2006),
]
COLUMNS = ["canonical_composer", "canonical_title", "split", "year", "midi_filename", "audio_filename", "duration"]


def table(tmp_path, kind="csv"):
    """A folder of five performances (one only in the table) and a table that knows them."""
    source = songs_folder(tmp_path, 0)
    (source / "2004").mkdir()
    names = [f"2004/piece {k}.midi" for k in range(len(ROWS))]
    for seed, name in enumerate(names[:-1]):
        write_midi(tune(seed), source / name)
    write_midi(tune(77), source / "stranger.mid")
    rows = [
        dict(zip(COLUMNS, [*row, name, name.replace("midi", "wav"), 3600.0], strict=True))
        for row, name in zip(ROWS, names, strict=True)
    ]
    path = tmp_path / f"table.{'csv' if kind == 'csv' else 'json'}"
    if kind == "csv":
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
    elif kind == "rows":
        path.write_text(json.dumps(rows))
    else:
        path.write_text(json.dumps({name: {str(k): row[name] for k, row in enumerate(rows)} for name in COLUMNS}))
    return source, path


def test_all_forms_of_the_table_say_the_same(tmp_path):
    read = []
    for kind in ("csv", "rows", "columns"):
        (tmp_path / kind).mkdir()
        read.append(read_metadata(table(tmp_path / kind, kind)[1]))
    assert read[0] == read[1] == read[2]
    row = read[0].of("2004/piece 2.midi")
    assert (row.composer, row.split, row.year, row.duration) == ("Antonín Dvořák", "validation", 2011, 3600.0)
    assert read[0].of("elsewhere/piece 2.midi") == row
    assert read[0].of("stranger.mid") is None


def test_a_table_of_absolute_paths_has_its_performances_too(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("midi_filename,split\n/music/a/one.mid,train\nC:\\music\\two.mid,test\n")
    table = read_metadata(path)
    assert [table.split(name) for name in ("one.mid", "a/two.mid")] == ["train", "test"]
    assert {split: sums["performances"] for split, sums in table.sums([]).items()} == {"train": 1, "test": 1}


def test_the_table_divides_and_is_summed_up_before_any_selection(tmp_path):
    source, path = table(tmp_path)
    corpus = prepare(source, tmp_path / "corpus", PrepareSettings(metadata=path, tokenizer="performance"))
    splits = {piece.path: piece.split for piece in corpus.pieces}
    known = {"2004/piece 0.midi": "train", "2004/piece 1.midi": "train"}
    known |= {"2004/piece 2.midi": "validation", "2004/piece 3.midi": "test"}
    assert known.items() <= splits.items()
    assert splits["stranger.mid"] == "train"
    assert len({piece.song for piece in corpus.pieces if piece.path in list(known)[:2]}) == 1
    chopin = prepare(source, tmp_path / "chopin", PrepareSettings(metadata=path, composer="chopin"))
    lines = "\n".join(corpus_lines(chopin))
    assert "in the table, train: 3 performances, 3.0 hours, 480 notes, 1 of them not in the folder" in lines
    assert "left out: 3 selection" in lines
    for told in (corpus.facts["metadata"], chopin.facts["metadata"]):
        assert told["train"] == {"performances": 3, "hours": 3.0, "notes": 480, "missing": 1}
        assert told["test"]["notes"] == len(read_midi(source / "2004" / "piece 3.midi").notes)


@pytest.mark.parametrize(
    ("asked", "pieces"),
    [
        ({"composer": "CHOPIN"}, [0, 1]),
        ({"composer": "Dvorak"}, [2]),
        ({"year": "2009"}, [1]),
        ({"year": "2005-2011"}, [1, 2]),
        ({"only_split": "train"}, [0, 1]),
        ({"composer": "bach", "year": "2018"}, [3]),
    ],
)
def test_selection_by_composer_year_and_split(tmp_path, asked, pieces):
    source, path = table(tmp_path)
    corpus = prepare(source, tmp_path / "corpus", PrepareSettings(metadata=path, **asked))
    assert [piece.path for piece in corpus.pieces] == [f"2004/piece {k}.midi" for k in pieces]
    assert {row["reason"] for row in corpus.skipped} == {"selection"}
    assert {row["path"]: row["detail"] for row in corpus.skipped}["stranger.mid"] == "not in the table"
    assert corpus.split("train") or "no song for train" in corpus.facts["remarks"][0]


def test_a_duplicate_of_what_is_not_asked_for_stays(tmp_path):
    folder(tmp_path, a=tune(1), b=tune(1), c=tune(2))
    (tmp_path / "table.csv").write_text(
        "midi_filename,canonical_composer,split\na.mid,Bach,train\nb.mid,Brahms,train\nc.mid,Brahms,train\n"
    )
    how = dict(metadata=tmp_path / "table.csv", composer="brahms")
    corpus = prepare(tmp_path, tmp_path / "corpus", **how)
    assert [piece.path for piece in corpus.pieces] == ["b.mid", "c.mid"]
    assert {row["path"]: row["reason"] for row in corpus.skipped} == {"a.mid": "selection"}


def test_the_tokenizer_suits_what_is_asked_for_of_a_folder(tmp_path):
    folder(tmp_path, free=tune(50).freed(), **{f"bound {seed}": tune(seed) for seed in range(3)})
    rows = "".join(f"bound {seed}.mid,Bach\n" for seed in range(3))
    (tmp_path / "table.csv").write_text(f"midi_filename,canonical_composer\nfree.mid,Brahms\n{rows}")
    how = dict(metadata=tmp_path / "table.csv", fractions="1,0,0")
    corpus = prepare(tmp_path, tmp_path / "brahms", composer="brahms", **how)
    assert corpus.tokenizer.name == "performance" and [piece.path for piece in corpus.pieces] == ["free.mid"]
    assert prepare(tmp_path, tmp_path / "bach", composer="bach", **how).tokenizer.name == "remi"


def test_maestros_own_table_is_found(tmp_path):
    source, path = table(tmp_path)
    path.rename(source / "maestro-v3.0.0.csv")
    assert prepare(source, tmp_path / "corpus").facts["metadata"]["validation"]["performances"] == 1


def test_tables_that_cannot_be_read(tmp_path):
    source = songs_folder(tmp_path, 1)
    with pytest.raises(InputError, match="--metadata FILE"):
        prepare(source, tmp_path / "corpus", PrepareSettings(year="2009"))
    bad = tmp_path / "table.csv"
    for text, error, words in [
        ("name,year\na.mid,2009\n", InputError, "no column midi_filename"),
        ("", InputError, "no rows"),
        ("midi_filename,year\na.mid,soon\n", InputError, "year 'soon'"),
        ("midi_filename,split\na.mid,exam\n", InputError, "split 'exam'"),
        ("midi_filename,weight\na.mid,-1\n", InputError, "weight -1.0 of a.mid; give 0"),
        ("midi_filename,weight\na.mid,nan\n", InputError, "weight nan of a.mid; give 0"),
    ]:
        bad.write_text(text)
        with pytest.raises(error, match=words):
            read_metadata(bad)
    with pytest.raises(FileError):
        read_metadata(tmp_path / "nowhere.csv")
    for data in (b"\xff\xfe\0", b"{", b"[1, 2]", b'"text"', b"[" * 10**5):
        (tmp_path / "table.json").write_bytes(data)
        with pytest.raises(FileError, match="not a table"):
            read_metadata(tmp_path / "table.json")


@pytest.mark.parametrize("kind", ["csv", "rows"])
def test_inspect_sums_up_maestros_table_by_split(tmp_path, kind):
    source, path = table(tmp_path, kind)
    path.rename(source / f"maestro-v3.0.0{path.suffix}")
    found = inspect(source)
    assert found.table["train"] == {"performances": 3, "hours": 3.0, "notes": 480, "missing": 1}
    assert found.as_dict()["table"] == found.table and not found.left_out
    told = {one["path"]: one["recording"] for one in found.as_dict()["findings"]}
    assert told == {"stranger.mid": ""} | {f"2004/piece {k}.midi": f"2004/piece {k}.wav" for k in range(4)}
    text = printed(found)
    assert re.search(r"train +3 performances, 3.0 hours, 480 notes, 1 of them not in the folder *\n", text)
    assert re.search(r"test +1 performance, 1.0 hours, 240 notes *\n", text)


def test_inspect_looks_only_at_what_is_asked_for(tmp_path, capsys):
    source, path = table(tmp_path)
    found = inspect(source, metadata=path, composer="chopin", year="2005-2011")
    assert [finding.path for finding in found.usable] == ["2004/piece 1.midi"]
    assert found.counts() == {"selection": 3 + 1} and found.table.keys() == {"train"}
    assert found.table["train"]["performances"] == 1 and found.table["train"]["hours"] == 1.0
    assert "selection: not asked for" in printed(found)
    main(["inspect", str(source), "--metadata", str(path), "--only-split", "test"])
    assert "1 of 5 files can be learned from" in capsys.readouterr().out
    assert "table" not in printed(inspect(source)).lower()
    with pytest.raises(InputError, match="--metadata FILE"):
        inspect(source, composer="chopin")


def printed(report) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(render(report))
    return console.file.getvalue()
