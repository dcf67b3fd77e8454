"""Lyrics come out of LRC as they are sung."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from woodshed.audio.labels.lyrics import _without_stamps, clean


@pytest.mark.parametrize(
    "line",
    [
        "[00:12.34]La la",
        "[1:02.5]La la",
        "[00:12]La la",
        "[00:12:50] La la",
        "<00:12.00>La <00:12.50>la",
        "[00:12.00]<00:12.00> La <00:12.50> la <00:13.00>",
        "[ar:Somebody]\n[ti: A song ]\n[offset:+500]\nLa la",
        "[length: 03:12]\n[by:x]\n\nLa la",
        "La la   \t\n\n \n\n",
        "\ufeff[00:12.345]La la\r\n",
        "[123:02.5]La la",
    ],
)
def test_stamps_and_facts_go(line):
    assert clean(line) == "La la"


@pytest.mark.parametrize(
    "line",
    [
        "[Verse 1]",
        "[Chorus: Both]",
        "[Intro]",
        "[Bridge - softly]",
        "(2:30)",
        "[4x]",
        "at 12:30",
        "[Instrumental]",
        "Ärger 夜",
    ],
)
def test_what_is_sung_or_structure_stays(line):
    assert clean(line) == line
    assert clean(f"[00:01.00]{line}") == line


def test_lines_that_are_sung_again_stand_where_they_are_sung():
    text = "[00:10.0]one\n[00:20.0][00:40.0]chorus\n[00:21.0][00:41.0]more chorus\n[00:30.0]two\n[00:50]end"
    chorus = ["chorus", "more chorus"]
    assert clean(text).splitlines() == ["one", *chorus, "two", *chorus, "end"]


def test_structure_stays_before_its_lines():
    text = "[Verse]\n[00:10.0]one\n[Chorus]\n[00:20.0][00:40.0]la\n[00:30.0]two"
    assert clean(text) == "[Verse]\none\n[Chorus]\nla\ntwo\nla"


def test_verses_stay_apart_by_one_empty_line():
    assert clean("[00:01.00]a\n[00:02.00]\n[00:03.00]\n\n[00:04.00]b") == "a\n\nb"


@pytest.mark.parametrize("text", ["", "\n\n", "[00:12.00]", "[ar:x]\n[00:01.0]\n"])
def test_nothing_sung_is_nothing(text):
    assert clean(text) == ""


PIECES = [
    "[00:12.00]",
    "[1:02]",
    "<00:01.50>",
    "[ar:x]",
    "[Verse 1]",
    "la",
    " ",
    "\n",
    "[",
    "]",
    "<",
    "0:12",
    "\r\n",
    "\t",
]


@given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
def test_clean_is_clean(text):
    once = clean(text)
    assert clean(once) == once
    assert once == once.strip("\n") and "\n\n\n" not in once


@given(st.lists(st.sampled_from([*PIECES, "<0:12", "[00:", ">", "30]"]), max_size=20).map("".join))
def test_stamps_within_stamps_go_as_one_after_the_other_would(text):
    line, before = text.replace("\n", " ").replace("\r", " "), ""
    bare = line
    while bare != before:
        before, bare = bare, re.sub(r"\[\d{1,3}:\d{1,2}([.:]\d{1,3})?\]|<\d{1,3}:\d{1,2}([.:]\d{1,3})?>", "", bare)
    assert _without_stamps(line) == " ".join(bare.split())


@pytest.mark.parametrize("text", ["[0" * 9000 + ":00]" * 9000, "[0:00]" * 9000 + "la " * 9000, "<1:1>" * 20000])
def test_stamps_without_number_take_no_time(text):
    began = time.process_time()
    assert len(clean(text)) < 50 * len(text)
    assert time.process_time() - began < 1


@given(st.text(max_size=60))
def test_any_text_is_cleaned(text):
    assert clean(clean(text)) == clean(text)
