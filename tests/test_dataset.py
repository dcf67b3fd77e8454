"""The dataset file: ours and others' open, what a person wrote stays, prompts are made of it."""

import json
from dataclasses import replace
from threading import Thread

import numpy as np
import pytest
from sounds import Folder

from woodshed.audio.labels.dataset import (
    Dataset,
    Metadata,
    Sample,
    load_dataset,
    prompt,
    read_bpm,
    read_key,
    read_language,
    read_metre,
)
from woodshed.audio.labels.scan import scan
from woodshed.errors import FileError, InputError
from woodshed.files import write_file


@pytest.fixture
def folder(tmp_path):
    return Folder.new(tmp_path / "songs")


# --- the file --------------------------------------------------------------------------------------------------

FOREIGN = {
    "metadata": {"name": "x", "custom_tag": "t", "tag_position": "replace", "genre_ratio": 5, "use_only": False},
    "samples": [
        {"audio_path": "C:\\music\\a.wav", "id": "1", "bpm": 90, "timesignature": 4, "duration": 3.5, "mood": "odd"},
        {"audio_path": "/abs/b.wav", "id": "2", "bpm": None, "caption": None, "labeled": True},
    ],
    "version": {"of": "another tool"},
}


def test_a_file_of_another_tool_opens_and_keeps_what_it_holds(folder):
    path = folder.write("d.json", FOREIGN, "utf-8-sig") / "d.json"
    dataset = load_dataset(path)
    a, b = dataset.samples
    assert (a.filename, a.timesignature, a.bpm, a.extra, b.caption) == ("a.wav", "4", 90, {"mood": "odd"}, "")
    dataset.save(path)
    saved = json.loads(path.read_text(encoding="utf-8"))
    for item, given in zip(saved["samples"], FOREIGN["samples"], strict=True):
        said = {name: value for name, value in given.items() if value is not None and name != "timesignature"}
        assert item.items() >= said.items()
    assert saved["metadata"]["use_only"] is False and saved["version"] == FOREIGN["version"]
    assert load_dataset(path) == dataset


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("{", "not a dataset"),
        ([], "not a dataset: a list, not a JSON object"),
        ({"samples": {}}, "no list of samples"),
        ({"samples": [5]}, r"samples\[0\]: not an object with an audio_path"),
        ({"samples": [{}]}, r"samples\[0\]: not an object with an audio_path"),
        ({"samples": [], "metadata": 5}, "metadata: not an object"),
        ({"samples": [], "metadata": {"tag_position": "x"}}, "metadata: tag_position 'x'"),
        ({"samples": [{"audio_path": "a", "bpm": "fast"}]}, r"samples\[0\]: bpm 'fast'"),
        ({"samples": [{"audio_path": "a", "caption": []}]}, r"caption \[\]: give a text"),
        (
            {"samples": [{"audio_path": "a", "prompt_override": "title"}]},
            "prompt_override 'title': give caption or genre",
        ),
        ({"samples": [{"audio_path": "a", "labeled": 1}]}, "labeled 1: give true or false"),
        ({"samples": [{"audio_path": "a", "duration": "x"}]}, "duration 'x': give a number"),
        ({"samples": [{"audio_path": "a", "id": "1"}, {"audio_path": "b", "id": "1"}]}, "2 samples have the id 1"),
    ],
)
def test_what_is_no_dataset_says_where(folder, data, words):
    path = folder.write("d.json", data) / "d.json"
    with pytest.raises(FileError, match=words) as error:
        load_dataset(path)
    assert "\n" not in str(error.value)
    before = path.read_bytes()
    with pytest.raises(FileError):
        scan(folder.add("a.wav"), out=path)
    assert path.read_bytes() == before


def test_what_a_person_changes_meanwhile_is_kept(folder):
    """An hour of annotation, and somebody edits the file meanwhile."""
    path = folder / "d.json"
    scan(folder.add("a.wav", "b.wav", "c.wav"), out=path)
    ours = load_dataset(path)
    theirs = json.loads(path.read_text())
    theirs["samples"][0]["caption"] = "theirs"
    theirs["samples"][1]["mood"] = "new key"
    theirs["metadata"]["custom_tag"] = "tag"
    del theirs["samples"][2]
    theirs["samples"].append({"audio_path": "./d.wav"})
    theirs["version"] = 2
    folder.write("d.json", theirs)
    first = ours.samples[0]
    for sample in ours.samples:
        sample.caption, sample.bpm = "ours", 100
    ours.samples.append(Sample(audio_path="./e.wav"))
    ours.save(path)
    after = load_dataset(path)
    assert [sample.filename for sample in after.samples] == ["a.wav", "b.wav", "d.wav", "e.wav"]
    assert [sample.caption for sample in after.samples] == ["theirs", "ours", "", ""]
    assert [sample.bpm for sample in after.samples] == [100, 100, None, None]
    assert after.samples[1].extra == {"mood": "new key"} and after.metadata.custom_tag == "tag"
    assert after.extra == {"version": 2}
    assert after == ours and ours.samples[0] is first
    ours.samples[0].caption = "ours again"
    ours.save(path)
    assert load_dataset(path).samples[0].caption == "ours again"
    del ours.samples[0]
    ours.save(path)
    assert [sample.filename for sample in load_dataset(path).samples] == ["b.wav", "d.wav", "e.wav"]


def test_two_who_save_at_once_both_keep_what_they_wrote(folder, monkeypatch):
    """A studio and an annotation: the second comes when the first has read the file and not yet written it."""
    path, writes = folder / "d.json", []
    scan(folder.add("a.wav", "b.wav"), out=path)
    ours, theirs = load_dataset(path), load_dataset(path)
    ours.samples[0].caption, theirs.samples[1].caption = "ours", "theirs"
    second = Thread(target=theirs.save, args=(path,))

    def slow(*args):
        writes.append(args)
        if len(writes) == 1:
            second.start()
            second.join(0.2)
        write_file(*args)

    monkeypatch.setattr("woodshed.audio.labels.dataset.write_file", slow)
    ours.save(path)
    second.join()
    assert [sample.caption for sample in load_dataset(path).samples] == ["ours", "theirs"] and len(writes) == 2
    assert {item.name for item in folder.iterdir()} == {"a.wav", "b.wav", "d.json"}


def test_paths_lead_to_the_recordings_wherever_the_file_is_saved(folder):
    scan(folder.add("sub/a.wav"), out=folder / "d.json")
    (folder / "other").mkdir()
    dataset = load_dataset(folder / "d.json")
    dataset.save(folder / "other" / "d.json")
    moved = load_dataset(folder / "other" / "d.json")
    assert moved.samples[0].audio_path == "../sub/a.wav"
    assert moved.samples[0].path_in(moved.folder).resolve() == (folder / "sub" / "a.wav").resolve()


def test_a_dataset_in_a_linked_folder_knows_its_recordings_again(folder, tmp_path):
    real, link = tmp_path / "disk" / "deep" / "out", folder / "out"
    real.mkdir(parents=True)
    link.symlink_to(real)
    for added in (1, 0):
        found = scan(folder.add("a.wav"), out=link / "d.json")
        assert (found.added, found.remarks, len(found.dataset.samples)) == (added, (), 1)
    assert load_dataset(link / "d.json").samples[0].audio_path == "../a.wav"


def test_a_dataset_from_another_machine_finds_what_lies_beside_it(folder):
    sample = Sample(audio_path="C:\\music\\a.wav")
    assert sample.filename == "a.wav" and sample.path_in(folder.add("a.wav")) == folder / "a.wav"
    assert not sample.path_in(folder / "sub").exists()


def test_a_recording_that_is_gone_is_no_other_of_its_name(folder):
    scan(folder.add("01.wav", "live/01.wav"), out=folder / "d.json")
    dataset = load_dataset(folder / "d.json")
    (folder / "live" / "01.wav").unlink()
    assert [dataset.path_of(sample).exists() for sample in dataset.samples] == [True, False]
    (folder / "live").rmdir()
    assert [dataset.path_of(sample).exists() for sample in dataset.samples] == [True, False]
    foreign = [Sample(audio_path=f"C:\\{name}\\02.wav") for name in ("a", "b")]
    others = Dataset(folder.add("02.wav"), samples=foreign)
    assert not any(others.path_of(sample).exists() for sample in foreign)
    del others.samples[1]
    assert others.path_of(foreign[0]) == folder / "02.wav"


def test_an_interrupted_save_leaves_the_old_file(folder, monkeypatch):
    path = folder / "d.json"
    scan(folder.add("a.wav"), out=path)
    before, dataset = path.read_bytes(), load_dataset(path)
    dataset.samples[0].caption = "new"

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(FileError, match=r"d\.json: cannot be written: No space left on device"):
        dataset.save(path)
    assert path.read_bytes() == before and {item.name for item in folder.iterdir()} == {"a.wav", "d.json"}


# --- prompts ---------------------------------------------------------------------------------------------------

WHEEL = ("C", "G", "D", "A", "E", "B", "F#", "C#", "Ab", "Eb", "Bb", "F")
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("position", "expected"),
    [("prepend", "zap, slow"), ("append", "slow, zap"), ("replace", "zap")],
)
def test_the_tag_stands_where_it_should(position, expected):
    metadata = Metadata(custom_tag="zap", tag_position=position)
    assert prompt(Sample(caption="slow"), metadata, RNG) == expected
    assert prompt(Sample(), metadata, RNG) == "zap"
    assert prompt(Sample(caption="slow", custom_tag="own"), metadata, RNG) == expected.replace("zap", "own")
    assert prompt(Sample(caption="slow"), Metadata(tag_position=position), RNG) == "slow"


def test_a_tag_that_is_edited_in_one_place_holds_for_all(folder):
    path = folder / "d.json"
    scan(folder.add("a.wav", "b.wav"), out=path, custom_tag="zap")

    def edited(tag, **of_the_last):
        data = json.loads(path.read_text())
        data["metadata"]["custom_tag"] = tag
        data["samples"][-1] |= of_the_last
        dataset = load_dataset(folder.write("d.json", data) / "d.json")
        return [prompt(replace(sample, caption="slow"), dataset.metadata, RNG) for sample in dataset.samples]

    assert edited("zip") == ["zip, slow"] * 2
    scan(folder, out=path, custom_tag="zop")
    assert {sample["custom_tag"] for sample in json.loads(path.read_text())["samples"]} == {"zop"}
    assert edited("") == ["slow"] * 2
    assert edited("zop", custom_tag="own") == ["zop, slow", "own, slow"]


def test_genre_or_caption():
    both = Sample(caption="slow", genre="jazz")
    for ratio, override, expected in [
        (0, None, "slow"),
        (100, None, "jazz"),
        (0, "genre", "jazz"),
        (100, "caption", "slow"),
    ]:
        assert prompt(replace(both, prompt_override=override), Metadata(genre_ratio=ratio), RNG) == expected
    assert prompt(Sample(caption="slow"), Metadata(genre_ratio=100), RNG) == "slow"
    drawn = [prompt(both, Metadata(genre_ratio=30), np.random.default_rng([7, k])) for k in range(2000)]
    assert drawn.count("jazz") == pytest.approx(600, abs=80)
    assert drawn[:50] == [prompt(both, Metadata(genre_ratio=30), np.random.default_rng([7, k])) for k in range(50)]


# --- labels that have a form -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "bpm"), [(120, 120), ("127.6", 128), ("90,4", 90), (" 99 BPM ", 99), (30, 30), (300.4, 300)]
)
def test_bpm(value, bpm):
    assert read_bpm(value) == bpm


@pytest.mark.parametrize("value", ["", "fast", 29, 301, True, None, "nan", "1e999", [], "12-13"])
def test_no_bpm(value):
    with pytest.raises(InputError, match="give a number from 30 to 300"):
        read_bpm(value)


def test_keys():
    spelt = {"Am": "A minor", "a": "A major", "F♯ maj": "F# major", "Bbm": "Bb minor", "E flat Major": "Eb major"}
    spelt |= {
        "F Sharp major": "F# major",
        "b-flat minor": "Bb minor",
        "C# min": "C# minor",
        "b minor": "B minor",
        "GM": "G major",
    }
    assert {text: read_key(text) for text in spelt} == spelt
    for name in spelt.values():
        assert read_key(name) == name
    for text in ("", "H", "A dorian", "13A", "0B", "minor", None):
        with pytest.raises(InputError, match="write it as"):
            read_key(text)


def test_the_camelot_wheel_goes_round_in_fifths():
    major = [read_key(f"{number}B") for number in range(1, 13)]
    minor = [read_key(f"{number}A") for number in range(1, 13)]
    assert len(set(major + minor)) == 24
    assert major[7:] + major[:7] == [f"{name} major" for name in WHEEL]
    assert (minor[7], minor[4], minor[0]) == ("A minor", "C minor", "Ab minor")


def test_languages():
    spelt = {
        "English": "en",
        "eng": "en",
        "pt-BR": "pt",
        "zh_Hant": "zh",
        " de ": "de",
        "Serbo-Croatian": "serbo-croatian",
    }
    assert {text: read_language(text) for text in spelt} == spelt


def test_labels_are_read_from_the_file_as_from_anywhere(folder):
    """And what another tool knows besides stays as it is."""
    labels = {"keyscale": "f♯ min", "timesignature": "3/4", "language": "German"}
    odd = {"keyscale": " A dorian", "timesignature": "7/8", "language": "Klingon"}
    none = {"keyscale": "  ", "timesignature": "N/A", "language": ""}
    data = [{"audio_path": str(number)} | one for number, one in enumerate((labels, odd, none))]
    found = load_dataset(folder.write("d.json", {"samples": data}) / "d.json").samples
    assert [(s.keyscale, s.timesignature, s.language) for s in found] == [
        ("F# minor", "3", "de"), ("A dorian", "7/8", "klingon"), ("", "", "unknown")
    ]  # fmt: skip


def test_metres():
    assert [read_metre(value) for value in (4, "4", "3/4", "6/8")] == ["4", "4", "3", "6"]
    for value in ("5/4", "", True, "four", 4.5):
        with pytest.raises(InputError, match="give one of 2, 3, 4, 6"):
            read_metre(value)


def test_a_new_dataset_is_empty(tmp_path):
    Dataset(tmp_path).save(tmp_path / "d.json")
    assert load_dataset(tmp_path / "d.json").samples == []
