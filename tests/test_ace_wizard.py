"""The wizard: questions that can be taken back, and the commands that follow from the answers."""

import functools
from dataclasses import replace
from pathlib import Path

import pytest
import tyro

pytest.importorskip("soundfile")

from sounds import tone

from woodshed.audio.ace.settings import TrainSettings, read_preset, resolve
from woodshed.audio.ace.wizard import QUESTIONS, as_line, ask, commands, preset, read_answers, save
from woodshed.audio.wave import write_audio
from woodshed.cli import main
from woodshed.cli.audio.ace import wizard as wizard_command
from woodshed.errors import FileError, InputError


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to answer questions in, with songs/ in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "My Songs").mkdir()
    write_audio(tmp_path / "My Songs" / "a.wav", tone())
    (tmp_path / "whisper").mkdir()
    return tmp_path


def answered(*typed, known=None):
    """The answers to what is typed, and what was said; return takes the defaults once that is over."""
    lines, said, asked = iter(typed), [], []

    def read(prompt):
        asked.append(prompt)
        return next(lines, "")

    return ask(QUESTIONS, read=read, say=said.append, known=known), said, asked


DEFAULTS = {"sung": False, "tag": "my-songs", "memory": 16, "goal": "balanced", "kind": "lora", "out": "my-songs-ace"}


def test_the_wizard_takes_defaults(here):
    answers, said, asked = answered("My Songs")
    assert answers.items() >= DEFAULTS.items() and answers["start"] == "print"
    assert "whisper" not in answers and len(asked) == len(QUESTIONS) - 1
    assert len(said) == 1 and said[0].count("woodshed audio ") == 5


def test_the_wizard_says_what_is_wrong_and_asks_again(here):
    (here / "out").mkdir()
    (here / "out" / ".DS_Store").touch()
    wrong = ["", "nowhere", "whisper", "My Songs", "perhaps", "y", "nowhere", "whisper", "", "!!", "a/b", "9", "12"]
    answers, said, _ = answered(*wrong, "good", "best", "l", "lokr", "My Songs", "out", "run")
    assert (answers["sung"], answers["whisper"], answers["memory"], answers["kind"]) == (True, "whisper", 12, "lokr")
    assert answers["out"] == "out" and answers["start"] == "run"
    for reason in ("give the folder", "not a folder", "no recordings", "yes or no", "no such folder", "no ACE-Step"):
        assert any(reason in line for line in said), reason
    for reason in ("'9': choose from 8, 12", "'good': choose from quick", "'l': choose from lora", "new or empty"):
        assert any(reason in line for line in said), reason


def test_the_wizard_goes_back_over_what_was_not_asked(here):
    """Back from the tag is singing, where nobody sings; b at the first question stays there."""
    answers, _, asked = answered(
        "b", "My Songs", "no", "b", "yes", "", "b", "b", "n", "tag", "b", "b", "b", "b", "My Songs"
    )
    assert answers["sung"] is False and "whisper" not in answers and answers["tag"] == "tag"
    beginnings = ["Where", "Where", "Does", "A word", "Does", "Folder", "A word", "Folder", "Does", "A word", "Which"]
    assert all(prompt.startswith(words) for prompt, words in zip(asked, beginnings, strict=False)), asked
    answers, _, _ = answered("My Songs", "", "", "", "", "quick", "b", "best", "", "", "b", "elsewhere")
    assert (answers["goal"], answers["kind"], answers["out"]) == ("best", "lora", "elsewhere")


def test_the_wizard_explains_and_ends_with_its_input(here):
    _, said, _ = answered("?", "My Songs", *["?", ""] * 9)
    assert len({*said}) >= 9 and all(said)
    with pytest.raises(InputError, match="answers end before 'sung'"):
        lines = iter(["My Songs"])

        def read(prompt):
            try:
                return next(lines)
            except StopIteration:
                raise EOFError from None

        ask(QUESTIONS, read=read, say=print)


@pytest.mark.parametrize("goal", ["quick", "balanced", "best"])
@pytest.mark.parametrize("memory", [8, 12, 16, 24, "none"])
@pytest.mark.parametrize("kind", ["lora", "dora", "lokr"])
def test_the_answers_are_a_preset_that_training_takes(here, goal, memory, kind):
    answers, *_ = answered("My Songs", "", "", "", memory and str(memory), goal, kind)
    save(answers)
    settings = resolve(TrainSettings(preset="my-songs-ace/preset.json"), songs=5, turbo=True)
    assert settings.kind == kind
    flags = {} if memory == "none" else {"memory": memory}
    wanted = resolve(TrainSettings(preset=goal, kind=kind, **flags), songs=5, turbo=True)
    assert replace(settings, preset="", memory=None) == replace(wanted, preset="", memory=None)
    assert preset(answers) == read_preset("my-songs-ace/preset.json")


def test_the_commands_are_ones_that_there_are(here, capsys):
    """Each is parsed as it would be, up to what it would do."""
    from woodshed.cli.audio import scan
    from woodshed.cli.audio.ace import generate as generate_command
    from woodshed.cli.audio.ace import prepare, train

    answers, *_ = answered("My Songs", "yes", "whisper", "", "")
    steps = commands(answers)
    assert [step[:3] for step in steps[2:]] == [["audio", "ace", verb] for verb in ("prepare", "train", "generate")]
    known = ((scan, steps[0][2:]), (prepare, steps[2][3:]), (train, steps[3][3:]), (generate_command, steps[4][3:]))
    for module, words in known:
        parsed = tyro.cli(_taking(module.command), args=words, config=(tyro.conf.OmitArgPrefixes,))
        assert parsed
    assert as_line(steps[0]).startswith("woodshed audio scan 'My Songs' --out ")
    assert steps[3][-1] == str(Path("my-songs-ace/preset.json"))


def test_the_command_that_annotates_takes_what_it_is_given(here):
    from woodshed.cli.audio import annotate

    answers, *_ = answered("My Songs", "yes", "whisper")
    step = commands(answers)[1]
    assert step[:2] == ["audio", "annotate"] and step[-2:] == ["--whisper", "whisper"]
    assert tyro.cli(_taking(annotate.command), args=step[2:], config=(tyro.conf.OmitArgPrefixes,))


def _taking(command):
    """A function with the arguments of a command, which gives them back."""

    @functools.wraps(command)
    def take(*args, **keywords):
        return args or keywords

    return take


def test_answers_are_kept_for_another_time(here):
    answers, *_ = answered("My Songs", "", "mine")
    save(answers)
    kept = read_answers("my-songs-ace/answers.json")
    Path("my-songs-ace/run").mkdir()
    Path("my-songs-ace/run/run.json").write_text("{}")
    again, said, asked = answered(known=kept)
    assert again == answers and "[mine]" in asked[2] and "--resume\n" in said[-1]
    Path("wrong.json").write_text('{"colour": "red"}')
    for name in ("wrong.json", "absent.json"):
        with pytest.raises(FileError, match="holds no answers"):
            read_answers(name)


def test_the_wizard_command(here, capsys, monkeypatch):
    def typed(*lines):
        given = iter(lines)
        monkeypatch.setattr("builtins.input", lambda prompt: next(given))
        main(["audio", "ace", "wizard"])
        return capsys.readouterr().out

    ran = []
    monkeypatch.setattr(wizard_command, "run_all", ran.extend)
    told = typed("My Songs", *[""] * 8)
    assert "woodshed audio ace train" in told and "preset.json: written" in told and not ran
    typed("My Songs", *[""] * 6, "other", "run")
    assert [step[2] for step in ran[2:]] == ["prepare", "train", "generate"]
    assert sorted(path.name for path in here.iterdir()) == ["My Songs", "my-songs-ace", "other", "whisper"]


def test_a_training_that_was_broken_off_goes_on_with_resume(here, capsys, monkeypatch):
    answers, *_ = answered("My Songs")
    steps = commands(answers)[3:]
    ran = []
    monkeypatch.setattr(wizard_command, "_run", lambda command: ran.append(command[-1]) or wizard_command.INTERRUPTED)
    for resume in ("", " --resume"):
        with pytest.raises(SystemExit, match="130"):
            wizard_command.run_all(steps)
        told = capsys.readouterr().out
        assert told.endswith(f"Then go on with:\n{as_line(steps[0])}{resume}\n{as_line(steps[1])}\n")
        Path("my-songs-ace/run").mkdir(parents=True, exist_ok=True)
        Path("my-songs-ace/run/run.json").write_text("{}")
    assert ran == [steps[0][-1], "--resume"]


def test_the_wizard_stops_at_the_first_command_that_fails(capfd):
    with pytest.raises(SystemExit, match="1"):
        wizard_command.run_all([["--version"], ["audio", "no-such-verb"], ["--version"]])
    out, error = capfd.readouterr()
    assert "unknown command 'audio no-such-verb'" in error
    assert out.rstrip().endswith("Then go on with:\nwoodshed audio no-such-verb\nwoodshed --version")
