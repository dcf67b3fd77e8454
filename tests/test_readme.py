"""What the README says is run as it stands there."""

import re
from pathlib import Path

import pytest
from verbs import commands

from woodshed.cli import main

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_python_lines_run(songs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-midi").symlink_to(songs)
    for code in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL):
        exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.count("Score(") == 2
    assert {path.suffix for path in tmp_path.glob("first.*")} == {".mid", ".wav", ".png", ".json"}


@pytest.mark.parametrize("verb", commands())
def test_every_flag_the_readme_names_exists(verb, capsys):
    with pytest.raises(SystemExit):
        main([*verb.split(), "--help"])
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    for line in re.findall(rf"^woodshed {verb} .*$", README, flags=re.MULTILINE):
        assert set(re.findall(r"--[a-z-]+", line)) <= known, line


def test_the_file_tree_is_that_of_the_package():
    named, folders = set(), []
    for line in README[README.index("woodshed/\n") : README.index("tests/  ")].splitlines():
        folders = folders[: (len(line) - len(line.lstrip())) // 2]
        named |= {"/".join([*folders, name]) for name in re.findall(r"\w+\.py", line)}
        folders += re.findall(r"^ *(\w+)/", line)
    root = Path(__file__).parents[1]
    there = {path.relative_to(root).as_posix() for path in (root / "woodshed").rglob("*.py")}
    menus = {"cli", "tokenizers", "models", "codecs"}  # a file more is an entry more
    told = {path for path in there if "/_" not in path and not menus & {*path.split("/")}}
    assert told - named == named - there == set()
