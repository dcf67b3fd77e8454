"""The page of a latent GAN: what it asks for, plays and refuses; and in a real browser."""
# ruff: noqa: F811

import shutil
from pathlib import Path

import pytest
from browsers import browser, served  # noqa: F401
from gan_toys import TINY, TOY, recordings, trained, without_pictures  # noqa: F401
from sounds import songs_folder

from woodshed.audio.codec_train import train_codec
from woodshed.audio.gan.generate import generate
from woodshed.audio.gan.run import Run
from woodshed.audio.gan.settings import GenerateSettings
from woodshed.audio.gan.train import train
from woodshed.audio.wave import read_audio
from woodshed.errors import InputError
from woodshed.progress import unheard
from woodshed.studio.gan_page import END, play, settings_of

ASKED = dict(seconds=2.0, takes=2, truncation=1.5, loop=False, seed="3", style_seed="", checkpoint=END)


@pytest.fixture
def own(trained, tmp_path) -> Run:
    """A copy of the tiny run, which takes may go into."""
    return Run(Path(shutil.copytree(trained.folder, tmp_path / "run")), trained.facts, TOY)


def test_what_is_left_empty_is_left_to_the_run():
    assert settings_of(**ASKED) == GenerateSettings(seconds=2.0, takes=2, truncation=1.5, seed=3)
    told = settings_of(**ASKED | dict(seed=" ", style_seed="7", checkpoint="4", seconds=None, loop=True))
    assert told == GenerateSettings(takes=2, truncation=1.5, style_seed=7, checkpoint=4, loop=True)
    with pytest.raises(InputError, match="--style-seed 'x': write a whole number"):
        settings_of(**ASKED | dict(style_seed="x"))


def test_takes_are_those_of_generate_and_nothing_is_overwritten(own):
    told = []
    for folder in ("001", "002"):
        pages = list(play(own, ASKED, lambda now: told.append(now.share)))
        assert [page.count("<article") for page in pages] == [1, 2] and told[-1] == 1
        assert "seed 4, truncation 1.5" in pages[-1] and "0:02, played" in pages[-1]
        assert len(list((own.folder / "takes" / folder).glob("*.wav"))) == 2
    first, _ = generate(own, settings_of(**ASKED))
    stored = read_audio(own.folder / "takes/001/run_seed3_take-1.wav")
    assert stored.seconds == first.audio.seconds


def test_what_cannot_be_played_leaves_nothing(own):
    with pytest.raises(InputError, match="--seconds"):
        list(play(own, ASKED | {"seconds": 0.0}, unheard))
    assert not list(own.folder.glob("takes/*"))


@pytest.mark.browser
def test_a_musician_opens_the_page_and_leaves_with_sound(tmp_path, browser):
    music = songs_folder(tmp_path / "music", 3, labelled=False, seconds=8.0, sample_rate=16000, channels=1)
    small = {"sample_rate": 16000, "channels": 1, "latent_dim": 8, "width": 8, "max_steps": 1, "threads": 1}
    train_codec(music, tmp_path / "codec", **small)
    train(music, tmp_path / "run", codec=tmp_path / "codec", **TINY | {"max_steps": 1, "hold_out": 0.0})
    with served(tmp_path / "run") as page:
        browser.ask("Page.navigate", url=page)
        browser.fill("Seed", "abc")
        browser.press("Play")
        assert "Seed 'abc'" in browser.wait("document.querySelector('.toast-wrap')?.innerText")
        for label, text in (("Seconds", "3"), ("Takes", "2"), ("Seed", "5")):
            browser.fill(label, text)
        browser.press("Play")
        browser.wait("document.querySelectorAll('#takes article').length == 2")
        assert browser.wait("document.querySelector('#takes audio').duration") == pytest.approx(3, abs=0.05)
        assert browser.wait("(i => i.complete && i.naturalWidth)(document.querySelector('#takes img'))") > 300
        assert "seed 6" in browser.run("document.querySelector('#takes').innerText")
        assert browser.run("[...document.querySelectorAll('input')].map(i => i.value)").count(END) == 1
        browser.ask("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
        assert browser.run("document.documentElement.scrollWidth") == 390
