"""Visitors play one after another, in the order they came; who stops or leaves lets the next one play.

turns.begin(visitor)                            a button was pressed
with turns.turn(visitor, report) as report:     from when it is their turn; report(Progress) ends the block once
    ...                                         turns.stop(visitor) was called
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

from ..page import counted
from ..progress import Progress, Reporter

LOOK = 0.25  # seconds between two looks at the line


class Stopped(Exception):
    """A visitor wants no more takes, or has left."""


class Turns:
    """Who waits or plays. A visitor is a page that is open in a browser."""

    def __init__(self) -> None:
        self._stops: dict[str, Event] = {}
        self._line: list[tuple[object, Event]] = []  # places, and what ends each; the first of them plays
        self._closed = False

    def begin(self, visitor: str) -> None:
        """From now on this visitor can be stopped, in all that they wait for at once."""
        if visitor not in self._stops or self._stops[visitor].is_set():
            self._stops[visitor] = Event()

    def stop(self, visitor: str) -> None:
        """End the waiting or playing of a visitor, at what they are next told."""
        if visitor in self._stops:
            self._stops[visitor].set()

    def close(self) -> None:
        """End it for all, those who are still to come as well."""
        self._closed = True
        for stop in list(self._stops.values()):
            stop.set()

    @contextmanager
    def turn(self, visitor: str, report: Reporter) -> Iterator[Reporter]:
        """Waits until it is the turn of a visitor, and tells them for how many. Raises Stopped, from what it yields."""
        stop = self._stops.setdefault(visitor, Event())

        def told(now: Progress) -> None:
            if stop.is_set() or self._closed:
                raise Stopped
            report(now)

        self._line.append(place := (object(), stop))
        try:
            while before := self._line.index(place):
                told(Progress(0, f"waiting: {counted(before, 'visitor')} before you"))
                stop.wait(LOOK)
            yield told
        finally:
            self._line.remove(place)
            if self._stops.get(visitor) is stop and all(other is not stop for _, other in self._line):
                del self._stops[visitor]
