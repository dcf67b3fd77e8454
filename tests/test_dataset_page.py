"""The page of a dataset: what is shown, what is written back and what is not; and in a real browser."""
# ruff: noqa: F811

import dataclasses
import json
from urllib.parse import quote

import pytest
from browsers import browser, served  # noqa: F401
from sounds import Folder

from woodshed.audio.labels.dataset import INSTRUMENTAL, OURS, load_dataset
from woodshed.audio.labels.scan import scan
from woodshed.errors import FileError, InputError
from woodshed.studio.dataset_page import EDITED, FIXED, changes, heard, open_page, recordings, rows, save, shown

BPM, KEY, CAPTION, INSTRUMENTAL_TICK, TAG = (
    len(FIXED) + list(EDITED).index(name) for name in ("bpm", "keyscale", "caption", "is_instrumental", "custom_tag")
)
DRAFT = {"value": "[Verse]\nla la", "by": "whisper"}


@pytest.fixture
def path(tmp_path):
    """A dataset of three recordings: b.wav has a tempo that was measured, and a draft of lyrics."""
    folder = Folder.new(tmp_path / "songs").add("a.wav", "b.wav", "c.wav")
    scan(folder.write("a.caption.txt", "a waltz"), out=tmp_path / "my-songs.json")
    dataset = load_dataset(tmp_path / "my-songs.json")
    b = dataset.samples[1]
    b.bpm, b.lyrics, b.is_instrumental = 96, DRAFT["value"], False
    b.extra[OURS] = {"bpm": {"value": 96, "by": OURS}, "lyrics": DRAFT}
    dataset.save(tmp_path / "my-songs.json")
    return tmp_path / "my-songs.json"


@pytest.fixture
def dataset(path):
    return load_dataset(path)


def edited(dataset, *cells, lyrics=None):
    """What a visitor has seen of a dataset, and their table: cells are (row, column, value)."""
    table = rows(dataset)
    for row, column, value in cells:
        table[row][column] = value
    return shown(dataset) | {"lyrics": lyrics or {}}, table


# --- without a browser -----------------------------------------------------------------------------------------


def test_the_table_tells_all_that_is_known(dataset):
    a, b, c = rows(dataset)
    assert a == [1, "a.wav", "0:01", "-", True, "", "", "", "unknown", "a waltz", "", True, ""]
    assert b[3] == "draft" and b[BPM] == "96" and not b[INSTRUMENTAL_TICK]
    assert len(a) == len(FIXED) + len(EDITED) and c[0] == 3


def test_what_was_not_touched_is_no_change(path, dataset):
    assert changes(*edited(dataset)) == {}
    before = path.read_bytes()
    assert save(path, *edited(dataset))[1] == "There is nothing to save." and path.read_bytes() == before


def test_what_a_person_writes_is_theirs(path, dataset):
    cells = [(0, BPM, "127.6"), (1, BPM, " 48 bpm "), (2, CAPTION, "a march"), (0, KEY, "A minor")]
    seen, table = edited(dataset, *cells, lyrics={"1": "[00:12.00]la la la"})
    table.reverse()  # they sorted it
    saved, told = save(path, seen, table)
    assert told == "Saved in my-songs.json: 5 changes to 3 recordings."
    a, b, c = load_dataset(path).samples
    assert saved == load_dataset(path)
    assert (a.bpm, a.keyscale, b.bpm, b.lyrics, c.caption, c.labeled) == (
        128,
        "A minor",
        48,
        "la la la",
        "a march",
        True,
    )
    assert not b.is_noted("bpm") and not b.is_noted("lyrics") and rows(saved)[1][3] == "yes"


def test_lyrics_make_a_recording_sung_and_may_be_emptied(path, dataset):
    save(path, *edited(dataset, lyrics={"0": "words", "1": "  \n"}))
    a, b, _ = load_dataset(path).samples
    assert (a.lyrics, a.is_instrumental, b.lyrics) == ("words", False, INSTRUMENTAL)
    with pytest.raises(InputError, match=r"row 1, a.wav: instrumental, but it has lyrics"):
        save(path, *edited(load_dataset(path), (0, INSTRUMENTAL_TICK, True)))


def test_what_holds_for_all_is_written_with_the_recordings_that_have_it(path, dataset):
    save(path, *edited(dataset, (2, TAG, "mine")))
    seen, table = edited(load_dataset(path), (0, BPM, "90"))
    metadata = load_dataset(path).metadata
    assert seen["whole"] == dict(custom_tag="", tag_position="prepend", genre_ratio=0, all_instrumental=True)
    given = dict(custom_tag="sho", tag_position="append", genre_ratio=20, all_instrumental=False)
    saved, told = save(path, seen, table, **given)
    assert told == "Saved in my-songs.json: 4 changes for all and 1 change to 1 recording."
    assert saved == load_dataset(path) and saved.metadata == dataclasses.replace(metadata, **given)
    tags = {sample.filename: (sample.custom_tag, sample.is_instrumental) for sample in saved.samples}
    assert tags == {"a.wav": ("sho", False), "b.wav": ("sho", False), "c.wav": ("mine", False)}
    assert save(path, *edited(saved), **given)[1] == "There is nothing to save."
    before = path.read_bytes()
    with pytest.raises(InputError, match="genre_ratio 101: give percent, 0 to 100"):
        save(path, *edited(saved, (1, CAPTION, "a march")), genre_ratio=101)
    assert path.read_bytes() == before


def test_a_row_is_asked_before_what_holds_for_all(path, dataset):
    save(path, *edited(dataset, (0, INSTRUMENTAL_TICK, False)))
    seen, table = edited(load_dataset(path), (0, INSTRUMENTAL_TICK, True), (2, TAG, "mine"))
    save(path, seen, table, custom_tag="sho", all_instrumental=False)
    a, _, c = load_dataset(path).samples
    assert (a.is_instrumental, c.is_instrumental, a.custom_tag, c.custom_tag) == (True, False, "sho", "mine")


def test_what_another_person_wrote_for_all_meanwhile_is_not_overwritten_unasked(path, dataset):
    seen, table = edited(dataset, (0, BPM, "90"))
    save(path, *edited(dataset), custom_tag="theirs", genre_ratio=10)
    with pytest.raises(InputError, match=r"the dataset's custom tag has become 'theirs' .* press Save again"):
        save(path, seen, table, custom_tag="mine", genre_ratio=0)
    assert load_dataset(path).samples[0].bpm is None
    save(path, seen, table, custom_tag="mine", genre_ratio=0)
    now = load_dataset(path)
    assert (now.metadata.custom_tag, now.metadata.genre_ratio, now.samples[0].bpm) == ("mine", 10, 90)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ([(0, CAPTION, "a polka"), (1, BPM, "fast")], "row 2, b.wav: bpm 'fast': give a number from 30 to 300"),
        ([(2, BPM, "999")], "row 3, c.wav: bpm '999'"),
        ([(0, 0, "")], "a row was added; take it out"),
    ],
)
def test_a_value_that_cannot_be_is_told_with_its_row_and_nothing_is_written(path, dataset, cells, words):
    before = path.read_bytes()
    with pytest.raises(InputError, match=words):
        save(path, *edited(dataset, *cells))
    assert path.read_bytes() == before


def test_an_annotation_beside_loses_nothing_and_gives_way_to_a_person(path, dataset):
    seen, table = edited(dataset, (1, BPM, "48"), (2, CAPTION, "a march"))
    annotating, meanwhile = load_dataset(path), load_dataset(path)
    for sample, bpm in zip(meanwhile.samples, (80, 100, 120), strict=True):
        sample.bpm, sample.extra[OURS] = bpm, {"bpm": {"value": bpm, "by": OURS}}
    meanwhile.save(path)
    save(path, seen, table)
    assert [sample.bpm for sample in load_dataset(path).samples] == [80, 48, 120]
    annotating.samples[0].genre, annotating.samples[1].bpm = "waltz", 97
    annotating.save(path)
    a, b, c = load_dataset(path).samples
    assert (a.genre, b.bpm, c.caption, b.is_noted("bpm")) == ("waltz", 48, "a march", False)


def test_what_another_person_wrote_meanwhile_is_not_overwritten_unasked(path, dataset):
    seen, table = edited(dataset, (0, CAPTION, "mine"))
    save(path, *edited(dataset, (0, CAPTION, "theirs"), (0, BPM, "90")))
    with pytest.raises(InputError, match=r"row 1, a.wav: its caption has become 'theirs' .* press Save again"):
        save(path, seen, table)
    assert load_dataset(path).samples[0].caption == "theirs"
    save(path, seen, table)
    assert (load_dataset(path).samples[0].caption, load_dataset(path).samples[0].bpm) == ("mine", 90)


def test_a_sample_that_was_taken_out_is_told(path, dataset):
    seen, table = edited(dataset, (2, CAPTION, "a march"))
    fewer = load_dataset(path)
    del fewer.samples[2]
    fewer.save(path)
    with pytest.raises(InputError, match=r"row 3, c.wav: it is no longer in my-songs.json"):
        save(path, seen, table)
    assert "no longer" in heard(path, dataset.samples[2].id)


def test_only_recordings_are_handed_out(path, dataset):
    songs = path.parent / "songs"
    assert open_page(path).files == tuple((songs / f"{name}.wav").resolve() for name in "abc")
    (songs / "a.wav").unlink()
    data = json.loads(path.read_text())
    data["samples"][1]["audio_path"] = str(path)
    data["samples"][2]["filename"] = "<b>.wav"
    path.write_text(json.dumps(data))
    dataset = load_dataset(path)
    assert recordings(dataset) == ((songs / "c.wav").resolve(),)
    a, b, c = (heard(path, sample.id) for sample in dataset.samples)
    assert "There is no recording at" in a and "<audio" not in b
    assert f'src="gradio_api/file={quote(str(songs.resolve()))}/c.wav"' in c and "<b>" not in c


def test_what_is_no_dataset_does_not_open(tmp_path):
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(FileError, match="not a dataset"):
        open_page(tmp_path / "x.json")


# --- in a browser ----------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_a_musician_looks_through_the_songs_and_puts_them_right(path, browser):
    with served(path) as page:
        browser.ask("Emulation.setDeviceMetricsOverride", width=1280, height=1000, deviceScaleFactor=1, mobile=False)
        browser.ask("Page.navigate", url=page)
        browser.click(1, 1)
        assert browser.wait("document.querySelector('#recording audio')?.duration") == pytest.approx(0.2, abs=0.05)
        assert browser.wait("document.querySelector('textarea')?.value") == DRAFT["value"]
        browser.slow_down(3)  # in seconds: as on a bad line
        browser.type("Lyrics of b.wav", "[Verse]\nla di da")
        browser.click(2, 1, at_once=True)
        browser.wait("document.querySelector('textarea').labels[0].innerText.startsWith('Lyrics of c.wav')")
        assert "c.wav" not in browser.run("document.querySelector('#recording').innerText")
        browser.type("Lyrics of c.wav", "hm hm")
        browser.click(1, 1, at_once=True)
        browser.wait("document.querySelector('textarea').value == '[Verse]\\nla di da'")
        browser.click(2, 1, at_once=True)
        browser.wait("document.querySelector('textarea').value == 'hm hm'")
        browser.type("Lyrics of c.wav", "")
        browser.slow_down(0)
        browser.wait("document.querySelector('#recording h2').innerText == 'c.wav'")
        browser.write(0, BPM, "999")
        browser.wait("document.querySelector('#recording h2').innerText == 'a.wav'")
        browser.press("Save")
        browser.wait("document.querySelector('.toast-wrap')?.innerText.includes(\"row 1, a.wav: bpm '999'\")")
        assert load_dataset(path).samples[1].lyrics == DRAFT["value"]

        browser.fill("Tag of all", "sho ")
        browser.fill("By genre, %", "20")
        browser.choose("All instrumental")
        browser.write(0, BPM, "99", enter=False)  # a tap on a telephone leaves the cell open
        browser.slow_down(3)
        browser.press("Save")
        assert browser.wait("document.querySelector('[role=grid]').ariaReadOnly") == "true"
        assert browser.wait("document.querySelector('textarea').disabled")
        browser.slow_down(0)
        told = "Saved in my-songs.json: 3 changes for all and 2 changes to 2 recordings."
        browser.wait(f"document.querySelector('#status').innerText.trim() == {told!r}")
        assert shown(load_dataset(path))["whole"] == {
            "custom_tag": "sho", "tag_position": "prepend", "genre_ratio": 20, "all_instrumental": False
        }  # fmt: skip
        a, b, _ = load_dataset(path).samples
        assert (a.bpm, b.lyrics, b.is_noted("lyrics")) == (99, "[Verse]\nla di da", False)
        assert browser.wait('document.querySelector(\'[data-row="1"][data-col="3"]\').innerText.trim()') == "yes"
        browser.write(2, BPM, "66")
        secret = f"{page}/gradio_api/file={path}"
        assert browser.run(f"fetch('{secret}').then(r => r.status)") == 403
        assert all(url.startswith((page, "data:", "blob:", "about:")) for url in browser.fetched())
        browser.ask("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
        assert browser.run("document.documentElement.scrollWidth") == 390
