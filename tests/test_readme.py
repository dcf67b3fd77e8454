"""What the README says is run as it stands there, and the flags that it and the docs name are those of the commands."""

import io
import re
from contextlib import redirect_stdout, suppress
from pathlib import Path

import pytest
from verbs import commands

from woodshed.cli import main

ROOT = Path(__file__).parents[1]
DOCS = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/midi.md", "docs/audio.md")}
README = DOCS["README.md"]
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
OTHERS = {"--index-url", "--hours"}  # pip's, and a recipe's


@pytest.fixture(scope="module")
def helps():
    """The flags in the help of every verb."""
    flags = {}
    for verb in commands():
        with redirect_stdout(io.StringIO()) as told, suppress(SystemExit):
            main([*verb.split(), "--help"])
        flags[verb] = {*FLAG.findall(told.getvalue())}
    return flags


def test_the_python_lines_run(songs, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-midi").symlink_to(songs)
    for code in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL):
        exec(compile(code, "README.md", "exec"), {})
    assert capsys.readouterr().out.count("Score(") == 2
    assert {path.suffix for path in tmp_path.glob("first.*")} == {".mid", ".wav", ".png", ".json"}


@pytest.mark.parametrize(("name", "least"), [("README.md", 20), ("docs/midi.md", 1), ("docs/audio.md", 20)])
def test_commands_are_written_with_flags_that_they_have(name, least, helps):
    named = [
        (verb, flag)
        for verb in helps
        for line in re.findall(rf"\bwoodshed {verb}(?![\w-])([^`#\n]*)", DOCS[name].replace("\\\n", " "))
        for flag in FLAG.findall(line)
    ]
    assert len(named) >= least
    assert [(verb, flag) for verb, flag in named if flag not in helps[verb]] == []


def test_what_is_told_of_a_verb_names_flags_of_that_verb(helps):
    """Or of another that is named there, or of generate, by whose flags others play."""
    told = dict(re.findall(r"^## ([a-z-]+)\n(.+?)(?=^## |\Z)", DOCS["docs/midi.md"], flags=re.MULTILINE | re.DOTALL))
    assert len(told) >= 8 and told.keys() <= helps.keys()
    for verb, text in told.items():
        named = helps.keys() & {verb, "generate", *re.findall(r"(?:\*\*|`woodshed )([a-z-]+)", text)}
        assert {*FLAG.findall(text)} <= set().union(*(helps[one] for one in named)), verb


def test_flags_in_prose_are_those_of_some_command(helps):
    assert {*FLAG.findall("".join(DOCS.values()))} - set().union(*helps.values()) == OTHERS


def test_the_file_tree_is_that_of_the_package():
    named, folders = set(), []
    for line in README[README.index("woodshed/\n") : README.index("tests/  ")].splitlines():
        folders = folders[: (len(line) - len(line.lstrip())) // 2]
        named |= {"/".join([*folders, name]) for name in re.findall(r"\w+\.py", line)}
        folders += re.findall(r"^ *(\w+)/", line)
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "woodshed").rglob("*.py")}
    menus = {"cli", "tokenizers", "models", "codecs"}  # a file more is an entry more
    told = {path for path in there if "/_" not in path and not menus & {*path.split("/")}}
    assert told - named == named - there == set()
