"""A take played again from its file has the same notes; what has changed since is refused by name."""

import json
import shutil

import pytest
from conftest import HANDS
from folders import tune
from safetensors.numpy import load_file, save_file

from woodshed.cli import main
from woodshed.errors import FileError, InputError, RunError
from woodshed.symbolic.music.midi import read_midi, write_midi
from woodshed.symbolic.playing.again import again, recall
from woodshed.symbolic.playing.generate import generate
from woodshed.symbolic.playing.takes import digests_of
from woodshed.symbolic.run import Run, open_run


@pytest.fixture
def song(tmp_path):
    write_midi(tune(4, notes=96, tracks=HANDS), tmp_path / "song.mid")
    return tmp_path / "song.mid"


@pytest.fixture
def copy(run, tmp_path):
    """The run, to change, with a take in it."""
    home = shutil.copytree(run, tmp_path / "run")
    return home, saved(generate(home, bars=2, takes=1, seed=5), home / "takes" / "001")[0]


def saved(takes, folder):
    folder.mkdir(parents=True)
    music = []
    for number, take in enumerate(takes, 1):
        music.append(take.write(folder / f"take-{number}")[0])
    return music


def spoil(home):
    weights = {name: value + 0.1 for name, value in load_file(home / "model.safetensors").items()}
    save_file(weights, home / "model.safetensors", {"format": "pt"})


def test_takes_come_again_from_either_file(run, tmp_path):
    takes = generate(run, chords="C Am | F G", bars=3, takes=2, seed=3, ending=True)
    for take, path in zip(takes, saved(takes, tmp_path / "takes"), strict=True):
        assert again(path, run=run).score == take.score
        path.with_suffix(".json").rename(tmp_path / path.with_suffix(".json").name)
        assert again(path, run=run).score == again(tmp_path / path.with_suffix(".json").name, run=run).score
        assert again(path, run=run).settings == take.settings


@pytest.mark.parametrize("asked", [{"bars": 2}, {"bars": "3-4", "parts": "melody"}, {"melody": "auto"}])
def test_takes_in_a_file_come_again_where_that_is_as_it_was(run, song, tmp_path, asked):
    take = generate(run, prompt=song, takes=1, seed=3, keep_grid=True, **asked)[0]
    (path,) = saved([take], tmp_path / "takes")
    assert again(path, run=run).score == take.score
    for part in path.parent.glob("take-1-*.mid"):  # a part by itself is of the take
        assert again(part, run=run).score == take.score
    song.rename(tmp_path / "moved.mid")
    with pytest.raises(InputError, match=r"the file that it was played in is not at .*song.mid; give it with --prompt"):
        again(path, run=run)
    assert again(path, run=run, prompt=tmp_path / "moved.mid").score == take.score
    write_midi(tune(5, notes=96, tracks=HANDS), song)
    with pytest.raises(InputError, match=r"song.mid is not as it was when .*take-1.mid was played in it"):
        again(path, run=run)
    assert "song.mid has changed since" in again(path, run=run, anyway=True).remarks[0]


def test_a_run_that_has_learned_since_is_refused(copy):
    home, path = copy
    assert again(path).run == "run"
    spoil(home)
    with pytest.raises(RunError, match=r"its weights are not those that played .*take-1.mid: .* --anyway for other"):
        again(path)
    assert "run has changed since" in recall(path, anyway=True).remarks[0]


def test_a_take_from_before_digests_is_played_and_says_so(copy):
    _, path = copy
    facts = path.with_suffix(".json")
    told = json.loads(facts.read_text())
    del told["digests"]
    facts.write_text(json.dumps(told))
    take = again(path)
    assert take.score == read_midi(path) and "does not say with which weights" in take.remarks[0]


def test_a_device_that_is_not_here_is_named_and_another_can_be_given(copy):
    _, path = copy
    facts = path.with_suffix(".json")
    facts.write_text(facts.read_text().replace('"device": "auto"', '"device": "cuda:7"'))
    with pytest.raises(InputError, match="--device cuda:7: choose from auto"):
        again(path)
    assert again(path, device="cpu").score == read_midi(path)


def test_an_adapter_depends_on_its_base_too(copy, song, tmp_path):
    home, _ = copy
    whole = open_run(home)
    shutil.copytree(home, tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    adapter = Run(tmp_path / "adapter", whole.tokenizer, whole.facts | {"base_weights": "123"}, tmp_path / "adapter")
    assert digests_of(whole, None).keys() == {"weights"}
    assert digests_of(adapter, None) == digests_of(whole, None) | {"base_weights": "123"}
    assert digests_of(whole, song).keys() == {"weights", "prompt"}


def test_what_cannot_be_played_again_says_why(run, song, tmp_path):
    (path,) = saved(generate(run, prompt=read_midi(song), bars=1, takes=1, seed=1), tmp_path / "takes")
    with pytest.raises(InputError, match="music that was no file; save that as MIDI and give --prompt FILE"):
        again(path, run=run)
    assert again(path, run=run, prompt=song).score == read_midi(path)
    with pytest.raises(InputError, match="the run run that played it is neither above it"):
        again(path, prompt=song)
    with pytest.raises(FileError, match="no take of woodshed"):
        again(song, run=run)
    (free,) = saved(generate(run, chords="C F", bars=2, takes=1, seed=1), tmp_path / "free")
    with pytest.raises(InputError, match=r"--prompt .*song.mid: .*take-1.mid was played in no file; leave it out"):
        again(free, run=run, prompt=song)


def test_the_command_says_whether_the_notes_are_the_same(copy, capsys):
    home, path = copy
    main(["again", str(path)])
    assert capsys.readouterr().out.endswith(f"the same notes as {path}\n")
    assert len(list((home / "takes" / "002").glob("*.mid"))) == 1
    write_midi(tune(1), path)
    main(["again", str(path.with_suffix(".json"))])
    assert f"other notes than {path}: it was edited, or played on another machine" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["again", str(home / "run.json")])
    assert "no take of woodshed" in capsys.readouterr().err
