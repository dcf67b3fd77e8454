"""The page: what it asks for, plays and refuses; and, in a real browser, what a musician sees and gets."""

import dataclasses
import html
import json
import re
import shutil
import socket
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import ANY
from urllib.error import HTTPError
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

import pytest
from browsers import browser, served  # noqa: F401

from woodshed.cli import main
from woodshed.cli.demo_page import _page as command_page
from woodshed.errors import FileError, InputError, MissingExtra, RunError, WoodshedError
from woodshed.files import read_object
from woodshed.progress import unheard
from woodshed.studio import demo_page, server
from woodshed.studio.demo_page import ACCOMPANY, EXTEND, FILL, in_order, play, settings_of
from woodshed.studio.keep_button import Keeper
from woodshed.studio.server import LARGEST, Page, import_gradio, make_server, notices, parse_auth
from woodshed.studio.takes_page import stoppable
from woodshed.studio.turns import Turns
from woodshed.symbolic.music.midi import read_midi, write_midi
from woodshed.symbolic.playing.critic import open_critic, unlearned
from woodshed.symbolic.playing.generate import generate
from woodshed.symbolic.playing.rank import rank
from woodshed.symbolic.playing.settings import GenerateSettings
from woodshed.symbolic.run import open_run

CHORDS = "Cmaj7 Am7 | Dm7 G7"
ASKED = dict(chords=CHORDS, cold=0.8, hot=1.2, bars="2", bpm=None, takes=2, seed="3", ending=False, harmony="strict")


@pytest.fixture
def own(run, tmp_path):
    """A copy of the tiny run, which takes may go into."""
    return Path(shutil.copytree(run, tmp_path / "run"))


@pytest.fixture
def opened(own):
    return open_run(own)


class Found(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def files(self):
        links = [attrs.get("href") or attrs.get("src") for _, attrs in self.tags]
        return [Path(unquote(link.removeprefix("gradio_api/file="))) for link in links if link]


# --- without a browser -----------------------------------------------------------------------------------------


def test_what_is_left_empty_is_left_to_the_run():
    assert settings_of(**ASKED) == GenerateSettings(
        chords=CHORDS, bars=2, takes=2, seed=3, temperature="0.8:1.2", harmony="strict"
    )
    assert set(demo_page.HARMONY) == {"free", "guided", "strict"}
    empty = settings_of(**ASKED | dict(chords="  ", bars=" ", seed=" ", form=" "))
    assert (empty.chords, empty.bars, empty.seed) == (None, None, None)
    more = settings_of(**ASKED | dict(metre=" 3/4 ", best=" 1"))
    assert (more.metre, more.best) == ("3/4", 1) and settings_of(**ASKED | dict(metre=" ")).metre is None
    for name in ("seed", "bars", "best"):
        with pytest.raises(InputError, match=f"--{name} '-1': write a whole number, or nothing"):
            settings_of(**ASKED | {name: "-1"})


def test_takes_are_those_of_generate_and_nothing_is_overwritten(opened):
    told = []
    list(play(opened, ASKED | {"takes": 1}, unheard))
    before = {path: path.read_bytes() for path in (opened.folder / "takes").glob("*/*")}
    pages = list(play(opened, ASKED, lambda now: told.append(now.share)))
    assert len(before) == 4 and before == {path: path.read_bytes() for path in before}
    assert told == sorted(told) and 0 <= told[0] < told[-1] == 1
    assert [page.count("<article") for page in pages] == [1, 2]
    files = Found(pages[-1]).files()
    assert len(files) == 10 and all(file.is_file() for file in files)
    assert {file.parent for file in files} == {opened.folder / "takes" / "002"}
    played = generate(opened, settings_of(**ASKED))
    stored = [read_midi(file) for file in files if file.suffix == ".mid"]
    assert len(stored) == len(played) and all(take.score in stored for take in played)


def test_a_card_says_what_is_in_it_and_takes_no_tags_from_outside(opened):
    take = generate(opened, settings_of(**ASKED))[0]
    paths = [Path(f"/tmp/a b#?&<i>/take-1{kind}") for kind in (".mid", ".json", ".wav", ".png")]
    found = Found(demo_page.take_card(1, take, "<b>best</b>", paths))
    assert "<b>best</b>" in found.text and f"{take.notes} note" in found.text and "seed 3" in found.text
    assert {tag for tag, _ in found.tags} <= {
        "article",
        "h2",
        "small",
        "p",
        "audio",
        "div",
        "img",
        "a",
        "span",
        "button",
    }
    assert paths[0] in found.files()
    assert [attrs["data-take"] for tag, attrs in found.tags if tag == "button"] == [str(paths[0])]


def test_without_a_critic_the_best_comes_first_by_what_is_usual(run, opened):
    takes = generate(opened, settings_of(**ASKED | {"takes": 3}))
    ranked = rank(opened, takes, critic=unlearned(opened))
    assert in_order(opened, takes) == [(one.take, one.reasons) for one in ranked] and all(one.reasons for one in ranked)
    page = list(play(opened, ASKED, unheard))[-1]
    command = f"woodshed rank {opened.folder} {opened.folder / 'takes' / '001'}"
    assert "best first" in page and page.count(f"{command} --corpus CORPUS</p>") == 1 and open_critic(opened) is None
    shutil.copytree(run.parent / "corpus", opened.folder.parent / "corpus")
    assert demo_page.lines_above(opened, takes, opened.folder / "takes" / "001")[-1].endswith(command)


@pytest.mark.parametrize("run", ["remi"], indirect=True)
def test_only_the_best_are_kept_and_what_holds_for_all_is_told_once(opened):
    page = list(play(opened, ASKED | {"takes": 3, "best": "2"}, unheard))[-1]
    kept = generate(opened, settings_of(**ASKED | {"takes": 3, "best": "2"}))
    assert [read_midi(file) for file in Found(page).files() if file.suffix == ".mid"] == [take.score for take in kept]
    assert page.count("<article") == 2 and page.count("style critic: none") == page.count("--corpus CORPUS") == 1
    assert all(take.ranked.partition(" ")[2] in Found(page).text for take in kept)


@pytest.mark.parametrize("run", ["remi"], indirect=True)
def test_with_a_critic_the_best_comes_first(run, opened):
    takes = generate(opened, settings_of(**ASKED | {"takes": 3}))
    ranked = rank(opened, takes, corpus=run.parent / "corpus")
    assert in_order(opened, takes) == [(one.take, one.reasons) for one in ranked]
    (told,) = demo_page.lines_above(opened, takes, opened.folder)  # no word of judging
    assert told.startswith("originality was not examined")
    assert "3 takes" in (page := list(play(opened, ASKED | {"takes": 3}, unheard))[-1])
    assert "best first" in page
    assert "typical" in ranked[0].reasons or "chords" in ranked[0].reasons


@pytest.mark.parametrize(("when", "finished"), [("playing", 0), ("sound and pictures", 2)])
def test_a_stop_ends_the_playing_and_keeps_the_takes_that_are_there(opened, monkeypatch, when, finished):
    turns, pages, notes = Turns(), [], []
    monkeypatch.setattr(import_gradio(), "Info", notes.append)
    turns.begin("anna")
    with stoppable(), turns.turn("anna", lambda now: now.text == when and turns.stop("anna")) as report:
        for page in play(opened, ASKED | {"takes": 3}, report):
            pages.append(page)
    assert notes == ["Stopped. What was finished is kept."]
    assert len(list(opened.folder.glob("takes/001/*.wav"))) == len(pages) == finished


def test_what_cannot_be_played_leaves_nothing(opened):
    with pytest.raises(InputError, match=r"bar 2.*Hm7"):
        list(play(opened, ASKED | {"chords": "C | Hm7"}, unheard))
    assert not list(opened.folder.glob("takes/*"))


# --- with a file -----------------------------------------------------------------------------------------------

SENT = ASKED | dict(chords="", takes=1, keep_grid=True, region="", seconds="", parts=[], melody="auto", soundfont=None)


@pytest.fixture
def sent(songs, tmp_path):
    """A song as a visitor sends it: in a folder that nobody knows, and that is gone tomorrow."""
    path = tmp_path / "0123" / "my song.mid"
    path.parent.mkdir()
    write_midi(read_midi(songs / "song 0.mid").slice(0, 6 * 1920, cut=True), path)
    return path


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (dict(what=EXTEND), dict(bars=2)),
        (dict(what=FILL, region=" 3-4 ", parts=["melody"]), dict(bars="3-4", parts=("melody",))),
        (dict(what=FILL, region="3"), dict(bars="3-3")),
        (dict(what=FILL, seconds="1-2.5"), dict(seconds="1-2.5")),
        (dict(what=ACCOMPANY, chords=CHORDS), dict(melody="auto", chords=CHORDS)),
        (dict(what=ACCOMPANY, melody="1"), dict(melody="1")),
    ],
)
def test_a_file_is_asked_for_as_the_commands_do(asked, told):
    common = dict(prompt=Path("x.mid"), takes=1, seed=3, temperature="0.8:1.2", harmony="strict", keep_grid=True)
    settings = settings_of(**SENT | dict(prompt="x.mid", bpm=90, ending=None) | asked)
    assert settings == GenerateSettings(**common | told)


def test_parts_alone_are_asked_of_what_has_learned_parts(opened):
    assert settings_of(**ASKED | dict(parts=["melody"])).parts == ("melody",) and settings_of(**ASKED).parts is None
    assert settings_of(**SENT | dict(what=EXTEND, prompt="x.mid", parts=["melody"])).parts is None
    assert "parts" in demo_page.shown_fields(opened, demo_page.NEW) & demo_page.shown_fields(opened, FILL)
    alike = dataclasses.replace(opened, facts=opened.facts | {"music": {}})
    assert "parts" not in demo_page.shown_fields(alike, demo_page.NEW)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (dict(what=EXTEND, prompt=None), "choose a MIDI file first"),
        (dict(what=FILL), "say which, such as 9-12"),
        (dict(what=FILL, region="9 to 12"), "--bars 9 to 12: write the first and the last, such as 9-12"),
        (dict(what=FILL, seconds="20"), "--seconds 20: write the first and the last, such as 20-26"),
    ],
)
def test_what_a_file_is_for_must_be_told(asked, words):
    with pytest.raises(InputError, match=words):
        settings_of(**SENT | dict(prompt="x.mid") | asked)


@pytest.mark.parametrize("asked", [dict(what=EXTEND), dict(what=FILL, region="3-4"), dict(what=ACCOMPANY)])
def test_takes_of_a_file_can_be_made_again_when_it_is_gone(opened, sent, asked):
    for _ in range(2):
        page = list(play(opened, SENT | dict(prompt=sent) | asked, unheard))[-1]
    kept = opened.folder / "prompts" / "my song.mid"
    assert [path.name for path in kept.parent.iterdir()] == ["my song.mid"]
    assert kept.read_bytes() == sent.read_bytes()
    sent.unlink()
    files = Found(page).files()
    take = next(file for file in files if file.suffix == ".mid")
    facts = read_object(take.with_suffix(".json"))
    assert generate(opened, **facts["settings"])[0].score == read_midi(take)
    alone = [file for file in files if file.stem.endswith("-accompaniment")]
    assert len(alone) == (asked["what"] == ACCOMPANY) and all(file.is_file() for file in alone)
    assert ("Accompaniment alone" in page, "chords: " in page) == (bool(alone), bool(alone))


def test_another_file_of_the_same_name_is_kept_beside_it(opened, sent, songs):
    asked = SENT | dict(what=EXTEND, prompt=sent)
    list(play(opened, asked, unheard))
    shutil.copy(songs / "song 1.mid", sent)
    list(play(opened, asked, unheard))
    assert sorted(path.name for path in opened.folder.glob("prompts/*")) == ["my song-2.mid", "my song.mid"]


def test_a_file_shows_its_tracks_or_why_it_is_none(sent, tmp_path):
    assert demo_page.tracks(sent) == [("1 Melody", "1"), ("2 Piano", "2")]
    sent.write_bytes(b"RIFF, and no MIDI")
    with pytest.raises(FileError, match=r"my song\.mid"):
        demo_page.tracks(sent)


def test_a_file_that_cannot_be_played_in_leaves_nothing(opened, sent, tmp_path):
    for asked in (dict(what=FILL, region="900-901"), dict(what=EXTEND, soundfont=sent)):
        with pytest.raises(WoodshedError, match=r"bars|not a soundfont"):
            list(play(opened, SENT | dict(prompt=sent) | asked, unheard))
    assert not list(opened.folder.glob("takes/*")) and not (opened.folder / "prompts").exists()


def test_a_notice_does_not_name_the_folder_of_what_was_sent(monkeypatch):
    gradio, told = import_gradio(), []
    monkeypatch.setattr(gradio, "Warning", lambda text, duration: told.append(text))
    with notices():
        raise FileError(Path(gradio.utils.get_upload_folder(), "a1", "x <y>.mid"), "no prompt: it has no notes")
    assert told == ["x &lt;y&gt;.mid: no prompt: it has no notes"]


# --- what is told ----------------------------------------------------------------------------------------------


@pytest.fixture
def told(monkeypatch):
    """All notices of the page."""
    told = []
    monkeypatch.setattr(import_gradio(), "Warning", lambda text, duration: told.append(text))
    return told


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (InputError("--bpm 5: choose 10 to 500"), "Tempo 5: choose 10 to 500"),
        (
            InputError("--bars 900: the file has 8 bars; give --keep-grid"),
            "Bars 900: the file has 8 bars; give Keep grid",
        ),
        (InputError("--barsmith x; woodshed prepare --kept RUN"), "barsmith x; woodshed prepare --kept RUN"),
        (PermissionError(13, "Permission denied", "/a/b"), "/a/b: Permission denied"),
        (KeyError("melody"), "A mistake in Woodshed, not of yours: 'melody' (more of it is in the terminal)"),
    ],
)
def test_whatever_goes_wrong_is_one_line_in_the_words_of_the_page(error, words, told, capsys):
    labels = {"bpm": "Tempo", "bars": "Bars", "keep_grid": "Keep grid"}
    with notices({name: SimpleNamespace(label=label) for name, label in labels.items()}):
        raise error
    assert [html.unescape(one) for one in told] == [words]
    assert ("Traceback" in capsys.readouterr().err) == isinstance(error, KeyError)


# --- keeping ---------------------------------------------------------------------------------------------------


def test_keep_does_what_woodshed_keep_does_and_says_what_comes_of_it(opened, sent):
    keeper = Keeper({demo_page.takes_folder(opened): opened})
    assert "Keep the takes that you like" in keeper.told()
    list(play(opened, ASKED, unheard))
    takes = sorted(opened.folder.glob("takes/001/*.mid"))
    for take in (takes[0], *takes):
        page = keeper.keep(str(take))
    assert [path.read_bytes() for path in sorted(opened.folder.glob("kept/*.mid"))] == [t.read_bytes() for t in takes]
    assert Found(page).text.startswith(f"2 takes kept in {opened.folder / 'kept'}.")
    assert f"--kept {opened.folder}" in Found(page).text
    for wrong in (sent, opened.folder / "takes/../kept" / takes[0].name, takes[0].with_suffix(".json")):
        with pytest.raises(InputError, match="not a take of this page"):
            keeper.keep(str(wrong))


def test_a_take_of_a_base_is_kept_where_you_are(tmp_path, monkeypatch, opened):
    monkeypatch.chdir(tmp_path)
    base = open_run("piano-3")
    list(play(opened, ASKED | {"takes": 1}, unheard))
    folder = Path(shutil.copytree(opened.folder / "takes" / "001", tmp_path / "piano-3" / "takes" / "001"))
    for path in folder.glob("*.json"):
        path.write_text(json.dumps(read_object(path) | {"run": "piano-3"}))
    keeper = Keeper({demo_page.takes_folder(base): base})
    assert "1 take kept in piano-3/kept" in keeper.keep(str(next(folder.glob("*.mid"))))
    assert len(list((tmp_path / "piano-3" / "kept").glob("*.mid"))) == 1


# --- several models --------------------------------------------------------------------------------------------


def test_a_folder_of_runs_is_a_choice_beside_the_bases(own, capsys, monkeypatch):
    for name, facts in (("sound", {"codec": {}}), ("broken", {})):
        (own.parent / name).mkdir()
        (own.parent / name / "run.json").write_text(json.dumps(facts))
    monkeypatch.chdir(own.parent)
    page = command_page(own.parent)
    error = capsys.readouterr().err
    assert f"left out: {own.parent / 'broken'}: not a run" in error and "it plays sound; woodshed demo-page" in error
    assert page.name == own.parent.name and page.files[0] == own / "takes" and len(page.files) == 3
    assert command_page(None) == dataclasses.replace(page, build=ANY, close=ANY)
    assert len(command_page(own).files) == 1
    with pytest.raises(RunError, match="not a run"):
        command_page(own / "takes")


def test_a_model_is_asked_for_what_it_knows(opened):
    deaf = dataclasses.replace(opened, facts=opened.facts | {"music": opened.music | {"chords": False}})
    assert demo_page.chords_for(opened, demo_page.NEW, "") == CHORDS
    assert demo_page.chords_for(opened, EXTEND, CHORDS) == demo_page.chords_for(deaf, demo_page.NEW, "C") == ""
    assert demo_page.chords_for(opened, EXTEND, "C F") == "C F"
    assert {"chords", "harmony"} & demo_page.shown_fields(deaf, FILL) == set()
    assert ("seconds" in demo_page.shown_fields(opened, FILL)) != opened.tokenizer.needs_bars


# --- the door --------------------------------------------------------------------------------------------------


def test_a_page_for_others_takes_a_password():
    assert parse_auth(None) is None and parse_auth("anna:a:b") == ("anna", "a:b")
    for wrong in ("anna", "anna:", ":secret", ""):
        with pytest.raises(InputError, match="--auth"):
            parse_auth(wrong)


def test_what_keeps_the_page_from_opening_is_one_line(run, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, told in (
            (["--port", str(port)], f"--port {port}"),
            (["--host", "0.0.0.0"], "--auth user:password"),
            (
                ["--host", "203.0.113.9", "--auth", "a:b"],
                "--host 203.0.113.9: Cannot assign requested address",
            ),
            (["--port", "70000"], "--port 70000"),
            (["--auth", "anna"], "--auth"),
            (["--device", "meta"], "--device meta: choose from auto"),
        ):
            with pytest.raises(SystemExit) as stop:
                main(["demo-page", str(run), *arguments])
            error = capsys.readouterr().err
            assert stop.value.code == 1 and told in error and error.count("\n") == 1
    with pytest.raises(SystemExit):
        main(["demo-page", "nowhere"])
    assert "nowhere: not a run" in capsys.readouterr().err


def test_an_adapter_over_ace_step_is_named_with_what_plays_it(tmp_path, capsys):
    facts = {"base": "../ace", "base_fingerprint": "1", "songs": [], "settings": {}, "finished": True, "tensors": "t"}
    (tmp_path / "run.json").write_text(json.dumps(facts))
    with pytest.raises(SystemExit):
        main(["demo-page", str(tmp_path)])
    error = capsys.readouterr().err
    assert "woodshed audio ace generate" in error and f"--adapter {tmp_path}" in error and error.count("\n") == 1


def test_what_visitors_send_is_bounded(tmp_path, monkeypatch):
    given = {}
    monkeypatch.setattr(import_gradio(), "mount_gradio_app", lambda app, blocks, **how: given.update(how) or app)
    monkeypatch.setattr(server, "make_blocks", lambda page: page)
    make_server(Page("mine", (tmp_path,), print))
    assert given["max_file_size"] == LARGEST == "512mb"


def test_without_gradio_it_says_what_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(MissingExtra, match=r"woodshed\[studio\]"):
        import_gradio()


# --- in a browser ----------------------------------------------------------------------------------------------


@pytest.fixture
def page(own):
    """The address of the page of a tiny run, for anna."""
    with served(own, "--auth", "anna:secret") as address:
        yield address


def status(url) -> int:
    """The answer to one who is not logged in."""
    try:
        with urlopen(url) as answer:
            return answer.status
    except HTTPError as refused:
        with refused:
            return refused.code


@pytest.mark.browser
@pytest.mark.parametrize("run", ["remi"], indirect=True)
def test_a_musician_opens_the_page_and_leaves_with_takes(page, own, browser, tmp_path):  # noqa: F811
    browser.ask("Page.navigate", url=page)
    for label, text in (("username", "anna"), ("password", "secret")):
        browser.fill(label, text)
    browser.press("Login")
    empty = "[...document.querySelectorAll('input')].some(e => e.labels[0]?.innerText.startsWith('%s') && !e.value)"
    for label in ("Bars", "Key", "Metre", "Only the best"):
        browser.wait(empty % label)
    browser.wait("[...document.querySelectorAll('input')].some(e => e.ariaLabel == 'Parts' && e.offsetParent)")
    for label, text in (("Chords", "C | Hm7"), ("Bars", "2"), ("Takes", "2"), ("Seed", "5")):
        browser.fill(label, text)
    browser.press("Play")
    notice = browser.wait("document.querySelector('.toast-wrap')?.innerText")
    assert "Hm7" in notice and "Traceback" not in notice

    browser.fill("Chords", CHORDS)
    browser.press("Play")
    browser.wait("document.querySelectorAll('#takes article').length == 2")
    link = browser.run("document.querySelector('#takes a[href$=\".mid\"]').href")
    data = browser.run(f"fetch('{link}').then(r => r.arrayBuffer()).then(b => [...new Uint8Array(b)])")
    (tmp_path / "take.mid").write_bytes(bytes(data))
    score = read_midi(tmp_path / "take.mid")
    assert len(score.notes) and score.chords["root"].tolist() == [0, 9, 2, 7]
    assert browser.wait("(i => i.complete && i.naturalWidth)(document.querySelector('#takes img'))") > 1000
    assert browser.wait("document.querySelector('#takes audio').duration") > 2
    assert re.search(r"\d+ notes? in \d+ seconds", browser.run("document.querySelector('#takes').innerText"))

    assert "Keep the takes that you like" in browser.run("document.querySelector('#kept').innerText")
    browser.hit("Keep take 1")
    browser.wait("document.querySelector('#kept').innerText.includes('1 take kept in ')")
    browser.wait("document.querySelector('#takes [aria-pressed]')?.innerText.includes('Kept')")
    assert len(list((own / "kept").glob("*.mid"))) == 1
    weights = f"{page}/gradio_api/file={own.resolve()}/model.safetensors"
    assert status(link) == status(f"{page}/config") == status(weights) == 401
    assert browser.run(f"fetch('{weights}').then(r => r.status)") == 403
    hosts = {urlsplit(url).hostname for url in browser.fetched() if urlsplit(url).scheme in ("http", "https", "ws")}
    assert hosts == {"127.0.0.1"}
    unnamed = "[...document.querySelectorAll('input, textarea, button, audio')].filter(e => e.checkVisibility() && "
    unnamed += "!(e.labels?.length || e.ariaLabel || e.innerText || e.title)).map(e => e.outerHTML)"
    assert browser.run(unnamed) == []

    browser.choose("Write bars of a file anew")
    browser.send("MIDI file", tmp_path / "take.mid")
    browser.fill("Bars to write anew", "2")
    browser.wait("!!document.querySelector('.file-preview')")
    browser.fill("Takes", "1")
    browser.press("Play")
    browser.wait("document.querySelectorAll('#takes article').length == 1")
    assert read_midi(own / "prompts" / "take.mid") == score
    assert CHORDS not in browser.run("[...document.querySelectorAll('textarea')].map(i => i.value)")
    (tmp_path / "no.mid").write_bytes(b"no MIDI")
    browser.send("MIDI file", tmp_path / "no.mid")
    browser.wait("document.querySelector('.toast-wrap').innerText.includes('no.mid: not a MIDI file')")
    browser.ask("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
    assert browser.run("document.documentElement.scrollWidth") == 390


@pytest.mark.browser
@pytest.mark.parametrize("run", ["remi"], indirect=True)
def test_another_model_is_chosen_on_the_page(own, browser):  # noqa: F811
    shutil.copytree(own, own.parent / "an other")
    with served(own.parent) as address:
        browser.ask("Page.navigate", url=address)
        for label, text in (("Bars", "2"), ("Takes", "1")):
            browser.fill(label, text)
        browser.pick("Model", "run")
        browser.press("Play")
        browser.wait("document.querySelectorAll('#takes article').length == 1")
    assert [path.parts[-4] for path in own.parent.glob("*/takes/*/*.mid")] == ["run"]


@pytest.mark.browser
@pytest.mark.parametrize("run", ["remi"], indirect=True)
def test_who_stops_can_play_again_at_once(own, browser):  # noqa: F811
    with served(own) as address:
        browser.ask("Page.navigate", url=address)
        browser.fill("Bars", "2000")
        browser.press("Play")
        browser.press("Stop", at_once=True)
        browser.wait("document.querySelector('.toast-wrap')?.innerText.includes('Stopped')")
        for label, text in (("Bars", "2"), ("Takes", "1")):
            browser.fill(label, text)
        browser.press("Play")
        browser.wait("document.querySelectorAll('#takes article').length == 1")
        browser.settle()
    assert len(list((own / "takes").glob("*/*.mid"))) == 1
