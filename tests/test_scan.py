"""A folder of recordings becomes a dataset: labels found, faults told, and nothing a person wrote is lost."""

import io
import json
import re
import unicodedata
from pathlib import Path

import pytest
from rich.console import Console
from sounds import Folder, hostile, silence, songs_folder, tone

from woodshed.audio.labels import sidecars
from woodshed.audio.labels.dataset import INSTRUMENTAL, load_dataset
from woodshed.audio.labels.scan import scan, table, told
from woodshed.cli import main
from woodshed.errors import EmptyCorpus, InputError

METADATA = ["name", "custom_tag", "tag_position", "created_at", "num_samples", "all_instrumental", "genre_ratio"]
FIELDS = ["id", "audio_path", "filename", "caption", "genre", "lyrics", "raw_lyrics", "formatted_lyrics", "bpm"]
FIELDS += ["keyscale", "timesignature", "duration", "language", "is_instrumental", "custom_tag", "labeled"]
FIELDS += ["prompt_override"]


@pytest.fixture
def folder(tmp_path):
    return Folder.new(tmp_path / "songs")


def samples(folder, **settings):
    """The samples of a new dataset, by the names of their files."""
    return {sample.filename: sample for sample in scan(folder, **settings).dataset.samples}


def only(lines, *words):
    """The one remark that holds these words."""
    found = [line for line in lines if all(word in line for word in words)]
    assert len(found) == 1, (words, lines)
    return found[0]


# --- sidecars --------------------------------------------------------------------------------------------------


def test_every_sidecar_of_the_tutorial(folder):
    folder.add("a.wav", "b.flac", "sub/c.ogg").write("a.caption.txt", "  a caption\n").write("a.txt", "not these")
    folder.write("a.lyrics.txt", "[00:01.00][Verse 1]\n[00:02.00]La la \n\n").write("b.txt", "other words")
    labels = {"caption": "from json", "bpm": 120, "keyscale": "A minor", "timesignature": "3", "language": "ja"}
    folder.write("sub/c.json", labels | {"language": "Japanese", "genre": "jazz", "artist": "x"})
    report = scan(folder)
    a, b, c = report.dataset.samples
    assert (a.caption, a.lyrics, a.labeled, a.is_instrumental) == ("a caption", "[Verse 1]\nLa la", True, False)
    assert a.raw_lyrics == "[00:01.00][Verse 1]\n[00:02.00]La la"
    assert (b.lyrics, b.caption, b.labeled, b.is_instrumental) == ("other words", "", False, False)
    assert (c.lyrics, c.raw_lyrics, c.is_instrumental, c.labeled, c.genre) == (INSTRUMENTAL, "", True, True, "jazz")
    assert {name: getattr(c, name) for name in labels} == labels
    assert not report.remarks and report.added == 3


@pytest.mark.parametrize(
    "labels", [{}, {"bpm": None, "caption": ""}, {"bpm": "97.6"}, {"keyscale": "F♯m"}, {"key": "8A"}]
)
def test_every_label_of_a_json_is_optional(folder, labels):
    report = scan(folder.add("a.wav").write("a.json", labels))
    sample = report.dataset.samples[0]
    assert sample.bpm == (98 if labels.get("bpm") else None)
    assert sample.keyscale == {"F♯m": "F# minor", "8A": "A minor"}.get(labels.get("keyscale") or labels.get("key"), "")
    assert not report.remarks


TABLE = "File,Artist,Title,BPM,Key,Camelot\na.wav,x,y,127.6,A Minor,8A\nb.wav,,,90,,8B\n"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("header", [str, str.upper, str.lower])
def test_every_table_of_key_bpm_finder(folder, delimiter, encoding, header):
    lines = TABLE.replace(",", delimiter).splitlines()
    text = "\r\n".join([header(lines[0]), *lines[1:]])
    report = scan(folder.add("a.wav", "b.wav").write("export.csv", text, encoding))
    a, b = report.dataset.samples
    assert (a.bpm, a.keyscale, b.bpm, b.keyscale) == (128, "A minor", 90, "C major")
    assert not report.remarks and not a.labeled


def test_tables_are_merged_and_may_hold_captions(folder):
    folder.add("a.wav", "Ü b.wav", "sub/c.wav").write("1.csv", 'File,Caption\na.wav,"slow, and ""warm"""\n')
    folder.write("2.csv", "sep=;\nFile;BPM;Caption\nC:\\music\\A.WAV;99,5;\nü b;80;\n")
    folder.write("sub/3.csv", "File,BPM,Caption\nc.wav,70,deep\n")
    found = samples(folder)
    a, b, c = (found[name] for name in ("a.wav", "Ü b.wav", "c.wav"))
    assert (a.caption, a.bpm, a.labeled) == ('slow, and "warm"', 100, True)
    assert (b.bpm, b.caption, c.bpm, c.caption) == (80, "", 70, "deep")


def test_tables_may_hold_genres_which_are_shown_where_there_are_some(folder):
    folder.add("a.wav", "b.wav").write("t.csv", "File,BPM,Genre,Caption\na.wav,90,delta blues,slow\nb.wav,80,,plain\n")
    report = scan(folder)
    assert [(s.genre, s.caption) for s in report.dataset.samples] == [("delta blues", "slow"), ("", "plain")]
    text = printed(table(report))
    assert "genre" in text.splitlines()[0] and "delta blues" in text and not report.remarks
    assert not any("without a genre" in line for line in told(report))
    ratio = told(scan(folder, genre_ratio=20))
    assert only(ratio, "--genre-ratio 20: 1 recording without a genre, learned by the caption alone")
    assert "genre" not in printed(table(scan(folder.write("t.csv", "File,BPM\na.wav,90\n"))))


def printed(rows) -> str:
    console = Console(width=120, file=io.StringIO())
    console.print(rows)
    return console.file.getvalue()


def test_a_caption_without_quotes_is_taken_whole_where_it_stands_last(folder):
    folder.add("a.wav", "b.wav").write("t.csv", "File,BPM,Caption,,\na.wav,90,slow, warm, deep,\nb.wav,80,plain\n")
    report = scan(folder)
    assert [(s.bpm, s.caption) for s in report.dataset.samples] == [(90, "slow, warm, deep"), (80, "plain")]
    assert not report.remarks


def test_a_table_names_the_files_of_its_own_folder(folder):
    folder.add("a.wav", "sub/a.wav").write("sub/t.csv", "File,BPM\na.wav,90\n")
    report = scan(folder)
    assert [sample.bpm for sample in report.dataset.samples] == [None, 90]
    folder.write("all.csv", "File,BPM\na.wav,100\n")
    report = scan(folder)
    assert only(report.remarks, "all.csv row 2", "2 recordings 'a.wav'")
    assert only(report.remarks, "sub/a.wav: bpm is 90 in sub/t.csv row 2, not 100 as in all.csv row 2")


def test_the_nearer_label_counts_more_and_that_is_told(folder):
    folder.add("a.wav").write("t.csv", "File,BPM,Key,Caption\na.wav,90,C,table\n").write("a.caption.txt", "text")
    report = scan(folder.write("a.json", {"caption": "json", "bpm": 91, "keyscale": "C major"}))
    sample = report.dataset.samples[0]
    assert (sample.caption, sample.bpm, sample.keyscale) == ("json", 91, "C major")
    assert only(report.remarks, "a.wav: bpm is 91 in a.json, not 90 as in t.csv row 2")
    assert only(report.remarks, "caption is text in a.caption.txt, not table")
    assert only(report.remarks, "caption is json in a.json, not text") and len(report.remarks) == 3


def test_names_in_another_unicode_form_or_case(folder):
    name = "Dvořák Ängste"
    folder.add(f"{unicodedata.normalize('NFD', name)}.wav", "夜 [1].wav").write("夜 [1].Caption.TXT", "night")
    folder.write(f"{unicodedata.normalize('NFC', name).upper()}.json", {"bpm": 90})
    folder.write("t.csv", f"File,Key\n{unicodedata.normalize('NFC', name)}.wav,Am\n")
    found = list(samples(folder).values())
    assert sorted((s.bpm or 0, s.keyscale, s.caption) for s in found) == [(0, "", "night"), (90, "A minor", "")]


# --- what is wrong is told in one line, and all else goes on -------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", "{", ["a.json", "not a JSON object", "line 1"]),
        ("a.json", "[" * 100000, ["a.json", "not a JSON object", "too deep"]),
        ("a.json", "[1]", ["a.json", "not a JSON object", "a list"]),
        ("a.json", {"bpm": "fast"}, ["a.json: bpm 'fast': give a number from 30 to 300"]),
        ("a.json", {"bpm": True}, ["bpm True"]),
        ("a.json", {"bpm": 1e999}, ["bpm inf"]),
        ("a.json", {"bpm": [120]}, ["bpm [120]"]),
        ("a.json", {"keyscale": "H"}, ["key 'H'", "A minor"]),
        ("a.json", {"timesignature": "7/8"}, ["timesignature '7/8'", "2, 3, 4, 6"]),
        ("a.json", {"caption": 5}, ["caption 5: give a text"]),
        ("a.json", {"captoin": "x"}, ["'captoin'", "did you mean 'caption'?"]),
        ("t.csv", "File,BPM\na.wav,0\n", ["t.csv row 2: bpm '0'"]),
        ("t.csv", "File,BPM\n\nno.wav,90\n", ["t.csv row 3: there is no recording 'no.wav'"]),
        ("t.csv", "File,Caption,BPM\na.wav,slow, warm,90\n", ["t.csv row 2: more values than columns"]),
        ("t.csv", "Name,BPM\na.wav,90\n", ["t.csv", "no column File, only name, bpm"]),
        ("t.csv", 'File,BPM\n"a.wav,' + "x" * 140000, ["t.csv", "field larger"]),
        ("b.caption.txt", "x", ["b.caption.txt: there is no recording of that name"]),
        ("b.lyrics.txt", "x", ["b.lyrics.txt: there is no recording of that name"]),
    ],
)
def test_a_bad_label_is_one_line(folder, name, text, words):
    report = scan(folder.add("a.wav", "good.wav").write("good.json", {"bpm": 100}).write(name, text))
    a, good = report.dataset.samples
    assert (a.bpm, a.keyscale, a.timesignature, a.caption, good.bpm) == (None, "", "", "", 100)
    assert "\n" not in only(report.remarks, *words) and len(report.remarks) == 1


@pytest.mark.parametrize("name", ["a.caption.txt", "a.lyrics.txt", "a.json", "t.csv"])
def test_text_in_another_encoding_is_told(folder, name):
    (folder.add("a.wav") / name).write_bytes("File,BPM\nÄrger,90".encode("latin-1"))
    report = scan(folder)
    assert only(report.remarks, f"{name}: cannot be read: not UTF-8; save it as UTF-8") and len(report.remarks) == 1
    assert report.dataset.samples[0].caption == ""


@pytest.mark.parametrize("name", ["a.caption.txt", "a.lyrics.txt", "a.json", "t.csv"])
def test_text_that_is_too_much_for_labels_is_told(folder, name):
    (folder.add("a.wav") / name).write_bytes(b" " * ((sidecars.MOST_TABLE if name == "t.csv" else 2**20) + 1))
    report = scan(folder)
    assert (
        only(report.remarks, f"{name}: cannot be read: more than", "MiB; keep its labels") and len(report.remarks) == 1
    )


def test_an_empty_lyrics_file_falls_back(folder):
    folder.add("a.wav", "b.wav").write("a.lyrics.txt", "\n").write("a.txt", "words").write("b.lyrics.txt", INSTRUMENTAL)
    found = samples(folder, all_instrumental=False)
    assert found["a.wav"].lyrics == "words" and not found["b.wav"].has_lyrics


def test_two_recordings_with_one_sidecar(folder):
    report = scan(folder.add("a.wav", "a.flac").write("a.caption.txt", "both"))
    assert [sample.caption for sample in report.dataset.samples] == ["both", "both"]
    assert only(report.remarks, "a.flac, a.wav: one set of labels for all") and len(report.remarks) == 1


def test_a_hostile_folder(tmp_path, capfd):
    folder, out, told = hostile(tmp_path / "in"), tmp_path / "dataset.json", tmp_path / "report.json"
    main(["audio", "scan", str(folder), "--out", str(out), "--json", str(told)])
    shown = capfd.readouterr().out
    names = {sample.filename for sample in load_dataset(out).samples}
    assert names == {"two.flac", "8 bit.wav", "Dvořák 夜.OGG"} and all(name.split()[0] in shown for name in names)
    report = json.loads(told.read_text())
    assert len(report["recordings"]) == 10 and sum(not item["reason"] for item in report["recordings"]) == 3
    for name in ("silent.wav", "zero.wav", "nan.wav", "empty.mp3", "text.mp3", "corrupt.mp3", "[bold]x.wav"):
        line = only(shown.splitlines(), f"left out: {name}: ")
        assert len(line) > len(f"left out: {name}: ") + 5
    assert only(shown.splitlines(), "3 of 10 recordings can be learned from")


def test_a_recording_that_was_cut_short_is_told(folder):
    folder.add("a.mp3", audio=tone(5))
    data = (folder / "a.mp3").read_bytes()
    (folder / "a.mp3").write_bytes(data[: len(data) // 2])
    recording = scan(folder).recordings[0]
    assert "of 0:05: cut short?" in recording.remark and not recording.reason


def test_folders_without_a_recording(folder):
    with pytest.raises(EmptyCorpus, match="no recordings"):
        scan(folder)
    folder.add("a.wav", audio=silence(0.1))
    with pytest.raises(EmptyCorpus, match=r"none of its recordings can be used: a\.wav: silent"):
        scan(folder, out=folder / "d.json")
    assert not (folder / "d.json").exists()
    with pytest.raises(InputError, match="is not a folder"):
        scan(folder / "nowhere")
    with pytest.raises(InputError, match="choose a file in a folder that exists"):
        scan(folder, out=folder / "no" / "d.json")


def test_a_name_that_is_no_utf8_is_left_out(folder):
    folder.add("a.wav", "b.wav")
    try:
        (folder / "a.wav").rename(folder / "a\udcff.wav")
    except OSError:
        pytest.skip("this disk takes no such name")
    report = scan(folder, out=folder / "d.json")
    assert report.left_out[0].reason == "its name is not UTF-8; rename it" and len(report.usable) == 1


# --- settings of the dataset -----------------------------------------------------------------------------------


def test_settings_stand_in_the_file(folder):
    folder.add("a.wav", "b.wav").write("a.txt", "words")
    out = folder / "d.json"
    scan(folder, out=out, name="mine", custom_tag="zap", tag_position="append", all_instrumental=False, genre_ratio=20)
    data = json.loads(out.read_text(encoding="utf-8"))
    assert list(data["metadata"]) == METADATA and list(data["samples"][0]) == FIELDS
    assert data["metadata"]["num_samples"] == 2 and data["metadata"]["genre_ratio"] == 20
    assert [item["is_instrumental"] for item in data["samples"]] == [False, False]
    assert [item["audio_path"] for item in data["samples"]] == ["./a.wav", "./b.wav"]
    scan(folder, out=out, all_instrumental=True, custom_tag="zip")
    data = json.loads(out.read_text(encoding="utf-8"))
    assert [item["is_instrumental"] for item in data["samples"]] == [False, True]
    assert {item["custom_tag"] for item in data["samples"]} == {"zip"}
    assert (data["metadata"]["name"], data["metadata"]["tag_position"]) == ("mine", "append")


@pytest.mark.parametrize("settings", [{"tag_position": "middle"}, {"genre_ratio": 101}, {"genre": 3}])
def test_settings_that_cannot_be(folder, settings):
    with pytest.raises(InputError, match=next(iter(settings))):
        scan(folder.add("a.wav"), **settings)


def test_the_docs_name_flags_that_there_are(capsys):
    text = (Path(__file__).parents[1] / "docs" / "audio.md").read_text(encoding="utf-8")
    text = text[text.index("## Recordings and their labels") :].split("\n## ")[0] + "\n"
    with pytest.raises(SystemExit):
        main(["audio", "scan", "--help"])
    named, known = (set(re.findall(r"--[a-z][a-z-]+", part)) for part in (text, capsys.readouterr().out))
    assert {"--out", "--json", "--believe"} <= named <= known


def test_absolute_paths(folder):
    sample = samples(folder.add("a.wav"), absolute_paths=True)["a.wav"]
    assert sample.audio_path == str((folder / "a.wav").resolve())


def test_samples_that_are_known_get_absolute_paths_too(folder):
    scan(folder.add("a.wav", "gone.wav"), out=folder / "d.json")
    (folder / "gone.wav").unlink()
    scan(folder, out=folder / "d.json", absolute_paths=True)
    paths = [sample.audio_path for sample in load_dataset(folder / "d.json").samples]
    assert paths == [str((folder / "a.wav").resolve()), "./gone.wav"]


def test_a_rescan_adds_and_keeps(folder):
    out = folder / "d.json"
    scan(folder.add("a.wav", "b.wav").write("a.caption.txt", "first"), out=out)
    data = json.loads(out.read_text())
    data["samples"][1] |= {"caption": "by hand", "bpm": 77, "their_key": [1]}
    data["metadata"]["their_key"] = "kept"
    folder.write("d.json", data).write("b.json", {"caption": "later", "bpm": 90, "keyscale": "C major"})
    report = scan(folder.add("c.wav"), out=out)
    after = json.loads(out.read_text())
    assert report.added == 1 and [item["filename"] for item in after["samples"]] == ["a.wav", "b.wav", "c.wav"]
    assert after["metadata"] == data["metadata"] | {"num_samples": 3}
    assert after["samples"][1] == data["samples"][1] | {"keyscale": "C major", "labeled": True}
    assert only(report.remarks, "b.wav: kept the dataset's caption, bpm; its sidecars differ (--believe sidecars)")
    scan(folder, out=out, believe="sidecars")
    assert json.loads(out.read_text())["samples"][1]["bpm"] == 90


def test_a_sidecar_counts_more_than_what_was_measured_and_less_than_what_a_person_wrote(folder):
    out = folder / "d.json"
    scan(folder.add("a.wav", "b.wav"), out=out)
    data = json.loads(out.read_text())
    for sample, bpm in zip(data["samples"], (96, 97), strict=True):
        sample |= {"bpm": bpm, "woodshed": {"bpm": {"value": 96, "by": "woodshed", "sure": 0.9}}}
    folder.write("d.json", data).write("a.json", {"bpm": 120}).write("b.json", {"bpm": 120})
    report = scan(folder, out=out)
    assert [sample["bpm"] for sample in json.loads(out.read_text())["samples"]] == [120, 97]
    assert only(report.remarks, "b.wav: kept the dataset's bpm; its sidecars differ (--believe sidecars)")


def test_scanning_twice_changes_nothing(tmp_path):
    folder, out = songs_folder(tmp_path / "songs", 2, seconds=1), tmp_path / "d.json"
    assert scan(folder, out=out).added == 2
    once = out.read_bytes()
    assert scan(folder, out=out).added == 0
    assert out.read_bytes() == once


def test_a_recording_that_has_another_length_now_is_told(folder):
    out = folder / "d.json"
    scan(folder.add("a.wav", "b.wav", audio=tone(2.0)), out=out)
    folder.add("a.wav", audio=tone(5.0))
    remarks = scan(folder, out=out).remarks
    assert only(remarks, "a.wav: lasts 0:05 now, before it was 0:02; if it is another recording, measure it anew")
    assert [sample.duration for sample in load_dataset(out).samples] == [5, 2] and not scan(folder, out=out).remarks


def test_a_sample_whose_file_is_gone_stays_and_is_told(folder):
    out = folder / "d.json"
    scan(folder.add("a.wav", "b.wav"), out=out)
    (folder / "a.wav").unlink()
    assert only(scan(folder, out=out).remarks, "./a.wav: in the dataset, but there is no such file")
    assert len(load_dataset(out).samples) == 2
