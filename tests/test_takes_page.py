"""Visitors of a page that plays: whose turn it is, who stops, who leaves; and in a real browser."""
# ruff: noqa: F811

import time
from pathlib import Path
from threading import Event, Thread

import pytest
from browsers import browser, serving  # noqa: F401

from woodshed.progress import Progress
from woodshed.studio.turns import Stopped, Turns

SLOW = Path(__file__).with_name("slow_page.py")


class Visitor:
    """A visitor in a thread, who plays until `done` is set; `told` is all that they have heard."""

    def __init__(self, turns, name):
        self.told, self.done, self.stopped = [], Event(), False
        turns.begin(name)
        self.thread = Thread(target=self._visit, args=(turns, name))
        self.thread.start()

    def _visit(self, turns, name):
        try:
            with turns.turn(name, lambda now: self.told.append(now.text)) as report:
                while not self.done.wait(0.01):
                    report(Progress(0.5, "playing"))
        except Stopped:
            self.stopped = True

    def hears(self, words):
        return _in_time(lambda: words in self.told)

    def ends(self):
        self.thread.join(10)
        return not self.thread.is_alive()


def _in_time(condition):
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


# --- without a browser -----------------------------------------------------------------------------------------


def test_a_visitor_who_plays_twice_waits_for_themselves_and_stops_both():
    turns = Turns()
    first = Visitor(turns, "anna")
    assert first.hears("playing")
    second = Visitor(turns, "anna")
    assert second.hears("waiting: 1 visitor before you") and "playing" not in second.told
    turns.stop("anna")
    assert first.ends() and second.ends() and first.stopped and second.stopped
    third = Visitor(turns, "anna")
    assert third.hears("playing")
    third.done.set()
    assert third.ends() and not third.stopped


def test_visitors_play_in_the_order_they_came_and_hear_how_many_are_before_them():
    turns = Turns()
    anna = Visitor(turns, "anna")
    assert anna.hears("playing")
    bert = Visitor(turns, "bert")
    assert bert.hears("waiting: 1 visitor before you")
    carl = Visitor(turns, "carl")
    assert carl.hears("waiting: 2 visitors before you") and "playing" not in bert.told
    anna.done.set()
    assert bert.hears("playing") and carl.hears("waiting: 1 visitor before you") and "playing" not in carl.told
    for one in (bert, carl):
        one.done.set()
        assert one.ends() and not one.stopped


@pytest.mark.parametrize("who", ["anna", "bert"])
def test_who_stops_or_leaves_keeps_nobody_waiting(who):
    turns = Turns()
    visitors = {"anna": Visitor(turns, "anna")}
    assert visitors["anna"].hears("playing")
    visitors["bert"] = Visitor(turns, "bert")
    assert visitors["bert"].hears("waiting: 1 visitor before you")
    turns.stop(who)
    assert visitors[who].ends() and visitors[who].stopped
    (other,) = visitors.keys() - {who}
    assert visitors[other].hears("playing")
    turns.close()
    assert visitors[other].ends() and visitors[other].stopped


def test_who_was_stopped_can_play_again_and_nobody_can_once_the_page_is_closed():
    turns = Turns()
    for again in (False, True):
        anna = Visitor(turns, "anna")
        assert anna.hears("playing")
        (turns.close if again else lambda: turns.stop("anna"))()
        assert anna.ends() and anna.stopped
    late = Visitor(turns, "late")
    assert late.ends() and late.stopped and not late.told


# --- in a browser ----------------------------------------------------------------------------------------------


@pytest.mark.browser
def test_the_focus_follows_the_button_and_who_leaves_keeps_nobody_waiting(tmp_path, browser):
    with serving(SLOW, tmp_path) as page:
        browser.ask("Page.navigate", url=page)
        browser.hit("Play")
        browser.wait("document.activeElement.innerText == 'Stop'")
        leave = browser.new_tab(page)
        browser.fill("Seconds", "0")
        browser.hit("Play")
        browser.wait("document.body.innerText.includes('Waiting: 1 visitor before you')")
        leave()
        browser.wait("document.querySelector('#takes article')?.innerText == 'anna'")
        browser.wait("document.activeElement.innerText == 'Play'")
        browser.fill("Seconds", "600")
        browser.hit("Play")
        browser.wait("document.querySelector('#takes').innerText.includes('Playing')")
        browser.ask("Page.navigate", url="about:blank")
        began = time.monotonic()
    assert time.monotonic() - began < 60  # not as long as the take
