"""The commands as a user runs them: what they print, what they refuse, and that nothing is lost."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from toys import TINY
from verbs import commands

import woodshed
from woodshed import cli
from woodshed.cli import VERBS, main
from woodshed.jobs import own_process
from woodshed.symbolic.data.corpus import open_corpus
from woodshed.symbolic.data.prepare import changed_sources
from woodshed.symbolic.music.midi import read_midi

NOWHERE = "nowhere: not a run: no such folder; woodshed train makes one, base models: piano, piano-played"


def run_main(capsys, *arguments) -> tuple[int, str, str]:
    try:
        main([str(argument) for argument in arguments])
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
    return code, *capsys.readouterr()


def test_help_lists_every_verb_and_every_verb_has_help(capsys):
    code, out, _ = run_main(capsys, "--help")
    assert code == 0 and all(f"woodshed {verb}" in out for verb in VERBS)
    for command in commands():
        code, out, _ = run_main(capsys, *command.split(), "--help")
        assert code == 0 and f"woodshed {command}" in out


def test_the_whole_line_from_a_folder_to_takes(capsys, songs, tmp_path):
    code, out, _ = run_main(capsys, "inspect", songs, "--json", tmp_path / "report.json")
    assert code == 0 and "8 of 8 files" in out
    assert json.loads((tmp_path / "report.json").read_text())["usable"] == 8
    code, out, _ = run_main(capsys, "prepare", songs, "--out", tmp_path / "corpus", "--tokenizer", "remi")
    assert code == 0 and "8 pieces" in out
    tiny = ["--model-args", *TINY["model_args"], "--max-seq-len", 256, "--batch-size", 2, "--threads", 1]
    code, out, err = run_main(capsys, "train", tmp_path / "corpus", "--out", tmp_path / "run", *tiny, "--max-steps", 2)
    assert code == 0, err
    assert "Trainable parameters" in out + err and "nats per note" in re.sub(r"\s+", " ", out + err)
    two = ["--takes", 2, "--seed", 1]
    code, out, _ = run_main(capsys, "generate", tmp_path / "run", "--chords", "C F", "--bars", 2, *two)
    assert (
        code == 0 and out.count(" in chord (0") == out.count("in chord, bar by bar") == out.count("of 2 changes") == 2
    )
    folder = tmp_path / "run" / "takes" / "001"
    assert sorted({path.suffix for path in folder.iterdir()}) == [".json", ".mid", ".png", ".wav"]
    code, _, err = run_main(capsys, "prepare", songs, "--out", tmp_path / "corpus")
    assert code == 1 and "corpus" in err and err.count("\n") == 1
    play_in_a_file(capsys, tmp_path / "run", songs / "song 1.mid")
    code, _, err = run_main(capsys, "train", tmp_path / "corpus", "--out", tmp_path / "run", "--max-steps", 2)
    assert code == 1 and "--resume" in err


def play_in_a_file(capsys, run, song):
    """Go on from a song, fill a hole in it, accompany its melody; the printed chords can be given back."""
    code, out, _ = run_main(capsys, "extend", run, song, "--bars", 1, "--takes", 1, "--keep-grid")
    assert code == 0 and re.search(r"002/run_\S*_seed\d+_take-1.mid: ", out)
    code, out, _ = run_main(capsys, "fill", run, song, "--bars", 2, "--parts", "melody", "--takes", 1, "--keep-grid")
    assert code == 0 and re.search(r"003/run_\S*_seed\d+_take-1.mid: ", out)
    code, out, _ = run_main(capsys, "accompany", run, song, "--takes", 1, "--keep-grid", "--seed", 1)
    lines = out.splitlines()
    assert code == 0 and lines[0] == "chords:"
    assert len(list((run / "takes" / "004").glob("*_seed1_take-1-accompaniment.mid"))) == 1
    chart = "\n".join(line for line in lines if line.startswith("|"))
    code, again, _ = run_main(
        capsys, "accompany", run, song, "--takes", 1, "--keep-grid", "--seed", 1, "--chords", chart
    )
    assert code == 0 and again.replace("005", "004") == out
    files = [next((run / "takes" / folder).glob("*take-1.mid")) for folder in ("004", "005")]
    assert read_midi(files[0]) == read_midi(files[1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generat"], "unknown command 'generat'; choose from: inspect"),
        (["inspect", "nowhere"], "nowhere: no such folder"),
        (["inspect", "{songs}/song 1.mid"], "song 1.mid: a file, not a folder"),
        (["inspect", "{songs}", "--json", "x" * 300], "File name too long"),
        (["generate", "x" * 300], "File name too long"),
        (["generate", "piano", "--out", "{songs}/song 1.mid"], "song 1.mid: a file, not a folder; choose another"),
        (["evaluate", "piano", "nowhere", "--out", "{songs}/song 1.mid"], "song 1.mid: a file, not a folder; choose"),
        (
            ["compare", "nowhere", "--runs", "piano", "piano-played", "--out", "{songs}/song 1.mid"],
            "song 1.mid: a file, not a folder; choose another folder",
        ),
        (["demo", "--pieces", "-1"], "--pieces -1: give more than 0"),
        (["demo", "--minutes", "inf"], "--minutes inf: give more than 0, and a finite number"),
        (["demo", "--seed", "-1"], "--seed -1: give 0 or more"),
        (["prepare", "{empty}", "--out", "c"], "no MIDI"),
        (["prepare", "{songs}", "--out", "c", "--tokenizer", "rem"], "choose from"),
        (["prepare", "{songs}", "--out", "c", "--fractions", "1,1"], "--fractions 1,1"),
        (["train", "{songs}", "--out", "r"], "not a corpus: it has no corpus.json; make one with: woodshed prepare"),
        (["train", "nowhere", "--out", "r"], "nowhere: not a corpus: no such folder; make one with"),
        (
            ["generate", "{songs}"],
            "not a run: it has no run.json; woodshed train makes one, base models: piano, piano-pl",
        ),
        (["generate", "nowhere"], NOWHERE),
        (["extend", "nowhere", "{songs}/song 1.mid"], NOWHERE),
        (["rank", "nowhere", "."], NOWHERE),
        (["doctor", "nowhere"], NOWHERE),
        (["merge", "nowhere", "--out", "r"], NOWHERE),
        (["generate", "{songs}/song 1.mid"], "song 1.mid: not a run: a file, not a folder"),
        (["fill", "piano", "nowhere.mid"], "say what to write anew: --bars 9-12, --seconds 20-26 or --parts melody"),
        (["fill", "piano", "{songs}/song 1.mid", "--bars", "99-120"], "the file has 30 bars"),
        (["fill", "piano", "{songs}/song 1.mid", "--seconds", "20"], "--seconds 20: write the first and the last"),
        (["fill", "piano", "{songs}/song 1.mid", "--bars", "0"], "--bars 0-0: write the first and the last"),
        (["extend", "piano", "nowhere.mid"], "nowhere.mid: no such file"),
        (["accompany", "piano", "{songs}/song 1.mid", "--melody", "Horn"], "--melody Horn: no such track"),
    ],
)
def test_what_cannot_work_is_one_line_and_exit_1(capsys, songs, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    places = {"{songs}": str(songs), "{empty}": str(tmp_path / "empty")}
    for place, path in places.items():
        arguments = [word.replace(place, path) for word in arguments]
    code, _, err = run_main(capsys, *arguments)
    assert code == 1
    assert message in err and err.startswith("woodshed: ") and err.count("\n") == 1
    assert not (tmp_path / "c").exists() and not (tmp_path / "r").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such names")
def test_names_that_no_screen_can_show_are_escaped(capsys, run, tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    code, out, err = run_main(capsys, "generate", run, "--bars", 1, "--takes", 1, "--out", folder)
    assert code == 0 and "caf\\udce9" in out and not err
    code, _, err = run_main(capsys, "extend", run, folder / "song.mid")
    assert code == 1 and err.endswith("caf\\udce9/song.mid: no such file\n")


@pytest.mark.skipif(sys.platform == "win32", reason="such names are forbidden there")
def test_names_move_no_cursor(capsys, songs, tmp_path):
    strange = "\x1b[2J\x1b]0;owned\x07\n\x9b1A.mid"
    code, _, err = run_main(capsys, "extend", "piano", strange)
    assert code == 1 and err == "woodshed: \\x1b[2J\\x1b]0;owned\\x07\\x0a\\x9b1A.mid: no such file\n"
    shutil.copy(songs / "song 1.mid", tmp_path / strange)
    code, out, err = run_main(capsys, "inspect", tmp_path, "--json", tmp_path / "report.json")
    assert code == 0 and "owned" in out and not {"\x1b", "\x07", "\x9b"} & {*out, *err}
    code, _, _ = run_main(capsys, "prepare", tmp_path, "--out", tmp_path / "corpus")
    assert code == 0 and not any(changed_sources(open_corpus(tmp_path / "corpus"), tmp_path).values())


def test_training_on_files_that_have_changed_says_so_and_goes_on(capsys, songs, tmp_path):
    source, other = shutil.copytree(songs, tmp_path / "my songs"), tmp_path / "notes.txt"
    other.write_text("mine")
    run_main(capsys, "prepare", source, "--out", tmp_path / "corpus")
    (source / "song 1.mid").touch()
    code, _, err = run_main(capsys, "train", tmp_path / "corpus", "--out", other)
    assert code == 1 and err == f"woodshed: --out {other} is a file; choose another folder\n"
    (source / "song 1.mid").write_bytes((source / "song 2.mid").read_bytes())
    (source / "song 3.mid").unlink()
    _, _, err = run_main(capsys, "train", tmp_path / "corpus", "--out", other)
    assert "prepared: 1 removed, 1 edited; to take that in: woodshed prepare '" in err.splitlines()[0]
    assert "is a file" in err.splitlines()[1]
    shutil.rmtree(source)
    _, _, err = run_main(capsys, "train", tmp_path / "corpus", "--out", other)
    assert err.count("\n") == 1 and other.read_text() == "mine"


def test_a_report_that_exists_is_never_overwritten(capsys, songs, tmp_path):
    report = tmp_path / "report.json"
    report.write_text("mine")
    code, _, err = run_main(capsys, "inspect", songs, "--json", report)
    assert code == 1 and "report.json" in err and report.read_text() == "mine"


def test_what_was_found_is_saved_before_it_is_told():
    """Standard output may be gone by then; only originality tells each file as it comes."""
    doors = {path.stem: path.read_text(encoding="utf-8") for path in Path(cli.__file__).parent.rglob("[!_]*.py")}
    doors = {name: text for name, text in doors.items() if "write_json(json_file" in text and name != "originality"}
    assert {"inspect", "evaluate", "compare"} <= doors.keys()
    for name, text in doors.items():
        after = text.partition("print(")[2]
        assert "write_json(" not in after and "save(" not in after, name


def test_nothing_is_left_of_what_was_refused(capsys, run, tmp_path):
    refused = [["generate", run, "--bars", 0], ["generate", run, "--bars", 1, "--soundfont", "nowhere.sf2"]]
    for verb in (*refused, ["train", run.parent / "corpus", "--size", "huge"]):
        code, _, _ = run_main(capsys, *verb, "--out", tmp_path / "a" / "b")
        assert code == 1 and not any(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="no head")
def test_a_reader_that_goes_away_is_no_error_to_tell_of():
    line = f"{shlex.quote(sys.executable)} -m woodshed --help | true"
    assert subprocess.run(line, shell=True, capture_output=True, text=True, check=True).stderr == ""


@pytest.mark.skipif(sys.platform != "linux", reason="no /dev/full")
def test_output_onto_a_full_disk_is_one_line(songs, tmp_path):
    told = tmp_path / "report.json"
    line = shlex.join([sys.executable, "-m", "woodshed", "inspect", str(songs), "--json", str(told)])
    found = subprocess.run(f"{line} >/dev/full", shell=True, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (1, "woodshed: No space left on device; make room, and start it again\n")
    assert json.loads(told.read_text())["usable"] == 8


def test_python_m_woodshed_is_the_same_command():
    out = subprocess.run([sys.executable, "-m", "woodshed", "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", out.stdout)


WITH_A_POOL = """
from woodshed.cli import main
from woodshed.symbolic.data import inspect
inspect.POOL_FROM = 1
main()
"""


def test_python_files_where_the_user_is_are_not_run(songs, tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "woodshed").write_text(WITH_A_POOL)
    music = shutil.copytree(songs, tmp_path / "music")
    for name in ("socket", "random", "numpy"):
        (music / f"{name}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    for command in ([sys.executable, tmp_path / "bin" / "woodshed", "inspect", "."], own_process("woodshed", "--help")):
        subprocess.run(command, cwd=music, capture_output=True, check=True)
        assert not (tmp_path / "executed").exists()


def test_commands_that_are_told_can_be_pasted():
    command = r"woodshed( audio| ace| codec| gan)* [a-z-]+( [A-Z-]+| --[a-z-]+)* \{"
    for path in Path(woodshed.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert all(text.startswith("quoted(", found.end()) for found in re.finditer(command, text)), path


def test_processes_of_python_are_started_in_one_place():
    sources = Path(woodshed.__file__).parent.rglob("*.py")
    assert [path.name for path in sources if "sys.executable" in path.read_text(encoding="utf-8")] == ["jobs.py"]
